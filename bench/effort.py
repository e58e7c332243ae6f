"""How much effort each contestant needs, found knowing F*, outside the clock: nobody is timed at a bad setting."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass

from bench.judge import Verdict, judge
from bench.problems import ROOT, Problem
from bench.solvers import Contestant

LADDER = (
    1,
    2,
    3,
    4,
    6,
    8,
    12,
    16,
    24,
    32,
    48,
    64,
    96,
    128,
    192,
    256,
    384,
    512,
    768,
    1024,
    1536,
    2048,
    4096,
    8192,
    16384,
)
TUNED = ROOT / "bench" / "tuned.json"  # the best settings found by `python -m bench --tune`; part of the repository


@dataclass(frozen=True)
class Point:
    """One whole run from zero."""

    budget: int
    seconds: float
    verdict: Verdict
    knobs: dict


@dataclass(frozen=True)
class Plan:
    """What a contestant can do on a problem: its runs, and the cheapest one to each gap."""

    points: list[Point]

    def cheapest(self, gap: float) -> Point | None:
        return min((p for p in self.points if p.verdict.gap <= gap), key=lambda p: p.seconds, default=None)

    def best(self) -> Point:
        return min(self.points, key=lambda p: p.verdict.gap)

    def curve(self) -> list[tuple[float, float]]:
        """(seconds, gap) of the runs that no cheaper run beats."""
        curve: list[tuple[float, float]] = []
        for point in sorted(self.points, key=lambda p: p.seconds):
            if not curve or point.verdict.gap < curve[-1][1]:
                curve.append((point.seconds, point.verdict.gap))
        return curve


def trace(contestant: Contestant, problem: Problem, knobs: dict, *, gap: float, seconds: float) -> Iterator[Point]:
    """Runs of growing budget until one reaches `gap`, the next would pass `seconds` in all, or more brings nothing."""
    run = contestant.prepare(problem, **knobs)
    spent, best, idle = 0.0, float("inf"), 0
    for budget, following in zip(LADDER, LADDER[1:], strict=False):
        start = time.perf_counter()
        coef = run(budget)
        took = time.perf_counter() - start
        point = Point(budget, took, judge(problem, coef, gap_reached=gap), knobs)
        yield point
        spent += took
        idle = 0 if point.verdict.gap < 0.95 * best else idle + 1
        best = min(best, point.verdict.gap)
        if best <= gap or (idle >= 4 and budget >= 32) or spent + took * following / budget > seconds:
            return


def plan(
    contestant: Contestant,
    problem: Problem,
    *,
    gap: float,
    seconds: float,
    settings: list[dict] | None = None,
    keep: int = 3,
) -> Plan:
    """Try the settings (by default those known to be best, or else all) within `seconds` in all.

    All settings climb the ladder together; after each rung the worse half stays behind, but never the last `keep`.
    """
    start = time.perf_counter()
    candidates = settings or known(contestant, problem) or contestant.knobs(problem)
    climbing = [trace(contestant, problem, knobs, gap=gap, seconds=seconds) for knobs in candidates]
    points: list[Point] = []
    while climbing:
        reached: list[tuple[float, Iterator[Point]]] = []
        for climber in climbing:
            if points and time.perf_counter() - start > seconds:
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
    tuned = json.loads(TUNED.read_text()) if TUNED.exists() else {}
    offered = contestant.knobs(problem)
    return [knobs for knobs in tuned.get(problem.name, {}).get(contestant.NAME, []) if knobs in offered]


def tune(contestant: Contestant, problem: Problem, *, gaps: tuple[float, ...], seconds: float) -> list[dict]:
    """Try all settings with time to spare; return the best for each gap (the best there is when none reaches it)."""
    found = plan(contestant, problem, gap=min(gaps), seconds=seconds, settings=contestant.knobs(problem), keep=6)
    chosen = [(found.cheapest(gap) or found.best()).knobs for gap in gaps]
    return [knobs for i, knobs in enumerate(chosen) if knobs not in chosen[:i]]
