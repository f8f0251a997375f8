"""A trained network as a folder that runs without jaxnas, checked in a fresh process; Grad-CAM."""

from jaxnas.export.agreement import check
from jaxnas.export.folder import FILES, Child, Recipe, files

__all__ = ["FILES", "Child", "Recipe", "check", "files"]
