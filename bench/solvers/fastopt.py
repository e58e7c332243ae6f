"""fastopt: every update rule of its table, and its estimator."""

from __future__ import annotations

import warnings

import numpy as np

from bench.solvers import EPOCH_BATCHES, Contestant, base_step, rates, rule_knobs, some
from bench.solvers.scikit_learn import SGD

#: Rows that one call goes through at most, if they are of several epochs.
TOGETHER = 65_536


def _objective(problem):
    from fastopt._design import Design
    from fastopt.objective import Objective

    loss = "log_loss" if problem.n_outputs == 1 else "multinomial"
    terms = {"alpha": problem.alpha, "l1_ratio": problem.l1_ratio, "n_outputs": problem.n_outputs}
    return Objective(Design.from_array(problem.X), problem.y, loss=loss, **terms)


class Rule(Contestant):
    """An update rule, run for a given number of epochs."""

    FAMILY = DISTRIBUTION = "fastopt"
    BATCHES, STEP_LIMIT, LAZY, L1 = EPOCH_BATCHES, 10**9, True, True

    def __init__(self, rule: str):
        self.RULE, self.NAME = rule, f"fastopt {rule}"
        self.SCALING = rule in ("sgd", "adam")
        self.TO_TARGET = rule != "gd"  # L-BFGS is what full gradients are for

    def knobs(self, problem):
        return rule_knobs(self.RULE, problem)

    def prepare(self, problem, *, learning_rate, batch_size, falls):
        from fastopt.optimizers import get
        from fastopt.solvers.epochs import Epochs

        objective, optimizer, n = _objective(problem), get(self.RULE), problem.X.shape[0]
        steps = -(-n // batch_size)
        # On CSR the rules with memory skip idle coordinates while the rate stands still: let it fall epoch by epoch.
        still = steps if problem.kind == "csr" and self.RULE != "sgd" else 1
        # Short epochs in one call: around each stand some 30 us of Python.
        together = max(1, TOGETHER // n) if still == 1 and n % batch_size == 0 else 1

        def run(budget):
            rng = np.random.default_rng(self.seed)
            every = np.repeat(rates(problem, steps * budget, learning_rate, falls)[::still], still)
            epochs = Epochs(objective, optimizer, batch_size=batch_size)
            for first in range(0, budget, together):
                last = min(first + together, budget)
                order = np.concatenate([rng.permutation(n) for _ in range(first, last)])
                epochs.run(order, every[first * steps : last * steps])
            return epochs.solution

        return run

    def epoch(self, problem, batch_size, rows):
        from fastopt.optimizers import get
        from fastopt.solvers.epochs import Epochs

        rate = base_step(problem) if self.RULE == "sgd" else 0.001
        epochs = Epochs(_objective(problem), get(self.RULE).with_learning_rate(rate), batch_size=batch_size)
        order = np.random.default_rng(0).permutation(problem.X.shape[0])
        return lambda: epochs.run(order)

    def step(self, d, dtype):
        from fastopt.optimizers import get

        optimizer = get(self.RULE).with_learning_rate(1e-3)
        w, g = some(d, dtype), some(d, dtype)[::-1].copy()
        state = optimizer.init(w)
        return lambda: optimizer.step(w, g, state)


class DropIn(SGD):
    """SGDClassifier with scikit-learn's settings; an epoch of it is the rule's."""

    NAME, MODULE = "fastopt SGDClassifier", "fastopt"
    FAMILY = DISTRIBUTION = "fastopt"
    BATCHES, SCALING = (), False


class Estimator(Contestant):
    """LogisticRegression as a user calls it, nothing tuned; its checks of the data and of every epoch are timed too."""

    FAMILY = DISTRIBUTION = "fastopt"
    L1 = True

    def __init__(self, name: str, solver: str):
        self.NAME, self.solver, self.SCALING = name, solver, solver == "auto"

    def skip(self, problem):
        from fastopt.solvers.table import SOLVERS

        solver = SOLVERS.get(self.solver)
        if solver and problem.l1 and not solver.l1:
            return "takes no L1 penalty"
        if solver and problem.n_outputs > 1 and not solver.softmax:
            return "takes two classes"
        parameters = problem.shape[0] * problem.n_outputs
        if solver and not problem.l1 and parameters > solver.most:
            return f"takes at most {solver.most:,} parameters"
        return None

    def prepare(self, problem):
        from fastopt import LogisticRegression

        settings = {"C": 1 / (problem.alpha * problem.X.shape[0]), "l1_ratio": problem.l1_ratio}
        settings |= {"solver": self.solver, "tol": 0.0}
        settings |= {"n_jobs": 1} if "n_jobs" in LogisticRegression().get_params() else {}

        def run(budget):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a limited budget is the point
                model = LogisticRegression(max_iter=budget, random_state=self.seed, **settings).fit(
                    problem.X, problem.y
                )
            return np.vstack([model.coef_.T, model.intercept_])

        return run


def _rules() -> list[Rule]:
    from fastopt.optimizers import OPTIMIZERS

    return [Rule(name) for name in OPTIMIZERS]


def _solver_names() -> list[str]:
    """Ways to the minimum that are no update rule, each under its own name."""
    from fastopt.solvers.table import SOLVERS

    return [*SOLVERS, "auto"]


def _estimators() -> list[Estimator]:
    """One for each way to the minimum that is no update rule, and the untuned Adam."""
    names = sorted(_solver_names(), key="auto".__eq__)
    return [*(Estimator(f"fastopt {name}", name) for name in names), Estimator("fastopt adam untuned", "adam")]


CONTESTANTS = [*_rules(), DropIn(), *_estimators()]
