"""The sections of a configuration: those that are fixed, and the whole of them."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal


@dataclasses.dataclass(frozen=True)
class StopSettings:
    """What ends a search before its budget is spent.

    Args:
      accuracy: end once a trial has at least this accuracy, in (0, 1]; `data.measure`, where that is another
        one, and at most this of an error.
      stalled_trials: end once the best reward is this many trials old.
      hours: end once the search has run this long.
    """

    accuracy: float | None = None
    stalled_trials: int | None = None
    hours: float | None = None


@dataclasses.dataclass(frozen=True)
class SearchSettings:
    """The run.

    Args:
      name: the run and its folder; by default the configuration file's name without its suffix.
      seed: the root of everything random, in [0, 2³²).
      seeds: searches, each with a root of its own; the result is the arrays of all of them.
      chunk: of many searches, how many one compiled program vectorizes; 0 derives it from the size of a
        search's state, and the run's configuration says what it became.
      ledgers: of many searches, also write each one's trials.csv and rounds.csv.
      budget: trials, at least 1.
      twin: also run random search with the same budget, for comparison.
      duplicates: an architecture that is proposed again: train it again, reuse its first result, or resample
        it until it is new.
      memory: how many architectures reuse and resample remember; beyond it the oldest are forgotten.
      log: tensorboard also writes event files for TensorBoard into the run's folder.
      stop: what ends the search before its budget is spent.
    """

    name: str = ""
    seed: int = 0
    seeds: int = 1
    chunk: int = 0
    ledgers: bool = False
    budget: int = 100
    twin: bool = False
    duplicates: Literal["train", "reuse", "resample"] = "train"
    memory: int = 4096
    log: Literal["none", "tensorboard"] = "none"
    stop: StopSettings = StopSettings()


@dataclasses.dataclass(frozen=True)
class Constraints:
    """What an architecture has to keep to. One that does not is rejected before it is trained.

    Args:
      params: most trainable parameters.
      flops: most floating-point operations of one image's forward pass.
      reward: what a rejected trial gets; none is nothing to learn from.
    """

    params: float | None = None
    flops: float | None = None
    reward: float | None = None


@dataclasses.dataclass(frozen=True)
class Final:
    """The end of a search whose evaluator trains networks: its best ones are trained to the end.

    Args:
      top: distinct architectures of the highest reward that are trained; the best of them by the validation
        inputs becomes best/. At 0 the best child of the search is kept as it is.
      epochs: of each; 0 takes the trainer's.
      repeats: trainings of each, of which the one of least loss is kept.
      full: train on all inputs that data.limit or data.fraction left out of the search.
      twins: of images, also measure what less effort reaches: a network by hand, trained likewise, and, where
        they have classes, an SVC and logistic regression on their pixels, and the commonest class.
    """

    top: int = 0
    epochs: int = 0
    repeats: int = 1
    full: bool = True
    twins: bool = True


@dataclasses.dataclass(frozen=True)
class Runtime:
    """The machine.

    Args:
      cpu_devices: CPU devices that children are spread over; one compiles every program once, and its
        workers share it.
      deterministic: XLA's deterministic operations on a GPU, so that runs repeat to the bit.
    """

    cpu_devices: int = 1
    deterministic: bool = False


@dataclasses.dataclass(frozen=True)
class Config:
    """A checked configuration, one field a section; `load` is the way to make one.

    The class of a part's section is made from its factory. `network`, `data` and `trainer` are None unless
    the evaluator asks for what they configure.
    """

    search: SearchSettings
    space: Any
    controller: Any
    evaluator: Any
    reward: Any
    network: Any
    data: Any
    trainer: Any
    constraints: Constraints
    final: Final
    runtime: Runtime


SECTIONS = tuple(field.name for field in dataclasses.fields(Config))


def is_folder_name(name: str) -> bool:
    """Whether a folder can have this name."""
    return name.isprintable() and len(name) <= 100 and Path(name).name == name != ".."


RANGES: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("search.name", lambda v: is_folder_name(v), "a folder's name: no path, at most 100 characters"),
    ("search.seed", lambda v: 0 <= v < 2**32, "an integer from 0 to 4294967295"),
    ("search.seeds", lambda v: v >= 1, "an integer of at least 1"),
    ("search.chunk", lambda v: v >= 0, "an integer of at least 1, or 0 to derive it"),
    ("search.budget", lambda v: v >= 1, "an integer of at least 1"),
    ("search.memory", lambda v: v >= 1, "an integer of at least 1"),
    ("search.stop.accuracy", lambda v: 0 < v <= 1, "a number above 0, at most 1"),
    ("search.stop.stalled_trials", lambda v: v >= 1, "an integer of at least 1"),
    ("search.stop.hours", lambda v: v > 0, "a number above 0"),
    ("constraints.params", lambda v: v > 0, "a number above 0"),
    ("constraints.flops", lambda v: v > 0, "a number above 0"),
    ("final.top", lambda v: v >= 0, "an integer of at least 0"),
    ("final.epochs", lambda v: v >= 0, "an integer of at least 0"),
    ("final.repeats", lambda v: v >= 1, "an integer of at least 1"),
    ("runtime.cpu_devices", lambda v: v >= 1, "an integer of at least 1"),
)
