"""What changing the import line brings: python -m bench.drop_in.

SGDClassifier and SGDRegressor of both libraries with the same parameters and the same number of epochs, float64: whole
fits, checks and all, in turns, on one thread. Both shuffle the rows by their own random numbers, so that they end at
different points: beside the times stands by how much our F is above scikit-learn's.

Two fits more, which are not timed, show by their coefficients that the steps are the same. They take the rows in their
own order, at a constant rate (the long first steps of "optimal" may amplify rounding), and on CSR have no intercept
(both have a rate of their own for it there). With L1 the coefficients differ on CSR, where scikit-learn's takes nothing
from columns that wait, and averages with L1 differ everywhere, since scikit-learn's are not the means of the iterates.
"""

from bench.machine import pin_threads

pin_threads()  # before anything imports NumPy

import argparse  # noqa: E402
import importlib  # noqa: E402
import json  # noqa: E402
import statistics  # noqa: E402
import time  # noqa: E402
import warnings  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402

from bench.machine import facts  # noqa: E402
from bench.problems import get  # noqa: E402

ROUNDS = 7
EPOCHS = 5
RESULTS = Path(__file__).with_name("results")
CASES = (
    ("SGDClassifier", {}),
    ("SGDClassifier", {"loss": "log_loss"}),
    ("SGDClassifier", {"loss": "log_loss", "penalty": "l1"}),
    ("SGDClassifier", {"loss": "log_loss", "penalty": "elasticnet"}),
    ("SGDClassifier", {"loss": "log_loss", "average": True}),
    ("SGDClassifier", {"loss": "log_loss", "penalty": "l1", "average": True}),
    ("SGDClassifier", {"loss": "log_loss", "penalty": "elasticnet", "average": True}),
    ("SGDClassifier", {"loss": "modified_huber", "penalty": None}),
    ("SGDRegressor", {}),
)


def data():
    """Names, rows, and targets by kind."""
    text, rng = get("text_like"), np.random.default_rng(0)
    X = text.X64
    found = {f"CSR {X.shape[0]:,} x {X.shape[1]:,}": (X, text.y, X @ rng.standard_normal(X.shape[1]))}
    for n, d in ((150, 4), (100_000, 20), (5_000, 1_000)):
        X = rng.standard_normal((n, d))
        z = X @ rng.standard_normal(d) / np.sqrt(d) + 0.5 * rng.standard_normal(n)
        found[f"dense {n:,} x {d:,}"] = X, np.sign(z), z
    X, _, z = found["dense 100,000 x 20"]
    found["dense 100,000 x 20, 3 classes"] = X, np.digitize(z, (-0.5, 0.5)).astype(float), None
    name, (X, _, z) = next(iter(found.items()))
    found[f"{name}, 3 classes"] = X, np.digitize(z, np.quantile(z, (1 / 3, 2 / 3))).astype(float), None
    return found


def seconds(model, X, y):
    start = time.perf_counter()
    model.fit(X, y)
    return time.perf_counter() - start


LOSSES = {
    "hinge": lambda y, z: np.maximum(0, 1 - y * z),
    "log_loss": lambda y, z: np.logaddexp(0, -y * z),
    "modified_huber": lambda y, z: np.where(y * z < -1, -4 * y * z, np.maximum(0, 1 - y * z) ** 2),
    "squared_error": lambda y, z: (z - y) ** 2 / 2,
}


def value(model, X, y):
    """F at the model's coefficients, summed over the outputs."""
    coef, targets = np.atleast_2d(model.coef_), y[:, None]
    if hasattr(model, "classes_"):
        targets = np.where(targets == model.classes_[-len(coef) :], 1.0, -1.0)
    ratio = {"l1": 1.0, "elasticnet": model.l1_ratio}.get(model.penalty, 0.0)
    penalty = (1 - ratio) / 2 * np.sum(coef**2) + ratio * np.abs(coef).sum()
    loss = LOSSES[model.loss](targets, X @ coef.T + model.intercept_).mean(axis=0).sum()
    return loss + (model.alpha * penalty if model.penalty else 0.0)


def compare(name, parameters, X, y):
    """(fastopt's seconds, scikit-learn's, by how much F is above theirs as a part of it, how far the coefficients of
    equal steps are apart, relative to the largest)."""
    fixed = {"max_iter": EPOCHS, "tol": None, "random_state": 0}
    ours, theirs = (
        getattr(importlib.import_module(module), name)(**fixed, **parameters)
        for module in ("fastopt", "sklearn.linear_model")
    )
    turns = [(seconds(ours, X, y), seconds(theirs, X, y)) for _ in range(ROUNDS + 1)][1:]
    above = value(ours, X, y) / value(theirs, X, y) - 1
    for model in (ours, theirs):
        model.set_params(shuffle=False, learning_rate="constant", eta0=1e-3, fit_intercept=isinstance(X, np.ndarray))
        model.fit(X, y)
    apart = np.max(np.abs(ours.coef_ - theirs.coef_)) / np.max(np.abs(theirs.coef_))
    return *(statistics.median(turn) for turn in zip(*turns, strict=True)), float(above), float(apart)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=RESULTS / "drop_in.json", help="where the figures go")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = []
    for problem, (X, labels, numbers) in data().items():
        for name, parameters in CASES:
            y = numbers if name == "SGDRegressor" else labels
            if y is None:
                continue
            ours, theirs, above, apart = compare(name, parameters, X, y)
            call = f"{name}({', '.join(f'{key}={value!r}' for key, value in parameters.items())})"
            rows.append(
                {"problem": problem, "call": call, "ours": ours, "theirs": theirs, "above": above, "apart": apart}
            )
            print(
                f"{problem:30s} {call:56s} {1e3 * ours:7.1f} ms, scikit-learn {1e3 * theirs:7.1f} ms: "
                f"{theirs / ours:.2g}x, F {above:+.0e}, coefficients {apart:.0e} apart",
                flush=True,
            )
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps({"machine": facts(), "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
