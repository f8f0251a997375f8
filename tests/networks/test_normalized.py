"""Batch normalization and its gradient, against the formula and what JAX makes of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.networks.normalized import EPSILON, _normalize
from jaxnas.testing.promises import quick_jit


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_gradient_of_a_batch_norm(dtype):
    keys = jax.random.split(jax.random.key(0), 4)
    x = (2 * jax.random.normal(keys[0], (3, 4, 5, 6)) + 1).astype(dtype)
    weight = jax.random.normal(keys[1], x.shape)
    scale, bias = jax.random.normal(keys[2], (6,)), jax.random.normal(keys[3], (6,))

    def formula(x, scale, bias):
        wide = x.astype(jnp.float32)
        mean = wide.mean((0, 1, 2), keepdims=True)
        var = jnp.mean((wide - mean) ** 2, (0, 1, 2), keepdims=True)
        y = (wide - mean) / jnp.sqrt(var + EPSILON) * scale.reshape(1, 1, 1, -1) + bias.reshape(1, 1, 1, -1)
        return y.astype(x.dtype), mean.ravel(), var.ravel()

    @quick_jit
    def both():
        results = []
        for function in (_normalize, formula):

            def loss(x, scale, bias, function=function):
                return jnp.sum(function(x, scale, bias)[0].astype(jnp.float32) * weight)

            results.append((function(x, scale, bias), jax.grad(loss, (0, 1, 2))(x, scale, bias)))
        return results

    tolerance = 1e-4 if dtype == "float32" else 0.03
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(
            a.astype(jnp.float32), b.astype(jnp.float32), rtol=tolerance, atol=tolerance
        ),
        *both(),
    )
