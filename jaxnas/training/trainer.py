"""The training of one child network as pure functions, to be mapped over a population.

Nothing here knows of architectures, groups or devices. Shapes: N images, S steps of a batch an epoch,
E epochs, O outputs.
"""

import inspect
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnas.errors import InputError
from jaxnas.training import images
from jaxnas.types import Dataset, Network, PyTree

RATES = ("learning_rate", "weight_decay")  # knobs, which share a program; all other options are structure


class Carry(NamedTuple):
    """A child in training. `best` is None unless the recipe wants the weights of the best epoch."""

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
    outputs: jax.Array  # float32 [N, O] on the validation images
    finite: jax.Array  # bool []
    epochs: jax.Array  # int32 []
    best_of: jax.Array  # float32 [] the best score of the last epochs, −inf if not asked for


class Trainer(NamedTuple):
    """Functions of one child. `knobs` holds the network's, `learning_rate` and `weight_decay`.

    Training can be cut anywhere: between epochs by calls of `run`, within one by calls of `advance`. A
    child that has ended (patience, a loss that is not finite, all its epochs) stays as it is.
    """

    begin: Callable  # (structure, key, knobs, seen) → Carry; seen: validation (images, labels)
    advance: Callable  # (structure, key, knobs, Carry, images, labels, order int32 [S, batch]) → Carry
    close: Callable  # (structure, key, knobs, Carry, seen) → Carry: the end of an epoch
    run: Callable  # (structure, key, knobs, Carry, images, labels, orders int32 [E, S, batch], seen) → Carry
    finish: Callable  # (structure, key, knobs, Carry, seen) → Fitted
    fit: Callable  # (structure, key, knobs, images, labels, orders, seen) → Fitted: all of it
    live: Callable  # Carry → bool []: it has not ended
    predict: Callable  # (structure, knobs, params, images uint8 [N,H,W,C]) → outputs float32 [N, O]
    forward: Callable  # the same, all images at once
    rates: dict[str, Any]  # the knobs that are not the network's
    batch_size: int
    steps: int  # S; the rest of a shuffle that does not fill a batch is left out
    passes: int  # epochs a child trains at most, restarts included


