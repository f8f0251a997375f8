"""A TOML file and command-line overrides → frozen, checked dataclasses → objects.

`[search]`, `[search.stop]`, `[constraints]` and `[runtime]` are the dataclasses of `sections`. Every other
section configures one part of the search, and its keys are the options of that part's factory: an option is
declared once, where it is used, with its default and its help.
"""

import contextlib
import dataclasses
import io
import operator
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tomli_w
import tyro

from jaxnas.config import options, parts
from jaxnas.config.sections import RANGES, SECTIONS, Config, Constraints, Final, Runtime, SearchSettings
from jaxnas.errors import InputError, unknown

Table = dict[str, dict[str, Any]]  # {section: {key: value}}, as TOML has it

# When a run is resumed.
MAY_DIFFER = ("search.name", "search.budget", "search.log", "search.stop.", "final.", "runtime.")


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
    names = {s: words[0] for s in parts.registries() for key, words in flags if key == f"{s}.name" and words}
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


def _unused(section: str, evaluator: str) -> InputError:
    asking = [name for name in parts.registries()["evaluator"] if section in parts.needs(name).sections]
    return InputError(
        f"{section}: not used, for evaluator {evaluator!r} does not ask for it; leave it out, or set "
        f"evaluator.name to {' or '.join(asking)}"
    )


def _classes(table: Table) -> dict[str, type]:
    """{section: its dataclass}, in order, of the sections that the names in `table` put to use."""
    from jaxnas import data, evaluators

    def name_of(section: str, default: Any = None) -> Any:
        return table.get(section, {}).get("name", default)

    names = {"space": name_of("space"), "controller": name_of("controller")}
    names |= {"evaluator": name_of("evaluator", evaluators.DEFAULT), "reward": name_of("reward", "accuracy")}
    asked = parts.needs(names["evaluator"])
    classes: dict[str, type] = {
        "search": SearchSettings,
        "constraints": Constraints,
        "final": Final,
        "runtime": Runtime,
    }
    if "network" in asked.sections:
        is_foreign = ":" in str(names["space"])  # then no network here has its name, but its layers may do
        names["network"] = name_of("network", "layers" if is_foreign else names["space"])
        _check_has_network(names["network"])
    if "data" in asked.sections:
        classes["data"] = options.declare("data", data.load, ("source", str, "digits"))
    if asked.trainer is not None:
        classes["trainer"] = options.declare("trainer", asked.trainer)
    for section, name in names.items():
        factory, known = parts.factory_of(section, name), ", ".join(sorted(parts.registries()[section]))
        helped = Annotated[str, tyro.conf.arg(help=f"{known}, or package.module:factory.")]
        if section == "evaluator":
            factory = parts.without_trainer(factory)
        classes[section] = options.declare(section, factory, ("name", helped, name))
    return {section: classes[section] for section in SECTIONS if section in classes}


def _check_has_network(name: Any) -> None:
    known = parts.registries()
    if isinstance(name, str) and name in known["space"] and name not in known["network"]:
        raise InputError(
            f"network.name: space {name!r} has no network here, so none can be trained; set evaluator.name "
            "to table, or name a network of your own, package.module:factory"
        )
