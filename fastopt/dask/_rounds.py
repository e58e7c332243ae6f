"""Rounds: each partition goes an epoch on its own from a common start, and what they come to is merged."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastopt._validation import fail
from fastopt.dask._objective import Distributed, evaluate
from fastopt.dask._parts import Share
from fastopt.optimizers import Optimizer
from fastopt.solvers.epochs import Around, Epochs
from fastopt.solvers.monitor import ROUNDING, Monitor, Reporter, Result, norm
from fastopt.solvers.rates import auto_batch_size, auto_learning_rate, without_cycles
from fastopt.solvers.sdca import DualEpochs, first_intercept, intercept_square

__all__ = ["Averaging", "Until", "averaging", "cocoa", "rate_of"]

Array = NDArray[Any]
Float64 = NDArray[np.float64]

#: A round is slow if it lowers F by less than this part of what all have: L-BFGS is better then.
SLOW = 0.01
#: Rounds undone in a row, each with half the learning rates of the one before, after which L-BFGS takes over.
RETRIES = 5
#: Rounds of dual ascent in which the gradient's norm must halve: L-BFGS is better otherwise.
PATIENCE = 5


def merged(sums: Any, weight: float) -> Any:
    """Means of what the partitions came to: parameters, and the rule's state."""
    w, state = sums
    mean = {key: value / weight for key, value in state.items()}
    if "t" in mean:  # partitions differ in their number of steps
        mean["t"] = math.ceil(mean["t"] - 1e-9)
    return w / weight, mean


def measure_and_run(
    share: Share | None, at: Float64 | None, w: Float64, state: dict[str, Any] | None, steps: Averaging, turn: int
) -> Any:
    """F's sums at one point, and from another what an epoch on this partition's rows alone comes to; all weighted.

    The order of the rows follows from the seed, the turn and the partition's number.
    """
    if share is None:
        return None
    measured = None if at is None else evaluate(share, at)
    if not steps.runs:
        return measured, None
    alpha = share.task.alpha if share.task.step_alpha is None else share.task.step_alpha
    rows = rows_per_step(share, steps.optimizer, steps.batch_size)
    epochs = Epochs(
        share.objective(alpha), steps.optimizer, rows, w=w.reshape(-1, share.task.n_outputs), state=state,
        around=steps.around,
    )  # fmt: skip
    if state is None:
        epochs.optimizer._keep_start(epochs.w, epochs.state, steps.scale)
    n, order = share.design.shape[0], None
    if not epochs.full:
        order = np.arange(n)
        if steps.shuffle:
            seeds = np.random.SeedSequence(steps.seed, spawn_key=(turn, share.number))
            np.random.default_rng(seeds).shuffle(order)
    rates = None
    if steps.scale != 1:
        rates = steps.scale * epochs.optimizer.rates(int(epochs.state["t"]), epochs.n_steps)
    with np.errstate(over="ignore", invalid="ignore"):
        epochs.run(order, rates)
        weighted = {key: share.total * np.asarray(value, np.float64) for key, value in epochs.state.items()}
        return measured, (share.total * epochs.w.astype(np.float64), weighted)


@dataclass(frozen=True)
class Averaging:
    """How the epochs of a round go.

    Attributes
    ----------
    optimizer : Optimizer
        With a learning rate that is a number or a schedule, counted in steps on a partition.
    batch_size : int, "full" or "auto"
    seed : int
    around : Around or None
    shuffle : bool
    scale : float
        What the learning rates are multiplied by.
    runs : bool
        False only measures.
    """

    optimizer: Optimizer
    batch_size: int | str
    seed: int
    around: Around | None = None
    shuffle: bool = True
    scale: float = 1.0
    runs: bool = True


