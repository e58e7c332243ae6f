"""F, its gradient and its Hessian product against the reference, finite differences and scipy."""

import dataclasses
import functools

import numpy as np
import pytest
import scipy.optimize
import scipy.special
from cases import LAYOUTS, assert_close, problem, start

from fastopt import reference
from fastopt._design import Design
from fastopt.losses import LOSSES, EpsilonInsensitive, Huber, Quantile, SquaredEpsilonInsensitive
from fastopt.objective import Objective, raw_prediction
from fastopt.penalties import PENALTIES

LOSS = pytest.mark.parametrize("loss", LOSSES)
POINTWISE = pytest.mark.parametrize("loss", [name for name in LOSSES if LOSSES[name].targets != "multiclass"])
#: Their values at margins beyond exp's range are infinite, and so are the reference's.
EXPONENTIAL = ("poisson", "gamma")
LAYOUT = pytest.mark.parametrize("layout", LAYOUTS)
ALPHA = pytest.mark.parametrize("alpha", [0.0, 0.3])


@pytest.fixture(params=[False, True], ids=["", "weighted"])
def weighted(request):
    return request.param


@pytest.fixture(params=[True, False], ids=["", "no-intercept"])
def fit_intercept(request):
    return request.param


@LOSS
@LAYOUT
@ALPHA
def test_value_and_gradient_are_the_references(loss, layout, alpha, weighted, fit_intercept, dtype):
    """To float64's precision whatever X is: all sums are double."""
    p = problem(loss, layout, dtype, weighted=weighted, fit_intercept=fit_intercept)
    F, w = p.objective(alpha), start(p.shape)
    value, gradient = F.value_and_gradient(w)
    assert type(value) is float
    assert gradient.dtype == np.float64
    assert value == pytest.approx(reference.objective(p.dense, p.y, w, alpha=alpha, **p.terms), rel=1e-13)
    assert_close(gradient, reference.gradient(p.dense, p.y, w, alpha=alpha, **p.terms), 1e-13)
    assert F.value(w) == value
    np.testing.assert_array_equal(F.gradient(w), gradient)
    np.testing.assert_array_equal(F.gradient(w.ravel()), gradient.ravel())
    single = w.astype(np.float32)  # exact: multiples of 1/64
    assert F.value(single) == value
    np.testing.assert_array_equal(F.gradient(single), gradient)


@LOSS
@LAYOUT
@ALPHA
def test_hessian_product_is_the_derivative_of_the_references_gradient(
    loss, layout, alpha, weighted, fit_intercept, dtype
):
    p = problem(loss, layout, dtype, weighted=weighted, fit_intercept=fit_intercept)
    rng, h = np.random.default_rng(3), 1e-6
    w, v = rng.standard_normal(p.shape), rng.standard_normal(p.shape)
    after, before = (reference.gradient(p.dense, p.y, w + step * v, alpha=alpha, **p.terms) for step in (h, -h))
    product = p.objective(alpha).hessian_product(w, v)
    assert product.dtype == np.float64
    assert_close(product, (after - before) / (2 * h), 1e-6)
    np.testing.assert_array_equal(p.objective(alpha).hessian_product(w.ravel(), v.ravel()), product.ravel())


@LOSS
@LAYOUT
def test_gradient_is_the_derivative_of_the_value(loss, layout, rng):
    p = problem(loss, layout)
    F, h = p.objective(0.3), 1e-6
    w, v = rng.standard_normal(p.shape), rng.standard_normal(p.shape)
    slope = (F.value(w + h * v) - F.value(w - h * v)) / (2 * h)
    assert np.vdot(F.gradient(w), v) == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize(
    ("make", "values"),
    [
        (Huber, {"epsilon": 0.1}),
        (Huber, {"epsilon": 1.35}),
        (Huber, {"epsilon": 10.0}),
        (EpsilonInsensitive, {"epsilon": 0.0}),
        (EpsilonInsensitive, {"epsilon": 0.7}),
        (SquaredEpsilonInsensitive, {"epsilon": 0.0}),
        (SquaredEpsilonInsensitive, {"epsilon": 0.7}),
        (Quantile, {"quantile": 0.1}),
        (Quantile, {"quantile": 0.9}),
    ],
    ids=repr,
)
@LAYOUT
def test_a_losss_own_parameter(make, values, layout):
    p = problem(make.name, layout)
    w = start(p.shape)
    pair = tuple(functools.partial(f, **values) for f in reference.LOSSES[make.name])
    F = Objective(Design.from_array(p.X), p.y, loss=make(**values))
    assert F.value(w) == pytest.approx(reference.objective(p.dense, p.y, w, loss=pair), rel=1e-13)
    assert_close(F.gradient(w), reference.gradient(p.dense, p.y, w, loss=pair), 1e-13)


