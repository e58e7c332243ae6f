"""learning_rate="auto": what the rate starts with, and how gradient descent and the rules that average go on."""

import math

import numpy as np
import pytest
import scipy.sparse
from scipy.optimize import minimize
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris
from sklearn.preprocessing import OneHotEncoder, scale

from fastopt import SGDClassifier, SGDRegressor, reference
from fastopt._design import Design
from fastopt.objective import Objective
from fastopt.optimizers import OPTIMIZERS, get
from fastopt.solvers import rates as module
from fastopt.solvers import resume
from fastopt.solvers import scaled as scaled_module
from fastopt.solvers import sgd as sgd_module
from fastopt.solvers.epochs import Epochs
from fastopt.solvers.lbfgs import lbfgs
from fastopt.solvers.monitor import Monitor
from fastopt.solvers.rates import adjusted, auto_learning_rate
from fastopt.solvers.stochastic import stochastic

LAYOUTS = {"dense": np.asarray, "csr": scipy.sparse.csr_array}


def data(n=200, d=7):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, d)) * np.logspace(0, -1.5, d)
    X[rng.random((n, d)) < 0.3] = 0.0
    return X, np.where(X.sum(axis=1) + 0.3 * rng.standard_normal(n) > 0, 1.0, -1.0)


def alike(n=200, d=7):
    """Columns so alike that steps are taken in w, and correlated, which no scales mend."""
    X, y = data(n, d)
    X = X / X.std(axis=0)
    X = X + X[:, :1] * np.linspace(0, 1.4, d)
    return X, y


def fit(F, rule, *, max_iter, tol=0.0, batch_size="full"):
    rng = np.random.default_rng(0)
    optimizer = get(rule).with_learning_rate("auto")
    return stochastic(F, F.zeros(), optimizer, batch_size=batch_size, tol=tol, max_iter=max_iter, rng=rng)


@pytest.mark.parametrize("l1_ratio", [0.0, 0.3])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradient_descent_takes_the_steps_of_barzilai_and_borwein(layout, l1_ratio):
    X, y = alike()
    alpha, n_steps = 0.01, 25
    F = Objective(Design.from_array(LAYOUTS[layout](X)), y, alpha=alpha, l1_ratio=l1_ratio)
    result = fit(F, "gd", max_iter=n_steps)
    rates = result.history["learning_rate"][1 : n_steps + 1]
    terms = {"alpha": alpha * (1 - l1_ratio)}  # the smooth part
    w, lr, before = np.zeros((8, 1)), rates[0], None
    assert lr == pytest.approx(auto_learning_rate(F, get("gd"), len(y)))
    for k in range(n_steps):
        g = reference.gradient(X, y, w, **terms)
        if before is not None:
            s, change = w - before[0], g - before[1]
            lr = (s * change).sum() / (change * change).sum()
            unit = 2.0 ** (math.floor(math.log2(lr)) - 4)
            lr = unit * round(lr / unit)
        assert rates[k] == pytest.approx(lr, rel=1e-6), k
        before = w, g
        w = w - lr * g
        w[:-1] = np.sign(w[:-1]) * np.maximum(abs(w[:-1]) - lr * alpha * l1_ratio, 0)
        assert result.history["objective"][k + 1] == pytest.approx(
            reference.objective(X, y, w, alpha=alpha, l1_ratio=l1_ratio), rel=1e-9
        )
    assert len(np.unique(rates)) > n_steps // 2


@pytest.mark.parametrize("rule", ["gd", "sgd"])
def test_gradient_descent_needs_no_rate(rule):
    X, y = load_breast_cancer(return_X_y=True)
    F = Objective(Design.from_array(scale(X)), 2.0 * y - 1, alpha=1 / len(y))
    result = fit(F, rule, tol=1e-6, max_iter=200)
    assert result.stop_reason == "tol"
    assert np.linalg.norm(F.gradient(result.w)) <= 1e-6
    constant = get(rule).with_learning_rate(auto_learning_rate(F, get(rule), len(y)))
    rng = np.random.default_rng(0)
    slow = stochastic(F, F.zeros(), constant, batch_size="full", tol=1e-6, max_iter=2000, rng=rng)
    assert slow.stop_reason == "max_iter"


