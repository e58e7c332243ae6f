"""scikit-learn's loop of epochs: its order, its learning rates, and its rule for when to stop, output by output."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastopt.objective import Objective
from fastopt.optimizers import Optimizer
from fastopt.solvers.epochs import Around, Epochs
from fastopt.solvers.monitor import Reporter
from fastopt.solvers.rates import MEMORY, descends, lower, next_cycle, points, remembers, two_point_rate, without_cycles
from fastopt.solvers.resume import put_back, random_numbers
from fastopt.solvers.scaled import Scaled

__all__ = ["Descent", "Settings", "sgd"]

Array = NDArray[Any]
Outputs = Callable[[NDArray[np.intp]], tuple[Objective, Optimizer]]

#: Elements of X, times outputs, that epochs run at once have: some milliseconds.
SHORT = 1_000_000
#: Steps that epochs run at once have: more have their rates in fresh memory, which takes longer than they do.
AT_ONCE = 32_768
#: How many times the last rate two points may give: where a loss is flat, they know of no curvature.
MOST_AT_ONCE = 100


@dataclass(frozen=True)
class Settings:
    """How `sgd` runs and when it stops.

    Attributes
    ----------
    batch_size : int or "full"
    max_iter : int
        Epochs at most.
    tol : float or None
        An epoch improves an output if its mean objective is at most the best one so far less `tol` (its score at least
        the best plus `tol`). None: only max_iter stops.
    n_iter_no_change : int
        Epochs without improvement in a row that end an output, or cut its rate where that adapts.
    adapts : bool
        The learning rate of an output is divided by 5 instead, as long as it is above 1e-6.
    auto : bool
        The learning rate is a first guess: it falls to zero in cycles (`_Cycle`), at whose ends improvement is judged.
        Where iterates are averaged, and of Ftrl, it is halved where F has not fallen for a while (`_AutoRate`);
        gradient descent on a smooth loss takes it from the last two points, for each output by itself (`_TwoPoints`).
    around : Around or None
        What goes around the steps of plain SGD. Where it measures the objective of each output on the way, it is that
        which is watched; else all outputs of a group are watched by their F, at the price of a pass over the data after
        each epoch.
    variables : Scaled or None
        Those that steps with an automatic rate are taken in, where it is not w.
    score : callable or None
        ``score(w, columns)``: scores of these outputs at parameters w, higher is better; what is watched instead of
        the objective.
    """

    batch_size: int | str = 1
    max_iter: int = 1000
    tol: float | None = 1e-3
    n_iter_no_change: int = 5
    adapts: bool = False
    auto: bool = False
    around: Around | None = None
    variables: Scaled | None = None
    score: Callable[[Array, NDArray[np.intp]], Array] | None = None


@dataclass
class Descent:
    """A run of `sgd`: where it starts, and where it came to.

    Attributes
    ----------
    w : ndarray (n_features + fit_intercept, n_outputs)
        The iterates of each output's last epoch.
    state : dict or None
        The rule's state, its arrays shaped like w; None before the first step.
    scale : float
        What all learning rates are multiplied by.
    solution : ndarray, shaped like w
        The parameters to use: w, or their average.
    n_iter : int
        Epochs of the output that took the most.
    stop_reason : str
        "no_change", "max_iter", "interrupted", or "diverged": something is not finite.
    rows : list
        Of each epoch its number, the seconds since the start, the mean of the objective over its steps, and the
        largest learning rate.
    """

    w: Array
    state: dict[str, Any] | None = None
    scale: float = 1.0
    solution: Array = field(init=False)
    n_iter: int = 0
    stop_reason: str = "max_iter"
    rows: list[tuple[int, float, float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.solution = self.w


@dataclass
class _AutoRate:
    """An automatic learning rate, and the best parameters so far: halved as `without_cycles` has it.

    Attributes
    ----------
    best : float
        The lowest F so far.
    w : ndarray or None
        The parameters that have it.
    at : int
        Epochs since then.
    length : int
        Grows with each halving.
    """

    best: float = np.inf
    w: Array | None = None
    at: int = 0
    length: int = 1

    @property
    def left(self) -> float:
        """What this epoch's rates are multiplied by, all alike: columns of CSR data that wait need a constant rate."""
        return 1.0

    def begin(self, value: float, epochs: Epochs, scale: float) -> None:
        """Takes note of the start: no fit ends above it."""
        self.best, self.w = value, epochs.w.copy()

    def after(self, value: float, epochs: Epochs, scale: float, settings: Settings) -> tuple[float, bool]:
        """After an epoch that ended at F = value: the rates' scale from now on, and whether improvement may be judged.

        The epochs start anew where that is due.
        """
        self.at += 1
        if value < self.best:
            self.best, self.w, self.at = value, epochs.solution.copy(), 0
        factor, self.length = without_cycles(self.at, self.length)
        if factor == 1:
            return scale, True
        self.at = 0
        return self.anew(epochs, factor * scale), False

    def anew(self, epochs: Epochs, scale: float) -> float:
        """The epochs go on from the best parameters."""
        assert self.w is not None
        epochs.restart(self.w, scale)
        return scale

    def parted(self) -> _AutoRate:
        """That of some of the outputs: what the others' values were is no measure for them."""
        return replace(self, best=np.inf, w=None)


