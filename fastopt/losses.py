"""Pointwise losses of a target y and a raw prediction z = x.w + b."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fastopt._validation import check_positive

__all__ = ["LOSSES", "Huber", "Logistic", "Loss", "Multinomial", "Squared", "SquaredHinge"]


@dataclass(frozen=True)
class Loss:
    """Base of all losses."""

    #: scikit-learn's name, also the kernels'.
    name: ClassVar[str]
    #: "binary" (y is -1 or +1), "multiclass" (y is a class number), or "regression".
    targets: ClassVar[str]
    #: Largest second derivative in z: Lipschitz constant of the slope (inf where the loss has a kink).
    max_curvature: ClassVar[float]

    @property
    def parameter(self) -> float:
        """The loss's own parameter as the kernels take it."""
        return 0.0


@dataclass(frozen=True)
class Logistic(Loss):
    """``log(1 + exp(-y z))``, y in {-1, +1}; overflow-safe at any margin."""

    name: ClassVar[str] = "log_loss"
    targets: ClassVar[str] = "binary"
    max_curvature: ClassVar[float] = 0.25


@dataclass(frozen=True)
class Multinomial(Loss):
    """``logsumexp(z) - z_y``, y in 0 .. K-1, z of K outputs: the softmax loss."""

    name: ClassVar[str] = "multinomial"
    targets: ClassVar[str] = "multiclass"
    max_curvature: ClassVar[float] = 0.5


@dataclass(frozen=True)
class Squared(Loss):
    """``(z - y)^2 / 2``."""

    name: ClassVar[str] = "squared_error"
    targets: ClassVar[str] = "regression"
    max_curvature: ClassVar[float] = 1.0


@dataclass(frozen=True)
class SquaredHinge(Loss):
    """``max(0, 1 - y z)^2``, y in {-1, +1}."""

    name: ClassVar[str] = "squared_hinge"
    targets: ClassVar[str] = "binary"
    max_curvature: ClassVar[float] = 2.0


@dataclass(frozen=True)
class Huber(Loss):
    """``r^2 / 2`` for r = |z - y| <= epsilon, ``epsilon r - epsilon^2 / 2`` beyond."""

    name: ClassVar[str] = "huber"
    targets: ClassVar[str] = "regression"
    max_curvature: ClassVar[float] = 1.0
    epsilon: float = 0.1

    def __post_init__(self) -> None:
        check_positive("epsilon", self.epsilon)

    @property
    def parameter(self) -> float:
        """The width of the quadratic part."""
        return self.epsilon


#: Every loss by scikit-learn's name.
LOSSES: dict[str, type[Loss]] = {cls.name: cls for cls in (Logistic, Multinomial, Squared, SquaredHinge, Huber)}
