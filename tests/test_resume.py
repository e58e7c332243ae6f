"""k epochs and k more are 2k epochs, bit for bit; what is dropped when the state no longer fits."""

import functools
import pickle

import numpy as np
import pytest
import scipy.sparse
from sklearn.datasets import load_iris
from sklearn.preprocessing import scale

import fastopt
from fastopt import LogisticRegression, optimizers, schedules
from fastopt.objective import Objective
from fastopt.optimizers import OPTIMIZERS, SGD, Adam
from fastopt.solvers import lbfgs as resume_lbfgs
from fastopt.solvers import resume

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

#: What each break goes through.
WAYS = {"at once": lambda model, path: model, "pickle": lambda model, path: pickle.loads(pickle.dumps(model))}


def saved(model, path):
    fastopt.save(model, path / "model.npz")
    return fastopt.load(path / "model.npz")


WAYS["save"] = saved


def step_rate(k):
    """A schedule that no table knows, and with a kink."""
    return 0.05 if k < 20 else 0.01


@functools.cache
def data(kind, n_classes=2):
    """Overlapping classes: learning rates are cut before long. "wide" is CSR on which most columns wait."""
    rng = np.random.default_rng(3)
    n, d = 150, (900 if kind == "wide" else 12)
    X = rng.standard_normal((n, d)) * 2.0 ** rng.integers(-3, 3, d)
    if kind != "dense":
        X[rng.random((n, d)) > (0.004 if kind == "wide" else 0.3)] = 0
    y = (X @ rng.standard_normal((d, n_classes)) + 2 * rng.standard_normal((n, n_classes))).argmax(axis=1)
    X = X.astype(np.float32 if kind == "float32" else np.float64)
    return X if kind == "dense" else scipy.sparse.csr_array(X), y


def same(a, b):
    """Attributes of two models, seconds and what counts from the last fit's start aside."""
    for name in ("coef_", "intercept_"):
        assert getattr(a, name).dtype == getattr(b, name).dtype
        assert getattr(a, name).tobytes() == getattr(b, name).tobytes(), name
    assert (a.objective_, a.grad_norm_) == (b.objective_, b.grad_norm_)
    same_state(a.optimizer_state_, b.optimizer_state_)


def same_state(a, b, key=""):
    assert type(a) is type(b), key
    if isinstance(a, dict):
        assert a.keys() == b.keys(), key
        for name in a:
            if name not in ("row", "best_row"):
                same_state(a[name], b[name], name)
    elif isinstance(a, np.ndarray):
        assert a.dtype == b.dtype, key
        assert a.tobytes() == b.tobytes(), key
    else:
        assert a == b, key


def check(kind, way, path, *, n_classes=2, k=3, **options):
    X, y = data(kind, n_classes)
    options = {"tol": 0.0, "random_state": 0, "C": 3.0, "warm_start": True} | options
    whole = LogisticRegression(max_iter=2 * k, **options).fit(X, y)
    model = LogisticRegression(max_iter=k, **options).fit(X, y)
    half = model.coef_.copy()
    model = WAYS[way](model, path).fit(X, y)
    assert model.n_iter_.tolist() == [k]
    assert (half != model.coef_).any() or (half == whole.coef_).all()
    same(model, whole)
    return model


@pytest.mark.parametrize("kind", ["dense", "csr", "float32", "wide"])
@pytest.mark.parametrize("rate", ["auto", 0.02])
@pytest.mark.parametrize("rule", OPTIMIZERS)
def test_every_rule(rule, rate, kind, tmp_path):
    way = [*WAYS][len(rule + kind) % len(WAYS)]
    batch_size = {"dense": 7, "csr": 1, "float32": 32, "wide": 1}[kind]
    check(kind, way, tmp_path, solver=rule, learning_rate=rate, batch_size=batch_size)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["dense", "wide"])
