"""Depthwise convolution with its gradient, and mean pooling: sums of shifted images.

On a CPU, XLA's own depthwise convolution is slow, its gradients more so, and inside a loop both are slower
still; the sum of k² shifted images is one pass over them (docs/benchmarks.md).
"""

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.networks.ops.slicing import every

SHARES = 8  # of the images, at most, whose gradients by a kernel are summed side by side


def depthwise(x: jax.Array, kernel: jax.Array, stride: int, lowering: str) -> jax.Array:
    """ReLU, then every channel by itself, with SAME padding: [N,H,W,C], [k,k,C] → [N,H',W',C].

    Both lowerings agree to rounding. A single image, on which operations are counted, takes XLA's.
    """
    if lowering == "gemm" and x.shape[0] > 1:
        return _depthwise(x, kernel, stride)
    return jax.lax.conv_general_dilated(
        jax.nn.relu(x), kernel[:, :, None], (stride, stride), "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=x.shape[-1],
    )  # fmt: skip


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _depthwise(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    padded = _padded(jax.nn.relu(x), _pads(x.shape, kernel.shape[0], stride))
    return _weighted(padded, kernel, stride)


def _depthwise_forward(x: jax.Array, kernel: jax.Array, stride: int) -> tuple[jax.Array, tuple]:
    return _depthwise(x, kernel, stride), (x, kernel)


def _depthwise_backward(stride: int, residuals: tuple, dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = residuals
    k, (N, H, W, C) = kernel.shape[0], dy.shape
    padded = _padded(jax.nn.relu(x), _pads(x.shape, k, stride))
    shares = next(n for n in range(min(SHARES, N), 0, -1) if N % n == 0)
    parts = dy.reshape(shares, N // shares, H, W, C)

    def by_tap(t: jax.Array) -> jax.Array:  # a loop over the weights: little to compile
        extents = (N, (H - 1) * stride + 1, (W - 1) * stride + 1, C)
        seen = jax.lax.dynamic_slice(padded, (0, t // k, t % k, 0), extents)[:, ::stride, ::stride]
        return (seen.reshape(parts.shape) * parts).sum((1, 2, 3)).sum(0)

    d_kernel = jax.lax.map(by_tap, jnp.arange(k * k, dtype=jnp.int32)).reshape(kernel.shape)
    # The gradient by the images is such a convolution too, with the kernel turned around.
    dx = _weighted(_spread(dy, x.shape, k, stride), kernel[::-1, ::-1], 1)
    return jnp.where(x > 0, dx, 0), d_kernel


_depthwise.defvjp(_depthwise_forward, _depthwise_backward)


def mean_pool(x: jax.Array, window: int, stride: int) -> jax.Array:  # [N,H,W,C] → [N,H',W',C]
    """Mean over windows with SAME padding, which does not count."""
    counted: Any = _window_sum(jnp.ones((1, *x.shape[1:3], 1), x.dtype), window, stride)
    total: Any = _window_sum(x, window, stride)
    return total / counted


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _window_sum(x: jax.Array, window: int, stride: int) -> jax.Array:
    return _summed(_padded(x, _pads(x.shape, window, stride)), window, stride)


def _window_sum_backward(window: int, stride: int, like: jax.Array, dy: jax.Array) -> tuple[jax.Array]:
    return (_summed(_spread(dy, like.shape, window, stride), window, 1),)


_window_sum.defvjp(lambda x, window, stride: (_window_sum(x, window, stride), x), _window_sum_backward)


def _weighted(padded: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """Σ over i, j of kernel[i, j] · the images shifted by i and j."""
    k = kernel.shape[0]
    H, W = ((extent - k) // stride + 1 for extent in padded.shape[1:3])
    total = 0
    for i, j in itertools.product(range(k), repeat=2):
        seen = every(every(padded, 1, i, H, stride), 2, j, W, stride)
        total = total + seen * kernel[i, j].reshape(1, 1, 1, -1)
    return jnp.asarray(total)


def _summed(padded: jax.Array, window: int, stride: int) -> jax.Array:
    """Sums over windows: of rows, then of columns."""
    for axis in (1, 2):
        count = (padded.shape[axis] - window) // stride + 1
        slices = [every(padded, axis, i, count, stride) for i in range(window)]
        padded = functools.reduce(jnp.add, slices)
    return padded


def _pads(shape: tuple[int, ...], window: int, stride: int) -> Any:
    return jax.lax.padtype_to_pads(shape[1:3], (window,) * 2, (stride,) * 2, "SAME")


def _padded(x: jax.Array, pads: Any) -> jax.Array:
    return jnp.pad(x, ((0, 0), *pads, (0, 0)))


def _spread(dy: jax.Array, shape: tuple[int, ...], window: int, stride: int) -> jax.Array:
    """dy with zeros between its pixels and around it: windows at every pixel of it make images of `shape`."""
    edges = []
    for extent, count, (low, _) in zip(shape[1:3], dy.shape[1:3], _pads(shape, window, stride), strict=True):
        before = window - 1 - low
        after = extent + window - 2 - (count - 1) * stride - before
        edges.append((before, after, stride - 1))
    return jax.lax.pad(dy, np.zeros((), dy.dtype), ((0, 0, 0), *edges, (0, 0, 0)))
