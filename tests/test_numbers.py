"""Numbers at the ends of what floats hold: finite models, no warning that leaks, the processor's modes as found."""

import os
import threading
import warnings

import numpy as np
import pytest
import scipy.sparse
from cases import csr
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from fastopt import LogisticRegression, LogisticRegressionCV, SGDClassifier, SGDRegressor, minimize, reference
from fastopt._design import Design, check_csr
from fastopt.losses import LOSSES
from fastopt.objective import Objective, raw_prediction
from fastopt.optimizers import OPTIMIZERS
from fastopt.solvers.table import SOLVERS

LAYOUTS = {"dense": np.asarray, "csr": scipy.sparse.csr_array}
MODELS = {
    **{name: LogisticRegression(solver=name, max_iter=4, random_state=0) for name in ("auto", *SOLVERS, *OPTIMIZERS)},
    "lasso": LogisticRegression(solver="newton", l1_ratio=1.0, max_iter=4),
    "cv": LogisticRegressionCV(
        Cs=[1.0], cv=2, max_iter=4, l1_ratios=(0,), scoring="accuracy", use_legacy_attributes=False
    ),
    "classifier": SGDClassifier(max_iter=4, random_state=0),
    "averaged": SGDClassifier(loss="log_loss", average=True, max_iter=4, random_state=0),
    "regressor": SGDRegressor(max_iter=4, random_state=0),
    "log link": SGDRegressor(loss="poisson", max_iter=4, random_state=0),
}  # fmt: skip


def rows(n=60, d=4):
    rng = np.random.default_rng(0)
    X = np.round(rng.standard_normal((n, d)), 2)
    return X, (X @ [1.0, -2.0, 0.5, 0.0] + rng.standard_normal(n) > 0).astype(int)


