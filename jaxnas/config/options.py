"""Options between three forms: keyword-only parameters of a factory, TOML, and command-line flags.

A factory's options are those of its keyword-only parameters that TOML can write: `bool`, `int`, `float`,
`str`, `Literal` of strings, `dict`, and `tuple[…, ...]` of these, each with `| None` or without. Other
parameters are for callers in Python. TOML has no null: None is written "none", in a file and in a flag.
"""

import dataclasses
import functools
import inspect
import json
import re
import tomllib
from collections.abc import Callable, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import tyro

from jaxnas.errors import InputError, unknown

KINDS = {bool: "true or false", int: "an integer", float: "a number", str: "a string", dict: "a table"}


class Type(NamedTuple):
    """A type that TOML can write."""

    kind: type  # one of KINDS
    choices: tuple[str, ...]  # of a Literal
    is_array: bool
    is_optional: bool

    @classmethod
    def of(cls, hint: Any) -> "Type | None":
        """The type that an annotation stands for, or None where TOML cannot write it."""
        is_union = get_origin(hint) in (Union, UnionType)
        kinds = [kind for kind in get_args(hint) if kind is not NoneType] if is_union else [hint]
        is_array = get_origin(kinds[0]) is tuple and get_args(kinds[0])[1:] == (...,)
        kind = get_args(kinds[0])[0] if is_array else kinds[0]
        choices = get_args(kind) if get_origin(kind) is Literal else ()
        kind = str if choices else get_origin(kind) or kind
        known = len(kinds) == 1 and kind in KINDS and all(type(choice) is str for choice in choices)
        return cls(kind, choices, is_array, NoneType in get_args(hint)) if known else None

    def __str__(self) -> str:
        kind = f"one of {', '.join(self.choices)}" if self.choices else KINDS[self.kind]
        return (
            ("an array, each " if self.is_array else "") + kind + (' or "none"' if self.is_optional else "")
        )

    def has(self, value: Any) -> bool:
        """Whether `value`, or an item if this is an array, is of this kind; true is no integer."""
        if self.kind is float and type(value) is int:
            return abs(value) < 2**1023
        # NaN equals nothing, not even the NaN that it was written from.
        return type(value) is self.kind and value == value and (not self.choices or value in self.choices)

    def cast(self, value: Any, key: str) -> Any:
        """`value` as this type, or an InputError that names `key`."""
        if self.is_optional and value in (None, "none", "None"):
            return None
        items = value if self.is_array else [value]
        if not isinstance(items, list | tuple) or not all(map(self.has, items)):
            raise self.wrong(value, key)
        items = tuple(float(item) if self.kind is float else item for item in items)
        return items if self.is_array else items[0]

    @property
    def how(self) -> str:
        """How a flag is written that has this type."""
        return ", written in TOML" if self.kind is dict else ", separated by spaces" if self.is_array else ""

    def read(self, words: list[str], key: str) -> Any:
        """The words of a flag as this type, or an InputError that names `key`."""
        if self.is_optional and words in (["none"], ["None"]):
            return None
        is_one = self.kind is dict or not self.is_array  # an array of tables is one word of TOML
        try:
            if is_one and len(words) > 1:
                raise ValueError("too many words")
            items = [self._parse(word) for word in words]
        except (ValueError, LookupError, RecursionError):
            raise self.wrong(_lone(words), key, f"{self}{self.how}") from None
        return self.cast(items[0] if is_one else items, key)

    def _parse(self, word: str) -> Any:
        """A word of a flag as a file would have it; raises a ValueError or LookupError where it is none."""
        if self.kind is bool:
            return {"true": True, "false": False}[word.lower()]
        return _parse(word) if self.kind is dict else self.kind(word)

    def wrong(self, value: Any, key: str, takes: str = "") -> InputError:
        """The error for a value that is not of this type."""
        if self.choices and type(value) is str:
            return unknown(key, value, self.choices)
        return InputError(f"{key}: found {show(value)}; it takes {takes or self}")


