"""What a person sees of a search: a live line in a terminal, one line a round elsewhere, the end of it."""

import csv
import dataclasses
import itertools
import math
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table

from jaxnas import config, loop
from jaxnas.runs import run, seeds
from jaxnas.types import Space, Split

SHOWN = ("_accuracy", "_mae")  # of the retrained networks' measures


class Display:
    """Shows a run's progress; give `update` to `run.execute` as its `watch`."""

    def __init__(self, folder: Path, search: loop.Search, budget: int):
        self.folder, self.search, self.budget = folder, search, budget
        self.console = _console()
        self.show = _notebook_line() if self.console.is_jupyter else self.console.print
        self.began, self.now = time.perf_counter(), None
        self.first: tuple[float, int] | None = None  # when the first round of this process ended, and trials
        self.live = Live(
            get_renderable=self._line, console=self.console, refresh_per_second=2, transient=True
        )

    def __enter__(self) -> "Display":
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.live.stop()

    def update(self, now: run.Progress) -> None:
        """Take note of finished rounds."""
        self.first = self.first or (time.perf_counter(), now.trials)
        self.now = now
        if not self.console.is_terminal:
            self.show(self._line())

    def finish(self, summary: run.Summary) -> None:
        """Print how the run ended and what it found; in a notebook the run's result says it."""
        if self.console.is_jupyter:
            return self.show(self._line())
        print_ = self.console.print
        seconds = time.perf_counter() - self.began
        print_(f"\n{self.folder}: {summary.trials} trials in {_clock(seconds)}; {summary.why}")
        stats = self.search.evaluator.stats() if self.search.evaluator.stats else {}
        if stats.get("programs"):
            share = stats["waited_seconds"] / seconds
            print_(
                f"{stats['children']} children trained by {stats['programs']} programs; nothing trained for "
                f"{share:.0%} of the time, while programs were compiled"
            )
        if not summary.best:
            print_("no trial succeeded: see the reasons in trials.csv")
            return
        table = Table.grid(padding=(0, 2))
        for name in ("architecture", "accuracy", "params", "reward", "trial"):
            if summary.best.get(name):
                table.add_row(f"  best {name}", summary.best[name])
        print_(table)

    def _line(self) -> str:
        now, stats = self.now, self.search.evaluator.stats() if self.search.evaluator.stats else {}
        programs = ""
        if stats.get("programs"):
            cached = f", {stats['cached']} of them cached" if stats.get("cached") else ""
            compiled = f"compiled in {stats['compile_seconds']:.0f} s"
            waited = f"nothing trained for {stats['waited_seconds']:.0f} s of that"
            programs = f"{stats['programs']} programs{cached} ({compiled}, {waited})"
        seconds = time.perf_counter() - self.began
        if now is None or self.first is None:
            done = f"{int(stats['children'])} children trained" if stats.get("children") else "starting"
            return "  ".join(filter(None, (self.folder.name, done, programs, _clock(seconds))))
        left = max(0, self.budget - now.trials)
        # The first round is left out: it compiles, and a resumed run has had more trials than it shows.
        began, trials = self.first
        rate = (now.trials - trials) / max(time.perf_counter() - began, 1e-9)
        return "  ".join(
            filter(
                None,
                (
                    f"round {now.round}",
                    f"trial {now.trials}/{self.budget}",
                    f"{rate:.3g} trials/s" if rate else "",
                    f"{_clock(left / rate)} left" if rate else "",
                    f"mean reward {now.mean_reward:.4f}",
                    f"best {now.best_reward:.4f} {now.best}" if now.best else "no success yet",
                    programs,
                ),
            )
        )


