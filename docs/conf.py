"""Sphinx builds these pages: python -m sphinx -W -b html docs build/docs."""

import importlib.metadata

project = "jaxnas"
release = importlib.metadata.version("jaxnas")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "alabaster"
html_theme_options = {
    "description": "Neural architecture search by reinforcement learning",
    "page_width": "60rem",
}
exclude_patterns = ["examples"]
myst_heading_anchors = 3
autodoc_typehints = "none"  # signatures in the docstrings' words: shapes, units
napoleon_numpy_docstring = False
