"""fastopt.minimize and the rules as methods of scipy.optimize.minimize."""

import math
import re
import warnings

import numpy as np
import pytest
import scipy.optimize
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import OptimizeWarning

import fastopt
from fastopt import minimize
from fastopt.optimizers import OPTIMIZERS, SGD, Adam, GradientDescent, RMSprop, ScheduleFreeSGD
from fastopt.schedules import Exponential

NAMES = pytest.mark.parametrize("name", OPTIMIZERS)


def falling(initial, rate=0.97, steps=10):
    return Exponential(initial, decay_steps=steps, decay_rate=rate)


# Settings with which each rule gets to a gradient of 1e-8 on the quadratic, and to x within 1e-3 on Rosenbrock's.
# Rules whose steps do not shrink with the gradient need a learning rate that falls.
SETTINGS = {
    "gd": ({"learning_rate": 0.15}, {"learning_rate": 0.002}),
    "sgd": ({"learning_rate": 0.15}, {"learning_rate": 0.002}),
    "momentum": ({"learning_rate": 0.05}, {"learning_rate": 0.0005}),
    "nesterov": ({"learning_rate": 0.05}, {"learning_rate": 0.0005}),
    "adagrad": ({"learning_rate": 1.0}, {"learning_rate": falling(0.5, 0.9, 1000)}),
    "rmsprop": ({"learning_rate": falling(0.05)}, {"learning_rate": falling(0.01, 0.8, 200)}),
    "adam": ({"learning_rate": falling(0.1)}, {"learning_rate": falling(0.1, 0.97, 100)}),
    "adamw": (
        {"learning_rate": falling(0.1), "weight_decay": None},  # weight decay moves the minimum
        {"learning_rate": falling(0.1, 0.97, 100), "weight_decay": None},
    ),
    "nadam": ({"learning_rate": falling(0.1)}, {"learning_rate": falling(0.1, 0.97, 100)}),
    "adamax": ({"learning_rate": falling(0.1)}, {"learning_rate": falling(0.1, 0.97, 100)}),
    "adadelta": (
        {"learning_rate": 1.0, "epsilon": 1e-4},
        {"learning_rate": falling(1.0, 0.7, 500), "epsilon": 1e-5},
    ),
    "ftrl": ({"learning_rate": 1.0}, {"learning_rate": 0.5}),
    "lion": ({"learning_rate": falling(0.05)}, {"learning_rate": falling(0.01, 0.8, 200)}),
    "schedule_free_sgd": ({"learning_rate": 0.3}, {"learning_rate": 0.01}),
    "schedule_free_adamw": ({"learning_rate": 0.1}, {"learning_rate": 0.02, "r": 3.0}),
}

Q = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0]
A = Q @ np.diag([1.0, 4.0, 10.0]) @ Q.T
B = np.array([1.0, -2.0, 0.5])


def quadratic(x):
    return 0.5 * x @ A @ x - B @ x


def quadratic_gradient(x):
    return A @ x - B


def rosenbrock(x):
    return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2


def rosenbrock_gradient(x):
    inner = 200 * (x[1] - x[0] ** 2)
    return np.array([-2 * (1 - x[0]) - 2 * x[0] * inner, inner])


def parabola(x, center=0.0):
    return (x - center) ** 2


def parabola_gradient(x, center=0.0):
    return 2 * (x - center)


class LeastSquares:
    """Mean squared error over rows, and its gradient; it notes the rows it was asked for."""

    def __init__(self, n=120, d=3, noise=0.0, seed=0):
        rng = np.random.default_rng(seed)
        self.X = rng.standard_normal((n, d))
        self.y = self.X @ np.arange(1.0, d + 1) + noise * rng.standard_normal(n)
        self.solution = np.linalg.lstsq(self.X, self.y)[0]
        self.rows = []

    def fun(self, w, rows):
        return np.mean((self.X[rows] @ w - self.y[rows]) ** 2) / 2

    def jac(self, w, rows):
        self.rows.append(np.array(rows))
        return self.X[rows].T @ (self.X[rows] @ w - self.y[rows]) / len(rows)


# --- it gets there --------------------------------------------------------------------------------------------------


@NAMES
def test_quadratic_to_1e_8(name):
    rule = OPTIMIZERS[name](**SETTINGS[name][0])
    result = minimize(quadratic, np.ones(3), quadratic_gradient, optimizer=rule, tol=1e-8)
    assert (result.success, result.status) == (True, 0)
    assert np.linalg.norm(A @ result.x - B) <= 1e-8
    assert_allclose(result.x, np.linalg.solve(A, B), rtol=0, atol=1e-8)


@NAMES
def test_rosenbrock_to_1e_3(name):
    rule = OPTIMIZERS[name](**SETTINGS[name][1])
    result = minimize(rosenbrock, [-1.0, 1.0], rosenbrock_gradient, optimizer=rule, tol=2e-4, max_iter=20_000)
    assert_allclose(result.x, 1, rtol=0, atol=1e-3)
    assert result.fun <= 1e-6


@NAMES
def test_scipys_minimize_gives_the_same_bits(name):
    for settings, problem, x0 in zip(
        SETTINGS[name], [(quadratic, quadratic_gradient), (rosenbrock, None)], [np.ones(3), [-1.0, 1]], strict=True
    ):
        rule = OPTIMIZERS[name](**settings)
        ours = minimize(problem[0], x0, problem[1], optimizer=rule, tol=1e-5, max_iter=300)
        theirs = scipy.optimize.minimize(
            problem[0], x0, jac=problem[1], method=rule, tol=1e-5, options={"maxiter": 300}
        )
        assert_same(ours, theirs)
    assert minimize(quadratic, np.ones(3), quadratic_gradient, optimizer=name, max_iter=9).nit == 9


