"""Who may compile or train now: threads of jobs that share a machine's cores, or an accelerator.

What needs no compilation trains first, and a few compilers work ahead of the trainings.
"""

import contextlib
import itertools
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import Any

AHEAD = 2  # jobs that compile, beside those that train; XLA is no faster with more

_thread = threading.local()  # .turn: the call of `Schedule.over` that this thread works for


class Schedule:
    """Runs jobs, as many at once as there is room for, and measures how long which of them ran.

    Args:
      workers: jobs that train at once.
      shares_cores: compilers and trainings share the cores, as on a CPU; else they run side by side.
    """

    def __init__(self, workers: int, *, shares_cores: bool):
        self.workers, self.shares_cores = workers, shares_cores
        # Seconds in which any job trained, and in which some compiled while none trained.
        self.seconds = {"waited_seconds": 0.0, "training_seconds": 0.0}
        self.running = {"compiling": 0, "training": 0}  # threads
        self._waiting = {"compiling": 0, "training": 0}  # threads
        self._changed_at = 0.0  # when `running` last changed
        self._lock = threading.Condition()
        self._turn = 0  # calls of `over`; threads of an earlier one may no longer begin anything

    @contextlib.contextmanager
    def busy(self, kind: str) -> Iterator[None]:
        """While a thread is `compiling` or `training`; it waits until there is room.

        Raises:
          CancelledError: the call of `over` that the thread works for has ended.
        """
        with self._lock:
            self._waiting[kind] += 1
            self._lock.wait_for(lambda: self._has_room(kind) or self._is_over())
            self._waiting[kind] -= 1
            self._lock.notify_all()  # for one who let this thread go first
            if self._is_over():
                raise CancelledError
            self._change(kind, 1)
        try:
            yield
        finally:
            with self._lock:
                self._change(kind, -1)
                self._lock.notify_all()

    def over(
        self, jobs: list[Callable[[Any], Any]], places: list[Any], compiles: Sequence[bool] = ()
    ) -> list:
        """Run jobs, spread over the places, and return their results in order.

        As many run at once as there are workers; an error of one ends all.

        Args:
          jobs: functions of a place.
          places: where they run.
          compiles: which jobs begin with a compilation. A few of these begin beside the others, and wait with
            their programs until there is room to train.
        """
        self._turn += 1
        turn, begun = self._turn, 2 * self.workers + AHEAD if any(compiles) else self.workers
        free: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for place in itertools.islice(itertools.cycle(places[: self.workers]), begun):
            free.put(place)

        def run(job: Callable[[Any], Any]) -> Any:
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

    def _has_room(self, kind: str) -> bool:
        """Where cores are shared, one compiler works ahead of the trainings."""
        if not self.shares_cores:
            return self.running[kind] < (self.workers if kind == "training" else AHEAD)
        first = "compiling" if self.running["training"] and not self.running["compiling"] else "training"
        return sum(self.running.values()) < self.workers and (kind == first or not self._waiting[first])

    def _change(self, kind: str, by: int) -> None:
        now = time.perf_counter()
        if self.running["training"]:
            self.seconds["training_seconds"] += now - self._changed_at
        elif self.running["compiling"]:
            self.seconds["waited_seconds"] += now - self._changed_at
        self.running[kind] += by
        self._changed_at = now

    def _is_over(self) -> bool:
        return getattr(_thread, "turn", self._turn) != self._turn