@pytest.mark.parametrize("rule", ["sgd", "nesterov", "adam", "ftrl", "schedule_free_adamw"])
def test_three_classes_after_the_rate_was_changed(rule, kind, way, tmp_path):
    model = check(kind, way, tmp_path, n_classes=3, k=12, solver=rule, batch_size=5)
    run = model.optimizer_state_["run"]
    assert (run["scale"] != 1 and run["length"] > 1) or rule != "sgd"


RULES = {
    "average": Adam(0.01, ema_momentum=0.9),
    "average of momentum": SGD("auto", momentum=0.9, ema_momentum=0.95),
    "decay": SGD(0.05, momentum=0.5, decay=0.01),
    "weight decay": optimizers.AdamW(0.01, weight_decay=0.1),
    "clipped": SGD(0.1, clipnorm=0.5),
    "lambda's like": SGD(step_rate),
    **{name: Adam(schedule()) for name, schedule in schedules.SCHEDULES.items()},
    "momentum, cosine": SGD(schedules.Cosine(0.05, decay_steps=40, restarts=True, period_factor=2.0), momentum=0.9),
    "schedule-free, warm-up": optimizers.ScheduleFreeSGD(0.1, warmup_steps=30),
}


@pytest.mark.parametrize("kind", ["dense", "wide"])
@pytest.mark.parametrize("rule", RULES)
def test_averages_schedules_and_options(rule, kind, tmp_path):
    way = "pickle" if rule == "lambda's like" else "save"  # files hold the schedules that are fastopt's own
    check(kind, way, tmp_path, solver=RULES[rule], batch_size=4)


@pytest.mark.parametrize("rule", ["gd", "momentum", "adam", "schedule_free_sgd"])
@pytest.mark.parametrize("kind", ["dense", "csr"])
def test_full_batches(rule, kind, tmp_path):
    check(kind, "save", tmp_path, solver=rule, batch_size="full", k=20)


@pytest.mark.parametrize(
    "random_state",
    [np.random.RandomState, np.random.default_rng, lambda seed: np.random.Generator(np.random.Philox(seed))],
)
@pytest.mark.parametrize("way", WAYS)
def test_the_order_goes_on(random_state, way, tmp_path):
    X, y = data("dense")
    options = {"solver": "adam", "batch_size": 1, "tol": 0.0, "warm_start": True}
    whole = LogisticRegression(max_iter=4, random_state=random_state(5), **options).fit(X, y)
    model = LogisticRegression(max_iter=2, random_state=random_state(5), **options).fit(X, y)
    same(WAYS[way](model, tmp_path).fit(X, y), whole)


@pytest.mark.parametrize(("kind", "tol", "lower"), [("dense", 5e-2, 2e-3), ("csr", 3e-2, 5e-3)])
def test_a_lower_tol_later(kind, tol, lower, tmp_path):
    """Converged by one tol, then on to a lower one: as with the lower one at once."""
    X, y = data(kind)
    options = {"solver": "adam", "max_iter": 500, "random_state": 0, "warm_start": True, "C": 0.1}
    whole = LogisticRegression(tol=lower, **options).fit(X, y)
    model = LogisticRegression(tol=tol, **options).fit(X, y)
    assert model.converged_
    first = model.n_iter_[0]
    assert 0 < first < whole.n_iter_[0] < 500
    model = saved(model, tmp_path).set_params(tol=lower).fit(X, y)
    assert model.n_iter_[0] + first == whole.n_iter_[0]
    same(model, whole)
    again = model.fit(X, y)
    assert again.n_iter_.tolist() == [0]
    same(again, whole)


def test_where_an_epoch_is_undone():
    """A learning rate that is far too large: cut by the guard, in the first run, before or after the break."""
    X, y = data("dense")
    options = {"solver": SGD(30.0), "batch_size": 3, "tol": 0.0, "random_state": 0, "warm_start": True}
    whole = LogisticRegression(max_iter=6, **options).fit(X, y)
    assert whole.optimizer_state_["run"]["scale"] < 1
    model = LogisticRegression(max_iter=1, **options)
    for _ in range(6):
        model.fit(X, y)
    same(model, whole)


