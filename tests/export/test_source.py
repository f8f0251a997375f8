"""`model.py`, run as the file that it is, gives the logits of the network that it was made from."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas import networks, spaces, training
from jaxnas.export import source
from jaxnas.networks.layers import Structure as LayersStructure
from jaxnas.networks.nasnet import Structure
from jaxnas.runs import checkpoint
from jaxnas.spaces.layers import Block, Conv
from jaxnas.spaces.nasnet import COMBINE, OPERATIONS
from tests.helpers import SPACES, dataset, quick_jit, random_archs
from tests.spaces.test_cnn import EVERYTHING

LINES = 100  # a model file stays below
EVERY_OPERATION = spaces.nasnet(blocks_per_cell=5)
SMALL_CELLS = spaces.nasnet(blocks_per_cell=1)


def trained_like(params, seed):
    """Parameters with the shapes of `params`: no two layers alike, statistics that a batch could have."""

    def value(path, leaf):
        rng = np.random.default_rng([seed, *map(ord, jax.tree_util.keystr(path))])
        x = rng.normal(0, 0.3, leaf.shape) + (jax.tree_util.keystr(path).endswith("['scale']"))
        return jnp.asarray(np.abs(x) + 0.5 if "'var'" in jax.tree_util.keystr(path) else x, leaf.dtype)

    return jax.tree_util.tree_map_with_path(value, params)


def generated(folder, notation, structure, params, shape, outputs, bfloat16=False):
    """(the module of the generated file, its text)."""
    facts = source.Facts(notation, shape, outputs, 0.25, 0.5, bfloat16)
    text = source.model(structure, facts)
    assert text is not None
    (folder / "model.py").write_text(text)
    (folder / "weights.safetensors").write_bytes(checkpoint.to_safetensors(params, {}))
    found = {"__file__": str(folder / "model.py"), "__name__": "model"}
    exec(compile(text, "model.py", "exec"), found)
    return found, text


def check(folder, space, network, arch, shape, outputs=3, seed=0):
    structure, knobs = network.plan(arch)
    shapes = jax.eval_shape(lambda key: network.init(key, structure, knobs), jax.random.key(0))
    params = trained_like(shapes, seed)
    images = np.random.default_rng(seed).integers(0, 256, (3, *shape), np.uint8)
    found, text = generated(folder, space.describe(arch), structure, params, shape, outputs)
    lines = text.splitlines()
    assert len(lines) < LINES and max(map(len, lines)) <= 110, f"{len(lines)}\n{text}"
    x = (images.astype(np.float32) / 255 - 0.25) / 0.5
    wanted = quick_jit(lambda params: network.apply(params, structure, knobs, x, None))(params)
    model, variables = found["Model"](), found["load"]()
    logits = quick_jit(lambda variables: model.apply(variables, found["preprocess"](images)))(variables)
    scale = float(np.abs(wanted).max())
    assert logits.shape == (3, outputs) and scale > 0
    np.testing.assert_allclose(logits, wanted, rtol=1e-5, atol=1e-5 * max(1, scale))
    return text


@pytest.mark.parametrize("family", ["blocks", "cnn", "stages"])
def test_activations_in_half_the_bytes(family, tmp_path):
    """As in training: weights are rounded with them, statistics are not."""
    if family == "blocks":
        space = spaces.blocks(filters=(4,))
        notation = "C(4,3) P(2,2) D(0.1) SM"
    elif family == "stages":
        space = spaces.stages((8, 8, 1), 3, stem=(4,), widths=(4,))
        notation = "stem(4) - inverted3(4,3)x2+se - GAP() - SM()"
    else:
        space = spaces.cnn(**EVERYTHING)
        notation = "learning_rate=0.01 - batch_size=8 - optimizer=adam - weight_decay=0.0 - "
        notation += "C(4,3,1)+batch-norm - C(8,1,1)+layer-norm - SM()"
    network = networks.REGISTRY[family](space, (8, 8, 1), 3, lowering="xla")
    trainer = training.make(network, dataset(), mean=0.25, std=0.5, precision="bfloat16")
    structure, knobs = network.plan(space.parse(notation))
    params = trained_like(
        jax.eval_shape(lambda key: network.init(key, structure, knobs), jax.random.key(0)), 0
    )
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1), np.uint8)
    wanted = quick_jit(lambda p, x: trainer.forward(structure, {"network": knobs}, p, x))(params, images)
    found, _ = generated(tmp_path, notation, structure, params, (8, 8, 1), 3, bfloat16=True)
    variables, x = found["load"](), found["preprocess"](images)
    dtypes = {name: {leaf.dtype.name for leaf in jax.tree.leaves(v)} for name, v in variables.items()}
    assert (x.dtype, dtypes["params"]) == (jnp.bfloat16, {"bfloat16"})
    assert dtypes.get("batch_stats", {"float32"}) == {"float32"}
    with jax.numpy_dtype_promotion("standard"):
        logits = quick_jit(lambda v, x: found["Model"]().apply(v, x))(variables, x)
    assert logits.dtype == wanted.dtype == jnp.float32
    np.testing.assert_allclose(logits, wanted, atol=0.02 * float(np.abs(wanted).max()))


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("name", ["two_blocks", "metaqnn", "cnn_mdp"])
def test_chains(name, number, tmp_path):
    space, shape = SPACES[name](), (12, 12, 2)
    network = networks.REGISTRY[space.name](space, shape, 3)
    check(tmp_path, space, network, random_archs(space, 3)[number], shape)


@pytest.mark.parametrize(
    ("preset", "notation"),
    [
        ("mnist", "C(4,3,1) - P(3,2) - C(4,5,1) - SM()"),  # ELU
        ("svhn", "P(3,2) - FC(8) - SM()"),
        ("cifar10", "C(4,3,1) - GAP() - SM()"),
    ],
)
def test_chains_of_the_presets(preset, notation, tmp_path):
    space = spaces.metaqnn(preset=preset, image_size=12, depth=5, filters=(4,), dense=(8,))
    network = networks.metaqnn(space, (12, 12, 1), 3)
    assert "perturb" in check(tmp_path, space, network, space.parse(notation), (12, 12, 1))


@pytest.mark.parametrize("number", range(5))
def test_cnn(number, tmp_path):
    space = spaces.cnn(**EVERYTHING)
    network = networks.cnn(space, (8, 8, 1), 3)
    check(tmp_path, space, network, random_archs(space, 5, seed=2)[number], (8, 8, 1), seed=number)


def test_cnn_with_everything_at_once(tmp_path):
    space = spaces.cnn(**EVERYTHING)
    arch = space.parse(
        "learning_rate=0.01 - batch_size=8 - optimizer=adam - weight_decay=0.0 - "
        "C(4,3,1)+gelu+batch-norm+se-attention - P(2,2) - C(8,3,1)+silu+layer-norm+self-attention+skip1 - "
        "FC(8)+batch-norm - SM()"
    )
    network = networks.cnn(space, (8, 8, 1), 3)
    text = check(tmp_path, space, network, arch, (8, 8, 1))
    assert all(
        word in text for word in ("squeeze_excite", "self_attention", "_skip", "BatchNorm", "LayerNorm")
    )


def test_nasnet_with_many_operations(tmp_path):
    space, arch = EVERY_OPERATION, random_archs(EVERY_OPERATION, 2, seed=3)[1]
    network = networks.nasnet(space, (8, 8, 1), 3, cells=1, filters=4, reductions=1)
    check(tmp_path, space, network, arch, (8, 8, 1))


def test_nasnet_with_cells_in_a_loop(tmp_path):
    arch = SMALL_CELLS.parse("normal: add(sep3(h),conv1(h-1)) reduction: cat(avg3(h),dil3(h-1))")
    network = networks.nasnet(SMALL_CELLS, (8, 8, 2), 3, cells=4, filters=2, reductions=1)
    assert "nn.scan" in check(tmp_path, SMALL_CELLS, network, arch, (8, 8, 2))
    network = networks.nasnet(SMALL_CELLS, (8, 8, 2), 3, cells=1, filters=2, reductions=0)
    assert "Reduction" not in check(tmp_path, SMALL_CELLS, network, arch, (8, 8, 2))


@pytest.mark.parametrize(
    "text",
    [
        "stem(4) - conv(6,5)x2 - inverted3(4,3)x3+se",
        "stem(3) - residual(4,3)x2 - separable(6,5)x2",
        "stem(3) - residual(4,3)x3+se - inverted1(6,3) - separable(4,3)+se",
    ],
)
def test_stages(text, tmp_path):
    space = spaces.stages((13, 9, 2), 3, stem=(3, 4), stages=3, min_stages=1, widths=(4, 6))
    network = networks.stages(space, (13, 9, 2), 3)
    found = check(tmp_path, space, network, space.parse(f"{text} - GAP() - SM()"), (13, 9, 2))
    assert ("excite" in found) == ("+se" in text) and ("nn.scan" in found) == ("x3" in text)


def lines_of(structure):
    """Of the generated file, in half the bytes: that has a line more."""
    text = source.model(structure, source.Facts("x" * 200, (32, 32, 3), 10, 0.25, 0.5, bfloat16=True))
    assert text is not None and max(map(len, text.splitlines())) <= 110, text
    return len(text.splitlines())


def test_files_of_large_cells_are_short():
    rng = np.random.default_rng(0)

    def block(b, operations, combine):
        inputs, names = rng.integers(b + 2, size=2).tolist(), rng.choice(operations, 2).tolist()
        return Block(tuple(inputs), tuple(names), combine)

    def structure(operations, combine):
        cells = [[block(b, operations, str(rng.choice(combine))) for b in range(5)] for _ in range(2)]
        return Structure((32, 32, 3), (6, 6, 6), 32, *map(tuple, cells), 10)

    found = [lines_of(structure(OPERATIONS, COMBINE)) for _ in range(200)]
    wordy = [lines_of(structure(("conv1x7", "dil3", "avg3", "sep7"), ("cat",))) for _ in range(50)]
    assert min(found) > 70 and max(found + wordy) < LINES


def test_the_file_of_a_large_cnn_is_short():
    """Six layers, the default's most, with all that a layer can have."""
    layers = [Conv(64, 3, 1, "same", "silu", "batch", attention) for attention in ("se", "self") * 3]
    layers = [dataclasses.replace(layer, skip=int(i > 0), filters=32 + i) for i, layer in enumerate(layers)]
    assert 60 < lines_of(LayersStructure((32, 32, 3), tuple(layers), 10)) < LINES
