"""Stopping, history and the divergence guard: shared by all solvers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastopt.objective import Objective

__all__ = ["HISTORY", "Checks", "Monitor", "Reporter", "Result", "Row", "after", "history_of", "norm", "rounded"]

#: A measurement; what its numbers are called in a history.
Row = tuple[int, float, float, float, float]
HISTORY = ("epoch", "seconds", "objective", "grad_norm", "learning_rate")

#: What `stop_reason_` may be, and what it means.
STOP_REASONS = {
    "tol": "the norm of F's gradient over all the data is at most tol",
    "max_iter": "max_iter was reached first",
    "diverged": "F grew or was not finite however small the learning rate; the best parameters seen were kept",
    "stalled": "the solver can make no progress at this precision; the gradient's norm is above tol",
    "interrupted": "Ctrl-C; the parameters are those of the last whole epoch",
}

#: Rows of the sample that stands for all in an estimate.
SAMPLE = 1024
#: Differences of F below this part of it are rounding.
ROUNDING = 1e-13


@dataclass
class Result:
    """What a solver returns.

    Attributes
    ----------
    w : ndarray (n_features + fit_intercept, n_outputs), X's dtype
    n_iter : int
        Epochs, or the iterations of a full-batch method.
    objective, grad_norm : float
        F and the Euclidean norm of its gradient at w, over all the data.
    stop_reason : str
        A key of `STOP_REASONS`.
    history : dict of arrays
        Those of `HISTORY`, with one element per check. A norm that was not measured is NaN (`Monitor.begin`).
    state : dict
        The optimizer's state after the last step.
    """

    w: NDArray[Any]
    n_iter: int
    objective: float
    grad_norm: float
    stop_reason: str
    history: dict[str, NDArray[Any]]
    state: dict[str, Any] = field(default_factory=dict)

    @property
    def converged(self) -> bool:
        """Whether the gradient's norm was measured to be at most tol."""
        return self.stop_reason == "tol"


def history_of(rows: Sequence[Row]) -> dict[str, NDArray[Any]]:
    """Measurements as an array for each name of `HISTORY`."""
    columns = np.array(rows, dtype=np.float64).reshape(-1, len(HISTORY)).T
    return dict(zip(HISTORY, columns, strict=True)) | {"epoch": columns[0].astype(np.int64)}


def after(first: Result, second: Result) -> Result:
    """The result of two solvers, the second of which began where the first had ended: its own parameters, as it ended.

    Its first measurement is the first one's last, or was to be: the history has it once.
    """
    seconds = first.history["seconds"]  # of a checkpoint there may be none
    shifts = {"epoch": first.n_iter, "seconds": seconds[-1] if len(seconds) else 0}
    history = {
        key: np.concatenate([column, second.history[key][1:] + shifts.get(key, 0)])
        for key, column in first.history.items()
        if key in second.history
    }
    return replace(second, n_iter=first.n_iter + second.n_iter, history=history)


class Reporter:
    """Tells how a fit goes on.

    Parameters
    ----------
    verbose : int
        1 prints a line per epoch; 2 shows a progress bar, if tqdm is installed, else the lines.
    total : int or None
        Epochs at most, for the bar.
    on_epoch : callable or None
        ``on_epoch(epoch, w)``, after each epoch and, with 0, before the first; w is None where a solver has none to
        show, and is not to be kept.
    printer : callable
        Takes the lines.
    """

    def __init__(
        self, verbose: int = 0, *, total: int | None = None,
        on_epoch: Callable[[int, NDArray[Any] | None], None] | None = None, printer: Callable[[str], None] = print,
    ) -> None:  # fmt: skip
        self.verbose, self.on_epoch, self.printer = verbose, on_epoch, printer
        self.before = 0  # epochs of the fit that this one goes on from
        self._bar = _progress_bar(total) if verbose >= 2 else None

    @property
    def watched(self) -> bool:
        """Whether there is anything to tell after an epoch."""
        return bool(self.verbose) or self.on_epoch is not None

    def epoch(self, epoch: int, text: str, w: NDArray[Any] | None = None) -> None:
        """After an epoch: what there is to say, and the parameters."""
        epoch -= self.before
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update(epoch - self._bar.n)
        elif self.verbose:
            self.printer(f"epoch {epoch:4d}  {text}")
        if self.on_epoch is not None:
            try:
                self.on_epoch(epoch, w)
            except StopIteration as error:  # which scipy's L-BFGS-B would take for an end, and no other solver
                raise RuntimeError("A callback raised StopIteration.") from error

    def close(self) -> None:
        """The bar's last state stays on the screen."""
        if self._bar is not None:
            self._bar.close()


def _progress_bar(total: int | None) -> Any:
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return None
    return tqdm(total=total, unit="epoch")


def norm(gradient: NDArray[np.float64]) -> float:
    """Euclidean norm; infinite, without a warning, where its square is."""
    return math.sqrt(np.vdot(gradient, gradient))  # np.linalg.norm's way, a fifth of its time on few numbers