def assert_same(a, b):
    assert set(a) == set(b)
    for key in a:
        assert_array_equal(a[key], b[key], err_msg=key, strict=True)


# --- closed forms and the loop --------------------------------------------------------------------------------------


@pytest.mark.parametrize("lr", [0.1, 0.4, 0.5, 0.75, 1.0, 1.5])
def test_parabola_in_closed_form(lr):
    path = []
    rule = GradientDescent(learning_rate=lr)
    minimize(parabola, 2.0, parabola_gradient, optimizer=rule, callback=path.append, max_iter=20)
    expected = 2 * (1 - 2 * lr) ** np.arange(1.0, len(path) + 1)
    assert_allclose(path, expected, rtol=1e-12, atol=1e-15)
    if lr == 0.5:
        assert len(path) == 1


def test_stops_at_the_first_gradient_within_tol():
    steps = []
    rule = GradientDescent(learning_rate=0.25)
    result = minimize(parabola, 1.0, parabola_gradient, optimizer=rule, tol=2**-10, callback=steps.append)
    assert result.nit == len(steps) == 11  # x = 2^-11, gradient 2^-10
    assert (result.nfev, result.njev) == (1, 12)
    assert abs(result.jac) == 2**-10
    assert result.message == "The norm of the gradient is at most tol."


def test_starts_at_the_minimum():
    result = minimize(parabola, 0.0, parabola_gradient)
    assert (result.nit, result.njev, result.nfev, result.success) == (0, 1, 1, True)


@pytest.mark.parametrize("max_iter", [0, 7])
def test_max_iter(max_iter):
    result = minimize(quadratic, np.ones(3), quadratic_gradient, max_iter=max_iter)
    assert (result.nit, result.success, result.status) == (max_iter, False, 1)
    assert f"After {max_iter} iterations" in result.message
    assert_array_equal(result.jac, quadratic_gradient(result.x))
    assert result.fun == quadratic(result.x)


def test_steps_are_those_of_the_rule():
    rule = Adam(learning_rate=0.1, clipnorm=1.0)
    w = np.ones(3)
    state = rule.init(w)
    for _ in range(25):
        rule.step(w, quadratic_gradient(w), state)
    assert_array_equal(minimize(quadratic, np.ones(3), quadratic_gradient, optimizer=rule, max_iter=25).x, w)


@pytest.mark.parametrize(
    "rule", [ScheduleFreeSGD(learning_rate=0.1), SGD(learning_rate=0.05, ema_momentum=0.9)], ids=lambda rule: rule.name
)
def test_averages(rule):
    w = np.ones(3)
    state = rule.init(w)
    for _ in range(25):
        rule.step(w, quadratic_gradient(w), state)
    last = []
    result = minimize(quadratic, np.ones(3), quadratic_gradient, optimizer=rule, max_iter=25, callback=last.append)
    assert_array_equal(result.x, rule.averaged(w, state))
    assert_array_equal(last[-1], result.x)
    assert_array_equal(result.jac, quadratic_gradient(result.x))
    end = minimize(quadratic, np.ones(3), quadratic_gradient, optimizer=rule, tol=1e-9)
    assert np.linalg.norm(quadratic_gradient(end.x)) <= 1e-9


def test_ftrl_starts_at_x0():
    path = []
    minimize(parabola, 5.0, parabola_gradient, optimizer="ftrl", max_iter=1, callback=path.append)
    assert 4.9 < path[0] < 5


# --- shapes, dtypes, arguments --------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 3), (2, 1, 2), (0,)], ids=str)
@pytest.mark.parametrize("numerical", [False, True])
def test_any_shape(shape, numerical):
    seen = set()

    def fun(x):
        seen.add(x.shape)
        return float(np.sum((x - 1) ** 2))

    def jac(x):
        seen.add(x.shape)
        return 2 * (x - 1)

    def callback(x):
        seen.add(x.shape)

    rule = SGD(learning_rate=0.3)
    result = minimize(fun, np.zeros(shape), None if numerical else jac, optimizer=rule, callback=callback)
    assert result.success
    assert result.x.shape == result.jac.shape == shape
    assert seen == {shape}
    assert_allclose(result.x, 1, atol=1e-6)


def test_a_number():
    result = minimize(lambda x: math.cosh(x - 1), 3, lambda x: math.sinh(x - 1), optimizer=SGD(learning_rate=0.2))
    assert result.x.shape == ()
    assert result.x.dtype == np.float64
    assert isinstance(result.fun, float)
    assert float(result.x) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("given", "expected"), [("f4", "f4"), ("f8", "f8"), (">f8", "f8"), ("f2", "f8"), ("i4", "f8"), ("?", "f8")]
)
def test_dtypes(given, expected):
    seen = set()

    def jac(x):
        seen.add(x.dtype)
        return 2.0 * x  # float64 beside float32 is cast

    result = minimize(lambda x: x @ x, np.array([1, 0], dtype=given), jac, optimizer=SGD(learning_rate=0.3), tol=1e-3)
    assert result.success
    assert {result.x.dtype, result.jac.dtype} | seen == {np.dtype(expected)}


