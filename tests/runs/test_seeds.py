"""Many searches in one program are the searches that would have run one by one."""

import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxnas import controllers, evaluators, loop, masks, rewards
from jaxnas.commands import cli
from jaxnas.errors import InputError
from jaxnas.runs import ledger, process, results, run, seeds
from jaxnas.spaces import nasbench201
from jaxnas.training import programs
from jaxnas.types import OK, REJECTED
from tests.helpers import (
    UNOPTIMIZED_FLAGS,
    assert_close,
    assert_identical,
    chain,
    chain_space,
    every_prefix,
    gain,
)

ROOT = Path(__file__).parents[2]
B, SEED = 4, 5
SPACE = chain()
SHORT: dict[str, dict] = {"random": {}, "q_learning": {"replays": 4, "memory": 16, "epsilon_total": 10}}
SHORT |= {"reinforce": {"policy": "free_logits", "learning_rate": 0.1}, "evolution": {}, "priority_queue": {}}
CONFIG = """
[search]
budget = 10
chunk = 2
[space]
name = "blocks"
[controller]
name = "reinforce"
batch_size = 4
policy = "free_logits"
[evaluator]
name = "mock"
noise = 0.2
failure_rate = 0.2
"""


def make(controller="random", space=SPACE, **options):
    controller = controllers.REGISTRY[controller](space, batch_size=B, **SHORT[controller] | options)
    evaluator = evaluators.mock(space, noise=0.1, failure_rate=0.2)
    return loop.make(space, controller, evaluator, rewards.accuracy)


RANDOM = make()


def on_host(search):
    evaluator = search.evaluator._replace(jittable=False, evaluate=jax.jit(search.evaluator.evaluate))
    return loop.make(search.space, search.controller, evaluator, rewards.accuracy)


@pytest.fixture(scope="module")
def same_programs():
    """One block after the other, and a program that is compiled once."""
    made = {}
    with pytest.MonkeyPatch.context() as patch:
        original = seeds.Programs
        patch.setattr(
            seeds, "Programs", lambda **settings: made.setdefault("", original(**settings | {"workers": 1}))
        )
        yield


def execute(folder, search, n=5, *, budget=22, chunk=2, ledgers=False, watch=lambda _: None):
    folder.mkdir(exist_ok=True)
    plan = seeds.Plan(SEED, n, budget, chunk, ledgers)
    return seeds.execute(folder, search, plan, text="whole\n", watch=watch)


def content(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("reinforce", marks=pytest.mark.optimized),
        *(pytest.param(name, marks=pytest.mark.slow) for name in SHORT if name != "reinforce"),
    ],
)
def subject(request, tmp_path_factory):
    """A search, the folder of five of it, and what was done there."""
    search, folder = make(request.param), tmp_path_factory.mktemp("seeds") / request.param
    return search, folder, execute(folder, search, ledgers=True)


def test_the_arrays(subject):
    _, folder, arrays = subject
    assert {name: values.shape for name, values in arrays.items()} == {
        **dict.fromkeys(("accuracy", "params", "reward", "status"), (5, 22)),
        "arch": (5, 22, SPACE.num_steps),
    }
    types = {name: values.dtype for name, values in arrays.items()}
    assert types == dict.fromkeys(("accuracy", "params", "reward"), np.float32) | {
        "arch": np.uint8,
        "status": np.uint8,
    }
    masks.check(SPACE, arrays["arch"].reshape(-1, SPACE.num_steps))
    assert len(np.unique(arrays["reward"][:, 0])) >= 4
    assert {p.name for p in folder.iterdir()} == {"searches.npz", "summary.csv", "seeds"}
    stored = np.load(folder / "searches.npz", allow_pickle=False)
    assert_identical({name: stored[name] for name in arrays}, arrays)


