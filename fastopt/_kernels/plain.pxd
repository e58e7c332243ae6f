"""What may go around plain SGD steps: L1, averaged iterates, passive-aggressive steps, sums of losses.

w = scale * v, as in the plain steps of dense.pyx and sparse.pyx, which stay free of all this. After a step L1 acts on w

proximal    w_j moves towards zero by lr l1, and no further;
truncated   w_j pays towards zero what L1 has asked of every coordinate so far (`owed`) beyond what it has paid itself
            (Tsuruoka, Tsujii, Ananiadou 2009, section 3.2).

Without a gradient both take lr l1 from |w_j| in each step, so that on CSR a column can wait until a row touches it:
|v_j| then loses the sum of lr l1 / scale, or is zero from the step on at which that sum exceeds it. For proximal steps
alone that sum when it was last touched is all that a column needs (`seen`). For averages alone a step adds to the sum
of iterates only what it takes from those before it (Xu 2011; Bottou 2012). Truncated steps, and averages with L1, are
further below.

Where rows are sparse, an intercept sees each row and a coefficient few: at one learning rate for all, what a step adds
to the intercept by chance is most of F's distance from its minimum. `calm` is its own rate, of a Newton step on the sum
of the losses so far.
"""
from libc.math cimport copysign, fabs
from libc.stdint cimport int64_t

from fastopt._kernels.loss cimport (HINGE, HUBER, LOG_LOSS, MODIFIED_HUBER, MULTINOMIAL, PERCEPTRON, SQUARED_ERROR,
                                    SQUARED_EPSILON_INSENSITIVE, SQUARED_HINGE, softmax, value_of, values_of)
from fastopt._kernels.plan cimport Plan, begin_scores, bare_slope, scalars, shrink
from fastopt._kernels.portable cimport index, real, wide
from fastopt._kernels.row cimport dot
from fastopt._kernels.rule cimport towards_zero

cdef enum:
    # Rows of `sums`: losses, penalties, v's squares and sizes, a row's x'v, the losses' curvature in each intercept.
    LOSS, PENALTY, SQUARES, SIZES, PRODUCT, CURVED
    # Columns of `history`: sums of lr l1 / scale, of scale and of their product over the averaged steps, and values.
    ASKED, SUM, SUM_ASKED, SCALE, OWED, COLUMNS
    PA1 = 1                             # `passive`
    PA2 = 2
    # Rows whose losses are computed together, which vectorises.
    TOGETHER = 64
    # Columns of a row that are worked on together, and the longest vector's.
    TOUCHED = 256
    LANES = 8


cdef class Extras:
    cdef public double l1, owed, bound
    cdef public int passive
    cdef public bint truncated, guarded, measures, keeps_norms, calms
    cdef public Py_ssize_t average_row, paid_row, first_averaged
    cdef Py_ssize_t settled             # the step at which all columns were settled
    cdef const double[::1] norms
    cdef double[:, ::1] sums, history
    cdef double[::1] seen, joined
    cdef int64_t[::1] mark, touched     # of batches: see `take`
    cdef double[::1] moves
    # What L1 has asked of v so far, and over the averaged steps the sums of scale and of both's product.
    cdef double asked, scales, products


cdef inline double bounded_slope(Plan plan, Extras e, double y, double z) noexcept nogil:
    cdef double slope = bare_slope(plan, y, z)
    if e.guarded:
        slope = -1e12 if slope < -1e12 else (1e12 if slope > 1e12 else slope)
    return slope


cdef inline void bend(Plan plan, Extras e, Py_ssize_t c, double weight, double y, double z,
                      double slope) noexcept nogil:
    """A row's curvature in the intercept, for `calm`: of losses that have one, and it is bounded.

    Squared slopes of the logistic loss have its curvature as their mean, and also see a row far on the wrong side;
    those of linear pieces are what tells of their kinks. Of squares it is the slope over the distance from the minimum,
    which knows of linear tails, too.
    """
    cdef double by = 0
    if plan.loss == LOG_LOSS or plan.loss == MULTINOMIAL or plan.loss == HINGE or plan.loss == PERCEPTRON:
        by = slope * slope
    elif plan.loss == SQUARED_ERROR:
        by = 1
    elif plan.loss == SQUARED_HINGE or plan.loss == SQUARED_EPSILON_INSENSITIVE:
        by = 2 if slope != 0 else 0
    elif plan.loss == HUBER:
        by = 1 if slope == z - y else slope / (z - y)
    elif plan.loss == MODIFIED_HUBER:
        by = fabs(slope) / (1 - y * z) if slope != 0 else 0
    e.sums[CURVED, c] += weight * by


