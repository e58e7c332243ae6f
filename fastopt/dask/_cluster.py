"""A Dask client and what is done with partitions through it: a function of each, and sums in a fixed order."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Sequence
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

    def each(self, name: str, function: Callable[..., Any], *columns: Sequence[Any], **common: Any) -> list[Any]:
        """Futures of ``function(*row, **common)`` for the rows of the columns, the first of which says where.

        `name` is what Dask's dashboard shows. Tasks are sent to where their partition is, since Dask takes many tasks
        of few partitions for those that bring new data, which it spreads; they may run elsewhere when that worker has
        died.
        """
        n = len(columns[0])
        common, names = self._sent(common, n), self.keys(name, n)
        futures: list[Any] = [None] * n
        for worker, members in self._places(columns[0]).items():
            rows = [[column[i] for i in members] for column in columns]
            keys = [names[i] for i in members]
            new = self.client.map(function, *rows, key=keys, pure=False, **common, **_there(worker))
            for i, future in zip(members, new, strict=True):
                futures[i] = future
        return futures

    def values(self, name: str, function: Callable[..., Any], *columns: Sequence[Any], **common: Any) -> list[Any]:
        """``function(*row, **common)`` for the rows of the columns.

        Each thread that has partitions gets one task: with a few milliseconds of work a partition, most of a round is
        what Dask needs for a task.
        """
        groups = []
        for worker, members in self._places(columns[0]).items():
            size = -(-len(members) // self.threads.get(worker, 1))
            groups += [(worker, members[i : i + size]) for i in range(0, len(members), size)]
        common, keys = self._sent(common, len(groups)), self.keys(name, len(groups))
        tasks = [
            self.client.submit(
                several, function, *[[column[i] for i in members] for column in columns],
                key=key, pure=False, **common, **_there(worker),
            )
            for key, (worker, members) in zip(keys, groups, strict=True)
        ]  # fmt: skip
        found: list[Any] = [None] * len(columns[0])
        for (_, members), values in zip(groups, self.gather(tasks), strict=True):
            for i, value in zip(members, values, strict=True):
                found[i] = value
        return found

    def sum(
        self, name: str, function: Callable[..., Any], *columns: Sequence[Any], size: int = 0, **common: Any
    ) -> Any:  # fmt: skip
        """The sum of ``function(*row, **common)``: numbers, arrays, tuples or dicts of them; `size` bytes each.

        The order of the additions follows the partitions' numbers and that size, not the workers.
        """
        n = len(columns[0])
        if n <= FAN_IN or size * n <= LIGHT:
            return add(*self.values(name, function, *columns, **common))
        terms = self.each(name, function, *columns, **common)
        while len(terms) > FAN_IN and size * len(terms) > LIGHT:
            groups = [terms[i : i + FAN_IN] for i in range(0, len(terms), FAN_IN)]
            keys = self.keys(f"{name}-sum", len(groups))
            terms = [self.client.submit(add, *group, key=key) for group, key in zip(groups, keys, strict=True)]
        return add(*self.gather(terms))

    def _places(self, futures: Sequence[Any]) -> dict[str, list[int]]:
        """The numbers of the futures that each worker holds, as soon as they are all there; of failed ones under ""."""
        found = self.client.who_has(futures)
        if not all(found.get(future.key) for future in futures):
            self.wait(futures)
            found = self.client.who_has(futures)
        places: dict[str, list[int]] = {}
        for i, future in enumerate(futures):
            places.setdefault(min(found.get(future.key) or [""]), []).append(i)
        return places

    def _sent(self, common: dict[str, Any], n: int) -> dict[str, Any]:
        """Arguments for n tasks: large ones cross the network once, as futures."""
        from dask.sizeof import sizeof

        sent = {}
        for key, value in common.items():
            size = sizeof(value)
            heavy = size > ARGUMENT or size * n > LIGHT
            sent[key] = self.client.submit(_same, value, key=self.keys(f"send-{key}", 1)[0]) if heavy else value
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


def _there(worker: str) -> dict[str, Any]:
    """Where a task is to run, if there is such a worker."""
    return {"workers": [worker], "allow_other_workers": True} if worker else {}


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
