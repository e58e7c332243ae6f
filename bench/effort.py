"""How much effort each contestant needs, found knowing F*, outside the clock: nobody is timed at a bad setting."""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from bench import ROOT
from bench.judge import Verdict, judge
from bench.problems import Problem
from bench.solvers import Contestant
from bench.workers import Local

#: Budgets, in epochs or iterations, in the order in which they are tried.
LADDER = (
    1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 4096, 8192, 16384,
)  # fmt: skip
SEEDS = (0, 1, 2)  # orders of the rows, of which the median must reach a gap; the search is made with the first
PREPARATION = [0.0]  # seconds of this search that went into imports, conversion and compilers
TUNED = ROOT / "bench" / "tuned.json"  # the best settings found by `python -m bench --tune`; part of the repository


@dataclass(frozen=True)
class Point:
    """One whole run from zero."""

    budget: int
    seconds: float
    verdict: Verdict
    knobs: dict
    settled: bool = False  # the verdict is the median one over `SEEDS`


@dataclass(frozen=True)
class Aim:
    """The run with which a gap is reached soonest; the gap is crossed after this `share` of its seconds."""

    point: Point
    share: float

    @property
    def seconds(self) -> float:
        return self.share * self.point.seconds


@dataclass(frozen=True)
class Plan:
    """What a contestant can do on a problem: its runs, and the cheapest one to each gap."""

    points: list[Point]

    def aim(self, gap: float) -> Aim | None:
        """The soonest way to `gap`: for each setting the first run that reaches it, then the best of these."""
        ways = []
        for knobs in [p.knobs for i, p in enumerate(self.points) if p.knobs not in [q.knobs for q in self.points[:i]]]:
            runs = sorted((p for p in self.points if p.knobs == knobs), key=lambda p: p.budget)
            reached = next((i for i, p in enumerate(runs) if p.verdict.gap <= gap), None)
            if reached is not None:
                ways.append(Aim(runs[reached], crossing(runs[reached - 1] if reached else None, runs[reached], gap)))
        return min(ways, key=lambda way: way.seconds, default=None)

    def settle(self, gap: float, verdict_of: Callable[[Point, int], Verdict]) -> Aim | None:
        """`aim`, of runs that reach `gap` with the median of `SEEDS`: with one of them luck would do.

        `verdict_of` runs a point once more with another seed. Who draws nothing at random ends the same with the second
        seed, and is not asked for the third.
        """
        while (aim := self.aim(gap)) is not None and not aim.point.settled:
            verdicts = [aim.point.verdict]
            for seed in SEEDS[1:]:
                verdicts.append(verdict_of(aim.point, seed))
                if verdicts[0].gap == verdicts[-1].gap:
                    break
            middle = sorted(verdicts, key=lambda verdict: verdict.gap)[len(verdicts) // 2]
            self.points[self.points.index(aim.point)] = replace(aim.point, verdict=middle, settled=True)
        return aim

    def best(self) -> Point | None:
        return min(self.points, key=lambda p: p.verdict.gap, default=None)

    def best_told(self) -> str:
        """For the report: how near the gap it came."""
        best = self.best()
        if best is None:
            return "no run ended"
        return f"best gap {best.verdict.gap:.1e} in {best.seconds:.2g} s ({best.verdict.finding})"

    def curve(self) -> list[tuple[float, float, float]]:
        """(seconds, gap, test accuracy) of the runs that no cheaper run beats."""
        curve: list[tuple[float, float, float]] = []
        for point in sorted(self.points, key=lambda p: p.seconds):
            if not curve or point.verdict.gap < curve[-1][1]:
                curve.append((point.seconds, point.verdict.gap, point.verdict.accuracy))
        return curve

    def accurate(self, wanted: float) -> Point | None:
        """The cheapest run whose test accuracy is at least `wanted`."""
        return min((p for p in self.points if p.verdict.accuracy >= wanted), key=lambda p: p.seconds, default=None)


def crossing(before: Point | None, after: Point, gap: float) -> float:
    """The share of `after`'s seconds at which `gap` is crossed, between two checked runs: log gap falls with time.

    Without a run before, a run counts whole: nobody can do less than one epoch.
    """
    if before is None or before.seconds >= after.seconds:
        return 1.0
    above, below = before.verdict.gap, max(after.verdict.gap, 1e-15)
    if not math.isfinite(above) or above <= below:
        return 1.0
    part = math.log(above / gap) / math.log(above / below)
    return (before.seconds + part * (after.seconds - before.seconds)) / after.seconds


def trace(hand, problem: Problem, knobs: dict, *, gap: float, seconds: float) -> Iterator[Point]:
    """Runs of growing budget until one reaches `gap`, the next would pass `seconds` in all, or more brings nothing."""
    run = hand.job("prepare", **knobs)
    PREPARATION[0] += run.preparation
    spent, best, idle = 0.0, float("inf"), 0
    try:
        for budget, following in itertools.pairwise(LADDER):
            coef = run(budget)
            took = run.seconds
            point = Point(budget, took, judge(problem, coef, gap_reached=gap), knobs)
            yield point
            spent += took
            idle = 0 if point.verdict.gap < 0.95 * best else idle + 1
            best = min(best, point.verdict.gap)
            if best <= gap or (idle >= 4 and budget >= 32) or spent + took * following / budget > seconds:
                return
    finally:  # also of a search that is given up
        hand.forget(run)


def plan(
    contestant: Contestant,
    problem: Problem,
    *,
    gap: float,
    seconds: float,
    settings: list[dict] | None = None,
    keep: int = 3,
    hand=None,
) -> Plan:
    """Try the settings (by default those known to be best, or else all) within `seconds` in all.

    All settings climb the ladder together; after each rung the worse half stays behind, but never the last `keep`.
    `hand` is where the contestant works; by default in this process.
    """
    hand = hand or Local(contestant)
    hand.load(problem)
    candidates = settings or known(contestant, problem) or contestant.knobs(problem)
    climbing = [trace(hand, problem, knobs, gap=gap, seconds=seconds) for knobs in candidates]
    points: list[Point] = []
    start, PREPARATION[0] = time.perf_counter(), 0.0
    patience = start + 20 + 5 * seconds  # imports and compilers have their time, but not all of it
    while climbing:
        reached: list[tuple[float, Iterator[Point]]] = []
        for climber in climbing:
            now = time.perf_counter()
            if points and (now - start - PREPARATION[0] > seconds or now > patience):
                return Plan(points)
            point = next(climber, None)
            if point is not None:
                points.append(point)
                reached.append((point.verdict.gap, climber))
        reached.sort(key=lambda pair: pair[0])
        climbing = [climber for _, climber in reached[: max(keep, len(reached) // 2)]]
    return Plan(points)


def known(contestant: Contestant, problem: Problem) -> list[dict]:
    """The tuned settings that the contestant still offers."""
    tuned = json.loads(TUNED.read_text(encoding="utf-8")) if TUNED.exists() else {}
    offered = contestant.knobs(problem)
    return [knobs for knobs in tuned.get(problem.name, {}).get(contestant.NAME, []) if knobs in offered]


def tune(contestant: Contestant, problem: Problem, *, gaps: tuple[float, ...], seconds: float, hand=None) -> list[dict]:
    """Try all settings with time to spare; return the best for each gap (the best there is when none reaches it)."""
    found = plan(
        contestant, problem, gap=min(gaps), seconds=seconds, settings=contestant.knobs(problem), keep=6, hand=hand
    )
    aims = [found.aim(gap) for gap in gaps]
    chosen = [point.knobs for aim in aims if (point := aim.point if aim else found.best())]
    return [knobs for i, knobs in enumerate(chosen) if knobs not in chosen[:i]]


def check_same_F(contestant, problem: Problem, *, seconds: float = 5.0, hand=None) -> Verdict:
    """What `contestant` finds, given time: F's minimum, or else another function's, or neither."""
    verdicts = [point.verdict for point in plan(contestant, problem, gap=1e-4, seconds=seconds, hand=hand).points]
    verdicts.sort(key=lambda verdict: (verdict.finding != "same F", verdict.finding != "another F", verdict.gap))
    return verdicts[0]
