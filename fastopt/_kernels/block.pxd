"""Rows side by side, so that one load of the parameters serves several: sums of ROWS dense rows, and K outputs.

With K outputs the parameters of a feature take `width` numbers, K and zeros: whole vectors, so that no loop over
outputs has a rest. Each sum is added up in the order of one row after the other, so that
a row's result does not depend on its neighbours.
"""
from libc.stdint cimport int32_t, int64_t

from fastopt._kernels.portable cimport index, real, wide
from fastopt._kernels.row cimport dot_dd, dot_fd, dot_ff
from fastopt._kernels.vector cimport VECTOR

cdef extern from *:
    """
    /* As many rows as their sums fit into registers beside what they share. */
    #if defined(FASTOPT_HAS_VECTORS) && defined(__AVX512F__)
    #define FASTOPT_ROWS 4
    #elif defined(FASTOPT_HAS_VECTORS) && (defined(__AVX2__) || defined(__aarch64__))
    #define FASTOPT_ROWS 2
    #else
    #define FASTOPT_ROWS 1
    #endif
    /* Sums per output added up side by side where there are G vectors of outputs: one waits for each addition. */
    #if FASTOPT_ROWS == 4
    #define FASTOPT_CHAINS(G) ((G) == 1 ? 4 : (G) == 2 ? 2 : 1)
    #else
    #define FASTOPT_CHAINS(G) ((G) == 1 ? 2 : 1)
    #endif
    #ifdef FASTOPT_HAS_VECTORS
    /* Asks for what lies in the rows `next` where x's loop is, a line or two at a time: where many lines are asked for
       at once, the processor waits for all of them before it goes on. Half of them here, the others in the axpys. */
    #define FASTOPT_ASK(X, next, j, size) \\
        FASTOPT_EACH(r, (FASTOPT_ROWS + 1) / 2) for (k = 0; k < (int)(size); k += 64) \\
            FASTOPT_PREFETCH_L2((const char *)(next[r] + (j)) + k);
    #define FASTOPT_ASK_REST(X, next, j, n) \\
        FASTOPT_EACH(r, (FASTOPT_ROWS + 1) / 2) { \\
            for (k = 0; k < (int)((n - (j)) * sizeof(X)); k += 64) \\
                FASTOPT_PREFETCH_L2((const char *)(next[r] + (j)) + k); \\
            FASTOPT_PREFETCH_L2((const char *)(next[r] + n) - 1); \\
        }
    /* row.pxd's rest of each of the rows; of four, the last sums side by side, each added up in the same order. */
    #if FASTOPT_ROWS == 4
    #define FASTOPT_ROWS_AT(X, W, n, t) \\
        FASTOPT_MORE(W, n, t, FASTOPT_READ(X, W, n, x[r] + j), FASTOPT_LOAD(W, n, w + j))
    #define FASTOPT_RESTS(name, X, W) \\
    FASTOPT_INLINE void name##_4(fastopt_##W##4 *d, const X *const *x, const W *w, Py_ssize_t j, Py_ssize_t n, \\
                                 W *out) { \\
        fastopt_##W##4 p, q, e; int r; \\
        if (j + 4 <= n) { FASTOPT_EACH(r, 4) d[r] = FASTOPT_ROWS_AT(X, W, 4, d[r]); j += 4; } \\
        p = __builtin_shufflevector(d[0], d[1], 0, 2, 4, 6) + __builtin_shufflevector(d[0], d[1], 1, 3, 5, 7); \\
        q = __builtin_shufflevector(d[2], d[3], 0, 2, 4, 6) + __builtin_shufflevector(d[2], d[3], 1, 3, 5, 7); \\
        e = __builtin_shufflevector(p, q, 0, 2, 4, 6) + __builtin_shufflevector(p, q, 1, 3, 5, 7); \\
        for (; j < n; j++) e += (fastopt_##W##4){(W)x[0][j], (W)x[1][j], (W)x[2][j], (W)x[3][j]} * w[j]; \\
        memcpy(out, &e, sizeof e); \\
    } \\
    FASTOPT_INLINE void name##_8(fastopt_##W##8 *c, const X *const *x, const W *w, Py_ssize_t j, Py_ssize_t n, \\
                                 W *out) { \\
        fastopt_##W##4 d[4]; int r; \\
        if (j + 8 <= n) { FASTOPT_EACH(r, 4) c[r] = FASTOPT_ROWS_AT(X, W, 8, c[r]); j += 8; } \\
        FASTOPT_EACH(r, 4) d[r] = FASTOPT_HALVES(W, 8, c[r]); \\
        name##_4(d, x, w, j, n, out); \\
    }
    FASTOPT_RESTS(fastopt_rests_ff, float, float)
    FASTOPT_RESTS(fastopt_rests_fd, float, double)
    FASTOPT_RESTS(fastopt_rests_dd, double, double)
    FASTOPT_INLINE void fastopt_rests_ff_16(fastopt_float16 *t, const float *const *x, const float *w, Py_ssize_t j,
                                            Py_ssize_t n, float *out) {
        fastopt_float8 c[4]; int r;
        if (j + 16 <= n) { FASTOPT_EACH(r, 4) t[r] = FASTOPT_ROWS_AT(float, float, 16, t[r]); j += 16; }
        FASTOPT_EACH(r, 4) c[r] = FASTOPT_HALVES(float, 16, t[r]);
        fastopt_rests_ff_8(c, x, w, j, n, out);
    }
    #define FASTOPT_REST(kind, t, L) fastopt_rests_##kind##_##L(t, x, w, j, n, out)
    #else
    #define FASTOPT_REST(kind, t, L) \\
        FASTOPT_EACH(r, FASTOPT_ROWS) out[r] = fastopt_rest_##kind(t[r], x[r], w, j, n)
    #endif
    #define FASTOPT_DOTS(name, kind, X, W, L) \\
    FASTOPT_INLINE void name(const X *const *x, const X *const *next, const W *w, Py_ssize_t n, W *out) { \\
        fastopt_##W##L a[FASTOPT_ROWS], b[FASTOPT_ROWS], u, v; \\
        Py_ssize_t j = 0; int r, k; \\
        FASTOPT_EACH(r, FASTOPT_ROWS) { a[r] = FASTOPT_ZERO(W, L); b[r] = FASTOPT_ZERO(W, L); } \\
        for (; j + 2 * L <= n; j += 2 * L) { \\
            if (next != NULL) FASTOPT_ASK(X, next, j, 2 * L * sizeof(X)) \\
            u = FASTOPT_LOAD(W, L, w + j); v = FASTOPT_LOAD(W, L, w + j + L); \\
            FASTOPT_EACH(r, FASTOPT_ROWS) { \\
                a[r] = FASTOPT_MORE(W, L, a[r], FASTOPT_READ(X, W, L, x[r] + j), u); \\
                b[r] = FASTOPT_MORE(W, L, b[r], FASTOPT_READ(X, W, L, x[r] + j + L), v); \\
            } \\
        } \\
        if (next != NULL) FASTOPT_ASK_REST(X, next, j, n) \\
        FASTOPT_EACH(r, FASTOPT_ROWS) a[r] = FASTOPT_PLUS(W, L, a[r], b[r]); \\
        FASTOPT_REST(kind, a, L); \\
    }
    /* w + sum over r of a[r] x[r], for the L coordinates from j on. */
    #define FASTOPT_AXPYS_AT(X, W, L, j) __extension__ ({ \\
        fastopt_##W##L v_ = FASTOPT_LOAD(W, L, w + (j)); \\
        FASTOPT_EACH(r, FASTOPT_ROWS) \\
            v_ = FASTOPT_MORE_OF(W, L, v_, a[r], FASTOPT_READ(X, W, L, x[r] + (j))); \\
        v_; })
    /* The last L coordinates are added up before any is stored, so that no loop over single ones is left. Rows and
       factors are copied: for all that the compiler knows, what is stored in w could change them. */
    #define FASTOPT_AXPYS(name, X, W, L) \\
    FASTOPT_INLINE void name(const W *factors, const X *const *rows, const X *const *next, W *w, Py_ssize_t n) { \\
        fastopt_##W##L u, v, last = FASTOPT_ZERO(W, L); Py_ssize_t j = 0; int r, k; \\
        const X *x[FASTOPT_ROWS]; W a[FASTOPT_ROWS]; \\
        FASTOPT_EACH(r, FASTOPT_ROWS) { x[r] = rows[r]; a[r] = factors[r]; } \\
        if (n >= L) last = FASTOPT_AXPYS_AT(X, W, L, n - L); \\
        for (; j + 2 * L <= n; j += 2 * L) { \\
            if (next != NULL) FASTOPT_ASK(X, next, j, 2 * L * sizeof(X)) \\
            u = FASTOPT_AXPYS_AT(X, W, L, j); v = FASTOPT_AXPYS_AT(X, W, L, j + L); \\
            FASTOPT_STORE(W, L, w + j, u); FASTOPT_STORE(W, L, w + j + L, v); \\
        } \\
        if (next != NULL) FASTOPT_ASK_REST(X, next, j, n) \\
        if (j + L <= n) { u = FASTOPT_AXPYS_AT(X, W, L, j); FASTOPT_STORE(W, L, w + j, u); j += L; } \\
        if (n >= L) { if (j < n) FASTOPT_STORE(W, L, w + n - L, last); return; } \\
        for (; j < n; j++) FASTOPT_EACH(r, FASTOPT_ROWS) w[j] += a[r] * (W)x[r][j]; \\
    }
    /* z[r] += a x[r]' W and W += a sum over r of x[r] z[r]', for R rows and the G vectors of L outputs from z on. */
    #define FASTOPT_OUTPUTS(name, X, W, L, R, G) \\
    FASTOPT_INLINE void name##_dot(const X *const *x, const W *w, Py_ssize_t n, Py_ssize_t width, W a, W *z) { \\
        enum { U = FASTOPT_CHAINS(G) }; \\
        fastopt_##W##L t[U][R][G], v[G]; Py_ssize_t j; int u, r, g; \\
        FASTOPT_EACH(u, U) FASTOPT_EACH(r, R) FASTOPT_EACH(g, G) t[u][r][g] = FASTOPT_ZERO(W, L); \\
        for (j = 0; j + U <= n; j += U) FASTOPT_EACH(u, U) { \\
            FASTOPT_EACH(g, G) v[g] = FASTOPT_LOAD(W, L, w + (j + u) * width + g * L); \\
            FASTOPT_EACH(r, R) FASTOPT_EACH(g, G) \\
                t[u][r][g] = FASTOPT_MORE_OF(W, L, t[u][r][g], (W)x[r][j + u], v[g]); \\
        } \\
        for (; j < n; j++) { \\
            FASTOPT_EACH(g, G) v[g] = FASTOPT_LOAD(W, L, w + j * width + g * L); \\
            FASTOPT_EACH(r, R) FASTOPT_EACH(g, G) \\
                t[0][r][g] = FASTOPT_MORE_OF(W, L, t[0][r][g], (W)x[r][j], v[g]); \\
        } \\
        FASTOPT_EACH(r, R) FASTOPT_EACH(g, G) { \\
            FASTOPT_EACH(u, U) if (u > 0) t[0][r][g] = FASTOPT_PLUS(W, L, t[0][r][g], t[u][r][g]); \\
            FASTOPT_ADD(W, L, z + r * width + g * L, a, t[0][r][g]); \\
        } \\
    } \\
    FASTOPT_INLINE void name##_axpy(const X *const *rows, W *w, Py_ssize_t n, Py_ssize_t width, W a, const W *z) { \\
        fastopt_##W##L t[R][G], v; const X *x[R]; Py_ssize_t j; int r, g; \\
        FASTOPT_EACH(r, R) x[r] = rows[r]; \\
        FASTOPT_EACH(r, R) FASTOPT_EACH(g, G) \\
            t[r][g] = FASTOPT_TIMES(W, L, a, FASTOPT_LOAD(W, L, z + r * width + g * L)); \\
        for (j = 0; j < n; j++) FASTOPT_EACH(g, G) { \\
            v = FASTOPT_LOAD(W, L, w + j * width + g * L); \\
            FASTOPT_EACH(r, R) v = FASTOPT_MORE_OF(W, L, v, (W)x[r][j], t[r][g]); \\
            FASTOPT_STORE(W, L, w + j * width + g * L, v); \\
        } \\
    }
    #define FASTOPT_ADD(W, L, z, a, t) FASTOPT_STORE(W, L, z, FASTOPT_MORE_OF(W, L, FASTOPT_LOAD(W, L, z), a, t))
    #define FASTOPT_WIDTHS(name, X, W, L, H, Q, E, R) \\
    FASTOPT_OUTPUTS(name##_2, X, W, L, R, 2) \\
    FASTOPT_OUTPUTS(name##_1, X, W, L, R, 1) \\
    FASTOPT_OUTPUTS(name##_h, X, W, H, R, 1) \\
    FASTOPT_OUTPUTS(name##_q, X, W, Q, R, 1) \\
    FASTOPT_OUTPUTS(name##_e, X, W, E, R, 1) \\
    FASTOPT_OUTPUTS(name##_t, X, W, 1, R, 1) \\
    FASTOPT_WAY(name, _dot, X, W, L, H, Q, E, const W, W) \\
    FASTOPT_WAY(name, _axpy, X, W, L, H, Q, E, W, const W)
    #define FASTOPT_WAY(name, way, X, W, L, H, Q, E, TW, TZ) \\
    static inline void name##way(const X *const *x, TW *w, Py_ssize_t n, Py_ssize_t width, W a, TZ *z) { \\
        Py_ssize_t c = 0; \\
        for (; c + 2 * L <= width; c += 2 * L) name##_2##way(x, w + c, n, width, a, z + c); \\
        if (c + L <= width) { name##_1##way(x, w + c, n, width, a, z + c); c += L; } \\
        if (c + H <= width) { name##_h##way(x, w + c, n, width, a, z + c); c += H; } \\
        if (c + Q <= width) { name##_q##way(x, w + c, n, width, a, z + c); c += Q; } \\
        if (c + E <= width) { name##_e##way(x, w + c, n, width, a, z + c); c += E; } \\
        for (; c < width; c++) name##_t##way(x, w + c, n, width, a, z + c); \\
    }
    /* The same for one row where K outputs are no whole vector, with none of its lanes idle: L features' outputs are K
       vectors, in which each x stands K times. Three to four times as fast as features one by one. */
    #define FASTOPT_X(L, K, v, l) (((v) * L + (l)) / (K) % L)
    #define FASTOPT_X2(L, K, v, l) FASTOPT_X(L, K, v, l), FASTOPT_X(L, K, v, l + 1)
    #define FASTOPT_X4(L, K, v, l) FASTOPT_X2(L, K, v, l), FASTOPT_X2(L, K, v, l + 2)
    #define FASTOPT_X8(L, K, v, l) FASTOPT_X4(L, K, v, l), FASTOPT_X4(L, K, v, l + 4)
    #define FASTOPT_X16(L, K, v, l) FASTOPT_X8(L, K, v, l), FASTOPT_X8(L, K, v, l + 8)
    #define FASTOPT_FLAT_DOT(W, L, K, v) if (K > v) \\
        t[v % K] += __builtin_shufflevector(y, y, FASTOPT_X##L(L, K, v, 0)) * FASTOPT_LOAD(W, L, w + j * K + v * L);
    #define FASTOPT_FLAT_AXPY(W, L, K, v) if (K > v) FASTOPT_STORE(W, L, w + j * K + v * L, \\
        FASTOPT_LOAD(W, L, w + j * K + v * L) + __builtin_shufflevector(y, y, FASTOPT_X##L(L, K, v, 0)) * t[v % K]);
    #define FASTOPT_FLATS(way, W, L, K) \\
        way(W, L, K, 0) way(W, L, K, 1) way(W, L, K, 2) way(W, L, K, 3) way(W, L, K, 4) \\
        way(W, L, K, 5) way(W, L, K, 6) way(W, L, K, 7) way(W, L, K, 8) way(W, L, K, 9)
    #define FASTOPT_FLAT(name, W, L, K) \\
    static void name##_dot_##K(const W *x, const W *w, Py_ssize_t n, W a, W *z) { \\
        fastopt_##W##L t[K], y; W sums[K * L]; Py_ssize_t j; int v, l; \\
        for (v = 0; v < K; v++) t[v] = FASTOPT_ZERO(W, L); \\
        for (j = 0; j + L <= n; j += L) { y = FASTOPT_LOAD(W, L, x + j); FASTOPT_FLATS(FASTOPT_FLAT_DOT, W, L, K) } \\
        memcpy(sums, t, sizeof sums); \\
        for (l = 1; l < L; l++) for (v = 0; v < K; v++) sums[v] += sums[l * K + v]; \\
        for (v = 0; v < K; v++) z[v] += a * sums[v]; \\
    } \\
    static void name##_axpy_##K(const W *x, W *w, Py_ssize_t n, W a, const W *z) { \\
        fastopt_##W##L t[K], y; W factors[K * L]; Py_ssize_t j; int l; \\
        for (l = 0; l < K * L; l++) factors[l] = a * z[l % K]; \\
        memcpy(t, factors, sizeof factors); \\
        for (j = 0; j + L <= n; j += L) { y = FASTOPT_LOAD(W, L, x + j); FASTOPT_FLATS(FASTOPT_FLAT_AXPY, W, L, K) } \\
    }
    #define FASTOPT_FLAT_WIDTHS(name, rest, W, L) \\
    FASTOPT_FLAT(name, W, L, 2) FASTOPT_FLAT(name, W, L, 3) FASTOPT_FLAT(name, W, L, 4) FASTOPT_FLAT(name, W, L, 5) \\
    FASTOPT_FLAT(name, W, L, 6) FASTOPT_FLAT(name, W, L, 7) FASTOPT_FLAT(name, W, L, 8) FASTOPT_FLAT(name, W, L, 9) \\
    FASTOPT_FLAT(name, W, L, 10) \\
    FASTOPT_FLAT_WAY(name, rest, _dot, W, L, const W, W) \\
    FASTOPT_FLAT_WAY(name, rest, _axpy, W, L, W, const W)
    #define FASTOPT_FLAT_WAY(name, rest, way, W, L, TW, TZ) \\
    static inline void name##way(const W *x, TW *w, Py_ssize_t n, Py_ssize_t width, W a, TZ *z) { \\
        Py_ssize_t done = n >= 2 * L && width % L != 0 && width <= 10 ? n / L * L : 0; \\
        if (done) switch (width) { \\
            case 2: name##way##_2(x, w, done, a, z); break; \\
            case 3: name##way##_3(x, w, done, a, z); break; \\
            case 4: name##way##_4(x, w, done, a, z); break; \\
            case 5: name##way##_5(x, w, done, a, z); break; \\
            case 6: name##way##_6(x, w, done, a, z); break; \\
            case 7: name##way##_7(x, w, done, a, z); break; \\
            case 8: name##way##_8(x, w, done, a, z); break; \\
            case 9: name##way##_9(x, w, done, a, z); break; \\
            case 10: name##way##_10(x, w, done, a, z); break; \\
            default: done = 0; \\
        } \\
        if (done < n) { x += done; rest##way(&x, w + done * width, n - done, width, a, z); } \\
    }
    /* The same for the entries of one CSR row. */
    #define FASTOPT_ENTRIES(name, X, W, I, L, G) \\
    FASTOPT_INLINE void name##_dot(const X *x, const I *columns, Py_ssize_t n, const W *w, Py_ssize_t width, W a, \\
                                   W *z) { \\
        enum { U = FASTOPT_CHAINS(G) }; \\
        fastopt_##W##L t[U][G]; Py_ssize_t k; const W *v; int u, g; \\
        FASTOPT_EACH(u, U) FASTOPT_EACH(g, G) t[u][g] = FASTOPT_ZERO(W, L); \\
        for (k = 0; k + U <= n; k += U) FASTOPT_EACH(u, U) { \\
            v = w + (Py_ssize_t)columns[k + u] * width; \\
            FASTOPT_EACH(g, G) t[u][g] = FASTOPT_MORE_OF(W, L, t[u][g], (W)x[k + u], FASTOPT_LOAD(W, L, v + g * L)); \\
        } \\
        for (; k < n; k++) { \\
            v = w + (Py_ssize_t)columns[k] * width; \\
            FASTOPT_EACH(g, G) t[0][g] = FASTOPT_MORE_OF(W, L, t[0][g], (W)x[k], FASTOPT_LOAD(W, L, v + g * L)); \\
        } \\
        FASTOPT_EACH(g, G) { \\
            FASTOPT_EACH(u, U) if (u > 0) t[0][g] = FASTOPT_PLUS(W, L, t[0][g], t[u][g]); \\
            FASTOPT_ADD(W, L, z + g * L, a, t[0][g]); \\
        } \\
    } \\
    FASTOPT_INLINE void name##_axpy(const X *x, const I *columns, Py_ssize_t n, W *w, Py_ssize_t width, W a, \\
                                    const W *z) { \\
        fastopt_##W##L t[G]; Py_ssize_t k; W *v; int g; \\
        FASTOPT_EACH(g, G) t[g] = FASTOPT_TIMES(W, L, a, FASTOPT_LOAD(W, L, z + g * L)); \\
        for (k = 0; k < n; k++) { \\
            v = w + (Py_ssize_t)columns[k] * width; \\
            FASTOPT_EACH(g, G) FASTOPT_ADD(W, L, v + g * L, (W)x[k], t[g]); \\
        } \\
    }
    #define FASTOPT_ENTRY_WIDTHS(name, X, W, I, L, H, Q, E) \\
    FASTOPT_ENTRIES(name##_4, X, W, I, L, 4) \\
    FASTOPT_ENTRIES(name##_3, X, W, I, L, 3) \\
    FASTOPT_ENTRIES(name##_2, X, W, I, L, 2) \\
    FASTOPT_ENTRIES(name##_1, X, W, I, L, 1) \\
    FASTOPT_ENTRIES(name##_h, X, W, I, H, 1) \\
    FASTOPT_ENTRIES(name##_q, X, W, I, Q, 1) \\
    FASTOPT_ENTRIES(name##_e, X, W, I, E, 1) \\
    FASTOPT_ENTRIES(name##_t, X, W, I, 1, 1) \\
    FASTOPT_ENTRY_WAY(name, _dot, X, W, I, L, H, Q, E, const W, W) \\
    FASTOPT_ENTRY_WAY(name, _axpy, X, W, I, L, H, Q, E, W, const W)
    #define FASTOPT_ENTRY_WAY(name, way, X, W, I, L, H, Q, E, TW, TZ) \\
    static inline void name##way(const X *x, const I *columns, Py_ssize_t n, TW *w, Py_ssize_t width, W a, TZ *z) { \\
        Py_ssize_t c = 0; \\
        for (; c + 4 * L <= width; c += 4 * L) name##_4##way(x, columns, n, w + c, width, a, z + c); \\
        if (c + 3 * L <= width) { name##_3##way(x, columns, n, w + c, width, a, z + c); c += 3 * L; } \\
        if (c + 2 * L <= width) { name##_2##way(x, columns, n, w + c, width, a, z + c); c += 2 * L; } \\
        if (c + L <= width) { name##_1##way(x, columns, n, w + c, width, a, z + c); c += L; } \\
        if (c + H <= width) { name##_h##way(x, columns, n, w + c, width, a, z + c); c += H; } \\
        if (c + Q <= width) { name##_q##way(x, columns, n, w + c, width, a, z + c); c += Q; } \\
        if (c + E <= width) { name##_e##way(x, columns, n, w + c, width, a, z + c); c += E; } \\
        for (; c < width; c++) name##_t##way(x, columns, n, w + c, width, a, z + c); \\
    }
    #else
    #define FASTOPT_FLAT_WIDTHS(name, rest, W, L) \\
    static inline void name##_dot(const W *x, const W *w, Py_ssize_t n, Py_ssize_t width, W a, W *z) { \\
        rest##_dot(&x, w, n, width, a, z); \\
    } \\
    static inline void name##_axpy(const W *x, W *w, Py_ssize_t n, Py_ssize_t width, W a, const W *z) { \\
        rest##_axpy(&x, w, n, width, a, z); \\
    }
    #define FASTOPT_DOTS(name, kind, X, W, L) \\
    static inline void name(const X *const *x, const X *const *next, const W *w, Py_ssize_t n, W *out) { \\
        (void)next; \\
        *out = fastopt_dot_##kind(x[0], w, n); \\
    }
    #define FASTOPT_AXPYS(name, X, W, L) \\
    static inline void name(const W *a, const X *const *x, const X *const *next, W *w, Py_ssize_t n) { \\
        Py_ssize_t j; \\
        (void)next; \\
        for (j = 0; j < n; j++) w[j] += a[0] * (W)x[0][j]; \\
    }
    #define FASTOPT_WIDTHS(name, X, W, L, H, Q, E, R) \\
    static inline void name##_dot(const X *const *x, const W *w, Py_ssize_t n, Py_ssize_t width, W a, W *z) { \\
        Py_ssize_t j, c; \\
        for (j = 0; j < n; j++) for (c = 0; c < width; c++) z[c] += a * (W)x[0][j] * w[j * width + c]; \\
    } \\
    static inline void name##_axpy(const X *const *x, W *w, Py_ssize_t n, Py_ssize_t width, W a, const W *z) { \\
        Py_ssize_t j, c; \\
        for (j = 0; j < n; j++) for (c = 0; c < width; c++) w[j * width + c] += (W)x[0][j] * (a * z[c]); \\
    }
    #define FASTOPT_ENTRY_WIDTHS(name, X, W, I, L, H, Q, E) \\
    static inline void name##_dot(const X *x, const I *columns, Py_ssize_t n, const W *w, Py_ssize_t width, W a, \\
                                  W *z) { \\
        Py_ssize_t k, c; const W *v; \\
        for (k = 0; k < n; k++) { \\
            v = w + (Py_ssize_t)columns[k] * width; \\
            for (c = 0; c < width; c++) z[c] += a * (W)x[k] * v[c]; \\
        } \\
    } \\
    static inline void name##_axpy(const X *x, const I *columns, Py_ssize_t n, W *w, Py_ssize_t width, W a, \\
                                   const W *z) { \\
        Py_ssize_t k, c; W *v; \\
        for (k = 0; k < n; k++) { \\
            v = w + (Py_ssize_t)columns[k] * width; \\
            for (c = 0; c < width; c++) v[c] += (W)x[k] * (a * z[c]); \\
        } \\
    }
    #endif

    FASTOPT_DOTS(fastopt_dots_ff, ff, float, float, 16)
    FASTOPT_DOTS(fastopt_dots_fd, fd, float, double, 8)
    FASTOPT_DOTS(fastopt_dots_dd, dd, double, double, 8)
    FASTOPT_AXPYS(fastopt_axpys_ff, float, float, 16)
    FASTOPT_AXPYS(fastopt_axpys_fd, float, double, 8)
    FASTOPT_AXPYS(fastopt_axpys_dd, double, double, 8)
    FASTOPT_WIDTHS(fastopt_many_ff, float, float, 16, 8, 4, 2, FASTOPT_ROWS)
    FASTOPT_WIDTHS(fastopt_many_fd, float, double, 8, 4, 2, 1, FASTOPT_ROWS)
    FASTOPT_WIDTHS(fastopt_many_dd, double, double, 8, 4, 2, 1, FASTOPT_ROWS)
    FASTOPT_WIDTHS(fastopt_one_ff, float, float, 16, 8, 4, 2, 1)
    FASTOPT_WIDTHS(fastopt_one_fd, float, double, 8, 4, 2, 1, 1)
    FASTOPT_WIDTHS(fastopt_one_dd, double, double, 8, 4, 2, 1, 1)
    #define FASTOPT_FLAT_KIND(name, rest, W, L) FASTOPT_FLAT_WIDTHS(name, rest, W, L)
    FASTOPT_FLAT_KIND(fastopt_flat_f, fastopt_one_ff, float, FASTOPT_LANES_float)
    FASTOPT_FLAT_KIND(fastopt_flat_d, fastopt_one_dd, double, FASTOPT_LANES_double)
    FASTOPT_ENTRY_WIDTHS(fastopt_entries_ffi, float, float, int32_t, 16, 8, 4, 2)
    FASTOPT_ENTRY_WIDTHS(fastopt_entries_ffl, float, float, int64_t, 16, 8, 4, 2)
    FASTOPT_ENTRY_WIDTHS(fastopt_entries_fdi, float, double, int32_t, 8, 4, 2, 1)
    FASTOPT_ENTRY_WIDTHS(fastopt_entries_fdl, float, double, int64_t, 8, 4, 2, 1)
    FASTOPT_ENTRY_WIDTHS(fastopt_entries_ddi, double, double, int32_t, 8, 4, 2, 1)
    FASTOPT_ENTRY_WIDTHS(fastopt_entries_ddl, double, double, int64_t, 8, 4, 2, 1)
    """

    enum: ROWS "FASTOPT_ROWS"
    void dots_ff "fastopt_dots_ff"(
        const float **x, const float **next, const float *w, Py_ssize_t n, float *out) noexcept nogil
    void dots_fd "fastopt_dots_fd"(
        const float **x, const float **next, const double *w, Py_ssize_t n, double *out) noexcept nogil
    void dots_dd "fastopt_dots_dd"(
        const double **x, const double **next, const double *w, Py_ssize_t n, double *out) noexcept nogil
    void axpys_ff "fastopt_axpys_ff"(
        const float *a, const float **x, const float **next, float *w, Py_ssize_t n) noexcept nogil
    void axpys_fd "fastopt_axpys_fd"(
        const double *a, const float **x, const float **next, double *w, Py_ssize_t n) noexcept nogil
    void axpys_dd "fastopt_axpys_dd"(
        const double *a, const double **x, const double **next, double *w, Py_ssize_t n) noexcept nogil
    void many_ff_dot "fastopt_many_ff_dot"(
        const float **x, const float *w, Py_ssize_t n, Py_ssize_t width, float a, float *z) noexcept nogil
    void many_ff_axpy "fastopt_many_ff_axpy"(
        const float **x, float *w, Py_ssize_t n, Py_ssize_t width, float a, const float *z) noexcept nogil
    void many_fd_dot "fastopt_many_fd_dot"(
        const float **x, const double *w, Py_ssize_t n, Py_ssize_t width, double a, double *z) noexcept nogil
    void many_fd_axpy "fastopt_many_fd_axpy"(
        const float **x, double *w, Py_ssize_t n, Py_ssize_t width, double a, const double *z) noexcept nogil
    void many_dd_dot "fastopt_many_dd_dot"(
        const double **x, const double *w, Py_ssize_t n, Py_ssize_t width, double a, double *z) noexcept nogil
    void many_dd_axpy "fastopt_many_dd_axpy"(
        const double **x, double *w, Py_ssize_t n, Py_ssize_t width, double a, const double *z) noexcept nogil
    void one_ff_dot "fastopt_one_ff_dot"(
        const float **x, const float *w, Py_ssize_t n, Py_ssize_t width, float a, float *z) noexcept nogil
    void one_ff_axpy "fastopt_one_ff_axpy"(
        const float **x, float *w, Py_ssize_t n, Py_ssize_t width, float a, const float *z) noexcept nogil
    void one_fd_dot "fastopt_one_fd_dot"(
        const float **x, const double *w, Py_ssize_t n, Py_ssize_t width, double a, double *z) noexcept nogil
    void one_fd_axpy "fastopt_one_fd_axpy"(
        const float **x, double *w, Py_ssize_t n, Py_ssize_t width, double a, const double *z) noexcept nogil
    void one_dd_dot "fastopt_one_dd_dot"(
        const double **x, const double *w, Py_ssize_t n, Py_ssize_t width, double a, double *z) noexcept nogil
    void one_dd_axpy "fastopt_one_dd_axpy"(
        const double **x, double *w, Py_ssize_t n, Py_ssize_t width, double a, const double *z) noexcept nogil
    void flat_f_dot "fastopt_flat_f_dot"(
        const float *x, const float *w, Py_ssize_t n, Py_ssize_t width, float a, float *z) noexcept nogil
    void flat_f_axpy "fastopt_flat_f_axpy"(
        const float *x, float *w, Py_ssize_t n, Py_ssize_t width, float a, const float *z) noexcept nogil
    void flat_d_dot "fastopt_flat_d_dot"(
        const double *x, const double *w, Py_ssize_t n, Py_ssize_t width, double a, double *z) noexcept nogil
    void flat_d_axpy "fastopt_flat_d_axpy"(
        const double *x, double *w, Py_ssize_t n, Py_ssize_t width, double a, const double *z) noexcept nogil
    void entries_ffi_dot "fastopt_entries_ffi_dot"(
        const float *x, const int32_t *columns, Py_ssize_t n, const float *w, Py_ssize_t width, float a,
        float *z) noexcept nogil
    void entries_ffi_axpy "fastopt_entries_ffi_axpy"(
        const float *x, const int32_t *columns, Py_ssize_t n, float *w, Py_ssize_t width, float a,
        const float *z) noexcept nogil
    void entries_ffl_dot "fastopt_entries_ffl_dot"(
        const float *x, const int64_t *columns, Py_ssize_t n, const float *w, Py_ssize_t width, float a,
        float *z) noexcept nogil
    void entries_ffl_axpy "fastopt_entries_ffl_axpy"(
        const float *x, const int64_t *columns, Py_ssize_t n, float *w, Py_ssize_t width, float a,
        const float *z) noexcept nogil
    void entries_fdi_dot "fastopt_entries_fdi_dot"(
        const float *x, const int32_t *columns, Py_ssize_t n, const double *w, Py_ssize_t width, double a,
        double *z) noexcept nogil
    void entries_fdi_axpy "fastopt_entries_fdi_axpy"(
        const float *x, const int32_t *columns, Py_ssize_t n, double *w, Py_ssize_t width, double a,
        const double *z) noexcept nogil
    void entries_fdl_dot "fastopt_entries_fdl_dot"(
        const float *x, const int64_t *columns, Py_ssize_t n, const double *w, Py_ssize_t width, double a,
        double *z) noexcept nogil
    void entries_fdl_axpy "fastopt_entries_fdl_axpy"(
        const float *x, const int64_t *columns, Py_ssize_t n, double *w, Py_ssize_t width, double a,
        const double *z) noexcept nogil
    void entries_ddi_dot "fastopt_entries_ddi_dot"(
        const double *x, const int32_t *columns, Py_ssize_t n, const double *w, Py_ssize_t width, double a,
        double *z) noexcept nogil
    void entries_ddi_axpy "fastopt_entries_ddi_axpy"(
        const double *x, const int32_t *columns, Py_ssize_t n, double *w, Py_ssize_t width, double a,
        const double *z) noexcept nogil
    void entries_ddl_dot "fastopt_entries_ddl_dot"(
        const double *x, const int64_t *columns, Py_ssize_t n, const double *w, Py_ssize_t width, double a,
        double *z) noexcept nogil
    void entries_ddl_axpy "fastopt_entries_ddl_axpy"(
        const double *x, const int64_t *columns, Py_ssize_t n, double *w, Py_ssize_t width, double a,
        const double *z) noexcept nogil


