"""Variables in which F curves alike: for what takes steps in all of them at once."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from fastopt.objective import Objective
from fastopt.solvers.one_hot import OneHot

__all__ = ["Scaled"]

Float64 = NDArray[np.float64]


class Scaled:
    """Variables u of F in which its curvature at w = 0 is nearly the same for each: w = D u, b' = b + mean(x).w.

    D^-2 is the diagonal of the Hessian of F in (w, b'), for a loss of the same curvature at every row: its variance
    times that curvature, plus alpha. Centring costs O(n_features) per gradient and touches no entry of X. One-hot
    groups have the mean zero at every point (`OneHot`), where F's gradient has no part along their means either.
    """

    bounds = None

    def __init__(self, objective: Objective) -> None:
        self.shape, self.centred = objective.shape, objective.fit_intercept
        d, K = objective.n_features, objective.n_outputs
        curvature = objective.loss.max_curvature
        curvature = 1 / K if K > 1 else curvature if math.isfinite(curvature) else 1.0
        self.mean, square = objective.column_moments()
        if not self.centred:
            self.mean = np.zeros(d)
        # The difference is off by rounding; what is below is a constant column, and F says nothing on its u.
        with np.errstate(over="ignore", invalid="ignore"):
            variance = np.maximum(square - self.mean**2, 1e-12 * square)
            diagonal = np.append(curvature * variance + objective.l2, [curvature] * self.centred)
        diagonal = np.minimum(diagonal, np.finfo(np.float64).max)  # nothing is to be divided by a scale of zero
        self.scale = 1 / np.sqrt(np.where(diagonal > 0, diagonal, 1.0))[:, None]
        self.groups = OneHot.of(objective)

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
        w = u.reshape(self.shape) * self.scale
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
        if self.centred:
            g[:-1] -= self.mean[:, None] * g[-1]
        return (g * self.scale).reshape(-1)
