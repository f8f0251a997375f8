"""A memory of architectures: what is found, what is overwritten, what a batch repeats."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

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


push_best = jax.jit(memory.push_best)


def best_of(rows, capacity=3):
    """What a memory of the best holds after pushes of (architecture, value, keep)."""
    it = memory.empty(capacity, 2, jnp.zeros(()))
    for arch, value, keep in rows:
        it = push_best(it, jnp.array(arch), jnp.float32(value), jnp.array(keep))
    n = int(memory.filled(it))
    assert (np.asarray(it.arch[n:]) == -1).all()
    held = {tuple(a): float(v) for a, v in zip(it.arch[:n].tolist(), it.values[:n], strict=True)}
    assert len(held) == n  # distinct
    return held


def test_the_best_rows_by_hand():
    rows = [([0, 1], -3, True), ([2, 2], -1, True), ([1, 1], 9, False), ([1, 0], -2, True)]
    assert best_of(rows) == {(0, 1): -3, (2, 2): -1, (1, 0): -2}
    # A better one takes the place of the worst, a worse and an equal one do not.
    assert best_of([*rows, ([3, 3], 1, True)]) == {(3, 3): 1, (2, 2): -1, (1, 0): -2}
    assert best_of([*rows, ([3, 3], -3, True)]) == best_of([*rows, ([3, 3], -4, True)]) == best_of(rows)
    # A known one takes no second row, and keeps its best value.
    assert best_of([*rows, ([2, 2], 5, True)]) == {(0, 1): -3, (2, 2): 5, (1, 0): -2}
    assert best_of([*rows, ([2, 2], -2.5, True)]) == best_of(rows)
    assert best_of([([0, 1], 1, True), ([0, 1], 2, True)]) == {(0, 1): 2}
    assert push_best._cache_size() == 1


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(-9, 9), st.booleans()), max_size=25))
def test_the_best_rows_are_those_of_all_whatever_the_order(trials):
    rows = [([n, n % 2], value, keep) for n, value, keep in trials]
    best = {}
    for arch, value, keep in rows:
        if keep:
            best[tuple(arch)] = max(best.get(tuple(arch), -np.inf), value)
    held = best_of(rows)
    assert sorted(held.values()) == sorted(best.values())[-3:]
    assert held.items() <= best.items()
    assert sorted(best_of(rows[::-1]).values()) == sorted(held.values())


def test_replayed_rows_are_uniform_over_what_is_there():
    it = memory.empty(8, 1, jnp.zeros(()))
    for i in range(3):
        it = memory.push(it, jnp.array([i]), jnp.float32(10 * i), jnp.array(True))
    archs, rewards = memory.sample_rows(jax.random.key(0), it, 3000)
    np.testing.assert_array_equal(rewards, 10 * np.asarray(archs)[:, 0])
    np.testing.assert_allclose(np.bincount(archs[:, 0], minlength=4) / 3000, [1 / 3] * 3 + [0], atol=0.03)
