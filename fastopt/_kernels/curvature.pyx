"""Second derivatives for Newton's method: of the losses, along a line, products with them, X' D X for few columns.

Products with kept curvature are not in passes.pyx because the compiler would inline less of its loops there.
"""
from fastopt._kernels.block cimport ROWS
from fastopt._kernels.loss cimport MULTINOMIAL, curvatures_of, softmax
from fastopt._kernels.portable cimport index, real
from fastopt._kernels.row cimport is_far
from fastopt._kernels.terms cimport (MOST, Terms, curve, dense_add, dense_scores, height, slopes, sparse_add,
                                     sparse_scores, sum_of, weigh, weighted_sum)
from fastopt._kernels.vector cimport VECTOR

cdef extern from *:
    """
    /* A tile of X' D X: out += a' b, for R columns of a panel and all of another; a panel's rows are cache lines. */
    #ifdef FASTOPT_HAS_VECTORS
    #define FASTOPT_TILE(name, W, L, R) \\
    static inline void name(const W *a, const W *b, Py_ssize_t n, double *out, Py_ssize_t stride) { \\
        fastopt_##W##L t[R], v; Py_ssize_t row; int i, j; W sums[L]; \\
        for (i = 0; i < R; i++) t[i] = FASTOPT_ZERO(W, L); \\
        for (row = 0; row < n; row++) { \\
            v = FASTOPT_LOAD(W, L, b + row * L); \\
            for (i = 0; i < R; i++) t[i] = FASTOPT_MORE_OF(W, L, t[i], a[row * L + i], v); \\
        } \\
        for (i = 0; i < R; i++) { \\
            FASTOPT_STORE(W, L, sums, t[i]); \\
            for (j = 0; j < L; j++) out[i * stride + j] += sums[j]; \\
        } \\
    }
    #else
    #define FASTOPT_TILE(name, W, L, R) \\
    static void name(const W *a, const W *b, Py_ssize_t n, double *out, Py_ssize_t stride) { \\
        W t[R][L] = {{0}}; Py_ssize_t row; int i, j; \\
        for (row = 0; row < n; row++) \\
            for (i = 0; i < R; i++) for (j = 0; j < L; j++) t[i][j] += a[row * L + i] * b[row * L + j]; \\
        for (i = 0; i < R; i++) for (j = 0; j < L; j++) out[i * stride + j] += t[i][j]; \\
    }
    #endif
    FASTOPT_TILE(fastopt_tile_f, float, 16, (2 * FASTOPT_ROWS))
    FASTOPT_TILE(fastopt_tile_d, double, 8, (2 * FASTOPT_ROWS))
    """
    void tile_f "fastopt_tile_f"(const float *a, const float *b, Py_ssize_t n, double *out,
                                 Py_ssize_t stride) noexcept nogil
    void tile_d "fastopt_tile_d"(const double *a, const double *b, Py_ssize_t n, double *out,
                                 Py_ssize_t stride) noexcept nogil


