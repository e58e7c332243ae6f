"""Update rules, named and parametrised as in Keras: frozen dataclasses that hold no state.

A rule's formula stands in its docstring, in plain Python in `fastopt.reference`, and compiled in `_kernels/rule.pxd`;
tests hold the three together. Symbols: w parameters, g gradient, t = 1, 2, ... the step, lr its learning rate.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, lru_cache
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastopt._kernels import step as _step
from fastopt._validation import (
    check_between,
    check_bool,
    check_choice,
    check_fraction,
    check_integer,
    check_positive,
    check_real,
    fail,
)  # fmt: skip
from fastopt.schedules import Schedule, given_rate

__all__ = [
    "OPTIMIZERS", "SGD", "Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "Ftrl", "GradientDescent", "Lion", "Nadam",
    "Optimizer", "RMSprop", "ScheduleFreeAdamW", "ScheduleFreeSGD", "get",
]  # fmt: skip

Array = NDArray[Any]
State = dict[str, Any]
#: Learning rate as a function of the steps taken, at any real number of them (None: only at whole numbers).
Rate = Callable[[Any], Any] | None

WIDTH: int = _step.TABLE_WIDTH
#: Sparse steps between two that bring every coordinate up to date: the length of the tables that `idle` reads.
WINDOW = 4096


@dataclass(frozen=True, repr=False)
class Optimizer:
    """Base of all update rules.

    Parameters
    ----------
    learning_rate : float, Schedule, callable or "auto"
        Per step. A callable gets the number of steps taken. "auto" is resolved by the solvers, from the data.
    decay : float, keyword only, default 0.0
        The learning rate of step t is divided by ``1 + decay (t - 1)``.
    weight_decay : float or None, keyword only
        Decoupled: ``w -= lr weight_decay w`` before each step (not the intercept in the solvers). It changes what is
        minimised; the solvers' own penalty is `alpha`.
    clipnorm : float or None, keyword only
        The gradient is scaled down to this Euclidean norm where it is longer.
    clipvalue : float or None, keyword only
        Each of the gradient's entries is cut to [-clipvalue, clipvalue].
    ema_momentum : float or None, keyword only
        Keeps ``state["ema"]``, the moving average ``ema_momentum * ema + (1 - ema_momentum) * w`` of the iterates, w
        itself at first; `averaged` returns it.
    """

    name: ClassVar[str]

    learning_rate: float | Callable[[int], float] | str = 0.01
    decay: float = field(default=0.0, kw_only=True)
    weight_decay: float | None = field(default=None, kw_only=True)
    clipnorm: float | None = field(default=None, kw_only=True)
    clipvalue: float | None = field(default=None, kw_only=True)
    ema_momentum: float | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if isinstance(self.learning_rate, str):
            if self.learning_rate != "auto":
                fail("learning_rate", "a number >= 0, a schedule or 'auto'", self.learning_rate)
        elif not callable(self.learning_rate):
            check_real("learning_rate", self.learning_rate, low=0, remedy="Use maximize=True to ascend.")
        check_real("decay", self.decay, low=0)
        if self.weight_decay is not None:
            check_real("weight_decay", self.weight_decay, low=0)
        if self.clipnorm is not None:
            check_positive("clipnorm", self.clipnorm)
        if self.clipvalue is not None:
            check_positive("clipvalue", self.clipvalue)
            if self.clipnorm is not None:
                fail("clipvalue", "None where clipnorm is given", self.clipvalue, "Use one of the two.")
        if self.ema_momentum is not None:
            check_fraction("ema_momentum", self.ema_momentum)
        self._check()
        for f in fields(self):  # NumPy's float32 would have 1 - beta^t, and all that follows, computed in float32
            value = getattr(self, f.name)
            if isinstance(value, numbers.Real) and not isinstance(value, (int, float, np.bool_)):
                plain = int(value) if isinstance(value, numbers.Integral) else float(value)
                object.__setattr__(self, f.name, plain)

    def __repr__(self) -> str:
        """What can be typed to get an equal rule; the options that all rules share only where they are on."""
        shown = [f for f in fields(self) if not f.kw_only or getattr(self, f.name) != f.default]
        return f"{type(self).__name__}({', '.join(f'{f.name}={getattr(self, f.name)!r}' for f in shown)})"

    def _check(self) -> None:
        """Validates the rule's own parameters."""

    # ------------------------------------------------------------------------------------------- what users call

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the rule's arrays in the state, each shaped like w ("ema", where it is kept, comes on top)."""
        return ()

    def init(self, w: Array) -> State:
        """State before the first step: ``{"t": 0, slot: array like w, ...}``, a plain dict that `numpy.savez` can save.

        Parameters
        ----------
        w : ndarray of float32 or float64
            The parameters; not written.
        """
        _flat(w)
        return {"t": 0} | self._scalars() | {slot: np.full_like(w, self._start(slot, w)) for slot in self._arrays}

    def step(self, w: Array, g: Array | tuple[Array, Array], state: State) -> None:
        """One step against the gradient g: w and the state are written in place.

        Parameters
        ----------
        w : C-contiguous ndarray of float32 or float64, any shape
        g : ndarray of w's shape and dtype, or a pair (indices, values)
            A pair is a gradient that is zero but for ``w[indices]``; repeated indices add up. It costs
            O(len(indices)): the other coordinates wait, and take their steps without a gradient when they are next
            named or in `catch_up`, which is to be called before w is read anywhere, and before a rule with another
            learning rate goes on. A rate that is a function of the step number is asked for 4,096 steps in advance.
            g may be w or an array of the state, but not overlap one in part: it is read while they are written. A
            pair's values may lie anywhere.
        state : dict
            As `init` gave it.

        Raises
        ------
        ValueError
            If shapes or dtypes disagree, arrays overlap, an index is out of range, or ``learning_rate="auto"`` was
            never resolved. Nothing is changed then.
        """
        stepper = self._stepper
        if stepper is not None and stepper.step(self, w, g, state):
            return
        flat = _flat(w)
        slots = self._slot_arrays(flat, state, w.shape)
        if isinstance(g, tuple):
            columns, values = _sparse_gradient(g, w)
            if _step.overlapping([flat, *slots, values], False) is not None:
                values = values.copy()  # columns catch up before it is read
            idles = self.idles_exactly(0.0, self._constant)
            if idles and self._sparse_step(flat, columns, values, slots, state):
                return
            g = np.zeros_like(w)
            g.reshape(-1)[columns] = values
        if isinstance(g, np.ndarray) and g.shape != w.shape:
            raise ValueError(f"g must have the shape of w, {w.shape}; got {g.shape}.")
        flat_g = _like("g", g, flat)
        self._check_apart(flat, slots, state, flat_g)
        if "last" in state:
            self.catch_up(w, state)
        flat_g = self._clip(flat_g)
        t = int(state["t"]) + 1
        scalars = {key: state[key] for key in self._scalars()}
        row = self._row(t, self.rate(t - 1), scalars)
        a, b, c = slots
        _step.dense(_step.RULES[self._kernel], self._hyper_array, row, flat, flat_g, a, b, c)
        if self.ema_momentum is not None:
            _step.average(flat, state["ema"].reshape(-1), self.ema_momentum if t > 1 else 0.0)
        state.update(scalars, t=t)

    @cached_property
    def _stepper(self) -> _step.Stepper | None:
        """Takes steps with nothing around them on arrays that need no conversion."""
        if self._clips or self.ema_momentum is not None:
            return None
        names = dict(zip(self._positions, self.slots, strict=True))
        slots = tuple(names.get(i) for i in range(_step.SLOTS))
        lr: Any = self.learning_rate
        rate = row = None
        if self._constant:
            rate, row = lr, self._row(1, lr, self._scalars())
        scalars, hyper = tuple(self._scalars()), self._hyper_array
        return _step.Stepper(_step.RULES[self._kernel], hyper, slots, scalars, rate, row, self.same_every_step)

    def __getstate__(self) -> dict[str, Any]:
        """The fields: what is cached beside them is made anew."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def catch_up(self, w: Array, state: State, indices: Array | None = None) -> None:
        """Coordinates that waited while sparse gradients named others take their steps without a gradient, in place.

        Parameters
        ----------
        w, state
            As in `step`.
        indices : ndarray of integers or None
            Rows of w to bring up to date, as those a sparse gradient is about to be computed from; None for all, which
            costs O(w.size).
        """
        if "last" not in state:
            return
        flat = _flat(w)
        slots = self._slot_arrays(flat, state)
        columns = np.empty(0, np.int64) if indices is None else _expand(indices, w)
        if indices is not None and not len(columns):
            return
        last, steps = _stamps(state, flat.size, slice(None) if indices is None else columns)
        hyper, table = self._window(state)
        _step.touch(_step.RULES[self._kernel], hyper, table, steps, columns, last, flat, *slots)
        if indices is None:
            for key in [key for key in state if key.startswith("window")]:
                del state[key]
            del state["last"]

    def averaged(self, w: Array, state: State) -> Array:
        """The parameters to use: the moving average under `ema_momentum`, x of the schedule-free rules, else w."""
        return np.asarray(state["ema"]) if self.ema_momentum is not None else w

    def rate(self, k: Any) -> Any:
        """Learning rate of the step after k steps (a number or an array), `decay` included.

        A function of yours must give a finite number >= 0 for a number k. What it gives for an array may be looked
        ahead, beyond the last step; `rates` is for those that are taken.
        """
        lr: Any = self.learning_rate
        if isinstance(lr, str):
            raise ValueError("learning_rate must be a number or a schedule here; got 'auto'. Only solvers resolve it.")
        if isinstance(lr, Schedule):
            lr = lr(k)
        elif callable(lr):
            at: Callable[..., Any] = lr
            lr = given_rate(at, k) if np.ndim(k) == 0 else np.array([_or_nan(at(int(i))) for i in k])
        return lr / (1 + self.decay * k) if self.decay else lr

    def rates(self, start: int, n_steps: int) -> NDArray[np.float64]:
        """`rate` of the next ``n_steps`` steps after ``start``, which are taken: a number if it is that for all.

        Raises
        ------
        ValueError
            If a function gives a rate that is negative or no finite number.
        """
        rates = np.asarray(self.rate(np.arange(start, start + n_steps, dtype=np.float64)))
        if callable(self.learning_rate) and not isinstance(self.learning_rate, Schedule):
            wrong = ~(np.isfinite(rates) & (rates >= 0))
            if wrong.any():
                given_rate(self.learning_rate, start + int(np.argmax(wrong)))
        return rates

    def __call__(self, fun: Callable[..., Any], x0: Any, args: Any = (), **options: Any) -> Any:
        """The rule as a ``method`` of `scipy.optimize.minimize`, which calls this; returns an OptimizeResult.

        Options are maxiter, gtol (prevails over tol), disp and return_all. See `fastopt.minimize`.
        """
        from fastopt._minimize import as_method  # it stands above

        return as_method(self, fun, x0, args, **options)

    def with_learning_rate(self, learning_rate: float | Callable[[int], float] | str) -> Optimizer:
        """The same rule with another learning rate."""
        return replace(self, learning_rate=learning_rate)

    # ------------------------------------------------------------------------------- what the kernels need to know

    @property
    def smooth(self) -> bool:
        """Whether the learning rate is a smooth function of real step numbers."""
        return not callable(self.learning_rate) or (
            isinstance(self.learning_rate, Schedule) and self.learning_rate.smooth
        )

    @property
    def _constant(self) -> bool:
        return not callable(self.learning_rate) and self.learning_rate != "auto" and not self.decay

    @property
    def _arrays(self) -> tuple[str, ...]:
        return (*self.slots, "ema") if self.ema_momentum is not None else self.slots

    @property
    def _kernel(self) -> str:
        """The rule's name in `_kernels/step.pyx`."""
        return self.name

    @property
    def _clips(self) -> bool:
        """Whether gradients are bounded."""
        return self.clipnorm is not None or self.clipvalue is not None

    @property
    def _positions(self) -> tuple[int, ...]:
        """Which of the kernel's slots a, b, c each of `slots` is."""
        return tuple(range(len(self.slots)))

    def _scalars(self) -> State:
        """What the state holds beside t that is one number for all coordinates."""
        return {}

    def _start(self, slot: str, w: Array) -> Any:
        """Value of a slot before the first step."""
        return w if slot == "ema" else 0.0

    def _keep_start(self, w: Array, state: State, scale: float) -> None:
        """For a rule whose steps forget w: makes its state such that w stays, at `scale` times the learning rate."""

    def _hyper(self) -> tuple[float, ...]:
        """Hyperparameters in the order in which `read`, `idle` and `Stepper` take them, nine at the most."""
        return ()

    @cached_property
    def _hyper_array(self) -> NDArray[np.float64]:
        hyper = np.zeros(10)
        hyper[: len(self._hyper())] = self._hyper()
        return hyper

    def _columns(self, t: Any, lr: Any, state: State) -> tuple[Any, ...]:
        """The scalars of step t as `read` of the kernel takes them; t a number, or an array of consecutive ones.

        The state's own scalars move on to the last of these steps.
        """
        return (lr,)

    def _row(self, t: Any, lr: Any, state: State) -> tuple[Any, ...]:
        """A step's row of the kernels' table: the factor of decoupled decay, then `_columns`."""
        keep = 1.0 if self.weight_decay is None or self._decays_itself else 1.0 - lr * self.weight_decay
        return (keep, *self._columns(t, lr, state))

    #: Where the search for the learning rate "auto" begins: what is usual on standardised data.
    first_rate: ClassVar[float] = 0.1
    #: Whether weight decay is part of the rule's own step.
    _decays_itself: ClassVar[bool] = False
    #: Whether L2 on CSR is what it is on dense data; else it acts on touched coordinates, by the share of batches.
    exact_l2: ClassVar[bool] = False
    #: The same of L1.
    exact_l1: ClassVar[bool] = False
    #: 2 where `idle` reads more of a step than a row holds: second rows then stand behind all the first ones.
    _halves: ClassVar[int] = 1

    @property
    def same_every_step(self) -> bool:
        """Whether steps of one learning rate have the same scalars: no bias correction, no averaging weights."""
        return type(self)._columns is Optimizer._columns

    def idles_exactly(self, alpha: float, constant_rate: bool) -> bool:
        """Whether any number of zero-gradient steps can be taken at once, with L2 of strength alpha."""
        if self.ema_momentum is not None or (alpha and self._clips):
            return False
        return self._idles(alpha, constant_rate)

    def _idles(self, alpha: float, constant_rate: bool) -> bool:
        return True

    def table(self, t0: int, lr: Any, state: State, *, lazy: bool, alpha: float = 0.0, rate: Rate = None) -> Any:
        """The kernels' (table, hyper) for the steps after t0: row s describes step t0 + s, and what s idle steps do.

        Parameters
        ----------
        t0 : int
        lr : ndarray (n_steps,)
        state : dict
            Its scalars move on by n_steps.
        lazy : bool
            With the columns that `idle` reads. The last one is NaN where there is no closed form with these learning
            rates: then every coordinate steps.
        alpha : float
        rate : callable or None
            The learning rate at real numbers of steps, if it is smooth.
        """
        n = len(lr)
        start = {key: state[key] for key in self._scalars()}
        columns = self._row(np.arange(t0 + 1, t0 + n + 1, dtype=np.float64), lr, state)
        table = np.zeros((self._halves * (n + 1) if lazy else n + 1, WIDTH if lazy else len(columns)))
        table[0, 0] = 1
        for i, column in enumerate(columns):
            table[1 : n + 1, i] = column
        hyper = self._hyper_array
        if lazy:
            hyper = hyper.copy()
            if self.weight_decay and not self._decays_itself:
                if not (table[: n + 1, 0] > 0).all():  # there is no logarithm
                    table[:, 7] = np.nan
                    return table, hyper
                table[: n + 1, 7] = np.cumsum(np.log(table[: n + 1, 0]))
                hyper[9] = 1
            self._fill_idle(table, hyper, t0, alpha, rate, start)
        return table, hyper

    def _fill_idle(self, table: Array, hyper: Array, t0: int, alpha: float, rate: Rate, start: State) -> None:
        """Completes the table and the hyperparameters with what the rule's `idle` needs."""

    def _clip(self, g: Array) -> Array:
        """A flat gradient, clipped as Keras does it."""
        if self.clipnorm is not None:
            norm = euclidean(g)
            return g * g.dtype.type(self.clipnorm / norm) if norm > self.clipnorm else g
        if self.clipvalue is not None:
            return np.clip(g, -self.clipvalue, self.clipvalue)
        return g

    def _slot_arrays(self, flat: Array, state: State, shape: tuple[int, ...] | None = None) -> list[Array]:
        """The kernels' slots a, b, c; unused ones are empty."""
        if missing := [key for key in ("t", *self._scalars()) if key not in state]:
            raise ValueError(f"state must have {missing[0]!r}, as init of {self.name!r} makes it; got {list(state)}.")
        for slot in self._arrays:
            if shape is not None and getattr(state.get(slot), "shape", shape) != shape:
                raise ValueError(f"state[{slot!r}] must have the shape of w, {shape}; got {state[slot].shape}.")
        arrays = [flat[:0]] * _step.SLOTS
        for slot, position in zip(self.slots, self._positions, strict=True):
            arrays[position] = _like(f"state[{slot!r}]", state.get(slot), flat, written=True)
        if self.ema_momentum is not None:
            _like("state['ema']", state.get("ema"), flat, written=True)
        self._check_apart(flat, arrays, state)
        return arrays

    def _check_apart(self, flat: Array, slots: list[Array], state: State, g: Array | None = None) -> None:
        """Whether what a step writes has memory of its own, and g, if given, is one of these arrays or lies apart."""
        arrays, last = [flat, *slots], [] if g is None else [g]
        if self.ema_momentum is not None:
            arrays.append(state["ema"])
        found = _step.overlapping(arrays + last, g is not None)
        if found is None:
            return
        names = dict(zip(self._positions, self.slots, strict=True)) | {len(slots): "ema"}
        first, second = ("w" if i == 0 else f"state[{names[i - 1]!r}]" if i < len(arrays) else "g" for i in found)
        if second == "g":
            raise ValueError(f"g must be {first} or lie apart from it; got an array that overlaps it. Use g.copy().")
        raise ValueError(f"{second} must have memory of its own; got an array that overlaps {first}. Use init(w).")

    def _window(self, state: State) -> tuple[Array, Array]:
        """The (hyper, table) for up to WINDOW sparse steps from ``state["window"]`` on."""
        scalars = {key: state["window_" + key] for key in self._scalars()}
        return self._tables(int(state["window"]), scalars, state.get("window_rate"))

    def _tables(self, start: int, scalars: State, began_with: Any) -> tuple[Array, Array]:
        # Numbers: numpy.load makes arrays of them, which are no keys.
        plain = tuple((key, float(value)) for key, value in scalars.items())
        return _window_tables(self, start, plain, None if began_with is None else float(began_with))

    def _sparse_step(self, flat: Array, columns: Array, values: Array, slots: list[Array], state: State) -> bool:
        """False, and nothing done, where every coordinate has to step."""
        t = int(state["t"])
        if "last" in state and t - int(state["window"]) >= WINDOW:
            self.catch_up(flat, state)
        if "last" not in state:
            scalars, rate = {key: float(state[key]) for key in self._scalars()}, float(self.rate(t))
            # Where the learning rate raises, the state stays as it is.
            if not has_closed_form(self._tables(t, scalars, rate)[1]):
                return False
            state |= {"last": np.zeros(flat.size, np.int32), "window": t, "window_rate": rate}
            state |= {"window_" + key: value for key, value in scalars.items()}
        last, k = _stamps(state, flat.size, columns)
        hyper, table = self._window(state)
        kind = _step.RULES[self._kernel]
        if len(columns):
            _step.touch(kind, hyper, table, k, columns, last, flat, *slots)
        _step.sparse(kind, hyper, table[k + 1], columns, self._clip(values), flat, *slots)
        last[columns] = k + 1
        state["t"] = t + 1
        self._columns(t + 1, float(self.rate(t)), state)
        return True


