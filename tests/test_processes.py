"""Forks, pools of processes and threads, two fits on one X, programs that end; and the same bits in all of them."""

import functools
import multiprocessing
import os
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
from joblib import Parallel, delayed
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from fastopt import LogisticRegression, LogisticRegressionCV, SGDClassifier, SGDRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

MODELS = {
    **{f"{solver}, {n_jobs}": LogisticRegression(solver=solver, n_jobs=n_jobs, max_iter=3, random_state=0)
       for solver in ("auto", "lbfgs", "newton", "newton-cg", "sdca", "saga", "adam", "gd") for n_jobs in (None, 2)},
    "cv, 2": LogisticRegressionCV(
        Cs=[0.1, 1.0], cv=2, max_iter=3, n_jobs=2, random_state=0, l1_ratios=(0,), scoring="accuracy",
        use_legacy_attributes=False
    ),
    "classifier, 2": SGDClassifier(max_iter=3, n_jobs=2, random_state=0),
    "regressor": SGDRegressor(max_iter=3, random_state=0),
}  # fmt: skip


@functools.cache
def data(sparse=False, n=20_000):
    """Rows enough for several pieces of a pass."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, 20), dtype=np.float32)
    y = (X @ rng.standard_normal(20) + rng.standard_normal(n) > 0).astype(int)
    if sparse:
        X[rng.random(X.shape) < 0.7] = 0
        X = scipy.sparse.csr_array(X)
    return X, y


def result(name, X, y):
    """The coefficients' bytes, and those of what they predict."""
    model = clone(MODELS[name]).fit(X, y)
    return model.coef_.tobytes(), model.intercept_.tobytes(), model.predict(X).tobytes()


@functools.cache
def alone(name, sparse=False):
    """The result of a fit with nothing beside it."""
    return result(name, *data(sparse))


def run(folder, text, **environment):
    """A program of its own, which imports this module as `here`; its output."""
    path = folder / "program.py"
    path.write_text(textwrap.dedent(text))
    root = Path(__file__).parent.parent
    paths = os.pathsep.join([str(root), str(root / "tests")])
    env = os.environ | {"PYTHONPATH": paths, "PYTHONWARNINGS": "ignore"} | environment
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, env=env, timeout=240, cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


# --- processes --------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_fit_fork_fit(tmp_path):
    """In a child of a process whose threads have worked, and of one that is in the middle of a fit."""
    out = run(tmp_path, """
        import os, threading
        import test_processes as here

        X, y = here.data()
        before = {name: here.result(name, X, y) for name in here.MODELS}
        stop = threading.Event()

        def busy():
            while not stop.is_set():
                here.result("lbfgs, 2", X, y)

        for moment in ("idle", "fitting"):
            if moment == "fitting":
                thread = threading.Thread(target=busy)
                thread.start()
            child = os.fork()
            if not child:
                os._exit(sum(here.result(name, X, y) != bits for name, bits in before.items()))
            _, status = os.waitpid(child, 0)
            print(moment, os.waitstatus_to_exitcode(status))
        stop.set()
        thread.join()
        print("after", sum(here.result(name, X, y) != bits for name, bits in before.items()))
    """)  # fmt: skip
    assert out.split("\n") == ["idle 0", "fitting 0", "after 0", ""]


def test_pools_of_processes(tmp_path):
    """Those of multiprocessing, joblib's, and a search in them; loky's get X as a read-only memory map."""
    out = run(tmp_path, """
        import multiprocessing
        import joblib
        import numpy as np
        import test_processes as here
        from sklearn.base import clone
        from sklearn.model_selection import GridSearchCV

        # Of rows in a file, which loky maps, the trial of rates takes a sample alone: other bits, by the docs.
        NAMES = [name for name in here.MODELS if not name.startswith("adam")][::3]

        def job(name):
            return here.result(name, *here.data())

        if __name__ == "__main__":
            X, y = here.data()
            before = [job(name) for name in NAMES]
            for method in multiprocessing.get_all_start_methods():
                context = multiprocessing.get_context(method)
                if method == "forkserver":
                    context.set_forkserver_preload(["test_processes"])
                with context.Pool(2) as pool:
                    print(method, pool.map(job, NAMES, chunksize=1) == before)
            for backend in ("loky", "multiprocessing", "threading"):
                with joblib.parallel_config(backend=backend, n_jobs=2):
                    found = joblib.Parallel(max_nbytes=1000)(joblib.delayed(here.result)(name, X, y) for name in NAMES)
                print(backend, found == before)
            for name, grid in (("lbfgs, 2", {"C": [0.01, 1.0]}), ("classifier, 2", {"alpha": [1e-4, 1e-2]})):
                scores = [
                    GridSearchCV(clone(here.MODELS[name]), grid, cv=2, n_jobs=n_jobs).fit(X, y).cv_results_
                    for n_jobs in (1, 2)
                ]
                print("search", np.array_equal(*(s["mean_test_score"] for s in scores)))
    """)  # fmt: skip
    found = out.splitlines()
    assert len(found) == len(multiprocessing.get_all_start_methods()) + 5
    assert all(line.endswith(" True") for line in found), out


