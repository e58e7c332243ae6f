"""glum's generalised linear models: iteratively reweighted least squares (L1: coordinate descent), and L-BFGS."""

from __future__ import annotations

import warnings

import numpy as np
from scipy import sparse

from bench.solvers import Contestant, binary_only


class Glum(Contestant):
    FAMILY = DISTRIBUTION = "glum"
    REQUIRES = ("glum",)

    def __init__(self, solver: str):
        self.solver, self.NAME, self.L1 = solver, f"glum {solver}", solver == "irls-cd"

    def skip(self, problem):
        if self.L1 and not problem.l1:
            return "is for penalties with an L1 part"
        if self.solver.startswith("irls") and problem.shape[0] > 3000:
            return f"its Hessian would be {problem.shape[0]:,} squared"
        return binary_only(problem)

    def prepare(self, problem):
        from glum import GeneralizedLinearRegressor

        X = sparse.csc_matrix(problem.X) if problem.kind == "csr" else np.asfortranarray(problem.X)
        y = (problem.y > 0).astype(problem.X.dtype)

        def run(budget):
            model = GeneralizedLinearRegressor(
                alpha=problem.alpha, l1_ratio=problem.l1_ratio, family="binomial", solver=self.solver, max_iter=budget,
                gradient_tol=1e-12, fit_intercept=True, copy_X=False, check_input=False, P1="identity",
            )  # fmt: skip
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model.fit(X, y)
            return np.append(model.coef_, model.intercept_)

        return run


CONTESTANTS = [Glum("irls-ls"), Glum("irls-cd"), Glum("lbfgs")]
