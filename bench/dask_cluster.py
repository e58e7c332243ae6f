"""fastopt.dask against dask-ml on one Dask cluster: seconds to equal gaps of one F, and bytes that cross per round.

    python -m bench.dask_cluster --rows 400000 --columns 50

Both get the same persisted dask arrays on the same worker processes. Each fit is stopped after 1, 2, 3, ... rounds
(iterations) and begins anew; the judge evaluates F on what it returned, outside the clock. A contestant's seconds to a
gap are those of its fastest fit that came there. Fits of all contestants alternate, and each is the median of
`--repeats`.

dask-ml penalises its intercept and scales the columns by default: F here has no intercept, and its ``normalize`` is
off, which saves it two passes. Its "newton" and "gradient_descent" have no penalty, and are another F.

Bytes are counted where Dask writes to its sockets, in the workers and in the process of client and scheduler.
"""

from __future__ import annotations

import argparse
import logging
import time
import warnings
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression as ScikitLearn

from bench.objective import objective_and_gradient
from bench.problems import Problem

GAPS = (1e-2, 1e-4, 1e-6)
#: After how many rounds fits are stopped.
ROUNDS = (1, 2, 3, 4, 5, 6, 8, 10, 13, 17, 22, 30, 40, 60, 100, 200)


def made(n: int, d: int) -> Problem:
    """Dense rows of correlated columns of standard deviation 1, labels by a planted model with noise."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, d)) @ (np.eye(d) + 0.3 * rng.standard_normal((d, d)) / np.sqrt(d))
    X /= X.std(axis=0)
    y = np.where(X @ rng.standard_normal(d) + 2 * rng.standard_normal(n) > 0, 1.0, -1.0)
    return Problem(f"made/{n}x{d}", X, y, 10 / n, 2, "generated", "none needed")


def value(problem: Problem, coef: Any) -> float:
    """The judge's F without an intercept."""
    return float(objective_and_gradient(problem, np.append(np.ravel(coef), 0.0))[0])


def optimum(problem: Problem) -> float:
    """F* by scikit-learn, sure to the gradient's norm."""
    n = len(problem.y)
    model = ScikitLearn(C=1 / (problem.alpha * n), solver="newton-cholesky", tol=1e-10, fit_intercept=False)
    model.fit(problem.X, problem.y)
    found, gradient = objective_and_gradient(problem, np.append(model.coef_.ravel(), 0.0))
    size = float(np.linalg.norm(gradient[:-1]))
    assert size**2 / (2 * problem.alpha) < 1e-9 * found, size
    return float(found)


def count_bytes() -> None:
    """Has this process count what it writes to Dask's sockets."""
    from distributed.comm import tcp

    write = tcp.TCP.write
    if hasattr(tcp, "written"):
        return
    tcp.written = 0

    async def counted(self: Any, *args: Any, **more: Any) -> Any:
        size = await write(self, *args, **more)
        tcp.written += size
        return size

    tcp.TCP.write = counted


def written() -> int:
    """What this process has written so far."""
    from distributed.comm import tcp

    return int(tcp.written)


def crossed(client: Any) -> int:
    """Bytes that all processes have written."""
    return written() + sum(client.run(written).values())


def contestants(problem: Problem, X: Any, y: Any) -> dict[str, Callable[[int], Any]]:
    """Fits of so many rounds, which return the coefficients."""
    from fastopt.dask import LogisticRegression

    C = 1 / (problem.alpha * len(problem.y))

    def ours(solver: str) -> Callable[[int], Any]:
        def fit(rounds: int) -> Any:
            model = LogisticRegression(
                C=C, solver=solver, tol=1e-12, max_iter=rounds, fit_intercept=False, random_state=0
            )  # fmt: skip
            return model.fit(X, y).coef_

        return fit

    found = {f"fastopt.dask {solver}": ours(solver) for solver in ("auto", "lbfgs", "sdca", "adam")}
    try:
        from dask_ml.linear_model import LogisticRegression as DaskML
    except ImportError as error:
        print(f"dask-ml is not here: {error}. pip install dask-ml", flush=True)
        return found

    ones = (y > 0).astype(np.float64).persist()

    def theirs(solver: str) -> Callable[[int], Any]:
        strict = {"abstol": 0.0, "reltol": 0.0} if solver == "admm" else {}

        def fit(rounds: int) -> Any:
            model = DaskML(
                C=C, solver=solver, tol=1e-14, max_iter=rounds, fit_intercept=False,
                solver_kwargs={"normalize": False} | strict,
            )  # fmt: skip
            return model.fit(X, ones).coef_

        return fit

    return found | {f"dask-ml {solver}": theirs(solver) for solver in ("lbfgs", "admm", "proximal_grad")}