@dataclass(frozen=True)
class Until:
    """When rounds end, apart from `max_iter`.

    Attributes
    ----------
    tol : float or None
        Of the gradient's norm; with `patience`, what an epoch must lower the lowest F by.
    patience : int or None
        scikit-learn's rule: so many epochs in a row without that. None: the gradient's norm, and rounds that are slow.
    adapts : bool
        As in `fastopt.solvers.sgd.Settings`.
    halves : bool
        The learning rate is a first guess. Where F has not fallen for a while, rounds go on from its lowest at half the
        rate (`fastopt.solvers.rates.without_cycles`); the lowest is the result.
    """

    tol: float | None
    patience: int | None = None
    adapts: bool = False
    halves: bool = False


def rate_of(objective: Distributed, optimizer: Optimizer, batch_size: int | str) -> float:
    """The learning rate "auto": the smallest that the partitions find for themselves."""
    rates = objective.cluster.values("rate", _rate, objective.shares, optimizer=optimizer, rows=batch_size)
    return float(min(rate for rate in rates if rate is not None))


def rows_per_step(share: Share, optimizer: Optimizer, batch_size: int | str) -> int | str:
    """The batch size on a partition: "auto" is its own choice."""
    return auto_batch_size(share.design, optimizer) if batch_size == "auto" else batch_size


def _rate(share: Share | None, optimizer: Optimizer, rows: int | str) -> float | None:
    if share is None:
        return None
    objective = share.objective(share.task.alpha)
    epochs = Epochs(objective, optimizer.with_learning_rate(1.0), rows_per_step(share, optimizer, rows))
    return auto_learning_rate(objective, optimizer, epochs.batch_size)


def averaging(
    objective: Distributed, w: Array, steps: Averaging, until: Until, *, max_iter: int, reporter: Reporter,
    state: dict[str, Any] | None = None, keep: Callable[[dict[str, Any]], None] | None = None,
) -> Result:  # fmt: skip
    """Rounds of an epoch of any update rule on each partition alone; parameters and the rule's state are averaged.

    ``w <- sum_p S_p w_p / sum_p S_p``, S_p being the weight of a partition's rows. Each round also measures F and its
    gradient at the last average, so that one round costs two passes and no more messages than one.

    Without `Until.patience`, a round that raised F is undone and the next has half the learning rates; rounds end when
    they are slow or the gradient's norm is at most tol.

    `state` is what an earlier run has returned beside w, or given to `keep` at a measurement: it goes on with the bits
    of one that was not interrupted.

    References
    ----------
    Stich, "Local SGD converges fast and communicates little", ICLR 2019, theorem 2.2; Li, Huang, Yang, Wang, Zhang, "On
    the convergence of FedAvg on non-IID data", ICLR 2020, theorem 1 (partitions that differ, weights): with learning
    rates that fall like 1/t. At a constant rate they end near the minimum, which is why a finisher follows. Chen, Li,
    Li, "Toward communication efficient adaptive gradient method", 2020, algorithm 3 (averaged second moments).
    """
    return _Rounds(objective, w, steps, until, reporter, state, keep).run(max_iter)


