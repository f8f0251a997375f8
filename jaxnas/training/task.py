"""What the tasks ask of a child network, in one registry: the loss, and what is read from its outputs.

Losses and scores are traced into the training program; measures are computed on the host from the outputs on
the validation split, so that no program is compiled for them. Shapes: N inputs, O outputs.
"""

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnas.errors import unknown
from jaxnas.training.measures import auc
from jaxnas.types import Task


def named(name: str) -> Task:
    """The task of that name.

    Raises:
      InputError: there is none.
    """
    if name not in REGISTRY:
        raise unknown("task", name, REGISTRY)
    return REGISTRY[name]


# One class of several: outputs are logits, labels int32 [N].


def _multiclass_loss(
    outputs: jax.Array, labels: jax.Array, weights: jax.Array | None, smoothing: float = 0.0
) -> jax.Array:
    """Mean cross-entropy in nats."""
    chex.assert_rank([outputs, labels], [2, 1])
    losses = optax.softmax_cross_entropy_with_integer_labels(outputs, labels)
    if smoothing:
        uniform = -jnp.mean(jax.nn.log_softmax(outputs), axis=-1)
        losses = (1 - smoothing) * losses + smoothing * uniform
    return _mean(losses, None if weights is None else weights[labels])


def _multiclass_score(outputs: jax.Array, labels: jax.Array) -> jax.Array:
    """Accuracy."""
    chex.assert_rank([outputs, labels], [2, 1])
    return jnp.mean((jnp.argmax(outputs, axis=-1) == labels).astype(jnp.float32))


