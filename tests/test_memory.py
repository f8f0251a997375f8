"""A memory of architectures: what is found, what is overwritten, what a batch repeats."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas import memory


def pushed(rows, capacity=3):
    """A memory after pushes of (architecture, value, keep)."""
    push = jax.jit(memory.push)
    it = memory.empty(capacity, 2, {"value": jnp.zeros(())})
    for arch, value, keep in rows:
        it = push(it, jnp.array(arch), {"value": jnp.float32(value)}, jnp.array(keep))
    assert push._cache_size() <= 1
    return it


def found(it, arch):
    known, row = memory.find(it, jnp.array(arch))
    return float(it.values["value"][row]) if known else None


def test_an_empty_memory_knows_nothing():
    it = memory.empty(3, 2)
    assert not memory.find(it, jnp.array([0, 0]))[0]
    assert int(memory.filled(it)) == 0


def test_rows_are_kept_until_the_oldest_gives_way():
    rows = [([0, 1], 1, True), ([2, 2], 2, True), ([1, 1], 9, False), ([1, 0], 3, True)]
    it = pushed(rows)
    assert [found(it, a) for a in ([0, 1], [2, 2], [1, 0], [1, 1])] == [1, 2, 3, None]
    assert (int(memory.filled(it)), int(it.written)) == (3, 3)
    it = pushed([*rows, ([3, 3], 4, True)])
    assert [found(it, a) for a in ([0, 1], [2, 2], [1, 0], [3, 3])] == [None, 2, 3, 4]
    assert (int(memory.filled(it)), int(it.written)) == (3, 4)


def test_repeats_point_at_the_first():
    repeated, first = memory.repeats(jnp.array([[0, 1], [2, 0], [0, 1], [0, 1], [2, 0], [1, 0]]))
    np.testing.assert_array_equal(repeated, [False, False, True, True, True, False])
    np.testing.assert_array_equal(first, [0, 1, 0, 0, 1, 5])
