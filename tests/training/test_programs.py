"""What runs when: one compiler works ahead of the trainings, and nothing begins after an error."""

import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from jaxnas.training.programs import Programs

UNIT = 0.05  # seconds


def make(workers: int) -> Programs:
    return Programs(mapped=True, workers=workers, memory_fraction=0.5, level=None)


def job(programs, *kinds, log=None):
    def run(place):
        for kind in kinds:
            with programs.schedule.busy(kind):
                if log is not None:
                    log.append((kind, kinds, dict(programs.schedule.running)))
                time.sleep(UNIT)
        return kinds

    return run


def test_compilers_work_ahead():
    programs, log = make(2), []
    jobs = [job(programs, "compiling", "training", log=log) for _ in range(10)]
    assert programs.over(jobs, [True] * len(jobs)) == [("compiling", "training")] * 10
    assert max(sum(busy.values()) for _, _, busy in log) == 2
    # Both workers compile the first two programs; then one compiles what the other trains next.
    assert programs.stats["waited_seconds"] < 0.4 * programs.stats["training_seconds"]


def test_compilers_work_while_the_others_train():
    programs, log = make(2), []
    jobs = [job(programs, "training", log=log) for _ in range(8)]
    jobs += [job(programs, "compiling", "training", log=log) for _ in range(4)]
    programs.over(jobs, [False] * 8 + [True] * 4)
    assert programs.stats["waited_seconds"] < 1.5 * UNIT


@pytest.mark.parametrize("workers", [1, 3])
def test_every_job_ends(workers):
    programs, log = make(workers), []
    jobs = [job(programs, *kinds, log=log) for kinds in [("compiling", "training"), ("training",)] * 3]
    assert len(programs.over(jobs, [True, False] * 3)) == 6
    assert max(sum(busy.values()) for _, _, busy in log) <= workers


def test_jobs_follow_one_another():
    programs, log = make(1), []
    programs.over([job(programs, "compiling", "training", log=log) for _ in range(3)])
    assert [kind for kind, _, _ in log] == ["compiling", "training"] * 3


def test_nothing_begins_after_an_error():
    programs, begun = make(2), []

    def fail(place):
        with programs.schedule.busy("training"):
            raise KeyboardInterrupt

    jobs = [fail, *(job(programs, "compiling", "training", log=begun) for _ in range(8))]
    with pytest.raises(KeyboardInterrupt):
        programs.over(jobs, [True] * len(jobs))
    deadline = time.monotonic() + 10
    while any(t.name.startswith("ThreadPool") for t in threading.enumerate()) and time.monotonic() < deadline:
        time.sleep(UNIT)
    assert len(begun) < 6  # of sixteen
    assert programs.over([job(programs, "compiling", "training")])


def test_data_may_come_while_memory_is_counted():
    """Another thread puts an array there while the bytes of those before are added up."""
    programs, began, done = make(1), threading.Event(), threading.Event()
    place = programs.places[0]

    class Slow(np.ndarray):
        @property
        def nbytes(self):
            began.set()
            done.wait(5 * UNIT)  # the other thread has this long to get in between
            return 8

    def put():
        began.wait(10)
        programs.put(np.zeros(3), place)
        done.set()

    programs.put(np.zeros(1).view(Slow), place)
    other = threading.Thread(target=put)
    other.start()
    assert programs.available_bytes() > 0
    other.join(10)
    assert not other.is_alive()


def test_importing_registers_no_listener():
    code = (
        "from jax._src import monitoring; before = len(monitoring.get_event_listeners());"
        "import jaxnas.training.programs, jaxnas.evaluators;"
        "assert len(monitoring.get_event_listeners()) == before"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
