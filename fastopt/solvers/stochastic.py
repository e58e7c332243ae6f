"""Epochs of any update rule over minibatches, and the loop that drives them to `tol`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastopt._design import WORK
from fastopt._kernels import dense, plan, sparse, step
from fastopt._kernels.step import RULES, SLOTS
from fastopt.objective import Objective
from fastopt.optimizers import GradientDescent, Optimizer
from fastopt.solvers.monitor import Monitor, Result

__all__ = ["Epochs", "stochastic"]

#: Stamps of idle coordinates are int32: in an epoch of more steps every coordinate takes each of them.
MOST_STEPS = 2**31 - 2


class Epochs:
    """Epochs of an update rule on an Objective.

    Parameters
    ----------
    objective : Objective
    optimizer : Optimizer
    batch_size : int or "full", default 1
        Rows per step; the last batch of an epoch may be smaller. "full" takes all rows and needs no order.
    w : ndarray (n_features + fit_intercept, n_outputs), or None for zeros
        Where to start; copied.
    state : dict or None
        The optimizer's state to go on from; copied.
    lazy : bool or None
        Whether CSR steps leave coordinates that a batch does not touch for later. None: where that is exact for the
        rule and cheaper, by nonzeros per batch against n_features.

    Attributes
    ----------
    w : ndarray (n_features + fit_intercept, n_outputs), X's dtype
    state : dict
        The optimizer's state, its arrays shaped like w.

    Notes
    -----
    The gradient of a batch B of b rows is ``1/b sum_{i in B} s_i / mean(s) dloss_i x_i + alpha w``: its expectation is
    the gradient of F. Beside X this holds w, the slots and one gradient, and b rows of raw predictions.
    """

    def __init__(
        self, objective: Objective, optimizer: Optimizer, batch_size: int | str = 1, *,
        w: NDArray[Any] | None = None, state: dict[str, Any] | None = None, lazy: bool | None = None,
    ) -> None:  # fmt: skip
        self.objective, self.optimizer = objective, optimizer
        n, d, design = objective.n_samples, objective.n_features, objective.design
        full = batch_size == "full" or isinstance(optimizer, GradientDescent)
        self.batch_size = n if full else min(int(batch_size), n)
        self.full = self.batch_size == n
        arrays = optimizer._arrays
        self._params = np.zeros((len(arrays) + 2, objective.shape[0] * objective.n_outputs), dtype=design.dtype)
        self.w = self._params[0].reshape(objective.shape)
        if w is not None:
            self.w[...] = w
        self.state: dict[str, Any] = {}
        for i, slot in enumerate(arrays):
            self.state[slot] = self._params[1 + i].reshape(objective.shape)
        self.forget()
        if state is not None:
            self._restore_state(state)
        clips = optimizer.clipnorm is not None or optimizer.clipvalue is not None
        # Plain SGD scatters straight into w, unless something goes around its steps.
        plain = optimizer._kernel == "sgd" and not clips and optimizer.ema_momentum is None
        self._may_wait = design.sparse and not self.full and not plain
        if lazy is None:
            # Bringing a touched coordinate up to date costs some 24 times a coordinate of a step of all: measured for
            # Adam, momentum and RMSprop on 50,000 columns, where both ways cost the same at 32 rows of 75 nonzeros.
            per_batch = design.n_stored / max(n, 1) * self.batch_size
            self._may_wait = self._may_wait and 24 * per_batch < d
        elif not lazy:
            self._may_wait = False
        l2, stamp, touched = np.empty(0), np.empty(0, np.int32), np.empty(0, np.intp)
        if self._may_wait:
            assert design.indptr is not None
            stamp = np.zeros(d, np.int32)
            longest = int(np.diff(design.indptr).max(initial=0))
            touched = np.empty(max(1, min(d, longest * self.batch_size)), np.intp)
            if objective.l2 and not optimizer.exact_l2:
                share = touch_shares(design.column_counts, n, self.batch_size)
                l2 = np.divide(objective.l2, share, out=np.zeros(d), where=share > 0)
                self.w[:d][design.column_counts == 0] = 0  # never touched: its minimiser is zero
        self._scores = np.empty((1 if self.full else self.batch_size, objective.n_outputs), dtype=design.dtype)
        self._plan = plan.Plan(
            objective.kernel_loss, objective.loss.parameter, objective.l2, objective.y.ravel(), objective.weights, d,
            objective.n_outputs, objective.fit_intercept, self.batch_size, l2, stamp, touched,
            design.distinct,
        )  # fmt: skip
        slot_rows = np.zeros(SLOTS + 1, np.intp)  # 0: an unused slot aliases w
        for i, position in enumerate(optimizer._positions):
            slot_rows[1 + position] = 1 + i
        ema = (len(arrays), optimizer.ema_momentum) if optimizer.ema_momentum is not None else (0, 0.0)
        self._plan.use(
            RULES[optimizer._kernel], replace(optimizer, weight_decay=None)._hyper_array, slot_rows, not plain,
            optimizer.clipnorm or np.inf, optimizer.clipvalue or np.inf, *ema,
        )  # fmt: skip

    @property
    def solution(self) -> NDArray[Any]:
        """The parameters to use: w, or the average of the rules that keep one."""
        return self.optimizer.averaged(self.w, self.state)

    @property
    def n_steps(self) -> int:
        """Steps of one epoch."""
        return -(-self.objective.n_samples // self.batch_size)

    def run(self, order: NDArray[np.intp] | None = None, learning_rates: NDArray[np.float64] | None = None) -> None:
        """One pass over the rows.

        Parameters
        ----------
        order : ndarray of intp, (n_samples,), or None for 0 .. n_samples - 1
            Consecutive slices are the batches.
        learning_rates : ndarray of float64, (n_steps,), or None for the optimizer's own
        """
        n, t0 = self.objective.n_samples, self.state["t"]
        order = np.arange(n) if order is None else np.ascontiguousarray(order, dtype=np.intp)
        if len(order) and not 0 <= order.min() <= order.max() < n:
            raise ValueError(f"order must hold row numbers in [0, {n}); got others.")
        n_steps = -(-len(order) // self.batch_size)
        rate: Any = self.optimizer.rate if self.optimizer.smooth else None
        if learning_rates is None:
            rates = np.asarray(self.optimizer.rate(np.arange(t0, t0 + n_steps, dtype=np.float64)))
        else:
            rates, rate = np.asarray(learning_rates, dtype=np.float64), None
            if rates.shape not in ((), (n_steps,)):
                raise ValueError(f"learning_rates must have an element for each of {n_steps} steps; got {rates.shape}.")
        constant = not rates.ndim or (n_steps > 0 and bool((rates == rates[0]).all()))
        if constant and learning_rates is not None:
            first = float(rates if not rates.ndim else rates[0])
            rate = lambda k: first  # noqa: E731
        rates = np.broadcast_to(rates, n_steps)
        if self.full:
            for t in range(n_steps):
                self._full_step(float(rates[t]))
            return
        lazy = self._may_wait and n_steps <= MOST_STEPS and self.optimizer.idles_exactly(self.objective.l2, constant)
        if constant and not lazy and n_steps and self.optimizer.same_every_step:
            rates = rates[:1]
        table, hyper = self.optimizer.table(t0, rates, self.state, lazy=lazy, alpha=self.objective.l2, rate=rate)
        if len(rates) < n_steps:
            table = table[1:]
        if not np.isfinite(table[:, -1]).all():  # decay by a factor <= 0 has no logarithm
            lazy = False
        if lazy:
            self._params[-1] = 0  # where an epoch that is not lazy left its last gradient
        self._plan.begin(order, table, hyper, lazy, t0)
        design = self.objective.design
        call: Callable[..., None] = sparse.epoch if design.sparse else dense.epoch
        share = max(1.0, design.n_stored * self.objective.n_outputs / max(n_steps, 1))
        at_once = max(1, int(WORK / share))
        for start in range(0, n_steps, at_once):
            call(self._plan, *design.arrays, self._params, self._scores, start, min(start + at_once, n_steps))
        sparse.finish(self._plan, self._params, n_steps)
        self.state["t"] = t0 + n_steps

    def _full_step(self, learning_rate: float) -> None:
        """One step against the gradient of F itself, summed in float64; the intercept does not decay."""
        rule, flat, cut = self.optimizer, self._params[0], self.objective.n_features * self.objective.n_outputs
        g = rule._clip(self.objective.gradient(self.w).astype(flat.dtype).reshape(-1))
        t = int(self.state["t"]) + 1
        row = rule._row(t, learning_rate, self.state)
        slots = rule._slot_arrays(flat, self.state)
        kind, intercept_rule = RULES[rule._kernel], replace(rule, weight_decay=None)
        step.dense(kind, rule._hyper_array, row, flat[:cut], g[:cut], *(slot[:cut] for slot in slots))
        row = (1.0, *row[1:])
        step.dense(kind, intercept_rule._hyper_array, row, flat[cut:], g[cut:], *(slot[cut:] for slot in slots))
        if rule.ema_momentum is not None:
            step.average(flat, self.state["ema"].reshape(-1), rule.ema_momentum if t > 1 else 0.0)
        self.state["t"] = t

    def snapshot(self) -> tuple[NDArray[Any], dict[str, Any]]:
        """Copies of parameters and state, for `restore`."""
        return self._params[:-1].copy(), {k: v for k, v in self.state.items() if not isinstance(v, np.ndarray)}

    def restore(self, snapshot: tuple[NDArray[Any], dict[str, Any]]) -> None:
        """Back to a snapshot."""
        self._params[:-1] = snapshot[0]
        self.state |= snapshot[1]
        self._plan.reset()

    def restart(self, snapshot: tuple[NDArray[Any], dict[str, Any]], scale: float) -> None:
        """From a snapshot's parameters with a fresh state, at `scale` times the learning rate."""
        self.restore(snapshot)
        self.forget()
        self.optimizer._keep_start(self.w, self.state, scale)

    def forget(self) -> None:
        """The rule's state as before the first step; the parameters stay."""
        for slot in self.optimizer._arrays:
            self.state[slot][...] = self.optimizer._start(slot, self.w)
        self.state |= {"t": 0} | self.optimizer._scalars()

    def _restore_state(self, state: dict[str, Any]) -> None:
        for key, value in state.items():
            if isinstance(self.state.get(key), np.ndarray):
                self.state[key][...] = value
            else:
                self.state[key] = value


