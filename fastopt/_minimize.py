"""The update rules on any function: `minimize`, and each rule as a method of `scipy.optimize.minimize`."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult, OptimizeWarning, approx_fprime

from fastopt._order import shuffled
from fastopt._validation import check_bool, check_integer, check_real, fail
from fastopt.optimizers import Array, GradientDescent, Optimizer, euclidean, get

__all__ = ["as_method", "minimize"]

#: A run diverges when the gradient's norm has grown tenfold so many times and fun has risen each time.
RISES = 10
#: Rows per step where n_samples is given and batch_size is not; Keras's.
BATCH = 32

CONVERGED, OUT_OF_ITERATIONS, DIVERGED, STOPPED = 0, 1, 2, 99


def minimize(
    fun: Callable[..., Any],
    x0: Any,
    jac: Any = None,
    *,
    args: Any = (),
    optimizer: str | Optimizer = "gd",
    tol: float = 1e-6,
    max_iter: int = 10_000,
    maximize: bool = False,
    n_samples: int | None = None,
    batch_size: int | str | None = None,
    rng: Any = None,
    callback: Callable[..., Any] | None = None,
) -> OptimizeResult:
    """Minimises a function by gradient steps until the gradient's Euclidean norm is at most tol.

    The textbook's loop, ``while |grad| > tol: x -= learning_rate * grad``, with any update rule in place of the step,
    on any function: not necessarily convex, and of which each step may see only some rows.

    Parameters
    ----------
    fun : callable
        ``fun(x, *args) -> float``; with n_samples ``fun(x, rows, *args)``, the mean over the rows with these numbers.
    x0 : array of any shape, or a number
        Where to start; not written. float32 stays float32, all else becomes float64. x has this shape wherever it
        appears.
    jac : callable, True or None, default None
        ``jac(x, *args)``, or ``jac(x, rows, *args)``: the gradient, of x's shape. True: fun returns (value,
        gradient). None: central differences by `scipy.optimize.approx_fprime`, in float64, which cost 2 x.size + 2
        values of fun each and are good to about ten digits.
    args : tuple, default ()
        Handed on to fun and jac.
    optimizer : str or Optimizer, default "gd"
        A key of `fastopt.optimizers.OPTIMIZERS`, or an instance such as ``Adam(learning_rate=0.1)``. The learning
        rate "auto" is for linear models: here it is refused.
    tol : float >= 0, default 1e-6
        In units of the gradient.
    max_iter : int >= 0, default 10000
        Steps; with n_samples epochs, each of which goes over all rows once.
    maximize : bool, default False
        Gradient ascent. fun and jac in the result are still those of fun.
    n_samples : int or None, default None
        The number of rows: each step then sees ``batch_size`` of them, in an order that is shuffled anew for each
        epoch.
    batch_size : int, "full" or None, default None
        Rows per step; the last step of an epoch may see fewer. None: all for "gd"; else 32, or n_samples if that is
        less.
    rng : int, SeedSequence, BitGenerator, Generator, RandomState or None, default None
        Draws the order of the rows.
    callback : callable or None, default None
        Called after each step (with n_samples, epoch) as ``callback(x)``, or, if its one parameter has that name, as
        ``callback(intermediate_result=r)``, r with x, fun, grad_norm and nit; the second costs one value of fun each
        time. x is a copy. Raising StopIteration ends the run.

    Returns
    -------
    scipy.optimize.OptimizeResult
        - x, fun, jac: the solution, the value and the gradient (over all rows) there.
        - nit: steps, or epochs; with n_samples, n_steps counts the steps.
        - nfev, njev: values and gradients of fun that were asked for, of a few rows or of all. fun is not needed for a
          step: it is evaluated at the end, for callbacks that want it, and to judge a divergence.
        - success, status, message: status is 0 where the gradient's norm at x was measured to be at most tol, 1 after
          max_iter, 2 after a divergence, 99 after StopIteration.

    Raises
    ------
    ValueError, TypeError
        If a parameter is invalid, or fun or jac returns something of the wrong shape.

    Notes
    -----
    With n_samples, the norm that is compared with tol is that over all rows, measured at x0 and after each epoch: one
    more gradient, as costly as the epoch. ``tol=0`` saves it, and the run ends with max_iter.

    Rules that average (schedule-free ones, `ema_momentum`) give x = ``optimizer.averaged(w, state)``. Without
    n_samples the gradient is measured at w, where steps take it; when it is at most tol there, x is w.

    A run has diverged when x or the gradient is not finite, or when the gradient's norm has reached ten records in a
    row, each ten times the last one, and fun was higher at each than at the one before. A descent that climbs for a
    while, from momentum or noise, does not grow ten billion times while it climbs; a descent from a plateau does grow
    so much, but fun falls. x is then the best point seen: that of the smallest gradient, or x0 if fun is lower there.
    So it is if fun is above its value at x0 after max_iter.

    Examples
    --------
    >>> import numpy as np
    >>> from fastopt import minimize
    >>> minimize(lambda x: (x - 3) ** 2, 0.0, lambda x: 2 * (x - 3)).x.round(6)
    np.float64(3.0)

    Momentum, on a function of two variables, differentiated numerically:

    >>> from fastopt.optimizers import SGD
    >>> rule = SGD(learning_rate=0.001, momentum=0.95)
    >>> result = minimize(lambda x: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2, [-1.0, 1.0], optimizer=rule)
    >>> result.x.round(4), result.message
    (array([1., 1.]), 'The norm of the gradient is at most tol.')

    The mean of many numbers, ten of them at a time:

    >>> data = np.random.default_rng(0).normal(5.0, 1.0, size=1000)
    >>> result = minimize(
    ...     lambda x, rows: np.mean((x - data[rows]) ** 2), 0.0, lambda x, rows: 2 * np.mean(x - data[rows]),
    ...     optimizer=SGD(learning_rate=0.1, decay=0.1), n_samples=1000, batch_size=10, max_iter=20, tol=0.01, rng=0)
    >>> bool(abs(result.x - data.mean()) < 0.01)
    True
    """
    x = _start(x0)
    rule = _rule(optimizer)
    check_real("tol", tol, low=0)
    check_integer("max_iter", max_iter, low=0, remedy="It counts steps, or epochs with n_samples.")
    check_bool("maximize", maximize)
    rows = None
    if n_samples is not None:
        check_integer("n_samples", n_samples, low=1)
        rows = _Rows(int(n_samples), _batch_size(batch_size, int(n_samples), rule), _generator(rng))
    elif batch_size is not None:
        fail("batch_size", "None where n_samples is None", batch_size, "Give n_samples, the number of rows.")
    function = _Function(fun, jac, args, -1.0 if maximize else 1.0)
    return _Run(function, rule, x, float(tol), int(max_iter), rows, callback).run()


def as_method(
    optimizer: Optimizer,
    fun: Callable[..., Any],
    x0: Any,
    args: Any = (),
    *,
    jac: Any = None,
    callback: Callable[..., Any] | None = None,
    tol: float | None = None,
    gtol: float | None = None,
    maxiter: int | None = None,
    disp: bool = False,
    return_all: bool = False,
    **ignored: Any,
) -> OptimizeResult:
    """An update rule as ``method`` of `scipy.optimize.minimize`: what it calls, with its warnings for what is not used.

    Parameters
    ----------
    optimizer : Optimizer
    fun, x0, args, jac, callback
        As scipy hands them over.
    tol, gtol : float or None
        The gradient's norm to stop at; the option gtol prevails. None: 1e-6.
    maxiter : int or None
        Steps; None: 10000.
    disp : bool, default False
        Prints how it ended.
    return_all : bool, default False
        Gives ``allvecs`` in the result: x0 and x after each step.
    **ignored
        bounds, constraints, hess and hessp, with a RuntimeWarning, and unknown options, with an OptimizeWarning.
    """
    method = type(optimizer).__name__
    for name, what in (("bounds", "cannot handle bounds"), ("constraints", "cannot handle constraints")):
        given = ignored.pop(name, None)
        if given is not None and not (isinstance(given, (tuple, list)) and not given):
            warnings.warn(f"Method {method} {what}.", RuntimeWarning, stacklevel=4)
    for name, what in (("hess", "Hessian information"), ("hessp", "Hessian-vector product information")):
        if ignored.pop(name, None) is not None:
            warnings.warn(f"Method {method} does not use {what} ({name}).", RuntimeWarning, stacklevel=4)
    if ignored:
        warnings.warn(f"Unknown solver options: {', '.join(ignored)}", OptimizeWarning, stacklevel=4)
    tol = gtol if gtol is not None else 1e-6 if tol is None else tol
    maxiter = 10_000 if maxiter is None else maxiter
    check_real("tol", tol, low=0)
    check_integer("maxiter", maxiter, low=0)
    x = _start(x0)
    path = [x.copy()] if return_all else None
    function = _Function(fun, jac, args, 1.0)
    result = _Run(function, _rule(optimizer), x, float(tol), int(maxiter), None, callback, path).run()
    if disp:
        print(result.message)
        print(*(f"{key}: {result[key]:g}" for key in ("fun", "nit", "nfev", "njev")), sep="   ")
    return result


class _Function:
    """What is minimised, in x's shape and dtype: sign * fun, its gradient, and how often each was asked for.

    fun and jac get copies of x and of the rows' numbers each time: they may keep them, write in them, and hand them to
    code that wants a writeable buffer.
    """

    def __init__(self, fun: Any, jac: Any, args: Any, sign: float) -> None:
        if not callable(fun):
            fail("fun", "callable", fun, error=TypeError)
        if jac is not None and not isinstance(jac, (bool, np.bool_)) and not callable(jac):
            fail("jac", "callable, True or None", jac, "None differentiates numerically.", TypeError)
        self.fun, self.jac, self.sign = fun, jac, sign
        self.args = args if isinstance(args, tuple) else (args,)
        self.nfev = self.njev = 0
        self._both = jac is not None and not callable(jac) and bool(jac)
        self._last: tuple[Array, tuple[Any, ...], float] | None = None

    def value(self, x: Array, *rows: Any) -> float:
        self.nfev += 1
        if self._both:
            if not self._is_last(x, rows):
                self._value_and_gradient(x, rows)
            assert self._last is not None
            return self.sign * self._last[2]
        return self.sign * _number(self._call(self.fun, x, rows))

    def _call(self, function: Callable[..., Any], x: Array, rows: tuple[Any, ...]) -> Any:
        return function(x.copy(), *(numbers.copy() for numbers in rows), *self.args)

    def gradient(self, x: Array, *rows: Any) -> Array:
        """Of the same shape and dtype as x; what jac returned itself, if it can be."""
        self.njev += 1
        if self._both:
            g = self._value_and_gradient(x, rows)
        elif callable(self.jac):
            g = self._call(self.jac, x, rows)
        else:
            g = self._differences(x, rows)
        with np.errstate(over="ignore"):  # float32 can overflow here, which is for the loop to judge
            given = np.asarray(g)
            if given.dtype.kind not in "fiub":
                raise TypeError(f"jac must return real numbers; got an array of {given.dtype}.")
            g = np.asarray(given, dtype=x.dtype, order="C")
        if g.shape != x.shape:
            if g.size != 1 or x.size != 1:
                raise ValueError(f"jac must return an array of x0's shape, {x.shape}; got {g.shape}.")
            g = g.reshape(x.shape)
        return np.asarray(g if self.sign > 0 else -g)

    def _is_last(self, x: Array, rows: tuple[Any, ...]) -> bool:
        if self._last is None:
            return False
        same_rows = all(a is b for a, b in zip(rows, self._last[1], strict=True))
        return same_rows and np.array_equal(x, self._last[0])

    def _value_and_gradient(self, x: Array, rows: tuple[Any, ...]) -> Any:
        both = self._call(self.fun, x, rows)
        if not isinstance(both, (tuple, list)) or len(both) != 2:
            raise TypeError(f"fun must return (value, gradient) where jac=True; got {type(both).__name__}.")
        self._last = (x.copy(), rows, _number(both[0]))
        return both[1]

    def _differences(self, x: Array, rows: tuple[Any, ...]) -> Array:
        """The mean of scipy's forward and backward differences: central ones.

        Their error is of the order of the square of the step, not of the step, which forward differences would bring
        into a narrow valley's gradient. The steps are relative, where |x| > 1: an absolute one would vanish beside a
        large x.
        """
        at = np.asarray(x, dtype=np.float64)

        def flat(v: NDArray[np.float64]) -> float:
            self.nfev += 1
            return _number(self._call(self.fun, v.reshape(x.shape), rows))

        h = np.finfo(np.float64).eps ** (1 / 3) * np.maximum(1.0, np.abs(at.reshape(-1)))
        with np.errstate(all="ignore"):  # an overflow is for the loop to judge
            forward = approx_fprime(at.reshape(-1), flat, h)
            backward = approx_fprime(at.reshape(-1), flat, -h)
            return np.asarray((forward + backward) / 2).reshape(x.shape)


class _Rows:
    """Row numbers of the batches, epoch by epoch."""

    def __init__(self, n: int, batch_size: int, generator: Any) -> None:
        self.all = np.arange(n)
        self.batch_size, self.generator = batch_size, generator

    @property
    def full(self) -> bool:
        return self.batch_size == len(self.all)

    def __iter__(self) -> Iterator[NDArray[np.intp]]:
        order = shuffled(self.generator, len(self.all))
        for start in range(0, len(order), self.batch_size):
            yield order[start : start + self.batch_size]


class _Run:
    """One run: the loop, and what it knows so far."""

    def __init__(
        self, function: _Function, rule: Optimizer, x: Array, tol: float, max_iter: int, rows: _Rows | None,
        callback: Callable[..., Any] | None, path: list[Array] | None = None,
    ) -> None:  # fmt: skip
        if callback is not None and not callable(callback):
            fail("callback", "callable or None", callback, error=TypeError)
        self.function, self.rule, self.tol, self.max_iter, self.rows = function, rule, tol, max_iter, rows
        self.all: tuple[Any, ...] = () if rows is None else (rows.all,)
        # A batch of all rows is no batch: its gradient is the one to measure too.
        self.batches = rows if rows is not None and not rows.full else None
        self.callback, self.wants_result = callback, _wants_result(callback)
        self.path = path
        self.x, self.state = x, rule.init(x)
        rule._keep_start(x, self.state, 1.0)  # Ftrl's first step would forget x0
        self.start = x.copy()
        self.nit = 0
        self.best, self.best_norm = self.start.copy(), math.inf
        self.record, self.record_value, self.rises = 0.0, math.nan, 0

    def run(self) -> OptimizeResult:
        point, g, norm = self._measure()
        self.record = norm
        if not math.isfinite(norm):
            return self._result(DIVERGED, "The gradient is not finite at x0. Start elsewhere.", self.start, g)
        while True:
            if norm < self.best_norm or g is None:
                self.best_norm = norm
                np.copyto(self.best, point)
            if g is not None and norm <= self.tol:
                return self._result(CONVERGED, "The norm of the gradient is at most tol.", point, g)
            if self._grows(point, norm):
                verb = "rose" if self.function.sign > 0 else "fell"
                return self._diverged(f"the norm of the gradient grew to {norm:.2g} while fun {verb} all along")
            if self.nit == self.max_iter:
                return self._out_of_iterations(g)
            finite = self._advance(g)
            self.nit += 1
            if finite:
                point, g, norm = self._measure()
                finite = math.isfinite(norm) and _finite(point)
            if not finite:
                extremum = "minimum" if self.function.sign > 0 else "maximum"
                return self._diverged("x or the gradient is not finite", f", or fun has no {extremum}")
            try:
                self._report(norm)
            except StopIteration:
                solution = self._solution()
                g = g if solution is point or solution is self.x else None
                return self._result(STOPPED, "`callback` raised `StopIteration`.", solution, g)

    # ------------------------------------------------------------------------------------------------- the loop's parts

    def _measure(self) -> tuple[Array, Array | None, float]:
        """Where the gradient is compared with tol, the gradient and its norm there (None, 0: tol=0 needs none)."""
        if self.batches is None:
            g = self.function.gradient(self.x, *self.all)
            if self.callback is not None:  # which may call jac, and that may use one buffer for all it returns
                g = g.copy()
            return self.x, g, _norm(g)
        point = self._solution()
        if self.tol == 0:
            return point, None, 0.0
        g = self.function.gradient(point, *self.all)
        return point, g, _norm(g)

    def _advance(self, g: Array | None) -> bool:
        """One step against g, or an epoch of them; False where a batch's gradient is not finite."""
        if self.batches is None:
            assert g is not None
            self.rule.step(self.x, g, self.state)
            return True
        for rows in self.batches:
            g = self.function.gradient(self.x, rows)
            if not math.isfinite(_norm(g)):
                return False
            self.rule.step(self.x, g, self.state)
        return True

    def _solution(self) -> Array:
        return self.rule.averaged(self.x, self.state)

    def _grows(self, point: Array, norm: float) -> bool:
        """The divergence rule of the Notes; fun is evaluated at records only."""
        if not norm > 10 * self.record:
            return False
        before = self.record_value if self.record_value == self.record_value else self._value(self.start)
        self.record, self.record_value = norm, self._value(point)
        self.rises = 0 if self.record_value <= before else self.rises + 1
        return self.rises >= RISES

    def _value(self, x: Array) -> float:
        return self.function.value(x, *self.all)

    def _report(self, norm: float) -> None:
        if self.path is not None:
            self.path.append(self._solution().copy())
        if self.callback is None:
            return
        x = self._solution().copy()
        if self.wants_result:
            value = self.function.sign * self._value(x)
            self.callback(intermediate_result=OptimizeResult(x=x, fun=value, grad_norm=norm, nit=self.nit))
        else:
            self.callback(x)

    # ----------------------------------------------------------------------------------------------------- how runs end

    def _remedy(self, otherwise: str = "") -> str:
        rate = float(self.rule.rate(max(self.state["t"] - 1, 0)))
        return f"learning_rate={rate:g} is too large{otherwise}: try learning_rate={rate / 10:g}."

    def _diverged(self, why: str, otherwise: str = "") -> OptimizeResult:
        unit = "step" if self.batches is None else "epoch"
        message = f"Diverged in {unit} {self.nit}: {why}. {self._remedy(otherwise)} x is the best point seen."
        return self._result(DIVERGED, message, *self._best_point())

    def _best_point(self) -> tuple[Array, None, float]:
        """That of the smallest gradient, or x0 where fun is lower: on some functions gradients are small far out."""
        value, at_start = self._value(self.best), self._value(self.start)
        return (self.start, None, at_start) if _worse(value, at_start) else (self.best, None, value)

    def _out_of_iterations(self, g: Array | None) -> OptimizeResult:
        x, g = self._solution(), None if g is None else g.copy()  # fun may use one buffer for all that it returns
        if g is None or (x is not self.x and self.batches is None):
            g = self.function.gradient(x, *self.all)
            if _norm(g) <= self.tol:
                return self._result(CONVERGED, "The norm of the gradient is at most tol.", x, g)
        message = f"After {self.nit} iterations, the most allowed, the norm of the gradient is not yet at most tol."
        value = self._value(x)
        if self.nit and _worse(value, self._value(self.start)):
            above = "above" if self.function.sign > 0 else "below"
            message += f" fun ended {above} its value at x0: {self._remedy()}"
            return self._result(OUT_OF_ITERATIONS, message + " x is the best point seen.", *self._best_point())
        return self._result(OUT_OF_ITERATIONS, message, x, g, value)

    def _result(
        self, status: int, message: str, x: Array, g: Array | None, value: float | None = None
    ) -> OptimizeResult:
        if g is None:
            g = self.function.gradient(x, *self.all)
        sign = self.function.sign
        jac = sign * g  # a copy: fun may use one buffer for all that it returns
        value = self._value(x) if value is None else value
        result = OptimizeResult(
            x=x.copy(), fun=sign * value, jac=jac, nit=self.nit, nfev=self.function.nfev,
            njev=self.function.njev, success=status == CONVERGED, status=status, message=message,
        )  # fmt: skip
        if self.rows is not None:
            result.n_steps = self.state["t"]
        if self.path is not None:
            result.allvecs = self.path
        return result


