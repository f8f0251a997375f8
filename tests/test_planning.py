"""The exact planner against enumeration, by-hand values, and spaces it has to refuse."""

import itertools

import numpy as np
import pytest

from jaxnas import masks, planning
from jaxnas.errors import InputError
from jaxnas.spaces import blocks
from tests.helpers import FORBID, chain


def test_exhaustive_by_hand():
    # Words of 1 or 2 letters a, b, c without cc; a word's reward: its letters' places, minus 3 for "cb".
    def reward(archs):
        return archs.sum(-1) - 3.0 * (archs == [3, 2]).all(-1)

    best = planning.exhaustive(chain(2), reward)
    assert (best.arch.tolist(), best.reward) == ([2, 3], 5)
    assert best.q([]).tolist() == [-np.inf, 4, 5, 4]  # ac; bc; ca
    assert best.q([3]).tolist() == [3, 4, 2, -np.inf]
    assert best.q([2]).tolist() == [2, 3, 4, 5]


def test_a_failed_architecture_is_never_best():
    def reward(archs):
        return np.where(archs[:, 0] == 3, np.nan, archs.sum(-1))

    best = planning.exhaustive(chain(2), reward)
    assert best.arch.tolist() == [2, 3]
    assert best.q([])[3] == -np.inf
    with pytest.raises(InputError, match="none of its 11 architectures has a reward"):
        planning.exhaustive(chain(2), lambda archs: np.full(len(archs), np.nan))


def chain_return(arch, reward, discount):
    """Σ γ^t r(s, a) of a word of the chain, states being 4 × depth + last."""
    total, last = 0.0, 0
    for t, choice in enumerate(arch):
        total += discount**t * reward[4 * t + last, choice]
        if choice == 0:
            break
        last = choice
    return total


@pytest.mark.parametrize("discount", [1.0, 0.8])
def test_value_iteration_finds_the_best_walk(discount):
    space = chain(3)
    reward = np.random.default_rng(0).normal(size=(space.num_states, 4))
    values = planning.value_iteration(space, reward, discount=discount)
    best = planning.exhaustive(space, lambda a: np.array([chain_return(x, reward, discount) for x in a]))
    np.testing.assert_array_equal(values.arch, best.arch)
    np.testing.assert_allclose(values.value, best.reward)
    np.testing.assert_allclose(values.q[0][1:], best.q([])[1:])
    assert np.isnan(values.q[0, 0])  # empty words are illegal
    assert np.isnan(values.q[4 * 3 :]).all()  # after the last decision there is none


def test_values_under_exploration_by_hand():
    # One letter, then stop or a second letter: worth 1 if it is b, else 0.
    space, reward = chain(2), np.zeros((12, 4))
    reward[4:8, 2] = 1
    values = planning.value_iteration(space, reward, epsilon=0.3)
    # After a or b four choices, after c three: V = 0.7 + 0.3/4, 0.7 + 0.3/3.
    np.testing.assert_allclose(values.q[0][1:], [0.775, 0.775, 0.8])
    np.testing.assert_allclose(values.value, 0.7 * 0.8 + 0.1 * (0.775 + 0.775 + 0.8))


def test_states_that_do_not_decide_what_follows():
    # The state of a block forgets the one before it, on which this rule depends.
    space = blocks(num_blocks=2, forbid=({"filters_1": 16, "filters_2": 16},))
    with pytest.raises(InputError, match=r"does not decide what follows.*from decision 'filters_2'"):
        planning.value_iteration(space, np.zeros((space.num_states, 4)))
    allowed = blocks(num_blocks=2, forbid=FORBID)
    reward = np.random.default_rng(1).normal(size=(allowed.num_states, 4))
    values = planning.value_iteration(allowed, reward)
    masks.check(allowed, values.arch[None])
    assert np.isfinite(values.value)


def test_a_space_too_large_to_try():
    with pytest.raises(InputError, match="more than 10 architectures"):
        planning.exhaustive(chain(4), lambda a: a.sum(-1), limit=10)


def test_the_size_of_the_chain():
    words = [w for n in (1, 2) for w in itertools.product((1, 2, 3), repeat=n) if w != (3, 3)]
    assert len(words) == chain(2).size == 11
