"""Steps in variables in which columns are alike: against NumPy, by what scales leave alone, and on unscaled data."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse
from sklearn.preprocessing import scale

from fastopt import LogisticRegression, SGDClassifier, SGDRegressor, reference
from fastopt._design import Design
from fastopt.data import Chunks
from fastopt.objective import Objective
from fastopt.optimizers import OPTIMIZERS, Adam, Ftrl, get
from fastopt.solvers import scaled as module
from fastopt.solvers.epochs import Epochs
from fastopt.solvers.newton import newton
from fastopt.solvers.scaled import Scaled, other_variables, unlike
from fastopt.solvers.stochastic import stochastic

LAYOUTS = {"dense": np.asarray, "csr": scipy.sparse.csr_array}
LAYOUT = pytest.mark.parametrize("layout", LAYOUTS)
RULES = sorted(set(OPTIMIZERS) - {"gd"})


def data(n=120, d=6, K=1, seed=0):
    """Columns of sizes 1e-3 to 1e3, one of them years."""
    rng = np.random.default_rng(seed)
    Z = rng.standard_normal((n, d))
    score = Z @ rng.standard_normal((d, K)) + rng.logistic(size=(n, K))
    Z[:, -1] = 3 * Z[:, -1] + 2000
    X = Z * np.append(np.logspace(-3, 3, d - 1), 1.0)
    return X, score.argmax(axis=1).astype(float) if K > 1 else np.where(score[:, 0] > 0, 1.0, -1.0)


def objective(X, y, layout="dense", K=1, dtype=np.float64, **options):
    loss = {"loss": "multinomial", "n_outputs": K} if K > 1 else {}
    X = LAYOUTS[layout](X).astype(dtype)
    return Objective(Design.from_array(X), y, **{"alpha": 1e-3} | loss | options)


def fit(F, rule, *, max_iter=12, batch_size=16, state=None, w=None, tol=0.0):
    optimizer = get(rule).with_learning_rate("auto")
    rng = np.random.default_rng(0)
    start = F.zeros() if w is None else w
    return stochastic(
        F, start, optimizer, batch_size=batch_size, tol=tol, max_iter=max_iter, rng=rng, state=state
    )  # fmt: skip


# --- steps ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [16, "full"])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("K", [1, 3])
@LAYOUT
@pytest.mark.parametrize("rule", RULES)
def test_steps_are_the_rules_own_in_other_variables(rule, layout, K, fit_intercept, batch_size):
    """``Optimizer.step`` in u, where (w, b + mean.w) = scale u, by NumPy's gradients of w."""
    X, y = data(K=K)
    F = objective(X, y, layout, K, fit_intercept=fit_intercept)
    variables, optimizer = Scaled(F, powers=True), get(rule).with_learning_rate(0.02)
    epochs = Epochs(F, optimizer, batch_size, variables=variables)
    b, order = epochs.batch_size, np.random.default_rng(1).permutation(len(y))
    s, mean = variables.scale, variables.mean[:, None]
    u, last = np.zeros(F.shape), np.zeros((F.n_features + 1, K))
    parts = [(slice(0, F.n_features), optimizer), (slice(F.n_features, None), replace(optimizer, weight_decay=None))]
    parts = parts[: 1 + fit_intercept]
    states = [each.init(u[part].copy()) for part, each in parts]
    for _ in range(2):
        epochs.run(order)
        for start in range(0, len(y), b):
            rows = order[start : start + b]
            w = parameters(u, s, mean, fit_intercept)
            g = reference.gradient(
                X[rows], y[rows], w, alpha=1e-3, loss="multinomial" if K > 1 else "log_loss",
                fit_intercept=fit_intercept,
            )  # fmt: skip
            if fit_intercept:
                g[:-1] -= mean * g[-1]
            for (part, each), state in zip(parts, states, strict=True):
                own = np.ascontiguousarray(u[part])
                each.step(own, np.ascontiguousarray((s * g)[part]), state)
                u[part] = own
        last = u.copy()
        for (part, each), state in zip(parts, states, strict=True):
            last[part] = each.averaged(u[part], state)
        expected = parameters(last, s, mean, fit_intercept)
        np.testing.assert_allclose(epochs.solution / s, expected / s, rtol=0, atol=1e-9 * np.abs(expected / s).max())


def parameters(u, s, mean, fit_intercept):
    w = s * u
    if fit_intercept:
        w[-1] -= (mean * w[:-1]).sum(axis=0)
    return w


