"""SARSA and expected SARSA: on-policy temporal-difference control, as it is or in expectation.

Rummery & Niranjan, "On-line Q-learning using connectionist systems", 1994; van Seijen, van Hasselt,
Whiteson & Wiering, "A theoretical and empirical analysis of Expected Sarsa", 2009,
https://doi.org/10.1109/ADPRL.2009.4927542; Sutton & Barto,
"Reinforcement Learning", 2018, sections 6.4 and 6.6.

Suits what q_learning suits, where the networks that the policy draws count more than the greedy one.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnas import memory as rows
from jaxnas import rl, tabular
from jaxnas.errors import InputError
from jaxnas.types import Controller, Outcome, Proposal, Space


class SarsaState(NamedTuple):
    """Q, the trials so far, and how many networks there were."""

    q: jax.Array  # float32 [S, A]
    trials: rows.Memory  # what tells a unique network; its values are the rewards [M, T]
    unique: jax.Array  # int32 [] distinct networks so far


def sarsa(
    space: Space,
    *,
    batch_size: int = 8,
    learning_rate: float = 0.1,
    discount: float = 1.0,
    initial_q: float = 0.5,
    expected: bool = False,
    epsilon: tuple[float, ...] = tabular.METAQNN_EPSILON,
    epsilon_networks: tuple[int, ...] = tabular.METAQNN_NETWORKS,
    epsilon_total: int | None = None,
    replays: int = 0,
    memory: int = 4096,
) -> Controller:
    """Q(s, a) ← Q(s, a) + α [r + γ Q(s′, a′) − Q(s, a)] with the a′ that was taken.

    A trial is learned from once it has its reward, from the last decision back.
    Expected SARSA takes Σ_{a′ legal} π(a′ | s′) Q(s′, a′) for Q(s′, a′), π being ε-greedy at the ε that the
    trial was proposed with, equals sharing its 1 − ε. Both learn from every trial once, as it comes: the a′
    of an older trial is not what today's policy would take, so only expected SARSA may replay. ε falls with
    the number of unique networks. A failed trial teaches nothing.

    Args:
      batch_size: architectures proposed a round, all at one ε.
      learning_rate: α.
      discount: γ.
      initial_q: Q of every state and choice at first.
      expected: the expectation over a′ in place of the a′ that was taken.
      epsilon: ε of each stage of the exploration; the last one stays.
      epsilon_networks: unique networks of each stage.
      epsilon_total: scale epsilon_networks to this sum.
      replays: earlier trials to learn from after every trial as well, uniform with replacement; needs
        `expected`.
      memory: trials kept to tell a unique network and for replay; beyond it the oldest are forgotten.

    Raises:
      InputError: a value out of its range, or replays without `expected`.
    """
    tabular.check(
        learning_rate, discount, batch_size=(batch_size, 1), replays=(replays, 0), memory=(memory, 1)
    )
    if replays and not expected:
        raise InputError(
            f"controller.replays: got {replays}; SARSA learns from its own policy's choices alone, "
            "it takes 0, or controller.expected = true"
        )
    epsilon_at = tabular.epsilon_schedule(epsilon, epsilon_networks, epsilon_total)

    def init(key: jax.Array) -> SarsaState:
        del key
        q = jnp.full((space.num_states, space.num_choices), initial_q, jnp.float32)
        trials = rows.empty(memory, space.num_steps, jnp.zeros(space.num_steps))
        return SarsaState(q, trials, jnp.zeros((), jnp.int32))

    def ask(key: jax.Array, state: SarsaState) -> Proposal:
        now = epsilon_at(state.unique)
        keys = jax.random.split(key, batch_size)
        arch = jax.vmap(lambda k: tabular.behave(k, space, state.q, now))(keys)
        return Proposal(arch, memo={"epsilon": jnp.full(batch_size, now)})

    def learn(state: SarsaState, trial: tuple) -> tuple[SarsaState, jax.Array]:
        key, arch, reward, valid, now = trial
        known, _ = rows.find(state.trials, arch)
        trials = rows.push(state.trials, arch, reward, valid)
        unique = state.unique + (valid & ~known).astype(jnp.int32)
        rate = jnp.where(valid, jnp.float32(learning_rate), 0.0)

        def update(q: jax.Array, transition: tabular.Transition) -> tuple[jax.Array, jax.Array]:
            if expected:
                pi = tabular.epsilon_greedy(q[transition.next_state], transition.next_legal, now)
                following = jnp.sum(pi * q[transition.next_state])
            else:
                following = q[transition.next_state, transition.next_choice]
            target = transition.reward + jnp.where(transition.goes_on, discount * following, 0.0)
            error = jnp.where(transition.live, target - q[transition.state, transition.choice], 0.0)
            return q.at[transition.state, transition.choice].add(rate * error), error

        fresh = tabular.transitions(space, arch, reward)
        q, errors = jax.lax.scan(update, state.q, fresh, reverse=True)
        if replays:
            older = jax.vmap(lambda a, r: tabular.transitions(space, a, r))(
                *rows.sample_rows(key, trials, replays)
            )
            q, _ = jax.lax.scan(lambda q, one: jax.lax.scan(update, q, one, reverse=True), q, older)
        return SarsaState(q, trials, unique), rl.masked_mean(jnp.abs(errors), fresh.live)

    def tell(
        key: jax.Array, state: SarsaState, proposal: Proposal, outcome: Outcome
    ) -> tuple[SarsaState, dict[str, jax.Array]]:
        valid, reward = rl.rewards_of(proposal, outcome)
        keys, now = jax.random.split(key, batch_size), proposal.memo["epsilon"]
        state, errors = jax.lax.scan(learn, state, (keys, proposal.arch, reward, valid, now))
        metrics = {
            "epsilon": now[0],
            "unique": state.unique,
            "td_error": rl.masked_mean(errors, valid),  # mean size of the temporal-difference error
        }
        return state, metrics

    return Controller(batch_size, init, ask, tell, lambda state: tabular.greedy(space, state.q))
