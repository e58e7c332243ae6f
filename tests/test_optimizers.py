"""Update rules step by step against the reference; schedules, state and errors."""

import dataclasses
import io
import pickle
import re

import numpy as np
import pytest
from cases import assert_close, options_of

from fastopt import reference
from fastopt.optimizers import (
    OPTIMIZERS,
    SGD,
    Adam,
    Ftrl,
    GradientDescent,
    Lion,
    ScheduleFreeAdamW,
    ScheduleFreeSGD,
    get,
)  # fmt: skip
from fastopt.schedules import Cosine, Exponential, InverseTime

NAMES = pytest.mark.parametrize("name", OPTIMIZERS)
VARIANTS = [(name, options) for name in OPTIMIZERS for options in ({}, *options_of(name))]
VARIANTS.append(("sgd", {"momentum": 0.5, "nesterov": True}))
STEPS = 1000


def gradients(dtype, shape=(13,), steps=STEPS):
    """Gradients of very different sizes, with zeros among them."""
    rng = np.random.default_rng(0)
    g = rng.standard_normal((steps, *shape)) * np.exp2(rng.integers(-6, 6, shape))
    g[rng.random(g.shape) < 0.3] = 0
    return g.astype(dtype)


def run(optimizer, w, gs):
    """Trajectory of w and the last state."""
    state, ws = optimizer.init(w), []
    for g in gs:
        optimizer.step(w, g, state)
        ws.append(w.copy())
    return np.array(ws), state


def run_reference(name, w, gs, **hyper):
    state, ws = reference.init(name, w, **hyper), []
    for t, g in enumerate(gs, start=1):
        w, state = reference.step(name, w, g, state, t, **hyper)
        ws.append(w)
    return np.array(ws), state


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=[f"{n}-{o}" for n, o in VARIANTS])
def test_a_thousand_steps_equal_the_reference(name, options, dtype):
    gs, w = gradients(dtype), np.linspace(-1, 1, 13).astype(dtype)
    optimizer = OPTIMIZERS[name](learning_rate=0.01, **options)
    expected, expected_state = run_reference(
        name, w.astype(np.float64), gs.astype(np.float64), learning_rate=0.01, **options
    )
    ws, state = run(optimizer, w, gs)
    tolerance = 1e-12 if dtype == np.float64 else 2e-4  # float32: 1,000 roundings of 6e-8
    assert ws.dtype == dtype
    assert_close(ws, expected, tolerance)
    assert state["t"] == STEPS
    assert set(state) == set(expected_state) | {"t"}
    for slot in [key for key, value in state.items() if isinstance(value, np.ndarray)]:
        assert state[slot].dtype == dtype
        assert_close(state[slot], expected_state[slot], tolerance)


@NAMES
def test_init_is_the_references_and_like_w(name, dtype):
    w = np.linspace(-1, 1, 12).reshape(4, 3).astype(dtype)
    state, expected = OPTIMIZERS[name]().init(w), reference.init(name, w)
    assert state["t"] == 0
    for slot in OPTIMIZERS[name]().slots:
        assert state[slot].shape == w.shape
        assert state[slot].dtype == dtype
        assert not np.shares_memory(state[slot], w)
        np.testing.assert_array_equal(state[slot], expected[slot])


@NAMES
def test_any_shape_and_any_strides_of_g(name):
    """Matrices, rows of one, zero-dimensional and empty arrays; g read-only, in Fortran order, or w itself."""
    gs = gradients(np.float64, (3, 4), steps=5)
    flat, _ = run(OPTIMIZERS[name](), np.ones(12), gs.reshape(5, 12))
    matrix, _ = run(OPTIMIZERS[name](), np.ones((3, 4)), [np.asfortranarray(g) for g in gs])
    np.testing.assert_array_equal(matrix.reshape(5, 12), flat)
    scalar, _ = run(OPTIMIZERS[name](), np.array(1.0), [np.array(g[0, 0]) for g in gs])
    np.testing.assert_array_equal(scalar, flat[:, 0])
    gs.setflags(write=False)
    np.testing.assert_array_equal(run(OPTIMIZERS[name](), np.ones((3, 4)), gs)[0], matrix)
    empty, state = run(OPTIMIZERS[name](), np.ones(0), np.ones((5, 0)))
    assert empty.shape == (5, 0)
    assert state["t"] == 5
    w, v = np.full(3, 0.5), np.full(3, 0.5)
    OPTIMIZERS[name]().step(w, w, OPTIMIZERS[name]().init(w))
    OPTIMIZERS[name]().step(v, v.copy(), OPTIMIZERS[name]().init(v))
    np.testing.assert_array_equal(w, v)


