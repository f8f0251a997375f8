"""The best architectures of a run, trained for longer and measured once on the test split.

    RUN/retrained/ (or RUN/final/)  config.toml  results.csv  ensemble.csv  confusion.csv
    RUN/retrained/trial_000017/     weights.safetensors  outputs.csv (on the test images)

With overrides the same architectures become other networks or see other data, in a folder of its own,
RUN/retrained-NAME: cells that were searched on a part of the images make a deeper network on all of them.
A hand-designed network is trained beside them by the same rules.
"""

import argparse
import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas import config, data, machine, training
from jaxnas.commands import export, perform, plan, progress, results
from jaxnas.errors import InputError
from jaxnas.evaluators import trained
from jaxnas.networks import chain
from jaxnas.runs import checkpoint, environment, ledger, process
from jaxnas.spaces.layers import Conv, Dense, Pool, Softmax, notation
from jaxnas.types import OK, STATUS, Dataset, Network, Split

ROOT = 0x2E72A1  # folded into a search's seed: no trial has these keys
PATIENCE = 5  # epochs, where the search had none
BASELINE = (Conv(32, 3), Pool(2, 2), Conv(64, 3), Pool(2, 2), Dense(128))
OVERRIDDEN = ("network", "data", "trainer")
BASELINE_NOTATION = notation((*BASELINE, Softmax()))


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("run", type=Path, metavar="RUN", help="the run's folder")
    parser.add_argument("--top", type=int, default=10, help="how many distinct architectures (default: 10)")
    parser.add_argument("--epochs", type=int, help="at most; by default twice the search's")
    parser.add_argument(
        "--final", action="store_true", help="train on the validation images too, for all of the epochs"
    )
    parser.add_argument("--cells", metavar="N", help="short for --network.cells: a deeper network")
    parser.add_argument("--filters", metavar="F", help="short for --network.filters: a wider network")
    parser.add_argument("--name", default="", help="of the results' folder, RUN/retrained-NAME")


def run(options: argparse.Namespace, overrides: list[str]) -> int:
    """Train the networks, print what they reached, and write the best of them to best/."""
    if options.top < 1:
        raise InputError(f"--top: got {options.top}; it takes 1 or more")
    if options.name and not config.is_folder_name(options.name):
        raise InputError(f"--name: got {options.name!r}; it takes part of a folder's name: no path")
    for name in ("cells", "filters"):
        if (value := getattr(options, name)) is not None:
            overrides = [f"--network.{name}", value, *overrides]
    environment.read(options.run)
    with process.owned(options.run):
        settings = plan.reopen(options.run, [])
        settings = settings_of(settings, options.final, options.epochs, overrides)
        trials = ledger.read(options.run / "trials.csv")
        dataset = data.load(**vars(settings.data))
        with progress.Counter("trained", options.top + 1) as counter:
            folder, rows = execute(
                options.run,
                settings,
                dataset,
                trials,
                options.top,
                final=options.final,
                name=options.name,
                watch=counter.update,
            )
        results.show(folder, rows)
        if checked := export.retrained(folder, settings, dataset, rows):
            perform.tell_check(*checked)
    return 0


class Candidate(NamedTuple):
    """What is trained: a network of the run's space, or the hand-designed one."""

    name: str  # of its folder
    trial: int  # −1 for the hand-designed one
    architecture: str
    arch: np.ndarray
    searched: str  # its reward in the search


def candidates(rows: list[dict[str, str]], space: Any, top: int) -> list[Candidate]:
    """The `top` distinct architectures of the highest reward, the first trial of each; then the baseline."""
    scored = [row for row in rows if row["status"] == "ok" and row["reward"]]
    scored.sort(key=lambda row: -float(row["reward"]))  # stable: of equals the first trial
    chosen: dict[str, dict[str, str]] = {}
    for row in scored:
        if len(chosen) < top:
            chosen.setdefault(row["architecture"], row)
    found = [
        Candidate(f"trial_{int(row['trial']):06}", int(row["trial"]), text, space.parse(text), row["reward"])
        for text, row in chosen.items()
    ]
    return [*found, Candidate("baseline", -1, BASELINE_NOTATION, np.zeros(1, np.int32), "")]


