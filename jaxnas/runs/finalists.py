"""The best architectures of a run, trained for longer and measured once on the test split.

    RUN/final/                   by the search itself, as `[final]` says
    RUN/retrained/               by `jaxnas retrain`
        config.toml  results.csv  costs.csv  ensemble.csv  confusion.csv
        trial_000017/            weights.safetensors  outputs.csv (on the test inputs)

Of images a network by hand is trained beside them by the same rules, `networks/by_hand.py`.
"""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas import config, machine, training
from jaxnas.errors import InputError
from jaxnas.evaluators import closing, trained
from jaxnas.networks.by_hand import by_hand
from jaxnas.runs import checkpoint, ledger
from jaxnas.types import OK, STATUS, Dataset, Network, PyTree, Space, Split, Task

ROOT = 0x2E72A1  # folded into a search's seed: no trial has these keys
ENSEMBLE = 5  # networks
FINAL = "final"  # the folder of what the search itself trains to the end


class Candidate(NamedTuple):
    """What is trained: a network of the run's space, or the one by hand."""

    name: str  # of its folder
    trial: int  # −1 for the one by hand
    architecture: str
    arch: np.ndarray
    searched: str  # its reward in the search


class Result(NamedTuple):
    """What became of a candidate."""

    candidate: Candidate
    row: dict[str, Any]  # of results.csv
    params: PyTree  # None where it failed
    outputs: np.ndarray | None  # [N, O] on the test inputs


def candidates(rows: list[dict[str, str]], space: Space, top: int) -> list[Candidate]:
    """The `top` distinct architectures that may be the best, by reward; of each its first trial."""
    best: dict[str, dict[str, str]] = {}
    for row in ledger.ranked(rows):
        if len(best) < top:
            best.setdefault(row["architecture"], row)
    return [
        Candidate(f"trial_{int(row['trial']):06}", int(row["trial"]), text, space.parse(text), row["reward"])
        for text, row in best.items()
    ]


def takes_baseline(dataset: Dataset) -> bool:
    """Whether the network by hand, which halves images, is one for these inputs."""
    return dataset.kind == "image" and min(dataset.train.inputs.shape[1:3]) > 1


def train(
    folder: Path,
    settings: config.Config,
    dataset: Dataset,
    rows: list[dict[str, str]],
    top: int,
    *,
    kind: str = "retrained",
    joins_validation: bool = False,
    baseline: bool = True,
    name: str = "",
    watch: Callable[[int], None] = lambda _: None,
) -> tuple[Path, list[dict[str, str]]]:
    """Train the best architectures and measure them. One that is done is not trained again.

    Args:
      folder: the run's.
      settings: its configuration, with the trainer that these networks are trained by.
      dataset: what they are trained and measured on; no choice is made by its test split.
      rows: the run's trials.
      top: how many architectures.
      kind: what the folder of the results is called.
      joins_validation: the validation inputs are trained on too.
      baseline: of images a network by hand is trained beside them.
      name: tells the folders of several retrainings apart.
      watch: is told how many networks are done.

    Returns:
      The folder of the results, and the rows of its results.csv: the best first, the one by hand last.

    Raises:
      InputError: no trial that succeeded, or a folder that was made with other settings.
    """
    seen = with_validation(dataset) if joins_validation else dataset
    parts = config.build(settings, dataset=seen)
    parts.evaluator.close()  # of the parts only the space and the network are used
    assert parts.network is not None
    searched = candidates(rows, parts.space, top)
    if not searched:
        raise InputError(f"retrain: {ledger.without_success(rows, folder)}")
    groups = [(parts.network, searched)]
    if baseline and takes_baseline(dataset):
        network, arch, text = by_hand(dataset.train.inputs.shape[1:], dataset.num_outputs)
        groups.append((network, [Candidate("baseline", -1, text, arch, "")]))
    folder = _open(folder, settings, kind, name)
    done = {row["name"]: row for row in ledger.read(folder / "results.csv")}
    wanted = [candidate for _, group in groups for candidate in group]
    at_once = machine.cores() if jax.default_backend() == "cpu" else len(wanted)
    for network, group in groups:
        group = [candidate for candidate in group if candidate.name not in done]
        with _trainer(network, seen, settings, joins_validation) as measure:
            for start in range(0, len(group), at_once):
                began = time.perf_counter()
                measured = measure(group[start : start + at_once])
                seconds = f"{(time.perf_counter() - began) / len(measured):.2f}"
                for result in measured:
                    _save(folder, result)
                    ledger.append(folder / "costs.csv", [{"name": result.candidate.name, "seconds": seconds}])
                    done[result.candidate.name] = {name: str(value) for name, value in result.row.items()}
                    # Last: a row says that the rest is there.
                    lines = [list(result.row), *(list(row.values()) for row in done.values())]
                    ledger.write(folder / "results.csv", lines)
                    watch(sum(candidate.name in done for candidate in wanted))
    results = [done[candidate.name] for candidate in searched]
    if not joins_validation:  # else in the order of the search, for nothing else was measured
        results.sort(key=functools.partial(_rank, dataset.task))
    _compare(folder, dataset, [row["name"] for row in results if row["status"] == "ok"])
    rows = [*results, *(done[candidate.name] for candidate in wanted[len(searched) :])]
    others = [row for row in done.values() if row not in rows]  # of a training that was asked for more
    ledger.write(folder / "results.csv", [list(rows[0]), *(list(row.values()) for row in [*rows, *others])])
    return folder, rows


