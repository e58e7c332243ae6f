"""LogisticRegression: scikit-learn's contract, its optimum, reproducibility, warnings, interrupts and errors."""

import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
from cases import assert_close
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_digits, load_iris
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LogisticRegression as Peer
from sklearn.preprocessing import scale
from sklearn.utils import compute_class_weight
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_y

from fastopt import LogisticRegression, LogisticRegressionCV, SGDClassifier, reference
from fastopt._design import Design
from fastopt.data import Chunks
from fastopt.linear_model import _base
from fastopt.objective import Objective
from fastopt.optimizers import OPTIMIZERS, SGD, Adam, GradientDescent
from fastopt.schedules import InverseTime
from fastopt.solvers.monitor import Monitor, Reporter
from fastopt.solvers.stochastic import stochastic
from fastopt.solvers.table import SOLVERS as TABLE

#: test_sdca.py and test_saga.py are for the others, which shuffle the rows.
FINISHERS = [name for name, solver in TABLE.items() if solver.outputs]
SOLVERS = [*FINISHERS, *OPTIMIZERS]
SOLVER = pytest.mark.parametrize("solver", SOLVERS)
IGNORE = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@IGNORE
@parametrize_with_checks([LogisticRegression(), *(LogisticRegression(solver=solver) for solver in SOLVERS)])
def test_scikit_learns_checks(estimator, check):
    check(estimator)


@IGNORE
@pytest.mark.parametrize("layout", [np.asarray, scipy.sparse.csr_array])
def test_adadelta_weighs_rows_as_repeated_ones(layout):
    """As scikit-learn's checks ask, on fewer columns, whose rounding grows: 1e-13 after 15 epochs, 1e-3 after 100."""
    rng = np.random.default_rng(0)
    X, y, s = rng.uniform(size=(15, 10)), rng.integers(0, 3, 15), rng.integers(0, 5, 15)
    weighted, repeated = (LogisticRegression(solver="adadelta", max_iter=15, random_state=0) for _ in range(2))
    weighted.fit(layout(X), y, sample_weight=s)
    repeated.fit(layout(np.repeat(X, s, axis=0)), np.repeat(y, s))
    np.testing.assert_allclose(weighted.coef_, repeated.coef_, rtol=0, atol=1e-7)
    unweighted = LogisticRegression(solver="adadelta", max_iter=15, random_state=0).fit(layout(X), y)
    assert np.abs(weighted.coef_ - unweighted.coef_).max() > 1e-2


# --- the optimum ------------------------------------------------------------------------------------------------------


def breast_cancer():
    X, y = load_breast_cancer(return_X_y=True)
    return scale(X), y


def iris():
    X, y = load_iris(return_X_y=True)
    return scale(X), y


def digits():
    X, y = load_digits(return_X_y=True)
    return X / 16, y


DATA = pytest.mark.parametrize("data", [breast_cancer, iris, digits])
SETTINGS = [
    {},
    {"C": 0.01},
    {"fit_intercept": False},
    {"class_weight": "balanced"},
    {"class_weight": {0: 3.0, 1: 0.5}},
]


@IGNORE
@pytest.mark.parametrize("data", [breast_cancer, iris])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("options", SETTINGS, ids=repr)
def test_optimum_is_scikit_learns(data, options, weighted):
    """With tol=0: until rounding stops the line search."""
    X, y = data()
    s = np.random.default_rng(0).integers(0, 4, len(y)).astype(float) if weighted else None
    ours = LogisticRegression(solver="lbfgs", tol=0.0, max_iter=2000, **options).fit(X, y, sample_weight=s)
    peer = Peer(solver="newton-cholesky", tol=1e-12, max_iter=200, **options).fit(X, y, sample_weight=s)
    assert ours.stop_reason_ == "stalled"
    best = parameters(peer)
    assert np.linalg.norm(parameters(ours) - best) < 1e-6 * np.linalg.norm(best)
    np.testing.assert_allclose(ours.predict_proba(X), peer.predict_proba(X), rtol=0, atol=1e-6)
    np.testing.assert_array_equal(ours.predict(X), peer.predict(X))


def parameters(model):
    """Coefficients and intercepts; of softmax's, which a constant may be added to, centred."""
    b = model.intercept_ - (model.intercept_.mean() if len(model.intercept_) > 1 else 0)
    return np.column_stack([model.coef_, b])


@IGNORE
@pytest.mark.parametrize("data", [breast_cancer, iris])
@pytest.mark.parametrize(
    "solver", [name for name in OPTIMIZERS if name in ("gd", "sgd", "momentum", "nesterov", "adam")]
)
def test_every_textbook_rule_gets_there_with_its_defaults(solver, data):
    """To a relative gap of 1e-2, and converged_ means what it says: both by the reference."""
    X, y = data()
    best = LogisticRegression(solver="lbfgs", C=0.1, tol=1e-7).fit(X, y).objective_
    model = LogisticRegression(solver=solver, C=0.1, tol=1e-3, max_iter=300, random_state=0).fit(X, y)
    objective, norm = judge(model, X, y)
    assert best - 1e-9 <= objective <= best + 1e-2 * (model.history_["objective"][0] - best)
    assert model.converged_ == (norm <= 1e-3) == (model.stop_reason_ == "tol")
    assert model.grad_norm_ == pytest.approx(norm, rel=1e-6)
    assert model.objective_ == pytest.approx(objective, rel=1e-9)


def judge(model, X, y, s=None):
    """F and its gradient's norm at the fitted coefficients, by the reference alone."""
    s = np.ones(len(y)) if s is None else s
    codes = np.searchsorted(model.classes_, y)
    binary = len(model.classes_) == 2
    w = np.vstack([model.coef_.T, model.intercept_]).astype(float)
    terms = {
        "loss": "log_loss" if binary else "multinomial", "alpha": 1 / (model.C * s.sum()), "sample_weight": s,
    }  # fmt: skip
    y = np.where(codes == 1, 1.0, -1.0) if binary else codes
    return reference.objective(X, y, w, **terms), np.linalg.norm(reference.gradient(X, y, w, **terms))


# --- layouts, dtypes, labels ------------------------------------------------------------------------------------------


