"""What a search leaves behind, and what it costs: everything included, from an empty cache of programs.

    python scripts/accuracy.py configs/quickstart.toml [--seeds 3] [OVERRIDES …]
    python scripts/accuracy.py FOLDER [--new OTHER] [--seeds 3] [OVERRIDES …]

A folder of images is given to `jaxnas init`, and what that writes to `jaxnas search`, word for word. One
row a seed: minutes on the clock, the seconds that the searches' compilers took (final training apart) as a
share of all CPU seconds, and of best/ its parameters and its measure on the validation and test splits;
with `--new` its balanced accuracy on the images of another folder with the same classes, none of which the
search has seen. The last row has the medians.
"""

import argparse
import csv
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

SUFFIXES = (".jpg", ".jpeg", ".png")


class Row(NamedTuple):
    """One search; NaN is unknown."""

    minutes: float
    compiling: float  # share of the CPU seconds
    params: float
    validation: float
    test: float
    new: float


def jaxnas(arguments: list[str], folder: Path, cache: Path, **options) -> subprocess.CompletedProcess:
    """A command of jaxnas, run in `folder`; one that fails ends the script."""
    command = [sys.executable, "-m", "jaxnas", *arguments]
    done = subprocess.run(command, cwd=folder, env=os.environ | {"XDG_CACHE_HOME": str(cache)}, **options)
    if done.returncode:
        raise SystemExit(done.returncode)
    return done


def balanced_accuracy(answers: str, root: Path) -> float:
    """The mean over classes of the share of images whose class is named first.

    Args:
      answers: lines `root/CLASS/IMAGE: CLASS PROBABILITY, …`.
      root: the folder of the images.
    """
    right: dict[str, list[bool]] = {}
    for truth, answer in re.findall(
        rf"^{re.escape(str(root))}/([^/]+)/[^:]+: *(.+?) [01]\.\d+", answers, re.MULTILINE
    ):
        right.setdefault(truth, []).append(truth == answer)
    return statistics.mean(statistics.mean(of_class) for of_class in right.values())


def search(source: Path, new: Path | None, seed: int, overrides: list[str]) -> Row:
    """One search in a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="accuracy_"))
    cache, used = folder / "cache", _cpu_seconds()
    began = time.perf_counter()
    written = source
    if source.is_dir():
        written = folder / f"{source.name}.toml"
        jaxnas(["init", str(source), "--out", str(written)], folder, cache)
    flags = ["--search.name", "run", "--search.seed", str(seed), *overrides]
    jaxnas(["search", str(written), *flags], folder, cache)
    minutes, used = (time.perf_counter() - began) / 60, _cpu_seconds() - used
    run = folder / "checkpoints" / "run"
    metrics = json.loads((run / "best" / "metrics.json").read_text("utf-8"))
    tested = metrics["test"] or {}
    name = next(iter(metrics["validation"]))
    answers = float("nan")
    if new is not None:
        images = [str(path) for path in sorted(new.glob("*/*")) if path.suffix.lower() in SUFFIXES]
        command = ["predict", str(run / "best"), *images]
        said = jaxnas(command, folder, cache, stdout=subprocess.PIPE, text=True)
        answers = balanced_accuracy(said.stdout, new)
    print(f"seed {seed} lies in {run}", file=sys.stderr)
    return Row(
        minutes,
        _compile_seconds(run) / used,
        metrics["params"] or float("nan"),
        metrics["validation"][name],
        tested.get(name, float("nan")),
        answers,
    )


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _compile_seconds(run: Path) -> float:
    """What compilers took, one core each, of the search and its twin."""
    total = 0.0
    for path in (run / "timings.csv", run / "twin" / "timings.csv"):
        if path.exists():
            with path.open(encoding="utf-8") as file:
                total += sum(float(row["compile_seconds"]) for row in csv.DictReader(file))
    return total


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("source", type=Path, help="a configuration, or a folder of images")
    parser.add_argument("--new", type=Path, help="a folder of further images of the same classes")
    parser.add_argument("--seeds", type=int, default=3)
    options, overrides = parser.parse_known_args()
    new = options.new and options.new.resolve()
    rows = [search(options.source.resolve(), new, seed, overrides) for seed in range(options.seeds)]
    rows.append(Row(*map(statistics.median, zip(*rows, strict=True))))
    print("| seed | minutes | compiling | parameters | validation | test | new images |\n" + "|---" * 7 + "|")
    for seed, row in zip([*map(str, range(options.seeds)), "median"], rows, strict=True):
        print(
            f"| {seed} | {row.minutes:.1f} | {row.compiling:.0%} | {row.params:,.0f} | {row.validation:.4f} "
            f"| {row.test:.4f} | {row.new:.4f} |"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
