"""`jaxnas report`: runs side by side, as a table, figures and a page."""

import argparse
from pathlib import Path

from jaxnas import machine, report
from jaxnas.commands import report_page


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run's folder")
    parser.add_argument("--out", type=Path, help="where the figures go; by default the first run's folder")


def run(options: argparse.Namespace, _: list[str]) -> int:
    """Print the table, write the figures and the page, and say where they are."""
    machine.use_cpu()
    runs = [report.read(path) for path in options.runs]
    folder = options.out or options.runs[0]
    sources = report_page.sources(runs)
    written = report.write(runs, folder, sources)
    report.show(report.compare(runs))
    for path in (*written, report.write_page(runs, folder, sources)):
        print(path)
    return 0
