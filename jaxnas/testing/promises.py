"""What the checks share: a promise and its message, and comparisons of trees to the bit."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.types import PyTree

# Compiles fast. What is compared to the bit below comes from one and the same program.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

Part = TypeVar("Part")


def promise(kept: Any, broken: str) -> None:
    """Raise an AssertionError that says in one line which promise is broken, unless it is kept."""
    if not kept:
        raise AssertionError(broken)


def build(part: Part | Callable[..., Part], kind: type[Part], *arguments: Any) -> Part:
    """The part itself, or what its factory makes of the arguments."""
    built: Any = part if isinstance(part, kind) else part(*arguments)  # type: ignore[reportCallIssue]
    promise(isinstance(built, kind), f"the factory gives a {kind.__name__}: it gave {type(built).__name__}")
    return built


def shapes(where: str, function: Callable, *arguments: Any) -> Any:
    """The shapes and dtypes that a traced function gives; an error of its own says where it arose."""
    try:
        return jax.eval_shape(function, *arguments)
    except Exception as error:
        raise AssertionError(f"{where}: JAX cannot trace it: {first_line(error)}") from error


def programs(compiled: Any) -> int:
    """How many programs a jitted function has compiled so far."""
    return compiled._cache_size()


def first_line(error: Exception) -> str:
    """An exception as one line."""
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"


def is_key(leaf: Any) -> bool:
    """Whether an array holds typed PRNG keys."""
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def to_numpy(tree: PyTree) -> PyTree:
    """The leaves as numpy arrays, typed keys as their data."""
    return jax.tree.map(lambda x: np.asarray(jax.random.key_data(x) if _is_typed(x) else x), tree)


def from_numpy(arrays: PyTree, like: PyTree) -> PyTree:
    """The inverse of `to_numpy`: typed keys where `like` has them."""
    return jax.tree.map(
        lambda x, y: jax.random.wrap_key_data(jnp.asarray(x)) if _is_typed(y) else jnp.asarray(x),
        arrays,
        like,
    )


def difference(first: PyTree, second: PyTree) -> str:
    """Where two trees differ in structure, dtype, shape or bits; empty where nowhere. NaN equals NaN."""
    first, second = to_numpy(first), to_numpy(second)
    if jax.tree.structure(first) != jax.tree.structure(second):
        return f"{jax.tree.structure(first)} became {jax.tree.structure(second)}"
    for (path, x), y in zip(jax.tree.leaves_with_path(first), jax.tree.leaves(second), strict=True):
        name = jax.tree_util.keystr(path) or " array"
        if (x.dtype, x.shape) != (y.dtype, y.shape):
            return f"{name} was {x.dtype} {list(x.shape)} and became {y.dtype} {list(y.shape)}"
        if not np.array_equal(x, y, equal_nan=x.dtype.kind == "f"):
            return f"{name} differs"
    return ""


def floats(tree: PyTree) -> list[np.ndarray]:
    """The leaves that hold floating-point numbers."""
    return [np.asarray(x) for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)]


def not_finite(tree: PyTree) -> str:
    """The name of the first leaf with a NaN or an infinity; empty where there is none."""
    for path, leaf in jax.tree.leaves_with_path(to_numpy(tree)):
        if leaf.dtype.kind == "f" and not np.isfinite(leaf).all():
            return jax.tree_util.keystr(path) or " array"
    return ""


def _is_typed(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and is_key(leaf)
