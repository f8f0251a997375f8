"""Who proposes. A new controller is one file and a line each in REGISTRY and EXAMPLES."""

from jaxnas.controllers.a2c import a2c
from jaxnas.controllers.distinct import distinct
from jaxnas.controllers.double_q import double_q
from jaxnas.controllers.dqn import dqn
from jaxnas.controllers.evolution import evolution
from jaxnas.controllers.local_search import local_search
from jaxnas.controllers.ppo import ppo
from jaxnas.controllers.priority_queue import priority_queue
from jaxnas.controllers.q_learning import q_learning
from jaxnas.controllers.random import random
from jaxnas.controllers.reinforce import reinforce
from jaxnas.controllers.sarsa import sarsa

REGISTRY = {
    "a2c": a2c,
    "double_q": double_q,
    "dqn": dqn,
    "evolution": evolution,
    "local_search": local_search,
    "ppo": ppo,
    "priority_queue": priority_queue,
    "q_learning": q_learning,
    "random": random,
    "reinforce": reinforce,
    "sarsa": sarsa,
}

# Options that make a small controller of each: the checks of jaxnas.testing run on it.
EXAMPLES = {
    "a2c": {"batch_size": 4, "units": 8},
    "double_q": {"batch_size": 4},
    "dqn": {"batch_size": 4, "units": 8},
    "evolution": {"batch_size": 4},
    "local_search": {"batch_size": 4},
    "ppo": {"batch_size": 4, "units": 8},
    "priority_queue": {"batch_size": 4},
    "q_learning": {"batch_size": 4},
    "random": {"batch_size": 4},
    "reinforce": {"batch_size": 4, "units": 8},
    "sarsa": {"batch_size": 4},
}

__all__ = [
    "EXAMPLES", "REGISTRY", "a2c", "distinct", "double_q", "dqn", "evolution", "local_search", "ppo",
    "priority_queue", "q_learning", "random", "reinforce", "sarsa",
]  # fmt: skip