def fit(X, y, solver, **options):
    settings = {"max_iter": 5, "random_state": 0, "batch_size": "auto" if solver == "gd" else 16, "C": 1.0} | options
    return LogisticRegression(solver=solver, **settings).fit(X, y)


@IGNORE
@SOLVER
@DATA
def test_csr_equals_dense(solver, data):
    """Adaptive rules without penalty: with L2 they promise the same minimiser, not the same iterates."""
    X, y = data()
    X = np.where(X > 0.5, X, 0.0)
    C = 1.0 if solver in (*FINISHERS, "gd", "sgd", "momentum", "nesterov") else np.inf
    dense, sparse = fit(X, y, solver, C=C), fit(scipy.sparse.csr_array(X), y, solver, C=C)
    assert_close(sparse.coef_, dense.coef_, 1e-7 if solver in FINISHERS else 1e-10)
    assert_close(sparse.intercept_, dense.intercept_, 1e-7 if solver in FINISHERS else 1e-10)
    np.testing.assert_array_equal(sparse.predict(scipy.sparse.csr_array(X)), dense.predict(X))
    np.testing.assert_array_equal(sparse.n_iter_, dense.n_iter_)


@IGNORE
@SOLVER
@DATA
def test_int32_equals_int64(solver, data):
    X, y = data()
    narrow, wide = scipy.sparse.csr_array(X), scipy.sparse.csr_array(X)
    wide.indices, wide.indptr = wide.indices.astype(np.int64), wide.indptr.astype(np.int64)
    assert narrow.indices.dtype == np.int32
    one, other = fit(narrow, y, solver), fit(wide, y, solver)
    assert_close(one.coef_, other.coef_, 1e-11)
    assert_close(one.predict_proba(wide), one.predict_proba(narrow), 1e-14)


@IGNORE
@SOLVER
@pytest.mark.parametrize("sparse", [False, True])
def test_float32_gives_float32(solver, sparse):
    X, y = iris()
    single = X.astype(np.float32)
    model, double = fit(scipy.sparse.csr_array(single) if sparse else single, y, solver), fit(X, y, solver)
    for a in (model.coef_, model.intercept_, model.decision_function(single), model.predict_proba(single)):
        assert a.dtype == np.float32
    for a in (double.coef_, double.intercept_, double.decision_function(X), double.predict_proba(X)):
        assert a.dtype == np.float64
    np.testing.assert_allclose(model.coef_, double.coef_, rtol=0, atol=1e-2 * np.abs(double.coef_).max())


@pytest.mark.parametrize(
    "labels", [["b", "a", "c"], [3, -1, 7], [2.0, 1.0, 0.0], np.array(["zz", "é", "A"], dtype=object)]
)
@pytest.mark.parametrize("n_classes", [2, 3])
def test_labels_in_any_order(labels, n_classes):
    X, y = iris()
    X, y = X[y < n_classes], y[y < n_classes]
    names = np.asarray(labels)[:n_classes][y]
    model, plain = LogisticRegression().fit(X, names), LogisticRegression().fit(X, y)
    np.testing.assert_array_equal(model.classes_, np.unique(names))
    np.testing.assert_array_equal(model.predict(X), np.asarray(labels)[:n_classes][plain.predict(X)])
    order = np.argsort(np.asarray(labels)[:n_classes])
    np.testing.assert_allclose(model.predict_proba(X), plain.predict_proba(X)[:, order], atol=1e-3)
    if n_classes == 2:
        np.testing.assert_array_equal(model.decision_function(X) > 0, model.predict(X) == model.classes_[1])


@IGNORE
@SOLVER
def test_inputs_are_not_written(solver):
    X, y = iris()
    s = np.arange(1.0, len(y) + 1)
    sparse = scipy.sparse.csr_array(np.where(X > 0, X, 0))
    arrays = [X, y, s, sparse.data, sparse.indices, sparse.indptr]
    before = [a.copy() for a in arrays]
    for a in arrays:
        a.setflags(write=False)
    for data in (X, np.asfortranarray(X), sparse):
        model = LogisticRegression(solver=solver, max_iter=2, random_state=0).fit(data, y, sample_weight=s)
        model.predict_proba(data)
    for a, b in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(a, b)


# --- runs -------------------------------------------------------------------------------------------------------------


@IGNORE
@SOLVER
@pytest.mark.parametrize("make", [lambda: 7, lambda: np.random.RandomState(7), lambda: np.random.default_rng(7)])
def test_the_same_random_state_gives_the_same_bits(solver, make):
    X, y = iris()
    np.testing.assert_array_equal(
        fit(X, y, solver, random_state=make()).coef_, fit(X, y, solver, random_state=make()).coef_
    )


@IGNORE
@pytest.mark.parametrize("solver", [name for name in OPTIMIZERS if name != "gd"])
def test_the_order_of_the_rows_is_random(solver):
    X, y = iris()
    one, other = fit(X, y, solver, random_state=1), fit(X, y, solver, random_state=2)
    assert not np.array_equal(one.coef_, other.coef_)
    rng = np.random.default_rng(1)
    one, other = fit(X, y, solver, random_state=rng), fit(X, y, solver, random_state=rng)
    assert not np.array_equal(one.coef_, other.coef_)


@IGNORE
@SOLVER
def test_history(solver):
    X, y = breast_cancer()
    model = fit(X, y, solver, max_iter=4, tol=0.0)
    history = model.history_
    assert set(history) == {"epoch", "seconds", "objective", "grad_norm", "learning_rate"}
    assert len({len(column) for column in history.values()}) == 1
    assert history["epoch"][0] == 0
    assert history["epoch"].max() == 4
    assert model.n_iter_.tolist() == [4]
    assert (np.diff(history["seconds"]) >= 0).all() or solver not in FINISHERS
    assert history["objective"][0] == pytest.approx(np.log(2))
    assert history["objective"][-1] == model.objective_
    assert history["grad_norm"][-1] == model.grad_norm_
    objective, norm = judge(model, X, y)
    assert model.objective_ == pytest.approx(objective, rel=1e-10)
    assert model.grad_norm_ == pytest.approx(norm, rel=1e-8)
    assert model.objective_ < np.log(2)
    assert model.stop_reason_ == "max_iter"
    assert not model.converged_


