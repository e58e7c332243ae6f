"""scikit-learn's SGDClassifier and LogisticRegression."""

from __future__ import annotations

import importlib
import warnings

import numpy as np

from bench.solvers import Contestant, base_step, binary_only


def _fitted(model, problem) -> np.ndarray:
    """Fit, and return the parameters in the suite's layout."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a limited budget is the point
        model.fit(problem.X, problem.y)
    return np.vstack([model.coef_.T, model.intercept_])


def penalty(problem) -> dict:
    """LogisticRegression's parameters for L1 and elastic net; scikit-learn before 1.8 wants `penalty` named."""
    from sklearn.linear_model import LogisticRegression

    if not problem.l1:
        return {}
    before = {"penalty": "l1" if problem.l1_ratio == 1 else "elasticnet"}
    return {"l1_ratio": problem.l1_ratio} | (before if LogisticRegression().penalty == "l2" else {})


class SGD(Contestant):
    DISTRIBUTION, MODULE = "scikit-learn", "sklearn.linear_model"
    NAME, FAMILY, RULE, BATCHES = "scikit-learn SGDClassifier", "scikit-learn", "sgd", (1,)
    SCALING = L1 = True

    def skip(self, problem):
        return binary_only(problem)  # with more classes it fits one against the rest, not the softmax

    def knobs(self, problem):
        base = base_step(problem)
        rates = [float(f"{base * factor:.3g}") for factor in (1, 4, 16)]
        found = [{"learning_rate": "optimal"}, {"learning_rate": "optimal", "average": True}]
        for rate in rates:
            found.append({"learning_rate": "constant", "eta0": rate, "average": True})
            found.append({"learning_rate": "invscaling", "eta0": float(f"{10 * rate:.3g}"), "power_t": 0.5})
        return found

    def _model(self, problem, budget, **knobs):
        named = {"penalty": "elasticnet", "l1_ratio": problem.l1_ratio} if problem.l1 else {}
        return importlib.import_module(self.MODULE).SGDClassifier(
            loss="log_loss", alpha=problem.alpha, max_iter=budget, tol=None, random_state=self.seed, **named, **knobs
        )

    def prepare(self, problem, **knobs):
        return lambda budget: _fitted(self._model(problem, budget, **knobs), problem)

    def epoch(self, problem, batch_size, rows):
        model = self._model(problem, 1, learning_rate="constant", eta0=base_step(problem))
        return lambda: _fitted(model, problem)


class Logistic(Contestant):
    FAMILY = DISTRIBUTION = "scikit-learn"

    def __init__(self, solver: str):
        self.solver, self.NAME = solver, f"scikit-learn {solver}"
        self.SCALING, self.L1 = solver in ("lbfgs", "saga"), solver in ("saga", "liblinear")

    def skip(self, problem):
        if self.solver == "newton-cholesky" and problem.shape[0] * problem.n_outputs > 3000:
            return f"its Hessian would be {problem.shape[0] * problem.n_outputs:,} squared"

    def prepare(self, problem, **knobs):
        from sklearn.linear_model import LogisticRegression

        settings = {
            "C": 1 / (problem.alpha * problem.X.shape[0]),
            "solver": self.solver,
            "tol": 1e-12,
            **penalty(problem),
        }
        return lambda budget: _fitted(
            LogisticRegression(max_iter=budget, random_state=self.seed, **settings, **knobs), problem
        )


class Liblinear(Logistic):
    SOLVES = "F, but with the intercept, divided by intercept_scaling, penalised too"

    def skip(self, problem):
        return "takes no elastic net" if 0 < problem.l1_ratio < 1 else binary_only(problem)

    def knobs(self, problem):
        # Scaling by 10 leaves a hundredth of the intercept's penalty (with L1 a tenth), and slows the dual down.
        forms = (False,) if problem.l1 else (True, False)
        return [{"dual": dual, "intercept_scaling": scaling} for dual in forms for scaling in (1.0, 10.0)]


CONTESTANTS = [
    SGD(),
    *(Logistic(solver) for solver in ("lbfgs", "newton-cg", "newton-cholesky", "sag", "saga")),
    Liblinear("liblinear"),
]
