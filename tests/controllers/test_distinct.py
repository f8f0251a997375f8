"""Repeated proposals are sampled again, lane by lane, and a seen space does not stop a search."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas import config, controllers, evaluators, loop, rewards
from jaxnas.commands import start
from jaxnas.controllers import distinct
from jaxnas.errors import InputError
from jaxnas.spaces import blocks
from jaxnas.types import Controller, Proposal
from tests.helpers import assert_identical

SPACE = blocks()  # 24 architectures
B = 4


def archs_of(search, rounds):
    _, records = loop.run(search, search.init(jax.random.key(0)), rounds)
    return [tuple(a) for a in records.arch.reshape(rounds * B, -1).tolist()]


def test_every_architecture_comes_once_and_then_again():
    controller = distinct(controllers.random(SPACE, batch_size=B), SPACE, tries=500)
    search = loop.make(SPACE, controller, evaluators.mock(SPACE), rewards.accuracy)
    archs = archs_of(search, 8)
    assert len(set(archs[:24])) == 24
    assert len(archs) == 32


def test_a_twin_is_resampled_too(tmp_path):
    (tmp_path / "a.toml").write_text(
        '[search]\nbudget = 16\ntwin = true\nduplicates = "resample"\n[space]\nname = "blocks"\n'
        '[controller]\nname = "random"\nbatch_size = 4\n[evaluator]\nname = "mock"\n'
    )
    settings = config.load(tmp_path / "a.toml")
    for each in start.searches_of(settings, config.build(settings))[1]:
        assert len(set(archs_of(each.search, 4))) == 16
    settings = config.load(tmp_path / "a.toml", ["--search.duplicates", "train"])
    for each in start.searches_of(settings, config.build(settings))[1]:
        assert len(set(archs_of(each.search, 4))) < 16


def numbered(draws):
    """A controller whose n-th key of a split proposes draws[n]; its memo says which draw it was."""
    draws = jnp.asarray(draws, jnp.int32)
    keys = jax.random.key_data(jax.random.split(jax.random.key(0), len(draws)))

    def ask(key, state):
        n = jnp.argmax(jnp.all(keys == jax.random.key_data(key)[None, :], axis=-1))
        arch = jnp.zeros((draws.shape[1], 3), jnp.int32).at[:, 0].set(draws[n])
        return Proposal(arch, {"draw": jnp.full((draws.shape[1], 1), n.astype(jnp.float32))})

    def tell(key, state, proposal, outcome):
        return state + 1, {}

    return Controller(draws.shape[1], lambda key: jnp.zeros((), jnp.int32), ask, tell, lambda state: state)


def test_lanes_are_replaced_one_by_one_with_their_memo():
    # 3 was seen. First 0, 3, 0: lanes 1 and 2 are asked again. Then 1, 1, 3: lane 1 takes 1, lane 2 a 3,
    # which was seen. Then 2, 2, 2: lane 2 takes 2. The last draw is not needed.
    controller = distinct(numbered([[0, 3, 0], [1, 1, 3], [2, 2, 2], [3, 3, 3]]), SPACE, tries=3)
    state = controller.init(jax.random.key(1))
    seen = Proposal(jnp.array([[3, 0, 0], [1, 0, 0], [3, 0, 0]]), {"draw": jnp.zeros((3, 1))})
    reward = jnp.zeros((3, 3)).at[1, 2].set(jnp.nan)  # 1 failed: it may come again
    state, _ = controller.tell(jax.random.key(2), state, seen, rewards.outcome(reward))
    assert int(state.seen.written) == 1
    assert int(state.controller) == 1
    assert int(controller.policy(state)) == 1
    proposal = jax.jit(controller.ask)(jax.random.key(0), state)
    assert proposal.arch[:, 0].tolist() == [0, 1, 2]
    assert proposal.memo["draw"][:, 0].tolist() == [0, 1, 2]


def test_the_last_try_is_proposed_whatever_it_is():
    controller = distinct(numbered([[0, 0], [1, 0], [1, 0]]), SPACE, tries=2)
    state = controller.init(jax.random.key(1))
    assert controller.ask(jax.random.key(0), state).arch[:, 0].tolist() == [0, 0]


def test_it_learns_as_the_controller_does():
    plain = controllers.q_learning(SPACE, batch_size=B, replays=4, memory=32)
    controller = distinct(plain, SPACE)
    proposal = plain.ask(jax.random.key(0), plain.init(jax.random.key(1)))
    reward = jnp.ones((B, 3)).at[0, 0].set(jnp.nan)
    told = [
        jax.jit(c.tell)(jax.random.key(2), c.init(jax.random.key(1)), proposal, rewards.outcome(reward))
        for c in (controller, plain)
    ]
    after, metrics = told[0]
    assert_identical((after.controller, metrics), told[1])
    assert_identical(controller.policy(after), plain.policy(after.controller))
    starts = [controller.init(jax.random.key(s)) for s in (0, 1)]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *starts)
    keys = jax.random.split(jax.random.key(3), 2)
    ask = jax.jit(controller.ask)
    found = np.asarray(jax.jit(jax.vmap(controller.ask))(keys, stacked).arch)
    for i in (0, 1):
        np.testing.assert_array_equal(found[i], ask(keys[i], starts[i]).arch)


@pytest.mark.parametrize("name", ["tries", "memory"])
def test_wrong_options(name):
    with pytest.raises(InputError, match=rf"search.{name}: got 0; it takes 1 or more"):
        distinct(controllers.random(SPACE), SPACE, **{name: 0})
