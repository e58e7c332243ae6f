"""The stages of a pass over blocks of rows: raw predictions, losses and slopes, the rows' sum with the slopes."""
from fastopt._kernels.block cimport (ROWS, axpys, dots, many_axpy, many_dot, outputs_axpy, outputs_dot,
                                     sparse_outputs_axpy, sparse_outputs_dot)
from fastopt._kernels.loss cimport MULTINOMIAL, curvatures_of, slopes_of, softmax, values_of
from fastopt._kernels.portable cimport index, real
from fastopt._kernels.row cimport axpy, dot, prefetch_stream, sparse_axpy, sparse_dot

cdef enum:
    # Rows of a block at most, and bytes of its rows: half a first-level cache.
    MOST = 64
    BYTES = 16384


cdef class Terms:
    cdef int loss
    cdef double loss_parameter
    cdef const double[::1] y, weights
    cdef Py_ssize_t n_features, n_outputs, n_weights
    cdef readonly Py_ssize_t width
    cdef bint intercept


# ---- the loss of a block of rows, from their raw predictions --------------------------------------------------------

cdef inline double losses(Terms t, Py_ssize_t start, Py_ssize_t b, double *z, double *v, bint slopes) noexcept nogil:
    """Weighted sum of the losses of rows start .. start + b - 1; z becomes the weighted slopes if they are wanted."""
    cdef Py_ssize_t i, K = t.n_outputs
    cdef double total = 0
    cdef const double *y = &t.y[0]
    if t.loss == MULTINOMIAL:
        for i in range(b):
            v[i] = softmax(z + i * t.width, K, <Py_ssize_t>y[start + i])
    elif K == 1:
        values_of(t.loss, t.loss_parameter, b, y + start, z, v)
        if slopes:
            slopes_of(t.loss, t.loss_parameter, b, y + start, z)
    else:
        for i in range(b):
            values_of(t.loss, t.loss_parameter, K, y + (start + i) * K, z + i * t.width, v + i * K)
            if slopes:
                slopes_of(t.loss, t.loss_parameter, K, y + (start + i) * K, z + i * t.width)
    weigh(t, start, b, z, t.width)
    if t.loss == MULTINOMIAL or K == 1:
        if t.n_weights > 0:
            for i in range(b):
                v[i] *= t.weights[start + i]
        return sum_of(v, b)
    for i in range(b):
        if t.n_weights == 1:
            total += t.weights[start + i] * sum_of(v + i * K, K)
        elif t.n_weights == 0:
            total += sum_of(v + i * K, K)
        else:
            total += weighted_sum(&t.weights[(start + i) * K], v + i * K, K)
    return total


cdef inline void slopes(Terms t, Py_ssize_t start, Py_ssize_t b, double *z) noexcept nogil:
    """The raw predictions of rows start .. start + b - 1 become the losses' weighted slopes."""
    cdef Py_ssize_t i, K = t.n_outputs
    if t.loss == MULTINOMIAL:
        for i in range(b):
            softmax(z + i * t.width, K, <Py_ssize_t>t.y[start + i])
    elif K == 1:
        slopes_of(t.loss, t.loss_parameter, b, &t.y[start], z)
    else:
        for i in range(b):
            slopes_of(t.loss, t.loss_parameter, K, &t.y[(start + i) * K], z + i * t.width)
    weigh(t, start, b, z, t.width)


cdef inline void weigh(Terms t, Py_ssize_t start, Py_ssize_t b, double *z, Py_ssize_t width) noexcept nogil:
    """A block's slopes or curvatures, times the rows' weights."""
    cdef Py_ssize_t i, c, K = t.n_outputs
    if t.n_weights == 1:
        for i in range(b):
            for c in range(K):
                z[i * width + c] *= t.weights[start + i]
    elif t.n_weights > 1:
        for i in range(b):
            for c in range(K):
                z[i * width + c] *= t.weights[(start + i) * K + c]


