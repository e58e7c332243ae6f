"""The reference against closed forms, finite differences, scikit-learn, scipy, Keras and PyTorch."""

import ast
import functools
import inspect
import math
import os
import sys
import warnings

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
import scipy.special
from sklearn.metrics import log_loss as sklearn_log_loss

from fastopt import reference
from fastopt.reference import LOSSES, RULES

# --- losses -------------------------------------------------------------------------------------

# One row per loss: targets, the raw predictions z at which it has kinks for a target y, and (y, z, loss, dloss) known.
LOSS_TABLE = {
    "log_loss": ((-1.0, 1.0), lambda y: [], [(1.0, 0.0, math.log(2), -0.5), (-1.0, math.log(3), math.log(4), 0.75)]),
    "hinge": ((-1.0, 1.0), lambda y: [y], [(1.0, 0.25, 0.75, -1.0), (1.0, 1.0, 0.0, -1.0), (-1.0, -2.0, 0.0, 0.0)]),
    "squared_hinge": ((-1.0, 1.0), lambda y: [], [(1.0, 0.5, 0.25, -1.0), (-1.0, 1.0, 4.0, 4.0), (1.0, 2.0, 0.0, 0.0)]),
    "modified_huber": (
        (-1.0, 1.0),
        lambda y: [],
        [(1.0, -3.0, 12.0, -4.0), (-1.0, 0.0, 1.0, 2.0), (1.0, 1.5, 0.0, 0.0)],
    ),
    "perceptron": ((-1.0, 1.0), lambda y: [0.0], [(1.0, -2.0, 2.0, -1.0), (-1.0, 0.0, 0.0, 1.0), (1.0, 0.5, 0.0, 0.0)]),
    "squared_error": ((-1.5, 0.0, 2.0), lambda y: [], [(2.0, 5.0, 4.5, 3.0)]),
    "huber": (
        (-1.5, 0.0, 2.0),
        lambda y: [],
        [(1.0, 1.05, 0.00125, 0.05), (1.0, 3.0, 0.195, 0.1), (1.0, 0.0, 0.095, -0.1)],
    ),
    "epsilon_insensitive": (
        (-1.5, 0.0, 2.0),
        lambda y: [y - 0.1, y + 0.1],
        [(1.0, 1.05, 0.0, 0.0), (1.0, 3.0, 1.9, 1.0), (1.0, 0.0, 0.9, -1.0)],
    ),
    "squared_epsilon_insensitive": (
        (-1.5, 0.0, 2.0),
        lambda y: [],
        [(1.0, 1.05, 0.0, 0.0), (1.0, 3.0, 3.61, 3.8), (1.0, 0.0, 0.81, -1.8)],
    ),
    "poisson": ((0.0, 1.0, 3.0), lambda y: [], [(2.0, math.log(5), 5.0 - 2.0 * math.log(5), 3.0)]),
    "gamma": ((0.5, 1.0, 3.0), lambda y: [], [(2.0, math.log(4), 0.5 + math.log(4), 0.5)]),
    "quantile": ((-1.5, 0.0, 2.0), lambda y: [y], [(1.0, 0.0, 0.5, -0.5), (1.0, 3.0, 1.0, 0.5), (1.0, 1.0, 0.0, -0.5)]),
}
LOSS_OPTIONS = [
    *((name, {}) for name in LOSS_TABLE),
    ("huber", {"epsilon": 1.35}),
    ("quantile", {"quantile": 0.9}),
]
POINTWISE = pytest.mark.parametrize("name", LOSS_TABLE)


def test_every_loss_is_in_the_table():
    assert set(LOSS_TABLE) | {"multinomial"} == set(LOSSES)


@pytest.mark.parametrize(("name", "options"), LOSS_OPTIONS)
def test_dloss_is_the_derivative(name, options):
    loss, dloss = LOSSES[name]
    targets, kinks, _ = LOSS_TABLE[name]
    h = 1e-6
    z = np.random.default_rng(0).uniform(-4.0, 4.0, size=400)
    for y in targets:
        at = z[np.all([abs(z - kink) > 1e-3 for kink in kinks(y)], axis=0)] if kinks(y) else z
        assert len(at) > 300
        difference = (loss(y, at + h, **options) - loss(y, at - h, **options)) / (2 * h)
        np.testing.assert_allclose(dloss(y, at, **options), difference, rtol=1e-6, atol=2e-6)


@POINTWISE
def test_loss_known_values(name):
    loss, dloss = LOSSES[name]
    for y, z, value, slope in LOSS_TABLE[name][2]:
        assert loss(y, z) == pytest.approx(value, rel=1e-14, abs=1e-16)
        assert dloss(y, z) == pytest.approx(slope, rel=1e-13, abs=1e-16)


def test_loss_parameters():
    assert reference.quantile(3.0, 1.0, quantile=0.9) == pytest.approx(1.8)
    assert reference.dquantile(3.0, 1.0, quantile=0.9) == -0.9
    assert reference.huber(0.0, 5.0, epsilon=2.0) == pytest.approx(8.0)
    assert reference.epsilon_insensitive(0.0, 5.0, epsilon=2.0) == 3.0
    assert reference.dsquared_epsilon_insensitive(0.0, -5.0, epsilon=2.0) == -6.0


@POINTWISE
def test_loss_of_floats_and_of_arrays(name):
    targets, kinks, _ = LOSS_TABLE[name]
    for y in targets:
        z = np.array([*np.linspace(-40.0, 40.0, 81), *kinks(y), 1e-9, -1e-9, 709.0, -709.0])
        for function in LOSSES[name]:
            one_by_one = [function(y, float(zi)) for zi in z]
            assert all(type(value) is float for value in one_by_one)
            np.testing.assert_allclose(function(y, z), one_by_one, rtol=4e-16, atol=0)
            np.testing.assert_array_equal(function(np.full(len(z), y), z), function(y, z))


