"""Measures by hand and against scikit-learn; on the host and traced; of constant predictions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from jaxnas.errors import InputError
from jaxnas.training import measured, measures
from jaxnas.training import task as tasks

CASES = [(task, name) for task, known in measured.REGISTRY.items() for name in known]
# Ten inputs of classes 0 and 1 (8 : 2) and of a third that this split lacks, with what is predicted.
LABELS = np.array([0] * 8 + [1] * 2, np.int32)
PREDICTED = np.array([0] * 6 + [1, 2] + [1, 0])
LOGITS = np.eye(3)[PREDICTED] * 4.0


def example(task, seed=0, N=30, C=4):
    rng = np.random.default_rng(seed)
    outputs = rng.normal(size=(N, 1 if task == "binary" else C)).astype(np.float32)
    labels = {
        "multiclass": rng.integers(0, C - 1, N).astype(np.int32),  # the last class is lacking
        "binary": rng.integers(0, 2, N).astype(np.int32),
        "multi_label": rng.integers(0, 2, (N, C)).astype(np.float32),
        "regression": rng.normal(size=(N, C)).astype(np.float32),
    }[task]
    return outputs, labels


def test_measures_of_classes_by_hand():
    # Recalls 6/8 and 1/2. F1 of class 0: 2·6 / (8 + 7), of class 1: 2·1 / (2 + 2).
    np.testing.assert_allclose(measures.recalls(LOGITS, LABELS), [0.75, 0.5, np.nan])
    assert measures.balanced_accuracy(LOGITS, LABELS) == pytest.approx(0.625)
    assert measures.macro_f1(LOGITS, LABELS) == pytest.approx((0.8 + 0.5) / 2)
    assert measures.accuracy(LOGITS, LABELS) == pytest.approx(0.7)


def test_calibration_error_by_hand():
    # Confidences 3/4, 3/4 and 3/5 in bins 12, 12 and 9 of 15, of which the first and the last are right:
    # 2/3 · |1/2 − 3/4| + 1/3 · |1 − 3/5| = 0.3.
    x = np.log(np.array([[0.75, 0.25], [0.25, 0.75], [0.6, 0.4]]))
    assert measures.calibration_error(x, np.array([0, 0, 0])) == pytest.approx(0.3)


def test_measures_of_numbers_by_hand():
    targets = np.array([[1.0, 5.0], [3.0, 5.0]])  # the second one never varies
    assert measures.r2(np.array([[1.0, 0.0], [2.0, 0.0]]), targets) == pytest.approx(1 - 1 / 2)
    assert np.isnan(measures.r2(targets[:, 1:], targets[:, 1:]))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(-2, 2), st.booleans()), min_size=1, max_size=30))
def test_average_precision_with_ties_against_scikit_learn(rows):
    scores, positive = np.array([r[0] for r in rows], float), np.array([r[1] for r in rows], float)
    found = measures.mean_average_precision(scores[:, None], positive[:, None])
    if positive.any():
        assert found == pytest.approx(metrics.average_precision_score(positive, scores))
    else:
        assert np.isnan(found)


def test_against_scikit_learn():
    outputs, labels = example("multiclass")
    predicted, present = outputs.argmax(1), np.unique(labels)
    assert measures.macro_f1(outputs, labels) == pytest.approx(
        metrics.f1_score(labels, predicted, labels=present, average="macro")
    )
    recall = metrics.recall_score(labels, predicted, labels=present, average="macro")
    assert measures.balanced_accuracy(outputs, labels) == pytest.approx(recall)
    outputs, labels = example("regression")
    assert measures.r2(outputs, labels) == pytest.approx(metrics.r2_score(labels, outputs), rel=1e-5)


@pytest.mark.parametrize(("task", "name"), CASES)
def test_the_traced_score_is_the_measure(task, name):
    by_it = measured.measured_by(tasks.named(task), name)
    score = jax.jit(by_it.score)
    for seed in range(5):  # of one shape, which is one program
        outputs, labels = example(task, seed)
        value = by_it.measures(outputs, labels)[name]
        signed = value if by_it.more_is_better else -value
        assert float(score(jnp.asarray(outputs), jnp.asarray(labels))) == pytest.approx(signed, abs=3e-6)


@pytest.mark.parametrize(("task", "name"), CASES)
def test_a_task_that_is_measured_by(task, name):
    outputs, labels = example(task)
    by_it = measured.measured_by(tasks.named(task), name)
    found = by_it.measures(outputs, labels)
    assert tuple(found) == by_it.names and by_it.names[0] == name
    assert set(by_it.names) == {*measured.REGISTRY[task], *tasks.named(task).names}
    assert {n: found[n] for n in tasks.named(task).names} == tasks.named(task).measures(outputs, labels)
    assert by_it.more_is_better == (name not in ("loss", "calibration_error", "mae", "mse"))


def constants(task, labels):
    """Outputs that do not depend on the input: one class, the shares of all, the median, the mean."""
    if task == "regression":
        rows = [np.median(labels, axis=0), labels.mean(0)]
    elif task == "multi_label":
        p = labels.mean(0)
        rows = [np.log(p / (1 - p))]
    else:
        p = np.bincount(labels, minlength=4 if task == "multiclass" else 2) / len(labels)
        rows = [np.log(np.maximum(p, 1e-9))]
        rows += list(np.eye(len(p)) * 9)
        rows = [row[1:] - row[:1] for row in rows] if task == "binary" else rows
    return [np.tile(row, (len(labels), 1)) for row in rows]


@pytest.mark.parametrize(("task", "name"), CASES)
def test_the_best_constant_is_reached_and_not_exceeded(task, name):
    by_it = measured.measured_by(tasks.named(task), name)
    _, labels = example(task)
    if by_it.constant is None:
        assert name == "calibration_error"
        return
    reached = [by_it.measures(outputs, labels)[name] for outputs in constants(task, labels)]
    best = max(reached) if by_it.more_is_better else min(reached)
    assert best == pytest.approx(by_it.constant(labels), abs=1e-6)


def test_constants_by_hand():
    of = {name: measured.measured_by(tasks.MULTICLASS, name).constant for name in measured.CLASSES}
    assert of["accuracy"](LABELS) == pytest.approx(0.8)
    assert of["balanced_accuracy"](LABELS) == pytest.approx(0.5)
    assert of["macro_f1"](LABELS) == pytest.approx(0.8 / 1.8)  # F1 of class 0 is 2·8 / (8 + 10)
    assert of["loss"](LABELS) == pytest.approx(-0.8 * np.log(0.8) - 0.2 * np.log(0.2))


def test_a_task_that_reports_one_measure_more():
    more = measured.reporting(tasks.BINARY, "macro_f1", "accuracy", "speed")
    outputs, labels = example("binary")
    assert tuple(more.measures(outputs, labels)) == more.names == (*tasks.BINARY.names, "macro_f1")
    assert measured.reporting(tasks.BINARY, "speed") is tasks.BINARY


def test_an_unknown_measure():
    with pytest.raises(InputError, match=r"data\.measure: unknown name 'f1'.*mean_average_precision"):
        measured.measured_by(tasks.MULTI_LABEL, "f1")
