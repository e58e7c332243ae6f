"""Loops over coordinates for every rule, and the ladder from a rule's number to its loop (3 ns, once a batch).

`p` are the parameter rows: p[0] = w, p[1..3] = the rule's slots (unused ones alias w and are never touched).
"""
from libc.math cimport INFINITY, fabs, sqrt
from libc.stdint cimport int32_t, int64_t

from fastopt._kernels.portable cimport real
from fastopt._kernels.rule cimport (ADADELTA, ADAGRAD, ADAM, ADAMAX, FTRL, FTRL_POWER, LION, MOMENTUM, NADAM,
                                    NESTEROV, RMSPROP, SCHEDULE_FREE_SGD, SGD, Adadelta, Adagrad, Adam, Adamax, Ftrl,
                                    FtrlPower, Lion, Momentum, Nadam, Nesterov, Rmsprop, Rule, ScheduleFreeAdamw,
                                    ScheduleFreeSgd, Sgd, advance, idle, proximal, proximal_ahead, read,
                                    with_l1)


cdef inline void copy_slots(Rule r, const real *a, const real *b, real *to_a, real *to_b) noexcept nogil:
    """One coordinate's slots that the rule always has: not Rmsprop's b and c, nor Adam's c."""
    if Rule is not Sgd:
        to_a[0] = a[0]
    if (Rule is Adam or Rule is Nadam or Rule is Adamax or Rule is Adadelta or Rule is Ftrl or Rule is FtrlPower
            or Rule is ScheduleFreeAdamw):
        to_b[0] = b[0]


cdef inline void rule_all(Rule tag, const double *hyper, const double *row, real **p, const real *g,
                          double l2, double l1, double keep, Py_ssize_t n, const real *own) noexcept nogil:
    """One step of n coordinates with gradient g + l2 w, after w's decoupled decay by the factor `keep`; then L1, where
    there is `own` of own[j] times the strength for coordinates that will wait."""
    cdef Py_ssize_t j
    cdef Rule r = read(tag, hyper, row)
    cdef real *w = p[0]
    cdef real *a = p[1]
    cdef real *b = p[2]
    cdef real *c = p[3]
    cdef real *q
    cdef real gj, wj, aj = 0, bj = 0, decay = <real>(1 - keep)
    # A coordinate is read before any of it is written: where arrays begin at the same place of a page, as large ones of
    # NumPy do, a load waits for an earlier store to the same place of another array. Slots that only some settings have
    # stay where they are: conditional copies of them would keep the loop from being vectorised. Each product is added
    # in the statement that has it: apart (w * keep, and what follows) only some of the loop's ways fuse the two, and
    # bits of w depend on where its array begins.
    if l1 > 0:
        if Rule is Adam:
            if not r.amsgrad:
                r.amsgrad = False       # constant, so that the loop is free of c, which is w then: else no vectors
                rule_l1(r, p, g, <real>l2, <real>l1, decay, n, own)
                return
        elif Rule is Rmsprop:
            if not r.centered and r.mu == 0:
                r.centered, r.mu = False, 0
                rule_l1(r, p, g, <real>l2, <real>l1, decay, n, own)
                return
        rule_l1(r, p, g, <real>l2, <real>l1, decay, n, own)
        return
    for j in range(n):
        wj = w[j]
        copy_slots(r, &a[j], &b[j], &aj, &bj)
        if Rule is Rmsprop:
            q = &b[j]
        else:
            q = &bj
        gj = g[j] + <real>l2 * wj
        wj -= decay * wj
        advance(r, &wj, gj, &aj, q, &c[j])
        copy_slots(r, &aj, &bj, &a[j], &b[j])
        w[j] = wj


