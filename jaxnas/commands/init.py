"""A configuration for a user's own image folder, each choice with its reason in a comment."""

import argparse
import os
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxnas import config
from jaxnas.config import options
from jaxnas.data import survey
from jaxnas.data.survey import Survey
from jaxnas.errors import InputError

SMALL, LARGE = 32, 48  # pixels that a child sees: of images up to SMALL_UP_TO, and of larger ones
SMALL_UP_TO = 100
IMAGES = 2000  # of each split, at most
PASSES = 8000  # training images that one child sees, all epochs together
EPOCHS = (4, 30)
BUDGET = 32
NAMED = 5  # damaged files that are named


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "images", metavar="FOLDER", help="CLASS/IMAGE…, or train/CLASS/IMAGE… and test/ beside"
    )
    parser.add_argument("--out", type=Path, metavar="FILE.toml", help="by default FOLDER.toml, here")


def run(options: argparse.Namespace, _: list[str]) -> int:
    """Write the configuration, and say what was seen of the images."""
    file = target(options.images, options.out)
    surveyed = survey.survey(options.images)
    write(file, configuration(options.images, surveyed, file))
    print("\n".join(describe(surveyed)))
    if surveyed.damaged:
        print(f"jaxnas: {warning(surveyed.damaged)}", file=sys.stderr)
    print(f"\n{file} is written. Next: jaxnas search {shlex.quote(str(file))}")
    return 0


class Choices(NamedTuple):
    """What follows from a survey."""

    image_size: int
    color: str
    num_blocks: int
    limit: int
    train: int  # images that a child is trained on
    validation: int  # images that it is measured on
    epochs: int
    class_weights: str


def choose(survey: Survey) -> Choices:
    """A search of some minutes on two cores."""
    counts = survey.counts["train"]
    side = int(np.median(survey.sizes.min(axis=1)))
    size = side if side <= 1.25 * SMALL else SMALL if side <= SMALL_UP_TO else LARGE
    # Every prefix of a split holds the classes in proportion, so a limit keeps the rarest of them.
    rarest = sum(counts.values()) / min(counts.values())
    bound = max(IMAGES, round(2 * rarest))
    shares = {split: 0.2 for split in ("validation", "test") if split not in survey.counts}
    whole = sum(counts.values())
    train = whole - sum(round(share * whole) for share in shares.values())
    validation = sum(survey.counts.get("validation", {}).values()) or round(0.2 * whole)
    limit = bound if max(train, validation) > bound else 0
    train, validation = min(train, bound), min(validation, bound)
    return Choices(
        image_size=size,
        color="gray" if survey.is_gray else "rgb",
        num_blocks=3 if size >= 24 else 2 if size >= 8 else 1,
        limit=limit,
        train=train,
        validation=validation,
        epochs=int(np.clip(round(PASSES / train), *EPOCHS)),
        class_weights="balanced" if max(counts.values()) >= 2 * min(counts.values()) else "none",
    )


def describe(survey: Survey) -> list[str]:
    """What was found, a line each."""
    lines = []
    for split, counts in survey.counts.items():
        least, most = min(counts, key=lambda c: counts[c]), max(counts, key=lambda c: counts[c])
        spread = f"{counts[least]} ({_line(least)}) to {counts[most]} ({_line(most)})"
        count = counts[least] if counts[least] == counts[most] else spread
        lines.append(f"{split}: {sum(counts.values())} images of {len(counts)} classes, {count} a class")
    (low, wide), (high, long) = survey.sizes.min(axis=0), survey.sizes.max(axis=0)
    same = (low, wide) == (high, long)
    sizes = f"{low} × {wide}" if same else f"{low} × {wide} to {high} × {long}"
    return [*lines, f"{sizes} pixels (height × width), {'gray' if survey.is_gray else 'colour'}"]


