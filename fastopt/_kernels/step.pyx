"""One update of an array by any rule: what `Optimizer.step` and `Optimizer.catch_up` call."""
from cpython.buffer cimport PyBUF_ND, PyBUF_WRITABLE, PyBuffer_Release
from libc.math cimport INFINITY, pow
from libc.stdint cimport int32_t, int64_t
from libc.string cimport memcpy, memset

from fastopt._kernels.portable cimport real
from fastopt._kernels.row cimport LINE
from fastopt._kernels.rule cimport (ADADELTA, ADAGRAD, ADAM, ADAMAX, FTRL, FTRL_POWER, LION, MAX_SLOTS, MOMENTUM,
                                    NADAM, NESTEROV, RMSPROP, SCHEDULE_FREE_ADAMW, SCHEDULE_FREE_SGD, SGD, WIDTH)
from fastopt._kernels.update cimport average_all, idle_columns, update_all

import numpy

cdef extern from "Python.h":
    # Declared as if they raised nothing: it is cleared.
    int PyObject_GetBuffer(object a, Py_buffer *view, int flags)
    long long PyLong_AsLongLong(object a)
    void PyErr_Clear()

cdef extern from *:
    """
    /* Compilers that see the exponent take sqrt for pow, which Python takes: they may differ in the last bit. */
    static volatile double fastopt_half = 0.5;
    """
    double HALF "fastopt_half"

cdef enum:
    # Elements from which on a step minds where its arrays begin, and lets other threads run.
    LARGE = 4096
    # Arrays of a step: w, the slots, g.
    ARRAYS = MAX_SLOTS + 2

cdef object ndarray = numpy.ndarray, FLOAT32 = numpy.dtype("float32"), FLOAT64 = numpy.dtype("float64")

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


# The gains of bias correction, of one step in C or of a table's column.
ctypedef fused number:
    double
    object


cdef inline number adam_gain(number lr, number power_1, number power_2):
    """lr sqrt(1 - beta_2^t) / (1 - beta_1^t)."""
    if number is double:
        return lr * pow(1 - power_2, HALF) / (1 - power_1)
    else:
        return lr * (1 - power_2) ** 0.5 / (1 - power_1)


cdef inline number adamax_gain(number lr, number power_1):
    """lr / (1 - beta_1^t)."""
    return lr / (1 - power_1)


cdef inline number nadam_gain(number lr, number share, number product):
    """lr share / (1 - product): of m with u_{t+1} and u_1 ... u_{t+1}, of g with 1 - u_t and u_1 ... u_t."""
    return lr * share / (1 - product)


cdef double nadam_row(const double *hyper, double lr, double t, double product, double *row) noexcept:
    """Writes Nadam's scalars of step t, the product of the u before it known; returns that product with u_t."""
    cdef double u = hyper[0] * (1 - 0.5 * pow(0.96, t)), following = hyper[0] * (1 - 0.5 * pow(0.96, t + 1))
    product *= u
    row[1] = nadam_gain(lr, following, product * following)
    row[2] = nadam_gain(lr, 1 - u, product)
    row[3] = 1 / pow(1 - pow(hyper[1], t), HALF)
    return product


cdef (double, double) schedule_free_row(int kind, const double *hyper, double lr, double t, double total, double most,
                                        double *row) noexcept:
    """Writes the scalars of step t, weight_sum and lr_max before it known; returns these two after it."""
    cdef double weight
    if hyper[6] > 0:
        lr *= min(t / hyper[6], 1.0)
    most = max(lr, most)
    weight = pow(t, hyper[4]) * pow(most, hyper[5])
    total += weight
    row[1] = lr
    row[2] = weight / total if total > 0 else 0
    row[3] = 1 / (1 - pow(hyper[2], t)) if kind == SCHEDULE_FREE_ADAMW else 1
    row[4] = total
    return total, most


cdef void step_all(int kind, const double *hyper, const double *row, real **p, const real *g, double l1,
                   Py_ssize_t n) noexcept:
    """The arrays p = w, a, b, c of n elements take one step with gradient g and its L1 part."""
    cdef Py_ssize_t i, head
    if n < LARGE:
        update_all(kind, hyper, row, p, g, 0, l1, row[0], n, NULL)
        return
    # Up to w's first whole cache line by itself: large NumPy arrays all begin 16 bytes into one, and vectors that cross
    # lines make a step half as fast.
    head = (LINE - <size_t>p[0] % LINE) % LINE // <Py_ssize_t>sizeof(real)
    with nogil:
        if head > 0:
            update_all(kind, hyper, row, p, g, 0, l1, row[0], head, NULL)
            for i in range(MAX_SLOTS + 1):
                p[i] += head
        update_all(kind, hyper, row, p, g + head, 0, l1, row[0], n - head, NULL)


