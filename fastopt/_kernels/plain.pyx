"""Epochs of plain SGD steps with something around them: see plain.pxd, l1.pxd and places.pxd."""
from libc.math cimport fabs
from libc.stdint cimport int64_t
from libc.string cimport memset

from fastopt._kernels.block cimport (lone_outputs_axpy, lone_outputs_dot, sparse_outputs_axpy,
                                     sparse_outputs_dot)
from fastopt._kernels.l1 cimport record, settle_dense, settled_dot, threshold, wait_anew
from fastopt._kernels.loss cimport MULTINOMIAL
from fastopt._kernels.places cimport (LANES, TOUCHED, Asked, Places, asked_so_far, contract, first_mark, gather,
                                      in_places, multiplies_out, output_move, pay_each, pay_places, scatter, settle_all,
                                      settle_lone, settle_places, take)
from fastopt._kernels.plan cimport Plan, begin_scores, prefetch_coming, scalars, shrink
from fastopt._kernels.portable cimport index, prefetch, prefetch_l2, real
from fastopt._kernels.row cimport AHEAD, axpy, dot, prefetch_row, scaled, sparse_axpy, sparse_dot
from fastopt._kernels.sound cimport highest_of, rising, unsound_columns

HISTORY = COLUMNS

cdef enum:
    # Bytes of parameters that stay in the second-level cache beside what rows need: they are not asked for.
    NEAR = 524288


cdef class Extras:
    """What goes around the plain steps. Rows of params: `average_row` sums of iterates, `paid_row`; 0 where off."""

    def __init__(self, double l1, bint truncated, int passive, double bound, bint guarded, bint measures, bint calms,
                 average_row, paid_row, const double[::1] norms, sums, seen, joined, mark, touched, moves):
        self.l1, self.truncated, self.guarded, self.measures, self.calms = l1, truncated, guarded, measures, calms
        self.passive, self.bound, self.norms = passive, bound, norms
        self.average_row, self.paid_row = average_row, paid_row
        self.sums, self.seen, self.joined = sums, seen, joined
        self.mark, self.touched, self.moves = mark, touched, moves

    def begin(self, history, double owed, first_averaged):
        """New epochs, averaged from the step of this number on; `wait_anew` opens each."""
        self.history, self.owed, self.first_averaged = history, owed, first_averaged
        self.mark[:] = 0


def dense_epoch(Plan plan, Extras e, const real[:, :] X, real[:, ::1] params, real[:, ::1] z, Py_ssize_t start,
                Py_ssize_t stop):
    """Steps start .. stop - 1 of the epoch on dense rows."""
    with nogil:
        dense_steps(plan, e, X, params, z, start, stop)


def dense_epochs(Plan plan, Extras e, const real[:, :] X, real[:, ::1] params, real[:, ::1] z,
                 double[:, :, ::1] sums, Py_ssize_t n_steps):
    """Whole epochs of so many steps on dense rows, as many as `sums` has places for; the order is that of all of them.

    Each epoch's sums of losses and penalties go into `sums`. Returns how many epochs there were: the first that ends
    not finite is the last.
    """
    cdef Py_ssize_t k = 0
    cdef bint finite = True
    with nogil:
        while k < sums.shape[0] and finite:
            open_epoch(plan, e, k * n_steps, params)
            dense_steps(plan, e, X, params, z, k * n_steps, (k + 1) * n_steps)
            finite = close_epoch(plan, e, (k + 1) * n_steps, params, sums[k])
            k += 1
    return k


