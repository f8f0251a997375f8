"""The end of a search as `[final]` says: its best architectures are trained to the end, one becomes best/."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxnas import config, data
from jaxnas.commands import export, progress
from jaxnas.commands.console import print_check, print_table, terminal
from jaxnas.commands.start import PlannedSearch
from jaxnas.export import quality
from jaxnas.report import statistics
from jaxnas.runs import finalists, ledger, pixels, process, twins
from jaxnas.types import Dataset, Task

ANNEALED = ("cosine", "one_cycle")  # schedules whose last weights are the ones to keep


def settings_of(settings: config.Config) -> config.Config:
    """The configuration by which the best architectures of a run are trained to the end."""
    final = settings.final
    settings = trained_to_the_end(settings, final.epochs or settings.trainer.epochs, final.repeats)
    if final.full:
        whole = dataclasses.replace(settings.data, limit=0, fraction=1.0)
        settings = dataclasses.replace(settings, data=whole)
    return settings


def trained_to_the_end(settings: config.Config, epochs: int, repeats: int = 1) -> config.Config:
    """A run's configuration with a trainer whose patience does not end it before its schedule does.

    The weights are those of the last epoch where the learning rate ends near 0, else of the best one. Every
    architecture is trained, whatever the search's constraints and memory.
    """
    weights = "last" if settings.trainer.schedule in ANNEALED else "best"
    rules = {"patience": 0, "weights": weights, "best_of": 0, "repeats": repeats, "epochs": epochs}
    return dataclasses.replace(
        settings,
        trainer=dataclasses.replace(settings.trainer, **rules),
        search=dataclasses.replace(settings.search, duplicates="train"),
        constraints=config.Constraints(),
    )


def train(settings: config.Config, searches: Sequence[PlannedSearch], folder: Path, dataset: Dataset) -> None:
    """Train the best architectures of each search of a run, write best/ of each, and print what they reached.

    Raises:
      InputError: a search has no trial that succeeded, or was trained to the end with other settings.
      Interrupted: SIGINT or SIGTERM; the networks that are done are saved.
    """
    with process.Signals() as signals, signals.raised():
        _train(settings, searches, folder, dataset)


def _train(
    settings: config.Config, searches: Sequence[PlannedSearch], folder: Path, dataset: Dataset
) -> None:
    final = settings_of(settings)
    if final.data != settings.data:
        dataset = data.load(**vars(final.data))
    has_twins = settings.final.twins and dataset.kind == "image"
    for search in searches:
        path = folder / search.folder
        baseline = has_twins and not search.folder and finalists.takes_baseline(dataset)
        trials = ledger.read(path / "trials.csv")
        wanted = len(finalists.candidates(trials, search.search.space, settings.final.top)) + baseline
        with progress.Counter(f"{search.folder or 'best networks'}: trained to the end", wanted) as counter:
            results, rows = finalists.train(
                path,
                final,
                dataset,
                trials,
                settings.final.top,
                kind=finalists.FINAL,
                baseline=baseline,
                watch=counter.update,
            )
        for line in summary(rows, dataset):
            print(line)
        if checked := export.retrained(results, final, dataset, rows, best=path / "best"):
            print_check(*checked)
        for line in quality.words(quality.read(path / "best")):
            print(line)
    if has_twins:
        show_twins(folder, [folder / search.folder for search in searches], dataset)


def show_twins(folder: Path, searches: Sequence[Path], dataset: Dataset) -> None:
    """Measure what less effort than a search reaches, and print it beside what the search has found."""
    task = dataset.task
    if task.predict is None:
        print(f"beside the search a network by hand alone: task {task.name} has not one class an image")
    with progress.Counter("methods on pixels", len(pixels.METHODS)) as counter:
        rows = twins.write(folder / finalists.FINAL, searches, dataset, watch=counter.update)
    print(f"{task.names[0].replace('_', ' ')} beside less effort:")
    splits = ["validation", *["test"] * (dataset.test is not None)]
    table = [["name", "parameters", "seconds", "images", *splits]]
    for row in rows:
        values = (row[f"{split}_{task.names[0]}"] for split in splits)
        shown = (f"{float(value):.4f}" if value else "" for value in values)
        table.append([row["name"], f"{int(float(row['params'])):,}", row["seconds"], row["images"], *shown])
    print_table(terminal(), table)
    for row in rows:
        if row["remark"]:
            print(row["remark"])


def summary(rows: list[dict[str, str]], dataset: Dataset) -> list[str]:
    """What a person is told of networks that were trained to the end, the best first."""
    task, succeeded = dataset.task, [row for row in rows if row["status"] == "ok" and row["trial"]]
    if not succeeded:
        return ["no network could be trained to the end"]
    name, best = task.names[0], succeeded[0]
    words = name.replace("_", " ")
    lines = [f"best network: {best['architecture']}, {int(float(best['params'])):,} parameters"]
    line = f"{words}: {float(best[f'validation_{name}']):.4f} of {len(dataset.validation.labels)} validation"
    if dataset.test is not None and best[f"test_{name}"]:
        tested = float(best[f"test_{name}"])
        line += f", {tested:.4f} of {len(dataset.test.labels)} test inputs"
        if name == "accuracy":
            low, high = statistics.wilson(tested, len(dataset.test.labels))
            line += f" (95 % interval {low:.4f} to {high:.4f})"
    lines.append(line)
    if optimism := _optimism(task, succeeded):
        lines.append(optimism)
    return lines


def _optimism(task: Task, rows: list[dict[str, str]]) -> str:
    """How the search's estimates compare with what the networks reached, where that can be said."""
    name, parts = task.names[0], []
    both = [(row[f"validation_{name}"], row[f"test_{name}"]) for row in rows if row[f"test_{name}"]]
    if both:
        validation, test = np.array(both, float).mean(axis=0)
        parts.append(f"validation is {validation - test:+.4f} above test, the mean of {len(both)} networks")
    if len(rows) > 2:
        from scipy import stats

        columns = "searched_reward", f"validation_{name}"
        reward, reached = (np.array([row[column] for row in rows], float) for column in columns)
        if np.ptp(reward) and np.ptp(reached):
            rank: Any = stats.spearmanr(reward, reached)[0]
            parts.append(f"rank correlation of the search's reward with it {rank:+.2f}")
    return "; ".join(parts)