def test_host_loop_scan_and_block_are_one_search(subject, tmp_path):
    """The ledgers of search 3 are those of a run of its own in the host loop, to the byte; so is a scan."""
    search, folder, arrays = subject
    run.execute(tmp_path, seeds.nth(on_host(search), 3), seed=SEED, stop=run.Stop(22))
    own = folder / "seeds/000003"
    assert (own / "trials.csv").read_bytes() == (tmp_path / "trials.csv").read_bytes()
    found, alone = (ledger.read(path / "rounds.csv") for path in (own, tmp_path))
    assert [list(row) for row in found] == [list(row) for row in alone]
    numbers = [[[float(x) for x in row.values()] for row in rows] for rows in (found, alone)]
    np.testing.assert_allclose(*numbers, rtol=1e-5, atol=1e-7)
    assert (own / "config.toml").read_text() == "whole\n"

    start = jax.jit(seeds.nth(search, 3).init)(jax.random.key(SEED))
    _, records = jax.jit(lambda state: loop.scan(search, state, 6))(start)
    np.testing.assert_array_equal(np.asarray(records.arch).reshape(24, -1)[:22], arrays["arch"][3])
    for name, values in (("reward", records.reward), *records.measures.items()):
        np.testing.assert_array_equal(np.asarray(values).ravel()[:22], arrays[name][3])


@pytest.mark.optimized  # the arrays of two programs, to the bit
def test_on_the_host(tmp_path):
    """One after the other, each a run of its own; the same arrays."""
    search, told = RANDOM, []
    execute(tmp_path / "compiled", search, 2)

    def stop(trials):
        told.append(trials)
        if trials == 30:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(process.Interrupted):
        execute(tmp_path / "host", on_host(search), 2, watch=stop)
    assert told[-1] == 30
    assert not (tmp_path / "host/searches.npz").exists()
    execute(tmp_path / "host", on_host(search), 2)
    for name in ("searches.npz", "summary.csv"):
        assert (tmp_path / "host" / name).read_bytes() == (tmp_path / "compiled" / name).read_bytes()
    assert (tmp_path / "host/seeds/000001/config.toml").read_text() == "whole\n"


def test_measures_of_every_decision(tmp_path):
    """A block has them as arrays; its ledgers, and the arrays of runs on the host, are the same."""
    space = chain_space()
    controller = controllers.q_learning(space, batch_size=B, replays=2, memory=16)
    search = loop.make(space, controller, every_prefix(space, failure_rate=0.3), gain)
    slow = search.evaluator._replace(jittable=False, evaluate=jax.jit(search.evaluator.evaluate))
    slow = loop.make(space, controller, slow, gain)
    arrays = execute(tmp_path / "block", search, 2, budget=10, ledgers=True)
    on_host = execute(tmp_path / "host", slow, 2, budget=10)
    assert {name for name in arrays if "/" in name} == {f"prefixes/{m}" for m in ("gain", "reward", "live")}
    assert arrays["prefixes/reward"].shape == (2, 10, 4)
    assert_identical(arrays, {name: on_host[name] for name in arrays})
    ok = arrays["status"] == OK
    assert 0 < ok.sum() < 20
    np.testing.assert_allclose(arrays["prefixes/reward"].sum(-1)[ok], arrays["reward"][ok], rtol=1e-6)
    for name in ("trials.csv", "prefixes.csv"):
        files = [(tmp_path / kind / "seeds" / "000001" / name).read_bytes() for kind in ("block", "host")]
        assert files[0] == files[1], name
    summary = ledger.read(tmp_path / "block" / "summary.csv")
    assert list(summary[0]) == ["search", "reward", "architecture", "depth", "gain", "trials_to_best"]


def test_a_step_of_an_lstm_to_rounding():
    search = make("reinforce", policy="lstm", units=8, learning_rate=0.01)
    together = jax.jit(jax.vmap(lambda i: seeds.nth(search, i).init(jax.random.key(SEED))))(np.arange(3))
    ends = jax.jit(jax.vmap(search.step))(together)
    step, step_on_host = jax.jit(search.step), on_host(search).step
    for i in range(3):
        start = jax.tree.map(lambda x, i=i: x[i], together)
        alone, host = step(start), step_on_host(start)
        in_block = jax.tree.map(lambda x, i=i: x[i], ends)
        for found in (in_block, host):
            np.testing.assert_array_equal(found[1].arch, alone[1].arch)
            assert_close(found[0].controller.params, alone[0].controller.params, rtol=1e-5, atol=1e-7)
            assert_close(found[1].reward, alone[1].reward, rtol=1e-5)


