"""
Functions that are not convex
=============================

``minimize`` drives the same rules on any function: one with four minima, and the loss of a small neural network.
"""

import matplotlib.pyplot as plt
import numpy as np

from fastopt import minimize, plot
from fastopt.optimizers import SGD, Adam

# %%
# Himmelblau's function has four minima of value 0. Which one a path ends in depends on where it starts, and on
# the rule.


def himmelblau(x):
    return (x[0] ** 2 + x[1] - 11) ** 2 + (x[0] + x[1] ** 2 - 7) ** 2


def gradient(x):
    a, b = x[0] ** 2 + x[1] - 11, x[0] + x[1] ** 2 - 7
    return np.array([4 * x[0] * a + 2 * b, 2 * a + 4 * x[1] * b])


def walk(rule):
    path = [np.array([-0.3, -0.9])]
    result = minimize(himmelblau, path[0], gradient, optimizer=rule, max_iter=5000, tol=1e-4, callback=path.append)
    return path, result


found = {
    "momentum 0.5": walk(SGD(0.005, momentum=0.5)),
    "momentum 0.95": walk(SGD(0.005, momentum=0.95)),
    "Adam": walk(Adam(0.3)),
}
for name, (path, result) in found.items():
    print(f"{name:14} {len(path) - 1:4} steps to {result.x.round(2)}")
plot.paths(
    lambda x: np.log(1 + himmelblau(x)),
    *[path for path, _ in found.values()],
    labels=list(found),
    bounds=((-5.5, 5.5), (-5.5, 5.5)),
)
plt.show()

# %%
# Two layers, sixteen hidden units, that learn to tell two rings apart. ``fun`` gets the rows of
# the minibatch and gives the loss and its gradient, by the chain rule.
rng = np.random.default_rng(0)
radius, angle = np.repeat([0.4, 0.9], 200) + 0.08 * rng.standard_normal(400), rng.uniform(0, 2 * np.pi, 400)
X, label = np.column_stack([radius * np.cos(angle), radius * np.sin(angle)]), np.repeat([-1.0, 1.0], 200)
H = 16


def network(w, X):
    hidden = np.tanh(X @ w[: 2 * H].reshape(2, H) + w[2 * H : 3 * H])
    return hidden, hidden @ w[3 * H : 4 * H] + w[-1]


def loss(w, rows):
    hidden, out = network(w, X[rows])
    margin = label[rows] * out
    d_out = -label[rows] / (1 + np.exp(margin)) / len(rows)
    d_hidden = np.outer(d_out, w[3 * H : 4 * H]) * (1 - hidden**2)
    parts = [(X[rows].T @ d_hidden).ravel(), d_hidden.sum(axis=0), hidden.T @ d_out, [d_out.sum()]]
    return np.mean(np.log1p(np.exp(-margin))), np.concatenate(parts)


result = minimize(
    loss,
    rng.standard_normal(4 * H + 1),
    True,
    optimizer=Adam(0.02),
    n_samples=400,
    batch_size=20,
    max_iter=60,
    tol=1e-3,
    rng=0,
)
print(f"right: {np.mean(np.sign(network(result.x, X)[1]) == label):.1%}")

# %%
line = np.linspace(-1.2, 1.2, 100)
out = network(result.x, np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2))[1].reshape(100, 100)
fig, ax = plt.subplots(figsize=(4.5, 4.5))
ax.contourf(line, line, np.tanh(out / 4), levels=20, cmap="RdBu", vmin=-1.6, vmax=1.6)
ax.scatter(*X.T, c=label, cmap="coolwarm_r", s=8)
ax.set(aspect="equal")
plt.show()
