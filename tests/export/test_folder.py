"""best/ of a search: its files, what they predict, and how a failure is told."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxnas import config, data, export, loop
from jaxnas.commands import best_network
from jaxnas.commands import export as command
from jaxnas.errors import InputError
from jaxnas.export import agreement, explain, predict
from jaxnas.export.folder import PACKAGES, stablehlo
from jaxnas.runs import ledger, provenance, run
from jaxnas.training.task import BINARY, MULTI_LABEL, MULTICLASS, REGRESSION

TEXT = """
[search]
budget = 6
seed = 1
[space]
name = "blocks"
filters = [4]
kernel = [3]
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

FILES = {
    "architecture.json", "metrics.json", "weights.safetensors", "validation.csv", "model.stablehlo",
    "predict.py", "model.py", "requirements.txt", "README.md",
}  # fmt: skip


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "small"
    folder.mkdir()
    (folder / "config.toml").write_text(TEXT)
    settings = config.load(folder / "config.toml")
    parts = config.build(settings)
    keep = best_network.make(settings, parts).keep
    run.execute(folder, loop.make(*parts[:5]), seed=1, stop=run.Stop(6), keep=keep)
    (folder / "environment.json").write_text(json.dumps(provenance.describe()))
    return folder, settings, parts


def test_the_files_of_best(searched):
    folder, _, parts = searched
    best = folder / "best"
    assert {path.name for path in best.iterdir()} == FILES
    row = command.row_of(folder, ledger.read(folder / "trials.csv"), None)
    about = json.loads((best / "architecture.json").read_text())
    assert (str(about["trial"]), about["architecture"]) == (row["trial"], row["architecture"])
    assert (about["input_shape"], about["task"]) == ([8, 8, 1], "multiclass")
    assert about["classes"] == list("0123456789")
    assert about["preprocessing"] == {"scale": 255, "mean": 0.5, "std": 0.5}
    assert data.load(**about["data"]).validation.inputs.shape == parts.dataset.validation.inputs.shape
    metrics = json.loads((best / "metrics.json").read_text())
    assert np.float32(metrics["validation"]["accuracy"]) == np.float32(row["accuracy"])
    assert (metrics["test"], metrics["agreement"], metrics["measure"]) == (None, None, "accuracy")
    assert about["temperature"] == metrics["calibration"]["temperature"]
    assert metrics["validation"]["balanced_accuracy"] == pytest.approx(
        np.mean(list(metrics["recall"].values()))
    )
    lines = (best / "requirements.txt").read_text().splitlines()
    assert [line.split("==")[0] for line in lines] == list(PACKAGES)
    text = (best / "README.md").read_text()
    assert row["architecture"] in text and f"accuracy {float(row['accuracy']):.4f}" in text
    assert "run `small`" in text
    # The recorded outputs are those that were measured.
    outputs = np.loadtxt(best / "validation.csv", delimiter=",")
    accuracy = np.mean(outputs.argmax(axis=1) == parts.dataset.validation.labels)
    assert np.float32(accuracy) == np.float32(row["accuracy"])


def test_it_agrees_in_a_fresh_process(searched, tmp_path, monkeypatch):
    folder, settings, parts = searched
    shutil.copytree(folder / "best", tmp_path / "best")
    check = best_network.make(settings, parts).check
    assert check(tmp_path / "nothing") is None
    agrees, text = check(tmp_path)
    assert agrees and "100.00% of 120 validation predictions" in text
    assert json.loads((tmp_path / "best" / "metrics.json").read_text())["agreement"] == 1.0
    assert check(tmp_path) is None  # it has been
    # What disagrees, and what does not run, is told; nothing is raised.
    outputs = np.loadtxt(tmp_path / "best" / "validation.csv", delimiter=",")
    monkeypatch.setattr(agreement, "outputs_of", lambda folder, images: outputs)
    images = parts.dataset.validation.inputs
    np.savetxt(tmp_path / "best" / "validation.csv", np.roll(outputs, 1, axis=1), delimiter=",")
    agrees, text = export.check(tmp_path / "best", images, MULTICLASS)
    assert not agrees and "0.00% of 120" in text
    np.savetxt(tmp_path / "best" / "validation.csv", outputs[:7], delimiter=",")
    agrees, text = export.check(tmp_path / "best", images, MULTICLASS)
    assert not agrees and "outputs [120, 10], validation.csv has [7, 10]" in text


