"""SGDClassifier and SGDRegressor: scikit-learn's iterates, stopping and contract, and what goes beyond them."""

import inspect
import re
import warnings

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
import scipy.special
import sklearn.linear_model as peers
from cases import OLD, assert_close
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import ElasticNet, Lasso, Ridge
from sklearn.metrics import accuracy_score
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.preprocessing import normalize, scale
from sklearn.utils.estimator_checks import parametrize_with_checks

import fastopt
from fastopt import SGDClassifier, SGDRegressor, reference
from fastopt._design import Design
from fastopt.linear_model.sgd import CLASSIFIER_LOSSES, REGRESSOR_LOSSES, SCHEDULES, bottou
from fastopt.objective import Objective
from fastopt.optimizers import OPTIMIZERS, SGD, Adam
from fastopt.schedules import InverseScaling, InverseTime
from fastopt.solvers.sgd import Settings, _Cycle

IGNORE = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
NEEDS_NEW = pytest.mark.skipif(
    OLD, reason="scikit-learn < 1.8: it stops elsewhere, has another eta0, and bounds passive-aggressive steps by 1"
)
#: The checks that no random order of the rows can pass.
WEIGHTS = dict.fromkeys(
    (f"check_sample_weight_equivalence_on_{kind}_data" for kind in ("dense", "sparse")),
    "rows repeated or left out change the order of the steps",
)
OURS = {"multinomial", "poisson", "gamma", "quantile"}


def expected_failures(estimator):
    return {} if estimator.optimizer == "gd" or estimator.batch_size == "full" else WEIGHTS


@IGNORE
@parametrize_with_checks(
    [
        cls(**options)
        for cls in (SGDClassifier, SGDRegressor)
        for options in [
            {},
            {"optimizer": "nesterov", "learning_rate": "auto", "batch_size": "full"},
            *({"optimizer": name, "learning_rate": "auto"} for name in OPTIMIZERS),
        ]
    ],
    expected_failed_checks=expected_failures,
)
def test_scikit_learns_checks(estimator, check):
    check(estimator)


# --- scikit-learn's iterates ------------------------------------------------------------------------------------------


def problem(kind="binary", n=120, d=8, seed=0):
    """Rows of length one, so that no schedule makes the iterates chaotic: rounding would not stay small."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    X[rng.random((n, d)) < 0.3] = 0.0
    X /= np.maximum(np.linalg.norm(X, axis=1, keepdims=True), 1e-9)
    z = X @ rng.standard_normal((d, 3)) + 0.3 * rng.standard_normal((n, 3))
    return X, {"binary": (z[:, 0] > 0).astype(int), "multiclass": z.argmax(axis=1), "regression": z[:, 0]}[kind]


def settings(schedule, **options):
    alpha = 0.3 if schedule == "optimal" else 1e-3
    return {"learning_rate": schedule, "alpha": alpha, "eta0": 0.05, "shuffle": False} | options


def assert_same_model(ours, peer):
    bound = 1e-6 * max(1.0, np.abs(peer.coef_).max())
    np.testing.assert_allclose(ours.coef_, peer.coef_, rtol=0, atol=bound)
    np.testing.assert_allclose(ours.intercept_, peer.intercept_, rtol=0, atol=bound)
    assert ours.n_iter_ == peer.n_iter_
    assert ours.t_ == peer.t_


def pairs(kind, **options):
    name = "SGDRegressor" if kind == "regression" else "SGDClassifier"
    return globals()[name](**options), getattr(peers, name)(**options)


KINDS = pytest.mark.parametrize("kind", ["binary", "multiclass", "regression"])
COMBINATIONS = [
    (kind, loss, schedule)
    for kind, losses in (("binary", CLASSIFIER_LOSSES), ("regression", REGRESSOR_LOSSES))
    for loss in losses
    for schedule in SCHEDULES
    if loss not in OURS
    and (schedule not in ("pa1", "pa2") or loss == ("hinge" if kind == "binary" else "epsilon_insensitive"))
    and not (OLD and schedule in ("pa1", "pa2"))
]


@IGNORE
@pytest.mark.parametrize("penalty", ["l2", "l1", "elasticnet", None])
@pytest.mark.parametrize(("kind", "loss", "schedule"), COMBINATIONS)
def test_iterates_are_scikit_learns(kind, loss, schedule, penalty):
    X, y = problem(kind)
    ours, peer = pairs(kind, **settings(schedule, loss=loss, penalty=penalty, max_iter=5, tol=None))
    assert_same_model(ours.fit(X, y), peer.fit(X, y))


@NEEDS_NEW
@IGNORE
@pytest.mark.parametrize("penalty", ["l1", "elasticnet"])
@pytest.mark.parametrize("loss", ["hinge", "perceptron"])
@pytest.mark.parametrize("alpha", [1e-3, 0.01, 0.1])
def test_stops_by_scikit_learns_norms(alpha, loss, penalty):
    """Which L1 does not change while no row moves the output, at the end of an epoch and on into the next."""
    X, y = load_iris(return_X_y=True)
    X, order = scale(X), np.random.default_rng(0).permutation(len(y))
    ours, peer = pairs("multiclass", loss=loss, penalty=penalty, alpha=alpha, shuffle=False)
    assert_same_model(ours.fit(X[order], y[order]), peer.fit(X[order], y[order]))


@NEEDS_NEW
@IGNORE
@KINDS
@pytest.mark.parametrize("schedule", ["optimal", "constant", "adaptive"])
@pytest.mark.parametrize("average", [False, True, 300])
@pytest.mark.parametrize(
    "options",
    [{}, {"penalty": "elasticnet"}, {"fit_intercept": False}, {"early_stopping": True, "penalty": None}, {"tol": 1e-2}],
    ids=repr,
)
def test_stops_where_scikit_learn_stops(kind, schedule, average, options):
    if average and "penalty" in options and options["penalty"]:
        pytest.skip("scikit-learn's average does not see what L1 takes")
    X, y = problem(kind)
    loss = "huber" if kind == "regression" else "log_loss" if "early_stopping" not in options else "squared_hinge"
    options = settings(schedule, loss=loss, average=average, max_iter=200, random_state=0) | options
    ours, peer = pairs(kind, **options)
    assert_same_model(ours.fit(X, y), peer.fit(X, y))
    assert ours.n_iter_ < 200
    assert ours.stop_reason_ == "no_change"


@NEEDS_NEW
@IGNORE
@pytest.mark.parametrize("kind", ["binary", "multiclass"])
@pytest.mark.parametrize("class_weight", [None, "balanced", {0: 3.0, 1: 0.5}])
@pytest.mark.parametrize("weighted", [False, True])
def test_weights_are_scikit_learns(kind, class_weight, weighted):
    X, y = problem(kind)
    s = np.random.default_rng(1).integers(0, 4, len(y)).astype(float) if weighted else None
    ours, peer = pairs(kind, **settings("invscaling", loss="log_loss", class_weight=class_weight, max_iter=50))
    assert_same_model(ours.fit(X, y, sample_weight=s), peer.fit(X, y, sample_weight=s))


@IGNORE
@KINDS
def test_start_is_scikit_learns(kind):
    X, y = problem(kind)
    shape = {"binary": (1, 8), "multiclass": (3, 8), "regression": (8,)}[kind]
    start = np.random.default_rng(0).standard_normal(shape), np.ones(3 if kind == "multiclass" else 1)
    ours, peer = pairs(kind, **settings("constant", max_iter=3, tol=None, warm_start=True))
    for model in (ours, peer):
        model.fit(X, y, coef_init=start[0].copy(), intercept_init=start[1].copy())
    assert_same_model(ours, peer)
    assert_same_model(ours.fit(X, y), peer.fit(X, y))  # warm
    first = clone(ours).fit(X, y, *start)
    assert_same_model(ours.fit(X, y, *start), first)  # what is given comes before what was fitted
    cold = clone(ours).set_params(warm_start=False).fit(X, y)
    assert np.abs(cold.coef_ - ours.coef_).max() > 1e-4
    for name, wrong in (("coef_init", np.zeros((2, 8))), ("intercept_init", np.zeros(2))):
        with pytest.raises(ValueError, match=f"Provided {name} does not match dataset"):
            clone(ours).fit(X, y, **{name: wrong})


@NEEDS_NEW
@pytest.mark.parametrize("cls", [SGDClassifier, SGDRegressor])
def test_constructor_is_scikit_learns(cls):
    ours, peer = (inspect.signature(c).parameters for c in (cls, getattr(peers, cls.__name__)))
    assert list(ours)[: len(peer)] == list(peer)
    for name, parameter in peer.items():
        assert (ours[name].default, ours[name].kind) == (parameter.default, parameter.kind), name
    assert set(ours) - set(peer) == {"optimizer", "batch_size"} | ({"quantile"} if cls is SGDRegressor else set())


# --- layouts, dtypes, several outputs ---------------------------------------------------------------------------------


@IGNORE
@KINDS
@pytest.mark.parametrize("penalty", ["l2", "l1", "elasticnet"])
@pytest.mark.parametrize("average", [False, 50])
def test_csr_equals_dense(kind, penalty, average):
    """But for the intercept's own rate, which an optimizer instance does not have."""
    X, y = problem(kind)
    rule = SGD(learning_rate=InverseScaling(0.05, power_t=0.5))
    options = settings("invscaling", penalty=penalty, average=average, max_iter=5, tol=None, optimizer=rule)
    cls = SGDRegressor if kind == "regression" else SGDClassifier
    dense, sparse = cls(**options).fit(X, y), cls(**options).fit(scipy.sparse.csr_array(X), y)
    assert_close(sparse.coef_, dense.coef_, 1e-10)
    assert_close(sparse.intercept_, dense.intercept_, 1e-10)
    np.testing.assert_array_equal(sparse.coef_ == 0, dense.coef_ == 0)
    assert sparse.n_iter_ == dense.n_iter_


