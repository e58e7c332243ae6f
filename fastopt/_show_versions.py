"""Facts for bug reports."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version

import numpy as np

from fastopt._kernels import LEVEL, about
from fastopt._parallel import threads

__all__ = ["show_versions"]

#: What fastopt computes with, and what it can work beside.
DISTRIBUTIONS = (
    "numpy", "scipy", "scikit-learn", "joblib", "threadpoolctl", "pandas", "matplotlib", "tqdm", "pyarrow", "dask",
    "distributed",
)  # fmt: skip
DTYPES = ("float32", "float64", "int32", "int64", "intp")


def show_versions() -> None:
    """Prints what a bug report needs: versions, the compiler of the kernels, sizes of the data types, threads.

    Examples
    --------
    >>> import fastopt
    >>> fastopt.show_versions()
    fastopt        ...
    Python         ...
    """
    for name, value in _facts().items():
        print(f"{name:14s} {value}")


def _facts() -> dict[str, str]:
    import fastopt

    facts = {"fastopt": fastopt.__version__, "Python": sys.version.replace("\n", " "), "platform": platform.platform()}
    facts |= {name: _version(name) for name in DISTRIBUTIONS}
    return facts | {
        "compiler": f"{about.COMPILER}, through Cython {about.CYTHON}",
        "vectors": LEVEL,
        "bytes": ", ".join(f"{name} {np.dtype(name).itemsize}" for name in DTYPES),
        "threads": f"{threads()} for passes, of {os.cpu_count()} processors",
    }


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed"