def test_what_does_not_run_is_told(tmp_path):
    (tmp_path / "validation.csv").write_text("1,2\n")
    (tmp_path / "predict.py").write_text("raise ValueError('broken')")
    agrees, text = export.check(tmp_path, np.zeros((1, 8, 8, 1), np.uint8), MULTICLASS)
    assert not agrees and "does not run" in text and "broken" in text


def test_agreement_by_hand():
    logits = np.array([[0.0, 1.0], [2.0, -1.0]])
    np.testing.assert_array_equal(agreement.agree(MULTICLASS, logits, logits[:, ::-1]), [False, False])
    np.testing.assert_array_equal(agreement.agree(MULTI_LABEL, logits, abs(logits)), [True, False])
    np.testing.assert_array_equal(agreement.agree(BINARY, logits[:, :1], logits[:, :1]), [True, True])
    np.testing.assert_array_equal(
        agreement.agree(REGRESSION, logits, logits + np.array([[0, 0], [0, 1]])), [True, False]
    )


def test_images_are_read_as_in_training(searched, tmp_path):
    """By predict.py of a network for 8 × 8 gray pixels, and by data source `folder`."""
    folder, *_ = searched
    rng = np.random.default_rng(0)
    for split, number in (("train", 3), ("validation", 2)):
        for name in ("a", "b"):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(number):
                mode = ("L", "RGB", "LA")[i]
                shape = (20, 13) if mode == "L" else (20, 13, len(mode))
                pixels = rng.integers(0, 256, shape, np.uint8)
                Image.fromarray(pixels).save(tmp_path / split / name / f"{i}.png")
    loaded = data.load(f"folder:{tmp_path}", image_size=8, color="gray", test_fraction=0.0)
    classifier = predict.Classifier(folder / "best")
    paths = sorted((tmp_path / "train").rglob("*.png"))
    found = explain.read(classifier, paths)
    assert sorted(x.tobytes() for x in found) == sorted(x.tobytes() for x in loaded.train.inputs)
    (tmp_path / "no.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"no\.png: not a readable image"):
        explain.read(classifier, [tmp_path / "no.png"])


def test_probabilities_by_hand(searched):
    classifier = predict.Classifier(searched[0] / "best")
    classifier.about["temperature"] = 1.0

    def of(task, outputs):
        classifier.about["task"] = task
        return classifier.probabilities(np.array(outputs))

    np.testing.assert_allclose(of("multiclass", [[0.0, np.log(3)]]), [[0.25, 0.75]])
    np.testing.assert_allclose(of("binary", [[np.log(3)], [-np.log(3)]]), [[0.25, 0.75], [0.75, 0.25]])
    np.testing.assert_allclose(of("multi_label", [[0.0, np.log(3)]]), [[0.5, 0.75]])
    np.testing.assert_allclose(of("regression", [[5.0]]), [[5.0]])
    classifier.about |= {"task": "multiclass", "classes": ["ground", "leaf"]}
    assert classifier.describe(np.array([0.25, 0.75])) == "leaf 0.750, ground 0.250"
    assert classifier.describe(np.array([0.25, 0.75]), 0.75) == "leaf 0.750, ground 0.250"
    assert classifier.describe(np.array([0.25, 0.75]), 0.76) == "none of these: leaf 0.750, ground 0.250"
    classifier.about["temperature"] = 2.0  # a logit of ln 9 becomes one of ln 3
    np.testing.assert_allclose(of("multiclass", [[0.0, np.log(9)]]), [[0.25, 0.75]])
    np.testing.assert_allclose(of("binary", [[np.log(9)]]), [[0.25, 0.75]])
    many = np.zeros((300, 8, 8, 1), np.uint8)  # more than a batch
    np.testing.assert_allclose(classifier.outputs(many)[::299], classifier.outputs(many[:2]), rtol=1e-4)


def test_predict_py_runs_by_itself(searched, tmp_path):
    folder, _, parts = searched
    for i, image in enumerate(parts.dataset.validation.inputs[:2]):
        Image.fromarray(image[..., 0]).save(tmp_path / f"{i}.png")
    shutil.copytree(folder / "best", tmp_path / "elsewhere")
    (tmp_path / "no.png").write_bytes(b"")
    paths = [str(tmp_path / name) for name in ("0.png", "no.png", "1.png")]
    done = subprocess.run(
        [sys.executable, tmp_path / "elsewhere" / "predict.py", *paths], capture_output=True, text=True
    )
    assert done.returncode == 1 and "no.png: not a readable image" in done.stderr
    wanted = np.loadtxt(folder / "best" / "validation.csv", delimiter=",")[:2].argmax(axis=1)
    found = [line.split(": ")[1].split()[0] for line in done.stdout.splitlines()]
    assert found == [str(c) for c in wanted]


def test_a_failed_export_does_not_end_the_search(searched, tmp_path, capsys):
    _, _, parts = searched

    def keep(folder, about, params, outputs):
        raise RuntimeError("no export today")

    run.execute(tmp_path, loop.make(*parts[:5]), seed=1, stop=run.Stop(3), keep=keep)
    assert "best: not exported: no export today" in capsys.readouterr().err
    assert {path.name for path in (tmp_path / "best").iterdir()} == {
        "architecture.json",
        "weights.safetensors",
    }


def test_flatbuffers_are_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "flatbuffers", None)
    with pytest.raises(InputError, match=r"model\.stablehlo needs flatbuffers; pip install flatbuffers"):
        stablehlo(lambda images: images, (8, 8, 1))


