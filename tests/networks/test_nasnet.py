"""The network of space `nasnet`: cells by hand, shapes, sizes, drop path, one function for repeated cells."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnas import evaluators, networks, spaces, training
from jaxnas.errors import InputError
from jaxnas.networks.nasnet import _Cell, _kept
from jaxnas.spaces.layers import Block
from jaxnas.spaces.nasnet import OPERATIONS
from jaxnas.types import OK, Network
from tests.helpers import assert_close, assert_identical, dataset, images, quick_jit, random_archs

SPACE = spaces.nasnet(blocks_per_cell=2)
ONE = spaces.nasnet(blocks_per_cell=1)
TEXT = (
    "normal: add(sep3(h),identity(h-1)) cat(max3(b1),identity(h)) "
    "reduction: add(avg3(h),conv1(h-1)) add(sep3(h),conv3(h-1))"
)
SMALL = {"cells": 1, "filters": 4, "reductions": 1}
EPS = 1e-5  # of batch normalization, whose statistics begin with mean 0 and variance 1


def made(text=TEXT, space=SPACE, shape=(8, 8, 1), **options):
    network = networks.nasnet(space, shape, 3, **{**SMALL, **options})
    structure, knobs = network.plan(space.parse(text))
    return network, structure, knobs


def cell(text, h, before, filters=4, stride=1):
    """A cell of one or two blocks: its output and its parameters."""
    blocks = SPACE.layers(SPACE.parse(f"normal: {text} reduction: {text}"))[0].blocks
    module = _Cell(blocks, filters, stride, False, "gemm")
    made = quick_jit(lambda h, before: module.init_with_output(jax.random.key(0), (h, before), None))
    ((y, passed), _), variables = made(h, before)
    np.testing.assert_array_equal(passed, h)  # it is h-1 of the next cell
    return y, variables["params"]


def random(*shape, seed=0):
    return jax.random.normal(jax.random.key(seed), shape)


def test_a_cell_by_hand():
    """Separable convolutions twice, with nothing between their halves; batch norm last; 1 × 1 to match."""
    h, before = random(2, 5, 5, 4), random(2, 5, 5, 6, seed=1)
    found, p = cell("add(sep3(h),identity(h-1)) cat(avg3(b1),conv1(h))", h, before)
    norm = (1 + EPS) ** -0.5

    def separable(x, p):
        z = jax.lax.conv_general_dilated(
            jax.nn.relu(x), p["depthwise"][:, :, None], (1, 1), "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=4,
        )  # fmt: skip
        return z @ p["pointwise"] * norm

    matched = jax.nn.relu(before) @ p["h-1"]["kernel"][0, 0] * norm  # 6 channels to 4
    b1 = separable(separable(h, p["b1_1_1"]), p["b1_1_2"]) + matched
    window = (1, 3, 3, 1), (1, 1, 1, 1), "SAME"
    count = jax.lax.reduce_window(jnp.ones_like(b1), 0.0, jax.lax.add, *window)
    mean = jax.lax.reduce_window(b1, 0.0, jax.lax.add, *window) / count
    other = jax.nn.relu(h) @ p["b2_2"]["kernel"][0, 0] * norm
    np.testing.assert_allclose(found, jnp.concatenate([mean, other], -1), rtol=1e-4, atol=1e-5)
    assert set(p) == {"h-1", "b1_1_1", "b1_1_2", "b2_2"}  # h has four channels: it needs no convolution


@pytest.mark.parametrize(
    ("text", "channels"),
    [
        ("add(conv1(h),conv1(h)) add(conv1(h-1),conv1(h))", 4 + 4),  # b1 and b2
        ("add(conv1(h),conv1(h)) add(conv1(b1),conv1(h))", 4),  # b1 is used
        ("cat(conv1(h),conv1(h)) add(conv1(h-1),conv1(h))", 8 + 4),
        ("cat(conv1(h),conv1(h)) cat(identity(b1),max3(b1))", 8),  # of 8 channels, matched to 4 each
        ("cat(identity(h),max3(h)) cat(conv1(h),conv1(h))", 8 + 8),
    ],
)
def test_unused_hidden_states_are_the_output(text, channels):
    found, _ = cell(text, random(2, 4, 4, 4), random(2, 4, 4, 5))
    assert found.shape == (2, 4, 4, channels)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("n", [8, 7])
def test_a_reduction_cell_halves_its_inputs_and_nothing_of_its_own(operation, n):
    h, before = random(2, n, n, 3), random(2, 2 * n - n % 2, 2 * n - n % 2, 5)
    blocks = (Block((0, 1), (operation, operation), "add"), Block((2, 0), (operation, "identity"), "cat"))
    module = _Cell(blocks, 6, 2, False, "gemm")
    (y, _), _ = jax.eval_shape(lambda: module.init_with_output(jax.random.key(0), (h, before), None))[0]
    assert y.shape == (2, 4, 4, 12)


def test_the_factorized_reduction_sees_every_second_pixel_and_their_neighbours():
    h, before = random(1, 3, 3, 4), random(1, 6, 6, 2, seed=1)
    found, p = cell("add(identity(h-1),identity(h-1)) add(identity(h-1),identity(h-1))", h, before)
    x = jax.nn.relu(before)
    even, odd = p["h-1_even"]["kernel"][0, 0], p["h-1_odd"]["kernel"][0, 0]
    assert even.shape == odd.shape == (2, 2)
    expected = jnp.concatenate([x[:, ::2, ::2] @ even, x[:, 1::2, 1::2] @ odd], -1) * (1 + EPS) ** -0.5
    np.testing.assert_allclose(found, jnp.concatenate([2 * expected] * 2, -1), rtol=1e-4, atol=1e-5)


def test_parameters_by_hand():
    """F = 4, images of one channel, one normal cell, a reduction cell, one normal cell."""

    def conv(k, C, F):  # with the scale and bias of its norm
        return k * k * C * F + 2 * F

    def separable(F):  # twice 3 × 3
        return 2 * (9 * F + F * F + 2 * F)

    stem = conv(3, 1, 12)
    # h and h-1 are the stem's 12 channels; the output is b2, of 4 + 4.
    first = 2 * conv(1, 12, 4) + separable(4)
    # Filters 8: h has 8 channels and stays; h-1 is the stem; the output is b1 and b2, of 8 each.
    reduction = conv(1, 12, 8) + conv(1, 8, 8) + separable(8) + conv(3, 8, 8)
    # h has 16 channels at half the size of h-1, which has 8 and is factorized; max3(b1) has 8: nothing.
    second = conv(1, 16, 8) + 2 * conv(1, 8, 4) + separable(8)
    network, structure, _ = made()
    expected = stem + first + reduction + second + 16 * 3 + 3
    assert training.count_params(network, structure) == expected
    assert structure.stages == (1, 1)


def test_the_published_cell_has_the_published_size():
    """NASNet-A (figure 4), 6 cells a stage, F = 32: 3.3 million parameters.

    Less without h-1 and b2, which the authors' normal and reduction cell concatenate although they are used.
    """
    space = spaces.nasnet()
    network = networks.nasnet(space, (32, 32, 3), 10, cells=6, filters=32)
    structure, _ = network.plan(space.parse(NASNET_A))
    assert training.count_params(network, structure) == 3_061_738


NASNET_A = (
    "normal: add(sep5(h),sep3(h-1)) add(sep5(h-1),sep3(h-1)) add(avg3(h),identity(h-1)) "
    "add(avg3(h-1),avg3(h-1)) add(sep3(h),identity(h)) "
    "reduction: add(sep5(h),sep7(h-1)) add(max3(h),sep7(h-1)) add(avg3(h),sep5(h-1)) "
    "add(identity(b2),avg3(b1)) add(sep3(b1),max3(h))"
)


def test_operations_by_hand():
    """2 × the multiply-adds of one image of 8 × 8; both lowerings count the same."""

    def separable(pixels, C):
        return 2 * pixels * (9 * C + C * C)

    stem = 64 * 9 * 12
    first = 2 * 64 * 12 * 4 + separable(64, 4)
    # Stride 2 leaves 4 × 4 pixels: the second of the two separable convolutions has stride 1.
    reduction = 64 * 12 * 8 + 16 * 8 * 8 + separable(16, 8) + 16 * 9 * 8 * 8
    second = 16 * 16 * 8 + 2 * 16 * 8 * 4 + separable(16, 8)
    for lowering in ("gemm", "xla"):
        network, structure, knobs = made(lowering=lowering)
        found = training.count_flops(network, structure, knobs, (8, 8, 1))
        assert found == 2 * (stem + first + reduction + second + 16 * 3)


def test_a_stage_doubles_the_filters_and_halves_the_image():
    network, structure, _ = made(filters=4, reductions=3)
    params = jax.eval_shape(lambda: network.init(jax.random.key(0), structure, {}))
    assert structure.stages == (1, 1, 1, 1)
    assert params["head"]["kernel"].shape == (2 * 32, 3)
    assert [params[f"reduction_{i}"]["b2_2"]["kernel"].shape for i in (1, 2, 3)] == [
        (3, 3, 8 * 2**i, 8 * 2**i) for i in range(3)
    ]


@pytest.mark.slow
def test_both_lowerings_agree():
    """Outputs, statistics and gradients; test_depthwise has every operation by itself."""
    x, found = random(4, 8, 8, 1, seed=3), []
    text = "normal: cat(sep3(h),conv1x3(h-1)) reduction: add(sep3(h),sep3(h))"
    for lowering in ("gemm", "xla"):
        network, structure, knobs = made(text, ONE, lowering=lowering, reductions=0)
        params = network.init(jax.random.key(1), structure, knobs)

        def loss(params, network=network, structure=structure, knobs=knobs):
            outputs, kept = network.train(params, structure, knobs, x, jax.random.key(0))
            return jnp.sum(outputs * jnp.arange(12.0).reshape(4, 3)), (outputs, kept)

        found.append(quick_jit(jax.value_and_grad(loss, has_aux=True))(params))
    largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(found))
    assert_close(*found, rtol=1e-3, atol=1e-5 * largest)


def test_repeated_cells_are_one_function():
    """Four cells a stage: the last two of each, stacked, give what they give one by one."""
    space, text = ONE, "normal: add(sep3(h),conv1(h-1)) reduction: add(max3(h),conv1(h-1))"
    x, found = random(4, 8, 8, 1), []
    network, structure, knobs = made(text, space, cells=4, scan=False)
    params = quick_jit(network.init, static_argnums=1)(jax.random.key(0), structure, knobs)
    stacked = dict(params, statistics=dict(params["statistics"]))
    for tree, stage in itertools.product((stacked, stacked["statistics"]), (1, 2)):
        last = [tree.pop(f"stage_{stage}_cell_{i}") for i in (3, 4)]
        tree[f"stage_{stage}_cells"] = jax.tree.map(lambda *leaves: jnp.stack(leaves), *last)
    for scan, given in ((False, params), (True, stacked)):
        network, structure, knobs = made(text, space, cells=4, scan=scan)
        expected = jax.eval_shape(lambda n=network, s=structure: n.init(jax.random.key(0), s, {}))
        assert jax.tree.map(jnp.shape, given) == jax.tree.map(jnp.shape, expected)
        outputs, kept = quick_jit(network.train, static_argnums=1)(
            given, structure, knobs, x, jax.random.key(1)
        )
        assert training.count_params(network, structure) == sum(
            leaf.size for name in params if name != "statistics" for leaf in jax.tree.leaves(params[name])
        )
        found.append((outputs, kept["reduction_1"]))
    assert_close(*found, rtol=1e-4, atol=1e-5)


def test_drop_path_grows_with_the_training():
    network, structure, knobs = made(drop_path=0.4)
    assert structure.drop_path
    assert knobs == {"drop_path": np.float32(0.4), "progress": np.float32(0)}
    kept = _kept(jax.random.key(0), structure, knobs, 5000)
    assert kept.shape == (3, 4, 5000)  # cells, paths, images
    assert (kept == 1).all()
    at_half = _kept(jax.random.key(0), structure, {**knobs, "progress": np.float32(0.5)}, 5000)
    np.testing.assert_allclose(np.unique(at_half), [0, 1 / 0.8], rtol=1e-6)
    np.testing.assert_allclose((at_half == 0).mean(-1), 0.2, atol=5 * np.sqrt(0.16 / 5000))
    assert not np.array_equal(at_half[0, 0], at_half[1, 0])
    # Of one block's two paths only the identity is never left out: dropping all else leaves h-1's.
    h = random(3, 4, 4, 4)
    blocks = (Block((0, 1), ("max3", "identity"), "add"),)
    through = quick_jit(lambda kept: _Cell(blocks, 4, 1, True, "gemm").apply({}, (h, 2 * h), kept)[0][0])
    np.testing.assert_array_equal(through(jnp.zeros((2, 3))), 2 * h)
    y = through(jnp.zeros((2, 3)).at[0, 1].set(2.0))
    assert (np.abs(y - 2 * h).max((1, 2, 3)) > 0).tolist() == [False, True, False]
    # Neither predictions nor a network without drop path have any of it.
    params = quick_jit(network.init, static_argnums=1)(jax.random.key(0), structure, knobs)
    plain, other, _ = made()
    assert_identical(
        network.apply(params, structure, knobs, random(2, 8, 8, 1), None),
        plain.apply(params, other, {}, random(2, 8, 8, 1), None),
    )


def test_the_trainer_tells_the_progress():
    """A network that adds up what it is told: 2 epochs of 4 steps, t / 8 at step t."""

    def train(params, structure, knobs, x, key):
        told = params["statistics"]["told"] + knobs["progress"]
        return x.reshape(x.shape[0], -1) @ params["w"], {"told": told}

    def apply(params, structure, knobs, x, key):
        return train(params, structure, knobs, x, key)[0]

    def init(key, structure, knobs):
        return {"w": jnp.zeros((16, 3)), "statistics": {"told": jnp.zeros(())}}

    network = Network(lambda arch: ((), {"progress": np.float32(0)}), init, apply, train=train)
    trainer = training.make(network, dataset(n=32, shape=(4, 4, 1)), epochs=2, batch_size=8)
    data = images(0, 32, (4, 4, 1), 3)
    orders = jnp.arange(32, dtype=jnp.int32).reshape(1, 4, 8).repeat(2, axis=0)
    knobs = {"network": {"progress": jnp.zeros(())}, **jax.tree.map(jnp.asarray, trainer.rates)}
    seen = tuple(map(jnp.asarray, data))
    fitted = trainer.fit((), jax.random.key(0), knobs, *seen, orders, seen)
    assert float(fitted.params["statistics"]["told"]) == sum(range(8)) / 8


def test_random_cells_take_a_training_step():
    x, labels = random(8, 6, 6, 1), jnp.arange(8) % 3
    for arch in random_archs(SPACE, 1, seed=1):
        network, structure, knobs = made(SPACE.describe(arch), shape=(6, 6, 1))

        @quick_jit
        def step(key, network=network, structure=structure, knobs=knobs):
            def loss(params):
                outputs, kept = network.train(params, structure, knobs, x, key)
                return optax.softmax_cross_entropy_with_integer_labels(outputs, labels).mean(), kept

            before = network.init(key, structure, knobs)
            (value, kept), gradients = jax.value_and_grad(loss, has_aux=True)(before)
            after = jax.tree.map(lambda p, g: p - 0.01 * g, before, gradients) | {"statistics": kept}
            return value, loss(after)[0]

        before, after = step(jax.random.key(0))
        assert np.isfinite(before), SPACE.describe(arch)
        assert after < before, SPACE.describe(arch)


@pytest.mark.slow
@pytest.mark.parametrize("blocks", [2, 5])
def test_many_random_cells_train(blocks):
    space, data = spaces.nasnet(blocks_per_cell=blocks), dataset(n=32, n_validation=16, shape=(9, 9, 3))
    network = networks.nasnet(space, (9, 9, 3), 3, cells=4, filters=4, drop_path=0.2)
    evaluator = evaluators.trained(network, data, batch_size=16, epochs=1, workers=1)  # 10 GB to compile
    keys = jax.random.split(jax.random.key(0), 10)
    _, measures = evaluator.evaluate(keys, evaluator.init(jax.random.key(1)), random_archs(space, 10))
    assert (measures["status"] == OK).all()
    assert np.isfinite(measures["loss"]).all()


@pytest.mark.slow
@pytest.mark.optimized
def test_a_child_is_the_same_alone_and_in_a_group():
    data = dataset(n=16, n_validation=8)
    arch = np.stack([ONE.parse("normal: add(sep3(h),identity(h)) reduction: add(max3(h),max3(h))")] * 2)
    keys, found = jax.random.split(jax.random.key(0)), []
    network = networks.nasnet(ONE, (8, 8, 1), 3, cells=1, filters=2, reductions=0, drop_path=0.3)
    for population, group_size in (("map", 1), ("map", 2), ("vmap", 2)):
        options = {"population": population, "group_size": group_size}
        evaluator = evaluators.trained(network, data, batch_size=8, epochs=1, optimizer="sgd", **options)
        _, measures = evaluator.evaluate(keys, evaluator.init(jax.random.key(1)), arch)
        assert (measures["status"] == OK).all()
        found.append(measures["loss"])
    assert_identical(found[0], found[1])
    np.testing.assert_allclose(found[0], found[2], rtol=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cells": 0}, "network.cells: got 0; it takes 1 or more"),
        ({"filters": 0}, "network.filters: got 0"),
        ({"reductions": -1}, "network.reductions: got -1; it takes 0 or more"),
        ({"drop_path": 1.0}, r"network.drop_path: got 1.0; it takes a rate in \[0, 1\)"),
        ({"lowering": "fast"}, "network.lowering"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(InputError, match=message):
        made(**options)
