"""The ledgers of a run: CSV files of trials, rounds, timings and more, append-only and cut on resume.

Rows are written before the checkpoint that counts them, and cut back to it when the run goes on, so the
files of an interrupted run end up those of an uninterrupted one.
"""

import csv
import io
import itertools
import os
import zipfile
import zlib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxnas.loop import Record
from jaxnas.runs.files import write_atomic
from jaxnas.types import STATUS, Space


def append(path: Path, rows: list[dict[str, Any]]) -> None:
    """Add rows to a CSV file, flushed to disk; the first row of a new file gives its header.

    A file keeps the header that it has: a run that another version began may lack columns of today, whose
    values are left out, and its columns that no longer exist stay empty.
    """
    if not rows:
        return
    columns = columns_of(path)
    text = io.StringIO()
    writer = csv.DictWriter(text, columns or list(rows[0]), extrasaction="ignore", lineterminator="\n")
    if not columns:
        writer.writeheader()
    writer.writerows(rows)
    with open(path, "ab") as file:
        file.write(text.getvalue().encode())
        file.flush()
        os.fsync(file.fileno())


def write(path: Path, lines: list[list[Any]]) -> None:
    """Write a whole CSV file, the header first, at once."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    write_atomic(path, text.getvalue().encode())


def columns_of(path: Path) -> list[str]:
    """The columns in the header of a CSV file; none if it is empty or there is no such file."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return next(csv.reader(file), [])
    except FileNotFoundError:
        return []


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file up to the first that is not whole; none if there is no such file."""
    try:
        whole = path.read_bytes()
        text = whole[: whole.rfind(b"\n") + 1].decode()
        rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    except (OSError, UnicodeDecodeError, csv.Error):
        return []
    return list(itertools.takewhile(lambda row: None not in row and None not in row.values(), rows))


def eligible(reward: Any, succeeded: Any, constant: Any) -> np.ndarray:  # [..., N] each → float [..., N]
    """The rewards of those of N trials that may be the best one, −inf for the others.

    A child that answers one class alone, whatever the input (`constant` 1), may be the best where all do.
    """
    reward = np.where(np.asarray(succeeded, bool) & np.isfinite(reward), reward, -np.inf)
    answers = np.where(np.asarray(constant) == 1, -np.inf, reward)
    return np.where(np.isfinite(answers).any(axis=-1, keepdims=True), answers, reward)


def ranked(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """The rows of trials that may be the best one, the highest reward first; of equals the earlier trial."""
    columns = {name: [float(row.get(name) or "nan") for row in rows] for name in ("reward", "constant")}
    values = eligible(columns["reward"], [row["status"] == "ok" for row in rows], columns["constant"])
    order = np.argsort(-values, kind="stable")
    return [rows[i] for i in order if np.isfinite(values[i])]


def without_success(rows: list[dict[str, str]], folder: Path) -> str:
    """The message about a run none of whose trials, the `rows`, has succeeded."""
    if not rows:
        return f"{folder} has no trial yet; `jaxnas resume {folder}` goes on"
    return f"no trial of {folder} succeeded; see the reasons in trials.csv"


def count(path: Path, column: str) -> int:
    """How many rows of a CSV file, from the first on, have 0, 1, 2, … in `column`."""
    rows = read(path)
    return next((i for i, row in enumerate(rows) if row.get(column) != str(i)), len(rows))


def cut(path: Path, column: str, end: int) -> None:
    """Drop from the end of a CSV file rows whose `column` is not below `end`, and an incomplete last row."""
    if not path.exists():
        return
    whole = path.read_bytes()
    header, *lines = whole[: whole.rfind(b"\n") + 1].splitlines(keepends=True) or [b""]
    columns = header.decode(errors="replace").strip().split(",")

    def is_below(line: bytes) -> bool:
        try:
            return int(next(csv.reader([line.decode()]))[columns.index(column)]) < end
        except (ValueError, IndexError, csv.Error):
            return False

    while lines and not is_below(lines[-1]):
        lines.pop()
    kept = b"".join([header, *lines])
    if not lines:
        path.unlink()
    elif kept != whole:
        write_atomic(path, kept)


def trial_rows(
    space: Space, record: Record, batch_size: int, costs: Collection[str] = ()
) -> list[dict[str, Any]]:
    """One round's rows of trials.csv, without `costs`; `record` holds numpy arrays of one round, [B, ...]."""
    rows = []
    for lane, arch in enumerate(record.arch):
        trial = int(record.round) * batch_size + lane
        status, reason = STATUS[int(record.measures["status"][lane])]
        measures = {m: number(v[lane]) for m, v in record.measures.items() if m not in ("status", *costs)}
        if status == "ok" and np.isnan(record.reward[lane]):
            status, reason = "failed", "the reward is not finite"
        rows.append(
            {
                "trial": trial,
                "round": int(record.round),
                **space.decode(arch),
                "architecture": space.describe(arch),
                **measures,
                "reward": number(record.reward[lane]),
                "status": status,
                "reason": reason,
            }
        )
    return rows


