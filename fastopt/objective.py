"""F on a Design: value, gradient, Hessian product; feeds `scipy.optimize` unchanged."""

from __future__ import annotations

import functools
import math
import operator
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from scipy.sparse import csr_array

from fastopt._design import Design
from fastopt._kernels import curvature, passes
from fastopt._kernels.plan import LOSSES as KERNEL_LOSSES
from fastopt._kernels.terms import BLOCK as BLOCK_ROWS
from fastopt._kernels.terms import Terms
from fastopt._memory import LINE, lines
from fastopt._parallel import in_order, threads
from fastopt._validation import check_choice, check_real
from fastopt.losses import LOSSES, Loss
from fastopt.penalties import L2, ElasticNet, Penalty

__all__ = ["Objective"]

Float64 = NDArray[np.float64]
_NONE = np.empty(0)
#: Rows that a sample takes together.
RUN = 16
#: Elements of mapped data that a sample copies at most.
MOST_COPIED = 8_000_000
#: Bytes of a block of rows that BLAS multiplies at once, so that it stays in the second-level cache, and rows at least.
BLOCK, LEAST_ROWS = 320_000, 160
#: Numbers beyond which a whole line's beginning is worth looking for.
MANY = 512
#: Parameters up to which the products of dense rows are fastest without BLAS.
FEW = 128


