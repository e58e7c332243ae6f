from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import disjoint_base

@disjoint_base
class Softmax:
    c2: float
    @property
    def width(self) -> int: ...
    def __init__(
        self, unit: float, y: NDArray[np.float64], weights: NDArray[np.float64], squares: NDArray[np.float64],
        state: NDArray[np.float64], room: NDArray[np.float64],
    ) -> None: ...  # fmt: skip
    @staticmethod
    def room_for(n_classes: int) -> int: ...

def dense(
    t: Softmax, X: NDArray[Any], w: NDArray[np.float64], order: NDArray[np.intp], start: int, stop: int
) -> float: ...
def sparse(
    t: Softmax, values: NDArray[Any], columns: NDArray[Any], indptr: NDArray[Any], w: NDArray[np.float64],
    order: NDArray[np.intp], start: int, stop: int, checks: bool = False,
) -> float: ...  # fmt: skip
def masses(t: Softmax, sums: NDArray[np.float64]) -> None: ...
def bound(t: Softmax, keep: NDArray[np.float64], share: NDArray[np.float64]) -> tuple[float, float]: ...
def at_intercepts(
    t: Softmax, z: NDArray[np.float64], b: NDArray[np.float64], sums: NDArray[np.float64],
    products: NDArray[np.float64],
) -> None: ...  # fmt: skip