def test_the_minimum_is_not_left():
    """Converged at the start: no step, and a reason."""
    X, y = breast_cancer()
    for solver in SOLVERS:
        model = LogisticRegression(solver=solver, tol=1e9).fit(X, y)
        assert model.stop_reason_ == "tol"
        assert not model.coef_.any()
        assert model.n_iter_.tolist() == [0]


@SOLVER
def test_warning_names_the_parameter_to_change(solver):
    X, y = breast_cancer()
    with pytest.warns(ConvergenceWarning) as caught:
        model = LogisticRegression(solver=solver, max_iter=2, tol=1e-12, random_state=0).fit(X, y)
    assert len(caught) == 1
    text = str(caught[0].message)
    if solver == "saga":  # scikit-learn's words
        assert text.startswith("The max_iter was reached which means the coef_ did not converge. ")
        text = text.partition(". ")[2]
    assert text.startswith(
        f"{solver} failed to converge after 2 iteration(s): |gradient| {model.grad_norm_:.3g} > tol 1e-12: "
        "max_iter was reached first."
    )
    assert "Increase the number of iterations (max_iter=2) or tol" in text
    assert caught[0].filename == __file__


# --- scikit-learn's names ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "binary", "several"), [
    ("lbfgs", "lbfgs", "lbfgs"), ("newton-cg", "newton-cg", "newton-cg"), ("newton-cholesky", "newton", "newton"),
    ("sag", "saga", "saga"), ("saga", "saga", "saga"), ("liblinear", "newton", None),
])  # fmt: skip
def test_scikit_learns_solvers(name, binary, several):
    """What runs under each name, and that it gets to scikit-learn's minimum."""
    for data, ran in ((breast_cancer, binary), (iris, several)):
        X, y = data()
        model = LogisticRegression(solver=name, C=0.1, tol=1e-7, max_iter=2000, random_state=0)
        assert model.__sklearn_tags__().classifier_tags.multi_class == (several is not None)
        if ran is None:
            with pytest.raises(ValueError, match="'liblinear' solver does not support multiclass classification"):
                model.fit(X, y)
            continue
        model.fit(X, y)
        peer = Peer(C=0.1, tol=1e-10, max_iter=10_000).fit(X, y)
        assert (model.solver_, model.converged_) == (ran, True)
        np.testing.assert_allclose(model.coef_, peer.coef_, atol=1e-5)
        np.testing.assert_allclose(model.intercept_, peer.intercept_, atol=1e-5)


def test_a_name_of_two_solvers_means_the_one_that_can():
    X, y = breast_cancer()
    assert LogisticRegression(solver="newton-cg", l1_ratio=0.5, C=0.1, max_iter=500).fit(X, y).solver_ == "newton"
    wide = scipy.sparse.random_array((30, 6000), density=0.01, rng=0, format="csr")
    assert LogisticRegression(solver="newton-cholesky").fit(wide, np.arange(30) % 2).solver_ == "lbfgs"


@pytest.mark.parametrize(("old", "new", "texts"), [
    ({"penalty": "l2"}, {}, []),
    ({"penalty": "l1", "l1_ratio": 1.0}, {"l1_ratio": 1.0}, []),
    ({"penalty": "l1"}, {"l1_ratio": 1.0}, ["Inconsistent values: penalty=l1 with l1_ratio=0.0"]),
    ({"penalty": "l2", "l1_ratio": 0.5}, {}, ["l1_ratio parameter is only used when", "Inconsistent values"]),
    ({"penalty": "elasticnet", "l1_ratio": 0.5}, {"l1_ratio": 0.5}, []),
    ({"penalty": None}, {"C": np.inf}, []),
    ({"penalty": None, "C": 4.0}, {"C": np.inf}, ["Setting penalty=None will ignore the C"]),
    ({"l1_ratio": None}, {"l1_ratio": 0.0}, None),
])  # fmt: skip
def test_penalty_is_scikit_learns(old, new, texts):
    X, y = iris()
    X, y = X[y > 0], y[y > 0]
    expected = LogisticRegression(max_iter=500, random_state=0, **new).fit(X, y)
    with pytest.warns() as caught:
        model = LogisticRegression(max_iter=500, random_state=0, **old).fit(X, y)
    found = [str(warning.message) for warning in caught]
    assert found.pop(0).startswith("'l1_ratio=None' was" if texts is None else "'penalty' was deprecated")
    assert len(found) == len(texts or ())
    assert all(text in message for text, message in zip(texts or (), found, strict=True))
    assert {warning.filename for warning in caught} == {__file__}
    np.testing.assert_array_equal(model.coef_, expected.coef_)
    if "penalty" in old:
        assert LogisticRegression(old["penalty"]).penalty == old["penalty"]  # the one parameter by position, as there


def test_liblinears_parameters_change_nothing():
    X, y = breast_cancer()
    model = LogisticRegression(solver="liblinear").fit(X, y)
    other = LogisticRegression(solver="liblinear", dual=True, intercept_scaling=100.0).fit(X, y)
    np.testing.assert_array_equal(other.coef_, model.coef_)


@IGNORE
@pytest.mark.parametrize("solver", [*TABLE, "auto", "adam", "gd"])
def test_no_iterations_show_the_start(solver):
    X, y = breast_cancer()
    model = LogisticRegression(solver=solver, max_iter=0, random_state=0).fit(X, y)
    assert (model.n_iter_.tolist(), model.stop_reason_) == ([0], "max_iter")
    np.testing.assert_array_equal(model.predict_proba(X), 0.5)
    model = LogisticRegression(solver=solver, max_iter=5, warm_start=True, random_state=0).fit(X, y)
    coef = model.coef_.copy()
    np.testing.assert_array_equal(model.set_params(max_iter=0).fit(X, y).coef_, coef)


@pytest.mark.parametrize("rule", [SGD, GradientDescent, lambda **kw: SGD(momentum=0.9, **kw)])
@pytest.mark.parametrize("sparse", [False, True])
def test_divergence(rule, sparse):
    """A hopeless learning rate: cut, tried again, and if that does not help, named; the best parameters are kept."""
    X, y = breast_cancer()
    X = scipy.sparse.csr_array(X * 1e6) if sparse else X * 1e6
    with pytest.warns(ConvergenceWarning, match="learning_rate") as caught:
        model = LogisticRegression(solver=rule(learning_rate=1e30), random_state=0, max_iter=20).fit(X, y)
    assert model.stop_reason_ == "diverged"
    assert "diverged" not in str(caught[0].message)  # a reason in words
    assert np.isfinite(model.coef_).all()
    assert model.objective_ <= np.log(2) * (1 + 1e-9)


