"""Sphinx: make docs."""

import sys
from pathlib import Path

import fastopt

sys.path.insert(0, str(Path(__file__).resolve().parent))

import pictures

project, author, version = "fastopt", "The fastopt developers", fastopt.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "numpydoc"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
nitpicky = False
autodoc_typehints = "none"  # the docstrings say them
autodoc_member_order = "bysource"
numpydoc_show_class_members = False

html_theme = "pydata_sphinx_theme"
html_title = "fastopt"
html_static_path = ["_static"]
html_css_files = ["wide.css"]
html_sidebars = {"**": []}
html_theme_options = {"show_prev_next": False, "show_toc_level": 2}
html_show_sourcelink = False


def without_last_lines(app, name, source):
    """doctest wants an empty line after what is printed, readers do not."""
    source[0] = source[0].replace("\n\n```\n", "\n```\n")


def setup(app):
    """Every build draws the pictures anew."""
    app.connect("builder-inited", lambda app: pictures.draw())
    app.connect("source-read", without_last_lines)
