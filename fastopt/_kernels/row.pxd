"""The only functions that know how a row of X lies in memory: row dot and row axpy, dense and CSR.

One output (K = 1) and K outputs are told apart by name: with K > 1 the parameters of a feature are contiguous.
Dense rows are not written as identity-indexed CSR rows: that makes the axpy 2-4 times slower.
"""
from fastopt._kernels.portable cimport index, prefetch_l2, real, wide

cdef enum:
    # Rows of look-ahead; the order of an epoch is known, so a row's lines are asked for this long before their use.
    AHEAD = 16
    FAR_AHEAD = 32
    LINE = 64


cdef inline wide dot(const real *x, const wide *w, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t j
    cdef wide total = 0                 # -fassociative-math turns this into vector accumulators
    for j in range(n):
        total += x[j] * w[j]
    return total


cdef inline void axpy(wide a, const real *x, wide *w, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t j
    for j in range(n):
        w[j] += a * x[j]


cdef inline wide sparse_dot(const real *x, const index *columns, Py_ssize_t n, const wide *w) noexcept nogil:
    cdef Py_ssize_t k = 0
    cdef wide t0 = 0, t1 = 0, t2 = 0, t3 = 0   # four chains: one alone waits for each addition
    while k + 4 <= n:
        t0 += x[k] * w[columns[k]]
        t1 += x[k + 1] * w[columns[k + 1]]
        t2 += x[k + 2] * w[columns[k + 2]]
        t3 += x[k + 3] * w[columns[k + 3]]
        k += 4
    while k < n:
        t0 += x[k] * w[columns[k]]
        k += 1
    return (t0 + t1) + (t2 + t3)


cdef inline void sparse_axpy(wide a, const real *x, const index *columns, Py_ssize_t n, wide *w) noexcept nogil:
    cdef Py_ssize_t k
    for k in range(n):
        w[columns[k]] += a * x[k]


cdef inline void outputs_dot(const real *x, const wide *w, Py_ssize_t n, Py_ssize_t n_outputs, wide a,
                             wide *z) noexcept nogil:
    """z += a x' W for a dense row; W is (n, n_outputs)."""
    cdef Py_ssize_t j, c
    cdef wide xj
    for j in range(n):
        xj = a * x[j]
        for c in range(n_outputs):
            z[c] += xj * w[j * n_outputs + c]


cdef inline void outputs_axpy(wide a, const wide *r, const real *x, wide *w, Py_ssize_t n,
                              Py_ssize_t n_outputs) noexcept nogil:
    """W += a x r' for a dense row."""
    cdef Py_ssize_t j, c
    cdef wide xj
    for j in range(n):
        xj = a * x[j]
        for c in range(n_outputs):
            w[j * n_outputs + c] += xj * r[c]


cdef inline void sparse_outputs_dot(const real *x, const index *columns, Py_ssize_t n, const wide *w,
                                    Py_ssize_t n_outputs, wide a, wide *z) noexcept nogil:
    cdef Py_ssize_t k, c
    cdef const wide *wj
    cdef wide xk
    for k in range(n):
        wj = w + <Py_ssize_t>columns[k] * n_outputs
        xk = a * x[k]
        for c in range(n_outputs):
            z[c] += xk * wj[c]


cdef inline void sparse_outputs_axpy(wide a, const wide *r, const real *x, const index *columns, Py_ssize_t n,
                                     wide *w, Py_ssize_t n_outputs) noexcept nogil:
    cdef Py_ssize_t k, c
    cdef wide *wj
    cdef wide xk
    for k in range(n):
        wj = w + <Py_ssize_t>columns[k] * n_outputs
        xk = a * x[k]
        for c in range(n_outputs):
            wj[c] += xk * r[c]


cdef inline void prefetch_lines(const char *start, Py_ssize_t size) noexcept nogil:
    """Asks for every cache line of a piece of memory, wherever it starts."""
    cdef Py_ssize_t k = 0
    while k < size:
        prefetch_l2(start + k)
        k += LINE
    prefetch_l2(start + size - 1)


cdef inline void prefetch_row(const real *x, Py_ssize_t n) noexcept nogil:
    """Asks for a row's first lines; what follows is the hardware prefetcher's."""
    cdef Py_ssize_t size = n * sizeof(real)
    prefetch_lines(<const char *>x, size if size < 8 * LINE else 8 * LINE)


cdef inline void prefetch_sparse_row(const real *x, const index *columns, Py_ssize_t n) noexcept nogil:
    prefetch_lines(<const char *>x, n * sizeof(real))
    prefetch_lines(<const char *>columns, n * sizeof(index))
