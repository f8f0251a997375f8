"""The order in which a child sees its training inputs."""

import numpy as np
import pytest

from jaxnas.training import execution

ROOT = np.array([0, 3], np.uint32).tobytes()
LABELS = np.array([0] * 80 + [1] * 16 + [2] * 4)


@pytest.mark.parametrize(("balance", "counts"), [(1.0, [33, 34, 33]), (0.5, [60, 27, 13])])
def test_a_balanced_order(balance, counts):
    """Class c comes n_c^(1 − balance) times in proportion, its inputs in turns, classes mixed."""
    order = execution.orders(ROOT, 100, 6, LABELS, balance)
    assert order.shape == (6, 100) and order.dtype == np.int32
    assert all(np.bincount(LABELS[row]).tolist() == counts for row in order)
    for c, (first, n) in enumerate([(0, 80), (80, 16), (96, 4)]):
        times = np.bincount(order[LABELS[order] == c] - first, minlength=n)
        assert times.max() - times.min() <= 1
    share = np.mean(LABELS[order[:, :50]] == 2)
    assert share == pytest.approx(counts[2] / 100, abs=0.06)  # classes are mixed within a pass


def test_an_order_without_balance_is_a_shuffle():
    order = execution.orders(ROOT, 100, 2, LABELS)
    assert (np.sort(order, axis=1) == np.arange(100)).all() and (order[0] != order[1]).any()
