"""What all estimators share: callbacks, progress, frames; LogisticRegression with L1 and along a path of C."""

import pickle
import sys

import numpy as np
import pytest
import scipy.sparse
import sklearn.linear_model as peers
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.metrics import accuracy_score, make_scorer
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.preprocessing import scale
from sklearn.utils.estimator_checks import parametrize_with_checks

from fastopt import LogisticRegression, LogisticRegressionCV, SGDClassifier, SGDRegressor, plot
from fastopt.linear_model._base import generator
from fastopt.solvers import monitor

IGNORE = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
NEW = {"l1_ratios": (0,), "scoring": "accuracy", "use_legacy_attributes": False}  # the coming defaults of the path
OLD = not hasattr(peers.LogisticRegressionCV(), "use_legacy_attributes")
NEEDS_NEW = pytest.mark.skipif(OLD, reason="scikit-learn < 1.8: its path has other parameters and attributes")
ESTIMATORS = [
    LogisticRegression(max_iter=4), LogisticRegression(solver="adam", max_iter=4, random_state=0),
    SGDClassifier(max_iter=4, random_state=0), SGDRegressor(max_iter=4, random_state=0),
]  # fmt: skip


@pytest.mark.parametrize("seed", [0, 1, np.int64(42), 2**32 - 1])
def test_an_integer_seeds_what_numpy_seeds_by_it(seed):
    """Whatever quicker way there is: the same numbers, from a copy through pickle, too."""
    rng, expected = generator(seed), np.random.RandomState(seed)
    for got, wanted in zip(rng.get_state(), expected.get_state(), strict=True):
        np.testing.assert_array_equal(got, wanted)
    rng = pickle.loads(pickle.dumps(rng))
    np.testing.assert_array_equal(rng.permutation(100), expected.permutation(100))
    assert rng.standard_normal() == expected.standard_normal()


def iris():
    X, y = load_iris(return_X_y=True)
    return scale(X), y


@IGNORE
@pytest.mark.filterwarnings("ignore::FutureWarning")
@parametrize_with_checks([LogisticRegressionCV(cv=3, Cs=3, max_iter=50, **given) for given in ({}, NEW)])
def test_scikit_learns_checks(estimator, check):
    """With three folds, as scikit-learn checks its own: the data of some checks have no five rows of a class."""
    check(estimator)


@IGNORE
@pytest.mark.parametrize("l1_ratio", [1.0, 0.5])
@pytest.mark.parametrize("layout", [np.asarray, scipy.sparse.csr_array])
@pytest.mark.parametrize("load", [load_breast_cancer, load_iris])
def test_l1_has_scikit_learns_optimum(l1_ratio, layout, load):
    X, y = load(return_X_y=True)
    X = scale(X)
    options = {"penalty": "elasticnet"} if OLD else {}  # since 1.8 l1_ratio says it alone
    peer = peers.LogisticRegression(solver="saga", l1_ratio=l1_ratio, C=0.1, tol=1e-9, max_iter=100_000, **options)
    peer.fit(X, y)
    ours = LogisticRegression(l1_ratio=l1_ratio, C=0.1, tol=1e-6, max_iter=2000).fit(layout(X), y)
    assert ours.converged_
    np.testing.assert_allclose(ours.coef_, peer.coef_, rtol=0, atol=2e-4)
    np.testing.assert_array_equal(ours.coef_ == 0, peer.coef_ == 0)


@IGNORE
@NEEDS_NEW
@pytest.mark.parametrize("refit", [True, False])
@pytest.mark.parametrize("load", [load_breast_cancer, load_iris])
def test_the_path_is_scikit_learns(refit, load):
    X, y = load(return_X_y=True)
    X = scale(X)
    options = {"Cs": [0.01, 0.1, 1.0], "cv": 3, "scoring": "neg_log_loss", "max_iter": 2000, "tol": 1e-6}
    options["refit"] = refit
    peer = peers.LogisticRegressionCV(l1_ratios=(0,), use_legacy_attributes=False, **options).fit(X, y)
    ours = LogisticRegressionCV(**NEW | options).fit(X, y)
    assert (ours.C_, ours.l1_ratio_) == pytest.approx((peer.C_, 0.0))
    np.testing.assert_allclose(ours.scores_, peer.scores_, atol=1e-4)
    np.testing.assert_allclose(ours.coefs_paths_, peer.coefs_paths_, atol=0.02)
    np.testing.assert_allclose(ours.coef_, peer.coef_, atol=0.01)
    assert ours.n_iter_.shape == peer.n_iter_.shape
    assert ours.score(X, y) == pytest.approx(peer.score(X, y), abs=1e-4)
    threads = LogisticRegressionCV(n_jobs=2, **NEW | options).fit(X, y)
    np.testing.assert_array_equal(threads.coef_, ours.coef_)
    options |= {"use_legacy_attributes": True, "l1_ratios": None}
    with pytest.warns(FutureWarning, match="'l1_ratios=None' was deprecated"):
        assert LogisticRegressionCV(**options).fit(X, y).scores_[1].shape == (3, 3)
    options["l1_ratios"] = (0,)
    legacy, theirs = LogisticRegressionCV(**options).fit(X, y), peers.LogisticRegressionCV(**options).fit(X, y)
    assert legacy.scores_.keys() == theirs.scores_.keys()
    for label in legacy.scores_:
        np.testing.assert_allclose(legacy.scores_[label], theirs.scores_[label], atol=1e-4)
        assert legacy.coefs_paths_[label].shape == theirs.coefs_paths_[label].shape
    assert legacy.C_.shape == theirs.C_.shape


