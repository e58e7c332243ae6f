"""Cyanure: variance-reduced and accelerated incremental methods, and what it chooses by itself."""

from __future__ import annotations

import warnings

import numpy as np
from scipy import sparse

from bench.solvers import Contestant


class Cyanure(Contestant):
    FAMILY = DISTRIBUTION = "cyanure"
    REQUIRES = ("cyanure",)
    L1 = True

    def __init__(self, solver: str):
        self.solver, self.NAME = solver, f"cyanure {solver}"

    def prepare(self, problem):
        from cyanure.estimators import Classifier

        X = sparse.csr_matrix(problem.X) if problem.kind == "csr" else problem.X
        y = problem.y.astype(np.int64)
        named = {"penalty": "l1" if problem.l1 else "l2", "lambda_1": problem.alpha}
        if problem.l1 and problem.l2:
            named = {"penalty": "elastic-net", "lambda_1": problem.l1, "lambda_2": problem.l2}
        loss = "logistic" if problem.n_outputs == 1 else "multiclass-logistic"

        def run(budget):
            model = Classifier(
                loss=loss, **named, fit_intercept=True, tol=1e-12, solver=self.solver, max_iter=budget,
                verbose=False, n_threads=1, duality_gap_interval=max(5, budget), random_state=self.seed,
            )  # fmt: skip
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model.fit(X, y)
            # (n_features,) for two classes, (n_features, n_classes) for more.
            return np.vstack([model.coef_.reshape(-1, problem.n_outputs), np.reshape(model.intercept_, (1, -1))])

        run(2)  # its first call loads more
        return run


CONTESTANTS = [Cyanure("auto"), Cyanure("miso")]
