"""For Newton steps of F with L1: copies of the columns that count, and coordinate descent on the quadratic."""
from libc.math cimport fabs
from libc.stdint cimport int32_t

from fastopt._kernels.portable cimport index, offset, real


def kept(const index[::1] columns, const offset[::1] indptr, const int32_t[::1] places, Py_ssize_t start,
         Py_ssize_t stop):
    """How many entries rows start .. stop - 1 of CSR have in columns whose place is not negative."""
    cdef Py_ssize_t k, total = 0
    with nogil:
        for k in range(indptr[start], indptr[stop]):
            total += places[columns[k]] >= 0
    return total


def copy(const real[::1] values, const index[::1] columns, const offset[::1] indptr, const int32_t[::1] places,
         real[::1] out_values, index[::1] out_columns, offset[::1] out_indptr, Py_ssize_t start, Py_ssize_t stop):
    """These rows' entries in columns whose place is not negative, as CSR of places: on behind out_indptr[start]."""
    cdef Py_ssize_t row, k, end = out_indptr[start]
    cdef int32_t place
    with nogil:
        for row in range(start, stop):
            for k in range(indptr[row], indptr[row + 1]):
                place = places[columns[k]]
                if place >= 0:
                    out_values[end] = values[k]
                    out_columns[end] = place
                    end += 1
            out_indptr[row + 1] = end


def sweeps(const double[:, ::1] H, double[::1] r, double[::1] v, double l1, Py_ssize_t n_penalised, Py_ssize_t most,
           double part):
    """Lowers ``r.(u - v) + (u - v)'H(u - v)/2 + l1 |u|_1`` in one coordinate of u after the other, from u = v.

    The first `n_penalised` coordinates bear L1. One sweep over all; then `most` over those that are not zero, until one
    lowers the sum by less than this part of what the first did. v becomes u, and r the quadratic's slope there.
    Returns by how much the sum fell: in the first sweep, in all, and in the last.
    """
    cdef double first, more, total
    with nogil:
        first = total = more = sweep(H, r, v, l1, n_penalised, False)
        while most > 0:
            more = sweep(H, r, v, l1, n_penalised, True)
            total += more
            most -= 1
            if more <= part * first:
                break
    return first, total, more


cdef double sweep(const double[:, ::1] H, double[::1] r, double[::1] v, double l1, Py_ssize_t n_penalised,
                  bint nonzero) noexcept nogil:
    """One of `sweeps`, over all coordinates or those that are not zero: by how much the sum fell."""
    cdef Py_ssize_t j, k, n = v.shape[0]
    cdef double h, old, new, by, change, fell = 0
    cdef const double *row
    cdef double *slope = &r[0]
    for j in range(n):
        h = H[j, j]
        old = v[j]
        if nonzero and old == 0:
            continue
        if not h > 0:
            if j < n_penalised and l1 > 0:
                v[j] = 0  # a column of zeros
            continue
        new = old - r[j] / h
        if j < n_penalised:
            by = l1 / h
            new = new - by if new > by else new + by if new < -by else 0
        change = new - old
        if change == 0:
            continue
        fell -= change * (r[j] + 0.5 * h * change)
        if j < n_penalised:
            fell += l1 * (fabs(old) - fabs(new))
        v[j] = new
        row = &H[j, 0]
        for k in range(n):
            slope[k] += change * row[k]
    return fell
