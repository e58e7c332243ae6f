"""What may go around plain SGD steps: L1, averaged iterates, passive-aggressive steps, sums of losses.

w = scale * v, as in the plain steps of dense.pyx and sparse.pyx, which stay free of all this. After a step L1 acts on w

proximal    w_j moves towards zero by lr l1, and no further;
truncated   w_j pays towards zero what L1 has asked of every coordinate so far (`owed`) beyond what it has paid itself
            (Tsuruoka, Tsujii, Ananiadou 2009, section 3.2).

Here is what every step takes; l1.pxd has L1 and averages, places.pxd both of columns that wait.

Where rows are sparse, an intercept sees each row and a coefficient few: at one learning rate for all, what a step adds
to the intercept by chance is most of F's distance from its minimum. `calm` is its own rate, of a Newton step on the sum
of the losses so far.
"""
from libc.math cimport fabs
from libc.stdint cimport int64_t

from fastopt._kernels.loss cimport (HINGE, HUBER, LOG_LOSS, MODIFIED_HUBER, MULTINOMIAL, PERCEPTRON, SQUARED_ERROR,
                                    SQUARED_EPSILON_INSENSITIVE, SQUARED_HINGE, softmax, value_of, values_of)
from fastopt._kernels.plan cimport Plan, begin_scores, bare_slope, scalars, shrink
from fastopt._kernels.portable cimport index, real

cdef enum:
    # Rows of `sums`: losses, penalties, v's squares and sizes, a row's x'v, the losses' curvature in each intercept.
    LOSS, PENALTY, SQUARES, SIZES, PRODUCT, CURVED
    # Columns of `history`: sums of lr l1 / scale, of scale and of their product over the averaged steps, and values.
    ASKED, SUM, SUM_ASKED, SCALE, OWED, COLUMNS
    PA1 = 1                             # `passive`
    PA2 = 2
    # Rows whose losses are computed together, which vectorises.
    TOGETHER = 64


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
