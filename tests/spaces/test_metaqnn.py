"""The space `metaqnn`: every rule of the paper on the mask, states, notation, presets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxnas import masks
from jaxnas.errors import InputError
from jaxnas.spaces import metaqnn
from jaxnas.spaces.metaqnn import PRESETS
from tests.helpers import random_archs

SMALL = {"image_size": 8, "depth": 3, "filters": (2, 4), "pool": ("3,2", "2,2"), "dense": (8, 4)}


def walk_to(space, text):
    """The walk after some layers, none of which ends the network."""
    arch = space.parse(f"{text} - SM()" if text else "SM()")
    walk = space.start
    for choice in arch[: len(text.split(" - ")) if text else 0]:
        walk = space.step(walk, jnp.int32(choice))
    return walk


def names_of(space):
    """The layer of each choice, as the notation has it: every one is legal or not after some layers."""
    names = {}
    for choice in range(space.num_choices):
        names[choice] = space.decode([choice] + [0] * (space.num_steps - 1))["layer_1"]
    return names


def legal(space, text):
    mask = np.asarray(space.mask(walk_to(space, text)))
    return {name for choice, name in names_of(space).items() if mask[choice]}


def kinds(layers):
    return {layer.split("(")[0] for layer in layers}


def kernels(layers):
    return {int(layer.split(",")[1]) for layer in layers if layer.startswith("C")}


def test_choices_are_those_of_table_1():
    space = metaqnn()
    convolutions = {f"C({f},{k},1)" for f in (64, 128, 256, 512) for k in (1, 3, 5)}
    others = {"P(5,3)", "P(3,2)", "P(2,2)", "FC(512)", "FC(256)", "FC(128)", "GAP()", "SM()"}
    assert set(names_of(space).values()) == convolutions | others
    assert space.num_choices == 20
    assert names_of(space)[0] == "SM()"  # what choice 0 means before the end
    assert (space.num_steps, metaqnn(preset="svhn").num_steps) == (19, 13)  # 18 and 12 layers, then the end


def test_termination_from_anywhere_and_forced_at_the_limit():
    space = metaqnn(depth=4)
    for text in ("", "C(64,3,1)", "C(64,3,1) - P(2,2)", "C(64,1,1) - C(64,1,1) - C(64,1,1)"):
        assert {"SM()", "GAP()"} <= legal(space, text)
    assert legal(space, " - ".join(["C(64,1,1)"] * 4)) == {"SM()", "GAP()"}
    assert legal(space, "P(5,3) - C(64,1,1) - P(3,2) - FC(128)") == {"SM()"}
    assert kinds(legal(space, " - ".join(["C(64,1,1)"] * 3))) == {"C", "P", "SM", "GAP"}


def test_convolution_may_be_followed_by_anything_and_pooling_by_all_but_pooling():
    space = metaqnn()
    assert kinds(legal(space, "P(5,3) - C(64,3,1) - P(3,2) - C(64,1,1)")) == {"C", "P", "FC", "GAP", "SM"}
    assert kinds(legal(space, "C(64,3,1) - P(5,3)")) == {"C", "GAP", "SM"}  # 10 pixels: no FC yet
    assert kinds(legal(space, "C(64,3,1) - P(5,3) - C(64,3,1) - P(3,2)")) == {"C", "FC", "GAP", "SM"}


def test_fully_connected_layers_shrink_and_are_two_at_most():
    space = metaqnn(image_size=7)
    assert legal(space, "C(64,1,1) - FC(256)") == {"FC(256)", "FC(128)", "SM()"}
    assert legal(space, "FC(512)") == {"FC(512)", "FC(256)", "FC(128)", "SM()"}
    assert legal(space, "FC(256) - FC(256)") == {"SM()"}
    three = metaqnn(image_size=7, max_dense=3)
    assert legal(three, "FC(256) - FC(128)") == {"FC(128)", "SM()"}
    assert legal(three, "FC(256) - FC(128) - FC(128)") == {"SM()"}


@pytest.mark.parametrize(("size", "allowed"), [(9, False), (8, False), (7, True), (4, True), (3, True)])
def test_fully_connected_layers_come_in_the_two_smaller_bins(size, allowed):
    assert ("FC(128)" in legal(metaqnn(image_size=size), "")) == allowed
    assert "FC(128)" in legal(metaqnn(image_size=size, dense_anywhere=True), "")


@pytest.mark.parametrize(
    ("size", "paper", "code"),
    [
        (8, {1, 3, 5}, {1, 3, 5}),
        (7, {1, 3, 5}, {1, 3}),
        (5, {1, 3, 5}, {1, 3}),
        (4, {1, 3}, {1, 3}),
        (3, {1, 3}, set()),
        (2, {1}, set()),
        (1, {1}, set()),
    ],
)
def test_kernels_fit_the_representation(size, paper, code):
    """The paper: at most its size; the code: below the value of its bin, which is 8, 4 or 1."""
    assert kernels(legal(metaqnn(image_size=size), "")) == paper
    assert kernels(legal(metaqnn(image_size=size, kernel_rule="code"), "")) == code
    for rule, sizes in (("paper", paper), ("code", code)):
        pools = {p for p in legal(metaqnn(image_size=size, kernel_rule=rule), "") if p[0] == "P"}
        limit = size if rule == "paper" else {8: 7, 4: 3, 1: 0}[8 if size >= 8 else 4 if size >= 4 else 1]
        assert pools == {f"P({k},{s})" for k, s in ((5, 3), (3, 2), (2, 2)) if k <= limit}, sizes


@pytest.mark.parametrize(
    ("size", "pool", "left"),
    [(32, "5,3", 10), (32, "3,2", 15), (32, "2,2", 16), (9, "2,2", 4), (5, "5,3", 1)],
)
def test_pooling_leaves_so_many_pixels(size, pool, left):
    """⌈(n − k + 1)/s⌉, as it shows in the kernels that still fit."""
    space = metaqnn(image_size=size, kernel=tuple(range(1, size + 1)), pool=(pool,))
    assert max(kernels(legal(space, f"P({pool})"))) == left
    assert max(kernels(legal(space, f"P({pool}) - C(64,{left},1)"))) == left  # a convolution keeps the size


def test_options_that_are_the_code_s():
    assert "P" not in kinds(legal(metaqnn(first_pool=False), ""))
    assert "P" in kinds(legal(metaqnn(first_pool=False), "C(64,1,1)"))
    assert "GAP()" not in names_of(metaqnn(global_pool=False)).values()


def test_leaves():
    space = metaqnn(preset="leaves")
    pools = {f"P({k},{s})" for k in (2, 3, 5) for s in (2, 3)}
    assert {n for n in names_of(space).values() if n[0] == "P"} == pools
    assert (space.num_steps, space.settings.image_size) == (13, 64)
    assert legal(space, "") == set(names_of(space).values()) - {"FC(512)", "FC(256)", "FC(128)"}
    # 64/2/2/2 = 8 is medium: exactly 8 lies below the bound; 64/3/2 = 10.7 is large, 64/3/3 = 7.1 medium.
    # The size is a quotient: 7.1/2 = 3.6 holds a kernel of 3 and none of 5.
    eight = "P(2,2) - C(64,1,1) - P(2,2) - C(64,1,1) - P(2,2)"
    assert "FC(128)" in legal(space, eight)
    assert "FC(128)" not in legal(metaqnn(image_size=8), "")
    assert "FC(128)" not in legal(space, "P(2,3) - C(64,1,1) - P(2,2)")
    assert "FC(128)" in legal(space, "P(2,3) - C(64,1,1) - P(2,3)")
    assert kernels(legal(space, "P(2,3) - C(64,1,1) - P(2,3) - C(64,1,1) - P(5,2)")) == {1, 3}
    assert "C(521,3,1)" in names_of(metaqnn(preset="leaves_published")).values()
    assert "C(512,3,1)" in names_of(space).values()


def test_mnist():
    space = metaqnn(preset="mnist")
    found = set(names_of(space).values())
    assert {n for n in found if n[0] == "F"} == {f"FC({u})" for u in (1000, 500, 250, 100, 50, 10)}
    assert {n.split(",")[0] for n in found if n[0] == "C"} == {"C(60", "C(120", "C(240"}
    assert space.num_steps == 16
    assert "GAP()" not in found
    assert "FC(1000)" in legal(space, "")
    text = "[C(120,4,1), C(120,2,1), P(5,1), C(60,5,3), C(60,3,1), P(2,1), FC(250), FC(250), SM(10)]"
    masks.check(space, space.parse(text)[None])  # Table A4's fifth
    dense = " - ".join(["FC(10)"] * 14)
    assert legal(space, dense) == {"FC(10)", "SM()"}


TABLE_A2 = (
    "[C(512,5,1), C(256,3,1), C(256,5,1), C(256,3,1), P(5,3), C(512,3,1), C(512,5,1), P(2,2), SM(10)]",
    "[C(64,3,1), C(128,3,1), P(5,3), C(256,3,1), P(3,2), FC(512), FC(128), SM(10)]",
)


@pytest.mark.parametrize("text", TABLE_A2)
def test_the_paper_s_notation_is_read(text):
    space = metaqnn()
    arch = space.parse(text)
    masks.check(space, arch[None])
    assert space.describe(arch) == text[1:-1].replace(", ", " - ").replace("SM(10)", "SM()")


def test_notation():
    space = metaqnn(image_size=7)
    text = "C(256,5,1) - P(2,2) - FC(128) - SM()"
    assert space.describe(space.parse(text)) == text
    np.testing.assert_array_equal(space.parse("C(256,5) P(2,2) FC(128) SM"), space.parse(text))
    assert space.describe(space.parse("C(256,5,1) - GAP()")) == "C(256,5,1) - GAP()"
    assert space.describe(space.parse("[C(256,5,1), GAP(10), SM(10)]")) == "C(256,5,1) - GAP()"
    decoded = space.decode(space.parse(text))
    assert list(decoded.values())[:5] == ["C(256,5,1)", "P(2,2)", "FC(128)", "SM()", ""]
    assert tuple(decoded) == space.decisions


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "ends with 'nothing'; it takes SM"),
        ("C(64,3,1)", r"ends with 'C\(64,3,1\)'; it takes SM\(\) at the end"),
        ("C(64,3,1) - Q(2) - SM()", r"token 2 is 'Q\(2\)'; it takes C\(filters,kernel,stride\), P"),
        ("C(64,0,1) - SM()", r"token 1 is 'C\(64,0,1\)'; it takes C\(filters,kernel,stride\), with positive"),
        ("C(64) - SM()", r"token 1 is 'C\(64\)'"),
        ("C(-64,3,1) - SM()", "token 1 is 'C"),
        ("P(2) - SM()", r"token 1 is 'P\(2\)'; it takes P\(size,stride\), with"),
        ("C(65,3,1) - SM()", r"token 1 is 'C\(65,3,1\)'; space metaqnn has one of C\(128,1,1\)"),
        ("C(64,3,1) - P(4,4) - SM()", r"token 2 is 'P\(4,4\)'; space metaqnn has one of P\(2,2\)"),
        ("C(64,3,1) - P(2,2) - P(2,2) - SM()", r"token 3 is 'P\(2,2\)'; the rules .* forbid it after 'P"),
        ("FC(128) - SM()", r"token 1 is 'FC\(128\)'; the rules of space metaqnn forbid it at the start"),
        ("SM() - SM()", r"token 1 is 'SM\(\)'; the rules"),
        (" - ".join(["C(64,3,1)"] * 19) + " - SM()", "token 19 is .* takes at most 19 decisions"),
    ],
)
def test_a_parse_error_points_at_the_token(text, message):
    with pytest.raises(InputError, match=message):
        metaqnn().parse(text)


@pytest.mark.parametrize("preset", PRESETS)
def test_parse_inverts_describe(preset):
    space = metaqnn(preset=preset)
    archs = random_archs(space, 64)

    @settings(max_examples=64, deadline=None)
    @given(st.integers(0, 63))
    def check(i):
        parsed = space.parse(space.describe(archs[i]))
        assert parsed.dtype == np.int32
        np.testing.assert_array_equal(parsed, archs[i])

    check()


@pytest.mark.parametrize("preset", PRESETS)
def test_10_000_walks_are_legal(preset):
    space = metaqnn(preset=preset)
    archs = random_archs(space, 10_000)
    masks.check(space, archs)
    walks = jax.jit(jax.vmap(lambda a: masks.walk(space, a)))(archs)
    legal, live, state = (np.asarray(x) for x in (walks.legal, walks.live, walks.state))
    assert legal.any(-1).all()
    assert (legal[~live] == (np.arange(space.num_choices) == 0)).all()
    assert (archs[~live] == 0).all()
    assert state.min() >= 0
    assert (state[live] < space.num_states - 1).all()
    assert (state[~live] == space.num_states - 1).all()
    depth = np.broadcast_to(np.arange(space.num_steps), state.shape)
    assert len({*zip(state[live], depth[live], strict=True)}) == len(np.unique(state[live]))


def test_the_state_is_layer_depth_and_bin_or_layers_in_a_row():
    space = metaqnn()

    def state(text):
        return int(space.state(walk_to(space, text)))

    # 16 pixels and 8 are of one bin, 7 and 4 of another; the path there is forgotten.
    assert state("P(2,2) - C(64,3,1)") != state("C(64,3,1) - P(2,2)")
    assert state("C(512,3,1) - P(2,2)") == state("C(64,3,1) - P(2,2)")
    assert state("P(5,3) - C(64,3,1) - P(2,2)") != state("C(128,1,1) - C(64,3,1) - P(2,2)")
    assert state("P(2,2) - C(64,3,1) - P(2,2)") == state("C(128,1,1) - C(64,3,1) - P(2,2)")  # 8 and 16
    few = metaqnn(image_size=7)
    one, two = (int(few.state(walk_to(few, t))) for t in ("C(64,1,1) - FC(128)", "FC(256) - FC(128)"))
    assert one != two  # one and two fully connected layers in a row


def test_the_rule_and_the_count_are_those_of_brute_force():
    space = metaqnn(**SMALL)
    found = masks.every(space)
    assert space.size == len(found)
    texts = [space.describe(arch) for arch in found]
    assert len(set(texts)) == len(texts)
    # By hand, with depth 1: SM, GAP, or one of 6 convolutions and 2 pools followed by SM or GAP.
    assert metaqnn(**{**SMALL, "depth": 1}).size == 2 + 2 * 8
    # At 7 pixels one of two fully connected layers too, followed by SM alone.
    assert metaqnn(**{**SMALL, "depth": 1, "image_size": 7}).size == 2 + 2 * 8 + 2


def test_observations_tell_prefixes_of_one_layer_apart():
    space = metaqnn(**SMALL)
    seen = {np.asarray(space.observe(space.start)).tobytes()}
    choices = np.flatnonzero(space.mask(space.start))
    for choice in choices:
        observed = space.observe(space.step(space.start, jnp.int32(choice)))
        assert observed.dtype == jnp.float32
        assert ((np.asarray(observed) >= 0) & (np.asarray(observed) <= 1)).all()
        seen.add(np.asarray(observed).tobytes())
    assert len(seen) == len(choices)  # 1 more for the start, 1 less because SM and GAP end alike


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 0}, "space.image_size: got 0"),
        ({"depth": 0}, "space.depth: got 0"),
        ({"filters": ()}, "space.filters: got an empty list"),
        ({"filters": (64, 64)}, "space.filters: got"),
        ({"kernel": (0,)}, "space.kernel: got"),
        ({"max_dense": 0}, "space.max_dense: got 0"),
        ({"bins": (4, 8)}, "space.bins: got .* falling"),
        ({"bins": (4, 1)}, "space.bins: got .* above 1"),
        ({"pool": ("2",)}, 'space.pool: got .* "size,stride"'),
        ({"pool": ("0,2",)}, "space.pool: got"),
        ({"pool": ("2,2", "2,2")}, "space.pool: got"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(InputError, match=message):
        metaqnn(**options)


def test_options_take_the_preset_s_place():
    space = metaqnn(preset="svhn", filters=(8,), kernel=(3,), pool=(), dense=(), image_size=12, depth=2)
    assert set(names_of(space).values()) == {"SM()", "GAP()", "C(8,3,1)"}
    assert space.size == 6
