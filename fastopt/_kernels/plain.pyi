from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import disjoint_base

from fastopt._kernels.plan import Plan

HISTORY: int

@disjoint_base
class Extras:
    l1: float
    owed: float
    bound: float
    passive: int
    truncated: bool
    guarded: bool
    measures: bool
    keeps_norms: bool
    calms: bool
    average_row: int
    paid_row: int
    first_averaged: int

    def __init__(
        self, l1: float, truncated: bool, passive: int, bound: float, guarded: bool, measures: bool, calms: bool,
        average_row: int, paid_row: int, norms: NDArray[np.float64], sums: NDArray[np.float64],
        seen: NDArray[np.float64], joined: NDArray[np.float64], mark: NDArray[np.int64],
        touched: NDArray[np.int64], moves: NDArray[np.float64],
    ) -> None: ...  # fmt: skip
    def begin(self, history: NDArray[np.float64], owed: float, first_averaged: int) -> None: ...

def dense_epoch(
    plan: Plan, e: Extras, X: NDArray[Any], params: NDArray[Any], z: NDArray[Any], start: int, stop: int
) -> None: ...
def dense_epochs(
    plan: Plan, e: Extras, X: NDArray[Any], params: NDArray[Any], z: NDArray[Any], sums: NDArray[np.float64],
    n_steps: int,
) -> int: ...  # fmt: skip
def sparse_epoch(
    plan: Plan, e: Extras, values: NDArray[Any], columns: NDArray[Any], indptr: NDArray[Any],
    params: NDArray[Any], z: NDArray[Any], start: int, stop: int,
) -> None: ...  # fmt: skip
def sparse_epochs(
    plan: Plan, e: Extras, values: NDArray[Any], columns: NDArray[Any], indptr: NDArray[Any],
    params: NDArray[Any], z: NDArray[Any], sums: NDArray[np.float64], n_steps: int,
) -> int: ...  # fmt: skip
def checking_epoch(
    plan: Plan, e: Extras, values: NDArray[Any], columns: NDArray[Any], indptr: NDArray[Any], params: NDArray[Any],
    start: int, stop: int,
) -> tuple[int, bool, bool]: ...  # fmt: skip
def norms(plan: Plan, e: Extras, params: NDArray[Any]) -> None: ...
def wait(e: Extras, params: NDArray[Any]) -> None: ...
def finish(plan: Plan, e: Extras, params: NDArray[Any], steps: int) -> None: ...
