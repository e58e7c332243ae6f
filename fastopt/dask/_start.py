"""Newton's start on Dask: each partition goes to the minimum of its own rows, and quadratics are merged."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastopt.dask._objective import Distributed
from fastopt.dask._parts import Share
from fastopt.objective import Objective
from fastopt.solvers.newton import GROWTH, ROWS_PER_PARAMETER, Curvature, warm_up

__all__ = ["minima_of_partitions"]

Float64 = NDArray[np.float64]

#: Rows at least of a partition's smallest sample, where no round is waited for.
FEWEST = 250


def minima_of_partitions(
    objective: Distributed, w: Float64, sizes: list[int]
) -> tuple[Float64, Curvature | None]:  # fmt: skip
    """A point near F's minimum and F's Hessian there, in one round; what `warm_up` does on one machine.

    Each partition minimises F of an eighth of its own rows, from w. What it finds is ``w_p`` and a quadratic, by the
    Hessian ``H_p``: the start is the minimum of their sum, ``(sum_p S_p H_p)^-1 sum_p S_p H_p w_p``, S_p being the
    weight of a partition's rows. Where partitions are too small for that, samples of all of them are gone through.

    References
    ----------
    Zhang, Duchi, Wainwright, "Communication-efficient algorithms for statistical optimization", JMLR 2013 (one round
    of averages, error of the order 1/n + 1/n_p^2). Huang, Huo, "A distributed one-step estimator", Mathematical
    Programming 2019 (one Newton step after it makes it as good as the minimum of all rows).
    """
    dtype = objective.design.dtype
    found = objective.sum(
        "start", own_minimum, size=8 * objective.size * (objective.size + 1), start=w, dtype=dtype
    )  # fmt: skip
    if found is None:
        return warm_up(objective, w, sizes)
    H, Hw, weight = found
    H /= weight
    curvature = Curvature(Merged(objective, sizes[-1], H), w, sizes[-1], dtype)
    return curvature.solve(Hw.reshape(w.shape) / weight), curvature


class Merged(Distributed):
    """A sample whose Hessian is known."""

    def __init__(self, objective: Distributed, size: int, H: Float64) -> None:
        n = objective.outline.shape[0]
        super().__init__(objective.cluster, objective.shares, objective.outline, objective.task, size / n)
        self._H = H

    def hessian(
        self, w: NDArray[Any], dtype: DTypeLike | None = None, kept: Float64 | None = None
    ) -> Float64:  # fmt: skip
        """The mean of the partitions' Hessians, each at its own minimum."""
        return self._H.copy()


def own_minimum(share: Share | None, start: Float64, dtype: DTypeLike) -> tuple[Float64, Float64, float] | None:
    """The Hessian at the minimum of a sample of this partition's rows, and its product with that; weighted."""
    if share is None:
        return None
    F: Objective = share.objective(share.task.alpha)
    size, sizes = share.design.shape[0] // GROWTH, []
    while size >= max(FEWEST, ROWS_PER_PARAMETER * start.size):
        sizes.append(size)
        size //= GROWTH
    w, curvature = warm_up(F, start, sizes[::-1])
    if curvature is None:
        return None
    H = share.total * F.sample(sizes[0]).hessian(w, dtype)
    return H, H @ w.reshape(-1), share.total