def rounded(w: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """w in this type; infinite, without a warning, where it is too large for it."""
    with np.errstate(over="ignore"):
        return w.astype(dtype)


class Monitor:
    """Measures F and its gradient over all the data, keeps the history, and says when to stop.

    Parameters
    ----------
    objective : Objective
    tol : float
        Largest Euclidean norm of F's gradient that counts as converged.
    verbose : int or Reporter
        Who is told of each check.
    """

    def __init__(self, objective: Objective, tol: float, verbose: int | Reporter = 0) -> None:
        self.objective, self.tol = objective, tol
        self.reporter = verbose if isinstance(verbose, Reporter) else Reporter(verbose)
        self.rows: list[Row] = []
        self.start = time.perf_counter()

    def go_on(self, rows: NDArray[np.float64]) -> None:
        """The measurements of a run that this one goes on from."""
        self.rows = [(int(row[0]), *row[1:]) for row in rows.tolist()]
        self.start -= self.rows[-1][1]

    def begin(self, w: NDArray[Any]) -> float:
        """Takes down the start; returns the gradient's norm there.

        From w = 0 on many rows F needs no look at X, and its gradient no pass: the norm is estimated on a sample then,
        and NaN in the history.
        """
        objective = self.objective
        if objective.n_samples < 4 * SAMPLE or np.any(w):
            self.check(w, 0)
            return self.grad_norm
        self.record(objective.value_at_zero(), math.nan, 0, w=w)
        return norm(objective.sample(SAMPLE).gradient(w))

    def check(self, w: NDArray[Any], epoch: int, learning_rate: float = math.nan) -> bool:
        """Measures at w after `epoch` epochs; True if converged."""
        value, gradient = self.objective.value_and_gradient(w)
        return self.record(value, norm(gradient), epoch, learning_rate, w)

    def record(
        self, value: float, grad_norm: float, epoch: int, learning_rate: float = math.nan,
        w: NDArray[Any] | None = None,
    ) -> bool:  # fmt: skip
        """Takes a measurement made elsewhere, at w; True if converged."""
        seconds = time.perf_counter() - self.start
        self.rows.append((epoch, seconds, value, grad_norm, learning_rate))
        text = ""
        if self.reporter.verbose:
            rate = "" if math.isnan(learning_rate) else f"  learning rate {learning_rate:.3g}"
            size = "" if math.isnan(grad_norm) else f"  |gradient| {grad_norm:.3g}"
            text = f"{seconds:8.2f} s  F {value:.8g}{size}{rate}"
        self.reporter.epoch(epoch, text, w)
        return grad_norm <= self.tol

    def forget_last(self) -> None:
        """Takes the last measurement back: its epoch was undone."""
        self.rows.pop()

    @property
    def value(self) -> float:
        """F at the last check."""
        return self.rows[-1][2]

    @property
    def grad_norm(self) -> float:
        """The gradient's norm at the last check."""
        return self.rows[-1][3]

    def rounded_result(self, w: NDArray[np.float64], n_iter: int, stop_reason: str) -> Result:
        """The result at w rounded to X's type, measured there; w itself where that costs convergence or overflows."""
        result = self.result(w.reshape(self.objective.shape), n_iter, stop_reason)
        single = rounded(result.w, self.objective.design.dtype)
        if single.dtype == w.dtype:
            return replace(result, w=single)
        if not np.isfinite(single).all():
            return result
        value, gradient = self.objective.value_and_gradient(single)
        size = norm(gradient)
        if stop_reason == "tol" and not size <= self.tol:
            return result
        result.history["objective"][-1], result.history["grad_norm"][-1] = value, size
        return replace(result, w=single, objective=value, grad_norm=size)

    def result(
        self, w: NDArray[Any], n_iter: int, stop_reason: str, state: dict[str, Any] | None = None,
        rows: list[Row] | None = None,
    ) -> Result:  # fmt: skip
        """The solver's result, F and the gradient's norm being those of the last check, or of the last of `rows`."""
        rows = self.rows if rows is None else rows
        return Result(w, n_iter, rows[-1][2], rows[-1][3], stop_reason, history_of(rows), state or {})


class Checks:
    """When a solver whose epochs estimate the gradient's norm should measure it over all the data.

    At epochs 4, 8, 16, ..., and whenever the estimate, corrected by what the last measurement found it to be off by,
    is at most tol: only a measurement can end a fit.

    Parameters
    ----------
    tol : float
    start : float
        The gradient's norm before the first step, or about that.
    most : float, default infinity
        Epochs beyond which the solver is to stop (`stalled`) as soon as measurements foretell that it will need them.
    """

    #: Measurements in a row, each twice as many epochs on, that do not lower a norm that has already fallen a
    #: thousandfold: rounding is all that is left.
    PATIENCE = 3
    #: How much more than `most` has to be foretold, since norms do not fall evenly.
    DOUBT = 1.5

    def __init__(self, tol: float, start: float, most: float = math.inf) -> None:
        self.tol, self.start, self.next, self.factor, self.least, self.vain = tol, start, 4, 1.0, math.inf, 0
        self.most, self.foretold, self.last, self.last_norm = most, 0.0, 0, math.inf

    def wanted(self, epoch: int, estimate: float) -> bool:
        """Whether to measure after this epoch."""
        return epoch >= self.next or not math.isfinite(estimate) or self.factor * estimate <= self.tol

    def measured(self, epoch: int, estimate: float, grad_norm: float) -> None:
        """Takes a measurement, to correct later estimates by."""
        if estimate > 0 and math.isfinite(grad_norm):
            self.factor = grad_norm / estimate
        if epoch >= self.next:
            self.next = 2 * epoch
            self.vain = self.vain + 1 if grad_norm > 0.7 * self.least else 0
            self.least = min(self.least, grad_norm)
        if epoch >= self.last + 4 and self.tol > 0 and math.isfinite(grad_norm):
            if self.last and grad_norm > self.tol:  # as if it went on to fall as it has since the last measurement
                fall = math.log(self.last_norm / grad_norm) / (epoch - self.last)
                self.foretold = epoch + math.log(grad_norm / self.tol) / fall if fall > 0 else math.inf
            self.last, self.last_norm = epoch, grad_norm

    @property
    def stalled(self) -> bool:
        """Whether measurements ever further apart have stopped to fall, or fall too slowly for `most` epochs."""
        ended = self.vain >= self.PATIENCE and self.least < 1e-3 * self.start
        return ended or self.foretold > self.DOUBT * self.most
