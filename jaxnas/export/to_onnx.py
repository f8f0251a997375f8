"""A network as model.onnx: its jaxpr, equation by equation, as an ONNX graph.

What does not depend on the images is computed here and remains as a weight; calls are inlined and loops
unrolled. bfloat16 becomes float32, in which ONNX Runtime convolves on a CPU.
"""

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from jaxnas.errors import InputError
from jaxnas.export.onnx_graph import Graph, Tensor, Value, refused, symbolic
from jaxnas.export.onnx_nodes import BY_ELEMENT, OPERATORS, OTHERS, max_pool

OPSET, IR_VERSION = 18, 8  # of 2022, so that older runtimes read the file
SAME = ("copy", "copy_p", "optimization_barrier", "reduce_precision", "stop_gradient")  # as their operands


def package() -> Any:
    """onnx.

    Raises:
      InputError: it is not installed.
    """
    try:
        return importlib.import_module("onnx")
    except ImportError:
        raise InputError("--onnx: it needs onnx: pip install 'jaxnas[onnx]'") from None


def convert(call: Callable, shape: tuple[int, ...], about: str = "") -> bytes:
    """The content of a file that computes `call`: uint8 [b, H, W, C] → float32 [b, O], for any b.

    Raises:
      InputError: the function has a primitive without a translation, or onnx is not installed.
    """
    onnx = package()
    (b,) = jax.export.symbolic_shape("b")
    closed = jax.make_jaxpr(call)(jax.ShapeDtypeStruct((b, *shape), jnp.uint8))
    graph = Graph(onnx, b)
    (value,) = _walk(graph, closed, [Tensor("images", (b, *shape))])
    aval: Any = closed.out_avals[0]
    outputs = aval.shape
    graph.node("Identity", graph.whole(value, outputs), output="outputs")
    nodes, weights = graph.needed("outputs")
    describe = onnx.helper.make_tensor_value_info
    network = onnx.helper.make_graph(
        nodes,
        "network",
        [describe("images", onnx.TensorProto.UINT8, ["b", *shape])],
        [describe("outputs", onnx.TensorProto.FLOAT, ["b", *outputs[1:]])],
        [onnx.numpy_helper.from_array(array, name) for name, array in weights],
    )
    opsets = [onnx.helper.make_opsetid("", OPSET)]
    model = onnx.helper.make_model(
        network, opset_imports=opsets, ir_version=IR_VERSION, producer_name="jaxnas", doc_string=about
    )
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)


def _walk(graph: Graph, closed: Any, inputs: Sequence[Value]) -> list[Value]:
    """The outputs of a jaxpr with its constants."""
    jaxpr, known = getattr(closed, "jaxpr", closed), {}

    def read(x: Any) -> Value:
        if not isinstance(x, Literal):
            return known[x]
        aval: Any = x.aval
        return np.asarray(x.val, aval.dtype)

    known.update(zip(jaxpr.constvars, map(np.asarray, getattr(closed, "consts", ())), strict=True))
    known.update(zip(jaxpr.invars, inputs, strict=True))
    for eqn in jaxpr.eqns:
        results = _translated(graph, eqn, [read(x) for x in eqn.invars])
        known.update(zip(eqn.outvars, results, strict=True))
    return [read(x) for x in jaxpr.outvars]


def _translated(graph: Graph, eqn: Any, values: list[Value]) -> list[Value]:
    """The outputs of an equation."""
    name, inner = eqn.primitive.name, eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
    if name in SAME:
        return values
    if name == "custom_vjp_call" and (pooled := max_pool(graph, eqn, *values)) is not None:
        return [pooled]
    if inner is not None and name != "scan":
        return _walk(graph, inner, values)
    by_element = name in OPERATORS or name in BY_ELEMENT
    if not by_element and name != "broadcast_in_dim":
        values = [graph.whole(x, variable.aval.shape) for x, variable in zip(values, eqn.invars, strict=True)]
    if name == "scan":
        return _unrolled(graph, eqn, values)
    shape = eqn.outvars[0].aval.shape
    if by_element:
        sizes = [x.shape for x in values if x.shape]
        shape = tuple(n if any(size[i] == n for size in sizes) else 1 for i, n in enumerate(shape))
    constant = all(isinstance(x, np.ndarray) for x in values) and (values or name == "iota")
    if constant and not symbolic(eqn.outvars[0].aval.shape if name == "broadcast_in_dim" else shape):
        arrays = np.broadcast_arrays(*values) if by_element else values
        results = eqn.primitive.bind(*map(jnp.asarray, arrays), **eqn.params)
        return [np.asarray(x) for x in (results if eqn.primitive.multiple_results else [results])]
    if name in OPERATORS:
        return [graph.node(OPERATORS[name], *values, shape=shape)]
    make = BY_ELEMENT.get(name, OTHERS.get(name))
    if make is None:
        raise refused(f"JAX's primitive {name!r}")
    return [make(graph, eqn, shape, *values)]


def _unrolled(graph: Graph, eqn: Any, values: list[Value]) -> list[Value]:
    """The outputs of a scan; what is carried and what is sliced is read from shapes within and without."""
    body, length = eqn.params["jaxpr"], eqn.params["length"]
    inner = getattr(body, "jaxpr", body)
    if any(x.aval.shape != y.aval.shape for x, y in zip(eqn.outvars, inner.outvars, strict=True)):
        raise refused("a scan that stacks outputs")
    whole = [x.aval.shape == y.aval.shape for x, y in zip(eqn.invars, inner.invars, strict=True)]
    fixed = sum(whole) - len(eqn.outvars)
    constants, carry, sequences = values[:fixed], values[fixed : sum(whole)], values[sum(whole) :]
    for i in range(length)[:: -1 if eqn.params["reverse"] else 1]:
        carry = _walk(graph, body, [*constants, *carry, *(graph.element(x, i) for x in sequences)])
    return carry
