"""The training of one child network as pure functions, to be mapped over a population.

The recipe comes first, which is fixed when a program is compiled. Nothing here knows of architectures, groups
or devices. Shapes: N inputs, S steps of a batch an epoch, E epochs, O outputs.
"""

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from jaxnas.training import images
from jaxnas.training.recipe import Recipe, apply, draw, predict
from jaxnas.types import PyTree

Seen = tuple[jax.Array, jax.Array]  # validation inputs and labels


class Carry(NamedTuple):
    """A child in training. `best` is None unless the recipe keeps the weights of the best epoch."""

    params: PyTree  # drawn at step 0
    optimizer: PyTree
    step: jax.Array  # int32 [] steps since the weights were drawn
    epoch: jax.Array  # int32 [] epochs since the weights were drawn
    epochs: jax.Array  # int32 [] epochs in all, those before a restart included
    restarts: jax.Array  # int32 []
    finite: jax.Array  # bool [] no loss so far was NaN or infinite
    stopped: jax.Array  # bool [] patience is at its end
    best: PyTree
    best_score: jax.Array  # float32 [] of the validation split, −inf before the first epoch's end
    best_epoch: jax.Array  # int32 []
    recent: jax.Array  # float32 [best_of] scores of the last epochs
    outputs: PyTree  # float32 [N, O] of the weights to keep, NaN before there are any; None: made in the end


class Fitted(NamedTuple):
    """A child that was trained."""

    params: PyTree
    outputs: jax.Array  # float32 [N, O] on the validation inputs
    finite: jax.Array  # bool []
    epochs: jax.Array  # int32 []
    best_of: jax.Array  # float32 [] the best score of the last epochs, −inf if not asked for


def fit(
    recipe: Recipe,
    structure: Any,
    key: jax.Array,
    knobs: PyTree,
    inputs: jax.Array,
    labels: jax.Array,
    orders: jax.Array,
    seen: Seen,
) -> Fitted:
    """A whole training; as `run`, from its beginning to its end."""
    carry = begin(recipe, structure, key, knobs, seen)
    carry = run(recipe, structure, key, knobs, carry, inputs, labels, orders, seen)
    return finish(recipe, structure, key, knobs, carry, seen)


def begin(recipe: Recipe, structure: Any, key: jax.Array, knobs: PyTree, seen: Seen) -> Carry:
    """A child before its first step, whose weights are zeros until then."""
    zero = jnp.zeros((), jnp.int32)
    drawn = jax.eval_shape(lambda: draw(recipe, structure, key, knobs, zero))
    outputs = jax.eval_shape(lambda params: predict(recipe, structure, knobs, params, seen[0]), drawn[0])
    params, optimizer = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), drawn)
    return Carry(
        params=params,
        optimizer=optimizer,
        step=zero,
        epoch=zero,
        epochs=zero,
        restarts=zero,
        finite=jnp.ones((), bool),
        stopped=jnp.zeros((), bool),
        best=params if recipe.keeps_best else None,
        best_score=jnp.full((), -jnp.inf, jnp.float32),
        best_epoch=zero,
        recent=jnp.full((recipe.best_of,), -jnp.inf, jnp.float32),
        outputs=jnp.full(outputs.shape, jnp.nan, outputs.dtype) if recipe.scores_epochs else None,
    )


def run(
    recipe: Recipe,
    structure: Any,
    key: jax.Array,
    knobs: PyTree,
    carry: Carry,
    inputs: jax.Array,
    labels: jax.Array,
    orders: jax.Array,  # int32 [E, S, batch], rows of the inputs
    seen: Seen,
) -> Carry:
    """Epochs, until the child has ended."""

    def is_going(state: tuple[jax.Array, Carry]) -> jax.Array:
        return (state[0] < len(orders)) & _any(recipe, live(recipe, state[1]))

    def epoch(state: tuple[jax.Array, Carry]) -> tuple[jax.Array, Carry]:
        i, carry = state
        carry = advance(recipe, structure, key, knobs, carry, inputs, labels, orders[i])
        return i + 1, close(recipe, structure, key, knobs, carry, seen)

    return jax.lax.while_loop(is_going, epoch, (jnp.zeros((), jnp.int32), carry))[1]


def advance(
    recipe: Recipe,
    structure: Any,
    key: jax.Array,
    knobs: PyTree,
    carry: Carry,
    inputs: jax.Array,
    labels: jax.Array,
    order: jax.Array,  # int32 [S, batch], rows of the inputs
) -> Carry:
    """Steps within an epoch, until the child has ended."""
    chex.assert_shape(order, (None, recipe.batch_size))
    chex.assert_equal_shape_prefix([inputs, labels], 1)
    # Weights are drawn here and nowhere else, for a draw is a good part of a program.
    params, optimizer = jax.lax.cond(
        carry.step == 0,
        lambda: draw(recipe, structure, key, knobs, carry.restarts),
        lambda: (carry.params, carry.optimizer),
    )
    carry = carry._replace(params=params, optimizer=optimizer)
    key = jax.random.fold_in(key, carry.restarts)

    def is_going(state: tuple[jax.Array, Carry]) -> jax.Array:
        return (state[0] < len(order)) & _any(recipe, live(recipe, state[1]))

    def step(state: tuple[jax.Array, Carry]) -> tuple[jax.Array, Carry]:
        i, carry = state
        return i + 1, _step(recipe, structure, key, knobs, carry, inputs, labels, order[i])

    _, after = jax.lax.while_loop(is_going, step, (jnp.zeros((), jnp.int32), carry))
    # Alone, a child that has ended takes no step; in a vectorized group it is frozen here.
    return after if recipe.axis is None else _where(live(recipe, carry), after, carry)


