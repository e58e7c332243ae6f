"""fastopt in benchopt's benchmark of l2-regularised logistic regression: copy this file there.

    git clone https://github.com/benchopt/benchmark_logreg_l2
    cp bench/benchopt_solver.py benchmark_logreg_l2/solvers/fastopt.py
    benchopt run benchmark_logreg_l2 -s fastopt

The benchmark's objective is ``sum_i log(1 + exp(-y_i x_i.w)) + lmbd/2 ||w||^2``, without intercept: C = 1 / lmbd.
"""

import warnings

from benchopt import BaseSolver

from fastopt import LogisticRegression


class Solver(BaseSolver):
    """LogisticRegression, its solver and nothing else chosen."""

    name = "fastopt"
    parameters = {"solver": ["auto", "lbfgs", "sgd", "adam"]}  # noqa: RUF012 - as benchopt wants it
    requirements = ["pip::fastopt"]  # noqa: RUF012
    references = ["https://pypi.org/project/fastopt/"]  # noqa: RUF012
    sampling_strategy = "iteration"

    def set_objective(self, X, y, lmbd):
        self.X, self.y = X.tocsr() if hasattr(X, "tocsr") else X, y
        self.settings = {"C": 1 / lmbd, "solver": self.solver, "fit_intercept": False, "tol": 0.0, "random_state": 0}

    def run(self, n_iter):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # benchopt decides when it is enough
            model = LogisticRegression(max_iter=n_iter + 1, **self.settings).fit(self.X, self.y)
        self.beta = model.coef_.ravel()

    def get_result(self):
        return {"beta": self.beta}
