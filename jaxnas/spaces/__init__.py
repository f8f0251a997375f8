"""What may be built. A new space is one file and one line here."""

from jaxnas.spaces.blocks import blocks
from jaxnas.spaces.cnn import cnn
from jaxnas.spaces.cnn_mdp import cnn_mdp
from jaxnas.spaces.metaqnn import metaqnn
from jaxnas.spaces.nasbench201 import nasbench201
from jaxnas.spaces.nasnet import nasnet

REGISTRY = {
    "blocks": blocks,
    "cnn": cnn,
    "cnn_mdp": cnn_mdp,
    "metaqnn": metaqnn,
    "nasbench201": nasbench201,
    "nasnet": nasnet,
}

__all__ = ["REGISTRY", "blocks", "cnn", "cnn_mdp", "metaqnn", "nasbench201", "nasnet"]
