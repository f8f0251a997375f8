"""The page report.html: what it takes from the configurations of runs, and its updates during a search."""

import contextlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from jaxnas import config, report
from jaxnas.errors import InputError

SHARE = 0.02  # of the time of a search, at most, that its page may take


def source_of(parts: config.Parts) -> report.Source:
    """What the page needs of the objects of a search."""
    of_images = parts.dataset is not None and parts.dataset.kind == "image"
    shape = tuple(parts.dataset.train.inputs.shape[1:]) if parts.dataset and of_images else None
    return report.Source(parts.space, parts.network, shape)


def spaces(runs: Sequence[report.Run]) -> dict[Path, report.Source]:
    """{path of a run: a source with its space alone}; runs whose space cannot be built are left out."""
    known: dict[Path, report.Source] = {}
    for run in runs:
        with contextlib.suppress(InputError):
            known[run.path] = report.Source(config.build_space(config.load(run.path / "config.toml")))
    return known


def sources(runs: Sequence[report.Run]) -> dict[Path, report.Source]:
    """{path of a run or its twin: its source}; runs whose space cannot be built are left out.

    Where the data cannot be had, a source has the space alone.
    """
    sources: dict[Path, report.Source] = {}
    for run in runs:
        try:
            settings = config.load(run.path / "config.toml")
            try:
                source = source_of(config.build(settings))
            except InputError:  # where the data is not here
                source = report.Source(config.build_space(settings))
        except InputError:
            continue
        sources |= {shown.path: source for shown in (run, run.twin) if shown is not None}
    return sources


class Page:
    """Writes report.html of a run in progress, as long as that takes a small `SHARE` of the time."""

    def __init__(self, folder: Path, source: report.Source):
        self.folder, self.source, self.began, self.cost = folder, source, time.perf_counter(), 0.0
        for left in folder.glob(f".{report.page.FILE}.*"):  # by a process that was killed
            left.unlink(missing_ok=True)

    def update(self) -> None:
        """Write the page, unless that has taken its share of the time already."""
        began = time.perf_counter()
        if self.cost <= SHARE * (began - self.began):
            try:
                self.write()
                self.cost += time.perf_counter() - began
            except InputError as error:  # a page that cannot be written does not end the search
                print(f"jaxnas: {error}", file=sys.stderr)
                self.cost = float("inf")

    def write(self) -> None:
        """Write the page."""
        run = report.read(self.folder)
        paths = [shown.path for shown in (run, run.twin) if shown is not None]
        report.write_page([run], self.folder, dict.fromkeys(paths, self.source))
