"""A space with typed layers: two convolutions, the second no wider, then pooling or a dense layer."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas import InputError
from jaxnas.spaces import layers
from jaxnas.spaces.layers import Conv, Dense, GlobalPool, Pool, Softmax
from jaxnas.types import Space


class Walk(NamedTuple):
    """How many decisions were taken, and the last of them."""

    depth: jax.Array  # int32 []
    last: jax.Array  # int32 []


def tapered(*, filters: tuple[int, ...] = (8, 4), units: int = 6) -> Space:
    """Two widths and a head.

    Args:
      filters: widths of a convolution, the widest first.
      units: of the dense layer.
    """
    A = max(2, len(filters))

    def mask(walk):
        choice = jnp.arange(A)
        fits = (choice < len(filters)) & (choice >= walk.last)
        return jnp.where(walk.depth < 2, fits, jnp.where(walk.depth == 2, choice < 2, choice == 0))

    def parts(arch):
        first, second, head = (int(choice) for choice in arch)
        end = (GlobalPool(),) if head == 0 else (Dense(units),)
        return (Conv(filters[first], 3), Pool(2, 2), Conv(filters[second], 3), *end, Softmax())

    def describe(arch):
        return layers.notation(parts(arch))

    every = [
        np.array([a, b, head], np.int32)
        for a in range(len(filters))
        for b in range(a, len(filters))
        for head in (0, 1)
    ]

    def parse(text):
        for arch in every:
            if describe(arch) == text:
                return arch
        raise InputError(f"architecture {text!r}: it takes one such as {describe(every[0])}")

    return Space(
        name="tapered",
        num_steps=3,
        num_choices=A,
        decisions=("first", "second", "head"),
        start=Walk(jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32)),
        step=lambda walk, choice: Walk(walk.depth + 1, choice.astype(jnp.int32)),
        mask=mask,
        done=lambda walk: walk.depth >= 3,
        num_states=4 * A,
        state=lambda walk: jnp.minimum(walk.depth, 3) * A + walk.last,
        observe=lambda walk: jnp.stack([walk.depth, walk.last]).astype(jnp.float32),
        decode=lambda arch: {
            "first": filters[arch[0]],
            "second": filters[arch[1]],
            "head": ("pool", "dense")[arch[2]],
        },
        describe=describe,
        parse=parse,
        size=len(every),
        layers=parts,
    )
