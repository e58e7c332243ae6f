"""`fastopt.fit` of the SGD estimators, of LogisticRegression's solvers and its path: kills leave the same bits."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import scipy.sparse
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import scale

import fastopt
from fastopt import LogisticRegression, LogisticRegressionCV, SGDClassifier, SGDRegressor, model_file
from fastopt.linear_model._base import Progress
from fastopt.optimizers import Adam
from fastopt.solvers import auto
from fastopt.solvers.epochs import Epochs
from fastopt.solvers.monitor import Checks

IGNORE = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
NEW = {"l1_ratios": (0, 0.5), "scoring": "accuracy", "use_legacy_attributes": False}


def data(model, layout="dense"):
    X, y = load_iris(return_X_y=True)
    X = scale(X)
    if isinstance(model, SGDRegressor):
        y = load_diabetes(return_X_y=True)[1][: len(X)] / 100
    return (X if layout == "dense" else scipy.sparse.csr_array(X)), y


def same(a, b, where=""):
    """Equal to the bit, but for what clocks say, and the numbers that a generator gave before it was killed."""
    assert type(a) is type(b), where
    if isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a.keys() - {"seconds", "row", "best_row", "random_state"}:
            same(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, np.ndarray):
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes()), where
    elif isinstance(a, np.random.RandomState):
        same(a.get_state(legacy=False), b.get_state(legacy=False), where)
    else:
        assert a == b or (a != a and b != b), where


class Killed(Exception):
    """Stands for a SIGKILL right after a writing."""


def fit_with_kills(model, X, y, path, monkeypatch, *, every, **options):
    """Kills the fit after each so many writings until one ends; the model, and how often it was killed."""
    write, kills = model_file._write, 0

    def writing(model, path, extra):
        nonlocal count
        write(model, path, extra)
        count += 1
        if count == every and not extra.get("ended"):
            raise Killed

    while True:
        count = 0
        with monkeypatch.context() as patch:
            patch.setattr(model_file, "_write", writing)
            try:
                return fastopt.fit(clone(model), X, y, checkpoint=path, **options), kills
            except Killed:
                kills += 1
                assert kills < 200, "it does not go on"
                fastopt.load(path).get_params()  # a model's file at any time


CASES = {
    "classes by themselves": SGDClassifier(random_state=0),
    "averages": SGDClassifier("log_loss", average=10, random_state=0),
    "early stopping": SGDClassifier(early_stopping=True, validation_fraction=0.3, random_state=0),
    "adaptive rates": SGDClassifier(learning_rate="adaptive", eta0=0.1, max_iter=40, random_state=0),
    "truncated L1": SGDClassifier(penalty="l1", random_state=np.random.RandomState(5)),
    "cycles": SGDClassifier("log_loss", optimizer="adam", learning_rate="auto", batch_size=7, random_state=0),
    "halvings": SGDClassifier("log_loss", optimizer="ftrl", batch_size=7, max_iter=40, tol=None, random_state=0),
    "halvings and means": SGDClassifier(
        "log_loss", average=True, learning_rate="auto", max_iter=40, tol=1e-9, random_state=0
    ),
    "two points": SGDClassifier("log_loss", optimizer="gd", max_iter=40, tol=1e-5, random_state=0),
    "two points of all": SGDClassifier("multinomial", optimizer="gd", max_iter=20, tol=None, random_state=0),
    "ftrl": SGDClassifier(optimizer="ftrl", early_stopping=True, max_iter=30, random_state=0),
    "softmax": SGDClassifier("multinomial", optimizer="schedule_free_sgd", random_state=0),
    "class weights": SGDClassifier(class_weight={0: 2.0}, optimizer=Adam(0.01), max_iter=12, random_state=0),
    "rates that are cut": SGDClassifier(
        "squared_error", learning_rate="constant", eta0=1e8, max_iter=30, random_state=0
    ),
    "rates that are cut for what came of them": SGDRegressor(
        learning_rate="constant", eta0=0.9, max_iter=6, random_state=0
    ),
    "regression": SGDRegressor("huber", optimizer="nesterov", learning_rate="auto", random_state=0),
    "pa1": SGDRegressor("epsilon_insensitive", learning_rate="pa1", max_iter=9, random_state=0),
}  # fmt: skip


@IGNORE
@pytest.mark.parametrize("layout", ["dense", "csr"])
@pytest.mark.parametrize("case", CASES)
def test_epochs_go_on(case, layout, tmp_path, monkeypatch):
    model = CASES[case]
    X, y = data(model, layout)
    whole = clone(model).fit(X, y)
    parted, kills = fit_with_kills(model, X, y, tmp_path / "file", monkeypatch, every=3, epochs=1)
    assert kills
    same(vars(whole), vars(parted))
    read = fastopt.load(tmp_path / "file")
    same(vars(whole), vars(read))
    if not model.early_stopping:
        same(vars(whole.partial_fit(X, y)), vars(read.partial_fit(X, y)))


def binary(layout="dense"):
    """Columns of different scales, on so many rows that "newton" begins with samples."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((9000, 8)) * 10.0 ** rng.integers(-2, 2, 8)
    y = X / X.std(axis=0) @ rng.standard_normal(8) + rng.standard_normal(9000) > 0
    return {"dense": X, "csr": scipy.sparse.csr_array(X), "float32": X.astype(np.float32)}[layout], y


