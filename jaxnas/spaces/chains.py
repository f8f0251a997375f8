"""Spaces that build a network layer by layer, one decision a layer: from a rule in Python to a space.

The rule says which place a choice leads to, if any. The places that can be reached are enumerated once;
masks and steps are then lookups, and the number of architectures is exact.
"""

import re
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.errors import InputError
from jaxnas.types import Space

END = "end"  # the place of a finished network

FORMS = {"C": "filters,kernel,stride", "P": "size,stride", "FC": "units", "GAP": "", "SM": ""}


class Layer(NamedTuple):
    """A layer in the notation of MetaQNN; FORMS says what its values are."""

    kind: str
    values: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind}({','.join(map(str, self.values))})"


class Choice(NamedTuple):
    """A layer to add (None for no layer: padding) and whether the network ends with it."""

    layer: Layer | None
    ends: bool


class Place(NamedTuple):
    """All that the rules look at, but for the depth."""

    last: Layer | None  # None before the first layer
    size: Any  # int or Fraction: height and width of the representation, in pixels
    dense: int = 0  # fully connected layers in a row, up to here


class Walk(NamedTuple):
    """The decisions taken and the place they led to."""

    depth: jax.Array  # int32 []
    place: jax.Array  # int32 []


class Tables(NamedTuple):
    """The places, the start first and the end last, and what follows them."""

    places: list[Any]  # [P]
    following: np.ndarray  # int32 [P, A]; the end where a choice is illegal
    legal: np.ndarray  # bool [P, A], before the last decision
    ends: np.ndarray  # bool [A] the choices that the last decision may take


def enumerate_places(
    choices: tuple[Choice, ...], start: Hashable, follow: Callable[[Any, Choice], Any]
) -> Tables:
    """All places that `follow(place, choice)` leads to; it is None where the choice is illegal."""
    index: dict[Any, int] = {start: 0}
    places, rows = [start], []
    for place in places:  # grows on the way
        row = [follow(place, choice) for choice in choices]
        for found in row:
            if found not in (None, END) and found not in index:
                index[found] = len(places)
                places.append(found)
        rows.append(row)
    index[END] = len(places)
    rows.append([END] + [None] * (len(choices) - 1))
    return Tables(
        [*places, END],
        np.array([[index.get(found, index[END]) for found in row] for row in rows], np.int32),
        np.array([[found is not None for found in row] for row in rows]),
        np.array([True, *(choice.ends for choice in choices[1:])]),
    )


def count(tables: Tables, num_steps: int, name: str) -> int:
    """How many walks there are; an InputError if one cannot go on."""
    reached = [np.zeros(len(tables.places), bool)]
    reached[0][0] = True
    legal = [tables.legal] * (num_steps - 1) + [tables.legal & tables.ends]
    for at in legal:
        reached.append(np.zeros_like(reached[0]))
        reached[-1][tables.following[reached[-2]][at[reached[-2]]]] = True
    ways = np.array([0] * (len(tables.places) - 1) + [1], object)
    for t in reversed(range(num_steps)):
        ways = np.where(legal[t], ways[tables.following], 0).sum(axis=1)
        for place in np.flatnonzero(reached[t] & (ways == 0)):
            last = tables.places[place].last or "the start"
            raise InputError(f"space {name}: no choice is left after {last}; allow more values or layers")
    return int(ways[0])


def make(
    name: str,
    *,
    num_steps: int,
    choices: tuple[Choice, ...],
    start: Place,
    follow: Callable[[Place, Choice], Any],
    state: Callable[[Place], int],
    states_a_depth: int,
    settings: Any,
) -> Space:
    """The space of those choices and that rule.

    Args:
      name: of the space.
      num_steps: decisions at most; the last one takes only a choice that ends the network.
      choices: [A]; the first is also the padding.
      start: the place before the first layer.
      follow: (place, choice) → the next place, END, or None where the choice is illegal.
      state: place → its index among the places of one depth, for tabular controllers.
      states_a_depth: how many such indices there are.
      settings: what the space's network needs to know, hashable.

    Raises:
      InputError: a place from which no network can be finished.
    """
    T, A = num_steps, len(choices)
    tables = enumerate_places(choices, start, follow)
    size = count(tables, T, name)
    live = tables.places[:-1]
    following, legal, ends = (jnp.asarray(x) for x in tables[1:])
    end = len(live)
    state_of = jnp.array([*map(state, live), 0], jnp.int32)
    layer_index = {choice.layer: i for i, choice in reversed(list(enumerate(choices)))}
    last = jnp.array([layer_index[p.last] if p.last else A for p in live] + [A], jnp.int32)
    most = max(1, *(p.dense for p in live))
    scaled = jnp.array(
        [[float(p.size / start.size), p.dense / most, 0] for p in live] + [[0, 0, 1]], jnp.float32
    )

    def step(walk: Walk, choice: jax.Array) -> Walk:
        return Walk(walk.depth + (walk.place != end).astype(jnp.int32), following[walk.place, choice])

    def mask(walk: Walk) -> jax.Array:
        return legal[walk.place] & (ends | (walk.depth < T - 1))

    def done(walk: Walk) -> jax.Array:
        return walk.place == end

    def state_index(walk: Walk) -> jax.Array:
        live_state = walk.depth * states_a_depth + state_of[walk.place]
        return jnp.where(done(walk), T * states_a_depth, live_state).astype(jnp.int32)

    def observe(walk: Walk) -> jax.Array:
        depth = walk.depth.astype(jnp.float32).reshape(1) / T
        return jnp.concatenate([jax.nn.one_hot(last[walk.place], A), depth, scaled[walk.place]])

    def layers(arch: Any) -> list[Layer]:  # up to the end
        found = []
        for choice in (choices[int(c)] for c in arch):
            found += [choice.layer] if choice.layer else []
            if choice.ends:
                break
        return found

    def decode(arch: Any) -> dict[str, str]:
        text = [str(layer) for layer in layers(arch)]
        return dict(zip(decisions, text + [""] * (T - len(text)), strict=True))

    def describe(arch: Any) -> str:
        found = layers(arch)
        return " - ".join(map(str, found if found[-1].kind in ("SM", "GAP") else [*found, Layer("SM")]))

    decisions = tuple(f"layer_{t + 1}" for t in range(T))
    return Space(
        name=name,
        num_steps=T,
        num_choices=A,
        decisions=decisions,
        start=Walk(jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32)),
        step=step,
        mask=mask,
        done=done,
        num_states=T * states_a_depth + 1,
        state=state_index,
        observe=observe,
        decode=decode,
        describe=describe,
        parse=lambda text: _parse(text, name, T, choices, start, follow),
        size=size,
        settings=settings,
    )


