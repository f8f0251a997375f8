import dataclasses
import shlex
import sys
import tomllib
import types
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxnas import config
from jaxnas.errors import InputError
from jaxnas.training.task import MULTICLASS
from jaxnas.types import Dataset, Split

# Parts that remember what they were made of.


class Made(NamedTuple):
    what: str
    args: tuple
    options: dict[str, Any]


def stack(
    *,
    depth: int = 2,
    widths: tuple[int, ...] = (16, 32),
    rates: tuple[float, ...] = (),
    forbid: tuple[dict[str, Any], ...] = (),
    legal: Callable[[int], bool] | None = None,
) -> Made:
    """A space for tests.

    Args:
      depth: layers in a row.
      widths: widths to choose from.
      rates: rates to choose from.
      forbid: rules, each a table.
      legal: a rule in Python.
    """
    if depth < 1:
        raise InputError(f"space.depth: got {depth}; it takes 1 or more")
    return Made(
        "stack", (), {"depth": depth, "widths": widths, "rates": rates, "forbid": forbid, "legal": legal}
    )


def tree(*, depth: int = 7, branches: int = 2) -> Made:
    """Another space."""
    return Made("tree", (), {"depth": depth, "branches": branches})


def chance(space, *, batch_size: int = 4) -> Made:
    """Proposes at random."""
    return Made("chance", (space,), {"batch_size": batch_size})


def gradient(
    space,
    *,
    batch_size: int = 8,
    learning_rate: float = 1e-2,
    clip: float | None = 1.0,
    tag: str | None = None,
    baseline: Literal["ema", "none"] = "ema",
    feedback: bool = True,
    warm: bool | None = None,
    extra: dict[str, Any] | None = None,
) -> Made:
    """Follows a gradient.

    Args:
      space: what to search.
      batch_size: proposals a round.
      learning_rate: the step size,
        on two lines.
      clip: of the gradient's norm.
    """
    return Made("gradient", (space,), {"learning_rate": learning_rate, "clip": clip})


def train(*, epochs: int = 5, optimizer: str = "adam") -> None:
    """How."""


def trained(network, dataset, limits=None, **trainer: Annotated[Any, train]) -> Made:
    """Trains."""
    epochs, optimizer = trainer["epochs"], trainer["optimizer"]
    return Made("trained", (network, dataset, limits), {"epochs": epochs, "optimizer": optimizer})


def formula(space, *, noise: float = 0.0) -> Made:
    """Trains nothing."""
    return Made("formula", (space,), {"noise": noise})


def accuracy(measures, *, weight: float = 2.0):
    """The measure itself."""
    return weight * measures["accuracy"]


def stack_network(space, shape, outputs, *, head: int = 128) -> Made:
    """Layers."""
    return Made("network", (space, shape, outputs), {"head": head})


def load_data(source: str, *, limit: int | None = None, classes: tuple[int, ...] = ()) -> Dataset:
    """Loads."""
    split = Split(np.zeros((2, 8, 9, 1), np.uint8), np.zeros(2, np.int32))
    return Dataset(source, MULTICLASS, split, split, split, tuple(map(str, classes)) or ("a", "b"), None)


FAKES: dict[str, dict[str, Callable]] = {
    "space": {"stack": stack, "tree": tree},
    "controller": {"gradient": gradient, "chance": chance},
    "evaluator": {"trained": trained, "formula": formula},
    "reward": {"accuracy": accuracy},
    "network": {"stack": stack_network, "tree": stack_network},
}


@pytest.fixture(scope="module", autouse=True)
def fakes():
    module = types.ModuleType("fake_parts")
    module.stack, module.odd, module.number = stack, lambda *, n: n, 3  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jaxnas.config.parts.registries", lambda: FAKES)
        patch.setattr("jaxnas.data.load", load_data)
        patch.setitem(sys.modules, "fake_parts", module)
        yield


