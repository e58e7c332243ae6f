"""Coordinate descent on a quadratic with an L1 penalty: what a Newton step of F with L1 minimises."""
from libc.math cimport fabs


def sweep(const double[:, ::1] H, double[::1] r, double[::1] v, double l1, Py_ssize_t n_penalised, bint nonzero):
    """Minimises ``r.(u - v) + (u - v)'H(u - v)/2 + l1 |u|_1`` in one coordinate of u after the other, from u = v.

    The first `n_penalised` coordinates bear L1. v becomes u, and r the quadratic's slope there. `nonzero`: those at
    zero are left out. Returns by how much the sum fell.
    """
    cdef Py_ssize_t j, k, n = v.shape[0]
    cdef double h, old, new, by, change, fell = 0
    cdef const double *row
    cdef double *slope = &r[0]
    with nogil:
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
