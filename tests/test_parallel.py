"""The thread pool: order, bits, limits, what happens on errors and after fork."""

import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import threadpoolctl
from scipy import sparse

from fastopt import LogisticRegression, _parallel
from fastopt._design import Design
from fastopt._parallel import in_order, threads
from fastopt.objective import Objective


@pytest.fixture(autouse=True)
def unlimited(monkeypatch):
    """Whatever OMP_NUM_THREADS says where the tests run."""
    monkeypatch.setattr(_parallel._threads, "limit", None)
    monkeypatch.setattr(_parallel._threads, "processors", 0)


@pytest.mark.parametrize("n_jobs", [1, 2, 5])
def test_results_come_in_order(n_jobs):
    def task(i):
        time.sleep(0.002 * ((i * 7) % 5))
        return i

    assert list(in_order(task, 23, n_jobs)) == list(range(23))


def test_at_most_n_jobs_at_a_time():
    running, most, lock = 0, 0, threading.Lock()

    def task(_):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.005)
        with lock:
            running -= 1

    list(in_order(task, 20, 3))
    assert most <= 3


def test_an_error_stops_and_nobody_works_on():
    started, working = [], 0

    def task(i):
        nonlocal working
        started.append(i)
        working += 1
        time.sleep(0.01)
        working -= 1
        if i == 1:
            raise ValueError("here")
        return i

    with pytest.raises(ValueError, match="here"):
        list(in_order(task, 1000, 2))
    assert working == 0
    assert len(started) < 10


def test_the_caller_works_too():
    """One that slept would leave its processor to the threads that it wakes, which then share it."""
    names = set()

    def task(_):
        names.add(threading.current_thread().name)
        time.sleep(0.002)

    list(in_order(task, 40, 2))
    assert threading.current_thread().name in names
    assert len(names) == 2


@pytest.mark.parametrize("n_jobs", [1, 2, 3])
def test_the_first_error_in_order_is_raised(n_jobs):
    def task(i):
        time.sleep(0.02 * (i == 2))
        if i >= 2:
            raise ValueError(f"task {i}")
        return i

    for _ in range(5):
        with pytest.raises(ValueError, match="task 2"):
            list(in_order(task, 6, n_jobs))


def test_how_many(monkeypatch):
    monkeypatch.setattr(_parallel, "cpu_count", lambda: 8)
    assert [threads(n) for n in (None, -1, -2, -100, 1, 3, 20)] == [8, 8, 7, 1, 1, 3, 20]
    with threadpoolctl.threadpool_limits(2):
        assert [threads(n) for n in (None, 1, 3)] == [2, 1, 2]
    assert threads() == 8
    with threadpoolctl.threadpool_limits({"fastopt": 3}):
        assert threads() == 3
    assert "fastopt" in {library["user_api"] for library in threadpoolctl.threadpool_info()}


@pytest.mark.parametrize("bad", [0, 1.5, True, "two"])
def test_bad_n_jobs(bad):
    with pytest.raises(ValueError, match="n_jobs must be None or an integer other than 0; got "):
        LogisticRegression(n_jobs=bad).fit(np.eye(4), [0, 1, 0, 1])


def test_omp_num_threads():
    script = "from fastopt._parallel import threads; print(threads(), threads(7))"
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["1", "1"], done.stderr


@pytest.fixture(scope="module")
def large():
    """Several shares each."""
    rng = np.random.default_rng(0)
    X = sparse.random_array((60_000, 400), density=0.1, format="csr", rng=rng, dtype=np.float32)
    dense = rng.standard_normal((50_000, 60))
    return {"csr": X, "dense": dense, "float32": dense.astype(np.float32)}


@pytest.mark.parametrize("layout", ["csr", "dense", "float32"])
@pytest.mark.parametrize("n_outputs", [1, 3])
def test_no_bit_depends_on_the_number_of_threads(large, layout, n_outputs):
    X = large[layout]
    rng = np.random.default_rng(1)
    y = rng.integers(0, n_outputs, X.shape[0]).astype(float) if n_outputs > 1 else rng.choice([-1.0, 1.0], X.shape[0])
    w = rng.standard_normal((X.shape[1] + 1, n_outputs)) / 10
    results = []
    for n_jobs in (1, 2, 3, 7):
        F = Objective(
            Design.from_array(X), y, loss="multinomial" if n_outputs > 1 else "log_loss", alpha=1e-3,
            n_outputs=n_outputs, n_jobs=n_jobs,
        )  # fmt: skip
        assert len(F.design.shares(n_outputs)) > 2
        results.append((F.value_and_gradient(w), F.hessian_product(w, w), F.raw_prediction(w), F.value(w)))
    (value, gradient), product, raw, alone = results[0]
    for (value_n, gradient_n), product_n, raw_n, alone_n in results[1:]:
        assert (value_n, alone_n) == (value, alone)
        np.testing.assert_array_equal(gradient_n, gradient)
        np.testing.assert_array_equal(product_n, product)
        np.testing.assert_array_equal(raw_n, raw)


