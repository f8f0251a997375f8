"""Executes the searches of a run, with progress on the screen, a log and a page; an interrupt saves them."""

import contextlib
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

import jaxnas
from jaxnas import config, evaluators, report
from jaxnas.commands import final, progress, report_page
from jaxnas.commands.console import clock, print_check, terminal
from jaxnas.commands.start import PlannedSearch
from jaxnas.export import quality
from jaxnas.runs import process, results, run, seeds
from jaxnas.types import Space


def execute_and_print(
    settings: config.Config, searches: list[PlannedSearch], folder: Path, parts: config.Parts
) -> int:
    """Carry out the searches of a run and print what they found; returns the exit code."""
    if settings.search.seeds > 1:
        return _many(settings.search, searches[0], folder)
    with saved(f"jaxnas resume {shlex.quote(str(folder))}"):
        beginning = time.perf_counter() - jaxnas.BEGAN
        spent = execute(settings, searches, folder, parts)
    runs = [report.read(folder)]
    report.write(runs, folder, {runs[0].path: report_page.source_of(parts)})
    if len(searches) > 1:
        report.show(report.compare(runs))
        words = [] if settings.final.top else quality.words(quality.read(folder / "best"))
        for line in words:  # the final training has said it
            print(line)
    has_network, path = (folder / "best" / "model.stablehlo").exists(), shlex.quote(str(folder))
    contents = "its page is report.html" + ", its best network best/" * has_network
    after = f"jaxnas predict {path} IMAGE…" if has_network else f"jaxnas report {path}"
    total = time.perf_counter() - jaxnas.BEGAN
    spent = {"beginning": beginning, **spent}
    spent["report and checks"] = total - sum(spent.values())
    shown = ", ".join(f"{part} {seconds:.1f} s" for part, seconds in spent.items())
    print(f"\n{clock(total)} in all: {shown}.")
    print(f"\nThe run lies in {folder}, {contents}. Next: {after}")
    return 0


def execute(
    settings: config.Config, searches: list[PlannedSearch], folder: Path, parts: config.Parts
) -> dict[str, float]:
    """Run the searches of a run, whose folder the caller has `owned`; show, log and draw their progress.

    Returns the seconds that each search took. The evaluator is closed however they end.
    """
    with evaluators.closing(parts.evaluator):
        return _execute(settings, searches, folder, parts)


def _execute(
    settings: config.Config, searches: list[PlannedSearch], folder: Path, parts: config.Parts
) -> dict[str, float]:
    spent = {}
    source = report_page.source_of(parts)
    page = report_page.Page(folder, source)
    for search in searches:
        with (
            progress.Display(folder / search.folder, search.search, search.stop.budget) as display,
            _logged(settings, folder / search.folder, source) as log,
        ):

            def watch(now: run.Progress, watchers: tuple = (display.update, log)) -> None:
                for watcher in watchers:
                    watcher(now)
                page.update()

            summary = run.execute(
                folder / search.folder,
                search.search,
                seed=search.seed,
                stop=search.stop,
                text=search.text,
                watch=watch,
                keep=search.best_network.keep,
            )
        display.finish(summary)
        spent[search.folder or "search"] = time.perf_counter() - display.began
    page.write()
    if settings.final.top:
        began = time.perf_counter()
        assert parts.dataset is not None
        final.train(settings, searches, folder, parts.dataset)
        spent["final training"] = time.perf_counter() - began
        page.write()
    elif checked := searches[0].best_network.check(folder):
        print_check(*checked)
    return spent


@contextlib.contextmanager
def _logged(
    settings: config.Config, folder: Path, source: report.Source
) -> Iterator[Callable[[run.Progress], None]]:
    """What writes the log that `search.log` asks for, whenever rounds have ended."""
    if settings.search.log == "none":
        yield lambda _: None
        return
    from jaxnas.log import tensorboard

    log = tensorboard.Log(folder, config.to_table(settings), source)
    try:
        yield lambda _: log.update()
    finally:
        log.close()


def _many(options: config.SearchSettings, planned: PlannedSearch, folder: Path) -> int:
    plan = seeds.Plan(planned.seed, options.seeds, options.budget, options.chunk, options.ledgers)
    with (
        saved(f"jaxnas resume {shlex.quote(str(folder))}"),
        evaluators.closing(planned.search.evaluator),
        progress.Many(folder.name, plan.seeds, plan.budget) as display,
    ):
        arrays = seeds.execute(folder, planned.search, plan, text=planned.text, watch=display.update)
    show_many(planned.search.space, arrays)
    print(f"\nThe arrays of all searches lie in {folder / 'searches.npz'}, a row each in summary.csv.")
    return 0


def show_many(space: Space, arrays: dict[str, np.ndarray]) -> None:
    """Print what many searches found: the mean of their best rewards, and the best of all."""
    console, best = terminal(), results.best_trial(arrays)
    succeeded = np.flatnonzero(best >= 0)
    if not len(succeeded):
        console.print("no trial succeeded")
        return
    reward = arrays["reward"][succeeded, best[succeeded]]
    spread = np.std(reward, ddof=min(1, len(reward) - 1))
    console.print(f"best reward of {len(best)} searches: mean {reward.mean():.4f}, std {spread:.4f}")
    top = succeeded[np.argmax(reward)]
    name = space.describe(arrays["arch"][top, best[top]])
    console.print(f"highest: {reward.max():.4f} {name}, trial {best[top]} of search {top}")


@contextlib.contextmanager
def saved(command: str) -> Iterator[None]:
    """A context in which an interrupt ends the process with one line, which says how to go on."""
    try:
        yield
    except (process.Interrupted, KeyboardInterrupt) as interrupt:
        print(f"interrupted, saved; go on with: {command}", file=sys.stderr, flush=True)
        # Children may still be training in threads that Python would wait for.
        sys.stdout.flush()
        os._exit(128 + getattr(interrupt, "number", signal.SIGINT))
