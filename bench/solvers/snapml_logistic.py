"""Snap ML's logistic regression, dual and primal."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from bench.solvers import Contestant, binary_only


class Snap(Contestant):
    FAMILY = DISTRIBUTION = "snapml"
    REQUIRES = ("snapml",)
    SOLVES = "F, but with the intercept, divided by bias, penalised too"

    def __init__(self, form: str):
        self.form, self.NAME, self.L1 = form, f"snapml {form}", form == "primal"

    def skip(self, problem):
        if 0 < problem.l1_ratio < 1:
            return "takes no elastic net"
        return binary_only(problem)  # with more classes it fits one against the rest

    def knobs(self, problem):
        return [{"bias": bias} for bias in (1.0, 10.0)]

    def prepare(self, problem, *, bias):
        from snapml import LogisticRegression

        # A column for the intercept: with intercept_scaling its own one comes out wrong.
        X, column = problem.X.astype(np.float32), np.full((problem.X.shape[0], 1), bias, dtype=np.float32)
        X = sparse.csr_matrix(sparse.hstack([X, column])) if problem.kind == "csr" else np.hstack([X, column])
        y = problem.y.astype(np.float32)
        settings = {
            "regularizer": problem.alpha * X.shape[0], "dual": self.form == "dual", "tol": 1e-12, "n_jobs": 1,
            "fit_intercept": False, "penalty": "l1" if problem.l1 else "l2",
        }  # fmt: skip

        def run(budget):
            model = LogisticRegression(max_iter=budget, random_state=self.seed, **settings).fit(X, y)
            w = np.array(model.coef_, dtype=np.float64).ravel()
            w[-1] *= bias
            return w

        return run


CONTESTANTS = [Snap("dual"), Snap("primal")]
