"""Convolutions with batch normalization, in widths that may be padded.

Batch normalization: Ioffe & Szegedy 2015, https://arxiv.org/abs/1502.03167. While training it goes by the
batch; else by the statistics, and then it is part of the convolution's weights. Initial weights: He et al.
2015, https://arxiv.org/abs/1502.01852.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxnas.networks import modules
from jaxnas.networks.ops import convolution
from jaxnas.networks.ops.depthwise import depthwise

MOMENTUM = 0.9  # of statistics; until that many steps are done, they are the mean of all of them
EPSILON = 1e-5
Width = int | jax.Array | None  # channels that are not padding; None where nothing is padded


class Mode(NamedTuple):
    """What all modules of a network share."""

    training: bool
    lowering: str


def pair(before: Width, width: Width) -> modules.Widths | None:
    """Channels in and out, where there is padding."""
    return None if before is None or width is None else (before, width)


class ConvNorm(nn.Module):
    """Convolution without a bias, batch normalization, ReLU if asked; one operation outside of training."""

    features: int
    kernel_size: int
    mode: Mode
    relu: bool = True
    begin: float = 1.0  # the scale of the norm before training

    @nn.compact
    def __call__(self, x: jax.Array, pace: Any, before: Width, width: Width) -> jax.Array:
        """[N, H, W, C] → [N, H, W, features]; statistics move by `pace` [] towards those of the batch."""
        k, C, F, both = self.kernel_size, x.shape[-1], self.features, pair(before, width)
        shape, extents = (k, k, C, F), None if both is None else (k, k, *both)
        fan_in = k * k * (C if both is None else both[0])
        kernel: Any = self.param("kernel", lambda key: modules.he_uniform(key, shape, fan_in, extents))
        norm, lowering = Norm(F, self.begin, name="norm"), self.mode.lowering
        if not self.mode.training:
            factor, shift = norm(None, pace)
            kernel = (kernel.astype(jnp.float32) * factor.reshape(1, 1, 1, -1)).astype(x.dtype)
            return convolution.conv(
                x, kernel, shift.astype(x.dtype), convolution.Spec(lowering, relu=self.relu)
            )
        y = convolution.conv(x, kernel.astype(x.dtype), jnp.zeros(F, x.dtype), convolution.Spec(lowering))
        return _scaled(y, *norm(y, pace), self.relu)


class Depthwise(nn.Module):
    """ReLU, then every channel by itself; batch normalization and ReLU if asked."""

    kernel_size: int
    mode: Mode
    norm: bool

    @nn.compact
    def __call__(self, x: jax.Array, pace: Any, width: Width) -> jax.Array:
        """[N, H, W, C] → the same shape."""
        k, C = self.kernel_size, x.shape[-1]
        extents = None if width is None else (k, k, width)
        kernel: Any = self.param("kernel", lambda key: modules.he_uniform(key, (k, k, C), k * k, extents))
        y = depthwise(x, kernel.astype(x.dtype), 1, self.mode.lowering)
        if not self.norm:
            return y
        return _scaled(y, *Norm(C, name="norm")(y if self.mode.training else None, pace), True)


class Norm(nn.Module):
    """Batch normalization: Ioffe & Szegedy 2015. The parameters are those of `nn.BatchNorm`."""

    channels: int
    begin: float = 1.0

    @nn.compact
    def __call__(self, x: jax.Array | None, pace: Any) -> tuple[jax.Array, jax.Array]:
        """What to multiply by and what to add, [C]; by the batch x [N, H, W, C], or by the statistics."""
        C = (self.channels,)
        scale: Any = self.param("scale", lambda key: jnp.full(C, self.begin, jnp.float32))
        bias: Any = self.param("bias", lambda key: jnp.zeros(C, jnp.float32))
        kept: dict[str, Any] = {
            name: self.variable("batch_stats", name, start, C, jnp.float32)
            for name, start in (("mean", jnp.zeros), ("var", jnp.ones))
        }
        mean, var = kept["mean"].value, kept["var"].value
        if x is not None:
            wide = x.astype(jnp.float32)
            mean = jnp.mean(wide, axis=(0, 1, 2))
            var = jnp.maximum(jnp.mean(wide * wide, axis=(0, 1, 2)) - mean * mean, 0)
            for name, now in (("mean", mean), ("var", var)):
                kept[name].value = kept[name].value + pace * (now - kept[name].value)
        factor = scale.astype(jnp.float32) * jax.lax.rsqrt(var + EPSILON)
        return factor, bias.astype(jnp.float32) - mean * factor


def _scaled(x: jax.Array, factor: jax.Array, shift: jax.Array, relu: bool) -> jax.Array:
    y = x.astype(jnp.float32) * factor.reshape(1, 1, 1, -1) + shift.reshape(1, 1, 1, -1)
    return (nn.relu(y) if relu else y).astype(x.dtype)
