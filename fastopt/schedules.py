"""Learning-rate schedules: the number of steps already taken -> the learning rate of the next step.

Every schedule takes a step number (0 for the first step) or an array of them. Any other callable of the step number is
a schedule too; the classes here are faster, can be compared, pickled and typed back.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastopt._validation import check_bool, check_fraction, check_integer, check_positive, check_real

__all__ = [
    "SCHEDULES",
    "Constant",
    "Cosine",
    "Exponential",
    "InverseScaling",
    "InverseTime",
    "OneCycle",
    "Schedule",
    "StepDecay",
    "learning_rates",
]

Steps = NDArray[np.float64]


@dataclass(frozen=True)
class Schedule:
    """Base of all schedules: callable with a step number or an array of them."""

    #: Whether the learning rate is a smooth function of the step: what closed forms for idle steps may rely on.
    smooth: ClassVar[bool] = True

    def __call__(self, step: Any) -> Any:
        """Learning rate of the step after `step` steps."""
        rates = self._rates(np.asarray(step, dtype=np.float64))
        return float(rates) if np.ndim(step) == 0 else rates

    def _rates(self, k: Steps) -> Steps:
        raise NotImplementedError


@dataclass(frozen=True)
class Constant(Schedule):
    """``learning_rate`` at every step.

    Examples
    --------
    >>> Constant(0.1)(1000)
    0.1
    """

    learning_rate: float = 0.01

    def __post_init__(self) -> None:
        check_real("learning_rate", self.learning_rate, low=0)

    def _rates(self, k: Steps) -> Steps:
        return np.full(k.shape, float(self.learning_rate))


@dataclass(frozen=True)
class InverseTime(Schedule):
    """``initial / (1 + decay k)``, k the steps taken: Keras's ``InverseTimeDecay`` and the ``decay`` of the optimizers.

    Parameters
    ----------
    initial : float
        Learning rate of the first step.
    decay : float
        Per step.

    Examples
    --------
    >>> InverseTime(0.1, decay=0.5)(2)
    0.05
    """

    initial: float = 0.01
    decay: float = 0.0

    def __post_init__(self) -> None:
        check_real("initial", self.initial, low=0)
        check_real("decay", self.decay, low=0)

    def _rates(self, k: Steps) -> Steps:
        return self.initial / (1 + self.decay * k)


@dataclass(frozen=True)
class InverseScaling(Schedule):
    """``initial / (k + 1)^power_t``: scikit-learn's ``learning_rate="invscaling"`` with ``eta0`` and ``power_t``.

    Examples
    --------
    >>> InverseScaling(0.1, power_t=0.5)(3)
    0.05
    """

    initial: float = 0.01
    power_t: float = 0.25

    def __post_init__(self) -> None:
        check_real("initial", self.initial, low=0)
        check_real("power_t", self.power_t)

    def _rates(self, k: Steps) -> Steps:
        return self.initial / (k + 1) ** self.power_t


@dataclass(frozen=True)
class Exponential(Schedule):
    """``initial * decay_rate^(k / decay_steps)``: Keras's ``ExponentialDecay``.

    Examples
    --------
    >>> Exponential(1.0, decay_steps=10, decay_rate=0.5)(20)
    0.25
    """

    initial: float = 0.01
    decay_steps: int = 1000
    decay_rate: float = 0.96

    def __post_init__(self) -> None:
        check_real("initial", self.initial, low=0)
        check_integer("decay_steps", self.decay_steps, low=1)
        check_positive("decay_rate", self.decay_rate)

    def _rates(self, k: Steps) -> Steps:
        return self.initial * self.decay_rate ** (k / self.decay_steps)


@dataclass(frozen=True)
class StepDecay(Schedule):
    """``initial * factor^floor(k / every)``: a staircase.

    Examples
    --------
    >>> StepDecay(1.0, every=10, factor=0.5)([0, 9, 10, 25])
    array([1.  , 1.  , 0.5 , 0.25])
    """

    smooth: ClassVar[bool] = False
    initial: float = 0.01
    every: int = 1000
    factor: float = 0.5

    def __post_init__(self) -> None:
        check_real("initial", self.initial, low=0)
        check_integer("every", self.every, low=1)
        check_positive("factor", self.factor)

    def _rates(self, k: Steps) -> Steps:
        return self.initial * self.factor ** np.floor(k / self.every)


@dataclass(frozen=True)
class Cosine(Schedule):
    """Cosine annealing with warm-up and warm restarts.

    Rises linearly from ``final`` to ``initial`` over ``warmup_steps``, then follows half a cosine down to ``final``
    over ``decay_steps``. With ``restarts`` it starts again, each period ``period_factor`` times as long and its top
    ``top_factor`` times as high; without, it stays at ``final``.

    References
    ----------
    Loshchilov, Hutter, "SGDR: Stochastic gradient descent with warm restarts", ICLR 2017, eq. (5).

    Examples
    --------
    >>> Cosine(1.0, decay_steps=100)([0, 50, 100, 1000]).round(6)
    array([1. , 0.5, 0. , 0. ])
    """

    smooth: ClassVar[bool] = False  # kinks at the end of the warm-up and at every restart
    initial: float = 0.01
    decay_steps: int = 1000
    final: float = 0.0
    warmup_steps: int = 0
    restarts: bool = False
    period_factor: float = 1.0
    top_factor: float = 1.0

    def __post_init__(self) -> None:
        check_real("initial", self.initial, low=0)
        check_real("final", self.final, low=0)
        check_integer("decay_steps", self.decay_steps, low=1)
        check_integer("warmup_steps", self.warmup_steps, low=0)
        check_bool("restarts", self.restarts)
        check_real("period_factor", self.period_factor, low=1)
        check_positive("top_factor", self.top_factor)

    def _rates(self, k: Steps) -> Steps:
        after = np.maximum(k - self.warmup_steps, 0)
        period: Any = float(self.decay_steps)
        top: Any = float(self.initial)
        if self.restarts:
            if self.period_factor == 1:
                round_ = np.floor(after / period)
                after = after - round_ * period
            else:
                f = self.period_factor
                round_ = np.floor(np.log1p(after / period * (f - 1)) / math.log(f) + 1e-12)
                after = after - period * (f**round_ - 1) / (f - 1)
                period = period * f**round_
            top = self.final + (top - self.final) * self.top_factor**round_
        share = np.clip(after / period, 0, 1)
        rates: Steps = self.final + (top - self.final) * 0.5 * (1 + np.cos(np.pi * share))
        if self.warmup_steps:
            rising = self.final + (self.initial - self.final) * (k + 1) / self.warmup_steps
            rates = np.where(k < self.warmup_steps, rising, rates)
        return rates


@dataclass(frozen=True)
class OneCycle(Schedule):
    """One cycle: cosine from ``peak / start_divisor`` up to ``peak``, then down to ``peak / final_divisor``.

    The rise takes ``rise`` of all ``total_steps``.

    References
    ----------
    Smith, Topin, "Super-convergence: very fast training of neural networks using large learning rates", 2019.

    Examples
    --------
    >>> OneCycle(1.0, total_steps=100, rise=0.5, start_divisor=10, final_divisor=1000)([0, 50, 100]).round(6)
    array([0.1  , 1.   , 0.001])
    """

    smooth: ClassVar[bool] = False  # kinks at the peak and at the end
    peak: float = 0.1
    total_steps: int = 1000
    rise: float = 0.3
    start_divisor: float = 25.0
    final_divisor: float = 1e4

    def __post_init__(self) -> None:
        check_real("peak", self.peak, low=0)
        check_integer("total_steps", self.total_steps, low=1)
        check_fraction("rise", self.rise)
        check_positive("start_divisor", self.start_divisor)
        check_positive("final_divisor", self.final_divisor)

    def _rates(self, k: Steps) -> Steps:
        turn = self.rise * self.total_steps
        start, final = self.peak / self.start_divisor, self.peak / self.final_divisor
        up = np.clip(k / turn, 0, 1) if turn else np.ones(k.shape)
        down = np.clip((k - turn) / max(self.total_steps - turn, 1e-300), 0, 1)
        rising = start + (self.peak - start) * 0.5 * (1 - np.cos(np.pi * up))
        falling = final + (self.peak - final) * 0.5 * (1 + np.cos(np.pi * down))
        return np.where(k < turn, rising, falling)


#: Every schedule by the name that reports and docs use.
SCHEDULES: dict[str, type[Schedule]] = {
    "constant": Constant,
    "inverse_time": InverseTime,
    "inverse_scaling": InverseScaling,
    "exponential": Exponential,
    "step": StepDecay,
    "cosine": Cosine,
    "one_cycle": OneCycle,
}


def learning_rates(schedule: float | Callable[[int], float], start: int, stop: int) -> Steps:
    """Learning rates of the steps after ``start .. stop - 1`` steps, float64 (stop - start,).

    Raises
    ------
    ValueError
        If the schedule gives a rate that is negative or not finite.
    """
    if not callable(schedule):
        return np.full(stop - start, float(schedule))
    if isinstance(schedule, Schedule):
        return schedule._rates(np.arange(start, stop, dtype=np.float64))
    return np.fromiter((given_rate(schedule, k) for k in range(start, stop)), dtype=np.float64, count=stop - start)


def given_rate(schedule: Callable[..., object], k: int) -> float:
    """What a function gives after k steps. Raises ValueError where that is no finite number >= 0."""
    given: Any = schedule(k)
    try:
        rate = float(given)
    except (TypeError, ValueError):
        rate = math.nan
    if not 0 <= rate < math.inf:
        raise ValueError(f"learning_rate must give finite rates >= 0; got {given!r}. It did so after {k:.0f} steps.")
    return rate
