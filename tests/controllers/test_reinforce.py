"""REINFORCE's gradient by hand and by finite differences; its options, each seen to act."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnas import masks, policies
from jaxnas.controllers import reinforce
from jaxnas.errors import InputError
from jaxnas.rewards import outcome
from jaxnas.spaces import blocks
from jaxnas.types import Proposal
from tests.helpers import assert_close, assert_identical

# Three decisions of two choices.
SPACE = blocks(filters=(16, 32), kernel=(3, 5), dropout=(0.1, 0.25))
QUARTER = jnp.array([[0.0, np.log(3.0)], [0.0, 0.0], [0.0, 0.0]])  # π of the first decision: (1/4, 3/4)
ARCH = jnp.array([[1, 0, 0], [0, 0, 1]])
REWARD = jnp.array([[0.0, 0.0, 1.0], [0.0, 0.0, 0.5]])


def told(reward=REWARD, arch=ARCH, logits=QUARTER, temperature=1.0, space=SPACE, **options):
    """The gradient that one `tell` applied (Adam's first moment is a tenth of it), the state, the metrics."""
    options = {"policy": "free_logits", "baseline": "none", "batch_size": len(arch), **options}
    controller = reinforce(space, temperature=temperature, **options)
    state = controller.init(jax.random.key(0))
    if logits is not None:
        state = state._replace(params=logits)
    proposal = Proposal(arch, {"temperature": jnp.full(len(arch), temperature)})
    after, metrics = jax.jit(controller.tell)(jax.random.key(1), state, proposal, outcome(reward))
    return jax.tree.map(lambda m: 10 * m, optax.tree.get(after.optimizer, "mu")), after, metrics


# Row 1 takes (1, 0, 0) with R = 1, row 2 takes (0, 0, 1) with R = ½; the reward to go is R throughout.
# Gradient = −½ Σ_b R_b (1[a] − π):
#   decision 1: −½ [1·(−¼, ¼) + ½·(¾, −¾)]  = (−1/16, 1/16)
#   decision 2: −½ [1·(½, −½) + ½·(½, −½)]  = (−3/8, 3/8)
#   decision 3: −½ [1·(½, −½) + ½·(−½, ½)]  = (−1/8, 1/8)
BY_HAND = np.array([[-1 / 16, 1 / 16], [-3 / 8, 3 / 8], [-1 / 8, 1 / 8]])


def test_the_gradient_by_hand():
    gradient, after, metrics = told()
    np.testing.assert_allclose(gradient, BY_HAND, rtol=1e-6)
    np.testing.assert_allclose(metrics["gradient_norm"], np.sqrt((BY_HAND**2).sum()), rtol=1e-6)
    # The first step of Adam: −α g / (|g| + ε), with α = 0.01 and ε = 1e-4.
    step = -0.01 * BY_HAND / (np.abs(BY_HAND) + 1e-4)
    np.testing.assert_allclose(after.params - QUARTER, step, rtol=1e-4)
    # Loss = −½ [ln ¾ + 2 ln ½ + ½ (ln ¼ + 2 ln ½)] = −½ [ln ¾ + 4 ln ½]
    np.testing.assert_allclose(metrics["loss"], -0.5 * (np.log(0.75) + 4 * np.log(0.5)), rtol=1e-6)


def test_the_baseline_by_hand():
    # The first value of ema is the batch mean, ¾: advantages ¼ and −¼.
    gradient, _, metrics = told(baseline="ema")
    np.testing.assert_allclose(metrics["baseline"], 0.75, rtol=1e-6)
    by_hand = [[1 / 8, -1 / 8], [0, 0], [-1 / 8, 1 / 8]]  # −½·¼·[(−¼, ¼) − (¾, −¾)] = (⅛, −⅛); …
    np.testing.assert_allclose(gradient, by_hand, rtol=1e-5, atol=1e-7)
    _, _, metrics = told(baseline="max_of_means")
    np.testing.assert_allclose(metrics["baseline"], 0.65**3, rtol=1e-6)


def test_the_temperature_by_hand():
    # Logits 2 ln 3 at T = 2: the same π, and the gradient by the chain rule ½ of it.
    gradient, _, metrics = told(logits=2 * QUARTER, temperature=2.0)
    np.testing.assert_allclose(gradient, BY_HAND / 2, rtol=1e-6)
    assert float(metrics["temperature"]) == 2.0


def test_reward_per_decision_by_hand():
    # r = (1, 0, 2): rewards to go 3, 2, 2; arch (0, 0, 0), π = ½: gradient −G (½, −½)
    gradient, _, _ = told(jnp.array([[1.0, 0.0, 2.0]]), jnp.zeros((1, 3), jnp.int32), jnp.zeros((3, 2)))
    np.testing.assert_allclose(gradient, [[-1.5, 1.5], [-1, 1], [-1, 1]], rtol=1e-6)


def test_the_entropy_bonus_by_hand():
    # Without reward the gradient is −β ∇ (1/B) Σ_b Σ_t H. ∂H/∂x_i = −π_i (ln π_i + H); for π = (¼, ¾):
    # H = 0.5623351, −¼ (−1.3862944 + 0.5623351) = 0.2059898. Uniform decisions: 0.
    gradient, _, metrics = told(jnp.zeros((2, 3)), entropy_weight=0.1)
    np.testing.assert_allclose(gradient, [[-0.02059898, 0.02059898], [0, 0], [0, 0]], rtol=1e-4, atol=1e-8)
    assert np.isfinite(metrics["entropy"])


def test_clipping_by_hand():
    norm = np.sqrt((BY_HAND**2).sum())
    np.testing.assert_allclose(told(max_gradient_norm=norm / 2)[0], BY_HAND / 2, rtol=1e-5)
    np.testing.assert_allclose(told(max_gradient_norm=norm * 2)[0], BY_HAND, rtol=1e-5)


def test_clipping_each_array_by_hand():
    # The table of free logits is one array. A dense policy has six: none above the limit, some at it.
    norm = np.sqrt((BY_HAND**2).sum())
    np.testing.assert_allclose(told(max_tensor_norm=norm / 2)[0], BY_HAND / 2, rtol=1e-5)
    np.testing.assert_allclose(told(max_tensor_norm=norm * 2)[0], BY_HAND, rtol=1e-5)
    options = {"policy": "dense", "units": 4, "logits": None}
    (whole, *_), (clipped, *_) = told(**options), told(max_tensor_norm=0.2, **options)
    leaves = zip(jax.tree.leaves(whole), jax.tree.leaves(clipped), strict=True)
    norms = np.array([[np.linalg.norm(x) for x in pair] for pair in leaves])
    assert (norms[:, 0] > 0.2).any()
    assert (norms[:, 0] < 0.2).any()
    np.testing.assert_allclose(norms[:, 1], np.minimum(norms[:, 0], 0.2), rtol=1e-5)


def test_small_advantages_are_skipped():
    # R = 1 and ½ with b = 0: row 2 is left out as if it were not there; both: nothing moves, but b does.
    alone = told(REWARD[:1], ARCH[:1])[0]
    np.testing.assert_allclose(told(skip_below=0.75)[0], alone, rtol=1e-6)
    np.testing.assert_allclose(told(skip_below=0.5)[0], BY_HAND, rtol=1e-6)  # not below it
    options = {"baseline": "ema", "entropy_weight": 0.1}  # b = ¾, |R − b| = ¼
    gradient, after, metrics = told(skip_below=0.26, **options)
    start = reinforce(SPACE, policy="free_logits", batch_size=2, **options).init(jax.random.key(0))
    assert (np.asarray(gradient) == 0).all()
    np.testing.assert_array_equal(after.params, QUARTER)
    assert_identical(after.optimizer, start.optimizer)
    np.testing.assert_allclose(metrics["baseline"], 0.75, rtol=1e-6)
    assert float(metrics["entropy"]) > 0


def test_the_off_policy_gradient_by_hand():
    # Four filters, the last forbidden, and T = 2 when asked: the update sees neither. All logits are equal:
    # with the mask π of the first decision is 1/3, without it 1/4, and the temperature's ½ is missing.
    space = blocks(forbid=({"filters": 128},))
    arch, reward, logits = jnp.array([[0, 0, 0]]), jnp.array([[0.0, 0.0, 1.0]]), jnp.zeros((3, 4))
    options = {"arch": arch, "logits": logits, "space": space, "temperature": 2.0}
    on, off = told(reward, **options)[0], told(reward, off_policy=True, **options)[0]
    np.testing.assert_allclose(on[0], np.array([-2 / 3, 1 / 3, 1 / 3, 0]) / 2, rtol=1e-6)
    np.testing.assert_allclose(off, [[-3 / 4, 1 / 4, 1 / 4, 1 / 4]] * 3, rtol=1e-6)
    # What it samples is legal and at the temperature asked for, nevertheless.
    controller = reinforce(space, policy="free_logits", batch_size=2000, temperature=2.0, off_policy=True)
    state = controller.init(jax.random.key(0))._replace(params=logits.at[0, 0].set(2 * np.log(2.0)))
    drawn = np.asarray(controller.ask(jax.random.key(0), state).arch)
    masks.check(space, drawn)
    assert (drawn[:, 0] == 0).mean() == pytest.approx(1 / 2, abs=0.05)


def test_the_mean_over_decisions_is_the_sum_with_other_norms():
    """As the docstring says: a transcription of the mean's steps, and those of `reinforce` at T times its ε
    and norm."""
    T, lr, eps, norm = 3, 0.01, 1e-2, 0.05
    pi = policies.make("dense", SPACE, units=4)
    controller = reinforce(
        SPACE, policy="dense", units=4, batch_size=1, baseline="none",
        learning_rate=lr, adam_epsilon=T * eps, max_tensor_norm=T * norm,
    )  # fmt: skip
    state = controller.init(jax.random.key(0))
    params, m, v = state.params, *(jax.tree.map(jnp.zeros_like, state.params) for _ in "mv")

    @jax.jit
    def mean_loss(params, arch, total):
        log_probs = policies.unroll(pi, SPACE, params, arch).log_probs
        return -jnp.mean(log_probs[jnp.arange(T), arch] * total)

    tell = jax.jit(controller.tell)
    for k, (arch, total) in enumerate([([1, 0, 1], 1.0), ([0, 0, 1], -0.5), ([1, 1, 0], 0.02)], start=1):
        arch, reward = jnp.array(arch), jnp.array([[0.0, 0.0, total]])
        state, _ = tell(
            jax.random.key(k), state, Proposal(arch[None], {"temperature": jnp.ones(1)}), outcome(reward)
        )
        g = jax.tree.map(
            lambda g: g * min(1.0, norm / float(jnp.linalg.norm(g.ravel()))),
            jax.grad(mean_loss)(params, arch, total),
        )
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g**2, v, g)
        params = jax.tree.map(
            lambda p, m, v, k=k: p - lr * m / (1 - 0.9**k) / (jnp.sqrt(v / (1 - 0.999**k)) + eps),
            params, m, v,
        )  # fmt: skip
    assert_close(state.params, params, rtol=1e-4, atol=1e-6)


