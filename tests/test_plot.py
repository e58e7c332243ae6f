"""fastopt.plot: what is drawn, and what is refused."""

import re
import subprocess
import sys

import numpy as np
import pytest
import scipy.optimize
from numpy.testing import assert_allclose, assert_array_equal

from fastopt import minimize, plot
from fastopt.optimizers import SGD

pyplot = pytest.importorskip("matplotlib.pyplot", reason="matplotlib is an extra")


@pytest.fixture(autouse=True)
def close_figures():
    pyplot.switch_backend("agg")
    yield
    pyplot.close("all")


def valley(x):
    return x[0] ** 2 + 20 * x[1] ** 2


def slope(x):
    return np.array([2 * x[0], 40 * x[1]])


def descent():
    path = [np.array([-4.0, 1.0])]
    minimize(valley, path[0], slope, optimizer=SGD(learning_rate=0.045), callback=path.append, max_iter=30)
    return path


def test_a_path_over_contours():
    path = descent()
    ax = plot.paths(valley, path, labels=["descent"], minimum=(0, 0))
    line, start, star = ax.lines
    assert_array_equal(line.get_xydata(), path)
    assert_array_equal(start.get_xydata(), path[:1])
    assert_array_equal(star.get_xydata(), [[0, 0]])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["descent"]
    (contours,) = ax.collections
    assert len(contours.levels) == 24
    low, high = ax.viewLim.min, ax.viewLim.max
    assert (low < np.min(path, axis=0)).all()
    assert (high > np.max(path, axis=0)).all()
    ax.figure.canvas.draw()


def test_results_with_their_iterates():
    options = {"return_all": True}
    ours = scipy.optimize.minimize(valley, [-4, 1], jac=slope, method=SGD(learning_rate=0.01), options=options)
    bfgs = scipy.optimize.minimize(valley, [-4, 1], jac=slope, method="BFGS", options=options)
    ax = plot.paths(valley, ours, bfgs, labels=["gradient descent", "BFGS"])
    assert len(ax.lines) == 4
    assert_array_equal(ax.lines[0].get_xydata(), ours.allvecs)
    assert_array_equal(ax.lines[2].get_xydata(), bfgs.allvecs)


def test_the_axes_and_the_window_are_the_callers():
    ax = pyplot.subplots()[1]
    points = []

    def fun(x):
        points.append(x)
        return valley(x)

    assert plot.paths(fun, [[0, 0], [1, 1]], ax=ax, bounds=((-2, 3), (-1, 4)), grid=5, levels=3) is ax
    assert (ax.get_xlim(), ax.get_ylim()) == ((-2, 3), (-1, 4))
    assert len(points) == 25
    assert_allclose(np.min(points, axis=0), [-2, -1])
    assert_allclose(np.max(points, axis=0), [3, 4])
    assert ax.get_legend() is None
    assert len(pyplot.get_fignums()) == 1


def test_contours_alone():
    ax = plot.paths(valley, bounds=((-1, 1), (-1, 1)))
    assert not ax.lines
    assert len(ax.collections) == 1


def test_iterates_and_values_that_are_not_finite():
    path = [[1, 1], [2, 2], [np.inf, 0], [np.nan, 1]]
    with np.errstate(all="ignore"):
        ax = plot.paths(lambda x: np.log(x[0]) + x[1], path, bounds=((-1, 3), (0, 3)))
    assert_array_equal(ax.lines[0].get_xydata(), [[1, 1], [2, 2]])
    ax.figure.canvas.draw()


def test_one_point_on_a_flat_function():
    ax = plot.paths(lambda x: 1.0, [[2.0, 3.0]])
    assert ax.get_xlim()[0] < 2 < ax.get_xlim()[1]


@pytest.mark.parametrize(
    ("paths", "kwargs", "text"),
    [
        ([[[1, 2, 3]]], {}, "a path must have shape (n, 2); got (1, 3)."),
        ([[1, 2]], {}, "a path must have shape (n, 2); got (2,)."),
        ([[[np.nan, 1]]], {}, "a path must have a finite point; got none."),
        ([scipy.optimize.OptimizeResult(x=[1, 2])], {}, "a result must have its iterates in allvecs; got one without."),
        ([], {}, "bounds must be ((low, high), (low, high)) where no path is given; got None."),
        ([], {"bounds": ((1, 0), (0, 1))}, "bounds must be ((low, high), (low, high)); got ((1, 0), (0, 1))."),
        ([[[1, 2]]], {"labels": []}, "labels must be one name for each of 1 paths; got []."),
        ([[[1, 2]]], {"grid": 1}, "grid must be an integer >= 2; got 1."),
        ([[[1, 2]]], {"levels": 0}, "levels must be an integer >= 2; got 0."),
    ],
)
def test_errors(paths, kwargs, text):
    with pytest.raises(ValueError, match=re.escape(text)):
        plot.paths(valley, *paths, **kwargs)


def test_what_is_no_history_is_refused():
    with pytest.raises(ValueError, match=r"history has 'epoch'; got \['a'\]"):
        plot.convergence({"a": [1.0]})


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    text = "fastopt.plot needs matplotlib. Install it: pip install 'fastopt[plot]'."
    with pytest.raises(ImportError, match=re.escape(text)):
        plot.paths(valley, [[1, 2]])


def test_fastopt_imports_no_matplotlib():
    code = "import sys, fastopt.plot; sys.exit('matplotlib' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
