"""model.onnx computes in ONNX Runtime what the network that it was made from computes in JAX."""

import json
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas import networks, spaces, training
from jaxnas.errors import InputError
from jaxnas.export import agreement, to_onnx
from jaxnas.training.task import MULTICLASS
from tests.export.test_source import trained_like
from tests.helpers import dataset, quick_jit
from tests.spaces.test_cnn import EVERYTHING

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

METAQNN = {"image_size": 12, "depth": 6, "filters": (4,), "dense": (8,)}
CNN = "learning_rate=0.01 - batch_size=8 - optimizer=adam - weight_decay=0.0 - "
PIXELS = {"mean": 0.25, "std": 0.5}


def images_of(number, shape):
    """Noise, each image darker than the one before."""
    noise = np.random.default_rng(number).uniform(0, 256, (number, *shape))
    return (noise * np.linspace(1, 0.2, number).reshape(-1, 1, 1, 1)).astype(np.uint8)


def check(call, shape, tolerance=1e-5):
    """The operators of the file, which computes what `call` does, of three images and of one alone."""
    content = to_onnx.convert(call, shape)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    images = images_of(3, shape)
    wanted = np.asarray(quick_jit(call)(images))
    for number in (1, 3):
        (found,) = session.run(None, {"images": images[:number]})
        assert (found.dtype, found.shape) == (np.float32, (number, *wanted.shape[1:]))
        np.testing.assert_allclose(
            found, wanted[:number], atol=tolerance * max(1, np.abs(wanted).max()), rtol=0
        )
    return [node.op_type for node in onnx.load_from_string(content).graph.node], np.ptp(wanted, axis=0)


def check_network(space, notation, shape, precision="float32", tolerance=1e-5, **options):
    """As `check`, and outputs that depend on the images."""
    network = networks.REGISTRY[space.name](space, shape, 3, lowering="xla", **options)
    forward = training.make(network, dataset(n=10, shape=shape), precision=precision, **PIXELS).forward
    structure, knobs = network.plan(space.parse(notation))
    shapes = jax.eval_shape(lambda key: network.init(key, structure, knobs), jax.random.key(0))
    params = trained_like(shapes, 0)

    def call(images):
        return forward(structure, {"network": knobs}, params, images)

    found, differ = check(call, shape, tolerance)
    assert differ.min() > 1e-3
    return found


def test_blocks():
    space = spaces.blocks(num_blocks=2, filters=(4,))
    found = check_network(space, "C(4,3) P(2,2) D(0.1) C(4,5) P(2,2) D(0.1) SM", (9, 8, 2))
    assert [kind for kind in found if kind in ("Conv", "MaxPool", "Relu", "MatMul")] == (
        ["Conv", "MaxPool", "Relu"] * 2 + ["MatMul"]
    )
    assert len(found) < 22 and not {"Slice", "Max", "Expand"} & set(found)


def test_bfloat16_becomes_float32():
    space = spaces.blocks(filters=(4,))
    found = check_network(space, "C(4,3) P(2,2) D(0.1) SM", (8, 8, 1), "bfloat16", tolerance=0.02)
    assert found.count("Cast") == 1  # of the pixels


@pytest.mark.parametrize(
    ("preset", "notation"),
    [
        ("leaves_published", "C(4,3,1) - P(3,2) - C(4,3,1) - P(2,2) - FC(8) - SM()"),  # VALID, then SAME
        ("mnist", "C(4,5,1) - P(3,2) - SM()"),  # ELU
        ("svhn", "C(4,1,1) - P(3,2) - GAP() - SM()"),
    ],
)
def test_metaqnn(preset, notation):
    found = check_network(spaces.metaqnn(preset=preset, **METAQNN), notation, (12, 12, 3))
    assert found.count("MaxPool") == notation.count("P(") - notation.count("GAP(")


@pytest.mark.parametrize(
    "notation",
    [
        "C(4,3,1)+gelu+batch-norm+se-attention - P(2,2) - C(8,3,1)+silu+layer-norm+self-attention+skip1 - "
        "FC(8)+batch-norm - SM()",
        "C(4,3,1)+valid+silu - C(4,3,2) - C(8,3,1)+skip1 - P(3,2) - SM()",
    ],
)
def test_cnn(notation):
    check_network(spaces.cnn(**EVERYTHING), CNN + notation, (8, 8, 1))


@pytest.mark.parametrize(
    ("cells", "options"),
    [
        (  # a cell in a loop, and a factorized reduction of 7 × 5 pixels
            "normal: add(sep3(h),identity(h-1)) reduction: cat(avg3(h),dil3(h-1))",
            {"cells": 4, "filters": 2, "reductions": 1},
        ),
        (
            "normal: cat(max3(h),conv1x7(h-1)) reduction: add(max3(h),identity(h-1))",
            {"cells": 1, "filters": 3, "reductions": 2},
        ),
    ],
)
def test_nasnet(cells, options):
    found = check_network(spaces.nasnet(blocks_per_cell=1), cells, (7, 5, 2), **options)
    assert ("MaxPool" in found) == ("max" in cells)


@pytest.mark.parametrize(
    "text",
    [
        "conv(4,3)x3+se - separable(6,5)x2",
        "residual(4,3)x2 - inverted3(6,3)x2",
        "residual(4,3)x3 - conv(4,5)",
    ],
)
def test_stages(text):
    space = spaces.stages((13, 9, 2), 3, stem=(4,), widths=(4, 6))
    found = check_network(space, f"stem(4) - {text} - GAP() - SM()", (13, 9, 2))
    assert found.count("MaxPool") == 2
    if "conv" in text:  # batch normalization is part of the convolutions
        assert [kind for kind in found if kind in ("Conv", "Add", "Relu")][:3] == ["Conv", "Add", "Relu"]


