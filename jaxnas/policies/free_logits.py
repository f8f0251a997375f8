"""A table of logits, one row a decision: NATS-Bench's REINFORCE (Dong et al. 2021, https://arxiv.org/abs/2009.00437)."""

import jax
import jax.numpy as jnp

from jaxnas.policies.policy import Policy, no_critic
from jaxnas.types import PyTree, Space


def free_logits(space: Space, *, critic: bool = False) -> Policy:
    """One independent table of logits [T, A], as in NATS-Bench's REINFORCE; starts at 10⁻³·N(0, 1).

    The critic is a table of values [T], which starts at zero.
    """
    T, A = space.num_steps, space.num_choices

    def init(key: jax.Array) -> PyTree:
        table = 1e-3 * jax.random.normal(key, (T, A))
        return (table, jnp.zeros(T)) if critic else table

    def logits(params: PyTree, carry: PyTree, t: jax.Array, previous: jax.Array) -> tuple[PyTree, jax.Array]:
        del previous
        return carry, (params[0] if critic else params)[t]

    def along(params: PyTree, arch: jax.Array) -> tuple[jax.Array, jax.Array]:
        del arch
        return params if critic else (params, jnp.zeros(T))

    value = (lambda params, carry, t: params[1][t]) if critic else no_critic
    return Policy(init, lambda params: (), logits, value, along)


def shares(space: Space, arch: jax.Array) -> PyTree:  # int32 [M, T] → params of `free_logits`
    """Free logits that give each choice its share among these architectures; rows of −1 are left out.

    Where none of them made a legal choice, all legal ones are equal.
    """
    return jnp.log(jnp.sum(jax.nn.one_hot(arch, space.num_choices), axis=0) + 1e-6)
