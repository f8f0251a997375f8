"""What a configuration can name, described by the docstrings of the modules that hold it.

A module's docstring begins with what it is; a paragraph with a link is its source; one that begins with
"Suits" says when to take it.
"""

import inspect
import sys
import textwrap
from collections.abc import Callable, Mapping
from typing import NamedTuple


class Entry(NamedTuple):
    """What is known of a factory."""

    what: str
    source: str  # a paper, or other software; may be empty
    file: str  # within the package's parent folder
    suits: str


def entry(factory: Callable) -> Entry:
    """What a factory's module says of itself; the factory's own docstring where several share the module."""
    module = sys.modules[factory.__module__]
    shared = [name for name, other in vars(module).items() if is_public(name, other, factory.__module__)]
    paragraphs = _paragraphs(module.__doc__ or "")
    file = f"{factory.__module__.replace('.', '/')}.py"
    if len(shared) > 1 and not any(text.startswith("Suits ") for text in paragraphs):
        return Entry(_paragraphs(inspect.getdoc(factory) or "")[0], "", file, "")
    links = [text for text in paragraphs[1:] if "http" in text and not text.startswith("Suits ")]
    suits = next((text for text in paragraphs if text.startswith("Suits ")), "")
    return Entry(paragraphs[0], links[0] if links else "", file, suits.removeprefix("Suits "))


def is_public(name: str, value: object, module: str) -> bool:
    """Whether `value` is a function that `module` defines for others."""
    return inspect.isfunction(value) and value.__module__ == module and not name.startswith("_")


def lines(registry: Mapping[str, Callable], *, details: bool, width: int | None = None) -> list[str]:
    """A registry for a terminal: a line an entry, or all that is known of each; wrapped to a `width`."""
    entries: list[tuple[str, int]] = []  # lines, and how far what is wrapped is indented
    for name, factory in sorted(registry.items()):
        about = entry(factory)
        if not details:
            entries.append((f"  {name:24} {about.what}", 27))
            continue
        entries += [(f"  {name}", 4), (f"    {about.what}", 4)]
        labels = {"source": about.source, "file": about.file, "suits": about.suits}
        entries += [(f"    {label + ':':8}{text}", 12) for label, text in labels.items() if text]
    if width is None:
        return [line for line, _ in entries]
    wrapped = textwrap.TextWrapper(width, break_long_words=False, break_on_hyphens=False)
    lines = []
    for line, indent in entries:
        wrapped.subsequent_indent = " " * indent
        lines += wrapped.wrap(line)
    return lines


def _paragraphs(doc: str) -> list[str]:
    return [" ".join(part.split()) for part in inspect.cleandoc(doc).split("\n\n")]
