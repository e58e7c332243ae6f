"""The order in which epochs visit the rows, and the thread that reads rows of a file ahead of the kernel.

Rows in memory are shuffled all together. Rows of a mapped file are cut into blocks that the disk reads in one go; each
window of an epoch takes blocks from all over the file and shuffles their rows. Beside the window that the kernel works
on, the next one is read: that much has to fit into the page cache, the file need not.
"""

from __future__ import annotations

import mmap
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Any

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

import numpy as np
from numpy.typing import NDArray

from fastopt._design import Design, mapping
from fastopt._kernels import shuffle

__all__ = ["ahead", "epoch_order", "shuffled"]

Random = np.random.RandomState | np.random.Generator

#: Bytes of a block and of a window. A window of 128 blocks holds about one from each 128th of the file, so that its
#: rows are a sample of the file's, however that is sorted.
BLOCK_BYTES, WINDOW_BYTES = 1 << 19, 1 << 26
#: Places of half a window that tell whether it need be read, and how many are looked at before faults are counted.
PLACES, AT_ONCE = 512, 16
#: Rows that NumPy shuffles in no more time than some drawn numbers and a compiled shuffle take beside a short epoch.
FEW = 1024


def epoch_order(rng: Random, design: Design, rows: NDArray[np.intp] | None = None) -> NDArray[np.intp]:
    """A new order of the rows for an epoch: shuffled, or window by window where they lie in a file.

    Parameters
    ----------
    rng : RandomState or Generator
        All draws come from it, before the epoch begins.
    design : Design
    rows : ndarray of intp or None
        These rows alone, ascending.
    """
    n = design.shape[0]
    if not design.mapped:
        return shuffled(rng, n) if rows is None else rows[shuffled(rng, len(rows))]
    order = _by_windows(rng, n, _height(design))
    if rows is None or len(rows) == n:
        return order
    wanted = np.zeros(n, bool)
    wanted[rows] = True
    return order[wanted[order]]


