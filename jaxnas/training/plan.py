"""What a round of children needs trained, decided before anything is compiled.

Children of one structure share a program. Planning is a function of the architectures alone: which children
are refused, which share a program, and in which order the jobs run.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import chex
import numpy as np

from jaxnas.errors import InputError
from jaxnas.training.counting import count_flops, count_params
from jaxnas.training.trainer import Trainer
from jaxnas.types import NO_LEGAL_SHAPE, OK, REJECTED, Network, PyTree

Options = tuple[tuple[str, Any], ...]  # of the trainer, sorted: hashable
REMEMBERED = 4096  # structures whose size is known


class Group(NamedTuple):
    """What children have in common that share a program."""

    structure: Any
    chosen: Options  # options of the trainer that the architecture decides


class Child(NamedTuple):
    """One training of one lane."""

    lane: int
    repeat: int  # from 0
    knobs: PyTree


class Job(NamedTuple):
    """Children that are trained in one call of a program."""

    group: Group
    children: tuple[Child, ...]


class Plan(NamedTuple):
    """A round of B lanes."""

    status: np.ndarray  # int32 [B]: OK, NO_LEGAL_SHAPE or REJECTED
    sizes: dict[str, np.ndarray]  # params and flops, float32 [B]; NaN where no network is possible
    padded: dict[int, Any]  # lane → the structure that its program pads
    jobs: list[Job]  # in the order in which they run


class Settings(NamedTuple):
    """What planning goes by."""

    network: Network
    input_shape: tuple[int, ...]
    trainer_of: Callable[[Options], Trainer]
    limits: Mapping[str, float]  # {params or flops: most}
    repeats: int
    group_size: int  # most children of a job
    pads: bool  # structures that differ in width may share a program
    compile_gflops: float  # what a compilation is worth, in 10⁹ operations of training
    sizes: dict[Any, dict[str, float]]  # structure → params, flops: those that were counted already


def plan(settings: Settings, arch: np.ndarray) -> Plan:  # arch int32 [B, T]
    """The jobs of a round, and the lanes that have none."""
    chex.assert_rank(arch, 2)
    B = len(arch)
    status = np.full(B, OK, np.int32)
    sizes = {name: np.full(B, np.nan, np.float32) for name in ("params", "flops")}
    padded: dict[int, Any] = {}
    groups: dict[Group, list[Child]] = {}
    for lane in range(B):
        try:
            structure, knobs = settings.network.plan(arch[lane])
        except InputError:
            status[lane] = NO_LEGAL_SHAPE
            continue
        size = size_of(settings, structure, knobs)
        for name, value in size.items():
            sizes[name][lane] = value
        if any(size[name] > most for name, most in settings.limits.items()):
            status[lane] = REJECTED
            continue
        chosen, rates = trainer_options(settings, arch[lane])
        trainer = settings.trainer_of(chosen)
        group = Group(widened(settings, structure, knobs, trainer), chosen)
        if settings.pads and settings.network.pad:
            padded[lane], knobs = structure, settings.network.pad(structure, knobs)
        groups.setdefault(group, []).extend(
            Child(lane, repeat, {"network": knobs, **trainer.rates, **rates})
            for repeat in range(settings.repeats)
        )
    return Plan(status, sizes, padded, jobs_of(settings, groups))


def trainer_options(settings: Settings, arch: np.ndarray) -> tuple[Options, dict[str, np.float32]]:
    """What an architecture decides of its trainer: options that are structure, and rates, which are knobs."""
    network = settings.network
    chosen = dict(network.trainer_options(arch)) if network.trainer_options else {}
    knobs = settings.trainer_of(()).rates
    rates = {name: np.float32(chosen.pop(name)) for name in knobs if name in chosen}
    return tuple(sorted(chosen.items())), rates


def size_of(settings: Settings, structure: Any, knobs: PyTree) -> dict[str, float]:
    """The parameters of a structure and the operations of its forward pass, counted once."""
    sizes = settings.sizes
    if structure not in sizes:
        while len(sizes) >= REMEMBERED:
            sizes.pop(next(iter(sizes)))
        sizes[structure] = counted(settings.network, structure, knobs, settings.input_shape)
    return sizes[structure]


def counted(
    network: Network, structure: Any, knobs: PyTree, input_shape: tuple[int, ...]
) -> dict[str, float]:
    """The parameters of a structure and the operations of its forward pass: as it says, or by tracing it."""
    if network.size is not None:
        return network.size(structure)
    flops = count_flops(network, structure, knobs, input_shape)
    return {"params": count_params(network, structure), "flops": flops}


def widened(settings: Settings, structure: Any, knobs: PyTree, trainer: Trainer) -> Any:
    """The widest structure whose extra work a compilation outweighs: it depends on the child alone."""
    if not (settings.pads and settings.network.widen):
        return structure
    chosen, examples = structure, trainer.passes * trainer.steps * trainer.batch_size
    flops = size_of(settings, structure, knobs)["flops"]
    for wider in settings.network.widen(structure):
        extra = size_of(settings, wider, knobs)["flops"] - flops
        if 3 * extra * examples > settings.compile_gflops * 1e9:  # forward once, backward twice
            break
        chosen = wider
    return chosen


def jobs_of(settings: Settings, groups: Mapping[Group, list[Child]]) -> list[Job]:
    """Jobs of at most `group_size` children, the largest first: the last one to end then ends early."""
    most = settings.group_size
    jobs = [
        Job(group, tuple(children[start : start + most]))
        for group, children in groups.items()
        for start in range(0, len(children), most)
    ]
    return sorted(
        jobs, key=lambda job: -count_params(settings.network, job.group.structure) * len(job.children)
    )