def test_many_breaks_of_all_kinds(tmp_path):
    X, y = data("wide", 3)
    options = {"solver": "nadam", "tol": 0.0, "random_state": 1, "warm_start": True, "batch_size": 2}
    whole = LogisticRegression(max_iter=12, **options).fit(X, y)
    model = LogisticRegression(**options)
    for i, k in enumerate([1, 1, 2, 5, 3]):
        model = [*WAYS.values()][i % 3](model.set_params(max_iter=k).fit(X, y), tmp_path)
    same(model, whole)


# --- solvers that are no update rules ---------------------------------------------------------------------------------

SOLVERS = pytest.mark.parametrize("solver", ["sdca", "saga", "lbfgs", "newton", "newton-cg", "auto"])


@SOLVERS
@pytest.mark.parametrize("kind", ["dense", "csr", "float32"])
@pytest.mark.parametrize("k", [1, 3, 4, 8])
@pytest.mark.parametrize("l1_ratio", [0.0, 0.5])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_solvers_go_on(solver, kind, k, l1_ratio, n_classes, tmp_path):
    """Through measurements that the first run made at its end alone, as well (k = 1, 3)."""
    if l1_ratio and solver == "sdca":
        pytest.skip("takes no L1")
    if n_classes == 3 and solver not in ("sdca", "saga"):
        pytest.skip("what else is written down for several classes is L-BFGS's alone")
    way, options = [*WAYS][k % 3], {"solver": solver, "C": 0.3, "l1_ratio": l1_ratio, "tol": 1e-9}
    X, y = data(kind, n_classes)
    options |= {"random_state": 0, "warm_start": True}
    whole = LogisticRegression(max_iter=2 * k, **options).fit(X, y)
    model = LogisticRegression(max_iter=k, **options).fit(X, y)
    epochs, rows = model.n_iter_[0], len(model.history_["epoch"])
    model = WAYS[way](model, tmp_path).fit(X, y)
    assert epochs + model.n_iter_[0] == whole.n_iter_[0]
    assert (model.solver_, model.stop_reason_) == (whole.solver_, whole.stop_reason_)
    for name in ("coef_", "intercept_"):
        assert getattr(model, name).tobytes() == getattr(whole, name).tobytes(), name
    assert (model.objective_, model.grad_norm_) == (whole.objective_, whole.grad_norm_)
    history = model.history_
    assert history["epoch"][0] == 0
    assert rows + len(history["epoch"]) >= len(whole.history_["epoch"])
    for name in ("objective", "grad_norm"):
        later = history["epoch"] > 0
        expected = whole.history_[name][np.isin(whole.history_["epoch"], history["epoch"][later] + epochs)]
        np.testing.assert_array_equal(history[name][later], expected)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("k", [4, 8, 10, 16])
def test_sdca_goes_on_from_its_last_epoch_where_f_rose(k, n_classes, tmp_path):
    """Not from the best parameters, which it returns."""
    X, y = data("dense", n_classes)
    options = {"solver": "sdca", "C": 1.0, "tol": 1e-9, "random_state": 0, "warm_start": True}
    whole = LogisticRegression(max_iter=2 * k, **options).fit(X * 1e3, y)
    assert (np.diff(whole.history_["objective"]) > 0).any()
    for way in WAYS.values():
        model = LogisticRegression(max_iter=k, **options).fit(X * 1e3, y)
        again = way(model, tmp_path).fit(X * 1e3, y)
        for name in ("coef_", "intercept_"):
            assert getattr(again, name).tobytes() == getattr(whole, name).tobytes(), name
        assert (again.objective_, again.grad_norm_) == (whole.objective_, whole.grad_norm_)
        assert again.history_["objective"][-1] == again.objective_