def touch_shares(counts: NDArray[np.int64], n: int, b: int) -> NDArray[np.float64]:
    """The share of batches of b of n rows that touch a column with entries in `counts` rows.

    1 - C(n - c, b) / C(n, b), by its product: differences of logarithms of factorials lose it for large n.
    """
    values, inverse = np.unique(counts, return_inverse=True)
    missed = np.zeros(len(values))
    for i in range(b):
        missed += np.log1p(-np.minimum(values / (n - i), 1 - 1e-16))
    return np.asarray(-np.expm1(missed)[inverse])


def stochastic(
    objective: Objective, w: NDArray[Any], optimizer: Optimizer, *, batch_size: int | str, tol: float, max_iter: int,
    rng: np.random.RandomState | np.random.Generator, verbose: int = 0, state: dict[str, Any] | None = None,
) -> Result:  # fmt: skip
    """Minimises F from w by epochs in shuffled order until the gradient's norm over all the data is at most tol.

    With ``learning_rate="auto"`` the rate starts from the data (`auto_learning_rate`) and falls to zero, linearly, in
    cycles of 1, 2, 3, 5, 8, 12, ... epochs: at a constant rate the iterates end in a cloud around the minimum whose
    size is proportional to the rate, and how soon it must fall nobody knows beforehand. Cycles begin 1.3 times higher
    as long as each one lowers F; after one that does not, from the best parameters at half the rate. Rules that
    average, and Ftrl, keep the rate; the former raise it by as much per epoch until F rises; it is halved after 3
    epochs without a new lowest F. With all rows in each step
    it is the momentum that overshoots: it starts anew instead. An epoch that ends not finite, or with F above its
    start value, is undone: the best parameters so far go on with a fresh state and a rate four times smaller, up to
    `RETRIES` times in a row.

    The cycles' figures are the best of a grid on five problems of the bench times 14 rules: epochs to a relative gap
    of 1e-2 over those at the best constant rate, geometric mean 1.15 (halving after 1, 2, 3 epochs: more than 1.5).

    References
    ----------
    Defazio, Cutkosky, Mehta, Mishchenko, "Optimal linear decay learning rate schedules and further refinements", 2023,
    section 2 (linear decay).
    O'Donoghue, Candès, "Adaptive restart for accelerated gradient schemes", 2015, section 3.2 (the momentum's restart).
    """
    epochs = Epochs(objective, optimizer, batch_size, w=w, state=state)
    averages = optimizer.averaged(epochs.w, epochs.state) is not epochs.w
    auto = optimizer.learning_rate == "auto"
    if auto:
        epochs.optimizer = optimizer.with_learning_rate(auto_learning_rate(objective, optimizer, epochs.batch_size))
    scale = 1.0
    if state is None:
        epochs.optimizer._keep_start(epochs.w, epochs.state, scale)
    monitor = Monitor(objective, tol, verbose)
    if monitor.check(epochs.solution, 0):
        return monitor.result(epochs.solution.copy(), 0, "tol", epochs.state)
    start = best_value = monitor.value
    # A rate that falls means something else to rules that average, and to Ftrl, whose step depends on the last rate.
    cycles = auto and not epochs.full and not averages and optimizer._kernel != "ftrl"
    rising, at, length, cycle_start = True, 0, 1, start
    best, best_row = epochs.snapshot(), monitor.rows[-1]
    reason, done, failures, rises = "max_iter", 0, 0, 0
    whole = (best, 1, 0)  # the last whole epoch's parameters, how many measurements there were, and its number
    try:
        while done < max_iter:
            order = None if epochs.full else rng.permutation(objective.n_samples)
            rate = scale * np.asarray(epochs.optimizer.rate(np.arange(epochs.n_steps) + float(epochs.state["t"])))
            if cycles:
                left = 1 - (at + (np.arange(epochs.n_steps) + 0.5) / epochs.n_steps) / length
                # Columns that wait know constant rates only: they fall epoch by epoch.
                rate = rate * (left.mean() if epochs._may_wait else left)
            with np.errstate(over="ignore", invalid="ignore"):
                epochs.run(order, None if scale == 1 and not cycles else rate)
                converged = monitor.check(epochs.solution, done + 1, float(np.max(rate)))
            finite = np.isfinite(monitor.value) and np.isfinite(monitor.grad_norm)
            if not finite or monitor.value > start * (1 + 1e-12):
                monitor.forget_last()
                failures, scale, rising = failures + 1, scale / 4, False
                epochs.restart(best, scale)
                if failures > RETRIES:
                    reason = "diverged"
                    break
                continue
            done, failures = done + 1, 0
            whole = (epochs.snapshot(), len(monitor.rows), done)
            if converged:
                reason = "tol"
                break
            rises = rises + 1 if monitor.value >= best_value else 0
            if monitor.value < best_value:
                best_value, best, best_row = monitor.value, whole[0], monitor.rows[-1]
            if cycles and (at := at + 1) == length:
                at, length = 0, round(LONGER * length + 0.1)
                if best_value < cycle_start:
                    scale *= HIGHER if rising else 1
                else:
                    rising, scale = False, scale / 2
                    epochs.restart(best, scale)
                cycle_start = best_value
            elif auto and rises and epochs.full and "u" in optimizer.slots:
                epochs.forget()
            elif auto and averages and rising and not rises:
                scale *= HIGHER
                epochs.optimizer._keep_start(epochs.w, epochs.state, scale)
            elif auto and not cycles and rises >= (1 if averages and rising else PATIENCE):
                rising, rises, scale = False, 0, scale / 2
                if averages:
                    epochs.optimizer._keep_start(epochs.w, epochs.state, scale)
                else:
                    epochs.restart(best, scale)
    except KeyboardInterrupt:
        epochs.restore(whole[0])
        del monitor.rows[whole[1] :]
        reason, done = "interrupted", whole[2]
    if reason in ("max_iter", "diverged") and monitor.value > best_value:
        epochs.restore(best)
        monitor.rows.append(best_row)
    return monitor.result(epochs.solution.copy(), done, reason, {**epochs.state})


