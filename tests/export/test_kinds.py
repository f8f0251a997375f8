"""Inputs that are no images: data and a network of a user's own, from training to the exported folder."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas import evaluators, export, training
from jaxnas.errors import InputError
from jaxnas.export import explain
from jaxnas.runs.files import write_folder
from jaxnas.training.task import MULTICLASS
from jaxnas.types import OK, Dataset, Network, Split

LENGTH, CHANNELS = 6, 2


def split(seed: int, n: int) -> Split:
    """Waves of float32 [n, LENGTH, CHANNELS], whose level says the class."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(n) % 3).astype(np.int32)
    levels = 100.0 * labels[:, None, None]
    return Split((levels + rng.normal(0, 10, (n, LENGTH, CHANNELS))).astype(np.float32), labels)


SEQUENCES = Dataset(
    name="waves",
    task=MULTICLASS,
    train=split(0, 48),
    validation=split(1, 15),
    test=None,
    classes=("low", "middle", "high"),
    class_weights=None,
    kind="sequence",
    prepare=lambda x: (x.mean(axis=1) - 100) / 100,  # the network sees [N, CHANNELS]
)


def linear() -> Network:
    """One dense layer, whatever the architecture."""

    def init(key, structure, knobs):
        return {"head": {"w": jax.random.normal(key, structure), "b": jnp.zeros(structure[1])}}

    def apply(params, structure, knobs, inputs, key):
        return inputs @ params["head"]["w"] + params["head"]["b"][None]

    return Network(lambda arch: ((*SEQUENCES.input_shape, 3), {}), init, apply)


def trained(tmp_path):
    """The folder of a network trained on sequences, and its measures."""
    evaluator = evaluators.trained(linear(), SEQUENCES, epochs=40, batch_size=16, learning_rate=0.1)
    state, keys = evaluator.init(jax.random.key(0)), jax.random.split(jax.random.key(1), 1)
    state, measures = evaluator.evaluate(keys, state, np.zeros((1, 1), np.int32))
    params, outputs = evaluator.child(keys[0], state, np.zeros(1, np.int32))
    forward = training.make(linear(), SEQUENCES).forward
    origin = export.Origin(linear(), forward, SEQUENCES, 0.5, 0.5, "float32", {"source": "waves"}, "run")
    about = {"trial": 0, "space": "one", "architecture": "linear", "arch": [0], "decisions": {}}
    about |= {"reward": 1.0, "measures": {name: float(value[0]) for name, value in measures.items()}}
    write_folder(tmp_path / "best", export.files(origin, export.Child(about, params, outputs)))
    return tmp_path / "best", measures, origin, export.Child(about, params, outputs)


def test_sequences_from_training_to_a_folder(tmp_path):
    folder, measures, origin, child = trained(tmp_path)
    assert measures["status"].tolist() == [OK]
    assert measures["accuracy"][0] >= 0.9
    assert measures["params"][0] == CHANNELS * 3 + 3
    assert measures["flops"][0] == 2 * CHANNELS * 3  # of what the network sees, not of what is stored
    agrees, text = export.check(folder, SEQUENCES.validation.inputs, SEQUENCES.task)
    assert agrees, text
    assert not (folder / "model.py").exists()
    assert "inputs of kind sequence of\n6 × 2" in (folder / "README.md").read_text()
    # What takes images alone says so in one line.
    _, classifier = explain.open_folder(folder)
    with pytest.raises(InputError, match=r"predict: it takes images; .* of kind 'sequence'"):
        explain.read(classifier, [tmp_path / "x.png"])
    with pytest.raises(InputError, match=r"--explain: it takes images; .* of kind 'sequence'"):
        explain.write(tmp_path / "x.png", folder, classifier, [])
    with pytest.raises(InputError, match=r"--onnx: it takes images; .* of kind 'sequence'"):
        export.files(origin, child, onnx=True)
    with pytest.raises(ValueError, match=r"x\.png: the network takes inputs of kind 'sequence'"):
        classifier.read("x.png")


@pytest.mark.parametrize(("option", "value"), [("crop", 1), ("flip", True), ("mean", 0.4), ("std", 1.0)])
def test_options_for_images_alone(option, value):
    message = rf"trainer\.{option}: got {value}, for images; the data .*: leave it out"
    with pytest.raises(InputError, match=message):
        training.make(linear(), SEQUENCES, **{option: value})


def test_what_a_data_set_brings_wins():
    """Its own preparation and variation, of training inputs alone."""
    images = SEQUENCES._replace(kind="image", augment=lambda key, x: x + 50 * jax.random.normal(key, x.shape))
    trainer, plain = (training.make(linear(), data, optimizer="sgd") for data in (images, SEQUENCES))
    structure, knobs = linear().plan(None)
    knobs = {"network": knobs, **jax.tree.map(jnp.asarray, trainer.rates)}
    params = linear().init(jax.random.key(0), structure, {})
    x, y = map(jnp.asarray, SEQUENCES.train)
    np.testing.assert_array_equal(
        trainer.forward(structure, knobs, params, x), plain.forward(structure, knobs, params, x)
    )
    seen, order = (x, y), jnp.arange(48, dtype=jnp.int32).reshape(1, 1, 48)
    fitted = [t.fit(structure, jax.random.key(0), knobs, x, y, order, seen).params for t in (trainer, plain)]
    assert not np.array_equal(fitted[0]["head"]["w"], fitted[1]["head"]["w"])
