"""The child network of space `blocks`: convolution, ReLU, max pooling and dropout N times, a dense head.

RLMedNAS (https://github.com/Ashwashhere/RLMedNAS), there with one block and images of 28 × 28 × 1.
"""

from typing import Any

from jaxnas.errors import InputError
from jaxnas.networks import chain
from jaxnas.networks.chain import ChainStructure
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
        layers, pools, rates = chain.split(space.layers(arch))
        if min(height, width) < 2 ** len(pools):
            raise InputError(
                f"images of {height} × {width} cannot be halved {len(pools)} times; "
                "take fewer blocks (space.num_blocks) or larger images (data.image_size)"
            )
        structure = ChainStructure((height, width, channels), layers, num_outputs, dropout=pools)
        return structure, {"dropout": rates}

    return chain.network(plan, lowering, widths=space.settings or ())