def test_float32_differentiated_numerically():
    x0 = np.array([3, -2], dtype=np.float32)
    result = minimize(lambda x: np.sum((x - 1000) ** 2), x0, optimizer=SGD(learning_rate=0.3), tol=1e-3)
    assert result.success
    assert result.x.dtype == result.jac.dtype == np.float32


@pytest.mark.parametrize("scale", [1.0, 1e6, 1e12])
def test_numerical_gradients_at_any_scale(scale):
    x = scale * np.array([1.0, -2.0])
    result = minimize(lambda x: np.sum((x / scale) ** 3), x, max_iter=0)
    assert_allclose(result.jac, 3 * (x / scale) ** 2 / scale, rtol=1e-8)
    assert result.njev == 1
    assert result.nfev == 1 + 6


def test_a_curved_valley_differentiated_numerically():
    rule = Adam(learning_rate=falling(0.1, 0.97, 100))
    result = minimize(rosenbrock, [-1.0, 1.0], optimizer=rule)
    assert result.success
    assert np.linalg.norm(rosenbrock_gradient(result.x)) < 1e-6 + 1e-8


def test_jac_true():
    calls = []

    def both(x):
        calls.append(1)
        return quadratic(x), quadratic_gradient(x)

    rule = SGD(learning_rate=0.1)
    apart = minimize(quadratic, np.ones(3), quadratic_gradient, optimizer=rule)
    together = minimize(both, np.ones(3), True, optimizer=rule)
    assert_same(apart, together)
    assert len(calls) == together.njev  # the value at the end was known
    assert_same(together, scipy.optimize.minimize(both, np.ones(3), jac=True, method=rule))


@pytest.mark.parametrize("jac", [None, parabola_gradient])
@pytest.mark.parametrize("args", [(3.0,), 3.0])
def test_args(jac, args):
    rule = SGD(learning_rate=0.3)
    result = minimize(parabola, 0.0, jac, args=args, optimizer=rule)
    assert float(result.x) == pytest.approx(3, abs=1e-6)
    same = scipy.optimize.minimize(parabola, 0.0, args=args, jac=jac, method=rule)
    assert same.x == pytest.approx([3], abs=1e-6)


def test_nothing_given_is_changed():
    x0 = np.ones((2, 3))[:, ::2]

    def fun(x):
        x[...] = np.nan  # it gets copies
        return 0.0

    def jac(x):
        g = 2 * x
        x[...] = np.nan
        return g

    def callback(x):
        x[...] = np.nan

    result = minimize(fun, x0, jac, optimizer=SGD(learning_rate=0.3), callback=callback)
    assert result.success
    assert_array_equal(x0, 1)
    assert_allclose(result.x, 0, atol=1e-6)


def test_jac_may_return_the_same_buffer_each_time():
    buffer = np.empty(3)

    def jac(x):
        np.subtract(A @ x, B, out=buffer)
        return buffer

    rule = Adam(learning_rate=0.1)
    kept = minimize(quadratic, np.ones(3), jac, optimizer=rule, max_iter=50)
    assert_same(kept, minimize(quadratic, np.ones(3), quadratic_gradient, optimizer=rule, max_iter=50))


@pytest.mark.parametrize("max_iter", [3, 50, 1000])
def test_fun_may_return_the_same_gradients_buffer_each_time(max_iter):
    buffer = np.empty(3)

    def fun(x):
        np.subtract(A @ x, B, out=buffer)
        return quadratic(x), buffer

    result = minimize(fun, np.ones(3), True, optimizer=SGD(learning_rate=0.05), max_iter=max_iter)
    assert_allclose(result.jac, quadratic_gradient(result.x), rtol=1e-12, atol=1e-14)


def test_gradients_whose_squares_overflow_are_finite():
    fun, jac = (lambda x: 1e160 * float(x @ x)), (lambda x: 2e160 * x)
    result = minimize(fun, np.ones(2), jac, optimizer=SGD(1e-161), max_iter=3)
    assert_allclose(result.x, 0.8**3, rtol=1e-12)
    assert result.nit == 3


# --- ascent ---------------------------------------------------------------------------------------------------------


@NAMES
def test_ascent_mirrors_descent(name):
    rule = OPTIMIZERS[name](learning_rate=0.05)
    down = minimize(quadratic, np.ones(3), quadratic_gradient, optimizer=rule, max_iter=50)
    hill, slope = lambda x: -quadratic(x), lambda x: -quadratic_gradient(x)
    up = minimize(hill, np.ones(3), slope, optimizer=rule, max_iter=50, maximize=True)
    assert_array_equal(up.x, down.x)
    assert_array_equal(up.jac, -down.jac)
    assert up.fun == -down.fun


def test_ascent_of_a_likelihood():
    data = np.array([1, 0, 1, 1, 1, 0, 1, 1.0])  # flips of a coin; x is the log of the odds

    def log_likelihood(x):
        return np.sum(data * x - np.log1p(np.exp(x)))

    for jac in (None, lambda x: np.sum(data - 1 / (1 + np.exp(-x)))):
        result = minimize(log_likelihood, 0.0, jac, optimizer=SGD(learning_rate=0.3), maximize=True)
        assert result.success
        assert 1 / (1 + np.exp(-result.x)) == pytest.approx(0.75, abs=1e-6)
        assert result.fun == pytest.approx(6 * np.log(0.75) + 2 * np.log(0.25))


