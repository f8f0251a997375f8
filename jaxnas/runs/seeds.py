"""Many searches at once: search i of a run is the search whose root key is fold_in(key(seed), i).

With a jittable evaluator a block of searches is one compiled program, a `vmap` over keys of one `lax.scan`
of rounds, and blocks are a queue over the cores of a CPU; on accelerators a block is sharded over them.

    searches.npz  the arrays of all searches: see `results`
    summary.csv  a row a search: its best trial
    blocks/  the blocks that are done, until all are
    seeds/000017/  a search's own ledgers, on request; its whole run, where the evaluator runs on the host
"""

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas import loop, masks
from jaxnas.errors import InputError
from jaxnas.runs import ledger, process, results, run
from jaxnas.training.programs import OutOfMemory, Programs

Arrays = results.Arrays

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
    """Search number `index` of many; it does not depend on how many there are."""
    return search._replace(init=lambda key: search.init(jax.random.fold_in(key, index)))


def execute(
    folder: Path, search: loop.Search, plan: Plan, *, text: str = "", watch: Callable[[int], None]
) -> Arrays:
    """Run those searches of a plan that are not finished in `folder`, which the caller has `owned`.

    `text` becomes the config.toml of every search's own folder; `watch` is told of trials done, of S · N,
    and at first, once a program is compiled, of those that were there already.

    Raises:
      InputError: the folder has searches of another budget, or a chunk of them needs too much memory.
      Interrupted: SIGINT or SIGTERM; blocks, or on the host rounds, that are done are saved.
    """
    path = folder / "searches.npz"
    arrays = results.read(path)
    _check(folder, arrays, plan)
    if arrays is None:
        todo = _compiled if search.evaluator.jittable else _on_host
        arrays = todo(folder, search, plan, text, watch)
        ledger.write_atomic(path, results.to_npz(arrays))
    metrics = {name: arrays.pop(name) for name in [*arrays] if name.startswith("metrics/")}
    results.write_summary(folder / "summary.csv", search.space, arrays)
    if plan.ledgers and search.evaluator.jittable:
        results.write_ledgers(folder, search, text, arrays, metrics)
    shutil.rmtree(folder / "blocks", ignore_errors=True)
    return arrays


def _check(folder: Path, arrays: Arrays | None, plan: Plan) -> None:
    """Refuse arrays of searches with another budget, be they all searches or a block of them."""
    if arrays is not None and arrays["reward"].shape[1] != plan.budget:
        raise InputError(
            f"search.budget: found {plan.budget}; the searches in {folder} have "
            f"{arrays['reward'].shape[1]} trials each and keep no state to go on from: start a new run"
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
        indices = (np.arange(first, first + size, dtype=np.int32).reshape(-1, plan.chunk),)
        shared = (np.asarray(jax.random.key_data(jax.random.key(plan.seed))),)
        try:
            call = programs.get(place, ("searches", plan), program, indices, shared).call
        except OutOfMemory:
            many = f"{plan.chunk}; so many searches at once need more memory than there is"
            raise InputError(f"search.chunk: found {many}, it takes fewer") from None
        return lambda: call(indices, shared)

    def block(first: int) -> Callable[[Any], None]:
        def job(place: Any) -> None:
            sharded = jax.device_get(compiled(place, first)())
            arrays = {name: _rows(values) for name, values in sharded.items()}
            if not arrays.pop("legal").all():
                masks.check(search.space, arrays["arch"].reshape(-1, search.space.num_steps))
            ledger.write_atomic(blocks / f"{first:09}.npz", results.to_npz(arrays))
            advance(size * plan.budget)

        return job

    def read(first: int) -> Arrays | None:
        arrays = results.read(blocks / f"{first:09}.npz")
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

        arrays = {name: trials(records.measures[name]) for name in kept}
        arrays |= {"reward": trials(records.reward), "arch": trials(records.arch).astype(small)}
        arrays |= {"status": arrays["status"].astype(jnp.uint8), "legal": jnp.all(records.legal)}
        arrays |= {f"prefixes/{name}": trials(values) for name, values in records.prefixes.items()}
        if plan.ledgers:
            arrays |= {f"metrics/{name}": values for name, values in records.metrics.items()}
        return arrays

    def many(indices: jax.Array, root: jax.Array) -> dict[str, jax.Array]:
        if len(indices) == 1:  # products with a batch axis of one are slower than without
            return jax.tree.map(lambda x: x[None], one(indices[0], root))
        return jax.vmap(one, in_axes=(0, None))(indices, root)

    return many


def _rows(values: np.ndarray) -> np.ndarray:  # [devices, chunk, ...] → [devices · chunk, ...]
    return np.asarray(values).reshape(-1, *values.shape[2:])


# ON THE HOST


def _on_host(
    folder: Path, search: loop.Search, plan: Plan, text: str, watch: Callable[[int], None]
) -> Arrays:
    parts = []
    for index in range(plan.seeds):
        subfolder = folder / "seeds" / f"{index:06}"
        subfolder.mkdir(parents=True, exist_ok=True)
        run.execute(
            subfolder,
            nth(search, index),
            seed=plan.seed,
            stop=run.Stop(plan.budget),
            text=text,
            watch=lambda now, i=index: watch(i * plan.budget + now.trials),
        )
        watch((index + 1) * plan.budget)
        parts.append(results.of_ledgers(search, subfolder))
    return {name: np.stack([part[name] for part in parts]) for name in parts[0]}
