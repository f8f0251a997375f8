"""A trained network as a folder that runs without jaxnas, checked in a fresh process; Grad-CAM."""

from jaxnas.export.agreement import check
from jaxnas.export.folder import FILES, Child, Origin, files

__all__ = ["FILES", "Child", "Origin", "check", "files"]
