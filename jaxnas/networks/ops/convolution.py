"""Convolution and pooling that are fast inside a compiled loop, on a CPU too, and cheap to compile.

On a CPU, XLA runs a convolution inside a loop on a slow path; here a convolution can be matrix products:
patches × kernel, or Winograd's for 3 × 3 of many channels (docs/benchmarks.md).
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxnas import machine
from jaxnas.errors import unknown
from jaxnas.networks.ops import pooling, winograd
from jaxnas.networks.ops.pooling import Pool
from jaxnas.networks.ops.slicing import every, shifted_sum

MICRO_BATCH_BYTES = 8 * 2**20
MICRO_BATCH_ROWS = 2048  # at least: a matrix product of fewer rows is slow
TILED_ROWS = 1024  # pixels of a micro-batch that is computed by tiles
TILED_CHANNELS = 32  # in and out, at least: below, the products are too narrow
LOWERINGS = ("auto", "gemm", "xla")


def resolve_lowering(name: str) -> str:
    """For `auto`, `gemm` on a CPU and on a GPU that has to repeat its bits, else `xla`.

    Raises:
      InputError: an unknown name.
    """
    if name not in LOWERINGS:
        raise unknown("network.lowering", name, LOWERINGS)
    if name == "auto":
        backend = jax.default_backend()
        repeats = backend == "gpu" and machine.is_deterministic()
        return "gemm" if backend == "cpu" or repeats else "xla"
    return name


class Spec(NamedTuple):
    """What a convolution does beside its kernel: its padding is XLA's, SAME or VALID."""

    lowering: str
    stride: int = 1
    padding: str = "SAME"
    pool: Pool | None = None
    relu: bool = False  # after the bias


