"""One-hot groups: which data have them, and what their centring does to F, SAGA and L-BFGS."""

import numpy as np
import pytest
import scipy.sparse
from cases import csr

from fastopt._design import Design
from fastopt.objective import Objective
from fastopt.solvers.lbfgs import lbfgs
from fastopt.solvers.newton import newton
from fastopt.solvers.one_hot import OneHot
from fastopt.solvers.saga import saga


def encoded(n, sizes, *, value=1.0, seed=0, dtype=np.float64):
    """Random categories as an encoder writes them, the first of each group the most frequent."""
    rng = np.random.default_rng(seed)
    chosen = np.column_stack([(size * rng.random(n) ** 2).astype(int) for size in sizes])
    columns = chosen + np.concatenate([[0], np.cumsum(sizes)[:-1]])
    indptr = np.arange(n + 1) * len(sizes)
    return scipy.sparse.csr_array((np.full(columns.size, value, dtype), columns.ravel(), indptr), (n, sum(sizes)))


def objective(X, *, alpha=1e-2, n_outputs=1, **options):
    rng = np.random.default_rng(1)
    n = X.shape[0]
    if n_outputs == 1:
        y = np.where(X @ rng.standard_normal(X.shape[1]) > rng.standard_normal(n), 1.0, -1.0)
    else:
        y = rng.integers(0, n_outputs, n).astype(float)
    loss = "log_loss" if n_outputs == 1 else "multinomial"
    return Objective(Design.from_array(X), y, loss=loss, alpha=alpha, n_outputs=n_outputs, **options)


def groups_of(X, **options):
    found = OneHot.of(objective(X, **options))
    return None if found is None else found.sizes.tolist()


def test_groups_are_found():
    X = encoded(500, [3, 5, 2], value=2.0)
    assert groups_of(X) == [3, 5, 2]
    assert OneHot.of(objective(X)).values.tolist() == [2.0, 2.0, 2.0]
    assert groups_of(X, n_outputs=3) == [3, 5, 2]
    assert groups_of(scipy.sparse.csr_array(X[[0]])) == [1, 1, 1]  # categories that no row has are none of a group


def test_a_number_beside_categories_is_no_group():
    X = encoded(500, [3, 5])
    numbers = np.random.default_rng(2).random((500, 1)) + 1
    assert groups_of(scipy.sparse.csr_array(scipy.sparse.hstack([X, numbers]))) == [3, 5]
    assert groups_of(scipy.sparse.csr_array(scipy.sparse.hstack([X[:, :3], numbers, X[:, 3:]]))) == [3, 5]


def spoilt(where):
    """Late rows that are not as the others: the first ones do not show it."""
    X = encoded(600, [3, 5])
    if where == "value":
        X.data[-2:] = 3.0
    elif where == "missing":
        X = scipy.sparse.csr_array(scipy.sparse.vstack([X, scipy.sparse.csr_array(([1.0], ([0], [0])), (1, 8))]))
    else:  # both entries in one group
        X.indices[-2:] = [0, 1]
    return scipy.sparse.csr_array(X)


@pytest.mark.parametrize("where", ["value", "missing", "both"])
def test_one_row_that_is_otherwise(where):
    assert groups_of(spoilt(where)) is None


def test_a_column_named_twice_beside_a_group():
    """It is still known: the rows' columns do not rise because those of the group do."""
    X = encoded(500, [3, 5])
    indices = np.column_stack([X.indices.reshape(500, 2), X.indices[1::2]])
    values = np.column_stack([np.ones(500), np.arange(1.0, 501.0), np.ones(500)])
    F = objective(csr(values.ravel(), indices.ravel(), 3 * np.arange(501), (500, 8)))
    assert OneHot.of(F) is None
    assert not F.design.distinct


def test_no_groups():
    X = encoded(500, [3, 5])
    assert groups_of(X.toarray()) is None
    assert groups_of(X, fit_intercept=False) is None
    assert groups_of(X, alpha=0.0) is None
    assert groups_of(X, l1_ratio=0.5) is None
    assert groups_of(scipy.sparse.random_array((500, 20), density=0.2, format="csr", rng=0)) is None
    assert groups_of(scipy.sparse.csr_array((500, 20))) is None


@pytest.mark.parametrize("n_outputs", [1, 3])
@pytest.mark.parametrize("value", [1.0, -0.5])
def test_centring_moves_no_prediction_and_lowers_F(n_outputs, value):
    F = objective(encoded(300, [4, 6, 3], value=value), n_outputs=n_outputs)
    w = np.random.default_rng(3).standard_normal(F.shape)
    centred = w.copy()
    OneHot.of(F).center(centred)
    np.testing.assert_allclose(F.raw_prediction(centred), F.raw_prediction(w), atol=1e-12)
    assert F.value(centred) < F.value(w)
    for columns in (slice(0, 4), slice(4, 10), slice(10, 13)):
        np.testing.assert_allclose(centred[columns].mean(axis=0), 0, atol=1e-15)


@pytest.mark.parametrize("n_outputs", [1, 3])
def test_the_minimum_is_centred(n_outputs):
    F = objective(encoded(300, [4, 6, 3]), n_outputs=n_outputs)
    w = newton(F, F.zeros(), tol=1e-12, max_iter=100).w
    centred = w.copy()
    OneHot.of(F).center(centred)
    penalised = slice(0, -1)  # softmax is flat along equal changes of all intercepts
    np.testing.assert_allclose(centred[penalised], w[penalised], atol=1e-9)


def test_saga_needs_a_dozen_epochs_for_categories():
    F = objective(encoded(20_000, [3, 12, 40, 200], dtype=np.float32), alpha=1 / 20_000)
    best = newton(F, F.zeros(), tol=1e-10, max_iter=100)
    result = saga(F, F.zeros(), tol=0.0, max_iter=16, rng=np.random.default_rng(0))
    assert result.objective / best.objective - 1 < 1e-8  # 1e-7 without
    assert result.objective == pytest.approx(F.value(result.w), rel=1e-12)
    assert result.grad_norm == pytest.approx(np.linalg.norm(F.gradient(result.w)), rel=1e-9)


@pytest.mark.parametrize("n_outputs", [1, 3])
def test_lbfgs_on_categories_from_anywhere(n_outputs):
    F = objective(encoded(300, [4, 6, 3]), n_outputs=n_outputs)
    start = np.random.default_rng(3).standard_normal(F.shape)
    result = lbfgs(F, start, tol=1e-8, max_iter=200)
    assert result.converged
    best = newton(F, F.zeros(), tol=1e-12, max_iter=100)
    assert result.objective == pytest.approx(best.objective, rel=1e-12)
