"""
Compare solvers, watch a fit
============================

The gap of the objective by time and by epoch for several solvers; and a callback, which sees every epoch and may stop
the fit.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.preprocessing import scale

from fastopt import LogisticRegression, minimize, plot
from fastopt.optimizers import Adam

X, y = load_digits(return_X_y=True)
X, y = scale(X), y % 2

# %%
# All of them minimise the same F, so that their objectives can be compared.
fits = []
for name in ["sgd", "nesterov", "adam", "sdca", "saga", "lbfgs", "newton"]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some of them do not get to 1e-6 in 60 epochs
        fits.append(LogisticRegression(solver=name, tol=1e-6, max_iter=60, random_state=0).fit(X, y))
best = min(fit.objective_ for fit in fits) * (1 - 1e-9)
fig, axes = plt.subplots(1, 2, figsize=(9, 4), sharey=True, layout="constrained")
plot.convergence(*fits, best=best, ax=axes[0])
plot.convergence(*fits, best=best, x="seconds", ax=axes[1])
axes[0].set_ylim(1e-8, 2)
axes[1].set(xscale="log", ylabel="")
axes[0].get_legend().remove()
plt.show()

# %%
# ``minimize`` hands each epoch's value to a callback, which stops the run by raising ``StopIteration``.
t = np.random.default_rng(0).uniform(-1, 1, 500)
z = np.sin(3 * t)


def error(w, rows):
    powers = t[rows, None] ** np.arange(6)
    residual = powers @ w - z[rows]
    return np.mean(residual**2) / 2, powers.T @ residual / len(rows)


values = []


def watch(intermediate_result):
    values.append(intermediate_result.fun)
    if intermediate_result.fun < 1e-4:
        raise StopIteration


result = minimize(
    error,
    np.zeros(6),
    True,
    optimizer=Adam(learning_rate=0.02),
    n_samples=500,
    batch_size=25,
    max_iter=500,
    rng=0,
    callback=watch,
)
print(f"{len(values)} epochs: {result.message}")

# %%
fig, ax = plt.subplots()
ax.semilogy(values)
ax.set(xlabel="epoch", ylabel="mean squared error / 2")
plt.show()
