"""Policies: the same distribution when sampling, unrolling and going greedily."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas import masks, policies
from jaxnas.errors import InputError
from tests.helpers import SPACES, assert_close, chain

MADE = [("lstm", True), ("lstm", False), ("dense", True), ("free_logits", True)]


@pytest.fixture(scope="module", params=MADE, ids=str)
def made(request):
    space = chain(3)
    name, feedback = request.param
    policy = policies.make(name, space, units=6, feedback=feedback)
    scale = {"lstm": 8.0, "dense": 1.5, "free_logits": 1e3}[name]  # far from uniform
    params = jax.tree.map(lambda x: scale * x, policy.init(jax.random.key(0)))
    return space, policy, params


def test_what_is_sampled_is_what_is_unrolled(made):
    """The shares of 40,000 sampled architectures are the products of the unrolled probabilities."""
    space, policy, params = made
    n = 40_000
    drawn = jax.jit(jax.vmap(lambda key: policies.sample(key, policy, space, params, 1.5)))
    archs, counts = np.unique(
        np.asarray(drawn(jax.random.split(jax.random.key(1), n))), axis=0, return_counts=True
    )
    masks.check(space, archs)
    unrolled = jax.jit(jax.vmap(lambda a: policies.unroll(policy, space, params, a, 1.5).log_probs))(
        jnp.asarray(archs)
    )
    assert unrolled.shape == (len(archs), 3, 4)
    np.testing.assert_allclose(np.exp(unrolled).sum(-1), 1, rtol=1e-5)
    p = np.exp(np.take_along_axis(np.asarray(unrolled), archs[..., None], -1)[..., 0].sum(-1))
    assert 1 - 1e-2 < p.sum() <= 1 + 1e-5
    assert (np.abs(counts / n - p) < 5 * np.sqrt(p * (1 - p) / n) + 1 / n).all()


@pytest.mark.parametrize("name", ["lstm", "dense", "free_logits"])
def test_a_trajectory_remembers_what_unrolling_finds(name):
    space = chain(3)
    policy = policies.make(name, space, units=6, critic=True)
    params = jax.tree.map(lambda x: 8 * x + 0.1, policy.init(jax.random.key(0)))
    draw = jax.jit(jax.vmap(lambda key: policies.trajectory(key, policy, space, params)))
    drawn = draw(jax.random.split(jax.random.key(1), 20))
    unrolled = jax.jit(jax.vmap(lambda a: policies.unroll(policy, space, params, a)))(drawn.arch)
    log_prob = np.take_along_axis(np.asarray(unrolled.log_probs), drawn.arch[..., None], -1)[..., 0]
    np.testing.assert_allclose(drawn.log_prob, log_prob, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(drawn.value, unrolled.value, rtol=1e-5)
    assert (np.asarray(drawn.log_prob)[~np.asarray(unrolled.live)] == 0).all()
    without = policies.make(name, space, units=6)
    plain = policies.trajectory(jax.random.key(1), without, space, without.init(jax.random.key(0)))
    assert (np.asarray(plain.value) == 0).all()


def test_greedy_agrees_with_unrolling(made):
    space, policy, params = made
    arch, probabilities = jax.jit(lambda: policies.greedy(policy, space, params))()
    unrolled = jax.jit(lambda a: policies.unroll(policy, space, params, a))(arch)
    np.testing.assert_allclose(probabilities, np.exp(unrolled.log_probs), rtol=1e-5)
    np.testing.assert_array_equal(arch, np.asarray(unrolled.log_probs).argmax(-1))
    np.testing.assert_array_equal(unrolled.live, masks.walk(space, arch).live)


def test_feedback_makes_decisions_depend_on_earlier_ones(made, request):
    space, policy, params = made
    unroll = jax.jit(lambda a: policies.unroll(policy, space, params, a).log_probs)
    first, second = unroll(jnp.array([1, 1, 1])), unroll(jnp.array([2, 1, 1]))
    np.testing.assert_array_equal(first[0], second[0])
    has_feedback = request.node.callspec.params["made"] in (("lstm", True), ("dense", True))
    assert (not np.array_equal(first[1], second[1])) == has_feedback


def test_initial_ranges():
    space = SPACES["two_blocks"]()
    free = policies.free_logits(space).init(jax.random.key(0))
    assert free.shape == (6, 4)
    assert 0 < float(jnp.abs(free).max()) < 0.01
    params = policies.lstm(space, units=6).init(jax.random.key(0))
    for leaf in jax.tree.leaves(params):
        assert 0 < float(jnp.abs(leaf).max()) <= 0.1  # none is empty, which a checkpoint cannot hold
    assert (params.value_kernel, params.value_bias) == (None, None)  # no critic


def test_the_lstm_by_hand():
    """One cell written out in numpy: f, g, i, o, then the head."""
    space, units = chain(2), 3
    policy = policies.lstm(space, units=units)
    params = policy.init(jax.random.key(0))
    p = jax.tree.map(np.asarray, params)

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    def cell(c, h, x):
        def gate(name):
            own = slice("fgio".index(name) * units, ("fgio".index(name) + 1) * units)
            return x @ p.inputs[:, own] + h @ p.recurrent[:, own] + p.gate_bias[own]

        c = sigmoid(gate("f")) * c + sigmoid(gate("i")) * np.tanh(gate("g"))
        return c, sigmoid(gate("o")) * np.tanh(c)

    c, h = cell(np.zeros(units), np.zeros(units), np.zeros(units))
    logits = [h @ p.kernel[0] + p.bias[0]]
    c, h = cell(c, h, p.embedding[1, 2])
    logits.append(h @ p.kernel[1] + p.bias[1])
    legal = np.array([[0, 1, 1, 1], [1, 1, 1, 1]], bool)
    masked = np.where(legal, logits, -np.inf)
    expected = masked - np.log(np.exp(masked).sum(-1, keepdims=True))
    found = np.asarray(policies.unroll(policy, space, params, jnp.array([2, 1])).log_probs)
    np.testing.assert_allclose(found[legal], expected[legal], rtol=1e-5)
    assert (np.exp(found[~legal]) == 0).all()

    # The critic is a head on the same state.
    policy = policies.lstm(space, units=units, critic=True)
    shared = p._replace(value_kernel=np.array([[1, 2, 3]] * 2), value_bias=np.ones(2))
    shared = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), shared)
    assert jax.tree.map(jnp.shape, shared) == jax.tree.map(jnp.shape, policy.init(jax.random.key(0)))
    value = policies.unroll(policy, space, shared, jnp.array([2, 1])).value
    np.testing.assert_allclose(value[1], h @ [1, 2, 3] + 1, rtol=1e-5)


def test_the_dense_policy_by_hand():
    """Two layers of ReLUs written out in numpy, on the choices so far; the mask afterwards, or not."""
    space, units = chain(2), 3
    policy = policies.dense(space, units=units)
    rng = np.random.default_rng(0)
    shapes = ((2, units), (units, units), (units, 4))
    layers = [
        (rng.normal(size=s).astype(np.float32), rng.normal(size=s[1]).astype(np.float32)) for s in shapes
    ]
    params = jax.tree.map(jnp.asarray, layers)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, policy.init(jax.random.key(0)))

    def logits(choices):
        x = np.array(choices, np.float32)
        for kernel, bias in layers[:-1]:
            x = np.maximum(x @ kernel + bias, 0)
        return x @ layers[-1][0] + layers[-1][1]

    expected = np.array([logits([-1, -1]), logits([2, -1])])  # −1: no choice yet
    legal = np.array([[0, 1, 1, 1], [1, 1, 1, 1]], bool)
    for temperature in (1.0, 3.0):
        found = policies.unroll(policy, space, params, jnp.array([2, 1]), temperature).log_probs
        p = np.where(legal, np.exp(expected / temperature), 0)
        np.testing.assert_allclose(np.exp(found), p / p.sum(-1, keepdims=True), rtol=1e-5)
    found = policies.unroll(policy, space, params, jnp.array([2, 1]), masked=False).log_probs
    p = np.exp(expected)
    np.testing.assert_allclose(np.exp(found), p / p.sum(-1, keepdims=True), rtol=1e-5)

    # The critic is one more output.
    policy = policies.dense(space, units=units, critic=True)
    kernel, bias = layers[-1]
    last = (
        np.column_stack([kernel, [1.0, 2.0, 3.0]]).astype(np.float32),
        np.append(bias, 1).astype(np.float32),
    )
    params = jax.tree.map(jnp.asarray, [*layers[:-1], last])
    hidden = np.array([2, -1], np.float32)
    for kernel, bias in layers[:-1]:
        hidden = np.maximum(hidden @ kernel + bias, 0)
    value = policies.unroll(policy, space, params, jnp.array([2, 1])).value
    np.testing.assert_allclose(value[1], hidden @ [1, 2, 3] + 1, rtol=1e-5)


def test_the_dense_policy_starts_as_glorot():
    layers = policies.dense(SPACES["two_blocks"](), units=35).init(jax.random.key(0))
    assert [kernel.shape for kernel, _ in layers] == [(6, 35), (35, 35), (35, 4)]
    for kernel, bias in layers:
        limit = np.sqrt(6 / sum(kernel.shape))
        assert 0.9 * limit < float(jnp.abs(kernel).max()) <= limit
        assert not bias.any()


@pytest.mark.parametrize("feedback", [True, False])
def test_the_gradient_along_a_walk_is_that_of_decision_by_decision(feedback):
    space = chain(3)
    policy = policies.lstm(space, units=5, feedback=feedback, critic=True)
    params = jax.tree.map(lambda x: 8 * x, policy.init(jax.random.key(0)))
    weight = jax.random.normal(jax.random.key(1), (3, 4))

    def score(params, policy):
        found = policies.unroll(policy, space, params, jnp.array([2, 3, 1]))
        return jnp.sum(jnp.exp(found.log_probs) * weight) + jnp.sum(found.value**2)

    along = jax.jit(jax.value_and_grad(lambda p: score(p, policy)))(params)
    stepwise = jax.jit(jax.value_and_grad(lambda p: score(p, policy._replace(along=None))))(params)
    assert_close(along, stepwise, rtol=1e-4, atol=1e-6)
    learned = [name for name in params._fields if float(jnp.abs(getattr(along[1], name)).max()) > 1e-3]
    unused = () if feedback else ("embedding", "inputs", "recurrent")
    assert learned == [name for name in params._fields if name not in unused]


def test_an_unknown_policy():
    with pytest.raises(InputError, match=r"controller\.policy: unknown name 'lstn'; did you mean 'lstm'"):
        policies.make("lstn", chain(), units=3, feedback=True)
