"""How the site is built, by `make docs`; `ext/from_source.py` reads what the source can tell."""

from __future__ import annotations

import sys
from contextlib import suppress
from importlib.metadata import version as version_of
from pathlib import Path
from urllib.request import urlopen

sys.path.insert(0, str(Path(__file__).parent / "ext"))

project = "jobtastic_ext"
author = "jobtastic_ext contributors"
project_copyright = author
release = version = version_of("jobtastic_ext")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.intersphinx", "from_source"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4
exclude_patterns = ["_build", "ext"]

#: Of a block that its lexer does not know whole, such as Tailwind's CSS; it is shown all the same.
suppress_warnings = ["misc.highlighting_failure"]

html_theme = "furo"
html_title = f"{project} {release}"
html_extra_path: list[str] = []
autodoc_typehints = "none"
autodoc_member_order = "bysource"

#: Celery's own site, whose names are linked where it can be reached: a build needs no network.
CELERY = "https://docs.celeryq.dev/en/stable/"
intersphinx_mapping = {}
with suppress(OSError), urlopen(f"{CELERY}objects.inv", timeout=3):
    intersphinx_mapping["celery"] = (CELERY, None)
