"""The ledgers of a run: trials.csv, rounds.csv, timings.csv, policy.npz, each append-only and cut on resume.

Rows are written before the checkpoint that counts them, and cut back to it when the run goes on, so the
files of an interrupted run end up those of an uninterrupted one.
"""

import csv
import io
import os
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxnas.loop import Record
from jaxnas.types import STATUS, Space


def write_atomic(path: Path, content: bytes) -> None:
    """Write a whole file or nothing: to a temporary file beside it, flushed to disk, then renamed."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise


def append(path: Path, rows: list[dict[str, Any]]) -> None:
    """Add rows to a CSV file, flushed to disk; the first row of a new file gives its header."""
    if not rows:
        return
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    if not path.exists() or path.stat().st_size == 0:
        writer.writeheader()
    writer.writerows(rows)
    with open(path, "ab") as file:
        file.write(text.getvalue().encode())
        file.flush()
        os.fsync(file.fileno())


def cut(path: Path, column: str, end: int) -> None:
    """Drop the rows from the first on whose `column` is `end` or more, and a torn last line."""
    if not path.exists():
        return
    whole = path.read_bytes()
    lines = whole[: whole.rfind(b"\n") + 1].decode().splitlines(keepends=True)
    if not lines:
        path.unlink()
        return
    at = next(csv.reader([lines[0]])).index(column)
    kept = [line for line in lines[1:] if int(next(csv.reader([line]))[at]) < end]
    if kept:
        write_atomic(path, "".join([lines[0], *kept]).encode())
    else:
        path.unlink()


def trial_rows(space: Space, record: Record, batch_size: int) -> list[dict[str, Any]]:
    """One round's rows of trials.csv; `record` holds numpy arrays of one round, [B, ...]."""
    rows = []
    for lane, arch in enumerate(record.arch):
        trial = int(record.round) * batch_size + lane
        status, reason = STATUS[int(record.measures["status"][lane])]
        measures = {m: number(v[lane]) for m, v in record.measures.items() if m != "status"}
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


def load_policy(path: Path, end: int) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """The snapshots of policy.npz before round `end`; none if there is no such file."""
    if not path.exists():
        return {}
    with np.load(path, allow_pickle=False) as file:
        rounds, greedy, probabilities = file["round"], file["greedy"], file["probabilities"]
    return {int(r): (greedy[i], probabilities[i]) for i, r in enumerate(rounds) if r < end}


def rounds_of(records: Record) -> Iterable[Record]:
    """The rounds of stacked records [R, ...], one by one."""
    for r in range(len(records.round)):
        yield jax.tree.map(lambda rows, r=r: rows[r], records)