def test_forbidden_logits_are_never_moved():
    space = blocks(forbid=({"filters": 128},))
    arch = jnp.array([[0, 0, 0], [1, 1, 2]])
    gradient, after, _ = told(arch=arch, logits=jnp.ones((3, 4)), space=space, entropy_weight=0.5)
    assert (np.asarray(gradient)[0, 3], np.asarray(gradient)[1, 2]) == (0, 0)
    assert (np.asarray(after.params)[0, 3], np.asarray(after.params)[1, 2]) == (1, 1)
    assert (np.asarray(gradient)[0, :3] != 0).all()


def test_a_failed_row_weighs_nothing():
    nan = jnp.full((1, 3), jnp.nan)
    with_failure = told(jnp.concatenate([REWARD, nan]), jnp.concatenate([ARCH, ARCH[:1]]), baseline="ema")
    without = told(baseline="ema")
    np.testing.assert_allclose(with_failure[0], without[0], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(with_failure[1].params, without[1].params, rtol=1e-6)
    assert_close(with_failure[1].baseline, without[1].baseline, rtol=1e-6)


@pytest.mark.parametrize("baseline", ["none", "ema", "max_of_means"])
def test_a_round_of_failures_moves_nothing(baseline):
    controller = reinforce(SPACE, policy="free_logits", batch_size=2, baseline=baseline, entropy_weight=0.1)
    tell = jax.jit(controller.tell)
    proposal = Proposal(ARCH, {"temperature": jnp.ones(2)})
    state, _ = tell(jax.random.key(1), controller.init(jax.random.key(0)), proposal, outcome(REWARD))
    after, _ = tell(jax.random.key(1), state, proposal, outcome(jnp.full((2, 3), jnp.nan)))
    assert_identical(after._replace(trials=state.trials), state)
    assert int(after.trials) == 4


@pytest.mark.parametrize(("name", "feedback"), [("lstm", True), ("lstm", False), ("dense", True)])
def test_the_gradient_by_finite_differences(name, feedback):
    options = {"policy": name, "units": 5, "feedback": feedback}
    reward = jnp.array([[0.5, 0.0, 1.0], [0.0, 0.0, -0.5]])
    pi = policies.make(name, SPACE, units=5, feedback=feedback)
    params = jax.tree.map(lambda x: x + 0.2, pi.init(jax.random.key(1)))  # away from where a ReLU bends
    gradient, _, _ = told(reward, logits=params, temperature=0.7, **options)
    to_go = np.array([[1.5, 1.0, 1.0], [-0.5, -0.5, -0.5]])

    @jax.jit
    def log_probs(params):
        return jax.vmap(lambda a: policies.unroll(pi, SPACE, params, a, 0.7).log_probs)(ARCH)

    def objective(params):  # in numpy, from the log-probabilities alone
        x = np.asarray(log_probs(params), np.float64)
        taken = np.take_along_axis(x, np.asarray(ARCH)[..., None], -1)[..., 0]
        return -(taken * to_go).sum(-1).mean()

    leaves, treedef = jax.tree.flatten(params)
    for seed in range(6):
        rng = np.random.default_rng(seed)
        direction = jax.tree.unflatten(
            treedef, [jnp.asarray(rng.normal(size=x.shape), jnp.float32) for x in leaves]
        )
        up, down = (jax.tree.map(lambda p, d, s=s: p + s * d, params, direction) for s in (1e-3, -1e-3))
        numeric = (objective(up) - objective(down)) / 2e-3
        exact = sum(
            float(jnp.vdot(g, d))
            for g, d in zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True)
        )
        np.testing.assert_allclose(exact, numeric, rtol=0.01, atol=2e-3)


