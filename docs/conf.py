"""Sphinx configuration of the manual: MyST for Markdown, furo as theme, no downloads."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

import latentrot  # noqa: E402  import from the checkout, even if another version is installed

project = "latentrot"
author = "The latentrot developers"
project_copyright = f"2026, {author}"
release = version = latentrot.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "from_source"]
exclude_patterns = ["_build", "_ext"]

# pages
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

# reference
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
# methods that scikit-learn adds to every estimator
METADATA = "set_fit_request, set_predict_request, set_score_request, set_transform_request"
autodoc_default_options = {"members": True, "exclude-members": METADATA}
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
add_module_names = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88

# looks
html_theme = "furo"
html_title = f"latentrot {release}"
html_static_path = ["_static"]
html_css_files = ["manual.css"]
html_show_sphinx = False
html_copy_source = False
pygments_style = "friendly"
pygments_dark_style = "native"
