"""Data that come chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

__all__ = ["Chunks"]


class Chunks:
    """Rows that are read anew, chunk by chunk, each time they are needed: the X of a `fit`.

    One pass over the chunks is made for each epoch, and one for each time that F and its gradient are measured, over
    all of them. Only one chunk need be in memory.

    Parameters
    ----------
    source : callable or iterable
        Gives pairs (X, y), or triples (X, y, sample_weight): a function without arguments that returns a new iterator
        of them, such as a generator function, or an object that can be iterated over again and again, such as a list.
        Each pass must give the same rows, in the same chunks and in the same order.

    Raises
    ------
    TypeError
        If `source` is an iterator or generator itself: it would be empty the second time.

    Examples
    --------
    >>> import numpy as np
    >>> from fastopt import LogisticRegression
    >>> def read():
    ...     for seed in range(3):  # here: files, queries
    ...         X = np.random.default_rng(seed).standard_normal((200, 5))
    ...         yield X, X[:, 0] > 0.3
    >>> LogisticRegression().fit(Chunks(read)).n_features_in_
    5
    """

    def __init__(self, source: Callable[[], Iterable[Any]] | Iterable[Any]) -> None:
        if not callable(source) and (not hasattr(source, "__iter__") or iter(source) is source):
            rule = "a function that returns a new iterator, or an object that can be iterated over again"
            remedy = "Give the generator function itself, without calling it."
            raise TypeError(f"source must be {rule}; got {source!r}. {remedy}")
        self.source = source

    def __iter__(self) -> Iterator[tuple[Any, Any, Any]]:
        source = self.source() if callable(self.source) else self.source
        for chunk in source:
            if not isinstance(chunk, tuple | list) or len(chunk) not in (2, 3):
                raise TypeError(f"source must give (X, y) or (X, y, sample_weight); got {type(chunk).__name__}.")
            yield chunk[0], chunk[1], chunk[2] if len(chunk) == 3 else None

    def __repr__(self) -> str:
        return f"Chunks({self.source!r})"
