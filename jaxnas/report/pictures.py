"""Figures as pixels, for what shows no SVG: accuracy against parameters, and a network, drawn by Pillow."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxnas.report import cells, drawing, svg
from jaxnas.report.curves import pareto
from jaxnas.spaces.layers import token

WIDTH, HEIGHT = 640, 400  # of a chart, in pixels
GRID, INK, BLUE = "#d9dee3", "#59636e", "#0072b2"
BOX, HIGH, GAP = 240, 30, 18  # of a layer: width, height, and what lies between


def scatter(size: np.ndarray, value: np.ndarray, name: str) -> np.ndarray:  # [N], [N] → uint8 [H, W, 3]
    """A dot a trial, and the Pareto front as a line; `size` in parameters, no NaN."""
    page, pen = _page(WIDTH, HEIGHT)
    x = svg.logarithmic(size, 64, WIDTH - 20)
    y = svg.linear(value, HEIGHT - 48, 36)
    for tick, label in y.ticks:
        height = float(y.at(tick))
        pen.line([(x.start, height), (x.end, height)], GRID)
        pen.text((x.start - 8, height), label.replace("−", "-"), INK, anchor="rm")
    for tick, label in x.ticks:
        pen.text((float(x.at(tick)), y.start + 14), label, INK, anchor="mm")
    pen.text(((x.start + x.end) / 2, HEIGHT - 12), "parameters", INK, anchor="mm")
    pen.text((12, 16), f"{name}; line: Pareto front", INK, anchor="lm")
    for a, b in zip(x.at(size).tolist(), y.at(value).tolist(), strict=True):
        pen.ellipse([a - 2.5, b - 2.5, a + 2.5, b + 2.5], fill="#7fb8d8")
    front = pareto(size, value)
    across, up = x.at(np.append(size[front], x.hi)).tolist(), y.at(value[front]).tolist()
    steps = [(a, b) for b, *ends in zip(up, across, across[1:], strict=False) for a in ends]
    pen.line(steps, BLUE, 2)
    return np.asarray(page)


def network(
    parts: Sequence[Any], architecture: str, write: Callable[[Any], str] = token
) -> np.ndarray:  # → uint8 [H, W, 3]
    """The layers below each other with arcs for skips, or the cells; arguments as in `drawing.draw`."""
    graphs = [cells.draw(cell) for cell in cells.graphs(parts)]
    return np.asarray(_cells(graphs) if graphs else _layers(drawing.boxes(parts, architecture, write)))


def _layers(boxes: Sequence[drawing.Box]) -> Any:
    page, pen = _page(BOX + 120, (HIGH + GAP) * len(boxes) + 8)
    for i, box in enumerate(boxes):
        top = 8 + (HIGH + GAP) * i
        middle = top + HIGH / 2
        pen.rounded_rectangle([20, top, 20 + BOX, top + HIGH], 6, outline=box.colour)
        pen.text((20 + BOX / 2, middle), f"{box.words}  {box.kind}", "black", anchor="mm")
        if i:
            pen.line([(20 + BOX / 2, top - GAP), (20 + BOX / 2, top)], INK)
        if box.skip:
            start, out = middle - box.skip * (HIGH + GAP) + 6, 16 + 14 * min(box.skip, 4)
            pen.arc([20 + BOX - out, start, 20 + BOX + out, middle], -90, 90, INK)
            pen.text((20 + BOX + 2, middle - 1), "+", "black", anchor="ls")
    return page


def _cells(graphs: list[cells.Drawing]) -> Any:
    page, pen = _page(
        int(sum(graph.width for graph in graphs) + 40 * len(graphs)),
        int(max(graph.height for graph in graphs)) + 50,
    )
    left = 20.0
    for graph in graphs:
        x = left + graph.width / 2
        pen.text((x, 16), graph.name, "black", anchor="mm")
        for line in graph.lines:
            for piece in _points(line):
                pen.line([(x + a, 34 + b) for a, b in piece], INK)
        for box in graph.boxes:
            a, b = x + box.x, 34 + box.y
            corners = [a - box.width / 2, b - box.height / 2, a + box.width / 2, b + box.height / 2]
            pen.rounded_rectangle(corners, 6, fill="white", outline=drawing.HUES[box.kind])
            pen.text((a, b), box.words, "black", anchor="mm")
        left += graph.width + 40
    return page


def _points(path: str) -> list[list[tuple[float, float]]]:
    """A path of M, L, V and C as lines through points."""
    pieces: list[list[tuple[float, float]]] = []
    for command, text in re.findall(r"([MLVC])([^MLVC]*)", path):
        numbers = [float(number) for number in text.split()]
        if command == "M":
            pieces.append([(numbers[0], numbers[1])])
        elif command == "V":
            pieces[-1].append((pieces[-1][-1][0], numbers[0]))
        elif command == "L":
            pieces[-1].append((numbers[0], numbers[1]))
        else:
            corners = np.array([pieces[-1][-1], *zip(numbers[::2], numbers[1::2], strict=True)])  # [4, 2]
            t = np.linspace(0, 1, 17)[1:, None]
            curve = (1 - t) ** 3 * corners[0] + 3 * t * (1 - t) ** 2 * corners[1]
            curve += 3 * t**2 * (1 - t) * corners[2] + t**3 * corners[3]
            pieces[-1] += [(a, b) for a, b in curve.tolist()]
    return pieces


def _page(width: int, height: int) -> tuple[Any, Any]:
    from PIL import Image, ImageDraw, ImageFont

    page = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(page)
    pen.font = ImageFont.load_default(12)
    return page, pen
