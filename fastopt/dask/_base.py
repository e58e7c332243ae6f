"""What the Dask estimators share: a fit's course with its checkpoints, and predictions chunk by chunk."""

from __future__ import annotations

import copy
import math
import os
import time
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import is_classifier

from fastopt import model_file
from fastopt.dask._cluster import Cluster, find_client, needs
from fastopt.dask._objective import Distributed
from fastopt.dask._parts import columns_of, is_dask
from fastopt.linear_model._base import LinearModel
from fastopt.solvers.monitor import Reporter, Result, Row, after, history_of

__all__ = ["DaskCourse", "DaskModel"]

Array = NDArray[Any]

#: Share of a fit's time that its checkpoints may take.
SPENT = 0.05


class DaskCourse(Reporter):
    """Tells of each epoch, and keeps the checkpoint up to date.

    Parameters
    ----------
    model : DaskModel
    objective : Distributed
    path : str, path-like or None
    fingerprint : list
    before : estimator or None
        What the checkpoint held at the start.
    """

    def __init__(
        self, model: DaskModel, objective: Distributed, path: Any, fingerprint: list[Any], before: Any = None
    ) -> None:
        super().__init__(int(model.verbose), total=model.max_iter)
        self.model, self.objective, self.path, self.fingerprint = model, objective, path, fingerprint
        self.first = resumed(before, model)
        #: The results of the stages that have ended.
        self.ended: list[Result] = [] if self.first is None else [self.first]
        self.rows: list[Row] = []
        self.state: dict[str, Any] = {}
        self._start, self._due = time.perf_counter(), 0.0

    @property
    def over(self) -> bool:
        """Whether nothing is left to do: it was at the checkpoint's end already."""
        return self.first is not None and self.first.stop_reason in ("tol", "no_change")

    @property
    def done(self) -> int:
        """Epochs and iterations of the stages that have ended."""
        return sum(result.n_iter for result in self.ended)

    def epoch(self, epoch: int, text: str, w: NDArray[Any] | None = None) -> None:
        """After an epoch of the stage that runs."""
        last = self.objective.last
        if last is not None:
            self.rows.append((epoch, time.perf_counter() - self._start, last[1], last[2], math.nan))
        super().epoch(self.done + epoch, text, w)
        if self.path is not None and w is not None and epoch and time.perf_counter() >= self._due:
            begun = time.perf_counter()
            self.write(self.joined(self._so_far(w, epoch)))
            now = time.perf_counter()
            self._due = now + (now - begun) / SPENT

    def _so_far(self, w: Array, epoch: int) -> Result:
        _, _, value, norm, _ = self.rows[-1]
        history = history_of(self.rows)
        return Result(w.reshape(self.objective.shape), epoch, value, norm, "max_iter", history, self.state)

    def end(self, result: Result) -> None:
        """A stage has ended."""
        self.ended.append(result)
        self.rows, self._start = [], time.perf_counter()

    def joined(self, last: Result | None = None) -> Result:
        """The result of all stages so far."""
        results = [*self.ended, *([last] if last is not None else [])]
        found = results[0]
        for result in results[1:]:
            found = after(found, result)
        return found

    def write(self, result: Result) -> None:
        """Replaces the checkpoint by the model of one machine that these parameters make."""
        if self.path is None:
            return
        local = self.model._local_of(result)
        model_file._write(local, self.path, {"data": "dask", "dask": self.fingerprint})


def resumed(before: Any, model: Any) -> Result | None:
    """The result that a checkpoint tells of; None without one."""
    if before is None:
        return None
    coef = np.atleast_2d(before.coef_)
    w = np.vstack([coef.T, before.intercept_[None]])[: coef.shape[1] + model.fit_intercept]
    reason = before.stop_reason_
    if reason == "tol" and not before.grad_norm_ <= model.tol:  # it was another tol
        reason = "max_iter"
    n_iter = int(np.max(before.n_iter_))
    epochs = before.history_["epoch"]
    rows = len(epochs) - int(len(epochs) > 0 and epochs[-1] < n_iter)  # that of the best parameters is not the whole's
    return Result(
        w, n_iter, before.objective_, before.grad_norm_, reason, {k: v[:rows] for k, v in before.history_.items()},
        dict(before.optimizer_state_),
    )  # fmt: skip


