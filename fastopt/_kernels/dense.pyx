"""Epochs on dense rows: batches through the stages predict -> slope -> scatter -> update.

The order of the rows and the learning rates are inputs. Plain SGD scatters straight into w, which is kept as
scale * v so that L2 costs nothing per coordinate. Nothing is allocated inside a loop.
"""
from libc.string cimport memset

from fastopt._kernels.plan cimport (Plan, begin_scores, intercept_gradient, plain_intercept, point, scalars, shrink,
                                    slopes, step_all)
from fastopt._kernels.portable cimport prefetch, real
from fastopt._kernels.row cimport AHEAD, axpy, dot, outputs_axpy, outputs_dot, prefetch_row
from fastopt._kernels.rule cimport MAX_SLOTS, SGD


def epoch(Plan plan, const real[:, :] X, real[:, ::1] params, real[:, ::1] z, Py_ssize_t start, Py_ssize_t stop):
    """Steps start .. stop - 1 of the epoch on dense rows (contiguous each, at any distance)."""
    cdef Py_ssize_t step, lo, b, i, d = plan.n_features, K = plan.n_outputs, n = plan.order.shape[0]
    cdef Py_ssize_t stride = X.strides[0] // <Py_ssize_t>sizeof(real), ahead
    cdef real *p[MAX_SLOTS + 1]
    cdef const real *x0 = &X[0, 0]
    cdef const real *x
    cdef real *g = &params[params.shape[0] - 1, 0]
    cdef real *w
    cdef double lr
    cdef bint plain = plan.rule == SGD and not plan.eager
    point(plan, params, p)
    w = p[0]
    with nogil:
        for step in range(start, stop):
            lo = step * plan.batch_size
            b = min(plan.batch_size, n - lo)
            for i in range(b):
                ahead = plan.order[min(lo + i + AHEAD, n - 1)]
                prefetch(&plan.y[ahead * plan.n_targets])
                prefetch_row(x0 + ahead * stride, d)
                x = x0 + plan.order[lo + i] * stride
                begin_scores(plan, w, &z[i, 0])
                if K == 1:
                    z[i, 0] += <real>plan.scale * dot(x, w, d)
                else:
                    outputs_dot(x, w, d, K, <real>plan.scale, &z[i, 0])
            slopes(plan, lo, b, &z[0, 0])
            if plain:
                lr = scalars(plan, step)[1]
                shrink(plan, scalars(plan, step)[0] - lr * plan.alpha, w)
                for i in range(b):
                    x = x0 + plan.order[lo + i] * stride
                    if K == 1:
                        axpy(<real>(-lr / plan.scale) * z[i, 0], x, w, d)
                    else:
                        outputs_axpy(<real>(-lr / plan.scale), &z[i, 0], x, w, d, K)
                plain_intercept(plan, b, &z[0, 0], w, <real>lr)
            else:
                memset(g, 0, d * K * sizeof(real))
                for i in range(b):
                    x = x0 + plan.order[lo + i] * stride
                    if K == 1:
                        axpy(z[i, 0], x, g, d)
                    else:
                        outputs_axpy(<real>1, &z[i, 0], x, g, d, K)
                intercept_gradient(plan, b, &z[0, 0], g)
                step_all(plan, step, p, g, params)
