"""Convolutional networks of variable depth, one property of a layer a decision, what varies by configuration.

What "Building Neural Networks using Deep Reinforcement Learning" (Sivaramakrishnan et al.,
https://github.com/eshwarprasadS/Deep_RL_For_CNN) and MetaQNN (Baker et al. 2017,
https://arxiv.org/abs/1611.02167) leave to future work. An option with one value is a rule of all networks and
no decision; with several values it is a decision of every layer, or of the network.

Suits a search over what the others fix: stride, activation, norm, attention, skips, dropout, the training.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.errors import InputError
from jaxnas.spaces import chains
from jaxnas.types import Space

KINDS = ("end", "C", "P", "FC", "GAP")
END = "end"
MOST_PLACES = 200_000
MOST_ATTENDED = 16  # height and width of what self-attention looks at, in pixels
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


class Layer(NamedTuple):
    """A layer with every property; those that its kind lacks have their first value."""

    kind: str
    width: int = 0  # filters or units
    kernel: int = 0  # or the window of a pool, in pixels
    stride: int = 1
    padding: str = "same"
    activation: str = "relu"
    norm: str = "none"
    attention: str = "none"
    skip: int = 0  # adds the output of the layer so many before it
    dropout: float = 0.0


class Place(NamedTuple):
    """All that the rules look at."""

    decision: int
    kind: str = ""  # of the layer that is being decided on
    window: int = 0  # its kernel, once that is chosen
    stride: int = 0
    size: int = 0  # height and width of the representation, in pixels; 0 once it is flat
    last: str = ""  # the kind of the layer before
    dense: int = 0  # fully connected layers so far
    earlier: tuple[int, ...] = ()  # sizes after the layers before, the nearest first; as far as skips reach


class Walk(NamedTuple):
    """Where the decisions led to."""

    place: jax.Array  # int32 []


def cnn(
    *,
    image_size: int = 32,
    max_depth: int = 6,
    max_fc: int = 1,
    filters: tuple[int, ...] = (16, 32, 64),
    kernel: tuple[int, ...] = (1, 3, 5),
    stride: tuple[int, ...] = (1,),
    padding: tuple[str, ...] = ("same",),
    pool: tuple[str, ...] = ("2,2",),
    consecutive_pool: bool = False,
    dense: tuple[int, ...] = (128,),
    global_pool: bool = False,
    activation: tuple[str, ...] = ("relu",),
    norm: tuple[str, ...] = ("none",),
    attention: tuple[str, ...] = ("none",),
    skip: tuple[int, ...] = (0,),
    dropout: tuple[float, ...] = (0.0,),
    learning_rate: tuple[float, ...] = (),
    batch_size: tuple[int, ...] = (),
    optimizer: tuple[str, ...] = (),
    weight_decay: tuple[float, ...] = (),
) -> Space:
    """Each layer: its kind, then its properties; a property that its kind lacks is 0. The kind 0 ends.

    The first layer is a convolution. Windows and strides fit what they work on. After a fully connected layer
    or global average pooling only fully connected ones follow. A skip adds the output of an earlier layer of
    the same height and width, by a 1 × 1 convolution where the channels differ. The tabular state is all that
    the masks look at.

    Args:
      image_size: height and width of the images, in pixels; the data must have it.
      max_depth: layers at most.
      max_fc: fully connected layers at most; 0 for none.
      filters: numbers of filters of a convolution.
      kernel: kernel widths of a convolution, in pixels.
      stride: strides of a convolution, in pixels; never above the kernel.
      padding: same or valid.
      pool: "size,stride" of max pooling, in pixels.
      consecutive_pool: allow pooling after pooling.
      dense: units of a fully connected layer.
      global_pool: allow global average pooling.
      activation: relu, gelu, silu or none.
      norm: none, batch or layer, before the activation.
      attention: none; se, squeeze and excitation (Hu et al. 2018); self, over all pixels (Wang et al. 2018)
        of at most 16 × 16.
      skip: how many layers back a convolution's output gets another one added; 0 for none.
      dropout: rates behind a layer.
      learning_rate: of training; without values it is the trainer's.
      batch_size: of training; without values it is the trainer's.
      optimizer: of training, an optimizer of optax; without values it is the trainer's.
      weight_decay: of training; without values it is the trainer's.

    Raises:
      InputError: an option without a value, or a value out of its range.
    """
    options = locals()
    pools = tuple(chains.pools(pool))
    settings = Settings(**{**options, "pool": pools})
    _check(settings)
    values = {  # of each decision of a layer
        "width": settings.filters + settings.dense, "kernel": settings.kernel + pools,
        **{name: getattr(settings, name) for name in OWN if name not in ("width", "kernel")},
    }  # fmt: skip
    own = ["kind", *(n for n in OWN if n in ("width", "kernel") or len(values[n]) > 1)]
    network = [name for name in TRAINING if len(getattr(settings, name)) > 1]
    names = [*network, *(f"{name}_{i + 1}" for i in range(max_depth) for name in own)]
    T, K, first = len(names), len(own), len(network)
    reach = max(settings.skip)

    def kinds(place: Place) -> list[bool]:
        image = place.size > 0
        return [
            place.decision > first,
            image and any(k <= place.size for k in settings.kernel),
            image and bool(place.last) and any(k <= place.size for k, _ in pools)
            and (consecutive_pool or place.last != "P"),
            bool(place.last) and place.dense < max_fc,
            image and bool(place.last) and global_pool,
        ]  # fmt: skip

    def legal(place: Place) -> list[bool]:
        """Of the decision that comes next, by choice."""
        if place.decision < first:
            return [True] * len(getattr(settings, network[place.decision]))
        name = own[(place.decision - first) % K]
        if name == "kind":
            return kinds(place)
        if place.kind not in OWN[name]:
            return [True]
        if name == "width":
            n = len(settings.filters)
            return [(i < n) == (place.kind == "C") for i in range(n + len(settings.dense))]
        if name == "kernel":
            n = len(settings.kernel)
            windows = (*settings.kernel, *(k for k, _ in pools))
            return [(i < n) == (place.kind == "C") and k <= place.size for i, k in enumerate(windows)]
        if name == "stride":
            return [s <= place.window for s in settings.stride]
        if name == "attention":  # over all pairs of pixels
            return [value != "self" or place.size <= MOST_ATTENDED for value in settings.attention]
        if name == "skip":  # by now the size is that after this layer
            return [s == 0 or place.earlier[s - 1 : s] == (place.size,) for s in settings.skip]
        return [True] * len(values[name])

    def follow(place: Place, choice: int) -> Any:
        allowed = legal(place)
        if choice >= len(allowed) or not allowed[choice]:
            return None
        after = place._replace(decision=place.decision + 1)
        if place.decision < first:
            return after
        name, kind = own[(place.decision - first) % K], place.kind
        if name == "kind":
            if KINDS[choice] == END:
                return END
            after = after._replace(kind=KINDS[choice])
        elif name == "kernel" and kind in OWN[name]:
            window = values["kernel"][choice]
            size, step = (window, settings.stride[0]) if kind == "C" else window
            after = after._replace(window=size, stride=step)
        elif name == "stride" and kind in OWN[name]:
            after = after._replace(stride=settings.stride[choice])
        # The size is known after the last of the decisions that bear on it.
        if name == [n for n in own if n in ("kernel", "stride", "padding")][-1]:
            valid = padding[choice if name == "padding" and kind == "C" else 0] == "valid" or kind == "P"
            if kind in ("C", "P"):
                n = place.size - after.window + 1 if valid else place.size
                after = after._replace(size=-(-n // after.stride))
            elif kind in ("FC", "GAP"):
                after = after._replace(size=0, dense=place.dense + (kind == "FC"))
            after = after._replace(window=0, stride=0)
        if (after.decision - first) % K == 0:  # the layer is complete
            if after.decision == T:
                return END
            earlier = (after.size, *after.earlier)[:reach] if reach else ()
            after = after._replace(kind="", last=kind, earlier=earlier if after.size else ())
        return after

    start = Place(0, size=image_size)
    A = max(len(KINDS), *(len(values[n]) for n in own[1:]), *(len(getattr(settings, n)) for n in network))
    places, following = _enumerate(start, follow, A)
    allowed = following >= 0
    ways = _count(following)
    if ways[0] == 0 or (ways[:-1] == 0).any():
        raise InputError("space cnn: no choice is left after some decisions; allow more values or layers")
    P = len(places)  # the end is the last
    tables = jnp.asarray(np.where(allowed, following, P - 1).astype(np.int32)), jnp.asarray(allowed)
    features = jnp.asarray(np.stack([_features(p, settings, T, first, K) for p in places]))

    def taken(arch: Any) -> list[tuple[str, Any]]:
        """(decision, value) of the live decisions."""
        place, found = 0, []
        for t, choice in enumerate(int(c) for c in arch):
            if place in (P - 1, -1):  # at the end, or after a choice that is illegal
                break
            if t < first:
                value: Any = getattr(settings, network[t])[choice]
            else:
                name, kind = own[(t - first) % K], places[place].kind
                value = KINDS[choice] if name == "kind" else values[name][choice] if kind in OWN[name] else ""
            found.append((names[t], value))
            place = int(following[place, choice])
        return found

    def decode(arch: Any) -> dict[str, str]:
        found = {name: _text(value) for name, value in taken(arch)}
        return {name: found.get(name, "") for name in names}

    def describe(arch: Any) -> str:
        of_training, layers = _layers(settings, dict(taken(arch)))
        tokens = [f"{name}={value}" for name, value in of_training.items() if name in network]
        return " - ".join([*tokens, *(_notation(layer, settings) for layer in layers), "SM()"])

    return Space(
        name="cnn",
        num_steps=T,
        num_choices=A,
        decisions=tuple(names),
        start=Walk(jnp.zeros((), jnp.int32)),
        step=lambda walk, choice: Walk(tables[0][walk.place, choice]),
        mask=lambda walk: tables[1][walk.place],
        done=lambda walk: walk.place == P - 1,
        num_states=P,
        state=lambda walk: walk.place.astype(jnp.int32),
        observe=lambda walk: features[walk.place],
        decode=decode,
        describe=describe,
        parse=lambda text: _parse(text, settings, names, own, network, values, start, follow),
        size=int(ways[0]),
        settings=settings,
    )


def _layers(settings: Settings, found: dict[str, Any]) -> tuple[dict[str, Any], list[Layer]]:
    """{decision: value} → what was decided of the training, and the layers."""
    of_training = {name: getattr(settings, name)[0] for name in TRAINING if getattr(settings, name)}
    of_training |= {name: value for name, value in found.items() if name in TRAINING}
    layers = []
    for i in range(1, settings.max_depth + 1):
        kind = found.get(f"kind_{i}", END)
        if kind == END:
            break
        own = {name: found.get(f"{name}_{i}", "") for name in OWN}
        layer = Layer(kind, width=own["width"] or 0)
        if kind == "P":
            layer = layer._replace(kernel=own["kernel"][0], stride=own["kernel"][1])
        elif kind == "C":
            layer = layer._replace(kernel=own["kernel"])
        for name, kinds in OWN.items():
            if kind in kinds and name not in ("width", "kernel"):
                value = own[name] if own[name] != "" else getattr(settings, name)[0]
                layer = layer._replace(**{name: value})
        layers.append(layer)
    return of_training, layers


def _features(place: Any, settings: Settings, T: int, first: int, K: int) -> np.ndarray:
    if place == END:
        return np.append(np.zeros(K + first + 2 * len(KINDS) + 3), 1).astype(np.float32)
    at = np.zeros(K + first)
    at[place.decision if place.decision < first else first + (place.decision - first) % K] = 1
    kinds = [[float(kind == k) for k in KINDS] for kind in (place.kind, place.last)]
    rest = [place.decision / T, place.size / settings.image_size, place.dense / max(settings.max_fc, 1), 0]
    return np.concatenate([at, *kinds, rest]).astype(np.float32)


def _enumerate(start: Place, follow: Any, A: int) -> tuple[list[Any], np.ndarray]:
    """All places, the start first and the end last; int [P, A] what follows, −1 where illegal."""
    index: dict[Any, int] = {start: 0}
    places: list[Any] = [start]
    rows = []
    for place in places:  # grows on the way
        row = [follow(place, choice) for choice in range(A)]
        for found in row:
            if found not in (None, END) and found not in index:
                index[found] = len(places)
                places.append(found)
        if len(places) > MOST_PLACES:
            raise InputError(
                f"space cnn: more than {MOST_PLACES:,} states; lower max_depth or skip, or give fewer values"
            )
        rows.append(row)
    index[END] = end = len(places)
    index[None] = -1
    following = np.array([[index[found] for found in row] for row in rows] + [[end] + [-1] * (A - 1)])
    return [*places, END], following


def _count(following: np.ndarray) -> np.ndarray:
    """How many ways lead from each place to the end; a place comes before all that follow it."""
    ways = np.zeros(len(following), object)
    ways[-1] = 1
    for place in reversed(range(len(following) - 1)):
        row = following[place]
        ways[place] = sum(ways[n] for n in row[row >= 0])
    return ways


def _notation(layer: Layer, settings: Settings) -> str:
    """C(32,3,1)+valid+gelu+batch+se+skip2+drop0.25: what differs from the first value of its option."""
    numbers = {"C": (layer.width, layer.kernel, layer.stride), "P": (layer.kernel, layer.stride)}
    values = numbers.get(layer.kind, (layer.width,) if layer.kind == "FC" else ())
    extra = [
        _word(name, getattr(layer, name))
        for name, kinds in OWN.items()
        if name not in NUMBERS and layer.kind in kinds and getattr(layer, name) != getattr(settings, name)[0]
    ]
    return "+".join([f"{layer.kind}({','.join(map(str, values))})", *extra])


def _word(name: str, value: Any) -> str:
    if name in ("activation", "norm", "attention") and value == "none":
        return f"no-{name}"
    prefix = {"skip": "skip", "dropout": "drop", "norm": "", "attention": ""}.get(name, "")
    suffix = {"norm": "-norm", "attention": "-attention"}.get(name, "")
    return f"{prefix}{value}{suffix}"


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def read(text: str, settings: Settings) -> tuple[dict[str, Any], list[Layer]]:
    """What a description says of the training, and its layers; any positive integers are fine here.

    Raises:
      InputError: it points at the token that is no layer.
    """
    tokens = [token for token in re.split(r"\s+-\s+", text.strip()) if token]
    if not tokens or tokens[-1] not in ("SM()", "SM"):
        last = tokens[-1] if tokens else "nothing"
        raise InputError(f"architecture {text!r}: ends with {last!r}; it takes SM() at the end")
    of_training: dict[str, Any] = {n: getattr(settings, n)[0] for n in TRAINING if getattr(settings, n)}
    layers = []
    for i, token in enumerate(tokens[:-1]):
        where = f"architecture {text!r}: token {i + 1} is {token!r}"
        name, equals, value = token.partition("=")
        if equals:
            spelled = {str(v): v for v in getattr(settings, name, ())} if name in TRAINING else {}
            if value not in spelled or layers:
                takes = ", ".join(f"{n}={v}" for n in TRAINING for v in getattr(settings, n))
                raise InputError(f"{where}; it takes {takes or 'layers alone'}, before the layers")
            of_training[name] = spelled[value]
            continue
        shape, *extra = token.split("+")
        match = re.fullmatch(r"(C|P|FC|GAP)\(((?:\d{1,9}(?:,\d{1,9})*)?)\)", shape)
        kind, numbers = (match[1], [int(n) for n in match[2].split(",") if n]) if match else ("", [])
        if len(numbers) != {"C": 3, "P": 2, "FC": 1, "GAP": 0}.get(kind) or 0 in numbers:
            raise InputError(
                f"{where}; it takes C(filters,kernel,stride), P(size,stride), FC(units) or GAP()"
            )
        fields: dict[str, Any] = dict(zip(("width", "kernel", "stride"), numbers, strict=False))
        if kind == "P":
            fields = {"kernel": numbers[0], "stride": numbers[1]}
        for name, kinds in OWN.items():
            if kind in kinds and name not in NUMBERS:
                spelled = {_word(name, v): v for v in getattr(settings, name)}
                chosen = [word for word in extra if word in spelled]
                extra = [word for word in extra if word not in spelled]
                fields[name] = spelled[chosen[-1]] if chosen else getattr(settings, name)[0]
        if extra:
            raise InputError(f"{where}; {extra[0]!r} is nothing that such a layer has in space cnn")
        layers.append(Layer(kind, **fields))
    return of_training, layers


def _parse(
    text: str,
    settings: Settings,
    names: list[str],
    own: list[str],
    network: list[str],
    values: dict[str, Any],
    start: Place,
    follow: Callable[[Any, int], Any],
) -> np.ndarray:
    """The inverse of `describe`."""
    of_training, layers = read(text, settings)
    if not layers or len(layers) > settings.max_depth:
        raise InputError(
            f"architecture {text!r}: {len(layers)} layers; space cnn takes 1 to {settings.max_depth}"
        )
    choices = [getattr(settings, name).index(of_training[name]) for name in network]
    for layer in layers:
        for name in own:
            value: Any = getattr(layer, name)
            if name == "kernel" and layer.kind == "P":
                value = layer.kernel, layer.stride
            known = KINDS if name == "kind" else values[name]
            if name == "width":  # a number may be both: of filters, and then of units
                known, offset = (
                    (settings.dense, len(settings.filters)) if layer.kind == "FC" else (settings.filters, 0)
                )
            else:
                offset = 0
            if name != "kind" and layer.kind not in OWN[name]:
                choices.append(0)
            elif value not in known:
                shown = ", ".join(_text(v) for v in known)
                raise InputError(
                    f"architecture {text!r}: {_notation(layer, settings)!r} has {name} {_text(value)}; "
                    f"space cnn takes {shown}"
                )
            else:
                choices.append(offset + list(known).index(value))
        if layer.kind == "C" and "stride" not in own and layer.stride != settings.stride[0]:
            raise InputError(
                f"architecture {text!r}: {_notation(layer, settings)!r} has stride {layer.stride}; "
                f"space cnn takes {settings.stride[0]}"
            )
    arch, place = np.zeros(len(names), np.int32), start
    for t, choice in enumerate(choices):
        place = follow(place, choice)
        if place is None:
            layer = layers[(t - len(network)) // len(own)]
            raise InputError(
                f"architecture {text!r}: the rules of space cnn forbid {_notation(layer, settings)!r} there"
            )
        arch[t] = choice
    return arch


def _check(settings: Settings) -> None:
    """An InputError for a value out of its range."""
    chains.check_positive(
        **{
            n: getattr(settings, n)
            for n in ("image_size", "max_depth", "filters", "kernel", "stride", "dense")
        }
    )
    for name, known in WORDS.items():
        found = getattr(settings, name)
        if not found or len(set(found)) < len(found) or set(found) - set(known):
            raise InputError(f"space.{name}: got {found}; it takes distinct values of {', '.join(known)}")
    ranges = {
        "skip": (lambda v: v >= 0, "distinct numbers of 0 or more, 0 among them"),
        "dropout": (lambda v: 0 <= v < 1, "distinct rates in [0, 1)"),
        "learning_rate": (lambda v: v > 0, "distinct positive numbers"),
        "batch_size": (lambda v: v >= 1, "distinct numbers of 1 or more"),
        "optimizer": (lambda v: bool(v), "distinct names"),
        "weight_decay": (lambda v: v >= 0, "distinct numbers of 0 or more"),
    }
    for name, (fits, takes) in ranges.items():
        found = getattr(settings, name)
        wrong = (name in OWN and not found) or (name == "skip" and 0 not in found)
        if wrong or len(set(found)) < len(found) or not all(map(fits, found)):
            raise InputError(f"space.{name}: got {found}; it takes {takes}")
    if settings.max_fc < 0 or (settings.max_fc and not settings.dense):
        raise InputError(
            f"space.max_fc: got {settings.max_fc}; it takes 0 or more, with values of space.dense"
        )