cdef inline Py_ssize_t packed_width(Py_ssize_t n_outputs, Py_ssize_t itemsize) noexcept nogil:
    """Numbers that a feature's outputs take when packed: a quarter, a half, or several whole vectors."""
    cdef Py_ssize_t lanes = VECTOR // itemsize
    if n_outputs <= lanes // 4:
        return lanes // 4
    return lanes // 2 if n_outputs <= lanes // 2 else (n_outputs + lanes - 1) // lanes * lanes


cdef inline void dots(const real **x, const real **next, const wide *w, Py_ssize_t n, wide *out) noexcept nogil:
    """The dot products of ROWS rows with w; unless NULL, `next` is half as many rows to ask for."""
    if real is float and wide is float:
        dots_ff(x, next, w, n, out)
    elif real is float:
        dots_fd(x, next, w, n, out)
    elif wide is double:
        dots_dd(x, next, w, n, out)


cdef inline void axpys(const wide *a, const real **x, const real **next, wide *w, Py_ssize_t n) noexcept nogil:
    """w += sum over ROWS rows of a[r] x[r]; `next` as in `dots`."""
    if real is float and wide is float:
        axpys_ff(a, x, next, w, n)
    elif real is float:
        axpys_fd(a, x, next, w, n)
    elif wide is double:
        axpys_dd(a, x, next, w, n)


