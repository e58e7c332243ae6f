"""exp and log1p that vectorise.

exp: within 2 ulp in the dtype, between the smallest normal number and the largest finite one.

Beyond that range the value is the one at its end (never 0 nor inf); NaN stays NaN. x = n log 2 + r with
|r| <= log(2) / 2, n log 2 taken off in two parts (Cody and Waite), the series of exp(r), and n added to the exponent's
bits.

log1p: within 2 ulp for x in [0, 1]: 2 artanh(x / (2 + x)), by its series.
"""
from fastopt._kernels.portable cimport real

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    #include <math.h>
    /* Where x leaves the range. Variables that gcc must take for changeable: it would compute a constant's polynomial
       beforehand, and the branch to it would keep the loops around from being vectorised. */
    #if defined(__GNUC__) || defined(__clang__)
    #define FASTOPT_CHANGEABLE __attribute__((used))
    #else
    #define FASTOPT_CHANGEABLE
    #endif
    static double fastopt_low FASTOPT_CHANGEABLE = -708.3, fastopt_high FASTOPT_CHANGEABLE = 709.7;
    static float fastopt_lowf FASTOPT_CHANGEABLE = -87.3f, fastopt_highf FASTOPT_CHANGEABLE = 88.7f;

    static inline double fastopt_exp(double x) {
        double n, r, p;
        int64_t bits;
        x = x < fastopt_low ? fastopt_low : x;
        x = x > fastopt_high ? fastopt_high : x;
        n = x * 1.4426950408889634;
        n = (double)(int32_t)(n + copysign(0.5, n));
        r = (x - n * 6.93147180369123816490e-01) - n * 1.90821492927058770002e-10;
        p = 1.0 / 6227020800;
        p = p * r + 1.0 / 479001600;
        p = p * r + 1.0 / 39916800;
        p = p * r + 1.0 / 3628800;
        p = p * r + 1.0 / 362880;
        p = p * r + 1.0 / 40320;
        p = p * r + 1.0 / 5040;
        p = p * r + 1.0 / 720;
        p = p * r + 1.0 / 120;
        p = p * r + 1.0 / 24;
        p = p * r + 1.0 / 6;
        p = p * r + 0.5;
        p = (p * (r * r) + r) + 1;
        memcpy(&bits, &p, sizeof p);
        bits += (int64_t)((uint64_t)(int64_t)(int32_t)n << 52);
        memcpy(&p, &bits, sizeof p);
        return p;
    }

    static inline float fastopt_expf(float x) {
        float n, r, p;
        int32_t bits;
        x = x < fastopt_lowf ? fastopt_lowf : x;
        x = x > fastopt_highf ? fastopt_highf : x;
        n = x * 1.44269504f;
        n = (float)(int32_t)(n + copysignf(0.5f, n));
        r = (x - n * 6.93145752e-1f) - n * 1.42860677e-6f;
        p = 1.0f / 5040;
        p = p * r + 1.0f / 720;
        p = p * r + 1.0f / 120;
        p = p * r + 1.0f / 24;
        p = p * r + 1.0f / 6;
        p = p * r + 0.5f;
        p = (p * (r * r) + r) + 1;
        memcpy(&bits, &p, sizeof p);
        bits += (int32_t)((uint32_t)(int32_t)n << 23);
        memcpy(&p, &bits, sizeof p);
        return p;
    }

    static inline double fastopt_log1p(double x) {
        double s = x / (2 + x), q = s * s, p = 1.0 / 33;
        p = p * q + 1.0 / 31;
        p = p * q + 1.0 / 29;
        p = p * q + 1.0 / 27;
        p = p * q + 1.0 / 25;
        p = p * q + 1.0 / 23;
        p = p * q + 1.0 / 21;
        p = p * q + 1.0 / 19;
        p = p * q + 1.0 / 17;
        p = p * q + 1.0 / 15;
        p = p * q + 1.0 / 13;
        p = p * q + 1.0 / 11;
        p = p * q + 1.0 / 9;
        p = p * q + 1.0 / 7;
        p = p * q + 1.0 / 5;
        p = p * q + 1.0 / 3;
        return 2 * (p * (q * s) + s);
    }
    """
    double log1p "fastopt_log1p"(double x) noexcept nogil
    double exp_double "fastopt_exp"(double x) noexcept nogil
    float exp_float "fastopt_expf"(float x) noexcept nogil


cdef inline real exp(real x) noexcept nogil:
    if real is float:
        return exp_float(x)
    else:
        return exp_double(x)