def show(value: Any) -> str:
    """A value in one line of TOML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {show(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(show, value)) + "]"
    return json.dumps("none" if value is None else value, default=str, ensure_ascii=False)


def _parse(text: str) -> Any:
    (value,) = tomllib.loads(f"value = {text}").values()
    return value


# tyro, which writes the help and nothing else, has no words for a table.
TABLES = tyro.constructors.PrimitiveConstructorSpec(
    nargs=1,
    metavar="TOML",
    instance_from_str=lambda words: _parse(words[0]),
    is_instance=lambda value: True,
    str_from_instance=lambda value: [show(value)],
)


def presets(option: str, values: dict[str, dict[str, Any]]) -> Callable[[Callable], Callable]:
    """A decorator: one option of a factory sets others, which can still be given.

    Args:
      option: whose value is a key of `values`.
      values: {value of it: {other option: its default there}}; what is not named has its own default.
    """

    def decorate(factory: Callable) -> Callable:
        default = inspect.signature(factory).parameters[option].default

        @functools.wraps(factory)
        def with_presets(*arguments: Any, **given: Any) -> Any:
            chosen = given.get(option, default)
            if chosen not in values:
                raise unknown(option, chosen, values)
            return factory(*arguments, **(values[chosen] | given))

        with_presets.presets = (option, values)  # type: ignore[attr-defined]
        return with_presets

    return decorate


@functools.cache  # instances compare equal only if they are of one class
def declare(section: str, factory: Callable, *first: tuple[str, Any, Any]) -> type:
    """The options of `factory` as a frozen dataclass, which tyro documents from the factory's docstring.

    A parameter `**name: Annotated[Any, other]` takes the options of the factory `other` as well.

    Args:
      section: what keys start with in messages.
      factory: a function or a class.
      first: fields (name, annotation, default) to put before the options.

    Raises:
      InputError: an option without a default, or with one that is not of its type.
    """
    fields, doc = list(first), inspect.getdoc(factory) or f"The section [{section}]."
    sets = getattr(factory, "presets", None)
    for parameter in inspect.signature(factory, eval_str=True).parameters.values():
        name, hint, default = parameter.name, parameter.annotation, parameter.default
        if parameter.kind is parameter.VAR_KEYWORD and get_origin(hint) is Annotated:
            other = declare(section, hint.__metadata__[0])
            fields += [
                (f.name, get_type_hints(other, include_extras=True)[f.name], f.default)
                for f in dataclasses.fields(other)
            ]
            doc = _with_arguments(doc, other.__doc__ or "")
            sets = sets or getattr(other, "presets", None)
        if parameter.kind is not parameter.KEYWORD_ONLY:
            continue
        if default is parameter.empty:
            raise InputError(f"{section}.{name}: the factory gives this option no default")
        if (kind := Type.of(hint)) is None:
            continue
        hint = Annotated[hint, TABLES] if kind.kind is dict else hint
        fields.append((name, hint, kind.cast(default, f"{section}.{name}")))
    namespace = {"__doc__": doc, "presets": sets}
    return dataclasses.make_dataclass(section.capitalize(), fields, frozen=True, namespace=namespace)


def _with_arguments(doc: str, other: str) -> str:
    """`doc` with the entries that `other` has under Args: after its own."""
    entries = re.search(r"^Args:\n((?:  .*\n?)+)", other, re.MULTILINE)
    return (
        doc
        if entries is None
        else re.sub(
            r"^(Args:\n(?:  .*\n?)+)",
            lambda m: m[1].rstrip("\n") + "\n" + entries[1].rstrip("\n") + "\n",
            doc,
            count=1,
            flags=re.MULTILINE,
        )
    )


def leaves(cls: type, prefix: str = "") -> dict[str, Any]:
    """{dotted key: annotation} of a dataclass and of those within it."""
    hints: dict[str, Any] = {}
    for name, hint in get_type_hints(cls).items():
        key = prefix + name
        hints |= {key: hint} if Type.of(hint) else leaves(hint, f"{key}.")
    return hints


def from_table(cls: type, table: Any, key: str) -> Any:
    """The dataclass `cls` with the values of a table of TOML, every one checked.

    Raises:
      InputError: an unknown key or a wrong type; the message names it, with `key` before it.
    """
    hints, values = get_type_hints(cls), {}
    for name, value in Type(dict, (), False, False).cast(table, key).items():
        if name not in hints:
            raise unknown(f"{key}.{name}", name, hints)
        kind = Type.of(hints[name])
        values[name] = (kind.cast if kind else functools.partial(from_table, hints[name]))(
            value, f"{key}.{name}"
        )
    return cls(**(_preset(cls, values) | values))


def _preset(cls: Any, values: dict[str, Any]) -> dict[str, Any]:
    """The other options that a section's `presets` set by the value of theirs, if `values` has one."""
    option, presets_of = getattr(cls, "presets", None) or ("", {})
    return presets_of[values[option]] if option in values else {}


