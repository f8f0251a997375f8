"""Accuracy by a formula, with noise and failures: no training, no data.

A seeded landscape with a known optimum on any space, or the published mock reward of a NASNet search. For
tests, for teaching and for comparing controllers where thousands of searches are wanted.

Suits tests and first steps with a controller: no data, no training, and the optimum is known.
"""

from functools import partial

import chex
import jax
import jax.numpy as jnp

from jaxnas import masks
from jaxnas.errors import InputError, unknown
from jaxnas.spaces.nasnet import OPERATIONS
from jaxnas.types import MOCK_FAILURE, OK, Evaluator, PyTree, Space


def mock(
    space: Space,
    *,
    formula: str = "landscape",
    squared: bool = True,
    landscape_seed: int = 0,
    interaction: float = 0.3,
    noise: float = 0.0,
    failure_rate: float = 0.0,
) -> Evaluator:
    """By default accuracy is a mean of random utilities, of single decisions and of neighbouring pairs.

    Utilities are uniform in [0, 1) but for those of one architecture, `optimum`, which are 1: it is the
    one with the best noiseless accuracy. `params` are a sum of random numbers, one a choice.

    Args:
      formula: landscape; or nasnet, `nasnet_formula` of architectures of the space nasnet.
      squared: square the formula nasnet, as its source does.
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
    if formula not in ("landscape", "nasnet"):
        raise unknown("evaluator.formula", formula, ("landscape", "nasnet"))
    if formula == "nasnet" and (space.name != "nasnet" or space.settings.operations != OPERATIONS):
        raise InputError(
            f"evaluator.formula: got nasnet with space {space.name}; it takes the space nasnet with its 13 "
            "operations"
        )
    T, A = space.num_steps, space.num_choices
    best = optimum(space, landscape_seed=landscape_seed)
    key_single, key_pair, key_params = jax.random.split(jax.random.key(landscape_seed), 3)
    single = jax.random.uniform(key_single, (T, A)).at[jnp.arange(T), best].set(1.0)
    pair = jax.random.uniform(key_pair, (T, A, A)).at[jnp.arange(1, T), best[:-1], best[1:]].set(1.0)
    params = 10 ** jax.random.uniform(key_params, (T, A), minval=2.0, maxval=5.0)

    def landscape(arch: jax.Array) -> jax.Array:  # [T] → []
        steps = jnp.arange(T)
        of_singles = jnp.mean(single[steps, arch])
        of_pairs = jnp.mean(pair[steps[1:], arch[:-1], arch[1:]]) if T > 1 else of_singles
        return (1 - interaction) * of_singles + interaction * of_pairs

    score = landscape if formula == "landscape" else partial(nasnet_formula, squared=squared)

    def measure(key: jax.Array, arch: jax.Array) -> dict[str, jax.Array]:  # [T] →
        value = score(arch)
        key_noise, key_failure = jax.random.split(key)
        accuracy = jnp.clip(value + noise * jax.random.normal(key_noise), 0.0, 1.0)
        failed = jax.random.uniform(key_failure) < failure_rate
        return {
            "accuracy": jnp.where(failed, jnp.nan, accuracy),
            "params": jnp.where(failed, jnp.nan, jnp.round(jnp.sum(params[jnp.arange(T), arch]))),
            "status": jnp.where(failed, MOCK_FAILURE, OK).astype(jnp.int32),
        }

    def evaluate(keys: jax.Array, state: PyTree, arch: jax.Array) -> tuple[PyTree, dict[str, jax.Array]]:
        chex.assert_shape([keys, arch], [(len(arch),), (None, space.num_steps)])
        return state, jax.vmap(measure)(keys, arch)

    return Evaluator(lambda key: (), evaluate, measures=("accuracy", "params"), jittable=True)


def optimum(space: Space, *, landscape_seed: int = 0) -> jax.Array:  # → int32 [T]
    """The best architecture of the landscape of that seed: a random legal walk."""
    return masks.sample(jax.random.fold_in(jax.random.key(landscape_seed), 1), space)


def nasnet_formula(arch: jax.Array, *, squared: bool = True) -> jax.Array:  # int [T] → []
    """The mock reward of https://github.com/michelesalvucci/DLMAIRIL_RL_based_NAS, in [0.5, 0.998].

    r = .5 + .4 hi − .1 lo + .15 ind + .1 cmb + .15 div + .13 sin(π m / 6.5), then r², then the bounds. hi and
    lo are the shares of operations above 8 and below 4, m is the mean operation; ind is the number of
    different inputs over the largest plus 1, cmb that of combinations over the blocks, div that of operations
    over 13; all of the choices' indices in the blocks (input, input, operation, operation, combination) of
    both cells.
    """
    blocks = arch.reshape(-1, 5)
    inputs, operations, combinations = blocks[:, :2].ravel(), blocks[:, 2:4].ravel(), blocks[:, 4]

    def mean(x: jax.Array) -> jax.Array:
        return jnp.mean(x.astype(jnp.float32))

    def different(x: jax.Array) -> jax.Array:  # [N] → []: those that no earlier one equals
        return jnp.sum(~jnp.any(jnp.tril(x[:, None] == x[None, :], -1), axis=1)).astype(jnp.float32)

    r = 0.5 + 0.4 * mean(operations > 8) - 0.1 * mean(operations < 4)
    r += 0.15 * different(inputs) / (jnp.max(inputs) + 1).astype(jnp.float32)
    r += 0.1 * different(combinations) / len(blocks) + 0.15 * different(operations) / 13
    r += 0.13 * jnp.sin(mean(operations) * (jnp.pi / 6.5))
    return jnp.clip(r**2 if squared else r, 0.5, 0.998)
