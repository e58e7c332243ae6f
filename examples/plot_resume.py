"""
Resume a fit, keep a checkpoint
===============================

Ten epochs are five epochs, a file, and five more: the same bits, with the rule's memory, the course of the learning
rate and the order of the rows.
"""

import tempfile
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import fastopt
from fastopt import LogisticRegression

warnings.simplefilter("ignore")  # five epochs are not meant to converge
X, y = load_digits(return_X_y=True)
X = X / 16
folder = tempfile.TemporaryDirectory()
path = Path(folder.name, "digits.npz")

# %%
# Without a break:
whole = LogisticRegression(solver="adam", learning_rate=0.01, max_iter=10, tol=0, random_state=0).fit(X, y)

# %%
# With one. ``fastopt.save`` writes arrays and JSON, no code; the file is replaced in one step, so that a crash leaves
# the old one or the new one.
first = LogisticRegression(solver="adam", learning_rate=0.01, max_iter=5, tol=0, random_state=0, warm_start=True)
fastopt.save(first.fit(X, y), path)
again = fastopt.load(path).fit(X, y)
print("the same bits:", np.array_equal(whole.coef_, again.coef_))

# %%
# ``fastopt.fit`` keeps such a file up to date by itself. Run the same script after a crash, and it goes on.
model = LogisticRegression(solver="adam", learning_rate=0.01, max_iter=10, tol=0, random_state=0)
fastopt.fit(model, X, y, checkpoint=Path(folder.name, "checkpoint.npz"))
print("the same bits:", np.array_equal(whole.coef_, model.coef_))

# %%
fig, ax = plt.subplots()
ax.semilogy(whole.history_["epoch"], whole.history_["objective"], "-", linewidth=5, alpha=0.3, label="10 epochs")
ax.semilogy(first.history_["epoch"], first.history_["objective"], "o", label="5 epochs")
ax.semilogy(again.history_["epoch"], again.history_["objective"], "x", label="and 5 more, from the file")
ax.set(xlabel="epoch", ylabel="objective")
ax.legend()
plt.show()
folder.cleanup()
