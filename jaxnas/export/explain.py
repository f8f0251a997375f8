"""`jaxnas predict`: what a network in a folder says of images, and where it finds its reasons."""

from pathlib import Path
from typing import Any

import numpy as np

from jaxnas import data
from jaxnas.errors import InputError
from jaxnas.export import gradcam, sheet
from jaxnas.export.folder import require_images
from jaxnas.export.predict import Classifier
from jaxnas.training import task as tasks

SHOWN = 8  # correct and wrong validation images, each


def open_folder(folder: Path) -> tuple[Path, Classifier]:
    """The network in `folder`, or in its best/ where it is a run.

    Raises:
      InputError: there is none, or the file is damaged.
    """
    for path in (folder, folder / "best"):
        if (path / "model.stablehlo").exists():
            try:
                classifier = Classifier(path)
                if missing := {"task", "classes", "input_shape", "data"} - classifier.about.keys():
                    raise ValueError(f"architecture.json lacks {', '.join(sorted(missing))}")
            except Exception as error:  # jax raises anything on a damaged file
                raise InputError(
                    f"{path}: cannot be loaded ({error}); write it anew by `jaxnas export`"
                ) from None
            return path, classifier
    if (folder / "trials.csv").exists():
        raise InputError(
            f"{folder}: has no best/model.stablehlo: it trains no networks, or none has succeeded yet"
        )
    raise InputError(
        f"{folder}: no network is here (no model.stablehlo); it takes a run, its best/, or a folder of "
        "`jaxnas export`"
    )


def kind_of(classifier: Classifier) -> str:
    """What the network was trained on; folders of before there were other kinds have images."""
    return classifier.about.get("kind", "image")


def read(classifier: Classifier, paths: list[Path]) -> np.ndarray:  # → uint8 [N, H, W, C]
    """Image files.

    Raises:
      InputError: one that is no image, or the network takes inputs of another kind.
    """
    require_images("predict", kind_of(classifier))
    try:
        return np.stack([classifier.read(path) for path in paths])
    except ValueError as error:
        raise InputError(str(error)) from None


def check(path: Path) -> None:
    """Raise an InputError if reasons cannot be drawn to a file of that name, or one is there."""
    if path.suffix.lower() != ".png":
        raise InputError(f"--explain: got {str(path)!r}; it takes a file name that ends in .png")
    if path.exists():  # it may be an image that was meant to be explained
        raise InputError(f"--explain: {path} exists; it takes the name of a new file, which is drawn to")


def write(path: Path, folder: Path, classifier: Classifier, images: list[Path]) -> None:
    """Draw the reasons for image files, or without any those for validation images, to a PNG file.

    Raises:
      InputError: the file's name does not end in .png, is taken, or cannot be written; or the network takes
        no images.
    """
    check(path)
    require_images("--explain", kind_of(classifier))
    page = files(folder, classifier, images) if images else validation(folder, classifier)
    try:
        page.save(path)
    except OSError as error:
        raise InputError(f"--explain: cannot write {path}: {error.strerror}") from None


def files(folder: Path, classifier: Classifier, paths: list[Path]) -> Any:
    """A PIL image: image files under what speaks for the class that is predicted."""
    images = read(classifier, paths)
    probabilities = classifier.probabilities(classifier.outputs(images))
    targets = probabilities.argmax(axis=1)
    captions = [
        (path.name, f"{classifier.about['classes'][c]} {p[c]:.3f}")
        for path, p, c in zip(paths, probabilities, targets, strict=True)
    ]
    return sheet.draw([("", _pictures(folder, classifier, images, targets, captions))])


def validation(folder: Path, classifier: Classifier) -> Any:
    """A PIL image: correct and wrong validation images under what speaks for the class that is predicted.

    Raises:
      InputError: a task without right and wrong, or other data than those of the training.
    """
    about = classifier.about
    if tasks.named(about["task"]).predict is None:
        raise InputError(f"--explain: task {about['task']} has no wrong images; give image files")
    dataset = data.load(**about["data"])
    images, labels = dataset.validation
    if list(images.shape[1:]) != about["input_shape"] or list(dataset.classes) != about["classes"]:
        raise InputError(f"{folder}: the data are not those that it was trained on; give image files")
    probabilities = classifier.probabilities(classifier.outputs(images))
    predicted = probabilities.argmax(axis=1)
    sections = []
    for title, chosen in (("correct", predicted == labels), ("wrong", predicted != labels)):
        rows = np.flatnonzero(chosen)
        # As many of each class as there are, in turn.
        rank = [np.sum(labels[rows[:i]] == labels[n]) for i, n in enumerate(rows)]
        shown = rows[np.lexsort((labels[rows], rank))][:SHOWN] if len(rows) else rows
        captions = [
            (
                f"validation {n}: {about['classes'][labels[n]]}",
                f"predicted {about['classes'][predicted[n]]} {probabilities[n].max():.3f}",
            )
            for n in shown
        ]
        pictures = _pictures(folder, classifier, images[shown], predicted[shown], captions)
        sections.append((f"{title}: {len(rows)} of {len(labels)}", pictures))
    return sheet.draw(sections)


def _pictures(
    folder: Path, classifier: Classifier, images: np.ndarray, targets: np.ndarray, captions: list[tuple]
) -> list[sheet.Picture]:
    if not len(images):
        return []
    module, task = gradcam.model_of(folder), tasks.named(classifier.about["task"])
    heat = gradcam.heatmaps(module, gradcam.load(folder, module), images, targets, task)
    return [sheet.Picture(*parts) for parts in zip(images, heat, captions, strict=True)]
