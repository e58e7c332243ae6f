"""F in the span of few rows of many columns: the same F, gradient and minimum, whatever solver works there."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse
from sklearn.linear_model import LogisticRegression as Peer

from fastopt import LogisticRegression
from fastopt._design import Design
from fastopt.objective import Objective
from fastopt.solvers import auto as module
from fastopt.solvers.auto import Attempt, attempts, auto
from fastopt.solvers.monitor import Reporter
from fastopt.solvers.row_space import RowSpace
from fastopt.solvers.table import SOLVERS

LAYOUT = pytest.mark.parametrize("layout", ["dense", "csr"])


def rows(layout, n=30, d=200, dtype=np.float64):
    """Rows of which some are alike, one is a sum of others (exactly, in float32 too) and one is zero."""
    rng = np.random.default_rng(0)
    X = rng.integers(-200, 200, (n, d)) / 128 * (rng.random((n, d)) < 0.2) * 2.0 ** rng.integers(-3, 4, d)
    X[3], X[4], X[5] = X[2], X[0] + 2 * X[1], 0
    return X.astype(dtype) if layout == "dense" else scipy.sparse.csr_array(X.astype(dtype))


def objective(layout, *, n_outputs=1, weighted=False, dtype=np.float64, **options):
    X, rng = rows(layout, dtype=dtype), np.random.default_rng(1)
    n = X.shape[0]
    y = rng.integers(0, n_outputs, n).astype(float) if n_outputs > 1 else rng.choice([-1.0, 1.0], n)
    options |= {"loss": "multinomial", "n_outputs": n_outputs} if n_outputs > 1 else {}
    weights = rng.integers(0, 4, n).astype(float) if weighted else None
    return Objective(Design.from_array(X), y, alpha=0.01, sample_weight=weights, **options)


@LAYOUT
@pytest.mark.parametrize("n_outputs", [1, 3])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_f_and_its_gradient_are_the_same(layout, n_outputs, fit_intercept, weighted, dtype):
    F = objective(layout, n_outputs=n_outputs, fit_intercept=fit_intercept, weighted=weighted, dtype=dtype)
    space = RowSpace(F)
    X = rows(layout, dtype=dtype)
    X = X if layout == "dense" else X.toarray()
    assert space.narrow.n_features == np.linalg.matrix_rank(X.astype(np.float64)) == 27
    u = np.random.default_rng(2).standard_normal(space.narrow.shape)
    w = space.outside(u)
    assert w.shape == F.shape
    value, gradient = F.value_and_gradient(w)
    narrow_value, narrow_gradient = space.narrow.value_and_gradient(u)
    np.testing.assert_allclose(narrow_value, value, rtol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(narrow_gradient), np.linalg.norm(gradient), rtol=1e-9)
    np.testing.assert_allclose(space.inside(w), u, rtol=0, atol=1e-9)


def test_what_is_outside_the_span_is_left_out():
    F = objective("dense")
    space, w = RowSpace(F), np.random.default_rng(0).standard_normal((201, 1))
    inside = space.outside(space.inside(w))
    np.testing.assert_allclose(rows("dense") @ inside[:-1], rows("dense") @ w[:-1], atol=1e-10)
    assert np.linalg.norm(inside[:-1]) < np.linalg.norm(w[:-1])
    assert inside[-1] == w[-1]


@LAYOUT
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("C", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_minimum_is_scikit_learns(layout, n_classes, C, dtype):
    X, y = rows(layout, dtype=dtype), np.random.default_rng(1).integers(0, n_classes, 30)
    ours = LogisticRegression(C=C, tol=1e-7, random_state=0).fit(X, y)
    peer = Peer(C=C, solver="newton-cg", tol=1e-9, max_iter=1000).fit(X.astype(np.float64), y)
    assert ours.converged_
    assert ours.coef_.shape == peer.coef_.shape
    np.testing.assert_allclose(ours.coef_, peer.coef_, rtol=0, atol=3e-3 * np.abs(peer.coef_).max())
    np.testing.assert_allclose(ours.predict_proba(X), peer.predict_proba(X.astype(np.float64)), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("n", "d", "density", "n_outputs", "factor", "first"),
    [
        (100, 1_000, 1.0, 1, 100.0, [Attempt("newton", in_span=True), Attempt("newton-cg"), Attempt("lbfgs")]),
        (100, 1_000, 1.0, 5, 100.0, [Attempt("newton-cg", in_span=True), Attempt("newton-cg")]),
        (100, 1_000, 1.0, 1, 1.0, [Attempt("sdca", 32), Attempt("newton", in_span=True), Attempt("newton-cg")]),
        (600, 30_000, 1.0, 1, 100.0, [Attempt("newton-cg"), Attempt("lbfgs")]),
        (100, 1_000, 0.05, 1, 100.0, [Attempt("newton", in_span=True), Attempt("newton-cg")]),
        (600, 30_000, 0.001, 1, 100.0, [Attempt("sdca", 32), Attempt("newton-cg")]),
        (600, 30_000, 0.001, 1, 1.0, [Attempt("sdca", 64), Attempt("newton-cg")]),
        (600, 900, 1.0, 1, 100.0, [Attempt("newton-cg")]),
    ],
)
def test_what_is_tried(n, d, density, n_outputs, factor, first):
    rng = np.random.default_rng(0)
    X = scipy.sparse.random_array((n, d), density=density, format="csr", rng=rng)
    X.data *= factor / np.sqrt(density * d / 3)  # rows of length `factor`
    y = rng.integers(0, n_outputs, n).astype(float) if n_outputs > 1 else rng.choice([-1.0, 1.0], n)
    terms = {"loss": "multinomial", "n_outputs": n_outputs} if n_outputs > 1 else {}
    F = Objective(Design.from_array(X if density < 1 else X.toarray()), y, alpha=1 / n, **terms)
    assert attempts(F)[: len(first)] == first
    for other in ({"l1_ratio": 0.5}, {"alpha": 0.0}):
        same = Objective(F.design, y, **({"alpha": 1 / n} | terms | other))
        assert not any(attempt.in_span or attempt.most <= 32 for attempt in attempts(same))


@pytest.mark.parametrize("value", [0.0, 1e200, 1e-200])
def test_rows_without_a_span_in_range_are_left_to_the_others(value):
    X, y = np.full((20, 100), value), np.arange(20) % 2
    F = Objective(Design.from_array(X), 2.0 * y - 1, alpha=0.1)
    assert not any(attempt.in_span for attempt in attempts(F))


@pytest.mark.parametrize("scale", [1e6, 1e9])
def test_columns_of_unlike_scales_converge_on_all_of_the_data(scale):
    """Where rounding in X X' hides the small columns, the norm measured on X says so, and another solver goes on."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40, 400)) * np.where(np.arange(400) < 3, scale, 1.0)
    y = rng.integers(0, 2, 40)
    F = Objective(Design.from_array(X), 2.0 * y - 1, alpha=0.01)
    name, result = auto(F, F.zeros(), tol=1e-6, max_iter=1000, rng=lambda: np.random.RandomState(0))
    assert (name, result.stop_reason) == ("newton+newton", "tol")
    assert np.linalg.norm(F.gradient(result.w)) <= 1e-6


