"""What every network promises."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas import masks, training
from jaxnas.errors import InputError
from jaxnas.testing.promises import build, difference, floats, not_finite, programs, promise, quick_jit
from jaxnas.types import Network, PyTree, Space

N = 4  # inputs in a batch


def check_network(
    network: Network | Callable[[Space, tuple[int, ...], int], Network],
    space: Space,
    input_shape: tuple[int, ...],
    num_outputs: int,
    *,
    architectures: int = 2,
    seed: int = 0,
) -> None:
    """Tests a network on random architectures of its space: planning, initial weights, outputs, gradients.

    Args:
      network: a Network, or its factory `(space, input_shape, num_outputs) → Network`.
      space: of the architectures.
      input_shape: of one input, (height, width, channels) of an image.
      num_outputs: the width of the head.
      architectures: how many architectures are tried; each compiles a few programs.
      seed: of the architectures, weights and inputs.

    Raises:
      AssertionError: says in one line which promise is broken.
    """
    network = build(network, Network, space, input_shape, num_outputs)
    key_arch, key_init, key_inputs = jax.random.split(jax.random.key(seed), 3)
    inputs = jax.random.normal(key_inputs, (N, *input_shape))
    sample = quick_jit(lambda key: masks.sample(key, space))
    tried = 0
    for key in jax.random.split(key_arch, 10 * architectures):
        arch = np.asarray(sample(key))
        try:
            planned = network.plan(arch)
        except InputError:  # no network of this shape is possible
            continue
        where = space.describe(arch)
        structure, knobs = _check_plan(network, arch, planned, where)
        params = _check_init(network, structure, knobs, key_init, where)
        _check_apply(network, arch, (structure, knobs), params, inputs, num_outputs, where)
        _check_training(network, structure, knobs, params, inputs, where)
        if network.widen is not None:
            _check_padding(network, structure, knobs, key_init, inputs, where)
        tried += 1
        if tried == architectures:
            return
    promise(tried, "plan: it refuses every one of the architectures that were drawn")


def _check_plan(network: Network, arch: np.ndarray, planned: Any, where: str) -> tuple[Any, PyTree]:
    structure, knobs = planned
    again, same_knobs = network.plan(arch)
    try:
        same = structure == again and hash(structure) == hash(again)
    except TypeError as error:
        raise AssertionError(f"plan: a structure has to be hashable: {error}") from None
    promise(same, f"plan: two plans of {where} have different structures: each would compile anew")
    changed = difference(knobs, same_knobs)
    promise(not changed, f"plan: two plans of {where} have different knobs: {changed}")
    if network.trainer_options is not None:
        unknown = set(network.trainer_options(arch)) - set(inspect.signature(training.make).parameters)
        promise(not unknown, f"trainer_options: {sorted(unknown)} are no options of the trainer")
    return structure, jax.tree.map(jnp.asarray, knobs)


def _check_init(network: Network, structure: Any, knobs: PyTree, key: jax.Array, where: str) -> PyTree:
    init = quick_jit(network.init, static_argnums=1)
    params = init(key, structure, knobs)
    name = not_finite(params)
    promise(not name, f"init: {name} of {where} is not finite")
    changed = difference(params, init(key, structure, knobs))
    promise(not changed, f"init: the same key gives other weights: {changed}")
    moved = difference(params, init(jax.random.fold_in(key, 1), structure, knobs))
    promise(moved or not jax.tree.leaves(params), "init: another key gives the same weights")
    weights = (
        {name: p for name, p in params.items() if name != "statistics"}
        if isinstance(params, dict)
        else params
    )
    sizes = sum(leaf.size for leaf in jax.tree.leaves(weights))
    counted = training.count_params(network, structure)
    promise(counted == sizes, f"init: {sizes} weights of {where}, and {counted} are counted from its plan")
    if network.size is not None:
        stated = network.size(structure)["params"]
        promise(stated == sizes, f"size: {where} has {sizes} parameters, and is said to have {stated}")
    return params


def _check_apply(
    network: Network,
    arch: np.ndarray,
    planned: tuple[Any, PyTree],
    params: PyTree,
    inputs: jax.Array,
    num_outputs: int,
    where: str,
) -> None:
    structure, knobs = planned
    apply = quick_jit(lambda p, s, k, x: network.apply(p, s, k, x, None), static_argnums=1)
    result = apply(params, structure, knobs, inputs)
    promise(
        (result.shape, result.dtype) == ((N, num_outputs), jnp.float32),
        f"apply: {result.dtype} {list(result.shape)} for {where}, and should be float32 {[N, num_outputs]}",
    )
    promise(not not_finite(result), f"apply: an output of {where} is not finite")
    again = apply(params, network.plan(arch)[0], knobs, inputs)
    promise(programs(apply) == 1, f"plan: a second plan of {where} compiled a second program")
    promise(
        not difference(result, again),
        f"apply: without a key, {where} gives other outputs for the same inputs",
    )
    others = apply(params, structure, knobs, inputs.at[1:].add(1.0))
    promise(
        np.allclose(others[0], result[0], rtol=1e-4, atol=1e-5),
        f"apply: without a key, an input's outputs depend on what else is in its batch, in {where}",
    )
    promise(not np.allclose(others[1:], result[1:], rtol=1e-6), f"apply: {where} does not read its inputs")


def _check_training(
    network: Network, structure: Any, knobs: PyTree, params: PyTree, inputs: jax.Array, where: str
) -> None:
    """One gradient with a key: dropout and the like are on, and statistics keep their shapes."""
    weight = jnp.linspace(-1.0, 1.0, N)[:, None]

    def loss(params: PyTree, key: jax.Array) -> tuple[jax.Array, PyTree]:
        if network.train is None:
            outputs, statistics = network.apply(params, structure, knobs, inputs, key), ()
        else:
            outputs, statistics = network.train(params, structure, knobs, inputs, key)
        return jnp.sum(outputs * weight), statistics

    gradient = quick_jit(jax.grad(loss, has_aux=True))
    gradients, statistics = gradient(params, jax.random.key(0))
    name = not_finite(gradients)
    promise(not name, f"apply: the gradient by {name} of {where} is not finite")
    promise(
        any(np.any(leaf != 0) for leaf in floats(gradients)), f"apply: no weight of {where} has a gradient"
    )
    changed = difference(gradients, gradient(params, jax.random.key(0))[0])
    promise(not changed, f"apply: the same key gives other gradients of {where}: {changed}")
    if network.train is not None:
        has = params.get("statistics", {})
        promise(
            jax.tree.map(jnp.shape, statistics) == jax.tree.map(jnp.shape, has),
            f"train: the statistics of {where} change their shapes",
        )
        name = not_finite(statistics)
        promise(not name, f"train: the statistic {name} of {where} is not finite")


def _check_padding(
    network: Network, structure: Any, knobs: PyTree, key: jax.Array, inputs: jax.Array, where: str
) -> None:
    """In the widest structure: the same initial weights and outputs, to rounding."""
    assert network.widen is not None
    promise(
        network.pad is not None and network.crop is not None,
        "widen: a network that widens pads and crops, too",
    )
    wider = list(network.widen(structure))
    if not wider or wider[-1] == structure:
        return
    assert network.pad is not None and network.crop is not None
    padded_knobs = jax.tree.map(jnp.asarray, network.pad(structure, knobs))

    @quick_jit
    def both() -> tuple[tuple[PyTree, jax.Array], tuple[PyTree, jax.Array]]:
        results = []
        for shape, given in ((structure, knobs), (wider[-1], padded_knobs)):
            params = network.init(key, shape, given)
            results.append((params, network.apply(params, shape, given, inputs, None)))
        return results[0], results[1]

    (alone, outputs), (padded, padded_outputs) = both()
    cropped = network.crop(jax.tree.map(np.asarray, padded), structure)
    same = jax.tree.structure(cropped) == jax.tree.structure(alone) and all(
        np.allclose(x, y, rtol=1e-4, atol=1e-6)
        for x, y in zip(jax.tree.leaves(cropped), jax.tree.leaves(alone), strict=True)
    )
    promise(same, f"crop: the padded weights of {where}, cropped, are not those that it has by itself")
    promise(
        np.allclose(outputs, padded_outputs, rtol=1e-3, atol=1e-5),
        f"pad: {where} has other outputs in a wider structure",
    )
