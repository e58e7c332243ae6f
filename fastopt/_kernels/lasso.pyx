"""For Newton steps of F with L1: copies of the columns that count, and coordinate descent on the quadratic.

The quadratic's Hessian is at hand, or (`Columns`) its products with X's columns are worked out as they are needed.
"""
from libc.math cimport fabs
from libc.stdint cimport int32_t

from fastopt._kernels.portable cimport index, offset, real
from fastopt._kernels.row cimport dot, sparse_dot
from fastopt._kernels.rule cimport towards_zero


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
    cdef double h, old, new, change, fell = 0
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
            new = towards_zero(new, l1 / h)
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


# --- the same by columns, without a Hessian ---------------------------------------------------------------------------


cdef class Columns:
    """The quadratic of a step whose Hessian ``H = X' D X + l2`` is never made.

    Coordinate c is the parameter of column `column[c]` and output `output[c]`; beyond X's columns stands the
    intercepts' column of ones. D's diagonal is `h`, by output and row. With softmax D of a row is ``diag(h) - h p'``:
    `p` are its probabilities, and `mean` is ``p.u``, u being what the step adds to its raw predictions; otherwise both
    are empty. `q` is ``h u``.
    """
    cdef const Py_ssize_t[::1] column, output
    cdef const double[:, ::1] h, p
    cdef double[:, ::1] q
    cdef double[::1] mean
    cdef double l1, l2
    cdef Py_ssize_t n_columns, n_penalised

    def __init__(self, const Py_ssize_t[::1] column, const Py_ssize_t[::1] output, const double[:, ::1] h,
                 const double[:, ::1] p, double[:, ::1] q, double[::1] mean, double l1, double l2,
                 Py_ssize_t n_columns, Py_ssize_t n_penalised):
        self.column, self.output, self.h, self.p, self.q, self.mean = column, output, h, p, q, mean
        self.l1, self.l2, self.n_columns, self.n_penalised = l1, l2, n_columns, n_penalised


cdef struct Entries:
    Py_ssize_t first, count             # of a column; first is negative if it is that of ones


cdef inline Entries entries_of(Columns t, Py_ssize_t c, const index *rows, const index *starts) noexcept nogil:
    cdef Entries e
    cdef Py_ssize_t j = t.column[c], n = t.h.shape[1]
    e.first, e.count = j * n, n
    if j == t.n_columns:
        e.first = -1
    elif rows != NULL:
        e.first, e.count = starts[j], starts[j + 1] - starts[j]
    return e


cdef inline double bend_of(Columns t, Py_ssize_t c, const real *x, const index *rows,
                           const index *starts) noexcept nogil:
    """H's diagonal."""
    cdef Entries e = entries_of(t, c, rows, starts)
    cdef Py_ssize_t i, r, k = t.output[c]
    cdef const double *h = &t.h[k, 0]
    cdef double total = 0, value
    for i in range(e.count):
        r = rows[e.first + i] if rows != NULL and e.first >= 0 else i
        value = x[e.first + i] if e.first >= 0 else 1
        total += value * value * (h[r] * (1 - t.p[k, r]) if t.p.shape[0] > 0 else h[r])
    return total + (t.l2 if c < t.n_penalised else 0)


cdef inline double slope_of(Columns t, Py_ssize_t c, const real *x, const index *rows,
                            const index *starts) noexcept nogil:
    """What the step so far adds to F's slope, but for L2's part."""
    cdef Entries e = entries_of(t, c, rows, starts)
    cdef Py_ssize_t i = 0, k = t.output[c]
    cdef const double *q = &t.q[k, 0]
    cdef const double *h = &t.h[k, 0]
    cdef const double *mean
    cdef double first = 0, second = 0
    cdef index r, o
    x += max(e.first, <Py_ssize_t>0)
    if t.p.shape[0] == 0:
        if e.first >= 0:
            return sparse_dot(x, rows + e.first, e.count, q) if rows != NULL else dot(x, q, e.count)
        for i in range(e.count):
            first += q[i]
        return first
    mean = &t.mean[0]
    if e.first < 0:
        for i in range(e.count):
            first += q[i] - h[i] * mean[i]
        return first
    if rows == NULL:
        while i + 2 <= e.count:
            first += x[i] * (q[i] - h[i] * mean[i])
            second += x[i + 1] * (q[i + 1] - h[i + 1] * mean[i + 1])
            i += 2
        if i < e.count:
            first += x[i] * (q[i] - h[i] * mean[i])
        return first + second
    rows += e.first
    while i + 2 <= e.count:
        r, o = rows[i], rows[i + 1]
        first += x[i] * (q[r] - h[r] * mean[r])
        second += x[i + 1] * (q[o] - h[o] * mean[o])
        i += 2
    if i < e.count:
        r = rows[i]
        first += x[i] * (q[r] - h[r] * mean[r])
    return first + second


