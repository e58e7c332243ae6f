"""F and epochs over data that come chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastopt._design import Design
from fastopt._order import shuffled
from fastopt.objective import Objective
from fastopt.optimizers import GradientDescent, Optimizer
from fastopt.solvers.epochs import Epochs

__all__ = ["ChunkedEpochs", "ChunkedObjective"]

Float64 = NDArray[np.float64]
#: A chunk: its rows, targets, and sample weights or None.
Chunk = tuple[Design, Float64, Float64 | None]


class ChunkedObjective(Objective):
    """F over all the chunks: every value and gradient is a pass over them.

    Parameters
    ----------
    read : callable
        ``read()``: a new iterator of (design, y, sample weights or None), validated.
    sizes : list of int
        Rows of each chunk.
    total : float
        Sum of all sample weights.
    **terms
        Those of `Objective`.

    Notes
    -----
    Its `design`, `y` and `weights` are those of the first chunk with a weight > 0.
    """

    def __init__(self, read: Callable[[], Iterator[Chunk]], sizes: list[int], total: float, **terms: Any) -> None:
        self.read, self.sizes, self.total, self.terms = read, sizes, total, terms
        first = next((chunk for chunk in read() if chunk[2] is None or chunk[2].any()), None)
        if first is None:
            remedy = "Give a function that returns a new iterator each time it is called."
            raise ValueError(f"source must give the same chunks each time; got none after {len(sizes)}. {remedy}")
        design, y, weights = first
        super().__init__(design, y, sample_weight=weights, **terms)
        self.part = Objective(design, y, sample_weight=weights, **terms)
        self.n_samples = sum(sizes)

    def chunks(self) -> Iterator[tuple[int, Objective]]:
        """The number and the objective of each chunk with a weight > 0; weights are divided by the mean over all."""
        count = 0
        for i, (design, y, weights) in enumerate(self.read()):
            if i >= len(self.sizes) or design.shape[0] != self.sizes[i]:
                text = f"got {design.shape[0]} rows in chunk {i}."
                raise ValueError(f"source must give the same chunks each time; {text}")
            count += 1
            if weights is not None and not weights.any():
                continue
            objective = Objective(design, y, sample_weight=weights, **self.terms)
            if weights is not None:
                objective.weights = weights * (self.n_samples / self.total)
            yield i, objective
        if count != len(self.sizes):
            raise ValueError(f"source must give the same chunks each time; got {count} after {len(self.sizes)}.")

    def share(self, objective: Objective) -> float:
        """What a chunk's mean counts in the mean over all."""
        weights = objective.sample_weight
        return (float(weights.sum()) if len(weights) else objective.n_samples) / self.total

    def room_for_raw(self) -> Float64 | None:
        """None: no pass keeps raw predictions."""
        return None

    def smooth_value_and_gradient(self, w: NDArray[Any], kept: Float64 | None = None) -> tuple[float, Float64]:
        value, g, penalised = 0.0, np.zeros(self.shape[0] * self.shape[1]), self._penalised(w)
        half, slope = 0.5 * self.l2 * float(penalised @ penalised), self.penalty.gradient(penalised)
        for _, objective in self.chunks():
            one, gradient = objective.smooth_value_and_gradient(w)
            gradient = gradient.reshape(-1)
            gradient[: penalised.size] -= slope
            share = self.share(objective)
            value += share * (one - half)
            g += share * gradient
        g[: penalised.size] += slope
        return value + half, g.reshape(np.shape(w))

    def value(self, w: NDArray[Any]) -> float:
        return self.value_and_gradient(w)[0]

    def value_at_zero(self) -> float:
        return self.value(self.zeros())

    def column_moments(self) -> tuple[Float64, Float64]:
        moments = np.zeros((2, self.n_features))
        for _, objective in self.chunks():
            moments += self.share(objective) * np.array(objective.column_moments())
        return moments[0], moments[1]

    @property
    def rated(self) -> Objective:
        """The first chunk."""
        return self.part

    def sample(self, size: int) -> Objective:
        """Of the first chunk."""
        return self.part.sample(size)


class ChunkedEpochs(Epochs):
    """Epochs over the chunks in their turn, the rows of each in the order that they have in the epoch's order."""

    def __init__(self, objective: ChunkedObjective, optimizer: Optimizer, batch_size: int | str, **how: Any) -> None:
        full = batch_size == "full" or isinstance(optimizer, GradientDescent)
        size = "full" if full else min(int(batch_size), max(objective.sizes))
        super().__init__(objective.part, optimizer, size, **how)
        self.chunked, self.full = objective, full
        if full:
            self.objective, self.batch_size = objective, objective.n_samples
        else:
            self.batch_size = int(size)
        # Idle columns make up for the rows that do not touch them, by their number in all the data.
        exact = not objective.l1 and (not objective.l2 or optimizer.exact_l2)
        self._may_wait, self._lazy = False, None if exact else False

    def order(self, rng: np.random.RandomState | np.random.Generator) -> NDArray[np.intp]:
        """Of all the rows; in each chunk they keep their order."""
        return shuffled(rng, self.chunked.n_samples)

    @property
    def most_rows(self) -> int:
        """Those of the largest chunk."""
        return self.chunked.n_samples if self.full else max(self.chunked.sizes)

    @property
    def n_steps(self) -> int:
        """Steps of one epoch."""
        return 1 if self.full else sum(-(-size // self.batch_size) for size in self.chunked.sizes)

    def run(self, order: NDArray[np.intp] | None = None, learning_rates: NDArray[np.float64] | None = None) -> None:
        """One pass over the chunks."""
        if self.full:
            super().run(None, learning_rates)
            return
        n = self.chunked.n_samples
        places = np.argsort(order) if order is not None else np.arange(n)
        rates = None if learning_rates is None else np.broadcast_to(learning_rates, self.n_steps)
        starts = np.cumsum([0, *self.chunked.sizes])
        steps = np.cumsum([0, *(-(-size // self.batch_size) for size in self.chunked.sizes)])
        for i, objective in self.chunked.chunks():
            part = Epochs(
                objective, self.optimizer, self.batch_size, w=self.w, state=self.state, lazy=self._lazy,
                variables=self.variables,
            )  # fmt: skip
            rows = np.argsort(places[starts[i] : starts[i + 1]])
            part.run(rows, None if rates is None else rates[steps[i] : steps[i + 1]])
            self.w[...] = part.w
            self._restore_state(part.state)
