"""Results that were measured before, looked up in a CSV file: a benchmark table, or trials of a search.

The column `architecture` holds the space's notation; every other column of numbers is a measure. Several
rows of one architecture are repeats, of which the child's key picks one.

Suits comparisons over many seeds: a search takes seconds once its table is measured.
"""

import csv
import gzip
from collections.abc import Callable
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.errors import InputError, unknown
from jaxnas.types import NOT_IN_TABLE, OK, Evaluator, PyTree, Space

SHIPPED = Path(__file__).parent / "tables"
MOST_NUMBERS = 2**20  # up to here every sequence of choices has a place in an array of its own
Span = Callable[[jax.Array], tuple[jax.Array, jax.Array]]  # arch [T] → its sorted rows, first [] and end []


def table(space: Space, *, path: str = "", accuracy: str = "", percent: bool = False) -> Evaluator:
    """Looks architectures up in a CSV file; an absent one is a failed child.

    Args:
      path: the CSV file, plain or .gz; a name without a suffix is a table that comes with jaxnas.
      accuracy: the column that becomes the measure `accuracy`, by default the one of that name; the others
        keep their names.
      percent: columns with `acc` in their name are in percent, and are divided by 100.

    Raises:
      InputError: no such file or column, no `architecture` column, no measure, a row that the space cannot
        parse, an accuracy outside 0–1.
    """
    file = find(path)
    archs, columns = read(space, file)
    columns = _named(columns, file, accuracy, percent)
    words = _pack(archs, space.num_choices)  # [R, W]
    order = np.lexsort(words.T[::-1])
    words = words[order]
    has_repeats = bool((words[1:] == words[:-1]).all(axis=-1).any())
    measures = {name: jnp.asarray(values[order], jnp.float32) for name, values in columns.items()}
    few = space.num_choices**space.num_steps <= MOST_NUMBERS
    span = _by_number(space, archs) if few else _by_bisection(space, words)

    def lookup(key: jax.Array, arch: jax.Array) -> dict[str, jax.Array]:  # [T] →
        row, end = span(arch)
        is_known = end > row
        if has_repeats:
            row = jax.random.randint(key, (), row, jnp.maximum(end, row + 1))
        row = jnp.minimum(row, len(words) - 1)
        values = {name: jnp.where(is_known, values[row], jnp.nan) for name, values in measures.items()}
        return {**values, "status": jnp.where(is_known, OK, NOT_IN_TABLE).astype(jnp.int32)}

    def evaluate(keys: jax.Array, state: PyTree, arch: jax.Array) -> tuple[PyTree, dict[str, jax.Array]]:
        chex.assert_shape([keys, arch], [(len(arch),), (None, space.num_steps)])
        return state, jax.vmap(lookup)(keys, arch)

    return Evaluator(lambda key: (), evaluate, measures=tuple(measures), jittable=True)


def find(path: str) -> Path:
    """Host: the file of a table, of one that comes with jaxnas if `path` is a name without a suffix.

    Raises:
      InputError: no such file, or no table of that name.
    """
    if path and Path(path).name == path and not Path(path).suffix:
        names = [file.stem for file in SHIPPED.glob("*.csv")]
        if path not in names:
            raise unknown("evaluator.path", path, [*names, "FILE.csv", "FILE.csv.gz"])
        return SHIPPED / f"{path}.csv"
    if not Path(path).is_file():
        raise InputError(
            f"evaluator.path: no file {path!r}; it takes a CSV file or the name of a shipped table"
        )
    return Path(path)


