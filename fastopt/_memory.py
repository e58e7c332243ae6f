"""Arrays that begin where cache lines begin, since a vector that crosses lines costs two accesses; copies in pieces."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["copied", "lines", "records"]

#: Bytes of a cache line.
LINE = 64
#: Elements that are copied at once, in some milliseconds.
PIECE = 1 << 20


def records(n: int, width: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """A column's record takes a power of two up to a cache line, whole lines beyond, and begins where they begin."""
    power = 1 << (width - 1).bit_length()
    if power * dtype.itemsize > LINE:
        return lines(n, width, dtype)
    return lines(1, n * power, dtype)[0, : n * power].reshape(n, power)


def lines(n: int, width: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """n rows of at least `width` elements, not initialised, each from a cache line's beginning to another's end.

    A vector that crosses lines costs two accesses: rows that begin anywhere make steps of all coordinates up to twice
    as slow.
    """
    line = LINE // dtype.itemsize
    width = -(-width // line) * line
    room = np.empty(n * width + line, dtype)
    skip = -room.ctypes.data % LINE // dtype.itemsize
    return room[skip : skip + n * width].reshape(n, width)


def copied(a: NDArray[Any]) -> NDArray[Any]:
    """A copy of a C-ordered array, made in pieces: that of all rows and classes at once would keep a signal waiting."""
    out = np.empty_like(a)
    flat, source = out.reshape(-1), a.reshape(-1)
    for start in range(0, a.size, PIECE):
        flat[start : start + PIECE] = source[start : start + PIECE]
    return out
