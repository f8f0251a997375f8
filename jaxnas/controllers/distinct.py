"""Proposals that are new: whatever was proposed before is sampled again."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnas import memory as rows
from jaxnas import rl
from jaxnas.errors import InputError
from jaxnas.types import Controller, Outcome, Proposal, PyTree, Space


class DistinctState(NamedTuple):
    """The controller's own state, and the architectures that it had a reward for."""

    controller: PyTree
    seen: rows.Memory


def distinct(controller: Controller, space: Space, *, tries: int = 20, memory: int = 4096) -> Controller:
    """`controller`, asked again for the lanes whose architecture an earlier trial or lane already has.

    Every try asks on the same state with a fresh key. What is still no new one after the last try is
    proposed all the same, so a search of a small space goes on when it has seen all of it. A failed trial
    is not remembered: its architecture may come again. To a policy gradient the proposals are no longer
    exactly samples of its policy.

    Args:
      controller: what proposes; its lanes must not depend on each other.
      space: of the architectures.
      tries: how often it is asked again at most, every round.
      memory: architectures remembered; beyond it the oldest are forgotten.

    Raises:
      InputError: `tries` or `memory` below 1.
    """
    for name, value in (("tries", tries), ("memory", memory)):
        if value < 1:
            raise InputError(f"search.{name}: got {value}; it takes 1 or more")

    def init(key: jax.Array) -> DistinctState:
        return DistinctState(controller.init(key), rows.empty(memory, space.num_steps))

    def ask(key: jax.Array, state: DistinctState) -> Proposal:
        keys = jax.random.split(key, tries + 1)

        def old(proposal: Proposal) -> jax.Array:  # → bool [B]
            known, _ = jax.vmap(lambda a: rows.find(state.seen, a))(proposal.arch)
            return known | rows.repeats(proposal.arch)[0]

        def again(carry: tuple[jax.Array, Proposal]) -> tuple[jax.Array, Proposal]:
            i, proposal = carry
            fresh, replace = controller.ask(keys[i], state.controller), old(proposal)

            def pick(new: jax.Array, kept: jax.Array) -> jax.Array:
                return jnp.where(replace.reshape(-1, *(1,) * (new.ndim - 1)), new, kept)

            return i + 1, jax.tree.map(pick, fresh, proposal)

        first = (jnp.ones((), jnp.int32), controller.ask(keys[0], state.controller))
        return jax.lax.while_loop(lambda c: (c[0] <= tries) & jnp.any(old(c[1])), again, first)[1]

    def tell(
        key: jax.Array, state: DistinctState, proposal: Proposal, outcome: Outcome
    ) -> tuple[DistinctState, dict[str, jax.Array]]:
        inner, metrics = controller.tell(key, state.controller, proposal, outcome)

        def remember(seen: rows.Memory, trial: tuple) -> tuple[rows.Memory, None]:
            arch, valid = trial
            return rows.push(seen, arch, (), valid & ~rows.find(seen, arch)[0]), None

        valid, _ = rl.rewards_of(proposal, outcome)
        seen, _ = jax.lax.scan(remember, state.seen, (proposal.arch, valid))
        return DistinctState(inner, seen), metrics

    return Controller(
        controller.batch_size, init, ask, tell, lambda state: controller.policy(state.controller)
    )
