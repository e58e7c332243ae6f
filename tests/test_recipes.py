"""The recipes of CONTRIBUTING.md, carried out: a new rule and a new loss on a copy of the tree."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif(
    not (ROOT / "fastopt" / "_kernels" / "rule.pxd").exists(), reason="the sources are not here"
)
FILES = ("fastopt", "tests", "bench", "setup.py", "pyproject.toml", "README.md", "CONTRIBUTING.md")


def hunks(title):
    """(file, lines that are there, lines that shall be) of a recipe's diffs, in the page's order."""
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    recipe = page.partition(f"### {title}\n")[2].partition("\n### ")[0]
    found = []
    for block in re.findall(r"```diff\n(.*?)```", recipe, flags=re.DOTALL):
        for part in block.split("+++ ")[1:]:
            name, *changes = re.split(r"\n@@\n", part)
            for change in changes:
                lines = change.splitlines()
                assert {line[:1] for line in lines if line} <= {" ", "+", "-"}
                before = [line[1:] for line in lines if line[:1] != "+"]
                found.append((name, before, [line[1:] for line in lines if line[:1] != "-"]))
    assert found
    return found


def carry_out(title, root):
    """Changes the files under root as the recipe says; each place must be there, once."""
    for name, before, after in hunks(title):
        path = root / name
        old, new = ("\n".join(lines) + "\n" for lines in (before, after))
        text = path.read_text(encoding="utf-8")
        assert text.count("\n" + old) == 1, f"{name}, {text.count(old)} times:\n{old}"
        path.write_text(text.replace("\n" + old, "\n" + new), encoding="utf-8")


def copy_of_the_tree(root):
    skip = shutil.ignore_patterns("*.so", "__pycache__", "results", "*.c")
    for name in FILES:
        copy = shutil.copyfile if (ROOT / name).is_file() else shutil.copytree
        copy(ROOT / name, root / name, **({"ignore": skip} if copy is shutil.copytree else {}))


@pytest.fixture
def tree(tmp_path):
    copy_of_the_tree(tmp_path)
    return tmp_path


def test_places_of_the_recipes_are_there(tree):
    carry_out("Add an update rule", tree)
    carry_out("Add a loss", tree)
    for name in {name for title in ("Add an update rule", "Add a loss") for name, *_ in hunks(title)}:
        if name.endswith(".py"):
            compile((tree / name).read_text(encoding="utf-8"), name, "exec")


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif("FASTOPT_RECIPES" not in os.environ, reason="compiles a tree of its own: make recipes")
def test_recipes(tree):
    carry_out("Add an update rule", tree)
    carry_out("Add a loss", tree)
    environment = os.environ | {"FASTOPT_LEVELS": "", "PYTHONPATH": str(tree)}

    def run(*arguments):
        done = subprocess.run([sys.executable, *arguments], cwd=tree, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
        return done.stdout

    run("setup.py", "--quiet", "build_ext", "--inplace")
    new = "wngrad or WNGrad or soft_absolute or SoftAbsolute"
    told = run("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests", "-k", new)
    assert int(re.search(r"(\d+) passed", told)[1]) > 300
    run("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_tables.py", "tests/test_imports.py")
    run("-m", "pytest", "-q", "-p", "no:cacheprovider", "--doctest-modules", "fastopt/optimizers.py")
