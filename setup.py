"""The compiled modules; everything else about the package is in pyproject.toml.

Switches, read from the environment:
  FASTOPT_DEBUG=1     checks on every index and memoryview, -O1 -g
  FASTOPT_SANITIZE=1  the address and undefined-behaviour sanitizers (gcc and clang)
Every switch builds the same module names, so the test suite runs unchanged on each.
"""

import os
import pathlib
import sys

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

DEBUG = os.environ.get("FASTOPT_DEBUG", "0") not in ("", "0")
SANITIZE = os.environ.get("FASTOPT_SANITIZE", "0") not in ("", "0")
KERNELS = pathlib.Path("fastopt", "_kernels")

DIRECTIVES = {
    "language_level": 3,
    "boundscheck": DEBUG,
    "wraparound": False,  # no kernel counts from the end: with boundscheck a negative index is an error
    "initializedcheck": DEBUG,
    "nonecheck": False,  # its check needs the GIL, and the loops have none
    "cdivision": True,
    "binding": True,
    "embedsignature": True,
    "freethreading_compatible": True,
}

if sys.platform == "win32":
    COMPILE, LINK, LIBRARIES = (["/Od", "/Zi"] if DEBUG else ["/O2"]), [], []
else:
    # The parts of -ffast-math that let sums vectorise. Never -ffast-math itself: it drops the NaN checks, and with
    # gcc < 13 linking it sets flush-to-zero for the whole process.
    RELAXED = ["-fno-math-errno", "-fno-trapping-math", "-fassociative-math", "-fno-signed-zeros"]
    COMPILE = (["-O1", "-g"] if DEBUG or SANITIZE else ["-O3"]) + RELAXED
    LINK, LIBRARIES = (["-fsanitize=address,undefined"] if SANITIZE else []), ["m"]
    COMPILE += [*LINK, "-fno-omit-frame-pointer"] if SANITIZE else []


class BuildExt(build_ext):
    """Translate when compiling, not when this file is read: metadata and sdists need no translation."""

    def finalize_options(self):
        super().finalize_options()
        if self.inplace:  # editable installs and "build_ext --inplace" share what they compiled
            self.build_lib = "build/inplace-" + sys.implementation.cache_tag

    def build_extensions(self):
        # Timestamps say nothing about directives and flags: translate again whenever they differ from the last build's.
        flavour = pathlib.Path("build", "flavour.txt")
        wanted = repr((sys.version_info[:2], DIRECTIVES, COMPILE, LINK))
        changed = not flavour.exists() or flavour.read_text() != wanted
        translated = cythonize(
            self.extensions, build_dir="build/cython", nthreads=os.cpu_count() or 1,
            compiler_directives=DIRECTIVES, force=changed or self.force or None,
        )  # fmt: skip
        for ours, theirs in zip(self.extensions, translated, strict=True):
            ours.sources = theirs.sources
        self.parallel = self.parallel or os.cpu_count()
        super().build_extensions()
        flavour.write_text(wanted)


def extension(path):
    # abi3 would be define_macros=[("Py_LIMITED_API", "0x030B0000")] and py_limited_api=True here, and
    # options={"bdist_wheel": {"py_limited_api": "cp311"}} below, except in free-threaded builds.
    return Extension(
        ".".join(path.with_suffix("").parts), [str(path)], depends=sorted(map(str, KERNELS.glob("*.pxd"))),
        extra_compile_args=COMPILE, extra_link_args=LINK, libraries=LIBRARIES,
    )  # fmt: skip


if __name__ == "__main__":  # cythonize's worker processes import this file where they cannot fork
    setup(ext_modules=[extension(path) for path in sorted(KERNELS.glob("*.pyx"))], cmdclass={"build_ext": BuildExt})
