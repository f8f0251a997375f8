"""What a child network is made of: its layers in the order of computation, from shapes alone."""

import functools
import re
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.networks import chain
from jaxnas.spaces.layers import Conv, Dense, Dropout, GlobalPool, Layer, Pool
from jaxnas.types import Network

KINDS = {
    Conv: "convolution", Pool: "max pooling", Dense: "dense", GlobalPool: "mean of all pixels",
    Dropout: "dropout",
}  # fmt: skip
ATTENTION = {"se": "squeeze and excitation", "self": "self-attention"}


class Part(NamedTuple):
    """A layer, or a cell of layers."""

    name: str
    shape: tuple[int, ...]  # of its output for one image: (H, W, C) or (features,)
    params: int  # trainable ones
    skip: int = 0  # adds the output of the part so many before it, of the image before the first; 0 for none


class _Module(NamedTuple):
    before: tuple[int, ...]  # shape of its input for one image
    after: tuple[int, ...]
    params: int


def parts(network: Network, arch: Any, image_shape: tuple[int, int, int]) -> list[Part]:
    """The parts of an architecture's network for images of `image_shape`.

    Layers where the structure has a list of them, the modules at the top of the network otherwise; nothing
    where the network is not made of Flax modules.

    Raises:
      InputError: no network of this shape exists for these images.
    """
    structure, knobs = network.plan(arch)
    leaves, tree = jax.tree.flatten(knobs)
    like = tuple(jax.ShapeDtypeStruct(np.shape(x), np.asarray(x).dtype) for x in leaves)
    modules = _modules(network, structure, tree, like, tuple(image_shape))
    layers = getattr(structure, "layers", None)
    if layers is None:
        return [Part(name.replace("_", " "), module.after, module.params) for name, module in modules.items()]
    shapes = chain.shapes(image_shape, layers)
    words = [_name(layer, not isinstance(structure, chain.ChainStructure)) for layer in layers]
    parts = []
    for i, (layer, name, shape) in enumerate(zip(layers, words, shapes, strict=True)):
        params = sum(module.params for key, module in modules.items() if _place(key) == i + 1)
        parts.append(Part(name, shape, params, layer.skip if isinstance(layer, Conv) else 0))
    return [*parts, *(Part("dense, outputs", m.after, m.params) for n, m in modules.items() if n == "head")]


def _name(layer: Layer, of_its_own: bool) -> str:
    """A layer in words; with norm and activation where a network has them layer by layer."""
    words = KINDS[type(layer)]
    if isinstance(layer, Conv | Pool):
        words += f" {layer.kernel} × {layer.kernel}"
    if isinstance(layer, Conv) and layer.stride > 1:
        words += f", stride {layer.stride}"
    if not isinstance(layer, Conv | Dense) or not of_its_own:
        return words
    words += f", {layer.norm} norm" if layer.norm != "none" else ""
    words += {"relu": "", "none": ", no activation"}.get(layer.activation, f", {layer.activation}")
    attention = layer.attention if isinstance(layer, Conv) else "none"
    return words + (f", {ATTENTION[attention]}" if attention in ATTENTION else "")


def _place(name: str) -> float:
    """Of the layer that a module belongs to, from 1; the head is behind all."""
    number = re.match(r"[a-z_]+?_(\d+)(_|$)", name)
    return int(number[1]) if number else float("inf")


@functools.lru_cache(maxsize=256)
def _modules(
    network: Network, structure: Any, tree: Any, leaves: tuple, image_shape: tuple
) -> dict[str, _Module]:
    """{name: module} of the modules at the top of the network, in the order of their calls."""
    knobs = jax.tree.unflatten(tree, leaves)
    seen: dict[str, tuple[tuple, tuple]] = {}

    def watch(call: Any, arguments: tuple, settings: dict, context: Any) -> Any:
        result = call(*arguments, **settings)
        path = context.module.path
        if len(path) == 1 and context.method_name == "__call__":
            before, after = (jax.tree.leaves(x)[0].shape[1:] for x in (arguments, result))
            seen[path[0]] = tuple(before), tuple(after)
        return result

    shapes = jax.eval_shape(lambda key: network.init(key, structure, {}), jax.random.key(0))
    image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    with nn.intercept_methods(watch):
        jax.eval_shape(lambda p, k, x: network.apply(p, structure, k, x, None), shapes, knobs, image)
    sizes = {
        name: sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(arrays))
        for name, arrays in shapes.items()
    }
    return {name: _Module(*both, sizes.get(name, 0)) for name, both in seen.items()}
