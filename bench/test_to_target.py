"""Seconds from zero to a relative gap (F - F*) / F*; effort and settings are chosen beforehand, knowing F*."""

import pytest

from bench.judge import judge
from bench.machine import version


@pytest.mark.benchmark(group="to target")
def test_to_target(benchmark, bench, problem_name, contestant, gap, again):
    problem = bench.problem("target", contestant, problem_name)
    plan = bench.record.plan(bench.settings, contestant, problem)
    point = plan.cheapest(gap)
    if point is None:
        best = plan.best()
        bench.skip(
            f"gap {gap:g}",
            contestant,
            problem_name,
            f"not reached within {bench.settings.seconds:g} s of search; best gap {best.verdict.gap:.1e} "
            f"in {best.seconds:.2g} s ({best.verdict.finding})",
        )
    run = bench.record.run(contestant, problem, point.knobs)
    benchmark.group = f"{problem_name} to a gap of {gap:g}"
    rounds = max(1, min(5, int(0.2 / point.seconds)))
    verdict = judge(problem, benchmark.pedantic(run, args=(point.budget,), rounds=rounds), gap_reached=gap)
    seconds = benchmark.stats.stats.median
    benchmark.extra_info.update(
        what="target",
        contestant=contestant.NAME,
        family=contestant.FAMILY,
        problem=problem_name,
        target=gap,
        budget=point.budget,
        settings=point.knobs,
        solves=contestant.SOLVES,
        finding=verdict.finding,
        gap=verdict.gap,
        grad_norm=verdict.grad_norm,
        alpha_ratio=verdict.alpha_ratio,
        again=again,
        threads=1,
        version=version(contestant.DISTRIBUTION),
        line=f"{seconds * 1e3:.4g} ms, gap {verdict.gap:.1e}",
    )
