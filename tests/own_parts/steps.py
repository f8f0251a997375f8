"""A reward for every decision: 0.1 for each step to the left, and 1 at the end if there was none."""

import jax.numpy as jnp

from jaxnas.types import OK, Evaluator
from tests.helpers import chain_reward


def steps(space) -> Evaluator:
    """Gives `accuracy` at every decision of the walk on a line."""

    def evaluate(keys, state, arch):
        return state, {"accuracy": chain_reward(arch), "status": jnp.full(len(arch), OK, jnp.int32)}

    return Evaluator(lambda key: (), evaluate, measures=("accuracy",), jittable=True, prefix=("accuracy",))
