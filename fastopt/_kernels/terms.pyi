import numpy as np
from numpy.typing import NDArray
from typing_extensions import disjoint_base

BLOCK: int

@disjoint_base
class Terms:
    width: int
    def __init__(
        self, loss: int, loss_parameter: float, y: NDArray[np.float64], weights: NDArray[np.float64],
        n_features: int, n_outputs: int, intercept: bool,
    ) -> None: ...  # fmt: skip
