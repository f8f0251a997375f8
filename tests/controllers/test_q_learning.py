"""The tabular controllers: updates by hand, convergence to exact values, what is replayed and counted."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas import controllers, evaluators, loop, masks, planning, rewards
from jaxnas.controllers import double_q, q_learning, sarsa
from jaxnas.errors import InputError
from jaxnas.rewards import outcome
from jaxnas.spaces import blocks
from jaxnas.types import Proposal
from tests.helpers import FORBID, assert_identical, chain

TABULAR = {
    "q_learning": q_learning,
    "sarsa": sarsa,
    "expected_sarsa": partial(sarsa, expected=True),
    "double_q": double_q,
}
ALWAYS = {"epsilon_networks": (1,)}  # one ε for good

# A chain of two letters. States: 4 × depth + last, so 0, then 4 + the first letter.
TWO = chain(2)
AB, BA, B = jnp.array([[1, 2]]), jnp.array([[2, 1]]), jnp.array([[2, 0]])


def told(controller, *trials, q=None, epsilon=1.0):
    """The controller's state after trials (arch [1, 2], reward of each decision), and the last metrics."""
    state, metrics = controller.init(jax.random.key(0)), {}
    if q is not None:
        state = state._replace(q=jnp.asarray(q, jnp.float32))
    tell = jax.jit(controller.tell)
    for i, (arch, reward) in enumerate(trials):
        proposal = Proposal(arch, {"epsilon": jnp.full(1, epsilon)})
        state, metrics = tell(jax.random.key(i), state, proposal, outcome(jnp.array([reward], jnp.float32)))
    return state, metrics


def entries(q, value=0.5):
    """{(s, a): Q} of what differs from the initial value."""
    return {(int(s), int(a)): round(float(q[s, a]), 6) for s, a in np.argwhere(np.asarray(q) != value)}


def test_q_learning_by_hand():
    learner = q_learning(TWO, batch_size=1, learning_rate=0.5, replays=0)
    # "ab" with reward 1: from the last decision back. Q(5, b) = ½ + ½(1 − ½) = ¾; after it Q(0, a) =
    # ½ + ½(0 + max(½, ½, ¾, ½) − ½) = ⅝.
    state, metrics = told(learner, (AB, [0, 1]))
    assert entries(state.q) == {(5, 2): 0.75, (0, 1): 0.625}
    np.testing.assert_allclose(metrics["td_error"], (0.5 + 0.25) / 2, rtol=1e-6)
    # "b", which ends with its stop: Q(6, stop) = ½ + ½(0 − ½) = ¼, Q(0, b) = ½ + ½(max(¼, ½, …) − ½) = ½.
    state, _ = told(learner, (B, [0, 0]))
    assert entries(state.q) == {(6, 0): 0.25}
    # Rewards on the way count: Q(0, a) = ½ + ½(0.1 + ¾ − ½) = 0.675.
    state, _ = told(learner, (AB, [0.1, 1]))
    assert entries(state.q) == {(5, 2): 0.75, (0, 1): 0.675}


def test_the_discount():
    learner = q_learning(TWO, batch_size=1, learning_rate=0.5, discount=0.8, replays=0)
    state, _ = told(learner, (AB, [0, 1]))
    assert entries(state.q) == {(5, 2): 0.75, (0, 1): 0.55}  # ½ + ½(0.8 · ¾ − ½)


def test_replays_by_hand():
    # The memory has one trial, so every draw is it: two updates of each decision.
    learner = q_learning(TWO, batch_size=1, learning_rate=0.5, replays=2)
    state, _ = told(learner, (AB, [0, 1]))
    # Q(5, b): ¾, ⅞. Q(0, a): ⅝, ⅝ + ½(⅞ − ⅝) = ¾.
    assert entries(state.q) == {(5, 2): 0.875, (0, 1): 0.75}


