"""What a source gives, checked labels, and images in one array."""

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import NamedTuple

import numpy as np

from jaxnas.errors import InputError, unknown

SPLITS = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}
COLORS = {"auto": 0, "gray": 1, "rgb": 3}  # channels; 0 keeps what is stored


class Part(NamedTuple):
    """One published split; its images may be decoded lazily and differ in size."""

    images: Sequence[np.ndarray] | np.ndarray  # N arrays, uint8 [H, W] or [H, W, C]
    labels: np.ndarray  # integers [N]; 0 or 1 [N, labels]; floats [N] or [N, targets]
    names: Sequence[str] = ()  # of the images, for messages; () numbers them


class Raw(NamedTuple):
    """What a source publishes, before any option of `jaxnas.data.load`."""

    parts: dict[str, Part]  # "train" and, where they are published, "validation" and "test"
    task: str = ""  # of a task; "" follows from the labels
    classes: tuple[str, ...] = ()  # their names; () numbers them
    name: str = ""  # of this release of the data; "" is the source as the user wrote it


def split_names(where: object, source_names: Iterable[str]) -> dict[str, str]:
    """{split: its name in the source}; an InputError for a name that is unknown, doubled or missing."""
    names: dict[str, str] = {}
    for name in sorted(source_names):
        if name not in SPLITS:
            raise unknown(str(where), name, SPLITS)
        if SPLITS[name] in names:
            raise InputError(f"{where}: has both 'val' and 'validation'; it takes one of them")
        names[SPLITS[name]] = name
    if "train" not in names:
        raise InputError(f"{where}: has no 'train', only {', '.join(names) or 'nothing'}; it takes one")
    return names


def check(source: str, raw: Raw) -> Raw:
    """The same data, its classes named, its labels int64 [N], int64 [N, labels] or float32 [N, targets]."""
    parts = {split: _check_part(f"{source}: {split}", part) for split, part in raw.parts.items()}
    train = parts["train"].labels
    width = len(raw.classes) or (train.shape[1] if train.ndim == 2 else max(int(train.max()), 0) + 1)
    if train.ndim == 1 and width > len(train):
        raise InputError(
            f"{source}: labels to {width - 1} on {len(train)} training images; they take 0, 1, … with no gap"
        )
    for split, part in parts.items():
        labels = part.labels
        if (labels.dtype, labels.ndim) != (train.dtype, train.ndim) or labels.shape[1:] not in ((), (width,)):
            kinds = f"{split} labels are {_describe(labels)}, train labels {_describe(train)}"
            raise InputError(f"{source}: {kinds}; they take the same kind, for {width} classes or targets")
        top = width if labels.ndim == 1 else 2
        wrong = labels[(labels < 0) | (labels >= top)] if labels.dtype == np.int64 else labels[:0]
        if wrong.size:
            raise InputError(f"{source}: {split} label {wrong[0]} is out of range; it takes 0 to {top - 1}")
    return raw._replace(parts=parts, classes=raw.classes or tuple(map(str, range(width))))


def _check_part(where: str, part: Part) -> Part:
    images, labels = part.images, np.asarray(part.labels)
    if isinstance(images, np.ndarray) and (images.dtype != np.uint8 or images.ndim not in (3, 4)):
        raise InputError(f"{where} images are {_describe(images)}; they take uint8 [N, H, W] or [N, H, W, C]")
    if len(images) != len(labels) or not len(labels):
        raise InputError(f"{where} has {len(images)} images and {len(labels)} labels; it takes one each")
    if labels.ndim not in (1, 2) or labels.dtype.kind not in "buif":
        raise InputError(
            f"{where} labels are {_describe(labels)}; they take integers or floats, [N] or [N, L]"
        )
    if labels.dtype.kind == "f":
        if not np.isfinite(labels).all():
            raise InputError(f"{where} labels hold NaN or infinity; they take finite numbers")
        return part._replace(labels=labels.reshape(len(labels), -1).astype(np.float32))
    if labels.shape[1:] == (1,):
        labels = labels[:, 0]
    return part._replace(labels=labels.astype(np.int64))


def _describe(array: np.ndarray) -> str:
    return f"{array.dtype} {list(array.shape)}"


def render(where: str, part: Part, index: np.ndarray, image_size: int, color: str) -> np.ndarray:
    """The chosen images in one array, uint8 [n, H, W, C], decoded and resized in threads.

    Args:
      where: source and split, for messages.
      part: the images.
      index: which of them, ascending [n].
      image_size: height and width in pixels, by antialiased bilinear resizing; 0 keeps the stored size.
      color: a key of COLORS.

    Raises:
      InputError: an unreadable image, or images of several sizes.
    """
    images = part.images
    if isinstance(images, np.ndarray):
        images = images if images.ndim == 4 else images[..., None]
        if _fits(images.shape[1:], image_size, color):
            return images if len(index) == len(images) else images[index]

    def name(i: int) -> str:
        return f"{where}: {part.names[i] if part.names else f'image {i}'}"

    def convert(start: int) -> list[np.ndarray]:
        few = index[start : start + 32].tolist()  # one small image is not worth a thread's task
        return [_convert(name(i), images[i], image_size, color) for i in few]

    out = np.empty(0)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            converted = pool.map(convert, range(0, len(index), 32))
            for n, image in enumerate(chain.from_iterable(converted)):
                if n == 0:
                    out = np.empty((len(index), *image.shape), np.uint8)
                if image.shape != out.shape[1:]:
                    key = "color" if image.shape[:2] == out.shape[1:3] else "image_size"
                    raise InputError(
                        f"{name(int(index[n]))} is {list(image.shape)}, others are {list(out.shape[1:])}; "
                        f"images take one size: set data.{key}"
                    )
                out[n] = image
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # do not decode the rest first
            raise
    return out


def _fits(shape: tuple[int, ...], size: int, color: str) -> bool:
    height, width, channels = shape
    return size in (0, height) and size in (0, width) and COLORS[color] in (0, channels)


def _convert(where: str, image: np.ndarray, size: int, color: str) -> np.ndarray:
    if image.dtype != np.uint8 or image.ndim not in (2, 3):
        raise InputError(f"{where} is {_describe(image)}; images take uint8 [H, W] or [H, W, C]")
    image = image if image.ndim == 3 else image[..., None]
    if _fits(image.shape, size, color):
        return image
    stored = image.shape[2]
    if stored not in (1, 3):
        raise InputError(f"{where} has {stored} channels; data.image_size and data.color take 1 or 3")
    from PIL import Image

    picture = Image.fromarray(image[..., 0] if stored == 1 else image)
    if size:
        picture = picture.resize((size, size), Image.Resampling.BILINEAR)
    if color != "auto":
        picture = picture.convert("L" if color == "gray" else "RGB")
    pixels = np.asarray(picture)
    return pixels if pixels.ndim == 3 else pixels[..., None]
