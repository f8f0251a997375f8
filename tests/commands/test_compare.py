"""Arms side by side: what a file says, one-line errors, and a folder that goes on or is only redrawn."""

import csv
import os
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxnas import config
from jaxnas.commands import cli, compare, compare_config
from jaxnas.errors import InputError
from jaxnas.runs import ledger

TEXT = """
[search]
budget = 12
[space]
name = "blocks"
[evaluator]
name = "mock"
noise = 0.1
[controller]
batch_size = 4
learning_rate = 0.1
[compare]
seeds = 3
at = [4, 12]
measures = ["params"]
cross = ["filters", "kernel"]
[arms.free]
controller = { name = "reinforce", policy = "free_logits" }
[arms.masked]
controller = { name = "random" }
space = { forbid = [{ filters = 128 }] }
"""


pytestmark = pytest.mark.usefixtures("workplace")


def load(*flags, text=TEXT):
    Path("c.toml").write_text(text)
    return compare_config.load("c.toml", [str(flag) for flag in flags])


def jaxnas(*arguments):
    return cli.main([str(argument) for argument in arguments])


def rows_of(path):
    return list(csv.DictReader(path.read_text().splitlines()))


# WHAT A FILE SAYS


def test_arms_are_configurations():
    found = load()
    assert found.name == "c"
    assert list(found.arms) == ["free", "masked"]
    free, masked = found.arms.values()
    assert (free.controller.batch_size, free.controller.learning_rate) == (4, pytest.approx(0.1))
    assert not hasattr(masked.controller, "learning_rate")  # random search has no use for it
    assert masked.space.forbid == ({"filters": 128},)
    assert free.space.forbid == ()
    assert {c.search.seeds for c in found.arms.values()} == {3}
    assert {c.search.budget for c in found.arms.values()} == {12}
    assert [c.search.name for c in found.arms.values()] == ["free", "masked"]


def test_random_search_is_always_among_them():
    text = TEXT.replace('controller = { name = "random" }', 'controller = { name = "q_learning" }')
    found = load(text=text)
    assert list(found.arms) == ["random", "free", "masked"]
    assert found.arms["random"].controller.name == "random"
    assert found.arms["random"].controller.batch_size == 4
    assert list(load(text=TEXT[: TEXT.index("[arms.free]")].replace("learning_rate = 0.1", "")).arms) == [
        "random"
    ]


def test_flags_hold_for_all():
    found = load("--compare.seeds", 7, "--compare.at", 2, "--evaluator.noise", 0.5, "--search.name", "other")
    assert found.name == "other"
    assert (found.compare.seeds, found.compare.at) == (7, (2,))
    assert {c.evaluator.noise for c in found.arms.values()} == {0.5}
    assert {c.search.seeds for c in found.arms.values()} == {7}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[compare]", "[compair]", "[compair]: unknown name 'compair'; did you mean 'compare'"),
        ("seeds = 3", "seed = 3", "compare.seed: unknown name 'seed'; did you mean 'seeds'"),
        ("seeds = 3", "seeds = 1", "compare.seeds: found 1; it takes an integer of at least 2"),
        ("seeds = 3", 'seeds = "x"', "compare.seeds: found"),
        ("at = [4, 12]", "at = [12, 4]", "compare.at: found [12, 4]; it takes rising numbers"),
        ("at = [4, 12]", "at = [4, 13]", "compare.at: found [4, 13]"),
        ("space = { f", "spce = { f", "arms.masked: spce: unknown name 'spce'; did you mean 'space'"),
        ("forbid =", "forbit =", "arms.masked: space.forbit: unknown name 'forbit'; did you mean 'forbid'"),
        ('policy = "', 'polcy = "', "arms.free: controller.polcy: unknown name"),
        ('"reinforce"', '"reinforc"', "arms.free: controller.name: unknown name 'reinforc'; did you mean"),
        (
            "space = {",
            "search = { budget = 9 }\nspace = {",
            "arms.masked: search.budget: all arms have it alike",
        ),
        (
            "space = {",
            "runtime = { cpu_devices = 2 }\nspace = {",
            "arms.masked: runtime.cpu_devices: all arms",
        ),
        ("learning_rate = 0.1", "learning_rat = 0.1", "controller.learning_rat: unknown name"),
        ("[arms.masked]", "[arms.figures]", "arms.figures: it takes another name"),
        ("[arms.masked]", '[arms."a/b"]', "arms.a/b: search.name: found"),
        ("budget = 12", "budget = 12\ntwin = true", "search.twin: arms are compared at equal budget"),
        ("budget = 12", "budget = 12\nstop = { hours = 1.0 }", "search.stop.hours: arms are compared"),
        (
            '[arms.masked]\ncontroller = { name = "random" }',
            "[arms.masked]\ncontroller = 3",
            "arms.masked: controller",
        ),
        ("[arms.free]", "[other]", "[other]: unknown name"),
    ],
)
def test_bad_files(old, new, words, capsys):
    assert old in TEXT
    with pytest.raises(InputError) as error:
        load(text=TEXT.replace(old, new, 1))
    assert words in str(error.value)
    assert jaxnas("compare", "c.toml") == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert not Path("checkpoints").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--compare.sedes", 3], "--compare.sedes: unknown name 'sedes'; did you mean 'seeds'"),
        (["--compare.measures", "parms"], "compare.measures: unknown name 'parms'; did you mean 'params'"),
        (["--compare.cross", "kernels"], "compare.cross: unknown name 'kernels'; did you mean 'kernel'"),
        (["--evaluator.noise", -1], "arms.free: evaluator.noise: got -1.0"),
        (["--controller.polcy", "lstm"], "arms.free: --controller.polcy: unknown name"),
        (["--search.name", "a/b"], "search.name: found 'a/b'"),
    ],
)
def test_bad_flags(flags, words, capsys):
    Path("c.toml").write_text(TEXT)
    assert jaxnas("compare", "c.toml", *flags) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert words in err
    assert not Path("checkpoints").exists()


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[2] / "configs").glob("compare_*.toml")), ids=str
)
def test_the_configurations_are_right(path):
    found = compare_config.load(path)
    assert any(c.controller.name == "random" for c in found.arms.values())
    if found.arms[next(iter(found.arms))].evaluator.name == "mock" or "rlmednas" in path.name:
        ready = compare.prepare(found)
        assert list(ready) == list(found.arms)
        assert all(r.settings.search.chunk >= 1 for r in ready.values())


