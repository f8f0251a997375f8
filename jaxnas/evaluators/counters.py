"""Counters of an evaluator that several searches share, counted for one of them."""

from jaxnas.types import Evaluator


def from_now(evaluator: Evaluator) -> Evaluator:
    """The evaluator with `stats` that begin at 0: what it has counted for others before is left out."""
    before = evaluator.stats()

    def stats() -> dict[str, float]:
        return {name: value - before.get(name, 0) for name, value in evaluator.stats().items()}

    return evaluator._replace(stats=stats)
