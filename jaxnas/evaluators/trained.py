"""The population trainer: trains a round's children together and measures them on the validation split.

A round is planned (`training.plan`), its jobs are carried out (`training.execution`), and the results become
measures. Everything random about a child comes from its own key, and the order of the images from the
evaluation root and the epoch, so a child's result does not depend on what is trained beside it.

Suits a search for a network to keep.
"""

import functools
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal, NamedTuple

import chex
import jax
import numpy as np

from jaxnas import training
from jaxnas.errors import InputError
from jaxnas.training import execution, plan, programs
from jaxnas.types import OK, Dataset, Evaluator, Network, PyTree

COSTS = ("peak_bytes", "train_seconds", "examples_per_second")
Trained = dict[tuple[bytes, ...], tuple[PyTree, np.ndarray]]  # by `_name`: parameters and outputs


class _Settings(NamedTuple):
    """What a round is trained by."""

    planning: plan.Settings
    execution: execution.Settings
    order_of: Callable[[bytes], np.ndarray]  # data of the root key → int32 [passes, images]
    measures: tuple[str, ...]


def population_trainer(
    network: Network,
    dataset: Dataset,
    limits: Mapping[str, float] | None = None,
    *,
    repeats: int = 1,
    population: Literal["auto", "map", "vmap"] = "auto",
    group_size: int = 0,
    workers: int = 0,
    resident_mb: int = 0,
    memory_fraction: float = 0.9,
    padding: Literal["none", "width"] = "none",
    compile_gflops: float = 50.0,
    xla_level: int | None = None,
    **recipe: Annotated[Any, training.make],
) -> Evaluator:
    """Trains every child and reports its measures on `dataset.validation`.

    Args:
      repeats: trainings of each child, from different keys; measures are then means, with the standard
        deviation of the first one beside them.
      population: map, one child after the other in a program; vmap, all at once; auto, map on a CPU.
      group_size: most children in one program; 0 takes one on a CPU and all of a structure elsewhere.
      workers: programs in flight at once on a CPU; 0 takes one a core.
      resident_mb: megabytes of training images to keep on the device, beyond which they are streamed;
        0 takes half of its memory.
      memory_fraction: share of the device's memory for data and programs; a group that the compiler says
        needs more is halved, a child alone that does has failed.
      padding: width lets children whose structures differ only in width share a program, their layers
        padded with zeros, as far as that costs less than compiling one more.
      compile_gflops: what a compilation is worth, in 10⁹ operations of training (`scripts/bench_trainer.py
        padding` measures it).
      xla_level: XLA's optimization level, 0–3; none is XLA's own.

    `limits` {measure: most} of `params` and `flops` reject a child before it is trained.

    Raises:
      InputError: a value out of its range, or an unknown optimizer.
    """
    _check(repeats, group_size, workers, resident_mb, memory_fraction, compile_gflops, xla_level)
    on_cpu = jax.default_backend() == "cpu"
    mapped = population == "map" or (population == "auto" and on_cpu)
    axis = None if mapped else programs.AXIS
    # The trainer with what an architecture chose: batch size and optimizer are structure, too.
    trainer_of = functools.cache(
        lambda chosen: training.make(network, dataset, axis, **(recipe | dict(chosen)))
    )
    trainer = trainer_of(())  # an InputError comes now
    pool = programs.Programs(mapped=mapped, workers=workers, memory_fraction=memory_fraction, level=xla_level)
    pool.count(evaluate_seconds=0.0, children=0)
    group_size = group_size or (1 if on_cpu else 1024)
    resident_bytes = resident_mb * 2**20 or programs.device_bytes() // 2
    best_of = recipe.get("best_of", 0)
    planning = plan.Settings(
        network, dataset.input_shape, trainer_of, limits or {}, repeats, group_size, padding == "width",
        compile_gflops, sizes={},
    )  # fmt: skip
    executing = execution.Settings(
        pool, trainer_of, dataset.task, dataset.train, dataset.validation, group_size, resident_bytes, best_of
    )
    train = dataset.train
    orders = functools.partial(
        execution.orders,
        inputs=len(train.inputs),
        passes=trainer.passes,
        labels=train.labels,
        balance=trainer.balance,
    )
    first = dataset.task.names[0]
    extra = (f"{first}_best_of_{best_of}",) * bool(best_of) + (f"{first}_std",) * (repeats > 1)
    names = (*dataset.task.names, *extra, "epochs", "params", "flops")
    settings = _Settings(planning, executing, functools.lru_cache(maxsize=1)(orders), names)
    children: Trained = {}  # of the last round

    def evaluate(keys: jax.Array, state: PyTree, arch: Any) -> tuple[PyTree, dict[str, np.ndarray]]:
        chex.assert_shape([keys, arch], [(len(arch),), (None, None)])
        children.clear()  # the old ones before there are new ones
        measures, trained = _train_round(settings, keys, state, np.asarray(arch))
        children.update(trained)
        return state, measures

    def child(key: jax.Array, state: PyTree, arch: Any) -> tuple[PyTree, np.ndarray] | None:
        arch = np.asarray(arch)
        name = _name(key, state, arch)
        if name not in children:
            return _train_round(settings, key[None], state, arch[None])[1].get(name)
        return children[name]

    return Evaluator(
        init=lambda key: {"root": key},
        evaluate=evaluate,
        child=child,
        measures=names,
        jittable=False,
        stats=lambda: pool.stats,
        costs=COSTS,
    )