@IGNORE
@pytest.mark.parametrize("factor", [1e-30, 1e-3, 1e3, 1e30])
@SOLVER
def test_features_of_any_scale(solver, factor):
    """Never a silent 1e12: finite coefficients, and F no higher than at the start."""
    X, y = breast_cancer()
    model = LogisticRegression(solver=solver, max_iter=5, random_state=0).fit(X * factor, y)
    assert np.isfinite(model.coef_).all()
    assert model.objective_ <= np.log(2) * (1 + 1e-9)


@IGNORE
@SOLVER
def test_warm_start(solver):
    X, y = breast_cancer()
    model = LogisticRegression(solver=solver, max_iter=3, random_state=0, warm_start=True)
    first = model.fit(X, y).objective_
    last = model.history_["objective"][3]  # where the third epoch ended: the fit may have come back from there
    again = model.set_params(max_iter=10).fit(X, y)  # near the minimum three epochs may not be enough
    assert again.history_["objective"][0] == pytest.approx(last, rel=1e-12)
    assert again.objective_ <= first
    assert again.history_["objective"][1:].min() < last
    cold = clone(model).set_params(warm_start=False).fit(X, y)
    assert cold.fit(X, y).history_["objective"][0] == pytest.approx(np.log(2))
    model.fit(X[:, :4], y)  # other features: from zeros again
    assert model.history_["objective"][0] == pytest.approx(np.log(2))
    assert model.coef_.shape == (1, 4)


@IGNORE
@SOLVER
def test_verbose_prints_a_line_per_epoch(solver, capsys):
    X, y = iris()
    fit(X, y, solver, max_iter=3, verbose=1, tol=0.0)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) >= 4
    assert all(line.startswith("epoch") and "|gradient|" in line for line in lines)
    fit(X, y, solver, max_iter=3)
    assert capsys.readouterr().out == ""


@IGNORE
def test_an_instance_is_used_as_it_is():
    X, y = iris()
    for solver in (SGD(learning_rate=0.1), Adam(learning_rate=InverseTime(0.1, 0.1)), GradientDescent(decay=0.1)):
        model = LogisticRegression(solver=solver, random_state=0, max_iter=3).fit(X, y)
        assert model.solver is solver
        assert model.solver_ == solver.name
    slow, fast = (
        LogisticRegression(solver=SGD(learning_rate=r), random_state=0, max_iter=1).fit(X, y) for r in (1e-9, 0.1)
    )
    assert np.abs(slow.coef_).max() < 1e-6 < np.abs(fast.coef_).max()
    by_name = LogisticRegression(solver="sgd", learning_rate=0.1, random_state=0, max_iter=1).fit(X, y)
    np.testing.assert_array_equal(by_name.coef_, fast.coef_)


@IGNORE
@pytest.mark.parametrize("batch_size", [1, 7, 150, "full"])
def test_batch_sizes(batch_size):
    X, y = iris()
    model = LogisticRegression(solver="sgd", learning_rate=1e-3, batch_size=batch_size, max_iter=2, random_state=0).fit(
        X, y
    )
    assert model.optimizer_state_["t"] == 2 * {1: 150, 7: 22, 150: 1, "full": 1}[batch_size]
    if batch_size in (150, "full"):
        gd = LogisticRegression(solver="gd", learning_rate=1e-3, max_iter=2).fit(X, y)
        assert_close(model.coef_, gd.coef_, 1e-12)


# --- interrupts -------------------------------------------------------------------------------------------------------


@IGNORE
@SOLVER
@pytest.mark.parametrize("whole", [0, 1, 3])
def test_ctrl_c_leaves_the_last_whole_epoch(solver, whole, monkeypatch):
    X, y = breast_cancer()
    options = {"solver": solver, "random_state": 0, "tol": 0.0, "learning_rate": 1e-3}  # F falls in every epoch
    record, calls = Monitor.record, []

    def interrupted(self, *args):
        calls.append(args)
        if len(calls) == whole + 2:  # the first is at the start
            raise KeyboardInterrupt
        return record(self, *args)

    model = LogisticRegression(max_iter=10, **options)
    with monkeypatch.context() as patch:
        patch.setattr(Monitor, "record", interrupted)
        with pytest.raises(KeyboardInterrupt):
            model.fit(X, y)
    assert model.stop_reason_ == "interrupted"
    assert model.n_iter_.tolist() == [whole]
    assert len(model.predict(X)) == len(y)
    if whole:
        expected = LogisticRegression(max_iter=whole, **options).fit(X, y)
        np.testing.assert_array_equal(model.coef_, expected.coef_)
        np.testing.assert_array_equal(model.intercept_, expected.intercept_)
        assert model.objective_ == expected.objective_
    else:
        assert not model.coef_.any()
    objective, norm = judge(model, X, y)
    assert model.objective_ == pytest.approx(objective, rel=1e-10)
    assert model.grad_norm_ == pytest.approx(norm, rel=1e-6)