@IGNORE
@KINDS
@pytest.mark.parametrize("average", [False, 50])
def test_intercepts_on_csr_have_a_rate_of_their_own(kind, average, tmp_path):
    """The reference's; by `partial_fit` and from a file as in one fit; `test_plain.py` has every loss."""
    X, y = problem(kind)
    loss, cls = ("squared_error", SGDRegressor) if kind == "regression" else ("log_loss", SGDClassifier)
    options = settings("constant", loss=loss, max_iter=4, tol=None, eta0=0.5, average=average)
    model, chunks = cls(**options).fit(scipy.sparse.csr_array(X), y), cls(**options)
    targets = y[:, None] if kind != "multiclass" else y[:, None] == np.arange(3)
    targets = targets if kind == "regression" else np.where(targets, 1.0, -1.0)
    w, state = np.zeros((X.shape[1] + 1, targets.shape[1])), None
    for k in range(4):
        w, state, _ = reference.sgd_epoch(
            X, targets, w, state, learning_rates=np.full(len(y), 0.5), loss=loss, alpha=model.alpha, guarded=True,
            average=int(average), calm=True, t0=k * len(y),
        )  # fmt: skip
        chunks.partial_fit(scipy.sparse.csr_array(X), y, **({} if kind == "regression" else {"classes": np.unique(y)}))
        fastopt.save(chunks, tmp_path / "model")
        chunks = fastopt.load(tmp_path / "model")
    expected = state["average"] if average else w
    assert_close(np.atleast_2d(model.coef_).T, expected[:-1], 1e-10)
    assert_close(model.intercept_, expected[-1], 1e-10)
    np.testing.assert_array_equal(chunks.coef_, model.coef_)
    np.testing.assert_array_equal(chunks.intercept_, model.intercept_)
    assert np.abs(cls(**options).fit(X, y).intercept_ - model.intercept_).min() > 1e-4


@IGNORE
@pytest.mark.parametrize("loss", ["log_loss", "modified_huber", "squared_hinge"])
@pytest.mark.parametrize("positive", [0.5, 0.02])
def test_fits_of_text_come_nearer_to_the_minimum(loss, positive):
    """Than with an intercept at the rate of all; with rare classes, where scikit-learn's slow one does not arrive,
    also than its own."""
    n, d, rng = 3000, 2000, np.random.default_rng(0)
    share = 1 / np.arange(1, d + 1)
    X = scipy.sparse.csr_array(
        (np.ones(20 * n), rng.choice(d, 20 * n, p=share / share.sum()), np.arange(0, 20 * n + 1, 20)), shape=(n, d)
    )
    X.sum_duplicates()
    X = normalize(TfidfTransformer().fit_transform(X))
    X.indices, X.indptr = X.indices.astype(np.int32), X.indptr.astype(np.int32)  # scikit-learn's refuse longer ones
    z = X @ rng.standard_normal(d)
    y = (z > np.quantile(z, 1 - positive)).astype(int)
    F = Objective(Design.from_array(X), np.where(y, 1.0, -1.0), loss=loss, alpha=0.01)
    best = scipy.optimize.minimize(
        lambda w: (lambda value, gradient: (value, gradient.ravel()))(*F.value_and_gradient(w.reshape(F.shape))),
        np.zeros(d + 1), jac=True, method="L-BFGS-B", options={"maxiter": 2000, "gtol": 1e-10, "ftol": 0.0},
    ).fun  # fmt: skip
    options, gaps = {"loss": loss, "alpha": 0.01, "max_iter": 10, "tol": None, "random_state": 0}, []
    ours, peer = pairs("binary", **options)
    for model in (ours, SGDClassifier(optimizer=SGD(bottou(0.01)), **options), peer):
        model.fit(X, y)
        gaps.append(F.value(np.r_[model.coef_[0], model.intercept_][:, None]) / best - 1)
    assert 0 < gaps[0] < 1e-3
    assert gaps[0] < max(1e-6, 0.5 * gaps[1])
    assert positive > 0.1 or gaps[0] < 0.2 * gaps[2]


@IGNORE
@pytest.mark.parametrize("optimizer", ["gd", "nesterov", "adam"])
@pytest.mark.parametrize("class_weight", [None, {0: 3.0, 1: 0.25}])
def test_rules_of_our_own_weigh_rows_as_repeated_ones(optimizer, class_weight):
    """Against the minimiser of F by scikit-learn's LogisticRegression: alpha does not depend on the weights."""
    X, y = problem()
    s, alpha = np.random.default_rng(1).integers(0, 4, len(y)).astype(float), 0.01
    total = s @ np.where(y == y.min(), 3.0, 0.25) if class_weight else s.sum()
    weights = dict(zip(np.unique(y), class_weight.values(), strict=True)) if class_weight else None
    options = {"alpha": alpha, "class_weight": weights, "batch_size": "full", "max_iter": 5000, "tol": 1e-10}
    model = SGDClassifier("log_loss", optimizer=optimizer, n_iter_no_change=50, random_state=0, **options)
    model.fit(X, y, sample_weight=s)
    peer = peers.LogisticRegression(C=1 / (alpha * total), class_weight=weights, tol=1e-10).fit(X, y, s)
    np.testing.assert_allclose(model.coef_, peer.coef_, atol=2e-3)
    np.testing.assert_allclose(model.intercept_, peer.intercept_, atol=2e-3)
    rows = np.repeat(np.arange(len(y)), s.astype(int))
    repeated = clone(model).fit(X[rows], y[rows])
    assert_close(repeated.coef_, model.coef_, 1e-6)


