"""Truncated L1, and averages with L1, of columns that wait.

A column that is not zero has paid all that L1 had asked when it was last touched: `seen` has that in units of v, the
sum of lr l1 / scale. What it then loses while it waits is a difference of two such sums. One that is zero waits for
nothing, and `seen` has what it has paid, in units of w, which only truncated steps ask for. Only where L1 brings a
column to zero while it waits does the history tell when that was: for how much of w it took if the scale has changed,
and for averages.

|v| + seen stays the same while a column waits. With it the sum of a column's averaged iterates is

    joined + sign(v) ((|v| + seen) scales - products),

of which waiting moves but `scales` and `products`, and a touch `joined`, by what it changes of the rest. Outputs take
their steps one after the other, for they share nothing but the scale and what L1 asks.

A row that steps alone, of distinct columns, is worked on where its columns were gathered. Of a batch the columns,
each once, are settled before the raw predictions and pay after the step.
"""
from libc.math cimport copysign, fabs
from libc.stdint cimport int64_t

from fastopt._kernels.l1 cimport last_before, pay, threshold
from fastopt._kernels.plain cimport (ASKED, COLUMNS, OWED, PENALTY, PRODUCT, SCALE, SIZES, SQUARES, SUM, SUM_ASKED,
                                     Extras, Lone, aggression, bend, bounded_slope, calm, contraction, keep_loss)
from fastopt._kernels.plan cimport Plan, scalars, shrink
from fastopt._kernels.portable cimport index, real, wide
from fastopt._kernels.row cimport dot
from fastopt._kernels.rule cimport towards_zero

cdef enum:
    # Columns of a row that are worked on together, and the longest vector's.
    TOUCHED = 256
    LANES = 8


cdef struct Asked:                      # so far: of v, of w, and the sums of Extras
    double v, w, scales, products


cdef struct Places:                     # columns of a row side by side, so that loops over them vectorise
    double v[TOUCHED]
    double seen[TOUCHED]
    double joined[TOUCHED]
    double paid[TOUCHED]
    double left[TOUCHED]                # what waiting leaves of |v|: at most 0 where it brings v to zero
    double changes[TOUCHED]             # of v, and sums of before and after: their products are those of squares
    double sums[TOUCHED]
    double ones[TOUCHED]


cdef inline bint in_places(Extras e) noexcept nogil:
    """Whether columns wait for more than the L1 part of proximal steps."""
    return e.seen.shape[0] > 0 and (e.truncated or e.average_row > 0)


cdef inline Asked asked_so_far(Extras e) noexcept nogil:
    cdef Asked a
    a.v, a.w, a.scales, a.products = e.asked, e.owed, e.scales, e.products
    return a


cdef inline Py_ssize_t gather(Extras e, const index *columns, Py_ssize_t n, Py_ssize_t c, Py_ssize_t K, const real *w,
                              Places *p) noexcept nogil:
    """Output c of the row's columns, and zeros up to a whole number of vectors: how many."""
    cdef Py_ssize_t k
    cdef const double *seen = &e.seen[c]
    cdef const double *joined
    w += c
    for k in range(n):
        p.v[k] = w[columns[k] * K]
        p.seen[k] = seen[columns[k] * K]
    if e.average_row > 0:
        joined = &e.joined[c]
        for k in range(n):
            p.joined[k] = joined[columns[k] * K]
    while n % LANES:
        p.v[n] = p.seen[n] = p.joined[n] = 0
        n += 1
    return n


