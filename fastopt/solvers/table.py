"""Ways to the minimum that are not update rules, by name, and what each of them can do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fastopt.objective import Objective
from fastopt.solvers.lbfgs import lbfgs
from fastopt.solvers.monitor import Result
from fastopt.solvers.newton import newton
from fastopt.solvers.newton_cg import newton_cg
from fastopt.solvers.saga import saga
from fastopt.solvers.sdca import LOSSES as DUAL_LOSSES
from fastopt.solvers.sdca import sdca

__all__ = ["SOLVERS", "Solver", "able"]


@dataclass(frozen=True)
class Solver:
    """A row of `SOLVERS`.

    Attributes
    ----------
    run : callable
        ``run(objective, w, *, tol, max_iter, verbose, course)``, with ``rng`` too if `shuffles`; returns a `Result`.
    shuffles : bool
        The order of the rows is drawn from a generator.
    softmax : bool
        The softmax loss of several outputs.
    outputs : bool
        Several outputs with a loss each: one-vs-rest.
    l1 : bool
        The penalty may have an L1 part.
    needs_l2 : bool
        The penalty must have an L2 part.
    kinks : bool
        Losses without a bound on their curvature.
    losses : tuple of str, or None for all
    most : float
        Parameters at most: a Hessian of more takes gigabytes, and its factors minutes.
    """

    run: Callable[..., Result]
    shuffles: bool = False
    softmax: bool = False
    outputs: bool = False
    l1: bool = False
    needs_l2: bool = False
    kinks: bool = False
    losses: tuple[str, ...] | None = None
    most: float = float("inf")

    def obstacle(self, objective: Objective) -> str:
        """What about this objective the solver cannot minimise; empty if it can."""
        if objective.n_outputs > 1 and not (self.softmax if objective.loss.targets == "multiclass" else self.outputs):
            return f"{objective.n_outputs} outputs at once"
        if objective.l1 and not self.l1:
            return "an L1 penalty"
        if self.needs_l2 and not objective.l2 > 0:
            return "F without an L2 penalty"
        # L1 keeps most of them at zero.
        if (parameters := objective.shape[0] * objective.n_outputs) > self.most and not objective.l1:
            return f"a function of {parameters:,} parameters (at most {self.most:,})"
        if self.losses is not None:
            return "" if objective.loss.name in self.losses else f"the loss {objective.loss.name!r}"
        if objective.loss.max_curvature == float("inf") and not self.kinks:
            return f"the loss {objective.loss.name!r}"
        return ""


#: Every solver that is not an update rule by the name that the estimators' `solver` takes.
SOLVERS: dict[str, Solver] = {
    "lbfgs": Solver(lbfgs, softmax=True, outputs=True, l1=True, kinks=True),
    "newton": Solver(newton, softmax=True, outputs=True, l1=True, most=5000),
    "newton-cg": Solver(newton_cg, softmax=True, outputs=True),
    "sdca": Solver(sdca, shuffles=True, softmax=True, needs_l2=True, losses=DUAL_LOSSES),
    "saga": Solver(saga, shuffles=True, softmax=True, l1=True),
}


def able(objective: Objective) -> list[str]:
    """The names of the solvers that can minimise this objective."""
    return [name for name, solver in SOLVERS.items() if not solver.obstacle(objective)]
