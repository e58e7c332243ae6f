"""Partitions: what a worker holds of the data, and how it gets there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.multiclass import check_classification_targets

from fastopt._design import Design
from fastopt._validation import fail
from fastopt.dask._cluster import Cluster
from fastopt.linear_model._base import LinearModel, read, read_targets, refuse_weightless, weights_of
from fastopt.losses import Loss
from fastopt.objective import Objective

__all__ = ["Data", "Outline", "Part", "Share", "Task", "columns_of", "encode", "is_dask", "load", "moments"]

Array = NDArray[Any]


def is_dask(collection: Any) -> bool:
    """Whether this is a Dask collection, or a list of delayed chunks or futures."""
    if isinstance(collection, list | tuple):
        return len(collection) > 0 and all(hasattr(c, "dask") or hasattr(c, "key") for c in collection)
    return hasattr(collection, "__dask_graph__") and hasattr(collection, "to_delayed")


def chunks(collection: Any, name: str) -> list[Any]:
    """The chunks of rows of a collection, delayed."""
    if not is_dask(collection):
        kind = type(collection).__name__
        remedy = "Use dask.array.from_array(array, chunks=(rows, -1)), or the class of fastopt itself."
        fail(name, "a dask array, a dask dataframe or a list of delayed chunks", kind, remedy, TypeError)
    if isinstance(collection, list | tuple):
        return list(collection)
    if getattr(collection, "ndim", 1) == 2 and hasattr(collection, "rechunk") and collection.numblocks[1] > 1:
        collection = collection.rechunk({1: -1})
    return list(np.ravel(np.asarray(collection.to_delayed(), dtype=object)))


def aligned(X: Any, other: Any, name: str) -> list[Any]:
    """Chunks of `other` cut where X's rows are."""
    rows = getattr(X, "chunks", ((np.nan,),))[0]
    if hasattr(other, "rechunk") and not np.isnan(rows).any() and other.chunks[0] != rows:
        if np.isnan(other.chunks[0]).any() or sum(other.chunks[0]) != sum(rows):
            raise ValueError(
                f"{name} must have as many elements as X has rows ({sum(rows)}); got {sum(other.chunks[0])}."
            )
        other = other.rechunk({0: rows})
    return chunks(other, name)


def columns_of(X: Any, y: Any, sample_weight: Any) -> list[list[Any]]:
    """Chunks of X, of y and of the weights (None where there are none), one of each for a partition."""
    columns = [chunks(X, "X"), aligned(X, y, "y")]
    columns.append([None] * len(columns[0]) if sample_weight is None else aligned(X, sample_weight, "sample_weight"))
    for name, column in zip(("X", "y", "sample_weight"), columns, strict=True):
        if len(column) != len(columns[0]):
            raise ValueError(f"{name} must have as many partitions as X ({len(columns[0])}); got {len(column)}.")
    return columns


@dataclass(frozen=True, eq=False)
class Part:
    """A partition, validated: its rows, their targets as they came, and their weights."""

    design: Design
    y: Array
    weights: Array | None
    names: Array | None

    def __sizeof__(self) -> int:
        return _size(self.design, self.y, self.weights)


def _size(design: Design, *arrays: Array | None) -> int:
    """Bytes of a partition: Dask weighs by it whether to move it."""
    return sum(a.nbytes for a in (*design.arrays, *arrays) if a is not None)


