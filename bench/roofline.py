"""python -m bench.roofline (or make roofline): how near each kernel comes to the machine's limit, measured in one run.

Every row times two things in turns, a kernel and what bounds it (the memory, the same kernel in sequential order, plain
SGD, scikit-learn), and shows the ratio of their medians (of Adam's step: of the fastest) beside the goal. Rows that
fall short stay.
"""

from __future__ import annotations

from bench.machine import pin_threads

pin_threads()  # before anything imports NumPy

import argparse  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
import warnings  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402
from concurrent.futures import ThreadPoolExecutor  # noqa: E402
from dataclasses import asdict, dataclass  # noqa: E402
from pathlib import Path  # noqa: E402
from statistics import median  # noqa: E402

import numpy as np  # noqa: E402
from threadpoolctl import threadpool_limits  # noqa: E402

from bench.machine import facts  # noqa: E402
from bench.problems import get  # noqa: E402
from fastopt._design import Design  # noqa: E402
from fastopt.objective import Objective  # noqa: E402
from fastopt.optimizers import OPTIMIZERS  # noqa: E402
from fastopt.solvers.epochs import Epochs  # noqa: E402
from fastopt.solvers.sdca import DualEpochs  # noqa: E402

ROUNDS = 7
RESULTS = Path(__file__).with_name("results")
STEP = """
import timeit, numpy
from fastopt.optimizers import Adam
rule = Adam(learning_rate=1e-3)
w, g = numpy.ones((2, 1000), numpy.float32)
state = rule.init(w)
one = numpy.ones(1, numpy.float32)
small = rule.init(one)
turns = dict(number=100, repeat=200)  # short and many: the fastest is hardly disturbed
print(*(min(timeit.repeat(call, **turns)) / 100 for call in
        (lambda: rule.step(w, g, state), lambda: rule.step(one, one, small))))
"""
PASS = """
import timeit, numpy
from fastopt._design import Design
from fastopt.objective import Objective
X = numpy.random.default_rng(0).standard_normal((2000, 400), dtype=numpy.float32)  # in the third-level cache
objective = Objective(Design.from_array(X), numpy.sign(X[:, 0]).astype(float), alpha=1e-4, n_jobs=1)
w = numpy.zeros(401)
print(min(timeit.repeat(lambda: objective.value_and_gradient(w), number=5, repeat=50)) / 5, 0)
"""


@dataclass(frozen=True)
class Row:
    kernel: str
    measured: str
    against: str
    ratio: float
    goal: float

    def __str__(self) -> str:
        short = "" if self.ratio >= self.goal else "  short"
        return (
            f"{self.kernel:42s} {self.measured:>24s} {self.ratio:7.2f} of {self.against:44s} goal {self.goal:g}{short}"
        )


def medians(*runs: Callable[[], object]) -> list[float]:
    """Seconds of each, in turns, after one round that is not counted."""
    times: list[list[float]] = [[] for _ in runs]
    for turn in range(ROUNDS + 1):
        for run, kept in zip(runs, times, strict=True):
            start = time.perf_counter()
            run()
            if turn:
                kept.append(time.perf_counter() - start)
    return [median(kept) for kept in times]


def order_of(n: int) -> np.ndarray:
    return np.random.default_rng(0).permutation(n)


def epoch(objective: Objective, rule: str, batch_size: int, order: np.ndarray) -> Callable[[], None]:
    epochs = Epochs(objective, OPTIMIZERS[rule](learning_rate=1e-3), batch_size=batch_size)
    return lambda: epochs.run(order)


