"""The only compiled code. Import its modules by name, as in ``from fastopt._kernels import dense``.

Every module in which something vectorises is compiled once per vector level, into a folder of the level's name; the
plain baseline, and the modules in which nothing does, lie here. The folders of the level in use and of those below come
first in this package's path, so that ``fastopt._kernels.dense`` is that level's, or where it gains nothing the next
one's. FASTOPT_SIMD=baseline|v3|v4 in the environment forces one.
"""

import os
from pathlib import Path

from fastopt._kernels import about

#: Vector levels, the widest last: plain (SSE2 on x86-64, NEON on aarch64), x86-64-v3 (AVX2), x86-64-v4 (AVX-512).
LEVELS = ("baseline", "v3", "v4")


def _choose(wanted: str | None) -> str:
    """The widest level that was compiled and that the processor has, or the one asked for."""
    there = [name for name in LEVELS if name == "baseline" or any(Path(__path__[0], name).glob("dense.*"))]
    usable = [name for name in there if LEVELS.index(name) <= about.LEVEL]
    if not wanted:
        return usable[-1]
    if wanted not in usable:
        names = ", ".join(map(repr, usable))
        raise ImportError(f"FASTOPT_SIMD must be one of {names} on this machine; got {wanted!r}. Unset it to choose.")
    return wanted


#: The level in use.
LEVEL = _choose(os.environ.get("FASTOPT_SIMD"))
__path__[:0] = [str(Path(__path__[0], name)) for name in reversed(LEVELS[1 : LEVELS.index(LEVEL) + 1])]
