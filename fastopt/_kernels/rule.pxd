"""Update rules: a struct of this step's scalars, and one branch each in `read`, `advance` and `idle`.

`read`     fills the struct from the hyperparameters and this step's row of the table (fastopt/optimizers.py writes
           both: `_hyper()` and `_columns(t, lr)`, in the order used here; row[0] is the factor of decoupled decay).
`advance`  one step of one coordinate with gradient g; w and the state slots a, b, c are written in place.
`proximal` the L1 part of that step, after it; `proximal_ahead` for a coordinate that then waits.
`idle`     steps first+1 .. last, all with zero gradient, at once: exact, and O(1) in their number where a closed form
           is known. Rows of the table are steps, and also powers: row k holds what k steps do.
The branch is resolved at compile time (`Rule` is fused), so loops over `advance` vectorise.
Symbols are the papers': w parameter, g gradient, u velocity, m and v moving averages.
"""
from libc.math cimport ceil, exp, log, pow, sqrt

from fastopt._kernels.portable cimport real

cdef enum RuleKind:
    SGD, MOMENTUM, NESTEROV, ADAGRAD, RMSPROP, ADAM, NADAM, ADAMAX, ADADELTA, FTRL, FTRL_POWER, LION
    SCHEDULE_FREE_SGD, SCHEDULE_FREE_ADAMW

cdef enum:
    # Doubles in a row of a table that `idle` reads: one cache line.
    WIDTH = 8
    MAX_SLOTS = 3
    # Up to this many idle steps are cheaper one by one than in closed form.
    FEW = 4

cdef extern from *:
    """
    /* Of Lion's learning rate: what is nearer to zero is there, but for rounding. */
    #define FASTOPT_NEAR 1e-3
    """
    const double NEAR "FASTOPT_NEAR"

cdef struct Sgd:
    double lr

cdef struct Momentum:
    double lr, mu

cdef struct Nesterov:
    double lr, mu

cdef struct Adagrad:
    double lr, eps

cdef struct Rmsprop:
    double lr, rho, mu, eps
    bint centered

cdef struct Adam:
    double gain, beta_1, beta_2, eps
    bint amsgrad

cdef struct Nadam:
    double m_gain, g_gain, root_gain, beta_1, beta_2, eps

cdef struct Adamax:
    double gain, beta_1, beta_2, eps

cdef struct Adadelta:
    double lr, rho, eps

cdef struct Ftrl:                       # learning_rate_power = -0.5: a root, which vectorises
    double per_lr, power, l1, l2, shrinkage

cdef struct FtrlPower:
    double per_lr, power, l1, l2, shrinkage

cdef struct Lion:
    double lr, beta_1, beta_2

cdef struct ScheduleFreeSgd:
    double lr, c, beta, decay

cdef struct ScheduleFreeAdamw:
    double lr, c, v_gain, beta, beta_2, eps, decay

ctypedef fused Rule:
    Sgd
    Momentum
    Nesterov
    Adagrad
    Rmsprop
    Adam
    Nadam
    Adamax
    Adadelta
    Ftrl
    FtrlPower
    Lion
    ScheduleFreeSgd
    ScheduleFreeAdamw


