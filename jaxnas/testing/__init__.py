"""Whether a part keeps its promises: one call tests a space, network, controller or evaluator of your own.

Each check returns nothing, or raises an AssertionError that says in one line which promise is broken. The
checks of jaxnas's own parts are these same calls.
"""

from jaxnas.testing.controllers import check_controller
from jaxnas.testing.evaluators import check_evaluator
from jaxnas.testing.networks import check_network
from jaxnas.testing.spaces import check_space

__all__ = ["check_controller", "check_evaluator", "check_network", "check_space"]
