"""SAGA with K outputs, which the softmax has, on dense and CSR rows.

`saga.pyx` with slopes and r of K numbers, ``r = (I + q s_i ddloss_i)^-1 (new - old)``, ddloss_i being diag(p) - p p';
w and g of a column are rows of (width) numbers, K and zeros as block.pxd has them, A and B two more.
"""
from libc.stdint cimport int32_t, int64_t
from libc.string cimport memcpy

from fastopt._kernels.block cimport (outputs_axpy, outputs_dot, packed_width, sparse_outputs_axpy,
                                     sparse_outputs_dot)
from fastopt._kernels.loss cimport softmax
from fastopt._kernels.portable cimport index, prefetch, real
from fastopt._kernels.row cimport AHEAD, FAR_AHEAD, axpy, prefetch_coming_row, prefetch_row
from fastopt._kernels.saga cimport Saga

cdef extern from *:
    """
    /* The steps of n columns, all of a row's or those that it names, in L of their outputs: w and g begin at the first
       of them, r and gain too. */
    #ifdef FASTOPT_HAS_VECTORS
    #define FASTOPT_SAGA_STEPS(name, W, I, L) \\
    static inline void name(const W *x, const I *columns, Py_ssize_t n, W *w, W *g, const W *steps, \\
                            Py_ssize_t width, const W *r, const W *gain, W pull, W l2, W l1) { \\
        fastopt_##W##L v, u, r_ = FASTOPT_LOAD(W, L, r), gain_ = FASTOPT_LOAD(W, L, gain); Py_ssize_t k, j; int l; \\
        for (k = 0; k < n; k++) { \\
            W A, B, keep, by, *w_j, *g_j; \\
            j = columns != NULL ? (Py_ssize_t)columns[k] : k; \\
            A = steps[2 * j] * x[k]; B = steps[2 * j + 1]; keep = 1 - B * l2; \\
            w_j = w + j * width; g_j = g + j * width; \\
            v = FASTOPT_TIMES(W, L, keep, FASTOPT_LOAD(W, L, w_j)); u = FASTOPT_LOAD(W, L, g_j); \\
            v = FASTOPT_MORE_OF(W, L, FASTOPT_MORE_OF(W, L, v, -B * pull, u), -A, r_); \\
            FASTOPT_STORE(W, L, w_j, v); \\
            FASTOPT_STORE(W, L, g_j, FASTOPT_MORE_OF(W, L, u, x[k], gain_)); \\
            if (l1 > 0) { \\
                by = B * l1; \\
                for (l = 0; l < L; l++) w_j[l] = w_j[l] > by ? w_j[l] - by : w_j[l] < -by ? w_j[l] + by : 0; \\
            } \\
        } \\
    }
    #else
    #define FASTOPT_SAGA_STEPS(name, W, I, L) \\
    static void name(const W *x, const I *columns, Py_ssize_t n, W *w, W *g, const W *steps, Py_ssize_t width, \\
                     const W *r, const W *gain, W pull, W l2, W l1) { \\
        Py_ssize_t k, j; int l; \\
        for (k = 0; k < n; k++) for (l = 0; l < L; l++) { \\
            W A, B, by, *w_j, *g_j; \\
            j = columns != NULL ? (Py_ssize_t)columns[k] : k; \\
            A = steps[2 * j] * x[k]; B = steps[2 * j + 1]; by = B * l1; \\
            w_j = w + j * width + l; g_j = g + j * width + l; \\
            *w_j = (1 - B * l2) * *w_j - B * pull * *g_j - A * r[l]; \\
            if (l1 > 0) *w_j = *w_j > by ? *w_j - by : *w_j < -by ? *w_j + by : 0; \\
            *g_j += x[k] * gain[l]; \\
        } \\
    }
    #endif
    #define FASTOPT_SAGA_WIDTHS(name, W, I, L, H, Q) \\
    FASTOPT_SAGA_STEPS(name##_l, W, I, L) \\
    FASTOPT_SAGA_STEPS(name##_h, W, I, H) \\
    FASTOPT_SAGA_STEPS(name##_q, W, I, Q) \\
    static inline void name(const W *x, const I *columns, Py_ssize_t n, W *w, W *g, const W *steps, \\
                            Py_ssize_t width, const W *r, const W *gain, W pull, W l2, W l1) { \\
        Py_ssize_t c = 0; \\
        if (width == H) name##_h(x, columns, n, w, g, steps, width, r, gain, pull, l2, l1); \\
        else if (width == Q) name##_q(x, columns, n, w, g, steps, width, r, gain, pull, l2, l1); \\
        else for (; c < width; c += L) \\
            name##_l(x, columns, n, w + c, g + c, steps, width, r + c, gain + c, pull, l2, l1); \\
    }
    FASTOPT_SAGA_WIDTHS(fastopt_saga_fi, float, int32_t, 16, 8, 4)
    FASTOPT_SAGA_WIDTHS(fastopt_saga_fl, float, int64_t, 16, 8, 4)
    FASTOPT_SAGA_WIDTHS(fastopt_saga_di, double, int32_t, 8, 4, 2)
    FASTOPT_SAGA_WIDTHS(fastopt_saga_dl, double, int64_t, 8, 4, 2)
    """
    void steps_fi "fastopt_saga_fi"(
        const float *x, const int32_t *columns, Py_ssize_t n, float *w, float *g, const float *steps, Py_ssize_t width,
        const float *r, const float *gain, float pull, float l2, float l1) noexcept nogil
    void steps_fl "fastopt_saga_fl"(
        const float *x, const int64_t *columns, Py_ssize_t n, float *w, float *g, const float *steps, Py_ssize_t width,
        const float *r, const float *gain, float pull, float l2, float l1) noexcept nogil
    void steps_di "fastopt_saga_di"(
        const double *x, const int32_t *columns, Py_ssize_t n, double *w, double *g, const double *steps,
        Py_ssize_t width, const double *r, const double *gain, double pull, double l2, double l1) noexcept nogil
    void steps_dl "fastopt_saga_dl"(
        const double *x, const int64_t *columns, Py_ssize_t n, double *w, double *g, const double *steps,
        Py_ssize_t width, const double *r, const double *gain, double pull, double l2, double l1) noexcept nogil