def dense(int kind, const double[::1] hyper, tuple row, real[::1] w, const real[::1] g,
          real[::1] a, real[::1] b, real[::1] c, double l1=0):
    """w and the slots a, b, c take one step with gradient g and its L1 part; an unused slot is an empty array.

    `row` is the step's row of the kernels' table. Sizes must agree; nothing is written otherwise.
    """
    cdef real *p[MAX_SLOTS + 1]
    cdef double scalars[WIDTH]
    cdef Py_ssize_t n = w.shape[0]
    if g.shape[0] != n or a.shape[0] not in (0, n) or b.shape[0] not in (0, n) or c.shape[0] not in (0, n):
        raise ValueError("w, g and the slots must be of one size")
    copy_row(row, scalars)
    if n == 0:
        return
    point(w, a, b, c, p)
    step_all(kind, &hyper[0], scalars, p, &g[0], l1, n)


cdef int copy_row(tuple row, double *out) except -1:
    cdef Py_ssize_t i
    if len(row) > WIDTH:
        raise ValueError("row must fit a row of the table")
    for i in range(len(row)):
        out[i] = row[i]
    return 0


cdef class Stepper:
    """The steps of one rule on the arrays that users mostly have, at the least cost of a call.

    Built from the rule's number, its hyperparameters, the names of its slots at the kernel's positions (None for unused
    ones) and of its scalars; and where the learning rate is constant, that and a row of the table, which is every
    step's if `same`.
    """
    cdef int kind
    cdef tuple slots, scalars
    cdef double hyper[10]
    cdef double row[WIDTH]
    cdef object rate
    cdef bint constant, same

    def __init__(self, int kind, hyper, tuple slots, tuple scalars, rate, tuple row, bint same):
        cdef Py_ssize_t i
        self.kind, self.slots, self.scalars, self.rate = kind, slots, scalars, rate
        self.constant, self.same = row is not None, row is not None and same
        for i in range(10):
            self.hyper[i] = hyper[i]
        if self.constant:
            copy_row(row, self.row)

    def step(self, rule, w, g, state):
        """w and the state take one step of `rule` with gradient g. False, and nothing done, if anything is unusual."""
        cdef Py_buffer views[ARRAYS]
        cdef double row[WIDTH]
        cdef double total, most
        cdef dict known, moved = None
        cdef bint done
        cdef long long t
        cdef Py_ssize_t i
        if type(state) is not dict:
            return False
        known = state
        taken = known.get("t")
        if type(taken) is not int or "last" in known:
            return False
        t = PyLong_AsLongLong(taken)
        if t < 0 or t >> 52:            # -1 is also what is too large
            PyErr_Clear()
            return False
        t += 1
        memcpy(row, self.row, sizeof(row))
        if self.same:
            pass
        elif self.constant and self.kind == ADAM:
            row[1] = adam_gain(self.rate, pow(self.hyper[0], <double>t), pow(self.hyper[1], <double>t))
        elif self.constant and self.kind == ADAMAX:
            row[1] = adamax_gain(self.rate, pow(self.hyper[0], <double>t))
        elif self.constant and self.kind == NADAM and type(known.get("u_product")) is float:
            moved = {"u_product": nadam_row(self.hyper, self.rate, t, known["u_product"], row)}
        elif (self.constant and (self.kind == SCHEDULE_FREE_SGD or self.kind == SCHEDULE_FREE_ADAMW)
                and type(known.get("weight_sum")) is float and type(known.get("lr_max")) is float):
            total, most = schedule_free_row(self.kind, self.hyper, self.rate, t, known["weight_sum"], known["lr_max"],
                                            row)
            if not total < INFINITY:    # Python's numbers raise an error
                return False
            moved = {"weight_sum": total, "lr_max": most}
        else:
            try:
                moved = {key: known[key] for key in self.scalars}
                copy_row(rule._row(t, self.rate if self.constant else rule.rate(taken), moved), row)
            except Exception:           # it is raised when `Optimizer.step` asks again
                return False
        memset(views, 0, sizeof(views))
        done = self.export(w, g, known, views)
        if done and views[0].itemsize == sizeof(float):
            run(<float>0, self.kind, self.hyper, row, views)
        elif done:
            run(<double>0, self.kind, self.hyper, row, views)
        for i in range(ARRAYS):
            PyBuffer_Release(&views[i])
        if done:
            known["t"] = t
            if moved:
                known.update(moved)
        return done

    cdef bint export(self, w, g, dict state, Py_buffer *views) noexcept:
        """Whether w, the slots and g are what the kernel takes, which then has them in `views`, until released.

        g may be one of the others, which lie apart, but overlap none in part; `Optimizer.step` says what does.
        """
        cdef Py_ssize_t i, j
        cdef Py_buffer *last = views + ARRAYS - 1
        if not (export(w, PyBUF_WRITABLE, views, views) and export(g, 0, views, last)):
            return False
        if overlap(views, last) and views.buf != last.buf:
            return False
        for i in range(1, MAX_SLOTS + 1):
            slot = self.slots[i - 1]
            if slot is None:
                continue
            if not export(state.get(slot), PyBUF_WRITABLE, views, views + i):
                return False
            if overlap(views + i, last) and views[i].buf != last.buf:
                return False
            for j in range(i):          # unused ones are empty
                if overlap(views + i, views + j):
                    return False
        return True


