from typing import Any

from numpy.typing import NDArray

def csr(
    values: NDArray[Any], columns: NDArray[Any], indptr: NDArray[Any], n_columns: int, begin: int, end: int
) -> tuple[int, int, int, bool]: ...
