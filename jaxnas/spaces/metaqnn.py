"""The space of MetaQNN: networks of convolution, max pooling and fully connected layers, one at a time.

Baker, Gupta, Naik & Raskar 2017, "Designing Neural Network Architectures using Reinforcement Learning",
https://arxiv.org/abs/1611.02167: Table 1 and Section 4 (CIFAR-10, SVHN), Table A1 (MNIST). The presets
`leaves` and `leaves_published` are those of https://github.com/michelesalvucci/DLMAIRIL_RL_based_NAS.

Suits tabular controllers and networks of variable depth: one layer a decision.
"""

import dataclasses
import itertools
from fractions import Fraction
from typing import Any, Literal, NamedTuple

from jaxnas.errors import InputError
from jaxnas.spaces import chains
from jaxnas.spaces.chains import END, Choice, Place
from jaxnas.spaces.layers import Conv, Dense, GlobalPool, Layer, Pool, Softmax
from jaxnas.types import Space


class Settings(NamedTuple):
    """A preset: the space, and from `padding` on what its network takes from it."""

    image_size: int = 32
    depth: int = 18
    filters: tuple[int, ...] = (64, 128, 256, 512)
    kernel: tuple[int, ...] = (1, 3, 5)
    stride: tuple[int, ...] = (1,)
    pool: tuple[str, ...] = ("5,3", "3,2", "2,2")
    dense: tuple[int, ...] = (512, 256, 128)
    max_dense: int = 2
    dense_anywhere: bool = False
    bins: tuple[int, ...] = (8, 4)
    representation: str = "exact"
    kernel_rule: str = "paper"
    first_pool: bool = True
    global_pool: bool = True
    padding: str = "same"
    activation: str = "relu"
    dropout: str = "every_two"


_LEAVES = Settings(
    image_size=64, depth=12, pool=("2,2", "2,3", "3,2", "3,3", "5,2", "5,3"), representation="ratio"
)  # fmt: skip
PRESETS = {
    "cifar10": Settings(),
    "svhn": Settings(depth=12),
    # Table A1 draws kernels and strides from the current size; these are those of its published networks.
    "mnist": Settings(
        image_size=28, depth=15, filters=(60, 120, 240), kernel=(2, 3, 4, 5, 7), stride=(1, 2, 3),
        pool=("2,1", "3,2", "5,1", "10,4"), dense=(1000, 500, 250, 100, 50, 10), max_dense=15,
        dense_anywhere=True, bins=tuple(range(28, 1, -1)), global_pool=False, activation="elu",
        dropout="after_dense",
    ),
    "leaves": _LEAVES,
    "leaves_published": _LEAVES._replace(filters=(64, 128, 256, 521), padding="first_valid"),
}  # fmt: skip


