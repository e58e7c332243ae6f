"""The estimators: scikit-learn's names outside, the compiled solvers inside. One file per family."""

from fastopt.linear_model.logistic import FINISHERS, LogisticRegression

__all__ = ["FINISHERS", "LogisticRegression"]
