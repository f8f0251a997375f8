"""Cells as graphs: the parts of an architecture → nodes and edges → a layout."""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

from jaxnas.spaces.layers import Cell, states

HIGH, LOW = 26, 22  # of a node and of an operation, in pixels
APART, BETWEEN, GAP = 16, 40, 8  # operations and their node, rows, operations of a node
LANE = 18  # room for an edge that passes a row


class Graph(NamedTuple):
    """A directed graph without cycles."""

    name: str
    nodes: tuple[str, ...]  # in an order in which edges go forward
    edges: tuple[tuple[int, int, str], ...]  # from, to, operation


class Box(NamedTuple):
    """A node, or an operation on an edge: its centre and size in pixels."""

    x: float  # 0 in the middle of the drawing
    y: float
    width: float
    height: float
    words: str
    kind: str  # node; of operations convolution, pooling, identity


class Drawing(NamedTuple):
    """What is drawn of a cell, from the top down."""

    name: str
    width: float
    height: float
    boxes: tuple[Box, ...]
    lines: tuple[str, ...]  # paths of edges, in SVG's notation


def graphs(parts: Sequence[Any]) -> list[Graph]:
    """Of the cells among an architecture's parts: states are nodes, operations on them are edges."""
    return [_graph(part) for part in parts if isinstance(part, Cell)]


def draw(cell: Graph) -> Drawing:
    """A row a depth; above each node the operations on its inputs; an edge passes rows in a lane of its own.

    Rows are ordered by where their inputs lie, so that few edges cross (Sugiyama, Tagawa & Toda 1981).
    """
    n = len(cell.nodes)
    into = [[e for e, edge in enumerate(cell.edges) if edge[1] == i] for i in range(n)]
    depth = [0] * n
    for i in range(n):
        depth[i] = max((depth[cell.edges[e][0]] + 1 for e in into[i]), default=0)
    depth[-1] = max(depth[:-1]) + 1
    wide = [_wide(words) if words else 12.0 for _, _, words in cell.edges]
    rows: list[list[tuple[str, int]]] = [[] for _ in range(depth[-1] + 1)]  # nodes, and edges that pass
    for i, row in enumerate(depth):
        rows[row].append(("node", i))
    for e, (source, to, _) in enumerate(cell.edges):
        for row in range(depth[source] + 1, depth[to]):
            rows[row].append(("edge", e))

    def width(kind: str, i: int) -> float:
        if kind == "edge":
            return LANE
        return max(_wide(cell.nodes[i]), sum(wide[e] + GAP for e in into[i]) - GAP)

    edges = [[(0.0, 0.0)] for _ in cell.edges]  # the points of each so far: curves between every other two
    boxes, last, top, half = [], ["" for _ in cell.edges], 0.0, 0.0
    for items in rows:
        here: dict[tuple[str, int], list[float]] = {
            (kind, i): [edges[e][-1][0] for e in (into[i] if kind == "node" else [i])] for kind, i in items
        }
        items.sort(key=lambda item: sum(here[item]) / max(len(here[item]), 1))
        x = -(sum(width(*item) for item in items) + 3 * GAP * (len(items) - 1)) / 2
        half = max(half, -x)
        has_operations = any(cell.edges[e][2] for kind, i in items if kind == "node" for e in into[i])
        bottom = top + HIGH + (LOW + APART if has_operations else 0)
        for kind, i in items:
            middle, x = x + width(kind, i) / 2, x + width(kind, i) + 3 * GAP
            if kind == "edge":
                edges[i] += [(middle, top), (middle, bottom)]
                continue
            words = cell.nodes[i]
            boxes.append(Box(round(middle, 1), bottom - HIGH / 2, _wide(words), HIGH, words, "node"))
            place = middle - (sum(wide[e] + GAP for e in into[i]) - GAP) / 2
            inputs = sorted(into[i], key=lambda e: edges[e][-1][0])
            for k, e in enumerate(inputs):
                center, place = place + wide[e] / 2, place + wide[e] + GAP
                if cell.edges[e][2]:
                    words = cell.edges[e][2]
                    boxes.append(Box(round(center, 1), top + LOW / 2, wide[e], LOW, words, _kind(words)))
                    edges[e].append((center, top))
                    last[e] = f"M{center:g} {top + LOW:g}L{middle + 14 * (k - (len(inputs) - 1) / 2):g} "
                    last[e] += f"{bottom - HIGH:g}"
                else:
                    edges[e].append((center, bottom - HIGH))
            for e, (source, _, _) in enumerate(cell.edges):
                if source == i:
                    edges[e] = [(middle, bottom)]
        top = bottom + BETWEEN
    lines = [_path(points) + end for points, end in zip(edges, last, strict=True)]
    return Drawing(cell.name, round(2 * half, 1), top - BETWEEN, tuple(boxes), tuple(lines))


def _path(points: list[tuple[float, float]]) -> str:
    """Curves that leave and arrive downwards, between them lines down."""
    parts = [f"M{points[0][0]:g} {points[0][1]:g}"]
    for i, ((x1, y1), (x2, y2)) in enumerate(itertools.pairwise(points)):
        bend = (y2 - y1) / 2
        curve = f"C{x1:g} {y1 + bend:g} {x2:g} {y2 - bend:g} {x2:g} {y2:g}"
        parts.append(f"V{y2:g}" if i % 2 else curve)
    return "".join(parts)


def _kind(operation: str) -> str:
    if operation.startswith(("identity", "skip")):
        return "identity"
    return "pooling" if operation.startswith(("avg", "max")) else "convolution"


def _wide(words: str) -> float:
    """Of a box around words of 11.5 pixels."""
    return round(max(34.0, 16 + 6.6 * len(words)), 1)


def _graph(cell: Cell) -> Graph:
    """The first of the cell's inputs is drawn last. What an operation "none" leads to is not connected."""
    count = len(cell.inputs)
    # Of each state among the nodes.
    place = [*reversed(range(count)), *range(count, count + len(cell.blocks))]
    edges, used = [], set()
    for b, block in enumerate(cell.blocks):
        for source, operation in zip(block.inputs, block.operations, strict=True):
            used.add(source)
            if operation != "none":
                words = operation.removeprefix("nor_").replace("_", " ")
                edges.append((place[source], count + b, words))
    inputs, block_names = tuple(reversed(cell.inputs)), states(cell)[count:]
    if cell.output == "last":
        inner = (f"node {b + 1}" for b in range(len(block_names) - 1))
        return Graph(cell.name, (*inputs, *inner, "output"), tuple(edges))
    nodes = [f"{name} {block.combine}" for name, block in zip(block_names, cell.blocks, strict=True)]
    edges += [(node, count + len(nodes), "") for node in range(count, count + len(nodes)) if node not in used]
    return Graph(f"{cell.name} cell", (*inputs, *nodes, "concatenation"), tuple(edges))
