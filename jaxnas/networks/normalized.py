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
            factor, shift = norm.constants()
            kernel = (kernel.astype(jnp.float32) * factor.reshape(1, 1, 1, -1)).astype(x.dtype)
            return convolution.conv(
                x, kernel, shift.astype(x.dtype), convolution.Spec(lowering, relu=self.relu)
            )
        y = convolution.conv(x, kernel.astype(x.dtype), jnp.zeros(F, x.dtype), convolution.Spec(lowering))
        y = norm(y, pace)
        return nn.relu(y) if self.relu else y


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
        norm = Norm(C, name="norm")
        return nn.relu(norm(y, pace) if self.mode.training else scaled(y, *norm.constants()))


class Norm(nn.Module):
    """Batch normalization: Ioffe & Szegedy 2015. The parameters are those of `nn.BatchNorm`."""

    channels: int
    begin: float = 1.0

    def setup(self) -> None:
        """Parameters and statistics, [C]."""
        C = (self.channels,)
        self.scale: Any = self.param("scale", lambda key: jnp.full(C, self.begin, jnp.float32))
        self.bias: Any = self.param("bias", lambda key: jnp.zeros(C, jnp.float32))
        self.mean: Any = self.variable("batch_stats", "mean", jnp.zeros, C, jnp.float32)
        self.var: Any = self.variable("batch_stats", "var", jnp.ones, C, jnp.float32)

    def __call__(self, x: jax.Array, pace: jax.Array) -> jax.Array:
        """[N, H, W, C] → the same shape, by the batch; statistics move towards those of the batch."""
        y, mean, var = _normalize(x, self.scale.astype(jnp.float32), self.bias.astype(jnp.float32))
        for kept, now in ((self.mean, mean), (self.var, var)):
            kept.value = kept.value + pace * (now - kept.value)
        return y

    def constants(self) -> tuple[jax.Array, jax.Array]:
        """What the statistics say to multiply by and to add, [C]."""
        factor = self.scale.astype(jnp.float32) * jax.lax.rsqrt(self.var.value + EPSILON)
        return factor, self.bias.astype(jnp.float32) - self.mean.value * factor


@jax.custom_vjp
def _normalize(x: jax.Array, scale: jax.Array, bias: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """y, and the batch's mean and variance [C], which have no gradient."""
    return _normalize_forward(x, scale, bias)[0]


def _normalize_forward(x: jax.Array, scale: jax.Array, bias: jax.Array) -> tuple[tuple, tuple]:
    wide, n = x.astype(jnp.float32), x.size // x.shape[-1]
    mean = wide.sum((0, 1, 2)) / n
    var = jnp.maximum((wide * wide).sum((0, 1, 2)) / n - mean * mean, 0)
    inverse = jax.lax.rsqrt(var + EPSILON)
    factor = scale * inverse
    return (scaled(x, factor, bias - mean * factor), mean, var), (x, mean, inverse, factor)


def _normalize_backward(residuals: tuple, gradients: tuple) -> tuple:
    x, mean, inverse, factor = residuals
    wide, dy, n = x.astype(jnp.float32), gradients[0].astype(jnp.float32), x.size // x.shape[-1]
    d_bias = dy.sum((0, 1, 2))
    d_scale = inverse * ((dy * wide).sum((0, 1, 2)) - mean * d_bias)
    # factor · (dy − d_bias/n − (x − mean) · inverse · d_scale/n), ordered by dy, x and what has neither
    by_x = -factor * inverse * d_scale / n
    rest = -factor * d_bias / n - by_x * mean
    dx = scaled(dy, factor, rest) + wide * by_x.reshape(1, 1, 1, -1)
    return dx.astype(x.dtype), d_scale, d_bias


_normalize.defvjp(_normalize_forward, _normalize_backward)


def scaled(x: jax.Array, factor: jax.Array, shift: jax.Array) -> jax.Array:
    """x [N, H, W, C] · factor [C] + shift [C], in float32."""
    y = x.astype(jnp.float32) * factor.reshape(1, 1, 1, -1) + shift.reshape(1, 1, 1, -1)
    return y.astype(x.dtype)
