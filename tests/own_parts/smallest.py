"""A controller that reads measures: the smallest architecture among those that are accurate enough."""

import jax
import jax.numpy as jnp

from jaxnas import masks
from jaxnas.types import OK, Controller, Proposal


def smallest(space, *, batch_size: int = 4, floor: float = 0.5) -> Controller:
    """Changes one decision of the smallest architecture so far whose accuracy is `floor` or more.

    Args:
      batch_size: proposals a round.
      floor: the least accuracy that is enough.
    """

    def init(key):
        return {"arch": masks.sample(key, space), "params": jnp.float32(jnp.inf)}

    def ask(key, state):
        among = masks.changes(space, state["arch"])
        mutants = jax.vmap(lambda k: masks.mutate(k, space, state["arch"], among))
        return Proposal(mutants(jax.random.split(key, batch_size)), memo=())

    def tell(key, state, proposal, outcome):
        enough = (outcome.status == OK) & (outcome.measures["accuracy"] >= floor)
        params = jnp.where(enough, outcome.measures["params"], jnp.inf)
        lane = jnp.argmin(params)
        better = params[lane] < state["params"]
        state = {
            "arch": jnp.where(better, proposal.arch[lane], state["arch"]),
            "params": jnp.where(better, params[lane], state["params"]),
        }
        return state, {"smallest": jnp.where(jnp.isinf(state["params"]), 0.0, state["params"])}

    def policy(state):
        return state["arch"], jax.nn.one_hot(state["arch"], space.num_choices)

    return Controller(batch_size, init, ask, tell, policy)