@pytest.mark.parametrize("rule", ["momentum", "nesterov"])
def test_momentum_on_all_rows_starts_anew_where_f_rises(rule):
    """By a transcript in NumPy, at the rate that does not change."""
    X, y = alike()
    F = Objective(Design.from_array(X), y, alpha=1e-3)
    history = fit(F, rule, max_iter=60).history
    (lr,), mu = np.unique(history["learning_rate"][1:61]), get(rule).momentum
    w, u, values, restarts = np.zeros((8, 1)), 0.0, [math.log(2)], 0
    for _ in range(60):
        g = reference.gradient(X, y, w, loss="log_loss", alpha=1e-3)
        u = mu * u - lr * g
        w = w + (mu * u - lr * g if rule == "nesterov" else u)
        values.append(reference.objective(X, y, w, loss="log_loss", alpha=1e-3))
        if values[-1] >= min(values[:-1]):
            u, restarts = 0.0, restarts + 1
    assert restarts >= 2
    np.testing.assert_allclose(history["objective"][:61], values, rtol=1e-9)


def test_gradient_descent_goes_back_to_the_lowest(monkeypatch):
    """Where F has not fallen for a while, by the step that is known to lower it; also with no patience at all."""
    X, y = data()
    F = Objective(Design.from_array(X), y, alpha=1e-4)
    rates = {}
    for patience in (1, 10):
        monkeypatch.setattr(module, "MEMORY", patience)
        result = fit(F, "gd", tol=1e-7, max_iter=2000)
        assert result.stop_reason == "tol"
        values, rates[patience] = result.history["objective"], result.history["learning_rate"]
        lowest = np.minimum.accumulate(values)
        assert all(values[k : k + patience + 2].min() < lowest[k] for k in range(len(values) - patience - 2))
    assert (rates[1][2:] == rates[1][1]).any()
    assert rates[1][:10].tolist() != rates[10][:10].tolist()


@pytest.mark.parametrize("rule", ["gd", "momentum", "adam"])
def test_steps_on_all_rows_read_them_once(rule, monkeypatch):
    X, y = data()
    F = Objective(Design.from_array(X), y, alpha=0.01)
    passes, function = [], Objective.smooth_value_and_gradient
    monkeypatch.setattr(Objective, "smooth_value_and_gradient", lambda self, w: passes.append(1) or function(self, w))
    optimizer = get(rule).with_learning_rate(0.05)
    result = stochastic(F, F.zeros(), optimizer, batch_size="full", tol=0.0, max_iter=9, rng=np.random.default_rng(0))
    assert len(passes) == 10
    epochs = Epochs(F, optimizer, "full")
    for _ in range(9):
        epochs.run()
    np.testing.assert_array_equal(result.w, epochs.w)
    # After a restart the gradient that was known is another point's.
    epochs.gradient = np.full(F.shape, np.nan)
    epochs.restart(F.zeros(), 1.0)
    epochs.run()
    assert np.isfinite(epochs.w).all()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("loss", ["squared_error", "huber", "squared_epsilon_insensitive"])
def test_rates_of_regressions_are_those_of_the_largest_curvature(loss, layout):
    """Also where F is flat at zero: the inverse of the largest eigenvalue, within a tenth."""
    X, y = data()
    X[:, 0] *= 3
    targets = {"squared_error": y, "huber": 1e3 * y, "squared_epsilon_insensitive": 1e-3 * y}[loss]
    F = Objective(Design.from_array(LAYOUTS[layout](X)), targets, loss=loss, alpha=0.01)
    A = np.column_stack([X, np.ones(len(X))])
    L = np.linalg.eigvalsh(A.T @ A / len(A))[-1] * (2 if loss.startswith("squared_eps") else 1) + 0.01
    assert 0.85 / L < auto_learning_rate(F, get("gd"), len(X)) < 1.02 / L