cdef inline Rule read(Rule r, const double *h, const double *row) noexcept nogil:
    if Rule is Sgd:
        r.lr = row[1]
    elif Rule is Momentum or Rule is Nesterov:
        r.lr, r.mu = row[1], h[0]
    elif Rule is Adagrad:
        r.lr, r.eps = row[1], h[0]
    elif Rule is Rmsprop:
        r.lr, r.rho, r.mu, r.eps, r.centered = row[1], h[0], h[1], h[2], h[3] != 0
    elif Rule is Adam:                  # gain: lr sqrt(1 - beta_2^t) / (1 - beta_1^t)
        r.gain, r.beta_1, r.beta_2, r.eps, r.amsgrad = row[1], h[0], h[1], h[2], h[8] != 0
    elif Rule is Nadam:
        r.m_gain, r.g_gain, r.root_gain = row[1], row[2], row[3]
        r.beta_1, r.beta_2, r.eps = h[0], h[1], h[2]
    elif Rule is Adamax:                # gain: lr / (1 - beta_1^t)
        r.gain, r.beta_1, r.beta_2, r.eps = row[1], h[0], h[1], h[2]
    elif Rule is Adadelta:
        r.lr, r.rho, r.eps = row[1], h[0], h[1]
    elif Rule is Ftrl or Rule is FtrlPower:     # l2: the terms of the quadratic that no gradient changes
        r.per_lr, r.power, r.l1, r.l2, r.shrinkage = 1 / row[1], h[0], h[1] + h[5] * row[2], h[2] + h[4] / row[1], h[3]
    elif Rule is Lion:
        r.lr, r.beta_1, r.beta_2 = row[1], h[0], h[1]
    elif Rule is ScheduleFreeSgd:
        r.lr, r.c, r.beta, r.decay = row[1], row[2], h[0], h[1]
    elif Rule is ScheduleFreeAdamw:
        r.lr, r.c, r.v_gain, r.beta, r.decay, r.beta_2, r.eps = row[1], row[2], row[3], h[0], h[1], h[2], h[3]
    return r


cdef inline void advance(Rule r, real *w, real g, real *a, real *b, real *c) noexcept nogil:
    cdef real u, m, v, x
    if Rule is Sgd:
        w[0] -= <real>r.lr * g
    elif Rule is Momentum:
        u = <real>r.mu * a[0] - <real>r.lr * g
        a[0] = u
        w[0] += u
    elif Rule is Nesterov:
        u = <real>r.mu * a[0] - <real>r.lr * g
        a[0] = u
        w[0] += <real>r.mu * u - <real>r.lr * g
    elif Rule is Adagrad:
        v = a[0] + g * g
        a[0] = v
        w[0] -= <real>r.lr * g / <real>sqrt(v + <real>r.eps)
    elif Rule is Rmsprop:
        v = <real>r.rho * a[0] + <real>(1 - r.rho) * (g * g)
        a[0] = v
        if r.centered:                  # rounding must not take v - m^2 below zero
            m = <real>r.rho * c[0] + <real>(1 - r.rho) * g
            c[0] = m
            v -= m * m
            v = v if v > 0 else <real>0
        u = <real>r.lr * g / <real>sqrt(v + <real>r.eps)
        if r.mu != 0:
            u += <real>r.mu * b[0]
            b[0] = u
        w[0] -= u
    elif Rule is Adam:
        m = a[0] + (g - a[0]) * <real>(1 - r.beta_1)
        v = b[0] + (g * g - b[0]) * <real>(1 - r.beta_2)
        a[0] = m
        b[0] = v
        if r.amsgrad:
            v = c[0] if c[0] > v else v
            c[0] = v
        w[0] -= <real>r.gain * m / (<real>sqrt(v) + <real>r.eps)
    elif Rule is Nadam:
        m = a[0] + (g - a[0]) * <real>(1 - r.beta_1)
        v = b[0] + (g * g - b[0]) * <real>(1 - r.beta_2)
        a[0] = m
        b[0] = v
        w[0] -= (<real>r.m_gain * m + <real>r.g_gain * g) / (<real>sqrt(v) * <real>r.root_gain + <real>r.eps)
    elif Rule is Adamax:
        m = a[0] + (g - a[0]) * <real>(1 - r.beta_1)
        u = <real>r.beta_2 * b[0]
        x = g if g > 0 else -g
        u = u if u > x else x
        a[0] = m
        b[0] = u
        w[0] -= <real>r.gain * m / (u + <real>r.eps)
    elif Rule is Adadelta:
        v = <real>r.rho * a[0] + <real>(1 - r.rho) * (g * g)
        a[0] = v
        u = <real>sqrt((b[0] + <real>r.eps) / (v + <real>r.eps)) * g      # one root: it takes longer than all else
        b[0] = <real>r.rho * b[0] + <real>(1 - r.rho) * (u * u)
        w[0] -= <real>r.lr * u
    elif Rule is Ftrl or Rule is FtrlPower:
        u = a[0] + g * g
        x = ftrl_root(r, u)
        b[0] += g + <real>(2 * r.shrinkage) * w[0] - (x - ftrl_root(r, a[0])) * <real>r.per_lr * w[0]
        a[0] = u
        w[0] = ftrl_weight(r, x, b[0])
    elif Rule is Lion:
        m = <real>r.beta_1 * a[0] + <real>(1 - r.beta_1) * g
        w[0] -= <real>r.lr * (<real>(m > 0) - <real>(m < 0))
        a[0] = <real>r.beta_2 * a[0] + <real>(1 - r.beta_2) * g
    elif Rule is ScheduleFreeSgd:
        schedule_free(w, g, a, <real>r.lr, <real>r.c, <real>r.beta, <real>r.decay)
    elif Rule is ScheduleFreeAdamw:
        v = <real>r.beta_2 * b[0] + <real>(1 - r.beta_2) * (g * g)
        b[0] = v
        g = g / (<real>sqrt(v * <real>r.v_gain) + <real>r.eps)
        schedule_free(w, g, a, <real>r.lr, <real>r.c, <real>r.beta, <real>r.decay)


