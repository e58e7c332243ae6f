from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import disjoint_base

def kept(columns: NDArray[Any], indptr: NDArray[Any], places: NDArray[np.int32], start: int, stop: int) -> int: ...
def copy(
    values: NDArray[Any], columns: NDArray[Any], indptr: NDArray[Any], places: NDArray[np.int32],
    out_values: NDArray[Any], out_columns: NDArray[Any], out_indptr: NDArray[Any], start: int, stop: int,
) -> None: ...  # fmt: skip
def sweeps(
    H: NDArray[np.float64], r: NDArray[np.float64], v: NDArray[np.float64], l1: float, n_penalised: int, most: int,
    part: float,
) -> tuple[float, float, float]: ...  # fmt: skip

@disjoint_base
class Columns:
    def __init__(
        self, column: NDArray[np.intp], output: NDArray[np.intp], h: NDArray[np.float64], p: NDArray[np.float64],
        q: NDArray[np.float64], mean: NDArray[np.float64], l1: float, l2: float, n_columns: int, n_penalised: int,
    ) -> None: ...  # fmt: skip

def column_bends(
    t: Columns, values: NDArray[Any], rows: NDArray[Any], starts: NDArray[Any], diagonal: NDArray[np.float64],
    start: int, stop: int,
) -> None: ...  # fmt: skip
def column_sweep(
    t: Columns, values: NDArray[Any], rows: NDArray[Any], starts: NDArray[Any], slope: NDArray[np.float64],
    diagonal: NDArray[np.float64], w: NDArray[np.float64], v: NDArray[np.float64], nonzero: bool, start: int,
    stop: int,
) -> float: ...  # fmt: skip
