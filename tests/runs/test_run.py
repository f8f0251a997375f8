"""A run that is stopped anywhere, by anything, ends with the files of one that was never stopped."""

import json
import shutil
import signal
import threading

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from jaxnas import config, controllers, evaluators, loop, rewards, spaces
from jaxnas.errors import InputError
from jaxnas.runs import best, checkpoint, ledger, process, run
from jaxnas.types import DIVERGED, OK
from tests.helpers import chain_space, every_prefix, gain, takes

B = 4
CONTROLLER = """
[controller]
name = "reinforce"
batch_size = 4
policy = "free_logits"
learning_rate = 0.1
"""
KINDS = {
    "mock": """
[space]
name = "blocks"
num_blocks = 2
[evaluator]
name = "mock"
noise = 0.2
failure_rate = 0.2
""",
    "table": """
[space]
name = "blocks"
[evaluator]
name = "table"
path = "TABLE"
""",
    "trained": """
[space]
name = "blocks"
filters = [4]
kernel = [3]
[data]
source = "digits"
limit = 60
validation_fraction = 0.3
[trainer]
epochs = 2
batch_size = 14
""",
}
KINDS["reuse"] = '[search]\nduplicates = "reuse"\n' + KINDS["trained"]  # of three architectures
KINDS["resample"] = '[search]\nduplicates = "resample"\n' + KINDS["mock"]
PROMISED = ("trials.csv", "prefixes.csv", "rounds.csv", "policy.npz")
PROMISED += ("best/architecture.json", "best/weights.safetensors")


def build(kind, folder):
    """(search, parts) of a small configuration."""
    path = folder / f"{kind}.toml"
    path.write_text(CONTROLLER + KINDS[kind].replace("TABLE", str(folder / "table.csv")))
    settings = config.load(path)
    if kind == "table":
        from jaxnas.spaces import blocks

        space = blocks()
        archs = np.array(list(np.ndindex(4, 2, 3)), np.int32)
        # Three architectures are missing.
        rows = [f'"{space.describe(a)}",{0.5 + i / 100}' for i, a in enumerate(archs[:-3])]
        (folder / "table.csv").write_text("\n".join(["architecture,accuracy", *rows]) + "\n")
    parts = config.build(settings)
    return loop.make(parts.space, parts.controller, parts.evaluator, parts.reward), parts


@pytest.fixture(scope="module")
def searches(tmp_path_factory):
    folder, built = tmp_path_factory.mktemp("searches"), {}

    def get(kind, parts=False):
        if kind not in built:
            built[kind] = build(kind, folder)
        return built[kind] if parts else built[kind][0]

    return get


def execute(folder, search, budget=24, *, seed=7, watch=lambda _: None, **stop):
    folder.mkdir(exist_ok=True)
    with process.owned(folder):
        return run.execute(folder, search, seed=seed, stop=run.Stop(budget, **stop), watch=watch)


def promised(folder):
    return {name: (folder / name).read_bytes() for name in PROMISED if (folder / name).exists()}


