"""Which images a data set has: classes, task, splits and limits, as indices."""

import numpy as np

from jaxnas.data.arrays import Part, Raw
from jaxnas.errors import InputError
from jaxnas.training import task as tasks
from jaxnas.types import Task


def select(source: str, raw: Raw, classes: tuple[int, ...]) -> Raw:
    """Keeps these classes, numbered in the order given; of several labels or targets, these columns.

    An image of no kept class gets the label −1, which `divide` leaves out.
    """
    if not classes:
        return raw
    known = len(raw.classes)
    for one in classes:
        if not 0 <= one < known or classes.count(one) > 1:
            raise InputError(
                f"data.classes: got {one} in {classes}; it takes each of 0 to {known - 1} at most once"
            )
    number = np.full(known, -1)
    number[list(classes)] = np.arange(len(classes))
    parts = {}
    for split, part in raw.parts.items():
        labels = number[part.labels] if part.labels.ndim == 1 else part.labels[:, list(classes)]
        if labels.ndim == 1 and labels.max() < 0:
            raise InputError(f"data.classes: {source} has no {split} image of {classes}; it takes others too")
        parts[split] = part._replace(labels=labels)
    return raw._replace(parts=parts, classes=tuple(raw.classes[one] for one in classes))


def resolve_task(source: str, raw: Raw, asked: str | None) -> Task:
    """The task that was asked for, or else the source's own, if it fits the labels."""
    labels = raw.parts["train"].labels
    kind = "targets" if labels.dtype == np.float32 else "classes" if labels.ndim == 1 else "labels"
    fitting = {task.name: task for task in tasks.FITTING[kind]}
    name, count = asked or raw.task or next(iter(fitting)), len(raw.classes)
    if name not in fitting:
        raise InputError(f"data.task: {name!r} does not fit {source}; it takes {' or '.join(fitting)}")
    fewest, most = fitting[name].num_classes
    if not fewest <= count <= most:
        takes = f"{fewest}" if fewest == most else f"at least {fewest}"
        raise InputError(f"data.task: {name!r} takes {takes} classes; {source} has {count}: see data.classes")
    return fitting[name]


def spread(labels: np.ndarray, seed: int, stream: int) -> np.ndarray:
    """A random order in which every prefix holds the classes in proportion.

    The j-th image of a class with n stands at j / n, so the first of every class precedes the second of any.

    Args:
      labels: int64 [N], stratified by value, −1 being left out; or [N, L], not stratified.
      seed: of the order.
      stream: tells apart the orders that share a seed.

    Returns:
      int64 [n], indices into `labels`.
    """
    groups = labels if labels.ndim == 1 else np.zeros(len(labels), np.int64)
    order = np.random.Generator(np.random.PCG64((seed, stream))).permutation(len(groups))
    order = order[np.argsort(groups[order], kind="stable")][np.count_nonzero(groups < 0) :]
    place = np.concatenate([np.arange(n) / max(n, 1) for n in np.bincount(groups[groups >= 0])])
    return order[np.argsort(place, kind="stable")]


def divide(
    source: str,
    raw: Raw,
    task: Task,
    fractions: dict[str, float],
    limit: int,
    seed: int,
    share: float = 1.0,
) -> dict[str, tuple[Part, np.ndarray]]:
    """{split: (the part with its images, which of them: ascending [n])}, disjoint and stratified by class.

    Args:
      source: as the user wrote it, for messages.
      raw: checked data.
      task: whether there are classes to keep in proportion.
      fractions: {"validation": …, "test": …} of the training images, cut if the source has no such split.
      limit: at most so many images of each split, 0 for all; smaller limits give subsets of larger ones.
      seed: of the draws.
      share: of each split's images that is kept; smaller shares give subsets of larger ones.

    Raises:
      InputError: a class without a training image, or too few images for a split.
    """
    labels, least = raw.parts["train"].labels, 1
    if task.predict is not None:
        least = len(raw.classes)
        counts = np.bincount(labels[labels >= 0], minlength=least)
        if not counts.all():
            name = raw.classes[int(counts.argmin())]
            raise InputError(
                f"{source}: class {name!r} has no training image; list the others in data.classes"
            )
    if 0 < limit < least:
        raise InputError(f"data.limit: {limit} leaves classes empty; it takes 0 or at least {least}")

    streams = {"train": 0, "validation": 1, "test": 2}
    orders = {split: spread(part.labels, seed, streams[split]) for split, part in raw.parts.items()}
    whole = orders["train"]
    cut = {
        split: round(fraction * len(whole))
        for split, fraction in fractions.items()
        if fraction and split not in raw.parts
    }
    end = len(whole) - sum(cut.values())
    if end < least or not all(cut.values()):
        sizes = ", ".join(f"{size} for {split}" for split, size in {"train": end, **cut}.items())
        raise InputError(
            f"{source}: {len(whole)} images cannot be split ({sizes}); train takes {least}, others 1: "
            "change data.validation_fraction or data.test_fraction"
        )
    chosen = {split: (part, orders[split]) for split, part in raw.parts.items()}
    chosen["train"] = raw.parts["train"], whole[:end]
    for split, size in cut.items():
        chosen[split] = raw.parts["train"], whole[end : end + size]
        end += size
    kept = {split: max(1, round(share * len(index))) for split, (_, index) in chosen.items()}
    if kept["train"] < least:
        raise InputError(
            f"data.fraction: {share} leaves {kept['train']} training images; {source} takes {least} for its "
            "classes: take more"
        )
    return {
        split: (part, np.sort(index[: min(kept[split], limit or len(index))]))
        for split, (part, index) in chosen.items()
    }


def balanced_weights(labels: np.ndarray, classes: int) -> np.ndarray:
    """N / (classes · N_c), float32 [classes], from labels [N]: every class weighs the same in the loss."""
    return (len(labels) / (classes * np.bincount(labels, minlength=classes))).astype(np.float32)