@LOSS
@LAYOUT
@pytest.mark.parametrize("scale", [1e4, 1e8])
def test_margins(loss, layout, scale):
    """Far beyond exp's range nothing overflows, and small losses are not rounded away."""
    p = problem(loss, layout, scale=scale)
    F, w = p.objective(), start(p.shape)
    if loss in EXPONENTIAL:
        with np.errstate(over="ignore", invalid="ignore"):
            assert F.value(w) == reference.objective(p.dense, p.y, w, **p.terms) == np.inf
        return
    value, gradient = F.value_and_gradient(w)
    assert np.isfinite(value)
    assert value == pytest.approx(reference.objective(p.dense, p.y, w, **p.terms), rel=1e-12)
    assert_close(gradient, reference.gradient(p.dense, p.y, w, **p.terms), 1e-12)
    assert np.isfinite(F.hessian_product(w, w)).all()


@pytest.mark.parametrize(
    "margin", [-1e100, -1e4, -800.0, -745.0, -40.0, -1e-9, 0.0, 1e-9, 40.0, 745.0, 800.0, 1e4, 1e100]
)
def test_the_logistic_losses_at_any_margin(margin):
    """One row, whose raw prediction is `margin`; two classes of softmax are the binary loss.

    What is no normal number any more may be zero.
    """
    tiny = np.finfo(np.float64).tiny
    X, w = np.ones((1, 1)), np.array([[margin]])
    for y in (-1.0, 1.0):
        F = Objective(Design.from_array(X), np.array([y]), fit_intercept=False)
        expected = float(np.logaddexp(0.0, -y * margin))
        assert F.value(w) == pytest.approx(expected, rel=1e-15, abs=tiny)
        slope = -y * scipy.special.expit(-y * margin)
        assert F.gradient(w)[0, 0] == pytest.approx(slope, rel=1e-14, abs=tiny)
        F = Objective(
            Design.from_array(X), np.array([(y + 1) / 2]), loss="multinomial", fit_intercept=False, n_outputs=2
        )
        both = np.array([[0.0, margin]])
        assert F.value(both) == pytest.approx(expected, rel=1e-15, abs=1e-16)
        assert F.gradient(both)[0] == pytest.approx([-slope, slope], rel=1e-14, abs=1e-16)


@LOSS
@LAYOUT
def test_raw_prediction(loss, layout, fit_intercept, dtype):
    p = problem(loss, layout, dtype, fit_intercept=fit_intercept)
    w = start(p.shape)
    expected = p.dense @ w[: p.dense.shape[1]] + (w[-1] if fit_intercept else 0)
    assert_close(p.objective().raw_prediction(w), expected, 1e-14)
    assert_close(raw_prediction(Design.from_array(p.X), w.ravel(), p.n_outputs, fit_intercept), expected, 1e-14)


@LAYOUT
def test_many_pieces_are_one_pass(layout, monkeypatch):
    """Passes over X are cut into pieces; where the cuts fall changes nothing."""
    p = problem("multinomial", layout, weighted=True)
    whole, w = p.objective(0.1), start(p.shape)
    expected = *whole.value_and_gradient(w), whole.hessian_product(w, w), whole.raw_prediction(w)
    monkeypatch.setattr("fastopt._design.WORK", 10)
    cut = p.objective(0.1)
    assert len(cut.design.pieces()) > 10
    assert cut.design.pieces()[0][0] == 0
    assert cut.design.pieces()[-1][1] == len(p.y)
    for one, other in zip(
        (*cut.value_and_gradient(w), cut.hessian_product(w, w), cut.raw_prediction(w)), expected, strict=True
    ):
        assert_close(one, other, 1e-14)


