"""Sphinx: make docs."""

import importlib.util
import shutil
import sys
from pathlib import Path

import fastopt

sys.path.insert(0, str(Path(__file__).resolve().parent))

import performance
import pictures

HERE = Path(__file__).resolve().parent
project, author, version = "fastopt", "The fastopt developers", fastopt.__version__
extensions = [
    "myst_parser", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "numpydoc", "sphinx_gallery.gen_gallery",
]  # fmt: skip
exclude_patterns = ["_build"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
highlight_language = "none"
nitpicky = True
autodoc_typehints = "none"  # the docstrings say them
autodoc_member_order = "bysource"
toc_object_entries_show_parents = "hide"
numpydoc_show_class_members = False

html_theme = "pydata_sphinx_theme"
html_title = "fastopt"
html_static_path = ["_static"]
html_css_files = ["wide.css"]
html_sidebars = {"index": [], "auto_examples/*": []}
html_theme_options = {"show_prev_next": False, "show_toc_level": 2, "navigation_with_keys": False}
html_show_sourcelink = False
mathjax_path = "generated/mathjax/tex-mml-chtml.js"  # of the wheel sphinx-mathjax-offline: the pages need no network

sphinx_gallery_conf = {
    "examples_dirs": "../examples", "gallery_dirs": "auto_examples", "download_all_examples": False,
    "remove_config_comments": True, "show_memory": False, "min_reported_time": 1e9, "plot_gallery": True,
    "abort_on_example_error": True, "write_computation_times": False, "run_stale_examples": True,
}  # fmt: skip


def mathjax(app):
    """What the pages use of MathJax, some 2 of 24 MB: the loader with TeX and its fonts."""
    source = Path(importlib.util.find_spec("sphinx-mathjax-offline").origin).parent / "static" / "mathjax"
    target = HERE / "_static" / "generated" / "mathjax"
    for name in ("tex-mml-chtml.js", "output/chtml/fonts/woff-v2"):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (source / name).is_dir() else shutil.copyfile
        copy(source / name, target / name, **({"dirs_exist_ok": True} if copy is shutil.copytree else {}))


def without_last_lines(app, name, source):
    """doctest wants an empty line after what is printed, readers do not."""
    source[0] = source[0].replace("\n\n```\n", "\n```\n")


def setup(app):
    """Every build draws the pictures anew."""
    app.connect("builder-inited", mathjax)
    app.connect("builder-inited", lambda app: pictures.draw())
    app.connect("builder-inited", lambda app: performance.draw())
    app.connect("source-read", without_last_lines)
