"""The mock landscape: its optimum, its noise, its failures."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas import masks
from jaxnas.errors import InputError
from jaxnas.evaluators.mock import mock, nasnet_formula, optimum
from jaxnas.spaces import blocks, nasnet
from jaxnas.types import MOCK_FAILURE, OK
from tests.helpers import FORBID, chain, random_archs

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


# Two blocks or four; the sums of .5, .4 hi, −.1 lo, .15 ind, .1 cmb, .15 div and .13 sin(π m / 6.5).
WORKED = [
    # ops 12, 11, 10, 9: m = 10.5, sin = −.9350162; squared it is 1.1548, beyond the bound.
    ([0, 1, 12, 11, 0, 0, 1, 10, 9, 1], 0.5 + 0.4 + 0.15 + 0.1 + 0.15 * 4 / 13 - 0.1215521, 0.998),
    # the same choice throughout: one input of one, one combination in two blocks, one operation; .6115² < .5
    ([0] * 10, 0.5 - 0.1 + 0.15 + 0.05 + 0.15 / 13, 0.5),
    # ops 3, 4, 9, 8: m = 6, sin = .2393157; .8522648² = .7263553
    ([1, 1, 3, 4, 0, 0, 1, 9, 8, 0], 0.5 + 0.1 - 0.025 + 0.15 + 0.05 + 0.15 * 4 / 13 + 0.0311110, 0.7263553),
    # inputs 0 and 2 of the three up to 2; ops 6 and 7: m = 6.5, sin = 0; one combination in four blocks
    ([0, 0, 6, 7, 1, 2, 2, 6, 7, 1] + [0, 0, 6, 7, 1] * 2, 0.5 + 0.1 + 0.025 + 0.15 * 2 / 13, 0.5),
    # as before with ops 9 and 8: hi ½, m = 8.5, sin = −.8229839; .7410890² = .5492129
    (
        [0, 0, 9, 8, 1, 2, 2, 9, 8, 1] + [0, 0, 9, 8, 1] * 2,
        0.5 + 0.2 + 0.1 + 0.025 + 0.3 / 13 - 0.1069879,
        0.5492129,
    ),
]


def test_the_nasnet_formula_by_hand():
    evaluators = [mock(nasnet(blocks_per_cell=2), formula="nasnet", squared=s) for s in (True, False)]
    for arch, r, squared in WORKED:
        arch = jnp.array(arch)
        np.testing.assert_allclose(nasnet_formula(arch, squared=False), min(r, 0.998), rtol=2e-6)
        np.testing.assert_allclose(nasnet_formula(arch), squared, rtol=2e-6)
        if len(arch) == 20:  # the evaluator reports it, squared unless told
            key = jax.random.split(jax.random.key(0), 1)
            found = [e.evaluate(key, (), arch[None])[1]["accuracy"][0] for e in evaluators]
            np.testing.assert_allclose(found, [squared, r], rtol=2e-6)


def uniform_archs(inputs, n, seed=0):  # → int32 [n, 20]
    """Two cells of two blocks, uniform; the inputs among so many."""
    rng = np.random.default_rng(seed)
    return np.stack([rng.integers(size, size=n) for k in inputs for size in (k, k, 13, 13, 2)], 1).astype(
        np.int32
    )


def test_the_nasnet_formula_against_its_transcription():
    archs = uniform_archs((2, 3, 4, 5), 200)

    def transcribed(arch):
        blocks = [arch[i : i + 5] for i in range(0, 20, 5)]
        inputs = [x for b in blocks for x in b[:2]]
        ops = [x for b in blocks for x in b[2:4]]
        r = 0.5 + 0.4 * sum(x > 8 for x in ops) / 8 - 0.1 * sum(x < 4 for x in ops) / 8
        r += 0.15 * len(set(inputs)) / (max(inputs) + 1) + 0.1 * len({b[4] for b in blocks}) / 4
        r += 0.15 * len(set(ops)) / 13 + 0.13 * np.sin(np.mean(ops) * np.pi / 6.5)
        return max(0.5, min(0.998, r * r))

    found = jax.jit(jax.vmap(nasnet_formula))(archs)
    np.testing.assert_allclose(found, [transcribed(a) for a in archs.tolist()], rtol=1e-5)


def test_the_nasnet_formula_under_uniform_choices():
    n, formula = 40_000, jax.jit(jax.vmap(nasnet_formula))
    legal = np.asarray(formula(random_archs(nasnet(blocks_per_cell=2), n)))
    # The source counts its blocks, and so their inputs, on through the second cell.
    running = np.asarray(formula(uniform_archs((2, 3, 4, 5), n)))
    assert (legal.mean(), legal.std()) == (pytest.approx(0.783, abs=0.002), pytest.approx(0.069, abs=0.001))
    assert (running.mean(), running.std()) == (
        pytest.approx(0.764, abs=0.002),
        pytest.approx(0.074, abs=0.001),
    )


@pytest.mark.parametrize(
    ("space", "options", "message"),
    [
        (
            blocks,
            {"formula": "nasnet"},
            r"evaluator\.formula: got nasnet with space blocks; it takes the space",
        ),
        (lambda: nasnet(operations=("sep3", "max3")), {"formula": "nasnet"}, "with its 13 operations"),
        (
            blocks,
            {"formula": "nasnett"},
            r"evaluator\.formula: unknown name 'nasnett'; did you mean 'nasnet'",
        ),
    ],
)
def test_a_formula_that_does_not_fit(space, options, message):
    with pytest.raises(InputError, match=message):
        mock(space(), **options)


@pytest.mark.parametrize(("name", "value"), [("interaction", 1.1), ("failure_rate", -0.1), ("noise", -1.0)])
def test_bad_options(name, value):
    with pytest.raises(InputError, match=f"evaluator.{name}: got {value}"):
        mock(blocks(), **{name: value})