def test_only_ratios_of_weights_matter(rng):
    p = problem(weighted=True)
    w = start(p.shape)
    expected = p.objective().value_and_gradient(w)
    for factor in (1e-300, 1e-3, 7.0, 1e300):
        F = dataclasses.replace(p, sample_weight=p.sample_weight * factor).objective()
        assert F.value(w) == pytest.approx(expected[0], rel=1e-13)
        assert_close(F.gradient(w), expected[1], 1e-13)
    repeated = np.repeat(np.arange(len(p.y)), p.sample_weight.astype(int))
    F = Objective(Design.from_array(p.dense[repeated]), p.y[repeated])
    assert F.value(w) == pytest.approx(expected[0], rel=1e-13)
    assert_close(F.gradient(w), expected[1], 1e-13)


def test_inputs_are_not_written():
    p = problem("multinomial", "csr32", weighted=True)
    w, v = start(p.shape), start(p.shape)
    everything = [p.X.data, p.X.indices, p.X.indptr, p.y, p.sample_weight, w, v]
    before = [a.copy() for a in everything]
    for a in everything:
        a.setflags(write=False)
    F = p.objective(0.1)
    F.value_and_gradient(w)
    F.hessian_product(w, v)
    for a, b in zip(everything, before, strict=True):
        np.testing.assert_array_equal(a, b)


# --- L1, and several outputs --------------------------------------------------------------------------------------


@POINTWISE
@LAYOUT
@pytest.mark.parametrize("l1_ratio", [0.0, 0.4, 1.0])
def test_several_outputs(loss, layout, l1_ratio, weighted, fit_intercept, dtype):
    """The reference's; and the sum of each output's own F."""
    p = problem(loss, layout, dtype, weighted=weighted, fit_intercept=fit_intercept, outputs=3)
    F, w = p.objective(0.3, l1_ratio), start(p.shape)
    w[2] = 0.0
    value, gradient = F.value_and_gradient(w)
    terms = p.terms | {"alpha": 0.3, "l1_ratio": l1_ratio}
    assert value == pytest.approx(reference.objective(p.dense, p.y, w, **terms), rel=1e-13)
    assert F.value(w) == pytest.approx(value, rel=1e-15)
    assert_close(gradient, reference.gradient(p.dense, p.y, w, **terms), 1e-13)
    v = np.random.default_rng(3).standard_normal(p.shape)
    product, total = F.hessian_product(w, v), 0.0
    for c in range(3):
        weights = p.sample_weight[:, c] if weighted else None
        alone = Objective(
            F.design, p.y[:, c], loss=loss, alpha=0.3, l1_ratio=l1_ratio, sample_weight=weights,
            fit_intercept=fit_intercept,
        )  # fmt: skip
        one, its_gradient = alone.value_and_gradient(w[:, c : c + 1])
        total += one
        assert_close(gradient[:, c : c + 1], its_gradient, 1e-13)
        assert_close(product[:, c : c + 1], alone.hessian_product(w[:, c : c + 1], v[:, c : c + 1]), 1e-13)
    assert value == pytest.approx(total, rel=1e-13)
    some = np.arange(5, 25)
    kept = None if p.sample_weight is None else p.sample_weight[some]
    expected = reference.objective(p.dense[some], p.y[some], w, **(terms | {"sample_weight": kept}))
    assert F.rows(some).value(w) == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("loss", ["log_loss", "multinomial", "huber"])
