"""How much effort each contestant needs: found knowing F*, outside the clock, so that nobody is timed at a bad setting."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass

from bench.judge import Verdict, judge
from bench.problems import ROOT, Problem
from bench.solvers import Contestant

LADDER = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 4096, 8192, 16384)
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
    """Runs of growing budget, until one reaches `gap`, the next would pass `seconds` in all, or more effort brings nothing."""
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
        if best <= gap or idle >= 4 and budget >= 32 or spent + took * following / budget > seconds:
            return


def plan(contestant: Contestant, problem: Problem, *, gap: float, seconds: float) -> Plan:
    """Try every setting (or the ones known to be best) within `seconds` in all."""
    candidates = known(contestant, problem) or contestant.knobs(problem)
    points: list[Point] = []
    left = seconds
    for i, knobs in enumerate(candidates):
        reached = Plan(points).cheapest(gap)
        # A setting may use its share of what is left, but need not run once it is slower than one that has arrived.
        share = min(left / (len(candidates) - i), 6 * reached.seconds if reached else seconds)
        start = time.perf_counter()
        points += trace(contestant, problem, knobs, gap=gap, seconds=share)
        left = max(0.0, left - (time.perf_counter() - start))
    return Plan(points)


def known(contestant: Contestant, problem: Problem) -> list[dict]:
    """The tuned settings that the contestant still offers."""
    tuned = json.loads(TUNED.read_text()) if TUNED.exists() else {}
    offered = contestant.knobs(problem)
    return [knobs for knobs in tuned.get(problem.name, {}).get(contestant.NAME, []) if knobs in offered]


def tune(contestant: Contestant, problem: Problem, *, gaps: tuple[float, ...], seconds: float) -> list[dict]:
    """Try every setting with time to spare; return the best for each gap (the best there is when none reaches it)."""
    points = []
    for knobs in contestant.knobs(problem):
        points += trace(contestant, problem, knobs, gap=min(gaps), seconds=seconds)
    chosen = [Plan(points).cheapest(gap) or Plan(points).best() for gap in gaps]
    return [point.knobs for i, point in enumerate(chosen) if point.knobs not in [p.knobs for p in chosen[:i]]]
