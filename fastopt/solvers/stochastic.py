"""Epochs of any update rule over minibatches, and the loop that drives them to `tol`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastopt._design import WORK, Design
from fastopt._kernels import dense, plain, plan, sparse, step
from fastopt._kernels import lazy as lazy_kernel
from fastopt._kernels.step import RULES, SLOTS
from fastopt._memory import lines, records
from fastopt._order import ahead, epoch_order
from fastopt._validation import check_choice, check_integer, check_positive
from fastopt.objective import Objective
from fastopt.optimizers import GradientDescent, Optimizer
from fastopt.solvers import resume
from fastopt.solvers.monitor import Monitor, Reporter, Result, norm

__all__ = ["Around", "Epochs", "stochastic"]

#: Parameters with the rule's arrays, and its scalars.
Snapshot = tuple[NDArray[Any], dict[str, Any]]

#: Stamps of idle coordinates are int32: in an epoch of more steps every coordinate takes each of them.
MOST_STEPS = 2**31 - 2
#: Columns that the lazy kernel packs at once.
BLOCK = 256
#: What it costs to bring a touched coordinate up to date, in coordinates of a step of all: measured for Adam, momentum
#: and RMSprop on 50,000 columns, where both ways cost the same at 32 rows of 75 nonzeros.
TOUCH = 24
#: Steps at a time of those that keep a history for the columns that wait: bounds its memory.
HISTORY_STEPS = 2**19

#: The kernels' numbers of the step sizes that the rows choose themselves.
PASSIVE = {"pa1": 1, "pa2": 2}

#: Epochs undone in a row before a fit is called diverged: the rate is then 4^-8 of what it was.
RETRIES = 8

#: An automatic rate's cycles: how much longer than the last, and how much higher or lower. The best of a grid on five
#: problems of the bench times ten rules: 0.88, 0.73 and 0.78 of the epochs (geometric means) to relative gaps of 1e-2,
#: 1e-3 and 1e-4 that cycles take which rise as long as each lowers F; those took 1.15 times the epochs of the best
#: constant rate to 1e-2.
LONGER, HIGHER, LOWER = 1.5, 1.3, 0.6
#: Epochs of a cycle from which on its share above its start says something.
TELLING = 5
#: What a cycle must lower F by, as a part of it, for a batch that may grow to stay as it is. Within 200 epochs, three
#: seeds, both rules, five problems of the bench and digits with one column for each of four levels of a pixel: 0.63,
#: 0.87 and 0.66 of the epochs to relative gaps of 1e-2, 1e-3 and 1e-4 that a batch of one size takes, and 1e-2 was
#: missed by 2 of 36 fits in place of 15 (1e-3 takes longer on digits_parity). For the other rules that have cycles it
#: would be 1.04, 1.45 and 1.14 of the epochs.
PAYS = 0.01
#: Epochs without a new lowest F after which a rate that has no cycles is halved for the first time.
PATIENCE = 3
#: Of the rules that average, the one that does not raise the rate which its trials found: that is high enough for steps
#: that do not shrink as the gradient does. 0.80, 0.92 and 0.85 of the epochs to relative gaps of 1e-2, 1e-3 and 1e-4 on
#: the 13 problems by which that was chosen; for schedule-free SGD it would be 0.98, 0.96 and 1.08.
KEEPS_TRIED = "schedule_free_adam"
#: Epochs without a new lowest F after which gradient descent goes back to the lowest.
MEMORY = 10

#: Steps in which a learning rate is tried.
TRIAL_STEPS = 64
#: The share of what a rate lowers F by that four times the rate keeps, where a quarter of it is not worth a trial.
FLAT = 0.75


@dataclass(frozen=True)
class Around:
    """What goes around a plain SGD step; all of it on is scikit-learn's step.

    Parameters
    ----------
    average : int >= 0, default 0
        ``state["average"]`` is the mean of the iterates from this step on (counted from 1), and `Epochs.solution` once
        there is one; 0 is off. On CSR at O(nonzeros).
    l1 : "proximal" or "truncated", default "proximal"
        How L1 acts after each step. "proximal": ``w_j`` moves towards zero by ``lr alpha l1_ratio``, and no further.
        "truncated": ``w_j`` pays, towards zero and no further, what L1 has asked so far, the sum of
        ``lr alpha l1_ratio``, less what it has paid; ``state["l1_owed"]`` and ``state["l1_paid"]`` go on over epochs.
        Both wait on CSR until a row touches the column, and give the iterates of dense data.
    passive : "pa1", "pa2" or None, default None
        The step of a row is ``min(bound, loss / ||x||^2)`` or ``loss / (||x||^2 + 1 / (2 bound))`` along y x (sign(y -
        z) x in regression), whatever the learning rate, which then only scales the penalty. `||x||` is without the
        intercept.
    bound : float > 0, default 1.0
    guarded : bool, default False
        Slopes are cut to +-1e12, and w is never shrunk by L2 beyond zero.
    raw_weights : bool, default False
        Sample weights multiply steps as they are, instead of divided by their mean.
    measures : bool, default False
        `Epochs.sums` holds the last epoch's sums of losses and of penalties, each at the w of its step, for every
        output, without another pass. Losses are not weighted. On CSR, penalties do not see L1 that still waits.
    calm : bool, default False
        On CSR an output's intercept moves at the rate ``4 / h``, in batches of b rows ``4 b / h``, but at most at lr
        and at least at lr / 100; h, ``state["intercept_curvature"]``, is three times the loss's largest curvature (1
        where it has none) and the sum of the rows' so far: s_i times the squared slope ("log_loss", "multinomial",
        "hinge", "perceptron"), or the slope over the distance from the loss's minimum (losses made of squares). An
        intercept sees every row, a coefficient few: at one rate for all, what chance adds to the intercept is most of
        F's distance from its minimum. ``1 / h`` would be an online Newton step, which weighs all rows alike; this
        weighs the t-th by t^3, as the coefficients change. At a hundredth of lr, scikit-learn's rate, it still follows
        rows that change. Other losses keep lr, as do passive-aggressive steps.

    References
    ----------
    Tsuruoka, Tsujii, Ananiadou, "Stochastic gradient descent training for L1-regularized log-linear models with
    cumulative penalty", ACL 2009, section 3.2. Xu, "Towards optimal one pass large scale learning with averaged
    stochastic gradient descent", 2011. Crammer et al., "Online passive-aggressive algorithms", JMLR 7, 2006, eq. (15).
    Duchi, Singer, "Efficient online and batch learning using forward backward splitting", JMLR 10, 2009, section 5.
    Amari, "Natural gradient works efficiently in learning", Neural Computation 10(2), 1998 (1 / h). Shamir, Zhang,
    "Stochastic gradient descent for non-smooth optimization", ICML 2013, section 4 (weights of t^3).
    """

    average: int = 0
    l1: str = "proximal"
    passive: str | None = None
    bound: float = 1.0
    guarded: bool = False
    raw_weights: bool = False
    measures: bool = False
    calm: bool = False

    def __post_init__(self) -> None:
        check_integer("average", self.average, low=0)
        check_choice("l1", self.l1, ("proximal", "truncated"))
        if self.passive is not None:
            check_choice("passive", self.passive, PASSIVE)
        check_positive("bound", self.bound)


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
    around : Around or None
        What goes around plain SGD steps; for SGD without momentum, clipping and moving average alone.

    Attributes
    ----------
    w : ndarray (n_features + fit_intercept, n_outputs), X's dtype
    state : dict
        The optimizer's state, its arrays shaped like w.
    sums : ndarray of float64, (2, n_outputs)
        Sums of the last epoch's losses and penalties, under ``Around(measures=True)``.
    gradient : ndarray of float64 like w, or None
        That of F without L1 at w, where whoever drives the epochs knows it: a step on all rows needs no pass then.

    Notes
    -----
    The gradient of a batch B of b rows is ``1/b sum_{i in B} s_i / mean(s) dloss_i x_i + alpha w``: its expectation is
    the gradient of F. Beside X this holds w, the slots and one gradient, and b rows of raw predictions.
    """

    def __init__(
        self, objective: Objective, optimizer: Optimizer, batch_size: int | str = 1, *,
        w: NDArray[Any] | None = None, state: dict[str, Any] | None = None, lazy: bool | None = None,
        around: Around | None = None,
    ) -> None:  # fmt: skip
        self.objective, self.optimizer = objective, optimizer
        n = objective.n_samples
        full = batch_size == "full" or isinstance(optimizer, GradientDescent)
        self.batch_size = n if full else min(int(batch_size), n)
        self.full = self.batch_size == n and around is None
        # Plain SGD scatters straight into w, unless something goes around its steps.
        self._plain = is_plain(optimizer)
        if around is not None:
            self._check_around(around)
        elif self._plain and objective.l1 and not self.full:
            around = Around()
        self.around = around
        # FTRL has L1 in its own formula: its step t has t times the strength of one step.
        self._ftrl = optimizer._kernel.startswith("ftrl")
        self._may_wait = self._waits(lazy)
        self._allocate_params(w, state)
        self._allocate_scores()
        self._plan = self._make_plan()
        if around is not None:
            self._prepare(around, state)

    def _check_around(self, around: Around) -> None:
        if not self._plain:
            raise ValueError(f"around must be None for all but plain SGD; got {around!r} with {self.optimizer!r}.")
        if around.passive is not None and self.objective.loss.targets == "multiclass":
            raise ValueError(f"passive must be None for the loss 'multinomial'; got {around.passive!r}.")

    def _waits(self, lazy: bool | None) -> bool:
        """Whether CSR steps may leave coordinates for later: `run` looks at the learning rates, too."""
        design = self.objective.design
        if not design.sparse or self.full or self._plain:
            return False
        if lazy is not None:
            return lazy
        per_batch = design.n_stored / max(self.objective.n_samples, 1) * self.batch_size
        return TOUCH * per_batch < self.objective.n_features

    def _allocate_params(self, w: NDArray[Any] | None, state: dict[str, Any] | None) -> None:
        """w and the arrays of its state, which are the rows of one array; one row more is the kernels' own."""
        shape, around = self.objective.shape, self.around
        arrays = self.optimizer._arrays
        if around is not None:
            arrays += ("average",) * (around.average > 0) + ("l1_paid",) * (around.l1 == "truncated")
        self._arrays = arrays
        size = shape[0] * shape[1]
        self._params = lines(len(arrays) + 2, size, self.objective.design.dtype)
        self._params[...] = 0
        self.w = self._params[0, :size].reshape(shape)
        self.gradient: NDArray[np.float64] | None = None
        if w is not None:
            self.w[...] = w
        self.state: dict[str, Any] = {}
        for i, slot in enumerate(arrays):
            self.state[slot] = self._params[1 + i, :size].reshape(shape)
        self.forget()
        if state is not None:
            self._restore_state(state)

    def _allocate_scores(self) -> None:
        """The raw predictions of a batch; of several outputs, by whole vectors, w, the gradient and four rows' too."""
        design, K = self.objective.design, self.objective.n_outputs
        self._scores = np.empty((1 if self.full else self.batch_size, K), dtype=design.dtype)
        packed = dense.width(K, design.dtype.itemsize) if K > 1 and not design.sparse and not self.full else 1
        rows = 2 * self.objective.n_features + 4 if packed > 1 else 1
        self._packed = lines(1, rows * packed, design.dtype)[0, : rows * packed].reshape(rows, packed)

    def _make_plan(self) -> plan.Plan:
        """The kernels' view of the problem, the batches and the rule."""
        objective, optimizer, around, design = self.objective, self.optimizer, self.around, self.objective.design
        # Penalties of columns that wait: at the touches alone, by the inverse share of batches that touch them.
        weighs_l2 = self._may_wait and objective.l2 > 0 and not optimizer.exact_l2
        weighs_l1 = self._may_wait and objective.l1 > 0 and not optimizer.exact_l1
        inverse_shares = np.empty(0)
        if weighs_l2 or weighs_l1:
            share = touch_shares(design.column_counts, objective.n_samples, self.batch_size)
            inverse_shares = np.divide(1.0, share, out=np.zeros(len(share)), where=share > 0)
        touched, first, local = self._allocate_lazy(weighs_l2 or weighs_l1)
        raw = around is not None and around.raw_weights
        # Steps that go straight into w do not ask, nor do those of all columns; the first epoch may find it out.
        asks = self._may_wait or (around is not None and design.sound)
        made = plan.Plan(
            loss=objective.kernel_loss, loss_parameter=objective.loss.parameter, alpha=objective.l2,
            y=objective.y.ravel(), weights=objective.sample_weight.ravel() if raw else objective.weights,
            n_features=objective.n_features, n_outputs=objective.n_outputs, intercept=objective.fit_intercept,
            batch_size=self.batch_size, touched=touched, first=first, local=local,
            distinct=design.distinct if asks else False,
        )  # fmt: skip
        slot_rows = np.zeros(SLOTS + 1, np.intp)  # 0: an unused slot aliases w
        for i, position in enumerate(optimizer._positions):
            slot_rows[1 + position] = 1 + i
        averages = optimizer.ema_momentum is not None
        of_intercept = optimizer if optimizer.weight_decay is None else replace(optimizer, weight_decay=None)
        made.use(
            rule=RULES[optimizer._kernel], intercept_hyper=of_intercept._hyper_array, slot_rows=slot_rows,
            eager=not self._plain, clipnorm=optimizer.clipnorm or np.inf, clipvalue=optimizer.clipvalue or np.inf,
            ema_row=len(optimizer._arrays) if averages else 0, ema_momentum=optimizer.ema_momentum or 0.0,
        )  # fmt: skip
        made.shrink_by(0.0 if self._ftrl else objective.l1, inverse_shares, weighs_l2, weighs_l1)
        return made

    def _allocate_lazy(self, weighs: bool) -> tuple[NDArray[np.intp], NDArray[np.int32], NDArray[np.int32]]:
        """Room for the columns of a batch and for the record of each, with its inverse share where a penalty `weighs`.

        Returns what the plan takes: the touched columns' numbers, the first step that each of their outputs waits for,
        and for each entry of the batch the place of its column among these.
        """
        if not self._may_wait:
            return np.empty(0, np.intp), np.empty(0, np.int32), np.empty(0, np.int32)
        design, d, K = self.objective.design, self.objective.n_features, self.objective.n_outputs
        assert design.indptr is not None
        entries = int(np.diff(design.indptr).max(initial=0)) * self.batch_size
        most = max(BLOCK, min(d, entries) + 1)  # one more: where the kernel writes what it does not keep
        self._small = lines(SLOTS + 3, most * K, design.dtype)
        self._records = records(d, (len(self.optimizer.slots) + 1) * K + weighs + 1, design.dtype)
        local = np.empty(max(1, entries), np.int32)  # the kernels take the address of the first element
        return np.empty(most, np.intp), np.empty(most * K, np.int32), local

    def _prepare(self, around: Around, state: dict[str, Any] | None) -> None:
        """The kernels' view of what goes around the steps, which goes on from an earlier state."""
        objective, design, l1 = self.objective, self.objective.design, self.objective.l1
        d, K = objective.n_features, objective.n_outputs
        truncated = around.l1 == "truncated" and l1 > 0
        # Columns of CSR wait for their share of L1: for proximal steps alone, or each output's by itself for more.
        waits = design.sparse and l1 > 0
        several = waits and (around.average > 0 or truncated)
        self._keeps_history = several and not (truncated and not around.average and objective.l2 == 0)
        self._seen = np.zeros(d * (K if several else waits))
        joined = np.zeros(len(self._seen) if several and around.average else 0)
        most = (d if several else 0) + 1  # columns that a batch touches; one more: what the kernel does not keep
        # In plain.pxd's order: losses and penalties, v's squares and sizes, a row's x'v, curvature in the intercept.
        sums = np.zeros((6, K))
        self._measured, self._norms, curvature = sums[:2], sums[2:4], sums[5:]
        calms = around.calm and design.sparse and objective.fit_intercept and around.passive is None
        # What began without, on dense data or as this was not yet known, goes on without.
        calms = calms and self._first_curvature(around) > 0 and (state is None or "intercept_curvature" in state)
        squares = design.row_norms_squared if around.passive is not None else np.empty(0)
        rows = {name: 1 + i for i, name in enumerate(self._arrays)}
        self._extras = plain.Extras(
            l1=l1, truncated=truncated, passive=PASSIVE.get(around.passive or "", 0), bound=float(around.bound),
            guarded=around.guarded, measures=around.measures, calms=calms,
            average_row=rows.get("average", 0), paid_row=rows.get("l1_paid", 0),
            norms=np.asarray(squares, dtype=np.float64), sums=sums, seen=self._seen, joined=joined,
            mark=np.zeros(d if several else 0, np.int64), touched=np.empty(most, np.int64), moves=np.empty(most + 8),
        )  # fmt: skip
        state = state or {}
        if around.measures and l1 > 0 and not design.sparse:
            # scikit-learn's norms know nothing of what L1 took since an output last moved, also over epochs.
            self._extras.keeps_norms = True
            self.state["norms"] = self._norms
            if "norms" in state:
                self.state["norms"][...] = state["norms"]
            else:
                self._measure_anew()
        if calms:
            self.state["intercept_curvature"] = curvature
            curvature[...] = state.get("intercept_curvature", self._first_curvature(around))
        elif "intercept_curvature" in state:  # kept over dense rows, for CSR that follows
            self.state["intercept_curvature"] = np.array(state["intercept_curvature"])

    def _first_curvature(self, around: Around) -> float:
        """Of each intercept, before the first step: that of three rows, at the most that the loss has."""
        loss, weights = self.objective.loss, self.objective.sample_weight
        most = {"hinge": 1.0, "perceptron": 1.0}.get(loss.name, loss.max_curvature)
        return (3 * most if np.isfinite(most) else 0.0) * (weights.mean() if around.raw_weights and len(weights) else 1)

    @property
    def sums(self) -> NDArray[np.float64]:
        """Sums of the last epoch's losses and penalties, (2, n_outputs)."""
        return self._measured.copy()

    @property
    def solution(self) -> NDArray[Any]:
        """The parameters to use: w, or the average of the rules that keep one."""
        if self.around is not None and 0 < self.around.average <= self.state["t"]:
            return np.asarray(self.state["average"])
        return self.optimizer.averaged(self.w, self.state)

    def order(self, rng: np.random.RandomState | np.random.Generator) -> NDArray[np.intp]:
        """A new order of the rows for `run`."""
        return epoch_order(rng, self.objective.design)

    @property
    def most_rows(self) -> int:
        """The largest batch size that there may be."""
        return self.objective.n_samples

    @property
    def n_steps(self) -> int:
        """Steps of one epoch."""
        return -(-self.objective.n_samples // self.batch_size)

    def run(self, order: NDArray[np.intp] | None = None, learning_rates: NDArray[np.float64] | None = None) -> None:
        """One pass over the rows, or over those of the order.

        Parameters
        ----------
        order : ndarray of intp, or None for 0 .. n_samples - 1
            Consecutive slices are the batches. No row twice, where the entries of X are still to be checked.
        learning_rates : ndarray of float64, (n_steps,), or None for the optimizer's own
        """
        n, t0 = self.objective.n_samples, self.state["t"]
        order = np.arange(n) if order is None else np.ascontiguousarray(order, dtype=np.intp)
        if not plan.within(order, n):
            raise ValueError(f"order must hold row numbers in [0, {n}); got others.")
        n_steps = -(-len(order) // self.batch_size)
        rates, rate, constant = self._rates(n_steps, learning_rates)
        if self.full:
            for t in range(n_steps):
                self._full_step(float(rates[t]))
            return
        lazy = self._may_wait and n_steps <= MOST_STEPS and self.optimizer.idles_exactly(self.objective.l2, constant)
        table, hyper = self._table(rates, rate, constant, lazy)
        lazy = lazy and bool(np.isfinite(table[:, -1]).all())  # decay by a factor <= 0 has no logarithm
        if self.around is not None:
            self._run_around(self.around, order, table, hyper, n_steps)
            return
        self._plan.begin(order, table, hyper, t0)
        design = self.objective.design
        params: tuple[Any, ...] = (self._params, self._scores)
        call: Callable[..., None] = sparse.epoch
        if not design.sparse:
            call, params = dense.epoch, (self._params, self._scores, self._packed)
        if lazy:
            call, params = lazy_kernel.epoch, (self._params, self._records, self._small, self._scores)
            lazy_kernel.pack(self._plan, *params[:-1])
        share = max(1.0, design.n_stored * self.objective.n_outputs / max(n_steps, 1))
        at_once = max(1, int(WORK / share) // (16 if lazy else 1))  # an entry's lazy step costs some ten times as much
        for start in ahead(design, order, range(0, n_steps, at_once), self.batch_size):
            call(self._plan, *design.arrays, *params, start, min(start + at_once, n_steps))
        if lazy:
            lazy_kernel.unpack(self._plan, self._params, self._records, self._small, n_steps)
        sparse.finish(self._plan, self._params[0])
        self.state["t"] = t0 + n_steps

    def _rates(self, n_steps: int, given: NDArray[np.float64] | None) -> tuple[NDArray[np.float64], Any, bool]:
        """Each step's rate, the function behind them if it is smooth, and whether they are all the same."""
        rate: Any = self.optimizer.rate if self.optimizer.smooth else None
        if given is None:
            t0 = self.state["t"]
            rates = np.asarray(self.optimizer.rate(np.arange(t0, t0 + n_steps, dtype=np.float64)))
        else:
            rates, rate = np.asarray(given, dtype=np.float64), None
            if rates.shape not in ((), (n_steps,)):
                raise ValueError(f"learning_rates must have an element for each of {n_steps} steps; got {rates.shape}.")
        constant = not rates.ndim or (n_steps > 0 and bool((rates == rates[0]).all()))
        if constant and given is not None:
            first = float(rates.flat[0])
            rate = lambda k: first  # noqa: E731
        return np.full(n_steps, rates) if not rates.ndim else rates, rate, constant

    def _table(self, rates: NDArray[np.float64], rate: Any, constant: bool, lazy: bool) -> tuple[Any, Any]:
        """The kernels' table of these steps, of one row where all are the same, and hyperparameters."""
        n_steps, t0 = len(rates), self.state["t"]
        same = self.optimizer.same_every_step and not (self._ftrl and self.objective.l1)
        if constant and not lazy and n_steps and same:
            rates = rates[:1]
        table, hyper = self.optimizer.table(t0, rates, self.state, lazy=lazy, alpha=self.objective.l2, rate=rate)
        return table[1:] if len(rates) < n_steps else table, self._with_l1(hyper)

    @property
    def takes_several(self) -> bool:
        """Whether there is `run_several`: steps that measure, of rows in memory known to be sound; no column waits."""
        around, design = self.around, self.objective.design
        if around is None or not around.measures or not design.sound or design.mapped:
            return False
        return not design.sparse or (len(self._seen) == 0 and not around.average)

    def run_several(
        self, orders: NDArray[np.intp], learning_rates: NDArray[np.float64] | None = None
    ) -> NDArray[np.float64]:
        """As many passes over the rows at once as there are orders, to the same bits as one after the other.

        The first that ends not finite is the last.

        Parameters
        ----------
        orders : ndarray of intp, (n_epochs, n)
            As `run` takes them; n a multiple of the batch size.
        learning_rates : ndarray of float64, (n_epochs n / batch_size,), or None for the optimizer's own

        Returns
        -------
        ndarray of float64, (n_epochs at the most, 2, n_outputs)
            What `sums` would be after each.
        """
        assert self.around is not None
        design, (n_epochs, n) = self.objective.design, orders.shape
        order = orders.reshape(-1)
        if not plan.within(order, self.objective.n_samples):
            raise ValueError(f"orders must hold row numbers in [0, {self.objective.n_samples}); got others.")
        n_steps, t0 = n // self.batch_size, int(self.state["t"])
        table, hyper = self._table(*self._rates(n_epochs * n_steps, learning_rates), lazy=False)
        self._plan.distinct = design.distinct
        self._plan.begin(order, table, hyper, t0)
        averaged = self.around.average - 1 - t0 if self.around.average else n_epochs * n_steps
        self._extras.begin(np.empty((1, plain.HISTORY)), self.state.get("l1_owed", 0.0), averaged)
        sums = np.empty((n_epochs, 2, self.objective.n_outputs))
        call: Callable[..., int] = plain.sparse_epochs if design.sparse else plain.dense_epochs
        done = call(self._plan, self._extras, *design.arrays, self._params, self._scores, sums, n_steps)
        self.state["t"] = t0 + done * n_steps
        if "l1_owed" in self.state:
            self.state["l1_owed"] = self._extras.owed
        return sums[:done]

    def _run_around(
        self, around: Around, order: NDArray[np.intp], table: NDArray[np.float64], hyper: NDArray[np.float64],
        n_steps: int,
    ) -> None:  # fmt: skip
        """The steps of an epoch with something around them."""
        objective, t0 = self.objective, int(self.state["t"])
        self._measured[...] = 0
        if "norms" not in self.state:
            plain.norms(self._plan, self._extras, self._params)
        if around.average:
            self.state["average"] *= max(0, t0 - around.average + 1)
        design = objective.design
        checks, rising, finite = self._checks(order), True, True
        if not checks:
            self._plan.distinct = design.distinct
        call: Callable[..., None] = plain.sparse_epoch if design.sparse else plain.dense_epoch
        checking: Callable[..., tuple[int, bool, bool]] = plain.checking_epoch
        at_once = max(1, int(WORK / max(1.0, design.n_stored * objective.n_outputs / max(n_steps, 1))))
        for first in range(0, n_steps, HISTORY_STEPS):
            steps = min(HISTORY_STEPS, n_steps - first)
            rows = order[first * self.batch_size : (first + steps) * self.batch_size]
            part = table[first : first + steps + 1] if len(table) > 1 else table
            self._plan.begin(rows, part, hyper, t0 + first)
            history = np.empty((steps + 1 if self._keeps_history else 1, plain.HISTORY))
            averaged = around.average - 1 - t0 - first if around.average else steps
            self._extras.begin(history, self.state.get("l1_owed", 0.0), averaged)
            if self._extras.truncated and len(self._seen):  # of columns that are zero, what they have paid
                w, paid = self._params[[0, self._extras.paid_row], : len(self._seen)]
                np.copyto(self._seen, paid, where=w == 0)
            for start in ahead(design, rows, range(0, steps, at_once), self.batch_size):
                stop = min(start + at_once, steps)
                if not checks:
                    call(self._plan, self._extras, *design.arrays, self._params, self._scores, start, stop)
                    continue
                done, *found = checking(self._plan, self._extras, *design.unchecked, self._params, start, stop)
                if done < stop - start:
                    design.refuse()
                rising, finite = rising and found[0], finite and found[1]
            if design.sparse:
                plain.finish(self._plan, self._extras, self._params, steps)
            self._norms *= [[self._plan.scale**2], [self._plan.scale]]
            sparse.finish(self._plan, self._params[0])
            if "l1_owed" in self.state:
                self.state["l1_owed"] = self._extras.owed
        if checks and finite:
            design.checked(rising)
        design.check()
        self.state["t"] = t0 + n_steps
        if around.average:
            self.state["average"] /= max(1, t0 + n_steps - around.average + 1)

    def _checks(self, order: NDArray[np.intp]) -> bool:
        """Whether this epoch checks X's entries as it comes to them: it has all rows, each a step of one output's.

        Rows of a file are read ahead, by a thread that checks nothing.
        """
        around, F = self.around, self.objective
        if F.design.sound or F.design.mapped or around is None or around.average or around.passive is not None:
            return False
        lone = self.batch_size == F.n_outputs == 1 and F.loss.targets != "multiclass"
        return lone and F.l1 == 0 and len(order) == F.n_samples

    def _full_step(self, learning_rate: float) -> None:
        """One step against the gradient of F itself, summed in float64; the intercept does not decay."""
        rule, flat, cut = self.optimizer, self.w.reshape(-1), self.objective.n_features * self.objective.n_outputs
        known, self.gradient = self.gradient, None
        gradient = self.objective.smooth_value_and_gradient(self.w)[1] if known is None else known
        g = rule._clip(gradient.astype(flat.dtype).reshape(-1))
        t = int(self.state["t"]) + 1
        row = rule._row(t, learning_rate, self.state)
        slots = rule._slot_arrays(flat, self.state)
        kind, intercept_rule = RULES[rule._kernel], replace(rule, weight_decay=None)
        hyper, l1 = self._with_l1(rule._hyper_array), 0.0 if self._ftrl else self.objective.l1
        a, b, c = (slot[:cut] for slot in slots)
        step.dense(kind, hyper, row, flat[:cut], g[:cut], a, b, c, l1)
        row = (1.0, *row[1:])
        a, b, c = (slot[cut:] for slot in slots)
        step.dense(kind, intercept_rule._hyper_array, row, flat[cut:], g[cut:], a, b, c)
        if rule.ema_momentum is not None:
            step.average(flat, self.state["ema"].reshape(-1), rule.ema_momentum if t > 1 else 0.0)
        self.state["t"] = t

    def _with_l1(self, hyper: NDArray[np.float64]) -> NDArray[np.float64]:
        """The rule's hyperparameters for penalised coordinates: with L1 where its own formulas have it."""
        if not (self.optimizer.exact_l1 and self.objective.l1):
            return hyper
        hyper = hyper.copy()
        hyper[5] = self.objective.l1
        return hyper

    def drop_unused(self) -> None:
        """Zero for the columns that no row has, where a penalty has its minimum there and no touch leads them to it.

        For the start of a fit: what calls for more epochs on other rows (`partial_fit`) is to leave them alone.
        """
        if self._may_wait and (self._plan.weighs_l2 or self._plan.weighs_l1):
            self.w[: self.objective.n_features][self.objective.design.column_counts == 0] = 0

    def keep_start(self, scale: float) -> None:
        """For a rule whose steps forget w: its state becomes such that w stays, at `scale` times the learning rate."""
        self.optimizer._keep_start(self.w, self.state, scale)
        if self._ftrl and self.objective.l1:
            w = self.w[: self.objective.n_features]
            self.state["z"][: len(w)] -= np.sign(w) * self.objective.l1 * self.state["t"]

    def snapshot(self) -> Snapshot:
        """Copies of parameters and state, for `restore`."""
        return self._params[:-1].copy(), {k: v for k, v in self.state.items() if not isinstance(v, np.ndarray)}

    def restore(self, snapshot: Snapshot) -> None:
        """Back to a snapshot."""
        self._params[:-1] = snapshot[0]
        self.gradient = None
        self.state |= snapshot[1]
        self._plan.reset()
        self._measure_anew()

    def restart(self, w: NDArray[Any], scale: float) -> None:
        """From parameters w with a fresh state, at `scale` times the learning rate."""
        self.w[...] = w
        self.gradient = None
        self.forget()
        self._plan.reset()
        self._measure_anew()
        self.keep_start(scale)

    def _measure_anew(self) -> None:
        """After w was set from outside."""
        if "norms" in self.state:
            plain.norms(self._plan, self._extras, self._params)

    def forget(self) -> None:
        """The rule's state as before the first step; the parameters stay."""
        for slot in self._arrays:
            self.state[slot][...] = self.optimizer._start(slot, self.w)
        self.state |= {"t": 0} | self.optimizer._scalars()
        if "l1_paid" in self.state:
            self.state["l1_owed"] = 0.0
        if "intercept_curvature" in self.state:
            assert self.around is not None
            self.state["intercept_curvature"][...] = self._first_curvature(self.around)

    def _restore_state(self, state: dict[str, Any]) -> None:
        for key, value in self.state.items():
            if isinstance(value, np.ndarray):
                value[...] = state[key]
            else:
                self.state[key] = state[key]


def touch_shares(counts: NDArray[np.int64], n: int, b: int) -> NDArray[np.float64]:
    """The share of batches of b of n rows that touch a column with entries in `counts` rows.

    1 - C(n - c, b) / C(n, b), by its product: differences of logarithms of factorials lose it for large n.
    """
    values, inverse = np.unique(counts, return_inverse=True)
    missed = np.zeros(len(values))
    for i in range(b):
        missed += np.log1p(-np.minimum(values / (n - i), 1 - 1e-16))
    return np.asarray(-np.expm1(missed)[inverse])


class LastWhole(NamedTuple):
    """The last whole epoch, with which a run ends whatever comes after it.

    Attributes
    ----------
    run : Run
        What goes on from it.
    snapshot : Snapshot
        Parameters and the rule's state.
    mark : tuple
        Where the random numbers were, for `Draws.numbers`.
    measurements, epochs : int
        How many there were.
    """

    run: resume.Run
    snapshot: Snapshot
    mark: tuple[dict[str, Any], int]
    measurements: int
    epochs: int


def stochastic(
    objective: Objective, w: NDArray[Any], optimizer: Optimizer, *, batch_size: int | str, tol: float, max_iter: int,
    rng: np.random.RandomState | np.random.Generator, verbose: int | Reporter = 0,
    state: dict[str, Any] | None = None, epochs_of: Callable[..., Epochs] = Epochs,
) -> Result:  # fmt: skip
    """Minimises F from w by epochs in shuffled order until the gradient's norm over all the data is at most tol.

    An epoch that ends not finite, or with F above its start value, is undone: the best parameters so far go on with a
    fresh state and a rate four times smaller, up to `RETRIES` times in a row.

    With ``learning_rate="auto"`` the rate starts from the data (`auto_learning_rate`), and a fit from w = 0 goes on
    from the steps in which that was tried, if it was (`auto_start`). How it goes on depends on the rule (`adjusted`):

    - It falls to zero, linearly, in cycles of 1, 2, 3, 5, 8, 12, ... epochs: at a constant rate the iterates end in a
      cloud around the minimum whose size is proportional to the rate, and how soon it must fall nobody knows
      beforehand. A cycle begins 1.3 times higher than the last where F was below its start in two thirds of the last
      one's epochs, or these were less than 5, and at 0.6 times the rate where it was above in two thirds; after one
      that did not lower F, from the best parameters at half the rate (`next_cycle`).
    - Rules that average, and Ftrl, keep the rate; the former raise it by as much per epoch until F rises, schedule-free
      AdamW only if it does not go on from a trial. It is halved, and the best parameters go on, after 3, then 4, 5, 7,
      ... epochs without a new lowest F (`without_cycles`).
    - With all rows in each step there is no cloud: plain gradient descent takes its rate from the last two points
      (`two_points`), and where there is momentum, it is that which overshoots and starts anew.

    ``batch_size="auto"`` is that of `auto_batch_size`. Rules that divide by the root of a short mean of squared
    gradients (`rests_away`) come to rest where the mean of ``g / sqrt(mean g^2)`` is zero, and that is not the minimum,
    however small the rate: where the rate is automatic too, their batch is doubled, up to all rows, after a cycle of at
    least 5 epochs that lowered F by less than a hundredth, and the next cycle is as long as the one before that.

    With the `state` that an earlier run returned beside w it goes on where that run ended, as if it had not: k epochs
    and k more are 2k epochs, bit for bit, the order of the rows included (`rng` is not used then). See `resume`.

    References
    ----------
    Defazio, Cutkosky, Mehta, Mishchenko, "Optimal linear decay learning rate schedules and further refinements", 2023,
    section 2 (linear decay).
    O'Donoghue, Candès, "Adaptive restart for accelerated gradient schemes", 2015, section 3.2 (the momentum's restart).
    Zaheer, Reddi, Sachan, Kale, Kumar, "Adaptive methods for nonconvex optimization", NeurIPS 2018 (such rules converge
    as batches grow).
    """
    auto = optimizer.learning_rate == "auto"
    grows = auto and batch_size == "auto" and rests_away(optimizer)
    if batch_size == "auto":
        batch_size = auto_batch_size(objective.design, optimizer)
    before = resume.fitting(state, objective, optimizer, w)
    rng = resume.generator(before) or rng
    epochs = epochs_of(objective, optimizer, batch_size, w=w if before is None else before["run"]["w"], state=before)
    if before is None:
        epochs.drop_unused()
    averages = optimizer.averaged(epochs.w, epochs.state) is not epochs.w
    # A rate that falls means something else to rules that average, and to Ftrl, whose step depends on the last rate.
    cycles = auto and not epochs.full and not averages and not optimizer._kernel.startswith("ftrl")
    monitor = Monitor(objective, tol, verbose)

    def check(epoch: int, learning_rate: float = math.nan) -> bool:
        """Measures after an epoch; the gradient serves the next step too, if that is one on all rows."""
        value, gradient = objective.smooth_value_and_gradient(w := epochs.solution)
        epochs.gradient = gradient if epochs.full and not averages else None
        value, gradient = objective.with_l1(w, value, gradient)
        return monitor.record(value, norm(gradient), epoch, learning_rate, w)

    def sized(size: int | None) -> Epochs:
        """The epochs that go on, with that many rows per step."""
        if size is None or size == epochs.batch_size:
            return epochs
        return epochs_of(objective, epochs.optimizer, size, w=epochs.w, state=epochs.state)

    def here() -> LastWhole:
        return LastWhole(run, epochs.snapshot(), draws.mark(), len(monitor.rows), done)

    converged, done, failures = check(0), 0, 0
    reason = "tol" if converged else "max_iter"
    earlier, begun = resume.Run.of(before, optimizer, epochs.batch_size, w, monitor.rows[0]), None
    if earlier is None or (earlier.batch_size is not None and not grows) or (auto and earlier.learning_rate is None):
        run, begun = first_run(objective, optimizer, epochs, monitor, tries=auto and not converged)
    else:
        run = earlier
    if run.learning_rate is not None:
        epochs.optimizer = optimizer.with_learning_rate(run.learning_rate)
    if before is None and not converged:
        epochs.keep_start(run.scale)
    draws = resume.Draws(rng, lambda rng: epochs.order(rng), objective.n_samples)
    epochs = sized(run.batch_size)
    whole = here()
    if begun is not None and not np.any(w):
        # A fit that ends before its first epoch does leaves no rate, so that the next one begins with trials, too.
        whole = whole._replace(run=replace(run, learning_rate=None))
        epochs.restore(begun)
        run.rising = not optimizer._kernel.startswith(KEEPS_TRIED)
    try:
        while not converged and done < max_iter:
            if auto and epochs.state["t"] and not failures and (done or begun is None):
                run = adjusted(run, epochs, cycles, averages, grows)
                epochs = sized(run.batch_size)
            order = None if epochs.full else draws.order()
            rates = epoch_rates(run, epochs, cycles)
            with np.errstate(over="ignore", invalid="ignore"):
                epochs.run(order, None if run.scale == 1 and not cycles else rates)
                converged = check(done + 1, float(np.max(rates)))
            if is_sound(monitor, run.start):
                run, done, failures = counted(run, epochs, monitor.rows[-1], cycles), done + 1, 0
                whole = here()
            else:
                monitor.forget_last()
                run, converged, failures = undone(run, epochs), False, failures + 1
                if failures > RETRIES:
                    reason, whole = "diverged", here()
                    break
        if converged:
            reason = "tol"
    except KeyboardInterrupt:
        reason = "interrupted"
    epochs.restore(whole.snapshot)
    del monitor.rows[whole.measurements :]
    run, solution = whole.run, epochs.solution
    if reason in ("max_iter", "diverged") and monitor.value > run.best_row[2]:
        solution = run.best
        monitor.rows.append(run.best_row)
    kept = {key: a.copy() if isinstance(a, np.ndarray) else a for key, a in epochs.state.items()}
    kept["run"] = run.as_dict(epochs.w, solution, draws.numbers(whole.mark))
    return monitor.result(solution.copy(), whole.epochs, reason, kept)


def first_run(
    objective: Objective, optimizer: Optimizer, epochs: Epochs, monitor: Monitor, *, tries: bool
) -> tuple[resume.Run, Snapshot | None]:
    """A run that goes on from no other, and what the trials of its rate came to (`auto_start`), if it `tries` any."""
    rate: float | None = None
    begun: Snapshot | None = None
    if tries:
        lent = epochs if type(epochs) is Epochs else None  # of chunks there are more than are tried on
        rate, begun = auto_start(objective.rated, optimizer, epochs.batch_size, lent)
    two = points(epochs) if optimizer.learning_rate == "auto" and descends(epochs) else None
    row = monitor.rows[0]
    run = resume.Run(
        settings=resume.settings(optimizer, epochs.batch_size), learning_rate=rate, start=monitor.value, row=row,
        best=epochs.solution.copy(), best_row=row, cycle_start=monitor.value, before=two, rule=optimizer._kernel,
    )  # fmt: skip
    return run, begun


def epoch_rates(run: resume.Run, epochs: Epochs, cycles: bool) -> NDArray[np.float64]:
    """Those of the next epoch's steps, or one for all; in `cycles` they are on their way to zero."""
    steps = np.arange(epochs.n_steps) + float(epochs.state["t"])
    rates = run.scale * np.asarray(epochs.optimizer.rate(steps))
    if cycles:
        left = 1 - (run.at + (np.arange(epochs.n_steps) + 0.5) / epochs.n_steps) / run.length
        # Columns that wait know constant rates only: they fall epoch by epoch.
        rates = rates * (left.mean() if epochs._may_wait else left)
    return rates


def is_sound(monitor: Monitor, start: float) -> bool:
    """Whether the last epoch ended finite, and with F no higher than at the start."""
    finite = math.isfinite(monitor.value) and math.isfinite(monitor.grad_norm)
    return finite and not monitor.value > start * (1 + 1e-12)


def counted(run: resume.Run, epochs: Epochs, row: resume.Row, cycles: bool) -> resume.Run:
    """After a whole epoch, measured by `row`."""
    value, lowest = row[2], run.best_row[2]
    rises = run.rises + 1 if value >= lowest else 0
    above = run.above + (cycles and value > run.cycle_start)
    run = replace(run, rises=rises, at=run.at + cycles, above=above, row=row)
    if value < lowest:
        run.best, run.best_row = epochs.solution.copy(), row
    return run


def undone(run: resume.Run, epochs: Epochs) -> resume.Run:
    """After an epoch that does not count: the best parameters go on, with a fresh state and a quarter of the rate."""
    # What two points gave may be any number of times the first rate; back to that at least.
    run = replace(run, scale=min(run.scale / 4, 1.0), rising=False, row=run.best_row)
    epochs.restart(run.best, run.scale)
    return run


def next_cycle(length: int, improved: bool, above: int) -> tuple[int, float]:
    """After a cycle of an automatic rate: the next one's length, and what its rate is multiplied by.

    `above` of the cycle's epochs ended with F above its lowest before the cycle: where the rate could be higher, F
    falls from the cycle's beginning on; where it is too high, only at its end. Cycles of less than `TELLING` epochs do
    not tell.
    """
    if not improved:
        factor = 0.5
    elif 3 * above <= length or length < TELLING:
        factor = HIGHER
    else:
        factor = 1.0 if 3 * above <= 2 * length else LOWER
    return longer(length), factor


def without_cycles(rises: int, length: int, *, rising: bool = False) -> tuple[float, int]:
    """After an epoch at a rate that has no cycles: what it is multiplied by, and the new `length`, 1 at first.

    It is halved after 3, then 4, 5, 7, 10, ... epochs in a row without a new lowest F, of which `rises` counts those so
    far; the parameters of the lowest F go on then. Without that growth it would fall to nothing far from the minimum:
    F need not fall from epoch to epoch. A rate that is `rising` grows in each epoch that lowers F, and is halved by the
    first that does not.
    """
    if rising and not rises:
        return HIGHER, length
    patience = 1 if rising else PATIENCE + length - 1
    return (1.0, length) if rises < patience else (0.5, longer(length))


def longer(length: int) -> int:
    """1, 2, 3, 5, 8, 12, ..."""
    return round(LONGER * length + 0.1)


def adjusted(run: resume.Run, epochs: Epochs, cycles: bool, averages: bool, grows: bool = False) -> resume.Run:
    """After an epoch with an automatic rate: the next one's course; starts anew where that is due."""
    run = replace(run)
    if cycles and run.at == run.length:
        improved, length = run.best_row[2] < run.cycle_start, run.length
        grown = grows and length >= TELLING and run.cycle_start - run.best_row[2] < PAYS * abs(run.cycle_start)
        run.at, run.cycle_start = 0, run.best_row[2]
        run.length, factor = next_cycle(length, improved, run.above)
        if grown and epochs.batch_size < epochs.most_rows:
            run.batch_size = min(2 * epochs.batch_size, epochs.most_rows)
            run.length = max(TELLING, round(length / LONGER))
        run.above, run.scale = 0, run.scale * factor
        if not improved:
            epochs.restart(run.best, run.scale)
    elif cycles:
        pass
    elif descends(epochs):
        two_points(run, epochs)
    elif epochs.full and "u" in epochs.optimizer.slots:
        if run.rises:
            epochs.forget()
    else:
        factor, run.length = without_cycles(run.rises, run.length, rising=averages and run.rising)
        run.scale *= factor
        if factor > 1:
            epochs.keep_start(run.scale)
        elif factor < 1:
            run.rising, run.rises = False, 0
            epochs.restart(run.best, run.scale)
    return run


def descends(epochs: Epochs) -> bool:
    """Whether each step is gradient descent on all rows, with nothing around it but L1."""
    return epochs.full and is_plain(epochs.optimizer) and epochs.optimizer.weight_decay is None


def points(epochs: Epochs) -> NDArray[np.float64]:
    """Parameters and the gradient there, for `two_points` after the next step."""
    if epochs.gradient is None:
        epochs.gradient = epochs.objective.smooth_value_and_gradient(epochs.w)[1]
    return np.stack([epochs.w, epochs.gradient])


def five_bits(number: float) -> float:
    """The nearest number of five binary digits."""
    digits, exponent = math.frexp(number)
    return math.ldexp(round(32 * digits), exponent - 5)


def two_point_rate(before: NDArray[np.float64], now: NDArray[np.float64]) -> float | None:
    """The rate of gradient descent that parameters and gradients at the last two points give; None if they give none.

    ``lr = s'y / y'y``, s and y being what the last step changed in w and in the gradient of F without L1: the inverse
    of the curvature along it, so that ``lr y`` is as near to s as it can be. The rate has five bits: with all of them,
    what sums in another order round differently would make each step differ by more than the last (weights of two and
    rows given twice would end 1e-8 apart, in place of 1e-13).

    References
    ----------
    Barzilai, Borwein, "Two-point step size gradient methods", IMA J. Numerical Analysis 8, 1988, eq. (5).
    Wright, Nowak, Figueiredo, "Sparse reconstruction by separable approximation", 2009, section 2.2 (with L1).
    """
    s, y = now - before
    along, square = float(np.vdot(s, y)), float(np.vdot(y, y))
    return five_bits(along / square) if along > 0 and 0 < square < math.inf else None


def two_points(run: resume.Run, epochs: Epochs) -> None:
    """The next step of gradient descent with an automatic rate: that of `two_point_rate`.

    F may rise on the way; after `MEMORY` epochs without a new lowest F comes a step of 1 / L from the parameters that
    have it, which lowers F.
    """
    assert run.learning_rate is not None
    back = run.rises >= MEMORY
    if back:
        run.rises, run.scale = 0, 1.0
        epochs.restart(run.best, run.scale)
    now = points(epochs)
    if run.before is not None and not back and (rate := two_point_rate(run.before, now)) is not None:
        run.scale = rate / run.learning_rate
    run.before = now


def auto_batch_size(design: Design, optimizer: Optimizer) -> int:
    """A batch size from the layout, the length of the rows and the cache: the knee of an epoch's time per row.

    Smaller batches take more steps in an epoch, which is worth more than a tenth of its time. So:

    - CSR, plain SGD: 4. Its step costs the nonzeros alone, so that all sizes are equally fast; 4 has the noise of 1 and
      the automatic rate of 8 (seconds to a gap of 1e-2 on text_like: 0.17, 0.12, 0.19 for 1, 4, 8). On up to 1,000
      rows 32, as for the others: where all rows fit, a weight of two is the same as the row twice.
    - CSR, rules with memory: 32 where columns wait for their rows. Where steps of all columns pay within 256 rows
      (3 b rows' nonzeros are as many as the columns), up to 128: three times as fast on text_like.
    - RMSprop: twice as many, on dense rows too. Its memory of squared gradients is ten steps long, and what single rows
      add to it moves the point where the steps come to rest; no rate mends that (`rests_away`).
    - dense: 32, of at most 1 MB, so that a batch read twice is in cache the second time; but 8, over which the
      coordinates' own work is spread.

    Nanoseconds per row, float32, one thread of a 2.6 GHz EPYC, best of 2 epochs:

    ============================  ========  =====  =====  =====  =====  =====  =====  =====
    data                          rule      1      8      16     32     64     128    256
    ============================  ========  =====  =====  =====  =====  =====  =====  =====
    dense, 10 columns             Adam      73     27     26     25     23     25     24
    dense, 100 columns            momentum  94     40     39     37     38     37     37
    dense, 100 columns            Adam      117    44     41     40     39     37     38
    dense, 1,000 columns          Adam      826    397    368    341    348    211    254
    dense, 8,000 columns          Adam      5,337  2,818  2,611  3,143  2,855  3,064  3,426
    CSR, 10 of 1,000 columns      SGD       51     49     50     50     53     53     53
    CSR, 10 of 1,000 columns      Adam      275    98     77     63     59     57     54
    CSR, 10 of 100,000 columns    momentum  232    171    174    160    156    158    154
    CSR, 100 of 50,000 columns    SGD       221    229    220    228    213    216    223
    CSR, 100 of 50,000 columns    Adam      987    1,111  1,116  815    502    365    301
    ============================  ========  =====  =====  =====  =====  =====  =====  =====
    """
    n, d = design.shape
    row = design.n_stored / max(n, 1)
    if not design.sparse:
        size = max(8, min(32, int(2**20 / (row * design.dtype.itemsize))))
    elif is_plain(optimizer) and n > 1000:
        size = 4
    else:
        knee = d / (3 * max(row, 1.0))
        size = 2 ** round(math.log2(min(max(knee, 32), 128))) if knee <= 256 else 32
    if optimizer._kernel.startswith("rmsprop"):
        size *= 2
    return max(1, min(size, n))


def is_plain(optimizer: Optimizer) -> bool:
    """Whether steps are those of SGD without anything: gradients go straight into w."""
    clips = optimizer.clipnorm is not None or optimizer.clipvalue is not None
    return optimizer._kernel == "sgd" and not clips and optimizer.ema_momentum is None


def rests_away(optimizer: Optimizer) -> bool:
    """Whether steps of small batches come to rest away from the minimum, whatever the rate, and larger ones do not."""
    return optimizer._kernel.startswith(("rmsprop", "adadelta"))


def auto_learning_rate(objective: Objective, optimizer: Optimizer, batch_size: int) -> float:
    """A learning rate from the data.

    For plain steps and momentum 2 / L (1 / L with all rows), L being the expected smoothness of a batch of b of n rows,
    ``n (b - 1) / (b (n - 1)) L_full + (n - b) / (b (n - 1)) L_row + alpha``, where L_row is the mean over rows and not,
    as in the worst case of the theory, the largest: the solver's guard and its halving stand behind it. Momentum
    multiplies the second, noise's part by 1 / (1 - mu). Where `TRIAL_STEPS` batches take all the rows, that is but the
    first of the rates that are tried (`_calibrated`), with L_row for L_full, which needs no pass: on more rows the best
    rate for so few steps is too high (momentum on text_like: 10 epochs to a relative gap of 1e-2 in place of 5).
    The other rules, and losses whose slope is not Lipschitz, are always calibrated.

    References
    ----------
    Gower, Loizou, Qian, Sailanbayev, Shulgin, Richtárik, "SGD: General analysis and improved rates", ICML 2019,
    eq. (15).
    """
    return auto_start(objective, optimizer, batch_size)[0]


def auto_start(
    objective: Objective, optimizer: Optimizer, batch_size: int, epochs: Epochs | None = None
) -> tuple[float, Snapshot | None]:
    """`auto_learning_rate`, and what the steps that found it came to from w = 0, for `Epochs.restore`.

    None where no rate was tried, or on a sample's copy alone (`_calibrated`), or none lowered F. `epochs` of this
    objective, rule and batch size may be lent for the trials: they are as before afterwards.

    Fits that go on from there, rather than from zero after trials on 1,024 rows, take 0.87, 0.90 and 1.00 of the
    epochs, the trials' own included, to relative gaps of 1e-2, 1e-3 and 1e-4 on breast_cancer, digits_parity and
    text_like, and 0.87, 0.77 and 0.90 on ten other problems of the bench (geometric means over 11 rules, where both
    get there).
    """
    n, b = objective.n_samples, batch_size
    with np.errstate(over="ignore", invalid="ignore"):
        norms = objective.design.row_norms_squared + objective.fit_intercept
        if len(objective.weights):
            norms = norms * objective.weights.reshape(n, -1).max(axis=1)
        mean = float(norms.mean())
    if not math.isfinite(mean):
        return 1e-30, None  # some rules refuse 0, or divide by it
    curvature = objective.loss.max_curvature
    if optimizer._kernel not in ("sgd", "momentum", "nesterov") or not np.isfinite(curvature):
        return _calibrated(objective, optimizer, b, optimizer.first_rate, epochs)
    row = curvature * mean
    noise = (n - b) / (b * (n - 1)) / (1 - getattr(optimizer, "momentum", 0.0)) if b < n else 0.0
    share = n * (b - 1) / (b * (n - 1)) if b < n else 1.0
    if b < n <= TRIAL_STEPS * b:
        first = 2 / max((share + noise) * row + objective.l2, 1e-300)  # at most four times too low: the trials climb
        return _calibrated(objective, optimizer, b, first, epochs)
    full = min(_largest_curvature(objective), row)
    smoothness = share * full + noise * row + objective.l2
    return (1 if b == n else 2) / max(smoothness, 1e-300), None


def _calibrated(
    objective: Objective, optimizer: Optimizer, batch_size: int, rate: float, epochs: Epochs | None
) -> tuple[float, Snapshot | None]:
    """The rate that lowers F most among 4^k times `rate`, where k climbs while it pays.

    Each is tried from w = 0 in 64 steps, on rows from all over the data, and F is then measured on up to 1,024 rows:
    mostly two or three rates, about half an epoch on 40,000 rows. Of a file, and by Adagrad where 64 steps do not take
    all the rows, only those 1,024 are tried: Adagrad's steps shrink by themselves, and the rate that is best for few
    steps on rows that are new is too low for an epoch.

    References
    ----------
    Bottou, "Stochastic gradient descent tricks", 2012, section 4.2.
    """
    n, wanted = objective.n_samples, TRIAL_STEPS * batch_size
    rows = np.linspace(0, n - 1, min(n, max(1024, batch_size))).astype(np.intp)
    sample = objective.rows(rows) if len(rows) < n else objective
    shrinks = optimizer._kernel.startswith("adagrad") and wanted < n
    tried = sample if objective.design.mapped or shrinks else objective
    optimizer = optimizer.with_learning_rate(1.0)
    if epochs is None or epochs.objective is not tried or epochs.batch_size != batch_size:
        epochs = Epochs(tried, optimizer, batch_size)
    lent, gradient, before = epochs.optimizer, epochs.gradient, epochs.snapshot()
    epochs.optimizer = optimizer
    rng, n, wanted = np.random.default_rng(0), tried.n_samples, TRIAL_STEPS * epochs.batch_size
    if wanted < n:
        order = rng.choice(n, wanted, replace=False)
    else:
        order = np.concatenate([rng.permutation(n) for _ in range(-(-wanted // n))])[:wanted]
    course = np.asarray(optimizer.rate(np.arange(float(TRIAL_STEPS))))
    start, zero, first = tried.zeros(), sample.value(sample.zeros()), rate

    def reached(rate: float) -> tuple[float, Snapshot]:
        """F after the steps, and what they came to."""
        epochs.restart(start, 1.0)
        epochs.run(order, rate * course)
        value = sample.value(epochs.solution)
        return value if np.isfinite(value) else np.inf, epochs.snapshot()

    with np.errstate(over="ignore", invalid="ignore"):
        best, begun = reached(rate)
        for factor in (4.0, 0.25) if best < zero else (0.25,):  # where a rate does not lower F, no higher one is tried
            lowest = value = best
            while 1e-8 < rate * factor / first < 1e7:
                value, there = reached(rate * factor)
                if not value < best:
                    break
                rate, best, begun = rate * factor, value, there
            # Nor a lower one where a higher one was better, or nearly as good.
            if best < lowest or zero - value > FLAT * (zero - best):
                break
    epochs.optimizer = lent
    epochs.restore(before)
    epochs.gradient = gradient
    return rate, begun if tried is objective and best < zero else None


def _largest_curvature(objective: Objective, iterations: int = 5) -> float:
    """Upper estimate of the largest eigenvalue of the data's Hessian anywhere.

    Lanczos' at w = 0, where losses of classes curve most, with a tenth added for what it has not found yet; on a
    sample of the rows, whose largest eigenvalue is on average above that of all. Losses of regression may be flat there
    (Huber's far from the target): it is that of the squared error, times their largest curvature.
    """
    objective, factor = objective.sample(1024), 1.0
    if objective.loss.targets == "regression":
        factor = objective.loss.max_curvature
        objective = Objective(
            objective.design, objective.y, alpha=objective.l2 / factor, loss="squared_error",
            sample_weight=objective.sample_weight if len(objective.weights) else None,
            fit_intercept=objective.fit_intercept, n_outputs=objective.n_outputs, n_jobs=objective.n_jobs,
        )  # fmt: skip
    zeros, before = np.zeros(objective.shape), np.zeros(objective.shape)
    v = np.random.default_rng(0).standard_normal(objective.shape)
    T, beside = np.zeros((iterations, iterations)), 0.0
    v /= norm(v)
    with np.errstate(over="ignore", invalid="ignore"):
        for k in range(iterations):
            image = objective.hessian_product(zeros, v) - beside * before
            T[k, k] = np.vdot(image, v)
            image -= T[k, k] * v
            beside = norm(image)
            if not beside > 1e-10 * abs(T[k, k]) or k + 1 == iterations:
                break
            T[k, k + 1] = T[k + 1, k] = beside
            before, v = v, image / beside
        T = T[: k + 1, : k + 1]
        value = float(np.linalg.eigvalsh(T)[-1]) if np.isfinite(T).all() else math.inf
    return 1.1 * factor * value