MINIMAL = '[space]\nname = "stack"\n[controller]\nname = "gradient"\n'
FORMULA = MINIMAL + '[evaluator]\nname = "formula"\n'


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    """load, of a text; silent."""
    folder = tmp_path_factory.mktemp("configs")

    def load(text: str, *overrides: str) -> config.Config:
        (folder / "some.toml").write_text(text, encoding="utf-8", newline="")
        return config.load(folder / "some.toml", overrides)

    return load


@pytest.fixture
def fails(read, capfd):
    """The message with which a text and overrides are refused: one line, and nothing printed."""

    def message(text: str, *overrides: str) -> str:
        with pytest.raises(InputError) as error:
            read(text, *overrides)
        assert capfd.readouterr() == ("", "")
        assert len(str(error.value).splitlines()) == 1
        return str(error.value)

    return message


def test_defaults(read):
    c = read(MINIMAL)
    assert c.search == config.SearchSettings(name="some")
    assert c.runtime == config.Runtime()
    assert dataclasses.asdict(c.space) == {
        "name": "stack",
        "depth": 2,
        "widths": (16, 32),
        "rates": (),
        "forbid": (),
    }
    assert (c.evaluator.name, c.reward.name, c.network.name) == ("trained", "accuracy", "stack")
    assert dataclasses.asdict(c.evaluator) == {"name": "trained"}
    assert dataclasses.asdict(c.trainer) == {"epochs": 5, "optimizer": "adam"}
    assert dataclasses.asdict(c.data) == {"source": "digits", "limit": None, "classes": ()}


def test_file_values(read):
    c = read(
        "[search]\nbudget = 3\nstop = { accuracy = 1, hours = 0.5 }\n"
        '[space]\nname = "stack"\nforbid = [{depth = 1}, {depth = 2, wide = [1, 2]}]\nrates = [1, 0.5]\n'
        '[controller]\nname = "gradient"\nlearning_rate = 1\nclip = "none"\nbaseline = "none"\nwarm = false\n'
        '[network]\nhead = 7\n[trainer]\nepochs = 1\n[data]\nsource = "npz:x"\nlimit = 9\n'
    )
    assert c.search.stop == config.StopSettings(accuracy=1.0, hours=0.5)
    assert c.space.forbid == ({"depth": 1}, {"depth": 2, "wide": [1, 2]})
    assert c.space.rates == (1.0, 0.5)
    assert all(type(rate) is float for rate in c.space.rates)
    assert type(c.controller.learning_rate) is float
    assert (c.controller.clip, c.controller.baseline, c.controller.warm) == (None, "none", False)
    assert (c.network.head, c.trainer.epochs, c.data.source, c.data.limit) == (7, 1, "npz:x", 9)


def test_configs_are_frozen(read):
    c = read(MINIMAL)
    for section in (c, *vars(c).values()):
        with pytest.raises(dataclasses.FrozenInstanceError):
            section.name = "other"


def test_flags(read):
    c = read(
        MINIMAL,
        *shlex.split("--search.seed 1 --search.seed=3 --search.twin --search.stop.stalled-trials 7"),
        *shlex.split("--controller.learning_rate -1e-5 --controller.no-feedback --controller.clip none"),
        *shlex.split("--controller.warm true --controller.tag=--x --space.widths 1 2 3 --space.rates=0.5"),
        *("--space.forbid", "[{depth = 1}, {depth = 2}]", "--data.classes=0", "2", "--trainer.epochs", "9"),
    )
    assert (c.search.seed, c.search.twin, c.search.stop.stalled_trials) == (3, True, 7)
    assert (c.controller.learning_rate, c.controller.feedback, c.controller.clip) == (-1e-5, False, None)
    assert (c.controller.warm, c.controller.tag) == (True, "--x")
    assert (c.space.widths, c.space.rates, c.space.forbid) == (
        (1, 2, 3),
        (0.5,),
        ({"depth": 1}, {"depth": 2}),
    )
    assert (c.data.classes, c.trainer.epochs) == ((0, 2), 9)
    assert not read(MINIMAL + "[search]\ntwin = true\n", "--search.no-twin").search.twin