def _stamps(state: State, size: int, columns: Any) -> tuple[NDArray[np.int32], int]:
    """The steps of the window that each of `size` coordinates has taken, and the steps so far: the kernels rely on
    them, and states come from files, too."""
    last, steps = state["last"], int(state["t"]) - int(state.get("window", -1))
    like = isinstance(last, np.ndarray) and last.dtype == np.int32 and last.shape == (size,)
    if not (like and last.flags.carray and 0 <= steps <= WINDOW and (last[columns] >= 0).all()):
        got = f"{last.dtype} of shape {last.shape}" if isinstance(last, np.ndarray) else type(last).__name__
        raise ValueError(
            f"state['last'] and 'window' must be as steps of sparse gradients leave them for an array of {size}"
            f" elements; got {got}, {steps} steps after 'window'. Use init(w) for another array."
        )
    return last, steps


def has_closed_form(table: Array) -> bool:
    """Whether idle steps can be taken by this table; see `Optimizer.table`."""
    return bool(np.isfinite(table[:, -1]).all())


@lru_cache(maxsize=8)
def _window_tables(
    optimizer: Optimizer, start: int, scalars: tuple[tuple[str, float], ...], began_with: float | None
) -> tuple[Array, Array]:
    if began_with is not None and float(optimizer.rate(start)) != began_with:
        raise ValueError(
            f"state must have no coordinates that wait at another learning rate; got {began_with!r} for steps after"
            f" {start}, {float(optimizer.rate(start))!r} now. Call catch_up of the rule that took those steps first."
        )
    lr = np.broadcast_to(np.asarray(optimizer.rate(np.arange(start, start + WINDOW, dtype=np.float64))), WINDOW)
    rate = optimizer.rate if optimizer.smooth else None
    table, hyper = optimizer.table(start, lr, dict(scalars), lazy=True, rate=rate)
    return hyper, table