def close(recipe: Recipe, structure: Any, key: jax.Array, knobs: PyTree, carry: Carry, seen: Seen) -> Carry:
    """The end of an epoch: its score, and whether the child stops or begins anew."""
    after = carry._replace(epoch=carry.epoch + 1, epochs=carry.epochs + 1)
    if recipe.scores_epochs:
        outputs = predict(recipe, structure, knobs, carry.params, seen[0])
        score = recipe.task.score(outputs, seen[1])
        is_better = score > carry.best_score
        best_epoch = jnp.where(is_better, after.epoch, carry.best_epoch)
        after = after._replace(
            best=_where(is_better, carry.params, carry.best) if recipe.keeps_best else None,
            best_score=jnp.maximum(score, carry.best_score),
            best_epoch=best_epoch,
            recent=jnp.concatenate([carry.recent, score[None]])[1:] if recipe.best_of else carry.recent,
            stopped=after.epoch - best_epoch >= recipe.patience if recipe.patience else carry.stopped,
            outputs=_where(is_better, outputs, carry.outputs) if recipe.keeps_best else outputs,
        )
        if recipe.restarts:
            at_chance = (after.epoch == 1) & (score <= recipe.chance + 1e-6)
            draws_again = at_chance & (carry.restarts < recipe.restarts)
            fresh = begin(recipe, structure, key, knobs, seen)
            fresh = fresh._replace(epochs=after.epochs, restarts=carry.restarts + 1)
            after = _where(draws_again, fresh, after)
    return _where(live(recipe, carry), after, carry)


def finish(recipe: Recipe, structure: Any, key: jax.Array, knobs: PyTree, carry: Carry, seen: Seen) -> Fitted:
    """The weights to keep, and what they say of the validation inputs."""
    del key
    params = carry.best if recipe.keeps_best else carry.params
    best_of_last = jnp.max(carry.recent, initial=-jnp.inf)
    outputs = carry.outputs if recipe.scores_epochs else predict(recipe, structure, knobs, params, seen[0])
    return Fitted(params, outputs, carry.finite, carry.epochs, best_of_last)


def loss_of(
    recipe: Recipe, outputs: jax.Array, labels: jax.Array, share: jax.Array | None
) -> jax.Array:  # → float32 []
    """The task's loss; of mixed inputs, by their shares, that of both labels."""
    smoothing = (recipe.label_smoothing,) if recipe.label_smoothing else ()
    loss = recipe.task.loss(outputs, labels, recipe.class_weights, *smoothing)
    if share is None:
        return loss
    before = jnp.roll(labels, 1, axis=0)
    return share * loss + (1 - share) * recipe.task.loss(outputs, before, recipe.class_weights, *smoothing)


def live(recipe: Recipe, carry: Carry) -> jax.Array:  # → bool []
    """Whether a child has not ended."""
    return carry.finite & ~carry.stopped & (carry.epoch < recipe.epochs)


def _step(
    recipe: Recipe,
    structure: Any,
    key: jax.Array,
    knobs: PyTree,
    carry: Carry,
    inputs: jax.Array,
    labels: jax.Array,
    rows: jax.Array,  # int32 [batch]
) -> Carry:
    """A step on a batch."""
    key_step = jax.random.fold_in(jax.random.fold_in(key, 1), carry.step)
    inputs, labels = inputs[rows], labels[rows]
    if recipe.augment is not None:
        inputs = recipe.augment(jax.random.fold_in(jax.random.fold_in(key, 2), carry.step), inputs, knobs)
    share = None
    if recipe.mixup is not None:
        key_mix = jax.random.fold_in(jax.random.fold_in(key, 3), carry.step)
        inputs, share = images.mixed(key_mix, inputs, recipe.mixup)

    knobs_now = _with_progress(recipe, knobs, carry.step)

    def loss(params: PyTree) -> tuple[jax.Array, PyTree]:
        outputs, statistics = apply(recipe, structure, knobs_now, params, inputs, key_step)
        return loss_of(recipe, outputs, labels, share), statistics

    (value, statistics), gradient = jax.value_and_grad(loss, has_aux=True)(carry.params)
    with jax.numpy_dtype_promotion("standard"):  # optax raises a float to an integer power
        rate = knobs["learning_rate"] * recipe.factor(carry.step)
        if recipe.restarts:
            rate = rate * jnp.float32(recipe.restart_factor) ** carry.restarts
        optimizer = recipe.optimizer(rate, knobs["weight_decay"])
        updates, state = optimizer.update(gradient, carry.optimizer, carry.params)
    params: Any = optax.apply_updates(carry.params, updates)
    if statistics is not None:
        params = {**params, "statistics": statistics}
    step, finite = carry.step + 1, carry.finite & jnp.isfinite(value)
    return carry._replace(params=params, optimizer=state, step=step, finite=finite)


def _with_progress(recipe: Recipe, knobs: PyTree, step: jax.Array) -> PyTree:
    """The knobs at a step: a network whose knobs have `progress` is told how far its training is."""
    of_network = knobs["network"]
    if not (isinstance(of_network, dict) and "progress" in of_network):
        return knobs
    progress = step.astype(jnp.float32) / (recipe.epochs * recipe.steps)
    return {**knobs, "network": {**of_network, "progress": progress}}


def _any(recipe: Recipe, flag: jax.Array) -> jax.Array:
    """Whether it holds for any child of the program: a loop of all ends when it does for none."""
    return flag if recipe.axis is None else jax.lax.pmax(flag.astype(jnp.int32), recipe.axis) > 0


def _where(condition: jax.Array, a: PyTree, b: PyTree) -> PyTree:
    return jax.tree.map(lambda x, y: jnp.where(condition, x, y), a, b)