def test_the_runs_name_is_the_files_stem_unless_given(read):
    assert read(MINIMAL).search.name == "some"
    assert read(MINIMAL + "[search]\nname = 'mine'\n").search.name == "mine"
    assert read(MINIMAL + "[search]\nname = 'mine'\n", "--search.name", "yours").search.name == "yours"


# Another name on the command line.


def test_renaming_a_part_drops_what_the_new_one_lacks(read, fails):
    text = MINIMAL + "batch_size = 3\nlearning_rate = 0.5\n"
    c = read(text, "--controller.name", "chance")
    assert dataclasses.asdict(c.controller) == {"name": "chance", "batch_size": 3}
    assert read(MINIMAL, "--controller.name=chance").controller.batch_size == 4  # chance's own default
    assert "controller.learning_rat" in fails(text.replace("rate", "rat"), "--controller.name", "chance")
    assert "--controller.learning-rate" in fails(
        text, "--controller.name=chance", "--controller.learning-rate=1"
    )


def test_renaming_the_space_renames_its_network(read):
    assert read(MINIMAL, "--space.name", "tree").network.name == "tree"
    assert read(MINIMAL + '[network]\nname = "stack"\n', "--space.name", "tree").network.name == "stack"


def test_renaming_the_evaluator_drops_unused_sections(read, fails):
    text = MINIMAL + "[trainer]\nepochs = 1\n[data]\nlimit = 1\n[network]\nhead = 1\n"
    c = read(text, "--evaluator.name", "formula", "--evaluator.noise", "0.1")
    assert (c.trainer, c.data, c.network, c.evaluator.noise) == (None, None, None, 0.1)
    assert read(FORMULA + "noise = 1\n", "--evaluator.name", "trained") == read(MINIMAL)
    for flag in ("--trainer.epochs", "--network.name"):
        assert "not used" in fails(text, "--evaluator.name=formula", flag, "1")


def test_a_file_may_leave_names_to_the_command_line(read, fails):
    c = read("[space]\nbranches = 3\n", "--space.name", "tree", "--controller.name", "chance")
    assert (c.space.branches, c.controller.name) == (3, "chance")
    message = fails("")
    assert message == "space.name: missing; it takes one of: stack, tree; or package.module:factory"


def test_parts_from_elsewhere(read, fails):
    text = FORMULA.replace('"stack"', '"fake_parts:stack"')
    assert read(text, "--space.depth", "4").space.depth == 4
    assert config.build(read(text)).space.what == "stack"
    # Its network would be that of its layers, which the registry of these tests lacks.
    assert "network.name: unknown name 'layers'" in fails(text, "--evaluator.name", "trained")
    assert read(text, "--evaluator.name", "trained", "--network.name", "stack").network.name == "stack"