@dataclass
class _Cycle(_AutoRate):
    """A learning rate that falls to zero, linearly, in cycles of 1, 2, 3, 5, 7, 10, ... epochs.

    What is watched need not fall from epoch to epoch: steps on a loss with kinks zigzag, most of all where columns or
    weights differ by much, and a rate that is cut whenever F rises is soon too small to get anywhere. At the end of a
    cycle the zigzag is gone. How high the next one begins is `next_cycle`'s; after one that did not lower F, it begins
    from the best parameters so far.

    Attributes
    ----------
    at, length : int
        Epochs that the cycle has behind it, and how many it has.
    start : float
        Lowest F before the cycle.
    above : int
        Epochs of the cycle so far that ended with F above that.

    References
    ----------
    Defazio, Cutkosky, Mehta, Mishchenko, "Optimal linear decay learning rate schedules and further refinements", 2023,
    section 2.
    """

    start: float = np.inf
    above: int = 0

    @property
    def left(self) -> float:
        """That of the middle of the epoch."""
        return 1 - (self.at + 0.5) / self.length

    def begin(self, value: float, epochs: Epochs, scale: float) -> None:
        """Takes note of the start: no fit ends above it."""
        super().begin(value, epochs, scale)
        self.start = value

    def after(self, value: float, epochs: Epochs, scale: float, settings: Settings) -> tuple[float, bool]:
        """As in `_AutoRate`.

        A short cycle that ends higher than it began had too high a rate, and says nothing on whether to go on.
        """
        self.at += 1
        self.above += value > self.start
        if value < self.best:
            self.best, self.w = value, epochs.solution.copy()
        if self.at < self.length:
            return scale, False
        judged = self.at >= 4 * settings.n_iter_no_change or value <= self.start + (settings.tol or 0.0)
        improved = self.best < self.start
        self.length, factor = next_cycle(self.length, improved, self.above, lower(epochs.optimizer))
        self.at, self.above, self.start = 0, 0, self.best
        return (factor * scale if improved else self.anew(epochs, factor * scale)), judged

    def parted(self) -> _AutoRate:
        """That of some of the outputs: what the others' values were is no measure for them."""
        return replace(self, best=np.inf, start=np.inf, w=None)


@dataclass
class _TwoPoints(_AutoRate):
    """The rate of gradient descent that the last two points give, as in `fastopt.solvers.rates.two_points`.

    F may rise on the way: improvement is judged where it is at a new lowest, and where the lowest goes on after
    `MEMORY` epochs without one.

    Attributes
    ----------
    first : float
        The scale of the first step, and of those from the lowest on.
    start : float
        F before the first step: the lowest goes on at once where F is above it.
    before : ndarray (2, n_features + fit_intercept, n_outputs) or None
        Parameters and gradient before the last step.
    """

    first: float = 1.0
    start: float = np.inf
    before: Array | None = None

    def begin(self, value: float, epochs: Epochs, scale: float) -> None:
        """Takes note of the start: no fit ends above it."""
        super().begin(value, epochs, scale)
        self.first, self.start, self.before = scale, value, points(epochs)

    def after(self, value: float, epochs: Epochs, scale: float, settings: Settings) -> tuple[float, bool]:
        """As in `_AutoRate`."""
        self.at += 1
        if value < self.best:
            self.best, self.w, self.at = value, epochs.w.copy(), 0
        judged, back = self.at in (0, MEMORY), self.at >= MEMORY or value > self.start
        if back:
            self.at, scale = 0, self.anew(epochs, self.first)
        now = points(epochs)
        if self.before is not None and not back and (rate := two_point_rate(self.before, now)) is not None:
            scale = min(rate / float(epochs.optimizer.rate(0.0)), MOST_AT_ONCE * scale)
        self.before = now
        return scale, judged


