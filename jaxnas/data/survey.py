"""What an image folder holds, before anything is decided: classes, sizes, colour, damaged files."""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from jaxnas.data import folder
from jaxnas.errors import InputError


class Survey(NamedTuple):
    """An image folder."""

    counts: dict[str, dict[str, int]]  # {split: {class: readable images}}; one split if none is made
    sizes: np.ndarray  # int [N, 2], height and width in pixels of each readable image
    is_gray: bool  # every image, those too that are stored in colour with three equal channels
    damaged: tuple[str, ...]  # what is wrong with each file that is no readable image


def survey(path: str) -> Survey:
    """Decode every image of a folder, in threads.

    Raises:
      InputError: no folder of classes, fewer than two classes, or a class without a readable training image.
    """
    raw = folder.load(path)
    if len(raw.classes) < 2:
        raise InputError(f"{path}: has one class, {', '.join(raw.classes)!r}; it takes two or more")
    counts: dict[str, dict[str, int]] = {}
    sizes: list[tuple[int, int]] = []
    is_gray, damaged = True, []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for split in (name for name in ("train", "validation", "test") if name in raw.parts):
            part = raw.parts[split]
            counts[split] = dict.fromkeys(raw.classes, 0)
            looks = pool.map(_look, [part.images] * len(part.images), range(len(part.images)))
            for label, (size, gray, wrong) in zip(part.labels.tolist(), looks, strict=True):
                if wrong:
                    damaged.append(wrong)
                    continue
                counts[split][raw.classes[label]] += 1
                sizes.append(size)
                is_gray &= gray
    for name, count in counts["train"].items():
        if not count:
            raise InputError(f"{path}: class {name!r} has no readable training image; remove it or add some")
    return Survey(counts, np.array(sizes), is_gray, tuple(damaged))


def _look(images: folder.Files, index: int) -> tuple[tuple[int, int], bool, str]:
    """An image's height and width, whether it is gray, and what is wrong with it."""
    try:
        image = images[index]
    except InputError as error:
        return (0, 0), True, str(error)
    gray = image.ndim == 2 or bool((image == image[..., :1]).all())
    return image.shape[:2], gray, ""
