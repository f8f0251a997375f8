"""Every score against numbers worked out by hand."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas import rewards
from jaxnas.errors import InputError


def measures(accuracy=0.9, params=10_000.0, **more):
    return {
        name: jnp.array([value]) for name, value in {"accuracy": accuracy, "params": params, **more}.items()
    }


@pytest.mark.parametrize(
    ("name", "options", "given", "by_hand"),
    [
        ("accuracy", {}, {}, 0.9),
        ("accuracy", {"measure": "auc"}, {"auc": 0.7}, 0.7),
        ("negative", {}, {"loss": 1.5}, -1.5),
        ("negative", {"measure": "mse"}, {"mse": 0.25}, -0.25),
        ("accuracy_cubed", {}, {}, 0.729),
        ("accuracy_cubed", {"measure": "auc"}, {"auc": 0.5}, 0.125),
        # 0.9 − 1e-6 · 34,667 (RLMedNAS: accuracy − λ·params)
        ("accuracy_minus_params", {}, {"params": 34_667.0}, 0.865333),
        ("accuracy_minus_params", {"weight": 1e-5, "measure": "auc"}, {"auc": 0.8}, 0.7),
    ],
)
def test_by_hand(name, options, given, by_hand):
    score = rewards.REGISTRY[name](measures(**given), **options)
    assert score.shape == (1,)
    np.testing.assert_allclose(score, [by_hand], rtol=1e-6)


@pytest.mark.parametrize(("x", "penalty"), [(1e4, 0.0074), (1e5, 0.0385), (1e6, 0.341), (1.3e7, 4.37)])
def test_the_penalty_of_mini_metaqnn(x, penalty):  # 0.001 (x / e⁸ + log10 x), as its code has it
    score = rewards.accuracy_minus_log_params(measures(0.0, x))
    assert f"{-float(score[0]):.3g}" == f"{penalty:.3g}" or f"{-float(score[0]):.2g}" == f"{penalty:.2g}"
    np.testing.assert_allclose(-score, [0.001 * (x / math.e**8 + math.log10(x))], rtol=1e-6)


@pytest.mark.parametrize(
    ("delta", "log", "by_hand"),
    [
        # β = 0.001, x = 1e6: δ·x is 1e6/e⁸ = 335.4626 or 0.01; log x is 6 or 13.815511
        (math.exp(-8), "log10", 0.3414626),
        (math.exp(-8), "ln", 0.3492781),
        (1e-8, "log10", 0.00601),
        (1e-8, "ln", 0.0138255),
    ],
)
def test_every_reading_of_the_penalty(delta, log, by_hand):
    score = rewards.accuracy_minus_log_params(measures(0.0, 1e6), delta=delta, log=log)
    np.testing.assert_allclose(-score, [by_hand], rtol=1e-5)
    half = rewards.accuracy_minus_log_params(measures(0.0, 1e6), delta=delta, log=log, beta=0.0005)
    np.testing.assert_allclose(half, score / 2, rtol=1e-6)


def test_a_wrong_logarithm():
    with pytest.raises(InputError, match=r"reward\.log: got 'log2'"):
        rewards.accuracy_minus_log_params(measures(), log="log2")


@pytest.mark.parametrize("name", rewards.REGISTRY)
def test_every_reward_keeps_rows_apart_and_nan_as_nan(name):
    rows = {
        "accuracy": jnp.array([0.5, jnp.nan, 0.7]),
        "params": jnp.array([1e4, 2e4, jnp.nan]),
        "loss": jnp.array([1.0, jnp.nan, 3.0]),
        "status": jnp.array([0, 1, 0]),
    }
    together = rewards.REGISTRY[name](rows)
    assert together.shape == (3,)
    assert together.dtype == jnp.float32
    assert np.isfinite(together[0])
    assert np.isnan(together[1])
    alone = rewards.REGISTRY[name]({m: x[:1] for m, x in rows.items()})
    np.testing.assert_array_equal(together[:1], alone)


@pytest.mark.parametrize("name", rewards.REGISTRY)
def test_an_unknown_measure_is_named_with_those_there_are(name):
    with pytest.raises(InputError, match=r"no measure 'auk'; this evaluator reports accuracy, params$"):
        rewards.REGISTRY[name]({**measures(), "status": jnp.zeros(1, jnp.int32)}, measure="auk")


def test_terminal_places_the_score_at_the_last_live_decision():
    live = jnp.array([[True, True, True], [True, False, False], [True, True, False]])
    placed = rewards.terminal(jnp.array([1.0, 2.0, jnp.nan]), live)
    np.testing.assert_array_equal(placed, [[0, 0, 1], [2, 0, 0], [0, np.nan, 0]])