class _Group:
    """Outputs that go on together, at one learning rate."""

    def __init__(
        self, outputs: Outputs, columns: NDArray[np.intp], settings: Settings, w: Array, state: dict[str, Any] | None,
        scale: float,
    ) -> None:  # fmt: skip
        self.outputs, self.columns, self.settings, self.scale = outputs, columns, settings, scale
        objective, optimizer = outputs(columns)
        self.epochs = Epochs(
            objective, optimizer, settings.batch_size, w=w, state=state, around=settings.around,
            variables=settings.variables,
        )  # fmt: skip
        self.remembers = remembers(self.epochs)
        self.auto = self._auto_rate() if settings.auto else None
        self.judged = True
        if state is None:
            self.epochs.drop_unused()
            self.epochs.keep_start(scale)
            if self.auto is not None:
                self.auto.begin(self._value(), self.epochs, scale)

    def _auto_rate(self) -> _AutoRate:
        if self.remembers:
            return _AutoRate()
        smooth = np.isfinite(self.epochs.objective.loss.max_curvature)
        return _TwoPoints() if smooth and descends(self.epochs) else _Cycle()

    @property
    def joint(self) -> bool:
        """Whether one loss has all outputs: they stop together."""
        return self.epochs.objective.loss.targets == "multiclass"

    def _value(self) -> float:
        """F at the parameters to use; the gradient serves the next step too, if that is one on all rows."""
        epochs, objective = self.epochs, self.epochs.objective
        if not epochs.full or self.remembers:
            return objective.value(epochs.solution)
        value, epochs.gradient = objective.smooth_value_and_gradient(epochs.w)
        return objective.with_l1(epochs.w, value, epochs.gradient)[0]

    def as_dict(self) -> dict[str, Any]:
        """All that `from_dict` needs, copied."""
        return {
            "columns": self.columns.copy(), "w": self.epochs.w.copy(), "state": _copied(self.epochs.state),
            "scale": self.scale, "judged": self.judged,
            "cycle": None if self.auto is None else dict(vars(self.auto)),  # whose w is replaced, never written
        }  # fmt: skip

    @classmethod
    def from_dict(cls, outputs: Outputs, settings: Settings, found: dict[str, Any]) -> _Group:
        """The group as it was."""
        group = cls(outputs, found["columns"], settings, found["w"], found["state"], found["scale"])
        group.judged = found["judged"]
        known = found["cycle"]
        if group.auto is not None and known is not None and known.keys() == vars(group.auto).keys():
            group.auto = type(group.auto)(**known)  # files of before may have none, or another kind
        return group

    def run(self, orders: NDArray[np.intp]) -> tuple[Array, Array]:
        """Epochs in these orders, (n_epochs, n): for each the means of the outputs' objectives over its steps,
        (n_epochs, n_outputs), and the largest learning rate.

        More than one only for those that `surely` come. The first that ends not finite is the last.
        """
        epochs, around, (n_epochs, n) = self.epochs, self.settings.around, orders.shape
        n_steps, t0 = n_epochs * -(-n // epochs.batch_size), int(epochs.state["t"])
        left = 1.0 if self.auto is None else self.auto.left
        rates = epochs.optimizer.rates(t0, n_steps)
        for factor in (self.scale, left):  # each a pass over what steps on short rows take not much longer for
            rates = rates if factor == 1 else rates * factor
        given = None if self.scale == left == n_epochs == 1 else rates
        by_epoch = rates.reshape(n_epochs, -1) if rates.ndim else np.full((n_epochs, 1), rates)
        largest = by_epoch.max(axis=1, initial=0.0)
        if n_epochs > 1:
            sums = epochs.run_several(orders, given)
        else:
            epochs.run(orders[0], given)
            if around is None or not around.measures:
                return np.full((1, len(self.columns)), self._value() / len(self.columns)), largest
            sums = epochs.sums[None]
        assert around is not None
        means = (sums[:, 0] if around.passive else sums[:, 0] + sums[:, 1]) / n
        return np.tile(means.mean(axis=1, keepdims=True), means.shape[1]) if self.joint else means, largest

    def is_finite(self, means: Array) -> bool:
        """Whether parameters are, and the last epoch's `means`."""
        return bool(np.isfinite(means[-1]).all() and np.isfinite(self.epochs.w).all())

    def surely(self, left: int, stale: Array, n: int) -> int:
        """How many of the `left` epochs of n rows come whatever they bring, and may run at once: short ones.

        Until then nobody looks at them: no output stops before `n_iter_no_change` epochs without improvement.
        """
        epochs, settings = self.epochs, self.settings
        if settings.score is not None or self.auto is not None or n % epochs.batch_size or not epochs.takes_several:
            return 1
        if settings.tol is not None:
            left = min(left, settings.n_iter_no_change - int(stale[self.columns].max()))
        # Each epoch also looks at all parameters, of which few rows may have many.
        work = max(1, epochs.objective.design.n_stored * len(self.columns) + epochs.w.size)
        return max(1, min(left, SHORT // work, AT_ONCE * epochs.batch_size // n))

    def adjust(self, total: float) -> None:
        """After an epoch: the next one's rate where it is automatic."""
        if self.auto is not None:
            self.scale, self.judged = self.auto.after(total, self.epochs, self.scale, self.settings)

    def cut(self, factor: float) -> None:
        """Goes on at a smaller rate."""
        self.scale *= factor
        self.epochs.keep_start(self.scale)

    def part(self, members: NDArray[np.bool_], factor: float) -> list[_Group]:
        """Some of the outputs alone, or this group if they are all; at another rate."""
        if members.all():
            self.cut(factor)
            return [self]
        if not members.any():
            return []
        w, state = self.epochs.w[:, members], _columns(self.epochs.state, members)
        group = _Group(self.outputs, self.columns[members], self.settings, w, state, self.scale * factor)
        if self.auto is not None:
            group.auto = self.auto.parted()
        return [group]

    def keep(self, result: Descent) -> None:
        """Writes its columns into the result."""
        result.w[:, self.columns] = self.epochs.w
        if result.solution is not result.w:
            result.solution[:, self.columns] = self.epochs.solution
        assert result.state is not None
        for key, value in self.epochs.state.items():
            if isinstance(value, np.ndarray):
                result.state[key][:, self.columns] = value
            else:
                result.state[key] = value
        if self.settings.variables is not None:  # the state's arrays are theirs
            result.state["variables"] = True

    def keep_best(self, result: Descent) -> None:
        """The best parameters so far into the result; an epoch more, without this rate, goes on from `result.w`."""
        if self.auto is not None and self.auto.w is not None and self.settings.score is None:
            result.solution[:, self.columns] = self.auto.w
            if not self.remembers:
                result.w[:, self.columns] = self.auto.w


@dataclass
class _Standing:
    """What each output has come to, by its number.

    Attributes
    ----------
    objective : ndarray
        The mean over the steps of its last epoch.
    best : ndarray
        The lowest of what is watched, the objective or scores' negatives.
    stale : ndarray of intp
        Epochs since it improved.
    """

    objective: Array
    best: Array
    stale: Array

    @classmethod
    def none_yet(cls, n_outputs: int) -> _Standing:
        """Before the first epoch."""
        return cls(np.zeros(n_outputs), np.full(n_outputs, np.inf), np.zeros(n_outputs, np.intp))

    def look(self, group: _Group) -> None:
        """After an epoch of the group, whose objectives are in their places."""
        c, settings = group.columns, group.settings
        if settings.tol is None:
            return
        now = self.objective[c]
        if settings.score is not None:  # of the iterates, as scikit-learn does it, where they are averaged
            now = -settings.score(group.epochs.solution if settings.around is None else group.epochs.w, c)
        self.stale[c] = np.where(now <= self.best[c] - settings.tol, 0, self.stale[c] + 1)
        self.best[c] = np.minimum(self.best[c], now)


class _Orders:
    """The orders of the epochs to come, of which fewer may be run than were taken at once."""

    def __init__(
        self, rng: np.random.RandomState | np.random.Generator, order: Callable[[], NDArray[np.intp]]
    ) -> None:  # fmt: skip
        self.rng, self.order = rng, order
        self.before: dict[str, Any] | None = None

    def take(self, n_epochs: int) -> NDArray[np.intp]:
        """Those of the next epochs, (n_epochs, n)."""
        self.before = random_numbers(self.rng) if n_epochs > 1 else None
        return self.order()[None] if n_epochs == 1 else np.stack([self.order() for _ in range(n_epochs)])

    def took(self, n_epochs: int) -> None:
        """No more of those than so many: as many draws as epochs, as if they had come one after the other."""
        if self.before is not None:
            put_back(self.rng, self.before)
            for _ in range(n_epochs):
                self.order()


def sgd(
    outputs: Outputs, groups: list[NDArray[np.intp]], start: Descent, settings: Settings,
    order: Callable[[], NDArray[np.intp]], reporter: Reporter, *, n_samples: int,
    rng: np.random.RandomState | np.random.Generator, course: dict[str, Any] | None = None,
    told: Callable[[Descent, dict[str, Any]], None] | None = None,
) -> Descent:  # fmt: skip
    """Epochs over the rows until each output stops by scikit-learn's rule.

    All outputs of a group share each pass over the data; one that stops, or whose rate is cut, leaves its group. Short
    epochs after which nobody looks run several at once, to the same bits.

    Parameters
    ----------
    outputs : callable
        ``outputs(columns)``: the objective of these outputs and the update rule with its learning rate.
    groups : list of ndarray
        Numbers of the outputs that start together.
    start : Descent
        Not written.
    settings : Settings
    order : callable
        The next epoch's rows, consecutive slices of which are the batches.
    reporter : Reporter
    n_samples : int
        Rows of an epoch.
    rng : RandomState or Generator
        Where `order` draws from.
    course : dict or None
        Where a run that was told of goes on; from the same start, with the random numbers where they were.
    told : callable or None
        ``told(descent, course)`` after each epoch: how far it has come, and a copy of all it would need to go on.
    """
    began, unseen = time.perf_counter(), told is None and not reporter.watched
    active, orders = _groups(outputs, groups, start, settings), _Orders(rng, order)
    result, standing = _before_steps(active, start), _Standing.none_yet(start.w.shape[1])
    if course is not None:
        active = _taken_up(outputs, settings, result, standing, course)
        began -= result.rows[-1][1]
    try:
        while active and result.n_iter < settings.max_iter:
            n_epochs, left = 1, settings.max_iter - result.n_iter
            if unseen:
                n_epochs = min(group.surely(left, standing.stale, n_samples) for group in active)
            rows = orders.take(n_epochs)
            with np.errstate(over="ignore", invalid="ignore"):
                runs = [group.run(rows) for group in active]
            n_epochs = min(len(means) for means, _ in runs)
            if not all(group.is_finite(means) for group, (means, _) in zip(active, runs, strict=True)):
                orders.took(n_epochs)
                result.n_iter, result.stop_reason = result.n_iter + n_epochs, "diverged"
                return result
            for group in active:
                group.keep(result)
            _note(active, runs, n_epochs, standing, result, time.perf_counter() - began)
            if reporter.watched:
                _, seconds, value, rate = result.rows[-1]
                text = f"{seconds:8.2f} s  F {value:.8g}  learning rate {rate:.3g}"
                reporter.epoch(result.n_iter, text, result.solution)
            for group in active:
                group.adjust(float(standing.objective[group.columns].sum()))
                group.keep_best(result)
            if settings.tol is not None:
                active = [part for group in active for part in _go_on(group, standing)]
            if told is not None:
                told(result, _so_far(active, result, standing))
    except KeyboardInterrupt:
        result.stop_reason = "interrupted"
    if not active:
        result.stop_reason = "no_change"
    return result


def _groups(outputs: Outputs, groups: list[NDArray[np.intp]], start: Descent, settings: Settings) -> list[_Group]:
    """The groups that start; each output by itself where each has its own two points."""

    def begin(c: NDArray[np.intp]) -> _Group:
        return _Group(outputs, c, settings, start.w[:, c], _columns(start.state, c), start.scale)

    active = [begin(c) for c in groups]
    if isinstance(active[0].auto, _TwoPoints) and not active[0].joint:
        return [begin(c) for group in groups for c in group[:, None]]
    return active


def _before_steps(active: list[_Group], start: Descent) -> Descent:
    """What the groups have come to before their first epoch."""
    group, epochs, n_outputs = active[0], active[0].epochs, start.w.shape[1]
    arrays = {k: np.zeros((len(v), n_outputs), v.dtype) for k, v in epochs.state.items() if isinstance(v, np.ndarray)}
    result = Descent(start.w.copy(), arrays)
    if epochs.solution is not epochs.w or "average" in arrays or (group.settings.auto and group.remembers):
        result.solution = start.w.copy()
    for group in active:
        group.keep(result)
    return result


def _taken_up(
    outputs: Outputs, settings: Settings, result: Descent, standing: _Standing, course: dict[str, Any]
) -> list[_Group]:
    """The groups that go on; `result` and `standing` become as they were."""
    active = [_Group.from_dict(outputs, settings, found) for found in course["groups"]]
    result.w[...] = course["w"]
    result.state = (result.state or {}) | _copied(course["state"])  # files of before may lack what is new
    if course["solution"] is not None:
        result.solution[...] = course["solution"]
    result.rows = [(int(row[0]), *row[1:]) for row in course["rows"].tolist()]
    result.n_iter = len(result.rows)
    standing.objective, standing.best, standing.stale = (course[key].copy() for key in ("objective", "best", "stale"))
    return active


def _note(
    active: list[_Group], runs: list[tuple[Array, Array]], n_epochs: int, standing: _Standing, result: Descent,
    now: float,
) -> None:  # fmt: skip
    """Takes down the epochs that were run at once; what the last of them brings, `_go_on` looks at."""
    before = result.rows[-1][1] if result.rows else 0.0
    for k in range(n_epochs):
        for group, (means, _) in zip(active, runs, strict=True):
            standing.objective[group.columns] = means[k]
            if k + 1 < n_epochs:
                standing.look(group)
        seconds = before + (k + 1) / n_epochs * (now - before)  # shared out where nobody looked
        rate = max(float(largest[k]) for _, largest in runs)
        result.n_iter += 1
        result.rows.append((result.n_iter, seconds, float(standing.objective.sum()), rate))


def _go_on(group: _Group, standing: _Standing) -> list[_Group]:
    """What of a group goes on after an epoch: not the outputs that have stopped; cut rates part from the others."""
    c, settings, stale = group.columns, group.settings, standing.stale
    standing.look(group)
    if not group.judged:
        if group.remembers:  # the rate was halved: as many epochs anew
            stale[c] = 0
        return [group]
    over = stale[c] >= settings.n_iter_no_change
    if not over.any():
        return [group]
    rate = group.scale * float(group.epochs.optimizer.rate(float(group.epochs.state["t"])))
    if not settings.adapts or rate <= 1e-6:
        return group.part(~over, 1.0)
    stale[c[over]] = 0
    slow = group.part(over, 0.2)
    return slow if over.all() else [*group.part(~over, 1.0), *slow]


def _so_far(active: list[_Group], result: Descent, standing: _Standing) -> dict[str, Any]:
    """A copy of all that the loop knows, for `_taken_up`: arrays, numbers, None, and lists and dicts of these."""
    assert result.state is not None
    return {
        "groups": [group.as_dict() for group in active], "objective": standing.objective.copy(),
        "best": standing.best.copy(), "stale": standing.stale.copy(), "rows": np.array(result.rows, dtype=np.float64),
        "w": result.w.copy(), "solution": None if result.solution is result.w else result.solution.copy(),
        "state": _copied(result.state),
    }  # fmt: skip


def _copied(state: dict[str, Any]) -> dict[str, Any]:
    return {key: a.copy() if isinstance(a, np.ndarray) else a for key, a in state.items()}


def _columns(state: dict[str, Any] | None, columns: Any) -> dict[str, Any] | None:
    """The state of some outputs."""
    if state is None:
        return None
    return {key: a[:, columns] if isinstance(a, np.ndarray) else a for key, a in state.items()}
