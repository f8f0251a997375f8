"""What controllers with a table of values [S, A] share: ε-greedy choices, and architectures as transitions.

Shapes: T decisions, A choices, S states.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas import masks
from jaxnas.errors import InputError
from jaxnas.types import PyTree, Space

# ε and the numbers of unique networks at it (Baker et al. 2017, https://arxiv.org/abs/1611.02167, table 2).
METAQNN_EPSILON = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)
METAQNN_NETWORKS = (1500, 100, 100, 100, 150, 150, 150, 150, 150, 150)


def epsilon_schedule(
    epsilon: Sequence[float], networks: Sequence[int], total: int | None = None
) -> Callable[[jax.Array], jax.Array]:  # unique networks so far int32 [] → ε float32 []
    """The first `networks[0]` unique networks at `epsilon[0]`, the next at the next; the last ε stays.

    Args:
      epsilon: ε of each stage.
      networks: unique networks of each stage.
      total: scale `networks` to this sum; None takes them as they are.

    Raises:
      InputError: no stages, stages without a partner, or a value out of its range.
    """
    takes = "numbers in [0, 1], at least one"
    if not len(epsilon) or not all(0 <= e <= 1 for e in epsilon):
        raise InputError(f"controller.epsilon: got {list(epsilon)}; it takes {takes}")
    if len(networks) != len(epsilon) or not all(n >= 1 for n in networks):
        takes = f"a number of 1 or more for each of the {len(epsilon)} values of controller.epsilon"
        raise InputError(f"controller.epsilon_networks: got {list(networks)}; it takes {takes}")
    if total is not None and total < 1:
        raise InputError(f'controller.epsilon_total: got {total}; it takes 1 or more, or "none"')
    ends = np.cumsum(networks)
    if total is not None:
        ends = (2 * ends * total + ends[-1]) // (2 * ends[-1])  # rounded, halves up
    begins, values = jnp.asarray(ends[:-1], jnp.int32), jnp.asarray(epsilon, jnp.float32)
    return lambda unique: values[jnp.sum(unique >= begins)]


def best_choices(q: jax.Array, legal: jax.Array) -> jax.Array:  # [..., A], [..., A] → bool [..., A]
    """The legal choices of the highest value: all of them, where several share it."""
    value = masks.mask_logits(q, legal)
    return legal & (value >= jnp.max(value, axis=-1, keepdims=True))


def uniform(among: jax.Array) -> jax.Array:  # bool [..., A] → [..., A]
    """Equal probabilities for the choices that are True."""
    among = among.astype(jnp.float32)
    return among / jnp.maximum(jnp.sum(among, axis=-1, keepdims=True), 1.0)


def epsilon_greedy(q: jax.Array, legal: jax.Array, epsilon: jax.Array) -> jax.Array:  # → [..., A]
    """Probabilities: ε shared by all legal choices, 1 − ε by the best of them."""
    return epsilon * uniform(legal) + (1 - epsilon) * uniform(best_choices(q, legal))


def behave(key: jax.Array, space: Space, q: jax.Array, epsilon: jax.Array) -> jax.Array:  # → int32 [T]
    """An architecture of ε-greedy choices over a table q [S, A]; ties are broken at random."""
    equal = jnp.zeros(space.num_choices)

    def decide(walk: PyTree, carry: PyTree, key: jax.Array) -> tuple[jax.Array, PyTree, jax.Array]:
        key_explore, key_choice = jax.random.split(key)
        legal = space.mask(walk)
        explore = jax.random.uniform(key_explore) < epsilon
        among = jnp.where(explore, legal, best_choices(q[space.state(walk)], legal))
        choice = jax.random.categorical(key_choice, masks.mask_logits(equal, among)).astype(jnp.int32)
        return choice, carry, choice

    return masks.rollout(space, decide, jax.random.split(key, space.num_steps))


def greedy(space: Space, q: jax.Array) -> tuple[jax.Array, jax.Array]:  # [S, A] → int32 [T], [T, A]
    """The architecture of the best choices (the first of equals), and the greedy probabilities along it."""

    def decide(walk: PyTree, carry: PyTree, _: None) -> tuple[jax.Array, PyTree, tuple]:
        best = best_choices(q[space.state(walk)], space.mask(walk))
        choice = jnp.argmax(best).astype(jnp.int32)
        return choice, carry, (choice, uniform(best))

    return masks.rollout(space, decide, None)


class Transition(NamedTuple):
    """(s, a, r, s′, a′) of every decision of a trajectory; leaves [T, ...]."""

    state: jax.Array  # int32 [T]
    choice: jax.Array  # int32 [T]
    reward: jax.Array  # float32 [T]
    next_state: jax.Array  # int32 [T]
    next_choice: jax.Array  # int32 [T]
    next_legal: jax.Array  # bool [T, A]
    live: jax.Array  # bool [T] whether the decision was one
    goes_on: jax.Array  # bool [T] whether another one followed; if not, s′ is worth nothing


def transitions(space: Space, arch: jax.Array, reward: jax.Array) -> Transition:  # [T], [T] →
    """What tabular controllers learn from: an architecture as the transitions of its walk."""
    walk = masks.walk(space, arch)
    state, choice, legal = jax.tree.map(lambda x: jnp.roll(x, -1, axis=0), (walk.state, arch, walk.legal))
    goes_on = jnp.roll(walk.live, -1).at[-1].set(False)
    return Transition(walk.state, arch, reward, state, choice, legal, walk.live, goes_on)


def check(learning_rate: float, discount: float, **at_least: tuple[int, int]) -> None:
    """Refuse options of a tabular controller that are out of range; `at_least` is name = (value, least)."""
    for name, (value, least) in at_least.items():
        if value < least:
            raise InputError(f"controller.{name}: got {value}; it takes {least} or more")
    for name, value, good, takes in (
        ("learning_rate", learning_rate, 0 < learning_rate <= 1, "a number above 0, at most 1"),
        ("discount", discount, 0 <= discount <= 1, "a number in [0, 1]"),
    ):
        if not good:
            raise InputError(f"controller.{name}: got {value}; it takes {takes}")