cdef inline double sum_of(const double *v, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i = 0
    cdef double t0 = 0, t1 = 0, t2 = 0, t3 = 0
    while i + 4 <= n:
        t0 += v[i]
        t1 += v[i + 1]
        t2 += v[i + 2]
        t3 += v[i + 3]
        i += 4
    while i < n:
        t0 += v[i]
        i += 1
    return (t0 + t1) + (t2 + t3)


cdef inline double weighted_sum(const double *s, const double *v, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef double total = 0
    for i in range(n):
        total += s[i] * v[i]
    return total


cdef inline void curve(Terms t, Py_ssize_t start, Py_ssize_t b, double *z, double *u) noexcept nogil:
    """Each row's u = x.V becomes its weighted loss Hessian in z, times u."""
    cdef Py_ssize_t i, c, K = t.n_outputs
    cdef double mean
    if t.loss != MULTINOMIAL:
        if K == 1:
            curvatures_of(t.loss, t.loss_parameter, b, &t.y[start], z)
        else:
            for i in range(b):
                curvatures_of(t.loss, t.loss_parameter, K, &t.y[(start + i) * K], z + i * t.width)
        for i in range(b * t.width):
            u[i] *= z[i]
    else:                               # (diag(p) - p p') u
        for _ in range(b):
            softmax(z, K, 0)
            z[0] += 1
            mean = weighted_sum(z, u, K)
            for c in range(K):
                u[c] = z[c] * (u[c] - mean)
            z += t.width
            u += t.width
        u -= b * t.width
    weigh(t, start, b, u, t.width)


# ---- the rows of a block: raw predictions, and their sum with the slopes ---------------------------------------------

cdef inline Py_ssize_t height(Py_ssize_t size) noexcept nogil:
    """Rows of a block whose rows have `size` bytes."""
    cdef Py_ssize_t rows = BYTES // max(size, 1) // ROWS * ROWS
    return min(MOST, max(ROWS, rows))


cdef inline void begin(Terms t, const double *w, Py_ssize_t b, double *z) noexcept nogil:
    cdef Py_ssize_t i, c
    for i in range(b):
        for c in range(t.width):
            z[i * t.width + c] = w[t.n_features * t.width + c] if t.intercept else 0.0


cdef inline void add_intercept(Terms t, Py_ssize_t b, const double *z, double *g) noexcept nogil:
    cdef Py_ssize_t i, c
    if t.intercept:
        for i in range(b):
            for c in range(t.width):
                g[t.n_features * t.width + c] += z[i * t.width + c]


cdef inline void later(const real *x, Py_ssize_t stride, Py_ssize_t odd, const real **next) noexcept nogil:
    """Every other one of ROWS rows from x on: what a loop over the rows of a block asks for, the next block's rows.
    Beyond X they are asked for in vain, which does no harm."""
    cdef Py_ssize_t r
    for r in range((ROWS + 1) // 2):
        next[r] = x + (2 * r + odd % ROWS) * stride


cdef inline void dense_scores(Terms t, const real *x, Py_ssize_t stride, Py_ssize_t b, const double *w,
                              double *z) noexcept nogil:
    cdef Py_ssize_t i = 0, r, d = t.n_features, ahead = min(b, height(t.n_features * sizeof(real))) * stride
    cdef const real *rows[4]
    cdef const real *next[2]
    cdef double sums[4]
    begin(t, w, b, z)
    while i < b:
        rows[0] = x + i * stride
        if i + ROWS <= b:
            for r in range(1, ROWS):
                rows[r] = rows[0] + r * stride
            if t.width == 1:
                later(rows[0] + ahead, stride, 0, next)
                dots(rows, next, w, d, sums)
                for r in range(ROWS):
                    z[i + r] += sums[r]
            else:
                many_dot(rows, w, d, t.width, <double>1, z + i * t.width)
            i += ROWS
            continue
        if t.width == 1:
            z[i] += dot(rows[0], w, d)
        else:
            outputs_dot(rows[0], w, d, t.width, <double>1, z + i * t.width)
        i += 1


cdef inline void dense_add(Terms t, const real *x, Py_ssize_t stride, Py_ssize_t b, const double *z,
                           double *g) noexcept nogil:
    cdef Py_ssize_t i = 0, r, d = t.n_features
    cdef const real *rows[4]
    cdef const real *next[2]
    add_intercept(t, b, z, g)
    while i < b:
        rows[0] = x + i * stride
        if i + ROWS <= b:
            for r in range(1, ROWS):
                rows[r] = rows[0] + r * stride
            if t.width == 1:
                later(rows[0] + b * stride, stride, 1, next)
                axpys(z + i, rows, next, g, d)
            else:
                many_axpy(rows, g, d, t.width, <double>1, z + i * t.width)
            i += ROWS
            continue
        if t.width == 1:
            axpy(z[i], rows[0], g, d)
        else:
            outputs_axpy(rows[0], g, d, t.width, <double>1, z + i * t.width)
        i += 1


cdef inline void sparse_scores(Terms t, const real *x, const index *columns, const index *indptr, Py_ssize_t b,
                               const double *w, double *z, bint far) noexcept nogil:
    """Rows that are `far` are not in a near cache: the next are asked for, which the hardware alone does too late."""
    cdef Py_ssize_t i, k, n
    begin(t, w, b, z)
    for i in range(b):
        k = indptr[i]
        n = indptr[i + 1] - k
        if far:
            prefetch_stream(x + k, columns + k, n)
        if t.width == 1:
            z[0] += sparse_dot(x + k, columns + k, n, w)
        else:
            sparse_outputs_dot(x + k, columns + k, n, w, t.width, <double>1, z)
        z += t.width


cdef inline void sparse_add(Terms t, const real *x, const index *columns, const index *indptr, Py_ssize_t b,
                            const double *z, double *g, bint far) noexcept nogil:
    cdef Py_ssize_t i, k, n
    add_intercept(t, b, z, g)
    for i in range(b):
        k = indptr[i]
        n = indptr[i + 1] - k
        if far:
            prefetch_stream(x + k, columns + k, n)
        if t.width == 1:
            sparse_axpy(z[0], x + k, columns + k, n, g)
        else:
            sparse_outputs_axpy(x + k, columns + k, n, g, t.width, <double>1, z)
        z += t.width