EXTREMES = {
    "large": lambda X: X * 1e300,
    "of squares that overflow": lambda X: X * 1e155,
    "of squares whose sum overflows": lambda X: X * 1e153,
    "one large value": lambda X: np.where(np.arange(X.size).reshape(X.shape) == 9, 1e300, X),
    "subnormal": lambda X: X * 5e-322,
    "columns of all scales": lambda X: X * np.array([1e-150, 1e-50, 1e50, 1e150]),
    "largest": lambda X: np.sign(X) * np.finfo(float).max,
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("extreme", EXTREMES)
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("n_classes", [2, 3])
def test_finite_models_and_no_warning(name, extreme, layout, n_classes):
    """A fit ends with a finite model, or says in one line that it cannot; so do its predictions."""
    X, y = rows()
    if n_classes == 3:
        y[::3] = 2
    X = LAYOUTS[layout](EXTREMES[extreme](X))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = clone(MODELS[name])
        try:
            model.fit(X, y)
        except ValueError as error:  # as scikit-learn's estimators of these names do
            assert "under-/overflow occurred" in str(error)  # noqa: PT017
            assert extreme != "subnormal"
            return
        assert np.isfinite(model.coef_).all()
        assert np.isfinite(model.intercept_).all()
        assert not np.isnan(np.asarray(model.predict(X), float)).any()
        if hasattr(model, "predict_proba"):
            assert not np.isnan(model.predict_proba(X)).any()


@pytest.mark.parametrize("loss", [name for name, loss in LOSSES.items() if loss.lowest == -np.inf])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_margins_up_to_1e300(loss, layout):
    """F and its gradient against the reference, which takes each loss's asymptote."""
    z = np.array([-1e300, -1e150, -1e6, -750.0, -30.0, -1e-300, 0.0, 5e-324, 30.0, 750.0, 1e6, 1e150, 1e300])
    X, multiclass = z[:, None], LOSSES[loss].targets == "multiclass"
    y = np.arange(len(z)) % 2 * (1.0 if multiclass else 2.0) - (0.0 if multiclass else 1.0)
    k = 2 if multiclass else 1
    w = np.array([[1.0, -1.0][:k]]) * 1e-3
    with np.errstate(all="ignore"):
        expected = reference.objective(X, y, w, loss=loss, alpha=0.0, fit_intercept=False)
        slope = reference.gradient(X, y, w, loss=loss, alpha=0.0, fit_intercept=False)
    objective = Objective(
        Design.from_array(LAYOUTS[layout](X)), y, loss=loss, alpha=0.0, n_outputs=k, fit_intercept=False
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        value, gradient = objective.value_and_gradient(w.ravel())
    if np.isfinite(expected):
        assert value == pytest.approx(expected, rel=1e-12)
    else:
        assert not np.isfinite(value)
    if np.isfinite(slope).all():
        np.testing.assert_allclose(np.ravel(gradient), np.ravel(slope), rtol=1e-10)


@pytest.mark.parametrize("solver", ["lbfgs", "newton", "newton-cg", "sdca", "saga"])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_weights_over_24_powers_of_ten(solver, n_classes):
    """Those of 1e-12 count for next to nothing beside those of 1e12: F without them has the same minimiser."""
    X, y = rows(200)
    if n_classes == 3:
        y[X[:, 3] > 0.5] = 2
    s = np.where(np.arange(200) % 2, 1e12, 1e-12)
    C = 1.0 / s.sum()
    options = {"solver": solver, "max_iter": 2000, "tol": 1e-9, "random_state": 0}
    whole = LogisticRegression(C=C, **options).fit(X, y, sample_weight=s)
    half = LogisticRegression(C=1.0 / 100, **options).fit(X[1::2], y[1::2])
    assert whole.converged_
    np.testing.assert_allclose(whole.coef_, half.coef_, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_columns_over_300_powers_of_ten(layout):
    """Scaled by powers of two, the columns' coefficients are scaled back: the same predictions, without a penalty."""
    X, y = rows(200)
    scale = 2.0 ** np.array([-498, -100, 100, 498])
    options = {"solver": "lbfgs", "C": np.inf, "max_iter": 500, "tol": 0.0}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ConvergenceWarning)
        plain = LogisticRegression(**options).fit(LAYOUTS[layout](X), y)
        scaled = LogisticRegression(**options).fit(LAYOUTS[layout](X * scale), y)
    np.testing.assert_allclose(scaled.coef_ * scale, plain.coef_, rtol=1e-4)


@pytest.mark.parametrize("name", ["lbfgs", "newton", "newton-cg", "sdca", "saga", "adam", "classifier", "regressor"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_float32_is_float64_to_its_precision(name, layout):
    """On numbers that float32 holds exactly, at the same steps; sums over rows are of float64 in both."""
    X, y = rows()
    X = np.round(X * 64) / 64
    found = [clone(MODELS[name]).set_params(max_iter=20, tol=1e-6) for _ in range(2)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for model, dtype in zip(found, (np.float32, np.float64), strict=True):
            model.fit(LAYOUTS[layout](X.astype(dtype)), y)
    np.testing.assert_allclose(found[0].coef_, found[1].coef_, rtol=2e-3, atol=2e-5)


@pytest.mark.parametrize("solver", ["lbfgs", "newton-cg", "newton", "auto"])
@pytest.mark.parametrize("d", [4, 90])
def test_coefficients_beyond_float32(solver, d):
    """They are float64 then: those of the same rows as float64, and a warm start may begin there."""
    rng = np.random.default_rng(0)
    X = (rng.standard_normal((50, d)) * 1e-38).astype(np.float32)
    y = (X[:, 0] + 3e-39 * rng.standard_normal(50) > 0).astype(int)
    model = LogisticRegression(solver=solver, C=np.inf, max_iter=200, warm_start=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(X, y)
        assert model.converged_
        assert np.isfinite(model.coef_).all()
        z = X.astype(float) @ model.coef_[0] + model.intercept_
        assert model.objective_ == pytest.approx(np.logaddexp(0, np.where(y, -z, z)).mean(), rel=1e-9)
        assert not np.isnan(model.predict_proba(X)).any()
        warnings.simplefilter("ignore", ConvergenceWarning)
        value = model.objective_
        model.fit(X, y)
    assert np.isfinite(model.coef_).all()
    assert model.objective_ <= max(value, np.log(2))


def subnormals_live():
    """Whether the processor keeps subnormal results and takes subnormal operands."""
    tiny = np.array([np.finfo(float).tiny])
    return bool((tiny / 4)[0] > 0) and bool((np.array([5e-324]) * 2.0**100)[0] > 0)


@pytest.mark.parametrize("name", MODELS)
def test_the_error_state_and_flush_to_zero_are_as_found(name):
    X, y = rows()
    for state in ("ignore", "warn", "raise", "print"):
        with np.errstate(all=state), warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", ConvergenceWarning)
            before = np.geterr()
            model = clone(MODELS[name]).fit(X, y)
            model.predict(X)
            minimize(lambda x: x @ x, np.ones(3), lambda x: 2 * x, max_iter=3)
            assert np.geterr() == before
    assert subnormals_live()


def test_subnormal_products_are_not_flushed():
    """In the kernels: a flag that one of them left set, or a compiler's option, would make this zero."""
    X = np.array([[5e-324, 0.0], [1e-310, 0.0]])
    for design in (Design.from_array(X), Design.from_array(scipy.sparse.csr_array(X))):
        z = raw_prediction(design, np.array([1.0, 0.0]), 1, False)
        assert z.ravel().tolist() == [5e-324, 1e-310]


def test_predictions_that_overflow_warn_of_nothing():
    model = SGDRegressor(loss="gamma", max_iter=50).fit(np.ones((4, 1)), np.ones(4))
    model.coef_[:] = 1.0
    with np.errstate(all="raise"):
        assert model.predict([[1e300], [-1e300]]).tolist() == [np.inf, 0.0]


@pytest.mark.slow
@pytest.mark.skipif("FASTOPT_FUZZ" not in os.environ, reason="reads 26 GB of holes: make fuzz runs it")
def test_more_than_2_31_nonzeros(tmp_path):
    """A memory-mapped CSR whose files are holes but for the ends: 64-bit counters from the first check to the sums."""
    nnz = 2**31 + 1000
    values = np.memmap(tmp_path / "values", np.float32, "w+", shape=(nnz,))
    columns = np.memmap(tmp_path / "columns", np.int64, "w+", shape=(nnz,))
    values[-3:], columns[-3:] = [1.0, 2.0, 4.0], [1, 2, 2**33]
    indptr = np.array([0, 10, nnz - 3, nnz], np.int64)
    X = csr(values, columns, indptr, (3, 2**33 + 1))
    assert not check_csr(values, columns, indptr, X.shape)
    columns[-1] = 2**33 + 1
    with pytest.raises(ValueError, match=rf"got {2**33 + 1} in row 2, entry {nnz - 1}"):
        check_csr(values, columns, indptr, X.shape)
    columns[-1] = 3
    design = Design.from_array(csr(values, columns, indptr, (3, 4)))
    assert design.n_stored == nnz
    assert np.shares_memory(design.values, values)
    z = raw_prediction(design, np.array([0.0, 1.0, 10.0, 100.0]), 1, False)
    assert z.ravel().tolist() == [0.0, 0.0, 421.0]


def test_buffers_stay_exported_while_a_kernel_runs():
    """Another thread can neither resize nor free what a kernel reads: NumPy refuses, and a deleted array lives on."""
    n = 400_000
    X, y = np.random.default_rng(0).standard_normal((n, 10)), np.arange(n) % 2
    held = bytearray(X.tobytes())
    view = np.frombuffer(held).reshape(n, 10)
    done = threading.Event()
    model = LogisticRegression(solver="gd", max_iter=20, tol=0.0, n_jobs=1)

    def fit():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(view, y)
        done.set()

    thread = threading.Thread(target=fit)
    thread.start()
    refusals = 0
    while not done.is_set():
        with pytest.raises(BufferError):
            held.extend(b"x")
        refusals += 1
    thread.join()
    assert refusals
    assert np.isfinite(model.coef_).all()
