"""The only functions that know how a row of X lies in memory: row dot and row axpy, dense and CSR.

Here one output; block.pxd has K outputs, whose parameters of a feature are contiguous.
Dense rows are not written as identity-indexed CSR rows: that makes the axpy 2-4 times slower.
"""
from libc.stdint cimport int32_t

from fastopt._kernels.portable cimport index, prefetch, prefetch_l2, real, wide
from fastopt._kernels.vector cimport VECTOR  # and its macros

cdef enum:
    # Rows of look-ahead; the order of an epoch is known, so a row's lines are asked for this long before their use.
    AHEAD = 16
    FAR_AHEAD = 32
    LINE = 64
    # Bytes of a dense row of which AHEAD fill a quarter of a second-level cache.
    LONG = 16384
    # Bytes that a pass in the order of memory is ahead (of 512 to 8192 any will do); up to NEAR bytes need it not. On
    # text_like raw predictions take 0.84 of the time so, on flights_onehot 0.7 to 0.9, and gradients 0.9 to 1.
    STREAM_AHEAD = 2048
    NEAR = 4194304


cdef extern from *:
    """
    /* The dot product by vectors of 64 bytes, the rest by halves. A plain loop would be added up one by one, since
       sums must not be reordered, and "omp simd" is 1.3 times slower on rows of 50. */
    #ifdef FASTOPT_HAS_VECTORS
    /* t + the product of the n elements of x and w at j. */
    #define FASTOPT_AT(X, W, n, t) FASTOPT_MORE(W, n, t, FASTOPT_READ(X, W, n, x + j), FASTOPT_LOAD(W, n, w + j))
    /* What is left from j on of a dot product whose sums so far are t: a vector's halves, and so on. */
    FASTOPT_INLINE float fastopt_rest_ff(fastopt_float16 t, const float *x, const float *w, Py_ssize_t j,
                                         Py_ssize_t n) {
        fastopt_float8 c; fastopt_float4 d; float e[4];
        if (j + 16 <= n) { t = FASTOPT_AT(float, float, 16, t); j += 16; }
        c = FASTOPT_HALVES(float, 16, t);
        if (j + 8 <= n) { c = FASTOPT_AT(float, float, 8, c); j += 8; }
        d = FASTOPT_HALVES(float, 8, c);
        if (j + 4 <= n) { d = FASTOPT_AT(float, float, 4, d); j += 4; }
        FASTOPT_STORE(float, 4, e, d);
        e[0] = (e[0] + e[1]) + (e[2] + e[3]);
        for (; j < n; j++) e[0] += x[j] * w[j];
        return e[0];
    }
    #define FASTOPT_REST_DOUBLE(name, X) \\
    FASTOPT_INLINE double name(fastopt_double8 t, const X *x, const double *w, Py_ssize_t j, Py_ssize_t n) { \\
        fastopt_double4 d; double e[4]; \\
        if (j + 8 <= n) { t = FASTOPT_AT(X, double, 8, t); j += 8; } \\
        d = FASTOPT_HALVES(double, 8, t); \\
        if (j + 4 <= n) { d = FASTOPT_AT(X, double, 4, d); j += 4; } \\
        FASTOPT_STORE(double, 4, e, d); \\
        e[0] = (e[0] + e[1]) + (e[2] + e[3]); \\
        for (; j < n; j++) e[0] += x[j] * w[j]; \\
        return e[0]; \\
    }
    FASTOPT_REST_DOUBLE(fastopt_rest_fd, float)
    FASTOPT_REST_DOUBLE(fastopt_rest_dd, double)
    #define FASTOPT_DOT(name, rest, X, W, L) \\
    static inline W name(const X *x, const W *w, Py_ssize_t n) { \\
        fastopt_##W##L a = FASTOPT_ZERO(W, L), b = FASTOPT_ZERO(W, L); \\
        Py_ssize_t j = 0; \\
        for (; j + 2 * L <= n; j += 2 * L) { \\
            a = FASTOPT_AT(X, W, L, a); \\
            b = FASTOPT_MORE(W, L, b, FASTOPT_READ(X, W, L, x + j + L), FASTOPT_LOAD(W, L, w + j + L)); \\
        } \\
        return rest(FASTOPT_PLUS(W, L, a, b), x, w, j, n); \\
    }
    #else
    #define FASTOPT_DOT(name, rest, X, W, L) \\
    static W name(const X *x, const W *w, Py_ssize_t n) { \\
        W t[8] = {0}; Py_ssize_t j = 0; int l; \\
        for (; j + 8 <= n; j += 8) for (l = 0; l < 8; l++) t[l] += x[j + l] * w[j + l]; \\
        for (; j < n; j++) t[0] += x[j] * w[j]; \\
        return ((t[0] + t[1]) + (t[2] + t[3])) + ((t[4] + t[5]) + (t[6] + t[7])); \\
    }
    #endif
    FASTOPT_DOT(fastopt_dot_ff, fastopt_rest_ff, float, float, 16)
    FASTOPT_DOT(fastopt_dot_fd, fastopt_rest_fd, float, double, 8)
    FASTOPT_DOT(fastopt_dot_dd, fastopt_rest_dd, double, double, 8)
    """
    float dot_ff "fastopt_dot_ff"(const float *x, const float *w, Py_ssize_t n) noexcept nogil
    double dot_fd "fastopt_dot_fd"(const float *x, const double *w, Py_ssize_t n) noexcept nogil
    double dot_dd "fastopt_dot_dd"(const double *x, const double *w, Py_ssize_t n) noexcept nogil


