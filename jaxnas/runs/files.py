"""Files and folders that are whole at any moment, whenever the process is killed."""

import contextlib
import ctypes
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

EXCHANGE = 2  # RENAME_EXCHANGE of Linux's renameat2
HERE = -100  # AT_FDCWD


def write_atomic(path: Path, content: bytes) -> None:
    """Write a whole file or nothing: to a temporary file beside it, flushed to disk, then renamed.

    The temporary file has one name, for the run has one owner: what a kill leaves is overwritten.
    """
    unfinished = path.with_name(f".{path.name}.tmp")
    with open(unfinished, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(unfinished, path)


def write_folder(path: Path, files: Mapping[str, bytes]) -> None:
    """Make `path` a folder of exactly these files, in one step, whatever it held before.

    They are written to a folder beside it, flushed to disk, and the two names are exchanged. Where a system
    cannot exchange names there are two renames; after a kill between them `repair` brings the old one back.
    """
    repair(path)
    fresh, old = _beside(path)
    fresh.mkdir(parents=True)
    for name, content in files.items():
        write_atomic(fresh / name, content)
    _flush(fresh)
    if not path.exists():
        fresh.rename(path)
    elif _exchange(fresh, path):
        shutil.rmtree(fresh)
    else:
        path.rename(old)
        fresh.rename(path)
        shutil.rmtree(old)
    _flush(path.parent)


def repair(path: Path) -> None:
    """Remove what a killed `write_folder` has left beside the folder, or bring the old folder back."""
    fresh, old = _beside(path)
    if old.exists() and not path.exists():
        old.rename(path)
    for left in (fresh, old):
        shutil.rmtree(left, ignore_errors=not left.exists())


def _beside(path: Path) -> tuple[Path, Path]:
    return path.with_name(f".{path.name}.tmp"), path.with_name(f".{path.name}.old")


def _exchange(a: Path, b: Path) -> bool:
    """Exchange the names of two folders in one step; False where the system cannot."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None) if os.name == "posix" else None
    return rename is not None and rename(HERE, os.fsencode(a), HERE, os.fsencode(b), EXCHANGE) == 0


def _flush(folder: Path) -> None:
    """The names in a folder to disk, where a folder can be opened."""
    with contextlib.suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
