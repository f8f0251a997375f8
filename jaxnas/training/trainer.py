"""The options of a training, and the functions that train one child by them, to be mapped over a population.

Shapes: N inputs, S steps of a batch an epoch, E epochs, O outputs.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.errors import InputError
from jaxnas.training import child, images, optimizers
from jaxnas.training.child import Carry, Fitted
from jaxnas.training.optimizers import Schedule
from jaxnas.training.recipe import Recipe, forward, predict
from jaxnas.types import Dataset, Network, Task

RATES = ("learning_rate", "weight_decay")  # knobs, which share a program; all other options are structure


class Trainer(NamedTuple):
    """Functions of one child. `knobs` holds the network's, `learning_rate` and `weight_decay`.

    Training can be cut anywhere: between epochs by calls of `run`, within one by calls of `advance`. A
    child that has ended (patience, a loss that is not finite, all its epochs) stays as it is.
    """

    begin: Callable[..., Carry]  # (structure, key, knobs, seen); seen: validation (inputs, labels)
    advance: Callable[..., Carry]  # (structure, key, knobs, Carry, inputs, labels, order int32 [S, batch])
    close: Callable[..., Carry]  # (structure, key, knobs, Carry, seen): the end of an epoch
    run: Callable[..., Carry]  # (structure, key, knobs, Carry, inputs, labels, orders [E, S, batch], seen)
    finish: Callable[..., Fitted]  # (structure, key, knobs, Carry, seen)
    fit: Callable[..., Fitted]  # (structure, key, knobs, inputs, labels, orders, seen): all of it
    live: Callable[[Carry], jax.Array]  # → bool []: it has not ended
    predict: Callable[..., jax.Array]  # (structure, knobs, params, inputs [N, ...]) → outputs float32 [N, O]
    forward: Callable[..., jax.Array]  # the same, all inputs at once
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
    schedule: Schedule = "constant",
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
    """The trainer of a network on a data set.

    Args:
      network: what is trained.
      dataset: its task, its preparation, and how many inputs it has, which the functions are given.
      axis: name of the vmapped population axis, None where children run alone.
      epochs: passes over the training inputs, each in another order.
      batch_size: inputs a training step.
      optimizer: the name of an optimizer in optax.
      learning_rate: its learning rate at the start.
      weight_decay: decoupled where the optimizer has it (adamw), otherwise L2 in the gradient.
      momentum: of sgd, or Adam's β₁; none is optax's default.
      nesterov: Nesterov's form of the momentum.
      schedule: of the learning rate: constant; cosine, to 0 at the last step; step, times decay_rate after
        every decay_epochs.
      decay_rate: factor of schedule step.
      decay_epochs: epochs between two factors.
      patience: end after so many epochs without a better validation score (`data.measure`, else the accuracy,
        or −MSE of a regression); 0 never does.
      weights: which weights are kept and measured: those of the last or of the best epoch.
      best_of: also measure the best validation score of so many last epochs; 0 does not.
      restarts: how often to draw new weights and lower the rate while the first epoch ends at chance.
      restart_factor: of the learning rate at each restart.
      chance: the value of the measure up to which a first epoch counts as chance; none is that of the best
        constant.
      crop: pixels of zero padding for a random crop of the training images.
      flip: mirror training images at random.
      mean: subtracted from pixels in 0–1.
      std: divides them then.
      precision: of activations and gradients; the weights are float32 always.

    Raises:
      InputError: a value out of its range, or an optimizer that optax lacks.
    """
    _check(locals(), dataset.task)
    dataset = images.with_functions(dataset, crop, flip, mean, std)
    assert dataset.prepare is not None
    N = len(dataset.train.inputs)
    batch_size = min(batch_size, N)
    if chance is None:
        best_constant = dataset.task.constant
        chance = 0.0 if best_constant is None else best_constant(dataset.validation.labels)
    chance = chance if dataset.task.more_is_better else -chance
    recipe = Recipe(
        network=network,
        task=dataset.task,
        prepare=dataset.prepare,
        augment=dataset.augment,
        class_weights=None if dataset.class_weights is None else jnp.asarray(dataset.class_weights),
        axis=axis,
        optimizer=optimizers.optimizer(optimizer, momentum, nesterov),
        factor=optimizers.factor(schedule, epochs, N // batch_size, decay_rate, decay_epochs),
        epochs=epochs,
        batch_size=batch_size,
        steps=N // batch_size,
        patience=patience,
        keeps_best=weights == "best",
        best_of=best_of,
        restarts=restarts,
        restart_factor=restart_factor,
        chance=chance,
        bfloat16=precision == "bfloat16",
    )
    functions: Any = (
        child.begin, child.advance, child.close, child.run, child.finish, child.fit, child.live, predict,
        forward,
    )  # fmt: skip
    return Trainer(
        *(functools.partial(function, recipe) for function in functions),
        rates={"learning_rate": np.float32(learning_rate), "weight_decay": np.float32(weight_decay)},
        batch_size=recipe.batch_size,
        steps=recipe.steps,
        passes=epochs + restarts,
    )


def options_of(settings: dict[str, Any]) -> dict[str, Any]:
    """Those of a trainer's settings that `make` takes."""
    options = inspect.signature(make).parameters
    return {name: value for name, value in settings.items() if name in options}


def _check(options: dict[str, Any], task: Task) -> None:
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
    for name, has_use in (("restarts", task.constant is not None), ("best_of", task.more_is_better)):
        if options[name] and not has_use:
            raise InputError(f"trainer.{name}: not for task {task.name}; set it to 0")
