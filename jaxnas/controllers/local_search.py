"""Local search: hill climbing over architectures that differ in one decision, with random restarts.

White, Nolen & Savani, "Local Search is State of the Art for Neural Architecture Search Benchmarks", 2020,
https://arxiv.org/abs/2005.02960, algorithm 1, in its form that moves at the first improvement; as there,
another climb starts when one has ended.

Suits small, smooth spaces with little noise, such as tables of measured cells.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnas import masks, policies, rl
from jaxnas.errors import require
from jaxnas.types import Controller, Outcome, Proposal, Space


class LocalSearchState(NamedTuple):
    """Where the climb is, and which of its neighbours were no better."""

    center: jax.Array  # int32 [T]
    reward: jax.Array  # float32 [] of the center, −inf before the first success
    tried: jax.Array  # bool [T, A] changes of the center that were told and did not improve it
    starting: jax.Array  # bool [] whether the next round is random, to start a climb
    moves: jax.Array  # int32 [] centers so far, of all climbs


def local_search(space: Space, *, batch_size: int = 8, patience: int | None = None) -> Controller:
    """Proposes untried neighbours of the center; moves to the best of a round if it beats the center.

    A neighbour is the center with one decision changed to another legal choice, later decisions that this
    makes illegal drawn anew; every round draws `batch_size` of the changes that were not tried yet, each
    lane for itself. The center is a local optimum when each of its changes has been tried and none gave a
    higher reward (an equal one is not higher, and a failed child is no better): then a round of random
    architectures is proposed, and the best of them is the next center, however good the last one was.

    Args:
      batch_size: architectures proposed a round; 1 is the paper's algorithm.
      patience: changes tried without an improvement after which a climb ends; none tries all.

    Raises:
      InputError: a value out of its range.
    """
    limit = space.num_steps * space.num_choices if patience is None else patience
    require(
        "controller",
        ("batch_size", batch_size, batch_size >= 1, "1 or more"),
        ("patience", patience, limit >= 1, '1 or more, or "none"'),
    )

    def init(key: jax.Array) -> LocalSearchState:
        return LocalSearchState(
            center=masks.sample(key, space),
            reward=jnp.full((), -jnp.inf, jnp.float32),
            tried=jnp.zeros((space.num_steps, space.num_choices), bool),
            starting=jnp.ones((), bool),
            moves=jnp.zeros((), jnp.int32),
        )

    def ask(key: jax.Array, state: LocalSearchState) -> Proposal:
        keys = jax.random.split(key, batch_size)
        untried = masks.changes(space, state.center) & ~state.tried
        starts = jax.vmap(lambda k: masks.sample(k, space))(keys)
        neighbours = jax.vmap(lambda k: masks.mutate(k, space, state.center, untried))(keys)
        decision = jnp.argmax(neighbours != state.center[None, :], axis=-1).astype(jnp.int32)  # [B]
        memo = {
            "decision": decision,
            "choice": jnp.take_along_axis(neighbours, decision[:, None], axis=-1)[:, 0],
            "moves": jnp.full(batch_size, jnp.where(state.starting, -1, state.moves)),
        }
        return Proposal(jnp.where(state.starting, starts, neighbours), memo)

    def tell(
        key: jax.Array, state: LocalSearchState, proposal: Proposal, outcome: Outcome
    ) -> tuple[LocalSearchState, dict[str, jax.Array]]:
        del key
        valid, reward = rl.rewards_of(proposal, outcome)
        score = jnp.where(valid, jnp.sum(reward, axis=-1), -jnp.inf)  # [B]
        best, memo = jnp.argmax(score), proposal.memo
        moved = jnp.where(state.starting, jnp.any(valid), score[best] > state.reward)
        # Only changes of this very center count; those of a start are none.
        row = jnp.where(memo["moves"] == state.moves, memo["decision"], space.num_steps)
        tried = state.tried.at[row, memo["choice"]].set(True, mode="drop")
        center = jnp.where(moved, proposal.arch[best], state.center)
        tried = tried & ~moved
        left = masks.changes(space, center) & ~tried
        ended = ~jnp.any(left) | (jnp.sum(tried) >= limit)
        after = LocalSearchState(
            center=center,
            reward=jnp.where(moved, score[best], state.reward),
            tried=tried,
            starting=jnp.where(moved | ~state.starting, ended, True),
            moves=state.moves + moved.astype(jnp.int32),
        )
        metrics = {
            "center": jnp.where(jnp.isfinite(after.reward), after.reward, 0.0),  # its reward
            "tried": jnp.sum(tried),
            "moved": moved.astype(jnp.float32),
            "ended": (ended & ~state.starting).astype(jnp.float32),  # a climb, at a local optimum
        }
        return after, metrics

    uniform = policies.free_logits(space)
    return Controller(
        batch_size,
        init,
        ask,
        tell,
        lambda s: policies.greedy(uniform, space, policies.shares(space, s.center[None])),
    )