cdef inline real towards_zero(real x, real by) noexcept nogil:
    """x nearer to zero by so much, and no further; NaN stays. Without a branch on the sign, which nothing foretells."""
    cdef real part = x if not x > by else by
    return x - (part if not part < -by else -by)


cdef inline real with_l1(Rule r, real l1, real w, real g) noexcept nogil:
    """The gradient that `advance` takes where there is L1: g, and for Lion, whose steps have one size whatever the
    gradient's, the subgradient of least norm."""
    cdef real least
    if Rule is Lion:
        least = towards_zero(g, l1)
        g += l1 * (<real>(w > 0) - <real>(w < 0))
        return g if w != 0 else least
    return g


cdef inline void proximal(Rule r, real l1, real g, real before, real *w, real *a, real *b, real *c) noexcept nogil:
    """w moves towards zero by l1 times what `advance` multiplies a lasting gradient by, so that the fixed points are
    F's. A velocity takes part in the move (Ochs, Chen, Brox, Pock, "iPiano", 2014, algorithm 1)."""
    cdef real old = w[0], v, x
    if Rule is Sgd:
        w[0] = towards_zero(old, <real>(r.lr * l1))
    elif Rule is Momentum:
        w[0] = towards_zero(old, <real>(r.lr * l1))
        a[0] += w[0] - old
    elif Rule is Nesterov:              # w is the iterate x and mu u beyond it
        x = old - <real>r.mu * a[0]
        v = towards_zero(x, <real>(r.lr * l1))
        # At zero the velocity ends: w is then zero, too.
        a[0] = a[0] + (v - x) if v != 0 else <real>0
        w[0] = v + <real>r.mu * a[0]
    elif Rule is Adagrad:
        w[0] = towards_zero(old, <real>r.lr * l1 / <real>sqrt(a[0] + <real>r.eps))
    elif Rule is Rmsprop:
        v = a[0]
        if r.centered:
            v -= c[0] * c[0]
            v = v if v > 0 else <real>0
        w[0] = towards_zero(old, <real>r.lr * l1 / <real>sqrt(v + <real>r.eps))
        if r.mu != 0:
            b[0] -= w[0] - old
    elif Rule is Adam:
        v = c[0] if r.amsgrad else b[0]
        w[0] = towards_zero(old, <real>r.gain * l1 / (<real>sqrt(v) + <real>r.eps))
    elif Rule is Nadam:
        w[0] = towards_zero(
            old, <real>(r.m_gain + r.g_gain) * l1 / (<real>sqrt(b[0]) * <real>r.root_gain + <real>r.eps))
    elif Rule is Adamax:
        w[0] = towards_zero(old, <real>r.gain * l1 / (b[0] + <real>r.eps))
    elif Rule is Adadelta:
        w[0] = towards_zero(old, <real>r.lr * l1 * <real>sqrt(b[0] + <real>r.eps) / <real>sqrt(a[0] + <real>r.eps))
    elif Rule is Lion:                  # no step passes zero (or ends beside it by rounding), none leaves it against L1
        v = old if old > 0 else -old
        old = <real>0 if before * old < 0 else old
        old = <real>0 if v < <real>(NEAR * r.lr) else old
        x = before if before > 0 else -before
        w[0] = <real>0 if x + (g if g > 0 else -g) == 0 else old
    elif Rule is ScheduleFreeSgd:
        proximal_z(w, a, <real>(r.lr * l1), <real>r.c, <real>r.beta)
    elif Rule is ScheduleFreeAdamw:
        proximal_z(w, a, <real>r.lr * l1 / (<real>sqrt(b[0] * <real>r.v_gain) + <real>r.eps), <real>r.c, <real>r.beta)


