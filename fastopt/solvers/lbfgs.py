"""scipy's L-BFGS-B on the compiled objective."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from fastopt.objective import Objective
from fastopt.solvers.monitor import Monitor, Result, norm

__all__ = ["lbfgs"]


def lbfgs(objective: Objective, w: NDArray[Any], *, tol: float, max_iter: int, verbose: int = 0) -> Result:
    """Minimises F from w by L-BFGS with 10 corrections, until the Euclidean norm of the gradient is at most tol.

    All arithmetic is float64, also on float32 data: in float32 the line search fails long before 1e-6. A run cannot be
    taken up again bit for bit: scipy does not hand out the corrections.

    References
    ----------
    Byrd, Lu, Nocedal, Zhu, "A limited memory algorithm for bound constrained optimization", 1995.
    """
    monitor = Monitor(objective, tol, verbose)
    last: dict[str, Any] = {}

    def function(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        value, gradient = objective.value_and_gradient(flat)
        last.update(x=flat.copy(), value=value, norm=norm(gradient))
        return value, gradient

    def callback(flat: NDArray[np.float64]) -> None:
        if not np.array_equal(last["x"], flat):
            function(flat)
        converged = monitor.record(last["value"], last["norm"], state["n_iter"] + 1)
        state.update(w=flat.copy(), n_iter=state["n_iter"] + 1)
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
            found = optimize.minimize(function, start, jac=True, method="L-BFGS-B", options=options, callback=callback)
            if monitor.grad_norm <= tol:
                reason = "tol"
            elif state["n_iter"] < max_iter and found.status != 1:
                reason = "stalled"
        except KeyboardInterrupt:
            reason = "interrupted"
    best = state["w"].reshape(objective.shape).astype(objective.design.dtype)
    return monitor.result(best, state["n_iter"], reason)
