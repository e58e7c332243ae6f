"""scipy's L-BFGS-B on the compiled objective."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from fastopt.objective import Objective
from fastopt.solvers.monitor import Monitor, Reporter, Result

__all__ = ["lbfgs"]


def lbfgs(objective: Objective, w: NDArray[Any], *, tol: float, max_iter: int, verbose: int | Reporter = 0) -> Result:
    """Minimises F from w by L-BFGS with 10 corrections, until the Euclidean norm of the gradient is at most tol.

    All arithmetic is float64, also on float32 data: in float32 the line search fails long before 1e-6. With L1 the
    coefficients are w = p - n, p and n >= 0, where F is smooth: L1 is ``l1 (sum p + sum n)``. Zeros are exact.

    References
    ----------
    Byrd, Lu, Nocedal, Zhu, "A limited memory algorithm for bound constrained optimization", 1995.
    """
    monitor = Monitor(objective, tol, verbose)
    start = np.asarray(w, dtype=np.float64).reshape(-1)
    last: dict[str, Any] = {}

    l1, penalised = objective.l1, objective.n_features * objective.n_outputs

    def joined(x: NDArray[np.float64]) -> NDArray[np.float64]:
        """w of x = (p, intercepts, n)."""
        if not l1:
            return x
        flat = x[: len(start)].copy()
        flat[:penalised] -= x[len(start) :]
        return flat

    def function(x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        flat = joined(x)
        value, gradient = objective.smooth_value_and_gradient(flat)
        w, g = flat[:penalised], gradient[:penalised]
        least = np.concatenate([objective.penalty.subgradient(w, g), gradient[penalised:]])
        total = value + l1 * float(np.abs(w).sum()) if l1 else value
        last.update(x=x.copy(), value=total, norm=float(np.linalg.norm(least)))
        if not l1:
            return value, gradient
        gradient = np.concatenate([gradient, l1 - g])
        gradient[:penalised] += l1
        return value + l1 * float(x[:penalised].sum() + x[len(start) :].sum()), gradient

    def callback(flat: NDArray[np.float64]) -> None:
        if not np.array_equal(last["x"], flat):
            function(flat)
        w = joined(flat).copy()
        converged = monitor.record(last["value"], last["norm"], state["n_iter"] + 1, math.nan, w)
        state.update(w=w, n_iter=state["n_iter"] + 1)
        if converged:
            raise StopIteration

    state: dict[str, Any] = {"w": start, "n_iter": 0}
    reason = "max_iter"
    if monitor.check(start, 0):
        reason = "tol"
    else:
        # scipy's own tests never end it before ours: they are on the largest entry and on F's relative change.
        options = {"maxiter": max_iter, "maxfun": 20 * max_iter + 20, "gtol": 0.0, "ftol": 0.0, "maxls": 50}
        x0, bounds = start, None
        if l1:
            x0 = np.concatenate([start, np.maximum(-start[:penalised], 0.0)])
            x0[:penalised] = np.maximum(start[:penalised], 0.0)
            low = np.zeros(len(x0))
            low[penalised : len(start)] = -np.inf
            bounds = optimize.Bounds(low, np.inf)
        try:
            found = optimize.minimize(
                function, x0, jac=True, method="L-BFGS-B", bounds=bounds, options=options, callback=callback
            )
            if monitor.grad_norm <= tol:
                reason = "tol"
            elif state["n_iter"] < max_iter and found.status != 1:
                reason = "stalled"
        except KeyboardInterrupt:
            reason = "interrupted"
    best = state["w"].reshape(objective.shape).astype(objective.design.dtype)
    return monitor.result(best, state["n_iter"], reason)
