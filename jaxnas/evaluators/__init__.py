"""Who measures. A new evaluator is one file and one line here; the contract suite tests it unasked."""

from jaxnas.evaluators.constraints import constrain
from jaxnas.evaluators.mock import mock
from jaxnas.evaluators.reuse import reuse
from jaxnas.evaluators.table import table
from jaxnas.evaluators.trained import trained

REGISTRY = {"mock": mock, "table": table, "trained": trained}

__all__ = ["REGISTRY", "constrain", "mock", "reuse", "table", "trained"]