cdef inline double calm(Extras e, Py_ssize_t c, Py_ssize_t b, double lr) noexcept nogil:
    """What the intercept's part of a step of b rows is multiplied by: its rate is 4 b / curvature so far, but at most
    lr and at least a hundredth of it.

    A rate of b / curvature would weigh all rows alike; this weighs the t-th by t^3, for the first ones met other
    coefficients. By the hundredth, which is scikit-learn's rate, an intercept still follows rows that change.
    """
    cdef double steep = lr * e.sums[CURVED, c]
    return max(0.01, 4 * b / steep) if steep > 4 * b else 1.0


cdef inline double contraction(Plan plan, Extras e, Py_ssize_t step, double lr) noexcept nogil:
    """What the L2 part of a step multiplies w by."""
    cdef double factor = scalars(plan, step)[0] - lr * plan.alpha
    return 0 if e.guarded and factor < 0 else factor


cdef inline void coefficients(Plan plan, Extras e, Py_ssize_t lo, Py_ssize_t b, double lr, real *z) noexcept nogil:
    """Raw predictions become what each row is multiplied by in the step."""
    cdef Py_ssize_t i, c, row, K = plan.n_outputs
    cdef double share, loss, slope
    for i in range(b):
        row = plan.order[lo + i]
        share = 1.0 / b
        if plan.n_weights == 1:
            share *= plan.weights[row]
        if plan.loss == MULTINOMIAL:
            loss = softmax(z, K, <Py_ssize_t>plan.y[row])
            e.sums[LOSS, 0] += loss
            for c in range(K):
                if e.calms:
                    bend(plan, e, c, share * b, 0, 0, z[c])
                z[c] *= <real>(-lr * share)
        else:
            for c in range(K):
                if plan.n_weights > 1:
                    share = plan.weights[row * K + c] / b
                if e.measures:
                    e.sums[LOSS, c] += value_of(plan.loss, plan.loss_parameter, plan.y[row * K + c], z[c])
                if e.passive:
                    z[c] = <real>(share * aggression(plan, e, row, plan.y[row * K + c], z[c]))
                else:
                    slope = bounded_slope(plan, e, plan.y[row * K + c], z[c])
                    if e.calms:
                        bend(plan, e, c, share * b, plan.y[row * K + c], z[c], slope)
                    z[c] = <real>(-lr * share * slope)
        z += K


cdef inline double aggression(Plan plan, Extras e, Py_ssize_t row, double y, double z) noexcept nogil:
    """Crammer et al. 2006, eq. (15): PA-I and PA-II."""
    cdef double size = value_of(plan.loss, plan.loss_parameter, y, z), norm = e.norms[row]
    if e.passive == PA1:
        size = min(e.bound, size / norm) if norm > 0 else 0.0
    else:
        size /= norm + 0.5 / e.bound
    if plan.loss == HINGE or plan.loss == PERCEPTRON:
        return y * size
    return -size if y < z else size


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


cdef inline void move_intercept(Plan plan, Extras e, Py_ssize_t step, Py_ssize_t b, const real *z,
                                real[:, ::1] params) noexcept nogil:
    cdef Py_ssize_t i, c, first = plan.n_features * plan.n_outputs
    cdef double share
    if not plan.intercept:
        return
    for c in range(plan.n_outputs):
        share = calm(e, c, b, scalars(plan, step)[1])
        for i in range(b):
            params[0, first + c] += <real>(share * z[i * plan.n_outputs + c])
        if e.average_row > 0 and step >= e.first_averaged:
            params[e.average_row, first + c] += params[0, first + c]


# --- steps of one row and one output, with nothing around them but what is measured ----------------------------------

cdef struct Lone:
    double penalties, squares, sizes    # of the epoch; ||v||^2 and |v|_1
    Py_ssize_t waiting, output          # losses that are not yet in the sums, and whose the first of them is
    double z[TOGETHER]
    double y[TOGETHER]
    double values[TOGETHER]


cdef inline bint alone(Plan plan, Extras e) noexcept nogil:
    """Whether steps take one row and have one output, with neither L1, averages nor passive-aggressive steps around."""
    return (plan.batch_size == 1 and plan.n_outputs == 1 and plan.loss != MULTINOMIAL and e.passive == 0
            and e.average_row == 0 and e.l1 == 0)


