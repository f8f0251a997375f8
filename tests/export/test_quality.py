"""What is said of a network's quality: base rates, remarks, recalls, the temperature of probabilities."""

import numpy as np
import pytest

from jaxnas.export import calibration, predict, quality
from jaxnas.training import measured
from jaxnas.training.task import BINARY, MULTI_LABEL, MULTICLASS, REGRESSION
from jaxnas.types import Split
from tests.helpers import dataset

LABELS = np.array([0] * 6 + [1] * 3 + [2], np.int32)
BALANCED = measured.measured_by(MULTICLASS, "balanced_accuracy")


def given(task=MULTICLASS, labels=LABELS, test=None):
    part = Split(np.zeros((len(labels), 1, 1, 1), np.uint8), labels)
    classes = ("ball", "box", "cup")
    return dataset()._replace(task=task, train=part, validation=part, test=test, classes=classes)


def logits(predicted):
    return np.eye(3)[predicted] * 2.0


def of(task, predicted, **options):
    outputs = logits(predicted)
    return quality.of(given(task, **options), task.measures(outputs, LABELS), outputs, None)


def test_measures_stand_beside_base_rates_and_recalls():
    metrics = of(BALANCED, [0, 0, 0, 0, 1, 1, 1, 1, 1, 0])
    assert metrics["base"]["validation"] == pytest.approx({"accuracy": 0.6, "balanced_accuracy": 1 / 3})
    assert metrics["recall"] == pytest.approx({"ball": 4 / 6, "box": 1.0, "cup": 0.0})
    assert metrics["validation"]["balanced_accuracy"] == pytest.approx(5 / 9)
    assert (metrics["measure"], metrics["remarks"]) == ("balanced_accuracy", [])
    first, recall, *_ = quality.lines(metrics)
    assert first.startswith("- validation: balanced_accuracy 0.5556 (always the commonest class: 0.3333), ")
    assert "accuracy 0.7000 (always the commonest class: 0.6000)" in first
    assert recall == "- recall by class, validation: ball 0.67, box 1.00, cup 0.00"


@pytest.mark.parametrize(
    ("task", "remark"),
    [
        (MULTICLASS, "its accuracy is 0.6000, and that has 0.6000."),
        (BALANCED, "its balanced accuracy is 0.3333, and that has 0.3333."),
        (measured.measured_by(MULTICLASS, "loss"), "its loss is 1.0395, and that has 0.8979."),
    ],
)
def test_no_better_than_the_commonest_class_is_said_in_words(task, remark):
    metrics = of(task, [0] * 10)
    assert metrics["remarks"] == [
        f"No better than always answering 'ball': on the validation inputs {remark}"
    ]
    assert quality.lines(metrics)[:2] == [*metrics["remarks"], ""]


def test_of_a_test_split():
    test = Split(np.zeros((4, 1, 1, 1), np.uint8), np.array([0, 1, 1, 2], np.int32))
    tested = {"accuracy": 0.25, "loss": 2.0}
    outputs = logits(LABELS)
    known = MULTICLASS.measures(outputs, LABELS)
    metrics = quality.of(given(test=test), known, outputs, tested)
    assert metrics["base"]["test"] == {"accuracy": 0.5, "balanced_accuracy": 1 / 3}
    assert [text.partition(":")[0] for text in metrics["remarks"]] == [
        "No better than always answering 'box'"
    ]
    # What was trained on the validation inputs too is not measured on them.
    metrics = quality.of(given(test=test), {"params": 7.0}, outputs, tested)
    assert (metrics["validation"], metrics["recall"], metrics["calibration"]) == ({}, {}, None)
    assert list(metrics["base"]) == ["test"]


def test_a_class_that_the_split_lacks_has_no_recall():
    labels = np.array([0, 0, 1], np.int32)
    outputs = logits([0, 1, 1])
    metrics = quality.of(given(labels=labels), MULTICLASS.measures(outputs, labels), outputs, None)
    assert metrics["recall"] == {"ball": 0.5, "box": 1.0, "cup": None}


@pytest.mark.parametrize("task", [MULTI_LABEL, REGRESSION])
def test_other_tasks_have_neither_recalls_nor_a_temperature(task):
    rng = np.random.default_rng(0)
    labels, outputs = rng.integers(0, 2, (9, 3)).astype(np.float32), rng.normal(size=(9, 3))
    metrics = quality.of(given(task, labels), task.measures(outputs, labels), outputs, None)
    assert (metrics["recall"], metrics["calibration"]) == ({}, None)
    assert "the best constant answer" in " ".join(quality.lines(metrics))


@pytest.mark.parametrize("task", [MULTICLASS, BINARY])
def test_the_temperature_by_hand(task):
    # Of four inputs whose logits differ by ln 81 three are right: the least loss has a probability of 3/4, so
    # that logits differ by ln 3, a quarter of ln 81.
    labels = np.array([1, 1, 1, 0])
    outputs = np.tile([0.0, np.log(81)], (4, 1)) if task is MULTICLASS else np.full((4, 1), np.log(81))
    found = calibration.fit(task, outputs, labels)
    assert found["temperature"] == pytest.approx(4.0, rel=1e-3)
    assert found["error"] == pytest.approx(81 / 82 - 0.75)
    assert found["error_scaled"] == pytest.approx(0.0, abs=1e-3)
    classifier = predict.Classifier.__new__(predict.Classifier)
    classifier.about = {"task": task.name, "temperature": found["temperature"]}
    np.testing.assert_allclose(classifier.probabilities(outputs)[:, 1], 0.75, atol=1e-3)


def test_a_temperature_stays_in_its_bounds():
    outputs = np.array([[0.0, 1.0], [1.0, 0.0]])
    assert calibration.fit(MULTICLASS, outputs, np.array([1, 0]))["temperature"] == pytest.approx(
        0.25, rel=1e-3
    )
    assert calibration.fit(MULTICLASS, outputs, np.array([0, 1]))["temperature"] == pytest.approx(
        10, rel=1e-3
    )


@pytest.mark.parametrize(
    ("least", "task", "wrong"), [(1.5, "binary", "0 to 1"), (0.5, "regression", "numbers")]
)
def test_a_confidence_that_cannot_be_asked_for(least, task, wrong):
    with pytest.raises(ValueError, match=wrong):
        predict.check_confidence(least, task)