class DaskModel(LinearModel):
    """Base of the Dask estimators."""

    #: The class of one machine with the same parameters.
    local: ClassVar[Callable[..., Any]]
    verbose: int
    max_iter: int

    def _local_parameters(self) -> dict[str, Any]:
        parameters: dict[str, Any] = self.get_params(deep=False)
        return parameters

    def to_local(self) -> Any:
        """The same model as an estimator of one machine: to predict without Dask, to save, to go on with `fit`."""
        local = type(self).local(**self._local_parameters())
        parameters = self.get_params(deep=False)
        vars(local).update({k: v for k, v in vars(self).items() if k not in parameters})
        return local

    def _local_of(self, result: Result) -> Any:
        """The model of one machine that a result makes."""
        raise NotImplementedError

    def _read_checkpoint(self, path: str | os.PathLike[str] | None, fingerprint: list[Any]) -> Any:
        """The model that a checkpoint holds, or None where there is no file yet."""
        if path is None:
            return None
        model_file._goal(path, "checkpoint")
        if not os.path.exists(path):
            return None
        part, extra = model_file._read(path)
        local = type(self).local(**self._local_parameters())
        model_file._same_run(local, part, extra, "dask", path)
        found: Any = extra.get("dask")
        same = isinstance(found, list) and len(found) == len(fingerprint)
        if not same or not all(math.isclose(a, b, rel_tol=1e-9) for a, b in zip(found, fingerprint, strict=True)):
            remedy = "Remove it, or name another."
            raise ValueError(f"checkpoint must be of the same data; got {os.fspath(path)!r} of others. {remedy}")
        return part

    # ---------------------------------------------------------------------------------------------------- prediction

    def _chunkwise(self, method: str, X: Any) -> Any:
        """A method of the local model, of each chunk: as lazy as X is, and like it a collection."""
        dask = needs("dask")
        model = dask.delayed(self._for_prediction(), pure=False)
        if isinstance(X, list | tuple):
            return [dask.delayed(_call_block)(chunk, model, method) for chunk in X]
        sample = np.zeros((1, self.n_features_in_), dtype=np.float64)
        local = self._for_prediction()
        vars(local).pop("feature_names_in_", None)
        example = getattr(local, method)(sample)
        if hasattr(X, "map_partitions"):
            import pandas as pd

            columns = getattr(self, "classes_", None) if example.ndim == 2 else None
            frame = pd.Series(example[:0]) if example.ndim == 1 else pd.DataFrame(example[:0], columns=columns)
            return X.map_partitions(_call_frame, model, method, columns, meta=frame)
        if X.numblocks[1] > 1:
            X = X.rechunk({1: -1})
        shape: dict[str, Any] = {"drop_axis": 1}
        if example.ndim == 2:
            shape = {"chunks": (X.chunks[0], (example.shape[1],))}
        meta = np.empty((0,) * example.ndim, example.dtype)
        return X.map_blocks(_call_block, model=model, method=method, dtype=example.dtype, meta=meta, **shape)

    def _for_prediction(self) -> Any:
        """The local model without what predictions do not need."""
        local = self.to_local()
        for name in ("history_", "optimizer_state_"):
            vars(local).pop(name, None)
        return local

    def score(self, X: Any, y: Any, sample_weight: Any = None, *, client: Any = None) -> float:
        """Accuracy of a classifier, R^2 of a regressor (the mean over the targets), on the workers.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`, or arrays.
        client : dask.distributed.Client or None
            None: the current one.

        Returns
        -------
        float
        """
        if not is_dask(X):
            return float(self._for_prediction().score(X, y, sample_weight))
        cluster = Cluster(find_client(client))
        columns = columns_of(X, y, sample_weight)
        dask = needs("dask")
        function = _hits if is_classifier(self) else _moments
        model = dask.delayed(self._for_prediction(), pure=False)
        keys = cluster.keys("score", len(columns[0]))
        tasks = [
            dask.delayed(function, pure=False)(model, *row, dask_key_name=key)
            for row, key in zip(zip(*columns, strict=True), keys, strict=True)
        ]
        found = cluster.client.gather(cluster.client.compute(tasks))
        sums = [sum(column) for column in zip(*found, strict=True)]
        if is_classifier(self):
            return float(sums[1] / sums[0])
        weight, first, second, errors = sums
        spread = second - first**2 / weight
        return float(np.mean(1 - errors / np.where(spread > 0, spread, np.nan)))


def len_of(X: Any) -> int:
    """Rows of an array, a frame or a sparse matrix."""
    return int(X.shape[0])


def _call_block(X: Any, model: Any, method: str) -> Any:
    """`X` may be without rows, which the model would refuse: as dask's own example of a block is."""
    if not len_of(X):
        model = copy.copy(model)
        vars(model).pop("feature_names_in_", None)  # the example has no names
        return getattr(model, method)(np.zeros((1, model.n_features_in_), getattr(X, "dtype", np.float64)))[:0]
    return getattr(model, method)(X)


def _call_frame(X: Any, model: Any, method: str, columns: Any) -> Any:
    import pandas as pd

    found = _call_block(X, model, method)
    if found.ndim == 1:
        return pd.Series(found, index=X.index)
    return pd.DataFrame(found, index=X.index, columns=columns)


def _weights(s: Any, n: int) -> Array:
    return np.ones(n) if s is None else np.asarray(s, dtype=np.float64)


def _hits(model: Any, X: Any, y: Any, s: Any) -> tuple[float, float]:
    """Weight of the rows, and of those that are predicted right."""
    n = len_of(X)
    weights = _weights(s, n)
    if not n:
        return 0.0, 0.0
    right = np.asarray(model.predict(X)) == np.asarray(y)
    return float(weights.sum()), float(weights @ (right.all(axis=1) if right.ndim == 2 else right))


def _moments(model: Any, X: Any, y: Any, s: Any) -> tuple[Any, ...]:
    """Weight of the rows, and weighted sums of y, y^2 and the squared errors."""
    n, y = len_of(X), np.asarray(y, dtype=np.float64)
    weights = _weights(s, n)
    errors = (y - model.predict(X)) ** 2 if n else y
    return float(weights.sum()), weights @ y, weights @ y**2, weights @ errors