class Objective:
    """The one objective that every solver minimises.

    ``F(w, b) = sum_i s_i loss(y_i, x_i.w + b) / sum_i s_i + alpha ((1 - l1_ratio) / 2 ||w||_2^2 + l1_ratio ||w||_1)``

    With several outputs and a pointwise loss (all but "multinomial"), the sum of this over the outputs, each with its
    own targets: one-vs-rest, multilabel and multi-output regression are one fit.

    Parameters
    ----------
    design : Design
    y : ndarray of float64, (n_samples,), or (n_samples, n_outputs) for a pointwise loss with several outputs
        Targets as the loss takes them: -1 and +1, class numbers, or real numbers.
    loss : str or Loss, default "log_loss"
    alpha : float, default 0.0
    sample_weight : ndarray of float64, (n_samples,), or None
        s; only their ratios matter. Shaped like y where y has two dimensions, each output has its own.
    fit_intercept : bool, default True
        The parameters' last row is then the intercept b, which is not penalised.
    n_outputs : int, default 1
    l1_ratio : float in [0, 1], default 0.0
    n_jobs : int or None, default None
        Threads of the passes over X (None: all that are allowed); no bit depends on it.

    Notes
    -----
    Parameters are an array of shape (n_features + fit_intercept, n_outputs), or the same flat, as scipy wants it;
    results are float64 in the shape that came in. All sums are float64 whatever X is; X is read as it is.
    With L1, F's "gradient" is its subgradient of least norm: zero exactly at the minimum. The Hessian is that of the
    smooth part. Losses with kinks have the slope that their docstrings give there.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.optimize import minimize
    >>> X, y = np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([-1.0, 1.0, -1.0, 1.0])
    >>> F = Objective(Design.from_array(X), y, alpha=0.1)
    >>> minimize(F.value_and_gradient, np.zeros(2), jac=True, hessp=F.hessian_product, method="Newton-CG").x.round(3)
    array([ 0.637, -0.955])
    """

    def __init__(
        self, design: Design, y: Float64, *, loss: str | Loss = "log_loss", alpha: float = 0.0,
        sample_weight: Float64 | None = None, fit_intercept: bool = True, n_outputs: int = 1, l1_ratio: float = 0.0,
        n_jobs: int | None = None,
    ) -> None:  # fmt: skip
        self.design = design
        threads(n_jobs)  # raises what is to be raised
        self.n_jobs = n_jobs
        if not isinstance(loss, Loss):
            check_choice("loss", loss, LOSSES)
            loss = LOSSES[loss]()
        self.loss = loss
        check_real("l1_ratio", l1_ratio, low=0, high=1)
        self.penalty: Penalty = ElasticNet(alpha, l1_ratio) if l1_ratio else L2(alpha)
        self.l1_ratio = float(l1_ratio)
        self.fit_intercept = bool(fit_intercept)
        self.n_outputs = n_outputs
        self.n_samples, self.n_features = design.shape
        self.shape = (self.n_features + self.fit_intercept, n_outputs)
        self.y = np.ascontiguousarray(y, dtype=np.float64)
        if n_outputs > 1 and self.loss.targets != "multiclass":
            if self.y.shape != (self.n_samples, n_outputs):
                rule = f"shape {(self.n_samples, n_outputs)}, a target for each row and output"
                raise ValueError(f"y must have {rule}; got {self.y.shape}.")
        elif self.y.shape != (self.n_samples,):
            raise ValueError(f"y must have one target for each of the {self.n_samples} rows of X; got {self.y.shape}.")
        if self.loss.lowest > -np.inf and not (self.y >= self.loss.lowest).all():
            rule = f"{'>= 0' if self.loss.lowest == 0 else '> 0'} for the loss {self.loss.name!r}"
            raise ValueError(f"y must be {rule}; got {float(np.min(self.y))!r}.")
        if self.loss.targets == "multiclass" and not ((self.y >= 0) & (self.y < n_outputs)).all():
            raise ValueError(f"y must hold class numbers in [0, {n_outputs}); got others.")
        #: s divided by its mean, flat, or an empty array where all are one.
        self.weights = _NONE
        #: s as it was given, or an empty array where there is none.
        self.sample_weight = _NONE
        if sample_weight is not None:
            s = self.sample_weight = np.ascontiguousarray(sample_weight, dtype=np.float64)
            if s.shape not in ((self.n_samples,), self.y.shape):
                raise ValueError(f"sample_weight must have {self.n_samples} elements; got shape {s.shape}.")
            total = s.sum(axis=0)
            if not (s >= 0).all() or not ((total > 0) & (total < np.inf)).all():
                raise ValueError("sample_weight must be finite and >= 0, with a sum > 0; got others.")
            if (s != s[0]).any():
                self.weights = (s * (self.n_samples / total)).ravel()
        terms = (self.kernel_loss, self.loss.parameter, self.y.ravel(), self.weights, self.n_features, n_outputs)
        self._terms = Terms(*terms, self.fit_intercept)

    @property
    def alpha(self) -> float:
        """Strength of the penalty."""
        return self.penalty.alpha

    @property
    def l2(self) -> float:
        """Strength of ``||w||_2^2 / 2``: ``alpha (1 - l1_ratio)``."""
        return self.penalty.l2

    @property
    def l1(self) -> float:
        """Strength of ``||w||_1``: ``alpha l1_ratio``."""
        return self.penalty.l1

    @property
    def kernel_loss(self) -> int:
        """The loss's number inside the kernels."""
        return KERNEL_LOSSES[self.loss.name]

    def zeros(self) -> NDArray[Any]:
        """Parameters to start from, of X's dtype."""
        return np.zeros(self.shape, dtype=self.design.dtype)

    @property
    def rated(self) -> Objective:
        """The rows that learning rates are tried on."""
        return self

    def sample(self, size: int) -> Objective:
        """The objective of about `size` rows: runs of 16, one at random in each of equal parts of the rows (copied).

        The same rows at every call. Sorted data are sampled as evenly as shuffled ones; runs are copied several times
        faster than single rows. This objective itself where nearly all rows are wanted, or so many of mapped ones that
        their copy would take the memory that there may not be.
        """
        n, count = self.n_samples, max(1, size // RUN)
        cuts, room = np.linspace(0, n, count, endpoint=False), n / count - RUN
        large = self.design.mapped and size / n * self.design.n_stored > MOST_COPIED
        if room <= 1 or large:
            return self
        starts = (cuts + room * np.random.default_rng(0).random(count)).astype(np.intp)
        return self.rows((starts[:, None] + np.arange(RUN)).reshape(-1))

    def rows(self, rows: NDArray[np.intp]) -> Objective:
        """The objective of some rows alone (copied)."""
        weights = self.sample_weight[rows] if len(self.weights) else None
        if weights is not None and not weights.any(axis=0).all():
            weights = None
        return self._of(self.design.rows(rows), self.y[rows], weights)

    def columns(self, columns: NDArray[np.intp]) -> Objective:
        """F of these columns' parameters (copied), and the intercepts: all others' are zero."""
        return self.on(self.design.columns(columns))

    def on(self, design: Design) -> Objective:
        """F of another design of as many rows, everything else being the same."""
        return self._of(design, self.y, self.sample_weight if len(self.weights) else None)

    def _of(self, design: Design, y: Float64, weights: Float64 | None) -> Objective:
        return Objective(
            design, y, loss=self.loss, alpha=self.alpha, sample_weight=weights, fit_intercept=self.fit_intercept,
            n_outputs=self.n_outputs, l1_ratio=self.l1_ratio, n_jobs=self.n_jobs,
        )  # fmt: skip

    def value(self, w: NDArray[Any]) -> float:
        """F at w."""
        value, _ = self._value(w, wanted=False)
        return value + self.l1 * float(np.abs(self._penalised(w)).sum()) if self.l1 else value

    def value_at_zero(self) -> float:
        """F at zero parameters, without a look at X."""
        no_columns = Design(np.broadcast_to(np.zeros(1), (self.n_samples, 1)), None, None, (self.n_samples, 1))
        weights = self.sample_weight if len(self.weights) else None
        F = Objective(
            no_columns, self.y, loss=self.loss, sample_weight=weights, fit_intercept=False, n_outputs=self.n_outputs
        )
        return F.value(F.zeros())

    def gradient(self, w: NDArray[Any]) -> Float64:
        """Gradient of F at w; with L1 the subgradient of least norm."""
        return self.value_and_gradient(w)[1]

    def value_and_gradient(self, w: NDArray[Any]) -> tuple[float, Float64]:
        """F and its gradient at w (with L1 the subgradient of least norm), in one pass over X."""
        return self.with_l1(w, *self.smooth_value_and_gradient(w))

    def value_and_gradient_of(self, raw: Float64, w: NDArray[Any]) -> tuple[float, Float64]:
        """`value_and_gradient` at w whose raw predictions are known, (n_samples, n_outputs)."""
        raw, shape = np.require(raw, np.float64, ["C", "W"]), (self.n_samples, self.n_outputs)
        if raw.shape != shape:
            raise ValueError(f"raw must have shape {shape}; got {raw.shape}.")
        return self.with_l1(w, *self._smooth(w, *self._value(w, raw=raw)))

    def with_l1(self, w: NDArray[Any], value: float, g: Float64) -> tuple[float, Float64]:
        """F and its subgradient of least norm at w, from those of `smooth_value_and_gradient`; g is not written."""
        if self.l1:
            penalised, g = self._penalised(w), g.copy()
            value += self.l1 * float(np.abs(penalised).sum())
            flat = g.reshape(-1)
            flat[: penalised.size] = self.penalty.subgradient(penalised, flat[: penalised.size])
        return value, g

    def smooth_value_and_gradient(self, w: NDArray[Any], kept: Float64 | None = None) -> tuple[float, Float64]:
        """F without its L1 part, and its gradient, at w, in one pass over X.

        `kept`, which is to come from `room_for_raw`, takes the raw predictions that the pass finds on its way.
        """
        return self._smooth(w, *self._value(w, kept=kept))

    def measured(self, w: NDArray[Any]) -> tuple[float, Float64, Float64, Float64 | None]:
        """F, its gradient, that of its smooth part, and what the pass kept of raw predictions."""
        kept = self.room_for_raw()
        value, slope = self.smooth_value_and_gradient(w, kept)
        return *self.with_l1(w, value, slope), slope, kept

    def room_for_raw(self) -> Float64 | None:
        """Room for the raw predictions of all rows; None where rows are elsewhere."""
        return np.empty((self.n_samples, self._terms.width))

    def _smooth(self, w: NDArray[Any], value: float, g: Float64) -> tuple[float, Float64]:
        """What `smooth_value_and_gradient` returns, from what `_value` does; g is used up."""
        g /= self.n_samples
        penalised = self._penalised(w)
        g[: penalised.size] += self.penalty.gradient(penalised)
        return value, g.reshape(np.shape(w))

    def step_length(
        self, w: NDArray[Any], v: NDArray[Any], slope: float, kept: Float64 | None = None,
        moved: Float64 | None = None, *, l1_slope: float = 0.0,
    ) -> float:  # fmt: skip
        """About the t > 0 that minimises ``F(w + t v)``; `slope` is that of F along v at w, `l1_slope` its L1 part's.

        Newton's method in t, from t = 1 until the slope is a fifth of `slope` and one step more. It reads X for the raw
        predictions of w, unless a pass has `kept` them, and of v, unless one has those of w + v (`moved`), and for each
        trial these alone.
        """
        z = self._raw_of(w, kept)
        dz = self.raw_prediction(v) if moved is None else moved[:, : self.n_outputs] - z
        start, by = self._penalised(w), self._penalised(v)
        slope_l2, bend_l2 = self.l2 * float(np.vdot(start, by)), self.l2 * float(np.vdot(by, by))
        t = 1.0
        for _ in range(10):
            first, second = self.along(z, dz, t)
            first += slope_l2 + t * bend_l2 + l1_slope
            second += bend_l2
            if not (math.isfinite(first) and second > 0):
                break
            t = min(max(t - first / second, t / 4), 4 * t)
            if abs(first) <= 0.2 * abs(slope):
                break
        return t

    def along(self, z: Float64, dz: Float64, t: float) -> tuple[float, float]:
        """The first two derivatives in t of the mean of the losses at raw predictions ``z + t dz``."""
        shares, room = self.design.shares(self.n_outputs), (2, BLOCK_ROWS * self._terms.width)

        def add(share: int) -> tuple[float, float]:
            return curvature.along(self._terms, z, dz, t, np.empty(room), *shares[share])

        firsts, seconds = zip(*in_order(add, len(shares), self.n_jobs), strict=True)
        return sum(firsts) / self.n_samples, sum(seconds) / self.n_samples

    def bends(self, kept: Float64 | None) -> Float64:
        """The losses' second derivatives at w whose raw predictions a pass has `kept`, for `hessian_product` there."""
        assert kept is not None  # not of rows that are elsewhere
        z, shares = kept.copy(), self.design.shares(self.n_outputs)
        deque(in_order(lambda k: curvature.bends(self._terms, z, *shares[k]), len(shares), self.n_jobs), maxlen=0)
        return z

    def hessian_product(self, w: NDArray[Any], v: NDArray[Any], bends: Float64 | None = None) -> Float64:
        """Hessian of F at w, times v. With the `bends` of w it is half the work, and takes none of the losses."""
        kernel: Callable[..., None]
        if bends is None:
            kernel = passes.sparse_hessian if self.design.sparse else passes.dense_hessian
            product = self._sum(kernel, self.design.arrays, self._packed(w), self._packed(v))[1]
        else:
            kernel = curvature.sparse_products if self.design.sparse else curvature.dense_products
            product = self._sum(kernel, self.design.arrays, self._packed(v), bends)[1]
        product = self._unpacked(product)
        product /= self.n_samples
        penalised = self._penalised(v)
        product[: penalised.size] += self.penalty.gradient(penalised)
        return product.reshape(np.shape(v))

    def hessian(
        self, w: NDArray[Any], dtype: DTypeLike | None = None, kept: Float64 | None = None
    ) -> Float64:  # fmt: skip
        """Hessian of F (with L1, of its smooth part) at w, (size, size) for parameters flat.

        O(n size^2) work: for few columns. Products are of `dtype` (None: X's own), over blocks of rows; their sums are
        float64. A pass may have `kept` the raw predictions of w.
        """
        width, K = self.shape
        z = self.curvatures(w, kept)
        kind = np.dtype(dtype or self.design.dtype)
        if K == 1 and width <= FEW and not self.design.sparse and kind == self.design.dtype:
            H = self._gram(np.sqrt(z[:, 0]))
        else:
            H = self._products(z, kind)
        H /= self.n_samples
        H.reshape(-1)[: self.n_features * K * len(H) : len(H) + 1] += self.l2
        return H

    def curvatures(self, w: NDArray[Any], kept: Float64 | None = None) -> Float64:
        """The losses' second derivatives at w, weighted, (n_samples, n_outputs); with softmax the probabilities."""
        z = self._raw_of(w, kept)
        curvature.curvatures(self._terms, z, 0, self.n_samples)
        return z

    def hessian_of(
        self, some: NDArray[np.intp], w: NDArray[Any], dtype: DTypeLike | None = None, kept: Float64 | None = None
    ) -> Float64:  # fmt: skip
        """The rows and columns of `hessian` that are of some parameters, numbers in ascending order: O(n size^2)."""
        width, K = self.shape
        z = self.curvatures(w, kept)
        kind: np.dtype[Any] = np.dtype(dtype or self.design.dtype)
        softmax, factors = self.loss.targets == "multiclass", np.sqrt(z).astype(kind, copy=False)
        roots = np.sqrt(self.weights) if softmax and len(self.weights) else np.ones(self.n_samples)
        groups = [np.flatnonzero(some % K == c) for c in range(K)]  # one output after the other
        ends = np.cumsum([len(group) for group in groups]).tolist()
        H = np.zeros((len(some), len(some)))
        height = min(self.n_samples, max(LEAST_ROWS, 4 * BLOCK // (kind.itemsize * len(some))))
        buffer, room = np.empty((height, width), kind), np.empty((height, len(some)), kind)
        for start in range(0, self.n_samples, height):
            rows = slice(start, min(start + height, self.n_samples))
            scaled, both = self._scaled_rows(rows, roots[rows], buffer), room[: rows.stop - rows.start]
            for c, group in enumerate(groups):
                these = slice(ends[c] - len(group), ends[c])
                part = scaled[:, some[group] // K]
                part *= factors[rows, c, None]
                H[these, these] += part.T @ part
                if softmax:  # as in `_products`
                    np.multiply(part, factors[rows, c, None], out=both[:, these])
            if softmax:
                H -= both.T @ both
        places = np.argsort(np.concatenate(groups))
        H = H[places[:, None], places] / self.n_samples
        H.reshape(-1)[: np.searchsorted(some, self.n_features * K) * len(H) : len(H) + 1] += self.l2
        return H

    def _gram(self, factors: Float64) -> Float64:
        """The sum of ``x x'`` over all rows x of (X, 1), the ones for the intercept, each times its factor."""
        width, dtype = self.shape[0], self.design.dtype
        line = LINE // dtype.itemsize
        size, effort = -(-width // line) * line, -(-width // 16)  # of 16 columns: that of a pass
        shares = self.design.shares(effort, size**2)

        def add(share: int) -> Float64:
            sums, work = np.zeros((size, size)), np.empty((BLOCK_ROWS + 1) * size + line, dtype)
            for start, stop in self.design.pieces(effort, shares[share]):
                curvature.gram(self.design.values, factors, sums, work, start, stop)
            return sums

        sums = functools.reduce(operator.iadd, in_order(add, len(shares), self.n_jobs))
        H = np.empty((width, width))
        curvature.symmetric(sums, H)
        return H

    def _products(self, z: Float64, kind: np.dtype[Any]) -> Float64:
        """The sum of the losses' Hessians by BLAS, from their second derivatives, or softmax's probabilities."""
        width, K = self.shape
        total = np.zeros((width, K, width, K))
        flat = total.reshape(width * K, width * K)
        height = min(self.n_samples, max(LEAST_ROWS, BLOCK // (kind.itemsize * width * K)))
        buffer = np.empty((height, width), kind)  # fresh memory would cost more than its filling
        softmax = self.loss.targets == "multiclass"
        factors, roots = np.sqrt(z), None
        if softmax:
            roots = np.sqrt(self.weights) if len(self.weights) else np.ones(self.n_samples)
            factors *= roots[:, None]
        for start in range(0, self.n_samples, height):
            rows = slice(start, min(start + height, self.n_samples))
            if K == 1:  # no strides: a third of the time on few rows
                scaled = self._scaled_rows(rows, factors[rows, 0], buffer)
                flat += scaled.T @ scaled
                continue
            for c in range(K):  # softmax: sum_i s_i (diag(p_i) - p_i p_i') (x) x_i x_i'
                scaled = self._scaled_rows(rows, factors[rows, c], buffer)
                total[:, c, :, c] += scaled.T @ scaled  # NumPy calls syrk: half a product's work
            if roots is None:
                continue
            scaled = self._scaled_rows(rows, roots[rows], buffer)
            both = (scaled[:, :, None] * z[rows, None, :].astype(scaled.dtype)).reshape(len(scaled), -1)
            flat -= both.T @ both
        return flat

    def column_moments(self) -> tuple[Float64, Float64]:
        """Weighted mean of each column, and of its squares, in one pass (repeated entries as they stand)."""
        kernel: Callable[..., None] = passes.sparse_moments if self.design.sparse else passes.dense_moments
        moments = np.zeros((2, self.n_features))
        for start, stop in self.design.pieces():
            kernel(self._terms, *self.design.arrays, moments, start, stop)
        moments /= self.n_samples
        return moments[0], moments[1]

    def variance_about(self, means: Float64, columns: NDArray[np.intp]) -> Float64:
        """Weighted mean square of how far these columns are from their means, on a sample."""
        some = self.sample(1024)
        part = some.design.columns(columns)
        X = csr_array(part.arrays, shape=part.shape).toarray() if part.sparse else part.values
        s = some.weights.reshape(len(X), -1).mean(axis=1) if len(some.weights) else np.ones(len(X))
        return np.asarray(s @ (X - means) ** 2 / s.sum())

    def _scaled_rows(self, rows: slice, factors: Float64, buffer: NDArray[Any]) -> NDArray[Any]:
        """Rows of (X, 1), the ones for the intercept, each times its factor, dense, in the buffer."""
        design, out = self.design, buffer[: rows.stop - rows.start]
        if design.indices is None or design.indptr is None:
            out[:, : self.n_features] = design.values[rows]
        else:
            lo, hi = int(design.indptr[rows.start]), int(design.indptr[rows.stop])
            arrays = design.values[lo:hi], design.indices[lo:hi], design.indptr[rows.start : rows.stop + 1] - lo
            out[:, : self.n_features] = csr_array(arrays, shape=(len(out), self.n_features)).toarray()
        if self.fit_intercept:
            out[:, -1] = 1
        out *= factors.astype(out.dtype, copy=False)[:, None]  # in whole rows: faster, though that is a pass more
        return out

    def raw_prediction(self, w: NDArray[Any]) -> Float64:
        """Xw + b of every row, (n_samples, n_outputs)."""
        return _raw_prediction(self._terms, self.design, self._flat(w), self.n_outputs, self.n_jobs)

    def _raw_of(self, w: NDArray[Any], kept: Float64 | None) -> Float64:
        """`raw_prediction` of w, the caller's own: a copy of what was kept."""
        return self.raw_prediction(w) if kept is None else kept[:, : self.n_outputs].copy()

    def _value(
        self, w: NDArray[Any], wanted: bool = True, raw: Float64 | None = None, kept: Float64 | None = None
    ) -> tuple[float, Float64]:  # fmt: skip
        """F without its L1 part, and if `wanted` the sum of the losses' gradients, flat."""
        kernel: Callable[..., float] = passes.sparse_loss if self.design.sparse else passes.dense_loss
        width = self._terms.width
        known = raw is not None
        if raw is not None:
            raw = raw if width == self.n_outputs else _packed(raw.reshape(-1), self.n_outputs, width)
            raw = raw.reshape(-1, width)
        elif self.design.sparse and not np.any(w):  # whose entries are finite: no product need be worked out
            known, raw = True, np.empty((self.n_samples, width)) if kept is None else kept
            raw[:] = 0
        else:
            raw = np.empty((0, width)) if kept is None else kept
        design, refused = self.design, False
        told = (design.sound,) if design.sparse else ()
        try:
            total, sums = self._sum(kernel, design.unchecked, self._packed(w), raw, known, wanted=wanted, told=told)
        except ValueError:
            if design.sound:
                raise
            refused = True  # by a row that the kernel was to check
        if refused:
            design.refuse()  # names the first of all
        if not design.sound:
            if np.isfinite(sums).all():
                design.checked(None)
            else:
                design.check()
        penalised = self._penalised(w)
        # Unlike @, vdot does not warn of infinity, which is for the solver to judge.
        return total / self.n_samples + 0.5 * self.l2 * float(np.vdot(penalised, penalised)), self._unpacked(sums)

    def _sum(
        self, kernel: Callable[..., Any], arrays: tuple[NDArray[Any], ...], *w: Any, wanted: bool = True,
        told: tuple[bool, ...] = (),
    ) -> tuple[float, Float64]:  # fmt: skip
        """What a kernel adds up over all rows: a number, and if `wanted` an array like w; share by share, in order.

        `arrays` stand for X; the kernel is `told` something more.
        """
        size, work = len(w[0]) if wanted else 0, (2, BLOCK_ROWS * self._terms.width)
        shares = self.design.shares(self.n_outputs, size)
        free: list[Float64] = []

        def add(share: int) -> tuple[float, Float64]:
            room, total = np.empty(work), 0.0
            try:
                sums = free.pop()
            except IndexError:  # asking first would race with the other threads
                sums = np.empty(size) if size <= MANY else lines(1, size, np.dtype(np.float64))[0, :size]
            sums[:] = 0
            for start, stop in self.design.pieces(self.n_outputs, shares[share]):
                total += kernel(self._terms, *arrays, *w, sums, room, start, stop, *told) or 0.0
            return total, sums

        if len(shares) == 1:
            return add(0)
        totals = in_order(add, len(shares), self.n_jobs)
        total, sums = next(totals)
        for more, others in totals:
            total += more
            sums += others
            free.append(others)
        return total, sums

    def _packed(self, w: NDArray[Any]) -> Float64:
        """w as the passes read it: flat, each feature's outputs followed by zeros up to `Terms.width`."""
        flat, width = self._flat(w), self._terms.width
        if width == self.n_outputs:
            return flat
        return _packed(flat, self.n_outputs, width)

    def _unpacked(self, sums: Float64) -> Float64:
        width = self._terms.width
        return sums if width == self.n_outputs else sums.reshape(-1, width)[:, : self.n_outputs].reshape(-1)

    def _flat(self, w: NDArray[Any]) -> Float64:
        flat = np.ascontiguousarray(w, dtype=np.float64).reshape(-1)
        if flat.size != self.shape[0] * self.shape[1]:
            raise ValueError(f"w must have shape {self.shape}, or the same flat; got {np.shape(w)}.")
        return flat

    def _penalised(self, w: NDArray[Any]) -> Float64:
        return np.asarray(w, dtype=np.float64).reshape(-1)[: self.n_features * self.n_outputs]


def raw_prediction(
    design: Design, w: Float64, n_outputs: int, fit_intercept: bool, n_jobs: int | None = None
) -> Float64:
    """Xw + b of every row of a design, (n_samples, n_outputs)."""
    if w.shape != ((design.shape[1] + fit_intercept) * n_outputs,):
        raise ValueError(f"w must have {n_outputs} x {design.shape[1] + fit_intercept} elements; got {w.shape}.")
    terms = Terms(0, 0.0, _NONE, _NONE, design.shape[1], n_outputs, fit_intercept)
    return _raw_prediction(terms, design, w, n_outputs, n_jobs)


def _raw_prediction(terms: Terms, design: Design, w: Float64, n_outputs: int, n_jobs: int | None) -> Float64:
    packed = w if terms.width == n_outputs else _packed(w, n_outputs, terms.width)
    out = np.empty((design.shape[0], terms.width))
    kernel: Callable[..., None] = passes.sparse_predict if design.sparse else passes.dense_predict
    shares = design.shares(n_outputs)

    def predict(share: int) -> None:
        for start, stop in design.pieces(n_outputs, shares[share]):
            kernel(terms, *design.arrays, packed, out, start, stop)

    deque(in_order(predict, len(shares), n_jobs), maxlen=0)
    return out if terms.width == n_outputs else np.ascontiguousarray(out[:, :n_outputs])


def _packed(w: Float64, n_outputs: int, width: int) -> Float64:
    """Flat parameters with each feature's outputs followed by zeros up to `width`."""
    rows = len(w) // n_outputs
    packed = lines(1, rows * width, w.dtype)[0, : rows * width]
    packed.reshape(rows, width)[:, :n_outputs] = w.reshape(rows, n_outputs)
    packed.reshape(rows, width)[:, n_outputs:] = 0
    return packed