@IGNORE
@NEEDS_NEW
@pytest.mark.parametrize("n_classes", [2, 3])
def test_folds_may_lack_classes(n_classes):
    """They are fitted and scored with all classes, as scikit-learn's are."""
    X, y = iris()
    X, y = X[y < n_classes], np.array(["a", "b", "c"])[y[y < n_classes]]
    options = {"Cs": [0.01, 0.1], "cv": KFold(n_classes), "use_legacy_attributes": False, "max_iter": 500}
    for scoring in ("neg_brier_score", "accuracy", "neg_log_loss"):
        ours = LogisticRegressionCV(scoring=scoring, solver="lbfgs", l1_ratios=(0,), **options).fit(X, y)
        theirs = peers.LogisticRegressionCV(scoring=scoring, l1_ratios=(0,), **options).fit(X, y)
        assert ours.coefs_paths_.shape == theirs.coefs_paths_.shape
        np.testing.assert_allclose(ours.coefs_paths_[..., :-1], theirs.coefs_paths_[..., :-1], atol=2e-3)
        if scoring == "accuracy":
            np.testing.assert_array_equal(ours.scores_, 0.0)
        elif scoring == "neg_brier_score":
            np.testing.assert_allclose(ours.scores_, theirs.scores_, atol=1e-3)
        assert ours.C_ == theirs.C_


@NEEDS_NEW
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_the_path_is_that_of_single_fits(fit_intercept):
    """Each of the grid on its fold, whatever it began from; the last one on all rows."""
    X, y = iris()
    options = {"fit_intercept": fit_intercept, "tol": 1e-7, "max_iter": 1000}
    Cs, ratios = [0.05, 1.0], (0.0, 0.4, 1.0)
    path = LogisticRegressionCV(Cs=Cs, cv=2, **NEW | {"l1_ratios": ratios}, **options).fit(X, y)
    assert path.coefs_paths_.shape == (2, 3, 2, 3, 4 + fit_intercept)
    for k, (train, _) in enumerate(StratifiedKFold(2).split(X, y)):
        for i, ratio in enumerate(ratios):
            for j, C in enumerate(Cs):
                one = LogisticRegression(C=C, l1_ratio=ratio, **options).fit(X[train], y[train])
                coef = np.column_stack([one.coef_, one.intercept_]) if fit_intercept else one.coef_
                np.testing.assert_allclose(path.coefs_paths_[k, i, j], coef, atol=1e-4)
    one = LogisticRegression(C=path.C_, l1_ratio=path.l1_ratio_, **options).fit(X, y)
    np.testing.assert_allclose(path.coef_, one.coef_, atol=1e-4)