def test_the_schedule_of_the_temperature():
    controller = reinforce(
        SPACE,
        policy="free_logits",
        batch_size=2,
        temperature=5.0,
        temperature_decay=0.9,
        temperature_floor=3.5,
    )
    state = controller.init(jax.random.key(0))
    ask, seen = jax.jit(controller.ask), []
    for r in range(4):
        proposal = ask(jax.random.key(r), state)
        seen.append(float(proposal.memo["temperature"][0]))
        state, _ = controller.tell(jax.random.key(r), state, proposal, outcome(REWARD))
    np.testing.assert_allclose(seen, [5.0, 5 * 0.81, 3.5, 3.5], rtol=1e-5)


def test_the_temperature_shapes_what_is_asked():
    logits = jnp.array([[0.0, 3.0]] * 3)
    for temperature in (1.0, 10.0):
        controller = reinforce(SPACE, policy="free_logits", batch_size=4000, temperature=temperature)
        state = controller.init(jax.random.key(0))._replace(params=logits)
        share = np.asarray(controller.ask(jax.random.key(0), state).arch).mean()
        assert share == pytest.approx(1 / (1 + np.exp(-3 / temperature)), abs=0.02)


def test_it_learns_what_pays():
    controller = reinforce(SPACE, policy="free_logits", batch_size=8, learning_rate=0.1)
    ask, tell = jax.jit(controller.ask), jax.jit(controller.tell)
    state = controller.init(jax.random.key(0))
    for r in range(60):
        proposal = ask(jax.random.key(r), state)
        score = (proposal.arch == jnp.array([[1, 0, 1]])).mean(axis=-1, dtype=jnp.float32)
        state, _ = tell(jax.random.key(r), state, proposal, outcome(jnp.zeros((8, 3)).at[:, 2].set(score)))
    arch, probabilities = controller.policy(state)
    assert arch.tolist() == [1, 0, 1]
    assert float(probabilities.max(-1).min()) > 0.8


