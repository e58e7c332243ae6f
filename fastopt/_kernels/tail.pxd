"""Idle steps of many coordinates at once.

Where a rule goes on moving without gradients (Adam and its kin), a coordinate that waits is kept at the point to which
it would move if no gradient ever came: w minus its tail, the sum of all steps to come (`settle`). `catch_up` adds the
tail as it is after the steps that it waited: of the learning rates only the current ones are needed, and no branch.
"""
from libc.math cimport INFINITY, log, sqrt
from libc.stdint cimport int32_t

from fastopt._kernels.exponential cimport exp
from fastopt._kernels.portable cimport real
from fastopt._kernels.rule cimport ADAM, ADAMAX, MAX_SLOTS, MOMENTUM, NADAM, NESTEROV, RMSPROP, WIDTH, second
from fastopt._kernels.update cimport idle_columns


cdef inline double first_tail(int kind, const double *hyper) noexcept nogil:
    """Steps of this epoch from which on tails are known; infinite for rules that have none."""
    if kind == ADAM and hyper[8] != 0:  # AMSGrad's are tabulated
        return -1
    return hyper[6] if kind == ADAM or kind == ADAMAX or kind == NADAM else INFINITY


cdef inline void settle(int kind, const double *hyper, const double *table, Py_ssize_t step, Py_ssize_t n,
                        real **p) noexcept nogil:
    """n coordinates that have just taken `step` steps begin to wait."""
    if first_tail(kind, hyper) <= step:
        add_tails(kind, hyper, table, step, -1, n, p)


cdef inline void catch_up(int kind, const double *hyper, const double *table, Py_ssize_t step, int32_t *first,
                          Py_ssize_t n, real **p) noexcept nogil:
    """n coordinates take their idle steps, those after first[j] and up to `step`."""
    cdef Py_ssize_t j, s
    cdef double early = first_tail(kind, hyper)
    cdef real *q[MAX_SLOTS + 1]
    if kind == MOMENTUM or kind == NESTEROV:
        turn(table, step, first, n, p)
        return
    if kind == RMSPROP and hyper[1] == 0:   # without momentum
        decay(p[1], hyper[0], step, first, n)
        if hyper[3] != 0:
            decay(p[3], hyper[0], step, first, n)
        shrink(hyper, table, step, first, n, p[0])
        return
    if early > step:
        idle_columns(kind, hyper, table, step, NULL, n, first, p)
        return
    if early > 0:
        for j in range(n):
            if first[j] < early:        # it began to wait before tails were known
                for s in range(MAX_SLOTS + 1):
                    q[s] = p[s] + j
                idle_columns(kind, hyper, table, step, NULL, 1, first + j, q)
                add_tails(kind, hyper, table, step, -1, 1, q)
    decay(p[1], hyper[0], step, first, n)
    decay(p[2], hyper[1], step, first, n)
    shrink(hyper, table, step, first, n, p[0])
    add_tails(kind, hyper, table, step, 1, n, p)


cdef inline void turn(const double *table, Py_ssize_t step, const int32_t *first, Py_ssize_t n,
                      real **p) noexcept nogil:
    """Momentum's w and u by the power of their matrix: row k of the table holds the k-th."""
    cdef Py_ssize_t j
    cdef const double *row
    cdef real *w = p[0]
    cdef real *u = p[1]
    cdef double wj, uj
    for j in range(n):
        row = table + WIDTH * (step - first[j])
        wj = w[j]
        uj = u[j]
        w[j] = <real>(row[2] * wj + row[3] * uj)
        u[j] = <real>(row[4] * wj + row[5] * uj)


cdef inline void decay(real *v, double factor, Py_ssize_t step, const int32_t *first, Py_ssize_t n) noexcept nogil:
    """v *= factor^k, k being the steps that each coordinate waited."""
    cdef real rate = <real>(log(factor) if factor > 0 else -1e4)
    cdef real least = exp(<real>-1e4)   # where exp ends: taken off, so that a long wait leaves 0 and nothing subnormal
    cdef int32_t now = <int32_t>step
    cdef Py_ssize_t j
    for j in range(n):
        v[j] *= exp(<real>(now - first[j]) * rate) - least


cdef inline void shrink(const double *hyper, const double *table, Py_ssize_t step, const int32_t *first, Py_ssize_t n,
                        real *w) noexcept nogil:
    """Decoupled decay of w, from the sums of its factors' logarithms."""
    cdef Py_ssize_t j
    if hyper[9] != 0:
        for j in range(n):
            w[j] *= exp(<real>(table[WIDTH * step + 7] - table[WIDTH * <Py_ssize_t>first[j] + 7]))


cdef inline void add_tails(int kind, const double *hyper, const double *table, Py_ssize_t step, real sign, Py_ssize_t n,
                           real **p) noexcept nogil:
    """w += sign * tail: sum_{i >= 1} beta_1^i gain_i m / (root_i + eps_i), by `tail` of rule.pxd."""
    cdef Py_ssize_t j
    cdef real *w = p[0]
    cdef const real *m = p[1]
    cdef const real *v = p[2]
    cdef const real *largest = p[3]
    cdef const double *q = second(hyper, table, step) if kind == NADAM else table + WIDTH * step + 2
    cdef real a1 = sign * <real>q[0], a2 = sign * <real>q[1], a3 = sign * <real>q[2]
    cdef real h1 = <real>hyper[3], h2 = <real>hyper[4], h3 = <real>hyper[5]
    cdef real e1 = <real>hyper[2], e2 = e1, e3 = e1
    if kind == NADAM:
        e1, e2, e3 = <real>q[3], <real>q[4], <real>q[5]
    if kind == ADAMAX:
        for j in range(n):
            w[j] += m[j] * quadrature(a1, a2, a3, h1, h2, h3, e1, e2, e3, v[j])
    elif kind == NADAM or hyper[8] == 0:
        for j in range(n):
            w[j] += m[j] * quadrature(a1, a2, a3, h1, h2, h3, e1, e2, e3, <real>sqrt(v[j]))
    else:                               # AMSGrad's root rests
        for j in range(n):
            w[j] += m[j] * a1 / (<real>sqrt(largest[j]) + e1)


cdef inline real quadrature(real a1, real a2, real a3, real h1, real h2, real h3, real e1, real e2, real e3,
                            real root) noexcept nogil:
    return a1 / (root * h1 + e1) + a2 / (root * h2 + e2) + a3 / (root * h3 + e3)
