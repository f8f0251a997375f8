"""The jobs of a round carried out: children stacked over a population axis, trained and measured.

The training data lie on the device where they fit, else they are streamed. A job that needs more memory than
there is is halved; a child alone that does has failed.
"""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.training.child import Fitted
from jaxnas.training.plan import Child, Group, Job, Options
from jaxnas.training.programs import OutOfMemory, Place, Programs
from jaxnas.training.trainer import Trainer
from jaxnas.types import DIVERGED, OK, OUT_OF_MEMORY, PyTree, Split, Task

Keys = Mapping[tuple[int, int], jax.Array]  # (lane, repeat) → key


class Settings(NamedTuple):
    """What jobs are carried out with."""

    pool: Programs
    trainer_of: Callable[[Options], Trainer]
    task: Task
    train: Split
    validation: Split
    group_size: int  # most children of a job
    resident_bytes: int  # of training inputs on the device, beyond which they are streamed
    best_of: int  # the trainer's option


class Result(NamedTuple):
    """What became of one training of one lane."""

    lane: int
    status: int
    params: PyTree
    outputs: np.ndarray | None  # [N, O] on the validation inputs
    measures: dict[str, float]


class Cost(NamedTuple):
    """Of one call of a program."""

    peak_bytes: int
    seconds: float


def run(settings: Settings, jobs: Sequence[Job], keys: Keys, order: np.ndarray) -> list[Result]:
    """The results of all children of `jobs`, in that order.

    Args:
      settings: the data, the trainers and the programs.
      jobs: of a plan.
      keys: of every child.
      order: int32 [passes, inputs], of the training inputs in each pass.
    """
    streamed = is_streamed(settings)
    compiles = [not (streamed or settings.pool.knows(("fit", *job.group))) for job in jobs]
    calls = [functools.partial(_run, settings=settings, job=job, keys=keys, order=order) for job in jobs]
    return [result for results in settings.pool.over(calls, compiles) for result in results]


def is_streamed(settings: Settings) -> bool:
    """Whether the training inputs are more than stay on the device."""
    return settings.train.inputs.nbytes > settings.resident_bytes


def orders(
    root: bytes, inputs: int, passes: int, labels: np.ndarray | None = None, balance: float = 0.0
) -> np.ndarray:  # → int32 [passes, inputs]
    """The order of the inputs: a function of the evaluation root, its key's data, and the epoch alone.

    With `balance` above 0, class c of n_c inputs comes n_c^(1 − balance) times in proportion: its inputs take
    turns, so that some of a common class wait for a later pass, and those of a rare one come again.
    """
    key = jax.random.wrap_key_data(jnp.frombuffer(root, jnp.uint32))
    shuffle = jax.jit(lambda e: jax.random.permutation(jax.random.fold_in(key, e), inputs))
    order = np.stack([np.asarray(shuffle(e)) for e in range(passes)]).astype(np.int32)
    if labels is None or not balance:
        return order
    chex.assert_shape(labels, (inputs,))
    counts = np.bincount(labels)
    shares = np.where(counts > 0, counts, 1) ** (1 - balance) * (counts > 0)
    # Places of each class in a pass, which sum to all inputs.
    ends = np.round(np.cumsum(shares) / shares.sum() * inputs).astype(int)
    balanced = np.empty_like(order)
    for c, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
        turns = order[labels[order] == c]  # of all passes, one pass after the other
        needed = passes * (end - start)
        balanced[:, start:end] = np.resize(turns, needed).reshape(passes, -1)
    # Classes mixed: the places of a pass in the order in which it has its inputs.
    return np.take_along_axis(balanced, order, axis=1)


def _run(place: Place, *, settings: Settings, job: Job, keys: Keys, order: np.ndarray) -> list[Result]:
    """The result of each child of a job; one too large for the memory is halved."""
    group, children = job
    filled = _filled(settings, place, children)
    knobs = jax.tree.map(lambda *leaves: np.stack(leaves), *(child.knobs for child in filled))
    stacked = jnp.stack([keys[child.lane, child.repeat] for child in filled])
    try:
        fitted, costs = _fit(settings, place, group, stacked, knobs, order)
    except (OutOfMemory, jax.errors.JaxRuntimeError) as error:
        if isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        if len(children) == 1:
            return [Result(children[0].lane, OUT_OF_MEMORY, None, None, {})]
        middle = len(children) // 2
        halves = Job(group, children[:middle]), Job(group, children[middle:])
        again = functools.partial(_run, place, settings=settings, keys=keys, order=order)
        return [result for half in halves for result in again(job=half)]
    settings.pool.count(children=len(children))
    # Of the children on one device, where they are trained at once.
    share = 1 if settings.pool.mapped else len(filled) // place.devices
    peak_bytes = max(cost.peak_bytes for cost in costs) / share
    seconds = max(sum(cost.seconds for cost in costs), 1e-9) / len(children)
    trainer = settings.trainer_of(group.chosen)
    return [
        _result(settings, trainer, child, jax.tree.map(lambda x, i=i: x[i], fitted), peak_bytes, seconds)
        for i, child in enumerate(children)
    ]


