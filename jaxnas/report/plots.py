"""The figures of a report: what a search gained, what it found, and what it came to choose."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxnas.report import drawing, learning, svg
from jaxnas.report.curves import pareto, records, rolling_mean, shares
from jaxnas.report.runs import Run, best_trial, column, with_twins
from jaxnas.report.sources import Source, parts_of, write_of

LINE_POINTS = 600  # of a line at most: more than can be seen
AREA_POINTS = 5500  # of all areas of a figure together, about
TOOLTIPS = 50_000  # characters of all tooltips of a figure; the best children come first
VALUES = 8  # of a decision that are told apart; the rarest others become one
LEFT, RIGHT = 66.0, svg.WIDTH - 24.0  # of the plots
OTHER, NOTHING = "other", "no trial yet"


class _Series(NamedTuple):
    run: Run
    label: str
    style: str  # classes of svg


def figures(
    runs: Sequence[Run], sources: Mapping[Path, Source] | None = None, *, window: int = 10
) -> dict[str, str]:
    """{name: SVG document} that compare one or more runs and their twins.

    `reward`: the mean reward of the last `window` trials, and the best so far. `accuracy_params`: every
    child's accuracy against its size, with the architecture as tooltip, and each run's Pareto front; left
    out where no run measures parameters. `choices`: how often each choice was taken over time, a small
    plot a decision ("knowledge discovery"). Of the first run alone: `epsilon`, accuracy and constant
    predictors at each ε; `controller`, what it reports of itself; `size`, depth and parameters over time;
    `best`, a drawing of the best network by what `sources` says of it.
    """
    pairs, series, number = with_twins(runs), [], Counter()
    names = Counter(run.name for run, _ in pairs)
    for run, twin in pairs:
        i, number[twin] = number[twin], number[twin] + 1
        style = f"twin d{1 + i % 3}" if twin else f"c{i % svg.COLOURS} d{i // svg.COLOURS % 4}"
        name = run.name if names[run.name] == 1 else str(run.path)
        series.append(_Series(run, _shorten(f"{name} ({run.controller})", 80), style))
    drawn = {"reward": _reward(series, window), "choices": _choices(series, window)}
    if any("params" in run.measures for run, _ in pairs):
        drawn["accuracy_params"] = _accuracy_params(series)
    first = runs[0]
    name = "accuracy" if "accuracy" in first.measures else "reward"
    of_first = {
        "epsilon": learning.epsilon_figure(first, name),
        "controller": learning.measures_figure(first),
        "size": learning.size_figure(first, max(window, len(first.trials["reward"]) // 20)),
        "best": _best(first, (sources or {}).get(first.path)),
    }
    return drawn | {key: figure for key, figure in of_first.items() if figure is not None}


def _reward(series: Sequence[_Series], window: int) -> str:
    legend, top = svg.legend([(s.style, s.label) for s in series], 68)
    rewards = [column(s.run, "reward") for s in series]
    curves = [(reward, rolling_mean(reward, window), records(reward)) for reward in rewards]
    x = svg.counts(max(map(len, rewards)), LEFT, RIGHT)
    y = svg.linear(np.concatenate([np.append(m, r[best]) for r, m, best in curves]), top + 316, top + 36)
    body = [legend, svg.axes(x, y, "trials", "reward")]
    for s, (reward, mean, best) in zip(series, curves, strict=True):
        points = evenly(len(mean), LINE_POINTS)
        thick = svg.line(x, y, len(reward) - len(mean) + 1 + points, mean[points])
        thin = svg.steps(x, y, best + 1, reward[best], len(reward), "line thin")
        body.append(svg.group(s.style, [thick, thin]))
    heading = f"thick: mean of the last {window} trials; thin: best so far"
    return svg.document("Reward over trials", heading, top + 368, body)


def _accuracy_params(series: Sequence[_Series]) -> str:
    name = "accuracy" if any("accuracy" in s.run.measures for s in series) else "reward"
    legend, top = svg.legend([(s.style, s.label) for s in series], 68)
    measured = [_measured(s.run, name) for s in series]
    x = svg.logarithmic(np.concatenate([size for _, size, _ in measured]), LEFT, RIGHT)
    y = svg.linear(np.concatenate([value for _, _, value in measured]), top + 316, top + 36)
    dots, fronts = [], []
    for s, (architectures, size, value) in zip(series, measured, strict=True):
        front, children = pareto(size, value), {}  # architecture → its dots, both the best first
        for i in dict.fromkeys([*front, *np.argsort(-value, kind="stable")]):
            children.setdefault(str(architectures[i]), []).append(i)
        room, marks, untold = TOOLTIPS // len(series), [], np.array([], int)
        for architecture, trials in children.items():
            tried = f", {len(trials)} trials" if len(trials) > 1 else ""
            title = f"{architecture}\n{name} {value[trials[0]]:.4f}, {size[trials[0]]:,.0f} parameters{tried}"
            room -= len(title)
            if room > 0:
                marks.append(svg.dots(x, y, size[trials], value[trials], title))
            else:
                untold = np.append(untold, trials)
        marks.append(svg.dots(x, y, size[untold], value[untold]))
        dots.append(svg.group(s.style, marks[::-1]))  # the last is on top: the best, and the first run
        fronts.append(svg.group(s.style, [svg.steps(x, y, size[front], value[front], x.hi)]))
    body = [legend, svg.axes(x, y, "parameters", name), *dots[::-1], *fronts[::-1]]
    heading = "a dot a trial, with its architecture; line: Pareto front, the best of at most that size"
    return svg.document(f"{name.capitalize()} against parameters", heading, top + 368, body)


def _measured(run: Run, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Architecture, parameters and the measure of that name of the P trials that have both, [P] each."""
    size, value = column(run, "params"), column(run, name)
    known = (size > 0) & np.isfinite(value)
    return run.trials["architecture"][known], size[known], value[known]


