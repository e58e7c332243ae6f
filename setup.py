"""The compiled modules; everything else about the package is in pyproject.toml.

Switches, read from the environment:
  FASTOPT_ABI3=1       one build for every CPython from 3.11 on, by the limited API; free-threaded builds ignore it
  FASTOPT_LEVELS=v4    vector levels to compile beside the baseline, comma separated ("" for none); all by default
  FASTOPT_DEBUG=1      checks on every index and memoryview, -O1 -g
  FASTOPT_SANITIZE=1   the address and undefined-behaviour sanitizers (gcc and clang)
Every switch builds the same module names, so the test suite runs unchanged on each.
"""

import gzip
import os
import pathlib
import sys
import sysconfig
import tarfile

from Cython import __version__ as cython_version
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.sdist import sdist
from setuptools.errors import CompileError

DEBUG = os.environ.get("FASTOPT_DEBUG", "0") not in ("", "0")
SANITIZE = os.environ.get("FASTOPT_SANITIZE", "0") not in ("", "0")
FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
ABI3 = os.environ.get("FASTOPT_ABI3", "0") not in ("", "0") and not FREE_THREADED
KERNELS = pathlib.Path("fastopt", "_kernels")
# Cython's own code for memoryviews and functions: one module that the others import, not a copy of 150 kB in each.
SHARED = "fastopt._kernels.cython_shared"

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
    "show_performance_hints": not DEBUG,  # which would be to check nothing
}
MACROS = [("Py_LIMITED_API", "0x030B0000")] if ABI3 else []
if FREE_THREADED and sys.platform == "win32":
    MACROS += [("Py_GIL_DISABLED", "1")]  # one header serves both builds there and cannot know

# Never -ffast-math: it drops the NaN checks, and with gcc < 13 linking it sets flush-to-zero for the whole process.
# Nor -fassociative-math: it undoes compensated sums (the kernels' exp would lose two digits).
RELAXED = ["-fno-math-errno", "-fno-trapping-math", "-fno-inline-functions-called-once"]
# Only what is called, only the symbols that Python looks for, nothing for debuggers: most of a wheel would be these.
SMALL = ["-g0", "-fvisibility=hidden", "-ffunction-sections", "-fdata-sections"]
DROP = ["-Wl,-dead_strip,-x"] if sys.platform == "darwin" else ["-Wl,--gc-sections,-s"]
SANITIZERS = ["-fsanitize=address,undefined"]
FLAGS = {  # by setuptools' name of the compiler (unix is gcc or clang) and what is built: compiling, linking
    ("unix", "fast"): (["-O3", *RELAXED, *SMALL], DROP),
    ("unix", "debug"): (["-O1", "-g", *RELAXED], []),
    ("unix", "sanitize"): (["-O1", "-g", *RELAXED, *SANITIZERS, "-fno-omit-frame-pointer"], SANITIZERS),
    ("msvc", "fast"): (["/O2"], []),
    ("msvc", "debug"): (["/Od", "/Zi"], ["/DEBUG"]),
}
# Every module but those of WITHOUT is compiled once more for each of these, into a folder of the level's name; which is
# used is decided at import (fastopt/_kernels/__init__.py). Other processors than x86-64 have the baseline alone, which
# on aarch64 includes NEON.
LEVELS = {
    "v3": {"unix": ["-march=x86-64-v3"], "msvc": ["/arch:AVX2"]},
    "v4": {"unix": ["-march=x86-64-v4", "-mprefer-vector-width=512"], "msvc": ["/arch:AVX512"]},
}
# What a level's folder leaves to the one below, which makes a wheel smaller: modules in which nothing vectorises, and
# those in which wider vectors gain nothing (a dual epoch of 4,000 x 100 dense rows takes 0.32 ms by the baseline, 0.21
# by v3 and 0.22 by v4, checking 1.5 million entries 0.47, 0.22 and 0.22).
ONCE = ("about", "plan", "shuffle", "terms")
WITHOUT = {"v3": ONCE, "v4": (*ONCE, "check", "dual")}
if DEBUG or SANITIZE or not sysconfig.get_platform().endswith(("x86_64", "amd64")):
    LEVELS = {}  # checked builds look for other things than speed
elif "FASTOPT_LEVELS" in os.environ:
    LEVELS = {name: flags for name, flags in LEVELS.items() if name in os.environ["FASTOPT_LEVELS"].split(",")}


