"""The population trainer: trains a round's children together and measures them on the validation split.

Everything random about a child comes from its own key, and the order of the images from the evaluation
root and the epoch, so a child's result does not depend on what is trained beside it.

Suits a search for a network to keep.
"""

import functools
import time
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jaxnas import training
from jaxnas.errors import InputError
from jaxnas.training import programs
from jaxnas.types import (
    DIVERGED,
    NO_LEGAL_SHAPE,
    OK,
    OUT_OF_MEMORY,
    REJECTED,
    Dataset,
    Evaluator,
    Network,
    PyTree,
)


class _Group(NamedTuple):
    """What children have in common that share a program."""

    structure: Any
    chosen: tuple[tuple[str, Any], ...]  # options of the trainer that the architecture decides


class _Child(NamedTuple):
    """One training of one lane."""

    lane: int
    key: jax.Array
    knobs: PyTree


class _Result(NamedTuple):
    lane: int
    status: int
    params: PyTree
    outputs: np.ndarray | None  # [N, O] on the validation images
    measures: dict[str, float]


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
    for name, value, least in (
        ("repeats", repeats, 1), ("group_size", group_size, 0), ("workers", workers, 0),
        ("resident_mb", resident_mb, 0), ("xla_level", xla_level or 0, 0),
        ("compile_gflops", compile_gflops, 0),
    ):  # fmt: skip
        if value < least:
            raise InputError(f"trainer.{name}: got {value}; it takes {least} or more")
    if not 0 < memory_fraction <= 1:
        raise InputError(f"trainer.memory_fraction: got {memory_fraction}; it takes a number in (0, 1]")
    task, (train, validation) = dataset.task, (dataset.train, dataset.validation)
    on_cpu = jax.default_backend() == "cpu"
    mapped = population == "map" or (population == "auto" and on_cpu)
    axis = None if mapped else programs.AXIS

    @functools.cache
    def trainer_of(chosen: tuple[tuple[str, Any], ...]) -> training.Trainer:
        """The trainer with what an architecture chose: batch size and optimizer are structure, too."""
        return training.make(network, dataset, axis, **(recipe | dict(chosen)))

    trainer_of(())  # an InputError comes now
    pool = programs.Programs(mapped=mapped, workers=workers, memory_fraction=memory_fraction, level=xla_level)
    pool.count(evaluate_seconds=0.0, children=0)
    largest = group_size or (1 if on_cpu else 1024)
    resident = resident_mb * 2**20 or programs.device_bytes() // 2
    streamed = train.inputs.nbytes > resident
    sizes: dict[Any, dict[str, float]] = {}  # structure → params, flops
    children: dict[tuple[bytes, ...], tuple[PyTree, np.ndarray]] = {}  # of the last round, by `_name`
    first = task.names[0]
    best_of = recipe.get("best_of", 0)
    extra = (f"{first}_best_of_{best_of}",) * bool(best_of) + (f"{first}_std",) * (repeats > 1)
    names = (*task.names, *extra, "epochs", "params", "flops")
    costs = ("peak_bytes", "train_seconds", "examples_per_second")

    @functools.lru_cache(maxsize=1)
    def orders(root: bytes) -> np.ndarray:  # → int32 [passes, images]
        """The order of the images: a function of the evaluation root and the epoch alone."""
        key = jax.random.wrap_key_data(jnp.frombuffer(root, jnp.uint32))
        shuffle = jax.jit(lambda e: jax.random.permutation(jax.random.fold_in(key, e), len(train.inputs)))
        passes = trainer_of(()).passes
        return np.stack([np.asarray(shuffle(e)) for e in range(passes)]).astype(np.int32)

    def size_of(structure: Any, knobs: PyTree) -> dict[str, float]:
        if structure not in sizes:
            while len(sizes) >= 4096:
                sizes.pop(next(iter(sizes)))
            sizes[structure] = {
                "params": training.count_params(network, structure),
                "flops": training.count_flops(network, structure, knobs, dataset.input_shape),
            }
        return sizes[structure]

    def widened(structure: Any, knobs: PyTree, trainer: training.Trainer) -> Any:
        """The widest structure whose extra work a compilation outweighs: it depends on the child alone."""
        chosen, examples = structure, trainer.passes * trainer.steps * trainer.batch_size
        for wider in network.widen(structure) if padding == "width" and network.widen else ():
            extra = size_of(wider, knobs)["flops"] - size_of(structure, knobs)["flops"]
            if 3 * extra * examples > compile_gflops * 1e9:  # forward once, backward twice
                break
            chosen = wider
        return chosen

    def fit(place: Any, group: _Group, keys: jax.Array, knobs: PyTree, order: np.ndarray) -> tuple:
        """One group, keys [K] and knobs [K, ...] → (Fitted on the host [K, ...], peak bytes, seconds)."""
        seconds, peak, structure = 0.0, 0, group.structure
        trainer = trainer_of(group.chosen)
        steps, batch_size = trainer.steps, trainer.batch_size
        rows = order[:, : steps * batch_size].reshape(trainer.passes, steps, batch_size)

        def call(kind: str, each: tuple, shared: tuple) -> PyTree:
            nonlocal seconds, peak
            each = jax.device_put(each, place.each)
            function = functools.partial(getattr(trainer, kind), structure)
            program = pool.get(place, (kind, *group), function, each, shared)
            with pool.schedule.busy("training"):
                began = time.perf_counter()
                result = jax.block_until_ready(program.call(each, shared))
                seconds, peak = seconds + time.perf_counter() - began, max(peak, program.peak_bytes)
            return result

        seen = tuple(pool.put(x, place) for x in validation)
        if not streamed:
            shared = [pool.put(x, place) for x in train]
            fitted = call("fit", (keys, knobs), (*shared, jax.device_put(rows, place.shared), seen))
            return jax.device_get(fitted), peak, seconds
        carry = call("begin", (keys, knobs), (seen,))
        segment = max(1, resident // 2 // (batch_size * train.inputs[0].nbytes))
        for epoch in rows:
            for at in (epoch[start : start + segment] for start in range(0, steps, segment)):
                local = np.arange(at.size, dtype=np.int32).reshape(at.shape)
                chunk = (train.inputs[at.ravel()], train.labels[at.ravel()], local)
                carry = call("advance", (keys, knobs, carry), jax.device_put(chunk, place.shared))
            carry = call("close", (keys, knobs, carry), (seen,))
            if not np.asarray(jax.vmap(trainer.live)(carry)).any():
                break
        return jax.device_get(call("finish", (keys, knobs, carry), (seen,))), peak, seconds

    def results(place: Any, group: _Group, members: list[_Child], order: np.ndarray) -> list[_Result]:
        """The result of each member; a group too large for the memory is halved."""
        # A vectorized group is filled up to a power of two, so that few programs serve every size of group.
        size = len(members) if mapped else min(1 << (len(members) - 1).bit_length(), largest)
        size += -size % place.devices  # equal shares for every device
        padded = [*members, *members[:1] * (size - len(members))]
        knobs = jax.tree.map(lambda *leaves: np.stack(leaves), *(child.knobs for child in padded))
        try:
            fitted, peak, seconds = fit(
                place, group, jnp.stack([child.key for child in padded]), knobs, order
            )
        except (programs.OutOfMemory, jax.errors.JaxRuntimeError) as error:
            if isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" not in str(error):
                raise
            if len(members) == 1:
                return [_Result(members[0].lane, OUT_OF_MEMORY, None, None, {})]
            halves = members[: len(members) // 2], members[len(members) // 2 :]
            return [result for half in halves for result in results(place, group, half, order)]
        pool.count(children=len(members))
        trainer, found = trainer_of(group.chosen), []
        for i, child in enumerate(members):
            one = jax.tree.map(lambda x, i=i: x[i], fitted)
            if not (one.finite and np.isfinite(one.outputs).all()):
                found.append(_Result(child.lane, DIVERGED, None, None, {}))
                continue
            measured = task.measures(one.outputs, validation.labels)
            share = 1 if mapped else len(padded) // place.devices  # of the children on one device
            measured |= {"epochs": float(one.epochs), "peak_bytes": peak / share}
            measured |= {f"{first}_best_of_{best_of}": float(one.best_of)} if best_of else {}
            each = max(seconds, 1e-9) / len(members)
            rate = float(one.epochs) * trainer.steps * trainer.batch_size / each
            measured |= {"train_seconds": each, "examples_per_second": rate}
            found.append(_Result(child.lane, OK, one.params, one.outputs, measured))
        return found

    def train_round(
        keys: jax.Array, state: PyTree, arch: Any
    ) -> tuple[dict[str, np.ndarray], dict[tuple[bytes, ...], tuple[PyTree, np.ndarray]]]:
        """The measures of a round, and the parameters and outputs of its children that succeeded."""
        began = time.perf_counter()
        arch, B = np.asarray(arch), len(arch)
        measures = {m: np.full(B, np.nan, np.float32) for m in (*names, *costs)}
        status = np.full(B, OK, np.int32)
        groups: dict[_Group, list[_Child]] = {}
        own: dict[int, Any] = {}  # lane → the structure that its program pads
        for lane in range(B):
            try:
                structure, knobs = network.plan(arch[lane])
            except InputError:
                status[lane] = NO_LEGAL_SHAPE
                continue
            size = size_of(structure, knobs)
            for name, value in size.items():
                measures[name][lane] = value
            if any(size[name] > most for name, most in (limits or {}).items()):
                status[lane] = REJECTED
                continue
            chosen = dict(network.trainer_options(arch[lane])) if network.trainer_options else {}
            rates = {n: np.float32(chosen.pop(n)) for n in training.RATES if n in chosen}
            key_of_trainer = tuple(sorted(chosen.items()))
            trainer = trainer_of(key_of_trainer)
            program = _Group(widened(structure, knobs, trainer), key_of_trainer)
            if padding == "width" and network.pad:
                own[lane], knobs = structure, network.pad(structure, knobs)
            groups.setdefault(program, []).extend(
                _Child(lane, _repeat(keys[lane], repeat), {"network": knobs, **trainer.rates, **rates})
                for repeat in range(repeats)
            )
        jobs = [
            (group, members[start : start + largest])
            for group, members in groups.items()
            for start in range(0, len(members), largest)
        ]
        # The largest first: the last one to end then ends early.
        jobs.sort(key=lambda job: -training.count_params(network, job[0].structure) * len(job[1]))
        compiles = [not (streamed or pool.knows(("fit", *group))) for group, _ in jobs]
        order = orders(np.asarray(jax.random.key_data(state["root"])).tobytes())
        made = {}
        calls = [functools.partial(results, group=g, members=m, order=order) for g, m in jobs]
        done = pool.over(calls, compiles)
        by_lane: dict[int, list[_Result]] = {}
        for result in (result for group in done for result in group):
            by_lane.setdefault(result.lane, []).append(result)
        for lane, repeated in by_lane.items():
            status[lane] = max(result.status for result in repeated)  # one that fails fails the child
            if status[lane] == OK:
                best = max(repeated, key=lambda result: -result.measures["loss"])
                crop = network.crop
                params = crop(best.params, own[lane]) if crop and lane in own else best.params
                made[_name(keys[lane], state, arch[lane])] = params, best.outputs
                values = {m: [result.measures[m] for result in repeated] for m in best.measures}
                for name, each in values.items():
                    measures[name][lane] = np.mean(each)
                if repeats > 1:
                    measures[f"{first}_std"][lane] = np.std(values[first], ddof=1)
        pool.count(evaluate_seconds=time.perf_counter() - began)
        return {**measures, "status": status}, made

    def evaluate(keys: jax.Array, state: PyTree, arch: Any) -> tuple[PyTree, dict[str, np.ndarray]]:
        chex.assert_shape([keys, arch], [(len(arch),), (None, None)])
        children.clear()  # the old ones before there are new ones
        measures, made = train_round(keys, state, arch)
        children.update(made)
        return state, measures

    def child(key: jax.Array, state: PyTree, arch: Any) -> tuple[PyTree, np.ndarray] | None:
        name = _name(key, state, np.asarray(arch))
        if name not in children:
            return train_round(key[None], state, np.asarray(arch)[None])[1].get(name)
        return children[name]

    return Evaluator(
        init=lambda key: {"root": key},
        evaluate=evaluate,
        child=child,
        measures=names,
        jittable=False,
        stats=lambda: pool.stats,
        costs=costs,
    )


def trained(
    network: Network,
    dataset: Dataset,
    limits: Mapping[str, float] | None = None,
    **trainer: Annotated[Any, population_trainer],
) -> Evaluator:
    """Trains every architecture on `[data]`; its options are those of `[trainer]`."""
    return population_trainer(network, dataset, limits, **trainer)


def _name(key: jax.Array, state: PyTree, arch: np.ndarray) -> tuple[bytes, ...]:
    """What a child depends on, beside the data and the options."""
    data = (*(np.asarray(jax.random.key_data(k)) for k in (state["root"], key)), arch.astype(np.int32))
    return tuple(array.tobytes() for array in data)


def _repeat(key: jax.Array, repeat: int) -> jax.Array:
    return jax.random.fold_in(key, repeat) if repeat else key
