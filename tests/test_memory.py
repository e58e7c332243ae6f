"""Memory that runs out, memory that is held on to, and errors at odd moments: nothing is left half done."""

import copy
import gc
import itertools
import os
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

import fastopt
from fastopt import (
    LogisticRegression,
    LogisticRegressionCV,
    SGDClassifier,
    SGDRegressor,
    _parallel,
    minimize,
    model_file,
)
from fastopt.optimizers import OPTIMIZERS, Adam

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

SOLVERS = ["auto", "lbfgs", "newton", "newton-cg", "sdca", "saga", "gd", "sgd", "adam"]
MODELS = {
    **{name: LogisticRegression(solver=name, max_iter=3, random_state=0) for name in SOLVERS},
    "lasso": LogisticRegression(solver="newton", l1_ratio=1.0, max_iter=3),
    "classifier": SGDClassifier(max_iter=2, random_state=0),
    "averages": SGDClassifier(max_iter=2, average=True, random_state=0),
    "held out": SGDClassifier(max_iter=2, optimizer="adam", loss="log_loss", early_stopping=True, random_state=0),
    "regressor": SGDRegressor(max_iter=2, random_state=0),
}
LAYOUTS = ["dense", "csr"]


def data(layout, n=60, d=8):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, d)) * (rng.random((n, d)) < 0.6)
    return (sparse.csr_array(X) if layout == "csr" else X), np.arange(n) % 3


def new(name, **parameters):
    return copy.deepcopy(MODELS[name]).set_params(**parameters)


def bits(value):
    """All numbers of a model, a state or an array, but for times."""
    if isinstance(value, np.ndarray):
        return value.tolist() if value.dtype == object else (str(value.dtype), value.shape, value.tobytes())
    if sparse.issparse(value):
        return bits([value.data, value.indices, value.indptr])
    if isinstance(value, dict):
        return {k: bits(v) for k, v in value.items() if k not in ("seconds", "row", "rows", "best_row")}
    if isinstance(value, list | tuple):
        return [bits(v) for v in value]
    if isinstance(value, np.random.RandomState):
        return bits(value.get_state(legacy=False))
    return bits(vars(value)) if hasattr(value, "get_params") else repr(value)


# --- no memory --------------------------------------------------------------------------------------------------------

#: What takes memory for arrays.
ALLOCATES = ["empty", "zeros", "ones", "full", "empty_like", "zeros_like", "full_like", "array", "concatenate"]


class Scarce:
    """Memory that suffices for some arrays, and not for the next."""

    def __init__(self, monkeypatch):
        self.left = None
        for name in ALLOCATES:
            monkeypatch.setattr(np, name, self.counted(getattr(np, name)))

    def counted(self, function):
        def take(*args, **options):
            if self.left is not None:
                self.left -= 1
                if self.left == -1:
                    raise MemoryError("no more")
            return function(*args, **options)

        return take

    def run(self, call, n):
        """The result of the call when n arrays can be had; how many it took."""
        self.left = n
        try:
            return call()
        finally:
            self.taken, self.left = n - self.left, None


def each_failure(monkeypatch, make, call, state=bits, most=12):
    """Has up to `most` of a call's allocations fail: a MemoryError each time that changes nothing, and a call after it
    that ends as if nothing had been."""
    scarce = Scarce(monkeypatch)
    call(make())  # what is cached need not be had again
    subject = make()
    scarce.run(lambda: call(subject), sys.maxsize)
    taken, expected = scarce.taken, state(subject)
    assert taken > 0
    for n in sorted({int(k) for k in np.linspace(0, taken - 1, most)}):
        subject = make()
        before = state(subject)
        with pytest.raises(MemoryError, match="no more"):
            scarce.run(lambda it=subject: call(it), n)
        assert state(subject) == before, n
        call(subject)
        assert state(subject) == expected, n


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", MODELS)
def test_a_fit_without_memory(name, layout, monkeypatch):
    X, y = data(layout)
    given = bits([X, y])
    each_failure(monkeypatch, lambda: new(name), lambda model: model.fit(X, y))
    assert bits([X, y]) == given


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["classifier", "averages", "regressor"])
def test_an_epoch_more_without_memory(name, layout, monkeypatch):
    """The random numbers that later calls go on drawing are where they were."""
    X, y = data(layout)
    each_failure(monkeypatch, lambda: new(name).fit(X, y), lambda model: model.partial_fit(X, y))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("method", ["predict", "predict_proba", "predict_log_proba", "decision_function"])
def test_predictions_without_memory(method, layout, monkeypatch):
    X, y = data(layout)
    each_failure(monkeypatch, lambda: new("lbfgs").fit(X, y), lambda model: getattr(model, method)(X))