# Bad input.


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[spa\nce]", ["some.toml: not valid TOML", "line 5"]),
        ("a = 1\nb = ?", ["some.toml", "line 6"]),
        ("x = " + "[" * 5000, ["some.toml"]),
        ("[serch]\n", ["[serch]", "'search'"]),
        ("search = 3\n", ["search: found 3", "[search]"]),
        ("[[search]]\nseed = 3\n", ["search: found [{seed = 3}]"]),
        ("[search]\nsede = 3\n", ["search.sede", "'seed'"]),
        ("[search]\nseed = -1\n", ["search.seed: found -1", "0 to 4294967295"]),
        ("[search]\nseed = 4294967296\n", ["search.seed: found 4294967296"]),
        ("[search]\nbudget = 0\n", ["search.budget: found 0", "at least 1"]),
        ("[search]\nbudget = true\n", ["search.budget: found true", "an integer"]),
        ("[search]\nbudget = 3.0\n", ["search.budget: found 3.0", "an integer"]),
        ("[search]\nbudget = '3'\n", ['search.budget: found "3"', "an integer"]),
        ("[search]\nbudget = 2020-01-01\n", ['search.budget: found "2020-01-01"']),
        ("[search]\nduplicates = 'resue'\n", ["search.duplicates", "'resue'; did you mean 'reuse'?"]),
        ("[search]\nmemory = 0\n", ["search.memory: found 0", "at least 1"]),
        ("[search]\ntwin = 1\n", ["search.twin: found 1", "true or false"]),
        ("[search]\nname = 'a/b'\n", ['search.name: found "a/b"']),
        ("[search]\nname = '..'\n", ['search.name: found ".."']),
        ('[search]\nname = "a\\nb"\n', ["search.name"]),
        ("[search]\nname = '" + 101 * "a" + "'\n", ["search.name", "at most 100"]),
        ("[search]\nstop = 1\n", ["search.stop: found 1", "a table"]),
        ("[search.stop]\nacuracy = 1\n", ["search.stop.acuracy", "'accuracy'"]),
        ("[search.stop]\naccuracy = 98\n", ["search.stop.accuracy: found 98.0", "at most 1"]),
        ("[search.stop]\nstalled_trials = 0\n", ["search.stop.stalled_trials: found 0"]),
        (
            "[search.stop]\nstalled_trials = 1.5\n",
            ["search.stop.stalled_trials: found 1.5", 'integer or "none"'],
        ),
        ("[search.stop]\nhours = 0\n", ["search.stop.hours: found 0.0"]),
        ("[search.stop]\nhours = nan\n", ["search.stop.hours: found NaN", "a number"]),
        ("[search.stop]\nhours = 1" + 400 * "0", ["search.stop.hours", "a number"]),
        ("[runtime]\ncpu_devices = -1\n", ["runtime.cpu_devices: found -1"]),
        ("[reward]\nname = 'acuracy'\n", ["reward.name", "'acuracy'", "'accuracy'"]),
        ("[reward]\nname = 3\n", ["reward.name: found 3"]),
        ("[evaluator]\nepochs = 3\n", ["evaluator.epochs", "it takes one of: name"]),
        ("[trainer]\nname = 'x'\n", ["trainer.name", "epochs, optimizer"]),
        ("[data]\nclasses = 1\n", ["data.classes: found 1", "an array, each an integer"]),
        ("[data]\nclasses = [1, '2']\n", ['data.classes: found [1, "2"]']),
        ("[data]\nlimit = true\n", ["data.limit: found true"]),
        ("[network]\nname = 'tre'\n", ["network.name", "'tree'"]),
    ],
)
def test_bad_files(fails, text, parts):
    message = fails(text + MINIMAL if text.startswith("search") else MINIMAL + text)
    assert all(part in message for part in parts), message


@pytest.mark.parametrize(
    ("key", "value", "part"),
    [
        ("space.forbid", "{depth = 1}", "an array, each a table"),
        ("space.forbid", "[1]", "an array, each a table"),
        ("space.legal", "'x'", "depth, forbid, name, rates, widths"),
        ("controller.baseline", "'emma'", "did you mean 'ema'?"),
        ("controller.baseline", "1", "one of ema, none"),
        ("controller.learning_rate", "'fast'", 'found "fast"; it takes a number'),
        ("controller.learning_rat", "1", "did you mean 'learning_rate'?"),
        ("space.name", "'tre'", "did you mean 'tree'?"),
        ("space.name", "'no_such_package.module:f'", "cannot import 'no_such_package.module'"),
        ("space.name", "'fake_parts:stak'", "no function 'stak'"),
        ("space.name", "'fake_parts:number'", "no function 'number'"),
        ("space.name", "'..fake_parts:stack'", "package.module:factory"),
        ("space.name", "'fake_parts:'", "package.module:factory"),
        ("space.name", "''", "stack, tree"),
        ("space.name", "['stack']", 'found ["stack"]'),
    ],
)
def test_bad_settings(fails, key, value, part):
    section, _, name = key.partition(".")
    tables = tomllib.loads(MINIMAL)
    lines = [
        f"[{s}]\n" + "".join(f"{k} = {v!r}\n" for k, v in table.items() if (s, k) != (section, name))
        + (f"{name} = {value}\n" if s == section else "")
        for s, table in tables.items()
    ]  # fmt: skip
    message = fails("".join(lines))
    assert message.startswith(key)
    assert part in message


