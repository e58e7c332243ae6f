"""Epochs on CSR rows: batches through the stages predict -> slope -> scatter -> update.

Two ways, one function each: plain SGD scatters straight into w = scale * v, at O(nonzeros); in eager steps every column
moves, which is cheaper where a batch touches most of them. The third way is lazy.pyx.
"""
from libc.string cimport memset

from fastopt._kernels.block cimport sparse_outputs_axpy, sparse_outputs_dot
from fastopt._kernels.plan cimport (Plan, begin_scores, intercept_gradient, lone_slope, plain_intercept, point,
                                    prefetch_coming, scalars, shrink, slopes, step_all)
from fastopt._kernels.portable cimport index, real
from fastopt._kernels.row cimport sparse_axpy, sparse_dot
from fastopt._kernels.rule cimport MAX_SLOTS, SGD


def epoch(Plan plan, const real[::1] values, const index[::1] columns, const index[::1] indptr,
          real[:, ::1] params, real[:, ::1] z, Py_ssize_t start, Py_ssize_t stop):
    """Steps start .. stop - 1 of the epoch that `plan` has begun."""
    cdef real *p[MAX_SLOTS + 1]
    cdef real *g = &params[params.shape[0] - 1, 0]
    cdef const real *x = &values[0]
    cdef const index *j = &columns[0]
    cdef const index *rows = &indptr[0]
    point(plan, params, p)
    with nogil:
        if plan.rule == SGD and not plan.eager:
            plain_steps(plan, x, j, rows, p, &z[0, 0], start, stop)
        else:
            eager_steps(plan, x, j, rows, p, g, &z[0, 0], params, start, stop)


def finish(Plan plan, real[::1] w):
    """The epoch's end: the scale is multiplied out."""
    cdef Py_ssize_t j
    if plan.scale != 1:
        with nogil:
            for j in range(plan.n_features * plan.n_outputs):
                w[j] = <real>(plan.scale * w[j])
        plan.scale = 1


cdef void plain_steps(Plan plan, const real *x, const index *j, const index *rows, real **p, real *z,
                      Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef Py_ssize_t step, lo, b, k, n
    cdef double lr
    cdef real s
    for step in range(start, stop):
        lo = step * plan.batch_size
        b = min(plan.batch_size, plan.order.shape[0] - lo)
        lr = scalars(plan, step)[1]
        if b == 1 and plan.n_outputs == 1:
            prefetch_coming(plan, lo, x, j, rows)
            k = rows[plan.order[lo]]
            n = rows[plan.order[lo] + 1] - k
            begin_scores(plan, p[0], &s)
            s = <real>lone_slope(plan, plan.order[lo], s + <real>plan.scale * sparse_dot(x + k, j + k, n, p[0]))
            shrink(plan, scalars(plan, step)[0] - lr * plan.alpha, p[0])
            sparse_axpy(<real>(-lr / plan.scale) * s, x + k, j + k, n, p[0])
            plain_intercept(plan, 1, &s, p[0], <real>lr)
            continue
        predict(plan, x, j, rows, p[0], z, lo, b)
        slopes(plan, lo, b, b, z)
        shrink(plan, scalars(plan, step)[0] - lr * plan.alpha, p[0])
        scatter(plan, x, j, rows, p[0], z, lo, b, <real>(-lr / plan.scale))
        plain_intercept(plan, b, z, p[0], <real>lr)


cdef void eager_steps(Plan plan, const real *x, const index *j, const index *rows, real **p, real *g, real *z,
                      real[:, ::1] params, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef Py_ssize_t step, lo, b, size = plan.n_features * plan.n_outputs
    for step in range(start, stop):
        lo = step * plan.batch_size
        b = min(plan.batch_size, plan.order.shape[0] - lo)
        predict(plan, x, j, rows, p[0], z, lo, b)
        slopes(plan, lo, b, b, z)
        memset(g, 0, size * sizeof(real))
        scatter(plan, x, j, rows, g, z, lo, b, <real>1)
        intercept_gradient(plan, b, z, g)
        step_all(plan, step, p, g, params)


cdef inline void predict(Plan plan, const real *x, const index *j, const index *rows, const real *w, real *z,
                         Py_ssize_t lo, Py_ssize_t b) noexcept nogil:
    cdef Py_ssize_t i, k, n, K = plan.n_outputs
    cdef real scale = <real>plan.scale
    for i in range(lo, lo + b):
        prefetch_coming(plan, i, x, j, rows)
        k = rows[plan.order[i]]
        n = rows[plan.order[i] + 1] - k
        begin_scores(plan, w, z)
        if K == 1:
            z[0] += scale * sparse_dot(x + k, j + k, n, w)
        else:
            sparse_outputs_dot(x + k, j + k, n, w, K, scale, z)
        z += K


cdef inline void scatter(Plan plan, const real *x, const index *j, const index *rows, real *target, const real *z,
                         Py_ssize_t lo, Py_ssize_t b, real rate) noexcept nogil:
    """target += rate * sum over the batch of slope times row."""
    cdef Py_ssize_t i, k, n, K = plan.n_outputs
    for i in range(lo, lo + b):
        k = rows[plan.order[i]]
        n = rows[plan.order[i] + 1] - k
        if K == 1:
            sparse_axpy(rate * z[0], x + k, j + k, n, target)
        else:
            sparse_outputs_axpy(x + k, j + k, n, target, K, rate, z)
        z += K