@pytest.mark.parametrize("solver", [*FINISHERS, "gd", "nesterov", "adam"])
@pytest.mark.parametrize("iterations", [0, 2])
def test_a_norm_that_is_tol_has_converged(solver, iterations):
    """At most tol: no iteration more."""
    X, y = breast_cancer()
    options = {"solver": solver, "random_state": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        norms = LogisticRegression(max_iter=2, tol=0.0, **options).fit(X, y).history_["grad_norm"]
    model = LogisticRegression(tol=norms[iterations], **options).fit(X, y)
    assert model.converged_
    assert model.n_iter_ == int(np.argmax(norms[: iterations + 1] <= norms[iterations]))


def test_ctrl_c_leaves_the_last_whole_epoch_though_f_was_lower_before():
    """Who stops it sees the parameters that go on; max_iter would give the best."""
    X, y = breast_cancer()
    F = Objective(Design.from_array(X), np.where(y, 1.0, -1.0), alpha=1e-3)
    seen, values = [], []

    def on_epoch(epoch, w):
        if values[-2:] != sorted(values[-2:], reverse=True):  # the epoch after one that F rose in
            raise KeyboardInterrupt
        seen.append(w.copy())
        values.append(F.value(w))

    options = {"batch_size": 1, "tol": 0.0, "rng": np.random.default_rng(0)}
    reporter = Reporter(on_epoch=on_epoch)
    result = stochastic(F, F.zeros(), Adam(learning_rate=0.1), max_iter=100, verbose=reporter, **options)
    assert (result.stop_reason, result.n_iter) == ("interrupted", len(seen) - 1)
    np.testing.assert_array_equal(result.w, seen[-1])
    assert result.objective == values[-1] > values[-2]


INTERRUPTED = """
import sys, time, warnings
import numpy as np
import scipy.sparse
from fastopt import LogisticRegression

warnings.simplefilter("ignore")
rng = np.random.default_rng(0)
y = rng.integers(0, 2, 100_000)
X = rng.standard_normal((100_000, 100)).astype(np.float32)
if sys.argv[2] == "csr":
    X = scipy.sparse.csr_array(X)
options = {"tol": 0.0, "random_state": 0, "batch_size": 10, "learning_rate": 1e-5}
model = LogisticRegression(solver=sys.argv[1], max_iter=1_000_000, verbose=1, **options)
try:
    model.fit(X, y)
except KeyboardInterrupt:
    print("stopped", flush=True)
assert model.stop_reason_ == "interrupted"
epochs = int(model.n_iter_[0])
again = LogisticRegression(solver=sys.argv[1], max_iter=epochs, **options).fit(X, y)
print("same" if np.array_equal(again.coef_, model.coef_) else "different", flush=True)
"""


@pytest.mark.parametrize(("solver", "layout"), [("sgd", "dense"), ("adam", "csr"), ("lbfgs", "dense")])
def test_sigint_is_seen_at_once(solver, layout):
    seconds = []
    for _ in range(3):  # others may be using the machine
        with subprocess.Popen(
            [sys.executable, "-u", "-c", INTERRUPTED, solver, layout], stdout=subprocess.PIPE, text=True,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)},
        ) as child:  # fmt: skip
            lines = iter(child.stdout)
            assert any(line.startswith("epoch    2 ") for line in lines)
            start = time.perf_counter()
            child.send_signal(signal.SIGINT)
            assert next(line for line in lines if not line.startswith("epoch")) == "stopped\n"
            seconds.append(time.perf_counter() - start)
            assert next(lines) == "same\n"
            assert child.wait() == 0
        if seconds[-1] < 0.3:
            return
    pytest.fail(f"Ctrl-C was seen after {seconds} s")


# --- predictions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("margin", [-1e6, -800.0, -40.0, 0.0, 40.0, 800.0, 1e6])
def test_probabilities_at_extreme_margins(margin):
    model = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
    model.coef_, model.intercept_ = np.array([[1.0]]), np.zeros(1)
    log_p = model.predict_log_proba([[margin]])[0]
    np.testing.assert_allclose(log_p, [-np.logaddexp(0, margin), -np.logaddexp(0, -margin)], rtol=1e-14)
    p = model.predict_proba([[margin]])[0]
    assert np.isfinite(log_p).all()
    assert p.sum() == pytest.approx(1, abs=1e-15)
    assert (p >= 0).all()
    several = LogisticRegression().fit([[0.0], [1.0], [2.0]], [0, 1, 2])
    several.coef_, several.intercept_ = np.array([[1.0], [0.0], [-1.0]]), np.zeros(3)
    log_p = several.predict_log_proba([[margin]])[0]
    z = np.array([margin, 0.0, -margin])
    np.testing.assert_allclose(log_p, z - np.logaddexp.reduce(z), rtol=1e-14, atol=1e-300)
    assert several.predict_proba([[margin]]).sum() == pytest.approx(1, abs=1e-15)


def test_an_alpha_beyond_floats_is_that_of_C_and_the_weights():
    with pytest.raises(ValueError, match="the sum is 6e-30; got 1e-300"):
        LogisticRegression(C=1e-300).fit(X, Y, sample_weight=np.full(6, 1e-30))


@IGNORE
@pytest.mark.parametrize("data", [breast_cancer, digits])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_predictions_agree_with_each_other(data, dtype):
    X, y = data()
    model = LogisticRegression().fit(X, y)
    X = X.astype(dtype)
    z, p = model.decision_function(X), model.predict_proba(X)
    tolerance = 1e-12 if dtype == np.float64 else 1e-5
    assert_close(np.squeeze(X.astype(float) @ model.coef_.T + model.intercept_), z, tolerance)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=10 * tolerance)
    np.testing.assert_allclose(np.exp(model.predict_log_proba(X)), p)
    np.testing.assert_array_equal(model.classes_[p.argmax(axis=1)], model.predict(X))
    assert model.score(X, y) == np.mean(model.predict(X) == y)
    for other in (
        scipy.sparse.csr_array(X),
        scipy.sparse.csc_array(X),
        scipy.sparse.coo_array(X),
        np.asfortranarray(X),
    ):
        assert_close(model.decision_function(other), z, tolerance)
    before = model.predict_proba(X)
    assert_close(model.sparsify().predict_proba(X), before, tolerance)
    assert_close(model.densify().predict_proba(X), before, tolerance)


@IGNORE
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_predictions_of_few_entries_among_many_columns(dtype):
    """Rows without entries too, one that names a column twice, and entries that no row has."""
    rng = np.random.default_rng(0)
    n_classes, d = 30, 20_000
    X = scipy.sparse.random_array((60, d), density=0.001, format="csr", rng=rng).astype(dtype)
    model = LogisticRegression(max_iter=1).fit(X, np.arange(60) % n_classes)
    columns = np.array([d - 1, 7, 7, 0, 3, d + 5], dtype=np.int32)
    rows = scipy.sparse.csr_matrix((1, d), dtype=dtype)
    rows.data, rows.indices = np.arange(1, 7).astype(dtype), columns
    for indptr in ([0, 0, 3, 5], [0, 0, 0, 0]):
        rows.indptr, rows._shape = np.array(indptr, dtype=np.int32), (3, d)
        expected = np.tile(model.intercept_.astype(float), (3, 1))
        for i in range(3):
            for k in range(indptr[i], indptr[i + 1]):
                expected[i] += float(rows.data[k]) * model.coef_[:, columns[k]]
        assert_close(model.decision_function(rows), expected, 1e-12 if dtype == np.float64 else 1e-5)


