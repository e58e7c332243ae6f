"""Variables in which F curves alike: for what takes steps in all of them at once."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from fastopt.objective import Objective
from fastopt.optimizers import Ftrl, Optimizer
from fastopt.solvers.one_hot import OneHot

__all__ = ["Scaled", "other_variables", "unlike", "variances"]

Float64 = NDArray[np.float64]

#: Data are full if this share of their entries is not zero.
FULL = 0.25
#: Full data tire steps in w where F curves so many times more along one column than along another, or where a column's
#: squared mean is so many times its variance.
CURVES, FAR = 4.0, 4.0
#: Other data do where one column's entries are so many times larger than another's, or a column is so far from zero.
#: More is asked of them: on CSR only steps in w leave columns to wait for their rows, and rare columns alone are no
#: reason to give that up.
LARGER, FAR_APART = 30.0, 100.0
#: The share of a column's mean square below which the difference of that and of its squared mean is off by rounding.
LOST = 1e-10
#: Rows in whose batches entries must be a third as many as the columns, all of which a step in other variables moves.
ROWS = 128


def unlike(objective: Objective) -> bool:
    """Whether columns differ so much, in size or in how far they are from zero, that steps in w tire (by a sample).

    Dense rows and the same ones in CSR are judged alike.
    """
    d = objective.n_features
    if objective.design.sparse and _wide(objective.design.n_stored / objective.design.shape[0], d):
        return False
    some = objective.sample(1024)
    design = some.design
    share = (design.column_counts if design.sparse else np.count_nonzero(design.values, axis=0)) / some.n_samples
    row = float(share.sum())
    if _wide(row, d):
        return False
    mean, square, variance = _moments(some)
    with np.errstate(all="ignore"):  # what is not finite does not count
        moves = variance > _least(objective) * square
        if row >= FULL * d:
            curvature = _curvature(objective) * variance[moves] + objective.l2
            return _spread(curvature) > CURVES or bool((mean[moves] ** 2 > FAR * variance[moves]).any())
        if _spread(square[share > 0] / share[share > 0]) > LARGER**2:
            return True
        # Nor is a class that nearly every row has far from zero: among its entries there is no variance.
        within = variance - (1 - share) * square
        moves &= within > _least(objective) * share * square
        far = mean**2 / np.maximum(variance, within)
    return bool((far[moves] > FAR_APART).any())


def _wide(row: float, d: int) -> bool:
    """Whether rows of so many entries are few beside the columns."""
    return row < FULL * d and d > 3 * ROWS * row


def _moments(objective: Objective) -> tuple[Float64, Float64, Float64]:
    """What an intercept makes up for, each column's mean or zero; its mean square; and its variance about that mean.

    Zero, too, where the sum of a column's entries overflows: infinity times a coefficient of zero is no number. Far
    from zero the difference of both is all rounding (times of one minute, in seconds since 1970): a sample tells.
    """
    mean, square = objective.column_moments()
    mean = np.where(objective.fit_intercept & np.isfinite(mean), mean, 0.0)
    with np.errstate(over="ignore", invalid="ignore"):
        variance = square - mean**2
        lost = np.flatnonzero(variance < LOST * square)
        if len(lost):
            variance[lost] = objective.variance_about(mean[lost], lost)
    return mean, square, variance


def variances(objective: Objective) -> tuple[Float64, Float64]:
    """What an intercept makes up for, as `_moments` has it, and each column's variance about it.

    That of a constant column is a trillionth of its mean square: F says nothing on it.
    """
    mean, square, variance = _moments(objective)
    with np.errstate(over="ignore", invalid="ignore"):
        return mean, np.where(variance > _least(objective) * square, variance, 1e-12 * square)


def _least(objective: Objective) -> float:
    """The share of its mean square that the variance of a column has at least which is not constant."""
    return 1e-20 if objective.design.dtype == np.float64 else 1e-12


def _spread(sizes: Float64) -> float:
    """The largest over the smallest."""
    return float(np.max(sizes) / np.min(sizes)) if len(sizes) else 1.0


def _curvature(objective: Objective) -> float:
    """Of the loss at a row, at most, in each output; of the softmax at w = 0, and so much where there is no bound."""
    curvature = objective.loss.max_curvature
    bounded = objective.loss.targets != "multiclass" and math.isfinite(curvature)
    return curvature if bounded else 1 / objective.n_outputs


class Scaled:
    """Variables u of F in which its curvature at w = 0 is nearly the same for each: w = D u, b' = b + mean(x).w.

    D^-2 is the diagonal of the Hessian of F in (w, b'), for a loss of the same curvature at every row: its variance
    times that curvature, plus alpha. Centring costs O(n_features) per gradient and touches no entry of X. One-hot
    groups have the mean zero at every point (`OneHot`), where F's gradient has no part along their means either.

    Parameters
    ----------
    objective : Objective
    powers : bool, default False
        D's elements are powers of two, so that nothing is rounded on the way there and back, means are rounded, and
        there are no groups.
    """

    bounds = None

    def __init__(self, objective: Objective, *, powers: bool = False) -> None:
        self.centred = objective.fit_intercept
        d, curvature = objective.n_features, _curvature(objective)
        self.mean, variance = variances(objective)
        with np.errstate(over="ignore", invalid="ignore"):
            diagonal = np.append(curvature * variance + objective.l2, [curvature] * self.centred)
        diagonal = np.minimum(diagonal, np.finfo(np.float64).max)  # nothing is to be divided by a scale of zero
        self.scale = 1 / np.sqrt(np.where(diagonal > 0, diagonal, 1.0))[:, None]
        self.groups = None if powers else OneHot.of(objective)
        if powers:
            # They and their inverses are to be numbers of X's type, with room above for w.
            most = np.finfo(objective.design.dtype).maxexp
            self.scale = np.exp2(np.clip(np.round(np.log2(self.scale)), 2 - most, 3 * most // 4))
            # To a 64th of that: what sums in another order has the same variables.
            unit = 1 / (64 * self.scale[:d, 0])
            with np.errstate(over="ignore", invalid="ignore"):
                self.mean = np.where(np.isfinite(self.mean / unit), np.round(self.mean / unit) * unit, self.mean)

    def start(self, w: Float64) -> Float64:
        """u of parameters w, flat."""
        u = w.copy()
        if self.groups is not None:
            self.groups.center(u)
        if self.centred:
            with np.errstate(over="ignore", invalid="ignore"):
                u[-1] += self.mean @ u[:-1]
        return (u / self.scale).reshape(-1)

    def parameters(self, u: Float64) -> Float64:
        """w of flat variables u."""
        w = u.reshape(len(self.scale), -1) * self.scale
        if self.centred:
            with np.errstate(over="ignore", invalid="ignore"):
                w[-1] -= self.mean @ w[:-1]
        if self.groups is not None:
            self.groups.center(w)
        return w

    def l1(self, u: Float64) -> float:
        """The L1 part of F in u: there is none."""
        return 0.0

    def gradient(self, g: Float64) -> Float64:
        """The gradient in u, flat, of one in w."""
        g = g.copy()
        with np.errstate(over="ignore", invalid="ignore"):
            if self.centred:
                g[:-1] -= self.mean[:, None] * g[-1]
            return (g * self.scale).reshape(-1)


def other_variables(objective: Objective, optimizer: Optimizer) -> Scaled | None:
    """Those in which the columns are alike, where they are not and the rule's steps may be taken in others than w."""
    of_w = optimizer._clips  # clipping's bounds are w's, and so are FTRL's own penalties
    if isinstance(optimizer, Ftrl):
        own = ("l1_regularization_strength", "l2_regularization_strength", "l2_shrinkage_regularization_strength")
        of_w = of_w or any(getattr(optimizer, name) for name in own)
    return None if of_w or not unlike(objective) else Scaled(objective, powers=True)
