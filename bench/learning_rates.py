"""python -m bench.learning_rates: the constant learning rate and batch size with which each rule is at a gap soonest.

Found by climbing; the time is then LogisticRegression's. Beside it stands the time with everything left at "auto",
which includes what it takes to find a rate; it is compared with the best constant rate at the same batch size. The
README's table is from here.
"""

from __future__ import annotations

from bench.machine import pin_threads

pin_threads()  # before anything imports NumPy

import argparse  # noqa: E402
import math  # noqa: E402
import warnings  # noqa: E402
from dataclasses import dataclass, replace  # noqa: E402
from statistics import median  # noqa: E402
from time import process_time  # noqa: E402

import numpy as np  # noqa: E402

from bench.optimum import find  # noqa: E402
from bench.problems import get  # noqa: E402

PROBLEMS = "breast_cancer,text_like"
#: Two rates a decade: finer than what matters.
GRID = [float(f"{mantissa}e{exponent}") for exponent in range(-6, 4) for mantissa in (1, 3)]


@dataclass(frozen=True)
class Run:
    learning_rate: float | str
    batch_size: int | str
    seconds: float
    epochs: int


NEVER = Run(math.nan, 0, math.inf, 0)


def fit(problem, rule: str, learning_rate: float | str, batch_size: int | str, epochs: int):
    """What a user calls."""
    from fastopt import LogisticRegression

    model = LogisticRegression(
        C=1 / (problem.alpha * len(problem.y)), solver=rule, learning_rate=learning_rate, batch_size=batch_size,
        max_iter=epochs, tol=0.0, random_state=0,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # max_iter ends it, as intended
        return model.fit(problem.X, problem.y)


def timed(problem, rule: str, learning_rate: float | str, batch_size, goal: float, limit: float) -> Run:
    """Seconds and epochs until F <= goal; infinite seconds beyond `limit`."""
    epochs, last = 2, False
    while True:
        history = fit(problem, rule, learning_rate, batch_size, epochs).history_
        (there,) = np.nonzero(history["objective"] <= goal)
        if len(there):
            epoch, seconds = int(history["epoch"][there[0]]), float(history["seconds"][there[0]])
            # The solver's guard undid the first epoch: then this is not the rate that was asked for.
            cut = learning_rate != "auto" and history["learning_rate"][1] < 0.99 * learning_rate
            return NEVER if cut or seconds > limit else Run(learning_rate, batch_size, seconds, epoch)
        seconds = float(history["seconds"].max())  # the last row is the best one
        if last or seconds > limit or len(history["epoch"]) < 2 or history["epoch"].max() < epochs:  # slow, or diverged
            return NEVER
        last = 2 * seconds > limit
        epochs = max(epochs + 1, int(epochs * limit / seconds)) if last else 2 * epochs


def climb(problem, rule: str, batch_sizes, goal: float, limit: float) -> tuple[Run, Run]:
    """The best rate of the grid for the first batch size, and for all: from what "auto" starts with up and down."""
    best, bests = NEVER, []
    for batch_size in batch_sizes:
        at = GRID.index(best.learning_rate) if best is not NEVER else guess(problem, rule, batch_size)
        # Too small a rate and too large a one look alike while nothing gets there: four to each side, then give up.
        for step, i in ((1, at), (-1, at - 1)):
            failures = 0
            while 0 <= i < len(GRID) and failures < (4 if best is NEVER else 2):
                run = timed(problem, rule, GRID[i], batch_size, goal, min(limit, 1.2 * best.seconds))
                failures = 0 if run.seconds < best.seconds else failures + 1
                best = min(best, run, key=lambda r: r.seconds)
                i += step
        bests.append(best)
    return bests[0], best


def own_batch_size(problem, rule: str) -> int | str:
    """What "auto" is for a problem's rows."""
    from fastopt._design import Design
    from fastopt.optimizers import get
    from fastopt.solvers.rates import auto_batch_size

    return "full" if rule == "gd" else auto_batch_size(Design.from_array(problem.X), get(rule))


def guess(problem, rule: str, batch_size) -> int:
    """Where in the grid the automatic rate is."""
    from fastopt._design import Design
    from fastopt.objective import Objective
    from fastopt.optimizers import get
    from fastopt.solvers.rates import auto_learning_rate

    n_classes = len(np.unique(problem.y))
    terms = {"loss": "multinomial", "n_outputs": n_classes} if n_classes > 2 else {}
    objective = Objective(Design.from_array(problem.X), problem.y, alpha=problem.alpha, **terms)
    rate = auto_learning_rate(objective, get(rule), len(problem.y) if batch_size == "full" else batch_size)
    return int(np.argmin(np.abs(np.log(GRID) - math.log(rate))))


def whole_fits(problem, rule: str, runs: tuple[Run, ...]) -> tuple[Run, ...]:
    """The same runs, taking turns, with the processor's time for the whole `fit`, which also checks the data."""
    seconds: list[list[float]] = [[] for _ in runs]
    for _ in range(9):
        for run, mine in zip(runs, seconds, strict=True):
            if run is not NEVER:
                start = process_time()
                fit(problem, rule, run.learning_rate, run.batch_size, run.epochs)
                mine.append(process_time() - start)
    return tuple(run if run is NEVER else replace(run, seconds=median(s)) for run, s in zip(runs, seconds, strict=True))


def main(arguments: list[str] | None = None) -> None:
    from fastopt.optimizers import OPTIMIZERS

    parser = argparse.ArgumentParser(prog="python -m bench.learning_rates", description=__doc__)
    parser.add_argument("--problems", default=PROBLEMS, help=f"comma separated; default {PROBLEMS}")
    parser.add_argument("--rules", default=",".join(OPTIMIZERS), help="comma separated; default all")
    parser.add_argument("--gap", type=float, default=1e-2, help="relative gap to the optimum, default 1e-2")
    parser.add_argument("--batches", default="256,32,1", help="comma separated; default 256,32,1")
    parser.add_argument("--seconds", type=float, default=1.0, help="give a setting up after so long, default 1")
    options = parser.parse_args(arguments)
    names, rules = options.problems.split(","), options.rules.split(",")
    cells: dict[tuple[str, str], tuple[Run, Run]] = {}
    ratios: list[float] = []
    for name in names:
        problem = get(name)
        goal = find(problem).objective * (1 + options.gap)
        for rule in rules:
            own = own_batch_size(problem, rule)
            others = [] if own == "full" else [int(b) for b in options.batches.split(",") if int(b) != own]
            alike, best = climb(problem, rule, [own, *others], goal, options.seconds)
            auto = timed(problem, rule, "auto", "auto", goal, 5 * options.seconds)
            alike, best, auto = whole_fits(problem, rule, (alike, best, auto))
            cells[rule, name] = best, auto
            ratio = math.nan if alike is NEVER else auto.seconds / alike.seconds  # NaN: nothing to compare with
            ratios += [] if alike is NEVER else [ratio]
            print(f"{name:20s} {rule:20s} {ratio:6.2f}x  {alike}  {best}  {auto}", flush=True)
    print(
        f'\nlearning_rate, batch_size (processor time; the same for "auto") to a relative gap of {options.gap:g}\n\n'
        + table(names, rules, cells)
    )
    slow = sum(ratio > 1.5 for ratio in ratios)
    print(f'\n"auto" takes over 1.5 times the best constant rate\'s time at its batch size in {slow} of {len(ratios)}.')


def table(names: list[str], rules: list[str], cells: dict[tuple[str, str], tuple[Run, Run]]) -> str:
    lines = ["| `solver` | " + " | ".join(names) + " |"]
    lines += ["|---" * (len(names) + 1) + "|"]
    lines += [f'| "{rule}" | ' + " | ".join(cell(cells[rule, name]) for name in names) + " |" for rule in rules]
    return "\n".join(lines)


def cell(runs: tuple[Run, Run]) -> str:
    best, auto = runs
    rate = "-" if best is NEVER else f"{best.learning_rate:g}, {best.batch_size}"
    return f"{rate} ({told(best)}; {told(auto)})"


def told(run: Run) -> str:
    milliseconds = run.seconds * 1e3
    return "-" if run is NEVER else f"{milliseconds:.{1 if milliseconds < 10 else 0}f} ms"


if __name__ == "__main__":
    main()
