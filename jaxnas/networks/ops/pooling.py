"""Max pooling, with a gradient that is fast on a CPU (that of a windowed maximum is slow)."""

import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnas.networks.ops.slicing import crop, every


class Pool(NamedTuple):
    """Max pooling over square windows; VALID leaves out what fills no window."""

    window: int = 2
    stride: int = 2
    padding: str = "VALID"


POOL_2X2 = Pool()


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
    y, place = max_and_place(x, pool)
    return y, (place, x)


def _max_pool_backward(pool: Pool, residuals: tuple, dy: jax.Array) -> tuple[jax.Array]:
    place, x = residuals  # of x, the shape alone
    return (unpool(dy, place, pool, *x.shape[1:3]),)


max_pool.defvjp(_max_pool_forward, _max_pool_backward)


def _pad_for(pool: Pool, x: jax.Array) -> jax.Array:
    if pool.padding == "VALID":
        return x
    pads = jax.lax.padtype_to_pads(x.shape[1:3], (pool.window,) * 2, (pool.stride,) * 2, pool.padding)
    return jnp.pad(x, ((0, 0), *pads, (0, 0)), constant_values=-jnp.inf)


def max_and_place(x: jax.Array, pool: Pool) -> tuple[jax.Array, jax.Array]:
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


def unpool(dy: jax.Array, place: jax.Array, pool: Pool, H: int, W: int) -> jax.Array:
    """The gradient [N,H,W,C] of the maximum over windows."""
    window, stride, _ = pool
    (top, _), (left, _) = jax.lax.padtype_to_pads((H, W), (window,) * 2, (stride,) * 2, pool.padding)
    N, h, w, C = dy.shape
    if window == stride:  # windows that do not overlap
        number = jnp.arange(window**2, dtype=jnp.uint8).reshape(1, 1, window, 1, window, 1)
        chosen = place[:, :, None, :, None, :] == number
        dx = jnp.where(chosen, dy[:, :, None, :, None, :], 0).reshape(N, h * window, w * window, C)
        return crop(dx, top, left, H, W)
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
    return crop(dx, top, left, H, W)
