"""The training of one child as pure functions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas import networks, training
from jaxnas.errors import InputError
from jaxnas.spaces import blocks
from tests.helpers import assert_close, assert_identical, dataset, differs

SPACE = blocks(filters=(4,), kernel=(3,), dropout=(0.25,))
NETWORK = networks.blocks(SPACE, (6, 6, 1), 3)
DATA = dataset(n=32, n_validation=10, shape=(6, 6, 1))
STRUCTURE, PLANNED = NETWORK.plan([0, 0, 0])
KEY = jax.random.key(0)
ORDER = jnp.asarray(np.random.default_rng(0).permutation(32).reshape(4, 8).astype(np.int32))


def knobs(learning_rate=0.05, weight_decay=0.0):
    rates = {"learning_rate": jnp.float32(learning_rate), "weight_decay": jnp.float32(weight_decay)}
    return {"network": PLANNED, **rates}


def fit(trainer, knobs, order=ORDER):
    images, labels, seen = map(jnp.asarray, (*DATA.train, DATA.validation.images))
    return jax.jit(trainer.fit, static_argnums=0)(STRUCTURE, KEY, knobs, images, labels, order, seen)


def test_fit_is_begin_advance_predict():
    trainer = training.make(NETWORK, "multiclass", None, optimizer="sgd", batch_size=8)
    params, outputs, finite = fit(trainer, knobs())
    images, labels, seen = map(jnp.asarray, (*DATA.train, DATA.validation.images))
    begin = jax.jit(trainer.begin, static_argnums=0)
    advance = jax.jit(trainer.advance, static_argnums=0)
    carry = begin(STRUCTURE, KEY, knobs())
    assert_identical(carry.params, NETWORK.init(jax.random.fold_in(KEY, 0), STRUCTURE))
    for rows in (ORDER[:1], ORDER[1:2], ORDER[2:3], ORDER[3:]):
        carry = advance(STRUCTURE, KEY, knobs(), carry, images, labels, rows)
    assert int(carry.step) == 4
    assert bool(carry.finite) == bool(finite) is True
    assert_close(carry.params, params, rtol=1e-5, atol=1e-6)
    predicted = jax.jit(trainer.predict, static_argnums=0)(STRUCTURE, knobs(), carry.params, seen)
    assert outputs.shape == predicted.shape == (10, 3)
    np.testing.assert_allclose(outputs, predicted, rtol=1e-4, atol=1e-5)
    assert advance._cache_size() == 1


@pytest.mark.parametrize("n", [1, 7, 8, 9, 10])
def test_predictions_of_any_number_of_images(n):
    trainer = training.make(NETWORK, "multiclass", None, batch_size=4, mean=0.2, std=2.0)
    params = NETWORK.init(KEY, STRUCTURE)
    outputs = trainer.predict(STRUCTURE, knobs(), params, jnp.asarray(DATA.validation.images[:n]))
    x = (DATA.validation.images[:n].astype(np.float32) / 255 - 0.2) / 2.0
    np.testing.assert_allclose(
        outputs, NETWORK.apply(params, STRUCTURE, PLANNED, jnp.asarray(x), None), rtol=1e-4, atol=1e-5
    )


def test_the_order_of_the_images_matters():
    trainer = training.make(NETWORK, "multiclass", None, optimizer="sgd", batch_size=8)
    assert differs(fit(trainer, knobs())[0], fit(trainer, knobs(), ORDER[::-1])[0])


def test_rates_are_knobs():
    """Other rates run in the same program, and weight decay shrinks the weights."""
    trainer = training.make(NETWORK, "multiclass", None, optimizer="adamw", batch_size=8)
    train = jax.jit(lambda knobs: fit(trainer, knobs)[0])
    still, plain, decayed = (train(knobs(*rates)) for rates in ((0.0, 0.0), (0.05, 0.0), (0.05, 5.0)))
    assert train._cache_size() == 1
    assert_identical(still, NETWORK.init(jax.random.fold_in(KEY, 0), STRUCTURE))
    norms = [sum(float(jnp.sum(x**2)) for x in jax.tree.leaves(p)) for p in (plain, decayed)]
    assert norms[1] < norms[0]


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "lion", "rmsprop", "adagrad"])
def test_optimizers_of_optax(optimizer):
    trainer = training.make(NETWORK, "multiclass", None, optimizer=optimizer, batch_size=8)
    carry = trainer.begin(STRUCTURE, KEY, knobs(0.01, 1e-4))
    assert jax.tree.structure(carry.params) == jax.tree.structure(NETWORK.init(KEY, STRUCTURE))
    images, labels, seen = map(jnp.asarray, (*DATA.train, DATA.validation.images))
    params, *_ = jax.eval_shape(
        lambda k: trainer.fit(STRUCTURE, KEY, k, images, labels, ORDER, seen), knobs()
    )
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, carry.params)


@pytest.mark.parametrize("name", ["adm", "chain", "__doc__", "GradientTransformation", "clip"])
def test_what_is_no_optimizer(name):
    with pytest.raises(
        InputError, match=f"trainer.optimizer: optax has no optimizer '{name}'; it takes adam"
    ):
        training.make(NETWORK, "multiclass", None, optimizer=name)


def test_a_loss_that_is_not_finite_is_seen():
    trainer = training.make(NETWORK, "multiclass", None, optimizer="sgd", batch_size=8)
    assert not bool(fit(trainer, knobs(1e30))[2])


def test_bad_standard_deviation():
    with pytest.raises(InputError, match=r"trainer\.std: got 0"):
        training.make(NETWORK, "multiclass", None, std=0)
