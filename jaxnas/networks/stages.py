"""The child network of space `stages`: a stem, stages of blocks, the mean of all pixels, a dense head.

Tan et al. 2019, https://arxiv.org/abs/1807.11626, at the size of small images. Residual blocks: He et al.
2016, https://arxiv.org/abs/1512.03385; inverted residuals: Sandler et al. 2018,
https://arxiv.org/abs/1801.04381; squeeze and excitation: Hu et al. 2018, https://arxiv.org/abs/1709.01507;
branches that begin at zero: Goyal et al. 2017, https://arxiv.org/abs/1706.02677, section 5.1.

Each stage begins with max pooling of 2 × 2. Its first block changes the number of channels: a residual block
by a 1 × 1 convolution beside it, the others have no skip there. A depthwise convolution works on the ReLU of
what it is given.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.errors import InputError
from jaxnas.hashing import hashed
from jaxnas.networks import chain, modules
from jaxnas.networks.normalized import MOMENTUM, ConvNorm, Depthwise, Mode, Width, pair
from jaxnas.networks.ops import convolution, pooling
from jaxnas.spaces.layers import Setting, Stage, Stem
from jaxnas.spaces.stages_parts import EXPANSION, SE_REDUCTION, cost_of
from jaxnas.types import Network, PyTree, Space

SCANNED = 2  # equal blocks in a row, at least, that become one function in a loop
IN_LOOP: dict[str, Any] = {
    "variable_axes": {"params": 0, "batch_stats": 0}, "split_rngs": {"params": True}, "in_axes": nn.broadcast,
}  # fmt: skip
# What the space's decisions about training are: an option of the trainer, and its value if the answer is yes.
OPTIONS = {"mirror": ("flip", 1.0), "light": ("light", 0.25)}


class Structure(NamedTuple):
    """What fixes the shapes of the program: hashable."""

    image_shape: tuple[int, int, int]
    stem: int  # its channels
    stages: tuple[Stage, ...]
    num_outputs: int
    dropout: bool


class _Stages(nn.Module):
    structure: Structure
    lowering: str

    @nn.compact
    def __call__(self, x: Any, knobs: PyTree, key: jax.Array | None) -> jax.Array:
        s, mode = self.structure, Mode(key is not None, self.lowering)
        widths = knobs.get("widths", (None,) * (1 + len(s.stages)))  # of the stem and each stage
        steps: Any = self.variable("batch_stats", "steps", jnp.zeros, (), jnp.float32)
        pace = None  # how far statistics move
        if mode.training:
            pace, steps.value = jnp.maximum(1 - MOMENTUM, 1 / (steps.value + 1)), steps.value + 1
        before: Width = None if widths[0] is None else s.image_shape[-1]
        x, before = ConvNorm(s.stem, 3, mode, name="stem")(x, pace, before, widths[0]), widths[0]
        for i, stage in enumerate(s.stages, 1):
            x, width = pooling.max_pool(x), widths[i]
            names = [f"stage_{i}_block_{j + 1}" for j in range(stage.repeats)]
            in_loop = scanned(stage)
            x, _ = _Block(stage, True, mode, name=names[0])(x, pace, before, width)
            if in_loop:
                loop = nn.scan(_Block, **IN_LOOP, length=in_loop)
                x, _ = loop(stage, False, mode, name=f"stage_{i}_blocks")(x, pace, width, width)
            else:
                for name in names[1:]:
                    x, _ = _Block(stage, False, mode, name=name)(x, pace, width, width)
            before = width
        x = jnp.mean(x, axis=(1, 2))
        if s.dropout and key is not None:
            x = modules.dropout(x, knobs["dropout"], key, before)
        return modules.Dense(s.num_outputs, "xavier", name="head")(x, pair(before, s.num_outputs))


def scanned(stage: Stage) -> int:
    """How many of a stage's blocks are one function in a loop: all but the first, if those are several."""
    return stage.repeats - 1 if stage.repeats > SCANNED else 0


