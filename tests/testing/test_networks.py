"""A network that breaks a promise is told which one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas import testing
from jaxnas.errors import InputError
from jaxnas.types import Network
from tests.helpers import chain

SPACE = chain()


def linear(space, input_shape, num_outputs) -> Network:
    """One dense layer, as wide as the architecture is long."""
    size = int(np.prod(input_shape))

    def plan(arch):
        return 1 + int(np.count_nonzero(arch)), {"dropout": np.float32(0.5)}

    def init(key, structure, knobs=None):
        return {
            "kernel": jax.random.normal(key, (size, structure)) / size,
            "head": jax.random.normal(jax.random.fold_in(key, 1), (structure, num_outputs)),
        }

    def apply(params, structure, knobs, inputs, key):
        hidden = inputs.reshape(len(inputs), -1) @ params["kernel"]
        if key is not None:
            hidden = jnp.where(jax.random.bernoulli(key, knobs["dropout"], hidden.shape), hidden, 0)
        return hidden @ params["head"]

    return Network(plan, init, apply)


GOOD = linear(SPACE, (3, 3, 1), 2)


class Opaque:
    """Equal to nothing but itself."""


def refuse(arch):
    raise InputError("no network is possible")


BROKEN = {
    "plan: it refuses every one": GOOD._replace(plan=refuse),
    "plan: a structure has to be hashable": GOOD._replace(plan=lambda arch: ([1], {})),
    "plan: two plans of .* have different structures": GOOD._replace(plan=lambda arch: (Opaque(), {})),
    "trainer_options: .*'learning_rates'.* are no options": GOOD._replace(
        trainer_options=lambda arch: {"learning_rates": 1}
    ),
    r"init: \['head'\] of .* is not finite": GOOD._replace(
        init=lambda key, s, k=None: {**GOOD.init(key, s, k), "head": jnp.full((s, 2), jnp.nan)}
    ),
    "init: another key gives the same weights": GOOD._replace(
        init=lambda key, s, k=None: GOOD.init(jax.random.key(0), s, k)
    ),
    "apply: float32.*and should be float32": GOOD._replace(
        apply=lambda p, s, k, x, key: GOOD.apply(p, s, k, x, key)[:, :1]
    ),
    "apply: an output of .* is not finite": GOOD._replace(
        apply=lambda p, s, k, x, key: GOOD.apply(p, s, k, x, key) / 0
    ),
    "apply: without a key, an input's outputs depend on what else": GOOD._replace(
        apply=lambda p, s, k, x, key: GOOD.apply(p, s, k, x - x.mean(axis=0, keepdims=True), key)
    ),
    "apply: .* does not read its inputs": GOOD._replace(
        apply=lambda p, s, k, x, key: GOOD.apply(p, s, k, jnp.ones_like(x), key)
    ),
    "apply: the gradient by": GOOD._replace(
        apply=lambda p, s, k, x, key: GOOD.apply(p, s, k, x, key) + jnp.sqrt(0 * p["head"].sum())
    ),
    "apply: no weight of .* has a gradient": GOOD._replace(
        apply=lambda p, s, k, x, key: jax.lax.stop_gradient(GOOD.apply(p, s, k, x, key))
    ),
    "widen: a network that widens pads and crops": GOOD._replace(widen=lambda s: [s + 1]),
    "train: the statistics of .* change their shapes": GOOD._replace(
        train=lambda p, s, k, x, key: (GOOD.apply(p, s, k, x, key), {"mean": x.mean()})
    ),
}


def test_a_good_network_passes():
    testing.check_network(GOOD, SPACE, (3, 3, 1), 2)
    testing.check_network(linear, SPACE, (5,), 3)


@pytest.mark.parametrize("message", BROKEN)
def test_a_broken_promise_is_named(message):
    with pytest.raises(AssertionError, match=message):
        testing.check_network(BROKEN[message], SPACE, (3, 3, 1), 2)


def test_weights_are_those_that_are_counted():
    """`init` asks `plan` for nothing else: what it makes of knobs is not counted."""

    def init(key, structure, knobs=None):
        params = GOOD.init(key, structure, knobs)
        return params if knobs is None or not knobs else {**params, "more": jnp.ones(3)}

    with pytest.raises(AssertionError, match=r"init: \d+ weights of .*, and \d+ are counted from its plan"):
        testing.check_network(GOOD._replace(init=init), SPACE, (3, 3, 1), 2)
