"""`jaxnas search`: the search that a configuration describes, in a new folder."""

import argparse
from pathlib import Path

from jaxnas import config
from jaxnas.commands import dry_run, execution, start
from jaxnas.errors import InputError
from jaxnas.runs import process, provenance


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments; the parser is an option too, for with CONFIG `--help` shows more than it."""
    parser.add_argument(
        "config", nargs="?", metavar="CONFIG", help="a TOML file, such as configs/quickstart.toml"
    )
    parser.add_argument("--folder", default="checkpoints", help="where runs are written")
    parser.add_argument(
        "--seeds", metavar="N", help="run N searches at once, for their statistics: --search.seeds N"
    )
    parser.add_argument("--ledgers", action="store_true", help="with --seeds: keep the trials.csv of each")
    parser.add_argument("--log", metavar="WHERE", help="tensorboard: event files too: --search.log WHERE")
    parser.add_argument(
        "--dry-run", action="store_true", help="show size, first architectures, memory and time"
    )
    parser.add_argument(
        "-h", "--help", action="store_true", help="with CONFIG, show every flag that it takes"
    )
    parser.set_defaults(parser=parser)


def run(options: argparse.Namespace, overrides: list[str]) -> int:
    """Run the search, or say what it would do."""
    if options.config is None:
        if options.help:
            print(options.parser.format_help())
            return 0
        raise InputError("search: no configuration; it takes a TOML file such as configs/quickstart.toml")
    overrides = [*overrides, *(["--search.ledgers"] if options.ledgers else [])]
    overrides += ["--search.seeds", options.seeds] if options.seeds is not None else []
    overrides += ["--search.log", options.log] if options.log is not None else []
    if options.help:
        print(options.parser.format_help())
        print(config.usage(options.config, overrides))
        return 0
    settings = config.load(options.config, overrides)
    provenance.prepare(cpu_devices=settings.runtime.cpu_devices, deterministic=settings.runtime.deterministic)
    if settings.search.log == "tensorboard":
        from jaxnas.log import tensorboard

        tensorboard.package()  # an InputError comes now
    if options.dry_run:
        dry_run.show(settings)
        return 0
    named = any(word.split("=")[0] == "--search.name" for word in overrides)
    settings, searches, folder, parts = start.begin(settings, Path(options.folder), named)
    with process.owned(folder):
        return execution.execute_and_print(settings, searches, folder, parts)
