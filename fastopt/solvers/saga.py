"""SAGA: linear convergence with the gradients of single rows, for L1, L2, both or neither."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastopt._design import WORK
from fastopt._kernels import saga as kernel
from fastopt._kernels import saga_softmax
from fastopt._memory import copied
from fastopt._order import ahead, epoch_order
from fastopt.objective import Objective
from fastopt.solvers.monitor import Checks, Monitor, Reporter, Result, norm
from fastopt.solvers.one_hot import OneHot
from fastopt.solvers.resume import Course

__all__ = ["saga"]

Float64 = NDArray[np.float64]

#: Step sizes of epochs 1, 2, ... in units of 1 / L; the last one goes on. The first epoch has no average gradient to
#: take the noise out of its steps, and the second one an old one.
RAMP = (0.1, 0.33, 0.5, 1.0)
#: How much longer steps are with softmax, whose curvature's bound only rows between two classes reach. Of 1, 2, 3 and 4
#: the longest of which no fit of ten rose; two to three times fewer epochs than with 1.
SOFTMAX = 2.0
#: Measurements in a row above the start before a fit is called diverged.
RETRIES = 8


class SagaEpochs:
    """Epochs of SAGA on an Objective with a smooth loss, of one output or softmax's.

    Parameters
    ----------
    objective : Objective

    Attributes
    ----------
    w : ndarray, X's dtype, (n_features + 1, n_outputs)
        A view; the intercepts last.
    average : ndarray, X's dtype, (n_features + 1, n_outputs)
        A view: the mean over rows of slope times row.
    table : ndarray, X's dtype, (n_samples, n_outputs)
        Each row's last slopes s_i dloss_i.

    Notes
    -----
    Column j's step size is ``gamma P_j``, ``P_j = (v_j / mean v + 1e-4)^-1/2`` and v_j the column's mean square: half
    the way from one rate for all columns to columns scaled to unit length. After an epoch one-hot groups are centred
    (`OneHot`): on 327,346 rows of eleven categories a gap of 1e-6 takes 9 epochs in place of more than 30.
    """

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        if not objective.design.settled:
            _ = objective.design.column_squares  # which are needed, and whose pass checks the entries
        self.design = objective.design if objective.design.distinct else objective.design.merged()
        n, d, K = objective.n_samples, objective.n_features, objective.n_outputs
        dtype = self.design.dtype
        sparse = self.design.sparse
        self.table: NDArray[Any] = np.zeros((n, K), dtype)
        self.cells: NDArray[Any]
        self._state: tuple[NDArray[Any], ...]
        self._calls: tuple[Callable[..., None], Callable[..., float]]
        if K == 1:
            self.cells = np.zeros((d + 1, 4) if sparse else (4, d + 1), dtype)
            w, average, self._step, self._full_step = self.cells.T if sparse else self.cells
            self.w, self.average = w[:, None], average[:, None]
            self._state = self.cells, self.table[:, 0]
        else:
            width = saga_softmax.width(K, dtype.itemsize)
            self.cells = np.zeros((2, d + 1, width), dtype)
            self.w, self.average = self.cells[:, :, :K]
            steps = np.zeros((d + 1, 2), dtype)
            self._step, self._full_step = steps.T
            self._state = self.cells, steps, self.table, np.zeros((3, width), dtype)
        calls: Any = kernel if K == 1 else saga_softmax
        self._calls = (calls.sparse, calls.sparse_renew) if sparse else (calls.dense, calls.dense_renew)
        self._kernel = kernel.Saga(
            objective.kernel_loss, objective.loss.parameter, objective.l1, objective.l2, objective.y,
            objective.weights,
        )  # fmt: skip
        self._scale, self._smoothness = self._scaling()
        self._groups = OneHot.of(objective)
        counts = self.design.column_counts
        self._inverse_share = np.append(n / np.maximum(counts, 1), 1.0)

    def _scaling(self) -> tuple[Float64, float]:
        """P, and L: the mean over rows of the largest curvature, ``c sum_j P_j x_ij^2``, less where that pays."""
        most = 1e300 / self.design.shape[1]  # squares of large values overflow; their sum must not
        squares = np.minimum(self.design.column_squares / self.objective.n_samples, most)
        relative = np.append(squares, 1.0) / max(float(squares.sum()), 1e-300)
        scale = (relative + 1e-4) ** -0.5
        if not self.objective.fit_intercept:
            scale[-1] = 0.0
        smoothness = self.objective.loss.max_curvature * float(squares @ scale[:-1] + scale[-1])
        smoothness /= SOFTMAX if self.objective.n_outputs > 1 else 1.0
        return scale, max(smoothness, 1e-300)

    def use(self, rate: float) -> None:
        """Step sizes of `rate` / L; columns wait for their share of rows, the L2 part is implicit (B l2 < 1)."""
        l2 = np.full(len(self._scale), self.objective.l2)
        l2[-1] = 0.0
        most = 0.1 * float(np.finfo(self._step.dtype).max)  # a column of zeros may ask for more, and has no use for it
        with np.errstate(over="ignore"):
            step = rate / self._smoothness * self._scale
            step = step / (1 + l2 * self._inverse_share * step)
            self._step[:] = np.minimum(step, most)
            self._full_step[:] = np.minimum(step * self._inverse_share, most)

    def run(self, order: NDArray[np.intp], *, pull: bool = True) -> float:
        """Steps with the rows in this order; an estimate of the gradient's norm: the average's, slopes being old."""
        self._kernel.pull = float(pull)
        call, n = self._calls[0], len(order)
        at_once = max(1, int(WORK * n / (max(self.design.n_stored, n) * self.objective.n_outputs)))
        for start in ahead(self.design, order, range(0, n, at_once)):
            end = min(start + at_once, n)
            call(self._kernel, *self.design.arrays, *self._state, order, start, end)
        if self._groups is not None:  # no prediction moves: the table remains what it is
            self._groups.center(self.w)
        return norm(self._gradient(self.average.astype(np.float64)))

    def renew(self) -> tuple[float, float]:
        """F and its gradient's norm at w, over all the data: every slope and their average are new afterwards."""
        call, K, total = self._calls[1], self.objective.n_outputs, 0.0
        w, g = np.zeros((2, len(self.w), saga_softmax.width(K, 8) if K > 1 else 1))
        w[:, :K] = self.w
        arrays = (w[:, 0], g[:, 0], self.table[:, 0]) if K == 1 else (w, g, self.table, np.zeros(w.shape[1]))
        for start, stop in self.design.pieces(K):
            total += call(self._kernel, *self.design.arrays, *arrays, start, stop)
        w, g = w[:, :K], g[:, :K] / self.objective.n_samples
        self.average[:] = g
        value = total / self.objective.n_samples + self.objective.penalty.value(w[:-1])
        return value, norm(self._gradient(g))

    def _gradient(self, g: Float64) -> Float64:
        """F's subgradient of least norm, from the losses' gradient."""
        w = self.w[:-1].astype(np.float64)
        if not self.objective.fit_intercept:
            g[-1] = 0.0
        g[:-1] += self.objective.l2 * w
        if self.objective.l1:
            g[:-1] = self.objective.penalty.subgradient(w, g[:-1])
        return g


