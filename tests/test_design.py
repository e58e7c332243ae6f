"""What is read in place, what is converted once, and what is refused before anything is read through it."""

import copy
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
from cases import csr, problem

from fastopt import LogisticRegression, SGDClassifier, SGDRegressor
from fastopt._design import Design, check_csr
from fastopt.objective import Objective
from fastopt.optimizers import OPTIMIZERS, SGD
from fastopt.solvers.epochs import Around, Epochs
from fastopt.solvers.sdca import sdca
from fastopt.solvers.table import SOLVERS

# --- no copy where none is promised -----------------------------------------------------------------------------------


def rows_of(design):
    """The design's rows as a plain array, read through its arrays alone."""
    if not design.sparse:
        return np.array(design.values, dtype=np.float64)
    out = np.zeros(design.shape)
    for row in range(design.shape[0]):
        for k in range(design.indptr[row], design.indptr[row + 1]):
            out[row, design.indices[k]] += design.values[k]
    return out


DENSE_IN_PLACE = {
    "C": lambda X: X,
    "columns cut off": lambda X: X[:, :7],
    "rows cut out": lambda X: X[3:20:2],
    "backwards": lambda X: X[::-1],
    "one column": lambda X: X[:, 3:4],
    "one row in Fortran order": lambda X: np.asfortranarray(X[:1]),
    "one row for all": lambda X: np.broadcast_to(X[1], X.shape),
}
DENSE_CONVERTED = {
    "Fortran": lambda X: np.asfortranarray(X),
    "every other column": lambda X: X[:, ::2],
    "columns backwards": lambda X: X[:, ::-1],
    "big-endian": lambda X: X.astype(X.dtype.newbyteorder(">")),
    "float16": lambda X: np.round(X).astype(np.float16),
    "integers": lambda X: np.round(X).astype(np.int8),
    "booleans": lambda X: X > 0,
    "list": lambda X: X.tolist(),
    "field of a record": lambda X: np.rec.fromarrays([X, X > 0], names="x,y").x,
}


@pytest.mark.parametrize("case", DENSE_IN_PLACE)
def test_dense_rows_are_read_in_place(case, dtype):
    X = DENSE_IN_PLACE[case](problem(dtype=dtype).X)
    design = Design.from_array(X)
    assert np.shares_memory(design.values, X)
    assert design.values.strides == X.strides
    assert (design.dtype, design.shape, design.sparse) == (dtype, X.shape, False)


@pytest.mark.parametrize("case", DENSE_CONVERTED)
def test_other_arrays_are_converted_once(case, dtype):
    X = DENSE_CONVERTED[case](problem(dtype=dtype).X)
    design = Design.from_array(X)
    assert design.dtype in (np.float32, np.float64)
    if np.asarray(X).dtype == np.float32:
        assert design.dtype == np.float32
    assert design.values.strides[1] == design.values.itemsize
    assert design.values.flags.aligned
    np.testing.assert_array_equal(rows_of(design), np.asarray(X, dtype=np.float64))


@pytest.mark.parametrize("container", [scipy.sparse.csr_array, scipy.sparse.csr_matrix])
@pytest.mark.parametrize("index", [np.int32, np.int64])
def test_csr_is_read_in_place(index, dtype, container):
    p = problem(layout="csr32" if index == np.int32 else "csr64", dtype=dtype)
    X = container(p.X.shape, dtype=dtype)
    X.data, X.indices, X.indptr = p.X.data, p.X.indices, p.X.indptr
    design = Design.from_array(X)
    for ours, theirs in ((design.values, X.data), (design.indices, X.indices), (design.indptr, X.indptr)):
        assert np.shares_memory(ours, theirs)
        assert ours.dtype == theirs.dtype
    assert not design.distinct  # rows name columns twice, whatever scipy's flags say
    np.testing.assert_array_equal(rows_of(design), p.dense)
    p.X.sum_duplicates()
    assert Design.from_array(p.X).distinct


@pytest.mark.parametrize(("indices", "indptr"), [(np.int32, np.int64), (np.int64, np.int32)])
def test_mixed_index_types(indices, indptr):
    """The values and the columns stay where they are; only the row starts are converted."""
    p = problem(layout="csr32")
    X = csr(p.X.data, p.X.indices.astype(indices), p.X.indptr.astype(indptr), p.X.shape)
    design = Design.from_array(X)
    assert design.indices.dtype == design.indptr.dtype
    assert np.shares_memory(design.values, X.data)
    assert np.shares_memory(design.indices, X.indices)
    np.testing.assert_array_equal(rows_of(design), p.dense)


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int64, bool, np.longdouble, ">f4"])
def test_other_stored_values_are_converted(dtype):
    p = problem(layout="csr32", scale=64)
    X = csr(p.X.data.astype(dtype), p.X.indices, p.X.indptr, p.X.shape)
    design = Design.from_array(X)
    assert design.dtype == np.float64
    np.testing.assert_array_equal(design.values, X.data.astype(np.float64))
    assert np.shares_memory(design.indices, X.indices)


@pytest.mark.parametrize("form", ["csc", "coo", "bsr", "lil", "dok", "dia"])
@pytest.mark.parametrize("container", ["array", "matrix"])
def test_other_sparse_formats(form, container):
    p = problem(layout="csr32")
    X = getattr(scipy.sparse, f"csr_{container}")(p.dense).asformat(form)
    np.testing.assert_array_equal(rows_of(Design.from_array(X)), p.dense)


def test_arrays_longer_than_the_matrix_and_strided_ones():
    p = problem(layout="csr32")
    more = csr(
        np.append(p.X.data, [np.nan] * 3), np.append(p.X.indices, [10**9] * 3).astype(np.int32), p.X.indptr, p.X.shape
    )
    np.testing.assert_array_equal(rows_of(Design.from_array(more)), p.dense)
    strided = csr(np.repeat(p.X.data, 2)[::2], np.repeat(p.X.indices, 2)[::2], np.repeat(p.X.indptr, 2)[::2], p.X.shape)
    np.testing.assert_array_equal(rows_of(Design.from_array(strided)), p.dense)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_empty_matrices(shape):
    for X in (np.zeros(shape), scipy.sparse.csr_array(shape), scipy.sparse.csc_array(shape)):
        design = Design.from_array(X)
        assert design.shape == shape
        assert design.n_stored == 0


