"""A round is planned without compiling: who shares a program, who is refused, what runs first."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.errors import InputError
from jaxnas.training import plan
from jaxnas.types import NO_LEGAL_SHAPE, OK, REJECTED, Network

INPUTS = 4
EXAMPLES = 2 * 3 * 16  # of a training: passes × steps × batch


class Trainer(NamedTuple):
    """What planning asks of a trainer."""

    passes: int = 2
    steps: int = 3
    batch_size: int = 16
    rates: dict = {"learning_rate": np.float32(0.1)}  # noqa: RUF012


def network(**functions) -> Network:
    """One dense layer: arch [width, knob], params = 4 · width, flops = 8 · width; none of width 0."""

    def make(arch):
        if arch[0] == 0:
            raise InputError("no layer has width 0")
        return int(arch[0]), {"knob": np.float32(arch[1])}

    return Network(
        plan=make,
        init=lambda key, structure, knobs: {"kernel": jnp.zeros((INPUTS, structure))},
        apply=lambda params, structure, knobs, inputs, key: inputs @ params["kernel"],
        **functions,
    )


def settings(of=None, **changes) -> plan.Settings:
    usual = plan.Settings(
        network=of or network(), input_shape=(INPUTS,), trainer_of=lambda chosen: Trainer(), limits={},
        repeats=1, group_size=8, pads=False, compile_gflops=50.0, sizes={},
    )  # fmt: skip
    return usual._replace(**changes)


def planned(widths, of=None, **changes) -> plan.Plan:
    return plan.plan(settings(of, **changes), np.array([[w, i] for i, w in enumerate(widths)], np.int32))


def lanes(round_: plan.Plan) -> list:
    return [(job.group.structure, [child.lane for child in job.children]) for job in round_.jobs]


@pytest.fixture(autouse=True)
def compiles_nothing():
    """Every test of this file fails if it compiles a program."""
    jax.random.key(0)  # sizes are counted with a key, and JAX compiles how it makes the first one
    compiled = []

    def listen(event, seconds, **_):
        if "backend_compile" in event:
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield compiled
    jax.monitoring.unregister_event_duration_listener(listen)
    assert compiled == []


def test_a_compilation_would_be_noticed(compiles_nothing):
    jax.jit(lambda x: x * 3 + 7)(np.float32(1))
    assert compiles_nothing
    compiles_nothing.clear()


def test_children_of_a_structure_share_a_program():
    round_ = planned([2, 3, 2, 3, 2])
    assert lanes(round_) == [(2, [0, 2, 4]), (3, [1, 3])]  # 3 · 8 parameters, and 2 · 12: as they came
    knobs = [float(child.knobs["network"]["knob"]) for child in round_.jobs[0].children]
    assert knobs == [0, 2, 4]
    assert round_.jobs[0].children[0].knobs["learning_rate"] == np.float32(0.1)
    assert round_.sizes["params"].tolist() == [8, 12, 8, 12, 8]
    assert round_.sizes["flops"].tolist() == [16, 24, 16, 24, 16]
    assert (round_.status == OK).all()
    assert round_.padded == {}


def test_the_largest_job_is_first():
    assert lanes(planned([1, 5, 2, 2, 2, 1])) == [(2, [2, 3, 4]), (5, [1]), (1, [0, 5])]


def test_the_size_of_a_group_cuts_it():
    assert lanes(planned([2] * 5, group_size=2)) == [(2, [0, 1]), (2, [2, 3]), (2, [4])]


def test_repeats_are_children_of_their_lane():
    (job,) = planned([2, 2], repeats=2).jobs
    assert [(child.lane, child.repeat) for child in job.children] == [(0, 0), (0, 1), (1, 0), (1, 1)]


@pytest.mark.parametrize("limits", [{"params": 8}, {"flops": 23}])
def test_a_limit_rejects(limits):
    round_ = planned([2, 3, 0], limits=limits)
    assert round_.status.tolist() == [OK, REJECTED, NO_LEGAL_SHAPE]
    assert lanes(round_) == [(2, [0])]
    np.testing.assert_array_equal(round_.sizes["params"], [8, 12, np.nan])


def widening() -> Network:
    return network(
        widen=lambda structure: iter((4, 8)),
        pad=lambda structure, knobs: {**knobs, "width": np.int32(structure)},
    )


@pytest.mark.parametrize(
    ("width", "least", "structure"),
    [
        (2, 16, 4),  # 16 more operations for one input
        (2, 48, 8),
        (3, 8, 4),
        (3, 40, 8),
    ],
)
def test_a_structure_is_widened_as_far_as_a_compilation_is_worth(width, least, structure):
    # Forward once and backward twice as much, for every example.
    worth = 3 * least * EXAMPLES / 1e9
    enough = planned([width], widening(), pads=True, compile_gflops=worth * 1.001)
    assert lanes(enough) == [(structure, [0])]
    assert enough.padded == {0: width}
    assert enough.jobs[0].children[0].knobs["network"]["width"] == width
    assert enough.sizes["params"].tolist() == [4 * width]  # its own
    ((narrower, _),) = lanes(planned([width], widening(), pads=True, compile_gflops=worth * 0.999))
    assert narrower < structure


def test_widened_structures_share_a_program():
    assert lanes(planned([2, 3, 4], widening(), pads=True)) == [(8, [0, 1, 2])]
    assert len(planned([2, 3, 4], widening(), pads=False).jobs) == 3


def test_what_an_architecture_chooses_of_its_trainer():
    """Rates are knobs; the other options cut groups."""
    chooses = network(
        trainer_options=lambda arch: {"learning_rate": arch[1] / 2, "batch_size": 16 * (1 + int(arch[1] > 1))}
    )
    jobs = planned([2, 2, 2], chooses).jobs
    assert [job.group.chosen for job in jobs] == [(("batch_size", 16),), (("batch_size", 32),)]
    rates = [[float(child.knobs["learning_rate"]) for child in job.children] for job in jobs]
    assert rates == [[0, 0.5], [1]]


def test_sizes_are_counted_once_and_not_all_remembered(monkeypatch):
    monkeypatch.setattr(plan, "REMEMBERED", 2)
    asked = settings()
    plan.plan(asked, np.array([[1, 0], [2, 0], [3, 0]], np.int32))
    assert asked.sizes == {2: {"params": 8, "flops": 16}, 3: {"params": 12, "flops": 24}}