@NAMES
@pytest.mark.parametrize("options", [{}, {"clipnorm": 1.0}, {"ema_momentum": 0.9}], ids=["", "clipnorm", "ema"])
@pytest.mark.parametrize("n", [5, 5000])
@pytest.mark.parametrize("by", [-2, -1, 1, 3])
def test_arrays_that_overlap_in_part_are_refused(name, options, n, by, dtype):
    """g with w or with an array of the state, and these with one another: nothing is written then."""
    optimizer = OPTIMIZERS[name](**options)
    room = np.linspace(1, 2, n + 8).astype(dtype)
    arrays = [slot for slot, a in optimizer.init(room).items() if isinstance(a, np.ndarray)]

    def refused(match, w, g, state):
        before = room.tobytes(), w.tobytes(), pickle.dumps(state)
        with pytest.raises(ValueError, match=match):
            optimizer.step(w, g, state)
        assert (room.tobytes(), w.tobytes(), pickle.dumps(state)) == before

    here, there, apart = room[4 : 4 + n], room[4 + by : 4 + by + n], np.ones(n, dtype)
    refused("g must be w or lie apart from it; got an array that overlaps it", here, there, optimizer.init(here))
    for slot in arrays:
        kept = f"state['{slot}']"
        refused(re.escape(f"g must be {kept} or lie apart"), apart, there, optimizer.init(apart) | {slot: here})
        for w in (here, there):
            refused(re.escape(f"{kept} must have memory of its own"), w, apart, optimizer.init(w) | {slot: here})
    for one, other in zip(arrays, arrays[1:], strict=False):
        refused("must have memory of its own", apart, apart.copy(), optimizer.init(apart) | {one: here, other: there})


@NAMES
def test_g_may_be_any_array_of_the_step_and_neighbours_may_touch(name, dtype):
    optimizer = OPTIMIZERS[name]()
    for n in (7, 5000):
        room = np.linspace(1, 2, 2 * n).astype(dtype)
        w, v = room[:n], room[:n].copy()
        state, other = optimizer.init(w), optimizer.init(v)
        optimizer.step(w, room[n:], state)
        optimizer.step(v, room[n:].copy(), other)
        for slot in optimizer.slots:
            optimizer.step(w, state[slot], state)
            optimizer.step(v, other[slot].copy(), other)
            np.testing.assert_array_equal(state[slot], other[slot])
        np.testing.assert_array_equal(w, v)


def one_over_t(k):
    return 0.1 / (k + 1)


@NAMES
@pytest.mark.parametrize(
    "learning_rate", [InverseTime(0.1, 0.5), Cosine(0.1, decay_steps=10, final=0.01), one_over_t],
    ids=["inverse_time", "cosine", "function"],
)  # fmt: skip
@pytest.mark.parametrize("decay", [0.0, 0.25])
def test_schedules_and_decay(name, learning_rate, decay):
    """Step t = 1, 2, ... takes the schedule's rate after t - 1 steps, over 1 + decay (t - 1)."""
    gs, w = gradients(np.float64, steps=20), np.linspace(-1, 1, 13)
    expected, state = w, reference.init(name, w)
    for t, g in enumerate(gs, start=1):
        rate = learning_rate(t - 1) / (1 + decay * (t - 1))
        expected, state = reference.step(name, expected, g, state, t, lr=rate)
    ws, _ = run(OPTIMIZERS[name](learning_rate=learning_rate, decay=decay), w, gs)
    assert_close(ws[-1], expected, 1e-12)


@pytest.mark.parametrize(
    "learning_rate", [0.1, InverseTime(0.1, 0.5), one_over_t], ids=["constant", "inverse_time", "function"]
)
def test_rate_of_an_array_is_that_of_each(learning_rate):
    optimizer = SGD(learning_rate=learning_rate, decay=0.25)
    steps = np.arange(7.0)
    np.testing.assert_allclose(
        np.broadcast_to(optimizer.rate(steps), 7), [optimizer.rate(int(k)) for k in steps], rtol=1e-15
    )


def saved(state):
    """What numpy.load makes of a state that numpy.savez wrote: numbers are arrays of no dimension."""
    buffer = io.BytesIO()
    np.savez(buffer, **state)
    buffer.seek(0)
    with np.load(buffer, allow_pickle=False) as file:
        return {key: file[key] for key in file}