@SOLVERS
def test_several_breaks_of_a_solver(solver, tmp_path):
    X, y = data("csr")
    options = {"solver": solver, "C": 0.3, "tol": 1e-9, "random_state": np.random.default_rng(1), "warm_start": True}
    whole = LogisticRegression(max_iter=9, **options).fit(X, y)
    model = LogisticRegression(**options | {"random_state": np.random.default_rng(1)})
    for i, k in enumerate([1, 2, 1, 5]):
        model = [*WAYS.values()][i % 3](model.set_params(max_iter=k).fit(X, y), tmp_path)
    assert model.coef_.tobytes() == whole.coef_.tobytes()
    again = model.set_params(tol=1.0).fit(X, y)
    assert (again.n_iter_[0], again.stop_reason_) == (0, "tol")
    assert again.coef_.tobytes() == whole.coef_.tobytes()


def test_solvers_of_a_model_that_is_not_to_go_on_leave_nothing():
    X, y = data("csr")
    for solver in ("sdca", "saga", "lbfgs", "newton", "newton-cg", "auto"):
        assert LogisticRegression(solver=solver, random_state=0).fit(X, y).optimizer_state_ == {}


@SOLVERS
@pytest.mark.parametrize("change", ["C", "rows", "coefficients", "dtype"])
def test_solvers_start_from_the_coefficients_of_another_problem(solver, change):
    X, y = data("dense")
    options = {"solver": solver, "tol": 1e-9, "random_state": 0, "warm_start": True, "max_iter": 3}
    model = LogisticRegression(**options).fit(X, y)
    if change == "C":
        model.C = 0.5
    elif change == "rows":
        X, y = X[:-1], y[:-1]
    elif change == "dtype":
        X = X.astype(np.float32)
    else:
        model.coef_ = model.coef_ * 0.5
    bare = LogisticRegression(**model.get_params())
    for name in ("coef_", "intercept_", "classes_", "n_features_in_"):
        setattr(bare, name, np.copy(getattr(model, name)))
    same_state(model.fit(X, y).history_["objective"], bare.fit(X, y).history_["objective"])
    assert model.coef_.tobytes() == bare.coef_.tobytes()


GARBAGE = [None, -1, 0.0, 10**400, 2**60, float("nan"), "x", [1], {}, np.zeros(3), np.full((2, 5), np.nan)]


@pytest.mark.parametrize(
    ("solver", "n_classes"),
    [("sdca", 2), ("sdca", 3), ("saga", 2), ("saga", 3), ("lbfgs", 2), ("newton", 2), ("newton-cg", 2), ("auto", 2)],
)
def test_a_solvers_state_that_makes_no_sense(solver, n_classes):
    X, y = data("dense", n_classes)
    options = {"solver": solver, "tol": 1e-9, "random_state": 0, "warm_start": True, "max_iter": 3}
    state = LogisticRegression(**options).fit(X, y).optimizer_state_
    for name in state["run"]:
        for value in GARBAGE:
            model = LogisticRegression(**options).fit(X, y)
            model.optimizer_state_["run"][name] = value
            assert np.isfinite(model.fit(X, y).coef_).all(), (name, value)
    history = {"epoch": 1, "names": ["x"], "history": {}}
    for value in (None, 1, {}, history, history | {"names": [], "history": {"a": 1}}, history | {"epoch": -1}):
        model = LogisticRegression(**options).fit(X, y)
        model.optimizer_state_["before"] = value
        assert np.isfinite(model.fit(X, y).coef_).all(), value


@pytest.mark.parametrize(
    "rows",
    [
        [[0, 0, 1, 1, 0]], np.zeros(5), np.zeros((0, 5)), np.zeros((1, 6)), np.zeros((1, 5), np.float32),
        np.ones((1, 5)), np.outer([0, 2, 1], np.ones(5)), np.outer([0, 4], np.ones(5)), np.full((1, 5), np.nan),
    ],
)  # fmt: skip
def test_measurements_that_make_no_sense(rows):
    """They are those of epochs 0 to the last, in order, five numbers each."""
    run = {"solver": "saga", "epoch": 3, "rows": np.outer([0, 2, 3], np.ones(5))}
    assert resume.told_of({"run": run}) == {"run": run}
    assert resume.told_of({"run": run | {"rows": rows}}) == {}


