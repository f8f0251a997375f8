"""The space `cnn`: rules as masks, each group of decisions switched on by its option, notation."""

import itertools

import jax
import numpy as np
import pytest

from jaxnas import masks
from jaxnas.errors import InputError
from jaxnas.spaces import cnn
from jaxnas.spaces.layers import Conv, Dense, Setting, Softmax
from tests.helpers import random_archs

EVERYTHING = {
    "image_size": 8, "max_depth": 4, "max_fc": 2, "filters": (4, 8), "kernel": (1, 3), "stride": (1, 2),
    "padding": ("same", "valid"), "pool": ("2,2", "3,2"), "consecutive_pool": True, "dense": (8, 16),
    "global_pool": True, "activation": ("relu", "gelu", "silu", "none"), "norm": ("none", "batch", "layer"),
    "attention": ("none", "se", "self"), "skip": (0, 1, 2), "dropout": (0.0, 0.25),
    "learning_rate": (0.01, 0.001), "batch_size": (8, 16), "optimizer": ("adam", "sgd"),
    "weight_decay": (0.0, 1e-4),
}  # fmt: skip
SMALL = {"image_size": 4, "max_depth": 2, "filters": (4,), "kernel": (1, 3), "dense": (8,)}


def legal(space, text):
    """Whether the rules allow that architecture."""
    try:
        space.parse(text)
    except InputError as error:
        assert "forbid" in str(error), error
        return False
    return True


@pytest.mark.parametrize("options", [{}, SMALL, EVERYTHING], ids=["default", "small", "everything"])
def test_walks_are_legal_and_parse_back(options):
    space = cnn(**options)
    archs = random_archs(space, 10_000)
    masks.check(space, archs)
    for arch in archs[:300]:
        np.testing.assert_array_equal(space.parse(space.describe(arch)), arch)


def test_the_size_is_that_of_brute_force():
    space = cnn(**SMALL, skip=(0, 1), global_pool=True)
    every = np.array(list(itertools.product(range(space.num_choices), repeat=4)), np.int32)
    rest = space.num_steps - 4
    assert rest == 4  # kind, width, kernel, skip: two layers
    tails = np.array(list(itertools.product(range(space.num_choices), repeat=rest)), np.int32)
    walk = jax.jit(jax.vmap(lambda arch: masks.walk(space, arch)))

    def right(archs):
        found = walk(archs)
        taken = np.take_along_axis(np.asarray(found.legal), archs[..., None], axis=-1)[..., 0]
        return taken.all(axis=1)

    count = 0
    padded = np.concatenate([every, np.zeros_like(every)], axis=1)
    for head in every[np.array([h[0] == 1 and h[1] == 0 for h in every])]:
        count += int(right(np.concatenate([np.tile(head, (len(tails), 1)), tails], axis=1)).sum())
    assert not right(padded[padded[:, 0] != 1]).any()  # a network begins with a convolution
    assert count == space.size


def test_the_rules():
    space = cnn(image_size=8, max_depth=4, max_fc=1, pool=("2,2", "3,2"), kernel=(1, 3, 5), filters=(16,))
    c, fc = "C(16,3,1)", "FC(128)"
    assert legal(space, f"{c} - SM()")
    assert not legal(space, f"P(2,2) - {c} - SM()")  # the first layer is a convolution
    assert not legal(space, f"{fc} - SM()")
    assert not legal(space, f"{c} - P(2,2) - P(2,2) - SM()")
    assert legal(cnn(image_size=8, consecutive_pool=True), f"{c} - P(2,2) - P(2,2) - SM()")
    assert not legal(space, f"{c} - {fc} - {fc} - SM()")  # max_fc
    assert not legal(space, f"{c} - {fc} - {c} - SM()")  # flat
    assert not legal(space, f"{c} - P(2,2) - C(16,5,1) - SM()")  # 5 × 5 on 4 × 4 pixels
    assert legal(space, f"{c} - P(3,2) - C(16,3,1) - SM()")  # (8 − 3 + 1) / 2 = 3 pixels
    with pytest.raises(InputError, match="GAP"):
        space.parse(f"{c} - GAP() - SM()")
    pooled = cnn(image_size=8, global_pool=True)
    assert legal(pooled, f"{c} - GAP() - {fc} - SM()")
    assert not legal(pooled, f"{c} - GAP() - {c} - SM()")
    assert not legal(pooled, f"{c} - GAP() - GAP() - SM()")


