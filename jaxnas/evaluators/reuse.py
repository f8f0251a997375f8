"""A result is recorded once: an architecture that is proposed again gets the measures of its first trial.

So MetaQNN treats networks that were sampled before (Baker et al. 2017, https://arxiv.org/abs/1611.02167).
"""

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jaxnas import memory as rows
from jaxnas.errors import InputError
from jaxnas.types import OK, Evaluator, PyTree, Space


class ReuseState(NamedTuple):
    """The evaluator's own state, and the results so far."""

    evaluator: PyTree
    results: rows.Memory  # of children that did not fail; its values are a `_Result`


class _Result(NamedTuple):
    """What is recorded of an architecture."""

    measures: dict[str, jax.Array]  # {measure: []}, [T] of a prefix measure
    key: jax.Array | None  # the data of the key that its child was made from, where children can be asked for


class _Lookup(NamedTuple):
    """What is known of a round before anything is measured."""

    recorded: dict[str, jax.Array]  # {measure: [B]} of the earlier trial, where there is one
    known: jax.Array  # bool [B] there is one
    repeated: jax.Array  # bool [B] equals an earlier lane of this round
    first: jax.Array  # int32 [B] that lane, itself if it is none


def reuse(evaluator: Evaluator, space: Space, *, memory: int = 4096) -> Evaluator:
    """`evaluator`, which measures every architecture once; the measure `reused` is 1 where it did not.

    Lanes of a round that are equal share the result of the first of them. A failed child is not recorded:
    proposed in a later round it is tried anew, with the new trial's key. An evaluator on the host is called
    for new architectures alone; a compiled one computes every lane, and what is recorded replaces it. The
    results are part of the search's state, so a search that is resumed knows them. The child of a trial
    whose result was reused is that of the trial that was measured.

    Args:
      evaluator: what measures.
      space: of the architectures.
      memory: results kept; beyond it the oldest are forgotten.

    Raises:
      InputError: `memory` below 1.
    """
    if memory < 1:
        raise InputError(f"search.memory: got {memory}; it takes 1 or more")

    def key_data(keys: jax.Array) -> jax.Array | None:
        return None if evaluator.child is None else jax.random.key_data(keys)

    def init(key: jax.Array) -> ReuseState:
        empty = {
            name: jnp.zeros(space.num_steps if name in evaluator.prefix else ())
            for name in (*evaluator.measures, *evaluator.costs)
        }
        results = rows.empty(memory, space.num_steps, _Result(empty, key_data(key)))
        return ReuseState(evaluator.init(key), results)

    @jax.jit
    def look(results: rows.Memory, arch: jax.Array) -> _Lookup:
        known, row = jax.vmap(lambda a: rows.find(results, a))(arch)
        return _Lookup({m: v[row] for m, v in results.values.measures.items()}, known, *rows.repeats(arch))

    @jax.jit
    def settle(
        results: rows.Memory, keys: jax.Array, arch: jax.Array, lookup: _Lookup, fresh: dict[str, jax.Array]
    ) -> tuple[rows.Memory, dict[str, jax.Array]]:
        shared = {name: jnp.asarray(values)[lookup.first] for name, values in fresh.items()}
        earlier = {**lookup.recorded, "status": jnp.full(len(arch), OK, jnp.int32)}
        measures = {m: jax.vmap(jnp.where)(lookup.known, earlier[m], shared[m]) for m in earlier}
        keep = ~lookup.known & ~lookup.repeated & (measures["status"] == OK)
        values = _Result({name: measures[name] for name in lookup.recorded}, key_data(keys))
        results, _ = jax.lax.scan(lambda r, row: (rows.push(r, *row), None), results, (arch, values, keep))
        return results, {**measures, "reused": (lookup.known | lookup.repeated).astype(jnp.float32)}

    def evaluate(keys: jax.Array, state: ReuseState, arch: Any) -> tuple[ReuseState, dict[str, jax.Array]]:
        chex.assert_shape([keys, arch], [(len(arch),), (None, space.num_steps)])
        lookup = look(state.results, arch)
        if evaluator.jittable:
            inner, fresh = evaluator.evaluate(keys, state.evaluator, arch)
        else:
            new = np.flatnonzero(~np.asarray(lookup.known | lookup.repeated))
            inner, fresh = state.evaluator, lookup.recorded | {"status": jnp.zeros(len(arch), jnp.int32)}
            if len(new):
                inner, measured = evaluator.evaluate(keys[new], inner, np.asarray(arch)[new])
                fresh = {name: _spread(measured[name], new, len(arch)) for name in fresh}
        results, measures = settle(state.results, keys, arch, lookup, fresh)
        return ReuseState(inner, results), measures

    def child(key: jax.Array, state: ReuseState, arch: Any) -> tuple[PyTree, np.ndarray | None] | None:
        assert evaluator.child is not None
        known, row = rows.find(state.results, jnp.asarray(arch))
        if known:
            key = jax.random.wrap_key_data(state.results.values.key[row], impl=jax.random.key_impl(key))
        return evaluator.child(key, state.evaluator, arch)

    return evaluator._replace(
        init=init,
        evaluate=evaluate,
        child=child if evaluator.child else None,
        measures=(*evaluator.measures, "reused"),
    )


def _spread(values: Any, lanes: np.ndarray, batch_size: int) -> np.ndarray:  # [len(lanes), …] → [B, …]
    values = np.asarray(values)
    spread = np.zeros((batch_size, *values.shape[1:]), values.dtype)
    spread[lanes] = values
    return spread
