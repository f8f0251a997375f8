"""The sequential child network: convolutions, pooling and dense layers one after the other, a dense head.

What the layer-by-layer spaces share; each plans a `ChainStructure` from its architectures.
"""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.errors import InputError
from jaxnas.networks import layers
from jaxnas.networks.ops import convolution
from jaxnas.networks.ops.pooling import Pool, max_pool
from jaxnas.types import Network, PyTree


class Layer(NamedTuple):
    """One layer: hashable."""

    kind: str  # conv, pool (maximum), dense, global_pool (mean)
    width: int = 0  # filters of a convolution, units of a dense layer
    kernel: int = 0  # width of a convolution's kernel or a pool's window, in pixels
    stride: int = 1


class ChainStructure(NamedTuple):
    """What fixes the shapes of the program: hashable."""

    image_shape: tuple[int, int, int]  # H, W, C
    layers: tuple[Layer, ...]  # without the head, a dense layer of num_outputs
    num_outputs: int
    padding: str = "same"  # of convolutions: same, valid, or first_valid (the first one alone)
    pool_padding: str = "ceil"  # n pixels pool to: ceil ⌈(n − kernel + 1)/stride⌉, same ⌈n/stride⌉
    activation: str = "relu"  # after convolutions and dense layers: relu, elu, none
    initializer: str = "fan_in"  # fan_in (PyTorch's) or xavier (Glorot uniform, biases zero)
    dropout: tuple[int, ...] = ()  # indices of layers with dropout behind them, at rates knobs["dropout"]


class _Chain(nn.Module):
    structure: ChainStructure
    lowering: str

    @nn.compact
    def __call__(self, x: jax.Array, knobs: PyTree, key: jax.Array | None) -> jax.Array:
        s = self.structure
        activation = layers.ACTIVATIONS[s.activation]
        real = knobs.get("widths")  # int32 [layers] in a padded network
        channels: Any = s.image_shape[-1]  # not padding
        fused = False
        for i, layer in enumerate(s.layers):
            name = f"{layer.kind}_{i + 1}"
            before, channels = channels, real[i] if real is not None and layer.width else channels
            widths = None if real is None else (before, channels)
            if layer.kind == "conv":
                # A pool right behind a convolution is computed with it.
                pool = _pool(s, i + 1) if i not in s.dropout else None
                fused = pool is not None
                x = layers.Conv(
                    layer.width, layer.kernel, self.lowering, layer.stride, padding_of(s, i), pool,
                    s.activation, s.initializer, name=name,
                )(x, widths)  # fmt: skip
            elif layer.kind == "pool":
                x = x if fused else max_pool(x, _pool(s, i) or Pool())
                fused = False
            elif layer.kind == "global_pool":
                x = jnp.mean(x, axis=(1, 2))
            else:
                x = activation(layers.Dense(layer.width, s.initializer, name=name)(x, widths))
            if i in s.dropout:
                rate = knobs["dropout"][s.dropout.index(i)]
                key_layer = None if key is None else jax.random.fold_in(key, i)
                x = layers.dropout(x, rate, key_layer, None if real is None else channels)
        widths = None if real is None else (channels, s.num_outputs)
        return layers.Dense(s.num_outputs, s.initializer, name="head")(x, widths)


def network(plan: Callable, lowering: str, widths: Sequence[int] = (), units: Sequence[int] = ()) -> Network:
    """The network whose structures, ChainStructures, `plan` makes.

    `widths` and `units` are what filters and dense layers of the space can have, for padding.
    """
    resolved = convolution.resolve_lowering(lowering)

    def apply_(params: PyTree, structure: ChainStructure, knobs: PyTree, inputs: jax.Array, key: Any) -> Any:
        return apply(params, structure, knobs, inputs, key, resolved)

    choices = {"conv": sorted(widths), "dense": sorted(units)}
    return Network(plan, init, apply_, functools.partial(widen, choices=choices), pad, crop)


def widen(structure: ChainStructure, choices: dict[str, list[int]]) -> Iterator[ChainStructure]:
    """Ever wider structures that `structure` can be padded to.

    At level l the choices of a kind, from the widest down, are taken in groups of 2ˡ, and each width becomes
    the widest of its group: the more structures share one program, the more their children are padded.
    """
    most = max(map(len, choices.values()), default=0)
    for level in range(1, max(1, (most - 1).bit_length()) + 1):
        wider = tuple(
            layer._replace(width=_widest(layer.width, choices.get(layer.kind, []), 2**level))
            for layer in structure.layers
        )
        yield structure._replace(layers=wider)


def pad(structure: ChainStructure, knobs: PyTree) -> PyTree:
    """The knobs of a child of `structure` in a wider program, where it computes exactly what it would alone.

    Weights beyond its own widths begin at zero and have no gradient, so they remain zero.
    """
    return {**knobs, "widths": np.array([layer.width for layer in structure.layers], np.int32)}


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


def _widest(width: int, choices: list[int], group: int) -> int:
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


def shapes(structure: ChainStructure) -> tuple[tuple[int, ...], ...]:
    """The shape of an image after each layer: (H, W, C), or (features,) once it is flat.

    Raises:
      InputError: a layer that does not fit what comes before it.
    """
    shape: tuple[int, ...] = structure.image_shape
    found = []
    for i, layer in enumerate(structure.layers):
        at = f"layer {i + 1} ({layer.kind})"
        if layer.kind == "dense":
            shape = (layer.width,)
        elif len(shape) != 3:
            raise InputError(f"{at}: what comes before it is flat; only dense layers may follow")
        elif layer.kind == "global_pool":
            shape = shape[2:]
        elif layer.kind in ("conv", "pool"):
            of_conv = layer.kind == "conv"
            same = padding_of(structure, i) == "SAME" if of_conv else structure.pool_padding == "same"
            height, width = (-(-(n if same else n - layer.kernel + 1) // layer.stride) for n in shape[:2])
            if min(height, width) < 1:
                raise InputError(
                    f"{at}: its window of {layer.kernel} × {layer.kernel} does not fit into "
                    f"{shape[0]} × {shape[1]} pixels; take fewer or smaller layers, or larger images"
                )
            shape = (height, width, layer.width if of_conv else shape[2])
        else:
            raise InputError(f"{at}: unknown kind; it takes conv, pool, dense or global_pool")
        found.append(shape)
    return tuple(found)


def _names(structure: ChainStructure) -> list[str]:
    """Of the layers with parameters, in order."""
    return [f"{layer.kind}_{i + 1}" for i, layer in enumerate(structure.layers) if layer.width] + ["head"]


def _inputs(structure: ChainStructure) -> list[tuple[int, int]]:
    """(pixels, channels) that each layer with parameters reads."""
    before = (structure.image_shape, *shapes(structure))
    wide = [i for i, layer in enumerate(structure.layers) if layer.width]
    return [(math.prod(before[i][:-1]), before[i][-1]) for i in (*wide, -1)]


def padding_of(structure: ChainStructure, i: int) -> str:
    """Of the convolution that is layer i: SAME or VALID."""
    first = all(layer.kind != "conv" for layer in structure.layers[:i])
    valid = structure.padding == "valid" or (structure.padding == "first_valid" and first)
    return "VALID" if valid else "SAME"


def _pool(structure: ChainStructure, i: int) -> Pool | None:
    """Layer i, if it is a pool."""
    if i >= len(structure.layers) or structure.layers[i].kind != "pool":
        return None
    layer = structure.layers[i]
    return Pool(layer.kernel, layer.stride, "VALID" if structure.pool_padding == "ceil" else "SAME")
