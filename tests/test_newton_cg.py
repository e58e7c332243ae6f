"""solver="newton-cg": products with kept curvature, steps, factors, minima by scikit-learn and the reference."""

import warnings

import numpy as np
import pytest
import scipy.sparse
from cases import LAYOUTS, assert_close, problem
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression as Peer
from sklearn.linear_model import LogisticRegressionCV as PeerCV
from test_newton import SMOOTH, logistic

from fastopt import LogisticRegression, LogisticRegressionCV, reference
from fastopt._design import Design
from fastopt.losses import LOSSES
from fastopt.objective import Objective
from fastopt.solvers import newton_cg as module
from fastopt.solvers.newton_cg import ConjugateDescent, newton_cg
from fastopt.solvers.resume import Course
from fastopt.solvers.table import SOLVERS


def kept_at(F, w):
    raw = F.room_for_raw()
    F.smooth_value_and_gradient(w, raw)
    return raw


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("fit_intercept", [False, True])
def test_products_with_kept_curvature(loss, layout, dtype, weighted, fit_intercept):
    p = problem(loss, layout, dtype, weighted=weighted, fit_intercept=fit_intercept)
    F, rng = p.objective(alpha=0.3), np.random.default_rng(0)
    w, v = rng.standard_normal(p.shape), rng.standard_normal(p.shape)
    raw = kept_at(F, w)
    before = raw.copy()
    np.testing.assert_array_equal(F.hessian_product(w, v, F.bends(raw)), F.hessian_product(w, v))
    np.testing.assert_array_equal(raw, before)


@pytest.mark.parametrize("weights", ["none", "rows", "each"])
def test_products_of_several_outputs(weights):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((700, 5)), rng.choice([-1.0, 1.0], (700, 3))
    s = {"none": None, "rows": rng.random(700), "each": rng.random((700, 3))}[weights]
    F = Objective(Design.from_array(X), y, alpha=0.1, n_outputs=3, sample_weight=s)
    w, v = rng.standard_normal(F.shape), rng.standard_normal(F.shape)
    np.testing.assert_array_equal(F.hessian_product(w, v, F.bends(kept_at(F, w))), F.hessian_product(w, v))
    result = newton_cg(F, F.zeros(), tol=1e-9, max_iter=50)
    assert result.stop_reason == "tol"
    for c in range(3):
        t = s[:, c] if weights == "each" else s
        alone = Objective(Design.from_array(X), y[:, c].copy(), alpha=0.1, sample_weight=t)
        assert np.linalg.norm(alone.gradient(result.w[:, c : c + 1])) <= 1e-9


def test_step_length_of_predictions_that_a_pass_has_kept():
    F, rng = logistic(n_outputs=3), np.random.default_rng(0)
    w, v = rng.standard_normal(F.shape), rng.standard_normal(F.shape)
    slope = float(np.vdot(F.gradient(w), v))
    kept, moved = kept_at(F, w), kept_at(F, w + v)
    assert F.step_length(w, v, slope, kept, moved) == pytest.approx(F.step_length(w, v, slope), rel=1e-9)


@pytest.mark.parametrize("n_outputs", [1, 3])
@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("alpha", [0.0, 1e-3])
def test_the_optimum(n_outputs, fit_intercept, alpha):
    """By the reference's gradient, from zeros and from elsewhere, where F itself is flat to rounding."""
    F = logistic(n_outputs=n_outputs, fit_intercept=fit_intercept, alpha=alpha)
    for start in [F.zeros(), np.random.default_rng(1).standard_normal(F.shape)]:
        result = newton_cg(F, start, tol=1e-9, max_iter=100)
        assert result.stop_reason == "tol"
        g = reference.gradient(
            F.design.values, F.y, result.w, loss=F.loss.name, alpha=F.alpha, fit_intercept=fit_intercept
        )
        assert np.linalg.norm(g) <= 1.01e-9
        assert result.grad_norm == pytest.approx(np.linalg.norm(g), abs=1e-13)


