"""Controllers side by side: arms of many searches each, at equal budget, on one evaluator or several.

    comparison.toml  environment.json
    ARM/  the searches of an arm, as `jaxnas search --seeds` writes them
    comparison.csv  choices.csv  top10.csv  figures/best_so_far.svg

Arms that are done are not run again.
"""

import argparse
import contextlib
import csv
import dataclasses
import io
import itertools
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from jaxnas import config, evaluators, loop, report
from jaxnas.commands import compare_config, execution, progress
from jaxnas.commands.console import print_table, terminal
from jaxnas.errors import InputError, unknown
from jaxnas.runs import ledger, process, provenance, seeds

FILES = ("comparison.csv", "choices.csv", "top10.csv")


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "config", metavar="CONFIG", help="a TOML file with arms, such as configs/compare_mock.toml"
    )
    parser.add_argument("--folder", default="checkpoints", help="where comparisons are written")


def run(options: argparse.Namespace, overrides: list[str]) -> int:
    """Run the arms that are not done, and print how they compare."""
    chosen = compare_config.load(options.config, overrides)
    folder = Path(options.folder) / chosen.name
    compare_config.check_folder(folder, chosen)
    runtime = next(iter(chosen.arms.values())).runtime
    begun = folder if (folder / "environment.json").exists() else None
    provenance.prepare(cpu_devices=runtime.cpu_devices, deterministic=runtime.deterministic, folder=begun)
    ready = prepare(chosen)
    with contextlib.ExitStack() as owning:
        with evaluators.closing_after_error(*(arm.search.evaluator for arm in ready.values())):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise InputError(
                    f"--folder: cannot write into {options.folder!r}: {error.strerror}"
                ) from None
            owning.enter_context(process.owned(folder))
        if begun is None:
            (folder / "environment.json").write_text(
                json.dumps(provenance.describe(), indent=2) + "\n", "utf-8"
            )
        elsewhere = [] if options.folder == "checkpoints" else ["--folder", options.folder]
        with execution.saved(shlex.join(["jaxnas", "compare", options.config, *overrides, *elsewhere])):
            rows = execute(folder, chosen, ready, _display(len(ready)))
    show(rows)
    print(f"\nTables and figures lie in {folder}.")
    return 0


class _Ready(NamedTuple):
    """An arm that can be run."""

    settings: config.Config
    search: loop.Search
    plan: seeds.Plan


def prepare(comparison: compare_config.Comparison) -> dict[str, _Ready]:
    """Build every arm, so that an error in any of them is reported before the first one runs.

    Raises:
      InputError: a factory refuses a value, or what is to be compared is not measured or decided.
    """
    ready, datasets = {}, {}
    with contextlib.ExitStack() as built:
        for name, settings in comparison.arms.items():
            try:
                parts = config.build(settings, dataset=datasets.get(repr(settings.data)))
                built.callback(parts.evaluator.close)
                datasets[repr(settings.data)] = parts.dataset
                search = loop.make(
                    parts.space, parts.controller, parts.evaluator, parts.reward, parts.rejected
                )
            except InputError as error:
                raise InputError(f"arms.{name}: {error}") from None
            ready[name] = _ready(comparison.compare, settings, parts, search)
        built.pop_all()
    return ready


def _ready(
    compare: compare_config.Compare, settings: config.Config, parts: config.Parts, search: loop.Search
) -> _Ready:
    """An arm with its plan, checked to have what is compared."""
    for key, names, known in (
        ("measures", compare.measures, parts.evaluator.measures),
        ("cross", compare.cross, parts.space.decisions),
    ):
        for wanted in names:
            if wanted not in known:
                raise unknown(f"compare.{key}", wanted, known)
    options = settings.search
    chunk = options.chunk or seeds.chunk_of(search)
    settings = dataclasses.replace(settings, search=dataclasses.replace(options, chunk=chunk))
    plan = seeds.Plan(options.seed, options.seeds, options.budget, chunk, options.ledgers)
    return _Ready(settings, search, plan)


def execute(
    folder: Path,
    comparison: compare_config.Comparison,
    ready: dict[str, _Ready],
    watch: Callable[[str, seeds.Plan], Any],  # (arm, its plan) → context whose value has `update(trials)`
) -> report.Rows:
    """Run the arms that are not done in `folder`, which the caller has `owned`, write the tables and the
    figure, and return the rows of comparison.csv.

    Raises:
      InputError: as `seeds.execute`.
      Interrupted: SIGINT or SIGTERM; what is done is saved.
    """
    ledger.write_atomic(folder / "comparison.toml", compare_config.dump(comparison).encode())
    results = []
    for name, arm in ready.items():
        text = config.dump(arm.settings)
        _create(folder / name, text)
        with evaluators.closing(arm.search.evaluator), watch(name, arm.plan) as display:
            arrays = seeds.execute(folder / name, arm.search, arm.plan, text=text, watch=display.update)
        results.append(report.Arm(name, arm.settings.controller.name, arm.search.space, arrays))
    compare = comparison.compare
    trial_counts = compare.at or (results[0].arrays["reward"].shape[1],)
    rows = report.comparison(results, trial_counts, compare.measures, compare.last)
    tables = (rows, report.choices(results), report.top(results, compare.cross))
    for file, table in zip(FILES, tables, strict=True):
        ledger.write_atomic(folder / file, _csv(table))
    (folder / "figures").mkdir(exist_ok=True)
    figure = report.best_so_far_figure(results, compare.scale, f"Best reward so far: {comparison.name}")
    ledger.write_atomic(folder / "figures" / "best_so_far.svg", figure.encode())
    return rows


def _create(folder: Path, text: str) -> None:
    """Create the folder of an arm, with its configuration and a description of the machine."""
    folder.mkdir(exist_ok=True)
    for name in ("config.toml", ".config.toml"):
        ledger.write_atomic(folder / name, text.encode())
    if not (folder / "environment.json").exists():
        about = json.dumps(provenance.describe(), indent=2) + "\n"
        ledger.write_atomic(folder / "environment.json", about.encode())


def show(rows: list[dict[str, Any]]) -> None:
    """Print a row an arm: the best reward so far with its interval and rank, and measures of the best."""
    console = terminal()
    shown = [name for name in rows[0] if f"{name}_low" in rows[0]]
    lines = [["arm", *(name.removeprefix("final_").replace("_", " ") for name in shown)]]
    for row in rows:
        cells = []
        for name in shown:
            form = ",.0f" if abs(row[name]) >= 1000 else ".4f"
            value, low, high = (format(row[name + end], form) for end in ("", "_low", "_high"))
            rank = f"#{row[f'{name}_rank']} " if f"{name}_rank" in row else ""
            cells.append(f"{rank}{value}\n{low} to {high}")
        lines.append([row["arm"], *cells])
    console.print(
        "means over searches, and their 95 % intervals; #: rank; measures are those of the best trial"
    )
    if not console.is_terminal:
        console = Console(file=console.file, width=1000, highlight=False, markup=False, emoji=False)
    print_table(console, lines)


def _display(total: int) -> Callable[[str, seeds.Plan], progress.Many]:
    """What `execute` shows each of `total` arms with."""
    numbers = itertools.count(1)
    return lambda name, plan: progress.Many(f"arm {next(numbers)}/{total} {name}", plan.seeds, plan.budget)


def _csv(rows: report.Rows) -> bytes:
    text = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows([{k: _cell(v) for k, v in row.items()} for row in rows])
    return text.getvalue().encode()


def _cell(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return f"{value:.7g}" if value == value else ""
