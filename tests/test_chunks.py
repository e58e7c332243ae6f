"""Data in chunks: the same F as in one piece, the same minimiser, and epochs that go on exactly."""

import warnings

import numpy as np
import pytest
import scipy.sparse
from sklearn.exceptions import ConvergenceWarning

import fastopt
from fastopt import LogisticRegression, LogisticRegressionCV, SGDClassifier, SGDRegressor
from fastopt.data import Chunks
from fastopt.optimizers import OPTIMIZERS, GradientDescent

N, SIZE = 600, 130


@pytest.fixture(params=["dense", "csr"])
def X(request, rng):
    X = rng.standard_normal((N, 9)) * (rng.random((N, 9)) < 0.6)
    return X if request.param == "dense" else scipy.sparse.csr_array(X)


def targets(X, n_classes):
    dense = X.toarray() if scipy.sparse.issparse(X) else X
    noise = np.random.default_rng(3).standard_normal((N, n_classes))
    return np.array(["ham", "jam", "spam"])[np.argmax(dense[:, :n_classes] + noise, axis=1)]


def test_batches_grow_up_to_the_largest_chunk():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((300, 5))
    y = X.sum(axis=1) + rng.standard_normal(300) > 0
    parts = [(X[i:j], y[i:j]) for i, j in ((0, 20), (20, 240), (240, 300))]
    # Steps on 20, 220 and 60 rows weigh these unequally: it ends 1e-4 to 3e-3 above the minimum, by the seed and by the
    # rate that it begins with, of which two are equally good here but for rounding.
    model = LogisticRegression(solver="rmsprop", tol=0.0, max_iter=100, random_state=1)
    with pytest.warns(ConvergenceWarning):
        model.fit(Chunks(parts))
    assert model.optimizer_state_["run"]["batch_size"] == 220
    assert model.objective_ < LogisticRegression(tol=1e-8).fit(X, y).objective_ * (1 + 1e-3)


def cut(X, y, s=None):
    parts = [(X[i : i + SIZE], y[i : i + SIZE], None if s is None else s[i : i + SIZE]) for i in range(0, N, SIZE)]
    return Chunks(parts if s is not None else [part[:2] for part in parts])


@pytest.mark.parametrize(
    "how", [{}, {"l1_ratio": 0.4}, {"class_weight": "balanced"}, {"class_weight": {"ham": 3}}, {"solver": "gd"}]
)
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_same_minimiser(X, how, n_classes, weighted, rng):
    y = targets(X, n_classes)
    s = rng.integers(0, 4, N).astype(float) if weighted else None
    if weighted:
        s[:SIZE] = 0.0  # the first chunk counts for nothing
    how = {"tol": 1e-8, "max_iter": 5000, "C": 0.1} | how
    whole = LogisticRegression(**how).fit(X, y, s)
    model = LogisticRegression(**how).fit(cut(X, y, s))
    assert model.converged_
    assert model.classes_.tolist() == whole.classes_.tolist()
    assert model.objective_ == pytest.approx(whole.objective_, rel=1e-12)
    np.testing.assert_allclose(model.coef_, whole.coef_, atol=1e-6)
    np.testing.assert_allclose(model.intercept_, whole.intercept_, atol=1e-6)


@pytest.mark.parametrize("solver", ["sgd", "momentum", "adagrad", "adam", "ftrl", "schedule_free_sgd"])
@pytest.mark.parametrize("l1_ratio", [0.0, 0.5])
def test_update_rules_come_as_close(X, solver, l1_ratio):
    y = targets(X, 2)
    how = {"solver": solver, "tol": 0.0, "max_iter": 30, "random_state": 0, "l1_ratio": l1_ratio, "batch_size": 16}
    best = LogisticRegression(tol=1e-8, max_iter=1000, l1_ratio=l1_ratio).fit(X, y).objective_
    with pytest.warns(ConvergenceWarning):
        model = LogisticRegression(**how).fit(cut(X, y))
    with pytest.warns(ConvergenceWarning):
        whole = LogisticRegression(**how).fit(X, y)
    assert model.objective_ - best <= max(5 * (whole.objective_ - best), 2e-3)


