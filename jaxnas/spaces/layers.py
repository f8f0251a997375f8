"""What a network is made of: the typed parts that `Space.layers` gives, and their notation.

The notation is that of MetaQNN (Baker et al. 2017, https://arxiv.org/abs/1611.02167),
`C(64,3,1) - P(2,2) - SM()`; what else a layer has follows as words, `C(64,3,1)+valid+gelu+batch-norm+skip2`.

Parts are frozen dataclasses and not NamedTuples, which are equal wherever their values are, whatever their
types: compiled programs are looked up by their layers, and a dropout of 1 must not pass for one dense unit.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from jaxnas.errors import InputError


@dataclass(frozen=True)
class Conv:
    """A convolution, then in this order: norm, activation, attention, skip, dropout."""

    filters: int
    kernel: int  # height and width of its window, in pixels
    stride: int = 1  # in pixels
    padding: str = "same"  # same, valid
    activation: str = "relu"  # relu, elu, gelu, silu, none
    norm: str = "none"  # none, batch, layer
    attention: str = "none"  # none; se, squeeze and excitation; self, over all pixels
    skip: int = 0  # adds the output of the layer so many before it, of the input before the first; 0 for none
    dropout: float = 0.0  # rate in [0, 1)


@dataclass(frozen=True)
class Pool:
    """The maximum of windows."""

    kernel: int  # height and width of a window, in pixels
    stride: int  # in pixels
    padding: str = "valid"  # n pixels become ⌈(n − kernel + 1)/stride⌉ if valid, ⌈n/stride⌉ if same


@dataclass(frozen=True)
class Dense:
    """A fully connected layer, then norm, activation and dropout; it flattens what comes before it."""

    units: int
    activation: str = "relu"  # relu, elu, gelu, silu, none
    norm: str = "none"  # none, batch, layer
    dropout: float = 0.0  # rate in [0, 1)


@dataclass(frozen=True)
class Dropout:
    """Dropout as a layer of its own."""

    rate: float  # in [0, 1)


@dataclass(frozen=True)
class GlobalPool:
    """The mean of all pixels, a number a channel."""


@dataclass(frozen=True)
class Softmax:
    """The end of the network: a dense layer with an output a class or target, which every network has."""


@dataclass(frozen=True)
class Setting:
    """What the architecture decides an option of the trainer to be."""

    name: str
    value: Any


class Block(NamedTuple):
    """A node of a cell: operations, each on an earlier state, and how their results become a new one."""

    inputs: tuple[int, ...]  # indices of states: first the cell's inputs, then its blocks
    operations: tuple[str, ...]
    combine: str  # add, or cat: concatenation in depth


@dataclass(frozen=True)
class Cell:
    """A directed graph of operations that a network repeats."""

    name: str
    inputs: tuple[str, ...]  # names of the states it begins with
    blocks: tuple[Block, ...]
    output: str  # unused: the concatenation of all states of blocks that no block uses; last: the last state


@dataclass(frozen=True)
class Stem:
    """The first layer of a network of stages: a convolution of 3 × 3, batch norm, ReLU."""

    filters: int


@dataclass(frozen=True)
class Stage:
    """Max pooling of 2 × 2 pixels, then blocks of one kind; the first one changes the number of channels."""

    block: str  # conv, residual, separable; inverted1, inverted3, inverted6: by how much it expands
    filters: int
    kernel: int  # height and width of its windows, in pixels
    repeats: int = 1  # blocks
    attention: bool = False  # squeeze and excitation at the end of each block


Layer = Conv | Pool | Dense | Dropout | GlobalPool | Softmax
Part = Layer | Setting | Cell | Stem | Stage
# The values that words of the notation stand for, of each type and property: the first goes without saying.
Values = Mapping[type, Mapping[str, Sequence[Any]]]

FORMS: dict[str, tuple[type, tuple[str, ...]]] = {  # sign → type and the properties in its brackets
    "C": (Conv, ("filters", "kernel", "stride")),
    "P": (Pool, ("kernel", "stride")),
    "FC": (Dense, ("units",)),
    "GAP": (GlobalPool, ()),
    "SM": (Softmax, ()),
    "D": (Dropout, ("rate",)),
}
SIGNS = {cls: sign for sign, (cls, _) in FORMS.items()}
READ = {
    "C": "filters,kernel,stride",
    "P": "size,stride",
    "FC": "units",
    "GAP": "",
    "SM": "",
}  # as `read` says


def notation(parts: Sequence[Part], values: Values | None = None) -> str:
    """All parts in one line: cells apart by spaces, layers and settings by dashes."""
    dash = " " if all(isinstance(part, Cell) for part in parts) else " - "
    return dash.join(token(part, values) for part in parts)


def token(part: Part, values: Values | None = None) -> str:
    """One part in the notation, with words for each property that is not the first of its `values`.

    Without values, a property with its default goes without saying.
    """
    if isinstance(part, Setting):
        return f"{part.name}={part.value}"
    if isinstance(part, Cell):
        return f"{part.name}: {' '.join(_block(part, block) for block in part.blocks)}"
    if isinstance(part, Stem):
        return f"stem({part.filters})"
    if isinstance(part, Stage):
        repeats = f"x{part.repeats}" if part.repeats > 1 else ""
        return f"{part.block}({part.filters},{part.kernel}){repeats}{'+se' if part.attention else ''}"
    words = [sign(part)]
    for field in _further(type(part)):
        silent = (values or {}).get(type(part), {}).get(field.name, (field.default,))
        if getattr(part, field.name) != silent[0]:
            words.append(word(field.name, getattr(part, field.name)))
    return "+".join(words)


def sign(layer: Layer) -> str:
    """A layer without words: `C(64,3,1)`."""
    names = FORMS[SIGNS[type(layer)]][1]
    return f"{SIGNS[type(layer)]}({','.join(str(getattr(layer, name)) for name in names)})"


def word(name: str, value: Any) -> str:
    """A property of a layer as a word: `batch-norm`, `skip2`, `drop0.25`, `no-activation`."""
    if name in ("activation", "norm", "attention") and value == "none":
        return f"no-{name}"
    prefix = {"skip": "skip", "dropout": "drop"}.get(name, "")
    suffix = {"norm": "-norm", "attention": "-attention"}.get(name, "")
    return f"{prefix}{value}{suffix}"


def read(text: str, where: str, values: Values | None = None) -> Layer:
    """The layer of a token; the number of classes of `SM(10)` and a stride of 1 are not needed.

    Raises:
      InputError: the token is no layer, or has a word that is none of `values`; it begins with `where`.
    """
    brackets, *words = text.split("+")
    match = re.fullmatch(r"(C|P|FC|GAP|SM)(?:\(((?:\d{1,9}(?:,\d{1,9})*)?)\))?", brackets)
    kind, inside = match.groups(default="") if match else ("", "")
    numbers = [int(number) for number in inside.split(",") if number]
    numbers += [1] * (kind == "C" and len(numbers) == 2)
    if kind in ("GAP", "SM"):
        numbers = []
    if not kind or len(numbers) != len(FORMS[kind][1]) or 0 in numbers:
        forms = ", ".join(f"{k}({READ[k]})" for k in ([kind] if kind else READ))
        raise InputError(f"{where} is {text!r}; it takes {forms}, with positive integers")
    cls, names = FORMS[kind]
    properties: dict[str, Any] = dict(zip(names, numbers, strict=True))
    for name, options in (values or {}).get(cls, {}).items():
        spelled = {word(name, value): value for value in options}
        said = [spelling for spelling in words if spelling in spelled]
        words = [spelling for spelling in words if spelling not in spelled]
        properties[name] = spelled[said[-1]] if said else options[0]
    if words:
        raise InputError(f"{where} is {text!r}; {words[0]!r} is nothing that such a layer has here")
    return cls(**properties)


def states(cell: Cell) -> tuple[str, ...]:
    """The names of a cell's states: its inputs, then what each block makes."""
    return (*cell.inputs, *(f"b{b + 1}" for b in range(len(cell.blocks))))


def _block(cell: Cell, block: Block) -> str:
    names = states(cell)
    applied = (f"{o}({names[i]})" for o, i in zip(block.operations, block.inputs, strict=True))
    return f"{block.combine}({','.join(applied)})"


def _further(cls: type) -> list[dataclasses.Field]:
    """The properties that words stand for."""
    return [field for field in dataclasses.fields(cls) if field.name not in FORMS[SIGNS[cls]][1]]
