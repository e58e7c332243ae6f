"""Vectors of up to 64 bytes, in C, the same on every level: what row.pxd and block.pxd are written with.

Every level adds in the same order, since all cut a row into the same vectors. Where registers are narrower a vector is
a pair of halves: gcc keeps a type wider than its registers in memory, which made these loops 2 to 15 times as slow.
"""

cdef extern from *:
    """
    #include <string.h>
    #if defined(__GNUC__) || defined(__clang__)
    #define FASTOPT_INLINE static inline __attribute__((always_inline))
    #else
    #define FASTOPT_INLINE static inline
    #endif
    /* A loop of a few turns, unrolled: only then does an array of sums stay in registers, and gcc has its own mind. */
    #if defined(__clang__)
    #define FASTOPT_EACH(i, n) _Pragma("unroll") for (i = 0; i < (n); i++)
    #elif defined(__GNUC__)
    #define FASTOPT_EACH(i, n) _Pragma("GCC unroll 8") for (i = 0; i < (n); i++)
    #else
    #define FASTOPT_EACH(i, n) for (i = 0; i < (n); i++)
    #endif
    #if defined(__has_builtin)
    #if __has_builtin(__builtin_shufflevector)
    #define FASTOPT_HAS_VECTORS
    #endif
    #endif
    #ifdef FASTOPT_HAS_VECTORS
    /* The n numbers of type W at w; those at x, of type X, as W; all zero. */
    #define FASTOPT_LOAD(W, n, w) fastopt_load_##W##n(w)
    #define FASTOPT_READ(X, W, n, x) fastopt_read_##X##_##W##n(x)
    #define FASTOPT_ZERO(W, n) fastopt_zero_##W##n()
    #define FASTOPT_STORE(W, n, w, t) fastopt_store_##W##n(w, t)
    #define FASTOPT_PLUS(W, n, a, b) fastopt_plus_##W##n(a, b)
    /* t + a b, of two vectors, and of a number and a vector; a b alone. */
    #define FASTOPT_MORE(W, n, t, a, b) fastopt_more_##W##n(t, a, b)
    #define FASTOPT_MORE_OF(W, n, t, a, b) fastopt_more_of_##W##n(t, a, b)
    #define FASTOPT_TIMES(W, n, a, b) fastopt_times_##W##n(a, b)
    /* The sum of a vector's two halves, half as long. */
    #define FASTOPT_HALVES(W, n, t) fastopt_halves_##W##n(t)

    /* One register or less. `read`'s loop becomes one instruction; gcc's __builtin_convertvector took four. */
    #define FASTOPT_SINGLE(W, n) \\
    typedef W fastopt_##W##n __attribute__((vector_size(n * sizeof(W)))); \\
    FASTOPT_INLINE fastopt_##W##n fastopt_zero_##W##n(void) { return (fastopt_##W##n){0}; } \\
    FASTOPT_INLINE fastopt_##W##n fastopt_load_##W##n(const W *w) { \\
        fastopt_##W##n t; memcpy(&t, w, sizeof t); return t; \\
    } \\
    FASTOPT_INLINE fastopt_##W##n fastopt_read_##W##_##W##n(const W *w) { return fastopt_load_##W##n(w); } \\
    FASTOPT_INLINE void fastopt_store_##W##n(W *w, fastopt_##W##n t) { memcpy(w, &t, sizeof t); } \\
    FASTOPT_INLINE fastopt_##W##n fastopt_plus_##W##n(fastopt_##W##n a, fastopt_##W##n b) { return a + b; } \\
    FASTOPT_INLINE fastopt_##W##n fastopt_times_##W##n(W a, fastopt_##W##n b) { return a * b; } \\
    FASTOPT_INLINE fastopt_##W##n fastopt_more_##W##n(fastopt_##W##n t, fastopt_##W##n a, fastopt_##W##n b) { \\
        return t + a * b; \\
    } \\
    FASTOPT_INLINE fastopt_##W##n fastopt_more_of_##W##n(fastopt_##W##n t, W a, fastopt_##W##n b) { return t + a * b; }
    #define FASTOPT_SINGLE_READ(X, W, n) \\
    FASTOPT_INLINE fastopt_##W##n fastopt_read_##X##_##W##n(const X *x) { \\
        fastopt_##W##n t; int k; \\
        for (k = 0; k < n; k++) t[k] = (W)x[k]; \\
        return t; \\
    }
    #define FASTOPT_SINGLE_HALVES(W, n, h) \\
    FASTOPT_INLINE fastopt_##W##h fastopt_halves_##W##n(fastopt_##W##n t) { \\
        return __builtin_shufflevector(t, t, FASTOPT_FIRST_##h) + __builtin_shufflevector(t, t, FASTOPT_SECOND_##h); \\
    }
    #define FASTOPT_FIRST_8 0, 1, 2, 3, 4, 5, 6, 7
    #define FASTOPT_SECOND_8 8, 9, 10, 11, 12, 13, 14, 15
    #define FASTOPT_FIRST_4 0, 1, 2, 3
    #define FASTOPT_SECOND_4 4, 5, 6, 7

    /* Two registers or more: two halves of h numbers. */
    #define FASTOPT_PAIR(W, n, h) \\
    typedef struct { fastopt_##W##h lo, hi; } fastopt_##W##n; \\
    FASTOPT_INLINE fastopt_##W##n fastopt_pair_##W##n(fastopt_##W##h lo, fastopt_##W##h hi) { \\
        fastopt_##W##n t; t.lo = lo; t.hi = hi; return t; \\
    } \\
    FASTOPT_INLINE fastopt_##W##n fastopt_zero_##W##n(void) { \\
        return fastopt_pair_##W##n(fastopt_zero_##W##h(), fastopt_zero_##W##h()); \\
    } \\
    FASTOPT_INLINE fastopt_##W##n fastopt_load_##W##n(const W *w) { \\
        return fastopt_pair_##W##n(fastopt_load_##W##h(w), fastopt_load_##W##h(w + h)); \\
    } \\
    FASTOPT_PAIR_READ(W, W, n, h) \\
    FASTOPT_INLINE void fastopt_store_##W##n(W *w, fastopt_##W##n t) { \\
        fastopt_store_##W##h(w, t.lo); fastopt_store_##W##h(w + h, t.hi); \\
    } \\
    FASTOPT_INLINE fastopt_##W##n fastopt_plus_##W##n(fastopt_##W##n a, fastopt_##W##n b) { \\
        return fastopt_pair_##W##n(fastopt_plus_##W##h(a.lo, b.lo), fastopt_plus_##W##h(a.hi, b.hi)); \\
    } \\
    FASTOPT_INLINE fastopt_##W##n fastopt_times_##W##n(W a, fastopt_##W##n b) { \\
        return fastopt_pair_##W##n(fastopt_times_##W##h(a, b.lo), fastopt_times_##W##h(a, b.hi)); \\
    } \\
    FASTOPT_INLINE fastopt_##W##n fastopt_more_##W##n(fastopt_##W##n t, fastopt_##W##n a, fastopt_##W##n b) { \\
        return fastopt_pair_##W##n(fastopt_more_##W##h(t.lo, a.lo, b.lo), fastopt_more_##W##h(t.hi, a.hi, b.hi)); \\
    } \\
    FASTOPT_INLINE fastopt_##W##n fastopt_more_of_##W##n(fastopt_##W##n t, W a, fastopt_##W##n b) { \\
        return fastopt_pair_##W##n(fastopt_more_of_##W##h(t.lo, a, b.lo), fastopt_more_of_##W##h(t.hi, a, b.hi)); \\
    } \\
    FASTOPT_INLINE fastopt_##W##h fastopt_halves_##W##n(fastopt_##W##n t) { return fastopt_plus_##W##h(t.lo, t.hi); }
    #define FASTOPT_PAIR_READ(X, W, n, h) \\
    FASTOPT_INLINE fastopt_##W##n fastopt_read_##X##_##W##n(const X *x) { \\
        return fastopt_pair_##W##n(fastopt_read_##X##_##W##h(x), fastopt_read_##X##_##W##h(x + h)); \\
    }

    /* Lanes of a register, of 32 bytes at most: where a sum for each lane is added up in the end, wider ones cost more
       than they save (softmax of 10 classes by single rows of 64, Zen 4: 0.75 of the time that 64 bytes take). */
    #if defined(__AVX__)
    #define FASTOPT_LANES_float 8
    #define FASTOPT_LANES_double 4
    #else
    #define FASTOPT_LANES_float 4
    #define FASTOPT_LANES_double 2
    #endif

    FASTOPT_SINGLE(float, 1)
    FASTOPT_SINGLE(float, 2)
    FASTOPT_SINGLE(float, 4)
    FASTOPT_SINGLE(double, 1)
    FASTOPT_SINGLE(double, 2)
    FASTOPT_SINGLE_READ(float, double, 1)
    FASTOPT_SINGLE_READ(float, double, 2)
    #if defined(__AVX__)
    FASTOPT_SINGLE(float, 8)
    FASTOPT_SINGLE(double, 4)
    FASTOPT_SINGLE_READ(float, double, 4)
    FASTOPT_SINGLE_HALVES(float, 8, 4)
    #else
    FASTOPT_PAIR(float, 8, 4)
    FASTOPT_PAIR(double, 4, 2)
    FASTOPT_PAIR_READ(float, double, 4, 2)
    #endif
    #if defined(__AVX512F__)
    FASTOPT_SINGLE(float, 16)
    FASTOPT_SINGLE(double, 8)
    FASTOPT_SINGLE_READ(float, double, 8)
    FASTOPT_SINGLE_HALVES(float, 16, 8)
    FASTOPT_SINGLE_HALVES(double, 8, 4)
    #else
    FASTOPT_PAIR(float, 16, 8)
    FASTOPT_PAIR(double, 8, 4)
    FASTOPT_PAIR_READ(float, double, 8, 4)
    #endif
    #endif
    """
    # Bytes of the longest.
    enum: VECTOR "64"
