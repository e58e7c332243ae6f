"""Stochastic gradient descent on Dask."""

from __future__ import annotations

import os
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.metaestimators import available_if

from fastopt import linear_model, schedules
from fastopt._validation import check_choice, fail
from fastopt.dask._base import DaskCourse, DaskModel
from fastopt.dask._cluster import Cluster, find_client
from fastopt.dask._objective import Distributed, distribute, obstacle
from fastopt.dask._parts import Data, Task, is_dask, load
from fastopt.dask._rounds import Averaging, Until, averaging, rate_of
from fastopt.linear_model._base import class_weights, generator, refuse_one_class, unchanged_on_error
from fastopt.linear_model.sgd import _SGD, bottou
from fastopt.optimizers import OPTIMIZERS, Optimizer
from fastopt.solvers.lbfgs import lbfgs
from fastopt.solvers.monitor import Result
from fastopt.solvers.newton import newton

__all__ = ["SGDClassifier", "SGDRegressor"]

Array = NDArray[Any]

#: What may follow the rounds.
FINISHERS = {"lbfgs": lbfgs, "newton": newton}


class _DaskSGD(DaskModel, _SGD):
    """What both estimators share."""

    solver: str
    n_jobs: Any
    _classifies: bool

    def _local_parameters(self) -> dict[str, Any]:
        return {name: value for name, value in super()._local_parameters().items() if name not in self._own}

    _own: tuple[str, ...] = ("solver",)

    @property
    def partial_fit(self) -> Any:
        """There is none: `to_local` makes an estimator that has it."""
        raise AttributeError(f"{type(self).__name__} on Dask has no partial_fit; its to_local() has.")

    def _fit_on(self, cluster: Cluster, X: Any, y: Any, sample_weight: Any, checkpoint: Any) -> None:
        self._check_parameters()
        check_choice("solver", self.solver, ["rounds", *FINISHERS])
        if self.early_stopping:
            fail("early_stopping", "False on Dask", True, "Watch F on all rows: tol and n_iter_no_change.")
        rng = generator(self.random_state)
        seed = int(rng.integers(2**63) if isinstance(rng, np.random.Generator) else rng.randint(2**31 - 1))
        data = load(cluster, X, y, sample_weight, classifies=self._classifies)
        tasks = self._tasks(data)
        self.n_features_in_ = data.outline.shape[1]
        self.__dict__.pop("feature_names_in_", None)
        if data.names is not None:
            self.feature_names_in_ = data.names
        if checkpoint is not None and len(tasks) > 1:
            fail("checkpoint", "None where classes are learnt one by one", checkpoint, "Leave out class_weight.")
        K = sum(task.n_outputs for task in tasks)
        fingerprint = [] if checkpoint is None else data.fingerprint()
        before = self._read_checkpoint(checkpoint, fingerprint)
        outline: Any = data.outline
        w = self._start(outline, K, None, None).astype(np.float64)
        results, at = [], 0
        for task in tasks:
            objective = distribute(data, task)
            columns = slice(at, at + task.n_outputs)
            course = DaskCourse(self, objective, checkpoint, fingerprint, before)
            try:
                results.append(self._descend_on(objective, w[:, columns], seed, course))
            finally:
                course.close()
            if len(tasks) == 1:
                course.write(results[0])
            at += task.n_outputs
        self._keep_result(beside(results), tasks[0])

    def _tasks(self, data: Data) -> list[Task]:
        """What is minimised: one F, or one for each class where they differ in their weights."""
        raise NotImplementedError

    def _task(self, data: Data, n_outputs: int, kind: str, total: float, **more: Any) -> Task:
        """F as `linear_model.sgd` has it: in scikit-learn's steps alpha weighs against the mean of ``s_i loss_i``."""
        plain = self._around()
        alpha = 0.0 if self.penalty is None else float(self.alpha)
        mean_weight = total / data.outline.shape[0] if plain is not None and plain.raw_weights else 1.0
        l1_ratio = {"l1": 1.0, "elasticnet": self.l1_ratio}.get(self.penalty or "", 0.0)
        return Task(
            self._loss(n_outputs), alpha / mean_weight, float(l1_ratio), self.fit_intercept,
            n_outputs, kind, data.classes, total, step_alpha=None if plain is None else alpha, n_jobs=self.n_jobs or 1,
            **more,
        )  # fmt: skip

    def _rounds(self, objective: Distributed, seed: int) -> tuple[Averaging, Until]:
        """The rule with its learning rate, and when rounds end."""
        rate: Any = self.learning_rate
        if isinstance(self.optimizer, Optimizer):
            rule, rate = self.optimizer, self.optimizer.learning_rate
        else:
            rule = OPTIMIZERS[self.optimizer]()
        adapts = rate == "adaptive"
        if rate == "invscaling":
            rate = schedules.InverseScaling(self.eta0, self.power_t)
        elif rate in ("constant", "adaptive", "pa1", "pa2"):
            rate = self.eta0
        elif rate == "optimal" and self.optimizer == "sgd":
            rate = bottou(self.alpha)
        halves = isinstance(rate, str)
        if halves:
            rate = rate_of(objective, rule, self.batch_size)
        steps = Averaging(
            rule.with_learning_rate(rate), self.batch_size, seed, around=self._around(), shuffle=self.shuffle
        )
        return steps, Until(self.tol, self.n_iter_no_change, adapts, halves)

    def _descend_on(self, objective: Distributed, w: Array, seed: int, course: DaskCourse) -> Result:
        if self.solver != "rounds" and (reason := obstacle(self.solver, objective)):
            fail("solver", f"one that can minimise {reason}", self.solver, "Use 'rounds' or 'lbfgs'.")
        steps, until = self._rounds(objective, seed)
        state: dict[str, Any] = {}
        if course.first is not None:
            w, state = course.first.w.astype(np.float64), course.first.state

        def keep(state: dict[str, Any]) -> None:
            course.state = state

        finishes = self.solver != "rounds"
        if course.over and not (finishes and course.first.stop_reason == "no_change"):  # type: ignore[union-attr]
            return course.joined()
        if not course.over and (course.first is None or "turn" in state) and course.done < self.max_iter:
            left = self.max_iter - course.done
            result = averaging(objective, w, steps, until, max_iter=left, reporter=course, state=state, keep=keep)
            course.end(result)
            w = result.w
            if result.stop_reason == "diverged":
                raise ValueError(
                    f"Floating-point under-/overflow occurred at epoch #{result.n_iter + 1}. Scaling input data with "
                    "StandardScaler or MinMaxScaler might help."
                )
            finishes = finishes and result.stop_reason != "interrupted"
        left = self.max_iter - course.done
        if finishes and left > 0:
            course.state = {}
            tol = 0.0 if self.tol is None else self.tol
            course.end(FINISHERS[self.solver](objective, w, tol=tol, max_iter=left, verbose=course))
        return course.joined()

    def _keep_result(self, result: Result, task: Task) -> None:
        for name, fitted in self._fitted(np.asarray(result.w)).items():
            setattr(self, name, fitted)
        self.n_iter_ = result.n_iter
        self.t_ = 1.0 + result.state.get("t", 0) + result.state.get("steps", 0)
        self.loss_ = task.loss
        self.history_ = result.history
        self.objective_, self.grad_norm_ = result.objective, result.grad_norm
        self.converged_ = bool(self.tol is not None and result.grad_norm <= self.tol)
        self.stop_reason_ = result.stop_reason
        self.optimizer_state_ = result.state
        if result.stop_reason == "interrupted":
            raise KeyboardInterrupt

    def _warn_of(self) -> None:
        if self.stop_reason_ in ("max_iter", "stalled") and self.tol is not None:
            warnings.warn(
                f"Stopped ({self.stop_reason_}) before convergence. Consider increasing max_iter to improve the fit.",
                ConvergenceWarning, stacklevel=3,
            )  # fmt: skip

    def _local_of(self, result: Result) -> Any:
        local = self.to_local()
        for name, fitted in self._fitted(result.w).items():
            setattr(local, name, fitted)
        vars(local).update(
            n_iter_=result.n_iter, history_=result.history, objective_=result.objective, grad_norm_=result.grad_norm,
            stop_reason_=result.stop_reason, converged_=result.converged, optimizer_state_=result.state, t_=1.0,
        )  # fmt: skip
        return local


