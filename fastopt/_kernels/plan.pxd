"""The stages of a batch that dense and CSR epochs share, over what they need beside X and the parameters."""
from libc.stdint cimport int32_t

from fastopt._kernels.loss cimport LOG_LOSS, MULTINOMIAL, Logistic, slope, slope_of, slopes_of, softmax
from fastopt._kernels.portable cimport index, prefetch, real
from fastopt._kernels.row cimport FAR_AHEAD, dot, prefetch_coming_row
from fastopt._kernels.rule cimport MAX_SLOTS
from fastopt._kernels.update cimport average_all, clip_all, update_all

cdef enum:
    TARGETS = 64
    # Hyperparameters of a rule, and which of them is L1 where its own formulas have it.
    HYPER = 10
    L1 = 5


cdef class Plan:
    cdef public int loss, rule
    cdef public double loss_parameter, alpha, l1, scale, clipnorm, clipvalue, ema_momentum
    cdef public Py_ssize_t batch_size, n_features, n_outputs, n_targets, n_weights, width, first_step
    cdef public Py_ssize_t ema_row, scale_row
    cdef public bint intercept, eager, distinct, clips, weighs_l2, weighs_l1, own_l1
    cdef const double[::1] y, weights, hyper, intercept_hyper, inverse_shares
    cdef const double[:, ::1] table
    cdef const Py_ssize_t[::1] order, slot_rows
    cdef Py_ssize_t[::1] touched
    cdef int32_t[::1] first, local


cdef inline const double *scalars(Plan plan, Py_ssize_t step) noexcept nogil:
    """The table's row for a step."""
    return &plan.table[0, 0] + plan.width * (step + 1)


cdef inline void prefetch_coming(Plan plan, Py_ssize_t i, const real *x, const index *columns,
                                 const index *rows) noexcept nogil:
    """`prefetch_coming_row`, and the row's targets."""
    cdef Py_ssize_t n = plan.order.shape[0]
    if i + FAR_AHEAD < n:
        prefetch(&plan.y[plan.order[i + FAR_AHEAD] * plan.n_targets])
    prefetch_coming_row(&plan.order[0], n, i, x, columns, rows)


cdef inline void slopes(Plan plan, Py_ssize_t start, Py_ssize_t m, Py_ssize_t b, real *z) noexcept nogil:
    """Raw predictions of m rows become their weighted slopes in the mean loss of a batch of b, in place."""
    cdef Py_ssize_t i = 0, k, c, n, K = plan.n_outputs
    cdef const Py_ssize_t *rows = &plan.order[start]
    cdef double share = 1.0 / b, s
    cdef double y[TARGETS]
    if plan.loss != MULTINOMIAL and K == 1 and m > 1:
        while i < m:                    # the targets side by side, so that the slopes vectorise
            n = min(m - i, <Py_ssize_t>TARGETS)
            for k in range(n):
                y[k] = plan.y[rows[i + k]]
            slopes_of(plan.loss, plan.loss_parameter, n, y, z + i)
            for k in range(i, i + n):
                s = share * plan.weights[rows[k]] if plan.n_weights == 1 else share
                z[k] = <real>(s * z[k])
            i += n
        return
    for i in range(m):
        s = share * plan.weights[rows[i]] if plan.n_weights == 1 else share
        if plan.loss == MULTINOMIAL:
            softmax(z + i * K, K, <Py_ssize_t>plan.y[rows[i]])
            for c in range(K):
                z[i * K + c] *= <real>s
        else:
            output_slopes(plan, rows[i], s, z + i * K)


cdef inline void output_slopes(Plan plan, Py_ssize_t row, double share, real *z) noexcept nogil:
    """`slopes` of one row where each output has its own target, and maybe its own weight."""
    cdef Py_ssize_t c, K = plan.n_outputs
    cdef double s = share
    for c in range(K):
        if plan.n_weights > 1:
            s = share * plan.weights[row * K + c]
        z[c] = <real>(s * slope_of(plan.loss, plan.loss_parameter, plan.y[row * K + c], z[c]))


cdef inline double lone_slope(Plan plan, Py_ssize_t row, double z) noexcept nogil:
    """`slopes` of a batch of one row and one output, in registers: the next row waits for it."""
    cdef double s
    if plan.loss == MULTINOMIAL:        # of one class: constant
        return 0
    s = bare_slope(plan, plan.y[row], z)
    return plan.weights[row] * s if plan.n_weights > 0 else s


cdef inline double bare_slope(Plan plan, double y, double z) noexcept nogil:
    if plan.loss == LOG_LOSS:           # not by the ladder, which is a call through memory
        return slope(Logistic(plan.loss_parameter), y, z)
    return slope_of(plan.loss, plan.loss_parameter, y, z)


cdef inline void point(Plan plan, real[:, ::1] params, real **p) noexcept nogil:
    """Where w and the slots lie in params; an unused slot aliases w. params' last row is the batch's gradient."""
    cdef Py_ssize_t s
    for s in range(MAX_SLOTS + 1):
        p[s] = &params[plan.slot_rows[s], 0]


cdef inline void shrink(Plan plan, double factor, real *w) noexcept nogil:
    """w *= factor by the scale: the L2 part of a plain SGD step, and decoupled decay.

    Below 1e-4 the scale is multiplied out: v's entries stay within the range of float32.
    """
    cdef Py_ssize_t j
    if factor == 1:
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


