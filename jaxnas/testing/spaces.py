"""What every space promises."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas import masks
from jaxnas.errors import InputError
from jaxnas.testing.promises import build, difference, first_line, promise, quick_jit, shapes
from jaxnas.types import Space


class _Seen(NamedTuple):
    """What a space says of a walk, before each of T decisions and after the last: [N, T+1, …]."""

    legal: Any  # bool [N, T+1, A]
    done: Any  # bool [N, T+1]
    state: Any  # int32 [N, T+1]
    observed: Any  # float32 [N, T+1, F]


def check_space(
    space: Space | Callable[[], Space], *, walks: int = 256, enumerate_up_to: int = 20_000, seed: int = 0
) -> None:
    """Tests a space: its walks, its notation and its size.

    Args:
      space: a Space, or a function without arguments that makes one.
      walks: random architectures to try.
      enumerate_up_to: a space of at most so many architectures is counted, which takes a program a decision.
      seed: of the random architectures.

    Raises:
      AssertionError: says in one line which promise is broken.
    """
    space = build(space, Space)
    _check_shapes(space)
    archs = quick_jit(jax.vmap(lambda key: masks.sample(key, space)))(
        jax.random.split(jax.random.key(seed), walks)
    )
    archs = np.asarray(archs)
    _check_walks(space, archs, follow(space, archs))
    different = np.unique(archs, axis=0)
    _check_notation(space, different[:64])
    promise(
        space.size >= len(different),
        f"size: {space.size}, but {len(different)} different legal architectures were drawn",
    )
    if space.size <= enumerate_up_to:
        every = masks.every(space, enumerate_up_to)
        number = "more" if every is None else len(every)
        promise(number == space.size, f"size: {space.size}, but enumeration finds {number} architectures")


def follow(space: Space, archs: Any) -> _Seen:  # int32 [N, T]
    """What the space says along some architectures, and after their last decision."""

    def along(arch: jax.Array) -> _Seen:
        def decide(walk: Any, choice: jax.Array) -> tuple[Any, _Seen]:
            seen = _Seen(space.mask(walk), space.done(walk), space.state(walk), space.observe(walk))
            return space.step(walk, choice), seen

        return jax.lax.scan(decide, space.start, jnp.append(arch, jnp.int32(0)))[1]

    return jax.tree.map(np.asarray, quick_jit(jax.vmap(along))(jnp.asarray(archs, jnp.int32)))


def _check_shapes(space: Space) -> None:
    T, A = space.num_steps, space.num_choices
    promise(isinstance(T, int) and T > 0, f"num_steps: it is {T!r}; it takes an integer above 0")
    promise(isinstance(A, int) and A > 0, f"num_choices: it is {A!r}; it takes an integer above 0")
    promise(
        len(space.decisions) == len(set(space.decisions)) == T,
        f"decisions: {len(set(space.decisions))} different names for {T} decisions",
    )
    try:
        hash(space.settings)
    except TypeError as error:
        raise AssertionError(f"settings: they have to be hashable: {error}") from None
    for leaf in jax.tree.leaves(space.start):
        promise(hasattr(leaf, "dtype"), f"start: its leaves are arrays, and {leaf!r} is none")
    before = jax.tree.map(lambda x: jax.ShapeDtypeStruct(jnp.shape(x), x.dtype), space.start)
    after = shapes("step", space.step, space.start, jnp.int32(0))
    after = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), after)
    promise(before == after, f"step: the walk's shapes and dtypes never change; {before} became {after}")
    for name, shape, dtype in (("mask", (A,), jnp.bool), ("done", (), jnp.bool), ("state", (), jnp.int32)):
        given = shapes(name, getattr(space, name), space.start)
        promise(
            (given.shape, given.dtype) == (shape, dtype),
            f"{name}: it is {given.dtype} {list(given.shape)}; it takes {jnp.dtype(dtype)} {list(shape)}",
        )
    observed = shapes("observe", space.observe, space.start)
    promise(
        observed.ndim == 1 and observed.dtype == jnp.float32,
        f"observe: it is {observed.dtype} {list(observed.shape)}, and should be float32 [F]",
    )


def _check_walks(space: Space, archs: np.ndarray, seen: _Seen) -> None:
    def first(bad: np.ndarray) -> str:  # bool [N, T+1]
        row, t = np.argwhere(bad)[0] if bad.any() else (0, 0)
        return f"after {archs[row][:t].tolist()}"

    stuck = ~seen.legal.any(-1)
    promise(not stuck.any(), f"mask: no choice is left {first(stuck)}; some choice is always legal")
    promise(not seen.done[:, 0].any(), "done: the walk is over before any decision")
    promise(seen.done[:, -1].all(), f"done: the walk is not over {first(~seen.done & _last(seen.done))}")
    revived = np.pad(seen.done[:, :-1] & ~seen.done[:, 1:], ((0, 0), (1, 0)))
    promise(not revived.any(), f"done: a walk that was over goes on {first(revived)}")
    padding = np.arange(space.num_choices) == 0
    wrong = seen.done & (seen.legal != padding).any(-1)
    promise(not wrong.any(), f"mask: once a walk is over choice 0 alone is legal; others are {first(wrong)}")
    outside = (seen.state < 0) | (seen.state >= space.num_states)
    number = seen.state[outside][0] if outside.any() else 0
    promise(
        not outside.any(),
        f"state: {number} {first(outside)}; it lies from 0 to num_states − 1 = {space.num_states - 1}",
    )
    infinite = ~np.isfinite(seen.observed).all(-1)
    promise(not infinite.any(), f"observe: a number that is not finite {first(infinite)}")


def _last(rows: np.ndarray) -> np.ndarray:
    return np.arange(rows.shape[1]) == np.full(rows.shape, rows.shape[1] - 1)


def _check_layers(space: Space, arch: np.ndarray) -> None:
    try:
        parts = space.layers(arch)
    except InputError:  # the space does not say what its layers are
        return
    promise(isinstance(parts, tuple), f"layers: it gave {type(parts).__name__}; it takes a tuple of parts")
    try:
        same = hash(parts) == hash(space.layers(arch)) and parts == space.layers(arch)
    except TypeError as error:
        raise AssertionError(f"layers: the parts have to be hashable: {error}") from None
    promise(same, f"layers: asked twice for {arch.tolist()}, the parts differ")


def _check_notation(space: Space, archs: np.ndarray) -> None:
    for arch in archs:
        text = space.describe(arch)
        promise(isinstance(text, str), f"describe: it gave {type(text).__name__} for {arch.tolist()}")
        try:
            parsed = space.parse(text)
        except InputError as error:
            raise AssertionError(f"parse: it refuses {text!r}, which describe gave: {error}") from None
        changed = difference(arch, parsed)
        promise(
            not changed,
            f"parse: {text!r} is {arch.tolist()} as int32, and parse gives {np.asarray(parsed).tolist()} "
            f"as {np.asarray(parsed).dtype}",
        )
        _check_layers(space, arch)
        names = tuple(space.decode(arch))
        promise(
            names == space.decisions, f"decode: its keys are {names}, and the decisions {space.decisions}"
        )
    for text in ("", "no such architecture"):
        try:
            space.parse(text)
        except InputError:
            continue
        except Exception as error:
            raise AssertionError(
                f"parse: {text!r} takes an InputError, and raises {first_line(error)}"
            ) from error
        raise AssertionError(f"parse: {text!r} is no architecture, and parse accepts it")