# --- what is refused --------------------------------------------------------------------------------------------------

X, Y = np.arange(12.0).reshape(6, 2), np.array([0, 1, 0, 1, 0, 1])
BATCH = "batch_size must be an integer in [1, n_samples]"
PARAMETERS = [
    ({"C": 0}, ValueError, "C must be a number > 0; got 0."),
    ({"C": -1.0}, ValueError, "C must be a number > 0; got -1.0."),
    ({"C": np.nan}, ValueError, "C must be a number > 0; got nan."),
    ({"C": "1"}, TypeError, "C must be a number > 0; got '1'."),
    ({"C": None}, TypeError, "C must be a number > 0; got None."),
    ({"C": 5e-324}, ValueError, "C must be so large that alpha = 1 / (C sum_i s_i) is finite; the sum is 6; got"),
    ({"l1_ratio": 2}, ValueError, "l1_ratio must be a number in [0, 1]; got 2."),
    ({"tol": -1e-4}, ValueError, "tol must be a finite number >= 0; got -0.0001."),
    ({"tol": np.nan}, ValueError, "tol must be a finite number >= 0; got nan."),
    ({"tol": "small"}, TypeError, "tol must be a finite number >= 0; got 'small'."),
    ({"fit_intercept": "yes"}, TypeError, "fit_intercept must be True or False; got 'yes'."),
    ({"warm_start": 1}, TypeError, "warm_start must be True or False; got 1."),
    ({"max_iter": -1}, ValueError, "max_iter must be an integer >= 0; got -1."),
    ({"max_iter": 1.5}, TypeError, "max_iter must be an integer >= 0; got 1.5."),
    ({"penalty": "l3"}, ValueError, "penalty must be one of 'deprecated', 'l2', 'l1', 'elasticnet'; got 'l3'."),
    ({"penalty": "elasticnet", "l1_ratio": None}, ValueError, "l1_ratio must be a number in [0, 1] where penalty is"),
    ({"dual": True}, ValueError, "dual must be False for all but solver='liblinear' with L2; got True."),
    ({"dual": True, "solver": "liblinear", "l1_ratio": 0.5}, ValueError, "dual must be False for all but"),
    ({"dual": 1}, TypeError, "dual must be True or False; got 1."),
    ({"intercept_scaling": 0}, ValueError, "intercept_scaling must be a finite number > 0; got 0."),
    ({"verbose": -1}, ValueError, "verbose must be an integer >= 0; got -1."),
    ({"verbose": "loud"}, (TypeError, ValueError), "verbose must be an integer >= 0; got 'loud'."),
    ({"batch_size": 0}, ValueError, BATCH + ", 'full' or 'auto'; got 0."),
    ({"batch_size": -3}, ValueError, BATCH + ", 'full' or 'auto'; got -3."),
    ({"batch_size": 7}, ValueError, BATCH + " or 'full'; n_samples is 6; got 7."),
    ({"batch_size": 2.0}, TypeError, BATCH + ", 'full' or 'auto'; got 2.0."),
    ({"batch_size": "all"}, ValueError, BATCH + ", 'full' or 'auto'; got 'all'."),
    ({"batch_size": None}, TypeError, BATCH + ", 'full' or 'auto'; got None."),
    ({"solver": "adamm"}, ValueError, "solver must be one of 'auto', "),
    ({"solver": "adamm"}, ValueError, "got 'adamm'. Or give an instance, such as Adam(learning_rate=0.01)."),
    ({"solver": Adam}, ValueError, "solver must be one of"),
    ({"solver": None}, ValueError, "got None."),
    ({"learning_rate": -0.1}, ValueError, "learning_rate must be a finite number >= 0; got -0.1."),
    ({"learning_rate": "fast"}, ValueError, "learning_rate must be a number >= 0, a schedule or 'auto'; got 'fast'."),
    ({"learning_rate": None}, TypeError, "learning_rate must be a finite number >= 0; got None."),
    ({"learning_rate": "fast", "solver": "auto"}, ValueError, "learning_rate must be a number >= 0, a schedule or"),
    ({"learning_rate": -1, "solver": "lbfgs"}, ValueError, "learning_rate must be a finite number >= 0; got -1."),
    ({"learning_rate": -1, "solver": Adam(0.1)}, ValueError, "learning_rate must be a finite number >= 0; got -1."),
    ({"class_weight": "even"}, ValueError, "class_weight must be a dict, 'balanced' or None; got 'even'."),
    ({"class_weight": {0: -1.0}}, ValueError, "class_weight[0] must be a finite number >= 0; got -1.0."),
    ({"class_weight": 3}, ValueError, "class_weight must be a dict, 'balanced' or None; got 3."),
    ({"random_state": "seed"}, (TypeError, ValueError), "seed"),
]


def sparse_with(value, at=1):
    bad = scipy.sparse.csr_array(X)
    bad.data[at] = value
    return bad


def with_column(value):
    bad = scipy.sparse.csr_array(X)
    bad.indices[3] = value
    return bad


