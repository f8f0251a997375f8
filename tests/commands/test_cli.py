"""The commands as a person meets them: files, messages, exit codes, signals, kills."""

import contextlib
import csv
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from jaxnas.commands import arguments, cli, progress
from jaxnas.runs import ledger, process
from tests.helpers import UNOPTIMIZED_FLAGS

ROOT = Path(__file__).parents[2]
PROMISED = ("trials.csv", "rounds.csv", "policy.npz")
MOCK = """
[search]
budget = 10
[space]
name = "blocks"
[controller]
name = "reinforce"
batch_size = 4
policy = "free_logits"
[evaluator]
name = "mock"
noise = 0.2
"""
TRAINED = """
[search]
budget = 10
[space]
name = "blocks"
filters = [4]
kernel = [3]
[controller]
name = "random"
batch_size = 4
[data]
source = "digits"
limit = 60
validation_fraction = 0.3
[trainer]
epochs = 2
batch_size = 14
"""
TABLE = MOCK.replace('"mock"\nnoise = 0.2', '"table"\npath = "table.csv"')
PLUG_IN = '''
"""The mock, a hundredth of a second slower a round; or any evaluator."""
import time

import jax
import numpy as np

from jaxnas import evaluators


def slow(space, *, seconds: float = 0.01, path: str = ""):
    inner = evaluators.table(space, path=path) if path else evaluators.mock(space, noise=0.2)
    compiled = jax.jit(inner.evaluate)

    def evaluate(keys, state, arch):
        state, measures = compiled(keys, state, arch)
        time.sleep(seconds)
        return state, {name: np.asarray(values) for name, values in measures.items()}

    return inner._replace(evaluate=evaluate, jittable=False)
'''
TWO_BLOCKS = """
[search]
budget = 200
[space]
name = "blocks"
num_blocks = 2
filters = [2, 3]
kernel = [1, 3]
[controller]
name = "random"
batch_size = 20
[data]
source = "digits"
limit = 96
[trainer]
epochs = 1
"""
SLOW = MOCK.replace('"mock"\nnoise = 0.2', '"slow_parts:slow"')


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def workplace(workplace, tmp_path, monkeypatch, cache):
    """With the configurations, and a program cache that all share."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    for name, text in {"mock": MOCK, "trained": TRAINED, "table": TABLE, "slow": SLOW}.items():
        (tmp_path / f"{name}.toml").write_text(text)
    (tmp_path / "slow_parts.py").write_text(PLUG_IN)
    write_table(tmp_path / "table.csv")


def write_table(path):
    filters, kernels, rates = (16, 32, 64, 128), (3, 5), (0.1, 0.25, 0.5)
    names = [f"C({f},{k}) P(2,2) D({d}) SM" for f in filters for k in kernels for d in rates]
    rows = [f'"{name}",{0.5 + i / 100},{1000 * i}' for i, name in enumerate(names)]
    path.write_text("\n".join(["architecture,accuracy,params", *rows]) + "\n")


def jaxnas(*arguments):
    return cli.main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def finished_runs(tmp_path_factory):
    return tmp_path_factory.mktemp("finished")


@pytest.fixture
def finish_run(finished_runs):
    """A function that puts a finished run of mock.toml or trained.toml here; one search serves all tests."""

    def put(name):
        shared = finished_runs / name
        if not shared.exists():
            assert jaxnas("search", f"{name}.toml", "--folder", finished_runs) == 0
        return Path(shutil.copytree(shared, RUNS / name))

    return put


def tree(folder):
    return {
        str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None
        for p in folder.rglob("*")
        if "__pycache__" not in p.parts
    }


def assert_same(a, b, twin=False):
    for name in (*PROMISED, *(f"twin/{name}" for name in PROMISED if twin)):
        assert (a / name).read_bytes() == (b / name).read_bytes(), name


def assert_refused(capsys, *arguments, match=()):
    """Exit code 2, one line, nothing written or changed."""
    before = tree(Path())
    capsys.readouterr()
    assert jaxnas(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("jaxnas: ")
    assert err.count("\n") == 1
    for words in [match] if isinstance(match, str) else match:
        assert words in err
    assert tree(Path()) == before


def rows(folder):
    return ledger.read(folder / "trials.csv")


RUNS = Path("checkpoints")
CHECKED = "validation predictions are those of the search, in a fresh process"


# SEARCH, RESUME


def test_a_run(capsys, monkeypatch):
    monkeypatch.setattr("jaxnas.BEGAN", time.perf_counter() - 3600)  # this process began an hour ago
    assert jaxnas("search", "mock.toml") == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    times = next(line for line in lines if line.startswith("1 h 00 min in all: beginning 36"))
    assert 3600 < sum(map(float, re.findall(r"([0-9.]+) s", times))) < 3660
    assert [line.split()[:2] for line in lines[:2]] == [["round", "1"], ["round", "2"]]
    assert f"{RUNS / 'mock'}: 10 trials" in out
    assert "the budget is spent" in out
    assert (
        lines[-1]
        == "The run lies in checkpoints/mock, its page is report.html. Next: jaxnas report checkpoints/mock"
    )
    best = max(rows(RUNS / "mock"), key=lambda row: float(row["reward"]))
    assert f"best architecture  {best['architecture']}" in out
    about = json.loads((RUNS / "mock" / "environment.json").read_text())
    assert about["cpu_threads"] == int(os.environ["NPROC"])
    found = {p.name for p in (RUNS / "mock").iterdir()}
    ours = {"config.toml", "environment.json", "timings.csv", "state", "best", "figures"}
    ours |= {"report.html", *PROMISED}
    assert ours <= found
    assert not [name for name in found if name.endswith(".tmp")]
    # Twice the same; the second run has a folder of its own, and the first is left alone.
    before = tree(RUNS / "mock")
    assert jaxnas("search", "mock.toml") == 0
    assert_same(RUNS / "mock", RUNS / "mock-2")
    assert tree(RUNS / "mock") == before
    # A finished run says so and stays as it is.
    capsys.readouterr()
    assert jaxnas("resume", RUNS / "mock") == 0
    out, err = capsys.readouterr()
    assert "10 trials" in out
    assert "the budget is spent" in out
    assert err == ""
    assert tree(RUNS / "mock") == before
    # Fewer trials than there are: refused. More: as if there had been as many from the start.
    assert_refused(capsys, "resume", RUNS / "mock", "--budget", 9, match=["search.budget", "already has 10"])
    assert jaxnas("resume", RUNS / "mock", "--budget", 17) == 0
    assert jaxnas("search", "mock.toml", "--search.budget", 17, "--search.name", "whole") == 0
    assert_same(RUNS / "mock", RUNS / "whole")
    assert "budget = 17" in (RUNS / "mock" / "config.toml").read_text()
    assert_refused(
        capsys, "search", "mock.toml", "--search.name", "whole", match=["search.name", "jaxnas resume"]
    )


def test_the_folder_that_is_asked_for(capsys):
    assert jaxnas("search", "mock.toml", "--folder", "deep/er", "--search.name=a b") == 0
    assert len(rows(Path("deep/er/a b"))) == 10
    assert "jaxnas report 'deep/er/a b'" in capsys.readouterr().out
    assert not RUNS.exists()


def test_a_part_from_the_working_directory(finish_run):
    assert jaxnas("search", "slow.toml", "--evaluator.seconds", 0) == 0
    assert rows(RUNS / "slow") == rows(finish_run("mock"))


def test_a_twin(capsys, monkeypatch):
    """It is resumed with its run, extended with it, and compared in the same report."""
    flags = ("--search.twin", "--search.budget", 20)
    assert jaxnas("search", "slow.toml", *flags, "--evaluator.seconds", 0) == 0
    out = capsys.readouterr().out
    assert "checkpoints/slow/twin: 20 trials" in out
    assert "slow/twin" in out[out.index("twin: 20 trials") :]
    assert {len(rows(RUNS / name)) for name in ("slow", "slow/twin")} == {20}
    assert 'name = "random"' in (RUNS / "slow/twin/config.toml").read_text()
    # Stopped in the twin's second round.
    monkeypatch.setattr(os, "_exit", sys.exit)
    update = progress.Display.update

    def stop(self, now):
        update(self, now)
        if self.folder.name == "twin" and now.round == 2:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(progress.Display, "update", stop)
        with pytest.raises(SystemExit, match="143"):
            jaxnas("search", "slow.toml", *flags, "--search.name", "b", "--evaluator.seconds", 0)
    assert "go on with: jaxnas resume checkpoints/b" in capsys.readouterr().err
    assert [len(rows(RUNS / name)) for name in ("b", "b/twin")] == [20, 8]
    assert jaxnas("resume", RUNS / "b") == 0
    assert_same(RUNS / "slow", RUNS / "b", twin=True)
    for name in ("slow", "b"):
        assert jaxnas("resume", RUNS / name, "--budget", 24) == 0
    assert_same(RUNS / "slow", RUNS / "b", twin=True)
    assert len(rows(RUNS / "b/twin")) == 24
    assert_refused(capsys, "resume", RUNS / "b/twin", match="no run is here")
    capsys.readouterr()
    assert jaxnas("report", RUNS / "b") == 0
    assert "b/twin" in capsys.readouterr().out


def test_a_trained_run_and_its_dry_run(capsys):
    before = tree(Path())
    assert jaxnas("search", "trained.toml", "--dry-run") == 0
    out = capsys.readouterr().out
    assert "3 architectures of 3 decisions" in out
    assert "parameters" in out
    assert "memory: " in out
    assert "for 10 trials" in out
    assert tree(Path()) == before
    assert jaxnas("search", "trained.toml") == 0
    found = rows(RUNS / "trained")
    assert len(found) == 10
    assert {row["status"] for row in found} == {"ok"}
    assert all(0 < float(row["accuracy"]) <= 1 for row in found)
    out = capsys.readouterr().out
    assert "programs" in out
    assert f"best: 100.00% of 60 {CHECKED}" in out
    assert re.search(r"best accuracy +0\.\d+ \(always the commonest class: 0\.\d{4}\)", out)


def test_a_dry_run_of_the_mock(capsys):
    before = tree(Path())
    assert jaxnas("search", "mock.toml", "--dry-run", "--search.twin") == 0
    out = capsys.readouterr().out
    assert "24 architectures of 3 decisions" in out
    assert "for 20 trials" in out
    assert "memory" not in out
    assert tree(Path()) == before


def test_stop_conditions(capsys):
    assert jaxnas("search", "mock.toml", "--search.budget", 400, "--search.stop.stalled-trials", 8) == 0
    assert "no better trial in the last 8" in capsys.readouterr().out
    done = len(rows(RUNS / "mock"))
    before = tree(RUNS / "mock")
    assert jaxnas("resume", RUNS / "mock") == 0
    assert tree(RUNS / "mock") == before
    assert done < 400


# HELP, LIST


@pytest.mark.parametrize("command", ["", *arguments.COMMANDS])
def test_help_fits_a_screen(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    try:
        assert jaxnas(*filter(None, [command]), "--help") == 0  # of `search` it goes on with a configuration
    except SystemExit as end:
        assert end.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert 5 < len(lines) <= 24
    assert max(map(len, lines)) <= 80
    assert "jaxnas" in lines[0]


@pytest.mark.parametrize("command", arguments.COMMANDS)
def test_the_help_of_a_command_has_an_example_that_parses(command, capsys):
    example = shlex.split(arguments.COMMANDS[command].example.partition(" >")[0])
    assert example[:2] == ["jaxnas", command]
    options, rest = arguments.parser().parse_known_args(example[1:])
    assert options.command == command
    assert not rest or command in ("search", "compare", "retrain")
    with contextlib.suppress(SystemExit):
        jaxnas(command, "--help")
    assert " ".join(arguments.COMMANDS[command].example.split()) in " ".join(capsys.readouterr().out.split())


def test_help_of_a_search(capsys):
    assert jaxnas("search", "--help") == 0
    assert len(capsys.readouterr().out.splitlines()) <= 24
    assert jaxnas("search", "trained.toml", "--help") == 0
    out = capsys.readouterr().out
    for flag in ("--search.budget", "--space.filters", "--trainer.epochs", "--data.source", "--dry-run"):
        assert flag in out
    assert not RUNS.exists()


def test_version(capsys):
    with pytest.raises(SystemExit, match="0"):
        jaxnas("--version")
    assert capsys.readouterr().out.startswith("jaxnas 0.")


def test_list(capsys):
    assert jaxnas("list") == 0
    out = capsys.readouterr().out
    for word in (
        "spaces:",
        "blocks",
        "controllers:",
        "reinforce",
        "evaluators:",
        "mock",
        "rewards:",
        "data:",
        "digits",
    ):
        assert word in out
    assert jaxnas("list", "controllers") == 0
    out = capsys.readouterr().out
    assert "reinforce" in out
    assert "digits" not in out
    for word in ("https://arxiv.org/abs/1611.01578", "jaxnas/controllers/reinforce.py", "suits:"):
        assert word in out


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion(shell, capsys):
    assert jaxnas("complete", shell) == 0
    script = capsys.readouterr().out
    for word in (*arguments.COMMANDS, "--dry-run", "--budget"):
        assert word in script


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["jaxnas", "com"], ["compare", "complete"]),
        (["jaxnas", "resume", "--b"], ["--budget"]),
        (["jaxnas", "complete", ""], ["bash", "zsh"]),
        (["jaxnas", "search", "moc"], ["mock.toml"]),
    ],
)
def test_bash_completes(typed, expected, capsys):
    if shutil.which("bash") is None:
        pytest.skip("no bash")
    jaxnas("complete", "bash")
    words = " ".join(map(shlex.quote, typed))
    ask = f"COMP_WORDS=({words}); COMP_CWORD={len(typed) - 1}; _shtab_jaxnas; echo ${{COMPREPLY[@]}}"
    script = capsys.readouterr().out + ask
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == expected


# BAD INPUT


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ([], "COMMAND"),
        (["serach", "mock.toml"], "serach"),
        (["search"], "no configuration"),
        (["search", "none.toml"], "none.toml"),
        (["search", "."], ".: cannot read"),
        (["search", "slow_parts.py"], "not valid TOML"),
        (["search", "mock.toml", "stray"], "stray"),
        (["search", "mock.toml", "--search.bugdet", 4], ["bugdet", "did you mean 'budget'"]),
        (["search", "mock.toml", "--search.budget", "many"], ["search.budget", "many", "an integer"]),
        (["search", "mock.toml", "--search.budget", 0], ["search.budget", "at least 1"]),
        (["search", "mock.toml", "--search.budget"], "search.budget"),
        (["search", "mock.toml", "--search.name", "a/b"], "search.name"),
        (["search", "mock.toml", "--controller.name", "renforce"], "did you mean 'reinforce'"),
        (["search", "mock.toml", "--controller.name", "slow_parts:none"], "no function 'none'"),
        (["search", "mock.toml", "--controller.name", "no_module:none"], "cannot import 'no_module'"),
        (["search", "mock.toml", "--controller.batch-size", 0], "batch_size"),
        (["search", "mock.toml", "--reward.name", "accurcy"], "did you mean 'accuracy'"),
        (["search", "mock.toml", "--trainer.epochs", 1], "trainer: not used"),
        (["search", "mock.toml", "--space.forbid", "[{filters = 5}]"], "space.forbid"),
        (
            ["search", "mock.toml", "--space.forbid", "[{kernel=3},{kernel=5}]"],
            ["no choice is left for decision 'kernel'"],
        ),
        (["search", "mock.toml", "--evaluator.failure-rate", 2], "evaluator.failure_rate"),
        (["search", "table.toml", "--evaluator.path", "none.csv"], "none.csv"),
        (["search", "table.toml", "--evaluator.path", "slow_parts.py"], "slow_parts.py"),
        (["search", "trained.toml", "--data.source", "npz:none.npz"], "none.npz"),
        (["search", "trained.toml", "--data.source", "npz:mock.toml"], "mock.toml"),
        (["search", "trained.toml", "--data.source", "npz:labels.npz"], "labels.npz"),
        (["search", "trained.toml", "--data.source", "folder:mixed"], ["mixed", "size"]),
        (["search", "trained.toml", "--data.source", "folder:empty"], "empty"),
        (["search", "trained.toml", "--data.source", "dgits"], "did you mean 'digits'"),
        (["search", "trained.toml", "--trainer.optimizer", "adma"], "adma"),
        (["search", "trained.toml", "--search.stop.accuracy", 2], "search.stop.accuracy"),
        (["search", "mock.toml", "--folder", "mock.toml"], ["--folder", "mock.toml"]),
        (["resume"], "RUN"),
        (["resume", "none"], "none: no run is here"),
        (["resume", "mock.toml"], "mock.toml: no run is here"),
        (["resume", "none", "--bugdet", 4], "--bugdet"),
        (["resume", "none", "--budget", "many"], "many"),
        (["report"], "RUN"),
        (["report", "none"], "none"),
        (["report", "begun"], "begun: has no trial yet; `jaxnas resume begun` goes on"),
        (["report", "begun", "mock.toml"], "begun: has no trial yet"),
        (["retrain", "begun"], "begun: no run is here"),
        (["export", "none"], "none: no run is here"),
        (["export", "none", "--trial", "x"], "--trial"),
        (["predict"], "FOLDER"),
        (["predict", "none"], "no image; it takes image files"),
        (["predict", "none", "1.png"], "none: no network is here"),
        (["predict", "mock.toml", "1.png"], "mock.toml: no network is here"),
        (["predict", "none", "1.png", "--explain", "1.jpg"], ["1.jpg", "ends in .png"]),
        (["predict", "none", "--explain", "slow_parts.png"], "slow_parts.png exists"),
        (["watch", "none"], "none: not a run"),
        (["init", "none"], "none: no such folder; it takes one of <class>"),
        (["init", "slow_parts.py"], "slow_parts.py: no such folder"),
        (["serch", "mock.toml"], ["unknown name 'serch'", "did you mean 'search'"]),
        ([], "COMMAND"),
        (["list", "controler"], ["controler", "did you mean 'controllers'"]),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_bad_input(arguments, match, capsys, recwarn):
    images = np.zeros((4, 8, 8), np.uint8)
    if "npz:labels.npz" in arguments:
        np.savez("labels.npz", train_images=images, train_labels=np.array([0, 1, -7, 1]))
    from PIL import Image

    if "folder:mixed" in arguments:
        for i, size in enumerate([(8, 8), (8, 9), (8, 8), (8, 8)]):
            Path(f"mixed/{i % 2}").mkdir(parents=True, exist_ok=True)
            Image.new("L", size).save(f"mixed/{i % 2}/{i}.png")
    if "folder:empty" in arguments:
        for name in ("a", "b"):
            Path(f"empty/{name}").mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8)).save("empty/a/1.png")
    Path("slow_parts.png").touch()
    Path("begun").mkdir()
    Path("begun/config.toml").write_text(MOCK)
    assert_refused(capsys, *arguments, match=match)


def test_a_stop_that_can_never_come(capsys):
    Path("table.csv").write_text('architecture,latency_ms\n"C(16,3) P(2,2) D(0.1) SM",2.5\n')
    flags = ("--search.stop.accuracy", 0.9)
    assert_refused(capsys, "search", "table.toml", *flags, match=["search.stop.accuracy", "latency_ms"])


def test_a_run_that_does_not_fit_its_configuration(capsys, finish_run):
    folder = finish_run("mock")
    path = folder / "config.toml"
    good = path.read_text()
    for old, new, match in (
        ('policy = "free_logits"', 'policy = "lstm"', 'controller.policy: "free_logits" → "lstm"'),
        ("batch_size = 4", "batch_size = 5", ["controller.batch_size", "4 → 5"]),
        ("seed = 0", "seed = 1", ["search.seed", "0 → 1"]),
        ("num_blocks = 1", "num_blocks = 2", ["space.num_blocks", "1 → 2"]),
        ("noise = 0.2", "noise = 0.3", ["evaluator.noise"]),
        ('name = "mock"\nseed', 'name = "moved"\nsead', ["sead"]),
        ("[search]", "[serach]", ["serach", "search"]),
        ("[search]", "[search", ["config.toml", "not valid TOML"]),
        ("budget = 10", "budget = 4", ["search.budget", "already has 10"]),
    ):
        assert old in good
        path.write_text(good.replace(old, new, 1))
        assert_refused(capsys, "resume", folder, match=match)
    path.unlink()
    assert_refused(capsys, "resume", folder, match="config.toml")
    path.write_text(good.replace("seed = 0", "seed = 0 # a comment"))
    assert jaxnas("resume", folder) == 0
    (folder / ".config.toml").unlink()
    assert_refused(capsys, "resume", folder, match=".config.toml")


def test_a_run_from_elsewhere(capsys, monkeypatch, finish_run):
    folder = finish_run("mock")
    path = folder / "environment.json"
    about = json.loads(path.read_text())
    path.write_text(json.dumps(about | {"format": 99}))
    assert_refused(capsys, "resume", folder, match="format 99 is newer")
    path.write_text(json.dumps(about)[:-9])
    assert_refused(capsys, "resume", folder, match="environment.json: cannot be read")
    path.unlink()
    assert_refused(capsys, "resume", folder, match="no run is here")
    path.write_text(json.dumps(about | {"cpu_threads": 64}))
    assert_refused(capsys, "resume", folder, match=["NPROC", "64 CPU threads"])
    path.write_text(json.dumps(about | {"jax": "0.1.0"}))
    capsys.readouterr()
    assert jaxnas("resume", folder, "--budget", 12) == 0
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert f"jax 0.1.0 → {jax.__version__}" in err
    monkeypatch.setenv("NPROC", "two")
    assert_refused(capsys, "search", "mock.toml", match="NPROC: found 'two'")


def test_damage_is_one_line(capfd):
    assert jaxnas("search", "slow.toml", "--search.budget", 12, "--evaluator.seconds", 0) == 0
    folder = RUNS / "slow"
    for step in (folder / "state").iterdir():
        for path in step.rglob("d/*"):
            path.write_bytes(path.read_bytes()[:7])
    before = tree(folder)
    capfd.readouterr()
    assert jaxnas("resume", folder, "--budget", 16) == 2
    err = capfd.readouterr().err
    assert err.count("\n") == 1
    assert f"delete {folder / 'state'} to begin again" in err
    assert tree(folder) == before
    shutil.rmtree(folder / "state")
    assert jaxnas("resume", folder, "--budget", 16) == 0
    assert jaxnas("search", "slow.toml", "--search.budget", 16, "--search.name", "b") == 0
    assert_same(folder, RUNS / "b")


def test_a_second_process_is_refused(capsys, finish_run):
    folder = finish_run("mock")
    with process.owned(folder):
        arguments = ("resume", folder, "--budget", 50)
        assert_refused(capsys, *arguments, match="another process is running this search")


def test_nothing_is_left_where_no_run_can_be_written(capsys, monkeypatch):
    def full(self, *_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    Path("runs").mkdir()
    assert_refused(capsys, "search", "mock.toml", "--folder", "runs", match=["--folder", "No space left"])


# PROCESSES: SIGNALS, KILLS, DEVICES


def start(*arguments, **environ):
    command = [sys.executable, "-m", "jaxnas", *map(str, arguments)]
    environ = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"} | environ
    return subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def start_quickly(*arguments, **environ):
    """With programs that are compiled quickly, as those of this process are."""
    return start(*arguments, XLA_FLAGS=UNOPTIMIZED_FLAGS, **environ)


def finish(process):
    _, err = process.communicate()
    assert process.returncode == 0, err


def wait_for_trials(folder, count, process, seconds=120):
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        if len(rows(folder)) >= count:
            return
        time.sleep(0.005)
    process.kill()
    raise AssertionError(f"no {count} trials: {process.communicate()}")


def assert_interrupted(process, number, folder):
    process.send_signal(number)
    out, err = process.communicate(timeout=60)  # 128 + number: it did not go on to its end
    assert process.returncode == 128 + number, err
    assert err.splitlines()[-1] == f"interrupted, saved; go on with: jaxnas resume {folder}"
    assert "Traceback" not in err
    return out


def test_signals_and_a_kill(capsys):
    """SIGTERM and SIGKILL in turn: saved, said, unlocked; the end is that of an undisturbed run."""
    folder = RUNS / "slow"
    process = start_quickly("search", "slow.toml", "--search.budget", 200, "--evaluator.seconds", 0.05)
    wait_for_trials(folder, 12, process)
    assert jaxnas("resume", folder, "--budget", 900) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "another process is running this search" in err
    assert "budget = 200" in (folder / "config.toml").read_text()
    out = assert_interrupted(process, signal.SIGTERM, folder)
    assert [line.split()[1] for line in out.splitlines()[:3]] == ["1", "2", "3"]
    done = len(rows(folder))
    assert {p.name for p in (folder / "state").iterdir()} >= {str(done // 4)}

    process = start_quickly("resume", folder)
    wait_for_trials(folder, done + 8, process)
    process.kill()
    process.communicate()
    assert (folder / "report.html").read_text("utf-8").endswith("</html>\n")
    # In this process, and without a pause: the rest of it is quick.
    more = len(rows(folder)) + 9
    for path in (folder / "config.toml", folder / ".config.toml"):
        path.write_text(path.read_text().replace("seconds = 0.05", "seconds = 0.0"))
    assert jaxnas("resume", folder) == 0
    assert more <= len(rows(folder)) == 200
    arguments = ("--search.budget", 200, "--search.name", "b", "--evaluator.seconds", 0)
    assert jaxnas("search", "slow.toml", *arguments) == 0
    assert_same(folder, RUNS / "b")


def test_a_signal_while_children_train():
    flags = ("--search.budget", 40, "--trainer.epochs", 4000)
    process = start_quickly("search", "trained.toml", *flags)
    end = time.monotonic() + 60
    while not (RUNS / "trained" / "state").exists() and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(3)
    assert_interrupted(process, signal.SIGINT, RUNS / "trained")
    assert not rows(RUNS / "trained")


KILLED = {
    "mock": ("mock.toml", "--search.budget", 40002),
    "table": ("table.toml", "--search.budget", 40002),
    "host": ("slow.toml", "--evaluator.seconds", 0.02, "--search.budget", 242),
    "trained": ("trained.toml", "--search.budget", 90, "--trainer.epochs", 20),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KILLED)
def test_five_kills(kind):
    """Killed with -9 at five random moments and resumed: identical to the uninterrupted run."""
    rng = np.random.default_rng(sum(kind.encode()))
    folder, arguments = RUNS / "killed", KILLED[kind]
    finish(start("search", *arguments, "--search.name", "whole"))
    total, kills = len(rows(RUNS / "whole")), 0
    for part in range(5):
        command = ("search", *arguments, "--search.name", "killed") if part == 0 else ("resume", folder)
        process = start(*command)
        wait_for_trials(folder, min(total - 1, (part + 1) * total // 7), process)
        time.sleep(rng.uniform(0, 0.3))
        process.kill()
        process.communicate()
        kills += process.returncode == -signal.SIGKILL
    assert kills == 5
    assert len(rows(folder)) < total
    finish(start("resume", folder))
    assert_same(RUNS / "whole", folder)


def run_on(devices, kind, start=start):
    arguments = (
        "search",
        f"{kind}.toml",
        "--search.name",
        f"{kind}{devices}",
        "--runtime.cpu-devices",
        devices,
    )
    finish(start(*arguments, NPROC="8"))
    about = json.loads((RUNS / f"{kind}{devices}" / "environment.json").read_text())
    assert (len(about["devices"]), about["cpu_threads"]) == (devices, 8)
    return RUNS / f"{kind}{devices}"


@pytest.mark.parametrize(
    ("trials", "batch_size", "kernels"), [(10, 8, [3]), pytest.param(200, 20, [1, 3], marks=pytest.mark.slow)]
)
def test_programs_serve_many_trials_and_the_next_process(trials, batch_size, kernels, tmp_path):
    """Random architectures of two blocks: one program a structure, and a second process compiles none."""
    (tmp_path / "two_blocks.toml").write_text(TWO_BLOCKS)
    for name in ("first", "second"):
        flags = ("--search.budget", trials, "--controller.batch-size", batch_size, "--space.kernel", *kernels)
        finish(start_quickly("search", "two_blocks.toml", "--search.name", name, *flags))
    with (RUNS / "second" / "timings.csv").open() as file:
        timing = list(csv.DictReader(file))[-1]
    shapes = {
        tuple(row[f"{what}_{i}"] for what in ("filters", "kernel") for i in (1, 2))
        for row in rows(RUNS / "second")
    }
    assert len(rows(RUNS / "second")) == trials
    assert 2 <= int(timing["programs"]) <= len(shapes) <= (2 * len(kernels)) ** 2
    assert timing["cached"] == timing["programs"]
    assert_same(RUNS / "first", RUNS / "second")
    costs = list(csv.DictReader((RUNS / "first" / "costs.csv").read_text().splitlines()))
    assert [row["trial"] for row in costs] == [str(i) for i in range(trials)]
    assert all(float(row["train_seconds"]) > 0 and float(row["peak_bytes"]) > 0 for row in costs)


def test_sample(capsys, finish_run):
    run = finish_run("mock")
    capsys.readouterr()
    assert jaxnas("sample", run, "-n", "5") == 0
    out = capsys.readouterr().out
    assert out.startswith("sampled 4/5")
    assert "greedy: C(" in out
    assert_refused(capsys, "sample", run, "-n", "0", match="-n: got 0; it takes 1 or more")
    assert_refused(capsys, "sample", RUNS / "none", match="none")
    assert_refused(capsys, "retrain", run, match="'mock' trains no networks")
    assert_refused(capsys, "export", run, match="'mock' trains no networks")


def test_export_predict_and_retrain(capsys, monkeypatch, finish_run):
    """What a search leaves behind is used by other commands, and by retrain with a test accuracy."""
    run = finish_run("trained")
    capsys.readouterr()
    assert jaxnas("export", run, "--trial", "1") == 0
    out, err = capsys.readouterr()
    assert (err, f"trial_000001: 100.00% of 60 {CHECKED}" in out) == ("", True)
    exported = run / "exported" / "trial_000001"
    assert {path.name for path in exported.iterdir()} == {path.name for path in (run / "best").iterdir()}
    assert jaxnas("export", run, "--trial", "1", "--onnx", "--out", "ported") == 0
    out = capsys.readouterr().out
    assert f"100.00% of 60 {CHECKED}; 100.00% of 60 those of model.onnx in onnxruntime" in out
    assert {path.name for path in Path("ported").iterdir()} == {
        "model.onnx",
        *(path.name for path in exported.iterdir()),
    }
    snippet = Path("ported/README.md").read_text().partition("```python\n")[2].partition("```")[0]
    names = {}
    with contextlib.chdir("ported"):
        exec(snippet, names)
    assert names["outputs"].shape == (1, 10) and "onnx" not in (exported / "README.md").read_text()
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "onnx", None)
        assert_refused(
            capsys, "export", run, "--onnx", match="--onnx: it needs onnx: pip install 'jaxnas[onnx]'"
        )
    Image.fromarray(np.zeros((8, 8), np.uint8)).save("digit.png")
    assert jaxnas("predict", exported, "digit.png", "--explain", "reasons.png") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("digit.png: ") and lines[1] == "reasons: reasons.png"
    assert Path("reasons.png").stat().st_size > 1000
    assert jaxnas("predict", exported, "digit.png", "--min-confidence", "1") == 0
    assert capsys.readouterr().out.startswith("digit.png: none of these: ")
    assert_refused(
        capsys, "predict", exported, "digit.png", "--min-confidence", "2", match="--min-confidence: got 2; "
    )
    assert jaxnas("retrain", run, "--top", "1", "--epochs", "1") == 0
    out = capsys.readouterr().out
    assert out.startswith("trained 1/2")
    assert "baseline: stem(16) - residual(16,3) - residual(32,3) - GAP() - SM()" in out
    retrained = json.loads((run / "retrained" / "best" / "metrics.json").read_text())
    row = ledger.read(run / "retrained" / "results.csv")[0]
    assert np.float32(retrained["test"]["accuracy"]) == np.float32(row["test_accuracy"])
    assert (retrained["agreement"], str(retrained["trial"])) == (1.0, row["trial"])
    assert (
        f"test: accuracy {float(row['test_accuracy']):.4f}" in (run / "retrained/best/README.md").read_text()
    )
    assert_refused(capsys, "export", run, "--trial", "99", match="--trial: got 99; ")
    assert_refused(capsys, "export", "nowhere", match="nowhere: no run is here")
    assert_refused(
        capsys, "predict", run, match="predict: no image; it takes image files, or --explain FILE.png"
    )
    assert_refused(capsys, "predict", run, "no.png", match="no.png: not a readable image")
    assert_refused(capsys, "predict", "nowhere", "digit.png", match="nowhere: no network is here")
    assert_refused(capsys, "retrain", run, "--top", "0", match="--top: got 0")
    assert_refused(capsys, "retrain", run, "--epochs", "9", match="made with other settings")


def test_the_cache_is_shown_and_cleared(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "jaxnas" / "programs"
    assert jaxnas("cache", "clear") == 0
    (folder / "2").mkdir(parents=True)
    (folder / "2" / "program").write_bytes(bytes(2**20))
    capsys.readouterr()
    assert jaxnas("cache") == 0
    assert capsys.readouterr().out == f"{folder}: 1 files of compiled programs, 1.0 MB, kept\n"
    assert folder.exists()
    assert jaxnas("cache", "clear") == 0
    assert "deleted" in capsys.readouterr().out
    assert not folder.exists()
    assert_refused(capsys, "cache", "cler", match="cler")


def test_constraints_from_a_file(capsys, tmp_path):
    (tmp_path / "tight.toml").write_text(MOCK + "[constraints]\nparams = 60000\nreward = -1\n")
    assert jaxnas("search", "tight.toml") == 0
    found = {row["status"] for row in rows(RUNS / "tight")}
    assert found == {"ok", "rejected"}
    assert all((row["reward"] == "-1") == (row["status"] == "rejected") for row in rows(RUNS / "tight"))
    assert_refused(capsys, "search", "tight.toml", "--constraints.flops", 10, match="constraints.flops")
    assert_refused(capsys, "search", "tight.toml", "--constraints.params", -1, match="constraints.params")


def test_one_and_two_devices():
    """Quickly compiled; to the bit of what users get in the slow test, and in that of the trainer."""
    assert_same(*(run_on(devices, "trained", start_quickly) for devices in (1, 2)))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mock", "table", "trained"])
def test_one_two_and_eight_devices(kind):
    one = run_on(1, kind)
    for devices in (2, 8):
        assert_same(one, run_on(devices, kind))
