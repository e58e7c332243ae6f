"""F over all partitions, as the solvers of one machine ask for it."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastopt.dask._cluster import Cluster
from fastopt.dask._parts import Data, Outline, Share, Task, encode, moments
from fastopt.linear_model._base import refuse_weightless
from fastopt.objective import Objective
from fastopt.penalties import L2, ElasticNet, Penalty
from fastopt.solvers.table import SOLVERS

__all__ = ["Distributed", "distribute", "obstacle"]

Float64 = NDArray[np.float64]


class Distributed(Objective):
    """An `Objective` whose rows are on Dask's workers: each evaluation is a round of O(parameters) numbers a partition.

    Value, gradient, Hessian, its products, column moments and samples are those of `Objective`, with the same bits
    whatever the number of workers. Raw predictions and single rows there are not.

    Parameters
    ----------
    cluster : Cluster
    shares : list of futures of Share
    outline : Outline
    task : Task
    part : float, default 1
        The share of each partition's rows that F is of.
    """

    def __init__(
        self, cluster: Cluster, shares: list[Any], outline: Outline, task: Task, part: float = 1.0
    ) -> None:  # fmt: skip
        self.cluster, self.shares, self.task, self.weight = cluster, shares, task, task.weight
        self.outline = outline
        self.design: Any = outline
        self.loss = task.loss
        self.penalty: Penalty = ElasticNet(task.alpha, task.l1_ratio) if task.l1_ratio else L2(task.alpha)
        self.l1_ratio, self.fit_intercept, self.n_outputs = task.l1_ratio, task.fit_intercept, task.n_outputs
        n, self.n_features = outline.shape
        self.part, self.n_samples = part, max(1, round(part * n))
        self.n_jobs = task.n_jobs
        self.shape = (self.n_features + self.fit_intercept, self.n_outputs)
        self.size = self.shape[0] * self.shape[1]
        #: What was measured last: the parameters, F and its gradient's norm.
        self.last: tuple[Float64, float, float] | None = None

    def sum(self, name: str, function: Any, *columns: Any, size: int | None = None, **common: Any) -> Any:
        """Sum over the partitions; by default of terms of as many numbers as there are parameters."""
        size = 8 * self.size if size is None else size
        if self.part == 1:
            return self.cluster.sum(name, function, self.shares, *columns, size=size, **common)
        common |= {"of": function, "part": self.part}
        found, self.weight = self.cluster.sum(f"{name}-sample", of_sample, self.shares, size=size + 8, **common)
        return found

    def completed(self, w: NDArray[Any], value: float, g: Float64) -> tuple[float, Float64]:
        """F and its least subgradient at w from the partitions' sums of losses and of their gradients."""
        value, flat = self._with_l2(w, value, g)
        penalised = self._penalised(w)
        if self.l1:
            value += self.l1 * float(np.abs(penalised).sum())
            flat[: penalised.size] = self.penalty.subgradient(penalised, flat[: penalised.size])
        with np.errstate(over="ignore", invalid="ignore"):
            self.last = np.array(w, dtype=np.float64), value, float(np.linalg.norm(flat))
        return value, flat.reshape(np.shape(w))

    def _with_l2(self, w: NDArray[Any], value: float, g: Float64) -> tuple[float, Float64]:
        penalised, g = self._penalised(w), g / self.weight
        g[: penalised.size] += self.penalty.gradient(penalised)
        return value / self.weight + 0.5 * self.l2 * float(penalised @ penalised), g

    def value(self, w: NDArray[Any]) -> float:
        """F at w."""
        return self.value_and_gradient(w)[0]

    def value_at_zero(self) -> float:
        """F at zero parameters, without a look at X."""
        if self.loss.name in ("log_loss", "multinomial"):  # the same for all targets
            return self.n_outputs * math.log(2) if self.loss.targets == "binary" else math.log(self.n_outputs)
        return float(self.sum("start", value_at_zero, size=8)) / self.weight

    def value_and_gradient(self, w: NDArray[Any]) -> tuple[float, Float64]:
        """F and its gradient at w (with L1 the subgradient of least norm), in one round."""
        return self.completed(w, *self.sum("gradient", evaluate, w=self._flat(w)))

    def room_for_raw(self) -> Float64 | None:
        """None: raw predictions stay where the rows are."""
        return None

    def smooth_value_and_gradient(self, w: NDArray[Any], kept: Float64 | None = None) -> tuple[float, Float64]:
        """F without its L1 part, and its gradient, at w, in one round."""
        sums = self.sum("gradient", evaluate, w=self._flat(w))
        self.completed(w, *sums)
        value, g = self._with_l2(w, *sums)
        return value, g.reshape(np.shape(w))

    def hessian_product(self, w: NDArray[Any], v: NDArray[Any], bends: Float64 | None = None) -> Float64:
        """Hessian of F at w, times v, in one round."""
        product = self.sum("hessian-product", hessian_product, w=self._flat(w), v=self._flat(v)) / self.weight
        penalised = self._penalised(v)
        product[: penalised.size] += self.penalty.gradient(penalised)
        return np.asarray(product).reshape(np.shape(v))

    def hessian(
        self, w: NDArray[Any], dtype: DTypeLike | None = None, kept: Float64 | None = None
    ) -> Float64:  # fmt: skip
        """Hessian of F at w, (size, size), in one round: for few columns, since its size is what every worker sends."""
        H = self.sum("hessian", hessian, size=8 * self.size**2, w=self._flat(w), dtype=dtype) / self.weight
        penalised = np.arange(self.n_features * self.n_outputs)
        H[penalised, penalised] += self.l2
        return np.asarray(H)

    def step_length(
        self, w: NDArray[Any], v: NDArray[Any], slope: float, kept: Float64 | None = None,
        moved: Float64 | None = None, *, l1_slope: float = 0.0,
    ) -> float:  # fmt: skip
        """1: each trial would be a round."""
        return 1.0

    def column_moments(self) -> tuple[Float64, Float64]:
        """Weighted mean of each column, and of its squares."""
        mean, square = self.sum("moments", column_moments, size=16 * self.n_features)
        return mean / self.weight, square / self.weight

    def variance_about(self, means: Float64, columns: NDArray[np.intp]) -> Float64:
        """Weighted mean square of how far these columns are from their means, on a sample of each partition."""
        size = 8 * len(columns)
        sums = self.sum("variance", variance_about, size=size, means=means, columns=columns)
        return np.asarray(sums / self.weight)

    @cached_property
    def mean_square(self) -> float:
        """The mean of ``||x||^2``, without weights, in one round."""
        return float(self.cluster.sum("moments", moments, self.shares, size=16)[1]) / self.outline.shape[0]

    def sample(self, size: int) -> Objective:
        """F of about `size` rows, from each partition its part, on the workers where they are."""
        if size >= self.n_samples:
            return self
        return Distributed(self.cluster, self.shares, self.outline, self.task, size / self.outline.shape[0])