cdef void dense_steps(Plan plan, Extras e, const real[:, :] X, real[:, ::1] params, real[:, ::1] z, Py_ssize_t start,
                      Py_ssize_t stop) noexcept nogil:
    cdef Py_ssize_t step, lo, b, i, d = plan.n_features, K = plan.n_outputs, n = plan.order.shape[0]
    cdef Py_ssize_t stride = X.strides[0] // <Py_ssize_t>sizeof(real)
    cdef const real *x0 = &X[0, 0]
    cdef const real *x
    cdef real *w = &params[0, 0]
    cdef double lr
    if alone(plan, e):
        dense_lone(plan, e, x0, stride, w, start, stop)
        return
    for step in range(start, stop):
        lo = step * plan.batch_size
        b = min(plan.batch_size, n - lo)
        for i in range(b):
            prefetch_row(x0 + plan.order[min(lo + i + AHEAD, n - 1)] * stride, d)
            x = x0 + plan.order[lo + i] * stride
            begin_scores(plan, w, &z[i, 0])
            if K == 1:
                z[i, 0] += <real>plan.scale * dot(x, w, d)
            else:
                lone_outputs_dot(x, w, d, K, <real>plan.scale, &z[i, 0])
        lr = begin_step(plan, e, step, lo, b, &z[0, 0], params)
        for i in range(b):
            x = x0 + plan.order[lo + i] * stride
            if K == 1:
                axpy(<real>(z[i, 0] / plan.scale), x, w, d)
            else:
                lone_outputs_axpy(x, w, d, K, <real>(1 / plan.scale), &z[i, 0])
        if follows(plan, e, b):
            follow(plan, e, &z[0, 0], dot(x, x, d) if plan.alpha != 0 else 0.0)
        elif e.measures:
            measure_norms(plan, e, b, &z[0, 0], w)
        move_intercept(plan, e, step, b, &z[0, 0], params)
        e.owed += lr * e.l1
        settle_dense(plan, e, lr * e.l1, step >= e.first_averaged, params)


def sparse_epoch(Plan plan, Extras e, const real[::1] values, const index[::1] columns, const index[::1] indptr,
                 real[:, ::1] params, real[:, ::1] z, Py_ssize_t start, Py_ssize_t stop):
    """Steps start .. stop - 1 of the epoch on CSR rows, at O(nonzeros)."""
    with nogil:
        sparse_steps(plan, e, values, columns, indptr, params, z, start, stop)


def sparse_epochs(Plan plan, Extras e, const real[::1] values, const index[::1] columns, const index[::1] indptr,
                  real[:, ::1] params, real[:, ::1] z, double[:, :, ::1] sums, Py_ssize_t n_steps):
    """`dense_epochs` on CSR rows."""
    cdef Py_ssize_t k = 0
    cdef bint finite = True
    with nogil:
        while k < sums.shape[0] and finite:
            open_epoch(plan, e, k * n_steps, params)
            sparse_steps(plan, e, values, columns, indptr, params, z, k * n_steps, (k + 1) * n_steps)
            settle_all(plan, e, (k + 1) * n_steps, params)
            finite = close_epoch(plan, e, (k + 1) * n_steps, params, sums[k])
            k += 1
    return k


