"""Synthetic leaves on textured ground: is there a leaf, or other shapes only?

The generator of DLMAIRIL, https://github.com/michelesalvucci/DLMAIRIL_RL_based_NAS, here seeded. It draws
an angle for every leaf but never turns it; `rotate` does.

Suits experiments with as many images as wanted: it is drawn, not downloaded.
"""

import math
import os
import shutil
import tempfile
from functools import lru_cache
from pathlib import Path

import numpy as np

from jaxnas.data.arrays import Part, Raw
from jaxnas.errors import InputError, unknown

CLASSES = ("ground", "leaf")
OPTIONS = {"count": 4000, "size": 64, "rotate": False, "seed": 0}


def load(argument: str) -> Raw:
    """`leaves`, or for example `leaves:count=1000,size=32,rotate=true,seed=1`; a binary task."""
    options = dict(OPTIONS)
    for item in filter(None, argument.split(",")):
        key, _, value = item.partition("=")
        if key not in OPTIONS:
            raise unknown("data.source: leaves", key, OPTIONS)
        try:
            options[key] = {"true": True, "false": False}[value] if key == "rotate" else int(value)
        except (KeyError, ValueError):
            kind = "true or false" if key == "rotate" else "a whole number"
            raise InputError(f"data.source: leaves: {key} takes {kind}, got {value!r}") from None
    images, labels, _ = generate(options.pop("count"), options.pop("size"), **options)  # type: ignore
    return Raw({"train": Part(images, labels)}, task="binary", classes=CLASSES)


