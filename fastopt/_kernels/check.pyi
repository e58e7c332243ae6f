from typing import Any

import numpy as np
from numpy.typing import NDArray

def csr(
    values: NDArray[Any], columns: NDArray[Any], indptr: NDArray[Any], n_columns: int, begin: int, end: int,
    counts: NDArray[np.int64], squares: NDArray[np.float64],
) -> tuple[int, int, int, bool]: ...  # fmt: skip
def squares(values: NDArray[Any], indptr: NDArray[Any], out: NDArray[np.float64]) -> None: ...
def columns(
    values: NDArray[Any], columns: NDArray[Any], n_stored: int, counts: NDArray[np.int64], squares: NDArray[np.float64]
) -> None: ...
