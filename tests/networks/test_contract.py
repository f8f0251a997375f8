"""What every network promises, for every registry entry's example."""

import pytest

from jaxnas import networks, spaces, testing


def test_every_network_has_an_example():
    assert set(networks.EXAMPLES) == set(networks.REGISTRY)


@pytest.mark.parametrize("name", networks.EXAMPLES)
def test_the_example_of(name):
    of = name if name in spaces.REGISTRY else "blocks"  # networks.layers builds those of any space
    space = spaces.REGISTRY[of](**spaces.EXAMPLES[of])
    size = spaces.EXAMPLES[of].get("image_size", 8)
    network = networks.REGISTRY[name](space, (size, size, 2), 3, **networks.EXAMPLES[name])
    testing.check_network(network, space, (size, size, 2), 3)
