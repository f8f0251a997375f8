"""`jaxnas retrain`: the best architectures of a run, trained for longer and measured on the test split.

With overrides the same architectures become other networks or see other data, in a folder of its own,
RUN/retrained-NAME: cells that were searched on a part of the images make a deeper network on all of them.
"""

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path

from jaxnas import config, data
from jaxnas.commands import export, final, progress, start
from jaxnas.commands.console import print_check, print_table, short, terminal
from jaxnas.errors import InputError
from jaxnas.export import quality
from jaxnas.runs import finalists, ledger, process, provenance

SHOWN = ("_accuracy", "_mae")  # ends of the names of the measures that are printed
OVERRIDDEN = ("network", "data", "trainer")


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("run", type=Path, metavar="RUN", help="the run's folder")
    parser.add_argument("--top", type=int, default=10, help="how many distinct architectures (default: 10)")
    parser.add_argument("--epochs", type=int, help="at most; by default twice the search's")
    parser.add_argument("--with-validation", action="store_true", help="train on the validation images too")
    parser.add_argument("--cells", metavar="N", help="short for --network.cells: a deeper network")
    parser.add_argument("--filters", metavar="F", help="short for --network.filters: a wider network")
    parser.add_argument("--name", default="", help="of the results' folder, RUN/retrained-NAME")


def run(options: argparse.Namespace, overrides: list[str]) -> int:
    """Train the networks, print what they reached, and write the best of them to best/."""
    if options.top < 1:
        raise InputError(f"--top: got {options.top}; it takes 1 or more")
    if options.name and not config.is_folder_name(options.name):
        raise InputError(f"--name: got {options.name!r}; it takes part of a folder's name: no path")
    for name in ("cells", "filters"):
        if (value := getattr(options, name)) is not None:
            overrides = [f"--network.{name}", value, *overrides]
    provenance.read(options.run)
    with process.owned(options.run):
        settings = start.reopen(options.run, [])
        settings = settings_of(settings, options.epochs, overrides)
        trials = ledger.read(options.run / "trials.csv")
        dataset = data.load(**vars(settings.data))
        if dataset.test is None:
            raise InputError("retrain: the data have no test split; set data.test_fraction above 0")
        with progress.Counter("trained", options.top + 1) as counter:
            folder, rows = finalists.train(
                options.run,
                settings,
                dataset,
                trials,
                options.top,
                joins_validation=options.with_validation,
                name=options.name,
                watch=counter.update,
            )
        show(folder, rows)
        if checked := export.retrained(folder, settings, dataset, rows):
            print_check(*checked)
        for line in quality.words(quality.read(folder / "best")):
            print(line)
    return 0


def settings_of(settings: config.Config, epochs: int | None, overrides: Sequence[str] = ()) -> config.Config:
    """The run's configuration with the trainer that its best architectures are trained by.

    Twice the epochs of its final training, or else of its trials, and all of them. Overrides of the sections
    `OVERRIDDEN` come on top.

    Raises:
      InputError: the run trains no networks, the number of epochs is below 1, or a wrong override.
    """
    if not hasattr(settings.trainer, "epochs"):  # none, or one of an evaluator that trains in its own way
        raise InputError(
            f"retrain: the run's evaluator {settings.evaluator.name!r} trains no networks; "
            "give a run whose evaluator is trained"
        )
    if epochs is not None and epochs < 1:
        raise InputError(f"--epochs: got {epochs}; it takes 1 or more")
    twice = 2 * (settings.final.epochs or settings.trainer.epochs)
    return config.override(final.trained_to_the_end(settings, epochs or twice), overrides, OVERRIDDEN)


def show(folder: Path, rows: list[dict[str, str]]) -> None:
    """Print the retrained networks, the one by hand last, the ensemble and the confusion matrix."""
    console = terminal()
    measure = next(name for name in rows[0] if name.startswith("validation_")).removeprefix("validation")
    shown = (name for name in rows[0] if name.endswith((*SHOWN, measure)))
    kept = ("name", "params", "epochs", "searched_reward", *shown)
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