@NAMES
def test_savez_round_trip(name):
    """k steps, save, load, k steps equal 2k steps, bit for bit."""
    gs, optimizer = gradients(np.float64, (3, 2), steps=20), OPTIMIZERS[name](learning_rate=0.1)
    expected, expected_state = run(optimizer, np.ones((3, 2)), gs)
    w = np.ones((3, 2))
    _, state = run(optimizer, w, gs[:10])
    loaded = saved(state)
    for g in gs[10:]:
        optimizer.step(w, g, loaded)
    np.testing.assert_array_equal(w, expected[-1])
    assert set(loaded) == set(expected_state)
    for key, value in expected_state.items():
        np.testing.assert_array_equal(loaded[key], value)


class Special(np.ndarray):
    """Arrays of a class of their own take the general way through `step`; NumPy's own the short one."""


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=[f"{n}-{o}" for n, o in VARIANTS])
@pytest.mark.parametrize("learning_rate", [0.05, lambda k: 0.1 / (k + 1)], ids=["constant", "callable"])
def test_the_short_way_takes_the_same_steps(name, options, learning_rate, dtype):
    """Bit for bit, also after pickling, which gives the arrays dtypes of their own, and at a t from elsewhere."""
    rng = np.random.default_rng(0)
    optimizer = OPTIMIZERS[name](**{"learning_rate": learning_rate} | options)
    for shape in [(1,), (13,), (5000,), (4, 3), (), (0,)]:
        w = np.array(rng.standard_normal(shape), dtype)
        v = w.copy().view(Special)
        state, other = optimizer.init(w), optimizer.init(v)
        for t in range(9):
            if t == 3:
                w, state = pickle.loads(pickle.dumps((w, state)))
            if t == 6:
                state["t"], other["t"] = np.array(10**6), 10**6
            g = np.array(rng.standard_normal(shape), dtype)
            optimizer.step(w, g, state)
            optimizer.step(v, g, other)
            assert w.tobytes() == v.tobytes()
            assert state.keys() == other.keys()
            for key in state:
                np.testing.assert_array_equal(state[key], other[key])


def at(a, offset):
    """A copy of a that begins so many elements behind a cache line."""
    room = np.zeros(a.nbytes + 256, np.uint8)
    start = -room.ctypes.data % 64 + offset * a.itemsize
    copy = room[start : start + a.nbytes].view(a.dtype)
    copy[...] = a
    return copy


@pytest.mark.parametrize(("name", "options"), [*VARIANTS, ("adam", {"ema_momentum": 0.9}), ("adam", {"clipnorm": 9.0})])
@pytest.mark.parametrize("n", [37, 5000])
def test_no_bit_depends_on_where_arrays_begin(name, options, n, dtype):
    """What comes before the first whole cache line, and after the last vector, is taken coordinate by coordinate."""
    rng, found = np.random.default_rng(0), []
    start, gs = rng.standard_normal(n).astype(dtype), rng.standard_normal((5, n)).astype(dtype)
    optimizer = OPTIMIZERS[name](learning_rate=0.05, **options)
    for offset in (0, 1, 5, 14):
        w = at(start, offset)
        state = {key: at(a, 3 * offset % 16) if np.ndim(a) else a for key, a in optimizer.init(w).items()}
        for g in gs:
            optimizer.step(w, at(g, 5 * offset % 16), state)
        found.append((w, *(a for a in state.values() if np.ndim(a))))
    for others in found[1:]:
        for expected, got in zip(found[0], others, strict=True):
            np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.longdouble])
@NAMES
def test_numpys_numbers_are_taken_as_python_takes_them(name, kind):
    """Not computed with in their own precision: parameters, and what a schedule returns."""
    by_name = {f.name: getattr(OPTIMIZERS[name](), f.name) for f in dataclasses.fields(OPTIMIZERS[name]())}
    floats = {key: kind(value) for key, value in by_name.items() if type(value) is float and key != "epsilon"}
    floats |= {"weight_decay": kind(0.01), "learning_rate": kind(0.1)}
    plain = {key: float(value) for key, value in floats.items()}
    gs, w = gradients(np.float64, steps=50), np.linspace(-1, 1, 13)
    expected, _ = run(OPTIMIZERS[name](**plain), w.copy(), gs)
    np.testing.assert_array_equal(run(OPTIMIZERS[name](**floats), w.copy(), gs)[0], expected)
    floats["learning_rate"] = lambda k: kind(0.1)
    assert_close(run(OPTIMIZERS[name](**floats), w.copy(), gs)[0], expected, 1e-13)
    assert OPTIMIZERS[name](learning_rate=kind(0.5)) == OPTIMIZERS[name](learning_rate=0.5)


