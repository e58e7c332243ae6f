"""L1 and elastic net with every rule: the reference's steps, and at convergence scikit-learn's minimisers."""

import numpy as np
import pytest
import scipy.sparse
from cases import ELASTIC_NET, assert_close, options_of, problem, start, trajectory
from sklearn.linear_model import ElasticNet, LogisticRegression

from fastopt._design import Design
from fastopt.objective import Objective
from fastopt.optimizers import OPTIMIZERS
from fastopt.schedules import Cosine
from fastopt.solvers.epochs import Epochs
from fastopt.solvers.lbfgs import lbfgs

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


AT_ONCE = "gd", "sgd"  # rules whose columns do not wait by the lazy kernel
WAITING = pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name not in AT_ONCE])


def check_epochs(name, loss, batch_size, alpha, l1_ratio, options=None, **terms):
    """Whole epochs, in which columns wait, against the reference's steps."""
    p, options = problem(loss, "csr32"), options or {}
    order, ws, states = trajectory(
        name, loss, alpha, batch_size, l1_ratio=l1_ratio, epochs=3, options=tuple(options.items()), **terms
    )
    fast = Epochs(
        p.objective(alpha, l1_ratio), OPTIMIZERS[name](**{"learning_rate": 0.05} | options), batch_size, w=ws[0],
        lazy=True,
    )  # fmt: skip
    assert fast._may_wait
    for k, one in enumerate(np.split(order, 3)):
        fast.run(one)
        last = (k + 1) * fast.n_steps
        assert_close(fast.w, ws[last], 1e-9)
        for slot in fast.optimizer.slots:
            assert_close(fast.state[slot], states[last][slot], 1e-9)


@pytest.mark.parametrize("options", [{}, {"learning_rate": 0.003}, {"beta_1": 0.1}, {"beta_2": 0.0}], ids=str)
@pytest.mark.parametrize("alpha", [1e-4, 0.01, 0.1, 1.0])
@pytest.mark.parametrize("batch_size", [1, 7])
def test_lion_waits_exactly(batch_size, alpha, options):
    """The dense algorithm's steps: a weight rises for a while, falls, and rests at zero."""
    check_epochs("lion", "log_loss", batch_size, alpha, 1.0, options)


@pytest.mark.parametrize("batch_size", [1, 7])
def test_ftrl_waits_exactly(batch_size):
    """On CSR its L1 needs no weights: w follows from the sums and the step."""
    check_epochs("ftrl", "log_loss", batch_size, 0.1, 1.0)


@pytest.mark.parametrize("loss", ["log_loss", "multinomial"])
@pytest.mark.parametrize("l1_ratio", [0.4, 1.0])
@pytest.mark.parametrize("batch_size", [1, 7])
@WAITING
def test_waiting_steps_equal_the_reference(name, batch_size, l1_ratio, loss):
    check_epochs(name, loss, batch_size, 0.1, l1_ratio, waiting=True)


@WAITING
def test_every_option_while_columns_wait(name):
    for options in options_of(name):
        if not {"clipnorm", "clipvalue", "ema_momentum", "weight_decay"} & set(options):
            options |= {"weight_decay": None}  # with AdamW's and `decay` every coordinate steps
            check_epochs(name, "log_loss", 7, 0.1, 1.0, options, waiting=True)


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name not in AT_ONCE and "schedule_free" not in name])
def test_columns_that_wait_rest_at_zero(name):
    """A rare column, each of whose gradients is within L1 over its share; beside it one that matters."""
    rng = np.random.default_rng(0)
    n, alpha, rate = 2000, 0.1, RATES[name] / 2
    X = scipy.sparse.csr_array(np.column_stack([rng.random(n) < 0.1, np.ones(n)]), dtype=np.float64)
    F = Objective(
        Design.from_array(X), np.where(rng.random(n) < 0.95, 1.0, -1.0), alpha=alpha, l1_ratio=1.0, fit_intercept=False
    )
    fast = Epochs(F, OPTIMIZERS[name](learning_rate=rate, weight_decay=None), 1, w=np.array([[0.1], [0.0]]), lazy=True)
    for k in range(10):
        fast.run(rng.permutation(n), np.full(n, rate if name == "ftrl" else rate * (1 - k / 10)))
    best = lbfgs(F, F.zeros(), tol=1e-8, max_iter=100).w
    assert best[0] == 0
    assert fast.solution[0] == 0
    assert fast.solution[1] == pytest.approx(best[1], rel=0.2)


def minimiser(p, alpha, l1_ratio):
    """scikit-learn's saga, to its last digits."""
    model = LogisticRegression(
        C=1 / (alpha * N), l1_ratio=l1_ratio, solver="saga", tol=1e-14, max_iter=200_000, fit_intercept=p.fit_intercept,
        **ELASTIC_NET,
    ).fit(p.dense, p.y)  # fmt: skip
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
