"""fastopt: every update rule of its table, and its L-BFGS."""

from __future__ import annotations

import numpy as np

from bench.solvers import EPOCH_BATCHES, Contestant, base_step, rule_knobs, to_zero


def _objective(problem):
    from fastopt._design import Design
    from fastopt.objective import Objective

    loss = "log_loss" if problem.n_outputs == 1 else "multinomial"
    return Objective(Design.from_array(problem.X), problem.y, loss=loss, alpha=problem.alpha, n_outputs=problem.n_outputs)


class Rule(Contestant):
    """An update rule, run for a given number of epochs."""

    FAMILY = DISTRIBUTION = "fastopt"
    BATCHES, STEP_LIMIT = EPOCH_BATCHES, 10**9

    def __init__(self, rule: str):
        self.RULE, self.NAME = rule, f"fastopt {rule}"
        self.TO_TARGET = rule != "gd"  # L-BFGS is what full gradients are for

    def knobs(self, problem):
        return rule_knobs(self.RULE, problem)

    def prepare(self, problem, *, learning_rate, batch_size):
        from fastopt.optimizers import get
        from fastopt.solvers.stochastic import Epochs

        objective, optimizer, n = _objective(problem), get(self.RULE), problem.X.shape[0]
        steps = -(-n // batch_size)
        # On CSR the rules with memory skip idle coordinates only while the rate stands still: let it fall epoch by epoch.
        still = steps if problem.kind == "csr" and self.RULE != "sgd" else 1

        def run(budget):
            rng = np.random.default_rng(0)
            rates = np.repeat(to_zero(learning_rate, steps * budget)[::still], still)
            epochs = Epochs(objective, optimizer, batch_size=batch_size)
            for epoch in range(budget):
                epochs.run(rng.permutation(n), rates[epoch * steps : (epoch + 1) * steps])
            return epochs.w

        run(1)
        return run

    def epoch(self, problem, batch_size, rows):
        from fastopt.optimizers import get
        from fastopt.solvers.stochastic import Epochs

        rate = base_step(problem) if self.RULE == "sgd" else 0.001
        epochs = Epochs(_objective(problem), get(self.RULE).with_learning_rate(rate), batch_size=batch_size)
        order = np.random.default_rng(0).permutation(problem.X.shape[0])
        return lambda: epochs.run(order)

    def step(self, d, dtype):
        from fastopt.optimizers import get

        optimizer = get(self.RULE).with_learning_rate(1e-3)
        w, g = np.random.default_rng(0).standard_normal((2, d)).astype(dtype)
        state = optimizer.init(w)
        return lambda: optimizer.step(w, g, state)


class LBFGS(Contestant):
    FAMILY = DISTRIBUTION = "fastopt"
    NAME = "fastopt lbfgs"

    def prepare(self, problem):
        from fastopt.solvers.lbfgs import lbfgs

        objective, start = _objective(problem), np.zeros(problem.shape)
        return lambda budget: lbfgs(objective, start, tol=0.0, max_iter=budget).w


def _rules() -> list[Rule]:
    from fastopt.optimizers import OPTIMIZERS

    return [Rule(name) for name in OPTIMIZERS]


CONTESTANTS = [*_rules(), LBFGS()]
