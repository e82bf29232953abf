"""Sphinx configuration. A build needs no network: links to other projects' pages are made on Read the Docs only."""

from __future__ import annotations

import os
import sys
import warnings
from importlib.metadata import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "_ext"))

# one line of sphinx_autodoc_typehints for each documented function
warnings.filterwarnings("ignore", message=".*_RstSnippetParser.set_application")

_about = metadata("sphisto")
project = "sphisto"
author = "sphisto developers"
copyright = "2026, sphisto developers"
release = version = _about["Version"]

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "returns",
    "sphinx_autodoc_typehints",
    "sphinx_copybutton",
    "sphinx_design",
    "mathml",
    "messages",
    "offline",
]
html_math_renderer = "mathml"
exclude_patterns = ["_build", "**.ipynb_checkpoints"]
templates_path = ["_templates"]

# API pages
autosummary_generate = True
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_numpy_docstring = True
napoleon_use_rtype = True
napoleon_use_param = True
napoleon_custom_sections = [("Writes", "returns_style")]
typehints_defaults = "comma"
always_document_param_types = False
typehints_document_rtype_none = False
smartquotes_action = "D"  # dashes only: what is between quotes is often code

# Text and notebooks
myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # tutorials are committed executed, and executed again by our tests
nb_merge_streams = True
nb_ipywidgets_js = {}  # it would be fetched from elsewhere; what widgets show is shown as text

# Annotations name types of libraries that are imported only when a function runs
suppress_warnings = [
    "sphinx_autodoc_typehints.forward_reference",
    "sphinx_autodoc_typehints.guarded_import",
]

# Every name of ours that is referred to must have its page.
nitpicky = True
nitpick_ignore_regex = [
    # written in annotations, without a page of their own: what is behind `RasterFeatures`, `Section`, `tl.load`
    ("py:class", r"sphisto\.(core|features|io|predict|slide)\..*"),
    # other projects: nobody to ask without a network, and with one annotations name modules that are private there
    (r"py:.*", r"(?!sphisto\b).*"),
]
if os.environ.get("READTHEDOCS"):
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "anndata": ("https://anndata.readthedocs.io/en/stable", None),
        "matplotlib": ("https://matplotlib.org/stable", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "python": ("https://docs.python.org/3", None),
        "scanpy": ("https://scanpy.readthedocs.io/en/stable", None),
        "spatialdata": ("https://spatialdata.scverse.org/en/stable", None),
        "torch": ("https://docs.pytorch.org/docs/stable", None),
        "xarray": ("https://docs.xarray.dev/en/stable", None),
    }

# `sphinx -b linkcheck docs docs/_build/links` asks whether the addresses on the pages are there
linkcheck_timeout = 20
linkcheck_retries = 2
linkcheck_ignore = [
    r"http://localhost.*",
    r"https://example\.org/.*",
    r"https://pypi\.org/project/sphisto.*",  # not yet there
    r"https://(www\.)?biorxiv\.org/.*",  # answers browsers only, as publishers behind a doi do
    r"https://doi\.org/.*",
]

html_theme = "sphinx_book_theme"
html_title = "sphisto"
html_static_path = ["_static"]
html_css_files = ["sphisto.css"]
html_theme_options = {
    "navbar_persistent": [],  # the side bar has the search field already
    "navigation_with_keys": False,
    "show_navbar_depth": 2,
    "use_download_button": False,
    "use_fullscreen_button": False,
}
