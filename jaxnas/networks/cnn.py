"""The child network of space `cnn`: convolution, norm, activation, attention, skip and dropout a layer.

Batch normalization: Ioffe & Szegedy 2015; layer normalization: Ba et al. 2016; skips: He et al. 2016;
squeeze and excitation: Hu et al. 2018, https://arxiv.org/abs/1709.01507; self-attention over pixels: Wang et
al. 2018, https://arxiv.org/abs/1711.07971.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.networks import layers
from jaxnas.networks.metaqnn import check_size
from jaxnas.networks.ops import convolution
from jaxnas.networks.ops.pooling import Pool, max_pool
from jaxnas.spaces.cnn import Layer, read
from jaxnas.types import Network, PyTree, Space

REDUCTION = 4  # of channels within squeeze and excitation, and of queries and keys


class Structure(NamedTuple):
    """What fixes the shapes of the program: hashable."""

    image_shape: tuple[int, int, int]
    layers: tuple[Layer, ...]  # with dropout 0 or 1: whether there is any
    num_outputs: int


class _Cnn(nn.Module):
    structure: Structure
    lowering: str

    @nn.compact
    def __call__(self, x: jax.Array, knobs: PyTree, key: jax.Array | None) -> jax.Array:
        after = [x]  # each layer
        for i, layer in enumerate(self.structure.layers):
            at = f"{layer.kind.lower()}_{i + 1}"
            if layer.kind == "P":
                x = max_pool(x, Pool(layer.kernel, layer.stride))
            elif layer.kind == "GAP":
                x = jnp.mean(x, axis=(1, 2))
            else:
                fused = layer.activation if layer.kind == "C" and layer.norm == "none" else "none"
                if layer.kind == "C":
                    x = layers.Conv(
                        layer.width, layer.kernel, self.lowering, layer.stride, layer.padding.upper(), None,
                        fused, "xavier", name=at,
                    )(x)  # fmt: skip
                else:
                    x = layers.Dense(layer.width, "xavier", name=at)(x)
                x = _normalize(x, layer.norm, key is not None, f"{at}_norm")
                x = layers.ACTIVATIONS[layer.activation](x) if fused == "none" else x
                x = _attend(x, layer.attention, f"{at}_attention")
                if layer.skip:
                    other = after[-layer.skip]
                    if other.shape[-1] != x.shape[-1]:  # a convolution of 1 × 1
                        other = nn.Dense(x.shape[-1], dtype=x.dtype, name=f"{at}_skip")(other)
                    x = x + other
                if layer.dropout and key is not None:
                    x = layers.dropout(x, knobs["dropout"][i], jax.random.fold_in(key, i))
            after.append(x)
        return layers.Dense(self.structure.num_outputs, "xavier", name="head")(x)


def _normalize(x: jax.Array, norm: str, training: bool, name: str) -> jax.Array:
    if norm == "none":
        return x
    if norm == "batch":
        return layers.batch_norm(x, training, name)
    with jax.numpy_dtype_promotion("standard"):  # flax raises bfloat16 to float32 in its statistics
        return nn.LayerNorm(dtype=x.dtype, name=name)(x)


def _attend(x: jax.Array, attention: str, name: str) -> jax.Array:
    """[N, H, W, C] → the same shape."""
    if attention == "none":
        return x
    N, H, W, C = x.shape
    inner = max(1, C // REDUCTION)
    if attention == "se":
        squeezed = nn.relu(nn.Dense(inner, dtype=x.dtype, name=f"{name}_squeeze")(jnp.mean(x, axis=(1, 2))))
        scale = nn.sigmoid(nn.Dense(C, dtype=x.dtype, name=f"{name}_excite")(squeezed))
        return x * scale[:, None, None, :]
    pixels = x.reshape(N, H * W, C)
    query, keys = (
        nn.Dense(inner, use_bias=False, dtype=x.dtype, name=f"{name}_{part}")(pixels)
        for part in ("query", "key")
    )
    value = nn.Dense(C, dtype=x.dtype, name=f"{name}_value")(pixels)
    weights = jax.nn.softmax(query @ keys.transpose(0, 2, 1) * inner**-0.5, axis=-1)
    return x + (weights @ value).reshape(x.shape)


def cnn(
    space: Space, image_shape: tuple[int, int, int], num_outputs: int, *, lowering: str = "auto"
) -> Network:
    """The network of space `cnn` for images of `image_shape` (H, W, C).

    Args:
      lowering: how a convolution is computed: gemm (patches × kernel), xla, or auto (gemm on a CPU).

    Raises:
      InputError: an unknown lowering, or images of another size than the space's.
    """
    check_size(space, image_shape)
    lowered = convolution.resolve_lowering(lowering)

    def plan(arch: Any) -> tuple[Structure, PyTree]:
        _, found = read(space.describe(arch), space.settings)
        shape = tuple(layer._replace(dropout=float(layer.dropout > 0)) for layer in found)
        rates = np.array([layer.dropout for layer in found], np.float32)
        return Structure(image_shape, shape, num_outputs), {"dropout": rates}

    def trainer_options(arch: Any) -> dict[str, Any]:
        return read(space.describe(arch), space.settings)[0]

    collected = layers.collecting(lambda structure: _Cnn(structure, lowered))
    return Network(plan, **collected, trainer_options=trainer_options)