cdef inline void intercept_gradient(Plan plan, Py_ssize_t b, const real *z, real *g) noexcept nogil:
    """Sums of the slopes, into the gradient's last row."""
    cdef Py_ssize_t i, c, first = plan.n_features * plan.n_outputs
    cdef real total = 0
    if not plan.intercept:
        return
    if plan.n_outputs == 1:             # in a register: each addition waits for the one before
        for i in range(b):
            total += z[i]
        g[first] = total
        return
    for c in range(plan.n_outputs):
        g[first + c] = 0
    for i in range(b):
        for c in range(plan.n_outputs):
            g[first + c] += z[i * plan.n_outputs + c]


cdef inline void step_intercept(Plan plan, Py_ssize_t step, real **p, const real *g) noexcept nogil:
    """The intercept's own step: no penalty, no decay."""
    cdef Py_ssize_t s, first = plan.n_features * plan.n_outputs
    cdef real *q[MAX_SLOTS + 1]
    if not plan.intercept:
        return
    for s in range(MAX_SLOTS + 1):
        q[s] = p[s] + first
    update_all(plan.rule, &plan.intercept_hyper[0], scalars(plan, step), q, g + first, 0, 0, 1, plan.n_outputs, NULL)


cdef inline void plain_intercept(Plan plan, Py_ssize_t b, const real *z, real *w, real lr) noexcept nogil:
    """The intercept's part of a plain SGD step."""
    cdef Py_ssize_t i, c, first = plan.n_features * plan.n_outputs
    cdef real value
    if plan.intercept and plan.n_outputs == 1:      # in a register: each addition waits for the one before
        value = w[first]
        for i in range(b):
            value -= lr * z[i]
        w[first] = value
    elif plan.intercept:
        for i in range(b):
            for c in range(plan.n_outputs):
                w[first + c] -= lr * z[i * plan.n_outputs + c]


cdef inline void enter(Plan plan, real *w, real *g, const real *scales, const real *means) noexcept nogil:
    """w and the batch's gradient become those of u, L2 included: (w, b + means.w) = scales u."""
    cdef Py_ssize_t i, j, c, K = plan.n_outputs, first = plan.n_features * K
    cdef real alpha = <real>plan.alpha, total
    if plan.intercept and K == 1:
        total = g[first]
        w[first] += dot(means, w, first)
        for i in range(first):
            g[i] -= means[i] * total
    elif plan.intercept:
        for j in range(plan.n_features):
            for c in range(K):
                w[first + c] += means[j * K + c] * w[j * K + c]
                g[j * K + c] -= means[j * K + c] * g[first + c]
    for i in range(first):
        g[i] = scales[i] * (g[i] + alpha * w[i])
        w[i] = w[i] / scales[i]
    for i in range(first, first + (K if plan.intercept else 0)):
        g[i] = scales[i] * g[i]
        w[i] = w[i] / scales[i]


cdef inline void leave(Plan plan, real *w, const real *scales, const real *means) noexcept nogil:
    """The way back from `enter`."""
    cdef Py_ssize_t i, j, c, K = plan.n_outputs, first = plan.n_features * K
    for i in range(first + (K if plan.intercept else 0)):
        w[i] = scales[i] * w[i]
    if plan.intercept and K == 1:
        w[first] -= dot(means, w, first)
    elif plan.intercept:
        for j in range(plan.n_features):
            for c in range(K):
                w[first + c] -= means[j * K + c] * w[j * K + c]


cdef inline void step_all(Plan plan, Py_ssize_t step, real **p, real *g, real[:, ::1] params) noexcept nogil:
    """A step of every coordinate with the batch's gradient, and what goes around it: other variables, clipping, the
    moving average."""
    cdef Py_ssize_t size = plan.n_features * plan.n_outputs, all_ = params.shape[1], part = size, i, j
    cdef const double *row = scalars(plan, step)
    cdef const real *scales = &params[plan.scale_row, 0]
    cdef const real *means = scales + params.strides[0] // <Py_ssize_t>sizeof(real)
    cdef const double *hyper = &plan.hyper[0]
    cdef double l2 = plan.alpha, l1 = plan.l1
    cdef double own[HYPER]
    cdef real *q[MAX_SLOTS + 1]
    if plan.scale_row > 0:
        enter(plan, p[0], g, scales, means)
        l2 = 0
        if plan.l1 > 0 or plan.own_l1:  # L1 has another strength in each of the variables
            part = plan.n_outputs
        if plan.own_l1:
            for j in range(HYPER):
                own[j] = hyper[j]
            hyper = own
    if plan.clips:                      # L2 is part of what is clipped
        for j in range(size):
            g[j] += <real>l2 * p[0][j]
        clip_all(g, all_, g, 0, plan.clipnorm, plan.clipvalue)
        l2 = 0
    i = 0
    while i < size:
        for j in range(MAX_SLOTS + 1):
            q[j] = p[j] + i
        if plan.scale_row > 0:
            l1 = scales[i] * plan.l1
            if plan.own_l1:
                own[L1] = scales[i] * plan.hyper[L1]
        update_all(plan.rule, hyper, row, q, g + i, l2, l1, row[0], part, NULL)
        i += part
    step_intercept(plan, step, p, g)
    if plan.scale_row > 0:
        leave(plan, p[0], scales, means)
    if plan.ema_row > 0:
        # The average starts as w itself.
        average_all(p[0], &params[plan.ema_row, 0], plan.ema_momentum if plan.first_step + step > 0 else 0, all_)
