"""What a run of epochs leaves behind so that another one goes on as if there had been no break.

A resumable state is a plain dict: the update rule's own state (t, its slots and scalars) and, under "run", all else
that epochs hand on to each other. It holds arrays, numbers, strings, None, and lists and dicts of these.
"""

from __future__ import annotations

import math
import sys
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastopt._order import Random
from fastopt.objective import Objective
from fastopt.optimizers import Optimizer
from fastopt.schedules import Schedule
from fastopt.solvers.monitor import HISTORY, Row

__all__ = [
    "Course", "Draws", "Run", "epochs_of", "fitting", "generator", "left", "put_back", "random_numbers",
    "same_problem", "settings", "since", "told_of", "within",
]  # fmt: skip

#: Bit generators whose state is known, and the largest value of the position in it, which NumPy does not check.
BIT_GENERATORS = {"MT19937": 624, "PCG64": 0, "PCG64DXSM": 0, "Philox": 4, "SFC64": 0}


@dataclass
class Run:
    """What the loop of epochs knows beside the parameters and the rule's state.

    Attributes
    ----------
    settings : str
        The rule, its learning rate and the batch size.
    learning_rate : float or None
        What "auto" came to.
    start : float
        F before the first step: an epoch that ends above it is undone.
    row : Row
        The measurement at the parameters.
    best : ndarray (n_features + fit_intercept, n_outputs)
        Parameters of the lowest F so far, measured by `best_row`.
    best_row : Row
    scale : float
        What the learning rate is multiplied by.
    rises : int
        Epochs in a row, up to the last one, that did not lower F below its best.
    at, length : int
        Epochs that the cycle of an automatic rate has behind it, and how many it has.
    cycle_start : float
        Lowest F before the cycle.
    above : int
        Epochs of the cycle so far that ended with F above `cycle_start`.
    rising : bool
        Whether the rate of a rule that averages may still be raised.
    before : ndarray (2, n_features + fit_intercept, n_outputs) of float64, or None
        Parameters and the gradient of F without L1 before the last step, for a rate that two points give.
    batch_size : int or None
        Rows per step, where they have grown since the start.
    rule : str or None
        The kernel of the rule, whose class alone does not tell momentum from none; None of older versions.
    variables : int or None
        The mark of those that the steps are taken in (`Scaled`); None for w.
    """

    settings: str
    learning_rate: float | None
    start: float
    row: Row
    best: NDArray[Any]
    best_row: Row
    scale: float = 1.0
    rises: int = 0
    at: int = 0
    length: int = 1
    cycle_start: float = math.inf
    rising: bool = True
    above: int = 0
    before: NDArray[np.float64] | None = None
    batch_size: int | None = None
    rule: str | None = None
    variables: int | None = None

    def as_dict(self, w: NDArray[Any], returned: NDArray[Any], random: dict[str, Any]) -> dict[str, Any]:
        """The state's "run": w the parameters to go on from, `returned` those that the caller gets."""
        best = None if np.array_equal(self.best, returned) else self.best.copy()
        run = asdict(self) | {"row": list(self.row), "best": best, "best_row": list(self.best_row)}
        return run | {"w": w.copy(), "returned": checksum(returned), "random": random}

    @classmethod
    def of(
        cls, state: dict[str, Any] | None, optimizer: Optimizer, batch_size: int, w: NDArray[Any], row: Row
    ) -> Run | None:
        """The run that goes on, or None if it is another problem's: F and its gradient's norm are compared.

        `w` are the parameters that the caller came with, `row` the measurement at those that the run goes on from.
        """
        run = None if state is None else state["run"]
        if run is None or run["settings"] != settings(optimizer, batch_size):
            return None
        if not all(math.isclose(a, b, rel_tol=1e-10) for a, b in zip(row[2:4], run["row"][2:4], strict=True)):
            return None
        best = w if run["best"] is None else run["best"]
        epoch, seconds = (a - b for a, b in zip(run["best_row"][:2], run["row"][:2], strict=True))  # from here on
        best_row = (epoch, seconds, *run["best_row"][2:])
        known = {f.name: run[f.name] for f in fields(cls) if f.name in run}  # files of before lack some
        return cls(**known | {"row": row, "best": np.array(best), "best_row": best_row, "rule": optimizer._kernel})


