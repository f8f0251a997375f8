"""Evolution's tournament, mutation and death by hand; that it climbs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas import masks
from jaxnas.controllers import evolution
from jaxnas.errors import InputError
from jaxnas.rewards import outcome
from jaxnas.spaces import blocks
from jaxnas.types import Proposal
from tests.helpers import chain, play, quick_jit

# Three decisions of four, two and three choices.
SPACE = blocks()
ARCHS = jnp.array([[0, 0, 0], [1, 1, 1], [2, 0, 2], [3, 1, 0]])
NAN = float("nan")


def told(rewards, archs=ARCHS, **options):
    """The controller and its population after one round of these rewards."""
    controller = evolution(SPACE, batch_size=len(archs), **options)
    reward = jnp.zeros((len(archs), 3)).at[:, 2].set(jnp.array(rewards))
    tell = quick_jit(controller.tell)
    state, metrics = tell(
        jax.random.key(1), controller.init(jax.random.key(0)), Proposal(archs, ()), outcome(reward)
    )
    return controller, state, metrics


def asked(controller, state, keys=500):
    """Many rounds of children of one population. [N, T]"""
    found = quick_jit(jax.vmap(lambda k: controller.ask(k, state).arch))(
        jax.random.split(jax.random.key(2), keys)
    )
    return np.asarray(found).reshape(-1, 3)


def test_the_oldest_dies_and_failures_never_live():
    _, state, metrics = told([0.9, NAN, 0.2, 0.4], population_size=2)
    assert {tuple(a): float(r) for a, r in zip(state.arch.tolist(), state.values, strict=True)} == {
        (2, 0, 2): pytest.approx(0.2),
        (3, 1, 0): pytest.approx(0.4),
    }
    np.testing.assert_allclose([metrics["population_best"], metrics["population_mean"]], [0.4, 0.3])
    _, state, metrics = told([NAN] * 4, population_size=2)
    assert int(metrics["population"]) == 0
    assert float(metrics["population_best"]) == 0.0


def test_the_reward_is_the_sum_over_decisions():
    controller = evolution(SPACE, batch_size=1)
    reward = jnp.array([[0.5, 0.25, 1.0]])
    proposal = Proposal(ARCHS[:1], ())
    state, _ = controller.tell(
        jax.random.key(1), controller.init(jax.random.key(0)), proposal, outcome(reward)
    )
    assert float(state.values[0]) == 1.75


def test_random_until_the_population_is_full():
    controller, state, _ = told([0.9, NAN, 0.2, 0.4], population_size=4)  # three live
    counts = np.bincount(asked(controller, state) @ [6, 3, 1], minlength=24)
    assert (counts > 0).sum() == 24  # each architecture has its number: 6 f + 3 k + d
    np.testing.assert_allclose(counts / 2000, 1 / 24, atol=5 * np.sqrt(1 / 24 / 2000))


def test_a_child_is_one_mutation_from_the_winner():
    # With samples of 40 the best of four is missed with probability (3/4)^40 = 1e-5.
    controller, state, _ = told([0.1, 0.9, 0.2, 0.4], population_size=4, sample_size=40)
    children = asked(controller, state)
    differs = children != np.array([1, 1, 1])
    assert (differs.sum(-1) == 1).all()
    # The decision is uniform over the three, the choice over the 3, 1 and 2 others.
    for decision, others in enumerate([(0, 2, 3), (0,), (0, 2)]):
        mutants = children[differs[:, decision], decision]
        assert len(mutants) / 2000 == pytest.approx(1 / 3, abs=5 * np.sqrt(2 / 9 / 2000))
        for choice in others:
            share = (mutants == choice).mean()
            n = len(others)
            assert share == pytest.approx(1 / n, abs=5 * np.sqrt((n - 1) / n**2 / len(mutants)) + 1e-9)


def test_the_tournament_by_hand():
    # Two of four with replacement: the best wins with 1 − (3/4)² = 7/16, then 5/16, 3/16, 1/16.
    controller, state, _ = told([0.1, 0.9, 0.2, 0.4], population_size=4, sample_size=2)
    children = asked(controller, state, 2000)
    # A child that keeps its parent's filters (probability 2/3) or takes one of the other three (1/9 each):
    # P(filters = f) = 2/3 P(f) + 1/9 (1 − P(f)) = 1/9 + 5/9 P(f).
    wins = np.array([1, 7, 3, 5]) / 16
    shares = np.bincount(children[:, 0], minlength=4) / len(children)
    np.testing.assert_allclose(shares, 1 / 9 + 5 / 9 * wins, atol=5 * np.sqrt(0.25 / 8000))


def test_one_candidate_does_not_select():
    controller, state, _ = told([0.1, 0.9, 0.2, 0.4], population_size=4, sample_size=1)
    shares = np.bincount(asked(controller, state, 2000)[:, 0], minlength=4) / 8000
    np.testing.assert_allclose(shares, 1 / 4, atol=5 * np.sqrt(3 / 16 / 8000))


def test_the_policy_is_the_shares_of_the_population():
    archs = jnp.array([[1, 0, 0], [1, 1, 0], [2, 1, 0], [1, 1, 2]])
    controller, state, _ = told([0.1, 0.2, 0.3, 0.4], archs, population_size=4)
    arch, probabilities = controller.policy(state)
    assert arch.tolist() == [1, 1, 0]
    expected = [[0, 0.75, 0.25, 0], [0.25, 0.75, 0, 0], [0.75, 0, 0.25, 0]]
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    _, probabilities = controller.policy(controller.init(jax.random.key(0)))
    np.testing.assert_allclose(probabilities[0], 1 / 4, rtol=1e-6)


def test_it_climbs_where_depth_varies():
    space = chain(4)

    def reward(arch):  # as many 2s as possible
        return jnp.zeros(arch.shape).at[:, 0].set(jnp.mean(arch == 2, axis=-1, dtype=jnp.float32))

    _, (arch, metrics) = play(evolution(space, batch_size=4), reward, 60)
    masks.check(space, np.asarray(arch).reshape(-1, 4))
    assert float(metrics["population_best"].max()) == 1.0
    assert float(metrics["population_mean"][-20:].mean()) > 0.4  # of random ones 0.2


@pytest.mark.parametrize("option", ["batch_size", "population_size", "sample_size"])
def test_options_out_of_range(option):
    with pytest.raises(InputError, match=rf"^controller\.{option}: got 0; it takes 1 or more"):
        evolution(SPACE, **{option: 0})
