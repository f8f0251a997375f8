"""A search from the command line or Python: its folder, its random twin, and what is told of its progress."""

import contextlib
import dataclasses
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from jaxnas.errors import InputError


class Search(NamedTuple):
    """A search of a run: itself, or its random twin."""

    folder: str  # within the run's
    text: str  # of its config.toml
    search: Any
    seed: int
    stop: Any
    keeper: Any  # of best/


def begin(settings: Any, parent: Path, named: bool) -> tuple[Any, list[Search], Path, Any]:
    """A new run: its settings, searches, folder below `parent` with all that `resume` needs, and parts.

    Raises:
      InputError: a part refuses a value, the data cannot be had, or `named` is True and the folder exists.
    """
    from jaxnas import config

    name = settings.search.name
    _free_folder(parent, name, named)
    parts = config.build(settings)
    settings, searches = searches_of(settings, parts)
    return settings, searches, _create(parent, name, named, searches), parts


def reopen(folder: Path, flags: list[str]) -> Any:
    """The configuration of the run in `folder`, with JAX set up as it was when the run began."""
    from jaxnas import config
    from jaxnas.runs import environment

    environment.read(folder)
    path = folder / "config.toml"
    settings = config.load(path, flags)
    if lines := config.differences(config.load(folder / ".config.toml"), settings):
        raise InputError(
            f"{path}: does not fit the run that it began: {lines[0]}; undo that, or start a new run"
        )
    runtime = settings.runtime
    environment.prepare(cpu_devices=runtime.cpu_devices, deterministic=runtime.deterministic, folder=folder)
    return settings


def searches_of(settings: Any, parts: Any) -> tuple[Any, list[Search]]:
    """The settings, with a chunk where there are many searches, and the searches of a run."""
    from jaxnas import config, controllers, loop
    from jaxnas.commands import export as exporting
    from jaxnas.runs import run, seeds

    seed, stop = settings.search.seed, run.Stop(settings.search.budget, **vars(settings.search.stop))
    if stop.accuracy is not None and "accuracy" not in parts.evaluator.measures:
        names = ", ".join(parts.evaluator.measures)
        raise InputError(
            f"search.stop.accuracy: the evaluator has no accuracy to stop at, it measures {names}"
        )
    search = loop.make(parts.space, parts.controller, parts.evaluator, parts.reward, parts.rejected)
    if settings.search.seeds > 1:
        _check_many(settings)
        if not settings.search.chunk:
            chunk = seeds.chunk_of(search)
            settings = dataclasses.replace(settings, search=dataclasses.replace(settings.search, chunk=chunk))
    keeper = exporting.keeper(settings, parts)
    searches = [Search("", config.dump(settings), search, seed, stop, keeper)]
    if settings.search.twin:
        B = parts.controller.batch_size
        random = controllers.random(parts.space, batch_size=B)
        random = config.resampling(settings, parts.space, random)
        twin = loop.make(parts.space, random, parts.evaluator, parts.reward, parts.rejected)
        searches.append(
            Search("twin", config.dump(config.twin(settings, B)), twin, seed, run.Stop(stop.budget), keeper)
        )
    return settings, searches


def _check_many(settings: Any) -> None:
    search = settings.search
    if search.log != "none":
        raise InputError("search.log: not with search.seeds, whose result is the arrays of all searches")
    if search.twin:
        raise InputError("search.twin: not with search.seeds; take `jaxnas compare`, which has a random arm")
    for name, value in vars(search.stop).items():
        if value is not None:
            raise InputError(f"search.stop.{name}: not with search.seeds: many searches have one budget")


def _create(parent: Path, name: str, named: bool, searches: list[Search]) -> Path:
    """A new run's folder, which has all that `resume` needs from the moment that it has its name."""
    from jaxnas.runs import environment

    content = json.dumps(environment.describe(), indent=2) + "\n"
    draft = parent / f".{name}.{os.getpid()}"
    try:
        for each in searches:
            (draft / each.folder).mkdir(parents=True)
            (draft / each.folder / "config.toml").write_text(each.text, "utf-8")
        (draft / ".config.toml").write_text(searches[0].text, "utf-8")
        (draft / "environment.json").write_text(content, "utf-8")
        while True:
            folder = _free_folder(parent, name, named)
            try:
                return draft.rename(folder)
            except OSError:
                if not folder.exists():  # else another search was faster
                    raise
    except OSError as error:
        raise InputError(f"--folder: cannot write a run into {str(parent)!r}: {error.strerror}") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _free_folder(parent: Path, name: str, named: bool) -> Path:
    """The run's folder: parent/name, or parent/name-2 and so on where the name was not asked for by flag."""
    folder = parent / name
    if named and folder.exists():
        raise InputError(
            f"search.name: {folder} exists; go on with it by `jaxnas resume {folder}`, or take another name"
        )
    number = 2
    while folder.exists():
        folder, number = parent / f"{name}-{number}", number + 1
    return folder


def perform(settings: Any, searches: list[Search], folder: Path, parts: Any) -> None:
    """Run the searches of a run, whose folder the caller has `owned`; show, log and draw their progress."""
    from jaxnas.commands import progress
    from jaxnas.commands import report as reporting
    from jaxnas.runs import run

    page = reporting.Page(folder, reporting.source_of(parts))
    for each in searches:
        with (
            progress.Display(folder / each.folder, each.search, each.stop.budget) as display,
            _logged(settings, folder / each.folder) as log,
        ):

            def watch(now: run.Progress, told: tuple = (display.update, log)) -> None:
                for tell in told:
                    tell(now)
                page.update()

            summary = run.execute(
                folder / each.folder,
                each.search,
                seed=each.seed,
                stop=each.stop,
                text=each.text,
                watch=watch,
                keep=each.keeper.keep,
            )
        display.finish(summary)
    page.write()
    if checked := searches[0].keeper.check(folder):
        tell_check(*checked)


def tell_check(agrees: bool, text: str) -> None:
    """What the check of an exported network found."""
    print(f"{'' if agrees else 'jaxnas: '}{text}", file=sys.stdout if agrees else sys.stderr)


@contextlib.contextmanager
def _logged(settings: Any, folder: Path) -> Iterator[Callable[[Any], None]]:
    """What is told of a search that also writes a log elsewhere."""
    if settings.search.log == "none":
        yield lambda _: None
        return
    from jaxnas import config
    from jaxnas.log import tensorboard

    log = tensorboard.Log(folder, config.to_table(settings))
    try:
        yield lambda _: log.update()
    finally:
        log.close()