def obstacle(name: str, objective: Distributed) -> str:
    """What keeps a solver from minimising F on a cluster; empty if nothing does."""
    if name == "newton" and objective.l1:  # its rounds copy columns, and its start merges minima of smooth functions
        return "an L1 penalty"
    if name == "sdca" and objective.n_outputs > 1:  # rounds of one output
        return f"{objective.n_outputs} outputs at once"
    return SOLVERS[name].obstacle(objective)


def distribute(data: Data, task: Task) -> Distributed:
    """F of a task on loaded data."""
    cluster = data.cluster
    shares = cluster.each("encode", encode, data.parts, range(len(data.parts)), task=task)
    if not 0 < task.weight < np.inf:
        refuse_weightless()
    return Distributed(cluster, shares, data.outline, task)


def of_sample(share: Share | None, of: Callable[..., Any], part: float, **common: Any) -> Any:
    """A function of a part of the rows, and their weight."""
    few = None if share is None else share.sampled(part)
    return None if few is None else (of(few, **common), few.total)


def evaluate(share: Share | None, w: Float64) -> Any:
    """The weighted sum of a partition's losses and its gradient."""
    if share is None:
        return None
    value, g = share.losses.value_and_gradient(w.reshape(-1))
    return share.total * value, share.total * g


def value_at_zero(share: Share | None) -> float:
    """The weighted sum of a partition's losses where nothing is predicted."""
    return 0.0 if share is None else share.total * share.losses.value_at_zero()


def hessian_product(share: Share | None, w: Float64, v: Float64) -> Any:
    """The same of the Hessian times v."""
    return None if share is None else share.total * share.losses.hessian_product(w, v)


def hessian(share: Share | None, w: Float64, dtype: DTypeLike | None) -> Any:
    """The same of the Hessian."""
    return None if share is None else share.total * share.losses.hessian(w, dtype)


def column_moments(share: Share | None) -> Any:
    """Weighted sums of the columns and of their squares."""
    if share is None:
        return None
    mean, square = share.losses.column_moments()
    return share.total * mean, share.total * square


def variance_about(share: Share | None, means: Float64, columns: NDArray[np.intp]) -> Any:
    """The weight times the mean square of how far these columns are from their means."""
    return None if share is None else share.total * share.losses.variance_about(means, columns)