@pytest.mark.parametrize("rule", OPTIMIZERS)
def test_steps_without_memory(rule, monkeypatch):
    """Of sparse gradients: others take none."""
    rule, w = OPTIMIZERS[rule](learning_rate=0.01), np.arange(1.0, 9.0)
    g = np.array([1, 5]), np.array([0.5, -2.0])

    each_failure(
        monkeypatch, lambda: [w.copy(), rule.init(w)], lambda both: rule.step(both[0], g, both[1]), most=4,
    )  # fmt: skip


@pytest.mark.parametrize("rule", ["gd", "adam"])
def test_minimize_without_memory(rule, monkeypatch):
    each_failure(
        monkeypatch, lambda: np.ones(5),
        lambda x0: minimize(lambda x: float(x @ x), x0, lambda x: 2 * x, optimizer=rule, max_iter=3), most=6,
    )  # fmt: skip


def test_a_file_that_memory_does_not_suffice_for_is_not_called_damaged(tmp_path, monkeypatch):
    X, y = data("dense")
    path = tmp_path / "model"
    fastopt.save(new("adam", warm_start=True).fit(X, y), path)
    scarce = Scarce(monkeypatch)
    again = scarce.run(lambda: fastopt.load(path), sys.maxsize)
    for n in range(scarce.taken):
        with pytest.raises(MemoryError, match="no more"):
            scarce.run(lambda: fastopt.load(path), n)
    assert bits(fastopt.load(path)) == bits(again)


def test_a_file_that_cannot_be_written_is_one_error(tmp_path, monkeypatch, capfd):
    """Python's archive, left open, would complain of another when it is thrown away."""
    X, y = data("dense")
    model = new("adam").fit(X, y)

    def full(member, head):
        member.write(b"some")
        raise OSError("no space")

    monkeypatch.setattr(np.lib.format, "write_array_header_1_0", full)
    monkeypatch.setattr(sys, "unraisablehook", lambda found: print(found.exc_value, file=sys.stderr))
    with pytest.raises(OSError, match="no space"):
        fastopt.save(model, tmp_path / "model")
    gc.collect()
    assert os.listdir(tmp_path) == []
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("error", [MemoryError, OSError])
@pytest.mark.parametrize("name", ["adam", "lbfgs", "sdca", "classifier"])
def test_a_checkpoint_that_cannot_be_written(name, error, tmp_path, monkeypatch):
    """The model is as before, the last file is whole, and the fit goes on from it."""
    X, y = data("csr")
    expected = fastopt.fit(new(name), X, y, checkpoint=tmp_path / "alone", epochs=1)
    path, write, times = tmp_path / "checkpoint", model_file._write_archive, itertools.count()

    def full(*args):
        if next(times) == 1:
            raise error("no more")
        write(*args)

    model = new(name).fit(X, y == 1)
    before = bits(model)
    monkeypatch.setattr(model_file, "_write_archive", full)
    with pytest.raises(error, match="no more"):
        fastopt.fit(model, X, y, checkpoint=path, epochs=1)
    assert bits(model) == before
    assert sorted(os.listdir(tmp_path)) == ["alone", "checkpoint"]
    np.testing.assert_array_equal(fastopt.fit(model, X, y, checkpoint=path, epochs=1).coef_, expected.coef_)


# --- no threads -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("started", [0, 1])
def test_where_no_more_threads_start_the_caller_works_alone(started, monkeypatch):
    """Each task once, the ones that no thread came to take, too, and none later."""
    original, starts, done = threading.Thread.start, itertools.count(), []

    def start(thread):
        if next(starts) >= started:
            raise RuntimeError("can't start new thread")
        original(thread)

    def task(i):
        time.sleep(0.001)
        done.append(i)
        return i

    monkeypatch.setattr(_parallel._threads, "pools", {})
    monkeypatch.setattr(_parallel._threads, "limit", None)
    monkeypatch.setattr(threading.Thread, "start", start)
    assert list(_parallel.in_order(task, 30, 3)) == list(range(30))
    monkeypatch.setattr(threading.Thread, "start", original)
    assert list(_parallel.in_order(task, 30, 3)) == list(range(30))
    assert sorted(done) == sorted([*range(30)] * 2)


def test_a_fit_while_the_program_ends():
    """In a hook, when no thread may start any more: the same bits."""
    script = """
import atexit
import numpy as np
from fastopt import LogisticRegression
rng = np.random.default_rng(0)
X = rng.standard_normal((50_000, 60))
y = X[:, 0] > 0
fit = lambda n_jobs: LogisticRegression(solver="lbfgs", n_jobs=n_jobs, max_iter=3).fit(X, y).coef_
alone = fit(1)
atexit.register(lambda: print((fit(2) == alone).all()))
"""
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    env.pop("OMP_NUM_THREADS", None)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, timeout=120, env=env
    )
    assert done.stdout.split() == ["True"], done.stderr