def read(token: str, where: str) -> Layer:
    """One layer of the notation; an InputError that starts with `where`."""
    match = re.fullmatch(r"(C|P|FC|GAP|SM)(?:\(((?:\d{1,9}(?:,\d{1,9})*)?)\))?", token)
    kind, text = match.groups(default="") if match else ("", "")
    if kind in ("GAP", "SM"):  # the number of classes, if given, follows from the data
        return Layer(kind)
    values = tuple(int(value) for value in text.split(",") if value)
    values += (1,) * (kind == "C" and len(values) == 2)  # the stride may be left out
    if not kind or len(values) != len(FORMS[kind].split(",")) or 0 in values:
        forms = ", ".join(f"{k}({FORMS[k]})" for k in ([kind] if kind else FORMS))
        raise InputError(f"{where} is {token!r}; it takes {forms}, with positive integers")
    return Layer(kind, values)


def _parse(
    text: str, name: str, num_steps: int, choices: tuple[Choice, ...], start: Place, follow: Callable
) -> np.ndarray:
    """The inverse of `describe`; reads the lists of the paper, [C(64,3,1), SM(10)], too."""
    tokens = [t for t in re.split(r"\s+-\s+|\s*,\s*(?=[A-Z])|\s+", text.strip("[] \t\n")) if t]
    read_so_far = [read(t, f"architecture {text!r}: token {i + 1}") for i, t in enumerate(tokens)]
    if not read_so_far or read_so_far[-1].kind not in ("SM", "GAP"):
        last = tokens[-1] if tokens else "nothing"
        raise InputError(f"architecture {text!r}: ends with {last!r}; it takes SM() at the end")
    layers = list(read_so_far)
    known = {choice.layer for choice in choices}
    if layers[-1].kind == "SM" and (Layer("SM") not in known or Layer("GAP") in layers[-2:]):
        layers.pop()  # it closes the text and is no choice
    if not layers:
        raise InputError(f"architecture {text!r}: space {name} takes at least one layer before SM()")
    arch = np.zeros(num_steps, np.int32)
    place: Any = start
    for i, layer in enumerate(layers):
        where = f"architecture {text!r}: token {i + 1} is {tokens[i]!r}"
        wanted = Choice(layer, i == len(layers) - 1)
        if layer not in known:
            same = [str(other) for other in known if other and other.kind == layer.kind]
            takes = f"one of {', '.join(sorted(same))}" if same else f"no {layer.kind} at all"
            raise InputError(f"{where}; space {name} has {takes}")
        if i >= num_steps or (i == num_steps - 1 and not wanted.ends):
            raise InputError(f"{where}; space {name} takes at most {num_steps} decisions")
        place = follow(place, wanted) if wanted in choices else None
        if place is None:
            before = f"after {tokens[i - 1]!r}" if i else "at the start"
            raise InputError(f"{where}; the rules of space {name} forbid it {before}")
        arch[i] = choices.index(wanted)
    return arch


def pools(texts: tuple[str, ...]) -> list[tuple[int, ...]]:
    """("3,2", …) → [(3, 2), …], sizes and strides in pixels; an InputError for anything else."""
    for text in texts:
        if not re.fullmatch(r"[1-9]\d*, ?[1-9]\d*", text) or len(set(texts)) < len(texts):
            raise InputError(f'space.pool: got {texts}; it takes distinct pairs "size,stride" such as "3,2"')
    return [tuple(map(int, text.split(","))) for text in texts]


def check_positive(**options: Any) -> None:
    """An InputError unless each option is a positive integer, or a list of distinct ones."""
    for name, value in options.items():
        if isinstance(value, int):
            if value < 1:
                raise InputError(f"space.{name}: got {value}; it takes 1 or more")
        elif len(set(value)) < len(value) or min(value, default=1) < 1:
            raise InputError(f"space.{name}: got {value}; it takes distinct positive integers")
        elif not value and name != "dense":
            raise InputError(f"space.{name}: got an empty list; it takes one value or more")
