"""Pictures, with matplotlib (``pip install fastopt[plot]``): paths of iterates over contours, the course of fits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastopt._validation import check_choice, check_integer, fail

__all__ = ["convergence", "paths"]

#: Of the iterates' extent, left free around them on each side.
MARGIN = 0.15


def paths(
    fun: Callable[[NDArray[np.float64]], Any],
    *iterates: Any,
    labels: Sequence[str] | None = None,
    bounds: tuple[tuple[float, float], tuple[float, float]] | None = None,
    minimum: Any = None,
    levels: int = 24,
    grid: int = 120,
    ax: Any = None,
) -> Any:
    """Draws paths of iterates over the contours of a function of two variables.

    Parameters
    ----------
    fun : callable
        ``fun(x) -> float``, x of shape (2,); called grid * grid times.
    *iterates : array-like of shape (n, 2), or OptimizeResult with ``allvecs``
        One path each, from its start on. A callback collects it: ``path = [x0]; minimize(..., callback=path.append)``;
        scipy's methods, these rules among them, have the option return_all. Iterates that are not finite are left out.
    labels : sequence of str or None
        A name for each path, for the legend.
    bounds : ((low, high), (low, high)) or None
        Of both axes; None: room for all iterates.
    minimum : array-like of shape (2,), (n, 2) or None
        Points to mark with a star.
    levels : int, default 24
        Number of contours. They lie closer together where fun is low.
    grid : int, default 120
        Values of fun along each axis.
    ax : matplotlib.axes.Axes or None
        Where to draw; None: a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        Without matplotlib.
    ValueError
        If a path is not of shape (n, 2), or without paths and bounds.

    Examples
    --------
    >>> import numpy as np
    >>> from fastopt import minimize, plot
    >>> from fastopt.optimizers import SGD
    >>> def valley(x):
    ...     return x[0] ** 2 + 20 * x[1] ** 2
    >>> def slope(x):
    ...     return np.array([2 * x[0], 40 * x[1]])
    >>> path = [np.array([-4.0, 1.0])]
    >>> result = minimize(valley, path[0], slope, optimizer=SGD(learning_rate=0.045), callback=path.append)
    >>> ax = plot.paths(valley, path, labels=["gradient descent"], minimum=(0, 0))
    >>> ax.figure.savefig("zigzag.svg")  # doctest: +SKIP
    """
    check_integer("levels", levels, low=2)
    check_integer("grid", grid, low=2)
    lines = [_line(one) for one in iterates]
    if labels is not None and len(labels) != len(lines):
        fail("labels", f"one name for each of {len(lines)} paths", labels)
    window = _window(lines, bounds)
    pyplot = _pyplot()
    if ax is None:
        ax = pyplot.subplots(layout="constrained")[1]
    axes = [np.linspace(low, high, grid) for low, high in window]
    values = np.array([[float(fun(np.array([x, y]))) for x in axes[0]] for y in axes[1]])
    heights = _levels(values, levels)
    ax.contour(*axes, values, levels=heights, colors="0.75", linestyles="solid", linewidths=0.6, zorder=1)
    for i, line in enumerate(lines):
        size = 3 if len(line) <= 100 else 0
        name = None if labels is None else labels[i]
        (drawn,) = ax.plot(*line.T, "-o", markersize=size, linewidth=1.1, label=name, zorder=2 + i)
        ax.plot(*line[:1].T, "o", markersize=6, color=drawn.get_color(), markeredgecolor="white", zorder=20)
    if minimum is not None:
        ax.plot(*np.atleast_2d(np.asarray(minimum, dtype=float)).T, "k*", markersize=10, linestyle="none", zorder=21)
    ax.set(xlim=window[0], ylim=window[1], xlabel="$x_1$", ylabel="$x_2$")
    if labels is not None and lines:
        ax.legend(loc="best", framealpha=0.9)
    return ax


def convergence(
    *estimators: Any,
    y: str = "objective",
    x: str = "epoch",
    labels: Sequence[str] | None = None,
    best: float | None = None,
    ax: Any = None,
) -> Any:
    """Draws how fits went: the gap of F, or the norm of its gradient, against epochs or seconds.

    Parameters
    ----------
    *estimators : fitted estimators, or dicts like their `history_`
        One curve each.
    y : "objective" or "grad_norm", default "objective"
        The objective less `best`, or the gradient's norm; both on a logarithmic scale. Values that are not measured
        (NaN) are left out.
    x : "epoch" or "seconds", default "epoch"
    labels : sequence of str or None
        For the legend; None: the solver's or optimizer's name, else the class's.
    best : float or None
        F's minimum; None: the lowest value of all curves, whose own point is then left out. Only compare fits that
        minimise the same F.
    ax : matplotlib.axes.Axes or None
        Where to draw; None: a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        Without matplotlib.
    ValueError
        If an estimator is not fitted, or without one.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.preprocessing import scale
    >>> from fastopt import LogisticRegression, plot
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> fits = [LogisticRegression(solver=s, C=0.1, tol=3e-2, random_state=0).fit(scale(X), y) for s in ("gd", "lbfgs")]
    >>> ax = plot.convergence(*fits, y="grad_norm")
    >>> ax.figure.savefig("convergence.svg")  # doctest: +SKIP
    """
    check_choice("y", y, ("objective", "grad_norm"))
    check_choice("x", x, ("epoch", "seconds"))
    if not estimators:
        raise ValueError("convergence must be given at least one fitted estimator; got none.")
    if labels is not None and len(labels) != len(estimators):
        fail("labels", f"one name for each of {len(estimators)} fits", labels)
    curves = [_curve(one, x, y) for one in estimators]
    if y == "objective":
        known = [curve[1].min() for curve in curves if curve.shape[1]]
        lowest = best if best is not None else min(known, default=0.0)
        curves = [curve - np.array([[0.0], [lowest]]) for curve in curves]
    pyplot = _pyplot()
    if ax is None:
        ax = pyplot.subplots(layout="constrained")[1]
    names = labels if labels is not None else [_name(one) for one in estimators]
    for curve, name in zip(curves, names, strict=True):
        shown = curve[:, curve[1] > 0]
        ax.plot(*shown, "-o", markersize=3 if shown.shape[1] <= 100 else 0, linewidth=1.2, label=name)
    ax.set(yscale="log", xlabel={"epoch": "epochs", "seconds": "seconds"}[x])
    ax.set_ylabel("F - lowest F" if y == "objective" else "norm of F's gradient")
    ax.legend(loc="best", framealpha=0.9)
    return ax


def _curve(fitted: Any, x: str, y: str) -> NDArray[np.float64]:
    """Rows x and y of a fit, where y was measured."""
    history = fitted if hasattr(fitted, "keys") else getattr(fitted, "history_", None)
    if history is None:
        raise ValueError(f"convergence must be given fitted estimators; got {fitted!r}. Call its fit first.")
    if missing := [name for name in (x, y) if name not in history]:
        raise ValueError(f"convergence must be given fits whose history has {missing[0]!r}; got {list(history)}.")
    curve = np.array([history[x], history[y]], dtype=np.float64)
    return curve[:, np.isfinite(curve).all(axis=0)]


def _name(fitted: Any) -> str:
    for attribute in ("solver_", "optimizer"):
        name = getattr(fitted, attribute, None)
        if name is not None:
            return str(getattr(name, "name", name))
    return type(fitted).__name__


def _pyplot() -> Any:
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError("fastopt.plot needs matplotlib. Install it: pip install 'fastopt[plot]'.") from error
    return pyplot


def _line(iterates: Any) -> NDArray[np.float64]:
    if hasattr(iterates, "keys"):
        if "allvecs" not in iterates:
            raise ValueError(
                "a result must have its iterates in allvecs; got one without. "
                "Ask for them by options={'return_all': True}, or collect them by a callback."
            )
        iterates = iterates["allvecs"]
    line = np.asarray(iterates, dtype=np.float64)
    if line.ndim != 2 or line.shape[1] != 2:
        raise ValueError(f"a path must have shape (n, 2); got {line.shape}.")
    line = line[np.isfinite(line).all(axis=1)]
    if not len(line):
        raise ValueError("a path must have a finite point; got none.")
    return line


def _window(lines: list[NDArray[np.float64]], bounds: Any) -> list[tuple[float, float]]:
    if bounds is None:
        if not lines:
            fail("bounds", "((low, high), (low, high)) where no path is given", bounds)
        points = np.concatenate(lines)
        low, high = points.min(axis=0), points.max(axis=0)
        room = MARGIN * np.where(high > low, high - low, 2.0)
        return list(zip((low - room).tolist(), (high + room).tolist(), strict=True))
    window = np.asarray(bounds, dtype=np.float64)
    if window.shape != (2, 2) or not np.isfinite(window).all() or not (window[:, 0] < window[:, 1]).all():
        fail("bounds", "((low, high), (low, high))", bounds)
    return [(float(low), float(high)) for low, high in window]


def _levels(values: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """Between the extremes, by cubes: narrow valleys keep their contours beside high walls."""
    finite = values[np.isfinite(values)]
    low, high = (float(np.min(finite)), float(np.max(finite))) if finite.size else (0.0, 0.0)
    if not low < high:
        high = low + 1.0
    return low + (high - low) * np.linspace(0, 1, n + 2)[1:-1] ** 3
