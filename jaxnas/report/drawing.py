"""A network drawn from its notation: a box a layer, from the image to the classes."""

import re

from jaxnas.report import svg

KINDS = {  # the first letters of a layer in the notations → what it is, and its colour
    "C": ("convolution", "#0072b2"),
    "P": ("pooling", "#d55e00"),
    "FC": ("dense", "#009e73"),
    "D": ("dropout", "#8b949e"),
    "GAP": ("mean of all pixels", "#d55e00"),
    "SM": ("softmax", "#b27a00"),
}
OTHER = ("layer", "#b8588f")
WIDTH, HEIGHT, GAP = 104.0, 44.0, 24.0  # of a box, and between boxes


def draw(architecture: str, title: str, subtitle: str) -> str:
    """An SVG document of the layers of an architecture, in the notation of its space."""
    layers = [layer for layer in re.split(r"\s+-\s+|\s+(?![^(]*\))", architecture.strip()) if layer]
    columns = int((svg.WIDTH - 32 + GAP) // (WIDTH + GAP))
    body = []
    for i, layer in enumerate(["image", *layers]):
        left = 16 + (WIDTH + GAP) * (i % columns)
        top = 68 + (HEIGHT + GAP) * (i // columns)
        kind, colour = _kind(layer) if i else ("input", "#59636e")
        body.append(svg.rectangle(left, top, WIDTH, HEIGHT, colour))
        body.append(svg.text(left + WIDTH / 2, top + 19, layer, "middle strong"))
        body.append(svg.text(left + WIDTH / 2, top + 35, kind, "middle small"))
        if i < len(layers):
            at_end = (i + 1) % columns == 0
            y = top + HEIGHT / 2 if not at_end else top + HEIGHT
            arrow = f"M{left + WIDTH:g} {y:g}h{GAP - 5:g}" if not at_end else _turn(left, y)
            body.append(svg.group("muted", [svg.arrow(arrow)]))
    rows = -(-(len(layers) + 1) // columns)
    return svg.document(title, subtitle, 84 + (HEIGHT + GAP) * rows, body)


def _turn(left: float, y: float) -> str:
    """From below the last box of a row to above the first of the next."""
    return f"M{left + WIDTH / 2:g} {y:g}v{GAP / 2:g}H{16 + WIDTH / 2:g}v{GAP / 2 - 5:g}"


def _kind(layer: str) -> tuple[str, str]:
    letters = re.match(r"[A-Z]*", layer)
    return KINDS.get(letters[0] if letters else "", OTHER)
