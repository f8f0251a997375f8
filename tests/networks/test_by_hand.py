"""The network by hand: its parameters by hand, and its stages by the size of images."""

import jax
import pytest

from jaxnas.networks.by_hand import by_hand


@pytest.mark.parametrize(
    ("shape", "outputs", "widths", "params"),
    [
        # Stem 9·3·16 + 2·16; a stage of w from c channels 9·(c + w)·w + 4·w, its skip c·w + 2·w; the head.
        ((32, 32, 3), 10, (16, 32, 64), 464 + 4960 + 14528 + 57728 + 650),
        ((8, 8, 1), 10, (16, 32), 176 + 4960 + 14528 + 330),
        ((96, 64, 3), 1, (16, 32, 64), 464 + 4960 + 14528 + 57728 + 65),
        ((2, 3, 1), 2, (16,), 176 + 4960 + 34),
    ],
)
def test_sizes(shape, outputs, widths, params):
    network, arch, text = by_hand(shape, outputs)
    stages = " - ".join(f"residual({width},3)" for width in widths)
    assert text == f"stem(16) - {stages} - GAP() - SM()"
    structure, knobs = network.plan(arch)
    weights = jax.eval_shape(lambda key: network.init(key, structure, knobs), jax.random.key(0))
    weights.pop("statistics")
    assert sum(leaf.size for leaf in jax.tree.leaves(weights)) == params
