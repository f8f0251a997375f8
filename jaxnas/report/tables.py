"""The comparison of runs: a row each."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jaxnas.report.runs import Run, best_trial, column, with_twins


class Row(NamedTuple):
    """A run in numbers: means over the trials that did not fail, then its best child; NaN is unknown."""

    run: str
    controller: str
    trials: int
    failed: int
    mean_reward: float
    second_half_reward: float  # the mean over the later half of the trials; of an odd number, the larger
    mean_params: float
    mean_accuracy: float  # 0–1
    best_reward: float  # the highest; what follows is of the first child that has it
    best_accuracy: float  # 0–1
    best_architecture: str


COLUMNS = (  # heading and format of all but the last
    *(("run", ""), ("controller", ""), ("n", ""), ("fail", ""), ("mean\nreward", ".4f")),
    *(("second\nhalf", ".4f"), ("mean\nparams", ",.0f"), ("mean\nacc.", ".4f")),
    *(("best\nreward", ".4f"), ("its\nacc.", ".4f")),
)


def compare(runs: Sequence[Run]) -> list[Row]:
    """A row a run, each followed by its twin's."""
    return [_row(run) for run, _ in with_twins(runs)]


def show(rows: Sequence[Row], console: Console | None = None) -> None:
    """Print the comparison and the best architectures; not to a terminal: as plain text of any width."""
    to = console or Console()
    if not to.is_terminal:
        to = Console(file=to.file, width=1000)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, int(to.width > 100)))
    for i, (heading, _) in enumerate(COLUMNS):
        words = i < 2  # these give way where the terminal is narrow
        table.add_column(
            heading, "", justify="left" if words else "right", overflow="fold", no_wrap=not words
        )
    for row in rows:
        cells = zip(row[:-1], COLUMNS, strict=True)
        table.add_row(*(Text("-" if value != value else format(value, form)) for value, (_, form) in cells))
    to.print(table)
    for row in rows:
        if row.best_architecture:
            to.print(Text(f"best of {row.run}: {row.best_architecture}"), soft_wrap=True)


def _row(run: Run) -> Row:
    reward, accuracy = column(run, "reward"), column(run, "accuracy")
    best = best_trial(run)
    return Row(
        run=run.name,
        controller=run.controller,
        trials=len(reward),
        failed=int(np.sum(run.trials["status"] == "failed")),
        mean_reward=_mean(reward),
        second_half_reward=_mean(reward[len(reward) // 2 :]),
        mean_params=_mean(column(run, "params")),
        mean_accuracy=_mean(accuracy),
        best_reward=math.nan if best is None else float(reward[best]),
        best_accuracy=math.nan if best is None else float(accuracy[best]),
        best_architecture="" if best is None else str(run.trials["architecture"][best]),
    )


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else math.nan
