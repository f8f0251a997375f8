"""The network of stages: its blocks, its statistics, its loops and its padding in training."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas import networks, spaces
from jaxnas.errors import InputError
from jaxnas.testing.promises import quick_jit

SHAPE = (8, 8, 2)
SPACE = spaces.stages(SHAPE, 3, stem=(3, 4), stages=2, widths=(4, 6), mirror=True, light=True)
NETWORK: Any = networks.stages(SPACE, SHAPE, 3)
INIT = quick_jit(NETWORK.init, static_argnums=1)
HEAD = " - GAP() - SM() - mirror=yes - light=no"
INPUTS = jax.random.normal(jax.random.key(1), (6, *SHAPE))


def planned(text, network=NETWORK):
    return network.plan(SPACE.parse(text + HEAD))


def test_what_the_architecture_decides_of_the_training():
    assert NETWORK.trainer_options(SPACE.parse("stem(3) - conv(4,3)" + HEAD)) == {"flip": 1.0, "light": 0.0}


def test_later_blocks_do_nothing_before_training():
    """Their branches begin at zero."""
    outputs = []
    for text in ("stem(3) - residual(6,3)", "stem(3) - residual(6,3)x2"):
        structure, knobs = planned(text)
        params = INIT(jax.random.key(0), structure, knobs)
        outputs.append(quick_jit(NETWORK.apply, static_argnums=1)(params, structure, knobs, INPUTS, None))
    np.testing.assert_allclose(*outputs, rtol=1e-5)


def test_statistics_are_the_mean_of_few_steps():
    structure, knobs = planned("stem(3) - conv(4,3)")
    params = INIT(jax.random.key(0), structure, knobs)
    train = quick_jit(NETWORK.train, static_argnums=1)
    means = []
    for factor in (1.0, 2.0, 6.0):
        _, statistics = train(params, structure, knobs, factor * INPUTS, jax.random.key(0))
        alone = INIT(jax.random.key(0), structure, knobs)["statistics"]
        assert alone["steps"] == 0
        means.append(
            train({**params, "statistics": alone}, structure, knobs, factor * INPUTS, jax.random.key(0))[1]
        )
        params = {**params, "statistics": statistics}
    expected = np.mean([mean["stem"]["norm"]["mean"] for mean in means], axis=0)
    np.testing.assert_allclose(params["statistics"]["stem"]["norm"]["mean"], expected, rtol=1e-5, atol=1e-7)
    assert params["statistics"]["steps"] == 3


def test_a_padded_network_trains_as_it_would_alone():
    structure, knobs = planned("stem(4) - inverted3(4,3)+se - separable(4,3)")
    wider = list(NETWORK.widen(structure))[-1]
    assert wider != structure

    def trained(structure, knobs, params):
        def loss(weights, statistics):
            given = {**weights, "statistics": statistics}
            outputs, statistics = NETWORK.train(given, structure, knobs, INPUTS, jax.random.key(2))
            return jnp.mean((outputs - jnp.arange(3.0)[None]) ** 2), statistics

        step = quick_jit(jax.grad(loss, has_aux=True))
        weights, statistics = {k: v for k, v in params.items() if k != "statistics"}, params["statistics"]
        for _ in range(2):
            gradient, statistics = step(weights, statistics)
            weights = jax.tree.map(lambda w, g: w - 0.1 * g, weights, gradient)
        return {**weights, "statistics": statistics}

    alone = trained(structure, knobs, INIT(jax.random.key(0), structure, knobs))
    knobs = NETWORK.pad(structure, knobs)
    padded = trained(wider, knobs, INIT(jax.random.key(0), wider, knobs))
    cropped = NETWORK.crop(padded, structure)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-5), cropped, alone)


def test_what_is_refused():
    with pytest.raises(InputError, match=r"network.dropout: got 1"):
        networks.stages(SPACE, SHAPE, 3, dropout=1.0)
    with pytest.raises(InputError, match="halve 3 × 3 pixels to none"):
        networks.stages(SPACE, (3, 3, 2), 3).plan(SPACE.parse("stem(3) - conv(4,3) - conv(4,3)" + HEAD))