def _by_windows(rng: Random, n: int, height: int) -> NDArray[np.intp]:
    """n rows in blocks of `height`: each window takes a random block of each of equal parts of the file, in turn.

    Windows drawn without parts would hold by chance more of one end of a sorted file than of the other; with a block of
    each part they differ by the rows of less than a block on either side of where the label changes.
    """
    n_blocks = -(-n // height)
    n_windows = -(-n_blocks * BLOCK_BYTES // WINDOW_BYTES)
    if n_windows <= 1:
        return shuffled(rng, n)
    n_parts = -(-n_blocks // n_windows)
    # Row k: window k's blocks, ascending as the disk likes them.
    blocks = rng.random((n_parts, n_windows)).argsort(axis=1, kind="stable").T
    blocks = blocks + n_windows * np.arange(n_parts)
    order, done = np.empty(n, np.intp), 0
    for window in blocks:
        starts = window[window < n_blocks] * height
        rows = (starts[:, None] + np.arange(height)).reshape(-1)
        rows = rows[rows < n]
        order[done : done + len(rows)] = rows[shuffled(rng, len(rows))]
        done += len(rows)
    return order


def _height(design: Design) -> int:
    """Rows of a block."""
    size = sum(a.itemsize for a in design.arrays[:2]) if design.sparse else design.dtype.itemsize
    return max(1, int(BLOCK_BYTES * design.shape[0] / max(1, design.n_stored * size)))


def shuffled(rng: Random, n: int) -> NDArray[np.intp]:
    """A random order of n rows, every one as likely.

    That of many rows comes from four numbers drawn from `rng`: a fifth to a half of NumPy's time, and it sees Ctrl-C.
    """
    return rng.permutation(n) if n <= FEW else shuffle.shuffled(rng.random(4).view(np.uint64), n)


def ahead(design: Design, order: NDArray[np.intp], starts: range, batch_size: int = 1) -> Iterator[int]:
    """Yields `starts`, batches of `order` where a kernel begins, while a thread reads what comes after them.

    Rows in memory need no thread: the starts alone come then.
    """
    if not design.mapped or not len(order):
        yield from starts
        return
    with _Reader(design, order) as reader:
        for start in starts:
            reader.working_at(start * batch_size)
            yield start


class _Reader:
    """A thread that touches the pages of the next rows of an order: half a window at a time, up to a window ahead.

    Not those that the page cache holds: to touch each page took as long as an epoch's arithmetic on them.
    """

    def __init__(self, design: Design, order: NDArray[np.intp]) -> None:
        self.design, self.order, self.height = design, order, _height(design)
        self.step = max(1, self.height * (WINDOW_BYTES // BLOCK_BYTES) // 2)
        self.position, self.ended = 0, False
        self.moved = threading.Condition()
        self.thread = threading.Thread(target=self._read, name="fastopt read-ahead", daemon=True)

    def __enter__(self) -> _Reader:
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self.moved:
            self.ended = True
            self.moved.notify()
        self.thread.join()

    def working_at(self, position: int) -> None:
        """The kernel begins with this place in the order."""
        with self.moved:
            self.position = position
            self.moved.notify()

    def _read(self) -> None:
        for begin in range(0, len(self.order), self.step):
            with self.moved:
                self.moved.wait_for(lambda: self.ended or begin <= self.position + 2 * self.step)  # noqa: B023
                if self.ended:
                    return
                late = begin + self.step <= self.position
            if late:  # the kernel has overtaken: these pages are there
                continue
            rows = self.order[begin : begin + self.step]
            if self._resident(rows):
                continue
            taken = np.zeros(self.design.shape[0] // self.height + 2, np.int8)
            taken[rows // self.height] = 1
            edges = np.flatnonzero(np.diff(taken, prepend=0)) * self.height
            ranges = [(int(a), min(int(b), self.design.shape[0])) for a, b in edges.reshape(-1, 2)]
            for start, stop in ranges:
                for part in self._parts(start, stop):
                    will_need(part)
            for start, stop in ranges:
                if self.ended:
                    return
                for part in self._parts(start, stop):
                    np.max(part.view(np.uint8)[:: mmap.PAGESIZE], initial=0)

    def _resident(self, rows: NDArray[np.intp]) -> bool:
        """Whether looking at places all over these shuffled rows makes the system read nothing from the disk."""
        design, before = self.design, major_faults()
        if before is None or not design.n_stored:
            return False
        rows = np.resize(rows, PLACES)
        arrays: tuple[NDArray[Any], ...]
        if design.indices is None or design.indptr is None:
            if not design.values.flags.c_contiguous:
                return False
            arrays, starts, stops = (design.values.reshape(-1),), rows * design.shape[1], (rows + 1) * design.shape[1]
        else:
            arrays, starts, stops = design.arrays[:2], design.indptr[rows], design.indptr[rows + 1]
        places = starts + ((stops - starts) * np.linspace(0, 1, PLACES, endpoint=False)).astype(np.intp)
        places = np.minimum(places, design.n_stored - 1)  # of empty rows
        for k in range(0, PLACES, AT_ONCE):
            for a in arrays:
                a.take(places[k : k + AT_ONCE])
            if major_faults() != before:
                return False
        return True

    def _parts(self, start: int, stop: int) -> list[NDArray[Any]]:
        """What is stored of some consecutive rows, flat."""
        design = self.design
        if design.indices is None or design.indptr is None:
            rows = design.values[start:stop]
            return [rows.reshape(-1)] if rows.flags.c_contiguous else []
        lo, hi = int(design.indptr[start]), int(design.indptr[stop])
        return [design.values[lo:hi], design.indices[lo:hi]]


def major_faults() -> int | None:
    """How often this thread (the process, where threads are not counted) has waited for the disk; None if unknown."""
    if resource is None:
        return None
    return resource.getrusage(getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)).ru_majflt


def will_need(part: NDArray[Any]) -> None:
    """Asks the system to read a contiguous piece of a mapped array, and does not wait for it."""
    mapped = mapping(part)
    if mapped is None or not part.size or not hasattr(mmap, "MADV_WILLNEED"):
        return
    whole = np.frombuffer(mapped, np.uint8).ctypes.data
    start = (part.ctypes.data - whole) // mmap.PAGESIZE * mmap.PAGESIZE
    mapped.madvise(mmap.MADV_WILLNEED, start, part.ctypes.data + part.nbytes - whole - start)