# --- facts about the data ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["dense", "csr32", "csr64"])
@pytest.mark.parametrize("work", [10, 4_000_000])
def test_facts(layout, work, dtype, monkeypatch):
    monkeypatch.setattr("fastopt._design.WORK", work)
    p = problem(layout=layout, dtype=dtype)
    design = Design.from_array(p.X)
    n, d = p.dense.shape
    if layout == "dense":
        stored = np.ones((n, d), dtype=bool)
    else:
        stored = np.zeros((n, d), dtype=bool)
        stored[np.repeat(np.arange(n), np.diff(p.X.indptr)), p.X.indices] = True
    np.testing.assert_array_equal(design.column_counts, stored.sum(axis=0))
    assert design.n_stored == (n * d if layout == "dense" else len(p.X.data))
    ranges = design.pieces()
    assert [0, *(stop for _, stop in ranges)] == [*(start for start, _ in ranges), n]
    if layout != "dense":
        p.X.sum_duplicates()
    np.testing.assert_allclose(
        Design.from_array(p.X).row_norms_squared, (p.dense**2).sum(axis=1), rtol=1e-6, atol=1e-12
    )


# --- malformed sparse arrays ------------------------------------------------------------------------------------------


def sound(index=np.int64, values=np.float64):
    """Rows 0: (0, 1); 1: none; 2: (2, 3, 4) of a 3 x 5 matrix."""
    return csr(
        np.arange(1, 6, dtype=values),
        np.array([0, 1, 2, 3, 4], dtype=index),
        np.array([0, 2, 2, 5], dtype=index),
        (3, 5),
    )


def put(part, at, value):
    def change(X):
        getattr(X, part)[at] = value

    return change


def replaced(part, make):
    return lambda X: setattr(X, part, make(getattr(X, part)))


# What is done to the arrays, and what the message says of a CSR matrix.
BAD = {
    "column one too high": (put("indices", 3, 5), "X.indices must be in [0, 5); got 5 in row 2, entry 3."),
    "column far too high": (put("indices", 4, 10**9), "X.indices must be in [0, 5); got 1000000000 in row 2, entry 4."),
    "column -1": (put("indices", 0, -1), "X.indices must be in [0, 5); got -1 in row 0, entry 0."),
    "column far too low": (
        put("indices", 2, -(10**9)),
        "X.indices must be in [0, 5); got -1000000000 in row 2, entry 2.",
    ),
    "starts at 1": (put("indptr", 0, 1), "X.indptr must start at 0; got 1."),
    "starts at -1": (put("indptr", 0, -1), "X.indptr must start at 0; got -1."),
    "falls": (put("indptr", 1, 3), "X.indptr must never fall; got a fall at row 1."),
    "falls far": (put("indptr", 1, -(10**9)), "X.indptr must never fall; got a fall at row 0."),
    "ends too late": (put("indptr", 3, 6), "X.indptr must end within X.data and X.indices; got 6 at row 2."),
    "ends far too late": (
        put("indptr", 3, 2**31 - 1),
        "X.indptr must end within X.data and X.indices; got 2147483647 at row 2.",
    ),
    "beyond, then back": (
        put("indptr", 1, 10**9),
        "X.indptr must end within X.data and X.indices; got 1000000000 at row 0.",
    ),
    "fewer values": (
        replaced("data", lambda a: a[:4]),
        "X.indptr must end within X.data and X.indices; got 5 at row 2.",
    ),
    "fewer columns": (
        replaced("indices", lambda a: a[:4]),
        "X.indptr must end within X.data and X.indices; got 5 at row 2.",
    ),
    "NaN": (
        put("data", 1, np.nan),
        "X.data must be finite; got nan in row 0, entry 1. Impute or drop such entries first.",
    ),
    "infinity": (put("data", 4, np.inf), "X.data must be finite; got inf in row 2, entry 4. Impute or drop"),
    "minus infinity": (put("data", 2, -np.inf), "X.data must be finite; got -inf in row 2, entry 2. Impute or drop"),
    "one row start too few": (
        replaced("indptr", lambda a: a[:3]),
        "X.indptr must have one element more than X has rows (3); got 3.",
    ),
    "one row start too many": (
        replaced("indptr", lambda a: np.append(a, 5)),
        "X.indptr must have one element more than X has rows (3); got 5.",
    ),
    "no row starts": (
        replaced("indptr", lambda a: a[:0]),
        "X.indptr must have one element more than X has rows (3); got 0.",
    ),
    "float columns": (replaced("indices", lambda a: a.astype(float)), "X.indices must be int32 or int64; got float64."),
    "unsigned columns": (
        replaced("indices", lambda a: a.astype(np.uint64)),
        "X.indices must be int32 or int64; got uint64.",
    ),
    "big-endian columns": (
        replaced("indices", lambda a: a.astype(">i4")),
        "X.indices must be int32 or int64; got >i4.",
    ),
    "float row starts": (
        replaced("indptr", lambda a: a.astype(float)),
        "X.indptr must be int32 or int64; got float64.",
    ),
    "short row starts": (
        replaced("indptr", lambda a: a.astype(np.int16)),
        "X.indptr must be int32 or int64; got int16.",
    ),
    "matrix of columns": (
        replaced("indices", lambda a: a.reshape(1, -1)),
        "X.indices must be a one-dimensional array; got (1, 5).",
    ),
    "matrix of values": (
        replaced("data", lambda a: a.reshape(5, 1)),
        "X.data must be a one-dimensional array; got (5, 1).",
    ),
}