@POINTWISE
def test_loss_at_huge_margins(name):
    """No warning, no exception, no NaN; infinite only where the true value is too large for a float."""
    loss, dloss = LOSSES[name]
    may_overflow = {"squared_hinge", "squared_error", "squared_epsilon_insensitive", "poisson", "gamma"}
    for y in LOSS_TABLE[name][0]:
        z = np.array([-1e300, -1e6, -800.0, 800.0, 1e6, 1e300])
        for values in (loss(y, z), np.array([loss(y, float(zi)) for zi in z])):
            assert not np.isnan(values).any()
            assert not np.any(values == -np.inf)
            assert name in may_overflow or np.isfinite(values).all()
        for slopes in (dloss(y, z), np.array([dloss(y, float(zi)) for zi in z])):
            assert not np.isnan(slopes).any()
            assert name in {"poisson", "gamma"} or np.isfinite(slopes).all()
            assert np.all(slopes[1:] >= slopes[:-1])  # all losses are convex in z


def test_log_loss_keeps_small_losses():
    assert reference.log_loss(1.0, 50.0) == pytest.approx(math.exp(-50.0), rel=1e-15)
    assert reference.log_loss(-1.0, 1e300) == 1e300
    assert reference.dlog_loss(1.0, 50.0) == pytest.approx(-math.exp(-50.0), rel=1e-14)


def test_multinomial():
    loss, dloss = LOSSES["multinomial"]
    rng = np.random.default_rng(0)
    z = rng.normal(size=(20, 4)) * 3
    y = rng.integers(0, 4, size=20)
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(loss(y, z), -np.log(p[np.arange(20), y]), rtol=1e-13)
    np.testing.assert_allclose(dloss(y.astype(float), z), p - np.eye(4)[y], atol=1e-15)
    for k in range(4):
        step = 1e-6 * np.eye(4)[k]
        difference = (loss(y, z + step) - loss(y, z - step)) / 2e-6
        np.testing.assert_allclose(dloss(y, z)[:, k], difference, atol=1e-8)
    two = np.column_stack([np.zeros(20), z[:, 0]])
    sign = rng.choice([-1.0, 1.0], size=20)
    np.testing.assert_allclose(loss((sign > 0).astype(int), two), reference.log_loss(sign, z[:, 0]), rtol=1e-14)


def test_multinomial_at_huge_margins():
    loss, dloss = LOSSES["multinomial"]
    z = np.array([[1e300, 0.0, -1e300], [1e300, 0.0, -1e300], [0.0, 0.0, -1e300], [60.0, 0.0, -5.0]])
    y = np.array([0, 2, 1, 0])
    np.testing.assert_allclose(loss(y, z), [0.0, 2e300, math.log(2), math.exp(-60) + math.exp(-65)], rtol=1e-15)
    np.testing.assert_allclose(dloss(y, z)[:3], [[0, 0, 0], [1, 0, -1], [0.5, -0.5, 0]])


# --- update rules -------------------------------------------------------------------------------

G = np.array([-2.0, -0.3, 0.5, 4.0])  # a gradient that stays the same for T steps, and the start
W = np.array([1.0, -2.0, 0.25, 3.0])
T, LR = 12, 0.05


def summed(step):
    """Where T steps of size step(t) lead from W."""
    return W - sum(step(t) for t in range(1, T + 1))


def adadelta_by_hand(h):
    w, a, d = W, 0.0, 0.0
    for _ in range(T):
        a = h["rho"] * a + (1 - h["rho"]) * G**2
        s = np.sqrt((d + h["epsilon"]) / (a + h["epsilon"])) * G
        d = h["rho"] * d + (1 - h["rho"]) * s**2
        w = w - LR * s
    return w


def nadam_by_hand(h):
    u = [h["beta_1"] * (1 - 0.5 * 0.96**t) for t in range(1, T + 2)]
    return summed(
        lambda t: (
            LR
            * (u[t] * (1 - h["beta_1"] ** t) / (1 - np.prod(u[: t + 1])) + (1 - u[t - 1]) / (1 - np.prod(u[:t])))
            * G
            / (abs(G) + h["epsilon"])
        )
    )


def schedule_free_by_hand(direction, beta):
    z = [W - LR * t * direction for t in range(T + 1)]
    return (1 - beta) * z[T] + beta * np.mean(z[1:], axis=0)


def adam_by_hand(h, w=None):
    bias = lambda t: np.sqrt(1 - h["beta_2"] ** t)  # noqa: E731
    return summed(lambda t: LR * bias(t) * G / (abs(G) * bias(t) + h["epsilon"]))


# Parameters after T steps with the gradient G and learning rate LR, from W, without a recurrence where possible.
CLOSED_FORMS = {
    "gd": lambda h: W - T * LR * G,
    "sgd": lambda h: W - T * LR * G,
    "momentum": lambda h: summed(lambda t: LR * G * (1 - 0.9**t) / (1 - 0.9)),
    "nesterov": lambda h: summed(lambda t: LR * G * (1 - 0.9 ** (t + 1)) / (1 - 0.9)),
    "adagrad": lambda h: summed(lambda t: LR * G / np.sqrt(t * G**2 + h["epsilon"])),
    "rmsprop": lambda h: summed(lambda t: LR * G / np.sqrt((1 - h["rho"] ** t) * G**2 + h["epsilon"])),
    "adam": adam_by_hand,
    "adamw": lambda h: functools.reduce(
        lambda w, t: (
            w * (1 - LR * h["weight_decay"]) - LR * G / (abs(G) + h["epsilon"] / np.sqrt(1 - h["beta_2"] ** t))
        ),
        range(1, T + 1),
        W,
    ),
    "nadam": nadam_by_hand,
    "adamax": lambda h: W - T * LR * G / (abs(G) + h["epsilon"]),
    "adadelta": adadelta_by_hand,
    # From zero and without penalties FTRL-Proximal is Adagrad; the first step loses a part of W.
    "ftrl": lambda h: (
        W * (1 - np.sqrt(0.1 / (0.1 + G**2))) - sum(LR * G / np.sqrt(0.1 + t * G**2) for t in range(1, T + 1))
    ),
    "lion": lambda h: W - T * LR * np.sign(G),
    "schedule_free_sgd": lambda h: schedule_free_by_hand(G, h["momentum"]),
    "schedule_free_adamw": lambda h: schedule_free_by_hand(G / (abs(G) + h["epsilon"]), h["beta_1"]),
}

