"""What a network costs: its trainable parameters and its multiply-adds, from shapes alone."""

import functools
from typing import Any

import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np

from jaxnas.types import Network, PyTree


@functools.lru_cache(maxsize=4096)
def count_params(network: Network, structure: Any) -> int:
    """How many trainable parameters a structure has, from shapes alone; statistics are not trained."""
    shapes = _shapes(network, structure)
    trained = {k: v for k, v in shapes.items() if k != "statistics"} if network.train else shapes
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(trained))


def count_flops(network: Network, structure: Any, knobs: PyTree, input_shape: tuple[int, ...]) -> int:
    """2 × the multiply-adds of convolutions and matrix products in one input's forward pass.

    Counted on the traced program, so that every network has it; the border that padding adds counts as
    pixels do, whichever way the convolution is computed.
    """
    one = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)
    traced = jax.make_jaxpr(lambda params, knobs, x: network.apply(params, structure, knobs, x, None))
    return 2 * _multiply_adds(traced(_shapes(network, structure), knobs, one).jaxpr)


def _shapes(network: Network, structure: Any) -> PyTree:
    return jax.eval_shape(lambda key: network.init(key, structure, {}), jax.random.key(0))


def _multiply_adds(jaxpr: Any) -> int:
    total = 0
    for equation in jaxpr.eqns:
        name, settings = equation.primitive.name, equation.params
        if name == "dot_general":
            contracted = settings["dimension_numbers"][0][0]
            left = equation.invars[0].aval.shape
            total += equation.outvars[0].aval.size * int(np.prod([left[axis] for axis in contracted]))
        elif name == "conv_general_dilated":
            kernel, spec = equation.invars[1].aval, settings["dimension_numbers"].rhs_spec
            total += equation.outvars[0].aval.size * (kernel.size // kernel.shape[spec[0]])
        else:
            times = settings["length"] if name == "scan" else 1
            total += times * sum(map(_multiply_adds, jax.extend.core.jaxprs_in_params(settings)))
    return total
