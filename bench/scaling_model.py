"""How fastopt.dask scales: predicted from speeds measured here, and checked on 1 and 2 worker processes.

    python -m bench.scaling_model --save docs/scaling.json          # measures, predicts, checks
    python -m bench.scaling_model --calibration docs/scaling.json   # predicts again from what was measured

A round takes the sum of what `round_time` returns. It follows `fastopt.dask._cluster.Cluster.sum`: up to 8 partitions,
or 1 MB of terms in all, come to the client, which adds them in order; more are added by a tree of tasks on the workers.
Everything that it is fed with is measured by parts, none is fitted to whole rounds. The network is the one thing that
is assumed. Rounds to a gap are those of the calibrated problem's fits (`history_`), and are held for all sizes.
`python docs/scaling.py` draws what is saved.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from fastopt.dask._cluster import ARGUMENT, FAN_IN, LIGHT

PER_ROW = 50
GAPS = (1e-2, 1e-4)
#: Vectors of the coefficients' size that go to a task, in one argument each, and that come back of a partition.
SENT = {"lbfgs": (1,), "adam": (1, 1, 2)}  # w; at, w, and Adam's state
BACK = {"lbfgs": 1, "adam": 4}
#: Solver, nonzeros, columns and partitions of the measured points; the second has a tree.
POINTS = (
    ("lbfgs", 4_000_000, 1_000, 8), ("lbfgs", 4_000_000, 100_000, 16),
    ("adam", 4_000_000, 1_000, 8), ("adam", 4_000_000, 100_000, 8),
)  # fmt: skip
WORKERS = (1, 2, 3, 5, 10, 20, 30, 50, 100, 200, 300, 500, 1000)
NETWORKS = (1, 10, 100)
COLUMNS = (1_000, 100_000, 1_000_000)


@dataclass(frozen=True)
class Speeds:
    """What was measured: speeds are of one worker of one thread, by the number of columns.

    Attributes
    ----------
    gradient, epoch : dict of (float, float)
        Of a gradient, and of an epoch of Adam: seconds for each partition, whatever its rows, and nonzeros per second.
    call, task, stage : float
        Seconds of a round of an empty task, of each further task, and of a task that waits for another.
    message, add : float
        Bytes per second that Dask moves from one process to another here, and that one thread adds up.
    """

    gradient: dict[str, tuple[float, float]]
    epoch: dict[str, tuple[float, float]]
    call: float
    task: float
    stage: float
    message: float
    add: float


@dataclass(frozen=True)
class Network:
    """Bits per second and seconds per message; the default is one machine's, whose cost is in `Speeds` already."""

    bandwidth: float = float("inf")
    latency: float = 0.0