class Counter:
    """Shows how many of so many are done; a line each where there is no terminal."""

    def __init__(self, verb: str, total: int):
        self.verb, self.total, self.done, self.began = verb, total, 0, time.perf_counter()
        self.console = _console()
        self.live = Live(
            get_renderable=self._line, console=self.console, refresh_per_second=2, transient=True
        )

    def __enter__(self) -> "Counter":
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.live.stop()

    def update(self, done: int) -> None:
        """Take note of what is done."""
        self.done = done
        if not self.console.is_terminal:
            self.console.print(self._line())

    def _line(self) -> str:
        return f"{self.verb} {self.done}/{self.total}  {_clock(time.perf_counter() - self.began)}"


class Many:
    """Shows the progress of many searches; give `update` to `seeds.execute` as its `watch`."""

    def __init__(self, name: str, searches: int, budget: int):
        self.name, self.searches, self.budget = name, searches, budget
        self.console, self.lock = _console(), threading.Lock()
        self.began, self.done, self.first = time.perf_counter(), 0, None
        self.told = 0  # trials done when the last line was printed: fifty lines at most
        self.live = Live(
            get_renderable=self._line, console=self.console, refresh_per_second=2, transient=True
        )

    def __enter__(self) -> "Many":
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.live.stop()

    def update(self, trials: int) -> None:
        """Take note of trials done, of all searches together."""
        with self.lock:
            self.first = self.first or (time.perf_counter(), trials)  # before it was compilation
            self.done, total = trials, self.searches * self.budget
            if not self.console.is_terminal and (trials >= total or trials - self.told >= total / 50):
                self.told = trials
                self.console.print(self._line())

    def _line(self) -> str:
        parts = [f"{self.name}  search {self.done // self.budget}/{self.searches}", f"{self.done:,} trials"]
        now, (began, trials) = time.perf_counter(), self.first or (0.0, 0)
        if self.done > trials:
            rate = (self.done - trials) / max(now - began, 1e-9)
            left = (self.searches * self.budget - self.done) / rate
            parts += [f"{rate:,.3g} trials/s", f"{_clock(left)} left"]
        return "  ".join([*parts, _clock(now - self.began)])


def arms(total: int) -> Callable[[str, seeds.Plan], Many]:
    """What `comparison.execute` shows each of `total` arms with."""
    numbers = itertools.count(1)
    return lambda name, plan: Many(f"arm {next(numbers)}/{total} {name}", plan.seeds, plan.budget)


def show_comparison(rows: list[dict[str, Any]]) -> None:
    """Print a row an arm: the best reward so far with its interval and rank, and measures of the best."""
    console = _console()
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
    _print_table(console, lines)


def show_many(space: Space, arrays: dict[str, np.ndarray]) -> None:
    """Print what many searches found: the mean of their best rewards, and the best of all."""
    console, best = _console(), seeds.best_trial(arrays)
    found = np.flatnonzero(best >= 0)
    if not len(found):
        console.print("no trial succeeded")
        return
    reward = arrays["reward"][found, best[found]]
    spread = np.std(reward, ddof=min(1, len(reward) - 1))
    console.print(f"best reward of {len(best)} searches: mean {reward.mean():.4f}, std {spread:.4f}")
    top = found[np.argmax(reward)]
    name = space.describe(arrays["arch"][top, best[top]])
    console.print(f"highest: {reward.max():.4f} {name}, trial {best[top]} of search {top}")


def show_samples(summary: list[tuple[str, int, float, float, float, float]], greedy: dict[str, str]) -> None:
    """Print what a policy proposes: each measure's mean and spread, and the greedy network."""
    console = _console()
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


def show_retrained(folder: Path, rows: list[dict[str, str]]) -> None:
    """Print the retrained networks, the hand-designed one last, the ensemble and the confusion matrix."""
    console = _console()
    kept = ("name", "params", "epochs", "searched_reward", *(n for n in rows[0] if n.endswith(SHOWN)))
    _print_table(console, [list(kept), *([_short(row[name]) for name in kept] for row in rows)])
    for row in rows:
        console.print(f"{row['name']}: {row['architecture']}{'  ' + row['reason'] if row['reason'] else ''}")
    for name in ("ensemble", "confusion"):
        path = folder / f"{name}.csv"
        if path.exists():
            console.print()
            _print_table(
                console,
                [[_short(x) for x in line] for line in csv.reader(path.read_text("utf-8").splitlines())],
            )
    console.print(f"\nAll of it lies in {folder}.")


