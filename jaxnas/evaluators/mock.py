"""A seeded landscape on any space, with a known optimum, noise and failures: no training, no data.

For tests, for teaching and for comparing controllers where thousands of searches are wanted.
"""

import jax
import jax.numpy as jnp

from jaxnas import masks
from jaxnas.errors import InputError
from jaxnas.types import MOCK_FAILURE, OK, Evaluator, PyTree, Space


def mock(
    space: Space,
    *,
    landscape_seed: int = 0,
    interaction: float = 0.3,
    noise: float = 0.0,
    failure_rate: float = 0.0,
) -> Evaluator:
    """Accuracy is a mean of random utilities, of single decisions and of neighbouring pairs.

    Utilities are uniform in [0, 1) but for those of one architecture, `optimum`, which are 1: it is the
    one with the best noiseless accuracy. `params` grows with each choice's index.

    Args:
      landscape_seed: which landscape; searches with different seeds can share one.
      interaction: share of the accuracy that pairs of neighbouring decisions decide, in [0, 1].
      noise: standard deviation of the noise on the accuracy, from the child's key.
      failure_rate: probability that a child fails, from the child's key.

    Raises:
      InputError: a value out of its range.
    """
    for name, value in (("interaction", interaction), ("failure_rate", failure_rate)):
        if not 0 <= value <= 1:
            raise InputError(f"evaluator.{name}: got {value}; it takes a number in [0, 1]")
    if noise < 0:
        raise InputError(f"evaluator.noise: got {noise}; it takes 0 or more")
    T, A = space.num_steps, space.num_choices
    best = optimum(space, landscape_seed=landscape_seed)
    key_single, key_pair, key_params = jax.random.split(jax.random.key(landscape_seed), 3)
    single = jax.random.uniform(key_single, (T, A)).at[jnp.arange(T), best].set(1.0)
    pair = jax.random.uniform(key_pair, (T, A, A)).at[jnp.arange(1, T), best[:-1], best[1:]].set(1.0)
    params = 10 ** jax.random.uniform(key_params, (T, A), minval=2.0, maxval=5.0)

    def measure(key: jax.Array, arch: jax.Array) -> dict[str, jax.Array]:  # [T] →
        steps = jnp.arange(T)
        of_singles = jnp.mean(single[steps, arch])
        of_pairs = jnp.mean(pair[steps[1:], arch[:-1], arch[1:]]) if T > 1 else of_singles
        value = (1 - interaction) * of_singles + interaction * of_pairs
        key_noise, key_failure = jax.random.split(key)
        accuracy = jnp.clip(value + noise * jax.random.normal(key_noise), 0.0, 1.0)
        failed = jax.random.uniform(key_failure) < failure_rate
        return {
            "accuracy": jnp.where(failed, jnp.nan, accuracy),
            "params": jnp.where(failed, jnp.nan, jnp.round(jnp.sum(params[steps, arch]))),
            "status": jnp.where(failed, MOCK_FAILURE, OK).astype(jnp.int32),
        }

    def evaluate(keys: jax.Array, state: PyTree, arch: jax.Array) -> tuple[PyTree, dict[str, jax.Array]]:
        return state, jax.vmap(measure)(keys, arch)

    return Evaluator(lambda key: (), evaluate, weights=None, measures=("accuracy", "params"), jittable=True)


def optimum(space: Space, *, landscape_seed: int = 0) -> jax.Array:  # → int32 [T]
    """The best architecture of the landscape of that seed: a random legal walk."""
    return masks.sample(jax.random.fold_in(jax.random.key(landscape_seed), 1), space)
