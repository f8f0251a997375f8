import struct
import sys

import numpy as np
import pytest

from jaxnas import config
from jaxnas.commands import cli
from jaxnas.errors import InputError
from jaxnas.log import tensorboard
from jaxnas.runs import ledger
from tests.report.test_report import FOUR, make

CONFIG = '[search]\nlog = "tensorboard"\nbudget = 8\n[space]\nname = "blocks"\n'
CONFIG += '[controller]\nname = "reinforce"\nbatch_size = 4\n[evaluator]\nname = "mock"\n'


def events(folder):
    """Every event of a folder's event files, read without TensorBoard."""
    pb = pytest.importorskip("tensorboardX").proto.event_pb2
    for path in sorted((folder / "tensorboard").iterdir()):
        content, at = path.read_bytes(), 0
        while at < len(content):
            (size,) = struct.unpack_from("<Q", content, at)
            yield pb.Event.FromString(content[at + 12 : at + 12 + size])
            at += 16 + size


def scalars(folder):
    found = {}
    for event in events(folder):
        for value in event.summary.value:
            if value.WhichOneof("value") == "simple_value":
                assert (value.tag, event.step) not in found
                found[value.tag, event.step] = round(value.simple_value, 6)
    return found


@pytest.fixture
def run(tmp_path):
    pytest.importorskip("tensorboardX")
    make(tmp_path, FOUR[:2])
    (tmp_path / "rounds.csv").write_text("round,trials,mean_reward,best_reward,entropy\n0,2,0.4,0.4,1.5\n")
    return tmp_path


def test_scalars_follow_the_ledgers_and_end_up_theirs(run):
    log = tensorboard.Log(run, {"controller": {"learning_rate": 0.1, "sizes": [1, 2]}})
    log.update()
    make(run, FOUR)
    with (run / "rounds.csv").open("a") as file:
        file.write("1,4,0.7,0.8,\n2,6,0.")  # the last line is still being written
    ledger.save_policy(run / "policy.npz", {1: (np.array([1]), np.array([[0, 1.0]]))})
    log.update()
    log.close()
    found = scalars(run)
    assert found == {
        ("trial/accuracy", 0): 0.5, ("trial/params", 0): 100, ("trial/reward", 0): 0.4,
        ("trial/accuracy", 2): 0.9, ("trial/params", 2): 300, ("trial/reward", 2): 0.6,
        ("trial/accuracy", 3): 0.7, ("trial/params", 3): 800, ("trial/reward", 3): 0.8,
        ("best/reward", 0): 0.4, ("best/reward", 2): 0.6, ("best/reward", 3): 0.8,
        ("search/mean_reward", 2): 0.4, ("search/mean_reward", 4): 0.7, ("controller/entropy", 2): 1.5,
    }  # fmt: skip
    values = [(value, event.step) for event in events(run) for value in event.summary.value]
    images = [(v.tag, step, v.image.width) for v, step in values if v.HasField("image")]
    assert images == [
        ("best/network", 0, 360), ("search/accuracy_params", 1, 640),
        ("best/network", 3, 360), ("search/accuracy_params", 3, 640),  # trials 2 and 3 came together
        ("policy", 2, 2 * tensorboard.CELL),  # a round is two trials
    ]  # fmt: skip
    assert {"_hparams_/experiment", "_hparams_/session_end_info"} <= {value.tag for value, _ in values}
    # A run that goes on writes its file anew, and no trial twice.
    tensorboard.Log(run, {}).close()
    assert scalars(run) == found
    assert len(list((run / "tensorboard").iterdir())) == 1


def test_the_image_of_a_policy_by_hand():
    drawn = tensorboard.image(np.array([[0.0, 1.0], [0.5, 0.5]]))
    assert drawn.shape == (3, 2 * tensorboard.CELL, 2 * tensorboard.CELL)
    assert drawn[:, 0, 0].tolist() == [255, 255, 255]
    assert drawn[:, 0, -1].tolist() == [0, 114, 178]
    assert drawn[:, -1, 0].tolist() == [128, 184, 216]


def test_without_the_package_one_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(
        InputError, match=r"search\.log: .* needs tensorboardX: pip install 'jaxnas\[tensorboard\]'"
    ):
        tensorboard.package()


def test_where_to_log_is_checked_and_may_change_when_a_run_goes_on(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text(CONFIG)
    settings = config.load(path)
    assert settings.search.log == "tensorboard"
    assert config.differences(config.load(path, ["--search.log", "none"]), settings) == []
    with pytest.raises(
        InputError, match=r"search\.log: unknown name 'tensorbord'; did you mean 'tensorboard'"
    ):
        config.load(path, ["--search.log", "tensorbord"])


def test_a_search_logs_and_its_log_is_closed_with_it(tmp_path, capsys):
    pytest.importorskip("tensorboardX")
    (tmp_path / "run.toml").write_text(CONFIG.replace("tensorboard", "none"))
    command = ["search", str(tmp_path / "run.toml"), "--folder", str(tmp_path / "runs")]
    assert cli.main([*command, "--log", "tensorboard", "--search.twin"]) == 0
    for folder in (tmp_path / "runs" / "run", tmp_path / "runs" / "run" / "twin"):
        assert {step for tag, step in scalars(folder) if tag == "trial/reward"} == set(range(8))
    assert cli.main(["resume", str(tmp_path / "runs" / "run"), "--budget", "12"]) == 0
    steps = {step for tag, step in scalars(tmp_path / "runs" / "run") if tag == "trial/reward"}
    assert steps == set(range(12))
    capsys.readouterr()
    assert cli.main([*command, "--log", "tensorboard", "--seeds", "2"]) == 2
    assert "search.log: not with search.seeds" in capsys.readouterr().err
