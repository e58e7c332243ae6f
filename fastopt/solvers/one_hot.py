"""Categories of which each row has exactly one, as an encoder makes them: the directions in which only L2 curves F."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastopt._design import Design
from fastopt.objective import Objective

__all__ = ["OneHot"]


class OneHot:
    """Groups of columns of which every row has exactly one entry, always of the same value v.

    Adding t to the group's coefficients and taking v t from the intercept, which is not penalised, leaves all
    predictions as they are. F changes by its L2 part alone, whose minimum is known: the group's coefficients have the
    mean zero. Methods that take small steps in all directions need very long to find that: in such a direction F is
    flatter than in others by a factor of l2.

    Attributes
    ----------
    columns : ndarray of intp
        The columns of all groups that have entries, group by group.
    sizes : ndarray of intp
        How many of them each group has.
    values : ndarray of float64
        v of each group.
    """

    def __init__(self, columns: NDArray[np.intp], sizes: NDArray[np.intp], values: NDArray[np.float64]) -> None:
        self.columns, self.sizes, self.values = columns, sizes, values
        self._starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.intp)

    @classmethod
    def of(cls, objective: Objective) -> OneHot | None:
        """The groups of an objective, where their means are zero at its minimum; None if there are none.

        Seen are rows of as many entries each, sorted by column, whose k-th entries form a group or something else.
        """
        if not objective.fit_intercept or objective.l1 or not objective.l2 > 0:
            return None
        return _groups(objective.design)

    def center(self, w: NDArray[Any]) -> None:
        """Brings the means to zero, in place; F falls or stays. The intercepts are w's last row."""
        w = w.reshape(len(w), -1)
        members = w[self.columns].astype(np.float64)
        means = np.add.reduceat(members, self._starts, axis=0) / self.sizes[:, None]
        w[self.columns] = members - np.repeat(means, self.sizes, axis=0)
        w[-1] += self.values @ means


def _groups(design: Design) -> OneHot | None:
    if design.indptr is None:
        return None
    n, entries = design.shape[0], design.n_stored
    width = entries // max(n, 1)
    if width == 0 or entries != n * width or (np.diff(design.indptr) != width).any():
        return None
    if design.indices is None:
        return None
    columns, values = design.indices[:entries].reshape(n, width), design.values[:entries].reshape(n, width)
    for rows in (slice(0, 256), slice(0, n)):  # most data show at once that they are none
        low, high = _extremes(columns[rows])
        apart = high[:-1] < low[1:]
        first, last = _extremes(values[rows])
        groups = np.flatnonzero(np.append(apart, True) & np.append(True, apart) & (first == last) & (first != 0))
        if not len(groups):
            return None
    if apart.all():
        design.rises()
    if not design.distinct:
        return None
    used = design.column_counts > 0
    members = [low[k] + np.flatnonzero(used[low[k] : high[k] + 1]) for k in groups]
    sizes = np.array([len(m) for m in members], dtype=np.intp)
    return OneHot(np.concatenate(members), sizes, first[groups].astype(np.float64))


def _extremes(a: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Each column's least and largest element, read in blocks of rows that NumPy's loops find long enough."""
    height = max(1, min(len(a), 1024 // a.shape[1]))
    whole = len(a) // height * height
    blocks = a[:whole].reshape(-1, height * a.shape[1])
    low, high = (f(blocks, axis=0).reshape(height, -1) for f in (np.min, np.max))
    return np.vstack([low, a[whole:]]).min(axis=0), np.vstack([high, a[whole:]]).max(axis=0)
