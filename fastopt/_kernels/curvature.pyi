from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastopt._kernels.terms import Terms

def gram(
    X: NDArray[Any], factors: NDArray[np.float64], sums: NDArray[np.float64], work: NDArray[Any], start: int, stop: int
) -> None: ...
def symmetric(sums: NDArray[np.float64], H: NDArray[np.float64]) -> None: ...
def curvatures(t: Terms, z: NDArray[np.float64], start: int, stop: int) -> None: ...
def bends(t: Terms, z: NDArray[np.float64], start: int, stop: int) -> None: ...
def dense_products(
    t: Terms, X: NDArray[Any], v: NDArray[np.float64], bends: NDArray[np.float64], product: NDArray[np.float64],
    work: NDArray[np.float64], start: int, stop: int,
) -> None: ...  # fmt: skip
def sparse_products(
    t: Terms, values: NDArray[Any], columns: NDArray[Any], indptr: NDArray[Any],
    v: NDArray[np.float64], bends: NDArray[np.float64], product: NDArray[np.float64], work: NDArray[np.float64],
    start: int, stop: int,
) -> None: ...  # fmt: skip
def along(
    t: Terms, z: NDArray[np.float64], dz: NDArray[np.float64], step: float, work: NDArray[np.float64],
    start: int, stop: int,
) -> tuple[float, float]: ...  # fmt: skip
