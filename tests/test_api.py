"""A search from Python: the same run as from a shell, and what a notebook shows of it."""

import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

import jaxnas
from jaxnas import api
from jaxnas.commands import cli, console, progress
from jaxnas.errors import InputError
from tests.commands.test_cli import MOCK, PROMISED

MOCKED = {"space": "blocks", "evaluator": {"name": "mock", "noise": 0.2}}
REINFORCE = {"name": "reinforce", "batch_size": 4, "policy": "free_logits"}


pytestmark = pytest.mark.usefixtures("workplace")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    return jaxnas.search(**MOCKED, controller=REINFORCE, budget=12, twin=True, folder=folder).folder


@pytest.fixture
def result(finished):
    """What was found by a run of one's own, with its twin."""
    return jaxnas.Result(Path(shutil.copytree(finished, "checkpoints/blocks_reinforce")))


def test_it_is_the_run_of_the_command():
    Path("mock.toml").write_text(MOCK)
    result = jaxnas.search(**MOCKED, controller=REINFORCE, budget=12)
    assert cli.main(["search", "mock.toml", "--search.budget", "12"]) == 0
    again = jaxnas.search("mock.toml", budget=12, folder="other")
    assert result.folder == Path("checkpoints/blocks_reinforce")
    assert again.folder == Path("other/mock")
    for name in PROMISED:
        content = Path("checkpoints/mock", name).read_bytes()
        assert (result.folder / name).read_bytes() == (again.folder / name).read_bytes() == content
    # A second one has a folder of its own, unless its name was asked for.
    assert jaxnas.search("mock.toml", budget=4).folder == Path("checkpoints/mock-2")
    with pytest.raises(InputError, match="checkpoints/mock exists; go on with it"):
        jaxnas.search("mock.toml", budget=4, name="mock")
    # A section takes the place of the file's.
    other = jaxnas.search("mock.toml", controller="random", budget=4)
    assert "policy" not in (other.folder / "config.toml").read_text()


def test_what_it_found(result):
    trials = result.trials
    assert list(trials)[:3] == ["trial", "round", "filters"]
    assert trials["trial"].tolist() == list(range(12))
    assert trials["round"].dtype == np.int64
    best = result.best
    assert best["reward"] == trials["reward"].max()
    assert best["trial"] == trials["reward"].argmax()
    assert best["architecture"] == trials["architecture"][best["trial"]]
    first = repr(result).splitlines()[0]
    assert first.startswith("blocks_reinforce: 12 trials of reinforce, 0 failed, best reward ")
    assert first.endswith(f"{best['reward']:.4f}: {best['architecture']}")
    assert "blocks_reinforce/twin: 12 trials of random" in repr(result)
    report = result.report()
    assert result.folder / "comparison.csv" in report.paths
    assert all(path.is_file() for path in report.paths)
    assert repr(report).splitlines() == [str(path) for path in report.paths]
    assert jaxnas.Result(result.folder).best == best  # of any run, from its folder


def test_what_a_notebook_shows(result):
    html = result._repr_html_()
    assert html.count("<tr>") == 3  # heading, the run, its twin
    assert f"<td>{result.best['reward']:.6g}</td>" in html
    assert result.best["architecture"] in html
    table = result.trials._repr_html_()
    assert table.count("<tr>") == 12  # heading, five at either end, and dots
    assert "<p>12 trials</p>" in table
    assert "<td>…</td>" in table
    figures = result.report()._repr_html_()
    assert (
        figures.count("data:image/svg+xml;base64,")
        == sum(p.suffix == ".svg" for p in result.report().paths)
        > 0
    )
    short = api.Trials({"a": np.array(["<b>", "x"]), "n": np.array([0.5, np.nan])})
    assert "<td>&lt;b&gt;</td><td>0.5</td>" in short._repr_html_()
    assert "<td>x</td><td></td>" in short._repr_html_()


def test_a_run_without_a_success():
    failing = MOCKED | {"evaluator": {"name": "mock", "failure_rate": 1.0}}
    result = jaxnas.search(**failing, controller="random", budget=8)
    assert result.best == {}
    assert "8 failed" in repr(result)
    assert "<td>8</td><td>8</td><td></td>" in result._repr_html_()


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"spaec": "blocks"}, "jaxnas.search: unknown name 'spaec'; did you mean 'space'"),
        ({"bugdet": 4}, "jaxnas.search: unknown name 'bugdet'; did you mean 'budget'"),
        ({"space": "bloks"}, "space.name: unknown name 'bloks'; did you mean 'blocks'"),
        ({"space": {"name": "blocks", "num_block": 2}}, "space.num_block: unknown name 'num_block'"),
        ({"space": None}, "space.name: missing; it takes one of: blocks"),
        ({"controller": 3}, "controller: found 3; it takes a name or a table"),
        ({"trainer": "adam"}, 'trainer: found "adam"; it takes a table'),
        ({"trainer": {"epochs": 1}}, "trainer: not used, for evaluator 'mock' does not ask for it"),
        ({"budget": "many"}, 'search.budget: found "many"; it takes an integer'),
        ({"seeds": 5}, "search.seeds: jaxnas.search runs one search"),
        ({"configuration": "none.toml"}, "none.toml: cannot read this configuration"),
        ({"evaluator": "trained", "data": "dgits"}, "data.source: unknown name 'dgits'"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(arguments, match):
    with pytest.raises(InputError) as error:
        jaxnas.search(**(MOCKED | {"controller": "random"} | arguments))
    assert match in str(error.value)
    assert not Path("checkpoints").exists()


@pytest.mark.parametrize(
    ("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
def test_an_interrupt_is_raised_and_the_run_goes_on(number, raised, monkeypatch):
    update = progress.Display.update

    def stop(self, now):
        update(self, now)
        signal.raise_signal(number)

    with monkeypatch.context() as patch:
        patch.setattr(progress.Display, "update", stop)
        with pytest.raises(raised, match=r"143|saved; go on with: jaxnas resume checkpoints/blocks_random"):
            jaxnas.search(**MOCKED, controller="random", budget=40, stop={"hours": 1.0})
    folder = Path("checkpoints/blocks_random")
    assert len(jaxnas.Result(folder).trials["trial"]) == 8
    assert cli.main(["resume", str(folder)]) == 0
    assert len(jaxnas.Result(folder).trials["trial"]) == 40


def test_a_notebook_has_one_line_of_progress(monkeypatch):
    shown = []
    monkeypatch.setattr(progress, "_notebook_line", lambda: shown.append)
    notebook = console.terminal()
    notebook.is_jupyter = True
    monkeypatch.setattr(progress, "terminal", lambda: notebook)
    jaxnas.search(**MOCKED, controller="random", budget=16, stop={"hours": 1.0})
    assert [line.split("  ")[1] for line in shown] == ["trial 8/16", "trial 16/16", "trial 16/16"]