cdef inline void rule_l1(Rule r, real **p, const real *g, real l2, real l1, real decay, Py_ssize_t n,
                         const real *own) noexcept nogil:
    """`rule_all` with L1; w decays by the part `decay`."""
    cdef Py_ssize_t j
    cdef real *w = p[0]
    cdef real *a = p[1]
    cdef real *b = p[2]
    cdef real *c = p[3]
    cdef real *q
    cdef real gj, before, wj, aj = 0, bj = 0
    for j in range(n):
        before = w[j]
        copy_slots(r, &a[j], &b[j], &aj, &bj)
        if Rule is Rmsprop:
            q = &b[j]
        else:
            q = &bj
        gj = with_l1(r, l1, before, g[j] + l2 * before)
        wj = before - decay * before
        advance(r, &wj, gj, &aj, q, &c[j])
        if own != NULL:
            proximal_ahead(r, l1 * own[j], gj, before, &wj, &aj, q, &c[j])
        else:
            proximal(r, l1, gj, before, &wj, &aj, q, &c[j])
        copy_slots(r, &aj, &bj, &a[j], &b[j])
        w[j] = wj


cdef inline void update_all(int kind, const double *hyper, const double *row, real **p, const real *g,
                            double l2, double l1, double keep, Py_ssize_t n, const real *own) noexcept nogil:
    cdef Sgd sgd
    cdef Momentum momentum
    cdef Nesterov nesterov
    cdef Adagrad adagrad
    cdef Rmsprop rmsprop
    cdef Adam adam
    cdef Nadam nadam
    cdef Adamax adamax
    cdef Adadelta adadelta
    cdef Ftrl ftrl
    cdef FtrlPower ftrl_power
    cdef Lion lion
    cdef ScheduleFreeSgd schedule_free_sgd
    cdef ScheduleFreeAdamw schedule_free_adamw
    if kind == SGD:
        rule_all(sgd, hyper, row, p, g, l2, l1, keep, n, own)
    elif kind == MOMENTUM:
        rule_all(momentum, hyper, row, p, g, l2, l1, keep, n, own)
    elif kind == NESTEROV:
        rule_all(nesterov, hyper, row, p, g, l2, l1, keep, n, own)
    elif kind == ADAGRAD:
        rule_all(adagrad, hyper, row, p, g, l2, l1, keep, n, own)
    elif kind == RMSPROP:
        rule_all(rmsprop, hyper, row, p, g, l2, l1, keep, n, own)
    elif kind == ADAM:
        rule_all(adam, hyper, row, p, g, l2, l1, keep, n, own)
    elif kind == NADAM:
        rule_all(nadam, hyper, row, p, g, l2, l1, keep, n, own)
    elif kind == ADAMAX:
        rule_all(adamax, hyper, row, p, g, l2, l1, keep, n, own)
    elif kind == ADADELTA:
        rule_all(adadelta, hyper, row, p, g, l2, l1, keep, n, own)
    elif kind == FTRL:
        rule_all(ftrl, hyper, row, p, g, l2, l1, keep, n, own)
    elif kind == FTRL_POWER:
        rule_all(ftrl_power, hyper, row, p, g, l2, l1, keep, n, own)
    elif kind == LION:
        rule_all(lion, hyper, row, p, g, l2, l1, keep, n, own)
    elif kind == SCHEDULE_FREE_SGD:
        rule_all(schedule_free_sgd, hyper, row, p, g, l2, l1, keep, n, own)
    else:
        rule_all(schedule_free_adamw, hyper, row, p, g, l2, l1, keep, n, own)


cdef inline void idle_each(Rule tag, const double *hyper, const double *table, Py_ssize_t step, const int64_t *columns,
                           Py_ssize_t n, int32_t *stamp, real **p) noexcept nogil:
    cdef Py_ssize_t k, j
    for k in range(n):
        j = columns[k] if columns != NULL else k
        if stamp[j] < step:
            idle(tag, hyper, table, stamp[j], step, p[0] + j, p[1] + j, p[2] + j, p[3] + j)
            stamp[j] = <int32_t>step


