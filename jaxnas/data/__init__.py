"""Image data as arrays with fixed splits.

A source is `scheme`, `scheme:argument`, or a user's own `package.module:factory[:argument]`, where
`factory(argument) -> Raw`. Published files are kept in `$JAXNAS_DATA`, or else `~/.cache/jaxnas`.
"""

import importlib
from collections.abc import Callable

import numpy as np

from jaxnas.data import arrays, cifar10, digits, folder, leaves, medmnist, mnist, npz, splits, tfds
from jaxnas.data.arrays import Part, Raw
from jaxnas.errors import InputError, unknown
from jaxnas.training import measured
from jaxnas.training import task as tasks
from jaxnas.types import Dataset, Split

__all__ = ["REGISTRY", "Part", "Raw", "load"]

REGISTRY: dict[str, Callable[[str], Raw]] = {
    "digits": digits.load,
    "leaves": leaves.load,
    "mnist": mnist.load,
    "cifar10": cifar10.load,
    "npz": npz.load,
    "folder": folder.load,
    "medmnist": medmnist.load,
    "tfds": tfds.load,
}


def load(
    source: str,
    *,
    task: str | None = None,
    classes: tuple[int, ...] = (),
    limit: int = 0,
    fraction: float = 1.0,
    image_size: int = 0,
    color: str = "auto",
    validation_fraction: float = 0.2,
    test_fraction: float = 0.2,
    class_weights: str = "none",
    measure: str | None = None,
    seed: int = 0,
) -> Dataset:
    """Loads a data set; the same arguments give the same arrays.

    Args:
      source: digits, leaves, mnist, cifar10, npz:PATH, folder:PATH, medmnist:NAME, tfds:NAME, module:factory
      task: multiclass, binary, multi_label or regression; by default what the labels say.
      classes: labels to keep, renumbered 0, 1, … in this order; none given keeps all.
      limit: at most so many images in each split, stratified by class; 0 takes all.
      fraction: share of each split's images, stratified by class; a smaller share is part of a larger one, so
        a search on little of the data never sees a test image of all of it.
      image_size: height and width in pixels to resize to; 0 keeps the stored size.
      color: gray, rgb, or auto for what is stored.
      validation_fraction: share of the training images, if no validation split is published.
      test_fraction: share of the training images, if no test split is published; 0 for none.
      class_weights: none, or balanced for a loss in which every class weighs the same.
      measure: by which epochs and networks are compared: accuracy, balanced_accuracy, macro_f1, auc, loss or
        calibration_error of classes, mean_average_precision of several labels, r2, mae or mse of numbers.
        Every trial then has all measures of the task; by default it is the accuracy, of numbers the mae.
      seed: of the splits, of limit and of fraction.

    Returns:
      A Dataset: images uint8 [N, H, W, C]; labels int32 [N], or float32 [N, outputs] for multi_label and
      regression. Regression on class labels has the number of the class as its one target.

    Raises:
      InputError: an option out of range, or data that are missing, damaged or inconsistent.
    """
    for key, value, fits, takes in (
        ("limit", limit, limit >= 0, "0 or more"),
        ("image_size", image_size, image_size >= 0, "0 or more"),
        ("fraction", fraction, 0 < fraction <= 1, "more than 0, at most 1"),
        ("seed", seed, seed >= 0, "0 or more"),
        ("validation_fraction", validation_fraction, 0 < validation_fraction < 1, "more than 0, less than 1"),
        ("test_fraction", test_fraction, 0 <= test_fraction < 1, "at least 0, less than 1"),
    ):
        if not fits:
            raise InputError(f"data.{key}: got {value}; it takes {takes}")
    for key, value, valid in (
        ("color", color, arrays.COLORS),
        ("class_weights", class_weights, ("none", "balanced")),
        ("task", task or next(iter(tasks.REGISTRY)), tasks.REGISTRY),
    ):
        if value not in valid:
            raise unknown(f"data.{key}", value, valid)

    loader, argument = _find(source)
    raw = loader(argument)
    if not isinstance(raw, Raw) or "train" not in raw.parts:
        raise InputError(
            f"data.source: {source!r} gave {type(raw).__name__}; it takes a Raw with a 'train' part"
        )
    raw = splits.select(source, arrays.check(source, raw), classes)
    resolved = splits.resolve_task(source, raw, task)
    resolved = resolved if measure is None else measured.measured_by(resolved, measure)
    is_classes = resolved.predict is not None
    if class_weights == "balanced" and not is_classes:
        raise InputError(
            f"data.class_weights: 'balanced' takes classes; the task is {resolved.name!r}: set 'none'"
        )

    fractions = {"validation": validation_fraction, "test": test_fraction}
    loaded: dict[str, Split] = {}
    parts = splits.divide(source, raw, resolved, fractions, limit, seed, fraction)
    for split, (part, index) in parts.items():
        images = arrays.render(f"{source}: {split}", part, index, image_size, color)
        labels = part.labels[index]
        labels = labels.astype(np.int32) if is_classes else labels.reshape(len(index), -1).astype(np.float32)
        loaded[split] = Split(images, labels)
    sizes = {split: list(images.shape[1:]) for split, (images, _) in loaded.items()}
    if any(size != sizes["train"] for size in sizes.values()):
        raise InputError(
            f"{source}: the splits' images are {sizes}; they take one size: set data.image_size, data.color"
        )

    train = loaded["train"]
    names = raw.classes if is_classes or train.labels.shape[1] == len(raw.classes) else ("class",)
    weights = splits.balanced_weights(train.labels, len(names)) if class_weights == "balanced" else None
    return Dataset(
        raw.name or source, resolved, train, loaded["validation"], loaded.get("test"), names, weights
    )


def _find(source: str) -> tuple[Callable[[str], Raw], str]:
    scheme, _, argument = source.partition(":")
    if scheme in REGISTRY:
        return REGISTRY[scheme], argument
    factory, _, argument = argument.partition(":")
    if not factory or not all(part.isidentifier() for part in scheme.split(".")):
        raise unknown("data.source", scheme, REGISTRY)
    try:
        module = importlib.import_module(scheme)
    except ImportError as error:
        if error.name and f"{scheme}.".startswith(f"{error.name}."):
            raise unknown("data.source", scheme, REGISTRY) from None
        raise InputError(f"data.source: {scheme} cannot be imported: {error}") from error
    if not callable(getattr(module, factory, None)):
        raise InputError(f"data.source: module {scheme} has no function {factory!r}")
    return getattr(module, factory), argument
