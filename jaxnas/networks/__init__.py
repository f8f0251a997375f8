"""Architecture → child network. A new network is one file and a line each here, under its space's name.

`layers` is the network of any space that says what its layers are.
"""

from jaxnas.networks.blocks import blocks
from jaxnas.networks.cnn import cnn
from jaxnas.networks.cnn_mdp import cnn_mdp
from jaxnas.networks.layers import layers
from jaxnas.networks.metaqnn import metaqnn
from jaxnas.networks.nasnet import nasnet
from jaxnas.networks.stages import stages

REGISTRY = {
    "blocks": blocks,
    "cnn": cnn,
    "cnn_mdp": cnn_mdp,
    "layers": layers,
    "metaqnn": metaqnn,
    "nasnet": nasnet,
    "stages": stages,
}

# Options that make a tiny network of each on the space's example: the checks of jaxnas.testing run on it.
EXAMPLES = {
    "blocks": {},
    "cnn": {},
    "cnn_mdp": {},
    "layers": {},
    "metaqnn": {},
    "nasnet": {"cells": 1, "filters": 2, "reductions": 1, "drop_path": 0.3},
    "stages": {},
}

__all__ = ["EXAMPLES", "REGISTRY", "blocks", "cnn", "cnn_mdp", "layers", "metaqnn", "nasnet", "stages"]
