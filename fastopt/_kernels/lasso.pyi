from typing import Any

import numpy as np
from numpy.typing import NDArray

def kept(columns: NDArray[Any], indptr: NDArray[Any], places: NDArray[np.int32], start: int, stop: int) -> int: ...
def copy(
    values: NDArray[Any], columns: NDArray[Any], indptr: NDArray[Any], places: NDArray[np.int32],
    out_values: NDArray[Any], out_columns: NDArray[Any], out_indptr: NDArray[Any], start: int, stop: int,
) -> None: ...  # fmt: skip
def sweeps(
    H: NDArray[np.float64], r: NDArray[np.float64], v: NDArray[np.float64], l1: float, n_penalised: int, most: int,
    part: float,
) -> tuple[float, float, float]: ...  # fmt: skip