def width(Py_ssize_t n_outputs, Py_ssize_t itemsize):
    """Numbers that a column's outputs take."""
    return packed_width(n_outputs, itemsize)


cdef inline void renew(Saga p, Py_ssize_t row, real *z, real q, Py_ssize_t K, real *slopes, real *r,
                       real *gain) noexcept nogil:
    """Raw predictions z: writes the row's new slopes over the old ones, r, and what the average grows by."""
    cdef Py_ssize_t c, target = <Py_ssize_t>p.y[row]
    cdef real s = <real>p.weights[row] if p.weights.shape[0] > 0 else <real>1
    cdef real new, share = <real>p.share, above = 0, below = 0
    softmax(z, K, target)
    for c in range(K):
        new = s * z[c]
        r[c] = new - slopes[c]
        gain[c] = r[c] * share
        slopes[c] = new
    z[target] += 1
    q *= s
    for c in range(K):                  # (D - q p p')^-1 r with D = I + q diag(p), by Sherman and Morrison
        new = 1 / (1 + q * z[c])
        z[c] *= new                     # D^-1 p
        above += z[c] * r[c]
        below += z[c]
        r[c] *= new
    above *= q / below
    for c in range(K):
        r[c] += above * z[c]


cdef inline void step_row(Saga p, Py_ssize_t row, const real *x, const index *columns, Py_ssize_t n, real q,
                          real[:, :, ::1] cells, const real *steps, real[:, ::1] table,
                          real[:, ::1] room) noexcept nogil:
    """A row's steps from its raw predictions, the first row of `room`."""
    cdef Py_ssize_t d = cells.shape[1] - 1, width = cells.shape[2]
    cdef real *w = &cells[0, 0, 0]
    cdef real *g = &cells[1, 0, 0]
    cdef const real *r = &room[1, 0]
    cdef const real *gain = &room[2, 0]
    cdef real one = 1, zero = 0, pull = <real>p.pull
    renew(p, row, &room[0, 0], q, table.shape[1], &table[row, 0], &room[1, 0], &room[2, 0])
    steps_of(x, columns, n, w, g, steps, width, r, gain, pull, <real>p.l2, <real>p.l1)
    steps_of(&one, <const index *>NULL, 1, w + d * width, g + d * width, steps + 2 * d, width, r, gain, pull, zero,
             zero)


cdef inline void steps_of(const real *x, const index *columns, Py_ssize_t n, real *w, real *g, const real *steps,
                          Py_ssize_t width, const real *r, const real *gain, real pull, real l2,
                          real l1) noexcept nogil:
    """The steps of the n columns that a row names, or of the first n where `columns` is NULL."""
    if real is float:
        if index is int32_t:
            steps_fi(x, columns, n, w, g, steps, width, r, gain, pull, l2, l1)
        else:
            steps_fl(x, columns, n, w, g, steps, width, r, gain, pull, l2, l1)
    elif index is int32_t:
        steps_di(x, columns, n, w, g, steps, width, r, gain, pull, l2, l1)
    else:
        steps_dl(x, columns, n, w, g, steps, width, r, gain, pull, l2, l1)


