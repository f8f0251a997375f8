"""What every evaluator promises."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxnas import masks
from jaxnas.testing.promises import build, difference, first_line, from_numpy, programs, promise, to_numpy
from jaxnas.types import OK, STATUS, Dataset, Evaluator, PyTree, Space

B = 6  # architectures in the round

Measures = dict[str, np.ndarray]


class _Round(NamedTuple):
    """A round of an evaluator, and what it measured."""

    evaluator: Evaluator
    evaluate: Callable  # compiled where that is possible
    state: PyTree
    after: PyTree
    keys: jax.Array  # [B]
    arch: jax.Array  # int32 [B, T]
    measures: Measures  # without costs, which need not repeat


def check_evaluator(
    evaluator: Evaluator | Callable[[], Evaluator],
    space: Space,
    *,
    dataset: Dataset | None = None,
    keys_matter: bool = True,
    seed: int = 0,
) -> None:
    """Tests an evaluator on a round of six architectures, in several orders and companies.

    Args:
      evaluator: an Evaluator, or a function without arguments that makes one. Given the latter, a child is
        asked of another one, too, which has never measured it.
      space: of the architectures.
      dataset: what networks are trained on: a child's outputs have to give the measures that were reported.
      keys_matter: False for an evaluator whose measures follow from the architecture alone.
      seed: of the architectures and keys.

    Raises:
      AssertionError: says in one line which promise is broken.
    """
    fresh = None if isinstance(evaluator, Evaluator) else evaluator
    evaluator = build(evaluator, Evaluator)
    this = _measure(evaluator, space, seed)
    _check_measures(this, space)
    _check_repetition(this, keys_matter)
    _check_company(this)
    if evaluator.jittable:
        _check_compiled(this)
    if evaluator.child is not None:
        _check_children(this, build(fresh, Evaluator) if fresh else None, dataset)
    promise(all(isinstance(name, str) for name in evaluator.stats()), "stats: its keys are names")


def _measure(evaluator: Evaluator, space: Space, seed: int) -> _Round:
    key_state, key_arch, key = jax.random.split(jax.random.key(seed), 3)
    sample = jax.jit(jax.vmap(lambda key: masks.sample(key, space)))
    evaluate = jax.jit(evaluator.evaluate) if evaluator.jittable else evaluator.evaluate
    state, keys = evaluator.init(key_state), jax.random.split(key, B)
    arch = sample(jax.random.split(key_arch, B))
    try:
        after, measures = evaluate(keys, state, arch)
    except Exception as error:
        raise AssertionError(f"evaluate: a failed child never ends a search: {first_line(error)}") from error
    reported = {*evaluator.measures, *evaluator.costs, "status"}
    promise(
        set(measures) == reported,
        f"evaluate: it reports {sorted(measures)}, and announces {sorted(reported)}",
    )
    return _Round(evaluator, evaluate, state, after, keys, arch, _steady(evaluator, measures))


def _steady(evaluator: Evaluator, measures: Any) -> Measures:
    return {name: np.asarray(x) for name, x in measures.items() if name not in evaluator.costs}


def _rows(measures: Measures, index: Any) -> Measures:
    return {name: values[index] for name, values in measures.items()}


def _again(this: _Round, index: Any) -> Measures:
    """What some lanes of the round measure, asked for by themselves and in this order."""
    _, measures = this.evaluate(this.keys[index], this.state, this.arch[index])
    return _steady(this.evaluator, measures)


def _check_measures(this: _Round, space: Space) -> None:
    status = this.measures["status"]
    promise(
        (status.shape, status.dtype) == ((B,), np.int32),
        f"status: it is {status.dtype} {list(status.shape)}, and should be int32 {[B]}",
    )
    promise(((status >= 0) & (status < len(STATUS))).all(), f"status: {status.tolist()} is not all in STATUS")
    promise((status == OK).any(), f"status: none of {B} architectures succeeded; {status.tolist()}")
    unknown = set(this.evaluator.prefix) - set(this.evaluator.measures)
    promise(not unknown, f"prefix: {sorted(unknown)} are no measures")
    live = np.asarray(jax.vmap(lambda arch: masks.walk(space, arch).live)(this.arch))
    for name, values in this.measures.items():
        if name == "status":
            continue
        per_decision = name in this.evaluator.prefix
        shape = (B, space.num_steps) if per_decision else (B,)
        promise(
            (values.shape, values.dtype) == (shape, np.float32),
            f"{name}: it is {values.dtype} {list(values.shape)}, and should be float32 {list(shape)}",
        )
        counts = (status == OK)[:, None] & live if per_decision else status == OK
        promise(np.isfinite(values[counts]).all(), f"{name}: it is not finite for a child whose status is ok")
        if name == "accuracy":
            promise(np.isnan(values[status != OK]).all(), "accuracy: a failed child's is NaN")
            right = (values[counts] >= 0) & (values[counts] <= 1)
            promise(right.all(), f"accuracy: {values[counts][~right][:1].tolist()}; it lies from 0 to 1")


def _check_repetition(this: _Round, keys_matter: bool) -> None:
    changed = difference(_again(this, slice(None)), this.measures)
    promise(not changed, f"evaluate: the same keys and architectures give other measures: {changed}")
    stored = from_numpy(to_numpy(this.state), this.state)
    resumed = _steady(this.evaluator, this.evaluate(this.keys, stored, this.arch)[1])
    changed = difference(resumed, this.measures)
    promise(not changed, f"init: a state that was stored as numpy arrays measures otherwise: {changed}")
    changed = jax.tree.structure(this.state) != jax.tree.structure(this.after)
    promise(not changed, "evaluate: the state's structure changed; it never does")
    if keys_matter:
        others = jax.random.split(jax.random.key(9), B)
        _, measures = this.evaluate(others, this.state, this.arch)
        moved = difference(_steady(this.evaluator, measures), this.measures)
        promise(moved, "evaluate: other keys give the same measures; if that is so, set keys_matter=False")


def _check_company(this: _Round) -> None:
    """A child's result depends on its key and its architecture, and on nothing else in the round."""
    for index, what in (
        ([3, 0, 5, 1, 4, 2], "in another order"),
        ([2], "alone"),
        ([0, 3, 5, 2], "in other company"),
        ([2, 2, 2], "twice in a round"),
    ):
        lanes = np.array(index)
        changed = difference(_again(this, lanes), _rows(this.measures, lanes))
        promise(not changed, f"evaluate: a child measured {what} has other measures: {changed}")


