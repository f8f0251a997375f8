"""Proximal policy optimization: several epochs of a clipped policy gradient on each rollout.

Schulman et al., "Proximal Policy Optimization Algorithms", 2017, https://arxiv.org/abs/1707.06347; for
architectures Zoph et al., "Learning Transferable Architectures for Scalable Image Recognition", 2018,
https://arxiv.org/abs/1707.07012, appendix A.1. Illegal choices are masked in sampling and in the loss
alike (Huang & Ontañón 2022, https://arxiv.org/abs/2006.14171).

Suits costly children: several gradient steps on each round, and results that spread little from search to
search.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxnas import masks, policies, rl
from jaxnas.errors import require
from jaxnas.types import Controller, Outcome, Proposal, PyTree, Space

# Of the update that a round made: means over its gradient steps, all 0 where there was none.
METRICS = (
    "policy_loss",
    "value_loss",
    "entropy",  # nats a decision
    "approx_kl",  # nats a decision, of the old policy from the new
    "clip_fraction",
    "gradient_norm",
    "explained_variance",  # of the returns by the critic before the update
)


class Rollout(NamedTuple):
    """Rounds gathered for the next update, N of them; a failed row is zeros and has `valid` False."""

    arch: jax.Array  # int32 [N, B, T]
    log_prob: jax.Array  # float32 [N, B, T] log π_old(a_t | s_t)
    value: jax.Array  # float32 [N, B, T] V_old(s_t)
    reward: jax.Array  # float32 [N, B, T]
    valid: jax.Array  # bool [N, B, 1]


class Batch(NamedTuple):
    """What the loss reads of R trajectories."""

    arch: jax.Array  # int32 [R, T]
    log_prob: jax.Array  # float32 [R, T]
    advantage: jax.Array  # float32 [R, T]
    target: jax.Array  # float32 [R, T] of the value
    mask: jax.Array  # bool [R, T] live decisions of valid rows


class PPOState(NamedTuple):
    """θ of actor and critic, the optimizer's state, b where there is no critic, and the open rollout."""

    params: PyTree
    optimizer: PyTree
    baseline: PyTree
    rollout: Rollout
    gathered: jax.Array  # int32 [] rounds in the rollout


