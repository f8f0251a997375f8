"""JAX's primitives as nodes of an ONNX graph, a function each: https://onnx.ai/onnx/operators."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from jaxnas.export.onnx_graph import Graph, Tensor, Value, refused, stored

# ELEMENT BY ELEMENT: (graph, equation, shape of the output, operands) → output


def _converted(graph: Graph, eqn: Any, shape: tuple, x: Value) -> Value:
    before, after = stored(eqn.invars[0].aval.dtype), stored(eqn.params["new_dtype"])
    to = graph.onnx.helper.np_dtype_to_tensor_dtype(after)
    return x if before == after else graph.node("Cast", x, shape=shape, to=to)


def _greater(graph: Graph, eqn: Any, shape: tuple, *values: Value) -> Value:
    for x, other in (values, values[::-1]):
        if isinstance(x, np.ndarray) and not x.any() and x.dtype.kind != "u":
            return graph.node("Relu", other, shape=shape)
    return graph.node("Max", *values, shape=shape)


def _power(graph: Graph, eqn: Any, shape: tuple, x: Value) -> Value:
    return graph.node("Pow", x, np.asarray(eqn.params["y"], eqn.invars[0].aval.dtype), shape=shape)


def _clamped(graph: Graph, eqn: Any, shape: tuple, low: Value, x: Value, high: Value) -> Value:
    return graph.node("Min", graph.node("Max", x, low), high, shape=shape)


def _selected(graph: Graph, eqn: Any, shape: tuple, which: Value, *cases: Value) -> Value:
    if eqn.invars[0].aval.dtype != bool:
        raise refused("a choice by numbers among arrays")
    return graph.node("Where", which, *cases[::-1], shape=shape)


ONE = np.float32(1)
OPERATORS = {
    "abs": "Abs", "add": "Add", "ceil": "Ceil", "cos": "Cos", "div": "Div", "eq": "Equal", "erf": "Erf",
    "exp": "Exp", "floor": "Floor", "ge": "GreaterOrEqual", "gt": "Greater", "le": "LessOrEqual",
    "log": "Log", "logistic": "Sigmoid", "lt": "Less", "min": "Min", "mul": "Mul", "neg": "Neg", "pow": "Pow",
    "sign": "Sign", "sin": "Sin", "sqrt": "Sqrt", "sub": "Sub", "tanh": "Tanh",
}  # fmt: skip
BY_ELEMENT: dict[str, Callable] = {
    "clamp": _clamped,
    "convert_element_type": _converted,
    "expm1": lambda graph, eqn, shape, x: graph.node("Sub", graph.node("Exp", x), ONE, shape=shape),
    "integer_pow": _power,
    "log1p": lambda graph, eqn, shape, x: graph.node("Log", graph.node("Add", x, ONE), shape=shape),
    "max": _greater,
    "rsqrt": lambda graph, eqn, shape, x: graph.node("Reciprocal", graph.node("Sqrt", x), shape=shape),
    "select_n": _selected,
    "square": lambda graph, eqn, shape, x: graph.node("Mul", x, x, shape=shape),
}

# ARRAYS: likewise


def _broadcast(graph: Graph, eqn: Any, shape: tuple, x: Value) -> Value:
    places = eqn.params["broadcast_dimensions"]
    return graph.reshaped(x, [x.shape[places.index(i)] if i in places else 1 for i in range(len(shape))])


def _concatenated(graph: Graph, eqn: Any, shape: tuple, *parts: Value) -> Value:
    return graph.node("Concat", *parts, shape=shape, axis=eqn.params["dimension"])


def _pads(sides: Iterable[Sequence]) -> list[int]:
    """(before, after) of each axis → ONNX's order."""
    return [int(side[i]) for i in (0, 1) for side in sides]


def _convolution(graph: Graph, eqn: Any, shape: tuple, x: Value, kernel: Value) -> Value:
    p = eqn.params
    of_x, of_kernel, of_y = p["dimension_numbers"]  # which axes are batch, features, height, width
    pads = _pads(p["padding"])
    if p["batch_group_count"] != 1 or {*p["lhs_dilation"]} != {1} or min(pads) < 0:
        raise refused("a convolution of batch groups, with gaps in its input or negative padding")
    y = graph.node(
        "Conv", graph.transposed(x, of_x), graph.transposed(kernel, of_kernel), pads=pads,
        strides=p["window_strides"], dilations=p["rhs_dilation"], group=p["feature_group_count"],
        shape=[shape[i] for i in of_y],
    )  # fmt: skip
    return graph.transposed(y, np.argsort(of_y).tolist())


def _product(graph: Graph, eqn: Any, shape: tuple, x: Value, y: Value) -> Value:
    (over_x, over_y), (batch_x, batch_y) = eqn.params["dimension_numbers"]
    n, last = len(batch_x), len(x.shape) - 1
    plain = n in (0, last - 1) and batch_x == batch_y == (*range(n),)
    if plain and (over_x, over_y, len(y.shape)) == ((last,), (n,), n + 2):
        return graph.node("MatMul", x, y, shape=shape)
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    of_x, of_y = [next(letters) for _ in x.shape], [next(letters) for _ in y.shape]
    for i, j in zip((*over_x, *batch_x), (*over_y, *batch_y), strict=True):
        of_y[j] = of_x[i]
    summed = {of_x[i] for i in over_x}
    out = [name for name in dict.fromkeys([of_x[i] for i in batch_x] + of_x + of_y) if name not in summed]
    return graph.node(
        "Einsum", x, y, shape=shape, equation=f"{''.join(of_x)},{''.join(of_y)}->{''.join(out)}"
    )


