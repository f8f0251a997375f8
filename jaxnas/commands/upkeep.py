"""The report page of runs, with what their configurations say of architectures; kept up during a search."""

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
    """By path of run, its space alone, which needs no data; runs whose space is not here are left out."""
    known: dict[Path, report.Source] = {}
    for run in runs:
        with contextlib.suppress(InputError):
            known[run.path] = report.Source(config.build_space(config.load(run.path / "config.toml")))
    return known


def sources(runs: Sequence[report.Run]) -> dict[Path, report.Source]:
    """By path of run and of twin. Without the data no shapes are known; without the space, nothing is."""
    found: dict[Path, report.Source] = {}
    for run in runs:
        try:
            settings = config.load(run.path / "config.toml")
            source = report.Source(config.build_space(settings))
        except InputError:
            continue
        with contextlib.suppress(InputError):  # where the data is not here
            source = source_of(config.build(settings))
        found |= {each.path: source for each in (run, run.twin) if each is not None}
    return found


class Page:
    """Keeps report.html of a run in progress, as often as that costs little of the time."""

    def __init__(self, folder: Path, source: report.Source):
        self.folder, self.source, self.began, self.cost = folder, source, time.perf_counter(), 0.0
        for left in folder.glob(f".{report.page.FILE}.*"):  # by a process that was killed
            left.unlink(missing_ok=True)

    def update(self) -> None:
        """Write it anew if its turn has come."""
        began = time.perf_counter()
        if self.cost <= SHARE * (began - self.began):
            try:
                self.write()
                self.cost += time.perf_counter() - began
            except InputError as error:  # a search does not end for its page
                print(f"jaxnas: {error}", file=sys.stderr)
                self.cost = float("inf")

    def write(self) -> None:
        """Write it."""
        run = report.read(self.folder)
        paths = [each.path for each in (run, run.twin) if each is not None]
        report.write_page([run], self.folder, dict.fromkeys(paths, self.source))