def test_the_maximum_is_over_legal_choices():
    # After c another c is illegal, however large its entry is.
    q = np.full((TWO.num_states, 4), 0.5)
    q[7] = [0.1, 0.2, 0.3, 99]
    learner = partial(q_learning, TWO, batch_size=1, learning_rate=0.5, replays=0)
    state, _ = told(learner(), (jnp.array([[3, 0]]), [0, 0]), q=q)
    np.testing.assert_allclose(state.q[7, 0], 0.05, rtol=1e-6)
    np.testing.assert_allclose(state.q[0, 3], 0.5 + 0.5 * (0.3 - 0.5), rtol=1e-6)
    both = np.stack([q, q])
    double = double_q(TWO, batch_size=1, learning_rate=0.5, replays=0)
    state, _ = told(double, (jnp.array([[3, 0]]), [0, 0]), q=both)
    assert float(jnp.max(state.q[:, 0])) == 0.5
    expected = sarsa(TWO, batch_size=1, learning_rate=0.5, expected=True)
    state, _ = told(expected, (jnp.array([[3, 0]]), [0, 0]), q=q, epsilon=0.3)
    # Q(7, ·) = 0.05, 0.2, 0.3 for legal choices: 0.7 · 0.3 + 0.1 · 0.55 = 0.265.
    np.testing.assert_allclose(state.q[0, 3], 0.5 + 0.5 * (0.265 - 0.5), rtol=1e-6)


def test_sarsa_by_hand():
    q = np.full((TWO.num_states, 4), 0.5)
    q[6] = [0.9, 0.1, 0.5, 0.5]
    # "ba": Q(6, a) = 0.1 + ½(1 − 0.1) = 0.55; the a that was taken, not the best: ½ + ½(0.55 − ½).
    state, _ = told(sarsa(TWO, batch_size=1, learning_rate=0.5), (BA, [0, 1]), q=q)
    np.testing.assert_allclose((state.q[6, 1], state.q[0, 2]), (0.55, 0.525), rtol=1e-6)
    # In expectation at ε = 0.4 over (0.9, 0.55, 0.5, 0.5): 0.6 · 0.9 + 0.1 · 2.45 = 0.785.
    expected = sarsa(TWO, batch_size=1, learning_rate=0.5, expected=True)
    state, _ = told(expected, (BA, [0, 1]), q=q, epsilon=0.4)
    np.testing.assert_allclose((state.q[6, 1], state.q[0, 2]), (0.55, 0.6425), rtol=1e-6)
    # Replayed once more: Q(6, a) = 0.775, then ½ · 0.6425 + ½(0.6 · 0.9 + 0.1 · 2.675) = 0.725.
    replaying = sarsa(TWO, batch_size=1, learning_rate=0.5, expected=True, replays=1)
    state, _ = told(replaying, (BA, [0, 1]), q=q, epsilon=0.4)
    np.testing.assert_allclose((state.q[6, 1], state.q[0, 2]), (0.775, 0.725), rtol=1e-6)


def test_double_q_by_hand():
    q = np.full((2, TWO.num_states, 4), 0.5)
    q[0, 6], q[1, 6] = [0.9, 0, 0, 0.9], [0.2, 0.8, 0, 0.4]
    # By the coins the last decision changes one table, the first decision one. The best choices after b are
    # stop and c (0.9) in table 0, whose mean in table 1 is 0.3; and a (0.8) in table 1, 0 in table 0.
    learner = double_q(TWO, batch_size=1, learning_rate=0.5, replays=0)
    seen = set()
    tell = jax.jit(learner.tell)
    for seed in range(12):
        state = learner.init(jax.random.key(0))._replace(q=jnp.asarray(q, jnp.float32))
        proposal = Proposal(jnp.array([[2, 2]]), {"epsilon": jnp.ones(1)})  # Q(6, b) is never the best
        after, _ = tell(jax.random.key(seed), state, proposal, outcome(jnp.array([[0.0, 0.1]])))
        last = [i for i in (0, 1) if after.q[i, 6, 2] != 0]
        first = [i for i in (0, 1) if after.q[i, 0, 2] != 0.5]
        assert len(last) == len(first) == 1
        np.testing.assert_allclose(after.q[last[0], 6, 2], 0.05, rtol=1e-6)
        value = (0.3, 0.0)[first[0]]
        np.testing.assert_allclose(after.q[first[0], 0, 2], 0.5 + 0.5 * (value - 0.5), rtol=1e-6)
        seen.add((last[0], first[0]))
    assert len(seen) == 4


