"""The sequential network: sizes and shapes by hand, and the same numbers as plain XLA and flax layers."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnas.errors import InputError
from jaxnas.networks import chain
from jaxnas.networks.chain import ChainStructure
from jaxnas.spaces.layers import Conv, Dense, GlobalPool, Pool, Softmax
from jaxnas.training.task import MULTICLASS
from tests.helpers import assert_close

C53, C12, P22, P32, P53, GAP, FC = (
    Conv(5, 3), Conv(2, 1), Pool(2, 2), Pool(3, 2),
    Pool(5, 3), GlobalPool(), Dense(7),
)  # fmt: skip
VALID = Conv(5, 3, padding="valid")
LINEAR = Conv(5, 3, padding="valid", activation="none")
STRIDED = Conv(4, 3, 2, "valid", "none")
STRUCTURES = {
    "pools": ChainStructure((12, 11, 3), (C53, P22, C53, P32, FC, Dense(3)), 4),
    "no_pool_between": ChainStructure((9, 9, 2), (C53, C12, C53, P53, FC), 3, dropout=(1, 4)),
    "global_pool": ChainStructure((8, 7, 1), (P22, C53, C12, GAP), 2, initializer="xavier"),
    "valid_linear": ChainStructure((11, 12, 2), (LINEAR, P32, STRIDED), 3),
    "first_valid": ChainStructure((10, 9, 1), (VALID, C53, Pool(5, 3, "same"), FC), 3),
    "dropout_before_pool": ChainStructure((6, 6, 2), (C53, P22, GAP), 3, dropout=(0, 1)),
}


def shapes(structure):
    return chain.shapes(structure.image_shape, structure.layers)


def count(structure):
    params = jax.eval_shape(lambda key: chain.init(key, structure), jax.random.key(0))
    return {name: sum(leaf.size for leaf in layer.values()) for name, layer in params.items()}


def test_shapes_and_sizes_by_hand():
    s = STRUCTURES["pools"]
    assert hash(s) == hash(ChainStructure(*s))
    assert shapes(s) == ((12, 11, 5), (6, 5, 5), (6, 5, 5), (2, 2, 5), (7,), (3,))
    assert count(s) == {
        "conv_1": 3 * 3 * 3 * 5 + 5, "conv_3": 3 * 3 * 5 * 5 + 5,
        "dense_5": 2 * 2 * 5 * 7 + 7, "dense_6": 7 * 3 + 3, "head": 3 * 4 + 4,
    }  # fmt: skip
    assert shapes(STRUCTURES["global_pool"]) == ((4, 3, 1), (4, 3, 5), (4, 3, 2), (2,))
    assert count(STRUCTURES["global_pool"]) == {"conv_2": 50, "conv_3": 12, "head": 6}
    assert shapes(STRUCTURES["valid_linear"]) == ((9, 10, 5), (4, 4, 5), (1, 1, 4))
    assert shapes(STRUCTURES["first_valid"]) == ((8, 7, 5), (8, 7, 5), (3, 3, 5), (7,))
    # MetaQNN's ⌈(n − k + 1)/s⌉
    sides = [chain.shapes((n, n, 1), (p,))[0][0] for p in (P22, P32, P53) for n in (5, 8)]
    assert sides == [2, 4, 2, 3, 1, 2]


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ((P22, P22, P22), r"layer 3 \(pool\): its window of 2 × 2 does not fit into 1 × 1"),
        ((FC, C53), r"layer 2 \(conv\): what comes before it is flat"),
        ((GAP, GAP), r"layer 2 \(global_pool\): what comes before it is flat"),
        ((VALID, VALID, VALID), r"layer 3 \(conv\): its window of 3 × 3 does not fit into 1 × 1"),
        ((Softmax(),), r"layer 1 \(Softmax\(\)\): no layer of a chain; it takes Conv"),
        ((C53, Conv(5, 3, skip=3)), "layer 2 .*skip 3 leads to no layer"),
        ((P22, Conv(5, 3, skip=2)), "layer 2 .*skip 2 leads to no layer of its height and width"),
    ],
)
def test_what_does_not_fit(layers, message):
    with pytest.raises(InputError, match=message):
        chain.shapes((5, 5, 1), layers)


def reference(params, s, x):
    """The same network in XLA's and flax's own layers, without dropout."""
    for i, layer in enumerate(s.layers):
        p = params.get(chain.name_of(layer, i))
        if isinstance(layer, Conv):
            stride, side = (layer.stride,) * 2, (layer.kernel,) * 2
            x = nn.Conv(layer.filters, side, stride, layer.padding.upper()).apply({"params": p}, x)
            x = nn.relu(x) if layer.activation == "relu" else x
        elif isinstance(layer, Pool):
            x = nn.max_pool(x, (layer.kernel,) * 2, (layer.stride,) * 2, layer.padding.upper())
        elif isinstance(layer, GlobalPool):
            x = x.mean((1, 2))
        else:
            x = nn.Dense(layer.units).apply({"params": p}, x.reshape(len(x), -1))
            x = nn.relu(x) if layer.activation == "relu" else x
        if x.ndim in (2, 4):
            assert x.shape[1:] == shapes(s)[i]
    return nn.Dense(s.num_outputs).apply({"params": params["head"]}, x.reshape(len(x), -1))


@pytest.mark.parametrize("name", STRUCTURES)
def test_the_network_is_that_of_plain_layers(name):
    """Outputs, and gradients by parameters and images, against autodiff of the naive network."""
    s = STRUCTURES[name]
    params = chain.init(jax.random.key(0), s)
    x = jax.random.normal(jax.random.key(1), (3, *s.image_shape))
    weight = jax.random.normal(jax.random.key(2), (3, s.num_outputs))
    knobs = {"dropout": jnp.full(len(s.dropout), 0.5)}

    def value(function):
        return jax.jit(jax.value_and_grad(lambda p, x: (function(p, x) * weight).sum(), (0, 1)))(params, x)

    with jax.numpy_rank_promotion("allow"):
        expected = value(lambda p, x: reference(p, s, x))
    for lowering in ("gemm", "xla"):
        found = value(lambda p, x, lowering=lowering: chain.apply(p, s, knobs, x, None, lowering))
        assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_both_lowerings_train_alike():
    """The same parameters, images and dropout: equal to rounding over 20 steps."""
    s = ChainStructure((9, 9, 2), (C53, P32, C12, C53, P22, FC), 3, dropout=(1, 5))
    knobs = {"dropout": jnp.array([0.1, 0.3])}
    images = jax.random.normal(jax.random.key(0), (20, 8, 9, 9, 2))
    labels = jax.random.randint(jax.random.key(1), (20, 8), 0, 3)
    params = chain.init(jax.random.key(2), s)
    tx = optax.sgd(0.05, momentum=0.9)  # Adam would turn rounding into whole steps
    trained = {}
    for lowering in ("gemm", "xla"):

        def step(carry, batch, lowering=lowering):
            (params, state), (x, y, i) = carry, batch

            def loss(params):
                key = jax.random.fold_in(jax.random.key(3), i)
                return MULTICLASS.loss(chain.apply(params, s, knobs, x, key, lowering), y, None)

            value, gradient = jax.value_and_grad(loss)(params)
            updates, state = tx.update(gradient, state, params)
            return (optax.apply_updates(params, updates), state), value

        run = jax.jit(
            lambda p, step=step: jax.lax.scan(step, (p, tx.init(p)), (images, labels, jnp.arange(20)))
        )
        (trained[lowering], _), losses = run(params)
        assert np.isfinite(losses).all()
    assert_close(trained["gemm"], trained["xla"], rtol=1e-3, atol=1e-5)


def test_dropout_is_where_it_is_asked_for():
    s = STRUCTURES["dropout_before_pool"]
    params = chain.init(jax.random.key(0), s)
    x = jax.random.normal(jax.random.key(1), (4, *s.image_shape))

    def outputs(rates, key):
        return chain.apply(params, s, {"dropout": jnp.array(rates)}, x, key, "gemm")

    plain = outputs([0.5, 0.5], None)
    np.testing.assert_allclose(outputs([0.0, 0.0], jax.random.key(2)), plain, rtol=1e-6)
    for rates in ([0.5, 0.0], [0.0, 0.5]):
        assert not np.allclose(outputs(rates, jax.random.key(2)), plain)


def test_the_initializers():
    s = ChainStructure((8, 8, 4), (Conv(32, 3), Dense(100)), 2, initializer="xavier")
    params = chain.init(jax.random.key(0), s)
    for layer, limit in (("conv_1", (6 / (9 * 4 + 9 * 32)) ** 0.5), ("dense_2", (6 / (2048 + 100)) ** 0.5)):
        kernel = np.asarray(params[layer]["kernel"])
        assert 0.97 * limit < np.abs(kernel).max() <= limit
        np.testing.assert_allclose(kernel.std(), limit / np.sqrt(3), rtol=0.06)
        assert not params[layer]["bias"].any()
    fan_in = chain.init(jax.random.key(0), s._replace(initializer="fan_in"))
    assert 0.97 / 6 < np.abs(fan_in["conv_1"]["kernel"]).max() <= 1 / 6
    assert fan_in["conv_1"]["bias"].any()


WIDTHS = {Conv: [2, 5, 6], Dense: [3, 7, 9]}
NARROW = ChainStructure((7, 6, 2), (C53, P32, C12, FC, Dense(3)), 3, dropout=(0, 3))


@pytest.mark.parametrize("initializer", ["fan_in", "xavier"])
def test_a_padded_child_is_the_child(initializer):
    """In a wider program: the same weights, outputs, dropout and 20 steps of training, to rounding."""
    s = NARROW._replace(initializer=initializer)
    *_, wide = chain.widen(s, WIDTHS)
    assert [chain.width(layer) for layer in wide.layers] == [6, 0, 6, 9, 9]
    knobs = {"dropout": jnp.array([0.2, 0.4])}
    padded_knobs = jax.tree.map(jnp.asarray, chain.pad(s, knobs))
    images = jax.random.normal(jax.random.key(0), (20, 8, 7, 6, 2))
    labels = jax.random.randint(jax.random.key(1), (20, 8), 0, 3)
    tx = optax.sgd(0.05, momentum=0.9)

    def train(structure, knobs):
        def step(carry, batch):
            (params, state), (x, y, i) = carry, batch

            def loss(params):
                key = jax.random.fold_in(jax.random.key(3), i)
                outputs = chain.apply(params, structure, knobs, x, key, "gemm")
                return MULTICLASS.loss(outputs, y, None)

            value, gradient = jax.value_and_grad(loss)(params)
            updates, state = tx.update(gradient, state, params)
            return (optax.apply_updates(params, updates), state), value

        first = chain.init(jax.random.key(2), structure, knobs)
        (last, _), losses = jax.lax.scan(step, (first, tx.init(first)), (images, labels, jnp.arange(20)))
        return first, last, losses, chain.apply(last, structure, knobs, images[0], None, "gemm")

    first, last, losses, outputs = jax.jit(lambda knobs: train(s, knobs))(knobs)
    wide_first, wide_last, wide_losses, wide_outputs = jax.jit(lambda knobs: train(wide, knobs))(padded_knobs)
    for padded, alone in ((wide_first, first), (wide_last, last)):
        padded = jax.tree.map(np.asarray, padded)
        assert_close(chain.crop(padded, s), alone, rtol=1e-4, atol=1e-6)
        assert sum(np.count_nonzero(x) for x in jax.tree.leaves(padded)) <= sum(
            x.size for x in jax.tree.leaves(alone)
        )
    np.testing.assert_allclose(wide_losses, losses, rtol=1e-4)
    np.testing.assert_allclose(wide_outputs, outputs, rtol=1e-3, atol=1e-5)


def test_widths_are_padded_in_groups():
    layers = (*(Conv(w, 3) for w in (16, 32, 64, 128, 20)), Dense(10), GAP)
    choices = {Conv: [16, 32, 64, 128], Dense: [10, 50, 90]}
    found = [
        [chain.width(layer) for layer in s.layers]
        for s in chain.widen(ChainStructure((9, 9, 1), layers, 2), choices)
    ]
    assert found == [[32, 32, 128, 128, 20, 10, 0], [128, 128, 128, 128, 20, 90, 0]]
    (once,) = chain.widen(NARROW, {})
    assert once == NARROW
