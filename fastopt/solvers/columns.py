"""Newton's steps of F with L1 where a Hessian is too much: coordinate descent on X's columns."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from fastopt._design import WORK
from fastopt._kernels import lasso
from fastopt.objective import Objective
from fastopt.solvers.monitor import ROUNDING, norm

__all__ = ["ColumnDescent"]

Float64 = NDArray[np.float64]

#: Sweeps over all coordinates at most, and after each of these over those that are not zero.
MOST, MANY = 30, 4
#: The latter end with one that lowers the sum by less than this part of what the sweep over all did.
PART = 0.1
#: The former end with one that lowers it by less than this part of its whole fall: another quadratic follows, which is
#: a better model of F.
ENOUGH = 0.1
#: Part of a step below which it is not tried any more.
SHORTEST = 1e-3


class ColumnDescent:
    """Newton steps in some parameters (flat numbers): each to the minimum of F's quadratic plus L1, or about there.

    A sweep over the coordinates takes O(entries) for each output, where a Hessian takes the square of their number;
    `n_sweeps` were made so far.

    References
    ----------
    Yuan, Ho, Lin, "An improved GLMNET for L1-regularized logistic regression", JMLR 13, 2012. Böhning, "Multinomial
    logistic regression algorithm", Annals of the Institute of Statistical Mathematics 44, 1992 (the bound).
    """

    def __init__(self, objective: Objective, w: Float64, some: NDArray[np.intp]) -> None:
        self.objective, self.w, self.n_sweeps = objective, w, 0
        self.value, self.gradient, self.slope, self.raw = objective.measured(w)
        self._X = objective.design.by_columns()
        # One output after the other, whose rows' numbers then stay in the cache; the intercepts at last.
        K, size = objective.n_outputs, objective.n_features * objective.n_outputs
        self._some, self._n_penalised = some[np.lexsort((some, some % K, some >= size))], int((some < size).sum())
        at_once = max(1, int(WORK * max(1, objective.n_features) / (len(self._X[0]) + objective.n_samples)))
        self._pieces = [(i, min(i + at_once, len(some))) for i in range(0, len(some), at_once)]

    def step(self) -> bool:
        """One step down; False if there is none at this precision.

        Where rows that are far off have next to no curvature, the quadratic's minimum may be of no use: then that of
        the one with the loss's largest curvature in every row, which is nowhere below F's smooth part.
        """
        if self._step_to(self._minimiser(bound=False)):
            return True
        return math.isfinite(self.objective.loss.max_curvature) and self._step_to(self._minimiser(bound=True))

    def _step_to(self, target: Float64) -> bool:
        """To the target, or as near to it as F falls enough (Armijo's rule)."""
        direction, penalised = target - self.w, slice(self.objective.n_features)
        shorter = float((np.abs(self.w[penalised]) - np.abs(target[penalised])).sum())
        decrement = self.objective.l1 * shorter - float(np.vdot(self.slope, direction))
        noise, t = ROUNDING * abs(self.value), 1.0
        while decrement > 0 and t > SHORTEST:
            w = target if t == 1 else self.w + t * direction
            found = self.objective.measured(w)
            if found[0] <= self.value - 1e-4 * t * decrement + noise:
                better = found[0] < self.value - noise or norm(found[1]) < norm(self.gradient)
                if better:
                    self.w, (self.value, self.gradient, self.slope, self.raw) = w, found
                return better
            t /= 2
        return False

    def _minimiser(self, *, bound: bool) -> Float64:
        """Where the quadratic plus L1 is least, all other parameters standing still."""
        F, some, n = self.objective, self._some, self.objective.n_samples
        softmax = F.loss.targets == "multiclass"
        p = np.empty((0, n))
        if bound:
            h = np.full((F.n_outputs, n), F.loss.max_curvature)
        else:
            h = np.ascontiguousarray(F.curvatures(self.w, self.raw).T)
            p = h if softmax else p
        if len(F.weights) and (bound or softmax):  # other curvatures have them
            h = h * F.weights.reshape(n, -1).T
        h = h / n
        columns = lasso.Columns(
            some // F.n_outputs, some % F.n_outputs, h, p, np.zeros_like(h), np.zeros(n if len(p) else 0), F.l1, F.l2,
            F.n_features, self._n_penalised,
        )  # fmt: skip
        slope, w, diagonal = self.slope.reshape(-1)[some], self.w.reshape(-1)[some], np.empty(len(some))
        v, total = w.copy(), 0.0
        for piece in self._pieces:
            lasso.column_bends(columns, *self._X, diagonal, *piece)

        def sweep(*, nonzero: bool) -> float:
            self.n_sweeps += 1
            arrays = *self._X, slope, diagonal, w, v
            return sum(lasso.column_sweep(columns, *arrays, nonzero, *piece) for piece in self._pieces)

        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is no step
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
