"""python -m bench.learning_rates: the constant learning rate and batch size with which each rule is at a gap soonest.

Found by climbing; the time is then LogisticRegression's. The README's table is from here.
"""

from __future__ import annotations

from bench.machine import pin_threads

pin_threads()  # before anything imports NumPy

import argparse  # noqa: E402
import math  # noqa: E402
import warnings  # noqa: E402
from dataclasses import dataclass, replace  # noqa: E402
from statistics import median  # noqa: E402
from time import perf_counter  # noqa: E402

import numpy as np  # noqa: E402

from bench.problems import get  # noqa: E402

PROBLEMS = "breast_cancer,ill_conditioned,text_like"
#: Two rates a decade: finer than what matters.
GRID = [mantissa * 10.0**exponent for exponent in range(-6, 4) for mantissa in (1, 3)]


@dataclass(frozen=True)
class Run:
    learning_rate: float
    batch_size: int | str
    seconds: float
    epochs: int


def objective_of(problem):
    from fastopt._design import Design
    from fastopt.objective import Objective

    return Objective(Design.from_array(problem.X), problem.y, alpha=problem.alpha)


def timed(objective, rule, learning_rate: float, batch_size, goal: float, limit: float) -> Run:
    """Epochs in shuffled order until F <= goal, F being measured after each; infinite seconds beyond `limit`."""
    from fastopt.solvers.stochastic import Epochs

    rng = np.random.default_rng(0)
    epochs = Epochs(objective, rule.with_learning_rate(learning_rate), batch_size)
    start, done = perf_counter(), 0
    while perf_counter() - start < limit:
        with np.errstate(over="ignore", invalid="ignore"):
            epochs.run(None if epochs.full else rng.permutation(objective.n_samples))
            value = objective.value(epochs.w)
        done += 1
        if value <= goal:
            return Run(learning_rate, batch_size, perf_counter() - start, done)
        if not math.isfinite(value):
            break
    return Run(learning_rate, batch_size, math.inf, done)


def climb(objective, rule, batch_size, goal: float, limit: float) -> Run:
    """The best rate of the grid, from what "auto" starts with up and down as long as it pays."""
    from fastopt.solvers.stochastic import auto_learning_rate

    n = objective.n_samples if batch_size == "full" else batch_size
    guess = auto_learning_rate(objective, rule, n)
    at = int(np.argmin(np.abs(np.log(GRID) - math.log(guess))))
    seen: dict[int, Run] = {}

    def run(i: int) -> Run:
        if i not in seen:
            best = min((r.seconds for r in seen.values()), default=math.inf)
            seen[i] = timed(objective, rule, GRID[i], batch_size, goal, min(limit, 1.5 * best))
        return seen[i]

    def reached() -> bool:
        return any(math.isfinite(r.seconds) for r in seen.values())

    # Too small a rate and too large a one look alike as long as nothing gets there: four to each side, then give up.
    for step in (1, -1):
        i, failures = at, 0
        while 0 <= i < len(GRID) and failures < (2 if reached() else 4):
            before = min((r.seconds for r in seen.values()), default=math.inf)
            failures = 0 if run(i).seconds < before else failures + 1
            i += step
    return min(seen.values(), key=lambda r: r.seconds)


def as_users_call_it(problem, rule: str, run: Run, goal: float) -> Run:
    """The same run through the estimator, which checks the data and measures F and its gradient after each epoch."""
    from fastopt import LogisticRegression

    seconds = []
    for _ in range(3):
        model = LogisticRegression(
            C=1 / (problem.alpha * len(problem.y)), solver=rule, learning_rate=run.learning_rate, tol=0.0,
            batch_size=run.batch_size, max_iter=run.epochs, random_state=np.random.default_rng(0),
        )  # fmt: skip
        start = perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # max_iter ends it, as intended
            model.fit(problem.X, problem.y)
        seconds.append(perf_counter() - start)
    return replace(run, seconds=median(seconds) if model.objective_ <= goal * (1 + 1e-6) else math.inf)


def main(arguments: list[str] | None = None) -> None:
    from fastopt.optimizers import OPTIMIZERS
    from fastopt.optimizers import get as rule_of

    parser = argparse.ArgumentParser(prog="python -m bench.learning_rates", description=__doc__)
    parser.add_argument("--problems", default=PROBLEMS, help=f"comma separated; default {PROBLEMS}")
    parser.add_argument("--rules", default=",".join(OPTIMIZERS), help="comma separated; default all")
    parser.add_argument("--gap", type=float, default=1e-2, help="relative gap to the optimum, default 1e-2")
    parser.add_argument("--batches", default="1,32,256", help="comma separated; default 1,32,256")
    parser.add_argument("--seconds", type=float, default=1.0, help="give a setting up after so long, default 1")
    options = parser.parse_args(arguments)
    names, rules = options.problems.split(","), options.rules.split(",")
    cells = {}
    for name in names:
        problem = get(name)
        objective, goal = objective_of(problem), problem.optimum.objective * (1 + options.gap)
        for rule in rules:
            batches = ["full"] if rule == "gd" else [int(b) for b in options.batches.split(",")]
            runs = [climb(objective, rule_of(rule), b, goal, options.seconds) for b in batches]
            best = min(runs, key=lambda r: r.seconds)
            if math.isfinite(best.seconds):
                best = as_users_call_it(problem, rule, best, goal)
            cells[rule, name] = best
            print(f"{name:20s} {rule:20s} {best}", flush=True)
    print(f"\nlearning_rate, batch_size (time) to a relative gap of {options.gap:g}\n\n" + table(names, rules, cells))


def table(names: list[str], rules: list[str], cells: dict[tuple[str, str], Run]) -> str:
    lines = ["| `solver` | " + " | ".join(names) + " |"]
    lines += ["|---" * (len(names) + 1) + "|"]
    lines += [f'| "{rule}" | ' + " | ".join(cell(cells[rule, name]) for name in names) + " |" for rule in rules]
    return "\n".join(lines)


def cell(run: Run) -> str:
    if math.isinf(run.seconds):
        return "-"
    return f"{run.learning_rate:g}, {run.batch_size} ({run.seconds * 1e3:.2g} ms)"


if __name__ == "__main__":
    main()