def main() -> None:
    """The table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--columns", type=int, default=50)
    parser.add_argument("--partitions", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread; default 2")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10, help="a fit that took longer is its contestant's last")
    parser.add_argument("--only", default="", help="contestants whose name holds this, and fastopt.dask auto")
    arguments = parser.parse_args()
    import dask.array as da
    from distributed import Client, LocalCluster, wait

    warnings.simplefilter("ignore")
    problem = made(arguments.rows, arguments.columns)
    least, start = optimum(problem), value(problem, np.zeros(arguments.columns))
    rows = -(-arguments.rows // arguments.partitions)
    with (
        LocalCluster(
            n_workers=arguments.workers, threads_per_worker=1, dashboard_address=":0", silence_logs=logging.ERROR
        ) as cluster,
        Client(cluster) as client,
    ):
        count_bytes()
        client.run(count_bytes)
        client.run(warnings.simplefilter, "ignore")
        X = da.from_array(problem.X, chunks=(rows, -1)).persist()
        y = da.from_array(problem.y, chunks=rows).persist()
        wait([X, y])
        size = problem.X.nbytes / 2**20
        print(f"{problem.name}, {size:.0f} MB in {arguments.partitions} partitions on {arguments.workers} processes; "
              f"F(0) {start:.6f}, F* {least:.8f}", flush=True)  # fmt: skip
        fits = {
            name: fit for name, fit in contestants(problem, X, y).items()
            if arguments.only in name or name == "fastopt.dask auto"
        }  # fmt: skip
        for name, fit in list(fits.items()):
            try:
                fit(1)  # imports on the workers
            except Exception as error:
                print(f"{name} does not run with what is installed: {type(error).__name__}: {error}", flush=True)
                del fits[name]
        print(f"{'':28s}" + "".join(f"{f'to {gap:.0e}':>12s}" for gap in GAPS) + "  KB per round", flush=True)
        table = measured(client, problem, fits, least, arguments.repeats, arguments.seconds)
        idle = idle_rate(client)
        for name, seconds in table.items():
            cells = "".join(f"{s:10.2f} s" if s < np.inf else f"{'-':>12s}" for s in seconds)
            print(f"{name:28s}{cells}{traffic(client, fits[name], idle) / 1024:10.1f}", flush=True)
    others = [seconds for name, seconds in table.items() if name.startswith("dask-ml")]
    if others:
        best = np.min(others, axis=0) / table["fastopt.dask auto"]
        text = ", ".join(f"{ratio:.1f} times to {gap:.0e}" for ratio, gap in zip(best, GAPS, strict=True))
        print(f"fastopt.dask auto is faster than the best of dask-ml: {text}")


def measured(
    client: Any, problem: Problem, fits: dict[str, Callable[[int], Any]], least: float, repeats: int, patience: float
) -> dict[str, np.ndarray]:
    """Seconds to the gaps, of each."""
    seconds = {name: np.full(len(GAPS), np.inf) for name in fits}
    running = dict(fits)
    for rounds in ROUNDS:
        times: dict[str, list[float]] = {name: [] for name in running}
        gaps = {}
        for _ in range(repeats):
            for name, fit in running.items():
                begun = time.perf_counter()
                coef = fit(rounds)
                times[name].append(time.perf_counter() - begun)
                gaps[name] = (value(problem, coef) - least) / least
        for name in times:
            took = median(times[name])
            reached = gaps[name] <= np.array(GAPS)
            seconds[name][reached] = np.minimum(seconds[name][reached], took)
            if reached.all() or took > patience:
                del running[name]
    return seconds


def traffic(client: Any, fit: Callable[[int], Any], idle: float, few: int = 1, many: int = 4) -> float:
    """Bytes that a round of a fit takes, beside what an idle cluster writes."""
    found = []
    for _ in range(3):
        took = []
        for rounds in (few, many):
            before, begun = crossed(client), time.perf_counter()
            fit(rounds)
            took.append(crossed(client) - before - idle * (time.perf_counter() - begun))
        found.append((took[1] - took[0]) / (many - few))
    return median(found)


def idle_rate(client: Any) -> float:
    """Bytes per second of a cluster without work."""
    before = crossed(client)
    time.sleep(5)
    return (crossed(client) - before) / 5


if __name__ == "__main__":
    main()
