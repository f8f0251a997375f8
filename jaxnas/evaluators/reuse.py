"""A result is recorded once: an architecture that is proposed again gets the measures of its first trial.

So MetaQNN treats networks that were sampled before (Baker et al. 2017, https://arxiv.org/abs/1611.02167).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas import memory as rows
from jaxnas.errors import InputError
from jaxnas.types import OK, Evaluator, PyTree, Space


class ReuseState(NamedTuple):
    """The evaluator's own state, and the results so far."""

    evaluator: PyTree
    results: (
        rows.Memory
    )  # of children that did not fail; its values are {measure: [M]}, [M, T] of a prefix measure


class _Looked(NamedTuple):
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
    results are part of the search's state, so a search that is resumed knows them.

    Args:
      evaluator: what measures.
      space: of the architectures.
      memory: results kept; beyond it the oldest are forgotten.

    Raises:
      InputError: `memory` below 1.
    """
    if memory < 1:
        raise InputError(f"search.memory: got {memory}; it takes 1 or more")
    names = (*evaluator.measures, *evaluator.costs)
    place: dict[int, int] = {}  # lane → its lane in the evaluator's last round

    def init(key: jax.Array) -> ReuseState:
        shape = {name: (space.num_steps,) if name in evaluator.prefix else () for name in names}
        none = {name: jnp.zeros(shape[name]) for name in names}
        return ReuseState(evaluator.init(key), rows.empty(memory, space.num_steps, none))

    @jax.jit
    def look(results: rows.Memory, arch: jax.Array) -> _Looked:
        known, row = jax.vmap(lambda a: rows.find(results, a))(arch)
        return _Looked({m: v[row] for m, v in results.values.items()}, known, *rows.repeats(arch))

    @jax.jit
    def settle(
        results: rows.Memory, arch: jax.Array, looked: _Looked, fresh: dict[str, jax.Array]
    ) -> tuple[rows.Memory, dict[str, jax.Array]]:
        shared = {name: jnp.asarray(values)[looked.first] for name, values in fresh.items()}
        earlier = {**looked.recorded, "status": jnp.full(len(arch), OK, jnp.int32)}

        def pick(recorded: jax.Array, measured: jax.Array) -> jax.Array:  # [B], or [B, T] of a prefix measure
            known = looked.known.reshape(-1, *(1,) * (recorded.ndim - 1))
            return jnp.where(known, recorded, measured)

        measures = {m: pick(earlier[m], shared[m]) for m in earlier}
        keep = ~looked.known & ~looked.repeated & (measures["status"] == OK)
        values = {name: measures[name] for name in looked.recorded}
        results, _ = jax.lax.scan(lambda r, row: (rows.push(r, *row), None), results, (arch, values, keep))
        return results, {**measures, "reused": (looked.known | looked.repeated).astype(jnp.float32)}

    def evaluate(keys: jax.Array, state: ReuseState, arch: Any) -> tuple[ReuseState, dict[str, jax.Array]]:
        looked = look(state.results, arch)
        if evaluator.jittable:
            inner, fresh = evaluator.evaluate(keys, state.evaluator, arch)
        else:
            new = np.flatnonzero(~np.asarray(looked.known | looked.repeated))
            place.clear()
            place.update({int(lane): at for at, lane in enumerate(new)})
            inner, fresh = state.evaluator, looked.recorded | {"status": jnp.zeros(len(arch), jnp.int32)}
            if len(new):
                inner, found = evaluator.evaluate(keys[new], inner, np.asarray(arch)[new])
                fresh = {name: _spread(found[name], new, len(arch)) for name in fresh}
        results, measures = settle(state.results, arch, looked, fresh)
        return ReuseState(inner, results), measures

    def of_lane(kept: Callable | None) -> Callable | None:
        def found(state: ReuseState, lane: int) -> PyTree:
            at = int(lane) if evaluator.jittable else place.get(int(lane))
            return None if at is None or kept is None else kept(state.evaluator, at)

        return None if kept is None else found

    return evaluator._replace(
        init=init,
        evaluate=evaluate,
        weights=of_lane(evaluator.weights),
        outputs=of_lane(evaluator.outputs),
        measures=(*evaluator.measures, "reused"),
    )


def _spread(values: Any, lanes: np.ndarray, batch_size: int) -> np.ndarray:  # [lanes, ...] → [B, ...]
    values = np.asarray(values)
    spread = np.zeros((batch_size, *values.shape[1:]), values.dtype)
    spread[lanes] = values
    return spread