@pytest.mark.parametrize("values", [np.float32, np.float64])
@pytest.mark.parametrize("index", [np.int32, np.int64])
@pytest.mark.parametrize("case", BAD)
def test_malformed_csr(case, index, values):
    change, text = BAD[case]
    X = sound(index, values)
    Design.from_array(X)
    change(X)
    before = [np.copy(X.data), np.copy(X.indices), np.copy(X.indptr)]
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        Design.from_array(X)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)
    for ours, theirs in zip(before, (X.data, X.indices, X.indptr), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    "case", [case for case in BAD if "columns" not in case and "starts" not in case.partition(" ")[2]]
)
@pytest.mark.parametrize(("indices", "indptr"), [(np.int32, np.int64), (np.int64, np.int32)])
def test_malformed_csr_of_mixed_index_types(case, indices, indptr):
    change, text = BAD[case]
    X = sound()
    X.indices, X.indptr = X.indices.astype(indices), X.indptr.astype(indptr)
    change(X)
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        Design.from_array(X)
    assert text in str(caught.value)


@pytest.mark.parametrize("indices", [np.int32, np.int64])
@pytest.mark.parametrize(
    ("at", "value"), [(3, 2**32), (3, 2**62), (1, 2**32 + 1), (1, -(2**40)), (0, 2**32), (3, 2**32 + 5)]
)
def test_row_starts_beyond_int32(at, value, indices):
    """An int64 row start beside int32 columns must not be cut to 32 bits; the message gives the true number."""
    X = sound()
    X.indices = X.indices.astype(indices)
    X.indptr[at] = value
    with pytest.raises(ValueError, match=r"X\.indptr must") as caught:
        Design.from_array(X)
    assert str(value) in str(caught.value) or "never fall" in str(caught.value)


@pytest.mark.parametrize("index", [np.int32, np.int64])
@pytest.mark.parametrize("case", BAD)
def test_malformed_csc(case, index):
    """scipy's conversion would read and write through such arrays: refused before."""
    change, text = BAD[case]
    X = scipy.sparse.csc_array((5, 3))
    rows = sound(index)
    X.data, X.indices, X.indptr = rows.data, rows.indices, rows.indptr
    change(X)
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        Design.from_array(X)
    assert text.replace("row", "column").partition(";")[0] in str(caught.value)


BAD_COO = {
    "row too high": ("row", 1, 3, "X.row must be in [0, 3); got 3"),
    "row far too high": ("row", 1, 10**9, "X.row must be in [0, 3); got 1000000000"),
    "row below zero": ("row", 0, -1, "X.row must be in [0, 3); got -1"),
    "column too high": ("col", 2, 5, "X.col must be in [0, 5); got 5"),
    "column far below zero": ("col", 2, -(10**9), "X.col must be in [0, 5); got -1000000000"),
}


@pytest.mark.parametrize("index", [np.int32, np.int64])
@pytest.mark.parametrize("case", BAD_COO)
def test_malformed_coo(case, index):
    part, at, value, text = BAD_COO[case]
    X = sound(index).tocoo()
    X.coords = tuple(np.array(a, dtype=index) for a in X.coords)
    getattr(X, part)[at] = value
    with pytest.raises(ValueError, match="X") as caught:
        Design.from_array(X)
    assert text in str(caught.value)
    assert f"entry {at}" in str(caught.value)


@pytest.mark.parametrize("part", ["row", "col", "data"])
def test_coo_arrays_of_different_lengths(part):
    X = sound().tocoo()
    if part == "data":
        X.data = X.data[:3]
    else:
        X.coords = tuple(a[:3] if name == part else a for name, a in zip(("row", "col"), X.coords, strict=True))
    with pytest.raises(ValueError, match="X"):
        Design.from_array(X)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("form", ["coo", "bsr", "lil", "dok", "dia"])
def test_numbers_that_are_not_finite_in_every_format(form, value):
    X = sound()
    X.data[3] = value
    with pytest.raises(ValueError, match=r"X\.data must be finite; got (nan|inf) in row 2, entry \d"):
        Design.from_array(X.asformat(form))


BAD_BSR = {
    "column": lambda X: put("indices", 0, 10**9)(X),
    "negative column": lambda X: put("indices", 0, -5)(X),
    "too late": lambda X: put("indptr", -1, 10**9)(X),
    "falls": lambda X: put("indptr", 1, -(10**9))(X),
    "other blocks": lambda X: setattr(X, "data", X.data[:, :1, :1]),
    "larger blocks": lambda X: setattr(X, "data", np.ones((len(X.data), 3, 7))),
    "flat": lambda X: setattr(X, "data", X.data.ravel()),
    "no blocks": lambda X: setattr(X, "data", X.data[:, :0, :]),
    "fewer blocks": lambda X: setattr(X, "data", X.data[:1]),
}


@pytest.mark.parametrize("case", BAD_BSR)
def test_malformed_bsr(case):
    X = scipy.sparse.bsr_array(np.arange(1.0, 25).reshape(4, 6), blocksize=(2, 3))
    BAD_BSR[case](X)
    with pytest.raises(ValueError, match="X"):
        Design.from_array(X)


def test_malformed_lil_and_dok():
    lil = sound().tolil()
    lil.rows[0] = [0, 10**6]
    dok = sound().todok()
    dok._dict[(10**6, 0)] = 1.0
    for X in (lil, dok):
        with pytest.raises((ValueError, IndexError)):
            Design.from_array(X)


def test_sparse_vectors_are_refused():
    with pytest.raises(ValueError, match="X must be two-dimensional; got 1 dimension"):
        Design.from_array(scipy.sparse.coo_array(np.arange(3.0)).tocsr())
    with pytest.raises(ValueError, match="X must be two-dimensional; got 1 dimension"):
        Design.from_array(scipy.sparse.coo_array(np.arange(3.0)))


@pytest.mark.parametrize("X", [np.zeros(3), np.zeros((2, 3, 4)), 1.0, []], ids=["1", "3", "0", "list"])
def test_dense_arrays_of_other_dimensions(X):
    with pytest.raises(ValueError, match=r"X must be two-dimensional; got [013] dimension"):
        Design.from_array(X)


def larger(rng, dtype, index, n=300, width=70, density=0.2):
    """A matrix of several blocks of rows, with numbers at the ends of the dtype's range."""
    X = scipy.sparse.random_array((n, width), density=density, format="csr", rng=rng, dtype=dtype)
    X.indices, X.indptr = X.indices.astype(index), X.indptr.astype(index)
    X.data[:4] = np.finfo(dtype).max, -np.finfo(dtype).max, np.finfo(dtype).smallest_subnormal, -0.0
    return X


