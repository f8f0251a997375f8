"""Who measures. A new evaluator is one file and a line each in REGISTRY and EXAMPLES."""

from jaxnas.evaluators.closing import closing, closing_after_error
from jaxnas.evaluators.constraints import constrain
from jaxnas.evaluators.counters import from_now
from jaxnas.evaluators.mock import mock
from jaxnas.evaluators.reuse import reuse
from jaxnas.evaluators.table import table
from jaxnas.evaluators.trained import trained

REGISTRY = {"mock": mock, "table": table, "trained": trained}
DEFAULT = "trained"

# Options that make a quick evaluator of each: the checks of jaxnas.testing run on it.
EXAMPLES = {
    "mock": {"noise": 0.05, "failure_rate": 0.3},
    "table": {"path": "rlmednas_digits"},
    "trained": {"epochs": 1, "batch_size": 16},
}

__all__ = [
    "DEFAULT", "EXAMPLES", "REGISTRY",
    "closing", "closing_after_error", "constrain", "from_now", "mock", "reuse", "table", "trained",
]  # fmt: skip
