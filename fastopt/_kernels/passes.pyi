from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import disjoint_base

@disjoint_base
class Terms:
    def __init__(
        self, loss: int, loss_parameter: float, y: NDArray[np.float64], weights: NDArray[np.float64],
        n_features: int, n_outputs: int, intercept: bool,
    ) -> None: ...  # fmt: skip

def dense_loss(
    t: Terms, X: NDArray[Any], w: NDArray[np.float64], g: NDArray[np.float64], z: NDArray[np.float64],
    start: int, stop: int,
) -> float: ...  # fmt: skip
def sparse_loss(
    t: Terms, values: NDArray[Any], columns: NDArray[Any], indptr: NDArray[Any],
    w: NDArray[np.float64], g: NDArray[np.float64], z: NDArray[np.float64], start: int, stop: int,
) -> float: ...  # fmt: skip
def dense_hessian(
    t: Terms, X: NDArray[Any], w: NDArray[np.float64], v: NDArray[np.float64], product: NDArray[np.float64],
    zu: NDArray[np.float64], start: int, stop: int,
) -> None: ...  # fmt: skip
def sparse_hessian(
    t: Terms, values: NDArray[Any], columns: NDArray[Any], indptr: NDArray[Any],
    w: NDArray[np.float64], v: NDArray[np.float64], product: NDArray[np.float64], zu: NDArray[np.float64],
    start: int, stop: int,
) -> None: ...  # fmt: skip
def dense_predict(
    t: Terms, X: NDArray[Any], w: NDArray[np.float64], scores: NDArray[np.float64], start: int, stop: int
) -> None: ...
def sparse_predict(
    t: Terms, values: NDArray[Any], columns: NDArray[Any], indptr: NDArray[Any],
    w: NDArray[np.float64], scores: NDArray[np.float64], start: int, stop: int,
) -> None: ...  # fmt: skip
def curvatures(t: Terms, z: NDArray[np.float64], start: int, stop: int) -> None: ...
def dense_moments(t: Terms, X: NDArray[Any], moments: NDArray[np.float64], start: int, stop: int) -> None: ...
def sparse_moments(
    t: Terms, values: NDArray[Any], columns: NDArray[Any], indptr: NDArray[Any], moments: NDArray[np.float64],
    start: int, stop: int,
) -> None: ...  # fmt: skip
def exponential(x: NDArray[Any]) -> None: ...
