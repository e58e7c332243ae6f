"""What goes around plain SGD steps, against the reference after every step and against scikit-learn itself."""

import dataclasses
import itertools
import warnings

import numpy as np
import pytest
from cases import LAYOUTS, OLD, assert_close, csr, problem, start
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import SGDClassifier, SGDRegressor

from fastopt import reference
from fastopt._design import Design
from fastopt.losses import LOSSES, EpsilonInsensitive, Huber, Quantile, SquaredEpsilonInsensitive
from fastopt.objective import Objective
from fastopt.optimizers import SGD, Adam
from fastopt.solvers.epochs import Around, Epochs

LAYOUT = pytest.mark.parametrize("layout", LAYOUTS)
N = 40
#: The losses whose curvature slows an intercept down.
#: Losses whose curvature calms intercepts: a loss that is added has none until it is told how it bends.
CURVED = [*reference.MOST_BENT]

AROUND = {
    "proximal": {},
    "truncated": {"l1": "truncated"},
    "average": {"average": 1},
    "average-late": {"average": 25},
    "average-truncated": {"average": 10, "l1": "truncated"},
    "guarded": {"guarded": True},
}


def run_both(p, around, *, alpha, l1_ratio, batch_size=1, epochs=2, rate=0.05, layout_tolerance=1e-10, weights=None):
    """Compares after every step: of steps taken one by one, and of epochs taken at once."""
    rng = np.random.default_rng(1)
    order = np.concatenate([rng.permutation(N) for _ in range(epochs)])
    n_steps = epochs * -(-N // batch_size)
    rates = rate / (1 + 0.01 * np.arange(n_steps))
    ws, states = [], []
    w, state, t, sums = start(p.shape), None, 0, []
    for one in np.split(order, epochs):
        steps = -(-N // batch_size)
        w, state, total = reference.sgd_epoch(
            p.dense, p.y, w, state, loss=p.loss, alpha=alpha, l1_ratio=l1_ratio, order=one, batch_size=batch_size,
            learning_rates=rates[t : t + steps], fit_intercept=p.fit_intercept, step_weight=weights, t0=t,
            on_step=lambda t, w, state: (ws.append(w), states.append(state)), **around,
        )  # fmt: skip
        t += steps
        sums.append(total)
    one_by_one, at_once = (
        Epochs(
            p.objective(alpha, l1_ratio), SGD(learning_rate=0.05), batch_size, w=start(p.shape),
            around=Around(**around, measures=True, raw_weights=weights is not None),
        )
        for _ in range(2)
    )  # fmt: skip
    t = 0

    def compare(fast, k):
        assert_close(fast.w, ws[k], layout_tolerance)
        average = around.get("average", 0)
        if average:
            assert_close(fast.state["average"], states[k]["average"], layout_tolerance)
        assert_close(fast.solution, states[k]["average"] if 0 < average <= k + 1 else ws[k], layout_tolerance)
        if around.get("calm") and p.loss in CURVED:
            assert_close(fast.state["intercept_curvature"], states[k]["intercept_curvature"], layout_tolerance)
        if around.get("l1") == "truncated" and l1_ratio:
            assert_close(fast.state["l1_paid"], states[k]["l1_paid"], layout_tolerance)
            assert fast.state["l1_owed"] == pytest.approx(states[k]["l1_owed"])

    for e, one in enumerate(np.split(order, epochs)):
        for lo in range(0, N, batch_size):
            one_by_one.run(one[lo : lo + batch_size], rates[t : t + 1])
            compare(one_by_one, t)
            t += 1
        steps = -(-N // batch_size)
        at_once.run(one, rates[t - steps : t])
        compare(at_once, t - 1)
        np.testing.assert_array_equal(at_once.w == 0, one_by_one.w == 0)
        assert_close(at_once.sums[0], sums[e][0], layout_tolerance)
        if not l1_ratio:  # with L1, scikit-learn's sums see w before it: see where both stop
            assert_close(at_once.sums[1], sums[e][1], layout_tolerance)
    return at_once


@pytest.mark.parametrize("layout", ["dense", "csr32", "distinct"])
@pytest.mark.parametrize("batch_size", [1, 7])
@pytest.mark.parametrize(("alpha", "l1_ratio"), [(0.0, 0.0), (0.1, 0.0), (0.1, 1.0), (0.1, 0.4), (1.0, 0.15)])
@pytest.mark.parametrize("around", AROUND.values(), ids=list(AROUND))
def test_every_step_equals_the_reference(layout, around, alpha, l1_ratio, batch_size, dtype, tolerance):
    p = problem("log_loss", "csr32" if layout == "distinct" else layout, dtype)
    if layout == "distinct":
        p = dataclasses.replace(p, X=without_duplicates(p.dense.astype(dtype)))
        assert Design.from_array(p.X).distinct
    run_both(p, around, alpha=alpha, l1_ratio=l1_ratio, batch_size=batch_size, layout_tolerance=tolerance)


@pytest.mark.parametrize("layout", [*LAYOUTS, "distinct"])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("outputs", [1, 3])
def test_every_loss(layout, loss, outputs):
    around = {"guarded": True, "l1": "truncated", "average": 20}
    p = problem(loss, "csr32" if layout == "distinct" else layout, outputs=outputs)
    if layout == "distinct":
        p = dataclasses.replace(p, X=without_duplicates(p.dense))
    run_both(p, around, alpha=0.1, l1_ratio=0.3)


@LAYOUT
@pytest.mark.parametrize("passive", ["pa1", "pa2"])
@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("loss", ["hinge", "perceptron", "epsilon_insensitive", "huber"])
def test_passive_aggressive_steps(layout, passive, outputs, loss):
    p = problem(loss, layout, outputs=outputs)
    run_both(p, {"passive": passive, "bound": 0.3}, alpha=0.01, l1_ratio=0.15)


def without_duplicates(dense, index=np.int32):
    columns = [np.flatnonzero(row) for row in dense]
    indptr = np.concatenate([[0], np.cumsum([len(c) for c in columns])])
    return csr(dense[dense != 0], np.concatenate(columns).astype(index), indptr.astype(index), dense.shape)


@LAYOUT
@pytest.mark.parametrize("outputs", [1, 3])
def test_guarded_slopes_are_bounded(layout, outputs):
    p = problem("squared_error", layout, outputs=outputs)
    far = dataclasses.replace(p, y=1e14 * p.y)
    bounded = run_both(far, {"guarded": True}, alpha=0.1, l1_ratio=0.0)
    assert np.abs(bounded.w).max() < 1e-1 * np.abs(run_both(far, {}, alpha=0.1, l1_ratio=0.0).w).max()


@pytest.mark.parametrize("layout", ["csr32", "csr64", "distinct"])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("batch_size", [1, 7])
@pytest.mark.parametrize("l1_ratio", [0.0, 0.15])
@pytest.mark.parametrize("weighted", [False, True])
def test_calm_intercepts(layout, loss, outputs, batch_size, l1_ratio, weighted):
    weighted = weighted and loss != "multinomial"  # whose outputs share a row's weight
    p = problem(loss, "csr32" if layout == "distinct" else layout, outputs=outputs, weighted=weighted)
    if layout == "distinct":
        p = dataclasses.replace(p, X=without_duplicates(p.dense))
    options = {"alpha": 0.01, "l1_ratio": l1_ratio, "batch_size": batch_size}
    options["weights"] = p.sample_weight
    # Such that steps are long enough for the curvature, and errors of rounding do not grow.
    rates = {"poisson": 0.02, "gamma": 0.02, "log_loss": 1.0, "multinomial": 1.0, "huber": 1.5, "hinge": 0.3,
             "perceptron": 0.5}  # fmt: skip
    options["rate"] = rates.get(loss, 0.1)
    if batch_size > 1:
        options |= {"rate": 3 * options["rate"], "epochs": 6}
    around = {"guarded": True, "l1": "truncated", "average": 20 if l1_ratio else 0}
    calm, plain = (run_both(p, around | {"calm": calm}, **options) for calm in (True, False))
    assert "intercept_curvature" not in plain.state
    assert (np.abs(calm.w[-1] - plain.w[-1]).max() > 1e-5) == (loss in CURVED)


def test_calm_intercepts_are_for_csr_alone():
    p = problem("log_loss", "dense")
    calm, plain = (Epochs(p.objective(), SGD(0.5), around=Around(measures=True, calm=calm)) for calm in (True, False))
    for epochs in (calm, plain):
        epochs.run(np.arange(N))
    np.testing.assert_array_equal(calm.w, plain.w)
    assert calm.state.keys() == plain.state.keys()


def test_a_calm_intercept_goes_on_after_dense_rows():
    """Their steps take the whole rate, and what CSR has told of the curvature is kept."""
    on_csr, dense = (problem("log_loss", layout).objective() for layout in ("csr32", "dense"))
    around, order = Around(calm=True), np.arange(N)
    epochs, curvatures, state, w = [], [], None, None
    for F in (on_csr, dense, on_csr):
        epochs.append(Epochs(F, SGD(0.5), w=w, around=around, state=state))
        epochs[-1].run(order)
        state, w = epochs[-1].state, epochs[-1].w
        curvatures.append(state["intercept_curvature"].item())
    assert curvatures[0] == curvatures[1] < curvatures[2]
    alone = Epochs(dense, SGD(0.5), w=epochs[0].w, around=Around(), state={"t": epochs[0].state["t"]})
    alone.run(order)
    np.testing.assert_array_equal(epochs[1].w, alone.w)


def test_a_calm_intercept_comes_to_the_mean():
    """Of the squared error without columns: a rate of 4 / (t + 3) makes it the mean of the targets with weights
    t (t + 1) (t + 2), until that is less than a hundredth of the rate that all have."""
    n = 390
    X = csr(np.empty(0), np.empty(0, np.int32), np.zeros(n + 1, np.int32), (n, 1))
    y = np.random.default_rng(0).random(n)
    F = Objective(Design.from_array(X), y, loss="squared_error")
    epochs = Epochs(F, SGD(1.0), around=Around(calm=True))
    epochs.run(np.arange(n))
    t = np.arange(1, n + 1)
    assert epochs.w[-1, 0] == pytest.approx(np.average(y, weights=t * (t + 1) * (t + 2)), rel=1e-12)


def test_a_calm_intercept_follows_rows_that_change():
    """After many rows as after few: by a hundredth of the rate."""
    n = 500
    X = csr(np.empty(0), np.empty(0, np.int32), np.zeros(n + 1, np.int32), (n, 1))
    y = np.random.default_rng(0).random(n)
    F = Objective(Design.from_array(X), y, loss="squared_error")
    epochs = Epochs(F, SGD(1.0), around=Around(calm=True), state={"t": 10**9, "intercept_curvature": 1e12})
    epochs.run(np.arange(n))
    assert epochs.w[-1, 0] == pytest.approx(np.sum(0.01 * 0.99 ** np.arange(n)[::-1] * y), rel=1e-12)


@LAYOUT
@pytest.mark.parametrize("outputs", [1, 3])
def test_raw_weights(layout, outputs):
    p = problem("hinge", layout, weighted=True, outputs=outputs)
    run_both(p, {}, alpha=0.01, l1_ratio=0.15, weights=p.sample_weight)


@pytest.mark.parametrize("around", ["proximal", "truncated"])
def test_csr_equals_dense_while_columns_wait(around, rng):
    """Long waits, factors of L2 that make the scale vanish, and zeros reached while waiting."""
    n, d = 60, 30
    dense = rng.standard_normal((n, d)) * (rng.random((n, d)) < 0.05)
    sparse = without_duplicates(dense)
    y = rng.choice([-1.0, 1.0], n)
    zeros = set()
    for alpha, l1_ratio, average in itertools.product([1e-3, 0.05, 1.0], [0.15, 0.5, 1.0], [0, 50]):
        results = []
        for X in (dense, sparse):
            F = Objective(Design.from_array(X), y, loss="hinge", alpha=alpha, l1_ratio=l1_ratio)
            fast = Epochs(F, SGD(learning_rate=0.2), w=start((d + 1, 1)), around=Around(average=average, l1=around))
            order = np.random.default_rng(3).integers(0, n, 500)
            fast.run(order)
            fast.run(order[::-1])
            results.append(fast)
        assert_close(results[0].w, results[1].w, 1e-10)
        assert_close(results[0].solution, results[1].solution, 1e-10)
        np.testing.assert_array_equal(results[0].w == 0, results[1].w == 0)
        zeros.add(int((results[0].w == 0).sum()))
    assert len(zeros) > 3


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("loss", ["hinge", "log_loss", "squared_error"])
@pytest.mark.parametrize(
    ("alpha", "l1_ratio"), [(0.0, 0.0), (1e-3, 0.0), (1.0, 0.0), (5e-3, 0.3), (5e-3, 1.0), (0.5, 0.05)]
)
@pytest.mark.parametrize("average", [0, 20])
def test_one_output_equals_one_of_two(sparse, weighted, loss, alpha, l1_ratio, average, rng):
    """One output's rows have loops of their own, and those that may name a column twice: the same steps, payments and
    sums as those of two equal outputs."""
    n, d = 150, 30
    X = rng.standard_normal((n, d)) * (rng.random((n, d)) < 0.1)
    X = without_duplicates(X) if sparse else X
    y, weights = rng.choice([-1.0, 1.0], n), rng.random(n) + 0.5 if weighted else None
    found = []
    for outputs, distinct in ((1, True), (2, True), (2, False))[: 2 + sparse]:
        design = Design.from_array(X)
        if not distinct:
            design = Design(design.values, design.indices, design.indptr, design.shape, distinct=False)
        F = Objective(
            design, y if outputs == 1 else np.stack([y, y], axis=1), loss=loss, alpha=alpha,
            l1_ratio=l1_ratio, n_outputs=outputs, sample_weight=weights,
        )  # fmt: skip
        around = Around(l1="truncated", guarded=True, measures=True, raw_weights=True, average=average)
        fast = Epochs(F, SGD(0.3, decay=0.01), w=np.ones((d + 1, outputs)), around=around)
        seen = []
        for _ in range(3):
            fast.run(np.random.default_rng(1).permutation(n))
            sums = fast.sums[:, 0]
            if sparse and l1_ratio and loss == "hinge":  # penalties do not see what waits: here rows that move nothing
                sums[1] = 1.0
            paid = fast.state.get("l1_paid", np.zeros((1, 1)))
            seen += [fast.w[:, 0].copy(), sums, paid[:, 0].copy(), fast.solution[:, 0].copy()]
        found.append(seen)
    for k, (one, *others) in enumerate(zip(*found, strict=True)):
        # Where the scale is multiplied out, columns that wait pay at once, or wait: penalties see it.
        waits = l1_ratio and alpha == 0.5 and k % 4 == 1
        for other in others[: 1 if waits else 2]:
            assert_close(one, other, 1e-10)
    assert found[0][1].min() > 0 or alpha == 0


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    loss=st.sampled_from(["hinge", "perceptron", "log_loss", "squared_hinge"]),
    shape=st.sampled_from([(30, 4, 0.5), (60, 40, 0.1), (25, 700, 0.6), (80, 300, 0.02)]),
    l1_ratio=st.sampled_from([1e-6, 0.05, 0.5, 0.95, 1.0]),
    decay=st.floats(-12, 0.5),
    rate=st.floats(-3, 0),
    guarded=st.booleans(),
    weighted=st.booleans(),
    index=st.sampled_from([np.int32, np.int64]),
    outputs=st.sampled_from([1, 2, 3]),
    average=st.sampled_from([0, 1, 47]),
    passive=st.sampled_from([None, None, "pa1", "pa2"]),
    l1=st.sampled_from(["truncated", "truncated", "proximal"]),
    batch_size=st.sampled_from([1, 1, 2, 7]),
    calm=st.booleans(),
)
def test_l1_of_columns_that_wait(
    seed, loss, shape, l1_ratio, decay, rate, guarded, weighted, index, outputs, average, passive, l1, batch_size, calm
):
    """Rows longer than what is worked on at once; from no decay at all to factors of L2 below zero in every step."""
    n, d, density = shape
    rng = np.random.default_rng(seed)
    dense = rng.standard_normal((n, d)) * (rng.random((n, d)) < density) / np.sqrt(density * d)
    size = n if outputs == 1 else (n, outputs)
    y, order = rng.choice([-1.0, 1.0], size), rng.integers(0, n, 3 * n)
    weights = rng.random(size) * (rng.random(size) < 0.9) if weighted else None
    steps = -(-n // batch_size)
    rates = 10**rate * rng.random(3 * steps) * (rng.random(3 * steps) < 0.9)  # some ask for nothing
    alpha = 10.0**decay / 10**rate
    w0, state, sums = start((d + 1, outputs)), None, []
    F = Objective(
        Design.from_array(without_duplicates(dense, index)), y, loss=loss, alpha=alpha, l1_ratio=l1_ratio,
        n_outputs=outputs, sample_weight=weights,
    )  # fmt: skip
    more = {"average": average, "passive": passive if loss in ("hinge", "perceptron") else None, "bound": 0.3}
    more["calm"] = calm and loss != "squared_hinge"  # where margins of 1 come about, rounding tells their curvature
    around = Around(l1=l1, guarded=guarded, measures=True, raw_weights=True, **more)
    fast, w = Epochs(F, SGD(), batch_size, w=w0, around=around), w0
    for e, (rows, lr) in enumerate(zip(np.split(order, 3), np.split(rates, 3), strict=True)):
        w, state, sums = reference.sgd_epoch(
            dense, y, w, state, loss=loss, alpha=alpha, l1_ratio=l1_ratio, order=rows, learning_rates=lr,
            step_weight=weights, l1=l1, guarded=guarded, t0=e * steps, batch_size=batch_size, **more,
        )  # fmt: skip
        fast.run(rows, lr)
        size = max(1.0, np.abs(w).max())  # the payments are differences of what is owed
        assert_close(fast.w / size, w / size, 1e-11)
        np.testing.assert_array_equal(fast.w[:-1] == 0, w[:-1] == 0)
        owed = max(state["l1_owed"], size)
        if l1 == "truncated":
            assert_close(fast.state["l1_paid"][:-1] / owed, state["l1_paid"][:-1] / owed, 1e-11)
            assert fast.state["l1_owed"] == pytest.approx(state["l1_owed"])
        if average:
            assert_close(fast.state["average"] / owed, state["average"] / owed, 1e-11)
        assert_close(fast.sums[0], sums[0], 1e-10)


@pytest.mark.parametrize("l1_ratio", [1.0, 0.9])
def test_small_payments_are_not_lost_in_float32(l1_ratio):
    """Each is less than half the distance from 1 to the next smaller float."""
    n = 5000
    X = csr(np.full(n, 2.0, np.float32), np.zeros(n, np.int32), np.arange(n + 1, dtype=np.int32), (n, 1))
    F = Objective(Design.from_array(X), np.ones(n), loss="hinge", alpha=1e-6, l1_ratio=l1_ratio, fit_intercept=False)
    fast = Epochs(F, SGD(0.01), w=np.ones((1, 1), np.float32), around=Around(l1="truncated"))
    fast.run()
    assert fast.w.dtype == np.float32
    assert fast.w[0, 0] == pytest.approx(1 - n * 1e-8, abs=6e-8)


def test_averages_of_many_small_payments_in_float32():
    """What a column waits for joins the average in float64, whatever the data's type."""
    n = 3000
    columns = np.r_[0, np.ones(n - 2), 0].astype(np.int32)
    X = csr(np.full(n, 2.0, np.float32), columns, np.arange(n + 1, dtype=np.int32), (n, 2))
    F = Objective(
        Design.from_array(X), np.ones(n), loss="hinge", alpha=1e-6, l1_ratio=0.9, fit_intercept=False,
    )  # fmt: skip
    fast = Epochs(F, SGD(0.01), w=np.ones((2, 1), np.float32), around=Around(l1="truncated", average=1))
    fast.run()
    assert fast.solution.dtype == np.float32
    t = np.arange(1, n + 1)
    assert fast.solution[:, 0] == pytest.approx(np.mean((1 - 9e-9 * t) * (1 - 1e-9 * t)), abs=6e-8)


@pytest.mark.parametrize("distinct", [False, True])
def test_history_in_pieces(monkeypatch, distinct):
    p = problem(layout="csr32")
    if distinct:
        p = dataclasses.replace(p, X=without_duplicates(p.dense))
    results = []
    for steps in (2**19, 7):
        monkeypatch.setattr("fastopt.solvers.epochs.HISTORY_STEPS", steps)
        fast = Epochs(p.objective(0.1, 0.3), SGD(0.05, decay=0.1), around=Around(average=11, l1="truncated"))
        fast.run()
        fast.run()
        results.append(fast)
    assert_close(results[0].w, results[1].w, 1e-13)
    assert_close(results[0].solution, results[1].solution, 1e-13)


# --- scikit-learn -----------------------------------------------------------------------------------------------------

CLASSIFIERS = ["hinge", "log_loss", "modified_huber", "squared_hinge", "perceptron"]
REGRESSORS = ["squared_error", "huber", "epsilon_insensitive", "squared_epsilon_insensitive"]
PENALTIES = {"l2": 0.0, "l1": 1.0, "elasticnet": 0.15, None: 0.0}
SCHEDULES = ["constant", "optimal", "invscaling", "pa1", "pa2"]


def scikit_learns_rates(schedule, loss, n_steps, *, alpha, eta0, power_t):
    """The learning rates of steps 1, 2, ..., as the user guide gives them."""
    t = np.arange(1, n_steps + 1)
    if schedule == "optimal":
        typical = float(np.sqrt(1 / np.sqrt(alpha)))
        first = typical / max(1.0, reference.LOSSES[loss][1](1.0, -typical))
        return 1 / (alpha * (1 / (first * alpha) + t - 1))
    return eta0 / t**power_t if schedule == "invscaling" else np.full(n_steps, eta0)


#: Its average under L1 is not the mean of the iterates: it takes what L1 did in one step for done in all.
SETTINGS = [
    (loss, penalty, schedule, average)
    for loss, penalty, schedule, average in itertools.product(
        CLASSIFIERS + REGRESSORS, PENALTIES, SCHEDULES, [False, True, 90]
    )
    if not (average and PENALTIES[penalty])
    and not (schedule.startswith("pa") and (OLD or loss not in ("hinge", "epsilon_insensitive")))
]


@pytest.mark.parametrize(("loss", "penalty", "schedule", "average"), SETTINGS)
def test_scikit_learn(loss, penalty, schedule, average, rng):
    """Its coefficients on dense data: the same order, weights and learning rates."""
    n, d, epochs, alpha, eta0, power_t = 60, 8, 4, 0.05, 0.02, 0.3
    X = 0.4 * rng.standard_normal((n, d))  # "optimal" steps with squared losses are stable then
    w = rng.standard_normal(d) * (np.arange(d) % 2)
    weights = rng.random(n) + 0.5
    target = X @ w + 0.3 * rng.standard_normal(n)
    classifies = loss in CLASSIFIERS
    y = np.where(target > 0, 1.0, -1.0) if classifies else target
    own = {} if classifies else {"epsilon": 0.1}
    theirs = (SGDClassifier if classifies else SGDRegressor)(
        loss=loss, penalty=penalty, alpha=alpha, l1_ratio=0.15, learning_rate=schedule, eta0=eta0, power_t=power_t,
        max_iter=epochs, tol=None, shuffle=False, average=average, **own,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        theirs.fit(X, y, sample_weight=weights)
    F = Objective(
        Design.from_array(X), y, loss=loss, alpha=0.0 if penalty is None else alpha, l1_ratio=PENALTIES[penalty],
        sample_weight=weights,
    )  # fmt: skip
    around = Around(
        average=int(average), l1="truncated", passive=schedule if schedule.startswith("pa") else None, bound=eta0,
        guarded=True, raw_weights=True, measures=True,
    )  # fmt: skip
    ours = Epochs(F, SGD(), around=around)
    rates = scikit_learns_rates(schedule, loss, n * epochs, alpha=alpha, eta0=eta0, power_t=power_t)
    for e in range(epochs):
        ours.run(None, rates[e * n : (e + 1) * n])
    assert_close(ours.solution[:-1, 0], theirs.coef_.ravel(), 1e-9)
    assert ours.solution[-1, 0] == pytest.approx(theirs.intercept_[0], rel=1e-9)
    if penalty == "l1" and not schedule.startswith("pa"):
        assert np.array_equal(ours.w[:-1, 0] == 0, theirs.coef_.ravel() == 0)


@pytest.mark.skipif(OLD, reason="scikit-learn < 1.8 stops elsewhere")
@pytest.mark.parametrize("schedule", ["constant", "adaptive"])
@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("loss", ["hinge", "log_loss", "squared_error"])
def test_sums_stop_where_scikit_learn_stops(loss, penalty, schedule, rng):
    """Its criterion: the mean of loss and penalty along an epoch against the best epoch's."""
    n, d, alpha, tol = 60, 8, 1e-2, 1e-3
    X = rng.standard_normal((n, d))
    target = X @ rng.standard_normal(d) + rng.standard_normal(n)
    y = target if loss == "squared_error" else np.where(target > 0, 1.0, -1.0)
    theirs = (SGDRegressor if loss == "squared_error" else SGDClassifier)(
        loss=loss, penalty=penalty, alpha=alpha, learning_rate=schedule, eta0=0.01, tol=tol, n_iter_no_change=2,
        shuffle=False, max_iter=500,
    ).fit(X, y)  # fmt: skip
    F = Objective(
        Design.from_array(X), y, loss=loss, alpha=0.0 if penalty is None else alpha, l1_ratio=PENALTIES[penalty]
    )
    ours = Epochs(F, SGD(learning_rate=0.01), around=Around(l1="truncated", guarded=True, measures=True))
    best, waited, epochs, rate = np.inf, 0, 0, 0.01
    while waited < 2:
        ours.run(None, np.full(n, rate))
        epochs += 1
        mean = ours.sums.sum() / n
        waited = waited + 1 if mean > best - tol else 0
        best = min(best, mean)
        if waited == 2 and schedule == "adaptive" and rate > 1e-6:
            rate, waited = rate / 5, 0
    assert epochs == theirs.n_iter_
    assert 3 < epochs < 500
    assert_close(ours.w[:-1, 0], theirs.coef_.ravel(), 1e-9)


# --- what is refused --------------------------------------------------------------------------------------------------


def test_around_other_rules_is_refused():
    p = problem()
    for optimizer in (Adam(), SGD(momentum=0.9), SGD(clipnorm=1.0), SGD(ema_momentum=0.9)):
        with pytest.raises(ValueError, match="around must be None for all but plain SGD; got Around"):
            Epochs(p.objective(), optimizer, around=Around(average=1))
    with pytest.raises(ValueError, match="passive must be None for the loss 'multinomial'; got 'pa1'"):
        Epochs(problem("multinomial").objective(), SGD(), around=Around(passive="pa1"))


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"average": -1}, "average must be an integer >= 0; got -1."),
        ({"l1": "cumulative"}, "l1 must be one of 'proximal', 'truncated'; got 'cumulative'."),
        ({"passive": "pa3"}, "passive must be one of 'pa1', 'pa2'; got 'pa3'."),
        ({"bound": 0.0}, "bound must be a finite number > 0; got 0.0."),
    ],
)
def test_errors(values, text):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        Around(**values)
    assert str(caught.value) == text


@pytest.mark.parametrize("loss", [Huber, EpsilonInsensitive, SquaredEpsilonInsensitive])
def test_epsilon_must_be_a_number(loss):
    with pytest.raises(ValueError, match="epsilon must be a finite number >"):
        loss(epsilon=-0.1)
    for wrong in (0, 1.0, 2, -0.5):
        with pytest.raises(ValueError, match=rf"quantile must be a number in \(0, 1\); got {wrong}\."):
            Quantile(quantile=wrong)
