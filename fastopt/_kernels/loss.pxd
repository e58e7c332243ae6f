"""Pointwise losses: a tag struct with the loss's parameter, `value` and `slope` one branch each.

y is the target (+1 or -1 for the classifiers' losses), z = x.w + b the raw prediction.
All sums over rows are in double, so these are too; none overflows at any finite margin.
"""
from libc.math cimport exp, fabs, log, log1p

from fastopt._kernels.portable cimport real

cdef enum LossKind:
    LOG_LOSS, MULTINOMIAL, SQUARED_ERROR, SQUARED_HINGE, HUBER, HINGE, PERCEPTRON, MODIFIED_HUBER
    EPSILON_INSENSITIVE, SQUARED_EPSILON_INSENSITIVE, POISSON, GAMMA, QUANTILE

cdef struct Logistic:
    double unused

cdef struct SquaredError:
    double unused

cdef struct SquaredHinge:
    double unused

cdef struct Huber:
    double epsilon

cdef struct Hinge:
    double unused

cdef struct Perceptron:
    double unused

cdef struct ModifiedHuber:
    double unused

cdef struct EpsilonInsensitive:
    double epsilon

cdef struct SquaredEpsilonInsensitive:
    double epsilon

cdef struct Poisson:
    double unused

cdef struct Gamma:
    double unused

cdef struct Quantile:
    double quantile

ctypedef fused Loss:
    Logistic
    SquaredError
    SquaredHinge
    Huber
    Hinge
    Perceptron
    ModifiedHuber
    EpsilonInsensitive
    SquaredEpsilonInsensitive
    Poisson
    Gamma
    Quantile


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
    elif Loss is Hinge:                 # max(0, 1 - y z)
        m = 1 - y * z
        return m if m > 0 else 0.0
    elif Loss is Perceptron:            # max(0, -y z)
        m = -y * z
        return m if m > 0 else 0.0
    elif Loss is ModifiedHuber:         # max(0, 1 - y z)^2, linear from y z = -1 down
        m = y * z
        if m < -1:
            return -4 * m
        return (1 - m) * (1 - m) if m < 1 else 0.0
    elif Loss is EpsilonInsensitive:    # max(0, |z - y| - epsilon)
        m = fabs(z - y) - p.epsilon
        return m if m > 0 else 0.0
    elif Loss is SquaredEpsilonInsensitive:
        m = fabs(z - y) - p.epsilon
        return m * m if m > 0 else 0.0
    elif Loss is Poisson:               # infinite where exp(z) is beyond double
        return exp(z) - y * z
    elif Loss is Gamma:
        return y * exp(-z) + z
    elif Loss is Quantile:
        m = y - z
        return p.quantile * m if m > 0 else (p.quantile - 1) * m


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
    elif Loss is Hinge:                 # the kinks' conventions are scikit-learn's
        return -y if y * z <= 1 else 0.0
    elif Loss is Perceptron:
        return -y if y * z <= 0 else 0.0
    elif Loss is ModifiedHuber:
        m = y * z
        if m < -1:
            return -4 * y
        return -2 * y * (1 - m) if m < 1 else 0.0
    elif Loss is EpsilonInsensitive:
        m = z - y
        if m > p.epsilon:
            return 1.0
        return -1.0 if m < -p.epsilon else 0.0
    elif Loss is SquaredEpsilonInsensitive:
        m = z - y
        if m > p.epsilon:
            return 2 * (m - p.epsilon)
        return 2 * (m + p.epsilon) if m < -p.epsilon else 0.0
    elif Loss is Poisson:
        return exp(z) - y
    elif Loss is Gamma:
        return 1 - y * exp(-z)
    elif Loss is Quantile:
        return -p.quantile if y >= z else 1 - p.quantile


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
    elif Loss is ModifiedHuber:
        q = y * z
        return 2.0 if -1 <= q < 1 else 0.0
    elif Loss is SquaredEpsilonInsensitive:
        return 2.0 if fabs(z - y) > p.epsilon else 0.0
    elif Loss is Poisson:
        return exp(z)
    elif Loss is Gamma:
        return y * exp(-z)
    else:                               # linear pieces
        return 0.0


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
    elif kind == HUBER:
        return value[Huber](Huber(parameter), y, z)
    elif kind == HINGE:
        return value[Hinge](Hinge(parameter), y, z)
    elif kind == PERCEPTRON:
        return value[Perceptron](Perceptron(parameter), y, z)
    elif kind == MODIFIED_HUBER:
        return value[ModifiedHuber](ModifiedHuber(parameter), y, z)
    elif kind == EPSILON_INSENSITIVE:
        return value[EpsilonInsensitive](EpsilonInsensitive(parameter), y, z)
    elif kind == SQUARED_EPSILON_INSENSITIVE:
        return value[SquaredEpsilonInsensitive](SquaredEpsilonInsensitive(parameter), y, z)
    elif kind == POISSON:
        return value[Poisson](Poisson(parameter), y, z)
    elif kind == GAMMA:
        return value[Gamma](Gamma(parameter), y, z)
    return value[Quantile](Quantile(parameter), y, z)


