"""The child network of space `cnn`: convolution, norm, activation, attention, skip and dropout a layer."""

from jaxnas.networks.layers import layers
from jaxnas.networks.metaqnn import check_size
from jaxnas.types import Network, Space


def cnn(
    space: Space, image_shape: tuple[int, int, int], num_outputs: int, *, lowering: str = "auto"
) -> Network:
    """The network of space `cnn` for images of `image_shape` (H, W, C).

    Args:
      lowering: how a convolution is computed: gemm (patches × kernel), xla, or auto (gemm on a CPU).

    Raises:
      InputError: an unknown lowering, or images of another size than the space's.
    """
    check_size(space, image_shape)
    return layers(space, image_shape, num_outputs, lowering=lowering)
