"""The space `cnn_mdp`: every rule of Mini-MetaQNN on the mask, and its face of seven numbers."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxnas import masks
from jaxnas.errors import InputError
from jaxnas.spaces import cnn_mdp
from jaxnas.spaces.cnn_mdp import seven
from jaxnas.spaces.layers import sign
from tests.helpers import random_archs

SPACE = cnn_mdp()


def word(layer):
    return sign(layer) if layer else "None"


def walk_to(space, text):
    """The walk after layers without the terminal flag."""
    walk = space.start
    for token in text.split(" - ") if text else []:
        choice = next(
            i for i, c in enumerate(space.settings.choices) if word(c.layer) == token and not c.ends
        )
        assert bool(space.mask(walk)[choice]), token
        walk = space.step(walk, jnp.int32(choice))
    return walk


def legal(space, text):
    """{(layer, terminal flag)} after some layers."""
    mask = np.asarray(space.mask(walk_to(space, text)))
    return {
        (word(space.settings.choices[i].layer), space.settings.choices[i].ends) for i in np.flatnonzero(mask)
    }


def kinds(choices, ends=None):
    return {layer.split("(")[0] for layer, flag in choices if ends in (None, flag)}


def test_choices_are_those_of_the_source():
    convolutions = {f"C({f},{k},1)" for f in (10, 20, 32, 64) for k in (1, 3, 5)}
    others = {"P(5,3)", "P(3,2)", "P(2,2)", "FC(512)", "FC(256)", "FC(128)", "FC(64)"}
    found = [(word(c.layer), c.ends) for c in SPACE.settings.choices[1:]]
    assert sorted(found) == sorted(itertools.product(convolutions | others, (False, True)))
    assert SPACE.num_choices == 1 + 38
    assert SPACE.settings.choices[0].layer is None  # padding has no other meaning
    assert [cnn_mdp(preset=p).settings.image_size for p in ("mnist3", "cifar5", "cifar10")] == [28, 32, 32]


def test_the_first_layer_is_a_convolution():
    assert kinds(legal(SPACE, "")) == {"C"}
    assert kinds(legal(SPACE, ""), ends=True) == {"C"}
    assert kinds(legal(cnn_mdp(rules="code"), ""), ends=True) == set()


def test_no_pooling_after_pooling():
    assert kinds(legal(SPACE, "C(64,3,1)")) == {"C", "P", "FC"}
    assert kinds(legal(SPACE, "C(64,3,1) - P(2,2)")) == {"C", "FC"}
    assert kinds(legal(SPACE, "C(64,3,1) - P(2,2) - C(10,1,1)")) == {"C", "P", "FC"}


def test_eight_layers_at_most():
    seven_layers = " - ".join(["C(64,1,1)"] * 7)
    found = legal(SPACE, seven_layers)
    assert kinds(found, ends=True) == {"C", "P", "FC"}
    assert kinds(found, ends=False) == set()
    assert SPACE.num_steps == 8
    assert cnn_mdp(depth=2).num_steps == 2


def test_two_fully_connected_layers_the_second_smaller_and_the_last():
    assert legal(SPACE, "C(64,3,1) - FC(256)") == {("FC(128)", True), ("FC(64)", True)}
    assert legal(SPACE, "C(64,3,1) - P(2,2) - FC(128)") == {("FC(64)", True)}
    # One that does not end needs a smaller one behind it; any size of image will do.
    found = legal(SPACE, "C(64,3,1)")
    assert {layer for layer, ends in found if layer[0] == "F" and ends} == {
        f"FC({u})" for u in (512, 256, 128, 64)
    }
    assert {layer for layer, ends in found if layer[0] == "F" and not ends} == {
        f"FC({u})" for u in (512, 256, 128)
    }


@pytest.mark.parametrize(
    ("size", "text", "code", "kernels", "pools"),
    [
        (28, "C(10,5,1)", False, {1, 3, 5}, {"P(5,3)", "P(3,2)", "P(2,2)"}),
        (9, "C(10,5,1)", False, {1, 3, 5}, {"P(5,3)", "P(3,2)", "P(2,2)"}),  # 5 pixels are left
        (9, "C(10,5,1)", True, {1, 3}, {"P(3,2)", "P(2,2)"}),
        (7, "C(10,5,1)", False, {1, 3}, {"P(3,2)", "P(2,2)"}),
        (7, "C(10,5,1)", True, {1}, {"P(2,2)"}),
        (5, "C(10,5,1)", False, {1}, set()),
        (6, "C(10,5,1)", True, {1}, set()),
        (12, "C(10,5,1) - P(5,3)", False, {1}, set()),  # 8, then ⌈4/3⌉ = 2
        (28, "C(10,5,1) - P(5,3)", False, {1, 3, 5}, set()),  # 24, then ⌈20/3⌉ = 7
        (12, "C(10,3,1) - P(2,2)", False, {1, 3, 5}, set()),  # 10, then ⌈9/2⌉ = 5
        (12, "C(10,3,1) - P(2,2)", True, {1, 3}, set()),
    ],
)
def test_windows_fit_the_image(size, text, code, kernels, pools):
    found = legal(cnn_mdp(image_size=size, rules="code" if code else "text"), text)
    assert {int(layer.split(",")[1]) for layer, _ in found if layer[0] == "C"} == kernels
    assert {layer for layer, _ in found if layer[0] == "P"} == pools
    assert "FC" in kinds(found)


@pytest.mark.parametrize("options", [{}, {"preset": "mnist3"}, {"rules": "code", "image_size": 9}])
def test_10_000_walks_are_legal(options):
    space = cnn_mdp(**options)
    archs = random_archs(space, 10_000)
    masks.check(space, archs)
    walks = jax.jit(jax.vmap(lambda a: masks.walk(space, a)))(archs)
    legal, live, state = (np.asarray(x) for x in (walks.legal, walks.live, walks.state))
    assert (legal[~live] == (np.arange(space.num_choices) == 0)).all()
    assert not legal[live][:, 0].any()
    assert (state[live] < space.num_states - 1).all()
    assert (state[~live] == space.num_states - 1).all()
    assert space.num_states == 8 * 20 + 1
    for arch in archs[:500]:
        np.testing.assert_array_equal(space.parse(space.describe(arch)), arch)


def test_the_count_is_that_of_brute_force():
    space = cnn_mdp(
        image_size=6, depth=3, filters=(2,), kernel=(1, 5), pool=("2,2",), dense=(8, 4), rules="text"
    )
    found = masks.every(space)
    assert space.size == len(found)
    assert len({space.describe(a) for a in found}) == len(found)
    one = cnn_mdp(image_size=6, depth=1, filters=(2,), kernel=(1, 5), pool=("2,2",), dense=(8, 4))
    assert one.size == 2  # either convolution
    two = cnn_mdp(image_size=6, depth=2, filters=(2,), kernel=(1, 5), pool=("2,2",), dense=(8, 4))
    # After 1×1 (6 pixels): C1, C5, P, FC8, FC4; after 5×5 (2 pixels): C1, P, FC8, FC4.
    assert two.size == 2 + 5 + 4


def test_notation():
    text = "C(10,3,1) - C(64,3,1) - P(3,2) - FC(64) - SM()"
    assert SPACE.describe(SPACE.parse(text)) == text
    np.testing.assert_array_equal(SPACE.parse("C(10,3) C(64,3) P(3,2) FC(64) SM"), SPACE.parse(text))
    assert list(SPACE.decode(SPACE.parse(text)).values())[3:] == ["FC(64)", "", "", "", ""]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("C(10,3,1)", r"ends with 'C\(10,3,1\)'; it takes SM"),
        ("SM()", "takes at least one layer before SM"),
        ("C(10,3,1) - GAP()", "token 2 is 'GAP.*no GAP at all"),
        ("C(11,3,1) - SM()", "token 1 is .*has one of"),
        ("C(10,3,2) - SM()", r"token 1 is 'C\(10,3,2\)'; space cnn_mdp has one of C\(10,1,1\)"),
        ("P(2,2) - SM()", r"token 1 is 'P\(2,2\)'; the rules of space cnn_mdp forbid it at the start"),
        ("C(10,3,1) - FC(64) - FC(64) - SM()", r"token 2 is 'FC\(64\)'; the rules"),
        ("C(10,3,1) - FC(128) - FC(128) - SM()", r"token 3 is 'FC\(128\)'; the rules .* after 'FC\(128\)'"),
        (" - ".join(["C(10,1,1)"] * 9) + " - SM()", "token 8 is .* takes at most 8 decisions"),
    ],
)
def test_a_parse_error_points_at_the_token(text, message):
    with pytest.raises(InputError, match=message):
        SPACE.parse(text)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"filters": ()}, "space.filters: got an empty list"),
        ({"depth": 0}, "space.depth: got 0"),
        ({"image_size": 2, "kernel": (3,)}, "no choice is left after the start"),
        ({"depth": 1, "rules": "code"}, "no choice is left after the start"),
        ({"pool": ("2",)}, "space.pool: got"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(InputError, match=message):
        cnn_mdp(**options)


# The face of seven numbers.

MASK_SLICES = [slice(a, b) for a, b in itertools.pairwise([0, 3, 12, 17, 21, 26, 28, 32])]


def masks_after(space, text):
    walk = walk_to(space, text)
    found = seven(space).masks(np.asarray(space.mask(walk)), int(walk.depth))
    return [np.flatnonzero(found[s]).tolist() for s in MASK_SLICES]


def test_sizes_are_those_of_the_source():
    assert seven(SPACE).sizes == (3, 9, 5, 4, 5, 2, 4)


def test_masks_by_hand():
    # type, depth, filters, kernel, units, terminal, pool; 0 is none, where nothing else is possible
    assert masks_after(SPACE, "") == [[0], [1], [1, 2, 3, 4], [1, 2, 3], [0], [0, 1], [0]]
    assert masks_after(cnn_mdp(rules="code"), "")[5] == [0]
    assert masks_after(SPACE, "C(64,3,1)") == [
        [0, 1, 2], [2], [1, 2, 3, 4], [1, 2, 3], [1, 2, 3, 4], [0, 1], [1, 2, 3],
    ]  # fmt: skip
    assert masks_after(SPACE, "C(64,3,1) - P(2,2)")[6] == [0]
    assert masks_after(SPACE, "C(64,3,1) - FC(256)") == [[2], [3], [0], [0], [3, 4], [1], [0]]
    assert masks_after(SPACE, " - ".join(["C(64,1,1)"] * 7))[1:6:4] == [[8], [1]]


def test_states_by_hand():
    state = seven(SPACE).state
    assert state(0, 0).tolist() == [0, 0, 0, 0, 0, 1, 0]
    choices = [(word(c.layer), c.ends) for c in SPACE.settings.choices]
    assert state(choices.index(("C(20,5,1)", False)), 1).tolist() == [0, 1, 2, 3, 0, 0, 0]
    assert state(choices.index(("P(3,2)", False)), 2).tolist() == [1, 2, 0, 0, 0, 0, 2]
    assert state(choices.index(("FC(64)", True)), 8).tolist() == [2, 8, 0, 0, 4, 0, 0]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 199), st.integers(0, 2**32 - 1))
def test_whatever_the_masks_of_single_numbers_allow_is_a_legal_choice(row, seed):
    space, face = SPACE, seven(SPACE)
    arch = random_archs_of_space()[row]
    rng = np.random.default_rng(seed)
    walk = space.start
    for t, choice in enumerate(arch):
        if bool(space.done(walk)):
            break
        legal = np.asarray(space.mask(walk))
        found = face.masks(legal, t)
        for _ in range(8):
            action = [rng.choice(np.flatnonzero(found[s])) for s in MASK_SLICES]
            taken = face.choice(legal, t, action)
            assert taken is not None
            assert legal[taken]
        # And the canonical tuple of a choice is that choice.
        row_of = face.state(int(choice), t + 1)
        row_of[5] = space.settings.choices[choice].ends
        assert face.choice(legal, t, row_of) == choice
        walk = space.step(walk, jnp.int32(choice))


_cache = {}


def random_archs_of_space():
    if not _cache:
        _cache["archs"] = random_archs(SPACE, 200)
    return _cache["archs"]


def test_actions_against_the_mask_are_no_choice():
    face = seven(SPACE)
    legal = np.asarray(SPACE.mask(SPACE.start))
    choices = SPACE.settings.choices
    assert word(choices[face.choice(legal, 0, [0, 1, 4, 2, 3, 0, 2])].layer) == "C(64,3,1)"  # units ignored
    assert face.choice(legal, 0, [0, 2, 4, 2, 0, 0, 0]) is None  # another depth
    assert face.choice(legal, 0, [1, 1, 0, 0, 0, 0, 1]) is None  # pooling first
    assert face.choice(legal, 0, [0, 1, 0, 2, 0, 0, 0]) is None  # a convolution without filters
    after = np.asarray(SPACE.mask(walk_to(SPACE, "C(64,3,1)")))
    taken = choices[face.choice(after, 1, [2, 2, 0, 0, 4, 0, 0])]
    assert (word(taken.layer), taken.ends) == ("FC(64)", True)  # nothing could follow: the network ends