class _Block(nn.Module):
    """[N, H, W, C] → ([N, H, W, filters], None)."""

    stage: Stage
    is_first: bool
    mode: Mode

    @nn.compact
    def __call__(self, x: jax.Array, pace: Any, before: Width, width: Width) -> tuple[jax.Array, None]:
        block, k, F = self.stage.block, self.stage.kernel, self.stage.filters
        has_skip = block == "residual" or (block != "conv" and not self.is_first)
        last: Any = {"relu": not (has_skip or block in EXPANSION), "begin": 0.0 if has_skip else 1.0}

        def conv(x: jax.Array, k: int, before: Width, F: int, width: Width, name: str, **options: Any) -> Any:
            return ConvNorm(F, k, self.mode, name=name, **options)(x, pace, before, width)

        if block == "conv":
            y = conv(x, k, before, F, width, "conv", **last)
        elif block == "residual":
            y = conv(x, k, before, F, width, "conv_1")
            y = conv(y, k, width, F, width, "conv_2", **last)
        else:
            y, inner, factor = x, before, EXPANSION.get(block, 1)
            if factor > 1:  # the depthwise convolution takes the ReLU
                inner = None if before is None else factor * before
                y = conv(y, 1, before, factor * x.shape[-1], inner, "expand", relu=False)
            y = Depthwise(k, self.mode, block in EXPANSION, name="depthwise")(y, pace, inner)
            y = conv(y, 1, inner, F, width, "project", **last)
        if self.stage.attention:
            y = self._excite(y, width)
        if has_skip:
            y = y + (conv(x, 1, before, F, width, "skip", relu=False) if self.is_first else x)
        return (nn.relu(y) if has_skip and block not in EXPANSION else y), None

    def _excite(self, x: jax.Array, width: Width) -> jax.Array:
        """Channels weighted by what all of the image shows."""
        squeezed = None if width is None else jnp.maximum(1, width // SE_REDUCTION)
        inner = max(1, x.shape[-1] // SE_REDUCTION)
        y = jnp.mean(x, axis=(1, 2))
        y = nn.relu(modules.Dense(inner, "xavier", name="squeeze")(y, pair(width, squeezed)))
        y = nn.sigmoid(modules.Dense(x.shape[-1], "xavier", name="excite")(y, pair(squeezed, width)))
        return x * y[:, None, None, :]


def stages(
    space: Space,
    image_shape: tuple[int, int, int],
    num_outputs: int,
    *,
    dropout: float = 0.1,
    lowering: str = "auto",
) -> Network:
    """The network of space `stages` for images of `image_shape` (H, W, C).

    Args:
      dropout: the rate before the head.
      lowering: how convolutions are computed: gemm (matrix products and shifted sums), xla, or auto (gemm on
        a CPU).

    Raises:
      InputError: a rate out of its range, or an unknown lowering.
    """
    if not 0 <= dropout < 1:
        raise InputError(f"network.dropout: got {dropout}; it takes a rate in [0, 1)")
    lowered = convolution.resolve_lowering(lowering)

    def plan(arch: Any) -> tuple[Structure, PyTree]:
        parts = space.layers(arch)
        stem = next(part.filters for part in parts if isinstance(part, Stem))
        built = tuple(part for part in parts if isinstance(part, Stage))
        if min(image_shape[:2]) >> len(built) < 1:
            raise InputError(f"{len(built)} stages halve {image_shape[0]} × {image_shape[1]} pixels to none")
        return Structure(image_shape, stem, built, num_outputs, dropout > 0), {"dropout": np.float32(dropout)}

    def trainer_options(arch: Any) -> dict[str, Any]:
        decided = (part for part in space.layers(arch) if isinstance(part, Setting))
        return {OPTIONS[d.name][0]: OPTIONS[d.name][1] * (d.value == "yes") for d in decided}

    settings = space.settings._replace(image_shape=image_shape, num_outputs=num_outputs)

    def size(structure: Structure) -> dict[str, float]:
        parts = (Stem(structure.stem), *structure.stages)
        return dict(zip(("params", "flops"), cost_of(parts, settings), strict=True))

    collected = modules.collecting(lambda structure: _Stages(structure, lowered))
    init = collected["init"]
    collected["init"] = lambda key, structure, knobs: init(hashed(key), structure, knobs)
    choices = sorted({*space.settings.stem, *space.settings.widths})
    wider = functools.partial(widen, choices=choices)
    return Network(
        plan, **collected, widen=wider, pad=pad, crop=functools.partial(crop, init=init),
        trainer_options=trainer_options, size=size,
    )  # fmt: skip


def widen(structure: Structure, choices: list[int]) -> Iterator[Structure]:
    """Ever wider structures that `structure` can be padded to, as those of a chain."""
    for level in range(1, max(1, (len(choices) - 1).bit_length()) + 1):
        stem, *widths = (
            chain.widest(width, choices, 2**level)
            for width in (structure.stem, *(stage.filters for stage in structure.stages))
        )
        wider = (
            dataclasses.replace(stage, filters=width)
            for stage, width in zip(structure.stages, widths, strict=True)
        )
        yield structure._replace(stem=stem, stages=tuple(wider))


def pad(structure: Structure, knobs: PyTree) -> PyTree:
    """The knobs of a child of `structure` in a wider program, where it computes exactly what it would alone.

    Weights beyond its own widths begin at zero and have no gradient, so they remain zero.
    """
    widths = (structure.stem, *(stage.filters for stage in structure.stages))
    return {**knobs, "widths": np.array(widths, np.int32)}


def crop(params: PyTree, structure: Structure, init: Callable) -> PyTree:
    """Host: the child's own parameters out of those of a wider program."""
    shapes = jax.eval_shape(lambda key: init(key, structure, {}), jax.random.key(0))
    return jax.tree.map(lambda x, like: x[tuple(map(slice, like.shape))], params, shapes)
