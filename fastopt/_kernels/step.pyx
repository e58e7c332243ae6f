"""One update of an array by any rule: what `Optimizer.step` calls."""
from fastopt._kernels.portable cimport real
from fastopt._kernels.rule cimport ADAM, MAX_SLOTS, MOMENTUM, NESTEROV, SGD, WIDTH
from fastopt._kernels.update cimport update_all

TABLE_WIDTH = WIDTH

# The rules' numbers inside the kernels, by `Optimizer._kernel`.
RULES = {"sgd": SGD, "momentum": MOMENTUM, "nesterov": NESTEROV, "adam": ADAM}


def dense(int kind, const double[::1] hyper, const double[::1] row, real[::1] w, const real[::1] g,
          real[::1] a, real[::1] b, real[::1] c):
    """w and the slots a, b, c take one step with gradient g, in place; an unused slot is an empty array."""
    cdef Py_ssize_t n = w.shape[0]
    cdef real *p[MAX_SLOTS + 1]
    if n == 0:
        return
    p[0] = &w[0]
    p[1] = &a[0] if a.shape[0] == n else &w[0]
    p[2] = &b[0] if b.shape[0] == n else &w[0]
    p[3] = &c[0] if c.shape[0] == n else &w[0]
    with nogil:
        update_all(kind, &hyper[0], &row[0], p, &g[0], 0, n)
