"""Deep Q-learning: a network values every choice, learned from replayed walks and a slow copy of itself.

Mnih et al., "Human-level control through deep reinforcement learning", 2015,
https://doi.org/10.1038/nature14236, algorithm 1, with Adam in place of RMSProp; van Hasselt et al., "Deep
Reinforcement Learning with Double Q-learning", 2016, https://arxiv.org/abs/1509.06461.

Suits layer-by-layer spaces with too many states for a table.
"""

from typing import NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxnas import masks, rl
from jaxnas import memory as rows
from jaxnas.errors import require
from jaxnas.types import Controller, Outcome, Proposal, PyTree, Space


class DQNState(NamedTuple):
    """θ, its copy θ⁻, the optimizer's state, the replay memory and what is counted."""

    params: PyTree
    target: PyTree
    optimizer: PyTree
    replay: rows.Memory  # of trajectories; its values are the rewards [M, T]
    trials: jax.Array  # int32 []
    steps: jax.Array  # int32 [] gradient steps


class _Network(nn.Module):
    """Observation [..., F] → Q [..., A]; two hidden layers."""

    units: int
    num_choices: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for _ in range(2):
            x = nn.relu(nn.Dense(self.units)(x))
        return nn.Dense(self.num_choices)(x)


def dqn(
    space: Space,
    *,
    batch_size: int = 8,
    units: int = 64,
    double: bool = False,
    learning_rate: float = 0.005,
    adam_epsilon: float = 1e-4,
    discount: float = 1.0,
    epsilon: float = 1.0,
    epsilon_floor: float = 0.02,
    epsilon_trials: int = 150,
    replay_size: int = 1000,
    minibatch_size: int = 16,
    updates: int = 32,
    target_period: int = 16,
    max_gradient_norm: float = 0.0,
) -> Controller:
    """Minimise the Huber loss of Q(s_t, a_t; θ) against r_t + γ max_a Q(s_{t+1}, a; θ⁻), over legal a.

    Every decision is ε-greedy. Whole trajectories are stored and drawn, uniformly and with replacement;
    their observations are recomputed from the walk. A failed child is not stored.

    Args:
      batch_size: architectures proposed a round, B.
      units: hidden units of each of the network's two layers.
      double: let θ choose the next choice and θ⁻ value it (Double DQN).
      learning_rate: α of Adam.
      adam_epsilon: ε of Adam.
      discount: γ.
      epsilon: probability of a uniform choice at the first trial.
      epsilon_floor: what that falls to, linearly.
      epsilon_trials: trials until it has fallen.
      replay_size: trajectories that the replay memory holds, M; the oldest go first.
      minibatch_size: trajectories a gradient step.
      updates: gradient steps a round.
      target_period: gradient steps between copies of θ to θ⁻.
      max_gradient_norm: clip the global norm of the gradient to this; 0 does not clip.

    Raises:
      InputError: a value out of its range.
    """
    require(
        "controller",
        ("batch_size", batch_size, batch_size >= 1, "1 or more"),
        ("units", units, units >= 1, "1 or more"),
        ("learning_rate", learning_rate, learning_rate > 0, "a positive number"),
        ("discount", discount, 0 <= discount <= 1, "a number in [0, 1]"),
        ("epsilon", epsilon, 0 <= epsilon <= 1, "a number in [0, 1]"),
        ("epsilon_floor", epsilon_floor, 0 <= epsilon_floor <= epsilon, f"a number in [0, {epsilon}]"),
        ("epsilon_trials", epsilon_trials, epsilon_trials >= 1, "1 or more"),
        ("replay_size", replay_size, replay_size >= batch_size, f"{batch_size}, the batch, or more"),
        ("minibatch_size", minibatch_size, minibatch_size >= 1, "1 or more"),
        ("updates", updates, updates >= 1, "1 or more"),
        ("target_period", target_period, target_period >= 1, "1 or more"),
    )
    network = _Network(units, space.num_choices)
    schedule = optax.linear_schedule(epsilon, epsilon_floor, epsilon_trials)
    clip = optax.clip_by_global_norm(max_gradient_norm) if max_gradient_norm > 0 else optax.identity()
    optimizer = optax.chain(clip, optax.adam(learning_rate, eps=adam_epsilon))

    def q_values(params: PyTree, observation: jax.Array) -> jax.Array:  # [..., F] → [..., A]
        return cast(jax.Array, network.apply(params, observation))

    def init(key: jax.Array) -> DQNState:
        params = network.init(key, space.observe(space.start))
        replay = rows.empty(replay_size, space.num_steps, jnp.zeros(space.num_steps))
        zero = jnp.zeros((), jnp.int32)
        return DQNState(params, params, optimizer.init(params), replay, zero, zero)

    def play(key: jax.Array, params: PyTree, epsilon: jax.Array | float) -> jax.Array:  # → int32 [T]
        def decide(walk: PyTree, carry: PyTree, key: jax.Array) -> tuple[jax.Array, PyTree, jax.Array]:
            key_explore, key_choice = jax.random.split(key)
            legal = space.mask(walk)
            q = q_values(params, space.observe(walk))
            best = jnp.argmax(masks.mask_logits(q, legal))
            any_choice = jax.random.categorical(key_choice, masks.mask_logits(jnp.zeros_like(q), legal))
            explores = jax.random.uniform(key_explore) < epsilon
            choice = jnp.where(explores, any_choice, best).astype(jnp.int32)
            return choice, carry, choice

        return masks.rollout(space, decide, jax.random.split(key, space.num_steps))

    def ask(key: jax.Array, state: DQNState) -> Proposal:
        epsilons = jnp.asarray(schedule(state.trials + jnp.arange(batch_size)), jnp.float32)
        keys = jax.random.split(key, batch_size)
        arch = jax.vmap(lambda k, epsilon: play(k, state.params, epsilon))(keys, epsilons)
        return Proposal(arch, memo={"epsilon": epsilons})

    def along(arch: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:  # [T] → [T, F], [T, A], [T]
        def decide(walk: PyTree, carry: PyTree, choice: jax.Array) -> tuple[jax.Array, PyTree, tuple]:
            return choice, carry, (space.observe(walk), space.mask(walk), ~space.done(walk))

        return masks.rollout(space, decide, arch)

    def loss(
        params: PyTree, target: PyTree, arch: jax.Array, reward: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        observation, legal, live = jax.vmap(along)(arch)
        q, q_slow = q_values(params, observation), q_values(target, observation)
        wanted = rl.q_target(reward, q_slow, q if double else q_slow, legal, live, discount)
        predicted = rl.taken(q, arch)
        errors = optax.losses.huber_loss(predicted, jax.lax.stop_gradient(wanted))
        return rl.masked_mean(errors, live), rl.masked_mean(predicted, live)

    def tell(
        key: jax.Array, state: DQNState, proposal: Proposal, outcome: Outcome
    ) -> tuple[DQNState, dict[str, jax.Array]]:
        valid, reward = rl.rewards_of(proposal, outcome)
        replay, _ = jax.lax.scan(
            lambda replay, trial: (rows.push(replay, *trial), None),
            state.replay,
            (proposal.arch, reward, valid),
        )
        proceed = jnp.any(valid)

        def descend(carry: tuple, key: jax.Array) -> tuple[tuple, tuple]:
            params, target, optimizer_state, steps = carry
            arch, rewards = rows.sample_rows(key, replay, minibatch_size)
            arch = jnp.maximum(arch, 0)  # an empty memory gives rows of −1, from which nothing is learned
            (error, value), gradient = jax.value_and_grad(loss, has_aux=True)(params, target, arch, rewards)
            params, optimizer_state = rl.descend(optimizer, gradient, params, optimizer_state, proceed)
            steps += proceed.astype(jnp.int32)
            target = optax.periodic_update(params, target, steps, target_period)
            return (params, target, optimizer_state, steps), (error, value)

        carry = (state.params, state.target, state.optimizer, state.steps)
        keys = jax.random.split(key, updates)
        (params, target, optimizer_state, steps), (errors, values) = jax.lax.scan(descend, carry, keys)
        after = DQNState(params, target, optimizer_state, replay, state.trials + batch_size, steps)
        epsilon = proposal.memo["epsilon"][-1]
        return after, {"loss": jnp.mean(errors), "value": jnp.mean(values), "epsilon": epsilon}

    def policy(state: DQNState) -> tuple[jax.Array, jax.Array]:
        arch = play(jax.random.key(0), state.params, 0.0)
        return arch, jax.nn.one_hot(arch, space.num_choices)

    return Controller(batch_size, init, ask, tell, policy)
