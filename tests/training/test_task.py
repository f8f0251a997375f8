"""Losses against numpy, measures against scikit-learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from jaxnas.training import task as tasks
from jaxnas.types import TASKS

N, O = 7, 3


def example(task):
    rng = np.random.default_rng(0)
    outputs = rng.normal(size=(N, 1 if task == "binary" else O)).astype(np.float32)
    labels = {
        "multiclass": np.array([0, 1, 2, 0, 1, 2, 2], np.int32),
        "binary": np.array([0, 1, 1, 0, 1, 0, 1], np.int32),
        "multi_label": rng.integers(0, 2, (N, O)).astype(np.float32),
        "regression": rng.normal(size=(N, O)).astype(np.float32),
    }[task]
    return outputs, labels


def elementwise(task, outputs, labels):
    """Each loss written out: −log softmax at the label, −log σ(±x), the square."""
    if task == "multiclass":
        return np.array([-x[y] + np.log(np.exp(x).sum()) for x, y in zip(outputs, labels, strict=True)])
    if task == "regression":
        return (outputs - labels) ** 2
    x, y = outputs.reshape(labels.shape), labels
    probability = 1 / (1 + np.exp(-x))
    return -(y * np.log(probability) + (1 - y) * np.log(1 - probability))


@pytest.mark.parametrize("task", TASKS)
def test_losses(task):
    outputs, labels = example(task)
    loss = tasks.loss(task, jnp.asarray(outputs), jnp.asarray(labels), None)
    assert loss.shape == ()
    np.testing.assert_allclose(loss, elementwise(task, outputs, labels).mean(), rtol=1e-6)
    np.testing.assert_allclose(tasks.measures(task, outputs, labels)["loss"], loss, rtol=1e-6)


@pytest.mark.parametrize("task", ["multiclass", "binary", "multi_label"])
def test_weighted_losses(task):
    outputs, labels = example(task)
    weights = np.array([1.0, 4.0, 0.5][: 2 if task == "binary" else O], np.float32)
    each = elementwise(task, outputs, labels)
    weight = np.broadcast_to(weights, labels.shape) if task == "multi_label" else weights[labels]
    loss = tasks.loss(task, jnp.asarray(outputs), jnp.asarray(labels), jnp.asarray(weights))
    np.testing.assert_allclose(loss, (each * weight).sum() / weight.sum(), rtol=1e-6)


def test_cross_entropy_by_hand():
    # logits (0, ln 3): probabilities (1/4, 3/4); losses ln 4 and ln 4/3, mean ln(16/3)/2 = 0.836988
    logits = jnp.array([[0.0, np.log(3.0)]] * 2)
    np.testing.assert_allclose(tasks.loss("multiclass", logits, jnp.array([0, 1]), None), 0.836988, rtol=1e-5)


@pytest.mark.parametrize("task", TASKS)
def test_the_measures_are_those_announced(task):
    found = tasks.measures(task, *example(task))
    assert tuple(found) == tasks.NAMES[task]
    assert all(isinstance(value, float) and np.isfinite(value) for value in found.values())


def test_measures_against_scikit_learn():
    outputs, labels = example("multiclass")
    found = tasks.measures("multiclass", outputs, labels)
    softmax = np.asarray(jax.nn.softmax(outputs))
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(labels, outputs.argmax(-1)))
    one_against_rest = metrics.roc_auc_score(
        labels, softmax / softmax.sum(-1, keepdims=True), multi_class="ovr"
    )
    assert found["auc"] == pytest.approx(one_against_rest)
    outputs, labels = example("binary")
    found = tasks.measures("binary", outputs, labels)
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(labels, outputs[:, 0] > 0))
    assert found["auc"] == pytest.approx(metrics.roc_auc_score(labels, outputs[:, 0]))
    outputs, labels = example("multi_label")
    found = tasks.measures("multi_label", outputs, labels)
    assert found["accuracy"] == pytest.approx(np.mean((outputs > 0) == (labels > 0.5)))
    assert found["auc"] == pytest.approx(metrics.roc_auc_score(labels, outputs, average="macro"))
    outputs, labels = example("regression")
    found = tasks.measures("regression", outputs, labels)
    assert found["mae"] == pytest.approx(metrics.mean_absolute_error(labels, outputs))
    assert found["mse"] == pytest.approx(metrics.mean_squared_error(labels, outputs))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=40))
def test_auc_with_ties_against_scikit_learn(rows):
    scores, positive = np.array([r[0] for r in rows], float), np.array([r[1] for r in rows], float)
    found = tasks.auc(scores[:, None], positive[:, None])
    if positive.min() == positive.max():
        assert np.isnan(found)
    else:
        assert found == pytest.approx(metrics.roc_auc_score(positive, scores))


def test_auc_leaves_out_a_column_of_one_class():
    scores, positive = np.array([[0.1, 0.5], [0.9, 0.4]]), np.array([[0.0, 1.0], [1.0, 1.0]])
    assert tasks.auc(scores, positive) == 1.0


def test_large_outputs_stay_finite():
    for task in ("multiclass", "binary", "multi_label"):
        outputs, labels = example(task)
        loss = tasks.loss(task, jnp.asarray(outputs * 1e4), jnp.asarray(labels), None)
        assert np.isfinite(loss)
        assert np.isfinite(tasks.measures(task, outputs * 1e4, labels)["loss"])
