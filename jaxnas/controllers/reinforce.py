"""REINFORCE: the policy gradient of a network that writes architectures decision by decision.

Williams, "Simple statistical gradient-following algorithms for connectionist reinforcement learning",
1992; Zoph & Le, "Neural Architecture Search with Reinforcement Learning", 2017,
https://arxiv.org/abs/1611.01578, equation 2.

Suits budgets of some hundred trials and more; free logits for a few independent decisions, an LSTM for long
or dependent ones.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxnas import masks, policies, rl
from jaxnas.errors import require
from jaxnas.types import Controller, Outcome, Proposal, PyTree, Space


class ReinforceState(NamedTuple):
    """θ, the optimizer's state, b, and what the temperature's schedule counts."""

    params: PyTree
    optimizer: PyTree
    baseline: PyTree
    trials: jax.Array  # int32 []


def reinforce(
    space: Space,
    *,
    batch_size: int = 8,
    policy: str = "lstm",
    units: int = 100,
    feedback: bool = True,
    learning_rate: float = 0.01,
    adam_epsilon: float = 1e-4,
    baseline: str = "ema",
    baseline_decay: float = 0.9,
    entropy_weight: float = 0.0,
    temperature: float = 1.0,
    temperature_decay: float = 1.0,
    temperature_floor: float = 0.1,
    max_gradient_norm: float = 0.0,
    max_tensor_norm: float = 0.0,
    skip_below: float = 0.0,
    off_policy: bool = False,
) -> Controller:
    """θ ← θ + α ∇ (1/B) Σ_b Σ_t [log π(a_t | a_{<t}; θ)(G_t − b) + β H(π(· | a_{<t}; θ))].

    Logits are masked and divided by the temperature when sampling and in the gradient alike. An Adam ε of
    1e-4 keeps a gradient that is only rounding (all advantages zero) from becoming a full step.

    The loss sums over the T decisions. Where a source takes their mean, its ε of Adam and the norms that it
    clips to are to be multiplied by T: the steps are then the same, for Adam sees no other scale.

    Args:
      batch_size: architectures proposed a round, B.
      policy: lstm, dense or free_logits.
      units: hidden units of the LSTM, or of each dense layer.
      feedback: feed each choice back as the next input; false runs the LSTM for one step only.
      learning_rate: α of Adam.
      adam_epsilon: ε of Adam.
      baseline: ema, none or max_of_means.
      baseline_decay: decay of the ema baseline, a round.
      entropy_weight: β, the weight of the entropy bonus, per nat.
      temperature: what logits are divided by at the first trial.
      temperature_decay: factor on the temperature after every trial.
      temperature_floor: the temperature's least value.
      max_gradient_norm: clip the global norm of the gradient to this; 0 does not clip.
      max_tensor_norm: clip the norm of each array of the gradient to this; 0 does not clip.
      skip_below: an architecture with `|R − b|` below this gives no gradient; a round of such takes no step.
      off_policy: for comparison, the biased gradient of log-probabilities over all choices, legal or not, at
        temperature 1, whatever the sampling did, as of the NASNet controller of
        https://github.com/michelesalvucci/DLMAIRIL_RL_based_NAS.

    Raises:
      InputError: a value out of its range.
    """
    require(
        "controller",
        ("batch_size", batch_size, batch_size >= 1, "1 or more"),
        ("units", units, units >= 1, "1 or more"),
        ("learning_rate", learning_rate, learning_rate > 0, "a positive number"),
        ("baseline_decay", baseline_decay, 0 <= baseline_decay < 1, "a number in [0, 1)"),
        ("temperature", temperature, temperature > 0, "a positive number"),
        ("temperature_decay", temperature_decay, 0 < temperature_decay <= 1, "a number in (0, 1]"),
        ("temperature_floor", temperature_floor, temperature_floor > 0, "a positive number"),
        ("max_tensor_norm", max_tensor_norm, max_tensor_norm >= 0, "0 or more"),
        ("skip_below", skip_below, skip_below >= 0, "0 or more"),
    )
    pi = policies.make(policy, space, units=units, feedback=feedback)
    b = rl.make_baseline(baseline, baseline_decay)
    clip = optax.clip_by_global_norm(max_gradient_norm) if max_gradient_norm > 0 else optax.identity()
    clip_each = rl.clip_by_tensor_norm(max_tensor_norm) if max_tensor_norm > 0 else optax.identity()
    optimizer = optax.chain(clip_each, clip, optax.adam(learning_rate, eps=adam_epsilon))

    def init(key: jax.Array) -> ReinforceState:
        params = pi.init(key)
        return ReinforceState(params, optimizer.init(params), b.init, jnp.zeros((), jnp.int32))

    def ask(key: jax.Array, state: ReinforceState) -> Proposal:
        decayed = temperature * temperature_decay ** state.trials.astype(jnp.float32)
        now = jnp.maximum(decayed, temperature_floor)
        keys = jax.random.split(key, batch_size)
        arch = jax.vmap(lambda k: policies.sample(k, pi, space, state.params, now))(keys)
        return Proposal(arch, memo={"temperature": jnp.full(batch_size, now)})

    def tell(
        key: jax.Array, state: ReinforceState, proposal: Proposal, outcome: Outcome
    ) -> tuple[ReinforceState, dict[str, jax.Array]]:
        del key
        valid, reward = rl.rewards_of(proposal, outcome)
        to_go = rl.returns(reward)
        total = jnp.sum(reward, axis=-1)
        baseline_state, value = b.update(state.baseline, total, valid)
        advantage = to_go - value
        learned = valid & (jnp.abs(total - value) >= skip_below)
        drawn_temperature = proposal.memo["temperature"]
        temperatures = jnp.ones_like(drawn_temperature) if off_policy else drawn_temperature

        def loss(params: PyTree) -> tuple[jax.Array, jax.Array]:
            log_probs, live, _ = jax.vmap(
                lambda a, t: policies.unroll(pi, space, params, a, t, masked=not off_policy)
            )(proposal.arch, temperatures)
            entropy = jnp.where(live, masks.entropy(log_probs), 0.0)  # [B, T]
            policy_loss = rl.reinforce_loss(log_probs, proposal.arch, advantage, live, learned)
            bonus = rl.masked_mean(jnp.sum(entropy, axis=-1), learned)
            return policy_loss - entropy_weight * bonus, rl.masked_mean(entropy, live & valid[:, None])

        (value_of_loss, entropy), gradient = jax.value_and_grad(loss, has_aux=True)(state.params)
        params, optimizer_state = rl.descend(
            optimizer, gradient, state.params, state.optimizer, jnp.any(learned)
        )
        metrics = {
            "loss": value_of_loss,
            "baseline": value,
            "entropy": entropy,  # nats a decision
            "gradient_norm": optax.tree.norm(gradient),
            "temperature": drawn_temperature[0],
        }
        return ReinforceState(params, optimizer_state, baseline_state, state.trials + batch_size), metrics

    return Controller(batch_size, init, ask, tell, lambda s: policies.greedy(pi, space, s.params))
