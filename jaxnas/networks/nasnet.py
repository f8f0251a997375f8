"""The child network of space `nasnet`: a stem, normal cells in stages, a reduction cell between two stages.

Zoph, Vasudevan, Shlens & Le 2018, https://arxiv.org/abs/1707.07012, section 3 and appendix A: ReLU,
convolution, batch normalization in this order; separable convolutions applied twice; 1 × 1 convolutions where
shapes have to match; a cell's output is the concatenation of all hidden states that it made and did not use;
a reduction cell works on its inputs with stride 2 and has twice the filters. Where the text is silent (3 F
filters of the stem, the factorized reduction, the last ReLU, drop path sparing identities) this follows the
authors' code,
https://github.com/tensorflow/models/tree/master/research/slim/nets/nasnet.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.errors import InputError
from jaxnas.hashing import hash_bits
from jaxnas.networks import modules
from jaxnas.networks.ops import convolution
from jaxnas.networks.ops.depthwise import depthwise, mean_pool
from jaxnas.networks.ops.pooling import Pool, max_pool
from jaxnas.spaces.layers import Block
from jaxnas.types import Network, PyTree, Space

STEM = 3  # times the filters
SCANNED = 2  # cells in a row, at least, that become one function in a loop


class Structure(NamedTuple):
    """What fixes the shapes of the program: hashable."""

    image_shape: tuple[int, int, int]
    stages: tuple[int, ...]  # normal cells in each; a reduction cell leads from one to the next
    filters: int  # F of the first stage
    normal: tuple[Block, ...]
    reduction: tuple[Block, ...]
    num_outputs: int
    scan: bool = True
    drop_path: bool = False


class _Nasnet(nn.Module):
    structure: Structure
    lowering: str

    @nn.compact
    def __call__(self, x: jax.Array, knobs: PyTree, key: jax.Array | None) -> jax.Array:
        s, F, training = self.structure, self.structure.filters, key is not None
        kept = _kept(key, s, knobs, x.shape[0]) if s.drop_path and key is not None else None
        x = _ConvNorm(STEM * F, (3, 3), (1, 1), 1, training, self.lowering, name="stem")(x)
        hidden, place = (x, x), 0  # h and h-1
        for stage, count in enumerate(s.stages, 1):
            in_loop = scanned(s, count)
            cells = [(_Cell, 1, f"stage_{stage}_cell_{i + 1}", 1) for i in range(count - in_loop)]
            if stage > 1:
                F *= 2
                cells.insert(0, (_Cell, 2, f"reduction_{stage - 1}", 1))
            if in_loop:
                split = {"variable_axes": {"params": 0, "batch_stats": 0}, "split_rngs": {"params": True}}
                cells.append((nn.scan(_Cell, **split, length=in_loop), 1, f"stage_{stage}_cells", in_loop))
            for make, stride, name, number in cells:
                blocks = s.normal if stride == 1 else s.reduction
                paths = (
                    None if kept is None else kept[place] if make is _Cell else kept[place : place + number]
                )
                hidden, _ = make(blocks, F, stride, training, self.lowering, name=name)(hidden, paths)
                place += number
        return modules.Dense(s.num_outputs, "xavier", name="head")(jnp.mean(nn.relu(hidden[0]), axis=(1, 2)))


def scanned(structure: Structure, count: int) -> int:
    """How many of a stage's normal cells are one function in a loop: the last ones.

    From the third cell on, both inputs have the shape of a normal cell's output.
    """
    return count - 2 if structure.scan and count - 2 >= SCANNED else 0


def _kept(key: jax.Array, s: Structure, knobs: PyTree, N: int) -> jax.Array:  # → [cells, 2 B, N]
    """Scheduled drop path: 0 for a path that is left out, 1/(1 − rate) for one that is not.

    The rate grows linearly, from 0 at the first step of the training to `knobs["drop_path"]` at its end.
    """
    rate = knobs["drop_path"] * knobs["progress"]
    bits = hash_bits(key, (sum(s.stages) + len(s.stages) - 1, 2 * len(s.normal), N))
    return jnp.where(bits >= (rate * 2.0**32).astype(jnp.uint32), 1 / (1 - rate), 0.0)


class _Cell(nn.Module):
    """(h, h-1), kept paths [2 B, N] or None → ((its output, h), None)."""

    blocks: tuple[Block, ...]
    filters: int
    stride: int  # of the operations on h and h-1
    training: bool
    lowering: str

    @nn.compact
    def __call__(self, inputs: tuple[jax.Array, jax.Array], kept: jax.Array | None) -> tuple[Any, None]:
        used = {source for block in self.blocks for source in block.inputs}
        h, before = inputs
        states: list[Any] = [
            self._match(h, h.shape, "h") if 0 in used else None,
            self._match(before, h.shape, "h-1") if 1 in used else None,
        ]
        for b, block in enumerate(self.blocks):
            results = []
            for i, (source, operation) in enumerate(zip(block.inputs, block.operations, strict=True)):
                stride = self.stride if source < 2 else 1
                y = self._operate(states[source], operation, stride, f"b{b + 1}_{i + 1}")
                if kept is not None and operation != "identity":
                    y = y * kept[2 * b + i].reshape(-1, 1, 1, 1).astype(y.dtype)
                results.append(y)
            is_sum = block.combine == "add"
            states.append(results[0] + results[1] if is_sum else jnp.concatenate(results, axis=-1))
        unused = [state for i, state in enumerate(states) if i > 1 and i not in used]
        return (jnp.concatenate(unused, axis=-1), h), None

    def _match(self, x: jax.Array, shape: tuple[int, ...], name: str) -> jax.Array:
        """An input of the cell with its filters, and with the height and width of h."""
        if x.shape[1:3] == shape[1:3]:
            return x if x.shape[-1] == self.filters else self._conv(x, 1, name)
        # Factorized: every second pixel, and those diagonally below, half of the filters each.
        below, half = jnp.pad(x[:, 1:, 1:], ((0, 0), (0, 1), (0, 1), (0, 0))), self.filters // 2
        even = self._conv(x, 1, f"{name}_even", 2, filters=half)
        odd = self._conv(below, 1, f"{name}_odd", 2, filters=self.filters - half)
        return jnp.concatenate([even, odd], axis=-1)

    def _operate(self, x: jax.Array, operation: str, stride: int, name: str) -> jax.Array:
        """One of the 13 operations; its output has the cell's filters."""
        if operation == "identity":
            return x if (stride, x.shape[-1]) == (1, self.filters) else self._conv(x, 1, name, stride)
        kind, k = operation[:-1], int(operation[-1])
        if kind == "sep":
            for i, step in ((1, stride), (2, 1)):
                settings = self.filters, k, step, self.training, self.lowering
                x = _SeparableNorm(*settings, name=f"{name}_{i}")(x)
            return x
        if kind in ("avg", "max"):
            pool = Pool(k, stride, "SAME")
            x = mean_pool(x, k, stride) if kind == "avg" else max_pool(x, pool)
            return x if x.shape[-1] == self.filters else self._conv(x, 1, name)
        if kind == "conv1x":
            x = self._conv(x, (1, k), f"{name}_1", (1, stride))
            return self._conv(x, (k, 1), f"{name}_2", (stride, 1))
        return self._conv(x, k, name, stride, 2 if kind == "dil" else 1)

    def _conv(
        self, x: jax.Array, window: Any, name: str, stride: Any = 1, dilation: int = 1, filters: int = 0
    ) -> jax.Array:
        window, stride = ((n, n) if isinstance(n, int) else n for n in (window, stride))
        settings = filters or self.filters, window, stride, dilation, self.training, self.lowering
        return _ConvNorm(*settings, name=name)(nn.relu(x))


