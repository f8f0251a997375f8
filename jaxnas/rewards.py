"""Measures → score: pure functions of {name: [B]}; a NaN measure gives a NaN score.

A search with a reward of its own passes any function of the measures; a configuration names one of
`REGISTRY`, whose keyword-only parameters are the options of `[reward]`.
"""

import math
from collections.abc import Callable, Collection

import jax
import jax.numpy as jnp

from jaxnas.errors import InputError
from jaxnas.types import DIVERGED, OK, Outcome

Measures = dict[str, jax.Array]


def accuracy(measures: Measures, *, measure: str | None = None) -> jax.Array:  # {[B]} → [B]
    """The measure itself.

    Args:
      measure: which measure that the evaluator reports; none is `data.measure`, else accuracy.
    """
    return _get(measures, measure or "accuracy")


def negative(measures: Measures, *, measure: str | None = None) -> jax.Array:  # {[B]} → [B]
    """A measure to be made small, such as `loss` or `mse`.

    Args:
      measure: which measure; none is `data.measure`, else loss.
    """
    return -_get(measures, measure or "loss")


def accuracy_minus_params(
    measures: Measures, *, weight: float = 1e-6, measure: str | None = None
) -> jax.Array:  # {[B]} → [B]
    """accuracy − λ·params (RLMedNAS).

    Args:
      weight: λ, in accuracy per parameter.
      measure: which measure stands for the accuracy; none is `data.measure`, else accuracy.
    """
    return _get(measures, measure or "accuracy") - weight * _get(measures, "params")


def accuracy_minus_log_params(
    measures: Measures,
    *,
    beta: float = 0.001,
    delta: float = math.exp(-8),
    log: str = "log10",
    measure: str | None = None,
) -> jax.Array:  # {[B]} → [B]
    """accuracy − β(δ·x + log x) with x the number of parameters (Mini-MetaQNN's penalty).

    The report prints δ = "e−8" and "log"; its code has exp(−8) and log10, the defaults here. The other
    readings are delta = 1e-8 and log = "ln".

    Args:
      beta: β, the weight of the whole penalty.
      delta: δ, the weight of the linear term per parameter.
      log: log10 or ln.
      measure: which measure stands for the accuracy; none is `data.measure`, else accuracy.

    Raises:
      InputError: `log` is neither.
    """
    if log not in ("log10", "ln"):
        raise InputError(f"reward.log: got {log!r}; it takes log10 or ln")
    x = _get(measures, "params")
    logarithm = jnp.log(x) / math.log(10) if log == "log10" else jnp.log(x)
    return _get(measures, measure or "accuracy") - beta * (delta * x + logarithm)


def accuracy_cubed(measures: Measures, *, measure: str | None = None) -> jax.Array:  # {[B]} → [B]
    """accuracy³ (Zoph & Le 2017, section 4.1), which stretches differences near the top.

    Args:
      measure: which measure stands for the accuracy; none is `data.measure`, else accuracy.
    """
    return _get(measures, measure or "accuracy") ** 3


def terminal(score: jax.Array, live: jax.Array) -> jax.Array:  # [B], bool [B, T] → [B, T]
    """The score at the last live decision of each row, zero elsewhere."""
    last = jnp.sum(live, axis=-1) - 1
    is_last = jnp.arange(live.shape[-1])[None, :] == last[:, None]
    return jnp.where(is_last, score[:, None], jnp.zeros((), score.dtype))


def last(values: jax.Array, live: jax.Array) -> jax.Array:  # [B, T], bool [B, T] → [B]
    """What stands at the last live decision of each row."""
    return jnp.take_along_axis(values, jnp.sum(live, axis=-1)[:, None] - 1, axis=-1)[:, 0]


def at_every_decision(
    reward: Callable[[Measures], jax.Array],  # {[B]} → [B]
    measures: Measures,  # those of `prefix` [B, T], the others [B]
    prefix: Collection[str],
    live: jax.Array,  # bool [B, T]
) -> jax.Array:  # [B, T]
    """The reward of every prefix of an architecture: at decision t it sees the measures of the first t + 1.

    A measure that is given once for the whole architecture is the same at each of its decisions. Zero at
    decisions that are not live.
    """
    axes = {name: 1 if name in prefix else None for name in measures}
    values = jax.vmap(reward, in_axes=(axes,), out_axes=1, axis_size=live.shape[-1])(measures)
    return jnp.where(live, values, jnp.zeros((), values.dtype))


def outcome(reward: jax.Array, measures: Measures | None = None) -> Outcome:  # [B, T], {[B]} →
    """An outcome by hand, to tell a controller: a row with a NaN is a failed trial, any other is good."""
    failed = jnp.any(jnp.isnan(reward), axis=-1)
    status = jnp.where(failed, jnp.int32(DIVERGED), jnp.int32(OK))
    return Outcome(reward, {} if measures is None else measures, status)


def _get(measures: Measures, name: str) -> jax.Array:
    if name not in measures:
        known = ", ".join(sorted(set(measures) - {"status"}))
        raise InputError(f"reward.measure: no measure {name!r}; this evaluator reports {known}")
    return measures[name]


REGISTRY = {
    "accuracy": accuracy,
    "accuracy_cubed": accuracy_cubed,
    "accuracy_minus_log_params": accuracy_minus_log_params,
    "accuracy_minus_params": accuracy_minus_params,
    "negative": negative,
}