@IGNORE
@pytest.mark.parametrize("weights", [None, "by class"])
@pytest.mark.parametrize("options", [{"optimizer": "gd"}, {"optimizer": "adam", "batch_size": "full"}], ids=str)
def test_steps_of_all_rows_leave_out_those_that_are_held_out(options, weights):
    """Which these are tell scikit-learn's splitter and draws; their labels and values mean nothing."""
    X, y = problem("multiclass")
    options = options | {"learning_rate": "constant", "eta0": 0.1, "max_iter": 9, "tol": None, "random_state": 0}
    if weights:
        options["class_weight"] = dict(zip(np.unique(y), (1.0, 2.0, 0.5), strict=True))
    model = SGDClassifier("log_loss", early_stopping=True, validation_fraction=0.3, **options).fit(X, y)
    splitter = StratifiedShuffleSplit(test_size=0.3, random_state=np.random.RandomState(0))
    kept, held_out = next(splitter.split(X, y))
    other = X.copy()
    other[held_out] *= -3
    np.testing.assert_array_equal(clone(model).fit(other, y).coef_, model.coef_)
    if not weights:
        alone = SGDClassifier("log_loss", **options).fit(X[kept], y[kept])
        assert_close(alone.coef_, model.coef_, 1e-12)


@IGNORE
def test_automatic_rates_keep_the_best_parameters_of_a_fit():
    """Columns in the thousands on the hinge loss zigzag: the last epoch is not the best one, nor the start's F of 1."""
    X, y = load_breast_cancer(return_X_y=True)
    for optimizer in ("sgd", "nesterov", "adam", "lion"):
        model = SGDClassifier(optimizer=optimizer, learning_rate="auto", max_iter=20, tol=None, random_state=0)
        model.fit(X, y)
        assert model.objective_ == pytest.approx(min(1.0, model.history_["objective"].min()), rel=1e-12)


@IGNORE
@pytest.mark.parametrize("optimizer", ["gd", "sgd", "momentum", "adam", "lion"])
def test_automatic_rates_do_not_lose_a_warm_start(optimizer):
    X, y = load_breast_cancer(return_X_y=True)
    X = scale(X)
    model = SGDClassifier("log_loss", optimizer="nesterov", max_iter=200, tol=1e-9, warm_start=True, random_state=0)
    reached = model.fit(X, y).objective_
    model.set_params(optimizer=optimizer, learning_rate="auto", max_iter=2, tol=None).fit(X, y)
    assert model.objective_ <= reached * (1 + 1e-12)


@IGNORE
@pytest.mark.parametrize("optimizer", ["momentum", "rmsprop", "adam"])
def test_automatic_rates_are_those_of_dense_data_on_csr(optimizer):
    """Columns wait for their rows: 1,000 of them, of which a batch touches 24."""
    X = scipy.sparse.random_array((400, 1000), density=0.003, rng=0, format="csr")
    y = (X @ np.random.default_rng(1).standard_normal(1000) > 0).astype(int)
    model = SGDClassifier("log_loss", optimizer=optimizer, learning_rate="auto", penalty=None, batch_size=8)
    model.set_params(max_iter=8, tol=None, random_state=0)
    assert_close(model.fit(X, y).coef_, clone(model).fit(X.toarray(), y).coef_, 1e-6)


@IGNORE
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_softmax_partial_fit_csr_int64_float32_and_weights_together(optimizer):
    X, y = problem("multiclass")
    s = np.random.default_rng(1).integers(0, 3, len(y)).astype(float)
    single = scipy.sparse.csr_array(X.astype(np.float32))
    single.indices, single.indptr = single.indices.astype(np.int64), single.indptr.astype(np.int64)
    options = settings("constant", loss="multinomial", optimizer=optimizer, eta0=0.01, batch_size=7)
    model = SGDClassifier(**options)
    for _ in range(20):
        model.partial_fit(single, y, classes=np.arange(3), sample_weight=s)
    assert model.coef_.dtype == model.predict_proba(single).dtype == np.float32
    np.testing.assert_allclose(model.predict_proba(single).sum(axis=1), 1, rtol=1e-5)
    whole = SGDClassifier(**options, max_iter=20, tol=None).fit(X, y, sample_weight=s)
    np.testing.assert_allclose(model.coef_, whole.coef_, atol=1e-4)
    w = np.vstack([whole.coef_.T, whole.intercept_])
    alpha = whole.alpha / s.mean() if optimizer == "sgd" else whole.alpha
    F = reference.objective(X, y, w, loss="multinomial", alpha=alpha, sample_weight=s)
    assert whole.objective_ == pytest.approx(F)
    assert whole.grad_norm_ == pytest.approx(
        np.linalg.norm(reference.gradient(X, y, w, loss="multinomial", alpha=alpha, sample_weight=s))
    )
    assert whole.objective_ < np.log(3)


@IGNORE
@pytest.mark.parametrize("kind", ["multilabel", "regression"])
@pytest.mark.parametrize("layout", [np.asarray, scipy.sparse.csr_array])
def test_several_outputs_are_that_many_models(kind, layout):
    X, _ = problem()
    targets = X @ np.random.default_rng(2).standard_normal((8, 3))
    cls = SGDRegressor if kind == "regression" else SGDClassifier
    targets = targets if kind == "regression" else (targets > 0).astype(int)
    options = settings("adaptive", max_iter=100)
    together = cls(**options).fit(layout(X), targets)
    alone = [cls(**options).fit(layout(X), targets[:, c]) for c in range(3)]
    assert_close(together.coef_, np.vstack([one.coef_ for one in alone]), 1e-10)
    assert together.n_iter_ == max(one.n_iter_ for one in alone)
    assert together.objective_ == pytest.approx(sum(one.objective_ for one in alone))
    np.testing.assert_allclose(together.predict(X), np.column_stack([one.predict(X) for one in alone]), atol=1e-9)
    if kind == "multilabel":
        assert together.classes_.tolist() == [0, 1, 2]
        again = cls(**options)
        for _ in range(3):
            again.partial_fit(layout(X), targets)
        assert again.predict(X).shape == targets.shape
        with pytest.raises(ValueError, match="y must hold 0 and 1"):
            cls().fit(X, targets + 1)


@IGNORE
@pytest.mark.parametrize("loss", sorted(OURS - {"multinomial"}))
def test_losses_beyond_scikit_learns(loss):
    """At the minimum found by scikit-learn's own estimators of these losses."""
    X, z = problem("regression", n=400)
    X, y = X[:, :3], np.exp(z) if loss != "quantile" else z
    peer = {
        "poisson": peers.PoissonRegressor(alpha=0.01, tol=1e-10),
        "gamma": peers.GammaRegressor(alpha=0.01, tol=1e-10),
        "quantile": peers.QuantileRegressor(quantile=0.8, alpha=0.001),
    }[loss].fit(X, y)
    penalty = "l1" if loss == "quantile" else "l2"
    alpha = 0.001 if loss == "quantile" else 0.01
    schedule = {"learning_rate": "adaptive", "eta0": 0.05, "tol": 1e-6, "random_state": 0}
    model = SGDRegressor(loss, penalty=penalty, alpha=alpha, quantile=0.8, **schedule).fit(X, y)
    assert np.linalg.norm(model.coef_ - peer.coef_) < 0.05 * np.linalg.norm(peer.coef_)
    assert np.abs(model.predict(X) - peer.predict(X)).max() < 0.1 * np.abs(peer.predict(X)).max()
    if loss == "gamma":
        with pytest.raises(ValueError, match="y must be > 0"):
            model.fit(X, y * 0)