# Beside the defaults: every option of every rule, and the options that all rules have.
OPTIONS = [
    *((name, {}) for name in RULES),
    ("rmsprop", {"momentum": 0.8}),
    ("rmsprop", {"centered": True}),
    ("rmsprop", {"momentum": 0.8, "centered": True}),
    ("adam", {"amsgrad": True}),
    ("adamw", {"amsgrad": True}),
    ("ftrl", {"l1_regularization_strength": 0.3, "l2_regularization_strength": 0.2, "beta": 0.5}),
    ("ftrl", {"l2_shrinkage_regularization_strength": 0.1, "learning_rate_power": -0.4}),
    ("schedule_free_sgd", {"warmup_steps": 8, "r": 1.0}),
    ("schedule_free_adamw", {"warmup_steps": 8, "weight_lr_power": 0.0, "weight_decay": 0.1}),
    *((name, {"weight_decay": 0.1}) for name in RULES),
    *((name, {"clipvalue": 0.3}) for name in RULES),
    *((name, {"ema_momentum": 0.9}) for name in RULES),
]
EVERY_RULE = pytest.mark.parametrize("name", RULES)
EVERY_OPTION = pytest.mark.parametrize(("name", "hyper"), OPTIONS, ids=lambda x: x if isinstance(x, str) else str(x))


def gradients(shape, n=200, seed=0):
    """Random gradients of very different sizes, some exactly zero."""
    rng = np.random.default_rng(seed)
    for _ in range(n):
        yield rng.normal(size=shape) * 10 ** rng.uniform(-3, 1) * (rng.random(size=shape) < 0.9)


def test_every_rule_has_a_closed_form():
    assert set(CLOSED_FORMS) == set(RULES)


@EVERY_RULE
def test_closed_form(name):
    w, state = W, reference.init(name, W)
    for t in range(1, T + 1):
        w, state = reference.step(name, w, G, state, t, LR)
    np.testing.assert_allclose(w, CLOSED_FORMS[name](reference.COMMON | RULES[name].defaults), rtol=1e-12)


@EVERY_RULE
def test_state_is_what_the_table_says(name):
    rule = RULES[name]
    state = reference.init(name, W)
    assert set(state) == set(rule.slots) | set(rule.scalars)
    assert set(reference.step(name, W, G, state, 1)[1]) == set(state)
    for slot in rule.slots:
        assert state[slot].shape == W.shape
        assert not np.shares_memory(state[slot], W)
    for scalar in rule.scalars:
        assert type(state[scalar]) is float
    assert "learning_rate" in rule.defaults


@EVERY_OPTION
def test_rule_on_floats_and_on_arrays(name, hyper):
    w, state = W, reference.init(name, W, **hyper)
    cells = [(float(wj), reference.init(name, float(wj), **hyper)) for wj in W]
    for t, g in enumerate(gradients(4, n=30), start=1):
        w, state = reference.step(name, w, g, state, t, LR, **hyper)
        cells = [
            reference.step(name, wj, float(gj), cell, t, LR, **hyper) for (wj, cell), gj in zip(cells, g, strict=True)
        ]
        np.testing.assert_allclose([wj for wj, _ in cells], w, rtol=1e-13, atol=1e-15)
    assert all(type(wj) is float for wj, _ in cells)
    for slot, value in state.items():
        np.testing.assert_allclose([cell[slot] for _, cell in cells], value * np.ones(4), rtol=1e-12, atol=1e-15)


@EVERY_OPTION
def test_rule_on_numpys_numbers(name, hyper):
    """Also what arrays of no dimension become in arithmetic."""
    runs = []
    for kind in (float, np.float64, np.array):
        w = kind(0.5)
        state = reference.init(name, w, **hyper)
        for t, g in enumerate([-0.3, 0.2, 0.0], start=1):
            w, state = reference.step(name, w, kind(g), state, t, LR, **hyper)
        runs.append(float(w))
    np.testing.assert_allclose(runs, runs[0], rtol=1e-15)


@EVERY_OPTION
def test_rule_writes_nothing_in_place(name, hyper):
    w, g = W.copy(), G.copy()
    state = reference.init(name, w, **hyper)
    _, state = reference.step(name, w, g, state, 1, LR, **hyper)
    before = {slot: np.array(value) for slot, value in state.items()}
    reference.step(name, w, g, state, 2, LR, **hyper)
    np.testing.assert_array_equal(w, W)
    np.testing.assert_array_equal(g, G)
    for slot, value in before.items():
        np.testing.assert_array_equal(state[slot], value)


@EVERY_OPTION
def test_rule_keeps_float32(name, hyper):
    w = W.astype(np.float32)
    state = reference.init(name, w, **hyper)
    for t in (1, 2):
        w, state = reference.step(name, w, G.astype(np.float32), state, t, np.float64(LR), **hyper)
    assert w.dtype == np.float32
    assert all(value.dtype == np.float32 for value in state.values() if isinstance(value, np.ndarray))


def test_learning_rate_is_inside_the_velocity():
    state = reference.init("momentum", W)
    w, state = reference.step("momentum", W, G, state, 1, 1.0)
    w, state = reference.step("momentum", w, G, state, 2, 0.1)
    np.testing.assert_allclose(w, W - G - (0.9 * G + 0.1 * G), rtol=1e-14)  # PyTorch: 0.1 * (0.9 + 1) G


def test_adam_epsilon_is_beside_the_uncorrected_root():
    w, _ = reference.step("adam", W, G, reference.init("adam", W), 1, LR, epsilon=0.5)
    np.testing.assert_allclose(w, W - LR * G / (abs(G) + 0.5 / np.sqrt(0.001)), rtol=1e-12)


def test_amsgrad_remembers_the_largest_second_moment():
    state = reference.init("adam", W, amsgrad=True)
    _, state = reference.step("adam", W, 100 * G, state, 1, LR, amsgrad=True)
    w, new = reference.step("adam", W, 0 * G, state, 2, LR, amsgrad=True)
    np.testing.assert_array_equal(new["v_max"], state["v"])
    assert np.all(new["v"] < new["v_max"])
    rate = LR * np.sqrt(1 - 0.999**2) / (1 - 0.9**2)
    np.testing.assert_allclose(w, W - rate * new["m"] / (np.sqrt(new["v_max"]) + 1e-8), rtol=1e-13)