def tree(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def assert_same(a, b):
    a, b = promised(a), promised(b)
    assert set(a) == set(b) and "trials.csv" in a
    for name in a:
        assert a[name] == b[name], name


def assert_best(folder):
    """best/ is of the best row of trials.csv."""
    rows = [row for row in ledger.read(folder / "trials.csv") if row["reward"]]
    if not rows:
        assert not (folder / "best").exists()
        return {}
    row = max(rows, key=lambda row: float(row["reward"]))
    about = json.loads((folder / "best" / "architecture.json").read_text())
    assert (str(about["trial"]), about["architecture"]) == (row["trial"], row["architecture"])
    assert np.float32(about["reward"]) == np.float32(row["reward"])
    return about


class Killed(BaseException):
    """What a kill -9 is in these tests: after it nothing reaches the disk."""


class Disk:
    """Every write of a run goes through here; from number `last` on none is made, of that one half."""

    def __init__(self, monkeypatch, last=10**9, half=False):
        self.last, self.half, self.writes = last, half, 0
        for module, name, torn in (
            (ledger, "append", self.torn_append),
            (ledger, "write_atomic", self.torn_write),
            (best, "write_folder", self.torn_folder),
            (checkpoint, "save", self.torn_save),
        ):
            monkeypatch.setattr(module, name, self.wrap(getattr(module, name), torn))

    def wrap(self, write, torn):
        def writes(*arguments):
            self.writes += 1
            if self.writes > self.last:
                if self.half and self.writes == self.last + 1:
                    torn(write, *arguments)
                raise Killed
            return write(*arguments)

        return writes

    def torn_append(self, write, path, rows):
        size = path.stat().st_size if path.exists() else 0
        write(path, rows)
        whole = path.read_bytes()
        path.write_bytes(whole[: (size + len(whole)) // 2])

    def torn_write(self, write, path, content):
        (path.parent / f".{path.name}.tmp").write_bytes(content[: len(content) // 2])

    def torn_folder(self, write, path, files):
        unfinished = path.with_name(f".{path.name}.tmp")
        unfinished.mkdir()
        name, content = next(iter(files.items()))
        (unfinished / name).write_bytes(content[: len(content) // 2])

    def torn_save(self, write, checkpoints, step, *_):
        unfinished = checkpoints.directory / f"{step}.orbax-checkpoint-tmp-0"
        unfinished.mkdir()
        (unfinished / "manifest.ocdbt").write_bytes(b"half")


@pytest.fixture
def always_save(monkeypatch):
    monkeypatch.setattr(checkpoint.Saver, "is_due", lambda self, seconds: True)


@pytest.mark.parametrize("kind", ["mock", "table", pytest.param("trained", marks=pytest.mark.optimized)])
def test_twice_is_identical(kind, searches, tmp_path):
    execute(tmp_path / "a", searches(kind), 18)
    other, _ = build(kind, tmp_path)
    execute(tmp_path / "b", other, 18)
    assert_same(tmp_path / "a", tmp_path / "b")
    assert_best(tmp_path / "a")
    execute(tmp_path / "c", searches(kind), 18, seed=8)
    assert promised(tmp_path / "a")["trials.csv"] != promised(tmp_path / "c")["trials.csv"]


@pytest.mark.parametrize(
    ("kind", "half"),
    [("mock", False), ("mock", True), ("table", True), ("trained", False), ("trained", True)],
    ids=lambda value: {False: "before", True: "amid"}.get(value, value),
)
def test_killed_at_any_write(kind, half, searches, tmp_path, monkeypatch, always_save):
    search, whole = searches(kind), tmp_path / "whole"
    with monkeypatch.context() as patch:
        disk = Disk(patch)
        execute(whole, search, 10)
        writes = disk.writes
    assert writes >= 12
    for last in range(writes):
        folder = tmp_path / str(last)
        with monkeypatch.context() as patch:
            Disk(patch, last, half)
            with pytest.raises(Killed):
                execute(folder, search, 10)
        execute(folder, search, 10)
        assert_same(whole, folder)
        assert_best(folder)


@pytest.mark.parametrize("kind", ["reuse", "resample"])
def test_repeated_proposals_when_killed(kind, searches, tmp_path, monkeypatch, always_save):
    """What was proposed before is known after a kill, and is not trained again."""
    search, _ = build(kind, tmp_path)
    with monkeypatch.context() as patch:
        disk = Disk(patch)
        execute(tmp_path / "whole", search, 16)
    rows = ledger.read(tmp_path / "whole" / "trials.csv")
    names = [row["architecture"] for row in rows]
    if kind == "reuse":
        assert search.evaluator.stats is not None
        assert search.evaluator.stats()["children"] == len(set(names)) < 16
        for i, row in enumerate(rows):
            first = rows[names.index(row["architecture"])]
            assert row["reused"] == str(int(first is not row)), i
            assert all(row[m] == first[m] for m in ("accuracy", "loss", "params", "reward", "status"))
    else:
        succeeded = [row["architecture"] for row in rows if row["reward"]]
        assert len(set(succeeded)) == len(succeeded) > 8
    for last in range(3, disk.writes, 5):
        with monkeypatch.context() as patch:
            Disk(patch, last)
            with pytest.raises(Killed):
                execute(tmp_path / str(last), search, 16)
        execute(tmp_path / str(last), search, 16)
        assert_same(tmp_path / "whole", tmp_path / str(last))
        assert_best(tmp_path / str(last))


# Of each kind one; that nothing of any controller's state is lost is in the contract of all of them.
@pytest.mark.parametrize("name", ["reinforce", "double_q", "dqn", "evolution"])
def test_what_a_controller_knows_survives_a_kill(name, tmp_path, monkeypatch, always_save):
    space, factory = spaces.blocks(), controllers.REGISTRY[name]
    controller = factory(space, **takes(factory, batch_size=B, units=8, memory=16, replay_size=16))
    evaluator = evaluators.mock(space, noise=0.2, failure_rate=0.2)
    search = loop.make(space, controller, evaluator, rewards.accuracy)
    execute(tmp_path / "whole", search, 6 * B)
    with monkeypatch.context() as patch:
        Disk(patch, 17)
        with pytest.raises(Killed):
            execute(tmp_path / "killed", search, 6 * B)
    assert 0 < len(ledger.read(tmp_path / "killed" / "trials.csv")) < 6 * B
    execute(tmp_path / "killed", search, 6 * B)
    assert_same(tmp_path / "whole", tmp_path / "killed")


def prefix_search(reuse=False):
    """On the chain space, whose every decision has a reward; with failures."""
    space = chain_space()
    evaluator = every_prefix(space, failure_rate=0.3)
    evaluator = evaluators.reuse(evaluator, space, memory=64) if reuse else evaluator
    controller = controllers.q_learning(space, batch_size=B, replays=2, memory=16)
    return loop.make(space, controller, evaluator, gain)


@pytest.mark.parametrize(("reuse", "half"), [(False, False), (False, True), (True, True)])
def test_measures_of_every_decision_survive_a_kill(reuse, half, tmp_path, monkeypatch, always_save):
    search = prefix_search(reuse)
    with monkeypatch.context() as patch:
        disk = Disk(patch)
        execute(tmp_path / "whole", search, 10)
    rows, steps = (ledger.read(tmp_path / "whole" / f"{name}.csv") for name in ("trials", "prefixes"))
    assert list(steps[0]) == ["trial", "round", "step", "end", "gain", "reward"]
    assert len(rows) == ledger.count_walks(tmp_path / "whole" / "prefixes.csv") == 10
    assert {row["status"] for row in rows} == {"ok", "failed"}
    for row in rows:
        along = [step for step in steps if step["trial"] == row["trial"]]
        assert [step["step"] for step in along] == [str(t) for t in range(4)]
        assert [step["end"] for step in along] == ["0", "0", "0", "1"]
        assert row["gain"] == along[-1]["gain"]
        if row["status"] == "ok":
            score = sum(float(step["reward"]) for step in along)
            assert float(row["reward"]) == pytest.approx(score, abs=1e-6)
        else:
            assert {row["reward"], *(step["reward"] for step in along)} == {""}
    for last in range(0, disk.writes, 1 + reuse):
        folder = tmp_path / str(last)
        with monkeypatch.context() as patch:
            Disk(patch, last, half)
            with pytest.raises(Killed):
                execute(folder, search, 10)
        execute(folder, search, 10)
        assert_same(tmp_path / "whole", folder)


@pytest.mark.parametrize("tail", [0, 1, 5])
def test_prefixes_behind_the_checkpoint(tail, tmp_path, always_save, capsys):
    """Lost lines at the end of prefixes.csv, whole or not: an older checkpoint takes over."""
    search = prefix_search()
    execute(tmp_path / "run", search, 5 * B)
    whole, path = promised(tmp_path / "run"), tmp_path / "run" / "prefixes.csv"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[: len(lines) - tail]) if tail else "".join(lines)[:-3])
    execute(tmp_path / "run", search, 6 * B)
    assert "prefixes.csv damaged or cut short" in capsys.readouterr().err
    kept = promised(tmp_path / "run")
    for name in ("prefixes.csv", "trials.csv"):
        assert kept[name].startswith(whole[name]), name


def test_killed_again_and_again(searches, tmp_path, monkeypatch):
    """Each process gets two more writes done than it takes to resume; checkpoints are seldom."""
    search, rng = searches("mock"), np.random.default_rng(0)
    execute(tmp_path / "whole", search, 58)
    for _ in range(200):
        saves = bool(rng.random() < 0.7)
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint.Saver, "is_due", lambda self, seconds, saves=saves: saves)
            Disk(patch, int(rng.integers(12, 24)), bool(rng.random() < 0.5))
            try:
                execute(tmp_path / "killed", search, 58)
                break
            except Killed:
                pass
    assert_same(tmp_path / "whole", tmp_path / "killed")


def test_long_runs_of_the_compiled_loop(searches, tmp_path, monkeypatch):
    """Strides of several rounds, a sparse policy.npz, and one program for all, also when resumed."""
    search = searches("mock")
    before = search.rounds._cache_size()
    execute(tmp_path / "whole", search, 1203 * B)
    rounds = np.load(tmp_path / "whole" / "policy.npz", allow_pickle=False)["round"]
    assert len(rounds) < 300
    assert rounds[-1] == 1200
    with monkeypatch.context() as patch:
        Disk(patch, 500)
        with pytest.raises(Killed):
            execute(tmp_path / "killed", search, 1203 * B)
    execute(tmp_path / "killed", search, 777 * B)
    execute(tmp_path / "killed", search, 1203 * B)
    assert_same(tmp_path / "whole", tmp_path / "killed")
    assert search.rounds._cache_size() - before <= 1


# BUDGETS


@pytest.mark.parametrize("kind", ["mock", "trained"])
@pytest.mark.parametrize("budgets", [(3, 13), (8, 16), (9, 10, 24), (1, 4, 5)])
def test_extending_equals_a_longer_run(kind, budgets, searches, tmp_path):
    for budget in budgets:
        summary = execute(tmp_path / "a", searches(kind), budget)
        assert summary.trials == budget == len(ledger.read(tmp_path / "a" / "trials.csv"))
        assert_best(tmp_path / "a")
    execute(tmp_path / "b", searches(kind), budgets[-1])
    assert_same(tmp_path / "a", tmp_path / "b")


@pytest.mark.parametrize("budget", [3, 8, 10])
def test_a_finished_run_is_left_alone(budget, searches, tmp_path):
    execute(tmp_path / "a", searches("mock"), budget)
    before = tree(tmp_path / "a")
    assert execute(tmp_path / "a", searches("mock"), budget).why == "the budget is spent"
    assert tree(tmp_path / "a") == before


@pytest.mark.parametrize("budget", [1, 9])
def test_a_budget_below_what_is_done(budget, searches, tmp_path):
    execute(tmp_path / "a", searches("mock"), 10)
    before = tree(tmp_path / "a")
    with pytest.raises(InputError, match=rf"search.budget: found {budget}; .* already has 10 trials"):
        execute(tmp_path / "a", searches("mock"), budget)
    assert tree(tmp_path / "a") == before


# STOPS


@pytest.mark.parametrize(
    ("stop", "why"),
    [({"accuracy": 0.95}, "reached accuracy"), ({"stalled_trials": 9}, "no better trial in the last 9")],
)
def test_stops_and_stays_stopped(stop, why, searches, tmp_path):
    search = searches("mock")
    summary = execute(tmp_path / "a", search, 400, **stop)
    assert why in summary.why
    rows = ledger.read(tmp_path / "a" / "trials.csv")
    assert len(rows) == summary.trials < 400
    before = tree(tmp_path / "a")
    again = execute(tmp_path / "a", search, 400, **stop)
    assert (again.trials, again.best) == (summary.trials, summary.best)
    assert why in again.why
    assert tree(tmp_path / "a") == before
    execute(tmp_path / "b", search, 400)
    whole = (tmp_path / "b" / "trials.csv").read_bytes()
    assert whole.startswith((tmp_path / "a" / "trials.csv").read_bytes())
    # It stopped after the first round by which there was a reason.
    best = np.array([float(row["reward"] or "nan") for row in rows])
    if "accuracy" in stop:
        assert np.nanmax(best[:-B]) < 0.95 <= np.nanmax(best)
    else:
        assert len(best) - 1 - np.nanargmax(best) >= 9
        assert len(best) - 1 - np.nanargmax(best) - B < 9
    execute(tmp_path / "a", search, 400)  # without the condition it goes on
    assert_same(tmp_path / "a", tmp_path / "b")


def test_an_error_stops_where_it_is_small_enough(searches, tmp_path):
    stop = {"accuracy": 13e3, "measure": "params", "more_is_better": False}
    summary = execute(tmp_path, searches("mock"), 400, **stop)
    params = [float(row["params"] or "nan") for row in ledger.read(tmp_path / "trials.csv")]
    assert np.nanmin(params) <= 13e3 < np.nanmin(params[:-B])
    assert summary.why == f"a trial reached params {np.nanmin(params):.4f}"
    assert execute(tmp_path, searches("mock"), 400, **stop).trials == len(params) < 400


def test_hours_are_those_of_all_processes(searches, tmp_path, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(run.time, "perf_counter", lambda: now[0])

    search = searches("mock")

    def rounds(*arguments):
        now[0] += 3600
        return search.rounds(*arguments)

    slow = search._replace(rounds=rounds)
    first = execute(tmp_path / "a", slow, 400, hours=2.5)
    assert (first.trials, first.why) == (3 * B, "2.5 hours are over")
    assert execute(tmp_path / "a", slow, 400, hours=4.5).trials == 5 * B
    assert execute(tmp_path / "a", slow, 400, hours=4.5).trials == 5 * B


# DAMAGE


@pytest.fixture
def run_of_six(searches, tmp_path, always_save):
    """(a whole run, the same run stopped after four of its six rounds)"""
    execute(tmp_path / "whole", searches("mock"), 24)
    execute(tmp_path / "run", searches("mock"), 16)
    assert sorted(p.name for p in (tmp_path / "run" / "state").iterdir()) == ["2", "3", "4"]
    return tmp_path / "whole", tmp_path / "run"


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(bytes(content))


def arrays_of(step):
    return [p for p in step.rglob("*") if p.is_file() and p.parent.name == "d"]


def flip_arrays(step):
    for path in arrays_of(step):
        flip(path)


def truncate(step):
    for path in arrays_of(step):
        path.write_bytes(path.read_bytes()[:10])


def lose_arrays(step):
    for path in arrays_of(step):
        path.unlink()


def lose_metadata(step):
    for name in ("_CHECKPOINT_METADATA", "_METADATA"):
        for path in step.rglob(name):
            path.write_bytes(b"{")


def empty(step):
    shutil.rmtree(step)
    step.mkdir()


DAMAGES = [flip_arrays, truncate, lose_arrays, lose_metadata, empty]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_gives_way_to_the_one_before(damage, searches, run_of_six, capsys):
    whole, folder = run_of_six
    damage(folder / "state" / "4")
    execute(folder, searches("mock"), 24)
    assert_same(whole, folder)
    err = capsys.readouterr().err
    assert damage is empty or ("going on from round 3" in err and err.count("\n") == 1)


@pytest.mark.parametrize("damage", DAMAGES[:-1])
def test_no_whole_checkpoint(damage, searches, run_of_six):
    whole, folder = run_of_six
    for step in (folder / "state").iterdir():
        damage(step)
    before = tree(folder)
    with pytest.raises(
        InputError, match=r"newest checkpoint is damaged, and no older .* delete .*state to begin"
    ):
        execute(folder, searches("mock"), 24)
    assert tree(folder) == before
    shutil.rmtree(folder / "state")
    execute(folder, searches("mock"), 24)
    assert_same(whole, folder)


@pytest.mark.parametrize("name", ["trials.csv", "rounds.csv"])
def test_a_ledger_behind_the_checkpoint(name, searches, run_of_six, capsys):
    whole, folder = run_of_six
    path = folder / name
    path.write_bytes(path.read_bytes()[:-3])
    execute(folder, searches("mock"), 24)
    assert_same(whole, folder)
    assert f"{name} damaged or cut short; going on from round 3" in capsys.readouterr().err


def drop(path):
    path.unlink()


def hole(path):
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], *lines[3:]]))


def garbage(path):
    path.write_bytes(b"\xff\x00" * 50)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        *((name, damage) for name in ("trials.csv", "rounds.csv") for damage in (drop, hole, garbage)),
        *(("policy.npz", damage) for damage in (drop, flip, garbage)),
    ],
)
def test_a_ledger_that_no_checkpoint_fits(name, damage, searches, run_of_six):
    whole, folder = run_of_six
    damage(folder / name)
    before = tree(folder)
    with pytest.raises(InputError, match=rf"{name} damaged or cut short"):
        execute(folder, searches("mock"), 24)
    assert tree(folder) == before
    shutil.rmtree(folder / "state")
    execute(folder, searches("mock"), 24)
    assert_same(whole, folder)


