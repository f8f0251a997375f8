"""Learning rates over time, and what weight decay spares."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.training import optimizers


def test_schedules():
    """By hand: 20 steps, 5 of them warm-up."""
    with jax.numpy_dtype_promotion("standard"):  # as in the trainer: optax mixes kinds of numbers
        check_schedules()


def check_schedules():
    options = {"warmup": 0.25, "decay_rate": 0.5, "decay_steps": 5}
    cycle, cosine, steps = (
        optimizers.factor(name, 20, **options) for name in ("one_cycle", "cosine", "step")
    )
    cycle, cosine, steps = (lambda s, f=f: f(jnp.float32(s)) for f in (cycle, cosine, steps))
    assert [float(cycle(s)) for s in (0, 5, 20)] == pytest.approx([1 / 25, 1, 1 / 250_000])
    assert float(cycle(2)) == pytest.approx(0.04 + 0.96 * (1 - np.cos(0.4 * np.pi)) / 2)
    assert [float(cosine(s)) for s in (0, 4, 5, 20)] == pytest.approx([0.2, 1, 1, 0], abs=1e-6)
    assert float(cosine(10)) == pytest.approx((1 + np.cos(np.pi / 3)) / 2)
    assert [float(steps(s)) for s in (4, 5, 9, 10, 15)] == pytest.approx([1, 1, 1, 0.5, 0.25])


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_decay_may_spare_norms_and_biases(name):
    """One step without a gradient shrinks the kernel by rate · decay, and nothing else."""
    params = {"kernel": jnp.ones((2, 2)), "scale": jnp.ones(2)}
    tx = optimizers.optimizer(name, None, False, decays_norms=False)(jnp.float32(0.1), jnp.float32(0.5))
    with jax.numpy_dtype_promotion("standard"):
        updates, _ = tx.update(jax.tree.map(jnp.zeros_like, params), tx.init(params), params)
    np.testing.assert_allclose(updates["kernel"], np.full((2, 2), -0.05))
    np.testing.assert_array_equal(updates["scale"], [0, 0])
