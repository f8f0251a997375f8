"""Convolution and max pooling that are fast inside a compiled loop, on a CPU too, and cheap to compile.

On a CPU, XLA runs a convolution inside a loop on a slow path, and the gradient of a windowed maximum is
slow everywhere; here a convolution can be matrix products: patches × kernel, or Winograd's for 3 × 3 of many
channels (docs/benchmarks.md).
"""

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.errors import unknown

MICRO_BATCH_BYTES = 8 * 2**20
MICRO_BATCH_ROWS = 2048  # at least: a matrix product of fewer rows is slow
TILED_ROWS = 1024  # pixels of a micro-batch that is computed by tiles
LOWERINGS = ("auto", "gemm", "xla")


def resolve_lowering(name: str) -> str:
    """`gemm` on a CPU and `xla` elsewhere for `auto`; an InputError for an unknown name."""
    if name not in LOWERINGS:
        raise unknown("network.lowering", name, LOWERINGS)
    if name == "auto":
        return "gemm" if jax.default_backend() == "cpu" else "xla"
    return name


class Pool(NamedTuple):
    """Max pooling over square windows; VALID leaves out what fills no window."""

    window: int = 2
    stride: int = 2
    padding: str = "VALID"


POOL_2X2 = Pool()


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
    y = y if spec.pool is None else max_pool(y, spec.pool)
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
        y = y if spec.pool is None else max_pool(y, spec.pool)
        return None, _finish(y, bias, spec)

    return _in_micro_batches(one, _micro_batch(x, kernel), None, x)[1]


def _conv_forward(x: Any, kernel: Any, bias: Any, spec: Spec) -> tuple[jax.Array, tuple]:
    needs_dx = () if x.perturbed else None  # the first layer's input needs no gradient
    x, kernel, bias = x.value, kernel.value, bias.value
    product = _product_of(x, kernel, spec)

    def one(_: None, x: jax.Array) -> tuple[None, tuple]:
        y, place = product(x), ()
        if spec.pool is not None:
            y, place = _max_and_place(y, spec.pool)
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
        d_weights = jnp.zeros((16, F, C) if wide else (16, C, F), x.dtype)
        by_x = _tiled_product(turned, around)
    else:
        d_weights = jnp.zeros((F, k * k * C) if wide else (k * k * C, F), x.dtype)
        by_x = _patches_product(turned, around)

    def one(sums: tuple, x: jax.Array, y: jax.Array, dy: jax.Array, place: Any) -> tuple[tuple, Any]:
        m, (d_weights, d_bias) = x.shape[0], sums
        if spec.relu:
            dy = jnp.where(y > 0, dy, 0)
        d_bias = d_bias + dy.sum((0, 1, 2))
        if spec.pool is not None:
            dy = _unpool(dy, place, spec.pool, *extent)
        if tiled:
            pair = (_spread(dy), _to_tiles(x, pads)) if wide else (_to_tiles(x, pads), _spread(dy))
            d_weights = d_weights + jax.lax.dot_general(*pair, (((1,), (1,)), ((0,), (0,))))
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
        d_columns = _shifted_sum(d_patches, 1)[:, top : top + H]
        d_columns = d_columns.reshape(m, H, dy.shape[2], k, C)
        return (d_weights, d_bias), _shifted_sum(d_columns, 2)[:, :, left : left + W]

    sums = d_weights, jnp.zeros(F, x.dtype)
    (d_weights, d_bias), dx = _in_micro_batches(one, _micro_batch(x, kernel), sums, x, y, dy, place)
    if tiled:
        d_weights = d_weights.mT if wide else d_weights
        d_kernel = _transform(d_weights.reshape(4, 4, C, F), WINOGRAD_KERNEL.T)
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
        return _tiled_product(kernel, pads)
    return _patches_product(kernel, pads, strides)


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


def every(x: jax.Array, axis: int, start: int, count: int, stride: int) -> jax.Array:
    """`count` slices along an axis, `stride` apart."""
    return jax.lax.slice_in_dim(x, start, start + (count - 1) * stride + 1, stride, axis)


# Winograd's F(2 × 2, 3 × 3): with the transforms B, G and A of Lavin & Gray 2016 (section 4.1,
# https://arxiv.org/abs/1509.09308), Y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A makes 2 × 2 pixels of a tile d of 4 × 4
# with 16 multiplications a channel, where patches take 36.