def test_skips_and_self_attention_need_fitting_sizes():
    space = cnn(image_size=8, skip=(0, 1, 2), max_depth=4)
    c, back = "C(16,3,1)", "C(32,3,1)"
    assert not legal(space, f"{c}+skip1 - SM()")  # nothing before it
    assert legal(space, f"{c} - {back}+skip1 - SM()")
    assert not legal(space, f"{c} - {back}+skip2 - SM()")
    assert legal(space, f"{c} - {c} - {back}+skip2 - SM()")
    assert not legal(space, f"{c} - P(2,2) - {back}+skip2 - SM()")  # 8 pixels do not add to 4
    assert legal(space, f"{c} - P(2,2) - {back}+skip1 - SM()")
    strided = cnn(image_size=8, skip=(0, 1), stride=(1, 2))
    assert not legal(strided, f"{c} - C(16,3,2)+skip1 - SM()")
    attending = cnn(image_size=32, attention=("none", "self"))
    assert not legal(attending, f"{c}+self-attention - SM()")
    assert legal(attending, f"{c} - P(2,2) - {c}+self-attention - SM()")


def test_strides_and_padding():
    space = cnn(image_size=5, kernel=(1, 3), stride=(1, 2), padding=("same", "valid"), max_depth=3)
    assert not legal(space, "C(16,1,2) - SM()")  # a stride above the kernel leaves pixels out
    assert legal(space, "C(16,3,2)+valid - P(2,2) - SM()")  # 2 × 2 pixels are left
    assert not legal(space, "C(16,3,2)+valid - C(16,3,1) - SM()")
    assert legal(space, "C(16,3,2) - C(16,3,1) - SM()")  # 3 × 3


def test_a_group_is_switched_on_by_its_values():
    assert cnn().decisions[:6] == ("kind_1", "width_1", "kernel_1", "kind_2", "width_2", "kernel_2")
    assert cnn(activation=("gelu",), dropout=(0.2,)).decisions == cnn().decisions
    on = cnn(max_depth=1, activation=("relu", "gelu"), learning_rate=(0.1, 0.01))
    assert on.decisions == ("learning_rate", "kind_1", "width_1", "kernel_1", "activation_1")
    assert cnn(max_depth=1).size == 9  # filters × kernels
    assert on.size == 2 * 9 * 2


def test_the_notation():
    space = cnn(**EVERYTHING)
    text = (
        "learning_rate=0.001 - batch_size=8 - optimizer=sgd - weight_decay=0.0001 - "
        "C(8,3,2)+valid+gelu+batch-norm+se-attention+drop0.25 - C(4,1,1)+no-activation+skip1 - FC(16) - SM()"
    )
    assert space.describe(space.parse(text)) == text
    assert space.layers(space.parse(text)) == (
        *(Setting("learning_rate", 0.001), Setting("batch_size", 8)),
        *(Setting("optimizer", "sgd"), Setting("weight_decay", 0.0001)),
        Conv(8, 3, 2, "valid", "gelu", "batch", "se", 0, 0.25),
        Conv(4, 1, 1, activation="none", skip=1),
        Dense(16),
        Softmax(),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("C(16,3,1)", r"ends with 'C\(16,3,1\)'; it takes SM\(\)"),
        ("SM()", "0 layers; space cnn takes 1 to 6"),
        ("C(16) - SM()", r"token 1 is 'C\(16\)'; it takes C\(filters,kernel,stride\)"),
        ("C(16,3,1)+gelu - SM()", "'gelu' is nothing that such a layer has"),
        ("C(17,3,1) - SM()", r"width 17; space cnn takes 16, 32, 64"),
        ("C(16,3,2) - SM()", "stride 2; space cnn takes 1"),
        ("batch_size=3 - C(16,3,1) - SM()", "token 1 is 'batch_size=3'"),
        ("P(2,2) - SM()", r"the rules of space cnn forbid 'P\(2,2\)' there"),
    ],
)
def test_what_does_not_parse(text, message):
    with pytest.raises(InputError, match=message):
        cnn().parse(text)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"activation": ("tanh",)}, r"space\.activation: got .*it takes distinct values of relu"),
        ({"norm": ()}, r"space\.norm"),
        ({"skip": (1,)}, r"space\.skip.*0 among them"),
        ({"dropout": (1.0,)}, r"space\.dropout"),
        ({"max_fc": -1}, r"space\.max_fc"),
        ({"kernel": (5,), "image_size": 3}, "no choice is left"),
        ({"filters": ()}, r"space\.filters"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(InputError, match=message):
        cnn(**options)