def configuration(path: str, survey: Survey, file: Path) -> str:
    """The text of the TOML file `file`."""
    chosen, counts = choose(survey), survey.counts
    splits = [split for split in ("validation", "test") if split not in counts]
    error = 0.5 / np.sqrt(max(chosen.validation, 1))
    damaged = [f"{len(survey.damaged)} files are no readable images; a search stops at them:"] * bool(
        survey.damaged
    )
    damaged += ["    " + _line(text) for text in survey.damaged[:NAMED]]
    damaged += ["    …"] * (len(survey.damaged) > NAMED)
    header = [
        f"Small networks for the images in {_line(path)}, written by `jaxnas init`; edit it as you like.",
        "",
        *describe(survey),
        *damaged,
        "",
        f"    jaxnas search {_line(shlex.quote(str(file)))} --dry-run    # first networks, memory and time",
        f"    jaxnas search {_line(shlex.quote(str(file)))} --help       # every other key",
    ]
    stored = (survey.sizes == chosen.image_size).all()
    resized = "every image becomes a square of so many pixels; more shows detail, time grows with its square"
    limited = "images of each split, for a quick search; `jaxnas retrain RUN --data.limit 0` takes all"
    data = [
        ("source", f"folder:{path}", ""),
        ("image_size", chosen.image_size, "the size of the images" if stored else resized),
        ("color", chosen.color, "no image has colours" if survey.is_gray else "gray if colour says nothing"),
        ("limit", chosen.limit, limited if chosen.limit else "all images: they are few enough"),
        *(
            (f"{split}_fraction", 0.2, f"there is no folder {split}/: a fifth of the images of each class")
            for split in splits
        ),
    ]
    uncertain = f"; by {chosen.validation} an accuracy is known to ± {error:.2f}" if error > 0.03 else ""
    if chosen.class_weights != "none":
        reason = "some classes have twice the images of others, or more: each weighs the same in training"
        data.append(("class_weights", chosen.class_weights, reason))
        reason = (
            "and each weighs the same here: by plain accuracy always answering the commonest one does well"
        )
        data.append(("measure", "balanced_accuracy", reason))
    sections = {
        "search": [("budget", BUDGET, "networks to train; more find better ones, `jaxnas resume` goes on")],
        "space": [
            ("name", "blocks", "convolution, pooling and dropout; others: `jaxnas list spaces`"),
            ("num_blocks", chosen.num_blocks, f"each halves the {chosen.image_size} pixels"),
            ("filters", [8, 16, 32], "narrow layers: small networks, quick on a CPU"),
        ],
        "controller": [
            ("name", "priority_queue", "learns from few trials; others: `jaxnas list controllers`"),
            ("batch_size", 8, "networks a round"),
        ],
        "reward": [
            ("name", "accuracy_minus_params", "of equals the smaller network"),
            ("weight", 1e-7, "100,000 parameters weigh as much as an accuracy of 0.01"),
        ],
        "data": data,
        "trainer": [
            ("epochs", chosen.epochs, f"of {chosen.train} training images"),
            ("patience", max(2, chosen.epochs // 4), "epochs without a better one that end the training"),
            ("weights", "best", f"of the best epoch, by the validation images{uncertain}"),
            ("batch_size", 32, ""),
            ("learning_rate", 2e-3, ""),
            ("flip", True, "mirror images are as good; false for letters, digits, left and right"),
            ("padding", "width", "networks that differ in width share a program: less to compile"),
        ],
    }
    lines = [f"# {line}".rstrip() for line in header]
    for section, entries in sections.items():
        lines += ["", f"[{section}]"]
        for key, value, reason in entries:
            lines += [f"# {reason[:1].upper()}{reason[1:]}."] * bool(reason)
            lines.append(f"{key} = {options.show(value)}")
    return "\n".join(lines) + "\n"


def target(path: str, out: Path | None) -> Path:
    """Where the configuration goes: `out`, or a TOML file here with the folder's name.

    Raises:
      InputError: the file exists, or its name is none for a run.
    """
    file = out or Path(f"{Path(os.path.expanduser(path)).resolve().name}.toml")
    if file.exists():
        raise InputError(f"{file}: exists already; delete it, or give another name by --out FILE.toml")
    if file.suffix != ".toml" or not config.is_folder_name(file.stem):
        raise InputError(f"--out: got {str(file)!r}; it takes a file name that ends in .toml")
    return file


def write(file: Path, text: str) -> None:
    """Write a new file, never over another.

    Raises:
      InputError: it exists by now, or cannot be written.
    """
    try:
        with open(file, "x", encoding="utf-8") as opened:
            opened.write(text)
    except OSError as error:
        raise InputError(f"{file}: cannot write the configuration: {error.strerror}") from None


def warning(damaged: Iterable[str]) -> str:
    """One line about files that are no readable images."""
    first, *others = damaged
    more = f" and {len(others)} more" if others else ""
    return f"{_line(first)}{more}: remove what cannot be read, a search stops there"


def _line(text: str) -> str:
    """Text that a comment can hold."""
    return text if text.isprintable() else repr(text)
