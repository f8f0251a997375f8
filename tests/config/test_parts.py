"""An evaluator of one's own asks for what it needs by the names of its factory's parameters."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxnas import config, loop
from jaxnas.config import options, parts
from jaxnas.errors import InputError

MODULE = '''
"""Measures networks as they are before any training."""

from typing import Annotated, Any

import jax
import numpy as np

from jaxnas.types import OK, Evaluator


def scaling(*, scale: float = 1.0):
    """How the images are scaled.

    Args:
      scale: the factor.
    """


def untrained(network, dataset, space, *, floor: float = 0.0, **trainer: Annotated[Any, scaling]):
    """Measures random weights.

    Args:
      floor: the least accuracy.
    """
    assert dataset.test is None
    images, labels = dataset.validation.inputs / 255 * trainer["scale"], dataset.validation.labels

    def outputs(key, arch):
        structure, knobs = network.plan(arch)
        params = network.init(key, structure, knobs)
        return params, np.asarray(network.apply(params, structure, knobs, images.astype("float32"), None))

    def evaluate(keys, state, arch):
        predicted = [outputs(key, a)[1].argmax(-1) for key, a in zip(keys, np.asarray(arch))]
        accuracy = np.array([max(floor, np.mean(p == labels)) for p in predicted], np.float32)
        params = np.full(len(arch), 7, np.float32)
        return state, {"accuracy": accuracy, "params": params, "status": np.full(len(arch), OK, np.int32)}

    def child(key, state, arch):
        return outputs(key, arch)

    return Evaluator(lambda key: (), evaluate, ("accuracy", "params"), jittable=False, child=child)


def asks_for_the_moon(space, moon, *, floor: float = 0.0):
    """Cannot be built."""


def of_a_trainer_unknown(space, **trainer):
    """Cannot be built."""


def of_the_data_alone(dataset, moon=None):
    """Builds no network."""
    return Evaluator(lambda key: (), lambda *_: dataset.name, ("accuracy",), jittable=False)
'''
TOML = """
[space]
name = "blocks"
filters = [4]
kernel = [3]
[controller]
name = "random"
batch_size = 2
[evaluator]
name = "evaluators_of_ones_own:untrained"
floor = 0.05
[network]
lowering = "xla"
[data]
limit = 60
[trainer]
scale = 2.0
"""


@pytest.fixture
def written(tmp_path, monkeypatch):
    """A function that writes a configuration beside the module, and loads it."""
    (tmp_path / "evaluators_of_ones_own.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)

    def load(text, *flags):
        (tmp_path / "a.toml").write_text(text)
        return config.load(tmp_path / "a.toml", flags)

    return load


def test_an_evaluator_with_network_data_and_trainer_options(written):
    settings = written(TOML, "--trainer.scale", "3.0", "--evaluator.floor", "0.1")
    assert (settings.trainer.scale, settings.evaluator.floor) == (3.0, 0.1)
    assert (settings.network.name, settings.data.source, settings.data.limit) == ("blocks", "digits", 60)
    built = config.build(settings)
    assert built.dataset is not None and built.dataset.test is not None
    search = loop.make(*built[:5])
    _, records = loop.run(search, search.init(jax.random.key(0)), 2)
    assert (records.measures["accuracy"] >= 0.1).all()
    assert config.from_table(config.to_table(settings), [], "a") == settings


def test_limits_hold_for_an_evaluator_that_does_not_ask_for_them(written):
    settings = written(TOML + "[constraints]\nparams = 5\n")
    search = loop.make(*config.build(settings)[:5])
    _, records = loop.run(search, search.init(jax.random.key(0)), 1)
    assert np.isnan(records.measures["accuracy"]).all()


def test_only_the_sections_that_are_asked_for_are_used(written):
    text = TOML.replace(":untrained", ":of_the_data_alone").replace("floor = 0.05", "")
    without = text.replace('[network]\nlowering = "xla"', "").replace("[trainer]\nscale = 2.0", "")
    settings = written(without)
    assert (settings.network, settings.trainer, settings.data.limit) == (None, None, 60)
    assert config.build(settings).evaluator.evaluate() == "digits"
    for section in ("network", "trainer"):
        with pytest.raises(
            InputError, match=f"{section}: not used, for evaluator '.*alone' does not ask"
        ) as e:
            written(without + f"[{section}]\n")
        assert "set evaluator.name to trained" in str(e.value)


def test_what_nobody_can_give_is_one_line(written):
    with pytest.raises(InputError) as error:
        written(TOML.replace(":untrained", ":asks_for_the_moon"))
    assert str(error.value) == (
        "evaluator.name: evaluators_of_ones_own:asks_for_the_moon asks for 'moon'; it can ask for space, "
        "network, dataset, limits, and its own options follow a *"
    )
    with pytest.raises(InputError, match=r"does not say what its \*\*trainer is"):
        written(TOML.replace(":untrained", ":of_a_trainer_unknown"))


@pytest.mark.parametrize("section", config.registries())
def test_every_option_of_every_part_is_documented(section):
    for name, factory in config.registries()[section].items():
        classes = [options.declare(section, parts.without_trainer(factory))]
        if section == "evaluator" and (trainer := parts.needs(name).trainer):
            classes.append(options.declare("trainer", trainer))
        for cls in classes:
            for option in dataclasses.fields(cls):
                assert f"{option.name}:" in (cls.__doc__ or ""), f"{section} {name}"


SCORES = {name: np.array([i / 10]) for i, name in enumerate(("accuracy", "balanced_accuracy", "loss"))}


@pytest.mark.parametrize(
    ("flags", "score"),
    [
        ((), 0.0),
        (("--data.measure", "balanced_accuracy"), 0.1),
        (("--data.measure", "balanced_accuracy", "--reward.measure", "accuracy"), 0.0),
        (("--data.measure", "loss", "--reward.name", "negative"), -0.2),
        (("--reward.name", "negative"), -0.2),
    ],
)
def test_the_reward_goes_by_the_measure_of_the_data(written, flags, score):
    built = config.build(written(TOML, *flags))
    assert built.dataset is not None
    assert built.reward(SCORES) == pytest.approx([score])


@pytest.mark.parametrize(
    ("measure", "reward", "takes"),
    [("loss", "accuracy_cubed", "large; it takes negative"), ("auc", "negative", "small; it takes accuracy")],
)
def test_a_reward_that_makes_the_measure_worse(written, measure, reward, takes):
    settings = written(TOML, "--data.measure", measure, "--reward.name", reward)
    with pytest.raises(InputError, match=rf"reward.name: '{reward}' makes data.measure '{measure}' {takes}"):
        config.build(settings)


def test_a_measure_that_is_rewarded_is_reported(written):
    built = config.build(written(TOML, "--reward.measure", "macro_f1"))
    assert built.dataset is not None
    assert built.dataset.task.names == ("accuracy", "auc", "loss", "constant", "macro_f1")


def test_a_space_is_given_the_shape_of_the_images_and_the_limits():
    text = {
        "space": {"name": "stages", "stem": [4], "widths": [4]},
        "controller": {"name": "random"},
        "data": {"source": "digits", "limit": 20},
        "constraints": {"params": 500.0},
    }
    settings = config.from_table(text, [], "run")
    for space in (config.build(settings).space, config.build_space(settings)):
        assert space.settings[:2] == ((8, 8, 1), 10) and space.settings.max_params == 500
    away = {**text, "data": {"source": "npz:nowhere.npz"}}
    assert config.build_space(config.from_table(away, [], "run")).settings.image_shape == (32, 32, 3)
    mock = {**text, "evaluator": {"name": "mock"}}
    del mock["data"]
    assert config.build(config.from_table(mock, [], "run")).space.settings.num_outputs == 10