#: An automatic rate's cycles: how much longer than the last, and how much higher as long as each lowers F.
LONGER, HIGHER = 1.5, 1.3
#: Epochs without a new lowest F after which a rate that has no cycles is halved.
PATIENCE = 3
#: Epochs undone in a row before a fit is called diverged: the rate is then 4^-8 of what it was.
RETRIES = 8


def auto_learning_rate(objective: Objective, optimizer: Optimizer, batch_size: int) -> float:
    """A learning rate from the data.

    For plain steps 2 / L (1 / L with all rows), L being the expected smoothness of a batch of b of n rows,
    ``n (b - 1) / (b (n - 1)) L_full + (n - b) / (b (n - 1)) L_row + alpha``, where L_row is the mean over rows and not,
    as in the worst case of the theory, the largest: the solver's guard and its halving stand behind it. Momentum
    multiplies the second, noise's part by 1 / (1 - mu). The other rules, and losses whose slope is not Lipschitz, are
    calibrated (`_calibrated`).

    References
    ----------
    Gower, Loizou, Qian, Sailanbayev, Shulgin, Richtárik, "SGD: General analysis and improved rates", ICML 2019,
    eq. (15).
    """
    n = objective.n_samples
    norms = objective.design.row_norms_squared + objective.fit_intercept
    if len(objective.weights):
        norms = norms * objective.weights.reshape(n, -1).max(axis=1)
    if not np.isfinite(norms).all():
        return 0.0
    curvature = objective.loss.max_curvature
    if optimizer._kernel not in ("sgd", "momentum", "nesterov") or not np.isfinite(curvature):
        return _calibrated(objective, optimizer, batch_size)
    row = curvature * float(norms.mean())
    full = min(_largest_curvature(objective), row)
    b = batch_size
    noise = (n - b) / (b * (n - 1)) / (1 - getattr(optimizer, "momentum", 0.0)) if b < n else 0.0
    smoothness = (n * (b - 1) / (b * (n - 1)) if b < n else 1.0) * full + noise * row + objective.l2
    return (1 if b == n else 2) / max(smoothness, 1e-300)


