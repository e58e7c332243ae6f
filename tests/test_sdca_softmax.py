"""Dual coordinate descent with the softmax loss: the reference's steps, one row's exact maximum, L-BFGS's minimum."""

import itertools

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
from cases import assert_close, csr, interrupt_after, problem
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax, wrightomega, xlogy
from sklearn.datasets import load_digits, load_iris
from sklearn.linear_model import LogisticRegression as Peer
from sklearn.preprocessing import scale

from fastopt import LogisticRegression, reference
from fastopt._design import Design
from fastopt._kernels import dual_softmax
from fastopt.objective import Objective
from fastopt.solvers.lbfgs import lbfgs
from fastopt.solvers.sdca import SoftmaxEpochs, sdca

# --- a visit ----------------------------------------------------------------------------------------------------------


def visit(z, q, log_p):
    """The kernel's new log p of a row of raw predictions z; nothing but the intercepts moves, by q (old - new)."""
    state, room = np.array([log_p]), np.zeros(dual_softmax.Softmax.room_for(len(z)))
    kernel = dual_softmax.Softmax(1.0, np.zeros(1), np.empty(0), np.zeros(1), state, room)
    kernel.c2 = q
    w = np.zeros((2, kernel.width))
    w[1, : len(z)] = z
    dual_softmax.dense(kernel, np.zeros((1, 1)), w.reshape(-1), np.zeros(1, np.intp), 0, 1)
    np.testing.assert_allclose(w[1, : len(z)], z + q * (np.exp(log_p) - np.exp(state[0])), rtol=1e-9, atol=1e-12 * q)
    assert not w[1, len(z) :].any()
    return state[0]


def exact(z, q, old):
    """The p that maximises the dual, by Brent's method on lambda and SciPy's omega function."""
    x = z + q * old
    x = x - x.max()

    def p(lam):
        return wrightomega(x + lam + np.log(q)) / q

    low, high = q / len(z) - np.log(len(z)) - 1, q + 1
    return p(scipy.optimize.brentq(lambda lam: p(lam).sum() - 1, low, high, xtol=1e-14 * max(1.0, q), rtol=1e-15))


def ascent(new, z, q, old):
    """How far the dual is at `new` above its value at `old`."""
    return xlogy(old, old).sum() - xlogy(new, new).sum() + z @ (new - old) - q / 2 * ((new - old) ** 2).sum()


SIZES = st.integers(-4, 3).map(lambda power: 10.0**power)


@given(
    st.sampled_from([2, 3, 4, 5, 8, 10, 17, 40]), st.floats(-12, 12), SIZES, st.sampled_from(["corner", "inside", "z"]),
    SIZES, st.integers(0, 2**32 - 1),
)  # fmt: skip
@settings(max_examples=400, deadline=None)
def test_a_visit_takes_nearly_all_that_there_is(K, power, size, start, spread, seed):
    """From anywhere, for q from 1e-12 to 1e12: 9 tenths of the dual's ascent; and visits converge."""
    rng, q = np.random.default_rng(seed), 10.0**power
    z = size * rng.standard_normal(K)
    log_p = {
        "corner": np.where(np.arange(K) == rng.integers(K), 0.0, -1000.0),
        "inside": log_softmax(spread * rng.standard_normal(K)),
        "z": log_softmax(z + 1e-9 * rng.standard_normal(K)),
    }[start]
    old = np.exp(log_p)
    best = exact(z, q, old)
    new = visit(z, q, log_p)
    p = np.exp(new)
    assert p.sum() == pytest.approx(1, abs=1e-9)
    rounding = 1e-12 * max(1.0, np.abs(z).max(), q * ((best - old) ** 2).sum())
    assert ascent(p, z, q, old) >= 0.9 * ascent(best, z, q, old) - rounding
    at = z
    for _ in range(30):  # the next visit's z has moved by the step; its maximum is the same
        at, log_p = at + q * (np.exp(log_p) - np.exp(new)), new
        new = visit(at, q, log_p)
    at += q * (np.exp(log_p) - np.exp(new))
    np.testing.assert_allclose(np.exp(new), softmax(at), rtol=0, atol=1e-7 + 1e-15 * q)