@dataclass
class Course:
    """What a solver that is no update rule goes on from, and who is told how far it has come.

    The solver counts its epochs, and keeps its measurements, from the first start on.

    Attributes
    ----------
    state : dict
        Where to go on, in "run": the solver's name, its epochs, its measurements and what else it needs; no "run" for a
        start. When the solver has ended, where another run could go on.
    told : callable or None
        ``told(result)`` after each epoch, once `state` is that of its end; `result()` is what the solver would return.
    """

    state: dict[str, Any] = field(default_factory=dict)
    told: Callable[[Callable[[], Any]], None] | None = None

    def taken_up(self, solver: str, like: dict[str, Any]) -> dict[str, Any] | None:
        """The state's "run" if it is one of this solver, and has what `like` has: the same shapes, dtypes and types.

        The state itself is empty from then on, until an epoch is kept.
        """
        run, self.state = self.state.get("run"), {}
        if not isinstance(run, dict) or run.get("solver") != solver:
            return None
        whole = all(name in run and _alike(run[name], example) for name, example in like.items())
        return run if whole and _are_measurements(run.get("rows"), run.get("epoch")) else None

    def keep(self, run: Callable[[], dict[str, Any]], result: Callable[[], Any], *, last: bool) -> None:
        """After an epoch: the state, if anybody will ask for it."""
        if last or self.told is not None:
            self.state = {"run": run()}
            if self.told is not None:
                self.told(result)


def told_of(state: Any) -> dict[str, Any]:
    """The state of a `Course`, or an empty one if it is of another kind or makes no sense."""
    run = state.get("run") if isinstance(state, dict) else None
    if not isinstance(run, dict) or not isinstance(run.get("solver"), str):
        return {}
    if not _are_measurements(run.get("rows"), run.get("epoch")):
        return {}
    before = state.get("before")
    if before is not None:
        history = before.get("history") if isinstance(before, dict) else None
        columns = list(history.values()) if isinstance(history, dict) else []
        whole = set(HISTORY) <= set(history or {})
        whole = whole and all(_alike(column, np.empty(len(columns[0]), column.dtype)) for column in columns)
        names = before.get("names") if whole else None
        if not isinstance(names, list) or not _alike(before.get("epoch"), 0) or not len(columns[0]):
            return {}
    return {"run": run} if before is None else {"run": run, "before": before}


def epochs_of(state: dict[str, Any]) -> int:
    """Epochs that a `Course`'s state has behind it."""
    return int(state["run"]["epoch"]) + int(state["before"]["epoch"] if "before" in state else 0)