def test_centered_rmsprop_never_takes_the_root_of_a_negative_number():
    """A gradient that stays the same: v and m^2 become equal, up to a rounding error larger than epsilon."""
    g = np.geomspace(1e4, 1e8, 100)
    w, state = np.zeros(100), reference.init("rmsprop", np.zeros(100), centered=True)
    for t in range(1, 501):
        w, state = reference.step("rmsprop", w, g, state, t, 1e-9, centered=True)
    assert np.any(state["v"] - state["m"] ** 2 < -1e-8)
    assert np.isfinite(w).all()


def test_lion_has_two_rates():
    """The step looks at m with beta_1, the memory goes on with beta_2."""
    w1, state = reference.step("lion", W, G, reference.init("lion", W), 1, LR)
    np.testing.assert_allclose(state["m"], 0.01 * G, rtol=1e-12)
    np.testing.assert_allclose(w1, W - LR * np.sign(G), rtol=1e-15)
    w2, state = reference.step("lion", w1, -0.1 * G, state, 2, LR)  # 0.9 * 0.01 < 0.1 * 0.1
    np.testing.assert_allclose(w2, W, rtol=1e-15)
    np.testing.assert_allclose(state["m"], (0.99 * 0.01 - 0.01 * 0.1) * G, rtol=1e-12)


def test_ftrl_minimises_its_linearised_objective():
    hyper = {"l1_regularization_strength": 5.0, "l2_regularization_strength": 0.2, "beta": 0.5}
    w, state = np.zeros(20), reference.init("ftrl", np.zeros(20), **hyper)
    for t, g in enumerate(gradients(20, n=20), start=1):
        w, state = reference.step("ftrl", w, g, state, t, LR, **hyper)
    curvature = (np.sqrt(state["n"]) + 0.5) / LR + 0.4
    slope = state["z"] + curvature * w
    assert np.all(abs(slope[w == 0]) <= 5.0)
    np.testing.assert_allclose(slope[w != 0], -5.0 * np.sign(w[w != 0]), rtol=1e-12)
    assert 0 < np.count_nonzero(w) < 20


def test_schedule_free_average():
    """x is the average of all z, weighted by the largest squared learning rate so far; w lies between x and z."""
    rates = [0.1, 0.4, 0.2, 0.3]
    w, state, z, weights = W, reference.init("schedule_free_sgd", W), [], []
    for t, (g, lr) in enumerate(zip(gradients(4, n=4), rates, strict=True), start=1):
        w, state = reference.step("schedule_free_sgd", w, g, state, t, lr)
        z.append(state["z"])
        weights.append(max(rates[:t]) ** 2)
        x = np.average(z, axis=0, weights=weights)
        np.testing.assert_allclose(reference.averaged("schedule_free_sgd", w, state), x, rtol=1e-12)
        np.testing.assert_allclose(w, 0.9 * x + 0.1 * z[-1], rtol=1e-12)
    w, _ = reference.step("schedule_free_sgd", W, G, reference.init("schedule_free_sgd", W), 1, 0.0)
    np.testing.assert_allclose(w, W)  # a learning rate of zero is no division by zero


def test_schedule_free_warm_up():
    """Learning rates lr / 4, lr / 2, 3 lr / 4, lr, lr, ..."""
    w, state = W, reference.init("schedule_free_sgd", W, warmup_steps=4)
    for t in range(1, 7):
        w, state = reference.step("schedule_free_sgd", w, G, state, t, LR, warmup_steps=4)
        np.testing.assert_allclose(state["z"], W - LR * G * [0.25, 0.75, 1.5, 2.5, 3.5, 4.5][t - 1], rtol=1e-12)


def test_averaged_of_the_other_rules():
    state = reference.init("adam", W, ema_momentum=0.5)
    w1, state = reference.step("adam", W, G, state, 1, LR, ema_momentum=0.5)
    np.testing.assert_array_equal(state["ema"], w1)
    w2, state = reference.step("adam", w1, G, state, 2, LR, ema_momentum=0.5)
    np.testing.assert_allclose(reference.averaged("adam", w2, state, {"ema_momentum": 0.5}), (w1 + w2) / 2, rtol=1e-15)
    assert reference.averaged("adam", w2, state) is w2


def test_polyak_average():
    iterates = np.random.default_rng(0).normal(size=(10, 3))
    average = np.zeros(3)
    for t, w in enumerate(iterates, start=1):
        average = reference.polyak(average, w, t, start=4)
        np.testing.assert_allclose(average, iterates[min(t, 4) - 1 if t <= 4 else 3 : t].mean(axis=0), rtol=1e-13)


def test_decay_and_weight_decay():
    assert reference.decayed(0.5, 1, 0.1) == 0.5
    assert reference.decayed(0.5, 11, 0.1) == 0.25
    w, _ = reference.step("sgd", W, G, {}, 11, learning_rate=0.5, decay=0.1, weight_decay=0.2)
    np.testing.assert_allclose(w, W * (1 - 0.25 * 0.2) - 0.25 * G, rtol=1e-15)


def test_clip():
    np.testing.assert_allclose(np.linalg.norm(reference.clip(G, clipnorm=0.5)), 0.5, rtol=1e-15)
    np.testing.assert_allclose(reference.clip(G, clipnorm=100.0), G, rtol=1e-15)
    np.testing.assert_array_equal(reference.clip(0 * G, clipnorm=1.0), 0 * G)
    np.testing.assert_array_equal(reference.clip(G, clipvalue=1.0), [-1.0, -0.3, 0.5, 1.0])
    assert reference.clip(-7.0, clipvalue=2.0) == -2.0
    assert reference.clip(-7.0, clipnorm=2.0) == -2.0
    with pytest.raises(ValueError, match=r"clipvalue must be None .*got 1\.0"):
        reference.clip(G, clipnorm=1.0, clipvalue=1.0)


