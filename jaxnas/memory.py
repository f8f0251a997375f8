"""Architectures and what came of them, as arrays: a ring that overwrites its oldest row once it is full.

Shapes: M rows, T decisions. Free rows hold −1, which no architecture has.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnas.types import PyTree


class Memory(NamedTuple):
    """The last M rows written."""

    arch: jax.Array  # int32 [M, T]
    values: PyTree  # leaves [M, ...]
    written: jax.Array  # int32 [] rows ever written; with `push_best`, rows in use


def empty(capacity: int, num_steps: int, values: PyTree = ()) -> Memory:
    """A memory of `capacity` rows, each to hold an architecture and something like `values`."""
    rows = jax.tree.map(lambda v: jnp.zeros((capacity, *v.shape), v.dtype), values)
    return Memory(jnp.full((capacity, num_steps), -1, jnp.int32), rows, jnp.zeros((), jnp.int32))


def filled(memory: Memory) -> jax.Array:  # → int32 []
    """How many rows are in use."""
    return jnp.minimum(memory.written, memory.arch.shape[0])


def find(memory: Memory, arch: jax.Array) -> tuple[jax.Array, jax.Array]:  # [T] → bool [], int32 []
    """Whether an architecture is remembered, and a row that has it."""
    same = jnp.all(memory.arch == arch[None, :], axis=-1)
    return jnp.any(same), jnp.argmax(same).astype(jnp.int32)


def push(memory: Memory, arch: jax.Array, values: PyTree, keep: jax.Array) -> Memory:  # [T], …, bool []
    """Write a row, unless `keep` is False."""
    capacity = memory.arch.shape[0]
    row = jnp.where(keep, memory.written % capacity, capacity)  # the row after the last is dropped
    rows, new = (memory.arch, memory.values), (arch.astype(jnp.int32), values)
    arch, values = jax.tree.map(lambda m, v: m.at[row].set(v, mode="drop"), rows, new)
    return Memory(arch, values, memory.written + keep.astype(jnp.int32))


def push_best(memory: Memory, arch: jax.Array, value: jax.Array, keep: jax.Array) -> Memory:  # [T], [], []
    """Write a row where it makes the memory the M distinct architectures of the highest values so far.

    `values` is one float a row. An architecture has the best value that it ever came with, so what the
    memory holds does not depend on the order in which rows come; of equal values the earlier stays.
    """
    capacity = memory.arch.shape[0]
    known, same = find(memory, arch)
    is_full = memory.written >= capacity
    row = jnp.where(known, same, jnp.where(is_full, jnp.argmin(memory.values), memory.written))
    is_new = ~known & ~is_full
    keep = keep & (is_new | (value > memory.values[jnp.minimum(row, capacity - 1)]))
    row = jnp.where(keep, row, capacity)  # the row after the last is dropped
    return Memory(
        memory.arch.at[row].set(arch.astype(jnp.int32), mode="drop"),
        memory.values.at[row].set(value, mode="drop"),
        memory.written + (keep & is_new).astype(jnp.int32),
    )


def sample_rows(
    key: jax.Array, memory: Memory, n: int
) -> tuple[jax.Array, PyTree]:  # → [n, T], leaves [n, ...]
    """n rows of a memory, uniform with replacement; the memory has one at least."""
    rows = jax.random.randint(key, (n,), 0, jnp.maximum(filled(memory), 1))
    return jax.tree.map(lambda x: x[rows], (memory.arch, memory.values))


def repeats(arch: jax.Array) -> tuple[jax.Array, jax.Array]:  # [B, T] → bool [B], int32 [B]
    """Which rows of a batch equal an earlier one, and the first row that each one equals: itself if new."""
    same = jnp.all(arch[:, None, :] == arch[None, :, :], axis=-1)
    first = jnp.argmax(same, axis=-1).astype(jnp.int32)
    return first != jnp.arange(len(arch)), first
