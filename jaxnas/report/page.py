"""The report page: runs as one HTML file that needs nothing else, not even a network.

The data is JSON, compressed and in base64; scripts beside this module draw it. Equal runs give equal bytes.
"""

import base64
import contextlib
import importlib.resources
import json
import shlex
import zlib
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from jaxnas.errors import InputError
from jaxnas.networks import summary
from jaxnas.report import cells, drawing, policy
from jaxnas.report.curves import records, rolling_mean
from jaxnas.report.plots import evenly
from jaxnas.report.runs import Run, column, numbers, with_twins
from jaxnas.report.sources import Source, parts_of, write_of
from jaxnas.runs import ledger, twins

LIMIT = 950_000  # bytes of a page
TRIALS = (100_000, 20_000, 5000, 2000, 500)  # of a run in the table, the largest number that fits the limit
POINTS = 500  # of a line at most
BEST = 5  # networks that are drawn
FILE = "report.html"
SPLITS = ("validation", "test")


def html(data: str, title: str, *, live: bool = False) -> str:
    """The page of `encode`d data. A live one asks its server for new data every two seconds."""
    files = importlib.resources.files("jaxnas.report")
    names = ("page.html", "page.css", "charts.js", "figures.js", "details.js", "page.js")
    text, style, *scripts = (files.joinpath(name).read_text("utf-8") for name in names)
    script = "\n".join(scripts)
    for name, value in (("STYLE", style), ("SCRIPT", script), ("LIVE", "yes" if live else "")):
        text = text.replace(f"{{{name}}}", value)
    return text.replace("{TITLE}", escape(title)).replace("{DATA}", data)


