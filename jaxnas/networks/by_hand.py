"""A network as one would write it by hand: a small residual network, whatever the space.

The ResNet-8 of Banbury et al. 2021, "MLPerf Tiny benchmark", https://arxiv.org/abs/2106.07597, after He et
al. 2016, https://arxiv.org/abs/1512.03385: a stem of 16 channels, then three residual stages of 16, 32 and
64; two stages for images below 16 pixels.
"""

from typing import NamedTuple

import numpy as np

from jaxnas import spaces
from jaxnas.networks.stages import stages
from jaxnas.types import Network

STEM, WIDTHS = 16, (16, 32, 64)


class ByHand(NamedTuple):
    """The network, and the one architecture that it has."""

    network: Network
    arch: np.ndarray  # int32 [T]
    architecture: str


def by_hand(image_shape: tuple[int, int, int], num_outputs: int) -> ByHand:
    """The network for images of (H, W, C), with an output a class or target."""
    pixels = min(image_shape[:2])
    number = min(2 if pixels < 16 else 3, pixels.bit_length() - 1)
    space = spaces.stages(
        image_shape, num_outputs, stem=(STEM,), stages=number, min_stages=number, blocks=("residual",),
        widths=WIDTHS, kernels=(3,), repeats=(1,), attention=(False,),
    )  # fmt: skip
    residual = (f"residual({width},3)" for width in WIDTHS[:number])
    architecture = " - ".join([f"stem({STEM})", *residual, "GAP()", "SM()"])
    network = stages(space, image_shape, num_outputs)
    return ByHand(network, space.parse(architecture), architecture)
