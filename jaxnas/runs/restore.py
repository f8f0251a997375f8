"""Where a run goes on: at its newest checkpoint that all files have reached; the files are cut back to it."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from jaxnas import loop
from jaxnas.errors import InputError
from jaxnas.runs import checkpoint, ledger
from jaxnas.runs.files import repair

FILES = ("trials", "prefixes", "rounds", "timings", "costs")  # .csv, whose rows a round adds to


def check_budget(folder: Path, budget: int) -> None:
    """Raise an InputError if the run in `folder` already has more trials than `budget`."""
    done = len(ledger.read(folder / "trials.csv"))
    if budget < done:
        raise InputError(
            f"search.budget: found {budget}; {folder} already has {done} trials, it takes {done} or more"
        )


def latest(folder: Path, search: loop.Search, seed: int) -> loop.SearchState:
    """The state of the run in `folder` after its last checkpoint.

    Raises:
      InputError: it has none that fits the search.
    """
    fresh = search.init(jax.random.key(seed))
    with checkpoint.open_folder(folder / "state") as checkpoints:
        steps = [c.step for c in checkpoints.checkpoints]
        restored = checkpoint.restore(checkpoints, fresh, max(steps)) if steps else None
    if restored is None:
        raise InputError(f"{folder}: no checkpoint to read the policy from; `jaxnas resume {folder}` first")
    return restored[1]


def newest(
    checkpoints: Any,
    folder: Path,
    search: loop.Search,
    fresh: loop.SearchState,
    snapshots: Mapping[int, Any],
) -> tuple[int, loop.SearchState, dict[str, Any]]:
    """(round, state, what the checkpoint says) of the newest checkpoint whose rounds all files still have."""
    steps = [c.step for c in checkpoints.checkpoints]
    if not steps:
        return 0, fresh, {}
    batch_size = search.controller.batch_size
    covered = {
        "trials.csv": ledger.count(folder / "trials.csv", "trial") // batch_size,
        "rounds.csv": ledger.count(folder / "rounds.csv", "round"),
        "policy.npz": next(
            (r for r in range(max(steps)) if ledger.is_policy_round(r) and r not in snapshots), max(steps)
        ),
    }
    if search.evaluator.prefix:
        covered["prefixes.csv"] = ledger.count_walks(folder / "prefixes.csv") // batch_size
    restored = checkpoint.restore(checkpoints, fresh, min(covered.values()))
    short = [name for name, end in covered.items() if end < max(steps)]
    what = f"{', '.join(short)} damaged or cut short" if short else "the newest checkpoint is damaged"
    if restored is None:
        raise InputError(
            f"{folder}: {what}, and no older checkpoint can be used; delete {folder / 'state'} to begin "
            "again from the first trial, with the same results"
        )
    if restored[0] < max(steps):
        print(f"jaxnas: {folder}: {what}; going on from round {restored[0]}", file=sys.stderr)
    return restored


def cut_back(folder: Path, round: int) -> None:
    """Leave in the files of a run what its first `round` rounds wrote."""
    repair(folder / "best")
    for name in FILES:
        ledger.cut(folder / f"{name}.csv", "round", round)
