"""What every evaluator promises, for every registry entry's example and for those that are made of others."""

import csv
import inspect

import jax
import numpy as np
import pytest

from jaxnas import networks, testing
from jaxnas.evaluators import EXAMPLES, REGISTRY, constrain, mock, table
from jaxnas.spaces import blocks
from jaxnas.types import MOCK_FAILURE, NOT_IN_TABLE, OK, REJECTED
from tests.helpers import dataset, random_archs

DATA = dataset(n=40, n_validation=12)
TINY = blocks(filters=(4, 6), kernel=(3,), dropout=(0.1, 0.5))


def make(name):
    """The space of an example, and a function that makes its evaluator."""
    space = blocks() if name == "table" else TINY  # the table that comes with jaxnas has the space's defaults
    has = {"space": space, "network": networks.blocks(space, (8, 8, 1), 3), "dataset": DATA}
    parameters = inspect.signature(REGISTRY[name]).parameters.values()
    needs = [p.name for p in parameters if p.kind == p.POSITIONAL_OR_KEYWORD and p.default is p.empty]
    return space, lambda: REGISTRY[name](*(has[need] for need in needs), **EXAMPLES[name])


def test_every_evaluator_has_an_example():
    assert set(EXAMPLES) == set(REGISTRY)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_of(name):
    space, factory = make(name)
    testing.check_evaluator(factory, space, dataset=DATA)


def test_a_table_with_repeats_and_without_some_rows(tmp_path):
    with (tmp_path / "table.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["architecture", "accuracy", "params"])
        for f in (0, 1):  # dropout 0.5 with 6 filters has no row; the others have three
            for d in (0, 1)[: 2 - f]:
                for repeat in range(3):
                    row = TINY.describe([f, 0, d]), 0.5 + 0.1 * f + 0.01 * repeat, 100 + f
                    writer.writerow(row)
    evaluator = table(TINY, path=str(tmp_path / "table.csv"))
    testing.check_evaluator(evaluator, TINY)
    archs = np.array([[1, 0, 1], [0, 0, 0]], np.int32)
    _, measures = evaluator.evaluate(jax.random.split(jax.random.key(0)), (), archs)
    assert measures["status"].tolist() == [NOT_IN_TABLE, OK]


def test_what_fails_now_and_then():
    space, factory = make("mock")
    keys = jax.random.split(jax.random.key(0), 40)
    _, measures = factory().evaluate(keys, (), random_archs(space, 40))
    assert 0 < (measures["status"] == MOCK_FAILURE).sum() < 40


def test_what_is_rejected():
    evaluator = constrain(mock(TINY, noise=0.05), {"params": 6e4})
    testing.check_evaluator(evaluator, TINY)
    _, measures = evaluator.evaluate(jax.random.split(jax.random.key(0), 40), (), random_archs(TINY, 40))
    assert 0 < (measures["status"] == REJECTED).sum() < 40