def test_unknown_names():
    with pytest.raises(ValueError, match=r"name must be one of .*got 'sdg'"):
        reference.init("sdg", W)
    with pytest.raises(ValueError, match="hyper must hold only parameters of 'adam'; got 'beta1'"):
        reference.step("adam", W, G, {}, 1, beta1=0.9)
    with pytest.raises(ValueError, match=r"loss must be one of .*got 'log'"):
        reference.objective(np.ones((1, 1)), np.ones(1), np.ones((2, 1)), loss="log")


# --- Keras and PyTorch --------------------------------------------------------------------------

KERAS_CLASSES = {
    "gd": "SGD",
    "sgd": "SGD",
    "momentum": "SGD",
    "nesterov": "SGD",
    "adagrad": "Adagrad",
    "rmsprop": "RMSprop",
    "adam": "Adam",
    "adamw": "AdamW",
    "nadam": "Nadam",
    "adamax": "Adamax",
    "adadelta": "Adadelta",
    "ftrl": "Ftrl",
    "lion": "Lion",
}
KERAS_OPTIONS = [(name, hyper) for name, hyper in OPTIONS if name in KERAS_CLASSES]


@pytest.fixture(scope="module")
def keras():
    """Keras in float64 on whichever backend is installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if "KERAS_BACKEND" not in os.environ and "keras" not in sys.modules:
            backends = [name for name in ("torch", "jax", "tensorflow") if importable(name)]
            if not backends:
                pytest.skip("no backend of Keras (PyTorch, JAX, TensorFlow) is installed")
            os.environ["KERAS_BACKEND"] = backends[0]
        keras = pytest.importorskip("keras", minversion="3.0", reason="Keras is not installed", exc_type=ImportError)
    before = keras.config.floatx()
    keras.config.set_floatx("float64")
    yield keras
    keras.config.set_floatx(before)


def importable(name):
    try:
        __import__(name)
    except ImportError:
        return False
    return True


def test_every_rule_of_keras_is_compared(keras):
    theirs = {name.lower() for name in dir(keras.optimizers)}
    left_out = {name for name in RULES if name.replace("_", "") in theirs and name not in KERAS_CLASSES}
    assert left_out <= {"schedule_free_adamw"}  # which overwrites a value it still needs (PyTorch backend, 3.15)


@pytest.mark.parametrize(
    ("name", "hyper"),
    [*KERAS_OPTIONS, *((name, {"clipnorm": 1.0}) for name in KERAS_CLASSES)],
    ids=lambda x: x if isinstance(x, str) else str(x),
)
def test_equals_keras_step_by_step(keras, name, hyper):
    arguments = RULES[name].defaults | hyper | {"learning_rate": LR, "use_ema": "ema_momentum" in hyper}
    w = np.random.default_rng(1).normal(size=(3, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        optimizer = getattr(keras.optimizers, KERAS_CLASSES[name])(**arguments)
        variable = keras.Variable(w, dtype="float64")
        state = reference.init(name, w, **hyper)
        # Keras 3.15 rounds the norm to float32 in its clipping by norm.
        tolerance = 1e-6 if "clipnorm" in hyper else 1e-12
        for t, g in enumerate(gradients(w.shape), start=1):
            w, state = reference.step(name, w, g, state, t, LR, **hyper)
            optimizer.apply([keras.ops.convert_to_tensor(g)], [variable])
            theirs = keras.ops.convert_to_numpy(variable.value)
            np.testing.assert_allclose(w, theirs, rtol=tolerance, atol=tolerance * np.abs(w).max())
        if "ema_momentum" in hyper:
            theirs = keras.ops.convert_to_numpy(optimizer._model_variables_moving_average[0].value)
            np.testing.assert_allclose(state["ema"], theirs, rtol=1e-12)


# PyTorch's arguments with which its formula is ours; epsilon sits elsewhere in most of its rules, so it is zero there.
TORCH_ARGUMENTS = {
    "gd": ("SGD", {}, {}),
    "momentum": ("SGD", {"momentum": 0.9}, {}),
    "nesterov": ("SGD", {"momentum": 0.9, "nesterov": True}, {}),
    "adagrad": ("Adagrad", {"eps": 0.0, "lr_decay": 0.1}, {"epsilon": 0.0, "decay": 0.1}),
    "rmsprop": ("RMSprop", {"alpha": 0.9, "eps": 0.0, "momentum": 0.5}, {"epsilon": 0.0, "momentum": 0.5}),
    "rmsprop centered": ("RMSprop", {"alpha": 0.9, "eps": 0.0, "centered": True}, {"epsilon": 0.0, "centered": True}),
    "adam": ("Adam", {"eps": 0.0}, {"epsilon": 0.0}),
    "adam amsgrad": ("Adam", {"eps": 0.0, "amsgrad": True}, {"epsilon": 0.0, "amsgrad": True}),
    "adamw": ("AdamW", {"eps": 0.0, "weight_decay": 0.1}, {"epsilon": 0.0, "weight_decay": 0.1}),
    "nadam": ("NAdam", {"eps": 1e-7, "momentum_decay": 1.0}, {}),
    "adamax": ("Adamax", {"eps": 0.0}, {"epsilon": 0.0}),
    "adadelta": ("Adadelta", {"rho": 0.95, "eps": 1e-7}, {}),
}


@pytest.fixture
def torch():
    """PyTorch in float64: NAdam keeps a float32 product otherwise."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed", exc_type=ImportError)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield torch
    torch.set_default_dtype(before)


@pytest.mark.parametrize("case", TORCH_ARGUMENTS)
def test_equals_pytorch_step_by_step(torch, case):
    kind, arguments, hyper = TORCH_ARGUMENTS[case]
    compare_with_torch(torch, getattr(torch.optim, kind), case.split()[0], arguments, hyper)