def test_rates_that_overflow_are_not_the_end_of_the_trials():
    """At no rate near the first do steps on years end with a number."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((600, 5))
    y = X.sum(axis=1)
    X[:, -1] += 2000
    X[:, -2] *= 1000
    model = SGDRegressor(optimizer="schedule_free_sgd", learning_rate="auto", batch_size=16, random_state=0)
    for _ in range(3):
        model.partial_fit(X, y)
    assert np.mean((model.predict(X) - y) ** 2) <= 2 * np.mean(y**2)


@pytest.mark.parametrize("rule", [name for name in OPTIMIZERS if name != "gd"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_rate_found_is_near_one_that_is_better_than_its_neighbours(rule, layout):
    X, y = data(n=3000)
    F = Objective(Design.from_array(LAYOUTS[layout](X)), y, alpha=1 / len(y))
    rate = auto_learning_rate(F, get(rule), 32)
    assert 1e-6 < rate < 1e4
    order = np.random.default_rng(1).permutation(len(y))[: 32 * 64]
    values = []
    for factor in (1 / 30, 1, 30):
        epochs = Epochs(F, get(rule).with_learning_rate(factor * rate), 32)
        epochs.run(order)
        values.append(F.value(epochs.solution))
    assert values[1] < values[0]
    assert values[1] < values[2] or math.isnan(values[2])
    assert values[1] < math.log(2)


@pytest.mark.parametrize("rule", [name for name in OPTIMIZERS if name != "gd"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_fit_from_zero_goes_on_from_the_trial_of_its_rate(layout, rule, monkeypatch):
    """The first epoch begins with the parameters and the state that the lowest of the trials ended with."""
    X, y = data()
    F = Objective(Design.from_array(LAYOUTS[layout](X)), y, alpha=1 / len(y))
    runs, run = [], Epochs.run

    def noted(self, order=None, learning_rates=None):
        before = self.w.copy(), self.state["t"]
        run(self, order, learning_rates)
        runs.append((*before, self.w.copy(), self.state["t"], F.value(self.solution), learning_rates))

    monkeypatch.setattr(Epochs, "run", noted)
    result = fit(F, rule, max_iter=1, batch_size=7)
    *trials, (w, t, *_) = runs
    assert 2 <= len(trials) <= 12
    assert all(not trial[0].any() and trial[1] == 0 for trial in trials)
    lowest = min(trials, key=lambda trial: trial[4])
    assert lowest[4] < math.log(2)
    assert t == lowest[3] == module.TRIAL_STEPS
    np.testing.assert_array_equal(w, lowest[2])
    tried = np.max(lowest[5])
    assert result.state["run"]["learning_rate"] == (tried / 2 if rule == "schedule_free_adamw" else tried)
    assert result.n_iter == 1
    assert result.history["objective"][0] == pytest.approx(math.log(2))

    # From other parameters it does not.
    runs.clear()
    start = np.full(F.shape, 0.1)
    rng = np.random.default_rng(0)
    rule = get(rule).with_learning_rate("auto")
    stochastic(F, start, rule, batch_size=7, tol=0.0, max_iter=1, rng=rng)
    np.testing.assert_array_equal(runs[-1][0], start)
    assert runs[-1][1] == 0


@pytest.mark.parametrize("rule", [name for name in OPTIMIZERS if name != "gd"])
def test_epochs_lent_for_trials_are_as_before(rule):
    X, y = data()
    F = Objective(Design.from_array(X), y, alpha=1 / len(y))
    optimizer = get(rule).with_learning_rate("auto")
    lent = Epochs(F, optimizer, 7, w=np.full(F.shape, 0.1))
    before, (params, scalars) = {key: np.copy(a) for key, a in lent.state.items()}, lent.snapshot()
    rate, begun = module.auto_start(F, optimizer, 7, lent)
    assert (rate, begun is None) == (auto_learning_rate(F, optimizer, 7), False)
    assert lent.optimizer is optimizer
    assert lent.gradient is None
    np.testing.assert_array_equal(lent.w, np.full(F.shape, 0.1))
    np.testing.assert_array_equal(lent.snapshot()[0], params)
    assert lent.snapshot()[1] == scalars
    assert before.keys() == lent.state.keys()
    for key, a in before.items():
        np.testing.assert_array_equal(lent.state[key], a)


def test_schedule_free_adamw_keeps_the_rate_of_its_trial():
    X, y = alike()
    F = Objective(Design.from_array(X), y, alpha=1 / len(y))
    rates = {}
    for rule in ("schedule_free_adamw", "schedule_free_sgd"):
        result = fit(F, rule, max_iter=3, batch_size=7)
        assert result.history["objective"][2] < result.history["objective"][1]
        rates[rule] = result.history["learning_rate"][1:3] / auto_learning_rate(F, get(rule), 7)
    assert rates["schedule_free_adamw"].tolist() == [1, 1]
    assert rates["schedule_free_sgd"] == pytest.approx([1, 1.3])


@pytest.mark.parametrize("rule", ["adam", "ftrl", "schedule_free_sgd"])
def test_a_fit_that_ends_before_its_first_epoch_leaves_zero(rule, monkeypatch):
    """And what goes on from there is what one fit would have been, the trial that it begins with included."""
    X, y = data()
    F = Objective(Design.from_array(X), y, alpha=1 / len(y))
    optimizer, how = get(rule).with_learning_rate("auto"), {"batch_size": 7, "tol": 0.0, "max_iter": 3}
    whole = stochastic(F, F.zeros(), optimizer, rng=np.random.default_rng(0), **how)

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Epochs, "order", interrupted)
        none = stochastic(F, F.zeros(), optimizer, rng=np.random.default_rng(0), **how)
    assert (none.stop_reason, none.n_iter) == ("interrupted", 0)
    assert not none.w.any()
    on = stochastic(F, none.w, optimizer, rng=np.random.default_rng(9), state=none.state, **how)
    np.testing.assert_array_equal(on.w, whole.w)


@pytest.mark.parametrize("rule", ["schedule_free_sgd", "schedule_free_adamw"])
def test_rules_that_average_are_never_left_with_a_rate_of_nothing(rule):
    X, y = load_breast_cancer(return_X_y=True)
    F = Objective(Design.from_array(scale(X)), 2.0 * y - 1, alpha=1 / len(y))
    best = fit(F, "gd", tol=1e-9, max_iter=1000).objective
    result = fit(F, rule, max_iter=150, batch_size="auto")
    assert result.objective < best * (1 + 1e-3)
    assert result.history["learning_rate"][1:].min() > 1e-5


def watched(monkeypatch):
    """The batch sizes of all epochs from now on."""
    sizes, run = [], Epochs.run
    monkeypatch.setattr(Epochs, "run", lambda self, *a: sizes.append(self.batch_size) or run(self, *a))
    return sizes


@pytest.mark.parametrize(("rule", "levels"), [("rmsprop", True), ("adadelta", False)])
def test_rules_that_rest_away_from_the_minimum_take_larger_batches(rule, levels, monkeypatch):
    """After each cycle of 5 epochs or more that lowered F by less than 1 %, as told by the history."""
    monkeypatch.setattr(scaled_module, "unlike", lambda F: False)  # in w: in other variables 32 rows are enough
    X, y = load_digits(return_X_y=True)
    X = OneHotEncoder().fit_transform(np.digitize(X, [1, 6, 11])) if levels else X / 16
    F = Objective(Design.from_array(X), y.astype(float), loss="multinomial", n_outputs=10, alpha=1 / len(y))
    best = lbfgs(F, F.zeros(), tol=1e-7, max_iter=1000).objective
    first = 64 if rule == "rmsprop" else 32
    fixed = fit(F, rule, max_iter=200, batch_size=first)
    sizes = watched(monkeypatch)
    result = fit(F, rule, max_iter=200, batch_size="auto")
    assert best <= result.objective < best * 1.01 < fixed.objective
    sizes, values = sizes[-200:], result.history["objective"]
    size, length, expected, begun = first, 1, [], []
    while len(expected) < 200:
        begun.append(result.history["learning_rate"][len(expected) + 1] / (1 - 0.5 / (-(-len(y) // size) * length)))
        expected += [size] * length
        end = min(len(expected), 200)
        lowest = values[: end - length + 1].min()
        if length >= 5 and lowest - values[: end + 1].min() < 0.01 * lowest and size < len(y):
            size, length = min(2 * size, len(y)), max(5, round(length / 1.44))
        else:
            length = round(1.44 * length + 0.2)
    assert sizes == expected[:200]
    factors = {float(f) for f in np.divide(begun[1:], begun[:-1]).round(9)}
    assert {0.7} <= factors <= {0.7, 1.0, 1.5}  # batches grow: the rate falls by less
    assert sizes[-1] >= 4 * first


def test_batches_grow_up_to_all_rows_and_where_they_were_not_given(monkeypatch):
    X, y = data()
    F = Objective(Design.from_array(X), y, alpha=0.01)
    best = fit(F, "gd", tol=1e-9, max_iter=1000).objective
    sizes = watched(monkeypatch)
    for rule, growing in (("rmsprop", True), ("adadelta", True), ("adam", False), ("lion", False)):
        result = fit(F, rule, max_iter=187, batch_size="auto")
        assert (sizes[-1] == 200) == growing
        assert result.objective < best * (1 + (1e-5 if growing else 1e-2))
        assert result.state["run"]["batch_size"] == (200 if growing else None)
        del sizes[:]
        fit(F, rule, max_iter=187, batch_size=32)
        assert set(sizes) == {32}
        del sizes[:]
    # A rate that is given does not fall, and its batch does not grow; nor where a run that grew goes on.
    optimizer, rng = get("rmsprop").with_learning_rate(0.01), np.random.default_rng(0)
    stochastic(F, F.zeros(), optimizer, batch_size="auto", tol=0.0, max_iter=50, rng=rng)
    grown = fit(F, "rmsprop", max_iter=187, batch_size="auto")
    del sizes[:]
    optimizer = get("rmsprop").with_learning_rate("auto")
    stochastic(F, grown.w, optimizer, batch_size=64, tol=0.0, max_iter=3, rng=rng, state=grown.state)
    assert sizes[-3:] == [64] * 3


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("rule", ["rmsprop", "adadelta"])
def test_batches_that_grew_go_on(rule, layout):
    """To the same bits, from any epoch: before and after each growth, and with all rows."""
    X, y = data()
    F = Objective(Design.from_array(LAYOUTS[layout](X)), y, alpha=0.01)
    optimizer, whole = get(rule).with_learning_rate("auto"), fit(F, rule, max_iter=90, batch_size="auto")
    assert whole.state["run"]["batch_size"] == len(y)
    for parts in ([30, 1, 1, 1, 16, 1, 25, 15], [11, 8, 12, 18, 27, 14]):
        w, state = F.zeros(), None
        for epochs in parts:
            result = stochastic(
                F, w, optimizer, batch_size="auto", tol=0.0, max_iter=epochs, rng=np.random.default_rng(0), state=state
            )
            w, state = result.w, result.state
        np.testing.assert_array_equal(w, whole.w)
        assert state["run"]["scale"] == whole.state["run"]["scale"]
        assert (state["t"], state["run"]["batch_size"]) == (whole.state["t"], len(y))


def minimum(X, y, s=None, **terms):
    """The lowest F, by SciPy and the reference's formulas."""
    F = {"loss": "log_loss", "sample_weight": s} | terms
    start = np.zeros(X.shape[1] + 1)
    found = minimize(
        lambda w: reference.objective(X, y, w[:, None], **F), start, tol=1e-12, method="L-BFGS-B",
        jac=lambda w: reference.gradient(X, y, w[:, None], **F).ravel(),
    )  # fmt: skip
    return found.fun