@pytest.mark.parametrize("index", [np.int32, np.int64])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_any_entry_is_found(rng, dtype, index):
    """A bad column or value anywhere in a larger matrix, also past the vectorised part of the loops."""
    X = larger(rng, dtype, index)
    ends = np.iinfo(index).min, np.iinfo(index).max
    for k in [0, 1, X.nnz - 1, *rng.integers(0, X.nnz, 100).tolist()]:
        row = int(np.searchsorted(X.indptr, k, side="right")) - 1
        columns, numbers = (70, -1, 2**30, -(2**30), *ends), (np.nan, -np.nan, np.inf, -np.inf)
        for array, values in ((X.indices, columns), (X.data, numbers)):
            good = array[k]
            for value in values:
                array[k] = value
                with pytest.raises(ValueError, match=f"in row {row}, entry {k}"):
                    check_csr(X.data, X.indices, X.indptr, X.shape)
            array[k] = good
    assert check_csr(X.data, X.indices, X.indptr, X.shape)


def later(X):
    """A design whose entries nobody has looked at."""
    design = Design.from_array(X, later=True)
    assert not design.sound
    return design


def refusal(call):
    """The message of the ValueError that a call ends with."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        call()
    return str(caught.value)


@pytest.mark.parametrize("index", [np.int32, np.int64])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_outputs", [1, 3])
@pytest.mark.parametrize(("width", "density"), [(70, 0.2), (900, 0.4)], ids=["short rows", "long rows"])
def test_a_pass_finds_any_entry_that_the_check_was_spared(rng, dtype, index, n_outputs, width, density):
    """Whole blocks of rows, and the part of one that is left at the end; in the check's own words. Of both lengths of
    rows, some of a block are checked at a time."""
    X = larger(rng, dtype, index, width=width, density=density)
    y = rng.integers(0, n_outputs, 300) if n_outputs > 1 else rng.choice([-1.0, 1.0], 300)
    options = {"loss": "multinomial" if n_outputs > 1 else "log_loss", "n_outputs": n_outputs}
    options["sample_weight"] = rng.choice([0.0, 1.0], 300)
    ends = np.iinfo(index).min, np.iinfo(index).max
    for k in [0, 1, X.nnz - 1, *rng.integers(0, X.nnz, 30).tolist()]:
        row = int(np.searchsorted(X.indptr, k, side="right")) - 1
        columns, numbers = (width, -1, 2**30, -(2**30), *ends), (np.nan, -np.nan, np.inf, -np.inf)
        for array, values in ((X.indices, columns), (X.data, numbers)):
            good = array[k]
            for value in values:
                array[k] = value
                F = Objective(later(X), y, **options)
                for w in (np.zeros(F.shape), 0.1 * rng.standard_normal(F.shape)):
                    for method in (F.value, F.value_and_gradient):
                        assert f"in row {row}, entry {k}" in refusal(lambda method=method, w=w: method(w))
                        assert not F.design.sound
            array[k] = good
    F = Objective(later(X), y, **options)
    with np.errstate(over="ignore", invalid="ignore"):
        F.value_and_gradient(np.full(F.shape, 2.0))  # which overflows, though all values are finite
    assert F.design.sound


def test_what_a_pass_has_checked_is_as_what_the_check_has(rng):
    """The same bits, with several shares of the rows by one thread or two; an unsorted matrix is told apart later."""
    X = scipy.sparse.random_array((60_000, 400), density=0.06, format="csr", rng=rng)
    y = rng.choice([-1.0, 1.0], 60_000)
    w = rng.standard_normal(401)
    value, gradient = Objective(Design.from_array(X), y).value_and_gradient(w)
    assert len(Design.from_array(X).shares()) > 1
    for n_jobs in (1, 2):
        F = Objective(later(X), y, n_jobs=n_jobs)
        again = F.value_and_gradient(w)
        assert again[0] == value
        np.testing.assert_array_equal(again[1], gradient)
        assert F.design.sound
        assert F.design.distinct
    X.indices[1] = X.indices[0]
    F = Objective(later(X), y)
    F.value(w)
    assert F.design.sound
    assert not F.design.distinct
    X.indices[-1], X.indices[5] = 400, -1  # two shares find one each
    for n_jobs in (1, 2):
        F = Objective(later(X), y, n_jobs=n_jobs)
        assert refusal(lambda F=F: F.value(w)) == "X.indices must be in [0, 400); got -1 in row 0, entry 5."


READERS = {
    "values": lambda design: design.values,
    "indices": lambda design: design.indices,
    "arrays": lambda design: design.arrays,
    "distinct": lambda design: design.distinct,
    "rows": lambda design: design.rows(np.array([0, 2])),
    "merged": lambda design: design.merged(),
    "column_counts": lambda design: design.column_counts,
    "column_squares": lambda design: design.column_squares,
    "transposed_product": lambda design: design.transposed_product(np.ones(3)),
    "Hessian": lambda design: Objective(design, np.ones(3)).hessian_product(np.zeros(6), np.ones(6)),
    "raw predictions": lambda design: Objective(design, np.ones(3)).raw_prediction(np.zeros(6)),
    "column moments": lambda design: Objective(design, np.ones(3)).column_moments(),
    "epoch": lambda design: Epochs(Objective(design, np.ones(3)), SGD(learning_rate=0.1), 1).run(),
    "epoch with sums": lambda design: Epochs(
        Objective(design, np.ones(3)), SGD(learning_rate=0.1), around=Around(measures=True)
    ).run(),
}


@pytest.mark.parametrize("reader", READERS)
def test_whatever_reads_entries_first_has_them_checked(reader):
    X = sound()
    READERS[reader](later(X))
    X.indices[2] = 10**6
    text = refusal(lambda: Design.from_array(X))
    assert refusal(lambda: READERS[reader](later(X))) == text


@pytest.mark.parametrize("case", BAD)
def test_later_or_at_once_the_same_words(case):
    """What is wrong with row starts, types and lengths is said at once."""
    X = sound()
    BAD[case][0](X)
    text = refusal(lambda: Design.from_array(X))
    assert refusal(lambda: Design.from_array(X, later=True).check()) == text
    if "X.indices must be in" not in text and "X.data must be finite" not in text:
        assert refusal(lambda: Design.from_array(X, later=True)) == text


@pytest.mark.parametrize("name", [*OPTIMIZERS, *SOLVERS, "auto"])
@pytest.mark.parametrize("array", ["indices", "data"])
def test_a_fit_refuses_entries_and_changes_nothing(rng, name, array):
    X = scipy.sparse.random_array((300, 20), density=0.3, format="csr", rng=rng)
    y = rng.choice([0, 1], 300)
    model = LogisticRegression(solver=name, max_iter=2, tol=0.0, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X, y)
    before = {key: np.copy(value) for key, value in vars(model).items()}
    coef = model.coef_.copy()
    getattr(X, array)[[700, -1]] = 20 if array == "indices" else np.inf  # the first of two is told
    text = refusal(lambda: model.fit(X, y))
    assert text == refusal(lambda: check_csr(X.data, X.indices, X.indptr, X.shape))
    assert vars(model).keys() == before.keys()
    np.testing.assert_array_equal(model.coef_, coef)


def mild(rng, dtype=np.float64, index=np.int32, n=300):
    """`larger`, with numbers that steps bear."""
    X = larger(rng, dtype, index, n)
    X.data[:4] = 1
    return X


def state_of(rng):
    """A source's place in its numbers, comparable."""
    kept = rng.get_state(legacy=False) if isinstance(rng, np.random.RandomState) else rng.bit_generator.state
    return repr({key: np.array(value).tolist() for key, value in kept["state"].items()})