def levels(terms: int, size: float) -> list[int]:
    """How many terms of `size` bytes are left after each level of the tree on the workers."""
    found = []
    while terms > FAN_IN and size * terms > LIGHT:
        terms = -(-terms // FAN_IN)
        found.append(terms)
    return found


def round_time(
    speeds: Speeds, network: Network, solver: str, nonzeros: float, columns: int, partitions: int, workers: int
) -> dict[str, float]:  # fmt: skip
    """Seconds of a round, by what they are for: compute, tasks, latency, transfer, add."""
    vector, busy = 8.0 * columns, min(workers, partitions)
    per_byte = 1 / speeds.message + 8 / network.bandwidth
    most = -(-partitions // workers)  # partitions of a worker
    kernels = [speeds.gradient] if solver == "lbfgs" else [speeds.gradient, speeds.epoch]
    compute = sum(most * (start + nonzeros / partitions / rate) for start, rate in (k[str(columns)] for k in kernels))
    tree = levels(partitions, vector)  # as Cluster.sum decides: by the parameters' size, whatever comes back
    first = partitions if tree else busy
    term = BACK[solver] * vector
    tasks, stages, hops, moved, added = float(first + sum(tree)), 0, 10, 0.0, 0.0
    for argument in SENT[solver]:
        size = argument * vector
        if size > ARGUMENT or size * first > LIGHT:  # to one worker, from which the others fetch it one after the other
            moved, tasks, stages = moved + (2 + busy - 1) * size, tasks + 1, 1
        else:  # with each task, by way of the scheduler
            moved += 2 * first * size
    for groups in tree:
        own = -(-groups // workers)
        stages, hops = stages + 1, hops + 4
        moved += own * (FAN_IN - 1) * (1 - 1 / workers) * term
        added += own * FAN_IN * term
    left = tree[-1] if tree else partitions
    moved, added = moved + 2 * left * term, added + left * term  # by way of the scheduler to the client
    return {
        "compute": compute,
        "tasks": speeds.call + speeds.task * (tasks - 1) + speeds.stage * stages,
        "latency": network.latency * (hops + 4 * bool(stages > len(tree))),
        "transfer": moved * per_byte,
        "add": added / speeds.add,
    }


def predictions(speeds: Speeds, rounds: dict[str, dict[str, list[int]]]) -> list[dict[str, Any]]:
    """Strong scaling of 10^11 nonzeros in 1,000 partitions, and weak scaling of 10^8 nonzeros for each worker."""
    found = []
    for kind in ("strong", "weak"):
        for columns in COLUMNS:
            for gigabits in NETWORKS:
                network = Network(1e9 * gigabits, 1e-4)
                for workers in WORKERS:
                    size, parts = (1e11, 1000) if kind == "strong" else (1e8 * workers, workers)
                    parted = {s: round_time(speeds, network, s, size, columns, parts, workers) for s in SENT}
                    second = {solver: sum(parts.values()) for solver, parts in parted.items()}
                    gaps = {
                        solver: {gap: sum(n * second[s] for n, s in zip(count, ("lbfgs", "adam"), strict=True) if n)
                                 for gap, count in counts.items()}
                        for solver, counts in rounds.items()
                    }  # fmt: skip
                    found.append({"kind": kind, "columns": columns, "gigabits": gigabits, "workers": workers,
                                  "parts": parted, "round": second, "to_gap": gaps})  # fmt: skip
    return found


# --- measuring --------------------------------------------------------------------------------------------------------


def chunk(number: int, rows: int, columns: int) -> tuple[Any, Any]:
    """CSR rows of `PER_ROW` entries, and labels by a planted model with noise."""
    from scipy.sparse import csr_matrix

    rng, width = np.random.default_rng([1, number]), columns // PER_ROW
    indices = rng.integers(width, size=(rows, PER_ROW), dtype=np.int32) + width * np.arange(PER_ROW, dtype=np.int32)
    starts = PER_ROW * np.arange(rows + 1, dtype=np.int32)
    X = csr_matrix((rng.standard_normal(indices.size), indices.ravel(), starts), shape=(rows, columns))
    margins = X @ np.random.default_rng(0).standard_normal(columns) / PER_ROW**0.5
    return X, np.where(margins + rng.standard_normal(rows) > 0, 1, -1)


def kernel_seconds(nonzeros: int, columns: int) -> tuple[float, float]:
    """Seconds of a gradient and of an epoch of Adam as tasks have them, in the process that runs this."""
    from fastopt.dask._objective import evaluate
    from fastopt.dask._parts import Task, encode, read_part
    from fastopt.dask._rounds import Averaging, measure_and_run, merged
    from fastopt.losses import Logistic
    from fastopt.optimizers import Adam

    rows = nonzeros // PER_ROW
    task = Task(Logistic(), 1e-4, 0.0, False, 1, "binary", np.array([-1, 1]), float(rows))
    w, steps = np.zeros(columns), Averaging(Adam(1e-3), "auto", 0)
    share = encode(read_part(*chunk(0, rows, columns), None, 0, True), 0, task)
    sums = measure_and_run(share, None, w, None, steps, 0)[1]  # the first epoch, from an empty state, is no measure
    later, state = merged(sums, rows)
    return (
        middle(lambda: evaluate(share, w), 5),
        middle(lambda: measure_and_run(share, None, later, state, steps, 1), 5),
    )


def line(small: float, large: float, nonzeros: int) -> tuple[float, float]:
    """Seconds at the start and nonzeros per second, of the seconds for an eighth of so many nonzeros and for all."""
    rate = 0.875 * nonzeros / max(large - small, 1e-3 * large)
    return max(large - nonzeros / rate, 0.0), rate


def middle(function: Any, repeats: int = 15) -> float:
    """Median seconds of a call, after one that is not counted."""
    took = []
    for _ in range(repeats + 1):
        begun = time.perf_counter()
        function()
        took.append(time.perf_counter() - begun)
    return median(took[1:])


def calibrate(client: Any) -> Speeds:
    """The speeds of a cluster of one worker."""
    from fastopt.dask._cluster import Cluster, add

    cluster = Cluster(client)
    held = client.map(abs, range(32), pure=False)

    def chain(n: int) -> None:
        future = client.submit(abs, 1, pure=False)
        for _ in range(n):
            future = client.submit(abs, future, pure=False)
        future.result()

    def answer(nbytes: int) -> float:
        future = client.submit(np.ones, nbytes // 8, pure=False)
        future.result()
        return middle(lambda: client.gather(future), 7)

    call = middle(lambda: cluster.values("empty", abs, held[:1]))
    many = middle(lambda: cluster.gather(cluster.each("empty", abs, held)))
    stage = (middle(lambda: chain(16)) - middle(lambda: chain(0))) / 16
    # From the worker to the scheduler, and from there to the client: two moves.
    message = 2 * (16e6 - 8e5) / max(answer(16_000_000) - answer(800_000), 1e-6)
    terms = [np.ones(100_000) for _ in range(16)]
    kernels: list[dict[str, tuple[float, float]]] = [{}, {}]
    for columns in COLUMNS:
        small, large = (client.submit(kernel_seconds, n, columns, pure=False).result() for n in (500_000, 4_000_000))
        for kernel, *seconds in zip(kernels, small, large, strict=True):
            kernel[str(columns)] = line(*seconds, 4_000_000)
    return Speeds(
        *kernels, call,
        (many - call) / 31, stage, message, 16 * 8e5 / middle(lambda: add(*terms)),
    )  # fmt: skip


def fitted(
    client: Any, solver: str, nonzeros: int, columns: int, partitions: int, rounds: int, tol: float
) -> tuple[Any, list[tuple[str, float]]]:
    """A fit of `fastopt.dask.LogisticRegression` to data on the workers, and when which of its rounds began."""
    from dask import delayed
    from distributed import wait

    from fastopt.dask import LogisticRegression
    from fastopt.dask._cluster import Cluster

    rows = nonzeros // PER_ROW // partitions
    pairs = [client.submit(chunk, i, rows, columns, pure=False) for i in range(partitions)]
    X, y = ([client.submit(_item, pair, k, pure=False) for pair in pairs] for k in (0, 1))
    wait([*X, *y])
    begun, whole = [], Cluster.sum

    def noted(self: Cluster, name: str, *args: Any, **more: Any) -> Any:
        begun.append((name, time.perf_counter()))
        return whole(self, name, *args, **more)

    model = LogisticRegression(
        C=1e4 / (rows * partitions), solver=solver, tol=tol, max_iter=rounds, fit_intercept=False, random_state=0
    )
    Cluster.sum = noted  # type: ignore[method-assign]
    try:
        return model.fit([delayed(x) for x in X], [delayed(one) for one in y]), begun
    finally:
        Cluster.sum = whole  # type: ignore[method-assign]


def _item(pair: tuple[Any, Any], k: int) -> Any:
    return pair[k]


def measured_points(client: Any, workers: int) -> list[dict[str, Any]]:
    """Seconds of a round that fits took, an iteration of L-BFGS having one or more: the median of a fit's."""
    found = []
    for solver, nonzeros, columns, partitions in POINTS:
        begun = fitted(client, solver, nonzeros, columns, partitions, 8, 1e-12)[1]
        took = np.diff([at for name, at in begun if name == ("epoch" if solver == "adam" else "gradient")])
        found.append({
            "workers": workers, "nonzeros": nonzeros, "columns": columns, "partitions": partitions, "solver": solver,
            "measured": float(median(took[:8])),
        })  # fmt: skip
    return found


def rounds_to_gaps(client: Any) -> dict[str, dict[str, list[int]]]:
    """Rounds of L-BFGS and of Adam until F is so near its minimum, by solver: what `history_` says of a fit.

    An iteration of L-BFGS counts as many rounds as the fit's iterations had in the mean.
    """
    fits = {solver: fitted(client, solver, *POINTS[0][1:], 150, 1e-7) for solver in SENT}
    least = min(fit.history_["objective"].min() for fit, _ in fits.values())
    found: dict[str, dict[str, list[int]]] = {}
    for solver, (fit, begun) in fits.items():
        values = fit.history_["objective"]
        adam = np.isfinite(fit.history_["learning_rate"]) & (solver == "adam")
        evaluations = sum(name == "gradient" for name, _ in begun) / max((~adam).sum(), 1)
        for gap in GAPS:
            until = int(np.argmax(values <= least * (1 + gap)))
            averaged = int(adam[1 : until + 1].sum())
            found.setdefault(solver, {})[f"{gap:.0e}"] = [round((until - averaged) * evaluations), averaged]
    return found


def main() -> None:
    """Measures, predicts, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calibration", type=Path, help="speeds and points that --save has written")
    parser.add_argument("--workers", type=int, nargs="*", help="of the points to measure; 1 2 without --calibration")
    parser.add_argument("--save", type=Path)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    from distributed import Client, LocalCluster

    points, speeds, rounds = [], None, {}
    if arguments.calibration:
        kept = json.loads(arguments.calibration.read_text(encoding="utf-8"))
        speeds, rounds, points = Speeds(**kept["speeds"]), kept["rounds"], kept["points"]
    wanted = arguments.workers if arguments.workers is not None else [] if speeds else [1, 2]
    points = [point for point in points if point["workers"] not in wanted]
    for workers in wanted:
        with (
            LocalCluster(
                n_workers=workers, threads_per_worker=1, dashboard_address=":0", silence_logs=logging.ERROR
            ) as cluster,
            Client(cluster) as client,
        ):
            client.run(warnings.simplefilter, "ignore")
            if speeds is None:
                speeds, rounds = calibrate(client), rounds_to_gaps(client)
            points += measured_points(client, workers)
    for point in points:
        size = [point[key] for key in ("nonzeros", "columns", "partitions", "workers")]
        point["predicted"] = sum(round_time(speeds, Network(), point["solver"], *size).values())
    print(speeds, rounds, sep="\n")
    for point in points:
        text = "{workers} workers, {columns:7,d} columns, {partitions:2d} partitions, {solver:6s}".format(**point)
        ratio = point["predicted"] / point["measured"]
        print(f"{text}{point['predicted']:9.4f} s predicted{point['measured']:9.4f} s measured, ratio {ratio:.2f}")
    predicted = predictions(speeds, rounds)
    for case in predicted:
        if case["workers"] in (1, 10, 100, 1000):
            cells = "".join(f"  {solver}{seconds:10.3f} s" for solver, seconds in case["round"].items())
            print("{kind:6s}{columns:10,d} columns{gigabits:4d} Gbit/s{workers:6d} workers".format(**case) + cells)
    if arguments.save:
        kept = {"speeds": vars(speeds), "rounds": rounds, "points": points}  # predictions follow from them
        arguments.save.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
