"""Exact answers for small spaces: what a controller should find, to test it against.

The reward of a search depends on the complete architecture, so its optimum is one over walks (`exhaustive`).
Tabular controllers see states, which walks share; where the reward is one of state and choice, what they
converge to is the solution of Bellman's equation on that graph (`value_iteration`). Host, numpy.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas import masks
from jaxnas.errors import InputError
from jaxnas.types import Space


class Optimum(NamedTuple):
    """The best walk, and what every prefix can still come to."""

    arch: np.ndarray  # int32 [T], the first of equals
    reward: float
    q: Callable[[Sequence[int]], np.ndarray]  # prefix [t] → float64 [A], best reward after each; −∞: illegal


class Values(NamedTuple):
    """The solution of Bellman's equation over states; NaN where no walk comes, or a choice is illegal."""

    q: np.ndarray  # float64 [S, A]
    arch: np.ndarray  # int32 [T], greedy, the first of equals
    value: float  # of the start


def exhaustive(space: Space, reward: Callable[[np.ndarray], np.ndarray], *, limit: int = 2**20) -> Optimum:
    """The optimum of a reward of complete architectures, by backward induction on the tree of walks.

    V(prefix) is the largest reward of an architecture that begins so, Q(prefix, a) = V(prefix + a): a maximum
    over the architectures themselves.

    Args:
      space: of at most `limit` architectures.
      reward: architectures int32 [M, T] → [M]; NaN, a failed child, is never best.
      limit: most prefixes alive at once.

    Raises:
      InputError: the space has more than that, or no architecture has a reward.
    """
    archs = _every(space, limit)
    rewards = np.asarray(reward(archs), np.float64)
    if np.isnan(rewards).all():
        raise InputError(f"space {space.name}: none of its {len(archs)} architectures has a reward")
    rewards = np.where(np.isnan(rewards), -np.inf, rewards)
    best = int(np.argmax(rewards))

    def q(prefix: Sequence[int]) -> np.ndarray:
        t, best_below = len(prefix), np.full(space.num_choices, -np.inf)
        below = (archs[:, :t] == np.asarray(prefix, np.int32)).all(axis=-1)
        np.maximum.at(best_below, archs[below, t], rewards[below])
        return best_below

    return Optimum(archs[best], float(rewards[best]), q)


def value_iteration(
    space: Space,
    reward: np.ndarray,
    *,
    discount: float = 1.0,
    epsilon: float = 0.0,
    limit: int = 2**20,
) -> Values:
    """The solution of Q(s, a) = r(s, a) + γ V(s′), V(s) = (1 − ε) max_a Q(s, a) + ε mean_a Q(s, a).

    Means and maxima are over legal choices; a walk's end is worth 0. With ε = 0 it is what Q-learning and
    double Q-learning converge to, otherwise SARSA and expected SARSA under that constant ε. Q is iterated to
    its fixed point, which walks of at most T decisions reach in T sweeps (Sutton & Barto 2018, section 4.4).

    Args:
      space: of at most `limit` architectures.
      reward: r(s, a), [S, A].
      discount: γ.
      epsilon: ε.
      limit: most prefixes alive at once.

    Raises:
      InputError: too many architectures, or walks that share a state but not their legal choices or where
        these lead: their states do not decide what follows, so that no Q(s, a) is exact.
    """
    S, A = space.num_states, space.num_choices
    archs = _every(space, limit)
    walk = jax.tree.map(np.asarray, jax.jit(jax.vmap(lambda a: masks.walk(space, a)))(jnp.asarray(archs)))
    after = np.column_stack([walk.state[:, 1:], np.full(len(archs), S)])  # S: the end
    after[:, :-1][~walk.live[:, 1:]] = S
    live, state = walk.live, walk.state
    legal, following = np.zeros((S, A), bool), np.full((S, A), -1)
    legal[state[live]] = walk.legal[live]
    following[state[live], archs[live]] = after[live]
    clash = live & ((legal[state] != walk.legal).any(axis=-1) | (following[state, archs] != after))
    if clash.any():
        row, t = np.argwhere(clash)[0]
        raise InputError(
            f"space {space.name}: state {state[row, t]} does not decide what follows: not all walks that "
            f"reach it go on as {archs[row].tolist()} does from decision {space.decisions[t]!r}; take "
            "`exhaustive`"
        )
    q = np.where(legal, 0.0, np.nan)
    r = np.where(legal, np.asarray(reward, np.float64), np.nan)
    visited = legal.any(axis=-1)
    for _ in range(space.num_steps):
        v = np.zeros(S + 1)
        v[:-1][visited] = (1 - epsilon) * np.nanmax(q[visited], -1) + epsilon * np.nanmean(q[visited], -1)
        q = r + discount * np.where(legal, v[following], 0.0)
    greedy, place = np.zeros(space.num_steps, np.int32), int(state[0, 0])
    start = place
    for t in range(space.num_steps):
        if place == S:
            break  # padding
        greedy[t] = np.nanargmax(q[place])
        place = int(following[place, greedy[t]])
    value = (1 - epsilon) * np.nanmax(q[start]) + epsilon * np.nanmean(q[start])
    return Values(q, greedy, float(value))


def _every(space: Space, limit: int) -> np.ndarray:
    archs = masks.every(space, limit)
    if archs is None:
        raise InputError(f"space {space.name}: more than {limit} architectures; too many to try each")
    return archs