def within(w: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """w in this type; its largest numbers stand for what is larger."""
    most = np.finfo(dtype).max
    return (w if w.dtype == dtype else np.clip(w, -most, most)).astype(dtype)


def _problem(objective: Any) -> str:
    name, dtype = type(objective.loss).__name__, objective.design.dtype
    return f"{name}, {objective.n_samples} x {objective.shape}, {dtype}, {objective.l1!r}, {objective.l2!r}"


def left(state: dict[str, Any], objective: Any, result: Any, random: dict[str, Any]) -> dict[str, Any]:
    """A `Course`'s state at its end as a fit leaves it behind: with what tells whether another may go on from it."""
    if not state:
        return {}
    w = within(result.w, objective.design.dtype)
    value = result.objective if w.dtype == result.w.dtype else objective.value(w)
    returned = {"problem": _problem(objective), "returned": checksum(w), "value": float(value), "random": random}
    return state | {"run": state["run"] | returned}


def same_problem(state: dict[str, Any], objective: Any, w: NDArray[Any]) -> tuple[float, float] | None:
    """F and its gradient's norm at w, where `left` left the state behind for the same problem, and with these w."""
    run = state.get("run", {})
    marks = run.get("problem"), run.get("returned")
    if not isinstance(marks[0], str) or type(marks[1]) is not int or marks != (_problem(objective), checksum(w)):
        return None
    value, gradient = objective.value_and_gradient(w)
    same = _is_number(run.get("value")) and math.isclose(value, run["value"], rel_tol=1e-10)
    return (value, float(np.linalg.norm(gradient))) if same else None


def since(result: Any, before: int, value: float, size: float) -> Any:
    """The result of a run, told as that of its epochs after the first `before`; at their start F is `value`."""
    history = result.history
    later = history["epoch"] > before
    first = int(later.argmax()) if later.any() else len(later)
    if first == len(later):  # the parameters are those of before, which may not have been rounded to X's type
        value, size = result.objective, result.grad_norm
    start = {"epoch": 0, "seconds": 0.0, "objective": value, "grad_norm": size}
    seconds = history["seconds"][first - 1] if first else 0.0
    shift = {"epoch": before, "seconds": seconds}
    history = {
        name: np.concatenate([[start.get(name, math.nan)], column[first:] - shift.get(name, 0)]).astype(column.dtype)
        for name, column in history.items()
    }
    return replace(result, n_iter=max(0, result.n_iter - before), history=history)


def _alike(value: Any, example: Any) -> bool:
    if isinstance(example, np.ndarray):
        return isinstance(value, np.ndarray) and (value.dtype, value.shape) == (example.dtype, example.shape)
    if isinstance(example, dict):
        same = isinstance(value, dict) and value.keys() == example.keys()
        return same and all(_alike(value[key], example[key]) for key in example)
    if isinstance(example, float):
        return isinstance(value, float) and not math.isnan(value)
    return type(value) is type(example) and (not isinstance(value, int) or 0 <= value < 2**53)


def _are_measurements(rows: Any, epoch: Any) -> bool:
    """Whether rows hold at least one measurement, of epochs from 0 to `epoch`, in order."""
    if not (isinstance(rows, np.ndarray) and rows.dtype == np.float64 and rows.ndim == 2 and rows.shape[1] == 5):
        return False
    if not len(rows) or type(epoch) is not int or not 0 <= epoch < 2**53:
        return False
    return rows[0, 0] == 0 and rows[-1, 0] <= epoch and bool((np.diff(rows[:, 0]) >= 0).all())


def settings(optimizer: Optimizer, batch_size: int) -> str:
    """What must be the same for the learning rate's course to go on; a callable counts by its name."""
    rate = optimizer.learning_rate
    if callable(rate) and not isinstance(rate, Schedule):
        rate = f"{rate.__module__}.{getattr(rate, '__qualname__', type(rate).__qualname__)}"
    return f"{optimizer.with_learning_rate('auto')!r}, {rate!r}, {batch_size}"


def fitting(
    state: dict[str, Any] | None, objective: Objective, optimizer: Optimizer, w: NDArray[Any],
    variables: int | None = None,
) -> dict[str, Any] | None:  # fmt: skip
    """The state if it is one of this rule in these variables, for parameters of this shape and dtype, and was returned
    beside w."""
    if not isinstance(state, dict) or not isinstance(state.get("run"), dict):
        return None
    run, shape, dtype = state["run"], objective.shape, objective.design.dtype

    def like_w(a: Any) -> bool:
        return isinstance(a, np.ndarray) and a.shape == shape and a.dtype == dtype

    def are_two_points(a: Any) -> bool:
        return isinstance(a, np.ndarray) and a.shape == (2, *shape) and a.dtype == np.float64

    def rows(*names: str) -> bool:
        return all(len(run[name]) == 5 and all(map(_is_number, run[name])) for name in names)

    try:
        fits = (
            run["settings"].startswith(type(optimizer).__name__ + "(")
            and ((rule := run.get("rule")) is None or (type(rule) is str and rule == optimizer._kernel))
            and run.get("variables") == variables
            and run["returned"] == checksum(w)
            and all(like_w(state[slot]) for slot in optimizer._arrays)
            and all(_is_number(state[key]) for key in optimizer._scalars())
            and like_w(run["w"])
            and (run["best"] is None or like_w(run["best"]))
            and (run.get("before") is None or are_two_points(run["before"]))
            and (run["learning_rate"] is None or _is_number(run["learning_rate"]))
            and all(isinstance(n, int) and 0 <= n < 2**53 for n in (state["t"], run["rises"], run["at"], run["length"]))
            and type(above := run.get("above", 0)) is int
            and 0 <= above <= run["at"] <= run["length"]
            and ((size := run.get("batch_size")) is None or (type(size) is int and 0 < size < 2**53))
            and isinstance(run["rising"], bool)
            and _is_number(run["cycle_start"])
            and _is_number(run["start"])
            and _is_number(run["scale"])
            and run["scale"] > 0
            and rows("row", "best_row")
        )
    except (KeyError, TypeError, AttributeError):
        return None
    return state if fits else None


def _is_number(value: Any) -> bool:
    return isinstance(value, float | int) and not abs(value) > sys.float_info.max


def checksum(w: NDArray[Any]) -> int:
    """CRC-32 of parameters, zeros of either sign being one."""
    return zlib.crc32((w + w.dtype.type(0)).tobytes())


def random_numbers(rng: np.random.RandomState | np.random.Generator) -> dict[str, Any]:
    """State of a source of random numbers."""
    if isinstance(rng, np.random.RandomState):
        return {"kind": "RandomState", **rng.get_state(legacy=False)}
    return {"kind": "Generator", **rng.bit_generator.state}


def put_back(rng: np.random.RandomState | np.random.Generator, numbers: dict[str, Any]) -> None:
    """The source of random numbers is where it was when `random_numbers` was asked."""
    if isinstance(rng, np.random.RandomState):
        rng.set_state(numbers)
    else:
        rng.bit_generator.state = {key: value for key, value in numbers.items() if key != "kind"}


class Draws:
    """A source of random numbers, and its state after any epoch that is marked.

    Writing a state down takes as long as an epoch of a few hundred rows. So it is done once in `ROWS` rows; in between,
    the state is made again, by the same draws.

    Parameters
    ----------
    rng : RandomState or Generator
    draw : callable
        ``draw(rng)`` is the order of an epoch.
    n_samples : int
    """

    #: Rows whose orders are quickly drawn again.
    ROWS = 1 << 14

    def __init__(self, rng: Random, draw: Callable[[Random], NDArray[np.intp]], n_samples: int) -> None:
        self.rng, self.draw, self.n_samples = rng, draw, n_samples
        self.written, self.since = random_numbers(rng), 0

    def order(self) -> NDArray[np.intp]:
        """The next epoch's order."""
        self.since += 1
        return self.draw(self.rng)

    def mark(self) -> tuple[dict[str, Any], int]:
        """The present state, for `numbers`."""
        known = self.written.get("bit_generator") in BIT_GENERATORS
        if self.since and (self.since * self.n_samples > self.ROWS or not known):
            self.written, self.since = random_numbers(self.rng), 0
        return self.written, self.since

    def numbers(self, mark: tuple[dict[str, Any], int]) -> dict[str, Any]:
        """The state that was marked."""
        written, draws = mark
        if written is self.written and draws == self.since:
            return random_numbers(self.rng)
        rng = generator({"run": {"random": written}}) if draws else None
        if rng is None:
            return written
        for _ in range(draws):
            self.draw(rng)
        return random_numbers(rng)


def generator(state: dict[str, Any] | None) -> np.random.RandomState | np.random.Generator | None:
    """A source of random numbers that goes on where a resumable state's left off; None if it is of an unknown kind."""
    found = None if state is None else state["run"].get("random")
    try:
        assert found is not None
        numbers_ = dict(found)
        kind, name = numbers_.pop("kind"), numbers_["bit_generator"]
        place = numbers_["state"].get("pos", 0) if name == "MT19937" else numbers_.get("buffer_pos", 0)
        if not 0 <= place <= BIT_GENERATORS[name]:
            return None
        bits = getattr(np.random, name)()
        if kind == "RandomState":
            rng = np.random.RandomState(bits)
            rng.set_state(numbers_)
            return rng
        bits.state = numbers_
        return np.random.Generator(bits)
    except (AssertionError, KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError):
        return None
