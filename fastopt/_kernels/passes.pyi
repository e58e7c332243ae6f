from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastopt._kernels.terms import Terms

def dense_loss(
    t: Terms, X: NDArray[Any], w: NDArray[np.float64], raw: NDArray[np.float64], known: bool,
    g: NDArray[np.float64], work: NDArray[np.float64], start: int, stop: int,
) -> float: ...  # fmt: skip
def sparse_loss(
    t: Terms, values: NDArray[Any], columns: NDArray[Any], indptr: NDArray[Any],
    w: NDArray[np.float64], raw: NDArray[np.float64], known: bool, g: NDArray[np.float64],
    work: NDArray[np.float64], start: int, stop: int, sound: bool,
) -> float: ...  # fmt: skip
def dense_hessian(
    t: Terms, X: NDArray[Any], w: NDArray[np.float64], v: NDArray[np.float64], product: NDArray[np.float64],
    work: NDArray[np.float64], start: int, stop: int,
) -> None: ...  # fmt: skip
def sparse_hessian(
    t: Terms, values: NDArray[Any], columns: NDArray[Any], indptr: NDArray[Any],
    w: NDArray[np.float64], v: NDArray[np.float64], product: NDArray[np.float64], work: NDArray[np.float64],
    start: int, stop: int,
) -> None: ...  # fmt: skip
def dense_predict(
    t: Terms, X: NDArray[Any], w: NDArray[np.float64], scores: NDArray[np.float64], start: int, stop: int
) -> None: ...
def sparse_predict(
    t: Terms, values: NDArray[Any], columns: NDArray[Any], indptr: NDArray[Any],
    w: NDArray[np.float64], scores: NDArray[np.float64], start: int, stop: int,
) -> None: ...  # fmt: skip
def exponential(x: NDArray[Any]) -> None: ...
def logarithm(x: NDArray[np.float64]) -> None: ...
def dense_moments(t: Terms, X: NDArray[Any], moments: NDArray[np.float64], start: int, stop: int) -> None: ...
def sparse_moments(
    t: Terms, values: NDArray[Any], columns: NDArray[Any], indptr: NDArray[Any], moments: NDArray[np.float64],
    start: int, stop: int,
) -> None: ...  # fmt: skip