# --- minibatches ----------------------------------------------------------------------------------------------------


@NAMES
@pytest.mark.parametrize("batch_size", [7, None])
def test_least_squares_by_minibatches(name, batch_size):
    """Without noise every batch has the same minimiser: constant rates get there, else the falling ones."""
    problem = LeastSquares()
    settings = {"adadelta": {"learning_rate": 1.0, "epsilon": 1e-3}, "lion": {"learning_rate": falling(0.1, 0.9, 50)}}
    options = settings.get(name, {"learning_rate": 0.05 if name not in ("adagrad", "ftrl") else 0.5})
    if name == "adamw":
        options["weight_decay"] = None
    if name in ("rmsprop", "adam", "adamw", "nadam", "adamax"):
        options["learning_rate"] = falling(0.1, 0.9, 50)
    result = minimize(
        problem.fun, np.zeros(3), problem.jac, optimizer=OPTIMIZERS[name](**options), n_samples=120,
        batch_size=batch_size, tol=1e-4, max_iter=1000, rng=0,
    )  # fmt: skip
    assert result.success, result
    assert_allclose(result.x, problem.solution, atol=1e-3)
    assert np.linalg.norm(problem.jac(result.x, np.arange(120))) <= 1e-4


def test_noisy_least_squares_by_a_falling_rate():
    problem = LeastSquares(noise=1.0)
    rule = SGD(learning_rate=falling(0.1, 0.9, 100))
    result = minimize(
        problem.fun, np.zeros(3), problem.jac, optimizer=rule, n_samples=120, batch_size=10, tol=1e-4, rng=0
    )
    assert result.success
    assert_allclose(result.x, problem.solution, atol=1e-3)


def test_every_epoch_sees_each_row_once():
    problem = LeastSquares(n=50)
    result = minimize(
        problem.fun, np.zeros(3), problem.jac, optimizer="sgd", n_samples=50, batch_size=8, max_iter=3, rng=0, tol=1e-12
    )
    assert (result.nit, result.n_steps, result.njev, result.nfev) == (3, 21, 1 + 3 * 8, 2)
    whole, epochs = problem.rows[::8], [problem.rows[1 + 8 * k : 8 + 8 * k] for k in range(3)]
    assert all(np.array_equal(rows, np.arange(50)) for rows in whole)
    assert [[len(rows) for rows in epoch] for epoch in epochs] == [[8] * 6 + [2]] * 3
    orders = [np.concatenate(epoch) for epoch in epochs]
    assert all(np.array_equal(np.sort(order), np.arange(50)) for order in orders)
    assert not np.array_equal(orders[0], orders[1])


@pytest.mark.parametrize("batch_size", ["full", 120])
def test_the_full_batch_is_plain_descent(batch_size):
    problem = LeastSquares()
    rule, rows = Adam(learning_rate=0.1), np.arange(120)
    kwargs = {"optimizer": rule, "max_iter": 30}
    plain = minimize(lambda w: problem.fun(w, rows), np.zeros(3), lambda w: problem.jac(w, rows), **kwargs)
    full = minimize(problem.fun, np.zeros(3), problem.jac, n_samples=120, batch_size=batch_size, **kwargs)
    assert full.pop("n_steps") == 30
    assert_same(plain, full)
    assert all(np.array_equal(r, rows) for r in problem.rows)


def test_gradient_descent_takes_all_rows():
    problem = LeastSquares()
    result = minimize(problem.fun, np.zeros(3), problem.jac, n_samples=120, max_iter=5)
    assert result.n_steps == 5


def test_tol_0_needs_no_full_gradient():
    problem = LeastSquares()
    result = minimize(
        problem.fun, np.zeros(3), problem.jac, optimizer="sgd", n_samples=120, batch_size=40, tol=0, max_iter=4
    )
    assert (result.status, result.njev) == (1, 4 * 3 + 1)
    assert_array_equal(result.jac, problem.jac(result.x, np.arange(120)))


@pytest.mark.parametrize("max_iter", [0, 3])
def test_tol_0_at_a_gradient_of_zero(max_iter):
    """The gradient that the result holds is the one that is judged."""
    result = minimize(
        lambda x, rows: float(x) ** 2, 0.0, lambda x, rows: 2 * x, optimizer="sgd", n_samples=8, tol=0,
        batch_size=4, max_iter=max_iter,
    )  # fmt: skip
    assert (result.nit, float(result.jac)) == (max_iter, 0.0)
    assert (result.success, result.message) == (True, "The norm of the gradient is at most tol.")


@pytest.mark.parametrize("jac", [None, True, "apart"])
@pytest.mark.parametrize("batch_size", [5, "full"])
def test_row_numbers_may_be_written_in(batch_size, jac):
    problem = LeastSquares(noise=1.0)

    def spoiling(function):
        def spoils(x, rows):
            value = function(x, rows)
            rows[:] = 0
            return value

        return spoils

    def both(x, rows):
        return problem.fun(x, rows), problem.jac(x, rows)

    kwargs = {"optimizer": "sgd", "n_samples": 120, "batch_size": batch_size, "tol": 1e-6, "max_iter": 3, "rng": 0}
    fun = both if jac is True else problem.fun
    given = problem.jac if jac == "apart" else jac
    expected = minimize(fun, np.zeros(3), given, **kwargs)
    assert_same(expected, minimize(spoiling(fun), np.zeros(3), spoiling(given) if callable(given) else given, **kwargs))


