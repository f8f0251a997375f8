"""Constraints on an evaluator that measures a child's size together with its accuracy."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxnas.errors import InputError
from jaxnas.types import OK, REJECTED, Evaluator, PyTree


def constrain(evaluator: Evaluator, limits: Mapping[str, float]) -> Evaluator:
    """The evaluator with every child rejected that has more than `limits` {measure: most}.

    Raises:
      InputError: a limit on something that the evaluator does not measure, or measures at every decision.
    """
    for name, most in limits.items():
        if name not in evaluator.measures:
            known = ", ".join(evaluator.measures)
            raise InputError(
                f"constraints.{name}: got {most:g}; this evaluator does not measure it, it has {known}"
            )
        if name in evaluator.prefix:
            raise InputError(
                f"constraints.{name}: got {most:g}; this evaluator measures it at every decision, "
                "a constraint takes a measure of the whole architecture"
            )
    if not limits:
        return evaluator

    def evaluate(keys: jax.Array, state: PyTree, arch: Any) -> tuple[PyTree, dict[str, jax.Array]]:
        state, measures = evaluator.evaluate(keys, state, arch)
        status = measures["status"]
        for name, most in limits.items():
            status = jnp.where((status == OK) & (measures[name] > most), REJECTED, status)
        rejected = status == REJECTED
        lost = {name: rejected[:, None] if name in evaluator.prefix else rejected for name in measures}
        kept = {
            m: x if m in (*limits, "status") else jnp.where(lost[m], jnp.nan, x) for m, x in measures.items()
        }
        return state, {**kept, "status": status}

    return evaluator._replace(evaluate=evaluate)
