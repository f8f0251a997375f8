"""Architecture → child network. A new network is one file and one line here, under its space's name."""

from jaxnas.networks.blocks import blocks

REGISTRY = {"blocks": blocks}

__all__ = ["REGISTRY", "blocks"]
