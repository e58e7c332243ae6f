"""solver="auto": which solver, what happens when it stalls, and what is told of it."""

import numpy as np
import pytest
import scipy.sparse
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import scale

from fastopt import LogisticRegression
from fastopt._design import Design
from fastopt.objective import Objective
from fastopt.optimizers import get
from fastopt.solvers import auto as module
from fastopt.solvers.auto import Attempt, auto, choose, even
from fastopt.solvers.lbfgs import lbfgs
from fastopt.solvers.monitor import Checks, Monitor, Reporter
from fastopt.solvers.rates import auto_batch_size
from fastopt.solvers.stochastic import stochastic
from fastopt.solvers.table import SOLVERS, Solver


def objective(n, d, *, density=1.0, n_outputs=1, alpha=None, factor=1.0, shared=0.0, **options):
    rng = np.random.default_rng(0)
    if density < 1:
        X = scipy.sparse.random_array((n, d), density=density, format="csr", rng=rng)
        X.data *= factor / np.sqrt(density * d / 3)  # rows of length `factor`
    else:
        X = factor * (rng.standard_normal((n, d)) + shared * rng.standard_normal((n, 1))) / np.sqrt(d)
    y = rng.integers(0, n_outputs, n).astype(float) if n_outputs > 1 else rng.choice([-1.0, 1.0], n)
    loss = "multinomial" if n_outputs > 1 else "log_loss"
    alpha = 1 / n if alpha is None else alpha
    return Objective(Design.from_array(X), y, loss=loss, alpha=alpha, n_outputs=n_outputs, **options)


@pytest.mark.parametrize(
    ("falls", "foretold"),
    [
        ([(4, 1e-1), (8, 1e-2)], 16),  # a tenth in 4 epochs: 1e-4 after 8 more
        ([(4, 1e-1), (8, 1e-2), (16, 1e-3)], 24),
        ([(4, 1e-1), (8, 1e-2), (9, 9e-3)], 16),  # too near to tell
        ([(4, 1e-1), (8, 2e-1)], np.inf),
        ([(4, 1e-1), (8, 1e-4)], 0),
        ([(4, 1e-1), (8, np.inf)], 0),  # a square has overflowed, which says nothing
        ([(4, 1e-1), (8, np.nan), (12, 1e-2)], 28),
        ([(4, 1e-1)], 0),
    ],
)
def test_epochs_are_foretold_as_if_norms_went_on_to_fall(falls, foretold):
    for most in (foretold / 1.6, foretold / 1.4, np.inf):
        checks = Checks(1e-4, 1.0, most)
        for epoch, size in falls:
            checks.measured(epoch, size, size)
        assert checks.foretold == pytest.approx(foretold)
        assert checks.stalled == (foretold > 1.5 * most)
    without = Checks(0.0, 1.0, 1)
    for epoch, size in falls:
        without.measured(epoch, size, size)
    assert not without.stalled


@pytest.mark.parametrize(
    ("sizes", "stalled"),
    [
        ([1e-1, 1e-2, 1e-4, 1e-4, 1e-4, 1e-4], 5),
        ([1e-1, 1e-4, 1e-3, 1e-2, 0.8e-4, 1e-4], 4),  # 0.8 of the least is no fall
        ([1e-1, 1e-2, 1e-4, 1e-4, 1e-4, 1e-5, 1e-5, 1e-5], None),
        ([1e-1, 1e-2, 1e-4, 1e-4, 1e-4, 1e-5, 1e-5, 1e-5, 1e-5], 8),
        ([1e-1, 1e-2, 1e-2, 1e-2, 1e-2, 1e-2, 1e-2], None),  # a hundredth may be a plateau
    ],
)
def test_three_measurements_that_do_not_lower_a_thousandth_are_the_end(sizes, stalled):
    """Each twice as many epochs on; those in between do not count."""
    checks = Checks(1e-12, 1.0)
    found = []
    for k, size in enumerate(sizes):
        assert [epoch for epoch in range(1, 2 ** (k + 2) + 1) if checks.wanted(epoch, 1.0)] == [2 ** (k + 2)]
        checks.measured(2 ** (k + 2), 1.0, size)
        checks.measured(2 ** (k + 2) + 1, 1.0, size)
        found += [k] * checks.stalled
    assert found[:1] == ([] if stalled is None else [stalled])