def _calibrated(objective: Objective, optimizer: Optimizer, batch_size: int) -> float:
    """The rate of 4^k times the rule's default that lowers F most, where the default is tried first and k climbs
    while it pays.

    Tried on up to 1,024 rows, in some 64 steps from w = 0: about the cost of an epoch on 10,000 rows.

    References
    ----------
    Bottou, "Stochastic gradient descent tricks", 2012, section 4.2.
    """
    n = objective.n_samples
    rows = np.linspace(0, n - 1, min(n, max(1024, batch_size))).astype(np.intp)
    sample = objective.rows(rows) if len(rows) < n else objective
    orders = [np.random.default_rng(0).permutation(len(rows)) for _ in range(64)]
    size = min(batch_size, len(rows))
    epochs_wanted = max(1, min(64, -(-64 * size // len(rows))))

    def reached(rate: float) -> float:
        epochs = Epochs(sample, optimizer.with_learning_rate(rate), size)
        for order in orders[:epochs_wanted]:
            epochs.run(order)
        value = sample.value(epochs.solution)
        return value if np.isfinite(value) else np.inf

    default = type(optimizer)().learning_rate
    rate = float(default) if isinstance(default, int | float) else 0.01
    with np.errstate(over="ignore", invalid="ignore"):
        best = reached(rate)
        for factor in (4.0, 0.25):
            start = best
            while 1e-8 < rate * factor < 1e6 and (value := reached(rate * factor)) < best:
                rate, best = rate * factor, value
            if best < start:
                break
    return rate


def _largest_curvature(objective: Objective, iterations: int = 8) -> float:
    """Upper estimate of the largest eigenvalue of the data's Hessian anywhere.

    Power iteration at w = 0, where the logistic losses curve most, with a tenth added for what it has not found yet;
    on a sample of the rows, whose largest eigenvalue is on average above that of all.
    """
    objective = objective.sample(4096)
    zeros = np.zeros(objective.shape)
    v = np.random.default_rng(0).standard_normal(objective.shape)
    value = 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(iterations):
            v /= max(float(np.linalg.norm(v)), 1e-300)
            v = objective.hessian_product(zeros, v)
            value = float(np.linalg.norm(v))
    return 1.1 * value
