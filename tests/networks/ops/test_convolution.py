"""Both lowerings agree in values and gradients, whole or in micro-batches; numbers by hand."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.errors import InputError
from jaxnas.networks.ops import convolution, pooling, winograd
from jaxnas.networks.ops.convolution import Spec
from jaxnas.networks.ops.pooling import Pool
from tests.helpers import quick_jit

ROOT = jax.random.key(0)


def reference(x, kernel, bias, spec):
    """By XLA's own operations, in the order of the formula: convolution, bias, ReLU, pooling."""
    y = jax.lax.conv_general_dilated(
        x, kernel, (spec.stride,) * 2, spec.padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    y = y + bias.reshape(1, 1, 1, -1)
    y = jax.nn.relu(y) if spec.relu else y
    if spec.pool is None:
        return y
    window, stride = ((1, n, n, 1) for n in spec.pool[:2])
    return jax.lax.reduce_window(y, -jnp.inf, jax.lax.max, window, stride, spec.pool.padding)


def value_and_gradients(function, x, kernel, bias, spec):
    """The output, and the gradients of its product with fixed numbers by x, kernel and bias."""

    def total(x, kernel, bias):
        y = function(x, kernel, bias, spec)
        return jnp.sum(y * jax.random.normal(jax.random.key(3), y.shape)), y

    gradients, y = quick_jit(jax.grad(total, (0, 1, 2), has_aux=True))(x, kernel, bias)
    return y, *gradients


def parts(shape, kernel, filters=4):
    return (
        jax.random.normal(ROOT, shape),
        jax.random.normal(jax.random.key(1), (kernel, kernel, shape[-1], filters)),
        jax.random.normal(jax.random.key(2), (filters,)),
    )


def close(results, expected):
    for a, b in zip(results, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize(
    ("kernel", "shape"), [(1, (2, 6, 6, 3)), (3, (2, 7, 5, 1)), (5, (2, 6, 6, 3)), (5, (1, 1, 4, 2))]
)
def test_the_convolutions_agree(kernel, shape):
    given = parts(shape, kernel)
    expected = value_and_gradients(reference, *given, Spec("xla"))
    assert expected[0].shape == (*shape[:-1], 4)
    for lowering in ("gemm", "xla"):
        close(value_and_gradients(convolution.conv, *given, Spec(lowering)), expected)


POOLS = [None, Pool(2, 2), Pool(3, 2), Pool(3, 3), Pool(5, 3), Pool(3, 2, "SAME")]


@pytest.mark.parametrize(
    ("stride", "padding", "relu", "pool"),
    [(1, "SAME", True, pool) for pool in POOLS]
    + [(1, "VALID", False, pool) for pool in (Pool(2, 2), Pool(3, 2), Pool(3, 2, "SAME"))]
    + [(2, "SAME", False, None), (2, "SAME", True, Pool(3, 2)), (2, "VALID", True, Pool(5, 3))],
)
def test_every_spec_agrees_with_xla(stride, padding, relu, pool):
    given = parts((3, 13, 12, 2), 3)
    spec = Spec("gemm", stride, padding, pool, relu)
    expected = value_and_gradients(reference, *given, spec)
    close(value_and_gradients(convolution.conv, *given, spec), expected)
    close(value_and_gradients(convolution.conv, *given, spec._replace(lowering="xla")), expected)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize(
    ("shape", "filters"),
    [
        ((4, 8, 8, 32), 32),
        ((2, 10, 14, 32), 32),
        ((3, 7, 5, 32), 40),
        ((5, 6, 9, 40), 32),
        ((2, 3, 3, 32), 32),
    ],
)
def test_tiles_agree_with_xla(shape, filters, padding, monkeypatch):
    """Winograd's, where extents fill its tiles or not, in micro-batches of one image and of all."""
    given = parts(shape, 3, filters)
    spec = Spec("gemm", padding=padding, relu=True, pool=Pool(2, 2) if min(shape[1:3]) > 5 else None)
    assert convolution.is_tiled(*given[:2])
    expected = value_and_gradients(reference, *given, spec)
    for rows in (1, 10_000):
        monkeypatch.setattr(convolution, "TILED_ROWS", rows)
        assert convolution._micro_batch(*given[:2]) == (1 if rows == 1 else shape[0])
        found = value_and_gradients(convolution.conv, *given, spec)
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * float(jnp.abs(b).max()))


@pytest.mark.parametrize("tile", [winograd.F2, winograd.F4], ids=["F2", "F4"])
def test_a_tile_by_hand(tile):
    """One channel: sums of nine neighbours."""
    x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    made = winograd.product(jnp.ones((3, 3, 1, 1)), ((0, 0), (0, 0)), tile)(x)
    np.testing.assert_allclose(made[0, :, :, 0], [[45, 54], [81, 90]], rtol=1e-6)


@pytest.mark.parametrize("tile", [winograd.F2, winograd.F4], ids=["F2", "F4"])
def test_the_transforms_make_a_convolution(tile):
    """For each pair of unit vectors along a line, Aᵀ [(G g) ⊙ (Bᵀ d)] is what the sliding product is."""
    for i, j in itertools.product(range(3), range(tile.m + 2)):
        g, d = np.eye(3)[i], np.eye(tile.m + 2)[j]
        made = tile.A @ ((tile.G @ g) * (tile.B @ d))
        np.testing.assert_allclose(made, np.correlate(d, g, "valid"), atol=1e-6)


def test_the_larger_tile_where_it_multiplies_less():
    assert [winograd.cheaper(n, n).m for n in (1, 2, 3, 4, 6, 7, 8, 9, 10, 14, 28, 32)] == [
        *(2, 2, 4, 4, 2, 4, 4, 4, 4, 4, 4, 4)
    ]


def test_what_is_computed_by_tiles():
    """3 × 3 of many channels in float32; a single image, on which operations are counted, is not."""

    def is_tiled(shape, k, filters, dtype=jnp.float32):
        return convolution.is_tiled(jnp.zeros(shape, dtype), jnp.zeros((k, k, shape[-1], filters)))

    assert is_tiled((2, 8, 8, 32), 3, 32)
    assert not is_tiled((1, 8, 8, 32), 3, 32)
    assert not is_tiled((2, 8, 8, 32), 5, 32)
    assert not is_tiled((2, 8, 8, 31), 3, 32)
    assert not is_tiled((2, 8, 8, 32), 3, 31)
    assert not is_tiled((2, 8, 8, 32), 3, 32, jnp.bfloat16)


@pytest.mark.parametrize("images, at_once", [(8, 2), (7, 3)])  # a micro-batch that divides the batch; a rest
@pytest.mark.parametrize("filters", [3, 20])  # fewer and more than the channels: either way to the gradient
@pytest.mark.parametrize("pool", [None, Pool(3, 2)], ids=str)
def test_micro_batches_change_nothing(images, at_once, filters, pool, monkeypatch):
    given = parts((images, 8, 8, 6), 3, filters)
    spec = Spec("gemm", pool=pool, relu=True)
    whole = value_and_gradients(convolution.conv, *given, spec)
    monkeypatch.setattr(convolution, "MICRO_BATCH_BYTES", 1)
    monkeypatch.setattr(convolution, "MICRO_BATCH_ROWS", 3 * 64)
    assert convolution._micro_batch(given[0], given[1]) == at_once
    assert "scan" in str(jax.make_jaxpr(lambda x: convolution.conv(x, *given[1:], spec))(given[0]))
    close(value_and_gradients(convolution.conv, *given, spec), whole)


def test_the_first_layer_has_no_input_gradient():
    """It would be the most expensive part of a step, for nobody: the program is smaller without it."""
    x, kernel, bias = parts((2, 8, 8, 3), 3)
    spec = Spec("gemm", relu=True)

    def value(kernel, bias, x):
        return convolution.conv(x, kernel, bias, spec).sum()

    def flops(argnums):
        compiled = quick_jit(jax.grad(value, argnums)).lower(kernel, bias, x).compile()
        return compiled.cost_analysis()["flops"]

    assert flops((0, 1)) < 0.8 * flops((0, 1, 2))


def test_a_convolution_by_hand():
    x = jnp.arange(9.0).reshape(1, 3, 3, 1)
    kernel = jnp.zeros((3, 3, 1, 1)).at[0, 1].set(1.0)  # reads the pixel above
    for lowering in ("gemm", "xla"):
        np.testing.assert_array_equal(
            convolution.conv(x, kernel, jnp.zeros(1), Spec(lowering))[0, :, :, 0],
            [[0, 0, 0], [0, 1, 2], [3, 4, 5]],
        )


def test_an_unknown_lowering():
    with pytest.raises(InputError, match=r"network\.lowering: unknown name 'gem'; did you mean 'gemm'"):
        convolution.resolve_lowering("gem")
    assert convolution.resolve_lowering("auto") in ("gemm", "xla")


@pytest.mark.parametrize("shape", [(2, 6, 8, 3), (2, 7, 5, 3), (1, 2, 3, 1)])
def test_max_pooling(shape):
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    N, H, W, C = shape
    windows = x[:, : H // 2 * 2, : W // 2 * 2].reshape(N, H // 2, 2, W // 2, 2, C)
    np.testing.assert_array_equal(pooling.max_pool(jnp.asarray(x)), windows.max(axis=(2, 4)))


@pytest.mark.parametrize("pool", POOLS[1:], ids=str)
def test_a_tie_goes_to_the_first_maximum(pool):
    """All pixels equal: each window's gradient is at its first pixel that is no padding."""
    x = jnp.zeros((1, 7, 7, 1))
    found = jax.grad(lambda x: pooling.max_pool(x, pool).sum())(x)[0, :, :, 0]
    (low, _), _ = jax.lax.padtype_to_pads((7, 7), (pool.window,) * 2, (pool.stride,) * 2, pool.padding)
    count = pooling.max_pool(x, pool).shape[1]
    expected = np.zeros((7, 7))
    for i, j in itertools.product(range(count), repeat=2):
        expected[max(0, i * pool.stride - low), max(0, j * pool.stride - low)] += 1
    np.testing.assert_array_equal(found, expected)