# FUNCTIONS: a network of one's own is made of more than those


def own_loop(x):
    """A loop whose weights and whose input are sliced."""
    weights = jnp.arange(12.0).reshape(3, 2, 2) / 10
    y, _ = jax.lax.scan(
        lambda y, both: (jnp.tanh(y @ both[0]) + both[1].mean(), None), x[:, 0], (weights, weights)
    )
    return jax.lax.scan(lambda y, row: (y - row, None), y, x.transpose(1, 0, 2), reverse=True)[0]


FUNCTIONS = {
    "max_pool": lambda x: nn.max_pool(x, (3, 2), (2, 1), "SAME").sum((1, 2)),
    "avg_pool": lambda x: nn.avg_pool(x, (2, 2), (2, 2), ((1, 0), (0, 1))).max((1, 2)),
    "einsum": lambda x: jnp.einsum("bhwc,bhwd,wc->bcd", x, x, jnp.arange(10.0).reshape(5, 2)).reshape(-1, 4),
    "batches": lambda x: jnp.einsum("bhwc,bhdc->bh", x, x[:, :, 1:]),
    "clip": lambda x: jnp.clip(x, 0.2, 0.7)[:, 2, -1],
    "where": lambda x: jnp.where(x[:, :, 0] > 0.5, jnp.log1p(x[:, :, 0]), -jnp.expm1(x[:, :, 0])).sum(1),
    "powers": lambda x: (x**3 + jnp.sqrt(x) ** 1.5 - jnp.abs(x - 0.5)).mean((1, 2)),
    "constants": lambda x: jnp.concatenate([x[:, 0, 0], jnp.ones((x.shape[0], 3))], axis=-1),
    "nothing": lambda x: jnp.broadcast_to(jax.nn.relu(jnp.arange(-1.0, 2)), (x.shape[0], 3)),
    "pad": lambda x: jnp.pad(x, ((0, 0), (1, 0), (0, 2), (0, 0)), constant_values=3)[:, ::3].min((1, 2)),
    "grid": lambda x: x[:, 1::2, ::3].reshape(-1, 3 * 2 * 2),
    "channels": lambda x: x[..., jnp.array([1, 0, 1])].mean((1, 2)),
    "loop": lambda x: own_loop(x[:, :, 0]),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name):
    function = FUNCTIONS[name]
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        check(lambda images: function(images.astype(jnp.float32) / 255), (6, 5, 2))


@pytest.mark.parametrize(
    ("function", "named"),
    [
        (lambda x: jnp.sort(x, axis=1), "JAX's primitive 'sort'"),
        (lambda x: x[:, ::-1], "JAX's primitive 'rev'"),
        (lambda x: x[:, jnp.array([[0, 1], [2, 3]])].sum(1), "an index by arrays"),
        (lambda x: x - x.mean(0, keepdims=True), "JAX's primitive 'dim_as_value'"),
        (lambda x: jax.lax.scan(lambda s, y: (s, 2 * y), 0.0, x.T)[1].T, "a scan that stacks outputs"),
    ],
)
def test_what_has_no_translation_is_named(function, named):
    with pytest.raises(
        InputError, match=f"^--onnx: no translation of {named}.* to ONNX; use model.stablehlo"
    ):
        to_onnx.convert(lambda images: function(images[:, 0, :, 0].astype(jnp.float32)), (4, 4, 1))


def test_without_onnxruntime_a_few_images_are_compared(tmp_path, monkeypatch):
    def call(images):
        return nn.max_pool(images.astype(jnp.float32), (4, 4)).reshape(-1, 2)

    (tmp_path / "model.onnx").write_bytes(to_onnx.convert(call, (4, 4, 2)))
    images = images_of(20, (4, 4, 2))
    outputs, by = agreement.onnx_outputs_of(tmp_path, images)
    assert by == "onnxruntime"
    np.testing.assert_array_equal(outputs, images.max((1, 2)))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    outputs, by = agreement.onnx_outputs_of(tmp_path, images)
    assert by == "onnx's reference, without onnxruntime"
    np.testing.assert_array_equal(outputs, images[:8].max((1, 2)))


def test_a_file_that_disagrees_is_told(tmp_path, monkeypatch):
    images = images_of(20, (4, 4, 2)) // np.array([2, 1], np.uint8)
    wanted = images.max((1, 2)).astype(np.float32)
    monkeypatch.setattr(agreement, "outputs_of", lambda folder, images: wanted)
    np.savetxt(tmp_path / "validation.csv", wanted, delimiter=",")

    def checked(function):
        content = to_onnx.convert(lambda x: function(x.astype(jnp.float32).max((1, 2))), (4, 4, 2))
        (tmp_path / "model.onnx").write_bytes(content)
        (tmp_path / "metrics.json").write_text('{"trial": 3}')
        return agreement.check(tmp_path, images, MULTICLASS)

    agrees, text = checked(lambda x: x)
    assert agrees and text.endswith("in a fresh process; 100.00% of 20 those of model.onnx in onnxruntime")
    assert json.loads((tmp_path / "metrics.json").read_text()) == {
        "trial": 3,
        "agreement": 1.0,
        "onnx_agreement": 1.0,
    }
    agrees, text = checked(lambda x: -x)
    assert not agrees and "; 0.00% of 20 those of model.onnx" in text
    (tmp_path / "model.onnx").write_bytes(b"nothing")
    agrees, text = agreement.check(tmp_path, images, MULTICLASS)
    assert not agrees and "does not run: model.onnx: " in text


def test_onnx_is_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(InputError, match=r"^--onnx: it needs onnx: pip install 'jaxnas\[onnx\]'$"):
        to_onnx.convert(lambda images: images, (4, 4, 1))
