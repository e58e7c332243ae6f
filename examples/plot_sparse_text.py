"""
Sparse text
===========

Words of texts in a matrix with a million columns. A step costs what the texts of its batch have in words, also for
rules with memory such as Adam.
"""

import time

import matplotlib.pyplot as plt
import numpy as np
from scipy import sparse

from fastopt import SGDClassifier

# %%
# Made-up texts, since nothing is downloaded here: few words are frequent, most are rare.
rng = np.random.default_rng(0)
n, length, widths = 4000, 60, [10_000, 100_000, 1_000_000]


def texts(width):
    words = (width * rng.random((n, length)) ** 4).astype(np.int32)
    X = sparse.csr_array(
        (np.full(words.size, length**-0.5), words.ravel(), np.arange(0, words.size + 1, length)), shape=(n, width)
    )
    X.sum_duplicates()
    return X, X @ rng.standard_normal(width) > 0


# %%
# One epoch of Adam with batches of 32 rows. The number of nonzeros is the same for all widths; what grows is that
# records of more columns lie farther apart in memory, and that each column is looked at once, when the epoch ends.
seconds = []
for width in widths:
    X, y = texts(width)
    model = SGDClassifier("log_loss", optimizer="adam", batch_size=32, max_iter=3, tol=None, random_state=0)
    start = time.perf_counter()
    model.fit(X, y)
    seconds.append((time.perf_counter() - start) / 3)
    print(f"{width:9,} columns, {X.nnz:,} nonzeros, accuracy on the training rows {model.score(X, y):.2f}")

# %%
# A dense algorithm would touch every column in each of the 125 steps of an epoch.
fig, ax = plt.subplots()
ax.loglog(widths, seconds, "-o", label="fastopt, measured here")
growing = [seconds[0] * width / widths[0] for width in widths]
ax.loglog(widths, growing, ":", color="0.5", label="if it grew with the columns")
ax.set(xlabel="columns", ylabel="seconds for an epoch")
ax.legend()
plt.show()