STEPS = {
    "default": {}, "log_loss": {"loss": "log_loss"}, "in order": {"shuffle": False}, "no penalty": {"penalty": None},
    "L1": {"penalty": "l1"}, "average": {"average": True}, "batches": {"batch_size": 32}, "adam": {"optimizer": "adam"},
    "passive": {"learning_rate": "pa1"}, "automatic": {"learning_rate": "auto"}, "verbose": {"verbose": 1},
    "balanced": {"class_weight": "balanced"}, "early": {"early_stopping": True}, "softmax": {"loss": "multinomial"},
}  # fmt: skip


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("steps", STEPS)
def test_an_epoch_refuses_entries_and_changes_nothing(rng, steps, n_classes):
    """Wherever they are: the words of the check in advance; of the model and of its random numbers nothing is gone."""
    y = rng.integers(0, n_classes, 300)
    options = STEPS[steps] | {"max_iter": 2, "tol": None, "random_state": np.random.RandomState(1)}
    model = SGDClassifier(**options, n_jobs=2)
    if steps not in ("balanced", "early"):  # which partial_fit refuses
        model.partial_fit(mild(rng), y, classes=np.arange(n_classes))
    for dtype, index in ((np.float32, np.int32), (np.float64, np.int32), (np.float64, np.int64)):
        X = mild(rng, dtype, index)
        for k in [0, 1, X.nnz - 1, *rng.integers(0, X.nnz, 6).tolist()]:
            for array, value in ((X.indices, 70), (X.indices, -1), (X.indices, 2**31 - 1), (X.data, np.inf)):
                good, array[k] = array[k], value
                text = refusal(lambda: check_csr(X.data, X.indices, X.indptr, X.shape))  # noqa: B023
                before = {key: np.array(a, copy=True) for key, a in vars(model).items() if isinstance(a, np.ndarray)}
                random, names = state_of(options["random_state"]), vars(model).keys()
                assert refusal(lambda: model.fit(X, y)) == text  # noqa: B023
                if before:
                    assert refusal(lambda: model.partial_fit(X, y)) == text  # noqa: B023
                array[k] = good
                assert vars(model).keys() == names
                assert state_of(options["random_state"]) == random
                for key, a in before.items():
                    np.testing.assert_array_equal(vars(model)[key], a)


def test_a_refused_partial_fit_leaves_no_trace(rng):
    """The next call takes the very steps that it would have taken; fresh entropy goes on as well."""
    X, y = mild(rng), rng.integers(0, 2, 300)
    bad = X.copy()
    bad.indices[[700, 900]] = -1
    for random in (0, np.random.default_rng(2)):
        twins = [SGDClassifier(random_state=copy.deepcopy(random)).partial_fit(X, y, classes=[0, 1]) for _ in range(2)]
        refusal(lambda: twins[0].partial_fit(bad, y))  # noqa: B023
        for model in twins:
            model.partial_fit(X, y)
        np.testing.assert_array_equal(twins[0].coef_, twins[1].coef_)
        assert twins[0].t_ == twins[1].t_


@pytest.mark.parametrize("index", [np.int32, np.int64])
@pytest.mark.parametrize("lengths", [range(12), range(12, 40), [0, 1, 16, 17, 33, 64, 65]])
def test_rows_of_any_length_are_checked_whole(rng, lengths, index):
    """Every entry of rows as long as a few vectors and as what is left of one, sorted and not."""
    counts = np.repeat(lengths, 2)
    rows = [np.sort(rng.choice(70, n, replace=False)) for n in counts]
    rows[1::2] = [row[::-1] for row in rows[1::2]]
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(index)
    indices = np.concatenate(rows).astype(index)
    X = csr(rng.standard_normal(len(indices)), indices, indptr, (len(rows), 70))
    y, model = np.arange(len(rows)) % 2, SGDRegressor(max_iter=1, tol=None, random_state=0)
    expected = model.fit(X.sorted_indices(), y).coef_
    np.testing.assert_allclose(model.fit(X, y).coef_, expected, rtol=1e-10)
    for k in range(X.nnz):
        for value in (-1, 70, 10**6):
            good, X.indices[k] = X.indices[k], value
            row = int(np.searchsorted(indptr, k, side="right")) - 1
            text = refusal(lambda: model.fit(X, y))
            assert text == f"X.indices must be in [0, 70); got {value} in row {row}, entry {k}."
            X.indices[k] = good


DUAL = {
    "default": {}, "no intercept": {"fit_intercept": False}, "balanced": {"class_weight": "balanced"},
    "warm": {"warm_start": True}, "verbose": {"verbose": 1}, "no epoch": {"max_iter": 0}, "auto": {"solver": "auto"},
}  # fmt: skip


