"""Seconds for one shuffled pass over the rows, at several batch sizes; conversion and warm-up are not counted."""

import pytest

from bench import problems
from bench.conftest import COLUMNS
from bench.machine import version


def rows_worth_timing(bench, contestant, problem, batch_size, seconds=0.15):
    """All rows; or, for a contestant that would take long, enough of them to fill `seconds`."""
    n = problem.X.shape[0]
    if contestant.WHOLE_PASS:
        return n
    rows = batch_size
    while True:
        run = bench.job(contestant, problem, "epoch", batch_size, rows)
        run()
        if run.seconds > seconds / 4 or rows == n:
            wanted = int(rows * seconds / run.seconds) // batch_size * batch_size
            return min(n, max(batch_size, wanted))
        rows = min(n, 4 * rows)


@pytest.mark.benchmark(group="epoch")
def test_epoch(benchmark, bench, problem_name, batch_size, contestant, again):
    problem = bench.problem(contestant, problem_name)
    if problem.n_classes > 2 and contestant.FAMILY != "fastopt":
        bench.skip(contestant, problem_name, "passes are compared on binary problems")
    key = contestant.NAME, "rows", problem_name, batch_size
    if key not in bench.record.jobs:
        rows = rows_worth_timing(bench, contestant, problem, batch_size)
        run = bench.job(contestant, problem, "epoch", batch_size, rows)
        run()  # warm-up
        bench.record.jobs[key] = rows, run
    rows, run = bench.record.jobs[key]
    n = problem.X.shape[0]
    benchmark.group = f"pass over {problem_name}, {contestant.RULE}, batch size {batch_size}"
    benchmark.pedantic(run, rounds=3)
    per_pass = bench.times(benchmark).median * n / rows
    rate = problem.n_entries / per_pass
    benchmark.extra_info.update(
        what="pass",
        contestant=contestant.NAME,
        family=contestant.FAMILY,
        rule=contestant.RULE,
        problem=problem_name,
        kind=problem.kind,
        dtype=str(problem.X.dtype),
        batch_size=batch_size,
        rows_timed=rows,
        rows=n,
        entries=problem.n_entries,
        again=again,
        threads=1,
        version=version(contestant.DISTRIBUTION),
        line=f"{per_pass * 1e3:.4g} ms a pass, {rate / 1e6:.3g} M numbers/s"
        + (f" ({rows:,} of {n:,} rows)" if rows < n else ""),
    )


@pytest.mark.benchmark(group="columns")
def test_columns(benchmark, bench, popularity, contestant, again):
    """CSR, 85 nonzeros a row, batch size 1: 10 million columns against 100,000. Passes over both alternate."""
    narrow, wide = (problems.get(COLUMNS.format(d, popularity)) for d in (100_000, 10_000_000))
    key = contestant.NAME, "columns", popularity
    if key not in bench.record.jobs:
        bench.record.at, bench.record.jobs = wide, {}
        # The narrow problem's run stays alive in the worker while it goes on to the wide one.
        hand, runs = bench.hand(contestant), []
        for problem in (narrow, wide):
            hand.load(problem, keep=problem is wide)
            runs.append(hand.job("epoch", 1, problem.X.shape[0]))
            runs[-1]()  # warm-up
        bench.record.jobs[key] = runs
    on_narrow, on_wide = bench.record.jobs[key]
    narrow_seconds = []

    def pass_over_narrow():
        on_narrow()
        narrow_seconds.append(on_narrow.seconds)

    benchmark.pedantic(on_wide, rounds=5, setup=pass_over_narrow)
    wide_ns = bench.times(benchmark).median / wide.n_entries * 1e9
    narrow_ns = sorted(narrow_seconds)[len(narrow_seconds) // 2] / narrow.n_entries * 1e9
    benchmark.extra_info.update(
        what="columns",
        contestant=contestant.NAME,
        family=contestant.FAMILY,
        rule=contestant.RULE,
        popularity=popularity,
        narrow_ns=narrow_ns,
        wide_ns=wide_ns,
        ratio=wide_ns / narrow_ns,
        entries=wide.n_entries,
        again=again,
        version=version(contestant.DISTRIBUTION),
        line=f"{narrow_ns:.3g} ns a nonzero, 100,000 columns; {wide_ns:.3g} 10 million: {wide_ns / narrow_ns:.2f}x",
    )
