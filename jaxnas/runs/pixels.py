"""What simple methods make of the pixels of images: the commonest class, logistic regression, an SVC.

Scikit-learn does the fitting (Pedregosa et al. 2011, https://jmlr.org/papers/v12/pedregosa11a.html). Each
method takes about 20 seconds of one core at most: images are reduced to 32 × 32 pixels at most, and no more
of them are used than that time allows. Shapes: N images, D values an image, C classes.
"""

import time
import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from jaxnas.data import splits
from jaxnas.types import Dataset

SIDE = 32  # pixels at most
# Measured on one core: an SVC takes 8 seconds of MNIST and 15 of CIFAR-10, logistic regression 10 and 19.
SVC_IMAGES = 6000  # at most; the kernel of so many takes 0.4 GB
SVC_WORK = 3e11  # products: images · (images + those that are classified) · D
LOGISTIC_STEPS = 100
LOGISTIC_WORK = 8e8  # products a step: images · D · C
CHUNK = 2000  # images that are classified at once
C_OF_SVC = 10.0
WITHOUT = {"SVC": ("loss", "calibration_error")}  # measures of probabilities, which a method does not have


class Fit(NamedTuple):
    """What a method made of the training images."""

    params: int  # numbers that it keeps to classify with
    scores: Callable[[np.ndarray], np.ndarray]  # [N, D] → [N, classes]
    classes: np.ndarray  # int [classes] that it has seen


class Measured(NamedTuple):
    """What a method reached."""

    params: int
    seconds: float  # of fitting and classifying
    images: int  # that it was fitted to
    validation: dict[str, float]
    test: dict[str, float]  # empty without a test split


def measure(name: str, dataset: Dataset) -> Measured:
    """Fit the method of that name, one of `METHODS`, to the training images of a task that has classes."""
    began = time.perf_counter()
    fit, bound = METHODS[name]
    parts = [part for part in (dataset.validation, dataset.test) if part is not None]
    train, D = dataset.train, _small(dataset.train.inputs[:1]).size
    most = bound(D, len(dataset.classes), sum(len(part.inputs) for part in parts))
    kept = np.sort(splits.spread(train.labels, 0, 0)[: max(most, len(dataset.classes))])
    pixels, labels = _small(train.inputs[kept]), train.labels[kept]
    mean, std = pixels.mean(), max(float(pixels.std()), 1e-6)
    pixels = (pixels - mean) / std
    fitted = fit(pixels, labels, None if dataset.class_weights is None else "balanced")
    measured = []
    for part in parts:
        chunks = np.split(part.inputs, range(CHUNK, len(part.inputs), CHUNK))
        scores = np.concatenate([fitted.scores((_small(chunk) - mean) / std) for chunk in chunks])
        outputs = _outputs(scores, fitted.classes, len(dataset.classes), dataset.num_outputs)
        values = dataset.task.measures(outputs, part.labels)
        measured.append({key: v for key, v in values.items() if key not in WITHOUT.get(name, ())})
    seconds = time.perf_counter() - began
    return Measured(fitted.params, seconds, len(kept), *measured, *[{}] * (2 - len(measured)))


def _commonest(pixels: np.ndarray, labels: np.ndarray, weights: str | None) -> Fit:
    """The logarithm of how common each class is, whatever the image."""
    del pixels, weights
    classes, counts = np.unique(labels, return_counts=True)
    return Fit(0, lambda x: np.tile(np.log(counts / counts.sum()), (len(x), 1)), classes)


def _logistic(pixels: np.ndarray, labels: np.ndarray, weights: str | None) -> Fit:
    """Logistic regression by L-BFGS, which ends after `LOGISTIC_STEPS` if not before."""
    from sklearn import exceptions, linear_model

    model = linear_model.LogisticRegression(max_iter=LOGISTIC_STEPS, class_weight=weights)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", exceptions.ConvergenceWarning)
        model.fit(pixels, labels)
    params = np.size(model.coef_) + np.size(model.intercept_)
    return Fit(params, model.predict_log_proba, model.classes_)


def _svc(pixels: np.ndarray, labels: np.ndarray, weights: str | None) -> Fit:
    """A support vector classifier with the kernel exp(−‖x − x′‖² / D): D is the variance of an image."""
    from sklearn import svm
    from sklearn.metrics import pairwise

    gamma = 1 / pixels.shape[1]
    model = svm.SVC(C=C_OF_SVC, kernel="precomputed", class_weight=weights)
    model.fit(pairwise.rbf_kernel(pixels, gamma=gamma), labels)

    def scores(x: np.ndarray) -> np.ndarray:
        values = model.decision_function(pairwise.rbf_kernel(x, pixels, gamma))
        return np.stack([0 * values, values], axis=1) if values.ndim == 1 else values

    weights_of_each = len(model.classes_) - 1
    params = len(model.support_) * (pixels.shape[1] + weights_of_each) + np.size(model.intercept_)
    return Fit(params, scores, model.classes_)


def _outputs(scores: np.ndarray, seen: np.ndarray, classes: int, width: int) -> np.ndarray:
    """Scores [N, seen] as outputs of a task [N, width]: a class each, or one logit of two classes."""
    outputs = np.full((len(scores), classes), scores.min() - 10.0)  # a class not seen is not answered
    outputs[:, seen] = scores
    return outputs if width > 1 else outputs[:, 1:] - outputs[:, :1]


def _small(images: np.ndarray) -> np.ndarray:  # [N, H, W, channels] → float32 [N, D]
    """The means of equal squares, as small ones as make `SIDE` of them at most; a rest at the edge is cut."""
    N, H, W, _ = images.shape
    k = -(-max(H, W) // SIDE)
    h, w = max(1, H // k), max(1, W // k)
    squares = images[:, : h * k, : w * k].reshape(N, h, min(k, H), w, min(k, W), -1)
    return squares.mean(axis=(2, 4), dtype=np.float32).reshape(N, -1)


# Of each method its function (pixels [N, D], labels [N], weights of classes) → Fit, and how many images it
# takes at most: (D, C, images that are classified) → N.
METHODS: dict[str, tuple[Callable[..., Fit], Callable[[int, int, int], int]]] = {
    "SVC": (_svc, lambda D, C, others: min(SVC_IMAGES, int(SVC_WORK / D / (SVC_IMAGES + others)))),
    "logistic regression": (_logistic, lambda D, C, others: int(LOGISTIC_WORK / D / C)),
    "commonest class": (_commonest, lambda D, C, others: 10**9),
}
