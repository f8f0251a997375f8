"""The walk of a space whose decisions go by their number alone: the choices so far."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Prefix(NamedTuple):
    """The choices so far; entries from `depth` on are zero."""

    depth: jax.Array  # int32 []
    choices: jax.Array  # int32 [T]


def start(num_steps: int) -> Prefix:
    """Before any decision."""
    return Prefix(jnp.zeros((), jnp.int32), jnp.zeros(num_steps, jnp.int32))


def step(walk: Prefix, choice: jax.Array) -> Prefix:  # int32 [] →
    """After one more choice; what comes after T of them is forgotten."""
    here = (_positions(walk) == walk.depth).astype(jnp.int32)
    return Prefix(walk.depth + 1, walk.choices + here * choice)


def last(walk: Prefix) -> jax.Array:  # → int32 []
    """The choice before the walk's next decision, 0 if there is none."""
    return jnp.sum(jnp.where(_positions(walk) == walk.depth - 1, walk.choices, 0))


def observe(walk: Prefix, num_choices: int) -> jax.Array:  # → float32 [T + 1 + T · A]
    """The depth and the choices so far, one-hot."""
    is_decided = (_positions(walk) < walk.depth).astype(jnp.float32)[:, None]
    taken = jax.nn.one_hot(walk.choices, num_choices) * is_decided
    return jnp.concatenate([jax.nn.one_hot(walk.depth, len(walk.choices) + 1), taken.ravel()])


def _positions(walk: Prefix) -> jax.Array:
    return jnp.arange(len(walk.choices))