def test_damaged_timings_are_no_obstacle(searches, run_of_six):
    whole, folder = run_of_six
    (folder / "timings.csv").write_bytes(b"\xff,\nx\n")
    execute(folder, searches("mock"), 24)
    assert_same(whole, folder)


def test_a_checkpoint_of_another_search(searches, run_of_six):
    _, folder = run_of_six
    before = tree(folder)
    with pytest.raises(
        InputError, match=r"step 4 does not fit the configuration: .* the configuration needs"
    ):
        execute(folder, searches("table"), 24)
    assert tree(folder) == before


# SIGNALS, THE LOCK


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_between_rounds(number, searches, tmp_path):
    def stop(now):
        if now.round == 2:
            signal.raise_signal(number)

    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(process.Interrupted) as interrupt:
        execute(tmp_path / "a", searches("mock"), 24, watch=stop)
    assert interrupt.value.number == number
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert len(ledger.read(tmp_path / "a" / "trials.csv")) == 2 * B
    assert "2" in {p.name for p in (tmp_path / "a" / "state").iterdir()}
    execute(tmp_path / "a", searches("mock"), 24)
    execute(tmp_path / "b", searches("mock"), 24)
    assert_same(tmp_path / "a", tmp_path / "b")


@pytest.mark.parametrize("at", ["evaluate", "preview", "append", "save"])
def test_a_signal_within_a_round(at, searches, tmp_path, monkeypatch):
    """Given up where nothing is written yet; where a round is being written, it is written whole."""
    search = searches("trained")
    execute(tmp_path / "whole", search, 10)

    def raises(function, when):
        calls = []

        def wrapped(*arguments):
            calls.append(arguments)
            if len(calls) == when:
                signal.raise_signal(signal.SIGTERM)
            return function(*arguments)

        return wrapped

    interrupted = search
    with monkeypatch.context() as patch:
        if at == "append":
            patch.setattr(ledger, "append", raises(ledger.append, 5))
        elif at == "save":
            patch.setattr(checkpoint, "save", raises(checkpoint.save, 2))
            patch.setattr(checkpoint.Saver, "is_due", lambda self, seconds: True)
        else:
            name = {"evaluate": "step", "preview": "preview"}[at]
            when = {"evaluate": 2, "preview": 1}[at]
            interrupted = search._replace(**{name: raises(getattr(search, name), when)})
        with pytest.raises(process.Interrupted):
            execute(tmp_path / "a", interrupted, 10)
    rounds = {"evaluate": 1, "preview": 2, "append": 2, "save": 2}[at]
    assert len(ledger.read(tmp_path / "a" / "trials.csv")) == rounds * B
    assert_best(tmp_path / "a")
    execute(tmp_path / "a", search, 10)
    assert_same(tmp_path / "whole", tmp_path / "a")