def scikit_learn(X, y) -> Callable[[], object]:
    """An epoch of SGDClassifier, which shuffles."""
    from sklearn.linear_model import SGDClassifier

    def run():
        model = SGDClassifier(
            loss="log_loss", learning_rate="constant", eta0=1e-3, max_iter=1, tol=None, random_state=0
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return model.fit(X, y)

    return run


def reading(a: np.ndarray, threads: int = 1) -> Callable[[], object]:
    """Reads an array once: BLAS's dot product with itself."""
    flat = a.reshape(-1)
    if threads == 1:
        return lambda: flat @ flat
    pool, parts = ThreadPoolExecutor(threads), np.array_split(flat, threads)
    return lambda: list(pool.map(lambda part: part @ part, parts))


def rows() -> Iterator[Row]:
    text = get("text_like")
    n, y = text.X.shape[0], text.y
    shuffled, straight = order_of(n), np.arange(n)
    X64 = text.X64
    wide, narrow = Objective(Design.from_array(X64), y, alpha=1e-4), Objective(Design.from_array(text.X), y, alpha=1e-4)

    seconds, theirs, sequential = medians(
        epoch(wide, "sgd", 1, shuffled), scikit_learn(X64, y), epoch(wide, "sgd", 1, straight)
    )
    speed = f"{text.X.nnz / seconds / 1e6:.0f} M nonzeros/s"
    kernel = "CSR SGD epoch, batch 1, float64"
    yield Row(kernel, speed, "scikit-learn's SGD epoch (speed)", theirs / seconds, 4)
    yield Row(kernel, speed, "the same in sequential order", sequential / seconds, 0.9)

    seconds, sequential, adam, theirs = medians(
        epoch(narrow, "sgd", 1, shuffled), epoch(narrow, "sgd", 1, straight), epoch(narrow, "adam", 1, shuffled),
        scikit_learn(text.X, y),
    )  # fmt: skip
    speed = f"{text.X.nnz / seconds / 1e6:.0f} M nonzeros/s"
    yield Row("CSR SGD epoch, batch 1, float32", speed, "the same in sequential order", sequential / seconds, 0.8)
    speed = f"{text.X.nnz / adam / 1e6:.0f} M nonzeros/s"
    yield Row("CSR Adam epoch, exact, batch 1", speed, "scikit-learn's plain SGD epoch", theirs / adam, 0.6)

    names = [name for name in OPTIMIZERS if name != "gd"]
    base, *others = medians(
        epoch(narrow, "sgd", 1, shuffled), *(epoch(narrow, name, 256, shuffled) for name in names)
    )  # fmt: skip
    for name, seconds in zip(names, others, strict=True):
        yield Row(
            f"CSR {name} epoch, batch 256", f"{seconds * 1e3:.1f} ms", "the batch-1 SGD epoch", base / seconds, 0.6
        )

    rng = np.random.default_rng(0)
    for d, goal in ((2000, 0.75), (50, 0.45)):
        X = rng.standard_normal((40_000_000 // d, d), dtype=np.float32)
        y = np.sign(X[:, 0]).astype(float)
        F = Objective(Design.from_array(X), y, alpha=1e-4)
        memory, *others = medians(reading(X), *(epoch(F, name, 256, order_of(len(X))) for name in ("sgd", "adam")))
        for name, seconds in zip(("SGD", "Adam"), others, strict=True):
            speed = f"{X.nbytes / seconds / 1e9:.1f} GB/s"
            yield Row(f"dense {name} epoch, batch 256, d = {d:,}", speed, "reading", memory / seconds, goal)
    order = order_of(len(X))
    ours, theirs = medians(epoch(F, "sgd", 1, order), scikit_learn(X, y))
    yield Row("dense SGD epoch, batch 1, d = 50", f"{ours * 1e3:.0f} ms", "scikit-learn's (speed)", theirs / ours, 3)

    large = rng.standard_normal((100_000, 400), dtype=np.float32)
    y = np.sign(large[:, 0]).astype(float)
    for name, data, targets in (("dense", large, y), ("CSR", text.X, text.y)):
        w = np.zeros(data.shape[1] + 1)
        one, two = (Objective(Design.from_array(data), targets, alpha=1e-4, n_jobs=n_jobs) for n_jobs in (1, 2))
        with threadpool_limits({"fastopt": 2}):
            runs = [lambda F=F, w=w: F.value_and_gradient(w) for F in (one, two)]
            memory, single, both = medians(reading(large, 2), *runs)
        yield Row(f"full gradient, 2 threads, {name}", f"{both * 1e3:.1f} ms", "one thread (speed)", single / both, 1.8)
        if name == "dense":
            speed = f"{large.nbytes / both / 1e9:.1f} GB/s"
            yield Row("full gradient, 2 threads, dense", speed, "reading by two threads", memory / both, 0.7)
    whole, halved = (DualEpochs(Objective(Design.from_array(text.X), text.y, alpha=1e-4, n_jobs=n)) for n in (1, 2))
    with threadpool_limits({"fastopt": 2}):
        single, both = medians(*(lambda epochs=epochs: epochs.run(shuffled) for epochs in (whole, halved)))
    yield Row("sdca epoch, CSR, n_jobs=2", f"{both * 1e3:.1f} ms", "n_jobs=1 (speed)", single / both, 1.4)

    X = rng.standard_normal((20_000, 784), dtype=np.float32)
    digits = rng.integers(0, 10, len(X)).astype(float)
    softmax = Objective(Design.from_array(X), digits, loss="multinomial", n_outputs=10, alpha=1e-4)
    binary = Objective(Design.from_array(X), np.sign(digits - 4.5), alpha=1e-4)
    for batch in (1, 256):
        ten, one = medians(
            epoch(softmax, "sgd", batch, order_of(len(X))), epoch(binary, "sgd", batch, order_of(len(X)))
        )
        yield Row(f"softmax K = 10, d = 784, batch {batch}", f"{ten * 1e3:.0f} ms", "three binary epochs (speed)",
                  3 * one / ten, 1)  # fmt: skip

    names = ("baseline", "v3", "v4")
    for kernel, code in (("step of Adam, d = 1,000", STEP), ("full gradient, dense, d = 400", PASS)):
        turns = np.array([[seconds_at(level, code) for level in names] for _ in range(ROUNDS)])
        baseline, *levels = turns[..., 0].min(axis=0) - turns[..., 1].min(axis=0)
        for level, seconds, goal in zip(names[1:], levels, (1.8, 2.5), strict=True):
            if np.isfinite(baseline / seconds):
                yield Row(f"{kernel}, {level}", f"{seconds * 1e9:,.0f} ns", "the baseline's speed",
                          float(baseline / seconds), goal)  # fmt: skip


def seconds_at(level: str, code: str) -> tuple[float, float]:
    """What the code prints at a vector level: the fastest, and what a call costs; NaN where this machine lacks it."""
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "FASTOPT_SIMD": level}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    fastest, call = map(float, done.stdout.split()) if done.returncode == 0 else (np.nan, np.nan)
    return fastest, call


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=RESULTS / "roofline.json", help="where the figures go")
    arguments = parser.parse_args()
    found = []
    for row in rows():
        print(row, flush=True)
        found.append(row)
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps({"machine": facts(), "rows": [asdict(row) for row in found]}, indent=1))
    short = sum(row.ratio < row.goal for row in found)
    print(f"{len(found) - short} of {len(found)} goals met; {arguments.json}")


if __name__ == "__main__":
    main()
