"""The child network of space `blocks`: its size, its shapes, its training under both lowerings."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnas import training
from jaxnas.errors import InputError
from jaxnas.networks import blocks as network
from jaxnas.spaces import blocks as space
from jaxnas.spaces.layers import Conv, Pool
from jaxnas.training.task import MULTICLASS
from tests.helpers import assert_close

RLMEDNAS = {
    (16, 3): 34_667, (16, 5): 34_923, (32, 3): 69_323, (32, 5): 69_835,
    (64, 3): 138_635, (64, 5): 139_659, (128, 3): 277_259, (128, 5): 279_307,
}  # fmt: skip


@pytest.mark.parametrize(("filters", "kernel"), RLMEDNAS)
def test_the_sizes_of_rlmednas(filters, kernel):
    child = network(space(), (28, 28, 1), 11)
    structure, _ = child.plan(space().parse(f"C({filters},{kernel}) P(2,2) D(0.25) SM"))
    assert training.count_params(child, structure) == RLMEDNAS[filters, kernel]


def test_dropout_is_a_knob_and_the_rest_is_structure():
    child, two = network(space(num_blocks=2), (12, 12, 3), 5), space(num_blocks=2)
    structure, knobs = child.plan(np.array([0, 1, 2, 3, 0, 1]))
    other, other_knobs = child.plan(np.array([0, 1, 0, 3, 0, 0]))
    assert structure == other
    assert hash(structure) == hash(other)
    assert structure.layers == (Conv(16, 5), Pool(2, 2), Conv(128, 3), Pool(2, 2))
    np.testing.assert_allclose(knobs["dropout"], [0.5, 0.25])
    np.testing.assert_allclose(other_knobs["dropout"], [0.1, 0.1])
    assert two.num_steps == 6
    # 5·5·3·16 + 16, 3·3·16·128 + 128, 3·3·128·5 + 5
    assert training.count_params(child, structure) == 1216 + 18_560 + 5765


@pytest.mark.parametrize("shape", [(5, 5, 1), (9, 6, 3), (4, 7, 2)])
def test_odd_image_sizes(shape):
    tiny = {"filters": (4,), "kernel": (3,), "dropout": (0.5,)}
    child = network(space(num_blocks=2, **tiny), shape, 3)
    structure, knobs = child.plan(np.zeros(6, int))
    params = child.init(jax.random.key(0), structure, knobs)
    outputs = child.apply(params, structure, knobs, jnp.ones((2, *shape)), jax.random.key(1))
    assert outputs.shape == (2, 3)
    assert outputs.dtype == jnp.float32
    assert params["head"]["kernel"].shape == (shape[0] // 4 * (shape[1] // 4) * 4, 3)


def test_images_too_small_to_halve():
    two = space(num_blocks=2)
    network(two, (4, 4, 1), 2).plan(np.zeros(6, int))
    with pytest.raises(InputError, match="images of 3 × 4 cannot be halved 2 times"):
        network(two, (3, 4, 1), 2).plan(np.zeros(6, int))


def test_an_unknown_lowering():
    with pytest.raises(InputError, match=r"network\.lowering"):
        network(space(), (8, 8, 1), 2, lowering="conv")


def test_without_a_key_there_is_no_dropout():
    child = network(space(filters=(4,), kernel=(3,), dropout=(0.0, 0.5)), (6, 6, 1), 2)
    structure, half = child.plan([0, 0, 1])
    _, none = child.plan([0, 0, 0])
    params = child.init(jax.random.key(0), structure, {})
    x = jax.random.normal(jax.random.key(1), (3, 6, 6, 1))
    plain = child.apply(params, structure, half, x, None)
    np.testing.assert_array_equal(plain, child.apply(params, structure, none, x, None))
    np.testing.assert_allclose(plain, child.apply(params, structure, none, x, jax.random.key(2)), rtol=1e-5)
    assert not np.allclose(plain, child.apply(params, structure, half, x, jax.random.key(2)))


def test_initial_weights_follow_the_key():
    child = network(space(), (8, 8, 1), 2)
    structure, _ = child.plan([0, 0, 0])
    a, b = (child.init(jax.random.key(seed), structure, {}) for seed in (0, 1))
    for (path, x), y in zip(jax.tree.leaves_with_path(a), jax.tree.leaves(b), strict=True):
        assert not np.array_equal(x, y), path
    assert np.abs(a["conv_1"]["kernel"]).max() <= 1 / 3  # 1/√(3·3·1)


def test_both_lowerings_train_alike():
    """The same parameters, images and dropout: equal to rounding over 20 steps, gradients too."""
    spaces = space(num_blocks=2, filters=(4, 6), kernel=(3, 5), dropout=(0.25,))
    images = jax.random.normal(jax.random.key(0), (20, 8, 9, 9, 2))
    labels = jax.random.randint(jax.random.key(1), (20, 8), 0, 3)
    trained, gradients = {}, {}
    for lowering in ("gemm", "xla"):
        child = network(spaces, (9, 9, 2), 3, lowering=lowering)
        structure, knobs = child.plan([0, 1, 0, 1, 0, 0])
        params = child.init(jax.random.key(2), structure, knobs)
        # Momentum: Adam would turn rounding into whole steps.
        tx = optax.sgd(0.05, momentum=0.9)

        def loss(params, x, y, key, child=child, structure=structure, knobs=knobs):
            return MULTICLASS.loss(child.apply(params, structure, knobs, x, key), y, None)

        @jax.jit
        def train(params, loss=loss, tx=tx):
            def step(carry, batch):
                params, state = carry
                x, y, i = batch
                value, gradient = jax.value_and_grad(loss)(
                    params, x, y, jax.random.fold_in(jax.random.key(3), i)
                )
                updates, state = tx.update(gradient, state, params)
                return (optax.apply_updates(params, updates), state), (value, gradient)

            return jax.lax.scan(step, (params, tx.init(params)), (images, labels, jnp.arange(20)))

        (trained[lowering], _), gradients[lowering] = train(params)
    assert_close(trained["gemm"], trained["xla"], rtol=1e-3, atol=1e-5)
    assert_close(gradients["gemm"], gradients["xla"], rtol=1e-3, atol=2e-5)
    losses = np.asarray(gradients["gemm"][0])
    assert losses.shape == (20,)
    assert np.isfinite(losses).all()
