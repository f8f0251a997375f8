"""The space `nasnet`: what a block can read, sizes, notation, states."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas import masks
from jaxnas.errors import InputError
from jaxnas.spaces import nasnet
from jaxnas.spaces.layers import Block
from jaxnas.spaces.nasnet import OPERATIONS
from tests.helpers import random_archs

SPACE = nasnet()
TWO = nasnet(blocks_per_cell=2)
TEXT = (
    "normal: add(sep5(h),conv1x3(h-1)) cat(max3(b1),identity(h)) "
    "reduction: add(avg3(h-1),sep7(h-1)) add(dil3(b1),conv1(h-1))"
)


def test_decisions_are_ten_a_block_pair():
    assert (SPACE.num_steps, SPACE.num_choices) == (50, 13)
    assert SPACE.decisions[:5] == (
        "normal_1_input_1", "normal_1_input_2", "normal_1_operation_1", "normal_1_operation_2",
        "normal_1_combine",
    )  # fmt: skip
    assert SPACE.decisions[25] == "reduction_1_input_1"
    assert SPACE.decisions[-1] == "reduction_5_combine"
    assert nasnet(blocks_per_cell=4, operations=("sep3",)).num_choices == 5  # the inputs of the last block


@pytest.mark.parametrize("B", [1, 2, 5])
def test_the_mask_allows_what_exists(B):
    """Inputs: both cells before and the cell's own blocks so far; 13 operations; two combinations."""
    space = nasnet(blocks_per_cell=B)
    expected = [size for _ in range(2) for b in range(B) for size in (2 + b, 2 + b, 13, 13, 2)]
    archs = random_archs(space, 20, seed=B)
    legal = np.asarray(jax.vmap(lambda arch: masks.walk(space, arch).legal)(archs))  # whatever came before
    for t, size in enumerate(expected):
        assert (legal[:, t, :size]).all() and not legal[:, t, size:].any()
    walk = space.start
    for choice in archs[0]:
        assert not space.done(walk)
        walk = space.step(walk, jnp.int32(choice))
    assert space.done(walk)
    assert np.flatnonzero(space.mask(walk)).tolist() == [0]
    with pytest.raises(InputError, match=r"choice 2 is illegal at decision 'reduction_1_input_1'"):
        masks.check(space, np.eye(1, 10 * B, 5 * B, dtype=np.int32) * 2)


def test_inputs_of_two_blocks():
    """2, 3, 2, 3 over the two cells."""
    assert np.asarray(masks.walk(TWO, TWO.parse(TEXT)).legal).sum(-1)[0::5].tolist() == [2, 3, 2, 3]


def test_sizes_by_hand():
    one = 2 * 2 * 13 * 13 * 2
    assert nasnet(blocks_per_cell=1).size == one**2
    assert TWO.size == (one * 3 * 3 * 13 * 13 * 2) ** 2
    assert SPACE.size == ((2 * 3 * 4 * 5 * 6) ** 2 * 13**10 * 2**5) ** 2
    small = nasnet(blocks_per_cell=1, operations=("identity", "sep3"))
    assert small.size == len(masks.every(small)) == 32**2


def test_blocks_are_read_in_order():
    normal, reduction = TWO.layers(TWO.parse(TEXT))
    assert (normal.name, normal.inputs, normal.output) == ("normal", ("h", "h-1"), "unused")
    assert normal.blocks == (
        Block((0, 1), ("sep5", "conv1x3"), "add"),
        Block((2, 0), ("max3", "identity"), "cat"),
    )
    assert reduction.name == "reduction"
    assert reduction.blocks == (
        Block((1, 1), ("avg3", "sep7"), "add"),
        Block((2, 1), ("dil3", "conv1"), "add"),
    )
    decoded = TWO.decode(TWO.parse(TEXT))
    assert decoded["normal_1_input_2"] == "h-1"
    assert decoded["normal_2_input_1"] == "b1"
    assert decoded["reduction_2_operation_1"] == "dil3"
    assert decoded["normal_2_combine"] == "cat"
    # In the paper's order.
    assert OPERATIONS[0] == "identity"
    assert OPERATIONS[12] == "sep7"
    assert TWO.parse(TEXT).tolist() == [0, 1, 11, 1, 0, 2, 0, 5, 0, 1, 1, 1, 4, 12, 0, 2, 1, 3, 8, 0]