cdef inline void scatter(Extras e, const index *columns, Py_ssize_t n, Py_ssize_t c, Py_ssize_t K, Places *p,
                         real *w) noexcept nogil:
    """The columns go back. What a float's rounding takes from v stays in `seen`, as less that it still has to pay: of
    many small payments none is lost."""
    cdef Py_ssize_t k
    cdef double *seen = &e.seen[c]
    cdef double *joined
    cdef double full, kept, owed = e.owed
    if real is float:
        for k in range(n):
            full = p.v[k]
            kept = <real>full
            kept = p.seen[k] + (fabs(full) - fabs(kept)) if (kept != 0) | (full == 0) else copysign(owed, -full)
            p.seen[k] = kept
    w += c
    for k in range(n):
        w[columns[k] * K] = <real>p.v[k]
        seen[columns[k] * K] = p.seen[k]
    if e.average_row > 0:
        joined = &e.joined[c]
        for k in range(n):
            joined[columns[k] * K] = p.joined[k]


cdef inline double positive(double a) noexcept nogil:
    return 0.0 if a < 0 else a          # and NaN stays


cdef inline double iterates(double v, double seen, double scales, double products) noexcept nogil:
    """The sum of a column's averaged iterates, had it been like this, but for what it waited, from the first on."""
    cdef double total = (fabs(v) + seen) * scales - products
    return 0.0 if v == 0 else copysign(1.0, v) * total


cdef inline void join(double asked, double scales, double products, Py_ssize_t n, Places *p) noexcept nogil:
    """Columns, settled, leave the average; or join it, where the sums are negative."""
    cdef Py_ssize_t k
    for k in range(n):
        p.joined[k] += iterates(p.v[k], asked, scales, products)