class _Descent:
    """A run of `saga`: its epochs, what was measured of them, and the best of that."""

    def __init__(self, objective: Objective, monitor: Monitor, most: float) -> None:
        self.objective, self.monitor, self.most = objective, monitor, most
        self.epochs = SagaEpochs(objective)
        self.checks = Checks(monitor.tol, 0.0, most)
        self.done, self.reason, self.scale, self.failures = 0, "max_iter", 1.0, 0
        #: Whether the table is of some w already: the first epoch fills it otherwise.
        self.warm = False
        #: F at the start; the best parameters that were measured, and their place among all.
        self.start, self.best, self.best_at = 0.0, self.solution(), 0

    def solution(self) -> NDArray[Any]:
        """A copy of w."""
        return np.array(self.epochs.w[: self.objective.shape[0]])

    def begin(self, w: NDArray[Any]) -> None:
        """The start, and its measurement."""
        epochs, monitor, counts = self.epochs, self.monitor, self.objective.design.column_counts
        epochs.w[: self.objective.shape[0]] = np.asarray(w).reshape(self.objective.shape)
        self.warm = bool(epochs.w.any())
        if self.warm:
            monitor.record(*epochs.renew(), 0, w=self.solution())
            start_norm = monitor.grad_norm
        else:  # a table and an average of zeros fit each other: the first epoch needs no more
            start_norm = monitor.begin(self.solution())
        if not counts.all():
            epochs.w[:-1][counts == 0] = 0  # never touched: its minimiser is zero
        self.checks = Checks(monitor.tol, start_norm, self.most)
        self.start, self.best = monitor.value, self.solution()

    def as_dict(self) -> dict[str, Any]:
        """All that `take_up` needs, copied."""
        return {
            "solver": "saga", "epoch": self.done, "rows": np.array(self.monitor.rows),
            "cells": copied(self.epochs.cells), "table": copied(self.epochs.table), "checks": dict(vars(self.checks)),
            "start": self.start, "best": self.best, "best_at": self.best_at, "scale": self.scale,
            "failures": self.failures, "warm": self.warm,
        }  # fmt: skip

    def take_up(self, course: Course) -> bool:
        """Goes on where the course has left off, if that fits this problem."""
        like = {
            "cells": self.epochs.cells, "table": self.epochs.table, "checks": vars(self.checks), "start": 0.0,
            "best": self.best, "best_at": 0, "scale": 0.0, "failures": 0, "warm": True,
        }  # fmt: skip
        before = course.taken_up("saga", like)
        if before is None or before["best_at"] >= len(before["rows"]):
            return False
        self.monitor.go_on(before["rows"])
        self.epochs.cells[...], self.epochs.table[:], self.done = before["cells"], before["table"], before["epoch"]
        self.warm, self.scale, self.failures = before["warm"], before["scale"], before["failures"]
        vars(self.checks).update(before["checks"], tol=self.monitor.tol, most=self.most)
        self.start, self.best, self.best_at = before["start"], before["best"], before["best_at"]
        return True

    def _rate(self, epoch: int) -> float:
        return self.scale * RAMP[min(epoch, len(RAMP) - 1)]

    def epoch(self, rng: np.random.RandomState | np.random.Generator) -> float:
        """An epoch in a new order; returns its estimate of the gradient's norm."""
        self.epochs.use(self._rate(self.done))
        with np.errstate(over="ignore", invalid="ignore"):
            estimate = self.epochs.run(epoch_order(rng, self.objective.design), pull=self.warm or self.done > 0)
        self.done += 1
        return estimate

    def measure(self) -> bool:
        """Measures after an epoch, which renews the table; False where F is above its start or not finite."""
        with np.errstate(over="ignore", invalid="ignore"):
            value, size = self.epochs.renew()
        if not (np.isfinite(value) and value <= self.start * (1 + 1e-12)):
            return False
        self.failures, lowest = 0, self.monitor.rows[self.best_at][2]
        if self.monitor.record(value, size, self.done, self._rate(self.done - 1), self.solution()):
            self.reason = "tol"
        if value <= lowest:
            self.best, self.best_at = self.solution(), len(self.monitor.rows) - 1
        elif value > lowest + 1e-12 * abs(self.start):  # by more than F's rounding
            self.scale /= 2
        return True

    def back_to_best(self) -> None:
        """The best parameters go on, with slopes that are new."""
        self.epochs.w[: self.objective.shape[0]] = self.best
        self.epochs.renew()
        self.warm = True

    def undo(self, *, last: bool) -> None:
        """After a measurement that was not sound: back to the best, with a quarter of the step; the epoch does not
        count, unless it was the last."""
        self.failures, self.scale = self.failures + 1, self.scale / 4
        self.done -= not last
        self.back_to_best()
        if self.failures > RETRIES:
            self.reason = "diverged"

    def so_far(self) -> Result:
        """What was measured best."""
        epoch, _, value, size, _ = self.monitor.rows[self.best_at]
        return replace(self.monitor.result(self.best, epoch, self.reason), objective=value, grad_norm=size)

    def result(self) -> Result:
        """What was measured last; or what was measured best, after Ctrl-C and where F has risen at the end."""
        monitor, best_row = self.monitor, self.monitor.rows[self.best_at]
        if self.reason == "interrupted":
            del monitor.rows[1 + self.best_at :]
            return monitor.result(self.best.copy(), best_row[0], self.reason)
        if self.reason != "tol" and monitor.value > best_row[2]:
            monitor.rows.append(best_row)
            return monitor.result(self.best.copy(), self.done, self.reason)
        return monitor.result(self.solution(), self.done, self.reason)


