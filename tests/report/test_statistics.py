"""Means over searches, their intervals and what they are means of, by hand."""

import numpy as np
import pytest

from jaxnas.report import statistics

nan = np.nan


def test_best_so_far_by_hand():
    reward = np.array([[nan, 0.3, 0.2, 0.3, 0.9], [-1.0, nan, -2.0, -0.5, -0.5], [nan] * 5])
    best = statistics.best_so_far(reward)
    assert best.tolist() == [[-1, 1, 1, 1, 4], [0, 0, 0, 3, 3], [-1] * 5]
    values = np.arange(15.0).reshape(3, 5)
    expected = [[nan, 1, 1, 1, 4], [5, 5, 5, 8, 8], [nan] * 5]
    np.testing.assert_array_equal(statistics.at_best(values, best), expected)
    np.testing.assert_array_equal(statistics.at_best(values, best[:, -1]), [4, 8, nan])


def test_a_bootstrap_against_the_normal_interval():
    """Of many values the interval is mean ± 1.96 standard errors, to a few per cent of its width."""
    values = np.random.default_rng(1).normal(3, 2, (400, 2)) * [1, 10]
    found = statistics.mean(values)
    np.testing.assert_allclose(found.value, values.mean(axis=0))
    half = 1.96 * values.std(axis=0) / 20
    np.testing.assert_allclose(found.low, found.value - half, atol=0.06 * half.max(), rtol=0.01)
    np.testing.assert_allclose(found.high, found.value + half, atol=0.06 * half.max(), rtol=0.01)
    np.testing.assert_array_equal(found, statistics.mean(values))  # the same numbers every time


def test_a_bootstrap_of_two_values_by_hand():
    """Resamples of (0, 1) have the means 0, ½ and 1 with probabilities ¼, ½ and ¼: the interval is all."""
    found = statistics.mean(np.array([0.0, 1.0]))
    assert tuple(map(float, found)) == (0.5, 0.0, 1.0)


def test_a_mean_with_holes():
    found = statistics.mean(np.array([[1.0, nan, nan], [3.0, 4.0, nan], [nan, 4.0, nan]]))
    np.testing.assert_array_equal(found.value, [2, 4, nan])
    assert np.isnan([found.low[2], found.high[2]]).all()
    assert statistics.mean(np.full((3, 4, 2), 7.0)).high.tolist() == [[7, 7]] * 4


def test_ratios():
    rng = np.random.default_rng(2)
    a, b = rng.normal(6, 1, 300), rng.normal(2, 0.5, 500)
    found = statistics.ratio(a, b)
    assert float(found.value) == pytest.approx(a.mean() / b.mean())
    # Var(A/B) / (A/B)² = Var(A)/A² + Var(B)/B², to first order.
    error = found.value * np.sqrt((1 / 6) ** 2 / 300 + (0.5 / 2) ** 2 / 500)
    assert float(found.high - found.low) == pytest.approx(2 * 1.96 * error, rel=0.15)
    assert found.low < found.value < found.high
    assert np.isnan(statistics.ratio(np.array([nan]), b)).all()


def test_ranks():
    values = np.array([[0.5, nan], [0.9, 1.0], [0.5, 2.0], [0.1, nan]])
    assert statistics.ranks(values).tolist() == [[2, 3], [1, 2], [2, 1], [4, 3]]


def test_row_means():
    found = statistics.row_means(np.array([[1.0, nan, 3.0], [nan] * 3, [0.0, 0.0, 6.0]]))
    np.testing.assert_array_equal(found, [2, nan, 2])


def test_shares():
    found = statistics.shares(np.array([[0, 2, 2, -1], [1, 1, 1, 1], [-1] * 4]), 3)
    np.testing.assert_allclose(found, [[1 / 3, 0, 2 / 3], [0, 1, 0], [nan] * 3])


def test_the_best_distinct():
    reward = np.array([[0.1, 0.9, 0.9, 0.5, 0.7], [nan, 0.2, nan, nan, 0.2]])
    kinds = np.array([[3, 1, 2, 1, 3], [0, 1, 2, 3, 4]])
    assert statistics.top_distinct(reward, kinds, 2).tolist() == [[1, 2], [1, 4]]
    assert statistics.top_distinct(reward, kinds, 4).tolist() == [[1, 2, 4, -1], [1, 4, -1, -1]]


def test_wilson():
    """Of Brown, Cai & DasGupta 2001: 0.5 of 100 lies in 0.404 to 0.596; at 1 the interval is one-sided."""
    assert statistics.wilson(0.5, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    low, high = statistics.wilson(1.0, 20)
    assert (low, high) == pytest.approx((0.8389, 1.0), abs=1e-4)