def read(space: Space, path: Path) -> tuple[np.ndarray, dict[str, np.ndarray]]:  # → int32 [R, T], {[R]}
    """Host: the architectures and measures of a table; rows that lack a finite measure are left out.

    Raises:
      InputError: no `architecture` column, no measure, a row that the space cannot parse.
    """
    open_text = gzip.open if path.suffix == ".gz" else open
    with open_text(path, "rt", newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    if not lines or "architecture" not in lines[0]:
        raise InputError(f"{path}: needs a header with a column 'architecture' and at least one row")
    if any(None in line for line in lines):
        raise InputError(f"{path}: a row has more fields than the header has columns")
    skip = {"architecture", "index", "trial", "round", "reward", "reused", "status", "reason"}
    names = [n for n in lines[0] if n not in {*skip, *space.decisions} and _is_number(lines[0][n])]
    if not names:
        raise InputError(f"{path}: has no column of numbers beside {', '.join(lines[0])}")
    lines = [line for line in lines if all(line[n] for n in names)]
    try:
        columns = {n: np.array([float(line[n]) for line in lines]) for n in names}
        whole = np.flatnonzero(np.isfinite(list(columns.values())).all(axis=0))
        archs = [space.parse(lines[row]["architecture"]) for row in whole]
    except (InputError, ValueError, TypeError) as error:
        raise InputError(f"{path}: {error}") from None
    if not archs:
        raise InputError(f"{path}: every row lacks one of {', '.join(names)}")
    return np.stack(archs), {name: values[whole] for name, values in columns.items()}


def _named(columns: dict[str, np.ndarray], path: Path, accuracy: str, percent: bool) -> dict[str, np.ndarray]:
    """The columns as measures: percentages as fractions, one of them named `accuracy`."""
    if accuracy not in ("", *columns):
        raise unknown("evaluator.accuracy", accuracy, columns)
    if accuracy and accuracy != "accuracy" and "accuracy" in columns:
        raise InputError(f"evaluator.accuracy: got {accuracy!r}; {path} has a column 'accuracy' of its own")
    if percent:
        columns = {name: values / 100 if "acc" in name else values for name, values in columns.items()}
    columns = {"accuracy" if name == accuracy else name: values for name, values in columns.items()}
    for value in columns.get("accuracy", ()):
        if not 0 <= value <= 1:
            fix = "" if percent else "; if they are percentages, set evaluator.percent = true"
            raise InputError(f"{path}: found accuracy {value:g}; it takes numbers in 0–1{fix}")
    return columns


def _is_number(text: str | None) -> bool:
    try:
        return text is not None and (text == "" or float(text) is not None)
    except ValueError:
        return False


def _by_number(space: Space, archs: np.ndarray) -> Span:  # [R, T] →
    """Rows by the architecture's number, its choices read as digits: one look into an array."""
    weights = space.num_choices ** np.arange(space.num_steps)[::-1]
    counts = np.bincount(archs @ weights, minlength=space.num_choices**space.num_steps)
    starts = jnp.asarray(np.concatenate([[0], np.cumsum(counts)]), jnp.int32)
    digits = jnp.asarray(weights, jnp.int32)

    def span(arch: jax.Array) -> tuple[jax.Array, jax.Array]:
        number = jnp.sum(arch * digits)
        return starts[number], starts[number + 1]

    return span


def _by_bisection(space: Space, words: np.ndarray) -> Span:  # sorted [R, W] →
    """Rows by two bisections, where there are too many sequences of choices to number them."""
    rows = jnp.asarray(words)

    def span(arch: jax.Array) -> tuple[jax.Array, jax.Array]:
        wanted = _pack(arch[None, :], space.num_choices, jnp)[0]
        return _bound(rows, wanted, inclusive=False), _bound(rows, wanted, inclusive=True)

    return span


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
        word = jnp.argmax(differs)  # the first word that differs decides
        before = jnp.where(jnp.any(differs), row[word] < wanted[word], inclusive)
        inside = low < high
        return jnp.where(inside & before, middle + 1, low), jnp.where(inside & ~before, middle, high)

    span = (jnp.zeros((), jnp.int32), jnp.full((), rows.shape[0], jnp.int32))
    return jax.lax.fori_loop(0, rows.shape[0].bit_length(), halve, span)[0]