def test_double_q_acts_on_the_sum():
    learner = double_q(TWO, batch_size=1)
    q = jnp.zeros((2, TWO.num_states, 4)).at[0, 0, 1].set(1.0).at[:, 0, 2].set(0.6).at[1, 0, 3].set(1.1)
    arch, _ = learner.policy(learner.init(jax.random.key(0))._replace(q=q))
    assert int(arch[0]) == 2  # 1.0, 1.2, 1.1


@pytest.mark.parametrize("name", TABULAR)
def test_unique_networks_move_epsilon(name):
    space = chain(2)
    learner = TABULAR[name](space, batch_size=2, epsilon=(1.0, 0.5, 0.25), epsilon_networks=(2, 1, 1))
    ask, tell, state = jax.jit(learner.ask), jax.jit(learner.tell), learner.init(jax.random.key(0))

    def play(state, first, second, rewards=(1.0, 1.0)):
        now = float(ask(jax.random.key(0), state).memo["epsilon"][0])
        reward = jnp.zeros((2, 2)).at[:, 1].set(jnp.array(rewards))
        proposal = Proposal(jnp.array([first, second]), {"epsilon": jnp.full(2, now)})
        state, metrics = tell(jax.random.key(1), state, proposal, outcome(reward))
        assert float(metrics["epsilon"]) == now
        return state, (now, int(metrics["unique"]))

    seen = []
    for pair in (([1, 2], [1, 2]), ([1, 2], [1, 2]), ([2, 1], [1, 2]), ([3, 0], [2, 1]), ([1, 0], [1, 1])):
        state, found = play(state, *pair)
        seen.append(found)
    assert seen == [(1.0, 1), (1.0, 1), (1.0, 2), (0.5, 3), (0.25, 5)]
    state, (_, unique) = play(state, [3, 1], [3, 2], (float("nan"), 1.0))
    assert unique == 6  # a failed one does not count


def test_what_is_forgotten_counts_again():
    learner = q_learning(TWO, batch_size=1, memory=2, replays=1)
    trials = [(AB, [0, 1]), (BA, [0, 1]), (AB, [0, 1]), (B, [0, 1]), (BA, [0, 1])]
    assert [int(told(learner, *trials[:n])[0].unique) for n in (1, 2, 3, 4, 5)] == [1, 2, 2, 3, 4]


def test_first_proposals_are_random():
    learner = q_learning(TWO, batch_size=64)
    archs = np.asarray(learner.ask(jax.random.key(0), learner.init(jax.random.key(1))).arch)
    assert set(archs[:, 0]) == {1, 2, 3}
    greedy = q_learning(TWO, batch_size=64, epsilon=(0.0,), **ALWAYS)
    archs = np.asarray(greedy.ask(jax.random.key(0), greedy.init(jax.random.key(1))).arch)
    assert set(archs[:, 0]) == {1, 2, 3}  # all values are equal
    q = jnp.zeros((TWO.num_states, 4)).at[0, 2].set(1.0)
    archs = np.asarray(greedy.ask(jax.random.key(0), greedy.init(jax.random.key(1))._replace(q=q)).arch)
    assert set(archs[:, 0]) == {2}


# CONVERGENCE: a chain of three letters in which giving up a reward now earns more later.

CHAIN = chain(3)


def delayed():
    """r(s, a): stopping at once pays 0.4; "bca", 1 at its end; every c costs 0.1; all else little."""
    table = np.random.default_rng(3).uniform(0, 0.2, (CHAIN.num_states, 4))
    table[4:8, 0], table[:, 3], table[4 * 2 + 3, 1] = 0.4, -0.1, 1.0
    return table


def learned(learner, table, rounds):
    """The state after so many rounds, rewards given decision by decision."""
    table = jnp.asarray(table, jnp.float32)

    def reward(arch):
        walk = masks.walk(CHAIN, arch)
        return jnp.where(walk.live, table[walk.state, arch], 0.0)

    def play(state, key):
        key_ask, key_tell = jax.random.split(key)
        proposal = learner.ask(key_ask, state)
        return learner.tell(key_tell, state, proposal, outcome(jax.vmap(reward)(proposal.arch)))

    keys = jax.random.split(jax.random.key(1), rounds)
    return jax.jit(lambda state: jax.lax.scan(play, state, keys)[0])(learner.init(jax.random.key(0)))