cdef void sparse_steps(Plan plan, Extras e, const real[::1] values, const index[::1] columns, const index[::1] indptr,
                       real[:, ::1] params, real[:, ::1] z, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef Py_ssize_t step, lo, b, i, k, c, n, row, K = plan.n_outputs
    cdef const real *x = &values[0]
    cdef const index *j = &columns[0]
    cdef real *w = &params[0, 0]
    cdef double lr
    cdef bint waits = e.seen.shape[0] > 0, fused = waits and K == 1 and not e.measures
    if alone(plan, e):
        sparse_lone(plan, e, x, j, &indptr[0], w, start, stop, NULL)
        return
    if in_places(e):
        sparse_places(plan, e, x, j, &indptr[0], params, &z[0, 0], start, stop)
        return
    for step in range(start, stop):
        lo = step * plan.batch_size
        b = min(plan.batch_size, plan.order.shape[0] - lo)
        for i in range(b):
            look_ahead(plan, e, lo + i, x, j, &indptr[0], params)
            row = plan.order[lo + i]
            k = indptr[row]
            n = indptr[row + 1] - k
            if fused:
                begin_scores(plan, w, &z[i, 0])
                z[i, 0] += <real>plan.scale * settled_dot(e, x + k, j + k, n, w)
                continue
            if waits:
                for c in range(k, k + n):
                    threshold(plan, e, j[c], w)
            predict(plan, x + k, j + k, n, w, &z[i, 0])
        lr = begin_step(plan, e, step, lo, b, &z[0, 0], params)
        for i in range(b):
            row = plan.order[lo + i]
            k = indptr[row]
            n = indptr[row + 1] - k
            if e.scales > 0:        # the iterates so far are to be without this step
                sparse_outputs_axpy(x + k, j + k, n, &params[e.average_row, 0], K,
                                    <real>(-e.scales / plan.scale), &z[i, 0])
            if follows(plan, e, b):
                follow(plan, e, &z[0, 0], dot(x + k, x + k, n) if plan.alpha != 0 else 0.0)
            elif e.measures:
                measured_axpy(plan, e, &z[i, 0], x + k, j + k, n, w)
                continue
            add_row(plan, x + k, j + k, n, 1 / plan.scale, &z[i, 0], w)
        move_intercept(plan, e, step, b, &z[0, 0], params)
        if waits or e.average_row > 0:
            record(plan, e, step, lr)


cdef inline double begin_step(Plan plan, Extras e, Py_ssize_t step, Py_ssize_t lo, Py_ssize_t b, real *z,
                              real[:, ::1] params) noexcept nogil:
    """Raw predictions become what each row is multiplied by, and L2 acts; returns the learning rate."""
    cdef double lr = scalars(plan, step)[1]
    if follows(plan, e, b):
        keep_products(plan, e, &params[0, 0], z)
    measure_penalty(plan, e, b)
    coefficients(plan, e, lo, b, lr, z)
    contract(plan, e, step, lr, params)
    return lr


cdef void dense_lone(Plan plan, Extras e, const real *x0, Py_ssize_t stride, real *w, Py_ssize_t start,
                     Py_ssize_t stop) noexcept nogil:
    """`dense_epoch` of single rows: ||v||^2 changes by a (2 x'v + a x'x), of which x'v is known."""
    cdef Py_ssize_t step, row, d = plan.n_features, n = plan.order.shape[0]
    cdef const real *x
    cdef real a, product
    cdef Lone s
    lone_begin(e, &s)
    for step in range(start, stop):
        row = plan.order[min(step + AHEAD, n - 1)]
        prefetch_l2(&plan.y[row])
        prefetch_row(x0 + row * stride, d)
        x = x0 + plan.order[step] * stride
        product = dot(x, w, d)
        a = lone_step(plan, e, &s, step, &product, w)
        if a != 0:
            axpy(a, x, w, d)
            if plan.alpha != 0:
                s.squares += a * (2 * <double>product + a * <double>dot(x, x, d))
    lone_end(plan, e, &s)


cdef struct Check:
    bint rising                         # all rows' columns rise
    double rest                         # 0 unless a product was not finite


def checking_epoch(Plan plan, Extras e, const real[::1] values, const index[::1] columns, const index[::1] indptr,
                   real[:, ::1] params, Py_ssize_t start, Py_ssize_t stop):
    """`sparse_epoch` of `alone` steps on rows whose entries nobody has checked: (steps done, rising, finite).

    A row's columns are checked before they are followed: one that is out of range ends it short of `stop`. `rising` if
    all rows' columns do. A value that is not finite makes its row's product such, and so may others: `finite` is to be
    trusted, not its opposite.
    """
    cdef Check check
    cdef Py_ssize_t done = 0
    check.rising, check.rest = True, 0
    if alone(plan, e):
        with nogil:
            done = sparse_lone(plan, e, &values[0], &columns[0], &indptr[0], &params[0, 0], start, stop, &check) - start
    return done, check.rising, check.rest == 0


cdef Py_ssize_t sparse_lone(Plan plan, Extras e, const real *x, const index *j, const index *rows, real *w,
                            Py_ssize_t start, Py_ssize_t stop, Check *check) noexcept nogil:
    """`sparse_epoch` of single rows; one that names a column twice changes ||v||^2 by another amount.

    Where it stopped: at `stop`, or at the first row that fails its check.
    """
    cdef Py_ssize_t step, k, n
    cdef real a, product
    cdef bint checks = check != NULL, distinct = plan.distinct, all_rise = True
    cdef index highest = highest_of(<index>0, plan.n_features)
    cdef real rest = 0
    cdef Lone s
    lone_begin(e, &s)
    for step in range(start, stop):
        prefetch_coming(plan, step, x, j, rows)
        k = rows[plan.order[step]]
        n = rows[plan.order[step] + 1] - k
        if checks:
            distinct = rising(j + k, n, highest)
            if not distinct:
                all_rise = False
                if unsound_columns(j + k, n, highest):
                    stop = step
                    break
        product = sparse_dot(x + k, j + k, n, w)
        if checks:
            rest += 0 * product
        a = lone_step(plan, e, &s, step, &product, w)
        if a == 0:
            continue
        if plan.alpha != 0 and not distinct:
            s.squares += squared_axpy(a, x + k, j + k, n, w)
            continue
        sparse_axpy(a, x + k, j + k, n, w)
        if plan.alpha != 0:
            s.squares += a * (2 * <double>product + a * <double>dot(x + k, x + k, n))
    lone_end(plan, e, &s)
    if checks:
        check.rising &= all_rise
        check.rest += rest
    return stop


cdef inline void predict(Plan plan, const real *x, const index *columns, Py_ssize_t n, const real *w,
                         real *z) noexcept nogil:
    begin_scores(plan, w, z)
    if plan.n_outputs == 1:
        z[0] += <real>plan.scale * sparse_dot(x, columns, n, w)
    else:
        sparse_outputs_dot(x, columns, n, w, plan.n_outputs, <real>plan.scale, z)


cdef inline void add_row(Plan plan, const real *x, const index *columns, Py_ssize_t n, double rate, const real *z,
                         real *w) noexcept nogil:
    """w += rate z x."""
    if plan.n_outputs == 1:
        sparse_axpy(<real>(z[0] * rate), x, columns, n, w)
    else:
        sparse_outputs_axpy(x, columns, n, w, plan.n_outputs, <real>rate, z)


cdef void sparse_places(Plan plan, Extras e, const real *x, const index *columns, const index *rows,
                        real[:, ::1] params, real *z, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    """`sparse_epoch` with truncated L1, or with averages and L1."""
    cdef Py_ssize_t step, lo, b, i, first, n, c, k
    cdef double before, factor, lr
    cdef bint single = plan.batch_size == 1 and plan.distinct and plan.loss != MULTINOMIAL
    cdef Asked asked
    cdef Places p
    cdef Lone s
    lone_begin(e, &s)
    for k in range(TOUCHED):
        p.ones[k] = 1
    for step in range(start, stop):
        lo = step * plan.batch_size
        b = min(plan.batch_size, plan.order.shape[0] - lo)
        for i in range(lo, lo + b):
            look_ahead(plan, e, i, x, columns, rows, params)
        lr = scalars(plan, step)[1]
        factor = contraction(plan, e, step, lr)
        if multiplies_out(plan, factor):
            multiplied_step(plan, e, step, lo, b, factor, x, columns, rows, params, z)
            continue
        asked, before = asked_so_far(e), plan.scale
        if not single:
            batch_step(plan, e, &s, &p, &asked, step, lo, b, factor, x, columns, rows, params, z)
            continue
        first = rows[plan.order[step]]
        n = rows[plan.order[step] + 1] - first
        plan.scale *= factor
        record(plan, e, step, lr)
        if plan.n_outputs == 1:         # columns by themselves, not by a product
            lone_places(plan, e, &s, &p, &asked, step, 0, 1, before, x + first, columns + first, n, params)
        else:
            for c in range(plan.n_outputs):
                lone_places(plan, e, &s, &p, &asked, step, c, plan.n_outputs, before, x + first, columns + first, n,
                            params)
    add_losses(plan, e, &s)


cdef inline void lone_places(Plan plan, Extras e, Lone *s, Places *p, const Asked *asked, Py_ssize_t step,
                             Py_ssize_t c, Py_ssize_t K, double before, const real *x, const index *columns,
                             Py_ssize_t n, real[:, ::1] params) noexcept nogil:
    """A step of output c of K, of one row; scale and what L1 asks have been `before` and `asked`."""
    cdef Py_ssize_t i, j, k, m, padded = 0, pieces = (n + TOUCHED - 1) // TOUCHED
    cdef bint kept = pieces <= 1        # the row's columns are still at hand, and settled
    cdef double owed = e.owed if e.truncated else scalars(plan, step)[1] * e.l1
    cdef real a, product = 0
    cdef real *w = &params[0, 0]
    cdef real moves[TOUCHED]
    s.squares, s.sizes = e.sums[SQUARES, c], e.sums[SIZES, c]
    for i in range(pieces):
        k = i * TOUCHED
        m = min(n - k, <Py_ssize_t>TOUCHED)
        padded = gather(e, columns + k, m, c, K, w, p)
        settle_lone(e, s, asked, step, padded, p)
        product += <real>dot(x + k, p.v, m)
        if not kept:
            scatter(e, columns + k, m, c, K, p, w)
    a = <real>(output_move(plan, e, s, step, c, before, product, params) / plan.scale)
    for i in range(pieces):
        k = i * TOUCHED
        m = min(n - k, <Py_ssize_t>TOUCHED)
        if not kept:
            padded = gather(e, columns + k, m, c, K, w, p)
            settle_lone(e, s, asked, step, padded, p)
        if a != 0:
            scaled(a, x + k, moves, m)
            for j in range(m, padded):
                moves[j] = 0
            pay_each(e, s, asked, plan.scale, owed, padded, p, moves)
        scatter(e, columns + k, m, c, K, p, w)
    e.sums[SQUARES, c], e.sums[SIZES, c] = s.squares, s.sizes


cdef void batch_step(Plan plan, Extras e, Lone *s, Places *p, const Asked *asked, Py_ssize_t step, Py_ssize_t lo,
                     Py_ssize_t b, double factor, const real *x, const index *columns, const index *rows,
                     real[:, ::1] params, real *z) noexcept nogil:
    """A step of all outputs, of rows that may share columns, or name one twice."""
    cdef Py_ssize_t i, c, k, m, first, K = plan.n_outputs, n = take(plan, e, step, b, columns, rows)
    cdef double lr = scalars(plan, step)[1]
    cdef double owed, a
    cdef const int64_t *marks = &e.mark[0]
    cdef int64_t mark = first_mark(step)
    cdef double *moves = &e.moves[0]
    cdef real *w = &params[0, 0]
    for c in range(K):
        s.squares, s.sizes = e.sums[SQUARES, c], e.sums[SIZES, c]
        for i in range((n + TOUCHED - 1) // TOUCHED):
            k = i * TOUCHED
            settle_piece(e, s, asked, step, k, n, c, K, w, p)
            scatter(e, &e.touched[k], min(n - k, <Py_ssize_t>TOUCHED), c, K, p, w)
        e.sums[SQUARES, c], e.sums[SIZES, c] = s.squares, s.sizes
    score(plan, e, step, lo, b, x, columns, rows, w, z)
    plan.scale *= factor
    record(plan, e, step, lr)
    owed = e.owed if e.truncated else lr * e.l1
    move_intercept(plan, e, step, b, z, params)
    for c in range(K):
        memset(moves, 0, (n + LANES) * sizeof(double))
        for i in range(b):
            first = rows[plan.order[lo + i]]
            m = rows[plan.order[lo + i] + 1] - first
            a = z[i * K + c] / plan.scale
            for k in range(first, first + m):
                moves[marks[columns[k]] - mark] += a * x[k]
        s.squares, s.sizes = e.sums[SQUARES, c], e.sums[SIZES, c]
        for i in range((n + TOUCHED - 1) // TOUCHED):
            k = i * TOUCHED
            m = settle_piece(e, s, asked, step, k, n, c, K, w, p)
            pay_each(e, s, asked, plan.scale, owed, m, p, moves + k)
            scatter(e, &e.touched[k], min(n - k, <Py_ssize_t>TOUCHED), c, K, p, w)
        e.sums[SQUARES, c], e.sums[SIZES, c] = s.squares, s.sizes


cdef inline void score(Plan plan, Extras e, Py_ssize_t step, Py_ssize_t lo, Py_ssize_t b, const real *x,
                       const index *columns, const index *rows, const real *w, real *z) noexcept nogil:
    """What each row of a batch is multiplied by in the step."""
    cdef Py_ssize_t i, first, n
    for i in range(b):
        first = rows[plan.order[lo + i]]
        n = rows[plan.order[lo + i] + 1] - first
        predict(plan, x + first, columns + first, n, w, z + i * plan.n_outputs)
    measure_penalty(plan, e, b)
    coefficients(plan, e, lo, b, scalars(plan, step)[1], z)


cdef inline Py_ssize_t settle_piece(Extras e, Lone *s, const Asked *asked, Py_ssize_t step, Py_ssize_t k, Py_ssize_t n,
                                    Py_ssize_t c, Py_ssize_t K, const real *w, Places *p) noexcept nogil:
    """Output c of the batch's columns from the k-th on, as many as there are places, is settled, if it was not yet.
    Returns their number, up to a whole number of vectors."""
    cdef Py_ssize_t m = gather(e, &e.touched[k], min(n - k, <Py_ssize_t>TOUCHED), c, K, w, p)
    settle_lone(e, s, asked, step, m, p)
    return m


cdef void multiplied_step(Plan plan, Extras e, Py_ssize_t step, Py_ssize_t lo, Py_ssize_t b, double factor,
                          const real *x, const index *columns, const index *rows, real[:, ::1] params,
                          real *z) noexcept nogil:
    """A step that multiplies the scale out, of all columns."""
    cdef Py_ssize_t i, first, n, K = plan.n_outputs
    cdef double lr = scalars(plan, step)[1]
    cdef real *w = &params[0, 0]
    settle_places(plan, e, step, params)
    score(plan, e, step, lo, b, x, columns, rows, w, z)
    shrink(plan, factor, w)
    for i in range(b):
        first = rows[plan.order[lo + i]]
        n = rows[plan.order[lo + i] + 1] - first
        add_row(plan, x + first, columns + first, n, 1 / plan.scale, z + i * K, w)
    move_intercept(plan, e, step, b, z, params)
    record(plan, e, step, lr)
    pay_places(plan, e, lr, params)


def norms(Plan plan, Extras e, const real[:, ::1] params):
    """Each output's sums of squared and of absolute coefficients, into SQUARES and SIZES of its sums."""
    norms_of(plan, e, &params[0, 0])


cdef inline void norms_of(Plan plan, Extras e, const real *w) noexcept nogil:
    cdef Py_ssize_t j, c, K = plan.n_outputs
    e.sums[SQUARES:PRODUCT] = 0
    for j in range(plan.n_features):
        for c in range(K):
            e.sums[SQUARES, c] += <double>w[j * K + c] * w[j * K + c]
            e.sums[SIZES, c] += fabs(<double>w[j * K + c])


cdef inline void open_epoch(Plan plan, Extras e, Py_ssize_t step, real[:, ::1] params) noexcept nogil:
    """Before the step that an epoch begins with: its sums are zero, and the average becomes the iterates' sum."""
    cdef Py_ssize_t j
    wait_anew(e, step, params)
    e.sums[:SQUARES] = 0
    if not e.keeps_norms:
        norms_of(plan, e, &params[0, 0])
    if e.average_row > 0:
        for j in range((plan.n_features + plan.intercept) * plan.n_outputs):
            params[e.average_row, j] *= <real>max(0, step - e.first_averaged)


cdef inline bint close_epoch(Plan plan, Extras e, Py_ssize_t step, real[:, ::1] params,
                             double[:, ::1] sums) noexcept nogil:
    """After all steps before this one: the scale is multiplied out. Whether all is finite."""
    cdef Py_ssize_t c, j, size = plan.n_features * plan.n_outputs
    cdef double scale = plan.scale, rest = 0
    for c in range(plan.n_outputs):
        e.sums[SQUARES, c] *= scale * scale
        e.sums[SIZES, c] *= scale
        sums[LOSS, c], sums[PENALTY, c] = e.sums[LOSS, c], e.sums[PENALTY, c]
        rest += 0 * (sums[LOSS, c] + sums[PENALTY, c])
    if scale != 1:
        for j in range(size):
            params[0, j] = <real>(scale * params[0, j])
        plan.scale = 1
    size += plan.intercept * plan.n_outputs
    for j in range(size):
        rest += 0 * params[0, j]
    if e.average_row > 0:
        for j in range(size):
            params[e.average_row, j] /= <real>max(1, step - e.first_averaged)
    return rest == 0


def wait(Extras e, real[:, ::1] params):
    """The start of an epoch whose steps are counted from here on."""
    wait_anew(e, 0, params)


def finish(Plan plan, Extras e, real[:, ::1] params, Py_ssize_t steps):
    """The end of an epoch on CSR rows: every column is brought up to date."""
    with nogil:
        settle_all(plan, e, steps, params)


cdef inline void look_ahead(Plan plan, Extras e, Py_ssize_t i, const real *x, const index *columns, const index *rows,
                            real[:, ::1] params) noexcept nogil:
    cdef Py_ssize_t row, k
    prefetch_coming(plan, i, x, columns, rows)
    if plan.n_features * plan.n_outputs * <Py_ssize_t>sizeof(real) > NEAR and i + 2 < plan.order.shape[0]:
        row = plan.order[i + 2]
        for k in range(rows[row], rows[row + 1]):
            prefetch(&params[0, 0] + columns[k] * plan.n_outputs)
            if in_places(e):
                prefetch(&e.seen[columns[k] * plan.n_outputs])
                if plan.batch_size > 1:
                    prefetch(&e.mark[columns[k]])
                if e.average_row > 0:
                    prefetch(&e.joined[columns[k] * plan.n_outputs])
            elif e.seen.shape[0] > 0:
                prefetch(&e.seen[columns[k]])
            elif e.average_row > 0:
                prefetch(&params[e.average_row, 0] + columns[k] * plan.n_outputs)
