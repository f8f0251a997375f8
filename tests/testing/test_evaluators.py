"""An evaluator that breaks a promise is told which one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas import evaluators, testing
from jaxnas.types import DIVERGED, OK, Evaluator
from tests.helpers import chain, chain_reward, dataset

SPACE = chain()
GOOD = evaluators.mock(SPACE, noise=0.05)
DATA = dataset(n=4, n_validation=6)


def giving(change):
    """The mock, with what `change(keys, state, arch)` gives in place of its measures."""

    def evaluate(keys, state, arch):
        state, measures = GOOD.evaluate(keys, state, arch)
        return state, measures | change(keys, state, arch)

    return GOOD._replace(evaluate=evaluate)


def random_child(spoiled=0.0):
    """Measures random outputs on the host; with `spoiled`, the child that is asked for is another."""

    def outputs_of(key, more=0.0):
        return np.asarray(jax.random.normal(key, (6, 3))) + np.float32(more) * np.eye(6, 3, dtype=np.float32)

    def evaluate(keys, state, arch):
        found = [DATA.task.measures(outputs_of(key), DATA.validation.labels)["accuracy"] for key in keys]
        return state, {"accuracy": np.array(found, np.float32), "status": np.zeros(len(found), np.int32)}

    def child(key, state, arch):
        return {"w": np.ones(3)}, outputs_of(key, spoiled)

    return Evaluator(lambda key: (), evaluate, measures=("accuracy",), jittable=False, child=child)


def refuse(keys, state, arch):
    raise ValueError("no data")


def unsteady():
    calls = []

    def evaluate(keys, state, arch):
        calls.append(1)
        accuracy = np.full(len(arch), 0.01 * len(calls), np.float32)
        return state, {"accuracy": accuracy, "params": accuracy, "status": np.zeros(len(arch), np.int32)}

    return GOOD._replace(evaluate=evaluate, jittable=False)


BROKEN = {
    "evaluate: a failed child never ends a search: ValueError: no data": GOOD._replace(
        evaluate=refuse, jittable=False
    ),
    r"evaluate: it reports .* and announces \['accuracy', 'flops', 'status'\]": GOOD._replace(
        measures=("accuracy", "flops")
    ),
    "status: it is float32": giving(lambda k, s, a: {"status": jnp.zeros(len(a))}),
    "status: .* is not all in STATUS": giving(lambda k, s, a: {"status": jnp.full(len(a), 99)}),
    "status: none of 6 architectures succeeded": giving(
        lambda k, s, a: {"status": jnp.full(len(a), DIVERGED)}
    ),
    "params: it is float32": giving(lambda k, s, a: {"params": jnp.zeros((len(a), 2))}),
    "params: it is not finite for a child whose status is ok": giving(
        lambda k, s, a: {"params": jnp.full(len(a), jnp.nan)}
    ),
    "accuracy: a failed child's is NaN": giving(
        lambda k, s, a: {"status": jnp.where(a[:, 0] == 1, OK, DIVERGED)}
    ),
    r"accuracy: \[2.0\]; it lies from 0 to 1": giving(lambda k, s, a: {"accuracy": jnp.full(len(a), 2.0)}),
    "prefix: .'flops'. are no measures": GOOD._replace(prefix=("flops",)),
    "accuracy: it is float32": GOOD._replace(prefix=("accuracy",)),
    "evaluate: the same keys and architectures give other measures": unsteady(),
    "evaluate: other keys give the same measures": giving(
        lambda k, s, a: {"accuracy": jnp.full(len(a), 0.5)}
    ),
    "evaluate: a child measured in another order": giving(
        lambda k, s, a: {"accuracy": jnp.arange(len(a)) / 10 + jax.vmap(jax.random.uniform)(k) / 100}
    ),
    "evaluate: a child measured alone": giving(
        lambda k, s, a: {"accuracy": jax.vmap(jax.random.uniform)(k) / len(a)}
    ),
    "child: its outputs have accuracy": random_child(9.0),
    "child: its parameters are empty": random_child()._replace(child=lambda k, s, a: ({}, np.zeros((6, 3)))),
    "child: there is none for a trial": random_child()._replace(child=lambda k, s, a: None),
    r"child: its outputs are \[6, 2\]": random_child()._replace(
        child=lambda k, s, a: ({"w": np.ones(3)}, np.zeros((6, 2)))
    ),
}


def test_good_evaluators_pass():
    testing.check_evaluator(GOOD, SPACE)
    testing.check_evaluator(evaluators.mock(SPACE), SPACE, keys_matter=False)
    testing.check_evaluator(random_child, SPACE, dataset=DATA)


def test_measures_at_every_decision_pass():
    """What is not live need not be a number."""
    live_reward = lambda arch: jnp.where(arch > 0, chain_reward(arch), jnp.nan).at[:, 0].set(0.0)  # noqa: E731
    evaluator = giving(lambda k, s, a: {"accuracy": jnp.clip(chain_reward(a), 0, 1)})
    testing.check_evaluator(evaluator._replace(prefix=("accuracy",)), SPACE, keys_matter=False)
    broken = giving(lambda k, s, a: {"accuracy": jnp.where(a == a[:, :1], jnp.nan, live_reward(a))})
    with pytest.raises(AssertionError, match="accuracy: it is not finite for a child whose status is ok"):
        testing.check_evaluator(broken._replace(prefix=("accuracy",)), SPACE, keys_matter=False)


@pytest.mark.parametrize("message", BROKEN)
def test_a_broken_promise_is_named(message):
    with pytest.raises(AssertionError, match=message):
        testing.check_evaluator(BROKEN[message], SPACE, dataset=DATA)


def test_a_child_that_only_its_own_evaluator_knows():
    """One that is trained again has to be the same."""
    made = []

    def factory():
        made.append(1)
        return random_child(0.001 * (len(made) - 1))

    with pytest.raises(AssertionError, match="child: an evaluator that never measured it gives another"):
        testing.check_evaluator(factory, SPACE)
