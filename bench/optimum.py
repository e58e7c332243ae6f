"""F*, the smallest value of F: computed once in float64 by a trusted solver, checked by its gradient, kept on disk."""

from __future__ import annotations

import json
import math
import os
import warnings
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import numpy as np

from bench import ROOT
from bench.objective import accuracy, loss_and_residual, objective_and_gradient
from bench.problems import Problem

CACHE = ROOT / "bench" / "results" / "cache"


@dataclass(frozen=True)
class Optimum:
    objective: float
    grad_norm: float
    bound: float  # relative: F* cannot be lower than objective * (1 - bound)
    solver: str
    accuracy: float = math.nan  # on the test rows


def kept(problem: Problem) -> Path:
    """Where the optimum of `problem` is, once it is known."""
    return CACHE / f"optimum-{problem.key}.json"


def seconds(problem: Problem) -> float:
    """About what `find` will take."""
    return 0.0 if kept(problem).exists() else 1e-6 * problem.n_entries * problem.n_outputs


@cache
def find(problem: Problem) -> Optimum:
    """The cached optimum of `problem`, or a new one."""
    path = kept(problem)
    try:
        return Optimum(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # not there, or cut off
        optimum = _compute(problem)
    try:
        CACHE.mkdir(parents=True, exist_ok=True)
        begun = path.with_suffix(f".{os.getpid()}")
        begun.write_text(json.dumps(asdict(optimum)))
        begun.replace(path)
    except OSError as error:  # computed anew each time, then
        warnings.warn(f"the optimum of {problem.name} cannot be kept: {error}", stacklevel=2)
    return optimum


def _compute(problem: Problem) -> Optimum:
    solver, coef = _scikit_learn(problem)
    coef = _newton_cg(problem, coef)
    value, gradient = objective_and_gradient(problem, coef)
    norm = float(np.linalg.norm(gradient))
    # With L2, F is strongly convex in w; where L1 stands alone, a point of the dual says how low F can be.
    above = norm**2 / (2 * problem.l2) if problem.l2 else duality_gap(problem, coef)
    bound = above / value
    if not bound <= 1e-6:
        warnings.warn(f"F* of {problem.name} is only known to {bound:.0e} relative", stacklevel=2)
    return Optimum(float(value), norm, float(bound), f"scikit-learn {solver}, then Newton-CG", accuracy(problem, coef))


def _scikit_learn(problem: Problem) -> tuple[str, np.ndarray]:
    from sklearn.linear_model import LogisticRegression

    from bench.solvers.scikit_learn import penalty

    n, d = problem.X.shape
    solver = "saga" if problem.l1 else "newton-cholesky" if d * problem.n_outputs <= 1000 else "lbfgs"
    effort = {"tol": 1e-3, "max_iter": 30, "random_state": 0} if problem.l1 else {"tol": 1e-7, "max_iter": 300}
    model = LogisticRegression(C=1 / (problem.alpha * n), solver=solver, **penalty(problem), **effort)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(problem.X64, problem.y)
    return solver, np.vstack([model.coef_.T, model.intercept_])


def _newton_cg(problem: Problem, coef: np.ndarray) -> np.ndarray:
    """Newton steps by conjugate gradients, until the gradient stops shrinking: squares the number of right digits.

    With L1 each step stays in an orthant, in which F is smooth: coordinates at zero move only where the subgradient
    wants them to, and those that would change their sign become zero. What F is flat in is kept in bounds by a multiple
    of the identity, more of it after a step that failed.
    """
    value, gradient = objective_and_gradient(problem, coef)
    damping, enough = (problem.alpha, 1e-14) if problem.l1 else (0.0, 1e-10)
    for _ in range(300 if problem.l1 else 30):
        norm = np.linalg.norm(gradient)
        if norm**2 / (2 * problem.alpha) < enough * value:
            break
        free, signs = np.ones(coef.shape, bool), np.zeros(coef.shape)
        if problem.l1:
            signs[:-1] = np.where(coef[:-1] == 0, -np.sign(gradient[:-1]), np.sign(coef[:-1]))
            free[:-1] = signs[:-1] != 0
        product = _hessian(problem, coef, damping)
        step = _conjugate_gradients(
            lambda v, product=product, free=free: free * product(v), -gradient, tol=min(0.05, norm) * norm
        )
        for halving in 0.5 ** np.arange(12):
            new = coef + halving * step
            new[new * signs < 0] = 0
            new_value, new_gradient = objective_and_gradient(problem, new)
            if new_value <= value:
                break
        else:
            if not damping or damping > 1e6 * problem.alpha:
                break
            damping *= 10
            continue
        damping *= 0.3 if halving == 1 else 1.0 if halving > 0.1 else 3.0
        coef, value, gradient = new, new_value, new_gradient
    return coef


def duality_gap(problem: Problem, coef: np.ndarray) -> float:
    """F(coef) minus the dual's value at the residual, scaled until it is feasible: for L1 alone.

    With residuals s_i = dloss(z_i), scaled until |X' s / n| <= alpha, F* >= -mean of the losses' conjugates at s. The
    residuals' sum should be zero: what it misses, times the intercept, is added.
    """
    from scipy.special import xlogy

    z = problem.X64 @ coef[:-1] + coef[-1]
    _, residual = loss_and_residual(problem, z)
    n = len(z)
    scale = min(1.0, problem.l1 / max(np.abs(problem.X64.T @ residual).max() / n, 1e-300))
    s = scale * residual
    if problem.n_outputs == 1:
        a = np.clip(-problem.y[:, None] * s, 0, 1)
        conjugates = (xlogy(a, a) + xlogy(1 - a, 1 - a))[:, 0]
    else:
        p = s.copy()
        p[np.arange(n), problem.y.astype(np.intp)] += 1
        p = np.clip(p, 0, 1)
        conjugates = xlogy(p, p).sum(1)
    missed = np.abs(residual.mean(0) * coef[-1]).sum()
    return float(objective_and_gradient(problem, coef)[0] + conjugates.mean() + missed)


def _hessian(problem: Problem, coef: np.ndarray, damping: float = 0.0):
    """The map v -> (Hessian of F at `coef` + damping I) v."""
    X, n = problem.X64, problem.X.shape[0]
    z = X @ coef[:-1] + coef[-1]
    if problem.n_outputs == 1:
        p = 1 / (1 + np.exp(-np.clip(z, -700, 700)))
        curve = lambda u: p * (1 - p) * u  # noqa: E731
    else:
        p = np.exp(z - z.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        curve = lambda u: p * (u - (p * u).sum(1, keepdims=True))  # noqa: E731

    def product(v):
        u = curve(X @ v[:-1] + v[-1])
        out = np.vstack([X.T @ u, u.sum(0)]) / n
        out[:-1] += problem.l2 * v[:-1]
        return out + damping * v

    return product


def _conjugate_gradients(product, b: np.ndarray, tol: float, max_iter: int = 200) -> np.ndarray:
    x, r, p = np.zeros_like(b), b.copy(), b.copy()
    rr = np.vdot(r, r)
    for _ in range(max_iter):
        if rr <= tol**2:
            break
        hp = product(p)
        a = rr / np.vdot(p, hp)
        x += a * p
        r -= a * hp
        rr, old = np.vdot(r, r), rr
        p = r + rr / old * p
    return x