def conv(x: jax.Array, kernel: jax.Array, bias: jax.Array, spec: Spec) -> jax.Array:
    """Convolution, max pooling, bias, activation: [N,H,W,C], [k,k,C,F], [F] → [N,H',W',F].

    Bias and activation commute with the maximum, so they come after it, on a fraction of the elements.
    Both lowerings agree to rounding.
    """
    if spec.lowering == "gemm" and spec.stride == 1:
        return _conv(x, kernel, bias, spec)
    if spec.lowering == "gemm":
        y = _product_of(x, kernel, spec)(x)
    else:
        y = jax.lax.conv_general_dilated(
            x, kernel, (spec.stride,) * 2, spec.padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
    y = y if spec.pool is None else pooling.max_pool(y, spec.pool)
    return _finish(y, bias, spec)


def windowed(
    x: jax.Array, kernel: jax.Array, strides: tuple[int, int], dilation: int, lowering: str
) -> jax.Array:
    """Convolution of any window, without a bias, with SAME padding: [N,H,W,C], [h,w,C,F] → [N,H',W',F]."""
    window = tuple((k - 1) * dilation + 1 for k in kernel.shape[:2])
    if lowering == "gemm":
        pads = jax.lax.padtype_to_pads(x.shape[1:3], window, strides, "SAME")
        return _patches_product(kernel, pads, strides, dilation)(x)
    return jax.lax.conv_general_dilated(
        x, kernel, strides, "SAME", rhs_dilation=(dilation,) * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


# Convolution as matrix products, in micro-batches that fit the cache: nothing as large as the batch is
# written but the output and, with pooling, the place of each maximum as a byte. The gradient makes the
# patches, or the tiles, again.


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _conv(x: jax.Array, kernel: jax.Array, bias: jax.Array, spec: Spec) -> jax.Array:
    product = _product_of(x, kernel, spec)

    def one(_: None, x: jax.Array) -> tuple[None, jax.Array]:
        y = product(x)
        y = y if spec.pool is None else pooling.max_pool(y, spec.pool)
        return None, _finish(y, bias, spec)

    return _in_micro_batches(one, _micro_batch(x, kernel), None, x)[1]


def _conv_forward(x: Any, kernel: Any, bias: Any, spec: Spec) -> tuple[jax.Array, tuple]:
    needs_dx = () if x.perturbed else None  # the first layer's input needs no gradient
    x, kernel, bias = x.value, kernel.value, bias.value
    product = _product_of(x, kernel, spec)

    def one(_: None, x: jax.Array) -> tuple[None, tuple]:
        y, place = product(x), ()
        if spec.pool is not None:
            y, place = pooling.max_and_place(y, spec.pool)
        return None, (_finish(y, bias, spec), place)

    y, place = _in_micro_batches(one, _micro_batch(x, kernel), None, x)[1]
    return y, (x, kernel, y, place, needs_dx)


def _conv_backward(spec: Spec, residuals: tuple, dy: Any) -> tuple:
    x, kernel, y, place, needs_dx = residuals
    k, _, C, F = kernel.shape
    _, H, W, _ = x.shape
    (top, bottom), (left, right) = pads = jax.lax.padtype_to_pads((H, W), (k, k), (1, 1), spec.padding)
    extent = H + top + bottom - k + 1, W + left + right - k + 1
    if isinstance(dy, jax.custom_derivatives.SymbolicZero):
        dy = jnp.zeros_like(y)
    # The gradient by x is a convolution too, of dy with the kernel turned around.
    around = tuple((k - 1 - low, k - 1 - high) for low, high in pads)
    turned = kernel[::-1, ::-1].transpose(0, 1, 3, 2)
    tiled = is_tiled(x, kernel)
    flat, wide = kernel.reshape(k * k * C, F), (C if tiled else k * k * C) > F
    if tiled:
        tile = winograd.cheaper(*extent)
        squared = (tile.m + 2) ** 2
        d_weights = jnp.zeros((squared, F, C) if wide else (squared, C, F), x.dtype)
        by_x = winograd.product(turned, around, winograd.cheaper(H, W))
    else:
        d_weights = jnp.zeros((F, k * k * C) if wide else (k * k * C, F), x.dtype)
        by_x = _patches_product(turned, around)

    def one(sums: tuple, x: jax.Array, y: jax.Array, dy: jax.Array, place: Any) -> tuple[tuple, Any]:
        m, (d_weights, d_bias) = x.shape[0], sums
        if spec.relu:
            dy = jnp.where(y > 0, dy, 0)
        d_bias = d_bias + dy.sum((0, 1, 2))
        if spec.pool is not None:
            dy = pooling.unpool(dy, place, spec.pool, *extent)
        if tiled:
            tiles = winograd.to_tiles(x, pads, tile), winograd.spread(dy, tile)
            d_weights = d_weights + winograd.by_weights(*tiles, wide)
            return (d_weights, d_bias), None if needs_dx is None else by_x(dy)
        patches, d_rows = _patches(x, (k, k), (1, 1), pads)[0], dy.reshape(-1, F)
        # The longer side last is up to twice as fast; the transposition waits until after the loop.
        pair = (d_rows, patches) if wide else (patches, d_rows)
        d_weights = d_weights + jax.lax.dot_general(*pair, (((0,), (0,)), ((), ())))
        if needs_dx is None:
            return (d_weights, d_bias), None
        if k == 1 or F <= C:
            return (d_weights, d_bias), by_x(dy)
        # With more filters than channels it is cheaper to sum the gradients of the patches: rows, columns.
        d_patches = (d_rows @ flat.T).reshape(m, *dy.shape[1:3], k, k * C)
        d_columns = shifted_sum(d_patches, 1)[:, top : top + H]
        d_columns = d_columns.reshape(m, H, dy.shape[2], k, C)
        return (d_weights, d_bias), shifted_sum(d_columns, 2)[:, :, left : left + W]

    sums = d_weights, jnp.zeros(F, x.dtype)
    (d_weights, d_bias), dx = _in_micro_batches(one, _micro_batch(x, kernel), sums, x, y, dy, place)
    if tiled:
        d_kernel = winograd.by_kernel(d_weights.mT if wide else d_weights, tile)
    else:
        d_kernel = (d_weights.T if wide else d_weights).reshape(kernel.shape)
    return jnp.zeros_like(x) if dx is None else dx, d_kernel, d_bias


_conv.defvjp(_conv_forward, _conv_backward, symbolic_zeros=True)


def _micro_batch(x: jax.Array, kernel: jax.Array) -> int:
    """How many images to work on at once: on a CPU, as many as fit the cache, a divisor of all if any is."""
    N, H, W, C = x.shape
    k, _, _, F = kernel.shape
    if jax.default_backend() != "cpu":
        return N
    if is_tiled(x, kernel):
        return _divisor(N, min(N, -(-TILED_ROWS // (H * W))))
    image_bytes = x.dtype.itemsize * H * W * ((k * k * C if k > 1 else 0) + 2 * F)
    most = min(N, max(1, MICRO_BATCH_BYTES // image_bytes, -(-MICRO_BATCH_ROWS // (H * W))))
    return _divisor(N, most)


def _divisor(n: int, most: int) -> int:
    """The largest divisor of n up to `most`, if there is one above half of it; else `most`."""
    return next((m for m in range(most, most // 2, -1) if n % m == 0), most)


def _in_micro_batches(function: Any, size: int, carry: Any, *arrays: Any) -> tuple[Any, Any]:
    """Scans (carry, `size` rows of each array [N, ...]) → (carry, results [N, ...])."""
    N = arrays[0].shape[0]
    if size >= N:
        return function(carry, *arrays)
    whole = N // size * size
    slices = jax.tree.map(lambda x: x[:whole].reshape(-1, size, *x.shape[1:]), arrays)
    carry, results = jax.lax.scan(lambda carry, xs: function(carry, *xs), carry, slices)
    results = jax.tree.map(lambda y: y.reshape(whole, *y.shape[2:]), results)
    if whole < N:
        carry, rest = function(carry, *jax.tree.map(lambda x: x[whole:], arrays))
        results = jax.tree.map(lambda *parts: jnp.concatenate(parts), results, rest)
    return carry, results


def _finish(y: Any, bias: jax.Array, spec: Spec) -> jax.Array:
    y = y + bias.reshape(1, 1, 1, -1)
    return jax.nn.relu(y) if spec.relu else y


def _product_of(x: jax.Array, kernel: jax.Array, spec: Spec) -> Callable[[jax.Array], jax.Array]:
    """The convolution with that kernel, [n,H,W,C] → [n,H',W',F], made for images such as x."""
    window, strides = kernel.shape[:2], (spec.stride, spec.stride)
    pads = jax.lax.padtype_to_pads(x.shape[1:3], window, strides, spec.padding)
    if spec.stride == 1 and is_tiled(x, kernel):
        return winograd.product(kernel, pads, winograd.F2)  # F4's transforms cost what its product saves
    return _patches_product(kernel, pads, strides)


def is_tiled(x: jax.Array, kernel: jax.Array) -> bool:
    """Whether a convolution of stride 1 is computed by tiles: 3 × 3, many channels, more than one image.

    A single image, on which operations are counted, is not.
    """
    k, _, C, F = kernel.shape
    return k == 3 and x.shape[0] > 1 and min(C, F) >= TILED_CHANNELS and x.dtype == jnp.float32


def _patches_product(
    kernel: jax.Array, pads: Any, strides: tuple[int, int] = (1, 1), dilation: int = 1
) -> Callable[[jax.Array], jax.Array]:
    """Patches × kernel."""
    height, width, _, F = kernel.shape
    weights = kernel.reshape(-1, F)

    def product(x: jax.Array) -> jax.Array:
        patches, H, W = _patches(x, (height, width), strides, pads, dilation)
        return (patches @ weights).reshape(x.shape[0], H, W, F)

    return product


def _patches(
    x: jax.Array, window: tuple[int, int], strides: tuple[int, int], pads: Any, dilation: int = 1
) -> tuple[jax.Array, int, int]:
    """[N,H,W,C] → what each output pixel reads [N·H'·W', window·C], and H', W'."""
    N, _, _, C = x.shape
    H, W = (
        (extent + low + high - (k - 1) * dilation - 1) // stride + 1
        for extent, (low, high), k, stride in zip(x.shape[1:3], pads, window, strides, strict=True)
    )
    padded = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    # Columns first, then rows: 2k slices to compile instead of k².
    columns = _joined([every(padded, 2, j * dilation, W, strides[1]) for j in range(window[1])])
    patches = _joined([every(columns, 1, i * dilation, H, strides[0]) for i in range(window[0])])
    return patches.reshape(N * H * W, math.prod(window) * C), H, W


def _joined(parts: list[jax.Array]) -> jax.Array:
    return jnp.concatenate(parts, axis=-1) if len(parts) > 1 else parts[0]
