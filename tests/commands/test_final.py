"""A search ends with networks that are trained to the end, the best of which is best/."""

import json
import signal
import types

import pytest

from jaxnas import config
from jaxnas.commands import final
from jaxnas.commands.cli import main
from jaxnas.errors import InputError
from jaxnas.report import statistics
from jaxnas.runs import finalists, ledger, process
from jaxnas.training.task import MULTICLASS
from tests.helpers import dataset

TEXT = """
[search]
name = "small"
budget = 4
twin = true
[space]
name = "blocks"
num_blocks = 1
filters = [4, 8]
kernel = [3]
dropout = [0.1]
[controller]
name = "random"
batch_size = 4
[data]
source = "digits"
limit = 60
[trainer]
epochs = 1
learning_rate = 0.01
[final]
top = 2
epochs = 3
"""


def row(validation, test, reward=0.5):
    network = {
        "status": "ok",
        "trial": "1",
        "architecture": "C",
        "params": "1200",
        "searched_reward": str(reward),
    }
    return {**network, "validation_accuracy": str(validation), "test_accuracy": str(test)}


def test_the_end_of_a_search(tmp_path, capsys):
    """Of all images; best/ is the network of the highest validation accuracy, measured on the test split."""
    (tmp_path / "small.toml").write_text(TEXT)
    assert main(["search", str(tmp_path / "small.toml"), "--folder", str(tmp_path)]) == 0
    shown, rows_of_search = capsys.readouterr().out, []
    for folder in (tmp_path / "small", tmp_path / "small" / "twin"):
        rows = ledger.read(folder / "final" / "results.csv")
        rows_of_search = rows_of_search or rows
        assert [bool(r["trial"]) for r in rows] == [True, True, False][: 2 + (folder.name == "small")]
        assert {r["epochs"] for r in rows} == {"3"}
        assert float(rows[0]["validation_accuracy"]) >= float(rows[1]["validation_accuracy"])
        metrics = json.loads((folder / "best" / "metrics.json").read_text())
        assert metrics["trial"] == int(rows[0]["trial"])
        assert metrics["test"]["accuracy"] == pytest.approx(float(rows[0]["test_accuracy"]))
        assert (
            f"always the commonest class, test: accuracy {metrics['base']['test']['accuracy']:.4f}" in shown
        )
        assert f"{float(rows[0]['test_accuracy']):.4f} of 359 test inputs (95 % interval" in shown
    # What less effort reaches; by the same functions these numbers come from other hands, see test_pixels.
    table = {r["name"]: r for r in ledger.read(tmp_path / "small" / "final" / "twins.csv")}
    assert list(table) == [
        *("search", "random search", "by hand", "SVC", "logistic regression", "commonest class")
    ]
    assert table["by hand"]["params"] == rows_of_search[-1]["params"] == "19994"
    assert (table["SVC"]["images"], table["SVC"]["validation_loss"]) == ("1079", "")
    assert all(float(r["seconds"]) > 0 for r in table.values() if r["name"] != "commonest class")
    against = f": {float(table['SVC']['validation_accuracy']):.4f} against "
    assert f"An SVC on pixels is more accurate than the network that was found{against}" in shown
    names = ("results.csv", "twins.csv")
    written = [(tmp_path / "small" / "final" / name).read_bytes() for name in names]
    assert main(["resume", str(tmp_path / "small")]) == 0
    assert [(tmp_path / "small" / "final" / name).read_bytes() for name in names] == written


def test_settings(tmp_path):
    """All inputs, all epochs, no constraint; weights of the best epoch unless the rate ends near 0."""
    (tmp_path / "small.toml").write_text(TEXT)
    flags = ["--trainer.patience", "2", "--constraints.params", "99", "--final.repeats", "2"]
    settings = final.settings_of(config.load(tmp_path / "small.toml", flags))
    trainer = settings.trainer
    assert (trainer.epochs, trainer.patience, trainer.weights, trainer.repeats) == (3, 0, "best", 2)
    assert settings.data.limit == 0 and settings.constraints.params is None
    flags = ["--trainer.schedule", "one_cycle", "--final.no-full", "--final.epochs", "0"]
    settings = final.settings_of(config.load(tmp_path / "small.toml", flags))
    assert (settings.trainer.weights, settings.trainer.epochs, settings.data.limit) == ("last", 1, 60)


def test_summary():
    """By hand: the optimism is the mean of both networks; a rank correlation takes three."""
    data = dataset(n=8, n_validation=10, shape=(2, 2, 1))
    data = data._replace(task=MULTICLASS, test=data.validation)
    lines = final.summary([row(0.9, 0.8), row(0.8, 0.75)], data)
    low, high = statistics.wilson(0.8, 10)
    assert lines == [
        "best network: C, 1,200 parameters",
        "accuracy: 0.9000 of 10 validation, 0.8000 of 10 test inputs "
        f"(95 % interval {low:.4f} to {high:.4f})",
        "validation is +0.0750 above test, the mean of 2 networks",
    ]
    three = [row(0.9, 0.8, 0.3), row(0.8, 0.8, 0.2), row(0.7, 0.8, 0.4)]
    assert final.summary(three, data)[2].endswith("; rank correlation of the search's reward with it -0.50")
    untested = final.summary([row(0.9, "")], data._replace(test=None))
    assert untested[1:] == ["accuracy: 0.9000 of 10 validation"]
    assert final.summary([{"status": "failed"}], data) == ["no network could be trained to the end"]


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (["--evaluator.name", "mock"], "the evaluator trains none"),
        (["--search.seeds", "2", "--search.no-twin"], "many searches keep no networks"),
    ],
)
def test_runs_that_end_with_no_network(flags, why, tmp_path, capsys):
    """They are refused in one line, and leave no folder."""
    (tmp_path / "small.toml").write_text(TEXT)
    assert main(["search", str(tmp_path / "small.toml"), "--folder", str(tmp_path), *flags]) == 2
    message = f"final.top: got 2, networks to train to the end; {why}: set it to 0"
    assert message in capsys.readouterr().err
    assert not (tmp_path / "small").exists()


def test_a_final_training_goes_on_after_more_trials(tmp_path):
    """With a larger budget it goes on; with other epochs one line says why it does not."""
    (tmp_path / "small.toml").write_text(TEXT)
    begun = final.settings_of(config.load(tmp_path / "small.toml"))
    finalists._open(tmp_path, begun, finalists.FINAL, "")
    longer = ["--search.budget", "8", "--final.top", "3", "--final.no-twins"]
    longer = final.settings_of(config.load(tmp_path / "small.toml", longer))
    finalists._open(tmp_path, longer, finalists.FINAL, "")
    other = final.settings_of(config.load(tmp_path / "small.toml", ["--final.epochs", "4"]))
    message = r"other settings; delete it, or repeat those \(trainer.epochs: 3 → 4\)$"
    with pytest.raises(InputError, match=message):
        finalists._open(tmp_path, other, finalists.FINAL, "")


def test_a_signal_ends_a_final_training(tmp_path, monkeypatch):
    """SIGTERM while networks are trained raises Interrupted, which says that all that is done is saved."""
    (tmp_path / "small.toml").write_text(TEXT)
    settings = config.load(tmp_path / "small.toml")
    search = types.SimpleNamespace(folder="", search=types.SimpleNamespace(space=None))
    monkeypatch.setattr(finalists, "train", lambda *_, **__: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(process.Interrupted, match="SIGTERM"):
        final.train(settings, [search], tmp_path, dataset(n=8, n_validation=4, shape=(2, 2, 1)))
