import numpy as np
from numpy.typing import NDArray

def sweep(
    H: NDArray[np.float64], r: NDArray[np.float64], v: NDArray[np.float64], l1: float, n_penalised: int, nonzero: bool
) -> float: ...