@NAMES
def test_a_learning_rate_that_fails_changes_nothing(name):
    def rate(k):
        if k == 2:
            raise OSError("no rate")
        return 0.1

    w, optimizer = np.ones(3), OPTIMIZERS[name](learning_rate=rate)
    _, state = run(optimizer, w, np.ones((2, 3)))
    before = pickle.dumps((w, state))
    with pytest.raises(OSError, match="no rate"):
        optimizer.step(w, np.ones(3), state)
    assert pickle.dumps((w, state)) == before


@NAMES
def test_a_learning_rate_is_asked_once_a_step(name):
    asked = []
    run(OPTIMIZERS[name](learning_rate=lambda k: asked.append(k) or 0.1), np.ones(3), np.ones((5, 3)))
    assert asked == list(range(5))


# --- sparse gradients -------------------------------------------------------------------------------------------------

RATES = [0.05, InverseTime(0.05, 0.01), Cosine(0.1, decay_steps=100, final=0.01), lambda k: 0.05 if k % 3 else 0.01]


@pytest.mark.parametrize("learning_rate", RATES, ids=["constant", "smooth", "kinked", "callable"])
@pytest.mark.parametrize("shape", [(9,), (9, 2)])
@NAMES
def test_sparse_gradients_equal_dense_ones(name, shape, learning_rate):
    """Pairs (indices, values) with repeated indices, long gaps, a dense gradient now and then, w read at any time."""
    rng = np.random.default_rng(0)
    optimizer = OPTIMIZERS[name](learning_rate=learning_rate)
    w = np.linspace(-1, 1, int(np.prod(shape))).reshape(shape)
    v = w.copy()
    state, dense = optimizer.init(w), optimizer.init(v)
    for t in range(600):
        indices = rng.integers(0, 9, rng.integers(0, 4)) if t % 7 == 0 else rng.integers(0, 3, 2)
        values = rng.standard_normal((len(indices), *shape[1:]))
        g = np.zeros(shape)
        np.add.at(g, indices, values)
        optimizer.step(v, g, dense)
        optimizer.step(w, g if t % 200 == 150 else (indices, values), state)
        if t % 97 == 0:
            optimizer.catch_up(w, state, np.array([0, 5]))
            assert_close(w[[0, 5]], v[[0, 5]], 1e-7)
        assert state["t"] == dense["t"] == t + 1
    optimizer.catch_up(w, state)
    tolerance = 1e-10 if reference.RULES[name].slots in ((), ("u",)) else 1e-7  # adaptive rules: of the motion
    assert_close(w, v, tolerance)
    assert set(state) == set(dense)
    for slot in optimizer.slots:
        assert_close(state[slot], dense[slot], 1e-10)