@IGNORE
@pytest.mark.parametrize(
    ("peer", "options"),
    [
        (Ridge(alpha=2.0), lambda n: {"penalty": "l2", "alpha": 2.0 / n}),
        (Lasso(alpha=0.02, tol=1e-10), lambda n: {"penalty": "l1", "alpha": 0.02}),
        (ElasticNet(0.03, l1_ratio=0.7, tol=1e-9), lambda n: {"penalty": "elasticnet", "alpha": 0.03, "l1_ratio": 0.7}),
        (peers.LinearRegression(), lambda n: {"penalty": None}),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_objectives_of_scikit_learns_linear_models(peer, options):
    """The docstring's table: their minimiser is this F's."""
    X, y = problem("regression")
    peer.fit(X, y)
    schedule = {"learning_rate": "adaptive", "eta0": 0.05, "max_iter": 3000, "tol": 1e-7, "random_state": 0}
    model = SGDRegressor(**options(len(y)), **schedule).fit(X, y)
    start = np.mean(np.square(y)) / 2
    lowest = measure(model, X, y, np.append(peer.coef_, peer.intercept_))
    assert lowest * (1 - 1e-9) <= model.objective_ <= lowest + 1e-4 * (start - lowest)
    assert np.linalg.norm(model.coef_ - peer.coef_) < 0.01 * np.linalg.norm(peer.coef_)
    np.testing.assert_array_equal(np.abs(model.coef_) < 1e-4, np.abs(peer.coef_) < 1e-4)


@IGNORE
@pytest.mark.parametrize("peer", [Lasso(0.05, tol=1e-10), ElasticNet(0.1, l1_ratio=0.4, tol=1e-10)], ids=["l1", "both"])
@pytest.mark.parametrize("batch_size", [1, 16])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_rule_with_l1_comes_to_scikit_learns_minimum(optimizer, batch_size, peer):
    """With automatic rates: cut for what F with L1 came to, and kept going by Ftrl with L1 in its state."""
    X, y = load_diabetes(return_X_y=True)
    X, y = scale(X), scale(y)
    peer.fit(X, y)
    l1_ratio = getattr(peer, "l1_ratio", 1.0)
    model = SGDRegressor(
        penalty="elasticnet", alpha=peer.alpha, l1_ratio=l1_ratio, optimizer=optimizer, batch_size=batch_size,
        learning_rate="auto", max_iter=300, tol=None, random_state=0,
    ).fit(X, y)  # fmt: skip
    lowest = measure(model, X, y, np.append(peer.coef_, peer.intercept_))
    assert lowest * (1 - 1e-9) <= model.objective_ <= 1.004 * lowest
    assert model.objective_ == pytest.approx(measure(model, X, y, np.append(model.coef_, model.intercept_)), rel=1e-9)
    assert model.objective_ <= model.history_["objective"].min() * (1 + 1e-3)


def measure(model, X, y, w):
    l1_ratio = {"l1": 1.0, "elasticnet": model.l1_ratio}.get(model.penalty, 0.0)
    alpha = model.alpha if model.penalty else 0.0
    smooth = reference.objective(X, y, w[:, None], loss="squared_error", alpha=alpha * (1 - l1_ratio))
    return smooth + alpha * l1_ratio * np.abs(w[:-1]).sum()


# --- partial_fit ------------------------------------------------------------------------------------------------------


@IGNORE
@KINDS
@pytest.mark.parametrize("optimizer", [*OPTIMIZERS, Adam(0.05, ema_momentum=0.9)], ids=str)
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("penalty", ["l2", "l1"])
def test_ten_times_partial_fit_is_fit_with_ten_epochs(kind, optimizer, shuffle, penalty):
    """Bit for bit, the order of the rows included; scikit-learn starts its random numbers anew in each call."""
    X, y = problem(kind)
    average = optimizer == "sgd" and 100
    options = settings("invscaling", optimizer=optimizer, penalty=penalty, average=average)
    options |= {"shuffle": shuffle, "random_state": 3}
    cls = SGDRegressor if kind == "regression" else SGDClassifier
    whole, parts = cls(**options, max_iter=10, tol=None).fit(X, y), cls(**options)
    first = {} if kind == "regression" else {"classes": np.unique(y)}
    for _ in range(10):
        parts.partial_fit(X, y, **first)
    np.testing.assert_array_equal(parts.coef_, whole.coef_)
    np.testing.assert_array_equal(parts.intercept_, whole.intercept_)
    assert parts.t_ == whole.t_
    assert parts.n_iter_ == 1


@pytest.mark.parametrize("penalty", ["l2", "l1", "elasticnet"])
@pytest.mark.parametrize("optimizer", ["adagrad", "rmsprop", "adam", "momentum", "lion", "ftrl"])
def test_partial_fit_keeps_columns_that_the_rows_do_not_have(optimizer, penalty):
    """Where nothing moves them they stay as they are; else they go on, and are not set to zero."""
    rng, d = np.random.default_rng(0), 3000
    chunks = []
    for first in (0, 1500):
        X = scipy.sparse.csr_array(rng.random((100, 200)) < 0.02, dtype=np.float64)
        chunks.append(scipy.sparse.csr_array((X.data, X.indices + first, X.indptr), shape=(100, d)))
    y = rng.integers(0, 2, 100)
    model = SGDClassifier(
        "log_loss", penalty=penalty, optimizer=optimizer, learning_rate="constant", eta0=0.01, alpha=1e-6,
        random_state=0,
    )  # fmt: skip
    before = model.partial_fit(chunks[0], y, classes=[0, 1]).coef_[0, :200].copy()
    after = model.partial_fit(chunks[1], y).coef_[0, :200]
    assert (before != 0).sum() > 100
    if optimizer in ("adagrad", "rmsprop"):
        np.testing.assert_array_equal(after, before)
    else:
        assert np.linalg.norm(after) > 0.9 * np.linalg.norm(before)


@pytest.mark.parametrize("optimizer", ["adagrad", "adam"])
def test_fit_drops_columns_that_no_row_has(optimizer):
    """They are at the minimum of the penalty, wherever a warm start found them."""
    X = scipy.sparse.csr_array(np.random.default_rng(0).random((100, 3000)) < 0.002, dtype=np.float64)
    y, unused = np.arange(100) % 2, X.sum(axis=0) == 0
    assert unused.any()
    model = SGDClassifier("log_loss", optimizer=optimizer, learning_rate="constant", eta0=0.01, max_iter=1, tol=None)
    model.fit(X, y, coef_init=np.ones((1, 3000)))
    assert (model.coef_[0, unused] == 0).all()
    assert (model.coef_[0, ~unused] != 0).all()


@pytest.mark.parametrize("rows", [1, 10, 100])
@pytest.mark.parametrize(
    ("model", "what"),
    [
        (SGDRegressor(), "eta0 below 0.01"),
        (SGDRegressor(optimizer=SGD(0.02)), "the optimizer learning_rate below 0.02"),
        (SGDRegressor(learning_rate=3e-7, optimizer="momentum"), "learning_rate below 3e-07"),
        (SGDClassifier("squared_hinge"), "another learning_rate"),
    ],
)
def test_partial_fit_says_that_iterates_ran_away(model, what, rows):
    """F by NumPy is absurd, too. scikit-learn says nothing."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((100, 3)) * [1.0, 1e4, 1.0]
    y, classifier = X @ [1.0, 1e-4, 2.0], isinstance(model, SGDClassifier)
    y = np.where(y > 0, 1, -1) if classifier else y
    how, model = {"classes": [-1, 1]} if classifier else {}, clone(model).set_params(random_state=0)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for start in range(0, 10 if rows == 1 else 100, rows):
            model.partial_fit(X[start : start + rows], y[start : start + rows], **how)
    z = X @ np.ravel(model.coef_) + model.intercept_
    residuals = np.maximum(1 - y * z, 0) if classifier else y - z
    assert np.mean(residuals**2) > 1e6 * np.mean(y**2)
    assert "The iterates ran away: F is " in str(told[-1].message)
    assert str(told[-1].message).endswith(f"or give {what}.")
    assert told[-1].category is ConvergenceWarning
    assert told[-1].filename == __file__


@pytest.mark.parametrize("loss", ["squared_error", "squared_epsilon_insensitive", "poisson", "squared_hinge"])
@pytest.mark.parametrize("rows", [1, 10, 50])
@pytest.mark.parametrize("optimizer", ["sgd", "momentum"])
def test_partial_fit_says_nothing_of_ordinary_streams(loss, rows, optimizer):
    """Of rows few of which, or none in a call, have targets to speak of, whatever these are measured in."""
    for seed in range(12):
        rng = np.random.default_rng(seed)
        X = rng.standard_normal((100, 4)) if seed % 3 else (rng.random((100, 4)) < 0.2).astype(float)
        z = X @ rng.standard_normal(4) + rng.standard_normal(100) * 10.0 ** rng.integers(-6, 1)
        if loss == "squared_hinge":
            model, y, how = SGDClassifier(loss, learning_rate="invscaling"), (z > 0).astype(int), {"classes": [0, 1]}
        else:
            model, how = SGDRegressor(loss), {}
            y = rng.poisson(np.exp(z / 4)) if loss == "poisson" else 10.0 ** rng.integers(-4, 5) * z
            y = [y, np.where(np.arange(100) % 60 < 55, 0, y), y * np.where(np.arange(100) < 50, 1, 1e-7)][seed % 3]
        model.set_params(random_state=0, average=bool(seed % 2) and optimizer == "sgd", optimizer=optimizer)
        weights = rng.exponential(size=100) * (rng.random(100) < 0.5) + 1e-9 if seed % 4 == 0 else np.ones(100)
        if optimizer == "momentum":
            model.set_params(learning_rate=1e-3)
        start = 0
        if seed % 4 == 1:
            start = 50
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model.fit(X[:50], y[:50])
        for i in range(start, 100, rows):
            model.partial_fit(X[i : i + rows], y[i : i + rows], sample_weight=weights[i : i + rows], **how)
        assert np.isfinite(model.objective_)


@pytest.mark.parametrize(("rows", "fraction"), [(10, 0.1), (11, 0.09), (3, 0.3)])
@pytest.mark.parametrize("targets", [1, 3])
def test_one_row_held_out_of_a_regression_is_refused(rows, fraction, targets):
    """R^2 of one row is not a number, of which scikit-learn warns in each epoch. Accuracy of a row is one."""
    X, random = np.arange(2.0 * rows).reshape(rows, 2), np.random.RandomState(0)
    Y, drawn = np.tile(X[:, :1], targets), random.get_state()[1].tobytes()
    model = SGDRegressor(early_stopping=True, validation_fraction=fraction, random_state=random)
    got = rf"validation_fraction must hold out two rows at least, .*; got {fraction} of {rows}"
    with pytest.raises(ValueError, match=got):
        model.fit(X, Y if targets > 1 else Y[:, 0])
    assert random.get_state()[1].tobytes() == drawn
    assert not hasattr(model, "coef_")
    model.set_params(validation_fraction=1.5 / rows, eta0=1e-4).fit(X, Y if targets > 1 else Y[:, 0])
    assert np.isfinite(model.score(X, Y))


def test_partial_fit_refuses_what_scikit_learn_refuses():
    X, y = problem("multiclass")
    with pytest.raises(ValueError, match="classes must be passed on the first call to partial_fit"):
        SGDClassifier().partial_fit(X, y)
    model = SGDClassifier().partial_fit(X[y < 2], y[y < 2], classes=[0, 1])
    before = model.coef_.copy()
    with pytest.raises(ValueError, match="is not the same as on last call to partial_fit, was"):
        model.partial_fit(X, y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match=r"The target label\(s\) \[2\] in y do not exist in the initial classes"):
        model.partial_fit(X, y)
    with pytest.raises(ValueError, match="X has 4 features, but SGDClassifier is expecting 8 features"):
        model.partial_fit(X[:, :4], y)
    np.testing.assert_array_equal(model.coef_, before)
    with pytest.raises(ValueError, match="class_weight 'balanced' is not supported for partial_fit"):
        SGDClassifier(class_weight="balanced").partial_fit(X, y, classes=[0, 1, 2])
    for cls in (SGDClassifier, SGDRegressor):
        with pytest.raises(ValueError, match="early_stopping should be False with partial_fit"):
            cls(early_stopping=True).partial_fit(X, y)


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_missing_labels_are_refused_without_a_warning(method):
    pandas = pytest.importorskip("pandas")
    y = pandas.Series([0, 1, None, 1], dtype="Int64")
    how = {"classes": [0, 1]} if method == "partial_fit" else {}
    with pytest.raises(ValueError, match="Input y contains NaN"):
        getattr(SGDClassifier(), method)(np.eye(4), y, **how)


@pytest.mark.parametrize("loss", ["log_loss", "multinomial"])
@pytest.mark.parametrize("margin", [-1e4, -800.0, 0.0, 800.0, 1e4])
def test_logarithms_of_probabilities_at_extreme_margins(loss, margin):
    model = SGDClassifier(loss, random_state=0).fit([[0.0], [1.0], [2.0]], [0, 1, 2])
    model.coef_, model.intercept_ = np.array([[1.0], [0.5], [-1.0]]), np.array([0.0, -2e3, -3e3])
    z = model.coef_[:, 0] * margin + model.intercept_
    log_p = z if loss == "multinomial" else -np.logaddexp(0, -z)
    expected = log_p - np.logaddexp.reduce(log_p)
    np.testing.assert_allclose(model.predict_log_proba([[margin]])[0], expected, rtol=1e-14, atol=1e-300)


# --- runs -------------------------------------------------------------------------------------------------------------


def test_what_a_fit_leaves_behind():
    X, y = load_breast_cancer(return_X_y=True)
    model = SGDClassifier("log_loss", alpha=0.01, random_state=0).fit(scale(X), y)
    history = model.history_
    assert history["epoch"].tolist() == list(range(1, model.n_iter_ + 1))
    assert np.isnan(history["grad_norm"][:-1]).all()
    assert history["grad_norm"][-1] == model.grad_norm_
    assert (np.diff(history["learning_rate"]) < 0).all()
    w = np.vstack([model.coef_.T, model.intercept_])
    terms = {"loss": "log_loss", "alpha": 0.01}
    assert model.objective_ == pytest.approx(reference.objective(scale(X), 2.0 * y - 1, w, **terms))
    assert model.grad_norm_ == pytest.approx(np.linalg.norm(reference.gradient(scale(X), 2.0 * y - 1, w, **terms)))
    assert model.converged_ == (model.grad_norm_ <= model.tol)
    assert model.stop_reason_ == "no_change"
    assert model.optimizer_state_["t"] == model.t_ - 1
    assert model.loss_.name == "log_loss"


def test_max_iter_warns_in_scikit_learns_words():
    X, y = problem()
    with pytest.warns(ConvergenceWarning, match="Maximum number of iteration reached before convergence") as caught:
        model = SGDClassifier(max_iter=2, random_state=0).fit(X, y)
    assert [warning.filename for warning in caught] == [__file__]
    assert model.stop_reason_ == "max_iter"
    with pytest.warns(FutureWarning, match="Negative values for `power_t`"):
        SGDClassifier(power_t=-1.0).fit(X, y)


@pytest.mark.parametrize("sparse", [False, True])
def test_iterates_that_run_away_are_caught(sparse):
    """scikit-learn returns coefficients of 1e12, without a word."""
    X, y = load_diabetes(return_X_y=True)
    X = scale(X) * 1000
    with pytest.warns(ConvergenceWarning, match=r"The iterates ran away.*give eta0=") as caught:
        model = SGDRegressor(random_state=0, max_iter=20, tol=None).fit(scipy.sparse.csr_array(X) if sparse else X, y)
    assert caught[0].filename == __file__
    assert model.objective_ <= np.mean(np.square(y)) / 2  # no worse than zeros
    assert np.abs(model.coef_).max() < 1
    X[:, :2] *= 1e300
    with pytest.raises(ValueError, match=r"Floating-point under-/overflow occurred at epoch #.*StandardScaler"):
        model.fit(X, y)
    assert np.isfinite(model.coef_).all()


@pytest.mark.parametrize("size", [200, 1000])
def test_predictions_that_overflow_on_the_rows_held_out_run_away(size):
    """Beyond exp(709) they are infinite, of which scikit-learn's R^2 makes an error; below, their squares are."""
    rng = np.random.default_rng(0)
    X, y = size * (1 + 0.02 * rng.standard_normal((80, 3))), rng.gamma(2, 0.5, 80)
    with pytest.warns() as caught:
        model = SGDRegressor("gamma", early_stopping=True, random_state=0, max_iter=5).fit(X, y)
    assert {warning.category for warning in caught} == {ConvergenceWarning}
    assert "ran away" in str(caught[0].message)
    assert np.isfinite(model.predict(X)).all()


@pytest.mark.parametrize(
    ("settings", "remedy"),
    [
        ({"eta0": 0.5, "learning_rate": "constant"}, "give eta0=5e-"),
        ({"learning_rate": 0.2}, "give learning_rate=2e-"),
        ({"optimizer": SGD(0.3), "learning_rate": 0.2}, "give the optimizer learning_rate=3e-"),
        ({"learning_rate": InverseTime(0.2, 0.1)}, "give another learning_rate."),
    ],
)
def test_the_rate_that_ran_away_is_the_one_to_change(settings, remedy):
    X, y = load_diabetes(return_X_y=True)
    with pytest.warns(ConvergenceWarning, match=f"The iterates ran away.*{remedy}"):
        SGDRegressor(random_state=0, max_iter=20, tol=None, **settings).fit(scale(X) * 1000, y)


def test_losses_that_zeros_have_none_of_do_not_run_away():
    """With one step per epoch the first epoch's mean is that of zeros; the steps are those by hand."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((100, 3))
    y = (X[:, 0] > 0).astype(int)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "Maximum number of iteration")
        for batch_size in (1, 99, 1000, "full"):
            for rate in ("constant", "optimal", "invscaling", "adaptive", "auto"):
                for optimizer in ("sgd", "adam", "momentum"):
                    for size in (1.0, 1e3):
                        model = SGDClassifier(
                            "perceptron", learning_rate=rate, optimizer=optimizer, batch_size=batch_size, max_iter=5,
                            random_state=0,
                        )  # fmt: skip
                        assert np.isfinite(model.fit(X * size, y).coef_).all()
    model = SGDClassifier("perceptron", learning_rate="constant", batch_size="full", max_iter=5, tol=None, alpha=0)
    w, signs = np.zeros(4), np.where(y, 1.0, -1.0)
    rows = np.column_stack([X, np.ones(100)])
    for _ in range(5):
        w += 0.01 * (signs * (signs * (rows @ w) <= 0)) @ rows / 100
    model.fit(X, y)
    np.testing.assert_allclose(np.append(model.coef_, model.intercept_), w, rtol=1e-12)


def test_targets_that_are_all_but_within_epsilon():
    """Zeros' loss is next to nothing, and a fit may have some more: by scikit-learn's steps, at its rates."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((100, 3)), rng.uniform(-0.099, 0.099, 100)
    y[99] = 0.1001
    options = {"loss": "epsilon_insensitive", "tol": None, "max_iter": 1, "shuffle": False, "learning_rate": "constant"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = SGDRegressor(**options).fit(X, y)
    assert model.objective_ > 2 * 1e-6
    peer = peers.SGDRegressor(**options).fit(X, y)
    np.testing.assert_allclose(model.coef_, peer.coef_, rtol=1e-9)


@IGNORE
@pytest.mark.parametrize("rate", ["pa1", "pa2"])
@pytest.mark.parametrize("cls", [SGDClassifier, SGDRegressor])
def test_passive_aggressive_steps_that_run_away_get_smaller(cls, rate):
    """A row that weighs 10 moves ten times as far as its loss asks for, which `eta0` alone bounds."""
    X, y = problem("binary" if cls is SGDClassifier else "regression")
    loss = "hinge" if cls is SGDClassifier else "epsilon_insensitive"
    options = {"loss": loss, "learning_rate": rate, "shuffle": False, "max_iter": 20}
    weights = np.full(len(y), 10.0)
    with pytest.warns(ConvergenceWarning, match=r"The iterates ran away.*give eta0=") as caught:
        model = cls(eta0=1e8, **options).fit(X, y, sample_weight=weights)
    eta0 = float(re.search(r"eta0=(\S+)\.$", str(caught[0].message))[1])
    told = cls(eta0=eta0, **options).fit(X, y, sample_weight=weights)
    np.testing.assert_allclose(told.coef_, model.coef_, rtol=1e-6)


@pytest.mark.parametrize("rate", ["pa1", "pa2"])
def test_passive_aggressive_steps_see_the_true_length_of_rows_with_duplicates(rate):
    X, y = problem()
    rows = scipy.sparse.csr_array(X)
    quarters = scipy.sparse.csr_array(
        (np.repeat(rows.data / 4, 4), np.repeat(rows.indices, 4), 4 * rows.indptr), shape=X.shape
    )
    options = {"learning_rate": rate, "eta0": 10.0, "shuffle": False, "max_iter": 3, "tol": None, "alpha": 1e-3}
    expected = SGDClassifier(**options).fit(rows, y)
    np.testing.assert_allclose(SGDClassifier(**options).fit(quarters, y).coef_, expected.coef_, rtol=1e-9)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("batch_size", [1, "full"])
def test_losses_of_bounded_slopes_are_never_said_to_overflow(batch_size, optimizer):
    X, y = problem()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = SGDRegressor(
            loss="quantile", optimizer=optimizer, batch_size=batch_size, learning_rate="constant", max_iter=5
        ).fit(X, np.zeros(len(y)))
        assert np.abs(model.coef_).max() < 1e-9
        model = SGDClassifier("log_loss", optimizer=optimizer, batch_size=batch_size, max_iter=5, random_state=0)
        assert np.isfinite(model.fit(X * 1e6, y).coef_).all()


def test_growing_steps_of_a_perceptron_are_caught():
    """With ``eta0 alpha > 2`` each step of a rule that is not guarded enlarges the coefficients."""
    X, y = problem()
    with pytest.warns(ConvergenceWarning, match="The iterates ran away"):
        model = SGDClassifier(
            "perceptron", optimizer=Adam(0.1, weight_decay=40.0), max_iter=30, batch_size="full",
            tol=None, random_state=0,
        ).fit(X, y)  # fmt: skip
    assert np.abs(model.coef_).max() < 10


@IGNORE
@pytest.mark.parametrize("optimizer", [name for name in OPTIMIZERS if name != "sgd"])
@pytest.mark.parametrize("layout", [np.asarray, scipy.sparse.csr_array])
def test_every_rule_learns(optimizer, layout):
    X, y = load_breast_cancer(return_X_y=True)
    model = SGDClassifier("log_loss", optimizer=optimizer, batch_size=16, max_iter=30, random_state=0)
    model.fit(layout(scale(X)), y)
    assert model.objective_ < 0.3
    assert accuracy_score(y, model.predict(scale(X))) > 0.9
    rates = model.history_["learning_rate"]
    if optimizer.startswith(("schedule_free", "ftrl")):
        assert (np.diff(rates) <= 0).all()
    elif optimizer == "gd":  # two points, tests/test_learning_rates.py
        assert len(np.unique(rates)) > len(rates) // 2
    else:  # cycles, in each of which it falls by the same amount each epoch
        for cycle in np.split(rates, np.cumsum([1, 2, 3, 5, 7, 10])):
            falls = -np.diff(cycle)
            assert (falls > 0).all()
            np.testing.assert_allclose(falls, falls[:1].repeat(len(falls)))


def test_an_instance_brings_its_own_rate():
    X, y = problem()
    by_name = SGDClassifier(learning_rate="constant", eta0=0.2, shuffle=False).fit(X, y)
    instance = SGDClassifier(optimizer=SGD(learning_rate=0.2), shuffle=False).fit(X, y)
    number = SGDClassifier(learning_rate=0.2, shuffle=False).fit(X, y)
    np.testing.assert_array_equal(instance.coef_, by_name.coef_)
    np.testing.assert_array_equal(number.coef_, by_name.coef_)
    adam = SGDClassifier(optimizer=Adam(learning_rate=0.01), random_state=0).fit(X, y)
    assert adam.history_["learning_rate"][0] == 0.01


@IGNORE
@pytest.mark.parametrize("early_stopping", [False, True])
def test_random_states(early_stopping):
    """Each kind gives the same bits again; the global state is neither used nor touched."""
    X, y = problem("multiclass")
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    kinds = [
        lambda: 7, lambda: np.random.RandomState(7), lambda: np.random.default_rng(7), lambda: np.random.SeedSequence(7)
    ]  # fmt: skip
    found = []
    for make in kinds:
        models = [
            SGDClassifier(random_state=make(), early_stopping=early_stopping, max_iter=3, tol=None).fit(X, y)
            for _ in range(2)
        ]
        np.testing.assert_array_equal(models[0].coef_, models[1].coef_)
        found.append(models[0].coef_)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[2], found[3])
    assert not np.array_equal(found[0], found[2])
    free = [SGDClassifier(max_iter=3, tol=None, early_stopping=early_stopping).fit(X, y).coef_ for _ in range(2)]
    assert not np.array_equal(*free)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    for wrong in (-1, 1.5, "x", True):
        with pytest.raises(ValueError, match="random_state must be an integer in"):
            SGDClassifier(random_state=wrong).fit(X, y)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "nope"}, "loss must be one of 'hinge'"),
        ({"alpha": -1.0}, "alpha must be a finite number >= 0; got -1.0"),
        ({"alpha": 0.0}, "alpha must be > 0 since learning_rate is 'optimal'"),
        ({"eta0": 0.0}, "eta0 must be a finite number > 0; got 0.0"),
        ({"penalty": "l3"}, "penalty must be one of 'l2', 'l1', 'elasticnet'; got 'l3'"),
        ({"penalty": "elasticnet", "l1_ratio": None}, "l1_ratio must be set when penalty is 'elasticnet'"),
        ({"average": True, "optimizer": "adam"}, "average must be False for rules other than plain SGD"),
        ({"average": -1}, "average must be True, False or an integer >= 1; got -1"),
        ({"learning_rate": "pa1", "loss": "log_loss"}, "Learning rate 'pa1' only works with loss 'hinge'"),
        ({"learning_rate": "pa1", "batch_size": 2}, "learning_rate must be a schedule"),
        ({"batch_size": 0}, r"batch_size must be an integer in \[1, n_samples\] or 'full'; got 0"),
        ({"optimizer": "nope"}, "optimizer must be one of 'gd'"),
        ({"validation_fraction": 1.0}, r"validation_fraction must be a number in \(0, 1\); got 1.0\."),
        ({"validation_fraction": 0}, r"validation_fraction must be a number in \(0, 1\); got 0\."),
        ({"validation_fraction": "half"}, r"validation_fraction must be a number in \(0, 1\); got 'half'\."),
        ({"alpha": 10**400}, "alpha must be a finite number >= 0; got an integer of 1,329 bits"),
        ({"eta0": 10**400}, "eta0 must be a finite number > 0; got an integer of 1,329 bits"),
        ({"epsilon": 10**400}, "epsilon must be a finite number >= 0; got an integer of 1,329 bits"),
        ({"power_t": -(10**400)}, "power_t must be a finite number; got an integer of 1,329 bits"),
        ({"class_weight": {0: 0, 1: 0}}, "class_weight must be > 0 for at least one class"),
        ({"tol": -1.0}, "tol must be a finite number >= 0"),
        ({"max_iter": 0}, "max_iter must be an integer >= 1; got 0"),
    ],
    ids=repr,
)
def test_parameters_out_of_range(options, message):
    X, y = problem()
    model = SGDClassifier(**options)
    for method in (model.fit, lambda X, y: model.partial_fit(X, y, classes=[0, 1])):
        with pytest.raises((ValueError, TypeError), match=message):
            method(X, y)
    assert not hasattr(model, "coef_")