# --- what is held -----------------------------------------------------------------------------------------------------


def freed(*references):
    """Whether all are gone, without a collection of garbage; a thread may take a moment to let go of its last task."""
    until = time.monotonic() + 10
    while any(r() is not None for r in references) and time.monotonic() < until:
        time.sleep(0.01)
    return all(r() is None for r in references)


@pytest.fixture
def no_collection():
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", MODELS)
def test_no_model_holds_the_data(name, layout, no_collection):
    """A cycle would keep X until garbage is collected, which its size does not hasten."""
    X, y = data(layout)
    of_X, of_y = weakref.ref(X.data if layout == "csr" else X), weakref.ref(y)
    model = new(name).fit(X, y)
    model.predict(X)
    del X, y
    assert freed(of_X, of_y)


@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("solver", ["lbfgs", "newton-cg", "adam", "saga"])
def test_no_refusal_holds_the_data(solver, n_jobs, no_collection, monkeypatch):
    """Not by the frames that its traceback has, either: the pass over all rows refuses these, on threads."""
    monkeypatch.setattr(_parallel._threads, "limit", None)
    n = 60_000
    X = sparse.csr_array((np.ones(20 * n), np.tile(np.arange(20), n), np.arange(0, 20 * n + 1, 20)), (n, 20))
    X.indices[-1] = 99
    y = np.arange(n) % 2
    of_X, of_y = weakref.ref(X.data), weakref.ref(y)
    with pytest.raises(ValueError, match="got 99 in row 59999"):
        LogisticRegression(solver=solver, n_jobs=n_jobs).fit(X, y)
    del X, y
    assert freed(of_X, of_y)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_references_and_files_are_given_back(layout, tmp_path):
    """After fits, refusals, predictions, steps and files."""
    X, y = data(layout)
    wrong = np.zeros(len(y))
    rule, w, g = Adam(), np.ones(8), (np.array([1, 5]), np.ones(2))
    state, path = rule.init(w), tmp_path / "model"
    held = [X, y, wrong, w, *g, *state.values()] + ([X.data, X.indices, X.indptr] if layout == "csr" else [])

    def once():
        for name in ("auto", "adam", "classifier"):
            model = new(name).fit(X, y)
            model.predict(X)
            with pytest.raises(ValueError, match=r"y must|number of classes"):
                model.fit(X, wrong)
            with pytest.raises(ValueError, match="features"):
                model.predict(X[:, :3])
        rule.step(w, g, state)
        with pytest.raises(ValueError, match="in"):
            rule.step(w, (np.array([99]), np.ones(1)), state)
        rule.catch_up(w, state)
        fastopt.save(model, path)
        fastopt.load(path)
        with pytest.raises(ValueError, match="path must be"):
            fastopt.load(__file__)

    def counts():
        gc.collect()
        files = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
        return [sys.getrefcount(a) for a in held if isinstance(a, np.ndarray)], files, threading.active_count()

    for _ in range(3):
        once()
    before, objects = counts(), len(gc.get_objects())
    for _ in range(10):
        once()
    assert counts() == before
    assert len(gc.get_objects()) < objects + 10  # one for each round would be a leak


# --- odd moments ------------------------------------------------------------------------------------------------------


class Interrupts:
    """Targets during whose conversion Ctrl-C is pressed."""

    def __init__(self, n):
        self.n = n

    def __len__(self):
        return self.n

    def __array__(self, dtype=None, copy=None):
        raise KeyboardInterrupt


@pytest.mark.parametrize("fitted", [False, True])
@pytest.mark.parametrize(
    "model",
    [
        LogisticRegression(), SGDClassifier(), SGDRegressor(),
        LogisticRegressionCV(Cs=2, cv=2, l1_ratios=(0,), scoring="accuracy", use_legacy_attributes=False),
    ],
    ids=lambda model: type(model).__name__,
)  # fmt: skip
def test_ctrl_c_before_the_first_epoch_changes_nothing(model, fitted):
    """Neither the number of features nor the classes: the old coefficients would be read by the new ones."""
    X, y = data("dense")
    model = copy.deepcopy(model)
    if fitted:
        model.fit(X, y)
    before = bits(model)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X[:, :5], Interrupts(len(y)))
    assert bits(model) == before


def test_a_learning_rate_that_raises_draws_nothing():
    """Later calls go through the rows in the orders that they would have had."""
    X, y = data("dense")
    broken = False

    def rate(step):
        if broken:
            raise ZeroDivisionError
        return 0.01

    def model():
        return SGDRegressor(learning_rate=rate, random_state=0).partial_fit(X, y)

    expected, found = model().partial_fit(X, y), model()
    broken = True
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            found.partial_fit(X, y)
    broken = False
    np.testing.assert_array_equal(found.partial_fit(X, y).coef_, expected.coef_)
