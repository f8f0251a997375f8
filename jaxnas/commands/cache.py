"""`jaxnas cache`: where compiled programs are kept for the next process."""

import argparse
import shutil

from jaxnas import machine
from jaxnas.errors import InputError


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("action", nargs="?", choices=("clear",), help="clear: delete them")


def run(options: argparse.Namespace, _: list[str]) -> int:
    """Say how much is kept and where, or delete it."""
    folder = machine.programs_folder()
    files = [path for path in folder.rglob("*") if path.is_file()]
    megabytes = sum(path.stat().st_size for path in files) / 2**20
    if options.action == "clear":
        try:
            shutil.rmtree(folder, ignore_errors=not folder.exists())
        except OSError as error:
            raise InputError(f"cache: cannot delete {folder}: {error.strerror}") from None
    done = "deleted" if options.action else "kept"
    print(f"{folder}: {len(files)} files of compiled programs, {megabytes:.1f} MB, {done}")
    return 0
