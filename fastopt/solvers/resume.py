"""What a run of epochs leaves behind so that another one goes on as if there had been no break.

A resumable state is a plain dict: the update rule's own state (t, its slots and scalars) and, under "run", all else
that epochs hand on to each other. It holds arrays, numbers, strings, None, and lists and dicts of these.
"""

from __future__ import annotations

import math
import sys
import zlib
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastopt.objective import Objective
from fastopt.optimizers import Optimizer
from fastopt.schedules import Schedule

__all__ = ["Run", "fitting", "generator", "random_numbers", "settings"]

#: A measurement: epoch, seconds, F, the gradient's norm, the learning rate.
Row = tuple[int, float, float, float, float]

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
        Epochs in a row, up to the last one, without a new lowest F.
    fresh : bool
        No epoch has been run.
    rising : bool
        The automatic rate may still be raised.
    at, length : int
        The place in the automatic rate's cycle, and its epochs.
    cycle_start : float
        The lowest F when the cycle began.
    """

    settings: str
    learning_rate: float | None
    start: float
    row: Row
    best: NDArray[Any]
    best_row: Row
    scale: float = 1.0
    rises: int = 0
    fresh: bool = True
    rising: bool = True
    at: int = 0
    length: int = 1
    cycle_start: float = math.inf

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
        return cls(
            run["settings"], run["learning_rate"], run["start"], row, np.array(best), best_row, run["scale"],
            run["rises"], run["fresh"], run["rising"], run["at"], run["length"], run["cycle_start"],
        )  # fmt: skip


def settings(optimizer: Optimizer, batch_size: int) -> str:
    """What must be the same for the learning rate's course to go on; a callable counts by its name."""
    rate = optimizer.learning_rate
    if callable(rate) and not isinstance(rate, Schedule):
        rate = f"{rate.__module__}.{getattr(rate, '__qualname__', type(rate).__qualname__)}"
    return f"{optimizer.with_learning_rate('auto')!r}, {rate!r}, {batch_size}"


def fitting(
    state: dict[str, Any] | None, objective: Objective, optimizer: Optimizer, w: NDArray[Any]
) -> dict[str, Any] | None:
    """The state if it is one of this rule, for parameters of this shape and dtype, and was returned beside w."""
    if not isinstance(state, dict) or not isinstance(state.get("run"), dict):
        return None
    run, shape, dtype = state["run"], objective.shape, objective.design.dtype

    def like_w(a: Any) -> bool:
        return isinstance(a, np.ndarray) and a.shape == shape and a.dtype == dtype

    def rows(*names: str) -> bool:
        return all(len(run[name]) == 5 and all(map(_is_number, run[name])) for name in names)

    try:
        fits = (
            run["settings"].startswith(type(optimizer).__name__ + "(")
            and run["returned"] == checksum(w)
            and all(like_w(state[slot]) for slot in optimizer._arrays)
            and all(_is_number(state[key]) for key in optimizer._scalars())
            and like_w(run["w"])
            and (run["best"] is None or like_w(run["best"]))
            and (run["learning_rate"] is None or _is_number(run["learning_rate"]))
            and all(isinstance(n, int) and 0 <= n < 2**53 for n in (state["t"], run["rises"], run["at"], run["length"]))
            and run["at"] < run["length"]
            and all(isinstance(run[key], bool) for key in ("fresh", "rising"))
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
