"""Dual coordinate descent on dense and CSR rows: each visit maximises the dual in one row's variable.

For ``F(w, b) = 1/n sum_i s_i loss_i(x_i.w + b) + l2/2 ||w||^2`` the dual variables a, one a row, stand for
``w = 1/(l2 n) sum_i s_i a_i x_i``, and ``a_i = -dloss_i(z_i)`` at the minimum. Row i's visit solves
``a_i = -dloss_i(z_i + q_i (a_i - old a_i))`` with ``q_i = s_i (||x_i||^2 + c2) / (l2 n)``. The intercept is one more
column here, whose value is sqrt(c2) in every row; the solver moves the point from which its size counts.

The order of the rows is an input. w is double whatever X is, so that it stays the sum that it stands for.
"""
from libc.float cimport DBL_MIN
from libc.math cimport fabs, sqrt

from fastopt._kernels.exponential cimport exp, log_normal
from fastopt._kernels.portable cimport index, prefetch, real
from fastopt._kernels.row cimport (AHEAD, FAR_AHEAD, axpy, dot, prefetch_coming_row, prefetch_row, sparse_axpy,
                                   sparse_dot)
from fastopt._kernels.sound cimport highest_of, rising
from fastopt._kernels.terms cimport sum_of

cdef enum:
    # Rows of a measurement whose conjugates are computed together.
    TOGETHER = 64

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


# --- what a measurement asks for --------------------------------------------------------------------------------------


cdef inline void conjugates(int loss, Py_ssize_t n, const double *y, double *p) noexcept nogil:
    """States become the losses' conjugates at -a."""
    cdef Py_ssize_t i
    cdef double q
    for i in range(n):
        if loss == LOG_LOSS:            # 0 log 0 is 0
            q = min(max(p[i], 0.0), 1.0)
            p[i] = q * log_normal(max(q, DBL_MIN)) + (1 - q) * log_normal(max(1 - q, DBL_MIN))
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
    cdef bint squared = t.loss == SQUARED_ERROR, weighted = t.weights.shape[0] > 0, up, heavier
    cdef double values[TOGETHER]
    cdef double moves[TOGETHER]
    with nogil:
        if feasible:
            for i in range(n):
                a = t.state[i, 0] * (t.weights[i] if weighted else 1.0)
                up = squared or t.y[i] > 0
                positive += a if up else 0.0
                negative += 0.0 if up else a
            if squared:
                shift = positive / n
            else:
                keep = min(positive, negative) / max(max(positive, negative), DBL_MIN)
        heavier = positive > negative
        i = 0
        while i < n:
            b = min(n - i, <Py_ssize_t>TOGETHER)
            for j in range(b):
                a = t.state[i + j, 0]
                change = shift if squared else ((1 - keep) * a if (t.y[i + j] > 0) == heavier else 0.0)
                values[j] = a - change
                moves[j] = fabs(change) * sqrt(t.squares[i + j])
            conjugates(t.loss, b, &t.y[i], values)
            if weighted:
                for j in range(b):
                    values[j] *= t.weights[i + j]
                    moves[j] *= t.weights[i + j]
            total += sum_of(values, b)
            moved += sum_of(moves, b)
            i += b
    return total, moved