@NAMES
def test_values_of_sparse_gradients_may_lie_in_w_and_the_state(name):
    """They count as they were before the step, whatever columns catch up."""
    optimizer, runs = OPTIMIZERS[name](learning_rate=0.1), []
    for copies in (False, True):
        w = np.linspace(1, 2, 9)
        state = optimizer.init(w)
        optimizer.step(w, np.linspace(-1, 1, 9), state)
        for t in range(6):
            optimizer.step(w, (np.array([0]), np.ones(1)), state)
            for a in (w, *(state[slot] for slot in optimizer.slots)):
                values = a[4:7] if t % 2 else a[6:9]
                optimizer.step(w, (np.arange(5, 8), values.copy() if copies else values), state)
        optimizer.catch_up(w, state)
        runs.append((w, *(state[slot] for slot in optimizer.slots)))
    for found, expected in zip(*runs, strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("waiting", [False, True])
@NAMES
def test_savez_round_trip_of_sparse_steps(name, waiting):
    """As without saving, bit for bit, whether coordinates wait while the state is saved or not."""
    rng, optimizer = np.random.default_rng(0), OPTIMIZERS[name](learning_rate=0.1)
    pairs = [(rng.integers(0, 3 + 3 * (k % 5 == 0), 2), rng.standard_normal(2)) for k in range(40)]
    ws = []
    for loads in (False, True):
        w = np.ones(6)
        state = optimizer.init(w)
        for k, pair in enumerate(pairs):
            if k % 10 == 7 and not waiting:
                optimizer.catch_up(w, state)
            state = saved(state) if loads and k % 10 == 7 else state
            optimizer.step(w, pair, state)
        optimizer.catch_up(w, state)
        ws.append(w)
    np.testing.assert_array_equal(*ws)


def both_ways(optimizer, steps, together):
    """w by dense gradients and by sparse ones: after `together` steps two of three coordinates wait, the second for
    30 steps at a time."""
    rng = np.random.default_rng(0)
    w, v = np.linspace(1, 2, 3), np.linspace(1, 2, 3)
    state, dense = optimizer.init(w), optimizer.init(v)
    for t in range(steps):
        indices = np.arange(3 if t < together else 2 if t % 30 == 0 else 1)
        values, g = rng.standard_normal(len(indices)), np.zeros(3)
        g[indices] = values
        optimizer.step(v, g, dense)
        optimizer.step(w, (indices, values), state)
    optimizer.catch_up(w, state)
    return w, v


@pytest.mark.parametrize("factor", [0.99, 0.97, 0.9, 0.7, 0.05, 0.0, -0.5])
@pytest.mark.parametrize(
    ("name", "options"),
    [(name, {}) for name in OPTIMIZERS if not name.startswith("schedule_free")] + [("adam", {"amsgrad": True})],
)
def test_idle_steps_with_strong_weight_decay(name, options, factor):
    """Each step multiplies w by a factor that may be below beta_1, zero, or negative."""
    optimizer = OPTIMIZERS[name](learning_rate=0.01, weight_decay=(1 - factor) / 0.01, **options)
    for steps, together in [(60, 1), (380, 320)]:
        w, v = both_ways(optimizer, steps, together)
        np.testing.assert_allclose(w, v, rtol=1e-7, atol=1e-11)


@pytest.mark.parametrize("factor", [1.3, 1.04, 1.02, 0.98])
@pytest.mark.parametrize(
    ("name", "options"), [("adam", {}), ("adam", {"amsgrad": True}), ("adamax", {}), ("nadam", {})]
)
def test_idle_steps_while_the_learning_rate_changes_fast(name, options, factor):
    """As where a learning rate is looked for by one that grows with each step; errors are those of the motion."""
    together = 260
    rate = Exponential(0.01 / factor**together, decay_steps=1, decay_rate=factor)
    with np.errstate(over="ignore"):  # 4,096 steps ahead
        w, v = both_ways(OPTIMIZERS[name](learning_rate=rate, **options), together + 50, together)
    assert_close(w, v, 1e-8)


def test_a_rule_under_which_nothing_waits_goes_on_with_coordinates_that_wait():
    waits, steps_all = SGD(0.1, momentum=0.9), SGD(0.1, momentum=0.9, ema_momentum=0.5)
    w, v, g = np.zeros(2), np.zeros(2), (np.array([0]), np.array([1.0]))
    state, dense = waits.init(w) | {"ema": np.zeros(2)}, waits.init(v)
    waits.step(w, np.ones(2), state)
    waits.step(v, np.ones(2), dense)
    for rule in (waits, waits, steps_all, steps_all):
        rule.step(w, g, state)
        waits.step(v, np.array([1.0, 0.0]), dense)
    waits.catch_up(w, state)
    assert_close(w, v, 1e-15)


@pytest.mark.parametrize("beta_2", [0.0, 1e-60, 0.3, 0.6])
def test_lions_idle_steps_rest_where_m_is_zero(beta_2):
    dense, sparse, rule = np.zeros(2), np.zeros(2), Lion(0.1, beta_2=beta_2)
    states = rule.init(dense), rule.init(sparse)
    for k in range(1000):
        g = np.array([0.0, 1.0]) if k else np.array([1.0, 0.0])
        rule.step(dense, g, states[0])
        rule.step(sparse, (np.array([int(k > 0)]), np.array([1.0])), states[1])
    rule.catch_up(sparse, states[1])
    assert_close(sparse, dense, 1e-12)


@pytest.mark.parametrize(("beta_1", "beta_2"), [(0.9, 0.99), (0.9, 0.6), (0.5, 0.6), (0.1, 0.9)])
def test_lions_long_waits(beta_1, beta_2, dtype):
    """m falls as far as the smallest number there is, and w goes on; or stops where beta_1 m is zero by rounding."""
    dense, sparse, rule = np.zeros(2, dtype), np.zeros(2, dtype), Lion(0.125, beta_1=beta_1, beta_2=beta_2)
    states, one = (rule.init(dense), rule.init(sparse)), np.ones(1, dtype)
    steps = int(np.log(np.finfo(dtype).smallest_subnormal) / np.log(beta_2) * 1.05) + 100
    for k in range(min(steps, 20_000)):
        g = np.array([0, 1], dtype) if k else np.array([1, 0], dtype)
        rule.step(dense, g, states[0])
        rule.step(sparse, (np.array([int(k > 0)]), one), states[1])
    rule.catch_up(sparse, states[1])
    np.testing.assert_array_equal(sparse, dense)


@NAMES
def test_coordinates_that_wait_go_on_at_their_own_rate(name):
    """Another one is refused until they have caught up; a rate that cannot be asked ahead leaves the state alone."""
    rule, g = OPTIMIZERS[name](learning_rate=0.1), (np.array([1]), np.array([1.0]))
    other, w = rule.with_learning_rate(0.01), np.ones(3)
    state = rule.init(w)
    rule.step(w, np.ones(3), state)
    rule.step(w, g, state)
    if "last" in state:
        before = pickle.dumps((w, state))
        for call in (lambda: other.step(w, g, state), lambda: other.step(w, np.ones(3), state),
                     lambda: other.catch_up(w, state)):  # fmt: skip
            with pytest.raises(ValueError, match="state must have no coordinates that wait at another learning rate"):
                call()
        assert pickle.dumps((w, state)) == before
    rule.catch_up(w, state)
    other.step(w, g, state)
    short, w = rule.with_learning_rate(lambda k: [0.1, 0.2, 0.3][int(k)]), np.ones(3)
    state = short.init(w)
    if short.idles_exactly(0.0, False):
        with pytest.raises(IndexError):
            short.step(w, g, state)
        assert_unchanged(short, w, state)


@pytest.mark.parametrize(("dtype", "large"), [(np.float32, 1e20), (np.float64, 1e200)])
@pytest.mark.parametrize("sparse", [False, True])
def test_gradients_whose_squares_overflow_are_clipped(dtype, large, sparse):
    w, rule = np.zeros(2, dtype), SGD(1.0, clipnorm=1.0)
    g = np.array([3 * large, 4 * large], dtype)
    rule.step(w, (np.arange(2), g) if sparse else g, rule.init(w))
    assert_close(w, [-0.6, -0.8], 1e-6)


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@NAMES
def test_matrices_are_arrays(name):
    rule, w, matrix = OPTIMIZERS[name](learning_rate=0.1), np.ones((2, 3)), np.matrix(np.ones((2, 3)))
    for x in (w, matrix):
        rule.step(x, x.copy(), rule.init(x))
    np.testing.assert_array_equal(matrix, w)


PAIRS = {
    "too high": ([0, 6], [1.0, 1.0]),
    "negative": ([-1], [1.0]),
    "far": ([2**40], [1.0]),
    "fractions": ([0.5], [1.0]),
    "matrix": ([[0]], [[1.0]]),
    "lengths": ([0, 1], [1.0]),
    "rows": ([0, 1], [[1.0, 1.0]]),
}


@pytest.mark.parametrize("case", PAIRS)
@NAMES
def test_bad_sparse_gradients(name, case):
    indices, values = PAIRS[case]
    w, optimizer = np.ones(6), OPTIMIZERS[name]()
    state = optimizer.init(w)
    with pytest.raises((ValueError, TypeError), match="must"):
        optimizer.step(w, (np.array(indices), np.array(values)), state)
    np.testing.assert_array_equal(w, 1)
    assert_unchanged(optimizer, w, state)


# --- what is refused ------------------------------------------------------------------------------------------------


def read_only(w):
    w.setflags(write=False)
    return w


W = {
    "list": (
        lambda: [1.0, 2.0],
        TypeError,
        "w must be a NumPy array of float32 or float64; got list. Use numpy.asarray",
    ),
    "integers": (lambda: np.arange(6), TypeError, "w must be a NumPy array of float32 or float64; got int64"),
    "float16": (lambda: np.ones(6, np.float16), TypeError, "float32 or float64; got float16"),
    "complex": (lambda: np.ones(6, complex), TypeError, "float32 or float64; got complex128"),
    "big-endian": (lambda: np.ones(6, ">f8"), TypeError, "float32 or float64; got >f8"),
    "strided": (lambda: np.ones(12)[::2], ValueError, "w must be C-contiguous and writeable"),
    "fortran": (lambda: np.ones((2, 3), order="F"), ValueError, "w must be C-contiguous and writeable"),
    "read-only": (lambda: read_only(np.ones(6)), ValueError, "w must be C-contiguous and writeable"),
}
G = {
    "list": lambda w: [0.0] * 6,
    "short": lambda w: w[:5],
    "long": lambda w: np.ones(7, w.dtype),
    "other dtype": lambda w: w.astype(np.float32 if w.dtype == np.float64 else np.float64),
    "integers": lambda w: np.ones(6, int),
    "big-endian": lambda w: w.astype(w.dtype.newbyteorder(">")),
    "other shape": lambda w: w.reshape(2, 3),
    "0-d": lambda w: np.ones((), w.dtype),
    "None": lambda w: None,
}


@pytest.mark.parametrize("case", W)
@NAMES
def test_bad_w(name, case):
    make, error, text = W[case]
    w, good, optimizer = make(), np.ones(6), OPTIMIZERS[name]()
    before = np.array(w)
    with pytest.raises(error) as caught:
        optimizer.init(w)
    assert text in str(caught.value)
    state = optimizer.init(good)
    with pytest.raises(error) as caught:
        optimizer.step(w, np.ones(6), state)
    assert text in str(caught.value)
    np.testing.assert_array_equal(w, before)
    assert_unchanged(optimizer, good, state)


@pytest.mark.parametrize("case", G)
@NAMES
def test_bad_g(name, case, dtype):
    w, optimizer = np.ones(6, dtype), OPTIMIZERS[name]()
    state = optimizer.init(w)
    with pytest.raises(ValueError, match=r"^g must (be an array like w|have the shape of w)"):
        optimizer.step(w, G[case](w), state)
    np.testing.assert_array_equal(w, 1)
    assert_unchanged(optimizer, w, state)


@pytest.mark.parametrize(
    "make",
    [lambda w: w[:5], lambda w: w[:0], lambda w: np.repeat(w, 2)[::2], lambda w: read_only(w.copy()), lambda w: w > 0],
)
@NAMES
def test_bad_state(name, make):
    """A slot of another size (also none) or dtype, strided or read-only: named, and nothing moves."""
    bad_state(OPTIMIZERS[name](), OPTIMIZERS[name]().slots, make)
    if name in ("sgd", "adam"):
        bad_state(OPTIMIZERS[name](ema_momentum=0.9), ["ema"], make)


def bad_state(optimizer, slots, make):
    for slot in slots:
        w = np.ones(6)
        state = optimizer.init(w)
        state[slot] = make(np.ones(6))
        with pytest.raises(ValueError, match=rf"^state\['{slot}'\] must (be|have)"):
            optimizer.step(w, np.ones(6), state)
        np.testing.assert_array_equal(w, 1)
        assert state["t"] == 0
        del state[slot]
        with pytest.raises(ValueError, match=rf"^state\['{slot}'\] must be an array like w .*; got NoneType"):
            optimizer.step(w, np.ones(6), state)
        np.testing.assert_array_equal(w, 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"last": np.zeros(2, np.int32)}, {"last": np.zeros(3, np.int64)}, {"last": np.full(3, -5, np.int32)},
        {"last": np.zeros(6, np.int32)[::2]}, {"last": [0, 0, 0]}, {"window": 10}, {"window": -10_000}, {"t": 10**9},
    ],
    ids=str,
)  # fmt: skip
@NAMES
def test_bad_stamps_of_coordinates_that_wait(name, changes):
    """None is read or written outside its array; a state of another array is refused."""
    rule, w, g = OPTIMIZERS[name](learning_rate=0.1, weight_decay=None), np.ones(3), (np.array([1]), np.array([1.0]))
    state = rule.init(w)
    rule.step(w, g, state)
    assert "last" in state
    other = np.ones(10**6)
    slots = {slot: np.ones(10**6) for slot in rule.slots}
    for call in (lambda: rule.step(w, g, state | changes), lambda: rule.catch_up(w, state | changes),
                 lambda: rule.step(other, g, state | slots), lambda: rule.catch_up(other, state | slots)):  # fmt: skip
        with pytest.raises(ValueError, match="state"):
            call()