# EXPORTS OF TRIALS


def test_a_trial_is_trained_again(searched, tmp_path, monkeypatch):
    folder, settings, _ = searched
    monkeypatch.setattr(export, "check", lambda folder, images, task: (True, str(len(images))))
    path, agrees, text = command.execute(folder, settings, 4, tmp_path / "out")
    assert (path, agrees, text) == (tmp_path / "out", True, "120")
    assert {file.name for file in path.iterdir()} == FILES
    row = ledger.read(folder / "trials.csv")[4]
    about = json.loads((path / "architecture.json").read_text())
    assert (about["trial"], about["architecture"]) == (4, row["architecture"])
    assert np.float32(about["measures"]["accuracy"]) == np.float32(row["accuracy"])
    # The best one has the weights that the search kept.
    path, *_ = command.execute(folder, settings, None, tmp_path / "best")
    for name in ("weights.safetensors", "validation.csv", "model.py"):
        assert (path / name).read_bytes() == (folder / "best" / name).read_bytes()


def test_a_reused_result_is_that_of_its_first_trial():
    rows = [
        {"trial": str(i), "architecture": a, "status": s, "reused": r}
        for i, (a, s, r) in enumerate(
            [("x", "failed", "0"), ("x", "ok", "0"), ("y", "ok", "0"), ("x", "ok", "1"), ("x", "ok", "1")]
        )
    ]
    assert [command.trained_as(rows, row) for row in rows] == [0, 1, 2, 1, 1]
    assert command.trained_as([], {"trial": "3"}) == 3


@pytest.mark.parametrize(
    ("trial", "message"),
    [
        (6, r"--trial: got 6; .* has trials 0 to 5"),
        (-1, r"--trial: got -1"),
        (5, r"5 has no weights: the loss"),
    ],
)
def test_trials_that_cannot_be_exported(trial, message, searched):
    rows = ledger.read(searched[0] / "trials.csv")
    rows[5] |= {"status": "failed", "reason": "the loss became NaN or infinite", "reward": ""}
    with pytest.raises(InputError, match=message):
        command.row_of(searched[0], rows, trial)
    with pytest.raises(InputError, match=r"no trial of .* succeeded"):
        command.row_of(searched[0], rows[5:], None)