def test_the_summary(subject):
    _, folder, arrays = subject
    rows = ledger.read(folder / "summary.csv")
    assert [row["search"] for row in rows] == list("01234")
    for row, reward, accuracy, arch in zip(
        rows, arrays["reward"], arrays["accuracy"], arrays["arch"], strict=True
    ):
        trial = int(row["trials_to_best"]) - 1
        assert np.float32(row["reward"]) == reward[trial] == np.nanmax(reward)
        assert not (reward[:trial] >= reward[trial]).any()
        assert np.float32(row["accuracy"]) == accuracy[trial]
        assert row["architecture"] == SPACE.describe(arch[trial])


def test_the_best_trial_by_hand():
    nan = np.nan
    reward = np.array([[0.1, 0.5, 0.5], [nan, nan, nan], [9.0, 0.2, nan], [nan, -3.0, -4.0]], np.float32)
    status = np.full((4, 3), OK, np.uint8)
    status[2, 0] = REJECTED
    assert results.best_trial({"reward": reward, "status": status}).tolist() == [1, -1, 1, 1]


def test_a_search_depends_neither_on_their_number_nor_on_the_chunk(subject, tmp_path):
    search, _, arrays = subject
    found = execute(tmp_path / "a", search, 3, chunk=4)
    assert_identical(found, {name: values[:3] for name, values in arrays.items()})


def test_chunks():
    """One LSTM fills the cache of a core; hundreds of tables do."""
    space = nasbench201()
    assert chunk(space, "reinforce", policy="lstm", units=20) > 1
    assert (
        chunk(space, "reinforce", policy="lstm") == chunk(space, "reinforce", policy="lstm", units=400) == 1
    )
    assert chunk(space, "reinforce", policy="free_logits") == chunk(space, "random") == 512


def chunk(space, name, **options):
    controller = controllers.REGISTRY[name](space, **options)
    return seeds.chunk_of(loop.make(space, controller, evaluators.mock(space), rewards.accuracy))


# STOPPED AND GONE ON


class Killed(BaseException):
    """What a kill -9 is here: after it nothing reaches the disk."""


