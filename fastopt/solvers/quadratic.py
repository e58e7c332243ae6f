"""The minimum of a quadratic with an L1 penalty: where a Newton step of F with L1 leads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from fastopt._kernels import lasso

__all__ = ["factor", "minimiser"]

Float64 = NDArray[np.float64]
#: Sweeps of coordinate descent before each step of all coordinates that are not zero, and such steps at most.
SWEEPS, STEPS = 20, 20
#: Sweeps before a step where there are only few coordinates: a sweep costs less than a hundredth of a step then.
FEW, MANY_SWEEPS = 64, 200
#: A sweep that lowers the sum by less than this part of its whole fall is the last one: the quadratic itself is only a
#: model of F, and another follows.
ENOUGH = 1e-2
#: A coordinate at zero stays there if its slope is beyond l1 by less than this part: rounding.
ROUNDING = 1e-9


def minimiser(
    H: Float64, slope: Float64, w: Float64, l1: float, n_penalised: int, epsilon: float, *, enough: float = ENOUGH,
    steps: int = STEPS,
) -> Float64:  # fmt: skip
    """The v that minimises ``slope.(v - w) + (v - w)'H(v - w)/2 + l1 ||v||_1``, L1 of the first `n_penalised` alone.

    The others, intercepts, are taken out first: their minimum is a linear function of what is left, whose Hessian then
    is that of columns without their means. Coordinate descent would hardly move on columns far from zero.

    Coordinate descent finds which are zero and the signs of the others; for these the minimum is that of a quadratic,
    by Cholesky factors: it is taken, those whose sign would change being set to zero, if that goes down, else the step
    goes as far as the first of them. It ends where a whole step has been taken and no other coordinate would leave
    zero, or where a sweep lowers the sum by less than `enough` of all that it fell. `epsilon` is the relative error of
    H's entries.

    References
    ----------
    Friedman, Hastie, Tibshirani, "Regularization paths for generalized linear models via coordinate descent", Journal
    of Statistical Software 33(1), 2010. Yuan, Ho, Lin, "An improved GLMNET for L1-regularized logistic regression",
    JMLR 13, 2012.
    """
    diagonal, v, kept = H.diagonal(), w.copy(), slice(n_penalised)
    free: Any = n_penalised + np.flatnonzero(diagonal[n_penalised:] > 0)  # the others' slopes are 0, or lead nowhere
    n_free = len(free)
    if not n_free:
        v[kept] = _lasso(np.ascontiguousarray(H[kept, kept]), slope[kept].copy(), w[kept], l1, epsilon, enough, steps)
        return v
    if n_free == len(v) - n_penalised:
        free = slice(n_penalised, None)  # views cost less
    across = H[free, kept]
    # What the free ones add to their minimum, for no change of the others and for one of each.
    rest = np.column_stack([slope[free], across])
    rest = factor(H[free][:, free], epsilon)(rest) if n_free > 1 else rest / ((1 + epsilon) * diagonal[free])
    reduced = H[kept, kept] - across.T @ rest[:, 1:]
    reduced = (reduced + reduced.T) / 2
    # The difference is off by `epsilon` of H's diagonal: without a ridge of that it might have no minimum.
    reduced.reshape(-1)[:: n_penalised + 1] += epsilon * diagonal[kept]
    v[kept] = _lasso(reduced, slope[kept] - across.T @ rest[:, 0], w[kept], l1, epsilon, enough, steps)
    v[free] -= rest[:, 0] + rest[:, 1:] @ (v[kept] - w[kept])
    return v


def _lasso(
    H: Float64, r: Float64, w: Float64, l1: float, epsilon: float, enough: float, steps: int
) -> Float64:  # fmt: skip
    """`minimiser` where L1 is of all coordinates; r, the slope at w, is used up."""
    v, total = w.copy(), 0.0
    last = np.zeros(0, np.intp)
    solve: Callable[[Float64], Float64] | None = None
    most, part = (MANY_SWEEPS, 1e-4) if len(v) <= FEW else (SWEEPS, 0.01)
    for _ in range(steps):
        fell, more, last_fell = lasso.sweeps(H, r, v, l1, len(v), most, part)
        total += more
        if fell <= enough * total:
            break
        if last_fell < enough**2 * total or not v.any():  # good enough but for those at zero: the next sweep's
            continue
        support = np.flatnonzero(v)
        if solve is None or not np.array_equal(support, last):
            solve, last = factor(H[np.ix_(support, support)], epsilon), support
        step = np.zeros(len(v))
        step[support] = -solve(r[support] + l1 * np.sign(v[support]))
        if not np.isfinite(step).all():
            break
        crossed = v * (v + step) < 0
        new = np.where(crossed, 0.0, v + step)
        if crossed.any():
            change = new - v
            product = H @ change
            fall = change @ (r + 0.5 * product) + l1 * (np.abs(new) - np.abs(v)).sum()
            if fall > 0:  # then as far as the first sign change
                parts: Float64 = -v[crossed] / step[crossed]
                new = v + np.min(parts) * step
                new[np.flatnonzero(crossed)[np.argmin(parts)]] = 0.0
                product = H @ (new - v)
            v, r = new, r + product
            continue
        v, r = new, r + H @ step
        if (np.abs(r[v == 0]) <= l1 * (1 + ROUNDING)).all():
            break
    return v


def factor(H: Float64, epsilon: float) -> Callable[[Float64], Float64]:
    """v -> H^-1 v, with the smallest part of H's diagonal added that makes it positive definite."""
    diagonal = H.diagonal()
    diagonal = np.where(diagonal > 0, diagonal, 1.0)
    if np.isfinite(diagonal).all():  # and so is what Cauchy and Schwarz bound by it
        ridge = epsilon
        while ridge < 1:
            # LAPACK itself: on 30 columns scipy.linalg's checks would take most of a step's time.
            factors, failed = lapack.dpotrf(_with_ridge(H, ridge * diagonal).T, overwrite_a=1)
            if not failed:
                return lambda v: np.asarray(lapack.dpotrs(factors, v)[0])
            ridge *= 10

    def diagonal_alone(v: Float64) -> Float64:
        with np.errstate(over="ignore", invalid="ignore"):
            return v / diagonal

    return diagonal_alone


def _with_ridge(H: Float64, ridge: Float64) -> Float64:
    H = H.copy()
    H.reshape(-1)[:: len(H) + 1] += ridge
    return H
