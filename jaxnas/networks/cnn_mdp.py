"""The child network of space `cnn_mdp`: unpadded convolutions, max pooling, fully connected layers.

Sivaramakrishnan, Srivastava, Joshi & Bhattacharya, https://github.com/eshwarprasadS/Deep_RL_For_CNN, whose
own networks have no activation functions.
"""

import dataclasses
from typing import Any, Literal

import numpy as np

from jaxnas.networks import chain
from jaxnas.networks.chain import ChainStructure
from jaxnas.networks.metaqnn import check_size
from jaxnas.spaces.layers import Conv, Dense
from jaxnas.types import Network, PyTree, Space


def cnn_mdp(
    space: Space,
    image_shape: tuple[int, int, int],
    num_outputs: int,
    *,
    activation: Literal["relu", "none"] = "relu",
    lowering: str = "auto",
) -> Network:
    """The network of space `cnn_mdp` for images of `image_shape` (H, W, C).

    Args:
      activation: after convolutions and fully connected layers; the published code has none.
      lowering: how a convolution is computed: gemm (patches × kernel), xla, or auto (gemm on a CPU).

    Raises:
      InputError: an unknown lowering, or images of another size than the space's.
    """
    check_size(space, image_shape)

    def plan(arch: Any) -> tuple[ChainStructure, PyTree]:
        layers, _, _ = chain.split(space.layers(arch))
        chain.shapes(image_shape, layers)
        layers = tuple(
            dataclasses.replace(layer, activation=activation) if isinstance(layer, Conv | Dense) else layer
            for layer in layers
        )
        structure = ChainStructure(image_shape, layers, num_outputs)
        return structure, {"dropout": np.zeros(0, np.float32)}

    return chain.network(plan, lowering, widths=space.settings.filters, units=space.settings.dense)