@pytest.mark.parametrize("numerical", [False, True])
def test_args_after_rows(numerical):
    data = np.random.default_rng(0).standard_normal(40)

    def fun(x, rows, shift):
        return np.mean((x - data[rows] - shift) ** 2)

    def jac(x, rows, shift):
        return 2 * np.mean(x - data[rows] - shift)

    rule = SGD(learning_rate=falling(0.2, 0.9, 20))
    result = minimize(
        fun, 0.0, None if numerical else jac, args=(5,), optimizer=rule, n_samples=40, batch_size=4, tol=1e-3, rng=0
    )
    assert result.success
    assert float(result.x) == pytest.approx(data.mean() + 5, abs=1e-3)


def test_jac_true_with_rows():
    problem = LeastSquares()
    kwargs = {"optimizer": "momentum", "n_samples": 120, "batch_size": 10, "tol": 1e-6, "max_iter": 50, "rng": 1}
    apart = minimize(problem.fun, np.zeros(3), problem.jac, **kwargs)
    together = minimize(lambda w, rows: (problem.fun(w, rows), problem.jac(w, rows)), np.zeros(3), True, **kwargs)
    assert_same(apart, together)


@pytest.mark.parametrize(
    "make",
    [
        lambda: 3,
        lambda: np.random.SeedSequence(3),
        lambda: np.random.default_rng(3),
        lambda: np.random.PCG64(3),
        lambda: np.random.RandomState(3),
    ],
    ids=["int", "SeedSequence", "Generator", "BitGenerator", "RandomState"],
)
def test_rng(make):
    problem = LeastSquares(noise=1.0)

    def run(rng):
        return minimize(
            problem.fun, np.zeros(3), problem.jac, optimizer="sgd", n_samples=120, batch_size=5, max_iter=3, rng=rng
        )

    assert_same(run(make()), run(make()))
    assert not np.array_equal(run(make()).x, run(4).x)


def test_a_two_layer_network():
    """Not convex: exclusive or, by minibatches; all weights in one vector."""
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (400, 2))
    y = np.sign(X[:, 0] * X[:, 1])

    def loss(w, rows):
        W, b, v, c = w[:16].reshape(2, 8), w[16:24], w[24:32], w[32]
        H = np.tanh(X[rows] @ W + b)
        z = -y[rows] * (H @ v + c)
        dz = -y[rows] / (1 + np.exp(-z)) / len(rows)
        dH = np.outer(dz, v) * (1 - H**2)
        g = np.concatenate([(X[rows].T @ dH).ravel(), dH.sum(axis=0), H.T @ dz, [dz.sum()]])
        return np.mean(np.logaddexp(0, z)), g

    w0 = 0.5 * rng.standard_normal(33)
    numerical = minimize(lambda w, rows: loss(w, rows)[0], w0, n_samples=400, max_iter=0)
    assert_allclose(numerical.jac, loss(w0, np.arange(400))[1], atol=1e-9)
    values = []
    result = minimize(
        loss, w0, True, optimizer=Adam(learning_rate=0.02), n_samples=400, batch_size=20, max_iter=60, rng=0,
        callback=lambda intermediate_result: values.append(intermediate_result.fun),
    )  # fmt: skip
    assert values[-1] == result.fun
    assert numerical.fun > 0.6
    assert values[9] < 0.4
    assert result.fun < 0.12


# --- callbacks ------------------------------------------------------------------------------------------------------


def test_both_styles_of_callbacks():
    xs, results = [], []

    def new(*, intermediate_result):
        results.append(intermediate_result)

    rule = SGD(learning_rate=0.1)
    old_style = minimize(quadratic, np.ones(3), quadratic_gradient, optimizer=rule, callback=xs.append, max_iter=10)
    new_style = minimize(quadratic, np.ones(3), quadratic_gradient, optimizer=rule, callback=new, max_iter=10)
    assert (old_style.nfev, new_style.nfev) == (2, 12)
    assert_array_equal(old_style.x, new_style.x)
    assert_array_equal(xs, [r.x for r in results])
    assert len({id(x) for x in xs}) == 10
    assert [r.nit for r in results] == list(range(1, 11))
    assert [r.fun for r in results] == [quadratic(x) for x in xs]
    assert_allclose([r.grad_norm for r in results], [np.linalg.norm(quadratic_gradient(x)) for x in xs], rtol=1e-14)


@pytest.mark.parametrize("style", ["old", "new"])
@pytest.mark.parametrize("through", ["fastopt", "scipy"])
def test_stop_iteration(style, through):
    seen = []

    def old(x):
        seen.append(x)
        if len(seen) == 4:
            raise StopIteration

    def new(intermediate_result):
        old(intermediate_result.x)

    callback = old if style == "old" else new
    rule = Adam(learning_rate=0.1)
    if through == "fastopt":
        result = minimize(quadratic, np.ones(3), quadratic_gradient, optimizer=rule, callback=callback)
    else:
        result = scipy.optimize.minimize(quadratic, np.ones(3), jac=quadratic_gradient, method=rule, callback=callback)
    seen.clear()
    bfgs = scipy.optimize.minimize(quadratic, np.ones(3), jac=quadratic_gradient, method="BFGS", callback=callback)
    assert (result.success, result.status, result.message) == (bfgs.success, bfgs.status, bfgs.message)
    assert (result.success, result.nit) == (False, 4)
    assert_array_equal(result.jac, quadratic_gradient(result.x))