def gram(const real[:, :] X, const double[::1] factors, double[:, ::1] sums, real[::1] work,
         Py_ssize_t start, Py_ssize_t stop):
    """X' D X of rows start .. stop - 1, each times its factor, is added to the upper triangle of `sums`.

    `sums` has whole lines of the data's type; its first column beyond X's is that of a column of ones. `work` has room
    for MOST + 1 rows as long as those of `sums`, and one line more. Products, and the sums of MOST of
    them, are of the data's type.
    """
    cdef Py_ssize_t d = X.shape[1], width = sums.shape[1], stride = X.strides[0] // <Py_ssize_t>sizeof(real)
    cdef Py_ssize_t L = VECTOR // sizeof(real), row = start, b, i, j, k
    # One line more than the rows: panels a power of two apart would share their places in the cache.
    cdef Py_ssize_t panel = (MOST + 1) * L
    cdef const real *x
    cdef real *rows = <real *>((<size_t>&work[0] + VECTOR - 1) // VECTOR * VECTOR)
    cdef real *out
    cdef real s
    with nogil:
        while row < stop:
            b = min(MOST, stop - row)
            for i in range(b):
                x = &X[0, 0] + (row + i) * stride
                s = <real>factors[row + i]
                out = rows + i * L
                for k in range(width // L - 1):
                    for j in range(L):
                        out[j] = s * x[k * L + j]
                    out += panel
                k = width - L
                for j in range(L):
                    out[j] = s * x[k + j] if k + j < d else (s if k + j == d else 0)
            i = 0
            while i < min(d + 1, width):
                for k in range(i // L, width // L):
                    if real is float:
                        tile_f(rows + i // L * panel + i % L, rows + k * panel, b, &sums[i, k * L], width)
                    else:
                        tile_d(rows + i // L * panel + i % L, rows + k * panel, b, &sums[i, k * L], width)
                i += 2 * ROWS
            row += b


def symmetric(const double[:, ::1] sums, double[:, ::1] H):
    """H becomes the symmetric matrix whose upper triangle is that of `sums`."""
    cdef Py_ssize_t i, j, n = H.shape[0]
    for i in range(n):
        for j in range(i, n):
            H[i, j] = sums[i, j]
            H[j, i] = sums[i, j]


def curvatures(Terms t, double[:, ::1] z, Py_ssize_t start, Py_ssize_t stop):
    """Raw predictions become the weighted second derivatives of the losses; with softmax, the probabilities."""
    with nogil:
        bend(t, z, start, stop)
        if t.loss != MULTINOMIAL and start < stop:
            weigh(t, start, stop - start, &z[start, 0], t.n_outputs)


def bends(Terms t, double[:, ::1] z, Py_ssize_t start, Py_ssize_t stop):
    """Raw predictions, `width` numbers a row, become the losses' second derivatives without weights; with softmax, the
    probabilities."""
    with nogil:
        bend(t, z, start, stop)


cdef void bend(Terms t, double[:, ::1] z, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    """`bends` of rows that have room between them, or not."""
    cdef Py_ssize_t row, K = t.n_outputs
    if t.loss == MULTINOMIAL:
        for row in range(start, stop):
            softmax(&z[row, 0], K, 0)
            z[row, 0] += 1
    elif z.shape[1] > K:
        for row in range(start, stop):
            curvatures_of(t.loss, t.loss_parameter, K, &t.y[row * K], &z[row, 0])
    elif start < stop:
        curvatures_of(t.loss, t.loss_parameter, (stop - start) * K, &t.y[start * K], &z[start, 0])


def dense_products(Terms t, const real[:, :] X, const double[::1] v, const double[:, ::1] bends, double[::1] product,
                   double[:, ::1] work, Py_ssize_t start, Py_ssize_t stop):
    """The weighted sum of loss Hessians, of which `bends` are all rows', times v, is added to `product`."""
    cdef Py_ssize_t row = start, b, stride = X.strides[0] // <Py_ssize_t>sizeof(real)
    cdef const real *x = &X[0, 0]
    cdef Py_ssize_t block = height(t.n_features * sizeof(real))
    with nogil:
        while row < stop:
            b = min(block, stop - row)
            dense_scores(t, x + row * stride, stride, b, &v[0], &work[0, 0])
            bent(t, row, b, &bends[row, 0], &work[0, 0])
            dense_add(t, x + row * stride, stride, b, &work[0, 0], &product[0])
            row += b


def sparse_products(Terms t, const real[::1] values, const index[::1] columns, const index[::1] indptr,
                    const double[::1] v, const double[:, ::1] bends, double[::1] product, double[:, ::1] work,
                    Py_ssize_t start, Py_ssize_t stop):
    """`dense_products` on CSR rows."""
    cdef Py_ssize_t row = start, b
    cdef bint far = is_far(values.shape[0], sizeof(real) + sizeof(index))
    with nogil:
        while row < stop:
            b = min(MOST, stop - row)
            sparse_scores(t, &values[0], &columns[0], &indptr[row], b, &v[0], &work[0, 0], far)
            bent(t, row, b, &bends[row, 0], &work[0, 0])
            sparse_add(t, &values[0], &columns[0], &indptr[row], b, &work[0, 0], &product[0], False)
            row += b


cdef inline void bent(Terms t, Py_ssize_t start, Py_ssize_t b, const double *h, double *u) noexcept nogil:
    """Each row's u = x.V becomes its weighted loss Hessian, of which h is what `bends` left, times u."""
    cdef Py_ssize_t i, c, K = t.n_outputs
    cdef double mean
    if t.loss != MULTINOMIAL:
        for i in range(b * t.width):
            u[i] *= h[i]
    else:                               # (diag(p) - p p') u
        for i in range(b):
            mean = weighted_sum(h + i * t.width, u + i * t.width, K)
            for c in range(i * t.width, i * t.width + K):
                u[c] = h[c] * (u[c] - mean)
    weigh(t, start, b, u, t.width)


def along(Terms t, const double[:, ::1] z, const double[:, ::1] dz, double step, double[:, ::1] work,
          Py_ssize_t start, Py_ssize_t stop):
    """The first and second derivative, in the step, of the weighted sum of losses at raw predictions z + step dz."""
    cdef Py_ssize_t row = start, b
    cdef double first = 0, second = 0
    with nogil:
        while row < stop:
            b = min(MOST, stop - row)
            move(t, b, &z[row, 0], &dz[row, 0], step, &work[0, 0], &work[1, 0])
            slopes(t, row, b, &work[0, 0])
            first += inner(t, b, &work[0, 0], &dz[row, 0])
            move(t, b, &z[row, 0], &dz[row, 0], step, &work[0, 0], &work[1, 0])
            curve(t, row, b, &work[0, 0], &work[1, 0])
            second += inner(t, b, &work[1, 0], &dz[row, 0])
            row += b
    return first, second


cdef inline void move(Terms t, Py_ssize_t b, const double *z, const double *dz, double step, double *out,
                      double *v) noexcept nogil:
    """out = z + step dz and v = dz, with room between rows as a block has it."""
    cdef Py_ssize_t i, c, K = t.n_outputs
    if t.width == K:
        for i in range(b * K):
            out[i] = z[i] + step * dz[i]
            v[i] = dz[i]
        return
    for i in range(b):
        for c in range(K):
            out[i * t.width + c] = z[i * K + c] + step * dz[i * K + c]
            v[i * t.width + c] = dz[i * K + c]


cdef inline double inner(Terms t, Py_ssize_t b, double *u, const double *dz) noexcept nogil:
    """The sum of a block's u times dz; u is used up."""
    cdef Py_ssize_t i, K = t.n_outputs
    cdef double total = 0
    if t.width == K:
        for i in range(b * K):
            u[i] *= dz[i]
        return sum_of(u, b * K)
    for i in range(b):
        total += weighted_sum(u + i * t.width, dz + i * K, K)
    return total
