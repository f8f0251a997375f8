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


@contextlib.contextmanager
def closing_after_error(*evaluators: Evaluator) -> Iterator[None]:
    """A block after which the evaluators are closed only if it raises: else those who use them close them."""
    with contextlib.ExitStack() as stack:
        for evaluator in evaluators:
            stack.callback(evaluator.close)
        yield
        stack.pop_all()
