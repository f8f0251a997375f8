"""An optimizer of optax by its name, and learning rates over time."""

import inspect
from collections.abc import Callable
from typing import Any, Literal

import jax
import optax

from jaxnas.errors import InputError

Schedule = Literal["constant", "cosine", "step"]


def optimizer(
    name: str, momentum: float | None, nesterov: bool
) -> Callable[[jax.Array, jax.Array], optax.GradientTransformation]:
    """(learning rate [], weight decay []) → the optimizer of that name in optax.

    Weight decay is decoupled where the optimizer has it, otherwise L2 in the gradient.

    Raises:
      InputError: optax has no such optimizer, or it has no momentum or no Nesterov form.
    """
    factory: Any = getattr(optax, name, None)
    parameters = inspect.signature(factory).parameters if inspect.isfunction(factory) else {}
    if "learning_rate" not in parameters:
        raise InputError(
            f"trainer.optimizer: optax has no optimizer {name!r}; it takes adam, adamw, sgd, lion, …"
        )
    options: dict[str, Any] = {}
    if momentum is not None:
        option = next((option for option in ("momentum", "b1") if option in parameters), None)
        if option is None:
            raise InputError(f"trainer.momentum: got {momentum}; optimizer {name} has none, leave it out")
        options[option] = momentum
    if nesterov:
        if "nesterov" not in parameters:
            raise InputError(f"trainer.nesterov: got true; optimizer {name} has no such form, leave it out")
        options["nesterov"] = True

    def make(rate: jax.Array, decay: jax.Array) -> optax.GradientTransformation:
        if "weight_decay" in parameters:
            return factory(learning_rate=rate, weight_decay=decay, **options)
        return optax.chain(optax.add_decayed_weights(decay), factory(learning_rate=rate, **options))

    return make


def factor(
    schedule: Schedule, epochs: int, steps: int, decay_rate: float, decay_epochs: int
) -> Callable[[jax.Array], Any]:
    """Step [] of a training → the factor of its learning rate, with `steps` in an epoch."""
    if schedule == "cosine":
        return optax.cosine_decay_schedule(1.0, epochs * steps)
    if schedule == "step":
        return optax.exponential_decay(1.0, decay_epochs * steps, decay_rate, staircase=True)
    return optax.constant_schedule(1.0)
