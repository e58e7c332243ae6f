"""Who may import whom: the floors of the package, read from the sources."""

import ast
import re
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "fastopt"
MODULES = sorted(path.relative_to(PACKAGE.parent) for path in PACKAGE.rglob("*.py") if "__pycache__" not in path.parts)
CYTHON = sorted(path.relative_to(PACKAGE.parent) for path in PACKAGE.rglob("*.p[yx][xd]"))

# From the ground up; a module may import what stands on a lower floor than its own.
FLOORS = [
    ["_kernels"],
    ["_validation"],
    ["losses", "_memory", "penalties", "schedules", "reference"],
    ["optimizers", "_design", "_parallel"],
    ["_order", "_chunks"],
    ["objective"],
    ["solvers.monitor", "solvers.one_hot", "solvers.quadratic"],
    # In terms of what solvers return and measure.
    ["solvers.columns", "solvers.resume", "solvers.row_space", "solvers.scaled"],
    ["solvers.epochs"],
    ["solvers.rates"],
    ["solvers", "_minimize"],
    ["solvers.table"],
    ["solvers.auto"],
    ["linear_model._base"],
    ["linear_model.logistic", "linear_model.sgd"],
    ["linear_model.logistic_cv"],
    ["linear_model"],
    ["model_file"],
    ["data._folder", "data._read"],
    ["data._convert"],
    ["dask._cluster"],
    ["dask._parts"],
    ["dask._objective"],
    ["dask._rounds", "dask._start"],
    ["dask._base"],
    ["dask.logistic", "dask.sgd"],
    ["data", "dask", "plot"],
    ["_show_versions", "__main__"],
]
#: What some modules import from fastopt at most, beside their floor.
ONLY = {
    "losses": {"_validation"},
    "penalties": {"_validation"},
    "schedules": {"_validation"},
    "reference": set(),
    "_validation": set(),
    "optimizers": {"_kernels.step", "_validation", "schedules"},
}
#: When called: they ask the package for its version; a rule is a method of scipy's minimize. The kernels' package asks
#: one of its modules for the processor's vector level.
EXCEPTIONS = {("_show_versions", ""), ("__main__", ""), ("optimizers", "_minimize"), ("_kernels", "_kernels.about")}
#: What no module below the estimators may know, and the modules that need NumPy alone.
ESTIMATORS = {"linear_model", "model_file", "data", "dask", "plot", "__main__"}
NUMPY_ONLY = {"losses", "penalties", "schedules", "reference", "_validation"}


def name_of(path):
    """Name within the package; "" is the package itself."""
    return ".".join(part for part in path.with_suffix("").parts[1:] if part != "__init__")


def imports(path):
    """Full names of all that a source imports, wherever the statement stands."""
    for node in ast.walk(ast.parse((PACKAGE.parent / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if is_module(full) else node.module
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("__import__", "importlib.import_module"):
            pytest.fail(f"{path}: a hidden import")


def is_module(full):
    path = PACKAGE.parent / Path(*full.split("."))
    return path.is_dir() or any(path.with_suffix(suffix).exists() for suffix in (".py", ".pyx", ".pyi"))


def ours(path):
    return {full.removeprefix("fastopt").removeprefix(".") for full in imports(path) if full.split(".")[0] == "fastopt"}


def floor(name):
    """Floor of a module: that of its own name, else of the package it is in."""
    while name:
        for level, names in enumerate(FLOORS):
            if name in names:
                return level
        name = name.rpartition(".")[0]
    return len(FLOORS)  # fastopt/__init__.py


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_floors(path):
    name = name_of(path)
    for other in ours(path):
        assert (name, other) in EXCEPTIONS or floor(other) < floor(name), (
            f"{name} imports {other}, which is not below it"
        )
    if name in ONLY:
        assert {other for other in ours(path) if (name, other) not in EXCEPTIONS} <= ONLY[name]


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_every_module_has_a_floor(path):
    assert name_of(path) == "" or floor(name_of(path)) < len(FLOORS)


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_what_each_floor_knows_of_the_world(path):
    name, tops = name_of(path), {full.split(".")[0] for full in imports(path)} - set(sys.stdlib_module_names)
    assert not tops & {"tests", "bench", "conftest", "cases"}
    if name and name.split(".")[0] not in ESTIMATORS:
        assert "sklearn" not in tops
    if name in NUMPY_ONLY:
        assert tops <= {"numpy", "fastopt"}
    if name == "":
        assert tops <= {"fastopt"}


@pytest.mark.parametrize("path", CYTHON, ids=str)
def test_kernels(path):
    """libc and each other, atoms never a loop; no NumPy ABI, and nothing but NumPy at run time."""
    text = (PACKAGE.parent / path).read_text(encoding="utf-8")
    cimported = re.findall(r"^\s*from\s+([\w.]+)\s+cimport", text, re.M) + re.findall(
        r"^\s*cimport\s+([\w.]+)", text, re.M
    )
    atoms = {"fastopt._kernels." + other.stem for other in CYTHON if other.suffix == ".pxd"}
    for module in cimported:
        assert module.split(".")[0] in ("libc", "cython", "cpython") or module in atoms, module
    python = re.findall(r"^\s*(?:from\s+([\w.]+)\s+import\b|import\s+([\w.]+))", text, re.M)
    assert {a or b for a, b in python} <= ({"numpy"} | atoms if path.suffix == ".pyx" else set())


def test_the_reference_needs_no_compiled_module():
    """Neither by itself, nor by what it imports."""
    assert ours(Path("fastopt/reference.py")) == set()


def test_the_sources_were_found():
    assert len(CYTHON) > 5
    assert len(MODULES) > 10
