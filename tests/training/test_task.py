"""Losses against numpy, measures against scikit-learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from jaxnas.errors import InputError
from jaxnas.training import measures
from jaxnas.training import task as tasks

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


@pytest.mark.parametrize("task", tasks.REGISTRY)
def test_losses(task):
    outputs, labels = example(task)
    loss = tasks.REGISTRY[task].loss(jnp.asarray(outputs), jnp.asarray(labels), None)
    assert loss.shape == ()
    np.testing.assert_allclose(loss, elementwise(task, outputs, labels).mean(), rtol=1e-6)
    np.testing.assert_allclose(tasks.REGISTRY[task].measures(outputs, labels)["loss"], loss, rtol=1e-6)


@pytest.mark.parametrize("task", ["multiclass", "binary", "multi_label"])
def test_weighted_losses(task):
    outputs, labels = example(task)
    weights = np.array([1.0, 4.0, 0.5][: 2 if task == "binary" else O], np.float32)
    each = elementwise(task, outputs, labels)
    weight = np.broadcast_to(weights, labels.shape) if task == "multi_label" else weights[labels]
    loss = tasks.REGISTRY[task].loss(jnp.asarray(outputs), jnp.asarray(labels), jnp.asarray(weights))
    np.testing.assert_allclose(loss, (each * weight).sum() / weight.sum(), rtol=1e-6)


def test_cross_entropy_by_hand():
    # logits (0, ln 3): probabilities (1/4, 3/4); losses ln 4 and ln 4/3, mean ln(16/3)/2 = 0.836988
    logits = jnp.array([[0.0, np.log(3.0)]] * 2)
    np.testing.assert_allclose(tasks.MULTICLASS.loss(logits, jnp.array([0, 1]), None), 0.836988, rtol=1e-5)


@pytest.mark.parametrize("task", tasks.REGISTRY)
def test_the_measures_are_those_announced(task):
    found = tasks.REGISTRY[task].measures(*example(task))
    assert tuple(found) == tasks.REGISTRY[task].names
    assert all(isinstance(value, float) and np.isfinite(value) for value in found.values())


def test_measures_against_scikit_learn():
    outputs, labels = example("multiclass")
    found = tasks.MULTICLASS.measures(outputs, labels)
    softmax = np.asarray(jax.nn.softmax(outputs))
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(labels, outputs.argmax(-1)))
    one_against_rest = metrics.roc_auc_score(
        labels, softmax / softmax.sum(-1, keepdims=True), multi_class="ovr"
    )
    assert found["auc"] == pytest.approx(one_against_rest)
    outputs, labels = example("binary")
    found = tasks.BINARY.measures(outputs, labels)
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(labels, outputs[:, 0] > 0))
    assert found["auc"] == pytest.approx(metrics.roc_auc_score(labels, outputs[:, 0]))
    outputs, labels = example("multi_label")
    found = tasks.MULTI_LABEL.measures(outputs, labels)
    assert found["accuracy"] == pytest.approx(np.mean((outputs > 0) == (labels > 0.5)))
    assert found["auc"] == pytest.approx(metrics.roc_auc_score(labels, outputs, average="macro"))
    outputs, labels = example("regression")
    found = tasks.REGRESSION.measures(outputs, labels)
    assert found["mae"] == pytest.approx(metrics.mean_absolute_error(labels, outputs))
    assert found["mse"] == pytest.approx(metrics.mean_squared_error(labels, outputs))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=40))
def test_auc_with_ties_against_scikit_learn(rows):
    scores, positive = np.array([r[0] for r in rows], float), np.array([r[1] for r in rows], float)
    found = measures.auc(scores[:, None], positive[:, None])
    if positive.min() == positive.max():
        assert np.isnan(found)
    else:
        assert found == pytest.approx(metrics.roc_auc_score(positive, scores))


def test_auc_leaves_out_a_column_of_one_class():
    scores, positive = np.array([[0.1, 0.5], [0.9, 0.4]]), np.array([[0.0, 1.0], [1.0, 1.0]])
    assert measures.auc(scores, positive) == 1.0


def test_large_outputs_stay_finite():
    for task in ("multiclass", "binary", "multi_label"):
        outputs, labels = example(task)
        loss = tasks.REGISTRY[task].loss(jnp.asarray(outputs * 1e4), jnp.asarray(labels), None)
        assert np.isfinite(loss)
        assert np.isfinite(tasks.REGISTRY[task].measures(outputs * 1e4, labels)["loss"])


@pytest.mark.parametrize("task", tasks.REGISTRY)
def test_the_score_is_the_measure(task):
    outputs, labels = example(task)
    measured = tasks.REGISTRY[task].measures(outputs, labels)
    expected = -measured["mse"] if task == "regression" else measured["accuracy"]
    assert float(tasks.REGISTRY[task].score(jnp.asarray(outputs), jnp.asarray(labels))) == pytest.approx(
        expected, 1e-6
    )


def test_the_best_constant():
    assert tasks.MULTICLASS.constant(np.array([0, 2, 2, 1])) == 0.5
    assert tasks.BINARY.constant(np.array([0, 1, 1, 1])) == 0.75


def test_the_mean_prediction_of_several_networks():
    outputs = np.array([[[1.0]], [[3.0]]])
    assert tasks.REGRESSION.ensemble(outputs) == 2.0
    p = 1 / (1 + np.exp(-outputs))
    assert tasks.BINARY.ensemble(outputs)[0, 0] == pytest.approx(np.log(p.mean() / (1 - p.mean())))
    logits = np.log(np.array([[[0.9, 0.1]], [[0.2, 0.8]]]))  # means of the probabilities: 0.55 and 0.45
    np.testing.assert_allclose(np.exp(tasks.MULTICLASS.ensemble(logits)), [[0.55, 0.45]])


def test_evidence_by_hand():
    outputs, targets = jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.array([1, 0])
    np.testing.assert_array_equal(tasks.MULTICLASS.evidence(outputs, targets), [2.0, 3.0])
    np.testing.assert_array_equal(tasks.BINARY.evidence(outputs[:, :1], targets), [1.0, -3.0])


def test_outputs_that_do_not_fit_the_labels_are_a_bug():
    outputs, labels = jnp.zeros((4, 1)), jnp.zeros((4, 3))
    for name in ("multi_label", "regression"):
        with pytest.raises(AssertionError):
            tasks.REGISTRY[name].loss(outputs, labels, None)
    with pytest.raises(AssertionError):
        tasks.BINARY.loss(jnp.zeros((4, 2)), jnp.zeros(4, jnp.int32), None)


def test_an_unknown_task():
    with pytest.raises(InputError, match="task: unknown name 'multi'; did you mean 'multiclass'"):
        tasks.named("multi")


def test_smoothed_labels():
    """By hand, a share of 0.2 spread over three classes, or over yes and no."""
    outputs, labels = jnp.array([[1.0, 2.0, 0.5]]), jnp.array([1])
    log_probs = np.asarray(jax.nn.log_softmax(outputs))[0]
    expected = -(np.array([0.2 / 3, 0.8 + 0.2 / 3, 0.2 / 3]) * log_probs).sum()
    assert float(tasks.MULTICLASS.loss(outputs, labels, None, 0.2)) == pytest.approx(expected)
    yes = -0.9 * np.log(1 / (1 + np.exp(-1.5))) - 0.1 * np.log(1 / (1 + np.exp(1.5)))
    assert float(tasks.BINARY.loss(jnp.array([[1.5]]), labels, None, 0.2)) == pytest.approx(yes)
