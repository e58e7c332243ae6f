from typing import Any

from numpy.typing import NDArray

from fastopt._kernels.plan import Plan

def epoch(
    plan: Plan, values: NDArray[Any], columns: NDArray[Any], indptr: NDArray[Any],
    params: NDArray[Any], z: NDArray[Any], start: int, stop: int,
) -> None: ...  # fmt: skip
def finish(plan: Plan, w: NDArray[Any]) -> None: ...