def metaqnn(
    *,
    preset: Literal["cifar10", "svhn", "mnist", "leaves", "leaves_published"] = "cifar10",
    image_size: int | None = None,
    depth: int | None = None,
    filters: tuple[int, ...] | None = None,
    kernel: tuple[int, ...] | None = None,
    stride: tuple[int, ...] | None = None,
    pool: tuple[str, ...] | None = None,
    dense: tuple[int, ...] | None = None,
    max_dense: int | None = None,
    dense_anywhere: bool | None = None,
    bins: tuple[int, ...] | None = None,
    representation: Literal["exact", "ratio"] | None = None,
    kernel_rule: Literal["paper", "code"] | None = None,
    first_pool: bool | None = None,
    global_pool: bool | None = None,
) -> Space:
    """One layer a decision, then softmax (choice 0) or global average pooling, which end the network.

    A convolution may be followed by anything, pooling by anything but pooling, a fully connected layer
    only by one that is no wider or by softmax. The tabular state is the layer with its depth and, for
    convolution and pooling, the bin of its representation size, for fully connected layers how many
    there are in a row; masks know the size itself.

    Args:
      preset: the defaults of all other options, named after the data of the experiment.
      image_size: height and width of the images, in pixels; the data must have it.
      depth: layers at most, before the one that ends the network.
      filters: numbers of filters of a convolution.
      kernel: kernel widths of a convolution, in pixels.
      stride: strides of a convolution, in pixels; never above the kernel.
      pool: "size,stride" of max pooling, in pixels.
      dense: units of a fully connected layer.
      max_dense: fully connected layers at most.
      dense_anywhere: allow fully connected layers in the largest bin of representation sizes too.
      bins: lower bounds of all bins of representation sizes but the smallest, in pixels, falling.
      representation: exact counts pixels, ⌈(n − size + 1)/stride⌉ after pooling, and a bound belongs to
        its bin; ratio divides by the stride, and a bound belongs to the bin below.
      kernel_rule: paper allows kernels and pools up to the representation size; code, as the published
        code does, only below the lower bound of its bin, which is 1 in the smallest.
      first_pool: allow pooling as the first layer; the published code does not.
      global_pool: allow global average pooling at the end.

    Raises:
      InputError: an option without a value, or a value out of its range.
    """
    given = {name: value for name, value in locals().items() if name != "preset" and value is not None}
    settings = PRESETS[preset]._replace(**given)
    pools = _check(settings)
    image_size, bins, max_dense = settings.image_size, settings.bins, settings.max_dense
    convolutions = itertools.product(settings.kernel, settings.stride, settings.filters)
    ratio, activation = settings.representation == "ratio", settings.activation
    layers: list[Layer] = [Conv(f, k, s, activation=activation) for k, s, f in convolutions if s <= k]
    layers += [Pool(*pair, padding="same" if ratio else "valid") for pair in pools]
    layers += [Dense(units, activation) for units in settings.dense]
    last_layers = (Softmax(), GlobalPool()) if settings.global_pool else (Softmax(),)
    choices = (
        *(Choice(layer, True) for layer in last_layers),
        *(Choice(layer, False) for layer in layers),
    )

    def bin_of(size: Any) -> int:  # 0 is the largest
        inside = (size > b if ratio else size >= b for b in bins)
        return next((i for i, is_inside in enumerate(inside) if is_inside), len(bins))

    def fits(kernel: int, size: Any) -> bool:
        return kernel < (*bins, 1)[bin_of(size)] if settings.kernel_rule == "code" else kernel <= size

    def follow(place: Place, choice: Choice) -> Any:
        (last, size, dense), layer = place, choice.layer
        if isinstance(layer, Softmax) or (isinstance(layer, GlobalPool) and not dense):
            return END
        if isinstance(layer, Dense) and (dense or settings.dense_anywhere or bin_of(size) > 0):
            shrinks = not dense or not isinstance(last, Dense) or layer.units <= last.units
            return Place(layer, 1, dense + 1) if shrinks and dense < max_dense else None
        if isinstance(layer, Conv) and not dense and fits(layer.kernel, size):
            return Place(layer, Fraction(size, layer.stride) if ratio else -(-size // layer.stride))
        if isinstance(layer, Pool) and not dense and fits(layer.kernel, size):
            k, s = layer.kernel, layer.stride
            if isinstance(last, Pool) if last else not settings.first_pool:
                return None
            return Place(layer, Fraction(size, s) if ratio else -(-(size - k + 1) // s))
        return None

    spatial = [None] + [layer for layer in layers if not isinstance(layer, Dense)]
    binned: dict[Layer | None, int] = {layer: i * (len(bins) + 1) for i, layer in enumerate(spatial)}
    counted = {Dense(units, activation): i * max_dense for i, units in enumerate(settings.dense)}

    def state(place: Place) -> int:
        if place.dense and isinstance(place.last, Dense):
            return len(spatial) * (len(bins) + 1) + counted[place.last] + place.dense - 1
        return binned[place.last] + bin_of(place.size)

    space = chains.make(
        "metaqnn",
        num_steps=settings.depth + 1,
        choices=choices,
        start=Place(None, Fraction(image_size) if ratio else image_size),
        follow=follow,
        state=state,
        states_a_depth=len(spatial) * (len(bins) + 1) + len(settings.dense) * max_dense,
        settings=settings,
    )
    if settings.padding != "first_valid":
        return space
    return space._replace(layers=lambda arch: _first_valid(space.layers(arch)))


def _first_valid(layers: tuple[Any, ...]) -> tuple[Any, ...]:
    """The layers, of which the first is not padded where it is a convolution."""
    first, *others = layers
    if isinstance(first, Conv):
        first = dataclasses.replace(first, padding="valid")
    return (first, *others)


def _check(settings: Settings) -> list[tuple[int, ...]]:
    """The pools as pairs; an InputError for a value out of its range."""
    names = ("image_size", "depth", "filters", "kernel", "stride", "dense", "max_dense")
    chains.check_positive(**{name: getattr(settings, name) for name in names})
    if list(settings.bins) != sorted(set(settings.bins), reverse=True) or min(settings.bins, default=2) < 2:
        raise InputError(f"space.bins: got {settings.bins}; it takes falling bounds above 1")
    return chains.pools(settings.pool)
