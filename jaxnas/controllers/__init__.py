"""Who proposes. A new controller is one file and one line here; the contract suite tests it unasked."""

from jaxnas.controllers.random import random
from jaxnas.controllers.reinforce import reinforce

REGISTRY = {"random": random, "reinforce": reinforce}

__all__ = ["REGISTRY", "random", "reinforce"]
