"""Compiled programs over a population of children: where they run, what they need, what they cost.

Children of one structure are one program with a population axis: vectorized and sharded over the devices of
an accelerator; on a CPU one child after the other within it, with a few programs in flight at once.
"""

import collections
import contextlib
import itertools
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from jaxnas import machine
from jaxnas.types import PyTree

AXIS = "population"
KEPT = 256  # programs in memory; one that is wanted again comes from the persistent cache
AHEAD = 2  # jobs that compile, beside those that train; XLA is no faster with more

# .hits: programs that this thread has had from the persistent cache; .turn: what it works for
_thread = threading.local()


def _listen(event: str, **_: Any) -> None:
    if event == "/jax/compilation_cache/cache_hits":
        _thread.hits = getattr(_thread, "hits", 0) + 1


jax.monitoring.register_event_listener(_listen)


class OutOfMemory(Exception):
    """A program would need more memory than it may have, or the device had not enough for it."""


class Program(NamedTuple):
    """A compiled program and the bytes that the compiler says it needs beside its arguments."""

    call: Callable[[tuple, tuple], PyTree]  # (arguments of each child [K, ...], shared arguments)
    peak_bytes: int


class Place:
    """Where a program runs: one device, or all of them with the population axis sharded."""

    def __init__(self, devices: list[Any]):
        self.devices = len(devices)
        self.mesh = Mesh(np.array(devices), (AXIS,)) if len(devices) > 1 else None
        if self.mesh is None:
            self.each = self.shared = SingleDeviceSharding(devices[0])
        else:
            self.each = NamedSharding(self.mesh, PartitionSpec(AXIS))
            self.shared = NamedSharding(self.mesh, PartitionSpec())


def population(function: Callable, mapped: bool) -> Callable[[tuple, tuple], PyTree]:
    """A function of one child over a population: (arguments of each child [K, ...], shared arguments).

    With `mapped` the children run one after the other inside the program, else vectorized, over an axis
    named `AXIS`.
    """

    def over(each: tuple, shared: tuple) -> PyTree:
        def one(arguments: tuple) -> PyTree:
            return function(*arguments, *shared)

        return jax.lax.map(one, each) if mapped else jax.vmap(one, axis_name=AXIS)(each)

    return over


