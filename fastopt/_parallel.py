"""The thread pool: pieces of a pass side by side, their results in a fixed order.

The pieces are cut by the data's shape alone and merged in their order, so that no bit depends on the number of threads.
Threads are Python's own: kernels release the GIL. Nothing is started before the first piece that is worth it.
"""

from __future__ import annotations

import numbers
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from typing import TypeVar

from joblib import cpu_count
from threadpoolctl import LibController, register

from fastopt._validation import fail

__all__ = ["in_order", "threads"]

T = TypeVar("T")


class _Threads:
    """The pools and what bounds them."""

    def __init__(self) -> None:
        asked = os.environ.get("OMP_NUM_THREADS", "")
        #: Set by `threadpoolctl.threadpool_limits`, at first by OMP_NUM_THREADS.
        self.limit: int | None = int(asked) if asked.isdigit() and int(asked) > 0 else None
        self.pools: dict[int, ThreadPoolExecutor] = {}
        self.processors = 0
        self.lock = threading.Lock()

    def pool(self, n: int) -> ThreadPoolExecutor:
        """Of n threads, which start when they are first needed."""
        with self.lock:
            if n not in self.pools:
                self.pools[n] = ThreadPoolExecutor(n, "fastopt")
            return self.pools[n]

    def drop(self, pool: ThreadPoolExecutor) -> None:
        """Another takes its place; with it goes what waits for a thread that it could not start."""
        with self.lock:
            self.pools = {n: other for n, other in self.pools.items() if other is not pool}

    def forget(self) -> None:
        """In a child process the threads are gone, and the lock may be held by one of them."""
        self.pools, self.lock, self.processors = {}, threading.Lock(), 0


_threads = _Threads()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_threads.forget)


def threads(n_jobs: int | None = None) -> int:
    """How many threads `n_jobs` stands for: None all that are allowed, -1 the same, -2 all but one, and so on.

    Allowed are the processors that this process may use (affinity, control groups), at most what ``OMP_NUM_THREADS``
    said when fastopt was imported and what `threadpoolctl.threadpool_limits` says now.

    Raises
    ------
    ValueError
        If `n_jobs` is neither.
    """
    if n_jobs is not None and (not isinstance(n_jobs, numbers.Integral) or isinstance(n_jobs, bool) or n_jobs == 0):
        fail("n_jobs", "None or an integer other than 0", n_jobs, "Use -1 for all processors.")
    if n_jobs is not None and n_jobs > 0:
        most = int(n_jobs)
    else:
        if not _threads.processors:  # asked once: control groups are files
            _threads.processors = cpu_count()
        most = max(1, _threads.processors + 1 + int(n_jobs or -1))
    return most if _threads.limit is None else min(most, _threads.limit)


def in_order(task: Callable[[int], T], n: int, n_jobs: int | None = None) -> Iterator[T]:
    """``task(0), ..., task(n - 1)``, some of them computed at the same time, always in this order.

    One more than the threads can work on is under way or waits to be taken, so that memory stays bounded.
    """
    workers = min(threads(n_jobs), n) if n > 1 else 1
    return map(task, range(n)) if workers <= 1 else _side_by_side(task, n, workers)


def _side_by_side(task: Callable[[int], T], n: int, workers: int) -> Iterator[T]:
    """The caller works too: one that slept would leave its processor to the threads that it has just woken.

    Where no thread starts, for want of memory or since the interpreter is ending, all is left to the caller.
    """
    pool = _threads.pool(workers - 1)
    ahead: deque[tuple[int, Future[T]]] = deque()
    given = 0
    try:
        while given < n or ahead:
            while given < n and len(ahead) <= workers:
                ahead.append((given, Future()))  # not the pool's own, which is lost where a thread does not start
                given += 1
                try:
                    pool.submit(_work, task, ahead[-1][0], ahead[-1][1])
                except RuntimeError:
                    _threads.drop(pool)
            for k in range(len(ahead)):
                if ahead[0][1].done():
                    break
                if ahead[k][1].cancel():  # nobody has begun it
                    ahead[k] = (ahead[k][0], Future())
                    with suppress(Exception):  # which is raised in its turn; Ctrl-C at once
                        _work(task, *ahead[k])
            yield ahead.popleft()[1].result()
    finally:  # after an interrupt: nobody works on arrays that the caller gives back
        wait([future for _, future in ahead if not future.cancel()])
        # Futures hold errors, which hold the frames that they went through, and these would hold futures: such a cycle
        # keeps X until garbage is collected. None has a name here for the same reason.
        ahead.clear()


def _work(task: Callable[[int], T], i: int, future: Future[T]) -> None:
    """A task, unless it was cancelled; the caller raises errors in order, so that the first is always the same."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(task(i))
    except BaseException as error:
        future.set_exception(error)
        del future
        raise  # the pool lets go of what it was given


class _Controller(LibController):  # type: ignore[misc, unused-ignore]
    """fastopt's threads, as `threadpoolctl` sees them: a library by the name of the module that they drive."""

    user_api = "fastopt"
    internal_api = "fastopt"
    filename_prefixes = ("passes.",)

    def get_num_threads(self) -> int:
        return threads()

    def set_num_threads(self, num_threads: int) -> None:
        _threads.limit = num_threads

    def get_version(self) -> None:
        return None


register(_Controller)