cdef inline double slope_of(int kind, double parameter, double y, double z) noexcept nogil:
    if kind == LOG_LOSS:
        return slope[Logistic](Logistic(parameter), y, z)
    elif kind == SQUARED_ERROR:
        return slope[SquaredError](SquaredError(parameter), y, z)
    elif kind == SQUARED_HINGE:
        return slope[SquaredHinge](SquaredHinge(parameter), y, z)
    elif kind == HUBER:
        return slope[Huber](Huber(parameter), y, z)
    elif kind == HINGE:
        return slope[Hinge](Hinge(parameter), y, z)
    elif kind == PERCEPTRON:
        return slope[Perceptron](Perceptron(parameter), y, z)
    elif kind == MODIFIED_HUBER:
        return slope[ModifiedHuber](ModifiedHuber(parameter), y, z)
    elif kind == EPSILON_INSENSITIVE:
        return slope[EpsilonInsensitive](EpsilonInsensitive(parameter), y, z)
    elif kind == SQUARED_EPSILON_INSENSITIVE:
        return slope[SquaredEpsilonInsensitive](SquaredEpsilonInsensitive(parameter), y, z)
    elif kind == POISSON:
        return slope[Poisson](Poisson(parameter), y, z)
    elif kind == GAMMA:
        return slope[Gamma](Gamma(parameter), y, z)
    return slope[Quantile](Quantile(parameter), y, z)


cdef inline double curvature_of(int kind, double parameter, double y, double z) noexcept nogil:
    if kind == LOG_LOSS:
        return curvature[Logistic](Logistic(parameter), y, z)
    elif kind == SQUARED_ERROR:
        return curvature[SquaredError](SquaredError(parameter), y, z)
    elif kind == SQUARED_HINGE:
        return curvature[SquaredHinge](SquaredHinge(parameter), y, z)
    elif kind == HUBER:
        return curvature[Huber](Huber(parameter), y, z)
    elif kind == HINGE:
        return curvature[Hinge](Hinge(parameter), y, z)
    elif kind == PERCEPTRON:
        return curvature[Perceptron](Perceptron(parameter), y, z)
    elif kind == MODIFIED_HUBER:
        return curvature[ModifiedHuber](ModifiedHuber(parameter), y, z)
    elif kind == EPSILON_INSENSITIVE:
        return curvature[EpsilonInsensitive](EpsilonInsensitive(parameter), y, z)
    elif kind == SQUARED_EPSILON_INSENSITIVE:
        return curvature[SquaredEpsilonInsensitive](SquaredEpsilonInsensitive(parameter), y, z)
    elif kind == POISSON:
        return curvature[Poisson](Poisson(parameter), y, z)
    elif kind == GAMMA:
        return curvature[Gamma](Gamma(parameter), y, z)
    return curvature[Quantile](Quantile(parameter), y, z)