def _best(run: Run, source: Source | None) -> str | None:
    """The network of the highest reward."""
    trial, reward = best_trial(run), column(run, "reward")
    if trial is None:
        return None
    measured = [f"trial {trial}", f"reward {reward[trial]:.4f}"]
    measured += [
        f"{name} {column(run, name)[trial]:,.6g}" for name in ("accuracy", "params") if name in run.measures
    ]
    architecture, title = str(run.trials["architecture"][trial]), f"The best network of {run.name}"
    parts, write = parts_of(architecture, source), write_of(source)
    return drawing.draw(parts, architecture, title, ", ".join(measured), write)


def _choices(series: Sequence[_Series], window: int) -> str:
    counts: dict[str, Counter[str]] = {}  # decision → how often each value was taken, in all runs
    for s in series:
        for decision in s.run.choices:
            counts.setdefault(decision, Counter()).update(s.run.trials[decision].tolist())
    palettes = {decision: _palette(count) for decision, count in counts.items()}
    widest = max((len(_shorten(v, 18)) for palette in palettes.values() for v in palette), default=0)
    columns, height = (3 if widest <= 8 else 2), 110
    pitch = (svg.WIDTH - 52) / columns
    areas = sum(len(palettes[decision]) for s in series for decision in s.run.choices)
    points = int(np.clip(AREA_POINTS // max(areas, 1), 12, 160))
    body, top = [], 76.0
    for s in series:
        n = len(s.run.trials["reward"])
        span = min(n, max(window, n // 20))
        body.append(svg.text(16, top, f"{s.label}, " + (f"window: {span}" if n else NOTHING), "strong"))
        for i, decision in enumerate(s.run.choices):
            left, upper = 52 + pitch * (i % columns), top + 34 + (height + 50) * (i // columns)
            x = svg.counts(n, left, left + pitch - 5.8 * widest - 34, 3)
            ticks = [(v / 100, f"{v} %" if i % columns == 0 else "") for v in (0, 50, 100)]
            y = svg.Scale(0, 1, upper + height, upper, ticks)
            body += [svg.axes(x, y), svg.text(left, upper - 9, _shorten(decision, int(pitch / 7)))]
            body += _areas(x, y, s.run.trials[decision], palettes[decision], span, points)
        top += 40 + (height + 50) * -(-len(s.run.choices) // columns)
    heading = "share of each choice in a rolling window of trials"
    return svg.document("Choices over trials", heading, top - 16, body)


def _areas(
    x: svg.Scale, y: svg.Scale, taken: np.ndarray, palette: dict[str, str], window: int, points: int
) -> list[str]:
    entries = [(colour, _shorten(value, 18)) for value, colour in palette.items()]
    drawn = [svg.swatches(entries, x.end + 10, y.end, min(15, (y.start - y.end) / max(len(palette), 1)))]
    if palette and taken.size:
        ends = window + evenly(len(taken) - window + 1, points)
        values = np.where(np.isin(taken, [*palette, ""]), taken, OTHER)
        layers = shares(values, list(palette), ends, window)
        layers = np.concatenate([layers[:, :1], layers], axis=1)  # the first window stands for its trials
        drawn += svg.stack(x, y, np.append(0, ends), layers, list(palette.values()))
    return drawn


def _palette(counts: Counter[str]) -> dict[str, str]:
    """{value: colour} in the order of the values; the rarest of many are one, grey and last."""
    common = [value for value, _ in counts.most_common() if value]  # "" is no choice: the walk had ended
    kept = sorted(common if len(common) <= VALUES + 1 else common[:VALUES], key=natural)
    rest = {OTHER: "#8b949e"} if len(kept) < len(common) else {}
    return dict(zip(kept, svg.ramp(len(kept)), strict=True)) | rest


def natural(value: str) -> list:
    """A key to sort by: C(64,3) before C(128,3)."""
    return [float(part) if i % 2 else part for i, part in enumerate(re.split(r"(\d+(?:\.\d+)?)", value))]


def evenly(n: int, most: int) -> np.ndarray:
    """At most so many of 0 … n − 1, evenly, both ends among them."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(int))


def _shorten(words: str, most: int) -> str:  # keeps the end, which tells paths apart
    return words if len(words) <= most else "…" + words[1 - most :]
