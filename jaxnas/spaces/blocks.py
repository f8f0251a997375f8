"""Stacked blocks of convolution, ReLU, max pooling and dropout: the space of RLMedNAS.

Every block takes three decisions, filters × kernel × dropout; one block with the default choices gives
the 24 architectures of https://github.com/Ashwashhere/RLMedNAS.

Suits small images and a first search: a few decisions, and rules of what is forbidden.
"""

import itertools
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas import masks
from jaxnas.errors import InputError, unknown
from jaxnas.spaces import prefix
from jaxnas.spaces.layers import Conv, Dropout, Pool, Softmax, sign
from jaxnas.spaces.prefix import Prefix
from jaxnas.types import Space

FIELDS = ("filters", "kernel", "dropout")


def blocks(
    *,
    num_blocks: int = 1,
    filters: tuple[int, ...] = (16, 32, 64, 128),
    kernel: tuple[int, ...] = (3, 5),
    dropout: tuple[float, ...] = (0.1, 0.25, 0.5),
    forbid: tuple[dict[str, Any], ...] = (),
    legal: Callable[[jax.Array, jax.Array], jax.Array] | None = None,
) -> Space:
    """A space of `num_blocks` blocks, each of filters × kernel × dropout.

    A rule of `forbid` is a conjunction: `{"filters": 64, "kernel": 5}` forbids the two together in any
    block, `{"filters_1": 64, "filters_2": 64}` in those blocks. The choice that would complete a rule is
    masked from the prefix.

    Args:
      num_blocks: blocks in a row.
      filters: numbers of filters to choose from.
      kernel: kernel widths to choose from, in pixels.
      dropout: dropout rates to choose from.
      forbid: rules, each a table of decision = value; all of its decisions together are forbidden.
      legal: a rule in Python: (choices int32 [T], depth int32 []) → bool [A], the choices that decision
        `depth` may take after the first `depth` entries of `choices`; traced by JAX.

    Raises:
      InputError: no choice to make, a rule that names an unknown decision or value, or rules that leave
        a decision without a choice.
    """
    values: dict[str, tuple] = {"filters": tuple(filters), "kernel": tuple(kernel), "dropout": tuple(dropout)}
    _check_values(num_blocks, values)
    names = FIELDS if num_blocks == 1 else tuple(f"{f}_{b + 1}" for b in range(num_blocks) for f in FIELDS)
    T, A = 3 * num_blocks, max(map(len, values.values()))
    sizes = [len(values[FIELDS[t % 3]]) for t in range(T)]
    rules = _rules(forbid, names, values)
    size = _count(rules, names, sizes)

    size_at, rule_at = jnp.array([*sizes, 1]), jnp.asarray(rules)  # [T+1], [R, T]; −1: not mentioned
    last = jnp.array([max(t for t in range(T) if r[t] >= 0) for r in rules], jnp.int32)  # [R]
    positions, choice = jnp.arange(T), jnp.arange(A)

    def mask(walk: Prefix) -> jax.Array:
        allowed = choice < size_at[jnp.minimum(walk.depth, T)]
        if len(rules):
            agrees = (rule_at < 0) | (rule_at == walk.choices[None, :]) | (positions >= walk.depth)[None, :]
            complete = jnp.all(agrees, axis=-1) & (last == walk.depth)  # [R]
            closing = rule_at[:, jnp.minimum(walk.depth, T - 1)]  # [R]
            allowed &= ~jnp.any(complete[:, None] & (closing[:, None] == choice[None, :]), axis=0)
        if legal is not None:
            allowed &= jnp.where(walk.depth < T, legal(walk.choices, walk.depth), True)
        return allowed

    # In a block the next choice depends on what the block has so far: 1 + F + F·K states.
    F, K = len(filters), len(kernel)
    per_block = 1 + F + F * K

    def state(walk: Prefix) -> jax.Array:
        block, field = walk.depth // 3, walk.depth % 3
        chosen = jnp.where(positions // 3 == block, walk.choices, 0)
        f = jnp.sum(jnp.where(positions % 3 == 0, chosen, 0))
        k = jnp.sum(jnp.where(positions % 3 == 1, chosen, 0))
        within = jnp.where(field == 0, 0, jnp.where(field == 1, 1 + f, 1 + F + f * K + k))
        return (block * per_block + within).astype(jnp.int32)

    def decode(arch: Any) -> dict[str, Any]:
        return {n: values[FIELDS[t % 3]][int(c)] for t, (n, c) in enumerate(zip(names, arch, strict=True))}

    def layers(arch: Any) -> tuple[Any, ...]:
        chosen = iter(decode(arch).values())
        built = [(Conv(f, k), Pool(2, 2), Dropout(d)) for f, k, d in zip(chosen, chosen, chosen, strict=True)]
        return (*itertools.chain.from_iterable(built), Softmax())

    space = Space(
        name="blocks",
        num_steps=T,
        num_choices=A,
        decisions=names,
        start=prefix.start(T),
        step=prefix.step,
        mask=mask,
        done=lambda walk: walk.depth >= T,
        num_states=num_blocks * per_block + 1,
        state=state,
        observe=lambda walk: prefix.observe(walk, A),
        decode=decode,
        describe=lambda arch: " ".join(map(_notation, layers(arch))),
        parse=lambda text: _parse(text, num_blocks, values),
        size=size,
        settings=tuple(filters),
        layers=layers,
        write=_notation,
    )
    if legal is not None:  # the rules above are counted by hand; a function has to be tried
        archs = masks.every(space)
        space = space._replace(size=size if archs is None else len(archs))
    return space


def _check_values(num_blocks: int, values: dict[str, tuple]) -> None:
    if num_blocks < 1:
        raise InputError(f"space.num_blocks: got {num_blocks}; it takes 1 or more")
    for name, options in values.items():
        if not options or len(set(options)) < len(options):
            raise InputError(f"space.{name}: got {options}; it takes one or more different values")
    for name in ("filters", "kernel"):
        if any(v < 1 or v != int(v) for v in values[name]):
            raise InputError(f"space.{name}: got {values[name]}; it takes positive integers")
    if any(k % 2 == 0 for k in values["kernel"]):
        raise InputError(f"space.kernel: got {values['kernel']}; it takes odd widths, which keep the size")
    if any(not 0 <= d < 1 for d in values["dropout"]):
        raise InputError(f"space.dropout: got {values['dropout']}; it takes rates in [0, 1)")


def _rules(forbid: tuple[dict[str, Any], ...], names: tuple[str, ...], values: dict) -> np.ndarray:
    """Every rule as a row of choice indices [T], −1 where it says nothing; a bare rule once a block."""
    rows = []
    for number, rule in enumerate(forbid):
        where = f"space.forbid[{number}]"
        if not isinstance(rule, dict) or not rule:
            raise InputError(f"{where}: got {rule!r}; it takes a table such as {{ filters = 128 }}")
        index = {}
        for name, value in rule.items():
            if name not in names and name not in FIELDS:
                raise unknown(where, name, {*names, *FIELDS})
            options = values[name if name in FIELDS else name.rsplit("_", 1)[0]]
            if value not in options:
                raise InputError(f"{where}: {name} = {value!r} is not a choice; it takes one of {options}")
            index[name] = options.index(value)
        bare = any(name in FIELDS and name not in names for name in index)
        for block in range(len(names) // 3) if bare else [0]:
            row = np.full(len(names), -1)
            for name, i in index.items():
                t = names.index(name) if name in names else 3 * block + FIELDS.index(name)
                if row[t] not in (-1, i):  # asks one decision to be two things: never true
                    break
                row[t] = i
            else:
                rows.append(row)
    return np.array(rows, dtype=np.int32).reshape(-1, len(names))


def _count(rules: np.ndarray, names: tuple[str, ...], sizes: list[int]) -> int:
    """How many architectures the rules leave; a decision that they leave without a choice is an error.

    Prefixes that agree with the same unfinished rules have the same future, so they are counted together.
    """
    frontier: dict[tuple[int, ...], int] = {tuple(range(len(rules))): 1}
    for t, size in enumerate(sizes):
        following: Counter[tuple[int, ...]] = Counter()
        for alive, count in frontier.items():
            choices = 0
            for c in range(size):
                kept = tuple(r for r in alive if rules[r, t] in (-1, c))
                closed = [r for r in kept if rules[r, t] == c and not (rules[r, t + 1 :] >= 0).any()]
                if not closed:
                    following[tuple(r for r in kept if (rules[r, t + 1 :] >= 0).any())] += count
                    choices += 1
            if not choices:
                raise InputError(
                    f"space.forbid: no choice is left for decision {names[t]!r} where the earlier choices "
                    "meet these rules; forbid those earlier choices themselves or drop a rule"
                )
        frontier = dict(following)
    return sum(frontier.values())


def _notation(layer: Any) -> str:
    """A layer without what all of its kind have in common: `C(32,3)`, `P(2,2)`, `D(0.1)`, `SM`."""
    if isinstance(layer, Conv):
        return f"C({layer.filters},{layer.kernel})"
    return "SM" if isinstance(layer, Softmax) else sign(layer)


def _parse(text: str, num_blocks: int, values: dict[str, tuple]) -> np.ndarray:
    """The inverse of `describe`; an InputError points at the offending token."""
    tokens = text.replace(" - ", " ").split()
    fields = [r"C\((\d+),(\d+)\)", r"P\(2,2\)", r"D\((\d+(?:\.\d*)?(?:e-?\d+)?)\)"]
    expected = [*itertools.chain.from_iterable([fields] * num_blocks), r"SM"]
    arch: list[int] = []
    for position, pattern in enumerate(expected):
        token = tokens[position] if position < len(tokens) else "the end"
        where = f"architecture {text!r}: token {position + 1}"
        match = re.fullmatch(pattern, token)
        if match is None:
            form = ["C(filters,kernel)", "P(2,2)", "D(rate)"][position % 3] if pattern != "SM" else "SM"
            raise InputError(f"{where} is {token!r}, expected {form}")
        for value in match.groups():
            name = FIELDS[len(arch) % 3]
            if float(value) not in values[name]:
                raise InputError(f"{where} is {token!r}; {name} {value} is not one of {values[name]}")
            arch.append(values[name].index(float(value)))
    if len(tokens) > len(expected):
        raise InputError(f"architecture {text!r}: nothing may follow SM, got {tokens[len(expected)]!r}")
    return np.array(arch, np.int32)
