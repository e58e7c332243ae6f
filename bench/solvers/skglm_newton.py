"""skglm's proximal Newton method: on all columns for the ridge penalty, on growing working sets with L1."""

from __future__ import annotations

import warnings

import numpy as np
from scipy import sparse

from bench.solvers import Contestant, binary_only


class Skglm(Contestant):
    NAME, FAMILY, DISTRIBUTION, REQUIRES = "skglm ProxNewton", "skglm", "skglm", ("skglm",)
    L1 = True

    def skip(self, problem):
        return binary_only(problem)

    def knobs(self, problem):
        """Columns to begin with."""
        return [{"p0": p0} for p0 in (10, problem.X.shape[1])] if problem.l1 else [{"p0": problem.X.shape[1]}]

    def prepare(self, problem, *, p0):
        from skglm.datafits import Logistic
        from skglm.penalties import L1_plus_L2
        from skglm.solvers import ProxNewton
        from skglm.utils.jit_compilation import compiled_clone

        X = sparse.csc_matrix(problem.X) if problem.kind == "csr" else np.asfortranarray(problem.X)
        # In float64: its Logistic does not compile for float32.
        X, y = X.astype(np.float64), problem.y
        datafit, penalty = compiled_clone(Logistic()), compiled_clone(L1_plus_L2(problem.alpha, problem.l1_ratio))

        def run(budget):
            solver = ProxNewton(p0=p0, max_iter=budget, tol=1e-12, fit_intercept=True)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return solver.solve(X, y, datafit, penalty)[0]

        run(1)  # compiles
        return run


CONTESTANTS = [Skglm()]
