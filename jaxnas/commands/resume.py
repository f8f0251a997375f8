"""`jaxnas resume`: a run goes on from its last checkpoint, to the same budget or a larger one."""

import argparse
import sys
from pathlib import Path

from jaxnas import config, evaluators
from jaxnas.commands import execution, start
from jaxnas.runs import process, provenance, restore


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("run", type=Path, metavar="RUN", help="the run's folder")
    parser.add_argument("--budget", type=int, help="trials in all; by default what the run began with")


def run(options: argparse.Namespace, _: list[str]) -> int:
    """Go on with the run, and say what it found."""
    folder = options.run
    provenance.read(folder)
    with process.owned(folder):
        flags = [] if options.budget is None else ["--search.budget", str(options.budget)]
        settings = start.reopen(folder, flags)
        parts = config.build(settings)
        with evaluators.closing_after_error(parts.evaluator):
            settings, searches = start.searches_of(settings, parts)
            for search in searches:
                restore.check_budget(folder / search.folder, search.stop.budget)
        if changes := provenance.changes(folder):
            print(
                f"jaxnas: {folder}: {', '.join(changes)}: results may differ in their bits", file=sys.stderr
            )
        return execution.execute_and_print(settings, searches, folder, parts)
