"""One update of an array by any rule: what `Optimizer.step` and `Optimizer.catch_up` call."""
from libc.stdint cimport int32_t, int64_t

from fastopt._kernels.portable cimport real
from fastopt._kernels.row cimport LINE
from fastopt._kernels.rule cimport (ADADELTA, ADAGRAD, ADAM, ADAMAX, FTRL, FTRL_POWER, LION, MAX_SLOTS, MOMENTUM,
                                    NADAM, NESTEROV, RMSPROP, SCHEDULE_FREE_ADAMW, SCHEDULE_FREE_SGD, SGD, WIDTH)
from fastopt._kernels.update cimport average_all, idle_columns, update_all

cdef enum:
    # Elements from which on a step minds where its arrays begin.
    LARGE = 4096

TABLE_WIDTH = WIDTH
SLOTS = MAX_SLOTS

# The rules' numbers inside the kernels, by `Optimizer._kernel`.
RULES = {"sgd": SGD, "momentum": MOMENTUM, "nesterov": NESTEROV, "adagrad": ADAGRAD, "rmsprop": RMSPROP, "adam": ADAM,
         "nadam": NADAM, "adamax": ADAMAX, "adadelta": ADADELTA, "ftrl": FTRL, "ftrl_power": FTRL_POWER, "lion": LION,
         "schedule_free_sgd": SCHEDULE_FREE_SGD, "schedule_free_adamw": SCHEDULE_FREE_ADAMW}


cdef inline void point(real[::1] w, real[::1] a, real[::1] b, real[::1] c, real **p):
    p[0] = &w[0]
    p[1] = &a[0] if a.shape[0] == w.shape[0] else &w[0]
    p[2] = &b[0] if b.shape[0] == w.shape[0] else &w[0]
    p[3] = &c[0] if c.shape[0] == w.shape[0] else &w[0]


def dense(int kind, const double[::1] hyper, tuple row, real[::1] w, const real[::1] g,
          real[::1] a, real[::1] b, real[::1] c, double l1=0):
    """w and the slots a, b, c take one step with gradient g and its L1 part; an unused slot is an empty array.

    `row` is the step's row of the kernels' table. Sizes must agree; nothing is written otherwise.
    """
    cdef real *p[MAX_SLOTS + 1]
    cdef double scalars[WIDTH]
    cdef Py_ssize_t i, head = 0, n = w.shape[0]
    if g.shape[0] != n or a.shape[0] not in (0, n) or b.shape[0] not in (0, n) or c.shape[0] not in (0, n):
        raise ValueError("w, g and the slots must be of one size")
    if len(row) > WIDTH:
        raise ValueError("row must fit a row of the table")
    if n == 0:
        return
    for i in range(len(row)):
        scalars[i] = row[i]
    point(w, a, b, c, p)
    # Up to w's first whole cache line by itself: large NumPy arrays all begin 16 bytes into one, and vectors that cross
    # lines make a step half as fast.
    if n >= LARGE:
        head = (LINE - <size_t>p[0] % LINE) % LINE // <Py_ssize_t>sizeof(real)
    with nogil:
        if head > 0:
            update_all(kind, &hyper[0], scalars, p, &g[0], 0, l1, scalars[0], head, NULL)
            for i in range(MAX_SLOTS + 1):
                p[i] += head
        update_all(kind, &hyper[0], scalars, p, &g[0] + head, 0, l1, scalars[0], n - head, NULL)


# By the arrays' dtype: cheaper to call than `dense`, which has to find out.
DENSE = {"f": globals()["dense"]["float"], "d": globals()["dense"]["double"]}


def average(const real[::1] w, real[::1] ema, double momentum):
    """ema = momentum * ema + (1 - momentum) * w, in place."""
    if w.shape[0] == 0:
        return
    with nogil:
        average_all(&w[0], &ema[0], momentum, w.shape[0])


def touch(int kind, const double[::1] hyper, const double[:, ::1] table, Py_ssize_t step, const int64_t[::1] columns,
          int32_t[::1] stamp, real[::1] w, real[::1] a, real[::1] b, real[::1] c):
    """Brings columns (all of them if the list is empty) up to date through `step` steps of the table.

    The columns are valid: the caller has checked them.
    """
    cdef real *p[MAX_SLOTS + 1]
    if w.shape[0] == 0:
        return
    point(w, a, b, c, p)
    with nogil:
        idle_columns(kind, &hyper[0], &table[0, 0], step, &columns[0] if columns.shape[0] > 0 else NULL,
                     columns.shape[0] if columns.shape[0] > 0 else w.shape[0], &stamp[0], p)


def sparse(int kind, const double[::1] hyper, const double[::1] row, const int64_t[::1] columns, const real[::1] g,
           real[::1] w, real[::1] a, real[::1] b, real[::1] c):
    """The named columns, each named once, take one step with gradients g."""
    cdef Py_ssize_t k, s
    cdef real *p[MAX_SLOTS + 1]
    cdef real *q[MAX_SLOTS + 1]
    if w.shape[0] == 0:
        return
    point(w, a, b, c, p)
    with nogil:
        for k in range(columns.shape[0]):
            for s in range(MAX_SLOTS + 1):
                q[s] = p[s] + columns[k]
            update_all(kind, &hyper[0], &row[0], q, &g[k], 0, 0, row[0], 1, NULL)
