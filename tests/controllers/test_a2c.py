"""A2C's gradient by hand; what it learns."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnas import masks, rewards
from jaxnas.controllers import a2c
from jaxnas.errors import InputError
from jaxnas.spaces import blocks
from jaxnas.types import Proposal
from tests.helpers import chain_reward, chain_space, play

# Three decisions of two choices.
SPACE = blocks(filters=(16, 32), kernel=(3, 5), dropout=(0.1, 0.25))
QUARTER = jnp.array([[0.0, np.log(3.0)], [0.0, 0.0], [0.0, 0.0]])  # π of the first decision: (1/4, 3/4)
VALUE = jnp.array([0.25, 0.5, 0.75])
ARCH = jnp.array([[1, 0, 0], [0, 0, 1]])
REWARD = jnp.array([[0.0, 0.0, 1.0], [0.0, 0.0, 0.5]])


def told(reward=REWARD, arch=ARCH, value=VALUE, **options):
    """The gradient of (logits, values) that one `tell` applied, and the metrics."""
    defaults = {"policy": "free_logits", "batch_size": len(arch), "max_gradient_norm": 0.0}
    options = {**defaults, "normalize_advantage": False, **options}
    controller = a2c(SPACE, **options)
    state = controller.init(jax.random.key(0))._replace(params=(QUARTER, value))
    proposal = Proposal(arch, {"value": jnp.broadcast_to(value, arch.shape)})
    after, metrics = jax.jit(controller.tell)(jax.random.key(1), state, proposal, rewards.outcome(reward))
    return jax.tree.map(lambda m: 10 * m, optax.tree.get(after.optimizer, "mu")), metrics


# Advantages R − V: (¾, ½, ¼) and (¼, 0, −¼). Gradient of the logits = −⅙ Σ_b Â_b (1[a] − π):
#   decision 1: −⅙ [¾·(−¼, ¼) + ¼·(¾, −¾)] = (0, 0)
#   decision 2: −⅙ [½·(½, −½) + 0] = (−1/24, 1/24)
#   decision 3: −⅙ [¼·(½, −½) − ¼·(−½, ½)] = (−1/24, 1/24)
# of the values, ½ · ⅙ Σ_b 2 (V − R): −⅙ (1, ½, 0).
LOGITS = np.array([[0, 0], [-1, 1], [-1, 1]]) / 24
VALUES = -np.array([1, 0.5, 0]) / 6


def test_the_gradient_by_hand():
    (logits, values), metrics = told()
    np.testing.assert_allclose(logits, LOGITS, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(values, VALUES, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(metrics["value_loss"], (9 + 4 + 1 + 1 + 0 + 1) / 16 / 6, rtol=1e-6)
    # −⅙ [¾ ln ¾ + ½ ln ½ + ¼ ln ½ + ¼ ln ¼ − ¼ ln ½]
    loss = -(0.75 * np.log(0.75) + 0.5 * np.log(0.5) + 0.25 * np.log(0.25)) / 6
    np.testing.assert_allclose(metrics["policy_loss"], loss, rtol=1e-5)
    norm = np.sqrt((LOGITS**2).sum() + (VALUES**2).sum())
    np.testing.assert_allclose(metrics["gradient_norm"], norm, rtol=1e-5)
    (logits, _), _ = told(max_gradient_norm=norm / 2)
    np.testing.assert_allclose(logits, LOGITS / 2, rtol=1e-5, atol=1e-7)


def test_the_weights_by_hand():
    (_, values), _ = told(value_weight=0.25)
    np.testing.assert_allclose(values, VALUES / 2, rtol=1e-5, atol=1e-7)
    # No advantage: the entropy bonus alone, −β/3 ∂H; for π = (¼, ¾) ∂H = (0.2059898, −0.2059898).
    (logits, _), metrics = told(jnp.zeros((2, 3)), value=jnp.zeros(3), entropy_weight=0.3)
    np.testing.assert_allclose(logits, [[-0.02059898, 0.02059898], [0, 0], [0, 0]], rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(metrics["entropy"], (0.5623351 + 2 * np.log(2)) / 3, rtol=1e-5)


def test_a_failed_row_weighs_nothing():
    nan = jnp.full((1, 3), jnp.nan)
    (logits, values), _ = told(jnp.concatenate([REWARD, nan]), jnp.concatenate([ARCH, ARCH[:1]]))
    np.testing.assert_allclose(logits, LOGITS, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(values, VALUES, rtol=1e-5, atol=1e-7)


def test_it_finds_the_far_end():
    space = chain_space()
    controller = a2c(space, units=16)
    state, (arch, metrics) = play(controller, chain_reward, 100)
    masks.check(space, arch.reshape(-1, 4))
    best, probabilities = controller.policy(state)
    assert best.tolist() == [1, 1, 1, 1]
    assert float(probabilities.max(-1).min()) > 0.9
    assert float(metrics["value_loss"][-1]) < 0.01


@pytest.mark.parametrize("option", ["units", "learning_rate", "batch_size"])
def test_options_out_of_range(option):
    with pytest.raises(InputError, match=rf"^controller\.{option}: got 0; it takes"):
        a2c(SPACE, **{option: 0})
