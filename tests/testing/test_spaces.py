"""A space that breaks a promise is told which one."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas import testing
from tests.helpers import chain

SPACE = chain()


def error(text):
    raise KeyError(text)


BROKEN = {
    "num_steps: it is 0": SPACE._replace(num_steps=0),
    "decisions: 1 different names for 4": SPACE._replace(decisions=("layer",) * 4),
    "settings: they have to be hashable": SPACE._replace(settings=[]),
    "start: its leaves are arrays": SPACE._replace(start=SPACE.start._replace(depth=0)),
    "step: the walk's shapes and dtypes never change": SPACE._replace(
        step=lambda walk, choice: SPACE.step(walk, choice)._replace(depth=jnp.float32(1))
    ),
    "mask: it is int32": SPACE._replace(mask=lambda walk: SPACE.mask(walk).astype(jnp.int32)),
    "observe: it is float32": SPACE._replace(observe=lambda walk: SPACE.observe(walk)[None]),
    r"observe: a number that is not finite after \[\]": SPACE._replace(
        observe=lambda walk: jnp.where(walk.depth == 0, jnp.inf, SPACE.observe(walk))
    ),
    "mask: no choice is left after": SPACE._replace(mask=lambda walk: SPACE.mask(walk) & (walk.depth != 2)),
    "mask: once a walk is over choice 0 alone is legal": SPACE._replace(
        mask=lambda walk: SPACE.mask(walk) | SPACE.done(walk)
    ),
    "done: the walk is over before any decision": SPACE._replace(done=lambda walk: walk.depth == 0),
    "done: the walk is not over after": SPACE._replace(done=lambda walk: walk.stopped),
    "state: -1 after": SPACE._replace(state=lambda walk: SPACE.state(walk) - 1),
    "state: 19 after .* it lies from 0 to num_states − 1 = 18": SPACE._replace(num_states=19),
    "parse: 'aab' is .* and parse gives": SPACE._replace(parse=lambda text: SPACE.parse(text[::-1])),
    "parse: .* as int64": SPACE._replace(parse=lambda text: SPACE.parse(text).astype(np.int64)),
    "parse: 'no such architecture' takes an InputError, and raises KeyError": SPACE._replace(
        parse=lambda text: error(text) if "no" in text else SPACE.parse(text)
    ),
    "parse: '' is no architecture, and parse accepts it": SPACE._replace(
        parse=lambda text: SPACE.parse(text or "a")
    ),
    "decode: its keys are": SPACE._replace(decode=lambda arch: {}),
    "layers: it gave list": SPACE._replace(layers=lambda arch: []),
    "layers: the parts have to be hashable": SPACE._replace(layers=lambda arch: ([],)),
    "layers: asked twice for .* the parts differ": SPACE._replace(layers=lambda arch: (object(),)),
    "size: 1, but": SPACE._replace(size=1),
    "size: 107, but enumeration finds": SPACE._replace(size=107),
}


@pytest.mark.parametrize("message", BROKEN)
def test_a_broken_promise_is_named(message):
    with pytest.raises(AssertionError, match=message):
        testing.check_space(BROKEN[message])


def test_a_large_space_is_not_counted():
    testing.check_space(SPACE._replace(size=10**6), enumerate_up_to=1000)