cdef inline void many_dot(const real **x, const wide *w, Py_ssize_t n, Py_ssize_t width, wide a,
                          wide *z) noexcept nogil:
    """z[r] += a x[r]' W for ROWS dense rows."""
    if real is float and wide is float:
        many_ff_dot(x, w, n, width, a, z)
    elif real is float:
        many_fd_dot(x, w, n, width, a, z)
    elif wide is double:
        many_dd_dot(x, w, n, width, a, z)


cdef inline void outputs_dot(const real *x, const wide *w, Py_ssize_t n, Py_ssize_t width, wide a,
                             wide *z) noexcept nogil:
    """z += a x' W for one dense row; W is (n, width)."""
    if real is float and wide is float:
        one_ff_dot(&x, w, n, width, a, z)
    elif real is float:
        one_fd_dot(&x, w, n, width, a, z)
    elif wide is double:
        one_dd_dot(&x, w, n, width, a, z)


cdef inline void sparse_outputs_dot(const real *x, const index *columns, Py_ssize_t n, const wide *w, Py_ssize_t width,
                                    wide a, wide *z) noexcept nogil:
    """`outputs_dot` for the n entries of a CSR row."""
    if real is float and wide is float:
        if index is int32_t:
            entries_ffi_dot(x, columns, n, w, width, a, z)
        else:
            entries_ffl_dot(x, columns, n, w, width, a, z)
    elif real is float:
        if index is int32_t:
            entries_fdi_dot(x, columns, n, w, width, a, z)
        else:
            entries_fdl_dot(x, columns, n, w, width, a, z)
    elif wide is double:
        if index is int32_t:
            entries_ddi_dot(x, columns, n, w, width, a, z)
        else:
            entries_ddl_dot(x, columns, n, w, width, a, z)


