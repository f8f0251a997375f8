"""What every space promises, for every registry entry's example, and for spaces of other shapes."""

import pytest

from jaxnas import testing
from jaxnas.spaces import EXAMPLES, REGISTRY
from tests.helpers import SPACES


def test_every_space_has_an_example():
    assert set(EXAMPLES) == set(REGISTRY)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_of(name):
    testing.check_space(REGISTRY[name](**EXAMPLES[name]))


@pytest.mark.parametrize("name", ["one_block", "two_blocks", "chain"])
def test_a_space_of_the_tests(name):
    testing.check_space(SPACES[name])
