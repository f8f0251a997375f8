"""A network drawn from its parts: a box a layer from the image to the classes, or its cells as graphs."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from jaxnas.report import cells, svg
from jaxnas.spaces.layers import Conv, Dense, Dropout, GlobalPool, Pool, Softmax, Stage, Stem, token

KINDS = {  # a type of layer → what it is, and its colour
    Conv: ("convolution", "#0072b2"),
    Pool: ("pooling", "#d55e00"),
    Dense: ("dense", "#009e73"),
    Dropout: ("dropout", "#8b949e"),
    GlobalPool: ("mean of all pixels", "#d55e00"),
    Softmax: ("softmax", "#b27a00"),
    Stem: ("convolution", "#0072b2"),
    Stage: ("pooling, blocks", "#7a4fbf"),
}
OTHER = ("layer", "#b8588f")
INPUT = "#59636e"
WIDTH, HEIGHT, GAP = 104.0, 44.0, 24.0  # of a box, and between boxes
CHARACTER = 7.0  # width of one in a box
TALL = 300.0  # width of a box where all boxes are in one column
LEFT, TOP = 16.0, 68.0
HUES = {"node": INPUT, "convolution": "#0072b2", "pooling": "#d55e00", "identity": "#8b949e"}  # in a cell


class Box(NamedTuple):
    """What is drawn of a layer."""

    words: str
    kind: str
    colour: str
    skip: int  # adds the output of the layer so many before it; 0 for none


def boxes(parts: Sequence[Any], architecture: str, write: Callable[[Any], str] = token) -> list[Box]:
    """The input, then a box a layer; one of the architecture's text where its parts are not known."""
    drawn = [Box("image", "input", INPUT, 0)]
    for part in parts:
        words = write(part)
        if words:
            drawn.append(
                Box(words, *KINDS.get(type(part), OTHER), part.skip if isinstance(part, Conv) else 0)
            )
    return drawn if parts else [*drawn, Box(architecture, *OTHER, 0)]


def draw(
    parts: Sequence[Any], architecture: str, title: str, subtitle: str, write: Callable[[Any], str] = token
) -> str:
    """An SVG document of an architecture's parts: its layers, or its cells.

    Args:
      parts: what `Space.layers` gives; empty where they are not known, and then `architecture` is written.
      architecture: in the notation of its space.
      title: above the drawing.
      subtitle: below the title.
      write: part → its words, as `Space.write`.
    """
    graphs = [cells.draw(cell) for cell in cells.graphs(parts)]
    if graphs:
        return _cells(graphs, title, subtitle)
    drawn = boxes(parts, architecture, write)
    has_skips = any(box.skip for box in drawn)
    needed = CHARACTER * max(len(box.words) for box in drawn) + 12
    width = TALL if has_skips or not parts else min(TALL, max(WIDTH, needed))
    columns = 1 if has_skips or not parts else int((svg.WIDTH - 2 * LEFT + GAP) // (width + GAP))
    start = (svg.WIDTH - width) / 2 if columns == 1 else LEFT
    body, top = [], TOP
    for i, box in enumerate(drawn):
        left, top = start + (width + GAP) * (i % columns), TOP + (HEIGHT + GAP) * (i // columns)
        body.append(svg.rectangle(left, top, width, HEIGHT, box.colour))
        body.append(svg.text(left + width / 2, top + 19, box.words, "middle strong"))
        body.append(svg.text(left + width / 2, top + 35, box.kind, "middle small"))
        if i + 1 < len(drawn):
            y = top + HEIGHT / 2
            along = f"M{left + width:g} {y:g}h{GAP - 5:g}"
            turn = f"M{left + width / 2:g} {top + HEIGHT:g}v{GAP / 2:g}H{start + width / 2:g}v{GAP / 2 - 5:g}"
            body.append(svg.group("muted", [svg.arrow(turn if (i + 1) % columns == 0 else along)]))
        if box.skip:
            body.append(_skip(left + width, top, box.skip))
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
