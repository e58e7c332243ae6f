"""Epochs on dense rows: batches through the stages predict -> slope -> scatter -> update.

The order of the rows and the learning rates are inputs. Plain SGD scatters straight into w, which is kept as
scale * v so that L2 costs nothing per coordinate; a batch that does not stay in the cache, and one of several outputs,
is summed first, block by block, so that X crosses the memory bus once. Nothing is allocated inside a loop.
"""
from libc.string cimport memset

from fastopt._kernels.block cimport (ROWS, axpys, dots, lone_outputs_axpy, lone_outputs_dot, many_axpy, many_dot,
                                     outputs_axpy, outputs_dot, packed_width)
from fastopt._kernels.plan cimport (Plan, begin_scores, intercept_gradient, lone_slope, plain_intercept, point,
                                    scalars, shrink, slopes, step_all)
from fastopt._kernels.portable cimport prefetch, prefetch_l2, real
from fastopt._kernels.row cimport AHEAD, LINE, LONG, axpy, dot, prefetch_row, scaled
from fastopt._kernels.rule cimport MAX_SLOTS, SGD

cdef enum:
    # Bytes of rows that stay in the second-level cache between the stages, beside those asked for ahead; and rows: as
    # many as memory delivers while a row is asked for, so that short ones are in the first-level cache when added.
    BYTES = 262144
    TALL = 32
    # From so many rows on, packing several outputs into whole vectors costs less than it saves.
    PACK = 8


def width(Py_ssize_t n_outputs, Py_ssize_t itemsize):
    """Numbers that a feature's outputs take when packed: K and zeros, whole vectors."""
    return packed_width(n_outputs, itemsize)


