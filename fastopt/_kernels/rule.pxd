"""Update rules: a struct of this step's scalars, and one branch each in `read`, `advance` and `idle`.

`read`     fills the struct from the hyperparameters and this step's row of the table (fastopt/optimizers.py writes
           both: `_hyper()` and `_columns(t, lr)`, in the order used here).
`advance`  one step of one coordinate with gradient g; w and the state slots a, b, c are written in place.
`idle`     steps first+1 .. last, all with zero gradient, at once: exact, and O(1) in their number.
The branch is resolved at compile time (`Rule` is fused), so loops over `advance` vectorise.
Symbols are the papers': w parameter, g gradient, u velocity, m and v moving averages.
"""
from libc.math cimport pow, sqrt

from fastopt._kernels.portable cimport real

cdef enum RuleKind:
    SGD, MOMENTUM, NESTEROV, ADAM

cdef enum:
    # Doubles in a row of the table: one cache line. See `optimizers.Optimizer._table`.
    WIDTH = 8
    MAX_SLOTS = 3
    # Up to this many idle steps are cheaper one by one than in closed form.
    FEW = 4
    # The geometric weight beta_1^j of an explicit catch-up is below rounding long before this many steps at 0.9.
    MANY = 100000

cdef struct Sgd:
    double lr

cdef struct Momentum:
    double lr, mu

cdef struct Nesterov:
    double lr, mu

cdef struct Adam:
    double gain, beta_1, beta_2, eps

ctypedef fused Rule:
    Sgd
    Momentum
    Nesterov
    Adam


cdef inline Rule read(Rule r, const double *hyper, const double *row) noexcept nogil:
    if Rule is Sgd:
        r.lr = row[0]
    elif Rule is Momentum or Rule is Nesterov:
        r.lr = row[0]
        r.mu = hyper[0]
    elif Rule is Adam:
        r.gain = row[0]                 # lr sqrt(1 - beta_2^t) / (1 - beta_1^t)
        r.beta_1 = hyper[0]
        r.beta_2 = hyper[1]
        r.eps = hyper[2]
    return r


cdef inline void advance(Rule r, real *w, real g, real *a, real *b, real *c) noexcept nogil:
    cdef real u, m, v
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
    elif Rule is Adam:
        m = a[0] + (g - a[0]) * <real>(1 - r.beta_1)
        v = b[0] + (g * g - b[0]) * <real>(1 - r.beta_2)
        a[0] = m
        b[0] = v
        w[0] -= <real>r.gain * m / (<real>sqrt(v) + <real>r.eps)


cdef inline void idle(Rule r, const double *hyper, const double *table, Py_ssize_t first, Py_ssize_t last,
                      real *w, real *a, real *b, real *c) noexcept nogil:
    cdef Py_ssize_t k = last - first, step
    cdef const double *row
    cdef double p, u, m, v, root
    if k <= 0:
        return
    if Rule is Momentum or Rule is Nesterov:
        # Without a gradient (w, u) moves linearly, L2 included: row k of the table holds the k-th power of the matrix.
        row = table + WIDTH * k
        p = w[0]
        u = a[0]
        w[0] = <real>(row[1] * p + row[2] * u)
        a[0] = <real>(row[3] * p + row[4] * u)
    elif Rule is Adam:
        m = a[0]
        v = b[0]
        row = table + WIDTH * k         # row k also holds beta_1^k and beta_2^k
        if m != 0:
            p = w[0]
            if k <= FEW or first < hyper[6]:
                p -= adam_motion(hyper, table, first, last, m, v)
            else:
                # sum_{j=1..k} beta_1^j f(j) = tail(first) - tail(last), each tail by 3-node Gauss quadrature
                root = sqrt(v)
                p -= m * adam_tail(hyper, table + WIDTH * first, root)
                m *= row[4]
                if m != 0:
                    p += m * adam_tail(hyper, table + WIDTH * last, root * sqrt(row[5]))
            w[0] = <real>p
            a[0] = <real>(a[0] * row[4])
        b[0] = <real>(v * row[5])


cdef inline double adam_tail(const double *hyper, const double *row, double root) noexcept nogil:
    """sum_{j >= 1} beta_1^j gain(t + j) / (sqrt(v beta_2^j) + eps), `row` being that of step t and root sqrt(v)."""
    cdef double d1 = root * hyper[3] + hyper[2], d2 = root * hyper[4] + hyper[2], d3 = root * hyper[5] + hyper[2]
    return (row[1] * d2 * d3 + row[2] * d1 * d3 + row[3] * d1 * d2) / (d1 * d2 * d3)    # one division, not three


cdef inline double adam_motion(const double *hyper, const double *table, Py_ssize_t first, Py_ssize_t last,
                               double m, double v) noexcept nogil:
    """The same sum step by step, up to the step after which beta_1^j is below rounding."""
    cdef Py_ssize_t step
    cdef double total = 0
    if last - first > hyper[7]:
        last = first + <Py_ssize_t>hyper[7]
    for step in range(first + 1, last + 1):
        m *= hyper[0]
        v *= hyper[1]
        total += table[WIDTH * step] * m / (sqrt(v) + hyper[2])
    return total