@pytest.mark.parametrize("layout", ["csr", "dense", "float32"])
@pytest.mark.parametrize("n_outputs", [1, 3])
def test_shares_add_up_to_the_formula(large, layout, n_outputs):
    """NumPy's own sums over all rows at once."""
    X = large[layout]
    rng = np.random.default_rng(2)
    w = rng.standard_normal((X.shape[1] + 1, n_outputs)) / 10
    weights = rng.random(X.shape[0])
    classes = rng.integers(0, max(2, n_outputs), X.shape[0])
    if n_outputs == 1:
        y, loss = np.where(classes, 1.0, -1.0), "log_loss"
    else:
        y, loss = classes.astype(float), "multinomial"
    F = Objective(Design.from_array(X), y, loss=loss, alpha=1e-3, n_outputs=n_outputs, sample_weight=weights, n_jobs=2)
    assert len(F.design.shares(n_outputs, len(w) * n_outputs)) > 1
    X64 = X.astype(np.float64)
    z = X64 @ w[:-1] + w[-1]
    if n_outputs == 1:
        losses, slopes = np.logaddexp(0, -y * z[:, 0]), -(y / (1 + np.exp(y * z[:, 0])))[:, None]
    else:
        each = z - np.logaddexp.reduce(z, axis=1, keepdims=True)
        losses, slopes = -each[np.arange(len(y)), classes], np.exp(each) - np.eye(n_outputs)[classes]
    slopes = slopes * (weights / weights.sum())[:, None]
    gradient = np.vstack([X64.T @ slopes + 1e-3 * w[:-1], slopes.sum(axis=0)])
    value, found = F.value_and_gradient(w)
    assert value == pytest.approx(losses @ weights / weights.sum() + 5e-4 * (w[:-1] ** 2).sum(), rel=1e-12)
    np.testing.assert_allclose(found, gradient, rtol=0, atol=1e-12 * np.abs(gradient).max())
    np.testing.assert_allclose(F.raw_prediction(w), z, rtol=0, atol=1e-12 * np.abs(z).max())
    step = 1e-6 * w
    along = (F.gradient(w + step) - F.gradient(w - step)) / 2e-6
    np.testing.assert_allclose(F.hessian_product(w, w), along, rtol=0, atol=1e-7 * np.abs(along).max())


@pytest.mark.parametrize("layout", ["csr", "dense"])
def test_shares_cover_every_row_once(large, layout):
    design = Design.from_array(large[layout])
    for n_outputs, n_sums in ((1, 0), (1, 400), (10, 4000), (1, 10**9)):
        shares = design.shares(n_outputs, n_sums)
        pieces = [piece for share in shares for piece in design.pieces(n_outputs, share)]
        for cuts in (shares, pieces):
            assert cuts[0][0] == 0
            assert cuts[-1][1] == design.shape[0]
            assert all(a[1] == b[0] for a, b in zip(cuts, cuts[1:], strict=False))
            assert all(start < stop for start, stop in cuts)
    assert len(design.shares(1, 10**9)) == 1


def test_shares_of_uneven_rows_hold_equally_many_elements():
    lengths = np.concatenate([np.full(100, 40_000), np.full(40_000, 10)])
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    X = sparse.csr_array((np.ones(indptr[-1], np.float32), np.concatenate([np.arange(n) for n in lengths]), indptr))
    shares = Design.from_array(X).shares()
    sizes = [int(indptr[stop] - indptr[start]) for start, stop in shares]
    assert max(sizes) <= 1.2 * min(sizes)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_fit_fork_fit(large):
    """The pool's threads do not survive a fork: the child starts its own."""
    script = """
import os, sys
import numpy as np
from fastopt import LogisticRegression
rng = np.random.default_rng(0)
X = rng.standard_normal((50_000, 60))
y = X[:, 0] > 0
fit = lambda: LogisticRegression(solver="lbfgs", n_jobs=2, max_iter=3, tol=1e-1).fit(X, y).coef_
first = fit()
child = os.fork()
if child == 0:
    os._exit(0 if (fit() == first).all() else 3)
status = os.waitpid(child, 0)[1]
sys.exit(os.waitstatus_to_exitcode(status) or int((fit() != first).any()))
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_estimators_pass_n_jobs_on(large, monkeypatch):
    asked = []
    original = _parallel.threads
    monkeypatch.setattr(_parallel, "threads", lambda n_jobs=None: asked.append(n_jobs) or original(n_jobs))
    X = large["dense"]
    model = LogisticRegression(solver="lbfgs", n_jobs=2, tol=1e-2).fit(X, X[:, 0] > 0)
    assert set(asked) == {2}
    model.predict(X)
    assert set(asked) == {2}