def test_stop_iteration_in_an_average():
    def callback(x):
        raise StopIteration

    result = minimize(quadratic, np.ones(3), quadratic_gradient, optimizer="schedule_free_sgd", callback=callback)
    assert_array_equal(result.jac, quadratic_gradient(result.x))
    assert result.nit == 1


def test_other_exceptions_pass():
    def callback(x):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        minimize(quadratic, np.ones(3), quadratic_gradient, callback=callback)


# --- divergence -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("lr", [1.01, 1.5, 100.0, 1e30])
@np.errstate(over="ignore")
def test_a_learning_rate_that_is_too_large(lr, dtype):
    x0 = np.array([1.0, -2.0], dtype=dtype)
    result = minimize(lambda x: x @ x, x0, lambda x: 2 * x, optimizer=GradientDescent(learning_rate=lr))
    assert (result.success, result.status) == (False, 2)
    assert f"learning_rate={lr:g} is too large" in result.message
    assert f"try learning_rate={lr / 10:g}" in result.message
    assert_array_equal(result.x, x0)
    assert result.fun == 5
    assert_array_equal(result.jac, 2 * x0)
    assert result.nit < 1500
    assert result.nfev <= 25


@pytest.mark.parametrize(("factor", "steps"), [(11, 10), (9, 20)])
def test_ten_records_each_ten_times_the_last_are_a_divergence(factor, steps):
    """x is multiplied by -factor in each step: by less than ten, every other one is a record."""
    rule = GradientDescent(learning_rate=(1 + factor) / 2)
    result = minimize(parabola, 1.0, parabola_gradient, optimizer=rule)
    assert (result.status, result.nit, float(result.x)) == (2, steps, 1.0)


def test_a_record_where_fun_fell_is_no_sign_of_divergence():
    rule = GradientDescent(learning_rate=6.0)  # 1, -11, 121, ...: a record in each step
    result = minimize(lambda x: -1.0 if x == -11 else x * x, 1.0, parabola_gradient, optimizer=rule)
    assert (result.status, result.nit) == (2, 11)


@np.errstate(over="ignore")
def test_not_finite_in_one_step():
    result = minimize(np.cosh, 10.0, np.sinh, optimizer=SGD(learning_rate=1.0))
    assert result.message == (
        "Diverged in step 1: x or the gradient is not finite. learning_rate=1 is too large, or fun has no minimum: "
        "try learning_rate=0.1. x is the best point seen."
    )
    assert float(result.x) == 10


@np.errstate(over="ignore")
def test_no_minimum():
    result = minimize(lambda x: -(x**2), 1.0, lambda x: -2 * x, optimizer="nesterov")
    assert result.status == 2
    assert "fun has no minimum" in result.message


@np.errstate(over="ignore")
@pytest.mark.parametrize("options", [{}, {"n_samples": 2, "batch_size": 1, "tol": 0.0, "rng": 0}])
def test_a_gradient_that_stays_finite_where_x_is_not(options):
    """A slope of one all the way to infinity: fun's -inf there is no minimum."""
    result = minimize(lambda x, *rows: -x, 1.0, lambda x, *rows: -1.0, optimizer=SGD(1e308), max_iter=2, **options)
    assert result.status == 2
    assert result.message.startswith("Diverged in ")
    assert np.isfinite(result.x)
    assert np.isfinite(result.fun)


@np.errstate(over="ignore")
def test_no_maximum():
    result = minimize(parabola, 1.0, parabola_gradient, maximize=True, max_iter=10**6)
    assert result.status == 2
    assert "fun has no maximum" in result.message


def test_ascent_that_overshoots():
    rule = GradientDescent(learning_rate=1.2)
    result = minimize(lambda x: -(x**2), 1.0, lambda x: -2 * x, optimizer=rule, maximize=True)
    assert result.status == 2
    assert "while fun fell all along" in result.message
    assert float(result.x) == 1


def test_too_few_steps_to_see_the_divergence():
    rule = GradientDescent(learning_rate=1.05)
    result = minimize(parabola, 1.0, parabola_gradient, optimizer=rule, max_iter=20)
    assert result.status == 1
    assert "fun ended above its value at x0: learning_rate=1.05 is too large: try learning_rate=0.105" in result.message
    assert float(result.x) == 1


def test_small_gradients_far_out_are_not_the_best_point():
    rule = RMSprop(learning_rate=5.0, rho=0.5)
    result = minimize(lambda x: -np.exp(-(x**2)), 0.1, lambda x: 2 * x * np.exp(-(x**2)), optimizer=rule, tol=1e-300)
    assert result.fun <= -np.exp(-(0.1**2))


@pytest.mark.parametrize(("rate", "max_iter", "status"), [(0.1, 20, 1), (1.5, 10_000, 2)])
def test_fun_that_is_nan_at_the_start(rate, max_iter, status):
    """What is seen later is better than that, and fun did not end above it."""

    def fun(x):
        return float("nan") if x == 1.0 else float(x) ** 2

    result = minimize(fun, 1.0, lambda x: 2 * x, optimizer=SGD(rate), max_iter=max_iter)
    assert result.status == status
    assert "x0" not in result.message
    if status == 1:
        assert float(result.x) == pytest.approx(0.8**20)
        assert result.fun == pytest.approx(0.8**40)


