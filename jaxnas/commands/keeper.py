"""What a search keeps of its best child: the files of best/, which are checked once it has ended."""

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


class Keeper(NamedTuple):
    """What makes best/ of a search, and checks it."""

    keep: best.Keep | None  # what `run.execute` takes; None where nothing is trained
    # a run's folder → as `export.check`, once its search has ended
    check: Callable[[Path], tuple[bool, str] | None]


def make(settings: config.Config, parts: config.Parts) -> Keeper:
    """Of the searches of a run. A check that has been done, or of a folder without a network, gives None."""
    if parts.dataset is None or not hasattr(settings.trainer, "precision"):  # it trains in a way of its own
        return Keeper(None, lambda folder: None)
    dataset, origins = parts.dataset, []  # the origin is made when the first network is kept

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
        if metrics.get("agreement") is not None:
            return None
        return export.check(folder / "best", dataset.validation.inputs, dataset.task)

    return Keeper(keep, check)
