"""The progress of a search on the screen: one live line in a terminal, else a line a round; its result."""

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.live import Live
from rich.table import Table

from jaxnas import evaluators, loop
from jaxnas.commands.console import clock, terminal
from jaxnas.export import quality
from jaxnas.runs import run


class Display:
    """Shows a run's progress; give `update` to `run.execute` as its `watch`."""

    def __init__(self, folder: Path, search: loop.Search, budget: int):
        self.folder, self.search, self.budget = folder, search, budget
        self.stats = evaluators.from_now(search.evaluator).stats
        self.console = terminal()
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
        print_(f"\n{self.folder}: {summary.trials} trials in {clock(seconds)}; {summary.why}")
        stats = self.stats()
        if stats.get("programs"):
            parts = ", ".join(f"{part} {spent:.1f} s" for part, spent in times(stats, seconds).items())
            trained, programs = stats.get("children", 0), stats["programs"]
            print_(f"{trained:.0f} children trained by {programs:.0f} programs; {parts}")
        if not summary.best:
            print_("no trial succeeded: see the reasons in trials.csv")
            return
        metrics = quality.read(self.folder / "best")
        measure = metrics.get("measure", "accuracy")
        table = Table.grid(padding=(0, 2))
        for name in dict.fromkeys(("architecture", measure, "accuracy", "params", "reward", "trial")):
            if value := summary.best.get(name):
                beside = quality.beside(metrics, "validation", name)
                table.add_row(f"  best {name.replace('_', ' ')}", value + beside)
        print_(table)
        for remark in metrics.get("remarks", ()):
            print_(remark)

    def _line(self) -> str:
        now, stats = self.now, self.stats()
        programs = ""
        if stats.get("programs"):
            cached = f", {stats['cached']} of them cached" if stats.get("cached") else ""
            compiled = f"compiled in {stats.get('compile_seconds', 0):.0f} s"
            waited = f"nothing trained for {stats.get('waited_seconds', 0):.0f} s of that"
            programs = f"{stats['programs']} programs{cached} ({compiled}, {waited})"
        seconds = time.perf_counter() - self.began
        if now is None or self.first is None:
            done = f"{int(stats['children'])} children trained" if stats.get("children") else "starting"
            return "  ".join(filter(None, (self.folder.name, done, programs, clock(seconds))))
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
                    f"{clock(left / rate)} left" if rate else "",
                    f"mean reward {now.mean_reward:.4f}",
                    f"best {now.best_reward:.4f} {now.best}" if now.best else "no success yet",
                    programs,
                ),
            )
        )


def times(stats: Mapping[str, float], seconds: float) -> dict[str, float]:
    """What a search that trains spent its `seconds` on; the parts add up to them."""
    training, waited, evaluating = (
        stats.get(f"{name}_seconds", 0.0) for name in ("training", "waited", "evaluate")
    )
    parts = {"training": training, "compiling while nothing trained": waited}
    return parts | {
        "preparing children": evaluating - training - waited,
        "controller and files": seconds - evaluating,
    }


class Counter:
    """Shows progress such as `trained 3/10`: one live line in a terminal, else a line a step."""

    def __init__(self, verb: str, total: int):
        self.verb, self.total, self.done, self.began = verb, total, 0, time.perf_counter()
        self.console = terminal()
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
        return f"{self.verb} {self.done}/{self.total}  {clock(time.perf_counter() - self.began)}"


class Many:
    """Shows the progress of many searches; give `update` to `seeds.execute` as its `watch`."""

    def __init__(self, name: str, searches: int, budget: int):
        self.name, self.searches, self.budget = name, searches, budget
        self.console, self.lock = terminal(), threading.Lock()
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
            parts += [f"{rate:,.3g} trials/s", f"{clock(left)} left"]
        return "  ".join([*parts, clock(now - self.began)])


def _notebook_line() -> Callable[[str], None]:
    """Shows a line in the output of a notebook's cell, in place of the line before."""
    from IPython.display import display  # type: ignore

    handle: Any = display({"text/plain": "starting"}, raw=True, display_id=True)
    return lambda line: handle.update({"text/plain": line}, raw=True)
