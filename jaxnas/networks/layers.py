"""The child network of any space that says what its layers are: those layers, then a dense head.

Batch normalization: Ioffe & Szegedy 2015; layer normalization: Ba et al. 2016; skips: He et al. 2016;
squeeze and excitation: Hu et al. 2018, https://arxiv.org/abs/1709.01507; self-attention over pixels: Wang et
al. 2018, https://arxiv.org/abs/1711.07971.
"""

import dataclasses
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.errors import InputError
from jaxnas.networks import chain, modules
from jaxnas.networks.ops import convolution, pooling
from jaxnas.spaces.layers import SIGNS, Conv, Dense, Dropout, GlobalPool, Layer, Pool, Setting, Softmax
from jaxnas.types import Network, PyTree, Space, no_layers

REDUCTION = 4  # of channels within squeeze and excitation, and of queries and keys


class Structure(NamedTuple):
    """What fixes the shapes of the program: hashable."""

    image_shape: tuple[int, int, int]
    layers: tuple[Layer, ...]  # with dropout 0 or 1: whether there is any
    num_outputs: int


def name_of(layer: Layer, i: int) -> str:
    """What the parameters of layer i, from 0, are called."""
    return f"{SIGNS[type(layer)].lower()}_{i + 1}"


class _Layers(nn.Module):
    structure: Structure
    lowering: str

    @nn.compact
    def __call__(self, x: jax.Array, knobs: PyTree, key: jax.Array | None) -> jax.Array:
        after = [x]  # each layer
        for i, layer in enumerate(self.structure.layers):
            name = name_of(layer, i)
            if isinstance(layer, Pool):
                x = pooling.max_pool(x, pooling.Pool(layer.kernel, layer.stride, layer.padding.upper()))
            elif isinstance(layer, GlobalPool):
                x = jnp.mean(x, axis=(1, 2))
            elif isinstance(layer, Conv | Dense):
                x = self._affine(x, layer, name, key is not None)
            if isinstance(layer, Conv):
                x = _attend(x, layer.attention, f"{name}_attention")
                if layer.skip:
                    other = after[-layer.skip]
                    if other.shape[-1] != x.shape[-1]:  # a convolution of 1 × 1
                        other = nn.Dense(x.shape[-1], dtype=x.dtype, name=f"{name}_skip")(other)
                    x = x + other
            if _rate(layer) and key is not None:
                x = modules.dropout(x, knobs["dropout"][i], jax.random.fold_in(key, i))
            after.append(x)
        return modules.Dense(self.structure.num_outputs, "xavier", name="head")(x)

    def _affine(self, x: jax.Array, layer: Conv | Dense, name: str, training: bool) -> jax.Array:
        """The layer with its norm and activation."""
        fused = layer.activation if isinstance(layer, Conv) and layer.norm == "none" else "none"
        if isinstance(layer, Conv):
            x = modules.Conv(
                layer.filters, layer.kernel, self.lowering, layer.stride, layer.padding.upper(), None, fused,
                "xavier", name=name,
            )(x)  # fmt: skip
        else:
            x = modules.Dense(layer.units, "xavier", name=name)(x)
        x = _normalize(x, layer.norm, training, f"{name}_norm")
        return modules.ACTIVATIONS[layer.activation](x) if fused == "none" else x


def _rate(layer: Layer) -> float:
    """Of the dropout of a layer."""
    if isinstance(layer, Dropout):
        return layer.rate
    return layer.dropout if isinstance(layer, Conv | Dense) else 0.0


def _flagged(layer: Layer) -> Layer:
    """The layer with 1 for any rate of dropout: equal shapes are one program."""
    if isinstance(layer, Dropout):
        return Dropout(float(layer.rate > 0))
    if isinstance(layer, Conv | Dense):
        return dataclasses.replace(layer, dropout=float(layer.dropout > 0))
    return layer


def _normalize(x: jax.Array, norm: str, training: bool, name: str) -> jax.Array:
    if norm == "none":
        return x
    if norm == "batch":
        return modules.batch_norm(x, training, name)
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


def layers(
    space: Space, image_shape: tuple[int, int, int], num_outputs: int, *, lowering: str = "auto"
) -> Network:
    """The network of a space's layers for images of `image_shape` (H, W, C).

    Weights are Xavier uniform (Glorot & Bengio 2010), biases begin at 0. What the space's parts settle of the
    training, `Setting`, the trainer takes from there.

    Args:
      lowering: how a convolution is computed: gemm (patches × kernel), xla, or auto (gemm on a CPU).

    Raises:
      InputError: an unknown lowering, or a space that does not say what its layers are.
    """
    lowered = convolution.resolve_lowering(lowering)
    if space.layers is no_layers:
        raise InputError(
            f"network.name: space {space.name!r} does not say what its layers are; give it "
            "Space(…, layers=…), or name a network of your own, package.module:factory"
        )

    def plan(arch: Any) -> tuple[Structure, PyTree]:
        built = tuple(part for part in space.layers(arch) if not isinstance(part, Setting | Softmax))
        chain.shapes(image_shape, built)
        rates = np.array([_rate(layer) for layer in built], np.float32)
        return Structure(image_shape, tuple(map(_flagged, built)), num_outputs), {"dropout": rates}

    def trainer_options(arch: Any) -> dict[str, Any]:
        return {part.name: part.value for part in space.layers(arch) if isinstance(part, Setting)}

    collected = modules.collecting(lambda structure: _Layers(structure, lowered))
    return Network(plan, **collected, trainer_options=trainer_options)
