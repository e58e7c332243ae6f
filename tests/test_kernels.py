"""What all kernels share: the vector levels they are compiled for, and their exp."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from fastopt import _kernels, reference
from fastopt._design import Design
from fastopt._kernels import LEVELS, about, passes
from fastopt.objective import Objective
from fastopt.optimizers import OPTIMIZERS
from fastopt.solvers.epochs import Epochs

HERE = Path(_kernels.__file__).parent
#: Levels that were compiled and that this processor has.
USABLE = [
    level
    for i, level in enumerate(LEVELS)
    if i <= about.LEVEL and (level == "baseline" or any((HERE / level).glob("dense.*")))
]

EPOCHS = """
import numpy as np, scipy.sparse
from fastopt import _kernels
from fastopt._design import Design
from fastopt.objective import Objective
from fastopt.optimizers import OPTIMIZERS
from fastopt.solvers.epochs import Epochs
rng = np.random.default_rng(0)
X = rng.standard_normal((60, 37)) * (rng.random((60, 37)) < 0.2)
y = rng.choice([-1.0, 1.0], 60)
print(_kernels.LEVEL, _kernels.dense.__file__)
for name, rule in OPTIMIZERS.items():
    for data, lazy in ((X, None), (scipy.sparse.csr_array(X), True)):
        epochs = Epochs(Objective(Design.from_array(data), y), rule(learning_rate=0.05), 3, lazy=lazy)
        for _ in range(3):
            epochs.run(rng.permutation(60))
        print(name, *(w.hex() for w in epochs.w.ravel().tolist()))
"""


def run(code, level):
    environment = os.environ | {"FASTOPT_SIMD": level, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def iterates():
    """Of every rule at every level: {level: [(rule, w)]}."""
    found = {}
    for level in USABLE:
        done = run(EPOCHS, level)
        assert done.returncode == 0, done.stderr
        first, *rows = done.stdout.splitlines()
        name, path = first.split(" ", 1)
        assert name == level
        assert (Path(path).parent.name == level) == (level != "baseline")
        found[level] = [(rule, np.array([float.fromhex(w) for w in ws])) for rule, *ws in map(str.split, rows)]
    return found


def test_the_widest_level_is_used():
    assert _kernels.LEVEL == (os.environ.get("FASTOPT_SIMD") or USABLE[-1])


@pytest.mark.parametrize("level", USABLE)
def test_every_level_takes_the_same_steps(level, iterates):
    """Within a few roundings: only fused multiplications differ."""
    for (rule, w), (_, expected) in zip(iterates[level], iterates["baseline"], strict=True):
        np.testing.assert_allclose(w, expected, rtol=0, atol=1e-12 * np.abs(expected).max(), err_msg=rule)


@pytest.mark.parametrize("level", ["", "v5", *LEVELS[about.LEVEL + 1 :]])
def test_a_level_that_is_not_there(level):
    done = run("import fastopt", level)
    if not level:
        assert done.returncode == 0
        return
    assert done.returncode
    assert "FASTOPT_SIMD must be one of 'baseline'" in done.stderr
    assert repr(level) in done.stderr


@pytest.mark.parametrize(("kind", "low", "high", "exact"), [
    (np.float64, -708.3, 709.7, np.longdouble),
    (np.float32, -87.3, 88.7, np.float64),
])  # fmt: skip
def test_exp(kind, low, high, exact):
    """Within 2 ulp over all its range, also where the loop's last elements are not vectorised."""
    rng = np.random.default_rng(0)
    x = np.concatenate([np.linspace(low, high, 200_001), rng.uniform(-1, 1, 50_000), [0.0, low, high]]).astype(kind)
    x = x[(x >= kind(low)) & (x <= kind(high))]
    for values in (x, *(x[i : i + 7] for i in range(0, 700, 7))):
        y, right = values.copy(), np.exp(values.astype(exact))
        passes.exponential(y)
        assert (np.abs(y - right) <= 2 * np.spacing(right.astype(kind)).astype(exact)).all()