cdef inline void move(Columns t, Py_ssize_t c, double by, const real *x, const index *rows,
                      const index *starts) noexcept nogil:
    """The step becomes longer by this in coordinate c."""
    cdef Entries e = entries_of(t, c, rows, starts)
    cdef Py_ssize_t k = t.output[c]
    add(by, x, rows, e, &t.h[k, 0], &t.q[k, 0])
    if t.p.shape[0] > 0:
        add(by, x, rows, e, &t.p[k, 0], &t.mean[0])


cdef inline void add(double by, const real *x, const index *rows, Entries e, const double *factors,
                     double *sums) noexcept nogil:
    """A column, its entries times their rows' factors and `by`, is added to the sums of its rows."""
    cdef Py_ssize_t i
    cdef index r
    if e.first < 0:
        for i in range(e.count):
            sums[i] += by * factors[i]
    elif rows == NULL:
        x += e.first
        for i in range(e.count):
            sums[i] += by * x[i] * factors[i]
    else:
        x += e.first
        rows += e.first
        for i in range(e.count):
            r = rows[i]
            sums[r] += by * x[i] * factors[r]


cdef double sweep_columns(Columns t, const real *x, const index *rows, const index *starts, const double *slope,
                          const double *diagonal, const double *w, double *v, bint nonzero, Py_ssize_t start,
                          Py_ssize_t stop) noexcept nogil:
    cdef Py_ssize_t c
    cdef double h, g, old, new, change, fell = 0
    cdef bint penalised
    for c in range(start, stop):
        h, old, penalised = diagonal[c], v[c], c < t.n_penalised
        if nonzero and penalised and old == 0:
            continue
        if not h > 0:
            if penalised and t.l1 > 0:
                v[c] = 0                # a column of zeros
            continue
        g = slope[c] + slope_of(t, c, x, rows, starts)
        if penalised:
            g += t.l2 * (old - w[c])
        new = old - g / h
        if penalised:
            new = towards_zero(new, t.l1 / h)
        change = new - old
        if change == 0:
            continue
        fell -= change * (g + 0.5 * h * change)
        if penalised:
            fell += t.l1 * (fabs(old) - fabs(new))
        v[c] = new
        move(t, c, change, x, rows, starts)
    return fell


def column_bends(Columns t, const real[::1] values, const index[::1] rows, const index[::1] starts,
                 double[::1] diagonal, Py_ssize_t start, Py_ssize_t stop):
    """H's diagonal, of coordinates start .. stop - 1.

    X's columns are contiguous in `values`, all their entries; or in CSC, if `rows` are not empty.
    """
    cdef Py_ssize_t c
    cdef const index *r = &rows[0] if rows.shape[0] > 0 else NULL
    cdef const index *s = &starts[0] if rows.shape[0] > 0 else NULL
    with nogil:
        for c in range(start, stop):
            diagonal[c] = bend_of(t, c, &values[0], r, s)


def column_sweep(Columns t, const real[::1] values, const index[::1] rows, const index[::1] starts,
                 const double[::1] slope, const double[::1] diagonal, const double[::1] w, double[::1] v, bint nonzero,
                 Py_ssize_t start, Py_ssize_t stop):
    """One sweep over coordinates start .. stop - 1, or those that are not zero: by how much the sum fell.

    v - w is the step so far from the point w, where F's smooth part has this slope.
    """
    cdef const index *r = &rows[0] if rows.shape[0] > 0 else NULL
    cdef const index *s = &starts[0] if rows.shape[0] > 0 else NULL
    cdef double fell
    with nogil:
        fell = sweep_columns(t, &values[0], r, s, &slope[0], &diagonal[0], &w[0], &v[0], nonzero, start, stop)
    return fell
