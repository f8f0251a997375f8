"""Who proposes. A new controller is one file and one line here; the contract suite tests it unasked."""

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

__all__ = [
    "REGISTRY", "a2c", "distinct", "double_q", "dqn", "evolution", "local_search", "ppo", "priority_queue",
    "q_learning", "random", "reinforce", "sarsa",
]  # fmt: skip
