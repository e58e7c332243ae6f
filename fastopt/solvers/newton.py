"""Newton's method by Cholesky factors, for few columns, or few that L1 keeps: curvature from a sample of the rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastopt.objective import Objective
from fastopt.solvers.columns import ColumnDescent
from fastopt.solvers.monitor import ROUNDING, Monitor, Reporter, Result, norm, rounded
from fastopt.solvers.quadratic import factor, minimiser
from fastopt.solvers.resume import Course

__all__ = ["newton"]

Float64 = NDArray[np.float64]
#: F, its gradient, that of its smooth part, and raw predictions, as `Objective.measured` has them.
Measured = tuple[float, Float64, Float64, Float64 | None]

#: Each sample of the first steps is so many times larger than the one before.
GROWTH = 8
#: Rows per parameter of the smallest sample.
ROWS_PER_PARAMETER = 4
#: A step is slow if it leaves more than this part of the Newton decrement (squared): curvature is renewed.
SLOW = 0.02
#: A step that should lower F by half of this part of it starts far from the minimum: its length is searched for.
FAR = 0.02
#: A step of length 0.5 to 1.5 with the Hessian of its start that leaves more than this is due to rounding (far away a
#: whole one leaves 1/e^2).
HOPELESS = 0.3
#: Parameters beyond which L1 is met in rounds of those that it does not keep at zero; the first round's, for each of 16
#: outputs at most.
MANY, FIRST = 128, 16
#: A round goes through columns if its Hessian and the factors take more multiplications than these for each entry and
#: output: with one output, and with several, whose Hessian takes several products.
ENTRY, ENTRY_OF_SEVERAL = 3000, 2000
#: Multiplications for each entry that take as long as a sweep over the columns: a round of sweeps that takes longer
#: than its Hessian is the last one.
SWEEP = 30
#: Multiplications beyond which there is no Hessian, whatever sweeps cost. On dense data of more rows than columns the
#: rounds then end, and L-BFGS goes on.
MOST = 6_000_000_000
#: The distance from 1 to the next number of a type.
EPSILON: dict[np.dtype[Any], float] = {np.dtype(name): float(np.finfo(name).eps) for name in ("float32", "float64")}


def newton(
    objective: Objective, w: NDArray[Any], *, tol: float, max_iter: int, verbose: int | Reporter = 0,
    course: Course | None = None, begin: Callable[..., tuple[Float64, Curvature | None]] | None = None,
) -> Result:  # fmt: skip
    """Minimises F from w by Newton steps ``w -= t H^-1 g`` until the Euclidean norm of g is at most tol.

    g is F's gradient over all the data, by which it also stops, so that a step costs one pass; H is the Hessian of an
    earlier point on a sample of the rows, renewed when a step was slow, each time on four times as many rows, in the
    end on all. t is 1 near the minimum; farther away, where whole steps are too short, it minimises F along the step.
    It is halved until F falls (Armijo's rule). From w = 0 the first steps minimise F of samples that grow eightfold;
    `begin`, if given, is what to do instead.

    With L1 each step goes to the minimum of the quadratic that g and H make of F's smooth part, plus the L1 part
    (`minimiser`), which sets coefficients to exactly zero, and far from the end beyond it; and where there are more
    than some columns, or these are sparse, in rounds of the columns that L1 leaves (`Rounds`), each of which counts as
    a step.

    H is factorised with a ridge as small as rounding allows, in proportion to its diagonal, so that columns of any
    scale will do, and singular ones. Its products are of X's type, their sums float64; where float32 is not
    good enough for a step that lowers the decrement, float64 takes over. The iterates are rounded to X's type before
    they are measured, unless F could not fall to tol: the result is then float64.

    References
    ----------
    Erdogdu, Montanari, "Convergence rates of sub-sampled Newton methods", NIPS 2015 (H from a sample). Boyd,
    Vandenberghe, "Convex optimization", 2004, sections 9.5.1 and 9.5.2 (Newton decrement, damped steps). Lee, Sun,
    Saunders, "Proximal Newton-type methods for minimizing composite functions", SIAM J. Optimization 24(3), 2014.
    """
    monitor, course = Monitor(objective, tol, verbose), course or Course()
    start = result = np.asarray(w, dtype=np.float64)
    done, reason, warm = 0, "max_iter", False
    kind: type[Descent | Rounds] = Rounds if by_rounds(objective) else Descent
    descent: Descent | Rounds

    def run() -> dict[str, Any]:
        return {"solver": "newton", "epoch": done, "rows": np.array(monitor.rows), **descent.as_dict()}

    def so_far() -> Result:
        single = rounded(result, objective.design.dtype)
        return monitor.result(single if np.array_equal(single, result) else result, done, reason)

    before = course.taken_up("newton", {"w": start, "rounds": True, "point": start, "at_w": True, "rows_of": [0]})
    try:
        if before is not None and (found := kind.from_dict(objective, before)) is not None:
            descent, result, done, warm = found, found.w, before["epoch"], True
            monitor.go_on(before["rows"])
        elif kind is Descent and not start.any() and (sizes := sample_sizes(objective)):
            value = objective.value_at_zero()
            monitor.record(value, math.nan, 0, w=start)
            descent = Descent(objective, *(begin or warm_up)(objective, start, sizes))
            warm = descent.value < value
        if not warm:
            descent = kind(objective, start)
            result = descent.w
            if monitor.rows:
                monitor.forget_last()
            monitor.record(descent.value, norm(descent.gradient), 0, math.nan, descent.w)
        if monitor.grad_norm <= tol:
            reason = "tol"
        while reason != "tol" and done < max_iter:
            if (done or not warm) and not descent.step(tol):
                reason = "stalled"
                course.keep(run, so_far, last=True)
                break
            converged = monitor.record(descent.value, norm(descent.gradient), done + 1, math.nan, descent.w)
            result, done, reason = descent.w, done + 1, "tol" if converged else reason
            course.keep(run, so_far, last=reason == "tol" or done == max_iter)
    except KeyboardInterrupt:
        if not monitor.rows:  # there is no whole step yet
            raise
        reason = "interrupted"
    return so_far()


def sample_sizes(objective: Objective) -> list[int]:
    """How many rows each of the samples has whose minima lead to that of F, from the smallest on."""
    size, sizes = objective.n_samples // GROWTH, []
    while size >= max(1000, ROWS_PER_PARAMETER * objective.shape[0] * objective.n_outputs):
        sizes.append(size)
        size //= GROWTH
    return sizes[::-1]


def warm_up(objective: Objective, w: Float64, sizes: list[int]) -> tuple[Float64, Curvature | None]:
    """The minimum of F of growing samples, each to its statistical error, and the last one's curvature."""
    first, curvature = w, None
    for size in sizes:
        sample = objective.sample(size)
        if sample is objective:
            break
        level = Descent(sample, w, curvature=curvature, rounds=False, sample_of=(size,))
        # The minimum of a sample's F is off by half of this on all the data.
        error = w.size / size * max(level.value, 1e-3)
        for _ in range(20):
            if level.decrement <= 0.1 * error or not level.step():
                break
        w, curvature = level.w, level.curvature
    return (w, curvature) if np.isfinite(w).all() else (first, None)


class Descent:
    """Newton steps on one objective: the point, F and its gradient there, and a Hessian of some earlier point.

    The objective may be `part` of another, which has more columns.
    """

    def __init__(
        self, objective: Objective, w: Float64, curvature: Curvature | None = None, *, rounds: bool = True,
        sample_of: Sequence[int] = (), part: bool = False,
    ) -> None:  # fmt: skip
        self.objective, self.sample_of, self.part = objective, sample_of, part
        self.rounds = rounds and objective.design.dtype != np.float64
        w = self._rounded(w)
        self._move(w, objective.measured(w))
        self._curvature = curvature
        self._direction: Float64 | None = None

    def _move(self, w: Float64, found: Measured) -> None:
        """To w, where this was measured."""
        self.w = w
        self.value, self.gradient, self.slope, self.raw = found

    def as_dict(self) -> dict[str, Any]:
        """All that `from_dict` needs; the Hessian is made again there."""
        c = self.curvature
        return {
            "w": self.w, "rounds": self.rounds, "point": c.point, "at_w": c.point is self.w, "rows_of": [*c.rows_of],
            "dtype": c.dtype.name,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, objective: Objective, found: dict[str, Any]) -> Descent | None:
        """The descent as it was, or None if its Hessian is of what there is not."""
        rows, dtype = found["rows_of"], str(found.get("dtype"))
        are_sizes = all(type(size) is int and 0 < size <= objective.n_samples for size in rows)
        if dtype not in ("float32", "float64") or not 0 < len(rows) <= 2 or not are_sizes:
            return None
        descent = cls(objective, found["w"], rounds=False)
        descent.rounds = found["rounds"]
        point = descent.w if found["at_w"] else found["point"]
        base = objective if len(rows) == 1 else objective.sample(rows[0])
        descent._curvature = Curvature(base, point, rows[-1], dtype, rows[:-1])
        return descent

    @property
    def curvature(self) -> Curvature:
        """The Hessian in use, made when it is first asked for."""
        if self._curvature is None:
            n, dtype = self.objective.n_samples, self.objective.design.dtype
            self._curvature = Curvature(self.objective, self.w, n, dtype, self.sample_of, raw=self.raw)
        return self._curvature

    @property
    def direction(self) -> Float64:
        """``-H^-1 g``, or with L1 the way to the minimum of the quadratic and the L1 part."""
        if self._direction is None:
            self._direction = self.curvature.direction(self.w, self.slope)
        return self._direction

    @property
    def decrement(self) -> float:
        """``g' H^-1 g``: twice what a Newton step should lower F by."""
        return self._fall(self.w, self.slope, self.direction)

    def _fall(self, w: Float64, slope: Float64, direction: Float64) -> float:
        """By how much F would fall along a direction if its smooth part were a plane."""
        fall = -float(np.vdot(slope, direction))
        if self.objective.l1:
            d = self.objective.n_features
            fall += self.objective.l1 * float((np.abs(w[:d]) - np.abs(w[:d] + direction[:d])).sum())
        return fall

    def step(self, tol: float = 0.0) -> bool:
        """One step down, with better curvature if need be; False if there is none at this precision."""
        while True:
            decrement, t = self.decrement, 1.0
            if decrement > FAR * abs(self.value) and not self.objective.l1:  # which wants whole steps for its zeros
                t = self.objective.step_length(self.w, self.direction, -decrement, self.raw)
            tries = 30 if self.curvature.point is self.w else 2
            while decrement > 0 and tries and self.value < math.inf:
                w = self._next(t, decrement)
                found = self.objective.measured(w)
                value, _, slope, _ = found
                noise = ROUNDING * abs(self.value)
                if value <= self.value - 1e-4 * t * decrement + noise:
                    if self.objective.l1 and decrement > FAR * abs(self.value):  # where new curvature is always better
                        self._move(*self._further(w, found))
                        return self.renew()
                    following = self.curvature.direction(w, slope)
                    left = self._fall(w, slope, following)
                    if value <= self.value - noise or left < decrement:
                        fresh = self.curvature.point is self.w and self.curvature.n_samples == self.objective.n_samples
                        self._move(w, found)
                        self._direction = following
                        if t != 1 or left > SLOW * decrement:
                            self.renew(finer=fresh and 0.5 < t < 1.5 and left > HOPELESS * decrement)
                        return True
                    break
                t, tries = t / 2, tries - 1
            if not self.renew():
                return False

    def _further(self, w: Float64, found: Measured) -> tuple[Float64, Measured]:
        """With L1, whose minimum of the quadratic w is: as far beyond it as F falls, if it does.

        What is zero there stays so, and signs stay as they are. On 29 problems with all columns in one Hessian the way
        to tol=1e-5 takes 0.71 of the steps so, and 0.83 of the time. Where the columns are but `part` of all, there are
        others to come, and on 15 problems it takes 1.05 of the time.
        """
        F, d = self.objective, self.objective.n_features
        if self.part or found[3] is None:  # rows are elsewhere: a measurement costs a round
            return w, found
        v, signs = w - self.w, np.sign(w[:d])
        v[:d][signs == 0] = 0
        along = F.l1 * float(np.vdot(signs, v[:d]))
        before, slope = (float(np.vdot(smooth, v)) + along for smooth in (self.slope, found[2]))
        if not slope < -0.1 * abs(before):
            return w, found
        new = w + F.step_length(w, v, slope, found[3], l1_slope=along) * v
        new[:d][np.sign(new[:d]) != signs] = 0
        new = self._rounded(new)
        beyond = F.measured(new)
        return (new, beyond) if beyond[0] < found[0] else (w, found)

    def renew(self, *, finer: bool = False) -> bool:
        """Better curvature: of this point, on more rows, in float64; or finer iterates. False if there is nothing."""
        last, n = self.curvature, self.objective.n_samples
        dtype: np.dtype[Any] = np.dtype(np.float64)
        if finer and last.dtype != np.float64:
            rows = n
        elif last.point is not self.w or last.n_samples < n:
            rows, dtype = min(n, 4 * last.n_samples), last.dtype
        elif last.dtype != np.float64:
            rows = n
        else:
            before, self.rounds = self.rounds, False
            return before
        self._curvature = Curvature(self.objective, self.w, rows, dtype, self.sample_of, last.some, self.raw)
        self._direction = None
        return True

    def _next(self, t: float, decrement: float) -> Float64:
        """The point at t; no longer rounded where that would change F as much as the step does."""
        exact = self.w + t * self.direction
        w = self._rounded(exact)
        if self.rounds and not self.curvature.square(w - exact) <= 0.1 * t * t * decrement:
            self.rounds, w = False, exact
        return w

    def _rounded(self, w: Float64) -> Float64:
        return rounded(w, self.objective.design.dtype).astype(np.float64) if self.rounds else w


def by_rounds(objective: Objective) -> bool:
    """Whether L1 leaves so many columns out that Hessians of the others alone are worth copying them."""
    return bool(objective.l1) and (objective.design.sparse or objective.shape[0] * objective.n_outputs > MANY)


class Rounds:
    """Descents in the coefficients that L1 does not keep at zero: the point, F and its gradient there.

    Each step takes those that are not zero, and those that F's gradient would move most, as many again: on a copy of
    their columns it goes down until the gradient is a tenth of what it was in all. With several outputs, whose Hessian
    costs far more than the copy, it ends where that is to be renewed. Hessians are of float32 products until these are
    not good enough for a step that lowers the decrement. Where they are too much, or lead nowhere, sweeps over the
    columns take their place (`ColumnDescent`), of three times as many again; until a round of these takes as long.

    References
    ----------
    Massias, Gramfort, Salmon, "Celer: a fast solver for the lasso with dual extrapolation", ICML 2018 (working sets).
    """

    def __init__(
        self, objective: Objective, w: Float64, *, rounds: bool = True, dtype: DTypeLike = np.float32,
        sweeps: bool = True,
    ) -> None:  # fmt: skip
        self.objective, self.rounds, self.w, self.dtype, self.sweeps = objective, rounds, w, np.dtype(dtype), sweeps
        self.value, self.gradient = objective.value_and_gradient(w)

    def as_dict(self) -> dict[str, Any]:
        """All that `from_dict` needs, by the names of `Descent`."""
        rows_of, dtype = [self.objective.n_samples], self.dtype.name
        return {
            "w": self.w, "rounds": self.rounds, "point": self.w, "at_w": True, "rows_of": rows_of, "dtype": dtype,
            "sweeps": self.sweeps,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, objective: Objective, found: dict[str, Any]) -> Rounds | None:
        """The rounds as they were, or None if their Hessian's type is none."""
        if (dtype := str(found.get("dtype"))) not in ("float32", "float64"):
            return None
        sweeps = found.get("sweeps") is not False  # of older versions there are none
        return cls(objective, found["w"], rounds=found["rounds"], dtype=dtype, sweeps=sweeps)

    def step(self, tol: float) -> bool:
        """One round down; False if there is none, at this precision or with so many coefficients of dense rows."""
        F, d, K = self.objective, self.objective.n_features, self.objective.n_outputs
        chosen = self._chosen(2, FIRST * min(K, 16))
        size, entries = len(chosen) + K, K * int(F.design.column_counts[np.unique(chosen // K)].sum())
        work = (F.n_samples + size) * size**2
        if work > MOST and not F.design.sparse and F.n_samples > d:
            return False
        by_hessian = self._hessian_pays(work, entries)
        if not by_hessian:
            chosen = self._chosen(4, 4 * FIRST)
        columns, column = np.unique(chosen // K, return_inverse=True)
        rows = np.append(columns, np.arange(d, F.shape[0]))
        some = np.append(column * K + chosen % K, np.arange(len(columns) * K, len(rows) * K))
        part, start = F.columns(columns), self.w[rows]
        if by_hessian and self._go_to(rows, self._by_hessian(part, start, some, tol)):
            return True
        w = self._by_columns(part, start, some, tol, work, entries)
        if self.rounds and self._go_to(rows, rounded(w, F.design.dtype).astype(np.float64)):
            return True
        self.rounds = False
        return self._go_to(rows, w)

    def _hessian_pays(self, work: int, entries: int) -> bool:
        """Whether a round's Hessian is the way: beside its entries it is cheap, or sweeps took longer and it can be."""
        cheap = ENTRY if self.objective.n_outputs == 1 else ENTRY_OF_SEVERAL
        return work <= cheap * entries or (work <= MOST and not self.sweeps)

    def _by_hessian(self, part: Objective, start: Float64, some: NDArray[np.intp], tol: float) -> Float64:
        """Where Newton's steps lead on a round's columns."""
        K = self.objective.n_outputs
        curvature = Curvature(part, start, part.n_samples, self.dtype, some=some if K > 1 else None)
        descent = Descent(part, start, curvature, rounds=self.rounds, part=True)
        enough = self._enough(descent, some, tol)
        for _ in range(50):
            if norm(descent.gradient.ravel()[some]) <= enough or not descent.step():
                break
            if K > 1 and descent.curvature is not curvature:
                break
        self.rounds, self.dtype = descent.rounds, descent.curvature.dtype
        return descent.w

    def _by_columns(
        self, part: Objective, start: Float64, some: NDArray[np.intp], tol: float, work: int, entries: int
    ) -> Float64:  # fmt: skip
        """Where sweeps over a round's columns lead; they are the last if they cost more than its Hessian, at `work`."""
        descent = ColumnDescent(part, start, some)
        enough = self._enough(descent, some, tol)
        for _ in range(50):
            if norm(descent.gradient.ravel()[some]) <= enough or not descent.step():
                break
            if work <= MOST and descent.n_sweeps * SWEEP * entries > work:
                self.sweeps = False
                break
        return descent.w

    def _chosen(self, grow: int, first: int) -> NDArray[np.intp]:
        """The parameters of a round, in ascending order: `grow` times those that are not zero, `first` at least."""
        penalised = slice(self.objective.n_features)
        sizes, kept = np.abs(self.gradient[penalised]).ravel(), self.w[penalised].ravel() != 0
        sizes[kept] = np.inf
        most = max(grow * int(kept.sum()), first)
        chosen = np.sort(np.argpartition(-sizes, most - 1)[:most]) if most < sizes.size else np.arange(sizes.size)
        # One at least, if it is the intercept alone that moves: no kernel is made for rows of nothing.
        return chosen[sizes[chosen] > 0] if sizes.any() else chosen[:1]

    def _enough(self, descent: Descent | ColumnDescent, some: NDArray[np.intp], tol: float) -> float:
        """A gradient's norm in some parameters at which a descent in them may end."""
        # Where many more would move as far as these do, theirs may be less than a tenth of the gradient.
        return min(max(0.1 * norm(self.gradient), 0.3 * tol), 0.5 * norm(descent.gradient.ravel()[some]))

    def _go_to(self, rows: NDArray[np.intp], values: Float64) -> bool:
        """To the point of these parameters, if F is lower there, or as low with a smaller gradient; False if not."""
        w = np.zeros(self.w.shape)
        w[rows] = values
        value, gradient = self.objective.value_and_gradient(w)
        noise = ROUNDING * abs(self.value)
        if not value <= self.value + noise or (value >= self.value - noise and norm(gradient) >= norm(self.gradient)):
            return False
        self.w, self.value, self.gradient = w, value, gradient
        return True


class Curvature:
    """The factorised Hessian at a point, on some of an objective's rows; made when it is first needed.

    `rows_of` are the samples' sizes: of the one that the objective itself is, if it is one, and of the one of it.
    `some` are the flat parameters that it is of, in ascending order and with all intercepts (None: all): steps move
    these alone. `raw` are the objective's raw predictions at the point, if they are at hand.
    """

    def __init__(
        self, objective: Objective, point: Float64, rows: int, dtype: DTypeLike, sample_of: Sequence[int] = (),
        some: NDArray[np.intp] | None = None, raw: Float64 | None = None,
    ) -> None:  # fmt: skip
        self.objective, self.point, self.dtype, self.rows_of = objective, point, np.dtype(dtype), (*sample_of, rows)
        self.some, self.raw = some, raw

    @cached_property
    def sample(self) -> Objective:
        """The objective of the rows that the Hessian is made of."""
        rows = self.rows_of[-1]
        return self.objective if rows >= self.objective.n_samples else self.objective.sample(rows)

    @property
    def n_samples(self) -> int:
        """Rows that the Hessian is made of."""
        return self.sample.n_samples

    @cached_property
    def _hessian(self) -> Float64:
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is no direction
            at = self.point, self.dtype, self.raw if self.sample is self.objective else None
            H = self.sample.hessian(*at) if self.some is None else self.sample.hessian_of(self.some, *at)
            _fill_null_space(self.objective, H)
            return H

    @cached_property
    def _inverse(self) -> Callable[[Float64], Float64]:
        """v -> H^-1 v."""
        with np.errstate(over="ignore", invalid="ignore"):
            return factor(self._hessian, EPSILON[self.dtype])

    def square(self, v: Float64) -> float:
        """``v' H v``."""
        flat = v.reshape(-1) if self.some is None else v.reshape(-1)[self.some]
        with np.errstate(over="ignore", invalid="ignore"):  # then nothing is to be rounded
            return float(flat @ self._hessian @ flat)

    def solve(self, g: Float64) -> Float64:
        """``H^-1 g``; the diagonal alone where H has no factors."""
        return self._inverse(g.reshape(-1)).reshape(g.shape)

    def direction(self, w: Float64, slope: Float64) -> Float64:
        """From w to the minimum of the quadratic with H and, F's smooth part having this slope, and of its L1 part."""
        objective = self.objective
        if not objective.l1:
            return -self.solve(slope)
        if not np.isfinite(self._hessian).all():
            return np.zeros(w.shape)
        n_penalised, epsilon = objective.n_features * objective.n_outputs, EPSILON[self.dtype]
        some: NDArray[np.intp] | slice = slice(None)
        if self.some is not None:
            some, n_penalised = self.some, int(np.searchsorted(self.some, n_penalised))
        flat, step = w.reshape(-1)[some], np.zeros(w.shape)
        v = minimiser(self._hessian, slope.reshape(-1)[some], flat, objective.l1, n_penalised, epsilon)
        step.reshape(-1)[some] = v - flat
        if objective.loss.targets == "multiclass" and objective.fit_intercept:  # blind to equal changes
            step[-1] -= step[-1].mean()
        return step


def _fill_null_space(objective: Objective, H: Float64) -> None:
    """Softmax is flat along equal changes of all outputs where nothing is penalised: gives H curvature there.

    F's gradient has no part in it but rounding, which the smallest ridge would turn into a step.
    """
    if objective.loss.targets == "multiclass":
        width, K = objective.shape
        # The last ones of H are the intercepts, whichever others it has.
        flat = int(objective.fit_intercept) if objective.l1 or objective.l2 else width
        for j in range(len(H) - flat * K, len(H), K):
            H[j : j + K, j : j + K] += np.trace(H[j : j + K, j : j + K]) / K**2
