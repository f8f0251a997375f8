"""What a configuration can name is described by its module."""

import pytest

from jaxnas import config, controllers, data, evaluators, rewards, spaces
from jaxnas.config import listing
from jaxnas.controllers import q_learning
from tests.test_floors import ROOT

DESCRIBED = {
    f"{kind} {name}": factory
    for kind, registry in (
        ("controller", controllers.REGISTRY),
        ("space", spaces.REGISTRY),
        ("evaluator", evaluators.REGISTRY),
        ("data", data.REGISTRY),
    )
    for name, factory in registry.items()
}


@pytest.mark.parametrize("name", DESCRIBED)
def test_an_entry_says_what_where_and_when(name):
    about = listing.entry(DESCRIBED[name])
    assert about.what.endswith((".", "?")) and about.suits.endswith(".")
    assert (ROOT.parent / about.file).is_file()
    assert about.source or not name.startswith("controller")


def test_an_entry_by_hand():
    about = listing.entry(q_learning)
    assert about.what == "Q-learning with ε-greedy exploration and experience replay, as MetaQNN does it."
    assert about.source.startswith('Watkins, "Learning from Delayed Rewards", 1989; Baker, Gupta')
    assert about.source.endswith("https://arxiv.org/abs/1611.02167, algorithms 1–3.")
    assert about.file == "jaxnas/controllers/q_learning.py"
    assert about.suits.startswith("spaces that build a network layer by layer with few states")


def test_factories_that_share_a_module_speak_for_themselves():
    about = {name: listing.entry(factory) for name, factory in rewards.REGISTRY.items()}
    assert about["accuracy"].what == "The measure itself."
    assert len({entry.what for entry in about.values()}) == len(about)


def test_lines():
    registry = {"b": controllers.random, "a": q_learning}
    assert [line.split()[0] for line in listing.lines(registry, details=False)] == ["a", "b"]
    labels = [line.split()[0] for line in listing.lines(registry, details=True)]
    assert labels[0] == "a" and labels[2:5] == ["source:", "file:", "suits:"]
    narrow = listing.lines(registry, details=True, width=60)
    assert max(map(len, narrow)) <= 60
    assert " ".join(" ".join(narrow).split()) == " ".join(
        " ".join(listing.lines(registry, details=True)).split()
    )
    for registry in config.registries().values():
        assert listing.lines(registry, details=True)
