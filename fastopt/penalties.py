"""Penalties on the coefficients; the intercept is never penalised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fastopt._validation import check_real

__all__ = ["L2", "PENALTIES", "Penalty"]


@dataclass(frozen=True)
class Penalty:
    """Base of all penalties."""

    name: ClassVar[str]
    alpha: float = 1e-4

    def __post_init__(self) -> None:
        check_real("alpha", self.alpha, low=0)

    def value(self, w: NDArray[np.float64]) -> float:
        """The penalty of coefficients w, any shape."""
        raise NotImplementedError

    def gradient(self, w: NDArray[np.float64]) -> NDArray[np.float64]:
        """Its gradient, shape of w."""
        raise NotImplementedError


@dataclass(frozen=True)
class L2(Penalty):
    """``alpha / 2 ||w||_2^2``."""

    name: ClassVar[str] = "l2"

    def value(self, w: NDArray[np.float64]) -> float:
        """``alpha / 2 ||w||_2^2``."""
        flat = w.ravel()
        return 0.5 * self.alpha * float(flat @ flat)

    def gradient(self, w: NDArray[np.float64]) -> NDArray[np.float64]:
        """``alpha w``."""
        return self.alpha * w


#: Every penalty by scikit-learn's name.
PENALTIES: dict[str, type[Penalty]] = {cls.name: cls for cls in (L2,)}
