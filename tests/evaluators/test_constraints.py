"""Constraints on evaluators that measure size and accuracy together, and what the loop makes of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas import controllers, loop, rewards
from jaxnas.errors import InputError
from jaxnas.evaluators import constrain, mock
from jaxnas.runs import ledger
from jaxnas.spaces import blocks
from jaxnas.types import OK, REJECTED
from tests.helpers import chain, every_prefix

SPACE = blocks()


def search(limits, rejected=float("nan")):
    evaluator = constrain(mock(SPACE), limits)
    return loop.make(SPACE, controllers.random(SPACE, batch_size=32), evaluator, rewards.accuracy, rejected)


def test_what_is_too_large_is_rejected():
    free = search({})
    _, before = free.step(free.init(jax.random.key(0)))
    params = np.asarray(before.measures["params"])
    too_large = params > np.median(params)
    tight = search({"params": float(np.median(params))}, -1.0)
    _, after = tight.step(tight.init(jax.random.key(0)))
    status = np.asarray(after.measures["status"])
    assert (status == np.where(too_large, REJECTED, OK)).all()
    np.testing.assert_array_equal(after.reward, np.where(too_large, -1.0, before.reward))
    assert np.isnan(np.asarray(after.measures["accuracy"])[too_large]).all()
    np.testing.assert_array_equal(after.measures["params"], params)
    rows = ledger.trial_rows(SPACE, jax.device_get(after), 32)
    row = rows[int(np.flatnonzero(too_large)[0])]
    assert (row["status"], row["reward"]) == ("rejected", "-1")
    assert "larger than the constraints allow" in row["reason"]


@pytest.mark.parametrize("reward", [float("nan"), 5.0])
def test_a_rejected_child_is_never_the_best(reward):
    none_left = search({"params": 1.0}, reward)
    state, record = none_left.step(none_left.init(jax.random.key(0)))
    assert (np.asarray(record.measures["status"]) == REJECTED).all()
    assert int(state.best_trial) == -1
    assert float(record.best_reward) == -jnp.inf


def test_a_limit_on_what_is_not_measured():
    message = r"constraints\.flops: got 10; this evaluator does not measure it, it has accuracy, params"
    with pytest.raises(InputError, match=message):
        constrain(mock(SPACE), {"flops": 10.0})


def test_measures_of_every_decision():
    """A rejected child loses all of them; a limit is on what the whole architecture has."""
    space, arch = chain(3), jnp.array([[1, 1, 1], [1, 0, 0]])
    evaluator = constrain(every_prefix(space, lambda arch: arch.astype(jnp.float32)), {"depth": 2})
    _, measures = evaluator.evaluate(jax.random.split(jax.random.key(0), 2), (), arch)
    assert measures["status"].tolist() == [REJECTED, OK]
    np.testing.assert_array_equal(measures["gain"], [[np.nan] * 3, [1, 0, 0]])
    with pytest.raises(InputError, match=r"^constraints\.gain: got 1; .* measures it at every decision"):
        constrain(every_prefix(space), {"gain": 1})