cdef inline void proximal_ahead(Rule r, real l1, real g, real before, real *w, real *a, real *b,
                                real *c) noexcept nogil:
    """`proximal` where the next gradient may be long in coming: it acts on the point to which those so far would take w
    if the root stayed as it is, by l1 times all that a gradient does in the end. If that is zero, w is, and rests."""
    cdef real by
    if Rule is Momentum or Rule is Nesterov:
        by = <real>(r.mu / (1 - r.mu)) if Rule is Momentum else <real>(r.mu * r.mu / (1 - r.mu))
        threshold(by, <real>(r.lr / (1 - r.mu)) * l1, w, a)
    elif Rule is Adam or Rule is Adamax:
        if Rule is Adam:
            by = <real>sqrt(c[0] if r.amsgrad else b[0])
        else:
            by = b[0]
        by = <real>r.gain / (by + <real>r.eps)
        threshold(<real>(-r.beta_1 / (1 - r.beta_1)) * by, by * l1, w, a)
    elif Rule is Nadam:
        by = 1 / (<real>sqrt(b[0]) * <real>r.root_gain + <real>r.eps)
        threshold(<real>(-r.m_gain * r.beta_1 / (1 - r.beta_1)) * by, <real>(r.m_gain + r.g_gain) * by * l1, w, a)
    elif Rule is Rmsprop:
        by = a[0]
        if r.centered:
            by -= c[0] * c[0]
            by = by if by > 0 else <real>0
        by = <real>(r.lr / (1 - r.mu)) * l1 / <real>sqrt(by + <real>r.eps)
        if r.mu != 0:
            threshold(<real>(-r.mu / (1 - r.mu)), by, w, b)
        else:
            w[0] = towards_zero(w[0], by)
    else:                               # it does not move while it waits
        proximal(r, l1, g, before, w, a, b, c)


cdef inline void threshold(real way, real by, real *w, real *velocity) noexcept nogil:
    """The soft threshold of w + way velocity."""
    cdef real ahead = w[0] + way * velocity[0], left = towards_zero(ahead, by)
    w[0] = w[0] + (left - ahead) if left != 0 else <real>0
    velocity[0] = velocity[0] if left != 0 else <real>0


cdef inline void proximal_z(real *y, real *z, real by, real c, real beta) noexcept nogil:
    cdef real change = towards_zero(z[0], by) - z[0]
    z[0] += change
    y[0] += (<real>1 - beta + c * beta) * change