SOLVERS = {
    "sdca": {"C": 0.01}, "saga": {}, "saga ": {"l1_ratio": 0.5, "C": 0.1}, "lbfgs": {},
    "lbfgs ": {"l1_ratio": 0.5, "C": 0.1}, "newton": {}, "newton-cg": {}, "auto": {}, "liblinear": {"C": 1e-3},
}  # fmt: skip


@IGNORE
@pytest.mark.parametrize("layout", ["dense", "csr", "float32"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_solvers_go_on(solver, layout, tmp_path, monkeypatch):
    """With history, count of iterations and all: nothing tells of the kills."""
    X, y = binary(layout)
    options = {"solver": solver.strip(), "tol": 1e-9, "max_iter": 40, "random_state": 0} | SOLVERS[solver]
    model = LogisticRegression(**options)
    whole = clone(model).fit(X, y)
    parted, kills = fit_with_kills(model, X, y, tmp_path / "file", monkeypatch, every=2, epochs=1)
    assert kills
    same(vars(whole), vars(parted))
    same(vars(whole), vars(fastopt.load(tmp_path / "file")))
    more = clone(model).set_params(max_iter=60, verbose=0)
    same(vars(clone(more).fit(X, y)), vars(fastopt.fit(more, X, y, checkpoint=tmp_path / "file")))


@IGNORE
@pytest.mark.parametrize(
    ("solver", "layout", "shape", "n_classes"),
    [
        ("newton", "dense", (40, 200), 2), ("newton", "float32", (40, 200), 2), ("newton-cg", "dense", (120, 300), 4),
        ("newton", "csr", (40, 200), 2), ("sdca+newton-cg", "csr", (160, 320), 2),
    ],
)  # fmt: skip
def test_few_rows_of_many_columns_go_on(solver, layout, shape, n_classes, tmp_path, monkeypatch):
    """In the span of the rows, and out of it again."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal(shape) * 10.0 ** rng.integers(-2, 2, shape[1]) + 3
    X = {"dense": X, "csr": scipy.sparse.csr_array(X), "float32": X.astype(np.float32)}[layout]
    y = rng.integers(0, n_classes, shape[0])
    model = LogisticRegression(tol=1e-8, max_iter=60, random_state=0)
    whole = clone(model).fit(X, y)
    assert whole.solver_ == solver
    parted, kills = fit_with_kills(model, X, y, tmp_path / "file", monkeypatch, every=2, epochs=1)
    assert kills
    same(vars(whole), vars(parted))
    same(vars(whole), vars(fastopt.load(tmp_path / "file")))
    half = LogisticRegression(tol=1e-8, max_iter=2, random_state=0, warm_start=True).fit(X, y)
    same(half.set_params(max_iter=58).fit(X, y).coef_, whole.coef_)


@IGNORE
def test_one_solver_after_another_goes_on(tmp_path, monkeypatch):
    X, y = binary()
    monkeypatch.setattr(auto, "choose", lambda objective: ["saga", "lbfgs"])
    monkeypatch.setattr(Checks, "stalled", property(lambda self: self.next >= 16))
    model = LogisticRegression(tol=1e-7, random_state=0)
    whole = clone(model).fit(X, y)
    assert whole.solver_ == "saga+lbfgs"
    parted, kills = fit_with_kills(model, X, y, tmp_path / "file", monkeypatch, every=3, epochs=1)
    assert kills > 3
    same(vars(whole), vars(parted))
    half = LogisticRegression(tol=1e-7, random_state=0, warm_start=True, max_iter=12).fit(X, y)
    assert half.n_iter_[0] + half.set_params(max_iter=100).fit(X, y).n_iter_[0] == whole.n_iter_[0]
    same(half.coef_, whole.coef_)


@IGNORE
def test_several_classes_and_weights_go_on(tmp_path, monkeypatch):
    X, y = data(None)
    s = np.random.default_rng(0).integers(0, 3, len(y)).astype(float)
    for solver in ("lbfgs", "newton", "newton-cg"):
        model, path = LogisticRegression(solver=solver, class_weight="balanced", tol=1e-7), tmp_path / solver
        whole = clone(model).fit(X, y, s)
        parted, kills = fit_with_kills(model, X, y, path, monkeypatch, every=1, epochs=1, sample_weight=s)
        assert kills
        same(vars(whole), vars(parted))


@IGNORE
@pytest.mark.parametrize("solver", ["sdca", "saga", "lbfgs", "newton", "newton-cg"])
def test_a_solvers_file_is_a_model_at_any_time(solver, tmp_path, monkeypatch):
    """F and its gradient's norm are those of the coefficients."""
    X, y = binary("float32")
    path, seen, write = tmp_path / "file", [], model_file._write

    def writing(model, path, extra):
        write(model, path, extra)
        so_far = fastopt.load(path)
        judged = LogisticRegression(warm_start=True, max_iter=0, tol=0.0, C=so_far.C)
        judged.coef_, judged.intercept_, judged.classes_ = so_far.coef_, so_far.intercept_, so_far.classes_
        seen.append((so_far.objective_, judged.fit(X, y).objective_, so_far.score(X, y)))

    monkeypatch.setattr(model_file, "_write", writing)
    fastopt.fit(LogisticRegression(solver=solver, C=0.01, random_state=0), X, y, checkpoint=path, epochs=1)
    told, judged, scores = np.array(seen).T
    np.testing.assert_allclose(told, judged, rtol=1e-6)
    assert scores[-1] > 0.8


@IGNORE
@pytest.mark.parametrize("solver", ["sdca", "saga", "lbfgs", "newton", "newton-cg"])
def test_ctrl_c_writes_where_a_solver_was(solver, tmp_path, monkeypatch):
    X, y = binary()
    path, model = tmp_path / "file", LogisticRegression(solver=solver, C=0.01, tol=1e-9, max_iter=30, random_state=0)
    tell, told = Progress.tell, []

    def telling(self, *rest):
        tell(self, *rest)
        told.append(1)
        if len(told) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "tell", telling)
        with pytest.raises(KeyboardInterrupt):
            fastopt.fit(model, X, y, checkpoint=path)
    assert model.stop_reason_ == "interrupted"
    assert fastopt.load(path).n_iter_ <= 3
    same(vars(fastopt.fit(clone(model), X, y, checkpoint=path)), vars(clone(model).fit(X, y)))


@IGNORE
def test_ctrl_c_before_a_slices_first_epoch_leaves_the_last_slice(tmp_path, monkeypatch):
    X, y = binary()
    path, model = tmp_path / "file", LogisticRegression(solver="adam", tol=0.0, max_iter=6, random_state=0)
    fit, calls = LogisticRegression.fit, []

    def interrupted(self, *data):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return fit(self, *data)

    with monkeypatch.context() as patch:
        patch.setattr(LogisticRegression, "fit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fastopt.fit(model, X, y, checkpoint=path, epochs=2)
    for found in (model, fastopt.load(path)):
        assert (found.n_iter_.tolist(), found.history_["epoch"][:5].tolist()) == ([4], [0, 1, 2, 3, 4])
    same(vars(fastopt.fit(clone(model), X, y, checkpoint=path)), vars(clone(model).fit(X, y)))


@IGNORE
@pytest.mark.parametrize("targets", [2, 3])
def test_several_targets_go_on(targets, tmp_path, monkeypatch):
    """Each stops by itself."""
    model = SGDRegressor(random_state=0)
    X, y = data(model)
    y = np.stack([y, -np.sqrt(y), 0.01 * y], axis=1)[:, :targets]
    parted, kills = fit_with_kills(model, X, y, tmp_path / "file", monkeypatch, every=1, epochs=2)
    assert kills > 5
    same(vars(clone(model).fit(X, y)), vars(parted))


@IGNORE
@pytest.mark.parametrize("options", [
    {"solver": "adam"}, {"n_jobs": 2}, {"solver": "lbfgs", "refit": False}, {"use_legacy_attributes": True},
    {"solver": "sdca", "l1_ratios": (0,), "random_state": np.random.RandomState(7), "class_weight": "balanced"},
], ids=" ".join)  # fmt: skip
def test_paths_go_on(options, tmp_path, monkeypatch):
    model = LogisticRegressionCV(Cs=3, cv=3, max_iter=20, **NEW | {"random_state": 0} | options)
    X, y = data(model)
    if "sdca" in options.values():
        y = y > 0
    whole = clone(model).fit(X, y)
    parted, kills = fit_with_kills(model, X, y, tmp_path / "file", monkeypatch, every=2, epochs=2)
    assert kills
    same(vars(whole), vars(parted))
    same(vars(whole), vars(fastopt.load(tmp_path / "file")))


@IGNORE
def test_a_path_that_is_not_done_predicts_nothing(tmp_path, monkeypatch):
    model = LogisticRegressionCV(Cs=3, cv=3, **NEW)
    X, y = data(model)
    monkeypatch.setattr(LogisticRegressionCV, "_fit_best", lambda *rest: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fastopt.fit(model, X, y, checkpoint=tmp_path / "file", epochs=1)
    assert not hasattr(model, "coef_")
    with pytest.raises(ValueError, match="not fitted yet"):
        fastopt.load(tmp_path / "file").predict(X)


@IGNORE
def test_a_fit_that_has_ended_is_read_and_a_higher_max_iter_goes_on(tmp_path, monkeypatch):
    path, model = tmp_path / "file", SGDClassifier(max_iter=5, tol=None, random_state=0)
    X, y = data(model)
    first = fastopt.fit(clone(model), X, y, checkpoint=path)
    before, run, epochs = path.read_bytes(), Epochs.run, []

    def counted(self, *rest):
        epochs.append(1)
        run(self, *rest)

    monkeypatch.setattr(Epochs, "run", counted)
    same(vars(fastopt.fit(clone(model), X, y, checkpoint=path)), vars(first))
    assert not epochs
    assert path.read_bytes() == before
    longer = clone(model).set_params(max_iter=9)
    same(vars(fastopt.fit(clone(longer), X, y, checkpoint=path)), vars(clone(longer).fit(X, y)))
    assert len(epochs) == 4  # the fit without a checkpoint runs all of its epochs at once
    with pytest.raises(ValueError, match="where tol differ"):
        fastopt.fit(clone(longer).set_params(tol=0.1), X, y, checkpoint=path)
    path = tmp_path / "path"
    model = LogisticRegressionCV(Cs=2, cv=2, max_iter=3, **NEW)
    fastopt.fit(model, X, y, checkpoint=path)
    assert model_file._read(path)[1]["ended"]
    with pytest.raises(ValueError, match="where max_iter differ"):
        fastopt.fit(clone(model).set_params(max_iter=4), X, y, checkpoint=path)


@IGNORE
@pytest.mark.parametrize("first", [1, 40])
def test_a_fit_that_has_diverged_has_ended(first, tmp_path):
    """At so large a rate even the eighth cut does not help; another start's eight more would."""
    X, y = binary()
    model = LogisticRegression(solver="gd", learning_rate=1e6, C=0.01, max_iter=40, tol=1e-9, random_state=0)
    whole = clone(model).fit(X, y)
    assert whole.stop_reason_ == "diverged"
    fastopt.fit(clone(model).set_params(max_iter=first), X, y, checkpoint=tmp_path / "file")
    for _ in range(2):
        again = fastopt.fit(clone(model), X, y, checkpoint=tmp_path / "file")
        same(vars(again), vars(whole))


@IGNORE
def test_rates_that_were_cut_for_another_number_of_epochs(tmp_path):
    """What cut them, the objective after max_iter epochs, is another one: the fit starts anew."""
    model = CASES["rates that are cut for what came of them"]
    X, y = data(model)
    with pytest.warns(ConvergenceWarning, match="The iterates ran away"):
        fastopt.fit(clone(model), X, y, checkpoint=tmp_path / "file")
    longer = clone(model).set_params(max_iter=9)
    same(vars(fastopt.fit(clone(longer), X, y, checkpoint=tmp_path / "file")), vars(clone(longer).fit(X, y)))


@IGNORE
def test_ctrl_c_writes_the_last_epoch(tmp_path, monkeypatch):
    path, model = tmp_path / "file", SGDRegressor(max_iter=8, tol=None, random_state=0)
    X, y = data(model)
    run, calls = Epochs.run, []

    def interrupted(self, *rest):
        calls.append(1)
        run(self, *rest)
        if len(calls) == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Epochs, "run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fastopt.fit(model, X, y, checkpoint=path)
    assert (model.n_iter_, model.stop_reason_) == (3, "interrupted")
    same(vars(model), vars(fastopt.load(path)))
    same(vars(fastopt.fit(clone(model), X, y, checkpoint=path)), vars(clone(model).fit(X, y)))


SCRIPT = """
import sys
import numpy as np
import fastopt
from fastopt import LogisticRegression, LogisticRegressionCV, SGDClassifier

rng = np.random.default_rng(0)
X = rng.standard_normal((4000, 30))
y = (X @ rng.standard_normal((30, 3)) + rng.standard_normal((4000, 3))).argmax(axis=1)
model = {
    "SGDClassifier": SGDClassifier("log_loss", average=True, tol=None, max_iter=120, random_state=0),
    "LogisticRegressionCV": LogisticRegressionCV(
        Cs=6, cv=5, solver="adam", max_iter=4, tol=0.0, random_state=0, l1_ratios=(0.5,), scoring="accuracy",
        use_legacy_attributes=False,
    ),
}.get(sys.argv[1])
if model is None:
    X, y = np.tile(X, (10, 1)) * 2.0 ** rng.integers(-3, 3, 30), np.tile(y, 10) > 0
    model = LogisticRegression(solver=sys.argv[1], tol=1e-13, max_iter=150, random_state=0, l1_ratio=0.0, C=1e-3)
print("fitting", flush=True)
fastopt.fit(model, X, y, checkpoint=sys.argv[2], epochs=1)
print("fitted", flush=True)
"""


@IGNORE
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
@pytest.mark.parametrize("name", ["SGDClassifier", "LogisticRegressionCV", "sdca"])
def test_killed_for_real(name, tmp_path):
    found, path = {}, tmp_path / "file"
    argv, sys.argv = sys.argv, ["", name, str(path)]
    try:
        exec(SCRIPT.split("print")[0], found)
    finally:
        sys.argv = argv
    start = time.perf_counter()
    whole = found["model"].fit(found["X"], found["y"])
    seconds, kills = time.perf_counter() - start, 0
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    for _ in range(40):
        with subprocess.Popen(
            [sys.executable, "-u", "-W", "ignore", "-c", SCRIPT, name, path], stdout=subprocess.PIPE, text=True,
            env=environment,
        ) as child:  # fmt: skip
            assert child.stdout.readline() == "fitting\n"
            while not kills and not path.exists() and child.poll() is None:  # not before the first writing
                time.sleep(0.01)
            time.sleep(0.3 * kills * seconds)  # the first one at once: the machine may be faster than it was above
            child.kill()
            if child.stdout.read() == "fitted\n":
                break
        kills += 1
    assert kills
    same(vars(whole), vars(fastopt.load(path)))