def _start(x0: Any) -> Array:
    """A C-contiguous copy of x0, float32 or float64."""
    x = np.asarray(x0)
    if x.dtype.kind not in "fiub":
        fail("x0", "an array of real numbers", x0, error=TypeError)
    x = np.array(x, dtype=np.float32 if x.dtype == np.float32 else np.float64, order="C")
    if not np.isfinite(x).all():
        fail("x0", "finite", x0)
    return x


def _rule(optimizer: Any) -> Optimizer:
    rule = get(optimizer)
    if isinstance(rule.learning_rate, str):
        fail(
            "learning_rate", "a number or a schedule", rule.learning_rate,
            "Only linear models, whose curvature is known from the data, resolve 'auto'.",
        )  # fmt: skip
    return rule


def _batch_size(batch_size: Any, n: int, rule: Optimizer) -> int:
    if batch_size is None:
        return n if isinstance(rule, GradientDescent) else min(BATCH, n)
    wanted = "an integer in [1, n_samples] or 'full'"
    if isinstance(batch_size, str):
        if batch_size != "full":
            fail("batch_size", wanted, batch_size)
        return n
    check_integer("batch_size", batch_size, low=1, high=n, rule=wanted)
    return int(batch_size)


def _generator(rng: Any) -> Any:
    if isinstance(rng, np.random.RandomState):
        return rng
    try:
        return np.random.default_rng(rng)
    except (TypeError, ValueError):
        rule = "None, an integer >= 0, a SeedSequence, BitGenerator, Generator or RandomState"
        fail("rng", rule, rng, error=TypeError)


def _wants_result(callback: Any) -> bool:
    """Whether it has scipy's newer signature; built-in functions without one take x."""
    try:
        return callback is not None and set(inspect.signature(callback).parameters) == {"intermediate_result"}
    except ValueError:
        return False


def _number(value: Any) -> float:
    number = np.asarray(value)
    if number.size != 1 or number.dtype.kind not in "fiub":
        raise TypeError(f"fun must return one real number; got {type(value).__name__} of shape {number.shape}.")
    return float(number.item())


def _worse(value: float, at_start: float) -> bool:
    """NaN is worse than any number; where fun is NaN at x0 nothing is."""
    return not (value <= at_start or math.isnan(at_start))


def _finite(x: Array) -> bool:
    """Most often told by one pass that allocates nothing."""
    with np.errstate(all="ignore"):
        return math.isfinite(float(x.sum())) or bool(np.isfinite(x).all())


def _norm(g: Array) -> float:
    """Summed in float64."""
    return euclidean(np.asarray(g, dtype=np.float64))
