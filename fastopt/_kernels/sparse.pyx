"""Epochs on CSR rows: batches through the stages predict -> slope -> scatter -> update.

Three ways, one function each: plain SGD scatters straight into w = scale * v, at O(nonzeros); the other rules in lazy
steps bring a column up to date when a batch touches it, at O(nonzeros), and `finish` brings all of them up to date when
an epoch ends; in eager steps every column moves, which is cheaper where a batch touches most of them.
"""
from libc.math cimport INFINITY, sqrt
from libc.stdint cimport int32_t
from libc.string cimport memset

from fastopt._kernels.plan cimport (Plan, begin_scores, intercept_gradient, plain_intercept, point, scalars, shrink,
                                    slopes, step_all, step_intercept)
from fastopt._kernels.portable cimport index, prefetch, real
from fastopt._kernels.row cimport (AHEAD, FAR_AHEAD, prefetch_sparse_row, sparse_axpy, sparse_dot,
                                   sparse_outputs_axpy, sparse_outputs_dot)
from fastopt._kernels.rule cimport (ADADELTA, ADAGRAD, ADAM, ADAMAX, FTRL, FTRL_POWER, LION, MAX_SLOTS, MOMENTUM,
                                    NADAM, NESTEROV, RMSPROP, SCHEDULE_FREE_SGD, SGD, WIDTH, Adadelta, Adagrad, Adam,
                                    Adamax, Ftrl, FtrlPower, Lion, Momentum, Nadam, Nesterov, Rmsprop,
                                    ScheduleFreeAdamw, ScheduleFreeSgd, Sgd, Rule, advance, idle, read)
from fastopt._kernels.update cimport clip_all, idle_columns


def epoch(Plan plan, const real[::1] values, const index[::1] columns, const index[::1] indptr,
          real[:, ::1] params, real[:, ::1] z, Py_ssize_t start, Py_ssize_t stop):
    """Steps start .. stop - 1 of the epoch that `plan` has begun."""
    cdef real *p[MAX_SLOTS + 1]
    cdef real *g = &params[params.shape[0] - 1, 0]
    cdef const real *x = &values[0]
    cdef const index *j = &columns[0]
    cdef const index *rows = &indptr[0]
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
    point(plan, params, p)
    with nogil:
        if not plan.lazy:
            if plan.rule == SGD and not plan.eager:
                plain_steps(plan, x, j, rows, p, &z[0, 0], start, stop)
            else:
                eager_steps(plan, x, j, rows, p, g, &z[0, 0], params, start, stop)
        elif plan.rule == SGD:
            lazy_steps(sgd, plan, x, j, rows, p, g, &z[0, 0], start, stop)
        elif plan.rule == MOMENTUM:
            lazy_steps(momentum, plan, x, j, rows, p, g, &z[0, 0], start, stop)
        elif plan.rule == NESTEROV:
            lazy_steps(nesterov, plan, x, j, rows, p, g, &z[0, 0], start, stop)
        elif plan.rule == ADAGRAD:
            lazy_steps(adagrad, plan, x, j, rows, p, g, &z[0, 0], start, stop)
        elif plan.rule == RMSPROP:
            lazy_steps(rmsprop, plan, x, j, rows, p, g, &z[0, 0], start, stop)
        elif plan.rule == ADAM:
            lazy_steps(adam, plan, x, j, rows, p, g, &z[0, 0], start, stop)
        elif plan.rule == NADAM:
            lazy_steps(nadam, plan, x, j, rows, p, g, &z[0, 0], start, stop)
        elif plan.rule == ADAMAX:
            lazy_steps(adamax, plan, x, j, rows, p, g, &z[0, 0], start, stop)
        elif plan.rule == ADADELTA:
            lazy_steps(adadelta, plan, x, j, rows, p, g, &z[0, 0], start, stop)
        elif plan.rule == FTRL:
            lazy_steps(ftrl, plan, x, j, rows, p, g, &z[0, 0], start, stop)
        elif plan.rule == FTRL_POWER:
            lazy_steps(ftrl_power, plan, x, j, rows, p, g, &z[0, 0], start, stop)
        elif plan.rule == LION:
            lazy_steps(lion, plan, x, j, rows, p, g, &z[0, 0], start, stop)
        elif plan.rule == SCHEDULE_FREE_SGD:
            lazy_steps(schedule_free_sgd, plan, x, j, rows, p, g, &z[0, 0], start, stop)
        else:
            lazy_steps(schedule_free_adamw, plan, x, j, rows, p, g, &z[0, 0], start, stop)


