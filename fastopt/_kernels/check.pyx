"""One pass over untrusted CSR arrays before anything is dereferenced through them."""
from libc.float cimport DBL_MAX, FLT_MAX
from libc.math cimport fabs
from libc.stdint cimport int64_t

from fastopt._kernels.portable cimport index, offset, real

# What `csr` found, beside where: the first entry of the table in fastopt/_design.py that words it.
cdef enum:
    SOUND, FIRST, FALLS, BEYOND, COLUMN, FINITE


def csr(const real[::1] values, const index[::1] columns, const offset[::1] indptr, Py_ssize_t n_columns,
        Py_ssize_t begin, Py_ssize_t end):
    """(fault, row, entry, distinct): the first fault of rows begin .. end - 1, 0 if none, and where.

    `distinct` if every row's columns rise. `indptr` has more than `end` elements, all before `begin` sound. Entries
    beyond indptr[-1] are not part of the matrix and are not read.
    """
    cdef Py_ssize_t row, k, length = min(values.shape[0], columns.shape[0])
    cdef Py_ssize_t start, stop
    cdef bint distinct = True, in_range, rising, finite
    cdef double largest = largest_of(values)
    if indptr[0] != 0:
        return FIRST, 0, 0, False
    with nogil:
        for row in range(begin, end):
            start = indptr[row]
            stop = indptr[row + 1]
            if stop < start:
                with gil:
                    return FALLS, row, start, False
            if stop > length:
                with gil:
                    return BEYOND, row, stop, False
            # Branch-free inside a row, so that it vectorises. NaN fails every comparison; arithmetic on it, as in
            # x - x != 0, is not to be relied on under -fassociative-math.
            in_range = True
            rising = True
            finite = True
            for k in range(start, stop):
                in_range &= (columns[k] >= 0) & (columns[k] < n_columns)
            for k in range(start, stop):
                finite &= fabs(values[k]) <= largest
            for k in range(start + 1, stop):
                rising &= columns[k] > columns[k - 1]
            distinct &= rising
            if not in_range:
                with gil:
                    return COLUMN, row, first_bad(columns, start, stop, n_columns), False
            if not finite:
                with gil:
                    return FINITE, row, first_not_finite(values, start, stop), False
    return SOUND, 0, 0, distinct


cdef Py_ssize_t first_bad(const index[::1] columns, Py_ssize_t start, Py_ssize_t stop, Py_ssize_t n_columns):
    cdef Py_ssize_t k
    for k in range(start, stop):
        if columns[k] < 0 or columns[k] >= n_columns:
            return k
    return stop


cdef double largest_of(const real[::1] values):
    if real is float:
        return FLT_MAX
    else:
        return DBL_MAX


cdef Py_ssize_t first_not_finite(const real[::1] values, Py_ssize_t start, Py_ssize_t stop):
    cdef Py_ssize_t k
    cdef double largest = largest_of(values)
    for k in range(start, stop):
        if not fabs(values[k]) <= largest:
            return k
    return stop


def squares(const real[::1] values, const offset[::1] indptr, double[::1] out):
    """Squared Euclidean length of every CSR row."""
    cdef Py_ssize_t row, k, end
    cdef double total, t1, t2, t3
    with nogil:
        for row in range(out.shape[0]):
            k, end, total, t1, t2, t3 = indptr[row], indptr[row + 1], 0, 0, 0, 0   # four chains, as in `sparse_dot`
            while k + 4 <= end:
                total += <double>values[k] * values[k]
                t1 += <double>values[k + 1] * values[k + 1]
                t2 += <double>values[k + 2] * values[k + 2]
                t3 += <double>values[k + 3] * values[k + 3]
                k += 4
            while k < end:
                total += <double>values[k] * values[k]
                k += 1
            out[row] = (total + t1) + (t2 + t3)


def columns(const real[::1] values, const index[::1] columns, Py_ssize_t n_stored, int64_t[::1] counts,
            double[::1] squares):
    """Adds to each column's count of entries and to its sum of their squares."""
    cdef Py_ssize_t k
    with nogil:
        for k in range(n_stored):
            counts[columns[k]] += 1
            squares[columns[k]] += <double>values[k] * values[k]
