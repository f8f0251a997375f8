"""The child network of space `metaqnn` (Baker et al. 2017, Section 5, https://arxiv.org/abs/1611.02167).

Convolutions and fully connected layers with ReLU (ELU for MNIST), Xavier weights, no normalization, and
dropout after every two layers, the i-th of n at rate i/(2n).
"""

from typing import Any

import numpy as np

from jaxnas.errors import InputError
from jaxnas.networks import chain
from jaxnas.networks.chain import ChainStructure
from jaxnas.spaces.layers import Dense, GlobalPool
from jaxnas.types import Network, PyTree, Space


def metaqnn(
    space: Space, image_shape: tuple[int, int, int], num_outputs: int, *, lowering: str = "auto"
) -> Network:
    """The network of space `metaqnn` for images of `image_shape` (H, W, C).

    Global average pooling is followed by the dense layer that gives the outputs, as softmax is.

    Args:
      lowering: how a convolution is computed: gemm (patches × kernel), xla, or auto (gemm on a CPU).

    Raises:
      InputError: an unknown lowering, or images of another size than the space's.
    """
    settings = space.settings
    check_size(space, image_shape)

    def plan(arch: Any) -> tuple[ChainStructure, PyTree]:
        layers, _, _ = chain.split(space.layers(arch))
        chain.shapes(image_shape, layers)
        if settings.dropout == "every_two":
            indices = range(1, len([layer for layer in layers if layer != GlobalPool()]), 2)
            rates = [(i + 1) / (2 * len(indices)) for i in range(len(indices))]
        else:
            indices = [i for i, layer in enumerate(layers) if isinstance(layer, Dense)]
            rates = [0.5] * len(indices)
        structure = ChainStructure(image_shape, layers, num_outputs, "xavier", tuple(indices))
        return structure, {"dropout": np.array(rates, np.float32)}

    return chain.network(plan, lowering, widths=settings.filters, units=settings.dense)


def check_size(space: Space, image_shape: tuple[int, int, int]) -> None:
    """An InputError unless the smaller side of the images is the space's image size."""
    if min(image_shape[:2]) != space.settings.image_size:
        height, width, _ = image_shape
        raise InputError(
            f"space.image_size: {space.settings.image_size} pixels, but the images have {height} × {width}; "
            f"set space.image_size = {min(height, width)}, or data.image_size"
        )
