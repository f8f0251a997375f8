"""Random bits as a hash of (key, element), which fuses into its consumer."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.extend.random
import jax.numpy as jnp

Extents = Sequence[int | jax.Array]  # of an array within a larger, padded one


def hash_bits(
    key: jax.Array, shape: tuple[int, ...], extents: Extents | None = None
) -> jax.Array:  # typed key → uint32 [shape]
    """32 random bits an element from two rounds of the lowbias32 integer hash of its index and the key.

    A hundredth of the cost of the default generator, equal to the bit under vmap, map and scan
    (constants: Wellons, "Prospecting for Hash Functions", 2018). Enough for dropout and initial weights,
    not for cryptography. An element within `extents` has the bits that it has in an array of that shape.
    """
    words = jax.random.key_data(key)
    if extents is None:
        index = jax.lax.iota(jnp.uint32, math.prod(shape)).reshape(shape)
    else:
        index = jnp.zeros(shape, jnp.uint32)
        for axis, extent in enumerate(extents):
            index = index * jnp.asarray(extent, jnp.uint32) + jax.lax.broadcasted_iota(
                jnp.uint32, shape, axis
            )
    return _lowbias32(_lowbias32(index ^ words[..., 0]) + words[..., 1])


def uniform(
    key: jax.Array, shape: tuple[int, ...], extents: Extents | None = None
) -> jax.Array:  # typed key → float32 [shape]
    """Numbers in [0, 1), multiples of 2⁻²⁴, as `hash_bits`."""
    return (hash_bits(key, shape, extents) >> jnp.uint32(8)).astype(jnp.float32) * 2.0**-24


def _lowbias32(x: jax.Array) -> jax.Array:
    x = (x ^ (x >> jnp.uint32(16))) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> jnp.uint32(15))) * jnp.uint32(0x846CA68B)
    return x ^ (x >> jnp.uint32(16))


def hashed(key: jax.Array) -> jax.Array:
    """A key from which others are derived by the same hash, in a twentieth of the default's instructions."""
    return jax.random.wrap_key_data(jax.random.key_data(key), impl=_IMPLEMENTATION)


def _derive(words: jax.Array, number: Any) -> jax.Array:  # uint32 [2], integer [...] → uint32 [..., 2]
    first = _lowbias32(_lowbias32(jnp.asarray(number, jnp.uint32) ^ words[0]) + words[1])
    return jnp.stack([first, _lowbias32(first ^ words[1])], axis=-1)


def _derive_all(words: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return _derive(words, jax.lax.iota(jnp.uint32, math.prod(shape)).reshape(shape))


_IMPLEMENTATION = jax.extend.random.define_prng_impl(
    key_shape=(2,),
    seed=lambda seed: _derive(jnp.zeros(2, jnp.uint32), seed),
    split=_derive_all,
    random_bits=lambda words, width, shape: _derive_all(words, shape)[..., 0].astype(f"uint{width}"),
    fold_in=_derive,
    name="lowbias32",
    tag="lowbias32",
)
