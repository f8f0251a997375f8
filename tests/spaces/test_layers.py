"""The parts of architectures of every space, by hand, and the notation that follows from them."""

import pytest

from jaxnas import spaces
from jaxnas.errors import InputError
from jaxnas.spaces import layers
from jaxnas.spaces.layers import (
    Block,
    Cell,
    Conv,
    Dense,
    Dropout,
    GlobalPool,
    Pool,
    Setting,
    Softmax,
    Stage,
    Stem,
    notation,
    read,
    token,
)  # fmt: skip

LINEAR = Conv(10, 3, padding="valid")
KNOWN = {  # space, notation, its parts
    "blocks": (
        spaces.blocks(num_blocks=2),
        "C(16,3) P(2,2) D(0.1) C(128,5) P(2,2) D(0.5) SM",
        (Conv(16, 3), Pool(2, 2), Dropout(0.1), Conv(128, 5), Pool(2, 2), Dropout(0.5), Softmax()),
    ),
    "cnn": (
        spaces.cnn(image_size=8, skip=(0, 1), norm=("batch", "none"), optimizer=("adam",)),
        "C(16,3,1) - C(32,3,1)+no-norm+skip1 - P(2,2) - FC(128) - SM()",
        (
            Setting("optimizer", "adam"),  # no decision, so the notation is silent on it
            Conv(16, 3, norm="batch"),
            Conv(32, 3, skip=1),
            Pool(2, 2),
            Dense(128, norm="batch"),
            Softmax(),
        ),
    ),
    "cnn_mdp": (
        spaces.cnn_mdp(),
        "C(10,3,1) - P(5,3) - FC(64) - SM()",
        (LINEAR, Pool(5, 3), Dense(64), Softmax()),
    ),
    "metaqnn": (
        spaces.metaqnn(),
        "C(64,3,1) - P(2,2) - GAP()",
        (Conv(64, 3), Pool(2, 2), GlobalPool()),
    ),
    "metaqnn_elu": (
        spaces.metaqnn(preset="mnist"),
        "C(60,3,2) - P(2,1) - FC(10) - SM()",
        (Conv(60, 3, 2, activation="elu"), Pool(2, 1), Dense(10, "elu"), Softmax()),
    ),
    "metaqnn_valid": (  # the first convolution alone has no padding; sizes are divided by the stride
        spaces.metaqnn(preset="leaves_published"),
        "C(64,3,1) - C(521,3,1) - P(2,2) - SM()",
        (Conv(64, 3, padding="valid"), Conv(521, 3), Pool(2, 2, "same"), Softmax()),
    ),
    "nasbench201": (
        spaces.nasbench201(),
        "|none~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_1x1~1|none~2|",
        (
            Cell(
                "cell",
                ("input",),
                (
                    Block((0,), ("none",), "add"),
                    Block((0, 1), ("nor_conv_3x3", "avg_pool_3x3"), "add"),
                    Block((0, 1, 2), ("skip_connect", "nor_conv_1x1", "none"), "add"),
                ),
                "last",
            ),
        ),
    ),
    "nasnet": (
        spaces.nasnet(blocks_per_cell=1),
        "normal: add(sep3(h),avg3(h-1)) reduction: cat(max3(h),identity(h))",
        (
            Cell("normal", ("h", "h-1"), (Block((0, 1), ("sep3", "avg3"), "add"),), "unused"),
            Cell("reduction", ("h", "h-1"), (Block((0, 0), ("max3", "identity"), "cat"),), "unused"),
        ),
    ),
    "stages": (
        spaces.stages((8, 8, 3), light=True),
        "stem(12) - inverted3(24,5)x2+se - conv(16,3) - GAP() - SM() - light=yes",
        (
            Stem(12),
            Stage("inverted3", 24, 5, 2, True),
            Stage("conv", 16, 3),
            GlobalPool(),
            Softmax(),
            Setting("light", "yes"),
        ),
    ),
}


@pytest.mark.parametrize("name", KNOWN)
def test_the_parts_of_an_architecture(name):
    space, text, parts = KNOWN[name]
    arch = space.parse(text)
    assert space.layers(arch) == parts
    assert {type(part) for part in space.layers(arch)} == {type(part) for part in parts}
    assert space.describe(arch) == text


def test_every_space_says_what_its_layers_are():
    assert {space.name for space, _, _ in KNOWN.values()} == set(spaces.REGISTRY)


def test_parts_of_different_kinds_are_never_equal():
    """Equal keys would be one compiled program."""
    assert Dropout(1) != Dense(1) and Pool(3, 2) != Conv(3, 2) and GlobalPool() != Softmax()
    assert len({Dropout(1): 0, Dense(1): 0, GlobalPool(): 0, Softmax(): 0}) == 4


def test_words_are_what_differs_from_the_usual():
    layer = Conv(8, 3, 2, "valid", "none", "batch", "se", 2, 0.25)
    text = "C(8,3,2)+valid+no-activation+batch-norm+se-attention+skip2+drop0.25"
    assert token(layer) == text
    assert token(Pool(2, 2, "same")) == "P(2,2)+same"
    usual = {Conv: {"padding": ("valid", "same"), "norm": ("batch",), "skip": (2, 0)}}
    assert token(layer, usual) == "C(8,3,2)+no-activation+se-attention+drop0.25"
    assert token(Conv(8, 3), usual) == "C(8,3,1)+same+no-norm+skip0"
    values = {
        Conv: {
            "padding": ("same", "valid"), "activation": ("relu", "none"), "norm": ("none", "batch"),
            "attention": ("none", "se"), "skip": (0, 2), "dropout": (0.0, 0.25),
        }
    }  # fmt: skip
    assert read(text, "token 1", values) == layer
    parts = (Setting("optimizer", "sgd"), Conv(8, 3), Softmax())
    assert notation(parts) == "optimizer=sgd - C(8,3,1) - SM()"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Q(2)", r"here is 'Q\(2\)'; it takes C\(filters,kernel,stride\), P\(size,stride\)"),
        ("P(2)", r"here is 'P\(2\)'; it takes P\(size,stride\), with positive integers"),
        ("C(8,3)+gelu", "'gelu' is nothing that such a layer has here"),
    ],
)
def test_what_is_no_layer(text, message):
    with pytest.raises(InputError, match=message):
        read(text, "here")


def test_names_of_the_states_of_a_cell():
    cell = Cell("normal", ("h", "h-1"), (Block((0, 1), ("sep3", "max3"), "add"),) * 2, "unused")
    assert layers.states(cell) == ("h", "h-1", "b1", "b2")
