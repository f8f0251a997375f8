"""A search from Python or a notebook: `result = jaxnas.search(space="blocks", data="digits", …)`.

The run is a folder like that of `jaxnas search CONFIG`, and every command takes it.
"""

import base64
import dataclasses
import html
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnas import config, report
from jaxnas.commands import execution, report_page, start
from jaxnas.config import options
from jaxnas.errors import InputError, unknown
from jaxnas.report.runs import best_trial
from jaxnas.runs import process, provenance

HEAD, TAIL = 5, 5  # rows of a table that a notebook shows
Section = str | dict[str, Any]  # a name, or a table as in TOML


def search(
    configuration: str | Path | None = None,
    *,
    space: Section | None = None,
    controller: Section | None = None,
    evaluator: Section | None = None,
    reward: Section | None = None,
    network: Section | None = None,
    data: Section | None = None,
    trainer: dict[str, Any] | None = None,
    constraints: dict[str, Any] | None = None,
    final: dict[str, Any] | None = None,
    runtime: dict[str, Any] | None = None,
    folder: str | Path = "checkpoints",
    **search: Any,
) -> "Result":
    """Runs a search, shows its progress, and returns what it found.

    Args:
      configuration: a TOML file; a section that is given here takes the place of the file's.
      space: what may be built: a name, or a table such as {"name": "blocks", "num_blocks": 2}.
      controller: who proposes.
      evaluator: who measures; by default networks are trained.
      reward: measures → reward; by default the accuracy.
      network: how an architecture is built; by default as its space says.
      data: a source such as "digits" or "folder:PATH", or a table such as {"source": "digits", "limit": 500}.
      trainer: options of the training.
      constraints: limits on parameters and operations.
      final: how the best networks are trained to the end, such as {"top": 3, "epochs": 60}.
      runtime: the machine; it has to be set before JAX has computed anything in this process.
      folder: where runs are written; this one is named by `name`, by default "SPACE_CONTROLLER".
      **search: keys of [search], such as budget=100, seed=1, twin=True.

    Raises:
      InputError: an unknown name or key, a wrong value, or data that cannot be had.
      KeyboardInterrupt: the search was interrupted; it is saved, and the message says how to go on.
    """
    sections = {"space": space, "controller": controller, "evaluator": evaluator, "reward": reward}
    sections |= {"network": network, "data": data, "trainer": trainer}
    sections |= {"constraints": constraints, "final": final, "runtime": runtime}
    known = {field.name for field in dataclasses.fields(config.SearchSettings)}
    for name in search:
        if name not in known:
            raise unknown("jaxnas.search", name, {"configuration", "folder", *sections, *known})
    table = {} if configuration is None else config.read(Path(configuration))
    table |= {name: _table(name, given) for name, given in sections.items() if given is not None}
    table["search"] = table.get("search", {}) | search
    settings = config.from_table(table, [], _name(configuration, table))
    if settings.search.seeds > 1:
        raise InputError(
            "search.seeds: jaxnas.search runs one search; many at once: `jaxnas search CONFIG --seeds N`"
        )
    provenance.prepare(cpu_devices=settings.runtime.cpu_devices, deterministic=settings.runtime.deterministic)
    settings, searches, path, parts = start.begin(settings, Path(folder), "name" in search)
    with process.owned(path):
        try:
            execution.execute(settings, searches, path, parts)
        except process.Interrupted as interrupt:
            if interrupt.number != signal.SIGINT:
                raise SystemExit(128 + interrupt.number) from None
            raise KeyboardInterrupt(f"saved; go on with: jaxnas resume {path}") from None
    return Result(path)


class Result(NamedTuple):
    """What a run found, read from its folder, while it is complete, in progress or interrupted."""

    folder: Path

    @property
    def trials(self) -> "Trials":
        """Every trial, a column a decision and a measure."""
        columns = report.read(self.folder).trials
        whole = {name: columns[name].astype(np.int64) for name in ("trial", "round")}
        return Trials(columns | whole)

    @property
    def best(self) -> dict[str, Any]:
        """The best successful trial, {column: value}; empty if there is none."""
        best = best_trial(report.read(self.folder))
        if best is None:
            return {}
        return {name: column[best].item() for name, column in self.trials.items()}

    def report(self) -> "Report":
        """Writes what `jaxnas report` writes into the run's folder; a notebook shows its figures."""
        runs = [report.read(self.folder)]
        return Report(report.write(runs, self.folder, report_page.spaces(runs)))

    def __repr__(self) -> str:
        rows = report.compare([report.read(self.folder)])
        lines = [
            f"{row.run}: {row.trials} trials of {row.controller}, {row.failed} failed, best reward "
            f"{row.best_reward:.4f}: {row.best_architecture or 'none'}"
            for row in rows
        ]
        return "\n".join([*lines, f"in {self.folder}"])

    def _repr_html_(self) -> str:
        rows = report.compare([report.read(self.folder)])
        head = ("run", "controller", "trials", "failed", "mean reward", "best reward", "its accuracy", "best")
        cells = [(*r[:4], r.mean_reward, r.best_reward, r.best_accuracy, r.best_architecture) for r in rows]
        return _html(head, cells) + f"<p>in <code>{html.escape(str(self.folder))}</code></p>"


class Trials(dict[str, np.ndarray]):
    """{column: [N]}, N trials; `pandas.DataFrame(trials)` takes it as it is."""

    def _repr_html_(self) -> str:
        count = len(next(iter(self.values())))
        shown = range(count)
        if count > HEAD + TAIL:
            shown = [*range(HEAD), *range(count - TAIL, count)]
        rows = [[column[i].item() for column in self.values()] for i in shown]
        if count > HEAD + TAIL:
            rows.insert(HEAD, ["…"] * len(self))
        return _html(list(self), rows) + f"<p>{count} trials</p>"


class Report(NamedTuple):
    """The files of a report."""

    paths: list[Path]

    def __repr__(self) -> str:
        return "\n".join(map(str, self.paths))

    def _repr_html_(self) -> str:
        figures = [path for path in self.paths if path.suffix == ".svg"]
        images = [
            f'<img alt="{html.escape(path.stem)}" src="data:image/svg+xml;base64,'
            f'{base64.b64encode(path.read_bytes()).decode()}">'
            for path in figures
        ]
        return "\n".join(images)


def _table(section: str, given: Any) -> dict[str, Any]:
    if isinstance(given, dict):
        return dict(given)
    if isinstance(given, str) and section not in ("trainer", "constraints", "final", "runtime"):
        return {"source" if section == "data" else "name": given}
    takes = "a table" if section in ("trainer", "constraints", "final", "runtime") else "a name or a table"
    raise InputError(f"{section}: found {options.show(given)}; it takes {takes}")


def _name(configuration: str | Path | None, table: dict[str, dict[str, Any]]) -> str:
    """A run's name where none is asked for."""
    if configuration is not None:
        return Path(configuration).stem
    parts = [str(table.get(section, {}).get("name", section)) for section in ("space", "controller")]
    return "_".join(part.rpartition(":")[2] for part in parts)


def _html(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    def cell(value: Any) -> str:
        if isinstance(value, float):
            return "" if value != value else f"{value:.6g}"
        return html.escape(str(value))

    lines = ["<table>", "<tr>" + "".join(f"<th>{cell(name)}</th>" for name in head) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{cell(value)}</td>" for value in row) + "</tr>" for row in rows]
    return "\n".join([*lines, "</table>"])
