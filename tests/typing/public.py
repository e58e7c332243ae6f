"""What a user's type checker sees of the public names: read by mypy in `make types`, called by nobody."""

from collections.abc import Callable
from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

import fastopt
from fastopt import LogisticRegression, minimize, show_versions
from fastopt.optimizers import OPTIMIZERS, SGD, Adam, GradientDescent, Optimizer, get
from fastopt.schedules import Cosine, InverseTime, Schedule


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
    LogisticRegression(1.0)  # type: ignore[call-arg]  # keywords only
    LogisticRegression(max_iter="many")  # type: ignore[arg-type]


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
    schedule: Schedule = InverseTime(0.1, decay=0.5)
    rate: float = schedule(10)
    assert_type(rate, float)


def functions(w: NDArray[np.float64]) -> None:
    minimize(lambda x: float(x @ x), w, lambda x: 2 * x, optimizer="momentum", tol=1e-8, max_iter=100)
    minimize(lambda x, rows: float(x @ x), w, optimizer=Adam(0.1), n_samples=10, batch_size=2, rng=0)
    minimize(lambda x: float(x @ x), w, optimiser="gd")  # type: ignore[call-arg]
