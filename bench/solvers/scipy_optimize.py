"""scipy.optimize on the objective that a good user writes in NumPy: products in X's own dtype, sums in float64."""

from __future__ import annotations

import warnings

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, softmax

from bench.solvers import Contestant

BUDGET_OPTION = {  # each method's name for the budget, and its own tolerances out of the way
    "L-BFGS-B": lambda budget: {"maxiter": budget, "maxfun": 10**9, "ftol": 0, "gtol": 0},
    "CG": lambda budget: {"maxiter": budget, "gtol": 0},
    "Newton-CG": lambda budget: {"maxiter": budget, "xtol": 0},
    "trust-ncg": lambda budget: {"maxiter": budget, "gtol": 0},
    "TNC": lambda budget: {"maxfun": budget, "ftol": 0, "gtol": 0, "xtol": 0},
}


class Function:
    """F, with L1 its smooth part, its gradient and its Hessian's products, for a flat float64 vector."""

    def __init__(self, problem):
        self.X, self.XT, self.alpha, self.shape = problem.X, problem.X.T, problem.l2, problem.shape
        self.n, self.K = problem.X.shape[0], problem.n_outputs
        self.y = problem.y if self.K == 1 else problem.y.astype(np.intp)
        self.rows = np.arange(self.n)
        self.at = None

    def scores(self, w):
        w = w.reshape(self.shape)
        z = self.X @ w[:-1].astype(self.X.dtype) + w[-1]
        return z.astype(np.float64)

    def back(self, residual, w):
        """X^T residual / n + alpha w, the intercept apart."""
        out = np.empty(self.shape)
        out[:-1] = self.XT @ residual.astype(self.X.dtype)
        out[-1] = residual.sum(0)
        out /= self.n
        out[:-1] += self.alpha * w.reshape(self.shape)[:-1]
        return out.ravel()

    def value_and_gradient(self, w):
        z = self.scores(w)
        penalty = self.alpha / 2 * np.vdot(w[: -self.K], w[: -self.K])
        if self.K == 1:
            margins = self.y * z[:, 0]
            residual = (-self.y * expit(-margins))[:, None]
            return np.logaddexp(0, -margins).mean() + penalty, self.back(residual, w)
        top = z.max(1)
        residual = np.exp(z - top[:, None])
        total = residual.sum(1)
        residual /= total[:, None]
        residual[self.rows, self.y] -= 1
        return (np.log(total) + top - z[self.rows, self.y]).mean() + penalty, self.back(residual, w)

    def hessian_product(self, w, v):
        if self.at is None or not np.array_equal(self.at, w):  # many products are asked for at one point
            z, self.at = self.scores(w), w.copy()
            self.p = expit(z) if self.K == 1 else softmax(z, axis=1)
        u = self.scores(v)
        curve = self.p * (1 - self.p) * u if self.K == 1 else self.p * (u - (self.p * u).sum(1, keepdims=True))
        return self.back(curve, v)


class Split:
    """F with L1, smooth over bounds: w = u - v with u, v >= 0, the intercept apart."""

    def __init__(self, problem):
        self.smooth, self.l1 = Function(problem), problem.l1
        self.shape, self.kept = problem.shape, problem.shape[0] - 1
        self.size = (2 * self.kept + 1) * problem.n_outputs
        self.bounds = [(0, None)] * (2 * self.kept * problem.n_outputs) + [(None, None)] * problem.n_outputs

    def joined(self, uvb):
        uvb = uvb.reshape(-1, self.shape[1])
        return np.vstack([uvb[: self.kept] - uvb[self.kept : -1], uvb[-1:]])

    def value_and_gradient(self, uvb):
        value, gradient = self.smooth.value_and_gradient(self.joined(uvb).ravel())
        g = gradient.reshape(self.shape)
        whole = np.vstack([g[:-1] + self.l1, self.l1 - g[:-1], g[-1:]])
        return value + self.l1 * uvb[: -self.shape[1]].sum(), whole.ravel()


class Scipy(Contestant):
    FAMILY = DISTRIBUTION = "scipy"

    def __init__(self, method: str):
        self.method, self.NAME = method, f"scipy {method}"
        self.L1 = method in ("L-BFGS-B", "TNC")  # those that take bounds

    def prepare(self, problem):
        split = Split(problem) if problem.l1 else None
        function = split or Function(problem)
        start = np.zeros(split.size if split else problem.shape).ravel()
        bounds = {"bounds": split.bounds} if split else {}
        hessp = {"hessp": function.hessian_product} if self.method in ("Newton-CG", "trust-ncg") else {}
        function.value_and_gradient(start)

        def run(budget):
            function.at = None  # the last run's
            options = BUDGET_OPTION[self.method](budget)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                result = minimize(
                    function.value_and_gradient, start, jac=True, method=self.method, options=options,
                    **hessp, **bounds,
                )  # fmt: skip
            return split.joined(result.x) if split else result.x.reshape(problem.shape)

        return run


CONTESTANTS = [Scipy(method) for method in BUDGET_OPTION]
