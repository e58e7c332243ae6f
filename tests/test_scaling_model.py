"""The scaling model's closed forms: nothing is measured, and no cluster is needed."""

import pytest

from bench.scaling_model import COLUMNS, Network, Speeds, levels, line, predictions, round_time

FREE = Speeds(
    {str(d): (0.0, 1e8) for d in COLUMNS}, {str(d): (0.5, 2e7) for d in COLUMNS}, 0.0, 0.0, 0.0, float("inf"),
    float("inf"),
)  # fmt: skip
REAL = Speeds(FREE.gradient, FREE.epoch, 0.01, 1e-3, 5e-3, 1e9, 5e9)


@pytest.mark.parametrize(("solver", "seconds"), [("lbfgs", 1e9 / 1e8), ("adam", 1e9 / 1e8 + 8 * 0.5 + 1e9 / 2e7)])
def test_one_worker_without_overheads_takes_the_compute_time(solver, seconds):
    assert sum(round_time(FREE, Network(), solver, 1e9, 1_000, 8, 1).values()) == pytest.approx(seconds)


@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
def test_compute_never_grows_with_workers_and_ends_at_one_partition(solver):
    times = [round_time(REAL, Network(1e10, 1e-4), solver, 1e9, 1_000, 24, w)["compute"] for w in range(1, 60)]
    assert all(later <= sooner for sooner, later in zip(times, times[1:], strict=False))
    assert times[23] == times[-1] < times[22]


def test_what_crosses_to_the_client_has_its_closed_form():
    # 8 vectors there and back, each by way of the scheduler: 2 * 8 * 8d bytes each way, at 8 bits a byte.
    moved = 2 * 8 * 8_000 * 2
    parts = round_time(FREE, Network(1e9), "lbfgs", 1e9, 1_000, 8, 8)
    assert parts["transfer"] == pytest.approx(moved * 8 / 1e9)
    assert round_time(FREE, Network(1e9, 1e-3), "lbfgs", 1e9, 1_000, 8, 8)["latency"] == pytest.approx(0.01)


def test_what_crosses_in_a_tree_has_its_closed_form():
    # 64 partitions of 8e5 bytes on 64 workers: 64 terms, 8 sums on the workers, which 7 terms each must reach.
    # w goes to one worker by way of the scheduler, and from there to 63; 8 sums go to the client, twice.
    parts = round_time(FREE, Network(8e9), "lbfgs", 1e9, 100_000, 64, 64)
    vectors = 2 + 63 + 7 * (1 - 1 / 64) + 2 * 8
    assert parts["transfer"] == pytest.approx(vectors * 8e5 / 1e9)


def test_what_goes_to_a_single_task_goes_by_itself_beyond_what_the_cluster_sends_with_it():
    # 8d bytes of w there, with the task or as another, and of the sum back, each by way of the scheduler.
    for columns, tasks in ((1_000, 0), (100_000, 1)):
        parts = round_time(REAL, Network(8e9), "lbfgs", 1e9, columns, 1, 1)
        assert parts["transfer"] == pytest.approx(4 * 8 * columns * (1 / 1e9 + 1 / 1e9))
        assert parts["tasks"] == pytest.approx(0.01 + tasks * (1e-3 + 5e-3))


def test_tree_follows_the_cluster():
    from fastopt.dask import _cluster

    assert levels(8, 1e9) == []  # the client adds few terms,
    assert levels(1000, 100) == []  # and small ones
    assert levels(1000, 8e6) == [125, 16, 2]
    assert levels(1000, 1e4)[-1] * 1e4 <= _cluster.LIGHT


@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
@pytest.mark.parametrize("columns", COLUMNS)
def test_more_bandwidth_or_less_latency_is_never_slower(solver, columns):
    for workers in (1, 8, 100, 1000):
        case = (solver, 1e11, columns, 1000, workers)
        by_speed = [sum(round_time(REAL, Network(b, 1e-4), *case).values()) for b in (1e9, 1e10, 1e11)]
        assert by_speed == sorted(by_speed, reverse=True)
        assert by_speed[0] > by_speed[-1]
        slow = sum(round_time(REAL, Network(1e10, 1e-3), *case).values())
        assert slow > by_speed[1]


def test_line_goes_through_both_points():
    start, rate = line(0.3, 0.9, 8_000)
    assert start + 1_000 / rate == pytest.approx(0.3)
    assert start + 8_000 / rate == pytest.approx(0.9)


def test_seconds_to_a_gap_are_rounds_times_seconds_per_round():
    rounds = {"lbfgs": {"1e-02": [7, 0]}, "adam": {"1e-02": [2, 3]}}
    for case in predictions(REAL, rounds):
        second = case["round"]
        assert case["to_gap"]["lbfgs"]["1e-02"] == pytest.approx(7 * second["lbfgs"])
        assert case["to_gap"]["adam"]["1e-02"] == pytest.approx(2 * second["lbfgs"] + 3 * second["adam"])
    strong = [c for c in predictions(REAL, rounds) if c["kind"] == "strong"]
    weak = {(c["columns"], c["gigabits"]): c["round"] for c in predictions(REAL, rounds) if c["workers"] == 1000}
    assert all(c["round"] == weak[c["columns"], c["gigabits"]] for c in strong if c["workers"] == 1000)
