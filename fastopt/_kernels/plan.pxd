"""The stages of a batch that dense and CSR epochs share, over what they need beside X and the parameters."""
from libc.stdint cimport int32_t

from fastopt._kernels.loss cimport MULTINOMIAL, slope_of, softmax
from fastopt._kernels.portable cimport real
from fastopt._kernels.rule cimport MAX_SLOTS
from fastopt._kernels.update cimport update_all


cdef class Plan:
    cdef public int loss, rule
    cdef public double loss_parameter, alpha, scale
    cdef public Py_ssize_t batch_size, n_features, n_outputs, width
    cdef public bint intercept, lazy, distinct
    cdef const double[::1] y, weights, hyper, l2
    cdef const double[:, ::1] table
    cdef const Py_ssize_t[::1] order
    cdef int32_t[::1] stamp
    cdef Py_ssize_t[::1] touched


cdef inline void slopes(Plan plan, Py_ssize_t start, Py_ssize_t b, real *z) noexcept nogil:
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
    """The L2 part of a plain SGD step, w *= 1 - lr alpha, by the scale.

    Below 1e-4 the scale is multiplied out: v's entries stay within the range of float32.
    """
    cdef Py_ssize_t j
    cdef double factor = 1 - lr * plan.alpha
    if plan.alpha == 0:
        return
    if factor > 1e-4:
        plan.scale *= factor
        factor = 1
    if factor != 1 or plan.scale < 1e-4:
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
