"""An evaluator with network and data: what networks make of images before any training."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas import training
from jaxnas.types import OK, Evaluator


def untrained(network, dataset, *, scale: float = 1.0) -> Evaluator:
    """The measures of a network with its initial weights, on the validation split.

    Args:
      scale: what the initial weights are multiplied by.
    """
    inputs, labels = dataset.validation
    seen = dataset.prepare(jnp.asarray(inputs)) if dataset.prepare else inputs.astype(np.float32) / 255

    @jax.jit(static_argnums=1)
    def initial(key, structure, knobs):
        params = jax.tree.map(lambda x: scale * x, network.init(key, structure, knobs))
        return params, network.apply(params, structure, knobs, seen, None)

    def child(key, state, arch):
        return jax.tree.map(np.asarray, initial(key, *network.plan(np.asarray(arch))))

    def measure(key, arch):
        _, outputs = child(key, (), arch)
        params = training.count_params(network, network.plan(np.asarray(arch))[0])
        return dataset.task.measures(outputs, labels) | {"params": params}

    def evaluate(keys, state, arch):
        results = [measure(key, choices) for key, choices in zip(keys, np.asarray(arch), strict=True)]
        measures = {name: np.array([r[name] for r in results], np.float32) for name in results[0]}
        return state, measures | {"status": np.full(len(arch), OK, np.int32)}

    names = (*dataset.task.names, "params")
    return Evaluator(lambda key: (), evaluate, measures=names, jittable=False, child=child)