@pytest.mark.parametrize("rule", ["sgd", "momentum", "adam", "ftrl", "gd"])
def test_l1_of_all_rows_is_of_w(rule):
    """Its strength is another in each of the variables."""
    X, y = data()
    F = objective(X, y, l1_ratio=0.5, alpha=0.02)
    best = newton(F, F.zeros(), tol=1e-6, max_iter=100)
    result = fit(F, rule, batch_size="full", max_iter=400)
    assert result.objective <= best.objective * (1 + 1e-3)
    assert 0 < (best.w == 0).sum() < 6
    assert (result.w == 0).sum() == (best.w == 0).sum()


@pytest.mark.parametrize("layout", ["dense", "csr"])
def test_ftrl_keeps_w_at_another_rate_where_l1_is_of_w(layout):
    """Of z, n and t alone its formula (McMahan and others, 2013, algorithm 1) gives w back, at L1 times the scale."""
    X, y = data()
    F, rule, lr = objective(X, y, layout, l1_ratio=0.5, alpha=0.02), Ftrl(learning_rate=0.1), 0.1
    epochs = Epochs(F, rule, 16, variables=Scaled(F, powers=True))
    for _ in range(3):
        epochs.run(np.arange(len(y)))
    before, scale_ = epochs.w.copy(), epochs.variables.scale
    epochs.keep_start(0.5)
    z, n = epochs.state["z"], epochs.state["n"]
    strength = F.l1 * scale_ * np.append(np.ones(6), 0)[:, None] * epochs.state["t"]
    u = -np.sign(z) * np.maximum(np.abs(z) - strength, 0) / (np.sqrt(n) / (0.5 * lr))
    there = epochs.variables.parameters(u)
    moves = np.append(before[:-1, 0] != 0, True)  # what is zero stays where |z| is no more than the strength
    assert moves.sum() > 3
    np.testing.assert_allclose((there / scale_)[moves], (before / scale_)[moves], rtol=1e-9, atol=1e-12)


# --- what scales must not change --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("layout", "K", "batch_size"), [("dense", 1, 16), ("csr", 3, 16), ("dense", 1, "full")])
@pytest.mark.parametrize("rule", OPTIMIZERS)
def test_columns_times_powers_of_two_are_the_same_fit_to_the_bit(rule, layout, K, batch_size):
    """Without a penalty, which is of w: the trials, the rates, the averages and the restarts are those of u."""
    X, y = data(K=K)
    factors = 2.0 ** np.array([20, -3, 0, 7, -30, 1])
    fits = []
    for factor in (np.ones(6), factors):
        F = objective(X * factor, y, layout, K, alpha=0.0)
        assert other_variables(F, get(rule)) is not None
        fits.append(fit(F, rule, batch_size=batch_size))
    for name in ("objective", "learning_rate"):
        np.testing.assert_array_equal(fits[0].history[name], fits[1].history[name])
    np.testing.assert_array_equal(fits[0].w[:-1], fits[1].w[:-1] * factors[:, None])
    np.testing.assert_array_equal(fits[0].w[-1], fits[1].w[-1])


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("power", [110, -90])
@pytest.mark.parametrize("rule", OPTIMIZERS)
def test_columns_at_the_limits_of_single_precision_are_no_others(rule, power):
    X, y = data()
    X = scale(X) * [1, 1, 1, 8, 8, 8] + [1, 0, 0, 0, 0, 0]
    factors = 2.0 ** np.array([power, 0, 0, 0, 0, 0])
    fits = [fit(objective(X * factor, y, dtype=np.float32, alpha=0.0), rule) for factor in (1.0, factors)]
    np.testing.assert_array_equal(fits[0].w[:-1], fits[1].w[:-1] * factors.astype(np.float32)[:, None])
    np.testing.assert_array_equal(fits[0].history["objective"], fits[1].history["objective"])


