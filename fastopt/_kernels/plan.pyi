import numpy as np
from numpy.typing import NDArray
from typing_extensions import disjoint_base

LOSSES: dict[str, int]

@disjoint_base
class Plan:
    loss: int
    rule: int
    loss_parameter: float
    alpha: float
    l1: float
    scale: float
    clipnorm: float
    clipvalue: float
    ema_momentum: float
    batch_size: int
    n_features: int
    n_outputs: int
    n_targets: int
    n_weights: int
    width: int
    ema_row: int
    scale_row: int
    first_step: int
    intercept: bool
    eager: bool
    distinct: bool
    clips: bool
    weighs_l2: bool
    weighs_l1: bool
    own_l1: bool

    def __init__(
        self, loss: int, loss_parameter: float, alpha: float, y: NDArray[np.float64], weights: NDArray[np.float64],
        n_features: int, n_outputs: int, intercept: bool, batch_size: int,
        touched: NDArray[np.intp], first: NDArray[np.int32], local: NDArray[np.int32], distinct: bool,
    ) -> None: ...  # fmt: skip
    def begin(
        self, order: NDArray[np.intp], table: NDArray[np.float64], hyper: NDArray[np.float64], first_step: int
    ) -> None: ...
    def use(
        self, rule: int, intercept_hyper: NDArray[np.float64], slot_rows: NDArray[np.intp], eager: bool,
        clipnorm: float, clipvalue: float, ema_row: int, ema_momentum: float,
    ) -> None: ...  # fmt: skip
    def shrink_by(self, l1: float, inverse_shares: NDArray[np.float64], weighs_l2: bool, weighs_l1: bool) -> None: ...
    def vary(self, scale_row: int, own_l1: bool) -> None: ...
    def reset(self) -> None: ...
