"""How a run starts: settings become a search, perhaps with a random twin, in a new folder or an old one."""

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import NamedTuple

from jaxnas import config, controllers, evaluators, loop
from jaxnas.commands import best_network
from jaxnas.errors import InputError
from jaxnas.runs import provenance, run, seeds


class PlannedSearch(NamedTuple):
    """A search of a run: itself, or its random twin."""

    folder: str  # within the run's
    text: str  # of its config.toml
    search: loop.Search
    seed: int
    stop: run.Stop
    best_network: best_network.BestNetwork


def begin(
    settings: config.Config, parent: Path, named: bool
) -> tuple[config.Config, list[PlannedSearch], Path, config.Parts]:
    """A new run: its settings, searches, folder below `parent` with all that `resume` needs, and parts.

    Raises:
      InputError: a part refuses a value, the data cannot be had, or `named` is True and the folder exists.
    """
    name = settings.search.name
    _free_folder(parent, name, named)
    parts = config.build(settings)
    with evaluators.closing_after_error(parts.evaluator):
        settings, searches = searches_of(settings, parts)
        folder = _create(parent, name, named, searches)
    return settings, searches, folder, parts


def reopen(folder: Path, flags: list[str]) -> config.Config:
    """The configuration of the run in `folder`, with JAX set up as it was when the run began."""
    provenance.read(folder)
    path = folder / "config.toml"
    settings = config.load(path, flags)
    if lines := config.differences(config.load(folder / ".config.toml"), settings):
        raise InputError(
            f"{path}: does not fit the run that it began: {lines[0]}; undo that, or start a new run"
        )
    runtime = settings.runtime
    provenance.prepare(cpu_devices=runtime.cpu_devices, deterministic=runtime.deterministic, folder=folder)
    return settings


def searches_of(settings: config.Config, parts: config.Parts) -> tuple[config.Config, list[PlannedSearch]]:
    """The searches of a run, and its settings, in which `search.chunk` is set if there are many searches."""
    seed, stop = settings.search.seed, run.Stop(settings.search.budget, **vars(settings.search.stop))
    if parts.dataset is not None:
        task = parts.dataset.task
        stop = stop._replace(measure=task.names[0], more_is_better=task.more_is_better)
    if stop.accuracy is not None and stop.measure not in parts.evaluator.measures:
        names = ", ".join(parts.evaluator.measures)
        raise InputError(
            f"search.stop.accuracy: the evaluator has no {stop.measure} to stop at, it measures {names}"
        )
    if settings.final.top and (settings.search.seeds > 1 or not hasattr(settings.trainer, "epochs")):
        why = "many searches keep no networks" if settings.search.seeds > 1 else "the evaluator trains none"
        raise InputError(
            f"final.top: got {settings.final.top}, networks to train to the end; {why}: set it to 0"
        )
    search = loop.make(parts.space, parts.controller, parts.evaluator, parts.reward, parts.rejected)
    if settings.search.seeds > 1:
        _check_many(settings)
        if not settings.search.chunk:
            chunk = seeds.chunk_of(search)
            settings = dataclasses.replace(settings, search=dataclasses.replace(settings.search, chunk=chunk))
    best = best_network.make(settings, parts)
    searches = [PlannedSearch("", config.dump(settings), search, seed, stop, best)]
    if settings.search.twin:
        B = parts.controller.batch_size
        random = controllers.random(parts.space, batch_size=B)
        random = config.resampling(settings, parts.space, random)
        twin = loop.make(parts.space, random, parts.evaluator, parts.reward, parts.rejected)
        searches.append(
            PlannedSearch(
                "twin", config.dump(config.twin(settings, B)), twin, seed, run.Stop(stop.budget), best
            )
        )
    return settings, searches


def _check_many(settings: config.Config) -> None:
    search = settings.search
    if search.log != "none":
        raise InputError("search.log: not with search.seeds, whose result is the arrays of all searches")
    if search.twin:
        raise InputError("search.twin: not with search.seeds; take `jaxnas compare`, which has a random arm")
    for name, value in vars(search.stop).items():
        if value is not None:
            raise InputError(f"search.stop.{name}: not with search.seeds: many searches have one budget")


def _create(parent: Path, name: str, named: bool, searches: list[PlannedSearch]) -> Path:
    """A new run's folder, which has all that `resume` needs from the moment that it has its name."""
    content = json.dumps(provenance.describe(), indent=2) + "\n"
    draft = parent / f".{name}.{os.getpid()}"
    try:
        for search in searches:
            (draft / search.folder).mkdir(parents=True)
            (draft / search.folder / "config.toml").write_text(search.text, "utf-8")
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