@pytest.mark.parametrize(
    ("name", "kind", "arguments", "hyper"),
    [
        ("schedule_free_sgd", "sgd_schedulefree_reference:SGDScheduleFreeReference", {}, {}),
        (
            "schedule_free_sgd",
            "sgd_schedulefree_reference:SGDScheduleFreeReference",
            {"momentum": 0.7, "weight_decay": 0.1, "warmup_steps": 20, "r": 1.0, "weight_lr_power": 1.0},
            {"momentum": 0.7, "weight_decay": 0.1, "warmup_steps": 20, "r": 1.0, "weight_lr_power": 1.0},
        ),
        ("schedule_free_adamw", "adamw_schedulefree_reference:AdamWScheduleFreeReference", {}, {}),
        (
            "schedule_free_adamw",
            "adamw_schedulefree_reference:AdamWScheduleFreeReference",
            {"weight_decay": 0.1, "warmup_steps": 20, "r": 0.5},
            {"weight_decay": 0.1, "warmup_steps": 20, "r": 0.5},
        ),
    ],
)
def test_equals_the_schedule_free_package(torch, name, kind, arguments, hyper):
    module, kind = kind.split(":")
    theirs = pytest.importorskip(f"schedulefree.{module}", reason="schedulefree is not installed", exc_type=ImportError)
    compare_with_torch(torch, getattr(theirs, kind), name, arguments, hyper)


def compare_with_torch(torch, kind, name, arguments, hyper):
    w = np.random.default_rng(1).normal(size=(3, 2))
    parameter = torch.nn.Parameter(torch.tensor(w, dtype=torch.float64))
    optimizer = kind([parameter], lr=LR, **arguments)
    if hasattr(optimizer, "train"):
        optimizer.train()
    state = reference.init(name, w, **hyper)
    rng = np.random.default_rng(0)
    for t in range(1, 201):
        g = rng.normal(size=w.shape) * 10 ** rng.uniform(-3, 1)
        w, state = reference.step(name, w, g, state, t, learning_rate=LR, **hyper)
        parameter.grad = torch.tensor(g)
        optimizer.step()
        np.testing.assert_allclose(w, parameter.detach().numpy(), rtol=1e-12, atol=1e-12 * np.abs(w).max())
    if hasattr(optimizer, "eval"):
        optimizer.eval()
        x = reference.averaged(name, w, state, hyper)
        np.testing.assert_allclose(x, parameter.detach().numpy(), rtol=1e-12, atol=1e-12 * np.abs(w).max())


# --- objective ----------------------------------------------------------------------------------


