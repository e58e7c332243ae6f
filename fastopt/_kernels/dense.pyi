from typing import Any

from numpy.typing import NDArray

from fastopt._kernels.plan import Plan

def width(n_outputs: int, itemsize: int) -> int: ...
def epoch(
    plan: Plan, X: NDArray[Any], params: NDArray[Any], z: NDArray[Any], packed: NDArray[Any], start: int, stop: int
) -> None: ...  # fmt: skip