@np.errstate(over="ignore", invalid="ignore")
def test_minibatches_diverge():
    problem = LeastSquares()
    for tol in (1e-6, 0.0):
        result = minimize(
            problem.fun, np.zeros(3), problem.jac, optimizer=SGD(learning_rate=30.0), n_samples=120, batch_size=10,
            rng=0, tol=tol,
        )  # fmt: skip
        assert result.status == 2
        assert result.message.startswith("Diverged in epoch ")
        assert "learning_rate=30 is too large" in result.message
        assert result.fun <= problem.fun(np.zeros(3), np.arange(120))


@pytest.mark.parametrize(("batch_size", "tol"), [(10, 1e-6), (10, 0.0), ("full", 0.0)])
@np.errstate(over="ignore", invalid="ignore")
def test_the_best_point_is_the_last_before_a_sudden_divergence(batch_size, tol):
    """That of the smallest gradient; with tol=0 batches measure none by which points could be told apart."""
    problem = LeastSquares()
    steps = 3 if batch_size == "full" else 3 * 12
    rule = SGD(learning_rate=lambda step: 0.01 if step < steps else 1e300)
    settings = {"optimizer": rule, "n_samples": 120, "batch_size": batch_size, "tol": tol}
    result = minimize(problem.fun, np.zeros(3), problem.jac, rng=0, **settings)
    assert result.status == 2
    three = minimize(problem.fun, np.zeros(3), problem.jac, rng=0, max_iter=3, **settings)
    assert_array_equal(result.x, three.x)
    assert result.fun == three.fun < problem.fun(np.zeros(3), np.arange(120))


def test_not_finite_at_the_start():
    result = minimize(lambda x: x, 1.0, lambda x: np.nan)
    assert (result.success, result.status, result.nit) == (False, 2, 0)
    assert result.message == "The gradient is not finite at x0. Start elsewhere."


def honest_descents():
    """Functions and rules whose gradient grows a lot on the way, and which arrive all the same."""
    # From a plateau: the gradient grows by twelve decades while fun falls.
    yield "plateau", lambda x: -np.exp(-(x**2)), lambda x: 2 * x * np.exp(-(x**2)), 5.0, Adam(learning_rate=0.01)
    # From beside a saddle or the top of a hill.
    yield "hill", lambda x: (x**2 - 1) ** 2, lambda x: 4 * x * (x**2 - 1), 1e-13, SGD(learning_rate=0.05)
    # Momentum carries it up the other side, again and again.
    yield "swing", parabola, parabola_gradient, 1.0, SGD(learning_rate=0.001, momentum=0.99)
    # Almost at the minimum, and away with the first steps.
    yield "away", parabola, parabola_gradient, 1e-5, Adam(learning_rate=falling(0.5))
    # Up a wall and back.
    yield "wall", np.cosh, np.sinh, 0.01, Adam(learning_rate=falling(1.0))


@pytest.mark.parametrize("case", [*honest_descents()], ids=lambda case: case[0])
def test_honest_descents_are_not_taken_for_divergence(case):
    _, fun, jac, x0, rule = case
    result = minimize(fun, x0, jac, optimizer=rule, tol=1e-8)
    assert result.success, result.message


# --- scipy ----------------------------------------------------------------------------------------------------------


def test_what_scipys_users_write():
    result = scipy.optimize.minimize(
        rosenbrock, [-1.0, 1.0], jac=rosenbrock_gradient, method=Adam(learning_rate=0.1), tol=1e-6,
        options={"maxiter": 5000},
    )  # fmt: skip
    assert result.success
    assert_allclose(result.x, 1, atol=1e-5)
    bfgs = scipy.optimize.minimize(rosenbrock, [-1.0, 1.0], jac=rosenbrock_gradient)
    assert set(bfgs) - {"hess_inv"} == set(result)
    assert {key: type(bfgs[key]) for key in ("success", "status", "message", "nit", "nfev", "njev")} == {
        key: type(result[key]) for key in ("success", "status", "message", "nit", "nfev", "njev")
    }


def test_scipys_options(capsys):
    rule = SGD(learning_rate=0.1)
    options = {"gtol": 1e-2, "disp": True, "return_all": True}
    result = scipy.optimize.minimize(quadratic, np.ones(3), jac=quadratic_gradient, method=rule, tol=1, options=options)
    assert 1e-3 < np.linalg.norm(result.jac) <= 1e-2
    assert len(result.allvecs) == result.nit + 1
    assert_array_equal(result.allvecs[0], 1)
    assert_array_equal(result.allvecs[-1], result.x)
    out = capsys.readouterr().out
    assert out.startswith("The norm of the gradient is at most tol.\nfun: ")


@pytest.mark.parametrize(
    ("kwargs", "category", "text"),
    [
        ({"bounds": [(0, 1)] * 3}, RuntimeWarning, "Method Adam cannot handle bounds."),
        (
            {"constraints": {"type": "eq", "fun": lambda x: x[0]}},
            RuntimeWarning,
            "Method Adam cannot handle constraints.",
        ),
        ({"hess": lambda x: A}, RuntimeWarning, "Method Adam does not use Hessian information (hess)."),
        (
            {"hessp": lambda x, p: A @ p},
            RuntimeWarning,
            "Method Adam does not use Hessian-vector product information (hessp).",
        ),
        ({"options": {"maxfev": 3, "eta": 1}}, OptimizeWarning, "Unknown solver options: maxfev, eta"),
    ],
    ids=["bounds", "constraints", "hess", "hessp", "options"],
)
def test_scipys_warnings(kwargs, category, text):
    rule = Adam(learning_rate=0.1)
    with pytest.warns(category) as caught:
        result = scipy.optimize.minimize(quadratic, np.ones(3), jac=quadratic_gradient, method=rule, **kwargs)
    assert [str(w.message) for w in caught] == [text]
    assert caught[0].filename == __file__
    assert_same(result, scipy.optimize.minimize(quadratic, np.ones(3), jac=quadratic_gradient, method=rule))


