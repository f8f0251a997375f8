"""Priority queue training's gradient by hand; what the queue holds; what it learns."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnas import masks
from jaxnas.controllers import priority_queue
from jaxnas.errors import InputError
from jaxnas.rewards import outcome
from jaxnas.spaces import blocks
from jaxnas.types import Proposal
from tests.helpers import assert_close, assert_identical, chain_reward, chain_space, play, quick_jit

# Three decisions of two choices.
SPACE = blocks(filters=(16, 32), kernel=(3, 5), dropout=(0.1, 0.25))
QUARTER = jnp.array([[0.0, np.log(3.0)], [0.0, 0.0], [0.0, 0.0]])  # π of the first decision: (1/4, 3/4)
ARCH = jnp.array([[1, 0, 0], [0, 0, 1]])
REWARD = jnp.array([[0.0, 0.0, 1.0], [0.0, 0.0, 0.5]])


def made(arch=ARCH, **options):
    """A controller that makes one step a round, and its state with known logits."""
    controller = priority_queue(
        SPACE, **{"batch_size": len(arch), "updates": 1, "entropy_weight": 0.0, **options}
    )
    return controller, controller.init(jax.random.key(0))._replace(params=QUARTER)


def told(reward=REWARD, arch=ARCH, **options):
    """The gradient that one `tell` applied (Adam's first moment is a tenth of it), the state, the metrics."""
    controller, state = made(arch, **options)
    after, metrics = quick_jit(controller.tell)(jax.random.key(1), state, Proposal(arch, ()), outcome(reward))
    return 10 * optax.tree.get(after.optimizer, "mu"), after, metrics


# Of the mean over both rows, −½ Σ_k (1[a] − π):
#   decision 1: −½ [(−¼, ¼) + (¾, −¾)] = (−¼, ¼)
#   decision 2: −½ [(½, −½) + (½, −½)] = (−½, ½)
#   decision 3: −½ [(½, −½) + (−½, ½)] = (0, 0)
BY_HAND = np.array([[-1 / 4, 1 / 4], [-1 / 2, 1 / 2], [0, 0]])


def test_the_gradient_by_hand():
    gradient, after, metrics = told()
    np.testing.assert_allclose(gradient, BY_HAND, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(metrics["gradient_norm"], np.sqrt((BY_HAND**2).sum()), rtol=1e-6)
    # −½ [ln ¾ + 2 ln ½ + ln ¼ + 2 ln ½]
    np.testing.assert_allclose(metrics["queue_loss"], -0.5 * np.log(3 / 16 / 16), rtol=1e-6)
    # The first step of Adam: −α g / (|g| + ε), with α = 0.05 and ε = 1e-4.
    step = -0.05 * BY_HAND / (np.abs(BY_HAND) + 1e-4)
    np.testing.assert_allclose(after.params - QUARTER, step, rtol=1e-4, atol=1e-7)


def test_only_the_queue_is_imitated():
    # A queue of one holds row 1: π − 1[a].
    gradient, _, metrics = told(queue_size=1)
    np.testing.assert_allclose(gradient, [[1 / 4, -1 / 4], [-1 / 2, 1 / 2], [-1 / 2, 1 / 2]], rtol=1e-6)
    assert float(metrics["queue_worst"]) == 1.0
    # How much a reward is worth does not matter, only its rank.
    np.testing.assert_array_equal(told(2 * REWARD - 7, queue_size=1)[0], gradient)


def test_the_entropy_bonus_by_hand():
    # −β ∇ Σ_t H, as of REINFORCE: for π = (¼, ¾) ∂H = (0.2059898, −0.2059898), 0 where π is uniform.
    gradient, _, metrics = told(entropy_weight=0.1)
    expected = BY_HAND + np.array([[-0.02059898, 0.02059898], [0, 0], [0, 0]])
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(metrics["entropy"], (0.5623351 + 2 * np.log(2)) / 3, rtol=1e-5)


def test_the_policy_gradient_by_hand():
    # Advantages ¼ and −¼ of the mean: −½·¼·[(−¼, ¼) − (¾, −¾)] = (⅛, −⅛); 0; −½·¼·[(½, −½) − (−½, ½)].
    gradient, _, metrics = told(policy_gradient_weight=2.0)
    expected = BY_HAND + 2 * np.array([[1 / 8, -1 / 8], [0, 0], [-1 / 8, 1 / 8]])
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(metrics["baseline"], 0.75, rtol=1e-6)


def test_a_failed_row_weighs_nothing():
    nan = jnp.full((1, 3), jnp.nan)
    options = {"entropy_weight": 0.1, "policy_gradient_weight": 1.0}
    with_failure = told(jnp.concatenate([nan, REWARD]), jnp.concatenate([ARCH[:1] * 0, ARCH]), **options)
    assert_close(with_failure, told(**options), rtol=1e-5, atol=1e-7)


def test_a_round_of_failures_moves_nothing():
    controller, state = made(entropy_weight=0.1, policy_gradient_weight=1.0)
    tell = quick_jit(controller.tell)
    proposal, nan = Proposal(ARCH, ()), jnp.full((2, 3), jnp.nan)
    assert_identical(tell(jax.random.key(1), state, proposal, outcome(nan))[0], state)
    state, _ = tell(jax.random.key(1), state, proposal, outcome(REWARD))
    assert_identical(tell(jax.random.key(1), state, proposal, outcome(nan))[0], state)


def test_an_architecture_stands_in_the_queue_once_with_its_best_reward():
    controller, state = made(queue_size=2)
    tell = quick_jit(controller.tell)

    def queue(archs, rewards):
        nonlocal state
        reward = jnp.zeros((2, 3)).at[:, 2].set(jnp.array(rewards))
        state, _ = tell(jax.random.key(1), state, Proposal(jnp.array(archs), ()), outcome(reward))
        rows = zip(state.queue.arch.tolist(), state.queue.values.tolist(), strict=True)
        return {tuple(arch): value for arch, value in rows if arch[0] >= 0}

    a, b, c = (1, 0, 0), (0, 1, 0), (0, 0, 1)
    assert queue([a, a], [0.25, 0.75]) == {a: 0.75}
    assert queue([a, b], [0.5, np.nan]) == {a: 0.75}
    assert queue([b, c], [0.25, 0.5]) == {a: 0.75, c: 0.5}
    assert queue([b, b], [0.5, 0.25]) == {a: 0.75, c: 0.5}
    assert queue([c, b], [1.0, 0.625]) == {a: 0.75, c: 1.0}
    assert queue([b, b], [0.875, 0.0]) == {b: 0.875, c: 1.0}


def test_two_updates_are_two_steps_on_the_same_queue():
    one, state = made(entropy_weight=0.1)
    two, _ = made(entropy_weight=0.1, updates=2)
    proposal = Proposal(ARCH, ())
    twice, _ = quick_jit(two.tell)(jax.random.key(1), state, proposal, outcome(REWARD))
    tell = quick_jit(one.tell)
    for _ in range(2):
        state, _ = tell(jax.random.key(1), state, proposal, outcome(REWARD))
    assert_close((twice.params, twice.optimizer), (state.params, state.optimizer), rtol=1e-5, atol=1e-7)


def test_what_the_queue_agrees_on_stays_open():
    """β = 0.6, five choices: where π is stationary, 1[a] − π = β π (ln π + H), so π = (0.718, 0.0705, …)."""
    space = blocks(filters=(8, 16, 32, 64, 128), kernel=(3,), dropout=(0.1,))
    controller = priority_queue(space, batch_size=1, queue_size=1, learning_rate=0.02)
    state, _ = play(controller, lambda a: (a == 0).astype(jnp.float32), 200)
    _, probabilities = controller.policy(state)
    np.testing.assert_allclose(probabilities[0], [0.718, 0.0705, 0.0705, 0.0705, 0.0705], atol=0.005)


@pytest.mark.parametrize("policy", ["free_logits", "lstm"])
def test_it_finds_the_far_end(policy):
    space = chain_space()
    options = {"queue_size": 1, "learning_rate": 0.02, "entropy_weight": 0.3}
    controller = priority_queue(space, policy=policy, units=8, **options)
    state, (arch, _) = play(controller, chain_reward, 40)
    masks.check(space, np.asarray(arch).reshape(-1, 4))
    assert controller.policy(state)[0].tolist() == [1, 1, 1, 1]
    assert float(state.queue.values.max()) == 1.0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch_size", 0), ("queue_size", 0), ("updates", 0), ("units", 0), ("learning_rate", 0.0),
        ("adam_epsilon", 0.0), ("entropy_weight", -0.1), ("policy_gradient_weight", -1.0),
        ("baseline_decay", 1.0), ("policy", "lstn"),
    ],
)  # fmt: skip
def test_bad_options(name, value):
    with pytest.raises(InputError, match=f"controller.{name}"):
        priority_queue(SPACE, **{name: value})
