"""The configuration of a comparison: its arms, each a whole configuration that differs in a few keys.

The arms are those of a configuration's [arms.NAME], each a set of keys that it has otherwise than the rest of
the file; random search is always among them.
"""

import dataclasses
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import tomli_w

from jaxnas import config
from jaxnas.config import options
from jaxnas.errors import InputError, unknown

SECTIONS = ("compare", "arms")  # beside those of a configuration
# The keys of [search] that an arm may set; its other keys are the same for all arms.
OF_ARMS = {"search": ("duplicates", "memory", "chunk")}


@dataclasses.dataclass(frozen=True)
class Compare:
    """What is compared.

    Args:
      seeds: searches of each arm.
      at: trials after which the best reward so far is compared; by default the whole budget.
      measures: further measures of each search's best trial, at the end.
      last: trials at the end whose mean reward is told, beside its gain over random search.
      cross: decisions that are counted together among the ten best architectures; by default each alone.
      scale: of the trials in the figure.
    """

    seeds: int = 100
    at: tuple[int, ...] = ()
    measures: tuple[str, ...] = ()
    cross: tuple[str, ...] = ()
    last: int = 50
    scale: Literal["log", "linear"] = "log"


class Comparison(NamedTuple):
    """A checked configuration of a comparison."""

    name: str
    compare: Compare
    arms: dict[str, config.Config]


def load(path: str | Path, overrides: Sequence[str] = ()) -> Comparison:
    """The comparison in the TOML file at `path`; `overrides` hold for every arm, or are `--compare.KEY`.

    Raises:
      InputError: the file cannot be read, or a section, key, name, flag or value is wrong.
    """
    table, flags = config.read(Path(path), SECTIONS), options.split(overrides)
    compare = options.from_table(Compare, table.pop("compare", {}), "compare")
    for key, words in flags:
        if key.startswith("compare."):
            compare = options.apply_flag(compare, key, words)
    flags = [(key, words) for key, words in flags if not key.startswith("compare.")]
    arms = table.pop("arms", {})
    if not any(_get(arm, "controller", "name") == "random" for arm in arms.values()):
        arms = {"random": {"controller": {"name": "random"}}, **arms}
    name = str(_get(table, "search", "name") or Path(path).stem)
    name = next((words[0] for key, words in flags if key == "search.name" and words), name)
    flags = [flag for flag in flags if flag[0] != "search.name"]
    unused = {(section, key) for section in table for key in table[section] if key != "name"}
    settings: dict[str, config.Config] = {}
    for arm, changes in arms.items():
        try:
            merged = _merge(table, changes, unused)
            merged["search"] = merged.get("search", {}) | {"name": arm, "seeds": compare.seeds}
            settings[arm] = config.from_table(merged, flags, arm)
        except InputError as error:
            raise InputError(f"arms.{arm}: {error}") from None
    for section, key in sorted(unused):
        known = set().union(*(config.keys(config.to_table(c)).get(section, ()) for c in settings.values()))
        raise unknown(f"{section}.{key}", key, known)
    if name in (".", "..") or Path(name).name != name:
        raise InputError(f"search.name: found {name!r}; it takes a folder's name")
    _check(compare, settings)
    return Comparison(name, compare, settings)


def _merge(table: config.Table, changes: Any, unused: set[tuple[str, str]]) -> config.Table:
    """The table of an arm: its `changes` on top of the keys of the file that its parts take.

    The keys of the file that it takes are removed from `unused`.
    """
    if not isinstance(changes, dict):
        raise InputError(f"found {options.show(changes)}; it takes a table of sections")
    for section, values in changes.items():
        if section not in config.SECTIONS:
            raise unknown(section, section, config.SECTIONS)
        if not isinstance(values, dict):
            raise InputError(f"{section}: found {options.show(values)}; it takes a table")
        allowed = OF_ARMS.get(section, () if section == "runtime" else None)
        if allowed is not None and (shared := [key for key in values if key not in allowed]):
            raise InputError(f"{section}.{shared[0]}: all arms have it alike; set it in [{section}]")
    merged = {s: table.get(s, {}) | changes.get(s, {}) for s in {**table, **changes}}
    known = config.keys(merged)
    kept = {}
    for section, values in merged.items():
        changed = changes.get(section, {})
        if section in known or changed:
            kept[section] = {k: v for k, v in values.items() if k in changed or k in known.get(section, ())}
            unused -= {(section, key) for key in kept[section]}
    return kept


def _get(table: Any, section: str, key: str) -> Any:
    values = table.get(section) if isinstance(table, dict) else None
    return values.get(key) if isinstance(values, dict) else None


def _check(compare: Compare, arms: dict[str, config.Config]) -> None:
    budget = next(iter(arms.values())).search.budget
    if compare.seeds < 2:
        raise InputError(f"compare.seeds: found {compare.seeds}; it takes an integer of at least 2")
    if compare.last < 1:
        raise InputError(f"compare.last: found {compare.last}; it takes an integer of at least 1")
    if list(compare.at) != sorted({*compare.at}) or not all(1 <= n <= budget for n in compare.at):
        takes = f"rising numbers of trials from 1 to search.budget, {budget}"
        raise InputError(f"compare.at: found {options.show(compare.at)}; it takes {takes}")
    for name, settings in arms.items():
        if name == "figures" or not name.strip(". "):
            raise InputError(f"arms.{name}: it takes another name, that of a folder")
        stop = next((k for k, v in vars(settings.search.stop).items() if v is not None), None)
        if settings.search.twin or stop:
            key = "twin" if settings.search.twin else f"stop.{stop}"
            raise InputError(f"search.{key}: arms are compared at equal budget, random search among them")


def dump(comparison: Comparison) -> str:
    """The whole comparison as TOML."""
    compare = options.to_table(comparison.compare)
    return tomli_w.dumps(
        {"compare": compare} | {"arms": {k: config.to_table(c) for k, c in comparison.arms.items()}}
    )


def check_folder(folder: Path, comparison: Comparison) -> None:
    """Raise an InputError if the comparison in `folder` had other settings; arms may have been added."""
    path = folder / "comparison.toml"
    if not path.exists():
        if folder.exists() and any(not p.name.startswith(".") for p in folder.iterdir()):
            raise InputError(f"search.name: {folder} exists and is no comparison; take another name")
        return
    try:
        before = tomllib.loads(path.read_text("utf-8"))["arms"]
    except (OSError, ValueError, LookupError) as error:
        raise InputError(f"{path}: cannot be read ({error}); take another name") from None
    for name, settings in comparison.arms.items():
        for section, values in tomllib.loads(config.dump(settings)).items() if name in before else ():
            then = before[name].get(section, {})
            if differing := [k for k in {**then, **values} if then.get(k) != values.get(k)]:
                key, old, new = (
                    differing[0],
                    *(options.show(x.get(differing[0], "none")) for x in (then, values)),
                )
                raise InputError(
                    f"{folder}: its arm {name} has {section}.{key} = {old}, not {new}; "
                    "take the same settings, or another --search.name"
                )
