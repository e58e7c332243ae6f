"""river: one example at a time, as a dict of features."""

from __future__ import annotations

import numpy as np

from bench.solvers import Contestant, binary_only, rates, rule_knobs


class River(Contestant):
    NAME, FAMILY, DISTRIBUTION, REQUIRES = "river sgd", "river", "river", ("river",)
    RULE = "sgd"

    def skip(self, problem):
        if problem.n_entries > 250_000:
            return f"{problem.n_entries:,} numbers are too many for dicts, one row at a time"
        return binary_only(problem)

    def knobs(self, problem):
        return [k for k in rule_knobs("sgd", problem) if k["batch_size"] == 1]

    def prepare(self, problem, *, learning_rate, batch_size, falls):
        from river import linear_model, optim

        rows, y = [], (problem.y > 0).tolist()
        for i in range(problem.X.shape[0]):
            if problem.kind == "csr":
                entries = slice(problem.X.indptr[i], problem.X.indptr[i + 1])
                pairs = zip(problem.X.indices[entries].tolist(), problem.X.data[entries].tolist(), strict=True)
            else:
                pairs = enumerate(problem.X[i].tolist())
            rows.append(dict(pairs))
        n = len(rows)

        def run(budget):
            rng = np.random.default_rng(self.seed)
            every = rates(problem, n * budget, learning_rate, falls).tolist()
            schedule = _Given(every)
            model = linear_model.LogisticRegression(
                optimizer=optim.SGD(schedule), l2=problem.alpha, intercept_lr=schedule
            )
            for _ in range(budget):
                for i in rng.permutation(n).tolist():
                    model.learn_one(rows[i], y[i])
            w = np.zeros(problem.shape[0])
            for j, value in model.weights.items():
                w[j] = value
            w[-1] = model.intercept
            return w

        class _Given(optim.base.Scheduler):
            """Learning rates from a list."""

            def __init__(self, every):
                self.every = every

            def get(self, t):
                return self.every[min(t, len(self.every) - 1)]

        return run


CONTESTANTS = [River()]
