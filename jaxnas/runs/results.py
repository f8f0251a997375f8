"""The results of many searches as arrays: their file, their summary, and the ledgers of each of them.

The arrays, {name: values} of S searches of N trials, are reward, status and every measure [S, N], and arch
[S, N, T]; where the evaluator has measures per decision also prefixes/NAME, prefixes/reward and
prefixes/live [S, N, T].
"""

import csv
import io
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from jaxnas import loop
from jaxnas.runs import ledger
from jaxnas.types import OK, STATUS, Space

Arrays = dict[str, np.ndarray]


def best_trial(arrays: Arrays) -> np.ndarray:  # → int64 [S], −1 where every trial failed
    """Each search's trial of the highest reward that is `ledger.eligible`, the first of equals."""
    reward = arrays["reward"]
    values = ledger.eligible(reward, arrays["status"] == OK, arrays.get("constant", np.zeros_like(reward)))
    return np.where(np.isfinite(values).any(axis=1), np.argmax(values, axis=1), -1)


def write_summary(path: Path, space: Space, arrays: Arrays) -> None:
    """Write summary.csv: a row a search, with its best trial; only its number where every trial failed."""
    measures = [name for name in arrays if name not in ("arch", "reward", "status") and "/" not in name]
    rows: list[list[Any]] = [["search", "reward", "architecture", *measures, "trials_to_best"]]
    for index, trial in enumerate(best_trial(arrays)):
        if trial < 0:
            rows.append([index, *[""] * (len(measures) + 3)])
            continue
        numbers = [ledger.number(arrays[name][index, trial]) for name in measures]
        arch = space.describe(arrays["arch"][index, trial])
        rows.append([index, ledger.number(arrays["reward"][index, trial]), arch, *numbers, trial + 1])
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    ledger.write_atomic(path, text.getvalue().encode())


def write_ledgers(folder: Path, search: loop.Search, text: str, arrays: Arrays, metrics: Arrays) -> None:
    """seeds/000017/: config.toml and the ledgers as a run of its own would have written them."""
    B = search.controller.batch_size
    names = sorted(("status", *search.evaluator.measures))
    for index, reward in enumerate(arrays["reward"]):
        subfolder, best = folder / "seeds" / f"{index:06}", -np.inf
        trials, prefixes, rounds = [], [], []
        if (subfolder / "config.toml").exists():
            continue
        for round, first in enumerate(range(0, len(reward), B)):
            lanes = np.s_[index, first : first + B]  # of the round
            measures = {name: arrays[name][lanes] for name in names}
            reported = {name.partition("/")[2]: values[index, round] for name, values in metrics.items()}
            along = {name.partition("/")[2]: arrays[name][lanes] for name in arrays if "/" in name}
            scored = np.where(measures["status"] == OK, reward[first : first + B], np.nan)
            best = np.fmax(best, np.fmax.reduce(scored))
            score = reward[first : first + B]
            fields: Any = (round, arrays["arch"][lanes], measures, None, score, best, reported, along)
            record = loop.Record(*fields)
            trials += ledger.trial_rows(search.space, record, B)
            prefixes += ledger.prefix_rows(record, B)
            rounds += [ledger.round_row(record, B)] if first + B <= len(reward) else []
        subfolder.mkdir(parents=True, exist_ok=True)
        for name, rows in (("trials.csv", trials), ("prefixes.csv", prefixes), ("rounds.csv", rounds)):
            (subfolder / name).unlink(missing_ok=True)
            ledger.append(subfolder / name, rows)
        # Last, for a folder that has it is taken to be whole.
        ledger.write_atomic(subfolder / "config.toml", text.encode())


def of_ledgers(search: loop.Search, folder: Path) -> Arrays:
    """The trials.csv of a run as arrays [N], and its prefixes.csv, if it has one, as arrays [N, T]."""
    rows, prefix = ledger.read(folder / "trials.csv"), search.evaluator.prefix
    number = {
        name: [float(row[name] or "nan") for row in rows] for name in (*search.evaluator.measures, "reward")
    }
    code = {words: i for i, words in reversed([*enumerate(STATUS)])}
    status = [code.get((row["status"], row["reason"]), OK) for row in rows]
    arch = np.stack([search.space.parse(row["architecture"]) for row in rows])
    small = np.uint8 if search.space.num_choices <= 256 else np.uint16
    arrays = {name: np.array(values, np.float32) for name, values in number.items()}
    arrays |= {"status": np.array(status, np.uint8), "arch": arch.astype(small)}
    if prefix:
        of_steps = ledger.read(folder / "prefixes.csv")
        along = ledger.prefix_arrays(of_steps, len(rows), search.space.num_steps, (*prefix, "reward"))
        arrays |= {f"prefixes/{name}": values for name, values in along.items()}
    return arrays


def to_npz(arrays: Arrays) -> bytes:
    """The bytes of the file that `read` reads."""
    content = io.BytesIO()
    ordered: Any = {name: arrays[name] for name in sorted(arrays)}
    np.savez(content, **ordered)
    return content.getvalue()


def read(path: Path) -> Arrays | None:
    """The arrays of a file, or None if there is none or it is damaged."""
    try:
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, LookupError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error):
        return None
