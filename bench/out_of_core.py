"""A CSR set ten times as large as the memory that a process may take: converted, fitted to tol, against fits in memory.

    python -m bench.out_of_core --limit 300 --times 10

The limit is RLIMIT_DATA: all private memory that the process can write to. Mapped files are not counted, as they can be
dropped at any time; the interpreter and the libraries are. Imports take 155 MB of it. Where pandas, pyarrow, numexpr
and bottleneck are installed scikit-learn imports them too, and it is 200: too much for a limit of 300.

Every measurement is a process of its own. Mapped and in-memory fits alternate, in rounds with a random_state each: the
two visit the rows in different orders, and a fit whose gradient is close to tol after an epoch needs another one by
chance.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import fastopt.data
from bench.machine import THREAD_VARIABLES
from fastopt import LogisticRegression
from fastopt._design import mapping

#: Entries of a row, and columns.
ENTRIES, COLUMNS = 400, 100_000


def write_text(path: Path, n: int) -> None:
    """Rows of ones in LIBSVM's format, columns from 1, classes by a linear model with noise."""
    tokens = np.array([f" {j:06d}:1" for j in range(COLUMNS + 1)], dtype="S9")
    rng = np.random.default_rng(0)
    w = rng.standard_normal(COLUMNS + 1)
    with open(path, "wb") as file:
        for start in range(0, n, 2000):
            gaps = rng.integers(1, 2 * COLUMNS // ENTRIES, (min(2000, n - start), ENTRIES))
            columns = np.minimum(gaps.cumsum(axis=1), COLUMNS - ENTRIES + np.arange(ENTRIES))
            columns = np.maximum.accumulate(columns - np.arange(ENTRIES), axis=1) + np.arange(ENTRIES)
            z = w[columns].sum(axis=1) + 10 * rng.standard_normal(len(columns))
            labels = np.where(z > 0, b"+1", b"-1")
            for label, row in zip(labels.tolist(), tokens[columns], strict=True):
                file.write(label + row.tobytes() + b"\n")


class Peak(threading.Thread):
    """The most private memory that is resident, MB, looked at every 20 ms."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.value = 0.0

    def run(self) -> None:
        while True:
            fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
            self.value = max(self.value, int(fields["RssAnon"].split()[0]) / 1024)
            time.sleep(0.02)


def work(what: str, folder: str, solver: str, tol: float, seed: int) -> None:
    """One measurement, printed as JSON."""
    peak = Peak()
    peak.start()
    start = time.perf_counter()
    if what == "convert":
        fastopt.data.convert(folder + ".svm", folder, overwrite=True)
        print(json.dumps({"seconds": time.perf_counter() - start, "peak": peak.value}))
        return
    X, y = fastopt.data.open(folder, verify=False)
    if what == "memory":
        X.data, X.indices, X.indptr, y = (a.copy() for a in (X.data, X.indices, X.indptr, y))
    assert (mapping(X.data) is None) == (what == "memory")
    start = time.perf_counter()
    model = LogisticRegression(solver=solver, C=1e-3, tol=tol, random_state=seed, max_iter=200).fit(X, y)
    found = {"seconds": time.perf_counter() - start, "peak": peak.value, "epochs": int(model.n_iter_[0])}
    print(json.dumps(found | {"objective": model.objective_, "stop": model.stop_reason_}))


def measured(what: str, folder: Path, solver: str, tol: float, limit: int | None, seed: int = 0) -> dict[str, Any]:
    """`work` in a process of its own, under the limit in MB."""
    code = f"from bench.out_of_core import work; work({what!r}, {str(folder)!r}, {solver!r}, {tol!r}, {seed})"

    def limited() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_DATA, (limit << 20, limit << 20))

    env = os.environ | dict.fromkeys(THREAD_VARIABLES, "1")
    done = subprocess.run([sys.executable, "-c", code], preexec_fn=limited, env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{what} under {limit} MB: {done.stderr.strip().splitlines()[-1]}")
    return dict(json.loads(done.stdout))


def evict(folder: Path) -> None:
    """Takes the folder's files out of the page cache."""
    for path in folder.iterdir():
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def main() -> None:
    """The table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, default=300, help="MB of private memory; default 300")
    parser.add_argument("--times", type=float, default=10, help="size of the set, in limits; default 10")
    parser.add_argument("--solvers", default="sdca,auto,adam,lbfgs")
    parser.add_argument("--tol", type=float, default=1e-4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="kept, and used again; default a temporary one")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        base = arguments.folder or Path(temporary)
        base.mkdir(exist_ok=True)
        folder, limit = base / "rows", arguments.limit
        n = int(arguments.times * limit * 2**20 / (8 * ENTRIES))
        if not folder.exists():
            if not (base / "rows.svm").exists():
                write_text(base / "rows.svm", n)
            found = measured("convert", folder, "", 0, limit)
            size = (base / "rows.svm").stat().st_size / 2**20
            print(f"{size:,.0f} MB of text converted in {found['seconds']:.0f} s ({size / found['seconds']:.0f} MB/s), "
                  f"{found['peak']:.0f} MB of private memory at most (limit {limit})", flush=True)  # fmt: skip
        size = sum(path.stat().st_size for path in folder.iterdir()) / 2**20
        print(f"{n:,} rows, {size:,.0f} MB: {size / limit:.1f} times the limit of {limit} MB", flush=True)
        for solver in arguments.solvers.split(","):
            rounds: dict[str, list[dict[str, Any]]] = {"mapped": [], "memory": []}
            for seed in range(arguments.rounds):
                rounds["mapped"].append(measured("mapped", folder, solver, arguments.tol, limit, seed))
                rounds["memory"].append(measured("memory", folder, solver, arguments.tol, None, seed))
            pace = {k: median(r["seconds"] / r["epochs"] for r in found) for k, found in rounds.items()}
            total = {k: median(r["seconds"] for r in found) for k, found in rounds.items()}
            evict(folder)
            cold = measured("mapped", folder, solver, arguments.tol, limit)
            for k, found in rounds.items():
                epochs, stops = (", ".join(str(r[key]) for r in found) for key in ("epochs", "stop"))
                print(f"{solver:6s} {k:7s} {total[k]:6.2f} s, epochs {epochs}, stopped by {stops}, "
                      f"{max(r['peak'] for r in found):.0f} MB of private memory at most", flush=True)  # fmt: skip
            speed, epoch = (100 * found["memory"] / found["mapped"] for found in (total, pace))
            text = f"speed to tol {speed:.0f} %, of an epoch {epoch:.0f} %; from the disk {cold['seconds']:.2f} s"
            print(f"{solver:6s} {text}", flush=True)


if __name__ == "__main__":
    main()
