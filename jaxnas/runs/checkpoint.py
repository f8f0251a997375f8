"""Save and restore the state of a search with Orbax: asynchronous, digested, its shapes checked.

Orbax reads a flipped byte without complaint and hides a wrong shape behind a long traceback, so every
save carries a digest of its arrays and every restore compares the shapes first.
"""

import contextlib
import gc
import hashlib
import logging
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from orbax.checkpoint import v1 as ocp
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from jaxnas.errors import InputError
from jaxnas.types import PyTree

_READS = threading.Lock()


@contextlib.contextmanager
def open_folder(folder: Path, keep: int = 3) -> Iterator[ocp.training.Checkpointer]:
    """The checkpoints of a run, the newest `keep` of them kept; while it is open Orbax logs errors alone."""
    training: Any = ocp.training  # its types are narrower than what it takes
    with _filtered("absl", least=logging.ERROR):
        checkpoints = training.Checkpointer(
            folder.resolve(),
            save_decision_policy=training.save_decision_policies.FixedIntervalPolicy(1),
            preservation_policy=training.preservation_policies.LatestN(keep),
            cleanup_tmp_directories=True,
        )
        with contextlib.closing(checkpoints):
            yield checkpoints


def save(checkpoints: ocp.training.Checkpointer, step: int, tree: PyTree, about: dict[str, Any]) -> Any:
    """Start saving `tree` as that step, with `about` (JSON); `.result()` of what returns waits for it."""
    host = jax.tree.map(_to_host, tree)
    return checkpoints.save_async(step, host, custom_metadata={**about, "sha256": digest(host)})


def restore(
    checkpoints: ocp.training.Checkpointer, like: PyTree, last: int
) -> tuple[int, PyTree, dict[str, Any]] | None:
    """The newest whole step up to `last`, its tree, and what was said about it; None if there is none.

    The steps that were passed over are deleted: they are written anew on the way.

    Raises:
      InputError: the arrays of a step have other shapes than those of `like`, and no other step fits.
    """
    template, misfit = jax.tree.map(_to_host, like), None
    steps = sorted((c.step for c in checkpoints.checkpoints), reverse=True)
    for i, step in enumerate(steps):
        if step > last:
            continue
        content = _read(checkpoints, step, template)
        if isinstance(content, InputError):
            misfit = misfit or content
        elif content is not None:
            for newer in steps[:i]:
                checkpoints.delete(newer)
            return step, jax.tree.map(_from_host, content[0], like), content[1]
    if misfit is not None:
        raise misfit
    return None


def _read(checkpoints: ocp.training.Checkpointer, step: int, template: PyTree) -> Any:
    """The arrays of a step and what was said of it; an InputError if its shapes differ; None if damaged."""
    with _muted():
        try:
            metadata: Any = checkpoints.metadata(step)
            saved, wanted = _shapes(metadata.metadata or {}), _shapes(template)
            differing = [k for k in sorted({*saved, *wanted}) if saved.get(k) != wanted.get(k)]
            if saved and differing:
                k = differing[0]
                return InputError(
                    f"{checkpoints.directory}: step {step} does not fit the configuration: {k} is "
                    f"{saved.get(k, 'absent')}, the configuration needs {wanted.get(k, 'none')} "
                    f"({len(differing) - 1} more such)"
                )
            about = dict(metadata.custom_metadata or {})
            tree = jax.tree.map(np.asarray, checkpoints.load(step, abstract_state=template))
            if digest(tree) == about.get("sha256"):
                return tree, about
        except Exception:  # Orbax has no error of its own for a file that is cut off or half deleted
            damaged = True
        else:
            damaged = False
        if damaged:  # once the exception is gone, so are the tasks that it holds
            time.sleep(0.1)
            gc.collect()
    return None


@contextlib.contextmanager
def _muted() -> Iterator[None]:
    """Nothing that Orbax tells of a damaged step reaches the terminal.

    It tells of damage in its own log and in asyncio's, which are filtered, and by exceptions in tasks that
    outlive the failed read. Python hands those to `sys.unraisablehook`, of which a process has one: it is
    exchanged for as long as a read takes, and a lock keeps two threads from restoring each other's.
    """
    with _READS, _filtered("absl", "asyncio", least=logging.CRITICAL + 1):
        hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
        try:
            yield
        finally:
            sys.unraisablehook = hook


@contextlib.contextmanager
def _filtered(*names: str, least: int) -> Iterator[None]:
    """The logs of these names show only what has the level `least` or a higher one."""

    def shows(record: logging.LogRecord) -> bool:
        return record.levelno >= least

    for name in names:
        logging.getLogger(name).addFilter(shows)
    try:
        yield
    finally:
        for name in names:
            logging.getLogger(name).removeFilter(shows)


class Saver:
    """Saves in the background, as often as it costs less than a twentieth of the time.

    `last` is the round of the newest checkpoint on the disk, None if there is none.
    """

    def __init__(self, checkpoints: ocp.training.Checkpointer, last: int | None):
        self.checkpoints, self.last, self.pending, self.cost = checkpoints, last, None, 0.0

    def is_due(self, seconds: float) -> bool:
        """Whether saving again costs little of the `seconds` that the process has run."""
        return self.cost <= 0.05 * seconds

    def save(self, round: int, state: PyTree, about: dict[str, Any]) -> None:
        """Start saving the state after `round` rounds, once the save before it has ended."""
        self.wait()
        started = time.perf_counter()
        self.pending, self.last = save(self.checkpoints, round, state, about), round
        self.cost += time.perf_counter() - started

    def wait(self) -> None:
        """Until the save that was started, if any, is on the disk."""
        pending, self.pending = self.pending, None
        if pending is not None:
            started = time.perf_counter()
            pending.result()
            self.cost += time.perf_counter() - started


def to_safetensors(params: PyTree, metadata: dict[str, str]) -> bytes:
    """Parameters as a safetensors file, {path with slashes: array}."""
    flat = {
        _name(path): np.asarray(leaf, order="C") for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }
    return save_arrays(flat, metadata)


def from_safetensors(path: Path, like: PyTree) -> PyTree:
    """The inverse of `to_safetensors`: a tree of the structure and shapes of `like`.

    Raises:
      InputError: the file is missing or damaged, or has other arrays.
    """
    try:
        flat = load_arrays(path.read_bytes())
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    if {name: array.shape for name, array in flat.items()} != _shapes(like):
        raise InputError(f"{path}: its arrays are not those of the network")
    return jax.tree_util.tree_map_with_path(lambda keys, _: flat[_name(keys)], like)


def digest(tree: PyTree) -> str:
    """SHA-256 of every array's path, shape, type and bytes."""
    sha = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.asarray(leaf)
        sha.update(f"{_name(path)}{array.shape}{array.dtype}".encode() + array.tobytes())
    return sha.hexdigest()


def _to_host(x: Any) -> np.ndarray:
    if isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        x = jax.random.key_data(x)
    return np.array(x)


def _from_host(x: np.ndarray, like: Any) -> jax.Array:
    if isinstance(like, jax.Array) and jnp.issubdtype(like.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(jnp.asarray(x), impl=jax.random.key_impl(like))
    return jnp.asarray(x, like.dtype)


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _shapes(tree: PyTree) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {_name(path): tuple(leaf.shape) for path, leaf in leaves if hasattr(leaf, "shape")}
