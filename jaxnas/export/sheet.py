"""Pictures of what a network looks at: an image, and the same under its heat map, with a caption."""

from typing import Any, NamedTuple

import numpy as np

TILE = 144  # pixels of an image's longer side, at least
GAP, LINE = 8, 16  # pixels between pictures; of a line of text
COLUMNS = 4
# From no heat to the most, dark violet to yellow: so that it can be read in gray, and by the color-blind.
COLORS = np.array([[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]], float)


class Picture(NamedTuple):
    """One image of a sheet."""

    image: np.ndarray  # uint8 [H, W, C]
    heat: np.ndarray  # [H, W], at least 0
    caption: tuple[str, ...]  # lines


def draw(sections: list[tuple[str, list[Picture]]]) -> Any:
    """A PIL image of titled sections, each of rows of pairs."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(12)
    sections = [(title, pictures) for title, pictures in sections if pictures]
    first = sections[0][1][0]
    factor = max(1, -(-TILE // max(first.image.shape[:2])))
    height, width = (factor * extent for extent in first.image.shape[:2])
    lines = max(len(picture.caption) for _, pictures in sections for picture in pictures)
    cell = 2 * width + 3 * GAP, height + lines * LINE + 2 * GAP
    columns = min(COLUMNS, max(len(pictures) for _, pictures in sections))
    rows = [-(-len(pictures) // columns) for _, pictures in sections]
    titles = sum(LINE + GAP for title, _ in sections if title)
    page = Image.new("RGB", (columns * cell[0], sum(rows) * cell[1] + titles + GAP), "white")
    pen, top = ImageDraw.Draw(page), GAP
    for (title, pictures), count in zip(sections, rows, strict=True):
        if title:
            pen.text((GAP, top), title, fill="black", font=ImageFont.load_default(14))
            top += LINE + GAP
        for i, picture in enumerate(pictures):
            x, y = i % columns * cell[0] + GAP, top + i // columns * cell[1]
            for shown, left in ((_rgb(picture.image), x), (overlay(picture), x + width + GAP)):
                kind = Image.Resampling.NEAREST if left == x else Image.Resampling.BILINEAR
                page.paste(Image.fromarray(shown).resize((width, height), kind), (left, y))
            for number, line in enumerate(picture.caption):
                pen.text((x, y + height + 2 + number * LINE), line, fill="black", font=font)
        top += count * cell[1]
    return page


def overlay(picture: Picture) -> np.ndarray:  # → uint8 [H, W, 3]
    """The image, the more covered by a color the more heat there is, of the most in this image."""
    heat = picture.heat / max(float(picture.heat.max()), 1e-12)
    place = np.linspace(0, 1, len(COLORS))
    color = np.stack([np.interp(heat, place, COLORS[:, c]) for c in range(3)], axis=-1)
    share = (0.25 + 0.5 * heat)[..., None]
    return ((1 - share) * _rgb(picture.image) + share * color).round().astype(np.uint8)


def _rgb(image: np.ndarray) -> np.ndarray:
    if image.shape[-1] == 3:
        return image
    return np.repeat(image[..., :1], 3, axis=-1)
