"""What every controller promises, for every registry entry over spaces of fixed and variable depth."""

import pytest

from jaxnas import testing
from jaxnas.controllers import EXAMPLES, REGISTRY
from tests.helpers import SPACES

B = 4
# Options beside those of the example, where they change what a controller computes.
VARIANTS = {
    "expected_sarsa": ("sarsa", {"expected": True, "replays": 3}),
    "q_learning_without_replay": ("q_learning", {"replays": 0, "epsilon": (0.5,), "epsilon_networks": (1,)}),
    "reinforce_one_step": ("reinforce", {"feedback": False, "baseline": "none", "entropy_weight": 0.1}),
    "a2c_free_logits": (
        "a2c",
        {"policy": "free_logits", "normalize_advantage": True, "entropy_weight": 0.1, "gae_lambda": 0.9},
    ),
    "ppo_rollout": ("ppo", {"policy": "free_logits", "rollout": 2 * B, "minibatch_size": 4}),
    "ppo_nasnet": ("ppo", {"policy": "free_logits", "baseline": "ema", "entropy_weight": 1e-5}),
    "dqn_double": ("dqn", {"double": True, "replay_size": 6, "max_gradient_norm": 1.0}),
    "evolution_small": ("evolution", {"population_size": 2, "sample_size": 1}),
    "local_search_patience": ("local_search", {"patience": 3}),
    "priority_queue_lstm": (
        "priority_queue",
        {"policy": "lstm", "queue_size": 6, "updates": 2, "policy_gradient_weight": 1.0},
    ),
    "reinforce_free_logits": (
        "reinforce",
        {
            "policy": "free_logits",
            "baseline": "max_of_means",
            "temperature": 5.0,
            "temperature_decay": 0.99,
            "max_gradient_norm": 0.3,
        },
    ),
    "reinforce_dense": (
        "reinforce",
        {
            "policy": "dense",
            "baseline": "max_of_means",
            "temperature": 5.0,
            "temperature_decay": 0.995,
            "temperature_floor": 1.0,
            "max_tensor_norm": 0.3,
            "skip_below": 0.05,
            "off_policy": True,
        },
    ),
    "ppo_dense": ("ppo", {"policy": "dense"}),
}


def test_every_controller_has_an_example():
    assert set(EXAMPLES) == set(REGISTRY)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_of(name):
    space = SPACES["chain"]()
    testing.check_controller(REGISTRY[name](space, **EXAMPLES[name]), space)


@pytest.mark.parametrize("name", ["evolution", "q_learning", "reinforce"])
def test_a_space_of_fixed_depth_with_rules(name):
    space = SPACES["two_blocks"]()
    testing.check_controller(REGISTRY[name](space, **EXAMPLES[name]), space)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant(variant):
    name, options = VARIANTS[variant]
    space = SPACES["chain"]()
    testing.check_controller(REGISTRY[name](space, **EXAMPLES[name] | options), space)
