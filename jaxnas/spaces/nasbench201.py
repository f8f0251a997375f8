"""The cell space of NAS-Bench-201: four nodes, an operation on each of the six edges between them.

Dong & Yang, "NAS-Bench-201: Extending the Scope of Reproducible Neural Architecture Search", ICLR 2020,
https://arxiv.org/abs/2001.00326. NATS-Bench's topology space is the same.

Suits comparisons of controllers over many seeds, on a table: nothing is trained.
"""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.errors import InputError
from jaxnas.spaces import prefix
from jaxnas.spaces.layers import Block, Cell
from jaxnas.spaces.prefix import Prefix
from jaxnas.types import Space

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
EDGES = tuple((source, node) for node in (1, 2, 3) for source in range(node))  # in the strings' order
# A string's tokens: signs, and between them an operation with its source.
FROM = tuple({f"{name}~{source}": i for i, name in enumerate(OPERATIONS)} for source in range(3))
FORM = (
    "",
    "|",
    FROM[0],
    "|+|",
    *(FROM[0], "|", FROM[1]),
    "|+|",
    *(FROM[0], "|", FROM[1], "|", FROM[2]),
    "|",
    "",
)


def nasbench201() -> Space:
    """Cells of four nodes: one of five operations on each of six edges, 15,625 architectures.

    Nothing is forbidden. The tabular state is the decision and the choice before it: 1 + 5 · 5 states and
    one for the end. The notation is the benchmark's own,
    `|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|`.
    """
    T, A = len(EDGES), len(OPERATIONS)
    names = tuple(f"edge_{source}_{node}" for source, node in EDGES)
    choice = jnp.arange(A)

    def state(walk: Prefix) -> jax.Array:
        within = jnp.where(walk.depth == 0, 0, 1 + (walk.depth - 1) * A + prefix.last(walk))
        return jnp.where(walk.depth < T, within, 1 + (T - 1) * A).astype(jnp.int32)

    return Space(
        name="nasbench201",
        num_steps=T,
        num_choices=A,
        decisions=names,
        start=prefix.start(T),
        step=prefix.step,
        mask=lambda walk: (choice == 0) | (walk.depth < T),
        done=lambda walk: walk.depth >= T,
        num_states=2 + (T - 1) * A,
        state=state,
        observe=lambda walk: prefix.observe(walk, A),
        decode=lambda arch: {name: OPERATIONS[int(c)] for name, c in zip(names, arch, strict=True)},
        describe=lambda arch: _notation(_cell(arch)),
        parse=_parse,
        size=A**T,
        layers=lambda arch: (_cell(arch),),
    )


def _cell(arch: Any) -> Cell:
    """Node i sums what the operations make of the nodes before it; the last node is the output."""
    chosen = [(node, source, OPERATIONS[int(c)]) for c, (source, node) in zip(arch, EDGES, strict=True)]
    blocks = []
    for node in (1, 2, 3):
        sources, operations = zip(*((s, o) for n, s, o in chosen if n == node), strict=True)
        blocks.append(Block(sources, operations, "add"))
    return Cell("cell", ("input",), tuple(blocks), "last")


def _notation(cell: Cell) -> str:
    nodes = [
        "|".join(f"{o}~{i}" for o, i in zip(block.operations, block.inputs, strict=True))
        for block in cell.blocks
    ]
    return "+".join(f"|{node}|" for node in nodes)


def _parse(text: str) -> np.ndarray:
    """The inverse of `describe`; an InputError points at the offending token."""
    tokens = re.split(r"([|+]+)", text.strip())
    arch: list[int] = []
    for position, expected in enumerate(FORM):
        token = tokens[position] if position < len(tokens) else ""
        if isinstance(expected, dict) and token in expected:
            arch.append(expected[token])
        elif token != expected:
            where, takes = "", repr(expected) if expected else "nothing"
            if isinstance(expected, dict):
                where, takes = " on edge {}→{}".format(*EDGES[len(arch)]), f"one of {', '.join(expected)}"
            shown = repr(token) if token else "nothing"
            raise InputError(f"architecture {text!r}: found {shown}{where}, expected {takes}")
    return np.array(arch, np.int32)
