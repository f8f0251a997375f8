"""What a user got wrong, in one line."""

import difflib
from collections.abc import Iterable
from typing import Any


class InputError(ValueError):
    """Bad input: the message is one line that names the key or file, what was found, and the fix."""

    def __init__(self, message: str):
        super().__init__(" ".join(str(message).split()))


def unknown(kind: str, got: str, valid: Iterable[str]) -> InputError:
    """An InputError for a name that is not in `valid`, with the nearest one that is."""
    valid = sorted(valid)
    near = difflib.get_close_matches(str(got), valid, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? It" if near else "it"
    return InputError(f"{kind}: unknown name {got!r}; {hint} takes one of: {', '.join(valid)}")


def require(section: str, *options: tuple[str, Any, bool, str]) -> None:
    """Raise an InputError for the first (name, value, whether it is good, what it takes) that is bad."""
    for name, value, good, takes in options:
        if not good:
            raise InputError(f"{section}.{name}: got {value}; it takes {takes}")
