"""A trained network as a plain Flax file, `model.py`: a pure function of its structure.

Names of layers are those of the weights, so that the file loads them as they are. The line with `perturb` is
Flax's way to the gradient by an intermediate value, which Grad-CAM needs; it changes nothing.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxnas.export import source_layers, source_nasnet, source_stages
from jaxnas.export.body import Body
from jaxnas.networks import chain
from jaxnas.networks.layers import Structure as LayersStructure
from jaxnas.networks.nasnet import Structure as NasnetStructure
from jaxnas.networks.stages import Structure as StagesStructure
from jaxnas.spaces.layers import Conv, Dense, Pool

HOOK = [
    'x = self.perturb("maps", x)  # the last feature maps, for Grad-CAM',
    'self.sow("intermediates", "maps", x)',
]
LONGEST = 108  # characters of a line of notation
ACTIVATIONS = {"relu": "nn.relu({})", "elu": "nn.elu({})", "none": "{}"}


class Facts(NamedTuple):
    """What a model file says beside its layers."""

    notation: str
    image_shape: tuple[int, int, int]  # H, W, C
    num_outputs: int
    mean: float
    std: float
    bfloat16: bool = False  # activations; the weights are float32


def model(structure: Any, facts: Facts) -> str | None:
    """The source of `model.py`; None for a structure of a network from elsewhere."""
    makers: dict[type, Callable] = {
        chain.ChainStructure: of_chain,
        LayersStructure: source_layers.of_layers,
        NasnetStructure: source_nasnet.of_nasnet,
        StagesStructure: source_stages.of_stages,
    }
    if type(structure) not in makers:
        return None
    return _file(facts, makers[type(structure)](structure, HOOK))


def of_chain(s: chain.ChainStructure, hook: list[str]) -> Body:
    """A line a layer."""
    lines: list[str] = []
    convolutions = [i for i, layer in enumerate(s.layers) if isinstance(layer, Conv)]
    flat = False
    lines += [] if convolutions else hook
    for i, layer in enumerate(s.layers):
        name = f'name="{chain.name_of(layer, i)}"'
        if isinstance(layer, Conv):
            k, padding = layer.kernel, layer.padding.upper()
            strides = f", strides=({layer.stride}, {layer.stride})" if layer.stride > 1 else ""
            call = f'nn.Conv({layer.filters}, ({k}, {k}){strides}, padding="{padding}", {name})(x)'
            lines.append("x = " + ACTIVATIONS[layer.activation].format(call))
            lines += hook if i == convolutions[-1] else []
        elif isinstance(layer, Pool):
            window, stride = f"({layer.kernel}, {layer.kernel})", f"({layer.stride}, {layer.stride})"
            padding = layer.padding.upper()
            lines.append(f'x = nn.max_pool(x, {window}, strides={stride}, padding="{padding}")')
        elif isinstance(layer, Dense):
            lines += [] if flat else ["x = x.reshape(x.shape[0], -1)"]
            flat = True
            lines.append("x = " + ACTIVATIONS[layer.activation].format(f"nn.Dense({layer.units}, {name})(x)"))
        else:
            lines.append("x = x.mean(axis=(1, 2))")
            flat = True
    lines += [] if flat else ["x = x.reshape(x.shape[0], -1)"]
    lines.append(f'x = nn.Dense({s.num_outputs}, name="head")(x)')
    return Body("", lines, False)


def _file(facts: Facts, body: Body) -> str:
    shape = f"[N, {', '.join(map(str, facts.image_shape))}]"
    kind = "bfloat16" if facts.bfloat16 else "float32"
    *lines, last = body.lines
    last = f"return {last.removeprefix('x = ')}{'.astype(jnp.float32)' if facts.bfloat16 else ''}"
    text = "\n".join(f"        {line}" for line in (*lines, last))
    cast = "jax.tree.map(jnp.bfloat16, params)" if facts.bfloat16 else "params"
    loaded = (
        f'return {{"batch_stats": params.pop("statistics", {{}}), "params": {cast}}}'
        if body.collects
        else f'return {{"params": {cast}}}'
    )
    pixels = f"(jnp.asarray(images).astype(jnp.float32) / 255 - {facts.mean!r}) / {facts.std!r}"
    pixels = f"({pixels})" if facts.bfloat16 else pixels
    rounded = ".astype(jnp.bfloat16)" if facts.bfloat16 else ""
    notation = f"{facts.notation}\n\n" if len(facts.notation) <= LONGEST else ""  # architecture.json has it
    jax_import = "import jax\n" if facts.bfloat16 else ""
    return f'''"""A network that jaxnas found, in plain Flax, whose weights are in weights.safetensors.

{notation}    from model import Model, load, preprocess
    logits = Model().apply(load(), preprocess(images))
"""

import flax.linen as nn
{jax_import}import jax.numpy as jnp
from flax.traverse_util import unflatten_dict
from safetensors.numpy import load_file
{body.helpers}

class Model(nn.Module):
    """What `preprocess` gives → logits [N, {facts.num_outputs}]."""

    @nn.compact
    def __call__(self, x):
{text}


def preprocess(images):
    """uint8 {shape} → {kind}, as in training."""
    return {pixels}{rounded}


def load(path=__file__.replace("model.py", "weights.safetensors")):
    """The weights as `Model().apply` takes them."""
    {body.load}
    {loaded}
'''
