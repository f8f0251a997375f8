"""Depthwise convolution and mean pooling: values and gradients against XLA's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.networks.ops import convolution
from jaxnas.networks.ops.depthwise import depthwise, mean_pool
from tests.helpers import quick_jit


def value_and_gradients(function, *arrays):
    """What a function gives, and the gradients of a sum that weighs every element of it differently."""

    def weighed(*arrays):
        y = function(*arrays)
        return jnp.sum(y * jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape)), y

    (_, y), gradients = quick_jit(
        jax.value_and_grad(weighed, argnums=tuple(range(len(arrays))), has_aux=True)
    )(*arrays)
    return y, *gradients


def close(found, expected):
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * float(jnp.abs(b).max() + 1))


def arrays(*shapes):
    return [jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate(shapes)]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("k", "shape"), [(3, (4, 6, 6, 3)), (5, (3, 7, 5, 2)), (7, (9, 4, 3, 1))])
def test_depthwise_agrees_with_xla(k, shape, stride):
    x, kernel = arrays(shape, (k, k, shape[-1]))
    found, expected = (
        value_and_gradients(lambda x, w, how=how: depthwise(x, w, stride, how), x, kernel)
        for how in ("gemm", "xla")
    )
    assert found[0].shape == (shape[0], -(-shape[1] // stride), -(-shape[2] // stride), shape[3])
    close(found, expected)


def test_depthwise_by_hand():
    """After the ReLU every pixel but one is 0: the output around it is the kernel turned around."""
    x = jnp.full((2, 5, 5, 1), -1.0).at[:, 2, 2].set(2.0)
    kernel = jnp.arange(9.0).reshape(3, 3, 1)
    found = depthwise(x, kernel, 1, "gemm")[0, :, :, 0]
    np.testing.assert_array_equal(found[1:4, 1:4], 2 * np.arange(9.0)[::-1].reshape(3, 3))
    assert float(jnp.abs(found).sum()) == 2 * 36


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shape", [(2, 6, 6, 3), (2, 5, 3, 1)])
def test_mean_pooling_does_not_count_the_padding(shape, stride):
    def reference(x):
        windows = (1, 3, 3, 1), (1, stride, stride, 1), "SAME"
        total = jax.lax.reduce_window(x, 0.0, jax.lax.add, *windows)
        return total / jax.lax.reduce_window(jnp.ones_like(x), 0.0, jax.lax.add, *windows)

    x = arrays(shape)
    close(value_and_gradients(lambda x: mean_pool(x, 3, stride), *x), value_and_gradients(reference, *x))
    corner = mean_pool(x[0], 3, 1)[0, 0, 0, 0]
    np.testing.assert_allclose(corner, x[0][0, :2, :2, 0].mean(), rtol=1e-5)


@pytest.mark.parametrize(
    ("window", "strides", "dilation"),
    [((1, 3), (1, 1), 1), ((1, 7), (1, 2), 1), ((7, 1), (2, 1), 1), ((3, 3), (1, 1), 2), ((3, 3), (2, 2), 2),
     ((1, 1), (1, 1), 1), ((1, 1), (2, 2), 1)],
)  # fmt: skip
def test_convolutions_of_any_window_agree_with_xla(window, strides, dilation):
    given = arrays((2, 7, 6, 3), (*window, 3, 4))
    found, expected = (
        value_and_gradients(lambda x, w, how=how: convolution.windowed(x, w, strides, dilation, how), *given)
        for how in ("gemm", "xla")
    )
    assert found[0].shape == (2, -(-7 // strides[0]), -(-6 // strides[1]), 4)
    close(found, expected)
