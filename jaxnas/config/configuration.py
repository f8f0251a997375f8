"""A TOML file and command-line overrides → frozen, checked dataclasses → objects.

`[search]`, `[search.stop]`, `[constraints]` and `[runtime]` are the dataclasses below. Every other section
configures one part of the search, and its keys are the options of that part's factory: an option is declared
once, where it is used, with its default and its help.
"""

import contextlib
import dataclasses
import functools
import importlib
import io
import math
import operator
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import tomli_w
import tyro

from jaxnas.config import options
from jaxnas.errors import InputError, unknown
from jaxnas.types import Controller, Dataset, Evaluator, Network, Space


@dataclasses.dataclass(frozen=True)
class Stop:
    """What ends a search before its budget is spent.

    Args:
      accuracy: end once a trial has at least this accuracy, in (0, 1].
      stalled_trials: end once the best reward is this many trials old.
      hours: end once the search has run this long.
    """

    accuracy: float | None = None
    stalled_trials: int | None = None
    hours: float | None = None


@dataclasses.dataclass(frozen=True)
class Search:
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
    stop: Stop = Stop()


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
    the evaluator is `trained`: no other trains a network.
    """

    search: Search
    space: Any
    controller: Any
    evaluator: Any
    reward: Any
    network: Any
    data: Any
    trainer: Any
    constraints: Constraints
    runtime: Runtime


class Parts(NamedTuple):
    """What a search is made of."""

    space: Space
    controller: Controller
    evaluator: Evaluator
    reward: Callable  # measures {name: [B]} → [B]
    rejected: float  # the reward beyond the constraints
    network: Network | None  # None, as is the dataset, with an evaluator that trains nothing
    dataset: Dataset | None


SECTIONS = tuple(field.name for field in dataclasses.fields(Config))
Table = dict[str, dict[str, Any]]  # {section: {key: value}}, as TOML has it

# When a run is resumed.
MAY_DIFFER = ("search.name", "search.budget", "search.log", "search.stop.", "runtime.")
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
    ("runtime.cpu_devices", lambda v: v >= 1, "an integer of at least 1"),
)


def registries() -> dict[str, dict[str, Callable]]:
    """{section: {name: factory}} of the sections that name their part."""
    from jaxnas import controllers, evaluators, networks, rewards, spaces

    return {
        "space": spaces.REGISTRY,
        "controller": controllers.REGISTRY,
        "evaluator": evaluators.REGISTRY,
        "reward": rewards.REGISTRY,
        "network": networks.REGISTRY,
    }


def load(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """The configuration in the TOML file at `path`, with `overrides` such as `--search.seed 1` on top.

    The file has to be right on its own. Where an override changes a section's name, settings of the file
    that the new part has no use for are dropped.

    Raises:
      InputError: the file cannot be read, or a section, key, name, flag or value is wrong.
    """
    return from_table(read(Path(path)), options.split(overrides), Path(path).stem)


def from_table(table: Table, flags: Sequence[tuple[str, list[str]]], name: str) -> Config:
    """The configuration of a table with flags of `options.split` on top; `name` if it has none of its own."""
    names = {s: words[0] for s in registries() for key, words in flags if key == f"{s}.name" and words}
    for section in ("space", "controller"):  # without a default: the file may leave these to a flag
        if section in names:
            table.setdefault(section, {}).setdefault("name", names[section])
    config = _resolve(table)
    if names:
        table |= {section: table.get(section, {}) | {"name": name} for section, name in names.items()}
        known = keys(table)
        table = {s: {k: v for k, v in table[s].items() if k in known[s]} for s in table if s in known}
        config = _resolve(table)
    for key, words in flags:
        config = _override(config, key, words)
    table = to_table(config)
    table["search"]["name"] = table["search"]["name"] or name
    return _resolve(table)


def override(config: Config, overrides: Sequence[str], sections: Sequence[str]) -> Config:
    """`config` with overrides such as `--network.cells 6`, of some sections alone.

    Raises:
      InputError: another section's key, or an unknown flag or value.
    """
    for key, words in options.split(overrides):
        if key.partition(".")[0] not in sections:
            takes = ", ".join(f"--{section}.…" for section in sections)
            raise InputError(f"--{key.replace('_', '-')}: not an option here; it takes {takes}")
        config = _override(config, key, words)
    return _resolve(to_table(config))


def dump(config: Config) -> str:
    """The whole configuration as TOML, defaults included; `load` reads it back as an equal one."""
    return tomli_w.dumps(to_table(config))


def build(config: Config, *, dataset: Dataset | None = None) -> Parts:
    """The objects that `config` describes. The evaluator does not get the test split.

    Args:
      config: what to build.
      dataset: used in place of loading `[data]`.

    Raises:
      InputError: a factory refuses a value, or the data cannot be had.
    """
    from jaxnas import data, evaluators

    def part(section: str) -> functools.partial:
        settings = dict(vars(getattr(config, section)))
        return functools.partial(_factory(section, settings.pop("name")), **settings)

    limits = {m: most for m in ("params", "flops") if (most := getattr(config.constraints, m)) is not None}
    rejected = math.nan if config.constraints.reward is None else config.constraints.reward
    space = part("space")()
    controller = resampling(config, space, part("controller")(space))

    def reusing(evaluator: Evaluator) -> Evaluator:
        if config.search.duplicates != "reuse":
            return evaluator
        return evaluators.reuse(evaluator, space, memory=config.search.memory)

    if config.trainer is None:
        evaluator = reusing(evaluators.constrain(part("evaluator")(space), limits))
        return Parts(space, controller, evaluator, part("reward"), rejected, None, None)
    if dataset is None:
        dataset = data.load(**vars(config.data))
    network = part("network")(space, dataset.input_shape, dataset.num_outputs)
    trained = functools.partial(_factory("evaluator", "trained"), **vars(config.trainer))
    evaluator = reusing(trained(network, dataset._replace(test=None), limits))
    return Parts(space, controller, evaluator, part("reward"), rejected, network, dataset)


def build_space(config: Config) -> Space:
    """The space alone, which needs no data."""
    settings = dict(vars(config.space))
    return _factory("space", settings.pop("name"))(**settings)


def resampling(config: Config, space: Space, controller: Controller) -> Controller:
    """A controller that proposes what is new where `config` asks for that, else the controller itself."""
    from jaxnas import controllers

    if config.search.duplicates != "resample":
        return controller
    return controllers.distinct(controller, space, memory=config.search.memory)


def differences(old: Config, new: Config) -> list[str]:
    """One line for every key by which `new` is another search than `old`, and cannot continue it."""
    lines = []
    for section in SECTIONS:
        a, b = getattr(old, section), getattr(new, section)
        if a is None or b is None:
            continue  # if only one is, the evaluators' names differ
        same = type(a) is type(b)  # else the names differ, and what is below them does not compare
        for key in options.leaves(type(a), f"{section}.") if same else [f"{section}.name"]:
            before, after = (operator.attrgetter(key)(config) for config in (old, new))
            if before != after and not key.startswith(MAY_DIFFER):
                lines.append(f"{key}: {options.show(before)} → {options.show(after)}")
    return lines


def twin(config: Config, batch_size: int) -> Config:
    """The same search by the random controller, without a twin of its own."""
    table = to_table(config)
    table["controller"] = {"name": "random", "batch_size": batch_size}
    table["search"] |= {"twin": False, "name": "twin"}
    table["search"].pop("stop", None)
    return _resolve(table)


def keys(table: Table) -> dict[str, set[str]]:
    """{section: its keys} of the sections that the names in `table` put to use."""
    return {
        section: {key.partition(".")[0] for key in options.leaves(cls)}
        for section, cls in _classes(table).items()
    }


def usage(path: str | Path, overrides: Sequence[str] = ()) -> str:
    """Every flag that the configuration at `path` takes, with its meaning and its value there."""
    sections = {s: value for s, value in vars(load(path, overrides)).items() if value is not None}
    cls = dataclasses.make_dataclass("Flags", [(s, type(value)) for s, value in sections.items()])
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
        tyro.cli(cls, default=cls(**sections), args=["--help"], prog=f"jaxnas search {path}", description="")
    return text.getvalue()


def read(path: Path, further: Sequence[str] = ()) -> Table:
    """The sections of a TOML file, those of a configuration and `further` ones.

    Raises:
      InputError: the file cannot be read, or has another section.
    """
    try:
        table = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise InputError(f"{path}: cannot read this configuration: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # not UTF-8, not TOML, an endless number, endless nesting
        raise InputError(f"{path}: not valid TOML: {error}") from None
    for section, value in table.items():
        if section not in (*SECTIONS, *further):
            raise unknown(f"[{section}]", section, (*SECTIONS, *further))
        if not isinstance(value, dict):
            raise InputError(f"{section}: found {options.show(value)}; it takes a table, [{section}]")
    return table


def to_table(config: Config) -> Table:
    """The whole configuration as `from_table` takes it."""
    return {s: options.to_table(value) for s, value in vars(config).items() if value is not None}


def _resolve(table: Table) -> Config:
    """The only way from settings to a Config: every name, key, type and range is checked here."""
    classes = _classes(table)
    for section in table:
        if section not in classes:
            raise _unused(section, table["evaluator"]["name"])
    sections: dict[str, Any] = dict.fromkeys(SECTIONS)
    for section, cls in classes.items():
        sections[section] = options.from_table(cls, table.get(section, {}), section)
    config = Config(**sections)
    for key, is_right, takes in RANGES:
        value = operator.attrgetter(key)(config)
        if value not in (None, "") and not is_right(value):
            raise InputError(f"{key}: found {options.show(value)}; it takes {takes}")
    return config


def _override(config: Config, key: str, words: list[str]) -> Config:
    section = key.partition(".")[0]
    if section not in SECTIONS:
        raise unknown(f"--{key.replace('_', '-')}", section, SECTIONS)
    if getattr(config, section) is None:
        raise _unused(section, config.evaluator.name)
    return dataclasses.replace(config, **{section: options.apply_flag(getattr(config, section), key, words)})


def is_folder_name(name: str) -> bool:
    """Whether a folder can have this name."""
    return name.isprintable() and len(name) <= 100 and Path(name).name == name != ".."


def _unused(section: str, evaluator: str) -> InputError:
    fix = "leave it out, or set evaluator.name to trained"
    return InputError(f"{section}: not used, for evaluator {evaluator!r} trains no network; {fix}")


def _classes(table: Table) -> dict[str, type]:
    """{section: its dataclass}, in order, of the sections that the names in `table` put to use."""
    from jaxnas import data

    def name_of(section: str, default: Any = None) -> Any:
        return table.get(section, {}).get("name", default)

    names = {"space": name_of("space"), "controller": name_of("controller")}
    names |= {"evaluator": name_of("evaluator", "trained"), "reward": name_of("reward", "accuracy")}
    if names["evaluator"] == "trained":
        own = ":" in str(names["space"])  # a space from elsewhere has no network of its name here
        names["network"] = name_of("network", None if own else names["space"])
        _check_has_network(names["network"])
    classes: dict[str, type] = {"search": Search, "constraints": Constraints, "runtime": Runtime}
    for section, name in names.items():
        factory, known = _factory(section, name), ", ".join(sorted(registries()[section]))
        helped = Annotated[str, tyro.conf.arg(help=f"{known}, or package.module:factory.")]
        if (section, name) == ("evaluator", "trained"):
            classes["data"] = options.declare("data", data.load, ("source", str, "digits"))
            classes["trainer"] = options.declare("trainer", factory)
            factory = _trained
        classes[section] = options.declare(section, factory, ("name", helped, name))
    return {section: classes[section] for section in SECTIONS if section in classes}


def _check_has_network(name: Any) -> None:
    known = registries()
    if isinstance(name, str) and name in known["space"] and name not in known["network"]:
        raise InputError(
            f"network.name: space {name!r} has no network here, so none can be trained; set evaluator.name "
            "to table, or name a network of your own, package.module:factory"
        )


def _trained() -> None:
    """Trains every architecture on `[data]`; its options are those of `[trainer]`."""


def _factory(section: str, name: Any) -> Callable:
    registry, key = registries()[section], f"{section}.name"
    if not isinstance(name, str):
        found = "missing" if name is None else f"found {options.show(name)}"
        raise InputError(
            f"{key}: {found}; it takes one of: {', '.join(sorted(registry))}; or package.module:factory"
        )
    if name in registry:
        return registry[name]
    module, _, attribute = name.partition(":")
    if not all(word.isidentifier() for word in (*module.split("."), attribute)):
        raise unknown(key, name, [*registry, "package.module:factory"])
    try:
        factory = getattr(importlib.import_module(module), attribute, None)
    except ImportError as error:
        raise InputError(f"{key}: cannot import {module!r} ({error}); is it on PYTHONPATH?") from None
    if not callable(factory):
        raise InputError(f"{key}: module {module!r} has no function {attribute!r}")
    return factory
