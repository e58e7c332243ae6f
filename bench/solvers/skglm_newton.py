"""skglm's proximal Newton method on the ridge penalty."""

from __future__ import annotations

import warnings

import numpy as np
from scipy import sparse

from bench.solvers import Contestant, binary_only


class Skglm(Contestant):
    NAME, FAMILY, DISTRIBUTION, REQUIRES = "skglm ProxNewton", "skglm", "skglm", ("skglm",)

    def skip(self, problem):
        return binary_only(problem)

    def prepare(self, problem):
        from skglm.datafits import Logistic
        from skglm.penalties import L1_plus_L2
        from skglm.solvers import ProxNewton
        from skglm.utils.jit_compilation import compiled_clone

        X = sparse.csc_matrix(problem.X) if problem.kind == "csr" else np.asfortranarray(problem.X)
        # In float64: its Logistic does not compile for float32.
        X, y = X.astype(np.float64), problem.y
        datafit, penalty = compiled_clone(Logistic()), compiled_clone(L1_plus_L2(problem.alpha, 0.0))

        def run(budget):
            solver = ProxNewton(p0=X.shape[1], max_iter=budget, tol=1e-12, fit_intercept=True)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return solver.solve(X, y, datafit, penalty)[0]

        run(1)  # compiles
        return run


CONTESTANTS = [Skglm()]