@pytest.mark.parametrize("half", [False, True], ids=["before", "amid"])
def test_killed_at_any_write(half, tmp_path, monkeypatch, same_programs):
    search, write, shutdown = RANDOM, ledger.write_atomic, ThreadPoolExecutor.shutdown

    def waits(pool, **_):
        """A kill ends all threads; here they have to end before the next search."""
        shutdown(pool, wait=True, cancel_futures=True)

    execute(tmp_path / "whole", search)
    for last in range(5):  # three blocks, the arrays, the summary
        left = [last]

        def writes(path, data, left=left):
            left[0] -= 1
            if left[0] < 0:
                if half and left[0] == -1:
                    path.with_name(f".{path.name}.tmp").write_bytes(data[: len(data) // 2])
                raise Killed
            write(path, data)

        folder = tmp_path / str(last)
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(ledger, "write_atomic", writes)
            patch.setattr(ThreadPoolExecutor, "shutdown", waits)
            execute(folder, search)
        told = []
        execute(folder, search, watch=told.append)
        assert told == ([] if last > 3 else [min(22 * 2 * n, 110) for n in range(last, 4)])
        assert content(folder) == content(tmp_path / "whole")


@pytest.mark.parametrize(
    "damage",
    [lambda b: b[:-200], lambda b: b"", lambda b: b"\xff" * len(b)],
    ids=["cut", "empty", "garbage"],
)
def test_a_damaged_block_is_done_again(damage, tmp_path, monkeypatch, same_programs):
    search = RANDOM
    execute(tmp_path / "whole", search)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(np, "concatenate", lambda *_: (_ for _ in ()).throw(Killed))
        execute(tmp_path / "a", search)
    block = tmp_path / "a/blocks/000000002.npz"
    block.write_bytes(damage(block.read_bytes()))
    told = []
    execute(tmp_path / "a", search, watch=told.append)
    assert told == [88, 110]
    assert content(tmp_path / "a") == content(tmp_path / "whole")


def test_another_budget_is_refused(tmp_path):
    search = RANDOM
    execute(tmp_path / "a", search)
    before = content(tmp_path / "a")
    with pytest.raises(InputError, match=r"search.budget: found 30; .* have 22 trials each"):
        execute(tmp_path / "a", search, budget=30)
    assert content(tmp_path / "a") == before


def test_too_little_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(programs.Programs, "available_bytes", lambda self: 1000)
    with pytest.raises(InputError, match=r"search.chunk: found 2; .* takes fewer"):
        execute(tmp_path / "a", RANDOM)


# THE COMMAND


@pytest.fixture
def workplace(workplace, tmp_path):
    (tmp_path / "mock.toml").write_text(CONFIG)
    return tmp_path


def jaxnas(*arguments):
    return cli.main([str(argument) for argument in arguments])


def test_the_command(workplace, capsys, monkeypatch):
    assert jaxnas("search", "mock.toml", "--seeds", 5) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert [line.split("  ")[1:3] for line in lines[:3]] == [
        [f"search {n}/5", f"{10 * n} trials"] for n in (2, 4, 5)
    ]
    assert lines[3].startswith("best reward of 5 searches: mean 0.")
    folder = Path("checkpoints/mock")
    text = (folder / "config.toml").read_text()
    assert "seeds = 5" in text and "chunk = 2" in text
    # A finished one says so and stays; a budget of its own is refused, as is what only one search has.
    before = content(folder)
    assert jaxnas("resume", folder) == 0
    assert content(folder) == before
    capsys.readouterr()
    for arguments, words in (
        (("resume", folder, "--budget", 20), "search.budget: found 20"),
        (("search", "mock.toml", "--seeds", 5, "--search.twin"), "search.twin: not with search.seeds"),
        (("search", "mock.toml", "--seeds", 5, "--search.stop.accuracy", 0.9), "search.stop.accuracy: not"),
        (("search", "mock.toml", "--seeds", 0), "search.seeds: found 0; it takes an integer of at least 1"),
        (("search", "mock.toml", "--seeds", "five"), "search.seeds: found"),
        (("search", "mock.toml", "--search.chunk", -1), "search.chunk: found -1"),
    ):
        assert jaxnas(*arguments) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert words in err
    # A signal keeps the blocks that are done.
    monkeypatch.setattr(os, "_exit", sys.exit)
    write = ledger.write_atomic

    def signalled(path, data):
        write(path, data)
        if path.name == "000000002.npz":
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch, pytest.raises(SystemExit, match="143"):
        patch.setattr(ledger, "write_atomic", signalled)
        jaxnas("search", "mock.toml", "--seeds", 5, "--search.name", "b")
    assert "interrupted, saved; go on with: jaxnas resume checkpoints/b" in capsys.readouterr().err
    assert Path("checkpoints/b/blocks/000000002.npz").exists()
    assert not Path("checkpoints/b/searches.npz").exists()
    assert jaxnas("resume", "checkpoints/b") == 0
    assert Path("checkpoints/b/searches.npz").read_bytes() == before["searches.npz"]


def test_a_kill_9(workplace):
    """Searches of a second process that is killed with some blocks done, and of a third that goes on."""
    flags = ["--seeds", "400", "--search.budget", "40", "--search.chunk", "1"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": UNOPTIMIZED_FLAGS}

    def start(*arguments):
        return subprocess.Popen(
            [sys.executable, "-m", "jaxnas", *arguments], env=environment, stdout=subprocess.DEVNULL
        )

    assert jaxnas("search", "mock.toml", *flags, "--search.name", "whole") == 0
    process, blocks = start("search", "mock.toml", *flags), Path("checkpoints/mock/blocks")
    until = time.monotonic() + 120
    while len(list(blocks.glob("*.npz"))) < 5 and process.poll() is None and time.monotonic() < until:
        time.sleep(0.002)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert 5 <= len(list(blocks.glob("*.npz"))) < 400
    assert start("resume", "checkpoints/mock").wait() == 0
    for name in ("searches.npz", "summary.csv"):
        assert Path("checkpoints/mock", name).read_bytes() == Path("checkpoints/whole", name).read_bytes()
    shutil.rmtree("checkpoints")