@pytest.mark.parametrize(
    ("name", "options", "epsilon", "tolerance"),
    [
        ("q_learning", {"learning_rate": 0.3, "replays": 8, "memory": 256}, 1.0, 1e-3),
        ("double_q", {"learning_rate": 0.3, "replays": 8, "memory": 256}, 1.0, 1e-3),
        ("expected_sarsa", {"learning_rate": 0.3}, 0.5, 1e-3),
        ("sarsa", {"learning_rate": 0.01}, 0.5, 0.06),
    ],
)
def test_values_converge_to_the_exact_ones(name, options, epsilon, tolerance):
    table = delayed()
    off_policy = name in ("q_learning", "double_q")
    exact = planning.value_iteration(CHAIN, table, epsilon=0.0 if off_policy else epsilon)
    assert exact.arch.tolist() == [2, 3, 1]
    learner = TABULAR[name](CHAIN, batch_size=8, epsilon=(epsilon,), **ALWAYS, **options)
    state = learned(learner, table, 1000)
    often = [0, 6] if name == "sarsa" else slice(None)  # a sampled a′ leaves noise where walks are rare
    for q in state.q if name == "double_q" else [state.q]:
        difference = np.abs(np.asarray(q) - exact.q)[often]
        assert np.nanmax(difference) < tolerance, difference
    assert learner.policy(state)[0].tolist() == [2, 3, 1]
    if not off_policy:  # these values are not those of the greedy policy
        greedy = planning.value_iteration(CHAIN, table)
        assert np.nanmax(np.abs(greedy.q - exact.q)[[0, 6]]) > 0.2


@pytest.mark.parametrize("name", TABULAR)
def test_failed_trials_teach_nothing(name):
    learner = TABULAR[name](TWO, batch_size=1)
    state, _ = told(learner, (AB, [0, 1]))
    after, metrics = told(learner, (AB, [0, 1]), (BA, [0, np.nan]))
    assert_identical(state, after)
    assert float(metrics["td_error"]) == 0


@cache
def ends(controller):
    """Mean reward of the last 50 of 200 trials, of 20 seeds."""
    space = blocks(num_blocks=2, forbid=FORBID)
    evaluator = evaluators.mock(space, noise=0.02)
    search = loop.make(space, controller(space, batch_size=5), evaluator, rewards.accuracy)
    starts = jax.vmap(search.init)(jax.random.split(jax.random.key(0), 20))
    records = jax.jit(jax.vmap(lambda state: loop.scan(search, state, 40)[1]))(starts)
    return np.asarray(records.reward).reshape(20, 200)[:, -50:].mean(axis=1)


@pytest.mark.slow
@pytest.mark.parametrize("name", TABULAR)
def test_it_beats_random(name):
    """Mean reward of the last 50 of 200 trials over 20 seeds: the 95 % interval of the gain is above 0."""
    learner = partial(TABULAR[name], epsilon_total=150, memory=256)
    gain = ends(learner) - ends(controllers.random)
    drawn = np.random.default_rng(0).choice(gain, (10_000, 20)).mean(axis=1)
    assert np.quantile(drawn, 0.025) > 0, gain


@pytest.mark.parametrize("name", TABULAR)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "controller.batch_size: got 0; it takes 1 or more"),
        ({"learning_rate": 0.0}, "controller.learning_rate: got 0.0; it takes a number above 0, at most 1"),
        ({"discount": 1.1}, r"controller.discount: got 1.1; it takes a number in \[0, 1\]"),
        ({"replays": -1}, "controller.replays: got -1; it takes 0 or more"),
        ({"memory": 0}, "controller.memory: got 0; it takes 1 or more"),
        ({"epsilon": (1.0,)}, "controller.epsilon_networks: got"),
    ],
)
def test_wrong_options(name, options, message):
    with pytest.raises(InputError, match=message):
        TABULAR[name](TWO, **options)


def test_sarsa_does_not_replay():
    with pytest.raises(InputError, match=r"controller.replays: got 5; SARSA learns from its own"):
        sarsa(TWO, replays=5)
