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

from jaxnas.config.options import presets
from jaxnas.errors import InputError
from jaxnas.training import child, images, optimizers
from jaxnas.training.child import Carry, Fitted
from jaxnas.training.optimizers import Schedule
from jaxnas.training.recipe import Recipe, forward, predict
from jaxnas.types import Dataset, Network, Task

# What `recipe` sets together: options of `make` that are not its defaults. `plain` is the defaults.
RECIPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "strong": {
        "batch_size": 32,
        "optimizer": "adamw",
        "learning_rate": 1e-2,
        "weight_decay": 0.02,
        "decay_norms": False,
        "schedule": "one_cycle",
        "warmup": 0.2,
        "label_smoothing": 0.05,
        "balance": 0.75,
        "mixup": 0.2,
        "flip": True,
        "rotate": 14.0,
        "zoom": 0.25,
        "shift": 0.1,
        "light": 0.25,
    },
}


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
    rates: dict[str, Any]  # the knobs that are not the network's: options that share a program
    batch_size: int
    balance: float  # the option
    steps: int  # S
    passes: int  # epochs a child trains at most, restarts included


@presets("recipe", RECIPES)
def make(
    network: Network,
    dataset: Dataset,
    axis: str | None = None,
    *,
    recipe: Literal["plain", "strong"] = "plain",
    epochs: int = 5,
    batch_size: int = 128,
    optimizer: str = "adam",
    learning_rate: float = 1e-3,
    weight_decay: float = 0.0,
    decay_norms: bool = True,
    momentum: float | None = None,
    nesterov: bool = False,
    schedule: Schedule = "constant",
    warmup: float = 0.0,
    decay_rate: float = 0.2,
    decay_epochs: int = 5,
    label_smoothing: float = 0.0,
    balance: float = 0.0,
    patience: int = 0,
    weights: Literal["last", "best"] = "last",
    best_of: int = 0,
    restarts: int = 0,
    restart_factor: float = 0.4,
    chance: float | None = None,
    crop: int = 0,
    flip: bool = False,
    rotate: float = 0.0,
    zoom: float = 0.0,
    shift: float = 0.0,
    light: float = 0.0,
    cutout: float = 0.0,
    mixup: float = 0.0,
    mean: float = 0.5,
    std: float = 0.5,
    precision: Literal["float32", "bfloat16"] = "float32",
) -> Trainer:
    """The trainer of a network on a data set.

    Args:
      network: what is trained.
      dataset: its task, its preparation, and how many inputs it has, which the functions are given.
      axis: name of the vmapped population axis, None where children run alone.
      recipe: plain, the defaults; strong, for small networks with batch normalization (docs/trainer.md).
        It sets several options together; any of them can still be given.
      epochs: passes over the training inputs, each in another order.
      batch_size: inputs a training step.
      optimizer: the name of an optimizer in optax.
      learning_rate: its learning rate at the start.
      weight_decay: decoupled where the optimizer has it (adamw), otherwise L2 in the gradient.
      decay_norms: weight decay shrinks biases and the scales of norms too.
      momentum: of sgd, or Adam's β₁; none is optax's default.
      nesterov: Nesterov's form of the momentum.
      schedule: of the learning rate: constant; cosine, to 0 at the last step; step, times decay_rate after
        every decay_epochs; one_cycle, up to learning_rate and down again.
      warmup: share of the steps in which the rate rises; one_cycle needs some.
      decay_rate: factor of schedule step.
      decay_epochs: epochs between two factors.
      label_smoothing: share of the target that is spread over all classes (Szegedy et al. 2016,
        https://arxiv.org/abs/1512.00567).
      balance: share of the balancing of classes that is done by how often their inputs are drawn: at 1 each
        class comes equally often. What `data.class_weights` weighs is the rest.
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
      rotate: turn them by up to so many degrees.
      zoom: look at a window that is larger or smaller by up to this share.
      shift: move it by up to this share of the image.
      light: change contrast by up to this share, and the brightness of each channel by up to a quarter of it.
      cutout: side of a gray square somewhere in the image, as a share of its side.
      mixup: α of the distribution Beta(α, α) by which two inputs of a batch are mixed; 0 mixes none.
      mean: subtracted from pixels in 0–1.
      std: divides them then.
      precision: of activations and gradients; the weights are float32 always.

    Raises:
      InputError: a value out of its range, or an optimizer that optax lacks.
    """
    options = locals()
    _check(options, dataset.task)
    prepare, augment = images.functions_of(dataset, options)
    N, weights_of_classes = len(dataset.train.inputs), dataset.class_weights
    batch_size = min(batch_size, N)
    steps = -(-N // batch_size)
    if chance is None:
        best_constant = dataset.task.constant
        chance = 0.0 if best_constant is None else best_constant(dataset.validation.labels)
    chance = chance if dataset.task.more_is_better else -chance
    made = Recipe(
        network=network,
        task=dataset.task,
        prepare=prepare,
        augment=augment,
        class_weights=None
        if weights_of_classes is None
        else jnp.asarray(weights_of_classes ** np.float32(1 - balance)),
        label_smoothing=label_smoothing,
        mixup=quantiles(mixup) if mixup else None,
        axis=axis,
        optimizer=optimizers.optimizer(optimizer, momentum, nesterov, decay_norms),
        factor=optimizers.factor(
            schedule, epochs * steps, warmup=warmup, decay_rate=decay_rate, decay_steps=decay_epochs * steps
        ),
        epochs=epochs,
        batch_size=batch_size,
        steps=steps,
        patience=patience,
        keeps_best=weights == "best",
        best_of=best_of,
        restarts=restarts,
        restart_factor=restart_factor,
        chance=chance,
        bfloat16=precision == "bfloat16",
    )
    rates = ("learning_rate", "weight_decay", *(images.STRENGTHS if images.varies(options) else ()))
    functions: Any = (
        child.begin, child.advance, child.close, child.run, child.finish, child.fit, child.live, predict,
        forward,
    )  # fmt: skip
    return Trainer(
        *(functools.partial(function, made) for function in functions),
        rates={name: np.float32(options[name]) for name in rates},
        batch_size=batch_size,
        balance=balance,
        steps=steps,
        passes=epochs + restarts,
    )


def quantiles(alpha: float) -> jax.Array:  # → float32 [1024]
    """Equally likely values of Beta(α, α)."""
    from scipy import stats

    middles = (np.arange(1024) + 0.5) / 1024
    return jnp.asarray(stats.beta.ppf(middles, alpha, alpha), jnp.float32)


def options_of(settings: dict[str, Any]) -> dict[str, Any]:
    """Those of a trainer's settings that `make` takes."""
    options = inspect.signature(make).parameters
    return {name: value for name, value in settings.items() if name in options}


def _check(options: dict[str, Any], task: Task) -> None:
    """Ranges of the options of `make`."""
    for names, is_right, takes in (
        ("epochs batch_size decay_epochs", lambda v: v >= 1, "1 or more"),
        (
            "weight_decay patience best_of restarts crop rotate shift light mixup",
            lambda v: v >= 0,
            "0 or more",
        ),
        ("warmup label_smoothing zoom cutout", lambda v: 0 <= v < 1, "a number from 0, below 1"),
        ("balance", lambda v: 0 <= v <= 1, "a number from 0 to 1"),
        ("std decay_rate restart_factor", lambda v: v > 0, "a positive number"),
        ("momentum", lambda v: v is None or 0 <= v < 1, "none, or a number from 0, below 1"),
        ("chance", lambda v: v is None or 0 <= v < 1, "none, or a number from 0, below 1"),
    ):
        for name in names.split():
            if not is_right(options[name]):
                raise InputError(f"trainer.{name}: got {options[name]}; it takes {takes}")
    has_classes = task.predict is not None
    for name, has_use in (
        ("restarts", task.constant is not None),
        ("best_of", task.more_is_better),
        ("label_smoothing", has_classes),
        ("balance", has_classes),
    ):
        if options[name] and not has_use:
            raise InputError(f"trainer.{name}: not for task {task.name}; set it to 0")
