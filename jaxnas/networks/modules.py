"""Layers and their initial weights, for networks whose widths may be padded."""

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxnas.hashing import Extents, hash_bits, uniform
from jaxnas.networks.ops import convolution
from jaxnas.networks.ops.pooling import Pool
from jaxnas.types import PyTree

ACTIVATIONS = {"relu": nn.relu, "elu": nn.elu, "gelu": nn.gelu, "silu": nn.silu, "none": lambda x: x}


def fan_in_uniform(
    key: jax.Array, shape: tuple[int, ...], fan_in: int | jax.Array, extents: Extents | None = None
) -> jax.Array:
    """Uniform in ±1/√fan_in: what PyTorch gives the weights and biases of convolution and dense layers."""
    return _uniform(key, shape, extents) * _float(fan_in) ** -0.5


def xavier_uniform(
    key: jax.Array,
    shape: tuple[int, ...],
    fan_in: int | jax.Array,
    fan_out: int | jax.Array,
    extents: Extents | None = None,
) -> jax.Array:
    """Uniform in ±√(6/(fan_in + fan_out)) (Glorot and Bengio, 2010)."""
    return _uniform(key, shape, extents) * (6 / _float(fan_in + fan_out)) ** 0.5


def he_uniform(
    key: jax.Array, shape: tuple[int, ...], fan_in: int | jax.Array, extents: Extents | None = None
) -> jax.Array:
    """Uniform in ±√(6/fan_in), of variance 2/fan_in (He et al., 2015)."""
    return _uniform(key, shape, extents) * (6 / _float(fan_in)) ** 0.5


def _uniform(key: jax.Array, shape: tuple[int, ...], extents: Extents | None) -> jax.Array:
    """Uniform in [−1, 1); zero beyond `extents`."""
    x = 2 * uniform(key, shape, extents) - 1
    for axis, extent in enumerate(extents or ()):
        x = jnp.where(jax.lax.broadcasted_iota(jnp.int32, shape, axis) < extent, x, 0.0)
    return x


def _float(x: int | jax.Array) -> float | jax.Array:
    return x.astype(jnp.float32) if isinstance(x, jax.Array) else float(x)


def dropout(
    x: jax.Array, rate: jax.Array, key: jax.Array | None, channels: int | jax.Array | None = None
) -> jax.Array:
    """Zero each element with probability `rate` [], scale the rest by 1/(1 − rate); identity without key.

    `channels`: how many of the last axis are not padding.
    """
    if key is None:
        return x
    threshold = (rate * 2.0**32).astype(jnp.uint32)
    extents = None if channels is None else (*x.shape[:-1], channels)
    return jnp.where(
        hash_bits(key, x.shape, extents) >= threshold, x / (1 - rate).astype(x.dtype), jnp.zeros((), x.dtype)
    )


Widths = tuple[int | jax.Array, int | jax.Array]  # channels in and out that are not padding


class Conv(nn.Module):
    """Convolution, max pooling if asked, bias, activation; the parameters are those of `nn.Conv`."""

    features: int
    kernel_size: int
    lowering: str
    stride: int = 1
    padding: str = "SAME"
    pool: Pool | None = None
    activation: str = "relu"
    initializer: str = "fan_in"

    @nn.compact
    def __call__(self, x: jax.Array, widths: Widths | None = None) -> jax.Array:
        """[N, H, W, C] → [N, H', W', features]."""
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        kernel, bias = _affine(self, shape, self.initializer, widths)
        relu = self.activation == "relu"  # computed with the convolution
        spec = convolution.Spec(self.lowering, self.stride, self.padding, self.pool, relu)
        y = convolution.conv(x, kernel.astype(x.dtype), bias.astype(x.dtype), spec)
        return y if relu else ACTIVATIONS[self.activation](y)


class Dense(nn.Module):
    """x W + b; the parameters are those of `nn.Dense`."""

    features: int
    initializer: str = "fan_in"

    @nn.compact
    def __call__(self, x: jax.Array, widths: Widths | None = None) -> jax.Array:
        """[N, C] → [N, features], [N, H, W, C] likewise, flattened."""
        area, C = math.prod(x.shape[1:-1]), x.shape[-1]
        x = x.reshape(x.shape[0], -1)
        kernel, bias = _affine(self, (area, C, self.features), self.initializer, widths, flat=True)
        return x @ kernel.astype(x.dtype) + bias.astype(x.dtype).reshape(1, -1)


def _affine(
    module: nn.Module, shape: tuple[int, ...], initializer: str, widths: Widths | None, flat: bool = False
) -> tuple[jax.Array, jax.Array]:
    """A layer's parameters: kernel [..., in, out], or [... · in, out] if `flat`, and bias [out]."""
    *window, before, after = shape
    area = math.prod(window)
    extents, shape_of_bias = None, (after,)
    if widths is not None:
        before, after = widths
        extents = (*window, before, after)
    # A dense layer sees its window as further inputs.
    fan_in, fan_out = area * before, after if flat else area * after

    def kernel_init(key: jax.Array) -> jax.Array:
        if initializer == "xavier":
            kernel = xavier_uniform(key, shape, fan_in, fan_out, extents)
        else:
            kernel = fan_in_uniform(key, shape, fan_in, extents)
        return kernel.reshape(-1, shape[-1]) if flat else kernel

    def bias_init(key: jax.Array) -> jax.Array:
        if initializer == "xavier":
            return jnp.zeros(shape_of_bias)
        return fan_in_uniform(key, shape_of_bias, fan_in, None if extents is None else (after,))

    kernel: Any = module.param("kernel", kernel_init)
    bias: Any = module.param("bias", bias_init)
    return kernel, bias


def batch_norm(x: jax.Array, training: bool, name: str) -> jax.Array:
    """Within a module: by the batch while training, else by the statistics that training collected."""
    with jax.numpy_dtype_promotion("standard"):  # flax raises bfloat16 to float32 in its statistics
        return nn.BatchNorm(use_running_average=not training, momentum=0.9, dtype=x.dtype, name=name)(x)


def collecting(make: Callable[[Any], nn.Module]) -> dict[str, Callable]:
    """`init`, `apply` and `train` of a network whose layers collect statistics.

    `make` gives the module of a structure, which has an `image_shape`; the module takes images, knobs and a
    key or None. Statistics are params["statistics"].
    """

    def init(key: jax.Array, structure: Any, knobs: PyTree) -> PyTree:
        images = jax.ShapeDtypeStruct((1, *structure.image_shape), jnp.float32)
        # Only the initializers run: the forward pass is traced for its shapes.
        initial = make(structure).lazy_init(key, images, knobs, None)
        return {**initial["params"], "statistics": initial.get("batch_stats", {})}

    def variables(params: PyTree) -> dict[str, Any]:
        weights = {name: value for name, value in params.items() if name != "statistics"}
        return {"params": weights, "batch_stats": params["statistics"]}

    def apply(params: PyTree, structure: Any, knobs: PyTree, inputs: jax.Array, key: Any) -> Any:
        return make(structure).apply(variables(params), inputs, knobs, key)

    def train(params: PyTree, structure: Any, knobs: PyTree, inputs: jax.Array, key: jax.Array) -> Any:
        outputs, kept = make(structure).apply(variables(params), inputs, knobs, key, mutable=["batch_stats"])
        return outputs, kept.get("batch_stats", {})

    return {"init": init, "apply": apply, "train": train}
