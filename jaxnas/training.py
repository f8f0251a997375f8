"""The training of one child network as pure functions, to be mapped over a population.

Nothing here knows of architectures, groups or devices. Shapes: N images, S steps of a batch, O outputs.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnas import tasks
from jaxnas.errors import InputError
from jaxnas.types import Network, PyTree


class Carry(NamedTuple):
    """A child in training."""

    params: PyTree
    optimizer: PyTree
    step: jax.Array  # int32 []
    finite: jax.Array  # bool [] no loss so far was NaN or infinite


class Trainer(NamedTuple):
    """Functions of one child. `knobs` holds the network's, `learning_rate` and `weight_decay`."""

    begin: Callable  # (structure, key, knobs) → Carry
    advance: Callable  # (structure, key, knobs, Carry, images, labels, order int32 [S, batch]) → Carry
    predict: Callable  # (structure, knobs, params, images uint8 [N,H,W,C]) → outputs float32 [N, O]
    fit: Callable  # (structure, key, knobs, images, labels, order, seen) → (params, outputs on seen, finite)


def make(
    network: Network,
    task: str,
    class_weights: np.ndarray | None,
    *,
    optimizer: str = "adam",
    batch_size: int = 128,
    mean: float = 0.5,
    std: float = 0.5,
) -> Trainer:
    """The trainer of a network for a task.

    Raises:
      InputError: an optimizer that optax lacks, or a standard deviation of zero.
    """
    if std <= 0:
        raise InputError(f"trainer.std: got {std}; it takes a positive number")
    make_optimizer = _optimizer(optimizer)
    weights = None if class_weights is None else jnp.asarray(class_weights)

    def normalize(images: jax.Array) -> jax.Array:
        return (images.astype(jnp.float32) / 255 - mean) / std

    def begin(structure: Any, key: jax.Array, knobs: PyTree) -> Carry:
        params = network.init(jax.random.fold_in(key, 0), structure)
        state = make_optimizer(knobs).init(params)
        return Carry(params, state, jnp.zeros((), jnp.int32), jnp.ones((), bool))

    def advance(
        structure: Any,
        key: jax.Array,
        knobs: PyTree,
        carry: Carry,
        images: Any,
        labels: Any,
        order: jax.Array,
    ) -> Carry:
        key_dropout = jax.random.fold_in(key, 1)
        tx = make_optimizer(knobs)

        def train_step(carry: Carry, rows: jax.Array) -> tuple[Carry, None]:
            key_step = jax.random.fold_in(key_dropout, carry.step)
            x, y = normalize(images[rows]), labels[rows]

            def loss(params: PyTree) -> jax.Array:
                outputs = network.apply(params, structure, knobs["network"], x, key_step)
                return tasks.loss(task, outputs, y, weights)

            value, gradient = jax.value_and_grad(loss)(carry.params)
            with jax.numpy_dtype_promotion("standard"):  # optax raises a float to an integer power
                updates, state = tx.update(gradient, carry.optimizer, carry.params)
            params = optax.apply_updates(carry.params, updates)
            return Carry(params, state, carry.step + 1, carry.finite & jnp.isfinite(value)), None

        return jax.lax.scan(train_step, carry, order)[0]

    def predict(structure: Any, knobs: PyTree, params: PyTree, images: jax.Array) -> jax.Array:
        n = images.shape[0]
        size = min(batch_size, n)
        rows = jnp.minimum(jnp.arange(-(-n // size) * size), n - 1).reshape(-1, size)
        outputs = jax.lax.map(
            lambda at: network.apply(params, structure, knobs["network"], normalize(images[at]), None), rows
        )
        return outputs.reshape(rows.size, -1)[:n]

    def fit(
        structure: Any, key: jax.Array, knobs: PyTree, images: Any, labels: Any, order: Any, seen: Any
    ) -> tuple:
        carry = advance(structure, key, knobs, begin(structure, key, knobs), images, labels, order)
        return carry.params, predict(structure, knobs, carry.params, seen), carry.finite

    return Trainer(begin, advance, predict, fit)


@functools.lru_cache(maxsize=4096)
def count_params(network: Network, structure: Any) -> int:
    """How many trainable parameters a structure has, from shapes alone."""
    shapes = jax.eval_shape(lambda key: network.init(key, structure), jax.random.key(0))
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(shapes))


def _optimizer(name: str) -> Callable[[PyTree], optax.GradientTransformation]:
    """knobs → the optimizer of that name in optax, its rates being arrays."""
    factory: Any = getattr(optax, name, None)
    parameters = inspect.signature(factory).parameters if inspect.isfunction(factory) else {}
    if "learning_rate" not in parameters:
        raise InputError(
            f"trainer.optimizer: optax has no optimizer {name!r}; it takes adam, adamw, sgd, lion, …"
        )

    def make_one(knobs: PyTree) -> optax.GradientTransformation:
        if "weight_decay" in parameters:
            return factory(learning_rate=knobs["learning_rate"], weight_decay=knobs["weight_decay"])
        decay = optax.add_decayed_weights(knobs["weight_decay"])
        return optax.chain(decay, factory(learning_rate=knobs["learning_rate"]))

    return make_one
