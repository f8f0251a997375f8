"""A controller that breaks a promise is told which one; one that keeps them all passes."""

import jax
import jax.numpy as jnp
import pytest

from jaxnas import controllers, testing
from jaxnas.types import Controller, Proposal
from tests.helpers import chain

SPACE = chain()
RANDOM = controllers.random(SPACE, batch_size=4)


def greedy() -> Controller:
    """The best architecture so far, with its reward and a count; otherwise random search."""

    def init(key):
        return {"arch": jnp.array([1, 0, 0, 0]), "reward": jnp.float32(-jnp.inf), "told": jnp.int32(0)}

    def ask(key, state):
        return Proposal(RANDOM.ask(key, ()).arch, memo={"told": jnp.full(4, state["told"])})

    def tell(key, state, proposal, outcome):
        total = jnp.where(jnp.isnan(outcome.reward).any(-1), -jnp.inf, outcome.reward.sum(-1))
        lane = jnp.argmax(total)
        better = total[lane] > state["reward"]
        return {
            "arch": jnp.where(better, proposal.arch[lane], state["arch"]),
            "reward": jnp.where(better, total[lane], state["reward"]),
            "told": state["told"] + 1,
        }, {"best": state["reward"]}

    def policy(state):
        return state["arch"], jax.nn.one_hot(state["arch"], SPACE.num_choices)

    return Controller(4, init, ask, tell, policy)


GOOD = greedy()


def telling(change):
    """The controller, with what `change(state, outcome, proposal)` puts into its state."""

    def tell(key, state, proposal, outcome):
        after, metrics = GOOD.tell(key, state, proposal, outcome)
        return after | change(after, outcome, proposal), metrics

    return GOOD._replace(tell=tell)


def asking(change):
    return GOOD._replace(ask=lambda key, state: change(GOOD.ask(key, state), key))


def probabilities(change):
    return GOOD._replace(policy=lambda state: change(*GOOD.policy(state)))


BROKEN = {
    "batch_size: it is 0": GOOD._replace(batch_size=0),
    "init: the state's leaves are arrays": GOOD._replace(init=lambda key: {**GOOD.init(key), "told": 0}),
    "ask: arch is float32": asking(lambda p, key: p._replace(arch=p.arch.astype(jnp.float32))),
    r"ask: every array of the memo begins with the batch, \[4, …\]": asking(
        lambda p, key: p._replace(memo=key)
    ),
    "ask: an illegal proposal.*choice 0 is illegal at decision 'layer_1'": asking(
        lambda p, key: p._replace(arch=0 * p.arch)
    ),
    "ask: memo array is not finite": asking(lambda p, key: p._replace(memo=jnp.full(4, jnp.inf))),
    "ask: four different keys give the same proposals": asking(
        lambda p, key: p._replace(arch=jnp.broadcast_to(jnp.array([1, 2, 0, 0]), (4, 4)))
    ),
    "tell: the state changed from": telling(lambda s, o, p: {"new": o.status}),
    r"tell: state\['told'\] was int32 \[\] and became float32": telling(
        lambda s, o, p: {"told": s["told"].astype(jnp.float32)}
    ),
    "tell: it learns from a round in which every trial failed": telling(
        lambda s, o, p: {"reward": jnp.where(jnp.isnan(o.reward).all(), 1.0, s["reward"])}
    ),
    r"tell: a failed trial with another architecture changes state\['told'\]": telling(
        lambda s, o, p: {"told": p.arch.sum(dtype=jnp.int32)}
    ),
    r"tell: state\['reward'\] is not finite once half of a round fails": telling(
        lambda s, o, p: {"reward": jnp.where(jnp.isnan(o.reward).all(), s["reward"], o.reward.sum())}
    ),
    r"tell: state\['reward'\] is not finite once trials are rejected with the reward -1": telling(
        lambda s, o, p: {
            "reward": jnp.where(jnp.isnan(o.reward).any(-1), 0, o.measures["accuracy"]).sum()
            + jnp.where(jnp.isnan(o.reward).all(), s["reward"], 0)
        }
    ),
    "policy: .* is illegal": probabilities(lambda arch, p: (0 * arch, p)),
    "policy: the probabilities are": probabilities(lambda arch, p: (arch, p[0])),
    "policy: probabilities do not sum to 1": probabilities(lambda arch, p: (arch, 0.5 * p)),
    "policy: a probability is negative": probabilities(lambda arch, p: (arch, p.at[:, 1].add(-1))),
    "policy: an illegal choice has a probability": probabilities(lambda arch, p: (arch, p * 0.9 + 0.1 / 4)),
}


def test_a_good_controller_passes():
    testing.check_controller(GOOD, SPACE)
    testing.check_controller(lambda space: greedy(), SPACE)


@pytest.mark.parametrize("message", BROKEN)
def test_a_broken_promise_is_named(message):
    with pytest.raises(AssertionError, match=message):
        testing.check_controller(BROKEN[message], SPACE)


def test_a_controller_may_ignore_its_key():
    arch = jnp.broadcast_to(jnp.array([1, 2, 0, 0]), (4, 4))
    fixed = GOOD._replace(ask=lambda key, state: Proposal(arch, ()))
    testing.check_controller(fixed, SPACE, keys_matter=False)


def test_a_controller_reads_the_measures_it_asks_for():
    reader = telling(lambda s, o, p: {"told": jnp.isnan(o.measures["latency_ms"]).sum(dtype=jnp.int32)})
    testing.check_controller(reader, SPACE, measures=("accuracy", "latency_ms"))
