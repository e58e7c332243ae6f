"""Few rows of many columns: the same F in the span of the rows, which has no more dimensions than there are rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack, solve_triangular
from scipy.sparse import csr_array

from fastopt._design import Design
from fastopt.objective import Objective
from fastopt.solvers.monitor import Reporter, Result, norm, rounded

__all__ = ["Outside", "RowSpace"]

Float64 = NDArray[np.float64]
#: Elements of a block of dense columns.
BLOCK = 500_000


class RowSpace:
    """F in an orthonormal basis Q of the rows' span: ``F(Q u)`` is the F of ``X Q`` at u.

    ``X X' = L L'`` (Cholesky with pivots, which finds the rank) gives both: ``X Q = L``, and ``Q' = L^-1 X`` on the
    rows that the pivots name. With an L2 penalty F's minimum lies in the span, and so does F's gradient at any w there:
    its norm is the same in both.

    Parameters
    ----------
    whole : Objective
        With an L2 penalty and none of L1, and rows whose products are finite, not all zero.

    Attributes
    ----------
    narrow : Objective
        F of ``X Q``, (n_samples, rank), in float64.

    References
    ----------
    Schoelkopf, Herbrich, Smola, "A generalized representer theorem", COLT 2001. Hastie, Tibshirani, "Efficient
    quadratic regularization for expression arrays", Biostatistics 5(3), 2004 (section 2).
    """

    def __init__(self, whole: Objective) -> None:
        G = gram(whole.design)
        # Of rows of length one: the rank is then a matter of their directions.
        lengths = np.sqrt(G.diagonal())
        lengths[~(lengths > 0)] = 1
        G /= lengths
        G /= lengths[:, None]
        L, pivots, rank, _ = lapack.dpstrf(G, lower=1)
        Z = np.empty((len(G), rank))
        Z[pivots - 1] = np.tril(L)[:, :rank]
        Z *= lengths[:, None]
        self.whole, self.narrow = whole, whole.on(Design.from_array(Z))
        self._pivots = pivots[:rank] - 1
        self._triangle = Z[self._pivots]

    def inside(self, w: NDArray[Any]) -> Float64:
        """The u whose ``Q u`` is nearest to w; intercepts stay."""
        d = self.whole.n_features
        raw = self.whole.raw_prediction(w)[self._pivots] - w[d:].sum(axis=0)
        return np.concatenate([solve_triangular(self._triangle, raw, lower=True), w[d:]])

    def outside(self, u: NDArray[Any]) -> Float64:
        """``Q u``; intercepts stay."""
        rank = self.narrow.n_features
        c = np.zeros((self.whole.n_samples, self.whole.n_outputs))
        c[self._pivots] = solve_triangular(self._triangle, u[:rank], lower=True, trans="T")
        w = [self.whole.design.transposed_product(np.ascontiguousarray(column)) for column in c.T]
        return np.concatenate([np.stack(w, axis=1), u[rank:]])

    def result(self, found: Result, tol: float) -> Result:
        """A result on `narrow` as one on `whole`, where it is measured; "stalled" if it is not within tol there.

        Of X's type, unless rounding to it would cost convergence.
        """
        exact = self.outside(found.w.reshape(self.narrow.shape))
        w = rounded(exact, self.whole.design.dtype)
        value, gradient = self.whole.value_and_gradient(w)
        if not norm(gradient) <= tol and w.dtype != exact.dtype:
            w = exact
            value, gradient = self.whole.value_and_gradient(w)
        size, reason = norm(gradient), found.stop_reason
        history = {name: column.copy() for name, column in found.history.items()}
        history["objective"][-1], history["grad_norm"][-1] = value, size
        if reason == "tol" and not size <= tol:
            reason = "stalled"
        return replace(found, w=w, objective=value, grad_norm=size, stop_reason=reason, history=history)


class Outside(Reporter):
    """Passes on what a solver in the span of the rows tells."""

    def __init__(self, reporter: Reporter, space: RowSpace) -> None:
        super().__init__()
        self.reporter, self.space, self.verbose = reporter, space, reporter.verbose

    def epoch(self, epoch: int, text: str, w: NDArray[Any] | None = None) -> None:
        """After an epoch: what there is to say, and the parameters."""
        shown = w if self.reporter.on_epoch is not None else None
        if shown is not None:
            shown = self.space.outside(shown.reshape(self.space.narrow.shape))
        self.reporter.epoch(epoch, text, shown)


def gram(design: Design) -> Float64:
    """``X X'``, in float64."""
    n, d = design.shape
    if design.sparse:
        values, columns, indptr = design.arrays
        entries = slice(design.n_stored)
        X = csr_array((values[entries].astype(np.float64, copy=False), columns[entries], indptr), shape=(n, d))
        return np.ascontiguousarray((X @ X.T).toarray())
    (X,), total, width = design.arrays, np.zeros((n, n)), max(1, BLOCK // n)
    for start in range(0, d, width):
        block = X[:, start : start + width].astype(np.float64, copy=False)
        total += block @ block.T  # NumPy calls syrk: half a product's work
    return total
