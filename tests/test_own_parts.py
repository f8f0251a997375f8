"""Parts of a user's own, each in one file and named in a configuration alone, in whole searches."""

import csv
from pathlib import Path

import numpy as np
import pytest

from jaxnas import networks, testing
from jaxnas.commands import cli
from tests.helpers import SPACES, dataset
from tests.own_parts.smallest import smallest
from tests.own_parts.tapered import tapered
from tests.own_parts.untrained import untrained

DATA = """
[data]
source = "digits"
limit = 60
validation_fraction = 0.3
"""


def search(text: str) -> Path:
    """The folder of a finished run of that configuration."""
    Path("own.toml").write_text(text)
    assert cli.main(["search", "own.toml"]) == 0
    return Path("checkpoints/own")


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def column(path: Path, name: str) -> np.ndarray:
    return np.array([float(row[name] or "nan") for row in read(path)])


def test_a_controller_that_reads_measures(workplace):
    run = search("""
[search]
budget = 120
[space]
name = "blocks"
num_blocks = 2
[controller]
name = "tests.own_parts.smallest:smallest"
batch_size = 8
floor = 0.4
[evaluator]
name = "mock"
failure_rate = 0.2
""")
    accuracy, params = (column(run / "trials.csv", name) for name in ("accuracy", "params"))
    enough = np.where(accuracy >= 0.4, params, np.inf)
    assert np.isnan(accuracy).any() and np.isfinite(enough).any()
    smallest_so_far = np.minimum.accumulate(enough.reshape(-1, 8).min(axis=1))
    told = column(run / "rounds.csv", "smallest")
    np.testing.assert_allclose(told, np.where(np.isinf(smallest_so_far), 0, smallest_so_far), rtol=1e-6)
    assert told[-1] < np.nanmedian(params)


def test_the_controller_keeps_its_promises():
    space = SPACES["chain"]()
    testing.check_controller(lambda space: smallest(space, floor=0.1), space)


def test_an_evaluator_with_network_and_data(workplace):
    run = search(f"""
[search]
budget = 6
[space]
name = "blocks"
filters = [4, 6]
kernel = [3]
[controller]
name = "random"
batch_size = 3
[network]
lowering = "xla"
[evaluator]
name = "tests.own_parts.untrained:untrained"
scale = 0.5
{DATA}""")
    accuracy, params = (column(run / "trials.csv", name) for name in ("accuracy", "params"))
    assert ((accuracy >= 0) & (accuracy <= 1)).all() and len(set(accuracy)) > 1
    assert set(params) <= {9 * 4 + 4 + 4 * 4 * 4 * 10 + 10, 9 * 6 + 6 + 4 * 4 * 6 * 10 + 10}
    assert (run / "best" / "weights.safetensors").is_file()


def test_the_evaluator_keeps_its_promises():
    space, data = SPACES["one_block"](), dataset(n=12, n_validation=24)
    network = networks.blocks(space, (8, 8, 1), 3)
    testing.check_evaluator(lambda: untrained(network, data), space, dataset=data)


@pytest.mark.parametrize("name", ["a2c", "ppo", "q_learning", "reinforce", "sarsa"])
def test_an_evaluator_with_a_reward_for_every_decision(workplace, name):
    """Always right is worth 1, a uniform walk about 0.23; each of them comes to 0.75 at least."""
    options = "epsilon = [0.1]\nepsilon_networks = [1]" if name in ("q_learning", "sarsa") else "units = 16"
    run = search(f"""
[search]
budget = 600
[space]
name = "tests.helpers:chain_space"
[controller]
name = "{name}"
batch_size = 10
{options}
[evaluator]
name = "tests.own_parts.steps:steps"
""")
    reward = column(run / "trials.csv", "reward")
    assert reward[-100:].mean() > 0.75
    assert reward.max() == 1.0
    steps = column(run / "prefixes.csv", "reward")
    np.testing.assert_allclose(steps.reshape(-1, 4).sum(axis=1), reward, rtol=1e-6)


def test_a_space_with_typed_layers(workplace):
    run = search(f"""
[search]
budget = 4
[space]
name = "tests.own_parts.tapered:tapered"
units = 5
[controller]
name = "q_learning"
batch_size = 2
[trainer]
epochs = 1
batch_size = 14
{DATA}""")
    trials = read(run / "trials.csv")
    assert [row["status"] for row in trials] == ["ok"] * 4
    best = max(trials, key=lambda row: float(row["reward"]))["architecture"]
    source = (run / "best" / "model.py").read_text()
    assert source.count("nn.Conv(") == 2 and best in source
    drawing = next((run / "figures").glob("*best*.svg")).read_text()
    assert all(token in drawing for token in best.split(" - "))
    assert drawing.count(">convolution<") == 2


def test_the_space_keeps_its_promises():
    testing.check_space(lambda: tapered(filters=(8, 4, 2)))
    testing.check_network(networks.REGISTRY["layers"](tapered(), (8, 8, 1), 3), tapered(), (8, 8, 1), 3)
