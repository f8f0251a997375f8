"""A search's evaluator is closed however the search ends, and the printed times add up."""

import re

import jax
import numpy as np
import pytest

from jaxnas import config
from jaxnas.commands import execution, progress, start
from jaxnas.runs import process

TOML = """
[search]
budget = 8
twin = true
[space]
name = "blocks"
[controller]
name = "random"
batch_size = 4
[evaluator]
name = "mock"
"""


def planned(tmp_path, evaluate=None):
    """The arguments of `execution.execute`, and how often the evaluator was closed."""
    (tmp_path / "a.toml").write_text(TOML)
    settings = config.load(tmp_path / "a.toml")
    closed, counts = [], {"children": 0, "programs": 1, "training_seconds": 0.0, "evaluate_seconds": 0.0}
    counts |= {"waited_seconds": 0.0}
    parts = config.build(settings)
    formula = parts.evaluator.evaluate

    def counted(keys, state, arch):
        counts["children"] += len(arch)
        counts["programs"] += 1
        return jax.tree.map(np.asarray, formula(keys, state, arch))

    evaluator = parts.evaluator._replace(
        close=lambda: closed.append(1),
        stats=lambda: dict(counts),
        jittable=False,
        evaluate=evaluate or counted,
    )
    parts = parts._replace(evaluator=evaluator)
    settings, searches = start.searches_of(settings, parts)
    folder = tmp_path / "run"
    for search in searches:
        (folder / search.folder).mkdir(parents=True)
    return (settings, searches, folder, parts), closed


def test_the_evaluator_is_closed_and_the_twin_has_counters_of_its_own(tmp_path, capsys):
    arguments, closed = planned(tmp_path)
    spent = execution.execute(*arguments)
    assert closed == [1]
    assert list(spent) == ["search", "twin"]
    assert re.findall(r"(\d+) children trained", capsys.readouterr().out) == ["8", "8"]
    for name in ("run", "run/twin"):
        header, *rows = (tmp_path / name / "timings.csv").read_text().splitlines()
        assert header.split(",")[:4] == ["round", "rounds", "seconds", "children"]
        assert [row.split(",")[3] for row in rows] == ["4", "8"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, process.Interrupted])
def test_the_evaluator_is_closed_after_an_error(tmp_path, error):
    def fails(keys, state, arch):
        raise error(2)

    arguments, closed = planned(tmp_path, fails)
    with pytest.raises(error):
        execution.execute(*arguments)
    assert closed == [1]


def test_the_parts_of_a_search_add_up():
    stats = {"training_seconds": 40.0, "waited_seconds": 7.0, "evaluate_seconds": 50.0}
    parts = progress.times(stats, 60.0)
    assert list(parts.values()) == [40.0, 7.0, 3.0, 10.0]
    assert sum(parts.values()) == 60.0
