"""Seconds for one shuffled pass over the rows, at several batch sizes; conversion and warm-up are not counted."""

import time

import pytest

from bench.machine import version


def rows_worth_timing(contestant, problem, batch_size, seconds=0.15):
    """All rows; or, for a contestant that would take long, enough of them to fill `seconds`."""
    n = problem.X.shape[0]
    if contestant.WHOLE_PASS:
        return n
    rows = batch_size
    while True:
        run = contestant.epoch(problem, batch_size, rows)
        start = time.perf_counter()
        run()
        took = time.perf_counter() - start
        if took > seconds / 4 or rows == n:
            wanted = int(rows * seconds / took) // batch_size * batch_size
            return min(n, max(batch_size, wanted))
        rows = min(n, 4 * rows)


@pytest.mark.benchmark(group="epoch")
def test_epoch(benchmark, bench, problem_name, batch_size, contestant, again):
    problem = bench.problem("pass", contestant, problem_name)
    if problem.n_classes > 2 and contestant.FAMILY != "fastopt":
        bench.skip("pass", contestant, problem_name, "passes are compared on binary problems")
    key = "rows", contestant.NAME, problem_name, batch_size
    if key not in bench.record.runs:
        rows = rows_worth_timing(contestant, problem, batch_size)
        run = contestant.epoch(problem, batch_size, rows)
        run()  # warm-up
        bench.record.runs[key] = rows, run
    rows, run = bench.record.runs[key]
    n = problem.X.shape[0]
    benchmark.group = f"pass over {problem_name}, {contestant.RULE}, batch size {batch_size}"
    benchmark.pedantic(run, rounds=3)
    per_pass = benchmark.stats.stats.median * n / rows
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