cdef inline void schedule_free(real *y, real direction, real *z, real lr, real c, real beta, real decay) noexcept nogil:
    """z takes the step; x, kept as (y - (1 - beta) z) / beta, moves towards z by c; y lies between them."""
    # beta x = y - (1 - beta) z: with beta multiplied through, no division is left.
    cdef real rest = <real>1 - beta     # in real: a double here would halve the vectors of the whole loop
    cdef real x = y[0] - rest * z[0], next_z = z[0] - lr * (direction + decay * y[0])
    x += c * (beta * next_z - x)
    z[0] = next_z
    y[0] = rest * next_z + x


cdef inline real ftrl_root(Rule r, real n) noexcept nogil:
    if Rule is FtrlPower:
        return <real>pow(n, r.power)
    else:
        return <real>sqrt(n)


cdef inline real ftrl_weight(Rule r, real root, real z) noexcept nogil:
    """The minimiser in closed form; 0 where |z| <= l1, also while the quadratic is still zero."""
    cdef real size, quadratic
    if Rule is Ftrl or Rule is FtrlPower:
        size = (z if z > 0 else -z) - <real>r.l1
        quadratic = root * <real>r.per_lr + <real>r.l2
        size = size / (quadratic if size > 0 else <real>1)
        size = size if size > 0 else <real>0
        return -size if z > 0 else size


cdef inline void idle(Rule tag, const double *h, const double *table, Py_ssize_t first, Py_ssize_t last,
                      real *w, real *a, real *b, real *c) noexcept nogil:
    cdef Py_ssize_t k = last - first
    cdef const double *row = table + WIDTH * k
    cdef const double *now = table + WIDTH * last
    cdef double p, u
    cdef Rule r
    if k <= 0:
        return
    if Rule is Sgd or Rule is Adagrad:
        shrink_idle(h, table, first, last, w)
    elif Rule is Momentum or Rule is Nesterov:
        # (w, u) moves linearly, L2 and decay included: row k holds the k-th power of the matrix.
        p = w[0]
        u = a[0]
        w[0] = <real>(row[2] * p + row[3] * u)
        a[0] = <real>(row[4] * p + row[5] * u)
    elif Rule is Rmsprop:
        a[0] = <real>(a[0] * row[6])
        if h[3] != 0:
            c[0] = <real>(c[0] * row[6])
        if h[1] != 0:
            p = w[0]
            u = b[0]
            w[0] = <real>(row[2] * p + row[3] * u)
            b[0] = <real>(row[4] * p + row[5] * u)
        else:
            shrink_idle(h, table, first, last, w)
    elif Rule is Adam:
        adam_idle(h, table, first, last, w, a, b, c)
    elif Rule is Nadam:
        nadam_idle(h, table, first, last, w, a, b)
    elif Rule is Adamax:
        if a[0] != 0 or h[9] != 0:
            p = shrinkage(h, table, first, last)
            w[0] = <real>(w[0] * p - motion(h, table, first, last, a[0], b[0], p, row[5], row[6], False))
        a[0] = <real>(a[0] * row[5])
        b[0] = <real>(b[0] * row[6])
    elif Rule is Adadelta:
        a[0] = <real>(a[0] * row[6])
        b[0] = <real>(b[0] * row[6])
        shrink_idle(h, table, first, last, w)
    elif Rule is Ftrl or Rule is FtrlPower:     # w is a function of the sums and of the last step's learning rate alone
        r = read(tag, h, now)
        w[0] = ftrl_weight(r, ftrl_root(r, a[0]), b[0])
    elif Rule is Lion:
        if h[5] > 0:
            lion_idle_l1(h, table, first, last, w, a)
            return
        # m keeps its sign, so that only the learning rates add up. Step by step it never gets to zero, either: rounded
        # to nearest, more than half of the smallest number there is is that number.
        p = <double>(a[0] > 0) - <double>(a[0] < 0)
        w[0] -= <real>((now[2] - table[WIDTH * first + 2]) * p)
        a[0] = <real>(a[0] * row[6])
        if a[0] == 0:
            if real is float:
                a[0] = <real>(p * 1.4e-45)
            else:
                a[0] = <real>(p * 5e-324)
    elif Rule is ScheduleFreeSgd or Rule is ScheduleFreeAdamw:
        # z rests and y approaches it by the factors 1 - c of the steps, whose product is a ratio of two sums.
        p = now[4]
        u = table[WIDTH * first + 4] / p if p > 0 else 1.0
        w[0] = <real>(a[0] + u * (w[0] - a[0]))
        if Rule is ScheduleFreeAdamw:
            b[0] = <real>(b[0] * row[6])


