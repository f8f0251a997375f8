"""Random search: every decision uniform over the legal choices.

Li & Talwalkar, "Random Search and Reproducibility for Neural Architecture Search", 2019,
https://arxiv.org/abs/1902.07638: the baseline that every controller has to beat at equal budget.

Suits every space, and every comparison: what does not beat it at equal budget has learned nothing.
"""

import jax
import jax.numpy as jnp

from jaxnas import masks, policies
from jaxnas.errors import InputError
from jaxnas.types import Controller, Proposal, PyTree, Space


def random(space: Space, *, batch_size: int = 8) -> Controller:
    """Proposes independent random architectures and learns nothing.

    Args:
      batch_size: architectures proposed a round.

    Raises:
      InputError: `batch_size` below 1.
    """
    if batch_size < 1:
        raise InputError(f"controller.batch_size: got {batch_size}; it takes 1 or more")
    uniform = policies.free_logits(space)
    no_logits = jnp.zeros((space.num_steps, space.num_choices))

    def ask(key: jax.Array, state: PyTree) -> Proposal:
        del state
        keys = jax.random.split(key, batch_size)
        return Proposal(jax.vmap(lambda k: masks.sample(k, space))(keys), memo=())

    return Controller(
        batch_size,
        init=lambda key: (),
        ask=ask,
        tell=lambda key, state, proposal, outcome: (state, {}),
        policy=lambda state: policies.greedy(uniform, space, no_logits),
    )
