"""How good a network is, for `metrics.json`: measures beside what a constant answer reaches, and in words."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from jaxnas.export import calibration
from jaxnas.training import measured, measures
from jaxnas.types import Dataset, Split, Task

TOLERANCE = 1e-6  # within which two values of a measure are one: they are float32
CLASSES = ("multiclass", "binary")  # tasks of one class an input
CONSTANTS = {True: "always the commonest class", False: "the best constant answer"}


def of(
    dataset: Dataset, validated: dict[str, float], outputs: np.ndarray | None, tested: dict[str, float] | None
) -> dict[str, Any]:
    """What `metrics.json` says of a network's quality.

    Args:
      dataset: what it was trained on.
      validated: its measures on the validation inputs, none where it was trained on them.
      outputs: [N, O] on the validation inputs, or None.
      tested: its measures on the test inputs, where it was tested.
    """
    task, split = dataset.task, dataset.validation
    known = {name: validated[name] for name in task.names if name in validated and name != "constant"}
    outputs = outputs if known else None
    if outputs is not None:
        further = measured.reporting(task, *measured.REGISTRY.get(task.name, {}))
        known |= {
            name: value
            for name, value in further.measures(outputs, split.labels).items()
            if name not in task.names
        }
    of_splits = {"validation": (known, split), "test": (tested, dataset.test)}
    base = {name: _base(task, part) for name, (values, part) in of_splits.items() if values and part}
    remarks = [
        text
        for name, (values, part) in of_splits.items()
        if values and part and (text := _remark(dataset, name, part, values, base[name]))
    ]
    return {
        "task": task.name,
        "measure": task.names[0],  # by which it was chosen
        "validation": known,
        "test": tested,
        "base": base,  # what the best constant answer reaches
        "recall": {} if outputs is None else _recalls(dataset, outputs),
        "calibration": None if outputs is None else calibration.fit(task, outputs, split.labels),
        "remarks": remarks,
    }


def read(folder: Path) -> dict[str, Any]:
    """The content of `metrics.json` in a folder of a network; nothing where there is none of today's form."""
    try:
        metrics = json.loads((folder / "metrics.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return metrics if isinstance(metrics, dict) and "base" in metrics else {}


def beside(metrics: dict[str, Any], split: str, name: str) -> str:
    """The base rate of a measure in words, such as " (always the commonest class: 0.9000)"; else nothing."""
    value = metrics.get("base", {}).get(split, {}).get(name)
    return "" if value is None else f" ({_answer(metrics)}: {value:.4f})"


def words(metrics: dict[str, Any]) -> list[str]:
    """What stands below accuracies on a terminal: base rates, and where the network is no better."""
    bases = [
        f"{_answer(metrics)}, {split}: "
        + ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in base.items())
        for split, base in metrics.get("base", {}).items()
        if base
    ]
    return [*bases, *metrics.get("remarks", ())]


def _answer(metrics: dict[str, Any]) -> str:
    """What the constant answer is called whose measures are the base rates."""
    return CONSTANTS[metrics["task"] in CLASSES]


def lines(metrics: dict[str, Any]) -> list[str]:
    """What the README says: remarks, a line a split with accuracies beside base rates, recalls, errors."""
    remarks = [*metrics["remarks"], ""] if metrics["remarks"] else []
    splits = [
        f"- {split}: "
        + ", ".join(f"{n} {value:.4f}{beside(metrics, split, n)}" for n, value in metrics[split].items())
        for split in ("validation", "test")
        if metrics[split]
    ]
    recalls = [f"{name} {'–' if v is None else format(v, '.2f')}" for name, v in metrics["recall"].items()]
    recall = [f"- recall by class, validation: {', '.join(recalls)}"] if recalls else []
    scaled = []
    if fitted := metrics["calibration"]:
        scaled = [
            f"- calibration error, validation: {fitted['error']:.4f}, and {fitted['error_scaled']:.4f} by "
            f"probabilities of\n  logits / {fitted['temperature']:.3f}, as `predict.py` gives them; that "
            "number was fitted to these inputs",
        ]
    return remarks + splits + recall + scaled


def _base(task: Task, split: Split) -> dict[str, float]:
    known = measured.REGISTRY.get(task.name, {})
    names = dict.fromkeys((task.names[0], "accuracy", "balanced_accuracy"))
    constants = {name: known[name].constant for name in names if name in known}
    return {name: constant(split.labels) for name, constant in constants.items() if constant is not None}


def _remark(
    dataset: Dataset, split: str, part: Split, values: dict[str, float], base: dict[str, float]
) -> str:
    """A sentence where the network is no better than a constant answer, else nothing."""
    task, name = dataset.task, dataset.task.names[0]
    if name not in base or name not in values:
        return ""
    gain = (values[name] - base[name]) * (1 if task.more_is_better else -1)
    if np.isnan(gain) or gain > TOLERANCE:
        return ""
    answer = "the best constant answer"
    if task.predict is not None:
        answer = f"always answering {dataset.classes[int(np.bincount(part.labels).argmax())]!r}"
    words = name.replace("_", " ")
    return (
        f"No better than {answer}: on the {split} inputs its {words} is {values[name]:.4f}, "
        f"and that has {base[name]:.4f}."
    )


def _recalls(dataset: Dataset, outputs: np.ndarray) -> dict[str, float | None]:
    """Share of the validation inputs of each class that are recognized; None for a class without any."""
    if dataset.task.predict is None:
        return {}
    predicted = np.eye(len(dataset.classes))[dataset.task.predict(outputs)]
    values = measures.recalls(predicted, dataset.validation.labels)
    return {name: None if np.isnan(v) else float(v) for name, v in zip(dataset.classes, values, strict=True)}
