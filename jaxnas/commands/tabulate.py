"""Runs → a table of what they measured, which the evaluator `table` reads: a row a successful trial."""

import argparse
import csv
import io
from collections.abc import Sequence
from pathlib import Path

from jaxnas import report
from jaxnas.config import options
from jaxnas.errors import InputError
from jaxnas.report import Run
from jaxnas.runs import ledger

# What may not differ: what an architecture says, and how it was measured. Rules that mask some of a space's
# architectures change neither, nor do options of the trainer that only say how the machine is used.
MEASURED = ("space", "evaluator", "network", "data", "trainer")
FREE = (
    "space.forbid",
    *(f"trainer.{name}" for name in ("population", "group_size", "workers", "resident_mb")),
    *(f"trainer.{name}" for name in ("memory_fraction", "compile_gflops", "xla_level")),
)


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run's folder")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.csv", help="the table")


def run(options: argparse.Namespace, _: list[str]) -> int:
    """Write the table, and say how much is in it."""
    rows, architectures = execute(options.runs, options.out)
    print(f"{options.out}: {rows} trials of {architectures} architectures")
    return 0


def execute(folders: Sequence[str | Path], out: Path) -> tuple[int, int]:
    """Write the table of some runs to `out`, whole or not at all: how many rows, of how many architectures.

    Columns: `architecture` and the measures. Rows: the successful trials, in the order of the runs and of
    their trials; one whose result was reused is no measurement of its own and has none.

    Raises:
      InputError: a folder is no run, runs that did not measure the same thing in the same way, no successful
        trial, or `out` is no name of a CSV file or cannot be written.
    """
    if out.suffix != ".csv":
        raise InputError(f"--out: got {str(out)!r}; it takes a file name that ends in .csv")
    runs = [report.read(folder) for folder in folders]
    if out.resolve().parent in [run.path.resolve() for run in runs] and out.exists():
        raise InputError(f"--out: {str(out)!r} is a file of that run; it takes a file of another folder")
    for run in runs[1:]:
        _check_alike(runs[0], run)
    columns = ("architecture", *(name for name in runs[0].measures if name != "reused"))
    rows = [
        [row[name] for name in columns]
        for run in runs
        for row in ledger.read(run.path / "trials.csv")
        if row["status"] == "ok" and row.get("reused", "0") == "0"
    ]
    if not rows:
        first = runs[0].path
        raise InputError(f"tabulate: {ledger.without_success(ledger.read(first / 'trials.csv'), first)}")
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        ledger.write_atomic(out, text.getvalue().encode())
    except OSError as error:
        raise InputError(f"--out: cannot write {str(out)!r}: {error.strerror}") from None
    return len(rows), len({row[0] for row in rows})


def _check_alike(first: Run, other: Run) -> None:
    """Raise an InputError that names the first setting by which two runs do not belong in one table."""
    settings = [
        {
            f"{section}.{key}": value
            for section in MEASURED
            for key, value in run.config.get(section, {}).items()
        }
        for run in (first, other)
    ]
    for key in sorted(set().union(*settings), key=lambda key: MEASURED.index(key.split(".")[0])):
        a, b = (table.get(key) for table in settings)
        if a != b and key not in FREE:
            raise InputError(
                f"{other.path}: {key} is {options.show(b)}, in {first.path} {options.show(a)}; "
                "a table takes runs of one space, measured in one way"
            )
    measures = [set(run.measures) - {"reused"} for run in (first, other)]
    if (first.choices, measures[0]) != (other.choices, measures[1]):
        raise InputError(f"{other.path}: its trials.csv has other columns than that of {first.path}")
