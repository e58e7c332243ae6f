"""Epochs of any update rule over minibatches, and the loop that drives them to `tol`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastopt._design import WORK
from fastopt._kernels import dense, plan, sparse, step
from fastopt._kernels import lazy as lazy_kernel
from fastopt._kernels.step import RULES, SLOTS
from fastopt.objective import Objective
from fastopt.optimizers import GradientDescent, Optimizer
from fastopt.solvers import resume
from fastopt.solvers.monitor import Monitor, Result

__all__ = ["Epochs", "stochastic"]

#: Stamps of idle coordinates are int32: in an epoch of more steps every coordinate takes each of them.
MOST_STEPS = 2**31 - 2
#: Columns that the lazy kernel packs at once, and bytes of a cache line.
BLOCK, LINE = 256, 64


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
        l2, touched = np.empty(0), np.empty(0, np.intp)
        first, local = np.empty(0, np.int32), np.empty(0, np.int32)
        K = objective.n_outputs
        if self._may_wait:
            assert design.indptr is not None
            entries = int(np.diff(design.indptr).max(initial=0)) * self.batch_size
            most = max(BLOCK, min(d, entries))
            touched, first, local = np.empty(most, np.intp), np.empty(most * K, np.int32), np.empty(entries, np.int32)
            self._small = np.empty((SLOTS + 3, most * K), design.dtype)
            self._records = records(d, (len(optimizer.slots) + 1) * K + 1, design.dtype)
            if objective.alpha and not optimizer.exact_l2:
                share = touch_shares(design.column_counts, n, self.batch_size)
                l2 = np.divide(objective.alpha, share, out=np.zeros(d), where=share > 0)
                self.w[:d][design.column_counts == 0] = 0  # never touched: its minimiser is zero
        self._scores = np.empty((1 if self.full else self.batch_size, objective.n_outputs), dtype=design.dtype)
        self._plan = plan.Plan(
            objective.kernel_loss, objective.loss.parameter, objective.alpha, objective.y, objective.weights, d,
            K, objective.fit_intercept, self.batch_size, l2, touched, first, local,
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
        lazy = self._may_wait and n_steps <= MOST_STEPS and self.optimizer.idles_exactly(self.objective.alpha, constant)
        if constant and not lazy and n_steps and self.optimizer.same_every_step:
            rates = rates[:1]
        table, hyper = self.optimizer.table(t0, rates, self.state, lazy=lazy, alpha=self.objective.alpha, rate=rate)
        if len(rates) < n_steps:
            table = table[1:]
        if not np.isfinite(table[:, -1]).all():  # decay by a factor <= 0 has no logarithm
            lazy = False
        self._plan.begin(order, table, hyper, t0)
        design, params = self.objective.design, (self._params,)
        call: Callable[..., None] = sparse.epoch if design.sparse else dense.epoch
        if lazy:
            call, params = lazy_kernel.epoch, (self._params, self._records, self._small)
            lazy_kernel.pack(self._plan, *params)
        share = max(1.0, design.n_stored * self.objective.n_outputs / max(n_steps, 1))
        at_once = max(1, int(WORK / share) // (16 if lazy else 1))  # an entry's lazy step costs some ten times as much
        for start in range(0, n_steps, at_once):
            call(self._plan, *design.arrays, *params, self._scores, start, min(start + at_once, n_steps))
        if lazy:
            lazy_kernel.unpack(self._plan, *params, n_steps)
        sparse.finish(self._plan, self._params[0])
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

    def restart(self, w: NDArray[Any], scale: float) -> None:
        """From parameters w with a fresh state, at `scale` times the learning rate."""
        self.w[...] = w
        self.forget()
        self._plan.reset()
        self.optimizer._keep_start(self.w, self.state, scale)

    def forget(self) -> None:
        """The rule's state as before the first step; the parameters stay."""
        for slot in self.optimizer._arrays:
            self.state[slot][...] = self.optimizer._start(slot, self.w)
        self.state |= {"t": 0} | self.optimizer._scalars()

    def _restore_state(self, state: dict[str, Any]) -> None:
        for key, value in self.state.items():
            if isinstance(value, np.ndarray):
                value[...] = state[key]
            else:
                self.state[key] = state[key]