@contextmanager
def _told(number: int) -> Iterator[None]:
    """Errors say in which partition they are."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise type(error)(f"{error} This is partition {number}.") from None


def read_part(X: Any, y: Any, weights: Any, number: int, classifies: bool) -> Part:
    """Checks a chunk; arrays are kept as they are."""
    with _told(number):
        rows, empty = len(y), len(y) == 0
        if empty and np.shape(X)[0] == 0:
            X = np.zeros((0, np.shape(X)[1]), getattr(X, "dtype", np.float64))
            return Part(Design.from_array(X), np.asarray(y), None, None)
        reader = LinearModel()
        design = read(reader, X, reset=True)
        if design.shape[0] != rows:
            raise ValueError(f"y must have as many elements as X has rows ({design.shape[0]}); got {rows}.")
        y = read_targets(reader, y, multi_output=np.ndim(y) > 1, y_numeric=not classifies)
        if classifies:
            check_classification_targets(y)
            if y.ndim == 2 and not np.isin(y, (0, 1)).all():
                raise ValueError("y must hold 0 and 1 where it has a column for each label; got others.")
        s = weights_of(weights, design.shape[0], zeros=True)
        return Part(design, y, s, getattr(reader, "feature_names_in_", None))


def summary(part: Part, classifies: bool) -> dict[str, Any]:
    """What the client has to know of a partition: some numbers, and the classes."""
    design, s = part.design, part.weights
    told: dict[str, Any] = {
        "shape": design.shape, "stored": design.n_stored, "dtype": design.dtype, "sparse": design.sparse,
        "names": part.names, "outputs": part.y.shape[1] if part.y.ndim == 2 else None,
        "weight": float(design.shape[0] if s is None else s.sum()), "weighted": s is not None,
    }  # fmt: skip
    if classifies and part.y.ndim == 1 and len(part.y):
        classes, codes = np.unique(part.y, return_inverse=True)
        told |= {"classes": classes, "rows": np.bincount(codes), "weights": np.bincount(codes, s)}
    return told


@dataclass(frozen=True)
class Outline:
    """What solvers ask of a `Design`, of all partitions together."""

    shape: tuple[int, int]
    dtype: np.dtype[Any]
    sparse: bool
    n_stored: int
    #: There are no arrays that one could look into.
    indices = indptr = None
    distinct = True


@dataclass(frozen=True)
class Data:
    """Partitions on their workers, and what they come to together.

    Attributes
    ----------
    cluster : Cluster
    parts : list of futures of Part
    outline : Outline
    weight : float
        Sum of the sample weights.
    classes, rows, weights : ndarray
        The classes, how many rows each has, and the sum of their weights; of a classification alone.
    outputs : int or None
        Columns of y, if it has two dimensions.
    names : ndarray or None
    """

    cluster: Cluster
    parts: list[Any]
    outline: Outline
    weight: float
    weighted: bool
    classes: Array
    rows: Array
    weights: Array
    outputs: int | None
    names: Array | None

    def fingerprint(self) -> list[Any]:
        """Rows, columns, elements and sums: by which a checkpoint knows its data, however they are cut."""
        sums = self.cluster.sum("moments", moments, self.parts, size=16)
        return [*self.outline.shape, self.outline.n_stored, *map(float, sums), self.weight]


def moments(rows: Part | Share | None) -> tuple[float, float] | None:
    """The sums of X's elements and of their squares, without weights."""
    if rows is None:
        return None
    values = rows.design.values
    letters = "ij" if values.ndim == 2 else "i"
    with np.errstate(over="ignore"):  # einsum makes no array of the products
        squares = np.einsum(f"{letters},{letters}->", values, values, dtype=np.float64)
        return float(values.sum(dtype=np.float64)), float(squares)


def load(cluster: Cluster, X: Any, y: Any, sample_weight: Any, *, classifies: bool) -> Data:
    """Has the workers check their partitions, and tells what they hold."""
    if y is None:
        raise ValueError("y must be passed; got None.")
    columns = columns_of(X, y, sample_weight)
    numbers = range(len(columns[0]))
    parts = cluster.each("read", read_part, *columns, numbers, held=X, classifies=classifies)
    return _together(cluster, parts, cluster.values("summary", summary, parts, classifies=classifies))


def _together(cluster: Cluster, parts: list[Any], told: list[dict[str, Any]]) -> Data:
    kept = [i for i, one in enumerate(told) if one["shape"][0]]
    if not kept:
        raise ValueError("X must have at least one row; got none.")
    parts, told = [parts[i] for i in kept], [told[i] for i in kept]
    first = told[0]
    for i, one in zip(kept, told, strict=True):
        if one["shape"][1] != first["shape"][1]:
            text = f"{first['shape'][1]} as partition {kept[0]} has; got {one['shape'][1]} in partition {i}"
            raise ValueError(f"X must have the same number of columns everywhere, {text}.")
        if not np.array_equal(one["names"], first["names"]):
            raise ValueError(f"X must have the same column names everywhere; got others in partition {i}.")
        if one["outputs"] != first["outputs"]:
            raise ValueError(f"y must have the same number of columns everywhere; got another in partition {i}.")
    n = sum(one["shape"][0] for one in told)
    single = all(one["dtype"] == np.float32 for one in told)
    outline = Outline(
        (n, first["shape"][1]), np.dtype(np.float32 if single else np.float64), first["sparse"],
        sum(one["stored"] for one in told),
    )  # fmt: skip
    classes, rows, weights = np.empty(0), np.zeros(0, np.int64), np.zeros(0)
    if "classes" in first:
        classes = np.unique(np.concatenate([one["classes"] for one in told]))
        rows, weights = np.zeros(len(classes), np.int64), np.zeros(len(classes))
        for one in told:
            places = np.searchsorted(classes, one["classes"])
            rows[places] += one["rows"]
            weights[places] += one["weights"]
    weight = float(sum(one["weight"] for one in told))
    if not 0 < weight < np.inf:
        refuse_weightless()
    weighted = any(one["weighted"] for one in told)
    names, outputs = first["names"], first["outputs"]
    return Data(cluster, parts, outline, weight, weighted, classes, rows, weights, outputs, names)


