"""Epochs of any update rule over minibatches: the kernels' arrays and plans, and what may go around plain steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastopt._design import WORK
from fastopt._kernels import check, dense, plain, plan, sparse, step
from fastopt._kernels import lazy as lazy_kernel
from fastopt._kernels.step import RULES, SLOTS
from fastopt._memory import lines, records
from fastopt._order import ahead, epoch_order
from fastopt._validation import check_choice, check_integer, check_positive
from fastopt.objective import Objective
from fastopt.optimizers import GradientDescent, Optimizer, has_closed_form
from fastopt.solvers.scaled import Scaled

__all__ = ["Around", "Epochs"]

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
    variables : Scaled or None
        Steps are taken in these, all columns in each; the rule's arrays but "ema" are theirs. F, w and `solution` are
        as without.

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
        around: Around | None = None, variables: Scaled | None = None,
    ) -> None:  # fmt: skip
        self.objective, self.optimizer, self.variables = objective, optimizer, variables
        n = objective.n_samples
        full = batch_size == "full" or isinstance(optimizer, GradientDescent)
        self.batch_size = n if full else min(int(batch_size), n)
        self.full = self.batch_size == n and around is None
        # Plain SGD scatters straight into w, unless something goes around its steps.
        self._plain = is_plain(optimizer) and variables is None
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
        if not design.sparse or self.full or self._plain or self.variables is not None:
            return False
        if lazy is not None:
            return lazy
        per_batch = design.n_stored / max(self.objective.n_samples, 1) * self.batch_size
        return TOUCH * per_batch < self.objective.n_features

    def _allocate_params(self, w: NDArray[Any] | None, state: dict[str, Any] | None) -> None:
        """w and the arrays of its state, which are the rows of one array, as are scales and means of other variables;
        one row more is the kernels' own."""
        shape, around = self.objective.shape, self.around
        arrays = self.optimizer._arrays
        if around is not None:
            arrays += ("average",) * (around.average > 0) + ("l1_paid",) * (around.l1 == "truncated")
        self._arrays = arrays
        size = shape[0] * shape[1]
        self._params = lines(len(arrays) + 2 + 2 * (self.variables is not None), size, self.objective.design.dtype)
        self._params[...] = 0
        if self.variables is not None:
            d, K = self.objective.n_features, self.objective.n_outputs
            self._params[1 + len(arrays), :size] = np.repeat(self.variables.scale[:, 0], K)
            self._params[2 + len(arrays), : d * K] = np.repeat(self.variables.mean, K)
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
        if self.variables is not None:
            made.vary(1 + len(self._arrays), own_l1=optimizer.exact_l1 and objective.l1 > 0)
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
        squares = design.merged().row_norms_squared if around.passive is not None else np.empty(0)
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
        mean = self.optimizer.averaged(self.w, self.state)
        if self.variables is None or mean is self.w or self.optimizer.ema_momentum is not None:
            return mean
        return self._there(self.optimizer.averaged(self.here, self.state))  # of arrays that are the variables'

    @property
    def averages(self) -> bool:
        """Whether `solution` is, or will be, an average of iterates."""
        if self.around is not None and self.around.average:
            return True
        return self.optimizer.averaged(self.w, self.state) is not self.w

    @property
    def here(self) -> NDArray[Any]:
        """w, or the variables that steps are taken in."""
        if self.variables is None:
            return self.w
        return self.variables.start(self.w.astype(np.float64)).reshape(self.w.shape).astype(self.w.dtype)

    def _there(self, u: NDArray[Any]) -> NDArray[Any]:
        """The parameters of these variables."""
        if self.variables is None:
            return u
        return self.variables.parameters(u.astype(np.float64)).astype(u.dtype)

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
        if not check.rows(order, n):
            raise ValueError(f"order must hold row numbers in [0, {n}); got others.")
        n_steps = -(-len(order) // self.batch_size)
        rates, rate, constant = self._rates(n_steps, learning_rates)
        if self.full:
            for t in range(n_steps):
                self._full_step(float(rates[t]))
            return
        lazy = self._may_wait and n_steps <= MOST_STEPS and self.optimizer.idles_exactly(self.objective.l2, constant)
        table, hyper = self._table(rates, rate, constant, lazy)
        lazy = lazy and has_closed_form(table)
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
            rates = self.optimizer.rates(t0, n_steps)
        else:
            rates, rate = np.asarray(given, dtype=np.float64), None
            if rates.shape not in ((), (n_steps,)):
                raise ValueError(f"learning_rates must have an element for each of {n_steps} steps; got {rates.shape}.")
        constant = bool(not rates.ndim or (n_steps and rates[0] == rates[-1] and (rates == rates[0]).all()))
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
        """Whether there is `run_several`: steps that measure, of rows in memory known to be sound."""
        around, design = self.around, self.objective.design
        return around is not None and around.measures and design.sound and not design.mapped

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
        if not check.rows(order, self.objective.n_samples):
            raise ValueError(f"orders must hold row numbers in [0, {self.objective.n_samples}); got others.")
        n_steps, t0 = n // self.batch_size, int(self.state["t"])
        table, hyper = self._table(*self._rates(n_epochs * n_steps, learning_rates), lazy=False)
        self._plan.distinct = design.distinct
        self._plan.begin(order, table, hyper, t0)
        averaged = self.around.average - 1 - t0 if self.around.average else n_epochs * n_steps
        history = np.empty((n_epochs * n_steps + 1 if self._keeps_history else 1, plain.HISTORY))
        self._extras.begin(history, self.state.get("l1_owed", 0.0), averaged)
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
            plain.wait(self._extras, self._params)
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
        rule, u, cut = self.optimizer, self.here, self.objective.n_features * self.objective.n_outputs
        flat = u.reshape(-1)
        known, self.gradient = self.gradient, None
        gradient = self.objective.smooth_value_and_gradient(self.w)[1] if known is None else known
        if self.variables is not None:
            gradient = self.variables.gradient(gradient)
        g = rule._clip(gradient.astype(flat.dtype).reshape(-1))
        t = int(self.state["t"]) + 1
        row = rule._row(t, learning_rate, self.state)
        slots = rule._slot_arrays(flat, self.state)
        kind, intercept_rule = RULES[rule._kernel], replace(rule, weight_decay=None)
        for part, scale in self._parts_of_one_scale(cut):
            hyper, l1 = self._with_l1(rule._hyper_array, scale), 0.0 if self._ftrl else scale * self.objective.l1
            a, b, c = (slot[part] for slot in slots)
            step.dense(kind, hyper, row, flat[part], g[part], a, b, c, l1)
        row = (1.0, *row[1:])
        a, b, c = (slot[cut:] for slot in slots)
        step.dense(kind, intercept_rule._hyper_array, row, flat[cut:], g[cut:], a, b, c)
        if self.variables is not None:
            self.w[...] = self._there(u)
        if rule.ema_momentum is not None:
            step.average(self.w.reshape(-1), self.state["ema"].reshape(-1), rule.ema_momentum if t > 1 else 0.0)
        self.state["t"] = t

    def _parts_of_one_scale(self, cut: int) -> list[tuple[slice, float]]:
        """The coefficients in parts for which L1 has one strength, times this scale."""
        if self.variables is None or not self.objective.l1:
            return [(slice(0, cut), 1.0)]
        K = self.objective.n_outputs
        return [(slice(j * K, (j + 1) * K), float(s)) for j, s in enumerate(self.variables.scale[: cut // K, 0])]

    def _with_l1(self, hyper: NDArray[np.float64], scale: float = 1.0) -> NDArray[np.float64]:
        """The rule's hyperparameters for penalised coordinates: with L1 where its own formulas have it."""
        if not (self.optimizer.exact_l1 and self.objective.l1):
            return hyper
        hyper = hyper.copy()
        hyper[5] = scale * self.objective.l1
        return hyper

    def drop_unused(self) -> None:
        """Zero for the columns that no row has, where a penalty has its minimum there and no touch leads them to it.

        For the start of a fit: what calls for more epochs on other rows (`partial_fit`) is to leave them alone.
        """
        if self._may_wait and (self._plan.weighs_l2 or self._plan.weighs_l1):
            self.w[: self.objective.n_features][self.objective.design.column_counts == 0] = 0

    def keep_start(self, scale: float) -> None:
        """For a rule whose steps forget w: its state becomes such that w stays, at `scale` times the learning rate."""
        self.optimizer._keep_start(self.here, self.state, scale)
        if self._ftrl and self.objective.l1:
            w = self.w[: self.objective.n_features]
            strength = self.objective.l1 * (1.0 if self.variables is None else self.variables.scale[: len(w)])
            self.state["z"][: len(w)] -= np.sign(w) * strength * self.state["t"]

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
            self.state[slot][...] = self.optimizer._start(slot, self.w if slot == "ema" else self.here)
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


def is_plain(optimizer: Optimizer) -> bool:
    """Whether steps are those of SGD without anything: gradients go straight into w."""
    return optimizer._kernel == "sgd" and not optimizer._clips and optimizer.ema_momentum is None
