"""An optimizer of optax by its name, and learning rates over time."""

import inspect
from collections.abc import Callable
from typing import Any, Literal

import jax
import optax

from jaxnas.errors import InputError
from jaxnas.types import PyTree

Schedule = Literal["constant", "cosine", "step", "one_cycle"]


def optimizer(
    name: str, momentum: float | None, nesterov: bool, decays_norms: bool = True
) -> Callable[[jax.Array, jax.Array], optax.GradientTransformation]:
    """(learning rate [], weight decay []) → the optimizer of that name in optax.

    Weight decay is decoupled where the optimizer has it, otherwise L2 in the gradient. It spares biases and
    the scales of norms unless `decays_norms`.

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
    mask = None if decays_norms else _decayed

    def make(rate: jax.Array, decay: jax.Array) -> optax.GradientTransformation:
        if "weight_decay" in parameters:
            masked = {} if mask is None else {"mask": mask}
            return factory(learning_rate=rate, weight_decay=decay, **masked, **options)
        return optax.chain(optax.add_decayed_weights(decay, mask), factory(learning_rate=rate, **options))

    return make


def _decayed(params: PyTree) -> PyTree:
    """True for kernels: biases and scales have one axis."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def factor(
    schedule: Schedule, steps: int, *, warmup: float, decay_rate: float, decay_steps: int
) -> Callable[[jax.Array], Any]:
    """Step [] of a training → the factor of its learning rate.

    Args:
      schedule: constant; cosine, to 0 (Loshchilov & Hutter 2017, https://arxiv.org/abs/1608.03983); step,
        times decay_rate after every decay_steps; one_cycle, from 1/25 up to 1 along a cosine and down to
        1/250,000 (Smith & Topin 2018, https://arxiv.org/abs/1708.07120, in PyTorch's form).
      steps: of the training.
      warmup: share of the steps in which the rate rises, linearly but for one_cycle.
      decay_rate: of schedule step.
      decay_steps: of schedule step.
    """
    rising = round(warmup * steps)
    if schedule == "one_cycle":
        return optax.cosine_onecycle_schedule(steps, 1.0, max(rising, 1) / steps, 25.0, 1e4)
    if schedule == "cosine":
        after: Any = optax.cosine_decay_schedule(1.0, steps - rising)
    elif schedule == "step":
        after = optax.exponential_decay(1.0, decay_steps, decay_rate, staircase=True)
    else:
        after = optax.constant_schedule(1.0)
    if not rising:
        return after
    return optax.join_schedules([optax.linear_schedule(1 / rising, 1.0, rising - 1), after], [rising])
