"""The layers are those of flax, dropout does what it says, and the hash looks random."""

import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.hashing import hash_bits
from jaxnas.networks import modules
from jaxnas.networks.ops.pooling import Pool

ROOT = jax.random.key(0)


def keys(n):
    return [jax.random.fold_in(ROOT, i) for i in range(n)]


@pytest.mark.parametrize("lowering", ["gemm", "xla"])
def test_the_layers_are_those_of_flax(lowering):
    """The same parameters in flax's own convolution and dense layers give the same outputs."""
    x = jax.random.normal(ROOT, (2, 8, 8, 3))
    block = modules.Conv(4, 3, lowering, pool=Pool())
    variables = block.init(jax.random.key(1), x)
    conv = nn.Conv(4, (3, 3)).apply(variables, x)
    with jax.numpy_rank_promotion("allow"):
        expected = nn.max_pool(nn.relu(conv), (2, 2), (2, 2))
    np.testing.assert_allclose(block.apply(variables, x), expected, rtol=1e-4, atol=1e-5)
    dense, y = modules.Dense(5), jax.random.normal(ROOT, (3, 7))
    variables = dense.init(jax.random.key(2), y)
    np.testing.assert_allclose(
        dense.apply(variables, y), nn.Dense(5).apply(variables, y), rtol=1e-4, atol=1e-6
    )


def test_initial_weights():
    w = np.asarray(modules.fan_in_uniform(ROOT, (100, 200), 25))
    assert np.abs(w).max() <= 0.2
    np.testing.assert_allclose(w.mean(), 0, atol=5 * 0.2 / np.sqrt(3 * w.size))
    np.testing.assert_allclose(w.std(), 0.2 / np.sqrt(3), rtol=0.02)
    assert len(np.unique(w)) > 19_000
    assert (np.asarray(modules.fan_in_uniform(jax.random.key(1), (100, 200), 25)) != w).mean() > 0.99


def test_dropout_keeps_the_expectation():
    x = jnp.full((200, 500), 2.0)
    for rate in (0.1, 0.25, 0.5, 0.9):
        y = np.asarray(modules.dropout(x, jnp.float32(rate), ROOT))
        kept = (y != 0).mean()
        assert abs(kept - (1 - rate)) < 5 * np.sqrt(rate * (1 - rate) / x.size)
        np.testing.assert_allclose(y[y != 0], 2 / (1 - rate), rtol=1e-6)
        np.testing.assert_allclose(y.mean(), 2, rtol=5 * np.sqrt(rate / (1 - rate) / x.size))
    np.testing.assert_array_equal(modules.dropout(x, jnp.float32(0.0), ROOT), x)
    assert modules.dropout(x, jnp.float32(0.5), None) is x


def test_the_gradient_of_dropout_is_its_mask():
    x = jax.random.normal(ROOT, (8, 9)) + 3
    gradient = jax.grad(lambda x: modules.dropout(x, jnp.float32(0.5), ROOT).sum())(x)
    np.testing.assert_array_equal(
        gradient, jnp.where(modules.dropout(x, jnp.float32(0.5), ROOT) == 0, 0.0, 2.0)
    )


def test_dropout_is_the_same_under_vmap_map_and_scan():
    x, rates, many = jnp.ones((3, 16, 16)), jnp.array([0.1, 0.5, 0.9]), jnp.stack(keys(3))
    one = jnp.stack([modules.dropout(x[i], rates[i], many[i]) for i in range(3)])
    np.testing.assert_array_equal(jax.vmap(modules.dropout)(x, rates, many), one)
    np.testing.assert_array_equal(jax.lax.map(lambda a: modules.dropout(*a), (x, rates, many)), one)
    scanned = jax.lax.scan(lambda _, a: (None, modules.dropout(*a)), None, (x, rates, many))[1]
    np.testing.assert_array_equal(scanned, one)


# Statistics of the hash. Every |z| below is of a standard normal if bits are random; the limit of 5 is met
# by chance less than once in a million.
SHAPE = (128, 1024)


