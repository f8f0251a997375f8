"""The child network of space `blocks`: convolution, ReLU, max pooling and dropout N times, a dense head.

RLMedNAS (https://github.com/Ashwashhere/RLMedNAS), there with one block and images of 28 × 28 × 1.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.errors import InputError
from jaxnas.networks import layers
from jaxnas.types import Network, PyTree, Space


class BlocksStructure(NamedTuple):
    """What fixes the shapes of the program: hashable."""

    image_shape: tuple[int, int, int]  # H, W, C
    blocks: tuple[tuple[int, int], ...]  # (filters, kernel) of each block
    num_outputs: int


class _Blocks(nn.Module):
    structure: BlocksStructure
    lowering: str

    @nn.compact
    def __call__(self, x: jax.Array, knobs: PyTree, key: jax.Array | None) -> jax.Array:
        for i, (filters, kernel) in enumerate(self.structure.blocks):
            x = layers.ConvPool(filters, kernel, self.lowering, name=f"conv_{i + 1}")(x)
            x = layers.dropout(x, knobs["dropout"][i], None if key is None else jax.random.fold_in(key, i))
        return layers.Dense(self.structure.num_outputs, name="head")(x.reshape(x.shape[0], -1))


def blocks(
    space: Space, image_shape: tuple[int, int, int], num_outputs: int, *, lowering: str = "auto"
) -> Network:
    """The network of space `blocks` for images of `image_shape` (H, W, C).

    Args:
      lowering: how a convolution is computed: gemm (patches × kernel), xla, or auto (gemm on a CPU).

    Raises:
      InputError: an unknown lowering.
    """
    lowering = layers.resolve_lowering(lowering)
    height, width, channels = image_shape

    def plan(arch: Any) -> tuple[BlocksStructure, PyTree]:
        chosen = iter(space.decode(arch).values())
        built = [(int(f), int(k), float(d)) for f, k, d in zip(chosen, chosen, chosen, strict=True)]
        if min(height, width) < 2 ** len(built):
            raise InputError(
                f"images of {height} × {width} cannot be halved {len(built)} times; "
                "take fewer blocks (space.num_blocks) or larger images (data.image_size)"
            )
        structure = BlocksStructure(
            (height, width, channels), tuple((f, k) for f, k, _ in built), num_outputs
        )
        return structure, {"dropout": np.array([d for *_, d in built], np.float32)}

    def init(key: jax.Array, structure: BlocksStructure) -> PyTree:
        images = jax.ShapeDtypeStruct((1, *structure.image_shape), jnp.float32)
        knobs = {"dropout": jax.ShapeDtypeStruct((len(structure.blocks),), jnp.float32)}
        module = _Blocks(structure, lowering)
        # Only the initializers run: the forward pass is traced for its shapes.
        return module.lazy_init(key, images, knobs, None)["params"]

    def apply(
        params: PyTree, structure: BlocksStructure, knobs: PyTree, images: jax.Array, key: jax.Array | None
    ) -> Any:
        return _Blocks(structure, lowering).apply({"params": params}, images, knobs, key)

    return Network(plan, init, apply)
