"""Many searches at once: search i of a run is the search whose root key is fold_in(key(seed), i).

With a jittable evaluator a block of searches is one compiled program, a `vmap` over keys of one `lax.scan`
of rounds, and blocks are a queue over the cores of a CPU; on accelerators a block is sharded over them.

    searches.npz  reward [S, N], status, every measure, arch [S, N, T]: S searches of N trials; where the
        evaluator has measures per decision also prefixes/NAME, prefixes/reward and prefixes/live [S, N, T]
    summary.csv  a row a search: its best trial
    blocks/  the blocks that are done, until all are
    seeds/000017/  a search's own ledgers, on request; its whole run, where the evaluator runs on the host
"""

import csv
import io
import shutil
import threading
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas import loop, masks
from jaxnas.errors import InputError
from jaxnas.runs import ledger, process, run
from jaxnas.training.programs import OutOfMemory, Programs
from jaxnas.types import OK, STATUS, Space

Arrays = dict[str, np.ndarray]

# Searches that one program vectorizes: so many that their states fit the cache of a core, or a part of an
# accelerator's memory. On a CPU more than `MOST` are no faster, and leave other cores without work.
CACHE_BYTES = {"cpu": 2**20}
MEMORY_BYTES = 2**30
MOST = {"cpu": 512}
MOST_ELSEWHERE = 8192


class Plan(NamedTuple):
    """What decides the trials of S searches, beside the search itself."""

    seed: int
    seeds: int  # S
    budget: int  # N, trials of each
    chunk: int  # searches that one program vectorizes; policies with matrix products may depend on it in bits
    ledgers: bool = False  # also write each search's own


def chunk_of(search: loop.Search) -> int:
    """How many searches to vectorize: a power of two, from the bytes of a search's state and the back end."""
    leaves = jax.tree.leaves(jax.eval_shape(search.init, jax.random.key(0)))
    state = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
    backend = jax.default_backend()
    fitting = CACHE_BYTES.get(backend, MEMORY_BYTES) // state
    return 1 << (max(1, min(fitting, MOST.get(backend, MOST_ELSEWHERE))).bit_length() - 1)


def nth(search: loop.Search, index: Any) -> loop.Search:
    """The search of that number: the same from its key on, which does not depend on how many there are."""
    return search._replace(init=lambda key: search.init(jax.random.fold_in(key, index)))


def execute(
    folder: Path, search: loop.Search, plan: Plan, *, text: str = "", watch: Callable[[int], None]
) -> Arrays:
    """Run the searches of a plan in `folder`, which the caller has `owned`; what is there is not run again.

    `text` becomes the config.toml of every search's own folder; `watch` is told of trials done, of S · N,
    first of those that were there, once a program is compiled.

    Raises:
      InputError: the folder has searches of another budget, or a chunk of them needs too much memory.
      Interrupted: SIGINT or SIGTERM; blocks, or on the host rounds, that are done are saved.
    """
    path = folder / "searches.npz"
    found = _read(path)
    _check(folder, found, plan)
    if found is None:
        todo = _compiled if search.evaluator.jittable else _on_host
        found = todo(folder, search, plan, text, watch)
        ledger.write_atomic(path, _npz(found))
    metrics = {name: found.pop(name) for name in [*found] if name.startswith("metrics/")}
    _write_summary(folder / "summary.csv", search.space, found)
    if plan.ledgers and search.evaluator.jittable:
        _write_ledgers(folder, search, plan, text, found, metrics)
    shutil.rmtree(folder / "blocks", ignore_errors=True)
    return found


def best_trial(arrays: Arrays) -> np.ndarray:  # → int64 [S], −1 where every trial failed
    """Each search's trial of the highest reward, the first of equals; a rejected child is none."""
    reward = np.where(arrays["status"] == OK, arrays["reward"], np.nan)
    best = np.argmax(np.where(np.isnan(reward), -np.inf, reward), axis=1)
    return np.where(np.isfinite(reward).any(axis=1), best, -1)


def _check(folder: Path, found: Arrays | None, plan: Plan) -> None:
    """`found`: the whole file, or any block."""
    if found is not None and found["reward"].shape[1] != plan.budget:
        raise InputError(
            f"search.budget: found {plan.budget}; the searches in {folder} have "
            f"{found['reward'].shape[1]} trials each and keep no state to go on from: start a new run"
        )


# COMPILED