def test_a_failure_after_the_evaluation_leaves_no_hole(searches, tmp_path, monkeypatch):
    """The state has moved on, its rows are not written: it must not be saved."""

    def full(path, rows):
        raise OSError(28, "No space left on device")

    execute(tmp_path / "a", searches("mock"), 8)
    with monkeypatch.context() as patch:
        patch.setattr(ledger, "append", full)
        with pytest.raises(OSError, match="No space"):
            execute(tmp_path / "a", searches("mock"), 24)
    execute(tmp_path / "a", searches("mock"), 24)
    execute(tmp_path / "b", searches("mock"), 24)
    assert_same(tmp_path / "a", tmp_path / "b")


def test_outside_the_main_thread(searches, tmp_path):
    """Signals cannot be handled there; a notebook or a server can still run a search."""
    thread = threading.Thread(target=execute, args=(tmp_path / "a", searches("mock"), 8))
    thread.start()
    thread.join()
    execute(tmp_path / "b", searches("mock"), 8)
    assert_same(tmp_path / "a", tmp_path / "b")


def test_one_owner(tmp_path):
    with (
        process.owned(tmp_path),
        pytest.raises(InputError, match="another process is running this search"),
        process.owned(tmp_path),
    ):
        pass
    with process.owned(tmp_path):
        pass
    with pytest.raises(InputError, match="cannot write there"), process.owned(tmp_path / "none"):
        pass


