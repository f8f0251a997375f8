"""The space of Mini-MetaQNN: a network of at most eight layers, each action a layer and a terminal flag.

Sivaramakrishnan, Srivastava, Joshi & Bhattacharya, "Building Neural Networks using Deep Reinforcement
Learning", https://github.com/eshwarprasadS/Deep_RL_For_CNN. `seven` is its other face, the tuples of
seven numbers that its Gym environment exchanges.

Suits comparisons of reinforcement learning methods, in jaxnas or as a Gymnasium environment.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np

from jaxnas.spaces import chains
from jaxnas.spaces.chains import END, Choice, Place
from jaxnas.spaces.layers import Conv, Dense, Layer, Pool
from jaxnas.types import Space

KINDS = (Conv, Pool, Dense)
PRESETS = {"mnist3": 28, "cifar5": 32, "cifar10": 32}  # image sizes
PADDING = Choice(None, False)


class Settings(NamedTuple):
    """What the space's network and its other face need."""

    image_size: int
    depth: int
    filters: tuple[int, ...]
    kernel: tuple[int, ...]
    pool: tuple[tuple[int, ...], ...]
    dense: tuple[int, ...]
    choices: tuple[Choice, ...]  # [A]


class Seven(NamedTuple):
    """The space in tuples of seven numbers, as numpy arrays on the host; N is the sum of `sizes`.

    An action is (layer type, depth, filters, kernel, units, terminal, pool): 0 convolution, 1 pooling,
    2 fully connected; then indices into the lists of values, from 1, where 0 is none. In a state, which
    describes the last layer, the sixth number says that there is none yet.
    """

    sizes: tuple[int, ...]  # how many values each of the seven has
    state: Callable  # (last choice, depth) → int64 [7]
    masks: Callable  # (legal bool [A], depth) → bool [N]: the legal values of each number by itself
    choice: Callable  # (legal bool [A], depth, action [7]) → the choice, or None where it is illegal


def cnn_mdp(
    *,
    preset: Literal["mnist3", "cifar5", "cifar10"] = "cifar5",
    image_size: int | None = None,
    depth: int = 8,
    filters: tuple[int, ...] = (10, 20, 32, 64),
    kernel: tuple[int, ...] = (1, 3, 5),
    pool: tuple[str, ...] = ("5,3", "3,2", "2,2"),
    dense: tuple[int, ...] = (512, 256, 128, 64),
    rules: Literal["text", "code"] = "text",
) -> Space:
    """One layer a decision, legal combinations of the seven numbers alone; choice 0 is padding.

    The first layer is a convolution; no pooling follows pooling; after a fully connected layer only a
    smaller one may follow, and that one is the last. Convolutions are not padded. The tabular state is the
    last layer and the depth, as in the source; masks know the image size too.

    Args:
      preset: the image size, named after the data of the experiment: MNIST's digits 0–2, CIFAR-10's
        labels 0–4, or all of CIFAR-10.
      image_size: height and width of the images, in pixels; the data must have it.
      depth: layers at most.
      filters: numbers of filters of a convolution.
      kernel: kernel widths of a convolution, in pixels.
      pool: "size,stride" of max pooling, in pixels.
      dense: units of a fully connected layer.
      rules: code, as the published code does, takes kernels and pools only below the image size, and no
        terminal flag on the first layer.

    Raises:
      InputError: an option without a value, or a value out of its range.
    """
    size = PRESETS[preset] if image_size is None else image_size
    chains.check_positive(image_size=size, depth=depth, filters=filters, kernel=kernel, dense=dense)
    pools = tuple(chains.pools(pool))
    layers: list[Layer] = [Conv(f, k, padding="valid") for k in kernel for f in filters]
    layers += [Pool(size, stride) for size, stride in pools] + [Dense(units) for units in dense]
    choices = (PADDING, *(Choice(layer, ends) for layer in layers for ends in (False, True)))
    is_code = rules == "code"

    def follow(place: Place, choice: Choice) -> Any:
        (last, size, _), (layer, ends) = place, choice
        if last is None:
            possible = isinstance(layer, Conv) and not (is_code and ends)
        elif isinstance(last, Dense):  # a smaller one may follow, and ends the network
            possible = isinstance(layer, Dense) and ends and layer.units < last.units
        elif isinstance(layer, Dense):
            possible = ends or layer.units > min(dense)
        else:
            possible = not (isinstance(last, Pool) and isinstance(layer, Pool))
        if not possible:
            return None
        if isinstance(layer, Dense):
            return END if ends else Place(layer, 1, 1)
        if not isinstance(layer, Conv | Pool) or layer.kernel + is_code > size:
            return None
        return END if ends else Place(layer, -(-(size - layer.kernel + 1) // layer.stride))

    kinds = [None, *layers]
    return chains.make(
        "cnn_mdp",
        num_steps=depth,
        choices=choices,
        start=Place(None, size),
        follow=follow,
        state=lambda place: kinds.index(place.last),
        states_a_depth=len(kinds),
        settings=Settings(size, depth, tuple(filters), tuple(kernel), pools, tuple(dense), choices),
    )


def seven(space: Space) -> Seven:
    """The seven-dimensional face of a space that `cnn_mdp` made."""
    _, depth_limit, filters, kernel, pool, dense, choices = space.settings

    def numbers(choice: Choice) -> list[int]:
        layer = choice.layer
        if layer is None:
            return [0] * 7
        f, k, units, p = 0, 0, 0, 0
        if isinstance(layer, Conv):
            f, k = filters.index(layer.filters) + 1, kernel.index(layer.kernel) + 1
        elif isinstance(layer, Pool):
            p = pool.index((layer.kernel, layer.stride)) + 1
        elif isinstance(layer, Dense):
            units = dense.index(layer.units) + 1
        return [KINDS.index(type(layer)), 0, f, k, units, int(choice.ends), p]

    actions = np.array([numbers(choice) for choice in choices])  # [A, 7]; the depth is filled in below
    index = {tuple(row): i for i, row in reversed(list(enumerate(actions.tolist())))}
    sizes = (3, depth_limit + 1, len(filters) + 1, len(kernel) + 1, len(dense) + 1, 2, len(pool) + 1)
    relevant = np.array([[1, 0, 1, 1, 0, 1, 0], [1, 0, 0, 0, 0, 1, 1], [1, 0, 0, 0, 1, 1, 0]])

    def state(last: int, depth: int) -> np.ndarray:
        row = actions[last].copy()
        row[[1, 5]] = depth, depth == 0
        return row

    def masks(legal: np.ndarray, depth: int) -> np.ndarray:
        rows = actions[np.asarray(legal)]
        allowed = [np.bincount(rows[:, i], minlength=size) > 0 for i, size in enumerate(sizes)]
        allowed[1] = np.arange(sizes[1]) == min(depth + 1, depth_limit)
        for i in (2, 3, 4, 6):  # none, only where nothing else is possible
            allowed[i][0] = not allowed[i][1:].any()
        return np.concatenate(allowed)

    def choice(legal: np.ndarray, depth: int, action: Any) -> int | None:
        action = np.asarray(action)
        if action[1] != depth + 1:
            return None
        row = action * relevant[action[0]]
        for ends in (row[5], 1):  # where nothing could follow, the network ends
            row[5] = ends
            number = index.get(tuple(row.tolist()), 0)
            if legal[number]:
                return number
        return None

    return Seven(sizes, state, masks, choice)
