"""A run as TensorBoard event files: scalars, hyperparameters, and as images the policy, accuracy against
parameters and the best network.

Written from the ledgers by tensorboardX, which needs no TensorFlow. A run that goes on begins its event file
anew from the ledgers, so it never holds a trial that the run does not count.
"""

import csv
import importlib
import io
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxnas.errors import InputError
from jaxnas.report import Source, parts_of, pictures, write_of
from jaxnas.runs import ledger

FOLDER = "tensorboard"  # within the run's
CELL = 16  # pixels a side of a probability in the image
BEST = "best/reward"
MORE = 1.25  # times as many trials have a new figure


def package() -> Any:
    """tensorboardX.

    Raises:
      InputError: it is not installed.
    """
    try:
        importlib.import_module("tensorboardX.summary")
        return importlib.import_module("tensorboardX")
    except ImportError:
        raise InputError(
            "search.log: 'tensorboard' needs tensorboardX: pip install 'jaxnas[tensorboard]'"
        ) from None


class Log:
    """Follows the run in `folder`; `settings` {section: {key: value}} are its hyperparameters.

    With a source the best network is drawn as what its space says that it is made of.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Mapping[str, Any]], source: Source | None = None):
        tensorboard = package()
        shutil.rmtree(folder / FOLDER, ignore_errors=True)
        self.writer = tensorboard.SummaryWriter(logdir=str(folder / FOLDER), flush_secs=10)
        self.trials, self.rounds = _Rows(folder / "trials.csv"), _Rows(folder / "rounds.csv")
        self.policy, self.drawn = folder / "policy.npz", set()
        self.batch_size, self.best, self.written = 0, float("-inf"), None
        self.sizes, self.values, self.figure, self.last = [], [], 0, 0  # of the trials that have both
        self.source = source
        flat = {f"{s}.{key}": _plain(v) for s, table in settings.items() for key, v in table.items()}
        experiment, started, self.ended = tensorboard.summary.hparams(flat, {BEST: 0.0})
        for summary in (experiment, started):
            self.writer.file_writer.add_summary(summary)

    def update(self) -> None:
        """Write what has come since the last time."""
        add, best = self.writer.add_scalar, None
        for row in self.trials.new():
            trial = self.last = int(row["trial"])
            names = list(row)
            for name in names[names.index("architecture") + 1 : -2]:  # measures and the reward
                if row[name]:
                    add(f"trial/{name}", float(row[name]), trial)
            if row["status"] == "ok" and row["reward"] and float(row["reward"]) > self.best:
                self.best = float(row["reward"])
                add(BEST, self.best, trial)
                self.writer.add_text("best/architecture", row["architecture"], trial)
                best = row["architecture"], trial
            size, value = (float(row.get(name) or "nan") for name in ("params", "accuracy"))
            if size > 0 and np.isfinite(value):
                self.sizes.append(size)
                self.values.append(value)
        if best:  # of those that came together the last
            drawn = pictures.network(parts_of(best[0], self.source), best[0], write_of(self.source))
            self.writer.add_image("best/network", drawn, best[1], dataformats="HWC")
        if len(self.sizes) > MORE * self.figure:
            self._draw()
        for row in self.rounds.new():
            self.batch_size = int(row["trials"]) // (int(row["round"]) + 1)
            for name in row.keys() - {"round", "trials", "best_reward"}:
                if row[name]:
                    group = "search" if name == "mean_reward" else "controller"
                    add(f"{group}/{name}", float(row[name]), int(row["trials"]))
        written = self.policy.stat().st_mtime_ns if self.policy.exists() else None
        snapshots = ledger.load_policy(self.policy) if written != self.written else {}
        self.written = written
        for round, (_, probabilities) in snapshots.items():
            if round not in self.drawn:
                self.drawn.add(round)
                self.writer.add_image("policy", image(probabilities), round * self.batch_size)

    def _draw(self) -> None:
        self.figure = len(self.sizes)
        drawn = pictures.scatter(np.array(self.sizes), np.array(self.values), "accuracy")
        self.writer.add_image("search/accuracy_params", drawn, self.last, dataformats="HWC")

    def close(self) -> None:
        """Write the rest, and that the run has ended."""
        self.update()
        if len(self.sizes) > self.figure:
            self._draw()
        self.writer.file_writer.add_summary(self.ended)
        self.writer.close()


def image(probabilities: np.ndarray) -> np.ndarray:  # [T, A] → uint8 [3, CELL · T, CELL · A]
    """A row a decision, a column a choice: from white, never, to blue, always."""
    white, blue = np.full(3, 255.0), np.array([0.0, 114.0, 178.0])
    share = np.clip(np.asarray(probabilities, np.float64), 0, 1)[None]
    colour = white[:, None, None] * (1 - share) + blue[:, None, None] * share
    return np.kron(np.round(colour), np.ones((1, CELL, CELL))).astype(np.uint8)


class _Rows:
    """The whole lines of a growing CSV file, each read once."""

    def __init__(self, path: Path):
        self.path, self.end, self.header = path, 0, []

    def new(self) -> list[dict[str, str]]:
        if not self.path.exists():
            return []
        with open(self.path, "rb") as file:
            file.seek(self.end)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self.end += len(whole)
        rows = list(csv.reader(io.StringIO(whole.decode(), newline="")))
        if rows and not self.header:
            self.header = rows.pop(0)
        return [dict(zip(self.header, row, strict=True)) for row in rows]


def _plain(value: Any) -> bool | float | str:
    """What a hyperparameter can be."""
    return value if isinstance(value, bool | int | float | str) else str(value)
