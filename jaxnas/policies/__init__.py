"""Stochastic policies over a space: logits from an LSTM, dense layers or a free table, masked.

A policy gives logits one decision at a time, so that the same functions, `sample`, `trajectory` and
`unroll`, serve every policy. With `critic` it also values the walk so far.
"""

from jaxnas.errors import unknown
from jaxnas.policies.dense import dense
from jaxnas.policies.free_logits import free_logits, shares
from jaxnas.policies.lstm import LSTMParams, lstm
from jaxnas.policies.policy import Policy, Trajectory, Unrolled, greedy, sample, trajectory, unroll
from jaxnas.types import Space

__all__ = [
    "LSTMParams", "Policy", "Trajectory", "Unrolled", "dense", "free_logits", "greedy", "lstm", "make",
    "sample", "shares", "trajectory", "unroll",
]  # fmt: skip


def make(name: str, space: Space, *, units: int, feedback: bool = True, critic: bool = False) -> Policy:
    """The policy of that name, for the controllers that take `policy` as an option."""
    if name == "lstm":
        return lstm(space, units=units, feedback=feedback, critic=critic)
    if name == "dense":
        return dense(space, units=units, critic=critic)
    if name == "free_logits":
        return free_logits(space, critic=critic)
    raise unknown("controller.policy", name, ("lstm", "dense", "free_logits"))
