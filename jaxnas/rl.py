"""Returns, baselines, advantages and losses of reinforcement learning, each in a few lines.

Shapes: B trajectories a batch, T decisions. A trajectory whose reward is NaN (a failed child, or a row
that was never evaluated) has weight 0 everywhere: no gradient, no place in a baseline.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from jaxnas import masks
from jaxnas.errors import unknown
from jaxnas.types import Outcome, Proposal, PyTree


def valid_rows(reward: jax.Array) -> tuple[jax.Array, jax.Array]:  # [B, T] → bool [B], [B, T]
    """Which rows have a reward, and the rewards with zeros where they have none."""
    valid = jnp.all(jnp.isfinite(reward), axis=-1)
    return valid, jnp.where(valid[:, None], reward, jnp.zeros((), reward.dtype))


def rewards_of(proposal: Proposal, outcome: Outcome) -> tuple[jax.Array, jax.Array]:  # → bool [B], [B, T]
    """`valid_rows` of what a controller is told, once its shapes are those of the proposal."""
    chex.assert_rank(proposal.arch, 2)
    chex.assert_equal_shape([proposal.arch, outcome.reward])
    chex.assert_shape([outcome.status, *outcome.measures.values()], proposal.arch.shape[:1])
    return valid_rows(outcome.reward)


def returns(reward: jax.Array) -> jax.Array:  # [..., T] → [..., T]
    """Undiscounted reward to go, G_t = Σ_{t' ≥ t} r_{t'} (Sutton & Barto 2018, equation 3.7, γ = 1)."""
    return jnp.flip(jnp.cumsum(jnp.flip(reward, -1), axis=-1), -1)


def taken(per_choice: jax.Array, arch: jax.Array) -> jax.Array:  # [..., T, A], int [..., T] → [..., T]
    """The entries of the choices that an architecture made."""
    return jnp.take_along_axis(per_choice, arch[..., None], axis=-1)[..., 0]


def masked_mean(x: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean of x where mask is True; 0 where nothing is."""
    total = jnp.sum(jnp.where(mask, x, jnp.zeros((), x.dtype)))
    return total / jnp.maximum(jnp.sum(mask), 1).astype(x.dtype)


def descend(
    optimizer: optax.GradientTransformation,
    gradient: PyTree,
    params: PyTree,
    state: PyTree,
    proceed: jax.Array,  # bool []
) -> tuple[PyTree, PyTree]:  # → params, optimizer's state
    """One step of an optimizer; without `proceed` nothing moves, not even Adam's moments.

    A branch, not a select: the step of a large policy is bound by memory, which a select reads once more.
    """

    def step() -> tuple[PyTree, PyTree]:
        with jax.numpy_dtype_promotion("standard"):  # optax raises a float to an integer power
            updates, stepped = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), stepped

    return jax.lax.cond(proceed, step, lambda: (params, state))


def clip_by_tensor_norm(max_norm: float) -> optax.GradientTransformation:
    """Every array of the gradient on its own, scaled down to this Euclidean norm where it is larger.

    TensorFlow's `clip_by_norm`; `optax.clip_by_global_norm` takes one norm over all arrays.
    """

    def clip(gradient: jax.Array) -> jax.Array:
        norm = optax.tree.norm(gradient)
        return gradient * (max_norm / jnp.maximum(norm, max_norm))

    return optax.stateless(lambda gradient, params: jax.tree.map(clip, gradient))


def reinforce_loss(
    log_probs: jax.Array,  # [B, T, A] of the policy along the trajectories
    arch: jax.Array,  # int [B, T]
    advantage: jax.Array,  # [B, T]
    live: jax.Array,  # bool [B, T]
    valid: jax.Array,  # bool [B]
) -> jax.Array:  # []
    """−1/n Σ_b Σ_t log π(a_t | a_{<t}) (G_t − b) over the n valid rows (Williams 1992)."""
    chex.assert_rank([log_probs, arch, advantage, live, valid], [3, 2, 2, 2, 1])
    chex.assert_equal_shape([arch, advantage, live])
    log_prob = taken(log_probs, arch)
    per_row = jnp.sum(jnp.where(live, log_prob * jax.lax.stop_gradient(advantage), 0.0), axis=-1)
    return -masked_mean(per_row, valid)


