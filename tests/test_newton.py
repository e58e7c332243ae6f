"""solver="newton" and the variables of "lbfgs": Hessians, samples, steps, convergence where float32 is not enough."""

import numpy as np
import pytest
import scipy.sparse
from cases import LAYOUTS, assert_close, problem
from scipy.optimize import approx_fprime, minimize_scalar

from fastopt import LogisticRegression, reference
from fastopt._design import Design
from fastopt.losses import LOSSES
from fastopt.objective import RUN, Objective
from fastopt.solvers.columns import ColumnDescent
from fastopt.solvers.lbfgs import lbfgs
from fastopt.solvers.newton import Curvature, Descent, Rounds, newton
from fastopt.solvers.quadratic import factor, minimiser
from fastopt.solvers.scaled import Scaled

SMOOTH = [name for name, loss in LOSSES.items() if np.isfinite(loss.max_curvature)]
SOLVERS = pytest.mark.parametrize("solver", [newton, lbfgs])


def logistic(n=3000, d=6, dtype=np.float64, seed=0, n_outputs=1, **options):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    z = X @ rng.standard_normal((d, max(n_outputs, 2))) + rng.gumbel(size=(n, max(n_outputs, 2)))
    y = z.argmax(axis=1).astype(float)
    options = {"alpha": 1e-3, "loss": "multinomial" if n_outputs > 1 else "log_loss"} | options
    y = y if n_outputs > 1 else 2 * y - 1
    return Objective(Design.from_array(X.astype(dtype)), y, n_outputs=n_outputs, **options)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("fit_intercept", [False, True])
def test_hessian_is_its_products(loss, layout, weighted, fit_intercept):
    """Column by column; the products are compared with finite differences in test_objective."""
    p = problem(loss, layout, weighted=weighted, fit_intercept=fit_intercept)
    F = p.objective(alpha=0.3)
    w = 0.1 * np.random.default_rng(0).standard_normal(p.shape)
    columns = [F.hessian_product(w, e.reshape(p.shape)).ravel() for e in np.eye(w.size)]
    assert_close(F.hessian(w), np.array(columns), 1e-13)


@pytest.mark.parametrize("n_outputs", [1, 3])
def test_hessian_in_blocks_and_in_float32(n_outputs, monkeypatch):
    F = logistic(n_outputs=n_outputs)
    w = np.random.default_rng(0).standard_normal(F.shape)
    whole = F.hessian(w)
    assert_close(F.hessian(w, np.float32), whole, 1e-5)
    monkeypatch.setattr("fastopt.objective.BLOCK", 700 * w.size)
    assert_close(F.hessian(w), whole, 1e-13)
    assert_close(whole, approx_fprime(w.ravel(), lambda v: F.gradient(v)), 1e-5)


@pytest.mark.parametrize("d", [1, 7, 8, 15, 16, 17, 31, 127, 128])
@pytest.mark.parametrize("fit_intercept", [False, True])
def test_hessian_of_any_width(d, fit_intercept, dtype, monkeypatch):
    """Panels that are full, and that are not; on either side of the width from which on BLAS multiplies; in shares."""
    rng = np.random.default_rng(d)
    n, alpha, s = 333, 0.1, rng.random(333)
    room = rng.standard_normal((n, d + 3)).astype(dtype)
    F = Objective(
        Design.from_array(room[:, 1 : d + 1]), rng.choice([-1.0, 1.0], n), alpha=alpha, sample_weight=s,
        fit_intercept=fit_intercept,
    )  # fmt: skip
    w = rng.standard_normal(F.shape) / d
    X = np.hstack([F.design.values, np.ones((n, int(fit_intercept)))]).astype(np.float64)
    p = 1 / (1 + np.exp(-X @ w[:, 0]))
    H = (X.T * (s / s.sum() * p * (1 - p))) @ X + alpha * np.diag([1.0] * d + [0.0] * fit_intercept)
    tolerance = 1e-13 if dtype == np.float64 else 1e-6
    assert_close(F.hessian(w), H, tolerance)
    monkeypatch.setattr("fastopt._design.SHARE", 100)
    shared = F.hessian(w)
    assert_close(shared, H, tolerance)
    F.n_jobs = 2
    np.testing.assert_array_equal(F.hessian(w), shared)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("loss", "outputs"), [("log_loss", 1), ("squared_error", 3), ("multinomial", 1)])
