"""Epochs: batches of rows through the stages predict -> slope -> scatter -> update, dense and CSR.

The order of the rows and the learning rates are inputs. Plain SGD scatters straight into w, which is kept as
scale * v so that L2 costs nothing per coordinate; the other rules on CSR bring a coordinate up to date when a batch
touches it, and `finish` brings all of them up to date when an epoch ends. Nothing is allocated inside a loop.
"""
from libc.stdint cimport int32_t
from libc.string cimport memset

from fastopt._kernels.loss cimport (HUBER, LOG_LOSS, MULTINOMIAL, SQUARED_ERROR, SQUARED_HINGE, slope_of,
                                    softmax)
from fastopt._kernels.portable cimport index, prefetch, real
from fastopt._kernels.row cimport (AHEAD, FAR_AHEAD, axpy, dot, outputs_axpy, outputs_dot, prefetch_row,
                                   prefetch_sparse_row, sparse_axpy, sparse_dot, sparse_outputs_axpy,
                                   sparse_outputs_dot)
from fastopt._kernels.rule cimport (ADAM, MAX_SLOTS, MOMENTUM, NESTEROV, SGD, WIDTH, Adam, Momentum, Nesterov,
                                    Rule, advance, idle, read)
from fastopt._kernels.update cimport update_all

LOSSES = {"log_loss": LOG_LOSS, "multinomial": MULTINOMIAL, "squared_error": SQUARED_ERROR,
          "squared_hinge": SQUARED_HINGE, "huber": HUBER}

# Below this the scale of w = scale * v is multiplied out: v's entries stay within the range of float32.
cdef double SMALLEST_SCALE = 1e-4


cdef class Plan:
    """What an epoch needs beside X and the parameters: who is minimised, in which order, with which steps."""
    cdef public int loss, rule
    cdef public double loss_parameter, alpha, scale
    cdef public Py_ssize_t batch_size, n_features, n_outputs
    cdef public bint intercept, lazy
    cdef const double[::1] y, weights, hyper, l2
    cdef const double[:, ::1] table
    cdef const Py_ssize_t[::1] order
    cdef int32_t[::1] stamp
    cdef Py_ssize_t[::1] touched

    def __init__(self, int loss, double loss_parameter, double alpha, const double[::1] y,
                 const double[::1] weights, n_features, n_outputs, bint intercept, batch_size, l2, stamp, touched):
        self.loss, self.loss_parameter, self.alpha = loss, loss_parameter, alpha
        self.y, self.weights, self.l2 = y, weights, l2
        self.n_features, self.n_outputs, self.intercept = n_features, n_outputs, intercept
        self.batch_size = batch_size
        self.stamp, self.touched = stamp, touched
        self.scale = 1.0

    def begin(self, const Py_ssize_t[::1] order, int rule, const double[::1] hyper, const double[:, ::1] table,
              bint lazy):
        """A new epoch: rows in this order, `table[1 + s]` holding the scalars of its step s."""
        self.order, self.rule, self.hyper, self.table, self.lazy = order, rule, hyper, table, lazy

    def reset(self):
        """Forgets an epoch that was left half-way: the parameters are to be put back by the caller."""
        self.scale = 1.0
        self.stamp[:] = 0


cdef void slopes(Plan plan, Py_ssize_t start, Py_ssize_t b, real *z) noexcept nogil:
    """Raw predictions become the weighted slopes of the batch's mean loss, in place."""
    cdef Py_ssize_t i, c, row, n_outputs = plan.n_outputs
    cdef double share
    for i in range(b):
        row = plan.order[start + i]
        share = 1.0 / b
        if plan.weights.shape[0] > 0:
            share *= plan.weights[row]
        if plan.loss == MULTINOMIAL:
            softmax(z + i * n_outputs, n_outputs, <Py_ssize_t>plan.y[row])
            for c in range(n_outputs):
                z[i * n_outputs + c] *= <real>share
        else:
            z[i] = <real>(share * slope_of(plan.loss, plan.loss_parameter, plan.y[row], z[i]))


cdef inline void point(real[:, ::1] params, real **p) noexcept nogil:
    """params holds w, the rule's slots and, last, the batch's gradient."""
    cdef Py_ssize_t s
    for s in range(MAX_SLOTS + 1):
        p[s] = &params[s, 0] if s < params.shape[0] - 1 else &params[0, 0]


cdef inline void shrink(Plan plan, double lr, real *w) noexcept nogil:
    """The L2 part of a plain SGD step, w *= 1 - lr alpha, by the scale."""
    cdef Py_ssize_t j
    cdef double factor = 1 - lr * plan.alpha
    if plan.alpha == 0:
        return
    if factor > SMALLEST_SCALE:
        plan.scale *= factor
        factor = 1
    if factor != 1 or plan.scale < SMALLEST_SCALE:
        factor *= plan.scale
        plan.scale = 1
        for j in range(plan.n_features * plan.n_outputs):
            w[j] = <real>(factor * w[j])


