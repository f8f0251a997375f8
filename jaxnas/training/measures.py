"""What the outputs of a network can be judged by: one formula each, for numpy and for traced arrays alike.

On the host a formula is given float64 and its value is recorded; in the training program it is given float32
and compares two epochs. Balanced accuracy is the mean recall of the classes (Brodersen et al. 2010,
https://doi.org/10.1109/ICPR.2010.764), the calibration error that of Guo et al. 2017
(https://arxiv.org/abs/1706.04599), with 15 bins. A class, label or target that a split lacks is left out of a
mean over them. Shapes: N inputs, C classes or columns.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

BINS = 15  # of confidence, equally wide
Array = Any  # of numpy, or traced


# Of classes: x are logits [N, C], labels integers [N].


def accuracy(x: Array, labels: Array) -> Array:  # → []
    """Share of the inputs whose class is the likeliest one."""
    return (x.argmax(-1) == labels).astype(x.dtype).mean()


def balanced_accuracy(x: Array, labels: Array) -> Array:  # → []
    """Mean recall of the classes."""
    hits, actual, _ = _counts(x, labels)
    return _mean_where(hits / _at_least_one(actual), actual > 0)


def macro_f1(x: Array, labels: Array) -> Array:  # → []
    """Mean F1 of the classes: 2·TP / (2·TP + FP + FN)."""
    hits, actual, predicted = _counts(x, labels)
    return _mean_where(2 * hits / _at_least_one(actual + predicted), actual > 0)


def calibration_error(x: Array, labels: Array) -> Array:  # → []
    """Expected calibration error: Σ over bins of |B|/N · |accuracy(B) − confidence(B)|."""
    xp = x.__array_namespace__()
    confidence = softmax(x).max(-1)
    hit = (x.argmax(-1) == labels).astype(x.dtype)
    bin = xp.clip(xp.ceil(confidence * BINS) - 1, 0, BINS - 1)
    member = (bin[:, None] == xp.arange(BINS).astype(x.dtype)[None]).astype(x.dtype)  # [N, BINS]
    return xp.abs(((hit - confidence)[:, None] * member).sum(0)).sum() / len(x)


def log_loss(x: Array, labels: Array) -> Array:  # → []
    """Mean cross-entropy in nats."""
    xp = x.__array_namespace__()
    highest = x.max(-1)
    logits = xp.take_along_axis(x, labels[:, None], axis=-1)[:, 0]
    return (xp.log(xp.exp(x - highest[:, None]).sum(-1)) + highest - logits).mean()


def recalls(x: np.ndarray, labels: np.ndarray) -> np.ndarray:  # → [C], NaN for a class without inputs
    """Share of each class's inputs that are recognized."""
    hits, actual, _ = _counts(x, labels)
    return np.where(actual > 0, hits / _at_least_one(actual), np.nan)


def softmax(x: Array) -> Array:  # [N, C] → [N, C]
    """Probabilities."""
    xp = x.__array_namespace__()
    powers = xp.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def _counts(x: Array, labels: Array) -> tuple[Array, Array, Array]:  # → [C] each
    """How many of each class there are: recognized, in all, predicted."""
    classes = x.__array_namespace__().arange(x.shape[-1])
    actual, predicted = ((n[:, None] == classes[None]).astype(x.dtype) for n in (labels, x.argmax(-1)))
    return (actual * predicted).sum(0), actual.sum(0), predicted.sum(0)


# Of columns: scores [N, C] and 0 or 1 [N, C].


def auc(scores: Array, positive: Array) -> Array:  # → []; NaN where no column has both classes
    """Area under the ROC curve from ranks (Mann & Whitney 1947), averaged over columns with both classes."""
    n_positive = positive.sum(0)
    pairs = n_positive * (len(scores) - n_positive)
    wins = (_each_column(_ranks, scores) * positive).sum(0) - n_positive * (n_positive + 1) / 2
    return _mean_where(wins / _at_least_one(pairs), pairs > 0)


def mean_average_precision(scores: Array, positive: Array) -> Array:  # → []; NaN without any positive
    """Mean over columns of the average precision: the mean over positives of the precision at their score."""
    precision = _each_column(_precision, scores, positive)
    n_positive = positive.sum(0)
    return _mean_where((precision * positive).sum(0) / _at_least_one(n_positive), n_positive > 0)


def sign_accuracy(scores: Array, positive: Array) -> Array:  # → []
    """Share of the answers yes (above 0) or no that are right."""
    return ((scores > 0) == (positive > 0.5)).astype(scores.dtype).mean()


def sigmoid_loss(scores: Array, positive: Array) -> Array:  # → []
    """Mean cross-entropy in nats of yes or no; scores are logits."""
    return (scores.__array_namespace__().logaddexp(0 * scores, scores) - scores * positive).mean()


def _ranks(scores: Array) -> Array:  # [N] → [N], from 1, the mean rank of equals
    xp = scores.__array_namespace__()
    order = xp.sort(scores)
    lower, upper = (
        xp.searchsorted(order, scores, side=side).astype(scores.dtype) for side in ("left", "right")
    )
    return (lower + upper + 1) / 2


def _precision(scores: Array, positive: Array) -> Array:  # [N], 0 or 1 [N] → [N]
    """Of those that are scored at least as high as each one, the share of positives."""
    xp = scores.__array_namespace__()
    of_positives = xp.where(positive > 0, scores, -xp.inf)
    all_, hits = (len(scores) - xp.searchsorted(xp.sort(s), scores) for s in (scores, of_positives))
    return hits.astype(scores.dtype) / all_.astype(scores.dtype)


# Of numbers: x and labels [N, C].


def mean_absolute_error(x: Array, labels: Array) -> Array:  # → []
    """Mean of |error|."""
    return x.__array_namespace__().abs(x - labels).mean()


def mean_squared_error(x: Array, labels: Array) -> Array:  # → []
    """Mean of error²."""
    return ((x - labels) ** 2).mean()


def r2(x: Array, labels: Array) -> Array:  # → []; NaN where no target varies
    """Coefficient of determination, 1 − Σ error² / Σ (target − mean)², averaged over targets that vary."""
    xp = x.__array_namespace__()
    total = ((labels - labels.mean(0, keepdims=True)) ** 2).sum(0)
    unexplained = ((x - labels) ** 2).sum(0) / xp.where(total > 0, total, 1)
    return _mean_where(1 - unexplained, total > 0)


# What formulas share.


def _mean_where(values: Array, counts: Array) -> Array:  # [C], bool [C] → []
    xp = values.__array_namespace__()
    n = counts.sum().astype(values.dtype)
    return xp.where(n > 0, xp.where(counts, values, 0).sum() / _at_least_one(n), xp.nan)


def _at_least_one(n: Array) -> Array:
    return n.__array_namespace__().maximum(n, 1)


def _each_column(function: Callable, *columns: Array) -> Array:  # [N, C] each → [N, C]
    if isinstance(columns[0], jax.Array):
        return jax.vmap(function, in_axes=1, out_axes=1)(*columns)
    return np.stack([function(*each) for each in zip(*(x.T for x in columns), strict=True)], axis=1)
