"""Advantage actor-critic: REINFORCE whose baseline is a learned value of the decisions so far.

Mnih et al., "Asynchronous Methods for Deep Reinforcement Learning", 2016,
https://arxiv.org/abs/1602.01783, algorithm S3, in its synchronous form: the rows of a round take the
place of the parallel workers, and every walk is finished, so nothing is bootstrapped at a cut.

Suits long walks, where one baseline for all decisions is too coarse: the critic judges each by itself.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxnas import masks, policies, rl
from jaxnas.errors import require
from jaxnas.types import Controller, Outcome, Proposal, PyTree, Space


class A2CState(NamedTuple):
    """θ of actor and critic, and the optimizer's state."""

    params: PyTree
    optimizer: PyTree


def a2c(
    space: Space,
    *,
    batch_size: int = 8,
    policy: str = "lstm",
    units: int = 100,
    learning_rate: float = 0.02,
    adam_epsilon: float = 1e-4,
    discount: float = 1.0,
    gae_lambda: float = 1.0,
    normalize_advantage: bool = True,
    value_weight: float = 0.5,
    entropy_weight: float = 0.0,
    max_gradient_norm: float = 0.5,
) -> Controller:
    """θ ← θ + α ∇ mean_t [log π(a_t | s_t) Â_t − c_v (G_t − V(s_t))² + β H(π(· | s_t))], once a round.

    The mean is over the live decisions of the round; Â is the generalised advantage estimate. The defaults
    are for a few hundred trials; the paper does not normalize advantages, and takes RMSProp at about 7e-4
    and an entropy weight of 0.01 for tens of millions of steps.

    Args:
      batch_size: architectures proposed a round, B.
      policy: lstm, dense or free_logits.
      units: hidden units of the LSTM that actor and critic share.
      learning_rate: α of Adam.
      adam_epsilon: ε of Adam.
      discount: γ.
      gae_lambda: λ of the advantage; 1 gives the paper's return minus value.
      normalize_advantage: scale a round's advantages to mean 0 and standard deviation 1.
      value_weight: c_v, the weight of the critic's squared error.
      entropy_weight: β, the weight of the entropy bonus, per nat.
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
        ("gae_lambda", gae_lambda, 0 <= gae_lambda <= 1, "a number in [0, 1]"),
    )
    pi = policies.make(policy, space, units=units, critic=True)
    clip = optax.clip_by_global_norm(max_gradient_norm) if max_gradient_norm > 0 else optax.identity()
    optimizer = optax.chain(clip, optax.adam(learning_rate, eps=adam_epsilon))

    def init(key: jax.Array) -> A2CState:
        params = pi.init(key)
        return A2CState(params, optimizer.init(params))

    def ask(key: jax.Array, state: A2CState) -> Proposal:
        keys = jax.random.split(key, batch_size)
        drawn = jax.vmap(lambda k: policies.trajectory(k, pi, space, state.params))(keys)
        return Proposal(drawn.arch, memo={"value": drawn.value})

    def tell(
        key: jax.Array, state: A2CState, proposal: Proposal, outcome: Outcome
    ) -> tuple[A2CState, dict[str, jax.Array]]:
        del key
        valid, reward = rl.rewards_of(proposal, outcome)
        live = jax.vmap(lambda a: masks.walk(space, a).live)(proposal.arch)
        mask, value = live & valid[:, None], proposal.memo["value"]
        advantage = rl.gae(reward, value, mask, discount=discount, gae_lambda=gae_lambda)
        target = advantage + value
        if normalize_advantage:
            advantage = rl.standardize(advantage, mask)

        def loss(params: PyTree) -> tuple[jax.Array, dict[str, jax.Array]]:
            unrolled = jax.vmap(lambda a: policies.unroll(pi, space, params, a))(proposal.arch)
            log_prob = rl.taken(unrolled.log_probs, proposal.arch)
            policy_loss = rl.policy_gradient_loss(log_prob, advantage, mask)
            value_loss = rl.masked_mean(optax.losses.squared_error(unrolled.value, target), mask)
            entropy = rl.masked_mean(masks.entropy(unrolled.log_probs), mask)
            total = policy_loss + value_weight * value_loss - entropy_weight * entropy
            return total, {"policy_loss": policy_loss, "value_loss": value_loss, "entropy": entropy}

        gradient, metrics = jax.grad(loss, has_aux=True)(state.params)
        params, optimizer_state = rl.descend(
            optimizer, gradient, state.params, state.optimizer, jnp.any(valid)
        )
        metrics["explained_variance"] = rl.explained_variance(value, target, mask)
        metrics["gradient_norm"] = optax.tree.norm(gradient)
        return A2CState(params, optimizer_state), metrics

    return Controller(batch_size, init, ask, tell, lambda s: policies.greedy(pi, space, s.params))
