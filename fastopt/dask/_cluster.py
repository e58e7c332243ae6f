"""A Dask client and what is done with partitions through it: a function of each, and sums in a fixed order."""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from fastopt._validation import fail

__all__ = ["Cluster", "find_client", "needs"]

#: Terms of a sum that one task adds up.
FAN_IN = 8
#: Bytes that the client or the scheduler may handle in a round without thought. Terms of a sum beyond it are added up
#: on the workers, a common argument beyond it is sent once and not with each task.
LIGHT = 1 << 20
#: Bytes of one argument beyond which it is sent by itself: `Client.map` would, from 100 kB on, and its tasks never end
#: (distributed 2026.8 gives such an argument's key the name of the parameter).
ARGUMENT = 1 << 16
#: Seconds after which it asks anew where partitions are: workers die, and Dask copies.
LOOK = 1.0
#: Rounds whose results are released together.
SPENT = 8

START = "Start one: from dask.distributed import Client; client = Client(), or Client('tcp://scheduler:8786')."


def needs(module: str) -> Any:
    """A module of Dask's; imported when it is first needed, so that fastopt does without it."""
    try:
        if module == "distributed":
            import distributed

            return distributed
        import dask

        return dask
    except ImportError as error:
        raise ImportError(f"fastopt.dask needs {module}: pip install 'fastopt[dask]'.") from error


def find_client(client: Any = None) -> Any:
    """The client that was given, or else the current one."""
    distributed = needs("distributed")
    found: Any = client
    if client is None:
        try:
            found = distributed.get_client()
        except ValueError:
            fail("client", "a Dask client, or None where there is a current one", None, START)
    if not isinstance(found, distributed.Client):
        fail("client", "a dask.distributed.Client", found, START, TypeError)
    if found.asynchronous:
        fail("client", "a synchronous client", found, "Leave out asynchronous=True.")
    return found


