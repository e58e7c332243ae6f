from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastopt._kernels.saga import Saga

def width(n_outputs: int, itemsize: int) -> int: ...
def sparse(
    p: Saga, values: NDArray[Any], columns: NDArray[Any], indptr: NDArray[Any], cells: NDArray[Any],
    steps: NDArray[Any], table: NDArray[Any], room: NDArray[Any], order: NDArray[np.intp], start: int, stop: int,
) -> None: ...  # fmt: skip
def dense(
    p: Saga, X: NDArray[Any], cells: NDArray[Any], steps: NDArray[Any], table: NDArray[Any], room: NDArray[Any],
    order: NDArray[np.intp], start: int, stop: int,
) -> None: ...  # fmt: skip
def dense_renew(
    p: Saga, X: NDArray[Any], w: NDArray[np.float64], g: NDArray[np.float64], table: NDArray[Any],
    z: NDArray[np.float64], start: int, stop: int,
) -> float: ...  # fmt: skip
def sparse_renew(
    p: Saga, values: NDArray[Any], columns: NDArray[Any], indptr: NDArray[Any], w: NDArray[np.float64],
    g: NDArray[np.float64], table: NDArray[Any], z: NDArray[np.float64], start: int, stop: int,
) -> float: ...  # fmt: skip