class Programs:
    """Programs by name and shapes, the data on each device, and what it all cost so far.

    Args:
      mapped: children run one after the other within a program, programs side by side.
      workers: programs in flight at once on a CPU; 0 takes one a core.
      memory_fraction: of a device's memory, to be shared by data and programs in flight.
      level: XLA's optimization level, 0–3; None leaves XLA's own.
    """

    def __init__(self, *, mapped: bool, workers: int, memory_fraction: float, level: int | None):
        self.mapped, self.level, self.memory_fraction = mapped, level, memory_fraction
        self.stats: dict[str, float] = {"programs": 0, "cached": 0, "compile_seconds": 0.0}
        self.stats |= {"waited_seconds": 0.0, "training_seconds": 0.0, "evaluate_seconds": 0.0}
        self.stats |= {"children": 0, "peak_bytes": 0}
        devices = jax.local_devices()
        self.places = [Place([d]) for d in devices] if mapped else [Place(devices)]
        self.on_cpu = jax.default_backend() == "cpu"
        self.workers = (workers or machine.cores()) if mapped and self.on_cpu else len(self.places)
        self.in_flight = self.workers if self.on_cpu else 1  # on one device's memory
        self._programs: collections.OrderedDict[Any, Program] = collections.OrderedDict()
        self._data: dict[Any, tuple[np.ndarray, jax.Array]] = {}
        self._locks: dict[Any, threading.Lock] = {}
        self._lock = threading.Condition()
        self._busy, self._since = {"compiling": 0, "training": 0}, 0.0  # threads; when that last changed
        self._waiting = {"compiling": 0, "training": 0}  # threads
        self._turn = 0  # of `over`; threads of an earlier one may no longer begin anything

    @contextlib.contextmanager
    def busy(self, what: str) -> Iterator[None]:
        """While a thread is `compiling` or `training`; it waits until there is room.

        As long as some train, that counts as training; as long as some compile and none trains, all wait.
        """
        with self._lock:
            self._waiting[what] += 1
            self._lock.wait_for(lambda: self._has_room(what) or self._is_over())
            self._waiting[what] -= 1
            self._lock.notify_all()  # for one who let this thread go first
            if self._is_over():
                raise CancelledError
            self._change(what, 1)
        try:
            yield
        finally:
            with self._lock:
                self._change(what, -1)
                self._lock.notify_all()

    def _has_room(self, what: str) -> bool:
        """On a CPU compilers and trainings share the cores, and one compiler works ahead of the trainings."""
        if not self.on_cpu:
            return self._busy[what] < (self.workers if what == "training" else AHEAD)
        first = "compiling" if self._busy["training"] and not self._busy["compiling"] else "training"
        return sum(self._busy.values()) < self.workers and (what == first or not self._waiting[first])

    def _change(self, what: str, by: int) -> None:
        now = time.perf_counter()
        if self._busy["training"]:
            self.stats["training_seconds"] += now - self._since
        elif self._busy["compiling"]:
            self.stats["waited_seconds"] += now - self._since
        self._busy[what] += by
        self._since = now

    def count(self, **amounts: float) -> None:
        """Add to the counters."""
        with self._lock:
            for name, amount in amounts.items():
                self.stats[name] += amount

    def put(self, array: np.ndarray, place: Place) -> jax.Array:
        """An array of the data set on that place, sent there once."""
        name = (id(array), id(place))
        with self._lock:
            if name not in self._data:
                self._data[name] = array, jax.device_put(array, place.shared)
            return self._data[name][1]

    def get(self, place: Place, name: Any, function: Callable, each: tuple, shared: tuple) -> Program:
        """The program of `function` for arguments of these shapes, compiled at its first use.

        Raises:
          OutOfMemory: by the compiler's analysis it needs more than it may have.
        """
        shapes = tuple((x.shape, str(x.dtype)) for x in jax.tree.leaves((each, shared)))
        name = (name, shapes, id(place))
        with self._lock:
            lock = self._locks.setdefault(name, threading.Lock())
        with lock:
            program = self._programs.get(name)
            if is_new := program is None:
                program = self._compile(place, population(function, self.mapped), each, shared)
            with self._lock:
                self._programs[name] = program
                self._programs.move_to_end(name)
                while is_new and len(self._programs) > 1 and self._crowded():
                    oldest = next(iter(self._programs))
                    del self._programs[oldest]
                    self._locks.pop(oldest, None)
        if program.peak_bytes > self.available_bytes():
            raise OutOfMemory
        return program

    def knows(self, name: Any) -> bool:
        """Whether a program of that name, for any shapes, is in memory."""
        with self._lock:
            return any(known[0] == name for known in self._programs)

    def _crowded(self) -> bool:
        return len(self._programs) > KEPT or machine.mappings() > machine.most_mappings() // 2

    def available_bytes(self) -> int:
        """What one program may need: a share of the device's memory that the data set leaves."""
        data = sum(array.nbytes for array, _ in self._data.values()) // len(self.places)
        return int(self.memory_fraction * device_bytes() - data) // self.in_flight

    def _compile(self, place: Place, function: Callable, each: tuple, shared: tuple) -> Program:
        hits = getattr(_thread, "hits", 0)
        if place.mesh is not None:
            specs = (PartitionSpec(AXIS), PartitionSpec())
            function = jax.shard_map(
                function, mesh=place.mesh, in_specs=specs, out_specs=specs[0], check_vma=False
            )
        options: Any = None if self.level is None else {"xla_backend_optimization_level": self.level}
        with self.busy("compiling"):
            began = time.perf_counter()
            compiled = jax.jit(function).lower(each, shared).compile(options)
            seconds = time.perf_counter() - began
        self.count(programs=1, cached=getattr(_thread, "hits", 0) - hits, compile_seconds=seconds)
        memory = compiled.memory_analysis()
        peak = 0 if memory is None else memory.temp_size_in_bytes + memory.output_size_in_bytes
        self.stats["peak_bytes"] = max(self.stats["peak_bytes"], peak)
        return Program(compiled, peak)

    def over(self, jobs: list[Callable[[Place], Any]], compiles: Sequence[bool] = ()) -> list:
        """Run jobs, spread over the places, and return their results in order.

        As many run at once as there are workers. `compiles` says which jobs begin with a compilation: a few
        of these begin besides, and wait with their programs until there is room to train.
        """
        self._turn += 1
        turn, begun = self._turn, 2 * self.workers + AHEAD if any(compiles) else self.workers
        free: queue.SimpleQueue[Place] = queue.SimpleQueue()
        for place in itertools.islice(itertools.cycle(self.places[: self.workers]), begun):
            free.put(place)

        def run(job: Callable[[Place], Any]) -> Any:
            _thread.turn, place = turn, free.get()
            try:
                return job(place)
            finally:
                free.put(place)

        pools = ThreadPoolExecutor(self.workers), ThreadPoolExecutor(self.workers + AHEAD)
        try:
            pairs = zip(jobs, compiles or [False] * len(jobs), strict=True)
            return [future.result() for future in [pools[late].submit(run, job) for job, late in pairs]]
        finally:
            with self._lock:
                self._turn += 1
                self._lock.notify_all()
            for pool in pools:  # an interrupt does not wait for the rest
                pool.shutdown(wait=False, cancel_futures=True)

    def _is_over(self) -> bool:
        return getattr(_thread, "turn", self._turn) != self._turn


def device_bytes() -> int:
    """The memory of a device; of the machine, for a CPU."""
    stats = jax.local_devices()[0].memory_stats() or {}
    return stats.get("bytes_limit") or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
