"""The command line: parses it, runs the command, and says in one line what is wrong with the input.

Bad input ends in one line on stderr and exit code 2; an interrupt in a saved run and exit code 128 + signal.
"""

import os
import sys
from collections.abc import Sequence

from jaxnas.commands import arguments
from jaxnas.errors import InputError


def main(words: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code."""
    words = sys.argv[1:] if words is None else words
    if os.getcwd() not in sys.path:  # a user's own parts, package.module:factory, may lie here
        sys.path.append(os.getcwd())
    try:
        named = [word for word in words if word in arguments.COMMANDS][:1]
        options, rest = arguments.parser(named).parse_known_args(words)
        if rest and not arguments.COMMANDS[options.command].takes_overrides:
            raise InputError(f"unknown argument {rest[0]!r}; see `jaxnas {options.command} --help`")
        return arguments.module_of(options.command).run(options, rest)
    except InputError as error:
        print(f"jaxnas: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


if __name__ == "__main__":
    sys.exit(main())