WINOGRAD_CHANNELS = 32  # in and out, at least: below, the products are too narrow
WINOGRAD_KERNEL = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], np.float32)  # G


def is_tiled(x: jax.Array, kernel: jax.Array) -> bool:
    """Whether a convolution of stride 1 is computed by tiles: 3 × 3, many channels, more than one image.

    A single image, on which operations are counted, is not.
    """
    k, _, C, F = kernel.shape
    return k == 3 and x.shape[0] > 1 and min(C, F) >= WINOGRAD_CHANNELS and x.dtype == jnp.float32


def _tiled_product(kernel: jax.Array, pads: Any) -> Callable[[jax.Array], jax.Array]:
    """The convolution by tiles."""
    _, _, C, F = kernel.shape
    weights = _transform(kernel, WINOGRAD_KERNEL).reshape(16, C, F)

    def product(x: jax.Array) -> jax.Array:
        H, W = (n + sum(pad) - 2 for n, pad in zip(x.shape[1:3], pads, strict=True))
        made = jax.lax.dot_general(_to_tiles(x, pads), weights, (((2,), (1,)), ((0,), (0,))))
        made = made.reshape(4, 4, x.shape[0], -(-H // 2), -(-W // 2), F)
        columns = [_combine(made[:, j]) for j in range(4)]  # Aᵀ M, then A
        pairs = [_combine([column[i] for column in columns]) for i in range(2)]
        rows = jnp.stack([jnp.stack(pair, axis=3) for pair in pairs], axis=2)
        n, h, _, w, _, _ = rows.shape
        return rows.reshape(n, 2 * h, 2 * w, F)[:, :H, :W]

    return product


def _to_tiles(x: jax.Array, pads: Any) -> jax.Array:
    """[n,H,W,C] → Bᵀ d B of every tile, [16, tiles, C]."""
    (top, bottom), (left, right) = pads
    H, W = x.shape[1] + top + bottom - 2, x.shape[2] + left + right - 2
    h, w = -(-H // 2), -(-W // 2)
    x = jnp.pad(x, ((0, 0), (top, bottom + 2 * h - H), (left, right + 2 * w - W), (0, 0)))

    def along(x: jax.Array, axis: int, count: int) -> list[jax.Array]:
        d = [every(x, axis, i, count, 2) for i in range(4)]
        return [d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]]

    tiles = [tile for row in along(x, 1, h) for tile in along(row, 2, w)]
    return jnp.stack([tile.reshape(-1, x.shape[3]) for tile in tiles])


def _spread(dy: jax.Array) -> jax.Array:
    """[n,H,W,F] → A dy Aᵀ of every 2 × 2 pixels, [16, tiles, F]: the adjoint of Aᵀ M A."""
    _, H, W, F = dy.shape
    dy = jnp.pad(dy, ((0, 0), (0, H % 2), (0, W % 2), (0, 0)))

    def along(x: jax.Array, axis: int) -> list[jax.Array]:
        count = x.shape[axis] // 2
        a, b = every(x, axis, 0, count, 2), every(x, axis, 1, count, 2)
        return [a, a + b, a - b, -b]

    tiles = [tile for row in along(dy, 1) for tile in along(row, 2)]
    return jnp.stack([tile.reshape(-1, F) for tile in tiles])


def _combine(m: Any) -> tuple[jax.Array, jax.Array]:
    """Aᵀ: four rows to two."""
    return m[0] + m[1] + m[2], m[1] - m[2] - m[3]


def _transform(kernel: jax.Array, matrix: np.ndarray) -> jax.Array:  # [a,a,C,F], [b,a] → [b,b,C,F]
    return jnp.einsum("ui,vj,ijcf->uvcf", matrix, matrix, kernel)


def _shifted_sum(x: jax.Array, axis: int) -> jax.Array:
    """[N,H,W,k,C] → Σ_i of x[..., i, :] shifted by i along an axis, which grows by k − 1."""
    k, total = x.shape[3], 0
    for i in range(k):
        widths = [(0, 0)] * 4
        widths[axis] = (i, k - 1 - i)
        total = total + jnp.pad(x[..., i, :], widths)
    return jnp.asarray(total)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def max_pool(x: jax.Array, pool: Pool = POOL_2X2) -> jax.Array:  # [N,H,W,C] → [N,H',W',C]
    """Maximum over windows, of 2 × 2 with stride 2 unless told; the gradient goes to the first maximum."""
    x = _pad_for(pool, x)
    H, W = ((extent - pool.window) // pool.stride + 1 for extent in x.shape[1:3])
    for axis, count in ((1, H), (2, W)):
        slices = (every(x, axis, i, count, pool.stride) for i in range(pool.window))
        x = functools.reduce(jnp.maximum, slices)
    return x


def _max_pool_forward(x: jax.Array, pool: Pool) -> tuple[jax.Array, tuple]:
    y, place = _max_and_place(x, pool)
    return y, (place, x)


def _max_pool_backward(pool: Pool, residuals: tuple, dy: jax.Array) -> tuple[jax.Array]:
    place, x = residuals  # of x, the shape alone
    return (_unpool(dy, place, pool, *x.shape[1:3]),)


max_pool.defvjp(_max_pool_forward, _max_pool_backward)


def _pad_for(pool: Pool, x: jax.Array) -> jax.Array:
    if pool.padding == "VALID":
        return x
    pads = jax.lax.padtype_to_pads(x.shape[1:3], (pool.window,) * 2, (pool.stride,) * 2, pool.padding)
    return jnp.pad(x, ((0, 0), *pads, (0, 0)), constant_values=-jnp.inf)


def _max_and_place(x: jax.Array, pool: Pool) -> tuple[jax.Array, jax.Array]:
    """The maximum of each window, and where it is: the number of its pixel, row by row, as a byte."""
    x = _pad_for(pool, x)
    H, W = ((extent - pool.window) // pool.stride + 1 for extent in x.shape[1:3])
    best = place = None
    for i, j in itertools.product(range(pool.window), repeat=2):
        pixel = every(every(x, 1, i, H, pool.stride), 2, j, W, pool.stride)
        if best is None or place is None:
            best, place = pixel, jnp.zeros(pixel.shape, jnp.uint8)
        else:
            place = jnp.where(pixel > best, jnp.uint8(i * pool.window + j), place)
            best = jnp.maximum(best, pixel)
    assert best is not None and place is not None
    return best, place


def _unpool(dy: jax.Array, place: jax.Array, pool: Pool, H: int, W: int) -> jax.Array:
    """The gradient [N,H,W,C] of the maximum over windows."""
    window, stride, _ = pool
    (top, _), (left, _) = jax.lax.padtype_to_pads((H, W), (window,) * 2, (stride,) * 2, pool.padding)
    N, h, w, C = dy.shape
    if window == stride:  # windows that do not overlap
        number = jnp.arange(window**2, dtype=jnp.uint8).reshape(1, 1, window, 1, window, 1)
        chosen = place[:, :, None, :, None, :] == number
        dx = jnp.where(chosen, dy[:, :, None, :, None, :], 0).reshape(N, h * window, w * window, C)
        return _crop(dx, top, left, H, W)
    # Pixels by their place within a stride: row p and column q of it get what windows send to pixels
    # p, p + stride, … and q, q + stride, …; further pixels come from windows further back.
    reach = -(-window // stride) - 1
    rows = []
    for p in range(stride):
        columns = []
        for q in range(stride):
            total = jnp.zeros((N, h + reach, w + reach, C), dy.dtype)
            for i, j in itertools.product(range(p, window, stride), range(q, window, stride)):
                sent = jnp.where(place == jnp.uint8(i * window + j), dy, 0)
                down, right = i // stride, j // stride
                total = total + jnp.pad(sent, ((0, 0), (down, reach - down), (right, reach - right), (0, 0)))
            columns.append(total)
        rows.append(jnp.stack(columns, axis=3))
    dx = jnp.stack(rows, axis=2).reshape(N, (h + reach) * stride, (w + reach) * stride, C)
    return _crop(dx, top, left, H, W)


def _crop(x: jax.Array, top: int, left: int, H: int, W: int) -> jax.Array:
    """[N, H, W, C] of x from row `top` and column `left` on, with zeros beyond its end."""
    down, right = max(0, top + H - x.shape[1]), max(0, left + W - x.shape[2])
    x = jnp.pad(x, ((0, 0), (0, down), (0, right), (0, 0))) if down or right else x
    return x[:, top : top + H, left : left + W]
