"""Dual coordinate descent for the softmax of K classes, on dense and CSR rows.

`dual.pyx` with K dual variables a row, a point p_i of the simplex: ``W = 1/(l2 n) sum_i s_i x_i (e_y - p_i)'``, and
``p_i = softmax(z_i)`` at the minimum. Row i's visit is that of simplex.pxd.
"""
from libc.float cimport DBL_MIN
from libc.math cimport sqrt

from fastopt._kernels.block cimport (outputs_axpy, outputs_dot, packed_width, sparse_outputs_axpy,
                                     sparse_outputs_dot)
from fastopt._kernels.exponential cimport log_normal
from fastopt._kernels.portable cimport index, prefetch, real
from fastopt._kernels.row cimport AHEAD, FAR_AHEAD, prefetch_coming_row, prefetch_lines, prefetch_row
from fastopt._kernels.simplex cimport ROOM, ascend_softmax, padded, probability
from fastopt._kernels.sound cimport highest_of, rising

cdef enum:
    # Rows of look-ahead for W's rows, several lines for each of a row's columns: their numbers must be there already.
    NEAR_AHEAD = 4
    # Rows of a measurement whose softmax is computed together.
    FEW = 8


cdef class Softmax:
    """What an epoch needs beside X, W and the order; `state` is written.

    `state` holds log p, (n_samples, K); beside W's `width` outputs of each feature, K and zeros, the intercepts are its
    last row.
    """
    cdef Py_ssize_t n_classes
    cdef readonly Py_ssize_t width
    cdef double unit
    cdef public double c2
    cdef const double[::1] y, weights, squares
    cdef double[:, ::1] state
    cdef double[::1] room

    def __init__(self, double unit, const double[::1] y, const double[::1] weights, const double[::1] squares,
                 double[:, ::1] state, double[::1] room):
        """As for `dual.Dual`; y holds class numbers, and `room` (`room_for`) is written."""
        self.n_classes = state.shape[1]
        self.width = packed_width(self.n_classes, sizeof(double))
        self.unit, self.c2 = unit, 0.0
        self.y, self.weights, self.squares, self.state, self.room = y, weights, squares, state, room
        if room.shape[0] < self.room_for(self.n_classes):
            raise ValueError(f"room must have {self.room_for(self.n_classes)} elements; got {room.shape[0]}.")

    @staticmethod
    def room_for(Py_ssize_t n_classes):
        """Numbers that a visit takes."""
        return 3 * max(padded(n_classes), packed_width(n_classes, sizeof(double))) + ROOM * padded(n_classes)


cdef inline void visit(Softmax t, Py_ssize_t row, double *z, double *b, double *moved) noexcept nogil:
    """A row's visit; z, its raw predictions, becomes the multiples of the row to add to W."""
    cdef double s = t.unit * (t.weights[row] if t.weights.shape[0] > 0 else 1.0), sum_ = 0
    cdef Py_ssize_t k, n = max(padded(t.n_classes), t.width)
    cdef double *p = z + n
    cdef double *old = p + n
    ascend_softmax(s * (t.squares[row] + t.c2), z, &t.state[row, 0], p, old, old + n, t.n_classes)
    for k in range(t.width):
        z[k] = 0
    for k in range(t.n_classes):
        z[k] = s * (old[k] - p[k])
    for k in range(t.n_classes):
        b[k] += t.c2 * z[k]
        sum_ += z[k] * z[k]
    moved[0] += (t.squares[row] + 1) * sum_


cdef inline void look_ahead(Softmax t, Py_ssize_t row) noexcept nogil:
    prefetch(&t.y[row])
    prefetch(&t.squares[row])
    prefetch_row(&t.state[row, 0], t.n_classes)


def dense(Softmax t, const real[:, :] X, double[::1] w, const Py_ssize_t[::1] order, Py_ssize_t start, Py_ssize_t stop):
    """Visits the rows order[start:stop]; w is W row by row. Returns sum (||x_i||^2 + 1) ||step_i||^2."""
    cdef Py_ssize_t i, row, k, ahead, width = t.width, d = w.shape[0] // t.width - 1, n = order.shape[0]
    cdef Py_ssize_t stride = X.strides[0] // <Py_ssize_t>sizeof(real)
    cdef const real *x = &X[0, 0]
    cdef double *b = &w[d * width]
    cdef double *z = &t.room[0]
    cdef double moved = 0
    with nogil:
        for i in range(start, stop):
            ahead = order[min(i + AHEAD, n - 1)]
            look_ahead(t, ahead)
            prefetch_row(x + ahead * stride, d)
            row = order[i]
            for k in range(width):
                z[k] = b[k]
            outputs_dot(x + row * stride, &w[0], d, width, <double>1, z)
            visit(t, row, z, b, &moved)
            outputs_axpy(x + row * stride, &w[0], d, width, <double>1, z)
    return moved


