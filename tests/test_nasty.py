"""Data that make solvers fail: fits converge or say truthfully that they did not, and are never worse than w = 0."""

import warnings
from dataclasses import dataclass

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning

from fastopt import LogisticRegression, reference
from fastopt.optimizers import OPTIMIZERS


@dataclass(frozen=True)
class Nasty:
    """What is wrong with a data set; its repr is what hypothesis prints."""

    n: int
    d: int
    n_classes: int
    dtype: str
    sparse: bool
    scales: float  # columns are scaled by 10^-scales .. 10^scales
    offsets: float  # standard deviations from zero of the columns' means
    rank: int  # of the columns before noise; 0: independent
    separable: bool
    repeats: bool  # a column twice, and one constant
    weights: str
    log_C: int
    fit_intercept: bool
    seed: int

    def data(self):
        """X, y and sample_weight."""
        rng = np.random.default_rng(self.seed)
        X = rng.standard_normal((self.n, self.d))
        if self.rank:
            X = rng.standard_normal((self.n, self.rank)) @ rng.standard_normal((self.rank, self.d)) + 1e-3 * X
        margins = X @ rng.standard_normal((self.d, self.n_classes))
        y = margins.argmax(axis=1) if self.separable else rng.integers(0, self.n_classes, self.n)
        y[: self.n_classes] = np.arange(self.n_classes)
        X += self.offsets * rng.standard_normal(self.d)
        if self.repeats:
            X[:, -1], X[:, self.d // 2] = X[:, 0], 1.0
        X *= 10.0 ** rng.uniform(-self.scales, self.scales, self.d)
        if self.sparse:
            X *= rng.random(X.shape) < 0.3
        s = None
        if self.weights != "none":
            s = rng.exponential(size=self.n) if self.weights == "any" else rng.integers(0, 2, self.n).astype(float)
            s[: self.n_classes] = 1.0
        X = X.astype(self.dtype)
        return scipy.sparse.csr_array(X) if self.sparse else X, y, s


NASTY = st.builds(
    Nasty,
    n=st.integers(3, 80), d=st.integers(1, 40), n_classes=st.sampled_from([2, 2, 3]),
    dtype=st.sampled_from(["float32", "float64"]), sparse=st.booleans(), scales=st.sampled_from([0.0, 2.0, 6.0]),
    offsets=st.sampled_from([0.0, 1.0, 100.0]), rank=st.integers(0, 2), separable=st.booleans(), repeats=st.booleans(),
    weights=st.sampled_from(["none", "any", "zeros"]), log_C=st.integers(-3, 6), fit_intercept=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)  # fmt: skip


def check(case, **options):
    """Fits; what it says of itself is compared with the reference."""
    X, y, s = case.data()
    model = LogisticRegression(C=10.0**case.log_C, fit_intercept=case.fit_intercept, random_state=0, **options)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(X, y, sample_weight=s)
    assert all(issubclass(w.category, ConvergenceWarning) for w in caught), [str(w.message) for w in caught]
    dense = (X.toarray() if case.sparse else X).astype(float)
    binary = len(model.classes_) == 2
    targets = np.where(y == 1, 1.0, -1.0) if binary else y
    total = float(len(y) if s is None else s.sum())
    terms = {
        "loss": "log_loss" if binary else "multinomial", "alpha": 1 / (model.C * total), "sample_weight": s,
    }  # fmt: skip
    w = np.vstack([model.coef_.T, model.intercept_]).astype(float)
    assert np.isfinite(w).all()
    start = np.log(len(model.classes_))
    assert reference.objective(dense, targets, w, **terms) <= start * (1 + 1e-12)
    gradient = reference.gradient(dense, targets, w, **terms)
    norm = np.linalg.norm(gradient if case.fit_intercept else gradient[:-1])
    # What float64 sums in another order may differ by: those over rows, and those inside a row that slopes depend on.
    margins = np.abs(dense) @ np.abs(w[:-1]) + np.abs(w[-1])
    rounding = (1e-13 + 1e-15 * margins.max()) * np.linalg.norm(np.abs(dense).max(axis=0, initial=1.0))
    assert model.converged_ == (len(caught) == 0)
    if model.converged_:
        assert norm <= model.tol + rounding
    else:
        assert norm >= model.tol - rounding
        assert f"|gradient| {model.grad_norm_:.3g} > tol" in str(caught[0].message)
    assert model.grad_norm_ == pytest.approx(norm, rel=1e-6, abs=rounding)
    return model


@settings(max_examples=200)
@given(NASTY)
def test_auto(case):
    check(case)


def test_auto_converges_nearly_always():
    """A warning that tells the truth is allowed; it must not be the rule."""
    rng, failures = np.random.default_rng(0), []
    for seed in range(60):
        pick = lambda *values: values[rng.integers(len(values))]  # noqa: E731
        case = Nasty(
            n=int(rng.integers(3, 80)), d=int(rng.integers(1, 40)), n_classes=pick(2, 3),
            dtype=pick("float32", "float64"), sparse=pick(False, True), scales=pick(0.0, 2.0, 6.0),
            offsets=pick(0.0, 1.0, 100.0), rank=pick(0, 1, 2),
            separable=pick(False, True), repeats=pick(False, True), weights=pick("none", "any", "zeros"),
            log_C=pick(-3, 0, 3, 6), fit_intercept=pick(False, True), seed=seed,
        )  # fmt: skip
        if not check(case).converged_:
            failures.append(case)
    assert len(failures) <= 1, failures


@settings(max_examples=25)
@given(NASTY, st.sampled_from(["lbfgs", "newton", "newton-cg", *OPTIMIZERS]))
def test_every_solver_tells_the_truth(case, solver):
    check(case, solver=solver, max_iter=10)


def adult_like(n=4000):
    """Numbers as they come (ages, weights of 1e5, gains of 0 to 1e5) beside one-hot columns, and noisy labels."""
    rng = np.random.default_rng(0)
    age, weight = rng.integers(17, 90, n), rng.lognormal(12, 0.5, n)
    gain, hours = np.where(rng.random(n) < 0.08, rng.lognormal(8.5, 1, n), 0.0), rng.normal(40, 12, n).clip(1, 99)
    groups = [rng.integers(0, k, n) for k in (8, 16, 7, 14, 6, 5, 2, 40)]
    onehot = np.hstack([np.eye(g.max() + 1)[g] for g in groups])
    numeric = np.column_stack([age, weight, gain, hours])
    effects = 0.9 * (age - 40) / 14 + 0.5 * (hours - 40) / 12 + 2.5 * np.log1p(gain) / 9
    margins = effects + onehot @ rng.normal(0, 1.2, onehot.shape[1])
    margins = 2.2 * (margins - np.quantile(margins, 0.76))
    return np.hstack([numeric, onehot]), (rng.random(n) < 1 / (1 + np.exp(-margins))).astype(int)


@pytest.mark.parametrize("layout", [np.asarray, scipy.sparse.csr_array], ids=["dense", "csr"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_unscaled_numbers_beside_one_hot_columns(layout, dtype):
    """Where a solver that minds the columns' scales gives the most frequent class: right by default."""
    from sklearn.linear_model import LogisticRegression as Peer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    X, y = adult_like()
    best = make_pipeline(StandardScaler(), Peer(solver="newton-cholesky", C=1e3)).fit(X, y).score(X, y)
    assert best > np.mean(y == 0) + 0.05
    model = LogisticRegression().fit(layout(X.astype(dtype)), y)
    assert model.converged_
    assert model.score(layout(X.astype(dtype)), y) >= best - 0.005
