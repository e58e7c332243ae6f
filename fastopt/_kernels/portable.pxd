"""Types and compiler hints that every kernel shares. Nothing here depends on NumPy."""
from libc.stdint cimport int32_t, int64_t

ctypedef fused real:
    float
    double

# The parameters' type where it may be wider than the data's: passes over float32 rows sum in double.
ctypedef fused wide:
    float
    double

ctypedef fused index:
    int32_t
    int64_t

cdef extern from *:
    """
    #if defined(__GNUC__) || defined(__clang__)
    #define FASTOPT_PREFETCH(p) __builtin_prefetch(p)
    #else
    #define FASTOPT_PREFETCH(p) ((void)0)
    #endif
    """
    void prefetch "FASTOPT_PREFETCH"(const void *address) noexcept nogil
