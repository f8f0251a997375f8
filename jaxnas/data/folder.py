"""Image files in `<class>/…`, or in `train/<class>/…` with `validation` (or `val`) and `test` beside it.

Suits your own images; `jaxnas init FOLDER` writes a configuration for them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jaxnas.data.arrays import SPLITS, Part, Raw, split_names
from jaxnas.errors import InputError, unknown


@dataclass(frozen=True)
class Files(Sequence):
    """Image files as a sequence of arrays, each decoded when it is asked for."""

    paths: list[Path]

    def __len__(self) -> int:
        """How many."""
        return len(self.paths)

    def __getitem__(self, index: int) -> np.ndarray:  # type: ignore
        """Image `index`: uint8 [H, W] if it is gray, otherwise [H, W, 3]."""
        from PIL import Image

        try:
            with Image.open(self.paths[index]) as image:
                if image.mode.startswith(("I", "F")):
                    raise ValueError(f"mode {image.mode}; images take 8 bits a channel")
                return np.asarray(image.convert("L" if image.mode in ("1", "L", "LA") else "RGB"))
        except Exception as error:  # a decoder may raise anything on a damaged file
            raise InputError(f"{self.paths[index]}: not a readable image ({error})") from error


def load(argument: str) -> Raw:
    """The images of the folder `argument`; classes and files in alphabetical order, hidden ones skipped."""
    if not argument:
        raise InputError("data.source: 'folder' takes a path: folder:PATH")
    root = Path(argument).expanduser()
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; it takes one of <class>/<image files>")
    folders = _folders(root)
    names = split_names(root, folders) if SPLITS.keys() & set(folders) else {"train": "."}
    classes = _folders(root / names["train"])
    if not classes:
        raise InputError(
            f"{root / names['train']}: has no folders of classes; it takes <class>/<image files>"
        )
    return Raw({split: _part(root, name, classes) for split, name in names.items()}, classes=tuple(classes))


def _part(root: Path, name: str, classes: list[str]) -> Part:
    paths: list[Path] = []
    counts = np.zeros(len(classes), int)
    for label in _folders(root / name):
        if label not in classes:
            raise unknown(f"{root / name}", label, classes)
        files = sorted(
            path for path in (root / name / label).rglob("*") if path.is_file() and path.name[0] != "."
        )
        if not files:
            raise InputError(f"{root / name / label}: an empty class; it takes image files")
        counts[classes.index(label)] = len(files)
        paths += files
    return Part(Files(paths), np.repeat(np.arange(len(classes)), counts), [str(path) for path in paths])


def _folders(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir() if entry.is_dir() and entry.name[0] != ".")
