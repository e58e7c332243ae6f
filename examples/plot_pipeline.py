"""
In scikit-learn's pipeline
==========================

A data frame with numbers and words, a pipeline, and a grid search that also chooses the update rule.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.compose import make_column_transformer
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastopt import SGDClassifier
from fastopt.optimizers import SGD, Adagrad, Adam

# %%
# Made-up messages: spam uses other words, and is longer.
rng = np.random.default_rng(0)
words = np.array([f"word{i}" for i in range(300)])
n = 800
spam = rng.random(n) < 0.4
text = [" ".join(words[(300 * rng.random(20) ** (0.8 if s else 1.2)).astype(int)]) for s in spam]
frame = {"text": np.array(text, dtype=object), "length": rng.normal(300 + 60 * spam, 100)}
X = np.empty((n, 2), dtype=object)
X[:, 0], X[:, 1] = frame["text"], frame["length"]
X_train, X_test, y_train, y_test = train_test_split(X, np.where(spam, "spam", "ham"), random_state=0)

# %%
# The columns go different ways and meet as one CSR matrix, which fastopt reads as it is.
model = make_pipeline(
    make_column_transformer((HashingVectorizer(n_features=2**12), 0), (StandardScaler(), [1]), sparse_threshold=1.0),
    SGDClassifier("log_loss", batch_size=16, max_iter=5, tol=None, random_state=0),
)
grid = {
    "sgdclassifier__optimizer": [SGD(0.1), SGD(0.1, momentum=0.9), Adagrad(0.1), Adam(0.01)],
    "sgdclassifier__alpha": [1e-4, 1e-3, 1e-2],
}
search = GridSearchCV(model, grid, cv=3).fit(X_train, y_train)
print("best:", search.best_params_["sgdclassifier__optimizer"], "alpha", search.best_params_["sgdclassifier__alpha"])
print(f"accuracy on the other rows: {search.score(X_test, y_test):.3f}")

# %%
results = search.cv_results_
fig, ax = plt.subplots(layout="constrained")
for rule in grid["sgdclassifier__optimizer"]:
    chosen = [p["sgdclassifier__optimizer"] == rule for p in results["params"]]
    label = f"{type(rule).__name__}({rule.learning_rate})" + (" with momentum" if getattr(rule, "momentum", 0) else "")
    ax.semilogx(grid["sgdclassifier__alpha"], results["mean_test_score"][chosen], "-o", label=label)
ax.set(xlabel="alpha", ylabel="accuracy in cross-validation")
ax.legend()
plt.show()