@pytest.mark.parametrize("l1_ratio", [0.0, 0.4])
@LAYOUT
def test_raw_predictions_that_are_known_are_not_computed_again(loss, l1_ratio, layout):
    p = problem(loss, layout, n=200, weighted=True)  # several blocks of rows
    F, w = p.objective(0.3, l1_ratio), start(p.shape)
    value, g = F.value_and_gradient(w)
    known_value, known_g = F.value_and_gradient_of(F.raw_prediction(w), w)
    assert known_value == pytest.approx(value, rel=1e-14)
    assert_close(known_g, g, 1e-14)
    # Those of other parameters: what is left of w is the penalty alone.
    other = -2.0 * w
    if not l1_ratio:
        _, mixed = F.value_and_gradient_of(F.raw_prediction(other), w)
        expected = F.gradient(other)
        expected[: F.n_features] += F.l2 * (w - other)[: F.n_features]
        assert_close(mixed, expected, 1e-14)
    raw = F.raw_prediction(w)
    for wrong in (raw[:-1], raw[:1, :1], raw.reshape(-1)[:0], np.hstack([raw, raw])):
        with pytest.raises(ValueError, match=r"raw must have shape \(200, "):
            F.value_and_gradient_of(wrong, w)
    fortran = np.asfortranarray(raw.astype(np.float32))  # read as the same numbers, whatever their layout and type
    expected = F.value_and_gradient_of(fortran.astype(np.float64), w)[0]
    assert F.value_and_gradient_of(fortran, w)[0] == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("loss", ["log_loss", "multinomial", "huber"])
@LAYOUT
@pytest.mark.parametrize("l1_ratio", [0.15, 1.0])
def test_gradient_with_l1_is_the_subgradient_of_least_norm(loss, layout, l1_ratio):
    """Its norm is the steepest descent's slope, by one-sided differences of F along minus the subgradient."""
    p = problem(loss, layout)
    F, w = p.objective(0.3, l1_ratio), start(p.shape)
    w[::2] = 0.0
    value, g = F.value_and_gradient(w)
    assert value == pytest.approx(
        reference.objective(p.dense, p.y, w, alpha=0.3, l1_ratio=l1_ratio, **p.terms), rel=1e-13
    )
    assert_close(g, reference.gradient(p.dense, p.y, w, alpha=0.3, l1_ratio=l1_ratio, **p.terms), 1e-13)
    smooth, smooth_g = F.smooth_value_and_gradient(w)
    assert smooth + F.l1 * np.abs(w[: F.n_features]).sum() == pytest.approx(value, rel=1e-14)
    inside = (w == 0) & (np.abs(smooth_g) <= F.l1)
    inside[F.n_features :] = False
    assert inside.any()
    assert not g[inside].any()
    h = 1e-7
    assert (F.value(w - h * g) - value) / h == pytest.approx(-np.vdot(g, g), rel=1e-5)


# --- scipy ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["CG", "BFGS", "Newton-CG", "L-BFGS-B", "TNC", "trust-ncg", "trust-krylov"])
@pytest.mark.parametrize("loss", ["log_loss", "multinomial", "squared_error"])
@pytest.mark.parametrize("layout", ["dense", "csr32"])
def test_scipy_uses_it_unchanged(method, loss, layout):
    p = problem(loss, layout)
    F = p.objective(0.1)
    second = {"hessp": F.hessian_product} if method in ("Newton-CG", "trust-ncg", "trust-krylov") else {}
    found = scipy.optimize.minimize(
        F.value_and_gradient, F.zeros().ravel(), jac=True, method=method, tol=1e-7, **second
    )
    gradient = reference.gradient(p.dense, p.y, found.x.reshape(p.shape), alpha=0.1, **p.terms)
    assert np.linalg.norm(gradient) < 1e-4
    separate = scipy.optimize.minimize(F.value, F.zeros().ravel(), jac=F.gradient, method=method, tol=1e-7, **second)
    np.testing.assert_array_equal(separate.x, found.x)


