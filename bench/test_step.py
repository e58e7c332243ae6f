"""One update of d coordinates with a dense gradient: what a call costs, and the share of the memory's speed."""

import pytest

from bench.machine import version


def traffic(contestant, d: int) -> int:
    """Bytes that a step must move: w and each slot are read and written, the gradient is read; float32."""
    from fastopt.optimizers import get

    return 4 * d * (2 * (1 + len(get(contestant.RULE).slots)) + 1)


@pytest.mark.benchmark(group="step")
def test_step(benchmark, bench, d, contestant, again):
    timed = min(d, contestant.STEP_LIMIT)
    run = bench.job(contestant, None, "step", timed, "float32")
    run()  # warm-up
    repeat = max(1, min(1000, int(2e-3 / max(run.seconds, 1e-7))))
    benchmark.group = f"step of {d:,} coordinates, {contestant.RULE}"
    found = {"add": 0.0, "copy": 0.0}

    def measure_memory():  # in the same process, between the rounds
        for name, speed in bench.hand(contestant).memory_speed(timed).items():
            found[name] = max(found[name], speed)

    large = timed >= 10**6
    benchmark.pedantic(
        run if large else lambda: run(repeat=repeat), rounds=15 if run.seconds < 0.1 else 3,
        setup=measure_memory if large else None,
    )  # fmt: skip
    seconds = bench.times(benchmark).min if large else bench.times(benchmark).median
    size = traffic(contestant, timed)
    line = f"{seconds * d / timed * 1e6:.3g} us a call" if d < 10**6 else f"{seconds / timed * 1e9:.3g} ns a coordinate"
    memory = {}
    if large:
        fastest = max(found.values())
        memory = {"bytes": size, "memory_add": found["add"], "memory_copy": found["copy"]}
        memory["share"] = size / seconds / fastest
        line += f", {size / seconds / 1e9:.3g} of {fastest / 1e9:.3g} GB/s: {memory['share']:.0%}"
        bench.record.jobs.clear()  # hundreds of megabytes each
        bench.hand(contestant).forget(run)
    benchmark.extra_info.update(
        what="step",
        contestant=contestant.NAME,
        family=contestant.FAMILY,
        rule=contestant.RULE,
        d=d,
        rows=d,
        rows_timed=timed,
        dtype="float64 (floats)" if contestant.FAMILY == "pure Python" else "float32",
        again=again,
        version=version(contestant.DISTRIBUTION),
        line=line + ("" if timed == d else f" ({timed:,} coordinates timed)"),
        bandwidth=memory,
    )