@pytest.mark.parametrize("learning_rate", [1.0, 60.0])  # the second until its steps are a quarter of that, or less
def test_steps_on_all_rows_are_those_of_one_piece(X, learning_rate):
    """Of a falling rate, too: an epoch is one step, however many chunks there are."""
    y = targets(X, 2)
    how = {"solver": GradientDescent(learning_rate=learning_rate, decay=0.5), "max_iter": 6, "tol": 0.0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        whole, model = LogisticRegression(**how).fit(X, y), LogisticRegression(**how).fit(cut(X, y))
    assert (whole.history_["learning_rate"][1] < learning_rate) == (learning_rate > 1)
    np.testing.assert_allclose(model.history_["learning_rate"], whole.history_["learning_rate"], rtol=1e-15)
    np.testing.assert_allclose(model.history_["objective"], whole.history_["objective"], rtol=1e-12)
    np.testing.assert_allclose(model.coef_, whole.coef_, rtol=1e-9)


@pytest.mark.parametrize("solver", ["sgd", "momentum", "adam", "ftrl"])
@pytest.mark.parametrize("l1_ratio", [0.0, 0.5])
def test_columns_that_most_batches_lack_move_as_those_of_dense_chunks(solver, l1_ratio, rng):
    """Penalties do not wait for a column's rows by its share of a chunk's: a chunk may have none."""
    X = scipy.sparse.random_array((N, 400), density=0.005, format="csr", rng=rng)
    y = rng.integers(0, 2, N)
    how = {"solver": OPTIMIZERS[solver](learning_rate=0.1), "l1_ratio": l1_ratio, "batch_size": 2, "max_iter": 3}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        csr, dense = (LogisticRegression(**how, tol=0.0, random_state=0).fit(cut(a, y)) for a in (X, X.toarray()))
    assert (csr.coef_ != 0).any()
    np.testing.assert_allclose(csr.coef_, dense.coef_, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("solver", ["sgd", "adam", "gd"])
def test_the_certificate_is_over_all_chunks(X, solver):
    """objective_ and grad_norm_ are those of the whole data at the coefficients."""
    y = targets(X, 2)
    with pytest.warns(ConvergenceWarning):
        model = LogisticRegression(solver=solver, max_iter=3, tol=0.0, random_state=0).fit(cut(X, y))
    dense = X.toarray() if scipy.sparse.issparse(X) else X
    sign = np.where(y == "jam", 1.0, -1.0)
    margin = sign * (dense @ model.coef_[0] + model.intercept_)
    slope = -sign / (1 + np.exp(margin)) / N
    gradient = np.append(dense.T @ slope + model.coef_[0] / N, slope.sum())
    assert model.objective_ == pytest.approx(
        np.logaddexp(0, -margin).mean() + (model.coef_**2).sum() / (2 * N), rel=1e-12
    )
    assert model.grad_norm_ == pytest.approx(np.linalg.norm(gradient), rel=1e-9)


def test_one_chunk_is_the_whole(X):
    """Draw for draw."""
    y = targets(X, 2)
    how = {"solver": "adam", "max_iter": 5, "tol": 0.0, "random_state": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        a, b = LogisticRegression(**how).fit(X, y), LogisticRegression(**how).fit(Chunks([(X, y)]))
    np.testing.assert_allclose(a.coef_, b.coef_, rtol=1e-9)


@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_exact_resume(X, solver, tmp_path):
    chunks = cut(X, targets(X, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        whole = LogisticRegression(solver=solver, max_iter=6, tol=0.0, random_state=0).fit(chunks)
        part = LogisticRegression(solver=solver, max_iter=2, tol=0.0, random_state=0, warm_start=True)
        for _ in range(3):
            fastopt.save(part.fit(chunks), tmp_path / "model")
            part = fastopt.load(tmp_path / "model")
    assert np.array_equal(whole.coef_, part.coef_)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_a_checkpoint_knows_the_chunks_again(X, solver, tmp_path):
    """Whatever gives them: the function of another process is another one."""
    y, path = targets(X, 2), tmp_path / "file"
    model = LogisticRegression(solver=solver, max_iter=6, tol=0.0, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        whole = model.fit(cut(X, y))
        fastopt.fit(LogisticRegression(**model.get_params() | {"max_iter": 2}), cut(X, y), checkpoint=path)
        parts = list(cut(X, y))
        part = fastopt.fit(LogisticRegression(**model.get_params()), Chunks(lambda: iter(parts)), checkpoint=path)
    assert np.array_equal(whole.coef_, part.coef_)
    parts[2] = (parts[2][0], np.roll(parts[2][1], 1), None)
    with pytest.raises(ValueError, match="checkpoint must be of the same data"):
        fastopt.fit(model, Chunks(parts), checkpoint=path)


def test_a_function_is_called_for_each_pass(X):
    y, calls = targets(X, 2), []

    def read():
        calls.append(0)
        for i in range(0, N, SIZE):
            calls[-1] += 1
            yield X[i : i + SIZE], y[i : i + SIZE]

    with pytest.warns(ConvergenceWarning):
        LogisticRegression(solver="sgd", learning_rate=0.1, max_iter=4, tol=0.0, random_state=0).fit(Chunks(read))
    whole = [count for count in calls if count == 5]
    assert len(whole) == 1 + 1 + 2 * 4  # classes and sizes; F at the start; for each epoch the steps, and F
    assert len(calls) == len(whole) + 1  # and a look at the first chunk


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        (lambda X, y: (part for part in [(X, y)]), TypeError, "without calling it"),
        (lambda X, y: 3, TypeError, "source must be"),
        (lambda X, y: [], ValueError, "at least one chunk"),
        (lambda X, y: [X], TypeError, r"\(X, y\) or"),
        (lambda X, y: [(X, y[:5])], ValueError, "as many elements"),
        (lambda X, y: [(X, y), (X[:, :4], y)], ValueError, "features"),
        (lambda X, y: [(X, np.repeat("a", N))], ValueError, "at least 2 classes"),
        (lambda X, y: [(X, y, -np.ones(N))], ValueError, "sample_weight"),
        (lambda X, y: [(X, y, np.zeros(N))], ValueError, "sample_weight must be positive"),
        (lambda X, y: [(X * np.nan, y)], ValueError, "NaN|finite"),
    ],
)
def test_what_is_refused(X, source, error, message):
    with pytest.raises(error, match=message):
        LogisticRegression().fit(Chunks(source(X, targets(X, 2))))


def test_an_iterator_that_is_used_up(X):
    y = targets(X, 2)
    parts = iter([(X, y), (X, y)])
    with pytest.raises(ValueError, match=r"the same chunks each time; got none after 2. Give a function that returns"):
        LogisticRegression().fit(Chunks(lambda: parts))


def test_chunks_that_change(X):
    y, passes = targets(X, 2), []

    def shrinks():
        passes.append(1)
        yield X, y
        yield X[: 100 if len(passes) < 3 else 50], y[: 100 if len(passes) < 3 else 50]

    with pytest.raises(ValueError, match="the same chunks each time"):
        LogisticRegression().fit(Chunks(shrinks))


@pytest.mark.parametrize("solver", ["sdca", "saga", "newton", "newton-cg"])
def test_solvers_that_need_all_rows(X, solver):
    with pytest.raises(ValueError, match="an update rule, 'lbfgs' or 'auto' for data in chunks"):
        LogisticRegression(solver=solver).fit(cut(X, targets(X, 2)))
    with pytest.raises(ValueError, match="must be None where X is Chunks"):
        LogisticRegression().fit(cut(X, targets(X, 2)), targets(X, 2))


def test_who_takes_no_chunks(X):
    y = targets(X, 2)
    chunks, message = cut(X, y), r"got Chunks\. LogisticRegression\.fit alone takes them"
    for model in (SGDClassifier(), SGDRegressor(), LogisticRegressionCV()):
        with pytest.raises(TypeError, match=message):
            model.fit(chunks, y)
    with pytest.raises(TypeError, match=message):
        LogisticRegression().fit(chunks).predict(chunks)
