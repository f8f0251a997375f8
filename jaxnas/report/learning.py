"""What a controller did while it learned: by ε, by its own measures, by the size of what it proposed."""

from collections.abc import Sequence

import numpy as np

from jaxnas.report import svg
from jaxnas.report.curves import rolling_mean
from jaxnas.report.runs import Run, column, depth

LEFT, RIGHT = 66.0, svg.WIDTH - 24.0  # of the plots
STAGES = 12  # values of ε that are shown apart; more of them are gathered to tenths
POINTS = 600  # of a line at most


def stages(run: Run) -> list[tuple[float, np.ndarray]]:  # [(ε, indices of its trials)]
    """The trials proposed at each ε, the largest ε first; none where the controller has no ε."""
    epsilon, rounds = run.rounds.get("epsilon"), run.trials["round"]
    if epsilon is None or not len(rounds):
        return []
    known = rounds < len(epsilon)
    epsilon_of_trial = np.full(len(rounds), np.nan)
    epsilon_of_trial[known] = epsilon[rounds[known].astype(int)]
    if len(np.unique(epsilon_of_trial[np.isfinite(epsilon_of_trial)])) > STAGES:
        epsilon_of_trial = np.ceil(np.round(epsilon_of_trial * 10, 6)) / 10
    values = np.unique(epsilon_of_trial[np.isfinite(epsilon_of_trial)])
    return [(float(e), np.flatnonzero(epsilon_of_trial == e)) for e in values[::-1]]


def epsilon_figure(run: Run, name: str) -> str | None:
    """The distribution of a measure at each ε, and the share of constant predictors; None without an ε."""
    values, groups = column(run, name), []  # (ε, its finite values, indices of its trials)
    for e, trials in stages(run):
        finite = values[trials][np.isfinite(values[trials])]
        groups += [(e, finite, trials)] if len(finite) else []
    if not groups:
        return None
    shown = [(i, f"{e:g}") for i, (e, _, _) in enumerate(groups)]
    x = svg.Scale(-0.5, len(groups) - 0.5, LEFT, RIGHT, shown)
    y = svg.linear(np.concatenate([v for _, v, _ in groups]), 296, 84)
    body = [svg.axes(x, y, "ε, from the first trials on the left", name)]
    for i, (_, v, _) in enumerate(groups):
        mean, counted = f"{np.mean(v):.4f}", f"{len(v)} trials"
        title = f"ε = {groups[i][0]:g}: mean {mean}, median {np.median(v):.4f}, {counted}"
        body.append(svg.group("c0", [svg.box(x, y, i, np.quantile(v, (0.05, 0.25, 0.5, 0.75, 0.95)), title)]))
    means = np.array([v.mean() for _, v, _ in groups])
    body.append(svg.group("c1", [svg.line(x, y, np.arange(len(groups)), means)]))
    height, constant = 346.0, column(run, "constant")
    if np.isfinite(constant).any():
        y = svg.Scale(0, 1, 470, 390, [(v / 100, f"{v} %") for v in (0, 50, 100)])
        share = np.array([_mean(constant[trials]) for _, _, trials in groups])
        body += [svg.axes(x, y), svg.text(16, 372, "share of children that predict one class alone")]
        body.append(svg.group("c3", [svg.bars(x, y, np.arange(len(groups)), share)]))
        height = 506.0
    heading = f"{run.name} ({run.controller}); box: quartiles, whiskers: 5 % and 95 %, line: mean"
    return svg.document(f"{name.capitalize()} by ε", heading, height, body)


def measures_figure(run: Run) -> str | None:
    """What the controller reported each round (entropy, loss, Q-values, ε, …); None if it reports nothing."""
    names = [n for n in run.rounds if n not in ("round", "trials", "mean_reward", "best_reward")]
    names = [n for n in names if np.isfinite(run.rounds[n]).any()]
    if not names:
        return None
    body, bottom = _panels([(n, run.rounds["trials"], run.rounds[n]) for n in names], 68)
    return svg.document("The controller over trials", f"{run.name} ({run.controller})", bottom, body)


def size_figure(run: Run, window: int) -> str | None:
    """Depth and parameters of what was proposed, as rolling means; None where neither varies."""
    count = np.arange(1, len(run.trials["reward"]) + 1)
    curves = []
    for name, values in (("depth, layers", depth(run)), ("parameters", column(run, "params"))):
        known = values[np.isfinite(values)]
        if len(known) > 1 and known.min() < known.max():
            mean = rolling_mean(values, window)
            curves.append((name, count[len(count) - len(mean) :], mean))
    if not curves:
        return None
    body, bottom = _panels(curves, 68)
    heading = f"{run.name} ({run.controller}), mean of the last {window} trials"
    return svg.document("Depth and size over trials", heading, bottom, body)


def _panels(curves: Sequence[tuple[str, np.ndarray, np.ndarray]], top: float) -> tuple[list[str], float]:
    """A small plot for each (name, trials [N], values [N]), in two columns; and where they end."""
    body, height, pitch = [], 110.0, (svg.WIDTH - 52) / 2
    for i, (name, trials, values) in enumerate(curves):
        left, upper = LEFT + pitch * (i % 2), top + 34 + (height + 56) * (i // 2)
        x = svg.counts(int(trials.max(initial=1)), left, left + pitch - 66, 4)
        y = svg.linear(values, upper + height, upper)
        points = np.unique(np.linspace(0, len(values) - 1, min(len(values), POINTS)).round().astype(int))
        body += [svg.axes(x, y), svg.text(left, upper - 10, name.replace("_", " "))]
        body.append(svg.group("c0", [svg.line(x, y, trials[points], values[points])]))
    return body, top + 20 + (height + 56) * -(-len(curves) // 2)


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else 0.0