class _ConvNorm(nn.Module):
    """Convolution without a bias, then batch normalization."""

    features: int
    window: tuple[int, int]
    strides: tuple[int, int]
    dilation: int
    training: bool
    lowering: str

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        area, C = int(np.prod(self.window)), x.shape[-1]
        shape = (*self.window, C, self.features)
        kernel: Any = self.param(
            "kernel", lambda key: modules.xavier_uniform(key, shape, area * C, area * self.features)
        )
        kernel = kernel.astype(x.dtype)
        if (self.window, self.strides, self.dilation) == ((3, 3), (1, 1), 1):
            spec = convolution.Spec(self.lowering)
            y = convolution.conv(x, kernel, jnp.zeros(self.features, x.dtype), spec)
        else:
            y = convolution.windowed(x, kernel, self.strides, self.dilation, self.lowering)
        return modules.batch_norm(y, self.training, "norm")


class _SeparableNorm(nn.Module):
    """ReLU, depthwise and pointwise convolution with nothing between them, then batch normalization."""

    features: int
    kernel_size: int
    stride: int
    training: bool
    lowering: str

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        k, C = self.kernel_size, x.shape[-1]
        by_channel: Any = self.param(
            "depthwise", lambda key: modules.xavier_uniform(key, (k, k, C), k * k, k * k)
        )
        mix: Any = self.param(
            "pointwise", lambda key: modules.xavier_uniform(key, (C, self.features), C, self.features)
        )
        z = depthwise(x, by_channel.astype(x.dtype), self.stride, self.lowering)
        return modules.batch_norm(z @ mix.astype(x.dtype), self.training, "norm")


def nasnet(
    space: Space,
    image_shape: tuple[int, int, int],
    num_outputs: int,
    *,
    cells: int = 2,
    filters: int = 32,
    reductions: int = 2,
    drop_path: float = 0.0,
    scan: bool = True,
    lowering: str = "auto",
) -> Network:
    """The network of space `nasnet` for images of `image_shape` (H, W, C).

    Args:
      cells: N, normal cells in a row, before, between and after the reduction cells.
      filters: F, of the first cells; twice as many after each reduction cell.
      reductions: reduction cells, each of which halves height and width.
      drop_path: scheduled drop path, for the final training: the rate at which paths are left out at its end;
        it grows linearly from 0.
      scan: cells in a row whose inputs have equal shapes are one function in a loop: less to compile.
      lowering: how convolutions are computed: gemm (matrix products and shifted sums), xla, or auto (gemm on
        a CPU).

    Raises:
      InputError: an option out of its range, or an unknown lowering.
    """
    for name, value, least in (("cells", cells, 1), ("filters", filters, 1), ("reductions", reductions, 0)):
        if value < least:
            raise InputError(f"network.{name}: got {value}; it takes {least} or more")
    if not 0 <= drop_path < 1:
        raise InputError(f"network.drop_path: got {drop_path}; it takes a rate in [0, 1)")
    lowered = convolution.resolve_lowering(lowering)
    stages = (cells,) * (reductions + 1)
    knobs = {"drop_path": np.float32(drop_path), "progress": np.float32(0)} if drop_path else {}

    def plan(arch: Any) -> tuple[Structure, PyTree]:
        normal, reduction = (cell.blocks for cell in space.layers(arch))
        built = Structure(image_shape, stages, filters, normal, reduction, num_outputs, scan, drop_path > 0)
        return built, knobs

    return Network(plan, **modules.collecting(lambda structure: _Nasnet(structure, lowered)))
