"""`jaxnas predict`: classify image files by a network of a run, and show the pixels that decide."""

import argparse
from pathlib import Path

from jaxnas.errors import InputError
from jaxnas.export import explain
from jaxnas.export.predict import check_confidence


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "folder", type=Path, metavar="FOLDER", help="a run, its best/, or a folder of `jaxnas export`"
    )
    parser.add_argument("images", nargs="*", type=Path, metavar="IMAGE", help="an image file")
    parser.add_argument(
        "--min-confidence",
        type=float,
        default=0.0,
        metavar="P",
        help='below this probability the answer is "none of these"',
    )
    parser.add_argument(
        "--explain",
        type=Path,
        metavar="FILE.png",
        help="draw Grad-CAM over the images, else over correct and wrong validation images",
    )


def run(options: argparse.Namespace, _: list[str]) -> int:
    """Print the class of every image; with --explain, draw where its reasons lie."""
    if not options.images and options.explain is None:
        raise InputError("predict: no image; it takes image files, or --explain FILE.png")
    if options.explain is not None:
        explain.check(options.explain)
    folder, classifier = explain.open_folder(options.folder)
    try:
        check_confidence(options.min_confidence, classifier.about["task"])
    except ValueError as error:
        raise InputError(str(error)) from None
    if options.images:
        images = explain.read(classifier, options.images)
        probabilities = classifier.probabilities(classifier.outputs(images))
        for path, row in zip(options.images, probabilities, strict=True):
            print(f"{path}: {classifier.describe(row, options.min_confidence)}")
    if options.explain is not None:
        explain.write(options.explain, folder, classifier, options.images)
        print(f"reasons: {options.explain}")
    return 0
