"""Dual coordinate descent: linear convergence at the price of plain SGD, for L2."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastopt._design import WORK
from fastopt._kernels import dual, dual_softmax
from fastopt._memory import copied, lines
from fastopt._order import ahead, epoch_order
from fastopt._parallel import in_order
from fastopt._validation import fail
from fastopt.objective import Objective
from fastopt.solvers.monitor import ROUNDING, Checks, Monitor, Reporter, Result, norm, rounded
from fastopt.solvers.resume import Course, put_back, random_numbers

__all__ = ["sdca"]

Float64 = NDArray[np.float64]

#: Losses whose dual problem in one row's variables the kernels solve.
LOSSES = (*dual.LOSSES, "multinomial")
#: Rows whose probabilities are worked on together: they stay in the second-level cache.
ROWS = 2048
#: Under `n_jobs` an epoch goes through two halves of the rows side by side if it has so many entries, of all outputs,
#: which take a millisecond or more, and if ``mean_i s_i ||x_i||^2 / (l2 n)`` is at most `SHORT`.
HALVED, SHORT = 1 << 19, 1.05


class DualEpochs:
    """Epochs of dual coordinate descent on an Objective.

    Parameters
    ----------
    objective : Objective
        With one output, a loss of `LOSSES` but the softmax, L2 > 0 and no L1.
    tol : float
        What the gradient's norm is to be brought to: intercepts are found to a thousandth of it.
    later : bool
        Whether X's entries, if nobody has checked them, are left to the first epoch, which begins at zero.
    halves : bool
        Whether an epoch may go through two halves of the rows side by side, where the objective's `n_jobs` asks for it.

    Attributes
    ----------
    w : ndarray of float64, (n_features + 1,)
        ``1 / (l2 n) sum_i s_i a_i x_i`` and the intercept, whatever X's dtype.
    state : ndarray of float64, (n_samples, 2)
        The dual variables as the kernel keeps them.
    center : float
        The intercept's last value at an epoch's end.
    estimate : float
        What the last epoch's steps say of the gradient's norm: intercepts found to a thousandth of it will do.

    Notes
    -----
    An intercept without penalty puts the constraint ``sum_i s_i a_i = 0`` on the dual. It is met by the method of
    multipliers, which in the primal is the proximal point method on b alone: an epoch works on
    ``F(w, b) + l2 / (2 c2) (b - center)^2``, which makes b a column of value sqrt(c2) like any other; then the center
    moves to b, and the minimum is F's own. c2 is 10,000 l2, so that the term is nothing against the curvature of F in
    b, but at most a tenth of the rows' mean square: of 100, 1,000 and 10,000, constant or growing, the best on text,
    one-hot and pixel data for alpha from 1/n to 1e-3. Measurements find the best b for their w (`best_intercept`), and
    the center goes there.

    If `n_jobs` is neither None nor 1, and the rows are many and short, the first half of the order is visited beside
    the second (`_walk`), each half from the same w and with rows that move it twice as far; w becomes the mean of both
    ends. This is CoCoA+ with two parts that are drawn anew for each epoch, gamma = 1 and sigma' = 2, under which the
    moves of both can be added (Ma et al. 2015, lemma 4). No bit depends on how many threads there are. Epochs to a
    gradient's norm of 1e-3 / 1e-4 / 1e-5, whole and halved, and ``mean_i s_i ||x_i||^2 / (l2 n)``:

    ==================  =====  ==========  ============
    data @ alpha        mean   whole       halved
    ==================  =====  ==========  ============
    text_like @ 1/n     1.00   2, 4, 5     2, 4, 6
    text_like @ 10/n    0.10   1, 2, 4     1, 2, 3
    langid @ 1/n        1.00   2, 4, 6     2, 4, 6
    langid @ 10/n       0.10   1, 3, 7     1, 3, 7
    flights @ 1e-3      0.03   2, 4, 5     2, 4, 5
    flights @ 10/n      1.10   4, 6, 8     5, 8, 10
    mushrooms @ 10/n    2.20   4, 7, 16    4, 7, 17
    pixel pairs @ 1e-3  62     13, 28, 47  25, 55, > 60
    ==================  =====  ==========  ============

    References
    ----------
    Ma, Smith, Jaggi, Jordan, Richtárik, Takáč, "Adding vs. averaging in distributed primal-dual optimization", ICML
    2015, algorithm 1.
    """

    def __init__(
        self, objective: Objective, tol: float = 1e-6, *, later: bool = False, halves: bool = True
    ) -> None:  # fmt: skip
        self.objective, self.tol, self._halves = objective, tol, halves
        self._begin(later)

    def _begin(self, later: bool) -> None:
        """Zeros, and what goes with them."""
        objective = self.objective
        self._prepare(later)
        self.w: Float64 = np.zeros(objective.n_features + 1)
        self.state: Float64 = np.zeros((objective.n_samples, 2))
        self.center = self.estimate = 0.0
        if objective.loss.name == "log_loss":
            self.state[:, 1] = -20.0  # the logit that goes with a = 0, as far as Newton's steps care
        if objective.fit_intercept:
            y, s = objective.y, objective.weights
            mean = float(np.average(y, weights=s if len(s) else None))
            self.w[-1] = self.center = first_intercept(objective, mean)
        self._kernel = self._made(self.unit)
        self._ways = self._made_ways()

    def _made(self, unit: float) -> Any:
        """The kernel's view of the problem, where a row moves w by so much for one of its dual variable."""
        objective = self.objective
        kind = dual.LOSSES[objective.loss.name]
        kernel = dual.Dual(kind, unit, objective.y, objective.weights, self.squares, self.state)
        kernel.c2 = self.c2
        return kernel

    def _made_ways(self) -> list[tuple[Any, Float64]]:
        """What each part of an epoch's order works with: a kernel, and w or another like it."""
        if not self.halved:
            return [(self._kernel, self.w)]
        other = lines(1, len(self.w), self.w.dtype)[0, : len(self.w)]
        return [(self._made(2 * self.unit), w) for w in (self.w, other)]

    def _prepare(self, later: bool) -> None:
        objective, design = self.objective, self.objective.design
        squares = design.row_norms_squared  # of values that may be infinite all entries are checked by now
        self.later = later and not design.settled and not design.mapped  # rows of a file are read ahead, unchecked
        self.design = design if self.later else design.merged()
        self.squares = squares if self.design is design else self.design.row_norms_squared
        self.unit = 1 / (objective.l2 * objective.n_samples)
        self.c2 = 0.0
        if objective.fit_intercept:
            with np.errstate(over="ignore"):
                self.c2 = intercept_square(objective, float(self.squares.mean()))
        many = design.n_stored * objective.n_outputs >= HALVED and not design.mapped  # a file is read in one order
        self.halved = self._halves and objective.n_jobs not in (None, 1) and many and self._rows_are_short()

    def _rows_are_short(self) -> bool:
        s: Any = self.objective.weights if len(self.objective.weights) else 1.0
        with np.errstate(over="ignore"):
            return float((self.squares * s).mean()) * self.unit <= SHORT

    def run(self, order: NDArray[np.intp]) -> float:
        """Visits the rows in this order, moves the center, and returns an estimate of the gradient's norm.

        Where rows are yet to be checked the order has all of them.

        Raises
        ------
        ValueError
            If one may not be followed.
        """
        moved = self._visit(order)
        if moved < 0:  # a row whose columns do not rise: whatever they are, the epoch begins anew
            self.objective.design.check()
            self._begin(later=False)
            moved = self._visit(order)
        self._move_center()
        self.estimate = self.objective.l2 * float(np.sqrt(moved))
        return self.estimate

    def _move_center(self) -> None:
        b = float(self.w[-1])  # center + c2 / (l2 n) sum_i s_i a_i, and so again from the new center
        self.w[-1], self.center = 2 * b - self.center, b

    def _visit(self, order: NDArray[np.intp]) -> float:
        return self._walk(dual.sparse if self.design.sparse else dual.dense, order, self.design.n_stored)

    def _walk(self, call: Callable[..., float], order: NDArray[np.intp], work: int) -> float:
        """The sum of what the kernel returns, piece by piece; negative if a row has failed its check."""
        moved, n, parts, design = 0.0, len(order), len(self._ways), self.design
        arrays = design.unchecked if self.later else design.arrays
        told = (self.later,) if design.sparse else ()
        at_once, length = max(1, int(WORK * n / max(work, n))), -(-n // parts)

        def visits(part: int, start: int) -> float:
            kernel, w = self._ways[part]
            first, end = part * length + start, min((part + 1) * length, n)
            return call(kernel, *arrays, w, order, first, min(first + at_once, end), *told)

        for _, w in self._ways[1:]:
            w[:] = self.w
        for start in ahead(design, order, range(0, length, at_once)):
            for sums in in_order(partial(visits, start=start), parts, self.objective.n_jobs):
                if sums < 0:
                    return sums
                moved += sums
        if parts > 1:
            with np.errstate(over="ignore", invalid="ignore"):  # what is not finite ends the fit
                self.w += self._ways[1][1]
                self.w *= 0.5
        if self.later:
            design.checked(True)
            self.later = False
        return moved / parts**2

    def _slopes(self, z: Float64) -> Float64:
        """Derivatives of the losses at z, without weights."""
        y, name = self.objective.y, self.objective.loss.name
        if name == "squared_error":
            return z - y
        if name == "log_loss":
            return np.asarray(-y / (1 + np.exp(np.clip(y * z, -700, 700))))
        inside = y * z < 1
        return -y * inside if name == "hinge" else -2.0 * (y - z) * inside

    def best_intercept(self, z: Float64) -> Any:
        """The b that minimises F for raw predictions z + b, by Newton's steps that never raise F's slope in b."""
        ones = np.ones_like(z)
        b = float(self.w[-1])
        finest = float(np.finfo(self.objective.design.dtype).eps) / 4  # in whose type b ends
        slope, curve = self.objective.along(z, ones, b)
        for _ in range(30):
            if abs(slope) <= 1e-3 * max(self.tol, self.estimate) or not curve > 0:
                break
            step = slope / curve
            if abs(step) <= finest * abs(b):
                break
            new, bend = self.objective.along(z, ones, b - step)
            if not abs(new) < abs(slope):
                break
            b, slope, curve = b - step, new, bend
        return b

    def recenter(self, b: float) -> None:
        """Counts the intercept's size from b from now on."""
        self.w[-1], self.center = b + float(self.w[-1]) - self.center, b

    def start_from(self, w: Float64) -> None:
        """Dual variables that fit w: the negative slopes there; w becomes what they stand for."""
        y, name = self.objective.y, self.objective.loss.name
        z = self.objective.raw_prediction(w[: self.objective.shape[0]])[:, 0]
        a = -self._slopes(z)
        self.state[:, 0] = a if name == "squared_error" else y * a
        self.state[:, 1] = -y * z
        weighted = a * self.objective.weights if len(self.objective.weights) else a
        self.w[:-1] = self.unit * self.design.transposed_product(weighted)
        if self.objective.fit_intercept:
            self.center = float(w[-1])
            self.w[-1] = self.center + self.c2 * self.unit * float(weighted.sum())

    def parameters(self) -> Float64:
        """W and the intercepts, (n_features + 1, n_outputs)."""
        return self.w.reshape(-1, 1)

    def dual_value(self) -> float:
        """A lower bound of F's minimum: the dual's value at a, made feasible."""
        total, moved = dual.bound(self._kernel, self.objective.fit_intercept)
        size = norm(self.w[:-1]) + moved * self.unit  # w moves by no more than the changed rows' lengths
        return -total / self.objective.n_samples - 0.5 * self.objective.l2 * size * size


def intercept_square(objective: Objective, mean_square: float) -> float:
    """c2, the square of the intercept's column, for rows of this mean square."""
    return min(1e4 * objective.l2, 0.1 * (mean_square or 1.0))


def first_intercept(objective: Objective, mean: float) -> float:
    """The best intercept of w = 0 for targets of this mean (near it for the hinge losses)."""
    if objective.loss.name != "log_loss":
        return mean
    return float(np.log1p(mean) - np.log1p(-mean)) if abs(mean) < 1 else 0.0


class SoftmaxEpochs(DualEpochs):
    """Epochs of dual coordinate descent for the softmax of K classes: K dual variables a row, a point of the simplex.

    Attributes
    ----------
    w : ndarray of float64, ((n_features + 1) * width,)
        ``W = 1 / (l2 n) sum_i s_i x_i (e_y - p_i)'`` and the intercepts, K and zeros for each feature.
    state : ndarray of float64, (n_samples, K)
        log p_i.
    center : ndarray of float64, (K,)
    estimate : float
        As of one output, but here a hundredth of it is enough for the intercepts.

    Notes
    -----
    As for one output; each class's intercept has its own constraint, ``sum_i s_i (e_y - p_i) = 0``. The intercepts' sum
    stays what it is at the start, since F does not depend on it.
    """

    center: Any  # (K,)

    def _begin(self, later: bool) -> None:
        objective = self.objective
        self._prepare(later)
        n, K = objective.n_samples, objective.n_outputs
        self.labels = objective.y.astype(np.intp)
        self.state = np.full((n, K), -1000.0)  # p = e_y, to which W = 0 belongs
        self.state[np.arange(n), self.labels] = 0.0
        s: Any = objective.weights if len(objective.weights) else None
        self.estimate = 0.0
        #: The weight of each class.
        self.masses = np.bincount(self.labels, weights=s, minlength=K).astype(np.float64)
        self._kernel: Any = self._made(self.unit)
        width = self._kernel.width
        size = (objective.n_features + 1) * width
        self.w = lines(1, size, np.dtype(np.float64))[0, :size]
        self.w[:] = 0
        self._table = self.w.reshape(-1, width)[:, :K]
        self.center = np.zeros(K)
        if objective.fit_intercept:
            b = np.log(np.maximum(self.masses, 1e-12 * n))
            self._table[-1] = self.center = b - b.mean()
        self._ways = self._made_ways()

    def _made(self, unit: float) -> Any:
        objective = self.objective
        room = np.zeros(dual_softmax.Softmax.room_for(objective.n_outputs))
        kernel = dual_softmax.Softmax(unit, objective.y, objective.weights, self.squares, self.state, room)
        kernel.c2 = self.c2
        return kernel

    def parameters(self) -> Float64:
        return self._table

    def _visit(self, order: NDArray[np.intp]) -> float:
        call = dual_softmax.sparse if self.design.sparse else dual_softmax.dense
        work = (self.design.n_stored + 40 * len(order)) * self._kernel.width  # a visit is as long as 40 entries, or so
        return self._walk(call, order, work)

    def _move_center(self) -> None:
        b = self._table[-1].copy()
        self._table[-1], self.center = 2 * b - self.center, b

    def _pieces(self) -> Any:
        """Slices of a few rows, and their weights."""
        s, n = self.objective.weights, self.objective.n_samples
        for start in range(0, n, ROWS):
            piece = slice(start, min(start + ROWS, n))
            yield piece, s[piece] if len(s) else np.ones(piece.stop - start)

    def best_intercept(self, z: Float64) -> Any:
        """The K intercepts b that minimise F for raw predictions z + b, by Newton's steps that lower F's slope in b."""
        n, K = z.shape
        b, best = self._table[-1].copy(), np.inf
        new = b
        for _ in range(30):
            held, products = np.zeros(K), np.zeros((K, K))
            dual_softmax.at_intercepts(self._kernel, z, new, held, products)
            slope = held - self.masses
            size = norm(slope) / n
            if not size < best:  # halfway
                new = 0.5 * (b + new)
                continue
            b, best = new, size
            if size <= max(1e-3 * self.tol, 1e-2 * self.estimate):
                break
            curve = -products - np.tril(products, -1).T
            np.fill_diagonal(curve, curve.diagonal() + held)
            # 1 1' may be added, since the slope's sum is zero: the Hessian is singular along 1.
            step = np.linalg.lstsq(curve + curve.trace() / K**2, -slope, rcond=1e-12)[0]
            new = b + step - step.mean()
        return b

    def recenter(self, b: Any) -> None:
        self._table[-1] += b - self.center
        self.center = np.array(b)

    def start_from(self, w: Float64) -> None:
        """Dual variables that fit w, the probabilities there; w becomes what they stand for."""
        F, K = self.objective, self.objective.n_outputs
        w = w.reshape(-1, K)
        z = F.raw_prediction(w[: F.shape[0]])
        slopes = np.empty_like(z)
        for piece, s in self._pieces():
            top = z[piece] - z[piece].max(axis=1, keepdims=True)
            top -= np.log(np.exp(top).sum(axis=1, keepdims=True))
            self.state[piece] = np.maximum(top, -1000.0)
            slopes[piece] = -s[:, None] * _probabilities(self.state[piece])
            slopes[np.arange(piece.start, piece.stop), self.labels[piece]] += s
        for k in range(K):
            self._table[:-1, k] = self.unit * self.design.transposed_product(np.ascontiguousarray(slopes[:, k]))
        if F.fit_intercept:
            self.center = w[-1].astype(np.float64)
            self._table[-1] = self.center + self.c2 * self.unit * slopes.sum(axis=0)

    def dual_value(self) -> float:
        """A lower bound of F's minimum: the dual's value at p, made feasible.

        The weighted sum of the p_i is to be each class's weight. A class that has more gives up a part of each p_i, the
        same for all rows, and each row shares out what it freed among those that have less.
        """
        keep = share = np.empty(0)
        if self.objective.fit_intercept:
            held = np.zeros(len(self.masses))
            dual_softmax.masses(self._kernel, held)
            lack = np.maximum(self.masses - held, 0.0)
            if lack.sum() > 0:
                keep = np.minimum(self.masses / np.maximum(held, 1e-300), 1.0)
                share = lack / lack.sum()
        total, moved = dual_softmax.bound(self._kernel, keep, share)
        size = norm(self._table[:-1]) + moved * self.unit  # W moves by no more than the changed rows' lengths
        return -total / self.objective.n_samples - 0.5 * self.objective.l2 * size * size


def _probabilities(logs: Float64) -> Float64:
    """exp of the dual variables' logarithms as the kernel takes it: none is so small that it is subnormal."""
    p = np.exp(logs)
    p[p <= 1e-290] = 0
    return p


class _Ascent:
    """A run of `sdca`: its epochs, what was measured of them, and the best of that."""

    def __init__(self, objective: Objective, start: Float64, monitor: Monitor, most: float, *, later: bool) -> None:
        self.objective, self.monitor, self.most = objective, monitor, most
        self.softmax = objective.loss.name == "multinomial"
        self.smooth = objective.loss.name != "hinge"
        self.epochs = (SoftmaxEpochs if self.softmax else DualEpochs)(objective, monitor.tol, later=later)
        self.checks = Checks(monitor.tol, 0.0, most)
        self.gaps: list[float] = []
        self.done, self.reason = 0, "max_iter"
        #: The last measurement's parameters and epoch; the best one's parameters and place among all.
        self.found: NDArray[Any] = start.astype(objective.design.dtype).reshape(objective.shape)
        self.found_at, self.best, self.best_at = 0, self.found, 0

    def begin(self, start: Float64) -> None:
        """Dual variables that fit the start, and its measurement."""
        objective, monitor = self.objective, self.monitor
        if start.any():
            no_intercept = np.zeros(0 if objective.fit_intercept else objective.n_outputs)
            self.epochs.start_from(np.append(start, no_intercept))
        if self.smooth:
            self.checks = Checks(monitor.tol, monitor.begin(self.found), self.most)
            least = self.epochs.dual_value() if start.any() else 0.0  # a = 0 has the value 0
            self.gaps.append(max(monitor.value - least, 0.0))
        else:
            self._check(self.found, None)
            self.checks = Checks(monitor.tol, monitor.grad_norm, self.most)

    def as_dict(self) -> dict[str, Any]:
        """All that `take_up` needs, copied."""
        epochs = self.epochs
        return {
            "solver": "sdca", "epoch": self.done, "rows": np.array(self.monitor.rows), "gaps": np.array(self.gaps),
            "w": epochs.w.copy(), "a": copied(epochs.state), "center": epochs.center, "checks": dict(vars(self.checks)),
            "found": self.found, "found_at": self.found_at, "best": self.best, "best_at": self.best_at,
        }  # fmt: skip

    def take_up(self, course: Course) -> bool:
        """Goes on where the course has left off, if that fits this problem."""
        epochs = self.epochs
        like = {
            "w": epochs.w, "a": epochs.state, "center": epochs.center, "checks": vars(self.checks),
            "found": self.found, "found_at": 0, "best": self.found, "best_at": 0,
        }  # fmt: skip
        before = course.taken_up("sdca", like)
        if before is None:
            return False
        gaps: Any = before.get("gaps")
        n = len(before["rows"])
        column = isinstance(gaps, np.ndarray) and (gaps.dtype, gaps.shape) == (np.float64, (n,))
        if not column or before["best_at"] >= n:
            return False
        self.monitor.go_on(before["rows"])
        self.gaps += gaps.tolist()
        epochs.w[:], epochs.state[:], epochs.center = before["w"], before["a"], before["center"]
        vars(self.checks).update(before["checks"], tol=self.monitor.tol, most=self.most)
        self.done, self.found, self.found_at = before["epoch"], before["found"], before["found_at"]
        self.best, self.best_at = before["best"], before["best_at"]
        return True

    def epoch(self, rng: np.random.RandomState | np.random.Generator) -> float:
        """An epoch in a new order; returns its estimate of the gradient's norm.

        Where X is refused, the random numbers are where they were.
        """
        drawn = random_numbers(rng) if self.epochs.later else None
        order = epoch_order(rng, self.objective.design)
        try:
            estimate = self.epochs.run(order)
        except ValueError:  # an entry that may not be followed
            if drawn is not None:
                put_back(rng, drawn)
            raise
        self.done += 1
        return estimate

    def measure(self) -> bool:
        """Measures after an epoch; True if converged."""
        w, raw = self._solution()
        converged, self.found, self.found_at = self._check(w, raw), w, self.done
        lowest = self.monitor.rows[self.best_at][2]
        if self.monitor.value <= lowest or math.isnan(lowest):
            self.best, self.best_at = w, len(self.monitor.rows) - 1
        return converged

    def _solution(self) -> tuple[NDArray[Any], Float64 | None]:
        """w in X's dtype with the best intercept, which takes all raw predictions; and these."""
        objective, epochs, dtype = self.objective, self.epochs, self.objective.design.dtype
        w, raw = rounded(epochs.parameters()[: objective.shape[0]], dtype), None
        if objective.fit_intercept:
            b: Any = epochs.parameters()[-1] if self.softmax else float(epochs.w[-1])
            if self.smooth:
                w[-1] = 0
                raw = objective.raw_prediction(w)
                with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is no step
                    b = epochs.best_intercept(raw)
            w[-1] = rounded(np.asarray(b), dtype)
            if raw is not None:
                raw += w[-1].astype(np.float64)
            epochs.recenter(b)
        return w, raw

    def _check(self, w: NDArray[Any], raw: Float64 | None) -> bool:
        """Takes down F, its gradient and the duality gap at w, whose raw predictions may be known."""
        F = self.objective
        value, gradient = F.value_and_gradient(w) if raw is None else F.value_and_gradient_of(raw, w)
        gap = max(value - self.epochs.dual_value(), 0.0)
        self.gaps.append(gap)
        return self.monitor.record(value, norm(gradient) if self.smooth else (2 * F.l2 * gap) ** 0.5, self.done, w=w)

    def result(self) -> Result:
        """What was measured last; or what was measured best, where F has risen at the end."""
        monitor, w = self.monitor, self.found
        rows, at = [*monitor.rows], [*range(len(monitor.rows))]
        lowest = rows[self.best_at][2]
        rose = not monitor.value <= lowest + ROUNDING * abs(lowest)
        if rose and self.reason in ("max_iter", "diverged", "stalled"):  # the epochs go on from what they have come to
            w = self.best
            at.append(self.best_at)
            epoch, seconds, value, size, rate = rows[self.best_at]
            if math.isnan(size):  # of a start at zero
                size = norm(self.objective.value_and_gradient(w)[1])
            rows.append((epoch, seconds, value, size, rate))
        result = monitor.result(w, self.found_at, self.reason, rows=rows)
        result.history["duality_gap"] = np.array(self.gaps)[at]
        return result


def sdca(
    objective: Objective, w: NDArray[Any], *, tol: float, max_iter: int,
    rng: np.random.RandomState | np.random.Generator, verbose: int | Reporter = 0, course: Course | None = None,
    foretell: bool = False,
) -> Result:  # fmt: skip
    """Minimises F with L2 from w by dual coordinate descent, until the gradient's norm over all data is at most tol.

    An epoch costs what one of plain SGD does. Its own steps estimate the gradient's norm; all the data are gone
    through for a measurement only when the estimate says converged, and at epochs 4, 8, 16, ... (`Checks`). With
    `foretell` it is "stalled" as soon as these say that max_iter epochs are far from enough. It is the dual that every
    step raises: where F has risen at the end, the result is what was measured best.
    The hinge has no gradient to measure at its kinks: there ``sqrt(2 l2 gap)`` stands for the norm, gap being the
    duality gap, an upper bound of ``l2 ||w - w*||``.

    Returns
    -------
    Result
        ``history["duality_gap"]`` holds an upper bound of F(w) - min F for every measurement.

    References
    ----------
    Shalev-Shwartz, Zhang, "Stochastic dual coordinate ascent methods for regularized loss minimization", JMLR 14,
    2013, section 2. Yu, Huang, Lin, "Dual coordinate descent methods for logistic regression and maximum entropy
    models", Machine Learning 85, 2011, section 4 (the logistic loss's variables). Bertsekas, "Constrained optimization
    and Lagrange multiplier methods", 1982, chapter 2 (the intercept).
    """
    if not objective.l2 > 0 or objective.l1:
        fail("alpha", "> 0, with l1_ratio 0, for the solver 'sdca'", objective.alpha, "Use solver='saga' or 'lbfgs'.")
    monitor, course, start = Monitor(objective, tol, verbose), course or Course(), np.asarray(w, dtype=np.float64)
    # Who is told of an epoch must not be told of what is then refused.
    later = not (start.any() or course.state or monitor.reporter.watched)
    run = _Ascent(objective, start, monitor, float(max_iter) if foretell else math.inf, later=later)
    resumed = run.take_up(course)
    if not resumed:
        run.begin(start)
    if monitor.grad_norm <= tol:
        run.reason = "tol"
    elif resumed and run.checks.stalled:
        run.reason = "stalled"
    try:
        while run.reason == "max_iter" and run.done < max_iter:
            estimate = run.epoch(rng)
            if not np.isfinite(run.epochs.w).all():  # rows whose squares overflow
                run.reason = "diverged"
                break
            if run.checks.wanted(run.done, estimate):
                converged = run.measure()
                run.checks.measured(run.done, estimate, monitor.grad_norm)
                run.reason = "tol" if converged else "stalled" if run.checks.stalled else run.reason
            course.keep(run.as_dict, run.result, last=run.reason != "max_iter" or run.done == max_iter)
        if run.reason == "max_iter" and run.found_at < run.done:  # nothing follows: this moves the center
            run.reason = "tol" if run.measure() else run.reason
    except KeyboardInterrupt:
        run.reason = "interrupted"
        del monitor.rows[sum(row[0] <= run.found_at for row in monitor.rows) :]
    if run.reason != "interrupted":
        objective.design.check()  # where there was no epoch
    return run.result()