@pytest.mark.filterwarnings("error::RuntimeWarning", "ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("rule", OPTIMIZERS)
def test_a_column_whose_sum_overflows_leaves_numbers(rule):
    X, y = data()
    X = np.column_stack([X, np.linspace(0.9e308, 1.7e308, len(X))])
    for targets in (y, np.arange(len(y)) % 3):
        model = LogisticRegression(solver=rule, random_state=0, max_iter=3).fit(X, targets)
        assert np.isfinite(model.coef_).all()
        assert np.isfinite(model.intercept_).all()


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_mean_times_a_slope_may_overflow():
    X, y = data()
    X = np.column_stack([X, np.linspace(0.9e305, 1.7e305, len(X))])
    with pytest.raises(ValueError, match="overflow"):
        SGDRegressor(optimizer="gd", learning_rate="auto", max_iter=3).fit(X, 1e5 * (y + 2))


# --- unscaled data ----------------------------------------------------------------------------------------------------


def people(n=3000, seed=0):
    """As in a census: ages, weights of 1e5, education, gains that are mostly zero, hours, and ten of 0 and 1."""
    rng = np.random.default_rng(seed)
    gains = np.where(rng.random(n) < 0.08, rng.lognormal(8, 1, n), 0)
    numbers = [rng.uniform(17, 90, n), rng.lognormal(12, 0.6, n), rng.integers(1, 17, n), gains, rng.normal(40, 12, n)]
    X = np.column_stack([*numbers, *rng.integers(0, 2, (10, n))]).astype(float)
    score = scale(X) @ rng.standard_normal(15) + rng.logistic(size=n)
    return X, (score > 0).astype(int)


def ladder(n=3000, d=13, seed=0):
    """Columns of 1e-6 to 1e6."""
    rng = np.random.default_rng(seed)
    Z = rng.standard_normal((n, d))
    return Z * np.logspace(-6, 6, d), (Z @ rng.standard_normal(d) + rng.logistic(size=n) > 0).astype(int)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("l1_ratio", [0.0, 1.0])
@pytest.mark.parametrize("made", [people, ladder])
@LAYOUT
@pytest.mark.parametrize("rule", OPTIMIZERS)
def test_unscaled_columns_are_no_obstacle(rule, layout, made, l1_ratio):
    """F as by Newton's method; in w every rule's gap is 0.1 to 0.9."""
    X, y = made()
    best = LogisticRegression(solver="newton", l1_ratio=l1_ratio, tol=1e-6).fit(X, y).objective_
    X = LAYOUTS[layout](X)
    for dtype, gap in ((np.float64, 2e-3), (np.float32, 2e-3)):
        model = LogisticRegression(solver=rule, l1_ratio=l1_ratio, random_state=0).fit(X.astype(dtype), y)
        assert model.objective_ - best <= gap * best
        assert model.objective_ == pytest.approx(
            reference.objective(
                np.asarray(X.todense()) if layout == "csr" else X, np.where(y == 1, 1.0, -1.0),
                np.append(model.coef_[0], model.intercept_)[:, None].astype(float),
                alpha=1 / len(y), l1_ratio=l1_ratio,
            ), rel=1e-4,
        )  # fmt: skip


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@LAYOUT
@pytest.mark.parametrize("rule", OPTIMIZERS)
def test_times_of_a_minute_are_no_obstacle(rule, layout):
    """In seconds since 1970: of sums of squares no digit tells their variance. Some rows have none, and no weight."""
    X, n = plain(1000, 3), 1000
    rng = np.random.default_rng(1)
    y, s = (X.sum(axis=1) + rng.logistic(size=n) > 0).astype(int), 1.0 * (rng.random(n) < 0.9)
    best = LogisticRegression(solver="newton", tol=1e-8).fit(X, y, s).objective_
    X = np.where(s[:, None], X * [20, 1, 1] + [1.7e9, 0, 0], 0.0)
    model = LogisticRegression(solver=rule, random_state=0, max_iter=50).fit(LAYOUTS[layout](X), y, s)
    assert abs(model.objective_ - best) <= 2e-3 * best
    assert unlike(objective(X[:, [0]] * [1, 0], 2.0 * y - 1, layout, sample_weight=s))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_chunks_of_unscaled_columns():
    X, y = people()
    best = LogisticRegression(solver="newton", tol=1e-6).fit(X, y).objective_
    cuts = [slice(0, 1100), slice(1100, 1500), slice(1500, 3000)]
    for rule in ("sgd", "adam", "gd"):
        model = LogisticRegression(solver=rule, random_state=0, max_iter=30)
        model.fit(Chunks(lambda: ((X[cut], y[cut]) for cut in cuts)))
        assert model.objective_ - best <= 2e-3 * best


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("loss", ["log_loss", "squared_hinge", "hinge", "squared_error", "huber"])
@LAYOUT
@pytest.mark.parametrize("optimizer", ["gd", "sgd", "momentum", "adam", "ftrl", "schedule_free_adamw"])
def test_automatic_rates_of_sgds_estimators(optimizer, layout, loss, early_stopping):
    """F beside that of the same rule on scaled columns without a penalty, where both have the same minimum."""
    regression = loss in ("squared_error", "huber")
    X, y = people()
    y = scale(X) @ np.linspace(-1, 1, 15) if regression else y * 2 + (np.arange(len(y)) % 5 == 0)
    cls = SGDRegressor if regression else SGDClassifier
    options = {"loss": loss, "optimizer": optimizer, "penalty": None, "random_state": 0, "max_iter": 30, "tol": None}
    options |= {"learning_rate": "auto", "batch_size": 32, "early_stopping": early_stopping}
    if early_stopping:
        options["tol"] = 1e-3
    model = cls(**options).fit(LAYOUTS[layout](X), y)
    scaled = cls(**options).fit(scale(X), y)
    if optimizer == "gd" and loss == "hinge":  # a constant rate that is halved: slow on either
        assert model.objective_ <= 1.2 * scaled.objective_
    else:
        assert model.objective_ <= 1.05 * scaled.objective_ + 0.005


@pytest.mark.parametrize("loss", ["squared_error", "huber"])
@pytest.mark.parametrize("optimizer", ["sgd", "momentum"])
@pytest.mark.parametrize("K", [5, 50])
def test_many_targets_have_the_rates_of_one(loss, optimizer, K):
    """Each has its own curvature: F of many is no flatter than F of one."""
    X, _ = data(500)
    y = X @ (1 / X.std(axis=0))
    options = {"loss": loss, "optimizer": optimizer, "learning_rate": "auto", "max_iter": 3, "tol": None}
    for batch_size in (8, "full"):
        one, many = (SGDRegressor(**options, batch_size=batch_size, random_state=0) for _ in range(2))
        one.fit(X, y)
        many.fit(X, np.tile(y[:, None], K))
        first = [model.history_["learning_rate"][0] for model in (one, many)]
        np.testing.assert_allclose(first[1], first[0], rtol=1e-2)


@pytest.mark.parametrize("K", [5, 50])
def test_many_targets_of_unscaled_columns_get_to_the_least_squares(K):
    rng = np.random.default_rng(0)
    X, _ = data(500)
    Y = X @ (rng.standard_normal((6, K)) / X.std(axis=0)[:, None]) + 0.1 * rng.standard_normal((500, K))
    model = SGDRegressor(learning_rate="auto", batch_size="full", alpha=0, max_iter=40, tol=None).fit(X, Y)
    Z = np.column_stack([(X - X.mean(axis=0)) / X.std(axis=0), np.ones(500)])
    least = np.linalg.lstsq(Z, Y, rcond=None)[1].sum() / 1000
    assert model.objective_ < (1 + 1e-6) * least


def test_partial_fit_after_other_variables_begins_the_rules_state_anew():
    X, y = people()
    model = SGDClassifier(optimizer="adam", learning_rate="auto", batch_size=32, max_iter=3, tol=None, random_state=0)
    model.fit(X, y)
    assert model.optimizer_state_["variables"]
    value = model.objective_
    model.partial_fit(X, y)
    assert "variables" not in model.optimizer_state_
    assert model.optimizer_state_["t"] == -(-len(y) // 32)
    assert np.isfinite(model.coef_).all()
    assert value < np.log(2)


# --- when -------------------------------------------------------------------------------------------------------------


def plain(n=500, d=8, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d))


def with_column(X, column):
    X = X.copy()
    X[:, 0] = column
    return X


@LAYOUT
@pytest.mark.parametrize(
    ("X", "expected"),
    [
        (plain(), False),
        (1e6 * plain(), False),
        (plain() * np.linspace(1, 1.8, 8), False),
        (plain() * np.linspace(1, 3, 8), True),
        (plain() + 1, False),
        (plain() + 3, True),
        (with_column(plain(), 1.0), False),
        (with_column(plain(), 0.0), False),
        (plain(2000) * (np.arange(8) != 5), False),
    ],
    ids=["alike", "large", "nearly", "sizes", "near", "far", "constant", "empty", "empty too"],
)
def test_columns_of_full_rows_are_unlike(X, expected, layout):
    y = np.where(np.arange(len(X)) % 2, 1.0, -1.0)
    assert unlike(objective(X, y, layout)) == expected


def test_means_count_where_there_is_an_intercept():
    y = np.where(np.arange(500) % 2, 1.0, -1.0)
    assert unlike(objective(plain() + 3, y))
    assert not unlike(objective(plain() + 3, y, fit_intercept=False))


def classes(n, sizes, seed=0):
    """One-hot, the first of each group by far the most frequent."""
    rng = np.random.default_rng(seed)
    groups = [np.minimum(rng.geometric(0.6, n) - 1, size - 1) for size in sizes]
    return np.column_stack([np.eye(size)[g] for size, g in zip(sizes, groups, strict=True)])


@pytest.mark.parametrize(
    ("beside", "expected"), [(0, False), (1e-3, True), (1e3, True), (10, False), ("year", True), ("often", False)]
)
def test_columns_of_few_entries_are_unlike_by_the_size_of_these(beside, expected):
    """Rare classes are no reason, nor is one that nearly every row has."""
    X, n = classes(3000, (20, 30, 9)), 3000
    rng = np.random.default_rng(1)
    column = {"year": 2000 + 5 * rng.standard_normal(n), "often": 1.0 * (rng.random(n) < 0.999)}.get(beside)
    column = beside * rng.standard_normal(n) if column is None else column
    factor = 1 / 100 if beside == "year" else 1.0
    X, y = np.column_stack([X, factor * column]), np.where(np.arange(n) % 2, 1.0, -1.0)
    for layout in LAYOUTS.values():
        assert unlike(Objective(Design.from_array(layout(X)), y, alpha=1 / n)) == expected


def test_many_columns_of_few_entries_stay_where_they_can_wait():
    X = scipy.sparse.random_array((2000, 50_000), density=1e-4, format="csr", rng=np.random.default_rng(0))
    X.data *= np.where(X.indices < 25_000, 1e-4, 1e4)
    assert not unlike(Objective(Design.from_array(X), np.where(np.arange(2000) % 2, 1.0, -1.0), alpha=1e-3))


def test_what_is_of_w_stays_in_w(monkeypatch):
    X, y = data()
    F = objective(X, y)
    for optimizer in (Adam(clipnorm=1.0), Adam(clipvalue=1.0), Ftrl(l1_regularization_strength=0.1)):
        assert other_variables(F, optimizer) is None
    for optimizer in (Adam(), Ftrl(), Adam(weight_decay=0.01), Adam(ema_momentum=0.9)):
        assert other_variables(F, optimizer) is not None
    monkeypatch.setattr(module, "unlike", lambda F: pytest.fail("a rate that was given is one for steps in w"))
    LogisticRegression(solver="adam", learning_rate=0.01, tol=1e9).fit(X, y)


# --- going on ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [16, "full"])
@LAYOUT
@pytest.mark.parametrize("rule", ["sgd", "adam", "ftrl", "schedule_free_adamw", "gd"])
def test_twice_k_epochs_are_2k(rule, layout, batch_size):
    X, y = data()
    F = objective(X, y, layout)
    once = fit(F, rule, max_iter=14, batch_size=batch_size)
    half = fit(F, rule, max_iter=7, batch_size=batch_size)
    twice = fit(F, rule, max_iter=7, batch_size=batch_size, w=half.w, state=half.state)
    np.testing.assert_array_equal(twice.w, once.w)


def test_a_state_of_other_variables_is_no_state():
    X, y = data()
    first = fit(objective(X, y), "adam")
    G = objective(X * 10.0 ** np.arange(6), y)
    w = first.w / np.append(10.0 ** np.arange(6), 1)[:, None]
    np.testing.assert_array_equal(fit(G, "adam", w=w, state=first.state).w, fit(G, "adam", w=w).w)
    alike = objective(scale(X), y)
    second = fit(alike, "adam")
    F = objective(X, y)
    after = fit(F, "adam", w=second.w, state=second.state)
    np.testing.assert_array_equal(after.w, fit(F, "adam", w=second.w).w)


def test_the_moving_average_is_of_w():
    X, y = data()
    F = objective(X, y)
    optimizer = Adam(learning_rate=0.05, ema_momentum=0.5)
    epochs = Epochs(F, optimizer, 40, variables=Scaled(F, powers=True))
    bare = Epochs(F, Adam(learning_rate=0.05), 40, variables=Scaled(F, powers=True))
    mean, order = None, np.arange(120)
    for start in range(0, 120, 40):
        epochs.run(order[start : start + 40])
        bare.run(order[start : start + 40])
        mean = bare.w.copy() if mean is None else 0.5 * mean + 0.5 * bare.w
    np.testing.assert_allclose(epochs.solution, mean, rtol=1e-12)


def test_newton_finds_the_same_minimum():
    """Of all rows at a time, to the end."""
    X, y = data()
    F = objective(X, y)
    result = fit(F, "gd", batch_size="full", max_iter=500, tol=1e-7)
    assert result.stop_reason == "tol"
    assert result.objective == pytest.approx(newton(F, F.zeros(), tol=1e-7, max_iter=100).objective, rel=1e-10)