cdef inline void lone_begin(Extras e, Lone *s) noexcept nogil:
    s.penalties, s.squares, s.sizes = e.sums[PENALTY, 0], e.sums[SQUARES, 0], e.sums[SIZES, 0]
    s.waiting = s.output = 0


cdef inline void lone_end(Plan plan, Extras e, Lone *s) noexcept nogil:
    add_losses(plan, e, s)
    if e.measures:
        e.sums[PENALTY, 0], e.sums[SQUARES, 0], e.sums[SIZES, 0] = s.penalties, s.squares, s.sizes


cdef inline void keep_loss(Plan plan, Extras e, Lone *s, double z, double y) noexcept nogil:
    """The losses of one output after the other, computed when there are many."""
    s.z[s.waiting], s.y[s.waiting] = z, y
    s.waiting += 1
    if s.waiting == TOGETHER:
        add_losses(plan, e, s)


cdef inline void add_losses(Plan plan, Extras e, Lone *s) noexcept nogil:
    cdef Py_ssize_t i
    values_of(plan.loss, plan.loss_parameter, s.waiting, s.y, s.z, s.values)
    for i in range(s.waiting):
        e.sums[LOSS, s.output] += s.values[i]
        s.output = s.output + 1 if s.output + 1 < plan.n_outputs else 0
    s.waiting = 0


cdef inline real lone_step(Plan plan, Extras e, Lone *s, Py_ssize_t step, real *product, real *w) noexcept nogil:
    """A step but for the row's axpy, whose factor is returned. `product`, the row's with v, stays that if v changes."""
    cdef Py_ssize_t row = plan.order[step], d = plan.n_features
    cdef double lr = scalars(plan, step)[1], before = plan.scale, share = 1.0, y = plan.y[row], slope
    cdef double factor = contraction(plan, e, step, lr)
    cdef real z, a
    begin_scores(plan, w, &z)
    z += <real>before * product[0]
    if plan.n_weights > 0:
        share = plan.weights[row]
    slope = bounded_slope(plan, e, y, z)
    a = <real>(-lr * share * slope)
    if e.calms:
        bend(plan, e, 0, share, y, z, slope)
    if e.measures:
        s.penalties += before * (0.5 * plan.alpha * before * s.squares + e.l1 * s.sizes)
        keep_loss(plan, e, s, z, y)
    shrink(plan, factor, w)
    if plan.scale == 1:                 # multiplied out: the sums are v's
        product[0] *= <real>(before * factor)
        s.squares *= before * before * factor * factor
        s.sizes *= before * fabs(factor)
    if plan.intercept:
        w[d] += <real>(calm(e, 0, 1, lr) * a)
    return <real>(a / plan.scale)


# --- L1 and averages --------------------------------------------------------------------------------------------------


cdef inline void settle_dense(Plan plan, Extras e, double asked, bint averaged, real[:, ::1] params) noexcept nogil:
    cdef Py_ssize_t j, size = plan.n_features * plan.n_outputs
    cdef real *w = &params[0, 0]
    cdef real *total = &params[e.average_row, 0]
    cdef real by = <real>(asked / plan.scale), left, scale = <real>plan.scale
    if e.truncated:
        for j in range(size):
            pay(plan, e, w + j, &params[e.paid_row, j])
    elif by > 0:
        for j in range(size):
            left = (w[j] if w[j] > 0 else -w[j]) - by
            left = left if left > 0 else <real>0
            w[j] = left if w[j] > 0 else -left
    if e.average_row > 0 and averaged:
        for j in range(size):
            total[j] += scale * w[j]


cdef inline void pay(Plan plan, Extras e, real *w, real *paid) noexcept nogil:
    cdef double before = plan.scale * w[0], after = before
    if before > 0:
        after = max(0.0, before - (e.owed + paid[0]))
    elif before < 0:
        after = min(0.0, before + (e.owed - paid[0]))
    paid[0] += <real>(after - before)
    w[0] = <real>(after / plan.scale)


cdef inline void record(Plan plan, Extras e, Py_ssize_t step, double lr) noexcept nogil:
    """What the columns that wait must know of the step."""
    e.owed += lr * e.l1
    e.asked += lr * e.l1 / plan.scale
    if step >= e.first_averaged:
        e.scales += plan.scale
        e.products += plan.scale * e.asked
    if e.history.shape[0] > 1:
        record_history(plan, e, step)