def test_least_squares_has_a_closed_form():
    p = problem("squared_error")
    F = p.objective(0.1)
    A = np.column_stack([p.dense, np.ones(len(p.y))])
    ridge = 0.1 * len(p.y) * np.diag([1.0] * p.dense.shape[1] + [0.0])
    exact = np.linalg.solve(A.T @ A + ridge, A.T @ p.y)
    assert np.linalg.norm(F.gradient(exact)) < 1e-14


# --- what is refused --------------------------------------------------------------------------------------------------

ERRORS = [
    ({"y": np.ones(39)}, "y must have one target for each of the 40 rows of X; got (39,)."),
    ({"y": np.ones((40, 1))}, "y must have one target for each of the 40 rows of X; got (40, 1)."),
    (
        {"y": np.full(40, 3.0), "loss": "multinomial", "n_outputs": 3},
        "y must hold class numbers in [0, 3); got others.",
    ),
    (
        {"y": np.full(40, -1.0), "loss": "multinomial", "n_outputs": 3},
        "y must hold class numbers in [0, 3); got others.",
    ),
    (
        {"y": np.full(40, np.nan), "loss": "multinomial", "n_outputs": 3},
        "y must hold class numbers in [0, 3); got others.",
    ),
    ({"sample_weight": np.ones(39)}, "sample_weight must have 40 elements; got shape (39,)."),
    ({"sample_weight": np.zeros(40)}, "sample_weight must be finite and >= 0, with a sum > 0; got others."),
    ({"sample_weight": -np.ones(40)}, "sample_weight must be finite and >= 0, with a sum > 0; got others."),
    ({"sample_weight": np.full(40, np.nan)}, "sample_weight must be finite and >= 0, with a sum > 0; got others."),
    ({"sample_weight": np.full(40, np.inf)}, "sample_weight must be finite and >= 0, with a sum > 0; got others."),
    ({"alpha": -0.1}, "alpha must be a finite number >= 0; got -0.1."),
    ({"l1_ratio": 1.5}, "l1_ratio must be a number in [0, 1]; got 1.5."),
    ({"l1_ratio": -0.5}, "l1_ratio must be a number in [0, 1]; got -0.5."),
    ({"n_outputs": 2}, "y must have shape (40, 2), a target for each row and output; got (40,)."),
    ({"loss": "poisson", "y": np.full(40, -2.0)}, "y must be >= 0 for the loss 'poisson'; got -2.0."),
    ({"loss": "gamma", "y": np.zeros(40)}, "y must be > 0 for the loss 'gamma'; got 0.0."),
]


@pytest.mark.parametrize(("changes", "text"), ERRORS, ids=[f"{next(iter(c))}-{i}" for i, (c, _) in enumerate(ERRORS)])
def test_errors(changes, text):
    p = problem()
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        Objective(Design.from_array(p.X), **({"y": p.y} | changes))
    assert str(caught.value) == text


@pytest.mark.parametrize("penalty", PENALTIES.values())
def test_penalties_refuse_what_would_reward_coefficients(penalty):
    for alpha in (-0.1, np.inf, np.nan):
        with pytest.raises(ValueError, match=f"alpha must be a finite number >= 0; got {alpha}"):
            penalty(alpha)
    if "l1_ratio" in vars(penalty):
        for l1_ratio in (-0.1, 1.1):
            with pytest.raises(ValueError, match=rf"l1_ratio must be a number in \[0, 1\]; got {l1_ratio}"):
                penalty(1.0, l1_ratio=l1_ratio)


@pytest.mark.parametrize("loss", ["log_los", None])
def test_an_unknown_loss(loss):
    p = problem()
    with pytest.raises((ValueError, TypeError), match="loss must be one of 'log_loss', "):
        Objective(Design.from_array(p.X), p.y, loss=loss)


@pytest.mark.parametrize("w", [np.zeros(12), np.zeros((14, 1)), np.zeros((13, 2)), np.zeros(0)])
def test_parameters_of_a_wrong_size(w):
    F = problem().objective()
    for call in (F.value, F.gradient, F.raw_prediction, lambda w: F.hessian_product(w, w)):
        with pytest.raises(ValueError, match=r"w must have shape \(13, 1\), or the same flat; got"):
            call(w)
