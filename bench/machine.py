"""Facts about the machine that a reader of figures needs; no host name, no user, no path."""

from __future__ import annotations

import os
import platform
import sys
import time
from importlib import metadata
from pathlib import Path

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


def pin_threads(n: int = 1) -> None:
    """Must run before NumPy is imported: BLAS libraries read these once."""
    for name in THREAD_VARIABLES:
        os.environ[name] = str(n)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _vectors() -> str:
    info = Path("/proc/cpuinfo")
    flags = info.read_text(encoding="utf-8") if info.exists() else ""
    return next((level for level in ("avx512f", "avx2", "avx", "sse2") if f" {level} " in flags), "unknown")


def facts() -> dict[str, str]:
    """What is shown beside every table."""
    from threadpoolctl import threadpool_info

    blas = {
        f"{pool['internal_api']} {pool.get('version') or ''}".strip(): pool["num_threads"]
        for pool in threadpool_info()
        if pool["user_api"] == "blas"
    }
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "vectors": _vectors(),
        "system": f"{platform.system()} {platform.machine()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "BLAS": ", ".join(sorted(blas)) or "unknown",  # found in any order, and a resumed run compares them
        "threads": ", ".join(sorted({str(n) for n in blas.values()})) or os.environ.get(THREAD_VARIABLES[0], "unknown"),
        **{name: version(name) for name in ("fastopt", "numpy", "scipy", "scikit-learn")},
    }


def version(distribution: str) -> str:
    """Version of an installed distribution; of Python itself when none is named."""
    if not distribution:
        return platform.python_version()
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        module = sys.modules.get(distribution)
        return getattr(module, "__version__", "not installed")  # run from its tree


# ---- memory --------------------------------------------------------------------------------------


def _status(field: str) -> int:
    """Bytes that Linux counts for this process under that name; 0 elsewhere."""
    path = Path("/proc/self/status")
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        if line.startswith(field + ":"):
            return 1024 * int(line.split()[1])
    return 0


def reset_peak_memory() -> int:
    """Let the peak begin anew, and return the memory in use; 0 where the system cannot."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return 0
    return _status("VmRSS")


def peak_memory() -> int:
    """The most memory in use since the last reset, in bytes."""
    return _status("VmHWM")


def memory_speed(d: int) -> dict[str, float]:
    """Bytes a second that NumPy moves in arrays of d float32: ``a += b`` (12 d bytes) and ``a[:] = b`` (8 d bytes).

    The best of three. The sum reads two arrays and writes one of them in place, as an update rule does.
    """
    import numpy as np

    a, b = (np.zeros(d, dtype=np.float32) + 1 for _ in range(2))
    best = {}
    for name, size, act in (("add", 12 * d, lambda: np.add(a, b, out=a)), ("copy", 8 * d, lambda: np.copyto(a, b))):
        seconds = []
        for _ in range(3):
            start = time.perf_counter()
            act()
            seconds.append(time.perf_counter() - start)
        best[name] = size / min(seconds)
    return best