def _open(folder: Path, settings: config.Config, kind: str, name: str) -> Path:
    """The folder of the results, with its configuration; a search may have gone on since it was made."""
    folder = folder / (f"{kind}-{name}" if name else kind)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "config.toml"
    if path.exists() and (lines := config.differences(config.load(path), settings)):
        fix = "delete it, or repeat those" + ", or give a --name" * (kind != FINAL)
        raise InputError(f"{folder}: was made with other settings; {fix} ({lines[0]})")
    ledger.write_atomic(path, config.dump(settings).encode())
    return folder


@contextlib.contextmanager
def _trainer(
    network: Network, dataset: Dataset, settings: config.Config, joins_validation: bool
) -> Iterator[Callable[[list[Candidate]], list[Result]]]:
    """A function that trains candidates together, for a block."""
    options = vars(settings.trainer)
    evaluator = trained(network, dataset._replace(test=None), **options)
    trainer = training.make(network, dataset, **training.options_of(options))
    test, child_of = dataset.test, evaluator.child
    assert child_of is not None
    test_inputs = None if test is None else jnp.asarray(test.inputs)
    root = jax.random.fold_in(jax.random.key(settings.search.seed), ROOT)
    state = evaluator.init(root)

    def tested_outputs(arch: np.ndarray, params: PyTree) -> np.ndarray | None:
        if test_inputs is None:
            return None
        structure, knobs = network.plan(arch)
        predict = jax.jit(functools.partial(trainer.predict, structure))
        return np.asarray(predict({"network": knobs, **trainer.rates}, params, test_inputs))

    def measure(group: list[Candidate]) -> list[Result]:
        keys = jnp.stack([jax.random.fold_in(root, candidate.trial + 1) for candidate in group])
        _, measured = evaluator.evaluate(keys, state, np.stack([candidate.arch for candidate in group]))
        results = []
        for lane, candidate in enumerate(group):
            of_lane = {name: value[lane] for name, value in measured.items()}
            child = child_of(keys[lane], state, candidate.arch) if of_lane["status"] == OK else None
            params = child[0] if child else None
            outputs = tested_outputs(candidate.arch, params) if child else None
            tested = dataset.task.measures(outputs, test.labels) if test and outputs is not None else {}
            row = _row(candidate, dataset.task, {} if joins_validation else of_lane, tested, of_lane)
            results.append(Result(candidate, row, params, outputs))
        return results

    with closing(evaluator):
        yield measure


def _row(
    candidate: Candidate, task: Task, validated: dict[str, Any], tested: dict[str, Any], child: dict[str, Any]
) -> dict[str, Any]:
    """A row of results.csv: measures on both splits, and `child`, which holds what else was measured."""
    status, reason = STATUS[int(child["status"])]
    return {
        "name": candidate.name,
        "trial": candidate.trial if candidate.trial >= 0 else "",
        "architecture": candidate.architecture,
        "params": ledger.number(child["params"]),
        "epochs": ledger.number(child["epochs"]),
        "searched_reward": candidate.searched,
        **{f"validation_{name}": ledger.number(validated.get(name, np.nan)) for name in task.names},
        **{f"test_{name}": ledger.number(tested.get(name, np.nan)) for name in task.names},
        "status": status,
        "reason": reason,
    }


def _save(folder: Path, result: Result) -> None:
    """Weights and outputs of a network that succeeded."""
    if result.params is None:
        return
    path, about = folder / result.candidate.name, {"architecture": result.candidate.architecture}
    path.mkdir(exist_ok=True)
    ledger.write_atomic(path / "weights.safetensors", checkpoint.to_safetensors(result.params, about))
    if result.outputs is not None:
        ledger.write(path / "outputs.csv", result.outputs.tolist())


def _rank(task: Task, row: dict[str, str]) -> tuple[bool, bool, float, float]:
    """What sorts rows by their first measure on the validation split, the best first and failures last.

    Of equals the one with fewer parameters comes first. What answers one class alone comes behind the others.
    """
    value, constant = float(row[f"validation_{task.names[0]}"] or 0), row.get("validation_constant") == "1"
    value = -value if task.more_is_better else value
    return row["status"] != "ok", constant, value, float(row["params"] or 0)


def _compare(folder: Path, dataset: Dataset, names: list[str]) -> None:
    """ensemble.csv: the mean prediction of the first networks; confusion.csv: that of the first one alone."""
    if not names or dataset.test is None:
        return
    task, labels = dataset.task, dataset.test.labels
    outputs = [np.loadtxt(folder / n / "outputs.csv", delimiter=",", ndmin=2) for n in names[:ENSEMBLE]]
    measured = task.measures(task.ensemble(np.stack(outputs)), labels)
    heading = ["networks", *(f"test_{name}" for name in measured)]
    values = [" ".join(names[:ENSEMBLE]), *map(ledger.number, measured.values())]
    ledger.write(folder / "ensemble.csv", [heading, values])
    if task.predict is not None:
        table = np.zeros((len(dataset.classes),) * 2, int)
        np.add.at(table, (labels, task.predict(outputs[0])), 1)
        rows = [[name, *row] for name, row in zip(dataset.classes, table.tolist(), strict=True)]
        ledger.write(folder / "confusion.csv", [["true \\ predicted", *dataset.classes], *rows])


def with_validation(dataset: Dataset) -> Dataset:
    """Trained on the validation inputs too; they remain what a child's first epoch is compared on."""
    splits = zip(dataset.train, dataset.validation, strict=True)
    return dataset._replace(train=Split(*(np.concatenate(both) for both in splits)))
