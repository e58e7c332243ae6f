"""The estimators: scikit-learn's names outside, the compiled solvers inside. One file per family."""

from fastopt.linear_model.logistic import LogisticRegression
from fastopt.linear_model.logistic_cv import LogisticRegressionCV
from fastopt.linear_model.sgd import SGDClassifier, SGDRegressor

__all__ = ["LogisticRegression", "LogisticRegressionCV", "SGDClassifier", "SGDRegressor"]
