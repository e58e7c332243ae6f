"""L1 and elastic net with every rule: the reference's steps, and at convergence scikit-learn's minimisers."""

import numpy as np
import pytest
from cases import assert_close, options_of, problem, start, trajectory
from sklearn.linear_model import ElasticNet, LogisticRegression

from fastopt.optimizers import OPTIMIZERS
from fastopt.schedules import Cosine
from fastopt.solvers.lbfgs import lbfgs
from fastopt.solvers.stochastic import Epochs

NAMES = pytest.mark.parametrize("name", OPTIMIZERS)
N = 40


def check(p, name, expected, batch_size, alpha, l1_ratio, tolerance, options=(), lazy=False):
    order, ws, states = expected
    optimizer = OPTIMIZERS[name](**{"learning_rate": 0.05} | dict(options))
    fast = Epochs(p.objective(alpha, l1_ratio), optimizer, batch_size, w=start(p.shape), lazy=lazy)
    rows = N if name == "gd" else batch_size
    for k in range(1, len(ws)):
        fast.run(order[(k - 1) * rows : k * rows])
        assert_close(fast.w, ws[k], tolerance)
        for slot in optimizer.slots:
            assert_close(fast.state[slot], states[k][slot], tolerance)


@pytest.mark.parametrize("loss", ["log_loss", "multinomial"])
@pytest.mark.parametrize("l1_ratio", [0.4, 1.0])
@pytest.mark.parametrize("batch_size", [1, 7, N])
@pytest.mark.parametrize("layout", ["dense", "csr32"])
@NAMES
def test_every_step_equals_the_reference(name, layout, batch_size, l1_ratio, loss):
    expected = trajectory(name, loss, 0.1, batch_size, l1_ratio=l1_ratio)
    check(problem(loss, layout), name, expected, batch_size, 0.1, l1_ratio, 1e-10)


@pytest.mark.parametrize("batch_size", [7, N])
@NAMES
def test_every_option(name, batch_size):
    for options in options_of(name):
        if {"clipnorm", "clipvalue", "ema_momentum"} & set(options):
            continue  # around the step: before the gradient reaches it, or after L1
        options = tuple(options.items())
        expected = trajectory(name, "log_loss", 0.1, batch_size, l1_ratio=0.4, options=options)
        check(problem(), name, expected, batch_size, 0.1, 0.4, 1e-10, options)


@pytest.mark.parametrize("batch_size", [1, 7])
def test_ftrl_waits_exactly(batch_size):
    """On CSR its L1 needs no weights: w follows from the sums and the step."""
    expected = trajectory("ftrl", "log_loss", 0.1, batch_size, l1_ratio=1.0)
    check(problem(layout="csr32"), "ftrl", expected, batch_size, 0.1, 1.0, 1e-10, lazy=True)


def minimiser(p, alpha, l1_ratio):
    """scikit-learn's saga, to its last digits."""
    model = LogisticRegression(
        C=1 / (alpha * N), l1_ratio=l1_ratio, solver="saga", tol=1e-14, max_iter=200_000, fit_intercept=p.fit_intercept
    ).fit(p.dense, p.y)
    return np.append(model.coef_, model.intercept_)[:, None]


RATES = {
    "gd": 0.5, "sgd": 0.5, "momentum": 0.1, "nesterov": 0.1, "adagrad": 0.3, "rmsprop": 0.02, "adam": 0.02,
    "adamw": 0.02, "nadam": 0.02, "adamax": 0.02, "adadelta": 10.0, "ftrl": 0.3, "lion": 0.005,
    "schedule_free_sgd": 0.5, "schedule_free_adamw": 0.02,
}  # fmt: skip


@pytest.mark.parametrize(("batch_size", "l1_ratio"), [(N, 0.5), (N, 1.0), (8, 0.5)])
@NAMES
def test_fixed_points(name, batch_size, l1_ratio):
    """On CSR, with columns that wait where the rule lets them; the learning rate falls to zero where it may."""
    p, alpha, epochs = problem(layout="csr32", d=8), 0.05, 3000 if batch_size == N else 800
    best = minimiser(p, alpha, l1_ratio)
    own = "schedule_free" in name or name == "ftrl"
    steps = epochs * -(-N // batch_size)
    rate = RATES[name] if own else Cosine(RATES[name], steps + 1)
    F, optimizer = p.objective(alpha, l1_ratio), OPTIMIZERS[name](learning_rate=rate, weight_decay=None)
    fast, rng = Epochs(F, optimizer, batch_size, lazy=batch_size != N), np.random.default_rng(0)
    for _ in range(epochs):
        fast.run(rng.permutation(N))
    gap = F.value(fast.solution) - F.value(best)
    distance = np.linalg.norm(fast.solution - best) / np.linalg.norm(best)
    assert gap > -1e-12, "scikit-learn's is the minimiser"
    full = name == "gd" or batch_size == N
    tight = full and not own and name not in ("adadelta", "lion")
    assert distance < (1e-5 if tight else 0.05)
    if tight:
        assert np.array_equal(fast.solution == 0, best == 0)
        assert (best == 0).sum() > 1


# --- lbfgs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["dense", "csr32"])
@pytest.mark.parametrize("l1_ratio", [0.15, 0.5, 1.0])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_lbfgs_equals_saga(layout, l1_ratio, fit_intercept):
    p, alpha = problem(layout=layout, fit_intercept=fit_intercept), 0.03
    F = p.objective(alpha, l1_ratio)
    result = lbfgs(F, F.zeros(), tol=1e-8, max_iter=500)
    best = minimiser(p, alpha, l1_ratio)[: p.shape[0]]
    assert result.stop_reason == "tol"
    assert np.linalg.norm(F.gradient(result.w)) <= 1e-8
    assert result.objective == pytest.approx(F.value(result.w), rel=1e-14)
    assert_close(result.w, best, 1e-6)
    np.testing.assert_array_equal(result.w == 0, best == 0)
    again = lbfgs(F, result.w, tol=1e-8, max_iter=500)
    assert again.n_iter == 0


@pytest.mark.parametrize("l1_ratio", [0.5, 1.0])
def test_lbfgs_equals_coordinate_descent(l1_ratio):
    p = problem("squared_error")
    F = p.objective(0.05, l1_ratio)
    result = lbfgs(F, start(p.shape), tol=1e-10, max_iter=500)
    theirs = ElasticNet(alpha=0.05, l1_ratio=l1_ratio, tol=1e-14, max_iter=100_000).fit(p.dense, p.y)
    assert result.stop_reason == "tol"  # beyond where F's rounding ends the line search
    assert_close(result.w[:-1, 0], theirs.coef_, 1e-8)
    assert (theirs.coef_ == 0).any()
    np.testing.assert_array_equal(result.w[:-1, 0] == 0, theirs.coef_ == 0)


@pytest.mark.parametrize(("loss", "outputs"), [("multinomial", 1), ("huber", 3)])
def test_lbfgs_of_several_outputs(loss, outputs):
    p = problem(loss, outputs=outputs)
    F = p.objective(0.02, 0.7)
    result = lbfgs(F, F.zeros(), tol=1e-8, max_iter=1000)
    assert result.stop_reason == "tol"
    assert (result.w[:-1] == 0).any()
