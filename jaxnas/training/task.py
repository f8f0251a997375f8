"""What a task asks of a child network: the training loss, and the measures of its outputs.

Losses are traced into the training program; measures are computed on the host from the outputs on the
validation split, so that no program is compiled for them.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

# The measures of each task, as `measures` returns them.
NAMES = {
    "multiclass": ("accuracy", "auc", "loss", "constant"),
    "binary": ("accuracy", "auc", "loss", "constant"),
    "multi_label": ("accuracy", "auc", "loss"),
    "regression": ("mae", "mse", "loss"),
}


def loss(task: str, outputs: jax.Array, labels: jax.Array, weights: jax.Array | None) -> jax.Array:
    """Mean training loss of a batch: cross-entropy in nats, or the squared error of a regression.

    outputs [N, O]; labels int32 [N] or float32 [N, O]; weights float32 [classes] per class, or None.
    """
    if task == "multiclass":
        each = optax.softmax_cross_entropy_with_integer_labels(outputs, labels)
        weight = None if weights is None else weights[labels]
    elif task == "binary":
        each = optax.sigmoid_binary_cross_entropy(outputs[:, 0], labels.astype(jnp.float32))
        weight = None if weights is None else weights[labels]
    elif task == "multi_label":
        each = optax.sigmoid_binary_cross_entropy(outputs, labels)
        weight = None if weights is None else jnp.broadcast_to(weights.reshape(1, -1), labels.shape)
    else:
        each, weight = jnp.square(outputs - labels), None
    return jnp.mean(each) if weight is None else jnp.sum(each * weight) / jnp.sum(weight)


def score(task: str, outputs: jax.Array, labels: jax.Array) -> jax.Array:  # [N, O], labels → float32 []
    """What decides between two epochs of a child, traced: the accuracy, or −MSE of a regression."""
    if task == "multiclass":
        return jnp.mean((jnp.argmax(outputs, axis=-1) == labels).astype(jnp.float32))
    if task == "regression":
        return -jnp.mean(jnp.square(outputs - labels))
    right = (outputs > 0) == (labels.reshape(outputs.shape).astype(jnp.float32) > 0.5)
    return jnp.mean(right.astype(jnp.float32))


def constant_accuracy(task: str, labels: np.ndarray) -> float:
    """Host: the accuracy of the best constant prediction; 0 for a regression."""
    if task == "regression":
        return 0.0
    if task == "multi_label":
        return float(np.mean(np.maximum(labels.mean(axis=0), 1 - labels.mean(axis=0))))
    return float(np.bincount(labels).max() / len(labels))


def measures(task: str, outputs: np.ndarray, labels: np.ndarray) -> dict[str, float]:  # [N, O], [N] or [N, O]
    """Host: the measures of a split. Accuracy and AUC lie in 0–1, the loss is unweighted.

    The accuracy of a multi-label task is the mean over labels, its AUC likewise; the AUC of a multiclass
    task is the mean over classes of one against the rest (MedMNIST's definitions). `constant` is 1 where
    one class alone is predicted, whatever the image, else 0.
    """
    from scipy import special  # scipy takes half of the time that jaxnas would take to import

    x = outputs.astype(np.float64)
    if task == "multiclass":
        log_probs = special.log_softmax(x, axis=-1)
        rows = np.arange(len(labels))
        one_hot = np.eye(x.shape[1])[labels]
        return {
            "accuracy": float(np.mean(x.argmax(-1) == labels)),
            "auc": auc(special.softmax(x, axis=-1), one_hot),
            "loss": float(-np.mean(log_probs[rows, labels])),
            "constant": float(len(np.unique(x.argmax(-1))) == 1),
        }
    if task in ("binary", "multi_label"):
        target = labels.reshape(x.shape).astype(np.float64)
        found = {
            "accuracy": float(np.mean((x > 0) == (target > 0.5))),
            "auc": auc(x, target),
            "loss": float(np.mean(np.logaddexp(0, x) - x * target)),
        }
        return found | ({"constant": float(len(np.unique(x > 0)) == 1)} if task == "binary" else {})
    error = x - labels
    mse = float(np.mean(error**2))
    return {"mae": float(np.mean(np.abs(error))), "mse": mse, "loss": mse}


def auc(scores: np.ndarray, positive: np.ndarray) -> float:  # [N, O], 0/1 [N, O]
    """Area under the ROC curve from ranks (Mann & Whitney 1947), averaged over columns with both classes."""
    from scipy import stats

    ranks = stats.rankdata(scores, axis=0)
    n_positive = positive.sum(axis=0)
    pairs = n_positive * (len(scores) - n_positive)
    wins = (ranks * positive).sum(axis=0) - n_positive * (n_positive + 1) / 2
    defined = pairs > 0
    return float(np.mean(wins[defined] / pairs[defined])) if defined.any() else float("nan")
