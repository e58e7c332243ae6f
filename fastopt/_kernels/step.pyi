from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

TABLE_WIDTH: int
SLOTS: int
RULES: dict[str, int]
DENSE: dict[str, Callable[..., None]]

def dense(
    kind: int, hyper: NDArray[np.float64], row: tuple[float, ...], w: NDArray[Any], g: NDArray[Any],
    a: NDArray[Any], b: NDArray[Any], c: NDArray[Any], l1: float = 0,
) -> None: ...  # fmt: skip
def average(w: NDArray[Any], ema: NDArray[Any], momentum: float) -> None: ...
def touch(
    kind: int, hyper: NDArray[np.float64], table: NDArray[np.float64], step: int, columns: NDArray[np.int64],
    stamp: NDArray[np.int32], w: NDArray[Any], a: NDArray[Any], b: NDArray[Any], c: NDArray[Any],
) -> None: ...  # fmt: skip
def sparse(
    kind: int, hyper: NDArray[np.float64], row: NDArray[np.float64], columns: NDArray[np.int64], g: NDArray[Any],
    w: NDArray[Any], a: NDArray[Any], b: NDArray[Any], c: NDArray[Any],
) -> None: ...  # fmt: skip
