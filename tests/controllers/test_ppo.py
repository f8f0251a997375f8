"""PPO's gradient by hand, its epochs and its rollout over several rounds; what it learns."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnas import masks
from jaxnas.controllers import ppo
from jaxnas.errors import InputError
from jaxnas.rewards import outcome
from jaxnas.spaces import blocks
from jaxnas.types import Proposal
from tests.controllers.test_a2c import ARCH, LOGITS, QUARTER, REWARD, SPACE, VALUE, VALUES
from tests.helpers import assert_close, assert_identical, chain, chain_reward, chain_space, play

LOG_PROB = np.log([[0.75, 0.5, 0.5], [0.25, 0.5, 0.5]])


def told(reward=REWARD, arch=ARCH, log_prob=LOG_PROB, params=(QUARTER, VALUE), **options):
    """What one `tell` of a single epoch makes of the gradient, and the metrics."""
    options = {"policy": "free_logits", "epochs": 1, "gae_lambda": 1.0, **options}
    options = {"max_gradient_norm": 0.0, "normalize_advantage": False, **options}
    controller = ppo(SPACE, batch_size=len(arch), **options)
    state = controller.init(jax.random.key(0))._replace(params=params)
    value = jnp.broadcast_to(VALUE if isinstance(params, tuple) else jnp.zeros(3), arch.shape)
    memo = {"log_prob": jnp.asarray(log_prob, jnp.float32), "value": value}
    after, metrics = jax.jit(controller.tell)(jax.random.key(1), state, Proposal(arch, memo), outcome(reward))
    return jax.tree.map(lambda m: 10 * m, optax.tree.get(after.optimizer, "mu")), metrics


def test_the_first_gradient_is_that_of_a2c():
    (logits, values), metrics = told()
    np.testing.assert_allclose(logits, LOGITS, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(values, VALUES, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(metrics["policy_loss"], -(0.75 + 0.5 + 0.25 + 0.25 + 0 - 0.25) / 6, rtol=1e-5)
    assert float(metrics["clip_fraction"]) == 0
    assert abs(float(metrics["approx_kl"])) < 1e-6


def test_a_stale_policy_by_hand():
    # The old policy gave every choice p / 1.5 in row 1 and p · 1.25 in row 2: ratios 1.5 and 0.8. Of row 1
    # nothing is left, since its advantages are positive and the ratio is above 1.2; of row 2 with advantages
    # (¼, 0, −¼) the ratio 0.8 still pays for the first, and the last is at the clip's very edge with 0.75.
    log_prob = LOG_PROB + np.log([[1 / 1.5], [1 / 0.75]])
    (logits, _), metrics = told(log_prob=log_prob)
    # decision 1: −⅙ · 0.75 · ¼ · (¾, −¾); decision 3: clipped.
    by_hand = np.array([[-1, 1], [0, 0], [0, 0]]) * 0.75 * 0.25 * 0.75 / 6
    np.testing.assert_allclose(logits, by_hand, rtol=1e-5, atol=1e-7)
    assert float(metrics["clip_fraction"]) == 1
    kl = np.mean([0.5 - np.log(1.5), -0.25 - np.log(0.75)])
    np.testing.assert_allclose(metrics["approx_kl"], kl, rtol=1e-5)


def test_advantages_are_standardized_over_the_rollout():
    # (¾, ½, ¼, ¼, 0, −¼): mean ¼, deviation √(1/4 + 1/16 + 1/16 + 1/4)/√6 = √(5/48).
    deviation = np.sqrt(5 / 48) + 1e-4
    (logits, _), _ = told(normalize_advantage=True)
    # decision 1: −⅙ [½·(−¼, ¼) + 0]; 2: −⅙ [¼·(½, −½) − ¼·(½, −½)] = 0; 3: −⅙ [0 − ½·(−½, ½)].
    by_hand = np.array([[1 / 48, -1 / 48], [0, 0], [-1 / 24, 1 / 24]]) / deviation
    np.testing.assert_allclose(logits, by_hand, rtol=1e-5, atol=1e-7)


def test_a_moving_average_in_place_of_the_critic():
    # The average starts at the mean ¾: advantages ¼ and −¼ at every decision.
    logits, metrics = told(params=QUARTER, baseline="ema")
    by_hand = np.array([[1, -1], [0, 0], [-1, 1]]) / 24  # −⅙ · ¼ · [(−¼, ¼) − (¾, −¾)], …
    np.testing.assert_allclose(logits, by_hand, rtol=1e-5, atol=1e-7)
    assert (float(metrics["value_loss"]), float(metrics["explained_variance"])) == (0, 0)


def test_every_epoch_is_a_step_for_every_minibatch():
    for options, steps in (({}, 4), ({"minibatch_size": 2, "epochs": 3}, 6)):
        controller = ppo(SPACE, batch_size=4, policy="free_logits", **options)
        state, _ = play(controller, lambda arch: arch.astype(jnp.float32), 1)
        assert int(optax.tree.get(state.optimizer, "count")) == steps


def test_eight_rounds_of_one_are_one_round_of_eight():
    """Buffers of single trajectories: nothing moves until the eighth, then the very same update."""
    space, options = chain(), {"units": 5, "rollout": 8, "learning_rate": 0.1}
    one, eight = ppo(space, batch_size=1, **options), ppo(space, batch_size=8, **options)
    start = state = one.init(jax.random.key(0))
    proposal = jax.jit(eight.ask)(jax.random.key(1), eight.init(jax.random.key(0)))
    reward = jax.random.normal(jax.random.key(2), proposal.arch.shape)
    tell = jax.jit(one.tell)
    for i in range(8):
        row = jax.tree.map(lambda x, i=i: x[i : i + 1], proposal)
        failed, _ = tell(jax.random.key(3), state, row, outcome(jnp.full_like(reward[:1], jnp.nan)))
        assert_identical(failed, state)  # a failed child is not gathered
        assert_identical((state.params, state.optimizer), (start.params, start.optimizer))
        assert int(state.gathered) == i
        state, metrics = tell(jax.random.key(3), state, row, outcome(reward[i : i + 1]))
        assert (float(metrics["entropy"]) > 0) == (i == 7)
    assert int(state.gathered) == 0
    told, of_eight = jax.jit(eight.tell)(
        jax.random.key(3), eight.init(jax.random.key(0)), proposal, outcome(reward)
    )
    assert_close((state.params, state.optimizer), (told.params, told.optimizer), rtol=1e-3, atol=1e-6)
    assert_close(metrics, of_eight, rtol=1e-4, atol=1e-6)
    # A second rollout forgets the first.
    second, _ = tell(jax.random.key(4), state, jax.tree.map(lambda x: x[:1], proposal), outcome(reward[:1]))
    assert_identical(second.params, state.params)
    assert int(second.gathered) == 1


def test_it_finds_the_far_end():
    space = chain_space()
    controller = ppo(space, units=16)
    state, (arch, _) = play(controller, chain_reward, 100)
    masks.check(space, arch.reshape(-1, 4))
    best, probabilities = controller.policy(state)
    assert best.tolist() == [1, 1, 1, 1]
    assert float(probabilities.max(-1).min()) > 0.9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rollout": 12}, "rollout: got 12; it takes a multiple of 8"),
        ({"rollout": 0}, "rollout: got 0; it takes a multiple of 8"),
        ({"minibatch_size": 3}, "minibatch_size: got 3; it takes a divisor of 8"),
        ({"batch_size": 0}, "batch_size: got 0; it takes 1 or more"),
        ({"clip": 0.0}, "clip: got 0.0; it takes a positive number"),
        ({"baseline": "valu"}, "baseline: unknown name 'valu'"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(InputError, match=rf"^controller\.{message}"):
        ppo(blocks(), **options)
