from typing import Any

from numpy.typing import NDArray

from fastopt._kernels.plan import Plan

def epoch(
    plan: Plan, values: NDArray[Any], columns: NDArray[Any], indptr: NDArray[Any], params: NDArray[Any],
    records: NDArray[Any], small: NDArray[Any], z: NDArray[Any], start: int, stop: int,
) -> None: ...  # fmt: skip
def pack(plan: Plan, params: NDArray[Any], records: NDArray[Any], small: NDArray[Any]) -> None: ...
def unpack(plan: Plan, params: NDArray[Any], records: NDArray[Any], small: NDArray[Any], steps: int) -> None: ...
