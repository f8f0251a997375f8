"""How networks are trained, as `trainer.make` puts it together, and what that makes of one: weights, outputs.

Shapes: N inputs, O outputs.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from jaxnas.types import Network, PyTree, Task


class Recipe(NamedTuple):
    """How a network is trained on a data set; `trainer.make` explains the options."""

    network: Network
    task: Task
    prepare: Callable[[jax.Array], jax.Array]
    augment: Callable[[jax.Array, jax.Array, PyTree], jax.Array] | None  # (key, stored inputs, knobs)
    class_weights: jax.Array | None  # float32 [classes]
    label_smoothing: float
    mixup: jax.Array | None  # float32 [Q], equally likely shares of an input
    axis: str | None  # name of the vmapped population axis, None where children run alone
    optimizer: Callable[[jax.Array, jax.Array], optax.GradientTransformation]  # (rate [], weight decay [])
    factor: Callable[[jax.Array], Any]  # step [] → of the learning rate
    epochs: int
    batch_size: int
    steps: int  # S
    patience: int
    keeps_best: bool  # the weights of the best epoch, not those of the last
    best_of: int
    restarts: int
    restart_factor: float
    chance: float
    bfloat16: bool  # activations and gradients; the weights are float32 always

    @property
    def scores_epochs(self) -> bool:
        """Whether anything depends on the validation score of an epoch before the last."""
        return bool(self.patience or self.best_of or self.restarts or self.keeps_best)


def draw(
    recipe: Recipe, structure: Any, key: jax.Array, knobs: PyTree, restarts: jax.Array
) -> tuple[PyTree, PyTree]:
    """New weights, and the optimizer's state for them."""
    key_weights = jax.random.fold_in(jax.random.fold_in(key, restarts), 0)
    params = recipe.network.init(key_weights, structure, knobs["network"])
    with jax.numpy_dtype_promotion("standard"):
        return params, recipe.optimizer(knobs["learning_rate"], knobs["weight_decay"]).init(params)


def apply(
    recipe: Recipe, structure: Any, knobs: PyTree, params: PyTree, inputs: jax.Array, key: jax.Array | None
) -> tuple[jax.Array, PyTree]:
    """Outputs float32 [N, O], and with a key, as in training, the statistics that a network may collect."""
    network, x = recipe.network, recipe.prepare(inputs)
    if recipe.bfloat16:
        exact = {"statistics": params["statistics"]} if network.train else {}
        x, params = jax.tree.map(_to_bfloat16, (x, params))
        params = {**params, **exact} if exact else params
    statistics = None
    if network.train is None or key is None:
        outputs = network.apply(params, structure, knobs["network"], x, key)
    else:
        outputs, statistics = network.train(params, structure, knobs["network"], x, key)
    chex.assert_rank(outputs, 2)
    return outputs.astype(jnp.float32), statistics


def predict(recipe: Recipe, structure: Any, knobs: PyTree, params: PyTree, inputs: jax.Array) -> jax.Array:
    """Outputs float32 [N, O], a batch after the other."""
    N = inputs.shape[0]
    size = min(recipe.batch_size, N)
    rows = jnp.minimum(jnp.arange(-(-N // size) * size), N - 1).reshape(-1, size)
    outputs = jax.lax.map(lambda row: forward(recipe, structure, knobs, params, inputs[row]), rows)
    return outputs.reshape(rows.size, -1)[:N]


def forward(recipe: Recipe, structure: Any, knobs: PyTree, params: PyTree, inputs: jax.Array) -> jax.Array:
    """Outputs float32 [N, O], of all inputs at once."""
    return apply(recipe, structure, knobs, params, inputs, None)[0]


def _to_bfloat16(x: jax.Array) -> jax.Array:
    return x.astype(jnp.bfloat16) if jnp.issubdtype(x.dtype, jnp.floating) else x
