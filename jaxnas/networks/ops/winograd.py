"""3 × 3 convolutions as products of transformed tiles: fewer multiplications than patches × kernel.

Lavin & Gray 2016, https://arxiv.org/abs/1509.09308, section 4: Y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A makes m × m
pixels of a tile d of m + 2 pixels squared. F(2 × 2, 3 × 3) takes 4 multiplications a pixel and channel,
F(4 × 4, 3 × 3) 2.25, patches 9; the larger tile's rounding error is 1e-5 of the largest value, not 1e-6.
"""

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.networks.ops.slicing import every


class Tile(NamedTuple):
    """The transforms of F(m × m, 3 × 3), as the paper names them."""

    m: int
    B: np.ndarray  # Bᵀ [m + 2, m + 2]
    G: np.ndarray  # [m + 2, 3]
    A: np.ndarray  # Aᵀ [m, m + 2]


def _tile(B: Sequence, G: Sequence, A: Sequence) -> Tile:
    return Tile(len(A), *(np.array(matrix, np.float32) for matrix in (B, G, A)))


F2 = _tile(
    B=[[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]],
    G=[[1, 0, 0], [1 / 2, 1 / 2, 1 / 2], [1 / 2, -1 / 2, 1 / 2], [0, 0, 1]],
    A=[[1, 1, 1, 0], [0, 1, -1, -1]],
)
F4 = _tile(
    B=[
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    G=[
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ],
    A=[[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]],
)


def cheaper(H: int, W: int) -> Tile:
    """The tile that makes H × W pixels with fewer multiplications; the smaller one, if both take as many."""
    return min((F2, F4), key=lambda tile: (tile.m + 2) ** 2 * -(-H // tile.m) * -(-W // tile.m))


def product(kernel: jax.Array, pads: Any, tile: Tile) -> Callable[[jax.Array], jax.Array]:
    """The convolution with a kernel [3,3,C,F], a function [n,H,W,C] → [n,H',W',F]."""
    t = tile.m + 2
    weights = _both_ways(kernel, tile.G).reshape(t * t, *kernel.shape[2:])

    def convolve(x: jax.Array) -> jax.Array:
        H, W = (n + sum(pad) - 2 for n, pad in zip(x.shape[1:3], pads, strict=True))
        products = jax.lax.dot_general(to_tiles(x, pads, tile), weights, (((2,), (1,)), ((0,), (0,))))
        products = products.reshape(t, t, x.shape[0], -(-H // tile.m), -(-W // tile.m), -1)
        columns = _combined(tile.A, products, axis=4)  # [t, n, h, w, m, F]
        y = _combined(tile.A, columns, axis=2)  # [n, h, m, w, m, F]
        n, h, m, w, _, F = y.shape
        return y.reshape(n, h * m, w * m, F)[:, :H, :W]

    return convolve


def to_tiles(x: jax.Array, pads: Any, tile: Tile) -> jax.Array:
    """[n,H,W,C] → Bᵀ d B of every tile, [(m + 2)², tiles, C]."""
    (top, bottom), (left, right) = pads
    H, W = x.shape[1] + top + bottom - 2, x.shape[2] + left + right - 2
    x = jnp.pad(x, ((0, 0), (top, bottom + -H % tile.m), (left, right + -W % tile.m), (0, 0)))
    rows = _transformed(tile.B, x, 1, tile.m, (x.shape[1] - 2) // tile.m)  # [t, n, h, W, C]
    tiles = _transformed(tile.B, rows, 3, tile.m, (x.shape[2] - 2) // tile.m)  # [t, t, n, h, w, C]
    return tiles.reshape(len(tile.B) ** 2, -1, x.shape[3])


def spread(dy: jax.Array, tile: Tile) -> jax.Array:
    """[n,H,W,F] → A dy Aᵀ of every m × m pixels, [(m + 2)², tiles, F]: the adjoint of Aᵀ M A."""
    dy = jnp.pad(dy, ((0, 0), (0, -dy.shape[1] % tile.m), (0, -dy.shape[2] % tile.m), (0, 0)))
    rows = _transformed(tile.A.T, dy, 1, tile.m, dy.shape[1] // tile.m)
    tiles = _transformed(tile.A.T, rows, 3, tile.m, dy.shape[2] // tile.m)
    return tiles.reshape(len(tile.B) ** 2, -1, dy.shape[3])


def by_weights(tiles: jax.Array, spread: jax.Array, wide: bool) -> jax.Array:
    """The gradient by the transformed kernel, [(m + 2)², C, F]; [(m + 2)², F, C] if wide.

    The longer side last is up to twice as fast, and so is the other one transposed beforehand.
    """
    left, right = (spread, tiles) if wide else (tiles, spread)
    return jax.lax.dot_general(jax.lax.optimization_barrier(left.mT), right, (((2,), (1,)), ((0,), (0,))))


def by_kernel(d_weights: jax.Array, tile: Tile) -> jax.Array:  # [(m + 2)², C, F] → [3,3,C,F]
    """The gradient by the kernel from that by the transformed one: Gᵀ dU G."""
    t = tile.m + 2
    return _both_ways(d_weights.reshape(t, t, *d_weights.shape[1:]), tile.G.T)


def _both_ways(kernel: jax.Array, matrix: np.ndarray) -> jax.Array:  # [a,a,C,F], [b,a] → [b,b,C,F]
    """Rows and columns transformed, and swapped: tiles have their columns first."""
    return jnp.einsum("ui,vj,ijcf->vucf", matrix, matrix, kernel)


def _transformed(matrix: np.ndarray, x: jax.Array, axis: int, stride: int, count: int) -> jax.Array:
    """matrix [b, a] × every `stride`-th window of `a` along an axis → [b, …, count, …]."""
    return _combined(matrix, [every(x, axis, i, count, stride) for i in range(matrix.shape[1])], axis=0)


def _combined(matrix: np.ndarray, parts: Any, axis: int) -> jax.Array:
    """matrix [b, a] × a arrays → b arrays, stacked; written as sums, as few as its zeros and ones allow."""
    return jnp.stack([_sum(row, parts) for row in matrix], axis)


def _sum(row: np.ndarray, parts: Any) -> jax.Array:
    terms = [_times(c, part) for c, part in zip(row, parts, strict=True) if c]
    return functools.reduce(operator.add, terms)


def _times(c: Any, x: jax.Array) -> jax.Array:
    return x if c == 1 else -x if c == -1 else c * x