@IGNORE
@pytest.mark.parametrize("average", [2**63, 10**30, 10**400])
def test_an_average_that_never_begins(average):
    X, y = problem()
    model = SGDClassifier(average=average, random_state=0, max_iter=3).fit(X, y)
    np.testing.assert_array_equal(model.coef_, SGDClassifier(average=10**9, random_state=0, max_iter=3).fit(X, y).coef_)


@IGNORE
@pytest.mark.parametrize("batch_size", [1, 7])
def test_ctrl_c_leaves_the_last_whole_epoch(batch_size, monkeypatch):
    """In the third call of a kernel, which has several epochs of single rows, and one where batches are left over."""
    from fastopt.solvers.epochs import Epochs

    X, y = problem("multiclass")
    calls = []

    def interrupted(run):
        def called(self, *args):
            calls.append(args)
            result = run(self, *args)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return result

        return called

    options = {"tol": 1e-3, "n_iter_no_change": 2, "random_state": 0, "batch_size": batch_size}
    model = SGDClassifier(max_iter=10, **options)
    with monkeypatch.context() as patch:
        for name in ("run", "run_several"):
            patch.setattr(Epochs, name, interrupted(getattr(Epochs, name)))
        with pytest.raises(KeyboardInterrupt):
            model.fit(X, y)
    assert model.stop_reason_ == "interrupted"
    assert (model.n_iter_ > 2) if batch_size == 1 else (model.n_iter_ == 2)
    np.testing.assert_array_equal(model.coef_, SGDClassifier(max_iter=model.n_iter_, **options).fit(X, y).coef_)