def ppo(
    space: Space,
    *,
    batch_size: int = 8,
    rollout: int | None = None,
    minibatch_size: int | None = None,
    epochs: int = 4,
    policy: str = "lstm",
    units: int = 100,
    learning_rate: float = 0.005,
    adam_epsilon: float = 1e-4,
    clip: float = 0.2,
    discount: float = 1.0,
    gae_lambda: float = 1.0,
    normalize_advantage: bool = True,
    baseline: str = "value",
    baseline_decay: float = 0.95,
    value_weight: float = 0.5,
    entropy_weight: float = 0.0,
    max_gradient_norm: float = 0.5,
) -> Controller:
    """Maximise mean_t [min(r_t Â_t, clip(r_t, 1 ± ε) Â_t) − c_v (V^targ_t − V(s_t))² + β H(π(· | s_t))].

    Minibatches are whole trajectories, since the LSTM runs along them; the mean is over their live
    decisions. A round in which every child failed is not gathered. The defaults are for a few hundred
    trials. Published settings, for thousands: MaskablePPO in https://github.com/eshwarprasadS/Deep_RL_For_CNN
    gathers 64 decisions and takes them as one minibatch, here a `rollout` of about 64 / T, at learning_rate
    3e-4, epochs 10, discount 0.99, gae_lambda 0.95; NASNet has rollout 20, learning_rate 3.5e-4, baseline
    ema, baseline_decay 0.95, entropy_weight 1e-5, and does not say its clip and epochs.

    Args:
      batch_size: architectures proposed a round, B.
      rollout: trajectories gathered before an update, a multiple of the batch; none takes one round.
      minibatch_size: trajectories a gradient step, a divisor of the rollout; none takes the whole rollout.
      epochs: passes over a rollout.
      policy: lstm, dense or free_logits.
      units: hidden units of the LSTM that actor and critic share.
      learning_rate: α of Adam.
      adam_epsilon: ε of Adam.
      clip: ε, how far the probability ratio may pay.
      discount: γ.
      gae_lambda: λ of the generalised advantage estimate.
      normalize_advantage: scale a rollout's advantages to mean 0 and standard deviation 1.
      baseline: value for a critic; ema, none or max_of_means for returns minus that baseline.
      baseline_decay: decay of the ema baseline, a rollout.
      value_weight: c_v, the weight of the critic's squared error.
      entropy_weight: β, the weight of the entropy bonus, per nat.
      max_gradient_norm: clip the global norm of the gradient to this; 0 does not clip.

    Raises:
      InputError: a value out of its range.
    """
    R = batch_size if rollout is None else rollout
    size = R if minibatch_size is None else minibatch_size
    require(
        "controller",
        ("batch_size", batch_size, batch_size >= 1, "1 or more"),
        ("rollout", rollout, R >= 1 and R % max(batch_size, 1) == 0, f"a multiple of {batch_size}"),
        ("minibatch_size", minibatch_size, size >= 1 and R % size == 0, f"a divisor of {R}"),
        ("epochs", epochs, epochs >= 1, "1 or more"),
        ("units", units, units >= 1, "1 or more"),
        ("learning_rate", learning_rate, learning_rate > 0, "a positive number"),
        ("clip", clip, clip > 0, "a positive number"),
        ("discount", discount, 0 <= discount <= 1, "a number in [0, 1]"),
        ("gae_lambda", gae_lambda, 0 <= gae_lambda <= 1, "a number in [0, 1]"),
        ("baseline_decay", baseline_decay, 0 <= baseline_decay < 1, "a number in [0, 1)"),
    )
    critic = baseline == "value"
    b = rl.no_baseline() if critic else rl.make_baseline(baseline, baseline_decay)
    pi = policies.make(policy, space, units=units, critic=critic)
    clip_norm = optax.clip_by_global_norm(max_gradient_norm) if max_gradient_norm > 0 else optax.identity()
    optimizer = optax.chain(clip_norm, optax.adam(learning_rate, eps=adam_epsilon))
    N, T = R // batch_size, space.num_steps

    def init(key: jax.Array) -> PPOState:
        params = pi.init(key)
        zeros = jnp.zeros((N, batch_size, T))
        empty = Rollout(zeros.astype(jnp.int32), zeros, zeros, zeros, jnp.zeros((N, batch_size, 1), bool))
        return PPOState(params, optimizer.init(params), b.init, empty, jnp.zeros((), jnp.int32))

    def ask(key: jax.Array, state: PPOState) -> Proposal:
        keys = jax.random.split(key, batch_size)
        drawn = jax.vmap(lambda k: policies.trajectory(k, pi, space, state.params))(keys)
        return Proposal(drawn.arch, memo={"log_prob": drawn.log_prob, "value": drawn.value})

    def tell(
        key: jax.Array, state: PPOState, proposal: Proposal, outcome: Outcome
    ) -> tuple[PPOState, dict[str, jax.Array]]:
        valid, reward = rl.rewards_of(proposal, outcome)
        fields = (proposal.arch, proposal.memo["log_prob"], proposal.memo["value"], reward, valid[:, None])
        rows = Rollout(*(jnp.where(valid[:, None], x, jnp.zeros((), x.dtype)) for x in fields))
        any_valid = jnp.any(valid)
        gathered = jax.tree.map(
            lambda old, new: jnp.where(any_valid, old.at[state.gathered].set(new), old), state.rollout, rows
        )
        count = state.gathered + any_valid.astype(jnp.int32)
        state = state._replace(rollout=gathered, gathered=count % N)
        nothing = dict.fromkeys(METRICS, jnp.zeros(()))
        return jax.lax.cond(any_valid & (count == N), learn, lambda key, s: (s, nothing), key, state)

    def learn(key: jax.Array, state: PPOState) -> tuple[PPOState, dict[str, jax.Array]]:
        arch, log_prob, value, reward, valid = jax.tree.map(
            lambda x: x.reshape(R, *x.shape[2:]), state.rollout
        )
        mask = jax.vmap(lambda a: masks.walk(space, a).live)(arch) & valid
        if critic:
            baseline_state = state.baseline
            advantage = rl.gae(reward, value, mask, discount=discount, gae_lambda=gae_lambda)
            target = advantage + value
        else:
            baseline_state, level = b.update(state.baseline, jnp.sum(reward, axis=-1), valid[:, 0])
            advantage, target = rl.returns(reward) - level, value
        explained = rl.explained_variance(value, target, mask)
        if normalize_advantage:
            advantage = rl.standardize(advantage, mask)
        batch = Batch(arch, log_prob, advantage, target, mask)

        def descend(carry: tuple[PyTree, PyTree], rows: jax.Array) -> tuple[tuple, dict[str, jax.Array]]:
            params, optimizer_state = carry
            minibatch = jax.tree.map(lambda x: x[rows], batch)
            gradient, metrics = jax.grad(loss, has_aux=True)(params, minibatch)
            metrics["gradient_norm"] = optax.tree.norm(gradient)
            proceed = jnp.any(minibatch.mask)
            return rl.descend(optimizer, gradient, params, optimizer_state, proceed), metrics

        shuffled = jax.vmap(lambda k: jax.random.permutation(k, R))(jax.random.split(key, epochs))
        (params, optimizer_state), metrics = jax.lax.scan(
            descend, (state.params, state.optimizer), shuffled.reshape(-1, size)
        )
        metrics = {name: jnp.mean(values) for name, values in metrics.items()}
        after = state._replace(params=params, optimizer=optimizer_state, baseline=baseline_state)
        return after, metrics | {"explained_variance": explained}

    def loss(params: PyTree, batch: Batch) -> tuple[jax.Array, dict[str, jax.Array]]:
        unrolled = jax.vmap(lambda a: policies.unroll(pi, space, params, a))(batch.arch)
        log_ratio = rl.taken(unrolled.log_probs, batch.arch) - batch.log_prob
        log_ratio = jnp.where(batch.mask, log_ratio, 0.0)
        ratio = jnp.exp(log_ratio)
        policy_loss = rl.ppo_loss(log_ratio, batch.advantage, batch.mask, clip)
        value_loss = rl.masked_mean(optax.losses.squared_error(unrolled.value, batch.target), batch.mask)
        entropy = rl.masked_mean(masks.entropy(unrolled.log_probs), batch.mask)
        clipped = (jnp.abs(ratio - 1.0) > clip).astype(jnp.float32)
        metrics = {
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": entropy,
            "approx_kl": rl.masked_mean(ratio - 1.0 - log_ratio, batch.mask),
            "clip_fraction": rl.masked_mean(clipped, batch.mask),
        }
        return policy_loss + value_weight * value_loss - entropy_weight * entropy, metrics

    return Controller(batch_size, init, ask, tell, lambda s: policies.greedy(pi, space, s.params))
