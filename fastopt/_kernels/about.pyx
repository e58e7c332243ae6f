"""What only the C compiler knows about the compiled modules: who made them, and for what."""

cdef extern from *:
    """
    #define FASTOPT_TEXT_OF(x) #x
    #define FASTOPT_TEXT(x) FASTOPT_TEXT_OF(x)
    #if defined(__clang__)
      #define FASTOPT_COMPILER __VERSION__
    #elif defined(__GNUC__)
      #define FASTOPT_COMPILER "gcc " __VERSION__
    #elif defined(_MSC_VER)
      #define FASTOPT_COMPILER "MSVC " FASTOPT_TEXT(_MSC_FULL_VER)
    #else
      #define FASTOPT_COMPILER "unknown"
    #endif
    #if defined(__AVX512F__)
      #define FASTOPT_VECTORS "AVX-512"
    #elif defined(__AVX2__)
      #define FASTOPT_VECTORS "AVX2"
    #elif defined(__AVX__)
      #define FASTOPT_VECTORS "AVX"
    #elif defined(__SSE2__) || defined(_M_X64)
      #define FASTOPT_VECTORS "SSE2"
    #elif defined(__ARM_NEON) || defined(_M_ARM64)
      #define FASTOPT_VECTORS "NEON"
    #else
      #define FASTOPT_VECTORS "none"
    #endif
    """
    const char *FASTOPT_COMPILER
    const char *FASTOPT_VECTORS
    const int CYTHON_HEX_VERSION

COMPILER = FASTOPT_COMPILER.decode()

# Widest vector instructions that every loop may use.
VECTORS = FASTOPT_VECTORS.decode()

CYTHON = ".".join(str(CYTHON_HEX_VERSION >> shift & 0xFF) for shift in (24, 16, 8))
