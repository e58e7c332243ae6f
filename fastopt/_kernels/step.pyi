from typing import Any

import numpy as np
from numpy.typing import NDArray

TABLE_WIDTH: int
RULES: dict[str, int]

def dense(
    kind: int, hyper: NDArray[np.float64], row: NDArray[np.float64], w: NDArray[Any], g: NDArray[Any],
    a: NDArray[Any], b: NDArray[Any], c: NDArray[Any],
) -> None: ...  # fmt: skip