def _filled(settings: Settings, place: Place, children: tuple[Child, ...]) -> tuple[Child, ...]:
    """The children, and the first one again until the shape of the program is filled.

    A vectorized group is filled up to a power of two, so that few programs serve every size of group.
    """
    size = len(children)
    if not settings.pool.mapped:
        size = min(1 << (size - 1).bit_length(), settings.group_size)
    size += -size % place.devices  # equal shares for every device
    return (*children, *children[:1] * (size - len(children)))


def _fit(
    settings: Settings, place: Place, group: Group, keys: jax.Array, knobs: PyTree, order: np.ndarray
) -> tuple[Fitted, list[Cost]]:
    """One group, keys [K] and knobs [K, ...] → Fitted on the host [K, ...], and what its calls cost."""
    trainer = settings.trainer_of(group.chosen)
    steps, batch_size = trainer.steps, trainer.batch_size
    rows = np.resize(order.T, (steps * batch_size, trainer.passes)).T  # a last batch is filled from the front
    rows = rows.reshape(trainer.passes, steps, batch_size)
    costs: list[Cost] = []
    call = functools.partial(_call, settings, place, group, costs)
    seen = tuple(settings.pool.put(x, place) for x in settings.validation)
    if is_streamed(settings):
        return _stream(settings, place, trainer, call, (keys, knobs), rows, seen), costs
    shared = [settings.pool.put(x, place) for x in settings.train]
    fitted = call("fit", (keys, knobs), (*shared, jax.device_put(rows, place.shared), seen))
    return jax.device_get(fitted), costs


def _stream(
    settings: Settings,
    place: Place,
    trainer: Trainer,
    call: Callable[[str, tuple, tuple], PyTree],
    children: tuple[jax.Array, PyTree],  # keys [K], knobs [K, ...]
    rows: np.ndarray,  # int32 [E, S, batch]
    seen: tuple,
) -> Fitted:
    """The same as `fit`, with as many steps in a call as the device has room for inputs."""
    train = settings.train
    carry = call("begin", children, (seen,))
    segment = max(1, settings.resident_bytes // 2 // (trainer.batch_size * train.inputs[0].nbytes))
    for epoch in rows:
        for indices in (epoch[start : start + segment] for start in range(0, trainer.steps, segment)):
            local = np.arange(indices.size, dtype=np.int32).reshape(indices.shape)
            chunk = (train.inputs[indices.ravel()], train.labels[indices.ravel()], local)
            carry = call("advance", (*children, carry), jax.device_put(chunk, place.shared))
        carry = call("close", (*children, carry), (seen,))
        if not np.asarray(jax.vmap(trainer.live)(carry)).any():
            break
    return jax.device_get(call("finish", (*children, carry), (seen,)))


def _call(
    settings: Settings, place: Place, group: Group, costs: list[Cost],
    kind: str, per_child: tuple, shared: tuple,
) -> PyTree:  # fmt: skip
    """The trainer's function `kind` over a population, its cost appended to `costs`."""
    pool = settings.pool
    per_child = jax.device_put(per_child, place.each)
    function = functools.partial(getattr(settings.trainer_of(group.chosen), kind), group.structure)
    program = pool.get(place, (kind, *group), function, per_child, shared)
    with pool.schedule.busy("training"):
        began = time.perf_counter()
        result = jax.block_until_ready(program.call(per_child, shared))
        costs.append(Cost(program.peak_bytes, time.perf_counter() - began))
    return result


def _result(
    settings: Settings, trainer: Trainer, child: Child, fitted: Fitted, peak_bytes: float, seconds: float
) -> Result:
    """The measures of one child, or that its training diverged."""
    task, best_of, outputs = settings.task, settings.best_of, np.asarray(fitted.outputs)
    if not (fitted.finite and np.isfinite(outputs).all()):
        return Result(child.lane, DIVERGED, None, None, {})
    epochs = float(fitted.epochs)
    measures = task.measures(outputs, settings.validation.labels) | {
        "epochs": epochs,
        "peak_bytes": peak_bytes,
        "train_seconds": seconds,
        "examples_per_second": epochs * trainer.steps * trainer.batch_size / seconds,
    }
    if best_of:
        measures[f"{task.names[0]}_best_of_{best_of}"] = float(fitted.best_of)
    return Result(child.lane, OK, fitted.params, outputs, measures)
