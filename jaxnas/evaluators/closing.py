"""The end of an evaluator's use."""

import contextlib
from collections.abc import Iterator

from jaxnas.types import Evaluator


@contextlib.contextmanager
def closing(evaluator: Evaluator) -> Iterator[None]:
    """A block after which the evaluator is closed, however the block ends."""
    try:
        yield
    finally:
        evaluator.close()
