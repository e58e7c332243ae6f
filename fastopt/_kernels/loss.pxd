"""Pointwise losses: a tag struct with the loss's parameter, `value` and `slope` one branch each.

y is the target (+1 or -1 for the classifiers' losses), z = x.w + b the raw prediction.
All sums over rows are in double, so these are too; none overflows at any finite margin.
"""
from libc.math cimport exp, fabs, log, log1p

from fastopt._kernels.portable cimport real

cdef enum LossKind:
    LOG_LOSS, MULTINOMIAL, SQUARED_ERROR, SQUARED_HINGE, HUBER

cdef struct Logistic:
    double unused

cdef struct SquaredError:
    double unused

cdef struct SquaredHinge:
    double unused

cdef struct Huber:
    double epsilon

ctypedef fused Loss:
    Logistic
    SquaredError
    SquaredHinge
    Huber


cdef inline double value(Loss p, double y, double z) noexcept nogil:
    cdef double m
    if Loss is Logistic:                # log(1 + exp(-y z)), the exponent never positive
        m = y * z
        if m > 0:
            return log1p(exp(-m))
        return log1p(exp(m)) - m
    elif Loss is SquaredError:          # (z - y)^2 / 2
        return 0.5 * (z - y) * (z - y)
    elif Loss is SquaredHinge:          # max(0, 1 - y z)^2
        m = 1 - y * z
        return m * m if m > 0 else 0.0
    elif Loss is Huber:
        m = fabs(z - y)
        if m <= p.epsilon:
            return 0.5 * m * m
        return p.epsilon * m - 0.5 * p.epsilon * p.epsilon


cdef inline double slope(Loss p, double y, double z) noexcept nogil:
    cdef double m
    if Loss is Logistic:                # exp may reach inf: the quotient is then the right 0
        return -y / (1 + exp(y * z))
    elif Loss is SquaredError:
        return z - y
    elif Loss is SquaredHinge:
        m = 1 - y * z
        return -2 * y * m if m > 0 else 0.0
    elif Loss is Huber:
        m = z - y
        if m > p.epsilon:
            return p.epsilon
        if m < -p.epsilon:
            return -p.epsilon
        return m


cdef inline double curvature(Loss p, double y, double z) noexcept nogil:
    """Second derivative in z (generalised where the loss has a kink)."""
    cdef double q
    if Loss is Logistic:
        q = exp(-fabs(z))
        return q / ((1 + q) * (1 + q))
    elif Loss is SquaredError:
        return 1.0
    elif Loss is SquaredHinge:
        return 2.0 if y * z < 1 else 0.0
    elif Loss is Huber:
        return 1.0 if fabs(z - y) <= p.epsilon else 0.0


cdef inline double softmax(real *z, Py_ssize_t n_classes, Py_ssize_t target) noexcept nogil:
    """Multinomial loss logsumexp(z) - z[target] of one row; z becomes its gradient p - e_target."""
    cdef Py_ssize_t c
    cdef double top = z[0], total = 0, z_target = z[target]
    for c in range(1, n_classes):
        if z[c] > top:
            top = z[c]
    for c in range(n_classes):
        z[c] = <real>exp(z[c] - top)
        total += z[c]
    for c in range(n_classes):
        z[c] = <real>(z[c] / total)
    z[target] -= 1
    return top - z_target + log(total)


cdef inline double value_of(int kind, double parameter, double y, double z) noexcept nogil:
    if kind == LOG_LOSS:
        return value[Logistic](Logistic(parameter), y, z)
    elif kind == SQUARED_ERROR:
        return value[SquaredError](SquaredError(parameter), y, z)
    elif kind == SQUARED_HINGE:
        return value[SquaredHinge](SquaredHinge(parameter), y, z)
    return value[Huber](Huber(parameter), y, z)


cdef inline double slope_of(int kind, double parameter, double y, double z) noexcept nogil:
    if kind == LOG_LOSS:
        return slope[Logistic](Logistic(parameter), y, z)
    elif kind == SQUARED_ERROR:
        return slope[SquaredError](SquaredError(parameter), y, z)
    elif kind == SQUARED_HINGE:
        return slope[SquaredHinge](SquaredHinge(parameter), y, z)
    return slope[Huber](Huber(parameter), y, z)


cdef inline double curvature_of(int kind, double parameter, double y, double z) noexcept nogil:
    if kind == LOG_LOSS:
        return curvature[Logistic](Logistic(parameter), y, z)
    elif kind == SQUARED_ERROR:
        return curvature[SquaredError](SquaredError(parameter), y, z)
    elif kind == SQUARED_HINGE:
        return curvature[SquaredHinge](SquaredHinge(parameter), y, z)
    return curvature[Huber](Huber(parameter), y, z)