def _multiclass_measures(outputs: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The AUC is the mean over classes of one against the rest (MedMNIST's definition)."""
    from scipy import special  # scipy takes half of the time that jaxnas would take to import

    chex.assert_rank([outputs, labels], [2, 1])
    x = outputs.astype(np.float64)
    log_probs = special.log_softmax(x, axis=-1)
    return {
        "accuracy": float(np.mean(x.argmax(-1) == labels)),
        "auc": float(auc(special.softmax(x, axis=-1), np.eye(x.shape[1])[labels])),
        "loss": float(-np.mean(log_probs[np.arange(len(labels)), labels])),
        "constant": float(len(np.unique(x.argmax(-1))) == 1),
    }


def _softmax(outputs: np.ndarray) -> np.ndarray:
    from scipy import special

    return special.softmax(outputs.astype(np.float64), axis=-1)


def _constant_accuracy(labels: np.ndarray) -> float:
    return float(np.bincount(labels).max() / len(labels))


# Yes or no: an output is a logit; labels are int32 [N] for one question, float32 [N, O] for several.


def _binary_loss(
    outputs: jax.Array, labels: jax.Array, weights: jax.Array | None, smoothing: float = 0.0
) -> jax.Array:
    """Mean cross-entropy in nats; weights of class 0 and class 1."""
    chex.assert_shape(outputs, (*labels.shape, 1))
    targets = labels.astype(jnp.float32)
    targets = (1 - smoothing) * targets + smoothing / 2 if smoothing else targets
    losses = optax.sigmoid_binary_cross_entropy(outputs[:, 0], targets)
    return _mean(losses, None if weights is None else weights[labels])


def _multi_label_loss(outputs: jax.Array, labels: jax.Array, weights: jax.Array | None) -> jax.Array:
    """Mean cross-entropy in nats; a weight for each label."""
    chex.assert_rank(outputs, 2)
    chex.assert_equal_shape([outputs, labels])
    losses = optax.sigmoid_binary_cross_entropy(outputs, labels)
    return _mean(losses, None if weights is None else jnp.broadcast_to(weights.reshape(1, -1), labels.shape))


def _sigmoid_score(outputs: jax.Array, labels: jax.Array) -> jax.Array:
    """Accuracy, the mean over labels."""
    chex.assert_rank(outputs, 2)
    right = (outputs > 0) == (labels.reshape(outputs.shape).astype(jnp.float32) > 0.5)
    return jnp.mean(right.astype(jnp.float32))


def _multi_label_measures(outputs: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Accuracy and AUC are means over labels (MedMNIST's definitions)."""
    chex.assert_rank(outputs, 2)
    x, target = outputs.astype(np.float64), labels.reshape(outputs.shape).astype(np.float64)
    return {
        "accuracy": float(np.mean((x > 0) == (target > 0.5))),
        "auc": float(auc(x, target)),
        "loss": float(np.mean(np.logaddexp(0, x) - x * target)),
    }


def _binary_measures(outputs: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    constant = float(len(np.unique(outputs > 0)) == 1)
    return {**_multi_label_measures(outputs, labels), "constant": constant}


def _sigmoid(outputs: np.ndarray) -> np.ndarray:
    from scipy import special

    return special.expit(outputs.astype(np.float64))


def _sigmoid_ensemble(outputs: np.ndarray) -> np.ndarray:
    from scipy import special

    return np.asarray(special.logit(_sigmoid(outputs).mean(axis=0).clip(1e-15, 1 - 1e-15)))


def _same_signs(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return ((a > 0) == (b > 0)).all(axis=1)


# Numbers: outputs are the targets themselves, labels float32 [N, O].


def _regression_loss(outputs: jax.Array, labels: jax.Array, weights: jax.Array | None = None) -> jax.Array:
    """Mean squared error; weights have no meaning here."""
    chex.assert_rank(outputs, 2)
    chex.assert_equal_shape([outputs, labels])
    del weights
    return jnp.mean(jnp.square(outputs - labels))


def _regression_measures(outputs: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    chex.assert_equal_shape([outputs, labels])
    error = outputs.astype(np.float64) - labels
    mse = float(np.mean(error**2))
    return {"mae": float(np.mean(np.abs(error))), "mse": mse, "loss": mse}


# What tasks share.


def _mean(losses: jax.Array, weights: jax.Array | None) -> jax.Array:  # two of one shape → []
    return jnp.mean(losses) if weights is None else jnp.sum(losses * weights) / jnp.sum(weights)


def _of_target(outputs: jax.Array, targets: jax.Array) -> jax.Array:  # [N, O], int32 [N] → [N]
    return jnp.take_along_axis(outputs, targets[:, None], axis=1)[:, 0]


# `constant` is 1 where one class alone is predicted, whatever the input, else 0; losses are unweighted.
MULTICLASS = Task(
    name="multiclass",
    names=("accuracy", "auc", "loss", "constant"),
    num_outputs=lambda classes: classes,
    loss=_multiclass_loss,
    score=_multiclass_score,
    measures=_multiclass_measures,
    probabilities=_softmax,
    ensemble=lambda outputs: np.log(_softmax(outputs).mean(axis=0).clip(1e-300)),
    agreement=lambda a, b: a.argmax(axis=1) == b.argmax(axis=1),
    evidence=_of_target,
    predict=lambda outputs: outputs.argmax(axis=1),
    constant=_constant_accuracy,
    num_classes=(2, math.inf),
)
BINARY = Task(
    name="binary",
    names=("accuracy", "auc", "loss", "constant"),
    num_outputs=lambda classes: 1,
    loss=_binary_loss,
    score=_sigmoid_score,
    measures=_binary_measures,
    probabilities=lambda outputs: np.concatenate([1 - _sigmoid(outputs), _sigmoid(outputs)], axis=1),
    ensemble=_sigmoid_ensemble,
    agreement=_same_signs,
    evidence=lambda outputs, targets: jnp.where(targets == 1, outputs[:, 0], -outputs[:, 0]),
    predict=lambda outputs: (outputs[:, 0] > 0).astype(int),
    constant=_constant_accuracy,
    num_classes=(2, 2),
)
MULTI_LABEL = Task(
    name="multi_label",
    names=("accuracy", "auc", "loss"),
    num_outputs=lambda labels: labels,
    loss=_multi_label_loss,
    score=_sigmoid_score,
    measures=_multi_label_measures,
    probabilities=_sigmoid,
    ensemble=_sigmoid_ensemble,
    agreement=_same_signs,
    evidence=_of_target,
)
REGRESSION = Task(
    name="regression",
    names=("mae", "mse", "loss"),
    num_outputs=lambda targets: targets,
    loss=_regression_loss,
    score=lambda outputs, labels: -_regression_loss(outputs, labels),
    measures=_regression_measures,
    probabilities=lambda outputs: outputs,
    ensemble=lambda outputs: outputs.mean(axis=0),
    agreement=lambda a, b: np.all(np.isclose(a, b, rtol=1e-3, atol=1e-3), axis=1),  # they differ by rounding
    evidence=_of_target,
    more_is_better=False,
)
REGISTRY: dict[str, Task] = {
    "multiclass": MULTICLASS,
    "binary": BINARY,
    "multi_label": MULTI_LABEL,
    "regression": REGRESSION,
}

# The tasks that fit a source's labels, by default the first: classes [N], 0 or 1 [N, O], numbers [N, O].
FITTING: dict[str, tuple[Task, ...]] = {
    "classes": (MULTICLASS, BINARY, REGRESSION),
    "labels": (MULTI_LABEL,),
    "targets": (REGRESSION,),
}
