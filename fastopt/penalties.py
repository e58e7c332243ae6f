"""Penalties on the coefficients; the intercept is never penalised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fastopt._validation import check_real

__all__ = ["L1", "L2", "PENALTIES", "ElasticNet", "Penalty"]


@dataclass(frozen=True)
class Penalty:
    """Base of all penalties: ``l2 / 2 ||w||_2^2 + l1 ||w||_1`` of coefficients w of any shape.

    Parameters
    ----------
    alpha : float >= 0, default 1e-4
        Strength.
    """

    name: ClassVar[str]
    alpha: float = 1e-4

    def __post_init__(self) -> None:
        check_real("alpha", self.alpha, low=0)

    @property
    def l2(self) -> float:
        """Strength of ``||w||_2^2 / 2``."""
        return 0.0

    @property
    def l1(self) -> float:
        """Strength of ``||w||_1``."""
        return 0.0

    def value(self, w: NDArray[np.float64]) -> float:
        """``l2 / 2 ||w||_2^2 + l1 ||w||_1``."""
        flat = w.ravel()
        value = 0.5 * self.l2 * float(flat @ flat)
        return value + self.l1 * float(np.abs(flat).sum()) if self.l1 else value

    def gradient(self, w: NDArray[np.float64]) -> NDArray[np.float64]:
        """Gradient of the smooth part, ``l2 w``, shape of w."""
        return self.l2 * w

    def subgradient(self, w: NDArray[np.float64], g: NDArray[np.float64]) -> NDArray[np.float64]:
        """The subgradient of least norm of ``f(w) + l1 ||w||_1``, where g is the gradient of f at w.

        ``g_j + l1 sign(w_j)`` where w_j is not zero, else g_j moved towards zero by l1: zero where ``|g_j| <= l1``.
        """
        if not self.l1:
            return g
        return np.asarray(np.where(w != 0, g + self.l1 * np.sign(w), soft_threshold(g, self.l1)))


@dataclass(frozen=True)
class L2(Penalty):
    """``alpha / 2 ||w||_2^2``."""

    name: ClassVar[str] = "l2"

    @property
    def l2(self) -> float:
        """alpha."""
        return self.alpha


@dataclass(frozen=True)
class L1(Penalty):
    """``alpha ||w||_1``."""

    name: ClassVar[str] = "l1"

    @property
    def l1(self) -> float:
        """alpha."""
        return self.alpha


@dataclass(frozen=True)
class ElasticNet(Penalty):
    """``alpha ((1 - l1_ratio) / 2 ||w||_2^2 + l1_ratio ||w||_1)``.

    Parameters
    ----------
    alpha : float >= 0, default 1e-4
        Strength.
    l1_ratio : float in [0, 1], default 0.15
        Share of L1.

    References
    ----------
    Zou, Hastie, "Regularization and variable selection via the elastic net", JRSS B 67(2), 2005.

    Examples
    --------
    >>> ElasticNet(alpha=1.0, l1_ratio=0.5).value(np.array([3.0, -4.0]))
    9.75
    """

    name: ClassVar[str] = "elasticnet"
    l1_ratio: float = 0.15

    def __post_init__(self) -> None:
        super().__post_init__()
        check_real("l1_ratio", self.l1_ratio, low=0, high=1)

    @property
    def l2(self) -> float:
        """``alpha (1 - l1_ratio)``."""
        return self.alpha * (1 - self.l1_ratio)

    @property
    def l1(self) -> float:
        """``alpha l1_ratio``."""
        return self.alpha * self.l1_ratio


def soft_threshold(x: NDArray[np.float64], by: float) -> NDArray[np.float64]:
    """x moved towards zero by `by`, and no further: the proximal operator of ``by ||x||_1``."""
    return np.asarray(np.sign(x) * np.maximum(np.abs(x) - by, 0.0))


#: Every penalty by scikit-learn's name.
PENALTIES: dict[str, type[Penalty]] = {cls.name: cls for cls in (L2, L1, ElasticNet)}
