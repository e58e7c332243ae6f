from typing import Any

from numpy.typing import NDArray

from fastopt._kernels.plan import Plan

def epoch(plan: Plan, X: NDArray[Any], params: NDArray[Any], z: NDArray[Any], start: int, stop: int) -> None: ...
