"""What the layers of a network contribute to its `model.py`."""

from typing import NamedTuple


class Body(NamedTuple):
    """Python text."""

    helpers: str  # before the model
    lines: list[str]  # of `__call__`, from images x to logits x
    collects: bool  # whether there are statistics of batches among the weights
    load: str = 'params = unflatten_dict(load_file(path), sep="/")'