def _compiled(
    folder: Path, search: loop.Search, plan: Plan, text: str, watch: Callable[[int], None]
) -> Arrays:
    del text
    blocks, lock, done = folder / "blocks", threading.Lock(), [0]
    blocks.mkdir(exist_ok=True)
    on_cpu = jax.default_backend() == "cpu"
    programs = Programs(mapped=on_cpu, workers=0, memory_fraction=0.5, level=None)
    size = plan.chunk * programs.places[0].devices
    program = program_of(search, plan)

    def advance(trials: int) -> None:
        with lock:
            done[0] += trials
            watch(min(done[0], plan.seeds * plan.budget))

    def compiled(place: Any, first: int) -> Callable[[], dict[str, jax.Array]]:
        each = (np.arange(first, first + size, dtype=np.int32).reshape(-1, plan.chunk),)
        shared = (np.asarray(jax.random.key_data(jax.random.key(plan.seed))),)
        try:
            call = programs.get(place, ("searches", plan), program, each, shared).call
        except OutOfMemory:
            many = f"{plan.chunk}; so many searches at once need more memory than there is"
            raise InputError(f"search.chunk: found {many}, it takes fewer") from None
        return lambda: call(each, shared)

    def block(first: int) -> Callable[[Any], None]:
        def job(place: Any) -> None:
            found = compiled(place, first)()
            arrays = {key: _rows(values) for key, values in jax.device_get(found).items()}
            if not arrays.pop("legal").all():
                masks.check(search.space, arrays["arch"].reshape(-1, search.space.num_steps))
            ledger.write_atomic(blocks / f"{first:09}.npz", _npz(arrays))
            advance(size * plan.budget)

        return job

    def read(first: int) -> Arrays | None:
        arrays = _read(blocks / f"{first:09}.npz")
        _check(folder, arrays, plan)
        return arrays if arrays is not None and len(arrays["reward"]) == size else None

    firsts = range(0, plan.seeds, size)
    missing = [first for first in firsts if read(first) is None]
    with process.Signals() as signals, signals.raised():
        if missing:
            compiled(programs.places[0], 0)
        advance((len(firsts) - len(missing)) * size * plan.budget)
        programs.over([block(first) for first in missing])
    parts = [part for part in map(read, firsts) if part is not None]
    return {name: np.concatenate([part[name] for part in parts])[: plan.seeds] for name in parts[0]}