cdef inline void many_axpy(const real **x, wide *w, Py_ssize_t n, Py_ssize_t width, wide a,
                           const wide *z) noexcept nogil:
    """W += a sum over r of x[r] z[r]' for ROWS dense rows."""
    if real is float and wide is float:
        many_ff_axpy(x, w, n, width, a, z)
    elif real is float:
        many_fd_axpy(x, w, n, width, a, z)
    elif wide is double:
        many_dd_axpy(x, w, n, width, a, z)


cdef inline void outputs_axpy(const real *x, wide *w, Py_ssize_t n, Py_ssize_t width, wide a,
                              const wide *z) noexcept nogil:
    """W += a x z' for one dense row; W is (n, width)."""
    if real is float and wide is float:
        one_ff_axpy(&x, w, n, width, a, z)
    elif real is float:
        one_fd_axpy(&x, w, n, width, a, z)
    elif wide is double:
        one_dd_axpy(&x, w, n, width, a, z)


cdef inline void sparse_outputs_axpy(const real *x, const index *columns, Py_ssize_t n, wide *w, Py_ssize_t width,
                                     wide a, const wide *z) noexcept nogil:
    """`outputs_axpy` for the n entries of a CSR row."""
    if real is float and wide is float:
        if index is int32_t:
            entries_ffi_axpy(x, columns, n, w, width, a, z)
        else:
            entries_ffl_axpy(x, columns, n, w, width, a, z)
    elif real is float:
        if index is int32_t:
            entries_fdi_axpy(x, columns, n, w, width, a, z)
        else:
            entries_fdl_axpy(x, columns, n, w, width, a, z)
    elif wide is double:
        if index is int32_t:
            entries_ddi_axpy(x, columns, n, w, width, a, z)
        else:
            entries_ddl_axpy(x, columns, n, w, width, a, z)


cdef inline void lone_outputs_dot(const real *x, const real *w, Py_ssize_t n, Py_ssize_t width, real a,
                                  real *z) noexcept nogil:
    """`outputs_dot` of a row that comes alone, added in another order than in a block."""
    if real is float:
        flat_f_dot(x, w, n, width, a, z)
    else:
        flat_d_dot(x, w, n, width, a, z)


cdef inline void lone_outputs_axpy(const real *x, real *w, Py_ssize_t n, Py_ssize_t width, real a,
                                   const real *z) noexcept nogil:
    """`outputs_axpy` of a row that comes alone."""
    if real is float:
        flat_f_axpy(x, w, n, width, a, z)
    else:
        flat_d_axpy(x, w, n, width, a, z)
