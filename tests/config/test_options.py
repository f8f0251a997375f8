from collections.abc import Callable
from typing import Annotated, Any, Literal

import pytest

from jaxnas.config import options
from jaxnas.config.options import Type
from jaxnas.errors import InputError


@pytest.mark.parametrize(
    ("hint", "expected"),
    [
        (int, Type(int, (), False, False)),
        (float | None, Type(float, (), False, True)),
        (None | bool, Type(bool, (), False, True)),
        (tuple[str, ...], Type(str, (), True, False)),
        (tuple[dict[str, Any], ...] | None, Type(dict, (), True, True)),
        (Literal["a", "b"], Type(str, ("a", "b"), False, False)),
        (tuple[Literal["a"], ...], Type(str, ("a",), True, False)),
        (int | str, None),
        (tuple[int, int], None),
        (tuple[tuple[int, ...], ...], None),
        (Literal[1, 2], None),
        (list[int], None),
        (Callable[[int], bool] | None, None),
        (Any, None),
    ],
)
def test_types_that_toml_can_write(hint, expected):
    assert Type.of(hint) == expected


@pytest.mark.parametrize(
    ("hint", "value", "expected"),
    [
        (float, 1, 1.0),
        (float, float("inf"), float("inf")),
        (int | None, "none", None),
        (str, "none", "none"),
        (tuple[int, ...], [], ()),
        (tuple[float, ...], [1, 2.5], (1.0, 2.5)),
        (tuple[Literal["a", "b"], ...], ["b"], ("b",)),
        (dict[str, Any], {"a": [1]}, {"a": [1]}),
    ],
)
def test_cast(hint, value, expected):
    result = Type.of(hint).cast(value, "key")
    assert result == expected
    assert type(result) is type(expected)


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (int, True),
        (int, 1.0),
        (int, "1"),
        (int, None),
        (bool, 1),
        (float, True),
        (float, float("nan")),
        (float, 10**400),
        (str, 1),
        (Literal["a"], "b"),
        (tuple[int, ...], 1),
        (tuple[int, ...], "12"),
        (tuple[int, ...], [1, None]),
        (tuple[Literal["a"], ...], ["b"]),
        (dict, []),
    ],
)
def test_cast_refuses(hint, value):
    with pytest.raises(InputError, match=r"^some\.key: "):
        Type.of(hint).cast(value, "some.key")


def test_declare():
    def factory(positional, *, size: int = 3, rate: float = 1, rule: Callable[[int], bool] | None = None):
        """A factory."""

    cls = options.declare("part", factory, ("name", str, "x"))
    assert options.leaves(cls) == {"name": str, "size": int, "rate": float}
    assert repr(cls()) == "Part(name='x', size=3, rate=1.0)"
    assert cls.__doc__ == "A factory."
    assert options.declare("part", factory, ("name", str, "x")) is cls


def test_declare_refuses_a_default_of_another_type():
    def factory(*, size: int = 0.5):  # type: ignore[assignment]
        pass

    with pytest.raises(InputError, match=r"part\.size: found 0\.5; it takes an integer"):
        options.declare("part", factory)


@pytest.mark.parametrize(
    ("hint", "words", "expected"),
    [
        (int | None, ["none"], None),
        (bool | None, ["true"], True),
        (tuple[float, ...], ["1", "2.5"], (1.0, 2.5)),
        (tuple[dict[str, Any], ...], ["[{a = 1}]"], ({"a": 1},)),
        (str, ["3"], "3"),
    ],
)
def test_words_of_a_flag(hint, words, expected):
    result = Type.of(hint).read(words, "key")
    assert result == expected
    assert type(result) is type(expected)


@pytest.mark.parametrize(
    ("hint", "words", "message"),
    [
        (int, ["1", "2"], r'key: found \["1", "2"\]; it takes an integer$'),
        (int, ["1.5"], 'key: found "1.5"; it takes an integer$'),
        (tuple[bool, ...], ["maybe"], "each true or false, separated by spaces$"),
        (dict[str, Any], ["{"], "it takes a table, written in TOML$"),
    ],
)
def test_words_that_are_no_value(hint, words, message):
    with pytest.raises(InputError, match=message):
        Type.of(hint).read(words, "key")


@options.presets("speed", {"slow": {}, "fast": {"rate": 2.0, "steps": 3}})
def with_presets(*, speed: Literal["slow", "fast"] = "slow", rate: float = 1.0, steps: int = 9):
    return speed, rate, steps


def outer(*, own: int = 1, **inner: Annotated[Any, with_presets]):
    return own, with_presets(**inner)


@pytest.mark.parametrize("factory", [with_presets, outer])
def test_an_option_that_sets_others(factory):
    """In a file, what is given holds; a flag sets all of them, and later flags hold."""
    cls = options.declare("part", factory)
    section = options.from_table(cls, {"speed": "fast", "steps": 5}, "part")
    assert (section.rate, section.steps) == (2.0, 5)
    assert options.from_table(cls, options.to_table(section), "part") == section
    section = options.apply_flag(options.from_table(cls, {"steps": 5}, "part"), "part.speed", ["fast"])
    assert (section.rate, section.steps) == (2.0, 3)
    assert with_presets(speed="fast", rate=7.0) == ("fast", 7.0, 3) and with_presets() == ("slow", 1.0, 9)
    with pytest.raises(InputError, match="speed: unknown name 'fats'; did you mean 'fast'"):
        with_presets(speed="fats")
