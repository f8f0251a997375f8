"""Training a child network: its task, its trainer, what it costs, and the programs that do it."""

from jaxnas.training.child import Carry, Fitted
from jaxnas.training.counting import count_flops, count_params
from jaxnas.training.trainer import RECIPES, Trainer, make, options_of

__all__ = [
    "RECIPES", "Carry", "Fitted", "Trainer", "count_flops", "count_params", "make", "options_of",
]  # fmt: skip
