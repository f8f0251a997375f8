"""The sequential child network: convolutions, pooling and dense layers one after the other, a dense head.

What the layer-by-layer spaces share; each plans a `ChainStructure` from its architectures.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.errors import InputError
from jaxnas.networks import modules
from jaxnas.networks.ops import convolution, pooling
from jaxnas.spaces.layers import Conv, Dense, Dropout, GlobalPool, Layer, Pool, Softmax
from jaxnas.types import Network, PyTree

KINDS = {
    Conv: "conv",
    Pool: "pool",
    Dense: "dense",
    GlobalPool: "global_pool",
    Dropout: "dropout",
}  # in names


class ChainStructure(NamedTuple):
    """What fixes the shapes of the program: hashable."""

    image_shape: tuple[int, int, int]  # H, W, C
    layers: tuple[
        Layer, ...
    ]  # Conv, Pool, Dense and GlobalPool, without the head, a dense layer of num_outputs
    num_outputs: int
    initializer: str = "fan_in"  # fan_in (PyTorch's) or xavier (Glorot uniform, biases zero)
    dropout: tuple[int, ...] = ()  # indices of layers with dropout behind them, at rates knobs["dropout"]


def name_of(layer: Layer, i: int) -> str:
    """What the parameters of layer i, from 0, are called."""
    return f"{KINDS[type(layer)]}_{i + 1}"


class _Chain(nn.Module):
    structure: ChainStructure
    lowering: str

    @nn.compact
    def __call__(self, x: jax.Array, knobs: PyTree, key: jax.Array | None) -> jax.Array:
        s = self.structure
        real = knobs.get("widths")  # int32 [layers] in a padded network
        channels: Any = s.image_shape[-1]  # not padding
        fused = False
        for i, layer in enumerate(s.layers):
            name = name_of(layer, i)
            before, channels = channels, real[i] if real is not None and width(layer) else channels
            widths = None if real is None else (before, channels)
            if isinstance(layer, Conv):
                # A pool right behind a convolution is computed with it.
                pool = _pool(s, i + 1) if i not in s.dropout else None
                fused = pool is not None
                x = modules.Conv(
                    layer.filters, layer.kernel, self.lowering, layer.stride, layer.padding.upper(), pool,
                    layer.activation, s.initializer, name=name,
                )(x, widths)  # fmt: skip
            elif isinstance(layer, Pool):
                x = x if fused else pooling.max_pool(x, _pool(s, i) or pooling.Pool())
                fused = False
            elif isinstance(layer, Dense):
                x = modules.Dense(layer.units, s.initializer, name=name)(x, widths)
                x = modules.ACTIVATIONS[layer.activation](x)
            else:
                x = jnp.mean(x, axis=(1, 2))
            if i in s.dropout:
                rate = knobs["dropout"][s.dropout.index(i)]
                key_layer = None if key is None else jax.random.fold_in(key, i)
                x = modules.dropout(x, rate, key_layer, None if real is None else channels)
        widths = None if real is None else (channels, s.num_outputs)
        return modules.Dense(s.num_outputs, s.initializer, name="head")(x, widths)


def network(plan: Callable, lowering: str, widths: Sequence[int] = (), units: Sequence[int] = ()) -> Network:
    """The network whose structures, ChainStructures, `plan` makes.

    `widths` and `units` are what filters and dense layers of the space can have, for padding.
    """
    resolved = convolution.resolve_lowering(lowering)

    def apply_(params: PyTree, structure: ChainStructure, knobs: PyTree, inputs: jax.Array, key: Any) -> Any:
        return apply(params, structure, knobs, inputs, key, resolved)

    choices = {Conv: sorted(widths), Dense: sorted(units)}
    return Network(plan, init, apply_, functools.partial(widen, choices=choices), pad, crop)


def widen(structure: ChainStructure, choices: dict[type, list[int]]) -> Iterator[ChainStructure]:
    """Ever wider structures that `structure` can be padded to.

    At level l the choices of a kind, from the widest down, are taken in groups of 2ˡ, and each width becomes
    the widest of its group: the more structures share one program, the more their children are padded.
    """
    most = max(map(len, choices.values()), default=0)
    for level in range(1, max(1, (most - 1).bit_length()) + 1):
        wider = tuple(
            _of_width(layer, widest(width(layer), choices.get(type(layer), []), 2**level))
            for layer in structure.layers
        )
        yield structure._replace(layers=wider)


def pad(structure: ChainStructure, knobs: PyTree) -> PyTree:
    """The knobs of a child of `structure` in a wider program, where it computes exactly what it would alone.

    Weights beyond its own widths begin at zero and have no gradient, so they remain zero.
    """
    return {**knobs, "widths": np.array([width(layer) for layer in structure.layers], np.int32)}


def crop(params: PyTree, structure: ChainStructure) -> PyTree:
    """Host: the child's own parameters out of those of a wider program."""
    shapes_ = jax.eval_shape(functools.partial(init, structure=structure), jax.random.key(0))
    inputs = dict(zip(_names(structure), _inputs(structure), strict=True))

    def cut(path: tuple, x: np.ndarray, like: Any) -> np.ndarray:
        name, leaf = (part.key for part in path)
        if leaf == "kernel" and x.ndim == 2:  # [H · W · C, outputs]
            area, channels = inputs[name]
            return x.reshape(area, -1, x.shape[-1])[:, :channels, : like.shape[-1]].reshape(like.shape)
        return x[tuple(slice(extent) for extent in like.shape)]

    return jax.tree_util.tree_map_with_path(cut, params, shapes_)