SEVERAL = [
    (cls, {"learning_rate": rate, "eta0": 0.01, "penalty": penalty, "average": average, "tol": tol})
    for cls in (SGDClassifier, SGDRegressor)
    for rate in ("optimal", "constant", "adaptive", "pa1")
    for penalty in ("l2", "l1", None)
    for average in (False, 60)
    for tol in (None, 1e-2)
    if not (rate == "pa1" and (cls is SGDRegressor or penalty))
]
SEVERAL += [
    (SGDClassifier, {"loss": "multinomial"}),
    (SGDClassifier, {"batch_size": 5, "alpha": 1e-2}),
    (SGDClassifier, {"shuffle": False, "loss": "log_loss"}),
    (SGDRegressor, {"learning_rate": "constant", "eta0": 3.0, "loss": "squared_error"}),
]


@IGNORE
@pytest.mark.parametrize("layout", ["dense", "float32", "csr"])
@pytest.mark.parametrize(("cls", "options"), SEVERAL, ids=[f"{c.__name__}-{o}" for c, o in SEVERAL])
def test_epochs_run_at_once_have_the_bits_of_single_ones(cls, options, layout, capsys):
    """A fit that tells of each epoch takes one after the other: parameters, history, and the next random number."""
    X, y = problem("multiclass" if cls is SGDClassifier else "regression")
    X = {"dense": X, "float32": X.astype(np.float32), "csr": scipy.sparse.csr_array(X)}[layout]
    models, following = [], []
    for verbose in (0, 1):
        rng = np.random.RandomState(3)
        model = cls(max_iter=40, random_state=rng, verbose=verbose, **options)
        models.append(model.fit(X, y))
        following.append(rng.randint(2**31))
    at_once, single = models
    assert capsys.readouterr().out.count("epoch") >= single.n_iter_
    assert following[0] == following[1]
    assert (at_once.n_iter_, at_once.stop_reason_, at_once.t_) == (single.n_iter_, single.stop_reason_, single.t_)
    np.testing.assert_array_equal(at_once.coef_, single.coef_)
    np.testing.assert_array_equal(at_once.intercept_, single.intercept_)
    for key, values in single.history_.items():
        if key != "seconds":
            np.testing.assert_array_equal(at_once.history_[key], values, err_msg=key)
    assert (np.diff(at_once.history_["seconds"]) > 0).all()
    for key, value in single.optimizer_state_.items():
        np.testing.assert_array_equal(at_once.optimizer_state_[key], value, err_msg=key)


