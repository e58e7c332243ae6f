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
    monitor, most = Monitor(objective, tol, verbose), float(max_iter) if foretell else math.inf
    epochs = SagaEpochs(objective)
    rows = objective.shape[0]

    def solution() -> NDArray[Any]:
        return np.array(epochs.w[:rows])

    def run() -> dict[str, Any]:
        return {
            "solver": "saga", "epoch": done, "rows": np.array(monitor.rows), "cells": copied(epochs.cells),
            "table": copied(epochs.table), "checks": dict(vars(checks)), "start": start, "best": best,
            "best_at": monitor.rows.index(best_row), "scale": scale, "failures": failures, "warm": warm,
        }  # fmt: skip

    def rate_at(epoch: int) -> float:
        return scale * RAMP[min(epoch, len(RAMP) - 1)]

    def is_sound(value: float) -> bool:
        return bool(np.isfinite(value) and value <= start * (1 + 1e-12))

    def back_to_best() -> None:
        epochs.w[:rows] = best
        epochs.renew()

    def so_far() -> Result:
        result = monitor.result(best, best_row[0], reason)
        return replace(result, objective=best_row[2], grad_norm=best_row[3])

    reason, done, scale, failures, course = "max_iter", 0, 1.0, 0, course or Course()
    like = {
        "cells": epochs.cells, "table": epochs.table, "checks": vars(Checks(tol, 0.0)), "start": 0.0,
        "best": solution(), "best_at": 0, "scale": 0.0, "failures": 0, "warm": True,
    }  # fmt: skip
    before = course.taken_up("saga", like)
    if before is not None and before["best_at"] < len(before["rows"]):
        monitor.go_on(before["rows"])
        epochs.cells[...], epochs.table[:], done = before["cells"], before["table"], before["epoch"]
        warm, scale, failures = before["warm"], before["scale"], before["failures"]
        checks = Checks(tol, 0.0)
        vars(checks).update(before["checks"], tol=tol, most=most)
        start, best, best_row = before["start"], before["best"], monitor.rows[before["best_at"]]
    else:
        epochs.w[:rows] = np.asarray(w).reshape(objective.shape)
        warm = bool(epochs.w.any())
        if warm:
            monitor.record(*epochs.renew(), 0, w=solution())
            start_norm = monitor.grad_norm
        else:  # a table and an average of zeros fit each other: the first epoch needs no more
            start_norm = monitor.begin(solution())
        if not objective.design.column_counts.all():
            epochs.w[:-1][objective.design.column_counts == 0] = 0  # never touched: its minimiser is zero
        checks = Checks(tol, start_norm, most)
        start, best, best_row = monitor.value, solution(), monitor.rows[-1]
    if monitor.grad_norm <= tol:
        reason = "tol"
    elif before is not None and checks.stalled:
        reason = "stalled"
    try:
        while reason == "max_iter" and done < max_iter:
            epochs.use(rate_at(done))
            with np.errstate(over="ignore", invalid="ignore"):
                estimate = epochs.run(epoch_order(rng, objective.design), pull=warm or done > 0)
                done += 1
                wanted = checks.wanted(done, estimate)
                if wanted:
                    value, size = epochs.renew()
            if wanted and not is_sound(value):
                failures, scale, done = failures + 1, scale / 4, done - 1 if done < max_iter else done
                back_to_best()
                warm = True
                reason = "diverged" if failures > RETRIES else reason
                continue
            if wanted:
                failures = 0
                converged = monitor.record(value, size, done, rate_at(done - 1), solution())
                checks.measured(done, estimate, size)
                if value <= best_row[2]:
                    best, best_row = solution(), monitor.rows[-1]
                elif value > best_row[2] + 1e-12 * abs(start):  # by more than F's rounding
                    scale /= 2
                reason = "tol" if converged else "stalled" if checks.stalled else reason
            course.keep(run, so_far, last=reason != "max_iter" or done == max_iter)
        if reason == "max_iter" and monitor.rows[-1][0] < done:  # nothing follows: this renews the table
            with np.errstate(over="ignore", invalid="ignore"):
                value, size = epochs.renew()
            if not is_sound(value):
                back_to_best()
            elif monitor.record(value, size, done, rate_at(done - 1), solution()):
                reason = "tol"
    except KeyboardInterrupt:
        reason, done = "interrupted", best_row[0]
        epochs.w[:rows] = best
        del monitor.rows[1 + monitor.rows.index(best_row) :]
    if reason in ("max_iter", "diverged", "stalled") and monitor.value > best_row[2]:
        epochs.w[:rows] = best
        monitor.rows.append(best_row)
    return monitor.result(solution(), done, reason)