def test_an_option_without_a_default_is_refused(fails):
    message = fails(FORMULA.replace('"stack"', '"fake_parts:odd"'))
    assert message.startswith("space.n: ")
    assert "no default" in message


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        ("stray", ["'stray'", "not a flag"]),
        ("-h", ["'-h'"]),
        ("--help", ["--help", "'help'"]),
        ("--tyro-print-completion bash", ["--tyro-print-completion"]),
        ("--", ["--"]),
        ("--seed 1", ["--seed", "search"]),
        ("--serch.seed 1", ["--serch.seed", "'search'"]),
        ("--search 1", ["--search", "seed"]),
        ("--search.stop 1", ["--search.stop", "stop.accuracy"]),
        ("--search.stop.hour 1", ["--search.stop.hour", "'stop.hours'"]),
        ("--controller.learning-rat 1", ["--controller.learning-rat", "'learning-rate'"]),
        (
            "--controller.learning-rate",
            ["controller.learning_rate: --controller.learning-rate without a value", "a number"],
        ),
        ("--controller.learning-rate --search.seed 1", ["controller.learning_rate", "without a value"]),
        ("--controller.learning-rate x", ['controller.learning_rate: found "x"', "a number"]),
        ("--controller.learning-rate nan", ["controller.learning_rate: found NaN", "a number"]),
        ("--controller.learning-rate 1 2", ['controller.learning_rate: found ["1", "2"]']),
        ("--controller.learning-rate=1 2", ['controller.learning_rate: found ["1", "2"]']),
        ("--controller.batch-size 1.5", ['controller.batch_size: found "1.5"', "an integer"]),
        ("--controller.batch-size 1 -h", ["controller.batch_size"]),
        ("--controller.baseline emma", ["controller.baseline", "'ema'"]),
        ("--controller.clip off", ['controller.clip: found "off"', 'a number or "none"']),
        ("--controller.warm maybe", ["controller.warm", 'true or false or "none"']),
        ("--controller.name grad", ["controller.name", "'gradient'"]),
        ("--controller.name", ["controller.name"]),
        ("--controller.name chance gradient", ["controller.name"]),
        ("--controller.feedback no", ['controller.feedback: found "no"', "takes no value"]),
        ("--search.no-twin=1", ["search.no_twin", "takes no value"]),
        ("--search.budget -5", ["search.budget: found -5", "at least 1"]),
        ("--search.stop.accuracy 98", ["search.stop.accuracy: found 98.0"]),
        (
            "--space.widths",
            ["space.widths", "without a value", "an array, each an integer, separated by spaces"],
        ),
        (
            "--space.widths 1,2",
            ['space.widths: found "1,2"', "an array, each an integer, separated by spaces"],
        ),
        ("--space.forbid {depth=1}", ["space.forbid: found {depth = 1}", "an array, each a table"]),
        ("--space.forbid [depth=1]", ["space.forbid", "written in TOML"]),
        ("--space.forbid " + "[" * 5000, ["space.forbid"]),
        ("--space.legal x", ["--space.legal"]),
    ],
)
def test_bad_flags(fails, flags, parts):
    message = fails(MINIMAL, *flags.split())
    assert all(part in message for part in parts), message


def test_flags_that_are_not_text_are_refused(fails):
    assert "not UTF-8" in fails(MINIMAL, "--data.source", "folder:\udcff")


@pytest.mark.parametrize("section", ["trainer", "data", "network"])
def test_a_file_with_unused_sections_is_refused(fails, section):
    message = fails(f"{FORMULA}[{section}]\n")
    assert message.startswith(f"{section}: not used, for evaluator 'formula'")


def test_unreadable_files(tmp_path):
    for path, content in ((tmp_path / "none.toml", None), (tmp_path, None), (tmp_path / "b", b"\xff = 1")):
        if content:
            path.write_bytes(content)
        with pytest.raises(InputError, match=str(path)):
            config.load(path)


def test_a_byte_order_mark_and_windows_line_ends_are_read(read):
    assert read("\ufeff" + MINIMAL.replace("\n", "\r\n")) == read(MINIMAL)