def euclidean(g: Array) -> float:
    """A gradient's norm, also where its squares overflow."""
    with np.errstate(over="ignore"):
        norm = float(np.linalg.norm(g))
    if math.isinf(norm) and math.isfinite(most := float(np.abs(g).max())):
        norm = most * float(np.linalg.norm(np.asarray(g, np.float64) / most))
    return norm


def _or_nan(given: Any) -> float:
    try:
        return float(given)
    except (TypeError, ValueError):
        return math.nan


def _flat(w: Array) -> Array:
    if not isinstance(w, np.ndarray) or w.dtype not in (np.float32, np.float64) or not w.dtype.isnative:
        got = getattr(w, "dtype", type(w).__name__)
        raise TypeError(f"w must be a NumPy array of float32 or float64; got {got!s}. Use numpy.asarray(w, float).")
    if not w.flags.c_contiguous or not w.flags.writeable:
        raise ValueError("w must be C-contiguous and writeable; got one that is not. Use numpy.array(w, order='C').")
    if not w.flags.aligned:
        raise ValueError("w must be aligned; got an array at an odd address. Use numpy.array(w).")
    return np.asarray(w).reshape(-1)  # of a matrix, too, whose own reshape leaves two dimensions


def _like(name: str, a: Any, w: Array, *, written: bool = False) -> Array:
    if not isinstance(a, np.ndarray) or a.size != w.size or a.dtype != w.dtype:
        got = f"{a.dtype} of {a.size}" if isinstance(a, np.ndarray) else type(a).__name__
        raise ValueError(f"{name} must be an array like w ({w.dtype} of {w.size} elements); got {got}.")
    if written and not (a.flags.c_contiguous and a.flags.writeable):
        raise ValueError(f"{name} must be C-contiguous and writeable; got an array that is not.")
    if written and not a.flags.aligned:
        raise ValueError(f"{name} must be aligned; got an array at an odd address.")
    return np.require(np.asarray(a), requirements=["C", "A"]).reshape(-1)


def _expand(indices: Any, w: Array) -> NDArray[np.int64]:
    """Flat positions of some rows of w."""
    rows = np.asarray(indices)
    if rows.ndim != 1 or (rows.dtype.kind not in "iu" and rows.size):
        raise ValueError(f"indices must be one-dimensional integers; got {rows.dtype} of shape {rows.shape}.")
    n = len(w) if w.ndim else 1
    if rows.size and not 0 <= int(rows.min()) <= int(rows.max()) < n:
        bad = int(rows.min()) if rows.min() < 0 else int(rows.max())
        raise ValueError(f"indices must be in [0, {n}); got {bad}.")
    width = w.size // max(n, 1)
    flat = np.require(rows if rows.size else [], np.int64, ["C", "A"])  # empty ones may be of any type
    return flat if width == 1 else (flat[:, None] * width + np.arange(width)).reshape(-1)


