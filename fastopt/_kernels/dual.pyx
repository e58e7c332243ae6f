"""Dual coordinate descent on dense and CSR rows: each visit maximises the dual in one row's variable.

For ``F(w, b) = 1/n sum_i s_i loss_i(x_i.w + b) + l2/2 ||w||^2`` the dual variables a, one a row, stand for
``w = 1/(l2 n) sum_i s_i a_i x_i``, and ``a_i = -dloss_i(z_i)`` at the minimum. Row i's visit solves
``a_i = -dloss_i(z_i + q_i (a_i - old a_i))`` with ``q_i = s_i (||x_i||^2 + c2) / (l2 n)``. The intercept is one more
column here, whose value is sqrt(c2) in every row; the solver moves the point from which its size counts.

The softmax of K classes has K dual variables a row, a point p_i of the simplex: ``W = 1/(l2 n) sum_i s_i x_i
(e_y - p_i)'``, and ``p_i = softmax(z_i)`` at the minimum (simplex.pxd).

The order of the rows is an input. w is double whatever X is, so that it stays the sum that it stands for.
"""
from libc.math cimport fabs, sqrt

from fastopt._kernels.block cimport (outputs_axpy, outputs_dot, packed_width, sparse_outputs_axpy,
                                     sparse_outputs_dot)
from fastopt._kernels.exponential cimport exp, log_normal
from fastopt._kernels.portable cimport index, prefetch, real
from fastopt._kernels.row cimport (AHEAD, FAR_AHEAD, axpy, dot, prefetch_coming_row, prefetch_lines, prefetch_row,
                                   sparse_axpy, sparse_dot)
from fastopt._kernels.simplex cimport ROOM, ascend_softmax, padded, probability
from fastopt._kernels.sound cimport highest_of, rising
from fastopt._kernels.terms cimport sum_of

cdef enum:
    # Rows of look-ahead for W's rows, several lines for each of a row's columns: their numbers must be there already.
    NEAR_AHEAD = 4
    # Rows of a measurement that are worked on together: their conjugates, their softmax.
    TOGETHER = 64
    FEW = 8

# The smallest normal number: that of a smaller one is no logarithm of `log_normal`'s.
cdef double LEAST = 2.2250738585072014e-308

cdef enum DualLoss:
    LOG_LOSS, HINGE, SQUARED_HINGE, SQUARED_ERROR

LOSSES = {"log_loss": LOG_LOSS, "hinge": HINGE, "squared_hinge": SQUARED_HINGE, "squared_error": SQUARED_ERROR}


cdef class Dual:
    """What an epoch needs beside X, w and the order; `state` is written.

    state[i, 0] is a_i for the squared error, else y_i a_i >= 0 (in [0, 1] for the logistic loss and the hinge);
    state[i, 1] is the logistic loss's logit of it, so that neither end of [0, 1] is rounded away.
    """
    cdef int loss
    cdef double unit
    cdef public double c2
    cdef const double[::1] y, weights, squares
    cdef double[:, ::1] state

    def __init__(self, int loss, double unit, const double[::1] y, const double[::1] weights, const double[::1] squares,
                 double[:, ::1] state):
        """`unit` is 1 / (l2 n); `weights` s, empty if all are one; `squares` ||x_i||^2; c2 is to be set."""
        self.loss, self.unit, self.c2 = loss, unit, 0.0
        self.y, self.weights, self.squares, self.state = y, weights, squares, state


cdef inline double sigmoid(double u) noexcept nogil:
    return 1 / (1 + exp(-u))            # from 1e-308 on: exp is never infinite


cdef inline double ascend_logistic(double y, double z, double q, double *state) noexcept nogil:
    """Solves u + q sigmoid(u) = q p - y z for p's new logit u by Newton's steps until a tenth of the error is left.

    The root is kept bracketed: for large q Newton's steps alone would jump from end to end.
    """
    cdef double p = state[0], u = state[1], h = u + y * z, goal = q * p - y * z
    cdef double low = goal - q - 1, high = goal + 1   # a first step may end at the bound itself, give or take rounding
    cdef double enough = 0.1 * fabs(h), old = p
    cdef int _
    for _ in range(40):
        u -= h / (1 + q * p * (1 - p))
        if not low < u < high:
            u = 0.5 * (low + high)
        p = sigmoid(u)
        h = u + q * p - goal
        if fabs(h) <= enough:
            break
        if h > 0:
            high = u
        else:
            low = u
    state[0] = p
    state[1] = u
    return y * (p - old)


