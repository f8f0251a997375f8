"""What the decisions of space `cnn` mean: its options, the parts of an architecture, and their notation."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jaxnas.errors import InputError
from jaxnas.spaces import chains
from jaxnas.spaces.layers import (
    SIGNS,
    Conv,
    Dense,
    GlobalPool,
    Layer,
    Part,
    Pool,
    Setting,
    Softmax,
    Values,
    read,
    token,
)  # fmt: skip

KINDS = ("end", "C", "P", "FC", "GAP")
WORDS = {  # what the options of a layer take
    "padding": ("same", "valid"),
    "activation": ("relu", "gelu", "silu", "none"),
    "norm": ("none", "batch", "layer"),
    "attention": ("none", "se", "self"),
}
# The decisions of a layer, in order, and the kinds of layer that have them.
OWN = {
    "width": ("C", "FC"), "kernel": ("C", "P"), "stride": ("C",), "padding": ("C",),
    "activation": ("C", "FC"), "norm": ("C", "FC"), "attention": ("C",), "skip": ("C",),
    "dropout": ("C", "FC"),
}  # fmt: skip
NUMBERS = ("width", "kernel", "stride")  # in the brackets of the notation
TRAINING = ("learning_rate", "batch_size", "optimizer", "weight_decay")


class Settings(NamedTuple):
    """All options, each a tuple of values; hashable."""

    image_size: int
    max_depth: int
    max_fc: int
    filters: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[str, ...]
    pool: tuple[tuple[int, ...], ...]
    consecutive_pool: bool
    dense: tuple[int, ...]
    global_pool: bool
    activation: tuple[str, ...]
    norm: tuple[str, ...]
    attention: tuple[str, ...]
    skip: tuple[int, ...]
    dropout: tuple[float, ...]
    learning_rate: tuple[float, ...]
    batch_size: tuple[int, ...]
    optimizer: tuple[str, ...]
    weight_decay: tuple[float, ...]


def words_of(settings: Settings) -> Values:
    """What words of the notation stand for: the values of the options."""
    return {
        cls: {n: getattr(settings, n) for n, kinds in OWN.items() if n not in NUMBERS and SIGNS[cls] in kinds}
        for cls in (Conv, Dense)
    }


def parts_of(settings: Settings, chosen: dict[str, Any]) -> tuple[Part, ...]:
    """{decision: value} → the parts: settings of the training, the layers, and the softmax that ends them."""
    options = {name: getattr(settings, name)[0] for name in TRAINING if getattr(settings, name)}
    parts: list[Part] = [Setting(name, chosen.get(name, value)) for name, value in options.items()]
    for i in range(1, settings.max_depth + 1):
        kind = chosen.get(f"kind_{i}", chains.END)
        if kind == chains.END:
            break
        properties = {
            name: chosen.get(f"{name}_{i}", getattr(settings, name)[0])
            for name, kinds in OWN.items()
            if name not in ("width", "kernel") and kind in kinds
        }
        width, kernel = (chosen.get(f"{name}_{i}", 0) for name in ("width", "kernel"))
        if kind == "C":
            parts.append(Conv(width, kernel, **properties))
        elif kind == "P":
            parts.append(Pool(*kernel))
        else:
            parts.append(Dense(width, **properties) if kind == "FC" else GlobalPool())
    return (*parts, Softmax())


def text_of(value: Any) -> str:
    """A value of a decision as trials.csv and errors have it: `3`, and `2,2` of a pool."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _read(text: str, settings: Settings) -> tuple[dict[str, Any], list[Layer]]:
    """What a description says of the training, and its layers; any positive integers are fine here.

    Raises:
      InputError: it points at the token that is no layer.
    """
    tokens = [token for token in re.split(r"\s+-\s+", text.strip()) if token]
    if not tokens or tokens[-1] not in ("SM()", "SM"):
        last = tokens[-1] if tokens else "nothing"
        raise InputError(f"architecture {text!r}: ends with {last!r}; it takes SM() at the end")
    options = {n: getattr(settings, n) for n in TRAINING if getattr(settings, n)}
    training: dict[str, Any] = {name: values[0] for name, values in options.items()}
    layers: list[Layer] = []
    for i, text_of_one in enumerate(tokens[:-1]):
        where = f"architecture {text!r}: token {i + 1}"
        name, equals, value = text_of_one.partition("=")
        if not equals:
            layers.append(read(text_of_one, where, words_of(settings)))
            continue
        spelled = {str(v): v for v in options.get(name, ())}
        if value not in spelled or layers:
            takes = ", ".join(f"{n}={v}" for n, values in options.items() for v in values) or "layers alone"
            raise InputError(f"{where} is {text_of_one!r}; it takes {takes}, before the layers")
        training[name] = spelled[value]
    return training, layers