# THE BEST CHILD


def test_the_weights_of_the_best_child_are_its_own(searches, tmp_path):
    search, parts = searches("trained", parts=True)
    execute(tmp_path / "a", search, 10)
    about = assert_best(tmp_path / "a")
    flat = load_file(tmp_path / "a" / "best" / "weights.safetensors")
    structure, knobs = parts.network.plan(np.array(about["arch"]))
    shapes = jax.eval_shape(lambda key: parts.network.init(key, structure, {}), jax.random.key(0))
    names = [
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, _ in jax.tree_util.tree_leaves_with_path(shapes)
    ]
    assert sorted(names) == sorted(flat)
    params = jax.tree.unflatten(jax.tree.structure(shapes), [flat[name] for name in names])
    images, labels = parts.dataset.validation
    outputs = parts.network.apply(
        params, structure, knobs, (images.astype(np.float32) / 255 - 0.5) / 0.5, None
    )
    accuracy = np.mean(np.asarray(outputs).argmax(-1) == labels)
    assert accuracy == pytest.approx(about["measures"]["accuracy"], abs=1e-6)
    assert accuracy > 0.15


def test_a_compiled_evaluator_keeps_its_best_child(tmp_path, monkeypatch):
    """After a stride of many rounds the child is that of the best trial, not of a lane of the last round."""
    space = spaces.blocks(num_blocks=2)

    def child(key, state, arch):
        return {"key": jax.random.key_data(key), "arch": np.asarray(arch)}, None

    evaluator = evaluators.mock(space, noise=0.01)._replace(child=child)
    search = loop.make(space, controllers.random(space, batch_size=4), evaluator, rewards.accuracy)
    monkeypatch.setattr(ledger, "is_policy_round", lambda round: round == 0)  # which would end a stride
    rounds = []
    execute(tmp_path / "a", search, 40, seed=10, watch=lambda now: rounds.append(now.round))
    assert rounds == [10]
    about = assert_best(tmp_path / "a")
    assert about["trial"] < 36  # not of the last round
    weights = load_file(tmp_path / "a" / "best" / "weights.safetensors")
    key = loop.key_of_trial(search.init(jax.random.key(10)), about["trial"])
    np.testing.assert_array_equal(weights["key"], jax.random.key_data(key))
    np.testing.assert_array_equal(weights["arch"], about["arch"])


