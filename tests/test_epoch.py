"""Epochs against the reference after every step, for every rule, layout, dtype, batch size and loss."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import scipy.optimize
from cases import LAYOUTS, LINEAR, Problem, assert_close, csr, options_of, problem, start, trajectory
from hypothesis import given, settings
from hypothesis import strategies as st

from fastopt import reference
from fastopt._design import Design
from fastopt.losses import LOSSES
from fastopt.objective import Objective
from fastopt.optimizers import OPTIMIZERS, SGD, Adagrad, Adam, Adamax, Nadam, RMSprop
from fastopt.schedules import Constant, Cosine, Exponential, InverseTime, StepDecay
from fastopt.solvers.epochs import Epochs

NAMES = pytest.mark.parametrize("name", OPTIMIZERS)
LAYOUT = pytest.mark.parametrize("layout", LAYOUTS)
LAZY = pytest.mark.parametrize("lazy", [None, False, True])
N = 40


def same_iterates(name, layout, batch_size, alpha, lazy):
    """Whether the design promises the iterates of the dense algorithm; else only the minimiser is the same."""
    return layout == "dense" or name in LINEAR or not alpha or lazy is False or batch_size == N


def check_every_step(p, name, expected, *, batch_size, alpha=0.0, lazy=None, tolerance=1e-10, options=()):
    """A run of the first k steps in one go, and the same in runs of one step, for every k."""
    order, ws, states = expected
    optimizer = OPTIMIZERS[name](**{"learning_rate": 0.05} | dict(options))
    objective = p.objective(alpha)

    def epochs():
        return Epochs(objective, optimizer, batch_size, w=start(p.shape), lazy=lazy)

    def compare(fast, k):
        assert fast.w.dtype == p.X.dtype
        assert fast.state["t"] == k
        assert_close(fast.w, ws[k], tolerance)
        for slot in optimizer.slots:
            assert_close(fast.state[slot], states[k][slot], tolerance)

    one_by_one = epochs()
    rows = N if name == "gd" else batch_size
    for k in range(1, len(ws)):
        one_by_one.run(order[(k - 1) * rows : k * rows])
        compare(one_by_one, k)
        at_once = epochs()
        at_once.run(order[: k * rows])
        compare(at_once, k)


#: Everywhere where the dense algorithm's iterates are promised; for L2 on touched coordinates alone see the end.
CASES = [
    (name, layout, lazy, batch_size, alpha)
    for name, layout, lazy, batch_size, alpha in itertools.product(
        OPTIMIZERS, LAYOUTS, (None, False, True), (1, 7, N), (0.0, 0.1)
    )
    if same_iterates(name, layout, batch_size, alpha, lazy) and (layout != "dense" or lazy is None)
]


@pytest.mark.parametrize("loss", ["log_loss", "multinomial"])
@pytest.mark.parametrize(("name", "layout", "lazy", "batch_size", "alpha"), CASES)
def test_every_step_equals_the_reference(name, layout, lazy, batch_size, alpha, loss, dtype, tolerance):
    expected = trajectory(name, loss, alpha, batch_size)
    check_every_step(
        problem(loss, layout, dtype), name, expected, batch_size=batch_size, alpha=alpha, lazy=lazy, tolerance=tolerance
    )


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("batch_size", [1, 7, N])
@LAYOUT
def test_every_loss(loss, batch_size, layout, dtype, tolerance):
    expected = trajectory("sgd", loss, 0.01, batch_size)
    check_every_step(
        problem(loss, layout, dtype), "sgd", expected, batch_size=batch_size, alpha=0.01, tolerance=tolerance
    )


@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("loss", [name for name in LOSSES if LOSSES[name].targets != "multiclass"])
@pytest.mark.parametrize("batch_size", [1, 7, N])
@LAYOUT
def test_several_outputs(loss, batch_size, layout, weighted):
    """One fit of all outputs is the reference's, and each output is the fit of it alone."""
    terms = {"outputs": 3, "weighted": weighted}
    expected = trajectory("sgd", loss, 0.01, batch_size, **terms)
    p = problem(loss, layout, **terms)
    check_every_step(p, "sgd", expected, batch_size=batch_size, alpha=0.01)
    order, ws, _ = expected
    for c in range(3):
        alone = Objective(
            Design.from_array(p.X), p.y[:, c], loss=loss, alpha=0.01,
            sample_weight=p.sample_weight[:, c] if weighted else None,
        )  # fmt: skip
        fast = Epochs(alone, SGD(learning_rate=0.05), batch_size, w=ws[0][:, c : c + 1])
        for one in np.split(order, len(order) // N):
            fast.run(one)
        assert_close(fast.w[:, 0], ws[-1][:, c], 1e-10)


@pytest.mark.parametrize("n_outputs", [*range(2, 12), 16, 17])
@pytest.mark.parametrize("d", [31, 32, 50])
@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_rows_of_many_outputs(name, n_outputs, d, batch_size, dtype, tolerance, rng):
    """Long enough for whole vectors of any level, and what is left of them."""
    X, w = rng.integers(-64, 65, (N, d)) / 64, start((d + 1, n_outputs))
    p = Problem(X.astype(dtype), X, rng.integers(0, n_outputs, N).astype(float), "multinomial", n_outputs, None, True)
    fast = Epochs(p.objective(0.1), OPTIMIZERS[name](learning_rate=0.05), batch_size, w=w)
    state, t, hyper = None, 0, {"learning_rate": 0.05}
    for order in (rng.permutation(N), rng.permutation(N)):
        w, state, t = reference.epoch(
            X, p.y, w, state, rule=name, hyper=hyper, alpha=0.1, order=order, t0=t, batch_size=batch_size, **p.terms
        )
        fast.run(order)
        assert_close(fast.w, w, tolerance)


@pytest.mark.parametrize("layout", ["dense", "csr32"])
@pytest.mark.parametrize("lazy", [False, True])
@NAMES
def test_several_outputs_of_every_rule(name, layout, lazy):
    expected = trajectory(name, "log_loss", 0.0, 7, outputs=3)
    check_every_step(problem("log_loss", layout, outputs=3), name, expected, batch_size=7, lazy=lazy)


@pytest.mark.parametrize("batch_size", [3, N])
@pytest.mark.parametrize("loss", ["log_loss", "multinomial"])
@pytest.mark.parametrize("layout", ["dense", "csr32"])
@NAMES
def test_sample_weights_without_intercept(name, layout, loss, batch_size):
    terms = {"weighted": True, "fit_intercept": False}
    expected = trajectory(name, loss, 0.0, batch_size, **terms)
    check_every_step(problem(loss, layout, **terms), name, expected, batch_size=batch_size, lazy=True)


@pytest.mark.parametrize("batch_size", [1, 7, N])
@pytest.mark.parametrize("layout", ["dense", "csr32"])
@NAMES
def test_every_option(name, layout, batch_size):
    for options in options_of(name):
        options = tuple(options.items())
        expected = trajectory(name, "log_loss", 0.0, batch_size, options=options)
        check_every_step(problem(layout=layout), name, expected, batch_size=batch_size, lazy=True, options=options)


@pytest.mark.parametrize("alpha", [0.0, 0.1])
@pytest.mark.parametrize("batch_size", [1, 7, N])
@pytest.mark.parametrize("layout", ["dense", "csr64"])
@NAMES
def test_a_sequence_of_epochs(name, layout, batch_size, alpha):
    """State and step count go on; with a last batch that is smaller than the others."""
    lazy = same_iterates(name, layout, batch_size, alpha, True)
    order, ws, _ = trajectory(name, "log_loss", alpha, batch_size, epochs=5)
    p = problem(layout=layout)
    optimizer = OPTIMIZERS[name](learning_rate=0.05)
    fast = Epochs(p.objective(alpha), optimizer, batch_size, w=start(p.shape), lazy=lazy)
    assert fast.n_steps * 5 == len(ws) - 1
    for one in np.split(order, 5):
        fast.run(one)
        assert_close(fast.w, ws[fast.state["t"]], 1e-10)
    # another Epochs goes on from there
    other = Epochs(p.objective(alpha), optimizer, batch_size, w=ws[0], lazy=lazy)
    for i, one in enumerate(np.split(order, 5)):
        if i:
            other = Epochs(p.objective(alpha), optimizer, batch_size, w=other.w, state=other.state, lazy=lazy)
        other.run(one)
    np.testing.assert_array_equal(other.w, fast.w)
    for slot in optimizer.slots:
        np.testing.assert_array_equal(other.state[slot], fast.state[slot])


@pytest.mark.parametrize("alpha", [0.0, 0.1])
@pytest.mark.parametrize("given_as", ["array", "schedule", "callable"])
@pytest.mark.parametrize(
    "schedule", [InverseTime(0.2, 0.1), Cosine(0.1, 20, final=0.01), StepDecay(0.1, 3), Constant(0.1)], ids=repr
)
@pytest.mark.parametrize("batch_size", [1, 7, N])
@NAMES
def test_learning_rates(name, batch_size, schedule, given_as, alpha):
    """Step t takes the rate after t - 1 steps, whoever computes it, in each of two epochs."""
    lazy = same_iterates(name, "csr32", batch_size, alpha, True)
    p = problem(layout="csr32")
    rate = {"array": 0.3, "schedule": schedule, "callable": lambda k: schedule(k)}[given_as]
    fast = Epochs(p.objective(alpha), OPTIMIZERS[name](learning_rate=rate), batch_size, w=start(p.shape), lazy=lazy)
    w, state, t = start(p.shape), None, 0
    order, rng = None, np.random.default_rng(0)
    for _ in range(2):
        order = rng.permutation(N)
        rates = schedule(t + np.arange(fast.n_steps))
        fast.run(order, rates if given_as == "array" else None)
        w, state, t = reference.epoch(
            p.dense, p.y, w, state, rule=name, alpha=alpha, order=order, learning_rates=rates, t0=t,
            batch_size="full" if name == "gd" else batch_size, **p.terms,
        )  # fmt: skip
    assert_close(fast.w, w, 1e-10)


# --- layouts --------------------------------------------------------------------------------------------------------


def row_strided(X, tmp_path):
    wide = np.full((len(X), X.shape[1] + 3), np.nan, dtype=X.dtype)
    wide[:, : X.shape[1]] = X
    return wide[:, : X.shape[1]]


def backwards(X, tmp_path):
    return np.ascontiguousarray(X[::-1])[::-1]


def read_only(X, tmp_path):
    X = X.copy()
    X.setflags(write=False)
    return X


def memmap(X, tmp_path):
    np.save(tmp_path / "X.npy", X)
    return np.load(tmp_path / "X.npy", mmap_mode="r")


def misaligned(X, tmp_path):
    raw = np.empty(X.nbytes + 1, np.uint8)[1:].view(X.dtype).reshape(X.shape)
    raw[...] = X
    return raw


DENSE = [row_strided, backwards, read_only, memmap, misaligned]
DENSE += [lambda X, tmp_path: np.asfortranarray(X), lambda X, tmp_path: X.astype(X.dtype.newbyteorder(">"))]
DENSE_IDS = ["row-strided", "backwards", "read-only", "memmap", "misaligned", "fortran", "big-endian"]


@pytest.mark.parametrize("batch_size", [1, 7, N])
@pytest.mark.parametrize("convert", DENSE, ids=DENSE_IDS)
@NAMES
def test_dense_memory_layouts(name, convert, batch_size, dtype, tolerance, tmp_path):
    p = problem(dtype=dtype)
    X = convert(p.X, tmp_path)
    before = X.copy()
    fast = Epochs(
        dataclasses.replace(p, X=X).objective(0.1), OPTIMIZERS[name](learning_rate=0.05), batch_size, w=start(p.shape)
    )
    order, ws, _ = trajectory(name, "log_loss", 0.1, batch_size)
    fast.run(order)
    assert_close(fast.w, ws[-1], tolerance)
    np.testing.assert_array_equal(X, before)


@pytest.mark.parametrize("convert", [read_only, memmap], ids=["read-only", "memmap"])
@NAMES
def test_csr_memory_is_read_only(name, convert, tmp_path):
    p = problem(layout="csr32")
    for part in ("data", "indices", "indptr"):
        (tmp_path / part).mkdir()
        setattr(p.X, part, convert(getattr(p.X, part), tmp_path / part))
    fast = Epochs(p.objective(), OPTIMIZERS[name](learning_rate=0.05), 7, w=start(p.shape), lazy=True)
    order, ws, _ = trajectory(name, "log_loss", 0.0, 7)
    fast.run(order)
    assert_close(fast.w, ws[-1], 1e-10)


@pytest.mark.parametrize("alpha", [0.0, 0.1])
@pytest.mark.parametrize("loss", ["log_loss", "multinomial"])
@LAZY
@NAMES
def test_int32_equals_int64(name, lazy, loss, alpha, dtype):
    """Within a few roundings: compilers add the same numbers in another order."""
    results = []
    for layout in ("csr32", "csr64"):
        p = problem(loss, layout, dtype)
        fast = Epochs(p.objective(alpha), OPTIMIZERS[name](learning_rate=0.05), 7, w=start(p.shape), lazy=lazy)
        for _ in range(3):
            fast.run()
        results.append(fast.w)
    assert_close(*results, 1e-13 if dtype == np.float64 else 1e-5)


@LAYOUT
@NAMES
def test_rows_without_entries_move_the_intercept_alone(name, layout):
    X = np.zeros((N, 5))
    if layout != "dense":
        index = np.int32 if layout == "csr32" else np.int64
        X = csr(np.empty(0), np.empty(0, index), np.zeros(N + 1, index), (N, 5))
    y = np.where(np.arange(N) % 3 == 0, -1.0, 1.0)
    fast = Epochs(Objective(Design.from_array(X), y), OPTIMIZERS[name](learning_rate=0.05), 1, lazy=True)
    fast.run()
    w, *_ = reference.epoch(
        np.zeros((N, 5)), y, np.zeros((6, 1)), None, rule=name, hyper={"learning_rate": 0.05},
        batch_size="full" if name == "gd" else 1,
    )  # fmt: skip
    assert_close(fast.w, w, 1e-10)
    assert not fast.w[:-1].any()
    assert fast.w[-1]


# --- extreme numbers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e3, 1e4, 1e7])
@pytest.mark.parametrize("loss", ["log_loss", "multinomial"])
@pytest.mark.parametrize("batch_size", [1, 7])
@pytest.mark.parametrize("layout", ["dense", "csr32"])
@NAMES
def test_margins(name, layout, batch_size, loss, scale):
    """Raw predictions far beyond exp's range: finite, and those of the reference, after every step."""
    expected = trajectory(name, loss, 0.0, batch_size, scale=scale)
    check_every_step(problem(loss, layout, scale=scale), name, expected, batch_size=batch_size, lazy=True)
    p = problem(loss, layout, scale=scale)
    assert np.abs(p.dense @ start(p.shape)[:-1]).max() > scale / 10


@pytest.mark.parametrize("layout", ["dense", "csr32"])
@pytest.mark.parametrize("alpha", [0.5, 19.0, 20.0, 30.0])
def test_sgd_with_l2_so_strong_that_the_scale_vanishes(layout, alpha, dtype, tolerance):
    """1 - lr alpha close to zero, zero and negative: w = scale v must not lose w, nor divide by zero."""
    for name in LINEAR:
        expected = trajectory(name, "log_loss", alpha, 1)
        if np.abs(expected[1]).max() < 1e3:
            check_every_step(
                problem(layout=layout, dtype=dtype), name, expected, batch_size=1, alpha=alpha, tolerance=10 * tolerance
            )


def test_the_scale_of_sgd_survives_a_long_epoch(dtype, tolerance):
    p = problem(layout="csr32", dtype=dtype)
    order = np.random.default_rng(0).integers(0, N, 20_000)
    fast = Epochs(p.objective(0.1), SGD(learning_rate=0.05), w=start(p.shape))
    fast.run(order)
    w, *_ = reference.epoch(
        p.dense, p.y, start(p.shape), None, rule="sgd", hyper={"learning_rate": 0.05}, alpha=0.1, order=order
    )
    assert_close(fast.w, w, 10 * tolerance)


# --- lazy steps: property tests -------------------------------------------------------------------------------------

FRACTION = st.sampled_from([0.0, 0.5, 0.9, 0.99])
RATES = st.one_of(
    st.sampled_from([0.001, 0.05]),
    st.builds(InverseTime, st.just(0.1), st.sampled_from([1e-4, 0.01, 1.0])),
    st.builds(Exponential, st.just(0.1), st.sampled_from([100, 1000]), st.sampled_from([0.5, 0.96])),
    st.builds(StepDecay, st.just(0.1), st.integers(1, 3000)),
    st.builds(Cosine, st.just(0.1), st.integers(1, 20_000)),
    st.just(lambda k: 0.05 if k % 3 else 0.01),
)


@st.composite
def sparse_runs(draw):
    """A design, an order of rows that leaves columns idle for up to 10,000 steps, and a batch size."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, d = draw(st.integers(2, 12)), draw(st.integers(1, 8))
    counts = rng.integers(0, draw(st.integers(1, 5)) + 1, n)
    indptr = np.concatenate([[0], counts.cumsum()]).astype(np.int32)
    indices = rng.integers(0, d, indptr[-1]).astype(np.int32)
    X = csr(rng.standard_normal(indptr[-1]), indices, indptr, (n, d))
    gaps = draw(st.lists(st.one_of(st.integers(0, 30), st.integers(100, 10_000)), min_size=1, max_size=4))
    order = [0]
    for gap in gaps:
        order += [1] * gap + rng.integers(0, n, draw(st.integers(1, 20))).tolist()
    batch_size = draw(st.sampled_from([1, 1, 2, 7]).filter(lambda b: b < n))
    return X, rng.choice([-1.0, 1.0], n), np.array(order), batch_size


def lazy_and_dense(run, optimizer, alpha=0.0):
    X, y, order, batch_size = run
    results = []
    for lazy in (True, False):
        fast = Epochs(Objective(Design.from_array(X), y, alpha=alpha), optimizer, batch_size, lazy=lazy)
        for part in np.array_split(order, 2):
            fast.run(part)
        results.append(fast)
    return results


@given(sparse_runs(), RATES, FRACTION, st.booleans(), st.sampled_from([0.0, 1e-3, 0.1]), st.sampled_from([0.0, 0.01]))
@settings(max_examples=200)
def test_lazy_momentum_equals_dense(run, rate, momentum, nesterov, alpha, decay):
    optimizer = SGD(learning_rate=rate, momentum=momentum, nesterov=nesterov, decay=decay)
    lazy, dense = lazy_and_dense(run, optimizer, alpha)
    assert_close(lazy.w, dense.w, 1e-10)
    for slot in optimizer.slots:
        assert_close(lazy.state[slot], dense.state[slot], 1e-10)


@pytest.mark.parametrize("rule", [Adam, Nadam])
@given(
    sparse_runs(),
    RATES,
    FRACTION,
    st.sampled_from([0.0, 0.9, 0.99, 0.999, 0.9999]),
    st.sampled_from([1e-12, 1e-8, 1e-2, 10.0]),
)
@settings(max_examples=200)
def test_lazy_adam_equals_dense(rule, run, rate, beta_1, beta_2, epsilon):
    """Within 1e-7 of the motion, w starting at zero; later gradients, and so the state, take over that error."""
    lazy, dense = lazy_and_dense(run, rule(learning_rate=rate, beta_1=beta_1, beta_2=beta_2, epsilon=epsilon))
    assert_close(lazy.w, dense.w, 1e-7)
    for slot in lazy.optimizer.slots:
        assert_close(lazy.state[slot], dense.state[slot], 1e-7)


@given(
    sparse_runs(),
    st.sampled_from([name for name in OPTIMIZERS if name not in LINEAR and name != "adam"] or ["sgd"]),
    RATES,
)
@settings(max_examples=200)
def test_lazy_steps_of_all_other_rules_equal_dense(run, name, rate):
    lazy, dense = lazy_and_dense(run, OPTIMIZERS[name](learning_rate=rate))
    tolerance = 1e-10 if name not in ("adamw", "nadam", "adamax", "schedule_free_adamw") else 1e-7
    assert_close(lazy.w, dense.w, tolerance)


@given(sparse_runs(), st.sampled_from(list(OPTIMIZERS)))
@settings(max_examples=100)
def test_lazy_float32_is_as_close_as_float32_is(run, name):
    X, y, order, batch_size = run
    single = csr(X.data.astype(np.float32), X.indices, X.indptr, X.shape)
    optimizer = OPTIMIZERS[name](learning_rate=0.01)
    lazy, _ = lazy_and_dense((single, y, order, batch_size), optimizer)
    double, _ = lazy_and_dense((single.astype(np.float64), y, order, batch_size), optimizer)
    assert lazy.w.dtype == np.float32
    assert_close(lazy.w, double.w, 5e-3)


@pytest.mark.parametrize("gap", [0, 1, 3, 4, 5, 6, 200, 250, 251, 1000, 10_000])
@pytest.mark.parametrize("before", [1, 20, 248, 250, 1000])
@NAMES
def test_gaps_of_every_length(name, before, gap):
    """Column 0 is touched, waits, and is touched again; column 1 belongs to every other step."""
    X = csr(np.array([1.0, 0.5, 1.0]), np.array([0, 1, 1]), np.array([0, 1, 3]), (2, 2))
    order = np.array([0] * before + [1] * gap + [0])
    lazy, dense = lazy_and_dense((X, np.array([1.0, -1.0]), order, 1), OPTIMIZERS[name](learning_rate=0.01))
    assert_close(lazy.w, dense.w, 1e-10 if name in LINEAR else 1e-7)


@pytest.mark.parametrize("factor", [0.97, 0.9, 0.5, 0.0, -0.5])
@pytest.mark.parametrize(
    "rule", [SGD(), Adagrad(), RMSprop(), Adam(), Adam(amsgrad=True), Adamax(), Nadam()], ids=lambda rule: rule.name
)
def test_gaps_with_strong_weight_decay(rule, factor, dtype):
    """Each step multiplies w by the factor, which may be below beta_1, zero, or negative."""
    X = csr(np.array([1.0, 0.5, 1.0], dtype), np.array([0, 1, 1]), np.array([0, 1, 3]), (2, 2))
    order = np.array([0] * 300 + [1] * 12 + [0, 1, 1])
    rule = dataclasses.replace(rule, learning_rate=0.01, weight_decay=(1 - factor) / 0.01)
    lazy, dense = lazy_and_dense((X, np.array([1.0, -1.0], dtype), order, 1), rule)
    assert_close(lazy.w, dense.w, 1e-9 if dtype == np.float64 else 1e-4)


@pytest.mark.parametrize("factor", [1.3, 1.04, 0.97])
@pytest.mark.parametrize("rule", [Adam(), Adam(amsgrad=True), Adamax(), Nadam()], ids=lambda rule: rule.name)
def test_gaps_while_the_learning_rate_changes_fast(rule, factor, dtype):
    X = csr(np.array([1.0, 0.5, 1.0], dtype), np.array([0, 1, 1]), np.array([0, 1, 3]), (2, 2))
    order = np.array([0] * 300 + [1] * 12 + [0, 1, 1])
    rule = rule.with_learning_rate(Exponential(0.01 / factor**300, decay_steps=1, decay_rate=factor))
    lazy, dense = lazy_and_dense((X, np.array([1.0, -1.0], dtype), order, 1), rule)
    assert_close(lazy.w, dense.w, 1e-9 if dtype == np.float64 else 1e-4)


@pytest.mark.parametrize("batch_size", [1, 2])
@NAMES
def test_lazy_epochs_after_others(name, batch_size):
    """With L2 an epoch of changing rates may step every coordinate, and the next one of a constant rate only a few."""
    p, alpha = problem(layout="csr32"), 0.1 if name in LINEAR else 0.0
    results = []
    for lazy in (True, False):
        fast = Epochs(p.objective(alpha), OPTIMIZERS[name](learning_rate=0.05), batch_size, w=start(p.shape), lazy=lazy)
        for rates in (np.linspace(0.1, 0.01, fast.n_steps), None, np.linspace(0.1, 0.01, fast.n_steps), None):
            fast.run(None, rates)
        results.append(fast)
    assert_close(results[0].w, results[1].w, 1e-10)


# --- lazy adaptive rules with L2: the same minimiser ------------------------------------------------------------------

ADAPTIVE = pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name not in LINEAR])


def almost_linear(name):
    """The rule with so large an epsilon, and no memory, that it steps by a constant times g; and that constant."""
    fields = {field.name for field in dataclasses.fields(OPTIMIZERS[name]())}
    if "epsilon" not in fields:
        pytest.skip("no epsilon that makes it linear")
    if "z" in OPTIMIZERS[name]().slots:
        pytest.skip("w is an average")
    memory = {key: 0.0 for key in ("beta_1", "beta_2", "rho") if key in fields} | {"weight_decay": None}
    optimizer = OPTIMIZERS[name](learning_rate=1.0, epsilon=1e12, **memory)
    w = np.zeros(1)
    optimizer.step(w, np.ones(1), optimizer.init(w))
    return optimizer.with_learning_rate(-1e-6 / w[0]), 1e-6


@pytest.mark.parametrize("layout", ["csr32", "dense"])
@pytest.mark.parametrize("batch_size", [1, 2, 4])
@ADAPTIVE
def test_expected_step_is_the_gradient_of_F(name, batch_size, layout):
    """The mean step over all batches, each set of rows being as likely as any other."""
    optimizer, rate = almost_linear(name)
    p = problem(layout=layout, n=6, d=5, weighted=True)
    objective = p.objective(alpha=0.7)
    w = start(p.shape)
    w[4] = 0  # the column without entries stays at its minimiser
    steps = []
    for batch in itertools.combinations(range(6), batch_size):
        fast = Epochs(objective, optimizer, batch_size, w=w, lazy=True)
        fast.run(np.array(batch))
        steps.append((w - fast.w) / rate)
    expected = reference.gradient(p.dense, p.y, w, alpha=0.7, **p.terms)
    assert_close(np.mean(steps, axis=0), expected, 1e-6)


@pytest.mark.parametrize("batch_size", [1, 4])
@ADAPTIVE
def test_lazy_adaptive_rules_with_l2_reach_the_minimiser(name, batch_size):
    """As close as the same number of dense steps gets, or within 2 % of it."""
    p = problem(layout="csr32", d=8)
    alpha = 0.1
    best = scipy.optimize.minimize(
        lambda w: reference.objective(p.dense, p.y, w.reshape(p.shape), alpha=alpha, **p.terms), np.zeros(p.shape[0])
    ).x.reshape(p.shape)
    n_epochs = 600
    rate = {"adagrad": 0.3, "adadelta": 10.0, "ftrl": 0.3, "schedule_free_sgd": 0.3}.get(name, 0.02)
    own = "schedule_free" in name or name == "ftrl"  # a falling rate takes FTRL to zero
    schedule = rate if own else Cosine(rate, n_epochs * math.ceil(N / batch_size) + 1)
    distances = []
    for lazy in (True, False):
        optimizer = OPTIMIZERS[name](learning_rate=schedule, weight_decay=None)
        fast, rng = Epochs(p.objective(alpha), optimizer, batch_size, lazy=lazy), np.random.default_rng(0)
        for _ in range(n_epochs):
            fast.run(rng.permutation(N))
        distances.append(np.linalg.norm(optimizer.averaged(fast.w, fast.state) - best) / np.linalg.norm(best))
    lazily, densely = distances
    assert densely < 0.2, "this test's own learning rate"
    assert lazily < max(0.02, 1.25 * densely)


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [[0, N], [-1, 0], [0, 2**62]])
@LAYOUT
@NAMES
def test_rows_out_of_range(name, layout, order):
    p = problem(layout=layout)
    fast = Epochs(p.objective(), OPTIMIZERS[name](learning_rate=0.05), 1, w=start(p.shape))
    with pytest.raises(ValueError, match=r"order must hold row numbers in \[0, 40\)"):
        fast.run(np.array(order))
    np.testing.assert_array_equal(fast.w, start(p.shape))
    assert fast.state["t"] == 0


@pytest.mark.parametrize("rates", [[0.1], np.full(N + 1, 0.1), np.full((N, 2), 0.1)], ids=["short", "long", "matrix"])
@LAYOUT
def test_learning_rates_of_a_wrong_length(layout, rates):
    p = problem(layout=layout)
    fast = Epochs(p.objective(), Adam(), 1, w=start(p.shape))
    with pytest.raises(ValueError, match="learning_rates must"):
        fast.run(None, np.array(rates))
    np.testing.assert_array_equal(fast.w, start(p.shape))
    assert fast.state["t"] == 0


def test_an_empty_order_does_nothing():
    for layout in LAYOUTS:
        p = problem(layout=layout)
        fast = Epochs(p.objective(), Adam(), 7, w=start(p.shape), lazy=True)
        fast.run(np.empty(0, np.intp))
        np.testing.assert_array_equal(fast.w, start(p.shape))
        assert fast.state["t"] == 0