def _sparse_gradient(g: tuple[Any, Any], w: Array) -> tuple[NDArray[np.int64], Array]:
    """Flat positions, each once, and their gradients."""
    if len(g) != 2:
        raise ValueError(f"g must be an array or a pair (indices, values); got a tuple of {len(g)}.")
    columns, values = _expand(g[0], w), np.require(g[1], requirements=["C", "A"])
    shape = (np.size(g[0]), *w.shape[1:])
    if values.shape != shape or values.dtype != w.dtype:
        raise ValueError(f"g's values must be {w.dtype} of shape {shape}; got {values.dtype} of shape {values.shape}.")
    values = values.reshape(-1)
    if len(columns) > 1 and not (columns[1:] > columns[:-1]).all():
        columns, inverse = np.unique(columns, return_inverse=True)
        values = np.bincount(inverse, weights=values, minlength=len(columns)).astype(w.dtype)
    return np.require(columns, requirements=["C", "A"]), values


@dataclass(frozen=True, repr=False)
class GradientDescent(Optimizer):
    """Gradient descent on all the data: ``w -= lr g``.

    In the solvers it is SGD with ``batch_size="full"``, and ``learning_rate="auto"`` there takes each step's rate from
    the two points before it (Barzilai and Borwein, IMA J. Numerical Analysis 8, 1988, eq. (5)).

    Parameters
    ----------
    learning_rate : float, Schedule, callable or "auto", default 0.01
    decay : float, default 0.0

    References
    ----------
    Cauchy, "Méthode générale pour la résolution des systèmes d'équations simultanées", 1847.

    Examples
    --------
    >>> import numpy as np
    >>> w, rule = np.array([1.0]), GradientDescent(learning_rate=0.25)
    >>> rule.step(w, 2 * w, state := rule.init(w))
    >>> w, state
    (array([0.5]), {'t': 1})
    """

    name: ClassVar[str] = "gd"

    exact_l2: ClassVar[bool] = True

    @property
    def _kernel(self) -> str:
        return "sgd"

    def _idles(self, alpha: float, constant_rate: bool) -> bool:
        return alpha == 0


@dataclass(frozen=True, repr=False)
class SGD(Optimizer):
    """Stochastic gradient descent, with momentum mu ``u = mu u - lr g; w += u``, Nesterov's ``w += mu u - lr g``.

    The learning rate is inside the velocity (Keras). PyTorch multiplies by it afterwards (``u = mu u + g; w -= lr u``):
    the same iterates only while the learning rate does not change.

    Parameters
    ----------
    learning_rate : float, Schedule, callable or "auto", default 0.01
    momentum : float in [0, 1), default 0.0
    nesterov : bool, default False
    decay : float, default 0.0

    Notes
    -----
    On CSR data a step costs O(nonzeros) and the iterates are those of the dense algorithm: without momentum L2 scales
    all coordinates at once; with momentum a coordinate that waited k steps takes the k-th power of its 2x2 recurrence
    (with L2 for a learning rate that is constant within an epoch; otherwise every coordinate steps).

    References
    ----------
    Robbins, Monro, "A stochastic approximation method", 1951. Polyak, "Some methods of speeding up the convergence of
    iteration methods", 1964, eq. (9). Sutskever et al., "On the importance of initialization and momentum in deep
    learning", ICML 2013, eqs. (1)-(4). Bottou, "Stochastic gradient descent tricks", 2012, section 5.1.

    Examples
    --------
    >>> import numpy as np
    >>> w, rule = np.array([1.0]), SGD(learning_rate=0.1, momentum=0.5)
    >>> state = rule.init(w)
    >>> for _ in range(2):
    ...     rule.step(w, 2 * w, state)
    >>> w.round(6), state["u"].round(6)
    (array([0.54]), array([-0.26]))
    """

    name: ClassVar[str] = "sgd"
    momentum: float = 0.0
    nesterov: bool = False

    def _check(self) -> None:
        check_fraction("momentum", self.momentum)
        check_bool("nesterov", self.nesterov)

    @property
    def slots(self) -> tuple[str, ...]:
        """``("u",)`` with momentum."""
        return ("u",) if self.momentum else ()

    @property
    def _kernel(self) -> str:
        if not self.momentum:
            return "sgd"
        return "nesterov" if self.nesterov else "momentum"

    def _hyper(self) -> tuple[float, ...]:
        return (self.momentum,)

    exact_l2: ClassVar[bool] = True

    def _idles(self, alpha: float, constant_rate: bool) -> bool:
        if not self.momentum:
            return alpha == 0
        return constant_rate or (alpha == 0 and not self.weight_decay)

    def _fill_idle(self, table: Array, hyper: Array, t0: int, alpha: float, rate: Rate, start: State) -> None:
        """Columns 2-5 of row k: the k-th power of the matrix that takes (w, u) through a step without a gradient."""
        if self.momentum:
            mu, keep = self.momentum, float(table[-1, 0])
            shrink = alpha * float(table[-1, 1])
            if self.nesterov:
                matrix = np.array([[keep - shrink - mu * shrink, mu * mu], [-shrink, mu]])
            else:
                matrix = np.array([[keep - shrink, mu], [-shrink, mu]])
            table[:, 2:6] = matrix_powers(matrix, len(table)).reshape(-1, 4)


@dataclass(frozen=True, repr=False)
class _Moments(Optimizer):
    """What Adam, Nadam and Adamax share: two decay rates and epsilon."""

    learning_rate: float | Callable[[int], float] | str = 0.001
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-7

    def _check(self) -> None:
        check_fraction("beta_1", self.beta_1)
        check_fraction("beta_2", self.beta_2)
        check_positive("epsilon", self.epsilon)

    def _hyper(self) -> tuple[float, ...]:
        return (self.beta_1, self.beta_2, self.epsilon)


@dataclass(frozen=True, repr=False)
class Adam(_Moments):
    """Adam: ``m += (1 - b1)(g - m); v += (1 - b2)(g^2 - v); w -= lr sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + eps)``.

    eps stands beside the root of the uncorrected v (Keras; the paper's "epsilon hat"). PyTorch and the paper's
    Algorithm 1 have ``sqrt(v / (1 - b2^t)) + eps``. AMSGrad puts ``v_max = max(v_max, v)`` in v's place and keeps the
    bias correction, which its paper does not have.

    Parameters
    ----------
    learning_rate : float, Schedule, callable or "auto", default 0.001
    beta_1, beta_2 : float in [0, 1), defaults 0.9 and 0.999
    epsilon : float > 0, default 1e-8
        Keras: 1e-7.
    amsgrad : bool, default False

    Notes
    -----
    On CSR data a step costs O(nonzeros). Without a penalty the iterates are those of the dense algorithm: a
    coordinate that waited k steps moves by a sum with geometric weights beta_1^j, taken step by step while t < 25 /
    (1 - beta_1), or weight decay or a change of the learning rate is not slow, and by 3-node Gauss quadrature after
    (relative error under 1e-7 of the motion); AMSGrad by tabulated sums, to rounding. With L2 the touched coordinates
    alone are shrunk, each with alpha over the share of batches that touch it: the expected step is the gradient of F,
    the minimiser is the same, the iterates are not those of the dense algorithm. So is L1, by a soft threshold of the
    point to which m would take w (`fastopt.reference.waiting_step`).

    References
    ----------
    Kingma, Ba, "Adam: A method for stochastic optimization", ICLR 2015, end of section 2. Reddi, Kale, Kumar, "On the
    convergence of Adam and beyond", ICLR 2018, Algorithm 2.

    Examples
    --------
    >>> import numpy as np
    >>> w, rule = np.array([1.0, -2.0]), Adam(learning_rate=0.1)
    >>> state = rule.init(w)
    >>> rule.step(w, np.array([0.5, -30.0]), state)
    >>> w.round(6)
    array([ 0.9, -1.9])
    """

    name: ClassVar[str] = "adam"
    epsilon: float = 1e-8
    amsgrad: bool = False

    def _check(self) -> None:
        super()._check()
        check_bool("amsgrad", self.amsgrad)

    @property
    def slots(self) -> tuple[str, ...]:
        """``("m", "v")``, with AMSGrad also "v_max"."""
        return ("m", "v", "v_max") if self.amsgrad else ("m", "v")

    @property
    def _kernel(self) -> str:
        return "adam"

    def _hyper(self) -> tuple[float, ...]:
        return (*super()._hyper(), 0, 0, 0, 0, 0, float(self.amsgrad))

    def _columns(self, t: Any, lr: Any, state: State) -> tuple[Any, ...]:
        return (_step.bias_corrected(lr, power(self.beta_1, t), power(self.beta_2, t)),)

    def _idles(self, alpha: float, constant_rate: bool) -> bool:
        return constant_rate or not self.weight_decay

    def _fill_idle(self, table: Array, hyper: Array, t0: int, alpha: float, rate: Rate, start: State) -> None:
        if self.amsgrad:
            _fill_tail_sums(table, self.beta_1)
        _fill_quadrature(self, table, hyper, t0, rate, self.beta_2**0.5)