def test_estimates_are_corrected_by_what_they_were_off_by():
    checks = Checks(1e-4, 1.0)
    assert checks.wanted(1, 1e-4)
    assert not checks.wanted(1, 1.1e-4)
    checks.measured(1, 1e-4, 2e-4)
    assert checks.wanted(2, 0.5e-4)
    assert not checks.wanted(2, 0.6e-4)
    assert checks.wanted(2, np.nan)
    checks.measured(2, 0.0, 1e-3)  # nothing to correct by
    checks.measured(3, 1.0, np.nan)
    assert checks.wanted(4, 0.5e-4)


def test_results_that_float32_cannot_hold_stay_float64():
    """In place of infinity; F itself is finite there, since the rows are as small as the coefficients are large."""
    X = np.full((4, 1), 1e-39, np.float32)
    F = Objective(Design.from_array(X), np.array([1.0, -1.0, 1.0, 1.0]), alpha=0.0, fit_intercept=False)
    for size, dtype in ((1e38, np.float32), (1e39, np.float64)):
        w = np.array([[size]])
        monitor = Monitor(F, 0.0)
        monitor.check(w, 1)
        result = monitor.rounded_result(w, 1, "max_iter")
        assert result.w.dtype == dtype
        np.testing.assert_allclose(result.w, w, rtol=1e-6)


def one_hot(n, sizes):
    rng = np.random.default_rng(0)
    columns = (rng.random((n, len(sizes))) ** 2 * sizes).astype(int) + np.concatenate([[0], np.cumsum(sizes)[:-1]])
    X = scipy.sparse.csr_array((np.ones(columns.size), columns.ravel(), np.arange(0, columns.size + 1, len(sizes))))
    return X, (X @ rng.standard_normal((X.shape[1], 3)) + rng.gumbel(size=(n, 3))).argmax(axis=1)


def test_what_will_not_do_is_left_early():
    """Few columns that many rows share: the dual's steps disturb each other."""
    X, y = one_hot(600, [4, 5, 6, 30, 40, 60])
    options = {"C": 30.0, "random_state": 0}
    with pytest.warns(ConvergenceWarning):
        alone = LogisticRegression(solver="sdca", **options).fit(X, y)
    assert alone.n_iter_ == 100
    model = LogisticRegression(**options).fit(X, y)
    assert (model.solver_, model.stop_reason_) == ("sdca+newton-cg", "tol")
    # "newton-cg", which measures after each iteration, begins at the best of "sdca".
    assert model.history_["epoch"][:5].tolist() == [0, 4, 8, 4, 9]
    assert model.history_["objective"][1] == model.history_["objective"][3] < model.history_["objective"][2]
    assert model.n_iter_ < 60


@pytest.mark.parametrize(
    ("F", "first"),
    [
        (lambda: objective(50_000, 30), "newton"),
        (lambda: objective(300, 40, n_outputs=3), "newton"),
        (lambda: objective(500, 120, density=0.1), "newton"),
        (lambda: objective(500, 140, density=0.1), "sdca"),
        (lambda: objective(500, 140), "newton"),
        (lambda: objective(30_000, 20_000, density=0.001), "sdca"),
        (lambda: objective(30_000, 20_000, density=0.001, factor=4.0), "saga"),
        (lambda: objective(2_000, 20_000, density=0.001, factor=4.0), "sdca"),
        (lambda: objective(30_000, 20_000, density=0.001, factor=1e4), "lbfgs"),
        (lambda: objective(30_000, 20_000, density=0.001, alpha=0.0), "lbfgs"),
        (lambda: objective(2_000, 400, n_outputs=4), "lbfgs"),
        (lambda: objective(2_000, 400, n_outputs=4, shared=0.5), "newton-cg"),
        (lambda: objective(2_000, 400, n_outputs=4, factor=20.0, shared=0.5), "newton-cg"),
        (lambda: objective(6_000, 400, n_outputs=4, factor=10.0, shared=0.5), "newton-cg"),
        (lambda: objective(2_000, 500, n_outputs=4), "newton-cg"),
        (lambda: objective(3_000, 700, density=0.01, n_outputs=4, factor=1e3), "newton-cg"),
        (lambda: objective(2_000, 400, density=0.1, n_outputs=4, factor=10.0), "lbfgs"),
        (lambda: objective(2_000, 500, density=0.1, n_outputs=4, factor=10.0), "sdca"),
        (lambda: objective(30_000, 2_000, density=0.01, n_outputs=4, factor=3.0), "saga"),
        (lambda: objective(20_000, 30, l1_ratio=1.0), "newton"),
        (lambda: objective(200, 30, l1_ratio=0.5, n_outputs=3), "newton"),
        (lambda: objective(20_000, 400, l1_ratio=1.0, factor=10.0), "saga"),
        (lambda: objective(6_000, 400, l1_ratio=0.5), "saga"),
        (lambda: objective(6_000, 400, l1_ratio=0.5, factor=10.0), "newton"),
        (lambda: objective(1_000, 400, l1_ratio=1.0), "newton"),
        (lambda: objective(20_000, 100, l1_ratio=1.0, n_outputs=3, factor=10.0), "saga"),
        (lambda: objective(6_000, 100, l1_ratio=1.0, n_outputs=3), "saga"),
        (lambda: objective(6_000, 100, l1_ratio=1.0, n_outputs=3, factor=10.0), "newton"),
        (lambda: objective(3_000, 200, l1_ratio=1.0, n_outputs=3), "newton"),
    ],
)
def test_choice(F, first):
    F = F()
    names = choose(F)
    assert names[0] == first
    assert len(set(names)) == len(names)
    assert all(not SOLVERS[name].obstacle(F) for name in names)


