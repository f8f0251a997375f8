"""`jaxnas search --dry-run`: the size of a space, first architectures, and what a search would take."""

import dataclasses
import math
import time
from typing import Any

import jax
import numpy as np

from jaxnas import config, evaluators, loop
from jaxnas.commands.console import clock, terminal
from jaxnas.types import Evaluator, Split


def show(settings: config.Config) -> None:
    """Print a space's size, the first architectures, the memory and the time that a search would take."""
    parts = config.build(settings)
    with evaluators.closing(parts.evaluator):
        _show(settings, parts)


def _show(settings: config.Config, parts: config.Parts) -> None:
    console = terminal()
    space, controller = parts.space, parts.controller
    console.print(f"space {space.name}: {space.size:,} architectures of {space.num_steps} decisions")
    probe, steps = _small(parts, settings) if hasattr(settings.trainer, "epochs") else (parts.evaluator, 1.0)
    search = loop.make(space, controller, probe, parts.reward, parts.rejected)
    state = search.init(jax.random.key(settings.search.seed))
    sampled = min(controller.batch_size, 4, settings.search.budget)
    record = search.preview(state, sampled)
    for arch, params in zip(
        np.asarray(record.arch), record.measures.get("params", [math.nan] * sampled), strict=True
    ):
        size = f"  {int(params):,} parameters" if np.isfinite(params) else ""
        console.print(f"  {space.describe(arch)}{size}")
    compile_seconds = probe.stats().get("compile_seconds", 0.0)
    began = time.perf_counter()
    search.preview(state, sampled)
    trial_seconds = (time.perf_counter() - began) / sampled * steps
    trials = settings.search.budget * settings.search.seeds * (2 if settings.search.twin else 1)
    if parts.dataset is not None:
        megabytes = sum(s.inputs.nbytes for s in (parts.dataset.train, parts.dataset.validation)) / 2**20
        peak = max(record.measures.get("peak_bytes", [0])) / 2**20
        console.print(f"memory: {megabytes:.0f} MB of images, about {peak:.0f} MB a program")
    console.print(
        f"time: about {clock(trials * trial_seconds)} of training for {trials} trials"
        + (
            f", and {compile_seconds / sampled:.1f} s to compile each new structure"
            if compile_seconds
            else ""
        )
    )


def _small(parts: config.Parts, settings: config.Config) -> tuple[Evaluator, float]:
    """An evaluator that trains on two batches of the data, and how many times its work a whole trial is."""
    from jaxnas.evaluators import trained

    assert parts.dataset is not None and parts.network is not None
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