def test_the_best_child_is_no_constant_predictor(tmp_path):
    space = spaces.blocks(num_blocks=2)
    mock = evaluators.mock(space)

    def evaluate(keys, state, arch):
        """The better half of the children answers one class alone."""
        state, measures = mock.evaluate(keys, state, arch)
        return state, measures | {"constant": (measures["accuracy"] >= 0.55).astype("float32")}

    evaluator = mock._replace(evaluate=evaluate, measures=(*mock.measures, "constant"))
    search = loop.make(space, controllers.random(space, batch_size=4), evaluator, rewards.accuracy)
    for budget in (6, 20):  # a round and half of one; then, resumed, it knows the best one of before
        summary = execute(tmp_path, search, budget)
        rows = ledger.read(tmp_path / "trials.csv")
        expected = max((r for r in rows if r["constant"] == "0"), key=lambda row: float(row["reward"]))
        assert float(expected["reward"]) < max(float(row["reward"]) for row in rows)
        about = json.loads((tmp_path / "best" / "architecture.json").read_text())
        assert (summary.best["trial"], str(about["trial"])) == (expected["trial"],) * 2


def test_the_best_of_rounds_by_hand():
    space = spaces.blocks(num_blocks=2)

    def of(reward, constant, first=3, earlier=None, status=OK):
        rows = {"status": np.full(2, status), "constant": np.array(constant, np.float32)}
        arch = np.zeros((2, space.num_steps), np.int32)
        record = loop.Record(np.int32(first), arch, rows, None, np.array(reward, np.float32), None, {}, {})
        found = best.of_records([record], space, 2, earlier)
        return found and (found.trial, found.reward, found.constant)

    earlier = best.Best(1, 0.5, "", constant=False)
    assert of([0.25, 0.75], [0, 0]) == (7, 0.75, False)
    assert of([0.25, 0.75], [0, 1]) == (6, 0.25, False)
    assert of([0.25, 0.75], [1, 1]) == (7, 0.75, True)
    assert (
        of([0.25, 0.75], [1, 1], earlier=earlier)
        == of([0.5, 0.5], [0, 0], earlier=earlier)
        == (1, 0.5, False)
    )
    assert of([0.25, 0.25], [0, 0], earlier=earlier._replace(constant=True)) == (6, 0.25, False)
    assert of([0.25, np.nan], [0, 0], status=DIVERGED) is None


def test_every_trial_failed(tmp_path):
    path = tmp_path / "m.toml"
    path.write_text(
        CONTROLLER
        + KINDS["mock"].replace("failure_rate = 0.2", "failure_rate = 1.0").replace("num_blocks = 2", "")
    )
    parts = config.build(config.load(path))
    search = loop.make(parts.space, parts.controller, parts.evaluator, parts.reward)
    summary = execute(tmp_path / "a", search, 10, accuracy=0.1)
    assert summary == run.Summary("the budget is spent", 10, {})
    assert not (tmp_path / "a" / "best").exists()
    assert {row["status"] for row in ledger.read(tmp_path / "a" / "trials.csv")} == {"failed"}
    assert execute(tmp_path / "b", search, 40, stalled_trials=8).trials == 8