def test_notation_there_and_back():
    assert TWO.describe(TWO.parse(TEXT)) == TEXT
    for space in (SPACE, TWO):
        for arch in random_archs(space, 50):
            np.testing.assert_array_equal(space.parse(space.describe(arch)), arch)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("sep5(h)", "sep4(h)", r"token 2 is 'add\(sep4.*operation 'sep4' is not one of identity, conv1x3"),
        ("sep5(h)", "sep5(b1)", r"token 2 .*hidden state 'b1' is not one of h, h-1$"),
        ("max3(b1)", "max3(b2)", r"token 3 .*hidden state 'b2' is not one of h, h-1, b1$"),
        ("cat(", "mul(", r"token 3 .*combination 'mul' is not one of add, cat"),
        ("cat(", "cat[", r"token 3 is 'cat\[max3.*expected a block such as"),
        ("reduction:", "", r"token 4 is 'add\(avg3.*expected 'reduction:'; each cell has 2 blocks"),
        (" add(dil3(b1),conv1(h-1))", "", r"token 6 is 'the end', expected a block"),
        ("conv1(h-1))", "conv1(h-1)) SM", r"nothing may follow the last block, got 'SM'"),
    ],
)
def test_errors_point_at_the_token(old, new, message):
    assert old in TEXT
    with pytest.raises(InputError, match=message):
        TWO.parse(TEXT.replace(old, new))


def test_states_are_the_decision_and_the_choice_before_it_in_the_block():
    """B = 1, A = 13: ten decisions and the end."""
    space = nasnet(blocks_per_cell=1)
    assert space.num_states == 10 * 13 + 1
    states = np.asarray(masks.walk(space, jnp.array([1, 0, 12, 3, 1, 0, 1, 2, 4, 0])).state)
    before = [0, 1, 0, 12, 3, 0, 0, 1, 2, 4]  # a block begins afresh
    assert states.tolist() == [13 * t + c for t, c in enumerate(before)]
    every = nasnet(blocks_per_cell=1, operations=("identity", "sep3", "max3"))
    archs = random_archs(every, 3000)
    states = np.asarray(jax.jit(jax.vmap(lambda arch: masks.walk(every, arch).state))(archs))
    assert (states >= 0).all()
    assert (states < every.num_states).all()
    per_cell = 1 + 2 + 2 + 3 + 3
    assert len(np.unique(states)) == 2 * per_cell
    end = every.start
    for choice in archs[0]:
        end = every.step(end, jnp.int32(choice))
    assert int(every.state(end)) == every.num_states - 1


def test_observations_tell_prefixes_apart():
    space = nasnet(blocks_per_cell=1, operations=("identity", "sep3"))
    archs, seen = jnp.asarray(masks.every(space)), [{}, {}]
    walks = jax.vmap(lambda _: space.start)(archs)
    for t in range(10):
        observed = np.asarray(jax.vmap(space.observe)(walks))
        prefixes = np.unique(np.asarray(archs[:, :t]), axis=0)
        seen[0][t], seen[1][t] = len(np.unique(observed, axis=0)), len(prefixes)
        walks = jax.vmap(space.step)(walks, archs[:, t])
    assert seen[0] == seen[1]
    assert observed.dtype == np.float32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"blocks_per_cell": 0}, "space.blocks_per_cell: got 0; it takes 1 or more"),
        ({"operations": ()}, "space.operations: got"),
        ({"operations": ("sep3", "sep3")}, "space.operations: got"),
        ({"operations": ("sep3", "sep4")}, "space.operations: unknown name 'sep4'; did you mean 'sep"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(InputError, match=message):
        nasnet(**options)
