"""Architecture → child network. A new network is one file and one line here, under its space's name."""

from jaxnas.networks.blocks import blocks
from jaxnas.networks.cnn import cnn
from jaxnas.networks.cnn_mdp import cnn_mdp
from jaxnas.networks.metaqnn import metaqnn
from jaxnas.networks.nasnet import nasnet

REGISTRY = {"blocks": blocks, "cnn": cnn, "cnn_mdp": cnn_mdp, "metaqnn": metaqnn, "nasnet": nasnet}

__all__ = ["REGISTRY", "blocks", "cnn", "cnn_mdp", "metaqnn", "nasnet"]
