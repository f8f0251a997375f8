"""What may be built. A new space is one file and a line each in REGISTRY and EXAMPLES."""

from jaxnas.spaces.blocks import blocks
from jaxnas.spaces.cnn import cnn
from jaxnas.spaces.cnn_mdp import cnn_mdp
from jaxnas.spaces.metaqnn import metaqnn
from jaxnas.spaces.nasbench201 import nasbench201
from jaxnas.spaces.nasnet import nasnet
from jaxnas.spaces.stages import stages

REGISTRY = {
    "blocks": blocks,
    "cnn": cnn,
    "cnn_mdp": cnn_mdp,
    "metaqnn": metaqnn,
    "nasbench201": nasbench201,
    "nasnet": nasnet,
    "stages": stages,
}

# Options that make a tiny space of each: the checks of jaxnas.testing run on it.
EXAMPLES = {
    "blocks": {
        "num_blocks": 2, "filters": (4, 6), "kernel": (1, 3), "forbid": ({"filters": 6, "kernel": 3},),
    },
    "cnn": {
        "image_size": 4, "max_depth": 2, "filters": (3, 5), "kernel": (1, 3), "dense": (4,), "skip": (0, 1),
        "norm": ("none", "batch"), "dropout": (0.0, 0.3), "batch_size": (4, 8),
    },
    "cnn_mdp": {"image_size": 8, "depth": 3, "filters": (3, 5), "dense": (6, 4)},
    "metaqnn": {"image_size": 8, "depth": 3, "filters": (3, 5), "kernel": (1, 3), "dense": (6, 4)},
    "nasbench201": {},
    "nasnet": {"blocks_per_cell": 1, "operations": ("identity", "max3", "sep3")},
    "stages": {
        "image_shape": (8, 8, 2), "num_outputs": 3, "stem": (3, 4), "stages": 2,
        "blocks": ("conv", "residual", "separable", "inverted3"),
        "widths": (4, 6), "kernels": (3,), "repeats": (1, 2), "attention": (False, True), "max_params": 1_500,
    },
}  # fmt: skip

__all__ = ["EXAMPLES", "REGISTRY", "blocks", "cnn", "cnn_mdp", "metaqnn", "nasbench201", "nasnet", "stages"]
