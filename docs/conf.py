"""How Sphinx builds the documentation: `make docs`."""

from __future__ import annotations

import sys
from importlib.metadata import version as installed_version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "mpmetrics"
author = "the mpmetrics contributors"
copyright = author  # noqa: A001 - the name that Sphinx asks for
version = release = installed_version("mpmetrics-toolkit")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx_click",
    "signatures",
    "tables",
]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"mpmetrics {release}"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

# Docstrings put names between single backquotes.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"

# Only public names are documented. Those of other projects and of our inner modules stay plain
# text where they stand in a signature: no foreign inventory is fetched for a build.
nitpick_ignore_regex = [("py:.*", r"(?!mpmetrics\.(engines\.)?\w+$).*")]
