"""The best architectures of a run, trained again and measured on the test split."""

import csv
import dataclasses
import functools

import numpy as np
import pytest
from safetensors.numpy import load_file

from jaxnas import config, data, loop
from jaxnas.commands import retrain
from jaxnas.errors import InputError
from jaxnas.runs import finalists, ledger, run
from jaxnas.training import measured
from jaxnas.training.task import MULTICLASS
from tests.helpers import dataset

TEXT = """
[search]
budget = 6
seed = 1
[space]
name = "metaqnn"
preset = "mnist"
image_size = 8
depth = 3
filters = [4, 8]
kernel = [3]
stride = [1]
dense = [16]
[controller]
name = "random"
batch_size = 3
[data]
source = "digits"
limit = 120
[trainer]
epochs = 2
learning_rate = 0.01
batch_size = 32
"""


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    (folder / "c.toml").write_text(TEXT)
    settings = config.load(folder / "c.toml")
    dataset = data.load(**vars(settings.data))
    parts = config.build(settings, dataset=dataset)
    run.execute(folder, loop.make(*parts[:5]), seed=1, stop=run.Stop(6))
    return folder, settings, dataset, ledger.read(folder / "trials.csv")


def again(searched, tmp_path, joined=False, top=2, epochs=None, watch=lambda _: None):
    _, settings, dataset, rows = searched
    settings = retrain.settings_of(settings, epochs)
    return finalists.train(tmp_path, settings, dataset, rows, top, joins_validation=joined, watch=watch)


@pytest.fixture(scope="module")
def retrained(searched, tmp_path_factory):
    """(the folder of a retraining, its rows, what it said was done)"""
    done = []
    return *again(searched, tmp_path_factory.mktemp("retrained"), watch=done.append), done


def test_what_is_trained(searched, retrained):
    _, settings, dataset, trials = searched
    folder, rows, _ = retrained
    chosen = sorted(trials, key=lambda row: -float(row["reward"]))
    assert {row["architecture"] for row in rows[:-1]} == {row["architecture"] for row in chosen[:2]}
    assert [row["name"] for row in rows][-1] == "baseline"
    assert ledger.read(folder / "results.csv") == rows  # in this order, whichever was trained first
    assert float(rows[0]["validation_accuracy"]) >= float(rows[1]["validation_accuracy"])
    assert {row["epochs"] for row in rows} == {"4"}  # twice the epochs: longer is longer
    searched_rewards = {row["architecture"]: row["reward"] for row in chosen[:2]}
    assert {row["architecture"]: row["searched_reward"] for row in rows[:-1]} == searched_rewards
    assert (rows[-1]["searched_reward"], rows[-1]["trial"]) == ("", "")
    # The weights that were written are those that were measured, and the outputs are theirs.
    network = config.build(settings, dataset=dataset).network
    labels, outputs = dataset.test.labels, {}
    for row in rows:
        outputs[row["name"]] = np.loadtxt(folder / row["name"] / "outputs.csv", delimiter=",")
        measured = MULTICLASS.measures(outputs[row["name"]], labels)
        assert float(row["test_accuracy"]) == pytest.approx(measured["accuracy"], abs=1e-6)
        assert float(row["test_loss"]) == pytest.approx(measured["loss"], rel=1e-4)
    flat, params = load_file(folder / rows[0]["name"] / "weights.safetensors"), {}
    for path, leaf in flat.items():
        layer, name = path.split("/")
        params.setdefault(layer, {})[name] = leaf
    space = config.build(settings, dataset=dataset).space
    structure, knobs = network.plan(space.parse(rows[0]["architecture"]))
    images = (dataset.test.inputs.astype(np.float32) / 255 - 0.5) / 0.5
    found = network.apply(params, structure, knobs, images, None)
    np.testing.assert_allclose(found, outputs[rows[0]["name"]], rtol=1e-4, atol=1e-5)
    # The ensemble: the mean of both networks' probabilities, without the baseline.
    each = np.exp(np.stack([outputs[row["name"]] for row in rows[:-1]]).astype(np.float64))
    mean = (each / each.sum(-1, keepdims=True)).mean(axis=0)
    with (folder / "ensemble.csv").open() as file:
        [ensemble] = csv.DictReader(file)
    assert ensemble["networks"].split() == [row["name"] for row in rows[:-1]]
    assert float(ensemble["test_accuracy"]) == pytest.approx(np.mean(mean.argmax(1) == labels), abs=1e-6)
    assert float(ensemble["test_loss"]) == pytest.approx(
        -np.mean(np.log(mean[np.arange(len(labels)), labels])), rel=1e-4
    )
    table = np.loadtxt(folder / "confusion.csv", delimiter=",", skiprows=1)[:, 1:]
    assert table.sum() == len(labels)
    assert np.trace(table) / len(labels) == pytest.approx(float(rows[0]["test_accuracy"]), abs=1e-6)
    np.testing.assert_array_equal(table.sum(axis=1), np.bincount(labels))


def test_what_is_done_is_not_trained_again(searched, retrained, tmp_path):
    _, whole, done = retrained
    assert done[-1] == 3

    class Killed(Exception):
        pass

    def kill(done):
        if done == 2:
            raise Killed

    with pytest.raises(Killed):
        again(searched, tmp_path / "b", watch=kill)
    later = []
    assert again(searched, tmp_path / "b", watch=later.append)[1] == whole
    assert later == [3]
    assert again(searched, tmp_path / "b", watch=later.append)[1] == whole
    assert later == [3]
    with pytest.raises(InputError, match="was made with other settings; delete it"):
        again(searched, tmp_path / "b", epochs=7)