def finish(Plan plan, real[:, ::1] params, Py_ssize_t steps):
    """The epoch's end: every column takes its idle steps up to `steps`, and the scale is multiplied out."""
    cdef Py_ssize_t j, c, K = plan.n_outputs
    cdef real *p[MAX_SLOTS + 1]
    cdef real *q[MAX_SLOTS + 1]
    cdef int32_t stamp
    point(plan, params, p)
    with nogil:
        if plan.scale != 1:
            for j in range(plan.n_features * K):
                p[0][j] = <real>(plan.scale * p[0][j])
            plan.scale = 1
        if plan.lazy and K == 1:
            idle_columns(plan.rule, &plan.hyper[0], &plan.table[0, 0], steps, NULL, plan.n_features, &plan.stamp[0], p)
        elif plan.lazy:
            for j in range(plan.n_features * K):
                stamp = plan.stamp[j // K]
                for c in range(MAX_SLOTS + 1):
                    q[c] = p[c] + j
                idle_columns(plan.rule, &plan.hyper[0], &plan.table[0, 0], steps, NULL, 1, &stamp, q)
        if plan.lazy:
            memset(&plan.stamp[0], 0, plan.n_features * sizeof(int32_t))


cdef void plain_steps(Plan plan, const real *x, const index *j, const index *rows, real **p, real *z,
                      Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef Py_ssize_t step, lo, b
    cdef double lr
    for step in range(start, stop):
        lo = step * plan.batch_size
        b = min(plan.batch_size, plan.order.shape[0] - lo)
        predict(plan, x, j, rows, p[0], z, lo, b)
        slopes(plan, lo, b, z)
        lr = scalars(plan, step)[1]
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
        slopes(plan, lo, b, z)
        memset(g, 0, size * sizeof(real))
        scatter(plan, x, j, rows, g, z, lo, b, <real>1)
        intercept_gradient(plan, b, z, g)
        step_all(plan, step, p, g, params)


cdef void lazy_steps(Rule tag, Plan plan, const real *x, const index *j, const index *rows, real **p, real *g,
                     real *z, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef Py_ssize_t step, lo, b, n_touched
    # A row that names no column twice needs no list of touched columns and no gradient array.
    cdef bint single = plan.batch_size == 1 and plan.distinct and plan.n_outputs == 1 and not plan.clips
    for step in range(start, stop):
        lo = step * plan.batch_size
        b = min(plan.batch_size, plan.order.shape[0] - lo)
        if single:
            lazy_row(tag, plan, x, j, rows, p, z, step)
        else:
            n_touched = touch(tag, plan, step, lo, b, j, rows, p)
            predict(plan, x, j, rows, p[0], z, lo, b)
            slopes(plan, lo, b, z)
            scatter(plan, x, j, rows, g, z, lo, b, <real>1)
        intercept_gradient(plan, b, z, g)
        if not single:
            if plan.clips:
                clip_touched(plan, n_touched, g)
            update_touched(tag, plan, step, n_touched, p, g)
        step_intercept(plan, step, p, g)


cdef inline void lazy_row(Rule tag, Plan plan, const real *x, const index *columns, const index *rows, real **p,
                          real *z, Py_ssize_t step) noexcept nogil:
    """All stages of a batch of one row whose columns differ."""
    cdef Py_ssize_t row = plan.order[step], k, j, first = rows[row], last = rows[row + 1]
    cdef const double *hyper = &plan.hyper[0]
    cdef const double *table = &plan.table[0, 0]
    cdef int32_t *stamp = &plan.stamp[0]
    cdef bint own_l2 = plan.l2.shape[0] > 0
    cdef real l2 = <real>plan.alpha, keep = <real>scalars(plan, step)[0]
    cdef real *w = p[0]
    cdef real *a = p[1]
    cdef real *b = p[2]
    cdef real *c = p[3]
    cdef real score = 0
    cdef Rule r = read(tag, hyper, scalars(plan, step))
    look_ahead(plan, step, x, columns, rows)
    if step + 2 < plan.order.shape[0]:
        prefetch_columns(plan, plan.order[step + 2], columns, rows, p)
        prefetch_tables(plan, plan.order[step + 1], columns, rows, table)
    for k in range(first, last):
        j = columns[k]
        idle(tag, hyper, table, stamp[j], step, w + j, a + j, b + j, c + j)
        stamp[j] = <int32_t>(step + 1)
        score += x[k] * w[j]
    begin_scores(plan, w, z)
    z[0] += score
    slopes(plan, step, 1, z)
    for k in range(first, last):
        j = columns[k]
        if own_l2:
            l2 = <real>plan.l2[j]
        score = z[0] * x[k] + l2 * w[j]
        w[j] *= keep
        advance(r, w + j, score, a + j, b + j, c + j)


cdef inline void prefetch_columns(Plan plan, Py_ssize_t row, const index *columns, const index *rows,
                                  real **p) noexcept nogil:
    """Asks for what the columns of the row after the next will need."""
    cdef Py_ssize_t k, j
    cdef bint own_l2 = plan.l2.shape[0] > 0
    for k in range(rows[row], rows[row + 1]):
        j = columns[k]
        prefetch(&plan.stamp[j])
        prefetch(p[0] + j)
        prefetch(p[1] + j)
        prefetch(p[2] + j)
        if own_l2:
            prefetch(&plan.l2[j])


cdef inline void prefetch_tables(Plan plan, Py_ssize_t row, const index *columns, const index *rows,
                                 const double *table) noexcept nogil:
    """Asks for the table's rows at which the next row's columns last moved."""
    cdef Py_ssize_t k
    for k in range(rows[row], rows[row + 1]):
        prefetch(table + WIDTH * plan.stamp[columns[k]])


cdef inline void predict(Plan plan, const real *x, const index *j, const index *rows, const real *w, real *z,
                         Py_ssize_t lo, Py_ssize_t b) noexcept nogil:
    cdef Py_ssize_t i, k, n, K = plan.n_outputs
    cdef real scale = <real>plan.scale
    for i in range(lo, lo + b):
        look_ahead(plan, i, x, j, rows)
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
            sparse_outputs_axpy(rate, z, x + k, j + k, n, target, K)
        z += K


cdef inline void look_ahead(Plan plan, Py_ssize_t i, const real *x, const index *j,
                            const index *rows) noexcept nogil:
    cdef Py_ssize_t row
    if i + FAR_AHEAD < plan.order.shape[0]:
        row = plan.order[i + FAR_AHEAD]
        prefetch(rows + row)
        prefetch(&plan.y[row * plan.n_targets])
    if i + AHEAD < plan.order.shape[0]:
        row = plan.order[i + AHEAD]
        prefetch_sparse_row(x + rows[row], j + rows[row], rows[row + 1] - rows[row])


cdef inline Py_ssize_t touch(Rule tag, Plan plan, Py_ssize_t step, Py_ssize_t lo, Py_ssize_t b, const index *columns,
                             const index *rows, real **p) noexcept nogil:
    """Brings the batch's columns up to date and lists them, each once; returns how many they are."""
    cdef Py_ssize_t i, k, j, row, n_touched = 0
    for i in range(lo, lo + b):
        row = plan.order[i]
        for k in range(rows[row], rows[row + 1]):
            j = columns[k]
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
    """One step of the listed columns; their gradients are left zero for the next batch."""
    cdef Py_ssize_t t, c, j
    cdef Rule r = read(tag, &plan.hyper[0], scalars(plan, step))
    cdef real l2 = <real>plan.alpha, keep = <real>scalars(plan, step)[0], gradient
    for t in range(n_touched):
        j = plan.touched[t]
        if plan.l2.shape[0] > 0:
            l2 = <real>plan.l2[j]
        for c in range(j * plan.n_outputs, (j + 1) * plan.n_outputs):
            gradient = g[c] + l2 * p[0][c]
            p[0][c] *= keep
            advance(r, p[0] + c, gradient, p[1] + c, p[2] + c, p[3] + c)
            g[c] = 0


cdef inline void clip_touched(Plan plan, Py_ssize_t n_touched, real *g) noexcept nogil:
    """`clip_all` over the touched columns and the intercept: the others' gradients are zero (there is no L2)."""
    cdef Py_ssize_t t, c, K = plan.n_outputs
    cdef double squares = 0
    for t in range(n_touched + plan.intercept):
        c = (plan.touched[t] if t < n_touched else plan.n_features) * K
        clip_all(g + c, g + c, 0, 0, K, INFINITY, plan.clipvalue)
        squares += sum_of_squares(g + c, K)
    if sqrt(squares) > plan.clipnorm:
        for t in range(n_touched + plan.intercept):
            for c in range(K):
                g[(plan.touched[t] if t < n_touched else plan.n_features) * K + c] *= <real>(
                    plan.clipnorm / sqrt(squares))


cdef inline double sum_of_squares(const real *g, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t c
    cdef double total = 0
    for c in range(n):
        total += g[c] * g[c]
    return total