def test_short_rows_with_l1_go_on_with_saga():
    """Where L1 keeps too many for "newton": "lbfgs" took 16 s on 2,000 rows of text that "saga" has in 2."""
    assert choose(objective(3_000, 200, l1_ratio=1.0, n_outputs=3)) == ["newton", "saga", "lbfgs"]
    assert choose(objective(3_000, 200, l1_ratio=1.0, n_outputs=3, factor=10.0)) == ["newton", "lbfgs"]


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_even_curvature_is_that_of_columns_of_one_scale(sparse, fit_intercept, weighted):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((900, 6)) * 10.0 ** np.arange(6)
    far = X + 5 * 10.0 ** np.arange(6)
    alike = X.copy()
    alike[:, 1:4] = alike[:, :1] * [3.0, 5.0, 7.0] + 0.1 * rng.standard_normal((900, 3))
    weights = None
    if weighted:  # rows without weight do not count: those of `alike`
        X, far = (np.vstack([a, alike]) for a in (X, far))
        alike = np.vstack([alike, X[:900]])
        weights = np.repeat([1.0, 0.0], 900)
    for a, expected in [(X, True), (far, fit_intercept), (alike, False)]:
        F = Objective(
            Design.from_array(scipy.sparse.csr_array(a) if sparse else a), rng.integers(0, 3, len(a)).astype(float),
            loss="multinomial", n_outputs=3, alpha=1e-3, fit_intercept=fit_intercept, sample_weight=weights,
        )  # fmt: skip
        assert even(F) == expected


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("apart", [1.0, 20.0])
def test_even_curvature_of_times(apart, sparse):
    """As of seconds since another day than that in 1970; four times within moments of each other hang together."""
    rng = np.random.default_rng(0)
    X = np.round(apart * rng.standard_normal((900, 6)), 3)
    together = np.column_stack([X[:, :1] + X[:, :4] / 8, X[:, 4:]])
    for a, expected in [(X, True), (together, False)]:
        for day in (0.0, 1.7e9):
            far = a + day * (np.arange(6) < 4)
            F = Objective(
                Design.from_array(scipy.sparse.csr_array(far) if sparse else far), np.sign(rng.standard_normal(900)),
                alpha=1e-3, loss="log_loss",
            )  # fmt: skip
            assert even(F) == expected


