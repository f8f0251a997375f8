"""Spaces that build a network layer by layer, one decision a layer: from a rule in Python to a space.

The rule says which place a choice leads to, if any. The places that can be reached are enumerated once;
masks and steps are then lookups, and the number of architectures is exact.
"""

import re
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.errors import InputError
from jaxnas.spaces.layers import GlobalPool, Layer, Softmax, read, sign
from jaxnas.types import Space

END = "end"  # the place of a finished network
MOST_PLACES = 200_000


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
    start: Hashable, follow: Callable[[Any, int], Any], ends: Sequence[bool], name: str, fewer: str
) -> Tables:
    """All places that can be reached.

    Args:
      start: the place before any decision.
      follow: (place, index of a choice) → the next place, END, or None where the choice is illegal.
      ends: [A] whether the last decision may take that choice; the first choice is also the padding.
      name: of the space, for the error.
      fewer: what leads to fewer places, for the error.

    Raises:
      InputError: there are more than MOST_PLACES.
    """
    index: dict[Any, int] = {start: 0}
    places, rows = [start], []
    for place in places:  # grows on the way
        row = [follow(place, choice) for choice in range(len(ends))]
        for next_place in row:
            if next_place not in (None, END) and next_place not in index:
                index[next_place] = len(places)
                places.append(next_place)
        if len(places) > MOST_PLACES:
            raise InputError(f"space {name}: more than {MOST_PLACES:,} states; {fewer}")
        rows.append(row)
    end = index[END] = len(places)
    rows.append([END] + [None] * (len(ends) - 1))
    return Tables(
        [*places, END],
        np.array([[index.get(next_place, end) for next_place in row] for row in rows], np.int32),
        np.array([[next_place is not None for next_place in row] for row in rows]),
        np.array([True, *ends[1:]]),
    )


def count(tables: Tables, num_steps: int, name: str) -> int:
    """How many walks there are; an InputError if one cannot go on."""
    reached = [np.zeros(len(tables.places), bool)]
    reached[0][0] = True
    legal = [tables.legal] * (num_steps - 1) + [tables.legal & tables.ends]
    for allowed in legal:
        reached.append(np.zeros_like(reached[0]))
        reached[-1][tables.following[reached[-2]][allowed[reached[-2]]]] = True
    ways = np.array([0] * (len(tables.places) - 1) + [1], object)
    for allowed, here in zip(reversed(legal), reversed(reached[:-1]), strict=True):
        following = np.where(allowed[here], ways[tables.following[here]], 0).sum(axis=1)
        ways = np.zeros_like(ways)
        ways[here] = following
        for place in np.flatnonzero(here & (ways == 0)):
            last = tables.places[place].last
            after = last if isinstance(last, str) else sign(last) if last else ""
            raise InputError(
                f"space {name}: no choice is left after {after or 'the start'}; allow more values or layers"
            )
    return int(ways[0])


def moves(tables: Tables, num_steps: int) -> dict[str, Any]:
    """What the tables make of a Space: its numbers of decisions and choices, start, step, mask and done."""
    following, legal, ends = (jnp.asarray(table) for table in tables[1:])
    end = len(tables.places) - 1

    def step(walk: Walk, choice: jax.Array) -> Walk:
        return Walk(walk.depth + (walk.place != end).astype(jnp.int32), following[walk.place, choice])

    return {
        "num_steps": num_steps,
        "num_choices": len(tables.ends),
        "start": Walk(jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32)),
        "step": step,
        "mask": lambda walk: legal[walk.place] & (ends | (walk.depth < num_steps - 1)),
        "done": lambda walk: walk.place == end,
    }


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
    tables = enumerate_places(
        start,
        lambda place, choice: follow(place, choices[choice]),
        [choice.ends for choice in choices],
        name,
        "lower the depth or give fewer values",
    )
    size = count(tables, T, name)
    live = tables.places[:-1]
    end = len(live)
    state_of = jnp.array([*map(state, live), 0], jnp.int32)
    layer_index = {choice.layer: i for i, choice in reversed(list(enumerate(choices)))}
    last = jnp.array([layer_index[p.last] if p.last else A for p in live] + [A], jnp.int32)
    most = max(1, *(p.dense for p in live))
    scaled = jnp.array(
        [[float(p.size / start.size), p.dense / most, 0] for p in live] + [[0, 0, 1]], jnp.float32
    )

    def state_index(walk: Walk) -> jax.Array:
        live_state = walk.depth * states_a_depth + state_of[walk.place]
        return jnp.where(walk.place == end, T * states_a_depth, live_state).astype(jnp.int32)

    def observe(walk: Walk) -> jax.Array:
        depth = walk.depth.astype(jnp.float32).reshape(1) / T
        return jnp.concatenate([jax.nn.one_hot(last[walk.place], A), depth, scaled[walk.place]])

    def chosen(arch: Any) -> list[Layer]:  # up to the end
        layers = []
        for choice in (choices[int(c)] for c in arch):
            layers += [choice.layer] if choice.layer else []
            if choice.ends:
                break
        return layers

    def layers(arch: Any) -> tuple[Layer, ...]:
        parts = chosen(arch)
        return tuple(parts if isinstance(parts[-1], Softmax | GlobalPool) else [*parts, Softmax()])

    def decode(arch: Any) -> dict[str, str]:
        signs = [sign(layer) for layer in chosen(arch)]
        return dict(zip(decisions, signs + [""] * (T - len(signs)), strict=True))

    decisions = tuple(f"layer_{t + 1}" for t in range(T))
    return Space(
        name=name,
        **moves(tables, T),
        decisions=decisions,
        num_states=T * states_a_depth + 1,
        state=state_index,
        observe=observe,
        decode=decode,
        describe=lambda arch: " - ".join(map(sign, layers(arch))),
        parse=lambda text: _parse(text, name, T, choices, start, follow),
        size=size,
        settings=settings,
        layers=layers,
        write=sign,
    )


def _parse(
    text: str, name: str, num_steps: int, choices: tuple[Choice, ...], start: Place, follow: Callable
) -> np.ndarray:
    """The inverse of `describe`; reads the lists of the paper, [C(64,3,1), SM(10)], too."""
    tokens = [t for t in re.split(r"\s+-\s+|\s*,\s*(?=[A-Z])|\s+", text.strip("[] \t\n")) if t]
    read_so_far = [read(t, f"architecture {text!r}: token {i + 1}") for i, t in enumerate(tokens)]
    if not read_so_far or not isinstance(read_so_far[-1], Softmax | GlobalPool):
        last = tokens[-1] if tokens else "nothing"
        raise InputError(f"architecture {text!r}: ends with {last!r}; it takes SM() at the end")
    layers = list(read_so_far)
    known = {sign(choice.layer): choice.layer for choice in choices if choice.layer}
    if isinstance(layers[-1], Softmax) and ("SM()" not in known or GlobalPool() in layers[-2:]):
        layers.pop()  # it closes the text and is no choice
    if not layers:
        raise InputError(f"architecture {text!r}: space {name} takes at least one layer before SM()")
    arch = np.zeros(num_steps, np.int32)
    place: Any = start
    for i, layer in enumerate(layers):
        where = f"architecture {text!r}: token {i + 1} is {tokens[i]!r}"
        if sign(layer) not in known:
            same = [text for text, other in known.items() if type(other) is type(layer)]
            takes = f"one of {', '.join(sorted(same))}" if same else f"no {sign(layer).split('(')[0]} at all"
            raise InputError(f"{where}; space {name} has {takes}")
        wanted = Choice(known[sign(layer)], i == len(layers) - 1)
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
