"""How a published NASNet controller learns on its mock reward, and what each part of it contributes.

    python scripts/mock_curve.py [--seeds 1000] [--figure docs/figures/mock_curve.svg]

`configs/mock_nasnet.toml` and changes to it, one at a time: searches of 800 episodes, all seeds of a row in
one compiled program. Prints the mean reward of the first and of the last 100 episodes and their difference,
with 95 % intervals over the seeds. The exit code is 1 if the configuration itself gains less than 0.15.
"""

import argparse
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np

from jaxnas import config, controllers, loop
from jaxnas.report import svg
from jaxnas.report.curves import rolling_mean
from jaxnas.runs import ledger

CONFIG = "configs/mock_nasnet.toml"
OURS, SOURCE, RANDOM = "the configuration", "off policy, as its source", "random search"
ROWS: dict[str, list[str]] = {
    OURS: [],
    SOURCE: ["--controller.off-policy"],
    "off policy at temperature 1": ["--controller.off-policy", "--controller.temperature", "1"],
    "temperature 1 throughout": ["--controller.temperature", "1"],
    "temperature 5 throughout": ["--controller.temperature-decay", "1"],
    "baseline ema": ["--controller.baseline", "ema"],
    "no baseline": ["--controller.baseline", "none"],
    "small advantages not skipped": ["--controller.skip-below", "0"],
    "gradient not clipped": ["--controller.max-tensor-norm", "0"],
    "entropy bonus 0.01": ["--controller.entropy-weight", "0.01"],
    "learning rate 2e-3": ["--controller.learning-rate", "2e-3"],
    "learning rate 2e-3, off policy": ["--controller.learning-rate", "2e-3", "--controller.off-policy"],
    RANDOM: [],
}
WINDOW, POINTS = 20, 120  # episodes of the figure's rolling mean, points of its lines


def rewards_of(name: str, seeds: int, chunk: int) -> np.ndarray:  # → float32 [seeds, episodes]
    settings = config.load(CONFIG, ROWS[name])
    parts = config.build(settings)
    controller = controllers.random(parts.space, batch_size=1) if name == RANDOM else parts.controller
    search = loop.make(parts.space, controller, parts.evaluator, parts.reward)

    def curve(key: jax.Array) -> jax.Array:
        return loop.scan(search, search.init(key), settings.search.budget)[1].reward[:, 0]

    run = jax.jit(lambda keys: jax.lax.map(curve, keys, batch_size=chunk))
    return np.asarray(run(jax.random.split(jax.random.key(settings.search.seed), seeds)))


def interval(values: np.ndarray) -> tuple[float, float]:  # the mean and half of its 95 % interval
    return float(values.mean()), 1.96 * float(values.std(ddof=1)) / len(values) ** 0.5


def figure(found: dict[str, np.ndarray], seeds: int) -> str:
    """The configuration beside its source, with bands over the seeds; below, every change to it."""
    episodes = found[OURS].shape[1]
    at = np.linspace(WINDOW, episodes, POINTS).round().astype(int)
    styles = {name: f"c{i % svg.COLOURS} d{i // svg.COLOURS}" for i, name in enumerate(found)}
    body, top = [], 62.0
    for rows, banded in (((OURS, SOURCE, RANDOM), True), (found, False)):
        entries = [(styles[name], name) for name in rows]
        legend, upper = svg.legend(entries, top)
        x = svg.counts(episodes, 66, svg.WIDTH - 24)
        y = svg.linear(np.array([0.6, 1.0]), upper + 250, upper + 30)
        body += [legend, svg.axes(x, y, "episode", "reward")]
        for style, name in entries:
            each = np.stack([rolling_mean(row, WINDOW) for row in found[name]])[:, at - WINDOW]
            parts = [svg.line(x, y, at, each.mean(axis=0))]
            if banded and name != RANDOM:
                low, high = np.quantile(each, (0.1, 0.9), axis=0)
                parts.insert(0, svg.band(x, y, at, low, high))
            body.append(svg.group(style, parts))
        top = upper + 320
    words = f"mean of {seeds:,} seeds over the last {WINDOW} episodes; band: 10 % to 90 % of the seeds"
    return svg.document("REINFORCE on the mock reward of NASNet cells", words, top - 20, body)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--chunk", type=int, default=50, help="seeds computed together")
    parser.add_argument("--figure", type=Path, help="where to draw the curves, as SVG")
    options = parser.parse_args()
    began, found = time.perf_counter(), {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(lambda name: rewards_of(name, options.seeds, options.chunk), ROWS)
        print(f"{'':30} {'first 100':>16} {'last 100':>16} {'difference':>16}", flush=True)
        for name, rewards in zip(ROWS, results, strict=True):
            found[name] = rewards
            first, last = rewards[:, :100].mean(axis=1), rewards[:, -100:].mean(axis=1)
            cells = (f"{mean:.4f} ± {half:.4f}" for mean, half in map(interval, (first, last, last - first)))
            print(f"{name:30} {' '.join(f'{cell:>16}' for cell in cells)}", flush=True)
    print(f"{len(ROWS) * options.seeds:,} searches in {time.perf_counter() - began:.0f} s")
    if options.figure:
        options.figure.parent.mkdir(parents=True, exist_ok=True)
        ledger.write_atomic(options.figure, figure(found, options.seeds).encode())
    gain = found[OURS][:, -100:].mean() - found[OURS][:, :100].mean()
    return int(gain < 0.15)


if __name__ == "__main__":
    sys.exit(main())
