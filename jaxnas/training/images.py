"""How a network sees images, and how training varies them.

Random crops and mirror images (Krizhevsky et al. 2012), rotation, zoom and shift as one bilinear sampling,
brightness and contrast, and cutout (DeVries & Taylor 2017, https://arxiv.org/abs/1708.04552). Strengths are
arrays: children that differ in them share a program. Shapes: N images of H × W pixels, C channels.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxnas.errors import InputError
from jaxnas.hashing import hash_bits, uniform
from jaxnas.types import Dataset

STRENGTHS = ("flip", "rotate", "zoom", "shift", "light", "cutout")  # knobs where any of them varies images
OPTIONS = {"crop": 0, "mean": 0.5, "std": 0.5} | dict.fromkeys(STRENGTHS, 0)  # of the trainer, and defaults


Prepare = Callable[[jax.Array], jax.Array]
Augment = Callable[[jax.Array, jax.Array, Any], jax.Array]  # (key, stored inputs, knobs) → inputs


def functions_of(dataset: Dataset, given: dict[str, Any]) -> tuple[Prepare, Augment | None]:
    """How inputs are prepared and augmented: as the data say, else for images by the options `given`.

    A network sees inputs of another kind as they are stored, unless they bring a `prepare` of their own.

    Raises:
      InputError: an option that would change nothing.
    """
    is_image = dataset.kind == "image"
    for name, default in OPTIONS.items():
        own = dataset.prepare if name in ("mean", "std") else dataset.augment
        if given[name] != default and (own is not None or not is_image):
            kind = f"the data are of kind {dataset.kind!r}"
            why = kind if own is None else "the data have a function of their own"
            raise InputError(f"trainer.{name}: got {given[name]}, for images; {why}: leave it out")
    dtype = dataset.train.inputs.dtype
    if given["mixup"] and not is_image and dtype.kind != "f":
        raise InputError(f"trainer.mixup: got {given['mixup']}; it mixes numbers, not {dtype}: set it to 0")
    prepares, augments = dataset.prepare, None
    if prepares is None:
        prepare_images = functools.partial(prepare, mean=given["mean"], std=given["std"])
        prepares = prepare_images if is_image else lambda inputs: inputs
    if dataset.augment is not None:
        own_augment = dataset.augment
        augments = lambda key, inputs, knobs: own_augment(key, inputs)  # noqa: E731
    elif is_image and varies(given):
        warps = any(given[name] for name in ("rotate", "zoom", "shift"))
        lights, cuts = bool(given["light"]), bool(given["cutout"])
        augments = functools.partial(augment, crop=given["crop"], warps=warps, lights=lights, cuts=cuts)
    return prepares, augments


def varies(given: dict[str, Any]) -> bool:
    """Whether training images are varied by these options of the trainer."""
    return any(given[name] for name in ("crop", *STRENGTHS))


def prepare(images: jax.Array, mean: float, std: float) -> jax.Array:  # uint8 [N, H, W, C] → float32, same
    """Pixels in 0–1, `mean` subtracted, divided by `std`."""
    return (images.astype(jnp.float32) / 255 - mean) / std


def augment(
    key: jax.Array, images: jax.Array, knobs: dict[str, jax.Array],
    crop: int = 0, warps: bool = False, lights: bool = False, cuts: bool = False,
) -> jax.Array:  # fmt: skip
    """Each image varied in its own way: uint8 [N, H, W, C] → the same, or float32 in 0–255.

    Args:
      key: of the batch.
      images: of the batch.
      knobs: {strength: float32 []} of STRENGTHS, as `trainer.make` explains them.
      crop: shift by up to so many pixels, zeros coming in.
      warps: rotation, zoom and shift are computed.
      lights: brightness and contrast are.
      cuts: cutout is.
    """
    N, H, W, C = images.shape
    random = uniform(key, (10, N))
    mirrored = (random[0] < 0.5) & (knobs["flip"] > 0)
    if crop:
        rows, columns = (jnp.floor(r * (2 * crop + 1)).astype(jnp.int32)[:, None] for r in random[1:3])
        rows, columns = rows + jnp.arange(H)[None, :], columns + jnp.arange(W)[None, :]
        padded = jnp.pad(images, ((0, 0), (crop, crop), (crop, crop), (0, 0)))
        images = padded[jnp.arange(N)[:, None, None], rows[:, :, None], columns[:, None, :]]
    if warps:
        turn, zoom, down, right = (2 * random[3:7] - 1) * jnp.stack(
            [jnp.deg2rad(knobs["rotate"]), knobs["zoom"], knobs["shift"] * H, knobs["shift"] * W]
        )[:, None]
        images = warp(images, mirrored, turn, 1 + zoom, down, right)
    else:
        images = jnp.where(mirrored[:, None, None, None], images[:, :, ::-1], images)
    if lights:
        contrast = 1 + knobs["light"] * (2 * random[7] - 1)
        brightness = knobs["light"] * 255 / 4 * (2 * uniform(jax.random.fold_in(key, 1), (N, C)) - 1)
        varied = (images.astype(jnp.float32) - 127.5) * contrast[:, None, None, None] + 127.5
        images = varied + brightness[:, None, None, :]
    if cuts:
        middle = jnp.floor(random[8:10] * jnp.array([[H], [W]], jnp.float32))
        half = knobs["cutout"] * jnp.float32(min(H, W)) / 2
        near = [
            jnp.abs(jnp.arange(extent, dtype=jnp.float32)[None, :] - middle_pixel[:, None]) < half
            for extent, middle_pixel in zip((H, W), middle, strict=True)
        ]
        hole = near[0][:, :, None, None] & near[1][:, None, :, None]
        images = jnp.where(hole, jnp.asarray(127, images.dtype), images)
    return images


def warp(
    images: jax.Array, mirrored: jax.Array, turn: jax.Array, zoom: jax.Array, down: jax.Array,
    right: jax.Array,
) -> jax.Array:  # fmt: skip
    """Images about their middle, sampled bilinearly, mirrored at the border: [N, H, W, C] → float32, same.

    Args:
      images: any numbers.
      mirrored: bool [N], left and right change places.
      turn: float32 [N], in radians.
      zoom: float32 [N], of the window that is looked at: above 1 it is larger than the image.
      down: float32 [N], pixels that the window moves down.
      right: float32 [N], pixels that it moves to the right.
    """
    N, H, W, C = images.shape
    y = (jnp.arange(H, dtype=jnp.float32) - (H - 1) / 2)[None, :, None]
    x = (jnp.arange(W, dtype=jnp.float32) - (W - 1) / 2)[None, None, :]
    x = x * jnp.where(mirrored, -1.0, 1.0)[:, None, None]
    cos, sin, down, right = (
        v[:, None, None] for v in (zoom * jnp.cos(turn), zoom * jnp.sin(turn), down, right)
    )
    rows, columns = cos * y + sin * x + down, cos * x - sin * y + right  # [N, H, W], from the middle
    (top, bottom, low), (left, beside, near) = (
        _neighbours(place + (extent - 1) / 2, extent) for place, extent in ((rows, H), (columns, W))
    )
    flat = images.reshape(N, H * W, C)

    def pixels(row: jax.Array, column: jax.Array) -> jax.Array:
        index = (row * W + column).reshape(N, H * W, 1)
        return jnp.take_along_axis(flat, index, axis=1).reshape(N, H, W, C).astype(jnp.float32)

    low, near = low[..., None], near[..., None]
    upper = pixels(top, left) * (1 - near) + pixels(top, beside) * near
    lower = pixels(bottom, left) * (1 - near) + pixels(bottom, beside) * near
    return upper * (1 - low) + lower * low


def _neighbours(place: jax.Array, extent: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Two pixels that a place lies between, mirrored at the border, and the share of the second."""
    first = jnp.floor(place)

    def within(index: jax.Array) -> jax.Array:
        index = jnp.abs(index.astype(jnp.int32))
        return jnp.clip(jnp.where(index >= extent, 2 * (extent - 1) - index, index), 0, extent - 1)

    return within(first), within(first + 1), place - first


def mixed(
    key: jax.Array, inputs: jax.Array, quantiles: jax.Array
) -> tuple[jax.Array, jax.Array]:  # [N, ...], [Q] → float32 [N, ...], []
    """Mixup (Zhang et al. 2018, https://arxiv.org/abs/1710.09412): λ x_i + (1 − λ) x_{i−1}, and λ.

    The inputs of a batch are in random order, so that the one before is any other. λ is one of `quantiles`.
    """
    index = hash_bits(key, (1,))[0] % jnp.uint32(len(quantiles))
    share = quantiles[index]
    inputs = inputs.astype(jnp.float32)
    return share * inputs + (1 - share) * jnp.roll(inputs, 1, axis=0), share