cdef inline void idle_columns(int kind, const double *hyper, const double *table, Py_ssize_t step,
                              const int64_t *columns, Py_ssize_t n, int32_t *stamp, real **p) noexcept nogil:
    """The n columns (0 .. n - 1 where there is no list) take their idle steps up to `step`."""
    if (kind == SGD or kind == ADAGRAD) and hyper[9] == 0 and columns == NULL:
        return                          # they rest
    cdef Sgd sgd
    cdef Momentum momentum
    cdef Nesterov nesterov
    cdef Adagrad adagrad
    cdef Rmsprop rmsprop
    cdef Adam adam
    cdef Nadam nadam
    cdef Adamax adamax
    cdef Adadelta adadelta
    cdef Ftrl ftrl
    cdef FtrlPower ftrl_power
    cdef Lion lion
    cdef ScheduleFreeSgd schedule_free_sgd
    cdef ScheduleFreeAdamw schedule_free_adamw
    if kind == SGD:
        idle_each(sgd, hyper, table, step, columns, n, stamp, p)
    elif kind == MOMENTUM:
        idle_each(momentum, hyper, table, step, columns, n, stamp, p)
    elif kind == NESTEROV:
        idle_each(nesterov, hyper, table, step, columns, n, stamp, p)
    elif kind == ADAGRAD:
        idle_each(adagrad, hyper, table, step, columns, n, stamp, p)
    elif kind == RMSPROP:
        idle_each(rmsprop, hyper, table, step, columns, n, stamp, p)
    elif kind == ADAM:
        idle_each(adam, hyper, table, step, columns, n, stamp, p)
    elif kind == NADAM:
        idle_each(nadam, hyper, table, step, columns, n, stamp, p)
    elif kind == ADAMAX:
        idle_each(adamax, hyper, table, step, columns, n, stamp, p)
    elif kind == ADADELTA:
        idle_each(adadelta, hyper, table, step, columns, n, stamp, p)
    elif kind == FTRL:
        idle_each(ftrl, hyper, table, step, columns, n, stamp, p)
    elif kind == FTRL_POWER:
        idle_each(ftrl_power, hyper, table, step, columns, n, stamp, p)
    elif kind == LION:
        idle_each(lion, hyper, table, step, columns, n, stamp, p)
    elif kind == SCHEDULE_FREE_SGD:
        idle_each(schedule_free_sgd, hyper, table, step, columns, n, stamp, p)
    else:
        idle_each(schedule_free_adamw, hyper, table, step, columns, n, stamp, p)


cdef inline void clip_all(real *g, Py_ssize_t n, real *more, Py_ssize_t m, double clipnorm,
                          double clipvalue) noexcept nogil:
    """A gradient of n numbers and m more becomes the clipped one; infinite bounds are off."""
    cdef double norm
    cdef real factor
    if clipvalue < INFINITY:
        bound_each(g, n, <real>clipvalue)
        bound_each(more, m, <real>clipvalue)
    if clipnorm == INFINITY:
        return
    norm = norm_of(g, n, more, m)
    if norm > clipnorm:
        factor = <real>(clipnorm / norm)
        scale_each(g, n, factor)
        scale_each(more, m, factor)


cdef inline void bound_each(real *g, Py_ssize_t n, real bound) noexcept nogil:
    cdef Py_ssize_t j
    for j in range(n):
        g[j] = -bound if g[j] < -bound else (bound if g[j] > bound else g[j])


cdef inline void scale_each(real *g, Py_ssize_t n, real factor) noexcept nogil:
    cdef Py_ssize_t j
    for j in range(n):
        g[j] *= factor


cdef inline double norm_of(const real *g, Py_ssize_t n, const real *more, Py_ssize_t m) noexcept nogil:
    """The Euclidean norm of n numbers and m more; squares that overflow are taken of parts of the largest."""
    cdef double squares = squares_of(g, n, 1) + squares_of(more, m, 1), most = 0
    cdef Py_ssize_t j
    if squares < INFINITY:
        return sqrt(squares)
    for j in range(n):
        most = max(most, <double>fabs(g[j]))
    for j in range(m):
        most = max(most, <double>fabs(more[j]))
    return most * sqrt(squares_of(g, n, most) + squares_of(more, m, most))


cdef inline double squares_of(const real *g, Py_ssize_t n, double unit) noexcept nogil:
    cdef Py_ssize_t j
    cdef double total = 0
    for j in range(n):
        total += (g[j] / unit) * (g[j] / unit)
    return total


cdef inline void average_all(const real *w, real *ema, double momentum, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t j
    for j in range(n):
        ema[j] = <real>momentum * ema[j] + <real>(1 - momentum) * w[j]