@NAMES
def test_a_state_without_its_scalars(name):
    optimizer, w = OPTIMIZERS[name](), np.ones(6)
    for key in optimizer.init(w).keys() - set(optimizer.slots):
        state = optimizer.init(w)
        del state[key]
        before = pickle.dumps((w, state))
        with pytest.raises(ValueError, match=f"state must have '{key}', as init of '{optimizer.name}' makes it"):
            optimizer.step(w, np.ones(6), state)
        assert pickle.dumps((w, state)) == before


@pytest.mark.parametrize("t", ["one", None, [1, 2]], ids=repr)
@NAMES
def test_bad_t(name, t):
    optimizer, w = OPTIMIZERS[name](), np.ones(6)
    state = optimizer.init(w) | {"t": t}
    before = pickle.dumps((w, state))
    with pytest.raises((ValueError, TypeError), match="int"):
        optimizer.step(w, np.ones(6), state)
    assert pickle.dumps((w, state)) == before


def assert_unchanged(optimizer, w, state):
    fresh = optimizer.init(w)
    assert set(state) == set(fresh)
    for key in state:
        np.testing.assert_array_equal(state[key], fresh[key])


RATE = "learning_rate must be a number >= 0, a schedule or 'auto'; got 'fast'."
ERRORS = [
    (lambda: SGD(learning_rate="fast"), ValueError, RATE),
    (
        lambda: SGD(learning_rate=-0.1),
        ValueError,
        "learning_rate must be a finite number >= 0; got -0.1. Use maximize=True",
    ),
    (lambda: SGD(learning_rate=np.nan), ValueError, "learning_rate must be a finite number >= 0; got nan."),
    (lambda: SGD(learning_rate=np.inf), ValueError, "learning_rate must be a finite number >= 0; got inf."),
    (lambda: SGD(learning_rate=None), TypeError, "learning_rate must be a finite number >= 0; got None."),
    (lambda: SGD(learning_rate=True), TypeError, "learning_rate must be a finite number >= 0; got True."),
    (lambda: SGD(decay=-1), ValueError, "decay must be a finite number >= 0; got -1."),
    (lambda: SGD(momentum=1.0), ValueError, "momentum must be a number in [0, 1); got 1.0."),
    (lambda: SGD(momentum=-0.1), ValueError, "momentum must be a number in [0, 1); got -0.1."),
    (lambda: SGD(momentum="0.9"), TypeError, "momentum must be a number in [0, 1); got '0.9'."),
    (lambda: ScheduleFreeSGD(momentum=0), ValueError, "momentum must be a number in (0, 1); got 0."),
    (lambda: ScheduleFreeSGD(momentum=1.0), ValueError, "momentum must be a number in (0, 1); got 1.0."),
    (
        lambda: Ftrl(learning_rate_power=0.5),
        ValueError,
        "learning_rate_power must be a finite number <= 0; got 0.5.",
    ),
    (lambda: ScheduleFreeAdamW(beta_1=0.0), ValueError, "beta_1 must be a number in (0, 1); got 0.0."),
    (lambda: Adam(epsilon=10**400), ValueError, "epsilon must be a finite number > 0; got an integer of 1,329 bits."),
    (lambda: SGD(decay=10**400), ValueError, "decay must be a finite number >= 0; got an integer of 1,329 bits."),
    (lambda: SGD(nesterov=1), TypeError, "nesterov must be True or False; got 1."),
    (lambda: Adam(beta_1=1), ValueError, "beta_1 must be a number in [0, 1); got 1."),
    (lambda: Adam(beta_2=np.nan), ValueError, "beta_2 must be a number in [0, 1); got nan."),
    (lambda: Adam(epsilon=0.0), ValueError, "epsilon must be a finite number > 0; got 0.0."),
    (lambda: get("adamm"), ValueError, "optimizer must be one of 'gd', "),
    (lambda: get("adamm"), ValueError, "got 'adamm'. Or give an instance, such as Adam(learning_rate=0.01)."),
    (lambda: get(Adam), ValueError, "optimizer must be one of"),
    (lambda: get(None), ValueError, "got None."),
]


