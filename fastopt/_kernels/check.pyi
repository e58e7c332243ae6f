from typing import Any

import numpy as np
from numpy.typing import NDArray

def within(indptr: NDArray[Any], length: int) -> bool: ...
def rows(order: NDArray[np.intp], n: int) -> bool: ...
def csr(
    values: NDArray[Any], columns: NDArray[Any], indptr: NDArray[Any], n_columns: int, begin: int, end: int,
) -> tuple[int, int, int, bool]: ...  # fmt: skip
def squares(values: NDArray[Any], indptr: NDArray[Any], out: NDArray[np.float64]) -> None: ...
def column_sums(
    values: NDArray[Any], columns: NDArray[Any], indptr: NDArray[Any], sums: NDArray[np.float64], begin: int, end: int
) -> int: ...