def test_no_warnings_for_what_is_not_given():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scipy.optimize.minimize(
            quadratic, np.ones(3), jac=quadratic_gradient, method=SGD(learning_rate=0.1), bounds=None, constraints=[]
        )


def test_inside_basinhopping():
    def fun(x):
        return float(x[0] ** 2 + 10 * np.sin(3 * x[0]))

    minimizer = {"method": SGD(learning_rate=0.01), "options": {"maxiter": 300}}
    result = scipy.optimize.basinhopping(fun, [3.0], niter=30, stepsize=2.0, minimizer_kwargs=minimizer, rng=0)
    assert result.fun == pytest.approx(-9.74, abs=0.01)


# --- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kwargs", "error", "text"),
    [
        ({"fun": 3}, TypeError, "fun must be callable; got 3."),
        ({"jac": "2-point"}, TypeError, "jac must be callable, True or None; got '2-point'. None differentiates"),
        ({"x0": [1.0, np.nan]}, ValueError, "x0 must be finite; got [1.0, nan]."),
        ({"x0": ["a"]}, TypeError, "x0 must be an array of real numbers; got ['a']."),
        ({"x0": [1j]}, TypeError, "x0 must be an array of real numbers; got [1j]."),
        ({"optimizer": "addam"}, ValueError, "optimizer must be one of 'gd', 'sgd',"),
        (
            {"optimizer": Adam(learning_rate="auto")},
            ValueError,
            "learning_rate must be a number or a schedule; got 'auto'. Only linear models",
        ),
        ({"tol": -1}, ValueError, "tol must be a finite number >= 0; got -1."),
        ({"tol": None}, TypeError, "tol must be a finite number >= 0; got None."),
        ({"max_iter": -1}, ValueError, "max_iter must be an integer >= 0; got -1. It counts steps, or epochs"),
        ({"max_iter": 1.5}, TypeError, "max_iter must be an integer >= 0; got 1.5."),
        ({"maximize": 1}, TypeError, "maximize must be True or False; got 1."),
        ({"n_samples": 0}, ValueError, "n_samples must be an integer >= 1; got 0."),
        ({"batch_size": 3}, ValueError, "batch_size must be None where n_samples is None; got 3. Give n_samples"),
        (
            {"n_samples": 5, "batch_size": 6},
            ValueError,
            "batch_size must be an integer in [1, n_samples] or 'full'; got 6.",
        ),
        (
            {"n_samples": 5, "batch_size": "all"},
            ValueError,
            "batch_size must be an integer in [1, n_samples] or 'full'; got 'all'.",
        ),
        ({"n_samples": 5, "rng": "x"}, TypeError, "rng must be None, an integer >= 0, a SeedSequence, BitGenerator,"),
        ({"n_samples": 5, "rng": -1}, TypeError, "rng must be None, an integer >= 0, a SeedSequence, BitGenerator,"),
        ({"tol": 10**400}, ValueError, "tol must be a finite number >= 0; got an integer of 1,329 bits."),
        ({"callback": 3}, TypeError, "callback must be callable or None; got 3."),
        ({"fun": lambda x: x}, TypeError, "fun must return one real number; got ndarray of shape (3,)."),
        ({"fun": lambda x: None}, TypeError, "fun must return one real number; got NoneType"),
        ({"fun": lambda x: 1j}, TypeError, "fun must return one real number; got complex"),
        ({"jac": lambda x: x[:2]}, ValueError, "jac must return an array of x0's shape, (3,); got (2,)."),
        ({"jac": lambda x: x[:, None]}, ValueError, "jac must return an array of x0's shape, (3,); got (3, 1)."),
        (
            {"x0": [1.0], "jac": lambda x: np.ones(3)},
            ValueError,
            "jac must return an array of x0's shape, (1,); got (3,).",
        ),
        ({"jac": lambda x: x * 1j}, TypeError, "jac must return real numbers; got an array of complex128."),
        ({"jac": True}, TypeError, "fun must return (value, gradient) where jac=True; got float64."),
    ],
)
def test_errors(kwargs, error, text):
    settings = {"fun": quadratic, "x0": np.ones(3), "jac": quadratic_gradient} | kwargs
    if kwargs.get("fun") is not None and "jac" not in kwargs:
        settings["jac"] = quadratic_gradient
    with pytest.raises(error, match=re.escape(text)):
        minimize(**settings, **({"max_iter": 1} if "max_iter" not in kwargs else {}))


def test_auto_is_refused_by_the_method_too():
    with pytest.raises(ValueError, match=r"got .auto.\. Only linear models"):
        scipy.optimize.minimize(quadratic, np.ones(3), method=Adam(learning_rate="auto"))


def test_exported():
    assert fastopt.minimize is minimize
    assert "minimize" in fastopt.__all__
