"""A softmax row's visit of dual coordinate descent: the best point p of the simplex, and its logarithms.

With p' the point before, z the raw predictions there, and q the squared length of the row's step, p maximises the dual

    -sum_k p_k log p_k + z.(p - p') - q/2 ||p - p'||^2,   so   log p_k + q (p_k - p'_k) - z_k = lambda  for every k.

Loops over classes go by LANES, up to a multiple of them: what stands behind the last class has p = 0.
"""
from libc.math cimport fabs, log

from fastopt._kernels.exponential cimport exp, log_normal

cdef enum:
    LANES = 4
    ROOM = 5    # arrays of `padded` numbers that a visit takes

cdef inline Py_ssize_t padded(Py_ssize_t n_classes) noexcept nogil:
    return (n_classes + LANES - 1) // LANES * LANES


cdef inline double total(const double *a, Py_ssize_t n) noexcept nogil:
    cdef double t[LANES]
    cdef Py_ssize_t k = LANES, i
    for i in range(LANES):
        t[i] = a[i]
    while k < n:
        for i in range(LANES):
            t[i] += a[k + i]
        k += LANES
    return (t[0] + t[1]) + (t[2] + t[3])


cdef inline double highest(const double *a, Py_ssize_t n) noexcept nogil:
    cdef double t[LANES]
    cdef Py_ssize_t k = LANES, i
    for i in range(LANES):
        t[i] = a[i]
    while k < n:
        for i in range(LANES):
            t[i] = a[k + i] if a[k + i] > t[i] else t[i]
        k += LANES
    return max(max(t[0], t[1]), max(t[2], t[3]))


cdef inline double probability(double u) noexcept nogil:
    """exp(u); 0 where it is so small that products with it would be subnormal, which take a hundred times as long."""
    cdef double p = exp(u)
    return p if p > 1e-290 else 0.0


cdef inline void normalise(double *u, double *p, Py_ssize_t n) noexcept nogil:
    """p = softmax(u), and u = log p."""
    cdef double top = highest(u, n), sum_, log_sum
    cdef Py_ssize_t k
    for k in range(n):
        u[k] -= top
        p[k] = probability(u[k])
    sum_ = total(p, n)
    log_sum = log(sum_)
    for k in range(n):
        u[k] -= log_sum
        p[k] /= sum_


cdef inline void solve(double q, const double *z, const double *old, double *u, double *p, double *x, double *w,
                       Py_ssize_t n_classes) noexcept nogil:
    """p to full precision from any start, by Newton's steps on lambda.

    For a lambda each p_k is omega(x_k + lambda + log q) / q, x = z + q old, with Wright's omega: w + log w = s (the
    iteration of Fritsch, Shafer and Crowley, of fourth order). Their sum is a convex function of lambda that rises:
    from the upper end, where the largest p alone is one, Newton's steps go down to the root and never past it.
    """
    cdef Py_ssize_t k, _, __
    cdef double top, mu = q, log_q = log(q), last = 1e300, s, r, c, sum_, slope
    for k in range(n_classes):
        x[k] = z[k] + q * old[k]
    top = x[0]
    for k in range(1, n_classes):
        top = max(top, x[k])
    for k in range(n_classes):
        x[k] -= top
    for _ in range(100):
        sum_ = slope = 0
        for k in range(n_classes):
            s = x[k] + mu + log_q
            s = s if s > -600 else -600.0
            w[k] = exp(s if s < 1 else 1.0)
            w[k] = s - log_normal(s if s > 1 else 1.0) if s > 1 else w[k] / (1 + w[k])
            for __ in range(2):
                r = s - w[k] - log_normal(w[k])
                c = (1 + w[k]) * (1 + w[k] + 2.0 / 3 * r)
                w[k] *= 1 + r / (1 + w[k]) * (c - 0.5 * r) / (c - r)
            p[k] = w[k] / q
        for k in range(n_classes):
            sum_ += p[k]
            slope += p[k] / (1 + w[k])
        # To the last digit: for large q the small p_k hang on a difference of two large numbers.
        if not (sum_ - 1 > 1e-15 and sum_ < last):
            break
        last = sum_
        mu -= (sum_ - 1) / slope
    for k in range(n_classes):
        p[k] /= sum_
        u[k] = log_normal(p[k])


cdef inline void ascend_softmax(double q, double *z, double *state, double *p, double *old, double *room,
                                Py_ssize_t n_classes) noexcept nogil:
    """A row's visit: state holds log p and is written; `old` becomes p before it. z and p are `padded` long.

    Newton's steps on the logits, until of the gain that is left (half of `left`, the squared length of Newton's step) a
    hundredth remains, or 2 % of what is gained. Where they do not get there within four, `solve`.
    """
    cdef Py_ssize_t n = padded(n_classes), k, i
    cdef double *u = room
    cdef double *h = room + n
    cdef double *r = room + 2 * n
    cdef double *a = room + 3 * n
    cdef double *b = room + 4 * n
    cdef double lam, left, first = 0, last = 0, g
    cdef bint done = False
    for k in range(n_classes):
        u[k] = state[k]
    for k in range(n_classes, n):
        u[k] = -1e300
        z[k] = -1e300
    for k in range(n):
        old[k] = p[k] = probability(u[k])
        h[k] = u[k] - z[k]
    for i in range(5):
        for k in range(n):
            r[k] = 1 / (1 + q * p[k])
            a[k] = p[k] * r[k]
            b[k] = a[k] * h[k]
        lam = total(b, n) / total(a, n)
        for k in range(n):
            g = h[k] - lam
            b[k] = a[k] * g * g
            r[k] *= -g
        for k in range(n_classes, n):
            r[k] = 0
        left = total(b, n)
        if i == 0:
            first = left
        elif highest(r, n) > 1:         # a class with next to no share wants to grow: `left` does not see it
            pass
        elif left <= 0.01 * first or left <= 4e-30 * (1 + fabs(lam) + q) * (1 + fabs(lam) + q) / (1 + q):
            done = True
            break
        else:
            for k in range(n):
                g = p[k] - old[k]
                b[k] = g * (z[k] - 0.5 * q * g) - p[k] * u[k]
            for k in range(n_classes):
                b[k] += old[k] * state[k]
            if left <= 0.02 * total(b, n):
                done = True
                break
        if i > 1 and not left < 0.5 * last:
            break
        last = left
        if i == 4:
            break
        for k in range(n):
            u[k] += r[k]
        normalise(u, p, n)
        for k in range(n):
            h[k] = u[k] + q * (p[k] - old[k]) - z[k]
    if not done:
        if q > 1e-8:
            solve(q, z, old, u, p, h, r, n_classes)
        else:                           # nothing of the row's own step is felt
            for k in range(n):
                u[k] = z[k]
            normalise(u, p, n)
    for k in range(n_classes):
        state[k] = u[k]