@IGNORE
@pytest.mark.parametrize("layout", ["dense", "csr"])
@pytest.mark.parametrize("average", [False, 60])
@pytest.mark.parametrize("penalty", ["l2", "l1", "elasticnet"])
def test_epochs_run_at_once_whatever_goes_around_the_steps(penalty, average, layout, monkeypatch):
    """Python between two epochs takes longer than the steps on a few hundred short rows."""
    from fastopt.solvers.epochs import Epochs

    X, y = problem("multiclass")
    calls = []
    run = Epochs.run_several
    monkeypatch.setattr(Epochs, "run_several", lambda self, orders, *args: calls.append(0) or run(self, orders, *args))
    model = SGDClassifier(penalty=penalty, average=average, max_iter=40, tol=None, random_state=0)
    model.fit(X if layout == "dense" else scipy.sparse.csr_array(X), y)
    assert model.n_iter_ == 40
    assert 0 < len(calls) < 5


@IGNORE
@pytest.mark.parametrize("penalty", ["l2", "l1"])
def test_a_cut_rate_leaves_the_coefficients_of_ftrl(penalty):
    """Whose step makes them anew from its state and the rate: at a fifth of that they would be a fifth."""
    X, y = problem()
    options = settings("adaptive", optimizer="ftrl", eta0=0.5, max_iter=200, penalty=penalty)
    history = SGDClassifier("log_loss", **options).fit(X, y).history_
    values, cuts = history["objective"], np.flatnonzero(np.diff(history["learning_rate"]))
    assert len(cuts) > 5
    assert (values[cuts + 1] <= values[cuts] * (1 + 1e-9)).all()


