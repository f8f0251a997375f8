"""The child network of space `metaqnn` (Baker et al. 2017, Section 5, https://arxiv.org/abs/1611.02167).

Convolutions and fully connected layers with ReLU (ELU for MNIST), Xavier weights, no normalization, and
dropout after every two layers, the i-th of n at rate i/(2n).
"""

import re
from typing import Any

import numpy as np

from jaxnas.errors import InputError
from jaxnas.networks import chain
from jaxnas.networks.chain import ChainStructure, Layer
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
        found = read(space.describe(arch))
        pool_padding = "same" if settings.representation == "ratio" else "ceil"
        first_valid = settings.padding == "first_valid" and found[:1] and found[0].kind == "conv"
        if settings.dropout == "every_two":
            indices = range(1, len([layer for layer in found if layer.kind != "global_pool"]), 2)
            rates = [(i + 1) / (2 * len(indices)) for i in range(len(indices))]
        else:
            indices = [i for i, layer in enumerate(found) if layer.kind == "dense"]
            rates = [0.5] * len(indices)
        structure = ChainStructure(
            image_shape,
            found,
            num_outputs,
            padding="first_valid" if first_valid else "same",
            pool_padding=pool_padding,
            activation=settings.activation,
            initializer="xavier",
            dropout=tuple(indices),
        )
        chain.shapes(structure)
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


def read(text: str) -> tuple[Layer, ...]:
    """The layers of a description, such as "C(64,3,1) - P(2,2) - FC(128) - SM()"; SM is the head's."""
    found = []
    for kind, numbers in re.findall(r"([A-Z]+)\(([\d,]*)\)", text):
        values = [int(number) for number in numbers.split(",") if number]
        if kind == "C":
            found.append(Layer("conv", *values))
        elif kind == "P":
            found.append(Layer("pool", 0, *values))
        elif kind == "FC":
            found.append(Layer("dense", *values))
        elif kind == "GAP":
            found.append(Layer("global_pool"))
    return tuple(found)
