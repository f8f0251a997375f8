"""Counters of one search of several."""

import jax
import pytest

from jaxnas.evaluators import from_now, mock
from jaxnas.spaces import blocks


def test_counters_begin_at_zero():
    counts = {"children": 3, "training_seconds": 2.5}
    evaluator = mock(blocks())._replace(stats=lambda: dict(counts))
    twin = from_now(evaluator)
    assert twin.stats() == {"children": 0, "training_seconds": 0}
    counts |= {"children": 5, "training_seconds": 4.0, "programs": 1}  # which came later
    assert twin.stats() == {"children": 2, "training_seconds": pytest.approx(1.5), "programs": 1}
    assert evaluator.stats()["children"] == 5
    assert from_now(mock(blocks())).stats() == {}
    assert jax.tree.leaves(twin.init(jax.random.key(0))) == []