def _reduced(graph: Graph, eqn: Any, shape: tuple, x: Value) -> Value:
    kind = f"Reduce{eqn.primitive.name.removeprefix('reduce_').capitalize()}"
    return graph.node(kind, x, [*eqn.params["axes"]], shape=shape, keepdims=0)


def _windowed(graph: Graph, kind: str, x: Value, shape: tuple, p: dict[str, Any], **further: Any) -> Value:
    """A node that works on windows over all axes but the first and the last."""
    order, inner = [0, len(shape) - 1, *range(1, len(shape) - 1)], slice(1, -1)
    y = graph.node(
        kind, graph.transposed(x, order), kernel_shape=p["window_dimensions"][inner],
        strides=p["window_strides"][inner], pads=_pads(p["padding"][inner]),
        shape=[shape[i] for i in order], **further,
    )  # fmt: skip
    return graph.transposed(y, np.argsort(order).tolist())


def _pooled(graph: Graph, eqn: Any, shape: tuple, x: Value) -> Value:
    p = eqn.params
    window = p["window_dimensions"]
    if window[0] * window[-1] != 1 or {*p["base_dilation"], *p["window_dilation"]} != {1}:
        raise refused("a window over images or channels, or one with gaps")
    if eqn.primitive.name == "reduce_window_max":
        return _windowed(graph, "MaxPool", x, shape, p)
    y = _windowed(graph, "AveragePool", x, shape, p, count_include_pad=1)
    return graph.node("Mul", y, np.float32(np.prod(window)), shape=shape)


def max_pool(graph: Graph, eqn: Any, *values: Value) -> Value | None:
    """`networks.pooling.max_pool`, the maximum of slices, as the one node that it is; None for another call.

    ONNX Runtime takes 41 ms instead of 108 ms for two blocks of 32 filters on 256 images of 28 × 28.
    """
    inner = eqn.params["call_jaxpr"].jaxpr
    slices = [step.params for step in inner.eqns if step.primitive.name == "slice"]
    known = {step.primitive.name for step in inner.eqns} <= {"slice", "max", "jit"}
    if not inner.debug_info.func_name.startswith("max_pool") or not known or not slices:
        return None
    shape, before = eqn.outvars[0].aval.shape, eqn.invars[0].aval.shape
    k, step = len(slices) // 2, max(max(p["strides"] or (1,)) for p in slices)
    beyond = [max(0, (n - 1) * step + k - have) for n, have in zip(shape[1:3], before[1:3], strict=True)]
    pads = [(0, 0), *((n // 2, n - n // 2) for n in beyond), (0, 0)]
    p = {"window_dimensions": (1, k, k, 1), "window_strides": (1, step, step, 1), "padding": pads}
    return _windowed(graph, "MaxPool", graph.whole(values[0], before), shape, p)


def _padded(graph: Graph, eqn: Any, shape: tuple, x: Value, value: Value) -> Value:
    sides = eqn.params["padding_config"]
    if any(gap for *_, gap in sides):
        raise refused("padding between elements")
    return graph.node("Pad", x, _pads(sides), value, shape=shape)


def _sliced(graph: Graph, eqn: Any, shape: tuple, x: Tensor) -> Value:
    p = eqn.params
    return graph.cut(x, p["start_indices"], p["limit_indices"], p["strides"] or [1] * len(shape), shape)


def _indexed(graph: Graph, eqn: Any, shape: tuple, x: Tensor, indices: Value) -> Value:
    """A gather that is x[:, 1:, 3] or x[:, ::2, ::2]: what JAX makes of it where b is open."""
    numbers, sizes = eqn.params["dimension_numbers"], eqn.params["slice_sizes"]
    axes = numbers.start_index_map
    if isinstance(x, Tensor) and isinstance(indices, np.ndarray) and indices.ndim == 1:
        places = dict(zip(axes, indices.tolist(), strict=True))
        starts = [places.get(i, 0) for i in range(len(sizes))]
        ends = [size if start == 0 else start + size for start, size in zip(starts, sizes, strict=True)]
        return graph.reshaped(graph.cut(x, starts, ends, [1] * len(sizes), sizes), shape)
    n, kept = len(axes), tuple(i for i in range(len(shape)) if i not in axes)
    in_place = (numbers.collapsed_slice_dims, numbers.offset_dims) == (axes, kept)
    if isinstance(indices, np.ndarray) and in_place:
        lines = [indices[(*[0] * i, slice(None), *[0] * (n - 1 - i), i)] for i in range(n)]
        if np.array_equal(np.stack(np.meshgrid(*lines, indexing="ij"), -1), indices):
            for axis, line in zip(axes, lines, strict=True):
                x = graph.node("Gather", x, line, shape=shape, axis=axis)
            return x
    raise refused("an index by arrays")


def _reshaped(graph: Graph, eqn: Any, shape: tuple, x: Value) -> Value:
    return graph.reshaped(x, shape)


OTHERS: dict[str, Callable] = {
    "broadcast_in_dim": _broadcast,
    "concatenate": _concatenated,
    "conv_general_dilated": _convolution,
    "dot_general": _product,
    "expand_dims": _reshaped,
    "gather": _indexed,
    "pad": _padded,
    "reduce_window_max": _pooled,
    "reduce_window_sum": _pooled,
    "reshape": _reshaped,
    "slice": _sliced,
    "squeeze": _reshaped,
    "transpose": lambda graph, eqn, shape, x: graph.transposed(x, eqn.params["permutation"]),
    **{f"reduce_{kind}": _reduced for kind in ("max", "min", "prod", "sum")},
}
