import numpy as np
from numpy.typing import NDArray
from typing_extensions import disjoint_base

LOSSES: dict[str, int]

@disjoint_base
class Plan:
    loss: int
    rule: int
    loss_parameter: float
    alpha: float
    scale: float
    batch_size: int
    n_features: int
    n_outputs: int
    width: int
    intercept: bool
    lazy: bool
    distinct: bool

    def __init__(
        self, loss: int, loss_parameter: float, alpha: float, y: NDArray[np.float64], weights: NDArray[np.float64],
        n_features: int, n_outputs: int, intercept: bool, batch_size: int, l2: NDArray[np.float64],
        stamp: NDArray[np.int32], touched: NDArray[np.intp], distinct: bool,
    ) -> None: ...  # fmt: skip
    def begin(
        self, order: NDArray[np.intp], rule: int, hyper: NDArray[np.float64], table: NDArray[np.float64], lazy: bool
    ) -> None: ...
    def reset(self) -> None: ...