# dump


def test_dump_is_complete(read):
    table = tomllib.loads(config.dump(read(MINIMAL)))
    assert list(table) == list(config.SECTIONS)
    assert table["controller"]["clip"] == 1.0
    assert table["search"]["stop"] == {}
    assert "formula" in config.dump(read(FORMULA))
    assert "trainer" not in tomllib.loads(config.dump(read(FORMULA)))


words = st.text(st.characters(exclude_categories=("Cs",)), max_size=8).filter(
    lambda s: s not in ("None", "none")
)
floats = st.floats(allow_nan=False)
integers = st.integers(-(2**70), 2**70)
tables = st.dictionaries(
    st.text("abc", min_size=1), integers | floats | words | st.lists(integers, max_size=2)
)
SETTINGS = {
    "search": {
        "seed": st.integers(0, 2**32 - 1),
        "budget": st.integers(1, 2**70),
        "twin": st.booleans(),
        "duplicates": st.sampled_from(["train", "reuse", "resample"]),
        "stop.accuracy": st.none() | st.floats(0, 1, exclude_min=True),
        "stop.stalled_trials": st.none() | st.integers(1, 2**70),
    },
    "space": {
        "depth": integers,
        "widths": st.lists(integers, min_size=1, max_size=3).map(tuple),
        "rates": st.lists(floats, min_size=1, max_size=3).map(tuple),
        "forbid": st.lists(tables, max_size=2).map(tuple),
    },
    "controller": {
        "learning_rate": floats,
        "clip": st.none() | floats,
        "tag": st.none() | words,
        "baseline": st.sampled_from(["ema", "none"]),
        "feedback": st.booleans(),
        "warm": st.none() | st.booleans(),
    },
    "evaluator": {"noise": floats},
    "runtime": {"cpu_devices": st.integers(1, 9), "deterministic": st.booleans()},
}
chosen_settings = st.fixed_dictionaries(
    {s: st.fixed_dictionaries({}, optional=o) for s, o in SETTINGS.items()}
)
FORMULA_TABLE = tomllib.loads(FORMULA)


def as_file(chosen: dict[str, dict[str, Any]]) -> str:
    lines = []
    for section, values in chosen.items():
        lines.append(f"[{section}]")
        for key, value in (FORMULA_TABLE.get(section, {}) | values).items():
            lines.append(f"{key} = {toml(value)}")
    return "\n".join(lines)


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k} = {toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(c):08X}" for c in value) + '"'
    return '"none"' if value is None else repr(value).lower()


def as_flags(chosen: dict[str, dict[str, Any]]) -> list[str]:
    flags = []
    for section, values in chosen.items():
        for key, value in values.items():
            head, dot, tail = key.rpartition(".")
            if isinstance(value, bool) and key != "warm":
                flags.append(f"--{section}.{head}{dot}{'' if value else 'no-'}{tail}")
            elif isinstance(value, tuple) and key != "forbid":
                flags += [f"--{section}.{key}", *map(repr, value)]
            else:
                flags.append(f"--{section}.{key}={toml(value) if key == 'forbid' else plain(value)}")
    return flags


def plain(value: Any) -> str:
    return value if isinstance(value, str) else toml(value).strip('"')


@settings(deadline=None, max_examples=50)
@given(chosen_settings)
def test_dump_and_load_round_trip(read, chosen):
    c = read(as_file(chosen))
    assert read(config.dump(c)) == c
    assert config.differences(c, read(config.dump(c))) == []


@settings(deadline=None, max_examples=50)
@given(chosen_settings)
def test_flags_mean_what_the_file_means(read, chosen):
    assert read(FORMULA, *as_flags(chosen)) == read(as_file(chosen))


def test_an_optional_table(read):
    c = read(MINIMAL + "extra = {a = 1}\n")
    assert c.controller.extra == {"a": 1}
    assert read(config.dump(c)) == c
    assert read(MINIMAL, "--controller.extra", "{a = 1}") == c
    assert read(MINIMAL + "extra = {a = 1}\n", "--controller.extra", "none") == read(MINIMAL)