class BuildExt(build_ext):
    """Translate when compiling, not when this file is read: metadata and sdists need no translation."""

    def finalize_options(self):
        super().finalize_options()
        if self.inplace:  # editable installs and "build_ext --inplace" share what they compiled
            self.build_lib = "build/inplace-" + sys.implementation.cache_tag
            for level in LEVELS:
                (KERNELS / level).mkdir(exist_ok=True)
            for level, names in WITHOUT.items():  # modules of another build are not to be found
                left_out = names if level in LEVELS else ("*",)
                for stale in [path for name in left_out for path in (KERNELS / level).glob(f"{name}.*")]:
                    stale.unlink()

    def build_extensions(self):
        compiler = self.compiler.compiler_type
        flags = FLAGS[compiler, "debug" if DEBUG else "sanitize" if SANITIZE else "fast"]
        # Timestamps say nothing about directives, flags and Cython's version: translate again whenever they differ from
        # the last build's.
        flavour = pathlib.Path("build", "flavour.txt")
        wanted = repr((sys.version_info[:2], cython_version, DIRECTIVES, MACROS, flags, LEVELS))
        changed = not flavour.exists() or flavour.read_text() != wanted
        if compiler == "unix" and not (DEBUG or SANITIZE):
            # The folder of the interpreter's own libraries, which pyenv's and conda's name: no module has use for them,
            # and a wheel is for other machines.
            linker = self.compiler.linker_so
            linker[:] = [word for word in linker if not word.startswith(("-Wl,-rpath,", "-Wl,-rpath="))]
        plain = [extension for extension in self.extensions if extension.level is None]
        translated = cythonize(
            plain, build_dir="build/cython", nthreads=os.cpu_count() or 1, compiler_directives=DIRECTIVES,
            shared_utility_qualified_name=SHARED, force=changed or self.force or None,
        )  # fmt: skip
        for ours, theirs in zip(plain, translated, strict=True):
            ours.sources = theirs.sources
        known = {level for level in LEVELS if self.can_compile(LEVELS[level][compiler])}
        self.extensions[:] = [e for e in self.extensions if e.level is None or e.level in known]
        for extension in self.extensions:
            extension.extra_compile_args, extension.extra_link_args = list(flags[0]), list(flags[1])
            extension.libraries = [] if compiler == "msvc" else ["m"]
            if extension.level is not None:
                extension.extra_compile_args += LEVELS[extension.level][compiler]
                extension.sources = [at_level(extension.level, extension.sources[0])]
        # The longest first: at last no processor is to wait for one that has just begun.
        self.extensions.sort(key=lambda extension: translated_size(extension.name), reverse=True)
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


class SDist(sdist):
    """With SOURCE_DATE_EPOCH set, the same files give the same bytes, whoever packs them and when."""

    def make_archive(self, base_name, format, root_dir=None, base_dir=None, owner=None, group=None):
        if "SOURCE_DATE_EPOCH" not in os.environ or format != "gztar":
            return super().make_archive(base_name, format, root_dir, base_dir, owner, group)
        date = int(os.environ["SOURCE_DATE_EPOCH"])
        path = pathlib.Path(base_name + ".tar.gz")
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            path.open("wb") as file,
            gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=date) as packed,
            tarfile.open(fileobj=packed, mode="w") as archive,
        ):
            for name in sorted(pathlib.Path(base_dir).rglob("*")):
                info = archive.gettarinfo(name)
                info.mtime, info.uid, info.gid, info.uname, info.gname = date, 0, 0, "", ""
                info.mode = 0o755 if info.mode & 0o100 else 0o644
                if info.isreg():
                    with open(name, "rb") as content:
                        archive.addfile(info, content)
        return str(path)


def translated_size(name):
    """Bytes of the C that a module is compiled from, at whatever level."""
    path = pathlib.Path("build", "cython", KERNELS, name.rpartition(".")[2] + ".c")
    return path.stat().st_size if path.exists() else 0


def at_level(level, source):
    """The same translated source under a path of its own: object files are named after their sources."""
    translated = pathlib.Path("build", "cython", source).with_suffix(".c")
    path = pathlib.Path("build", "cython", level, translated.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = f'#include "{pathlib.Path(os.path.relpath(translated, path.parent)).as_posix()}"\n'
    if not path.exists() or path.read_text() != text:
        path.write_text(text)
    return str(path)


def extension(path, level=None):
    made = Extension(
        ".".join([*path.parent.parts, *([level] if level else []), path.stem]), [str(path)], define_macros=MACROS,
        depends=sorted(map(str, [path, *KERNELS.glob("*.pxd")])), py_limited_api=ABI3,
    )  # fmt: skip
    made.level = level
    return made


if __name__ == "__main__":  # cythonize's worker processes import this file where they cannot fork
    MODULES = sorted(KERNELS.glob("*.pyx"))
    shared = Extension(SHARED, [SHARED.replace(".", "/") + ".c"], define_macros=MACROS, py_limited_api=ABI3)
    shared.level = None
    setup(
        ext_modules=[shared]
        + [extension(path) for path in MODULES]
        + [extension(path, level) for level in LEVELS for path in MODULES if path.stem not in WITHOUT[level]],
        cmdclass={"build_ext": BuildExt, "sdist": SDist},
        options={"bdist_wheel": {"py_limited_api": "cp311"}} if ABI3 else {},
    )