def encode(runs: Sequence[Run], sources: Mapping[Path, Source], *, window: int = 10) -> str:
    """What the page draws, as text. `sources` is by path of run; it may lack any.

    Where there are more trials than fit, the table and the dots have each run's best and failed ones.
    """
    text = ""
    for most in TRIALS:
        drawn = [_run(run, twin, sources.get(run.path), window, most) for run, twin in with_twins(runs)]
        raw = json.dumps({"runs": drawn}, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
        text = base64.b64encode(zlib.compress(raw, 9)).decode()
        if len(text) < LIMIT:
            break
    return text


def title(runs: Sequence[Run]) -> str:
    """What the page is called."""
    return f"{', '.join(run.name for run in runs)} · jaxnas"


def _run(run: Run, twin: bool, source: Source | None, window: int, most: int) -> dict[str, Any]:
    n = len(run.trials["reward"])
    reward = column(run, "reward")
    eligible = np.where(run.trials["status"] == "ok", reward, np.nan)
    mean, best = rolling_mean(reward, window), records(eligible)
    points = evenly(len(mean), POINTS) if n else np.zeros(0, int)
    snapshots = ledger.load_policy(run.path / "policy.npz")
    return {
        "name": run.name,
        "controller": run.controller,
        "twin": twin,
        "count": n,
        "budget": run.config.get("search", {}).get("budget"),
        "failed": int(np.sum(run.trials["status"] == "failed")),
        "window": window,
        "mean": _line(window + points if n >= window else np.full(len(points), n), mean[points]),
        "best_so_far": _line(best + 1, reward[best]),
        "later_mean": _number(_mean(reward[n // 2 :])),
        "trials": _trials(run, most),
        "rounds": _rounds(run),
        "shares": policy.of_trials(run, max(window, n // 20)),
        "policy": policy.of_policy(run, snapshots, source.space) if source else None,
        "best": _best(run, source),
        "measure": _measure(run),
        "quality": _quality(run.path / "best" / "metrics.json"),
        "twins": _twins(run.path / "final" / twins.FILE),
        "times": _times(numbers(run.path / "timings.csv")),
        "environment": _environment(run.path),
        "config": _text(run.path / "config.toml"),
        "command": _command(run.path.parent if twin else run.path),
    }


def _trials(run: Run, most: int) -> dict[str, Any]:
    """The columns of the table; of more trials than `most` the best, and as many of the others as fit."""
    n = len(run.trials["reward"])
    order = np.argsort(-np.nan_to_num(column(run, "reward"), nan=-np.inf), kind="stable")
    kept = np.sort(order[:most] if n <= most else np.append(order[: most // 2], order[most // 2 - most :]))
    names = ["reward", *(m for m in run.measures if np.isfinite(column(run, m)).any())]
    return {
        "left_out": n - len(kept),
        "trial": run.trials["trial"][kept].astype(int).tolist(),
        "numbers": {name: [_number(v) for v in column(run, name)[kept]] for name in names},
        "status": run.trials["status"][kept].tolist(),
        "reason": run.trials["reason"][kept].tolist(),
        "architecture": run.trials["architecture"][kept].tolist(),
    }


def _rounds(run: Run) -> dict[str, Any]:
    """What the controller reported, as lines over trials."""
    names = [name for name in run.rounds if name not in ("round", "trials", "mean_reward", "best_reward")]
    names = [name for name in names if np.isfinite(run.rounds[name]).any()]
    return {name: _line(*_thinned(run.rounds["trials"], run.rounds[name])) for name in names}


def _best(run: Run, source: Source | None) -> list[dict[str, Any]]:
    """The best distinct architectures with their layers, or their cells where the notation has some."""
    succeeded = run.trials["status"] == "ok"
    names = dict.fromkeys(("reward", _measure(run), "accuracy", "params"))
    eligible = ledger.eligible(column(run, "reward"), succeeded, column(run, "constant"))
    order = [i for i in np.argsort(-eligible, kind="stable") if np.isfinite(eligible[i])]
    first = {str(run.trials["architecture"][i]): int(i) for i in reversed(order)}  # its best trial
    best = sorted(first.items(), key=lambda item: (-eligible[item[1]], item[1]))[:BEST]
    return [
        {
            "trial": int(run.trials["trial"][trial]),
            "architecture": architecture,
            "numbers": {name: _number(column(run, name)[trial]) for name in names},
            "image": list(source.image_shape) if source and source.image_shape else None,
            "parts": [list(part) for part in _layers(architecture, source)],
            "cells": [cells.draw(cell)._asdict() for cell in cells.graphs(parts_of(architecture, source))],
        }
        for architecture, trial in best
    ]


def _measure(run: Run) -> str:
    """By which measure the networks were compared."""
    return str(run.config.get("data", {}).get("measure", "accuracy"))


def _quality(path: Path) -> dict[str, Any] | None:
    """What best/ says of its network: measures beside base rates, recalls, calibration; None without it."""
    try:
        metrics = json.loads(path.read_bytes())
        if "base" not in metrics:  # another version wrote it
            return None
        splits = {split: _numbers(metrics[split]) for split in SPLITS if metrics[split]}
        return {
            "trial": metrics["trial"],
            "of_classes": bool(metrics["recall"]),
            "splits": splits,
            "base": {split: _numbers(values) for split, values in metrics["base"].items()},
            "recall": _numbers(metrics["recall"]),
            "calibration": _numbers(metrics["calibration"] or {}),
            "remarks": metrics["remarks"],
        }
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def _twins(path: Path) -> dict[str, Any] | None:
    """The table of what less effort reaches, by the first measure of each split; None without it."""
    rows = ledger.read(path)
    splits = [next((n for n in rows[0] if n.startswith(f"{s}_")), "") for s in SPLITS] if rows else []
    columns = ["params", "seconds", "images", *(n for n in splits if n and any(row[n] for row in rows))]
    try:
        values = [[_number(float(row[name] or "nan")) for name in columns] for row in rows]
    except (KeyError, ValueError):
        return None
    names, remarks = ([row.get(key, "") for row in rows] for key in ("name", "remark"))
    return {"columns": columns, "names": names, "values": values, "remarks": remarks} if rows else None


def _numbers(values: Mapping[str, float | None]) -> dict[str, float | int | None]:
    return {name: _number(np.nan if value is None else value) for name, value in values.items()}


def _layers(architecture: str, source: Source | None) -> list[summary.Part]:
    """The layers with their shapes; without shapes where there is no network to ask."""
    if source is not None and source.network is not None and source.image_shape is not None:
        with contextlib.suppress(InputError):
            return summary.parts(source.network, source.space.parse(architecture), source.image_shape)
    parts = parts_of(architecture, source)
    if cells.graphs(parts):
        return []
    boxes = drawing.boxes(parts, architecture, write_of(source))[1:]
    return [summary.Part(f"{box.kind} {box.words}", (), 0, box.skip) for box in boxes]


def _times(timings: Mapping[str, np.ndarray]) -> list[tuple[str, float]]:
    """(what, seconds) of the rounds, in their order; what adds up to the seconds of all rounds."""
    if not len(timings.get("seconds", ())):
        return []
    total = float(timings["seconds"].sum())
    names = ("waited_seconds", "training_seconds", "evaluate_seconds")
    counters = np.array([timings.get(name, np.zeros(len(timings["seconds"]))) for name in names])
    steps = np.diff(counters, prepend=0.0)
    anew = (steps < 0).any(axis=0)  # they begin at 0 in every process
    waited, training, evaluating = np.where(anew, counters, steps).sum(axis=1).tolist()
    if not evaluating:
        return [("search", total)]
    rest = max(0.0, evaluating - waited - training)
    parts = {
        "compile": waited,
        "train": training,
        "prepare": rest,
        "controller": max(0.0, total - evaluating),
    }
    return [(name, round(seconds, 3)) for name, seconds in parts.items()]


def _environment(path: Path) -> dict[str, Any]:
    try:
        recorded = json.loads((path / "environment.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    recorded = recorded if isinstance(recorded, dict) else {}
    return {key: ", ".join(map(str, v)) if isinstance(v, list) else str(v) for key, v in recorded.items()}


def _command(path: Path) -> str:
    """What repeats the run: with the threads that the last bits depend on."""
    threads = _environment(path).get("cpu_threads")
    return f"{f'NPROC={threads} ' if threads else ''}jaxnas search {shlex.quote(str(path / 'config.toml'))}"


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _thinned(xs: np.ndarray, ys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    points = evenly(len(xs), POINTS) if len(xs) else np.zeros(0, int)
    return xs[points], ys[points]


def _line(xs: np.ndarray, ys: np.ndarray) -> dict[str, list]:
    return {"x": [int(x) for x in xs], "y": [_number(y) for y in ys]}


def _number(value: float) -> float | int | None:
    """Six digits are more than can be seen."""
    if not np.isfinite(value):
        return None
    rounded = float(f"{value:.6g}")
    return int(rounded) if rounded.is_integer() else rounded


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")
