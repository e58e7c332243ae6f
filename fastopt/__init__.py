"""fastopt: first-order optimizers with compiled update loops, for large linear models on dense and sparse data."""

from fastopt import optimizers, schedules
from fastopt._minimize import minimize
from fastopt._show_versions import show_versions
from fastopt.linear_model import LogisticRegression, LogisticRegressionCV, SGDClassifier, SGDRegressor
from fastopt.model_file import fit, load, save

__version__ = "0.1.0"
__all__ = [
    "LogisticRegression", "LogisticRegressionCV", "SGDClassifier", "SGDRegressor", "__version__", "fit", "load",
    "minimize", "optimizers", "save", "schedules", "show_versions",
]  # fmt: skip