def problem(n=22, d=5, outputs=1, seed=0, loss="log_loss"):
    """Dense rows with zeros, targets that the loss accepts, weights, parameters (the last row is the intercept)."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) * (rng.random(size=(n, d)) < 0.6)
    if loss == "multinomial":
        y = rng.integers(0, outputs, size=n).astype(float)
    else:
        y = rng.choice(LOSS_TABLE[loss][0], size=n)
    return X, y, rng.uniform(0.2, 3.0, size=n), rng.normal(size=(d + 1, outputs)) * 0.5


LAYOUTS = pytest.mark.parametrize("layout", [np.asarray, scipy.sparse.csr_array, scipy.sparse.csr_matrix])


@LAYOUTS
@pytest.mark.parametrize("weighted", [False, True])
def test_objective_equals_scikit_learn(layout, weighted):
    X, y, s, w = problem()
    s = s if weighted else None
    p = 1 / (1 + np.exp(-(X @ w[:-1] + w[-1])[:, 0]))
    expected = sklearn_log_loss(y, p, sample_weight=s) + 0.35 * np.sum(w[:-1] ** 2)
    value = reference.objective(layout(X), y, w, alpha=0.7, sample_weight=s)
    assert value == pytest.approx(expected, rel=1e-13)

    X, y, s, w = problem(outputs=3, loss="multinomial")
    s = s if weighted else None
    p = scipy.special.softmax(X @ w[:-1] + w[-1], axis=1)
    expected = sklearn_log_loss(y, p, sample_weight=s) + 0.35 * np.sum(w[:-1] ** 2)
    value = reference.objective(layout(X), y, w, loss="multinomial", alpha=0.7, sample_weight=s)
    assert value == pytest.approx(expected, rel=1e-13)


@LAYOUTS
@pytest.mark.parametrize("loss", LOSSES)
def test_gradient_is_the_objectives(layout, loss):
    outputs = 3 if loss == "multinomial" else 1
    X, y, s, w = problem(outputs=outputs, loss=loss)
    for weights, fit_intercept in ((None, True), (s, True), (s, False)):
        v = w if fit_intercept else w[:-1]
        options = {"loss": loss, "alpha": 0.3, "sample_weight": weights, "fit_intercept": fit_intercept}
        gradient = reference.gradient(layout(X), y, v, **options)
        assert gradient.shape == v.shape
        for index in np.ndindex(v.shape):
            h = np.zeros_like(v)
            h[index] = 1e-6
            up = reference.objective(layout(X), y, v + h, **options)
            down = reference.objective(layout(X), y, v - h, **options)
            assert gradient[index] == pytest.approx((up - down) / 2e-6, abs=1e-7)


def test_objective_sums_in_float64_and_takes_a_pair():
    X, y, s, w = problem(loss="quantile")
    X32, w32 = X.astype(np.float32), w.astype(np.float32)
    pair = tuple(functools.partial(f, quantile=0.9) for f in LOSSES["quantile"])
    value = reference.objective(X32, y, w32, loss=pair, alpha=0.1, sample_weight=s)
    exact = reference.objective(
        X32.astype(np.float64), y, w32.astype(np.float64), loss=pair, alpha=0.1, sample_weight=s
    )
    assert value == pytest.approx(exact, rel=1e-15)
    assert reference.gradient(X32, y, w32, loss=pair).dtype == np.float64
    assert value != reference.objective(X32, y, w32, loss="quantile", alpha=0.1, sample_weight=s)


# --- epochs -------------------------------------------------------------------------------------


def epoch_by_hand(X, y, w, *, name, hyper, loss, alpha, s, fit_intercept, order, batch_size, rates, t0):
    """The definition, row by row, coordinate by coordinate."""
    n, d = X.shape
    outputs = w.shape[1]
    w = w.copy()
    state = reference.init(name, w, **hyper)
    t = t0
    for start in range(0, n, batch_size):
        batch = order[start : start + batch_size]
        g = np.zeros_like(w)
        for i in batch:
            x = np.append(X[i], 1.0) if fit_intercept else X[i]
            z = np.array([sum(x[j] * w[j, k] for j in range(len(x))) for k in range(outputs)])
            if outputs > 1:
                r = LOSSES[loss][1](y[i : i + 1], z[None, :])[0]
            else:
                r = [LOSSES[loss][1](float(y[i]), float(z[0]))]
            for j in range(len(x)):
                for k in range(outputs):
                    g[j, k] += s[i] / (s.sum() / n) * r[k] * x[j] / len(batch)
        g[:d] += alpha * w[:d]
        t += 1
        w, state = reference.step(name, w, g, state, t, rates[t - t0 - 1], **hyper)
    return w, state, t


@pytest.mark.parametrize("batch_size", [1, 7, 22, "full"])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize(("loss", "outputs"), [("log_loss", 1), ("multinomial", 3), ("squared_error", 1)])
def test_epoch_is_its_definition(loss, outputs, fit_intercept, batch_size):
    """n = 22 and batches of 7: the last batch has one row."""
    X, y, s, w = problem(outputs=outputs, loss=loss)
    w = w if fit_intercept else w[:-1]
    rng = np.random.default_rng(3)
    order, rates = rng.permutation(22), rng.uniform(0.01, 0.2, size=22)
    for name in ("gd", "nesterov", "adam"):
        size = 22 if batch_size == "full" else batch_size
        expected, expected_state, expected_t = epoch_by_hand(
            X, y, w, name=name, hyper={}, loss=loss, alpha=0.1, s=s, fit_intercept=fit_intercept, order=order,
            batch_size=size, rates=rates, t0=5,
        )  # fmt: skip
        for layout in (np.asarray, scipy.sparse.csr_array, scipy.sparse.csr_matrix):
            got, state, t = reference.epoch(
                layout(X), y, w, None, rule=name, loss=loss, alpha=0.1, sample_weight=s, fit_intercept=fit_intercept,
                order=order, batch_size=batch_size, learning_rates=rates, t0=5,
            )  # fmt: skip
            np.testing.assert_allclose(got, expected, rtol=1e-11, atol=1e-13)
            assert t == expected_t
            for slot, value in expected_state.items():
                np.testing.assert_allclose(state[slot], value, rtol=1e-11, atol=1e-13)


@LAYOUTS
@pytest.mark.parametrize("batch_size", [1, 7, "full"])
def test_epoch_without_order_goes_row_by_row(layout, batch_size):
    X, y, s, w = problem()
    a = reference.epoch(layout(X), y, w, None, rule="adam", batch_size=batch_size, sample_weight=s)
    b = reference.epoch(layout(X), y, w, None, rule="adam", batch_size=batch_size, sample_weight=s, order=np.arange(22))
    np.testing.assert_allclose(a[0], b[0], rtol=1e-13)


@LAYOUTS
def test_epoch_on_drawn_rows(layout):
    """An order with repeated rows is not a permutation: a batch of n drawn rows is not all the data."""
    X, y, _, w = problem()
    order = np.random.default_rng(0).integers(0, 22, size=22)
    got, _, _ = reference.epoch(layout(X), y, w, None, rule="gd", order=order, batch_size=22, learning_rates=[1.0])
    np.testing.assert_allclose(got, w - reference.gradient(X[order], y[order], w), rtol=1e-12)


@pytest.mark.parametrize("batch_size", [1, 7])
def test_epoch_sums_duplicate_entries(batch_size):
    X = scipy.sparse.csr_array(
        (np.array([1.0, 2.0, -1.0, 0.5]), np.array([1, 1, 0, 1]), np.array([0, 2, 4])), shape=(2, 3)
    )
    y, w = np.array([1.0, -1.0]), np.full((4, 1), 0.1)
    a = reference.epoch(X, y, w, None, rule="adagrad", batch_size=batch_size)
    b = reference.epoch(X.toarray(), y, w, None, rule="adagrad", batch_size=batch_size)
    np.testing.assert_allclose(a[0], b[0], rtol=1e-14)


@EVERY_RULE
def test_epochs_go_on_where_the_last_one_ended(name):
    X, y, s, w = problem()
    order = np.random.default_rng(0).permutation(22)
    hyper = {"decay": 0.01, "weight_decay": 0.1, "ema_momentum": 0.9}
    steps = []
    options = {"rule": name, "hyper": hyper, "alpha": 0.1, "sample_weight": s, "batch_size": 7}
    w1, state, t = reference.epoch(
        X, y, w, None, order=order, on_step=lambda t, w, state: steps.append((t, w.copy(), dict(state))), **options
    )
    assert [t for t, _, _ in steps] == [1, 2, 3, 4]
    assert t == 4
    np.testing.assert_array_equal(steps[-1][1], w1)
    _, halfway, halfway_state = steps[1]
    # The same epoch in two halves of two batches each.
    a, state_a, t = reference.epoch(X, y, w, None, order=order[:14], **options)
    np.testing.assert_array_equal(a, halfway)
    b, state_b, t = reference.epoch(X, y, a, state_a, order=order[14:], t0=t, **options)
    np.testing.assert_array_equal(b, w1)
    for slot in state:
        np.testing.assert_array_equal(state_b[slot], state[slot])
        np.testing.assert_array_equal(state_a[slot], halfway_state[slot])


@EVERY_RULE
def test_epoch_keeps_float32_and_its_inputs(name):
    X, y, s, w = problem()
    X, w = X.astype(np.float32), w.astype(np.float32)
    state = reference.init(name, w)
    inputs = [X, y, s, w, *(value for value in state.values() if isinstance(value, np.ndarray))]
    for array in inputs:
        array.setflags(write=False)
    for data in (X, scipy.sparse.csr_array(X)):
        for batch_size in (1, 7, 22):
            got, new, _ = reference.epoch(
                data, y, w, state, rule=name, alpha=0.1, sample_weight=s, batch_size=batch_size
            )
            assert got.dtype == np.float32
            assert all(value.dtype == np.float32 for value in new.values() if isinstance(value, np.ndarray))
            exact, _, _ = reference.epoch(
                data.astype(np.float64), y, w.astype(np.float64), None, rule=name, alpha=0.1, sample_weight=s,
                batch_size=batch_size,
            )  # fmt: skip
            np.testing.assert_allclose(got, exact, rtol=2e-3, atol=2e-4)


@EVERY_RULE
def test_weight_decay_leaves_the_intercept_alone(name):
    X, y, _, w = problem()
    free, _, _ = reference.epoch(X, y, w, None, rule=name, hyper={"weight_decay": None}, batch_size="full")
    held, _, _ = reference.epoch(X, y, w, None, rule=name, hyper={"weight_decay": 0.5}, batch_size="full")
    assert held[-1] == free[-1]
    assert np.all(held[:-1] != free[:-1])


def test_full_batches_find_scipys_minimum():
    X, y, s, w = problem(n=60)
    options = {"alpha": 0.1, "sample_weight": s}
    best = scipy.optimize.minimize(
        lambda v: reference.objective(X, y, v.reshape(w.shape), **options),
        w.ravel(),
        jac=lambda v: reference.gradient(X, y, v.reshape(w.shape), **options).ravel(),
        tol=1e-12,
    )
    for rule in ("gd", "momentum", "nesterov"):
        v, state, t = w, None, 0
        for _ in range(500):
            v, state, t = reference.epoch(
                X, y, v, state, rule=rule, hyper={"learning_rate": 0.5}, batch_size="full", t0=t, **options
            )
        assert np.linalg.norm(reference.gradient(X, y, v, **options)) < 1e-10
        assert reference.objective(X, y, v, **options) <= best.fun + 1e-12
        np.testing.assert_allclose(v.ravel(), best.x, atol=1e-5)


# --- pure Python --------------------------------------------------------------------------------


def as_lists(X, sparse):
    rows = []
    for x in X:
        columns = np.flatnonzero(x) if sparse else np.arange(len(x))
        rows.append((columns.tolist(), x[columns].tolist()))
    return rows


@pytest.mark.parametrize(
    ("name", "hyper"),
    [*OPTIONS, *((name, {"clipnorm": 0.05}) for name in RULES), *((name, {"decay": 0.1}) for name in RULES)],
    ids=lambda x: x if isinstance(x, str) else str(x),
)
def test_pure_python_equals_numpy(name, hyper):
    X, y, s, w = problem()
    rng = np.random.default_rng(5)
    for batch_size, weights, fit_intercept, alpha, sparse, own_rates in (
        (1, s, True, 0.1, True, False),
        (7, s, True, 0.1, False, True),
        (7, None, False, 0.0, True, True),
        ("full", None, True, 0.0, True, True),
    ):
        v = w if fit_intercept else w[:-1]
        options = {
            "rule": name,
            "hyper": hyper,
            "alpha": alpha,
            "fit_intercept": fit_intercept,
            "batch_size": batch_size,
            "t0": 2,
        }
        order, rates = rng.permutation(22), None if own_rates else rng.uniform(0.01, 0.3, size=22)
        trace = []
        expected, expected_state, t = reference.epoch(
            X, y, v, None, order=order, learning_rates=rates, sample_weight=weights,
            on_step=lambda t, w, state: trace.append(w[:, 0].copy()), **options,  # noqa: B023
        )  # fmt: skip
        steps = []
        got, state, last = reference.python_epoch(
            as_lists(X, sparse), y.tolist(), v[:, 0].tolist(), None, order=order.tolist(),
            learning_rates=None if rates is None else rates.tolist(),
            sample_weight=None if weights is None else weights.tolist(),
            on_step=lambda t, w, state: steps.append(list(w)), **options,  # noqa: B023
        )  # fmt: skip
        assert last == t
        assert all(type(value) is float for value in got)
        np.testing.assert_allclose(steps, trace, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(got, expected[:, 0], rtol=1e-10, atol=1e-12)
        assert set(state) == set(expected_state)
        for slot, value in expected_state.items():
            np.testing.assert_allclose(
                state[slot], np.ravel(value) if np.ndim(value) else value, rtol=1e-10, atol=1e-12
            )


@pytest.mark.parametrize("loss", [name for name in LOSSES if name not in {"log_loss", "multinomial"}])
def test_pure_python_takes_every_pointwise_loss(loss):
    X, y, _, w = problem(loss=loss)
    expected, _, _ = reference.epoch(X, y, w, None, rule="sgd", loss=loss, alpha=0.1, batch_size=4)
    got, _, _ = reference.python_epoch(
        as_lists(X, True), y.tolist(), w[:, 0].tolist(), None, rule="sgd", loss=loss, alpha=0.1, batch_size=4
    )
    np.testing.assert_allclose(got, expected[:, 0], rtol=1e-12)


@pytest.mark.parametrize("shrinkage", [1.0, 0.999999, 0.7, 3.0])
def test_scale_of_pure_python_may_vanish(shrinkage):
    """lr * alpha = 1 makes the scale zero, 0.7 lets it underflow, 3 changes its sign and lets it grow."""
    X, y, _, w = problem()
    rates = [shrinkage / 0.5] * 22
    expected, _, _ = reference.epoch(X, y, w, None, rule="sgd", alpha=0.5, learning_rates=rates)
    got, _, _ = reference.python_epoch(
        as_lists(X, True), y.tolist(), w[:, 0].tolist(), None, rule="sgd", alpha=0.5, learning_rates=rates
    )
    np.testing.assert_allclose(got, expected[:, 0], rtol=1e-9)


def test_pure_python_keeps_its_inputs():
    X, y, _, w = problem()
    start, state = w[:, 0].tolist(), reference.python_init("adam", w[:, 0].tolist())
    reference.python_epoch(as_lists(X, True), y.tolist(), start, state, rule="adam", alpha=0.1)
    assert start == w[:, 0].tolist()
    assert state == {"m": [0.0] * 6, "v": [0.0] * 6}


# --- the module ---------------------------------------------------------------------------------


def test_reference_imports_nothing_compiled_but_numpy():
    tree = ast.parse(inspect.getsource(reference))
    modules = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or "." * node.level]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert modules == {"collections", "math", "numpy", "typing"}


def test_every_function_says_what_it_does():
    for name, function in vars(reference).items():
        if inspect.isfunction(function) and not name.startswith("_") and function.__module__ == reference.__name__:
            assert function.__doc__, name
    for rule in RULES.values():
        assert rule.step.__doc__
        assert "=" in rule.step.__doc__
