"""Q-learning with ε-greedy exploration and experience replay, as MetaQNN does it.

Watkins, "Learning from Delayed Rewards", 1989; Baker, Gupta, Naik & Raskar, "Designing Neural Network
Architectures using Reinforcement Learning", 2017, https://arxiv.org/abs/1611.02167, algorithms 1–3.

Suits spaces that build a network layer by layer with few states, such as metaqnn and cnn_mdp, with
`search.duplicates = "reuse"`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnas import masks, rl, tabular
from jaxnas import memory as rows
from jaxnas.types import Controller, Outcome, Proposal, Space


class QLearningState(NamedTuple):
    """Q, the trials that are replayed, and how many networks there were."""

    q: jax.Array  # float32 [S, A]
    replay: rows.Memory  # of trials, repeated ones too; its values are the rewards [M, T]
    unique: jax.Array  # int32 [] distinct networks so far


def q_learning(
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
    """Q(s, a) ← Q(s, a) + α [r + γ max_{a′ legal} Q(s′, a′) − Q(s, a)], from the last decision back.

    After every trial `replays` trajectories are drawn from the memory and learned from. As in the authors'
    code a network that is proposed again is another entry of the memory, so that what the policy likes is
    replayed more often; ε falls with the number of *unique* networks. A failed trial is not stored.

    Args:
      batch_size: architectures proposed a round, all at one ε; 1 is the paper's algorithm 1.
      learning_rate: α.
      discount: γ.
      initial_q: Q of every state and choice at first.
      epsilon: ε of each stage of the exploration; the last one stays.
      epsilon_networks: unique networks of each stage.
      epsilon_total: scale epsilon_networks to this sum: 270 keeps the shape of the paper's 2,700.
      replays: trajectories learned from after every trial, uniform with replacement; 0 learns once from
        every trial as it comes (Watkins).
      memory: trials kept for replay; beyond it the oldest are forgotten, and count as unique if they return.

    Raises:
      InputError: a value out of its range.
    """
    tabular.check(
        learning_rate, discount, batch_size=(batch_size, 1), replays=(replays, 0), memory=(memory, 1)
    )
    epsilon_at = tabular.epsilon_schedule(epsilon, epsilon_networks, epsilon_total)

    def init(key: jax.Array) -> QLearningState:
        del key
        q = jnp.full((space.num_states, space.num_choices), initial_q, jnp.float32)
        replay = rows.empty(memory, space.num_steps, jnp.zeros(space.num_steps))
        return QLearningState(q, replay, jnp.zeros((), jnp.int32))

    def ask(key: jax.Array, state: QLearningState) -> Proposal:
        now = epsilon_at(state.unique)
        keys = jax.random.split(key, batch_size)
        arch = jax.vmap(lambda k: tabular.behave(k, space, state.q, now))(keys)
        return Proposal(arch, memo={"epsilon": jnp.full(batch_size, now)})

    def learn(state: QLearningState, trial: tuple) -> tuple[QLearningState, jax.Array]:
        key, arch, reward, valid = trial
        known, _ = rows.find(state.replay, arch)
        replay = rows.push(state.replay, arch, reward, valid)
        unique = state.unique + (valid & ~known).astype(jnp.int32)
        archs, rewards = rows.sample_rows(key, replay, replays) if replays else (arch[None], reward[None])
        rate = jnp.where(valid, jnp.float32(learning_rate), 0.0)

        def update(q: jax.Array, transition: tabular.Transition) -> tuple[jax.Array, jax.Array]:
            following = jnp.max(masks.mask_logits(q[transition.next_state], transition.next_legal))
            target = transition.reward + jnp.where(transition.goes_on, discount * following, 0.0)
            error = jnp.where(transition.live, target - q[transition.state, transition.choice], 0.0)
            return q.at[transition.state, transition.choice].add(rate * error), error

        steps = jax.vmap(lambda a, r: tabular.transitions(space, a, r))(archs, rewards)
        q, errors = jax.lax.scan(lambda q, one: jax.lax.scan(update, q, one, reverse=True), state.q, steps)
        return QLearningState(q, replay, unique), rl.masked_mean(jnp.abs(errors), steps.live)

    def tell(
        key: jax.Array, state: QLearningState, proposal: Proposal, outcome: Outcome
    ) -> tuple[QLearningState, dict[str, jax.Array]]:
        valid, reward = rl.rewards_of(proposal, outcome)
        keys = jax.random.split(key, batch_size)
        state, errors = jax.lax.scan(learn, state, (keys, proposal.arch, reward, valid))
        metrics = {
            "epsilon": proposal.memo["epsilon"][0],
            "unique": state.unique,
            "td_error": rl.masked_mean(errors, valid),  # mean size of the temporal-difference error
        }
        return state, metrics

    return Controller(batch_size, init, ask, tell, lambda state: tabular.greedy(space, state.q))