cdef inline void begin_scores(Plan plan, const real *w, real *z) noexcept nogil:
    """The intercepts (the parameters' last row), or zeros."""
    cdef Py_ssize_t c
    for c in range(plan.n_outputs):
        z[c] = w[plan.n_features * plan.n_outputs + c] if plan.intercept else <real>0


cdef inline void step_intercept(Plan plan, Py_ssize_t step, Py_ssize_t b, const real *z, real **p,
                                real *g) noexcept nogil:
    cdef Py_ssize_t i, c, s, first = plan.n_features * plan.n_outputs
    cdef real *q[MAX_SLOTS + 1]
    if not plan.intercept:
        return
    for c in range(plan.n_outputs):
        g[first + c] = 0
    for i in range(b):
        for c in range(plan.n_outputs):
            g[first + c] += z[i * plan.n_outputs + c]
    for s in range(MAX_SLOTS + 1):
        q[s] = p[s] + first
    update_all(plan.rule, &plan.hyper[0], &plan.table[step + 1, 0], q, g + first, 0, plan.n_outputs)


# ---------------------------------------------------------------------------------------------------- dense

def dense(Plan plan, const real[:, :] X, real[:, ::1] params, real[:, ::1] z, Py_ssize_t start, Py_ssize_t stop):
    """Steps start .. stop - 1 of the epoch on dense rows (contiguous each, at any distance)."""
    cdef Py_ssize_t step, lo, b, i, d = plan.n_features, K = plan.n_outputs, n = plan.order.shape[0]
    cdef Py_ssize_t stride = X.strides[0] // <Py_ssize_t>sizeof(real), ahead
    cdef real *p[MAX_SLOTS + 1]
    cdef const real *x0 = &X[0, 0]
    cdef const real *x
    cdef real *g = &params[params.shape[0] - 1, 0]
    cdef real *w
    cdef double lr
    point(params, p)
    w = p[0]
    with nogil:
        for step in range(start, stop):
            lo = step * plan.batch_size
            b = min(plan.batch_size, n - lo)
            for i in range(b):
                ahead = min(lo + i + AHEAD, n - 1)
                prefetch_row(x0 + plan.order[ahead] * stride, d)
                x = x0 + plan.order[lo + i] * stride
                begin_scores(plan, w, &z[i, 0])
                if K == 1:
                    z[i, 0] += <real>plan.scale * dot(x, w, d)
                else:
                    outputs_dot(x, w, d, K, <real>plan.scale, &z[i, 0])
            slopes(plan, lo, b, &z[0, 0])
            if plan.rule == SGD:
                lr = plan.table[step + 1, 0]
                shrink(plan, lr, w)
                for i in range(b):
                    x = x0 + plan.order[lo + i] * stride
                    if K == 1:
                        axpy(<real>(-lr / plan.scale) * z[i, 0], x, w, d)
                    else:
                        outputs_axpy(<real>(-lr / plan.scale), &z[i, 0], x, w, d, K)
            else:
                memset(g, 0, d * K * sizeof(real))
                for i in range(b):
                    x = x0 + plan.order[lo + i] * stride
                    if K == 1:
                        axpy(z[i, 0], x, g, d)
                    else:
                        outputs_axpy(<real>1, &z[i, 0], x, g, d, K)
                update_all(plan.rule, &plan.hyper[0], &plan.table[step + 1, 0], p, g, plan.alpha, d * K)
            step_intercept(plan, step, b, &z[0, 0], p, g)


# ------------------------------------------------------------------------------------------------------ CSR

def sparse(Plan plan, const real[::1] values, const index[::1] columns, const index[::1] indptr,
           real[:, ::1] params, real[:, ::1] z, Py_ssize_t start, Py_ssize_t stop):
    """Steps start .. stop - 1 of the epoch on CSR rows, at a cost of O(nonzeros) each."""
    cdef Py_ssize_t step, lo, b, i, k, row, n_touched, K = plan.n_outputs, n = plan.order.shape[0]
    cdef Py_ssize_t size = plan.n_features * K
    cdef real *p[MAX_SLOTS + 1]
    cdef const real *x0 = &values[0]
    cdef const index *j0 = &columns[0]
    cdef const index *rows = &indptr[0]
    cdef real *g = &params[params.shape[0] - 1, 0]
    cdef real *w
    cdef real rate
    cdef double lr
    cdef Adam adam
    cdef Momentum momentum
    cdef Nesterov nesterov
    point(params, p)
    w = p[0]
    with nogil:
        for step in range(start, stop):
            lo = step * plan.batch_size
            b = min(plan.batch_size, n - lo)
            n_touched = 0
            if plan.lazy:
                if plan.rule == ADAM:
                    n_touched = touch(adam, plan, step, lo, b, j0, rows, p)
                elif plan.rule == MOMENTUM:
                    n_touched = touch(momentum, plan, step, lo, b, j0, rows, p)
                elif plan.rule == NESTEROV:
                    n_touched = touch(nesterov, plan, step, lo, b, j0, rows, p)
            for i in range(b):
                look_ahead(plan, lo + i, n, x0, j0, rows)
                row = plan.order[lo + i]
                k = rows[row]
                begin_scores(plan, w, &z[i, 0])
                if K == 1:
                    z[i, 0] += <real>plan.scale * sparse_dot(x0 + k, j0 + k, rows[row + 1] - k, w)
                else:
                    sparse_outputs_dot(x0 + k, j0 + k, rows[row + 1] - k, w, K, <real>plan.scale, &z[i, 0])
            slopes(plan, lo, b, &z[0, 0])
            rate = 1
            if plan.rule == SGD:
                lr = plan.table[step + 1, 0]
                shrink(plan, lr, w)
                rate = <real>(-lr / plan.scale)
            elif not plan.lazy:
                memset(g, 0, size * sizeof(real))
            for i in range(b):
                row = plan.order[lo + i]
                k = rows[row]
                if K == 1:
                    sparse_axpy(rate * z[i, 0], x0 + k, j0 + k, rows[row + 1] - k, w if plan.rule == SGD else g)
                else:
                    sparse_outputs_axpy(rate, &z[i, 0], x0 + k, j0 + k, rows[row + 1] - k,
                                        w if plan.rule == SGD else g, K)
            if plan.rule == SGD:
                pass
            elif not plan.lazy:
                update_all(plan.rule, &plan.hyper[0], &plan.table[step + 1, 0], p, g, plan.alpha, size)
            elif plan.rule == ADAM:
                update_touched(adam, plan, step, n_touched, p, g)
            elif plan.rule == MOMENTUM:
                update_touched(momentum, plan, step, n_touched, p, g)
            elif plan.rule == NESTEROV:
                update_touched(nesterov, plan, step, n_touched, p, g)
            step_intercept(plan, step, b, &z[0, 0], p, g)


