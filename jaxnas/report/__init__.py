"""Run folders → tables, figures and a page: `read` runs, `show(compare(runs))`, `write(runs, folder)`.

Many searches an arm → `comparison`, `choices`, `top`, `best_so_far_figure`.
"""

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from jaxnas.errors import InputError
from jaxnas.report import page
from jaxnas.report.arms import Arm, Rows, best_so_far_figure, choices, comparison, top
from jaxnas.report.plots import figures
from jaxnas.report.runs import Run, read
from jaxnas.report.sources import Source, parts_of, write_of
from jaxnas.report.tables import Row, compare, show

__all__ = [
    "Arm", "Row", "Rows", "Run", "Source", "best_so_far_figure", "choices", "compare", "comparison",
    "figures", "parts_of", "read", "show", "top", "write", "write_of", "write_page",
]  # fmt: skip


def write(
    runs: Sequence[Run], folder: str | Path, sources: Mapping[Path, Source] | None = None
) -> list[Path]:
    """Write `comparison.csv` and `figures/NAME.svg` into the folder, each whole at any moment; their paths.

    `sources` says by path of run what its configuration makes of architectures; without, they are not drawn.

    Raises:
      InputError: the folder cannot be written to.
    """
    table = io.StringIO()
    rows = [["" if value != value else value for value in row] for row in compare(runs)]  # NaN is empty
    csv.writer(table, lineterminator="\n").writerows([Row._fields, *rows])
    texts = {"comparison.csv": table.getvalue()}
    texts |= {f"figures/{name}.svg": text for name, text in figures(runs, sources).items()}
    return [_write(Path(folder) / name, text) for name, text in texts.items()]


def write_page(runs: Sequence[Run], folder: str | Path, sources: Mapping[Path, Source]) -> Path:
    """Write `report.html` into the folder, whole at any moment; its path.

    `sources` says by path of run what its configuration makes of architectures; without, choices of the
    policy and shapes of layers are left out.

    Raises:
      InputError: the folder cannot be written to.
    """
    return _write(Path(folder) / page.FILE, page.html(page.encode(runs, sources), page.title(runs)))


def _write(path: Path, text: str) -> Path:
    """Write a whole file or nothing; its temporary file is this process's own, for several may report."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        unfinished.write_text(text, "utf-8", newline="\n")
        os.replace(unfinished, path)
    except OSError as error:
        raise InputError(
            f"{path.parent}: cannot write the report there: {error.strerror}; give another folder"
        ) from None
    return path
