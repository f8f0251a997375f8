"""The child network of space `stages`: a stem, stages of blocks, the mean of all pixels, a dense head.

Tan et al. 2019, https://arxiv.org/abs/1807.11626, at the size of small images. Residual blocks: He et al.
2016, https://arxiv.org/abs/1512.03385; inverted residuals: Sandler et al. 2018,
https://arxiv.org/abs/1801.04381; squeeze and excitation: Hu et al. 2018, https://arxiv.org/abs/1709.01507;
branches that begin at zero: Goyal et al. 2017, https://arxiv.org/abs/1706.02677, section 5.1; initial
weights: He et al. 2015, https://arxiv.org/abs/1502.01852.

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
from jaxnas.networks import chain, modules
from jaxnas.networks.ops import convolution, pooling
from jaxnas.networks.ops.depthwise import depthwise
from jaxnas.spaces.layers import Setting, Stage, Stem
from jaxnas.spaces.stages_parts import EXPANSION, SE_REDUCTION
from jaxnas.types import Network, PyTree, Space

SCANNED = 2  # equal blocks in a row, at least, that become one function in a loop
MOMENTUM = 0.9  # of statistics; until that many steps are done, they are the mean of all of them
EPSILON = 1e-5
IN_LOOP: dict[str, Any] = {
    "variable_axes": {"params": 0, "batch_stats": 0}, "split_rngs": {"params": True}, "in_axes": nn.broadcast,
}  # fmt: skip
# What the space's decisions about training are: an option of the trainer, and its value if the answer is yes.
OPTIONS = {"mirror": ("flip", 1.0), "light": ("light", 0.25)}
Width = int | jax.Array | None  # channels that are not padding; None where nothing is padded


class Structure(NamedTuple):
    """What fixes the shapes of the program: hashable."""

    image_shape: tuple[int, int, int]
    stem: int  # its channels
    stages: tuple[Stage, ...]
    num_outputs: int
    dropout: bool


class _Settings(NamedTuple):
    """What all modules of a network share."""

    training: bool
    lowering: str


class _Stages(nn.Module):
    structure: Structure
    lowering: str

    @nn.compact
    def __call__(self, x: Any, knobs: PyTree, key: jax.Array | None) -> jax.Array:
        s, settings = self.structure, _Settings(key is not None, self.lowering)
        widths = knobs.get("widths", (None,) * (1 + len(s.stages)))  # of the stem and each stage
        steps: Any = self.variable("batch_stats", "steps", lambda: jnp.zeros((), jnp.float32))
        pace = jnp.maximum(1 - MOMENTUM, 1 / (steps.value + 1))  # how far statistics move
        if settings.training and not self.is_initializing():
            steps.value = steps.value + 1
        before: Width = None if widths[0] is None else s.image_shape[-1]
        x = _ConvNorm(s.stem, 3, settings, name="stem")(x, pace, before, widths[0])
        x, before = nn.relu(x), widths[0]
        for i, stage in enumerate(s.stages, 1):
            x, width = pooling.max_pool(x), widths[i]
            names = [f"stage_{i}_block_{j + 1}" for j in range(stage.repeats)]
            in_loop = stage.repeats - 1 if stage.repeats - 1 >= SCANNED else 0
            x, _ = _Block(stage, True, settings, name=names[0])(x, pace, before, width)
            if in_loop:
                loop = nn.scan(_Block, **IN_LOOP, length=in_loop)
                x, _ = loop(stage, False, settings, name=f"stage_{i}_blocks")(x, pace, width, width)
            else:
                for name in names[1:]:
                    x, _ = _Block(stage, False, settings, name=name)(x, pace, width, width)
            before = width
        x = jnp.mean(x, axis=(1, 2))
        if s.dropout and key is not None:
            x = modules.dropout(x, knobs["dropout"], key, before)
        return modules.Dense(s.num_outputs, "xavier", name="head")(x, _pair(before, s.num_outputs))


def _pair(before: Width, width: Width) -> modules.Widths | None:
    return None if before is None or width is None else (before, width)


class _Block(nn.Module):
    """[N, H, W, C] → ([N, H, W, filters], None)."""

    stage: Stage
    is_first: bool
    settings: _Settings

    @nn.compact
    def __call__(self, x: jax.Array, pace: jax.Array, before: Width, width: Width) -> tuple[jax.Array, None]:
        block, k, F = self.stage.block, self.stage.kernel, self.stage.filters
        has_skip = block == "residual" or (block != "conv" and not self.is_first)
        begin = 0.0 if has_skip else 1.0

        def conv(
            x: jax.Array, k: int, before: Width, F: int, width: Width, name: str, begin: float = 1.0
        ) -> Any:
            return _ConvNorm(F, k, self.settings, begin, name=name)(x, pace, before, width)

        if block == "conv":
            y = conv(x, k, before, F, width, "conv")
        elif block == "residual":
            y = nn.relu(conv(x, k, before, F, width, "conv_1"))
            y = conv(y, k, width, F, width, "conv_2", begin)
        else:
            y, inner, factor = x, before, EXPANSION.get(block, 1)
            if factor > 1:
                inner = None if before is None else factor * before
                y = conv(y, 1, before, factor * x.shape[-1], inner, "expand")
            y = _Depthwise(k, self.settings, name="depthwise")(y, inner)
            if block in EXPANSION:
                y = nn.relu(_Norm(self.settings, name="depthwise_norm")(y, pace))
            y = conv(y, 1, inner, F, width, "project", begin)
        if self.stage.attention:
            y = self._excite(y, width)
        if has_skip:
            x = conv(x, 1, before, F, width, "skip") if self.is_first else x
            y = x + y
        return (y if block in EXPANSION else nn.relu(y)), None

    def _excite(self, x: jax.Array, width: Width) -> jax.Array:
        """Channels weighted by what all of the image shows."""
        squeezed = None if width is None else jnp.maximum(1, width // SE_REDUCTION)
        inner = max(1, x.shape[-1] // SE_REDUCTION)
        y = jnp.mean(x, axis=(1, 2))
        y = nn.relu(modules.Dense(inner, "xavier", name="squeeze")(y, _pair(width, squeezed)))
        y = nn.sigmoid(modules.Dense(x.shape[-1], "xavier", name="excite")(y, _pair(squeezed, width)))
        return x * y[:, None, None, :]


class _ConvNorm(nn.Module):
    """Convolution without a bias, then batch normalization."""

    features: int
    kernel_size: int
    settings: _Settings
    scale: float = 1.0  # at the beginning

    @nn.compact
    def __call__(self, x: jax.Array, pace: jax.Array, before: Width, width: Width) -> jax.Array:
        k, C = self.kernel_size, x.shape[-1]
        both = _pair(before, width)
        shape, extents = (k, k, C, self.features), None if both is None else (k, k, *both)
        fan_in = k * k * (C if both is None else both[0])
        kernel: Any = self.param("kernel", lambda key: modules.he_uniform(key, shape, fan_in, extents))
        nothing = jnp.zeros(self.features, x.dtype)
        y = convolution.conv(x, kernel.astype(x.dtype), nothing, convolution.Spec(self.settings.lowering))
        return _Norm(self.settings, self.scale, name="norm")(y, pace)


class _Depthwise(nn.Module):
    """ReLU, then every channel by itself."""

    kernel_size: int
    settings: _Settings

    @nn.compact
    def __call__(self, x: jax.Array, width: Width) -> jax.Array:
        k, C = self.kernel_size, x.shape[-1]
        extents = None if width is None else (k, k, width)
        kernel: Any = self.param("kernel", lambda key: modules.he_uniform(key, (k, k, C), k * k, extents))
        return depthwise(x, kernel.astype(x.dtype), 1, self.settings.lowering)


class _Norm(nn.Module):
    """Batch normalization: Ioffe & Szegedy 2015. The parameters are those of `nn.BatchNorm`."""

    settings: _Settings
    scale: float = 1.0

    @nn.compact
    def __call__(self, x: jax.Array, pace: jax.Array) -> jax.Array:
        C = (x.shape[-1],)
        scale: Any = self.param("scale", lambda key: jnp.full(C, self.scale, jnp.float32))
        bias: Any = self.param("bias", lambda key: jnp.zeros(C, jnp.float32))
        old_mean: Any = self.variable("batch_stats", "mean", lambda: jnp.zeros(C, jnp.float32))
        old_var: Any = self.variable("batch_stats", "var", lambda: jnp.ones(C, jnp.float32))
        mean, var = old_mean.value, old_var.value
        if self.settings.training:
            wide = x.astype(jnp.float32)
            mean = jnp.mean(wide, axis=(0, 1, 2))
            var = jnp.maximum(jnp.mean(wide * wide, axis=(0, 1, 2)) - mean * mean, 0)
            if not self.is_initializing():
                old_mean.value = old_mean.value + pace * (mean - old_mean.value)
                old_var.value = old_var.value + pace * (var - old_var.value)
        factor = scale.astype(jnp.float32) * jax.lax.rsqrt(var + EPSILON)
        shift = bias.astype(jnp.float32) - mean * factor
        return x * factor.astype(x.dtype).reshape(1, 1, 1, -1) + shift.astype(x.dtype).reshape(1, 1, 1, -1)


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
        settings = (part for part in space.layers(arch) if isinstance(part, Setting))
        return {OPTIONS[s.name][0]: OPTIONS[s.name][1] * (s.value == "yes") for s in settings}

    collected = modules.collecting(lambda structure: _Stages(structure, lowered))
    choices = sorted({*space.settings.stem, *space.settings.widths})
    wider = functools.partial(widen, choices=choices)
    return Network(
        plan, **collected, widen=wider, pad=pad, crop=functools.partial(crop, init=collected["init"]),
        trainer_options=trainer_options,
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
