"""
What the learning rate does
===========================

The same rule with four learning rates, on a narrow bowl. Too small a rate creeps, too large a one jumps from wall to
wall, or away for good.
"""

import matplotlib.pyplot as plt
import numpy as np

from fastopt import minimize, plot
from fastopt.optimizers import SGD, Adam, GradientDescent


def bowl(x):
    return (x[0] ** 2 + 10 * x[1] ** 2) / 2


def gradient(x):
    return np.array([x[0], 10 * x[1]])


def walk(rule, steps=25):
    """The points that a rule goes through."""
    path = [np.array([-4.0, 1.5])]
    minimize(bowl, path[0], gradient, optimizer=rule, max_iter=steps, callback=path.append)
    return path


# %%
# Gradient descent is stable up to 2 divided by the largest curvature, here 0.2.
fig, axes = plt.subplots(2, 2, figsize=(9, 5), sharex=True, sharey=True, layout="constrained")
for ax, rate in zip(axes.flat, [0.01, 0.1, 0.19, 0.205], strict=True):
    plot.paths(bowl, walk(GradientDescent(learning_rate=rate)), minimum=(0, 0), bounds=((-4.5, 2), (-2.8, 2.8)), ax=ax)
    ax.set(title=f"learning_rate={rate}")
plt.show()

# %%
# Momentum and Adam on the same bowl. A rule is an object without state, so that it can be named, compared and kept.
rules = [GradientDescent(learning_rate=0.18), SGD(learning_rate=0.05, momentum=0.8), Adam(learning_rate=0.5)]
ax = plot.paths(
    bowl,
    *[walk(rule) for rule in rules],
    labels=["gradient descent", "momentum", "Adam"],
    minimum=(0, 0),
    bounds=((-4.5, 2.5), (-2.5, 2.5)),
)
plt.show()