def test_penalty_of_the_path():
    X, y = iris()
    options = NEW | {"Cs": 2, "cv": 3, "max_iter": 2000, "tol": 1e-3}
    del options["l1_ratios"]
    for penalty, ratios in (("l2", (0.0,)), ("l1", (1.0,)), ("elasticnet", (0.5,))):
        given = {"l1_ratios": ratios if penalty == "elasticnet" else None}
        with pytest.warns(FutureWarning, match="'penalty' was deprecated"):
            old = LogisticRegressionCV(penalty=penalty, **given, **options).fit(X, y)
        np.testing.assert_array_equal(old.coef_, LogisticRegressionCV(l1_ratios=ratios, **options).fit(X, y).coef_)
    for wrong, text in (
        ({"penalty": None}, "penalty must be one of"), ({"penalty": "elasticnet"}, "l1_ratios must be a list"),
        ({"dual": True}, "dual must be False"), ({"intercept_scaling": -1.0}, "intercept_scaling must be"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=text):
            LogisticRegressionCV(**wrong).fit(X, y)


@NEEDS_NEW
def test_defaults_of_the_path_are_scikit_learns():
    """Its constructor, its warnings word for word, and what it leaves behind."""
    X, y = load_iris(return_X_y=True)
    X, y = scale(X)[y > 0], y[y > 0]
    assert LogisticRegressionCV()._get_param_names() == sorted(
        {*peers.LogisticRegressionCV._get_param_names(), "learning_rate", "batch_size"}
    )
    theirs = peers.LogisticRegressionCV().get_params()
    ours = LogisticRegressionCV().get_params()
    assert {name for name in theirs if ours[name] != theirs[name]} == {"solver"}
    with pytest.warns(FutureWarning) as caught:
        model = LogisticRegressionCV(Cs=[0.1, 1.0], cv=3).fit(X, y)
    with pytest.warns(FutureWarning) as expected:
        peer = peers.LogisticRegressionCV(Cs=[0.1, 1.0], cv=3).fit(X, y)
    texts = [[" ".join(str(w.message).split()) for w in found] for found in (caught, expected)]
    assert {w.filename for w in caught} == {__file__}
    assert len(texts[0]) == len(texts[1]) == 3
    for text, other in zip(*texts, strict=True):
        assert text[:80] == other[:80]
    assert model.scores_.keys() == peer.scores_.keys()
    for name in ("C_", "l1_ratio_", "n_iter_"):
        assert np.shape(getattr(model, name)) == np.shape(getattr(peer, name))
    for name in ("scores_", "coefs_paths_"):
        for label, values in getattr(peer, name).items():
            np.testing.assert_allclose(getattr(model, name)[label], values, atol=1e-3)
    assert model.score(X, y) == peer.score(X, y)


@config_context(enable_metadata_routing=True)
def test_weights_that_the_scorer_did_not_ask_for_are_refused():
    X, y = iris()
    scorer = make_scorer(accuracy_score).set_score_request(sample_weight=False)
    s = np.arange(1.0, len(y) + 1)
    model = LogisticRegressionCV(Cs=2, cv=3, **NEW | {"scoring": scorer}).fit(X, y, sample_weight=s)
    with pytest.raises(TypeError, match="got unexpected argument"):
        model.score(X, y, sample_weight=s)


@IGNORE
def test_metadata_reach_the_scorer():
    X, y = iris()
    s = np.arange(1.0, len(y) + 1)
    with config_context(enable_metadata_routing=True):
        scorer = make_scorer(accuracy_score).set_score_request(sample_weight=True)
        model = LogisticRegressionCV(Cs=2, cv=3, **NEW | {"scoring": scorer}).set_fit_request(sample_weight=True)
        routed = model.fit(X, y, sample_weight=s).scores_
    np.testing.assert_array_equal(routed, LogisticRegressionCV(Cs=2, cv=3, **NEW).fit(X, y, sample_weight=s).scores_)
    with config_context(enable_metadata_routing=True):
        assert "sample_weight" in str(SGDClassifier().set_fit_request(sample_weight=True).get_metadata_routing())


@IGNORE
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
def test_callbacks_see_every_epoch(estimator):
    callback = pytest.importorskip("sklearn.callback", reason="scikit-learn before 1.9 has no callbacks")
    X, y = iris()
    scores = callback.ScoringMonitor(scoring="r2" if isinstance(estimator, SGDRegressor) else "accuracy")
    model = estimator.set_params(tol=0.0).set_callbacks(scores).fit(X, y)
    log = scores.get_logs().data_as_pandas
    assert len(log) == 5  # the fit, and four epochs
    assert log.iloc[0].iloc[-1] == pytest.approx(model.score(X, y))
    with pytest.raises((ValueError, TypeError)):
        model.set_params(max_iter=-1).fit(X, y)
    model.set_params(max_iter=4).set_callbacks()


@IGNORE
@pytest.mark.parametrize("error", [MemoryError, StopIteration, KeyboardInterrupt])
@pytest.mark.parametrize("estimator", [*ESTIMATORS, LogisticRegression(solver="lbfgs", max_iter=4)], ids=repr)
def test_callbacks_that_raise(estimator, error):
    """No error passes for a solver's end, and the model is as before, or after Ctrl-C as after a whole epoch."""
    pytest.importorskip("sklearn.callback", reason="scikit-learn before 1.9 has no callbacks")
    X, y = iris()

    class Raises:
        def __init__(self, left):
            self.left = left

        def setup(self, estimator, context):
            pass

        teardown = setup

        def on_fit_task_begin(self, estimator, context, **told):
            self.left -= 1
            if self.left == 0:
                raise error

        on_fit_task_end = on_fit_task_begin

    expected = clone(estimator).set_params(random_state=0).fit(X, y).coef_
    for left in range(1, 8):
        model = clone(estimator).set_params(random_state=0).fit(X[:, :3], y == 0)
        before = {name: value for name, value in vars(model).items() if not name.startswith("_skl")}
        with pytest.raises(RuntimeError if error is StopIteration else error):
            model.set_callbacks(Raises(left)).fit(X, y)
        model.set_callbacks()
        found = {name: value for name, value in vars(model).items() if not name.startswith("_skl")}
        if error is not KeyboardInterrupt or left == 1 or found["coef_"] is before["coef_"]:
            assert found.keys() == before.keys()
            assert all(found[name] is before[name] for name in found)
        else:
            assert model.predict(X).shape == y.shape
            assert len(model.history_["epoch"]) >= 1
        np.testing.assert_array_equal(model.fit(X, y).coef_, expected)


@IGNORE
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
@pytest.mark.parametrize("installed", [False, True])
def test_verbose_2_is_a_bar_or_lines(estimator, installed, monkeypatch, capsys):
    X, y = iris()
    bars = []

    class Bar:
        def __init__(self, total, unit):
            self.total, self.n, self.closed = total, 0, False
            bars.append(self)

        def set_postfix_str(self, text, refresh):
            self.text = text

        def update(self, n):
            self.n += n

        def close(self):
            self.closed = True

    if installed:
        monkeypatch.setattr(monitor, "_progress_bar", lambda total: Bar(total, "epoch"))
    else:
        monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    estimator.set_params(verbose=2, tol=0.0).fit(X, y)
    lines = capsys.readouterr().out.splitlines()
    assert bool(bars) == installed
    if installed:
        assert (bars[0].total, bars[0].n, bars[0].closed, lines) == (4, 4, True, [])
    else:
        assert lines
        assert all(line.startswith("epoch") for line in lines)
    estimator.set_params(verbose=0)


@IGNORE
@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames(library):
    frames = pytest.importorskip(library, reason=f"{library} is not installed")
    X, y = iris()
    names = ["a", "b", "c", "d"]
    frame = frames.DataFrame(dict(zip(names, X.T, strict=True)))
    s = np.arange(1.0, len(y) + 1)
    for estimator in [*ESTIMATORS, LogisticRegressionCV(Cs=2, cv=3, max_iter=20, **NEW)]:
        labels = y if isinstance(estimator, SGDRegressor) else np.array(["x", "y", "z"])[y]
        model = clone(estimator).fit(frame, frames.Series(labels.tolist()), sample_weight=frames.Series(s))
        assert model.feature_names_in_.tolist() == names
        expected = clone(estimator).fit(X, labels, sample_weight=s)
        np.testing.assert_array_equal(model.predict(frame), expected.predict(X))
        assert model.score(frame, frames.Series(labels.tolist())) == expected.score(X, labels)
        with pytest.raises(ValueError, match="The feature names should match those that were passed during fit"):
            model.predict(frame.rename({"a": "e"}, **({"axis": 1} if library == "pandas" else {})))
        if hasattr(model, "partial_fit"):
            model.partial_fit(frame, frames.Series(labels.tolist()))


@IGNORE
def test_convergence_draws_a_curve_for_each_fit():
    pyplot = pytest.importorskip("matplotlib.pyplot")
    X, y = iris()
    fits = [LogisticRegression(solver=name, max_iter=5, random_state=0).fit(X, y) for name in ("gd", "lbfgs", "adam")]
    for vertical in ("objective", "grad_norm"):
        for horizontal in ("epoch", "seconds"):
            ax = plot.convergence(*fits, y=vertical, x=horizontal)
            assert [text.get_text() for text in ax.get_legend().get_texts()] == ["gd", "lbfgs", "adam"]
            for line, fit in zip(ax.lines, fits, strict=True):
                lowest = min(f.history_["objective"].min() for f in fits) if vertical == "objective" else 0.0
                shown = fit.history_[vertical] - lowest
                np.testing.assert_allclose(line.get_ydata(), shown[shown > 0])
                np.testing.assert_allclose(line.get_xdata(), fit.history_[horizontal][shown > 0])
            assert ax.get_yscale() == "log"
            pyplot.close(ax.figure)
    with pytest.raises(ValueError, match="convergence must be given fitted estimators; got LogisticRegression"):
        plot.convergence(LogisticRegression())
    with pytest.raises(ValueError, match="at least one fitted estimator"):
        plot.convergence()
