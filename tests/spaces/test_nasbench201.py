"""The space `nasbench201`: the benchmark's strings, its size, the tabular state, and nothing to train."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas import config, masks
from jaxnas.errors import InputError
from jaxnas.spaces import nasbench201

SPACE = nasbench201()
# From the benchmark's files; choices in the order of the edges 0→1, 0→2, 1→2, 0→3, 1→3, 2→3.
STRINGS = {
    "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|": [
        *(4, 2, 1, 2, 1, 1)
    ],
    "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|": [
        *(3, 3, 4, 1, 3, 1)
    ],
    "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|": [0] * 6,
}


@pytest.mark.parametrize("text", STRINGS)
def test_the_benchmarks_strings(text):
    assert SPACE.describe(STRINGS[text]) == text
    np.testing.assert_array_equal(SPACE.parse(text), STRINGS[text])
    assert SPACE.parse(f" {text}\n").dtype == np.int32


def test_every_architecture_has_a_string_of_its_own():
    everything = list(itertools.product(range(5), repeat=6))
    strings = [SPACE.describe(arch) for arch in everything]
    assert len(set(strings)) == SPACE.size == 15_625
    np.testing.assert_array_equal([SPACE.parse(text) for text in strings[::7]], everything[::7])
    np.testing.assert_array_equal(masks.every(SPACE), everything)


def test_decisions_are_the_edges():
    assert SPACE.decisions == ("edge_0_1", "edge_0_2", "edge_1_2", "edge_0_3", "edge_1_3", "edge_2_3")
    decoded = SPACE.decode([3, 3, 4, 1, 3, 0])
    assert (decoded["edge_1_2"], decoded["edge_2_3"]) == ("avg_pool_3x3", "none")


def test_the_state_is_the_decision_and_the_choice_before_it():
    walk = jax.jit(lambda arch: masks.walk(SPACE, arch))(jnp.array([3, 0, 4, 4, 1, 2]))
    np.testing.assert_array_equal(walk.state, [0, 1 + 3, 6 + 0, 11 + 4, 16 + 4, 21 + 1])
    assert walk.legal.all()
    assert walk.live.all()
    states, at = [], SPACE.start
    for choice in (3, 0, 4, 4, 1, 2, 0):
        states.append(int(SPACE.state(at)))
        at = SPACE.step(at, jnp.int32(choice))
    assert states[-1] == SPACE.num_states - 1 == 26
    np.testing.assert_array_equal(SPACE.mask(at), [True, False, False, False, False])
    assert bool(SPACE.done(at))


def test_what_a_network_over_states_sees():
    at = SPACE.step(SPACE.step(SPACE.start, jnp.int32(3)), jnp.int32(0))
    seen = np.asarray(SPACE.observe(at))
    assert seen.shape == (7 + 6 * 5,)
    np.testing.assert_array_equal(np.flatnonzero(seen), [2, 7 + 3, 7 + 5 + 0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"architecture '': found nothing, expected '\|'"),
        ("none~0", r"found 'none~0', expected nothing"),
        ("|none~0|", "found '|', expected '|+|'"),
        (
            "|none~0|+|none~0|none|+|none~0|none~1|none~2|",
            "found 'none' on edge 1→2, expected one of none~1,",
        ),
        (
            "|none~0|+|none~0|conv_3x3~1|+|none~0|none~1|none~2|",
            "found 'conv_3x3~1' on edge 1→2, expected one of none~1, skip_connect~1, nor_conv_1x1~1, "
            "nor_conv_3x3~1, avg_pool_3x3~1",
        ),
        (
            "|none~0|+|none~0|none~0|+|none~0|none~1|none~2|",
            "found 'none~0' on edge 1→2, expected one of none~1",
        ),
        ("|none~0|+|none~0|none~1|+|none~0|none~1|", "found nothing on edge 2→3"),
        ("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|x", "found 'x', expected nothing"),
        ("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|+|", r"found '|+|', expected '|'"),
    ],
)
def test_a_wrong_string_names_the_token(text, message):
    with pytest.raises(InputError) as error:
        SPACE.parse(text)
    assert message.replace("\\", "") in str(error.value)


def test_it_has_no_network_to_train(tmp_path):
    path = tmp_path / "c.toml"
    text = '[space]\nname = "nasbench201"\n[controller]\nname = "random"\n'
    path.write_text(text)
    message = "network.name: space 'nasbench201' has no network here, .* set evaluator.name to table"
    with pytest.raises(InputError, match=message):
        config.load(path)
    path.write_text(text + '[evaluator]\nname = "mock"\n')
    assert config.load(path).network is None
    with pytest.raises(InputError, match=message):
        config.load(path, ["--evaluator.name", "trained"])