def to_table(section: Any) -> dict[str, Any]:
    """What `from_table` reads back: a None that is the default left out, any other "none"."""
    table = {}
    for field in dataclasses.fields(section):
        value = getattr(section, field.name)
        if dataclasses.is_dataclass(value):
            table[field.name] = to_table(value)
        elif value is not None or field.default is not None:
            table[field.name] = "none" if value is None else value
    return table


def split(arguments: Sequence[str]) -> list[tuple[str, list[str]]]:
    """`--a.learning-rate 0.1 --a.twin` → [("a.learning_rate", ["0.1"]), ("a.twin", [])].

    Raises:
      InputError: the first argument is no flag, or one is not text.
    """
    flags: list[tuple[str, list[str]]] = []
    for argument in arguments:
        if argument.encode(errors="ignore").decode() != argument:
            raise InputError(f"{argument!r}: not UTF-8; an override takes text that a TOML file can hold")
        if argument.startswith("--"):
            key, equals, value = argument[2:].partition("=")
            flags.append((key.replace("-", "_"), [value] if equals else []))
        elif flags:
            flags[-1][1].append(argument)
        else:
            raise InputError(f"{argument!r}: not a flag; an override reads --controller.learning-rate 0.01")
    return flags


def apply_flag(section: Any, key: str, words: list[str]) -> Any:
    """A section's dataclass with one flag of `split` applied.

    Raises:
      InputError: an unknown flag, or words that are no value for it.
    """
    option = key.partition(".")[2]
    hints = leaves(type(section))
    hints |= {re.sub(r"(\w+)$", r"no_\1", name): bool for name, hint in hints.items() if hint is bool}
    flag = f"--{key}".replace("_", "-")
    if option not in hints:
        raise unknown(flag, option.replace("_", "-"), [name.replace("_", "-") for name in hints])
    kind, is_switch = Type.of(hints[option]), hints[option] is bool
    assert kind is not None  # or `declare` had left it out
    if is_switch:
        if words:
            raise kind.wrong(_lone(words), key, "no value")
        negated = option not in leaves(type(section))
        return _replace(section, re.sub(r"no_(\w+)$", r"\1", option) if negated else option, not negated)
    if not words:
        raise InputError(f"{key}: {flag} without a value; it takes {kind}{kind.how}")
    value = kind.read(words, key)
    return dataclasses.replace(_replace(section, option, value), **_preset(section, {option: value}))


def _replace(section: Any, option: str, value: Any) -> Any:
    """A section's dataclass with another value of one option, such as `budget` or `stop.hours`."""
    name, _, inner = option.partition(".")
    return dataclasses.replace(
        section, **{name: _replace(getattr(section, name), inner, value) if inner else value}
    )


def _lone(words: list[str]) -> Any:
    return words[0] if len(words) == 1 else words