@pytest.mark.parametrize("n", [300, 6_000])
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("steps", DUAL)
def test_dual_epochs_refuse_entries_and_change_nothing(rng, capsys, steps, n_classes, n):
    """With few rows, of which a pass is first, and with many: the words of the check; no random number is gone."""
    y, weights = rng.integers(0, n_classes, n), rng.random(n) + 0.5
    random = np.random.RandomState(1)
    model = LogisticRegression(**({"solver": "sdca", "max_iter": 2, "tol": 0.0, "random_state": random} | DUAL[steps]))
    warnings.simplefilter("ignore")
    for dtype, index in ((np.float32, np.int32), (np.float64, np.int32), (np.float64, np.int64)):
        X = mild(rng, dtype, index, n)
        for k in [0, X.nnz - 1, *rng.integers(0, X.nnz, 3).tolist()]:
            for array, value in ((X.indices, 70), (X.indices, -1), (X.indices, 2**31 - 1), (X.data, np.nan)):
                if steps == "warm":
                    model.fit(X, y)
                good, array[k] = array[k], value
                text = refusal(lambda: check_csr(X.data, X.indices, X.indptr, X.shape))  # noqa: B023
                before, place = dict(vars(model)), state_of(random)
                capsys.readouterr()
                assert refusal(lambda: model.fit(X, y, weights)) == text  # noqa: B023
                assert not capsys.readouterr().out  # nobody is told of a fit that was refused
                array[k] = good
                assert vars(model) == before
                assert state_of(random) == place


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("rows", ["sorted", "unsorted", "repeated", "unsorted in the last", "empty", "huge"])
def test_dual_epochs_that_check_take_the_steps_of_those_that_need_not(rng, rows, n_classes):
    """To the bit, whatever the rows: where their columns do not rise the epoch begins anew."""
    X, y = mild(rng, n=6_000), rng.integers(0, n_classes, 6_000)
    if rows == "unsorted":
        for start, stop in zip(X.indptr[:-1], X.indptr[1:], strict=True):
            for array in (X.indices, X.data):
                array[start:stop] = array[start:stop][::-1].copy()
    elif rows == "repeated":
        X.indices[X.indptr[100] + 1] = X.indices[X.indptr[100]]
    elif rows == "unsorted in the last":
        X.indices[[-1, -2]] = X.indices[[-2, -1]]
    elif rows == "empty":
        X.data, X.indices, X.indptr = X.data[:0], X.indices[:0], X.indptr * 0
    elif rows == "huge":
        X.data[7] = 1e200  # its square is infinite
    y = y.astype(float) if n_classes > 2 else 2.0 * y - 1
    options = {"loss": "multinomial", "n_outputs": 3} if n_classes > 2 else {}
    found = []
    for checked in (True, False):
        F = Objective(later(X), y, alpha=1e-3, **options)
        if checked:
            F.design.check()
        with np.errstate(over="ignore", invalid="ignore"):
            found.append(sdca(F, F.zeros(), tol=1e-6, max_iter=5, rng=np.random.default_rng(0)))
        assert F.design.settled
        assert F.design.distinct is (rows in ("sorted", "empty", "huge"))
    np.testing.assert_array_equal(found[0].w, found[1].w)
    np.testing.assert_array_equal(found[0].history["duality_gap"], found[1].history["duality_gap"])


def test_dual_epochs_read_x_no_more_often_than_without_the_check(monkeypatch, rng):
    """One pass of its own is over the few rows on which the gradient's norm is estimated."""
    X, passes = mild(rng, n=6_000), []
    monkeypatch.setattr("fastopt._design.check_csr", lambda *arrays: passes.append(arrays[3][0]) or check_csr(*arrays))
    for y in (rng.integers(0, 2, 6_000), rng.integers(0, 3, 6_000)):
        LogisticRegression(solver="sdca", tol=1e-2, max_iter=1000).fit(X, y)
    assert all(n <= 1024 for n in passes)