@pytest.mark.parametrize("loss", [name for name in SMOOTH if LOSSES[name].targets != "multiclass"])
@pytest.mark.parametrize("weighted", [False, True])
def test_every_smooth_loss(loss, weighted):
    p = problem(loss, n=200, weighted=weighted)
    result = newton_cg(p.objective(alpha=0.1), np.zeros(p.shape), tol=1e-7, max_iter=300)
    assert result.stop_reason == "tol"
    assert np.linalg.norm(reference.gradient(p.dense, p.y, result.w, alpha=0.1, **p.terms)) <= 1.01e-7


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("kind", ["dense", "csr", "float32"])
def test_scikit_learns_minimum(n_classes, fit_intercept, kind):
    """Columns that are nearly one and of many scales, weights, some of them zero."""
    rng = np.random.default_rng(n_classes)
    X = (rng.standard_normal((400, 30)) + 3 * rng.standard_normal((400, 1))) * 10.0 ** rng.uniform(-1, 1, 30) + 1
    X[rng.random(X.shape) < 0.5] = 0
    y = (X / X.std(axis=0) @ rng.standard_normal((30, n_classes)) + rng.gumbel(size=(400, n_classes))).argmax(axis=1)
    s = rng.integers(0, 3, 400).astype(float)
    X = X.astype(np.float32)
    given = {"dense": X.astype(np.float64), "csr": scipy.sparse.csr_array(X.astype(np.float64)), "float32": X}[kind]
    options = {"C": 10.0, "fit_intercept": fit_intercept}
    model = LogisticRegression(solver="newton-cg", tol=1e-8, **options).fit(given, y, s)
    assert (model.solver_, model.converged_) == ("newton-cg", True)
    for solver in ("newton-cholesky", "newton-cg"):
        peer = Peer(solver=solver, tol=1e-10, max_iter=1000, **options).fit(X.astype(np.float64), y, s)
        np.testing.assert_allclose(model.coef_, peer.coef_, atol=1e-5 * np.abs(peer.coef_).max())
        np.testing.assert_allclose(model.predict_proba(given), peer.predict_proba(X.astype(float)), atol=1e-5)


def test_cross_validation():
    F = logistic(300)
    old = hasattr(PeerCV(), "use_legacy_attributes")
    new = {"l1_ratios": (0,), "use_legacy_attributes": False, "scoring": "accuracy"} if old else {}
    model = LogisticRegressionCV(Cs=[0.1, 1.0], cv=3, solver="newton-cg", tol=1e-7, **new).fit(F.design.values, F.y)
    best = LogisticRegression(C=np.ravel(model.C_)[0], tol=1e-9, solver="newton").fit(F.design.values, F.y)
    np.testing.assert_allclose(model.coef_, best.coef_, atol=1e-5)


def test_with_l1_newton_runs():
    F = logistic(300)
    model = LogisticRegression(solver="newton-cg", l1_ratio=1.0, C=0.1).fit(F.design.values, F.y)
    assert (model.solver_, model.converged_) == ("newton", True)
    assert SOLVERS["newton-cg"].obstacle(logistic(300, l1_ratio=0.5)) == "an L1 penalty"


def test_float32_unless_that_costs_convergence():
    F = logistic(dtype=np.float32)
    assert newton_cg(F, F.zeros(), tol=1e-5, max_iter=50).w.dtype == np.float32
    exact = newton_cg(F, F.zeros(), tol=1e-10, max_iter=50)
    assert (exact.w.dtype, exact.stop_reason) == (np.float64, "tol")


def correlated(n, d, n_outputs=3, sparse=False, **options):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, 3)) @ rng.standard_normal((3, d)) + 0.3 * rng.standard_normal((n, d))
    y = (X @ rng.standard_normal((d, n_outputs)) + rng.gumbel(size=(n, n_outputs))).argmax(axis=1)
    X = scipy.sparse.csr_array(X) if sparse else X
    loss = "multinomial" if n_outputs > 1 else "log_loss"
    y = y.astype(float) if n_outputs > 1 else np.where(X[:, [0]].sum(axis=1) > 0, 1.0, -1.0)
    return Objective(Design.from_array(X), y, loss=loss, n_outputs=n_outputs, **{"alpha": 1e-5} | options)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("fit_intercept", [False, True])
def test_factors_leave_few_steps(sparse, weighted, fit_intercept, monkeypatch):
    """Columns that hang together: with factors of one output's Hessian half the products, at the same minimum."""
    s = np.random.default_rng(1).random(600) if weighted else None
    F = correlated(600, 40, sparse=sparse, sample_weight=s, fit_intercept=fit_intercept, alpha=1e-2)
    counts, product = [], Objective.hessian_product

    def count(self, *at):
        counts[-1] += 1
        return product(self, *at)

    monkeypatch.setattr(Objective, "hessian_product", count)
    results = []
    for due in (0, np.inf):
        monkeypatch.setattr(module, "steps_of_factors", lambda F, due=due: due)
        counts.append(0)
        results.append(newton_cg(F, F.zeros(), tol=1e-8, max_iter=100))
        assert results[-1].stop_reason == "tol"
    assert 2 * counts[0] < counts[1]
    assert_close(results[0].w[:-1], results[1].w[:-1], 1e-3)


def test_factors_of_a_sample(monkeypatch):
    F = correlated(5000, 10)
    assert module.sample(F).n_samples < 1100
    assert module.sample(correlated(5000, 10, sparse=True)).n_samples == 5000
    monkeypatch.setattr(module, "steps_of_factors", lambda F: 0)
    result = newton_cg(F, F.zeros(), tol=1e-9, max_iter=50)
    assert result.stop_reason == "tol"
    assert np.linalg.norm(F.gradient(result.w)) <= 1e-9


