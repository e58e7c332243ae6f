"""Writes the files of the present format: python tests/golden/make.py, once for each format, before it is released.

Those of a format that is out are never written again: they are what users have. v<format>.json says of each file what
it must give: parameters, predictions, and where two more epochs from its state lead.
"""

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse
from sklearn.base import clone

import fastopt
from fastopt import LogisticRegression, LogisticRegressionCV, SGDClassifier, SGDRegressor
from fastopt.model_file import VERSION
from fastopt.optimizers import OPTIMIZERS, SGD, Adam, AdamW
from fastopt.schedules import SCHEDULES, Cosine

FOLDER = Path(__file__).parent


def models():
    """Name: (estimator, how X is handed over, labels)."""
    three, rest = ["a", "b", "c"], {"max_iter": 5, "tol": 1e-9, "random_state": 0}
    for rule in OPTIMIZERS:
        yield f"rule-{rule}", LogisticRegression(solver=rule, batch_size=7, **rest), "dense", None
    for solver in ("newton", "sdca", "saga"):
        yield solver, LogisticRegression(solver=solver, **rest), "dense", None
    yield "lbfgs", LogisticRegression(C=np.inf, solver="lbfgs", max_iter=20, fit_intercept=False), "dense", three
    yield "softmax", LogisticRegression(solver="momentum", **rest), "csr", three
    yield "frame", LogisticRegression(solver=Adam(Cosine(0.05)), class_weight="balanced", **rest), "frame", three
    yield "float32", LogisticRegression(solver="auto", l1_ratio=0.5, C=0.1), "float32", None
    random = np.random.default_rng(3)
    yield "options", LogisticRegression(
        solver=AdamW(0.01, weight_decay=0.1, ema_momentum=0.9, clipnorm=1.0), **rest | {"random_state": random}
    ), "dense", None  # fmt: skip
    for name, schedule in SCHEDULES.items():
        yield f"schedule-{name}", LogisticRegression(solver=SGD(schedule(), momentum=0.5), **rest), "dense", None
    yield (
        "cv",
        LogisticRegressionCV(Cs=[0.1, 1.0], cv=2, l1_ratios=(0,), scoring="accuracy", use_legacy_attributes=False),
        "dense",
        None,
    )
    for penalty in ("l2", "l1", "elasticnet"):
        yield f"classifier-{penalty}", SGDClassifier(penalty=penalty, average=penalty == "l2", **rest), "csr", three
    yield "classifier-adam", SGDClassifier(
        loss="log_loss", optimizer="adam", learning_rate=0.01, warm_start=True, **rest
    ), "dense", None  # fmt: skip
    yield "regressor", SGDRegressor(**rest), "dense", None
    yield "regressor-huber", SGDRegressor(loss="huber", average=3, **rest), "dense", None


def data():
    rng = np.random.default_rng(7)
    X = np.round(rng.standard_normal((30, 4)), 2)
    return X, (X @ [1.0, -1.0, 0.5, 0.0] + rng.standard_normal(30) > 0).astype(int)


def handed(X, how):
    if how == "frame":
        return pd.DataFrame(X, columns=["one", "two", "three", "ß"])
    return {"csr": scipy.sparse.csr_array, "float32": np.float32}.get(how, np.asarray)(X)


def targets(y, labels):
    """Three classes if there are labels, made of the rows' numbers."""
    return y if labels is None else np.array(labels, dtype=object)[(y + np.arange(len(y)) // 20)]


def gone_on(model, X, y):
    """After two more epochs, or iterations, from where the model is."""
    if hasattr(model, "partial_fit"):
        return model.partial_fit(X, y).partial_fit(X, y)
    if hasattr(model, "warm_start"):
        return model.set_params(warm_start=True, max_iter=2).fit(X, y)
    return model


def found(model, X):
    """What the file must give."""
    score = model.decision_function if hasattr(model, "decision_function") else model.predict
    parameters = {k: repr(v).split(" at 0x")[0] for k, v in model.get_params(deep=False).items()}
    return {
        "class": type(model).__name__, "parameters": parameters,
        "predictions": model.predict(X).tolist(), "scores": np.asarray(score(X), float).tolist(),
    }  # fmt: skip


def main():
    warnings.simplefilter("ignore")
    if any(FOLDER.glob(f"v{VERSION}-*.npz")) and "--again" not in sys.argv:
        raise SystemExit(f"The files of format {VERSION} are there. Was it released? If not: --again.")
    X, y = data()
    entries = {}
    for name, model, how, labels in models():
        rows, goals = handed(X, how), targets(y, labels)
        path = FOLDER / f"v{VERSION}-{name}.npz"
        fastopt.save(clone(model).fit(rows, goals), path)
        entries[path.name] = {"X": how, "labels": labels} | found(fastopt.load(path), rows)
        later = gone_on(fastopt.load(path), rows, goals)
        entries[path.name] |= {"later": np.asarray(later.coef_, float).ravel().tolist(), "t": steps(later)}
    (FOLDER / f"v{VERSION}.json").write_text(json.dumps(entries, indent=0, ensure_ascii=False) + "\n")


def steps(model):
    """The steps that the model's state has behind it, those before the break too."""
    if hasattr(model, "t_"):
        return float(model.t_)
    state = getattr(model, "optimizer_state_", None) or {}
    return float(state.get("t", 0))


if __name__ == "__main__":
    main()