def test_the_next_goes_on_from_where_it_stalled_in_the_span(monkeypatch):
    F = objective("dense")
    calls = []

    def stalls(narrow, u, **options):
        calls.append(narrow.n_features)
        return module.SOLVERS["lbfgs"].run(narrow, u, **{**options, "max_iter": 1})

    table = dict(module.SOLVERS)
    monkeypatch.setattr(module, "attempts", lambda F: [Attempt("first", 1, in_span=True), Attempt("lbfgs")])
    monkeypatch.setattr(module, "SOLVERS", table | {"first": replace(table["lbfgs"], run=stalls)})
    shown = []
    reporter = Reporter(on_epoch=lambda epoch, w: shown.append((epoch, None if w is None else np.shape(w))))
    name, result = auto(F, F.zeros(), tol=1e-8, max_iter=500, rng=lambda: None, verbose=reporter)
    assert (name, calls, result.stop_reason) == ("first+lbfgs", [27], "tol")
    assert np.linalg.norm(F.gradient(result.w)) <= 1e-8
    assert [epoch for epoch, _ in shown[:2]] == [0, 1]
    assert {shape for _, shape in shown if shape is not None} == {(201, 1)}
    assert result.history["epoch"].tolist() == list(range(result.n_iter + 1))
    assert (np.diff(result.history["objective"]) < 0).all()


@LAYOUT
def test_the_last_measurement_is_that_of_the_coefficients(layout):
    X, y = rows(layout, dtype=np.float32), np.random.default_rng(1).integers(0, 2, 30)
    model = LogisticRegression(tol=1e-6, random_state=0).fit(X, y)
    F = Objective(Design.from_array(X), np.where(y, 1.0, -1.0), alpha=1 / 30)
    w = np.vstack([model.coef_.T, model.intercept_])
    value, gradient = F.value_and_gradient(w)
    assert model.history_["objective"][-1] == model.objective_ == value
    assert model.history_["grad_norm"][-1] == model.grad_norm_ == np.linalg.norm(gradient) <= 1e-6


@LAYOUT
def test_float32_coefficients_are_float64_where_rounding_would_cost_convergence(layout):
    F = objective(layout, dtype=np.float32)
    for tol, dtype in ((1e-4, np.float32), (1e-10, np.float64)):
        name, result = auto(F, F.zeros(), tol=tol, max_iter=1000, rng=lambda: np.random.RandomState(0))
        assert (name.split("+")[0], result.w.dtype, result.stop_reason) == ("newton", dtype, "tol")
        assert result.grad_norm == np.linalg.norm(F.gradient(result.w)) <= tol
    space = RowSpace(F)
    found = SOLVERS["newton"].run(space.narrow, space.narrow.zeros(), tol=1e-10, max_iter=100)
    exact = space.result(found, 1e-10)
    assert (exact.w.dtype, exact.stop_reason) == (np.float64, "tol")
    # Where no type will do it is told; rounded, where that is as good.
    lost = space.result(found, 0.0)
    assert (lost.w.dtype, lost.stop_reason) == (np.float64, "stalled")
    assert space.result(found, 1e-3).w.dtype == np.float32


def test_a_warm_start_goes_on_from_the_coefficients():
    X, y = rows("dense"), np.random.default_rng(1).integers(0, 2, 30)
    model = LogisticRegression(tol=1e-8, warm_start=True, C=0.01).fit(X, y)
    cold = LogisticRegression(tol=1e-8, C=0.011).fit(X, y)
    model.set_params(C=0.011).fit(X, y)
    assert model.history_["objective"][0] < cold.history_["objective"][0]
    np.testing.assert_allclose(model.coef_, cold.coef_, atol=1e-6)
