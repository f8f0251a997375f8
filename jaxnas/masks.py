"""Legality: the only place where illegal choices are taken out of a distribution.

Shapes: T decisions, A choices. True means legal.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.errors import InputError
from jaxnas.types import PyTree, Space

# Finite, so that a row without a legal choice gives no NaN (RLMedNAS's constant).
ILLEGAL_LOGIT = -1e10


class Walk(NamedTuple):
    """What one architecture met on its way; rows after its end have `live` False."""

    legal: jax.Array  # bool [T, A] which choices were legal at each decision
    state: jax.Array  # int32 [T] the tabular state before each decision
    live: jax.Array  # bool [T] whether the walk had not ended before the decision


def mask_logits(logits: jax.Array, mask: jax.Array) -> jax.Array:  # [..., A], [..., A] → [..., A]
    """Logits with −1e10 at illegal choices: their softmax and its gradient are exactly zero."""
    return jnp.where(mask, logits, ILLEGAL_LOGIT)


def entropy(log_probs: jax.Array) -> jax.Array:  # [..., A] → [...]
    """Entropy in nats of masked log-probabilities; illegal choices contribute exactly zero."""
    return -jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1)


def walk(space: Space, arch: jax.Array) -> Walk:  # [T] →
    """Follow one architecture: what was legal, where it was, and whether it still lived."""

    def decide(at: PyTree, choice: jax.Array) -> tuple[PyTree, Walk]:
        return space.step(at, choice), Walk(space.mask(at), space.state(at), ~space.done(at))

    return jax.lax.scan(decide, space.start, arch)[1]


def sample(key: jax.Array, space: Space) -> jax.Array:  # → int32 [T]
    """An architecture whose every decision is uniform over the legal choices."""
    logits = jnp.zeros(space.num_choices)

    def decide(at: PyTree, key: jax.Array) -> tuple[PyTree, jax.Array]:
        choice = jax.random.categorical(key, mask_logits(logits, space.mask(at))).astype(jnp.int32)
        return space.step(at, choice), choice

    return jax.lax.scan(decide, space.start, jax.random.split(key, space.num_steps))[1]


def check(space: Space, arch: np.ndarray) -> None:  # [B, T]
    """Host: raise an InputError that names the first illegal decision of a batch, if there is one."""
    legal = np.asarray(jax.vmap(lambda a: walk(space, a).legal)(jnp.asarray(arch, jnp.int32)))
    taken = np.take_along_axis(legal, np.asarray(arch)[..., None], axis=-1)[..., 0]
    if taken.all():
        return
    row, step = np.argwhere(~taken)[0]
    name = space.decisions[step]
    if not legal[row, step].any():
        raise InputError(
            f"space {space.name}: no choice is left for decision {name!r} after "
            f"{arch[row][:step].tolist()}; loosen the rules that forbid the last one"
        )
    raise InputError(
        f"space {space.name}: choice {int(arch[row][step])} is illegal at decision {name!r} after "
        f"{arch[row][:step].tolist()}; legal are {np.flatnonzero(legal[row, step]).tolist()}"
    )
