"""Whether entries of untrusted CSR arrays may be followed: columns in range, values finite."""
from libc.stdint cimport INT32_MAX, INT64_MAX, int32_t, int64_t, uint32_t, uint64_t

from fastopt._kernels.portable cimport index

# The bits of a float.
ctypedef fused word:
    uint32_t
    uint64_t


cdef inline bint unsound(const word *values, const index *columns, Py_ssize_t start, Py_ssize_t stop,
                         Py_ssize_t n_columns) noexcept nogil:
    """Whether one of the entries start .. stop - 1 names a column that there is not, or is not finite.

    Without branches, so that it vectorises. What is unsound sets the sign bit of what is collected: integer operations
    that every vector level has, in the entries' own width, since a wider one would halve the vectors.
    """
    cdef Py_ssize_t k
    cdef index highest = highest_of(<index>0, n_columns), most = most_of(<index>0), outside = 0
    cdef word exponent = exponent_of(<word>0), one = exponent & (~exponent + 1), infinite = 0
    for k in range(start, stop):
        outside |= columns[k] | (highest - (columns[k] & most))  # & most: or the difference could overflow
        infinite |= (values[k] & exponent) + one
    return outside < 0 or infinite > (exponent | (one - 1))


cdef extern from *:
    """
    #include <stdint.h>
    #if defined(__SSE2__) || defined(__AVX2__) || defined(__AVX512F__)
    #include <immintrin.h>
    #endif
    /* What is not all ones unless L columns at c are all below the one after them. */
    #if defined(__SSE2__)
    #define FASTOPT_AT_4(c) _mm_loadu_si128((const __m128i *)(c))
    #define FASTOPT_RISE_4(c) _mm_cmpgt_epi32(FASTOPT_AT_4((c) + 1), FASTOPT_AT_4(c))
    #define FASTOPT_ALL_4(a, b) (_mm_movemask_epi8(_mm_and_si128(a, b)) == 0xFFFF)
    #endif
    #if defined(__AVX2__)
    #define FASTOPT_AT_8(c) _mm256_loadu_si256((const __m256i *)(c))
    #define FASTOPT_RISE_8(c) _mm256_cmpgt_epi32(FASTOPT_AT_8((c) + 1), FASTOPT_AT_8(c))
    #define FASTOPT_ALL_8(a, b) (_mm256_movemask_epi8(_mm256_and_si256(a, b)) == -1)
    #endif
    #if defined(__AVX512F__)
    #define FASTOPT_AT_16(c) _mm512_loadu_si512(c)
    #define FASTOPT_RISE_16(c) (unsigned)_mm512_cmpgt_epi32_mask(FASTOPT_AT_16((c) + 1), FASTOPT_AT_16(c))
    #define FASTOPT_ALL_16(a, b) (((a) & (b)) == 0xFFFF)
    #endif
    /* L neighbours at a time, the last L again where L does not divide their number; never beyond the row: what lies
       there was not asked for and would have to be waited for (a masked load waits, too). */
    #define FASTOPT_RISE(L) \
        if (pairs >= L) { \
            if (pairs <= 2 * L) return FASTOPT_ALL_##L(FASTOPT_RISE_##L(c), FASTOPT_RISE_##L(c + pairs - L)); \
            for (k = 0; k + L <= pairs; k += 2 * L) { \
                last = pairs - L < k + L ? pairs - L : k + L; \
                rise &= FASTOPT_ALL_##L(FASTOPT_RISE_##L(c + k), FASTOPT_RISE_##L(c + last)); \
            } \
            return rise & FASTOPT_ALL_##L(FASTOPT_RISE_##L(c + pairs - L), FASTOPT_RISE_##L(c + pairs - L)); \
        }
    static inline int fastopt_rises_32(const int32_t *c, Py_ssize_t pairs) {
        Py_ssize_t k, last; int rise = 1;
        (void)last;
    #if defined(__AVX512F__)
        FASTOPT_RISE(16)
    #endif
    #if defined(__AVX2__)
        FASTOPT_RISE(8)
    #endif
    #if defined(__SSE2__)
        FASTOPT_RISE(4)
    #endif
        for (k = 0; k < pairs; k++) rise &= c[k] < c[k + 1];
        return rise;
    }
    """
    bint rises_32 "fastopt_rises_32"(const int32_t *c, Py_ssize_t pairs) noexcept nogil


cdef inline bint rises(const index *columns, Py_ssize_t pairs) noexcept nogil:
    """Whether each of `pairs` columns is below the one after it."""
    cdef Py_ssize_t k
    cdef bint rise = True
    if index is int32_t:
        return rises_32(columns, pairs)
    else:
        for k in range(pairs):
            rise &= columns[k] < columns[k + 1]
        return rise


cdef inline bint rising(const index *columns, Py_ssize_t n, index highest) noexcept nogil:
    """Whether a row's n columns rise within [0, highest]: it may be followed, and names none twice.

    For rows that may be short, and that are in the cache already.
    """
    if n <= 0:
        return True
    return rises(columns, n - 1) and columns[0] >= 0 and columns[n - 1] <= highest


cdef inline bint unsound_columns(const index *columns, Py_ssize_t n, index highest) noexcept nogil:
    """Whether one of n columns is not in [0, highest]."""
    cdef Py_ssize_t k
    cdef index signs = 0, most = 0
    for k in range(n):
        signs |= columns[k]
        most = max(most, columns[k])
    return signs < 0 or most > highest


cdef inline word exponent_of(word kind) noexcept nogil:
    """The exponent's bits of a float of this width: all are set in infinities and NaN only."""
    if sizeof(word) == 4:
        return <word>0x7F800000
    else:
        return <word>0x7FF0000000000000


cdef inline index most_of(index kind) noexcept nogil:
    """The largest number of this type."""
    return <index>INT32_MAX if sizeof(index) == 4 else <index>INT64_MAX


cdef inline index highest_of(index kind, Py_ssize_t n_columns) noexcept nogil:
    """The highest sound column, in the entries' type, which may hold less than there are columns."""
    if sizeof(index) == 4:
        return <index>min(n_columns - 1, <Py_ssize_t>INT32_MAX)
    else:
        return <index>(n_columns - 1)
