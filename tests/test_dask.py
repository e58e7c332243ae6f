"""The estimators on Dask: the minimum of one machine, the same bits everywhere, and what dies is survived."""

import doctest
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import scale

import fastopt
from fastopt._design import Design
from fastopt.objective import Objective

ABSENT = "dask and distributed are not installed (the extra 'dask')"
da = pytest.importorskip("dask.array", reason=ABSENT)
distributed = pytest.importorskip("distributed", reason=ABSENT)
from dask import config, delayed  # noqa: E402
from sklearn.exceptions import ConvergenceWarning  # noqa: E402

import fastopt.dask as on_dask  # noqa: E402
from fastopt.dask._cluster import Cluster, add  # noqa: E402
from fastopt.dask._parts import encode, read_part  # noqa: E402

pytestmark = [
    pytest.mark.timeout(120),
    # Dask asks pandas for what it will stop to have, at import of its dataframes; Python 3.12 warns of every fork.
    pytest.mark.filterwarnings("ignore::FutureWarning:dask"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    # A worker that is killed while it talks leaves sockets and event loops to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
LOCAL = {"threads_per_worker": 1, "dashboard_address": ":0", "processes": False}


@pytest.fixture(scope="module")
def client():
    """The current client, of two workers in this process: the cheapest cluster."""
    with distributed.LocalCluster(n_workers=2, **LOCAL) as cluster, distributed.Client(cluster) as client:
        yield client


@pytest.fixture(scope="module")
def processes():
    """A client of two worker processes; not the current one. Nothing is moved from a busy worker to an idle one."""
    with (
        config.set({"distributed.scheduler.work-stealing": False}),
        distributed.LocalCluster(n_workers=2, **LOCAL | {"processes": True}) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client


def problem(kind, seed=0):
    rng = np.random.default_rng(seed)
    if kind == "csr":
        X = sp.random_array((1200, 300), density=0.05, format="csr", rng=rng)
        X.data = rng.standard_normal(X.nnz)
        z = X @ rng.standard_normal(300)
        return X, (z + rng.standard_normal(1200) > 0).astype(int)
    X = rng.standard_normal((1200, 12)) * np.linspace(0.3, 2, 12) + 0.5
    z = X @ rng.standard_normal(12) + 3 * rng.standard_normal(1200)
    if kind == "multiclass":
        return X, np.array(["low", "mid", "top"])[np.digitize(z, [-2, 2])]
    return X, np.where(z > 0, "yes", "no")


def cut(a, at=(0, 300, 700, 750, 1200)):
    """Delayed chunks of unequal sizes."""
    return [delayed(a[i:j], pure=True) for i, j in zip(at[:-1], at[1:], strict=True)]


def bits(model):
    return np.concatenate([model.coef_.ravel(), np.atleast_1d(model.intercept_)]).tobytes()


def gradient_norm(model, X, y, C=1.0):
    """Of F over all data, on one machine."""
    codes, K = np.searchsorted(model.classes_, y).astype(float), len(model.coef_)
    loss = "multinomial" if K > 1 else "log_loss"
    F = Objective(
        Design.from_array(X), codes if K > 1 else 2 * codes - 1, loss=loss, alpha=1 / (C * len(y)), n_outputs=K
    )
    return np.linalg.norm(F.gradient(np.vstack([model.coef_.T, model.intercept_])))


# --- the same minimum -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["dense", "csr", "multiclass"])
def test_two_processes_come_to_the_coefficients_of_one_machine(processes, kind):
    X, y = problem(kind)
    alone = fastopt.LogisticRegression(tol=1e-8).fit(X, y)
    model = on_dask.LogisticRegression(tol=1e-8).fit(cut(X), cut(y), client=processes)
    assert model.converged_
    assert model.grad_norm_ <= 1e-8
    np.testing.assert_allclose(model.coef_, alone.coef_, atol=1e-6, rtol=0)
    np.testing.assert_allclose(model.intercept_, alone.intercept_, atol=1e-6, rtol=0)
    np.testing.assert_array_equal(model.classes_, alone.classes_)


SOLVERS = {
    "dense": ["auto", "lbfgs", "newton", "sdca", "sgd", "adam", "momentum", "schedule_free_sgd", "gd"],
    "csr": ["auto", "lbfgs", "newton", "sdca", "sgd", "adam"],
    "multiclass": ["auto", "lbfgs", "newton", "sdca", "sgd"],
}


@pytest.mark.parametrize(("kind", "solver"), [(kind, solver) for kind in SOLVERS for solver in SOLVERS[kind]])
def test_every_solver_ends_where_the_gradient_of_all_data_vanishes(client, kind, solver):
    X, y = problem(kind)
    data = cut(X, (0, 450, 1200)), cut(y, (0, 450, 1200))
    model = on_dask.LogisticRegression(tol=1e-6, solver=solver, max_iter=300, random_state=0)
    if kind == "multiclass" and solver == "sdca":
        with pytest.raises(ValueError, match="solver must be one that can minimise 3 outputs"):
            model.fit(*data)
        return
    model.fit(*data)
    assert model.converged_
    assert gradient_norm(model, X, y) == pytest.approx(model.grad_norm_, rel=1e-3, abs=1e-12)
    assert model.history_["grad_norm"][-1] == model.grad_norm_
    assert len(model.history_["epoch"]) == model.n_iter_[0] + 1


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_columns_far_from_zero_and_constant_ones(client):
    """Of times of a minute, in seconds since 1970, rows tell the variance, not sums of squares.

    By the sums the column counts as constant, and F stays a hundredth above its minimum.
    """
    X, y = problem("dense")
    far = np.column_stack([X, np.full(len(X), 5.0)])
    far[:, 11] += 1.7e9
    best = on_dask.LogisticRegression(tol=1e-8, solver="newton", C=100.0).fit(cut(X), cut(y)).objective_
    model = on_dask.LogisticRegression(solver="lbfgs", C=100.0, max_iter=10).fit(cut(far), cut(y))
    assert abs(model.objective_ - best) <= 1e-6 * best


@pytest.mark.parametrize("batch_size", [1, 400, "full"])
def test_rows_per_step_may_be_given(client, batch_size):
    """400 are all rows of some partitions, and not of others."""
    X, y = problem("dense")
    settings = {"solver": "nesterov", "batch_size": batch_size, "random_state": 0}
    assert on_dask.LogisticRegression(**settings, max_iter=200).fit(cut(X), cut(y)).converged_
    with pytest.raises(ValueError, match=r"batch_size must be an integer in \[1, n_samples\].*; got 1201"):
        on_dask.LogisticRegression(**settings | {"batch_size": 1201}).fit(cut(X), cut(y))


@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sdca_ends_with_the_best_it_has_measured(client, fit_intercept, dtype):
    """On rows far too long for it what the dual gains F does not."""
    X, y = problem("dense")
    settings = {"solver": "sdca", "C": 1000.0, "fit_intercept": fit_intercept, "random_state": 0}
    model = on_dask.LogisticRegression(max_iter=3, **settings)
    with pytest.warns(ConvergenceWarning):
        model.fit(cut(30 * X.astype(dtype)), cut(y))
    assert model.n_iter_.tolist() == [3]
    assert model.objective_ == model.history_["objective"][-1] <= np.log(2)
    assert model.objective_ == pytest.approx(model.history_["objective"].min())
    assert model.history_["epoch"].tolist() == [0, 1, 2, 3, 0]
    assert gradient_norm(model, 30 * X.astype(dtype), y, 1000.0) == pytest.approx(model.grad_norm_, rel=1e-3)


def test_l1_leaves_exact_zeros(client):
    X, y = problem("csr")
    alone = fastopt.LogisticRegression(tol=1e-7, l1_ratio=1.0, C=0.3, solver="lbfgs", max_iter=500).fit(X, y)
    model = on_dask.LogisticRegression(tol=1e-7, l1_ratio=1.0, C=0.3, max_iter=500).fit(cut(X), cut(y))
    np.testing.assert_array_equal(model.coef_ == 0, alone.coef_ == 0)
    assert 0 < (model.coef_ == 0).sum() < model.coef_.size
    np.testing.assert_allclose(model.coef_, alone.coef_, atol=1e-4)


@pytest.mark.parametrize("old", [
    {"penalty": "l1"}, {"penalty": None}, {"penalty": "elasticnet", "l1_ratio": 0.5}, {"l1_ratio": None},
    {"solver": "liblinear"}, {"solver": "liblinear", "dual": True}, {"solver": "newton-cholesky"},
    {"solver": "newton-cholesky", "penalty": "l1"},
])  # fmt: skip
def test_scikit_learns_older_parameters_mean_what_they_mean_on_one_machine(client, old):
    X, y = problem("dense")
    settings = {"tol": 1e-7, "C": 0.01, "max_iter": 500} | old

    def fitted(cls, *data):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            return cls(**settings).fit(*data), {str(w.message) for w in caught if "l1_ratio" in str(w.message)}

    alone, expected = fitted(fastopt.LogisticRegression, X, y)
    model, found = fitted(on_dask.LogisticRegression, cut(X), cut(y))
    np.testing.assert_allclose(model.coef_, alone.coef_, atol=1e-5)
    assert found == expected


@pytest.mark.parametrize("class_weight", [None, "balanced", {"no": 3.0, "yes": 0.5}])
@pytest.mark.parametrize("solver", ["newton", "sdca", "adam"])
def test_weights_weigh_as_on_one_machine(client, solver, class_weight):
    X, y = problem("dense")
    s = np.random.default_rng(1).exponential(size=len(y))
    s[300:700] = 2.0  # all the same in a partition
    settings = {"tol": 1e-7, "class_weight": class_weight, "max_iter": 500}
    alone = fastopt.LogisticRegression(**settings).fit(X, y, sample_weight=s)
    model = on_dask.LogisticRegression(**settings, solver=solver, random_state=0).fit(cut(X), cut(y), cut(s))
    np.testing.assert_allclose(model.coef_, alone.coef_, atol=1e-4)
    assert model.objective_ == pytest.approx(alone.objective_, rel=1e-9)


@pytest.mark.parametrize("solver", ["newton", "lbfgs", "sdca"])
def test_without_intercept_and_from_a_warm_start(client, solver):
    X, y = problem("dense")
    for fit_intercept in (False, True):
        alone = fastopt.LogisticRegression(tol=1e-7, fit_intercept=fit_intercept).fit(X, y)
        model = on_dask.LogisticRegression(
            tol=1e-2, solver=solver, fit_intercept=fit_intercept, warm_start=True, random_state=0
        )
        model.fit(cut(X), cut(y))
        far = model.history_["grad_norm"][0]
        model.set_params(tol=1e-7, max_iter=300).fit(cut(X), cut(y))
        assert model.history_["grad_norm"][0] < far
        np.testing.assert_allclose(model.coef_, alone.coef_, atol=1e-4)
        np.testing.assert_allclose(model.intercept_, alone.intercept_, atol=1e-4)


def test_float32_stays_float32(client):
    X, y = problem("dense")
    model = on_dask.LogisticRegression(tol=1e-3).fit(cut(X.astype(np.float32)), cut(y))
    assert model.coef_.dtype == np.float32
    assert model.converged_


# --- rounds -----------------------------------------------------------------------------------------------------------

STEPS = {
    "sgd": {}, "log_loss": {"loss": "log_loss"}, "average": {"average": True}, "l1": {"penalty": "l1", "alpha": 1e-3},
    "adam": {"loss": "log_loss", "optimizer": "adam", "batch_size": 8}, "pa1": {"learning_rate": "pa1", "eta0": 0.1},
}  # fmt: skip


@pytest.mark.parametrize("kind", ["dense", "csr", "multiclass"])
@pytest.mark.parametrize("steps", STEPS)
def test_one_partition_goes_the_way_of_one_machine(client, steps, kind):
    X, y = problem(kind)
    rate = {} if "learning_rate" in STEPS[steps] else {"learning_rate": "constant"}
    settings = {"shuffle": False, "tol": None, "max_iter": 3, **rate, **STEPS[steps]}
    alone = fastopt.SGDClassifier(**settings).fit(X, y)
    model = on_dask.SGDClassifier(**settings).fit([delayed(X)], [delayed(y)])
    np.testing.assert_allclose(model.coef_, alone.coef_, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(model.intercept_, alone.intercept_, rtol=1e-12, atol=1e-15)
    assert model.objective_ == pytest.approx(alone.objective_, rel=1e-12)
    assert model.grad_norm_ == pytest.approx(alone.grad_norm_, rel=1e-9)


def test_a_round_is_the_average_weighted_by_the_partitions_weights(client):
    X, y = problem("dense")
    s = np.random.default_rng(3).exponential(size=len(y))
    settings = {"shuffle": False, "tol": None, "max_iter": 1, "learning_rate": "constant"}
    model = on_dask.SGDClassifier(**settings).fit(*(cut(a, (0, 400, 1200)) for a in (X, y, s)))
    parts = [slice(0, 400), slice(400, 1200)]
    alone = [fastopt.SGDClassifier(**settings).fit(X[p], y[p], sample_weight=s[p]) for p in parts]
    expected = np.average([a.coef_ for a in alone], axis=0, weights=[s[p].sum() for p in parts])
    np.testing.assert_allclose(model.coef_, expected, rtol=1e-12)


@pytest.mark.parametrize("outputs", [None, 2])
def test_least_squares_are_those_of_the_normal_equations(client, outputs):
    X, _ = problem("dense")
    rng = np.random.default_rng(5)
    shape = (outputs,) if outputs else ()
    y = X @ rng.standard_normal((12, *shape)) + 1 + rng.standard_normal((1200, *shape))
    alpha, A = 0.01, np.column_stack([X, np.ones(len(X))])
    expected = np.linalg.solve(A.T @ A / len(A) + alpha * np.diag([1.0] * 12 + [0.0]), A.T @ y / len(A))
    settings = {"alpha": alpha, "learning_rate": "constant", "n_iter_no_change": 1, "random_state": 0}
    model = on_dask.SGDRegressor(solver="newton", tol=1e-9, **settings).fit(cut(X), cut(y))
    np.testing.assert_allclose(np.vstack([np.atleast_2d(model.coef_).T, np.atleast_1d(model.intercept_)]).squeeze(),
                               expected.squeeze(), atol=1e-7)  # fmt: skip
    assert model.converged_
    residuals = y - A @ expected
    r2 = 1 - (residuals**2).sum(axis=0) / ((y - y.mean(axis=0)) ** 2).sum(axis=0)
    assert model.score(cut(X), cut(y)) == pytest.approx(np.mean(r2), rel=1e-6)


@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_one_against_the_rest_is_one_fit_for_each_class(client, class_weight):
    X, y = problem("multiclass")
    settings = {"loss": "log_loss", "alpha": 0.01, "solver": "lbfgs", "tol": 1e-7, "n_iter_no_change": 1}
    model = on_dask.SGDClassifier(random_state=0, class_weight=class_weight, **settings).fit(cut(X), cut(y))
    assert model.converged_
    for c, name in enumerate(model.classes_):
        targets = np.where(y == name, 1.0, -1.0)
        own = len(y) / (3 * np.sum(y == name)) if class_weight else 1.0
        s = np.where(y == name, own, 1.0)
        F = Objective(Design.from_array(X), targets, alpha=0.01 / s.mean(), sample_weight=s)
        assert np.linalg.norm(F.gradient(np.append(model.coef_[c], model.intercept_[c]))) < 1e-6


@pytest.mark.parametrize(("more", "divided"), [({}, True), ({"learning_rate": "auto"}, False),
                                              ({"optimizer": "adam", "eta0": 0.01}, False)])  # fmt: skip
def test_alpha_weighs_against_the_weights_as_on_one_machine(client, more, divided):
    X, y = problem("dense")
    s = np.random.default_rng(0).random(len(y)) * 3 + 1
    settings = {"loss": "log_loss", "alpha": 0.01, "solver": "lbfgs", "tol": 1e-7, "n_iter_no_change": 1}
    model = on_dask.SGDClassifier(random_state=0, **settings, **more).fit(cut(X), cut(y), cut(s))
    targets = np.where(y == model.classes_[1], 1.0, -1.0)
    F = Objective(Design.from_array(X), targets, alpha=0.01 / (s.mean() if divided else 1), sample_weight=s)
    assert np.linalg.norm(F.gradient(np.append(model.coef_, model.intercept_))) < 1e-6


def test_rounds_stop_by_scikit_learns_rule(client):
    X, y = problem("dense")
    model = on_dask.SGDClassifier(random_state=0, learning_rate="constant", eta0=1e-3).fit(cut(X), cut(y))
    assert model.stop_reason_ == "no_change"
    F = model.history_["objective"][1:]
    best = np.minimum.accumulate(F)
    stale = [k for k in range(1, len(F)) if F[k] > best[k - 1] - 1e-3]
    assert stale[-5:] == list(range(len(F) - 5, len(F)))
    with pytest.warns(ConvergenceWarning, match="max_iter"):
        on_dask.SGDClassifier(max_iter=2).fit(cut(X), cut(y))


@pytest.mark.parametrize("optimizer", ["schedule_free_sgd", "schedule_free_adamw", "ftrl", "adam"])
def test_automatic_rates_are_never_halved_to_nothing(client, optimizer):
    """Averages of what partitions come to end near the minimum: a gap of 1 to 2 %, some of them 12 % before."""
    X, y = load_breast_cancer(return_X_y=True)
    X, alpha = scale(X), 1 / len(y)
    best = fastopt.LogisticRegression(solver="newton", tol=1e-9).fit(X, y).objective_
    data = cut(X, (0, 200, 569)), cut(y, (0, 200, 569))
    options = {"optimizer": optimizer, "alpha": alpha, "learning_rate": "auto", "batch_size": 16, "random_state": 0}
    model = on_dask.SGDClassifier("log_loss", tol=None, max_iter=100, **options).fit(*data)
    assert best <= model.objective_ < 1.02 * best
    F = Objective(Design.from_array(X), 2.0 * y - 1, alpha=alpha)
    reached = F.value(np.append(model.coef_, model.intercept_)[:, None])
    assert reached == pytest.approx(model.objective_, rel=1e-12)
    values, rates = model.history_["objective"], model.history_["learning_rate"]
    assert reached == pytest.approx(values.min(), rel=1e-9)
    assert 1e-3 * rates[1] < rates[-1] < rates[1]
    assert model.t_ == 1 + 100 * 21  # the mean of 13 and 24, weighted


@pytest.mark.parametrize("optimizer", ["schedule_free_sgd", "ftrl", "adam", "mean"])
def test_rounds_go_on_from_what_the_result_is_the_mean_of(client, tmp_path, optimizer):
    """Also where the lowest F, and not the last one, was written down."""
    X, y = problem("dense")
    options = {"optimizer": optimizer, "learning_rate": "auto", "batch_size": 8}
    if optimizer == "mean":
        options = {"average": True, "learning_rate": "constant", "eta0": 0.05}
    options |= {"tol": None, "random_state": 0}
    whole = on_dask.SGDClassifier("log_loss", max_iter=24, **options).fit(cut(X), cut(y))
    for epochs in (5, 6, 12, 17, 24):
        model = on_dask.SGDClassifier("log_loss", max_iter=epochs, **options)
        model.fit(cut(X), cut(y), checkpoint=tmp_path / "model.npz")
    assert bits(model) == bits(whole)
    np.testing.assert_array_equal(model.history_["objective"], whole.history_["objective"])
    assert (model.t_, model.objective_) == (whole.t_, whole.objective_)


def test_labels_and_probabilities(client):
    X, y = problem("dense")
    labels = np.column_stack([y == "yes", X[:, 0] > 0.5]).astype(int)
    model = on_dask.SGDClassifier(loss="log_loss", random_state=0).fit(cut(X), cut(labels))
    assert model.coef_.shape == (2, 12)
    found = np.vstack([chunk.compute() for chunk in model.predict(cut(X))])
    assert np.mean(found == labels) > 0.8
    assert not hasattr(on_dask.SGDClassifier(), "predict_proba")
    with pytest.raises(AttributeError, match="to_local"):
        model.partial_fit(X, labels)
    assert model.to_local().partial_fit(X, labels).t_ > 1


# --- the same bits ----------------------------------------------------------------------------------------------------

FITS = {
    "newton": lambda: on_dask.LogisticRegression(solver="newton", tol=1e-8),
    "lbfgs": lambda: on_dask.LogisticRegression(solver="lbfgs", tol=1e-6),
    "sdca": lambda: on_dask.LogisticRegression(solver="sdca", tol=1e-6, random_state=0),
    "adam": lambda: on_dask.LogisticRegression(solver="adam", tol=1e-6, random_state=0),
    "SGDClassifier": lambda: on_dask.SGDClassifier(random_state=0, n_iter_no_change=1),
}


def test_bits_do_not_depend_on_the_number_of_workers(client):
    X, y = problem("dense")
    two = {name: bits(make().fit(cut(X), cut(y))) for name, make in FITS.items()}
    with (
        distributed.LocalCluster(n_workers=3, **LOCAL | {"threads_per_worker": 2}) as cluster,
        distributed.Client(cluster, set_as_default=False) as other,
    ):
        three = {name: bits(make().fit(cut(X), cut(y), client=other)) for name, make in FITS.items()}
    assert two == three


@pytest.mark.parametrize("kind", ["mixed", "by label", "float32", "three classes", "weights"])
def test_newton_starts_from_the_minima_of_partitions(client, monkeypatch, kind):
    """In one round, on whatever workers; partitions of one class alone make a worse start, no other minimum."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((16_000, 4)).astype(np.float32 if kind == "float32" else np.float64)
    z = X @ [1.0, -1.0, 0.5, 0.0] + rng.standard_normal(16_000)
    y = np.digitize(z, [-1, 1] if kind == "three classes" else [0.2])
    s = np.where(rng.random(16_000) < 0.5, 0.0, rng.random(16_000)) if kind == "weights" else None
    if kind == "by label":
        X, y = X[np.argsort(y)], np.sort(y)
    at = (0, 3_000, 4_000, 12_000, 16_000)  # 1,000 rows are too few for a minimum of their own
    rounds = []
    summed = Cluster.sum
    monkeypatch.setattr(Cluster, "sum", lambda self, name, *a, **k: rounds.append(name) or summed(self, name, *a, **k))
    weights = None if s is None else cut(s, at)
    make = lambda: on_dask.LogisticRegression(solver="newton", tol=1e-5)  # noqa: E731
    model = make().fit(cut(X, at), cut(y, at), weights)
    alone = fastopt.LogisticRegression(solver="newton", tol=1e-9).fit(X.astype(float), y, s)
    np.testing.assert_allclose(model.coef_, alone.coef_, atol=1e-3)
    assert model.history_["objective"][0] == pytest.approx(np.log(len(np.unique(y))), rel=1e-12)
    if kind != "by label":
        assert model.history_["objective"][1] < alone.objective_ * 1.01
        assert rounds[:2] == ["start", "gradient"]
        assert len(rounds) <= 8
    with (
        distributed.LocalCluster(n_workers=3, **LOCAL) as cluster,
        distributed.Client(cluster, set_as_default=False) as other,
    ):
        assert bits(make().fit(cut(X, at), cut(y, at), weights, client=other)) == bits(model)


def test_sums_go_through_the_workers_where_they_are_large(client):
    cluster = Cluster(client)
    parts = [client.submit(np.full, 3, float(k), pure=False) for k in range(20)]
    expected = sum(range(20)) * np.arange(3.0)
    for size in (0, 1 << 20):
        np.testing.assert_array_equal(cluster.sum("test", _times, parts, size=size, w=np.arange(3.0)), expected)
    big = np.ones(1 << 18)
    assert cluster.sum("test", _dot, parts, size=8, w=big) == 3 * sum(range(20)) + 20 * big.sum()


def _times(part, w):
    return part * w


def _dot(part, w):
    return part.sum() + w.sum()


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("solver", "columns", "partitions"), [("adam", 20_000, 16), ("sdca", 20_000, 4)])
def test_large_parameters_get_to_the_tasks(client, solver, columns, partitions):
    """Beyond 100 kB, `Client.map` of distributed 2026.8 sent them so that no task ever ended."""
    rows = np.random.default_rng(0).standard_normal((2 * partitions, columns))
    X = da.from_array(rows, chunks=(2, -1))
    y = da.from_array((rows[:, 0] > 0).astype(int), chunks=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = on_dask.LogisticRegression(solver=solver, max_iter=3, random_state=0).fit(X, y)
    assert model.history_["objective"][-1] < model.history_["objective"][0]


def test_sums_of_tuples_and_dicts():
    a = (1, {"x": np.arange(2.0)}, None)
    total = add(a, a, a)
    assert total[0] == 3
    np.testing.assert_array_equal(total[1]["x"], [0.0, 3.0])
    assert total[2] is None
    assert add(None, None) is None
    np.testing.assert_array_equal(a[1]["x"], [0.0, 1.0])


@pytest.mark.parametrize("solver", ["lbfgs", "sdca", "adam"])
def test_data_do_not_cross_the_network(processes, solver):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40_000, 20))
    y = (X @ rng.standard_normal(20) + rng.standard_normal(40_000) > 0).astype(int)
    X_, y_ = processes.persist([da.from_array(X, chunks=(5_000, -1)), da.from_array(y, chunks=5_000)])
    Cluster(processes).wait([X_, y_])
    processes.run(lambda dask_worker: dask_worker.transfer_incoming_log.clear())
    on_dask.LogisticRegression(solver=solver, random_state=0, tol=1e-5).fit(X_, y_, client=processes)
    logs = processes.run(lambda dask_worker: [entry["total"] for entry in dask_worker.transfer_incoming_log])
    # y's blocks may have been put beside others than X's, once.
    assert sum(map(sum, logs.values())) <= y.nbytes + 100_000


# --- what dies --------------------------------------------------------------------------------------------------------


def pids_of(client):
    """The workers' processes, when there are two again."""
    deadline = time.monotonic() + 60
    while True:
        try:
            client.wait_for_workers(2, timeout=60)
            found = set(client.run(os.getpid).values())
            if len(found) == 2:
                return found
        except OSError:  # one is dead, and the scheduler has not noticed
            assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize("solver", ["lbfgs", "sdca"])  # sdca's dual variables are on the workers alone
def test_a_worker_that_is_killed_is_survived(processes, solver):
    X, y = problem("dense")
    X, y = np.tile(X, (10, 1)), np.tile(y, 10)
    at = range(0, len(y) + 1, 1500)

    def fit():
        model = on_dask.LogisticRegression(solver=solver, tol=1e-7, max_iter=200, random_state=0)
        return model.fit(cut(X, at), cut(y, at), client=processes)

    before = pids_of(processes)
    begun = time.perf_counter()
    expected = fit()
    moment = random.uniform(0.05, 0.6) * (time.perf_counter() - begun)
    kill = getattr(signal, "SIGKILL", signal.SIGTERM)
    killer = threading.Timer(moment, os.kill, (random.choice(sorted(before)), kill))
    killer.start()
    model = fit()
    killer.join()
    assert model.converged_
    assert bits(model) == bits(expected), f"killed after {moment:.3f} s"
    assert pids_of(processes) != before


DIES = """
import numpy as np, warnings
from test_dask import LOCAL, cut, problem
import distributed, fastopt.dask
warnings.simplefilter("ignore")
X, y = problem("dense")
with distributed.LocalCluster(n_workers=1, **LOCAL) as cluster, distributed.Client(cluster):
    fastopt.dask.LogisticRegression(solver="adam", learning_rate=1e-5, tol=0.0, max_iter=100000, random_state=0).fit(
        cut(X), cut(y), checkpoint={path!r})
"""


def test_a_scheduler_that_is_killed_goes_on_from_the_checkpoint(client, tmp_path):
    X, y = problem("dense")
    path = tmp_path / "model.npz"
    process = subprocess.Popen([sys.executable, "-c", DIES.format(path=str(path))], env=path_of_tests())
    try:
        deadline = time.monotonic() + 60
        while not path.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        process.kill()
        process.wait()
    before = fastopt.load(path)
    assert before.n_iter_[0] >= 1
    settings = {"solver": "adam", "learning_rate": 1e-5, "random_state": 0, "tol": 0.0}
    total = int(before.n_iter_[0]) + 3
    with pytest.warns(ConvergenceWarning):
        model = on_dask.LogisticRegression(max_iter=total, **settings).fit(cut(X), cut(y), checkpoint=path)
    with pytest.warns(ConvergenceWarning):
        whole = on_dask.LogisticRegression(max_iter=total, **settings).fit(cut(X), cut(y))
    assert bits(model) == bits(whole)
    np.testing.assert_array_equal(model.history_["epoch"], whole.history_["epoch"])


@pytest.mark.parametrize("kind", ["lbfgs", "sdca", "SGDClassifier", "SGDRegressor"])
def test_checkpoints(client, tmp_path, kind):
    X, y = problem("dense")
    path = tmp_path / "model.npz"
    y = np.where(y == "yes", 1.0, 0.0)
    settings = {"random_state": 0, "tol": 1e-6, "solver": kind}
    cls = getattr(on_dask, kind, on_dask.LogisticRegression)
    if cls is not on_dask.LogisticRegression:
        settings |= {"solver": "rounds", "tol": 1e-4, "learning_rate": "constant", "n_iter_no_change": 2}
    with pytest.warns(ConvergenceWarning):
        cls(**settings | {"max_iter": 4}).fit(cut(X), cut(y), checkpoint=path)
    local = fastopt.load(path)
    assert type(local).__module__.startswith("fastopt.linear_model")
    assert np.max(local.n_iter_) == 4
    model = cls(**settings).fit(cut(X), cut(y), checkpoint=path)
    whole = cls(**settings).fit(cut(X), cut(y))
    assert model.stop_reason_ == whole.stop_reason_
    epochs = model.history_["epoch"]
    epochs = epochs[np.diff(epochs, prepend=-1) > 0]  # without what sdca came back to where it had risen
    assert epochs.tolist() == list(range(int(np.max(model.n_iter_)) + 1))
    if settings["solver"] == "rounds":
        assert bits(model) == bits(whole)
    np.testing.assert_allclose(model.coef_, whole.coef_, atol=1e-3)
    again = cls(**settings).fit(cut(X, (0, 600, 1200)), cut(y, (0, 600, 1200)), checkpoint=path)
    assert bits(again) == bits(model)  # it has ended: nothing is done
    assert bits(fastopt.load(path)) == bits(model)
    with pytest.raises(ValueError, match="same data"):
        cls(**settings).fit(cut(X + 1e-3), cut(y), checkpoint=path)
    with pytest.raises(ValueError, match="fit_intercept differ"):
        cls(**settings | {"fit_intercept": False}).fit(cut(X), cut(y), checkpoint=path)


def test_ctrl_c_keeps_the_last_round(client, monkeypatch):
    monkeypatch.setattr("fastopt.dask._rounds.SLOW", 0.0)  # else L-BFGS goes on, and may be through before the signal
    X, y = problem("dense")
    model = on_dask.LogisticRegression(solver="adam", learning_rate=1e-6, tol=0.0, max_iter=100_000, random_state=0)
    timer = threading.Timer(1.5, signal.raise_signal, (signal.SIGINT,))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        model.fit(cut(X), cut(y))
    timer.join()
    assert model.stop_reason_ == "interrupted"
    assert model.predict(X).shape == y.shape


# --- what comes in, and goes out --------------------------------------------------------------------------------------


def test_arrays_frames_and_chunks_are_the_same_data(client):
    pd = pytest.importorskip("pandas", reason="pandas is not installed")
    dd = pytest.importorskip("dask.dataframe", reason="dask's dataframes are not installed")
    X, y = problem("multiclass")
    expected = on_dask.LogisticRegression(tol=1e-8).fit([delayed(X)], [delayed(y)])
    frame = dd.from_pandas(pd.DataFrame(X, columns=[f"x{j}" for j in range(12)]), npartitions=3)
    series = dd.from_pandas(pd.Series(y), npartitions=3)
    arrays = da.from_array(X, chunks=(500, 5)), da.from_array(y, chunks=400)
    empty = [delayed(X[:0]), delayed(X[:500]), delayed(X[500:])], [delayed(y[:0]), delayed(y[:500]), delayed(y[500:])]
    futures = client.scatter([X[:600], X[600:]]), client.scatter([y[:600], y[600:]])
    for data in (arrays, (frame, series), empty, futures):
        model = on_dask.LogisticRegression(tol=1e-8).fit(*data)
        np.testing.assert_allclose(model.coef_, expected.coef_, atol=1e-6)
    assert on_dask.LogisticRegression().fit(frame, series).feature_names_in_.tolist() == list(frame.columns)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        named = on_dask.LogisticRegression(tol=1e-8).fit(frame, series)
        local = named.to_local()
        found = named.predict(frame).compute()
    np.testing.assert_array_equal(found, local.predict(frame.compute()))
    assert named.predict_proba(frame).compute().columns.tolist() == ["low", "mid", "top"]


@pytest.mark.parametrize("kind", ["dense", "csr", "multiclass"])
def test_predictions_are_lazy_and_those_of_one_machine(client, kind):
    X, y = problem(kind)
    model = on_dask.LogisticRegression().fit(cut(X), cut(y))
    local = model.to_local()
    assert type(local) is fastopt.LogisticRegression
    for method in ("predict", "predict_proba", "predict_log_proba", "decision_function"):
        expected = getattr(local, method)(X)
        np.testing.assert_array_equal(getattr(model, method)(X), expected)
        chunks = [chunk.compute() for chunk in getattr(model, method)(cut(X))]
        np.testing.assert_array_equal(np.concatenate(chunks), expected)
        if kind != "csr":
            array = getattr(model, method)(da.from_array(X, chunks=(500, 6)))
            assert array.shape == expected.shape
            np.testing.assert_array_equal(array.compute(), expected)
    s = np.random.default_rng(0).exponential(size=len(y))
    assert model.score(cut(X), cut(y), cut(s)) == pytest.approx(local.score(X, y, s), rel=1e-12)
    assert model.score(X, y) == local.score(X, y)


@pytest.mark.parametrize("kind", ["dense", "csr", "multiclass"])
def test_chunks_without_rows_have_predictions_without_rows(client, kind):
    """Of the shape and dtype of one machine's first ones, so that they can be put together; names are no matter."""
    X, y = problem(kind)
    model = on_dask.LogisticRegression(tol=1e-6).fit(cut(X), cut(y))
    data = [X, X.astype(np.float32)]
    if kind != "csr" and (pd := pytest.importorskip("pandas")):
        frame = pd.DataFrame(X, columns=[f"x{j}" for j in range(X.shape[1])])
        named = on_dask.LogisticRegression(tol=1e-6).fit([delayed(frame)], [delayed(y)])
        data.append(frame)
    for rows in data:
        fitted = named if hasattr(rows, "columns") else model
        for method in ("predict", "predict_proba", "predict_log_proba", "decision_function"):
            expected = getattr(fitted.to_local(), method)(rows[:1])[:0]
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                (found,) = [chunk.compute() for chunk in getattr(fitted, method)([delayed(rows[:0])])]
            assert found.shape == expected.shape
            assert found.dtype == expected.dtype


def test_blocks_of_csr(client):
    X, y = problem("csr")
    blocks = da.from_array(X.toarray(), chunks=(400, -1)).map_blocks(sp.csr_matrix)
    model = on_dask.LogisticRegression(tol=1e-8).fit(blocks, da.from_array(y, chunks=400))
    alone = fastopt.LogisticRegression(tol=1e-8).fit(X, y)
    np.testing.assert_allclose(model.coef_, alone.coef_, atol=1e-5)


def test_columns_named_twice(client):
    X, y = problem("csr")
    twice = sp.csr_matrix(
        (np.repeat(X.data / 2, 2), np.repeat(X.indices, 2), 2 * X.indptr), shape=X.shape
    )  # fmt: skip
    alone = fastopt.LogisticRegression(tol=1e-8).fit(X, y)
    model = on_dask.LogisticRegression(tol=1e-8, solver="sdca", max_iter=500, random_state=0).fit(cut(twice), cut(y))
    np.testing.assert_allclose(model.coef_, alone.coef_, atol=1e-5)


def test_parts_know_their_size(client):
    X, y = problem("dense")
    part = read_part(X, y, None, 0, True)
    assert sys.getsizeof(part) >= X.nbytes
    task = on_dask.LogisticRegression()._distribute
    assert callable(task)
    assert sys.getsizeof(encode(part, 0, _task())) >= X.nbytes


def _task():
    from fastopt.dask._parts import Task
    from fastopt.losses import Logistic

    return Task(Logistic(), 0.1, 0.0, True, 1, "binary", np.array(["no", "yes"]), 1200.0)


def test_a_share_is_pickled_without_what_can_be_made_again():
    import pickle

    X, y = problem("dense")
    share = encode(read_part(X, y, None, 0, True), 0, _task())
    again = pickle.loads(pickle.dumps(share))
    assert "losses" not in vars(again)
    w = np.random.default_rng(0).standard_normal(13)
    assert again.losses.value(w) == share.losses.value(w)


BAD = {
    "numpy": (lambda X, y: (X, y), TypeError, "X must be a dask array.*got 'ndarray'"),
    "nan": (lambda X, y: (cut(np.where(np.arange(1200) == 720, np.nan, X.T).T), cut(y)), ValueError, "partition 2"),
    "rows": (lambda X, y: (cut(X), cut(y[:1100], (0, 300, 700, 750, 1100))), ValueError, "450.*got 350.*partition 3"),
    "columns": (lambda X, y: ([delayed(X), delayed(X[:, :5])], [delayed(y)] * 2), ValueError, "in partition 1"),
    "partitions": (lambda X, y: (cut(X), cut(y)[:3]), ValueError, "y must have as many partitions"),
    "one class": (lambda X, y: (cut(X), cut(np.full(1200, 3))), ValueError, "at least 2 classes"),
    "no y": (lambda X, y: (cut(X), None), ValueError, "y must be passed"),
    "real y": (lambda X, y: (cut(X), cut(np.linspace(0, 1, 1200))), ValueError, "Unknown label type.*partition [0-3]"),
    "no rows": (lambda X, y: (cut(X[:0], (0, 0)), cut(y[:0], (0, 0))), ValueError, "at least one row"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_data_are_refused_by_the_partition(client, case):
    make, error, text = BAD[case]
    model = on_dask.LogisticRegression()
    before = dict(vars(model))
    with pytest.raises(error, match=text):
        model.fit(*make(*problem("dense")))
    assert vars(model) == before


def test_bad_parameters_are_refused(client):
    X, y = problem("dense")
    for model, text in (
        (on_dask.LogisticRegression(solver="saga"), "works on partitions"),
        (on_dask.LogisticRegression(solver="newton-cg"), "works on partitions"),
        (on_dask.LogisticRegression(solver="sag"), "works on partitions"),
        (on_dask.LogisticRegression(solver="newton", penalty="l1"), "can minimise an L1 penalty.*Use 'lbfgs'"),
        (on_dask.LogisticRegression(C=0), "C must be"),
        (on_dask.SGDClassifier(early_stopping=True), "early_stopping must be False on Dask"),
        (on_dask.SGDClassifier(solver="sdca"), "solver must be one of 'rounds'"),
        (on_dask.SGDClassifier(solver="newton"), "solver must be one that can minimise the loss 'hinge'"),
    ):
        with pytest.raises(ValueError, match=text):
            model.fit(cut(X), cut(y))
    with pytest.raises(ValueError, match="got only zeros"):
        on_dask.LogisticRegression().fit(cut(X), cut(y), cut(np.zeros(1200)))
    with pytest.raises(TypeError, match="client must be a dask"):
        on_dask.LogisticRegression().fit(cut(X), cut(y), client="tcp://scheduler:8786")


ALONE = """
import sys, fastopt
assert not any(name.startswith(("dask", "distributed")) for name in sys.modules), "import fastopt imports Dask"
from test_dask import cut, problem
import fastopt.dask
X, y = problem("dense")
fastopt.dask.LogisticRegression().fit(cut(X), cut(y))
"""


def path_of_tests():
    """The environment of a process that imports this fastopt and this file."""
    folders = (Path(fastopt.__file__).parent.parent, Path(__file__).parent)
    return os.environ | {"PYTHONPATH": os.pathsep.join(map(str, folders))}


def test_without_a_client_it_says_how_to_start_one():
    found = subprocess.run([sys.executable, "-c", ALONE], env=path_of_tests(), capture_output=True, text=True)
    assert "ValueError: client must be a Dask client" in found.stderr
    assert "client = Client()" in found.stderr


def test_parameters_are_those_of_one_machine():
    for name in on_dask.__all__:
        ours, theirs = getattr(on_dask, name)(), getattr(fastopt, name)()
        mine = {k: v for k, v in ours.get_params().items() if k in theirs.get_params()}
        assert mine == theirs.get_params()
        assert set(ours.get_params()) - set(mine) <= {"solver", "n_jobs"}


# --- the documentation ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", on_dask.__all__)
def test_the_examples_run(name):
    cls = getattr(on_dask, name)
    text = cls.__doc__.replace("  # doctest: +SKIP", "")
    test = doctest.DocTestParser().get_doctest(text, {name: cls}, name, None, 0)
    assert len(test.examples) > 5
    assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test).failed == 0


def test_the_page_runs(tmp_path, monkeypatch):
    page = (Path(__file__).resolve().parent.parent / "docs" / "dask.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 4
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "docs"}
    try:
        for block in blocks:
            code = block.replace("Client()", "Client(processes=False, dashboard_address=':0')")
            exec(compile(code, "dask.md", "exec"), names)
    finally:
        for name in ("client", "cluster"):
            if name in names:
                names[name].close()


def test_grid_search_on_dask(client):
    import joblib
    from sklearn.model_selection import GridSearchCV

    X, y = problem("dense")
    search = GridSearchCV(fastopt.LogisticRegression(), {"C": [1e-3, 1.0]}, cv=3)
    with joblib.parallel_backend("dask"):
        search.fit(X, y)
    alone = GridSearchCV(fastopt.LogisticRegression(), {"C": [1e-3, 1.0]}, cv=3).fit(X, y)
    assert search.best_params_ == alone.best_params_
    np.testing.assert_array_equal(search.best_estimator_.coef_, alone.best_estimator_.coef_)
