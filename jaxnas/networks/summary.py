"""What a child network is made of: its layers in the order of computation, from shapes alone."""

import functools
import re
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.networks import chain
from jaxnas.types import Network

KINDS = {"conv": "convolution", "pool": "max pooling", "dense": "dense", "global_pool": "mean of all pixels"}
KINDS |= {"C": "convolution", "P": "max pooling", "FC": "dense", "GAP": "mean of all pixels"}
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
    known = chain.shapes(structure) if isinstance(structure, chain.ChainStructure) else None
    found = []
    for i, layer in enumerate(layers):
        own = [module for name, module in modules.items() if _place(name) == i + 1]
        later = [module for name, module in modules.items() if _place(name) > i + 1]
        shape = known[i] if known else own[0].after if own else later[0].before
        size = f" {layer.kernel} × {layer.kernel}" if layer.kernel else ""
        step = f", stride {layer.stride}" if layer.stride > 1 and layer.kind not in ("pool", "P") else ""
        name = f"{KINDS.get(layer.kind, layer.kind)}{size}{step}{_details(layer)}"
        skip = getattr(layer, "skip", 0)
        found.append(Part(name, tuple(shape), sum(module.params for module in own), skip))
    return [*found, *(Part("dense, outputs", m.after, m.params) for n, m in modules.items() if n == "head")]


def _details(layer: Any) -> str:
    """What space `cnn` has behind a layer, where that differs from the layers of other spaces."""
    norm, activation, attention = (getattr(layer, n, "") for n in ("norm", "activation", "attention"))
    words = [f"{norm} norm"] if norm not in ("", "none") else []
    words += {"": [], "relu": [], "none": ["no activation"]}.get(activation, [activation])
    words += [ATTENTION[attention]] if attention in ATTENTION else []
    return "".join(f", {word}" for word in words)


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
        name: sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(own)) for name, own in shapes.items()
    }
    return {name: _Module(*both, sizes.get(name, 0)) for name, both in seen.items()}
