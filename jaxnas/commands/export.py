"""Any trial of a run as a folder that runs without jaxnas; its weights are regained by training it again.

RUN/best/  the best trial, or RUN/exported/trial_000017/
"""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxnas import config, evaluators, export, loop
from jaxnas.commands import best_network, console, start
from jaxnas.errors import InputError
from jaxnas.runs import checkpoint, ledger, process, provenance
from jaxnas.runs.files import write_folder
from jaxnas.types import OK, STATUS, Dataset


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("run", type=Path, metavar="RUN", help="the run's folder")
    parser.add_argument(
        "--trial", type=int, metavar="N", help="which one; trained again from its key (default: the best)"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="by default RUN/best, RUN/exported/trial_N"
    )
    parser.add_argument(
        "--optuna", metavar="STORAGE", help="instead, all trials as a study, such as sqlite:///study.db"
    )
    parser.add_argument("--onnx", action="store_true", help="write model.onnx too")


def run(options: argparse.Namespace, _: list[str]) -> int:
    """Write the folder and check it, or hand all trials to Optuna; 1 where the folder does not agree."""
    if options.optuna is not None:
        from jaxnas.log import optuna

        name, trials = optuna.execute(options.run, options.optuna)
        print(f"{options.optuna}: study {name!r}, {trials} trials")
        return 0
    if options.onnx:
        from jaxnas.export import to_onnx

        to_onnx.package()  # an InputError comes now
    provenance.read(options.run)
    with process.owned(options.run):
        path, agrees, text = execute(
            options.run, start.reopen(options.run, []), options.trial, options.out, options.onnx
        )
    console.print_check(agrees, text)
    print(f"{path}: {', '.join(sorted(file.name for file in path.iterdir()))}")
    return 0 if agrees else 1


def execute(
    folder: Path, settings: config.Config, trial: int | None, out: Path | None = None, onnx: bool = False
) -> tuple[Path, bool, str]:
    """Write a trial of the run in `folder` as a folder: its path, whether it agrees, what a person is told.

    Without a `trial` it is the best one; with `onnx` model.onnx is written too.

    Raises:
      InputError: the run trains nothing, has no such trial, or the trial failed; `out` holds other files; or,
        where neither machine nor versions changed, it was trained again with another result; or as
        `export.files`.
    """
    if not hasattr(settings.trainer, "precision"):  # none, or one of an evaluator that trains in its own way
        raise InputError(
            f"export: the run's evaluator {settings.evaluator.name!r} trains no networks; "
            "give a run whose evaluator is trained"
        )
    best = folder / "best" if trial is None else folder / "exported" / f"trial_{trial:06}"
    path = out or best
    _check_free(path)
    rows = ledger.read(folder / "trials.csv")
    row = row_of(folder, rows, trial)
    again = dataclasses.replace(
        settings,
        search=dataclasses.replace(settings.search, duplicates="train"),
        constraints=config.Constraints(),
    )
    parts = config.build(again)
    assert parts.dataset is not None
    with evaluators.closing(parts.evaluator):
        child = regain(folder, settings, parts, rows, row)
    files = export.files(best_network.origin_of(settings, parts.dataset, folder.resolve().name), child, onnx)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_folder(path, files)
    except OSError as error:
        raise InputError(f"--out: cannot write {path}: {error.strerror}") from None
    agrees, said = export.check(path, parts.dataset.validation.inputs, parts.dataset.task)
    return path, agrees, said


def _check_free(path: Path) -> None:
    """Raise an InputError if `path` is a file, or a folder with files other than an exported network's."""
    foreign = [path.name] if path.is_file() else []
    if path.is_dir():
        foreign = sorted(entry.name for entry in path.iterdir() if entry.name not in export.FILES)
    if foreign:
        raise InputError(
            f"--out: {path} holds {foreign[0]!r}, which is no file of an exported network; give a new folder"
        )


