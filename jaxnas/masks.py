"""Legality: the only place where illegal choices are taken out of a distribution.

Shapes: T decisions, A choices. True means legal.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

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


def rollout(
    space: Space,
    decide: Callable[[PyTree, PyTree, Any], tuple[jax.Array, PyTree, PyTree]],
    inputs: PyTree,
    carry: PyTree = (),
) -> PyTree:
    """One walk through a space: all T decisions in one `lax.scan`, those after its end included.

    Args:
      space: what is walked through.
      decide: (walk, carry, inputs of this decision) → (choice [], carry, outputs): looks at the walk so far
        by `space.mask`, `space.state` and their like, and decides.
      inputs: leaves [T, ...], such as a key a decision; None where there are none.
      carry: what `decide` remembers from decision to decision, beside the walk.

    Returns:
      The outputs, leaves [T, ...].
    """

    def step(before: tuple[PyTree, PyTree], inputs: Any) -> tuple[tuple[PyTree, PyTree], PyTree]:
        walk, carry = before
        choice, carry, outputs = decide(walk, carry, inputs)
        return (space.step(walk, choice), carry), outputs

    return jax.lax.scan(step, (space.start, carry), inputs, length=space.num_steps)[1]


def walk(space: Space, arch: jax.Array) -> Walk:  # [T] →
    """Follow one architecture: what was legal, where it was, and whether it still lived."""

    def decide(walk: PyTree, carry: PyTree, choice: jax.Array) -> tuple[jax.Array, PyTree, Walk]:
        return choice, carry, Walk(space.mask(walk), space.state(walk), ~space.done(walk))

    return rollout(space, decide, arch)


def sample(key: jax.Array, space: Space) -> jax.Array:  # → int32 [T]
    """An architecture whose every decision is uniform over the legal choices."""
    return repair(key, space, jnp.full(space.num_steps, -1, jnp.int32))


def repair(key: jax.Array, space: Space, arch: jax.Array) -> jax.Array:  # int [T] → int32 [T]
    """The legal architecture next to any integers: a legal one is itself, to the bit.

    Follows the walk and keeps every choice that is legal after those before it; what is not is drawn
    uniformly from what is.
    """
    logits = jnp.zeros(space.num_choices)

    def decide(walk: PyTree, carry: PyTree, inputs: tuple) -> tuple[jax.Array, PyTree, jax.Array]:
        key, wish = inputs
        mask = space.mask(walk)
        good = jnp.any(mask & (jnp.arange(space.num_choices) == wish))
        drawn = jax.random.categorical(key, mask_logits(logits, mask)).astype(jnp.int32)
        choice = jnp.where(good, wish, drawn)
        return choice, carry, choice

    keys = jax.random.split(key, space.num_steps)
    return rollout(space, decide, (keys, arch.astype(jnp.int32)))


def changes(space: Space, arch: jax.Array) -> jax.Array:  # [T] → bool [T, A]
    """What each decision of a legal architecture could be instead: its other legal choices."""
    walked = walk(space, arch)
    return walked.legal & walked.live[:, None] & (jnp.arange(space.num_choices)[None, :] != arch[:, None])


def mutate(key: jax.Array, space: Space, arch: jax.Array, among: jax.Array) -> jax.Array:  # → int32 [T]
    """A legal architecture [T] with one decision changed, and the later ones repaired.

    The decision is uniform over those that `among`, a part of `changes` [T, A], gives a choice, the choice
    uniform over these. The architecture itself where `among` is empty.
    """
    key_decision, key_choice, key_repair = jax.random.split(key, 3)
    decision = jax.random.categorical(
        key_decision, mask_logits(jnp.zeros(space.num_steps), jnp.any(among, axis=-1))
    )
    choice = jax.random.categorical(
        key_choice, mask_logits(jnp.zeros(space.num_choices), among[decision])
    ).astype(jnp.int32)
    return repair(key_repair, space, jnp.where(jnp.any(among), arch.at[decision].set(choice), arch))


def every(space: Space, limit: int = 2**20) -> np.ndarray | None:  # → int32 [M, T]
    """Host: all legal architectures of a space, or None where more than `limit` prefixes are alive at once.

    Raises:
      InputError: some prefix leaves a decision without a choice.
    """
    step, mask = jax.jit(jax.vmap(space.step)), jax.jit(jax.vmap(space.mask))
    walks = jax.tree.map(lambda leaf: leaf[None], space.start)
    prefixes = np.zeros((1, 0), np.int32)
    for t in range(space.num_steps):
        legal = np.asarray(mask(walks))
        stuck = np.flatnonzero(~legal.any(axis=-1))
        if len(stuck):
            raise _no_choice(space, prefixes[stuck[0]])
        rows, choices = np.nonzero(legal)
        if len(rows) > limit:
            return None
        if t + 1 < space.num_steps:
            walks = step(jax.tree.map(lambda leaf, r=rows: leaf[r], walks), jnp.asarray(choices, jnp.int32))
        prefixes = np.column_stack([prefixes[rows], choices]).astype(np.int32)
    return prefixes


def check(space: Space, arch: Any) -> None:  # [B, T]
    """Host: raise an InputError that names the first illegal decision of a batch, if there is one."""
    arch = np.asarray(arch)
    legal = np.asarray(jax.vmap(lambda a: walk(space, a).legal)(jnp.asarray(arch, jnp.int32)))
    inside = (arch >= 0) & (arch < space.num_choices)
    taken = inside & np.take_along_axis(legal, np.where(inside, arch, 0)[..., None], axis=-1)[..., 0]
    if taken.all():
        return
    row, step = np.argwhere(~taken)[0]
    name = space.decisions[step]
    if not legal[row, step].any():
        raise _no_choice(space, arch[row][:step])
    raise InputError(
        f"space {space.name}: choice {int(arch[row][step])} is illegal at decision {name!r} after "
        f"{arch[row][:step].tolist()}; legal are {np.flatnonzero(legal[row, step]).tolist()}"
    )


def _no_choice(space: Space, prefix: np.ndarray) -> InputError:
    return InputError(
        f"space {space.name}: no choice is left for decision {space.decisions[len(prefix)]!r} after "
        f"{prefix.tolist()}; loosen the rules that forbid the last one"
    )