@pytest.mark.parametrize("sparse", [False, True])
def test_a_penalty_above_all_curvature_makes_it_even(sparse, monkeypatch):
    """Columns that hang together, asked without a sample of the rows, which costs as much as a fit does then."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((900, 2)) @ rng.standard_normal((2, 6))
    monkeypatch.setattr(Objective, "sample", None)
    length = np.mean(np.sum(X**2, axis=1))
    F = Objective(
        Design.from_array(scipy.sparse.csr_array(X) if sparse else X), np.sign(rng.standard_normal(900)),
        alpha=0.25 * length, loss="log_loss",
    )  # fmt: skip
    curvature = 0.25 * X.T @ X / 900 + 0.25 * length * np.eye(6)
    scaled = curvature / np.sqrt(np.outer(np.diag(curvature), np.diag(curvature)))
    assert np.linalg.eigvalsh(scaled)[-1] <= module.EVEN
    assert even(F)


@pytest.mark.filterwarnings("error")
def test_newton_cg_goes_on_where_lbfgs_tires(monkeypatch):
    rng = np.random.default_rng(0)
    X = (rng.standard_normal((2400, 20)) + 2 * rng.standard_normal((2400, 1))) * 10 ** rng.uniform(-1, 1, 20)
    y = (X @ rng.standard_normal((20, 10)) + rng.gumbel(size=(2400, 10))).argmax(1)
    assert LogisticRegression(C=4.0).fit(X, y).solver_ == "newton-cg"
    monkeypatch.setattr(module, "even", lambda F: True)
    model = LogisticRegression(C=4.0).fit(X, y)
    assert (model.solver_, model.converged_) == ("lbfgs+newton-cg", True)
    assert 64 < model.n_iter_[0] < 80
    with pytest.warns(ConvergenceWarning):
        LogisticRegression(C=4.0, solver="lbfgs").fit(X, y)


@pytest.mark.parametrize("data", [load_breast_cancer, load_digits])
@pytest.mark.parametrize("layout", [np.asarray, scipy.sparse.csr_array])
@pytest.mark.parametrize("C", [1e-2, 1.0, 1e2])
def test_converges_by_default(data, layout, C):
    X, y = data(return_X_y=True)
    model = LogisticRegression(C=C, random_state=0).fit(layout(scale(X)), y)
    assert model.converged_
    assert model.stop_reason_ == "tol"
    assert model.grad_norm_ <= 1e-4
    assert set(model.solver_.split("+")) <= set(SOLVERS)


def stalls(objective, w, *, tol, max_iter, verbose=0, course=None):
    """Two iterations of L-BFGS, then no more progress."""
    result = lbfgs(objective, w, tol=0.0, max_iter=2, verbose=verbose)
    result.stop_reason = "stalled"
    return result


def test_the_next_goes_on_where_the_iterations_of_one_are_over(monkeypatch):
    F = objective(300, 20)
    how = {"tol": 1e-7, "max_iter": 100, "rng": lambda: None}
    monkeypatch.setattr(module, "attempts", lambda F: [Attempt("lbfgs"), Attempt("newton")])
    assert auto(F, F.zeros(), **how)[0] == "lbfgs"
    monkeypatch.setattr(module, "attempts", lambda F: [Attempt("lbfgs", 2), Attempt("newton")])
    name, result = auto(F, F.zeros(), **how)
    assert (name, result.stop_reason) == ("lbfgs+newton", "tol")
    _, two = auto(F, F.zeros(), **how | {"max_iter": 2})
    np.testing.assert_array_equal(result.history["objective"][:3], two.history["objective"])
    assert two.n_iter == 2


def test_the_next_goes_on_where_one_stalls(monkeypatch):
    F = objective(300, 20)
    monkeypatch.setitem(SOLVERS, "sdca", Solver(stalls))
    monkeypatch.setattr(module, "choose", lambda F: ["sdca", "lbfgs"])
    name, result = auto(F, F.zeros(), tol=1e-6, max_iter=100, rng=np.random.default_rng)
    assert name == "sdca+lbfgs"
    assert result.stop_reason == "tol"
    assert np.linalg.norm(F.gradient(result.w)) <= 1e-6
    assert result.history["epoch"].tolist() == list(range(result.n_iter + 1))
    assert (np.diff(result.history["objective"]) < 0).all()
    assert (np.diff(result.history["seconds"]) >= 0).all()
    name, result = auto(F, F.zeros(), tol=1e-6, max_iter=2, rng=np.random.default_rng)
    assert (name, result.stop_reason, result.n_iter) == ("sdca", "stalled", 2)  # no iteration is left


@pytest.mark.parametrize("spread", [1.0, 10.0])
def test_lbfgs_goes_on_where_a_column_leaves_the_hessian_no_digits(spread):
    """Times of one minute, in seconds since 1970: the minimum is that of the same column about its mean."""
    rng = np.random.default_rng(0)
    t, z = rng.standard_normal((2, 2000))
    y = t + z + rng.standard_normal(2000) / 2 > 0
    model = LogisticRegression(C=1e6, random_state=0)
    best = model.fit(np.column_stack([t * spread, z]), y).objective_
    with pytest.warns(ConvergenceWarning):  # |gradient| <= tol is below what 1.7e9 times a residual is rounded by
        model.fit(np.column_stack([1.7e9 + t * spread, z]), y)
    assert model.solver_ == "newton+lbfgs"
    assert model.objective_ == pytest.approx(best, rel=1e-5)


def test_the_same_random_state_gives_the_same_bits():
    F = objective(3_000, 5_000, density=0.004)
    one, other = (auto(F, F.zeros(), tol=1e-4, max_iter=50, rng=lambda: np.random.default_rng(1)) for _ in range(2))
    assert one[0] == other[0] == "sdca"
    np.testing.assert_array_equal(one[1].w, other[1].w)


@pytest.mark.parametrize("solver", ["newton", "newton-cg", "sdca", "saga", "lbfgs"])
def test_callers_are_shown_every_measured_epoch_and_a_start_that_cost_no_pass(solver):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((20_000, 10))
    y = np.where(X.sum(axis=1) > 3 * rng.standard_normal(20_000), 1.0, -1.0)
    F = Objective(Design.from_array(X), y, alpha=1e-3, sample_weight=rng.random(20_000))
    seen = {}
    reporter = Reporter(on_epoch=lambda epoch, w: seen.update({epoch: np.array(w)}))
    options = {"rng": np.random.default_rng(0)} if SOLVERS[solver].shuffles else {}
    result = SOLVERS[solver].run(F, F.zeros(), tol=1e-6, max_iter=200, verbose=reporter, **options)
    history = result.history
    assert result.stop_reason == "tol"
    assert list(seen) == history["epoch"].tolist()
    assert history["objective"][0] == pytest.approx(np.log(2), rel=1e-12)
    assert np.isfinite(history["objective"]).all()
    for epoch, value, size in zip(history["epoch"], history["objective"], history["grad_norm"], strict=True):
        w = seen[epoch].reshape(F.shape)
        assert value == pytest.approx(F.value(w), rel=1e-9)
        if epoch or solver in ("lbfgs", "newton-cg"):  # the others' first norm would cost a pass
            assert size == pytest.approx(np.linalg.norm(F.gradient(w)), rel=1e-6, abs=1e-12)
        else:
            assert np.isnan(size)


@pytest.mark.parametrize("solver", ["newton", "newton-cg", "sdca", "saga"])
def test_a_start_at_the_minimum_ends_at_once(solver):
    X = np.tile([[1.0], [-1.0]], (20_000, 1))
    F = Objective(Design.from_array(X), np.repeat([1.0, -1.0], 20_000), alpha=1.0)  # the classes are alike
    options = {"rng": np.random.default_rng(0)} if SOLVERS[solver].shuffles else {}
    result = SOLVERS[solver].run(F, F.zeros(), tol=1e-6, max_iter=100, **options)
    assert result.stop_reason == "tol"
    assert np.linalg.norm(F.gradient(result.w)) <= 1e-6
    assert result.n_iter <= 10


@pytest.mark.parametrize(
    ("X", "rule", "size"),
    [
        (np.ones((5_000, 10), np.float32), "adam", 32),
        (np.ones((20, 10), np.float32), "adam", 20),
        (np.ones((5_000, 10), np.float32), "rmsprop", 64),
        (np.broadcast_to(np.float32(1), (200, 20_000)), "sgd", 13),
        (np.broadcast_to(np.float32(1), (200, 10**6)), "momentum", 8),
        ((5_000, 300, 10), "sgd", 4),
        ((900, 300, 10), "sgd", 32),
        ((3, 300, 2), "sgd", 3),
        ((5_000, 300, 10), "adam", 32),
        ((5_000, 3_000, 15), "adam", 64),
        ((5_000, 3_000, 15), "rmsprop", 128),
        ((5_000, 10_000, 15), "momentum", 128),
        ((5_000, 10**6, 10), "adam", 32),
    ],
)
def test_automatic_batch_size(X, rule, size):
    if isinstance(X, tuple):  # rows, columns, entries of a row
        n, d, k = X
        X = scipy.sparse.csr_array((np.ones(n * k), np.tile(np.arange(k), n), np.arange(n + 1) * k), (n, d))
    design = Design.from_array(X)
    assert auto_batch_size(design, get(rule)) == size
    F = Objective(design, np.resize([1.0, -1.0], X.shape[0]))
    fits = [
        stochastic(
            F,
            F.zeros(),
            get(rule).with_learning_rate(1e-3),
            batch_size=b,
            tol=0.0,
            max_iter=1,
            rng=np.random.default_rng(0),
        ).w
        for b in ("auto", size)
    ]
    np.testing.assert_array_equal(*fits)