AVERAGING = {
    "schedule_free_sgd": {"optimizer": "schedule_free_sgd"}, "ftrl": {"optimizer": "ftrl"}, "mean": {"average": True},
    "schedule_free_adamw": {"optimizer": "schedule_free_adamw"},
}  # fmt: skip


@pytest.mark.parametrize("rule", AVERAGING)
def test_sgd_estimators_are_never_left_with_a_rate_of_nothing(rule):
    X, y = load_breast_cancer(return_X_y=True)
    X, alpha = scale(X), 1 / len(y)
    best = minimum(X, 2.0 * y - 1, alpha=alpha)
    options = {"alpha": alpha, "learning_rate": "auto", "random_state": 0} | AVERAGING[rule]
    model = SGDClassifier("log_loss", max_iter=150, tol=None, **options).fit(X, y)
    w = np.append(model.coef_, model.intercept_)[:, None]
    reached = reference.objective(X, 2.0 * y - 1, w, loss="log_loss", alpha=alpha)
    assert best * (1 - 1e-9) <= reached <= best * (1 + 1e-3)
    assert reached == pytest.approx(model.objective_, rel=1e-9)
    values, rates = model.history_["objective"], model.history_["learning_rate"]
    assert reached == pytest.approx(values.min(), rel=1e-9)
    # Halved, with none of the cycles' falls, after 3, 4, 5, 7, 9, ... epochs that are not below the lowest.
    waits, lowest, rises = [], np.inf, 0
    for k in range(len(values) - 1):
        lowest, rises = min(lowest, values[k]), 0 if values[k] < lowest else rises + 1
        if rates[k + 1] != rates[k]:
            assert rates[k + 1] == rates[k] / 2
            waits.append(rises)
            rises = 0
    assert waits
    assert waits == [3, 4, 5, 7, 9, 12, 17, 24][: len(waits)]
    stops = SGDClassifier("log_loss", max_iter=1000, tol=1e-6, **options).fit(X, y)
    assert stops.stop_reason_ == "no_change"
    assert stops.objective_ < best * (1 + 2e-3)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("options", [{"optimizer": "gd"}, {"optimizer": "sgd", "batch_size": "full"}], ids=str)
