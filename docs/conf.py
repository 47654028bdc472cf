"""How the documentation is built; `.ci/docs` does it. Pages of the reference are made from the package itself."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version as installed
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import reference_pages  # noqa: E402

reference_pages.write(HERE / "reference" / "generated")

project = "npy2bdv"
author = "the npy2bdv developers"
project_copyright = "the npy2bdv developers, BSD-3-Clause"
version = release = installed("npy2bdv")

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "outside_links"]
exclude_patterns = ["**/.ipynb_checkpoints"]
default_role = "py:obj"  # `name` in a docstring: a link where there is such a name, else just code
language = "en"
suppress_warnings = [
    "ref.python",  # `shape` in a docstring may be that of several classes; it is not a link then
]
pygments_style = "friendly"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
# executed anew each time, but where `.ci/docs` is given an environment to save time: then, when a cell has changed
nb_execution_mode = "cache" if os.environ.get("NPY2BDV_DOCS_ENV") else "force"
nb_execution_cache_path = str(HERE.parent / ".ci" / "work" / "notebooks")
nb_execution_in_temp = True
nb_merge_streams = True
nb_execution_raise_on_error = True
nb_execution_timeout = 180
nb_ipywidgets_js: dict[str, dict[str, str]] = {}  # would be loaded from elsewhere

autodoc_default_options = {"members": True, "inherited-members": "Exception,tuple,object"}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
maximum_signature_line_length = 80
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True

html_theme = "pydata_sphinx_theme"
html_title = "npy2bdv"
html_static_path = ["_static"]
html_css_files = ["npy2bdv.css"]
html_copy_source = False
html_show_sourcelink = False
html_sidebars = {"index": [], "changelog": []}
html_theme_options = {
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "show_prev_next": True,
    "navbar_align": "left",
    "header_links_before_dropdown": 6,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "logo": {"text": "npy2bdv"},
}