def sparse(Softmax t, const real[::1] values, const index[::1] columns, const index[::1] indptr, double[::1] w,
           const Py_ssize_t[::1] order, Py_ssize_t start, Py_ssize_t stop, bint checks=False):
    """`dense` on CSR rows that name no column twice; `checks` as in `dual.sparse`."""
    cdef Py_ssize_t i, row, k, m, c, width = t.width, n = order.shape[0], checked = start
    cdef const real *x = &values[0]
    cdef const index *j = &columns[0]
    cdef index highest = highest_of(<index>0, w.shape[0] // t.width - 1)
    cdef double *b = &w[w.shape[0] - width]
    cdef double *z = &t.room[0]
    cdef double moved = 0
    with nogil:
        for i in range(start, stop):
            if i + FAR_AHEAD < n:
                look_ahead(t, order[i + FAR_AHEAD])
            prefetch_coming_row(&order[0], n, i, x, j, &indptr[0])
            while checks and checked < min(i + NEAR_AHEAD + 1, n):
                k = indptr[order[checked]]
                if not rising(j + k, indptr[order[checked] + 1] - k, highest):
                    moved = -1
                    break
                checked += 1
            if moved < 0:
                break
            if i + NEAR_AHEAD < n:
                k = indptr[order[i + NEAR_AHEAD]]
                for c in range(indptr[order[i + NEAR_AHEAD] + 1] - k):
                    prefetch_lines(<const char *>(&w[0] + j[k + c] * width), width * sizeof(double))
            row = order[i]
            k = indptr[row]
            m = indptr[row + 1] - k
            for c in range(width):
                z[c] = b[c]
            sparse_outputs_dot(x + k, j + k, m, &w[0], width, <double>1, z)
            visit(t, row, z, b, &moved)
            sparse_outputs_axpy(x + k, j + k, m, &w[0], width, <double>1, z)
    return moved


# --- what a measurement asks for --------------------------------------------------------------------------------------


def masses(Softmax t, double[::1] sums):
    """sum_i s_i p_i is added to `sums`."""
    cdef Py_ssize_t i, k, K = t.n_classes
    cdef double s
    with nogil:
        for i in range(t.state.shape[0]):
            s = t.weights[i] if t.weights.shape[0] > 0 else 1.0
            for k in range(K):
                sums[k] += s * probability(t.state[i, k])


def bound(Softmax t, const double[::1] keep, const double[::1] share):
    """`dual.bound`: each class keeps a part of its p_i, and the rest is shared out, row by row.

    Nothing is shared out if `keep` and `share` are empty.
    """
    cdef Py_ssize_t i, k, K = t.n_classes
    cdef double *p = &t.room[0]
    cdef double total = 0, moved = 0, s, gone, sum_, change
    with nogil:
        for i in range(t.state.shape[0]):
            s = t.weights[i] if t.weights.shape[0] > 0 else 1.0
            for k in range(K):
                p[k] = probability(t.state[i, k])
            sum_ = 0
            if keep.shape[0] == 0:
                for k in range(K):
                    sum_ += p[k] * t.state[i, k]
                total += s * sum_
                continue
            gone = change = 0
            for k in range(K):
                gone += (1 - keep[k]) * p[k]
            for k in range(K):
                sum_ = gone * share[k] - (1 - keep[k]) * p[k]
                p[k] += sum_
                change += sum_ * sum_
            moved += s * sqrt(t.squares[i] * change)
            sum_ = 0
            for k in range(K):
                sum_ += p[k] * log_normal(max(p[k], DBL_MIN))
            total += s * sum_
    return total, moved


def at_intercepts(Softmax t, const double[:, ::1] z, const double[::1] b, double[::1] sums, double[:, ::1] products):
    """``sum_i s_i p_i`` and the lower triangle of ``sum_i s_i p_i p_i'``, ``p_i = softmax(z_i + b)``, are added."""
    cdef Py_ssize_t i, r, c, k, K = t.n_classes, n = padded(t.n_classes), start = 0, rows
    cdef double *p
    cdef double s, top, sum_
    with nogil:
        while start < z.shape[0]:
            rows = min(z.shape[0] - start, <Py_ssize_t>FEW)
            for r in range(rows):
                p = &t.room[r * n]
                i = start + r
                for k in range(K):
                    p[k] = z[i, k] + b[k]
                top = p[0]
                for k in range(K):
                    top = p[k] if p[k] > top else top
                sum_ = 0
                for k in range(K):
                    p[k] = probability(p[k] - top)
                    sum_ += p[k]
                s = t.weights[i] if t.weights.shape[0] > 0 else 1.0
                for k in range(K):
                    p[k] /= sum_
                    sums[k] += s * p[k]
            for c in range(K):
                for r in range(rows):
                    p = &t.room[r * n]
                    i = start + r
                    s = p[c] * (t.weights[i] if t.weights.shape[0] > 0 else 1.0)
                    for k in range(c + 1):
                        products[c, k] += s * p[k]
            start += rows