@pytest.mark.parametrize("size", [0, 300, 1 << 28])
def test_lbfgs_makes_again_what_its_log_cannot_hold(size, monkeypatch):
    X, y = data("dense")
    options = {"solver": "lbfgs", "tol": 1e-9, "warm_start": True}
    whole = LogisticRegression(max_iter=12, **options).fit(X, y)
    monkeypatch.setattr(resume_lbfgs, "LOG_BYTES", size)
    model = LogisticRegression(max_iter=6, **options).fit(X, y)
    log = model.optimizer_state_["run"]["log"]
    assert log.nbytes <= size
    passes, function = [], Objective.smooth_value_and_gradient
    monkeypatch.setattr(Objective, "smooth_value_and_gradient", lambda self, w: passes.append(1) or function(self, w))
    model.fit(X, y)
    assert model.coef_.tobytes() == whole.coef_.tobytes()
    assert (len(passes) < 8) == (size > 10_000)  # of at least 12


# --- what no longer fits ----------------------------------------------------------------------------------------------


def fitted(**options):
    X, y = data("dense")
    options = {"solver": "adam", "max_iter": 2, "tol": 0.0, "random_state": 0, "warm_start": True} | options
    return LogisticRegression(**options).fit(X, y), X, y


def started(model):
    """Whether the run began with the state of the one before: counted in steps."""
    return int(model.optimizer_state_["t"]) > 2 * 3


def test_other_rows_keep_the_rules_state_alone():
    model, X, y = fitted()
    value = model.objective_
    run = model.optimizer_state_["run"]
    model.fit(X[:100], y[:100])
    assert started(model)
    after = model.optimizer_state_["run"]
    assert after["start"] != run["start"]
    assert model.history_["objective"][0] != value
    assert after["start"] == model.history_["objective"][0]