def prefix_rows(record: Record, batch_size: int) -> list[dict[str, Any]]:
    """One round's rows of prefixes.csv: one for every live decision, none without measures per decision.

    `step` counts the decisions of an architecture from 0, `end` is 1 at the last of them; the measures and
    the reward are those of the architecture as far as this decision.
    """
    rows: list[dict[str, Any]] = []
    first, names = (
        int(record.round) * batch_size,
        [*sorted({*record.prefixes} - {"live", "reward"}), "reward"],
    )
    for lane, live in enumerate(record.prefixes.get("live", ())):
        steps = np.flatnonzero(live)
        rows += [
            {"trial": first + lane, "round": int(record.round), "step": step, "end": int(step == steps[-1])}
            | {name: number(record.prefixes[name][lane][step]) for name in names}
            for step in steps
        ]
    return rows


def prefix_arrays(
    rows: list[dict[str, str]], trials: int, num_steps: int, names: Collection[str]
) -> dict[str, np.ndarray]:  # → {name: float32 [N, T]}, live bool [N, T]
    """`Record.prefixes` of so many trials from the rows of prefixes.csv."""
    places = tuple(np.array([int(row[name]) for row in rows], int) for name in ("trial", "step"))
    arrays = {name: np.full((trials, num_steps), np.nan, np.float32) for name in names}
    for name, values in arrays.items():
        values[places] = [float(row[name] or "nan") for row in rows]
    live = np.zeros((trials, num_steps), bool)
    live[places] = True
    return arrays | {"live": live}


def count_walks(path: Path) -> int:
    """How many trials prefixes.csv has from the first on, each with all of its decisions."""
    trial, step = 0, 0
    for row in read(path):
        if (row.get("trial"), row.get("step")) != (str(trial), str(step)):
            break
        trial, step = (trial + 1, 0) if row.get("end") == "1" else (trial, step + 1)
    return trial


def cost_rows(record: Record, batch_size: int, costs: Collection[str]) -> list[dict[str, Any]]:
    """One round's rows of costs.csv."""
    first = int(record.round) * batch_size
    return [
        {"trial": first + lane, "round": int(record.round)}
        | {name: number(record.measures[name][lane]) for name in costs}
        for lane in range(len(record.arch))
    ]


def round_row(record: Record, batch_size: int) -> dict[str, Any]:
    """One round's row of rounds.csv."""
    reward = np.asarray(record.reward)
    mean = np.nanmean(reward) if np.isfinite(reward).any() else np.nan
    return {
        "round": int(record.round),
        "trials": (int(record.round) + 1) * batch_size,
        "mean_reward": number(mean),
        "best_reward": number(record.best_reward),
        **{name: number(value) for name, value in record.metrics.items()},
    }


def number(value: Any) -> str:
    """The shortest decimal that reads back as the same float32; empty where there is none."""
    value = np.float32(value)
    return np.format_float_positional(value, unique=True, trim="-") if np.isfinite(value) else ""


def is_policy_round(round: int) -> bool:
    """Whether the policy is kept before this round: about 90 times in every tenfold of rounds."""
    return round % 10 ** max(0, len(str(round)) - 2) == 0


def save_policy(path: Path, snapshots: Mapping[int, tuple[np.ndarray, np.ndarray]]) -> None:
    """Write policy.npz: round [K], greedy [K, T], probabilities [K, T, A] (float16)."""
    rounds = sorted(snapshots)
    content = io.BytesIO()
    np.savez_compressed(
        content,
        round=np.array(rounds, np.int32),
        greedy=np.array([snapshots[r][0] for r in rounds], np.int32),
        probabilities=np.array([snapshots[r][1] for r in rounds], np.float16),
    )
    write_atomic(path, content.getvalue())


def load_policy(path: Path) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """The snapshots of policy.npz; none if there is no such file, or it is damaged."""
    try:
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            rounds, greedy, probabilities = file["round"], file["greedy"], file["probabilities"]
    except (OSError, ValueError, LookupError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error):
        return {}
    return {int(r): (greedy[i], probabilities[i]) for i, r in enumerate(rounds)}


def rounds_of(records: Record) -> Iterable[Record]:
    """The rounds of stacked records [R, ...], one by one."""
    for r in range(len(records.round)):
        yield jax.tree.map(lambda rows, r=r: rows[r], records)
