"""Pointwise losses: a tag struct with the loss's parameter, `value` and `slope` one branch each.

y is the target (+1 or -1 for the classifiers' losses), z = x.w + b the raw prediction.
All sums over rows are in double, so these are too; none overflows at any finite margin.
"""
from libc.math cimport exp as unbounded_exp
from libc.math cimport fabs, log

from fastopt._kernels.exponential cimport exp, log1p
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


cdef inline real falling(real m) noexcept nogil:
    """exp(-m), 0 where that is not a normal number."""
    if real is float:
        return <real>0 if m > <real>87.25 else exp(-m)
    else:
        return <real>0 if m > <real>708.25 else exp(-m)


cdef inline double value(Loss p, double y, double z) noexcept nogil:
    cdef double m
    if Loss is Logistic:                # log(1 + exp(-y z)), the exponent never positive
        m = y * z
        return log1p(falling(fabs(m))) + (-m if m < 0 else 0.0)
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
        return unbounded_exp(z) - y * z
    elif Loss is Gamma:
        return y * unbounded_exp(-z) + z
    elif Loss is Quantile:
        m = y - z
        return p.quantile * m if m > 0 else (p.quantile - 1) * m


cdef inline double slope(Loss p, double y, double z) noexcept nogil:
    cdef double m, q
    if Loss is Logistic:                # -y / (1 + exp(y z)), the exponent never positive
        m = y * z
        q = falling(fabs(m))
        return -y * ((q if m > 0 else 1.0) / (1 + q))
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
        return unbounded_exp(z) - y
    elif Loss is Gamma:
        return 1 - y * unbounded_exp(-z)
    elif Loss is Quantile:
        return -p.quantile if y >= z else 1 - p.quantile


cdef inline double curvature(Loss p, double y, double z) noexcept nogil:
    """Second derivative in z (generalised where the loss has a kink)."""
    cdef double q
    if Loss is Logistic:
        q = falling(fabs(z))
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
        return unbounded_exp(z)
    elif Loss is Gamma:
        return y * unbounded_exp(-z)
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
        z[c] = falling(<real>(top - z[c]))
        total += z[c]
    for c in range(n_classes):
        z[c] = <real>(z[c] / total)
    z[target] -= 1
    return top - z_target + log(total)


cdef inline void each_value(Loss p, Py_ssize_t n, const double *y, const double *z, double *out) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = value(p, y[i], z[i])


cdef inline void each_slope(Loss p, Py_ssize_t n, const double *y, real *z) noexcept nogil:
    cdef Py_ssize_t i
    if n == 1:                          # not through the checks around a vectorised loop
        z[0] = <real>slope(p, y[0], <double>z[0])
        return
    for i in range(n):
        z[i] = <real>slope(p, y[i], <double>z[i])


cdef inline void each_curvature(Loss p, Py_ssize_t n, const double *y, double *z) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        z[i] = curvature(p, y[i], z[i])


cdef inline void values_of(int kind, double parameter, Py_ssize_t n, const double *y, const double *z,
                           double *out) noexcept nogil:
    """The losses of n rows; the loop is inside the ladder, so that it vectorises."""
    if kind == LOG_LOSS:
        each_value(Logistic(parameter), n, y, z, out)
    elif kind == SQUARED_ERROR:
        each_value(SquaredError(parameter), n, y, z, out)
    elif kind == SQUARED_HINGE:
        each_value(SquaredHinge(parameter), n, y, z, out)
    elif kind == HUBER:
        each_value(Huber(parameter), n, y, z, out)
    elif kind == HINGE:
        each_value(Hinge(parameter), n, y, z, out)
    elif kind == PERCEPTRON:
        each_value(Perceptron(parameter), n, y, z, out)
    elif kind == MODIFIED_HUBER:
        each_value(ModifiedHuber(parameter), n, y, z, out)
    elif kind == EPSILON_INSENSITIVE:
        each_value(EpsilonInsensitive(parameter), n, y, z, out)
    elif kind == SQUARED_EPSILON_INSENSITIVE:
        each_value(SquaredEpsilonInsensitive(parameter), n, y, z, out)
    elif kind == POISSON:
        each_value(Poisson(parameter), n, y, z, out)
    elif kind == GAMMA:
        each_value(Gamma(parameter), n, y, z, out)
    else:
        each_value(Quantile(parameter), n, y, z, out)


cdef inline void slopes_of(int kind, double parameter, Py_ssize_t n, const double *y, real *z) noexcept nogil:
    """Raw predictions become slopes."""
    if kind == LOG_LOSS:
        each_slope(Logistic(parameter), n, y, z)
    elif kind == SQUARED_ERROR:
        each_slope(SquaredError(parameter), n, y, z)
    elif kind == SQUARED_HINGE:
        each_slope(SquaredHinge(parameter), n, y, z)
    elif kind == HUBER:
        each_slope(Huber(parameter), n, y, z)
    elif kind == HINGE:
        each_slope(Hinge(parameter), n, y, z)
    elif kind == PERCEPTRON:
        each_slope(Perceptron(parameter), n, y, z)
    elif kind == MODIFIED_HUBER:
        each_slope(ModifiedHuber(parameter), n, y, z)
    elif kind == EPSILON_INSENSITIVE:
        each_slope(EpsilonInsensitive(parameter), n, y, z)
    elif kind == SQUARED_EPSILON_INSENSITIVE:
        each_slope(SquaredEpsilonInsensitive(parameter), n, y, z)
    elif kind == POISSON:
        each_slope(Poisson(parameter), n, y, z)
    elif kind == GAMMA:
        each_slope(Gamma(parameter), n, y, z)
    else:
        each_slope(Quantile(parameter), n, y, z)


cdef inline void curvatures_of(int kind, double parameter, Py_ssize_t n, const double *y, double *z) noexcept nogil:
    """Raw predictions become second derivatives."""
    if kind == LOG_LOSS:
        each_curvature(Logistic(parameter), n, y, z)
    elif kind == SQUARED_ERROR:
        each_curvature(SquaredError(parameter), n, y, z)
    elif kind == SQUARED_HINGE:
        each_curvature(SquaredHinge(parameter), n, y, z)
    elif kind == HUBER:
        each_curvature(Huber(parameter), n, y, z)
    elif kind == HINGE:
        each_curvature(Hinge(parameter), n, y, z)
    elif kind == PERCEPTRON:
        each_curvature(Perceptron(parameter), n, y, z)
    elif kind == MODIFIED_HUBER:
        each_curvature(ModifiedHuber(parameter), n, y, z)
    elif kind == EPSILON_INSENSITIVE:
        each_curvature(EpsilonInsensitive(parameter), n, y, z)
    elif kind == SQUARED_EPSILON_INSENSITIVE:
        each_curvature(SquaredEpsilonInsensitive(parameter), n, y, z)
    elif kind == POISSON:
        each_curvature(Poisson(parameter), n, y, z)
    elif kind == GAMMA:
        each_curvature(Gamma(parameter), n, y, z)
    else:
        each_curvature(Quantile(parameter), n, y, z)


cdef inline double value_of(int kind, double parameter, double y, double z) noexcept nogil:
    cdef double out
    values_of(kind, parameter, 1, &y, &z, &out)
    return out


cdef inline double slope_of(int kind, double parameter, double y, double z) noexcept nogil:
    slopes_of(kind, parameter, 1, &y, &z)
    return z


cdef inline double curvature_of(int kind, double parameter, double y, double z) noexcept nogil:
    curvatures_of(kind, parameter, 1, &y, &z)
    return z
