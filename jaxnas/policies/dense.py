"""Dense layers over the choices so far (https://github.com/michelesalvucci/DLMAIRIL_RL_based_NAS)."""

import itertools

import jax
import jax.numpy as jnp

from jaxnas.policies.policy import Policy, no_critic
from jaxnas.types import PyTree, Space


def dense(space: Space, *, units: int = 35, critic: bool = False) -> Policy:
    """Two layers of ReLUs over the choices so far, and one softmax that all decisions share.

    The input is the vector of the choices themselves, −1 where none is made yet. Glorot's uniform kernels,
    zero biases. The NASNet controller of https://github.com/michelesalvucci/DLMAIRIL_RL_based_NAS (35
    units); the critic, which that does not have, is one more output.
    """
    T, A = space.num_steps, space.num_choices
    widths = (T, units, units, A + critic)

    def init(key: jax.Array) -> PyTree:
        glorot, keys = jax.nn.initializers.glorot_uniform(), jax.random.split(key, len(widths) - 1)
        layers = zip(keys, itertools.pairwise(widths), strict=True)
        return [(glorot(k, shape), jnp.zeros(shape[1])) for k, shape in layers]

    def outputs(params: PyTree, choices: jax.Array) -> jax.Array:  # [T] → [A + critic]
        *hidden, (kernel, bias) = params
        for weights, offsets in hidden:
            choices = jax.nn.relu(choices @ weights + offsets)
        return choices @ kernel + bias

    def logits(params: PyTree, carry: PyTree, t: jax.Array, previous: jax.Array) -> tuple[PyTree, jax.Array]:
        choices = jnp.where(jnp.arange(T) == t - 1, previous.astype(jnp.float32), carry)
        return choices, outputs(params, choices)[:A]

    value = (lambda params, carry, t: outputs(params, carry)[A]) if critic else no_critic
    return Policy(init, lambda params: jnp.full(T, -1.0), logits, value)