def epoch(Plan plan, const real[:, :] X, real[:, ::1] params, real[:, ::1] z, real[:, ::1] packed,
          Py_ssize_t start, Py_ssize_t stop):
    """Steps start .. stop - 1 of the epoch on dense rows (contiguous each, at any distance).

    `packed` has `width` columns; rows for w's features, as many for the gradient's, 4 for scores. One output: any.
    """
    cdef Py_ssize_t step, lo, b, i, m, d = plan.n_features, K = plan.n_outputs, n = plan.order.shape[0]
    cdef Py_ssize_t stride = X.strides[0] // <Py_ssize_t>sizeof(real)
    cdef Py_ssize_t block = max(4 * ROWS, min(<Py_ssize_t>TALL, BYTES // max(1, d * <Py_ssize_t>sizeof(real))))
    cdef real *p[MAX_SLOTS + 1]
    cdef Rows r
    cdef const real *x0 = &X[0, 0]
    cdef const real *x
    cdef real *g = &params[params.shape[0] - 1, 0]
    cdef real *w
    cdef real *room
    cdef real a
    cdef double lr
    cdef bint plain = plan.rule == SGD and not plan.eager, packs
    point(plan, params, p)
    w = p[0]
    r.d, r.stride, r.width = d, stride, packed.shape[1]
    with nogil:
        for step in range(start, stop):
            lo = step * plan.batch_size
            b = min(plan.batch_size, n - lo)
            packs = K > 1 and b >= PACK
            room = &packed[0, 0] if packs else NULL
            lr = scalars(plan, step)[1]
            if b == 1 and K == 1:
                x = x0 + plan.order[lo] * stride
                a = <real>lone_slope(plan, plan.order[lo], score(plan, r, x0, x, w, lo))
                if plain:
                    shrink(plan, scalars(plan, step)[0] - lr * plan.alpha, w)
                    axpy(<real>(-lr / plan.scale) * a, x, w, d)
                    plain_intercept(plan, 1, &a, w, <real>lr)
                else:
                    scaled(a, x, g, d)
                    intercept_gradient(plan, 1, &a, g)
                    step_all(plan, step, p, g, params)
                continue
            if plain and not packs and b <= block:
                scores(plan, r, x0, w, room, lo, b, &z[0, 0])
                slopes(plan, lo, b, b, &z[0, 0])
                shrink(plan, scalars(plan, step)[0] - lr * plan.alpha, w)
                add(plan, r, x0, w, room, lo, b, &z[0, 0], <real>(-lr / plan.scale))
                plain_intercept(plan, b, &z[0, 0], w, <real>lr)
                continue
            memset(g, 0, d * K * sizeof(real))
            if packs:
                pack(w, room, d, K, r.width)
                memset(room + d * r.width, 0, d * r.width * sizeof(real))
            i = 0
            while i < b:
                m = min(block, b - i)
                scores(plan, r, x0, w, room, lo + i, m, &z[i, 0])
                slopes(plan, lo + i, m, b, &z[i, 0])
                add(plan, r, x0, g, room, lo + i, m, &z[i, 0], <real>1)
                i += m
            if packs:
                unpack(room + d * r.width, g, d, K, r.width)
            if plain:
                shrink(plan, scalars(plan, step)[0] - lr * plan.alpha, w)
                axpy(<real>(-lr / plan.scale), g, w, d * K)
                plain_intercept(plan, b, &z[0, 0], w, <real>lr)
            else:
                intercept_gradient(plan, b, &z[0, 0], g)
                step_all(plan, step, p, g, params)


cdef struct Rows:
    Py_ssize_t d, stride, width


cdef inline void pack(const real *w, real *room, Py_ssize_t d, Py_ssize_t K, Py_ssize_t width) noexcept nogil:
    cdef Py_ssize_t j, c
    for j in range(d):
        for c in range(K):
            room[j * width + c] = w[j * K + c]


cdef inline void unpack(const real *room, real *g, Py_ssize_t d, Py_ssize_t K, Py_ssize_t width) noexcept nogil:
    cdef Py_ssize_t j, c
    for j in range(d):
        for c in range(K):
            g[j * K + c] = room[j * width + c]


cdef inline real score(Plan plan, Rows r, const real *x0, const real *x, const real *w, Py_ssize_t at) noexcept nogil:
    """The raw prediction of one row, one output."""
    cdef real z
    look_ahead(plan, r, x0, at + AHEAD, 0, 1)
    begin_scores(plan, w, &z)
    return z + <real>plan.scale * dot(x, w, r.d)


cdef inline void look_ahead(Plan plan, Rows r, const real *x0, Py_ssize_t at, Py_ssize_t odd,
                            Py_ssize_t m) noexcept nogil:
    """Asks for every other one of m rows of the order. The two loops over a block ask for one half each of the next
    block's rows, so that memory has work in both."""
    cdef Py_ssize_t k = at + odd, row
    while k < min(at + m, plan.order.shape[0]):
        row = plan.order[k]
        prefetch_l2(&plan.y[row * plan.n_targets])
        prefetch_row(x0 + row * r.stride, r.d)
        k += 2


cdef inline void coming(Plan plan, Rows r, const real *x0, Py_ssize_t at, Py_ssize_t odd, const real **x,
                        const real **next) noexcept nogil:
    """`look_ahead` for ROWS rows, whose lines the loop over the rows x asks for; where there is none, x stands in."""
    cdef Py_ssize_t k, row, n = plan.order.shape[0]
    if r.d * <Py_ssize_t>sizeof(real) > LONG:
        look_ahead(plan, r, x0, at, odd, ROWS)
        n = 0
    for k in range(ROWS // 2):
        next[k] = x[k]
        if at + 2 * k + odd < n:
            row = plan.order[at + 2 * k + odd]
            prefetch_l2(&plan.y[row * plan.n_targets])
            next[k] = x0 + row * r.stride


cdef inline void arrive(Plan plan, Rows r, const real *x0, Py_ssize_t at) noexcept nogil:
    """Asks for ROWS rows of three or four lines in the first-level cache, their ends first: read from front to end,
    they would be taken for a stream, and memory be kept busy with lines that nobody needs (1.2x)."""
    cdef Py_ssize_t k, i, size = r.d * sizeof(real)
    cdef const char *x
    if size <= 2 * LINE or size > 4 * LINE:
        return
    for k in range(ROWS):
        x = <const char *>(x0 + plan.order[at + k] * r.stride)
        prefetch(x + size - 1)
        for i in range((size - 1) // LINE):
            prefetch(x + i * LINE)


cdef inline void scores(Plan plan, Rows r, const real *x0, const real *w, real *room, Py_ssize_t lo, Py_ssize_t b,
                        real *z) noexcept nogil:
    """Raw predictions of the rows lo .. lo + b - 1 of the order; `room` holds w if it is packed."""
    cdef Py_ssize_t i = 0, k, m, c, K = plan.n_outputs, ahead = max(b, <Py_ssize_t>AHEAD)
    cdef const real *x[4]
    cdef const real *next[2]
    cdef real sums[4]
    cdef real *t
    cdef real scale = <real>plan.scale
    while i < b:
        m = ROWS if i + ROWS <= b else 1
        for k in range(m):
            x[k] = x0 + plan.order[lo + i + k] * r.stride
            begin_scores(plan, w, z + (i + k) * K)
        if room != NULL or K > 1 or m == 1:
            look_ahead(plan, r, x0, lo + i + ahead, i % 2, m)
        if room != NULL:
            t = room + 2 * r.d * r.width
            memset(t, 0, m * r.width * sizeof(real))
            if m == ROWS:
                many_dot(x, room, r.d, r.width, <real>1, t)
            else:
                outputs_dot(x[0], room, r.d, r.width, <real>1, t)
            for k in range(m):
                for c in range(K):
                    z[(i + k) * K + c] += scale * t[k * r.width + c]
        elif K > 1:
            for k in range(m):
                lone_outputs_dot(x[k], w, r.d, K, scale, z + (i + k) * K)
        elif m == 1:
            z[i] += scale * dot(x[0], w, r.d)
        else:
            coming(plan, r, x0, lo + i + ahead, i % 2, x, next)
            if i + 2 * ROWS <= b:
                arrive(plan, r, x0, lo + i + ROWS)
            dots(x, next, w, r.d, sums)
            for k in range(m):
                z[i + k] += scale * sums[k]
        i += m


cdef inline void add(Plan plan, Rows r, const real *x0, real *target, real *room, Py_ssize_t lo, Py_ssize_t b,
                     const real *z, real rate) noexcept nogil:
    """target += rate * sum of slope times row; with `room` its second part is the target."""
    cdef Py_ssize_t i = 0, k, m, c, K = plan.n_outputs, ahead = max(b, <Py_ssize_t>AHEAD)
    cdef const real *x[4]
    cdef const real *next[2]
    cdef real a[4]
    cdef real *t
    while i < b:
        m = ROWS if i + ROWS <= b else 1
        for k in range(m):
            x[k] = x0 + plan.order[lo + i + k] * r.stride
        if room != NULL or K > 1 or m == 1:
            look_ahead(plan, r, x0, lo + i + ahead, (i + 1) % 2, m)
        if room != NULL:
            t = room + 2 * r.d * r.width
            memset(t, 0, m * r.width * sizeof(real))
            for k in range(m):
                for c in range(K):
                    t[k * r.width + c] = rate * z[(i + k) * K + c]
            if m == ROWS:
                many_axpy(x, room + r.d * r.width, r.d, r.width, <real>1, t)
            else:
                outputs_axpy(x[0], room + r.d * r.width, r.d, r.width, <real>1, t)
        elif K > 1:
            for k in range(m):
                lone_outputs_axpy(x[k], target, r.d, K, rate, z + (i + k) * K)
        elif m == 1:
            axpy(rate * z[i], x[0], target, r.d)
        else:
            for k in range(m):
                a[k] = rate * z[i + k]
            coming(plan, r, x0, lo + i + ahead, (i + 1) % 2, x, next)
            axpys(a, x, next, target, r.d)
        i += m
