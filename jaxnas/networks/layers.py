"""Layers that are fast inside a compiled loop, on a CPU too, and cheap to compile.

On a CPU, XLA runs a convolution inside a loop on a slow path, and the gradient of a windowed maximum is
slow everywhere; here a convolution can be patches × kernel, one matrix product, and pooling is a maximum
of strided slices. Random bits are a hash of (key, element), which fuses into its consumer.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxnas.errors import unknown

LOWERINGS = ("auto", "gemm", "xla")


def resolve_lowering(name: str) -> str:
    """`gemm` on a CPU and `xla` elsewhere for `auto`; an InputError for an unknown name."""
    if name not in LOWERINGS:
        raise unknown("network.lowering", name, LOWERINGS)
    if name == "auto":
        return "gemm" if jax.default_backend() == "cpu" else "xla"
    return name


def hash_bits(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:  # typed key → uint32 [shape]
    """32 random bits an element from two rounds of the lowbias32 integer hash of its index and the key.

    A hundredth of the cost of the default generator, equal to the bit under vmap, map and scan
    (constants: Wellons, "Prospecting for Hash Functions", 2018). Enough for dropout and initial weights,
    not for cryptography.
    """
    words = jax.random.key_data(key)
    size = 1
    for extent in shape:
        size *= extent
    index = jax.lax.iota(jnp.uint32, size)
    return _lowbias32(_lowbias32(index ^ words[..., 0]) + words[..., 1]).reshape(shape)


def _lowbias32(x: jax.Array) -> jax.Array:
    x = (x ^ (x >> jnp.uint32(16))) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> jnp.uint32(15))) * jnp.uint32(0x846CA68B)
    return x ^ (x >> jnp.uint32(16))


def fan_in_uniform(key: jax.Array, shape: tuple[int, ...], fan_in: int) -> jax.Array:
    """Uniform in ±1/√fan_in: what PyTorch gives the weights and biases of convolution and dense layers."""
    uniform = (hash_bits(key, shape) >> jnp.uint32(8)).astype(jnp.float32) * 2.0**-24
    return (2 * uniform - 1) * fan_in**-0.5


def dropout(x: jax.Array, rate: jax.Array, key: jax.Array | None) -> jax.Array:
    """Zero each element with probability `rate` [], scale the rest by 1/(1 − rate); identity without key."""
    if key is None:
        return x
    threshold = (rate * 2.0**32).astype(jnp.uint32)
    return jnp.where(hash_bits(key, x.shape) >= threshold, x / (1 - rate), 0.0)


def conv(x: jax.Array, kernel: jax.Array, lowering: str) -> jax.Array:  # [N,H,W,C], [k,k,C,F] → [N,H,W,F]
    """Convolution, stride 1, padded to keep the size (k odd); both lowerings agree to rounding."""
    if lowering == "xla":
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
    k, _, C, F = kernel.shape
    N, H, W, _ = x.shape
    pad = k // 2
    padded = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    # Columns first, then rows: 2k slices to compile instead of k².
    columns = jnp.concatenate([padded[:, :, j : j + W, :] for j in range(k)], axis=-1)
    patches = jnp.concatenate([columns[:, i : i + H, :, :] for i in range(k)], axis=-1)
    patches = patches.reshape(N * H * W, k * k * C)
    return (patches @ kernel.reshape(k * k * C, F)).reshape(N, H, W, F)


def max_pool(x: jax.Array) -> jax.Array:  # [N,H,W,C] → [N,⌊H/2⌋,⌊W/2⌋,C]
    """Maximum over windows of 2 × 2 with stride 2; an odd last row or column is left out."""
    H, W = x.shape[1] // 2 * 2, x.shape[2] // 2 * 2
    rows = jnp.maximum(x[:, 0:H:2, :W, :], x[:, 1:H:2, :W, :])
    return jnp.maximum(rows[:, :, 0::2, :], rows[:, :, 1::2, :])


class ConvPool(nn.Module):
    """Convolution, bias, ReLU, 2 × 2 max pooling; the parameters are those of `nn.Conv`.

    Bias and ReLU commute with the maximum, so they come after it, on a quarter of the elements.
    """

    features: int
    kernel_size: int
    lowering: str

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, H, W, C] → [N, ⌊H/2⌋, ⌊W/2⌋, features]."""
        k, C = self.kernel_size, x.shape[-1]
        kernel = self.param("kernel", fan_in_uniform, (k, k, C, self.features), k * k * C)
        bias = self.param("bias", fan_in_uniform, (self.features,), k * k * C)
        return nn.relu(max_pool(conv(x, kernel, self.lowering)) + bias.reshape(1, 1, 1, -1))


class Dense(nn.Module):
    """x W + b; the parameters are those of `nn.Dense`."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, C] → [N, features]."""
        kernel: Any = self.param("kernel", fan_in_uniform, (x.shape[-1], self.features), x.shape[-1])
        bias: Any = self.param("bias", fan_in_uniform, (self.features,), x.shape[-1])
        return x @ kernel + bias.reshape(1, -1)
