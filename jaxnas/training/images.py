"""What the trainer's options say of images: how a network sees them, and how training varies them."""

from functools import partial

import jax
import jax.numpy as jnp

from jaxnas.errors import InputError
from jaxnas.types import Dataset

OPTIONS = {"crop": 0, "flip": False, "mean": 0.5, "std": 0.5}  # of the trainer, with their defaults


def with_functions(dataset: Dataset, crop: int, flip: bool, mean: float, std: float) -> Dataset:
    """The data with `prepare` and `augment`: their own, else for images by these options.

    A network sees inputs of another kind as they are stored, unless they bring a `prepare` of their own.

    Raises:
      InputError: an option that would change nothing.
    """
    given = {"crop": crop, "flip": flip, "mean": mean, "std": std}
    is_image = dataset.kind == "image"
    for name, default in OPTIONS.items():
        own = dataset.augment if name in ("crop", "flip") else dataset.prepare
        if given[name] != default and (own is not None or not is_image):
            kind = f"the data are of kind {dataset.kind!r}"
            why = kind if own is None else "the data have a function of their own"
            raise InputError(f"trainer.{name}: got {given[name]}, for images; {why}: leave it out")
    if is_image and (crop or flip):
        dataset = dataset._replace(augment=partial(augment, crop=crop, flip=flip))
    if dataset.prepare is None:
        prepare_images = partial(prepare, mean=mean, std=std)
        dataset = dataset._replace(prepare=prepare_images if is_image else lambda inputs: inputs)
    return dataset


def prepare(images: jax.Array, mean: float, std: float) -> jax.Array:  # uint8 [N, H, W, C] → float32, same
    """Pixels in 0–1, `mean` subtracted, divided by `std`."""
    return (images.astype(jnp.float32) / 255 - mean) / std


def augment(key: jax.Array, images: jax.Array, crop: int, flip: bool) -> jax.Array:  # uint8 [N,H,W,C], same
    """Each image shifted by up to `crop` pixels, zeros coming in, and mirrored in half of the cases."""
    N, H, W, _ = images.shape
    key_rows, key_columns, key_flip = jax.random.split(key, 3)
    padded = jnp.pad(images, ((0, 0), (crop, crop), (crop, crop), (0, 0)))
    rows = jax.random.randint(key_rows, (N, 1), 0, 2 * crop + 1) + jnp.arange(H)[None, :]
    columns = jnp.broadcast_to(jnp.arange(W)[None, :], (N, W))
    if flip:
        columns = jnp.where(jax.random.bernoulli(key_flip, 0.5, (N, 1)), columns[:, ::-1], columns)
    columns = jax.random.randint(key_columns, (N, 1), 0, 2 * crop + 1) + columns
    return padded[jnp.arange(N)[:, None, None], rows[:, :, None], columns[:, None, :]]
