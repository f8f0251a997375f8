"""ε-greedy choices over tables and the transitions of a walk, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas import masks, tabular
from jaxnas.errors import InputError
from tests.helpers import chain


def epsilons(unique, *schedule):
    at = tabular.epsilon_schedule(*schedule)
    return [round(float(at(jnp.int32(u))), 6) for u in unique]


def test_the_epsilon_schedule_by_hand():
    # MetaQNN's table 2: 1,500 unique networks at 1.0, 100 each at 0.9, 0.8, 0.7, then 150 each down to 0.1.
    metaqnn = (tabular.METAQNN_EPSILON, tabular.METAQNN_NETWORKS)
    assert sum(tabular.METAQNN_NETWORKS) == 2700
    ends = (0, 1499, 1500, 1599, 1600, 1799, 1800, 2549, 2550, 2699, 10_000)
    assert epsilons(ends, *metaqnn) == [1, 1, 0.9, 0.9, 0.8, 0.7, 0.6, 0.2, 0.1, 0.1, 0.1]
    # A tenth of it is DLMAIRIL's: 150, 10, 10, 10, then 15 each.
    assert epsilons((149, 150, 159, 160, 180, 195), *metaqnn, 270) == [1, 0.9, 0.9, 0.8, 0.6, 0.5]
    # 2, 1 scaled to 2: stages end after 4/3 and 2, rounded 1 and 2.
    assert epsilons((0, 1, 2, 9), (0.5, 0.25), (2, 1), 2) == [0.5, 0.25, 0.25, 0.25]
    assert epsilons((0, 9), (0.3,), (1,)) == [0.3, 0.3]


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (((), ()), r"controller.epsilon: got \[\]; it takes numbers in \[0, 1\], at least one"),
        (((1.5,), (1,)), r"controller.epsilon: got \[1.5\]"),
        (((1.0, 0.5), (3,)), r"controller.epsilon_networks: got \[3\]; it takes .* for each of the 2 values"),
        (((1.0,), (0,)), r"controller.epsilon_networks: got \[0\]"),
        (((1.0,), (3,), 0), r"controller.epsilon_total: got 0"),
    ],
)
def test_a_wrong_schedule(schedule, message):
    with pytest.raises(InputError, match=message):
        tabular.epsilon_schedule(*schedule)


def test_epsilon_greedy_by_hand():
    # Choice 3 is the highest but illegal; 0 and 2 share the best legal value.
    q = jnp.array([[2.0, 1.0, 2.0, 9.0], [-5.0, -6.0, -7.0, 0.0]])
    legal = jnp.array([[True, True, True, False]] * 2)
    np.testing.assert_array_equal(
        tabular.best_choices(q, legal), [[True, False, True, False], [True, False, False, False]]
    )
    # ε = 0.3: 0.1 for each of three, 0.7 shared by the best.
    probabilities = tabular.epsilon_greedy(q, legal, jnp.float32(0.3))
    np.testing.assert_allclose(probabilities, [[0.45, 0.1, 0.45, 0], [0.8, 0.1, 0.1, 0]], rtol=1e-6)


def test_behaviour_is_epsilon_greedy_with_ties_broken_at_random():
    space = chain(2)
    q = jnp.zeros((space.num_states, 4)).at[0].set(jnp.array([9.0, 1.0, 1.0, 0.0]))  # 0 is illegal at first
    keys = jax.random.split(jax.random.key(0), 4000)
    archs = jax.jit(jax.vmap(lambda key: tabular.behave(key, space, q, jnp.float32(0.3))))(keys)
    counts = np.bincount(np.asarray(archs)[:, 0], minlength=4) / 4000
    np.testing.assert_allclose(counts, [0, 0.45, 0.45, 0.1], atol=0.03)  # 0.008 is one standard deviation
    masks.check(space, archs)


def test_transitions_by_hand():
    # States of a chain of 4: 4 × depth + last. b then stop: state 0, then 4 + 2 = 6, then the walk is over.
    steps = tabular.transitions(chain(4), jnp.array([2, 0, 0, 0]), jnp.array([0.0, 0.5, 0.0, 0.0]))
    np.testing.assert_array_equal(steps.live, [True, True, False, False])
    np.testing.assert_array_equal(steps.goes_on, [True, False, False, False])
    np.testing.assert_array_equal(steps.state[:2], [0, 6])
    np.testing.assert_array_equal((steps.next_state[0], steps.next_choice[0]), (6, 0))
    np.testing.assert_array_equal(steps.next_legal[0], [True] * 4)
    # a, b, c, a lives to the end: its last decision is followed by nothing, not by the first state.
    whole = tabular.transitions(chain(4), jnp.array([1, 2, 3, 1]), jnp.zeros(4))
    np.testing.assert_array_equal(whole.goes_on, [True, True, True, False])
    np.testing.assert_array_equal(whole.next_legal[2], [True, True, True, False])  # never c after c