@pytest.mark.parametrize("at", ["zero", "random"])
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_what_a_pass_keeps_serves_as_raw_predictions(layout, loss, outputs, at, n_jobs, monkeypatch):
    """To the bit, in one share of the rows or several, whatever the threads; and it is not written."""
    p = problem(loss, layout, weighted=True, outputs=outputs, n=100)
    monkeypatch.setattr("fastopt._design.SHARE", 60)
    F = p.objective(alpha=0.3)
    F.n_jobs = n_jobs
    w, v = np.random.default_rng(0).standard_normal((2, *p.shape)) * (at == "random")
    kept = F.room_for_raw()
    value, gradient = F.smooth_value_and_gradient(w, kept)
    plain = F.smooth_value_and_gradient(w)
    assert value == plain[0]
    np.testing.assert_array_equal(gradient, plain[1])
    np.testing.assert_array_equal(kept[:, : p.n_outputs], F.raw_prediction(w))
    np.testing.assert_allclose(kept[:, : p.n_outputs], p.dense @ w[:-1] + w[-1], rtol=0, atol=1e-13)
    before = kept.copy()
    np.testing.assert_array_equal(F.hessian(w, kept=kept), F.hessian(w))
    some = np.arange(len(w) * p.n_outputs)[p.n_outputs :]
    np.testing.assert_array_equal(F.hessian_of(some, w, kept=kept), F.hessian_of(some, w))
    assert F.step_length(w, v, -1.0, kept) == F.step_length(w, v, -1.0)
    np.testing.assert_array_equal(kept, before)


