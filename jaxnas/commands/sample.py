"""What a trained policy proposes, without updates: networks drawn from it, and its greedy one.

RUN/sampled/round_000040/samples.csv  greedy.csv  rows as in trials.csv; round: the batch
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich import box
from rich.table import Table

from jaxnas import config, evaluators, loop
from jaxnas.commands import progress, start
from jaxnas.commands.console import terminal
from jaxnas.errors import InputError
from jaxnas.runs import ledger, process, provenance, restore
from jaxnas.types import Controller, Proposal

ROOTS = {"samples": 0x5A3B1E, "greedy": 0x62EED}  # folded into a search's root: no trial has these keys


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("run", type=Path, metavar="RUN", help="the run's folder")
    parser.add_argument("-n", type=int, default=50, help="how many networks (default: 50)")


def run(options: argparse.Namespace, _: list[str]) -> int:
    """Measure the networks and print what was measured."""
    if options.n < 1:
        raise InputError(f"-n: got {options.n}; it takes 1 or more")
    provenance.read(options.run)
    with process.owned(options.run):
        settings = start.reopen(options.run, [])
        parts = config.build(settings)
        state = restore.latest(
            options.run, start.searches_of(settings, parts)[1][0].search, settings.search.seed
        )
        with evaluators.closing(parts.evaluator), progress.Counter("sampled", options.n) as counter:
            rows, greedy = execute(options.run, parts, state, options.n, counter.update)
        show(summary(rows), greedy[0])
    return 0


def execute(
    folder: Path,
    parts: config.Parts,
    state: loop.SearchState,
    n: int,
    watch: Callable[[int], None] = lambda _: None,
) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Measure `n` networks that the policy of `state` draws, and its greedy one: the rows of both.

    What is already there is not measured again, so that the work can be interrupted and `n` be raised;
    `watch` is told how many are done.
    """
    folder = folder / "sampled" / f"round_{int(state.round):06}"
    folder.mkdir(parents=True, exist_ok=True)
    greedy = _measure(folder / "greedy.csv", parts, _greedy(parts.controller), state, 1, lambda _: None)
    return _measure(folder / "samples.csv", parts, parts.controller, state, n, watch), greedy


def summary(rows: list[dict[str, str]]) -> list[tuple[str, int, float, float, float, float]]:
    """(measure, networks, mean, standard deviation, least, most) of what did not fail, depth last."""
    first = list(rows[0]).index("architecture") + 1
    names = [name for name in rows[0] if name not in ("reward", "status", "reason")][first:]
    table = {name: [float(row[name]) for row in rows if row[name]] for name in (*names, "reward")}
    table["depth"] = [float(depth(row)) for row in rows]
    return [
        (name, len(x), float(np.mean(x)), float(np.std(x, ddof=min(1, len(x) - 1))), min(x), max(x))
        for name, x in table.items()
        if x
    ]


def show(summary: list[tuple[str, int, float, float, float, float]], greedy: dict[str, str]) -> None:
    """Print what a policy proposes: each measure's mean and spread, and the greedy network."""
    console = terminal()
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    for heading in ("measure", "n", "mean", "std", "least", "most"):
        table.add_column(heading, justify="left" if heading == "measure" else "right")
    for name, n, *values in summary:
        table.add_row(name, str(n), *(f"{value:.6g}" for value in values))
    console.print(table)
    measured = "  ".join(
        f"{name} {greedy[name]}" for name in ("accuracy", "params", "reward") if greedy.get(name)
    )
    console.print(f"greedy: {greedy['architecture']}  {measured or greedy['reason']}")


def depth(row: dict[str, str]) -> int:
    """How many decisions the architecture of a row took, a last one that adds no layer left out."""
    decisions = list(row)[2 : list(row).index("architecture")]
    return sum(row[name] not in ("", "SM()") for name in decisions)


def _greedy(controller: Controller) -> Controller:
    """Proposes the policy's most probable choices."""

    def ask(key: jax.Array, state: Any) -> Proposal:
        del key
        return Proposal(controller.policy(state)[0][None], ())

    return controller._replace(batch_size=1, ask=ask)


def _measure(
    path: Path,
    parts: config.Parts,
    controller: Controller,
    state: loop.SearchState,
    n: int,
    watch: Callable[[int], None],
) -> list[dict[str, str]]:
    search = loop.make(parts.space, controller, parts.evaluator, parts.reward, parts.rejected)
    B, unsteady = controller.batch_size, parts.evaluator.costs
    done = len(ledger.read(path)) // B
    if len(ledger.read(path)) < n:
        ledger.cut(path, "round", done)
    start = state._replace(root=jax.random.fold_in(state.root, ROOTS[path.stem]))
    for batch in range(done, -(-n // B)):
        record = search.preview(start._replace(round=jnp.int32(batch)), min(B, n - batch * B))
        ledger.append(path, ledger.trial_rows(parts.space, jax.device_get(record), B, unsteady))
        watch(min(n, (batch + 1) * B))
    return ledger.read(path)[:n]
