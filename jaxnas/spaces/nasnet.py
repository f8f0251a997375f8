"""A normal and a reduction cell of blocks: the NASNet search space.

Zoph, Vasudevan, Shlens & Le 2018, "Learning transferable architectures for scalable image recognition",
https://arxiv.org/abs/1707.07012, section 3. What is searched is the two cells; how often they are stacked and
with how many filters is the network's business (`networks/nasnet.py`).

Suits a search on a small network or few images whose cells then make a deeper network.
"""

import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.errors import InputError, unknown
from jaxnas.spaces import layers, prefix
from jaxnas.spaces.layers import Block, Cell
from jaxnas.spaces.prefix import Prefix
from jaxnas.types import Space

CELLS = ("normal", "reduction")
FIELDS = ("input_1", "input_2", "operation_1", "operation_2", "combine")
OPERATIONS = (  # in the paper's order
    "identity", "conv1x3", "conv1x7", "dil3", "avg3", "max3", "max5", "max7", "conv1", "conv3",
    "sep3", "sep5", "sep7",
)  # fmt: skip
COMBINE = ("add", "cat")
INPUTS = ("h", "h-1")  # of a cell: the output of the cell before it, and of the one before that


class Settings(NamedTuple):
    """All options; hashable."""

    blocks_per_cell: int  # B
    operations: tuple[str, ...]


def nasnet(*, blocks_per_cell: int = 5, operations: tuple[str, ...] = OPERATIONS) -> Space:
    """Two cells of B blocks, each of five decisions: input, input, operation, operation, combination.

    T = 10 B: the normal cell's blocks come first, then the reduction cell's. Block b of a cell, from 0,
    chooses its inputs among 2 + b hidden states: h and h-1, the outputs of the cells before, and b1, b2, …,
    those of the cell's blocks so far; the mask forbids what does not exist. The tabular state is the decision
    and, within a block, the choice before it: S = T · A + 1.

    Args:
      blocks_per_cell: B.
      operations: identity; conv1x3 and conv1x7, 1 × k and then k × 1; dil3, 3 × 3 dilated by 2; avg3, max3,
        max5, max7; conv1, conv3; sep3, sep5, sep7, separable convolutions.

    Raises:
      InputError: no block, or no or an unknown operation.
    """
    settings = Settings(blocks_per_cell, tuple(operations))
    _check(settings)
    B, O = blocks_per_cell, len(operations)
    names = tuple(f"{cell}_{b + 1}_{field}" for cell in CELLS for b in range(B) for field in FIELDS)
    sizes = [size for _ in CELLS for b in range(B) for size in (2 + b, 2 + b, O, O, len(COMBINE))]
    T, A = len(names), max(sizes)
    size_at = jnp.array([*sizes, 1])  # at the end, the padding choice

    def mask(walk: Prefix) -> jax.Array:
        return jnp.arange(A) < size_at[jnp.minimum(walk.depth, T)]

    def state(walk: Prefix) -> jax.Array:
        within = (walk.depth % len(FIELDS) > 0) & (walk.depth < T)
        before = jnp.where(within, prefix.last(walk), 0)
        return (jnp.minimum(walk.depth, T) * A + before).astype(jnp.int32)

    def decode(arch: Any) -> dict[str, Any]:
        values = [hidden_states(B), hidden_states(B), operations, operations, COMBINE]
        return {n: values[t % 5][int(c)] for t, (n, c) in enumerate(zip(names, arch, strict=True))}

    def cells(arch: Any) -> tuple[Cell, Cell]:
        return _cells(arch, settings)

    return Space(
        name="nasnet",
        num_steps=T,
        num_choices=A,
        decisions=names,
        start=prefix.start(T),
        step=prefix.step,
        mask=mask,
        done=lambda walk: walk.depth >= T,
        num_states=T * A + 1,
        state=state,
        observe=lambda walk: prefix.observe(walk, A),
        decode=decode,
        describe=lambda arch: layers.notation(cells(arch)),
        parse=lambda text: _parse(text, settings),
        size=int(np.prod(np.array(sizes, object))),
        settings=settings,
        layers=cells,
    )


def hidden_states(blocks: int) -> tuple[str, ...]:
    """The names of what a cell of so many blocks has: its two inputs, then what each block makes."""
    return (*INPUTS, *(f"b{b + 1}" for b in range(blocks)))


def _cells(arch: Any, settings: Settings) -> tuple[Cell, Cell]:
    """The normal and the reduction cell of an architecture [T]."""
    blocks = []
    for i, j, first, second, combine in np.asarray(arch).reshape(-1, len(FIELDS)).tolist():
        operations = settings.operations[first], settings.operations[second]
        blocks.append(Block((i, j), operations, COMBINE[combine]))
    normal, reduction = blocks[: settings.blocks_per_cell], blocks[settings.blocks_per_cell :]
    return Cell("normal", INPUTS, tuple(normal), "unused"), Cell(
        "reduction", INPUTS, tuple(reduction), "unused"
    )


def _parse(text: str, settings: Settings) -> np.ndarray:
    """The inverse of `describe`; an InputError points at the offending token."""
    tokens, B = text.split(), settings.blocks_per_cell
    expected = [token for cell in CELLS for token in (f"{cell}:", *range(B))]
    operand = r"(\w+)\(([\w-]+)\)"
    arch: list[int] = []
    for position, what in enumerate(expected):
        token = tokens[position] if position < len(tokens) else "the end"
        where = f"architecture {text!r}: token {position + 1}"
        if isinstance(what, str):
            if token != what:
                raise InputError(f"{where} is {token!r}, expected {what!r}; each cell has {B} blocks")
            continue
        match = re.fullmatch(rf"(\w+)\({operand},{operand}\)", token)
        if match is None:
            raise InputError(
                f"{where} is {token!r}, expected a block such as add(sep3(h),avg3(h-1)); each cell has {B}"
            )
        combine, first, input_1, second, input_2 = match.groups()
        for value, known, kind in (
            (input_1, hidden_states(what), "hidden state"),
            (input_2, hidden_states(what), "hidden state"),
            (first, settings.operations, "operation"),
            (second, settings.operations, "operation"),
            (combine, COMBINE, "combination"),
        ):
            if value not in known:
                raise InputError(f"{where} is {token!r}; {kind} {value!r} is not one of {', '.join(known)}")
            arch.append(known.index(value))
    if len(tokens) > len(expected):
        raise InputError(
            f"architecture {text!r}: nothing may follow the last block, got {tokens[len(expected)]!r}"
        )
    return np.array(arch, np.int32)


def _check(settings: Settings) -> None:
    B, operations = settings
    if B < 1:
        raise InputError(f"space.blocks_per_cell: got {B}; it takes 1 or more")
    if not operations or len(set(operations)) < len(operations):
        raise InputError(f"space.operations: got {operations}; it takes one or more different names")
    for name in operations:
        if name not in OPERATIONS:
            raise unknown("space.operations", name, OPERATIONS)
