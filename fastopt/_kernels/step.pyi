from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import disjoint_base

TABLE_WIDTH: int
SLOTS: int
RULES: dict[str, int]

@disjoint_base
class Stepper:
    def __init__(
        self, kind: int, hyper: NDArray[np.float64], slots: tuple[str | None, ...], scalars: tuple[str, ...],
        rate: float | None, row: tuple[float, ...] | None, same: bool,
    ) -> None: ...  # fmt: skip
    def step(self, rule: Any, w: Any, g: Any, state: Any) -> bool: ...

def overlapping(arrays: list[NDArray[Any]], last_may_be_one: bool) -> tuple[int, int] | None: ...
def dense(
    kind: int, hyper: NDArray[np.float64], row: tuple[float, ...], w: NDArray[Any], g: NDArray[Any],
    a: NDArray[Any], b: NDArray[Any], c: NDArray[Any], l1: float = 0,
) -> None: ...  # fmt: skip
def bias_corrected(lr: Any, power_1: Any, power_2: Any = None) -> Any: ...
def nadam_gains(lr: Any, u: Any, following: Any, product: Any) -> tuple[Any, Any]: ...
def average(w: NDArray[Any], ema: NDArray[Any], momentum: float) -> None: ...
def touch(
    kind: int, hyper: NDArray[np.float64], table: NDArray[np.float64], step: int, columns: NDArray[np.int64],
    stamp: NDArray[np.int32], w: NDArray[Any], a: NDArray[Any], b: NDArray[Any], c: NDArray[Any],
) -> None: ...  # fmt: skip
def sparse(
    kind: int, hyper: NDArray[np.float64], row: NDArray[np.float64], columns: NDArray[np.int64], g: NDArray[Any],
    w: NDArray[Any], a: NDArray[Any], b: NDArray[Any], c: NDArray[Any],
) -> None: ...  # fmt: skip