def test_one_hot_groups():
    """From coefficients whose means within groups are far from zero, as they are at the minimum."""
    rng, sizes = np.random.default_rng(0), np.array([3, 5, 30])
    columns = (rng.random((400, 3)) * sizes).astype(int) + np.array([0, 3, 8])
    X = scipy.sparse.csr_array((np.ones(1200), columns.ravel(), np.arange(0, 1201, 3)), shape=(400, 38))
    y = rng.choice([-1.0, 1.0], 400)
    F = Objective(Design.from_array(X), y, alpha=1e-3)
    far = newton_cg(F, rng.standard_normal(F.shape) + 5, tol=1e-9, max_iter=100)
    near = newton_cg(F, F.zeros(), tol=1e-9, max_iter=100)
    assert far.stop_reason == near.stop_reason == "tol"
    assert_close(far.w, near.w, 1e-5)


def test_no_step_raises_F():
    """From far off, where whole Newton steps diverge, and where the losses have no curvature left."""
    for far in (30.0, 1e4):
        F = logistic(alpha=1e-6)
        descent = ConjugateDescent(F, np.full(F.shape, far))
        values = [descent.value]
        while np.linalg.norm(descent.gradient) > 1e-9 and len(values) < 100 and descent.step(1e-9):
            values.append(descent.value)
        assert (np.diff(values) <= 1e-12 * values[0]).all()
        assert np.linalg.norm(descent.gradient) <= 1e-9


@pytest.mark.filterwarnings("error")
def test_separable_without_penalty_ends():
    """There is no minimum: the gradient's norm gets to tol all the same, without a warning of NumPy's."""
    X = np.array([[0.0], [1.0], [2.0], [3.0]])
    model = LogisticRegression(solver="newton-cg", C=np.inf, tol=1e-6).fit(X, [0, 0, 1, 1])
    assert model.converged_
    assert model.score(X, [0, 0, 1, 1]) == 1


@pytest.mark.parametrize("scale", [1e-300, 1e-150, 1e150, 1e300])
def test_numbers_at_the_ends_of_what_there_is(scale):
    """It ends, it warns of nothing but convergence, and never above the start."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((100, 3)) * [scale, 1.0, 0.0]
    y = rng.integers(0, 3, 100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(solver="newton-cg").fit(X, y)
    assert model.objective_ <= model.history_["objective"][0]
    assert np.isfinite(model.coef_).all()
    assert model.stop_reason_ in ("tol", "stalled")


def test_what_is_below_rounding_stalls():
    F = logistic(400, alpha=0.1)
    result = newton_cg(F, F.zeros(), tol=0.0, max_iter=100)
    assert (result.stop_reason, result.n_iter < 20) == ("stalled", True)
    assert result.grad_norm < 1e-14


def test_columns_that_say_nothing():
    """A column twice, one of zeros, one of ones; no penalty."""
    X = np.random.default_rng(0).standard_normal((300, 3))
    X = np.column_stack([X, X[:, 0], np.zeros(300), np.ones(300)])
    y = np.where(X[:, 1] + np.random.default_rng(1).logistic(size=300) > 0, 1.0, -1.0)
    result = newton_cg(F := Objective(Design.from_array(X), y), F.zeros(), tol=1e-10, max_iter=50)
    assert result.stop_reason == "tol"
    assert np.abs(result.w).max() < 10


def test_ctrl_c_keeps_the_last_whole_step(monkeypatch):
    F = logistic(500)
    three = newton_cg(F, F.zeros(), tol=1e-9, max_iter=3)
    step, taken = ConjugateDescent.step, []

    def interrupted(self, tol):
        taken.append(1)
        if len(taken) > 3:
            self.direction(0.0)
            raise KeyboardInterrupt
        return step(self, tol)

    monkeypatch.setattr(ConjugateDescent, "step", interrupted)
    result = newton_cg(F, F.zeros(), tol=1e-9, max_iter=50)
    assert (result.stop_reason, result.n_iter) == ("interrupted", 3)
    np.testing.assert_array_equal(result.w, three.w)


@pytest.mark.parametrize("k", range(6))
@pytest.mark.parametrize("n_outputs", [1, 3])
def test_goes_on_to_the_same_bits(k, n_outputs):
    """Before factors and after they were made twice."""
    F = correlated(600, 40, n_outputs=n_outputs)
    whole = newton_cg(F, F.zeros(), tol=1e-8, max_iter=50)
    course = Course()
    newton_cg(F, F.zeros(), tol=1e-8, max_iter=k, course=course)
    again = newton_cg(F, F.zeros(), tol=1e-8, max_iter=50, course=course)
    np.testing.assert_array_equal(again.w, whole.w)
    assert again.n_iter == whole.n_iter
    np.testing.assert_array_equal(again.history["objective"], whole.history["objective"])
