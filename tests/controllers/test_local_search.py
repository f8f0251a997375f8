"""Every step of a climb: neighbours, moves, local optima, restarts."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas import masks, rewards
from jaxnas.controllers import local_search
from jaxnas.errors import InputError
from jaxnas.spaces import blocks
from tests.helpers import chain, play, quick_jit

SPACE = blocks()  # three decisions of four, two and three choices: 3 + 1 + 2 neighbours
CHAIN = chain(4)
NAN = float("nan")


@functools.cache  # compiled once for all tests
def compiled(space_name, batch_size, patience):
    controller = local_search(
        {"blocks": SPACE, "chain": CHAIN}[space_name], batch_size=batch_size, patience=patience
    )
    return controller, quick_jit(controller.ask), quick_jit(controller.tell)


class Climb:
    """A search of one lane, told by hand."""

    def __init__(self, space="blocks", batch_size=1, patience=None):
        self.controller, self.asking, self.telling = compiled(space, batch_size, patience)
        self.state = self.controller.init(jax.random.key(0))
        self.round = 0

    def tell(self, score):
        """One round; `score` is a number for every lane or a function of the architecture. → [B, T]"""
        self.round += 1
        proposal = self.asking(jax.random.key(self.round), self.state)
        scores = [score(tuple(a)) if callable(score) else score for a in proposal.arch.tolist()]
        reward = jnp.zeros(proposal.arch.shape).at[:, -1].set(jnp.array(scores))
        self.state, self.metrics = self.telling(
            jax.random.key(0), self.state, proposal, rewards.outcome(reward)
        )
        return proposal.arch.tolist() if len(scores) > 1 else proposal.arch[0].tolist()

    @property
    def center(self):
        return self.state.center.tolist()


def distance(a, b):
    return sum(x != y for x, y in zip(a, b, strict=True))


def test_a_climb_by_hand():
    climb = Climb()
    start = climb.tell(0.5)
    assert (climb.center, float(climb.state.reward)) == (start, 0.5)
    worse, same, failed = climb.tell(0.4), climb.tell(0.5), climb.tell(NAN)
    assert climb.center == start  # an equal one and a failed one are no better
    assert len({tuple(a) for a in (worse, same, failed)}) == 3
    assert all(distance(a, start) == 1 for a in (worse, same, failed))
    assert int(climb.metrics["tried"]) == 3
    better = climb.tell(0.6)
    assert distance(better, start) == 1
    assert (climb.center, int(climb.metrics["tried"])) == (better, 0)
    assert distance(climb.tell(0.1), better) == 1


def test_a_local_optimum_is_where_all_neighbours_have_been_tried():
    climb = Climb()
    start = climb.tell(0.5)
    tried = []
    for n in range(1, 7):
        tried.append(tuple(climb.tell(0.4)))
        assert float(climb.metrics["ended"]) == (n == 6)
    assert len(set(tried)) == 6
    assert all(distance(a, start) == 1 for a in tried)
    assert climb.center == start  # until another one starts
    restart = climb.tell(0.1)  # worse, and yet the next center
    assert (climb.center, float(climb.state.reward)) == (restart, pytest.approx(0.1))
    assert distance(climb.tell(0.05), restart) == 1


def test_a_start_is_random_and_a_failed_one_is_drawn_again():
    climb = Climb()
    starts = {tuple(climb.tell(NAN)) for _ in range(60)}
    assert len(starts) > 20  # of 24, where a climb has 6 neighbours
    assert float(climb.state.reward) == -np.inf
    start = climb.tell(0.3)
    assert climb.center == start


def test_patience_ends_a_climb_early():
    climb = Climb(patience=2)
    climb.tell(0.5)
    assert [float(climb.tell(0.4) and climb.metrics["ended"]) for _ in range(2)] == [0.0, 1.0]


def test_a_round_moves_to_its_best():
    climb = Climb(batch_size=4)
    scores = {a: 0.1 * a[0] + 0.01 * a[2] for a in np.ndindex(4, 2, 3)}
    lanes = climb.tell(scores.get)
    assert climb.center == max(lanes, key=lambda a: scores[tuple(a)])
    for _ in range(20):
        before = climb.center
        was_starting = bool(climb.state.starting)
        lanes = climb.tell(scores.get)
        best = max(lanes, key=lambda a: scores[tuple(a)])
        if not was_starting:
            assert all(distance(a, before) == 1 for a in lanes)
            moves = scores[tuple(best)] > scores[tuple(before)]
            assert climb.center == (best if moves else before)


def test_a_late_result_marks_nothing_of_another_center():
    climb = Climb()
    climb.tell(0.5)
    late = climb.asking(jax.random.key(100), climb.state)
    climb.tell(0.6)
    state, metrics = climb.telling(jax.random.key(0), climb.state, late, rewards.outcome(jnp.zeros((1, 3))))
    assert int(metrics["tried"]) == 0
    assert state.center.tolist() == climb.center


def test_neighbours_where_depth_varies():
    climb = Climb("chain")
    walk, best = quick_jit(lambda a: masks.walk(CHAIN, a).legal), -1.0
    for _ in range(150):
        was_starting, before = bool(climb.state.starting), climb.center
        arch = climb.tell(lambda a: sum(c == 2 for c in a) / 4)
        assert walk(jnp.array(arch))[jnp.arange(4), jnp.array(arch)].all()
        if not was_starting:
            first = next(t for t in range(4) if arch[t] != before[t])
            assert arch[:first] == before[:first]
        best = max(best, float(climb.state.reward))
        if best == 1.0:
            break
    assert best == 1.0


def test_a_space_of_one_architecture_goes_on():
    space = blocks(filters=(16,), kernel=(3,), dropout=(0.1,))
    _, (arch, metrics) = play(local_search(space, batch_size=2), lambda a: jnp.ones(a.shape), 5)
    assert (np.asarray(arch) == 0).all()
    assert np.isfinite(metrics["center"]).all()


def test_the_policy_is_the_center():
    climb = Climb()
    climb.tell(0.5)
    arch, probabilities = climb.controller.policy(climb.state)
    assert arch.tolist() == climb.center
    np.testing.assert_allclose(probabilities[np.arange(3), np.array(climb.center)], 1, atol=1e-5)


@pytest.mark.parametrize("option", ["batch_size", "patience"])
def test_options_out_of_range(option):
    with pytest.raises(InputError, match=rf"^controller\.{option}: got 0; it takes 1 or more"):
        local_search(SPACE, **{option: 0})