@pytest.mark.parametrize("loss", SMOOTH)
@pytest.mark.parametrize("layout", ["dense", "csr32"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("scale", [0.1, 1.0, 20.0])
@pytest.mark.parametrize("outputs", [1, 3])
def test_step_length(loss, layout, weighted, scale, outputs, monkeypatch):
    """The slope of the reference's F there is little beside the one at the start, however long the direction is."""
    p = problem(loss, layout, weighted=weighted, outputs=1 if loss == "multinomial" else outputs)
    F, rng = p.objective(alpha=0.3), np.random.default_rng(0)
    w = rng.standard_normal(p.shape)
    v = -scale * F.gradient(w)

    def slope(t):
        return np.vdot(reference.gradient(p.dense, p.y, w + t * v, alpha=0.3, **p.terms), v)

    t = F.step_length(w, v, slope(0))
    assert t > 0
    assert abs(slope(t)) <= 0.1 * abs(slope(0))
    monkeypatch.setattr("fastopt._design.SHARE", 10)
    assert F.step_length(w, v, slope(0)) == pytest.approx(t, rel=1e-10)


def test_few_steps_where_whole_ones_are_too_short():
    """Nearly separable: the whole steps of Newton's method are known to cover a unit of the margin each."""
    F = logistic(n=400, alpha=1e-4)
    F.y[:] = np.sign(F.raw_prediction(np.arange(1.0, 8.0)[:, None])[:, 0])  # the kernels read the same array
    X, w, steps = np.hstack([F.design.values, np.ones((400, 1))]), np.zeros(7), 0
    while np.linalg.norm(g := F.gradient(w)) > 1e-6:
        p = 1 / (1 + np.exp(-X @ w))
        w = w - np.linalg.solve((X.T * p * (1 - p)) @ X / 400 + np.diag([1e-4] * 6 + [0]), g)
        steps += 1
    result = newton(F, F.zeros(), tol=1e-6, max_iter=50)
    assert result.stop_reason == "tol"
    assert result.n_iter <= steps - 2
    assert_close(result.w.ravel(), w, 1e-4)


@pytest.mark.parametrize("n_outputs", [1, 3])
@pytest.mark.parametrize("layout", ["dense", "csr32"])
def test_steps_with_l1_go_beyond_the_minimum_of_their_quadratic(layout, n_outputs):
    """To the least F along the step, found by scipy, what is zero staying so; columns that are but a part do not."""
    rng = np.random.default_rng(3)
    X, coef = rng.standard_normal((300, 8)), np.where(np.arange(8)[:, None] < 3, 2.0, 0.0) * rng.standard_normal((8, 3))
    y = np.sign(X @ coef[:, 0]) if n_outputs == 1 else (X @ coef).argmax(axis=1).astype(np.float64)
    X = X if layout == "dense" else scipy.sparse.csr_array(X)
    loss = "log_loss" if n_outputs == 1 else "multinomial"
    F = Objective(Design.from_array(X), y, loss=loss, alpha=0.02, l1_ratio=0.8, n_outputs=n_outputs)
    quadratic, beyond = (Descent(F, F.zeros(), part=part) for part in (True, False))
    assert quadratic.step()
    assert beyond.step()
    end = quadratic.w
    d = F.n_features
    assert (end[:d] == 0).any()
    np.testing.assert_array_equal(np.sign(beyond.w[:d]), np.sign(end[:d]))
    least = minimize_scalar(lambda t: F.value((1 + t) * end), bounds=(0, 10), method="bounded")  # signs stay so: w = 0
    assert least.fun < quadratic.value - 1e-4
    assert beyond.value <= least.fun + 0.05 * (quadratic.value - least.fun)


def test_a_coefficient_ends_at_zero_where_a_longer_step_with_l1_would_turn_its_sign():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((300, 8))
    y = np.sign(X[:, :2] @ [15.0, 10.0] + 0.3 * rng.standard_normal(300))
    F = Objective(Design.from_array(X), y, loss="log_loss", alpha=0.01, l1_ratio=1.0)
    start = np.zeros((9, 1))
    start[2] = 0.2  # the others' coefficients grow, and this one, of no use, is on its way to zero
    quadratic, beyond = (Descent(F, start, part=part) for part in (True, False))
    assert quadratic.step()
    assert beyond.step()
    end, further = quadratic.w, beyond.w
    assert 0 < end[2] < start[2]
    t = float(further[0, 0] / end[0, 0])  # from start, where it is zero, as far as all others go
    assert start[2] + t * (end[2] - start[2]) < 0
    assert further[2] == 0
    assert beyond.value < quadratic.value


@pytest.mark.parametrize("sparse", [False, True])
def test_column_moments(sparse, dtype):
    p = problem("log_loss", "csr32" if sparse else "dense", dtype, weighted=True)
    X = Design.from_array(p.X)
    F = Objective(X.merged() if hasattr(X, "merged") and not X.distinct else X, p.y, sample_weight=p.sample_weight)
    s = p.sample_weight / p.sample_weight.sum()
    mean, square = F.column_moments()
    assert_close(mean, s @ p.dense, 1e-12)
    assert_close(square, s @ p.dense**2, 1e-12)


@pytest.mark.parametrize("size", [RUN, 100, 999, 2990, 5000])
def test_samples_are_spread_evenly(size):
    """Every part of the rows is in it as often as it should be, no row twice; the same at every call."""
    n = 3000
    F = Objective(Design.from_array(np.arange(float(n))[:, None]), np.ones(n))
    rows = F.sample(size).design.values[:, 0]
    assert len(np.unique(rows)) == len(rows)
    assert size - RUN < len(rows) <= size or len(rows) == n < size + RUN * n / size or len(rows) == n < size
    np.testing.assert_array_equal(rows, F.sample(size).design.values[:, 0])
    if size >= 999:
        counts = np.histogram(rows, bins=10, range=(0, n))[0]
        assert counts.max() - counts.min() <= 2 * RUN


@SOLVERS
@pytest.mark.parametrize("n_outputs", [1, 3])
@pytest.mark.parametrize("fit_intercept", [False, True])
def test_the_optimum(solver, n_outputs, fit_intercept):
    """By the reference's gradient, from zeros and from elsewhere; F's rounding ends lbfgs's line search before 1e-9."""
    tol = {newton: 1e-9, lbfgs: 1e-7}[solver]
    F = logistic(n_outputs=n_outputs, fit_intercept=fit_intercept)
    starts = [F.zeros(), np.random.default_rng(1).standard_normal(F.shape)]
    for start in starts:
        result = solver(F, start, tol=tol, max_iter=300)
        assert result.stop_reason == "tol"
        g = reference.gradient(
            F.design.values, F.y, result.w, loss=F.loss.name, alpha=F.alpha, fit_intercept=fit_intercept
        )
        assert np.linalg.norm(g) <= 1.01 * tol
        assert result.grad_norm == pytest.approx(np.linalg.norm(g), abs=1e-13)


@SOLVERS
@pytest.mark.parametrize("loss", [name for name in SMOOTH if LOSSES[name].targets != "multiclass"])
def test_every_smooth_loss(solver, loss):
    p = problem(loss, n=200)
    result = solver(p.objective(alpha=0.1), np.zeros(p.shape), tol=1e-7, max_iter=300)
    assert result.stop_reason == "tol"
    assert np.linalg.norm(reference.gradient(p.dense, p.y, result.w, alpha=0.1, **p.terms)) <= 1.01e-7


def test_few_passes_on_many_rows(monkeypatch):
    """The first steps are taken on samples, the others with a sample's curvature: that is what makes it fast."""
    F, rows, hessian_rows = logistic(n=64_000, d=10), [], []
    value_and_gradient, hessian = Objective.smooth_value_and_gradient, Objective.hessian

    def count(self, *at):
        rows.append(self.n_samples)
        return value_and_gradient(self, *at)

    def count_hessian(self, *at):
        hessian_rows.append(self.n_samples)
        return hessian(self, *at)

    monkeypatch.setattr(Objective, "smooth_value_and_gradient", count)
    monkeypatch.setattr(Objective, "hessian", count_hessian)
    result = newton(F, F.zeros(), tol=1e-6, max_iter=50)
    assert result.stop_reason == "tol"
    assert sum(rows) <= 7 * F.n_samples
    assert sum(hessian_rows) <= F.n_samples


def test_a_sample_that_misleads_is_dropped():
    """Rows sorted so that their runs tell nothing of the whole: never worse than the start."""
    F = logistic(n=20_000, d=3)
    F.y[:] = np.where(np.arange(20_000) % 2 == 0, 1.0, -1.0)  # the kernels read the same array
    result = newton(F, F.zeros(), tol=1e-8, max_iter=50)
    assert result.stop_reason == "tol"
    assert result.objective <= np.log(2)


@SOLVERS
@pytest.mark.parametrize("layout", [np.asarray, scipy.sparse.csr_array])
def test_raw_scales_in_float32(solver, layout):
    """Columns of 1e-4 to 1e4 with means of some deviations: converged all the same, in float64 where it must be."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((2000, 9)) + 3 * rng.standard_normal(9)
    y = np.where(X @ rng.standard_normal(9) + rng.logistic(size=2000) > 0, 1.0, -1.0)
    X = (X * np.logspace(-4, 4, 9)).astype(np.float32)
    F = Objective(Design.from_array(layout(X)), y, alpha=1 / 2000)
    tol = {newton: 1e-6, lbfgs: 1e-3}[solver]  # in units of the columns
    result = solver(F, F.zeros(), tol=tol, max_iter=300)
    assert result.stop_reason == "tol"
    assert np.linalg.norm(reference.gradient(X.astype(float), y, result.w.astype(float), alpha=1 / 2000)) <= 1.01 * tol
    easy = logistic(dtype=np.float32)
    assert solver(easy, easy.zeros(), tol=1e-5, max_iter=300).w.dtype == np.float32


def test_newton_does_not_mind_linear_changes_of_the_columns():
    """Without penalty, X A takes no more than the digits that a gradient 1,000 times longer asks for."""
    one, other = logistic(alpha=0.0), logistic(alpha=0.0)
    A = np.random.default_rng(3).standard_normal((6, 6)) * np.logspace(-3, 3, 6)
    other = Objective(Design.from_array(one.design.values @ A), one.y)
    few, same = (newton(F, F.zeros(), tol=1e-8, max_iter=100) for F in (one, other))
    assert same.stop_reason == "tol"
    assert same.n_iter <= few.n_iter + 4
    assert_close(A @ same.w[:-1], few.w[:-1], 1e-6)


def test_singular_curvature():
    """A column twice and one of zeros, without penalty: a step that solves H p = -g where it can be solved."""
    X = np.random.default_rng(0).standard_normal((300, 3))
    X = np.column_stack([X, X[:, 0], np.zeros(300)])
    y = np.where(X[:, 1] + np.random.default_rng(1).logistic(size=300) > 0, 1.0, -1.0)
    F = Objective(Design.from_array(X), y)
    w = np.zeros(F.shape)
    g = F.gradient(w)
    p = Curvature(F, w, 300, np.float64).solve(g)
    assert_close(F.hessian_product(w, p), g, 1e-9)
    result = newton(F, w, tol=1e-10, max_iter=50)
    assert result.stop_reason == "tol"
    assert np.abs(result.w).max() < 10


def test_no_step_raises_F():
    """From far off, where whole Newton steps diverge."""
    F = logistic(alpha=1e-6)
    descent = Descent(F, np.full(F.shape, 30.0))
    values = [descent.value]
    while descent.step() and len(values) < 50 and np.linalg.norm(descent.gradient) > 1e-10:
        values.append(descent.value)
    assert (np.diff(values) <= 1e-12).all()
    assert np.linalg.norm(descent.gradient) <= 1e-8


@pytest.mark.parametrize("n_outputs", [1, 3])
@pytest.mark.parametrize("fit_intercept", [False, True])
def test_scaled_variables(n_outputs, fit_intercept):
    """There and back; the gradient is F's in u; the curvature at 0 is the same for each of them."""
    rng = np.random.default_rng(0)
    X = (rng.standard_normal((500, 4)) + np.array([0, 5, -5, 1])) * [1e-3, 1, 30, 1e4]
    y = rng.integers(0, n_outputs, 500).astype(float) if n_outputs > 1 else rng.choice([-1.0, 1.0], 500)
    loss = "multinomial" if n_outputs > 1 else "log_loss"
    F = Objective(Design.from_array(X), y, loss=loss, alpha=1e-3, n_outputs=n_outputs, fit_intercept=fit_intercept)
    V, w = Scaled(F), rng.standard_normal(F.shape) / np.append([1e-3, 1, 30, 1e4], [1] * fit_intercept)[:, None]
    u = V.start(w)
    assert_close(V.parameters(u), w, 1e-12)
    numeric = approx_fprime(u, lambda u: F.value(V.parameters(u)), 1e-7)
    assert_close(V.gradient(F.gradient(w)), numeric, 1e-4)
    if n_outputs == 1:
        zero = np.zeros(u.size)
        H = approx_fprime(zero, lambda u: V.gradient(F.gradient(V.parameters(u))), 1e-5)
        np.testing.assert_allclose(H.diagonal(), 1.0, rtol=1e-3)


def test_a_hessian_that_no_memory_holds_is_refused():
    """20 GB for 50,000 columns: the process was killed."""
    X = scipy.sparse.random_array((20, 50_000), density=1e-3, format="csr", rng=np.random.default_rng(0))
    y = np.arange(20) % 2
    rule = r"a function of 50,001 parameters \(at most 5,000\); got 'newton'\. Use 'lbfgs'"
    with pytest.raises(ValueError, match=rule):
        LogisticRegression(solver="newton").fit(X, y)
    assert LogisticRegression().fit(X, y).converged_


def test_ctrl_c_in_the_first_pass(monkeypatch):
    """There are no parameters yet to keep."""

    def interrupted(self, *at):
        raise KeyboardInterrupt

    monkeypatch.setattr(Objective, "smooth_value_and_gradient", interrupted)
    with pytest.raises(KeyboardInterrupt):
        LogisticRegression(solver="newton").fit([[0.0], [1.0], [2.0]], [0, 1, 1])


# ---- L1 -------------------------------------------------------------------------------------------------------------


def quadratic(rng, size, rank, scale):
    """H of a rank, a slope for which the quadratic is bounded below, and a point."""
    A = rng.standard_normal((rank, size)) * np.logspace(0, scale, size)
    return A.T @ A / rank, A.T @ rng.standard_normal(rank), rng.standard_normal(size) * (rng.random(size) < 0.5)


@pytest.mark.parametrize("size", [1, 2, 7, 40])
@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("scale", [0, 2])
@pytest.mark.parametrize("seed", range(5))
def test_the_quadratic_with_l1(size, flat, scale, seed):
    """Its minimum by the conditions for it; the last coordinates bear no L1."""
    rng = np.random.default_rng(seed)
    H, slope, w = quadratic(rng, size, max(1, size // 2) if flat else 3 * size, scale)
    n_penalised, l1 = size - size // 4, 0.3 * np.abs(slope).max()
    v = minimiser(H, slope, w, l1, n_penalised, 1e-15, enough=0.0, steps=1000)
    g = slope + H @ (v - w)
    rounding = 1e-6 * np.abs(slope).max()
    assert (np.abs(g[n_penalised:]) <= rounding).all()
    g, v = g[:n_penalised], v[:n_penalised]
    assert (np.abs(g[v == 0]) <= l1 + rounding).all()
    np.testing.assert_allclose(g[v != 0], -l1 * np.sign(v[v != 0]), atol=rounding)


@pytest.mark.parametrize("seed", range(20))
def test_every_step_on_the_quadratic_goes_down(seed):
    rng = np.random.default_rng(seed)
    H, slope, w = quadratic(rng, 40, 20, 2)
    l1 = 0.01 * np.abs(slope).max()

    def value(v):
        return slope @ (v - w) + (v - w) @ H @ (v - w) / 2 + l1 * np.abs(v).sum()

    values = [value(w)]
    for steps in range(1, 30):
        values.append(value(minimiser(H, slope, w, l1, 40, 1e-15, enough=0.0, steps=steps)))
    assert values[1] < values[0]
    assert (np.diff(values) <= 1e-9 * np.abs(values[0])).all()


def test_a_column_of_zeros_gets_no_coefficient():
    H, slope, w = np.diag([1.0, 0.0, 2.0]), np.array([-1.0, 0.0, 0.0]), np.array([0.0, 3.0, 1.0])
    np.testing.assert_allclose(minimiser(H, slope, w, 0.5, 2, 1e-15), [0.5, 0.0, 1.0])


@pytest.mark.parametrize("loss", [name for name in SMOOTH if LOSSES[name].targets != "multiclass"])
@pytest.mark.parametrize("layout", ["dense", "csr32"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("l1_ratio", [0.5, 1.0])
def test_every_smooth_loss_with_l1(loss, layout, weighted, l1_ratio):
    p = problem(loss, layout, n=200, weighted=weighted)
    F = p.objective(alpha=0.1, l1_ratio=l1_ratio)
    result = newton(F, np.zeros(p.shape), tol=1e-8, max_iter=300)
    assert result.stop_reason == "tol"
    size = np.linalg.norm(F.gradient(result.w))
    assert size <= 1e-8
    assert result.grad_norm == pytest.approx(size, abs=1e-13)
    g = reference.gradient(p.dense, p.y, result.w, alpha=0.1 * (1 - l1_ratio), **p.terms)[:-1]
    w, l1 = result.w[:-1], 0.1 * l1_ratio
    np.testing.assert_allclose(g[w != 0], -l1 * np.sign(w[w != 0]), atol=1e-7)
    assert (np.abs(g[w == 0]) <= l1 + 1e-7).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_outputs", [1, 3])
@pytest.mark.parametrize("offset", [100.0, 2000.0])
def test_columns_far_from_zero_with_l1(offset, n_outputs, dtype):
    """Such as years: the intercept takes what their means add, so that it needs no more steps than without them."""
    rng = np.random.default_rng(0)
    X = offset + np.round(8 * rng.standard_normal((600, 12))) / 8  # exact in float32 too
    scores = X[:, : max(2, n_outputs)] + rng.gumbel(size=(600, max(2, n_outputs)))
    y = scores.argmax(axis=1).astype(float)
    y = y if n_outputs > 1 else 2 * y - 1
    terms = {"loss": "multinomial" if n_outputs > 1 else "log_loss", "alpha": 0.01, "l1_ratio": 1.0}
    F = Objective(Design.from_array(X.astype(dtype)), y, n_outputs=n_outputs, **terms)
    result = newton(F, F.zeros(), tol=1e-3, max_iter=20)
    assert result.stop_reason == "tol"
    g = reference.gradient(X, y, result.w, **terms)
    assert np.linalg.norm(g) <= 1.01e-3
    assert (result.w[:-1] == 0).any()


def sparse_truth(n, d, dtype=np.float64, layout=np.asarray, n_outputs=1, seed=0, alpha=0.02, **options):
    """Few of many columns matter."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d)) * (rng.random((n, d)) < (1 if layout is np.asarray else 0.2))
    planted = rng.standard_normal((d, max(2, n_outputs))) * (rng.random(d) < 8 / d)[:, None]
    y = (X @ planted + 0.3 * rng.gumbel(size=(n, max(2, n_outputs)))).argmax(axis=1).astype(float)
    options = {"alpha": alpha, "loss": "multinomial" if n_outputs > 1 else "log_loss", "l1_ratio": 1.0} | options
    y = y if n_outputs > 1 else 2 * y - 1
    return Objective(Design.from_array(layout(X.astype(dtype))), y, n_outputs=n_outputs, **options)


@pytest.mark.parametrize("layout", [np.asarray, scipy.sparse.csr_array])
@pytest.mark.parametrize("n_outputs", [1, 4])
@pytest.mark.parametrize("l1_ratio", [0.5, 1.0])
@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("entry", [0, 1e30], ids=["columns", "hessians"])
def test_rounds_of_the_columns_that_l1_leaves(
    layout, n_outputs, l1_ratio, fit_intercept, entry, dtype, monkeypatch
):  # fmt: skip
    """Many more columns than have coefficients: L-BFGS's minimum, exact zeros, F falling from round to round."""
    for name in ("ENTRY", "ENTRY_OF_SEVERAL"):
        monkeypatch.setattr(f"fastopt.solvers.newton.{name}", entry)
    F = sparse_truth(300, 400, dtype, layout, n_outputs, l1_ratio=l1_ratio, fit_intercept=fit_intercept)
    result = newton(F, F.zeros(), tol=1e-6, max_iter=50)
    assert result.stop_reason == "tol"
    assert result.n_iter <= 12
    assert (np.diff(result.history["objective"]) < 0).all()
    assert result.history["epoch"].tolist() == list(range(result.n_iter + 1))
    other = lbfgs(F, F.zeros(), tol=1e-5, max_iter=2000)
    assert F.value(result.w) <= other.objective + 1e-9
    assert F.value(result.w) == pytest.approx(other.objective, rel=1e-6)
    assert 0 < (result.w[:400] != 0).sum() < 200 * n_outputs
    if n_outputs > 1 and fit_intercept:  # F is flat along equal changes of all: they stay where they were
        assert abs(result.w[-1].sum()) < 1e-6
    assert np.linalg.norm(F.gradient(result.w)) <= 1e-6


def test_rounds_where_very_many_columns_are_alike():
    """The first ones' part of the gradient is less than a tenth of it, and each counts; F* by hand."""
    n, alpha = 200, 0.1 / 200
    X = scipy.sparse.csr_array(np.kron(np.eye(n), np.ones(10)))  # a row's margin is the sum of ten coefficients
    F = Objective(Design.from_array(X), np.ones(n), alpha=alpha, l1_ratio=1.0, fit_intercept=False)
    result = newton(F, F.zeros(), tol=1e-8, max_iter=50)
    assert result.stop_reason == "tol"
    assert result.objective == pytest.approx(np.log1p(1 / 9) + n * alpha * np.log(9), rel=1e-9)


@pytest.mark.parametrize("layout", [np.asarray, scipy.sparse.csr_array])
@pytest.mark.parametrize("loss", ["multinomial", "log_loss", "squared_error"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("fit_intercept", [False, True])
def test_the_hessian_of_some_parameters(layout, loss, weighted, fit_intercept, dtype, monkeypatch):
    """Is the whole one's rows and columns."""
    rng, n, K = np.random.default_rng(0), 400, 3
    X = (rng.standard_normal((n, 6)) * (rng.random((n, 6)) < 0.6)).astype(dtype)
    y = rng.integers(0, K, n).astype(float) if loss == "multinomial" else rng.choice([-1.0, 1.0], (n, K))
    s = rng.random(n) if weighted else None
    options = {"alpha": 0.3, "l1_ratio": 0.5, "n_outputs": K, "sample_weight": s, "fit_intercept": fit_intercept}
    F = Objective(Design.from_array(layout(X)), y, loss=loss, **options)
    w = rng.standard_normal(F.shape)
    some = np.array([0, 1, 5, 6, 7, 8, 16, *range(18, w.size)])
    whole = F.hessian(w, np.float64)[np.ix_(some, some)]
    monkeypatch.setattr("fastopt.objective.BLOCK", 1000)  # in blocks of rows
    assert_close(F.hessian_of(some, w, np.float64), whole, 1e-13)
    assert_close(F.hessian_of(some, w, np.float32), whole, 1e-5)


def test_rounds_with_weights_are_those_of_repeated_rows():
    F = sparse_truth(200, 300)
    counts = np.random.default_rng(1).integers(0, 3, 200)
    X, y = F.design.values, F.y
    weighted = Objective(F.design, y, alpha=0.02, l1_ratio=1.0, sample_weight=counts.astype(float))
    X, y = np.repeat(X, counts, axis=0), np.repeat(y, counts)
    repeated = Objective(Design.from_array(X), y, alpha=0.02, l1_ratio=1.0)
    one, other = (newton(G, G.zeros(), tol=1e-9, max_iter=50) for G in (weighted, repeated))
    assert one.stop_reason == other.stop_reason == "tol"
    assert_close(one.w, other.w, 1e-6)


def test_rounds_go_on_with_the_products_that_they_had():
    """float32 ones make other bits."""
    F = sparse_truth(300, 400)
    first, exact = Rounds(F, F.zeros()), Rounds(F, F.zeros(), dtype=np.float64)
    again = Rounds.from_dict(F, exact.as_dict())
    assert all(rounds.step(1e-6) for rounds in (first, exact, again))
    np.testing.assert_array_equal(again.w, exact.w)
    assert (first.w != exact.w).any()
    assert Rounds.from_dict(F, exact.as_dict() | {"dtype": "int8"}) is None


def test_rounds_start_from_coefficients():
    F = sparse_truth(300, 400)
    best = newton(F, F.zeros(), tol=1e-8, max_iter=50).w
    again = newton(F, best, tol=1e-7, max_iter=50)
    assert (again.n_iter, again.stop_reason) == (0, "tol")
    far = newton(F, np.random.default_rng(0).standard_normal(F.shape), tol=1e-8, max_iter=50)
    assert far.stop_reason == "tol"
    assert_close(far.w, best, 1e-5)


def column_problem(loss, layout, dtype, *, outputs=1, weighted=False, fit_intercept=True):
    """F with both penalties of 40 rows and 12 columns, and parameters of all columns but two."""
    p = problem(loss, layout, dtype, outputs=outputs, weighted=weighted, fit_intercept=fit_intercept)
    F = p.objective(alpha=0.05, l1_ratio=0.4)
    w = np.random.default_rng(0).standard_normal(p.shape) * (np.arange(p.shape[0]) % 3 > 0)[:, None]
    some = np.arange(w.size)[2 * p.n_outputs :]
    return F, w, some


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("loss", "outputs"), [("log_loss", 1), ("squared_error", 3), ("multinomial", 1)])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("fit_intercept", "at_once"), [(False, 10**9), (True, 100)])
def test_sweeps_over_columns_minimise_the_quadratic(
    layout, loss, outputs, weighted, fit_intercept, at_once, dtype, monkeypatch
):  # fmt: skip
    """Against its Hessian by itself: the minimum's conditions hold, and no other parameter has moved."""
    monkeypatch.setattr("fastopt.solvers.columns.WORK", at_once)
    monkeypatch.setattr("fastopt.solvers.columns.MOST", 400)
    monkeypatch.setattr("fastopt.solvers.columns.ENOUGH", 0.0)
    F, w, some = column_problem(
        loss, layout, dtype, outputs=outputs, weighted=weighted, fit_intercept=fit_intercept
    )  # fmt: skip
    step = (ColumnDescent(F, w, some)._minimiser(bound=False) - w).reshape(-1)
    assert not np.delete(step, some)[: 2 * F.n_outputs].any()
    slope = (F.smooth_value_and_gradient(w)[1].reshape(-1) + F.hessian(w, np.float64) @ step)[some]
    new, penalised = (w.reshape(-1) + step)[some], some < F.n_features * F.n_outputs
    assert (new[penalised] == 0).any()
    assert (new[penalised] != 0).any()
    off = np.where(new != 0, slope + F.l1 * np.sign(new), np.maximum(np.abs(slope) - F.l1, 0.0))
    assert np.abs(np.where(penalised, off, slope)).max() < 1e-9


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("loss", "outputs"), [("log_loss", 1), ("log_loss", 2), ("multinomial", 1)])
@pytest.mark.parametrize("weighted", [False, True])
def test_sweeps_over_columns_under_the_largest_curvature(layout, loss, outputs, weighted, dtype):
    """F falls by a whole step from anywhere: where margins are so wrong that there is no curvature, too."""
    F, w, some = column_problem(loss, layout, dtype, outputs=outputs, weighted=weighted)
    for scale in (1.0, 30.0, 1e4):
        target = ColumnDescent(F, scale * w, some)._minimiser(bound=True)
        assert F.value(target) < F.value(scale * w)
        descent = ColumnDescent(F, scale * w, some)
        assert descent.step()
        assert descent.value < F.value(scale * w)
        assert descent.value == pytest.approx(F.value(descent.w), rel=1e-13)


@pytest.mark.parametrize("layout", [np.asarray, scipy.sparse.csr_array])
@pytest.mark.parametrize("n_outputs", [1, 3])
def test_many_columns_that_l1_keeps(layout, n_outputs):
    """Nearly separable rows, whose Hessians in very many parameters took minutes: not above where L-BFGS comes to."""
    F = sparse_truth(300, 400, layout=layout, n_outputs=n_outputs, alpha=1e-4)
    result = newton(F, F.zeros(), tol=1e-6, max_iter=50)
    assert result.stop_reason == "tol"
    assert (result.w[:-1] != 0).sum() > 60
    assert np.linalg.norm(F.gradient(result.w)) <= 1e-6
    other = lbfgs(F, F.zeros(), tol=1e-4, max_iter=500)
    assert F.value(result.w) <= other.objective + 1e-9


def test_where_l1_keeps_all_at_zero():
    F = sparse_truth(300, 400, alpha=10.0)
    result = newton(F, F.zeros(), tol=1e-8, max_iter=50)
    assert result.stop_reason == "tol"
    assert not result.w[:-1].any()
    share = (F.y > 0).mean()
    assert result.w[-1, 0] == pytest.approx(np.log(share / (1 - share)), rel=1e-6)


@pytest.mark.parametrize("index", [np.int32, np.int64])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_l1_where_no_column_has_an_entry(index, n_classes):
    """The intercepts alone are left, the logarithms of the classes' shares."""
    X = scipy.sparse.csr_array((4, 2))
    X.indices, X.indptr = X.indices.astype(index), X.indptr.astype(index)
    y = np.array([0, 1, 1, 1]) if n_classes == 2 else np.array([0, 1, 2, 2])
    model = LogisticRegression(l1_ratio=1.0, tol=1e-9).fit(X, y)
    assert not model.coef_.any()
    shares = np.log(np.bincount(y))
    expected = shares[1:] - shares[0] if n_classes == 2 else shares - shares.mean()
    np.testing.assert_allclose(model.intercept_, expected, atol=1e-7)


@pytest.mark.parametrize("beyond", [0.0, 1e-9, 1e-4, 0.05, 1.0])
def test_factors_of_what_is_not_positive_definite(beyond):
    """By the least of ridges, each ten times the last, that makes it so; by the diagonal alone where none does."""
    scales, v = np.array([1.0, 1e3, 1e-2]), np.array([1.0, -2.0, 3.0])
    H = np.array([[1, 1 + beyond, 0], [1 + beyond, 1, 0], [0, 0, 1]])  # the least eigenvalue is -beyond
    ridges = [ridge for ridge in 1e-12 * 10.0 ** np.arange(12) if ridge > beyond]
    expected = np.linalg.solve(H + ridges[0] * np.eye(3) if ridges else np.eye(3), v / scales) / scales
    np.testing.assert_allclose(factor(H * np.outer(scales, scales), 1e-12)(v), expected, rtol=1e-3)
