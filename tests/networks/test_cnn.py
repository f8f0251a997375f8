"""The network of space `cnn`: every part against plain formulas, statistics, and what a network decides."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas import evaluators, networks, spaces, training
from jaxnas.types import OK
from tests.helpers import assert_identical, dataset, quick_jit, random_archs
from tests.spaces.test_cnn import EVERYTHING

SPACE = spaces.cnn(**EVERYTHING)
NETWORK = networks.cnn(SPACE, (8, 8, 1), 3)
DATA = dataset(n=64, n_validation=32, shape=(8, 8, 1))
PLAIN = "learning_rate=0.01 - batch_size=8 - optimizer=adam - weight_decay=0.0"


def made(layers, shape=(8, 8, 1), seed=0):
    structure, knobs = NETWORK.plan(SPACE.parse(f"{PLAIN} - {layers} - SM()"))
    params = quick_jit(NETWORK.init, static_argnums=1)(jax.random.key(seed), structure, knobs)
    return structure, knobs, params


def outputs_of(layers, x, key=None):
    structure, knobs, params = made(layers)
    return params, quick_jit(NETWORK.apply, static_argnums=1)(params, structure, knobs, x, key)


X = jax.random.normal(jax.random.key(5), (6, 8, 8, 1))


def conv(x, p):
    y = jax.lax.conv_general_dilated(
        x, p["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return y + p["bias"].reshape(1, 1, 1, -1)


def head(x, p):
    return x.reshape(x.shape[0], -1) @ p["kernel"] + p["bias"].reshape(1, -1)


def test_activations_norm_and_skip():
    params, found = outputs_of("C(4,3,1)+gelu - C(8,3,1)+layer-norm+skip1", X)
    first = jax.nn.gelu(conv(X, params["c_1"]))
    y = conv(first, params["c_2"])
    mean, variance = y.mean(-1, keepdims=True), y.var(-1, keepdims=True)
    scale, bias = (params["c_2_norm"][n].reshape(1, 1, 1, -1) for n in ("scale", "bias"))
    y = jax.nn.relu((y - mean) / jnp.sqrt(variance + 1e-6) * scale + bias)
    y = y + head_1x1(first, params["c_2_skip"])  # 4 channels added to 8
    np.testing.assert_allclose(found, head(y, params["head"]), rtol=2e-4, atol=2e-5)


def head_1x1(x, p):
    return jnp.einsum("nhwc,cf->nhwf", x, p["kernel"]) + p["bias"].reshape(1, 1, 1, -1)


def test_squeeze_and_excitation_and_self_attention():
    params, found = outputs_of("C(8,1,1)+se-attention", X)
    y = jax.nn.relu(conv(X, params["c_1"]))
    squeezed = jax.nn.relu(head(y.mean((1, 2)), params["c_1_attention_squeeze"]))
    scale = jax.nn.sigmoid(head(squeezed, params["c_1_attention_excite"]))
    np.testing.assert_allclose(found, head(y * scale[:, None, None], params["head"]), rtol=2e-4, atol=2e-5)
    params, found = outputs_of("C(8,1,1)+self-attention", X)
    y = jax.nn.relu(conv(X, params["c_1"])).reshape(6, 64, 8)
    query, key, value = (params[f"c_1_attention_{part}"]["kernel"] for part in ("query", "key", "value"))
    weights = jax.nn.softmax((y @ query) @ (y @ key).transpose(0, 2, 1) / np.sqrt(2), axis=-1)
    attended = y + weights @ (y @ value + params["c_1_attention_value"]["bias"].reshape(1, 1, -1))
    np.testing.assert_allclose(found, head(attended, params["head"]), rtol=2e-4, atol=2e-5)


def test_batch_norm_keeps_statistics():
    structure, knobs, params = made("C(4,3,1)+batch-norm")
    y = conv(X, params["c_1"])
    train, apply = (quick_jit(function, static_argnums=1) for function in (NETWORK.train, NETWORK.apply))
    outputs, kept = train(params, structure, knobs, X, jax.random.key(1))
    mean, variance = y.mean((0, 1, 2)), y.var((0, 1, 2))
    np.testing.assert_allclose(kept["c_1_norm"]["mean"], 0.1 * mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(kept["c_1_norm"]["var"], 0.9 + 0.1 * variance, rtol=1e-4)
    normal = (y - mean.reshape(1, 1, 1, -1)) / jnp.sqrt(variance + 1e-5).reshape(1, 1, 1, -1)
    np.testing.assert_allclose(outputs, head(jax.nn.relu(normal), params["head"]), rtol=1e-3, atol=1e-4)
    # Without a key: by the statistics so far, mean 0 and variance 1.
    later = apply(params, structure, knobs, X, None)
    np.testing.assert_allclose(later, head(jax.nn.relu(y), params["head"]), rtol=1e-3, atol=1e-3)
    # They are no parameters, and training moves them; the optimizer does not.
    assert training.count_params(NETWORK, structure) == 9 * 4 + 4 + 2 * 4 + 8 * 8 * 4 * 3 + 3
    trainer = training.make(NETWORK, DATA, epochs=2, batch_size=8, weight_decay=0.1)
    rows = np.stack([np.arange(64).reshape(8, 8)] * 2).astype(np.int32)
    given = {"network": knobs, **jax.tree.map(jnp.asarray, trainer.rates)}
    images, labels = map(jnp.asarray, DATA.train)
    seen = tuple(map(jnp.asarray, DATA.validation))
    fit = quick_jit(trainer.fit, static_argnums=0)
    fitted = fit(structure, jax.random.key(0), given, images, labels, jnp.asarray(rows), seen)
    statistics = fitted.params["statistics"]["c_1_norm"]
    pixels = (DATA.train.inputs.astype(np.float32) / 255 - 0.5) / 0.5
    y = conv(jnp.asarray(pixels), fitted.params["c_1"])
    left = 0.9**16  # of the variance 1 that the statistics begin with
    np.testing.assert_allclose(statistics["var"], left + (1 - left) * y.var((0, 1, 2)), rtol=0.2)
    assert np.abs(statistics["mean"]).max() > 0


def test_bfloat16_keeps_exact_statistics():
    evaluator = evaluators.trained(NETWORK, DATA, epochs=1, precision="bfloat16")
    arch = SPACE.parse(f"{PLAIN} - C(4,3,1)+batch-norm+se-attention - C(8,3,1)+layer-norm+skip1 - SM()")
    state = evaluator.init(jax.random.key(0))
    key = jax.random.key(1)
    _, measures = evaluator.evaluate(key[None], state, arch[None])
    assert measures["status"].tolist() == [OK]
    leaves = jax.tree.leaves(evaluator.child(key, state, arch)[0])
    assert {leaf.dtype for leaf in leaves} == {np.dtype(np.float32)}


@pytest.mark.optimized
def test_what_an_architecture_decides_of_its_training():
    """Equal layers, other training: a program per batch size and optimizer, rates share it."""
    layers = "C(4,3,1) - SM()"
    texts = [
        f"learning_rate={rate} - batch_size={size} - optimizer={name} - weight_decay=0.0 - {layers}"
        for rate, size, name in ((0.01, 8, "adam"), (0.001, 8, "adam"), (0.01, 16, "adam"), (0.01, 8, "sgd"))
    ]
    arch = np.stack([SPACE.parse(text) for text in texts])
    keys = jnp.stack([jax.random.key(3)] * 4)
    evaluator = evaluators.trained(NETWORK, DATA, epochs=2, group_size=4)
    state = evaluator.init(jax.random.key(1))
    _, found = evaluator.evaluate(keys, state, arch)
    assert evaluator.stats()["programs"] == 3
    assert len(set(found["loss"].tolist())) == 4
    # What the trainer says by itself gives the same.
    for text, options, loss in zip(
        texts[1:],
        ({"batch_size": 8, "learning_rate": 0.001}, {"batch_size": 16, "learning_rate": 0.01},
         {"batch_size": 8, "learning_rate": 0.01, "optimizer": "sgd"}),
        found["loss"][1:],
        strict=True,
    ):  # fmt: skip
        plain = {k: v for k, v in EVERYTHING.items() if k not in ("learning_rate", "batch_size", "optimizer")}
        space = spaces.cnn(**plain)
        alone = evaluators.trained(networks.cnn(space, (8, 8, 1), 3), DATA, epochs=2, **options)
        own = space.parse(f"weight_decay=0.0 - {text.split(' - weight_decay=0.0 - ')[1]}")
        _, measured = alone.evaluate(keys[:1], alone.init(jax.random.key(1)), own[None])
        assert_identical(measured["loss"][0], loss)


@pytest.mark.parametrize("n", [4, pytest.param(200, marks=pytest.mark.slow)])
def test_random_walks_train(n):
    evaluator = evaluators.trained(NETWORK, DATA, epochs=1)
    archs = random_archs(SPACE, n, seed=n)
    keys = jax.random.split(jax.random.key(0), n)
    _, measures = evaluator.evaluate(keys, evaluator.init(jax.random.key(1)), archs)
    assert (measures["status"] == OK).all()
    assert np.isfinite(measures["loss"]).all()