cdef inline void record_history(Plan plan, Extras e, Py_ssize_t step) noexcept nogil:
    cdef double *h = &e.history[step + 1, 0]
    h[ASKED] = e.asked
    h[SUM] = e.scales
    h[SUM_ASKED] = e.products
    h[SCALE] = plan.scale
    h[OWED] = e.owed


cdef inline void threshold(Plan plan, Extras e, Py_ssize_t j, real *w) noexcept nogil:
    """Column j takes the L1 part of the steps that it waited for: of none, if it did not wait."""
    cdef Py_ssize_t c, K = plan.n_outputs
    cdef real before, by = <real>(e.asked - e.seen[j])
    e.seen[j] = e.asked
    for c in range(j * K, (j + 1) * K):
        before = w[c]
        w[c] = towards_zero(before, by)
        if e.measures:
            changed(e, c - j * K, before, w[c])


cdef inline real settled_dot(Extras e, const real *x, const index *columns, Py_ssize_t n, real *w) noexcept nogil:
    """`threshold` of a row's columns, of one output, and their product with the row."""
    cdef Py_ssize_t k = 0, i, j
    cdef double asked = e.asked
    cdef double *seen = &e.seen[0]
    cdef real u, v, first = 0, second = 0
    while k + 2 <= n:
        i, j = columns[k], columns[k + 1]
        u = towards_zero(w[i], <real>(asked - seen[i]))
        seen[i] = asked
        w[i] = u
        v = towards_zero(w[j], <real>(asked - seen[j]))     # after the store: it may be the same column
        seen[j] = asked
        w[j] = v
        first += x[k] * u
        second += x[k + 1] * v
        k += 2
    if k < n:
        i = columns[k]
        u = towards_zero(w[i], <real>(asked - seen[i]))
        seen[i] = asked
        w[i] = u
        first += x[k] * u
    return first + second


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


cdef inline Py_ssize_t within(double guess, Py_ssize_t n) noexcept nogil:
    """A whole number from 1 to n - 1, whatever the guess."""
    return 1 if not guess > 1 else (n - 1 if guess > n - 1 else <Py_ssize_t>guess)


cdef inline const double *last_before(const double *then, const double *now, double size) noexcept nogil:
    """The last step before what was asked since `then` reached `size`; at `now` it has.

    Steps ask for nearly the same each: it is looked for near where it were if they did, and by bisection of what is
    left.
    """
    cdef Py_ssize_t n = (now - then) // COLUMNS, low = 0, high = n, gap = 1, middle
    cdef double asked = then[ASKED] + size, slope
    middle = within(size / (now[ASKED] - then[ASKED]) * n, n)
    if n > 1:                           # and a step of Newton's
        slope = then[COLUMNS * middle + ASKED] - then[COLUMNS * (middle - 1) + ASKED]
        if slope > 0:
            middle = within(middle + (asked - then[COLUMNS * middle + ASKED]) / slope, n)
    if n > 1 and then[COLUMNS * middle + ASKED] >= asked:
        high = middle
        while high - gap > 0 and then[COLUMNS * (high - gap) + ASKED] >= asked:
            high -= gap
            gap *= 2
        low = max(<Py_ssize_t>0, high - gap)
    elif n > 1:
        low = middle
        while low + gap < n and then[COLUMNS * (low + gap) + ASKED] < asked:
            low += gap
            gap *= 2
        high = min(n, low + gap)
    while high - low > 1:
        middle = (low + high) // 2
        if then[COLUMNS * middle + ASKED] >= asked:
            high = middle
        else:
            low = middle
    return then + COLUMNS * low


# --- truncated L1, and averages with L1, of columns that wait --------------------------------------------------------
#
# A column that is not zero has paid all that L1 had asked when it was last touched: `seen` has that in units of v, the
# sum of lr l1 / scale. What it then loses while it waits is a difference of two such sums. One that is zero waits for
# nothing, and `seen` has what it has paid, in units of w, which only truncated steps ask for. Only where L1 brings a
# column to zero while it waits does the history tell when that was: for how much of w it took if the scale has changed,
# and for averages.
#
# |v| + seen stays the same while a column waits. With it the sum of a column's averaged iterates is
#
#     joined + sign(v) ((|v| + seen) scales - products),
#
# of which waiting moves but `scales` and `products`, and a touch `joined`, by what it changes of the rest. Outputs take
# their steps one after the other, for they share nothing but the scale and what L1 asks.
#
# A row that steps alone, of distinct columns, is worked on where its columns were gathered. Of a batch the columns,
# each once, are settled before the raw predictions and pay after the step.


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


