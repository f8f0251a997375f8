"""What a trained policy proposes, measured without teaching it anything."""

import shutil

import jax
import numpy as np
import pytest

from jaxnas import config, loop, rewards
from jaxnas.commands import sample
from jaxnas.controllers import q_learning, random, reinforce
from jaxnas.errors import InputError
from jaxnas.evaluators import mock
from jaxnas.runs import ledger, restore, run
from tests.helpers import assert_identical, chain

SPACE = chain()
LEARNERS = {
    "random": random(SPACE, batch_size=4),
    "reinforce": reinforce(SPACE, batch_size=4, policy="free_logits", learning_rate=0.2),
    "q_learning": q_learning(SPACE, batch_size=4, epsilon_total=20, memory=64),
}


def parts_of(name):
    evaluator = mock(SPACE, noise=0.0)
    return config.Parts(SPACE, LEARNERS[name], evaluator, rewards.accuracy, float("nan"), None, None)


@pytest.fixture(scope="module", params=LEARNERS)
def finished(request, tmp_path_factory):
    """A run of 80 trials: its folder, its parts and its search."""
    parts, folder = parts_of(request.param), tmp_path_factory.mktemp(request.param)
    search = loop.make(*parts[:4])
    run.execute(folder, search, seed=3, stop=run.Stop(80))
    return folder, parts, search


@pytest.fixture
def trained(finished, tmp_path):
    """A run of 80 trials: a folder with it, its parts, its search and its state."""
    folder, parts, search = finished
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    return tmp_path, parts, search, restore.latest(tmp_path, search, 3)


def test_samples_are_those_of_the_last_policy(trained):
    folder, parts, _, state = trained
    before = (folder / "trials.csv").read_bytes()
    done = []
    rows, greedy = sample.execute(folder, parts, state, 10, done.append)
    assert done == [4, 8, 10]
    assert [row["trial"] for row in rows] == [str(i) for i in range(10)]
    assert {row["status"] for row in rows} == {"ok"}
    best = np.asarray(parts.controller.policy(state.controller)[0])
    assert [row["architecture"] for row in greedy] == [SPACE.describe(best)]
    # The mock without noise measures an architecture alike, whoever asks.
    _, measured = parts.evaluator.evaluate(
        jax.random.split(jax.random.key(0), 1), state.evaluator, best[None]
    )
    assert float(greedy[0]["accuracy"]) == pytest.approx(float(measured["accuracy"][0]), abs=1e-6)
    assert (folder / "trials.csv").read_bytes() == before
    assert {row["architecture"] for row in rows} != {
        row["architecture"] for row in ledger.read(folder / "trials.csv")[-10:]
    }
    if parts.controller is LEARNERS["reinforce"]:
        firsts = ledger.read(folder / "trials.csv")[:20]
        mean = [np.mean([float(row["reward"]) for row in each]) for each in (firsts, rows)]
        assert mean[1] > mean[0]


def test_more_samples_are_added_to_those_there_are(trained):
    folder, parts, _, state = trained
    path = folder / "sampled" / "round_000020" / "samples.csv"
    whole, greedy = sample.execute(folder, parts, state, 11)
    written = path.read_bytes()
    assert sample.execute(folder, parts, state, 5) == (whole[:5], greedy)
    assert path.read_bytes() == written
    path.write_bytes(written[: len(written) // 2])  # a kill within a write
    assert sample.execute(folder, parts, state, 11) == (whole, greedy)
    assert path.read_bytes() == written


def test_the_state_is_the_one_of_the_last_round(tmp_path):
    search = loop.make(*parts_of("reinforce")[:4])
    run.execute(tmp_path, search, seed=3, stop=run.Stop(12))
    expected, _ = loop.run(search, search.init(jax.random.key(3)), 3)
    assert_identical(restore.latest(tmp_path, search, 3).controller, expected.controller)
    with pytest.raises(InputError, match="no checkpoint to read the policy from"):
        restore.latest(tmp_path / "state", search, 3)


def test_the_summary_by_hand():
    row = {"trial": "0", "round": "0", "layer_1": "C(3,1)", "layer_2": "SM()", "architecture": "x"}
    end = {"reward": "0.5", "status": "ok", "reason": ""}
    rows = [
        {**row, "accuracy": "0.5", **end},
        {**row, "layer_2": "FC(2)", "accuracy": "0.8", **end},
        {**row, "accuracy": "", **end, "reward": "", "status": "failed"},
    ]
    found = {name: tuple(values) for name, *values in sample.summary(rows)}
    assert found["accuracy"] == pytest.approx((2, 0.65, 0.3 / np.sqrt(2), 0.5, 0.8))
    assert found["depth"] == pytest.approx((3, 4 / 3, np.sqrt(1 / 3), 1, 2))
    assert found["reward"][0] == 2
