"""exp, log and log1p that vectorise.

exp: within 2 ulp in the dtype, between the smallest normal number and the largest finite one.

Beyond that range the value is the one at its end (never 0 nor inf); NaN stays NaN. x = n log 2 + r with
|r| <= log(2) / 2, n log 2 taken off in two parts (Cody and Waite), the series of exp(r), and n added to the exponent's
bits. Adding 1.5 * 2^52 (float: 2^23) rounds to n, and leaves it in the sum's last bits. The series goes by Estrin's
scheme: a batch of one row waits for its sum, and Horner's is twice as long a chain.

log1p: within 2 ulp for x in [0, 1]: 2 artanh(x / (2 + x)), by its series.

log of a positive normal number, within some ulp: x = 2^n m with m in [sqrt(1/2), sqrt(2)), and log1p(m - 1).
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
        double n, r, r2, r4, p;
        uint64_t bits, power;
        x = x < fastopt_low ? fastopt_low : x;
        x = x > fastopt_high ? fastopt_high : x;
        n = x * 1.4426950408889634 + 6755399441055744.0;
        memcpy(&power, &n, sizeof n);
        n -= 6755399441055744.0;
        r = (x - n * 6.93147180369123816490e-01) - n * 1.90821492927058770002e-10;
        r2 = r * r;
        r4 = r2 * r2;
        p = ((0.5 + 1.0 / 6 * r) + (1.0 / 24 + 1.0 / 120 * r) * r2)
          + ((1.0 / 720 + 1.0 / 5040 * r) + (1.0 / 40320 + 1.0 / 362880 * r) * r2) * r4
          + ((1.0 / 3628800 + 1.0 / 39916800 * r) + (1.0 / 479001600 + 1.0 / 6227020800 * r) * r2) * (r4 * r4);
        p = (p * r2 + r) + 1;
        memcpy(&bits, &p, sizeof p);
        bits += power << 52;
        memcpy(&p, &bits, sizeof p);
        return x == x ? p : x;
    }

    static inline float fastopt_expf(float x) {
        float n, r, r2, p;
        uint32_t bits, power;
        x = x < fastopt_lowf ? fastopt_lowf : x;
        x = x > fastopt_highf ? fastopt_highf : x;
        n = x * 1.44269504f + 12582912.0f;
        memcpy(&power, &n, sizeof n);
        n -= 12582912.0f;
        r = (x - n * 6.93145752e-1f) - n * 1.42860677e-6f;
        r2 = r * r;
        p = ((0.5f + 1.0f / 6 * r) + (1.0f / 24 + 1.0f / 120 * r) * r2) + (1.0f / 720 + 1.0f / 5040 * r) * (r2 * r2);
        p = (p * r2 + r) + 1;
        memcpy(&bits, &p, sizeof p);
        bits += power << 23;
        memcpy(&p, &bits, sizeof p);
        return x == x ? p : x;
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

    static inline double fastopt_log(double x) {
        uint64_t bits, power;
        double n, m;
        memcpy(&bits, &x, sizeof x);
        power = ((bits - 0x3fe6a09e667f3bcdULL) >> 52) + 1023;
        power &= 0xfff;                                                    /* n + 1023 */
        bits -= (power - 1023) << 52;
        memcpy(&m, &bits, sizeof m);
        power |= 0x4330000000000000ULL;
        memcpy(&n, &power, sizeof n);
        n -= 4503599627370496.0 + 1023.0;
        return n * 6.93147180369123816490e-01 + (fastopt_log1p(m - 1) + n * 1.90821492927058770002e-10);
    }
    """
    double log_normal "fastopt_log"(double x) noexcept nogil
    double log1p "fastopt_log1p"(double x) noexcept nogil
    double exp_double "fastopt_exp"(double x) noexcept nogil
    float exp_float "fastopt_expf"(float x) noexcept nogil


cdef inline real exp(real x) noexcept nogil:
    if real is float:
        return exp_float(x)
    else:
        return exp_double(x)
