"""What a retraining measured on the test split: its networks together, the first alone, and how it prints."""

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np

from jaxnas.commands.console import print_table, short, terminal
from jaxnas.runs import ledger
from jaxnas.types import Dataset

ENSEMBLE = 5  # networks
SHOWN = ("_accuracy", "_mae")  # ends of the names of the measures that are printed


def compare(folder: Path, dataset: Dataset, labels: np.ndarray, names: list[str]) -> None:
    """ensemble.csv: the mean of the first networks' probabilities; confusion.csv: the first network alone."""
    if not names:
        return
    outputs = [np.loadtxt(folder / n / "outputs.csv", delimiter=",", ndmin=2) for n in names[:ENSEMBLE]]
    measured = dataset.task.measures(dataset.task.ensemble(np.stack(outputs)), labels)
    write_csv(
        folder / "ensemble.csv",
        [
            ["networks", *(f"test_{name}" for name in measured)],
            [" ".join(names[:ENSEMBLE]), *map(ledger.number, measured.values())],
        ],
    )
    if dataset.task.predict is not None:
        predicted = dataset.task.predict(outputs[0])
        table = np.zeros((len(dataset.classes),) * 2, int)
        np.add.at(table, (labels, predicted), 1)
        rows = [[name, *row] for name, row in zip(dataset.classes, table.tolist(), strict=True)]
        write_csv(folder / "confusion.csv", [["true \\ predicted", *dataset.classes], *rows])


def show(folder: Path, rows: list[dict[str, str]]) -> None:
    """Print the retrained networks, the hand-designed one last, the ensemble and the confusion matrix."""
    console = terminal()
    kept = ("name", "params", "epochs", "searched_reward", *(n for n in rows[0] if n.endswith(SHOWN)))
    print_table(console, [list(kept), *([short(row[name]) for name in kept] for row in rows)])
    for row in rows:
        console.print(f"{row['name']}: {row['architecture']}{'  ' + row['reason'] if row['reason'] else ''}")
    for name in ("ensemble", "confusion"):
        path = folder / f"{name}.csv"
        if path.exists():
            console.print()
            print_table(
                console,
                [[short(x) for x in line] for line in csv.reader(path.read_text("utf-8").splitlines())],
            )
    console.print(f"\nAll of it lies in {folder}.")


def write_csv(path: Path, rows: list[list[Any]]) -> None:
    """Write a file whole or not at all; the first of the rows is the heading."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    ledger.write_atomic(path, text.getvalue().encode())