# A FOLDER


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A comparison that was interrupted, gone on with, and what it looked like then."""
    folder = tmp_path_factory.mktemp("comparison")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setattr(os, "_exit", sys.exit)
        Path("c.toml").write_text(TEXT)
        write = ledger.write_atomic
        ignored = signal.signal(signal.SIGINT, signal.default_int_handler)  # as a background command has it

        def signalled(path, data):
            write(path, data)
            if path.name == "searches.npz":
                os.kill(os.getpid(), signal.SIGINT)

        with pytest.MonkeyPatch.context() as inner, pytest.raises((SystemExit, KeyboardInterrupt)):
            inner.setattr(ledger, "write_atomic", signalled)
            jaxnas("compare", "c.toml")
        signal.signal(signal.SIGINT, ignored)
        assert not Path("checkpoints/c/comparison.csv").exists()
        assert Path("checkpoints/c/free/searches.npz").exists()
        assert not Path("checkpoints/c/masked").exists()
        assert jaxnas("compare", "c.toml") == 0
    return folder


@pytest.fixture
def copied(done, capsys):
    shutil.copytree(done, ".", dirs_exist_ok=True)
    capsys.readouterr()
    return Path("checkpoints/c")


def test_what_it_writes(copied):
    assert {p.name for p in copied.iterdir()} == {
        *("comparison.toml", "environment.json", "comparison.csv", "choices.csv", "top10.csv", "figures"),
        *("free", "masked", ".lock"),
    }
    assert {p.name for p in (copied / "free").iterdir()} == {
        *("config.toml", ".config.toml", "environment.json", "searches.npz", "summary.csv"),
    }
    free, masked = rows_of(copied / "comparison.csv")
    arrays = np.load(copied / "masked/searches.npz")
    assert (masked["arm"], masked["controller"], masked["searches"]) == ("masked", "random", "3")
    assert float(masked["best_12"]) == pytest.approx(arrays["reward"].max(axis=1).mean(), rel=1e-5)
    assert float(masked["params_ratio"]) == pytest.approx(
        arrays["params"].mean() / np.load(copied / "free/searches.npz")["params"].mean(), rel=1e-5
    )
    assert {free["best_12_rank"], masked["best_12_rank"]} == {"1", "2"}
    taken = {row["value"] for row in rows_of(copied / "choices.csv") if row["arm"] == "masked"}
    assert "128" not in taken
    assert {"16", "32", "64"} <= taken
    assert {row["decision"] for row in rows_of(copied / "top10.csv")} == {"filters × kernel"}
    assert (copied / "figures/best_so_far.svg").read_text().startswith("<svg")
    assert config.load(copied / "free/config.toml").search.chunk == 512


def test_again_it_is_only_redrawn(copied, capsys):
    before = {p: p.read_bytes() for p in copied.rglob("*") if p.is_file()}
    assert jaxnas("compare", "c.toml") == 0
    out, err = capsys.readouterr()
    assert "search 3/3" not in out  # none is run
    assert "free" in out and "masked" in out and "#1" in out
    assert err == ""
    assert {p: p.read_bytes() for p in copied.rglob("*") if p.is_file()} == before
    assert jaxnas("compare", "c.toml", "--compare.at", 8, "--compare.cross", "dropout") == 0
    assert "best_8" in rows_of(copied / "comparison.csv")[0]
    assert "search 3/3" not in capsys.readouterr().out


def test_other_settings_are_refused(copied, capsys):
    before = {p: p.read_bytes() for p in copied.rglob("*") if p.is_file()}
    for flags, words in (
        (["--search.seed", 1], "its arm free has search.seed = 0, not 1"),
        (["--compare.seeds", 4], "search.seeds = 3, not 4"),
        (["--search.budget", 13], "search.budget = 12, not 13"),
        (["--evaluator.noise", 0.3], "evaluator.noise = 0.1, not 0.3"),
    ):
        assert jaxnas("compare", "c.toml", *flags) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert words in err
    assert {p: p.read_bytes() for p in copied.rglob("*") if p.is_file()} == before
    (copied / "comparison.toml").unlink()
    assert jaxnas("compare", "c.toml") == 2
    assert "exists and is no comparison" in capsys.readouterr().err


def test_an_arm_more(copied, capsys):
    Path("c.toml").write_text(TEXT + '[arms.all]\ncontroller = { name = "random" }\n')
    assert jaxnas("compare", "c.toml") == 0
    out = capsys.readouterr().out
    assert "arm 3/3 all  search 3/3" in out
    assert "free  search" not in out
    assert [row["arm"] for row in rows_of(copied / "comparison.csv")] == ["free", "masked", "all"]