def _fill_decays(table: Array, hyper: Array, beta_1: float, beta_2: float) -> None:
    """Columns 5 and 6 of row k: beta_1^k, beta_2^k; hyper[7]: the steps after which beta_1^k is below rounding."""
    rows = np.arange(len(table), dtype=np.float64)
    table[:, 5] = power(beta_1, rows)
    table[:, 6] = power(beta_2, rows)
    hyper[6] = np.inf
    hyper[7] = np.ceil(np.log(1e-18) / np.log(beta_1)) if beta_1 > 0 else 1.0


def _quadrature(
    rule: _Moments, table: Array, hyper: Array, t0: int, rate: Rate, root_decay: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]] | None:
    """What the sums over idle steps need: three nodes after each step of the table, as real numbers of steps in a row,
    the learning rates there, and the three weights; None where all steps are taken one by one.

    hyper[3-5] are the root's decay at the nodes, hyper[6] the first step of the table from which on the sum is smooth
    enough: 25 / (1 - beta_1) steps from the start, and from where on the root's decay, w's own and the change of the
    learning rate are slow on the scale 1 / (1 - beta_1) on which beta_1^j falls off. It never is for a learning rate
    that is not smooth, and for decay that changes.
    """
    b1, keep = rule.beta_1, float(table[-1, 0])
    _fill_decays(table, hyper, b1, rule.beta_2)
    # By how much the learning rate may change in a step, for errors below 1e-7: they grow with the sixth power.
    slow = 0.1 * (1 - b1) - (1 - root_decay) - (1 - keep)
    # The kernel multiplies three denominators of at least epsilon each: they must not underflow.
    if rate is None or 1 - root_decay > 0.025 * (1 - b1) or rule.epsilon < 1e-80 or np.any(table[1:, 0] != keep):
        return None
    if slow < 0:
        return None
    nodes, weights = geometric_quadrature(b1)
    hyper[3:6] = root_decay**nodes
    hyper[6] = 25 / (1 - b1) - t0
    later = (t0 + np.arange(len(table), dtype=np.float64)[:, None] + nodes).ravel()
    rates = np.broadcast_to(rate(later - 1), later.shape)
    by_row = rates.reshape(-1, 3)
    with np.errstate(invalid="ignore"):  # of rates that are infinite far ahead
        fast = ~(np.abs(np.diff(by_row, axis=0)) <= slow * by_row[:-1]).all(axis=1)
    if fast.any():
        hyper[6] = max(hyper[6], np.flatnonzero(fast)[-1] + 2)  # neither of the two rows
    return later, rates, weights * keep**-nodes


def _fill_quadrature(rule: Adam | Adamax, table: Array, hyper: Array, t0: int, rate: Rate, root_decay: float) -> None:
    """Columns 2-4 of row s: quadrature weight times gain at the nodes after step t0 + s."""
    found = _quadrature(rule, table, hyper, t0, rate, root_decay)
    if found is not None and not getattr(rule, "amsgrad", False):
        later, rates, weights = found
        table[:, 2:5] = weights * rule._columns(later, rates, {})[0].reshape(-1, 3)


def _fill_tail_sums(table: Array, beta_1: float) -> None:
    """Column 2 of row s: sum_{j >= 1} (beta_1 / keep)^j gain(s + j), up to the last row.

    It may end there because only differences of two rows are used, in which what lies beyond the last row cancels.
    Sums that are much larger than their first terms, where w decays faster than beta_1^j or the learning rate grows as
    fast, would leave nothing but rounding: then column 7 is NaN.
    """
    factor, width = beta_1 / float(table[-1, 0]), 1
    sums = np.append(factor * table[1:, 1], 0.0)
    with np.errstate(over="ignore", invalid="ignore"):
        while width < len(sums) and factor > 1e-20:  # sums of `width` terms become sums of twice as many
            sums[:-width] += factor * sums[width:]
            factor, width = factor * factor, 2 * width
        if not (sums[:-1] * (1 - beta_1) <= 100 * np.maximum.accumulate(table[1:, 1])).all():
            table[:, 7] = np.nan
    table[:, 2] = sums


@dataclass(frozen=True, repr=False)
class AdamW(Adam):
    """Adam with decoupled weight decay: ``w -= lr weight_decay w``, then the step of `Adam`.

    It does not minimise F with the penalty weight_decay: what it shrinks is not divided by the gradient's scale.

    Parameters
    ----------
    learning_rate, beta_1, beta_2, epsilon, amsgrad, decay
        As in `Adam`.
    weight_decay : float, default 0.004

    Notes
    -----
    Idle steps on CSR data as in `Adam`, the decay included, for a learning rate that is constant within an epoch; for
    others every coordinate steps.

    References
    ----------
    Loshchilov, Hutter, "Decoupled weight decay regularization", ICLR 2019, Algorithm 2.

    Examples
    --------
    >>> import numpy as np
    >>> w, rule = np.array([1.0, -2.0]), AdamW(learning_rate=0.1, weight_decay=0.5)
    >>> rule.step(w, np.array([0.0, -30.0]), rule.init(w))
    >>> w.round(6)
    array([ 0.95, -1.8 ])
    """

    name: ClassVar[str] = "adamw"
    weight_decay: float | None = field(default=0.004, kw_only=True)


@dataclass(frozen=True, repr=False)
class Adagrad(Optimizer):
    """Adagrad: ``a += g^2; w -= lr g / sqrt(a + eps)``, eps inside the root (Keras; PyTorch has ``sqrt(a) + eps``).

    Parameters
    ----------
    learning_rate : float, Schedule, callable or "auto", default 0.01
    initial_accumulator_value : float >= 0, default 0.0
        a at the start (Keras: 0.1).
    epsilon : float > 0, default 1e-6
        Keras: 1e-7.

    Notes
    -----
    A coordinate without a gradient does not move: CSR steps are exact at O(nonzeros). L2 on CSR as in `Adam`.

    References
    ----------
    Duchi, Hazan, Singer, "Adaptive subgradient methods for online learning and stochastic optimization", JMLR 12, 2011,
    eq. (1), diagonal.

    Examples
    --------
    >>> import numpy as np
    >>> w, rule = np.array([1.0, -2.0]), Adagrad(learning_rate=0.1)
    >>> rule.step(w, np.array([0.5, -30.0]), rule.init(w))
    >>> w.round(6)
    array([ 0.9, -1.9])
    """

    name: ClassVar[str] = "adagrad"
    first_rate: ClassVar[float] = 0.5
    initial_accumulator_value: float = 0.0
    epsilon: float = 1e-6

    def _check(self) -> None:
        check_real("initial_accumulator_value", self.initial_accumulator_value, low=0)
        check_positive("epsilon", self.epsilon)

    @property
    def slots(self) -> tuple[str, ...]:
        """``("a",)``."""
        return ("a",)

    def _start(self, slot: str, w: Array) -> Any:
        return self.initial_accumulator_value if slot == "a" else super()._start(slot, w)

    def _hyper(self) -> tuple[float, ...]:
        return (self.epsilon,)