def records(n: int, width: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """A column's record takes a power of two up to a cache line, whole lines beyond, and begins where they begin."""
    line = LINE // dtype.itemsize
    width = 1 << (width - 1).bit_length() if width <= line else -(-width // line) * line
    room = np.empty(n * width + line, dtype)
    skip = -room.ctypes.data % LINE // dtype.itemsize
    return room[skip : skip + n * width].reshape(n, width)


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

    With ``learning_rate="auto"`` the rate starts from the data (`auto_learning_rate`) and is halved after every epoch
    that does not lower F: at a constant rate the iterates end in a cloud around the minimum whose size is
    proportional to the rate. Two such epochs in a row start anew from the best parameters so far. With all rows in
    each step it is the momentum that overshoots: it starts anew instead. An epoch that ends not finite, or with F
    above its start value, is undone: the best parameters so far go on with a fresh state and a rate four times
    smaller, up to `RETRIES` times in a row.

    With the `state` that an earlier run returned beside w it goes on where that run ended, as if it had not: k epochs
    and k more are 2k epochs, bit for bit, the order of the rows included (`rng` is not used then). See `resume`.

    References
    ----------
    O'Donoghue, Candès, "Adaptive restart for accelerated gradient schemes", 2015, section 3.2 (the momentum's restart).
    """
    before = resume.fitting(state, objective, optimizer, w)
    rng = resume.generator(before) or rng
    epochs = Epochs(objective, optimizer, batch_size, w=w if before is None else before["run"]["w"], state=before)
    averages = optimizer.averaged(epochs.w, epochs.state) is not epochs.w
    auto = optimizer.learning_rate == "auto"
    monitor = Monitor(objective, tol, verbose)
    converged = monitor.check(epochs.solution, 0)
    run = resume.Run.of(before, optimizer, epochs.batch_size, w, monitor.rows[0])
    if run is None:
        first = auto_learning_rate(objective, optimizer, epochs.batch_size) if auto and not converged else None
        best, row = epochs.solution.copy(), monitor.rows[0]
        run = resume.Run(resume.settings(optimizer, epochs.batch_size), first, monitor.value, row, best, row)
    if run.learning_rate is not None:
        epochs.optimizer = optimizer.with_learning_rate(run.learning_rate)
    if before is None and not converged:
        epochs.optimizer._keep_start(epochs.w, epochs.state, run.scale)
    reason, done, failures = "tol" if converged else "max_iter", 0, 0
    # The last whole epoch: what goes on from it, its parameters and state, and how many measurements there were.
    whole = (run, epochs.snapshot(), resume.random_numbers(rng), 1, 0)
    try:
        while not converged and done < max_iter:
            if auto and run.rises and not failures:
                run = replace(run)
                if epochs.full and "u" in optimizer.slots:
                    epochs.forget()
                else:
                    run.scale /= 2
                    if run.rises > 1 and not averages:  # the rate falls faster than the iterates come back
                        epochs.restart(run.best, run.scale)
                        run.rises = 0
                    epochs.optimizer._keep_start(epochs.w, epochs.state, run.scale)
            order = None if epochs.full else shuffled(rng, objective.n_samples)
            steps = np.arange(epochs.n_steps) + float(epochs.state["t"])
            rate = run.scale * np.asarray(epochs.optimizer.rate(steps))
            with np.errstate(over="ignore", invalid="ignore"):
                epochs.run(order, None if run.scale == 1 else rate)
                converged = monitor.check(epochs.solution, done + 1, float(np.max(rate)))
            finite = np.isfinite(monitor.value) and np.isfinite(monitor.grad_norm)
            if not finite or monitor.value > run.start * (1 + 1e-12):
                monitor.forget_last()
                converged, failures = False, failures + 1
                run = replace(run, scale=run.scale / 4, row=run.best_row)
                epochs.restart(run.best, run.scale)
                if failures > RETRIES:
                    reason = "diverged"
                    whole = (run, epochs.snapshot(), resume.random_numbers(rng), len(monitor.rows), done)
                    break
                continue
            row, snapshot = monitor.rows[-1], epochs.snapshot()
            run = replace(run, rises=run.rises + 1 if monitor.value >= run.row[2] else 0, row=row)
            if monitor.value < run.best_row[2]:
                best = epochs.solution.copy() if averages else snapshot[0][0].reshape(epochs.w.shape)
                run.best, run.best_row = best, row
            done, failures = done + 1, 0
            whole = (run, snapshot, resume.random_numbers(rng), len(monitor.rows), done)
        if converged:
            reason = "tol"
    except KeyboardInterrupt:
        reason = "interrupted"
    run, snapshot, numbers, measurements, done = whole
    epochs.restore(snapshot)
    del monitor.rows[measurements:]
    solution = epochs.solution
    if reason in ("max_iter", "diverged") and monitor.value > run.best_row[2]:
        solution = run.best
        monitor.rows.append(run.best_row)
    kept = {key: a.copy() if isinstance(a, np.ndarray) else a for key, a in epochs.state.items()}
    kept["run"] = run.as_dict(epochs.w, solution, numbers)
    return monitor.result(solution.copy(), done, reason, kept)


#: Rows that NumPy shuffles at once.
SHUFFLE = 1 << 20


def shuffled(rng: np.random.RandomState | np.random.Generator, n: int) -> NDArray[np.intp]:
    """A random order of n rows, every one as likely.

    Of many rows each draws one of several buckets, and the buckets are shuffled one after the other: faster than a
    shuffle that jumps about in all the memory, and it sees Ctrl-C.
    """
    if n <= SHUFFLE:
        return rng.permutation(n)
    draw = rng.randint if isinstance(rng, np.random.RandomState) else rng.integers
    buckets: list[list[NDArray[np.intp]]] = [[] for _ in range(min(1 << 16, 4 * -(-n // SHUFFLE)))]
    for start in range(0, n, SHUFFLE):
        drawn = draw(0, len(buckets), min(SHUFFLE, n - start), dtype=np.uint16)
        rows = start + np.argsort(drawn, kind="stable")
        ends = np.cumsum(np.bincount(drawn, minlength=len(buckets)))
        for bucket, part in zip(buckets, np.split(rows, ends[:-1]), strict=True):
            bucket.append(part)
    order, done = np.empty(n, np.intp), 0
    for bucket in buckets:
        part = np.concatenate(bucket)
        rng.shuffle(part)
        order[done : done + len(part)] = part
        done += len(part)
    return order


#: Epochs undone in a row before a fit is called diverged: the rate is then 4^-8 of what it was.
RETRIES = 8


def auto_learning_rate(objective: Objective, optimizer: Optimizer, batch_size: int) -> float:
    """A learning rate from the data.

    For plain steps 2 / L (1 / L with all rows), L being the expected smoothness of a batch of b of n rows,
    ``n (b - 1) / (b (n - 1)) L_full + (n - b) / (b (n - 1)) L_row + alpha``, where L_row is the mean over rows and not,
    as in the worst case of the theory, the largest: the solver's guard and its halving stand behind it. Momentum
    multiplies the second, noise's part by 1 / (1 - mu). The other rules are calibrated (`_calibrated`).

    References
    ----------
    Gower, Loizou, Qian, Sailanbayev, Shulgin, Richtárik, "SGD: General analysis and improved rates", ICML 2019,
    eq. (15).
    """
    n = objective.n_samples
    with np.errstate(over="ignore", invalid="ignore"):
        norms = objective.design.row_norms_squared + objective.fit_intercept
        if len(objective.weights):
            norms = norms * objective.weights
    if not np.isfinite(norms).all():
        return 0.0
    if optimizer._kernel not in ("sgd", "momentum", "nesterov"):
        return _calibrated(objective, optimizer, batch_size)
    curvature = objective.loss.max_curvature
    row = curvature * float(norms.mean())
    full = min(_largest_curvature(objective), row)
    b = batch_size
    noise = (n - b) / (b * (n - 1)) / (1 - getattr(optimizer, "momentum", 0.0)) if b < n else 0.0
    smoothness = (n * (b - 1) / (b * (n - 1)) if b < n else 1.0) * full + noise * row + objective.alpha
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

    Power iteration at w = 0, where the logistic losses curve most, with a tenth added for what it has not found yet.
    """
    zeros = np.zeros(objective.shape)
    v = np.random.default_rng(0).standard_normal(objective.shape)
    value = 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(iterations):
            v /= max(float(np.linalg.norm(v)), 1e-300)
            v = objective.hessian_product(zeros, v)
            value = float(np.linalg.norm(v))
    return 1.1 * value
