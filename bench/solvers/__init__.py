"""Contestants: one small file per peer, found by their `CONTESTANTS` lists.

To add one, write ``bench/solvers/mine.py``:

    class Mine(Contestant):
        NAME, FAMILY = "mine", "mine"

        def prepare(self, problem):                 # conversion and warm-up here, outside the clock
            return lambda budget: coef_of_shape(problem.shape)

    CONTESTANTS = [Mine()]
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import pkgutil
from collections.abc import Callable

import numpy as np

FAMILIES = ("fastopt", "pure Python", "NumPy", "scipy", "scikit-learn")  # the order of tables and plots; others follow
if os.environ.get("FASTOPT_BENCH_SOLVERS"):  # contestants of one's own, in a folder of one's own
    __path__.append(os.environ["FASTOPT_BENCH_SOLVERS"])

EPOCH_BATCHES = (1, 32, 256)


class Contestant:
    """What a contestant may offer; only `NAME`, `FAMILY` and `prepare` are needed."""

    NAME: str
    FAMILY: str
    DISTRIBUTION = ""  # whose version is shown, and what pip installs if it is missing
    REQUIRES: tuple[str, ...] = ()  # modules that it needs
    SOLVES = "F"  # said in the report when a contestant's objective is not exactly F
    RULE: str | None = None  # update rule, for contestants that are timed by the step and by the pass
    TO_TARGET = True  # whether it is timed to a gap
    STEP_LIMIT = 0  # one update of up to so many coordinates is timed; of more, this many, scaled; 0: none
    seed = 0  # of the next run: rounds differ in it
    BATCHES: tuple[int, ...] = ()  # batch sizes at which one pass of it is timed
    LAZY = False  # whether its steps on sparse rows leave idle coordinates alone: timed over 10 million columns
    CSR = True  # whether it takes sparse data
    L1 = False  # whether it takes penalties with an L1 part
    SCALING = False  # whether it is timed as rows, columns, nonzeros and classes grow
    WHOLE_PASS = True  # False: so slow that part of a pass is timed, and scaled by its share of the rows

    def missing(self) -> str | None:
        """The reason why it cannot run here at all, or None."""
        for module in self.REQUIRES:
            if importlib.util.find_spec(module) is None:
                return f"not installed: pip install {self.DISTRIBUTION or module}"
        return None

    def skip(self, problem) -> str | None:
        """The reason why this problem is not for this contestant, or None."""

    def knobs(self, problem) -> list[dict]:
        """Settings to try, outside the clock; the best one for each gap is timed."""
        return [{}]

    def prepare(self, problem, **knobs) -> Callable[[int], np.ndarray]:
        """Return run(budget): solve from zero in so many epochs or iterations; parameters of shape `problem.shape`.

        Where reading them out takes long, run may return a function that does so, outside the clock.
        """
        raise NotImplementedError

    def epoch(self, problem, batch_size: int, rows: int) -> Callable[[], object]:
        """Return run(): one shuffled pass over `rows` of the rows. Called for the batch sizes in `BATCHES` only."""

    def step(self, d: int, dtype: str) -> Callable[[], object]:
        """Return run(): one update of d coordinates with a dense gradient."""


def some(d: int, dtype: str) -> np.ndarray:
    """d numbers around zero, quickly made."""
    return np.resize(np.random.default_rng(0).standard_normal(4099).astype(dtype), d)


def binary_only(problem) -> str | None:
    return None if problem.n_classes == 2 else f"binary only; {problem.name} has {problem.n_classes} classes"


def base_step(problem) -> float:
    """1/L for the mean row: what learning rates of plain gradient methods are multiples of."""
    return 1 / (problem.mean_square_row / (4 if problem.n_outputs == 1 else 2) + problem.alpha)


def rates(problem, n_steps: int, learning_rate: float, falls: str) -> np.ndarray:
    """Learning rates of a whole run: falling linearly to zero, the effort being known beforehand; as 1/t; or never."""
    t = np.arange(n_steps)
    if falls == "never":
        return np.full(n_steps, learning_rate)
    if falls == "to zero":
        return learning_rate * (1 - t / n_steps)
    return learning_rate / (1 + learning_rate * problem.alpha * t)  # as scikit-learn's "optimal" does


def rule_knobs(rule: str | None, problem) -> list[dict]:
    """The grid of learning rates and batch sizes, the same for everyone who follows the same rule."""
    batches = (256, 4096) if problem.X.shape[0] > 100_000 else (1, 32, 256)
    if rule in ("sgd", "momentum", "nesterov"):
        base = base_step(problem) * (1 if rule == "sgd" else 0.1)
        steps = [float(f"{base * factor:.3g}") for factor in (1, 4, 16, 64)]
    elif rule == "adadelta":  # its step already has w's unit: the paper's rate is 1
        steps = [1.0, 4.0, 16.0, 64.0]
    elif rule == "ftrl":
        steps = [0.03, 0.1, 0.3, 1.0]
    else:
        steps = [0.003, 0.01, 0.03, 0.1, 0.3]
    # Ftrl's parameters are proportional to its last learning rate: it must not fall.
    grid = [(size, step, "never" if rule == "ftrl" else "to zero") for size in batches for step in steps]
    if rule == "sgd":
        grid += [(batches[0], step, "as 1/t") for step in steps]
    return [{"learning_rate": step, "batch_size": size, "falls": falls} for size, step, falls in grid]


def all_contestants() -> dict[str, Contestant]:
    """Name -> contestant, family by family."""
    found = []
    for module in pkgutil.iter_modules(__path__, __name__ + "."):
        found += getattr(importlib.import_module(module.name), "CONTESTANTS", [])
    rank = {family: i for i, family in enumerate(FAMILIES)}
    found.sort(key=lambda contestant: rank.get(contestant.FAMILY, len(rank)))
    return {contestant.NAME: contestant for contestant in found}


def words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def selected(wanted: list[str]) -> dict[str, Contestant]:
    """The contestants so named, or with such a word in their names; all of them when nothing is wanted.

    Raises ValueError for a word that is in no name.
    """
    found = all_contestants()
    for word in wanted:
        if not any(word in name for name in found):
            raise ValueError(
                f"solvers must be parts of contestants' names, which python -m bench --list shows; got {word!r}."
            )
    return {
        name: contestant
        for name, contestant in found.items()
        if not wanted or name in wanted or any(word in name for word in wanted if word not in found)
    }