@pytest.mark.parametrize("memory", [10, 2])  # with the second they go back to the lowest F on the way
def test_sgd_estimators_descend_by_two_points(options, layout, memory, monkeypatch):
    """Class by class: the way of `stochastic` on that class alone, whose steps are those of a transcript in NumPy."""
    monkeypatch.setattr(module, "MEMORY", memory)
    monkeypatch.setattr(sgd_module, "MEMORY", memory)
    X, y = load_iris(return_X_y=True)
    X = LAYOUTS[layout](scale(X))
    options = {"alpha": 0.01, "learning_rate": "auto", "tol": None, "max_iter": 30, "random_state": 0} | options
    model = SGDClassifier("log_loss", **options).fit(X, y)
    total = 0.0
    for c in range(3):
        result = fit(Objective(Design.from_array(X), np.where(y == c, 1.0, -1.0), alpha=0.01), "gd", max_iter=30)
        w = np.append(model.coef_[c], model.intercept_[c])
        np.testing.assert_allclose(w, result.w[:, 0], rtol=1e-6)  # the first step's rate is that of all classes
        total += result.history["objective"][:31]
    np.testing.assert_allclose(model.history_["objective"], total[1:], rtol=1e-3)


def test_two_points_stop_where_nothing_improves():
    """By scikit-learn's rule, looked at where F has a new lowest; in tens of epochs, by every smooth loss."""
    X, y = load_breast_cancer(return_X_y=True)
    X, alpha = scale(X), 1 / len(y)
    best = minimum(X, 2.0 * y - 1, alpha=alpha)
    model = SGDClassifier("log_loss", alpha=alpha, optimizer="gd", tol=1e-6, random_state=0).fit(X, y)
    assert model.stop_reason_ == "no_change"
    assert model.n_iter_ < 60
    assert best * (1 - 1e-9) <= model.objective_ < best * (1 + 1e-4)
    values = model.history_["objective"]
    assert (np.diff(values) > 0).any()
    assert values[-1] == model.objective_ == values.min()
    X, target = X[:, 1:], X[:, 0]
    alpha = 0.01
    ridge = SGDRegressor(alpha=alpha, optimizer="gd", learning_rate="auto", tol=1e-8, random_state=0).fit(X, target)
    assert ridge.n_iter_ < 200
    A = X.T @ X / len(X) + alpha * np.eye(X.shape[1])
    solution = np.linalg.solve(A, X.T @ target / len(X))
    lowest = reference.objective(X, target, np.append(solution, 0.0)[:, None], loss="squared_error", alpha=alpha)
    assert lowest * (1 - 1e-9) <= ridge.objective_ < lowest * (1 + 1e-3)
    # Flat far from the target, where all rows are at first: the rate may grow there, not without bound.
    D, progress = load_diabetes(return_X_y=True)
    D = scale(D)
    huber = SGDRegressor("huber", alpha=1e-4, optimizer="gd", learning_rate="auto", random_state=0)
    huber.set_params(tol=1e-5, max_iter=300).fit(D, progress)
    lowest = minimum(D, progress, loss="huber", alpha=1e-4)
    assert lowest * (1 - 1e-9) <= huber.objective_ < lowest * (1 + 1e-3)
    hinge = SGDClassifier(alpha=0.01, optimizer="gd", tol=None, max_iter=143, random_state=0).fit(X, y)
    rates = hinge.history_["learning_rate"]
    assert rates[142] < rates[97] / 10  # no curvature, no two points: the cycle's end


