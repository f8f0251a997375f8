"""`jaxnas complete`: a script by which a shell completes commands and flags."""

import argparse

import shtab

from jaxnas.commands import arguments

FILES = ("config", "out")  # arguments that name a file
FOLDERS = ("run", "runs", "folder", "images")


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("shell", choices=("bash", "zsh"), help="which shell")


def run(options: argparse.Namespace, _: list[str]) -> int:
    """Print the script."""
    parser = arguments.parser()
    (commands,) = (action.choices for action in parser._actions if isinstance(action.choices, dict))
    for command in commands.values():
        for action in command._actions:
            if action.dest in FILES:
                action.complete = shtab.FILE
            elif action.dest in FOLDERS:
                action.complete = shtab.DIRECTORY
    print(shtab.complete(parser, options.shell))
    return 0
