"""Nanoseconds for one update of d coordinates with a dense gradient."""

import pytest

from bench.machine import version


@pytest.mark.benchmark(group="step")
def test_step(benchmark, bench, d, contestant, again):
    run = contestant.step(d, "float32")
    run()  # warm-up
    iterations = max(1, int(2e6 / (d + 1000)) if contestant.FAMILY != "pure Python" else 20)
    benchmark.group = f"step of {d:,} coordinates, {contestant.RULE}"
    benchmark.pedantic(run, rounds=5 if d < 10**6 else 2, iterations=iterations)
    nanoseconds = benchmark.stats.stats.median * 1e9 / d
    benchmark.extra_info.update(
        what="step",
        contestant=contestant.NAME,
        family=contestant.FAMILY,
        rule=contestant.RULE,
        d=d,
        dtype="float64 (floats)" if contestant.FAMILY == "pure Python" else "float32",
        again=again,
        version=version(contestant.DISTRIBUTION),
        line=f"{nanoseconds:.3g} ns a coordinate",
    )
