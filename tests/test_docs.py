"""The documentation beside its doctests: links, the translation, the examples, the kept benchmark run."""

import ast
import io
import json
import re
import runpy
import sys
import tokenize
import warnings
from doctest import DocTestParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
EXAMPLES = sorted((ROOT / "examples").glob("plot_*.py"))
pytestmark = pytest.mark.skipif(not (ROOT / "setup.py").exists(), reason="the rest of the tree is not here")


def text_of(path):
    return path.read_text(encoding="utf-8")


def prose(page):
    """A page without its code."""
    text = re.sub(r"^```.*?^```$", "", text_of(page), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]*`", "", text)


def anchors(page):
    """GitHub's and MyST's anchors of a page's headings."""
    text = re.sub(r"^```.*?^```$", "", text_of(page), flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        made = "_static/generated/" in path or path.startswith("auto_examples/")  # by the build, whose -W sees to them
        assert made or there.exists(), target
        assert not anchor or anchor in anchors(there), target


def test_pages_that_the_documentation_includes_have_no_links_of_their_own_folder():
    included = re.findall(r"```\{include\} \.\./(\S+\.md)", "".join(map(text_of, (ROOT / "docs").glob("*.md"))))
    assert len(included) >= 3
    for name in included:
        assert not re.findall(r"\]\((?![a-z]+:)[^)#\s]+\)", prose(ROOT / name)), name


def test_docstrings_have_whole_words_in_backticks():
    """reStructuredText takes what begins with a backtick and ends before a letter for a mistake."""
    paths = sorted((ROOT / "fastopt").rglob("*.py"))
    if not paths:
        pytest.skip("the sources are not here")
    for path in paths:
        for node in ast.walk(ast.parse(text_of(path))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                text = ast.get_docstring(node) or ""
                assert not (found := re.findall(r"(?<![`\w])`[^`\n]+`\w+", text)), (path.name, found)


def test_pictures_are_drawn():
    pytest.importorskip("matplotlib")
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        import pictures
    finally:
        sys.path.pop(0)
    for page in PAGES:
        for folder, name in re.findall(r"_static/generated/(ko/)?(\w+)\.svg", text_of(page)):
            source = "gradient_descent.md" if folder else page.name
            drawn = {picture.__name__ for picture in pictures.PICTURES.get(source, [])}
            assert name in drawn | {"performance", "performance_curves"}, f"{page.name}: {name}"


def test_what_the_page_on_kernels_names_is_there():
    page = text_of(ROOT / "docs" / "kernels.md")
    sources = {path.name: text_of(path) for path in (ROOT / "fastopt" / "_kernels").glob("*.p[yx][xd]")}
    if not sources:
        pytest.skip("the sources are not here")
    tree = page.partition("```")[2].partition("```")[0]
    names = re.findall(r"(\w+)\.(\w+)(?: \.(\w+))?  ", tree)
    assert {f"{stem}.{ending}" for stem, *endings in names for ending in endings if ending} == set(sources)
    lazy = sources["lazy.pyx"] + sources["tail.pxd"]
    for name in re.findall(r"`(\w+)`", page.partition("## Lazy records")[2].partition("\n## ")[0]):
        assert re.search(rf"\b{name}\(", lazy), name


def code(page):
    """A page's examples without comments: (source's tokens, what is printed)."""
    for example in DocTestParser().get_examples(text_of(page)):
        tokens = tokenize.generate_tokens(io.StringIO(example.source).readline)
        yield [token.string for token in tokens if token.type != tokenize.COMMENT], example.want


def test_the_korean_guide_is_the_english_one():
    english, korean = (ROOT / "docs" / f"gradient_descent{language}.md" for language in ("", "_ko"))
    assert list(code(english)) == list(code(korean))
    for pattern in (r"^#+ ", r"^\$\$ ", r"^\|", r"^!\[", r"^- "):
        counts = [len(re.findall(pattern, text_of(page), flags=re.MULTILINE)) for page in (english, korean)]
        assert counts[0] == counts[1], pattern
    # But for the point or comma at the end, which belong to the sentence.
    formulas = [re.findall(r"\$\$(.*?)[ .,]*\$\$", text_of(page), flags=re.DOTALL) for page in (english, korean)]
    assert formulas[0] == formulas[1] != []


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_run(path):
    plt = pytest.importorskip("matplotlib.pyplot", reason="matplotlib is an extra")
    plt.switch_backend("agg")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "FigureCanvasAgg is non-interactive")
        runpy.run_path(str(path))
    assert plt.get_fignums(), "it draws"
    plt.close("all")


def test_performance_page_and_readme_come_from_the_kept_run(tmp_path):
    pytest.importorskip("matplotlib")
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        import performance
    finally:
        sys.path.pop(0)
    run = json.loads(text_of(performance.SUMMARY))
    page, tables = performance.page(run), performance.tables(run)
    assert {"target", "pass", "said"} <= set(tables)
    for case in run["cases"]:
        if case["what"] == "target" and case["family"] == "fastopt":
            assert performance.report.seconds(case["median"]) in page
    readme = tmp_path / "README.md"
    readme.write_text(text_of(ROOT / "README.md"), encoding="utf-8")
    performance.write_tables(tables, readme)
    assert text_of(readme) == text_of(ROOT / "README.md")
    assert all(tables[what] in text_of(readme) for what in ("target", "pass", "said"))