def test_one_step_makes_the_decisions_independent():
    options = {"batch_size": 2, "units": 5, "feedback": False}
    pi, params = (
        policies.lstm(SPACE, units=5, feedback=False),
        reinforce(SPACE, **options).init(jax.random.key(0)).params,
    )
    unroll = jax.jit(lambda a: policies.unroll(pi, SPACE, params, a).log_probs)
    np.testing.assert_array_equal(unroll(jnp.array([0, 0, 0])), unroll(jnp.array([1, 1, 1])))


def test_a_batch_of_one():
    controller = reinforce(SPACE, policy="free_logits", batch_size=1)
    state = controller.init(jax.random.key(0))
    proposal = controller.ask(jax.random.key(1), state)
    masks.check(SPACE, np.asarray(proposal.arch))
    state, _ = controller.tell(jax.random.key(2), state, proposal, outcome(jnp.ones((1, 3))))
    assert np.isfinite(state.params).all()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch_size", 0), ("units", 0), ("learning_rate", 0.0), ("baseline_decay", 1.0),
        ("temperature", 0.0), ("temperature_decay", 1.1), ("temperature_floor", 0.0),
        ("max_tensor_norm", -1.0), ("skip_below", -0.1), ("policy", "lstn"), ("baseline", "emma"),
    ],
)  # fmt: skip
def test_bad_options(name, value):
    with pytest.raises(InputError, match=f"controller.{name}"):
        reinforce(SPACE, **{name: value})
