"""Strided slices of images, and their adjoints."""

import jax
import jax.numpy as jnp


def every(x: jax.Array, axis: int, start: int, count: int, stride: int) -> jax.Array:
    """`count` slices along an axis, `stride` apart."""
    return jax.lax.slice_in_dim(x, start, start + (count - 1) * stride + 1, stride, axis)


def shifted_sum(x: jax.Array, axis: int) -> jax.Array:
    """[N,H,W,k,C] → Σ_i of x[..., i, :] shifted by i along an axis, which grows by k − 1."""
    k, total = x.shape[3], 0
    for i in range(k):
        widths = [(0, 0)] * 4
        widths[axis] = (i, k - 1 - i)
        total = total + jnp.pad(x[..., i, :], widths)
    return jnp.asarray(total)


def crop(x: jax.Array, top: int, left: int, H: int, W: int) -> jax.Array:
    """[N, H, W, C] of x from row `top` and column `left` on, with zeros beyond its end."""
    down, right = max(0, top + H - x.shape[1]), max(0, left + W - x.shape[2])
    x = jnp.pad(x, ((0, 0), (0, down), (0, right), (0, 0))) if down or right else x
    return x[:, top : top + H, left : left + W]
