"""Convolutional networks of variable depth, one property of a layer a decision, what varies by configuration.

What "Building Neural Networks using Deep Reinforcement Learning" (Sivaramakrishnan et al.,
https://github.com/eshwarprasadS/Deep_RL_For_CNN) and MetaQNN (Baker et al. 2017,
https://arxiv.org/abs/1611.02167) leave to future work. An option with one value is a rule of all networks and
no decision; with several values it is a decision of every layer, or of the network.

Suits a search over what the others fix: stride, activation, norm, attention, skips, dropout, the training.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxnas.spaces import chains
from jaxnas.spaces.chains import END
from jaxnas.spaces.cnn_parts import (
    KINDS,
    OWN,
    TRAINING,
    Settings,
    check,
    parse,
    parts_of,
    text_of,
    words_of,
)  # fmt: skip
from jaxnas.spaces.layers import Part, Setting, token
from jaxnas.types import Space

MOST_ATTENDED = 16  # height and width of what self-attention looks at, in pixels


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
    check(settings)
    values = {  # of each decision of a layer
        "width": settings.filters + settings.dense, "kernel": settings.kernel + pools,
        **{name: getattr(settings, name) for name in OWN if name not in ("width", "kernel")},
    }  # fmt: skip
    per_layer = ["kind", *(n for n in OWN if n in ("width", "kernel") or len(values[n]) > 1)]
    network = [name for name in TRAINING if len(getattr(settings, name)) > 1]
    names = [*network, *(f"{name}_{i + 1}" for i in range(max_depth) for name in per_layer)]
    T, K, first = len(names), len(per_layer), len(network)
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
        name = per_layer[(place.decision - first) % K]
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
        name, kind = per_layer[(place.decision - first) % K], place.kind
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
        if name == [n for n in per_layer if n in ("kernel", "stride", "padding")][-1]:
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
    A = max(
        len(KINDS), *(len(values[n]) for n in per_layer[1:]), *(len(getattr(settings, n)) for n in network)
    )
    tables = chains.enumerate_places(
        start, follow, [True] * A, "cnn", "lower max_depth or skip, or give fewer values"
    )
    places, size = tables.places, chains.count(tables, T, "cnn")
    end = len(places) - 1
    features = jnp.asarray(np.stack([_features(p, settings, T, first, K) for p in places]))

    def taken(arch: Any) -> dict[str, Any]:
        """{decision: value} of the live decisions; "" where the kind of layer has no such property."""
        place, chosen = 0, {}
        for t, choice in enumerate(int(c) for c in arch):
            if place == end:
                break
            if t < first:
                value: Any = getattr(settings, network[t])[choice]
            else:
                name, kind = per_layer[(t - first) % K], places[place].kind
                value = KINDS[choice] if name == "kind" else values[name][choice] if kind in OWN[name] else ""
            chosen[names[t]] = value
            place = int(tables.following[place, choice])
        return chosen

    def decode(arch: Any) -> dict[str, str]:
        shown = {name: text_of(value) for name, value in taken(arch).items()}
        return {name: shown.get(name, "") for name in names}

    def layers(arch: Any) -> tuple[Part, ...]:
        return parts_of(settings, taken(arch))

    def write(part: Part) -> str:  # nothing of a setting that is no decision
        return "" if isinstance(part, Setting) and part.name not in network else token(part, words)

    words = words_of(settings)
    return Space(
        name="cnn",
        **chains.moves(tables, T),
        decisions=tuple(names),
        num_states=len(places),
        state=lambda walk: walk.place.astype(jnp.int32),
        observe=lambda walk: features[walk.place],
        decode=decode,
        describe=lambda arch: " - ".join(filter(None, map(write, layers(arch)))),
        parse=lambda text: parse(text, settings, names, per_layer, values, start, follow),
        size=size,
        settings=settings,
        layers=layers,
        write=write,
    )


def _features(place: Any, settings: Settings, T: int, first: int, K: int) -> np.ndarray:
    if place == END:
        return np.append(np.zeros(K + first + 2 * len(KINDS) + 3), 1).astype(np.float32)
    decision = np.zeros(K + first)
    decision[place.decision if place.decision < first else first + (place.decision - first) % K] = 1
    kinds = [[float(kind == k) for k in KINDS] for kind in (place.kind, place.last)]
    rest = [place.decision / T, place.size / settings.image_size, place.dense / max(settings.max_fc, 1), 0]
    return np.concatenate([decision, *kinds, rest]).astype(np.float32)
