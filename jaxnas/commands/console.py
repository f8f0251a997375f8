"""Text on a terminal: the console, tables, numbers and durations as all commands print them."""

import re
import sys

from rich import box
from rich.console import Console
from rich.table import Table


def terminal() -> Console:
    """A console that prints text as it is: no markup, no wrapping."""
    return Console(highlight=False, soft_wrap=True, markup=False, emoji=False)


def print_table(console: Console, rows: list[list[str]]) -> None:
    """Print rows, the first of which is the heading."""
    table = Table(*rows[0], box=box.SIMPLE_HEAD, show_edge=False)
    for row in rows[1:]:
        table.add_row(*row)
    console.print(table)


def short(text: str) -> str:
    """A number of a ledger with four decimals at most."""
    return f"{float(text):.4f}" if re.fullmatch(r"-?\d+\.\d{5,}", text) else text


def clock(seconds: float) -> str:
    """A duration, such as 2 min 05 s."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours} h {minutes:02} min"
        if hours
        else f"{minutes} min {seconds:02} s"
        if minutes
        else f"{seconds} s"
    )


def print_check(agrees: bool, text: str) -> None:
    """Print what the check of an exported network found, on stderr if the network does not agree."""
    print(f"{'' if agrees else 'jaxnas: '}{text}", file=sys.stdout if agrees else sys.stderr)
