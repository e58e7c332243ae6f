"""Newton's method by conjugate gradients: products with the Hessian in its place, for any number of columns."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastopt.objective import Objective
from fastopt.solvers.monitor import ROUNDING, Monitor, Reporter, Result, norm
from fastopt.solvers.quadratic import factor
from fastopt.solvers.resume import Course
from fastopt.solvers.scaled import Scaled

__all__ = ["newton_cg"]

Float64 = NDArray[np.float64]

#: Steps of conjugate gradients that one of Newton's takes at most, and how many are long enough for factors to pay.
MOST, LONG = 200, 8
#: Rows for each column of dense data that factors are made of.
ROWS = 16
#: A step along which the slope is still more than this part of what it was at its start was too short.
SHORT = 0.5


def newton_cg(
    objective: Objective, w: NDArray[Any], *, tol: float, max_iter: int, verbose: int | Reporter = 0,
    course: Course | None = None,
) -> Result:  # fmt: skip
    """Minimises F from w by truncated Newton steps, until the Euclidean norm of F's gradient is at most tol.

    Each step solves ``H d = -g`` by conjugate gradients, as exactly as the gradient's fall so far deserves; a product
    with H is a pass over X, of which only the losses' second derivatives are kept. The step's length is 1 unless F does
    not fall enough there or still falls steeply: then it minimises F along the step, from raw predictions alone.

    The conjugate gradients are those of the variables of "lbfgs" (`Scaled`); where they have taken as many steps as
    factors of a Hessian of one output would cost, and the last direction took many, they go on with these, and with new
    ones after as many again: where columns hang together that leaves a half to a third of the steps.

    All arithmetic is float64, also on float32 data. The result is rounded to X's type if its gradient's norm remains
    within tol.

    References
    ----------
    Nocedal, Wright, "Numerical optimization", 2006, section 7.1. Dembo, Steihaug, "Truncated-Newton algorithms for
    large-scale unconstrained optimization", Mathematical Programming 26, 1983.
    """
    monitor, course = Monitor(objective, tol, verbose), course or Course()
    start = np.array(w, dtype=np.float64)
    like = {"w": start, "first": 0.0, "last": 0, "spent": 0, "whitened": True, "point": start}
    before = course.taken_up("newton-cg", like)
    if before is not None and before["first"] > 0:
        descent, done = ConjugateDescent.from_dict(objective, before), before["epoch"]
        monitor.go_on(before["rows"])
    else:
        descent, done = ConjugateDescent(objective, start), 0
        monitor.record(descent.value, norm(descent.gradient), 0, math.nan, descent.w)
    result, reason = descent.w, "tol" if monitor.grad_norm <= tol else "max_iter"

    def run() -> dict[str, Any]:
        return {"solver": "newton-cg", "epoch": done, "rows": np.array(monitor.rows), **descent.as_dict()}

    def so_far() -> Result:
        return monitor.rounded_result(result, done, reason)

    try:
        while reason != "tol" and done < max_iter:
            if not descent.step(tol):
                reason = "stalled"
                course.keep(run, so_far, last=True)
                break
            converged = monitor.record(descent.value, norm(descent.gradient), done + 1, math.nan, descent.w)
            result, done, reason = descent.w, done + 1, "tol" if converged else reason
            course.keep(run, so_far, last=converged or done == max_iter)
    except KeyboardInterrupt:
        reason = "interrupted"
    return so_far()


class ConjugateDescent:
    """Newton steps on one objective: the point, F, its gradient and the raw predictions there.

    `first` is the gradient's norm at the first point of all, `last` the steps of conjugate gradients that the last
    direction took, `spent` those since factors were made at `point`, or since the start.
    """

    @np.errstate(all="ignore")  # what is not finite is no step
    def __init__(self, objective: Objective, w: Float64, first: float | None = None) -> None:
        self.objective, self.w = objective, w
        self.spent = self.last = 0
        self.value, self.gradient, _, self.kept = objective.measured(self.w)
        self.first = norm(self.gradient) if first is None else first
        self.scaled = Scaled(objective)
        if first is None and self.scaled.groups is not None and w.any():
            self.w = w.copy()
            self.scaled.groups.center(self.w)
            self.value, self.gradient, _, self.kept = objective.measured(self.w)
        self.point: Float64 | None = None
        #: By factors, once there are some; not a method of its own, since that cycle would hold X.
        self.inverse: Callable[[Float64], Float64] | None = None
        self.due = steps_of_factors(objective)

    def as_dict(self) -> dict[str, Any]:
        """All that `from_dict` needs; factors are made again there."""
        point = self.w if self.point is None else self.point
        return {
            "w": self.w, "first": self.first, "last": self.last, "spent": self.spent, "point": point,
            "whitened": self.point is not None,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, objective: Objective, found: dict[str, Any]) -> ConjugateDescent:
        """The descent as it was."""
        descent = cls(objective, found["w"], found["first"])
        if found["whitened"]:
            descent.whiten(found["point"])
        descent.last, descent.spent = found["last"], found["spent"]
        return descent

    @np.errstate(all="ignore")
    def step(self, tol: float) -> bool:
        """One step down; False if there is none at this precision."""
        F = self.objective
        if self.spent >= self.due and self.last >= LONG:
            self.whiten(self.w)
        size = norm(self.gradient)
        d = self.direction(max(min(0.5, (size / self.first) ** 0.3) * size, 0.7 * tol))
        slope, t = float(np.vdot(self.gradient, d)), 1.0
        if not -math.inf < slope < 0:
            return False
        noise = ROUNDING * abs(self.value)

        def falls() -> bool:
            return value <= self.value + 1e-4 * t * slope + noise

        w = self.w + d
        value, gradient, _, kept = F.measured(w)
        if not falls() or np.vdot(gradient, d) < SHORT * slope:
            t = 2 * F.step_length(self.w, d, slope, self.kept, kept)
            for _ in range(30):
                t /= 2
                w = self.w + t * d
                value, gradient, _, kept = F.measured(w)
                if falls():
                    break
        if not falls() or (value > self.value - noise and not norm(gradient) < size):
            return False
        self.w, self.value, self.gradient, self.kept = w, value, gradient, kept
        return True

    def direction(self, goal: float) -> Float64:
        """d with ``|H d + g|`` at most the goal, or the best of as many conjugate gradients as may be spent on it."""
        F, g, bends = self.objective, self.gradient, self.objective.bends(self.kept)
        inverse = self.inverse or self.scaled_inverse
        d, r = np.zeros(g.shape), -g
        p = z = inverse(r)
        height = float(np.vdot(r, z))
        for self.last in range(1, MOST + 1):
            product = F.hessian_product(self.w, p, bends)
            self.spent += 1
            bend = float(np.vdot(p, product))
            if not (0 < bend < math.inf and 0 < height < math.inf):
                break
            d += (height / bend) * p
            r -= (height / bend) * product
            if norm(r) <= goal or (self.point is None and self.last >= LONG and self.spent >= self.due):
                break
            z = inverse(r)
            before, height = height, float(np.vdot(r, z))
            p = z + (height / before) * p
        return d if d.any() else p

    def scaled_inverse(self, r: Float64) -> Float64:
        """About ``H^-1 r``, by the variables of "lbfgs"."""
        return self.scaled.parameters(self.scaled.gradient(r))

    @np.errstate(all="ignore")
    def whiten(self, point: Float64) -> None:
        """Conjugate gradients go on with factors of one output's Hessian, of the outputs' mean at this point."""
        self.point, self.spent = point, 0
        part = sample(self.objective)
        weights = part.bends(part.measured(point)[-1])[:, : part.n_outputs]
        if part.loss.targets == "multiclass":
            weights = weights * (1 - weights)
        if len(part.weights):
            weights = weights * part.weights.reshape(len(weights), -1)
        weights = weights.mean(axis=1)
        mean = float(weights.mean())
        if not 0 < mean < math.inf:
            return
        one = Objective(
            part.design, np.zeros(part.n_samples), loss="squared_error", alpha=part.l2 / mean, sample_weight=weights,
            fit_intercept=part.fit_intercept, n_jobs=part.n_jobs,
        )  # fmt: skip
        H = one.hessian(one.zeros())
        if np.isfinite(H).all():
            self.inverse = factor(H, float(np.finfo(part.design.dtype).eps))


def sample(objective: Objective) -> Objective:
    """F of as many rows as factors are made of: a sparse column may be missing in some, but all others are alike."""
    return objective if objective.design.sparse else objective.sample(max(1024, ROWS * objective.shape[0]))


def steps_of_factors(objective: Objective) -> float:
    """How many steps of conjugate gradients the factors of one output's Hessian cost; infinite where they do not pay.

    In nanoseconds, one thread of an EPYC: a row of the Hessian takes 0.5 for each column and 0.04 for each two of them,
    the factors 0.05 for each three, beside 300,000; a product 0.35 for each entry and output, beside 20,000.
    """
    n, d = objective.design.shape
    stored = objective.design.n_stored
    if d**2 > 4 * stored:  # a step would take longer by more than it saves
        return math.inf
    rows = n if objective.design.sparse else min(n, max(1024, ROWS * d))
    factors = 300_000 + rows * (0.5 * d + 0.04 * d**2) + 0.05 * d**3
    return factors / (20_000 + 0.35 * stored * objective.n_outputs)