@pytest.mark.parametrize("q", [1e-12, 1e-3, 1.0, 30.0, 1e3, 1e6, 1e9])
@pytest.mark.parametrize("K", [3, 4, 10, 17])
def test_a_visit_is_the_references(K, q):
    rng = np.random.default_rng(0)
    for size in (0.1, 3.0, 100.0):
        z = size * rng.standard_normal(K)
        for log_p in (np.where(np.arange(K) == 1, 0.0, -1000.0), log_softmax(3 * rng.standard_normal(K))):
            mine, its = visit(z, q, log_p), reference.sdca_softmax_visit(z, q, log_p)
            np.testing.assert_allclose(np.exp(mine), np.exp(its), rtol=1e-7, atol=1e-10)


# --- the kernel -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["dense", "strided", "csr32", "csr64"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("weighted", "c2"), [(False, 0.0), (True, 0.25)])
@pytest.mark.parametrize("K", [3, 10, 17])
def test_every_visit_is_the_references_on_rows(layout, dtype, weighted, c2, K):
    p = problem("multinomial", "dense" if layout == "strided" else layout, dtype, weighted=weighted)
    n, d = p.dense.shape
    y = np.random.default_rng(5).integers(0, K, n).astype(float)
    X = np.hstack([p.X, p.X])[:, :d] if layout == "strided" else p.X
    design = Design.from_array(X).merged()
    s = np.empty(0) if p.sample_weight is None else p.sample_weight / p.sample_weight.mean()
    order = np.random.default_rng(3).permutation(np.tile(np.arange(n), 2))
    w, state = np.zeros((d + 1, K)), reference.sdca_softmax_init(y, K)
    my_state = state.copy()
    room = np.zeros(dual_softmax.Softmax.room_for(K))
    kernel = dual_softmax.Softmax(1 / (0.01 * n), y, s, design.row_norms_squared, my_state, room)
    kernel.c2 = c2
    mine = np.zeros((d + 1, kernel.width))
    call = dual_softmax.sparse if design.sparse else dual_softmax.dense
    for i in range(len(order)):
        w, state = reference.sdca_softmax_epoch(
            p.dense, y, w, state, l2=0.01, c2=c2, sample_weight=p.sample_weight, order=order[i : i + 1]
        )
        call(kernel, *design.arrays, mine.reshape(-1), order, i, i + 1)
        assert_close(mine[:, :K], w, 1e-7)
        assert_close(np.exp(my_state), np.exp(state), 1e-7)
    assert not mine[:, K:].any()


