"""The population trainer: trains a round's children together and measures them on the validation split.

Children of one structure are one compiled program with a population axis: `vmap` on an accelerator,
sharded over its devices; on a CPU `lax.map`, with a few programs in flight at once. Everything random
about a child comes from its own key, and the order of the images from the evaluation root and the epoch,
so a child's result does not depend on what is trained beside it.
"""

import functools
import os
import queue
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from jaxnas import environment, tasks, training
from jaxnas.errors import InputError, unknown
from jaxnas.types import DIVERGED, NO_LEGAL_SHAPE, OK, OUT_OF_MEMORY, Dataset, Evaluator, Network, PyTree


def trained(
    network: Network,
    dataset: Dataset,
    *,
    epochs: int = 5,
    batch_size: int = 128,
    optimizer: str = "adam",
    learning_rate: float = 1e-3,
    weight_decay: float = 0.0,
    mean: float = 0.5,
    std: float = 0.5,
    population: str = "auto",
    group_size: int = 0,
    workers: int = 0,
    resident_mb: int = 0,
) -> Evaluator:
    """Trains every child for `epochs` and reports its measures on `dataset.validation`.

    An epoch leaves out the remainder of its shuffle that does not fill a batch, another one each epoch.

    Args:
      epochs: passes over the training images.
      batch_size: images a training step.
      optimizer: the name of an optimizer in optax.
      learning_rate: its learning rate.
      weight_decay: decoupled where the optimizer has it (adamw), otherwise L2 in the gradient.
      mean: subtracted from pixels in 0–1.
      std: divides them then.
      population: map, vmap, or auto (map on a CPU).
      group_size: most children in one program; 0 takes one on a CPU and all of a structure elsewhere.
      workers: programs in flight at once on a CPU; 0 takes one a core.
      resident_mb: megabytes of training images to keep on the device, beyond which they are streamed;
        0 takes half of its memory.

    Raises:
      InputError: a value out of its range, or an unknown optimizer.
    """
    if population not in ("auto", "map", "vmap"):
        raise unknown("trainer.population", population, ("auto", "map", "vmap"))
    for name, value, least in (
        ("epochs", epochs, 1), ("batch_size", batch_size, 1), ("group_size", group_size, 0),
        ("workers", workers, 0), ("resident_mb", resident_mb, 0),
    ):  # fmt: skip
        if value < least:
            raise InputError(f"trainer.{name}: got {value}; it takes {least} or more")
    train, validation = dataset.train, dataset.validation
    batch_size = min(batch_size, len(train.images))
    steps = len(train.images) // batch_size
    trainer = training.make(
        network,
        dataset.task,
        dataset.class_weights,
        optimizer=optimizer,
        batch_size=batch_size,
        mean=mean,
        std=std,
    )
    on_cpu = jax.default_backend() == "cpu"
    mapped = population == "map" or (population == "auto" and on_cpu)
    largest = group_size or (1 if on_cpu else 1024)
    memory = resident_mb * 2**20 or _device_bytes() // 2
    streamed = train.images.nbytes > memory
    segment = max(1, memory // 2 // (batch_size * train.images[0].nbytes)) if streamed else steps
    programs = Programs(trainer, mapped)
    names = (*tasks.NAMES[dataset.task], "params")
    rates = {"learning_rate": np.float32(learning_rate), "weight_decay": np.float32(weight_decay)}
    last: dict[int, PyTree] = {}  # lane → parameters of the last round

    @functools.lru_cache(maxsize=1)
    def order(root: bytes) -> np.ndarray:  # → int32 [epochs, steps, batch]
        """The order of the images: a function of the evaluation root and the epoch alone."""
        key = jax.random.wrap_key_data(jnp.frombuffer(root, jnp.uint32))
        shuffle = jax.jit(lambda e: jax.random.permutation(jax.random.fold_in(key, e), len(train.images)))
        rows = np.stack([np.asarray(shuffle(e)) for e in range(epochs)]).astype(np.int32)
        return rows[:, : steps * batch_size].reshape(epochs, steps, batch_size)

    def fit(place: Any, structure: Any, keys: jax.Array, knobs: PyTree, rows: np.ndarray) -> tuple:
        """One group, keys [K] and knobs [K, ...] → host (params [K, ...], outputs [K, N, O], finite [K])."""
        call = functools.partial(programs.call, place, structure)
        images = programs.put(validation.images, place)
        if not streamed:
            shared = [programs.put(x, place) for x in (train.images, train.labels)]
            flat = jax.device_put(rows.reshape(-1, batch_size), place.shared)
            return jax.device_get(call("fit", (keys, knobs), (*shared, flat, images)))
        carry = call("begin", (keys, knobs), ())
        for epoch in rows:
            for at in (epoch[start : start + segment] for start in range(0, steps, segment)):
                local = np.arange(at.size, dtype=np.int32).reshape(at.shape)
                chunk = (train.images[at.ravel()], train.labels[at.ravel()], local)
                carry = call("advance", (keys, knobs, carry), jax.device_put(chunk, place.shared))
        outputs = call("predict", (knobs, carry.params), (images,))
        return jax.device_get((carry.params, outputs, carry.finite))

    def results(place: Any, structure: Any, members: list, rows: np.ndarray) -> list:
        """(lane, status, params, outputs) of each member; a group too large for the memory is halved."""
        lanes, keys, knobs = zip(*members, strict=True)
        pad = -len(members) % place.devices  # equal shares for every device
        stacked = jax.tree.map(lambda *leaves: np.stack([*leaves, *leaves[:1] * pad]), *knobs)
        try:
            params, outputs, finite = fit(
                place, structure, jnp.stack([*keys, *keys[:1] * pad]), stacked, rows
            )
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            if len(members) == 1:
                return [(lanes[0], OUT_OF_MEMORY, None, None)]
            halves = members[: len(members) // 2], members[len(members) // 2 :]
            return [result for half in halves for result in results(place, structure, half, rows)]
        programs.count(children=len(members))
        found = []
        for i, lane in enumerate(lanes):
            good = bool(finite[i]) and bool(np.isfinite(outputs[i]).all())
            found.append(
                (lane, OK if good else DIVERGED, jax.tree.map(lambda p, i=i: p[i], params), outputs[i])
            )
        return found

    def evaluate(keys: jax.Array, state: PyTree, arch: Any) -> tuple[PyTree, dict[str, np.ndarray]]:
        arch, B = np.asarray(arch), len(arch)
        measures = {m: np.full(B, np.nan, np.float32) for m in names}
        status = np.full(B, OK, np.int32)
        groups: dict[Any, list] = {}
        for lane in range(B):
            try:
                structure, knobs = network.plan(arch[lane])
            except InputError:
                status[lane] = NO_LEGAL_SHAPE
                continue
            groups.setdefault(structure, []).append((lane, keys[lane], {"network": knobs, **rates}))
            measures["params"][lane] = training.count_params(network, structure)
        jobs = [
            (structure, members[start : start + largest])
            for structure, members in groups.items()
            for start in range(0, len(members), largest)
        ]
        # The largest first: the last one to end then ends early.
        jobs.sort(key=lambda job: -training.count_params(network, job[0]) * len(job[1]))
        rows = order(np.asarray(jax.random.key_data(state["root"])).tobytes())
        last.clear()
        done = programs.over(
            [functools.partial(results, structure=s, members=m, rows=rows) for s, m in jobs], workers
        )
        for lane, lane_status, params, outputs in (result for group in done for result in group):
            status[lane] = lane_status
            if lane_status == OK:
                last[lane] = params
                for name, value in tasks.measures(dataset.task, outputs, validation.labels).items():
                    measures[name][lane] = value
        return state, {**measures, "status": status}

    return Evaluator(
        init=lambda key: {"root": key},
        evaluate=evaluate,
        weights=lambda state, lane: last.get(int(lane)),
        measures=names,
        jittable=False,
        stats=lambda: dict(programs.stats),
    )


def population(trainer: training.Trainer, kind: str, structure: Any, mapped: bool) -> Any:
    """A function of the trainer over a population: (arguments of each child [K, ...], shared arguments).

    With `mapped` the children run one after the other inside the program, else vectorized.
    """
    function = getattr(trainer, kind)

    def over(each: tuple, shared: tuple) -> PyTree:
        def one(arguments: tuple) -> PyTree:
            return function(structure, *arguments, *shared)

        return jax.lax.map(one, each) if mapped else jax.vmap(one)(each)

    return over


class _Place:
    """Where a program runs: one device, or all of them with the population axis sharded."""

    def __init__(self, devices: list[Any]):
        self.devices = len(devices)
        self.mesh = Mesh(np.array(devices), ("population",)) if len(devices) > 1 else None
        if self.mesh is None:
            self.each = self.shared = SingleDeviceSharding(devices[0])
        else:
            self.each = NamedSharding(self.mesh, PartitionSpec("population"))
            self.shared = NamedSharding(self.mesh, PartitionSpec())


class Programs:
    """Compiled programs by structure and group size, the data on each device, and what they cost so far."""

    def __init__(self, trainer: training.Trainer, mapped: bool):
        self.trainer, self.mapped = trainer, mapped
        self.stats = {"programs": 0, "compile_seconds": 0.0, "children": 0, "peak_bytes": 0}
        devices = jax.local_devices()
        self.places = [_Place([d]) for d in devices] if mapped else [_Place(devices)]
        self._compiled: dict[Any, Any] = {}
        self._data: dict[Any, jax.Array] = {}
        self._locks: dict[Any, threading.Lock] = {}
        self._lock = threading.Lock()

    def count(self, **amounts: float) -> None:
        """Add to the counters."""
        with self._lock:
            for name, amount in amounts.items():
                self.stats[name] += amount

    def put(self, array: np.ndarray, place: _Place) -> jax.Array:
        """An array of the data set on that place, sent there once."""
        name = (id(array), id(place))
        with self._lock:
            if name not in self._data:
                self._data[name] = jax.device_put(array, place.shared)
            return self._data[name]

    def call(self, place: _Place, structure: Any, kind: str, each: tuple, shared: tuple) -> PyTree:
        """Run the program of that kind, structure and group size, compiling it at its first use."""
        each = jax.device_put(each, place.each)
        shapes = tuple((x.shape, str(x.dtype)) for x in jax.tree.leaves((each, shared)))
        name = (kind, structure, shapes, id(place))
        with self._lock:
            lock = self._locks.setdefault(name, threading.Lock())
        with lock:
            if name not in self._compiled:
                began = time.perf_counter()
                function = population(self.trainer, kind, structure, self.mapped)
                if place.mesh is not None:
                    specs = (PartitionSpec("population"), PartitionSpec())
                    function = jax.shard_map(
                        function, mesh=place.mesh, in_specs=specs, out_specs=specs[0], check_vma=False
                    )
                compiled = self._compiled[name] = jax.jit(function).lower(each, shared).compile()
                self.count(programs=1, compile_seconds=time.perf_counter() - began)
                memory = compiled.memory_analysis()
                if memory is not None:
                    peak = memory.temp_size_in_bytes + memory.output_size_in_bytes
                    self.stats["peak_bytes"] = max(self.stats["peak_bytes"], peak)
        return self._compiled[name](each, shared)

    def over(self, jobs: list[Any], workers: int) -> list:
        """Run jobs(place), a queue of them over the places, and return their results in order."""
        if not self.mapped:
            return [job(self.places[0]) for job in jobs]
        if jax.default_backend() != "cpu":
            workers = len(self.places)
        workers = max(1, min(workers or environment.cores(), len(jobs)))
        free: queue.SimpleQueue[_Place] = queue.SimpleQueue()
        for worker in range(workers):
            free.put(self.places[worker % len(self.places)])

        def run(job: Any) -> Any:
            place = free.get()
            try:
                return job(place)
            finally:
                free.put(place)

        pool = ThreadPoolExecutor(workers)
        try:
            return list(pool.map(run, jobs))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # an interrupt does not wait for the rest


def _device_bytes() -> int:
    stats = jax.local_devices()[0].memory_stats() or {}
    return stats.get("bytes_limit") or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
