"""An architecture is measured once: in the compiled loop, on the host, within a round, after failures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas import controllers, evaluators, loop, rewards
from jaxnas.errors import InputError
from jaxnas.evaluators import reuse
from jaxnas.spaces import blocks
from jaxnas.types import MOCK_FAILURE, OK, Evaluator
from tests.helpers import assert_identical, chain_reward, chain_space, every_prefix, to_numpy

SPACE = blocks()  # 24 architectures
B, ROUNDS = 4, 12
NOISY = {"noise": 0.1, "failure_rate": 0.2}


def on_host(evaluator):
    """The same evaluator, run on the host, and the architectures that it is given."""
    given, evaluate = [], jax.jit(evaluator.evaluate)

    def watched(keys, state, arch):
        assert len(keys) == len(arch) > 0
        given.extend(map(tuple, np.asarray(arch).tolist()))
        state, measures = evaluate(keys, state, jnp.asarray(arch))
        return state, to_numpy(measures)

    return evaluator._replace(jittable=False, evaluate=watched), given


def search(evaluator, **options):
    controller = controllers.random(SPACE, batch_size=B)
    return loop.make(SPACE, controller, reuse(evaluator, SPACE, **options), rewards.accuracy)


@pytest.fixture(scope="module")
def compiled():
    """A search and its trials."""
    it = search(evaluators.mock(SPACE, **NOISY))
    return it, *loop.run(it, it.init(jax.random.key(0)), ROUNDS)


def flat(records):
    trials = {name: values.ravel() for name, values in records.measures.items()}
    return [tuple(a) for a in records.arch.reshape(ROUNDS * B, -1).tolist()], trials


def test_a_reused_child_equals_its_first_trial(compiled):
    archs, trials = flat(compiled[2])
    assert set(trials) == {"accuracy", "params", "status", "reused"}
    recorded, kinds = {}, set()
    for i, arch in enumerate(archs):
        earlier = archs[i - i % B : i]  # of the round
        first = recorded.get(arch, i - i % B + earlier.index(arch) if arch in earlier else None)
        assert trials["reused"][i] == (first is not None)
        if first is not None:
            for m in ("accuracy", "params", "status"):
                np.testing.assert_array_equal(trials[m][i], trials[m][first])
            kinds.add("in its round" if arch in earlier else "later")
        elif arch in archs[:i]:
            kinds.add("tried anew")
        elif trials["status"][i] == MOCK_FAILURE:
            kinds.add("failed")
        if trials["status"][i] == OK:
            recorded.setdefault(arch, i)
    assert kinds == {"in its round", "later", "failed", "tried anew"}


def test_on_the_host_only_new_ones_are_measured(compiled):
    _, end, records = compiled
    inner, given = on_host(evaluators.mock(SPACE, **NOISY))
    host = search(inner)
    state, found = loop.run(host, host.init(jax.random.key(0)), ROUNDS)
    assert_identical(found, records)
    assert_identical(state, end)
    archs, trials = flat(records)
    assert given == [arch for arch, reused in zip(archs, trials["reused"], strict=True) if not reused]
    assert len(given) < len(archs)


def test_a_stored_state_knows_the_results(compiled):
    it, end, records = compiled
    state, _ = loop.run(it, it.init(jax.random.key(0)), 5)
    leaves, treedef = jax.tree.flatten(state._replace(root=None))
    restored = jax.tree.unflatten(treedef, [jnp.asarray(x) for x in to_numpy(leaves)])
    restored = restored._replace(root=jax.random.wrap_key_data(jnp.asarray(to_numpy(state.root))))
    after, rest = loop.run(it, restored, ROUNDS - 5)
    assert_identical(after, end)
    assert_identical(rest, jax.tree.map(lambda x: x[5:], records))


def test_many_searches_run_under_one_vmap(compiled):
    it, _, records = compiled
    starts = jax.vmap(it.init)(jnp.stack([jax.random.key(0), jax.random.key(1)]))
    _, found = jax.jit(jax.vmap(lambda s: loop.scan(it, s, ROUNDS)))(starts)
    assert_identical(jax.tree.map(lambda x: x[0], found.measures), records.measures)


def by_call():
    """The measure is the number of the call; a child's parameters are its key and its architecture."""
    calls = []

    def evaluate(keys, state, arch):
        calls.append(np.asarray(arch))
        number = np.full(len(arch), len(calls), np.float32)
        return state, {"accuracy": number, "status": np.zeros(len(arch), np.int32)}

    def child(key, state, arch):
        return {"key": jax.random.key_data(key), "arch": np.asarray(arch)}, None

    return Evaluator(lambda key: (), evaluate, ("accuracy",), jittable=False, child=child)


def test_a_child_is_that_of_the_trial_that_was_measured():
    it = reuse(by_call(), SPACE)
    keys, state = jax.random.split(jax.random.key(0), 8), it.init(jax.random.key(0))
    first = jnp.array([[0, 0, 0], [1, 0, 0], [0, 0, 0], [2, 0, 0]])
    state, measures = it.evaluate(keys[:4], state, first)
    assert measures["reused"].tolist() == [0, 0, 1, 0]
    again = jnp.array([[1, 0, 0], [2, 0, 0], [3, 0, 0], [0, 0, 0]])
    state, measures = it.evaluate(keys[4:], state, again)
    assert measures["accuracy"].tolist() == [1, 1, 2, 1]
    trained_with = (0, 1, 0, 3, 1, 3, 6, 0)  # of every trial
    for trial, arch in enumerate([*first, *again]):
        params, outputs = it.child(keys[trial], state, arch)
        np.testing.assert_array_equal(params["arch"], arch)
        np.testing.assert_array_equal(params["key"], jax.random.key_data(keys[trained_with[trial]]))
        assert outputs is None
    state, measures = it.evaluate(keys[4:], state, again)  # nothing new: nothing is called
    assert measures["accuracy"].tolist() == [1, 1, 2, 1]


def test_without_children_no_keys_are_kept():
    it = reuse(evaluators.mock(SPACE), SPACE)
    assert it.child is None
    assert it.init(jax.random.key(0)).results.values.key is None


def test_the_oldest_results_are_forgotten():
    it = reuse(by_call(), SPACE, memory=2)
    keys, state, seen = jax.random.split(jax.random.key(0), 1), it.init(jax.random.key(0)), []
    for choice in (0, 1, 0, 2, 0, 1):
        state, measures = it.evaluate(keys, state, jnp.array([[choice, 0, 0]]))
        seen.append(int(measures["accuracy"][0]))
    assert seen == [1, 2, 1, 3, 4, 5]
    with pytest.raises(InputError, match=r"search.memory: got 0; it takes 1 or more"):
        reuse(by_call(), SPACE, memory=0)


@pytest.mark.parametrize("jittable", [True, False])
def test_measures_of_every_decision_are_recorded_whole(jittable):
    space, arch = chain_space(), jnp.array([[1, 1, 0, 1], [1, 0, 1, 1], [1, 1, 0, 1]])
    evaluator = reuse(every_prefix(space)._replace(jittable=jittable), space, memory=8)
    state = evaluator.init(jax.random.key(0))
    for reused in ([0, 0, 1], [1, 1, 1]):
        state, measures = evaluator.evaluate(jax.random.split(jax.random.key(1), 3), state, arch)
        assert measures["reused"].tolist() == reused
        np.testing.assert_array_equal(measures["gain"], chain_reward(arch))