def gae(
    reward: jax.Array,  # [..., T]
    value: jax.Array,  # [..., T] V(s_t)
    live: jax.Array,  # bool [..., T]
    *,
    discount: float,
    gae_lambda: float,
) -> jax.Array:  # [..., T]
    """Â_t = Σ_l (γλ)^l δ_{t+l} with δ_t = r_t + γ V(s_{t+1}) − V(s_t) (Schulman et al. 2016, equation 16).

    A finished architecture has value 0. With γ = λ = 1 this is G_t − V(s_t).
    """
    chex.assert_equal_shape([reward, value, live])
    value = jnp.where(live, value, 0.0)
    following = jnp.concatenate([value[..., 1:], jnp.zeros_like(value[..., :1])], axis=-1)
    delta = jnp.where(live, reward + discount * following - value, 0.0)

    def back(later: jax.Array, delta: jax.Array) -> tuple[jax.Array, jax.Array]:
        advantage = delta + discount * gae_lambda * later
        return advantage, advantage

    _, advantage = jax.lax.scan(back, jnp.zeros_like(delta[..., 0]), jnp.moveaxis(delta, -1, 0), reverse=True)
    return jnp.where(live, jnp.moveaxis(advantage, 0, -1), 0.0)


def standardize(x: jax.Array, mask: jax.Array) -> jax.Array:
    """(x − mean) / (standard deviation + 1e-4) over the mask.

    The 1e-4 keeps differences that are only rounding, as between equal architectures, from being blown up.
    """
    chex.assert_equal_shape([x, mask])
    mean = masked_mean(x, mask)
    deviation = jnp.sqrt(masked_mean((x - mean) ** 2, mask))
    return jnp.where(mask, (x - mean) / (deviation + 1e-4), 0.0)


def policy_gradient_loss(
    log_prob: jax.Array,  # [B, T] log π(a_t | s_t)
    advantage: jax.Array,  # [B, T]
    mask: jax.Array,  # bool [B, T]
) -> jax.Array:  # []
    """−Ê_t[log π(a_t | s_t) Â_t], a mean over the decisions of the mask (Mnih et al. 2016, section 4)."""
    chex.assert_equal_shape([log_prob, advantage, mask])
    return -masked_mean(log_prob * jax.lax.stop_gradient(advantage), mask)


def ppo_loss(
    log_ratio: jax.Array,  # [B, T] log π(a_t | s_t) − log π_old(a_t | s_t)
    advantage: jax.Array,  # [B, T]
    mask: jax.Array,  # bool [B, T]
    clip: float,
) -> jax.Array:  # []
    """−Ê_t[min(r_t Â_t, clip(r_t, 1 − ε, 1 + ε) Â_t)] over the mask (Schulman et al. 2017, equation 7)."""
    chex.assert_equal_shape([log_ratio, advantage, mask])
    ratio = jnp.exp(jnp.where(mask, log_ratio, 0.0))
    advantage = jax.lax.stop_gradient(advantage)
    clipped = jnp.clip(ratio, 1 - clip, 1 + clip)
    return -masked_mean(jnp.minimum(ratio * advantage, clipped * advantage), mask)


def q_target(
    reward: jax.Array,  # [..., T]
    q: jax.Array,  # [..., T, A] Q(s_t, ·) of the target network
    q_choosing: jax.Array,  # [..., T, A] picks the best next choice: `q` again, or the online network's
    legal: jax.Array,  # bool [..., T, A]
    live: jax.Array,  # bool [..., T]
    discount: float,
) -> jax.Array:  # [..., T]
    """r_t + γ Q(s_{t+1}, argmax_a Q_choosing(s_{t+1}, a)) over the legal a; r_t at a walk's last decision.

    One network for both is Mnih et al. 2015; the online network choosing is Double DQN (van Hasselt et al.
    2016, equation 4).
    """
    chex.assert_equal_shape([q, q_choosing, legal])
    chex.assert_equal_shape([reward, live, q[..., 0]])
    best = jnp.argmax(masks.mask_logits(q_choosing, legal), axis=-1)
    value = jnp.where(live, taken(q, best), 0.0)
    following = jnp.concatenate([value[..., 1:], jnp.zeros_like(value[..., :1])], axis=-1)
    return reward + discount * following