def z_of_correlation(a, b):
    a, b = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt((a * a).mean() * (b * b).mean())
    return (a * b).mean() / scale * np.sqrt(a.size) if scale > 0 else np.inf  # a constant is not random


def statistics(bits):
    """The |z| of what a weak hash fails: bits [K, rows, columns] of K keys → the worst of each kind."""
    K, rows, columns = bits.shape
    uniform = bits / 2.0**32
    worst = {"mean": max(abs(u.mean() - 0.5) * np.sqrt(12 * u.size) for u in uniform)}
    for rate in (0.1, 0.25, 0.5):
        drop = uniform < rate
        sd = np.sqrt(rate * (1 - rate))
        worst[f"share {rate}"] = max(abs(d.mean() - rate) / sd * np.sqrt(d.size) for d in drop)
        worst[f"keys {rate}"] = max(abs(z_of_correlation(a, b)) for a, b in itertools.pairwise(drop))
        worst[f"rows {rate}"] = max(abs(z_of_correlation(d[1:], d[:-1])) for d in drop)
        for lag in (1, 2, 3, 4, 8, 16, 32, 64, 256):
            flat = drop.reshape(K, -1)
            z = max(abs(z_of_correlation(d[lag:], d[:-lag])) for d in flat)
            worst[f"lags {rate}"] = max(worst.get(f"lags {rate}", 0), z)
        for axis in (1, 2):  # sums along it vary as binomial counts: z of the variance
            n, counts = bits.shape[axis], drop.sum(axis=axis)
            z = (counts.var() / (n * rate * (1 - rate)) - 1) * np.sqrt(counts.size / 2)
            worst[f"sums {rate} {axis}"] = abs(z)
    for byte in range(4):  # chi-square of the bytes, 255 degrees of freedom
        counts = np.stack([np.bincount((b.ravel() >> (8 * byte)) & 255, minlength=256) for b in bits])
        expected = rows * columns / 256
        chi = ((counts - expected) ** 2 / expected).sum(-1)
        worst[f"byte {byte}"] = (np.abs(chi - 255) / np.sqrt(2 * 255)).max()
    for bit in range(32):  # single bits of neighbours
        plane = ((bits >> bit) & 1).reshape(K, -1)
        worst["bits"] = max(worst.get("bits", 0), *(abs(z_of_correlation(p[1:], p[:-1])) for p in plane[:2]))
    return worst


def test_the_hash_looks_random():
    bits = np.stack([np.asarray(hash_bits(key, SHAPE)) for key in keys(8)])
    assert bits.dtype == np.uint32
    worst = statistics(bits)
    assert {name: z for name, z in worst.items() if z > 5} == {}


def test_the_hashes_of_neighbouring_steps_look_random():
    """Keys as training makes them: a child's, folded with the step and with the layer."""
    child = jax.random.fold_in(jax.random.key(7), 3)
    folded = [
        jax.random.fold_in(jax.random.fold_in(child, step), layer) for step in range(4) for layer in range(2)
    ]
    worst = statistics(np.stack([np.asarray(hash_bits(key, SHAPE)) for key in folded]))
    assert {name: z for name, z in worst.items() if z > 5} == {}


@pytest.mark.parametrize("weak", ["counter", "multiply", "xorshift"])
def test_the_statistics_catch_a_weak_hash(weak):
    def bits(key):
        k0, k1 = np.asarray(jax.random.key_data(key))
        x = (np.arange(np.prod(SHAPE), dtype=np.uint32) ^ k0) + k1
        if weak == "multiply":
            x = x * np.uint32(0x9E3779B1)
        if weak == "xorshift":
            x = x ^ (x << np.uint32(13))
            x = x ^ (x >> np.uint32(17))
            x = x ^ (x << np.uint32(5))
        return x.reshape(SHAPE)

    assert max(statistics(np.stack([bits(key) for key in keys(8)])).values()) > 10


def test_different_keys_give_different_bits():
    bits = np.stack([np.asarray(hash_bits(key, (64, 64))) for key in keys(20)])
    assert len(np.unique(bits.reshape(20, -1), axis=0)) == 20
    assert len(np.unique(bits)) > 0.9999 * bits.size
