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

    All arithmetic is float64, also on float32 data: in float32 the line search fails long before 1e-6.
    With L1 the coefficients are differences of two that are bounded by zero, in which F is smooth: what rests on both
    bounds is exactly zero. The gradient is then F's subgradient of least norm.

    References
    ----------
    Byrd, Lu, Nocedal, Zhu, "A limited memory algorithm for bound constrained optimization", 1995.
    """
    monitor = Monitor(objective, tol, verbose)
    last: dict[str, Any] = {}

    penalised = objective.n_features * objective.n_outputs if objective.l1 else 0

    def parameters(x: NDArray[np.float64]) -> NDArray[np.float64]:
        w = x[: x.size - penalised].copy()
        w[:penalised] -= x[x.size - penalised :]
        return w

    def function(x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        w = parameters(x)
        value, gradient = objective.smooth_value_and_gradient(w)
        least = gradient
        if penalised:
            parts = x[:penalised], x[x.size - penalised :]
            least = gradient.copy()
            least[:penalised] = objective.penalty.subgradient(w[:penalised], gradient[:penalised])
            gradient = np.concatenate([gradient, -gradient[:penalised]])
            gradient[:penalised] += objective.l1
            gradient[x.size - penalised :] += objective.l1
            value += objective.l1 * float(parts[0].sum() + parts[1].sum())
        last.update(x=x.copy(), value=value, norm=float(np.linalg.norm(least)))
        return value, gradient

    def callback(flat: NDArray[np.float64]) -> None:
        if not np.array_equal(last["x"], flat):
            function(flat)
        w = parameters(flat)
        converged = monitor.record(last["value"], last["norm"], state["n_iter"] + 1, math.nan, w)
        state.update(w=w, n_iter=state["n_iter"] + 1)
        if converged:
            raise StopIteration

    start = np.asarray(w, dtype=np.float64).reshape(-1)
    state: dict[str, Any] = {"w": start, "n_iter": 0}
    reason = "max_iter"
    if monitor.check(start, 0):
        reason = "tol"
    else:
        # scipy's own tests never end it before ours: they are on the largest entry and on F's relative change.
        options = {"maxiter": max_iter, "maxfun": 20 * max_iter + 20, "gtol": 0.0, "ftol": 0.0, "maxls": 50}
        try:
            x, bounds = start, None
            if penalised:
                signed = start[:penalised]
                x = np.concatenate([np.maximum(signed, 0), start[penalised:], np.maximum(-signed, 0)])
                free = [(None, None)] * (start.size - penalised)
                bounds = [(0, None)] * penalised + free + [(0, None)] * penalised
            found = optimize.minimize(
                function, x, jac=True, method="L-BFGS-B", options=options, callback=callback, bounds=bounds
            )
            if monitor.grad_norm <= tol:
                reason = "tol"
            elif state["n_iter"] < max_iter and found.status != 1:
                reason = "stalled"
        except KeyboardInterrupt:
            reason = "interrupted"
    best = state["w"].reshape(objective.shape).astype(objective.design.dtype)
    return monitor.result(best, state["n_iter"], reason)