class _Rounds:
    """The state of `averaging`: the last good average, and how its epochs go on."""

    def __init__(
        self, objective: Distributed, w: Array, steps: Averaging, until: Until, reporter: Reporter,
        state: dict[str, Any] | None, keep: Callable[[dict[str, Any]], None] | None,
    ) -> None:  # fmt: skip
        self.objective, self.until, self.keep = objective, until, keep
        self.monitor = Monitor(objective, until.tol if until.tol is not None and not until.patience else 0.0, reporter)
        self.w = np.asarray(w, dtype=np.float64)
        # What goes on beside the rule's own state: F at the start, last and at its lowest, and rounds since that; where
        # the rate halves, the parameters of the lowest, `without_cycles`' counts, and steps before the last new start.
        self.run_state: dict[str, Any] = {"turn": 0, "seed": steps.seed, "scale": steps.scale, "stale": 0}
        self.run_state |= dict.fromkeys(("first", "last", "best"), math.inf)
        if until.halves:
            self.run_state |= {"lowest": math.inf, "lowest_w": self.w, "rises": 0, "length": 1, "steps": 0}
        state = dict(state or {})
        self.w = np.asarray(state.pop("iterates", self.w), dtype=np.float64)  # `w` is what they come to
        self.run_state = {key: state.pop(key, value) for key, value in self.run_state.items()}
        self.state: dict[str, Any] | None = state or None
        self.restarts = False
        self.steps = replace(steps, scale=self.run_state["scale"], seed=int(self.run_state["seed"]))
        self.turn = int(self.run_state["turn"])
        self.done = 0
        self.reason = "max_iter"

    def solution(self, w: Float64, state: dict[str, Any] | None) -> Float64:
        """The parameters to use of merged iterates."""
        around = self.steps.around
        if state is None:
            return w
        if around is not None:
            return state["average"] if 0 < around.average <= state["t"] else w
        return self.steps.optimizer.averaged(w, state)

    def run(self, max_iter: int) -> Result:
        """All rounds."""
        objective = self.objective
        w, state = self.w, self.state  # what was merged last, not yet measured
        failures = 0
        try:
            while True:
                at, runs = self.solution(w, state), self.done < max_iter
                turn = self.turn
                sums, epoch = self._round(at, w, state, runs)
                with np.errstate(over="ignore", invalid="ignore"):
                    value, gradient = objective.completed(at, *sums)
                if self.done and not self._accepted(value):
                    failures += 1
                    if failures > RETRIES:
                        self.reason = "diverged" if self.until.patience else "stalled"
                        break
                    self._scale_by(0.1 if self.until.patience else 0.5)
                    w, state = self._merged(self._round(None, self.w, self.state, True)[1])
                    continue
                failures = 0
                self.w, self.state = w, state
                if self._ends(value, norm(gradient), at, turn) or not runs:
                    break
                if self.restarts:
                    w, state = self._merged(self._round(None, self.run_state["lowest_w"], None, True)[1])
                else:
                    w, state = self._merged(epoch)
                self.done += 1
        except KeyboardInterrupt:
            if not self.monitor.rows:
                raise
            self.reason = "interrupted"
        if self.until.halves and self.run_state["lowest"] < self.monitor.value:
            result = self._lowest()
        else:
            w = self.solution(self.w, self.state).reshape(-1)
            result = self.monitor.rounded_result(w, self.monitor.rows[-1][0], self.reason)
        result.state = self.kept
        return result

    def _lowest(self) -> Result:
        """The result at the lowest F, which was not the last one."""
        objective = self.objective
        w = self.run_state["lowest_w"].reshape(objective.shape).astype(objective.design.dtype)
        value, gradient = objective.value_and_gradient(w)
        result = self.monitor.result(w, self.monitor.rows[-1][0], self.reason)
        return replace(result, objective=value, grad_norm=norm(gradient))

    def _round(self, at: Float64 | None, w: Float64, state: dict[str, Any] | None, runs: bool) -> Any:
        """Measures at one point and runs the partitions' epochs from another."""
        steps = replace(self.steps, runs=runs)
        found = self.objective.sum("epoch", measure_and_run, at=at, w=w, state=state, steps=steps, turn=self.turn)
        self.turn += runs
        return found

    def _merged(self, sums: Any) -> Any:
        return merged(sums, self.objective.weight)

    def _accepted(self, value: float) -> bool:
        """Whether a round may stand: F has not risen; by scikit-learn's rule, it is finite."""
        return value <= self.run_state["last"] if self.until.patience is None else math.isfinite(value)

    def _scale_by(self, factor: float) -> None:
        self.steps = replace(self.steps, scale=self.steps.scale * factor)

    def _halved(self, value: float, at: Float64) -> bool:
        """Whether the rate was halved: the lowest goes on then, with a fresh state and all of `Until.patience`."""
        run = self.run_state
        run["rises"] += 1
        if value < run["lowest"]:
            run |= {"lowest": value, "lowest_w": at, "rises": 0}
        factor, run["length"] = without_cycles(int(run["rises"]), int(run["length"]))
        if factor == 1:
            return False
        self._scale_by(factor)
        run |= {"rises": 0, "stale": 0, "steps": run["steps"] + (self.state or {}).get("t", 0)}
        return True

    def _ends(self, value: float, norm: float, at: Float64, turn: int) -> bool:
        """Takes a measurement down, and tells whether it was the last."""
        run, until = self.run_state, self.until
        # As it was before: who goes on from here measures here again, and comes to the same.
        self.kept = (self.state or {}) | run | {"scale": self.steps.scale, "turn": turn}
        if until.halves or at is not self.w:
            self.kept["iterates"] = self.w
        if self.keep is not None:
            self.keep(self.kept)
        first, last = run["first"], run["last"]
        begins = math.isinf(first)
        if begins:
            run["first"] = value
        if until.patience is not None and until.tol is not None and not begins:
            run["stale"] = 0 if value <= run["best"] - until.tol else run["stale"] + 1
            run["best"] = min(run["best"], value)
        step = np.array([float((self.state or {}).get("t", 0))])
        rate = self.steps.scale * float(np.max(self.steps.optimizer.rate(step)))
        self.restarts = until.halves and self._halved(value, at)
        over = until.patience is not None and run["stale"] >= until.patience
        if over and until.adapts and rate > 1e-6:
            run["stale"], over = 0, False
            self._scale_by(0.2)
        run["last"] = value
        if self.monitor.record(value, norm, self.done, rate, at) and until.patience is None:
            self.reason = "tol"
        elif over:
            self.reason = "no_change"
        elif until.patience is None and not begins and last - value < SLOW * (first - value):
            self.reason = "stalled"
        return self.reason != "max_iter"