cdef inline double ascend(int loss, double y, double z, double q, double *state) noexcept nogil:
    """Row i's visit: writes its state, returns the change of a."""
    cdef double old = state[0], new
    if loss == LOG_LOSS:
        return ascend_logistic(y, z, q, state)
    if loss == SQUARED_ERROR:
        state[0] += (y - z - old) / (1 + q)
        return state[0] - old
    if loss == SQUARED_HINGE:
        new = old + (2 * (1 - y * z) - old) / (1 + 2 * q)
    else:
        new = old + (1 - y * z) / max(q, 1e-300)
        new = min(new, 1.0)
    state[0] = max(new, 0.0)
    return y * (state[0] - old)


cdef inline double visit(Dual p, Py_ssize_t row, double z, double *b, double *moved) noexcept nogil:
    """A row's visit; returns the multiple of the row to add to w."""
    cdef double s = p.unit * (p.weights[row] if p.weights.shape[0] > 0 else 1.0)
    cdef double step = s * ascend(p.loss, p.y[row], z, s * (p.squares[row] + p.c2), &p.state[row, 0])
    b[0] += p.c2 * step
    moved[0] += (p.squares[row] + 1) * step * step
    return step


cdef inline void look_ahead(Dual p, Py_ssize_t row) noexcept nogil:
    prefetch(&p.y[row])
    prefetch(&p.squares[row])
    prefetch(&p.state[row, 0])


def dense(Dual p, const real[:, :] X, double[::1] w, const Py_ssize_t[::1] order, Py_ssize_t start, Py_ssize_t stop):
    """Visits the rows order[start:stop]; w's last element is b. Returns sum (||x_i||^2 + 1) step_i^2."""
    cdef Py_ssize_t i, row, ahead, d = w.shape[0] - 1, n = order.shape[0]
    cdef Py_ssize_t stride = X.strides[0] // <Py_ssize_t>sizeof(real)
    cdef const real *x = &X[0, 0]
    cdef double *b = &w[d]
    cdef double moved = 0
    with nogil:
        for i in range(start, stop):
            ahead = order[min(i + AHEAD, n - 1)]
            look_ahead(p, ahead)
            prefetch_row(x + ahead * stride, d)
            row = order[i]
            axpy(visit(p, row, b[0] + dot(x + row * stride, &w[0], d), b, &moved), x + row * stride, &w[0], d)
    return moved


def sparse(Dual p, const real[::1] values, const index[::1] columns, const index[::1] indptr, double[::1] w,
           const Py_ssize_t[::1] order, Py_ssize_t start, Py_ssize_t stop, bint checks=False):
    """`dense` on CSR rows that name no column twice.

    If it `checks` them, each row's columns just before they are followed, it ends at the first that do not rise or that
    are out of range, and returns -1.
    """
    cdef Py_ssize_t i, row, k, m, n = order.shape[0]
    cdef const real *x = &values[0]
    cdef const index *j = &columns[0]
    cdef index highest = highest_of(<index>0, w.shape[0] - 1)
    cdef double *b = &w[w.shape[0] - 1]
    cdef double moved = 0
    with nogil:
        for i in range(start, stop):
            if i + FAR_AHEAD < n:
                look_ahead(p, order[i + FAR_AHEAD])
            prefetch_coming_row(&order[0], n, i, x, j, &indptr[0])
            row = order[i]
            k = indptr[row]
            m = indptr[row + 1] - k
            if checks and not rising(j + k, m, highest):
                moved = -1
                break
            sparse_axpy(visit(p, row, b[0] + sparse_dot(x + k, j + k, m, &w[0]), b, &moved), x + k, j + k, m, &w[0])
    return moved


