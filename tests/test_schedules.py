"""Schedules against closed forms written with the math module; arrays against single steps; errors."""

import math

import numpy as np
import pytest
from scipy import sparse

from fastopt import LogisticRegression, SGDClassifier, minimize
from fastopt.optimizers import SGD, Adam, Ftrl
from fastopt.schedules import (
    SCHEDULES,
    Constant,
    Cosine,
    Exponential,
    InverseScaling,
    InverseTime,
    OneCycle,
    StepDecay,
    learning_rates,
)


def half_cosine(top, bottom, share):
    return bottom + (top - bottom) * (1 + math.cos(math.pi * share)) / 2


def restarts(k):
    """Periods of 10, 20, 40, ... steps from 2, 1, 0.5, ... down to 0."""
    period, top = 10, 2.0
    while k >= period:
        k, period, top = k - period, 2 * period, top / 2
    return half_cosine(top, 0.0, k / period)


def one_cycle(k):
    if k < 30:
        return half_cosine(0.1, 1.0, k / 30)
    return half_cosine(1.0, 0.001, min((k - 30) / 70, 1))


# Schedule, and the learning rate after k steps.
FORMS = [
    (Constant(0.1), lambda k: 0.1),
    (Constant(0), lambda k: 0.0),
    (InverseTime(0.1, decay=0.25), lambda k: 0.1 / (1 + 0.25 * k)),
    (InverseScaling(0.1, power_t=0.5), lambda k: 0.1 / math.sqrt(k + 1)),
    (InverseScaling(0.1), lambda k: 0.1 / (k + 1) ** 0.25),
    (Exponential(0.1, decay_steps=10, decay_rate=0.5), lambda k: 0.1 * 2 ** (-k / 10)),
    (StepDecay(0.1, every=7, factor=0.1), lambda k: 0.1 * 0.1 ** (k // 7)),
    (Cosine(1.0, decay_steps=50), lambda k: half_cosine(1.0, 0.0, min(k / 50, 1))),
    (
        Cosine(1.0, decay_steps=50, final=0.2, warmup_steps=10),
        lambda k: 0.2 + 0.8 * (k + 1) / 10 if k < 10 else half_cosine(1.0, 0.2, min((k - 10) / 50, 1)),
    ),
    (Cosine(1.0, decay_steps=10, restarts=True), lambda k: half_cosine(1.0, 0.0, k % 10 / 10)),
    (Cosine(2.0, decay_steps=10, restarts=True, period_factor=2.0, top_factor=0.5), restarts),
    (OneCycle(1.0, total_steps=100, rise=0.3, start_divisor=10, final_divisor=1000), one_cycle),
    (OneCycle(1.0, total_steps=100, rise=0.0), lambda k: half_cosine(1.0, 1e-4, min(k / 100, 1))),
]
FORM = pytest.mark.parametrize(("schedule", "form"), FORMS, ids=[repr(schedule) for schedule, _ in FORMS])
ROUNDING = {"rtol": 1e-15, "atol": 0}  # NumPy's powers of arrays and of scalars may differ in the last bit
STEPS = [0, 1, 2, 6, 7, 9, 10, 11, 29, 30, 31, 49, 50, 60, 69, 70, 99, 100, 101, 1000]


def test_every_schedule_has_a_form():
    assert {type(schedule) for schedule, _ in FORMS} == set(SCHEDULES.values())


@FORM
def test_closed_forms(schedule, form):
    for k in STEPS:
        assert schedule(k) == pytest.approx(form(k), rel=1e-12, abs=1e-15)


@FORM
def test_array_equals_scalar(schedule, form):
    scalars = [schedule(k) for k in STEPS]
    assert all(type(rate) is float for rate in scalars)
    for steps in (np.array(STEPS), np.array(STEPS, dtype=float), STEPS):
        rates = schedule(steps)
        assert rates.dtype == np.float64
        np.testing.assert_allclose(rates, scalars, **ROUNDING)
    np.testing.assert_allclose(schedule(np.array(STEPS).reshape(4, -1)).ravel(), scalars, **ROUNDING)
    assert schedule(np.array([])).shape == (0,)


@FORM
def test_rates_are_numbers_that_steps_can_take(schedule, form):
    rates = schedule(np.arange(100_000))
    assert np.isfinite(rates).all()
    assert (rates >= 0).all()
    assert schedule(2**40) >= 0


@FORM
def test_smooth_means_what_closed_forms_rely_on(schedule, form):
    """Between whole steps too, a smooth schedule runs between its neighbours; the others say that they do not."""
    if schedule.smooth:
        k = np.arange(0.0, 200.0)
        between = np.sort([schedule(k), schedule(k + 1)], axis=0)
        middle = schedule(k + 0.5)
        assert (between[0] <= middle).all()
        assert (middle <= between[1]).all()


@FORM
def test_learning_rates(schedule, form):
    expected = [schedule(k) for k in range(3, 60)]
    np.testing.assert_allclose(learning_rates(schedule, 3, 60), expected, **ROUNDING)
    np.testing.assert_array_equal(learning_rates(lambda k: schedule(k), 3, 60), expected)
    assert learning_rates(schedule, 3, 3).shape == (0,)


def test_learning_rates_of_a_number():
    np.testing.assert_array_equal(learning_rates(0.1, 5, 8), [0.1, 0.1, 0.1])


@pytest.mark.parametrize("wrong", [-0.1, np.nan, np.inf])
def test_learning_rates_that_no_step_can_take(wrong):
    with pytest.raises(ValueError, match=r"learning_rate must give finite rates >= 0; got .* It did so after 7 steps"):
        learning_rates(lambda k: wrong if k == 7 else 0.1, 0, 10)


WRONG_RATES = pytest.mark.parametrize("wrong", [-0.1, np.nan, np.inf, "a", None])
SAYS = r"learning_rate must give finite rates >= 0; got .*\. It did so after {} steps\."


@WRONG_RATES
@pytest.mark.parametrize("rule", [SGD, Adam, Ftrl])
def test_a_step_is_not_taken_by_a_wrong_rate(rule, wrong):
    w, optimizer = np.ones(3), rule(learning_rate=lambda k: wrong if k == 2 else 0.1)
    state = optimizer.init(w)
    for _ in range(2):
        optimizer.step(w, np.ones(3), state)
    before = w.copy(), state["t"]
    for g in (np.ones(3), (np.array([1]), np.ones(1))):
        with pytest.raises(ValueError, match=SAYS.format(2)):
            optimizer.step(w, g, state)
        np.testing.assert_array_equal(w, before[0])
        assert state["t"] == before[1]


@WRONG_RATES
@pytest.mark.parametrize("layout", [np.asarray, sparse.csr_array])
def test_fits_say_that_a_rate_is_wrong(layout, wrong):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((40, 3)), rng.integers(0, 2, 40)
    optimizer = SGD(learning_rate=lambda k: wrong if k == 50 else 0.1)
    with pytest.raises(ValueError, match=SAYS.format(50)):
        LogisticRegression(solver=optimizer, batch_size=1, max_iter=3).fit(layout(X), y)
    with pytest.raises(ValueError, match=SAYS.format(50)):
        SGDClassifier(optimizer=optimizer, max_iter=3, tol=None).fit(layout(X), y)
    with pytest.raises(ValueError, match=SAYS.format(50)):
        minimize(lambda w: w @ w + 1e6 * w.sum(), np.ones(3), optimizer=optimizer)


@pytest.mark.parametrize("layout", [np.asarray, sparse.csr_array])
def test_what_a_function_gives_beyond_the_last_step_does_not_matter(layout):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((40, 3)), rng.integers(0, 2, 40)
    for power in (0.9, 1):  # complex beyond the 40th step, or negative
        optimizer = Adam(learning_rate=lambda k, power=power: 0.1 * (1 - k / 40) ** power)
        model = SGDClassifier(optimizer=optimizer, max_iter=1, tol=None, random_state=0).fit(layout(X), y)
        assert model.score(X, y) > 0.4


ERRORS = [
    (lambda: Constant(-1), ValueError, "learning_rate must be a finite number >= 0; got -1."),
    (lambda: Constant(np.nan), ValueError, "learning_rate must be a finite number >= 0; got nan."),
    (lambda: Constant("0.1"), TypeError, "learning_rate must be a finite number >= 0; got '0.1'."),
    (lambda: InverseTime(-0.1), ValueError, "initial must be a finite number >= 0; got -0.1."),
    (lambda: InverseTime(0.1, -1), ValueError, "decay must be a finite number >= 0; got -1."),
    (lambda: InverseTime(1, 10**400), ValueError, "decay must be a finite number >= 0; got an integer of 1,329 bits."),
    (lambda: InverseScaling(np.inf), ValueError, "initial must be a finite number >= 0; got inf."),
    (lambda: InverseScaling(0.1, None), TypeError, "power_t must be a finite number; got None."),
    (lambda: Exponential(decay_steps=0), ValueError, "decay_steps must be an integer >= 1; got 0."),
    (lambda: Exponential(decay_steps=1.5), TypeError, "decay_steps must be an integer >= 1; got 1.5."),
    (lambda: Exponential(decay_rate=0), ValueError, "decay_rate must be a finite number > 0; got 0."),
    (lambda: StepDecay(every=0), ValueError, "every must be an integer >= 1; got 0."),
    (lambda: StepDecay(factor=-1), ValueError, "factor must be a finite number > 0; got -1."),
    (lambda: Cosine(decay_steps=0), ValueError, "decay_steps must be an integer >= 1; got 0."),
    (lambda: Cosine(warmup_steps=-1), ValueError, "warmup_steps must be an integer >= 0; got -1."),
    (lambda: Cosine(final=-1), ValueError, "final must be a finite number >= 0; got -1."),
    (lambda: Cosine(period_factor=0.5), ValueError, "period_factor must be a finite number >= 1; got 0.5."),
    (lambda: Cosine(top_factor=0), ValueError, "top_factor must be a finite number > 0; got 0."),
    (lambda: Cosine(restarts="yes"), TypeError, "restarts must be True or False; got 'yes'."),
    (lambda: OneCycle(rise=1.0), ValueError, "rise must be a number in [0, 1); got 1.0."),
    (lambda: OneCycle(total_steps=0), ValueError, "total_steps must be an integer >= 1; got 0."),
    (lambda: OneCycle(start_divisor=0), ValueError, "start_divisor must be a finite number > 0; got 0."),
    (lambda: OneCycle(final_divisor=np.nan), ValueError, "final_divisor must be a finite number > 0; got nan."),
]


@pytest.mark.parametrize(("make", "error", "text"), ERRORS, ids=[text for *_, text in ERRORS])
def test_errors(make, error, text):
    with pytest.raises(error) as caught:
        make()
    assert str(caught.value) == text