def generate(
    count: int, size: int = 64, *, seed: int = 0, rotate: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws leaf images; image i depends on `seed` and i alone.

    Args:
      count: N, how many.
      size: H and W in pixels; the shapes scale with it.
      seed: of all images.
      rotate: turn every leaf by its angle.

    Returns:
      Images uint8 [N, H, W, 1]; labels int32 [N], 1 for leaves; masks bool [N, H, W], True on a leaf.

    Raises:
      InputError: no images, or images under 8 pixels.
    """
    if count < 1 or size < 8 or seed < 0:
        raise InputError(f"leaves: count={count}, size={size}, seed={seed}; they take at least 1, 8 and 0")
    from PIL import Image, ImageDraw

    images = np.empty((count, size, size, 1), np.uint8)
    labels = np.empty(count, np.int32)
    masks = np.zeros((count, size, size), bool)
    scale = size / 64
    for i in range(count):
        rng = np.random.Generator(np.random.PCG64((seed, i)))
        labels[i] = rng.integers(2)
        picture = Image.fromarray(_ground(rng, size))
        draw = ImageDraw.Draw(picture)
        if labels[i]:
            mask = Image.new("L", (size, size))
            _leaves(rng, draw, ImageDraw.Draw(mask), scale, rotate)
            masks[i] = np.asarray(mask) > 0
        else:
            _clutter(rng, draw, scale)
        images[i, :, :, 0] = np.asarray(picture)
    return images, labels, masks


def write_folder(
    path: str | Path, count: int = 4000, size: int = 64, *, seed: int = 0, rotate: bool = False
) -> None:
    """Writes the images of `generate` as `path/train/<class>/<number>.png`, for `folder:PATH`.

    Raises:
      InputError: `path` exists already; nothing is written.
    """
    from PIL import Image

    path = Path(path)
    if path.exists():
        raise InputError(f"{path}: exists already; it takes the name of a new folder")
    images, labels, _ = generate(count, size, seed=seed, rotate=rotate)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        for name in CLASSES:
            (part / "new" / "train" / name).mkdir(parents=True)
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            Image.fromarray(image[..., 0]).save(part / "new" / "train" / CLASSES[label] / f"{i:05d}.png")
        os.rename(part / "new", path)
    finally:
        shutil.rmtree(part)


def _draw(rng: np.random.Generator, low: int, high: int) -> int:
    return int(rng.integers(low, high, endpoint=True))


def _ground(rng: np.random.Generator, size: int) -> np.ndarray:
    """Noise 180–254 under 10–30 discs of radius 1–5 and gray 160–220, uint8 [size, size]."""
    scale = size / 64
    pad = math.ceil(5 * scale)  # so that no disc has to be clipped
    ground = np.zeros((size + 2 * pad, size + 2 * pad), np.uint8)
    ground[pad:-pad, pad:-pad] = rng.integers(180, 255, (size, size), np.uint8)
    discs = _draw(rng, 10, 30)
    places = rng.integers(size, size=(discs, 2)).tolist()
    radii = rng.integers(1, 6, discs).tolist()
    grays = rng.integers(160, 221, discs).tolist()
    for (y, x), radius, gray in zip(places, radii, grays, strict=True):
        disc = _disc(radius * scale)
        top, left = y + pad - len(disc) // 2, x + pad - len(disc) // 2
        ground[top : top + len(disc), left : left + len(disc)][disc] = gray
    return ground[pad:-pad, pad:-pad]


@lru_cache(64)
def _disc(radius: float) -> np.ndarray:
    away = np.arange(-int(radius), int(radius) + 1) ** 2
    return away[:, None] + away <= radius**2


def _leaves(rng: np.random.Generator, draw, mask, scale: float, rotate: bool) -> None:
    """1–3 ellipses of 16–28 by 0.6 of that, gray 40–120, with a central vein and three side veins."""
    for _ in range(_draw(rng, 1, 3)):
        x, y, width = _draw(rng, 12, 52), _draw(rng, 12, 52), _draw(rng, 16, 28)
        angle = math.tau / 360 * _draw(rng, 0, 359) * rotate  # drawn in any case, as in the original
        gray = _draw(rng, 40, 120)
        height = 0.6 * width
        half, tall, side = width // 2, height // 2, width // 3 // 2
        for layer, fill in ((draw, gray), (mask, 1)):
            if rotate:
                turns = [math.tau * k / 48 for k in range(48)]
                outline = [(half * math.cos(turn), tall * math.sin(turn)) for turn in turns]
                layer.polygon(_place(outline, x, y, angle, scale), fill=fill)
            else:
                layer.ellipse(_place([(-half, -tall), (half, tall)], x, y, angle, scale), fill=fill)
        downs = [k * height // 4 - tall for k in (1, 2, 3)]
        for vein in ([(0, -tall), (0, tall)], *([(-side, down), (side, down)] for down in downs)):
            thick = max(1, round(scale))
            draw.line(_place(vein, x, y, angle, scale), fill=max(10, gray - 30), width=thick)


def _place(points, x: int, y: int, angle: float, scale: float) -> list[tuple[float, float]]:
    """Points around a leaf's centre as pixels of the image."""
    cos, sin = math.cos(angle), math.sin(angle)
    return [((x + u * cos - v * sin) * scale, (y + u * sin + v * cos) * scale) for u, v in points]


def _clutter(rng: np.random.Generator, draw, scale: float) -> None:
    """0–3 circles of radius 4–12, rectangles of 6–16 or lines of width 1–3, gray 50–150."""
    for _ in range(_draw(rng, 0, 3)):
        kind, gray = _draw(rng, 0, 2), _draw(rng, 50, 150)
        far = 48 if kind == 1 else 60
        x, y = _draw(rng, 4, far), _draw(rng, 4, far)
        if kind == 0:
            radius = _draw(rng, 4, 12)
            draw.ellipse([v * scale for v in (x - radius, y - radius, x + radius, y + radius)], fill=gray)
        elif kind == 1:
            right, bottom = x + _draw(rng, 6, 16), y + _draw(rng, 6, 16)
            draw.rectangle([v * scale for v in (x, y, right, bottom)], fill=gray)
        else:
            ends = (x, y, _draw(rng, 4, 60), _draw(rng, 4, 60))
            width = max(1, round(_draw(rng, 1, 3) * scale))
            draw.line([v * scale for v in ends], fill=gray, width=width)