# --- what is measured on the way: losses, penalties, ||v||^2 and |v|_1 of each output, x'v of a lone row --------------


cdef inline bint follows(Plan plan, Extras e, Py_ssize_t b) noexcept nogil:
    """Whether ||v||^2 is followed by what a step changes: a (2 x'v + a x'x), of a row that names no column twice."""
    return e.measures and b == 1 and e.l1 == 0 and plan.distinct


cdef inline void keep_products(Plan plan, Extras e, const real *w, const real *z) noexcept nogil:
    cdef Py_ssize_t c, first = plan.n_features * plan.n_outputs
    for c in range(plan.n_outputs):
        e.sums[PRODUCT, c] = (z[c] - (w[first + c] if plan.intercept else <real>0)) / plan.scale


cdef inline void follow(Plan plan, Extras e, const real *z, double norm) noexcept nogil:
    cdef Py_ssize_t c
    cdef double a
    for c in range(plan.n_outputs):
        a = z[c] / plan.scale
        e.sums[SQUARES, c] += a * (2 * e.sums[PRODUCT, c] + a * norm)


cdef inline void measure_penalty(Plan plan, Extras e, Py_ssize_t b) noexcept nogil:
    """Of w before the step, once for each row."""
    cdef Py_ssize_t c
    if e.measures:
        for c in range(plan.n_outputs):
            e.sums[PENALTY, c] += b * (0.5 * plan.alpha * plan.scale * plan.scale * e.sums[SQUARES, c]
                                       + e.l1 * plan.scale * e.sums[SIZES, c])


cdef inline void measure_norms(Plan plan, Extras e, Py_ssize_t b, const real *z, const real *w) noexcept nogil:
    """As scikit-learn measures them: after the step, before L1, of outputs that moved."""
    cdef Py_ssize_t i, j, c, K = plan.n_outputs
    cdef double moved, squares, sizes
    if plan.alpha == 0 and e.l1 == 0:
        return
    for c in range(K):
        moved = squares = sizes = 0
        for i in range(b):
            moved += fabs(z[i * K + c])
        if moved == 0:
            continue
        for j in range(plan.n_features):
            squares += <double>w[j * K + c] * w[j * K + c]
            sizes += fabs(w[j * K + c])
        e.sums[SQUARES, c] = squares
        e.sums[SIZES, c] = sizes


cdef inline void measured_axpy(Plan plan, Extras e, const real *z, const real *x, const index *columns, Py_ssize_t n,
                               real *w) noexcept nogil:
    """The axpys of a row, and what they change: of sums in registers, which the many entries of a row need."""
    cdef Py_ssize_t k, c, K = plan.n_outputs
    cdef double squares, sizes
    cdef real a, before, after
    cdef bint both = e.l1 > 0
    for c in range(K):
        a = <real>(z[c] / plan.scale)
        squares = sizes = 0
        if a == 0:
            continue
        if not both and K == 1:
            squares = squared_axpy(a, x, columns, n, w)
        else:
            for k in range(n):
                before = w[columns[k] * K + c]
                after = before + a * x[k]
                w[columns[k] * K + c] = after
                squares += <double>(after - before) * (after + before)
                sizes += (after if after > 0 else -after) - (before if before > 0 else -before)
        e.sums[SQUARES, c] += squares
        e.sums[SIZES, c] += sizes


cdef inline double squared_axpy(real a, const real *x, const index *columns, Py_ssize_t n, real *w) noexcept nogil:
    """w += a x; what it adds to ||w||^2."""
    cdef Py_ssize_t k = 0, i, j
    cdef real u, v, p, q
    cdef double first = 0, second = 0
    while k + 2 <= n:
        i, j = columns[k], columns[k + 1]
        u = w[i]
        p = u + a * x[k]
        w[i] = p
        v = w[j]
        q = v + a * x[k + 1]
        w[j] = q
        first += <double>(p - u) * (p + u)
        second += <double>(q - v) * (q + v)
        k += 2
    if k < n:
        u = w[columns[k]]
        p = u + a * x[k]
        w[columns[k]] = p
        first += <double>(p - u) * (p + u)
    return first + second


cdef inline void changed(Extras e, Py_ssize_t c, double before, double after) noexcept nogil:
    e.sums[SQUARES, c] += after * after - before * before
    e.sums[SIZES, c] += fabs(after) - fabs(before)
