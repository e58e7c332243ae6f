"""What a run costs that has nothing to do, and how the cost grows with the data."""

import pytest

from bench import problems
from bench.conftest import SCALING_BUDGET
from bench.machine import version


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
        line=f"{bench.times(benchmark).median * 1e6:.4g} us",
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
        line=f"{bench.times(benchmark).median * 1e3:.4g} ms with {size:,} {axis}",
    )
