"""How likely each choice was over time: what the policy says, and what was proposed."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxnas.report.curves import shares
from jaxnas.report.plots import evenly, natural
from jaxnas.report.runs import Run
from jaxnas.types import Space

POINTS = 60  # in time at most
LEAST = 0.005  # of a probability that gets a label: less is shown as nothing
END = "–"  # no choice: the walk had ended

Heat = dict[str, Any]  # at [P] trials, rows [{name, values [V]}], percent [P, all values of all rows]


def of_trials(run: Run, window: int) -> Heat:
    """The share of each choice among the last `window` trials before each of P points in time."""
    n = len(run.trials["reward"])
    span = min(n, window)
    ends = span + evenly(n - span + 1, POINTS) if n else np.zeros(0, int)
    rows, layers = [], []
    for decision in run.choices:
        taken = np.where(run.trials[decision] == "", END, run.trials[decision])
        values = _ordered(np.unique(taken).tolist())
        rows.append({"name": decision, "values": values})
        layers.append(shares(taken, values, ends, span) if n else np.zeros((len(values), 0)))
    return _heat(ends, rows, layers)


def of_policy(run: Run, snapshots: Mapping[int, tuple[np.ndarray, np.ndarray]], space: Space) -> Heat | None:
    """The probabilities of the controller's policy along its own likeliest walk; None if none were kept.

    `snapshots` {round: (greedy arch [T], probabilities [T, A])} are those of policy.npz, kept before rounds.
    """
    if not snapshots:
        return None
    kept = [sorted(snapshots)[i] for i in evenly(len(snapshots), POINTS)]
    rounds = run.trials["round"]
    label = _labels(space)
    taken: list[dict[str, dict[int, float]]] = [{} for _ in space.decisions]  # value → {point: probability}
    for point, round in enumerate(kept):
        greedy, probabilities = snapshots[round]
        for t, row in enumerate(np.asarray(probabilities, np.float64)):
            for choice in np.flatnonzero(row >= LEAST).tolist():
                by_point = taken[t].setdefault(label(tuple(greedy[:t].tolist()), choice), {})
                by_point[point] = by_point.get(point, 0.0) + row[choice]
    rows = [
        {"name": name, "values": _ordered(list(by_value))}
        for name, by_value in zip(space.decisions, taken, strict=True)
    ]
    layers = [
        np.array([[by_value[value].get(p, 0.0) for p in range(len(kept))] for value in row["values"]])
        for row, by_value in zip(rows, taken, strict=True)
    ]
    return _heat(np.array([int(np.sum(rounds < r)) for r in kept]), rows, layers)


def _labels(space: Space) -> Callable[[tuple[int, ...], int], str]:
    """(choices before, choice) → the choice's name."""
    known: dict[tuple[tuple[int, ...], int], str] = {}

    def label(before: tuple[int, ...], choice: int) -> str:
        if (before, choice) not in known:
            t = len(before)
            arch = np.zeros(space.num_steps, np.int32)
            arch[: t + 1] = [*before, choice]
            try:
                text = str(space.decode(arch)[space.decisions[t]])
            except Exception:  # a space need not decode an architecture that is not complete
                text = str(choice)
            known[before, choice] = text or END
        return known[before, choice]

    return label


def _ordered(values: Sequence[str]) -> list[str]:
    return sorted(values, key=lambda value: (value == END, natural(value)))


def _heat(trials: np.ndarray, rows: list[dict[str, Any]], layers: Sequence[np.ndarray]) -> Heat:
    """Without the decisions that were never reached."""
    reached = [i for i, row in enumerate(rows) if row["values"] not in ([], [END])]
    rows, layers = [rows[i] for i in reached], [layers[i] for i in reached]
    percent = (
        np.round(100 * np.concatenate(layers)).astype(int).T if layers else np.zeros((len(trials), 0), int)
    )
    return {"at": trials.tolist(), "rows": rows, "percent": percent.tolist()}
