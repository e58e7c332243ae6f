"""Pointwise losses of a target y and a raw prediction z = x.w + b."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from fastopt._validation import check_between, check_positive, check_real

__all__ = [
    "LOSSES", "EpsilonInsensitive", "Gamma", "Hinge", "Huber", "Logistic", "Loss", "ModifiedHuber", "Multinomial",
    "Perceptron", "Poisson", "Quantile", "Squared", "SquaredEpsilonInsensitive", "SquaredHinge",
]  # fmt: skip


@dataclass(frozen=True)
class Loss:
    """Base of all losses."""

    #: scikit-learn's name, also the kernels'.
    name: ClassVar[str]
    #: "binary" (y is -1 or +1), "multiclass" (y is a class number), or "regression".
    targets: ClassVar[str]
    #: Largest second derivative in z: Lipschitz constant of the slope (inf where there is none).
    max_curvature: ClassVar[float]
    #: Whether its slope is bounded: steps by themselves do not grow until numbers overflow.
    bounded_slope: ClassVar[bool] = False
    #: The smallest target that the loss is defined for.
    lowest: ClassVar[float] = -math.inf

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
    bounded_slope: ClassVar[bool] = True


@dataclass(frozen=True)
class Multinomial(Loss):
    """``logsumexp(z) - z_y``, y in 0 .. K-1, z of K outputs: the softmax loss."""

    name: ClassVar[str] = "multinomial"
    targets: ClassVar[str] = "multiclass"
    max_curvature: ClassVar[float] = 0.5
    bounded_slope: ClassVar[bool] = True


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
    """``r^2 / 2`` for ``r = |z - y| <= epsilon``, ``epsilon r - epsilon^2 / 2`` beyond."""

    name: ClassVar[str] = "huber"
    targets: ClassVar[str] = "regression"
    max_curvature: ClassVar[float] = 1.0
    bounded_slope: ClassVar[bool] = True
    epsilon: float = 0.1

    def __post_init__(self) -> None:
        check_positive("epsilon", self.epsilon)

    @property
    def parameter(self) -> float:
        """The width of the quadratic part."""
        return self.epsilon


@dataclass(frozen=True)
class Hinge(Loss):
    """``max(0, 1 - y z)``, y in {-1, +1}: the linear SVM's loss; its slope at the kink is -y."""

    name: ClassVar[str] = "hinge"
    targets: ClassVar[str] = "binary"
    max_curvature: ClassVar[float] = math.inf
    bounded_slope: ClassVar[bool] = True


@dataclass(frozen=True)
class Perceptron(Loss):
    """``max(0, -y z)``, y in {-1, +1}; its slope at the kink z = 0, where training starts, is -y."""

    name: ClassVar[str] = "perceptron"
    targets: ClassVar[str] = "binary"
    max_curvature: ClassVar[float] = math.inf
    bounded_slope: ClassVar[bool] = True


@dataclass(frozen=True)
class ModifiedHuber(Loss):
    """``max(0, 1 - y z)^2`` for y z >= -1, ``-4 y z`` below, y in {-1, +1}.

    References
    ----------
    Zhang, "Solving large scale linear prediction problems using stochastic gradient descent algorithms", ICML 2004.
    """

    name: ClassVar[str] = "modified_huber"
    targets: ClassVar[str] = "binary"
    max_curvature: ClassVar[float] = 2.0
    bounded_slope: ClassVar[bool] = True


@dataclass(frozen=True)
class EpsilonInsensitive(Loss):
    """``max(0, |z - y| - epsilon)``; its slope at the kinks is 0."""

    name: ClassVar[str] = "epsilon_insensitive"
    targets: ClassVar[str] = "regression"
    max_curvature: ClassVar[float] = math.inf
    bounded_slope: ClassVar[bool] = True
    epsilon: float = 0.1

    def __post_init__(self) -> None:
        check_real("epsilon", self.epsilon, low=0)

    @property
    def parameter(self) -> float:
        """Half the width of what costs nothing."""
        return self.epsilon


@dataclass(frozen=True)
class SquaredEpsilonInsensitive(Loss):
    """``max(0, |z - y| - epsilon)^2``."""

    name: ClassVar[str] = "squared_epsilon_insensitive"
    targets: ClassVar[str] = "regression"
    max_curvature: ClassVar[float] = 2.0
    epsilon: float = 0.1

    def __post_init__(self) -> None:
        check_real("epsilon", self.epsilon, low=0)

    @property
    def parameter(self) -> float:
        """Half the width of what costs nothing."""
        return self.epsilon


@dataclass(frozen=True)
class Poisson(Loss):
    """``exp(z) - y z``, y >= 0: half the Poisson deviance with log link, up to a term in y alone.

    The predicted mean is exp(z). Infinite where exp(z) is beyond a double (z > 709).
    """

    name: ClassVar[str] = "poisson"
    targets: ClassVar[str] = "regression"
    max_curvature: ClassVar[float] = math.inf
    lowest: ClassVar[float] = 0.0


@dataclass(frozen=True)
class Gamma(Loss):
    """``y exp(-z) + z``, y > 0: half the gamma deviance with log link, up to a term in y alone.

    The predicted mean is exp(z). Infinite where exp(-z) is beyond a double (z < -709).
    """

    name: ClassVar[str] = "gamma"
    targets: ClassVar[str] = "regression"
    max_curvature: ClassVar[float] = math.inf
    lowest: ClassVar[float] = math.ulp(0.0)


@dataclass(frozen=True)
class Quantile(Loss):
    """``q (y - z)`` for y >= z, ``(1 - q) (z - y)`` below: the pinball loss of the quantile q in (0, 1).

    q = 0.5 is half the absolute error. Its slope at the kink is -q.

    References
    ----------
    Koenker, Bassett, "Regression quantiles", Econometrica 46(1), 1978.
    """

    name: ClassVar[str] = "quantile"
    targets: ClassVar[str] = "regression"
    max_curvature: ClassVar[float] = math.inf
    bounded_slope: ClassVar[bool] = True
    quantile: float = 0.5

    def __post_init__(self) -> None:
        check_between("quantile", self.quantile, low=0, high=1)

    @property
    def parameter(self) -> float:
        """q."""
        return self.quantile


#: Every loss by scikit-learn's name.
LOSSES: dict[str, type[Loss]] = {
    cls.name: cls
    for cls in (
        Logistic, Multinomial, Squared, SquaredHinge, Huber, Hinge, Perceptron, ModifiedHuber, EpsilonInsensitive,
        SquaredEpsilonInsensitive, Poisson, Gamma, Quantile,
    )
}  # fmt: skip