cdef class Softmax:
    """`Dual` for the softmax of K classes.

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
        """As for `Dual`; y holds class numbers, and `room` (`room_for`) is written."""
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


cdef inline void visit_softmax(Softmax t, Py_ssize_t row, double *z, double *b, double *moved) noexcept nogil:
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


cdef inline void look_ahead_softmax(Softmax t, Py_ssize_t row) noexcept nogil:
    prefetch(&t.y[row])
    prefetch(&t.squares[row])
    prefetch_row(&t.state[row, 0], t.n_classes)


def dense_softmax(Softmax t, const real[:, :] X, double[::1] w, const Py_ssize_t[::1] order, Py_ssize_t start,
                  Py_ssize_t stop):
    """`dense` for the softmax; w is W row by row. Returns sum (||x_i||^2 + 1) ||step_i||^2."""
    cdef Py_ssize_t i, row, k, ahead, width = t.width, d = w.shape[0] // t.width - 1, n = order.shape[0]
    cdef Py_ssize_t stride = X.strides[0] // <Py_ssize_t>sizeof(real)
    cdef const real *x = &X[0, 0]
    cdef double *b = &w[d * width]
    cdef double *z = &t.room[0]
    cdef double moved = 0
    with nogil:
        for i in range(start, stop):
            ahead = order[min(i + AHEAD, n - 1)]
            look_ahead_softmax(t, ahead)
            prefetch_row(x + ahead * stride, d)
            row = order[i]
            for k in range(width):
                z[k] = b[k]
            outputs_dot(x + row * stride, &w[0], d, width, <double>1, z)
            visit_softmax(t, row, z, b, &moved)
            outputs_axpy(x + row * stride, &w[0], d, width, <double>1, z)
    return moved


def sparse_softmax(Softmax t, const real[::1] values, const index[::1] columns, const index[::1] indptr, double[::1] w,
                   const Py_ssize_t[::1] order, Py_ssize_t start, Py_ssize_t stop, bint checks=False):
    """`dense_softmax` on CSR rows that name no column twice; `checks` as in `sparse`."""
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
                look_ahead_softmax(t, order[i + FAR_AHEAD])
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
            visit_softmax(t, row, z, b, &moved)
            sparse_outputs_axpy(x + k, j + k, m, &w[0], width, <double>1, z)
    return moved


# --- what a measurement asks for --------------------------------------------------------------------------------------


cdef inline void conjugates(int loss, Py_ssize_t n, const double *y, double *p) noexcept nogil:
    """States become the losses' conjugates at -a."""
    cdef Py_ssize_t i
    cdef double q
    for i in range(n):
        if loss == LOG_LOSS:            # 0 log 0 is 0
            q = min(max(p[i], 0.0), 1.0)
            p[i] = q * log_normal(max(q, LEAST)) + (1 - q) * log_normal(max(1 - q, LEAST))
        elif loss == SQUARED_ERROR:
            p[i] = 0.5 * p[i] * p[i] - p[i] * y[i]
        elif loss == SQUARED_HINGE:
            p[i] = 0.25 * p[i] * p[i] - p[i]
        else:
            p[i] = -p[i]


def bound(Dual t, bint feasible):
    """(sum_i s_i conjugate_i, sum_i s_i |change of a_i| ||x_i||), of a or, if it is to be `feasible`, of one near it.

    An intercept without penalty wants ``sum_i s_i a_i = 0``: the squared error's a are shifted by the same, of other
    losses the a of the heavier sign become smaller, all in the same proportion.
    """
    cdef Py_ssize_t i = 0, j, b, n = t.y.shape[0]
    cdef double positive = 0, negative = 0, keep = 1, shift = 0, moved = 0, total = 0, a, change
    cdef bint squared = t.loss == SQUARED_ERROR, weighted = t.weights.shape[0] > 0
    cdef double values[TOGETHER]
    with nogil:
        if feasible:
            for i in range(n):
                a = t.state[i, 0] * (t.weights[i] if weighted else 1.0)
                if squared or t.y[i] > 0:
                    positive += a
                else:
                    negative += a
            if squared:
                shift = positive / n
            else:
                keep = min(positive, negative) / max(max(positive, negative), LEAST)
        i = 0
        while i < n:
            b = min(n - i, <Py_ssize_t>TOGETHER)
            for j in range(b):
                a = t.state[i + j, 0]
                change = shift if squared else ((1 - keep) * a if (t.y[i + j] > 0) == (positive > negative) else 0.0)
                values[j] = a - change
                moved += fabs(change) * sqrt(t.squares[i + j]) * (t.weights[i + j] if weighted else 1.0)
            conjugates(t.loss, b, &t.y[i], values)
            if weighted:
                for j in range(b):
                    values[j] *= t.weights[i + j]
            total += sum_of(values, b)
            i += b
    return total, moved


def masses(Softmax t, double[::1] sums):
    """sum_i s_i p_i is added to `sums`."""
    cdef Py_ssize_t i, k, K = t.n_classes
    cdef double s
    with nogil:
        for i in range(t.state.shape[0]):
            s = t.weights[i] if t.weights.shape[0] > 0 else 1.0
            for k in range(K):
                sums[k] += s * probability(t.state[i, k])


def bound_softmax(Softmax t, const double[::1] keep, const double[::1] share):
    """`bound`: each class keeps a part of its p_i, and the rest is shared out, row by row (nothing, if both are empty).
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
                sum_ += p[k] * log_normal(max(p[k], LEAST))
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
