"""A run folder, read while it is complete, in progress or interrupted."""

import csv
import io
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnas.errors import InputError
from jaxnas.runs import ledger

FILES = ("config.toml", "trials.csv")  # what makes a folder a run
HEADER = ("trial", "round", "architecture", "reward", "status", "reason")  # less choices and measures


class Run(NamedTuple):
    """What a run folder holds after N trials."""

    name: str  # the folder's; "NAME/twin" for a twin
    path: Path
    config: dict[str, Any]  # {section: {key: value}}
    controller: str  # its name in the configuration
    choices: tuple[str, ...]  # the columns that are decisions
    measures: tuple[str, ...]  # the columns that are measures
    trials: dict[str, np.ndarray]  # {column: [N]}: trial, round, measures and reward float64, else str
    rounds: dict[str, np.ndarray]  # {column: float64 [R]}: trials, and what the controller reports
    twin: "Run | None"  # random search with the same budget


def read(path: str | Path) -> Run:
    """The run in the folder at `path`, with its twin if it has one.

    A last line that is still being written is left out. What a failed child lacks is NaN.

    Raises:
      InputError: the folder is no run, or one of its files is not what a search writes.
    """
    path = Path(path)
    if missing := [file for file in FILES if not (path / file).is_file()]:
        if missing == ["trials.csv"]:
            raise InputError(f"{path}: has no trial yet; `jaxnas resume {path}` goes on")
        problem = f"it lacks {' and '.join(missing)}" if path.is_dir() else "no such folder"
        raise InputError(f"{path}: not a run: {problem}; give a run's folder, such as checkpoints/quickstart")
    try:
        config = tomllib.loads((path / "config.toml").read_text("utf-8"))
        controller = str(config["controller"]["name"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(f"{path / 'config.toml'}: not the configuration of a run: {error}") from None
    table = _table(path / "trials.csv")
    header = tuple(table)
    architecture = header.index("architecture")
    choices, measures, twin = header[2:architecture], header[architecture + 1 : -3], path / "twin"
    for name in ("trial", "round", *measures, "reward"):
        try:
            table[name] = np.where(table[name] == "", "nan", table[name]).astype(np.float64)
        except ValueError as error:
            raise InputError(f"{path / 'trials.csv'}: column {name}: {error}") from None
    name = path.resolve().name
    whole = all((twin / file).is_file() for file in FILES)
    other = read(twin)._replace(name=f"{name}/twin") if whole else None
    return Run(name, path, config, controller, choices, measures, table, numbers(path / "rounds.csv"), other)


def with_twins(runs: Sequence[Run]) -> list[tuple[Run, bool]]:
    """Every run, each followed by its twin, and whether it is that twin."""
    return [(one, one is run.twin) for run in runs for one in (run, run.twin) if one is not None]


def column(run: Run, name: str) -> np.ndarray:  # → float64 [N]
    """A measure or the reward, NaN where it is not finite; all NaN if the run has none of that name."""
    values = run.trials.get(name, np.full(len(run.trials["reward"]), np.nan))
    return np.where(np.isfinite(values), values, np.nan)


def best_trial(run: Run) -> int | None:
    """The trial of the highest reward that may be the best one; None if none has succeeded."""
    reward = column(run, "reward")
    values = ledger.eligible(reward, run.trials["status"] == "ok", column(run, "constant"))
    return int(np.argmax(values)) if np.isfinite(values).any() else None


def depth(run: Run) -> np.ndarray:  # → float64 [N]
    """How many decisions each architecture took, a last one that adds no layer left out."""
    taken = [~np.isin(run.trials[name], ("", "SM()")) for name in run.choices]
    return np.asarray(np.sum(taken, axis=0), np.float64) if taken else np.zeros(len(run.trials["reward"]))


def numbers(path: Path) -> dict[str, np.ndarray]:
    """{column: float64 [R]} of the whole lines of a table of numbers; nothing if there is no such file."""
    try:
        lines = path.read_bytes().decode().splitlines(keepends=True)
    except (OSError, UnicodeDecodeError):
        return {}
    header, *rows = csv.reader(line for line in lines if line.endswith("\n")) if lines else [[]]
    try:
        numbers = [[float(cell or "nan") for cell in row] for row in rows]
    except ValueError:
        return {}
    whole = [row for row in numbers if len(row) == len(header)]
    return {name: np.array([row[i] for row in whole]) for i, name in enumerate(header)}


def _table(path: Path) -> dict[str, np.ndarray]:
    """{column: str [N]} of the whole lines of a ledger of trials."""
    try:
        raw = path.read_bytes()
        text = raw[: raw.rfind(b"\n") + 1].decode("utf-8-sig")
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        header, rows = tuple(next(reader, HEADER)), list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a readable table: {error}") from None
    if (*header[:2], *header[-3:]) != HEADER[:2] + HEADER[3:] or "architecture" not in header:
        form = "trial, round, CHOICES, architecture, MEASURES, reward, status, reason"
        raise InputError(f"{path}: found the columns {', '.join(header)}; it takes {form}")
    for number, row in enumerate(rows):
        if len(row) != len(header):
            raise InputError(f"{path}: trial {number} has {len(row)} fields; it takes {len(header)}")
    columns = zip(*rows, strict=True) if rows else [()] * len(header)
    return {name: np.array(cells, dtype=np.str_) for name, cells in zip(header, columns, strict=True)}
