"""Double Q-learning: two tables, each valued by the other, which takes the bias out of the maximum.

van Hasselt, "Double Q-learning", 2010,
https://papers.nips.cc/paper/3964-double-q-learning, algorithm 1; replay and ε as in MetaQNN (Baker et al.
2017, https://arxiv.org/abs/1611.02167).

Suits what q_learning suits, where rewards are noisy and their maximum misleads.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnas import memory as rows
from jaxnas import rl, tabular
from jaxnas.types import Controller, Outcome, Proposal, Space


class DoubleQState(NamedTuple):
    """Both tables, the trials that are replayed, and how many networks there were."""

    q: jax.Array  # float32 [2, S, A]
    replay: rows.Memory  # of trials, repeated ones too; its values are the rewards [M, T]
    unique: jax.Array  # int32 [] distinct networks so far


def double_q(
    space: Space,
    *,
    batch_size: int = 8,
    learning_rate: float = 0.01,
    discount: float = 1.0,
    initial_q: float = 0.5,
    epsilon: tuple[float, ...] = tabular.METAQNN_EPSILON,
    epsilon_networks: tuple[int, ...] = tabular.METAQNN_NETWORKS,
    epsilon_total: int | None = None,
    replays: int = 100,
    memory: int = 4096,
) -> Controller:
    """Q₁(s, a) ← Q₁(s, a) + α [r + γ Q₂(s′, argmax_{a′ legal} Q₁(s′, a′)) − Q₁(s, a)], or 1 and 2 exchanged.

    A fair coin decides for every update which table is Q₁. Where several a′ are best, the mean of Q₂ over
    them is taken: the expectation of a tie broken at random. Architectures come ε-greedily from Q₁ + Q₂.
    Replay, and what it does with repeated and with failed trials, are those of `q_learning`.

    Args:
      batch_size: architectures proposed a round, all at one ε.
      learning_rate: α; a table gets half of the updates.
      discount: γ.
      initial_q: both tables at first.
      epsilon: ε of each stage of the exploration; the last one stays.
      epsilon_networks: unique networks of each stage.
      epsilon_total: scale epsilon_networks to this sum.
      replays: trajectories learned from after every trial, uniform with replacement; 0 learns once from
        every trial as it comes.
      memory: trials kept for replay; beyond it the oldest are forgotten, and count as unique if they return.

    Raises:
      InputError: a value out of its range.
    """
    tabular.check(
        learning_rate, discount, batch_size=(batch_size, 1), replays=(replays, 0), memory=(memory, 1)
    )
    epsilon_at = tabular.epsilon_schedule(epsilon, epsilon_networks, epsilon_total)

    def init(key: jax.Array) -> DoubleQState:
        del key
        q = jnp.full((2, space.num_states, space.num_choices), initial_q, jnp.float32)
        replay = rows.empty(memory, space.num_steps, jnp.zeros(space.num_steps))
        return DoubleQState(q, replay, jnp.zeros((), jnp.int32))

    def ask(key: jax.Array, state: DoubleQState) -> Proposal:
        now, total = epsilon_at(state.unique), jnp.sum(state.q, axis=0)
        keys = jax.random.split(key, batch_size)
        arch = jax.vmap(lambda k: tabular.behave(k, space, total, now))(keys)
        return Proposal(arch, memo={"epsilon": jnp.full(batch_size, now)})

    def learn(state: DoubleQState, trial: tuple) -> tuple[DoubleQState, jax.Array]:
        key, arch, reward, valid = trial
        key_rows, key_coins = jax.random.split(key)
        known, _ = rows.find(state.replay, arch)
        replay = rows.push(state.replay, arch, reward, valid)
        unique = state.unique + (valid & ~known).astype(jnp.int32)
        archs, rewards = (
            rows.sample_rows(key_rows, replay, replays) if replays else (arch[None], reward[None])
        )
        coins = jax.random.bernoulli(key_coins, shape=archs.shape).astype(jnp.int32)
        rate = jnp.where(valid, jnp.float32(learning_rate), 0.0)

        def update(q: jax.Array, step: tuple[tabular.Transition, jax.Array]) -> tuple[jax.Array, jax.Array]:
            transition, one = step
            best = tabular.best_choices(q[one, transition.next_state], transition.next_legal)
            following = jnp.sum(tabular.uniform(best) * q[1 - one, transition.next_state])
            target = transition.reward + jnp.where(transition.goes_on, discount * following, 0.0)
            error = jnp.where(transition.live, target - q[one, transition.state, transition.choice], 0.0)
            return q.at[one, transition.state, transition.choice].add(rate * error), error

        steps = jax.vmap(lambda a, r: tabular.transitions(space, a, r))(archs, rewards)
        q, errors = jax.lax.scan(
            lambda q, one: jax.lax.scan(update, q, one, reverse=True), state.q, (steps, coins)
        )
        return DoubleQState(q, replay, unique), rl.masked_mean(jnp.abs(errors), steps.live)

    def tell(
        key: jax.Array, state: DoubleQState, proposal: Proposal, outcome: Outcome
    ) -> tuple[DoubleQState, dict[str, jax.Array]]:
        valid, reward = rl.rewards_of(proposal, outcome)
        keys = jax.random.split(key, batch_size)
        state, errors = jax.lax.scan(learn, state, (keys, proposal.arch, reward, valid))
        metrics = {
            "epsilon": proposal.memo["epsilon"][0],
            "unique": state.unique,
            "td_error": rl.masked_mean(errors, valid),  # mean size of the temporal-difference error
        }
        return state, metrics

    return Controller(batch_size, init, ask, tell, lambda s: tabular.greedy(space, jnp.sum(s.q, axis=0)))
