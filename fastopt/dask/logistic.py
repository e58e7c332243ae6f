"""Logistic regression on Dask."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from fastopt import linear_model
from fastopt._validation import fail
from fastopt.dask._base import DaskCourse, DaskModel
from fastopt.dask._cluster import Cluster, find_client
from fastopt.dask._objective import Distributed, distribute, obstacle
from fastopt.dask._parts import Data, Task, is_dask, load
from fastopt.dask._rounds import Averaging, Until, averaging, cocoa, rate_of
from fastopt.dask._start import minima_of_partitions
from fastopt.linear_model._base import class_weights, generator, refuse_one_class, unchanged_on_error
from fastopt.linear_model.logistic import SCIKIT_LEARNS, _old_ways, _strength
from fastopt.losses import Logistic, Multinomial
from fastopt.optimizers import Optimizer
from fastopt.solvers.lbfgs import lbfgs
from fastopt.solvers.monitor import Result
from fastopt.solvers.newton import newton

__all__ = ["LogisticRegression"]

Array = NDArray[Any]

#: Solvers that need all rows on one machine.
ALONE = ("newton-cg", "saga")
#: Parameters up to which "auto" takes Newton's method: a Hessian is then what a worker sends in no time (2 MB).
FEW = 500


class LogisticRegression(DaskModel, linear_model.LogisticRegression):
    """Logistic regression, binary or softmax, on partitions that stay on Dask's workers.

    Minimises `fastopt.LogisticRegression`'s F, over all partitions: ``F(w, b) = sum_i s_i loss(y_i, x_i.w + b) /
    sum_i s_i + alpha ((1 - l1_ratio)/2 ||w||_2^2 + l1_ratio ||w||_1)`` with ``alpha = 1 / (C sum_i s_i)``. Its
    parameters are that class's, and so are its fitted attributes; "converged" is the norm of F's gradient, measured
    over all partitions, as there. What crosses the network in a round is a few vectors of the size of the
    coefficients for each partition ("newton": a Hessian). For the same partitions the coefficients have the same bits
    whatever the number of workers, and whether or not some of them died.

    Parameters
    ----------
    penalty, C, l1_ratio, dual, tol, fit_intercept, intercept_scaling, class_weight
        As in `fastopt.LogisticRegression`.
    random_state, learning_rate, verbose
        As there.
    n_jobs : int or None, default None
        Threads of a pass over one partition. None is one: a worker's threads take a partition each.
    solver : str or Optimizer, default "auto"
        "lbfgs": L-BFGS, the gradient summed over the partitions. "newton": Newton's method by Cholesky factors,
        Hessians summed over the partitions, for few columns. "sdca": rounds of dual coordinate descent on each
        partition, merged by CoCoA+ (`fastopt.dask._rounds.cocoa`), then "lbfgs" if they become slow. An update rule's
        name or an instance such as ``Adam(learning_rate=0.01)``: rounds of an epoch on each partition, merged by
        averages weighted by the partitions' weights (`fastopt.dask._rounds.averaging`), then "lbfgs". "auto": "newton"
        up to 500 parameters; "sdca" for two classes, L2 and rows with ``||x||^2 C`` up to some units; else "lbfgs".
        scikit-learn's "liblinear" and "newton-cholesky" run what they run there; "newton-cg", "saga" and "sag" need all
        rows on one machine.
    batch_size : int, "full" or "auto", default "auto"
        Rows per step, on a partition.
    max_iter : int >= 1, default 100
        Rounds and iterations together.
    warm_start : bool, default False
        Start from the last fit's coefficients, if the classes and the columns are the same.

    Attributes
    ----------
    classes_, coef_, intercept_, n_iter_, n_features_in_, feature_names_in_, history_, objective_, grad_norm_
        As in `fastopt.LogisticRegression`; `coef_` is float32 if all partitions are.
    converged_, stop_reason_, solver_
        As there.
    optimizer_state_ : dict
        Empty, or the merged state of the update rule.

    Raises
    ------
    ValueError, TypeError
        From `fit`, before anything is changed: one line that names the parameter or the partition.

    Warns
    -----
    ConvergenceWarning
        If `fit` ends above `tol`; the text says which parameter to change.

    Examples
    --------
    >>> import dask.array as da  # doctest: +SKIP
    >>> from dask.distributed import Client  # doctest: +SKIP
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.preprocessing import scale
    >>> client = Client(processes=False, dashboard_address=":0")  # doctest: +SKIP
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> X, y = da.from_array(scale(X), chunks=(200, -1)), da.from_array(y, chunks=200)  # doctest: +SKIP
    >>> model = LogisticRegression().fit(X, y)  # doctest: +SKIP
    >>> model.converged_, round(model.score(X, y), 3)  # doctest: +SKIP
    (True, 0.988)
    >>> client.close()  # doctest: +SKIP
    """

    local = linear_model.LogisticRegression

    def fit(  # type: ignore[override]
        self, X: Any, y: Any, sample_weight: Any = None, *, client: Any = None,
        checkpoint: str | os.PathLike[str] | None = None,
    ) -> LogisticRegression:  # fmt: skip
        """Fits the model.

        Parameters
        ----------
        X : dask array, dask dataframe, or list of delayed chunks or futures, (n_samples, n_features)
            Chunks of rows: arrays, CSR matrices or frames, float32 or float64, which are used as they are. Keep them in
            the workers' memory with ``X = X.persist()`` where they are used for more than this fit.
        y : the same, (n_samples,)
            Class labels of any kind, in chunks of the same rows.
        sample_weight : the same, (n_samples,), or None
            Weights >= 0.
        client : dask.distributed.Client or None, default None
            None: the current one.
        checkpoint : str, path-like or None, default None
            A file that is kept up to date on this machine, at up to 5 % of the fit's time: the model so far, which
            `fastopt.load` reads. If it is there already, the fit goes on from it: with the same bits in rounds of an
            update rule, from the coefficients otherwise.

        Returns
        -------
        self
        """
        with unchanged_on_error(self):
            self._fit_on(Cluster(find_client(client)), X, y, sample_weight, checkpoint)
        for text, category in _old_ways(self.penalty, self.l1_ratio, self.C):
            warnings.warn(text, category, stacklevel=2)
        if not self.converged_:
            warnings.warn(self._advice(), ConvergenceWarning, stacklevel=2)
        return self

    def _fit_on(self, cluster: Cluster, X: Any, y: Any, sample_weight: Any, checkpoint: Any) -> None:
        optimizer = self._check_parameters()
        if optimizer is None and SCIKIT_LEARNS.get(self.solver, (self.solver,))[0] in ALONE:
            fail("solver", "one that works on partitions", self.solver, "Use 'auto' or 'sdca'.")
        rng = generator(self.random_state)
        seed = int(rng.integers(2**63) if isinstance(rng, np.random.Generator) else rng.randint(2**31 - 1))
        data = load(cluster, X, y, sample_weight, classifies=True)
        if data.outputs is not None:
            raise ValueError(f"y must have one dimension; got 2, with {data.outputs} columns.")
        objective, classes = self._distribute(data), data.classes
        self.n_features_in_ = objective.n_features
        self.__dict__.pop("feature_names_in_", None)
        if data.names is not None:
            self.feature_names_in_ = data.names
        plan = self._plan(objective, optimizer, data.outline.shape[0])
        fingerprint = [] if checkpoint is None else data.fingerprint()
        before = self._read_checkpoint(checkpoint, fingerprint)
        w = self._start(objective, classes)[0].astype(np.float64)
        self.classes_ = classes
        course = DaskCourse(self, objective, checkpoint, fingerprint, before)
        state: dict[str, Any] = {}
        if course.first is not None:
            w, state = course.first.w.astype(np.float64), course.first.state
        self.solver_ = "+".join(plan)
        try:
            for i, name in enumerate(plan):
                if course.over or course.done >= self.max_iter:
                    break
                if i < state.get("stage", 0):
                    continue
                rounds = {k: v for k, v in state.items() if k != "stage"} if i == state.get("stage") else {}
                course.state = {"stage": i}
                result = self._run(name, objective, w, optimizer, seed, course, rounds)
                result.state = dict(result.state) | {"stage": i}
                course.end(result)
                w = np.asarray(result.w, dtype=np.float64)
                if result.stop_reason in ("tol", "interrupted"):
                    self.solver_ = "+".join(plan[: i + 1])
                    break
        finally:
            course.close()
        found = course.joined()
        course.write(found)
        found.state.pop("stage", None)
        self._keep(found)

    def _distribute(self, data: Data) -> Distributed:
        classes = data.classes
        if len(classes) < 2:
            refuse_one_class(classes)
        factors, total = None, data.weight
        if self.class_weight is not None:
            factors = class_weights(self.class_weight, classes, data.weights)
            total = float(factors @ data.weights)
        C, l1_ratio = _strength(self.penalty, self.C, self.l1_ratio)
        binary = len(classes) == 2
        task = Task(
            Logistic() if binary else Multinomial(), 1 / (C * total), l1_ratio, self.fit_intercept,
            1 if binary else len(classes), "binary" if binary else "multinomial", classes, total, factors,
            n_jobs=self.n_jobs or 1,
        )  # fmt: skip
        return distribute(data, task)

    def _plan(self, objective: Distributed, optimizer: Optimizer | None, n: int) -> list[str]:
        """The solvers to run one after the other, until the gradient's norm is at most tol."""
        if optimizer is not None:
            return [type(optimizer).__name__.lower() if not isinstance(self.solver, str) else self.solver, "lbfgs"]
        solver = self._finisher(objective)
        if solver == "auto":
            if not obstacle("newton", objective) and objective.size <= FEW:
                return ["newton", "lbfgs"]
            if not obstacle("sdca", objective) and objective.mean_square <= 2 * n * objective.l2:
                return ["sdca", "lbfgs"]
            return ["lbfgs"]
        return ["sdca", "lbfgs"] if solver == "sdca" else [solver]

    def _obstacle(self, name: str, objective: Any) -> str:
        return "F in partitions" if name in ALONE else obstacle(name, objective)

    def _run(
        self, name: str, objective: Distributed, w: Array, optimizer: Optimizer | None, seed: int, course: DaskCourse,
        state: dict[str, Any],
    ) -> Result:  # fmt: skip
        """A stage of the plan, from w."""
        left: dict[str, Any] = {"max_iter": self.max_iter - course.done}
        stage = course.state["stage"]
        finishers: dict[str, Callable[..., Result]] = {"lbfgs": lbfgs, "newton": newton}
        if optimizer is None or stage:
            if name == "sdca":
                return cocoa(objective, w, tol=self.tol, seed=seed, reporter=course, **left)
            if name == "newton":
                left["begin"] = minima_of_partitions
            return finishers[name](objective, w, tol=self.tol, verbose=course, **left)

        def keep(state: dict[str, Any]) -> None:
            course.state = state | {"stage": stage}

        batch_size = self._batch_size(objective)
        if optimizer.learning_rate == "auto":
            optimizer = optimizer.with_learning_rate(rate_of(objective, optimizer, batch_size))
        steps = Averaging(optimizer, batch_size, seed)
        result = averaging(objective, w, steps, Until(self.tol), reporter=course, state=state, keep=keep, **left)
        if objective.n_outputs > 1 and self.fit_intercept:  # softmax is blind to equal changes of all intercepts
            result.w[-1] -= result.w[-1].mean()
        return result

    def _local_of(self, result: Result) -> Any:
        local = self.to_local()
        for name in ("coef_", "intercept_"):
            vars(local).pop(name, None)
        with contextlib.suppress(KeyboardInterrupt):
            linear_model.LogisticRegression._keep(local, result)
        return local

    # ---------------------------------------------------------------------------------------------------- prediction

    def decision_function(self, X: Any) -> Any:
        """Raw predictions Xw + b as `fastopt.LogisticRegression` makes them: a lazy collection if X is one."""
        return self._chunkwise("decision_function", X) if is_dask(X) else super().decision_function(X)

    def predict(self, X: Any) -> Any:
        """The most probable class of each row: a lazy collection if X is one."""
        return self._chunkwise("predict", X) if is_dask(X) else super().predict(X)

    def predict_proba(self, X: Any) -> Any:
        """Probabilities of the classes, (n_samples, n_classes): a lazy collection if X is one."""
        return self._chunkwise("predict_proba", X) if is_dask(X) else super().predict_proba(X)

    def predict_log_proba(self, X: Any) -> Any:
        """Their logarithms: a lazy collection if X is one."""
        return self._chunkwise("predict_log_proba", X) if is_dask(X) else super().predict_log_proba(X)