def _check_compiled(this: _Round) -> None:
    count = programs(this.evaluate)
    this.evaluate(this.keys, this.after, this.arch)
    promise(programs(this.evaluate) == count, "evaluate: a second round compiled a second program")
    many = jax.jit(jax.vmap(lambda keys, arch: this.evaluator.evaluate(keys, this.state, arch)[1]))
    measures = many(this.keys.reshape(2, B // 2), this.arch.reshape(2, B // 2, -1))
    flat = {name: x.reshape(B, *x.shape[2:]) for name, x in _steady(this.evaluator, measures).items()}
    changed = difference(flat, this.measures)
    promise(not changed, f"evaluate: under vmap, a child has other measures: {changed}")


def _check_children(this: _Round, fresh: Evaluator | None, dataset: Dataset | None) -> None:
    """A child that is asked for is the one that was measured, last round or long ago."""
    child = this.evaluator.child
    assert child is not None
    for lane in np.flatnonzero(this.measures["status"] == OK)[:2]:
        lane = int(lane)
        answer = child(this.keys[lane], this.after, this.arch[lane])
        promise(answer is not None, "child: there is none for a trial whose status is ok")
        params, outputs = to_numpy(answer)
        promise(jax.tree.leaves(params), "child: its parameters are empty")
        changed = difference((params, outputs), to_numpy(child(this.keys[lane], this.after, this.arch[lane])))
        promise(not changed, f"child: asked for twice, it differs: {changed}")
        if fresh is not None and fresh.child is not None:
            again = to_numpy(fresh.child(this.keys[lane], this.state, this.arch[lane]))
            changed = difference((params, outputs), again)
            promise(not changed, f"child: an evaluator that never measured it gives another: {changed}")
        if outputs is None or dataset is None:
            continue
        wanted = (len(dataset.validation.inputs), dataset.num_outputs)
        promise(
            outputs.shape == wanted,
            f"child: its outputs are {list(outputs.shape)}, and should be {list(wanted)}",
        )
        for name, value in dataset.task.measures(outputs, dataset.validation.labels).items():
            reported = this.measures.get(name, np.full(B, value))[lane]
            promise(
                np.isclose(reported, value, rtol=1e-5, atol=1e-6),
                f"child: its outputs have {name} {value:g}, and {reported:g} was reported",
            )