@pytest.mark.parametrize("repeated", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("index", [np.int32, np.int64])
def test_the_check_that_adds_up_columns_is_the_check(rng, dtype, index, repeated):
    """The sums of a pass of their own, and what the check finds, wherever it is."""
    X = mild(rng, dtype, index, 1000)
    if repeated:
        X.indices[X.indptr[700] + 1] = X.indices[X.indptr[700]]
    design, sound = later(X), Design.from_array(X)
    np.testing.assert_allclose(design.column_squares, sound.column_squares, rtol=1e-12)
    np.testing.assert_allclose(design.column_squares, np.bincount(X.indices, X.data.astype(float) ** 2, 70), rtol=1e-12)
    np.testing.assert_array_equal(design.column_counts, (X.toarray() != 0).sum(axis=0))
    assert design.settled
    assert design.distinct is sound.distinct is (not repeated)
    for k in [0, X.nnz - 1, *rng.integers(0, X.nnz, 20).tolist()]:
        for array, value in ((X.indices, 70), (X.indices, -1), (X.indices, 2**31 - 1), (X.data, np.inf)):
            good, array[k] = array[k], value
            text = refusal(lambda: check_csr(X.data, X.indices, X.indptr, X.shape))
            design = later(X)
            assert refusal(lambda: design.column_squares) == text  # noqa: B023
            assert not design.sound
            array[k] = good


def test_saga_reads_x_no_more_often_than_without_the_check(monkeypatch, rng):
    """The pass that adds up columns has seen all that a check of its own would."""
    X, passes = mild(rng, n=6_000), []

    def counted(*arrays, **names):
        passes.append(arrays[3][0])
        return check_csr(*arrays, **names)

    monkeypatch.setattr("fastopt._design.check_csr", counted)
    LogisticRegression(solver="saga", tol=1e-2, max_iter=1000).fit(X, rng.integers(0, 2, 6_000))
    assert 6_000 not in passes


def test_counting_columns_is_the_check(monkeypatch, rng):
    """What rules whose columns wait ask for first."""
    X = scipy.sparse.random_array((300, 20), density=0.3, format="csr", rng=rng)
    X.sort_indices()
    bad = X.copy()
    bad.indices[100] = 20
    assert "entry 100" in refusal(lambda: later(bad).column_counts)
    monkeypatch.setattr("fastopt._design.check_csr", lambda *_: pytest.fail("a pass of its own"))
    design = later(X)
    np.testing.assert_array_equal(design.column_counts, np.bincount(X.indices, minlength=20))
    assert design.settled


@pytest.mark.parametrize("solver", ["sdca", "saga"])
def test_a_fit_that_goes_on_checks_its_rows_first(rng, solver):
    """From a warm start's state, and after an entry has become unsound."""
    X, y = mild(rng, n=6_000), rng.integers(0, 2, 6_000)
    model = LogisticRegression(solver=solver, warm_start=True, tol=0.0, max_iter=3)
    warnings.simplefilter("ignore")
    coef = model.fit(X, y).coef_
    for k in (0, X.nnz - 1):
        good, X.indices[k] = X.indices[k], 10**6
        assert f"entry {k}" in refusal(lambda: model.fit(X, y))
        X.indices[k] = good
    assert model.coef_ is coef
    assert model.fit(X, y).coef_ is not coef


@pytest.mark.parametrize("repeated", [False, True])
def test_an_epoch_that_checks_takes_the_steps_of_one_that_need_not(rng, repeated):
    """Also where columns are repeated: the same coefficients, and the same sums of penalties."""
    X, y = mild(rng), rng.choice([-1.0, 1.0], 300)
    if repeated:
        X.indices[X.indptr[100] + 1] = X.indices[X.indptr[100]]
    around, found = Around(measures=True, guarded=True), []
    for checked in (False, True):
        design = later(X)
        if checked:
            design.check()
        epochs = Epochs(Objective(design, y, loss="hinge", alpha=0.1), SGD(learning_rate=0.1), around=around)
        for seed in range(2):
            epochs.run(np.random.default_rng(seed).permutation(300))
            found.append((epochs.w.copy(), epochs.sums))
            assert design.sound
            assert design.distinct is not repeated
    for one, other in zip(found[:2], found[2:], strict=True):
        np.testing.assert_allclose(one[0], other[0], rtol=1e-12)
        np.testing.assert_allclose(one[1], other[1], rtol=1e-10)


def test_values_whose_products_overflow_are_not_taken_for_infinite(rng):
    X, y = mild(rng), rng.choice([0, 1], 300)
    X.data[:] = np.where(X.data > 0, 1e300, -1e300)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            SGDClassifier(max_iter=2, random_state=0).fit(X, y)
        except ValueError as error:
            assert "X.data" not in str(error)  # noqa: PT017


def test_the_default_sgd_reads_x_no_more_often_than_without_the_check(monkeypatch, rng):
    X = scipy.sparse.random_array((300, 20), density=0.3, format="csr", rng=rng)
    X.sort_indices()
    monkeypatch.setattr("fastopt._design.check_csr", lambda *_: pytest.fail("a pass of its own"))
    SGDClassifier(max_iter=2, tol=None).fit(X, rng.choice([0, 1], 300)).partial_fit(X, rng.choice([0, 1], 300))
    SGDRegressor(max_iter=2, tol=None).fit(X, rng.standard_normal(300))


def test_a_fit_by_an_update_rule_reads_x_no_more_often_than_without_the_check(monkeypatch, rng):
    X = scipy.sparse.random_array((300, 20), density=0.3, format="csr", rng=rng)
    monkeypatch.setattr("fastopt._design.check_csr", lambda *_: pytest.fail("a pass of its own"))
    for solver in ("sgd", "lbfgs"):
        LogisticRegression(solver=solver, max_iter=1, tol=1e9).fit(X, rng.choice([0, 1], 300))


def test_rows_of_one_hot_groups_are_seen_to_rise(monkeypatch, rng):
    """No look for repeated columns of its own; where the columns do not tell, there is one, and it finds them."""
    columns = np.sort(rng.integers(0, 5, (300, 4)) + 5 * np.arange(4), axis=1).astype(np.int32)
    indptr, y = np.arange(0, 1201, 4, dtype=np.int32), rng.choice([0, 1], 300)
    X = csr(np.ones(1200), columns.ravel(), indptr, (300, 20))
    unsorted = csr(np.ones(1200), columns[:, ::-1].ravel().copy(), indptr, (300, 20))
    repeated = columns.copy()
    repeated[:, 3] = repeated[:, 2]
    twice = csr(np.ones(1200), repeated.ravel(), indptr, (300, 20))
    assert not later(twice).distinct
    for matrix in (unsorted, twice):
        dense = LogisticRegression(solver="lbfgs", tol=1e-8).fit(matrix.toarray(), y)
        model = LogisticRegression(solver="lbfgs", tol=1e-8).fit(matrix, y)
        np.testing.assert_allclose(model.coef_, dense.coef_, atol=1e-6)
    monkeypatch.setattr("fastopt._design.check_csr", lambda *_: pytest.fail("a pass of its own"))
    model = LogisticRegression(solver="lbfgs", tol=1e-8).fit(X, y)
    np.testing.assert_allclose(model.coef_.reshape(4, 5).mean(axis=1), 0, atol=1e-12)  # the groups were found


@pytest.mark.parametrize("n_outputs", [1, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_pass_at_zero_is_any_other_pass(rng, dtype, n_outputs):
    """It works out no products: the bits of a pass at parameters that are next to nothing, up to those."""
    X, y = mild(rng, dtype), rng.integers(0, 3, 300) if n_outputs > 1 else rng.choice([-1.0, 1.0], 300)
    F = Objective(later(X), y, loss="multinomial" if n_outputs > 1 else "log_loss", n_outputs=n_outputs)
    value, gradient = F.value_and_gradient(np.zeros(F.shape))
    nothing = np.zeros(F.shape)
    nothing[-1] = 5e-324
    for found, expected in zip((value, gradient), F.value_and_gradient(nothing), strict=True):
        np.testing.assert_array_equal(found, expected)
    X.indices[5] = 70
    assert "X.indices" in refusal(lambda: Objective(later(X), y, loss=F.loss, n_outputs=n_outputs).value(nothing * 0))


def test_entries_that_become_sound_meanwhile(monkeypatch):
    """Another thread writes into X during a call: an error, whatever is then found."""
    X = sound()
    X.indices[2] = -1
    monkeypatch.setattr("fastopt._design.check_csr", lambda *_: True)
    F = Objective(later(X), np.ones(3))
    assert "X must not be written to during a call" in refusal(lambda: F.value(np.zeros(6)))


CRASH = """
import sys
import numpy as np
from test_design import BAD, BAD_BSR, BAD_COO, sound
import scipy.sparse
from fastopt import LogisticRegression, SGDClassifier, SGDRegressor

y = np.array([0, 1, 1])
model = LogisticRegression(solver=sys.argv[1]).fit(sound(), y)


def refused(X):
    count = 0
    for call in (lambda: LogisticRegression(solver=sys.argv[1]).fit(X, y), lambda: model.predict(X)):
        try:
            call()
        except (ValueError, TypeError):
            count += 1
    assert count == 2, count


for case, (change, text) in BAD.items():
    for index in (np.int32, np.int64):
        X = sound(index)
        change(X)
        refused(X)
        rows = sound(index)
        X = scipy.sparse.csc_array((5, 3))
        X.data, X.indices, X.indptr = rows.data, rows.indices, rows.indptr
        change(X)
        refused(X)
for part, at, value, text in BAD_COO.values():
    X = sound().tocoo()
    getattr(X, part)[at] = value
    refused(X)
for change in BAD_BSR.values():
    X = scipy.sparse.bsr_array(np.arange(1.0, 25).reshape(4, 6), blocksize=(2, 3))
    change(X)
    refused(X)
for dtype in (object, complex, np.longdouble, np.int8):
    X = sound()
    X.data = X.data.astype(dtype)
    X.indices[4] = 10**8
    refused(X)
print("alive")
"""


@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
def test_no_input_kills_the_process(solver):
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CRASH, solver], capture_output=True, text=True, cwd=here.parent,
        env={**os.environ, "PYTHONPATH": f"{here.parent}:{here}"}, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "alive"


def unaligned(a):
    out = np.empty(a.nbytes + 1, np.uint8)[1:].view(a.dtype)
    out[:] = a
    return out


@pytest.mark.parametrize("form", ["csr", "csc"])
def test_arrays_at_odd_addresses_are_moved(form):
    """The kernels' loads may need the alignment that C promises them (found under UBSan)."""
    X = scipy.sparse.csr_array(problem(layout="csr32").dense).asformat(form)
    dense = X.toarray()
    X.data, X.indices, X.indptr = map(unaligned, (X.data, X.indices, X.indptr))
    design = Design.from_array(X)
    assert all(a.flags.aligned for a in design.arrays)
    np.testing.assert_array_equal(rows_of(design), dense)


@pytest.mark.parametrize("shape", [(-1, 3), (3, -1), (-1, -1)])
@pytest.mark.parametrize("form", ["csr", "csc", "coo", "bsr"])
def test_negative_shapes_are_refused(form, shape):
    """Attributes set by hand; scipy's conversions would write before their arrays."""
    X = scipy.sparse.coo_array((3, 3)).asformat(form)
    X._shape = shape
    if form != "coo":
        X.indptr = X.indptr[: max(0, 1 + shape[form == "csc"])]
    with pytest.raises(ValueError, match=r"X.shape must be of numbers >= 0"):
        Design.from_array(X)
    with pytest.raises(ValueError, match=r"X.shape must be of numbers >= 0|must be"):
        LogisticRegression().fit(X, [0, 1, 0])


@pytest.mark.parametrize("form", ["csr", "csc"])
@pytest.mark.parametrize("dtype", ["O", "S3", "U4", "m8[s]", "M8[s]"])
def test_structure_is_checked_whatever_is_stored(form, dtype):
    """What scikit-learn may still convert, or refuse, it reads through the structure first."""
    X = scipy.sparse.eye_array(4, format=form)
    X.data = X.data.astype(np.int64).astype(dtype)
    X.indptr = np.array([0, 10**8, 2, 3, 4], np.int32)
    with pytest.raises(ValueError, match=r"X\.indptr must"):
        LogisticRegression().fit(X, [0, 1, 0, 1])


@pytest.mark.parametrize("index", [np.int32, np.int64])
@pytest.mark.parametrize("density", [0.0, 0.02, 0.5])
@pytest.mark.parametrize("columns", [[], [69], [0, 3, 5, 64, 68], [*range(70)]])
def test_columns(rng, dtype, index, density, columns, monkeypatch):
    """Those asked for alone; entries of a row that stand twice are added up; dense where many are stored."""
    X = scipy.sparse.random_array((300, 70), density=density, format="csr", rng=rng, dtype=dtype)
    X.indices, X.indptr = X.indices.astype(index), X.indptr.astype(index)
    if X.nnz > 1:
        X.indices[1] = X.indices[0]  # perhaps of another row
    kept, columns = X.toarray(), np.array(columns, np.intp)
    monkeypatch.setattr("fastopt._design.WORK", 100)  # in pieces
    for design in (Design.from_array(X), Design.from_array(kept), Design.from_array(np.asfortranarray(kept))):
        found = design.columns(columns)
        assert found.shape == (300, len(columns))
        assert found.dtype == dtype
        whole = scipy.sparse.csr_array(found.arrays[:3], found.shape).toarray() if found.sparse else found.values
        np.testing.assert_array_equal(whole, kept[:, columns])
    assert Design.from_array(X).columns(np.arange(1, 70)).sparse == (density < 0.1)


@pytest.mark.parametrize("layout", ["dense", "csr32", "csr64"])
def test_by_columns(layout):
    """Of entries that name a column twice their sum: the square of a column's entry is not that of its parts."""
    p = problem(layout=layout)
    values, rows, starts = Design.from_array(p.X).by_columns()
    if layout == "dense":
        np.testing.assert_array_equal(values.reshape(12, 40), p.dense.T)
        return
    whole = scipy.sparse.csc_array((values, rows, starts), shape=p.dense.shape)
    np.testing.assert_array_equal(whole.toarray(), p.dense)
    places = rows + 40 * np.repeat(np.arange(12), np.diff(starts))
    assert len(np.unique(places)) == len(places)
