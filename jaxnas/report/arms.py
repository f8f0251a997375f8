"""Arms of a comparison, many searches each, → rows of tables and the figure of what was best so far."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxnas.report import statistics, svg
from jaxnas.report.statistics import Mean
from jaxnas.types import OK, Space

Rows = list[dict[str, Any]]
POINTS = 120  # of a curve at most
TOP = 10


class Arm(NamedTuple):
    """S searches of N trials."""

    name: str
    controller: str
    space: Space
    arrays: dict[str, np.ndarray]  # reward, status and measures [S, N], arch [S, N, T]


def eligible(arm: Arm) -> np.ndarray:  # → [S, N]
    """The rewards of trials that can be best; NaN for failed and rejected ones."""
    return np.where(arm.arrays["status"] == OK, arm.arrays["reward"], np.nan)


def comparison(arms: Sequence[Arm], budgets: Sequence[int], measures: Sequence[str], last: int) -> Rows:
    """A row an arm: best reward so far after each of `budgets` with its rank, `measures` of the best trial at
    the end, means over all trials, and the ratio of the mean number of parameters to the first arm's.

    Of the `last` trials the mean reward, and what it gains over the first arm whose controller is random.
    """
    rows: Rows = []
    ends = np.array(budgets) - 1
    latest = {arm.name: statistics.row_means(arm.arrays["reward"][:, -last:]) for arm in arms}
    random = next((latest[arm.name] for arm in arms if arm.controller == "random"), None)
    for arm in arms:
        reward, arrays = eligible(arm), arm.arrays
        best = statistics.best_so_far(reward)
        so_far = statistics.mean(statistics.at_best(reward, best[:, ends]))
        row: dict[str, Any] = {"arm": arm.name, "controller": arm.controller}
        row |= dict(zip(("searches", "trials"), reward.shape, strict=True))
        for i, n in enumerate(budgets):
            row |= _cells(f"best_{n}", Mean(*(x[i] for x in so_far))) | {f"best_{n}_rank": 0}
        for name in measures:
            row |= _cells(f"final_{name}", statistics.mean(statistics.at_best(arrays[name], best[:, -1])))
        row |= _cells("mean_reward", statistics.mean(statistics.row_means(arrays["reward"])))
        row |= _cells("last_reward", statistics.mean(latest[arm.name]))
        if random is not None and len(random) == len(latest[arm.name]):
            row |= _cells("last_gain", statistics.mean(latest[arm.name] - random))
        if all("params" in other.arrays for other in arms):
            params, params_of_first = (
                statistics.row_means(other.arrays["params"]) for other in (arm, arms[0])
            )
            row |= _cells("mean_params", statistics.mean(params))
            same = Mean(*(np.ones(()),) * 3) if arm is arms[0] else None
            row |= _cells("params_ratio", same or statistics.ratio(params, params_of_first))
        rows.append(row)
    for n in budgets:
        for row, rank in zip(rows, statistics.ranks(np.array([r[f"best_{n}"] for r in rows])), strict=True):
            row[f"best_{n}_rank"] = int(rank)
    return rows


def choices(arms: Sequence[Arm]) -> Rows:
    """How often each value of each decision was taken, over all trials."""
    rows: Rows = []
    for arm in arms:
        kinds, decoded = _decoded(arm)
        for decision in arm.space.decisions:
            rows += _shares(arm, [str(values[decision]) for values in decoded], kinds, decision)
    return rows


def top(arms: Sequence[Arm], cross: Sequence[str]) -> Rows:
    """How often each value is among each search's 10 best distinct architectures: values of the decisions of
    `cross` together, or of every decision on its own if there is none.
    """
    rows: Rows = []
    for arm in arms:
        kinds, decoded = _decoded(arm)
        best = statistics.top_distinct(eligible(arm), kinds, TOP)
        kinds = np.where(best >= 0, np.take_along_axis(kinds, np.maximum(best, 0), axis=1), -1)
        for together in [tuple(cross)] if cross else [(decision,) for decision in arm.space.decisions]:
            labels = [" ".join(str(values[d]) for d in together) for values in decoded]
            rows += _shares(arm, labels, kinds, " × ".join(together))
    return rows


def best_so_far_figure(arms: Sequence[Arm], scale: str, title: str) -> str:
    """The mean best reward so far over trials, an arm a line, with bands of 95 % intervals.

    A curve begins at a fiftieth of the trials, for before that the axis would serve differences that vanish.
    """
    n = min(arm.arrays["reward"].shape[1] for arm in arms)
    begin = max(1, n // 50)
    spaced = np.geomspace if scale == "log" else np.linspace
    xs = np.unique(np.round(spaced(begin, n, POINTS)).astype(int))
    curves = []
    for arm in arms:
        reward = eligible(arm)
        best = statistics.best_so_far(reward)[:, xs - 1]
        curves.append(statistics.mean(statistics.at_best(reward, best)))
    styles = [f"c{i % svg.COLOURS} d{i // svg.COLOURS % 4}" for i in range(len(arms))]
    legend, upper = svg.legend([(s, arm.name) for s, arm in zip(styles, arms, strict=True)], 68)
    left, right = 66.0, svg.WIDTH - 24.0
    x = svg.logarithmic(xs, left, right) if scale == "log" else svg.counts(n, left, right)
    y = svg.linear(np.concatenate([np.concatenate(curve) for curve in curves]), upper + 336, upper + 36)
    lines = [legend, svg.axes(x, y, "trials", "best reward so far")]
    for style, curve in zip(styles, curves, strict=True):
        band = svg.band(x, y, xs, curve.low, curve.high)
        lines.append(svg.group(style, [band, svg.line(x, y, xs, curve.value)]))
    searches = " and ".join(sorted({f"{len(arm.arrays['reward']):,}" for arm in arms}))
    heading = f"mean of {searches} searches, with 95 % bootstrap intervals"
    return svg.document(title, heading, upper + 388, lines)


def _cells(name: str, value: Mean) -> dict[str, float]:
    return {name: float(value.value), f"{name}_low": float(value.low), f"{name}_high": float(value.high)}


def _shares(arm: Arm, labels: list[str], kinds: np.ndarray, decision: str) -> Rows:
    """A row a label: of `kinds` [S, M] the share whose label it is; "" (past the end of a walk) is none."""
    names = [name for name in dict.fromkeys(labels) if name.strip()]
    number = np.array([names.index(label) if label.strip() else -1 for label in labels])
    share = statistics.mean(statistics.shares(np.where(kinds >= 0, number[kinds], -1), len(names)))
    return [
        {"arm": arm.name, "decision": decision, "value": name} | _cells("share", Mean(*(x[i] for x in share)))
        for i, name in enumerate(names)
    ]


def _decoded(arm: Arm) -> tuple[np.ndarray, list[dict[str, Any]]]:  # int [S, N] into the list
    """Each trial's architecture as a number, and what the numbers stand for, in the order of choices."""
    arch = arm.arrays["arch"]
    distinct, kinds = np.unique(arch.reshape(-1, arch.shape[-1]), axis=0, return_inverse=True)
    return kinds.reshape(arch.shape[:2]), [arm.space.decode(row) for row in distinct]
