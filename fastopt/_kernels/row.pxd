"""The only functions that know how a row of X lies in memory: row dot and row axpy, dense and CSR.

Here one output; block.pxd has K outputs, whose parameters of a feature are contiguous.
Dense rows are not written as identity-indexed CSR rows: that makes the axpy 2-4 times slower.
"""
from libc.stdint cimport int32_t

from fastopt._kernels.portable cimport index, prefetch_l2, real, wide

cdef enum:
    # Rows of look-ahead; the order of an epoch is known, so a row's lines are asked for this long before their use.
    AHEAD = 16
    FAR_AHEAD = 32
    LINE = 64
    # Bytes of a dense row of which AHEAD fill a quarter of a second-level cache.
    LONG = 16384


cdef extern from *:
    """
    #include <string.h>
    /* The dot product by vectors of 64 bytes whatever the level (the compiler cuts them where registers are narrower),
       so that every level adds in the same order; the rest by halves. A plain loop would be added up one by one, since
       sums must not be reordered, and "omp simd" is 1.3 times slower on rows of 50. */
    #if defined(__has_builtin)
    #if __has_builtin(__builtin_shufflevector) && __has_builtin(__builtin_convertvector)
    #define FASTOPT_HAS_VECTORS
    #endif
    #endif
    #ifdef FASTOPT_HAS_VECTORS
    #define FASTOPT_VECTOR(T, n) T __attribute__((vector_size(n * sizeof(T))))
    typedef FASTOPT_VECTOR(float, 1) fastopt_float1;
    typedef FASTOPT_VECTOR(float, 2) fastopt_float2;
    typedef FASTOPT_VECTOR(float, 4) fastopt_float4;
    typedef FASTOPT_VECTOR(float, 8) fastopt_float8;
    typedef FASTOPT_VECTOR(float, 16) fastopt_float16;
    typedef FASTOPT_VECTOR(double, 1) fastopt_double1;
    typedef FASTOPT_VECTOR(double, 2) fastopt_double2;
    typedef FASTOPT_VECTOR(double, 4) fastopt_double4;
    typedef FASTOPT_VECTOR(double, 8) fastopt_double8;
    /* The product of n elements of x and w at j, as a vector of w's type. */
    #define FASTOPT_TIMES(X, W, n, x, w) __extension__ ({ \\
        fastopt_##X##n x_; fastopt_##W##n w_; \\
        memcpy(&x_, x, sizeof x_); memcpy(&w_, w, sizeof w_); \\
        __builtin_convertvector(x_, fastopt_##W##n) * w_; })
    #define FASTOPT_LOAD(W, n, w) __extension__ ({ fastopt_##W##n w_; memcpy(&w_, w, sizeof w_); w_; })
    /* What is left from j on of a dot product whose sums so far are t: a vector's halves, and so on. */
    static inline float fastopt_rest_ff(const fastopt_float16 *sums, const float *x, const float *w, Py_ssize_t j,
                                        Py_ssize_t n) {
        fastopt_float16 t = *sums; fastopt_float8 c; fastopt_float4 d; float e;
        if (j + 16 <= n) { t += FASTOPT_TIMES(float, float, 16, x + j, w + j); j += 16; }
        c = __builtin_shufflevector(t, t, 0, 1, 2, 3, 4, 5, 6, 7)
          + __builtin_shufflevector(t, t, 8, 9, 10, 11, 12, 13, 14, 15);
        if (j + 8 <= n) { c += FASTOPT_TIMES(float, float, 8, x + j, w + j); j += 8; }
        d = __builtin_shufflevector(c, c, 0, 1, 2, 3) + __builtin_shufflevector(c, c, 4, 5, 6, 7);
        if (j + 4 <= n) { d += FASTOPT_TIMES(float, float, 4, x + j, w + j); j += 4; }
        e = (d[0] + d[1]) + (d[2] + d[3]);
        for (; j < n; j++) e += x[j] * w[j];
        return e;
    }
    #define FASTOPT_REST_DOUBLE(name, X) \\
    static inline double name(const fastopt_double8 *sums, const X *x, const double *w, Py_ssize_t j, Py_ssize_t n) { \\
        fastopt_double8 t = *sums; fastopt_double4 d; double e; \\
        if (j + 8 <= n) { t += FASTOPT_TIMES(X, double, 8, x + j, w + j); j += 8; } \\
        d = __builtin_shufflevector(t, t, 0, 1, 2, 3) + __builtin_shufflevector(t, t, 4, 5, 6, 7); \\
        if (j + 4 <= n) { d += FASTOPT_TIMES(X, double, 4, x + j, w + j); j += 4; } \\
        e = (d[0] + d[1]) + (d[2] + d[3]); \\
        for (; j < n; j++) e += x[j] * w[j]; \\
        return e; \\
    }
    FASTOPT_REST_DOUBLE(fastopt_rest_fd, float)
    FASTOPT_REST_DOUBLE(fastopt_rest_dd, double)
    #define FASTOPT_DOT(name, rest, X, W, L) \\
    static inline W name(const X *x, const W *w, Py_ssize_t n) { \\
        fastopt_##W##L a = {0}, b = {0}; \\
        Py_ssize_t j = 0; \\
        for (; j + 2 * L <= n; j += 2 * L) { \\
            a += FASTOPT_TIMES(X, W, L, x + j, w + j); \\
            b += FASTOPT_TIMES(X, W, L, x + j + L, w + j + L); \\
        } \\
        a += b; \\
        return rest(&a, x, w, j, n); \\
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


cdef inline void prefetch_sparse_row(const real *x, const index *columns, Py_ssize_t n) noexcept nogil:
    prefetch_lines(<const char *>x, n * sizeof(real))
    prefetch_lines(<const char *>columns, n * sizeof(index))
