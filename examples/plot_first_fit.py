"""
A first fit
===========

A logistic regression in a pipeline of scikit-learn's, and how it went: the norm of the objective's gradient, epoch by
epoch, until it is at most ``tol``.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastopt import LogisticRegression, plot

X, y = load_breast_cancer(return_X_y=True)
model = make_pipeline(StandardScaler(), LogisticRegression(solver="nesterov", tol=1e-2, max_iter=500, random_state=0))
print(f"accuracy in cross-validation: {cross_val_score(model, X, y).mean():.3f}")

# %%
# After a fit the estimator tells whether it converged. That is measured on all the rows, not guessed.
fitted = model.fit(X, y)[-1]
print(f"{fitted.stop_reason_=}, {fitted.grad_norm_=:.1e}, epochs: {fitted.n_iter_[0]}")

# %%
# What ``history_`` holds, drawn:
ax = plot.convergence(fitted, y="grad_norm")
ax.axhline(fitted.tol, color="0.5", linestyle=":")
ax.annotate("tol", (0, 1.1 * fitted.tol), color="0.4")
plt.show()
