"""Sphinx configuration. `make docs` turns every warning into an error."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
# The extensions live beside the pages they write.
sys.path.insert(0, str(HERE / "_ext"))

from sysadmd import __version__  # noqa: E402  # after the path is set, as Sphinx configurations go

project = "sysadmd"
author = "The sysadmd authors"
project_copyright = "The sysadmd authors"
release = version = __version__

extensions = ["myst_parser", "sysadmd_reference"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build", "_ext"]

myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 4

html_theme = "furo"
html_title = f"sysadmd {__version__}"
html_show_sourcelink = False
html_copy_source = False
# The pages are read on machines without a network too: nothing is loaded from elsewhere.
html_theme_options = {"source_repository": "", "top_of_page_buttons": []}