def test_none_survives_where_the_default_is_not_none(read):
    c = read(MINIMAL, "--controller.clip", "none")
    assert c.controller.clip is None
    assert read(config.dump(c)) == c


tokens = st.sampled_from(
    ["--search.seed", "--space.forbid", "--controller.name", "--a", "chance", "-1", "", "="]
)
lines = st.sampled_from(
    [*FORMULA.splitlines(), "[search]", "seed = 1", "stop.hours = 1", "depth = 'x'", "[data]"]
)


@settings(deadline=None, max_examples=50)
@given(st.lists(lines | st.text(max_size=5)), st.lists(tokens | st.text(max_size=5), max_size=4))
def test_whatever_comes_in_gives_a_config_or_one_line(read, text, overrides):
    for content in (MINIMAL, "\n".join(text).encode(errors="replace").decode()):
        try:
            result = read(content, *overrides)
        except InputError as error:
            result = error
        assert isinstance(result, config.Config) or len(str(result).splitlines()) == 1


# build


def test_build_trained(read):
    c = read(MINIMAL + "[trainer]\nepochs = 1\n[data]\nclasses = [3, 4, 5]\n[reward]\nweight = 3\n")
    parts = config.build(c)
    assert parts.space == stack()
    assert parts.controller == gradient(parts.space)
    assert parts.network == stack_network(parts.space, (8, 9, 1), 3)
    assert parts.dataset.classes == ("3", "4", "5")
    assert parts.dataset.test is not None
    what, (network, dataset, limits), trainer = parts.evaluator
    assert (what, network, trainer) == ("trained", parts.network, {"epochs": 1, "optimizer": "adam"})
    assert dataset.test is None
    assert limits == {}
    assert dataset.train is parts.dataset.train
    assert parts.reward({"accuracy": 2.0}) == 6.0


def test_build_takes_a_dataset_instead(read):
    own = load_data("own", classes=(1,))
    assert config.build(read(MINIMAL), dataset=own).dataset is own


def test_build_without_training_loads_nothing(read):
    parts = config.build(read(FORMULA + "noise = 2\n"))
    assert parts.evaluator == formula(parts.space, noise=2.0)
    assert parts.network is parts.dataset is None


def test_a_factorys_own_errors_pass(read):
    with pytest.raises(InputError, match=r"space\.depth: got 0"):
        config.build(read(MINIMAL, "--space.depth", "0"))


# differences, usage


def test_differences(read):
    c = read(MINIMAL)
    free = shlex.split("--search.budget 9 --search.stop.hours 1 --search.name x --runtime.cpu-devices 2")
    assert config.differences(c, read(MINIMAL, *free)) == []
    changed = read(
        MINIMAL, "--controller.learning-rate", "0.5", "--search.seed", "1", "--controller.clip", "none"
    )
    assert config.differences(c, changed) == [
        "search.seed: 0 → 1",
        "controller.learning_rate: 0.01 → 0.5",
        'controller.clip: 1.0 → "none"',
    ]
    renamed = read(MINIMAL, "--controller.name", "chance", "--evaluator.name", "formula")
    assert config.differences(c, renamed) == [
        'controller.name: "gradient" → "chance"',
        'evaluator.name: "trained" → "formula"',
    ]
    ruled = read(MINIMAL, "--space.forbid", "[{depth = 1}]")
    assert config.differences(c, ruled) == ["space.forbid: [] → [{depth = 1}]"]


def test_usage(tmp_path, capfd):
    path = tmp_path / "some.toml"
    path.write_text(MINIMAL)
    text = config.usage(path, ["--controller.learning-rate", "0.125"])
    assert capfd.readouterr() == ("", "")
    text = " ".join(text.split())
    assert f"jaxnas search {path}" in text
    assert "--controller.learning-rate FLOAT" in text
    assert "the step size, on two lines. (default: 0.125)" in text
    assert "--space.forbid TOML" in text
    assert "--search.twin, --search.no-twin" in text
    assert "chance, gradient, or package.module:factory" in text
    assert "--space.legal" not in text
