"""The textbook's rules in NumPy and in pure Python (floats and lists): fastopt's reference module, as a contestant."""

from __future__ import annotations

import numpy as np

from bench.solvers import EPOCH_BATCHES, Contestant, base_step, binary_only, rates, rule_knobs, some
from fastopt import reference
from fastopt.optimizers import OPTIMIZERS

PYTHON_ENTRIES = 5_000_000  # more take too much time and memory as lists


class _Reference(Contestant):
    BATCHES, WHOLE_PASS = EPOCH_BATCHES, False
    targets: tuple[str, ...]  # rules that are timed to a gap; all are timed by the step

    def __init__(self, rule: str):
        self.RULE, self.NAME, self.TO_TARGET = rule, f"{self.FAMILY} {rule}", rule in self.targets

    def settings(self, problem) -> dict:
        loss = "log_loss" if problem.n_outputs == 1 else "multinomial"
        return {"rule": self.RULE, "loss": loss, "alpha": problem.alpha}

    def learning_rate(self, problem) -> float:
        return base_step(problem) if self.RULE == "sgd" else 0.001

    def run_epochs(self, one_epoch, problem, budget, batch_size, **falling):
        """`budget` epochs from zero, each in a new order."""
        n = problem.X.shape[0]
        rng = np.random.default_rng(self.seed)
        steps = -(-n // batch_size)
        every = rates(problem, steps * budget, **falling)
        w, state, t = self.start(problem), None, 0
        for _ in range(budget):
            order = rng.permutation(n)
            w, state, t = one_epoch(w, state, order, batch_size, every[t : t + steps], t)
        return np.reshape(w, problem.shape)


class NumPy(_Reference):
    FAMILY, DISTRIBUTION, STEP_LIMIT, targets = "NumPy", "numpy", 10**9, ("sgd", "momentum", "adam")

    def knobs(self, problem):
        """Every step costs NumPy O(n_features), so with many features only larger batches are worth trying."""
        n, d = problem.X.shape
        return [knobs for knobs in rule_knobs(self.RULE, problem) if n / knobs["batch_size"] * d < 2e8]

    def start(self, problem):
        return np.zeros(problem.shape, dtype=problem.X.dtype)

    def prepare(self, problem, *, batch_size, **falling):
        settings = self.settings(problem)

        def one_epoch(w, state, order, size, every, t):
            return reference.epoch(
                problem.X, problem.y, w, state, order=order, batch_size=size, learning_rates=every, t0=t, **settings
            )

        return lambda budget: self.run_epochs(one_epoch, problem, budget, batch_size, **falling)

    def epoch(self, problem, batch_size, rows):
        settings, w = self.settings(problem), self.start(problem)
        order = np.random.default_rng(0).permutation(problem.X.shape[0])[:rows]
        every = np.full(rows, self.learning_rate(problem))
        return lambda: reference.epoch(
            problem.X, problem.y, w, None, order=order, batch_size=batch_size, learning_rates=every, **settings
        )

    def step(self, d, dtype):
        w, g = some(d, dtype), some(d, dtype)[::-1].copy()
        self_state = [w, reference.init(self.RULE, w), 0]

        def run():
            w, state, t = self_state
            self_state[:] = *reference.step(self.RULE, w, g, state, t + 1, 1e-3), t + 1

        return run


class Python(_Reference):
    FAMILY, STEP_LIMIT, targets = "pure Python", 100_000, ("sgd",)

    def skip(self, problem):
        if problem.n_entries > PYTHON_ENTRIES:
            return (
                f"{problem.n_entries:,} numbers are too many for lists of floats; the passes are timed on part of them"
            )
        return binary_only(problem)

    def knobs(self, problem):
        return [knobs for knobs in rule_knobs(self.RULE, problem) if knobs["batch_size"] == 1]

    def start(self, problem):
        return [0.0] * problem.shape[0]

    @staticmethod
    def lists(problem, numbers) -> list:
        """The rows of those numbers as lists of columns and values; None in the place of all other rows."""
        rows = [None] * problem.X.shape[0]
        columns = list(range(problem.X.shape[1]))
        for i in numbers:
            if problem.kind == "csr":
                entries = slice(problem.X.indptr[i], problem.X.indptr[i + 1])
                rows[i] = problem.X.indices[entries].tolist(), problem.X.data[entries].tolist()
            else:
                rows[i] = columns, problem.X[i].tolist()
        return rows

    def prepare(self, problem, *, batch_size, **falling):
        settings, y = self.settings(problem), problem.y.tolist()
        rows = self.lists(problem, range(problem.X.shape[0]))

        def one_epoch(w, state, order, size, every, t):
            return reference.python_epoch(
                rows,
                y,
                w,
                state,
                order=order.tolist(),
                batch_size=size,
                learning_rates=every.tolist(),
                t0=t,
                **settings,
            )

        return lambda budget: self.run_epochs(one_epoch, problem, budget, batch_size, **falling)

    def epoch(self, problem, batch_size, rows):
        settings, y, w = self.settings(problem), problem.y.tolist(), self.start(problem)
        order = np.random.default_rng(0).permutation(problem.X.shape[0])[:rows].tolist()
        numbers = self.lists(problem, order)
        state = reference.python_init(self.RULE, w)
        every = [self.learning_rate(problem)] * rows
        return lambda: reference.python_epoch(
            numbers, y, w, state, order=order, batch_size=batch_size, learning_rates=every, **settings
        )

    def step(self, d, dtype):
        w, g = some(d, dtype).tolist(), some(d, dtype)[::-1].tolist()
        rule = reference.RULES[self.RULE]
        self_state = [reference.python_init(self.RULE, w), 0]

        def run():
            state, t = self_state
            reference._python_step(rule, w, g, state, t + 1, 1e-3, reference.COMMON | rule.defaults, d)
            self_state[1] = t + 1

        return run


CONTESTANTS = [contestant(rule) for contestant in (Python, NumPy) for rule in OPTIMIZERS]