def make(
    network: Network,
    dataset: Dataset,
    axis: str | None = None,
    *,
    epochs: int = 5,
    batch_size: int = 128,
    optimizer: str = "adam",
    learning_rate: float = 1e-3,
    weight_decay: float = 0.0,
    momentum: float | None = None,
    nesterov: bool = False,
    schedule: Literal["constant", "cosine", "step"] = "constant",
    decay_rate: float = 0.2,
    decay_epochs: int = 5,
    patience: int = 0,
    weights: Literal["last", "best"] = "last",
    best_of: int = 0,
    restarts: int = 0,
    restart_factor: float = 0.4,
    chance: float | None = None,
    crop: int = 0,
    flip: bool = False,
    mean: float = 0.5,
    std: float = 0.5,
    precision: Literal["float32", "bfloat16"] = "float32",
) -> Trainer:
    """The trainer of a network on a data set, of which it takes what the functions below are not given.

    Args:
      epochs: passes over the training images, each in another order.
      batch_size: images a training step.
      optimizer: the name of an optimizer in optax.
      learning_rate: its learning rate at the start.
      weight_decay: decoupled where the optimizer has it (adamw), otherwise L2 in the gradient.
      momentum: of sgd, or Adam's β₁; none is optax's default.
      nesterov: Nesterov's form of the momentum.
      schedule: of the learning rate: constant; cosine, to 0 at the last step; step, times decay_rate after
        every decay_epochs.
      decay_rate: factor of schedule step.
      decay_epochs: epochs between two factors.
      patience: end after so many epochs without a better validation score (accuracy; −MSE of a regression);
        0 never does.
      weights: which weights are kept and measured: those of the last or of the best epoch.
      best_of: also measure the best validation accuracy of so many last epochs; 0 does not.
      restarts: how often to draw new weights and lower the rate while the first epoch ends at chance.
      restart_factor: of the learning rate at each restart.
      chance: the accuracy up to which a first epoch counts as chance; none is that of the best constant.
      crop: pixels of zero padding for a random crop of the training images.
      flip: mirror training images at random.
      mean: subtracted from pixels in 0–1.
      std: divides them then.
      precision: of activations and gradients; the weights are float32 always.

    Raises:
      InputError: a value out of its range, or an optimizer that optax lacks.
    """
    task = dataset.task
    _check(locals())
    dataset = images.with_functions(dataset, crop, flip, mean, std)
    prepare, augment = dataset.prepare, dataset.augment
    assert prepare is not None
    batch_size = min(batch_size, len(dataset.train.inputs))
    steps = len(dataset.train.inputs) // batch_size
    make_optimizer = _optimizer(optimizer, momentum, nesterov)
    loss_weights = None if dataset.class_weights is None else jnp.asarray(dataset.class_weights)
    if chance is None:
        chance = 0.0 if task.constant is None else task.constant(dataset.validation.labels)
    watched = bool(patience or best_of or restarts or weights == "best")
    factor = {
        "constant": optax.constant_schedule(1.0),
        "cosine": optax.cosine_decay_schedule(1.0, epochs * steps),
        "step": optax.exponential_decay(1.0, decay_epochs * steps, decay_rate, staircase=True),
    }[schedule]

    def some(flag: jax.Array) -> jax.Array:
        """Whether it holds for any child of the program: a loop of all ends when it does for none."""
        return flag if axis is None else jax.lax.pmax(flag.astype(jnp.int32), axis) > 0

    def live(carry: Carry) -> jax.Array:
        return carry.finite & ~carry.stopped & (carry.epoch < epochs)

    def apply(
        params: PyTree, structure: Any, knobs: PyTree, inputs: jax.Array, key: Any
    ) -> tuple[jax.Array, PyTree]:  # → outputs; with a key, the statistics that the network collects, or None
        x = prepare(inputs)
        if precision == "bfloat16":
            exact = {"statistics": params["statistics"]} if network.train else {}
            x, params = jax.tree.map(_to_bfloat16, (x, params))
            params = {**params, **exact} if exact else params
        if network.train is None or key is None:
            return network.apply(params, structure, knobs["network"], x, key).astype(jnp.float32), None
        outputs, kept = network.train(params, structure, knobs["network"], x, key)
        return outputs.astype(jnp.float32), kept

    def timed(knobs: PyTree, step: jax.Array) -> PyTree:
        """The knobs at a step: a network whose knobs have `progress` is told how far its training is."""
        own = knobs["network"]
        if not (isinstance(own, dict) and "progress" in own):
            return knobs
        return {**knobs, "network": {**own, "progress": step.astype(jnp.float32) / (epochs * steps)}}

    def draw(structure: Any, key: jax.Array, knobs: PyTree, restarts: Any) -> tuple[PyTree, PyTree]:
        params = network.init(
            jax.random.fold_in(jax.random.fold_in(key, restarts), 0), structure, knobs["network"]
        )
        with jax.numpy_dtype_promotion("standard"):
            return params, make_optimizer(knobs["learning_rate"], knobs["weight_decay"]).init(params)

    def begin(structure: Any, key: jax.Array, knobs: PyTree, seen: tuple) -> Carry:
        zero = jnp.zeros((), jnp.int32)
        drawn = jax.eval_shape(lambda: draw(structure, key, knobs, zero))
        outputs = jax.eval_shape(lambda params: predict(structure, knobs, params, seen[0]), drawn[0])
        params, state = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), drawn)
        return Carry(
            params=params,
            optimizer=state,
            step=zero,
            epoch=zero,
            epochs=zero,
            restarts=zero,
            finite=jnp.ones((), bool),
            stopped=jnp.zeros((), bool),
            best=params if weights == "best" else None,
            best_score=jnp.full((), -jnp.inf, jnp.float32),
            best_epoch=zero,
            recent=jnp.full((best_of,), -jnp.inf, jnp.float32),
            outputs=jnp.full(outputs.shape, jnp.nan, outputs.dtype) if watched else None,
        )

    def advance(
        structure: Any, key: jax.Array, knobs: PyTree, carry: Carry, inputs: Any, labels: Any, order: Any
    ) -> Carry:
        # Weights are drawn here and nowhere else, for a draw is a good part of a program.
        params, state = jax.lax.cond(
            carry.step == 0,
            lambda: draw(structure, key, knobs, carry.restarts),
            lambda: (carry.params, carry.optimizer),
        )
        carry = carry._replace(params=params, optimizer=state)
        key = jax.random.fold_in(key, carry.restarts)

        def train_step(carry: Carry, rows: jax.Array) -> Carry:
            key_step = jax.random.fold_in(jax.random.fold_in(key, 1), carry.step)
            x, y = inputs[rows], labels[rows]
            if augment is not None:
                x = augment(jax.random.fold_in(jax.random.fold_in(key, 2), carry.step), x)

            def loss(params: PyTree) -> tuple[jax.Array, PyTree]:
                outputs, kept = apply(params, structure, timed(knobs, carry.step), x, key_step)
                return task.loss(outputs, y, loss_weights), kept

            (value, kept), gradient = jax.value_and_grad(loss, has_aux=True)(carry.params)
            with jax.numpy_dtype_promotion("standard"):  # optax raises a float to an integer power
                rate = knobs["learning_rate"] * factor(carry.step)
                rate = rate * jnp.float32(restart_factor) ** carry.restarts if restarts else rate
                tx = make_optimizer(rate, knobs["weight_decay"])
                updates, state = tx.update(gradient, carry.optimizer, carry.params)
            params: Any = optax.apply_updates(carry.params, updates)
            if kept is not None:
                params = {**params, "statistics": kept}
            return carry._replace(
                params=params,
                optimizer=state,
                step=carry.step + 1,
                finite=carry.finite & jnp.isfinite(value),
            )

        def going(at: tuple[jax.Array, Carry]) -> jax.Array:
            return (at[0] < len(order)) & some(live(at[1]))

        start = jnp.zeros((), jnp.int32), carry
        _, after = jax.lax.while_loop(going, lambda at: (at[0] + 1, train_step(at[1], order[at[0]])), start)
        # Alone, a child that has ended takes no step; in a vectorized group it is frozen here.
        return after if axis is None else _where(live(carry), after, carry)

    def forward(structure: Any, knobs: PyTree, params: PyTree, inputs: jax.Array) -> jax.Array:
        return apply(params, structure, knobs, inputs, None)[0]

    def predict(structure: Any, knobs: PyTree, params: PyTree, inputs: jax.Array) -> jax.Array:
        n = inputs.shape[0]
        size = min(batch_size, n)
        rows = jnp.minimum(jnp.arange(-(-n // size) * size), n - 1).reshape(-1, size)
        outputs = jax.lax.map(lambda at: apply(params, structure, knobs, inputs[at], None)[0], rows)
        return outputs.reshape(rows.size, -1)[:n]

    def close(structure: Any, key: jax.Array, knobs: PyTree, carry: Carry, seen: tuple) -> Carry:
        after = carry._replace(epoch=carry.epoch + 1, epochs=carry.epochs + 1)
        if watched:
            outputs = predict(structure, knobs, carry.params, seen[0])
            score = task.score(outputs, seen[1])
            better = score > carry.best_score
            best_epoch = jnp.where(better, after.epoch, carry.best_epoch)
            after = after._replace(
                best=_where(better, carry.params, carry.best) if weights == "best" else None,
                best_score=jnp.maximum(score, carry.best_score),
                best_epoch=best_epoch,
                recent=jnp.concatenate([carry.recent, score[None]])[1:] if best_of else carry.recent,
                stopped=after.epoch - best_epoch >= patience if patience else carry.stopped,
                outputs=_where(better, outputs, carry.outputs) if weights == "best" else outputs,
            )
            if restarts:
                again = (after.epoch == 1) & (score <= chance + 1e-6) & (carry.restarts < restarts)
                fresh = begin(structure, key, knobs, seen)
                fresh = fresh._replace(epochs=after.epochs, restarts=carry.restarts + 1)
                after = _where(again, fresh, after)
        return _where(live(carry), after, carry)

    def run(
        structure: Any,
        key: jax.Array,
        knobs: PyTree,
        carry: Carry,
        inputs: Any,
        labels: Any,
        orders: jax.Array,
        seen: tuple,
    ) -> Carry:
        def going(at: tuple[jax.Array, Carry]) -> jax.Array:
            return (at[0] < len(orders)) & some(live(at[1]))

        def epoch(at: tuple[jax.Array, Carry]) -> tuple[jax.Array, Carry]:
            after = advance(structure, key, knobs, at[1], inputs, labels, orders[at[0]])
            return at[0] + 1, close(structure, key, knobs, after, seen)

        return jax.lax.while_loop(going, epoch, (jnp.zeros((), jnp.int32), carry))[1]

    def finish(structure: Any, key: jax.Array, knobs: PyTree, carry: Carry, seen: tuple) -> Fitted:
        params = carry.best if weights == "best" else carry.params
        best_of_last = jnp.max(carry.recent, initial=-jnp.inf)
        outputs = carry.outputs if watched else predict(structure, knobs, params, seen[0])
        return Fitted(params, outputs, carry.finite, carry.epochs, best_of_last)

    def fit(
        structure: Any, key: jax.Array, knobs: PyTree, inputs: Any, labels: Any, orders: Any, seen: Any
    ) -> Fitted:
        carry = begin(structure, key, knobs, seen)
        carry = run(structure, key, knobs, carry, inputs, labels, orders, seen)
        return finish(structure, key, knobs, carry, seen)

    rates = {"learning_rate": np.float32(learning_rate), "weight_decay": np.float32(weight_decay)}
    passes = epochs + restarts
    functions = begin, advance, close, run, finish, fit, live, predict, forward
    return Trainer(*functions, rates, batch_size, steps, passes)


def options_of(settings: dict[str, Any]) -> dict[str, Any]:
    """Those of a trainer's settings that `make` takes."""
    recipe = inspect.signature(make).parameters
    return {name: value for name, value in settings.items() if name in recipe}


def _to_bfloat16(x: jax.Array) -> jax.Array:
    return x.astype(jnp.bfloat16) if jnp.issubdtype(x.dtype, jnp.floating) else x


def _where(condition: jax.Array, a: PyTree, b: PyTree) -> PyTree:
    return jax.tree.map(lambda x, y: jnp.where(condition, x, y), a, b)


def _check(options: dict[str, Any]) -> None:
    """Ranges of the options of `make`."""
    for names, is_right, takes in (
        ("epochs batch_size decay_epochs", lambda v: v >= 1, "1 or more"),
        ("weight_decay patience best_of restarts crop", lambda v: v >= 0, "0 or more"),
        ("std decay_rate restart_factor", lambda v: v > 0, "a positive number"),
        ("momentum", lambda v: v is None or 0 <= v < 1, "none, or a number from 0, below 1"),
        ("chance", lambda v: v is None or 0 <= v < 1, "none, or a number from 0, below 1"),
    ):
        for name in names.split():
            if not is_right(options[name]):
                raise InputError(f"trainer.{name}: got {options[name]}; it takes {takes}")
    task = options["task"]
    for name, has_use in (("restarts", task.constant is not None), ("best_of", task.more_is_better)):
        if options[name] and not has_use:
            raise InputError(f"trainer.{name}: not for task {task.name}; set it to 0")


def _optimizer(name: str, momentum: float | None, nesterov: bool) -> Callable:
    """(learning rate [], weight decay []) → the optimizer of that name in optax."""
    factory: Any = getattr(optax, name, None)
    parameters = inspect.signature(factory).parameters if inspect.isfunction(factory) else {}
    if "learning_rate" not in parameters:
        raise InputError(
            f"trainer.optimizer: optax has no optimizer {name!r}; it takes adam, adamw, sgd, lion, …"
        )
    settings: dict[str, Any] = {}
    if momentum is not None:
        key = next((key for key in ("momentum", "b1") if key in parameters), None)
        if key is None:
            raise InputError(f"trainer.momentum: got {momentum}; optimizer {name} has none, leave it out")
        settings[key] = momentum
    if nesterov:
        if "nesterov" not in parameters:
            raise InputError(f"trainer.nesterov: got true; optimizer {name} has no such form, leave it out")
        settings["nesterov"] = True

    def make_one(rate: jax.Array, decay: jax.Array) -> optax.GradientTransformation:
        if "weight_decay" in parameters:
            return factory(learning_rate=rate, weight_decay=decay, **settings)
        return optax.chain(optax.add_decayed_weights(decay), factory(learning_rate=rate, **settings))

    return make_one
