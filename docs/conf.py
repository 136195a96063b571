"""How Sphinx builds the documentation's site: `make docs`, into docs/built/.

The pages are the Markdown files of this folder, which read on their own as well, and the
notebooks. What only a site can do is in docs/building: options of the magics from their own parser,
pictures in the colours of the page, links to what stands outside of this folder.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from nnsight_magic.version import __version__  # noqa: E402

project = "nnsight_magic"
author = "the nnsight_magic contributors"
release = version = __version__
project_copyright = author

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "docs.building.magics",
    "docs.building.notebooks",
    "docs.building.outside",
    "docs.building.pictures",
    "docs.building.sequence",
]
exclude_patterns = ["built", "building", "README.md"]
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb"}

# The notebooks are run by the tests, and shown here with what they have stored.
nb_execution_mode = "off"
# Views bring a still form of their own. The last of these is what a reader without a kernel sees.
nb_mime_priority_overrides = [
    ("html", "text/html", 0),
    ("html", "image/svg+xml", 1),
    ("html", "image/png", 2),
    ("html", "text/plain", 9),
]
myst_enable_extensions = ["colon_fence", "deflist", "attrs_inline", "html_image", "dollarmath"]
myst_heading_anchors = 4
suppress_warnings = [
    "mystnb.unknown_mime_type",  # widgets, whose still form is taken
    "ref.python",  # two classes have an attribute of one name: it is a field there, and no link
]

# Docstrings have Google's sections; `x` in them is code, as in the pages.
default_role = "code"
napoleon_use_ivar = True  # attributes are fields of their class, not objects of their own
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True

html_theme = "pydata_sphinx_theme"
html_title = "nnsight_magic"
html_static_path = ["building/static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "navbar_align": "left",
    "show_prev_next": True,
    "navigation_with_keys": False,
    "header_links_before_dropdown": 6,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version"],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
    "back_to_top_button": False,
}
copybutton_exclude = ".linenos, .gp, .go"
