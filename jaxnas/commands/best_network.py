"""The best network of a search: the folder best/, which is written whenever a child is better than all
before it, and checked once the search has ended.
"""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from jaxnas import config, export, training
from jaxnas.runs import best
from jaxnas.types import Dataset, PyTree


def origin_of(settings: config.Config, dataset: Dataset, name: str) -> export.Origin:
    """How networks of a run of that name become folders."""
    if hasattr(settings.network, "lowering"):
        settings = dataclasses.replace(
            settings, network=dataclasses.replace(settings.network, lowering="xla")
        )
    parts = config.build(settings, dataset=dataset)
    assert parts.network is not None
    kept = {name: getattr(settings.trainer, name) for name in ("mean", "std", "precision")}
    table = config.to_table(settings)["data"]
    return export.Origin(
        parts.network, trainer_of(settings, parts).forward, dataset, **kept, data=table, run=name
    )


def trainer_of(settings: config.Config, parts: config.Parts) -> training.Trainer:
    """The trainer of a network alone, without its data."""
    assert parts.network is not None and parts.dataset is not None
    chosen = training.options_of(vars(settings.trainer))
    return training.make(parts.network, parts.dataset, **chosen)


class BestNetwork(NamedTuple):
    """How best/ of a search is written, and how it is checked."""

    keep: best.Keep | None  # what `run.execute` takes; None where nothing is trained
    # a run's folder → as `export.check`, once its search has ended; None where there is nothing to check
    check: Callable[[Path], tuple[bool, str] | None]


def make(settings: config.Config, parts: config.Parts) -> BestNetwork:
    """The functions for a run with these settings and parts, its twin included."""
    # An evaluator that trains in a way of its own has no trainer whose networks could become folders.
    if parts.dataset is None or not hasattr(settings.trainer, "precision"):
        return BestNetwork(None, lambda folder: None)
    dataset, origins = parts.dataset, []  # one origin, once the first network is kept

    def keep(folder: Path, about: dict[str, Any], params: PyTree, outputs: Any) -> dict[str, bytes]:
        origins[:] = origins or [origin_of(settings, dataset, "")]
        return export.files(
            origins[0]._replace(run=folder.resolve().name), export.Child(about, params, outputs)
        )

    def check(folder: Path) -> tuple[bool, str] | None:
        try:
            metrics = json.loads((folder / "best" / "metrics.json").read_text("utf-8"))
        except (OSError, ValueError):
            return None
        if metrics.get("agreement") is not None:  # it has been checked before
            return None
        return export.check(folder / "best", dataset.validation.inputs, dataset.task)

    return BestNetwork(keep, check)
