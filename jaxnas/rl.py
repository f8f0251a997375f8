"""Returns, baselines and losses of reinforcement learning, each in a few lines.

Shapes: B trajectories a batch, T decisions. A trajectory whose reward is NaN (a failed child, or a row
that was never evaluated) has weight 0 everywhere: no gradient, no place in a baseline.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxnas.errors import unknown
from jaxnas.types import PyTree


def valid_rows(reward: jax.Array) -> tuple[jax.Array, jax.Array]:  # [B, T] → bool [B], [B, T]
    """Which rows have a reward, and the rewards with zeros where they have none."""
    valid = jnp.all(jnp.isfinite(reward), axis=-1)
    return valid, jnp.where(valid[:, None], reward, jnp.zeros((), reward.dtype))


def returns(reward: jax.Array) -> jax.Array:  # [..., T] → [..., T]
    """Undiscounted reward to go, G_t = Σ_{t' ≥ t} r_{t'} (Sutton & Barto 2018, equation 3.7, γ = 1)."""
    return jnp.flip(jnp.cumsum(jnp.flip(reward, -1), axis=-1), -1)


def masked_mean(x: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean of x where mask is True; 0 where nothing is."""
    total = jnp.sum(jnp.where(mask, x, jnp.zeros((), x.dtype)))
    return total / jnp.maximum(jnp.sum(mask), 1).astype(x.dtype)


def reinforce_loss(
    log_probs: jax.Array,  # [B, T, A] of the policy along the trajectories
    arch: jax.Array,  # int [B, T]
    advantage: jax.Array,  # [B, T]
    live: jax.Array,  # bool [B, T]
    valid: jax.Array,  # bool [B]
) -> jax.Array:  # []
    """−1/n Σ_b Σ_t log π(a_t | a_{<t}) (G_t − b) over the n valid rows (Williams 1992)."""
    taken = jnp.take_along_axis(log_probs, arch[..., None], axis=-1)[..., 0]
    per_row = jnp.sum(jnp.where(live, taken * jax.lax.stop_gradient(advantage), 0.0), axis=-1)
    return -masked_mean(per_row, valid)


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
