"""A stem, then stages of equal blocks at ever smaller sizes: a factorised hierarchical search space.

Tan, Chen, Pang, Vasudevan, Sandler, Howard & Le 2019, "MnasNet: platform-aware neural architecture search
for mobile", https://arxiv.org/abs/1807.11626, section 4.1, at the size of small images. Every stage decides
on its block, width, kernel, repeats and squeeze-excitation; `networks/stages.py` says what the blocks are.

Suits images whose network shall be accurate and small: limits on its size hold for every proposal.
"""

import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxnas.errors import InputError
from jaxnas.spaces import budgets, layers, prefix
from jaxnas.spaces.budgets import Cost, Group
from jaxnas.spaces.layers import Stage
from jaxnas.spaces.stages_parts import (
    AXES,
    BLOCKS,
    TRAINING,
    Settings,
    check,
    decode,
    head_cost,
    parse,
    parts_of,
    stage_cost,
    stages_of,
    stem_cost,
)
from jaxnas.types import Space


class Place(NamedTuple):
    """What the rest of a network depends on."""

    channels: int
    is_off: bool = False  # whether a stage was: then all further ones are


def stages(
    image_shape: tuple[int, int, int] = (32, 32, 3),
    num_outputs: int = 10,
    limits: Mapping[str, float] | None = None,
    *,
    stem: tuple[int, ...] = (8, 12, 16),
    stages: int = 0,
    min_stages: int = 0,
    blocks: tuple[str, ...] = BLOCKS,
    widths: tuple[int, ...] = (8, 12, 16, 24, 32, 48),
    kernels: tuple[int, ...] = (3, 5),
    repeats: tuple[int, ...] = (1, 2, 3),
    attention: tuple[bool, ...] = (False, True),
    mirror: bool = False,
    light: bool = False,
    max_params: int = 0,
    max_flops: int = 0,
) -> Space:
    """The stem's width, then of each stage whether it is on, its block, width, kernel, repeats, attention.

    A decision with one choice does not appear; those of a stage that is off are 0. Only a choice is legal
    after which some network is within the limits, so that no proposal exceeds them. The tabular state is the
    decision and, within a stage, the choice before it: S = T · A + 1.

    Args:
      image_shape: height, width and channels of the images.
      num_outputs: the width of the head.
      limits: {params, flops: most} of the configuration's constraints.
      stem: widths of the first convolution.
      stages: stages at most, each at half of the height and width before it; 0 goes by the image size.
      min_stages: stages at least, which are always on; 0 is half of `stages`.
      blocks: conv; residual, two convolutions; inverted1, inverted3, inverted6, inverted residuals by their
        expansion; separable, depthwise and pointwise convolution.
      widths: channels of a stage.
      kernels: heights and widths of its windows, in pixels.
      repeats: how many blocks it has.
      attention: whether its blocks have squeeze and excitation.
      mirror: decide whether training images may be mirrored.
      light: decide whether training images vary in brightness and contrast.
      max_params: parameters at most; 0 for no limit.
      max_flops: operations of a forward pass at most; 0 for no limit.

    Raises:
      InputError: an option without a value or out of its range, or limits that no network is within.
    """
    sizes = [most for most in (max_params, (limits or {}).get("params")) if most]
    speeds = [most for most in (max_flops, (limits or {}).get("flops")) if most]
    most = stages or stages_of(image_shape)
    settings = Settings(
        image_shape, num_outputs, tuple(stem), most, min_stages or -(-most // 2), tuple(blocks),
        tuple(widths), tuple(kernels), tuple(repeats), tuple(attention),
        tuple(name for name, is_decided in zip(TRAINING, (mirror, light), strict=True) if is_decided),
        int(min(sizes, default=0)), int(min(speeds, default=0)),
    )  # fmt: skip
    check(settings)
    groups = _groups(settings)
    start, limits_ = Place(image_shape[-1]), (settings.max_params, settings.max_flops // 2)
    moves = budgets.make(groups, start, lambda place: head_cost(place.channels, num_outputs), limits_)
    if not any(all(n <= (most or n) for n, most in zip(cost, limits_, strict=True)) for cost in moves.front):
        params, multiply_adds = (min(costs) for costs in zip(*moves.front, strict=True))
        raise InputError(
            f"space.max_params, space.max_flops: got {settings.max_params} and {settings.max_flops}; "
            f"networks of this space begin at {params} parameters and at {2 * multiply_adds} operations"
        )
    names, A = tuple(name for group in groups for name in group.names), moves.num_choices
    T, starts = len(names), jnp.asarray(moves.starts)

    def state(walk: budgets.Walk) -> Any:
        depth = jnp.minimum(walk.taken.depth, T)
        within = (depth < T) & ~jnp.any(starts == depth)
        return (depth * A + jnp.where(within, prefix.last(walk.taken), 0)).astype(jnp.int32)

    return Space(
        name="stages",
        num_steps=T,
        num_choices=A,
        decisions=names,
        start=moves.start,
        step=moves.step,
        mask=moves.mask,
        done=lambda walk: walk.taken.depth >= T,
        num_states=T * A + 1,
        state=state,
        observe=lambda walk: prefix.observe(walk.taken, A),
        decode=lambda arch: decode(arch, settings, names),
        describe=lambda arch: layers.notation(parts_of(arch, settings, names)),
        parse=lambda text: parse(text, settings, names),
        size=moves.size,
        settings=settings,
        layers=lambda arch: parts_of(arch, settings, names),
    )


def _groups(s: Settings) -> list[Group]:
    """The decisions: the stem, each stage, the training."""
    height, width, _ = s.image_shape

    def stem(place: Place, m: int) -> tuple[Place, Cost]:
        del place
        return Place(s.stem[m]), stem_cost(s.stem[m], s.image_shape)

    def stage(i: int) -> Group:
        pixels = (height >> i) * (width >> i)
        is_optional = i > s.min_stages
        values = [getattr(s, option) for option in AXES.values()]
        every = list(itertools.product(*(range(len(options)) for options in values)))

        def follow(place: Place, m: int) -> tuple[Place, Cost] | None:
            if is_optional and m == 0:
                return Place(place.channels, True), (0, 0)
            if place.is_off:
                return None
            chosen = (options[n] for options, n in zip(values, every[m - is_optional], strict=True))
            built = Stage(*chosen)
            return Place(built.filters), stage_cost(built, place.channels, pixels)

        rows = [(1, *row) for row in every]
        rows = [(0,) * len(rows[0]), *rows] if is_optional else rows
        shown = [is_optional, *(len(options) > 1 for options in values)]
        names = [f"{name}_{i}" for name in ("on", *AXES)]
        return Group(
            tuple(name for name, is_shown in zip(names, shown, strict=True) if is_shown),
            tuple(tuple(n for n, is_shown in zip(row, shown, strict=True) if is_shown) for row in rows),
            follow,
        )

    groups = [Group(("stem",), tuple((m,) for m in range(len(s.stem))), stem)] + [
        stage(i + 1) for i in range(s.stages)
    ]
    return groups + [Group((name,), ((0,), (1,)), lambda place, m: (place, (0, 0))) for name in s.training]