cdef inline void look_ahead(Plan plan, Py_ssize_t i, Py_ssize_t n, const real *x0, const index *j0,
                            const index *rows) noexcept nogil:
    cdef Py_ssize_t row
    if i + FAR_AHEAD < n:
        row = plan.order[i + FAR_AHEAD]
        prefetch(rows + row)
        prefetch(&plan.y[row])
    if i + AHEAD < n:
        row = plan.order[i + AHEAD]
        prefetch_sparse_row(x0 + rows[row], j0 + rows[row], rows[row + 1] - rows[row])


cdef inline Py_ssize_t touch(Rule tag, Plan plan, Py_ssize_t step, Py_ssize_t lo, Py_ssize_t b, const index *j0,
                             const index *rows, real **p) noexcept nogil:
    """Brings the batch's columns up to date and lists them, each once; returns how many they are."""
    cdef Py_ssize_t i, k, j, row, n_touched = 0
    for i in range(b):
        row = plan.order[lo + i]
        for k in range(rows[row], rows[row + 1]):
            j = j0[k]
            if plan.stamp[j] > step:    # an earlier row of this batch, or a duplicate entry
                continue
            catch_up(tag, plan, j, step, p)
            plan.stamp[j] = <int32_t>(step + 1)
            plan.touched[n_touched] = j
            n_touched += 1
    return n_touched


cdef inline void catch_up(Rule tag, Plan plan, Py_ssize_t j, Py_ssize_t step, real **p) noexcept nogil:
    """Column j takes the idle steps between its last one and `step`; stamps count steps taken in this epoch."""
    cdef Py_ssize_t c, first = j * plan.n_outputs
    for c in range(first, first + plan.n_outputs):
        idle(tag, &plan.hyper[0], &plan.table[0, 0], plan.stamp[j], step, p[0] + c, p[1] + c, p[2] + c, p[3] + c)


cdef inline void update_touched(Rule tag, Plan plan, Py_ssize_t step, Py_ssize_t n_touched, real **p,
                                real *g) noexcept nogil:
    cdef Py_ssize_t t, c, j
    cdef Rule r = read(tag, &plan.hyper[0], &plan.table[step + 1, 0])
    cdef real l2 = <real>plan.alpha
    for t in range(n_touched):
        j = plan.touched[t]
        if plan.l2.shape[0] > 0:
            l2 = <real>plan.l2[j]
        for c in range(j * plan.n_outputs, (j + 1) * plan.n_outputs):
            advance(r, p[0] + c, g[c] + l2 * p[0][c], p[1] + c, p[2] + c, p[3] + c)
            g[c] = 0


def finish(Plan plan, real[:, ::1] params, Py_ssize_t steps):
    """The epoch's end: every column takes its idle steps up to `steps`, and the scale is multiplied out."""
    cdef Py_ssize_t j
    cdef real *p[MAX_SLOTS + 1]
    cdef Adam adam
    cdef Momentum momentum
    cdef Nesterov nesterov
    point(params, p)
    with nogil:
        if plan.scale != 1:
            for j in range(plan.n_features * plan.n_outputs):
                p[0][j] = <real>(plan.scale * p[0][j])
            plan.scale = 1
        for j in range(plan.n_features if plan.lazy else 0):
            if plan.rule == ADAM:
                catch_up(adam, plan, j, steps, p)
            elif plan.rule == MOMENTUM:
                catch_up(momentum, plan, j, steps, p)
            elif plan.rule == NESTEROV:
                catch_up(nesterov, plan, j, steps, p)
            plan.stamp[j] = 0