cdef inline void settle_lone(Extras e, Lone *s, const Asked *asked, Py_ssize_t step, Py_ssize_t n,
                             Places *p) noexcept nogil:
    """Columns take the L1 part of the steps that they waited for, up to `step`: no branch but for those it brings to
    zero."""
    cdef Py_ssize_t i, k
    cdef double first, last, size, left, seen, asked_v = asked.v, asked_w = asked.w    # in registers
    cdef bint some
    for k in range(n):
        first = p.v[k]
        seen = p.seen[k]
        size = fabs(first)
        left = size - (asked_v - seen)
        left = 1 if size == 0 else left
        p.left[k] = left
        seen = seen if size == 0 else copysign(asked_w + min(left, 0.0), -first)
        last = copysign(0.0 if size == 0 else positive(left), first)
        p.paid[k] = seen
        p.seen[k] = seen if last == 0 else asked_v
        p.v[k] = last
        p.changes[k] = last - first
        p.sums[k] = last + first
    if e.history.shape[0] > 1:
        for i in range(n // LANES):
            some = False
            for k in range(LANES):
                some |= p.left[LANES * i + k] <= 0
            if some:
                for k in range(LANES * i, LANES * (i + 1)):
                    if p.left[k] <= 0:
                        became_zero(e, step, asked_v + p.left[k], &p.paid[k], &p.joined[k])
                        p.seen[k] = p.paid[k]
    for k in range(n):
        p.left[k] = fabs(p.changes[k])
    s.squares += dot(p.changes, p.sums, n)
    s.sizes -= dot(p.left, p.ones, n)


cdef inline void became_zero(Extras e, Py_ssize_t step, double asked, double *paid, double *joined) noexcept nogil:
    """What a column had paid of w when L1 had asked this much of v, and the sum of its iterates until then."""
    cdef const double *last = last_before(&e.history[e.settled, 0], &e.history[step, 0], asked)
    cdef double sign = copysign(1.0, paid[0])
    paid[0] = sign * (last[OWED] + (last + COLUMNS)[SCALE] * (asked - last[ASKED]))
    joined[0] -= sign * (asked * last[SUM] - last[SUM_ASKED])


cdef inline void pay_each(Extras e, Lone *s, const Asked *before, double scale, double owed, Py_ssize_t n, Places *p,
                          const wide *moves) noexcept nogil:
    """v += moves, then `pay` of each, without branches: L1 takes what w has not paid of `owed`, at most w. Proximal
    steps each owe their own L1, of which nothing is paid."""
    cdef Py_ssize_t k
    cdef double asked = e.asked, inverse = 1 / scale, moved, left, first, last
    if before.scales > 0:
        join(before.v, before.scales, before.products, n, p)
    if not e.truncated:
        for k in range(n):
            p.paid[k] = 0
    for k in range(n):
        first = p.v[k]
        moved = scale * (first + moves[k])
        left = positive(fabs(moved) - positive(owed + copysign(1.0, moved) * p.paid[k]))
        left = copysign(left, moved)
        last = left * inverse
        p.seen[k] = p.paid[k] + (left - moved) if last == 0 else asked
        p.v[k] = last
        p.changes[k] = last - first
        p.sums[k] = last + first
        p.left[k] = fabs(last) - fabs(first)
    if before.scales > 0:
        join(asked, -before.scales, -before.products, n, p)
    s.squares += dot(p.changes, p.sums, n)
    s.sizes += dot(p.left, p.ones, n)


cdef inline real output_move(Plan plan, Extras e, Lone *s, Py_ssize_t step, Py_ssize_t c, double before, real product,
                             real[:, ::1] params) noexcept nogil:
    """What output c's row is multiplied by in a step, the scale having been `before`; its intercept moves by that."""
    cdef Py_ssize_t row = plan.order[step], K = plan.n_outputs, first = plan.n_features * K + c
    cdef double share = 1.0, y = plan.y[row * K + c], lr = scalars(plan, step)[1], slope
    cdef real a, z = params[0, first] if plan.intercept else <real>0
    z += <real>before * product
    if plan.n_weights > 0:
        share = plan.weights[row * K + c if plan.n_weights > 1 else row]
    if e.measures:
        e.sums[PENALTY, c] += before * (0.5 * plan.alpha * before * s.squares + e.l1 * s.sizes)
        keep_loss(plan, e, s, z, y)
    if e.passive:
        a = <real>(share * aggression(plan, e, row, y, z))
    else:
        slope = bounded_slope(plan, e, y, z)
        if e.calms:
            bend(plan, e, c, share, y, z, slope)
        a = <real>(-lr * share * slope)
    if plan.intercept:
        params[0, first] += <real>(calm(e, c, 1, lr) * a)
        if e.average_row > 0 and step >= e.first_averaged:
            params[e.average_row, first] += params[0, first]
    return a


cdef inline void settle_places(Plan plan, Extras e, Py_ssize_t step, real[:, ::1] params) noexcept nogil:
    """`settle_all` of columns that wait `in_places`. From here on what L1 asks of v is counted from zero: the sum keeps
    its digits."""
    cdef Py_ssize_t i, j, k, n, c = 0, size = plan.n_features * plan.n_outputs
    cdef real *w = &params[0, 0]
    cdef real *paid = &params[e.paid_row, 0]
    cdef real *average = &params[e.average_row, 0]
    cdef Asked asked = asked_so_far(e)
    cdef Lone s
    cdef Places p
    s.squares = s.sizes = 0
    for k in range(LANES):
        p.ones[k] = 1
        p.joined[k] = 0
    for i in range((size + LANES - 1) // LANES):
        j = i * LANES
        n = min(size - j, <Py_ssize_t>LANES)
        for k in range(LANES):
            p.v[k] = w[j + k] if k < n else <real>0
            p.seen[k] = e.seen[j + k] if k < n else 0
        if e.average_row > 0:
            for k in range(n):
                p.joined[k] = e.joined[j + k]
                e.joined[j + k] = 0
        settle_lone(e, &s, &asked, step, LANES, &p)
        if e.average_row > 0:
            join(asked.v, asked.scales, asked.products, LANES, &p)
            for k in range(n):
                average[j + k] += <real>p.joined[k]
        for k in range(n):
            w[j + k] = <real>p.v[k]
            e.seen[j + k] = p.paid[k] if w[j + k] == 0 else 0
            if e.truncated:
                paid[j + k] = <real>p.paid[k]
            e.sums[SQUARES, c] += p.changes[k] * p.sums[k]
            e.sums[SIZES, c] -= p.left[k]
            c = c + 1 if c + 1 < plan.n_outputs else 0
    e.asked = e.scales = e.products = 0
    if e.history.shape[0] > 1:
        e.history[step, ASKED] = e.history[step, SUM] = e.history[step, SUM_ASKED] = 0
        e.settled = step


cdef inline void pay_places(Plan plan, Extras e, double lr, real[:, ::1] params) noexcept nogil:
    """The L1 part of a step that multiplied the scale out, of all columns: its factor may have brought any to zero or
    to the other side, where it has not paid."""
    cdef Py_ssize_t j, c = 0
    cdef real *w = &params[0, 0]
    cdef real *paid = &params[e.paid_row, 0]
    e.sums[SQUARES, :] = 0
    e.sums[SIZES, :] = 0
    for j in range(plan.n_features * plan.n_outputs):
        if e.truncated:
            pay(plan, e, w + j, paid + j)
            e.seen[j] = paid[j] if w[j] == 0 else e.asked
        else:
            w[j] = towards_zero(w[j], <real>(lr * e.l1))
            e.seen[j] = e.asked
        e.sums[SQUARES, c] += w[j] * w[j]
        e.sums[SIZES, c] += fabs(w[j])
        c = c + 1 if c + 1 < plan.n_outputs else 0


cdef inline int64_t first_mark(Py_ssize_t step) noexcept nogil:
    """Of the first of the columns that a step touches."""
    return <int64_t>(step + 1) << 32


cdef inline Py_ssize_t take(Plan plan, Extras e, Py_ssize_t step, Py_ssize_t b, const index *columns,
                            const index *rows) noexcept nogil:
    """The columns of a batch, each once, into `touched`; returns how many they are.

    `mark` has the last step that touched a column, and the column's place then, in one number. No branch, which would
    be guessed wrong: each column goes to the next free place, whether it stays there or not.
    """
    cdef Py_ssize_t i, k, m, n = 0
    cdef int64_t new, at, first = first_mark(step)
    cdef int64_t *mark = &e.mark[0]
    cdef int64_t *touched = &e.touched[0]
    cdef const index *row
    for i in range(step * plan.batch_size, step * plan.batch_size + b):
        row = columns + rows[plan.order[i]]
        m = rows[plan.order[i] + 1] - rows[plan.order[i]]
        for k in range(m):
            at = mark[row[k]] - first
            new = at < 0
            at += (n - at) & -new
            touched[n] = row[k]
            mark[row[k]] = first + at
            n += new
    return n


cdef inline void settle_all(Plan plan, Extras e, Py_ssize_t step, real[:, ::1] params) noexcept nogil:
    """Every column is brought up to date; dense ones always are."""
    cdef Py_ssize_t j
    if in_places(e):
        settle_places(plan, e, step, params)
        return
    for j in range(e.seen.shape[0]):
        threshold(plan, e, j, &params[0, 0])
    if e.scales > 0:
        for j in range(plan.n_features * plan.n_outputs):
            params[e.average_row, j] += <real>(e.scales * params[0, j])
    e.scales = 0


cdef inline bint multiplies_out(Plan plan, double factor) noexcept nogil:
    return factor <= 1e-4 or plan.scale * factor < 1e-4


cdef inline void contract(Plan plan, Extras e, Py_ssize_t step, double lr, real[:, ::1] params) noexcept nogil:
    """The L2 part of a step. Where the scale is multiplied out, columns that wait are settled first."""
    cdef Py_ssize_t c
    cdef double factor = contraction(plan, e, step, lr), before = plan.scale
    if multiplies_out(plan, factor):
        settle_all(plan, e, step, params)
    shrink(plan, factor, &params[0, 0])
    if e.measures and plan.scale == 1:  # squares and sizes are v's
        for c in range(plan.n_outputs):
            e.sums[SQUARES, c] *= before * before * factor * factor
            e.sums[SIZES, c] *= before * fabs(factor)
            e.sums[PRODUCT, c] *= before * factor