cdef bint export(a, int flags, const Py_buffer *like, Py_buffer *view) noexcept:
    """Whether a is an aligned, C-contiguous array of float32 or float64, like another in shape and dtype."""
    cdef int i
    if type(a) is not ndarray:
        return False
    if PyObject_GetBuffer(a, view, PyBUF_ND | flags) != 0:
        PyErr_Clear()
        return False
    dtype, expected = a.dtype, FLOAT32 if like.itemsize == sizeof(float) else FLOAT64
    if dtype is not expected and dtype != expected:     # unpickled arrays have dtypes of their own
        return False
    if <size_t>view.buf % <size_t>like.itemsize != 0 or view.len != like.len or view.ndim != like.ndim:
        return False
    for i in range(view.ndim):
        if view.shape[i] != like.shape[i]:
            return False
    return True


cdef inline bint overlap(const Py_buffer *a, const Py_buffer *b) noexcept:
    return <size_t>a.buf < <size_t>b.buf + <size_t>b.len and <size_t>b.buf < <size_t>a.buf + <size_t>a.len


def overlapping(list arrays, bint last_may_be_one):
    """The numbers of two C-contiguous arrays that share memory, the smaller first, or None; 8 arrays at the most.

    If `last_may_be_one`, the last one may begin where another does.
    """
    cdef Py_buffer views[8]
    cdef Py_ssize_t i, j, n = len(arrays)
    if n > 8:
        raise ValueError("arrays must be 8 at the most")
    memset(views, 0, sizeof(views))
    try:
        for i in range(n):
            PyObject_GetBuffer(arrays[i], &views[i], 0)
            for j in range(i):
                if overlap(&views[i], &views[j]) and not (last_may_be_one and i == n - 1
                                                          and views[i].buf == views[j].buf):
                    return j, i
    finally:
        for i in range(n):
            PyBuffer_Release(&views[i])


cdef void run(real tag, int kind, const double *hyper, const double *row, const Py_buffer *views) noexcept:
    cdef real *p[MAX_SLOTS + 1]
    cdef Py_ssize_t i
    for i in range(MAX_SLOTS + 1):
        p[i] = <real *>views[i if views[i].buf != NULL else 0].buf
    step_all(kind, hyper, row, p, <const real *>views[ARRAYS - 1].buf, 0, views[0].len // <Py_ssize_t>sizeof(real))


def bias_corrected(lr, power_1, power_2=None):
    """`adam_gain`, or without the second power `adamax_gain`, of numbers or arrays."""
    return adamax_gain[object](lr, power_1) if power_2 is None else adam_gain[object](lr, power_1, power_2)


def nadam_gains(lr, u, following, product):
    """The factors of m and g in Nadam's step, of numbers or arrays; the product is u_1 ... u_t."""
    return nadam_gain[object](lr, following, product * following), nadam_gain[object](lr, 1 - u, product)


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