cdef inline wide dot(const real *x, const wide *w, Py_ssize_t n) noexcept nogil:
    if real is float and wide is float:
        return dot_ff(x, w, n)
    elif real is float:
        return dot_fd(x, w, n)
    elif wide is double:
        return dot_dd(x, w, n)
    else:                               # parameters narrower than the data: never used
        return 0


cdef inline void axpy(wide a, const real *x, wide *w, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t j
    for j in range(n):
        w[j] += a * x[j]


cdef inline void scaled(real a, const real *x, real *out, Py_ssize_t n) noexcept nogil:
    """out = a x."""
    cdef Py_ssize_t j
    for j in range(n):
        out[j] = a * x[j]


cdef extern from *:
    """
    #include <stdint.h>
    /* Two 32-bit columns by one load: a processor adds and multiplies more often than it loads, and a row's dot product
       and axpy are little else. It also keeps gcc from vectorising the float's loop, whose gathers by halves cost more
       than they save (both together 1.2 to 1.4 times). No column is negative. */
    static inline void fastopt_two(const int32_t *columns, Py_ssize_t *first, Py_ssize_t *second) {
        uint64_t both;
        memcpy(&both, columns, sizeof both);
    #if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        *first = (Py_ssize_t)(both >> 32); *second = (Py_ssize_t)(uint32_t)both;
    #else
        *first = (Py_ssize_t)(uint32_t)both; *second = (Py_ssize_t)(both >> 32);
    #endif
    }
    """
    void two "fastopt_two"(const int32_t *columns, Py_ssize_t *first, Py_ssize_t *second) noexcept nogil


cdef inline wide sparse_dot(const real *x, const index *columns, Py_ssize_t n, const wide *w) noexcept nogil:
    cdef Py_ssize_t k = 0, a, b, c, d
    cdef wide t0 = 0, t1 = 0, t2 = 0, t3 = 0   # four chains: one alone waits for each addition
    while k + 4 <= n:
        if index is int32_t and real is float:
            two(columns + k, &a, &b)
            two(columns + k + 2, &c, &d)
        else:
            a, b, c, d = columns[k], columns[k + 1], columns[k + 2], columns[k + 3]
        t0 += x[k] * w[a]
        t1 += x[k + 1] * w[b]
        t2 += x[k + 2] * w[c]
        t3 += x[k + 3] * w[d]
        k += 4
    while k < n:
        t0 += x[k] * w[columns[k]]
        k += 1
    return (t0 + t1) + (t2 + t3)


cdef inline void sparse_axpy(wide a, const real *x, const index *columns, Py_ssize_t n, wide *w) noexcept nogil:
    cdef Py_ssize_t k = 0, i, j
    if index is int32_t:
        while k + 2 <= n:
            two(columns + k, &i, &j)
            w[i] += a * x[k]
            w[j] += a * x[k + 1]
            k += 2
    while k < n:
        w[columns[k]] += a * x[k]
        k += 1


cdef inline void prefetch_lines(const char *start, Py_ssize_t size) noexcept nogil:
    """Asks for every cache line of a piece of memory, wherever it starts."""
    cdef Py_ssize_t k = 0
    while k < size:
        prefetch_l2(start + k)
        k += LINE
    prefetch_l2(start + size - 1)


cdef inline void prefetch_row(const real *x, Py_ssize_t n) noexcept nogil:
    """Asks for a row; of one so long that AHEAD of them would not stay in the cache for its first lines only: what
    follows is the hardware prefetcher's."""
    cdef Py_ssize_t size = n * sizeof(real)
    prefetch_lines(<const char *>x, size if size <= LONG else 8 * LINE)


cdef inline bint is_far(Py_ssize_t n, Py_ssize_t size) noexcept nogil:
    """Whether n entries of so many bytes each are too many for the caches near a processor."""
    return n * size > NEAR


cdef inline void prefetch_stream(const real *x, const index *columns, Py_ssize_t n) noexcept nogil:
    """Asks for what lies STREAM_AHEAD bytes after a CSR row of n entries, as much as the row has.

    For rows that are read as they lie. Beyond the matrix it is asked for in vain, which does no harm.
    """
    cdef Py_ssize_t k = 0
    while k < n * <Py_ssize_t>sizeof(real):
        prefetch(<const char *>x + STREAM_AHEAD + k)
        k += LINE
    k = 0
    while k < n * <Py_ssize_t>sizeof(index):
        prefetch(<const char *>columns + STREAM_AHEAD + k)
        k += LINE


cdef inline void prefetch_coming_row(const Py_ssize_t *order, Py_ssize_t n, Py_ssize_t i, const real *x,
                                     const index *columns, const index *rows) noexcept nogil:
    """Asks for the CSR row that comes AHEAD rows after the i-th of the order, and long before for where it begins."""
    cdef Py_ssize_t k, m
    if i + FAR_AHEAD < n:
        prefetch(rows + order[i + FAR_AHEAD])
    if i + AHEAD < n:
        k = rows[order[i + AHEAD]]
        m = rows[order[i + AHEAD] + 1] - k
        prefetch_lines(<const char *>(x + k), m * sizeof(real))
        prefetch_lines(<const char *>(columns + k), m * sizeof(index))
