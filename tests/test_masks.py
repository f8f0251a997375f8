"""What is forbidden has exactly zero probability and gradient, and is never drawn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxnas import masks, policies
from jaxnas.errors import InputError
from jaxnas.spaces import blocks
from tests.helpers import FORBID, SPACES, chain, quick_jit

MASK = jnp.array([True, False, True, False])


def test_forbidden_choices_have_zero_probability_and_gradient():
    for logits in (
        jnp.zeros(4),
        jnp.array([-50.0, 80.0, 1.0, 1e9]),
        jnp.array([3.0, 1e10, -2.0, jnp.finfo(jnp.float32).max]),
    ):
        probabilities = jax.nn.softmax(masks.mask_logits(logits, MASK))
        assert (np.asarray(probabilities)[~np.asarray(MASK)] == 0).all()
        np.testing.assert_allclose(probabilities.sum(), 1, rtol=1e-6)
        for function in (
            lambda x: jax.nn.log_softmax(masks.mask_logits(x, MASK))[0],
            lambda x: masks.entropy(jax.nn.log_softmax(masks.mask_logits(x, MASK))),
        ):
            gradient = np.asarray(jax.grad(function)(logits))
            assert np.isfinite(gradient).all()
            assert (gradient[~np.asarray(MASK)] == 0).all()
    # d log π_0 / d logits with π = (1/2, 0, 1/2, 0)
    gradient = jax.grad(lambda x: jax.nn.log_softmax(masks.mask_logits(x, MASK))[0])(jnp.zeros(4))
    np.testing.assert_allclose(gradient, [0.5, 0, -0.5, 0], rtol=1e-6)


def test_forbidden_choices_are_never_drawn_in_100_000():
    logits = jnp.array([0.0, 30.0, 1.0, 5.0])  # the forbidden are the likeliest
    drawn = jax.random.categorical(jax.random.key(0), masks.mask_logits(logits, MASK), shape=(100_000,))
    counts = np.bincount(np.asarray(drawn), minlength=4)
    assert counts[1] == counts[3] == 0
    assert abs(counts[2] / 100_000 - 1 / (1 + np.exp(-1))) < 5 * np.sqrt(0.25 / 100_000)


@pytest.mark.parametrize("name", SPACES)
def test_100_000_walks_are_legal(name):
    space = SPACES[name]()
    archs = jax.jit(jax.vmap(lambda key: masks.sample(key, space)))(
        jax.random.split(jax.random.key(1), 100_000)
    )
    masks.check(space, np.asarray(archs))
    if name == "one_block":
        decoded = [space.decode(arch) for arch in np.unique(np.asarray(archs), axis=0)]
        assert len(decoded) == space.size == 15  # 16 and 32 filters: 2 · 2 · 3; 64: 3
        assert not any(d["filters"] == 128 or (d["filters"] == 64 and d["kernel"] == 5) for d in decoded)


def test_uniform_walks_are_uniform_over_the_legal_choices():
    space = blocks(forbid=({"filters": 128},))
    archs = np.asarray(
        jax.jit(jax.vmap(lambda key: masks.sample(key, space)))(jax.random.split(jax.random.key(2), 30_000))
    )
    shares = np.bincount(archs[:, 0], minlength=4) / len(archs)
    np.testing.assert_allclose(shares, [1 / 3, 1 / 3, 1 / 3, 0], atol=5 * np.sqrt(2 / 9 / 30_000))


@pytest.mark.parametrize("policy", ["free_logits", "lstm"])
def test_no_gradient_reaches_a_forbidden_choice_of_a_policy(policy):
    space = blocks(forbid=FORBID)
    pi = policies.make(policy, space, units=4, feedback=True)
    params = pi.init(jax.random.key(0))
    arch = jnp.array([2, 0, 1])  # 64 filters: 128 and, after it, kernel 5 are forbidden

    def score(params):
        log_probs = policies.unroll(pi, space, params, arch).log_probs
        taken = jnp.take_along_axis(log_probs, arch[:, None], axis=1).sum()
        return taken + masks.entropy(log_probs).sum()

    log_probs = policies.unroll(pi, space, params, arch).log_probs
    assert float(jnp.exp(log_probs[0, 3])) == float(jnp.exp(log_probs[1, 1])) == 0.0
    gradient = jax.grad(score)(params)
    of_bias = gradient if policy == "free_logits" else gradient.bias
    assert float(of_bias[0, 3]) == float(of_bias[1, 1]) == 0.0
    assert float(jnp.abs(of_bias[0, :3]).min()) > 0


def test_a_row_without_a_legal_choice_stays_finite():
    with jax.debug_nans(True):
        nothing = jnp.zeros(4, bool)
        log_probs = jax.nn.log_softmax(masks.mask_logits(jnp.arange(4.0), nothing))
        values = (
            log_probs,
            masks.entropy(log_probs),
            jax.grad(lambda x: masks.entropy(jax.nn.log_softmax(masks.mask_logits(x, nothing))))(
                jnp.arange(4.0)
            ),
            jax.grad(lambda x: jax.nn.log_softmax(masks.mask_logits(x, nothing))[1])(jnp.arange(4.0)),
        )
        assert all(bool(jnp.isfinite(x).all()) for x in values)
        np.testing.assert_array_equal(values[2], jnp.zeros(4))


def test_entropy_by_hand():
    # (1/4, 3/4): ¼ ln 4 + ¾ ln 4/3 = 0.5623351; uniform over three: ln 3; certain: 0
    log_probs = jnp.log(jnp.array([[0.25, 0.75], [0.5, 0.5]]))
    np.testing.assert_allclose(masks.entropy(log_probs), [0.5623351, np.log(2)], rtol=1e-6)
    three = jax.nn.log_softmax(masks.mask_logits(jnp.zeros(4), jnp.array([True, True, False, True])))
    np.testing.assert_allclose(masks.entropy(three), np.log(3), rtol=1e-6)
    one = jax.nn.log_softmax(masks.mask_logits(jnp.zeros(4), jnp.array([False, True, False, False])))
    assert float(masks.entropy(one)) == 0.0


def test_the_walk_of_a_stopped_architecture():
    space = SPACES["chain"]()
    walk = masks.walk(space, jnp.array([3, 1, 0, 0]))
    np.testing.assert_array_equal(walk.live, [True, True, True, False])
    expected = [[0, 1, 1, 1], [1, 1, 1, 0], [1, 1, 1, 1], [1, 0, 0, 0]]
    np.testing.assert_array_equal(walk.legal, np.array(expected, bool))
    np.testing.assert_array_equal(walk.state, [0, 4 + 3, 8 + 1, 12 + 0])


def test_check_names_the_decision():
    space = blocks(num_blocks=2, forbid=FORBID)
    good = [0, 0, 0, 2, 0, 0]
    masks.check(space, np.array([good]))
    with pytest.raises(
        InputError, match=r"choice 1 is illegal at decision 'kernel_2' after \[0, 0, 0, 2\]; legal are \[0\]"
    ):
        masks.check(space, np.array([good, [0, 0, 0, 2, 1, 0]]))
    with pytest.raises(
        InputError, match=r"choice 3 is illegal at decision 'filters_1' after \[\]; legal are \[0, 1, 2\]"
    ):
        masks.check(space, np.array([[3, 0, 0, 2, 1, 0]]))


def test_check_names_a_decision_without_a_choice():
    def legal(choices, depth):  # after 16 filters no kernel is left
        return jnp.where((depth == 1) & (choices[0] == 0), jnp.zeros(4, bool), jnp.ones(4, bool))

    with pytest.raises(InputError, match=r"no choice is left for decision 'kernel' after \[0\]"):
        blocks(legal=legal)
    free = blocks()
    space = free._replace(mask=lambda walk: free.mask(walk) & legal(walk.choices, walk.depth))
    masks.check(space, np.array([[1, 1, 2]]))
    with pytest.raises(InputError, match=r"no choice is left for decision 'kernel' after \[0\]"):
        masks.check(space, np.array([[0, 0, 0]]))


def test_check_names_a_choice_that_does_not_exist():
    with pytest.raises(InputError, match="choice 9 is illegal at decision 'kernel'"):
        masks.check(blocks(), np.array([[0, 9, 0]]))


@pytest.fixture(scope="module")
def repair():
    """{space: (space, wish [T] → repaired, repaired again, what was legal along it)}"""

    def of(space):
        def both(key, wish):
            once = masks.repair(key, space, wish)
            return once, masks.repair(key, space, once), masks.walk(space, once).legal

        return space, quick_jit(both)

    return {name: of(make()) for name, make in SPACES.items()}


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_integers_become_legal_and_what_is_legal_stays(repair, data):
    space, both = repair[data.draw(st.sampled_from(sorted(SPACES)))]
    choices = st.integers(-2, space.num_choices + 1)
    wish = np.array(data.draw(st.lists(choices, min_size=space.num_steps, max_size=space.num_steps)))
    key = jax.random.key(data.draw(st.integers(0, 99)))
    once, twice, legal = map(np.asarray, both(key, jnp.asarray(wish, jnp.int32)))
    rows = np.arange(space.num_steps)
    assert once.dtype == np.int32
    assert legal[rows, once].all()
    np.testing.assert_array_equal(once, twice)
    # Every choice is kept that was legal after those before it.
    inside = (wish >= 0) & (wish < space.num_choices)
    kept = inside & legal[rows, np.where(inside, wish, 0)]
    np.testing.assert_array_equal(once[kept], wish[kept])


def test_repair_draws_uniformly_what_is_illegal():
    space = blocks(forbid=FORBID)
    keys = jax.random.split(jax.random.key(3), 3000)
    wish = jnp.array([3, 1, 2])  # 128 filters are forbidden; kernel 5 after 64
    archs = np.asarray(jax.jit(jax.vmap(lambda k: masks.repair(k, space, wish)))(keys))
    np.testing.assert_allclose(np.bincount(archs[:, 0], minlength=4) / 3000, [1 / 3] * 3 + [0], atol=0.05)
    np.testing.assert_array_equal(archs[:, 1], archs[:, 0] != 2)
    assert (archs[:, 2] == 2).all()


def test_changes_by_hand():
    space = SPACES["chain"]()  # never 3 twice in a row, 0 stops
    found = np.asarray(masks.changes(space, jnp.array([3, 1, 0, 0]))).astype(int)
    expected = [[0, 1, 1, 0], [1, 0, 1, 0], [0, 1, 1, 1], [0, 0, 0, 0]]
    np.testing.assert_array_equal(found, expected)


def test_a_mutation_changes_what_it_may():
    space, arch = SPACES["chain"](), jnp.array([2, 3, 1, 0])
    among = jnp.zeros((4, 4), bool).at[0, 3].set(True).at[1, jnp.array([0, 2])].set(True)
    mutate = jax.jit(jax.vmap(lambda k: masks.mutate(k, space, arch, among)))
    mutants = np.asarray(mutate(jax.random.split(jax.random.key(4), 4000)))
    found = {tuple(a): n / 4000 for a, n in zip(*np.unique(mutants, axis=0, return_counts=True), strict=True)}
    # A decision has half, and its choices share it. After 3 another 3 is illegal: drawn anew from 0, 1, 2,
    # of which a stop leaves no more; a stop at decision 2 does so too.
    by_hand = {(3, 1, 1, 0): 1 / 6, (3, 2, 1, 0): 1 / 6, (3, 0, 0, 0): 1 / 6}
    by_hand |= {(2, 0, 0, 0): 1 / 4, (2, 2, 1, 0): 1 / 4}
    assert found == pytest.approx(by_hand, abs=0.035)
    same = masks.mutate(jax.random.key(0), space, arch, jnp.zeros((4, 4), bool))
    np.testing.assert_array_equal(same, arch)


def test_a_rollout_carries_what_it_is_told_to():
    """The third decision stops; carry, walk and input are those of each decision."""
    space = chain(4)

    def decide(walk, carry, wish):
        return jnp.where(carry < 2, wish, 0), carry + 1, (carry, walk.depth, space.done(walk))

    decisions, depth, done = masks.rollout(space, decide, jnp.array([1, 3, 2, 2]), jnp.int32(0))
    assert decisions.tolist() == depth.tolist() == [0, 1, 2, 3]
    assert done.tolist() == [False, False, False, True]
