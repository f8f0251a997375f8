"""`jaxnas list`: what a configuration can name, described by the docstrings of the modules that hold it."""

import argparse
import shutil
import sys

from jaxnas import config, data
from jaxnas.config import listing
from jaxnas.errors import unknown


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("kind", nargs="?", help="spaces, controllers, evaluators, rewards, networks or data")


def run(options: argparse.Namespace, _: list[str]) -> int:
    """Print a line an entry, or all that is known of the entries of one kind."""
    kinds = {f"{section}s": registry for section, registry in config.registries().items()}
    kinds["data"] = data.REGISTRY
    if options.kind is not None and options.kind not in kinds:
        raise unknown("list", options.kind, kinds)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for kind, registry in kinds.items():
        if options.kind in (None, kind):
            print(f"{kind}:")
            print("\n".join(listing.lines(registry, details=options.kind is not None, width=width)))
    return 0
