"""F, its gradient and the test rows' accuracy in float64, written apart from the library and from every contestant."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import logsumexp

from bench.problems import Problem


def loss_and_residual(problem: Problem, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """loss_i, and its derivative with respect to the scores z (n, n_outputs). No margin overflows."""
    if problem.n_outputs == 1:
        y = problem.y[:, None]
        # logaddexp and the clipped exponential stay finite where log(1 + exp(-yz)) does not.
        return np.logaddexp(0, -y * z)[:, 0], -y / (1 + np.exp(np.clip(y * z, -700, 700)))
    rows, numbers = np.arange(len(z)), problem.y.astype(np.intp)
    total = logsumexp(z, axis=1, keepdims=True)
    residual = np.exp(z - total)
    residual[rows, numbers] -= 1
    return total[:, 0] - z[rows, numbers], residual


def loss_and_gradient(problem: Problem, coef) -> tuple[float, np.ndarray]:
    """The mean loss, without penalty, and its gradient, of shape (n_features + 1, n_outputs)."""
    w = np.asarray(coef, dtype=np.float64).reshape(problem.shape)
    losses, residual = loss_and_residual(problem, problem.X64 @ w[:-1] + w[-1])
    n = len(losses)
    return losses.mean(), np.vstack([problem.X64.T @ residual, residual.sum(0)]) / n


def penalised(problem: Problem, w: np.ndarray, gradient: np.ndarray, factor: float = 1.0) -> np.ndarray:
    """F's gradient at w from that of the loss, with `factor` times the penalty; with L1 the shortest subgradient."""
    gradient = gradient.copy()
    g, v = gradient[:-1], w[:-1]  # the intercept is not penalised
    g += factor * problem.l2 * v
    if problem.l1:
        l1 = factor * problem.l1
        g[:] = np.where(v == 0, np.sign(g) * np.maximum(np.abs(g) - l1, 0), g + l1 * np.sign(v))
    return gradient


def objective_and_gradient(problem: Problem, coef) -> tuple[float, np.ndarray]:
    """F and its gradient at `coef`; with L1 the shortest subgradient."""
    w = np.array(coef, dtype=np.float64).reshape(problem.shape)
    value, gradient = loss_and_gradient(problem, w)
    value += problem.l2 / 2 * np.vdot(w[:-1], w[:-1]) + problem.l1 * np.abs(w[:-1]).sum()
    return value, penalised(problem, w, gradient)


def accuracy(problem: Problem, coef) -> float:
    """Share of the test rows that `coef` puts into the right class; nan without test rows, 0 without coefficients."""
    if problem.test is None:
        return math.nan
    if coef is None:
        return 0.0
    X, y = problem.test
    w = np.asarray(coef, dtype=np.float64).reshape(problem.shape)
    z = X @ w[:-1] + w[-1]
    found = np.where(z[:, 0] > 0, 1.0, -1.0) if problem.n_outputs == 1 else z.argmax(1)
    return float(np.mean(found == y))