def parse(
    text: str,
    settings: Settings,
    names: list[str],
    per_layer: list[str],
    values: dict[str, Any],
    start: Any,
    follow: Callable[[Any, int], Any],
) -> np.ndarray:
    """The inverse of `describe`."""

    def where(layer: Layer) -> str:
        return f"architecture {text!r}: {token(layer, words_of(settings))!r}"

    training, layers = _read(text, settings)
    if not layers or len(layers) > settings.max_depth:
        raise InputError(
            f"architecture {text!r}: {len(layers)} layers; space cnn takes 1 to {settings.max_depth}"
        )
    choices = [getattr(settings, name).index(training[name]) for name in names if name in TRAINING]
    first = len(choices)
    for layer in layers:
        properties = _properties(layer)
        for name in per_layer:
            known, offset = KINDS if name == "kind" else values[name], 0
            if name == "width" and isinstance(layer, Dense):
                known, offset = settings.dense, len(settings.filters)
            elif name == "width":
                known = settings.filters
            if name in properties and properties[name] not in known:
                raise InputError(
                    f"{where(layer)} has {name} {text_of(properties[name])}; "
                    f"space cnn takes {', '.join(map(text_of, known))}"
                )
            choices.append(offset + list(known).index(properties[name]) if name in properties else 0)
        if isinstance(layer, Conv) and "stride" not in per_layer and layer.stride != settings.stride[0]:
            raise InputError(
                f"{where(layer)} has stride {layer.stride}; space cnn takes {settings.stride[0]}"
            )
    arch, place = np.zeros(len(names), np.int32), start
    for t, choice in enumerate(choices):
        place = follow(place, choice)
        if place is None:
            layer = token(layers[(t - first) // len(per_layer)], words_of(settings))
            raise InputError(f"architecture {text!r}: the rules of space cnn forbid {layer!r} there")
        arch[t] = choice
    return arch


def _properties(layer: Layer) -> dict[str, Any]:
    """{decision of a layer: value}, of those that its kind has."""
    kind = SIGNS[type(layer)]
    properties = {name: getattr(layer, name, None) for name, kinds in OWN.items() if kind in kinds}
    if isinstance(layer, Conv | Dense):
        properties["width"] = layer.filters if isinstance(layer, Conv) else layer.units
    if isinstance(layer, Pool):
        properties["kernel"] = layer.kernel, layer.stride
    return {"kind": kind, **properties}


def check(settings: Settings) -> None:
    """An InputError for a value out of its range."""
    chains.check_positive(
        **{
            n: getattr(settings, n)
            for n in ("image_size", "max_depth", "filters", "kernel", "stride", "dense")
        }
    )
    for name, known in WORDS.items():
        options = getattr(settings, name)
        if not options or len(set(options)) < len(options) or set(options) - set(known):
            raise InputError(f"space.{name}: got {options}; it takes distinct values of {', '.join(known)}")
    ranges = {
        "skip": (lambda v: v >= 0, "distinct numbers of 0 or more, 0 among them"),
        "dropout": (lambda v: 0 <= v < 1, "distinct rates in [0, 1)"),
        "learning_rate": (lambda v: v > 0, "distinct positive numbers"),
        "batch_size": (lambda v: v >= 1, "distinct numbers of 1 or more"),
        "optimizer": (lambda v: bool(v), "distinct names"),
        "weight_decay": (lambda v: v >= 0, "distinct numbers of 0 or more"),
    }
    for name, (fits, takes) in ranges.items():
        options = getattr(settings, name)
        wrong = (name in OWN and not options) or (name == "skip" and 0 not in options)
        if wrong or len(set(options)) < len(options) or not all(map(fits, options)):
            raise InputError(f"space.{name}: got {options}; it takes {takes}")
    if settings.max_fc < 0 or (settings.max_fc and not settings.dense):
        raise InputError(
            f"space.max_fc: got {settings.max_fc}; it takes 0 or more, with values of space.dense"
        )
