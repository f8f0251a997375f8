"""DQN: its loss by hand, known values found, the replay memory, exploration and the slow copy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas import masks
from jaxnas.controllers import dqn
from jaxnas.errors import InputError
from jaxnas.rewards import outcome
from jaxnas.types import Proposal
from tests.helpers import assert_identical, chain, chain_reward, chain_space, differs, play

SPACE = chain_space()


def q_along(space, controller, state, arch):
    """Q of the choices along an architecture, read from the network by hand."""
    weights = [state.params["params"][f"Dense_{i}"] for i in range(3)]
    walk, values = space.start, []
    for choice in arch:
        x = np.asarray(space.observe(walk))
        for i, w in enumerate(weights):
            x = x @ np.asarray(w["kernel"]) + np.asarray(w["bias"])
            x = np.maximum(x, 0) if i < 2 else x
        values.append(x)
        walk = space.step(walk, jnp.int32(choice))
    return np.array(values)


@pytest.mark.parametrize("double", [False, True])
def test_it_finds_the_optimal_path_and_its_values(double):
    controller = dqn(SPACE, units=32, double=double, epsilon_floor=0.3)
    state, (arch, metrics) = play(controller, chain_reward, 100)
    masks.check(SPACE, arch.reshape(-1, 4))
    best, probabilities = controller.policy(state)
    assert best.tolist() == [1, 1, 1, 1]
    np.testing.assert_array_equal(probabilities, [[0, 1]] * 4)
    values = q_along(SPACE, controller, state, [1, 1, 1, 1])
    np.testing.assert_allclose(values[:, 1], 1, atol=0.05)
    # A step to the left from place 1, 2, 3 after 1, 2, 3 decisions: 0.1 and another 0.1 for each one left.
    np.testing.assert_allclose(values[1:, 0], [0.2, 0.2, 0.1], atol=0.05)
    assert float(metrics["loss"][-1]) < 1e-3


def test_a_discount_is_learned():
    controller = dqn(SPACE, units=32, discount=0.5, epsilon_floor=0.3)
    state, _ = play(controller, chain_reward, 100)
    values = q_along(SPACE, controller, state, [1, 1, 1, 1])
    np.testing.assert_allclose(values[:, 1], [0.125, 0.25, 0.5, 1], atol=0.05)


def test_the_loss_by_hand():
    """One stored walk, one gradient step on it: Huber errors against targets of the same network."""
    controller = dqn(SPACE, batch_size=1, units=4, updates=1, minibatch_size=1, discount=0.5)
    state = controller.init(jax.random.key(0))
    arch, reward = np.array([1, 1, 0, 1]), np.array([0.5, 0.0, 0.1, 3.0])
    q = q_along(SPACE, controller, state, arch)
    legal = np.array([[False, True], [True, True], [True, True], [True, True]])
    following = np.append(np.where(legal, q, -np.inf).max(-1)[1:], 0)
    error = np.abs(q[np.arange(4), arch] - (reward + 0.5 * following))
    huber = np.where(error <= 1, error**2 / 2, error - 0.5)
    assert (error > 1).any()
    assert (error <= 1).any()
    proposal = Proposal(jnp.asarray(arch)[None], {"epsilon": jnp.ones(1)})
    after, metrics = controller.tell(
        jax.random.key(0), state, proposal, outcome(jnp.asarray(reward, jnp.float32)[None])
    )
    np.testing.assert_allclose(metrics["loss"], huber.mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics["value"], q[np.arange(4), arch].mean(), rtol=1e-5)
    assert differs(after.params, state.params)


def test_the_replay_memory_keeps_what_did_not_fail():
    space = chain(3)
    controller = dqn(space, batch_size=3, units=4, updates=1, replay_size=4)
    state, tell = controller.init(jax.random.key(0)), jax.jit(controller.tell)
    archs = jnp.array([[1, 0, 0], [2, 1, 3], [3, 1, 0]])
    for scores in ([1.0, np.nan, 2.0], [3.0, 4.0, 5.0], [np.nan, np.nan, np.nan]):
        reward = jnp.zeros((3, 3)).at[:, 0].set(jnp.array(scores))
        state, _ = tell(jax.random.key(0), state, Proposal(archs, {"epsilon": jnp.ones(3)}), outcome(reward))
    # 1, 2, 3, 4 and in the place of the oldest 5
    assert state.replay.values[:, 0].tolist() == [5, 2, 3, 4]
    np.testing.assert_array_equal(state.replay.arch, archs[jnp.array([2, 2, 0, 1])])
    assert (int(state.replay.written), int(state.trials), int(state.steps)) == (5, 9, 2)


def test_exploration_falls_from_trial_to_trial():
    controller = dqn(SPACE, batch_size=2, units=4, updates=1, epsilon_floor=0.2, epsilon_trials=4)
    ask, tell = jax.jit(controller.ask), jax.jit(controller.tell)
    state, epsilons = controller.init(jax.random.key(0)), []
    for r in range(4):
        proposal = ask(jax.random.key(r), state)
        epsilons += proposal.memo["epsilon"].tolist()
        state, _ = tell(jax.random.key(r), state, proposal, outcome(chain_reward(proposal.arch)))
    np.testing.assert_allclose(epsilons, [1, 0.8, 0.6, 0.4, 0.2, 0.2, 0.2, 0.2], rtol=1e-6)


def test_epsilon_is_the_share_of_uniform_choices():
    controller = dqn(SPACE, batch_size=4000, units=4, epsilon=0.4, epsilon_floor=0.4, replay_size=4000)
    state = controller.init(jax.random.key(0))
    best, _ = controller.policy(state)
    archs = np.asarray(jax.jit(controller.ask)(jax.random.key(1), state).arch)
    masks.check(SPACE, archs)
    # At the second decision both choices are legal: the best one with 1 − ε/2.
    assert np.mean(archs[:, 1] == best[1]) == pytest.approx(0.8, abs=0.03)


def test_the_slow_copy_follows_every_period():
    controller = dqn(SPACE, batch_size=2, units=4, updates=1, target_period=3)
    ask, tell = jax.jit(controller.ask), jax.jit(controller.tell)
    state = copied = controller.init(jax.random.key(0))
    for step in range(1, 7):
        proposal = ask(jax.random.key(step), state)
        state, _ = tell(jax.random.key(step), state, proposal, outcome(chain_reward(proposal.arch)))
        copied = state if step % 3 == 0 else copied
        assert_identical(state.target, copied.params)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epsilon_floor": 0.5, "epsilon": 0.4}, r"epsilon_floor: got 0.5; it takes a number in \[0, 0.4\]"),
        ({"replay_size": 4}, "replay_size: got 4; it takes 8, the batch, or more"),
        ({"updates": 0}, "updates: got 0; it takes 1 or more"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(InputError, match=rf"^controller\.{message}$"):
        dqn(SPACE, **options)
