"""solver="auto": the fastest way to tol for this problem, and another one where it gets stuck."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastopt.objective import Objective
from fastopt.solvers.lbfgs import lbfgs
from fastopt.solvers.monitor import Result
from fastopt.solvers.newton import newton

__all__ = ["FINISHERS", "auto", "choose"]

#: Ways to the minimum that are not update rules, by name.
FINISHERS: dict[str, Callable[..., Result]] = {"lbfgs": lbfgs, "newton": newton}

#: Multiplications of a Hessian that takes a millisecond: then "newton" is at home everywhere.
SMALL = 50_000_000


def choose(objective: Objective) -> list[str]:
    """The solvers to try, one where the last one stalled.

    "newton" where the Hessian on all the rows costs less than five passes: a step of either is a pass, and Newton needs
    5 to 10 of both where L-BFGS needs 20 to 200; and on small data, where it is the most robust. Milliseconds to a relative gap of 1e-4 / 1e-6 at alpha = 1/n, one
    thread, "newton" against "lbfgs" (both in `bench.problems`):

    =====================  =====================  ===========  =============
    problem                rows x columns         newton       lbfgs
    =====================  =====================  ===========  =============
    ill_conditioned        500,000 x 50           91 / 116     119 / 147
    flights_dense          327,346 x 38           59 / 95      461 / 592
    digits_parity          1,797 x 64             3.4 / 3.4    3.5 / 5.5
    breast_cancer          569 x 30               1.5 / 1.6    3 / 4.5
    mushrooms (CSR)        8,124 x 127            22 / 35      23 / 34
    digits                 1,797 x 64, softmax    142 / 174    34 / 54
    =====================  =====================  ===========  =============
    """
    parameters = objective.shape[0] * objective.n_outputs
    if hessian_passes(objective) < 5 or objective.n_samples * parameters**2 < SMALL:
        return ["newton", "lbfgs"]
    return ["lbfgs", "newton"] if parameters <= 2000 else ["lbfgs"]


def hessian_passes(objective: Objective) -> float:
    """What the Hessian on all rows costs, in passes.

    A row of p parameters takes p^2 / 2 multiplications of BLAS, some 0.02 ns for each p^2; its pass 15 ns and 0.8 ns
    for each entry and output.
    """
    parameters = objective.shape[0] * objective.n_outputs
    entries = objective.design.n_stored / objective.n_samples * objective.n_outputs
    return 0.02 * parameters**2 / (15 + 0.8 * entries)


def auto(
    objective: Objective, w: NDArray[Any], *, tol: float, max_iter: int, verbose: int = 0
) -> tuple[str, Result]:  # fmt: skip
    """Minimises F from w by the solver that `choose` names first; where it stalls, the next goes on.

    Returns
    -------
    name : str
        The solver that ran, or several joined by "+".
    result : Result
        Its history and iterations are those of all that ran.
    """
    names: list[str] = []
    result: Result | None = None
    for name in choose(objective):
        done = result.n_iter if result is not None else 0
        start = w if result is None else result.w
        new = FINISHERS[name](objective, start, tol=tol, max_iter=max_iter - done, verbose=verbose)
        result = new if result is None else _after(result, new)
        names.append(name)
        if new.stop_reason != "stalled" or result.n_iter >= max_iter:
            break
    assert result is not None
    return "+".join(names), result


def _after(first: Result, second: Result) -> Result:
    """The result of two solvers one after the other; the first one's parameters if the second one's are worse."""
    shifts = {"epoch": first.n_iter, "seconds": first.history["seconds"][-1]}
    history = {
        key: np.concatenate([column, second.history[key][1:] + shifts.get(key, 0)])
        for key, column in first.history.items()
    }
    return replace(second, n_iter=first.n_iter + second.n_iter, history=history)
