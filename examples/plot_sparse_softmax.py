"""
Softmax on sparse rows, in pieces
=================================

Ten classes, CSR data, sample weights and ``partial_fit`` together: a stream of rows goes by once.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy import sparse
from sklearn.datasets import load_digits

from fastopt import SGDClassifier

X, y = load_digits(return_X_y=True)
order = np.random.default_rng(0).permutation(len(y))
X, y = sparse.csr_array(X / 16)[order], y[order]
train, test = slice(0, 1500), slice(1500, None)

# %%
# Each piece of 100 rows is used once, then forgotten. Rule, moments and the count of steps go on from piece to piece.
model = SGDClassifier(
    "multinomial", optimizer="adam", learning_rate="constant", eta0=0.01, batch_size=10, alpha=1e-5, random_state=0
)
scores = []
for start in range(0, 1500, 100):
    rows = slice(start, start + 100)
    weights = np.where(y[rows] == 8, 2.0, 1.0)  # eights count twice
    model.partial_fit(X[rows], y[rows], classes=np.arange(10), sample_weight=weights)
    scores.append(model.score(X[test], y[test]))

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), width_ratios=[1, 1.2], layout="constrained")
left.plot(np.arange(100, 1600, 100), scores, "-o")
left.set(xlabel="rows seen", ylabel="accuracy on the other rows", ylim=(0, 1))
right.imshow(np.block([[model.coef_[5 * i + j].reshape(8, 8) for j in range(5)] for i in range(2)]), cmap="RdBu_r")
right.set(title="the coefficients of 0 to 4, and of 5 to 9", xticks=[], yticks=[])
plt.show()