def test_means_of_iterates_at_automatic_rates_weigh_as_f_does():
    """A weight of 2 is that row twice, and alpha does not depend on the weights."""
    X, y = load_breast_cancer(return_X_y=True)
    X, s = scale(X), np.random.default_rng(0).integers(1, 9, len(y)).astype(float)
    model = SGDClassifier(
        "log_loss", alpha=0.1, average=True, learning_rate="auto", max_iter=150, tol=None, random_state=0
    ).fit(X, y, sample_weight=s)
    best = minimum(X, 2.0 * y - 1, s, alpha=0.1)
    assert best * (1 - 1e-9) <= model.objective_ <= best * (1 + 1e-3)


def factors_of_cycles(values, rates, start, falls, rule):
    """By how much each cycle's rate is to differ from the last one's, as it does: from epochs' F and largest rates.

    `start` is F at the start; in an epoch the rate `falls` so many times.
    """
    too_high, useless = (0.7, 0.25) if rule == "adagrad" else (0.5, 0.25)
    seen, first, scale, factor = set(), 0, None, math.nan
    for length in (1, 2, 3, 5, 7, 10, 15, 22, 32):
        cycle = values[first : first + length]
        now = rates[first] / (1 - 0.5 / (falls * length))
        if scale is not None:
            assert now == pytest.approx(factor * scale, rel=1e-12), length
            seen.add(factor)
        above = (cycle > start).mean()
        factor = useless if cycle.min() >= start else 1.5 if above <= 2 / 5 else too_high if above > 3 / 5 else 1.0
        scale, start, first = now, min(start, cycle.min()), first + length
    return seen