@pytest.mark.parametrize(("make", "error", "text"), ERRORS, ids=[text for *_, text in ERRORS])
def test_errors_of_parameters(make, error, text):
    with pytest.raises(error) as caught:
        make()
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


@NAMES
def test_common_parameters_are_checked_by_every_rule(name):
    with pytest.raises(ValueError, match="learning_rate must be"):
        OPTIMIZERS[name](learning_rate=-1.0)
    with pytest.raises(ValueError, match="decay must be"):
        OPTIMIZERS[name](decay=-1.0)


@NAMES
def test_auto_is_for_solvers(name):
    optimizer, w = OPTIMIZERS[name](learning_rate="auto"), np.ones(3)
    state = optimizer.init(w)
    with pytest.raises(ValueError, match="learning_rate must be a number or a schedule here; got 'auto'"):
        optimizer.step(w, w.copy(), state)
    np.testing.assert_array_equal(w, 1)
    assert_unchanged(optimizer, w, state)


@NAMES
def test_with_learning_rate(name):
    optimizer = OPTIMIZERS[name](learning_rate=0.5, decay=0.1)
    other = optimizer.with_learning_rate(0.25)
    assert type(other) is type(optimizer)
    assert dataclasses.replace(other, learning_rate=0.5) == optimizer
    assert other.learning_rate == 0.25


def test_get():
    for name in OPTIMIZERS:
        assert get(name) == OPTIMIZERS[name]()
    assert get("momentum") == SGD(momentum=0.9)
    assert get("nesterov") == SGD(momentum=0.9, nesterov=True)
    optimizer = GradientDescent(learning_rate=0.5)
    assert get(optimizer) is optimizer


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dtype", [np.complex128, np.float64, object])
def test_no_indices_may_be_of_any_type(dtype):
    w = np.ones(3)
    optimizer = OPTIMIZERS["adam"]()
    state = optimizer.init(w)
    optimizer.step(w, (np.empty(0, dtype), np.empty(0)), state)
    np.testing.assert_array_equal(w, 1)