def settings_of(
    settings: config.Config, final: bool, epochs: int | None, overrides: Sequence[str] = ()
) -> config.Config:
    """The run's configuration with the trainer that its best architectures are trained by.

    Twice the epochs, with early stopping and the best epoch's weights; `final` trains all of them instead,
    for there is no validation split to stop by. Overrides of the sections `OVERRIDDEN` come on top.

    Raises:
      InputError: the run trains no networks, the number of epochs is below 1, or a wrong override.
    """
    if settings.trainer is None:
        raise InputError(
            f"retrain: the run's evaluator {settings.evaluator.name!r} trains no networks; "
            "give a run whose evaluator is trained"
        )
    if epochs is not None and epochs < 1:
        raise InputError(f"--epochs: got {epochs}; it takes 1 or more")
    rules = (
        {"patience": 0, "weights": "last"}
        if final
        else {"patience": settings.trainer.patience or PATIENCE, "weights": "best"}
    )
    trainer = dataclasses.replace(
        settings.trainer, epochs=epochs or 2 * settings.trainer.epochs, repeats=1, best_of=0, **rules
    )
    settings = dataclasses.replace(
        settings,
        trainer=trainer,
        search=dataclasses.replace(settings.search, duplicates="train"),
        constraints=config.Constraints(),
    )
    return config.override(settings, overrides, OVERRIDDEN)


def execute(
    folder: Path,
    settings: config.Config,  # of `settings_of`
    dataset: Dataset,
    rows: list[dict[str, str]],  # the run's trials
    top: int,
    *,
    final: bool = False,
    name: str = "",
    watch: Callable[[int], None] = lambda _: None,
) -> tuple[Path, list[dict[str, str]]]:
    """Train the best architectures and measure them: the folder, and the rows of its results.csv, best first.

    With `final` the validation images are trained on too; a `name` tells the folders of several retrainings
    apart. An architecture that is done is not trained again,
    so that the work can be interrupted; `watch` is told how many are done.

    Raises:
      InputError: no test split, no trial that succeeded, or a folder that was made with other settings.
    """
    test = dataset.test
    if test is None:
        raise InputError("retrain: the data have no test split; set data.test_fraction above 0")
    seen = _with_validation(dataset) if final else dataset
    parts = config.build(settings, dataset=seen)
    assert parts.network is not None
    wanted = candidates(rows, parts.space, top)
    if len(wanted) == 1:
        raise InputError(f"retrain: {ledger.without_success(rows, folder)}")
    text = config.dump(settings)
    folder = folder / ("final" if final else "retrained")
    folder = folder.with_name(f"{folder.name}-{name}") if name else folder
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "config.toml").exists() and (folder / "config.toml").read_text("utf-8") != text:
        raise InputError(f"{folder}: was made with other settings; delete it, repeat those, or give a --name")
    ledger.write_atomic(folder / "config.toml", text.encode())
    done = {row["name"]: row for row in ledger.read(folder / "results.csv")}
    at_once = machine.cores() if jax.default_backend() == "cpu" else len(wanted)
    for network, group in ((parts.network, wanted[:-1]), (_baseline(dataset), wanted[-1:])):
        train = _trainer(network, seen._replace(test=test), settings, final)
        group = [each for each in group if each.name not in done]
        for start in range(0, len(group), at_once):
            for each, row, weights, outputs in train(group[start : start + at_once]):
                if weights is not None:
                    (folder / each.name).mkdir(exist_ok=True)
                    content = checkpoint.to_safetensors(weights, {"architecture": each.architecture})
                    ledger.write_atomic(folder / each.name / "weights.safetensors", content)
                    results.write_csv(folder / each.name / "outputs.csv", outputs.tolist())
                done[each.name] = {name: str(value) for name, value in row.items()}
                # Last: a row says that the rest is there.
                results.write_csv(
                    folder / "results.csv", [list(row), *(list(r.values()) for r in done.values())]
                )
                watch(sum(each.name in done for each in wanted))
    found = [done[each.name] for each in wanted]
    measure = dataset.task.names[0]
    if not final:  # by validation, of a regression the least error; else in the order of the search
        sign = -1 if dataset.task.more_is_better else 1
        found[:-1] = sorted(
            found[:-1],
            key=lambda row: (row["status"] != "ok", sign * float(row[f"validation_{measure}"] or 0)),
        )
    results.compare(
        folder, dataset, test.labels, [row["name"] for row in found[:-1] if row["status"] == "ok"]
    )
    return folder, found