def test_cycles_begin_higher_or_lower_by_where_the_last_one_was():
    """As told by the history alone; all factors come up."""
    X, y = data()
    seen = set()
    for rule in ("sgd", "momentum", "adam", "lion", "adagrad"):
        F = Objective(Design.from_array(X), y, alpha=3e-3)
        history = fit(F, rule, max_iter=97, batch_size=10).history  # 1 + 2 + 3 + 5 + 7 + 10 + 15 + 22 + 32
        values, rates = history["objective"][:98], history["learning_rate"][:98]
        seen |= factors_of_cycles(values[1:], rates[1:], values[0], 20, rule)
    assert seen == {0.25, 0.5, 0.7, 1.0, 1.5}


def test_the_rate_of_rows_whose_products_overflow_is_that_of_their_lengths():
    X = np.random.default_rng(0).standard_normal((50, 3)) * 1e100
    F = Objective(Design.from_array(X), data(50)[1], alpha=0.1)
    assert auto_learning_rate(F, get("gd"), 50) == pytest.approx(4 / (X**2).sum(axis=1).mean(), rel=1e-12)


@pytest.mark.parametrize("loss", ["log_loss", "hinge"])
def test_cycles_of_sgd_estimators_begin_higher_or_lower_too(loss):
    """By the mean of F over the steps of each epoch, from F at zero on."""
    X, y = data()
    seen = set()
    for rule in ("sgd", "momentum", "adam", "lion", "adagrad"):
        options = {"optimizer": rule, "batch_size": 10, "learning_rate": "auto", "tol": None, "random_state": 0}
        history = SGDClassifier(loss, alpha=1e-3, max_iter=97, **options).fit(X, y).history_
        at_zero = math.log(2) if loss == "log_loss" else 1.0
        seen |= factors_of_cycles(history["objective"], history["learning_rate"], at_zero, 1, rule)
    assert seen == {0.25, 0.5, 0.7, 1.0, 1.5}