class Cluster:
    """Partitions' futures are given to functions where they are.

    Everything is a pure function of what went before, so that Dask itself recomputes on other workers what a dead one
    has held, with the same bits.
    """

    def __init__(self, client: Any) -> None:
        self.client = client
        self.threads: dict[str, int] = client.nthreads()
        self._names, self._count = secrets.token_hex(4), itertools.count()
        self._at: dict[str, str] = {}
        self._looked = 0.0
        self._spent: list[Any] = []

    def each(
        self, name: str, function: Callable[..., Any], *columns: Sequence[Any], held: Any = None, **common: Any
    ) -> list[Any]:  # fmt: skip
        """Futures of ``function(*row, **common)`` for the rows of the columns, the first of which says where.

        `name` is what Dask's dashboard shows. Tasks are sent to where their partition is, since Dask takes many tasks
        of few partitions for those that bring new data, which it spreads; they may run elsewhere when that worker has
        died. Where the first column is of delayed chunks, `held` is the collection of which they are.
        """
        n = len(columns[0])
        common, keys = self._sent(common, n), self.keys(name, n)
        workers = self._places(columns[0]) if held is None else self._held(columns[0], held)
        self._at |= ((key, worker) for key, worker in zip(keys, workers, strict=True) if worker)
        rows = zip(*columns, strict=True)
        return self._submit(
            (key, worker, function, row, common) for key, worker, row in zip(keys, workers, rows, strict=True)
        )

    def values(
        self, name: str, function: Callable[..., Any], *columns: Sequence[Any], size: int = 0, **common: Any
    ) -> list[Any]:  # fmt: skip
        """``function(*row, **common)`` for the rows of the columns; `size` bytes each.

        Each thread that has partitions gets one task: with a few milliseconds of work a partition, most of a round is
        what Dask needs for a task.
        """
        members: dict[str, list[int]] = {}
        for i, worker in enumerate(self._places(columns[0])):
            members.setdefault(worker, []).append(i)
        groups = []
        for worker, numbers in members.items():
            step = -(-len(numbers) // self.threads.get(worker, 1))
            groups += [(worker, numbers[i : i + step]) for i in range(0, len(numbers), step)]
        common, keys = self._sent(common, len(groups)), self.keys(name, len(groups))
        tasks = self._submit(
            (key, worker, several, (function, *[[column[i] for i in numbers] for column in columns]), common)
            for key, (worker, numbers) in zip(keys, groups, strict=True)
        )
        found: list[Any] = [None] * len(columns[0])
        for (_, numbers), values in zip(groups, self.gather(tasks), strict=True):
            for i, value in zip(numbers, values, strict=True):
                found[i] = value
        self._retire(tasks, size * len(found))
        return found

    def _submit(self, calls: Iterable[tuple[str, str, Any, Sequence[Any], dict[str, Any]]]) -> list[Any]:
        """Futures of calls: each one's key, its worker, function and arguments.

        They go to the scheduler as one graph: of `Client.submit`'s messages all but the first wait for 10 ms.
        """
        dask, tasks = needs("dask"), []
        for key, worker, function, arguments, common in calls:
            where = {"workers": [worker], "allow_other_workers": True} if worker else {}
            with dask.annotate(**where):
                tasks.append(dask.delayed(function, pure=False)(*arguments, dask_key_name=key, **common))
        futures: list[Any] = self.client.compute(tasks)
        return futures

    def _retire(self, tasks: list[Any], size: int) -> None:
        """Keeps light results of some rounds on the workers: each release holds the next graph up for 10 ms."""
        self._spent.append(tasks)
        if len(self._spent) > SPENT or size * SPENT > LIGHT:
            self._spent.clear()

    def sum(
        self, name: str, function: Callable[..., Any], *columns: Sequence[Any], size: int = 0, **common: Any
    ) -> Any:  # fmt: skip
        """The sum of ``function(*row, **common)``: numbers, arrays, tuples or dicts of them; `size` bytes each.

        The order of the additions follows the partitions' numbers and that size, not the workers.
        """
        n = len(columns[0])
        if n <= FAN_IN or size * n <= LIGHT:
            return add(*self.values(name, function, *columns, size=size, **common))
        terms = self.each(name, function, *columns, **common)
        while len(terms) > FAN_IN and size * len(terms) > LIGHT:
            groups = [terms[i : i + FAN_IN] for i in range(0, len(terms), FAN_IN)]
            keys = self.keys(f"{name}-sum", len(groups))
            terms = [self.client.submit(add, *group, key=key) for group, key in zip(groups, keys, strict=True)]
        return add(*self.gather(terms))

    def _places(self, futures: Sequence[Any]) -> list[str]:
        """The worker of each future; "" if it failed.

        Where a task was sent counts as where its result is. What is asked of the scheduler, which has to wait for
        futures that are not there yet, is good for a while.
        """
        if time.monotonic() > self._looked + LOOK or any(future.key not in self._at for future in futures):
            found = self.client.who_has(futures)
            if not all(found.get(future.key) for future in futures):
                self.wait(futures)
                found = self.client.who_has(futures)
            self._at = {key: min(workers or [""]) for key, workers in found.items()}
            self._looked = time.monotonic()
        return [self._at.get(future.key, "") for future in futures]

    def _held(self, chunks: Sequence[Any], collection: Any) -> list[str]:
        """The worker of each chunk of a persisted collection; "" where it is not computed yet."""
        futures = needs("distributed").futures_of(collection, client=self.client)
        found = self.client.who_has(futures) if futures else {}
        self._looked = time.monotonic()
        return [min(found.get(chunk.key) or [""]) for chunk in chunks]

    def _sent(self, common: dict[str, Any], n: int) -> dict[str, Any]:
        """Arguments for n tasks: large ones cross the network once, as tasks of their own in the graph."""
        from dask.sizeof import sizeof

        delayed, sent = needs("dask").delayed, {}
        for key, value in common.items():
            size = sizeof(value)
            heavy = size > ARGUMENT or size * n > LIGHT
            name = self.keys(f"send-{key}", 1)[0] if heavy else ""
            sent[key] = delayed(_same, pure=False)(value, dask_key_name=name) if heavy else value
        return sent

    def wait(self, futures: Sequence[Any]) -> None:
        """Waits for the futures, or for their errors."""
        with self.client.as_current():
            needs("distributed").wait(futures)

    def gather(self, futures: list[Any]) -> list[Any]:
        """What the futures come to."""
        found: list[Any] = self.client.gather(futures)
        return found

    def keys(self, name: str, n: int) -> list[str]:
        """Names for tasks, new ones at each call."""
        count = next(self._count)
        return [f"fastopt-{name}-{self._names}{count:08x}-{i}" for i in range(n)]


def several(function: Callable[..., Any], *columns: list[Any], **common: Any) -> list[Any]:
    """The function of each row."""
    return [function(*row, **common) for row in zip(*columns, strict=True)]


def _same(value: Any) -> Any:
    return value


def add(first: Any, *others: Any) -> Any:
    """The sum of numbers, arrays, or tuples or dicts of these, from left to right; None is nothing."""
    if first is None or any(other is None for other in others):
        rest = [term for term in (first, *others) if term is not None]
        return add(*rest) if rest else None
    if isinstance(first, tuple):
        return tuple(add(*terms) for terms in zip(first, *others, strict=True))
    if isinstance(first, dict):
        return {key: add(*[term[key] for term in (first, *others)]) for key in first}
    total = first.copy() if isinstance(first, np.ndarray) else first
    for other in others:
        total += other
    return total
