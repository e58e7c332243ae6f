"""SGD in numba, as a good user writes it: one compiled loop, row after row, the penalty by a scale on sparse data."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from bench.solvers import Contestant, base_step, binary_only, rates, rule_knobs


@lru_cache(maxsize=1)
def _loops():
    """The compiled epochs. numba is imported when somebody asks for them."""
    from math import exp

    from numba import njit

    @njit(fastmath=True)
    def dense(X, y, w, order, every, alpha):
        d = X.shape[1]
        for t in range(len(order)):
            i, lr = order[t], every[t]
            z = w[d]
            for j in range(d):
                z += X[i, j] * w[j]
            g = -y[i] / (1 + exp(min(y[i] * z, 700.0)))
            keep = 1 - lr * alpha
            for j in range(d):
                w[j] = keep * w[j] - lr * g * X[i, j]
            w[d] -= lr * g

    @njit(fastmath=True)
    def csr(values, columns, starts, y, w, order, every, alpha):
        d = len(w) - 1
        scale = 1.0
        for t in range(len(order)):
            i, lr = order[t], every[t]
            z = 0.0
            for k in range(starts[i], starts[i + 1]):
                z += values[k] * w[columns[k]]
            z = scale * z + w[d]
            g = -y[i] / (1 + exp(min(y[i] * z, 700.0)))
            scale *= 1 - lr * alpha
            step = lr * g / scale
            for k in range(starts[i], starts[i + 1]):
                w[columns[k]] -= step * values[k]
            w[d] -= lr * g
            if scale < 1e-6:
                for j in range(d):
                    w[j] *= scale
                scale = 1.0
        for j in range(d):
            w[j] *= scale

    return dense, csr


class Numba(Contestant):
    NAME, FAMILY, DISTRIBUTION, REQUIRES = "numba sgd", "numba", "numba", ("numba",)
    RULE, BATCHES, SCALING = "sgd", (1,), True

    def skip(self, problem):
        return binary_only(problem)

    def knobs(self, problem):
        return [knobs for knobs in rule_knobs("sgd", problem) if knobs["batch_size"] == 1] or [
            {**knobs, "batch_size": 1} for knobs in rule_knobs("sgd", problem)[:4]
        ]

    def prepare(self, problem, *, learning_rate, batch_size, falls):
        dense, csr = _loops()
        X, y, alpha, n = problem.X, problem.y, problem.alpha, problem.X.shape[0]

        def epoch(w, order, every):
            if problem.kind == "csr":
                csr(X.data, X.indices, X.indptr, y, w, order, every, alpha)
            else:
                dense(X, y, w, order, every, alpha)

        def run(budget):
            rng = np.random.default_rng(self.seed)
            w = np.zeros(problem.shape[0])
            every = rates(problem, n * budget, learning_rate, falls)
            for k in range(budget):
                epoch(w, rng.permutation(n), every[k * n : (k + 1) * n])
            return w

        epoch(np.zeros(problem.shape[0]), np.zeros(1, dtype=np.int64), np.zeros(1))  # compiles
        return run

    def epoch(self, problem, batch_size, rows):
        run = self.prepare(problem, learning_rate=base_step(problem), batch_size=1, falls="never")
        return lambda: run(1)


CONTESTANTS = [Numba()]