@pytest.mark.parametrize("rule", ["schedule_free_sgd", "schedule_free_adamw", "ftrl"])
def test_a_rate_without_cycles_is_halved_at_the_best_parameters_ever_later(rule):
    X, y = data()
    F = Objective(Design.from_array(X), y, alpha=0.01)
    epochs = Epochs(F, get(rule).with_learning_rate(0.5), 10)
    epochs.run(np.arange(len(y)))
    best, row = epochs.solution.copy(), (1, 0.0, F.value(epochs.solution), 1.0, 0.5)
    epochs.run(np.arange(len(y)))
    run = resume.Run("", 0.5, 1.0, row, best, row, rising=False)
    waited = []
    for _ in range(4):
        before = run
        while run.scale == before.scale:
            run.rises += 1
            run = adjusted(run, epochs, False, rule != "ftrl")
            waited.append(run.scale)
        assert run.scale == before.scale / 2
        np.testing.assert_array_equal(epochs.solution, best)
    assert [waited.count(scale) for scale in (1.0, 0.5, 0.25, 0.125)] == [2, 4, 5, 7]


def test_the_guard_takes_the_step_back_that_is_too_long(monkeypatch):
    """Ten rows on which a step of two points ends above the start: it is undone, and the first rate comes again."""
    rng = np.random.default_rng(0)
    n, d = int(rng.integers(3, 12)), int(rng.integers(1, 4))
    X = rng.standard_normal((n, d)) * 10.0 ** rng.integers(-2, 4, d)
    F = Objective(Design.from_array(X), rng.choice([-1.0, 1.0], n), alpha=1e-3)
    undone, forget = [], Monitor.forget_last
    monkeypatch.setattr(Monitor, "forget_last", lambda self: undone.append(self.value) or forget(self))
    result = fit(F, "gd", tol=1e-7, max_iter=100)
    values, rates = result.history["objective"], result.history["learning_rate"]
    assert undone
    assert min(undone) > values[0] == values.max()
    assert (rates[2:] == rates[1]).any()
    assert result.stop_reason == "tol"
    assert np.linalg.norm(F.gradient(result.w)) <= 1e-7