@dataclass(frozen=True, repr=False)
class RMSprop(Optimizer):
    """RMSprop: ``v = rho v + (1 - rho) g^2; w -= lr g / sqrt(v + eps)``, eps inside the root (Keras).

    Centered: also ``m = rho m + (1 - rho) g`` and ``max(v - m^2, 0)`` in place of v (Keras has no max and gives NaN
    where rounding takes the difference below zero). With momentum mu the step s becomes ``u = mu u + s; w -= u``.
    PyTorch has ``sqrt(v) + eps``.

    Parameters
    ----------
    learning_rate : float, Schedule, callable or "auto", default 0.001
    rho : float in [0, 1), default 0.9
    momentum : float in [0, 1), default 0.0
    epsilon : float > 0, default 1e-8
        Keras: 1e-7.
    centered : bool, default False

    Notes
    -----
    On CSR data a coordinate that waited k steps decays by rho^k, its velocity as with momentum: exact, O(nonzeros).
    L2 on CSR as in `Adam`.

    References
    ----------
    Tieleman, Hinton, "Lecture 6.5: RMSprop", Coursera, 2012. Graves, "Generating sequences with recurrent neural
    networks", 2013, eqs. (38)-(41), for momentum and centered.

    Examples
    --------
    >>> import numpy as np
    >>> w, rule = np.array([1.0, -2.0]), RMSprop(learning_rate=0.1, rho=0.75)
    >>> rule.step(w, np.array([0.5, -30.0]), rule.init(w))
    >>> w.round(6)
    array([ 0.8, -1.8])
    """

    name: ClassVar[str] = "rmsprop"
    first_rate: ClassVar[float] = 0.06
    learning_rate: float | Callable[[int], float] | str = 0.001
    rho: float = 0.9
    momentum: float = 0.0
    epsilon: float = 1e-8
    centered: bool = False

    def _check(self) -> None:
        check_fraction("rho", self.rho)
        check_fraction("momentum", self.momentum)
        check_positive("epsilon", self.epsilon)
        check_bool("centered", self.centered)

    @property
    def slots(self) -> tuple[str, ...]:
        """``("v",)``, with momentum also "u", centered also "m"."""
        return ("v", *(["u"] if self.momentum else []), *(["m"] if self.centered else []))

    @property
    def _positions(self) -> tuple[int, ...]:
        return tuple("vum".index(slot) for slot in self.slots)

    def _hyper(self) -> tuple[float, ...]:
        return (self.rho, self.momentum, self.epsilon, float(self.centered))

    def _idles(self, alpha: float, constant_rate: bool) -> bool:
        return constant_rate or not (self.momentum and self.weight_decay)

    def _fill_idle(self, table: Array, hyper: Array, t0: int, alpha: float, rate: Rate, start: State) -> None:
        table[:, 6] = power(self.rho, np.arange(len(table), dtype=np.float64))
        if self.momentum:
            matrix = np.array([[float(table[-1, 0]), -self.momentum], [0.0, self.momentum]])
            table[:, 2:6] = matrix_powers(matrix, len(table)).reshape(-1, 4)