def test_log1p():
    """Within 2 ulp over [0, 1], also where exp has made x tiny."""
    rng = np.random.default_rng(0)
    x = np.concatenate([np.linspace(0, 1, 100_001), 10.0 ** rng.uniform(-300, 0, 50_000), rng.random(50_000)])
    for values in (x, *(x[i : i + 7] for i in range(0, 700, 7))):
        y, right = values.copy(), np.log1p(values.astype(np.longdouble))
        passes.logarithm(y)
        assert (np.abs(y - right) <= 2 * np.spacing(right.astype(np.float64)).astype(np.longdouble)).all()


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_exp_beyond_its_range(kind):
    """The value at the end of the range; NaN stays NaN."""
    x = np.array([-np.inf, -1e30, -1e4, np.nan, 1e4, 1e30, np.inf] * 5, dtype=kind)
    passes.exponential(x)
    smallest, largest = np.finfo(kind).tiny, np.finfo(kind).max
    bits = np.dtype(f"u{x.itemsize}")
    other = (np.full(9, np.nan, dtype=kind).view(bits) | np.arange(9, dtype=bits)).view(kind)  # NaN's other bits
    passes.exponential(other)
    assert np.isnan(other).all()
    for row in x.reshape(5, 7):
        assert np.isnan(row[3])
        assert (row[:3] >= smallest).all()
        assert (row[:3] < 4 * smallest).all()
        assert (row[4:] > largest / 4).all()
        assert np.isfinite(row[4:]).all()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_large_steps_wherever_arrays_begin(name, dtype):
    """Up to w's first whole cache line a step goes by itself: no element is left out or taken twice."""
    rng = np.random.default_rng(0)
    n, rule = 5000, OPTIMIZERS[name](learning_rate=0.05)
    start, g = rng.standard_normal((2, n)).astype(dtype)
    halves = start.copy()
    for part, slope in ((halves[:2500], g[:2500]), (halves[2500:], g[2500:])):  # too small for a beginning of its own
        state = rule.init(part)
        for _ in range(3):
            rule.step(part, slope, state)
    for offset in (0, 1, 3, 4, 15, 16):
        w = np.empty(n + 64, dtype)[offset : offset + n]
        w[:] = start
        state = rule.init(w)
        for _ in range(3):
            rule.step(w, g, state)
        np.testing.assert_allclose(w, halves, rtol=0, atol=1e-6 if dtype == np.float32 else 1e-13)


@pytest.mark.parametrize("n_outputs", [2, 3, 5, 7, 10, 17, 34])
@pytest.mark.parametrize("layout", ["dense", "csr"])
@pytest.mark.parametrize("batch_size", [1, 7, 8, 33])
def test_epochs_of_any_number_of_outputs(n_outputs, layout, batch_size, dtype):
    """Every way to cut the outputs into vectors, rows side by side and alone: against the reference."""
    rng = np.random.default_rng(n_outputs)
    X = (rng.standard_normal((67, 13)) * (rng.random((67, 13)) < 0.4)).astype(dtype)
    y = rng.integers(0, n_outputs, len(X)).astype(float)
    y[:n_outputs] = range(n_outputs)
    order = rng.permutation(len(X))
    design = Design.from_array(sparse.csr_array(X) if layout == "csr" else X)
    F = Objective(design, y, loss="multinomial", alpha=0.01, n_outputs=n_outputs)
    for rule in ("sgd", "adagrad"):
        epochs = Epochs(F, OPTIMIZERS[rule](learning_rate=0.1), batch_size=batch_size, lazy=False)
        epochs.run(order)
        w = np.zeros(F.shape)
        slot = np.zeros(F.shape)
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            terms = {"loss": "multinomial", "alpha": 0.01, "fit_intercept": True}
            g = reference.gradient(X[rows].astype(float), y[rows], w, **terms)
            if rule == "sgd":
                w -= 0.1 * g
            else:
                slot += g**2
                w -= 0.1 * g / np.sqrt(slot + 1e-6)
        np.testing.assert_allclose(epochs.w, w, rtol=0, atol=2e-5 if dtype == np.float32 else 1e-12)


@pytest.mark.parametrize("n_outputs", [1, 3])
@pytest.mark.parametrize("rule", ["sgd", "adagrad"])
def test_batches_of_several_blocks(n_outputs, rule, dtype):
    """Rows so long that a batch goes through the stages in blocks: steps of the batch's gradient at once."""
    rng = np.random.default_rng(3)
    X = (rng.standard_normal((100, 20_000)) / 100).astype(dtype)
    y = rng.integers(0, max(2, n_outputs), len(X)).astype(float)
    loss, y = ("multinomial", y) if n_outputs > 1 else ("log_loss", 2 * y - 1)
    F = Objective(Design.from_array(X), y, loss=loss, alpha=0.01, n_outputs=n_outputs)
    epochs = Epochs(F, OPTIMIZERS[rule](learning_rate=0.1), batch_size=70)
    order = rng.permutation(len(X))
    epochs.run(order)
    w, slot = np.zeros(F.shape), np.zeros(F.shape)
    for rows in (order[:70], order[70:]):
        g = reference.gradient(X[rows].astype(float), y[rows], w, loss=loss, alpha=0.01)
        if rule == "adagrad":
            slot += g**2
            g = g / np.sqrt(slot + 1e-6)
        w = w - 0.1 * g
    np.testing.assert_allclose(epochs.w, w, rtol=0, atol=2e-5 if dtype == np.float32 else 1e-12)
