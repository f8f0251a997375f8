"""Returns, baselines and the REINFORCE loss, by hand and against plain transcriptions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxnas import rl
from jaxnas.errors import InputError


def test_returns_by_hand():
    np.testing.assert_array_equal(
        rl.returns(jnp.array([[1.0, 2.0, 4.0], [0.0, 0.0, 3.0]])), [[7, 6, 4], [3, 3, 3]]
    )


def test_valid_rows_and_masked_mean():
    reward = jnp.array([[0.0, 1.0], [0.0, jnp.nan], [jnp.inf, 0.0], [2.0, 3.0]])
    valid, clean = rl.valid_rows(reward)
    np.testing.assert_array_equal(valid, [True, False, False, True])
    np.testing.assert_array_equal(clean, [[0, 1], [0, 0], [0, 0], [2, 3]])
    assert float(rl.masked_mean(jnp.array([1.0, 5.0, 9.0, 4.0]), valid)) == 2.5
    assert float(rl.masked_mean(jnp.array([jnp.nan, 5.0]), jnp.array([False, True]))) == 5.0
    assert float(rl.masked_mean(jnp.array([1.0, 5.0]), jnp.zeros(2, bool))) == 0.0


def test_the_reinforce_loss_by_hand():
    # Row 1: log π = ln 1/2, ln 1/4 with advantages 1, 2: −ln 2 − 2 ln 4 = −5 ln 2. Row 2: only its first
    # decision lives: ln 1/4 · 3 = −6 ln 2. Row 3 is invalid. Loss = (5 + 6)/2 ln 2 = 5.5 ln 2.
    half, quarter, rest = np.log([0.5, 0.25, 0.75])
    log_probs = jnp.array([[[half, half], [quarter, rest]]] * 3)
    log_probs = log_probs.at[1, 0].set(jnp.array([quarter, rest]))
    arch = jnp.zeros((3, 2), jnp.int32)
    advantage = jnp.array([[1.0, 2.0], [3.0, 100.0], [jnp.nan, 7.0]])
    live = jnp.array([[True, True], [True, False], [True, True]])
    valid = jnp.array([True, True, False])
    loss = rl.reinforce_loss(log_probs, arch, advantage, live, valid)
    np.testing.assert_allclose(loss, 5.5 * np.log(2), rtol=1e-6)


def test_no_gradient_flows_through_the_advantage():
    def loss(x):
        log_probs = jnp.log(jnp.full((1, 1, 2), 0.5))
        ones = jnp.ones((1, 1), bool)
        return rl.reinforce_loss(log_probs, jnp.zeros((1, 1), jnp.int32), x.reshape(1, 1), ones, ones[0])

    assert float(jax.grad(loss)(jnp.float32(3.0))) == 0.0


def run_baseline(baseline, batches):
    update = jax.jit(baseline.update)
    state, values = baseline.init, []
    for total, valid in batches:
        state, value = update(state, jnp.asarray(total, jnp.float32), jnp.asarray(valid))
        values.append(float(value))
    return np.array(values)


def test_no_baseline():
    assert run_baseline(rl.no_baseline(), [([1.0, 2.0], [True, True])] * 3).tolist() == [0, 0, 0]


def test_the_ema_baseline_by_hand():
    # decay 1/2, batch means 2, 6, (none), 4; bias-corrected: 2 | (½·1 + ½·6)/(3/4) = 14/3 | the same |
    # weights ½·¾ + ½ = 7/8: (½·3.5 + ½·4)/(7/8) = 30/7
    batches = [([1, 3], [1, 1]), ([6, 99], [1, 0]), ([9, 9], [0, 0]), ([4, 4], [1, 1])]
    batches = [(total, np.array(valid, bool)) for total, valid in batches]
    np.testing.assert_allclose(
        run_baseline(rl.ema_baseline(0.5), batches), [2, 14 / 3, 14 / 3, 30 / 7], rtol=1e-6
    )


def test_an_ema_without_a_reward_is_zero():
    assert run_baseline(rl.ema_baseline(0.9), [([5.0], [False])]).tolist() == [0.0]


def transcribed(batches):
    """DLMAIRIL's baseline in plain Python: 0.65³ until 20 rewards, then the largest of three."""
    rewards, best, values = [], 0.5, []
    for total, valid in batches:
        for reward, good in zip(total, valid, strict=True):
            if good:
                rewards.append(reward)
                best = max(best, reward)
        if len(rewards) < 20:
            values.append(0.65**3)
        else:
            values.append(max(np.mean(rewards[-20:]), np.mean(rewards[-100:]), 0.8 * best))
    return np.array(values)


@pytest.mark.parametrize(
    ("batch", "rounds", "trend"), [(1, 130, 0.0), (4, 40, 0.01), (4, 40, -0.01), (30, 6, 0.0)]
)
def test_max_of_means_against_its_transcription(batch, rounds, trend):
    rng = np.random.default_rng(batch)
    totals = rng.uniform(0.2, 0.6, (rounds, batch)) + trend * np.arange(rounds)[:, None]
    valid = rng.uniform(size=(rounds, batch)) < 0.8
    totals[0, 0], valid[0, 0] = 0.9, True
    batches = list(zip(totals, valid, strict=True))
    np.testing.assert_allclose(
        run_baseline(rl.max_of_means_baseline(), batches), transcribed(batches), rtol=1e-5
    )


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), min_size=40, max_size=40))
def test_max_of_means_on_any_rewards(rows):
    batches = [
        (np.array([r[0] for r in rows[i : i + 4]]), np.array([r[1] for r in rows[i : i + 4]]))
        for i in range(0, 40, 4)
    ]
    np.testing.assert_allclose(
        run_baseline(rl.max_of_means_baseline(), batches), transcribed(batches), rtol=1e-5, atol=1e-6
    )


def test_every_term_of_max_of_means_can_be_the_largest():
    def last(totals):
        return run_baseline(rl.max_of_means_baseline(), [([t], [True]) for t in totals])[-1]

    assert last([0.5] * 19) == pytest.approx(0.274625)
    assert last([0.1] * 20) == pytest.approx(0.4)  # 0.8 × the best, which starts at 0.5
    assert last([0.9] * 80 + [0.7] * 20) == pytest.approx(0.86)  # the mean of 100
    assert last([0.5] * 80 + [0.9] * 20) == pytest.approx(0.9)  # the mean of 20


@pytest.mark.parametrize("name", ["ema", "none", "max_of_means"])
def test_a_baseline_keeps_its_types(name):
    baseline = rl.make_baseline(name, 0.9)
    update = jax.jit(baseline.update)
    state = baseline.init
    for _ in range(3):
        state, value = update(state, jnp.ones(2), jnp.ones(2, bool))
        assert value.shape == ()
    assert update._cache_size() == 1


def test_an_unknown_baseline():
    with pytest.raises(InputError, match=r"controller.baseline: unknown name 'emma'; did you mean 'ema'"):
        rl.make_baseline("emma", 0.9)