@dataclass(frozen=True, repr=False)
class Nadam(_Moments):
    """Adam with Nesterov momentum.

    ``u_t = b1 (1 - 0.96^t / 2)``, ``U_t = u_1 ... u_t``; m and v as in `Adam`; ``w -= lr (u_{t+1} m / (1 - U_{t+1}) +
    (1 - u_t) g / (1 - U_t)) / (sqrt(v / (1 - b2^t)) + eps)``. The exponent of 0.96 is t as in Keras; the paper and
    PyTorch have t / 250.

    Parameters
    ----------
    learning_rate : float, Schedule, callable or "auto", default 0.001
    beta_1, beta_2 : float in [0, 1), defaults 0.9 and 0.999
    epsilon : float > 0, default 1e-7

    Notes
    -----
    On CSR data as `Adam`: step by step early, by quadrature later, relative error under 1e-7 of the motion.

    References
    ----------
    Dozat, "Incorporating Nesterov momentum into Adam", ICLR workshop 2016, Algorithm 2.

    Examples
    --------
    >>> import numpy as np
    >>> w, rule = np.array([1.0]), Nadam(learning_rate=0.1)
    >>> rule.step(w, np.array([0.5]), rule.init(w))
    >>> w.round(4)
    array([0.8937])
    """

    name: ClassVar[str] = "nadam"
    _halves: ClassVar[int] = 2

    @property
    def slots(self) -> tuple[str, ...]:
        """``("m", "v")``."""
        return ("m", "v")

    def _scalars(self) -> State:
        return {"u_product": 1.0}

    def _columns(self, t: Any, lr: Any, state: State) -> tuple[Any, ...]:
        u = self.beta_1 * (1 - 0.5 * power(0.96, t))
        u_next = self.beta_1 * (1 - 0.5 * power(0.96, t + 1))
        one = type(t) is int
        product = state["u_product"] * (u if one else np.cumprod(u))
        state["u_product"] = product if one else float(product[-1])
        v_gain = 1 / (1 - power(self.beta_2, t)) ** 0.5
        return (*_step.nadam_gains(lr, u, u_next, product), v_gain)

    def _fill_idle(self, table: Array, hyper: Array, t0: int, alpha: float, rate: Rate, start: State) -> None:
        """Columns 0-2 of second row s: quadrature weight times gain at the nodes after step t0 + s; 3-5: epsilon.

        Both are divided by the root's bias correction. U_t is nothing by then.
        """
        first, second = table[: len(table) // 2], table[len(table) // 2 :]
        found = _quadrature(self, first, hyper, t0, rate, self.beta_2**0.5)
        if found is not None:
            later, rates, weights = found
            m_gain, _, v_gain = self._columns(later, rates, {"u_product": 0.0})
            hyper[8] = len(first)
            second[:, :3] = weights * (m_gain / v_gain).reshape(-1, 3)
            second[:, 3:6] = (self.epsilon / v_gain).reshape(-1, 3)


@dataclass(frozen=True, repr=False)
class Adamax(_Moments):
    """Adam with the infinity norm: ``m`` as in `Adam`; ``u = max(b2 u, |g|); w -= lr / (1 - b1^t) m / (u + eps)``.

    eps beside u as in Keras; PyTorch puts it inside the maximum, the paper has none.

    Parameters
    ----------
    learning_rate : float, Schedule, callable or "auto", default 0.001
    beta_1, beta_2 : float in [0, 1), defaults 0.9 and 0.999
    epsilon : float > 0, default 1e-7

    Notes
    -----
    On CSR data as `Adam`: step by step early, by quadrature later, relative error under 1e-7 of the motion.

    References
    ----------
    Kingma, Ba, "Adam: A method for stochastic optimization", ICLR 2015, Algorithm 2.

    Examples
    --------
    >>> import numpy as np
    >>> w, rule = np.array([1.0, -2.0]), Adamax(learning_rate=0.1)
    >>> rule.step(w, np.array([0.5, -30.0]), rule.init(w))
    >>> w.round(6)
    array([ 0.9, -1.9])
    """

    name: ClassVar[str] = "adamax"
    first_rate: ClassVar[float] = 0.2

    @property
    def slots(self) -> tuple[str, ...]:
        """``("m", "u")``."""
        return ("m", "u")

    def _columns(self, t: Any, lr: Any, state: State) -> tuple[Any, ...]:
        return (_step.bias_corrected(lr, power(self.beta_1, t)),)

    def _idles(self, alpha: float, constant_rate: bool) -> bool:
        return constant_rate or not self.weight_decay

    def _fill_idle(self, table: Array, hyper: Array, t0: int, alpha: float, rate: Rate, start: State) -> None:
        _fill_quadrature(self, table, hyper, t0, rate, self.beta_2)


@dataclass(frozen=True, repr=False)
class Adadelta(Optimizer):
    """Adadelta.

    ``a = rho a + (1 - rho) g^2; s = g sqrt(d + eps) / sqrt(a + eps); d = rho d + (1 - rho) s^2; w -= lr s``. The
    paper and PyTorch have lr = 1.

    Parameters
    ----------
    learning_rate : float, Schedule, callable or "auto", default 0.001
    rho : float in [0, 1), default 0.95
    epsilon : float > 0, default 1e-7

    Notes
    -----
    On CSR data a coordinate that waited k steps decays by rho^k: exact, O(nonzeros). L2 on CSR as in `Adam`.

    References
    ----------
    Zeiler, "ADADELTA: An adaptive learning rate method", 2012, Algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> w, rule = np.array([1.0]), Adadelta(learning_rate=1.0, epsilon=1e-2)
    >>> rule.step(w, np.array([0.5]), rule.init(w))
    >>> w.round(6)
    array([0.666667])
    """

    name: ClassVar[str] = "adadelta"
    first_rate: ClassVar[float] = 100.0
    learning_rate: float | Callable[[int], float] | str = 0.001
    rho: float = 0.95
    epsilon: float = 1e-7

    def _check(self) -> None:
        check_fraction("rho", self.rho)
        check_positive("epsilon", self.epsilon)

    @property
    def slots(self) -> tuple[str, ...]:
        """``("a", "d")``."""
        return ("a", "d")

    def _hyper(self) -> tuple[float, ...]:
        return (self.rho, self.epsilon)

    def _fill_idle(self, table: Array, hyper: Array, t0: int, alpha: float, rate: Rate, start: State) -> None:
        table[:, 6] = power(self.rho, np.arange(len(table), dtype=np.float64))


@dataclass(frozen=True, repr=False)
class Ftrl(Optimizer):
    """FTRL-Proximal with L1 and L2.

    ``n' = n + g^2; z += g + 2 shrinkage w - (n'^p - n^p) / lr w`` with ``p = -learning_rate_power``; ``w = -sign(z)
    max(|z| - l1, 0) / (n'^p / lr + 2 l2 + beta / lr)``. The penalties are Keras's: its l2 is half the paper's. w
    depends on its old value only through z: parameters that were not zero at the start are lost at the first step.

    Parameters
    ----------
    learning_rate : float > 0, Schedule, callable or "auto", default 0.001
    learning_rate_power : float <= 0, default -0.5
    initial_accumulator_value : float >= 0, default 0.1
    l1_regularization_strength : float >= 0, default 0.0
    l2_regularization_strength : float >= 0, default 0.0
    l2_shrinkage_regularization_strength : float >= 0, default 0.0
    beta : float >= 0, default 0.0

    Notes
    -----
    Without a gradient z and n rest and w follows from them and the last learning rate: CSR steps are exact at
    O(nonzeros), but with l2_shrinkage, where every coordinate steps. L2 of the solvers on CSR as in `Adam`. Their L1,
    of strength l1, adds t l1 to l1_regularization_strength in step t, one l1 for each step: exact on CSR, too.

    References
    ----------
    McMahan et al., "Ad click prediction: a view from the trenches", KDD 2013, Algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> w = np.array([0.0])
    >>> rule = Ftrl(learning_rate=0.1, initial_accumulator_value=0.75, l1_regularization_strength=0.1)
    >>> rule.step(w, np.array([0.5]), rule.init(w))
    >>> w
    array([-0.04])
    """

    name: ClassVar[str] = "ftrl"
    first_rate: ClassVar[float] = 1.0
    exact_l1: ClassVar[bool] = True
    learning_rate: float | Callable[[int], float] | str = 0.001
    learning_rate_power: float = -0.5
    initial_accumulator_value: float = 0.1
    l1_regularization_strength: float = 0.0
    l2_regularization_strength: float = 0.0
    l2_shrinkage_regularization_strength: float = 0.0
    beta: float = 0.0

    def _check(self) -> None:
        if not isinstance(self.learning_rate, str) and not callable(self.learning_rate):
            check_positive("learning_rate", self.learning_rate)
        check_real("learning_rate_power", self.learning_rate_power, high=0)
        for name in ("initial_accumulator_value", "l1_regularization_strength", "l2_regularization_strength",
                     "l2_shrinkage_regularization_strength", "beta"):  # fmt: skip
            check_real(name, getattr(self, name), low=0)

    @property
    def slots(self) -> tuple[str, ...]:
        """``("n", "z")``."""
        return ("n", "z")

    @property
    def _kernel(self) -> str:
        return "ftrl" if self.learning_rate_power == -0.5 else "ftrl_power"

    def _start(self, slot: str, w: Array) -> Any:
        return self.initial_accumulator_value if slot == "n" else super()._start(slot, w)

    def _hyper(self) -> tuple[float, ...]:
        l2, shrinkage = self.l2_regularization_strength, self.l2_shrinkage_regularization_strength
        return (-self.learning_rate_power, self.l1_regularization_strength, 2 * l2, shrinkage, self.beta)

    def _columns(self, t: Any, lr: Any, state: State) -> tuple[Any, ...]:
        if not (lr if type(lr) is float else np.all(lr)):
            raise ValueError("learning_rate must be > 0 at every step of Ftrl, which divides by it; got 0.0.")
        return (lr, t)

    def _keep_start(self, w: Array, state: State, scale: float) -> None:
        quadratic = state["n"] ** -self.learning_rate_power + self.beta
        quadratic = quadratic / (scale * float(self.rate(state["t"]))) + 2 * self.l2_regularization_strength
        state["z"][...] = -w * quadratic - np.sign(w) * self.l1_regularization_strength

    @property
    def same_every_step(self) -> bool:
        """Only the learning rate counts."""
        return True

    def _idles(self, alpha: float, constant_rate: bool) -> bool:
        return self.l2_shrinkage_regularization_strength == 0


@dataclass(frozen=True, repr=False)
class Lion(Optimizer):
    """Lion: ``w -= lr sign(b1 m + (1 - b1) g); m = b2 m + (1 - b2) g``, sign(0) = 0.

    Parameters
    ----------
    learning_rate : float, Schedule, callable or "auto", default 0.001
    beta_1, beta_2 : float in [0, 1), defaults 0.9 and 0.99

    Notes
    -----
    On CSR data an idle coordinate goes on by lr times the sign of its m: exact at O(nonzeros); with weight decay, or a
    beta_1 of 2 (1 - beta_2) or less, every coordinate steps. L2 on CSR as in `Adam`; L1 as on dense data, idle steps
    included.

    References
    ----------
    Chen et al., "Symbolic discovery of optimization algorithms", NeurIPS 2023, Algorithm 2.

    Examples
    --------
    >>> import numpy as np
    >>> w, rule = np.array([1.0, -2.0]), Lion(learning_rate=0.1)
    >>> rule.step(w, np.array([0.5, -30.0]), rule.init(w))
    >>> w
    array([ 0.9, -1.9])
    """

    name: ClassVar[str] = "lion"
    first_rate: ClassVar[float] = 0.01
    exact_l1: ClassVar[bool] = True
    learning_rate: float | Callable[[int], float] | str = 0.001
    beta_1: float = 0.9
    beta_2: float = 0.99

    def _check(self) -> None:
        check_fraction("beta_1", self.beta_1)
        check_fraction("beta_2", self.beta_2)

    @property
    def slots(self) -> tuple[str, ...]:
        """``("m",)``."""
        return ("m",)

    def _hyper(self) -> tuple[float, ...]:
        return (self.beta_1, self.beta_2)

    def _idles(self, alpha: float, constant_rate: bool) -> bool:
        # m shrinks until beta_2 m is rounded to m, at half of the smallest number over 1 - beta_2; beta_1 m must not be
        # rounded to zero there, and m neither, or its sign is lost.
        return not self.weight_decay and self.beta_1 > 2 * (1 - self.beta_2)

    def _fill_idle(self, table: Array, hyper: Array, t0: int, alpha: float, rate: Rate, start: State) -> None:
        table[:, 2] = np.cumsum(table[:, 1])
        table[:, 6] = power(self.beta_2, np.arange(len(table), dtype=np.float64))


@dataclass(frozen=True, repr=False)
class _ScheduleFree(Optimizer):
    """What the schedule-free rules share: w is y, the point where gradients are taken; `averaged` gives x."""

    _decays_itself: ClassVar[bool] = True
    warmup_steps: int = field(default=0, kw_only=True)
    r: float = field(default=0.0, kw_only=True)
    weight_lr_power: float = field(default=2.0, kw_only=True)

    @property
    def _beta(self) -> float:
        raise NotImplementedError

    def _check(self) -> None:
        check_integer("warmup_steps", self.warmup_steps, low=0)
        check_real("r", self.r, low=0)
        check_real("weight_lr_power", self.weight_lr_power, low=0)

    @property
    def _weights(self) -> tuple[float, ...]:
        """What `Stepper` takes beside for the scalars of `_columns`: hyperparameters 4 to 6."""
        return self.r, self.weight_lr_power, self.warmup_steps

    def averaged(self, w: Array, state: State) -> Array:
        """x, the parameters to use: ``(y - (1 - beta) z) / beta``."""
        if self.ema_momentum is not None:
            return np.asarray(state["ema"])
        return np.asarray((w - w.dtype.type(1 - self._beta) * state["z"]) / w.dtype.type(self._beta))

    def _scalars(self) -> State:
        return {"weight_sum": 0.0, "lr_max": 0.0}

    def _start(self, slot: str, w: Array) -> Any:
        return w if slot == "z" else super()._start(slot, w)

    def _columns(self, t: Any, lr: Any, state: State) -> tuple[Any, ...]:
        if type(t) is int:
            lr = lr * min(t / self.warmup_steps, 1.0) if self.warmup_steps else lr
            lr_max = state["lr_max"] = max(float(lr), state["lr_max"])
            weight = float(t) ** self.r * lr_max**self.weight_lr_power
            total = state["weight_sum"] = state["weight_sum"] + weight
            return lr, weight / total if total > 0 else 0.0, self._v_gain(t), total
        lr = np.broadcast_to(lr, t.shape)
        if self.warmup_steps:
            lr = lr * np.minimum(t / self.warmup_steps, 1)
        lr_max = np.maximum(np.maximum.accumulate(lr), state["lr_max"])
        weight = t**self.r * lr_max**self.weight_lr_power
        sums = np.cumsum(np.concatenate([[state["weight_sum"]], weight]))[1:]
        c = np.divide(weight, sums, out=np.zeros_like(weight), where=sums > 0)
        state["weight_sum"], state["lr_max"] = float(sums[-1]), float(lr_max[-1])
        return lr, c, self._v_gain(t), sums

    def _v_gain(self, t: Any) -> Any:
        return 1.0 if type(t) is int else np.ones_like(t)

    def _idles(self, alpha: float, constant_rate: bool) -> bool:
        return not self.weight_decay

    def _fill_idle(self, table: Array, hyper: Array, t0: int, alpha: float, rate: Rate, start: State) -> None:
        table[0, 4] = start["weight_sum"]


@dataclass(frozen=True, repr=False)
class ScheduleFreeSGD(_ScheduleFree):
    """Schedule-free SGD: no schedule to choose, and the last iterate is as good as an average.

    With ``x = (y - (1 - beta) z) / beta``: ``z -= lr (g + weight_decay y); x = (1 - c) x + c z;
    y = (1 - beta) z + beta x``, w being y. c is step t's share, ``t^r lr_max^weight_lr_power``, in the sum of all.

    Parameters
    ----------
    learning_rate : float, Schedule, callable or "auto", default 1.0
    momentum : float in (0, 1), default 0.9
        beta.
    warmup_steps : int, default 0
        The learning rate rises linearly over so many steps.
    r, weight_lr_power : float >= 0, defaults 0.0 and 2.0

    Notes
    -----
    Without a gradient z rests and y approaches it by a known product: CSR steps are exact at O(nonzeros), with weight
    decay every coordinate steps. L2 on CSR as in `Adam`.

    References
    ----------
    Defazio et al., "The road less scheduled", NeurIPS 2024, section 1.

    Examples
    --------
    >>> import numpy as np
    >>> w, rule = np.array([1.0]), ScheduleFreeSGD(learning_rate=0.5)
    >>> state = rule.init(w)
    >>> for _ in range(50):
    ...     rule.step(w, 2 * w, state)
    >>> bool(abs(rule.averaged(w, state)) < 0.02)
    True
    """

    name: ClassVar[str] = "schedule_free_sgd"
    first_rate: ClassVar[float] = 4.0
    learning_rate: float | Callable[[int], float] | str = 1.0
    momentum: float = 0.9

    def _check(self) -> None:
        super()._check()
        check_between("momentum", self.momentum, low=0, high=1)

    @property
    def _beta(self) -> float:
        return self.momentum

    @property
    def slots(self) -> tuple[str, ...]:
        """``("z",)``."""
        return ("z",)

    def _hyper(self) -> tuple[float, ...]:
        return (self.momentum, self.weight_decay or 0.0, 0, 0, *self._weights)


@dataclass(frozen=True, repr=False)
class ScheduleFreeAdamW(_ScheduleFree):
    """Schedule-free AdamW: as `ScheduleFreeSGD` with beta_1 for beta and Adam's scaling of the gradient.

    ``v = b2 v + (1 - b2) g^2; z -= lr (weight_decay y + g / (sqrt(v / (1 - b2^t)) + eps))``. Keras's weight decay
    shrinks y instead.

    Parameters
    ----------
    learning_rate : float, Schedule, callable or "auto", default 0.0025
    beta_1 : float in (0, 1), default 0.9
    beta_2 : float in [0, 1), default 0.999
    epsilon : float > 0, default 1e-8
    warmup_steps, r, weight_lr_power
        As in `ScheduleFreeSGD`.

    Notes
    -----
    On CSR data as `ScheduleFreeSGD`, v by decay.

    References
    ----------
    Defazio et al., "The road less scheduled", NeurIPS 2024, Algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> w, rule = np.array([1.0]), ScheduleFreeAdamW(learning_rate=0.1)
    >>> state = rule.init(w)
    >>> for _ in range(100):
    ...     rule.step(w, 2 * w, state)
    >>> bool(abs(rule.averaged(w, state)) < 0.1)
    True
    """

    name: ClassVar[str] = "schedule_free_adamw"
    first_rate: ClassVar[float] = 0.3
    learning_rate: float | Callable[[int], float] | str = 0.0025
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8

    def _check(self) -> None:
        super()._check()
        check_between("beta_1", self.beta_1, low=0, high=1)
        check_fraction("beta_2", self.beta_2)
        check_positive("epsilon", self.epsilon)

    @property
    def _beta(self) -> float:
        return self.beta_1

    @property
    def slots(self) -> tuple[str, ...]:
        """``("z", "v")``."""
        return ("z", "v")

    def _hyper(self) -> tuple[float, ...]:
        return (self.beta_1, self.weight_decay or 0.0, self.beta_2, self.epsilon, *self._weights)

    def _v_gain(self, t: Any) -> Any:
        return 1 / (1 - power(self.beta_2, t))

    def _fill_idle(self, table: Array, hyper: Array, t0: int, alpha: float, rate: Rate, start: State) -> None:
        super()._fill_idle(table, hyper, t0, alpha, rate, start)
        table[:, 6] = power(self.beta_2, np.arange(len(table), dtype=np.float64))


def power(base: float, exponent: Any) -> Any:
    """``base**exponent`` for 0 <= base < 1; 1e-304 where an array of it underflows: NumPy's own is slow there."""
    if type(exponent) is int or np.ndim(exponent) == 0 or base == 0:
        return base**exponent
    return np.exp(np.maximum(exponent * np.log(base), -700.0))


def matrix_powers(matrix: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """The powers 0 .. n - 1 of a matrix, (n, 2, 2), by doubling."""
    powers = np.empty((n, *matrix.shape))
    powers[0] = np.eye(len(matrix))
    done = 1
    while done < n:
        more = min(done, n - done)
        powers[done : done + more] = powers[:more] @ (powers[done - 1] @ matrix)
        done += more
    return powers


def geometric_quadrature(c: float, n: int = 3) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Nodes x_i and weights with ``sum_{j >= 1} c^j f(j) = sum_i weights_i f(x_i)``, exact for polynomials below
    degree 2n.

    Gauss quadrature of the Meixner polynomials with beta = 1 (Golub, Welsch 1969; DLMF 18.19, 18.22): eigenvalues and
    first components of the Jacobi matrix; the sum starts at 1, hence one factor c and nodes moved by 1.
    """
    i = np.arange(n)
    side = i[1:] * np.sqrt(c) / (1 - c)
    x, V = np.linalg.eigh(np.diag((i + c * (i + 1)) / (1 - c)) + np.diag(side, 1) + np.diag(side, -1))
    return x + 1, c * V[0] ** 2 / (1 - c)


#: Every rule by name; "momentum" and "nesterov" are SGD with the textbook's momentum of 0.9.
OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "gd": GradientDescent,
    "sgd": SGD,
    "momentum": lambda **kw: SGD(**dict[str, Any](momentum=0.9) | kw),
    "nesterov": lambda **kw: SGD(**dict[str, Any](momentum=0.9, nesterov=True) | kw),
    "adagrad": Adagrad,
    "rmsprop": RMSprop,
    "adam": Adam,
    "adamw": AdamW,
    "nadam": Nadam,
    "adamax": Adamax,
    "adadelta": Adadelta,
    "ftrl": Ftrl,
    "lion": Lion,
    "schedule_free_sgd": ScheduleFreeSGD,
    "schedule_free_adamw": ScheduleFreeAdamW,
}


def get(optimizer: str | Optimizer) -> Optimizer:
    """The rule of this name with its defaults, or the instance itself.

    Examples
    --------
    >>> get("momentum")
    SGD(learning_rate=0.01, momentum=0.9, nesterov=False)
    """
    if isinstance(optimizer, Optimizer):
        return optimizer
    check_choice("optimizer", optimizer, OPTIMIZERS, "Or give an instance, such as Adam(learning_rate=0.01).")
    return OPTIMIZERS[optimizer]()
