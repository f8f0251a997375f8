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
from jaxnas.spaces.stages_parts import stages_of

# Pixels that a child sees: of images up to KEPT their own size, else so many by the shorter side.
KEPT, SIZES = 40, ((100, 48), (10**9, 64))
MINUTES = 10  # on CORES cores, of which SHARE trains: half of it the trials, half the final networks
CORES, SHARE = 2, 0.7
SECONDS = 6.5e-7  # of a core to train on one pixel of an image once (measured, docs/images.md)
BUDGET, TOP = 12, 3  # trials, and networks that are trained to the end
EPOCHS = (4, 200)  # of the final networks; a trial runs a whole schedule of a quarter of them
PARAMS = 10_000
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
    stages: int
    limit: int
    train: int  # images that a child is trained on
    validation: int  # images that it is measured on
    epochs: int  # of a trial
    final_epochs: int
    class_weights: str


def choose(survey: Survey) -> Choices:
    """A search of about MINUTES on two cores, its final training included."""
    counts = survey.counts["train"]
    side = int(np.median(survey.sizes.min(axis=1)))
    size = side if side <= KEPT else next(size for most, size in SIZES if side <= most)
    shares = {split: 0.2 for split in ("validation", "test") if split not in survey.counts}
    whole = sum(counts.values())
    train = whole - sum(round(share * whole) for share in shares.values())
    validation = sum(survey.counts.get("validation", {}).values()) or round(0.2 * whole)
    # Images that one network can be shown, again and again, in its share of the time.
    shown = CORES * 60 * MINUTES * SHARE / 2 / (SECONDS * size**2)
    final_epochs = int(np.clip(round(shown / TOP / train), *EPOCHS))
    # Every prefix of a split holds the classes in proportion, so a limit keeps the rarest of them.
    rarest = whole / min(counts.values())
    bound = max(round(shown / BUDGET / EPOCHS[0]), round(2 * rarest))
    limit = bound if train > bound else 0
    train, validation = min(train, bound), min(validation, bound) if limit else validation
    return Choices(
        image_size=size,
        color="gray" if survey.is_gray else "rgb",
        stages=stages_of((size, size, 1)),
        limit=limit,
        train=train,
        validation=validation,
        epochs=max(EPOCHS[0], min(round(shown / BUDGET / train), final_epochs // 4)),
        final_epochs=final_epochs,
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
    limited = "images of each split for a trial; the final networks are trained on all of them"
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
        "search": [
            ("budget", BUDGET, "networks to try; more find better ones, `jaxnas resume` goes on"),
            ("duplicates", "resample", "a network that was tried is not tried again"),
        ],
        "space": [
            ("name", "stages", "blocks of convolutions in stages; others: `jaxnas list spaces`"),
            ("stages", chosen.stages, f"each halves the {chosen.image_size} pixels"),
            ("min_stages", chosen.stages, "all of them are always there: fewer see too little of an image"),
            ("blocks", ["conv", "residual", "separable"], "those that train fast on a CPU"),
            ("widths", [8, 12, 16, 24, 32], "channels of a stage"),
            ("kernels", [3], "pixels of a window; one size means fewer programs to compile"),
            ("repeats", [1, 2], "blocks of a stage"),
            ("attention", [False], "squeeze and excitation: slower, rarely better at this size"),
            ("max_params", PARAMS, "parameters at most; a larger network may be more accurate"),
            ("mirror", True, "whether mirror images help is tried out, for some classes differ in it"),
            ("light", True, "so is whether changes of brightness, contrast and colour do"),
        ],
        "controller": [
            ("name", "priority_queue", "learns from few trials; others: `jaxnas list controllers`"),
            ("batch_size", 4, "networks a round"),
        ],
        "reward": [
            ("name", "accuracy_minus_params", "of equals the smaller network"),
            ("weight", 1e-6, "10,000 parameters weigh as much as an accuracy of 0.01"),
        ],
        "data": data,
        "trainer": [
            ("recipe", "strong", "one cycle of the learning rate, augmentation, mixup: docs/trainer.md"),
            ("epochs", chosen.epochs, f"of {chosen.train} training images: a short schedule, run to its end"),
            ("padding", "width", "networks that differ in width share a program: less to compile"),
        ],
        "final": [
            ("top", TOP, f"best networks that are trained to the end; one of them becomes best/{uncertain}"),
            ("epochs", chosen.final_epochs, "of each"),
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