@pytest.mark.parametrize(
    "change",
    [
        lambda model, X, y: (model.set_params(solver="sgd"), X, y),
        lambda model, X, y: (model.set_params(fit_intercept=False), X, y),
        lambda model, X, y: (model, X.astype(np.float32), y),
        lambda model, X, y: (setattr(model, "coef_", model.coef_ + 1) or model, X, y),
        lambda model, X, y: (setattr(model, "optimizer_state_", {"t": 6}) or model, X, y),
        lambda model, X, y: (model.optimizer_state_["run"].pop("returned") and model, X, y),
    ],
    ids=["rule", "intercept", "dtype", "coefficients", "state", "less of it"],
)
def test_coefficients_are_kept_where_the_state_does_not_fit(change):
    model, X, y = fitted()
    model, X, y = change(model, X, y)
    model.set_params(max_iter=1)
    coef, intercept = np.array(model.coef_), np.array(model.intercept_)
    model.fit(X, y)
    assert model.optimizer_state_["t"] == -(-150 // 32)
    expected = LogisticRegression(**model.get_params())
    expected.fit(X, y)
    assert model.history_["objective"][0] != expected.history_["objective"][0]
    judged = LogisticRegression(**model.get_params() | {"tol": 1e9}).fit(X, y)
    judged.coef_, judged.intercept_ = coef, intercept
    assert model.history_["objective"][0] == pytest.approx(judged.fit(X, y).objective_, rel=1e-6)


@pytest.mark.parametrize("after", ["sgd", "momentum", "nesterov", "adam"])
def test_another_rule_of_the_same_class_starts_from_the_coefficients(after):
    """Those returned are not those of the last step, whose F is higher."""
    rng = np.random.default_rng(1)
    X = rng.standard_normal((60, 4))
    y = (X @ rng.standard_normal(4) + 0.5 * rng.standard_normal(60) > 0).astype(int)
    options = {"l1_ratio": 0.5, "C": 0.1, "max_iter": 3, "batch_size": 3, "tol": 1e-9, "random_state": 0}
    model = LogisticRegression(solver="nesterov", warm_start=True, **options).fit(X, y)
    coef, intercept = model.coef_.copy(), model.intercept_.copy()
    assert (model.optimizer_state_["run"]["w"][:4, 0] != coef[0]).any()
    model.set_params(solver=after, max_iter=0).fit(X, y)
    np.testing.assert_array_equal(model.coef_, coef)
    np.testing.assert_array_equal(model.intercept_, intercept)
    assert (model.optimizer_state_["t"] > 0) == (after == "nesterov")


@pytest.mark.parametrize(
    "change", [lambda X, y: (X[:, :7], y), lambda X, y: (X, y + 1), lambda X, y: (X, np.arange(len(y)) % 3)]
)
def test_other_features_or_classes_start_anew(change):
    model, X, y = fitted()
    X, y = change(X, y)
    model.fit(X, y)
    cold = LogisticRegression(**model.get_params() | {"warm_start": False}).fit(X, y)
    same(model, cold)


def test_after_lbfgs_and_sparsify():
    model, X, y = fitted(learning_rate=0.001)
    t = model.n_iter_[0] * -(-len(y) // 32)
    model.set_params(solver="lbfgs").fit(X, y)
    assert model.optimizer_state_["run"]["solver"] == "lbfgs"
    model.set_params(solver="adam").fit(X, y)
    assert model.optimizer_state_["t"] == t
    model.sparsify().fit(X, y)
    assert model.optimizer_state_["t"] == 2 * t
    model.coef_ = model.coef_ + 0.0


@pytest.mark.parametrize("change", [{"C": 100.0}, {"learning_rate": 1.0}, {"batch_size": 5}])
@pytest.mark.parametrize("max_iter", [0, 2])
def test_another_problem_ends_no_worse_than_the_last_one(change, max_iter):
    """Epochs go on where the last fit's ended, which may be far from the parameters that it returned."""
    X, y = data("dense")
    options = {"solver": "sgd", "learning_rate": 2.0, "batch_size": 3, "tol": 0.0, "random_state": 0, "C": 1.0} | change
    model = LogisticRegression(warm_start=True, max_iter=6).set_params(**options | {"C": 1.0, "learning_rate": 2.0})
    run = model.fit(X, y).optimizer_state_["run"]
    assert run["best"] is None  # the best epoch was not the last
    assert run["row"][2] > 1.001 * run["best_row"][2]
    before = LogisticRegression(solver="lbfgs", max_iter=0, warm_start=True, C=options["C"])
    before.classes_, before.coef_, before.intercept_ = model.classes_, model.coef_, model.intercept_
    before.fit(X, y)
    model.set_params(max_iter=max_iter, **options).fit(X, y)
    assert model.objective_ <= before.objective_
    assert model.history_["objective"][-1] == model.objective_
    if not max_iter:
        np.testing.assert_array_equal(model.coef_, before.coef_)
        assert model.history_["epoch"].tolist() == [0, run["best_row"][0] - run["row"][0]]
        tol = 1.001 * before.grad_norm_
        assert model.set_params(tol=tol).fit(X, y).converged_
        assert model.grad_norm_ <= tol < model.history_["grad_norm"][0]


@pytest.mark.parametrize("solver", ["newton", "lbfgs", "newton-cg"])
def test_parameters_that_were_not_rounded_have_converged_still(solver):
    """To float32 it would have cost convergence: the next fit has nothing to do, and its history says so."""
    X, y = data("float32")
    model = LogisticRegression(solver=solver, tol=1e-9, max_iter=300, warm_start=True).fit(X, y)
    assert model.coef_.dtype == np.float64
    coef = model.coef_
    model.fit(X, y)
    assert model.converged_
    assert model.history_["grad_norm"][-1] == model.grad_norm_ <= 1e-9
    assert model.history_["objective"][-1] == model.objective_
    if model.n_iter_[0] == 0:
        np.testing.assert_array_equal(model.coef_, coef)


def test_another_learning_rate_keeps_the_moments():
    model, X, y = fitted(learning_rate=0.01)
    model.set_params(learning_rate=0.001).fit(X, y)
    assert started(model)
    assert model.history_["learning_rate"][1] == 0.001


@pytest.mark.parametrize(
    "name", ["scale", "row", "best_row", "w", "settings", "random", "start", "rises", "best", "rule"]
)
@pytest.mark.parametrize("value", [None, -1, 10**400, "x", [1], {}, np.zeros(3), np.float32(-2)], ids=repr)
def test_a_state_that_makes_no_sense_is_no_state(name, value):
    model, X, y = fitted()
    model.optimizer_state_["run"][name] = value
    model.fit(X, y)
    assert np.isfinite(model.coef_).all()


@pytest.mark.parametrize(
    ("bits", "place"), [(np.random.MT19937, ("state", "pos")), (np.random.Philox, ("buffer_pos",))]
)
def test_positions_beyond_a_generators_numbers(bits, place):
    """NumPy would read them."""
    state = resume.random_numbers(np.random.Generator(bits(0)))
    assert resume.generator({"run": {"random": state}}) is not None
    inner = functools.reduce(dict.__getitem__, place[:-1], state)
    for bad in (-1, 625, 10**6, "1", None):
        inner[place[-1]] = bad
        assert resume.generator({"run": {"random": state}}) is None


def test_iris_to_the_end():
    """As users do it: fits of ten epochs until it has converged."""
    X, y = load_iris(return_X_y=True)
    X = scale(X)
    options = {"solver": "adam", "tol": 1e-3, "random_state": 0}
    whole = LogisticRegression(max_iter=1000, **options).fit(X, y)
    assert whole.n_iter_[0] > 30
    model = LogisticRegression(max_iter=10, warm_start=True, **options)
    epochs = 0
    while epochs < 1000 and not (epochs and model.converged_):
        epochs += model.fit(X, y).n_iter_[0]
    assert epochs == whole.n_iter_[0]
    same(model, whole)


@pytest.mark.parametrize("bits", [np.random.MT19937, np.random.PCG64DXSM, np.random.Philox, np.random.SFC64])
@pytest.mark.parametrize("n", [10, 3000, 20_000])
def test_states_that_were_marked_are_found_again(bits, n):
    for rng in (np.random.Generator(bits(0)), np.random.RandomState(bits(0))):
        draws = resume.Draws(rng, lambda rng: rng.permutation(n), n)
        states, marks, orders = [resume.random_numbers(rng)], [draws.mark()], []
        for _ in range(25):
            orders.append(draws.order())
            states.append(resume.random_numbers(rng))
            marks.append(draws.mark())
        assert len({id(written) for written, _ in marks}) < 26 or n > 10_000
        for mark, state in zip(marks, states, strict=True):
            np.testing.assert_equal(draws.numbers(mark), state)
        again = resume.generator({"run": {"random": draws.numbers(marks[13])}})
        np.testing.assert_array_equal(again.permutation(n), orders[13])


def test_states_of_an_unknown_kind_are_written_down_each_time():
    class Unknown(np.random.PCG64):
        pass

    rng = np.random.Generator(Unknown(0))
    draws = resume.Draws(rng, lambda rng: rng.permutation(10), 10)
    before, order, after = draws.mark(), draws.order(), draws.mark()
    assert len(order) == 10
    assert draws.numbers(before) != draws.numbers(after)
    assert draws.numbers(after) == resume.random_numbers(rng)
