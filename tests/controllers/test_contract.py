"""What every controller promises, for every registry entry over spaces of fixed and variable depth."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas import masks, rewards
from jaxnas.controllers import REGISTRY
from tests.helpers import SPACES, assert_identical, differs, is_key, quick_jit, takes, to_numpy

B = 4
VARIANTS = {
    **{name: (name, {}) for name in REGISTRY},
    "expected_sarsa": ("sarsa", {"expected": True, "replays": 3}),
    "q_learning_without_replay": ("q_learning", {"replays": 0, "epsilon": (0.5,), "epsilon_networks": (1,)}),
    "reinforce_one_step": ("reinforce", {"feedback": False, "baseline": "none", "entropy_weight": 0.1}),
    "a2c_free_logits": (
        "a2c",
        {"policy": "free_logits", "normalize_advantage": True, "entropy_weight": 0.1, "gae_lambda": 0.9},
    ),
    "ppo_rollout": ("ppo", {"policy": "free_logits", "rollout": 2 * B, "minibatch_size": 4}),
    "ppo_nasnet": ("ppo", {"policy": "free_logits", "baseline": "ema", "entropy_weight": 1e-5}),
    "dqn_double": ("dqn", {"double": True, "replay_size": 6, "max_gradient_norm": 1.0}),
    "evolution_small": ("evolution", {"population_size": 2, "sample_size": 1}),
    "local_search_patience": ("local_search", {"patience": 3}),
    "priority_queue_lstm": (
        "priority_queue",
        {"policy": "lstm", "queue_size": 6, "updates": 2, "policy_gradient_weight": 1.0},
    ),
    "reinforce_free_logits": (
        "reinforce",
        {
            "policy": "free_logits",
            "baseline": "max_of_means",
            "temperature": 5.0,
            "temperature_decay": 0.99,
            "max_gradient_norm": 0.3,
        },
    ),
    "reinforce_dense": (
        "reinforce",
        {
            "policy": "dense",
            "baseline": "max_of_means",
            "temperature": 5.0,
            "temperature_decay": 0.995,
            "temperature_floor": 1.0,
            "max_tensor_norm": 0.3,
            "skip_below": 0.05,
            "off_policy": True,
        },
    ),
    "ppo_dense": ("ppo", {"policy": "dense"}),
}


CASES = [(v, "chain") for v in VARIANTS] + [(c, "two_blocks") for c in REGISTRY]


@pytest.fixture(scope="module", params=CASES, ids=lambda pair: "-".join(pair))
def subject(request):
    """A controller with its functions compiled once, and its state after three rounds."""
    (name, options), space = VARIANTS[request.param[0]], SPACES[request.param[1]]()
    factory = REGISTRY[name]
    controller = factory(space, **takes(factory, batch_size=B, units=8), **options)
    assert controller.batch_size == B

    @quick_jit
    def reward(arch):  # more for larger choices, at the last live decision
        live = jax.vmap(lambda a: masks.walk(space, a).live)(arch)
        return rewards.terminal(jnp.mean(arch.astype(jnp.float32), axis=-1), live)

    ask, tell = quick_jit(controller.ask), quick_jit(controller.tell)

    def play(key, state, ask=ask, tell=tell, reward=reward):
        key_ask, key_tell = jax.random.split(key)
        proposal = ask(key_ask, state)
        return tell(key_tell, state, proposal, rewards.outcome(reward(proposal.arch)))[0], proposal

    it = SimpleNamespace(space=space, controller=controller, ask=ask, tell=tell, reward=reward, play=play)
    it.policy = quick_jit(controller.policy)
    it.walk = quick_jit(lambda arch: masks.walk(space, arch))
    it.start = controller.init(jax.random.key(1))
    it.state = it.start
    for r in range(3):
        it.state, _ = play(jax.random.fold_in(jax.random.key(2), r), it.state)
    it.programs = tell._cache_size()
    return it


def leaves_of(tree, kind):
    return [x for x in jax.tree.leaves(tree) if not is_key(x) and jnp.issubdtype(x.dtype, kind)]


def test_proposals_are_legal_and_finite(subject):
    proposals = [subject.ask(jax.random.key(seed), subject.state) for seed in range(20)]
    for proposal in proposals:
        assert proposal.arch.dtype == jnp.int32
        assert proposal.arch.shape == (B, subject.space.num_steps)
        assert all(leaf.shape[0] == B for leaf in jax.tree.leaves(proposal.memo))
        assert all(np.isfinite(x).all() for x in leaves_of(proposal.memo, jnp.floating))
    masks.check(subject.space, np.concatenate([p.arch for p in proposals]))


def test_proposals_of_one_state_differ_by_the_key_alone(subject):
    asked = [subject.ask(jax.random.key(seed), subject.state) for seed in (0, 0, 1, 2)]
    assert_identical(asked[0], asked[1])
    assert differs(asked[0].arch, asked[2].arch) or differs(asked[0].arch, asked[3].arch)


def test_asking_does_not_write(subject):
    before = to_numpy(subject.state)
    subject.ask(jax.random.key(0), subject.state)
    assert_identical(before, subject.state)


def test_telling_compiles_once(subject):
    assert subject.programs == 1
    assert jax.tree.structure(subject.state) == jax.tree.structure(subject.start)
    assert jax.tree.map(jnp.shape, subject.state) == jax.tree.map(jnp.shape, subject.start)


def test_a_round_without_a_reward_teaches_nothing(subject):
    nothing = jnp.full((B, subject.space.num_steps), jnp.nan)
    for state in (subject.start, subject.state):
        proposal = subject.ask(jax.random.key(3), state)
        after, metrics = subject.tell(jax.random.key(4), state, proposal, rewards.outcome(nothing))
        for old, new in zip(leaves_of(state, jnp.floating), leaves_of(after, jnp.floating), strict=True):
            np.testing.assert_array_equal(old, new)
        assert_identical(subject.policy(state), subject.policy(after))
        assert all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves(metrics))


def test_failed_rows_are_not_read(subject):
    space, proposal = subject.space, subject.ask(jax.random.key(5), subject.state)
    failed = jnp.array([False, True, False, True])[:, None]
    reward = jnp.where(failed, jnp.nan, subject.reward(proposal.arch))
    one_nan = subject.reward(proposal.arch).at[jnp.array([1, 3]), -1].set(jnp.nan)  # the rest is a number
    others = jax.vmap(lambda k: masks.sample(k, space))(jax.random.split(jax.random.key(6), B))
    illegal = jnp.full_like(others, space.num_choices - 1)
    told = [
        subject.tell(jax.random.key(7), subject.state, proposal._replace(arch=arch), rewards.outcome(r))[0]
        for arch, r in (
            (proposal.arch, reward),
            (jnp.where(failed, others, proposal.arch), reward),
            (jnp.where(failed, illegal, proposal.arch), reward),
            (proposal.arch, one_nan),
        )
    ]
    for other in told[1:]:
        assert_identical(told[0], other)
    assert all(bool(jnp.isfinite(x).all()) for x in leaves_of(told[0], jnp.floating))


def test_the_policy_is_a_legal_distribution(subject):
    for state in (subject.start, subject.state):
        arch, probabilities = subject.policy(state)
        walk = subject.walk(arch)
        assert np.asarray(walk.legal)[np.arange(subject.space.num_steps), arch].all()
        assert probabilities.shape == (subject.space.num_steps, subject.space.num_choices)
        assert (np.asarray(probabilities)[~np.asarray(walk.legal)] == 0).all()
        assert (np.asarray(probabilities) >= 0).all()
        np.testing.assert_allclose(np.asarray(probabilities).sum(-1), 1, rtol=1e-6)
        np.testing.assert_array_equal(np.asarray(probabilities).argmax(-1), arch)
        np.testing.assert_array_equal(np.asarray(probabilities)[~np.asarray(walk.live), 0], 1.0)


def test_a_restored_state_continues_exactly(subject, tmp_path):
    arrays = {str(i): x for i, x in enumerate(jax.tree.leaves(to_numpy(subject.state)))}
    np.savez(tmp_path / "state.npz", **arrays)
    with np.load(tmp_path / "state.npz", allow_pickle=False) as file:
        stored = [file[str(i)] for i in range(len(arrays))]
    like, treedef = jax.tree.flatten(subject.state)
    restored = [
        jax.random.wrap_key_data(x) if is_key(y) else jnp.asarray(x)
        for x, y in zip(stored, like, strict=True)
    ]
    here, there = subject.state, jax.tree.unflatten(treedef, restored)
    for seed in range(3):
        (here, asked), (there, asked_there) = (subject.play(jax.random.key(seed), s) for s in (here, there))
        assert_identical(asked, asked_there)
    assert_identical(here, there)


def test_many_seeds_run_under_one_vmap(subject):
    starts = [subject.controller.init(jax.random.key(seed)) for seed in range(3)]
    states = stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *starts)
    keys = jax.random.split(jax.random.key(8), 3)
    ask, tell = quick_jit(jax.vmap(subject.controller.ask)), quick_jit(jax.vmap(subject.controller.tell))
    for _ in range(2):
        proposals = ask(keys, states)
        archs = np.asarray(proposals.arch)
        assert differs(archs[0], archs[1])
        reward = subject.reward(proposals.arch.reshape(3 * B, -1)).reshape(3, B, -1)
        states, _ = tell(keys, states, proposals, rewards.outcome(reward))
    masks.check(subject.space, archs.reshape(3 * B, -1))
    assert_identical(ask(keys, stacked).arch[2], subject.ask(keys[2], starts[2]).arch)
    assert all(bool(jnp.isfinite(x).all()) for x in leaves_of(states, jnp.floating))


def test_no_nan_arises_on_the_way(subject):
    failed = np.array([[False], [True], [True], [False]])
    with jax.debug_nans(True):
        proposal = subject.ask(jax.random.key(9), subject.state)
        reward = np.asarray(subject.reward(proposal.arch))
        # Rewards may be NaN; nothing computed from them may be.
        for bad in (failed, np.ones_like(failed)):
            told = np.where(bad, np.float32(np.nan), reward)
            after = subject.tell(jax.random.key(10), subject.state, proposal, rewards.outcome(told))
            jax.block_until_ready((after, subject.policy(after[0])))