def _short(text: str) -> str:
    """A number of a ledger with four decimals at most."""
    return f"{float(text):.4f}" if re.fullmatch(r"-?\d+\.\d{5,}", text) else text


def _print_table(console: Console, rows: list[list[str]]) -> None:
    table = Table(*rows[0], box=box.SIMPLE_HEAD, show_edge=False)
    for row in rows[1:]:
        table.add_row(*row)
    console.print(table)


def _notebook_line() -> Callable[[str], None]:
    """Shows a line in the output of a notebook's cell, in place of the line before."""
    from IPython.display import display  # type: ignore

    handle: Any = display({"text/plain": "starting"}, raw=True, display_id=True)
    return lambda line: handle.update({"text/plain": line}, raw=True)


def _console() -> Console:
    return Console(highlight=False, soft_wrap=True, markup=False, emoji=False)


def preview(settings: Any) -> None:
    """Print a space's size, the first architectures, the memory and the time that a search would take."""
    console = _console()
    parts = config.build(settings)
    space, controller = parts.space, parts.controller
    console.print(f"space {space.name}: {space.size:,} architectures of {space.num_steps} decisions")
    probe, steps = _small(parts, settings) if parts.dataset is not None else (parts.evaluator, 1.0)
    search = loop.make(space, controller, probe, parts.reward, parts.rejected)
    state = search.init(jax.random.key(settings.search.seed))
    sampled = min(controller.batch_size, 4, settings.search.budget)
    record = search.preview(state, sampled)
    for arch, params in zip(
        np.asarray(record.arch), record.measures.get("params", [math.nan] * sampled), strict=True
    ):
        size = f"  {int(params):,} parameters" if np.isfinite(params) else ""
        console.print(f"  {space.describe(arch)}{size}")
    compile_seconds = probe.stats()["compile_seconds"] if probe.stats else 0.0
    began = time.perf_counter()
    search.preview(state, sampled)
    each = (time.perf_counter() - began) / sampled * steps
    trials = settings.search.budget * settings.search.seeds * (2 if settings.search.twin else 1)
    if parts.dataset is not None:
        megabytes = sum(s.inputs.nbytes for s in (parts.dataset.train, parts.dataset.validation)) / 2**20
        peak = (probe.stats()["peak_bytes"] if probe.stats else 0) / 2**20
        console.print(f"memory: {megabytes:.0f} MB of images, about {peak:.0f} MB a program")
    console.print(
        f"time: about {_clock(trials * each)} of training for {trials} trials"
        + (
            f", and {compile_seconds / sampled:.1f} s to compile each new structure"
            if compile_seconds
            else ""
        )
    )


def _small(parts: Any, settings: Any) -> tuple[Any, float]:
    """The evaluator on two batches of the data, and how many times the work the whole is."""
    from jaxnas.evaluators import trained

    train, validation = parts.dataset.train, parts.dataset.validation
    rows = min(len(train.inputs), 2 * settings.trainer.batch_size)
    dataset = parts.dataset._replace(
        train=Split(train.inputs[:rows], train.labels[:rows]),
        validation=Split(validation.inputs[:1], validation.labels[:1]),
        test=None,
    )
    options: dict[str, Any] = dataclasses.asdict(settings.trainer) | {
        "epochs": 1,
        "patience": 0,
        "restarts": 0,
        "repeats": 1,
    }
    # Prediction costs about a third of a training step an image.
    work = settings.trainer.repeats * settings.trainer.epochs * len(train.inputs) + len(validation.inputs) / 3
    return trained(parts.network, dataset, **options), work / rows


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours} h {minutes:02} min"
        if hours
        else f"{minutes} min {seconds:02} s"
        if minutes
        else f"{seconds} s"
    )
