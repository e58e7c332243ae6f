"""SAGA: the reference's steps, scikit-learn's minimisers with and without L1, and honest ends."""

import warnings

import numpy as np
import pytest
import scipy.sparse
from cases import ELASTIC_NET, assert_close, interrupt_after, problem
from sklearn.datasets import load_breast_cancer, load_digits, load_iris
from sklearn.linear_model import ElasticNet
from sklearn.linear_model import LogisticRegression as Peer
from sklearn.preprocessing import scale
from sklearn.utils.estimator_checks import parametrize_with_checks

from fastopt import LogisticRegression, reference
from fastopt._design import Design
from fastopt.losses import LOSSES
from fastopt.objective import Objective
from fastopt.solvers.saga import SagaEpochs, saga

SMOOTH = [*reference.CURVATURES, "multinomial"]
LOSS = pytest.mark.parametrize("loss", SMOOTH)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks([LogisticRegression(solver="saga", tol=1e-11, max_iter=5000)])
def test_scikit_learns_checks(estimator, check):
    check(estimator)


def test_all_bounded_curvatures_are_there():
    assert set(SMOOTH) == {name for name, loss in LOSSES.items() if loss.max_curvature < np.inf}


# --- the kernel -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss", "classes"), [*((loss, 0) for loss in SMOOTH), *(("multinomial", K) for K in (4, 5, 8, 9, 16, 17, 40))]
)
@pytest.mark.parametrize("layout", ["dense", "csr32", "csr64"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("l1", [0.0, 0.01])
def test_every_step_is_the_references(loss, classes, layout, dtype, l1):
    p = problem(loss, layout, dtype, weighted=l1 > 0)
    n, d = p.dense.shape
    K = classes or p.n_outputs
    y = np.random.default_rng(4).integers(0, K, n).astype(float) if classes else p.y
    F = Objective(
        Design.from_array(p.X), y, loss=loss, alpha=0.02, l1_ratio=l1 / 0.02, sample_weight=p.sample_weight, n_outputs=K
    )
    epochs = SagaEpochs(F)
    assert epochs.design.distinct
    epochs.use(0.5)
    stored = p.dense != 0
    if epochs.design.sparse:
        keep = scipy.sparse.csr_array(
            (np.ones(len(epochs.design.values)), epochs.design.indices, epochs.design.indptr), shape=(n, d)
        )
        stored = keep.toarray() != 0
    X = np.where(stored & (p.dense == 0), 1e-300, p.dense)  # a stored zero is stepped on, too
    shares = np.maximum(stored.sum(axis=0), 1) / n if epochs.design.sparse else None
    w, average, table = np.zeros((d + 1, K)), np.zeros((d + 1, K)), np.zeros((n, K))
    order = np.random.default_rng(3).permutation(np.tile(np.arange(n), 2))
    steps = epochs._step.astype(np.float64)
    for i in range(len(order)):
        pull = i >= n
        epochs._kernel.pull = float(pull)
        w, average, table = reference.saga_epoch(
            X, y, w, average, table, steps=steps, loss=loss, l1=F.l1, l2=F.l2, sample_weight=p.sample_weight,
            shares=shares, pull=pull, order=order[i : i + 1],
        )  # fmt: skip
        epochs._calls[0](epochs._kernel, *epochs.design.arrays, *epochs._state, order, i, i + 1)
        tolerance = 1e-9 if dtype == np.float64 else 2e-4
        assert_close(epochs.w, w, tolerance)
        assert_close(epochs.average, average, tolerance)
        assert_close(epochs.table, table, tolerance)
        assert not epochs.cells[..., K:].any() or K == 1  # what fills a column's outputs up to whole vectors


def test_the_first_epochs_are_the_references():
    """The first from zero goes without the average, which is still to be filled, and by a tenth of the step."""
    p = problem()
    F = Objective(Design.from_array(p.X), p.y, alpha=0.02)
    (n, d), epochs, rng = F.design.shape, SagaEpochs(F), np.random.default_rng(0)
    w, average, table = np.zeros((d + 1, 1)), np.zeros((d + 1, 1)), np.zeros((n, 1))
    for k, part in enumerate((0.1, 0.33, 0.5)):
        epochs.use(part)
        w, average, table = reference.saga_epoch(
            p.dense, p.y, w, average, table, steps=epochs._step.astype(np.float64), l2=F.l2, pull=k > 0,
            order=rng.permutation(n),
        )  # fmt: skip
        result = saga(F, F.zeros(), tol=0.0, max_iter=k + 1, rng=np.random.default_rng(0))
        assert_close(result.w, w, 1e-12)
        assert result.objective == pytest.approx(reference.objective(p.dense, p.y, w, alpha=0.02), rel=1e-12)


@LOSS
@pytest.mark.parametrize("layout", ["dense", "csr32"])
def test_renew_measures_and_makes_the_table_new(loss, layout):
    p = problem(loss, layout, weighted=True)
    F = Objective(
        Design.from_array(p.X), p.y, loss=loss, alpha=0.02, l1_ratio=0.5, sample_weight=p.sample_weight,
        n_outputs=p.n_outputs,
    )  # fmt: skip
    epochs = SagaEpochs(F)
    epochs.w[:] = np.random.default_rng(0).standard_normal(epochs.w.shape)
    value, norm = epochs.renew()
    assert value == pytest.approx(F.value(epochs.w), rel=1e-12)
    assert norm == pytest.approx(np.linalg.norm(F.gradient(epochs.w)), rel=1e-10)
    z = p.dense @ epochs.w[:-1] + epochs.w[-1]
    slopes = reference.LOSSES[loss][1](p.y, z if loss == "multinomial" else z[:, 0]).reshape(z.shape)
    slopes = slopes * (p.sample_weight / p.sample_weight.mean())[:, None]
    np.testing.assert_allclose(epochs.table, slopes, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(epochs.average[:-1], p.dense.T @ slopes / len(p.y), rtol=1e-9, atol=1e-12)


# --- the minimum ------------------------------------------------------------------------------------------------------


def breast_cancer():
    X, y = load_breast_cancer(return_X_y=True)
    return scale(X), np.where(y == 1, 1.0, -1.0)


def solve(X, y, loss="log_loss", *, alpha=0.01, tol=1e-8, max_iter=5000, w=None, **options):
    F = Objective(Design.from_array(X), y, loss=loss, alpha=alpha, **options)
    start = F.zeros() if w is None else w
    return F, saga(F, start, tol=tol, max_iter=max_iter, rng=np.random.default_rng(0))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("sparse", [False, True])
def test_logistic_minimum_is_newton_choleskys(sparse, fit_intercept, weighted):
    X, y = breast_cancer()
    X = np.where(X > 0.3, X, 0.0)
    s = np.random.default_rng(0).integers(0, 4, len(y)).astype(float) if weighted else None
    options = {"C": 0.1, "fit_intercept": fit_intercept}
    ours = LogisticRegression(solver="saga", tol=1e-8, max_iter=5000, **options)
    ours.fit(scipy.sparse.csr_array(X) if sparse else X, y, s)
    peer = Peer(solver="newton-cholesky", tol=1e-12, max_iter=200, **options).fit(X, y, s)
    assert ours.converged_
    np.testing.assert_allclose(ours.coef_, peer.coef_, rtol=0, atol=1e-6)
    np.testing.assert_allclose(ours.intercept_, peer.intercept_, rtol=0, atol=1e-6)


@pytest.mark.parametrize("l1_ratio", [0.3, 1.0])
@pytest.mark.parametrize("sparse", [False, True])
def test_l1_minimum_is_scikit_learns_saga(sparse, l1_ratio):
    X, y = breast_cancer()
    X = np.where(X > 0.3, X, 0.0)
    ours = LogisticRegression(solver="saga", C=0.1, l1_ratio=l1_ratio, tol=1e-8, max_iter=5000)
    ours.fit(scipy.sparse.csr_array(X) if sparse else X, y)
    peer = Peer(solver="saga", C=0.1, l1_ratio=l1_ratio, tol=1e-12, max_iter=20000, random_state=0, **ELASTIC_NET)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of the releases that want a penalty="elasticnet" beside it
        peer.fit(X, y)
    assert ours.converged_
    assert 0 < (ours.coef_ == 0).sum() < X.shape[1]
    np.testing.assert_allclose(ours.coef_, peer.coef_, rtol=0, atol=1e-5)


@pytest.mark.parametrize("l1_ratio", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("load", [load_iris, load_digits])
def test_softmax_minimum_is_lbfgss(load, sparse, fit_intercept, l1_ratio):
    X, y = load(return_X_y=True)
    X = X[::3] / X.max()
    s = np.random.default_rng(0).integers(0, 4, len(X)).astype(float)
    X = scipy.sparse.csr_array(X) if sparse else X
    options = {"C": 3.0 / len(y), "l1_ratio": l1_ratio, "fit_intercept": fit_intercept, "max_iter": 5000}
    ours, theirs = (
        LogisticRegression(solver=solver, tol=1e-7, **options).fit(X, y[::3], s) for solver in ("saga", "lbfgs")
    )
    assert ours.converged_
    assert ours.solver_ == "saga"
    np.testing.assert_allclose(ours.coef_, theirs.coef_, rtol=0, atol=2e-5)
    np.testing.assert_allclose(ours.intercept_ - ours.intercept_.mean(), theirs.intercept_ - theirs.intercept_.mean(),
                               rtol=0, atol=2e-5)  # fmt: skip


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("l1_ratio", [0.3, 1.0])
def test_softmax_l1_minimum_is_scikit_learns_saga(l1_ratio):
    X, y = load_iris(return_X_y=True)
    X = scale(X)
    ours = LogisticRegression(solver="saga", C=0.1, l1_ratio=l1_ratio, tol=1e-9, max_iter=5000).fit(X, y)
    peer = Peer(solver="saga", C=0.1, l1_ratio=l1_ratio, tol=1e-12, max_iter=20000, random_state=0, **ELASTIC_NET)
    peer.fit(X, y)
    assert ours.converged_
    assert (ours.coef_ == 0).any()
    np.testing.assert_allclose(ours.coef_, peer.coef_, rtol=0, atol=1e-5)


@pytest.mark.parametrize("l1_ratio", [0.3, 1.0])
def test_squared_minimum_is_coordinate_descents(l1_ratio):
    X, _ = breast_cancer()
    rng = np.random.default_rng(1)
    y = X @ rng.standard_normal(X.shape[1]) + 3 + rng.standard_normal(len(X))
    _, ours = solve(X, y, "squared_error", alpha=0.3, l1_ratio=l1_ratio)
    peer = ElasticNet(alpha=0.3, l1_ratio=l1_ratio, tol=1e-14, max_iter=1_000_000).fit(X, y)
    assert ours.converged
    assert ((ours.w[:-1, 0] == 0) == (peer.coef_ == 0)).all()
    np.testing.assert_allclose(ours.w[:-1, 0], peer.coef_, rtol=0, atol=1e-6)
    assert ours.w[-1, 0] == pytest.approx(peer.intercept_, abs=1e-6)


@LOSS
@pytest.mark.parametrize("sparse", [False, True])
def test_every_smooth_loss_converges(loss, sparse):
    p = problem(loss, "csr32" if sparse else "dense", weighted=True)
    _, result = solve(p.X, p.y, loss, alpha=0.1, sample_weight=p.sample_weight, tol=1e-6, n_outputs=p.n_outputs)
    assert result.converged
    terms = {"loss": loss, "alpha": 0.1, "sample_weight": p.sample_weight}
    assert np.linalg.norm(reference.gradient(p.dense, p.y, result.w, **terms)) <= 1.001e-6


# --- ends -------------------------------------------------------------------------------------------------------------


def test_the_data_are_gone_through_for_few_measurements():
    X, y = breast_cancer()
    _, result = solve(X, y, tol=0.0, max_iter=40)
    assert result.history["epoch"].tolist() == [0, 4, 8, 16, 32, 40]


@pytest.mark.parametrize("scales", [1e-3, 1e3])
@pytest.mark.parametrize("sparse", [False, True])
def test_unscaled_columns(scales, sparse):
    """Never worse than the start, and the end says what was measured."""
    X, y = breast_cancer()
    X = X * np.logspace(0, np.log10(scales), X.shape[1])
    F, result = solve(scipy.sparse.csr_array(X) if sparse else X, y, alpha=1e-4, tol=1e-4, max_iter=300)
    assert np.isfinite(result.w).all()
    assert result.objective == pytest.approx(F.value(result.w), rel=1e-9)
    assert result.objective < 0.5 * np.log(2)
    assert result.converged == (result.grad_norm <= 1e-4)


def test_float32():
    X, y = breast_cancer()
    _, result = solve(X.astype(np.float32), y, tol=1e-5)
    assert result.converged
    assert result.w.dtype == np.float32
    assert np.linalg.norm(reference.gradient(X.astype(np.float32), y, result.w.astype(float), alpha=0.01)) <= 1.1e-5


def test_separable_data_without_a_penalty():
    X, y = load_iris(return_X_y=True)
    X, y = X[:100], np.where(y[:100] == 1, 1.0, -1.0)
    _, result = solve(X, y, alpha=0.0, tol=1e-3, max_iter=1000)
    assert result.converged
    assert (np.sign(X @ result.w[:-1, 0] + result.w[-1, 0]) == y).all()


def test_a_column_that_no_row_has_goes_to_zero():
    X, y = breast_cancer()
    X = np.column_stack([np.where(X > 0.3, X, 0.0), np.zeros(len(y))])
    _, result = solve(scipy.sparse.csr_array(X), y, w=np.full((X.shape[1] + 1, 1), 0.5), tol=1e-6)
    assert result.converged
    assert result.w[-2, 0] == 0


@pytest.mark.parametrize("penalty", [{"l1_ratio": 1.0}, {"C": np.inf}], ids=str)
@pytest.mark.parametrize("fill", [0.0, 1e-38])
@pytest.mark.parametrize("d", [1, 2])
@pytest.mark.parametrize("layout", [np.asarray, scipy.sparse.csr_array])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_of_next_to_nothing_leave_the_intercept(dtype, layout, d, fill, penalty):
    """Whose best is the logarithm of the classes' ratio."""
    X, y = np.full((5, d), fill, dtype), [0, 0, 0, 0, 1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = LogisticRegression(solver="saga", tol=1e-5, **penalty).fit(layout(X), y)
    assert model.intercept_ == pytest.approx(np.log(1 / 4), abs=1e-3)


def test_a_warm_start_at_the_minimum_stays():
    X, y = breast_cancer()
    model = LogisticRegression(solver="saga", warm_start=True, C=0.1, tol=1e-6, max_iter=1000).fit(X, y)
    coef = model.coef_
    assert model.fit(X, y).n_iter_.tolist() == [0]
    np.testing.assert_array_equal(model.coef_, coef)


def test_what_was_measured_best_is_the_result(monkeypatch):
    """Where the last epochs led up again; the history tells of both."""
    X, y = breast_cancer()
    run, done = SagaEpochs.run, []

    def astray(self, order, **options):
        estimate = run(self, order, **options)
        done.append(estimate)
        self.w[0] += 0.5 * (len(done) == 6)
        return estimate

    monkeypatch.setattr(SagaEpochs, "run", astray)
    F, result = solve(X, y, tol=0.0, max_iter=6)
    values = result.history["objective"]
    assert (result.stop_reason, result.n_iter, result.history["epoch"].tolist()) == ("max_iter", 6, [0, 4, 6, 4])
    assert values[1] < values[2] < values[0]
    assert result.objective == values[1] == pytest.approx(F.value(result.w), rel=1e-12)


def test_what_would_take_far_too_long_is_left_early():
    """As soon as measurements foretell it; only if asked to."""
    X, y = breast_cancer()
    F = Objective(Design.from_array(X), y, alpha=1e-6)
    settings = {"tol": 1e-8, "max_iter": 100}
    early = saga(F, F.zeros(), **settings, rng=np.random.default_rng(0), foretell=True)
    whole = saga(F, F.zeros(), **settings, rng=np.random.default_rng(0))
    assert early.stop_reason == "stalled"
    assert early.n_iter <= 16
    assert (whole.stop_reason, whole.n_iter) == ("max_iter", 100)


def test_ctrl_c_keeps_what_was_measured(monkeypatch):
    X, y = breast_cancer()
    for epochs, kept in ((0, 0), (6, 4)):
        with monkeypatch.context() as patched:
            interrupt_after(patched, SagaEpochs, epochs)
            F, result = solve(X, y, tol=0.0)
        assert result.stop_reason == "interrupted"
        assert result.n_iter == kept == result.history["epoch"][-1]
        assert result.objective == pytest.approx(F.value(result.w), rel=1e-12)