def test_trained_on_validation_inputs_too(searched, tmp_path):
    """On all images but the test split, in the order of the search."""
    _, rows = again(searched, tmp_path, joined=True, epochs=3)
    assert {row["epochs"] for row in rows} == {"3"}
    assert {row["validation_accuracy"] for row in rows} == {""}
    assert float(rows[0]["searched_reward"]) >= float(rows[1]["searched_reward"])
    _, settings, dataset, _ = searched
    both = finalists.with_validation(dataset)
    assert len(both.train.inputs) == len(dataset.train.inputs) + len(dataset.validation.inputs)
    assert settings.trainer.epochs == 2


def test_cells_become_a_deeper_network_on_all_of_the_data(tmp_path):
    """Searched as one cell a stage on a fifth of the images, then four on all, in a folder of its own."""
    (tmp_path / "c.toml").write_text(CELLS)
    settings = config.load(tmp_path / "c.toml")
    few = data.load(**vars(settings.data))
    rows = [
        {"trial": str(i), "architecture": text, "reward": str(reward), "status": "ok"}
        for i, (text, reward) in enumerate(
            [("normal: add(identity(h),conv1(h-1)) reduction: add(conv1(h),conv1(h-1))", 0.5),
             ("normal: add(conv1(h),conv1(h)) reduction: add(conv1(h),conv1(h-1))", 0.4)]
        )
    ]  # fmt: skip
    overrides = ["--network.cells", "4", "--network.filters", "4", "--data.fraction", "1.0"]
    deeper = retrain.settings_of(settings, 1, [*overrides, "--trainer.learning_rate", "0.05"])
    assert (deeper.network.cells, deeper.network.filters, deeper.trainer.learning_rate) == (4, 4, 0.05)
    assert (settings.network.cells, settings.data.fraction) == (1, 0.2)
    whole = data.load(**vars(deeper.data))
    assert len(few.train.inputs) == round(len(whole.train.inputs) / 5)
    assert {x.tobytes() for x in few.train.inputs} <= {x.tobytes() for x in whole.train.inputs}
    folder, found = finalists.train(tmp_path, deeper, whole, rows, 1, name="deep")
    assert folder == tmp_path / "retrained-deep"
    assert (found[0]["architecture"], found[0]["status"]) == (rows[0]["architecture"], "ok")
    weights = load_file(folder / "trial_000000" / "weights.safetensors")
    assert weights["stage_1_cells/b1_2/kernel"].shape == (2, 1, 1, 4, 4)  # the last two cells, stacked
    assert weights["head/kernel"].shape == (8, 10)
    # Another retraining of the run needs another name.
    with pytest.raises(InputError, match=r"was made with other settings; .* give a --name"):
        finalists.train(tmp_path, settings, few, rows, 1, name="deep")


CELLS = """
[search]
budget = 2
[space]
name = "nasnet"
blocks_per_cell = 1
[controller]
name = "random"
[network]
cells = 1
filters = 2
reductions = 1
[data]
source = "digits"
fraction = 0.2
[trainer]
epochs = 1
batch_size = 50
optimizer = "sgd"
"""


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (["--space.depth", "4"], r"--space.depth: not an option here; it takes --network.…, --data.…, --tr"),
        (["--network.cells", "4"], r"--network.cells: unknown name 'cells'"),
        (["--data.fraction", "2.0", "x"], r"data.fraction"),
        (["4"], "'4': not a flag"),
    ],
)
def test_wrong_overrides(searched, override, message):
    with pytest.raises(InputError, match=message):
        retrain.settings_of(searched[1], None, override)


def test_what_cannot_be_retrained(searched, tmp_path):
    _, settings, dataset, rows = searched
    failed = [{**row, "status": "failed", "reward": ""} for row in rows]
    with pytest.raises(InputError, match=r"retrain: no trial of .* succeeded; see the reasons"):
        finalists.train(tmp_path, settings, dataset, failed, 2)
    with pytest.raises(InputError, match="--epochs: got 0; it takes 1 or more"):
        retrain.settings_of(settings, 0)
    with pytest.raises(InputError, match="'mock' trains no networks"):
        mock = dataclasses.replace(
            settings, trainer=None, evaluator=dataclasses.make_dataclass("E", ["name"])("mock")
        )
        retrain.settings_of(mock, None)


def test_images_that_cannot_be_halved_have_no_baseline():
    assert [finalists.takes_baseline(dataset(shape=(h, 9, 1))) for h in (1, 2)] == [False, True]
    assert not finalists.takes_baseline(dataset()._replace(kind="sequence"))


def test_the_order_of_results_by_hand():
    """Failures last, before them what answers one class alone; then by the measure, of equals by size."""
    values = [("0.9", "1", "5"), ("0.5", "0", "9"), ("0.5", "0", "8"), ("0.7", "0", "9")]
    rows = [
        {"status": "ok", "validation_accuracy": v, "validation_constant": c, "params": p}
        for v, c, p in values
    ]
    rows = [{**rows[3], "status": "failed"}, *rows]
    ranked = sorted(rows, key=functools.partial(finalists._rank, MULTICLASS))
    assert [rows.index(row) for row in ranked] == [4, 3, 2, 1, 0]
    by_loss = measured.measured_by(MULTICLASS, "loss")
    less, more = ({**rows[2], "validation_loss": loss} for loss in ("0.2", "0.3"))
    assert sorted([more, less], key=functools.partial(finalists._rank, by_loss)) == [less, more]