def _trainer(
    network: Network, dataset: Dataset, settings: config.Config, final: bool
) -> Callable[..., list[tuple]]:
    """A function of candidates → (candidate, its row, weights or None, test outputs [N, O]) of each."""
    test, names = dataset.test, dataset.task.names
    assert test is not None
    options = vars(settings.trainer)
    chosen = training.options_of(options)
    evaluator = trained(network, dataset._replace(test=None), **options)
    trainer = training.make(network, dataset, **chosen)
    images = jnp.asarray(test.inputs)
    child_of = evaluator.child
    assert child_of is not None
    root = jax.random.fold_in(jax.random.key(settings.search.seed), ROOT)
    state = evaluator.init(root)

    def outputs_of(arch: np.ndarray, params: Any) -> np.ndarray:
        structure, knobs = network.plan(arch)
        predict = jax.jit(functools.partial(trainer.predict, structure))
        return np.asarray(predict({"network": knobs, **trainer.rates}, params, images))

    def train(group: list[Candidate]) -> list[tuple]:
        keys = jnp.stack([jax.random.fold_in(root, each.trial + 1) for each in group])
        _, measured = evaluator.evaluate(keys, state, np.stack([each.arch for each in group]))
        found = []
        for lane, each in enumerate(group):
            has_succeeded = measured["status"][lane] == OK
            child = child_of(keys[lane], state, each.arch) if has_succeeded else None
            weights = child[0] if child else None
            outputs = None if weights is None else outputs_of(each.arch, weights)
            tested = dict.fromkeys(names, np.nan)
            if outputs is not None:
                tested = dataset.task.measures(outputs, test.labels)
            status, reason = STATUS[int(measured["status"][lane])]
            row = {
                "name": each.name,
                "trial": each.trial if each.trial >= 0 else "",
                "architecture": each.architecture,
                "params": ledger.number(measured["params"][lane]),
                "epochs": ledger.number(measured["epochs"][lane]),
                "searched_reward": each.searched,
                **{  # of what it trained on it would say nothing
                    f"validation_{name}": "" if final else ledger.number(measured[name][lane])
                    for name in names
                },
                **{f"test_{name}": ledger.number(tested[name]) for name in names},
                "status": status,
                "reason": reason,
            }
            found.append((each, row, weights, outputs))
        return found

    return train


def _with_validation(dataset: Dataset) -> Dataset:
    """Trained on the validation images too; they remain what a child's first epoch is compared on."""
    parts = zip(dataset.train, dataset.validation, strict=True)
    return dataset._replace(train=Split(*(np.concatenate(both) for both in parts)))


def _baseline(dataset: Dataset) -> Network:
    """A network such as one writes by hand: two convolutions with pooling, one dense layer, dropout."""
    structure = chain.ChainStructure(
        dataset.train.inputs.shape[1:], BASELINE, dataset.num_outputs, dropout=(len(BASELINE) - 1,)
    )

    def plan(arch: Any) -> tuple[chain.ChainStructure, Any]:
        del arch
        chain.shapes(structure.image_shape, structure.layers)
        return structure, {"dropout": np.array([0.5], np.float32)}

    return chain.network(plan, "auto")