def beside(results: list[Result]) -> Result:
    """The result of fits of different outputs: F is the sum, a fit that has ended counts with its last value."""
    if len(results) == 1:
        return results[0]
    longest = max(results, key=lambda result: len(result.history["epoch"]))
    n = len(longest.history["epoch"])

    def padded(name: str) -> Array:
        return np.array([np.pad(r.history[name], (0, n - len(r.history[name])), "edge") for r in results])

    history = {
        "epoch": longest.history["epoch"], "seconds": padded("seconds").sum(axis=0),
        "objective": padded("objective").sum(axis=0), "grad_norm": np.linalg.norm(padded("grad_norm"), axis=0),
        "learning_rate": padded("learning_rate").max(axis=0),
    }  # fmt: skip
    return Result(
        np.hstack([np.asarray(r.w) for r in results]), max(r.n_iter for r in results),
        sum(r.objective for r in results), float(np.linalg.norm([r.grad_norm for r in results])),
        max((r.stop_reason for r in results), key=["tol", "no_change", "max_iter", "stalled", "interrupted"].index),
        history,
    )  # fmt: skip


class SGDClassifier(_DaskSGD, linear_model.SGDClassifier):
    """`fastopt.SGDClassifier` on Dask: its parameters, F and learning rates, on data that stay on the workers.

    Rounds of an epoch by the update rule on each partition alone are merged by averages weighted by the partitions'
    weights (`fastopt.dask._rounds.averaging`); the bits do not depend on the number of workers. The learning rate's
    steps are counted on a partition. All outputs stop together, by the measured F of their sum.

    Parameters
    ----------
    loss, penalty, alpha, l1_ratio, fit_intercept, max_iter, tol, shuffle, verbose, epsilon, random_state
        As in `fastopt.SGDClassifier`.
    learning_rate, eta0, power_t, n_iter_no_change, class_weight, warm_start, average, optimizer, batch_size
        As there; "auto" is, for every rule, "gd" included, halved after 3, then 4, 5, 7, ... rounds without a new
        lowest F, from whose parameters it goes on, and which are the result.
    n_jobs : int or None, default None
        Threads of a pass over one partition. None is one.
    early_stopping, validation_fraction
        There is no early stopping on held-out rows here.
    solver : {"rounds", "lbfgs", "newton"}, default "rounds"
        What follows the rounds: nothing, or a finisher on all partitions' exact gradient, until its norm is at most
        `tol`. With L1 the finisher makes exact zeros; averages have few.

    Attributes
    ----------
    coef_, intercept_, classes_, n_iter_, t_, loss_, n_features_in_, feature_names_in_, history_, objective_,
    grad_norm_, converged_, stop_reason_, optimizer_state_
        As in `fastopt.SGDClassifier`, but F and its gradient's norm are measured after each round.

    Examples
    --------
    >>> import dask.array as da  # doctest: +SKIP
    >>> from dask.distributed import Client  # doctest: +SKIP
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.preprocessing import scale
    >>> client = Client(processes=False, dashboard_address=":0")  # doctest: +SKIP
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> X, y = da.from_array(scale(X), chunks=(200, -1)), da.from_array(y, chunks=200)  # doctest: +SKIP
    >>> SGDClassifier(random_state=0).fit(X, y).score(X, y) > 0.96  # doctest: +SKIP
    True
    >>> client.close()  # doctest: +SKIP
    """

    local = linear_model.SGDClassifier
    _classifies = True

    def __init__(
        self, loss: str = "hinge", *, penalty: Any = "l2", alpha: float = 0.0001, l1_ratio: Any = 0.15,
        fit_intercept: bool = True, max_iter: int = 1000, tol: Any = 1e-3, shuffle: bool = True, verbose: int = 0,
        epsilon: float = 0.1, n_jobs: Any = None, random_state: Any = None, learning_rate: Any = "optimal",
        eta0: float = 0.01, power_t: float = 0.5, early_stopping: bool = False, validation_fraction: float = 0.1,
        n_iter_no_change: int = 5, class_weight: Any = None, warm_start: bool = False, average: Any = False,
        optimizer: Any = "sgd", batch_size: Any = 1, solver: str = "rounds",
    ) -> None:  # fmt: skip
        super().__init__(
            loss, penalty=penalty, alpha=alpha, l1_ratio=l1_ratio, fit_intercept=fit_intercept, max_iter=max_iter,
            tol=tol, shuffle=shuffle, verbose=verbose, epsilon=epsilon, n_jobs=n_jobs, random_state=random_state,
            learning_rate=learning_rate, eta0=eta0, power_t=power_t, early_stopping=early_stopping,
            validation_fraction=validation_fraction, n_iter_no_change=n_iter_no_change, class_weight=class_weight,
            warm_start=warm_start, average=average, optimizer=optimizer, batch_size=batch_size,
        )  # fmt: skip
        self.solver = solver

    def fit(  # type: ignore[override]
        self, X: Any, y: Any, sample_weight: Any = None, *, client: Any = None,
        checkpoint: str | os.PathLike[str] | None = None,
    ) -> SGDClassifier:  # fmt: skip
        """Fits the model.

        Parameters
        ----------
        X, y, sample_weight
            As in `fastopt.dask.LogisticRegression.fit`; y may have a column of 0 and 1 for each label.
        client, checkpoint
            As there.

        Returns
        -------
        self
        """
        with unchanged_on_error(self):
            self._fit_on(Cluster(find_client(client)), X, y, sample_weight, checkpoint)
        self._warn_of()
        return self

    def _tasks(self, data: Data) -> list[Task]:
        self._multilabel = data.outputs is not None
        if self._multilabel:
            K = data.outputs or 0
            if self.loss == "multinomial":
                fail("loss", "one of single outputs for a multilabel target", self.loss)
            if self.class_weight is not None:
                fail("class_weight", "None with a multilabel target", self.class_weight)
            self.classes_ = np.arange(K)
            return [self._task(data, K, "multilabel", data.weight)]
        classes = self.classes_ = data.classes
        if len(classes) < 2:
            refuse_one_class(classes)
        factors, binary, softmax = None, len(classes) == 2, self.loss == "multinomial"
        if self.class_weight is not None:
            counts = data.rows.astype(np.float64)
            factors = class_weights(self.class_weight, classes, counts, zeros=not (binary or softmax))
        if factors is None or binary or softmax:
            total = data.weight if factors is None else float(factors @ data.weights)
            kind = "binary" if binary else "multinomial" if softmax else "ovr"
            return [self._task(data, 1 if binary else len(classes), kind, total, class_weights=factors)]
        return [
            self._task(
                data, 1, "ovr", data.weight + (factors[c] - 1) * data.weights[c], class_weights=factors, output=c
            )
            for c in range(len(classes))
        ]

    def decision_function(self, X: Any) -> Any:
        """Raw predictions Xw + b: a lazy collection if X is one."""
        return self._chunkwise("decision_function", X) if is_dask(X) else super().decision_function(X)

    def predict(self, X: Any) -> Any:
        """The class of each row: a lazy collection if X is one."""
        return self._chunkwise("predict", X) if is_dask(X) else super().predict(X)

    @available_if(linear_model.SGDClassifier._has_probabilities)
    def predict_proba(self, X: Any) -> Any:
        """Probabilities of the classes, as `fastopt.SGDClassifier` has them: a lazy collection if X is one."""
        return self._chunkwise("predict_proba", X) if is_dask(X) else super().predict_proba(X)

    @available_if(linear_model.SGDClassifier._has_probabilities)
    def predict_log_proba(self, X: Any) -> Any:
        """Their logarithms: a lazy collection if X is one."""
        return self._chunkwise("predict_log_proba", X) if is_dask(X) else super().predict_log_proba(X)


