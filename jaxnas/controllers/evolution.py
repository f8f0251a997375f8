"""Regularized evolution: the fittest of a few parents gets a mutated child, and the oldest dies.

Real, Aggarwal, Huang & Le, "Regularized Evolution for Image Classifier Architecture Search", 2019,
https://arxiv.org/abs/1802.01548, algorithm 1.

Suits every space and noisy rewards, without a learning rate to tune.
"""

import jax
import jax.numpy as jnp

from jaxnas import masks, policies, rl
from jaxnas import memory as rows
from jaxnas.errors import require
from jaxnas.types import Controller, Outcome, Proposal, Space


def evolution(
    space: Space, *, batch_size: int = 8, population_size: int = 10, sample_size: int = 3
) -> Controller:
    """Mutates one decision of the best of a random sample of the last `population_size` children.

    Proposes random architectures until the population is full. A mutation changes one decision to another
    legal choice, both uniform; later decisions that it makes illegal are drawn anew. The children of a
    round have their parents in the same population. A failed child never enters it. The policy is the
    share that every choice has in the population.

    The defaults are those of NATS-Bench (https://arxiv.org/abs/2009.00437), for a few hundred trials; the
    paper has a population of 100 and samples of 25 for 20,000, and one child at a time: batch_size 1.

    Args:
      batch_size: architectures proposed a round.
      population_size: P, children that live; the oldest dies when one more comes.
      sample_size: S, candidates for a parent, drawn with replacement.

    Raises:
      InputError: a value out of its range.
    """
    require(
        "controller",
        ("batch_size", batch_size, batch_size >= 1, "1 or more"),
        ("population_size", population_size, population_size >= 1, "1 or more"),
        ("sample_size", sample_size, sample_size >= 1, "1 or more"),
    )

    def init(key: jax.Array) -> rows.Memory:
        del key
        return rows.empty(population_size, space.num_steps, jnp.zeros(()))

    def child(key: jax.Array, population: rows.Memory) -> jax.Array:  # → int32 [T]
        key_sample, key_mutation = jax.random.split(key)
        candidates, reward = rows.sample_rows(key_sample, population, sample_size)
        parent = candidates[jnp.argmax(reward)]
        return masks.mutate(key_mutation, space, parent, masks.changes(space, parent))

    def ask(key: jax.Array, population: rows.Memory) -> Proposal:
        keys = jax.random.split(key, batch_size)
        founders = jax.vmap(lambda k: masks.sample(k, space))(keys)
        children = jax.vmap(lambda k: child(k, population))(keys)
        is_full = rows.filled(population) == population_size
        return Proposal(jnp.where(is_full, children, founders), memo=())

    def tell(
        key: jax.Array, population: rows.Memory, proposal: Proposal, outcome: Outcome
    ) -> tuple[rows.Memory, dict[str, jax.Array]]:
        del key
        valid, reward = rl.rewards_of(proposal, outcome)

        def live(population: rows.Memory, trial: tuple) -> tuple[rows.Memory, None]:
            return rows.push(population, *trial), None

        population, _ = jax.lax.scan(live, population, (proposal.arch, jnp.sum(reward, axis=-1), valid))
        alive = jnp.arange(population_size) < rows.filled(population)
        best = jnp.max(jnp.where(alive, population.values, -jnp.inf))
        metrics = {
            "population": rows.filled(population),
            "population_best": jnp.where(jnp.any(alive), best, 0.0),
            "population_mean": rl.masked_mean(population.values, alive),
        }
        return population, metrics

    uniform = policies.free_logits(space)
    return Controller(
        batch_size, init, ask, tell, lambda s: policies.greedy(uniform, space, policies.shares(space, s.arch))
    )
