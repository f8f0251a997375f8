"""The commands by name, each with its file, its description and an example, and the parser of `jaxnas`.

A command's file has `add(parser)`, which declares its arguments, and `run(options, rest)`, which does its
work and returns the exit code. It is imported only when the command is called: `jaxnas --help` stays quick.
"""

import argparse
import importlib
import re
from collections.abc import Collection
from typing import Any, NamedTuple, NoReturn

from jaxnas.errors import InputError, unknown


class Command(NamedTuple):
    """What is known of a command without its file."""

    file: str  # within jaxnas/commands, without .py
    text: str  # its first sentence is shown among all commands
    example: str
    takes_overrides: bool = False  # whether `rest` may hold flags of the configuration
    declares_help: bool = False  # whether its file has a --help in place of argparse's


COMMANDS = {
    "init": Command(
        "init",
        "Look at a folder of images and write a configuration for it.",
        "jaxnas init my_images",
    ),
    "search": Command(
        "search",
        "Run the search that a configuration describes.",
        "jaxnas search configs/quickstart.toml --search.budget 40 --controller.learning-rate 0.02",
        takes_overrides=True,
        declares_help=True,
    ),
    "resume": Command(
        "resume",
        "Go on with a run from its last checkpoint.",
        "jaxnas resume checkpoints/quickstart --budget 200",
    ),
    "compare": Command(
        "compare",
        "Run controllers at equal budget, many searches each.",
        "jaxnas compare configs/compare_mock.toml --compare.seeds 50",
        takes_overrides=True,
    ),
    "sample": Command(
        "sample",
        "Measure networks that a run's policy proposes. Its greedy one too.",
        "jaxnas sample checkpoints/quickstart -n 50",
    ),
    "retrain": Command(
        "retrain",
        "Train a run's best networks for longer, with test accuracies. "
        "Options of network, data and trainer can be given anew, such as --data.fraction 1.0.",
        "jaxnas retrain checkpoints/quickstart --top 5 --data.limit 500 --name small",
        takes_overrides=True,
    ),
    "export": Command(
        "export",
        "Write a trial of a run as a folder that runs without jaxnas.",
        "jaxnas export checkpoints/quickstart --trial 17",
    ),
    "predict": Command(
        "predict",
        "Classify image files by a network of a run; show its reasons.",
        "jaxnas predict checkpoints/quickstart digit.png --explain reasons.png",
    ),
    "report": Command(
        "report",
        "Compare runs: a table, figures and a page.",
        "jaxnas report checkpoints/rlmednas_random checkpoints/rlmednas_masked",
    ),
    "watch": Command(
        "watch",
        "Show a run's page on localhost while its search goes on.",
        "jaxnas watch checkpoints/quickstart",
    ),
    "tabulate": Command(
        "tabulate",
        "Write what runs measured as a table to search.",
        "jaxnas tabulate checkpoints/rlmednas_random checkpoints/rlmednas_masked --out measured.csv",
    ),
    "list": Command("listing", "Show what a configuration can name.", "jaxnas list controllers"),
    "cache": Command("cache", "Show where compiled programs are kept, or delete them.", "jaxnas cache clear"),
    "complete": Command(
        "complete",
        "Print a script by which a shell completes commands and flags.",
        "jaxnas complete bash > jaxnas.bash",
    ),
}


def module_of(name: str) -> Any:
    """The module of a command, with its `add` and `run`."""
    return importlib.import_module(f"jaxnas.commands.{COMMANDS[name].file}")


def parser(declared: Collection[str] = tuple(COMMANDS)) -> argparse.ArgumentParser:
    """Of all commands, with the arguments of those in `declared`."""
    top = _Parser(
        "jaxnas", description="Neural architecture search by reinforcement learning.", allow_abbrev=False
    )
    top.add_argument("--version", action="version", version=_version())
    subparsers = top.add_subparsers(dest="command", required=True, parser_class=_Parser, metavar="COMMAND")
    for name, command in COMMANDS.items():
        subparser = subparsers.add_parser(
            name,
            help=f"{command.text.split('. ')[0].rstrip('.')}.",
            description=command.text,
            epilog=f"example: {command.example}",
            allow_abbrev=False,
            add_help=not command.declares_help,
        )
        if name in declared:
            module_of(name).add(subparser)
    return top


class _Parser(argparse.ArgumentParser):
    """argparse whose errors are InputErrors."""

    def error(self, message: str) -> NoReturn:
        if match := re.match(r"argument COMMAND: invalid choice: '(.*?)'", message):
            raise unknown("jaxnas", match[1], COMMANDS)
        raise InputError(f"{message}; see `{self.prog} --help`")


def _version() -> str:
    from jaxnas import __version__

    return f"jaxnas {__version__}"
