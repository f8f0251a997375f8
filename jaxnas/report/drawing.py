"""A network drawn from its notation: a box a layer from the image to the classes, or its cells as graphs."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jaxnas.report import cells, svg

KINDS = {  # the first letters of a layer in the notations → what it is, and its colour
    "C": ("convolution", "#0072b2"),
    "P": ("pooling", "#d55e00"),
    "FC": ("dense", "#009e73"),
    "D": ("dropout", "#8b949e"),
    "GAP": ("mean of all pixels", "#d55e00"),
    "SM": ("softmax", "#b27a00"),
}
OTHER = ("layer", "#b8588f")
INPUT = "#59636e"
WIDTH, HEIGHT, GAP = 104.0, 44.0, 24.0  # of a box, and between boxes
TALL = 300.0  # width of a box where all boxes are in one column
LEFT, TOP = 16.0, 68.0
HUES = {"node": INPUT, "convolution": "#0072b2", "pooling": "#d55e00", "identity": "#8b949e"}  # in a cell


class Layer(NamedTuple):
    """A layer of a notation."""

    words: str
    kind: str
    colour: str
    skip: int  # adds the output of the layer so many before it; 0 for none


def layers(architecture: str, default_skip: int = 0) -> list[Layer]:
    """The layers of a notation; `default_skip` is that of a convolution whose notation names none."""
    found = []
    for words in re.split(r"\s+-\s+|\s+(?![^(]*\))", architecture.strip()):
        if words:
            letters = re.match(r"[A-Z]*", words)
            kind, colour = KINDS.get(letters[0] if letters else "", OTHER)
            named = re.search(r"\+skip(\d+)", words)
            skip = int(named[1]) if named else default_skip * words.startswith("C(")
            found.append(Layer(words, kind, colour, skip))
    return found


def default_skip(settings: Mapping[str, Any]) -> int:
    """The skip of a convolution whose notation names none: the first value in a run's configuration."""
    values = settings.get("space", {}).get("skip")
    return values[0] if isinstance(values, Sequence) and values and isinstance(values[0], int) else 0


def draw(architecture: str, title: str, subtitle: str, default_skip: int = 0) -> str:
    """An SVG document of the layers of an architecture, or of its cells, in the notation of its space."""
    graphs = [cells.draw(cell) for cell in cells.cells(architecture)]
    if graphs:
        return _cells(graphs, title, subtitle)
    boxes = [Layer("image", "input", INPUT, 0), *layers(architecture, default_skip)]
    has_skips = any(layer.skip for layer in boxes)
    width = TALL if has_skips else WIDTH
    columns = 1 if has_skips else int((svg.WIDTH - 2 * LEFT + GAP) // (WIDTH + GAP))
    start = (svg.WIDTH - width) / 2 if has_skips else LEFT
    body, top = [], TOP
    for i, layer in enumerate(boxes):
        left, top = start + (width + GAP) * (i % columns), TOP + (HEIGHT + GAP) * (i // columns)
        body.append(svg.rectangle(left, top, width, HEIGHT, layer.colour))
        body.append(svg.text(left + width / 2, top + 19, layer.words, "middle strong"))
        body.append(svg.text(left + width / 2, top + 35, layer.kind, "middle small"))
        if i + 1 < len(boxes):
            y = top + HEIGHT / 2
            along = f"M{left + width:g} {y:g}h{GAP - 5:g}"
            turn = f"M{left + width / 2:g} {top + HEIGHT:g}v{GAP / 2:g}H{start + width / 2:g}v{GAP / 2 - 5:g}"
            body.append(svg.group("muted", [svg.arrow(turn if (i + 1) % columns == 0 else along)]))
        if layer.skip:
            body.append(_skip(left + width, top, layer.skip))
    return svg.document(title, subtitle, top + HEIGHT + 16, body)


def _skip(right: float, top: float, skip: int) -> str:
    """An arc beside a column of boxes, to a + at the box at `top`, from the one so many before it."""
    end, start = top + HEIGHT / 2, top + HEIGHT * 0.8 - skip * (HEIGHT + GAP)
    out = right + 14 + 22 * min(skip, 5)
    arc = f"M{right:g} {start:g}C{out:g} {start:g} {out:g} {end:g} {right + 8:g} {end:g}"
    plus = f'<circle class="paper" cx="{right:g}" cy="{end:g}" r="8"/>'
    plus += f'<path class="line thin" d="{arc}M{right - 8:g} {end:g}a8 8 0 1 0 16 0a8 8 0 1 0 -16 0'
    plus += f'M{right - 4:g} {end:g}h8m-4 -4v8"/>'
    return svg.group("muted", [plus])


def _cells(graphs: list[cells.Drawing], title: str, subtitle: str) -> str:
    """Side by side where they fit, else below each other."""
    beside = sum(graph.width + 2 * LEFT for graph in graphs) <= svg.WIDTH
    body, x, top = [], 0.0, TOP
    for graph in graphs:
        room = svg.WIDTH / len(graphs) if beside else float(svg.WIDTH)
        scale = min(1.0, (room - 2 * LEFT) / graph.width)
        body.append(svg.text(x + room / 2, top + 12, graph.name, "middle strong"))
        parts = [svg.group("muted", [f'<path class="line thin" d="{line}"/>' for line in graph.lines])]
        for box in graph.boxes:
            corner = box.x - box.width / 2, box.y - box.height / 2
            parts.append(svg.rectangle(*corner, box.width, box.height, HUES[box.kind]))
            parts.append(svg.text(box.x, box.y + 4, box.words, "middle"))
        place = f"translate({x + room / 2:g} {top + 28:g}) scale({scale:g})"
        body.append(f'<g transform="{place}">{"".join(parts)}</g>')
        x, top = (x + room, top) if beside else (x, top + 28 + graph.height * scale + 24)
    bottom = top + 28 + max(graph.height for graph in graphs) if beside else top - 24
    return svg.document(title, subtitle, bottom + 16, body)
