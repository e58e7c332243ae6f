"""The estimators on Dask: data stay on the workers, F and its minimum are those of one machine."""

from fastopt.dask.logistic import LogisticRegression
from fastopt.dask.sgd import SGDClassifier, SGDRegressor

__all__ = ["LogisticRegression", "SGDClassifier", "SGDRegressor"]
