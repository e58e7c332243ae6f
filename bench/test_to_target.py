"""Seconds from zero to a relative gap (F - F*) / F*; effort and settings are chosen beforehand, knowing F*, so that the
median of three orders of the rows gets there."""

import pytest

from bench import optimum
from bench.judge import judge
from bench.machine import version


@pytest.mark.benchmark(group="to target")
def test_to_target(benchmark, bench, problem_name, contestant, gap, again):
    problem = bench.problem(contestant, problem_name)
    bound = optimum.find(problem).bound
    if not bound <= 0.1 * gap:
        told = f"F* is not known well enough (only to {bound:.0e}) to judge by"
        bench.skip(contestant, problem_name, told, what=f"gap {gap:g}")
    plan = bench.plan(contestant, problem)

    def verdict_of(point, seed):
        coef = bench.job(contestant, problem, "prepare", **point.knobs)(point.budget, seed=seed)
        return judge(problem, coef, gap_reached=gap)

    aim = plan.settle(gap, verdict_of)
    if aim is None:
        bench.skip(
            contestant,
            problem_name,
            f"not reached within {bench.searched:.2g} s of search; {plan.best_told()}",
            what=f"gap {gap:g}",
        )
    point = aim.point
    run = bench.job(contestant, problem, "prepare", **point.knobs)
    benchmark.group = f"{problem_name} to a gap of {gap:g}"
    rounds = max(1, min(5, int(0.2 / point.seconds)))
    # Another seed in each round of the suite: another order of the rows, for those who shuffle.
    coef = benchmark.pedantic(run, args=(point.budget,), kwargs={"seed": again}, rounds=rounds)
    timed, verdict = judge(problem, coef, gap_reached=gap), point.verdict  # of this order, and the median one
    seconds = bench.times(benchmark).median * aim.share
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
        gap_timed=timed.gap,
        grad_norm=verdict.grad_norm,
        alpha_ratio=verdict.alpha_ratio,
        accuracy=None if problem.test is None else verdict.accuracy,
        preparation=run.preparation,
        memory=bench.hand(contestant).memory(),
        again=again,
        threads=1,
        version=version(contestant.DISTRIBUTION),
        line=f"{seconds * 1e3:.4g} ms, gap {timed.gap:.1e}",
    )