# --- the dual ---------------------------------------------------------------------------------------------------------


def dual_epoch(
    share: Share | None, before: Any, w: Float64, center: float, scale: DualScale, turn: int
) -> tuple[Any, ...] | None:  # fmt: skip
    """F's sums at w; dual variables after an epoch on this partition from w, and by how much that moves w.

    The partition's own problem is CoCoA+'s: its rows move w ``sigma`` times as far as they do in F, so that the moves
    of all can be added. `before` is what the last epoch returned; None begins, with dual variables zero. After "warm"
    there is no epoch: dual variables are those that belong to w, and the move is from zero to what they stand for.
    """
    if share is None:
        return None
    share = share._merged
    # With this strength of the penalty 1 / (l2 n) of the partition alone, times its weights, is sigma / (l2 n) of all.
    task = share.task
    own = share.objective(task.alpha * scale.weight / (scale.sigma * share.total))
    epochs = DualEpochs(own, halves=False)  # a worker has a thread for each partition
    epochs.c2 = epochs._kernel.c2 = scale.c2
    point = w if task.fit_intercept else np.append(w, 0.0)
    at = np.append(w[:-1], center) if task.fit_intercept else w
    measured = evaluate(share, at)
    if before == "warm":
        epochs.start_from(at)
        moved = epochs.w - np.append(np.zeros(len(point) - 1), epochs.center)
        return epochs.state, measured, moved / scale.sigma
    if before is not None:
        epochs.state[...] = before[0]
    epochs.w[...], epochs.center = point, center
    order = np.arange(share.design.shape[0])
    np.random.default_rng(np.random.SeedSequence(scale.seed, spawn_key=(turn, share.number))).shuffle(order)
    epochs.run(order)
    moved = np.append(epochs.w[:-1], epochs.center) - point  # `run` has left the end point of b in center
    return epochs.state, measured, moved / scale.sigma


def _told(share: Share | None, pair: tuple[Any, ...] | None) -> Any:
    """What leaves the worker of an epoch: not the dual variables."""
    return None if pair is None else pair[1:]


@dataclass(frozen=True)
class DualScale:
    """What the partitions' dual problems share: sigma, all rows' weight, the intercept's column squared, the seed."""

    sigma: float
    weight: float
    c2: float
    seed: int


