"""What a run's configuration says of its architectures, where it can be built again."""

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

from jaxnas.errors import InputError
from jaxnas.spaces.layers import token
from jaxnas.types import Network, Space


class Source(NamedTuple):
    """What a run's configuration says of its architectures."""

    space: Space
    network: Network | None = None  # None where nothing is trained
    image_shape: tuple[int, int, int] | None = None


def parts_of(architecture: str, source: Source | None) -> tuple[Any, ...]:
    """What the space says that an architecture is made of; nothing where there is no space to ask."""
    with contextlib.suppress(InputError):
        return source.space.layers(source.space.parse(architecture)) if source else ()
    return ()


def write_of(source: Source | None) -> Callable[[Any], str]:
    """How the space writes one of those parts."""
    return source.space.write or token if source else token
