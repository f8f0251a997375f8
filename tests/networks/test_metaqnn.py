"""The networks of spaces `metaqnn` and `cnn_mdp`: published parameter counts, shapes, dropout, training."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas import evaluators, networks, spaces, training
from jaxnas.errors import InputError
from jaxnas.networks import chain
from jaxnas.spaces.layers import Conv, Dense, Pool
from jaxnas.types import OK
from tests.helpers import dataset, random_archs

# https://github.com/michelesalvucci/DLMAIRIL_RL_based_NAS, its table of the best architectures.
LEAVES = {
    "P(2,2) - C(256,5,1) - C(128,1,1) - P(3,2) - C(64,3,1) - C(521,5,1) - C(128,3,1) - C(64,3,1) - P(3,3) - "
    "SM()": 1_623_882,
    "C(128,5,1) - C(256,5,1) - C(256,5,1) - SM()": 3_383_041,
    "C(256,1,1) - C(521,5,1) - C(64,5,1) - P(5,3) - C(128,5,1) - P(2,3) - C(521,3,1) - P(5,2) - C(64,1,1) - "
    "SM()": 5_009_171,
    "C(128,5,1) - C(64,1,1) - SM()": 241_985,
    "C(128,3,1) - C(128,1,1) - SM()": 509_825,
}
# Baker et al. 2017, Table A2, in millions as printed; they are those of images of 28 × 28.
CIFAR10 = [
    (
        "[C(512,5,1), C(256,3,1), C(256,5,1), C(256,3,1), P(5,3), C(512,3,1), C(512,5,1), P(2,2), SM(10)]",
        "11.26",
    ),
    (
        "[C(128,1,1), C(512,3,1), C(64,1,1), C(128,3,1), P(2,2), C(256,3,1), P(2,2), C(512,3,1), P(3,2), "
        "SM(10)]",
        "2.2",
    ),
    (
        "[C(128,3,1), C(128,1,1), C(512,5,1), P(2,2), C(128,3,1), P(2,2), C(64,3,1), C(64,5,1), SM(10)]",
        "2.46",
    ),
    ("[C(256,3,1), C(256,3,1), P(5,3), C(256,1,1), C(128,3,1), P(2,2), C(128,3,1), SM(10)]", "1.13"),
    ("[C(64,3,1), C(128,3,1), P(5,3), C(256,3,1), P(3,2), FC(512), FC(128), SM(10)]", "1.62"),
]


@pytest.mark.parametrize(("text", "params"), LEAVES.items())
def test_parameter_counts_of_leaves_published(text, params):
    space = spaces.metaqnn(preset="leaves_published")
    network = networks.metaqnn(space, (64, 64, 1), 1)
    structure, _ = network.plan(space.parse(text))
    assert training.count_params(network, structure) == params


@pytest.mark.parametrize(("text", "millions"), CIFAR10)
def test_parameter_counts_of_the_paper(text, millions):
    space = spaces.metaqnn(image_size=28)
    network = networks.metaqnn(space, (28, 28, 3), 10)
    structure, _ = network.plan(space.parse(text))
    decimals = len(millions.split(".")[1])
    assert f"{training.count_params(network, structure) / 1e6:.{decimals}f}" == millions


CASES = {
    "cifar10": ("metaqnn", {}, 32, 3, 10),
    "svhn": ("metaqnn", {"preset": "svhn"}, 32, 3, 10),
    "mnist": ("metaqnn", {"preset": "mnist"}, 28, 1, 10),
    "leaves": ("metaqnn", {"preset": "leaves"}, 64, 1, 1),
    "leaves_published": ("metaqnn", {"preset": "leaves_published"}, 64, 1, 1),
    "mnist3": ("cnn_mdp", {"preset": "mnist3"}, 28, 1, 3),
    "cifar5": ("cnn_mdp", {}, 32, 3, 5),
    "code": ("cnn_mdp", {"rules": "code"}, 32, 3, 10),
}


def make(case):
    name, options, size, channels, outputs = CASES[case]
    space = spaces.REGISTRY[name](**options)
    return space, networks.REGISTRY[name](space, (size, size, channels), outputs)


def predicted(text, case):
    """Parameters in plain Python: weights and a bias a layer, sizes by the formulas of the sources."""
    name, options, n, channels, outputs = CASES[case]
    is_leaves, total, flat = options.get("preset", "").startswith("leaves"), 0, None
    for i, token in enumerate(text.split(" - ")):
        kind, numbers = token.rstrip(")").split("(")
        values = [int(v) for v in numbers.split(",") if v]
        if kind == "C":
            filters, k, stride = values
            total += k * k * channels * filters + filters
            valid = name == "cnn_mdp" or (case == "leaves_published" and i == 0)
            n, channels = -(-(n - k + 1 if valid else n) // stride), filters
        elif kind == "P":
            n = -(-(n if is_leaves else n - values[0] + 1) // values[1])
        elif kind == "FC":
            before = n * n * channels if flat is None else flat
            total, flat = total + before * values[0] + values[0], values[0]
        elif kind == "GAP":
            flat = channels
    before = n * n * channels if flat is None else flat
    return total + before * outputs + outputs


def params_of(structure):
    """Without tracing: from the shapes after each layer."""
    total, shape = 0, structure.image_shape
    for layer, after in zip(
        structure.layers, chain.shapes(structure.image_shape, structure.layers), strict=True
    ):
        if isinstance(layer, Conv):
            total += layer.kernel**2 * shape[-1] * layer.filters + layer.filters
        elif isinstance(layer, Dense):
            total += int(np.prod(shape)) * layer.units + layer.units
        shape = after
    return total + int(np.prod(shape)) * structure.num_outputs + structure.num_outputs


@pytest.mark.parametrize("case", CASES)
def test_random_walks_have_a_network_of_the_predicted_size(case):
    space, network = make(case)
    for arch in random_archs(space, 200, seed=1):
        assert params_of(network.plan(arch)[0]) == predicted(space.describe(arch), case)
    for arch in random_archs(space, 6, seed=2):
        structure, _ = network.plan(arch)
        assert training.count_params(network, structure) == predicted(space.describe(arch), case)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_10_000_random_walks_have_a_network_of_the_predicted_size(case):
    space, network = make(case)
    for i, arch in enumerate(random_archs(space, 10_000, seed=3)):
        structure, _ = network.plan(arch)
        count = training.count_params(network, structure) if i < 200 else params_of(structure)
        assert count == predicted(space.describe(arch), case)


def test_dropout_follows_every_second_layer():
    space = spaces.metaqnn(image_size=28)
    network = networks.metaqnn(space, (28, 28, 1), 10)
    for text, indices, rates in [
        ("SM()", (), []),
        ("C(64,3,1) - SM()", (), []),
        ("C(64,3,1) - GAP()", (), []),
        ("C(64,3,1) - P(2,2) - SM()", (1,), [0.5]),
        ("C(64,3,1) - P(2,2) - C(64,3,1) - GAP()", (1,), [0.5]),
        (
            "C(64,3,1) - P(2,2) - C(64,3,1) - P(5,3) - FC(128) - FC(128) - SM()",
            (1, 3, 5),
            [1 / 6, 1 / 3, 0.5],
        ),
    ]:
        structure, knobs = network.plan(space.parse(text))
        assert structure.dropout == indices
        np.testing.assert_allclose(knobs["dropout"], rates, rtol=1e-6)
        assert knobs["dropout"].dtype == np.float32


def test_the_networks_of_mnist_and_of_mini_metaqnn():
    space, network = make("mnist")
    structure, knobs = network.plan(space.parse("C(60,4,2) - FC(50) - FC(10) - SM()"))
    assert structure.layers == (Conv(60, 4, 2, activation="elu"), Dense(50, "elu"), Dense(10, "elu"))
    assert (structure.initializer, structure.dropout) == ("xavier", (1, 2))
    np.testing.assert_array_equal(knobs["dropout"], np.float32([0.5, 0.5]))
    space, network = make("cifar5")
    structure, knobs = network.plan(space.parse("C(10,3,1) - P(5,3) - FC(64) - SM()"))
    assert structure.layers == (Conv(10, 3, padding="valid"), Pool(5, 3), Dense(64))
    assert (structure.initializer, structure.dropout) == ("fan_in", ())
    assert chain.shapes(structure.image_shape, structure.layers) == ((30, 30, 10), (9, 9, 10), (64,))
    linear = networks.cnn_mdp(space, (32, 32, 3), 5, activation="none")
    assert linear.plan(space.parse("C(10,3,1) - SM()"))[0].layers == (Conv(10, 3, 1, "valid", "none"),)


@pytest.mark.parametrize("name", ["metaqnn", "cnn_mdp"])
def test_images_of_another_size_are_refused(name):
    space = spaces.REGISTRY[name](image_size=28)
    with pytest.raises(InputError, match=r"space.image_size: 28 pixels, but the images have 32 × 40; set"):
        networks.REGISTRY[name](space, (32, 40, 3), 10)
    networks.REGISTRY[name](space, (28, 40, 3), 10)  # the smaller side decides
    with pytest.raises(InputError, match=r"network.lowering"):
        networks.REGISTRY[name](space, (28, 28, 3), 10, lowering="fast")


SMALL = {
    "metaqnn": {"image_size": 8, "depth": 4, "filters": (3, 5), "kernel": (1, 3), "dense": (6, 4)},
    "cnn_mdp": {"image_size": 8, "depth": 4, "filters": (3, 5), "dense": (6, 4)},
}


def train(name, count):
    """One epoch of one step for each of `count` random architectures."""
    space = spaces.REGISTRY[name](**SMALL[name], pool=("3,2", "2,2"))
    network = networks.REGISTRY[name](space, (8, 8, 1), 3)
    evaluator = evaluators.trained(network, dataset(n=16, n_validation=8), epochs=1, batch_size=16)
    archs = random_archs(space, count, seed=4)
    keys = jax.random.split(jax.random.key(1), count)
    _, measures = evaluator.evaluate(keys, evaluator.init(jax.random.key(0)), archs)
    return space, network, archs, measures


@pytest.mark.parametrize(
    ("name", "count"),
    [*itertools.product(SMALL, [4]), *(pytest.param(name, 200, marks=pytest.mark.slow) for name in SMALL)],
)
def test_random_walks_train(name, count):
    space, network, archs, measures = train(name, count)
    assert (measures["status"] == OK).all(), [space.describe(a) for a in archs]
    assert np.isfinite(measures["loss"]).all()
    structures = [network.plan(arch)[0] for arch in archs]
    np.testing.assert_array_equal(measures["params"], [params_of(s) for s in structures])


def test_global_average_pooling_is_a_mean_and_a_dense_layer():
    space = spaces.metaqnn(image_size=4, filters=(3,), kernel=(1,), pool=(), dense=(), depth=1)
    network = networks.metaqnn(space, (4, 4, 2), 5)
    structure, knobs = network.plan(space.parse("C(3,1,1) - GAP()"))
    params = network.init(jax.random.key(0), structure)
    images = jax.random.normal(jax.random.key(1), (2, 4, 4, 2))
    kernel, head = params["conv_1"]["kernel"][0, 0], params["head"]["kernel"]
    expected = jnp.mean(jax.nn.relu(images @ kernel), axis=(1, 2)) @ head  # biases are zero
    found = network.apply(params, structure, knobs, images, None)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