def retrained(
    folder: Path,
    settings: config.Config,
    dataset: Dataset,
    rows: list[dict[str, str]],
    best: Path | None = None,
) -> tuple[bool, str] | None:
    """The first network of `rows`, trained again in `folder`, as a folder; None if it has no weights.

    It becomes `best`, or best/ in `folder`.

    Returns whether it agrees with what jaxnas predicts, and what a person is told.
    """
    row = next((row for row in rows if row["trial"] and row["status"] == "ok"), None)
    if row is None:
        return None
    parts = config.build(settings, dataset=dataset)
    network, trainer = parts.network, best_network.trainer_of(settings, parts)
    assert network is not None
    arch = parts.space.parse(row["architecture"])
    structure, knobs = network.plan(arch)
    like = jax.eval_shape(lambda key: network.init(key, structure, knobs), jax.random.key(0))
    params = checkpoint.from_safetensors(folder / row["name"] / "weights.safetensors", like)
    images = jax.numpy.asarray(dataset.validation.inputs)
    predict = jax.jit(lambda params, x: trainer.predict(structure, {"network": knobs}, params, x))
    names = dataset.task.names
    measured = {name: row[f"validation_{name}"] for name in names} | {"params": row["params"]}
    about = _about(parts, row, row["searched_reward"], {k: v for k, v in measured.items() if v})
    tested = {name: float(row[f"test_{name}"]) for name in names if row[f"test_{name}"]}
    child = export.Child(about, params, np.asarray(predict(params, images)), tested)
    name = f"{folder.resolve().parent.name}/{folder.name}"
    best = best or folder / "best"
    write_folder(best, export.files(best_network.origin_of(settings, dataset, name), child))
    return export.check(best, dataset.validation.inputs, dataset.task)


def _about(parts: config.Parts, row: dict[str, str], reward: str, measures: dict[str, Any]) -> dict[str, Any]:
    """What `export.Child` says of the trial in a row."""
    arch = parts.space.parse(row["architecture"])
    return {
        "trial": int(row["trial"]),
        "space": parts.space.name,
        "architecture": row["architecture"],
        "arch": arch.tolist(),
        "decisions": parts.space.decode(arch),
        "reward": float(reward),
        "measures": {name: float(value) for name, value in measures.items()},
    }


def row_of(folder: Path, rows: list[dict[str, str]], trial: int | None) -> dict[str, str]:
    """The row of a trial, or of the best one."""
    if trial is None:
        ranked = ledger.ranked(rows)
        if not ranked:
            raise InputError(f"export: {ledger.without_success(rows, folder)}")
        return ranked[0]
    if not 0 <= trial < len(rows):
        raise InputError(f"--trial: got {trial}; {folder} has trials 0 to {len(rows) - 1}")
    row = rows[trial]
    if row["status"] != "ok":
        raise InputError(f"--trial: {trial} has no weights: {row['reason']}")
    return row


def trained_as(rows: list[dict[str, str]], row: dict[str, str]) -> int:
    """The trial whose training gave a row its measures: an earlier one, where the result was reused."""
    if float(row.get("reused") or 0) == 0:
        return int(row["trial"])
    earlier = [
        int(other["trial"])
        for other in rows[: int(row["trial"])]
        if other["architecture"] == row["architecture"]
        and other["status"] == "ok"
        and float(other["reused"]) == 0
    ]
    return earlier[-1]


def regain(
    folder: Path,
    settings: config.Config,
    parts: config.Parts,
    rows: list[dict[str, str]],
    row: dict[str, str],
) -> export.Child:
    """The child of a row, trained again from its key.

    Raises:
      InputError: it does not come out as recorded though neither machine nor versions changed.
    """
    search = loop.make(*parts[:5])
    state = search.init(jax.random.key(settings.search.seed))
    arch = parts.space.parse(row["architecture"])
    key = loop.key_of_trial(state, trained_as(rows, row))
    _, measured = parts.evaluator.evaluate(key[None], state.evaluator, arch[None])
    status = int(measured["status"][0])
    names = [name for name in parts.evaluator.measures if row.get(name)]
    different = [name for name in names if ledger.number(measured[name][0]) != row[name]]
    if status != OK or different:
        what = STATUS[status][1] or ", ".join(
            f"{name} is {ledger.number(measured[name][0])}, was {row[name]}" for name in different
        )
        changed = provenance.changes(folder)
        difference = f"{folder}: trial {row['trial']}, trained again, is another: {what}"
        if status != OK or (jax.default_backend() == "cpu" and not changed):
            raise InputError(f"{difference}; was its configuration, its data or the machine changed?")
        print(f"jaxnas: {difference} ({', '.join(changed) or 'not on a CPU'})")
    assert parts.evaluator.child is not None
    child = parts.evaluator.child(key, state.evaluator, arch)
    assert child is not None  # its status is ok
    about = _about(parts, row, row["reward"], {k: measured[k][0] for k in parts.evaluator.measures})
    return export.Child(about, *child)
