from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import disjoint_base

@disjoint_base
class Saga:
    share: float
    pull: float

    def __init__(
        self, loss: int, loss_parameter: float, l1: float, l2: float, y: NDArray[np.float64],
        weights: NDArray[np.float64],
    ) -> None: ...  # fmt: skip

def sparse(
    p: Saga, values: NDArray[Any], columns: NDArray[Any], indptr: NDArray[Any], cells: NDArray[Any],
    table: NDArray[Any], order: NDArray[np.intp], start: int, stop: int,
) -> None: ...  # fmt: skip
def dense(
    p: Saga, X: NDArray[Any], cells: NDArray[Any], table: NDArray[Any], order: NDArray[np.intp], start: int, stop: int
) -> None: ...
def dense_renew(
    p: Saga, X: NDArray[Any], w: NDArray[np.float64], g: NDArray[np.float64], table: NDArray[Any], start: int,
    stop: int,
) -> float: ...  # fmt: skip
def sparse_renew(
    p: Saga, values: NDArray[Any], columns: NDArray[Any], indptr: NDArray[Any], w: NDArray[np.float64],
    g: NDArray[np.float64], table: NDArray[Any], start: int, stop: int,
) -> float: ...  # fmt: skip
