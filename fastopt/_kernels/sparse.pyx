"""Epochs on CSR rows: batches through the stages predict -> slope -> scatter -> update.

Three ways, one function each: plain SGD scatters straight into w = scale * v, at O(nonzeros); the other rules in lazy
steps bring a column up to date when a batch touches it, at O(nonzeros), and `finish` brings all of them up to date when
an epoch ends; in eager steps every column moves, which is cheaper where a batch touches most of them.
"""
from libc.stdint cimport int32_t
from libc.string cimport memset

from fastopt._kernels.plan cimport Plan, begin_scores, point, shrink, slopes, step_intercept
from fastopt._kernels.portable cimport index, prefetch, real
from fastopt._kernels.row cimport (AHEAD, FAR_AHEAD, prefetch_sparse_row, sparse_axpy, sparse_dot,
                                   sparse_outputs_axpy, sparse_outputs_dot)
from fastopt._kernels.rule cimport (ADAM, MAX_SLOTS, MOMENTUM, NESTEROV, SGD, Adam, Momentum, Nesterov, Rule,
                                    advance, idle, read)
from fastopt._kernels.update cimport update_all


def epoch(Plan plan, const real[::1] values, const index[::1] columns, const index[::1] indptr,
          real[:, ::1] params, real[:, ::1] z, Py_ssize_t start, Py_ssize_t stop):
    """Steps start .. stop - 1 of the epoch that `plan` has begun."""
    cdef real *p[MAX_SLOTS + 1]
    cdef real *g = &params[params.shape[0] - 1, 0]
    cdef const real *x = &values[0]
    cdef const index *j = &columns[0]
    cdef const index *rows = &indptr[0]
    cdef Adam adam
    cdef Momentum momentum
    cdef Nesterov nesterov
    point(params, p)
    with nogil:
        if plan.rule == SGD:
            plain_steps(plan, x, j, rows, p, g, &z[0, 0], start, stop)
        elif not plan.lazy:
            eager_steps(plan, x, j, rows, p, g, &z[0, 0], start, stop)
        elif plan.rule == ADAM:
            lazy_steps(adam, plan, x, j, rows, p, g, &z[0, 0], start, stop)
        elif plan.rule == MOMENTUM:
            lazy_steps(momentum, plan, x, j, rows, p, g, &z[0, 0], start, stop)
        elif plan.rule == NESTEROV:
            lazy_steps(nesterov, plan, x, j, rows, p, g, &z[0, 0], start, stop)


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
        if not plan.lazy:
            pass
        elif plan.rule == ADAM:
            finish_all(adam, plan, p, steps)
        elif plan.rule == MOMENTUM:
            finish_all(momentum, plan, p, steps)
        elif plan.rule == NESTEROV:
            finish_all(nesterov, plan, p, steps)


cdef void plain_steps(Plan plan, const real *x, const index *j, const index *rows, real **p, real *g, real *z,
                      Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef Py_ssize_t step, lo, b
    cdef double lr
    for step in range(start, stop):
        lo = step * plan.batch_size
        b = min(plan.batch_size, plan.order.shape[0] - lo)
        predict(plan, x, j, rows, p[0], z, lo, b)
        slopes(plan, lo, b, z)
        lr = plan.table[step + 1, 0]
        shrink(plan, lr, p[0])
        scatter(plan, x, j, rows, p[0], z, lo, b, <real>(-lr / plan.scale))
        step_intercept(plan, step, b, z, p, g)


cdef void eager_steps(Plan plan, const real *x, const index *j, const index *rows, real **p, real *g, real *z,
                      Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef Py_ssize_t step, lo, b, size = plan.n_features * plan.n_outputs
    for step in range(start, stop):
        lo = step * plan.batch_size
        b = min(plan.batch_size, plan.order.shape[0] - lo)
        predict(plan, x, j, rows, p[0], z, lo, b)
        slopes(plan, lo, b, z)
        memset(g, 0, size * sizeof(real))
        scatter(plan, x, j, rows, g, z, lo, b, <real>1)
        update_all(plan.rule, &plan.hyper[0], &plan.table[step + 1, 0], p, g, plan.alpha, size)
        step_intercept(plan, step, b, z, p, g)


cdef void lazy_steps(Rule tag, Plan plan, const real *x, const index *j, const index *rows, real **p, real *g,
                     real *z, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef Py_ssize_t step, lo, b, n_touched
    # A row that names no column twice needs no list of touched columns and no gradient array.
    cdef bint single = plan.batch_size == 1 and plan.distinct and plan.n_outputs == 1
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
            update_touched(tag, plan, step, n_touched, p, g)
        step_intercept(plan, step, b, z, p, g)


cdef inline void lazy_row(Rule tag, Plan plan, const real *x, const index *columns, const index *rows, real **p,
                          real *z, Py_ssize_t step) noexcept nogil:
    """All stages of a batch of one row whose columns differ."""
    cdef Py_ssize_t row = plan.order[step], k, j, first = rows[row], last = rows[row + 1]
    cdef const double *hyper = &plan.hyper[0]
    cdef const double *table = &plan.table[0, 0]
    cdef int32_t *stamp = &plan.stamp[0]
    cdef bint own_l2 = plan.l2.shape[0] > 0
    cdef real l2 = <real>plan.alpha
    cdef real *w = p[0]
    cdef real *a = p[1]
    cdef real *b = p[2]
    cdef real *c = p[3]
    cdef real score = 0
    cdef Rule r = read(tag, hyper, table + plan.width * (step + 1))
    look_ahead(plan, step, x, columns, rows)
    if step + 1 < plan.order.shape[0]:
        prefetch_columns(plan, plan.order[step + 1], columns, rows, p)
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
        advance(r, w + j, z[0] * x[k] + l2 * w[j], a + j, b + j, c + j)


cdef inline void prefetch_columns(Plan plan, Py_ssize_t row, const index *columns, const index *rows,
                                  real **p) noexcept nogil:
    """Asks for what the next row's columns will need."""
    cdef Py_ssize_t k, j
    for k in range(rows[row], rows[row + 1]):
        j = columns[k]
        prefetch(&plan.stamp[j])
        prefetch(p[0] + j)
        prefetch(p[1] + j)
        prefetch(p[2] + j)


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
        prefetch(&plan.y[row])
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
    cdef Rule r = read(tag, &plan.hyper[0], &plan.table[step + 1, 0])
    cdef real l2 = <real>plan.alpha
    for t in range(n_touched):
        j = plan.touched[t]
        if plan.l2.shape[0] > 0:
            l2 = <real>plan.l2[j]
        for c in range(j * plan.n_outputs, (j + 1) * plan.n_outputs):
            advance(r, p[0] + c, g[c] + l2 * p[0][c], p[1] + c, p[2] + c, p[3] + c)
            g[c] = 0


cdef void finish_all(Rule tag, Plan plan, real **p, Py_ssize_t steps) noexcept nogil:
    cdef Py_ssize_t j
    for j in range(plan.n_features):
        catch_up(tag, plan, j, steps, p)
        plan.stamp[j] = 0
