"""The space `blocks`: rules, size, notation, states."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxnas import masks
from jaxnas.errors import InputError
from jaxnas.spaces import blocks
from tests.helpers import FORBID

SMALL = {"filters": (8, 16), "kernel": (3, 5), "dropout": (0.0, 0.5)}


def enumerate_all(space, values):
    sizes = [len(values[name.rsplit("_", 1)[0]]) for name in space.decisions]
    return np.array(list(itertools.product(*map(range, sizes))), np.int32)


def broken(chosen, rule, num_blocks):
    """Whether the decoded architecture meets a rule, written out: bare names mean any one block."""
    for block in range(1, num_blocks + 1):
        full = [(n if "_" in n or num_blocks == 1 else f"{n}_{block}", value) for n, value in rule.items()]
        if all(chosen[name] == value for name, value in full):
            return True
    return False


rules_of = {
    n: st.lists(
        st.dictionaries(
            st.sampled_from(
                [f if n == 1 else f"{f}_{b}" for f in SMALL for b in range(1, n + 1)] + list(SMALL)
            ),
            st.integers(0, 1),
            min_size=1,
            max_size=3,
        ),
        max_size=3,
    )
    for n in (1, 2)
}


@pytest.mark.parametrize("num_blocks", [1, 2])
def test_size_and_masks_are_those_of_brute_force(num_blocks):
    @settings(max_examples=25 // num_blocks, deadline=None)
    @given(rules_of[num_blocks])
    def check(drawn):
        rules = tuple({name: SMALL[name.split("_")[0]][i] for name, i in rule.items()} for rule in drawn)
        everything = enumerate_all(blocks(num_blocks=num_blocks, **SMALL), SMALL)
        decode = blocks(num_blocks=num_blocks, **SMALL).decode
        allowed = {tuple(a) for a in everything if not any(broken(decode(a), r, num_blocks) for r in rules)}
        try:
            space = blocks(num_blocks=num_blocks, forbid=rules, **SMALL)
        except InputError as error:
            # Some prefix of choices, none of which completes a rule, cannot go on.
            assert "no choice is left for decision" in str(error)
            prefixes = {a[:t] for a in allowed for t in range(3 * num_blocks + 1)}

            def fine(prefix):  # no rule is complete yet
                chosen = dict(
                    zip(
                        blocks(num_blocks=num_blocks, **SMALL).decisions, [None] * 3 * num_blocks, strict=True
                    )
                )
                chosen |= dict(
                    itertools.islice(
                        decode([*prefix, *[0] * (3 * num_blocks - len(prefix))]).items(), len(prefix)
                    )
                )
                return not any(broken(chosen, r, num_blocks) for r in rules)

            stuck = {
                tuple(a[:t]) for a in everything for t in range(3 * num_blocks) if fine(a[:t])
            } - prefixes
            assert stuck
            return
        assert space.size == len(allowed)
        walks = jax.vmap(lambda a: masks.walk(space, a).legal)(jnp.asarray(everything))
        legal = np.take_along_axis(np.asarray(walks), everything[..., None], -1)[..., 0].all(-1)
        assert {tuple(a) for a in everything[legal]} == allowed

    check()


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({}, 24),
        ({"forbid": ({"filters": 128},)}, 18),
        ({"forbid": FORBID}, 15),
        ({"num_blocks": 2, "forbid": FORBID}, 225),
        ({"num_blocks": 6}, 24**6),
        ({"num_blocks": 2, "forbid": ({"filters_1": 128},)}, 18 * 24),
        ({"num_blocks": 2, "forbid": ({"filters_1": 64, "filters_2": 64},)}, 24 * 24 - 36),
    ],
)
def test_sizes_by_hand(options, size):
    assert blocks(**options).size == size


def test_a_rule_in_python_counts_too():
    space = blocks(legal=lambda choices, depth: jnp.where(depth == 0, jnp.arange(4) < 2, jnp.ones(4, bool)))
    archs = jnp.asarray(enumerate_all(space, {"filters": range(4), "kernel": range(2), "dropout": range(3)}))
    legal = np.asarray(jax.vmap(lambda a: masks.walk(space, a).legal)(archs))
    taken = np.take_along_axis(legal, np.asarray(archs)[..., None], -1)[..., 0].all(-1)
    assert taken.sum() == 12
    assert not legal[:, 0, 2:].any()
    assert space.size == 12


@pytest.mark.parametrize(
    ("options", "decision"),
    [
        ({"forbid": tuple({"filters": f} for f in (16, 32, 64, 128))}, "filters"),
        ({"forbid": ({"filters": 64, "kernel": 3}, {"filters": 64, "kernel": 5})}, "kernel"),
        (
            {"num_blocks": 2, "forbid": tuple({"kernel_1": 3, "filters_2": f} for f in (16, 32, 64, 128))},
            "filters_2",
        ),
    ],
)
def test_rules_that_leave_no_choice_name_the_decision(options, decision):
    with pytest.raises(InputError, match=f"no choice is left for decision '{decision}'"):
        blocks(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_blocks": 0}, "space.num_blocks: got 0"),
        ({"filters": ()}, "space.filters: got"),
        ({"filters": (16, 16)}, "space.filters: got"),
        ({"filters": (0,)}, "space.filters: got"),
        ({"kernel": (3, 4)}, "space.kernel: got .* odd"),
        ({"dropout": (1.0,)}, "space.dropout: got"),
        ({"dropout": (-0.1,)}, "space.dropout: got"),
        ({"forbid": ({"filter": 16},)}, r"space.forbid\[0\]: unknown name 'filter'; did you mean 'filters'"),
        ({"forbid": ({"filters": 16}, {"filters": 17})}, r"space.forbid\[1\]: filters = 17 is not a choice"),
        ({"forbid": ({},)}, r"space.forbid\[0\]"),
        ({"num_blocks": 2, "forbid": ({"kernel_3": 5},)}, r"space.forbid\[0\]: unknown name 'kernel_3'"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(InputError, match=message):
        blocks(**options)


@pytest.mark.parametrize("num_blocks", [1, 2, 3])
def test_parse_inverts_describe(num_blocks):
    space = blocks(num_blocks=num_blocks, dropout=(0.0, 0.1, 0.123456789))
    archs = jax.vmap(lambda key: masks.sample(key, space))(jax.random.split(jax.random.key(0), 100))
    for arch in np.asarray(archs):
        parsed = space.parse(space.describe(arch))
        assert parsed.dtype == np.int32
        np.testing.assert_array_equal(parsed, arch)


def test_notation():
    space = blocks(num_blocks=2)
    arch = [1, 0, 0, 3, 1, 2]
    text = "C(32,3) P(2,2) D(0.1) C(128,5) P(2,2) D(0.5) SM"
    assert space.describe(arch) == text
    assert space.parse(text).tolist() == arch
    assert space.decode(arch) == {
        "filters_1": 32, "kernel_1": 3, "dropout_1": 0.1, "filters_2": 128, "kernel_2": 5, "dropout_2": 0.5,
    }  # fmt: skip
    assert blocks().decode([0, 1, 2]) == {"filters": 16, "kernel": 5, "dropout": 0.5}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "token 1 is 'the end'"),
        ("C(16,3) D(0.1) SM", r"token 2 is 'D\(0.1\)', expected P\(2,2\)"),
        ("C(16,3) P(2,2) D(0.1)", "token 4 is 'the end', expected SM"),
        ("C(16) P(2,2) D(0.1) SM", r"token 1 is 'C\(16\)', expected C\(filters,kernel\)"),
        ("C(16,3) P(2,2) D(x) SM", r"token 3 is 'D\(x\)', expected D\(rate\)"),
        ("C(16,3) P(2,2) D(1-2) SM", r"D\(1-2\)"),
        ("C(16,3) P(2,2) D(.) SM", r"D\(\.\)"),
        ("C(16,3) P(2,2) D(0.1) SM SM", "nothing may follow SM, got 'SM'"),
        ("C(17,3) P(2,2) D(0.1) SM", "filters 17 is not one of"),
        ("C(16,7) P(2,2) D(0.1) SM", "kernel 7 is not one of"),
        ("C(16,3) P(2,2) D(0.2) SM", "dropout 0.2 is not one of"),
    ],
)
def test_a_parse_error_points_at_the_token(text, message):
    with pytest.raises(InputError, match=message):
        blocks().parse(text)


def test_states_are_in_range_and_markov():
    """In a space whose rules speak of one block, equal states have equal masks and the same next state."""
    space = blocks(
        num_blocks=2, forbid=({"filters": 16, "dropout": 0.5}, {"filters": 8, "kernel": 5}), **SMALL
    )
    walks = jax.vmap(lambda a: masks.walk(space, a))(jnp.asarray(enumerate_all(space, SMALL)))
    state, legal = np.asarray(walks.state), np.asarray(walks.legal)
    assert walks.state.dtype == jnp.int32
    assert state.min() == 0
    assert state.max() < space.num_states
    seen: dict[int, bytes] = {}
    for s, mask in zip(state.ravel(), legal.reshape(-1, space.num_choices), strict=True):
        assert seen.setdefault(int(s), mask.tobytes()) == mask.tobytes()
    assert len({(int(s), t) for row in state for t, s in enumerate(row)}) == len(
        seen
    )  # a state is of one depth
    archs = enumerate_all(space, SMALL)
    following: dict[tuple, int] = {}
    for arch, row in zip(archs, state, strict=True):
        for t in range(len(row) - 1):
            assert following.setdefault((row[t], arch[t]), row[t + 1]) == row[t + 1]


def test_the_end_of_a_walk():
    space = blocks(**SMALL)
    walk = space.start
    for choice in (1, 1, 1):
        assert not bool(space.done(walk))
        walk = space.step(walk, jnp.int32(choice))
    assert bool(space.done(walk))
    np.testing.assert_array_equal(space.mask(walk), np.arange(space.num_choices) == 0)
    assert 0 <= int(space.state(walk)) < space.num_states


def test_observations_tell_prefixes_apart():
    space = blocks(num_blocks=1, **SMALL)
    seen = set()
    for t in range(4):
        for prefix in itertools.product(range(2), repeat=t):
            walk = space.start
            for choice in prefix:
                walk = space.step(walk, jnp.int32(choice))
            observed = space.observe(walk)
            assert observed.dtype == jnp.float32
            seen.add(np.asarray(observed).tobytes())
    assert len(seen) == 1 + 2 + 4 + 8
