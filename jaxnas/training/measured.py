"""What each task can be measured by, and a task that is compared by another measure than its own."""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import numpy as np

from jaxnas.errors import unknown
from jaxnas.training import measures
from jaxnas.training.measures import Array
from jaxnas.types import Task


class Measure(NamedTuple):
    """A formula, and what a constant prediction reaches by it."""

    formula: Callable[[Array, Array], Array]  # (outputs [N, O], labels) → []
    constant: Callable[[np.ndarray], float] | None  # host: labels → the best constant's; None: a perfect one
    more_is_better: bool = True


def measured_by(task: Task, measure: str) -> Task:
    """The task with that measure as its first and, behind it, all that it can be measured by.

    Epochs, networks and constant predictions are then compared by it.

    Raises:
      InputError: the task has no such measure.
    """
    known = REGISTRY.get(task.name, {})
    if measure not in known:
        raise unknown("data.measure", measure, known)
    formula, constant, more_is_better = known[measure]
    names = tuple(dict.fromkeys((measure, *known, *task.names)))
    all_of_them = reporting(task, *names).measures

    def measured(outputs: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        values = all_of_them(outputs, labels)
        return {name: values[name] for name in names}

    def score(outputs: jax.Array, labels: jax.Array) -> jax.Array:
        chex.assert_rank(outputs, 2)
        chex.assert_equal_shape_prefix([outputs, labels], 1)
        value = formula(outputs, labels)
        return value if more_is_better else -value

    return task._replace(
        names=names,
        measures=measured,
        score=score,
        constant=constant,
        more_is_better=more_is_better,
    )


def reporting(task: Task, *names: str) -> Task:
    """The task with these measures too, as far as it has them."""
    known = REGISTRY.get(task.name, {})
    further = tuple(name for name in names if name in known and name not in task.names)

    def measured(outputs: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        values, x = task.measures(outputs, labels), outputs.astype(np.float64)
        return values | {name: float(known[name].formula(x, labels)) for name in further}

    return task._replace(names=(*task.names, *further), measures=measured) if further else task


def _with_zero(formula: Callable) -> Callable:
    """The formula of logits [N, C] for those of a binary task [N, 1]: that of class 0 is 0."""

    def of_one(outputs: Array, labels: Array) -> Array:
        xp = outputs.__array_namespace__()
        return formula(xp.concatenate([0 * outputs, outputs], axis=1), labels)

    return of_one


def _one_hot_auc(x: Array, labels: Array) -> Array:  # → []; each class against the rest
    classes = x.__array_namespace__().arange(x.shape[-1])
    return measures.auc(measures.softmax(x), (labels[:, None] == classes[None]).astype(x.dtype))


def shares(labels: np.ndarray) -> np.ndarray:  # int [N] → [classes that there are]
    """How common the classes of a split are."""
    counts = np.bincount(labels)
    return counts[counts > 0] / len(labels)


def _entropy(p: np.ndarray) -> np.ndarray:
    return -p * np.log(np.where(p > 0, p, 1.0))


def _best_f1(labels: np.ndarray) -> float:
    """Of always the commonest class, whose precision is its share p: F1 is 2p / (1 + p), that of others 0."""
    p = shares(labels)
    return float(2 * p.max() / (1 + p.max()) / len(p))


CLASSES = {
    "accuracy": Measure(measures.accuracy, lambda labels: float(shares(labels).max())),
    "balanced_accuracy": Measure(measures.balanced_accuracy, lambda labels: 1 / len(shares(labels))),
    "macro_f1": Measure(measures.macro_f1, _best_f1),
    "auc": Measure(_one_hot_auc, lambda labels: 0.5),
    "loss": Measure(
        measures.log_loss, lambda labels: float(_entropy(shares(labels)).sum()), more_is_better=False
    ),
    "calibration_error": Measure(measures.calibration_error, None, more_is_better=False),
}
LABELS = {
    "accuracy": Measure(measures.sign_accuracy, lambda y: float(np.maximum(y.mean(0), 1 - y.mean(0)).mean())),
    "mean_average_precision": Measure(
        measures.mean_average_precision,
        lambda y: float(y.mean(0)[y.any(0)].mean()) if y.any() else float("nan"),
    ),
    "auc": Measure(measures.auc, lambda y: 0.5),
    "loss": Measure(
        measures.sigmoid_loss,
        lambda y: float((_entropy(y.mean(0)) + _entropy(1 - y.mean(0))).mean()),
        more_is_better=False,
    ),
}
TARGETS = {
    "r2": Measure(measures.r2, lambda y: 0.0),
    "mae": Measure(
        measures.mean_absolute_error,
        lambda y: float(np.abs(y - np.median(y, axis=0)).mean()),
        more_is_better=False,
    ),
    "mse": Measure(measures.mean_squared_error, lambda y: float(y.var(0).mean()), more_is_better=False),
    "loss": Measure(measures.mean_squared_error, lambda y: float(y.var(0).mean()), more_is_better=False),
}
REGISTRY: dict[str, dict[str, Measure]] = {
    "multiclass": CLASSES,
    "binary": {
        name: measure._replace(formula=_with_zero(measure.formula)) for name, measure in CLASSES.items()
    },
    "multi_label": LABELS,
    "regression": TARGETS,
}
