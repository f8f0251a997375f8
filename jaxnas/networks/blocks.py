"""The child network of space `blocks`: convolution, ReLU, max pooling and dropout N times, a dense head.

RLMedNAS (https://github.com/Ashwashhere/RLMedNAS), there with one block and images of 28 × 28 × 1.
"""

from typing import Any

import numpy as np

from jaxnas.errors import InputError
from jaxnas.networks import chain
from jaxnas.networks.chain import ChainStructure, Layer
from jaxnas.types import Network, PyTree, Space


def blocks(
    space: Space, image_shape: tuple[int, int, int], num_outputs: int, *, lowering: str = "auto"
) -> Network:
    """The network of space `blocks` for images of `image_shape` (H, W, C).

    Args:
      lowering: how a convolution is computed: gemm (patches × kernel), xla, or auto (gemm on a CPU).

    Raises:
      InputError: an unknown lowering.
    """
    height, width, channels = image_shape

    def plan(arch: Any) -> tuple[ChainStructure, PyTree]:
        chosen = iter(space.decode(arch).values())
        built = [(int(f), int(k), float(d)) for f, k, d in zip(chosen, chosen, chosen, strict=True)]
        if min(height, width) < 2 ** len(built):
            raise InputError(
                f"images of {height} × {width} cannot be halved {len(built)} times; "
                "take fewer blocks (space.num_blocks) or larger images (data.image_size)"
            )
        layers = tuple(layer for f, k, _ in built for layer in (Layer("conv", f, k), Layer("pool", 0, 2, 2)))
        pools = tuple(range(1, len(layers), 2))
        structure = ChainStructure((height, width, channels), layers, num_outputs, dropout=pools)
        return structure, {"dropout": np.array([d for *_, d in built], np.float32)}

    return chain.network(plan, lowering, widths=space.settings or ())
