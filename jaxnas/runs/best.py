"""RUN/best/: the best child of a search, written anew whenever a better one is found, whole at any moment."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnas import loop
from jaxnas.runs import checkpoint, ledger
from jaxnas.runs.files import write_folder
from jaxnas.types import OK, PyTree, Space

# (folder, what best/architecture.json says, weights, outputs on the validation split) → the files of best/
Keep = Callable[[Path, dict[str, Any], PyTree, np.ndarray | None], dict[str, bytes]]


class Best(NamedTuple):
    """The best trial so far."""

    trial: int
    reward: float
    architecture: str  # its notation
    constant: bool  # it answers one class alone, and so does every other that succeeded


def of_rows(rows: list[dict[str, str]]) -> Best | None:
    """The best trial of rows of trials.csv; None if none has succeeded."""
    ranked = ledger.ranked(rows)
    if not ranked:
        return None
    best, reward = ranked[0], float(np.float32(ranked[0]["reward"]))
    return Best(int(best["trial"]), reward, best["architecture"], best.get("constant") == "1")


def of_records(
    records: list[loop.Record], space: Space, batch_size: int, earlier: Best | None
) -> Best | None:
    """The best trial after some rounds: one of theirs if it is better than the `earlier` one."""
    reward = np.concatenate([record.reward for record in records])
    status = np.concatenate([record.measures["status"] for record in records])
    none = np.zeros(1, np.float32)
    constant = np.concatenate(
        [np.broadcast_to(record.measures.get("constant", none), record.reward.shape) for record in records]
    )
    values = ledger.eligible(reward, status == OK, constant)
    i = int(np.argmax(values))
    is_constant = bool(constant[i] == 1)
    rank = not is_constant, float(values[i])
    if not np.isfinite(values[i]) or (earlier and rank <= (not earlier.constant, earlier.reward)):
        return earlier
    round, lane = divmod(i, batch_size)
    architecture = space.describe(np.asarray(records[round].arch[lane]))
    first = int(records[0].round) * batch_size
    return Best(first + i, float(values[i]), architecture, is_constant)


def write(
    folder: Path,
    search: loop.Search,
    state: loop.SearchState,
    record: loop.Record,
    lane: int,
    keep: Keep | None,
) -> None:
    """Write best/ of the run in `folder`: a child's architecture, and its weights where there are any.

    Args:
      folder: the run's.
      search: what evaluated the child.
      state: of the search; its evaluator has the weights of the last round.
      record: the round of the child.
      lane: which child of that round.
      keep: makes the folder's files of the weights, such as a model that runs without jaxnas.
    """
    arch = np.asarray(record.arch[lane])
    about = {
        "trial": int(record.round) * search.controller.batch_size + lane,
        "space": search.space.name,
        "architecture": search.space.describe(arch),
        "arch": arch.tolist(),
        "decisions": search.space.decode(arch),
        "reward": float(record.reward[lane]),
        "measures": {m: float(record.measures[m][lane]) for m in search.evaluator.measures},
    }
    files = {"architecture.json": (json.dumps(about, indent=2) + "\n").encode()}
    evaluator = search.evaluator
    key = loop.key_of_trial(state, about["trial"])
    child = evaluator.child(key, state.evaluator, arch) if evaluator.child else None
    if child is not None:
        weights, outputs = child
        metadata = {"trial": str(about["trial"])}  # its order of several is random
        files["weights.safetensors"] = checkpoint.to_safetensors(weights, metadata)
        if keep is not None:
            try:
                files = keep(folder, about, weights, outputs)
            except Exception as error:  # an export is no reason to lose a search
                print(f"jaxnas: {folder / 'best'}: not exported: {error}", file=sys.stderr)
    write_folder(folder / "best", files)
