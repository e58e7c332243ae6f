"""What a user's type checker sees of the public names: read by mypy in `make types`, called by nobody."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

import fastopt
from fastopt import LogisticRegression, LogisticRegressionCV, SGDClassifier, SGDRegressor, minimize, show_versions
from fastopt.losses import (
    LOSSES,
    EpsilonInsensitive,
    Gamma,
    Hinge,
    Huber,
    Logistic,
    Loss,
    ModifiedHuber,
    Multinomial,
    Perceptron,
    Poisson,
    Quantile,
    Squared,
    SquaredEpsilonInsensitive,
    SquaredHinge,
)
from fastopt.optimizers import (
    OPTIMIZERS,
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    Ftrl,
    GradientDescent,
    Lion,
    Nadam,
    Optimizer,
    RMSprop,
    ScheduleFreeAdamW,
    ScheduleFreeSGD,
    get,
)
from fastopt.penalties import L1, L2, PENALTIES, ElasticNet, Penalty
from fastopt.schedules import (
    SCHEDULES,
    Constant,
    Cosine,
    Exponential,
    InverseScaling,
    InverseTime,
    OneCycle,
    Schedule,
    StepDecay,
    learning_rates,
)


def package() -> None:
    assert_type(fastopt.__version__, str)
    show_versions()


def estimators(X: NDArray[np.float32]) -> None:
    model = LogisticRegression(
        C=1.0, tol=1e-4, fit_intercept=True, class_weight="balanced", random_state=0, solver=Adam(0.01),
        learning_rate=Cosine(0.1, decay_steps=100), batch_size="full", max_iter=10, verbose=0, warm_start=False,
    )  # fmt: skip
    assert_type(model, LogisticRegression)
    assert_type(model.fit(X, ["yes", "no", "yes", "no"], sample_weight=np.ones(4)), LogisticRegression)
    assert_type(model.predict(X), NDArray[Any])
    assert_type(model.predict_proba(X), NDArray[Any])
    assert_type(model.predict_log_proba(X), NDArray[Any])
    assert_type(model.decision_function(X), NDArray[Any])
    assert_type(model.coef_, NDArray[Any])
    assert_type(model.intercept_, NDArray[Any])
    assert_type(model.classes_, NDArray[Any])
    assert_type(model.n_iter_, NDArray[np.int32])
    assert_type(model.history_, dict[str, NDArray[Any]])
    assert_type(model.objective_, float)
    assert_type(model.grad_norm_, float)
    assert_type(model.converged_, bool)
    assert_type(model.stop_reason_, str)
    assert_type(model.solver_, str)
    assert_type(model.optimizer_state_, dict[str, Any])
    LogisticRegression(solver="sgd", learning_rate=lambda step: 0.1 / (1 + step))
    LogisticRegression("l2", 1.0)  # type: ignore[call-arg]  # keywords only, but for penalty
    LogisticRegression(max_iter="many")  # type: ignore[arg-type]


def cross_validated(X: NDArray[np.float64]) -> None:
    model = LogisticRegressionCV(
        Cs=[0.1, 1.0], l1_ratios=(0.0, 0.5), fit_intercept=True, cv=5, scoring="accuracy", solver="auto",
        learning_rate="auto", batch_size=10, tol=1e-4, max_iter=100, class_weight={0: 1.0}, n_jobs=2, verbose=0,
        refit=True, random_state=0, use_legacy_attributes=False,
    )  # fmt: skip
    assert_type(model.fit(X, [0, 1], sample_weight=None), LogisticRegressionCV)
    assert_type(model.predict(X), NDArray[Any])
    assert_type(model.score(X, [0, 1]), float)
    LogisticRegressionCV(10)  # type: ignore[call-arg]  # keywords only
    LogisticRegressionCV(refit="yes")  # type: ignore[arg-type]


def by_stochastic_steps(X: NDArray[np.float32]) -> None:
    classifier = SGDClassifier(
        "log_loss", penalty="elasticnet", alpha=1e-4, l1_ratio=0.15, fit_intercept=True, max_iter=5, tol=None,
        shuffle=True, verbose=0, epsilon=0.1, n_jobs=None, random_state=0, learning_rate="optimal", eta0=0.01,
        power_t=0.5, early_stopping=False, validation_fraction=0.1, n_iter_no_change=5, class_weight=None,
        warm_start=False, average=10, optimizer=Adam(), batch_size=32,
    )  # fmt: skip
    assert_type(classifier.fit(X, [0, 1]), SGDClassifier)
    assert_type(classifier.partial_fit(X, [0, 1], classes=[0, 1]), SGDClassifier)
    assert_type(classifier.predict(X), NDArray[Any])
    assert_type(classifier.decision_function(X), NDArray[Any])
    regressor = SGDRegressor(
        "quantile", penalty=None, alpha=1e-4, l1_ratio=0.15, fit_intercept=True, max_iter=5, tol=1e-3, shuffle=True,
        verbose=0, epsilon=0.1, random_state=0, learning_rate="invscaling", eta0=0.01, power_t=0.25,
        early_stopping=False, validation_fraction=0.1, n_iter_no_change=5, warm_start=False, average=False,
        optimizer="sgd", batch_size=1, quantile=0.9,
    )  # fmt: skip
    assert_type(regressor.fit(X, [0.5, 1.5]), SGDRegressor)
    assert_type(regressor.partial_fit(X, [0.5, 1.5]), SGDRegressor)
    assert_type(regressor.predict(X), NDArray[Any])
    SGDClassifier(loss=1)  # type: ignore[arg-type]
    SGDRegressor(class_weight=None)  # type: ignore[call-arg]


def files(model: LogisticRegression, X: NDArray[np.float64]) -> None:
    fastopt.save(model, "model.npz")
    fastopt.load(Path("model.npz"))
    fastopt.fit(model, X, [0, 1], checkpoint=Path("run.npz"), seconds=10.0, epochs=None)
    fastopt.fit(model, X, [0, 1])  # type: ignore[call-arg]  # without a checkpoint it is model.fit


def every_optimizer() -> None:
    assert_type(GradientDescent(0.1, decay=0.1, weight_decay=0.0, clipnorm=1.0, ema_momentum=0.9), GradientDescent)
    assert_type(Adagrad(0.01, initial_accumulator_value=0.1, epsilon=1e-6, clipvalue=1.0), Adagrad)
    assert_type(Adadelta(0.001, rho=0.95, epsilon=1e-7), Adadelta)
    assert_type(RMSprop(0.001, rho=0.9, momentum=0.1, epsilon=1e-8, centered=True), RMSprop)
    assert_type(Adam(0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-8, amsgrad=True), Adam)
    assert_type(AdamW(0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-8, amsgrad=False, weight_decay=0.004), AdamW)
    assert_type(Adamax(0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-7), Adamax)
    assert_type(Nadam(0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-7), Nadam)
    assert_type(Lion("auto", beta_1=0.9, beta_2=0.99), Lion)
    assert_type(Ftrl(Cosine(), learning_rate_power=-0.5, l1_regularization_strength=0.1, beta=0.0), Ftrl)
    assert_type(ScheduleFreeSGD(1.0, momentum=0.9, warmup_steps=10, r=0.0, weight_lr_power=2.0), ScheduleFreeSGD)
    assert_type(ScheduleFreeAdamW(0.0025, beta_1=0.9, beta_2=0.999, epsilon=1e-8, warmup_steps=10), ScheduleFreeAdamW)
    SGD(0.1, nesterov=0.9)  # type: ignore[arg-type]
    SGD(0.1, 0.9, True, 0.1)  # type: ignore[call-arg]  # what all rules share is keywords only


def losses() -> None:
    plain: list[Loss] = [
        Logistic(), Multinomial(), Squared(), SquaredHinge(), Hinge(), Perceptron(), ModifiedHuber(), Poisson(), Gamma()
    ]  # fmt: skip
    assert_type(plain[0].name, str)
    assert_type(plain[0].targets, str)
    assert_type(plain[0].max_curvature, float)
    assert_type(plain[0].parameter, float)
    assert_type(Huber(epsilon=1.35).epsilon, float)
    assert_type(EpsilonInsensitive(0.1).epsilon, float)
    assert_type(SquaredEpsilonInsensitive(epsilon=0.1).epsilon, float)
    assert_type(Quantile(quantile=0.9).quantile, float)
    assert_type(LOSSES["huber"], type[Loss])
    Logistic(0.1)  # type: ignore[call-arg]


def penalties(w: NDArray[np.float64]) -> None:
    penalty: Penalty = L2(alpha=1e-4)
    assert_type(penalty.value(w), float)
    assert_type(penalty.gradient(w), NDArray[np.float64])
    assert_type(L1(1e-4).subgradient(w, w), NDArray[np.float64])
    assert_type(ElasticNet(alpha=1e-4, l1_ratio=0.15).l1, float)
    assert_type(PENALTIES["l2"], type[Penalty])
    L2(l1_ratio=0.5)  # type: ignore[call-arg]


def optimizers(w: NDArray[np.float64], g: NDArray[np.float64]) -> None:
    rule = SGD(0.1, momentum=0.9, nesterov=True, decay=1e-3)
    assert_type(rule, SGD)
    assert_type(rule.momentum, float)
    assert_type(rule.nesterov, bool)
    assert_type(rule.learning_rate, float | Callable[[int], float] | str)
    assert_type(rule.slots, tuple[str, ...])
    assert_type(rule.name, str)
    state = rule.init(w)
    assert_type(state, dict[str, Any])
    rule.step(w, g, state)
    assert_type(rule.with_learning_rate(0.2), Optimizer)
    assert_type(get("adam"), Optimizer)
    assert_type(get(GradientDescent(learning_rate=InverseTime(0.1, decay=0.5))), Optimizer)
    assert_type(OPTIMIZERS["adam"](), Optimizer)
    Adam(beta_1="0.9")  # type: ignore[arg-type]
    Adam(beta1=0.9)  # type: ignore[call-arg]
    Adam().epsilon = 1e-6  # type: ignore[misc]  # frozen


def schedules() -> None:
    assert_type(Cosine(0.1, decay_steps=100, restarts=True), Cosine)
    every: list[Schedule] = [
        Constant(0.1), InverseScaling(0.1, power_t=0.5), Exponential(0.1, decay_steps=10, decay_rate=0.9),
        StepDecay(0.1, every=10, factor=0.5), OneCycle(0.1, 100, rise=0.3, start_divisor=25.0, final_divisor=1e4),
        Cosine(0.1, 100, final=0.0, warmup_steps=5, restarts=False, period_factor=2.0, top_factor=0.5),
    ]  # fmt: skip
    assert_type(learning_rates(every[0], 0, 10), NDArray[np.float64])
    assert_type(SCHEDULES["cosine"], type[Schedule])
    Cosine(restarts=0.1)  # type: ignore[arg-type]
    schedule: Schedule = InverseTime(0.1, decay=0.5)
    rate: float = schedule(10)
    assert_type(rate, float)


def functions(w: NDArray[np.float64]) -> None:
    minimize(lambda x: float(x @ x), w, lambda x: 2 * x, optimizer="momentum", tol=1e-8, max_iter=100)
    minimize(lambda x, rows: float(x @ x), w, optimizer=Adam(0.1), n_samples=10, batch_size=2, rng=0)
    minimize(lambda x: float(x @ x), w, optimiser="gd")  # type: ignore[call-arg]
