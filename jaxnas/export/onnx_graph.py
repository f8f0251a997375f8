"""An ONNX graph in the making: its values, nodes and weights."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxnas.errors import InputError


class Tensor(NamedTuple):
    """What depends on the images."""

    name: str
    shape: tuple[Any, ...]  # 1 where an axis may be longer and all along it is equal: ONNX broadcasts it


Value = Tensor | np.ndarray


def refused(what: str) -> InputError:
    """For what has no translation."""
    return InputError(f"--onnx: no translation of {what} to ONNX; use model.stablehlo, which has all of JAX")


def symbolic(shape: Iterable) -> list:
    """The sizes that depend on the number of images."""
    return [size for size in shape if not isinstance(size, (int, np.integer))]


def stored(dtype: Any) -> np.dtype:
    """The type of an array in the file."""
    return np.dtype(np.float32 if dtype == jnp.bfloat16 else dtype)


class Graph:
    """Nodes and weights so far of a function of images [b, ...]."""

    def __init__(self, onnx: Any, b: Any):
        self.onnx, self.b, self.nodes = onnx, b, []
        self.turned: dict[str, tuple[Tensor, Sequence[int]]] = {}  # what is a transposition of what
        self.weights: dict[tuple, tuple[str, np.ndarray]] = {}

    def node(self, kind: str, *inputs: Any, shape: Iterable = (), output: str = "", **attributes: Any):
        """Append a node; among its inputs arrays and lists of integers become weights."""
        output = output or f"{kind}_{len(self.nodes)}"
        names = [x.name if isinstance(x, Tensor) else self._weight(x) for x in inputs]
        self.nodes.append(self.onnx.helper.make_node(kind, names, [output], **attributes))
        return Tensor(output, tuple(shape))

    def _weight(self, value: Any) -> str:
        array = np.asarray(value, np.int64) if isinstance(value, list) else np.asarray(value)
        array = array.astype(stored(array.dtype))
        key = array.dtype.str, array.shape, array.tobytes()
        return self.weights.setdefault(key, (f"weight_{len(self.weights)}", array))[0]

    def needed(self, output: str) -> tuple[list[Any], list[tuple[str, np.ndarray]]]:
        """The nodes and the weights that an output depends on."""
        names, nodes = {output}, []
        for node in reversed(self.nodes):
            if node.output[0] in names:
                names.update(node.input)
                nodes.append(node)
        return nodes[::-1], [weight for weight in self.weights.values() if weight[0] in names]

    def whole(self, x: Value, shape: tuple) -> Value:
        """With all of its elements, for a node that does not broadcast."""
        if x.shape == shape:
            return x
        if isinstance(x, np.ndarray) and not symbolic(shape):
            return np.broadcast_to(x, shape)
        sizes: Any = [1 if have == want else want for have, want in zip(x.shape, shape, strict=True)]
        if symbolic(sizes):
            batch = self.node("Slice", self.node("Shape", Tensor("images", ())), [0], [1])
            sizes = self.node("Concat", *(batch if size == self.b else [size] for size in sizes), axis=0)
        return self.node("Expand", x, sizes, shape=shape)

    def transposed(self, x: Value, order: Sequence[int]) -> Value:
        """x with its axes in that order."""
        if list(order) == [*range(len(order))] or isinstance(x, np.ndarray):
            return x if isinstance(x, Tensor) else x.transpose(order)
        source, done = self.turned.get(x.name, (x, None))
        if done is not None and [done[i] for i in order] == [*range(len(order))]:
            return source
        y = self.node("Transpose", x, shape=[x.shape[i] for i in order], perm=order)
        self.turned[y.name] = x, order
        return y

    def reshaped(self, x: Value, shape: Sequence[Any]) -> Value:
        """x with its elements in that shape."""
        if x.shape == tuple(shape) or isinstance(x, np.ndarray):
            return x if isinstance(x, Tensor) else x.reshape(shape)
        if len(symbolic(shape)) > 1:
            raise refused(f"a reshape to {tuple(shape)}")
        return self.node("Reshape", x, [-1 if symbolic([n]) else n for n in shape], shape=shape)

    def cut(self, x: Tensor, starts: Sequence, ends: Sequence, steps: Sequence, shape: Iterable) -> Tensor:
        """x[starts[0] : ends[0] : steps[0], …]."""
        sides = zip(starts, ends, steps, x.shape, strict=True)
        axes = [i for i, (a, z, step, n) in enumerate(sides) if (a, step) != (0, 1) or z != n]
        if symbolic(ends[i] for i in axes):
            raise refused("a choice of images")
        first, last, step = ([int(of[i]) for i in axes] for of in (starts, ends, steps))
        return self.node("Slice", x, first, last, axes, step, shape=shape) if axes else x

    def element(self, x: Value, i: int) -> Value:
        """x[i]."""
        if isinstance(x, np.ndarray):
            return x[i]
        return self.node("Gather", x, np.asarray(i), shape=x.shape[1:], axis=0)
