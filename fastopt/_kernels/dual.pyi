from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import disjoint_base

LOSSES: dict[str, int]

@disjoint_base
class Dual:
    c2: float

    def __init__(
        self, loss: int, unit: float, y: NDArray[np.float64], weights: NDArray[np.float64],
        squares: NDArray[np.float64], state: NDArray[np.float64],
    ) -> None: ...  # fmt: skip

def dense(
    p: Dual, X: NDArray[Any], w: NDArray[np.float64], order: NDArray[np.intp], start: int, stop: int
) -> float: ...
def sparse(
    p: Dual, values: NDArray[Any], columns: NDArray[Any], indptr: NDArray[Any], w: NDArray[np.float64],
    order: NDArray[np.intp], start: int, stop: int, checks: bool = False,
) -> float: ...  # fmt: skip
def bound(t: Dual, feasible: bool) -> tuple[float, float]: ...
