"""The judge: how near what a contestant returned is to F's minimum, outside the clock."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bench import optimum
from bench.objective import accuracy, loss_and_gradient, penalised
from bench.problems import Problem


@dataclass(frozen=True)
class Verdict:
    """How good one returned `coef` is."""

    objective: float
    gap: float  # (F - F*) / F*
    grad_norm: float  # ||grad F||
    alpha_ratio: float  # the penalty that would make this point stationary, over the right one: 1 at the minimum
    finding: str  # "same F", "another F" or "not converged"
    accuracy: float = math.nan  # share of the test rows whose class is right; nan without test rows


def judge(problem: Problem, coef, gap_reached: float = 1e-4) -> Verdict:
    """Say how close `coef` is to the minimum of F, and whether it rather is the minimum of something else.

    At a minimum of loss + a times the penalty, a = -<grad loss, w> / <grad penalty, w>, in units of the right penalty.
    If that a makes the gradient vanish while 1 does not, the contestant has converged, but with another penalty. (After
    a first short step from zero an enormous a does that, too; hence the factor of at most 100.)
    """
    coef = np.asarray(coef, dtype=np.float64).reshape(problem.shape)
    if not np.isfinite(coef).all():
        return Verdict(np.inf, np.inf, np.inf, np.nan, "not converged", accuracy(problem, None))
    value, of_loss = loss_and_gradient(problem, coef)
    w = coef[:-1]
    size, square = problem.l1 * np.abs(w).sum(), problem.l2 * np.vdot(w, w)
    value += size + square / 2
    best = optimum.find(problem).objective
    gap = (value - best) / best
    norm = float(np.linalg.norm(penalised(problem, coef, of_loss)))
    factor = -np.vdot(of_loss[:-1], w) / (size + square) if size + square else np.nan
    if gap <= gap_reached:
        finding = "same F"
    elif (
        abs(factor - 1) > 0.05
        and 0.01 < factor < 100
        and np.linalg.norm(penalised(problem, coef, of_loss, factor)) < 0.1 * norm
    ):
        finding = "another F"
    else:
        finding = "not converged"
    return Verdict(float(value), float(gap), norm, float(factor), finding, accuracy(problem, coef))
