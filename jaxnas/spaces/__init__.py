"""What may be built. A new space is one file and one line here."""

from jaxnas.spaces.blocks import blocks

REGISTRY = {"blocks": blocks}

__all__ = ["REGISTRY", "blocks"]