@dataclass(frozen=True)
class Task:
    """What is minimised, apart from the data.

    Attributes
    ----------
    loss : Loss
    alpha, l1_ratio : float
        F's penalty.
    fit_intercept : bool
    n_outputs : int
    kind : str
        "binary", "multinomial", "ovr", "multilabel" or "regression": how targets are made of y.
    classes : ndarray
    weight : float
        The sum of all rows' weights.
    class_weights : ndarray or None
        A factor of the weights for each class.
    output : int or None
        Of one-vs-rest the only class to learn, whose weight is that of its own rows alone.
    step_alpha : float or None
        Of steps that take the weights as they are: the penalty's strength beside them.
    n_jobs : int
        Threads of a pass over one partition.
    """

    loss: Loss
    alpha: float
    l1_ratio: float
    fit_intercept: bool
    n_outputs: int
    kind: str
    classes: Array
    weight: float
    class_weights: Array | None = None
    output: int | None = None
    step_alpha: float | None = None
    n_jobs: int = 1


@dataclass(frozen=True, eq=False)
class Share:
    """A partition's part of F."""

    number: int
    design: Design
    y: Array
    weights: Array | None
    task: Task

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key not in ("losses", "_merged", "_few")}

    @cached_property
    def total(self) -> float:
        """The sum of its weights."""
        return float(self.design.shape[0] if self.weights is None else self.weights.sum())

    @cached_property
    def losses(self) -> Objective:
        """The weighted mean of its losses, without a penalty."""
        return self.objective(0.0)

    def objective(self, alpha: float) -> Objective:
        """The same with a penalty; of these rows alone."""
        task = self.task
        return Objective(
            self.design, self.y, loss=task.loss, alpha=alpha, sample_weight=self.weights,
            fit_intercept=task.fit_intercept, n_outputs=task.n_outputs, l1_ratio=task.l1_ratio, n_jobs=task.n_jobs,
        )  # fmt: skip

    def sampled(self, part: float) -> Share:
        """A part of the rows; the last one is kept."""
        kept: tuple[float, Share] | None = vars(self).get("_few")
        if kept is None or kept[0] != part:
            few = self.losses.sample(max(1, round(part * self.design.shape[0])))
            weights = few.sample_weight if len(few.sample_weight) else None
            if self.weights is not None and weights is None:  # they are all the same here, but not in other partitions
                weights = np.full(few.n_samples, self.total / self.design.shape[0])
            kept = vars(self)["_few"] = part, Share(self.number, few.design, few.y, weights, self.task)
        return kept[1]

    @cached_property
    def _merged(self) -> Share:
        if self.design.distinct:
            return self
        return Share(self.number, self.design.merged(), self.y, self.weights, self.task)

    def __sizeof__(self) -> int:
        return _size(self.design, self.y, self.weights)


def encode(part: Part, number: int, task: Task) -> Share | None:
    """A partition's targets and weights as the loss takes them; None if none of its rows weighs anything."""
    with _told(number):
        y, s = part.y, part.weights
        if task.kind == "regression":
            y = np.asarray(y, dtype=np.float64)
            y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
        elif task.kind == "multilabel":
            y = np.where(y > 0, 1.0, -1.0)
            y = y[:, 0] if y.shape[1] == 1 else y
        else:
            codes = np.searchsorted(task.classes, y)
            y, s = _of_classes(codes, s, task)
        if s is not None and not s.any():
            return None
        share = Share(number, part.design, y, s, task)
        share.losses  # noqa: B018 - refuses targets that the loss cannot take
        return share


def _of_classes(codes: NDArray[np.intp], s: Array | None, task: Task) -> tuple[Array, Array | None]:
    """Targets and weights of rows by their classes' numbers."""
    own = task.class_weights
    if task.output is not None:
        y = np.where(codes == task.output, 1.0, -1.0)
        factors = None if own is None else np.where(codes == task.output, own[task.output], 1.0)
    else:
        factors = None if own is None else own[codes]
        if task.kind == "binary":
            y = np.where(codes == 1, 1.0, -1.0)
        elif task.kind == "multinomial":
            y = codes.astype(np.float64)
        else:
            y = np.full((len(codes), len(task.classes)), -1.0)
            y[np.arange(len(codes)), codes] = 1.0
    if factors is not None:
        s = factors if s is None else s * factors
    return y, s
