import jax
import pytest

from jaxnas import networks, training
from jaxnas.networks import summary
from jaxnas.spaces import cnn
from tests.helpers import SPACES, random_archs

TRAINED = {name: SPACES[name] for name in ("two_blocks", "metaqnn", "cnn_mdp", "nasnet")}
TRAINED["cnn"] = lambda: cnn(image_size=12, max_depth=4)


@pytest.mark.parametrize("name", TRAINED)
def test_the_parts_have_all_parameters_and_end_in_the_outputs(name):
    space, shape = TRAINED[name](), (12, 12, 1)
    network = networks.REGISTRY[space.name](space, shape, 5)
    for arch in random_archs(space, 3):
        found = summary.parts(network, arch, shape)
        assert sum(part.params for part in found) == training.count_params(network, network.plan(arch)[0])
        assert found[-1].shape == (5,)


def test_layers_between_modules_have_shapes():
    space = cnn(image_size=12)
    network = networks.REGISTRY["cnn"](space, (12, 12, 1), 5)
    arch = space.parse("C(16,3,1) - P(2,2) - FC(128) - SM()")
    assert summary.parts(network, arch, (12, 12, 1)) == [
        ("convolution 3 × 3", (12, 12, 16), 160, 0),
        ("max pooling 2 × 2", (6, 6, 16), 0, 0),
        ("dense", (128,), 6 * 6 * 16 * 128 + 128, 0),
        ("dense, outputs", (5,), 128 * 5 + 5, 0),
    ]


def test_skips_and_what_is_behind_a_layer():
    space = cnn(image_size=12, skip=(0, 1, 2), norm=("none", "batch"), attention=("none", "se"))
    network = networks.REGISTRY["cnn"](space, (12, 12, 1), 5)
    arch = space.parse("C(16,3,1)+batch-norm - C(32,1,1)+skip1 - C(32,1,1)+se-attention+skip2 - SM()")
    first, second, third, _ = summary.parts(network, arch, (12, 12, 1))
    assert first == ("convolution 3 × 3, batch norm", (12, 12, 16), 160 + 2 * 16, 0)
    # Of skips from 16 to 32 channels each has 1 × 1 weights and biases.
    assert second == ("convolution 1 × 1", (12, 12, 32), 2 * (16 * 32 + 32), 1)
    attention = 32 * 8 + 8 + 8 * 32 + 32
    assert third == (
        "convolution 1 × 1, squeeze and excitation", (12, 12, 32), 32 * 32 + 32 + attention + 16 * 32 + 32, 2
    )  # fmt: skip


def test_a_network_without_modules_has_no_parts():
    network = networks.REGISTRY["metaqnn"](TRAINED["metaqnn"](), (12, 12, 1), 5)
    plain = network._replace(
        plan=lambda arch: (4, {}),
        init=lambda key, n, knobs: {"w": jax.numpy.zeros((n, 5))},
        apply=lambda params, n, knobs, x, key: x.reshape(len(x), -1)[:, :n] @ params["w"],
    )
    assert summary.parts(plain, None, (12, 12, 1)) == []