def sparse(Saga p, const real[::1] values, const index[::1] columns, const index[::1] indptr, real[:, :, ::1] cells,
           real[:, ::1] steps, real[:, ::1] table, real[:, ::1] room, const Py_ssize_t[::1] order, Py_ssize_t start,
           Py_ssize_t stop):
    """Steps with the rows order[start:stop], which name no column twice.

    Cells are w and g, steps A and B, the table's rows K slopes; room is 3 rows of zeros.
    """
    cdef Py_ssize_t i, row, k, e, m, d = cells.shape[1] - 1, width = cells.shape[2], K = table.shape[1]
    cdef Py_ssize_t n = order.shape[0]
    cdef const real *x = &values[0]
    cdef const index *j = &columns[0]
    cdef const real *w = &cells[0, 0, 0]
    cdef const real *a = &steps[0, 0]
    cdef real *z = &room[0, 0]
    cdef real q, one = 1
    with nogil:
        for i in range(start, stop):
            if i + FAR_AHEAD < n:
                prefetch(&p.y[order[i + FAR_AHEAD]])
                prefetch_row(&table[order[i + FAR_AHEAD], 0], K)
            prefetch_coming_row(&order[0], n, i, x, j, &indptr[0])
            row = order[i]
            k = indptr[row]
            m = indptr[row + 1] - k
            memcpy(z, w + d * width, width * sizeof(real))
            sparse_outputs_dot(x + k, j + k, m, w, width, one, z)
            q = a[2 * d]
            for e in range(k, k + m):
                q += x[e] * x[e] * a[2 * <Py_ssize_t>j[e]]
            step_row(p, row, x + k, j + k, m, q, cells, a, table, room)


def dense(Saga p, const real[:, :] X, real[:, :, ::1] cells, real[:, ::1] steps, real[:, ::1] table, real[:, ::1] room,
          const Py_ssize_t[::1] order, Py_ssize_t start, Py_ssize_t stop):
    """`sparse` on dense rows, where B is A."""
    cdef Py_ssize_t i, k, row, ahead, d = cells.shape[1] - 1, width = cells.shape[2], K = table.shape[1]
    cdef Py_ssize_t stride = X.strides[0] // <Py_ssize_t>sizeof(real), n = order.shape[0]
    cdef const real *x
    cdef const real *w = &cells[0, 0, 0]
    cdef const real *a = &steps[0, 0]
    cdef real *z = &room[0, 0]
    cdef real q, one = 1
    with nogil:
        for i in range(start, stop):
            ahead = order[min(i + AHEAD, n - 1)]
            prefetch(&p.y[ahead])
            prefetch_row(&table[ahead, 0], K)
            prefetch_row(&X[0, 0] + ahead * stride, d)
            row = order[i]
            x = &X[0, 0] + row * stride
            memcpy(z, w + d * width, width * sizeof(real))
            outputs_dot(x, w, d, width, one, z)
            q = a[2 * d]
            for k in range(d):
                q += x[k] * x[k] * a[2 * k]
            step_row(p, row, x, <const int32_t *>NULL, d, q, cells, a, table, room)


cdef inline double measure(Saga p, Py_ssize_t row, double *z, real *slopes, Py_ssize_t K) noexcept nogil:
    cdef double s = p.weights[row] if p.weights.shape[0] > 0 else 1.0, loss = softmax(z, K, <Py_ssize_t>p.y[row])
    cdef Py_ssize_t c
    for c in range(K):
        z[c] *= s
        slopes[c] = <real>z[c]
    return s * loss


def dense_renew(Saga p, const real[:, :] X, const double[:, ::1] w, double[:, ::1] g, real[:, ::1] table, double[::1] z,
                Py_ssize_t start, Py_ssize_t stop):
    """`saga.dense_renew` with K outputs; z is room for a row of w."""
    cdef Py_ssize_t row, d = w.shape[0] - 1, width = w.shape[1], K = table.shape[1]
    cdef Py_ssize_t stride = X.strides[0] // <Py_ssize_t>sizeof(real)
    cdef const real *x = &X[0, 0]
    cdef double total = 0, one = 1
    with nogil:
        for row in range(start, stop):
            memcpy(&z[0], &w[d, 0], width * sizeof(double))
            outputs_dot(x + row * stride, &w[0, 0], d, width, one, &z[0])
            total += measure(p, row, &z[0], &table[row, 0], K)
            outputs_axpy(x + row * stride, &g[0, 0], d, width, one, &z[0])
            axpy(one, &z[0], &g[d, 0], width)
    return total


def sparse_renew(Saga p, const real[::1] values, const index[::1] columns, const index[::1] indptr,
                 const double[:, ::1] w, double[:, ::1] g, real[:, ::1] table, double[::1] z, Py_ssize_t start,
                 Py_ssize_t stop):
    """`dense_renew` on CSR rows."""
    cdef Py_ssize_t row, k, m, d = w.shape[0] - 1, width = w.shape[1], K = table.shape[1]
    cdef const real *x = &values[0]
    cdef const index *j = &columns[0]
    cdef double total = 0, one = 1
    with nogil:
        for row in range(start, stop):
            k = indptr[row]
            m = indptr[row + 1] - k
            memcpy(&z[0], &w[d, 0], width * sizeof(double))
            sparse_outputs_dot(x + k, j + k, m, &w[0, 0], width, one, &z[0])
            total += measure(p, row, &z[0], &table[row, 0], K)
            sparse_outputs_axpy(x + k, j + k, m, &g[0, 0], width, one, &z[0])
            axpy(one, &z[0], &g[d, 0], width)
    return total