cdef inline double shrinkage(const double *h, const double *table, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    """Product of the factors that act on w alone (decoupled decay; plain L2), from the sums of their logarithms."""
    if h[9] == 0:
        return 1.0
    return exp(table[WIDTH * last + 7] - table[WIDTH * first + 7])


cdef inline void shrink_idle(const double *h, const double *table, Py_ssize_t first, Py_ssize_t last,
                             real *w) noexcept nogil:
    if h[9] != 0:
        w[0] = <real>(w[0] * shrinkage(h, table, first, last))


cdef inline void adam_idle(const double *h, const double *table, Py_ssize_t first, Py_ssize_t last,
                           real *w, real *a, real *b, real *c) noexcept nogil:
    cdef const double *row = table + WIDTH * (last - first)
    cdef double p, step
    if a[0] != 0 or h[9] != 0:
        p = shrinkage(h, table, first, last)
        if h[8] != 0:                   # AMSGrad's root rests: the sum of beta_1^j gain(t + j) is tabulated
            step = a[0] / (sqrt(c[0]) + h[2])
            step *= p * table[WIDTH * first + 2] - row[5] * table[WIDTH * last + 2]
        else:
            step = motion(h, table, first, last, a[0], b[0], p, row[5], row[6], True)
        w[0] = <real>(w[0] * p - step)
        a[0] = <real>(a[0] * row[5])
    b[0] = <real>(b[0] * row[6])


cdef inline double motion(const double *h, const double *table, Py_ssize_t first, Py_ssize_t last, double m,
                          double v, double shrunk, double m_decay, double v_decay, bint rooted) noexcept nogil:
    """sum_{j=1..k} D^(k-j) beta_1^j gain(t + j) m / (s_j + eps), s_j = sqrt(v beta_2^j) or v beta_2^j, D the decay.

    Few steps, and all steps while bias correction is not yet smooth, go one by one; else the sum is the difference of
    two infinite tails, tail(first) D^k - tail(last), each by 3-node Gauss quadrature.
    """
    cdef double total = 0
    cdef Py_ssize_t step
    if last - first <= FEW or first < h[6]:
        if last - first > h[7]:         # beta_1^j is below rounding from there on
            shrunk = exp(table[WIDTH * last + 7] - table[WIDTH * (first + <Py_ssize_t>h[7]) + 7])
            last = first + <Py_ssize_t>h[7]
        else:
            shrunk = 1
        for step in range(first + 1, last + 1):
            m *= h[0]
            v *= h[1]
            total *= table[WIDTH * step]
            total += table[WIDTH * step + 1] * m / ((sqrt(v) if rooted else v) + h[2])
        return total * shrunk
    v = sqrt(v) if rooted else v
    total = shrunk * m * tail(h, table + WIDTH * first + 2, h[2], h[2], h[2], v)
    m *= m_decay
    if m != 0:
        v *= sqrt(v_decay) if rooted else v_decay
        total -= m * tail(h, table + WIDTH * last + 2, h[2], h[2], h[2], v)
    return total


cdef inline double tail(const double *h, const double *q, double eps_1, double eps_2, double eps_3,
                        double root) noexcept nogil:
    """sum_{j >= 1} of `motion` for m = 1, in quadrature: q[0..2] weight times gain, h[3..5] the decay of the root."""
    cdef double d1 = root * h[3] + eps_1, d2 = root * h[4] + eps_2, d3 = root * h[5] + eps_3
    return (q[0] * d2 * d3 + q[1] * d1 * d3 + q[2] * d1 * d2) / (d1 * d2 * d3)      # one division, not three


cdef inline void nadam_idle(const double *h, const double *table, Py_ssize_t first, Py_ssize_t last,
                            real *w, real *a, real *b) noexcept nogil:
    """As `motion`. The root's own bias correction is in the gains, and in the eps beside the bare root."""
    cdef const double *row = table + WIDTH * (last - first)
    cdef Py_ssize_t step, stop = last
    cdef double p = w[0], m = a[0], v = b[0], root
    if last - first > FEW and first >= h[6]:
        p = shrinkage(h, table, first, last)
        root = sqrt(v)
        v = p * m * nadam_tail(h, table, first, root)
        m *= row[5]
        if m != 0:
            v -= m * nadam_tail(h, table, last, root * sqrt(row[6]))
        w[0] = <real>(w[0] * p - v)
    else:
        if last - first > h[7]:
            stop = first + <Py_ssize_t>h[7]
        for step in range(first + 1, stop + 1):
            m *= h[0]
            v *= h[1]
            p *= table[WIDTH * step]
            p -= table[WIDTH * step + 1] * m / (sqrt(v) * table[WIDTH * step + 3] + h[2])
        w[0] = <real>(p * shrinkage(h, table, stop, last))
    a[0] = <real>(a[0] * row[5])
    b[0] = <real>(b[0] * row[6])


cdef inline const double *second(const double *h, const double *table, Py_ssize_t step) noexcept nogil:
    """Nadam's second row of a step, in the table's second half: weights times gains at the nodes, and their eps."""
    return table + WIDTH * (<Py_ssize_t>h[8] + step)


cdef inline double nadam_tail(const double *h, const double *table, Py_ssize_t step, double root) noexcept nogil:
    cdef const double *q = second(h, table, step)
    return tail(h, q, q[3], q[4], q[5], root)


cdef inline void lion_idle_l1(const double *h, const double *table, Py_ssize_t first, Py_ssize_t last,
                              real *w, real *a) noexcept nogil:
    """Idle steps with L1 of strength h[5]: m nears l1 sign(w), so that |w| rises for a while at the most, then falls to
    zero and rests. Rows of the table: [2] the sum of the learning rates, [6] the powers of beta_2."""
    cdef Py_ssize_t turn = first, lo, hi
    cdef double l1 = h[5], sign = 1 if w[0] > 0 else -1, x = sign * w[0], m = sign * a[0], low
    if w[0] != 0:
        if l1 + h[0] * (m - l1) < 0:    # step k rises while l1 + beta_1 (m - l1) beta_2^(k - 1) < 0
            low = ceil(log(l1 / (h[0] * (l1 - m))) / log(h[1]))
            turn = last if low >= last - first else first + max(<Py_ssize_t>1, <Py_ssize_t>low)
            x += table[WIDTH * turn + 2] - table[WIDTH * first + 2]
        low = x + table[WIDTH * turn + 2]
        lo, hi = turn, last             # it is zero from the first step on at which the sum of the rates is `low`
        if table[WIDTH * last + 2] + NEAR * table[WIDTH * last + 1] < low:
            x = low - table[WIDTH * last + 2]
        else:
            x = 0
            while hi - lo > 1:
                turn = (lo + hi) // 2
                if table[WIDTH * turn + 2] + NEAR * table[WIDTH * turn + 1] < low:
                    lo = turn
                else:
                    hi = turn
        m = l1 + (m - l1) * table[WIDTH * (hi - first) + 6]
        first = hi
    w[0] = <real>(sign * x) if x > 0 else <real>0
    a[0] = <real>(sign * m * table[WIDTH * (last - first) + 6])
