"""Results that were measured before, looked up in a CSV file: a benchmark table, or trials of a search.

The column `architecture` holds the space's notation; every other column of numbers is a measure. Several
rows of one architecture are repeats, of which the child's key picks one.
"""

import csv
import gzip
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.errors import InputError
from jaxnas.types import NOT_IN_TABLE, OK, Evaluator, PyTree, Space


def table(space: Space, *, path: str = "") -> Evaluator:
    """Looks architectures up in the CSV file at `path` (plain or .gz); an absent one is a failed child.

    Args:
      path: the CSV file.

    Raises:
      InputError: no such file, no `architecture` column, no measure, a row that the space cannot parse.
    """
    archs, columns = read(space, Path(path))
    words = _pack(archs, space.num_choices)  # [R, W]
    order = np.lexsort(words.T[::-1])
    rows = jnp.asarray(words[order])
    measures = {name: jnp.asarray(values[order], jnp.float32) for name, values in columns.items()}

    def lookup(key: jax.Array, arch: jax.Array) -> dict[str, jax.Array]:  # [T] →
        wanted = _pack(arch[None, :], space.num_choices, jnp)[0]
        first, end = _bound(rows, wanted, inclusive=False), _bound(rows, wanted, inclusive=True)
        row = jax.random.randint(key, (), first, jnp.maximum(end, first + 1))
        found = end > first
        row = jnp.minimum(row, rows.shape[0] - 1)
        values = {name: jnp.where(found, values[row], jnp.nan) for name, values in measures.items()}
        return {**values, "status": jnp.where(found, OK, NOT_IN_TABLE).astype(jnp.int32)}

    def evaluate(keys: jax.Array, state: PyTree, arch: jax.Array) -> tuple[PyTree, dict[str, jax.Array]]:
        return state, jax.vmap(lookup)(keys, arch)

    return Evaluator(lambda key: (), evaluate, weights=None, measures=tuple(measures), jittable=True)


def read(space: Space, path: Path) -> tuple[np.ndarray, dict[str, np.ndarray]]:  # → int32 [R, T], {[R]}
    """Host: the architectures and measures of a table, failed rows (an empty measure) left out."""
    if not path.is_file():
        raise InputError(f"evaluator.path: no file {str(path)!r}; it takes a CSV file")
    open_text = gzip.open if path.suffix == ".gz" else open
    with open_text(path, "rt", newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    if not lines or "architecture" not in lines[0]:
        raise InputError(f"{path}: needs a header with a column 'architecture' and at least one row")
    if any(None in line for line in lines):
        raise InputError(f"{path}: a row has more fields than the header has columns")
    skip = {"architecture", "trial", "round", "reward", "reused", "status", "reason", *space.decisions}
    names = [n for n in lines[0] if n not in skip and _is_number(lines[0][n])]
    if not names:
        raise InputError(f"{path}: has no column of numbers beside {', '.join(lines[0])}")
    lines = [line for line in lines if all(line[n] for n in names)]
    if not lines:
        raise InputError(f"{path}: every row lacks one of {', '.join(names)}")
    try:
        archs = np.stack([space.parse(line["architecture"]) for line in lines])
        columns = {n: np.array([float(line[n]) for line in lines], np.float32) for n in names}
    except (InputError, ValueError, TypeError) as error:
        raise InputError(f"{path}: {error}") from None
    return archs, columns


def _is_number(text: str | None) -> bool:
    try:
        return text is not None and (text == "" or float(text) is not None)
    except ValueError:
        return False


def _pack(arch, num_choices: int, xp=np):  # [R, T] → uint32 [R, W], the same order, 30 bits a word
    bits = max(1, (num_choices - 1).bit_length())
    per_word = 30 // bits
    words = []
    for start in range(0, arch.shape[1], per_word):
        word = xp.zeros(arch.shape[0], xp.uint32)
        for column in range(start, min(start + per_word, arch.shape[1])):
            word = (word << xp.uint32(bits)) | arch[:, column].astype(xp.uint32)
        words.append(word)
    return xp.stack(words, axis=-1)


def _bound(rows: jax.Array, wanted: jax.Array, *, inclusive: bool) -> jax.Array:  # [R, W], [W] → int32 []
    """How many of the sorted rows are below `wanted`, or at most it, by bisection."""

    def halve(_: int, span: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = span
        middle = (low + high) // 2
        row = rows[jnp.minimum(middle, rows.shape[0] - 1)]
        differs = row != wanted
        at = jnp.argmax(differs)  # the first word that differs decides
        before = jnp.where(jnp.any(differs), row[at] < wanted[at], inclusive)
        inside = low < high
        return jnp.where(inside & before, middle + 1, low), jnp.where(inside & ~before, middle, high)

    span = (jnp.zeros((), jnp.int32), jnp.full((), rows.shape[0], jnp.int32))
    return jax.lax.fori_loop(0, rows.shape[0].bit_length(), halve, span)[0]
