"""Problems and trajectories that several tests share; only `Problem.objective` calls compiled code."""

import dataclasses
import functools
from dataclasses import dataclass

import numpy as np
import scipy.sparse
import sklearn

from fastopt import reference
from fastopt._design import Design
from fastopt.losses import LOSSES
from fastopt.objective import Objective
from fastopt.optimizers import OPTIMIZERS

LAYOUTS = ["dense", "csr32", "csr64"]

#: scikit-learn before 1.8: SGD stops elsewhere and bounds passive-aggressive steps by 1, l1_ratio alone does nothing.
OLD = tuple(map(int, sklearn.__version__.split(".")[:2])) < (1, 8)
ELASTIC_NET = {"penalty": "elasticnet"} if OLD else {}

#: Rules whose lazy steps are those of the dense algorithm with L2 too.
LINEAR = [name for name in OPTIMIZERS if reference.RULES[name].step in (reference.gd_step, reference.sgd_step)]


@dataclass(frozen=True, eq=False)
class Problem:
    """Data of one loss: X in the wanted layout, and the same numbers as a plain float64 array."""

    X: object
    dense: np.ndarray
    y: np.ndarray
    loss: str
    n_outputs: int
    sample_weight: np.ndarray | None
    fit_intercept: bool

    @property
    def shape(self):
        return self.dense.shape[1] + self.fit_intercept, self.n_outputs

    @property
    def terms(self):
        """What `reference.objective`, `gradient` and `epoch` call the same."""
        return {"loss": self.loss, "sample_weight": self.sample_weight, "fit_intercept": self.fit_intercept}

    def objective(self, alpha=0.0, l1_ratio=0.0):
        design = Design.from_array(self.X)
        return Objective(design, self.y, alpha=alpha, n_outputs=self.n_outputs, l1_ratio=l1_ratio, **self.terms)


def problem(
    loss="log_loss", layout="dense", dtype=np.float64, *, n=40, d=12, weighted=False, fit_intercept=True, scale=1.0,
    outputs=1,
):  # fmt: skip
    """Rows with repeated, unsorted and explicitly zero entries, an empty row and an empty column.

    All values are multiples of 1/64, so that float32 and sums of repeated entries hold the very same numbers. With
    several outputs of a pointwise loss each has its own targets, and its own weights.
    """
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 8, n)
    counts[n // 3] = 0
    indptr = np.concatenate([[0], counts.cumsum()])
    indices = rng.integers(0, d - 1, indptr[-1])  # column d - 1 stays empty
    values = np.round(rng.standard_normal(indptr[-1]) * 64) / 64 * scale
    values[::17] = 0.0
    indices[indptr[1] : indptr[2]] = indices[indptr[1]]  # one row holds one column only, several times
    dense = np.zeros((n, d))
    np.add.at(dense, (np.repeat(np.arange(n), counts), indices), values)
    if layout == "dense":
        X = dense.astype(dtype)
    else:
        index = np.int32 if layout == "csr32" else np.int64
        X = csr(values.astype(dtype), indices.astype(index), indptr.astype(index), (n, d))
    targets = LOSSES[loss].targets
    n_outputs = 3 if targets == "multiclass" else outputs
    size = n if outputs == 1 else (n, outputs)
    y = {
        "binary": rng.choice([-1.0, 1.0], size),
        "multiclass": rng.integers(0, n_outputs, n).astype(float),
        "regression": rng.standard_normal(size),
    }[targets]
    if LOSSES[loss].lowest > -np.inf:
        y = np.abs(y)
    weights = rng.integers(0, 4, size).astype(float) if weighted else None
    return Problem(X, dense, y, loss, n_outputs, weights, fit_intercept)


def csr(values, indices, indptr, shape):
    """A CSR array that holds these very arrays, sound or not: scipy's constructor would check and convert them."""
    X = scipy.sparse.csr_array(shape)
    X.data, X.indices, X.indptr = values, indices, indptr
    return X


def interrupt_after(monkeypatch, epochs_class, left):
    """Lets a solver's epochs end in KeyboardInterrupt, but for the next `left`."""
    run = epochs_class.run

    def interrupted(self, order, **options):
        nonlocal left
        if left == 0:
            raise KeyboardInterrupt
        left -= 1
        return run(self, order, **options)

    monkeypatch.setattr(epochs_class, "run", interrupted)


@functools.cache
def trajectory(name, loss, alpha, batch_size, epochs=None, options=(), l1_ratio=0.0, waiting=False, **kwargs):
    """(order, ws, states): the reference's parameters and states before the first step and after each one, float64.

    With `waiting` the penalties act on the coordinates of each batch alone.
    """
    p = problem(loss, layout="csr32" if waiting else "dense", **kwargs)
    X, shares = p.dense, None
    if waiting:
        X, counts = p.X, Design.from_array(p.X).column_counts
        n = len(p.y)  # by hand: of n - c rows without the column a batch takes b
        missed = [np.prod([max(0, n - c - i) / (n - i) for i in range(batch_size)]) for c in counts]
        shares = 1.0 - np.array(missed)
    epochs = epochs or (3 if name == "gd" or batch_size == len(p.y) else 1)  # enough steps to see the state
    rng = np.random.default_rng(1)
    order = np.concatenate([rng.permutation(len(p.y)) for _ in range(epochs)])
    w = start(p.shape)
    hyper = {"learning_rate": 0.05} | dict(options)
    state = reference.init(name, w, **hyper)
    ws, states, t = [w], [state], 0

    def on_step(t, w, state):
        ws.append(w)
        states.append(state)

    for one in np.split(order, epochs):
        w, state, t = reference.epoch(
            X, p.y, w, state, rule=name, hyper=hyper, alpha=alpha, order=one, t0=t, on_step=on_step,
            batch_size="full" if name == "gd" else batch_size, l1_ratio=l1_ratio, shares=shares, **p.terms,
        )  # fmt: skip
    return order, ws, states


def start(shape):
    """Parameters that are not zero, exact in float32."""
    return np.round(np.random.default_rng(2).standard_normal(shape) * 16) / 64


def options_of(name):
    """Every option of a rule at a value other than its default, one at a time."""
    values = {"decay": 0.01, "weight_decay": 0.05, "clipnorm": 0.5, "clipvalue": 0.3, "ema_momentum": 0.9}
    for key, default in (reference.COMMON | reference.RULES[name].defaults).items():
        if key == "learning_rate" or key not in {field.name for field in dataclasses.fields(OPTIMIZERS[name]())}:
            continue
        if isinstance(default, bool):
            yield {key: not default}
        elif key in values:
            yield {key: values[key]}
        elif isinstance(default, int):
            yield {key: default + 3}
        else:
            yield {key: 0.8 * default or 0.5}


def assert_close(actual, expected, tolerance):
    """Largest difference within tolerance of the largest number (and of 1e-3, for what is all but zero)."""
    actual, expected = np.asarray(actual, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    assert actual.shape == expected.shape
    assert np.isfinite(actual).all()
    bound = tolerance * max(float(np.abs(expected).max(initial=0)), 1e-3)
    if (np.abs(actual - expected) > bound).any():  # NumPy's words, when they are needed: they take their time
        np.testing.assert_allclose(actual, expected, rtol=0, atol=bound)
