"""Compiled programs over a population of children: where they run, what they need, what they cost.

Children of one structure are one program with a population axis: vectorized and sharded over the devices of
an accelerator; on a CPU one child after the other within it, with a few programs in flight at once.
"""

import collections
import functools
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from jaxnas import machine
from jaxnas.training.schedule import Schedule
from jaxnas.types import PyTree

AXIS = "population"
KEPT = 256  # programs in memory; one that is wanted again comes from the persistent cache

_thread = threading.local()  # .hits: programs that this thread has had from the persistent cache


@functools.cache  # once a process: JAX calls a listener for as long as the process lives
def _count_cache_hits() -> None:
    def listen(event: str, **_: Any) -> None:
        if event == "/jax/compilation_cache/cache_hits":
            _thread.hits = getattr(_thread, "hits", 0) + 1

    jax.monitoring.register_event_listener(listen)


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
        _count_cache_hits()
        self.mapped, self.level, self.memory_fraction = mapped, level, memory_fraction
        self._lock = threading.Lock()  # of the counts, the programs and the data
        devices = jax.local_devices()
        self.places = [Place([d]) for d in devices] if mapped else [Place(devices)]
        on_cpu = jax.default_backend() == "cpu"
        workers = (workers or machine.cores()) if mapped and on_cpu else len(self.places)
        self.schedule = Schedule(workers, shares_cores=on_cpu)
        self._counts = {"programs": 0, "cached": 0, "compile_seconds": 0.0, **self.schedule.seconds}
        self.in_flight = workers if on_cpu else 1  # on one device's memory
        self._programs: collections.OrderedDict[Any, Program] = collections.OrderedDict()
        self._data: dict[Any, tuple[np.ndarray, jax.Array]] = {}
        self._locks: dict[Any, threading.Lock] = {}

    @property
    def stats(self) -> dict[str, float]:
        """What was compiled so far, how long that and training took, and what else was counted."""
        with self._lock:
            return self._counts | self.schedule.seconds

    def count(self, **amounts: float) -> None:
        """Add to the counters."""
        with self._lock:
            for name, amount in amounts.items():
                self._counts[name] = self._counts.get(name, 0) + amount

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
        with self._lock:  # other threads put data there meanwhile
            data_bytes = sum(array.nbytes for array, _ in self._data.values()) // len(self.places)
        return int(self.memory_fraction * device_bytes() - data_bytes) // self.in_flight

    def _compile(self, place: Place, function: Callable, each: tuple, shared: tuple) -> Program:
        hits = getattr(_thread, "hits", 0)
        if place.mesh is not None:
            specs = (PartitionSpec(AXIS), PartitionSpec())
            function = jax.shard_map(
                function, mesh=place.mesh, in_specs=specs, out_specs=specs[0], check_vma=False
            )
        options: Any = None if self.level is None else {"xla_backend_optimization_level": self.level}
        with self.schedule.busy("compiling"):
            began = time.perf_counter()
            compiled = jax.jit(function).lower(each, shared).compile(options)
            seconds = time.perf_counter() - began
        self.count(programs=1, cached=getattr(_thread, "hits", 0) - hits, compile_seconds=seconds)
        memory = compiled.memory_analysis()
        peak = 0 if memory is None else memory.temp_size_in_bytes + memory.output_size_in_bytes
        return Program(compiled, peak)

    def over(self, jobs: list[Callable[[Place], Any]], compiles: Sequence[bool] = ()) -> list:
        """Run jobs, spread over the places: as `Schedule.over`."""
        return self.schedule.over(jobs, self.places, compiles)


def device_bytes() -> int:
    """The memory of a device; of the machine, for a CPU."""
    stats = jax.local_devices()[0].memory_stats() or {}
    return stats.get("bytes_limit") or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