@pytest.mark.parametrize("layout", ["dense", "csr32"])
def test_halves_are_the_references_epochs_with_rows_twice_as_long(layout, monkeypatch):
    """Each from the same W, which becomes the mean of both ends."""
    monkeypatch.setattr("fastopt.solvers.sdca.HALVED", 0)
    p = problem("multinomial", layout, weighted=True)
    F = Objective(
        Design.from_array(p.X), p.y, loss="multinomial", alpha=10.0, n_outputs=3, sample_weight=p.sample_weight,
        n_jobs=2,
    )  # fmt: skip
    epochs, n = SoftmaxEpochs(F), F.n_samples
    assert epochs.halved
    w, state, center = epochs.parameters().copy(), epochs.state.copy(), epochs.center
    for seed in range(3):
        order, ends = np.random.default_rng(seed).permutation(n), []
        for part in (order[: n // 2], order[n // 2 :]):
            end, state = reference.sdca_softmax_epoch(
                p.dense, p.y, w, state, l2=F.l2 / 2, c2=epochs.c2, sample_weight=p.sample_weight, order=part
            )
            ends.append(end)
        w = (ends[0] + ends[1]) / 2
        epochs.run(order)
        w[-1], center = 2 * w[-1] - center, w[-1].copy()
        assert_close(np.exp(epochs.state), np.exp(state), 1e-7)
        assert_close(epochs.parameters(), w, 1e-7)


def test_too_little_room_is_refused():
    with pytest.raises(ValueError, match=r"^room must have "):
        dual_softmax.Softmax(1.0, np.zeros(1), np.empty(0), np.zeros(1), np.zeros((1, 3)), np.zeros(3))


# --- the minimum ------------------------------------------------------------------------------------------------------


def digits():
    X, y = load_digits(return_X_y=True)
    return X[:600] / 16, y[:600].astype(float)


def clusters(K, n=400, d=12):
    rng = np.random.default_rng(K)
    y = rng.integers(0, K, n).astype(float)
    return rng.standard_normal((n, d)) + 1.5 * rng.standard_normal((K, d))[y.astype(int)], y


def solve(X, y, *, alpha=0.01, tol=1e-9, max_iter=3000, **options):
    F = Objective(Design.from_array(X), y, loss="multinomial", alpha=alpha, n_outputs=int(y.max()) + 1, **options)
    return F, sdca(F, F.zeros(), tol=tol, max_iter=max_iter, rng=np.random.default_rng(0))


def minimum(F):
    return lbfgs(F, F.zeros(), tol=1e-10, max_iter=20_000)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("K", [3, 10, 17])
def test_the_minimum_is_lbfgss(K, fit_intercept, weighted):
    X, y = clusters(K)
    s = np.random.default_rng(0).integers(0, 4, len(y)).astype(float) if weighted else None
    F, ours = solve(X, y, fit_intercept=fit_intercept, sample_weight=s)
    best = minimum(F)
    assert ours.converged
    assert np.linalg.norm(F.gradient(ours.w)) <= 1e-9
    assert ours.objective == pytest.approx(best.objective, rel=1e-12)
    ours, best = ours.w, best.w.reshape(F.shape)
    if fit_intercept:
        ours[-1] -= ours[-1].mean()
        best[-1] -= best[-1].mean()
    np.testing.assert_allclose(ours, best, rtol=0, atol=1e-6)


def test_the_estimators_minimum_is_scikit_learns():
    X, y = load_iris(return_X_y=True)
    names = np.array(["a", "b", "c"])[y]
    ours = LogisticRegression(solver="sdca", tol=1e-10, max_iter=9000).fit(X, names)
    peer = Peer(solver="newton-cholesky", tol=1e-12).fit(X, names)
    assert ours.converged_
    assert ours.solver_ == "sdca"
    np.testing.assert_allclose(ours.coef_, peer.coef_, rtol=0, atol=1e-6)
    np.testing.assert_allclose(ours.intercept_, peer.intercept_ - peer.intercept_.mean(), rtol=0, atol=1e-6)
    assert ours.intercept_.sum() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("fit_intercept", [False, True])
def test_csr_equals_dense_and_no_duplicate_matters(fit_intercept):
    p = problem("multinomial", "csr64", weighted=True)
    options = {"fit_intercept": fit_intercept, "sample_weight": p.sample_weight, "alpha": 0.05, "tol": 0.0}
    dense, sparse = (solve(X, p.y, max_iter=12, **options)[1] for X in (p.dense, p.X))
    assert_close(sparse.w, dense.w, 1e-8)


@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("data", [digits, lambda: clusters(3)])
def test_the_gap_bounds_the_distance_to_the_minimum(data, fit_intercept):
    X, y = data()
    F, best = solve(X, y, alpha=1e-3, fit_intercept=fit_intercept, tol=1e-9)
    least = minimum(F).objective
    for epochs in (1, 2, 3, 5, 9):
        _, early = solve(X, y, alpha=1e-3, fit_intercept=fit_intercept, tol=0.0, max_iter=epochs)
        gap = early.history["duality_gap"]
        assert len(gap) == len(early.history["epoch"])
        assert (gap >= early.history["objective"] - least - 1e-12).all()
        assert (gap >= 0).all()
    assert best.history["duality_gap"][-1] < 1e-5


@pytest.mark.parametrize("fit_intercept", [False, True])
def test_no_dual_variables_have_a_value_above_the_minimum(fit_intercept):
    """Near the best ones, too, where their classes' weights alone are not right and W is too short for them."""
    X, y = clusters(4)
    X = X + 3 * np.eye(4, 12)[y.astype(int)]
    F, best = solve(X, y, alpha=0.1, fit_intercept=fit_intercept)
    rng, values = np.random.default_rng(0), []
    for _ in range(200):
        epochs = SoftmaxEpochs(F)
        epochs.start_from(np.append(best.w.reshape(-1), np.zeros(0 if fit_intercept else 4)))
        drift = 10.0 ** rng.uniform(-3, 0) * rng.standard_normal(4)
        epochs.state[:] = log_softmax(epochs.state + drift + rng.choice([0.0, 0.1]) * rng.standard_normal((400, 4)), 1)
        epochs.parameters()[:-1] = epochs.unit * X.T @ (np.eye(4)[y.astype(int)] - np.exp(epochs.state))
        values.append(epochs.dual_value())
    assert max(values) <= best.objective + 1e-12
    assert max(values) >= best.objective - 1e-2


@pytest.mark.parametrize("weighted", [False, True])
def test_w_stays_the_sum_that_it_stands_for(weighted):
    X, y = clusters(5)
    s = np.random.default_rng(1).random(len(y)) if weighted else None
    F = Objective(Design.from_array(X), y, loss="multinomial", alpha=0.01, n_outputs=5, sample_weight=s)
    epochs = SoftmaxEpochs(F)
    rng = np.random.default_rng(0)
    total = epochs.parameters()[-1].sum()
    for _ in range(20):
        epochs.run(rng.permutation(len(y)))
    a = np.eye(5)[y.astype(int)] - np.exp(epochs.state)
    expected = epochs.unit * X.T @ (a if s is None else a * (s / s.mean())[:, None])
    assert_close(epochs.parameters()[:-1], expected, 1e-12)
    assert epochs.parameters()[-1].sum() == pytest.approx(total, abs=1e-12)


def test_a_start_from_coefficients_stands_for_them():
    X, y = clusters(5)
    F, best = solve(X, y)
    epochs = SoftmaxEpochs(F)
    epochs.start_from(best.w.reshape(-1).astype(float))
    np.testing.assert_allclose(np.exp(epochs.state), softmax(X @ best.w[:-1] + best.w[-1], axis=1), atol=1e-12)
    np.testing.assert_allclose(epochs.parameters(), best.w, rtol=0, atol=1e-5)
    assert 0 <= best.objective - epochs.dual_value() < 1e-6


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("K", [3, 10])
def test_the_dual_value_is_that_of_a_feasible_point(weighted, fit_intercept, K):
    """Of p itself where every point is feasible; else at most that of one whose sums are the classes' weights."""
    X, y = clusters(K)
    s = np.random.default_rng(1).random(len(y)) if weighted else np.ones(len(y))
    F = Objective(
        Design.from_array(X), y, loss="multinomial", alpha=0.01, n_outputs=K, sample_weight=s,
        fit_intercept=fit_intercept,
    )  # fmt: skip
    s, hot = s / s.mean(), np.eye(K)[y.astype(int)]
    epochs, rng, off = SoftmaxEpochs(F), np.random.default_rng(0), []
    for epoch in range(6):
        if epoch:
            epochs.run(rng.permutation(len(y)))
        p = np.exp(epochs.state)
        if fit_intercept:
            lack = s @ hot - s @ p
            gone = p * np.where(lack < 0, 1 - (s @ hot) / (s @ p), 0.0)
            p += gone.sum(axis=1)[:, None] * np.maximum(lack, 0) / max(np.maximum(lack, 0).sum(), 1e-300) - gone
            np.testing.assert_allclose(s @ p, s @ hot, rtol=1e-10)
        W = X.T @ (s[:, None] * (hot - p)) / (0.01 * len(y))
        exact = -np.mean(s * xlogy(p, p).sum(axis=1)) - 0.005 * np.sum(W * W)
        value = epochs.dual_value()
        assert value <= exact + 1e-12
        if not fit_intercept:
            assert value == pytest.approx(exact, abs=1e-11)
        off.append(exact - value)
    assert off[-1] <= 0.1 * max(off) + 1e-11


def test_the_best_intercepts_are_the_minimum_over_them_alone():
    X, y = digits()
    s = np.random.default_rng(1).random(len(y))
    F = Objective(Design.from_array(X), y, loss="multinomial", alpha=0.01, n_outputs=10, sample_weight=s)
    epochs, w = SoftmaxEpochs(F, 1e-8), np.random.default_rng(0).standard_normal(F.shape)
    w[-1] = 0
    w[-1] = epochs.best_intercept(F.raw_prediction(w))
    assert np.linalg.norm(F.gradient(w)[-1]) <= 1e-11


# --- ends -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_converged_is_measured(dtype):
    X, y = clusters(4)
    X = X.astype(dtype)
    _, result = solve(X, y, tol=1e-4)
    assert result.converged
    assert result.w.dtype == dtype
    loss = {"loss": "multinomial", "alpha": 0.01}
    w = result.w.astype(float)
    assert result.objective == pytest.approx(reference.objective(X.astype(float), y, w, **loss), rel=1e-12)
    norm = np.linalg.norm(reference.gradient(X.astype(float), y, w, **loss))
    assert result.grad_norm == pytest.approx(norm, rel=1e-6)
    assert norm <= 1e-4


def test_the_data_are_gone_through_for_few_measurements():
    X, y = clusters(3)
    _, result = solve(X, y, tol=0.0, max_iter=40)
    assert result.history["epoch"].tolist() == [0, 4, 8, 16, 32, 40]


def test_separable_data_and_next_to_no_penalty():
    X, y = load_iris(return_X_y=True)
    keep = np.flatnonzero(np.arange(150) % 50 < 20)
    X, y = scale(X[keep]), y[keep].astype(float)
    X = np.hstack([X, 3 * np.eye(3)[y.astype(int)]])
    _, result = solve(X, y, alpha=1e-6, tol=1e-4, max_iter=2000)
    assert result.converged
    assert (np.argmax(X @ result.w[:-1] + result.w[-1], axis=1) == y).all()


@pytest.mark.parametrize("factor", [1e-3, 1.0, 100.0])
def test_one_row_of_each_class_and_rows_of_any_length(factor):
    X = factor * np.random.default_rng(0).standard_normal((5, 7))
    F, result = solve(X, np.arange(5.0), alpha=0.1, tol=1e-8)
    assert result.converged
    assert result.objective == pytest.approx(minimum(F).objective, rel=1e-9)


def test_weights_of_zero_are_rows_left_out():
    X, y = clusters(4)
    s = (np.arange(len(y)) % 3 > 0).astype(float)
    weighted, kept = solve(X, y, sample_weight=s)[1], solve(X[s > 0], y[s > 0])[1]
    assert weighted.converged
    np.testing.assert_allclose(weighted.w, kept.w, rtol=0, atol=1e-7)


def test_a_class_whose_weight_is_zero():
    X, y = clusters(4)
    _, result = solve(X, y, sample_weight=(y != 2).astype(float), tol=1e-6)
    assert np.isfinite(result.w).all()
    assert not (np.argmax(X @ result.w[:-1] + result.w[-1], axis=1) == 2).any()


@pytest.mark.parametrize("layout", ["dense", "csr"])
def test_rows_without_entries(layout):
    X, y = clusters(3)
    X[::2] = 0
    F, result = solve(X if layout == "dense" else scipy.sparse.csr_array(X), y)
    assert result.converged
    assert result.objective == pytest.approx(minimum(F).objective, rel=1e-12)


def test_no_entries_at_all():
    y = np.arange(30.0) % 3
    X = csr(np.empty(0), np.empty(0, np.int32), np.zeros(31, np.int32), (30, 4))
    _, result = solve(X, y)
    assert result.objective == pytest.approx(np.log(3))


def test_ctrl_c_keeps_what_was_measured(monkeypatch):
    X, y = clusters(3)
    for epochs, kept in ((0, 0), (6, 4)):
        with monkeypatch.context() as patched:
            interrupt_after(patched, SoftmaxEpochs, epochs)
            F, result = solve(X, y, tol=0.0)
        assert result.stop_reason == "interrupted"
        assert result.n_iter == kept == result.history["epoch"][-1]
        assert result.objective == F.value(result.w)
        assert len(result.history["duality_gap"]) == len(result.history["epoch"])


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_warm_start_goes_on_from_the_coefficients(fit_intercept):
    X, y = clusters(4)
    options = {"fit_intercept": fit_intercept, "warm_start": True, "tol": 1e-6, "max_iter": 500, "random_state": 0}
    model = LogisticRegression(solver="sdca", C=0.1, **options).fit(X, y)
    assert model.converged_
    coef = model.coef_
    assert model.fit(X, y).n_iter_.tolist() == [0]
    np.testing.assert_array_equal(model.coef_, coef)
    fresh = LogisticRegression(solver="sdca", C=0.11, **options).fit(X, y)
    model.set_params(C=0.11).fit(X, y)
    assert model.converged_
    assert model.n_iter_[0] <= fresh.n_iter_[0]
    np.testing.assert_allclose(model.coef_, fresh.coef_, rtol=0, atol=1e-4)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_an_intercept_without_curvature_warns_of_nothing():
    """Scores of thousands leave no probability but 0 and 1: the intercepts' Newton step is infinite."""
    X = scipy.sparse.csr_array([[3.0, 65535.0], [1.0, 0.0], [3.0, 0.0]])
    for s in itertools.product([0.5, 1.5, 2.5], repeat=3):
        model = LogisticRegression(solver="sdca", max_iter=2, random_state=0).fit(X, [0, 1, 2], s)
        assert np.isfinite(model.coef_).all()
        assert np.isfinite(model.intercept_).all()