def trained(
    network: Network,
    dataset: Dataset,
    limits: Mapping[str, float] | None = None,
    **trainer: Annotated[Any, population_trainer],
) -> Evaluator:
    """Trains every architecture on `[data]`; its options are those of `[trainer]`."""
    return population_trainer(network, dataset, limits, **trainer)


def _check(
    repeats: int, group_size: int, workers: int, resident_mb: int, memory_fraction: float,
    compile_gflops: float, xla_level: int | None,
) -> None:  # fmt: skip
    """Ranges of the options of `population_trainer`."""
    for name, value, least in (
        ("repeats", repeats, 1), ("group_size", group_size, 0), ("workers", workers, 0),
        ("resident_mb", resident_mb, 0), ("xla_level", xla_level or 0, 0),
        ("compile_gflops", compile_gflops, 0),
    ):  # fmt: skip
        if value < least:
            raise InputError(f"trainer.{name}: got {value}; it takes {least} or more")
    if not 0 < memory_fraction <= 1:
        raise InputError(f"trainer.memory_fraction: got {memory_fraction}; it takes a number in (0, 1]")


def _train_round(
    settings: _Settings, keys: jax.Array, state: PyTree, arch: np.ndarray
) -> tuple[dict[str, np.ndarray], Trained]:
    """The measures of a round, keys [B] and arch [B, T], and its children that succeeded."""
    began = time.perf_counter()
    planned = plan.plan(settings.planning, arch)
    keys_of_children = {
        (child.lane, child.repeat): _repeat(keys[child.lane], child.repeat)
        for job in planned.jobs
        for child in job.children
    }
    order = settings.order_of(np.asarray(jax.random.key_data(state["root"])).tobytes())
    results = execution.run(settings.execution, planned.jobs, keys_of_children, order)
    measures, best = _collect(settings, planned, results)
    crop, trained = settings.planning.network.crop, {}
    for lane, result in best.items():
        params = result.params
        if crop and lane in planned.padded:
            params = crop(params, planned.padded[lane])
        trained[_name(keys[lane], state, arch[lane])] = params, result.outputs
    settings.execution.pool.count(evaluate_seconds=time.perf_counter() - began)
    return measures, trained


def _collect(
    settings: _Settings, planned: plan.Plan, results: Iterable[execution.Result]
) -> tuple[dict[str, np.ndarray], dict[int, execution.Result]]:
    """The measures of a round {name: [B]}, and of each lane that succeeded the training of least loss."""
    status, first = planned.status.copy(), settings.execution.task.names[0]
    names = (*settings.measures, *COSTS)
    measures = {name: np.full(len(status), np.nan, np.float32) for name in names} | planned.sizes
    by_lane: dict[int, list[execution.Result]] = {}
    for result in results:
        by_lane.setdefault(result.lane, []).append(result)
    best = {}
    for lane, repeated in by_lane.items():
        status[lane] = max(result.status for result in repeated)  # one that fails fails the child
        if status[lane] != OK:
            continue
        best[lane] = max(repeated, key=lambda result: -result.measures["loss"])
        for name in best[lane].measures:
            measures[name][lane] = np.mean([result.measures[name] for result in repeated])
        if len(repeated) > 1:
            scores = [result.measures[first] for result in repeated]
            measures[f"{first}_std"][lane] = np.std(scores, ddof=1)
    return {**measures, "status": status}, best


def _name(key: jax.Array, state: PyTree, arch: np.ndarray) -> tuple[bytes, ...]:
    """What a child depends on, beside the data and the options."""
    data = (*(np.asarray(jax.random.key_data(k)) for k in (state["root"], key)), arch.astype(np.int32))
    return tuple(array.tobytes() for array in data)


def _repeat(key: jax.Array, repeat: int) -> jax.Array:
    return jax.random.fold_in(key, repeat) if repeat else key