def explained_variance(prediction: jax.Array, target: jax.Array, mask: jax.Array) -> jax.Array:  # []
    """1 − Var[target − prediction] / Var[target] over the mask; 0 where the target does not vary."""
    chex.assert_equal_shape([prediction, target, mask])

    def variance(x: jax.Array) -> jax.Array:
        return masked_mean((x - masked_mean(x, mask)) ** 2, mask)

    total = variance(target)
    unexplained = variance(target - prediction) / jnp.where(total > 0, total, 1.0)
    return jnp.where(total > 0, 1.0 - unexplained, 0.0)


class Baseline(NamedTuple):
    """What is subtracted from the return; sees the batch before its advantage is taken."""

    init: PyTree
    update: Callable[[PyTree, jax.Array, jax.Array], tuple[PyTree, jax.Array]]
    # (state, total return [B], valid bool [B]) → (state, baseline [])


def no_baseline() -> Baseline:
    """b = 0."""
    return Baseline((), lambda state, total, valid: (state, jnp.zeros(())))


def ema_baseline(decay: float) -> Baseline:
    """Bias-corrected exponential moving average of the batch means, as in NATS-Bench's REINFORCE.

    It includes the batch at hand, which makes the very first advantage meaningful (R − mean R) and scales
    later ones by a constant: the expected direction of the gradient stays the same.
    """

    def update(state: PyTree, total: jax.Array, valid: jax.Array) -> tuple[PyTree, jax.Array]:
        weighted, weight = state
        any_valid = jnp.any(valid)
        fresh = decay * weighted + (1 - decay) * masked_mean(total, valid)
        weighted = jnp.where(any_valid, fresh, weighted)
        weight = jnp.where(any_valid, decay * weight + (1 - decay), weight)
        return (weighted, weight), weighted / jnp.maximum(weight, 1e-8)

    return Baseline((jnp.zeros(()), jnp.zeros(())), update)


def max_of_means_baseline() -> Baseline:
    """The largest of: mean of the last 20 rewards, mean of the last 100, 0.8 × the best so far.

    0.65³ until 20 rewards are in; the best starts at 0.5; the rewards of the batch at hand count (the
    NASNet controller of https://github.com/michelesalvucci/DLMAIRIL_RL_based_NAS).
    """
    window = 100

    def push(state: PyTree, row: tuple[jax.Array, jax.Array]) -> tuple[PyTree, None]:
        recent, count, best = state  # [100] newest last, [], []
        total, valid = row
        pushed = (jnp.roll(recent, -1).at[-1].set(total), count + 1, jnp.maximum(best, total))
        return jax.tree.map(lambda new, old: jnp.where(valid, new, old), pushed, state), None

    def update(state: PyTree, total: jax.Array, valid: jax.Array) -> tuple[PyTree, jax.Array]:
        state, _ = jax.lax.scan(push, state, (total, valid))
        recent, count, best = state
        age = jnp.arange(window)[::-1]  # of each entry of `recent`, 0 the newest
        mean_20 = masked_mean(recent, age < 20)
        mean_100 = masked_mean(recent, age < jnp.minimum(count, window))
        largest = jnp.maximum(jnp.maximum(mean_20, mean_100), 0.8 * best)
        return state, jnp.where(count < 20, 0.65**3, largest)

    return Baseline((jnp.zeros(window), jnp.zeros((), jnp.int32), jnp.full((), 0.5, jnp.float32)), update)


def make_baseline(name: str, decay: float) -> Baseline:
    """The baseline of that name, for the controllers that take `baseline` as an option."""
    makers: dict[str, Any] = {
        "ema": lambda: ema_baseline(decay),
        "none": no_baseline,
        "max_of_means": max_of_means_baseline,
    }
    if name not in makers:
        raise unknown("controller.baseline", name, makers)
    return makers[name]()
