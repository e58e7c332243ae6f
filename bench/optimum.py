"""F*, the smallest value of F: computed once in float64 by a trusted solver, checked by its gradient, kept on disk."""

from __future__ import annotations

import json
import math
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from bench.problems import ROOT, Problem

CACHE = ROOT / "bench" / "results" / "cache"


@dataclass(frozen=True)
class Optimum:
    objective: float
    grad_norm: float
    bound: float  # relative: F* cannot be lower than objective * (1 - bound), since F is alpha-strongly convex in w
    solver: str
    accuracy: float = math.nan  # on the test rows


def kept(problem: Problem) -> Path:
    """Where the optimum of `problem` is, once it is known."""
    return CACHE / f"optimum-{problem.key}.json"


def seconds(problem: Problem) -> float:
    """About what `find` will take."""
    return 0.0 if kept(problem).exists() else 1e-6 * problem.n_entries * problem.n_outputs


def find(problem: Problem) -> Optimum:
    """The cached optimum of `problem`, or a new one."""
    path = kept(problem)
    if path.exists():
        return Optimum(**json.loads(path.read_text()))
    optimum = _compute(problem)
    CACHE.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(optimum)))
    return optimum


def _compute(problem: Problem) -> Optimum:
    from bench.judge import accuracy, objective_and_gradient

    solver, coef = _scikit_learn(problem)
    coef = _newton_cg(problem, coef)
    value, gradient = objective_and_gradient(problem, coef)
    norm = float(np.linalg.norm(gradient))
    bound = norm**2 / (2 * problem.alpha) / value
    if bound > 1e-6:
        warnings.warn(f"F* of {problem.name} is only known to {bound:.0e} relative", stacklevel=2)
    return Optimum(float(value), norm, float(bound), f"scikit-learn {solver}, then Newton-CG", accuracy(problem, coef))


def _scikit_learn(problem: Problem) -> tuple[str, np.ndarray]:
    from sklearn.linear_model import LogisticRegression

    n, d = problem.X.shape
    solver = "newton-cholesky" if d * problem.n_outputs <= 1000 else "lbfgs"
    model = LogisticRegression(C=1 / (problem.alpha * n), solver=solver, tol=1e-7, max_iter=300)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(problem.X64, problem.y)
    return solver, np.vstack([model.coef_.T, model.intercept_])


def _newton_cg(problem: Problem, coef: np.ndarray, steps: int = 30) -> np.ndarray:
    """Newton steps by conjugate gradients, until the gradient stops shrinking: squares the number of right digits."""
    from bench.judge import objective_and_gradient

    value, gradient = objective_and_gradient(problem, coef)
    for _ in range(steps):
        norm = np.linalg.norm(gradient)
        if norm**2 / (2 * problem.alpha) < 1e-10 * value:
            break
        step = _conjugate_gradients(_hessian(problem, coef), -gradient, tol=min(0.05, norm) * norm)
        for halving in 0.5 ** np.arange(12):
            new_value, new_gradient = objective_and_gradient(problem, coef + halving * step)
            if new_value <= value:
                break
        else:
            break
        coef, value, gradient = coef + halving * step, new_value, new_gradient
    return coef


def _hessian(problem: Problem, coef: np.ndarray):
    """The map v -> Hessian of F at `coef`, times v."""
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
        out[:-1] += problem.alpha * v[:-1]
        return out

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