def test_another_result_is_not_exported(searched):
    folder, settings, parts = searched
    rows = ledger.read(folder / "trials.csv")
    row = rows[2] | {"accuracy": "0.125"}
    with pytest.raises(
        InputError, match=r"trial 2, trained again, is another: accuracy is 0.*, was 0.125; was"
    ):
        command.regain(folder, settings, parts, rows, row)


def test_an_export_takes_nothing_else_away(searched, tmp_path):
    folder, settings, _ = searched
    (tmp_path / "leaves" / "leaf").mkdir(parents=True)
    (tmp_path / "file").write_text("mine")
    for out, what in (("leaves", "leaf"), ("file", "file")):
        with pytest.raises(InputError, match=f"--out: .*{out} holds '{what}', .* give a new folder"):
            command.execute(folder, settings, 0, tmp_path / out)
    assert (tmp_path / "leaves" / "leaf").is_dir() and (tmp_path / "file").read_text() == "mine"
    shutil.copytree(folder / "best", tmp_path / "best")
    command._check_free(tmp_path / "best")  # its own files are written anew
    command._check_free(tmp_path / "new")


def test_a_run_without_a_trial_says_so(tmp_path):
    with pytest.raises(InputError, match=r"export: .* has no trial yet; `jaxnas resume"):
        command.row_of(tmp_path, [], None)
    (tmp_path / "trials.csv").touch()
    with pytest.raises(InputError, match=r"no best/model\.stablehlo: it trains no networks, or none has"):
        explain.open_folder(tmp_path)


@pytest.mark.parametrize("damage", ["{}", "", "[]", "model.stablehlo"])
def test_a_damaged_folder_is_one_line(damage, searched, tmp_path):
    best = shutil.copytree(searched[0] / "best", tmp_path / "best")
    if damage == "model.stablehlo":
        (best / damage).write_bytes((best / damage).read_bytes()[:500])
    else:
        (best / "architecture.json").write_text(damage)
    with pytest.raises(InputError, match=r"best: cannot be loaded .*`jaxnas export`"):
        explain.open_folder(best)


def test_no_network_is_here(tmp_path):
    with pytest.raises(InputError, match=r"no network is here \(no model\.stablehlo\); it takes a run"):
        explain.open_folder(tmp_path)
    (tmp_path / "model.stablehlo").write_bytes(b"nothing")
    (tmp_path / "architecture.json").write_text("{}")
    with pytest.raises(InputError, match=r"cannot be loaded .*`jaxnas export`"):
        explain.open_folder(tmp_path)


def test_reasons_are_drawn(searched, tmp_path):
    folder, _, parts = searched
    best, classifier = explain.open_folder(folder)
    assert best == folder / "best"
    Image.fromarray(parts.dataset.validation.inputs[0][..., 0]).save(tmp_path / "digit.png")
    explain.write(tmp_path / "one.png", best, classifier, [tmp_path / "digit.png"])
    explain.write(tmp_path / "all.png", best, classifier, [])
    with Image.open(tmp_path / "one.png") as one, Image.open(tmp_path / "all.png") as all_:
        assert one.size[0] < all_.size[0] and one.size[1] < all_.size[1]
        assert len(np.unique(np.asarray(all_).reshape(-1, 3), axis=0)) > 100
    before = (tmp_path / "digit.png").read_bytes()  # it may be meant to be explained
    with pytest.raises(InputError, match=r"--explain: .*digit\.png exists; it takes the name of a new file"):
        explain.write(tmp_path / "digit.png", best, classifier, [])
    assert (tmp_path / "digit.png").read_bytes() == before
    broken = shutil.copytree(best, tmp_path / "broken")
    (broken / "weights.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"broken: weights\.safetensors cannot be loaded"):
        explain.write(tmp_path / "x.png", broken, classifier, [])
    with pytest.raises(InputError, match=r"--explain: got 'x\.jpg'; it takes a file name that ends in \.png"):
        explain.write(Path("x.jpg"), best, classifier, [])
    classifier.about["task"] = "regression"
    with pytest.raises(InputError, match="task regression has no wrong images"):
        explain.write(tmp_path / "x.png", best, classifier, [])
