"""Dual coordinate descent: the reference's steps, scikit-learn's minimisers, bounds that hold, honest ends."""

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
from cases import assert_close, interrupt_after, problem
from scipy.special import logsumexp, xlogy
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression as Peer
from sklearn.linear_model import Ridge
from sklearn.preprocessing import scale
from sklearn.svm import LinearSVC
from sklearn.utils.estimator_checks import parametrize_with_checks

from fastopt import LogisticRegression, reference
from fastopt._design import Design
from fastopt._kernels import dual
from fastopt.objective import Objective
from fastopt.solvers.sdca import DualEpochs, sdca
from fastopt.solvers.table import SOLVERS

#: test_sdca_softmax.py is for the softmax.
LOSS = pytest.mark.parametrize("loss", dual.LOSSES)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks([LogisticRegression(solver="sdca", tol=1e-10, max_iter=1000)])
def test_scikit_learns_checks(estimator, check):
    check(estimator)


# --- the kernel -------------------------------------------------------------------------------------------------------


@LOSS
@pytest.mark.parametrize("layout", ["dense", "csr32", "csr64"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("weighted", "c2"), [(False, 0.0), (True, 0.25)])
def test_every_visit_is_the_references(loss, layout, dtype, weighted, c2):
    p = problem(loss, layout, dtype, weighted=weighted)
    n, d = p.dense.shape
    design = Design.from_array(p.X).merged()
    s = np.empty(0) if p.sample_weight is None else p.sample_weight / p.sample_weight.mean()
    order = np.random.default_rng(3).permutation(np.tile(np.arange(n), 2))
    w, state = np.zeros(d + 1), reference.sdca_init(n, loss)
    mine, my_state = w.copy(), state.copy()
    squares = design.row_norms_squared
    assert_close(squares, (p.dense**2).sum(axis=1), 1e-14)
    kernel = dual.Dual(dual.LOSSES[loss], 1 / (0.01 * n), p.y, s, squares, my_state)
    kernel.c2 = c2
    call = dual.sparse if design.sparse else dual.dense
    for i in range(len(order)):
        w, state = reference.sdca_epoch(
            p.dense, p.y, w, state, l2=0.01, loss=loss, c2=c2, sample_weight=p.sample_weight, order=order[i : i + 1]
        )
        call(kernel, *design.arrays, mine, order, i, i + 1)
        assert_close(mine, w, 1e-10)
        assert_close(my_state, state, 1e-9)


@LOSS
@pytest.mark.parametrize("q", [1e-6, 1.0, 1e3, 1e9])
@pytest.mark.parametrize("z", [-1e4, -3.0, 0.0, 0.7, 1e4])
def test_a_visit_never_lowers_the_dual(loss, q, z):
    """D(a) = -conj(-a) - z (a - old) - q (a - old)^2 / 2 at the new a against the old one; visits converge to dloss."""
    conjugates = {
        "squared_error": lambda a, y: a * a / 2 - a * y,
        "hinge": lambda a, y: -a,
        "squared_hinge": lambda a, y: a * a / 4 - a,
        "log_loss": lambda a, y: xlogy(a, a) + xlogy(1 - a, 1 - a),
    }
    for y in (-1.0, 1.0):
        a, logit, at = 0.0, -20.0, z
        sign = 1.0 if loss == "squared_error" else y
        for _ in range(60):
            new, logit = reference.sdca_visit(y, at, q, a, logit, loss)
            gain = conjugates[loss](a, y) - conjugates[loss](new, y) - sign * at * (new - a) - q * (new - a) ** 2 / 2
            assert gain >= -1e-9 * max(1.0, abs(at), q)
            at += q * sign * (new - a)
            a = new
        slope = reference.LOSSES[loss][1](y, at)
        if loss != "hinge":
            assert sign * a == pytest.approx(-slope, rel=1e-6, abs=1e-7)
        else:
            assert 0 <= a <= 1
            assert abs(y * at - 1) < 1e-6 or a == (y * at < 1)


# --- two halves side by side ------------------------------------------------------------------------------------------


@pytest.fixture
def halving(monkeypatch):
    """However few the entries are."""
    monkeypatch.setattr("fastopt.solvers.sdca.HALVED", 0)


def short_rows(loss="log_loss", layout="csr32", alpha=10.0, **options):
    """An objective whose epochs are halved under `n_jobs`, and the problem."""
    p = problem(loss, layout, weighted=True)
    F = Objective(
        Design.from_array(p.X), p.y, loss=loss, alpha=alpha, n_outputs=p.n_outputs, sample_weight=p.sample_weight,
        **options,
    )  # fmt: skip
    return F, p


@LOSS
@pytest.mark.parametrize("layout", ["dense", "csr32"])
def test_halves_are_the_references_epochs_with_rows_twice_as_long(halving, loss, layout):
    """Each from the same w, which becomes the mean of both ends; and w is what the dual variables stand for."""
    F, p = short_rows(loss, layout, n_jobs=2)
    epochs, n = DualEpochs(F), F.n_samples
    assert epochs.halved
    w, state, center = epochs.w.copy(), epochs.state.copy(), epochs.center
    s = p.sample_weight / p.sample_weight.mean()
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(n)[: n - 1]  # an odd number: the first half has one row more
        before = state
        ends, parts = [], (order[: n // 2], order[n // 2 :])
        for part in parts:
            end, state = reference.sdca_epoch(
                p.dense, p.y, w, state, l2=F.l2 / 2, loss=loss, c2=epochs.c2, sample_weight=p.sample_weight, order=part
            )
            ends.append(end)
        w = (ends[0] + ends[1]) / 2
        estimate = epochs.run(order)
        steps = s * (state - before)[:, 0] / (F.l2 * n)
        assert_close(estimate, F.l2 * np.sqrt(((p.dense**2).sum(axis=1) + 1) @ steps**2), 1e-9)
        w[-1], center = 2 * w[-1] - center, w[-1]
        assert_close(epochs.state, state, 1e-9)
        assert_close(epochs.w, w, 1e-10)
        a = state[:, 0] if loss == "squared_error" else p.y * state[:, 0]
        assert_close(epochs.w[:-1], p.dense.T @ (s * a) / (F.l2 * n), 1e-10)


@pytest.mark.parametrize("loss", ["log_loss", "multinomial"])
def test_no_bit_depends_on_how_many_threads_there_are(halving, loss, monkeypatch):
    results = []
    for n_jobs, limit in ((2, 1), (2, 2), (3, None), (-1, 1)):
        monkeypatch.setattr("fastopt._parallel._threads.limit", limit)
        F, _ = short_rows(loss, n_jobs=n_jobs)
        results.append(sdca(F, F.zeros(), tol=1e-12, max_iter=7, rng=np.random.default_rng(0)))
    for result in results[1:]:
        np.testing.assert_array_equal(result.w, results[0].w)
        np.testing.assert_array_equal(result.history["objective"], results[0].history["objective"])


@pytest.mark.parametrize("loss", [loss for loss in SOLVERS["sdca"].losses if loss != "hinge"])  # hundreds of epochs
def test_halves_come_to_the_same_minimum(halving, loss):
    (F, _), (whole, _) = short_rows(loss, n_jobs=2), short_rows(loss)
    result, expected = (sdca(f, f.zeros(), tol=1e-9, max_iter=300, rng=np.random.default_rng(0)) for f in (F, whole))
    assert result.stop_reason == expected.stop_reason == "tol"
    np.testing.assert_allclose(result.w, expected.w, rtol=0, atol=1e-7)
    assert result.history["duality_gap"][-1] <= 1e-9


def test_who_is_halved():
    """Many short rows in memory, where n_jobs asks for it."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((1 << 15, 16)), rng.choice([-1.0, 1.0], 1 << 15)
    for many, alpha, n_jobs, expected in (
        (X, 1.0, 2, True), (X, 1.0, -1, True), (X, 1.0, None, False), (X, 1.0, 1, False), (X[:-1], 1.0, 2, False),
        (X, 1e-4, 2, False),
    ):  # fmt: skip
        F = Objective(Design.from_array(many), y[: len(many)], loss="log_loss", alpha=alpha, n_jobs=n_jobs)
        assert DualEpochs(F).halved == expected
    long = np.arange(len(X)) % 2 == 1
    for weights, expected in ((None, False), (np.where(long, 0.0, 1.0), True)):  # how long they are, as they weigh
        F = Objective(
            Design.from_array(np.where(long[:, None], 10 * X, X)), y, alpha=1e-3, n_jobs=2, sample_weight=weights
        )
        assert DualEpochs(F).halved == expected


@pytest.mark.parametrize("row", [0, 11, 23, 38])
def test_halves_refuse_an_entry_that_may_not_be_followed(halving, row):
    X, y = problem(layout="csr32", n=24 * 2).X, np.resize([-1.0, 1.0], 48)
    X.indices[X.indptr[row + 1] - 1] = 10**6
    F = Objective(Design.from_array(X, later=True), y, loss="log_loss", alpha=10.0, n_jobs=2)
    epochs = DualEpochs(F, later=True)
    assert epochs.later
    assert epochs.halved
    with pytest.raises(ValueError, match=f"row {row}"):
        epochs.run(np.random.default_rng(0).permutation(48))


# --- the minimum ------------------------------------------------------------------------------------------------------


def breast_cancer():
    X, y = load_breast_cancer(return_X_y=True)
    return scale(X), np.where(y == 1, 1.0, -1.0)


def solve(X, y, loss="log_loss", *, alpha=0.01, tol=1e-9, max_iter=3000, **options):
    F = Objective(Design.from_array(X), y, loss=loss, alpha=alpha, **options)
    return F, sdca(F, F.zeros(), tol=tol, max_iter=max_iter, rng=np.random.default_rng(0))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("C", [0.01, 0.3])
def test_logistic_minimum_is_newton_choleskys(C, fit_intercept, weighted):
    X, y = breast_cancer()
    s = np.random.default_rng(0).integers(0, 4, len(y)).astype(float) if weighted else None
    options = {"C": C, "fit_intercept": fit_intercept}
    ours = LogisticRegression(solver="sdca", tol=1e-8, max_iter=5000, **options).fit(X, y, s)
    peer = Peer(solver="newton-cholesky", tol=1e-12, max_iter=200, **options).fit(X, y, s)
    assert ours.converged_
    np.testing.assert_allclose(ours.coef_, peer.coef_, rtol=0, atol=1e-6)
    np.testing.assert_allclose(ours.intercept_, peer.intercept_, rtol=0, atol=1e-6)


def test_logistic_minimum_is_liblinears():
    X, y = breast_cancer()
    ours = LogisticRegression(solver="sdca", C=0.1, tol=1e-9, max_iter=5000, fit_intercept=False).fit(X, y)
    peer = Peer(solver="liblinear", C=0.1, tol=1e-12, max_iter=10000, fit_intercept=False).fit(X, y)
    np.testing.assert_allclose(ours.coef_, peer.coef_, rtol=0, atol=1e-6)


@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
def test_svm_minimum_is_liblinears(loss):
    X, y = breast_cancer()
    n, C = len(y), 0.01
    _, ours = solve(X, y, loss, alpha=1 / (C * n), fit_intercept=False, tol=1e-8 if loss == "hinge" else 1e-9)
    peer = LinearSVC(loss=loss, C=C, dual=True, fit_intercept=False, tol=1e-9, max_iter=10_000).fit(X, y)
    assert ours.converged
    np.testing.assert_allclose(ours.w[:, 0], peer.coef_[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
def test_squared_minimum_is_ridges(weighted):
    X, _ = breast_cancer()
    rng = np.random.default_rng(1)
    y = X @ rng.standard_normal(X.shape[1]) + 3 + rng.standard_normal(len(X))
    s = rng.random(len(y)) if weighted else np.ones(len(y))
    _, ours = solve(X, y, "squared_error", alpha=0.1, sample_weight=s)
    peer = Ridge(alpha=0.1 * s.sum(), solver="cholesky").fit(X, y, s)
    assert ours.converged
    np.testing.assert_allclose(ours.w[:-1, 0], peer.coef_, rtol=0, atol=1e-6)
    assert ours.w[-1, 0] == pytest.approx(peer.intercept_, abs=1e-6)


def test_hinge_with_a_free_intercept():
    """Against scipy on the smooth, constrained dual; the gap bounds the distance."""
    X, y = breast_cancer()
    X, y = X[:60, :5], y[:60]
    F, ours = solve(X, y, "hinge", alpha=0.1, tol=1e-6)
    K = (y[:, None] * X) @ (y[:, None] * X).T / (0.1 * len(y))

    def dual_problem(a):
        return (a @ K @ a / 2 - a.sum()) / len(y), (K @ a - 1) / len(y)

    found = scipy.optimize.minimize(
        dual_problem, np.full(60, 0.5), jac=True, bounds=[(0, 1)] * 60, method="SLSQP",
        constraints={"type": "eq", "fun": lambda a: a @ y, "jac": lambda a: y}, options={"ftol": 1e-15, "maxiter": 999},
    )  # fmt: skip
    assert ours.converged
    assert F.value(ours.w) == pytest.approx(-found.fun, abs=1e-7)


@LOSS
@pytest.mark.parametrize("fit_intercept", [False, True])
def test_csr_equals_dense_and_no_duplicate_matters(loss, fit_intercept):
    terms = {"alpha": 0.05, "fit_intercept": fit_intercept, "max_iter": 12, "tol": 0.0}
    p = problem(loss, "csr64", weighted=True)
    dense = solve(p.dense, p.y, loss, sample_weight=p.sample_weight, **terms)[1]
    sparse = solve(p.X, p.y, loss, sample_weight=p.sample_weight, **terms)[1]
    assert_close(sparse.w, dense.w, 1e-10)


@LOSS
@pytest.mark.parametrize("fit_intercept", [False, True])
def test_the_gap_bounds_the_distance_to_the_minimum(loss, fit_intercept):
    X, y = breast_cancer()
    _, best = solve(X, y, loss, fit_intercept=fit_intercept, tol=1e-7 if loss == "hinge" else 1e-10)
    for epochs in (1, 2, 5):
        _, early = solve(X, y, loss, fit_intercept=fit_intercept, tol=0.0, max_iter=epochs)
        gap = early.history["duality_gap"]
        assert len(gap) == len(early.history["epoch"])
        assert (gap >= early.history["objective"] - best.objective - 1e-12).all()
    assert best.history["duality_gap"][-1] < 1e-4 * best.history["duality_gap"][0]


def conjugate(loss, y, a):
    """Of the losses in z, at -a; a is where it is finite."""
    p = y * a
    if loss == "log_loss":
        return xlogy(p, p) + xlogy(1 - p, 1 - p)
    return {"squared_error": a * a / 2 - a * y, "hinge": -p, "squared_hinge": p * p / 4 - p}[loss]


@LOSS
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("n", [40, 200])
def test_the_dual_value_is_that_of_a_feasible_point(loss, weighted, fit_intercept, n):
    """Of a itself where every point is feasible; else at most that of one whose weighted sum is zero."""
    p = problem(loss, weighted=weighted, fit_intercept=fit_intercept, n=n)
    F, rng = p.objective(alpha=0.1), np.random.default_rng(0)
    s = np.ones(n) if p.sample_weight is None else p.sample_weight / p.sample_weight.mean()
    epochs, values = DualEpochs(F), []
    for epoch in range(8):
        if epoch:
            epochs.run(rng.permutation(n))
        a = epochs.state[:, 0].copy() if loss == "squared_error" else p.y * epochs.state[:, 0]
        before = a.copy()
        if fit_intercept and loss == "squared_error":
            a -= np.mean(s * a)
        elif fit_intercept:
            sums = [(s * a)[p.y == sign].sum() for sign in (-1.0, 1.0)]
            for sign, own, other in ((-1.0, *sums), (1.0, *sums[::-1])):
                if abs(own) > abs(other):
                    a[p.y == sign] *= abs(other) / abs(own)
        if fit_intercept:
            assert abs(np.sum(s * a)) <= 1e-12 * n
        w = p.dense.T @ (s * a) / (0.1 * n)
        dual_part = -np.mean(s * conjugate(loss, p.y, a))
        exact = dual_part - 0.05 * w @ w
        value = epochs.dual_value()
        assert value <= exact + 1e-13
        # w moves by no more than the lengths of the rows whose a changed.
        longest = np.linalg.norm(epochs.w[:-1]) + np.sum(s * np.abs(a - before) * np.linalg.norm(p.dense, axis=1)) / (
            0.1 * n
        )
        assert value == pytest.approx(dual_part - 0.05 * longest**2, abs=1e-12)
        values.append(exact - value)
    assert values[-1] <= 0.1 * max(values) + 1e-12


@pytest.mark.parametrize("loss", [loss for loss in dual.LOSSES if loss != "hinge"])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_best_intercept_is_the_minimum_over_it_alone(loss, weighted):
    p = problem(loss, weighted=weighted, n=200)
    F = p.objective(alpha=0.1)
    w = np.random.default_rng(0).standard_normal(p.shape)
    w[-1] = 0
    w[-1] = DualEpochs(F, 1e-8).best_intercept(F.raw_prediction(w))
    slope = reference.gradient(p.dense, p.y, w, alpha=0.1, **p.terms)[-1, 0]
    assert abs(slope) <= 1e-11


# --- ends -------------------------------------------------------------------------------------------------------------


@LOSS
def test_converged_is_measured(loss):
    X, y = breast_cancer()
    _, result = solve(X, y, loss, tol=1e-4)
    assert result.converged
    assert result.stop_reason == "tol"
    assert result.objective == pytest.approx(reference.objective(X, y, result.w, loss=loss, alpha=0.01), rel=1e-12)
    if loss != "hinge":
        norm = np.linalg.norm(reference.gradient(X, y, result.w, loss=loss, alpha=0.01))
        assert result.grad_norm == pytest.approx(norm, rel=1e-6)
        assert norm <= 1e-4


def test_the_data_are_gone_through_for_few_measurements():
    X, y = breast_cancer()
    _, result = solve(X, y, tol=0.0, max_iter=100)
    assert result.history["epoch"].tolist() == [0, 4, 8, 16, 32, 64, 100]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_float32_and_conditioning(dtype):
    X, y = breast_cancer()
    X = (X * np.logspace(0, -3, X.shape[1])).astype(dtype)
    F, result = solve(X, y, alpha=1e-3, tol=1e-5)
    assert result.converged
    assert result.w.dtype == dtype
    peer = Peer(solver="newton-cholesky", C=1 / (1e-3 * len(y)), tol=1e-10).fit(X.astype(float), y)
    np.testing.assert_allclose(result.w[:-1, 0], peer.coef_[0], rtol=0, atol=2e-2 * np.abs(peer.coef_).max())
    assert F.value(np.append(peer.coef_, peer.intercept_)) == pytest.approx(result.objective, rel=1e-6)


def test_separable_data_and_next_to_no_penalty():
    X, y = load_iris(return_X_y=True)
    X, y = X[:100], np.where(y[:100] == 1, 1.0, -1.0)
    _, result = solve(X, y, alpha=1e-8, tol=1e-3, max_iter=2000)
    assert np.isfinite(result.w).all()
    assert result.converged
    assert (np.sign(X @ result.w[:-1, 0] + result.w[-1, 0]) == y).all()


@pytest.mark.parametrize(
    ("n", "n_classes", "size", "C", "last"),
    [
        (50, 2, 1.0, 100.0, 16), (50, 2, 1e3, 1.0, 16), (50, 2, 1e6, 1.0, 0), (50, 3, 1e3, 1.0, 0),
        (50, 3, 1e6, 1.0, 0), (5000, 2, 1e6, 0.01, 0), (5000, 3, 1e3, 1.0, 0), (5000, 3, 1e6, 1.0, 0),
    ],
)  # fmt: skip
def test_the_best_parameters_are_returned_where_f_rose(n, n_classes, size, C, last):
    """Among them the start: on long rows epochs end far above it."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, 4))
    y = (X[:, 0] + 0.3 * rng.standard_normal(n) > 0) * 1 + (n_classes == 3) * (X[:, 1] > 0)
    with pytest.warns(ConvergenceWarning):
        model = LogisticRegression(solver="sdca", C=C, max_iter=20, random_state=0).fit(X * size, y)
    history, alpha = model.history_, 1 / (C * n)
    assert model.n_iter_ == 20
    assert model.objective_ == history["objective"][-1] == history["objective"].min() <= np.log(n_classes) + 1e-12
    assert model.grad_norm_ == history["grad_norm"][-1]
    assert len(history["duality_gap"]) == len(history["epoch"])
    z = X * size @ model.coef_.T + model.intercept_
    z = np.column_stack([-z / 2, z / 2]) if n_classes == 2 else z
    value = (logsumexp(z, axis=1) - z[np.arange(n), y]).mean() + alpha / 2 * np.sum(model.coef_**2)
    assert model.objective_ == pytest.approx(value, rel=1e-9)
    assert np.isfinite(model.grad_norm_)
    assert history["epoch"][-2:].tolist() == [20, last]


def test_a_warm_start_at_the_minimum_stays():
    X, y = breast_cancer()
    model = LogisticRegression(solver="sdca", warm_start=True, C=0.1, tol=1e-6, max_iter=1000).fit(X, y)
    coef = model.coef_
    assert model.fit(X, y).n_iter_.tolist() == [0]
    np.testing.assert_array_equal(model.coef_, coef)
    model.set_params(C=0.11).fit(X, y)
    assert model.converged_


@pytest.mark.parametrize("loss", SOLVERS["sdca"].losses)
@pytest.mark.parametrize("size", [1e154, 1e160, 1e200])
def test_rows_whose_squares_overflow_end_it_at_the_best(loss, size):
    """Honestly, and without an exception: F there is no higher than at the start."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((30, 3)) * size, rng.choice([-1.0, 1.0], 30)
    y, K = (y > 0, 2) if loss == "multinomial" else (y, 1)
    F = Objective(Design.from_array(X), y.astype(float), loss=loss, alpha=0.1, n_outputs=K)
    with np.errstate(over="ignore", invalid="ignore"):
        result = sdca(F, F.zeros(), tol=1e-6, max_iter=20, rng=np.random.default_rng(0))
        assert result.stop_reason != "tol"
        assert np.isfinite(result.w).all()
        assert result.objective <= F.value(F.zeros())


def test_ctrl_c_keeps_what_was_measured(monkeypatch):
    X, y = breast_cancer()
    for epochs, kept in ((0, 0), (6, 4)):
        with monkeypatch.context() as patched:
            interrupt_after(patched, DualEpochs, epochs)
            F, result = solve(X, y, tol=0.0)
        assert result.stop_reason == "interrupted"
        assert result.n_iter == kept == result.history["epoch"][-1]
        assert result.objective == F.value(result.w)
        assert len(result.history["duality_gap"]) == len(result.history["epoch"])


@pytest.mark.parametrize("options", [{"alpha": 0.0}, {"alpha": 0.1, "l1_ratio": 0.5}, {"alpha": 0.1, "l1_ratio": 1.0}])
def test_what_it_cannot_do(options):
    X, y = breast_cancer()
    with pytest.raises(ValueError, match=r"^alpha must be > 0, with l1_ratio 0, for the solver 'sdca'; got "):
        solve(X, y, **options)


def test_the_estimators_errors_name_who_can():
    X, y = load_iris(return_X_y=True)
    others = "Use 'lbfgs' or 'newton' or 'newton-cg' or 'saga'"
    with pytest.raises(ValueError, match=rf"F without an L2 penalty; got 'sdca'\. {others}\.$"):
        LogisticRegression(solver="sdca", C=np.inf).fit(X[:100], y[:100])
    with pytest.raises(ValueError, match=r"F without an L2 penalty; got 'sdca'\. .*Use 'lbfgs' or 'newton'"):
        LogisticRegression(solver="sdca", C=np.inf).fit(X, y)
    F = Objective(Design.from_array(X), np.eye(3)[y] * 2 - 1, alpha=0.1, n_outputs=3)
    assert SOLVERS["sdca"].obstacle(F) == "3 outputs at once"  # one-vs-rest


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_warm_start_goes_on_from_the_coefficients(fit_intercept):
    X = np.random.default_rng(0).standard_normal((300, 5))
    y = X[:, 0] > 0
    model = LogisticRegression(solver="sdca", fit_intercept=fit_intercept, warm_start=True, tol=1e-6, max_iter=200)
    coef = model.fit(X, y).coef_
    model.fit(X, y)
    assert model.n_iter_[0] <= 1
    np.testing.assert_allclose(model.coef_, coef, rtol=0, atol=1e-4)


def test_an_intercept_beyond_float32_is_no_warning():
    """Of float32 columns far from zero and next to no penalty; the best parameters measured are kept."""
    rng = np.random.default_rng(0)
    X = (1e4 + rng.standard_normal((600, 12))).astype(np.float32)
    y = np.where(X[:, 0] + rng.logistic(size=600) > 1e4, 1, 0)
    model = LogisticRegression(C=1e10, solver="sdca", random_state=0)
    with pytest.warns(ConvergenceWarning):
        model.fit(X, y)
    assert np.isfinite(model.coef_).all()
    assert model.objective_ <= np.log(2) + 1e-6
