"""Newton's steps of F with L1 where a Hessian is too much: coordinate descent on X's columns."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastopt._design import WORK
from fastopt._kernels import lasso
from fastopt.objective import Objective
from fastopt.solvers.monitor import norm

__all__ = ["ColumnDescent"]

Float64 = NDArray[np.float64]

#: Sweeps over the coordinates that are not zero before each over all, and of these at most.
MANY, MOST = 4, 30
#: Those end with one that lowers the quadratic by less than this part of what the sweep over all did; all with one over
#: all that lowers it by less than `ENOUGH` of its whole fall: another quadratic follows.
PART, ENOUGH = 0.1, 1e-2
#: Differences of F below this part of it are rounding.
ROUNDING = 1e-13


class ColumnDescent:
    """Newton steps in some parameters: each to the minimum of F's quadratic plus L1, by sweeps of O(entries).

    References
    ----------
    Yuan, Ho, Lin, "An improved GLMNET for L1-regularized logistic regression", JMLR 13, 2012.
    """

    def __init__(self, objective: Objective, w: Float64, some: NDArray[np.intp]) -> None:
        self.objective, self.w, self.some = objective, w, some
        self.value, self.gradient, self.slope, self.raw = objective.measured(w)
        self._X = objective.design.by_columns()
        entries = len(self._X[0]) / max(1, objective.n_features) + 1
        self._at_once = max(1, int(WORK / entries))  # coordinates that one call goes through

    def step(self) -> bool:
        """One step down; False if there is none at this precision."""
        target = self._minimiser()
        direction = target - self.w
        penalised = slice(self.objective.n_features)
        shorter = float((np.abs(self.w[penalised]) - np.abs(target[penalised])).sum())
        decrement = self.objective.l1 * shorter - float(np.vdot(self.slope, direction))
        noise, t = ROUNDING * abs(self.value), 1.0
        while decrement > 0 and t > 1e-9:
            w = target if t == 1 else self.w + t * direction
            found = self.objective.measured(w)
            if found[0] <= self.value - 1e-4 * t * decrement + noise:
                better = found[0] < self.value - noise or norm(found[1]) < norm(self.gradient)
                if better:
                    self.w, (self.value, self.gradient, self.slope, self.raw) = w, found
                return better
            t /= 2
        return False

    def _minimiser(self) -> Float64:
        """Where the quadratic plus L1 is least, all other parameters standing still."""
        F, K, some = self.objective, self.objective.n_outputs, self.some
        n, softmax = F.n_samples, F.loss.targets == "multiclass"
        h = np.ascontiguousarray(F.curvatures(self.w, self.raw).T)
        p = h if softmax else np.empty((0, n))
        h = h * F.weights / n if softmax and len(F.weights) else h / n
        columns = lasso.Columns(
            some // K, some % K, h, p, np.zeros_like(h), np.zeros(n if softmax else 0), F.l1, F.l2, F.n_features,
            int(np.searchsorted(some, F.n_features * K)),
        )  # fmt: skip
        slope, w, diagonal = self.slope.reshape(-1)[some], self.w.reshape(-1)[some], np.empty(len(some))
        v, total = w.copy(), 0.0
        pieces = [(i, min(i + self._at_once, len(w))) for i in range(0, len(w), self._at_once)]
        for piece in pieces:
            lasso.column_bends(columns, *self._X, diagonal, *piece)

        def sweep(*, nonzero: bool) -> float:
            arrays = *self._X, slope, diagonal, w, v
            return sum(lasso.column_sweep(columns, *arrays, nonzero, *piece) for piece in pieces)

        for _ in range(MOST):
            fell = sweep(nonzero=False)
            total += fell
            if not fell > ENOUGH * total:
                break
            for _ in range(MANY):
                more = sweep(nonzero=True)
                total += more
                if not more > PART * fell:
                    break
        target = self.w.copy()
        target.reshape(-1)[some] = v
        if softmax and F.fit_intercept:  # blind to equal changes
            target[-1] -= (target[-1] - self.w[-1]).mean()
        return target