@pytest.mark.parametrize("ends", ["in a fit", "in a fit of a pool", "in a hook"])
def test_a_program_ends(ends, tmp_path):
    """With threads alive, idle or at work, and without a hang or a crash on the way out."""
    if ends == "in a fit" and sys.version_info < (3, 14):
        pytest.skip("before 3.14 CPython unwinds daemon threads at exit, which ends C++ code below NumPy (gh-87135)")
    out = run(tmp_path, f"""
        import atexit, threading, time
        import test_processes as here
        from concurrent.futures import ThreadPoolExecutor

        X, y = here.data()
        if {ends!r} == "in a hook":
            atexit.register(lambda: print(len(here.result("lbfgs, 2", X, y))))
        here.result("lbfgs, 2", X, y)
        print("fitted", flush=True)
        if {ends!r} == "in a fit":
            def busy():
                while True:
                    here.result("lbfgs, 2", X, y)
            threading.Thread(target=busy, daemon=True).start()
            time.sleep(0.05)
        if {ends!r} == "in a fit of a pool":
            pool = ThreadPoolExecutor(2)
            for _ in range(4):
                pool.submit(here.result, "adam, 2", X, y)
    """)  # fmt: skip
    assert out.split() == ["fitted", *(["3"] if ends == "in a hook" else [])]


# --- threads ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sparse", [False, True])
def test_fits_at_once_on_one_X(sparse):
    X, y = data(sparse)
    names = [*MODELS]
    expected = [alone(name, sparse) for name in names]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda name: result(name, X, y), names)) == expected


def test_threads_within_threads():
    """Fits with threads of their own, inside cross-validation's and a search's."""
    X, y = data()
    search = GridSearchCV(clone(MODELS["cv, 2"]), {"fit_intercept": [False, True]}, cv=2, n_jobs=1)
    expected = clone(search).fit(X, y).cv_results_["mean_test_score"]
    found = Parallel(n_jobs=2, backend="threading")(delayed(clone(search).fit)(X, y) for _ in range(2))
    for one in found:
        np.testing.assert_array_equal(one.cv_results_["mean_test_score"], expected)


def test_one_model_predicts_in_many_threads():
    X, y = data()
    model = LogisticRegression(solver="lbfgs", max_iter=3).fit(X, y)
    expected = model.predict_proba(X)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(model.predict_proba, [X] * 12):
            np.testing.assert_array_equal(found, expected)


# --- the same bits ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["auto", "lbfgs", "newton", "newton-cg", "adam", "gd"])
def test_threads_change_no_bit_where_no_epoch_is_sharded(solver):
    X, y = data()
    models = [
        LogisticRegression(solver=solver, max_iter=3, random_state=0, n_jobs=n_jobs).fit(X, y)
        for n_jobs in (None, 1, 2, 3)
    ]
    for model in models[1:]:
        assert model.coef_.tobytes() == models[0].coef_.tobytes()
        assert model.objective_ == models[0].objective_


def moved(X, k):
    """The same numbers at an address that is k times 16 bytes beyond a cache line's beginning."""
    if scipy.sparse.issparse(X):
        return scipy.sparse.csr_array((moved(X.data, k), moved(X.indices, k), moved(X.indptr, k)), shape=X.shape)
    raw = np.empty(X.nbytes + 128, np.uint8)
    start = -raw.ctypes.data % 64 + 16 * (k % 4)
    out = raw[start : start + X.nbytes].view(X.dtype).reshape(X.shape)
    out[...] = X
    return out


def loaded():
    """A thread that fights for the GIL, the caches and the cores, until the event is set."""
    stop, numbers = threading.Event(), np.ones(1_000_000)

    def work():
        while not stop.is_set():
            numbers.sum()
            sum(range(1000))

    threading.Thread(target=work, daemon=True).start()
    return stop


@pytest.mark.parametrize("name", [name for name in MODELS if name != "cv, 2"])
@pytest.mark.parametrize("sparse", [False, True])
def test_fifty_repeats_under_load(name, sparse):
    """Wherever the arrays lie, and whatever else the machine does."""
    X, y = data(sparse, 1500)
    expected = result(name, X, y)
    stop = loaded()
    try:
        for k in range(50):
            assert result(name, moved(X, k), y) == expected, k
    finally:
        stop.set()