@IGNORE
@pytest.mark.parametrize("targets", ["binary", "multiclass"])
@pytest.mark.parametrize("loss", ["log_loss", "modified_huber", "multinomial"])
def test_probabilities(loss, targets):
    """scikit-learn's at the same coefficients; "multinomial", which it has not, is the logistic function of two."""
    X, y = problem(targets)
    X = 5 * X  # so that some rows are claimed by no class, and some by all
    model = SGDClassifier(loss, random_state=0).fit(X, y)
    peer = peers.SGDClassifier(loss="log_loss" if loss == "multinomial" else loss).fit(X, y)
    peer.coef_, peer.intercept_ = model.coef_, model.intercept_
    p = peer.predict_proba(X)
    if loss == "multinomial" and targets == "multiclass":
        p = scipy.special.softmax(peer.decision_function(X), axis=1)
    np.testing.assert_allclose(model.predict_proba(X), p, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(np.exp(model.predict_log_proba(X)), p, rtol=1e-9, atol=1e-12)
    if loss == "log_loss":  # of labels each has its own
        labels = SGDClassifier(loss, random_state=0).fit(X, np.column_stack([y == 1, y != 1, X[:, 0] > 0]).astype(int))
        np.testing.assert_allclose(labels.predict_proba(X), scipy.special.expit(labels.decision_function(X)), rtol=1e-9)


@pytest.mark.parametrize("loss", ["log_loss", "multinomial"])
def test_probabilities_that_all_round_to_zero_have_shares(loss):
    """Of a row that each class disclaims by millions the least unlikely one is certain, as `predict` has it."""
    X, y = problem("multiclass")
    model = SGDClassifier(loss, random_state=0).fit(X, y)
    model.intercept_ = model.intercept_ - 3e6
    p = model.predict_proba(X)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-14)
    np.testing.assert_allclose(p, np.exp(model.predict_log_proba(X)))
    np.testing.assert_allclose(p, scipy.special.softmax(model.decision_function(X), axis=1))


def test_sparsify_and_predict():
    X, y = load_iris(return_X_y=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = SGDClassifier("log_loss", penalty="l1", alpha=0.05, random_state=0).fit(scale(X), y)
    before = model.predict_proba(scale(X))
    assert (model.coef_ == 0).any()
    model.sparsify()
    assert scipy.sparse.issparse(model.coef_)
    np.testing.assert_allclose(model.predict_proba(scale(X)), before)
    model.partial_fit(scale(X), y)
    assert isinstance(model.coef_, np.ndarray)
    np.testing.assert_allclose(np.exp(model.predict_log_proba(scale(X))), model.predict_proba(scale(X)))
    for loss in CLASSIFIER_LOSSES:
        assert hasattr(SGDClassifier(loss), "predict_proba") == (loss in ("log_loss", "modified_huber", "multinomial"))


@pytest.mark.parametrize(("values", "factor", "restarted"), [
    ([2.0, 2.0, 2.0, 2.0, 0.9], 0.5, False),  # F fell, if at the end alone: the rate was too high
    ([0.9, 0.8, 0.7, 0.6, 0.5], 1.5, False),
    ([2.0, 2.0, 2.0, 2.0, 2.0], 0.25, True),
])  # fmt: skip
def test_a_cycle_begins_from_the_best_parameters_where_the_last_one_did_not_lower_F(values, factor, restarted):
    class Watched:
        optimizer, restarts = SGD(), 0
        w = solution = np.zeros((3, 1))

        def restart(self, w, scale):
            self.restarts += 1
            np.testing.assert_array_equal(w, np.zeros((3, 1)))

    epochs, cycle = Watched(), _Cycle(length=len(values))
    cycle.begin(1.0, epochs, 1.0)
    for k, value in enumerate(values):
        epochs.solution = np.full((3, 1), k + 1.0)
        scale, _ = cycle.after(value, epochs, 1.0, Settings())
    assert scale == factor
    assert epochs.restarts == restarted
