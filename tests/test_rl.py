"""Returns, baselines and the REINFORCE loss, by hand and against plain transcriptions."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxnas import rl
from jaxnas.errors import InputError
from tests.helpers import assert_identical


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


def test_clipping_every_tensor_by_hand():
    # Norms 5, 0.5 and 0: the first is scaled to 1, the others stay, whatever the first is.
    gradient = {"a": jnp.array([[3.0, 4.0]]), "b": jnp.array([0.3, -0.4]), "c": jnp.zeros(3)}
    clip = rl.clip_by_tensor_norm(1.0)
    clipped, _ = clip.update(gradient, clip.init(gradient))
    np.testing.assert_allclose(clipped["a"], [[0.6, 0.8]], rtol=1e-6)
    np.testing.assert_array_equal(clipped["b"], gradient["b"])
    np.testing.assert_array_equal(clipped["c"], np.zeros(3))


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


def test_gae_by_hand():
    # γ = λ = ½, r = (0, 0, 1), V = (½, ¼, ¾): δ = (½·¼ − ½, ½·¾ − ¼, 1 − ¾) = (−⅜, ⅛, ¼);
    # Â = (−⅜ + ¼·3/16, ⅛ + ¼·¼, ¼). The second row ends after two decisions: δ = (1 + ⅛ − ½, 2 − ¼).
    reward = jnp.array([[0.0, 0.0, 1.0], [1.0, 2.0, 0.0]])
    value = jnp.array([[0.5, 0.25, 0.75], [0.5, 0.25, 9.0]])
    live = jnp.array([[True, True, True], [True, True, False]])
    found = rl.gae(reward, value, live, discount=0.5, gae_lambda=0.5)
    by_hand = [[-0.375 + 0.25 * 0.1875, 0.1875, 0.25], [0.625 + 0.25 * 1.75, 1.75, 0]]
    np.testing.assert_allclose(found, by_hand, rtol=1e-6)
    # λ = 0 is δ itself; γ = λ = 1 is the return minus the value.
    np.testing.assert_allclose(
        rl.gae(reward, value, live, discount=0.5, gae_lambda=0.0),
        [[-0.375, 0.125, 0.25], [0.625, 1.75, 0]],
        rtol=1e-6,
    )
    np.testing.assert_allclose(
        rl.gae(reward, value, live, discount=1.0, gae_lambda=1.0),
        np.where(live, rl.returns(reward) - value, 0),
        rtol=1e-6,
    )


def test_standardize_by_hand():
    x, mask = jnp.array([1.0, 3.0, jnp.nan, 5.0]), jnp.array([True, True, False, True])
    deviation = np.sqrt(8 / 3)
    np.testing.assert_allclose(
        rl.standardize(x, mask), np.array([-2, 0, 0, 2]) / (deviation + 1e-4), rtol=1e-6
    )
    assert (np.asarray(rl.standardize(x, jnp.zeros(4, bool))) == 0).all()
    rounding = jnp.array([0.5, 0.5 + 6e-8, 0.5])
    assert float(jnp.abs(rl.standardize(rounding, jnp.ones(3, bool))).max()) < 1e-3


def test_the_policy_gradient_loss_by_hand():
    log_prob = jnp.log(jnp.array([[0.5, 0.25], [0.5, 0.125]]))
    advantage, mask = jnp.array([[1.0, 2.0], [3.0, jnp.nan]]), jnp.array([[True, True], [True, False]])
    # −(−1 − 2·2 − 3)/3 ln 2
    np.testing.assert_allclose(
        rl.policy_gradient_loss(log_prob, advantage, mask), 8 / 3 * np.log(2), rtol=1e-6
    )


def test_the_ppo_loss_by_hand():
    # ratio   A    min(r A, clip(r, 0.8, 1.2) A)   ∂/∂ log r = r A where the ratio still pays
    #  1.5    2     2.4                            0: clipped
    #  0.5    2     1                              1
    #  1.5   −2    −3                             −3
    #  0.5   −2    −1.6                            0: clipped
    #  1.1    1     1.1                            1.1
    log_ratio = jnp.log(jnp.array([1.5, 0.5, 1.5, 0.5, 1.1, 7.0]))[None]
    advantage = jnp.array([2.0, 2.0, -2.0, -2.0, 1.0, jnp.nan])[None]
    mask = jnp.arange(6)[None] < 5
    loss, gradient = jax.value_and_grad(rl.ppo_loss)(log_ratio, advantage, mask, 0.2)
    np.testing.assert_allclose(loss, -(2.4 + 1 - 3 - 1.6 + 1.1) / 5, rtol=1e-5)
    np.testing.assert_allclose(gradient[0], -np.array([0, 1, -3, 0, 1.1, 0]) / 5, rtol=1e-5, atol=1e-7)


def test_q_targets_by_hand():
    q = jnp.array([[[1.0, 2.0, 9.0], [3.0, 4.0, 9.0], [5.0, 7.0, 9.0]]] * 2)
    q_choosing = q.at[:, :, 0].set(8.0)
    legal = jnp.ones((2, 3, 3), bool).at[:, :, 2].set(False)
    live = jnp.array([[True, True, True], [True, True, False]])
    reward = jnp.array([[0.0, 0.25, 1.0], [0.0, 0.5, 0.0]])
    # max over the two legal choices of the next decision: 4, 7; the second walk ends with its second.
    targets = rl.q_target(reward, q, q, legal, live, 0.5)
    np.testing.assert_allclose(targets[live], [2, 3.75, 1, 2, 0.5])
    # The choosing network prefers choice 0, which is worth 3 and 5.
    targets = rl.q_target(reward, q, q_choosing, legal, live, 0.5)
    np.testing.assert_allclose(targets[live], [1.5, 2.75, 1, 1.5, 0.5])


def test_explained_variance_by_hand():
    target, mask = jnp.array([1.0, 3.0, 5.0, jnp.nan]), jnp.arange(4) < 3
    found = [
        float(rl.explained_variance(jnp.array(x), target, mask))
        for x in ([1.0, 3.0, 5.0, 0.0], [2.0, 2.0, 2.0, 0.0], [1.0, 3.0, 3.0, 0.0])
    ]
    # Errors 0; as scattered as the target; (0, 0, 2) of variance 8/9 against 8/3.
    np.testing.assert_allclose(found, [1, 0, 1 - 1 / 3], rtol=1e-6, atol=1e-7)
    assert float(rl.explained_variance(target, jnp.ones(4), mask)) == 0


def test_descending_moves_nothing_unless_told():
    optimizer = optax.adam(0.1)
    params = jnp.array([1.0, -1.0])
    state = optimizer.init(params)
    moved, stepped = rl.descend(optimizer, params, params, state, jnp.array(True))
    np.testing.assert_allclose(moved, [0.9, -0.9], rtol=1e-5)
    assert_identical(rl.descend(optimizer, params, moved, stepped, jnp.array(False)), (moved, stepped))