def program_of(search: loop.Search, plan: Plan) -> Callable[[jax.Array, jax.Array], dict[str, jax.Array]]:
    """(numbers of searches [chunk], data of the run's root key) → what happened in each, [chunk, ...]."""
    B, N = search.controller.batch_size, plan.budget
    kept = ("status", *search.evaluator.measures)
    small = jnp.uint8 if search.space.num_choices <= 256 else jnp.uint16

    def one(index: jax.Array, root: jax.Array) -> dict[str, jax.Array]:
        state = nth(search, index).init(jax.random.wrap_key_data(root))
        _, records = loop.scan(search, state, -(-N // B))

        def trials(rows: jax.Array) -> jax.Array:  # [R, B, ...] → [N, ...]
            return rows.reshape(-1, *rows.shape[2:])[:N]

        found = {name: trials(records.measures[name]) for name in kept}
        found |= {"reward": trials(records.reward), "arch": trials(records.arch).astype(small)}
        found |= {"status": found["status"].astype(jnp.uint8), "legal": jnp.all(records.legal)}
        found |= {f"prefixes/{name}": trials(values) for name, values in records.prefixes.items()}
        if plan.ledgers:
            found |= {f"metrics/{name}": values for name, values in records.metrics.items()}
        return found

    def many(indices: jax.Array, root: jax.Array) -> dict[str, jax.Array]:
        if len(indices) == 1:  # products with a batch axis of one are slower than without
            return jax.tree.map(lambda x: x[None], one(indices[0], root))
        return jax.vmap(one, in_axes=(0, None))(indices, root)

    return many


# ON THE HOST


def _on_host(
    folder: Path, search: loop.Search, plan: Plan, text: str, watch: Callable[[int], None]
) -> Arrays:
    parts = []
    for index in range(plan.seeds):
        own = folder / "seeds" / f"{index:06}"
        own.mkdir(parents=True, exist_ok=True)
        run.execute(
            own,
            nth(search, index),
            seed=plan.seed,
            stop=run.Stop(plan.budget),
            text=text,
            watch=lambda now, i=index: watch(i * plan.budget + now.trials),
        )
        watch((index + 1) * plan.budget)
        parts.append(_of_ledgers(search, own))
    return {name: np.stack([part[name] for part in parts]) for name in parts[0]}


def _of_ledgers(search: loop.Search, folder: Path) -> Arrays:
    """The trials.csv of a run as arrays [N], and its prefixes.csv, if it has one, as arrays [N, T]."""
    rows, prefix = ledger.read(folder / "trials.csv"), search.evaluator.prefix
    number = {
        name: [float(row[name] or "nan") for row in rows] for name in (*search.evaluator.measures, "reward")
    }
    code = {words: i for i, words in reversed([*enumerate(STATUS)])}
    status = [code.get((row["status"], row["reason"]), OK) for row in rows]
    arch = np.stack([search.space.parse(row["architecture"]) for row in rows])
    small = np.uint8 if search.space.num_choices <= 256 else np.uint16
    arrays = {name: np.array(values, np.float32) for name, values in number.items()}
    arrays |= {"status": np.array(status, np.uint8), "arch": arch.astype(small)}
    if prefix:
        of_steps = ledger.read(folder / "prefixes.csv")
        along = ledger.prefix_arrays(of_steps, len(rows), search.space.num_steps, (*prefix, "reward"))
        arrays |= {f"prefixes/{name}": values for name, values in along.items()}
    return arrays


# FILES


def _write_summary(path: Path, space: Space, arrays: Arrays) -> None:
    measures = [name for name in arrays if name not in ("arch", "reward", "status") and "/" not in name]
    rows: list[list[Any]] = [["search", "reward", "architecture", *measures, "trials_to_best"]]
    for index, trial in enumerate(best_trial(arrays)):
        if trial < 0:
            rows.append([index, *[""] * (len(measures) + 3)])
            continue
        at = (index, trial)
        numbers = [ledger.number(arrays[name][at]) for name in measures]
        arch = space.describe(arrays["arch"][at])
        rows.append([index, ledger.number(arrays["reward"][at]), arch, *numbers, trial + 1])
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    ledger.write_atomic(path, text.getvalue().encode())


def _write_ledgers(
    folder: Path, search: loop.Search, plan: Plan, text: str, arrays: Arrays, metrics: Arrays
) -> None:
    """seeds/000017/: config.toml and the ledgers as a run of its own would have written them."""
    B = search.controller.batch_size
    names = sorted(("status", *search.evaluator.measures))
    for index, reward in enumerate(arrays["reward"]):
        own, best = folder / "seeds" / f"{index:06}", -np.inf
        trials, prefixes, rounds = [], [], []
        if (own / "config.toml").exists():
            continue
        for round, first in enumerate(range(0, plan.budget, B)):
            at = np.s_[index, first : first + B]
            measures = {name: arrays[name][at] for name in names}
            reported = {name.partition("/")[2]: values[index, round] for name, values in metrics.items()}
            along = {name.partition("/")[2]: arrays[name][at] for name in arrays if "/" in name}
            scored = np.where(measures["status"] == OK, reward[first : first + B], np.nan)
            best = np.fmax(best, np.fmax.reduce(scored))
            score = reward[first : first + B]
            fields: Any = (round, arrays["arch"][at], measures, None, score, best, reported, along)
            record = loop.Record(*fields)
            trials += ledger.trial_rows(search.space, record, B)
            prefixes += ledger.prefix_rows(record, B)
            rounds += [ledger.round_row(record, B)] if first + B <= plan.budget else []
        own.mkdir(parents=True, exist_ok=True)
        for name, rows in (("trials.csv", trials), ("prefixes.csv", prefixes), ("rounds.csv", rounds)):
            (own / name).unlink(missing_ok=True)
            ledger.append(own / name, rows)
        ledger.write_atomic(own / "config.toml", text.encode())  # last: it says that the others are whole


def _rows(values: np.ndarray) -> np.ndarray:  # [devices, chunk, ...] → [devices · chunk, ...]
    return np.asarray(values).reshape(-1, *values.shape[2:])


def _npz(arrays: Arrays) -> bytes:
    content = io.BytesIO()
    ordered: Any = {name: arrays[name] for name in sorted(arrays)}
    np.savez(content, **ordered)
    return content.getvalue()


def _read(path: Path) -> Arrays | None:
    """The arrays of a file, or None if there is none or it is damaged."""
    try:
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, LookupError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error):
        return None
