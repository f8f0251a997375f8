"""When an evaluator is closed."""

import contextlib

import pytest

from jaxnas import evaluators
from jaxnas.errors import InputError
from jaxnas.types import Evaluator


def make(closed: list) -> Evaluator:
    """One that measures nothing, and adds to `closed` when it is closed."""
    return Evaluator(
        init=lambda key: key,
        evaluate=lambda keys, state, arch: (state, {}),
        measures=(),
        jittable=False,
        close=lambda: closed.append(1),
    )


@pytest.mark.parametrize(
    ("block", "after_success", "after_error"),
    [(evaluators.closing, 1, 1), (evaluators.closing_after_error, 0, 1)],
)
@pytest.mark.parametrize("error", [InputError("wrong"), KeyboardInterrupt()])
def test_an_evaluator_is_closed_once(block, after_success, after_error, error):
    for raises, expected in ((False, after_success), (True, after_error)):
        closed = []
        evaluator = make(closed)
        with contextlib.suppress(InputError, KeyboardInterrupt), block(evaluator):
            if raises:
                raise error
        assert len(closed) == expected
