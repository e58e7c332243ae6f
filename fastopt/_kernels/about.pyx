"""What only the C compiler and the processor know: who compiled the modules, and which vectors they may use."""

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

    /* The widest vector level that processor and system can run: its place in LEVELS of __init__.py. The libraries'
       checks behind these names include what the operating system saves when it switches threads. */
    #if defined(_MSC_VER) && defined(_M_X64)
      #include <windows.h>
      static int fastopt_level(void) {
          return IsProcessorFeaturePresent(41) ? 2 : IsProcessorFeaturePresent(40) ? 1 : 0;  /* AVX512F, AVX2 */
      }
    #elif defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
      static int fastopt_level(void) {
          __builtin_cpu_init();
          if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !__builtin_cpu_supports("bmi2"))
              return 0;
          return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
              && __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq")
              && __builtin_cpu_supports("avx512vl") ? 2 : 1;
      }
    #else
      static int fastopt_level(void) { return 0; }
    #endif
    """
    const char *FASTOPT_COMPILER
    int fastopt_level()
    const int CYTHON_HEX_VERSION

COMPILER = FASTOPT_COMPILER.decode()

# The widest vector level that this machine can run, counted from the baseline.
LEVEL = fastopt_level()

CYTHON = ".".join(str(CYTHON_HEX_VERSION >> shift & 0xFF) for shift in (24, 16, 8))
