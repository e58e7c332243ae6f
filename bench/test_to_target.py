"""Seconds from zero to a relative gap (F - F*) / F*; effort and settings are chosen beforehand, knowing F*."""

import pytest

from bench import problems
from bench.conftest import SCALING_BUDGET
from bench.judge import judge
from bench.machine import version


@pytest.mark.benchmark(group="to target")
def test_to_target(benchmark, bench, problem_name, contestant, gap, again):
    problem = bench.problem(contestant, problem_name)
    plan = bench.plan(contestant, problem)
    aim = plan.aim(gap)
    if aim is None:
        best = plan.best()
        bench.skip(
            contestant,
            problem_name,
            f"not reached within {bench.searched:.2g} s of search; best gap {best.verdict.gap:.1e} "
            f"in {best.seconds:.2g} s ({best.verdict.finding})",
            what=f"gap {gap:g}",
        )
    point = aim.point
    run = bench.job(contestant, problem, "prepare", **point.knobs)
    benchmark.group = f"{problem_name} to a gap of {gap:g}"
    rounds = max(1, min(5, int(0.2 / point.seconds)))
    # Another seed in each round of the suite: another order of the rows, for those who shuffle.
    coef = benchmark.pedantic(run, args=(point.budget,), kwargs={"seed": again}, rounds=rounds)
    verdict = judge(problem, coef, gap_reached=gap)
    seconds = benchmark.stats.stats.median * aim.share
    benchmark.extra_info.update(
        what="target",
        contestant=contestant.NAME,
        family=contestant.FAMILY,
        problem=problem_name,
        target=gap,
        budget=point.budget,
        share=aim.share,
        settings=point.knobs,
        solves=contestant.SOLVES,
        finding=verdict.finding,
        gap=verdict.gap,
        grad_norm=verdict.grad_norm,
        alpha_ratio=verdict.alpha_ratio,
        accuracy=None if problem.test is None else verdict.accuracy,
        preparation=run.preparation,
        memory=bench.hand(contestant).memory(),
        again=again,
        threads=1,
        version=version(contestant.DISTRIBUTION),
        line=f"{seconds * 1e3:.4g} ms, gap {verdict.gap:.1e}",
    )


@pytest.mark.benchmark(group="fixed")
def test_fixed(benchmark, bench, contestant, again):
    """What a run costs that has nothing to do: 100 rows of 5 columns, one epoch or iteration."""
    problem = bench.problem(contestant, "tiny")
    run = bench.job(contestant, problem, "prepare", **contestant.knobs(problem)[0])
    benchmark.group = "fixed cost"
    benchmark.pedantic(run, args=(1,), rounds=7, warmup_rounds=2)
    benchmark.extra_info.update(
        what="fixed",
        contestant=contestant.NAME,
        family=contestant.FAMILY,
        again=again,
        version=version(contestant.DISTRIBUTION),
        line=f"{benchmark.stats.stats.median * 1e6:.4g} us",
    )


@pytest.mark.benchmark(group="scaling")
def test_scaling(benchmark, bench, axis, problem_name, contestant, again):
    """The same budget as rows, columns, nonzeros a row or classes grow."""
    problem = bench.problem(contestant, problem_name)
    run = bench.job(contestant, problem, "prepare", **contestant.knobs(problem)[0])
    benchmark.group = f"scaling with {axis}"
    benchmark.pedantic(run, args=(SCALING_BUDGET,), rounds=3, warmup_rounds=1)
    made = problems.MADE.fullmatch(problem_name).groups()
    size = dict(zip(("rows", "columns", "nonzeros a row", "classes"), map(int, made[:4]), strict=True))[axis]
    benchmark.extra_info.update(
        what="scaling",
        contestant=contestant.NAME,
        family=contestant.FAMILY,
        axis=axis,
        size=size,
        problem=problem_name,
        budget=SCALING_BUDGET,
        again=again,
        version=version(contestant.DISTRIBUTION),
        line=f"{benchmark.stats.stats.median * 1e3:.4g} ms with {size:,} {axis}",
    )