def saga(
    objective: Objective, w: NDArray[Any], *, tol: float, max_iter: int,
    rng: np.random.RandomState | np.random.Generator, verbose: int | Reporter = 0, course: Course | None = None,
    foretell: bool = False,
) -> Result:  # fmt: skip
    """Minimises F from w by SAGA until the (sub)gradient's norm over all the data is at most tol.

    The first epoch is plain SGD's and fills the table. The average gradient estimates the gradient's norm for
    nothing; all the data are gone through only when it says converged, and at epochs 4, 8, 16, ... (`Checks`). That
    pass is not lost: it renews the table. With `foretell` it is "stalled" as soon as these measurements say that
    max_iter epochs are far from enough. Where F has risen since the last measurement the step is halved; where it is
    above its start or not finite, the best parameters go on with a quarter of the step.

    References
    ----------
    Defazio, Bach, Lacoste-Julien, "SAGA: a fast incremental gradient method with support for non-strongly convex
    composite objectives", NIPS 2014, eq. (1). Leblond, Pedregosa, Lacoste-Julien, "ASAGA: asynchronous parallel SAGA",
    AISTATS 2017, eq. (4) (sparse steps). Pedregosa, Leblond, Lacoste-Julien, "Breaking the nonsmooth barrier", NIPS
    2017, section 2 (the sparse proximal step).
    """
    monitor, course = Monitor(objective, tol, verbose), course or Course()
    run = _Descent(objective, monitor, float(max_iter) if foretell else math.inf)
    resumed = run.take_up(course)
    if not resumed:
        run.begin(w)
    if monitor.grad_norm <= tol:
        run.reason = "tol"
    elif resumed and run.checks.stalled:
        run.reason = "stalled"
    try:
        while run.reason == "max_iter" and run.done < max_iter:
            estimate = run.epoch(rng)
            if run.checks.wanted(run.done, estimate):
                if not run.measure():
                    run.undo(last=run.done == max_iter)
                    continue
                run.checks.measured(run.done, estimate, monitor.grad_norm)
                if run.reason != "tol" and run.checks.stalled:
                    run.reason = "stalled"
            course.keep(run.as_dict, run.so_far, last=run.reason != "max_iter" or run.done == max_iter)
        if run.reason == "max_iter" and monitor.rows[-1][0] < run.done and not run.measure():  # nothing follows
            run.back_to_best()
    except KeyboardInterrupt:
        run.reason = "interrupted"
    return run.result()
