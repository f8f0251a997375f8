"""The mock landscape: its optimum, its noise, its failures."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas import masks
from jaxnas.errors import InputError
from jaxnas.evaluators.mock import mock, optimum
from jaxnas.spaces import blocks
from jaxnas.types import MOCK_FAILURE, OK
from tests.helpers import FORBID, chain

SPACES = {"blocks": lambda: blocks(forbid=FORBID), "chain": lambda: chain(3)}


def legal_archs(space):
    archs = np.array(list(itertools.product(range(space.num_choices), repeat=space.num_steps)), np.int32)
    legal = jax.jit(jax.vmap(lambda a: masks.walk(space, a).legal))(archs)
    archs = archs[np.take_along_axis(np.asarray(legal), archs[..., None], -1)[..., 0].all(-1)]
    assert len(archs) == space.size
    return jnp.asarray(archs)


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_optimum_is_the_best_of_all(name, seed):
    space = SPACES[name]()
    evaluator, archs = mock(space, landscape_seed=seed), legal_archs(space)
    _, found = jax.jit(evaluator.evaluate)(jax.random.split(jax.random.key(0), len(archs)), (), archs)
    best = optimum(space, landscape_seed=seed)
    masks.check(space, np.asarray(best)[None])
    accuracy = np.asarray(found["accuracy"])
    np.testing.assert_array_equal(archs[accuracy.argmax()], best)
    assert accuracy.max() == pytest.approx(1, abs=1e-6)
    assert np.sort(accuracy)[-2] < 1 - 1e-4
    assert accuracy.min() >= 0
    assert (found["params"] == jnp.round(found["params"])).all()
    assert float(found["params"].min()) > 0


def test_the_accuracy_by_hand():
    """Without interaction it is the mean of the utilities of single decisions, so it is additive."""
    space = blocks()
    evaluator = mock(space, interaction=0.0)
    archs = jnp.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]])
    x = evaluator.evaluate(jax.random.split(jax.random.key(0), 4), (), archs)[1]["accuracy"]
    np.testing.assert_allclose(x[3] - x[2], x[1] - x[0], atol=1e-6)
    y = mock(space, interaction=1.0).evaluate(jax.random.split(jax.random.key(0), 4), (), archs)[1][
        "accuracy"
    ]
    assert abs(float(y[3] - y[2] - (y[1] - y[0]))) > 1e-3


def test_noise_and_failures_have_the_rates_asked_for():
    space, n = blocks(), 4000
    archs = jnp.tile(jnp.array([[2, 0, 1]]), (n, 1))
    keys = jax.random.split(jax.random.key(0), n)
    clean = mock(space).evaluate(keys, (), archs)[1]["accuracy"]
    assert len(np.unique(clean)) == 1
    noisy = np.asarray(mock(space, noise=0.02).evaluate(keys, (), archs)[1]["accuracy"])
    assert noisy.std() == pytest.approx(0.02, rel=0.1)
    assert noisy.mean() == pytest.approx(float(clean[0]), abs=5 * 0.02 / np.sqrt(n))
    failing = mock(space, failure_rate=0.25).evaluate(keys, (), archs)[1]
    status = np.asarray(failing["status"])
    assert set(np.unique(status)) == {OK, MOCK_FAILURE}
    assert (status == MOCK_FAILURE).mean() == pytest.approx(0.25, abs=5 * np.sqrt(0.1875 / n))
    np.testing.assert_array_equal(np.isnan(failing["accuracy"]), status != OK)
    assert (
        mock(space, failure_rate=1.0).evaluate(keys[:9], (), archs[:9])[1]["status"] == MOCK_FAILURE
    ).all()


def test_landscapes_differ_by_their_seed():
    archs = jnp.array([[0, 0, 0], [1, 1, 1]])
    keys = jax.random.split(jax.random.key(0), 2)
    a, b, c = (mock(blocks(), landscape_seed=s).evaluate(keys, (), archs)[1]["accuracy"] for s in (0, 0, 1))
    np.testing.assert_array_equal(a, b)
    assert (a != c).all()


@pytest.mark.parametrize(("name", "value"), [("interaction", 1.1), ("failure_rate", -0.1), ("noise", -1.0)])
def test_bad_options(name, value):
    with pytest.raises(InputError, match=f"evaluator.{name}: got {value}"):
        mock(blocks(), **{name: value})
