"""Loops over coordinates for every rule, and the ladder from a rule's number to its loop (3 ns, once a batch).

`p` are the parameter rows: p[0] = w, p[1..3] = the rule's slots (unused ones alias w and are never touched).
"""
from fastopt._kernels.portable cimport real
from fastopt._kernels.rule cimport (ADAM, MOMENTUM, NESTEROV, SGD, Adam, Momentum, Nesterov, Rule, Sgd,
                                    advance, read)


cdef inline void rule_all(Rule tag, const double *hyper, const double *row, real **p, const real *g,
                          double l2, Py_ssize_t n) noexcept nogil:
    """One step of n coordinates with gradient g + l2 w."""
    cdef Py_ssize_t j
    cdef Rule r = read(tag, hyper, row)
    cdef real *w = p[0]
    cdef real *a = p[1]
    cdef real *b = p[2]
    cdef real *c = p[3]
    for j in range(n):
        advance(r, &w[j], g[j] + <real>l2 * w[j], &a[j], &b[j], &c[j])


cdef inline void update_all(int kind, const double *hyper, const double *row, real **p, const real *g,
                            double l2, Py_ssize_t n) noexcept nogil:
    cdef Sgd sgd
    cdef Momentum momentum
    cdef Nesterov nesterov
    cdef Adam adam
    if kind == SGD:
        rule_all(sgd, hyper, row, p, g, l2, n)
    elif kind == MOMENTUM:
        rule_all(momentum, hyper, row, p, g, l2, n)
    elif kind == NESTEROV:
        rule_all(nesterov, hyper, row, p, g, l2, n)
    elif kind == ADAM:
        rule_all(adam, hyper, row, p, g, l2, n)
