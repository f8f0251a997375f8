"""Cells as graphs: the notations of spaces `nasnet` and `nasbench201` → nodes and edges."""

import re
from typing import NamedTuple

BLOCK = re.compile(r"(add|cat)\((\w+)\(([^()]+)\),(\w+)\(([^()]+)\)\)")
EDGE = re.compile(r"([\w.]+)~(\d+)")


class Cell(NamedTuple):
    """A directed graph without cycles."""

    name: str
    nodes: tuple[str, ...]  # in an order in which edges go forward
    edges: tuple[tuple[int, int, str], ...]  # from, to, operation


def cells(architecture: str) -> list[Cell]:
    """The cells that an architecture's notation describes; none in the notation of another space."""
    if "~" in architecture:
        return [_nasbench201(architecture)] if EDGE.search(architecture) else []
    kinds = re.split(r"\s*(normal|reduction):\s*", architecture)[1:]
    return [_nasnet(*each) for each in zip(kinds[::2], kinds[1::2], strict=True)]


def _nasnet(name: str, notation: str) -> Cell:
    """Blocks combine two states; those that no block uses are concatenated (Zoph et al. 2018)."""
    nodes, edges, used = ["h-1", "h"], [], set()
    for number, block in enumerate(BLOCK.findall(notation), 1):
        combine, *pairs = block
        nodes.append(f"b{number} {combine}")
        for operation, source in zip(pairs[::2], pairs[1::2], strict=True):
            at = nodes.index(source) if source in nodes else 1 + int(source[1:])
            used.add(at)
            edges.append((at, len(nodes) - 1, operation))
    edges += [(at, len(nodes), "") for at in range(2, len(nodes)) if at not in used]
    return Cell(f"{name} cell", (*nodes, "concatenation"), tuple(edges))


def _nasbench201(notation: str) -> Cell:
    """Node i sums the outputs of the operations on the nodes before it (Dong & Yang 2020)."""
    groups = notation.split("+")
    edges = [
        (int(source), to, operation.replace("nor_", "").replace("_", " "))
        for to, group in enumerate(groups, 1)
        for operation, source in EDGE.findall(group)
        if operation != "none"
    ]
    return Cell("cell", ("input", *(f"node {i}" for i in range(1, len(groups))), "output"), tuple(edges))
