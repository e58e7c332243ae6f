"""The compiled modules; everything else about the package is in pyproject.toml.

Switches, read from the environment:
  FASTOPT_DEBUG=1      checks on every index and memoryview, -O1 -g
  FASTOPT_SANITIZE=1   the address and undefined-behaviour sanitizers (gcc and clang)
  FASTOPT_LEVELS=v4    vector levels to compile beside the baseline, comma separated ("" for none); all by default
Every switch builds the same module names, so the test suite runs unchanged on each.
"""

import os
import pathlib
import sys
import sysconfig

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

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
    # Never -ffast-math: it drops the NaN checks, and with gcc < 13 linking it sets flush-to-zero for the whole process.
    # Nor -fassociative-math: it undoes compensated sums (the kernels' exp would lose two digits).
    RELAXED = ["-fno-math-errno", "-fno-trapping-math", "-fno-inline-functions-called-once"]
    COMPILE = (["-O1", "-g"] if DEBUG or SANITIZE else ["-O3"]) + RELAXED
    LINK, LIBRARIES = (["-fsanitize=address,undefined"] if SANITIZE else []), ["m"]
    COMPILE += [*LINK, "-fno-omit-frame-pointer"] if SANITIZE else []


# Every module but `about` is compiled once more for each of these, into a folder of the level's name; which one is used
# is decided at import (fastopt/_kernels/__init__.py). Checked builds look for other things than speed.
LEVELS = {}
if sysconfig.get_platform().endswith(("x86_64", "amd64")) and not (DEBUG or SANITIZE):
    if sys.platform == "win32":
        LEVELS = {"v3": ["/arch:AVX2"], "v4": ["/arch:AVX512"]}
    else:
        LEVELS = {"v3": ["-march=x86-64-v3"], "v4": ["-march=x86-64-v4", "-mprefer-vector-width=512"]}
    if "FASTOPT_LEVELS" in os.environ:
        LEVELS = {name: flags for name, flags in LEVELS.items() if name in os.environ["FASTOPT_LEVELS"].split(",")}


class BuildExt(build_ext):
    """Translate when compiling, not when this file is read: metadata and sdists need no translation."""

    def finalize_options(self):
        super().finalize_options()
        if self.inplace:  # editable installs and "build_ext --inplace" share what they compiled
            self.build_lib = "build/inplace-" + sys.implementation.cache_tag
            for level in LEVELS:
                (KERNELS / level).mkdir(exist_ok=True)

    def build_extensions(self):
        # Timestamps say nothing about directives and flags: translate again whenever they differ from the last build's.
        flavour = pathlib.Path("build", "flavour.txt")
        wanted = repr((sys.version_info[:2], DIRECTIVES, COMPILE, LINK, LEVELS))
        changed = not flavour.exists() or flavour.read_text() != wanted
        plain = [extension for extension in self.extensions if extension.level is None]
        translated = cythonize(
            plain, build_dir="build/cython", nthreads=os.cpu_count() or 1, compiler_directives=DIRECTIVES,
            force=changed or self.force or None,
        )  # fmt: skip
        for ours, theirs in zip(plain, translated, strict=True):
            ours.sources = theirs.sources
        known = {level for level, flags in LEVELS.items() if self.can_compile(flags)}
        self.extensions[:] = [e for e in self.extensions if e.level is None or e.level in known]
        for extension in self.extensions:
            if extension.level is not None:
                extension.sources = [at_level(extension.level, extension.sources[0])]
        self.parallel = self.parallel or os.cpu_count()
        super().build_extensions()
        flavour.write_text(wanted)

    def can_compile(self, flags):
        """Whether the compiler knows these flags; an old one builds without the level."""
        probe = pathlib.Path("build", "probe.c")
        probe.write_text("int main(void) { return 0; }")
        try:
            self.compiler.compile([str(probe)], output_dir="build", extra_postargs=flags)
        except CompileError:
            return False
        return True


def at_level(level, source):
    """The same translated source under a path of its own: object files are named after their sources."""
    translated = pathlib.Path("build", "cython", source).with_suffix(".c")
    path = pathlib.Path("build", "cython", level, translated.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = f'#include "{translated.resolve().as_posix()}"\n'
    if not path.exists() or path.read_text() != text:
        path.write_text(text)
    return str(path)


def extension(path, level=None):
    # abi3 would be define_macros=[("Py_LIMITED_API", "0x030B0000")] and py_limited_api=True here, and
    # options={"bdist_wheel": {"py_limited_api": "cp311"}} below, except in free-threaded builds.
    made = Extension(
        ".".join([*path.parent.parts, *([level] if level else []), path.stem]), [str(path)],
        depends=sorted(map(str, [path, *KERNELS.glob("*.pxd")])), extra_link_args=LINK, libraries=LIBRARIES,
        extra_compile_args=COMPILE + LEVELS.get(level, []),
    )  # fmt: skip
    made.level = level
    return made


if __name__ == "__main__":  # cythonize's worker processes import this file where they cannot fork
    MODULES = sorted(KERNELS.glob("*.pyx"))
    setup(
        ext_modules=[extension(path) for path in MODULES]
        + [extension(path, level) for level in LEVELS for path in MODULES if path.stem != "about"],
        cmdclass={"build_ext": BuildExt},
    )