def cocoa(
    objective: Distributed, w: Array, *, tol: float, max_iter: int, seed: int, reporter: Reporter
) -> Result:  # fmt: skip
    """Rounds of an epoch of dual coordinate descent on each partition; their moves of w are added up (CoCoA+).

    With gamma = 1 and sigma' = K, the number of partitions: linear convergence for smooth losses whatever K is. The
    fewer and larger the partitions, the better an epoch. The dual variables stay on the workers. The intercept is one
    machine's (`fastopt.solvers.sdca.DualEpochs`): its center moves after each round.

    It ends at tol, or as stalled when `PATIENCE` rounds have not halved the gradient's norm. It is the dual that every
    round raises: where F has risen at the end, as stalled above its start, the result is what was measured best.

    References
    ----------
    Ma, Smith, Jaggi, Jordan, Richtárik, Takáč, "Adding vs. averaging in distributed primal-dual optimization", ICML
    2015, algorithm 1, equation (9), lemma 4 (sigma' = gamma K) and corollary 9 (linear rate).
    """
    if not objective.l2 > 0 or objective.l1:
        fail("alpha", "> 0, with l1_ratio 0, for the solver 'sdca'", objective.alpha, "Use solver='lbfgs'.")
    monitor = Monitor(objective, tol, reporter)
    intercept = objective.fit_intercept
    c2 = intercept_square(objective, objective.mean_square) if intercept else 0.0
    scale = DualScale(float(len(objective.shares)), objective.weight, c2, seed)
    point = np.array(w, dtype=np.float64).reshape(-1)
    warm = bool(point.any())
    center = float(point[-1]) if intercept else 0.0
    if intercept and not warm:
        mean = float(objective.sum("mean", _targets, size=8)) / objective.weight
        center = point[-1] = first_intercept(objective, mean)
    pairs: list[Any] = ["warm" if warm else None] * len(objective.shares)
    at, reason, done, turn = point, "max_iter", 0, 0
    best, best_row = at, (0, 0.0, math.inf, math.inf, math.nan)
    norms: list[float] = []
    try:
        while True:
            futures = objective.cluster.each(
                "dual-epoch", dual_epoch, objective.shares, pairs, w=point, center=center, scale=scale, turn=turn
            )
            sums, moved = objective.sum("dual-sum", _told, futures, size=16 * objective.size)
            pairs, turn = futures, turn + 1
            if not (warm and turn == 2):  # the point that the first dual variables stand for is not where it started
                at = np.append(point[:-1], center) if intercept else point
                value, gradient = objective.completed(at, *sums)
                norms.append(norm(gradient))
                converged = monitor.record(value, norms[-1], done, math.nan, at.reshape(objective.shape))
                if value < best_row[2]:
                    best, best_row = at, monitor.rows[-1]
                if converged:
                    reason = "tol"
                    break
                if done >= max_iter:
                    break
                if done > PATIENCE and min(norms[-PATIENCE:]) > 0.5 * norms[-1 - PATIENCE]:
                    reason = "stalled"
                    break
            if warm and turn == 1:
                point = moved[: len(point)]
                if intercept:
                    point[-1] += center
                continue
            done += 1
            point = point + moved[: len(point)]
            if intercept:  # the method of multipliers: the center moves to b, and b as far again
                b = float(point[-1])
                point[-1], center = 2 * b - center, b
    except KeyboardInterrupt:
        if not monitor.rows:
            raise
        reason = "interrupted"
    done = monitor.rows[-1][0]
    bound = monitor.rows[0][2] if reason == "stalled" else best_row[2]  # another solver goes on from what has stalled
    if reason in ("max_iter", "stalled") and not monitor.value <= bound + ROUNDING * abs(bound):
        at = best
        monitor.rows.append(best_row)
    return monitor.rounded_result(at, done, reason)


def _targets(share: Share | None) -> float:
    """The weighted sum of this partition's targets."""
    if share is None:
        return 0.0
    return float(share.y.sum() if share.weights is None else share.weights @ share.y)
