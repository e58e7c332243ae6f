"""A process per contestant: what it is given, what it hands back, and the clock that runs only while it works.

One contestant's heap, threads and crashes are no other's. The data go to it once per problem. A contestant's processor
time is measured where it works, and moves `clock`, which is pytest-benchmark's timer: neither messages between the
processes nor the judge are ever counted.
"""

from __future__ import annotations

import atexit
import gc
import itertools
import multiprocessing
import os
import pickle
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

from bench import ROOT
from bench.machine import memory_speed, peak_memory, reset_peak_memory

#: What most contestants need anyway; no peer is among it.
PRELOAD = ["scipy.sparse", "scipy.optimize", "sklearn.linear_model", "fastopt", "bench.solvers.fastopt", "bench.judge"]


class Clock:
    """A timer that others move on."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


clock = Clock()


class Trouble(Exception):
    """A contestant raised, died or did not end; the message is the reason shown in the report."""


class Job:
    """Something prepared by a contestant: called with a budget or nothing, it does it once."""

    def __init__(self, hand: Local | Worker, key: int, preparation: float) -> None:
        self.hand, self.key, self.preparation = hand, key, preparation
        self.seconds = 0.0  # of the last call

    def __call__(self, *args, seed: int = 0, repeat: int = 1) -> Any:
        """Do it `repeat` times; the clock moves on by what one of them took."""
        self.seconds, value = self.hand.run(self.key, args, seed, repeat)
        clock.now += self.seconds
        return value


class Local:
    """A contestant at work in this process. `tidy` collects garbage before every run, and not during it."""

    def __init__(self, contestant, *, tidy: bool = True) -> None:
        self.tidy = tidy
        self.contestant, self.problem = contestant, None
        self.jobs: dict[int, Any] = {}
        self.numbers = itertools.count()
        self.before = 0

    def load(self, problem, keep: bool = False) -> None:
        """The problem that the next jobs are about; unless one is to `keep` them, those before are forgotten."""
        if not keep:
            self.jobs.clear()
        self.problem = problem

    def prepare(self, method: str, args: tuple, knobs: dict) -> tuple[int, float]:
        """The number of a new job, and what it took to prepare it."""
        gc.collect()
        self.before = reset_peak_memory()
        start = time.perf_counter()
        given = args if method == "step" else (self.problem, *args)
        job = getattr(self.contestant, method)(*given, **knobs)
        key = next(self.numbers)
        self.jobs[key] = job
        return key, time.perf_counter() - start

    def run(self, key: int, args: tuple, seed: int, repeat: int) -> tuple[float, Any]:
        job = self.jobs[key]
        self.contestant.seed = seed
        if self.tidy:
            gc.collect()
            gc.disable()
        try:
            start = time.perf_counter()
            for _ in range(repeat):
                value = job(*args)
            seconds = (time.perf_counter() - start) / repeat
            return seconds, value() if callable(value) else value
        finally:
            gc.enable()

    def job(self, method: str, *args, **knobs) -> Job:
        return Job(self, *self.prepare(method, args, knobs))

    def forget(self, job: Job) -> None:
        self.jobs.pop(job.key, None)

    def drop(self, key: int) -> None:
        self.jobs.pop(key, None)

    def memory(self) -> int:
        """Bytes that the last preparation and the runs since took at their peak, beyond what was there before."""
        return max(0, peak_memory() - self.before) if self.before else 0

    def memory_speed(self, d: int) -> dict[str, float]:
        return memory_speed(d)

    def close(self) -> None:
        self.jobs.clear()


def serve(connection, contestant: bytes, path: str | None) -> None:
    """The loop of a worker process: a command in, its answer out."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's; it ends its workers
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)  # contestants that print
    os.dup2(quiet, 2)
    gc.freeze()  # what was inherited need not be looked at again
    if path is not None:
        sys.path.insert(0, path)
    hand = None
    while True:
        try:
            command, args = connection.recv()
        except (EOFError, OSError):
            return
        try:
            if hand is None:
                hand = Local(pickle.loads(contestant))
            if command == "load":
                args = (pickle.loads(Path(args[0]).read_bytes()), *args[1:])
            answer = True, getattr(hand, command)(*args)
        except BaseException as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            answer = False, f"{type(error).__name__}: {error} ({Path(last.filename).name}:{last.lineno})"[:300]
        try:
            connection.send(answer)
        except (BrokenPipeError, OSError):
            return


def _context(path: str | None):
    """Forked from a process that has NumPy and the like already, where the system can: quick, and memory is shared.

    With a `path` of its own a worker must import everything itself.
    """
    if path is not None or "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    from multiprocessing import forkserver

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *([before] if before else [])])
    try:
        forkserver.ensure_running()
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
    return context


class Worker:
    """A contestant at work in a process of its own."""

    def __init__(self, contestant, *, path: str | None = None, limit: float = 60.0) -> None:
        self.limit, self.problem, self.busy = limit, None, False
        context = _context(path)
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, pickle.dumps(contestant), path), daemon=True)
        self.process.start()
        theirs.close()
        ALIVE.append(self)

    def ask(self, command: str, *args) -> Any:
        self.busy = True
        try:
            self.connection.send((command, args))
            if not self.connection.poll(self.limit):
                self.close()
                raise Trouble(f"gave no answer within {self.limit:g} s")
            good, answer = self.connection.recv()
        except (EOFError, OSError):
            self.process.join(5)
            status = self.process.exitcode
            self.close()
            how = f"by signal {-status}" if status is not None and status < 0 else f"with exit status {status}"
            raise Trouble(f"its process ended {how}") from None
        self.busy = False
        if not good:
            raise Trouble(answer)
        return answer

    def load(self, problem, keep: bool = False) -> None:
        if problem is not self.problem:
            self.ask("load", str(_on_disk(problem)), keep)
            self.problem = problem

    def job(self, method: str, *args, **knobs) -> Job:
        return Job(self, *self.ask("prepare", method, args, knobs))

    def run(self, key: int, args: tuple, seed: int, repeat: int) -> tuple[float, Any]:
        seconds, value = self.ask("run", key, args, seed, repeat)
        return seconds, value

    def forget(self, job: Job) -> None:
        if self in ALIVE and not self.busy:  # busy: Ctrl-C came while it worked, and nobody waits for it
            self.ask("drop", job.key)

    def memory(self) -> int:
        return self.ask("memory")

    def memory_speed(self, d: int) -> dict[str, float]:
        return self.ask("memory_speed", d)

    def close(self) -> None:
        if self in ALIVE:
            ALIVE.remove(self)
        self.connection.close()
        self.process.kill()
        self.process.join(5)


ALIVE: list[Worker] = []
_STORE: dict[str, Any] = {}


def _on_disk(problem) -> Path:
    """The problem in a file that workers read; only the last one is kept."""
    if _STORE.get("problem") is not problem:
        if "folder" not in _STORE:
            _STORE["folder"] = tempfile.TemporaryDirectory(prefix="bench-")
        path = Path(_STORE["folder"].name) / "problem"
        with path.open("wb") as file:
            # Protocol 4: the arrays then come to lie in NumPy's own memory, aligned and in huge pages as a user's do.
            pickle.dump(problem, file, protocol=4)
        _STORE["problem"] = problem
    return Path(_STORE["folder"].name) / "problem"


def close_all() -> None:
    for worker in list(ALIVE):
        worker.close()
    folder = _STORE.pop("folder", None)
    _STORE.clear()
    if folder is not None:
        folder.cleanup()


atexit.register(close_all)
