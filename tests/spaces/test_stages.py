"""The space of stages: its size, its notation, its limits, and what its networks cost."""

import jax
import numpy as np
import pytest

from jaxnas import masks, networks, spaces, training
from jaxnas.errors import InputError
from jaxnas.spaces.layers import GlobalPool, Setting, Softmax, Stage, Stem
from jaxnas.spaces.stages_parts import BLOCKS, cost_of
from jaxnas.testing.promises import quick_jit
from jaxnas.testing.spaces import follow

SHAPE = (12, 10, 2)
# A stem of 4; then conv or separable, of 4 or 6; then the same, or nothing.
SMALL = {"stem": (4,), "stages": 2, "min_stages": 1, "blocks": ("conv", "separable"), "widths": (4, 6),
         "kernels": (3,), "repeats": (1,), "attention": (False,)}  # fmt: skip


def sampled(space, count, seed=0):
    keys = jax.random.split(jax.random.key(seed), count)
    return np.asarray(quick_jit(jax.vmap(lambda key: masks.sample(key, space)))(keys))


def test_its_decisions_and_its_size_by_hand():
    space = spaces.stages(SHAPE, 3, **SMALL)
    assert space.decisions == ("stem", "block_1", "width_1", "on_2", "block_2", "width_2")
    assert space.size == 2 * 2 * (1 + 2 * 2)
    assert spaces.stages(SHAPE, 3, **SMALL, mirror=True, light=True).size == 4 * space.size
    names = spaces.stages((48, 48, 3), 4).decisions
    assert len(names) == 1 + 4 * 5 + 2 and {"on_3", "attention_4"} < set(names) and "on_2" not in names


@pytest.mark.parametrize("pixels, stages", [(2, 1), (4, 2), (8, 2), (16, 3), (32, 3), (48, 4), (96, 4)])
def test_how_many_stages_an_image_takes(pixels, stages):
    space = spaces.stages((pixels, pixels + 3, 3), 4, blocks=("conv",))
    assert space.settings.stages == stages
    assert space.settings.min_stages == -(-stages // 2)


def test_its_parts_and_their_notation():
    space = spaces.stages((48, 48, 3), 4, mirror=True)
    text = "stem(12) - conv(24,3)x2+se - inverted6(24,5) - residual(48,3) - GAP() - SM() - mirror=yes"
    arch = space.parse(text)
    assert space.describe(arch) == text
    assert space.layers(arch) == (
        Stem(12), Stage("conv", 24, 3, 2, True), Stage("inverted6", 24, 5), Stage("residual", 48, 3),
        GlobalPool(), Softmax(), Setting("mirror", "yes"),
    )  # fmt: skip
    values = space.decode(arch)
    assert [values[name] for name in ("stem", "block_2", "repeats_1", "attention_1")] == [
        12,
        "inverted6",
        2,
        "yes",
    ]
    assert (values["on_3"], values["on_4"], values["width_4"], values["mirror"]) == ("yes", "no", "", "yes")


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("stem(12) - conv(24,3) - GAP() - SM()", "2 to 4 stages"),
        ("conv(24,3) - conv(24,3) - conv(24,3) - GAP() - SM()", "expected stem"),
        ("stem(12) - conv(23,3) - conv(24,3) - GAP() - SM()", "width 23 is not one of 8, 12"),
        ("stem(12) - pool(24,3) - conv(24,3) - GAP() - SM()", "block pool is not one of conv"),
        ("stem(12) - conv(24) - conv(24,3) - GAP() - SM()", "token 2 is 'conv(24)', expected"),
        ("stem(16) - residual(48,5)x3 - residual(48,5)x3 - GAP() - SM()", "takes 60000 at most"),
    ],
)
def test_what_it_cannot_read(text, complaint):
    with pytest.raises(InputError) as error:
        spaces.stages((48, 48, 3), 4, max_params=60_000).parse(text)
    assert complaint in str(error.value)


@pytest.mark.parametrize(
    "options, complaint",
    [
        ({"stages": 4}, "space.stages: got 4; images of 12 × 10 pixels take 1 to 3"),
        ({"min_stages": 3}, "space.min_stages: got 3; it takes 1 to 2"),
        ({"blocks": ("dense",)}, "space.blocks: got"),
        ({"widths": ()}, "space.widths: got an empty list"),
        ({"max_params": 100}, "networks of this space begin at 155 parameters"),
        ({"max_flops": -1}, "space.max_flops: got -1"),
    ],
)
def test_options_that_are_refused(options, complaint):
    with pytest.raises(InputError) as error:
        spaces.stages(SHAPE, 3, **{**SMALL, **options})
    assert complaint in str(error.value)


def test_the_cost_of_a_stage_by_hand():
    space = spaces.stages(SHAPE, 3, **SMALL)
    parts = (Stem(4), Stage("inverted3", 6, 5, 1, True), GlobalPool(), Softmax())
    params, flops = cost_of(parts, space.settings)
    expand, depthwise, project = 4 * 12, 25 * 12, 12 * 6
    weights = [9 * 2 * 4, expand, depthwise, project, 6 * 1 * 2, 6 * 3]
    further = [2 * 4, 2 * 12, 2 * 12, 2 * 6, 1 + 6, 3]  # scales and shifts of the norms; biases
    pixels = [120, 30, 30, 30, 1, 1]
    assert params == sum(weights) + sum(further)
    assert flops == 2 * sum(n * p for n, p in zip(weights, pixels, strict=True))


def test_costs_are_those_that_are_counted_on_the_network():
    space = spaces.stages(SHAPE, 3, stem=(3, 4), stages=3, min_stages=1, widths=(4, 9), blocks=BLOCKS)
    network = networks.stages(space, SHAPE, 3)
    for arch in sampled(space, 5):
        structure, knobs = network.plan(arch)
        counted = (
            training.count_params(network, structure),
            training.count_flops(network, structure, knobs, SHAPE),
        )
        assert counted == cost_of(space.layers(arch), space.settings), space.describe(arch)


def test_the_masks_leave_exactly_what_is_within_the_limits():
    free = spaces.stages(SHAPE, 3, **SMALL)
    archs = masks.every(free, 100)
    assert archs is not None
    costs = np.array([cost_of(free.layers(arch), free.settings) for arch in archs])
    for limits in ((400, 0), (400, 50_000)):
        within = np.all(costs <= [most or np.inf for most in limits], axis=1)
        assert 0 < within.sum() < free.size
        space = spaces.stages(SHAPE, 3, **SMALL, max_params=limits[0], max_flops=limits[1])
        assert space.size == within.sum()
        legal = follow(space, archs).legal[:, :-1]  # [N, T, A]
        chosen = np.take_along_axis(legal, archs[:, :, None], axis=2)
        np.testing.assert_array_equal(chosen.all((1, 2)), within)


def test_limits_may_come_from_the_constraints_of_a_run():
    space = spaces.stages(SHAPE, 3, {"params": 400.0, "flops": 10**9}, **SMALL, max_params=500)
    assert (space.settings.max_params, space.settings.max_flops) == (400, 10**9)


def test_large_networks_do_not_overflow():
    space = spaces.stages(
        (224, 224, 3), 1000, widths=(8, 512), kernels=(5,), blocks=("conv",), max_flops=10**9
    )
    for arch in sampled(space, 16):
        assert cost_of(space.layers(arch), space.settings)[1] <= 10**9