DATA_ERRORS = {
    "NaN": ((np.where(X == 3, np.nan, X), Y), "NaN"),
    "infinity": ((np.where(X == 3, np.inf, X), Y), "infinity"),
    "sparse NaN": ((sparse_with(np.nan), Y), "X.data must be finite; got nan in row 1, entry 1."),
    "sparse infinity": ((sparse_with(-np.inf), Y), "X.data must be finite; got -inf in row 1, entry 1."),
    "sparse column": ((with_column(2), Y), "X.indices must be in [0, 2); got 2 in row 2, entry 3."),
    "sparse column far": (
        (with_column(-(10**9)), Y),
        "X.indices must be in [0, 2); got -1000000000 in row 2, entry 3.",
    ),
    "one class": ((X, np.zeros(6)), "y must hold at least 2 classes; got only one class, 0.0."),
    "one string class": ((X, ["a"] * 6), "y must hold at least 2 classes; got only one class, 'a'."),
    "short y": ((X, Y[:5]), "y must have as many elements as X has rows (6); got 5."),
    "NaN in y": ((X, np.where(Y == 1, np.nan, 0)), "NaN"),
    "continuous y": ((X, Y + 0.5 * np.arange(6)), "Unknown label type"),
    "matrix y": ((X, np.eye(6)), "y"),
    "no y": ((X, None), "y"),
    "vector": ((X[:, 0], Y), "X must be two-dimensional; got 1 dimension. Reshape your data"),
    "cube": ((X[:, :, None], Y), "dim"),
    "no rows": ((X[:0], Y[:0]), "0 sample"),
    "no columns": ((X[:, :0], Y), "0 feature"),
    "list of numbers": ((X[:, 0].tolist(), Y), "X must be two-dimensional; got 1 dimension. Reshape your data"),
    "complex": ((X + 1j, Y), "X must be of real numbers; got complex128. Complex data not supported."),
    "strings": ((X.astype(str) + "a", Y), "could not convert"),
    "short weights": (
        (X, Y, np.ones(5)),
        "sample_weight must have shape (6,), an element for each row of X; got (5,).",
    ),
    "weights in columns": ((X, Y, [[1.0, 2.0]] * 6), "sample_weight must have shape (6,), an element for each row"),
    "a text of weights": ((X, Y, "heavy"), "sample_weight must have shape (6,), an element for each row of X; got ()."),
    "negative weights": ((X, Y, [1, 1, 1, -2, 1, 1]), "sample_weight must be finite and >= 0; got -2.0 in row 3."),
    "negative weight": ((X, Y, -1.0), "sample_weight must be finite and >= 0; got -1.0 in row 0."),
    "zero weights": ((X, Y, np.zeros(6)), "sample_weight must be positive for at least one sample; got only zeros."),
    "huge weights": ((X, Y, np.full(6, 1e308)), "sample_weight must have a mean in [1e-300, 1e300]; got inf."),
    "tiny weights": ((X, Y, np.full(6, 5e-324)), "sample_weight must have a mean in [1e-300, 1e300]; got 5e-324."),
    "NaN weights": ((X, Y, np.full(6, np.nan)), "sample_weight must be finite and >= 0; got nan in row 0."),
    "infinite weights": ((X, Y, np.r_[np.ones(5), np.inf]), "sample_weight must be finite and >= 0; got inf in row 5."),
    "complex weights": ((X, Y, np.ones(6) + 1j), "sample_weight must be of real numbers; got complex128."),
}


def snapshot(model):
    return {key: np.copy(value) if isinstance(value, np.ndarray) else value for key, value in vars(model).items()}


def assert_same(before, after):
    assert set(before) == set(after)
    for key, value in before.items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(value, after[key], err_msg=key)
        elif not isinstance(value, dict):
            assert value is after[key] or value == after[key], key


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize(
    ("changes", "error", "text"), PARAMETERS, ids=[f"{c}".replace("'", "") for c, *_ in PARAMETERS]
)
def test_errors_of_parameters(changes, error, text, sparse):
    """One line that names the parameter, and nothing changed: not in a fresh estimator, nor in a fitted one."""
    data = scipy.sparse.csr_array(X) if sparse else X
    for fitted in (False, True):
        model = LogisticRegression(solver="adam", learning_rate=0.1, max_iter=1, tol=1e9, random_state=0)
        if fitted:
            model.fit(X, Y)
        model.set_params(**changes)
        before = snapshot(model)
        with pytest.raises(error) as caught:
            model.fit(data, Y)
        assert text in str(caught.value)
        assert "\n" not in str(caught.value)
        assert_same(before, vars(model))


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("case", DATA_ERRORS)
def test_errors_of_data(case, solver):
    arguments, text = DATA_ERRORS[case]
    for fitted in (False, True):
        model = LogisticRegression(solver=solver, tol=1e9)
        if fitted:  # on data of another shape
            model.fit(np.eye(4), [0, 1, 2, 0])
        before = snapshot(model)
        with pytest.raises((ValueError, TypeError)) as caught:
            model.fit(*arguments)
        assert text in str(caught.value)
        if "must" in text:  # ours; scikit-learn's go on for lines
            assert "\n" not in str(caught.value)
        assert_same(before, vars(model))


def test_complex_frames_are_refused_in_one_line():
    frame = pytest.importorskip("pandas").DataFrame(X + 1j)
    with pytest.raises(ValueError, match=r"^X must be of real numbers; got complex ones\. Complex data not supp"):
        LogisticRegression().fit(frame, Y)


def test_an_integer_beyond_floats_is_an_infinite_C():
    """10**400 is no float, but larger than 0, which is all that C has to be."""
    X, y = load_breast_cancer(return_X_y=True)
    X = scale(X)[:, :3]
    free = LogisticRegression(C=np.inf).fit(X, y)
    np.testing.assert_array_equal(LogisticRegression(C=10**400).fit(X, y).coef_, free.coef_)
    path = LogisticRegressionCV(Cs=[10**400], l1_ratios=(0,), scoring="accuracy", use_legacy_attributes=False)
    assert path.fit(X, y).C_ == np.inf


@pytest.mark.parametrize("name", ["C", "tol", "learning_rate", "intercept_scaling"])
def test_integers_beyond_floats_are_refused_in_one_line(name):
    for digits, bits in ((400, "1,329"), (5000, "16,610")):  # Python refuses to write the latter
        value = -(10**digits) if name == "C" else 10**digits
        with pytest.raises(ValueError, match=rf"^{name} must be a .*number >=? 0; got an integer of {bits} bits\."):
            LogisticRegression(**{name: value}).fit(X, Y)


CLASS_WEIGHTS = [
    ({0: 0, 1: 0}, ValueError, "class_weight must be > 0 for at least one class with rows that weigh something; got {"),
    ({0: -1.0}, ValueError, "class_weight[0] must be a finite number >= 0; got -1.0."),
    ({1: np.inf}, ValueError, "class_weight[1] must be a finite number >= 0; got inf."),
    ({1: np.nan}, ValueError, "class_weight[1] must be a finite number >= 0; got nan."),
    ({1: 10**400}, ValueError, "class_weight[1] must be a finite number >= 0; got an integer of 1,329 bits."),
    ({0: "x"}, TypeError, "class_weight[0] must be a finite number >= 0; got 'x'."),
    ({7: 2.0}, ValueError, "class_weight must be a dict whose keys are labels of y (0, 1); got 7. Labels left out"),
    ({0: 1.0, "1": 2.0}, ValueError, "class_weight must be a dict whose keys are labels of y (0, 1); got '1'."),
    ([1.0, 2.0], ValueError, "class_weight must be a dict, 'balanced' or None; got [1.0, 2.0]."),
]


