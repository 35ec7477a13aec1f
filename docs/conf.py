"""Sphinx configuration of the documentation: `make docs`."""

from __future__ import annotations

import os
import re
from importlib.metadata import version as installed_version
from typing import Any

# Documenting a module imports it, and with it jax: no accelerator is needed for that.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

project = "ecr_jax"
author = "The ecr_jax authors"
project_copyright = "The ecr_jax authors"
version = release = installed_version("ecr-jax")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
# Formulas stay readable as TeX where the page is read offline: MathJax is the only thing that a browser fetches.
source_suffix = {".md": "markdown"}
root_doc = "index"
exclude_patterns = ["results/**/*.html"]
suppress_warnings = ["myst.header"]  # result pages are generated and may begin with any heading level

myst_enable_extensions = ["deflist", "dollarmath"]
myst_heading_anchors = 3

# Docstrings name code in single backticks.
default_role = "literal"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_inherit_docstrings = False
autodoc_default_options = {"members": True, "special-members": "__call__"}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
napoleon_custom_sections = [("Reference", "returns_style")]
add_module_names = False
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = "ecr_jax"
html_copy_source = False
html_show_sphinx = False
# Fonts of the reader's system: no page asks another server for one.
html_theme_options = {
    "light_css_variables": {"font-stack": "system-ui, sans-serif", "font-stack--monospace": "ui-monospace, monospace"},
}


def _without_flax_fields(
    app: Any, kind: str, name: str, thing: object, options: object, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Leaves the fields out of a signature that flax adds to every module: `parent` and `name`."""
    if kind == "class" and signature:
        signature = re.sub(r"(, )?parent: [^,]*_Sentinel[^,]*, name: str \| None = None", "", signature)
    return signature, returns


def _without_generated_members(
    app: Any, kind: str, name: str, thing: object, skip: bool, options: object
) -> bool | None:
    """Leaves out what named tuples and flax's dataclasses generate: aliases of their fields, and `replace`."""
    generated = ("Alias for field number", "Returns a new object replacing the specified fields")
    return True if (getattr(thing, "__doc__", None) or "").strip('" ').startswith(generated) else None


def _with_letters(app: Any, kind: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """Keeps a description that is one letter, such as "relations: R.", from being read as the item of a list."""
    lines[:] = [re.sub(r"^(\s+\w+: [A-Z])\.$", r"\1", line) for line in lines]


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-signature", _without_flax_fields)
    app.connect("autodoc-skip-member", _without_generated_members)
    app.connect("autodoc-process-docstring", _with_letters, priority=400)
