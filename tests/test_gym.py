"""Spaces as Gymnasium environments: the checker, both faces, and masks that are the space's own."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas import evaluators, masks, rewards, spaces
from jaxnas.errors import InputError
from tests.helpers import chain, every_prefix, gain

gymnasium = pytest.importorskip("gymnasium")
from gymnasium.utils.env_checker import check_env  # noqa: E402

import jaxnas.gym  # noqa: E402

SPACES = {
    "cnn_mdp": lambda: spaces.cnn_mdp(preset="mnist3"),
    "metaqnn": lambda: spaces.metaqnn(preset="svhn"),
    "blocks": lambda: spaces.blocks(num_blocks=2),
}
CASES = [("seven", "cnn_mdp"), *(("flat", name) for name in SPACES)]


@pytest.mark.parametrize(("face", "name"), CASES)
def test_the_checker_is_content(face, name):
    env = gymnasium.make("jaxnas/CNN-v0", space=SPACES[name](), face=face, render_mode="ansi")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped, skip_render_check=True)


def play(env, rng, seed=None):
    """One episode under the mask: (choices as the space has them, reward, info, every mask, observations)."""
    observation, _ = env.reset(seed=seed)
    seen, found, sizes = [observation], [], getattr(env.action_space, "nvec", None)
    while True:
        mask = env.unwrapped.action_masks()
        found.append(mask)
        if sizes is None:
            action = rng.choice(np.flatnonzero(mask))
        else:
            parts = np.split(mask, np.cumsum(sizes)[:-1])
            action = np.array([rng.choice(np.flatnonzero(part)) for part in parts])
        observation, reward, terminated, truncated, info = env.step(action)
        seen.append(observation)
        assert not truncated
        if terminated:
            return env.unwrapped._padded(), reward, info, found, seen
        assert (reward, info) == (0.0, {})


@pytest.mark.parametrize(("face", "name"), CASES)
def test_masked_episodes_are_legal_architectures_with_the_evaluator_s_reward(face, name):
    space = SPACES[name]()
    env = gymnasium.make("jaxnas/CNN-v0", space=space, face=face)
    rng = np.random.default_rng(0)
    archs, walk_of = [], jax.jit(lambda arch: masks.walk(space, arch))
    for _ in range(12):
        arch, reward, info, found, seen = play(env, rng)
        archs.append(arch)
        assert all(env.observation_space.contains(x) for x in seen)
        assert len(found) == len(seen) - 1
        assert space.describe(arch) == info["architecture"]
        assert info["status"] == "ok"
        assert reward == pytest.approx(info["accuracy"])
        if face == "flat":  # the masks are those of the walk
            walk = walk_of(arch)
            np.testing.assert_array_equal(found, np.asarray(walk.legal)[np.asarray(walk.live)])
    masks.check(space, np.array(archs))
    assert len({tuple(a) for a in archs}) > 5
    keys = jax.random.split(jax.random.key(0), 1)
    _, measures = evaluators.mock(space).evaluate(keys, (), jnp.asarray(archs[-1:]))
    assert float(measures["accuracy"][0]) == pytest.approx(reward)  # without noise, of whatever key


def test_rewards_of_every_decision_are_summed_over_those_that_were_taken():
    space = chain(4)

    def reward(arch):  # 1 a decision of a, also where no decision is
        return (arch <= 1).astype(jnp.float32)

    env = gymnasium.make(
        "jaxnas/CNN-v0", space=space, face="flat", evaluator=every_prefix(space, reward), reward=gain
    )
    env.reset(seed=0)
    for action in (1, 2, 0):  # a, b, stop
        _, reward, terminated, _, info = env.step(action)
    assert (reward, terminated, info["gain"], info["depth"]) == (2.0, True, 1.0, 3.0)


def test_a_seed_repeats_the_evaluations_and_a_trial_is_not_the_next():
    space = spaces.blocks()
    env = gymnasium.make(
        "jaxnas/CNN-v0", space=space, face="flat", evaluator=evaluators.mock(space, noise=0.1)
    )

    def rewards_of(seed):
        return [play(env, np.random.default_rng(1), seed if i == 0 else None)[1] for i in range(3)]

    first = rewards_of(5)
    assert rewards_of(5) == first
    assert len(set(first)) == 3
    assert rewards_of(6) != first


def test_an_illegal_action_ends_the_episode():
    for face, action in (("flat", 0), ("seven", [1, 1, 0, 0, 0, 0, 1])):
        env = gymnasium.make("jaxnas/CNN-v0", face=face, failure_reward=-1.0)
        env.reset(seed=0)
        _, reward, terminated, _, info = env.step(np.array(action) if face == "seven" else action)
        assert (reward, terminated, info) == (-1.0, True, {"illegal": True})


def test_a_failed_child_gives_the_failure_reward():
    space = spaces.blocks()
    env = gymnasium.make(
        "jaxnas/CNN-v0", space=space, face="flat", failure_reward=-2.0,
        evaluator=evaluators.mock(space, failure_rate=1.0),
    )  # fmt: skip
    _, reward, info, _, _ = play(env, np.random.default_rng(0))
    assert (reward, info["status"]) == (-2.0, "failed")


def test_any_reward():
    env = gymnasium.make("jaxnas/CNN-v0", reward=rewards.accuracy_minus_params)
    _, reward, info, _, _ = play(env, np.random.default_rng(0))
    assert reward < info["accuracy"]


def test_the_source_s_rule_that_nothing_can_follow():
    """FC(64) without the terminal flag ends the episode, as nothing smaller could follow."""
    env = gymnasium.make("jaxnas/CNN-v0")
    env.reset(seed=0)
    observation, *_ = env.step([0, 1, 4, 2, 0, 0, 0])
    np.testing.assert_array_equal(observation, [0, 1, 4, 2, 0, 0, 0])
    observation, _, terminated, _, info = env.step([2, 2, 1, 1, 4, 0, 0])
    np.testing.assert_array_equal(observation, [2, 2, 0, 0, 4, 0, 0])
    assert terminated
    assert info["architecture"] == "C(64,3,1) - FC(64) - SM()"


def test_the_text_so_far():
    env = jaxnas.gym.SpaceEnv(render_mode="ansi")
    env.reset(seed=0)
    assert env.render() == ""
    env.step([0, 1, 4, 2, 0, 0, 0])
    assert env.render() == "C(64,3,1)"


def test_bad_options():
    with pytest.raises(InputError, match="face: unknown name 'eight'"):
        jaxnas.gym.SpaceEnv(face="eight")
    with pytest.raises(InputError, match="'seven' is of space cnn_mdp, not of blocks"):
        jaxnas.gym.SpaceEnv(spaces.blocks())
    env = jaxnas.gym.SpaceEnv(spaces.blocks(), face="flat")
    play(env, np.random.default_rng(0))
    with pytest.raises(InputError, match="call reset"):
        env.step(0)