class SGDRegressor(_DaskSGD, linear_model.SGDRegressor):
    """`fastopt.SGDRegressor` on Dask: its parameters, F and learning rates, on data that stay on the workers.

    See `fastopt.dask.SGDClassifier` for how partitions are merged.

    Parameters
    ----------
    loss, penalty, alpha, l1_ratio, fit_intercept, max_iter, tol, shuffle, verbose, epsilon, random_state
        As in `fastopt.SGDRegressor`.
    learning_rate, eta0, power_t, n_iter_no_change, warm_start, average, optimizer, batch_size, quantile
        As there.
    early_stopping, validation_fraction
        There is no early stopping on held-out rows here.
    solver : {"rounds", "lbfgs", "newton"}, default "rounds"
        As in `fastopt.dask.SGDClassifier`.
    n_jobs : int or None, default None
        Threads of a pass over one partition. None is one.

    Attributes
    ----------
    coef_, intercept_, n_iter_, t_, loss_, n_features_in_, feature_names_in_, history_, objective_, grad_norm_,
    converged_, stop_reason_, optimizer_state_
        As in `fastopt.SGDRegressor`, but F and its gradient's norm are measured after each round.

    Examples
    --------
    >>> import dask.array as da  # doctest: +SKIP
    >>> from dask.distributed import Client  # doctest: +SKIP
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.preprocessing import scale
    >>> client = Client(processes=False, dashboard_address=":0")  # doctest: +SKIP
    >>> X, y = load_diabetes(return_X_y=True)
    >>> X, y = da.from_array(scale(X), chunks=(200, -1)), da.from_array(scale(y), chunks=200)  # doctest: +SKIP
    >>> SGDRegressor(solver="newton", random_state=0).fit(X, y).score(X, y) > 0.5  # doctest: +SKIP
    True
    >>> client.close()  # doctest: +SKIP
    """

    local = linear_model.SGDRegressor
    _classifies = False
    _own = ("solver", "n_jobs")

    def __init__(
        self, loss: str = "squared_error", *, penalty: Any = "l2", alpha: float = 0.0001, l1_ratio: Any = 0.15,
        fit_intercept: bool = True, max_iter: int = 1000, tol: Any = 1e-3, shuffle: bool = True, verbose: int = 0,
        epsilon: float = 0.1, random_state: Any = None, learning_rate: Any = "invscaling", eta0: float = 0.01,
        power_t: float = 0.25, early_stopping: bool = False, validation_fraction: float = 0.1,
        n_iter_no_change: int = 5, warm_start: bool = False, average: Any = False, optimizer: Any = "sgd",
        batch_size: Any = 1, quantile: float = 0.5, solver: str = "rounds", n_jobs: Any = None,
    ) -> None:  # fmt: skip
        super().__init__(
            loss, penalty=penalty, alpha=alpha, l1_ratio=l1_ratio, fit_intercept=fit_intercept, max_iter=max_iter,
            tol=tol, shuffle=shuffle, verbose=verbose, epsilon=epsilon, random_state=random_state,
            learning_rate=learning_rate, eta0=eta0, power_t=power_t, early_stopping=early_stopping,
            validation_fraction=validation_fraction, n_iter_no_change=n_iter_no_change, warm_start=warm_start,
            average=average, optimizer=optimizer, batch_size=batch_size, quantile=quantile,
        )  # fmt: skip
        self.solver, self.n_jobs = solver, n_jobs

    def fit(  # type: ignore[override]
        self, X: Any, y: Any, sample_weight: Any = None, *, client: Any = None,
        checkpoint: str | os.PathLike[str] | None = None,
    ) -> SGDRegressor:  # fmt: skip
        """Fits the model.

        Parameters
        ----------
        X, y, sample_weight
            As in `fastopt.dask.LogisticRegression.fit`; y holds numbers, in one dimension or a column for each target.
        client, checkpoint
            As there.

        Returns
        -------
        self
        """
        with unchanged_on_error(self):
            self._fit_on(Cluster(find_client(client)), X, y, sample_weight, checkpoint)
        self._warn_of()
        return self

    def _tasks(self, data: Data) -> list[Task]:
        self._flat_coef = data.outputs is None
        return [self._task(data, data.outputs or 1, "regression", data.weight)]

    def predict(self, X: Any) -> Any:
        """Predictions, shaped like y: a lazy collection if X is one."""
        return self._chunkwise("predict", X) if is_dask(X) else super().predict(X)