@pytest.mark.parametrize(("class_weight", "error", "text"), CLASS_WEIGHTS, ids=[f"{c[0]}"[:20] for c in CLASS_WEIGHTS])
def test_class_weights_are_refused_by_all_in_the_same_words(class_weight, error, text):
    path = LogisticRegressionCV(l1_ratios=(0,), Cs=2, cv=2, class_weight=class_weight)
    for model in (LogisticRegression(class_weight=class_weight), SGDClassifier(class_weight=class_weight), path):
        for data in ((X, Y), (Chunks([(X[:2], Y[:2]), (X[2:], Y[2:])]),)):
            if len(data) == 1 and type(model) is not LogisticRegression:
                continue
            with pytest.raises(error) as caught:
                model.fit(*data)
            assert text in str(caught.value)


@pytest.mark.parametrize(
    "class_weight", ["balanced", {0: 0.5}, {0: 2, 1: 3}, {0: 2, 1: 3, 7: 5}, {}, {1: np.float32(4)}]
)
@pytest.mark.parametrize("weighted", [False, True])
def test_class_weights_are_scikit_learns(class_weight, weighted, rng):
    y, s = rng.integers(0, 3, 30), rng.exponential(size=30) if weighted else None
    if class_weight != "balanced" and 7 in class_weight:
        y %= 2  # a label too many is for folds that lack it, where all others are there
    classes = np.unique(y)
    expected = compute_class_weight(class_weight or None, classes=classes, y=y, sample_weight=s)
    np.testing.assert_array_equal(_base.class_weights(class_weight, classes, np.bincount(y, s).astype(float)), expected)


def test_labels_of_digits_have_their_class_weights():
    """By the label as by the number, which is what scikit-learn looks up."""
    labels = np.array(["1", "2"])
    for key in ("2", 2):
        np.testing.assert_array_equal(_base.class_weights({key: 3.0}, labels, np.ones(2)), [1.0, 3.0])


def test_a_class_whose_rows_weigh_nothing_is_balanced_by_nothing():
    """The others' weights are sum / (K sum of the class), where K counts it, as in scikit-learn."""
    X, y = load_iris(return_X_y=True)
    s = np.where(y == 2, 0.0, 1.0)
    options = {"tol": 1e-8, "max_iter": 1000, "fit_intercept": False}
    plain = LogisticRegression(**options).fit(X, y, s * 100 / (3 * 50))
    for data in ((X, y, s), (Chunks([(X, y, s)]),)):
        model = LogisticRegression(class_weight="balanced", **options).fit(*data)
        np.testing.assert_allclose(model.coef_, plain.coef_, atol=1e-6)


@pytest.mark.parametrize("method", ["predict", "predict_proba", "predict_log_proba", "decision_function"])
def test_errors_of_predictions(method):
    with pytest.raises(NotFittedError):
        getattr(LogisticRegression(), method)(X)
    model = LogisticRegression(tol=1e9).fit(X, Y)
    before = snapshot(model)
    wide = np.hstack([X, X])
    columns = [with_column(value) for value in (2, -(10**9), 10**9)]
    nan = np.where(X == 3, np.nan, X)
    for bad in (X[:, :1], wide, scipy.sparse.csr_array(wide), sparse_with(np.nan), *columns, nan, X[0], X[:0]):
        with pytest.raises(ValueError, match=r"X|array|sample"):
            getattr(model, method)(bad)
    assert_same(before, vars(model))


LABELS = {
    "bool": np.arange(30) % 2 == 0,
    "int8": np.arange(30, dtype=np.int8) % 3,
    "uint64": np.arange(30, dtype=np.uint64) % 2,
    "big-endian": np.arange(30, dtype=">i4") % 2,
    "whole floats": np.arange(30) % 3.0,
    "halves": np.arange(30) % 3 / 2,
    "float16": np.arange(30, dtype=np.float16) % 2,
    "huge floats": np.where(np.arange(30) % 2, 1e300, -1e300),
    "nan": np.r_[np.zeros(29), np.nan],
    "inf": np.r_[np.zeros(29), np.inf],
    "many": np.arange(30),
    "half": np.arange(30) % 15,
    "more than half": np.arange(31) % 16,
    "few rows": np.arange(8),
    "empty": np.zeros(0),
    "strided": np.arange(60)[::2] % 4,
    "backwards": (np.arange(30) % 2)[::-1],
    "column": np.arange(30)[:, None] % 2,
    "two columns": np.ones((30, 2)),
    "complex": np.arange(30) % 2 + 0j,
    "words": np.array(["a", "b"] * 15),
    "objects": np.array([1, "b"] * 15, object),
    "list": [0, 1] * 15,
}


@pytest.mark.parametrize("labels", LABELS)
def test_targets_are_checked_as_scikit_learn_does(labels):
    """What is taken without a call of scikit-learn's checks is what they take, with their words and warnings."""

    def outcome(check):
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            try:
                return check(LABELS[labels]), [str(w.message) for w in told]
            except (ValueError, TypeError) as error:
                return str(error), [str(w.message) for w in told]

    def scikit_learns(y):
        y = _check_y(y)
        check_classification_targets(y)
        return y

    def ours(y):
        y = _base.read_targets(LogisticRegression(), y)
        classes = _base.check_labels(y)
        assert classes is None or classes.tolist() == np.unique(y).tolist()
        return y

    (found, told), (expected, warned) = outcome(ours), outcome(scikit_learns)
    assert told == warned
    assert type(found) is type(expected)
    if isinstance(expected, str):
        assert found.replace("LogisticRegression", "estimator") == expected.replace("LogisticRegression", "estimator")
    else:
        assert found.dtype == expected.dtype
        assert found.flags.c_contiguous
        np.testing.assert_array_equal(found, expected)