def width(layer: Layer) -> int:
    """Filters of a convolution, units of a dense layer; 0 for a layer without parameters."""
    return layer.filters if isinstance(layer, Conv) else layer.units if isinstance(layer, Dense) else 0


def _of_width(layer: Layer, width: int) -> Layer:
    if isinstance(layer, Conv):
        return dataclasses.replace(layer, filters=width)
    return dataclasses.replace(layer, units=width) if isinstance(layer, Dense) else layer


def widest(width: int, choices: list[int], group: int) -> int:
    """The widest of the group of choices that `width` is in; itself where it is none of them."""
    if width not in choices:
        return width
    place = len(choices) - 1 - choices.index(width)
    return choices[len(choices) - 1 - place // group * group]


def init(key: jax.Array, structure: ChainStructure, knobs: PyTree | None = None) -> PyTree:
    """The initial parameters, {layer: {kernel, bias}}; layers are named by kind and place from 1."""
    images = jax.ShapeDtypeStruct((1, *structure.image_shape), jnp.float32)
    rates = {"dropout": jax.ShapeDtypeStruct((len(structure.dropout),), jnp.float32)}
    rates |= {"widths": knobs["widths"]} if knobs and "widths" in knobs else {}
    # Only the initializers run: the forward pass is traced for its shapes.
    return _Chain(structure, "xla").lazy_init(key, images, rates, None)["params"]


def apply(
    params: PyTree,
    structure: ChainStructure,
    knobs: PyTree,
    inputs: jax.Array,
    key: jax.Array | None,
    lowering: str,
) -> jax.Array:
    """Outputs [N, num_outputs] for inputs [N, H, W, C]; without a key there is no dropout.

    `knobs["dropout"]` holds a rate for each entry of `structure.dropout`; a structure without needs none.
    """
    outputs = _Chain(structure, lowering).apply({"params": params}, inputs, knobs, key)
    assert isinstance(outputs, jax.Array)
    return outputs


def split(parts: Sequence[Any]) -> tuple[tuple[Layer, ...], tuple[int, ...], np.ndarray]:
    """Parts of a space → layers without the end, indices of those with dropout behind them, its rates."""
    layers: list[Layer] = []
    rates: dict[int, float] = {}
    for part in parts:
        if isinstance(part, Dropout):
            rates[len(layers) - 1] = part.rate
        elif not isinstance(part, Softmax):
            layers.append(part)
    return tuple(layers), tuple(rates), np.array(list(rates.values()), np.float32)


def shapes(image_shape: tuple[int, int, int], layers: Sequence[Layer]) -> tuple[tuple[int, ...], ...]:
    """The shape of an image after each layer: (H, W, C), or (features,) once it is flat.

    Raises:
      InputError: a layer that does not fit what comes before it.
    """
    after: list[tuple[int, ...]] = [image_shape]
    for i, layer in enumerate(layers):
        where, shape = f"layer {i + 1} ({KINDS.get(type(layer), layer)})", after[-1]
        if isinstance(layer, Dense):
            shape = (layer.units,)
        elif isinstance(layer, Conv | Pool | GlobalPool) and len(shape) != 3:
            raise InputError(f"{where}: what comes before it is flat; only dense layers may follow")
        elif isinstance(layer, GlobalPool):
            shape = shape[2:]
        elif isinstance(layer, Conv | Pool):
            lost = 0 if layer.padding == "same" else layer.kernel - 1
            height, width = (-(-(n - lost) // layer.stride) for n in shape[:2])
            if min(height, width) < 1:
                raise InputError(
                    f"{where}: its window of {layer.kernel} × {layer.kernel} does not fit into "
                    f"{shape[0]} × {shape[1]} pixels; take fewer or smaller layers, or larger images"
                )
            shape = (height, width, layer.filters if isinstance(layer, Conv) else shape[2])
        elif not isinstance(layer, Dropout):
            raise InputError(
                f"{where}: no layer of a chain; it takes Conv, Pool, Dense, GlobalPool and Dropout"
            )
        if isinstance(layer, Conv) and layer.skip:
            source = after[i + 1 - layer.skip] if layer.skip <= i + 1 else ()
            if source[:-1] != shape[:-1]:
                raise InputError(f"{where}: skip {layer.skip} leads to no layer of its height and width")
        after.append(shape)
    return tuple(after[1:])


def _names(structure: ChainStructure) -> list[str]:
    """Of the layers with parameters, in order."""
    return [name_of(layer, i) for i, layer in enumerate(structure.layers) if width(layer)] + ["head"]


def _inputs(structure: ChainStructure) -> list[tuple[int, int]]:
    """(pixels, channels) that each layer with parameters reads."""
    before = (structure.image_shape, *shapes(structure.image_shape, structure.layers))
    wide = [i for i, layer in enumerate(structure.layers) if width(layer)]
    return [(math.prod(before[i][:-1]), before[i][-1]) for i in (*wide, -1)]


def _pool(structure: ChainStructure, i: int) -> pooling.Pool | None:
    """Layer i, if it is a pool."""
    layer = structure.layers[i] if i < len(structure.layers) else None
    return (
        pooling.Pool(layer.kernel, layer.stride, layer.padding.upper()) if isinstance(layer, Pool) else None
    )
